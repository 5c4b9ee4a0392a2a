//! One server: the real rooms of Quorate around the model's log.
//!
//! Something happens to it, then [`Server::pump`] carries on all that follows from that at once:
//! applies what is committed, takes on its role, has the queue send, answers what can be answered.
//! What leaves the server is an [`Effect`].

mod links;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use quorate_proto::{Acl, EventType, SessionId, Zxid};

use self::links::{Carried, Visitor};
pub(super) use self::links::{Proof, Way};
use super::clock::ServerClock;
use super::desk::Held;
use super::raft::{Message, Raft};
use super::{LEASE, PATIENCE, Plant, RETRY, SILENCE, T, TICK};
use crate::clock::Clock as _;
use crate::metrics::Metrics;
use crate::replication::{Bare, Confirmer, Deliver, Departure, Role, body};
use crate::sessions::{Bounds, CloseReason, Confirm, Delivery, Reports, Sessions, Unconfirmed};
use crate::tree::txn::{Origin, Proposal, Txn, Verdict};
use crate::tree::{CallerBuf, State};

/// A link for requests, between a courier and its leader.
pub(super) type LinkId = u64;
/// A client's connection.
pub(super) type ConnId = u64;

/// What leaves a server.
pub(super) enum Effect {
    Send {
        to: usize,
        message: Message,
    },
    Open {
        link: LinkId,
        to: usize,
    },
    Frame {
        link: LinkId,
        to: usize,
        message: Bytes,
    },
    Close {
        link: LinkId,
        to: usize,
    },
    Sync {
        upto: usize,
        generation: u64,
    },
    Reply {
        conn: ConnId,
        bytes: Bytes,
    },
    HangUp {
        conn: ConnId,
    },
    Applied {
        index: usize,
        digest: u64,
    },
    Expired(SessionId),
    Broken(String),
}

/// Whether this server confirms alone, as its lease says.
#[derive(Default)]
struct Alone {
    confirmer: OnceLock<Arc<Confirmer>>,
    /// A planted fault has the clock ahead, and keeps the lease.
    planted: AtomicBool,
}

impl Confirm for Alone {
    fn confirms_alone(&self) -> bool {
        let alone = |confirmer: &Arc<Confirmer>| confirmer.alone();
        self.planted.load(Ordering::Relaxed) || self.confirmer.get().is_some_and(alone)
    }

    fn confirm(
        &self,
        _: Vec<SessionId>,
    ) -> BoxFuture<'static, Result<Vec<SessionId>, Unconfirmed>> {
        // The simulation carries reports itself.
        async { Err(Unconfirmed) }.boxed()
    }
}

/// Delivers, and keeps in mind which sessions expired.
struct Told {
    delivery: Delivery,
    expired: Arc<Mutex<Vec<SessionId>>>,
}

impl Deliver for Told {
    fn change(&mut self, zxid: Zxid, event: EventType, path: &str, acl: &[Acl]) {
        self.delivery.change(zxid, event, path, acl);
    }

    fn outcome(&mut self, proposal: &Proposal<'_>, verdict: &Verdict) {
        if let (Verdict::Closed { session, .. }, Txn::ExpireSession { .. }) =
            (verdict, &proposal.txn)
        {
            self.expired.lock().push(*session);
        }
        self.delivery.outcome(proposal, verdict);
    }

    fn turn_done(&mut self) {
        self.delivery.turn_done();
    }

    fn skipped(&mut self) {
        self.delivery.skipped();
    }

    fn lost(&mut self) {
        self.delivery.lost();
    }
}

/// An entry that the queue handed to the engine.
struct Flight {
    number: u64,
    index: usize,
    term: u64,
}

/// See the module.
pub(super) struct Server {
    pub(super) at: usize,
    pub(super) clock: Arc<ServerClock>,
    pub(super) raft: Raft,
    pub(super) life: Option<Life>,
    pub(super) effects: Vec<Effect>,
    first: Bytes,
    boots: u64,
    next_link: LinkId,
    plant: Option<Plant>,
}

/// What a server has in its memory.
pub(super) struct Life {
    pub(super) boot: u64,
    pub(super) bare: Bare,
    pub(super) state: Arc<State>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) conns: BTreeMap<ConnId, Held>,
    pub(super) way: Option<Way>,
    reports: Arc<Reports>,
    alone: Arc<Alone>,
    expired: Arc<Mutex<Vec<SessionId>>>,
    pub(super) next: usize,
    applied_term: u64,
    flights: VecDeque<Flight>,
    visitors: BTreeMap<LinkId, Visitor>,
    carried: Option<Carried>,
    sweep_at: Duration,
    dial_at: Duration,
    judge_at: Duration,
    led: Option<u64>,
}

impl Server {
    pub(super) fn new(
        at: usize,
        clock: Arc<ServerClock>,
        mut raft: Raft,
        first: Bytes,
        plant: Option<Plant>,
    ) -> Server {
        if plant == Some(Plant::ReplyBeforeSync) {
            raft.ack_unsynced();
        }
        let mut server = Server {
            at,
            clock,
            raft,
            life: None,
            effects: Vec::new(),
            first,
            boots: 0,
            next_link: 1,
            plant,
        };
        server.start();
        server
    }

