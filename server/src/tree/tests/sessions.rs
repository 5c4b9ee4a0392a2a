//! Sessions: who may write, in which order, and what goes with them.

use quorate_proto::{ErrorCode, EventType, SessionId, Zxid};

use super::support::*;
use crate::tree::txn::{Judgement, OpResult, Origin, Outcome, Ticket, Txn, Verdict};
use crate::tree::{SessionInfo, State};

fn attach(world: &mut World, session: SessionId) -> Verdict {
    let ticket = world.ticket();
    let txn = Txn::Attach {
        ticket,
        session,
        timeout_ms: 9000,
    };
    world.raw(Origin::default(), txn)
}

#[test]
fn a_sessions_id_is_the_server_and_the_opening_zxid() {
    let mut world = World::new();
    world.state.begin_epoch(3);
    let session = world.open();
    assert_eq!(session.0, (1 << 56) | (3 << 32) | 1);
    let info = world.state.session(session).unwrap();
    assert_eq!((info.timeout_ms, info.attach, info.last_seq), (4000, 1, 0));
}

#[test]
fn an_id_that_an_import_brought_is_skipped() {
    let taken = SessionId((1 << 56) | 1);
    let mut builder = State::builder([0; 32]);
    let imported = SessionInfo {
        timeout_ms: 1,
        attach: 1,
        last_seq: 0,
        ticket: None,
        imported: true,
    };
    builder.session(taken, imported);
    let world = World::of(builder.finish().unwrap());
    assert_eq!(world.session, SessionId(taken.0 + 1));
    assert_eq!(world.state.sessions().len(), 2);
    assert_ne!(&world.state.password(taken)[..6], b"QUORA\x01");
    assert!(
        world
            .state
            .password_matches(taken, &world.state.password(taken))
    );
    assert_eq!(&world.state.password(world.session)[..6], b"QUORA\x01");
}

#[test]
fn no_session_id_looks_like_a_ttl_znodes_owner() {
    let mut world = World::new();
    let ticket = Ticket {
        server: 0xFF,
        boot: 0,
        count: 0,
    };
    let txn = Txn::OpenSession {
        ticket,
        timeout_ms: 1,
    };
    let Verdict::Opened { session, .. } = world.raw(Origin::default(), txn) else {
        panic!("opened");
    };
    assert_eq!(session.0.cast_unsigned() >> 56, 0xFE);
}

#[test]
fn no_password_opens_session_zero() {
    let world = World::new();
    let password = world.state.password(SessionId::NONE);
    assert!(!world.state.password_matches(SessionId::NONE, &password));
}

/// R8: once, in order.
#[test]
fn a_write_takes_effect_once_and_in_its_turn() {
    let mut world = World::new();
    world.create("/a").unwrap();
    let (session, zxid) = (world.session, world.zxid());
    let at = |attach, seq| Origin {
        session,
        attach,
        seq,
    };
    let txn = || Txn::Op(set("/a", "x", -1));
    assert_eq!(world.raw(at(1, 1), txn()), Verdict::Duplicate);
    assert_eq!(world.raw(at(1, 0), txn()), Verdict::Duplicate);
    assert_eq!(world.raw(at(1, 3), txn()), Verdict::Stale, "a gap");
    assert_eq!(
        world.raw(at(0, 2), txn()),
        Verdict::Stale,
        "a former attach"
    );
    assert_eq!(
        world.raw(at(2, 1), txn()),
        Verdict::Stale,
        "an attach to come"
    );
    let nobody = Origin {
        session: SessionId(5),
        attach: 1,
        seq: 1,
    };
    assert_eq!(world.raw(nobody, txn()), Verdict::Stale);
    assert_eq!(world.zxid(), zxid, "none of these takes a zxid");
    assert_eq!(world.stat("/a").unwrap().version, 0);
    assert!(matches!(world.raw(at(1, 2), txn()), Verdict::Judged { .. }));
    assert_eq!(world.raw(at(1, 2), txn()), Verdict::Duplicate);
    assert_eq!(world.stat("/a").unwrap().version, 1);
}

