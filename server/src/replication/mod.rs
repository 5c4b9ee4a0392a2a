//! The consensus engine: what is proposed here is stored by a quorum, then applied by every
//! server in the same order. A standalone server is a quorum of one, on the same path.
//!
//! Requests go in through [`ProposeQueue`], synchronously; their outcomes come back through
//! [`Deliver`], from the apply loop, on the server that took them. Nothing else answers: an
//! engine that loses its leader does not know what became of an entry, the log does.
//!
//! Not here: what a request does (`tree`), who waits for it (`sessions`), how it lies on disk
//! (`log`, `snapshot`). No type of openraft leaves this module.
//!
//! Invariants:
//! - No outcome is delivered before its entry is durable on a quorum.
//! - Requests of one session are applied in the order in which they were pushed, or not at all.
//! - After a failure of the disk nothing is written any more; what is applied stays readable.

mod apply;
#[cfg(test)]
mod bare;
mod batcher;
mod boot;
mod entry;
mod files;
mod forward;
mod identity;
mod keeper;
mod launch;
mod lease;
mod links;
mod log_store;
mod machine;
mod network;
mod queue;
mod read_index;
mod role;
mod snapshots;
mod start;
mod types;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use quorate_proto::{Acl, EventType, SessionId, Zxid};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

#[cfg(test)]
pub(crate) use self::bare::{Answer, Bare, Departure, Heard, Questions, Visit, body, read_at};
use self::boot::{Arrival, Desk};
use self::files::Claim;
pub(crate) use self::forward::Confirmer;
use self::launch::Parts;
pub(crate) use self::lease::Lease;
pub(crate) use self::links::SharedLinks;
pub(crate) use self::queue::{ProposeQueue, Refused, Unavailable};
use self::read_index::ReadIndex;
pub(crate) use self::role::Role;
#[cfg(any(test, feature = "testing"))]
use self::snapshots::Snapshots;
pub(crate) use self::start::StartError;
use self::start::Surroundings;
use self::types::{LogId, Raft};
use crate::clock::SharedClock;
use crate::config::{self, Config, Ensemble};
use crate::disk::SharedDisk;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::tree::State;
use crate::tree::txn::{Proposal, Verdict};

/// How long [`Replication::stop`] waits for requests that were taken. A disk that answers no
/// more must not keep the process alive.
const DRAIN: Duration = Duration::from_secs(10);

/// How long a graceful stop waits for another server to lead.
const HAND_OVER: Duration = Duration::from_secs(1);

/// How soon [`Replication::snapshot`] asks again.
#[cfg(any(test, feature = "testing"))]
const SNAPSHOT_RETRY: Duration = Duration::from_millis(20);

/// Who hears what was applied. All calls come from the one apply loop, in log order.
pub(crate) trait Deliver: Send + 'static {
    /// A change of the tree, while its shards are locked: it must not wait.
    fn change(&mut self, zxid: Zxid, event: EventType, path: &str, acl: &[Acl]);
    /// What became of a proposal, whichever server it came from.
    fn outcome(&mut self, proposal: &Proposal<'_>, verdict: &Verdict);
    /// An entry is through: wake whoever has something to send.
    fn turn_done(&mut self);
    /// A snapshot took the place of entries that were never applied here: events and outcomes
    /// inside it were not delivered. Close every client connection (R20). The state is still the
    /// old one.
    fn skipped(&mut self);
    /// The state is the snapshot's now: whatever was derived from the old one is made anew.
    fn resumed(&mut self) {}
    /// Nothing is delivered any more. What was proposed and has no outcome may or may not have
    /// been stored: its connection must be closed. Called once, last.
    fn lost(&mut self);
}

/// Judges the sessions of the ensemble, on whichever server leads.
///
/// `replication` knows when this server leads and under which lease; what was heard of which
/// session, and what is over, is known above.
pub(crate) trait Judge: Send + Sync + 'static {
    /// Renews sessions that spoke, as of now (R16): afterwards none of them is expired before now
    /// plus its timeout. Returns those that cannot be confirmed: unknown, or marked for closing.
    /// Called on the leader only, within its lease.
    fn renew(&self, sessions: &[SessionId]) -> Vec<SessionId>;
    /// This server begins to judge, or its lease had a gap: every session has its full timeout and
    /// `lease` more from now on, and what was marked for closing and is not in the log is unmarked
    /// (R18).
    fn start_over(&self, lease: Duration);
}

/// Judges nothing: for a server that serves no clients.
pub(crate) struct NoJudge;

impl Judge for NoJudge {
    fn renew(&self, sessions: &[SessionId]) -> Vec<SessionId> {
        sessions.to_vec()
    }

    fn start_over(&self, _lease: Duration) {}
}

