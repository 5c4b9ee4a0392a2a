//! Three servers, a fake engine, and links that break.

mod flapping;
mod links;

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use quorate_proto::{SessionId, Version};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::*;
use crate::peers::{Caller, Handler, Link, LinkReader, LinkWriter, Purpose};
use crate::replication::entry::Header;
use crate::replication::queue::{Landing, Next, QUEUE_BYTES_MAX};
use crate::replication::read_index::Oracle;
use crate::tree::CallerBuf;
use crate::tree::txn::{Op, Origin, Proposal, Txn};

pub(super) const PATIENCE: Patience = Patience {
    answer: Duration::from_millis(200),
    leader: Duration::from_secs(5),
};

pub(super) fn write(session: i64, seq: u64) -> (Origin, Txn<'static>) {
    let origin = Origin {
        session: SessionId(session),
        attach: 1,
        seq,
    };
    let set = Op::SetData {
        path: "/a".into(),
        data: Some(Cow::Borrowed(b"x")),
        version: Version::ANY,
        enforce_quota: false,
    };
    (origin, Txn::Op(set))
}

pub(super) fn encoded(requests: &[(Origin, Txn<'static>)]) -> Bytes {
    let caller = CallerBuf::new(&[], false);
    let mut out = BytesMut::new();
    for (origin, txn) in requests {
        let proposal = Proposal {
            origin: *origin,
            caller: caller.as_caller(),
            txn: txn.clone(),
        };
        proposal.encode(&mut out);
    }
    out.freeze()
}

/// One log for all. What a deposed leader has in flight is committed or discarded from some point
/// on, as a log is.
#[derive(Default)]
struct Engine {
    leader: Option<(u8, u64)>,
    /// What the leader has written and is not committed: whose flight, and the entry.
    tail: Vec<(Arc<ProposeQueue>, u64, Bytes)>,
    committed: u64,
    /// The newest write of each session.
    applied: HashMap<i64, u64>,
    duplicates: u64,
    gaps: Vec<Origin>,
}

impl Engine {
    fn write(
        &mut self,
        server: u8,
        term: u64,
        queue: &Arc<ProposeQueue>,
        flight: u64,
        body: Bytes,
    ) {
        if self.leader == Some((server, term)) {
            self.tail.push((queue.clone(), flight, body));
        } else {
            queue.landed(flight, Landing::Refused);
        }
    }

    fn commit(&mut self, count: usize) {
        for (queue, flight, body) in self.tail.drain(..count).collect::<Vec<_>>() {
            let (header, mut rest) = Header::split(0, &body).unwrap();
            for _ in 0..header.count {
                let proposal = Proposal::decode(&mut rest).unwrap();
                assert!(matches!(proposal.txn, Txn::Op(_)), "{proposal:?}");
                self.apply(proposal.origin);
            }
            assert!(rest.is_empty());
            self.committed += 1;
            queue.landed(flight, Landing::Applied);
        }
    }

    fn apply(&mut self, origin: Origin) {
        let last = self.applied.entry(origin.session.0).or_default();
        if origin.seq <= *last {
            self.duplicates += 1;
        } else if origin.seq == *last + 1 {
            *last = origin.seq;
        } else {
            self.gaps.push(origin);
        }
    }

    /// Of what the old leader has in flight, `kept` entries are committed.
    fn elect(&mut self, leader: Option<(u8, u64)>, kept: usize) {
        self.commit(kept.min(self.tail.len()));
        for (queue, flight, _) in std::mem::take(&mut self.tail) {
            queue.landed(flight, Landing::Refused);
        }
        self.leader = leader;
    }
}

type SharedEngine = Arc<Mutex<Engine>>;

/// Who renewed which sessions.
type Renewal = (u8, Vec<SessionId>);

/// A server's view of the engine.
#[derive(Clone)]
struct View {
    server: u8,
    engine: SharedEngine,
    renewed: Arc<Mutex<Vec<Renewal>>>,
}

impl Quorum for View {
    fn read_index(&self) -> BoxFuture<'_, Result<u64, Unproven>> {
        async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let engine = self.engine.lock();
            match engine.leader {
                Some((leader, _)) if leader == self.server => Ok(engine.committed),
                _ => Err(Unproven::NotNow),
            }
        }
        .boxed()
    }
}

