//! Another state takes the place of the one that is served.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use quorate_proto::{Acl, SessionId};

use super::capture::{restore_into, whole};
use super::model::{Draw, Model, step_both};
use super::support::*;
use crate::tree::{PersistedStat, SessionInfo, State};

const ZNODES: usize = 3000;

/// Places the same znodes over all shards; data and zxids tell which state it is.
fn filled(state: &State, zxid: i64) -> State {
    let mut builder = state.successor();
    builder.cluster_key([u8::try_from(zxid % 256).unwrap(); 32]);
    builder.zxid(quorate_proto::Zxid(zxid));
    builder.level(u32::try_from(zxid).unwrap());
    let session = SessionInfo {
        timeout_ms: 4000,
        attach: 1,
        last_seq: 0,
        ticket: None,
        imported: false,
    };
    builder.session(SessionId(zxid), session);
    let acl = builder.acl(&Acl::open_unsafe());
    for n in 0..ZNODES {
        let stat = PersistedStat {
            mzxid: zxid,
            ephemeral_owner: zxid,
            ..PersistedStat::default()
        };
        let data = zxid.to_be_bytes();
        builder
            .node(&format!("/n{n}"), Some(&data), &acl, &stat)
            .unwrap();
    }
    builder.finish().unwrap()
}

fn mzxid(state: &State, n: usize) -> i64 {
    let path = format!("/n{n}");
    let read = state.tree().read(&path);
    read.node().unwrap().stat().mzxid
}

#[test]
fn a_replaced_state_is_the_new_one_in_every_respect_and_goes_on_like_it() {
    let mut draw = Draw::seeded(700);
    for _ in 0..5 {
        let (mut served, mut other) = (World::new(), World::new());
        let (mut model, mut gone) = (Model::new(), Model::new());
        for _ in 0..200 {
            step_both(&mut draw, &mut other, &mut model);
            step_both(&mut draw, &mut served, &mut gone);
        }
        let old = whole(served.state.capture());
        let new = restore_into(served.state.successor(), other.state.capture());
        let back = served.state.replace(new);
        assert_eq!(
            whole(back.capture()),
            old,
            "what is given back is whole, too"
        );
        assert_eq!(whole(served.state.capture()), whole(other.state.capture()));
        let both = [&served.state, &other.state];
        let [a, b] = both.map(|state| {
            let tree = state.tree();
            (
                (tree.node_count(), tree.ephemeral_count(), tree.digest()),
                tree.approximate_data_size(),
                (state.level(), state.cluster_key()),
                (state.applied_zxid(), state.settled_zxid()),
                state.sessions(),
                state.password(SessionId(7)),
            )
        });
        assert_eq!(a, b);
        // The indexes behind it came along: the same transactions have the same effect.
        let mut world = other.moved_to(served.state);
        for _ in 0..200 {
            step_both(&mut draw, &mut world, &mut model);
        }
    }
}

#[test]
fn readers_see_the_old_state_or_the_new_one_and_never_go_back() {
    const STATES: i64 = 30;
    let state = State::new([0; 32]);
    drop(state.replace(filled(&state, 1)));
    let over = AtomicBool::new(false);
    let read = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let (state, over, read) = (&state, &over, &read);
            scope.spawn(move || {
                let mut last = 0;
                let mut n = reader;
                while !over.load(Ordering::Acquire) {
                    n = (n * 31 + 7) % ZNODES;
                    let path = format!("/n{n}");
                    let applied = state.applied_zxid();
                    let guard = state.tree().read(&path);
                    let seen = guard.node().unwrap().stat().mzxid;
                    let told = applied.max(guard.shard_zxid()).0;
                    assert!(seen >= last, "{seen} after {last}");
                    assert!(told >= seen, "told {told}, shown {seen}");
                    last = seen;
                    read.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let (state, over) = (&state, &over);
        scope.spawn(move || {
            while !over.load(Ordering::Acquire) {
                let _gate = state.tree().gate();
                let zxid = mzxid(state, 0);
                for n in (0..ZNODES).step_by(37) {
                    assert_eq!(mzxid(state, n), zxid, "a mix under the gate");
                }
                assert_eq!(state.applied_zxid().0, zxid);
                assert_eq!(state.sessions().first().unwrap().0, SessionId(zxid));
                assert_eq!(state.ephemerals_of(SessionId(zxid)).len(), ZNODES);
                assert_eq!(state.tree().ephemeral_count(), ZNODES as u64);
            }
        });
        for zxid in 2..=STATES {
            let new = filled(state, zxid);
            drop(state.replace(new));
        }
        over.store(true, Ordering::Release);
    });
    assert_eq!(state.applied_zxid().0, STATES);
    assert!(read.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_capture_that_is_being_read_stays_the_state_where_it_began() {
    let mut draw = Draw::seeded(701);
    for round in 0..10 {
        let (mut world, mut model) = (World::new(), Model::new());
        for _ in 0..200 {
            step_both(&mut draw, &mut world, &mut model);
        }
        let expected = whole(world.state.capture());
        let waits = world.state.capture();
        let capture = world.state.capture();
        let reader = std::thread::spawn(move || whole(capture));
        if round % 2 == 0 {
            std::thread::yield_now();
        }
        drop(world.state.replace(filled(&world.state, 1 << 30)));
        assert_eq!(reader.join().unwrap(), expected);
        assert_eq!(whole(waits), expected);
    }
}

#[test]
#[should_panic(expected = "no successor of this state")]
fn a_state_that_places_znodes_in_another_way_is_not_let_in() {
    let state = State::new([0; 32]);
    drop(state.replace(State::new([0; 32])));
}
