//! The event table of ZooKeeper, cell by cell, and a model under random use.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use quorate_proto::EventType::{
    self, NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted,
};

use super::{ConnId, Modes, Totals, Watches, ancestors};

const A: ConnId = ConnId(1);
const B: ConnId = ConnId(2);

const NOBODY: [u32; 0] = [];

fn told(watches: &Watches, event: EventType, path: &str) -> Vec<u32> {
    let mut recipients = Vec::new();
    watches.fire(event, path, &mut recipients);
    let mut ids: Vec<u32> = recipients.into_iter().map(|c| c.0).collect();
    ids.sort_unstable();
    ids
}

#[test]
fn one_shot_data_watch_hears_one_change_and_is_gone() {
    let watches = Watches::new();
    watches.add(A, "/n", Modes::DATA);
    assert_eq!(told(&watches, NodeDataChanged, "/n"), [1]);
    assert_eq!(told(&watches, NodeDataChanged, "/n"), NOBODY);
    assert_eq!(
        watches.totals(),
        Totals::default(),
        "nothing is left behind"
    );
}

#[test]
fn child_watch_hears_children_and_deletion_but_not_data() {
    let watches = Watches::new();
    watches.add(A, "/n", Modes::CHILD);
    assert_eq!(told(&watches, NodeDataChanged, "/n"), NOBODY);
    assert_eq!(told(&watches, NodeChildrenChanged, "/n"), [1]);
    watches.add(A, "/n", Modes::CHILD);
    assert_eq!(told(&watches, NodeDeleted, "/n"), [1]);
    assert_eq!(told(&watches, NodeChildrenChanged, "/n"), NOBODY);
}

#[test]
fn deletion_is_heard_once_by_a_connection_with_data_and_child_watches() {
    let watches = Watches::new();
    watches.add(A, "/n", Modes::DATA);
    watches.add(A, "/n", Modes::CHILD);
    watches.add(B, "/n", Modes::CHILD);
    assert_eq!(told(&watches, NodeDeleted, "/n"), [1, 2]);
    assert_eq!(told(&watches, NodeDeleted, "/n"), NOBODY);
}

#[test]
fn persistent_watch_hears_everything_at_its_path_and_stays() {
    let watches = Watches::new();
    watches.add(A, "/n", Modes::PERSISTENT);
    for event in [
        NodeCreated,
        NodeDataChanged,
        NodeChildrenChanged,
        NodeDeleted,
        NodeCreated,
    ] {
        assert_eq!(told(&watches, event, "/n"), [1]);
    }
    assert_eq!(told(&watches, NodeDataChanged, "/n/child"), NOBODY);
}

#[test]
fn recursive_watch_hears_descendants_but_never_children_changed() {
    let watches = Watches::new();
    watches.add(A, "/n", Modes::RECURSIVE);
    assert_eq!(told(&watches, NodeCreated, "/n/a/b"), [1]);
    assert_eq!(told(&watches, NodeDeleted, "/n"), [1]);
    assert_eq!(told(&watches, NodeChildrenChanged, "/n"), NOBODY);
    assert_eq!(
        told(&watches, NodeCreated, "/nn"),
        NOBODY,
        "a name that only begins alike is elsewhere"
    );
    watches.add(B, "/", Modes::RECURSIVE);
    assert_eq!(told(&watches, NodeDataChanged, "/n/a"), [1, 2]);
    assert_eq!(told(&watches, NodeDataChanged, "/"), [2]);
}

#[test]
fn recursive_and_one_shot_on_the_way_hear_one_event_together() {
    let watches = Watches::new();
    watches.add(A, "/", Modes::RECURSIVE);
    watches.add(A, "/n", Modes::RECURSIVE);
    watches.add(A, "/n", Modes::DATA);
    assert_eq!(told(&watches, NodeDataChanged, "/n"), [1]);
    assert!(!watches.holds(A, "/n", Modes::DATA));
    assert!(watches.holds(A, "/n", Modes::RECURSIVE));
}

#[test]
fn removing_one_kind_leaves_the_others() {
    let watches = Watches::new();
    watches.add(A, "/n", Modes::PERSISTENT);
    assert!(!watches.remove(A, "/n", Modes::DATA));
    watches.add(A, "/n", Modes::DATA);
    assert!(watches.remove(A, "/n", Modes::DATA));
    assert!(watches.holds(A, "/n", Modes::PERSISTENT));
    assert!(watches.remove(A, "/n", Modes::ANY));
    assert!(!watches.remove(A, "/n", Modes::ANY));
}

