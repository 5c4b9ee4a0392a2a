//! Captures and loading: the state at one point of the log, while the log goes on (R29).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quorate_proto::{Acl, SessionId, Zxid};
use rand::Rng;

use super::model::{Draw, Model, step_both};
use super::support::*;
use crate::tree::{Capture, LoadError, PersistedStat, SessionInfo, State, StateBuilder};

type Znode = (Option<Vec<u8>>, Vec<Acl>, PersistedStat);

#[derive(PartialEq, Debug, Clone)]
pub(super) struct Whole {
    znodes: BTreeMap<String, Znode>,
    sessions: Vec<(SessionId, SessionInfo)>,
    zxid: Zxid,
    digest: u64,
}

pub(super) fn whole(mut capture: Capture) -> Whole {
    let mut znodes = BTreeMap::new();
    while let Some(section) = capture.next_section() {
        assert!(section.is_sorted_by(|a, b| a.path() < b.path()));
        for node in section {
            let data = node.data().map(<[u8]>::to_vec);
            let value = (data, node.acl().to_vec(), node.stat());
            assert_eq!(znodes.insert(node.path().to_owned(), value), None);
        }
    }
    assert_eq!(capture.node_count(), znodes.len() as u64);
    Whole {
        znodes,
        sessions: capture.sessions(),
        zxid: capture.zxid(),
        digest: capture.digest(),
    }
}

/// A state that holds what was captured.
fn restore(capture: Capture) -> State {
    restore_into(State::builder([0; 32]), capture)
}

pub(super) fn restore_into(mut builder: StateBuilder, mut capture: Capture) -> State {
    builder.cluster_key(capture.cluster_key());
    builder.zxid(capture.zxid());
    builder.level(capture.level());
    for (id, session) in capture.sessions() {
        builder.session(id, session);
    }
    while let Some(section) = capture.next_section() {
        for node in section {
            let acl = builder.acl(node.acl());
            builder
                .node(node.path(), node.data(), &acl, &node.stat())
                .unwrap();
        }
    }
    builder.finish().unwrap()
}

/// Loading gives its work to several threads from some size on.
#[test]
fn a_tree_made_by_several_hands_is_the_same_as_one_made_by_one() {
    let load = |several: bool| {
        let builder = State::builder([7; 32]);
        let acl = builder.acl(&Acl::open_unsafe());
        let add = |path: &str, owner: i64| {
            let stat = PersistedStat {
                ephemeral_owner: owner,
                ..PersistedStat::default()
            };
            builder.node(path, Some(b"x"), &acl, &stat).unwrap();
        };
        for parent in 0..300 {
            add(&format!("/p{parent}"), 0);
            for child in 0..100 {
                add(&format!("/p{parent}/c{child}"), i64::from(child % 7 == 0));
            }
        }
        let hands = |work: &(dyn Fn() + Sync)| {
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(work);
                }
            });
        };
        if several {
            builder.finish_by(&hands).unwrap()
        } else {
            builder.finish().unwrap()
        }
    };
    let (one, several) = (load(false), load(true));
    assert_eq!(one.ephemerals_of(SessionId(1)).len(), 300 * 15);
    let both = [&one, &several];
    let [a, b] = both.map(|state| state.ephemerals_of(SessionId(1)));
    assert_eq!(a, b);
    let [a, b] = both.map(|state| {
        let guard = state.tree().read("/p7");
        let node = guard.node().unwrap();
        (node.children().collect::<Vec<_>>().join(" "), node.stat())
    });
    assert_eq!(a, b);
    assert_eq!(whole(one.capture()), whole(several.capture()));
}

#[test]
fn a_capture_is_the_state_where_it_began_whatever_is_applied_meanwhile() {
    let mut draw = Draw::seeded(200);
    let mut world = World::new();
    let mut model = Model::new();
    let mut open: Vec<(Capture, Whole, usize)> = Vec::new();
    for _ in 0..1500 {
        step_both(&mut draw, &mut world, &mut model);
        if draw.0.random_ratio(1, 40) {
            let expected = whole(world.state.capture());
            let wait = draw.0.random_range(0..60);
            open.push((world.state.capture(), expected, wait));
        }
        for (_, _, wait) in &mut open {
            *wait = wait.saturating_sub(1);
        }
        let (done, still) = open.into_iter().partition(|(_, _, wait)| *wait == 0);
        open = still;
        let done: Vec<(Capture, Whole, usize)> = done;
        for (capture, expected, _) in done {
            assert_eq!(whole(capture), expected);
        }
    }
}