#[test]
fn a_refused_write_has_had_its_turn() {
    let mut world = World::new();
    world.op(create("/none/a")).unwrap_err();
    assert_eq!(world.state.session(world.session).unwrap().last_seq, 1);
}

#[test]
fn an_attach_takes_no_zxid_and_starts_the_numbers_again() {
    let mut world = World::new();
    world.create("/a").unwrap();
    let (session, zxid) = (world.session, world.zxid());
    let verdict = attach(&mut world, session);
    let password = world.state.password(session);
    assert_eq!(
        verdict,
        Verdict::Attached {
            session,
            attach: 2,
            timeout_ms: 9000,
            password,
        }
    );
    assert_eq!(world.zxid(), zxid);
    let info = world.state.session(session).unwrap();
    assert_eq!((info.timeout_ms, info.attach, info.last_seq), (9000, 2, 0));
    // The old connection's next write, and the new one's first.
    assert_eq!(world.write(Txn::Op(create("/b"))), Verdict::Stale);
    world.attach = 2;
    world.seq = 0;
    assert!(world.create("/b").is_ok());
}

#[test]
fn an_attach_that_is_sent_twice_counts_once() {
    let mut world = World::new();
    let session = world.session;
    let txn = || Txn::Attach {
        ticket: Ticket {
            server: 2,
            boot: 5,
            count: 1,
        },
        session,
        timeout_ms: 1,
    };
    assert!(matches!(
        world.raw(Origin::default(), txn()),
        Verdict::Attached { attach: 2, .. }
    ));
    assert_eq!(world.raw(Origin::default(), txn()), Verdict::Duplicate);
    assert_eq!(world.state.session(session).unwrap().attach, 2);
}

#[test]
fn unknown_sessions_are_not_attached() {
    let mut world = World::new();
    for id in [-1, 0, 77, i64::MIN] {
        assert_eq!(attach(&mut world, SessionId(id)), Verdict::AttachRefused);
    }
}

#[test]
fn closing_a_session_deletes_its_ephemerals_with_one_zxid() {
    use EventType::{NodeChildrenChanged, NodeDeleted};
    let mut world = World::new();
    world.create("/p").unwrap();
    world.op(ephemeral("/p/b")).unwrap();
    world.op(ephemeral("/p/a")).unwrap();
    world.op(ephemeral("/e")).unwrap();
    world.create("/stays").unwrap();
    assert_eq!(world.state.tree().ephemeral_count(), 3);
    let paths: Vec<_> = world.state.ephemerals_of(world.session);
    assert_eq!(
        paths.iter().map(|path| &**path).collect::<Vec<_>>(),
        ["/e", "/p/a", "/p/b"]
    );
    world.events();
    let (session, zxid) = (world.session, world.zxid() + 1);
    let verdict = world.write(Txn::CloseSession);
    assert_eq!(
        verdict,
        Verdict::Closed {
            zxid: Zxid(zxid),
            session
        }
    );
    let told = |event, path: &str| (event, path.to_owned());
    assert_eq!(
        world.events(),
        [
            told(NodeDeleted, "/e"),
            told(NodeChildrenChanged, "/"),
            told(NodeDeleted, "/p/a"),
            told(NodeChildrenChanged, "/p"),
            told(NodeDeleted, "/p/b"),
            told(NodeChildrenChanged, "/p"),
        ]
    );
    let parent = world.stat("/p").unwrap();
    assert_eq!(
        (parent.pzxid, parent.cversion, parent.num_children),
        (zxid, 4, 0)
    );
    assert_eq!(world.state.session(session), None);
    assert_eq!(world.state.tree().ephemeral_count(), 0);
    assert!(world.stat("/stays").is_some());
    assert_eq!(world.write(Txn::Op(create("/late"))), Verdict::Stale);
    assert_eq!(world.write(Txn::CloseSession), Verdict::Stale);
}