#[test]
fn a_closed_connection_leaves_nothing_behind() {
    let watches = Watches::new();
    for i in 0..100 {
        watches.add(A, &format!("/n/{i}"), Modes::ANY);
        watches.add(B, &format!("/n/{i}"), Modes::DATA);
    }
    watches.remove_connection(A);
    assert_eq!(
        watches.totals(),
        Totals {
            connections: 1,
            paths: 100,
            watches: 100
        }
    );
    assert_eq!(
        told(&watches, NodeCreated, "/n/1/x"),
        NOBODY,
        "its recursive watches are gone"
    );
    watches.remove_connection(B);
    assert_eq!(watches.totals(), Totals::default());
}

#[test]
fn ancestors_end_at_the_root() {
    assert_eq!(ancestors("/a/b/c").collect::<Vec<_>>(), ["/a/b", "/a", "/"]);
    assert_eq!(ancestors("/a").collect::<Vec<_>>(), ["/"]);
    assert_eq!(ancestors("/").count(), 0);
    assert_eq!(ancestors("").count(), 0);
    assert_eq!(ancestors("odd").count(), 0);
}

/// What ZooKeeper's two watch managers would hold, written down as plainly as possible.
#[derive(Default)]
struct Model(BTreeMap<(u32, String), BTreeSet<u8>>);

impl Model {
    fn fire(&mut self, event: EventType, path: &str) -> Vec<u32> {
        let mut told = BTreeSet::new();
        let parents: Vec<&str> = ancestors(path).collect();
        for ((conn, at), modes) in &mut self.0 {
            let here = at == path;
            let above = here || parents.contains(&at.as_str());
            let (data, child) = (
                event != NodeChildrenChanged,
                matches!(event, NodeChildrenChanged | NodeDeleted),
            );
            if (here && data && modes.remove(&1)) | (here && child && modes.remove(&2)) {
                told.insert(*conn);
            }
            if (here && modes.contains(&4)) || (above && data && modes.contains(&8)) {
                told.insert(*conn);
            }
        }
        told.into_iter().collect()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(u32, usize, u8),
    Remove(u32, usize, u8),
    Close(u32),
    Fire(u8, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let mode = prop_oneof![Just(1u8), Just(2), Just(4), Just(8)];
    let step = prop_oneof![
        6 => (0u32..4, 0usize..PATHS.len(), mode.clone()).prop_map(|(c, p, m)| Step::Add(c, p, m)),
        1 => (0u32..4, 0usize..PATHS.len(), mode).prop_map(|(c, p, m)| Step::Remove(c, p, m)),
        1 => (0u32..4).prop_map(Step::Close),
        6 => (1u8..5, 0usize..PATHS.len()).prop_map(|(e, p)| Step::Fire(e, p)),
    ];
    prop::collection::vec(step, 0..60)
}

const PATHS: &[&str] = &["/", "/a", "/a/b", "/a/b/c", "/ab", "/x"];

proptest! {
    #[test]
    fn the_table_tells_whom_zookeepers_two_managers_would_tell(steps in steps()) {
        let watches = Watches::new();
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Add(conn, path, mode) => {
                    watches.add(ConnId(conn), PATHS[path], Modes(mode));
                    model.0.entry((conn, PATHS[path].into())).or_default().insert(mode);
                }
                Step::Remove(conn, path, mode) => {
                    let had = model.0.get_mut(&(conn, PATHS[path].into())).is_some_and(|m| m.remove(&mode));
                    prop_assert_eq!(watches.remove(ConnId(conn), PATHS[path], Modes(mode)), had);
                }
                Step::Close(conn) => {
                    watches.remove_connection(ConnId(conn));
                    model.0.retain(|(c, _), _| *c != conn);
                }
                Step::Fire(event, path) => {
                    let event = EventType::from_code(event.into()).expect("1 to 4");
                    prop_assert_eq!(told(&watches, event, PATHS[path]), model.fire(event, PATHS[path]));
                }
            }
            let held: usize = model.0.values().map(BTreeSet::len).sum();
            prop_assert_eq!(watches.totals().watches, held);
        }
    }
}
