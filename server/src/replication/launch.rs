//! Puts the engine together, makes it lead where it stands alone, and watches over it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::RaftError;
use openraft::{BasicNode, ServerState, SnapshotPolicy};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::batcher::Batcher;
use super::boot::election::Sentinel;
use super::boot::{Desk, Steward};
use super::files::Claim;
use super::forward::{self, Patience};
use super::identity::Identity;
use super::keeper::Keeper;
use super::lease::Lease;
use super::log_store::LogStore;
use super::machine::{Machine, Progress, SnapshotPace};
use super::network::{Network, NoPeers, RaftHandler, SnapshotHandler};
use super::queue::{ProposeQueue, QUEUE_BYTES_MAX, Unavailable};
use super::read_index::{Oracle, ReadIndex};
use super::role::{self, Role};
use super::snapshots::Snapshots;
use super::start::{self, Prepared, StartError, Surroundings};
use super::types::{FOUNDER, Fatal, Raft, Types};
use super::{Deliver, Health, Judge, Replication};
use crate::config::{Config, Ensemble};
use crate::log::Log;
use crate::peers::Purpose;
use crate::tree::State;

/// What is there before the engine runs.
pub(super) struct Parts {
    identity: Identity,
    judge: Arc<dyn Judge>,
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
        judge: Arc<dyn Judge>,
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
            identity: prepared.identity,
            judge,
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

