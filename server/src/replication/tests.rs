//! The whole path over a disk that lies: propose, log, apply, deliver; crash and start again.

mod crash;
mod faults;
mod install;
mod measure;
mod path;

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use quorate_proto::{Acl, EventType, SessionId, Version, Zxid};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::{Deliver, Health, NoJudge, Refused, Replication, StartError};
use crate::clock::ManualClock;
use crate::config::Config;
use crate::disk::sim::SimDisk;
use crate::metrics::Metrics;
use crate::tree::txn::{Create, CreateKind, Op, Origin, Outcome, Proposal, Ticket, Txn, Verdict};
use crate::tree::{CallerBuf, State};

/// What one server was told.
#[derive(Default)]
struct Heard {
    outcomes: Vec<(Origin, Verdict)>,
    opened: HashMap<u64, SessionId>,
    changes: Vec<(Zxid, EventType, String)>,
    turns: usize,
    skipped: usize,
    resumed: usize,
    lost: usize,
}

/// Takes note of everything.
#[derive(Clone, Default)]
pub(super) struct Recorder {
    heard: Arc<Mutex<Heard>>,
    news: Arc<Notify>,
}

impl Recorder {
    async fn until<T>(&self, mut look: impl FnMut(&Heard) -> Option<T>) -> T {
        loop {
            let news = self.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            if let Some(found) = look(&self.heard.lock()) {
                return found;
            }
            news.await;
        }
    }

    async fn outcomes(&self, count: usize) {
        self.until(|heard| (heard.outcomes.len() >= count).then_some(()))
            .await;
    }

    async fn lost(&self) {
        self.until(|heard| (heard.lost > 0).then_some(())).await;
    }
}

impl Deliver for Recorder {
    fn change(&mut self, zxid: Zxid, event: EventType, path: &str, _acl: &[Acl]) {
        self.heard.lock().changes.push((zxid, event, path.into()));
    }

    fn outcome(&mut self, proposal: &Proposal<'_>, verdict: &Verdict) {
        let mut heard = self.heard.lock();
        if let (Txn::OpenSession { ticket, .. }, Verdict::Opened { session, .. }) =
            (&proposal.txn, verdict)
        {
            heard.opened.insert(ticket.count, *session);
        }
        heard.outcomes.push((proposal.origin, verdict.clone()));
    }

    fn turn_done(&mut self) {
        self.heard.lock().turns += 1;
        self.news.notify_waiters();
    }

    fn skipped(&mut self) {
        self.heard.lock().skipped += 1;
        self.news.notify_waiters();
    }

    fn resumed(&mut self) {
        self.heard.lock().resumed += 1;
    }

    fn lost(&mut self) {
        self.heard.lock().lost += 1;
        self.news.notify_waiters();
    }
}

/// Everything around a server that outlives it.
#[derive(Clone)]
struct World {
    disk: SimDisk,
    clock: Arc<ManualClock>,
    config: Config,
}

/// A running server and what it told.
struct Server {
    replication: Replication,
    heard: Recorder,
    metrics: Arc<Metrics>,
}

fn config() -> Config {
    // Below a directory that no ZooKeeper ever used.
    let data_dir = PathBuf::from("/nowhere/quorate-tests");
    Config {
        data_dir,
        ..Config::default()
    }
}

impl World {
    fn new() -> World {
        World {
            disk: SimDisk::new(),
            clock: Arc::default(),
            config: config(),
        }
    }

    async fn try_start(&self) -> Result<Server, StartError> {
        let heard = Recorder::default();
        let metrics = Arc::new(Metrics::default());
        let deliver = heard.clone();
        let replication = Replication::start(
            &self.config,
            Arc::new(self.disk.clone()),
            self.clock.clone(),
            metrics.clone(),
            |_| Box::new(deliver),
            Arc::new(NoJudge),
            None,
            Handle::current(),
        )
        .await?;
        Ok(Server {
            replication,
            heard,
            metrics,
        })
    }

    async fn start(&self) -> Server {
        self.try_start().await.unwrap()
    }

    /// The world after a power failure.
    fn crash(&self, seed: u64) -> World {
        World {
            disk: self.disk.crash(seed),
            ..self.clone()
        }
    }
}

impl Server {
    fn state(&self) -> &Arc<State> {
        self.replication.state()
    }

    fn digest(&self) -> u64 {
        self.state().tree().digest()
    }

    /// A server that has failed takes nothing; its outcomes tell, or their absence.
    fn push(&self, origin: Origin, txn: Txn<'_>) {
        let caller = CallerBuf::new(&[], true);
        let proposal = Proposal {
            origin,
            caller: caller.as_caller(),
            txn,
        };
        let pushed = self.replication.queue().push(&proposal);
        assert!(!matches!(pushed, Err(Refused::Full { .. })), "{pushed:?}");
    }

    async fn open_session(&self, count: u64) -> SessionId {
        let ticket = Ticket {
            server: 1,
            boot: 1,
            count,
        };
        self.push(
            Origin::default(),
            Txn::OpenSession {
                ticket,
                timeout_ms: 30_000,
            },
        );
        self.heard
            .until(|heard| heard.opened.get(&count).copied())
            .await
    }

    fn create(&self, session: SessionId, seq: u64, path: &str) {
        let create = Create {
            path: path.into(),
            data: Some(Cow::Borrowed(b"first")),
            acl: Cow::Owned(Acl::open_unsafe()),
            kind: CreateKind::Persistent,
            sequential: false,
            enforce_quota: false,
            with_stat: false,
        };
        self.push(origin(session, seq), Txn::Op(Op::Create(create)));
    }

    fn set(&self, session: SessionId, seq: u64, path: &str, data: &[u8]) {
        let set = Op::SetData {
            path: path.into(),
            data: Some(data.into()),
            version: Version::ANY,
            enforce_quota: false,
        };
        self.push(origin(session, seq), Txn::Op(set));
    }

    fn data(&self, path: &str) -> Option<Vec<u8>> {
        let read = self.state().tree().read(path);
        let data = read.node()?.data()?.to_vec();
        Some(data)
    }

    fn health(&self) -> Health {
        self.replication.health().borrow().clone()
    }

    async fn until_unhealthy(&self) -> Health {
        let mut health = self.replication.health();
        let health = health.wait_for(|health| *health != Health::Serving).await;
        health.unwrap().clone()
    }
}

fn origin(session: SessionId, seq: u64) -> Origin {
    Origin {
        session,
        attach: 1,
        seq,
    }
}

fn succeeded(verdict: &Verdict) -> bool {
    matches!(
        verdict,
        Verdict::Judged {
            outcome: Outcome::Done(_),
            ..
        }
    )
}