#[test]
fn an_ephemeral_that_was_deleted_or_made_again_has_one_owner() {
    let mut world = World::new();
    world.op(ephemeral("/e")).unwrap();
    assert_eq!(world.stat("/e").unwrap().ephemeral_owner, world.session.0);
    world.op(delete("/e", -1)).unwrap();
    assert!(world.state.ephemerals_of(world.session).is_empty());
    let other = world.open();
    let (first, seq) = (world.session, world.seq);
    (world.session, world.seq) = (other, 0);
    world.op(ephemeral("/e")).unwrap();
    (world.session, world.seq) = (first, seq);
    world.write(Txn::CloseSession);
    assert_eq!(world.stat("/e").unwrap().ephemeral_owner, other.0);
}

#[test]
fn a_close_keeps_its_place_among_the_writes() {
    let mut world = World::new();
    let origin = |seq| Origin {
        session: world.session,
        attach: 1,
        seq,
    };
    let (early, first, close) = (origin(2), origin(1), origin(2));
    assert_eq!(world.raw(early, Txn::CloseSession), Verdict::Stale);
    world.raw(first, Txn::Op(ephemeral("/e")));
    assert!(matches!(
        world.raw(close, Txn::CloseSession),
        Verdict::Closed { .. }
    ));
    assert_eq!(world.stat("/e"), None);
}

#[test]
fn a_close_from_a_former_attach_is_accepted_without_a_number() {
    let mut world = World::new();
    let session = world.session;
    attach(&mut world, session);
    let origin = Origin {
        session,
        attach: 1,
        seq: 500,
    };
    assert!(matches!(
        world.raw(origin, Txn::CloseSession),
        Verdict::Closed { .. }
    ));
}

/// R12: an expiry judged one attach of the session and no other.
#[test]
fn an_expiry_is_void_once_the_session_was_attached_again() {
    let mut world = World::new();
    let session = world.session;
    world.op(ephemeral("/e")).unwrap();
    attach(&mut world, session);
    let zxid = world.zxid();
    let expire = |attach| Txn::ExpireSession {
        session,
        judged: Judgement {
            attach,
            seq: u64::MAX,
            term: 1,
        },
    };
    assert_eq!(world.raw(Origin::default(), expire(1)), Verdict::Void);
    assert_eq!(world.zxid(), zxid);
    assert!(world.stat("/e").is_some());
    assert!(matches!(
        world.raw(Origin::default(), expire(2)),
        Verdict::Closed { .. }
    ));
    assert_eq!(world.stat("/e"), None);
    assert_eq!(world.raw(Origin::default(), expire(2)), Verdict::Void);
}

/// R16: a write that reached the log in front of an expiry spoke for its session.
#[test]
fn an_expiry_is_void_once_the_session_wrote() {
    let mut world = World::new();
    let session = world.session;
    world.op(ephemeral("/e")).unwrap();
    let wrote = world.state.session(session).unwrap().last_seq;
    let expire = |seq| Txn::ExpireSession {
        session,
        judged: Judgement {
            attach: 1,
            seq,
            term: 1,
        },
    };
    assert_eq!(
        world.raw(Origin::default(), expire(wrote - 1)),
        Verdict::Void
    );
    assert!(world.stat("/e").is_some());
    assert!(matches!(
        world.raw(Origin::default(), expire(wrote)),
        Verdict::Closed { .. }
    ));
}

fn candidates(world: &World, now_ms: i64, never_used_ms: Option<i64>) -> Vec<String> {
    let found = world
        .state
        .tree()
        .reap_candidates(now_ms, never_used_ms, 100);
    found.iter().map(|(path, ..)| path.to_string()).collect()
}

fn reap(world: &mut World, path: &str) -> Verdict {
    let stat = world.stat(path).unwrap_or_default();
    let txn = Txn::Reap {
        path: path.into(),
        czxid: Zxid(stat.czxid),
        mzxid: Zxid(stat.mzxid),
    };
    world.raw(Origin::default(), txn)
}

