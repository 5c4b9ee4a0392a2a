//! Which watches this session holds on the server, and who waits for each. Pure.
//!
//! A watch is armed when the reply of the request that asked for it arrives: events that belong to
//! it come behind that reply, never in front. A watch is taken off the server when the last that
//! waited for it is gone and no request that arms the same watch again is on its way: the removal,
//! sent behind that request, would take its watch as well.

use std::sync::Arc;

use hashbrown::HashMap;
use quorate_proto::{AddWatchMode, EventType, Zxid};
use tokio::sync::oneshot;

use crate::error::Reason;
use crate::watch::{Notice, NoticeQueue, WatchedEvent};

pub(crate) type Fire = oneshot::Sender<Result<WatchedEvent, Reason>>;

/// The server's tables, and the modes in them: what can be taken off by itself.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Table {
    /// One-shot, armed by getData and exists.
    Data,
    /// One-shot, armed by getChildren.
    Child,
    Persistent,
    Recursive,
}

/// Under which list of `setWatches` a one-shot watch is taken up again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OneShot {
    Data,
    /// The znode was missing.
    Exist,
    Child,
}

impl OneShot {
    pub(crate) const fn table(self) -> Table {
        match self {
            OneShot::Data | OneShot::Exist => Table::Data,
            OneShot::Child => Table::Child,
        }
    }
}

#[derive(Debug)]
enum Waiter {
    Once { list: OneShot, fire: Fire },
    Lasting { queue: Arc<NoticeQueue> },
}

/// Those who wait at one (path, table).
#[derive(Debug, Default)]
struct Watchers {
    waiters: Vec<(u64, Waiter)>,
    /// Requests on their way that will arm this watch.
    arming: u32,
    /// Whether the server holds it, or will when `setWatches` has reached it.
    is_armed: bool,
}

impl Watchers {
    fn push(&mut self, id: u64, waiter: Waiter) {
        // Nearly always the only one: a growing vector would make room for four.
        if self.waiters.is_empty() {
            self.waiters.reserve_exact(1);
        }
        self.waiters.push((id, waiter));
        self.is_armed = true;
    }

    fn is_idle(&self) -> bool {
        self.waiters.is_empty() && self.arming == 0
    }
}

#[derive(Debug, Default)]
pub(crate) struct Watches {
    /// By path; most paths have one table.
    at: HashMap<Arc<str>, Vec<(Table, Watchers)>>,
    /// Who waits, in all and at recursive watches.
    held: usize,
    recursive: usize,
    /// No recursive watch of this session was ever at a longer path.
    recursive_longest: usize,
    /// From where on events may have been missed that no gap was told for.
    unsure_since: Option<Zxid>,
}

/// The lists of a `setWatches`, in full paths.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Lists {
    pub(crate) data: Vec<Arc<str>>,
    pub(crate) exist: Vec<Arc<str>>,
    pub(crate) child: Vec<Arc<str>>,
    pub(crate) persistent: Vec<Arc<str>>,
    pub(crate) recursive: Vec<Arc<str>>,
}

impl Watches {
    /// A request that arms a watch is about to leave.
    pub(crate) fn arming(&mut self, path: &Arc<str>, table: Table) {
        self.entry(path, table).arming += 1;
    }

    /// That request was answered, with or without arming, or will never be.
    ///
    /// Whoever calls this looks next whether the watch is to be [released](Watches::release).
    pub(crate) fn settled(&mut self, path: &str, table: Table) {
        if let Some(watchers) = self.find(path, table) {
            watchers.arming = watchers.arming.saturating_sub(1);
        }
    }

    /// A one-shot watch is armed.
    pub(crate) fn armed_once(&mut self, path: &Arc<str>, id: u64, list: OneShot, fire: Fire) {
        self.held += 1;
        self.entry(path, list.table())
            .push(id, Waiter::Once { list, fire });
    }

    /// A lasting watch is armed.
    pub(crate) fn armed(
        &mut self,
        path: &Arc<str>,
        id: u64,
        mode: AddWatchMode,
        queue: Arc<NoticeQueue>,
    ) {
        let table = table_of(mode);
        self.held += 1;
        if table == Table::Recursive {
            self.recursive += 1;
            self.recursive_longest = self.recursive_longest.max(path.len());
        }
        self.entry(path, table).push(id, Waiter::Lasting { queue });
    }