    /// Standing alone, returns when this server leads and has applied the first entry of its term,
    /// and with it all that the log held. As one of an ensemble, when the engine runs.
    pub(super) async fn launch(
        self,
        config: &Config,
        around: &Surroundings,
        runtime: &Handle,
        desk: Option<Arc<Desk>>,
    ) -> Result<Replication, StartError> {
        let (node_id, machine) = (self.identity.node_id, self.machine);
        let store = LogStore::new(self.log.clone(), node_id, self.applied_term);
        let tasks = TaskTracker::new();
        let engine = match (&desk, &config.ensemble) {
            (Some(desk), Some(ensemble)) => {
                let settings = Arc::new(settings_for(ensemble)?);
                let (links, snapshots) = (desk.links.clone(), self.snapshots.clone());
                let network = Network::new(links, snapshots, tasks.clone(), runtime.clone());
                runtime.spawn(member(node_id, settings, network, store, machine))
            }
            _ => runtime.spawn(engine(node_id, store, machine)),
        };
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
        let stop = CancellationToken::new();
        let (health, healthy) = watch::channel(Health::Serving);
        let (role, roles) = watch::channel(Role::Looking);
        let (serving, served) = watch::channel(false);
        let length = config
            .ensemble
            .as_ref()
            .map_or(Duration::ZERO, |e| e.election_max);
        let lease = Lease::new(length, around.clock.clone());
        let forwarding = desk
            .as_ref()
            .zip(Patience::of(config))
            .map(|(desk, patience)| {
                forward::open(forward::Surroundings {
                    queue: queue.clone(),
                    role: roles.clone(),
                    call: desk.links.clone(),
                    judge: Arc::downgrade(&self.judge),
                    lease: Arc::new(lease.clone()),
                    progress: self.progress.clone(),
                    patience,
                })
            });
        let (courier, clerk, confirmer, read_index, ensemble) = match forwarding {
            Some(forward::Forwarding {
                courier,
                clerk,
                confirmer,
                read_index,
                errands,
            }) => {
                let ensemble = Some((roles.clone(), errands));
                (
                    Some(courier),
                    Some(clerk),
                    Some(confirmer),
                    read_index,
                    ensemble,
                )
            }
            None => {
                let read_index = Arc::new(ReadIndex::new(self.progress.clone(), None));
                (None, None, None, read_index, None)
            }
        };
        let batcher = Batcher {
            queue: queue.clone(),
            raft: raft.clone(),
            clock: around.clock.clone(),
            progress: self.progress.clone(),
            metrics: around.metrics.clone(),
            courier,
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
        let oracle = Oracle {
            quorum: Box::new(raft.clone()),
            ensemble,
        };
        let reads = serve_reads(read_index.clone(), oracle, queue.clone(), stop.clone());
        tasks.spawn_on(reads, runtime);
        let watcher = role::Watcher {
            raft: raft.clone(),
            clock: around.clock.clone(),
            judge: self.judge,
            lease: lease.clone(),
            listed: role::listed(config.ensemble.as_ref()),
            role,
            serving,
            stop: stop.clone(),
        };
        tasks.spawn_on(watcher.run(), runtime);
        if let Some(desk) = &desk {
            desk.is_member(&self.identity, Some(raft.clone()));
            let links = &desk.links;
            let handler = RaftHandler::new(raft.clone(), node_id);
            links.serve(Purpose::Raft, Arc::new(handler));
            let handler = SnapshotHandler::new(raft.clone(), node_id, self.snapshots.clone());
            links.serve(Purpose::Snapshot, Arc::new(handler));
            if let Some(clerk) = clerk {
                links.serve(Purpose::Requests, Arc::new(clerk));
            }
            tasks.spawn_on(forward::steer(queue.clone(), roles.clone()), runtime);
            tasks.spawn_on(mark_joined(config, around, &raft, &stop), runtime);
            let steward = Steward {
                raft: raft.clone(),
                desk: desk.clone(),
                me: config.my_id,
                serving: served.clone(),
                stop: stop.clone(),
            };
            tasks.spawn_on(steward.run(), runtime);
            let sentinel = Sentinel {
                raft: raft.clone(),
                desk: desk.clone(),
                role: roles.clone(),
                stop: stop.clone(),
            };
            tasks.spawn_on(sentinel.run(), runtime);
        }
        let dropped = CancellationToken::new();
        if desk.is_some() {
            let (raft, dropped) = (raft.clone(), dropped.clone());
            // Not among the tasks that a stop waits for: it ends when the stopped server is dropped.
            runtime.spawn(async move {
                dropped.cancelled().await;
                // After a stop in order there is nothing left to end.
                let _ = raft.shutdown().await;
            });
        }
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
            confirmer,
            health: healthy,
            role: roles,
            serving: served,
            #[cfg(test)]
            lease,
            desk,
            _dropped: dropped.drop_guard(),
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

/// Starts openraft as one of several. The founder makes itself the only member, once.
async fn member(
    node_id: u64,
    settings: Arc<openraft::Config>,
    network: Network,
    store: LogStore,
    machine: Machine,
) -> Result<Raft, Fatal> {
    let raft = Raft::new(node_id, settings, network, store, machine).await?;
    let founder = node_id & u64::from(u32::MAX) == u64::from(FOUNDER);
    match found(&raft, node_id, founder).await {
        Ok(()) => Ok(raft),
        Err(fatal) => {
            let _ = raft.shutdown().await;
            Err(fatal)
        }
    }
}

async fn found(raft: &Raft, node_id: u64, founder: bool) -> Result<(), Fatal> {
    if !founder || raft.is_initialized().await? {
        return Ok(());
    }
    let alone = BTreeMap::from([(node_id, BasicNode::new(""))]);
    match raft.initialize(alone).await {
        Err(RaftError::Fatal(fatal)) => Err(fatal),
        Err(RaftError::APIError(error)) => {
            tracing::warn!(%error, "not founded anew");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

async fn lead(raft: &Raft, node_id: u64) -> Result<(), Fatal> {
    if raft.is_initialized().await? {
        raft.trigger().elect(false).await?;
    } else {
        found(raft, node_id, true).await?;
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

/// Takes note that this member's log is not empty, once it is not.
fn mark_joined(
    config: &Config,
    around: &Surroundings,
    raft: &Raft,
    stop: &CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let (config, around, raft, stop) = (config.clone(), around.clone(), raft.clone(), stop.clone());
    async move {
        // What is not on disk yet may be gone after a power failure, without anybody having lost it.
        let mut flushed = raft.watch_log_progress();
        while flushed.get().is_none_or(|upto| upto.last_log_id.is_none()) {
            tokio::select! {
                changed = flushed.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
        }
        let marked = tokio::task::spawn_blocking(move || start::joined(&config, &around)).await;
        if let Ok(Err(error)) = marked {
            tracing::warn!(%error, "a loss of the log would not be noticed at the next start");
        }
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
        // A single voter needs neither heartbeats nor elections by timeout: these are for the
        // idle rate of wake-ups.
        heartbeat_interval: 500,
        election_timeout_min: 1500,
        election_timeout_max: 2000,
        ..common_settings()
    };
    settings.validate().expect("constants, used by every test")
}

/// The same for one of several, with the configured times.
fn settings_for(ensemble: &Ensemble) -> Result<openraft::Config, StartError> {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let election_max = ms(ensemble.election_max);
    let settings = openraft::Config {
        heartbeat_interval: ms(ensemble.heartbeat),
        election_timeout_min: ms(ensemble.election_min),
        election_timeout_max: election_max,
        // A leader that is heard and hears nobody would be followed for ever: without a quorum's
        // answers it falls silent for so long that another can be elected.
        quorum_loss_probe_interval: Some(election_max.saturating_mul(4)),
        // A server that comes back is tried again soon.
        backoff: "50ms, 100ms, 200ms, ..500ms".to_owned(),
        ..common_settings()
    };
    settings.validate().map_err(|error| StartError::Times {
        cause: error.to_string(),
    })
}

fn common_settings() -> openraft::Config {
    openraft::Config {
        cluster_name: "quorate".to_owned(),
        enable_pre_vote: Some(true),
        // The state lives in memory, and the committed hint may be old: a restarted leader must
        // be elected again, which applies the whole log first.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        max_payload_entries: 4096,
        ..openraft::Config::default()
    }
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
    oracle: Oracle,
    queue: Arc<ProposeQueue>,
    stop: CancellationToken,
) {
    let why = || queue.closed().unwrap_or(Unavailable::Stopping);
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