#[test]
fn a_container_may_go_when_its_last_child_has_gone() {
    let mut world = World::new();
    world.op(container("/c")).unwrap();
    assert!(candidates(&world, 1 << 40, None).is_empty(), "never used");
    assert_eq!(candidates(&world, 1101, Some(100)), ["/c"]);
    assert!(candidates(&world, 1100, Some(100)).is_empty());
    world.create("/c/child").unwrap();
    assert!(candidates(&world, 1 << 40, Some(0)).is_empty());
    assert_eq!(reap(&mut world, "/c"), Verdict::Void);
    world.op(delete("/c/child", -1)).unwrap();
    assert_eq!(candidates(&world, 0, None), ["/c"]);
    world.events();
    assert!(matches!(
        reap(&mut world, "/c"),
        Verdict::Judged {
            outcome: Outcome::Done(OpResult::Deleted),
            ..
        }
    ));
    assert_eq!(world.events().len(), 2);
    assert!(candidates(&world, 1 << 40, Some(0)).is_empty());
    assert_eq!(world.stat("/c"), None);
}

#[test]
fn a_ttl_znode_may_go_when_childless_and_long_unchanged() {
    let mut world = World::new();
    world.op(ttl("/t", 50)).unwrap();
    assert!(candidates(&world, 1050, None).is_empty());
    assert_eq!(candidates(&world, 1051, None), ["/t"]);
    let stat = world.stat("/t").unwrap();
    world.now_ms = 1040;
    world.changed(set("/t", "x", -1)).unwrap();
    assert!(candidates(&world, 1051, None).is_empty());
    let stale = Txn::Reap {
        path: "/t".into(),
        czxid: Zxid(stat.czxid),
        mzxid: Zxid(stat.mzxid),
    };
    let zxid = world.zxid();
    assert_eq!(world.raw(Origin::default(), stale), Verdict::Void);
    assert_eq!(world.zxid(), zxid);
    world.now_ms = 5000;
    world.create("/t/child").unwrap();
    assert!(candidates(&world, 9999, None).is_empty());
    world.op(delete("/t/child", -1)).unwrap();
    assert_eq!(
        candidates(&world, 1091, None),
        ["/t"],
        "children do not postpone it"
    );
}

#[test]
fn plain_znodes_are_not_reaped() {
    let mut world = World::new();
    world.create("/a").unwrap();
    assert_eq!(reap(&mut world, "/a"), Verdict::Void);
    assert_eq!(reap(&mut world, "/none"), Verdict::Void);
    assert!(world.stat("/a").is_some());
}

#[test]
fn an_ephemeral_parent_in_a_multi_takes_no_children() {
    let mut world = World::new();
    let failed = world.multi(vec![ephemeral("/e"), create("/e/c")]);
    assert_eq!(failed, Err((1, ErrorCode::NoChildrenForEphemerals)));
}

/// Session ids carry the number of their server in the top byte, which marks TTL znodes when it is
/// 0xff and containers when it is 0x80 with nothing behind it.
#[test]
fn no_number_of_a_server_makes_its_ephemerals_look_like_something_else() {
    for number in [1, 127, 128, 254, 255] {
        let mut world = World::new();
        world.state.begin_epoch(1);
        let mut seen = Vec::new();
        for count in 0..3 {
            let ticket = Ticket {
                server: number,
                boot: 1,
                count,
            };
            let txn = Txn::OpenSession {
                ticket,
                timeout_ms: 4000,
            };
            let Verdict::Opened { session, .. } = world.raw(Origin::default(), txn) else {
                panic!("not opened");
            };
            assert_eq!(session.0.to_be_bytes()[0], number.min(254));
            assert!(!seen.contains(&session));
            seen.push(session);
            world.session = session;
            world.seq = 0;
            let path = format!("/e{count}");
            world.created(ephemeral(&path)).unwrap();
            assert_eq!(world.stat(&path).unwrap().ephemeral_owner, session.0);
            assert_eq!(world.state.ephemerals_of(session).len(), 1);
            let reap = world.state.tree().reap_candidates(i64::MAX, Some(0), 10);
            assert!(reap.is_empty(), "{number}: {reap:?}");
            world.raw(world_origin(session), Txn::CloseSession);
            assert_eq!(world.stat(&path), None);
        }
    }
}

fn world_origin(session: SessionId) -> Origin {
    Origin {
        session,
        attach: 1,
        seq: 2,
    }
}
