//! Keeps disk and memory bounded: asks for snapshots, purges the log behind them, and removes
//! old snapshot files when the operator asked for that.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::machine::Progress;
use super::snapshots::{Attempt, Snapshots};
use super::types::Raft;
use crate::clock::SharedClock;

/// A snapshot that took a second is followed by the next one after four, however fast requests
/// come: writing snapshots takes at most a fifth of one core.
const REST: u32 = 4;
/// And one that failed, by at least this.
const REST_AFTER_FAILURE: Duration = Duration::from_secs(10);

pub(super) struct Keeper {
    pub(super) raft: Raft,
    pub(super) progress: Arc<Progress>,
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) clock: SharedClock,
    pub(super) purge_interval: Option<Duration>,
    pub(super) stop: CancellationToken,
}

enum Event {
    Due,
    Written,
    Purge,
    Stop,
}

impl Keeper {
    pub(super) async fn run(self) {
        let mut attempts = self.snapshots.attempts();
        let mut purge = self.purge_interval.map(tokio::time::interval);
        let mut rest_until = Duration::ZERO;
        loop {
            match self.event(&mut attempts, purge.as_mut()).await {
                Event::Due => self.rest_and_trigger(rest_until).await,
                Event::Written => {
                    let attempt = attempts.borrow_and_update().clone();
                    let mut rest = attempt.took * REST;
                    if attempt.error.is_some() {
                        rest = rest.max(REST_AFTER_FAILURE);
                    }
                    rest_until = self.clock.monotonic() + rest;
                    self.purge_log().await;
                    // It became due again while the last one was being written: nobody will say
                    // so a second time.
                    if self.progress.snapshot_due() {
                        self.rest_and_trigger(rest_until).await;
                    }
                }
                Event::Purge => self.purge_files().await,
                Event::Stop => return,
            }
        }
    }

    async fn event(
        &self,
        attempts: &mut watch::Receiver<Attempt>,
        purge: Option<&mut tokio::time::Interval>,
    ) -> Event {
        let purge = async {
            match purge {
                Some(interval) => {
                    interval.tick().await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => Event::Stop,
            () = self.progress.until_snapshot_due() => Event::Due,
            changed = attempts.changed() => match changed {
                Ok(()) => Event::Written,
                Err(_) => Event::Stop,
            },
            () = purge => Event::Purge,
        }
    }

    async fn rest_and_trigger(&self, rest_until: Duration) {
        let rest = rest_until.saturating_sub(self.clock.monotonic());
        if !rest.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = self.stop.cancelled() => return,
            }
        }
        if !self.runs() {
            return;
        }
        // An error says that the engine has stopped; then there is nothing to keep.
        if let Err(error) = self.raft.trigger().snapshot().await {
            tracing::debug!(%error, "no snapshot");
        }
    }

    async fn purge_log(&self) {
        if self.runs()
            && let Some(upto) = self.snapshots.log_needed_after()
            && let Err(error) = self.raft.trigger().purge_log(upto).await
        {
            tracing::debug!(%error, "the log is not purged");
        }
    }

    /// Whether the engine runs. Two that ask a stopped one at the same moment may see it end half:
    /// it panics then (openraft, `get_core_stop_error`), so nobody asks once it has said that it
    /// stopped.
    fn runs(&self) -> bool {
        self.raft.metrics().borrow_watched().running_state.is_ok()
    }

    async fn purge_files(&self) {
        let snapshots = self.snapshots.clone();
        let purged = tokio::task::spawn_blocking(move || snapshots.purge_files()).await;
        if let Ok(Err(error)) = purged {
            tracing::warn!(%error, "old snapshots cannot be removed");
        }
    }
}
