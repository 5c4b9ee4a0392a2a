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

mod batcher;
mod entry;
mod files;
mod forward;
mod identity;
mod keeper;
mod launch;
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

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use quorate_proto::{Acl, EventType, SessionId, Zxid};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::files::Claim;
use self::forward::Confirmer;
pub(crate) use self::forward::{Confirmed, Lease};
use self::launch::Parts;
pub(crate) use self::queue::{ProposeQueue, Refused, Unavailable};
use self::read_index::ReadIndex;
pub(crate) use self::role::Role;
#[cfg(any(test, feature = "testing"))]
use self::snapshots::Snapshots;
pub(crate) use self::start::StartError;
use self::start::Surroundings;
use self::types::Raft;
use crate::clock::SharedClock;
use crate::config::Config;
use crate::disk::SharedDisk;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::tree::State;
use crate::tree::txn::{Proposal, Verdict};

/// How long [`Replication::stop`] waits for requests that were taken. A disk that answers no
/// more must not keep the process alive.
const DRAIN: Duration = Duration::from_secs(10);

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
    batcher: Mutex<Option<JoinHandle<()>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _claim: Arc<Claim>,
}

impl Replication {
    /// Opens or founds what lies in the configured directories, brings the state up to the end
    /// of the log, and returns when this server leads.
    ///
    /// Everything asynchronous runs on `runtime`, which should not be the clients'.
    ///
    /// # Errors
    /// [`StartError`]; the directories are as they were, or as a later start continues them.
    pub(crate) async fn start(
        config: &Config,
        disk: SharedDisk,
        clock: SharedClock,
        metrics: Arc<Metrics>,
        make_deliver: impl FnOnce(Arc<State>) -> Box<dyn Deliver>,
        runtime: Handle,
    ) -> Result<Replication, StartError> {
        let began = clock.monotonic();
        let known = Replication::has_store(config);
        let around = Surroundings {
            disk,
            clock,
            metrics,
        };
        let prepared = {
            let (config, around) = (config.clone(), around.clone());
            runtime.spawn_blocking(move || start::prepare(&config, &around))
        };
        let prepared = prepared.await.map_err(|error| StartError::Engine {
            cause: error.to_string(),
        })??;
        let deliver = make_deliver(prepared.restored.state.clone());
        let parts = Parts::new(config, &around, prepared, deliver);
        let replication = parts.launch(config, &around, &runtime).await?;
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
                "leading"
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

    /// Has the leader renew these sessions, after this call (R16). Without sessions it says
    /// whether the leader still hears this server.
    ///
    /// A server that stands alone confirms whatever it is asked: it judges its sessions itself.
    ///
    /// # Errors
    /// [`Unavailable`]: nothing is confirmed, though the leader may have renewed them.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(crate) async fn confirm(&self, sessions: Vec<SessionId>) -> Result<Confirmed, Unavailable> {
        match &self.confirmer {
            Some(confirmer) => confirmer.confirm(sessions).await,
            None => Ok(Confirmed::default()),
        }
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
        let wanted = self.raft.metrics().borrow_watched().last_applied;
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
        self.queue.close(Unavailable::Stopping);
        let batcher = self.batcher.lock().take();
        if let Some(batcher) = batcher
            && tokio::time::timeout(DRAIN, batcher).await.is_err()
        {
            tracing::warn!("the disk does not answer: requests are left behind");
        }
        self.queue.fail(Unavailable::Stopping);
        self.stop.cancel();
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
    }
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
