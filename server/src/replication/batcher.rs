//! The batcher: one task that makes log entries of what waits, and hands them to openraft.
//!
//! It stamps what must be the same on every server: the calendar, and the digest of the newest
//! state applied here (R27). It never panics and never gives up: what openraft refuses leaves
//! again, in order, until it is applied or the engine has stopped.

use std::sync::Arc;
use std::time::Duration;

use super::entry::Header;
use super::machine::Progress;
use super::queue::{Next, ProposeQueue};
use super::types::{Body, Raft, Receipt};
use crate::clock::SharedClock;
use crate::metrics::Metrics;

/// How long a refused entry waits. Writes fail for a moment after an election, until a quorum
/// has answered the new leader once.
const RESEND_AFTER: Duration = Duration::from_millis(5);

pub(super) struct Batcher {
    pub(super) queue: Arc<ProposeQueue>,
    pub(super) raft: Raft,
    pub(super) clock: SharedClock,
    pub(super) progress: Arc<Progress>,
    pub(super) metrics: Arc<Metrics>,
}

impl Batcher {
    /// Runs until the queue is closed and empty, or has failed.
    pub(super) async fn run(self) {
        loop {
            let next = self.queue.next(|count| Header {
                wall_ms: self.clock.wall_ms(),
                count,
                applied: self.progress.digest(),
            });
            let (flight, body) = match next {
                Next::Send { flight, body } => {
                    self.count(body.len());
                    (flight, body)
                }
                Next::Resend { flight, body } => {
                    tracing::debug!(flight, "sending an entry again");
                    tokio::time::sleep(RESEND_AFTER).await;
                    (flight, body)
                }
                Next::Sleep => {
                    self.queue.wake().await;
                    continue;
                }
                Next::End => return,
            };
            let receipt = Receipt::new(self.queue.clone(), flight);
            // An error says that the engine has stopped. The receipt was dropped with the
            // entry, so the queue knows, and the next turn ends.
            if let Err(error) = self.raft.client_write_ff(Body(body), Some(receipt)).await {
                tracing::debug!(%error, "an entry was not taken");
            }
        }
    }

    fn count(&self, bytes: usize) {
        let size = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.metrics.proposals.inc();
        self.metrics.proposal_size.record(size);
        self.metrics
            .last_proposal_bytes
            .set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}
