//! Who is answered, and who is not.

use std::net::{Ipv4Addr, SocketAddr};

use quorate_proto::{OpCode, Version};

use super::*;
use crate::clock::SystemClock;
use crate::metrics::Metrics;
use crate::sessions::Identities;
use crate::tree::{CallerBuf, ChangeSink};
use crate::watches::Modes;

struct Nobody;

impl ChangeSink for Nobody {
    fn change(&mut self, _: Zxid, _: EventType, _: &str, _: &[Acl]) {}
}

/// A server without sockets: what is proposed is applied at once.
struct World {
    sessions: Arc<Sessions>,
    state: Arc<State>,
    delivery: Delivery,
}

impl World {
    fn new() -> World {
        let clock = SystemClock::shared();
        let sessions = Sessions::new(1, 77, 1000, clock, Arc::new(Metrics::default()));
        let state = Arc::new(State::new([7; 32]));
        let delivery = Delivery::new(sessions.clone(), state.clone());
        World {
            sessions,
            state,
            delivery,
        }
    }

    fn connection(&self) -> Arc<Conn> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let identities = Identities::of_address(address.ip(), false);
        self.sessions.accept(address, identities)
    }

    fn apply(&mut self, origin: Origin, txn: Txn<'_>) -> Verdict {
        let caller = CallerBuf::new(&[], false);
        let proposal = Proposal {
            origin,
            caller: caller.as_caller(),
            txn,
        };
        let verdict = self.state.apply(0, &proposal, &mut Nobody);
        self.delivery.outcome(&proposal, &verdict);
        verdict
    }

    /// Registers the connection's handshake; `seen` is what its client has seen.
    fn shakes_hands(&self, conn: &Arc<Conn>, seen: Zxid) -> Ticket {
        self.sessions.handshake(Handshake {
            conn: conn.clone(),
            read_only: None,
            last_zxid_seen: seen,
        })
    }

    fn open(&mut self, conn: &Arc<Conn>) -> SessionId {
        let ticket = self.shakes_hands(conn, Zxid::ZERO);
        let timeout_ms = 10_000;
        self.apply(Origin::default(), Txn::OpenSession { ticket, timeout_ms });
        taken(conn);
        conn.session()
    }

    /// Applies a `setData` of the root that this origin sent.
    fn set_root(&mut self, origin: Origin) -> Verdict {
        let set = Op::SetData {
            path: "/".into(),
            data: Some(b"x".into()),
            version: Version(-1),
            enforce_quota: false,
        };
        self.apply(origin, Txn::Op(set))
    }
}

/// Bytes queued since this was last asked.
fn taken(conn: &Conn) -> usize {
    let mut buffer = BytesMut::new();
    conn.outbox().take(&mut buffer);
    buffer.len()
}

fn sends(conn: &Conn, seq: u64) {
    conn.outbox().sent_on(InFlight {
        seq,
        xid: Xid(9),
        op: OpCode::SetData,
        read_at: Duration::ZERO,
    });
}

fn fate(conn: &Conn) -> Fate {
    conn.outbox().fate()
}

#[test]
fn a_write_is_answered_where_it_was_sent_on() {
    let mut world = World::new();
    let conn = world.connection();
    let session = world.open(&conn);
    sends(&conn, 1);
    let (attach, seq) = (1, 1);
    world.set_root(Origin {
        session,
        attach,
        seq,
    });
    assert!(taken(&conn) > 0);
    assert_eq!(conn.outbox().in_flight(), 0);
}

/// A server that starts again applies what its former life proposed. Its clients come back with
/// the same sessions and the same xids.
#[test]
fn an_outcome_of_a_former_attach_answers_nobody() {
    let mut world = World::new();
    let former = world.connection();
    let session = world.open(&former);
    let conn = world.connection();
    let ticket = world.shakes_hands(&conn, Zxid::ZERO);
    let timeout_ms = 10_000;
    let attach = Txn::Attach {
        ticket,
        session,
        timeout_ms,
    };
    world.apply(Origin::default(), attach);
    taken(&conn);
    assert_eq!(fate(&former), Fate::Close(CloseReason::Moved));
    // The former attach's first write, and the new one's, carry the same number.
    sends(&conn, 1);
    let origin = Origin {
        session,
        attach: 1,
        seq: 1,
    };
    assert_eq!(world.set_root(origin), Verdict::Stale);
    assert_eq!((taken(&conn), fate(&conn)), (0, Fate::Open));
    assert_eq!(conn.outbox().in_flight(), 1, "it still waits for its own");
}