    /// A watch is armed, and who asked for it has gone.
    pub(crate) fn armed_for_nobody(&mut self, path: &Arc<str>, table: Table) {
        self.entry(path, table).is_armed = true;
    }

    /// Forgets a waiter; the watch may now be one to [release](Watches::release).
    pub(crate) fn forget(&mut self, path: &str, table: Table, id: u64) {
        let Some(watchers) = self.find(path, table) else {
            return;
        };
        let before = watchers.waiters.len();
        watchers.waiters.retain(|(waiter, _)| *waiter != id);
        let gone = before - watchers.waiters.len();
        self.held -= gone;
        if table == Table::Recursive {
            self.recursive -= gone;
        }
    }

    /// Lets a watch go that nobody waits at and nothing will arm. True if the server holds it, so
    /// that it is to be taken off there.
    pub(crate) fn release(&mut self, path: &str, table: Table) -> bool {
        let Some(watchers) = self.find(path, table) else {
            return false;
        };
        let is_stray = watchers.is_idle() && watchers.is_armed;
        if is_stray {
            watchers.is_armed = false;
        }
        self.prune(path);
        is_stray
    }

    /// Whether any watch is needed at this path, or about to be: `Any` would take it off.
    pub(crate) fn stands_at(&self, path: &str) -> bool {
        self.at.contains_key(path)
    }

    /// Hands an event to all who wait for it.
    pub(crate) fn fire(&mut self, kind: EventType, path: &str, zxid: Option<Zxid>, seen: Zxid) {
        let event = || WatchedEvent {
            kind,
            path: path.to_owned(),
            zxid,
        };
        let (data, child) = match kind {
            EventType::NodeCreated | EventType::NodeDataChanged => (true, false),
            EventType::NodeChildrenChanged => (false, true),
            EventType::NodeDeleted => (true, true),
        };
        if let Some(tables) = self.at.get_mut(path) {
            for (table, watchers) in tables.iter_mut() {
                match table {
                    Table::Data if data => self.held -= fire_once(watchers, &event),
                    Table::Child if child => self.held -= fire_once(watchers, &event),
                    Table::Persistent => tell(watchers, &event, seen),
                    Table::Data | Table::Child | Table::Recursive => {}
                }
            }
            self.prune(path);
        }
        // Servers before 3.9 send ChildrenChanged to recursive watches as well: not theirs.
        if self.recursive == 0 || kind == EventType::NodeChildrenChanged {
            return;
        }
        let mut at = Some(path);
        while let Some(ancestor) = at {
            // Each look costs as much as the path is long, and the path is anybody's.
            if ancestor.len() <= self.recursive_longest
                && let Some(watchers) = self.find(ancestor, Table::Recursive)
            {
                tell(watchers, &event, seen);
            }
            at = quorate_proto::path::parent(ancestor);
        }
    }

    /// What to arm again on a new connection of the same session.
    pub(crate) fn lists(&self) -> Lists {
        let mut lists = Lists::default();
        for (path, tables) in &self.at {
            for (table, watchers) in tables {
                if watchers.waiters.is_empty() {
                    continue;
                }
                match table {
                    Table::Persistent => lists.persistent.push(Arc::clone(path)),
                    Table::Recursive => lists.recursive.push(Arc::clone(path)),
                    Table::Child => lists.child.push(Arc::clone(path)),
                    Table::Data => {
                        let any = |list| {
                            watchers.waiters.iter().any(|(_, waiter)| {
                            matches!(waiter, Waiter::Once { list: l, .. } if *l == list)
                        })
                        };
                        if any(OneShot::Data) {
                            lists.data.push(Arc::clone(path));
                        }
                        if any(OneShot::Exist) {
                            lists.exist.push(Arc::clone(path));
                        }
                    }
                }
            }
        }
        lists
    }

    /// The connection is new, and `setWatches` is on its way with what was seen until `since`.
    pub(crate) fn resuming(&mut self, since: Zxid) {
        // A connection that ended before all lists were answered told of no gap: the next one's
        // begins where that one's did.
        self.unsure_since.get_or_insert(since);
    }

    /// Every list was answered: the lasting watches are armed again, and are told that what
    /// happened in between was not.
    pub(crate) fn resumed(&mut self) {
        let Some(since) = self.unsure_since.take() else {
            return;
        };
        for (_, watchers) in self.at.values().flatten() {
            for (_, waiter) in &watchers.waiters {
                if let Waiter::Lasting { queue } = waiter {
                    queue.push(Notice::Gap { since }, since);
                }
            }
        }
    }

