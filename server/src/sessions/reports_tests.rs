//! Which replies a report releases, and when the clients are closed.

use std::net::{Ipv4Addr, SocketAddr};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::*;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::replication::Judge as _;
use crate::sessions::conn::Attachment;
use crate::sessions::{Handshake, Identities};
use crate::tree::State;

const T: Duration = Duration::from_secs(8);
const BOUNDS: Bounds = Bounds {
    silence: Duration::from_secs(4),
    lease: Duration::from_millis(300),
};

/// The paused time of a test.
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn monotonic(&self) -> Duration {
        // As on a machine that has run for a while.
        self.0.elapsed() + Duration::from_secs(1_000)
    }

    fn wall_ms(&self) -> i64 {
        0
    }
}

/// A report on its way: what it names, and where its answer goes.
type OnItsWay = (
    Vec<SessionId>,
    oneshot::Sender<Result<Vec<SessionId>, Unconfirmed>>,
);

/// A leader that a test plays.
struct Leader {
    reports: mpsc::Sender<OnItsWay>,
    alone: std::sync::atomic::AtomicBool,
}

impl Confirm for Leader {
    fn confirms_alone(&self) -> bool {
        self.alone.load(Ordering::SeqCst)
    }

    fn confirm(
        &self,
        sessions: Vec<SessionId>,
    ) -> BoxFuture<'static, Result<Vec<SessionId>, Unconfirmed>> {
        let reports = self.reports.clone();
        async move {
            let (answer, answered) = oneshot::channel();
            let sent = reports.send((sessions, answer)).await;
            sent.map_err(|_| Unconfirmed)?;
            answered.await.unwrap_or(Err(Unconfirmed))
        }
        .boxed()
    }
}

struct World {
    sessions: Arc<Sessions>,
    reports: Arc<Reports>,
    leader: Arc<Leader>,
    /// What was reported.
    inbox: mpsc::Receiver<OnItsWay>,
    clock: SharedClock,
    stop: CancellationToken,
}

impl World {
    fn new() -> World {
        let clock: SharedClock = Arc::new(TokioClock(Instant::now()));
        let metrics = Arc::new(Metrics::default());
        let sessions = Sessions::new(1, 77, 1_000, clock.clone(), metrics);
        let (sender, inbox) = mpsc::channel(1);
        let leader = Arc::new(Leader {
            reports: sender,
            alone: false.into(),
        });
        let reports = Reports::new(leader.clone(), BOUNDS, clock.clone());
        sessions.join_ensemble(reports.clone());
        World {
            sessions,
            reports,
            leader,
            inbox,
            clock,
            stop: CancellationToken::new(),
        }
    }

    /// A world whose reports run.
    fn running() -> World {
        let world = World::new();
        let (reports, sessions) = (world.reports.clone(), world.sessions.clone());
        let tasks = tokio_util::task::TaskTracker::new();
        tasks.spawn(reports.run(sessions, world.stop.clone()));
        world
    }

    /// One in which a leader has just confirmed.
    async fn fresh() -> World {
        let mut world = World::running();
        world.confirm_for(Duration::from_secs(1)).await;
        world
    }

    fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// A connection with a session, attached now.
    fn connection(&self, session: i64) -> Arc<Conn> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let identities = Identities::of_address(address.ip(), false);
        let conn = self.sessions.accept(address, identities);
        self.sessions.handshake(Handshake {
            conn: conn.clone(),
            read_only: None,
            last_zxid_seen: quorate_proto::Zxid::ZERO,
        });
        self.sessions.handshakes.lock().clear();
        let session = SessionId(session);
        let attachment = Attachment {
            session,
            attach: 1,
            timeout: T,
        };
        conn.attachment.set(attachment).unwrap();
        conn.touch(self.now());
        let mut by_session = self.sessions.by_session.write();
        by_session.insert(session, conn.clone());
        conn
    }

    /// The next report; it must come by itself.
    async fn report(&mut self) -> OnItsWay {
        self.inbox.recv().await.unwrap()
    }

    /// Confirms whatever comes, for so long.
    async fn confirm_for(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while let Ok(report) = tokio::time::timeout_at(until, self.report()).await {
            report.1.send(Ok(Vec::new())).unwrap();
        }
    }
}

fn named(report: &OnItsWay) -> Vec<i64> {
    report.0.iter().map(|session| session.0).collect()
}

fn is_confirmed(conn: &Conn, round: u64) -> bool {
    conn.confirmed.load(Ordering::Acquire) >= round
}

fn is_closed(conn: &Conn) -> bool {
    conn.outbox().fate() == Fate::Close(CloseReason::CutOff)
}