impl Alone for View {
    fn valid(&self, term: u64) -> bool {
        self.engine.lock().leader == Some((self.server, term))
    }
}

impl Judge for View {
    fn renew(&self, sessions: &[SessionId]) -> Vec<SessionId> {
        self.renewed.lock().push((self.server, sessions.to_vec()));
        let unknown = sessions.iter().filter(|session| session.0 < 0);
        unknown.copied().collect()
    }

    fn start_over(&self, _lease: Duration) {}
}

/// What happens to links.
#[derive(Clone, Copy, Default)]
struct Weather {
    /// Of a thousand frames, so many are held up.
    late: u32,
    /// Of a thousand frames, so many are the last of their link.
    cut: u32,
    /// Of a thousand frames, so many come twice.
    repeated: u32,
    /// Of a thousand calls, so many are refused.
    refused: u32,
}

/// Reaches the clerks, through links with weather.
struct Wires {
    clerks: Mutex<HashMap<u8, Clerk>>,
    weather: Mutex<Weather>,
    dice: Mutex<StdRng>,
    tasks: TaskTracker,
}

impl Wires {
    fn new(seed: u64) -> Arc<Wires> {
        Arc::new(Wires {
            clerks: Mutex::default(),
            weather: Mutex::default(),
            dice: Mutex::new(StdRng::seed_from_u64(seed)),
            tasks: TaskTracker::new(),
        })
    }

    fn happens(&self, per_mille: impl Fn(Weather) -> u32) -> bool {
        let per_mille = per_mille(*self.weather.lock());
        self.dice.lock().random_range(0..1000) < per_mille
    }

    fn roll(&self, below: u64) -> u64 {
        self.dice.lock().random_range(0..below)
    }

    async fn carry(self: Arc<Self>, mut from: LinkReader, mut to: LinkWriter) {
        while let Ok(Some(frame)) = from.recv().await {
            if self.happens(|weather| weather.late) {
                let ms = self.roll(40);
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
            if self.happens(|weather| weather.cut) || to.send(&frame).await.is_err() {
                return;
            }
            if self.happens(|weather| weather.repeated) && to.send(&frame).await.is_err() {
                return;
            }
        }
    }
}

/// The calls of one server.
struct Caller1(u8, Arc<Wires>);

impl Call for Caller1 {
    fn call(&self, server: u8, purpose: Purpose) -> BoxFuture<'static, io::Result<Link>> {
        assert_eq!(purpose, Purpose::Requests);
        let (from, wires) = (self.0, self.1.clone());
        async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let clerk = wires.clerks.lock().get(&server).cloned();
            let refused = wires.happens(|weather| weather.refused);
            let Some(clerk) = clerk.filter(|_| !refused) else {
                return Err(io::ErrorKind::ConnectionRefused.into());
            };
            let (mine, near) = Link::pair();
            let (far, theirs) = Link::pair();
            let there = wires.clone().carry(near.reader, far.writer);
            let back = wires.clone().carry(far.reader, near.writer);
            // Either direction takes the other with it.
            wires.tasks.spawn(async move {
                tokio::select! { () = there => {} () = back => {} }
            });
            let caller = Caller {
                server: from,
                node: u64::from(from),
            };
            wires.tasks.spawn(clerk.handle(caller, theirs));
            Ok(mine)
        }
        .boxed()
    }
}

/// One server, without sessions and disk.
struct Server {
    queue: Arc<ProposeQueue>,
    role: watch::Sender<Role>,
    read_index: Arc<ReadIndex>,
    confirmer: Arc<Confirmer>,
    progress: Arc<Progress>,
    _judge: Arc<dyn Judge>,
}

