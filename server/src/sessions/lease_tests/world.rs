//! The model: what may happen, in an order that a seed decides, or a script.

mod carriage;
mod client;
mod leaders;
pub(super) mod script;

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicBool;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use quorate_proto::{Acl, EventType, OpCode, SessionId, Version, Xid, Zxid};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::replication::{Deliver as _, Judge as _};
use crate::sessions::reports::Report;
use crate::sessions::*;
use crate::tree::txn::{Judgement, Op, Origin, Proposal, Ticket, Txn, Verdict};
use crate::tree::{CallerBuf, ChangeSink, State};

/// The session's timeout.
const T: u64 = 100;
/// What ZooKeeper's client waits for an answer before it gives a connection up.
const READ_TIMEOUT: u64 = T * 2 / 3;
const LEASE: u64 = 12;
const SILENCE: u64 = 40;
/// Between two sweeps.
const PAUSE: u64 = 6;
/// How long a schedule is watched, and how long after the session's end.
const LENGTH: u64 = T * 8;
const AFTER_END: u64 = T;

/// Steps between two movements of the clock, about.
const STEPS: u32 = 40;

/// A rule that is taken out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Plant {
    /// A ping is answered by the report that was on its way when it came.
    EarlierReport,
    /// The leader confirms what it has marked for closing.
    ConfirmsMarked,
    /// Whoever thinks that it leads confirms.
    NoLease,
    /// A leader confirms as soon as it is elected.
    BeforeFirstEntry,
    /// A new leader judges by what it heard when it led before.
    NoStartOver,
    /// A new leader grants the timeout, and no lease on top.
    NoExtraLease,
    /// A server without news goes on.
    NoBound,
    /// A server with news goes on with everybody.
    NoProof,
    /// An expiry is applied whoever leads by then.
    ExpiryOfAnyTerm,
    /// An expiry is applied whatever was written since.
    ExpiryDespiteWrites,
}

/// What came of a schedule.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// The promise that was broken.
    pub(super) broken: Option<String>,
    pub(super) proofs: u64,
    pub(super) elections: u64,
    pub(super) ended: u64,
    pub(super) voided: u64,
    pub(super) cut_off: u64,
}

impl Outcome {
    pub(super) fn add(&mut self, other: &Outcome) {
        self.proofs += other.proofs;
        self.elections += other.elections;
        self.ended += other.ended;
        self.voided += other.voided;
        self.cut_off += other.cut_off;
    }
}

/// The clock of one server: its own zero, and no movement but what the model makes.
struct ModelClock {
    ms: AtomicU64,
}

impl Clock for ModelClock {
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.ms.load(Ordering::SeqCst))
    }

    fn wall_ms(&self) -> i64 {
        0
    }
}

/// Whether a server confirms alone; the model carries reports itself.
struct Alone(AtomicBool);

impl Confirm for Alone {
    fn confirms_alone(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    fn confirm(
        &self,
        _sessions: Vec<SessionId>,
    ) -> BoxFuture<'static, Result<Vec<SessionId>, Unconfirmed>> {
        async { Err(Unconfirmed) }.boxed()
    }
}

struct Nobody;

impl ChangeSink for Nobody {
    fn change(&mut self, _: Zxid, _: EventType, _: &str, _: &[Acl]) {}
}

/// A request on its way to the log, and through it.
#[derive(Clone, Debug)]
struct Request {
    /// The server that took it, and proposes it until it is applied there.
    from: usize,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Open(Ticket),
    Attach(Ticket, SessionId),
    Write(Origin),
    Expire(SessionId, Judgement),
}

/// An entry; none of a request is the first of its term.
#[derive(Clone, Debug)]
struct Entry {
    term: u64,
    request: Option<Request>,
}

/// A report on its way.
enum Flight {
    /// To a server.
    To(Report, usize),
    /// That server has renewed what it names, under a lease or not.
    Renewed(Report, usize, Vec<SessionId>, bool),
    /// Back with its answer.
    Back(Report, Result<Vec<SessionId>, Unconfirmed>),
}

/// What the client sent on its connection, and when.
#[derive(Clone, Copy, Debug)]
enum Packet {
    Connect(u64),
    Ping(u64),
    Write(u64),
    Read,
}

/// The client's connection, at one server.
struct Link {
    at: usize,
    conn: Arc<Conn>,
    inbox: VecDeque<Packet>,
    /// Pings that wait for a report, as the line of a connection keeps them.
    pings: VecDeque<(u64, u64)>,
    writes: VecDeque<u64>,
    connect_sent: Option<u64>,
    last_answer: u64,
}

struct Server {
    offset: u64,
    clock: Arc<ModelClock>,
    alone: Arc<Alone>,
    sessions: Arc<Sessions>,
    reports: Arc<Reports>,
    state: Arc<State>,
    delivery: Delivery,
    applied: usize,
    applied_term: u64,
    elected: Option<u64>,
    leads: Option<u64>,
    lease_until: u64,
    /// A quorum's answer to the heartbeat of then is on its way.
    acked: Option<u64>,
    stalled_until: u64,
    cut_until: u64,
    queue: VecDeque<Request>,
    flight: Option<Flight>,
    sweep_at: u64,
}