#[test]
fn a_capture_read_on_another_thread_is_the_state_where_it_began() {
    let mut draw = Draw::seeded(300);
    let mut world = World::new();
    let mut model = Model::new();
    for _ in 0..300 {
        step_both(&mut draw, &mut world, &mut model);
    }
    for _ in 0..30 {
        let expected = whole(world.state.capture());
        let capture = world.state.capture();
        let reader = std::thread::spawn(move || whole(capture));
        while !reader.is_finished() {
            step_both(&mut draw, &mut world, &mut model);
        }
        assert_eq!(reader.join().unwrap(), expected);
    }
}

#[test]
fn a_restored_state_goes_on_like_the_one_that_was_captured() {
    let mut draw = Draw::seeded(400);
    let mut world = World::new();
    let mut model = Model::new();
    for _ in 0..600 {
        step_both(&mut draw, &mut world, &mut model);
    }
    let restored = restore(world.state.capture());
    assert_eq!(whole(restored.capture()), whole(world.state.capture()));
    model.assert_same(&restored);
    assert_eq!(
        restored.password(world.session),
        world.state.password(world.session)
    );
    world.state = restored;
    for _ in 0..600 {
        step_both(&mut draw, &mut world, &mut model);
    }
    model.assert_same(&world.state);
}

#[test]
fn a_dropped_capture_holds_nothing() {
    let mut world = World::new();
    world.create("/a").unwrap();
    let capture = world.state.capture();
    world.changed(set("/a", "x", -1)).unwrap();
    drop(capture);
    world.changed(set("/a", "y", -1)).unwrap();
    assert_eq!(
        whole(world.state.capture()).znodes["/a"].0,
        Some(b"y".to_vec())
    );
}

#[test]
fn what_is_no_tree_is_not_loaded() {
    let builder = State::builder([0; 32]);
    let acl = builder.acl(&Acl::open_unsafe());
    let stat = PersistedStat::default();
    let bad = builder.node("/a/", None, &acl, &stat);
    assert!(matches!(bad, Err(LoadError::BadPath { .. })));
    builder.node("/a", None, &acl, &stat).unwrap();
    let twice = builder.node("/a", None, &acl, &stat);
    assert!(matches!(twice, Err(LoadError::Twice { .. })));
    builder.node("/b/c", None, &acl, &stat).unwrap();
    assert!(matches!(builder.finish(), Err(LoadError::Orphan { path }) if path == "/b/c"));
}

/// R5: whoever holds the gate sees all of a multi or none of it.
#[test]
fn no_reader_behind_the_gate_sees_half_a_multi() {
    let mut world = World::new();
    let paths: Vec<String> = (0..8).map(|number| format!("/m{number}")).collect();
    for path in &paths {
        world.create(path).unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let state = &world.state;
        let (paths, stop) = (&paths, &stop);
        let reader = scope.spawn(move || {
            let mut seen = 0_u64;
            let mut last = 0;
            while !stop.load(Ordering::Relaxed) {
                let _gate = state.tree().gate();
                let applied = state.applied_zxid();
                let mut versions = paths.iter().map(|path| {
                    let guard = state.tree().read(path);
                    let stat = guard.node().unwrap().stat();
                    assert!(stat.mzxid <= applied.0);
                    stat.version
                });
                let first = versions.next().unwrap();
                assert!(versions.all(|version| version == first));
                seen += u64::from(first != last);
                last = first;
            }
            seen
        });
        let caller = world.caller.clone();
        for _ in 0..3000 {
            world.seq += 1;
            let ops = paths.iter().map(|path| set(path, "x", -1)).collect();
            let proposal = crate::tree::txn::Proposal {
                origin: crate::tree::txn::Origin {
                    session: world.session,
                    attach: 1,
                    seq: world.seq,
                },
                caller: caller.as_caller(),
                txn: crate::tree::txn::Txn::Multi(ops),
            };
            state.apply(1, &proposal, &mut Events::default());
        }
        stop.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0, "the reader saw none of it");
    });
}

/// R4: a reader outside the gate is never shown data that is newer than what its shard says.
#[test]
fn no_znode_is_newer_than_its_shard() {
    let mut world = World::new();
    world.create("/a").unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (state, stop) = (&world.state, &stop);
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let guard = state.tree().read("/a");
                assert!(guard.node().unwrap().stat().mzxid <= guard.shard_zxid().0);
            }
        });
        let caller = world.caller.clone();
        for _ in 0..3000 {
            world.seq += 1;
            let proposal = crate::tree::txn::Proposal {
                origin: crate::tree::txn::Origin {
                    session: world.session,
                    attach: 1,
                    seq: world.seq,
                },
                caller: caller.as_caller(),
                txn: crate::tree::txn::Txn::Op(set("/a", "x", -1)),
            };
            state.apply(1, &proposal, &mut Events::default());
        }
        stop.store(true, Ordering::Relaxed);
    });
}