/// What it had outstanding was given back when it went; its outcomes must not do so again.
#[test]
fn an_outcome_that_comes_when_its_connection_is_gone_counts_for_nobody() {
    let mut world = World::new();
    let conn = world.connection();
    world.open(&conn);
    sends(&conn, 1);
    conn.stats.outstanding.store(1, Ordering::Relaxed);
    // Apply has found the connection already when its task ends.
    world.sessions.remove(&conn);
    conn.stats.outstanding.store(0, Ordering::Relaxed);
    world.delivery.reply(&conn, 1, Zxid(9), reply::empty);
    assert_eq!(conn.stats.outstanding.load(Ordering::Relaxed), 0);
    assert_eq!(world.sessions.metrics.outstanding.get(), 0);
}

#[test]
fn a_handshake_of_another_start_or_server_answers_nobody() {
    let mut world = World::new();
    let conn = world.connection();
    let ours = world.shakes_hands(&conn, Zxid::ZERO);
    let timeout_ms = 10_000;
    for ticket in [Ticket { boot: 78, ..ours }, Ticket { server: 2, ..ours }] {
        world.apply(Origin::default(), Txn::OpenSession { ticket, timeout_ms });
        assert_eq!(taken(&conn), 0);
        assert_eq!(conn.session(), SessionId::NONE);
    }
    let ticket = ours;
    world.apply(Origin::default(), Txn::OpenSession { ticket, timeout_ms });
    assert_ne!(conn.session(), SessionId::NONE);
}

/// Between the check of the handshake and its entry, another leader may have begun.
#[test]
fn a_client_of_another_history_is_closed_without_a_word_when_its_entry_is_applied() {
    let mut world = World::new();
    let conn = world.connection();
    let ticket = world.shakes_hands(&conn, Zxid(i64::MAX));
    let timeout_ms = 10_000;
    world.apply(Origin::default(), Txn::OpenSession { ticket, timeout_ms });
    assert_eq!((taken(&conn), conn.session()), (0, SessionId::NONE));
    assert_eq!(fate(&conn), Fate::Close(CloseReason::Moved));
}

#[test]
fn a_write_behind_a_gap_closes_its_connection() {
    let mut world = World::new();
    let conn = world.connection();
    let session = world.open(&conn);
    sends(&conn, 2);
    let (attach, seq) = (1, 2);
    let verdict = world.set_root(Origin {
        session,
        attach,
        seq,
    });
    assert_eq!(verdict, Verdict::Stale);
    assert_eq!(fate(&conn), Fate::Close(CloseReason::OutcomeUnknown));
}

/// Numbers were used again at once. An event for a connection that had just gone went to its
/// successor, which heard it before the answer to its handshake and could not read it.
#[test]
fn a_new_connection_has_another_number_than_one_that_has_just_gone() {
    let world = World::new();
    let mut numbers = std::collections::HashSet::new();
    for _ in 0..100 {
        let conn = world.connection();
        assert!(numbers.insert(conn.id), "{:?} again", conn.id);
        world.sessions.remove(&conn);
        assert!(
            world
                .sessions
                .connections()
                .iter()
                .all(|open| open.id != conn.id)
        );
    }
    let open: Vec<_> = (0..5).map(|_| world.connection().id).collect();
    let listed: Vec<_> = world.sessions.connections().iter().map(|c| c.id).collect();
    assert_eq!(listed, open);
}