impl Server {
    fn new(number: usize, offset: u64) -> Server {
        let clock = Arc::new(ModelClock {
            ms: AtomicU64::new(offset),
        });
        let number = u8::try_from(number).unwrap() + 1;
        let metrics = Arc::new(Metrics::default());
        let sessions = Sessions::new(number, 77, 1, clock.clone(), metrics);
        let alone = Arc::new(Alone(AtomicBool::new(false)));
        let bounds = Bounds {
            silence: Duration::from_millis(SILENCE),
            lease: Duration::from_millis(LEASE),
        };
        let reports = Reports::new(alone.clone(), bounds, clock.clone());
        sessions.join_ensemble(reports.clone());
        let state = Arc::new(State::new([7; 32]));
        let delivery = Delivery::new(sessions.clone(), state.clone());
        Server {
            offset,
            clock,
            alone,
            sessions,
            reports,
            state,
            delivery,
            applied: 0,
            applied_term: 0,
            elected: None,
            leads: None,
            lease_until: 0,
            acked: None,
            stalled_until: 0,
            cut_until: 0,
            queue: VecDeque::new(),
            flight: None,
            sweep_at: 0,
        }
    }
}

pub(super) struct World {
    rng: StdRng,
    plant: Option<Plant>,
    now: u64,
    servers: Vec<Server>,
    committed: Vec<Entry>,
    /// In the log of the latest leader, and not committed.
    pending: Vec<Entry>,
    latest: usize,
    term: u64,
    session: Option<SessionId>,
    link: Option<Link>,
    next_seq: u64,
    quiet_until: u64,
    /// When the youngest packet was sent that a released reply proved.
    proven: Option<u64>,
    over_at: Option<u64>,
    outcome: Outcome,
}

impl World {
    pub(super) fn new(seed: u64, plant: Option<Plant>) -> World {
        let mut rng = StdRng::seed_from_u64(seed);
        let servers = (0..3)
            .map(|number| Server::new(number, rng.random_range(1..10 * T)))
            .collect();
        World {
            rng,
            plant,
            now: 1,
            servers,
            committed: Vec::new(),
            pending: Vec::new(),
            latest: 0,
            term: 0,
            session: None,
            link: None,
            next_seq: 1,
            quiet_until: 0,
            proven: None,
            over_at: None,
            outcome: Outcome::default(),
        }
    }

    pub(super) fn run(mut self) -> Outcome {
        self.elect(0);
        while self.outcome.broken.is_none()
            && self.now < LENGTH
            && self.over_at.is_none_or(|over| self.now < over + AFTER_END)
        {
            if self.chance(STEPS) {
                self.pass_time();
                self.trouble();
            }
            self.step();
        }
        self.outcome
    }

    fn is_planted(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.rng.random_range(0..one_in) == 0
    }

    fn any(&mut self) -> usize {
        self.rng.random_range(0..3)
    }

    fn is_awake(&self, at: usize) -> bool {
        self.now >= self.servers[at].stalled_until
    }

    /// A server is about to act: it reads its clock.
    fn wake(&self, at: usize) {
        let server = &self.servers[at];
        server
            .clock
            .ms
            .store(self.now + server.offset, Ordering::SeqCst);
        let leased = self.now < server.lease_until || self.is_planted(Plant::NoLease);
        let alone = server.leads.is_some() && leased;
        server.alone.0.store(alone, Ordering::SeqCst);
    }

    fn local_now(&self, at: usize) -> Duration {
        self.servers[at].clock.monotonic()
    }

    fn pass_time(&mut self) {
        self.now += self.rng.random_range(1..4);
        for at in 0..3 {
            if self.is_awake(at) {
                self.guard(at);
            }
        }
        self.look_at_connection("is open");
    }

    /// What a server does by itself to protect its clients.
    fn guard(&mut self, at: usize) {
        self.wake(at);
        let server = &self.servers[at];
        let now = self.local_now(at);
        match self.plant {
            Some(Plant::NoBound) => {}
            Some(Plant::NoProof) => {
                if !server.sessions.is_fresh(now) {
                    server.sessions.close_clients(CloseReason::CutOff);
                }
            }
            _ => server.reports.close_stale(&server.sessions, now),
        }
        self.drop_closed();
    }

    fn may_answer(&self, link: &Link) -> bool {
        let sessions = &self.servers[link.at].sessions;
        let now = self.local_now(link.at);
        match self.plant {
            Some(Plant::NoBound) => true,
            Some(Plant::NoProof) => sessions.is_fresh(now),
            _ => sessions.may_answer(&link.conn, now),
        }
    }

    fn drop_closed(&mut self) {
        let Some(link) = &self.link else { return };
        let fate = link.conn.outbox().fate();
        if fate == Fate::Open {
            return;
        }
        if fate == Fate::Close(CloseReason::CutOff) {
            self.outcome.cut_off += 1;
        }
        self.hang_up();
    }

    fn hang_up(&mut self) {
        if let Some(link) = self.link.take() {
            self.servers[link.at].sessions.remove(&link.conn);
        }
    }