impl Server {
    fn start(number: u8, view: View, wires: &Arc<Wires>, stop: &CancellationToken) -> Server {
        let queue = Arc::new(ProposeQueue::new(QUEUE_BYTES_MAX));
        let (role, following) = watch::channel(Role::Looking);
        let progress = Arc::new(Progress::default());
        progress.advance(0);
        let engine = view.engine.clone();
        let judge: Arc<dyn Judge> = Arc::new(view.clone());
        let forwarding = open(Surroundings {
            queue: queue.clone(),
            role: following.clone(),
            call: Arc::new(Caller1(number, wires.clone())),
            judge: Arc::downgrade(&judge),
            lease: Arc::new(view.clone()),
            progress: progress.clone(),
            patience: PATIENCE,
        });
        wires.clerks.lock().insert(number, forwarding.clerk);
        wires.tasks.spawn(steer(queue.clone(), following.clone()));
        let oracle = Oracle {
            quorum: Box::new(view),
            ensemble: Some((following, forwarding.errands)),
        };
        let (reads, stop) = (forwarding.read_index.clone(), stop.clone());
        wires
            .tasks
            .spawn(async move { reads.serve(oracle, stop, || Unavailable::Stopping).await });
        wires
            .tasks
            .spawn(drive(number, queue.clone(), engine, forwarding.courier));
        Server {
            queue,
            role,
            read_index: forwarding.read_index,
            confirmer: forwarding.confirmer,
            progress,
            _judge: judge,
        }
    }

    fn push(&self, session: i64, seq: u64) {
        let (origin, txn) = write(session, seq);
        let caller = CallerBuf::new(&[], false);
        let proposal = Proposal {
            origin,
            caller: caller.as_caller(),
            txn,
        };
        self.queue.push(&proposal).unwrap();
    }
}

/// The batcher, over the fake engine.
async fn drive(server: u8, queue: Arc<ProposeQueue>, engine: SharedEngine, mut courier: Courier) {
    loop {
        let way = queue.way();
        match way {
            Way::Link { leader, .. } => courier.follow(leader, way).await,
            Way::Nowhere => queue.turned(way).await,
            Way::Engine { term } => loop {
                let next = queue.next(way, |count| Header {
                    wall_ms: 0,
                    count,
                    applied: None,
                });
                match next {
                    Next::Send { flight, body } | Next::Resend { flight, body } => {
                        // Between the batcher and the core, roles may change.
                        tokio::time::sleep(Duration::from_millis(1)).await;
                        let mut engine = engine.lock();
                        engine.write(server, term.unwrap(), &queue, flight, body);
                    }
                    Next::Sleep => queue.wake().await,
                    Next::Turn | Next::End | Next::Frame { .. } => break,
                }
            },
        }
        if queue.is_through() {
            return;
        }
    }
}

/// Three servers.
struct World {
    engine: SharedEngine,
    renewed: Arc<Mutex<Vec<Renewal>>>,
    wires: Arc<Wires>,
    servers: Vec<Server>,
    stop: CancellationToken,
}

impl World {
    fn new(seed: u64) -> World {
        let engine = SharedEngine::default();
        let renewed = Arc::default();
        let wires = Wires::new(seed);
        let stop = CancellationToken::new();
        let servers = (1..=3).map(|server| {
            let view = View {
                server,
                engine: engine.clone(),
                renewed: Arc::clone(&renewed),
            };
            Server::start(server, view, &wires, &stop)
        });
        let servers = servers.collect();
        World {
            engine,
            renewed,
            wires,
            servers,
            stop,
        }
    }

    fn server(&self, number: u8) -> &Server {
        &self.servers[usize::from(number) - 1]
    }

    /// Everybody knows at once.
    fn elect(&self, leader: u8, term: u64) {
        self.engine.lock().elect(Some((leader, term)), usize::MAX);
        for number in 1..=3 {
            self.tell(number, Some((leader, term)));
        }
    }

    fn tell(&self, number: u8, leader: Option<(u8, u64)>) {
        let role = match leader {
            None => Role::Looking,
            Some((leader, term)) if leader == number => Role::Leading { term },
            Some((leader, term)) => Role::Following { leader, term },
        };
        self.server(number).role.send_replace(role);
    }

    /// Commits and applies everywhere what is written, as time passes, until this is so.
    async fn until(&self, mut done: impl FnMut(&Engine) -> bool) {
        loop {
            {
                let mut engine = self.engine.lock();
                let count = engine.tail.len();
                engine.commit(count);
                for server in &self.servers {
                    server.progress.advance(engine.committed);
                }
                if done(&engine) {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn end(self) {
        self.stop.cancel();
        for server in &self.servers {
            server.queue.fail(Unavailable::Stopping);
        }
        self.wires.clerks.lock().clear();
        drop(self.servers);
        self.wires.tasks.close();
        self.wires.tasks.wait().await;
    }
}
