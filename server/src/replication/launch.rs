//! Puts the engine together, makes it lead, and watches over it.

use std::collections::BTreeMap;
use std::sync::Arc;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::RaftError;
use openraft::{BasicNode, ServerState, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::batcher::Batcher;
use super::files::Claim;
use super::keeper::Keeper;
use super::log_store::LogStore;
use super::machine::{Machine, Progress, SnapshotPace};
use super::network::NoPeers;
use super::queue::{ProposeQueue, QUEUE_BYTES_MAX, Unavailable};
use super::read_index::{Oracle, ReadIndex};
use super::snapshots::Snapshots;
use super::start::{Prepared, StartError, Surroundings};
use super::types::{Fatal, Raft, Types};
use super::{Deliver, Health, Replication};
use crate::config::Config;
use crate::log::Log;
use crate::tree::State;

/// What is there before the engine runs.
pub(super) struct Parts {
    node_id: u64,
    claim: Arc<Claim>,
    log: Arc<Log>,
    snapshots: Arc<Snapshots>,
    state: Arc<State>,
    progress: Arc<Progress>,
    queue: Arc<ProposeQueue>,
    machine: Machine,
    applied_term: Option<u64>,
}

impl Parts {
    pub(super) fn new(
        config: &Config,
        around: &Surroundings,
        prepared: Prepared,
        deliver: Box<dyn Deliver>,
    ) -> Parts {
        let progress = Arc::new(Progress::default());
        let state = prepared.restored.state.clone();
        let applied = prepared.restored.applied;
        let queue = Arc::new(ProposeQueue::new(QUEUE_BYTES_MAX));
        let machine = Machine::new(
            prepared.restored,
            deliver,
            queue.clone(),
            prepared.snapshots.clone(),
            SnapshotPace {
                requests: config.snap_count,
                bytes: config.snap_size_limit,
            },
            progress.clone(),
            around.metrics.clone(),
        );
        Parts {
            node_id: prepared.identity.node_id,
            claim: Arc::new(prepared.claim),
            log: prepared.log,
            snapshots: prepared.snapshots,
            state,
            progress,
            queue,
            machine,
            applied_term: applied.map(|applied| applied.leader_id.term),
        }
    }

    /// Returns when this server leads and has applied the first entry of its term, and with it
    /// all that the log held.
    pub(super) async fn launch(
        self,
        config: &Config,
        around: &Surroundings,
        runtime: &Handle,
    ) -> Result<Replication, StartError> {
        let (node_id, machine) = (self.node_id, self.machine);
        let store = LogStore::new(self.log.clone(), node_id, self.applied_term);
        let engine = runtime.spawn(async move { engine(node_id, store, machine).await });
        let raft = match engine.await {
            Ok(Ok(raft)) => raft,
            Ok(Err(error)) => {
                close(&self.log).await;
                return Err(because(&self.log, &self.progress, &error));
            }
            Err(error) => {
                let cause = error.to_string();
                return Err(StartError::Engine { cause });
            }
        };
        let queue = self.queue;
        let read_index = Arc::new(ReadIndex::new(self.progress.clone(), None));
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (health, healthy) = watch::channel(Health::Serving);

        let batcher = Batcher {
            queue: queue.clone(),
            raft: raft.clone(),
            clock: around.clock.clone(),
            progress: self.progress.clone(),
            metrics: around.metrics.clone(),
            courier: None,
        };
        let batcher = tasks.spawn_on(batcher.run(), runtime);
        let keeper = Keeper {
            raft: raft.clone(),
            progress: self.progress.clone(),
            snapshots: self.snapshots.clone(),
            clock: around.clock.clone(),
            purge_interval: config.purge_interval,
            stop: stop.clone(),
        };
        tasks.spawn_on(keeper.run(), runtime);
        tasks.spawn_on(
            serve_reads(
                read_index.clone(),
                raft.clone(),
                queue.clone(),
                stop.clone(),
            ),
            runtime,
        );
        let watchdog = Watchdog {
            raft: raft.clone(),
            log: self.log.clone(),
            progress: self.progress,
            queue: queue.clone(),
            stop: stop.clone(),
            health,
        };
        tasks.spawn_on(watchdog.run(), runtime);
        Ok(Replication {
            raft,
            state: self.state,
            queue,
            log: self.log,
            #[cfg(any(test, feature = "testing"))]
            snapshots: self.snapshots,
            read_index,
            confirmer: None,
            health: healthy,
            batcher: Mutex::new(Some(batcher)),
            tasks,
            stop,
            _claim: self.claim,
        })
    }
}

/// Starts openraft and sees to it that this server, the only voter, leads: at once, without
/// waiting for an election timeout.
async fn engine(node_id: u64, store: LogStore, machine: Machine) -> Result<Raft, Fatal> {
    let settings = Arc::new(settings());
    let raft = Raft::new(node_id, settings, NoPeers, store, machine).await?;
    match lead(&raft, node_id).await {
        Ok(()) => Ok(raft),
        Err(fatal) => {
            // The fatal error is the news; the end that follows it is not.
            let _ = raft.shutdown().await;
            Err(fatal)
        }
    }
}

async fn lead(raft: &Raft, node_id: u64) -> Result<(), Fatal> {
    if raft.is_initialized().await? {
        raft.trigger().elect(false).await?;
    } else {
        let alone = BTreeMap::from([(node_id, BasicNode::new(""))]);
        match raft.initialize(alone).await {
            Err(RaftError::Fatal(fatal)) => return Err(fatal),
            Err(RaftError::APIError(error)) => tracing::warn!(%error, "not founded anew"),
            Ok(()) => {}
        }
    }
    let leads = |metrics: &openraft::RaftMetrics<Types>| {
        let term = metrics.last_applied.map(|applied| applied.leader_id.term);
        metrics.state == ServerState::Leader && term == Some(metrics.current_term)
    };
    match raft.wait(None).metrics(leads, "leading").await {
        Ok(_) => Ok(()),
        Err(_) => Err(stopped_by(raft)),
    }
}

/// What ended the engine.
fn stopped_by(raft: &Raft) -> Fatal {
    let state = raft.metrics().borrow_watched().running_state.clone();
    state.err().unwrap_or(Fatal::Stopped)
}

/// openraft's settings. What counts entries is switched off: an entry is one request or a
/// thousand. Snapshots and purges are asked for by the keeper.
fn settings() -> openraft::Config {
    let settings = openraft::Config {
        cluster_name: "quorate".to_owned(),
        // A single voter needs neither heartbeats nor elections by timeout: these are for the
        // idle rate of wake-ups.
        heartbeat_interval: 500,
        election_timeout_min: 1500,
        election_timeout_max: 2000,
        enable_pre_vote: Some(true),
        // The state lives in memory, and the committed hint may be old: a restarted leader must
        // be elected again, which applies the whole log first.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        max_payload_entries: 4096,
        ..openraft::Config::default()
    };
    settings.validate().expect("constants, used by every test")
}

/// Names the cause that an operator can do something about.
fn because(log: &Log, progress: &Progress, fatal: &Fatal) -> StartError {
    if let Some(failure) = log.failure() {
        return StartError::Log(failure.as_ref().clone());
    }
    match progress.fault() {
        Some(cause) => StartError::Refused { cause },
        None => StartError::Engine {
            cause: fatal.to_string(),
        },
    }
}

async fn close(log: &Arc<Log>) {
    let log = log.clone();
    if let Err(error) = tokio::task::spawn_blocking(move || log.close()).await {
        tracing::warn!(%error, "the log did not close in order");
    }
}

async fn serve_reads(
    read_index: Arc<ReadIndex>,
    raft: Raft,
    queue: Arc<ProposeQueue>,
    stop: CancellationToken,
) {
    let why = || queue.closed().unwrap_or(Unavailable::Stopping);
    let oracle = Oracle {
        quorum: Box::new(raft),
        ensemble: None,
    };
    read_index.serve(oracle, stop, why).await;
}

/// Waits for the end of the engine and tells everybody.
struct Watchdog {
    raft: Raft,
    log: Arc<Log>,
    progress: Arc<Progress>,
    queue: Arc<ProposeQueue>,
    stop: CancellationToken,
    health: watch::Sender<Health>,
}

impl Watchdog {
    async fn run(self) {
        // These metrics change with the role only, so that this task sleeps while requests flow.
        let mut role = self.raft.server_metrics();
        let ended = async { while role.changed().await.is_ok() {} };
        tokio::select! {
            () = ended => {}
            () = self.stop.cancelled() => {}
        }
        let (why, health) = self.cause();
        match &health {
            Health::Serving | Health::Stopped => tracing::info!("replication stopped"),
            Health::DiskFailed { cause } => {
                tracing::error!(cause, "the disk failed: no more writes, reads go on");
            }
            Health::Broken { cause } => tracing::error!(cause, "replication stopped for good"),
        }
        self.queue.fail(why);
        self.health.send_replace(health);
        self.stop.cancel();
    }

    fn cause(&self) -> (Unavailable, Health) {
        if let Some(failure) = self.log.failure() {
            let cause = chain(failure.as_ref());
            let why = Unavailable::DiskFailed {
                cause: cause.as_str().into(),
            };
            return (why, Health::DiskFailed { cause });
        }
        if let Some(cause) = self.progress.fault() {
            let health = Health::Broken {
                cause: cause.to_string(),
            };
            return (Unavailable::Broken { cause }, health);
        }
        match stopped_by(&self.raft) {
            Fatal::Stopped => (Unavailable::Stopping, Health::Stopped),
            fatal => {
                let cause = fatal.to_string();
                let why = Unavailable::Broken {
                    cause: cause.as_str().into(),
                };
                (why, Health::Broken { cause })
            }
        }
    }
}

/// An error with its sources, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