    /// No request is on its way any more. What somebody waits for will be armed again.
    pub(crate) fn disconnected(&mut self) {
        self.at.retain(|_, tables| {
            for (_, watchers) in tables.iter_mut() {
                watchers.arming = 0;
            }
            tables.retain(|(_, watchers)| !watchers.waiters.is_empty());
            !tables.is_empty()
        });
    }

    /// The session is over: every watch ends, one way or another.
    pub(crate) fn lost(&mut self, reason: &Reason, seen: Zxid) {
        // Emptied first: whoever is told may ask at once.
        for (_, tables) in std::mem::take(self).at {
            for (_, watchers) in tables {
                for (_, waiter) in watchers.waiters {
                    match waiter {
                        // A receiver that is gone wants no answer.
                        Waiter::Once { fire, .. } => drop(fire.send(Err(reason.clone()))),
                        Waiter::Lasting { queue } => queue.push(Notice::Lost(reason.clone()), seen),
                    }
                }
            }
        }
    }

    /// Watches held, for the client's statistics.
    pub(crate) const fn len(&self) -> usize {
        self.held
    }

    fn entry(&mut self, path: &Arc<str>, table: Table) -> &mut Watchers {
        let tables = match self.at.get_mut(&**path) {
            Some(_) => self.at.get_mut(&**path).expect("found above"),
            None => self.at.entry(Arc::clone(path)).or_default(),
        };
        let at = tables.iter().position(|(t, _)| *t == table);
        let at = at.unwrap_or_else(|| {
            if tables.is_empty() {
                tables.reserve_exact(1);
            }
            tables.push((table, Watchers::default()));
            tables.len() - 1
        });
        &mut tables.get_mut(at).expect("found or pushed above").1
    }

    fn find(&mut self, path: &str, table: Table) -> Option<&mut Watchers> {
        let tables = self.at.get_mut(path)?;
        tables
            .iter_mut()
            .find(|(t, _)| *t == table)
            .map(|(_, watchers)| watchers)
    }

    /// Drops what is empty at a path.
    fn prune(&mut self, path: &str) {
        let Some(tables) = self.at.get_mut(path) else {
            return;
        };
        tables.retain(|(_, watchers)| !watchers.is_idle() || watchers.is_armed);
        if tables.is_empty() {
            self.at.remove(path);
        }
    }
}

pub(crate) const fn table_of(mode: AddWatchMode) -> Table {
    match mode {
        AddWatchMode::Persistent => Table::Persistent,
        AddWatchMode::PersistentRecursive => Table::Recursive,
    }
}

/// How many were told.
fn fire_once(watchers: &mut Watchers, event: &impl Fn() -> WatchedEvent) -> usize {
    let told = watchers.waiters.len();
    watchers.is_armed = false;
    for (_, waiter) in watchers.waiters.drain(..) {
        if let Waiter::Once { fire, .. } = waiter {
            // A receiver that is gone wants no event.
            drop(fire.send(Ok(event())));
        }
    }
    told
}