/// Whether this server takes writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It does.
    Serving,
    /// It was stopped.
    Stopped,
    /// Its disk failed; reads go on.
    DiskFailed { cause: String },
    /// Its log or state is not what it must be: it must not serve, and the process should end.
    Broken { cause: String },
}

/// The replication of one server. Stop it with [`Replication::stop`]; dropped, it ends as a
/// killed process would.
pub(crate) struct Replication {
    raft: Raft,
    state: Arc<State>,
    queue: Arc<ProposeQueue>,
    log: Arc<Log>,
    #[cfg(any(test, feature = "testing"))]
    snapshots: Arc<Snapshots>,
    read_index: Arc<ReadIndex>,
    /// Of an ensemble.
    confirmer: Option<Arc<Confirmer>>,
    health: watch::Receiver<Health>,
    role: watch::Receiver<Role>,
    serving: watch::Receiver<bool>,
    #[cfg(test)]
    lease: Lease,
    desk: Option<Arc<Desk>>,
    /// Ends the engine of one of several: those who serve its links hold it, and it holds them, so
    /// that it would go on leading.
    _dropped: DropGuard,
    batcher: Mutex<Option<JoinHandle<()>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _claim: Arc<Claim>,
}

impl Replication {
    /// Opens or founds what lies in the configured directories, and brings the state up to the end
    /// of what is known to be committed.
    ///
    /// Standing alone, returns when this server leads. As one of an ensemble it first becomes a
    /// member, which may take for ever, and returns when the engine runs; [`Replication::serving`]
    /// says when clients can be served. `links` are needed for that, and for nothing else.
    ///
    /// Everything asynchronous runs on `runtime`, which should not be the clients'.
    ///
    /// # Errors
    /// [`StartError`]; the directories are as they were, or as a later start continues them.
    ///
    /// # Cancel safety
    /// May be dropped at any time; the directories are then as after a kill.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of a server, each once"
    )]
    pub(crate) async fn start(
        config: &Config,
        disk: SharedDisk,
        clock: SharedClock,
        metrics: Arc<Metrics>,
        make_deliver: impl FnOnce(Arc<State>) -> Box<dyn Deliver>,
        judge: Arc<dyn Judge>,
        links: Option<SharedLinks>,
        runtime: Handle,
    ) -> Result<Replication, StartError> {
        let began = clock.monotonic();
        let known = Replication::has_store(config);
        let around = Surroundings {
            disk,
            clock,
            metrics,
        };
        let desk = match (&config.ensemble, links) {
            (Some(ensemble), _) if ensemble.server(config.my_id).is_none() => {
                let server = config.my_id;
                return Err(StartError::NotListed { server });
            }
            (Some(ensemble), Some(links)) => Some(Desk::new(ensemble.clone(), links)),
            // Without links it would found an ensemble of its own beside the real one.
            (Some(_), None) => return Err(StartError::member_alone(config)),
            (None, _) if start::is_member(config, &around) => {
                return Err(StartError::member_alone(config));
            }
            (None, _) => None,
        };
        let prepared = prepare(config, &around, desk.as_ref(), &runtime).await?;
        let deliver = make_deliver(prepared.restored.state.clone());
        let parts = Parts::new(config, &around, prepared, deliver, judge);
        let replication = parts.launch(config, &around, &runtime, desk).await?;
        let took = around.clock.monotonic().saturating_sub(began);
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        around.metrics.startup_load_ms.record(took_ms);
        // A server that is new has nothing to tell of its past.
        if known {
            tracing::info!(
                term = replication.term(),
                zxid = %replication.state.applied_zxid(),
                znodes = replication.state.tree().node_count(),
                sessions = replication.state.sessions().len(),
                elapsed_ms = took_ms,
                "{}",
                if config.ensemble.is_some() { "loaded" } else { "leading" }
            );
        }
        Ok(replication)
    }

    /// Whether the configured directories hold data of a server.
    pub(crate) fn has_store(config: &Config) -> bool {
        files::Layout::new(config).identity().exists()
    }

    /// The state, as far as it is applied here.
    pub(crate) fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Where requests go in.
    pub(crate) fn queue(&self) -> &Arc<ProposeQueue> {
        &self.queue
    }

    /// Whether this server takes writes. Whoever waits for an outcome when this leaves
    /// [`Health::Serving`] may wait for ever; [`Deliver::lost`] says when none comes any more.
    pub(crate) fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    /// What this server is in its ensemble.
    pub(crate) fn role(&self) -> watch::Receiver<Role> {
        self.role.clone()
    }

    /// Whether clients can be served: this server is a member in force, the voters in force are a
    /// majority of those that were configured, and a leader is known here.
    pub(crate) fn serving(&self) -> watch::Receiver<bool> {
        self.serving.clone()
    }

    /// For how long no other server can have begun to lead by a vote.
    #[cfg(test)]
    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Where the servers of the ensemble stand, as this one knows it.
    pub(crate) fn standing(&self) -> Standing {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = members.voter_ids().collect();
        let index = |id: &LogId| id.index;
        let peer = |id: u64| {
            let matched = metrics.replication.as_ref().and_then(|all| all.get(&id));
            let heard = metrics.heartbeat.as_ref().and_then(|all| all.get(&id));
            Peer {
                server: types::server_of(id),
                votes: voters.contains(&id),
                matched: matched.and_then(Option::as_ref).map(index),
                heard: heard.and_then(Option::as_ref).map(|at| at.elapsed()),
            }
        };
        let others = members.nodes().map(|(id, _)| *id);
        Standing {
            term: metrics.current_term,
            last: metrics.last_log_index.unwrap_or(0),
            committed: metrics.local_committed.as_ref().map_or(0, index),
            applied: metrics.last_applied.as_ref().map_or(0, index),
            voters: voters.len(),
            #[cfg(feature = "testing")]
            settled: members.get_joint_config().len() == 1,
            peers: others.filter(|id| *id != metrics.id).map(peer).collect(),
        }
    }

    /// The members in force, as `/zookeeper/config` spells them. Those whose line is not in the
    /// list of this server are left out: nobody here knows where they are.
    pub(crate) fn members_text(&self, ensemble: &Ensemble) -> String {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.committed_membership_config.membership();
        let voters: BTreeSet<u8> = members.voter_ids().map(types::server_of).collect();
        let all: BTreeSet<u8> = members
            .nodes()
            .map(|(id, _)| types::server_of(*id))
            .collect();
        ensemble.text_in_force(|server| {
            let role = if voters.contains(&server) {
                config::Role::Participant
            } else {
                config::Role::Observer
            };
            all.contains(&server).then_some(role)
        })
    }

    /// If this server leads others, has the one that is furthest lead, and returns when it does,
    /// or after a bounded time. Do this first in a graceful stop, while clients are still served.
    pub(crate) async fn hand_over(&self) {
        let Some(heir) = self.heir() else {
            return;
        };
        let mut role = self.role.clone();
        if self.raft.trigger().transfer_leader(heir).await.is_err() {
            return;
        }
        let handed = role.wait_for(|role| matches!(role, Role::Following { .. }));
        match tokio::time::timeout(HAND_OVER, handed).await {
            Ok(_) => tracing::info!(to = types::server_of(heir), "leadership handed over"),
            Err(_) => tracing::warn!(to = types::server_of(heir), "nobody took the leadership"),
        }
    }

    /// The other voter that lacks least.
    fn heir(&self) -> Option<u64> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters = metrics.membership_config.membership().voter_ids();
        let matched = metrics.replication.as_ref()?;
        voters
            .filter(|id| *id != metrics.id)
            .filter_map(|id| matched.get(&id).copied().flatten().map(|at| (at, id)))
            .max()
            .map(|(_, id)| id)
    }

    /// Returns once everything that any server acknowledged before this call is applied here:
    /// the ground of `sync`. Concurrent callers share a round.
    ///
    /// # Errors
    /// [`Unavailable`]: this server cannot know.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(crate) async fn read_index(&self) -> Result<(), Unavailable> {
        self.read_index.wait().await
    }

    /// Has sessions confirmed by the leader; `None` where this server stands alone, and judges
    /// its sessions itself.
    pub(crate) fn confirmer(&self) -> Option<&Arc<Confirmer>> {
        self.confirmer.as_ref()
    }

    /// The current term.
    pub(crate) fn term(&self) -> u64 {
        self.raft.metrics().borrow_watched().current_term
    }

    /// Writes a snapshot of what is applied now, unless there is one, and purges the log.
    ///
    /// # Errors
    /// Why there is none: the server stopped, or the file could not be written.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) async fn snapshot(&self) -> Result<(), SnapshotFailed> {
        // Asked of the engine itself: its metrics may not show yet what was delivered already.
        let committed = self
            .raft
            .with_raft_state(|state| state.local_committed().copied());
        let wanted = committed.await.map_err(|_| SnapshotFailed::Stopped)?;
        let mut attempts = self.snapshots.attempts();
        let failures = attempts.borrow_and_update().failures;
        loop {
            {
                let attempt = attempts.borrow_and_update();
                if attempt.newest >= wanted {
                    break;
                }
                if let Some(cause) = &attempt.error
                    && attempt.failures > failures
                {
                    return Err(SnapshotFailed::Write {
                        cause: cause.clone(),
                    });
                }
            }
            if self.raft.metrics().borrow_watched().running_state.is_err() {
                return Err(SnapshotFailed::Stopped);
            }
            // If one is being written, this has no effect, and the next turn asks again.
            let trigger = self.raft.trigger().snapshot().await;
            trigger.map_err(|_| SnapshotFailed::Stopped)?;
            tokio::select! {
                changed = attempts.changed() => changed.map_err(|_| SnapshotFailed::Stopped)?,
                // The engine may not have noticed yet that the one before is done: it took our
                // request for one too many, and nothing will change by itself.
                () = tokio::time::sleep(SNAPSHOT_RETRY) => {}
                () = self.stop.cancelled() => return Err(SnapshotFailed::Stopped),
            }
        }
        if let Some(upto) = self.snapshots.log_needed_after() {
            let purge = self.raft.trigger().purge_log(upto).await;
            purge.map_err(|_| SnapshotFailed::Stopped)?;
        }
        Ok(())
    }

    /// Takes nothing new, applies what was taken, ends the tasks and closes the log.
    pub(crate) async fn stop(&self) {
        self.hand_over().await;
        self.queue.close(Unavailable::Stopping);
        let batcher = self.batcher.lock().take();
        if let Some(batcher) = batcher
            && tokio::time::timeout(DRAIN, batcher).await.is_err()
        {
            tracing::warn!("the disk does not answer: requests are left behind");
        }
        self.queue.fail(Unavailable::Stopping);
        self.stop.cancel();
        if let Some(desk) = &self.desk {
            desk.close();
        }
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "the consensus engine did not stop in order");
        }
        let log = self.log.clone();
        let closed = tokio::task::spawn_blocking(move || log.close()).await;
        if let Err(error) = closed {
            tracing::warn!(%error, "the log did not close in order");
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Replication {
    fn drop(&mut self) {
        self.queue.fail(Unavailable::Stopping);
        self.stop.cancel();
        if let Some(desk) = &self.desk {
            desk.close();
        }
    }
}

/// Where the servers of an ensemble stand.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) term: u64,
    /// Indexes of the last entry in the log, known to be committed, and applied here.
    pub(crate) last: u64,
    pub(crate) committed: u64,
    pub(crate) applied: u64,
    /// How many vote.
    pub(crate) voters: usize,
    /// No change of the members is under way.
    #[cfg(feature = "testing")]
    pub(crate) settled: bool,
    /// All other members.
    pub(crate) peers: Vec<Peer>,
}

