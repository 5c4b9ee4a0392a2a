//! The events of a schedule, in the order of the true time, and what is checked as they happen.

mod checks;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use bytes::Bytes;
use quorate_proto::SessionId;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::client::{Act, COUNTERS, Client, EPHEMERALS, PARENTS, REGISTERS, create_op};
use super::clock::{ServerClock, Time, TrueTime};
use super::desk::Packet;
use super::faults::Faults;
use super::history::PAIR;
use super::raft::{Entry, Message, Raft};
use super::server::{ConnId, Effect, LinkId, Server};
use super::{DRIFT_PPM, Plant, TICK};
use crate::replication::body;
use crate::tree::CallerBuf;
use crate::tree::txn::{CreateKind, Origin, Proposal, Ticket, Txn};

const CLIENTS: usize = 5;
/// How long clients work and faults happen; then all is repaired.
const WORK: Time = 3_500_000;
/// How long everything may take to come to rest.
const REST: Time = 4_000_000;

/// What came of a schedule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The promise that was broken.
    pub(super) broken: Option<String>,
    /// Of all that happened, in order.
    pub(super) trace: u64,
    pub(super) events: u64,
    pub(super) calls: usize,
    pub(super) entries: usize,
    pub(super) elections: u64,
    pub(super) expired: usize,
    pub(super) proofs: u64,
    pub(super) locks: u64,
    pub(super) resent: u64,
}

pub(super) enum Event {
    Tick {
        at: usize,
        boot: u64,
    },
    Deliver {
        from: usize,
        to: usize,
        message: Message,
    },
    Synced {
        at: usize,
        boot: u64,
        upto: usize,
        generation: u64,
    },
    Opened {
        link: LinkId,
        from: usize,
        to: usize,
    },
    Frame {
        link: LinkId,
        from: usize,
        to: usize,
        message: Bytes,
    },
    Closed {
        link: LinkId,
        to: usize,
    },
    Packet {
        conn: ConnId,
        packet: Packet,
    },
    Left {
        conn: ConnId,
    },
    Reply {
        conn: ConnId,
        bytes: Bytes,
    },
    HungUp {
        conn: ConnId,
    },
    Client {
        number: usize,
    },
    Start {
        at: usize,
    },
    Fault,
    Repair(u64),
}

struct Timed {
    at: Time,
    order: u64,
    event: Event,
}