/// The events inside a snapshot were never made, and what became of requests inside it is
/// unknown.
#[test]
fn an_installed_snapshot_closes_every_connection() {
    let mut world = World::new();
    let conns = [world.connection(), world.connection(), world.connection()];
    for conn in &conns[..2] {
        world.open(conn);
    }
    world.sessions.watches.add(conns[0].id, "/", Modes::DATA);
    world.delivery.skipped();
    for conn in &conns {
        assert_eq!(fate(conn), Fate::Close(CloseReason::OutcomeUnknown));
    }
}

/// A handshake's entry may be inside the snapshot: nobody would answer it.
#[test]
fn an_installed_snapshot_ends_handshakes_and_its_sessions_are_judged_from_now_on() {
    let mut world = World::new();
    let (gone, opens) = (world.connection(), world.connection());
    world.open(&gone);
    let ticket = world.shakes_hands(&opens, Zxid::ZERO);
    world.delivery.skipped();
    assert!(world.delivery.handshake(ticket).is_none());
    let mut builder = world.state.successor();
    let session = SessionId(0x0700_0000_0000_0001);
    let info = crate::tree::SessionInfo {
        timeout_ms: 4000,
        attach: 3,
        last_seq: 9,
        ticket: None,
        imported: false,
    };
    builder.session(session, info);
    drop(world.state.replace(builder.finish().unwrap()));
    world.delivery.resumed();
    let buckets = world.sessions.live.lock().buckets();
    let judged: Vec<_> = buckets.into_iter().flat_map(|(_, all)| all).collect();
    assert_eq!(judged, [session]);
}

#[test]
fn without_a_log_who_waits_for_an_outcome_is_closed_and_others_are_not() {
    let mut world = World::new();
    let (waits, idle, opens) = (world.connection(), world.connection(), world.connection());
    world.open(&waits);
    world.open(&idle);
    sends(&waits, 1);
    world.shakes_hands(&opens, Zxid::ZERO);
    world.delivery.lost();
    assert_eq!(fate(&waits), Fate::Close(CloseReason::OutcomeUnknown));
    assert_eq!(fate(&opens), Fate::Close(CloseReason::OutcomeUnknown));
    assert_eq!(fate(&idle), Fate::Open);
}

/// Hands changes on, and looks from another thread whether their shard can be read meanwhile.
struct Looking<'a> {
    delivery: &'a mut Delivery,
    seen: Vec<bool>,
}

impl ChangeSink for Looking<'_> {
    fn change(&mut self, zxid: Zxid, event: EventType, path: &str, acl: &[Acl]) {
        self.delivery.change(zxid, event, path, acl);
        let (state, path) = (self.delivery.state.clone(), path.to_owned());
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let version = state
                .tree()
                .read(&path)
                .node()
                .map(|node| node.stat().version);
            // The change is through by the time that this can be read: nobody may be listening.
            let _ = tell.send(version);
        });
        // An unlocked shard is read at once; a locked one not before this returns.
        self.seen
            .push(told.recv_timeout(Duration::from_millis(100)).is_ok());
    }
}

/// With the test above it is R3's other half: whoever can see the change has its event queued.
#[test]
fn an_event_is_queued_before_anybody_can_read_its_change() {
    let mut world = World::new();
    let conn = world.connection();
    let session = world.open(&conn);
    world.sessions.watches.add(conn.id, "/", Modes::DATA);
    let caller = CallerBuf::new(&[], false);
    let set = Op::SetData {
        path: "/".into(),
        data: Some(b"x".into()),
        version: Version(-1),
        enforce_quota: false,
    };
    let origin = Origin {
        session,
        attach: 1,
        seq: 1,
    };
    let proposal = Proposal {
        origin,
        caller: caller.as_caller(),
        txn: Txn::Op(set),
    };
    let mut sink = Looking {
        delivery: &mut world.delivery,
        seen: Vec::new(),
    };
    world.state.apply(0, &proposal, &mut sink);
    assert_eq!(
        sink.seen,
        [false],
        "the shard is locked while its change is told"
    );
    assert!(
        taken(&conn) > 0,
        "and the event is queued then, not at the end of the turn"
    );
}