    pub(super) fn is_planted(&self, plant: Plant) -> bool {
        self.plant == Some(plant)
    }

    pub(super) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// The power comes: what is synced is there.
    pub(super) fn start(&mut self) {
        let now = self.now();
        self.raft.crash(now);
        self.boots += 1;
        let number = u8::try_from(self.at).unwrap() + 1;
        let metrics = Arc::new(Metrics::default());
        let tick_ms = u64::try_from(TICK.as_millis()).unwrap();
        let sessions = Sessions::new(number, self.boots, tick_ms, self.clock.clone(), metrics);
        let alone = Arc::new(Alone::default());
        let bounds = Bounds {
            silence: SILENCE,
            lease: LEASE,
        };
        let reports = Reports::new(alone.clone(), bounds, self.clock.clone());
        sessions.join_ensemble(reports.clone());
        let state = Arc::new(State::new([7; 32]));
        let expired = Arc::default();
        let told = Told {
            delivery: Delivery::new(sessions.clone(), state.clone()),
            expired: Arc::clone(&expired),
        };
        let judge: Weak<Sessions> = Arc::downgrade(&sessions);
        let (told, clock) = (Box::new(told), self.clock.clone());
        let mut bare = Bare::new(state.clone(), told, judge, LEASE, clock);
        let _ = alone.confirmer.set(bare.confirmer().clone());
        bare.apply(0, 0, Some(&self.first))
            .expect("it is well formed");
        self.life = Some(Life {
            boot: self.boots,
            bare,
            state,
            sessions,
            conns: BTreeMap::new(),
            way: None,
            reports,
            alone,
            expired,
            next: 1,
            applied_term: 0,
            flights: VecDeque::new(),
            visitors: BTreeMap::new(),
            carried: None,
            sweep_at: now,
            dial_at: now,
            judge_at: now + TICK,
            led: None,
        });
        self.pump();
    }

    /// The power goes.
    pub(super) fn stop(&mut self) {
        let Some(life) = self.life.take() else { return };
        for &conn in life.conns.keys() {
            self.effects.push(Effect::HangUp { conn });
        }
        if let Some(way) = &life.way {
            let (link, to) = (way.link, way.to);
            self.effects.push(Effect::Close { link, to });
        }
        for (&link, visitor) in &life.visitors {
            let to = visitor.from;
            self.effects.push(Effect::Close { link, to });
        }
        self.raft.take_out();
    }

    /// Time has passed.
    pub(super) fn tick(&mut self) {
        let now = self.now();
        self.raft.tick(now);
        self.pump();
        self.judge();
        let Some(life) = &mut self.life else { return };
        if self.plant != Some(Plant::CutOffAnswers) {
            life.reports.close_stale(&life.sessions, now);
        }
        // A courier whose questions stay unanswered looks for another way.
        let overdue = |way: &Way| way.asked.front().is_some_and(|at| now > *at + PATIENCE);
        if life.way.as_ref().is_some_and(overdue) {
            self.close_way(now + RETRY);
        }
        self.pump();
    }

    /// All that follows from what happened.
    pub(super) fn pump(&mut self) {
        if self.life.is_none() {
            return;
        }
        loop {
            self.apply();
            self.turn();
            self.dial();
            if !self.depart() {
                break;
            }
        }
        self.welcome();
        self.report();
        self.desk();
        for (to, message) in self.raft.take_out() {
            self.effects.push(Effect::Send { to, message });
        }
        if let Some((upto, generation)) = self.raft.unsynced() {
            self.effects.push(Effect::Sync { upto, generation });
        }
    }

    fn apply(&mut self) {
        let Some(life) = &mut self.life else { return };
        while life.next <= self.raft.commit() {
            let index = life.next;
            let entry = self.raft.entry(index).expect("committed").clone();
            let requests = match &entry.requests {
                Some(requests) if self.plant == Some(Plant::AppliedTwice) => {
                    Some(without_dedupe(&life.state, requests))
                }
                requests => requests.clone(),
            };
            let applied = life
                .bare
                .apply(index as u64, entry.term, requests.as_deref());
            match applied {
                Ok(digest) => self.effects.push(Effect::Applied { index, digest }),
                Err(error) => self.effects.push(Effect::Broken(error)),
            }
            life.next += 1;
            life.applied_term = entry.term;
            for session in life.expired.lock().drain(..) {
                self.effects.push(Effect::Expired(session));
            }
            while let Some(flight) = life.flights.front()
                && flight.index <= index
            {
                life.bare.landed(flight.number, flight.term == entry.term);
                life.flights.pop_front();
            }
        }
        // What the engine took and lost: something else is there, or nothing.
        while let Some(flight) = life.flights.front()
            && self.raft.entry(flight.index).map(|entry| entry.term) != Some(flight.term)
        {
            life.bare.landed(flight.number, false);
            life.flights.pop_front();
        }
    }