    /// A reply leaves that proves the packet sent at `sent`.
    fn release(&mut self, sent: u64, what: &str) {
        self.outcome.proofs += 1;
        self.proven = self.proven.max(Some(sent));
        self.answered(what);
        if let Some(over) = self.over_at
            && sent + T > self.now
        {
            self.broken(format!(
                "{what} sent at {sent} is answered at {}; the session was over at {over}",
                self.now
            ));
        }
    }

    fn answered(&mut self, what: &str) {
        if let Some(link) = &mut self.link {
            link.last_answer = self.now;
        }
        self.look_at_connection(what);
    }

    fn look_at_connection(&mut self, what: &str) {
        let Some(over) = self.over_at else { return };
        let Some(link) = &self.link else { return };
        let believes = link.conn.attachment.get().is_some()
            && self.now < link.last_answer + READ_TIMEOUT
            && self.now > over
            && self.is_awake(link.at);
        if believes {
            let at = link.at;
            self.broken(format!(
                "{what}: at {} server {at} still serves a session that was over at {over}",
                self.now
            ));
        }
    }

    fn broken(&mut self, what: String) {
        self.outcome.broken.get_or_insert(what);
    }

    fn over(&mut self) {
        if self.over_at.is_some() {
            return;
        }
        self.over_at = Some(self.now);
        self.outcome.ended += 1;
        if let Some(sent) = self.proven
            && sent + T > self.now
        {
            self.broken(format!(
                "over at {}, and the packet sent at {sent} was confirmed",
                self.now
            ));
        }
    }

    /// What happens once in a while, whatever else does.
    fn trouble(&mut self) {
        let at = self.any();
        match self.rng.random_range(0..600) {
            0..4 => self.stall(at),
            4..9 => self.servers[at].cut_until = self.now + self.rng.random_range(1..2 * T),
            9..13 => self.elect(at),
            13..16 => self.quiet_until = self.now + self.rng.random_range(1..2 * T),
            16..20 if self.now > self.quiet_until => self.hang_up(),
            20..50 => self.learn(at),
            50..150 => self.client_sends(),
            _ => {}
        }
    }

    /// Something that is on its way gets one step further.
    fn step(&mut self) {
        let at = self.any();
        match self.rng.random_range(0..200) {
            0..10 => self.quorum_answers(),
            10..30 => self.commit(),
            _ if !self.is_awake(at) => {}
            30..50 => self.server_reads(at),
            50..95 => self.report(at),
            95..115 => self.propose(at),
            115..150 => self.apply(at),
            150..160 => self.take_lease(at),
            160..168 => self.begin(at),
            168..185 => self.judge(at),
            _ => self.server_reads(self.link.as_ref().map_or(at, |link| link.at)),
        }
    }

    fn stall(&mut self, at: usize) {
        self.servers[at].stalled_until = self.now + self.rng.random_range(1..T + T / 2);
    }

    fn apply(&mut self, at: usize) {
        let Some(entry) = self.committed.get(self.servers[at].applied).cloned() else {
            return;
        };
        // News of what is committed comes from the leader.
        if at != self.latest && self.now < self.servers[at].cut_until {
            return;
        }
        self.wake(at);
        let any_term = self.is_planted(Plant::ExpiryOfAnyTerm);
        let server = &mut self.servers[at];
        server.applied += 1;
        if entry.term > server.applied_term {
            server.applied_term = entry.term;
            server.state.begin_epoch(entry.term);
        }
        let Some(request) = entry.request else { return };
        let caller = CallerBuf::new(&[], true);
        let timeout_ms = i32::try_from(T).unwrap();
        let (origin, txn) = match request.what {
            What::Open(ticket) => (Origin::default(), Txn::OpenSession { ticket, timeout_ms }),
            What::Attach(ticket, session) => {
                let txn = Txn::Attach {
                    ticket,
                    session,
                    timeout_ms,
                };
                (Origin::default(), txn)
            }
            What::Write(origin) => {
                let set = Op::SetData {
                    path: "/".into(),
                    data: None,
                    version: Version(-1),
                    enforce_quota: false,
                };
                (origin, Txn::Op(set))
            }
            What::Expire(session, judged) => {
                (Origin::default(), Txn::ExpireSession { session, judged })
            }
        };
        let outdated = match &txn {
            Txn::ExpireSession { judged, .. } => judged.is_outdated_in(entry.term) && !any_term,
            _ => false,
        };
        let proposal = Proposal {
            origin,
            caller: caller.as_caller(),
            txn,
        };
        let verdict = if outdated {
            Verdict::Void
        } else {
            server.state.apply(0, &proposal, &mut Nobody)
        };
        server.delivery.outcome(&proposal, &verdict);
        server.delivery.turn_done();
        match verdict {
            // An open that was repeated, or whose client had gone, leaves an orphan: not the client's.
            Verdict::Closed { session, .. } if self.session == Some(session) => self.over(),
            Verdict::Void => self.outcome.voided += 1,
            _ => {}
        }
        self.release_applied(at);
        self.drop_closed();
    }
}