/// Another member; what is heard of it, only its leader knows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub(crate) server: u8,
    pub(crate) votes: bool,
    /// The last entry that it is known to have.
    pub(crate) matched: Option<u64>,
    /// How long ago it last answered.
    pub(crate) heard: Option<Duration>,
}

/// From the directories to a server that knows who it is; as one of an ensemble, by asking.
async fn prepare(
    config: &Config,
    around: &Surroundings,
    desk: Option<&Arc<Desk>>,
    runtime: &Handle,
) -> Result<start::Prepared, StartError> {
    let ours = (config.clone(), around.clone());
    let claimed = blocking(runtime, move || start::claim(&ours.0, &ours.1)).await?;
    let arrival = match (&claimed.identity, desk) {
        (Some(identity), _) => Arrival::Joined(identity.clone()),
        (None, None) => Arrival::Founder,
        (None, Some(desk)) => {
            let ours = config.clone();
            let history = blocking(runtime, move || start::history(&ours)).await?;
            desk.open();
            boot::identity(config, &desk.ensemble, desk, history, &*around.disk).await?
        }
    };
    let (ours, ensemble) = ((config.clone(), around.clone()), desk.is_some());
    let prepared = blocking(runtime, move || {
        let (config, around) = ours;
        let identity = match arrival {
            Arrival::Founder => start::found(&config, &around, &claimed)?,
            Arrival::Joined(identity) => {
                if claimed.identity.is_none() {
                    start::settle(&around, &claimed, &identity)?;
                }
                identity
            }
        };
        if ensemble {
            boot::unmark(&*around.disk, &config.data_dir)?;
        }
        start::open(&config, &around, claimed, identity)
    })
    .await?;
    if let Some(desk) = desk {
        desk.is_member(&prepared.identity, None);
        let (cluster, node) = (prepared.identity.cluster_id, prepared.identity.node_id);
        desk.links.identify(cluster, node);
        desk.open();
    }
    Ok(prepared)
}

async fn blocking<T: Send + 'static>(
    runtime: &Handle,
    work: impl FnOnce() -> Result<T, StartError> + Send + 'static,
) -> Result<T, StartError> {
    let done = runtime.spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        let cause = error.to_string();
        Err(StartError::Engine { cause })
    })
}

/// A snapshot that was asked for was not written.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotFailed {
    /// The server has stopped.
    #[error("no snapshot: the server has stopped")]
    Stopped,
    /// The file could not be written.
    #[error("the snapshot cannot be written: {cause}")]
    Write {
        /// What the disk said.
        cause: Arc<str>,
    },
}