/// Lets the other tasks do what they can without time passing.
async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_ping_waits_for_a_report_that_left_behind_it() {
    let mut world = World::fresh().await;
    let conn = world.connection(7);
    let early = world.report().await;
    let round = world.sessions.confirm(&conn).unwrap();
    early.1.send(Ok(Vec::new())).unwrap();
    let own = world.report().await;
    assert!(
        !is_confirmed(&conn, round),
        "the first was on its way already"
    );
    assert_eq!(named(&own), [7]);
    own.1.send(Ok(Vec::new())).unwrap();
    settle().await;
    assert!(is_confirmed(&conn, round));
}

#[tokio::test(start_paused = true)]
async fn a_refused_session_is_asked_for_again_and_not_answered_before() {
    let mut world = World::fresh().await;
    let (good, bad) = (world.connection(1), world.connection(2));
    let rounds = [&good, &bad].map(|conn| world.sessions.confirm(conn).unwrap());
    let report = world.report().await;
    assert_eq!(named(&report), [1, 2]);
    report.1.send(Ok(vec![SessionId(2)])).unwrap();
    settle().await;
    assert!(is_confirmed(&good, rounds[0]));
    assert!(!is_confirmed(&bad, rounds[1]));
    let again = world.report().await;
    assert_eq!(named(&again), [2]);
    again.1.send(Ok(Vec::new())).unwrap();
    settle().await;
    assert!(is_confirmed(&bad, rounds[1]));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_confirmed_is_reported_again() {
    let mut world = World::fresh().await;
    let conn = world.connection(7);
    let round = world.sessions.confirm(&conn).unwrap();
    for _ in 0..3 {
        let report = world.report().await;
        assert_eq!(named(&report), [7]);
        report.1.send(Err(Unconfirmed)).unwrap();
        settle().await;
        assert!(!is_confirmed(&conn, round));
    }
    let report = world.report().await;
    assert_eq!(named(&report), [7]);
    report.1.send(Ok(Vec::new())).unwrap();
    settle().await;
    assert!(is_confirmed(&conn, round));
}

#[tokio::test(start_paused = true)]
async fn who_was_heard_is_named_once_and_the_reports_go_on_without() {
    let mut world = World::fresh().await;
    let conn = world.connection(7);
    let first = world.report().await;
    assert_eq!(named(&first), [7]);
    first.1.send(Ok(Vec::new())).unwrap();
    let empty = world.report().await;
    assert!(empty.0.is_empty(), "it has not spoken since");
    conn.touch(world.now());
    empty.1.send(Ok(Vec::new())).unwrap();
    let second = world.report().await;
    assert_eq!(named(&second), [7]);
}

#[tokio::test(start_paused = true)]
async fn a_server_is_fresh_for_its_bound_from_the_beginning_of_a_confirmed_report() {
    let mut world = World::running();
    assert!(
        !world.sessions.is_fresh(world.now()),
        "nobody ever confirmed"
    );
    let report = world.report().await;
    let began = world.now();
    tokio::time::advance(Duration::from_secs(3)).await;
    report.1.send(Ok(Vec::new())).unwrap();
    settle().await;
    assert!(world.sessions.is_fresh(began + BOUNDS.silence));
    let late = began + BOUNDS.silence + Duration::from_millis(1);
    assert!(
        !world.sessions.is_fresh(late),
        "the time that the report took is not a proof"
    );
}

#[tokio::test(start_paused = true)]
async fn clients_are_closed_when_nobody_confirms_and_taken_again_when_somebody_does() {
    let mut world = World::fresh().await;
    let conn = world.connection(7);
    world.confirm_for(Duration::from_secs(1)).await;
    assert!(!is_closed(&conn));
    let silent = world.report().await;
    tokio::time::sleep(BOUNDS.silence + Duration::from_millis(100)).await;
    assert!(is_closed(&conn));
    assert!(!world.sessions.may_answer(&conn, world.now()));
    drop(silent);
    world.confirm_for(Duration::from_secs(1)).await;
    assert!(world.sessions.is_fresh(world.now()));
}

/// The report of a server that stood still says that there is a leader. It does not say that the
/// leader has heard of a client whose last words are unread.
#[tokio::test(start_paused = true)]
async fn a_client_that_was_not_reported_in_time_is_closed_though_the_server_is_fresh() {
    let mut world = World::fresh().await;
    let conn = world.connection(7);
    world.confirm_for(T - Duration::from_secs(1)).await;
    assert!(!is_closed(&conn));
    assert!(world.sessions.may_answer(&conn, world.now()));
    world.confirm_for(Duration::from_secs(1)).await;
    assert!(world.sessions.is_fresh(world.now()));
    assert!(is_closed(&conn));
}

#[tokio::test(start_paused = true)]
async fn a_leader_needs_nobody_and_confirms_nothing_to_a_marked_session() {
    let mut world = World::running();
    world.leader.alone.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let conn = world.connection(7);
    assert_eq!(world.sessions.confirm(&conn), None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(world.sessions.is_fresh(world.now()));
    assert!(world.inbox.try_recv().is_err(), "nothing was sent");
    conn.expiring.store(true, Ordering::SeqCst);
    let round = world.sessions.confirm(&conn).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!is_confirmed(&conn, round));
    conn.expiring.store(false, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(is_confirmed(&conn, round));
}

#[tokio::test(start_paused = true)]
async fn a_session_is_renewed_or_marked_and_never_both() {
    let world = World::new();
    world.leader.alone.store(true, Ordering::SeqCst);
    let state = State::new([7; 32]);
    let session = SessionId(7);
    let start = millis(world.now());
    world
        .sessions
        .live
        .lock()
        .start(session, 1, millis(T), start);
    world.sessions.begin_term(3, &state);
    let stranger = SessionId(8);
    tokio::time::advance(T / 2).await;
    assert_eq!(world.sessions.renew(&[session, stranger]), [stranger]);
    tokio::time::advance(T / 2 + Duration::from_secs(1)).await;
    assert!(world.sessions.overdue(3).is_empty());
    tokio::time::advance(T).await;
    let over = world.sessions.overdue(3);
    assert_eq!(over.len(), 1);
    assert_eq!(world.sessions.renew(&[session]), [session]);
    world.sessions.not_expired(session, over[0].judged);
    assert!(world.sessions.renew(&[session]).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_new_judge_grants_the_full_timeout_and_its_lease() {
    let world = World::new();
    world.leader.alone.store(true, Ordering::SeqCst);
    let state = State::new([7; 32]);
    let start = millis(world.now());
    let session = SessionId(7);
    world
        .sessions
        .live
        .lock()
        .start(session, 1, millis(T), start);
    tokio::time::advance(T * 3).await;
    let lease = Duration::from_secs(2);
    world.sessions.start_over(lease);
    world.sessions.begin_term(4, &state);
    tokio::time::advance(T + lease).await;
    assert!(world.sessions.overdue(4).is_empty());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(world.sessions.overdue(4).len(), 1);
}

/// A process that was stopped has not heard what its clients said meanwhile, and those of other
/// servers may not have been able to say it.
#[tokio::test(start_paused = true)]
async fn time_in_which_the_judge_stood_still_is_nobodys_silence() {
    let world = World::new();
    world.leader.alone.store(true, Ordering::SeqCst);
    let state = State::new([7; 32]);
    let start = millis(world.now());
    world
        .sessions
        .live
        .lock()
        .start(SessionId(7), 1, millis(T), start);
    world.sessions.begin_term(3, &state);
    tokio::time::advance(T * 3).await;
    world.sessions.stood_still();
    assert!(world.sessions.overdue(3).is_empty());
    tokio::time::advance(T + BOUNDS.lease).await;
    assert!(world.sessions.overdue(3).is_empty(), "its full timeout");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(world.sessions.overdue(3).len(), 1);
}

/// An expiry that was judged in an earlier term is void, so its mark must not outlive the term;
/// within its term it may yet be applied, whatever gap the lease had.
#[tokio::test(start_paused = true)]
async fn a_mark_lasts_as_long_as_its_expiry_may_be_applied() {
    let world = World::new();
    world.leader.alone.store(true, Ordering::SeqCst);
    let state = State::new([7; 32]);
    let session = SessionId(7);
    let start = millis(world.now());
    world
        .sessions
        .live
        .lock()
        .start(session, 1, millis(T), start);
    world.sessions.begin_term(3, &state);
    tokio::time::advance(T * 2).await;
    assert_eq!(world.sessions.overdue(3).len(), 1);
    world.sessions.start_over(BOUNDS.lease);
    assert_eq!(world.sessions.renew(&[session]), [session], "it is marked");
    world.sessions.end_term();
    world.sessions.start_over(BOUNDS.lease);
    world.sessions.begin_term(5, &state);
    assert!(world.sessions.renew(&[session]).is_empty());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_judged_without_a_lease() {
    let world = World::new();
    let state = State::new([7; 32]);
    let start = millis(world.now());
    world
        .sessions
        .live
        .lock()
        .start(SessionId(7), 1, 4_000, start);
    world.sessions.begin_term(3, &state);
    tokio::time::advance(T * 2).await;
    assert!(world.sessions.overdue(3).is_empty());
    world.leader.alone.store(true, Ordering::SeqCst);
    assert_eq!(world.sessions.overdue(3).len(), 1);
}