fn tell(watchers: &Watchers, event: &impl Fn() -> WatchedEvent, seen: Zxid) {
    for (_, waiter) in &watchers.waiters {
        if let Waiter::Lasting { queue } = waiter {
            queue.push(Notice::Event(event()), seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::EventType::{NodeChildrenChanged, NodeCreated, NodeDataChanged, NodeDeleted};
    use super::*;
    use crate::watch::tests::{drain, queue};

    fn path(path: &str) -> Arc<str> {
        path.into()
    }

    type Fired = oneshot::Receiver<Result<WatchedEvent, Reason>>;

    fn once(watches: &mut Watches, at: &str, id: u64, list: OneShot) -> Fired {
        let (fire, fired) = oneshot::channel();
        watches.armed_once(&path(at), id, list, fire);
        fired
    }

    fn lasting(watches: &mut Watches, at: &str, id: u64, mode: AddWatchMode) -> Arc<NoticeQueue> {
        let queue = queue();
        watches.armed(&path(at), id, mode, Arc::clone(&queue));
        queue
    }

    fn fire(watches: &mut Watches, kind: EventType, at: &str) {
        watches.fire(kind, at, Some(Zxid(7)), Zxid(7));
    }

    fn heard(queue: &NoticeQueue) -> Vec<(EventType, String)> {
        let events = drain(queue).into_iter().map(|notice| match notice {
            Notice::Event(event) => (event.kind, event.path),
            other => panic!("{other:?}"),
        });
        events.collect()
    }

    /// Servers may send what they like.
    #[test]
    fn an_event_costs_no_more_than_its_path_is_long() {
        let mut watches = Watches::default();
        let queue = lasting(&mut watches, "/a", 1, AddWatchMode::PersistentRecursive);
        let deep = "/a".repeat(200_000);
        let begun = std::time::Instant::now();
        fire(&mut watches, NodeDataChanged, &deep);
        assert_eq!(heard(&queue).len(), 1);
        assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    }

    /// Which kinds of events each kind of watch at `/n` hears, of the znode, of its child and of
    /// its grandchild.
    #[test]
    fn each_kind_of_watch_hears_what_is_its_own() {
        let all = [
            NodeCreated,
            NodeDataChanged,
            NodeDeleted,
            NodeChildrenChanged,
        ];
        for list in [OneShot::Data, OneShot::Exist, OneShot::Child] {
            for kind in all {
                for at in ["/n", "/n/c", "/", "/n2"] {
                    let mut watches = Watches::default();
                    let mut fired = once(&mut watches, "/n", 1, list);
                    fire(&mut watches, kind, at);
                    let is_its_own = match list {
                        OneShot::Child => matches!(kind, NodeDeleted | NodeChildrenChanged),
                        OneShot::Data | OneShot::Exist => kind != NodeChildrenChanged,
                    };
                    let is_told = is_its_own && at == "/n";
                    assert_eq!(fired.try_recv().is_ok(), is_told, "{list:?} {kind:?} {at}");
                    assert_eq!(watches.len(), usize::from(!is_told));
                }
            }
        }
        for kind in all {
            let mut watches = Watches::default();
            let persistent = lasting(&mut watches, "/n", 1, AddWatchMode::Persistent);
            let recursive = lasting(&mut watches, "/n", 2, AddWatchMode::PersistentRecursive);
            for at in ["/n", "/n/c", "/n/c/g", "/", "/n2"] {
                fire(&mut watches, kind, at);
            }
            assert_eq!(heard(&persistent), [(kind, "/n".to_owned())]);
            let below: Vec<_> = match kind {
                NodeChildrenChanged => vec![],
                _ => ["/n", "/n/c", "/n/c/g"]
                    .map(|at| (kind, at.to_owned()))
                    .into(),
            };
            assert_eq!(heard(&recursive), below);
        }
    }

    #[test]
    fn a_recursive_watch_at_the_root_hears_of_everything() {
        let mut watches = Watches::default();
        let queue = lasting(&mut watches, "/", 1, AddWatchMode::PersistentRecursive);
        fire(&mut watches, NodeCreated, "/");
        fire(&mut watches, NodeCreated, "/a/b");
        assert_eq!(heard(&queue).len(), 2);
    }

    #[test]
    fn one_event_reaches_all_who_wait_and_consumes_one_shots_only() {
        let mut watches = Watches::default();
        let mut first = once(&mut watches, "/n", 1, OneShot::Data);
        let mut second = once(&mut watches, "/n", 2, OneShot::Data);
        let mut child = once(&mut watches, "/n", 3, OneShot::Child);
        let queue = lasting(&mut watches, "/n", 4, AddWatchMode::Persistent);
        fire(&mut watches, NodeDataChanged, "/n");
        fire(&mut watches, NodeDataChanged, "/n");
        assert!(first.try_recv().is_ok() && second.try_recv().is_ok());
        assert!(child.try_recv().is_err());
        assert_eq!(heard(&queue).len(), 2);
        assert_eq!(watches.len(), 2);
    }

    #[test]
    fn a_watch_is_taken_off_when_the_last_who_waits_is_gone() {
        let mut watches = Watches::default();
        let _first = once(&mut watches, "/n", 1, OneShot::Data);
        let _second = once(&mut watches, "/n", 2, OneShot::Exist);
        watches.forget("/n", Table::Data, 1);
        assert!(!watches.release("/n", Table::Data), "another waits");
        watches.forget("/n", Table::Data, 2);
        assert!(watches.release("/n", Table::Data));
        assert!(!watches.release("/n", Table::Data), "once is enough");
        assert!(watches.at.is_empty());
    }

    #[test]
    fn a_watch_that_is_being_armed_again_is_not_taken_off_before_the_answer() {
        let mut watches = Watches::default();
        let _fired = once(&mut watches, "/n", 1, OneShot::Exist);
        watches.arming(&path("/n"), Table::Data);
        watches.forget("/n", Table::Data, 1);
        assert!(!watches.release("/n", Table::Data));
        // The second request failed, and armed nothing; the first one's watch still stands.
        watches.settled("/n", Table::Data);
        assert!(watches.release("/n", Table::Data));
        assert!(watches.at.is_empty());
    }

    #[test]
    fn a_watch_armed_for_one_who_has_gone_is_taken_off_unless_another_waits() {
        let mut watches = Watches::default();
        watches.arming(&path("/n"), Table::Data);
        watches.settled("/n", Table::Data);
        watches.armed_for_nobody(&path("/n"), Table::Data);
        assert!(watches.release("/n", Table::Data));
        let _fired = once(&mut watches, "/n", 1, OneShot::Data);
        watches.armed_for_nobody(&path("/n"), Table::Data);
        assert!(!watches.release("/n", Table::Data));
    }

    #[test]
    fn a_watch_that_has_fired_is_not_taken_off() {
        let mut watches = Watches::default();
        let _fired = once(&mut watches, "/n", 1, OneShot::Data);
        fire(&mut watches, NodeDataChanged, "/n");
        watches.forget("/n", Table::Data, 1);
        assert!(!watches.release("/n", Table::Data));
        assert!(watches.at.is_empty());
    }

    #[test]
    fn an_event_between_two_requests_leaves_the_second_watch_armed() {
        let mut watches = Watches::default();
        let mut first = once(&mut watches, "/n", 1, OneShot::Data);
        watches.arming(&path("/n"), Table::Data);
        fire(&mut watches, NodeDataChanged, "/n");
        assert!(first.try_recv().is_ok());
        watches.settled("/n", Table::Data);
        let mut second = once(&mut watches, "/n", 2, OneShot::Data);
        fire(&mut watches, NodeDataChanged, "/n");
        assert!(second.try_recv().is_ok());
    }

    #[test]
    fn the_lists_have_what_somebody_waits_for_and_nothing_else() {
        let mut watches = Watches::default();
        let _a = once(&mut watches, "/data", 1, OneShot::Data);
        let _b = once(&mut watches, "/exist", 2, OneShot::Exist);
        let _c = once(&mut watches, "/child", 3, OneShot::Child);
        let _d = lasting(&mut watches, "/p", 4, AddWatchMode::Persistent);
        let _e = lasting(&mut watches, "/r", 5, AddWatchMode::PersistentRecursive);
        let _f = once(&mut watches, "/gone", 6, OneShot::Data);
        watches.forget("/gone", Table::Data, 6);
        watches.arming(&path("/on-its-way"), Table::Data);
        watches.disconnected();
        assert_eq!(
            watches.lists(),
            Lists {
                data: vec![path("/data")],
                exist: vec![path("/exist")],
                child: vec![path("/child")],
                persistent: vec![path("/p")],
                recursive: vec![path("/r")],
            }
        );
        assert_eq!(watches.at.len(), 5);
        assert_eq!(watches.len(), 5);
    }

    #[test]
    fn a_gap_begins_where_the_first_of_several_broken_connections_ended() {
        let mut watches = Watches::default();
        let queue = lasting(&mut watches, "/r", 1, AddWatchMode::PersistentRecursive);
        watches.resuming(Zxid(5));
        watches.disconnected();
        watches.resuming(Zxid(9));
        watches.resumed();
        assert_eq!(drain(&queue), [Notice::Gap { since: Zxid(5) }]);
        watches.resumed();
        assert_eq!(drain(&queue), []);
    }

    #[test]
    fn the_end_of_the_session_ends_every_watch() {
        let mut watches = Watches::default();
        let fired = once(&mut watches, "/n", 1, OneShot::Data);
        let queue = lasting(&mut watches, "/n", 2, AddWatchMode::Persistent);
        watches.lost(&Reason::Closed, Zxid(1));
        assert_eq!(fired.now_or_never(), Some(Ok(Err(Reason::Closed))));
        assert_eq!(drain(&queue), [Notice::Lost(Reason::Closed)]);
        assert_eq!(watches.len(), 0);
        assert_eq!(watches.lists(), Lists::default());
    }
}