impl PartialEq for Timed {
    fn eq(&self, other: &Timed) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Timed {}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Timed) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timed {
    fn cmp(&self, other: &Timed) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// See the module.
pub(super) struct World {
    pub(super) rng: StdRng,
    pub(super) time: TrueTime,
    events: BinaryHeap<Reverse<Timed>>,
    order: u64,
    stamps: u64,
    pub(super) servers: Vec<Server>,
    pub(super) clients: Vec<Client>,
    pub(super) faults: Faults,
    /// Where clients' connections go; boot of the server.
    conns: BTreeMap<ConnId, (usize, u64)>,
    /// When the last thing arrives that was sent on a stream: nothing overtakes it.
    streams: BTreeMap<(u64, usize), Time>,
    /// Directions of links in which something was lost: nothing comes behind it.
    dead: BTreeSet<(LinkId, usize)>,
    /// What the disk is asked for.
    syncing: Vec<Option<(usize, u64)>>,
    digests: Vec<u64>,
    over: BTreeMap<SessionId, Time>,
    trace: DefaultHasher,
    outcome: Outcome,
    terms: u64,
}

/// The entry that all servers begin with.
fn first_entry() -> Bytes {
    let caller = CallerBuf::new(&[], true);
    let session = SessionId(1);
    let timeout_ms = 1000;
    let ticket = Ticket {
        server: 0,
        boot: 0,
        count: 0,
    };
    let proposal = |seq, txn| Proposal {
        origin: match seq {
            0 => Origin::default(),
            seq => Origin {
                session,
                attach: 1,
                seq,
            },
        },
        caller: caller.as_caller(),
        txn,
    };
    let mut all = vec![proposal(0, Txn::OpenSession { ticket, timeout_ms })];
    let create = |path: &str, data| create_op(path, data, CreateKind::Persistent, false);
    // What is set in one step was created in one.
    let pair = PAIR.map(|path| create(path, "")).to_vec();
    all.push(proposal(1, Txn::Multi(pair)));
    let empty = REGISTERS.iter().chain(&PARENTS).chain([&EPHEMERALS]);
    let nodes = empty.map(|path| (*path, ""));
    let nodes = nodes.chain(COUNTERS.iter().map(|path| (*path, "0")));
    for (seq, (path, data)) in (2..).zip(nodes) {
        all.push(proposal(seq, Txn::Op(create(path, data))));
    }
    let next = all.len() as u64;
    all.push(proposal(next, Txn::CloseSession));
    body::of(0, &all)
}

impl World {
    pub(super) fn new(seed: u64, plant: Option<Plant>) -> World {
        let mut rng = StdRng::seed_from_u64(seed);
        let time = TrueTime::default();
        let voters = if rng.random_range(0..4) == 0 { 5 } else { 3 };
        let first = first_entry();
        let servers: Vec<Server> = (0..voters)
            .map(|at| {
                let zero = Duration::from_millis(rng.random_range(1_000..100_000));
                let drift = rng.random_range(-DRIFT_PPM..=DRIFT_PPM);
                let clock = ServerClock::new(time.clone(), zero, drift);
                let entry = Entry {
                    term: 0,
                    requests: Some(first.clone()),
                };
                let own = StdRng::seed_from_u64(rng.random());
                let raft = Raft::new(at, voters, entry, own);
                Server::new(at, clock, raft, first.clone(), plant)
            })
            .collect();
        let clients = (0..CLIENTS)
            .map(|number| Client::new(number, StdRng::seed_from_u64(rng.random())))
            .collect();
        let faults = Faults::new(voters, &mut rng);
        let mut world = World {
            syncing: vec![None; voters],
            rng,
            time,
            events: BinaryHeap::new(),
            order: 0,
            stamps: 0,
            servers,
            clients,
            faults,
            conns: BTreeMap::new(),
            streams: BTreeMap::new(),
            dead: BTreeSet::new(),
            digests: Vec::new(),
            over: BTreeMap::new(),
            trace: DefaultHasher::new(),
            outcome: Outcome::default(),
            terms: 0,
        };
        for at in 0..voters {
            let boot = world.boot(at);
            let wait = world.rng.random_range(0..10_000);
            world.after(wait, Event::Tick { at, boot });
        }
        for number in 0..CLIENTS {
            let wait = world.rng.random_range(0..100_000);
            world.after(wait, Event::Client { number });
        }
        world.after(300_000, Event::Fault);
        world
    }

    pub(super) fn run(mut self) -> Outcome {
        while self.now() < WORK && self.outcome.broken.is_none() {
            self.step();
        }
        self.repair_all();
        // Calls that wait for a server that does not answer have an end, too, and none begins.
        while self.now() < WORK + REST && self.outcome.broken.is_none() && !self.is_at_rest() {
            self.step();
        }
        if self.outcome.broken.is_some() {
            self.outcome.trace = self.trace.finish();
            return self.outcome;
        }
        self.finish()
    }

    /// Whether nobody waits, one leads all, and all have applied all that there is.
    fn is_at_rest(&self) -> bool {
        let mut rafts = self.servers.iter().map(|server| &server.raft);
        let Some(leader) = rafts.find(|raft| raft.leads()) else {
            return false;
        };
        let last = leader.last();
        let follows = |server: &Server| {
            let applied = server.life.as_ref().map(|life| life.next);
            server.raft.term() == leader.term() && applied == Some(last + 1)
        };
        self.clients.iter().all(Client::is_idle) && self.servers.iter().all(follows)
    }

    fn last_commit(&self) -> usize {
        let commits = self.servers.iter().map(|server| server.raft.commit());
        commits.max().unwrap_or(0)
    }

    pub(super) fn now(&self) -> Time {
        self.time.now()
    }

    pub(super) fn works(&self) -> bool {
        self.now() < WORK
    }

    fn boot(&self, at: usize) -> u64 {
        self.servers[at].life.as_ref().map_or(0, |life| life.boot)
    }

    pub(super) fn after(&mut self, wait: Time, event: Event) {
        let at = self.now() + wait;
        self.at(at, event);
    }

    fn at(&mut self, at: Time, event: Event) {
        self.order += 1;
        let order = self.order;
        self.events.push(Reverse(Timed { at, order, event }));
    }

    fn broken(&mut self, what: String) {
        self.outcome.broken.get_or_insert(what);
    }

    fn step(&mut self) {
        let Some(Reverse(Timed { at, order, event })) = self.events.pop() else {
            // Nothing would ever happen again: servers tick for ever.
            self.time.set(Time::MAX / 2);
            return;
        };
        self.time.set(at);
        // Whoever stands still finds everything when it goes on, in order.
        if let Some(server) = self.whose(&event)
            && let Some(until) = self.faults.stalled(server, at)
        {
            self.at(until, event);
            return;
        }
        self.outcome.events += 1;
        (at, order).hash(&mut self.trace);
        self.happens(event);
    }

    fn whose(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Tick { at, .. } | Event::Synced { at, .. } => Some(*at),
            Event::Deliver { to, .. }
            | Event::Opened { to, .. }
            | Event::Frame { to, .. }
            | Event::Closed { to, .. } => Some(*to),
            Event::Packet { conn, .. } | Event::Left { conn } => {
                self.conns.get(conn).map(|(at, _)| *at)
            }
            _ => None,
        }
    }

    fn happens(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Tick { at, boot } => {
                if self.boot(at) == boot {
                    self.servers[at].tick();
                    let tick = u64::try_from(TICK.as_micros()).unwrap();
                    self.after(tick, Event::Tick { at, boot });
                    self.effects(at);
                }
            }
            Event::Deliver { from, to, message } => {
                if self.servers[to].life.is_some() && !self.faults.is_cut(from, to) {
                    let local = self.servers[to].now();
                    self.servers[to].raft.receive(from, message, local);
                    self.servers[to].pump();
                    self.effects(to);
                }
            }
            Event::Synced {
                at,
                boot,
                upto,
                generation,
            } => {
                if self.boot(at) == boot {
                    self.syncing[at] = None;
                    self.servers[at].raft.synced(upto, generation);
                    self.servers[at].pump();
                    self.effects(at);
                }
            }
            Event::Opened { link, from, to } => {
                if self.arrives(link, from, to) {
                    self.servers[to].opened(link, from);
                    self.effects(to);
                }
            }
            Event::Frame {
                link,
                from,
                to,
                message,
            } => {
                if self.arrives(link, from, to) {
                    message.hash(&mut self.trace);
                    self.servers[to].came(link, message);
                    self.effects(to);
                }
            }
            Event::Closed { link, to } => {
                self.servers[to].closed(link);
                self.effects(to);
            }
            Event::Packet { conn, packet } => {
                if let Some(at) = self.serves(conn) {
                    self.servers[at].read(conn, packet);
                    self.effects(at);
                } else {
                    self.after(100, Event::HungUp { conn });
                }
            }
            Event::Left { conn } => {
                if let Some(at) = self.serves(conn) {
                    self.servers[at].left(conn);
                    self.effects(at);
                }
            }
            Event::Reply { conn, bytes } => {
                bytes.hash(&mut self.trace);
                self.told(conn, Some(&bytes));
            }
            Event::HungUp { conn } => self.told(conn, None),
            Event::Client { number } => {
                let works = self.works();
                self.clients[number].tick(now, works, &mut stamps(&mut self.stamps, now));
                self.acts(number);
                self.after(4_000, Event::Client { number });
            }
            Event::Start { at } => {
                if self.servers[at].life.is_none() {
                    self.servers[at].start();
                    let boot = self.boot(at);
                    self.after(0, Event::Tick { at, boot });
                    self.effects(at);
                }
            }
            Event::Fault => {
                if self.works() {
                    self.fault();
                }
            }
            Event::Repair(number) => self.faults.repair(number),
        }
    }

    /// Whether what was sent on a link gets there.
    fn arrives(&mut self, link: LinkId, from: usize, to: usize) -> bool {
        if self.faults.is_cut(from, to) {
            self.dead.insert((link, to));
        }
        self.servers[to].life.is_some() && !self.dead.contains(&(link, to))
    }

    fn serves(&self, conn: ConnId) -> Option<usize> {
        let (at, boot) = *self.conns.get(&conn)?;
        (self.boot(at) == boot).then_some(at)
    }

    /// When something arrives that leaves now on a stream.
    fn on_stream(&mut self, stream: u64, to: usize) -> Time {
        let wait = self.faults.delay(&mut self.rng);
        let at = self.now() + wait;
        let last = self.streams.entry((stream, to)).or_default();
        *last = at.max(*last);
        *last
    }

    /// What left a server.
    pub(super) fn effects(&mut self, from: usize) {
        for effect in std::mem::take(&mut self.servers[from].effects) {
            match effect {
                Effect::Send { to, message } => {
                    for wait in self.faults.journey(&mut self.rng) {
                        let message = message.clone();
                        self.after(wait, Event::Deliver { from, to, message });
                    }
                }
                Effect::Open { link, to } => {
                    let at = self.on_stream(link, to);
                    self.at(at, Event::Opened { link, from, to });
                }
                Effect::Frame { link, to, message } => {
                    let at = self.on_stream(link, to);
                    let event = Event::Frame {
                        link,
                        from,
                        to,
                        message,
                    };
                    self.at(at, event);
                }
                Effect::Close { link, to } => {
                    let at = self.on_stream(link, to);
                    if !self.faults.is_cut(from, to) {
                        self.at(at, Event::Closed { link, to });
                    }
                }
                Effect::Sync { upto, generation } => {
                    if self.syncing[from].is_none() {
                        self.syncing[from] = Some((upto, generation));
                        let wait = self.faults.disk(from, &mut self.rng);
                        let event = Event::Synced {
                            at: from,
                            boot: self.boot(from),
                            upto,
                            generation,
                        };
                        self.after(wait, event);
                    }
                }
                Effect::Reply { conn, bytes } => {
                    let at = self.on_stream(conn, usize::MAX);
                    self.at(at, Event::Reply { conn, bytes });
                }
                Effect::HangUp { conn } => {
                    let at = self.on_stream(conn, usize::MAX);
                    self.at(at, Event::HungUp { conn });
                }
                Effect::Applied { index, digest } => self.applied(from, index, digest),
                Effect::Expired(session) => self.expired(session),
                Effect::Broken(what) => self.broken(format!("server {from}: {what}")),
            }
        }
        if let Some(index) = self.servers[from].raft.taken_back {
            self.broken(format!(
                "server {from} takes back entry {index}, which was committed"
            ));
        }
        let term = self.servers[from].raft.term();
        if self.servers[from].raft.leads() && term > self.terms {
            self.terms = term;
            self.outcome.elections += 1;
        }
    }

    /// A server's power goes, and comes again a while later.
    pub(super) fn crash(&mut self, at: usize, wait: Time) {
        if self.servers[at].life.is_none() {
            return;
        }
        self.servers[at].stop();
        self.syncing[at] = None;
        self.effects(at);
        self.after(wait, Event::Start { at });
    }

    /// Something came to a client, or its connection broke.
    fn told(&mut self, conn: ConnId, bytes: Option<&Bytes>) {
        let now = self.now();
        let number = usize::try_from(conn >> 32).unwrap();
        if self.clients[number].conn() != Some(conn) {
            return;
        }
        // Whoever is quiet stands still: it finds this later.
        let quiet_until = self.clients[number].quiet_until;
        if now < quiet_until {
            let bytes = bytes.cloned();
            let event = match bytes {
                Some(bytes) => Event::Reply { conn, bytes },
                None => Event::HungUp { conn },
            };
            self.at(quiet_until, event);
            return;
        }
        let client = &mut self.clients[number];
        match bytes {
            Some(bytes) => client.receive(now, bytes, &mut stamps(&mut self.stamps, now)),
            None => client.disconnected(now, &mut stamps(&mut self.stamps, now)),
        }
        if let Some(what) = self.clients[number].broken.take() {
            self.broken(format!("client {number}: {what}"));
        }
        self.believes(number, "an answer comes");
        self.acts(number);
    }

    fn acts(&mut self, number: usize) {
        for act in std::mem::take(&mut self.clients[number].acts) {
            match act {
                Act::Dial(conn) => {
                    let at = self.rng.random_range(0..self.servers.len());
                    self.conns.insert(conn, (at, self.boot(at)));
                }
                Act::Send(conn, packet) => {
                    let at = self.on_stream(conn, 0);
                    self.at(at, Event::Packet { conn, packet });
                }
                Act::HangUp(conn) => {
                    let at = self.on_stream(conn, 0);
                    self.at(at, Event::Left { conn });
                }
                Act::Locked => self.locked(number),
            }
        }
    }

    /// Breaks the connection of a client.
    pub(super) fn cut_client(&mut self, number: usize) {
        if let Some(conn) = self.clients[number].conn() {
            self.after(0, Event::HungUp { conn });
            self.after(500, Event::Left { conn });
        }
    }

    /// Breaks the link of a courier.
    pub(super) fn cut_way(&mut self, at: usize) {
        let way = self.servers[at]
            .life
            .as_ref()
            .and_then(|life| life.way.as_ref());
        if let Some((link, to)) = way.map(|way| (way.link, way.to)) {
            self.outcome.resent += 1;
            self.dead.extend([(link, at), (link, to)]);
            self.after(0, Event::Closed { link, to: at });
            let wait = self.rng.random_range(100..50_000);
            self.after(wait, Event::Closed { link, to });
        }
    }
}

/// Stamps that rise, in nanoseconds of the true time.
fn stamps(last: &mut u64, now: Time) -> impl FnMut() -> u64 + '_ {
    move || {
        *last = (*last + 1).max(now * 1000);
        *last
    }
}