    /// The role that the log gives, as the watcher sees it.
    fn turn(&mut self) {
        let Some(life) = &mut self.life else { return };
        let term = self.raft.term();
        let role = match self.raft.leader() {
            Some(_) if self.raft.leads() && life.applied_term == term => Role::Leading { term },
            Some(leader) if leader != self.at => Role::Following {
                leader: u8::try_from(leader).unwrap() + 1,
                term,
            },
            _ => Role::Looking,
        };
        let acked = self.raft.acked().map(|(_, sent)| sent + LEASE);
        let acked = acked.filter(|ends| *ends > self.clock.monotonic());
        let before = life.bare.role();
        life.bare.turn(role, acked);
        if before != role {
            self.close_way(Duration::ZERO);
        }
    }

    /// Has the queue send. True if something left.
    fn depart(&mut self) -> bool {
        let now = self.clock.monotonic();
        let Some(life) = &mut self.life else {
            return false;
        };
        if !life.bare.role().leads() && life.way.is_none() {
            return false;
        }
        match life.bare.depart(self.clock.wall_ms()) {
            None => false,
            Some(Departure::Entry { flight, body }) => {
                let index = self.raft.propose(body, now);
                life.flights.push_back(Flight {
                    number: flight,
                    index,
                    term: self.raft.term(),
                });
                true
            }
            Some(Departure::Frame { number, message }) => {
                let way = life.way.as_mut().expect("looked at above");
                way.questions.sent(number);
                let (link, to) = (way.link, way.to);
                self.effects.push(Effect::Frame { link, to, message });
                true
            }
        }
    }

    /// Ends what was silent for too long, as the node's periodic task does.
    fn judge(&mut self) {
        let now = self.clock.monotonic();
        let Some(life) = &mut self.life else { return };
        if now > life.judge_at + 2 * TICK {
            // It stood still.
            life.sessions.stood_still();
        }
        if now < life.judge_at {
            return;
        }
        life.judge_at = now + TICK;
        let leads = match life.bare.role() {
            Role::Leading { term } => Some(term),
            Role::Looking | Role::Following { .. } => None,
        };
        if leads != life.led {
            match leads {
                Some(term) => life.sessions.begin_term(term, &life.state),
                None => life.sessions.end_term(),
            }
            life.led = leads;
        }
        let Some(term) = leads else { return };
        if self.plant == Some(Plant::ExpiresEarly) {
            self.clock.set_ahead(T / 2);
            life.alone.planted.store(true, Ordering::Relaxed);
        }
        let mut overdue = life.sessions.overdue(term);
        self.clock.set_ahead(Duration::ZERO);
        life.alone.planted.store(false, Ordering::Relaxed);
        // They come in the order of a hash map.
        overdue.sort_unstable_by_key(|over| over.session);
        for over in overdue {
            let (session, judged) = (over.session, over.judged);
            let caller = CallerBuf::new(&[], true);
            let expiry = Proposal {
                origin: Origin::default(),
                caller: caller.as_caller(),
                txn: Txn::ExpireSession { session, judged },
            };
            if life.bare.queue.push_in_term(term, &expiry).is_err() {
                life.sessions.not_expired(session, judged);
            }
        }
    }

    /// Has a write in the queue.
    pub(super) fn push(&mut self, origin: Origin, txn: Txn<'_>) -> bool {
        let caller = CallerBuf::new(&[], true);
        let proposal = Proposal {
            origin,
            caller: caller.as_caller(),
            txn,
        };
        let life = self.life.as_ref();
        life.is_some_and(|life| life.bare.queue.push(&proposal).is_ok())
    }

    /// Whether this server may tell clients anything: to itself, the planted fault says yes.
    pub(super) fn is_fresh(&self) -> bool {
        let fresh = |life: &Life| life.sessions.is_fresh(self.clock.monotonic());
        self.is_planted(Plant::CutOffAnswers) || self.life.as_ref().is_some_and(fresh)
    }

    /// Closes a connection.
    pub(super) fn hang_up(&mut self, conn: ConnId) {
        let Some(life) = &mut self.life else { return };
        if let Some(held) = life.conns.remove(&conn) {
            held.conn.close(CloseReason::Shutdown);
            life.sessions.remove(&held.conn);
            self.effects.push(Effect::HangUp { conn });
        }
    }
}

/// The requests as a state would take them that does not count: one that came before is another.
fn without_dedupe(state: &State, requests: &Bytes) -> Bytes {
    let mut last: BTreeMap<SessionId, u64> = BTreeMap::new();
    body::change(requests, |proposal| {
        let Origin { session, seq, .. } = proposal.origin;
        let Some(info) = state.session(session) else {
            return;
        };
        let last = last.entry(session).or_insert(info.last_seq);
        if proposal.origin.attach == info.attach && seq <= *last {
            proposal.origin.seq = *last + 1;
        }
        *last = (*last).max(proposal.origin.seq);
    })
}
