//! The batcher: one task that makes log entries of what waits, and hands them to openraft; or,
//! while another server leads, has the courier take them there.
//!
//! It stamps what must be the same on every server: the calendar, and the digest of the newest
//! state applied here (R27). It never panics and never gives up: what openraft refuses leaves
//! again, in order, until it is applied or the engine has stopped.

use std::sync::Arc;
use std::time::Duration;

use super::entry::Header;
use super::forward::Courier;
use super::machine::Progress;
use super::queue::{Next, ProposeQueue, Way};
use super::types::{Body, Raft, Receipt, WriteResult, leader_of};
use crate::clock::SharedClock;
use crate::metrics::Metrics;

/// How long a refused entry waits. Writes fail for a moment after an election, until a quorum
/// has answered the new leader once.
const RESEND_AFTER: Duration = Duration::from_millis(5);

/// How long a server that stops tries to bring what it took to another that leads.
const DRAIN_AWAY: Duration = Duration::from_secs(2);

pub(super) struct Batcher {
    pub(super) queue: Arc<ProposeQueue>,
    pub(super) raft: Raft,
    pub(super) clock: SharedClock,
    pub(super) progress: Arc<Progress>,
    pub(super) metrics: Arc<Metrics>,
    /// Of an ensemble.
    pub(super) courier: Option<Courier>,
}

impl Batcher {
    /// Runs until the queue is closed and empty, or has failed.
    pub(super) async fn run(mut self) {
        loop {
            let way = self.queue.way();
            match way {
                Way::Engine { term } => self.lead(way, term).await,
                Way::Link { .. } | Way::Nowhere => {
                    let queue = self.queue.clone();
                    tokio::select! {
                        () = self.follow(way) => {}
                        () = give_up(&queue) => return,
                    }
                }
            }
            if self.queue.is_through() {
                return;
            }
        }
    }

    /// Serves the own engine, while it leads.
    async fn lead(&self, way: Way, term: Option<u64>) {
        loop {
            let next = self.queue.next(way, |count| Header {
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
                // Frames are for the courier: this is not the way any more.
                Next::Turn | Next::End | Next::Frame { .. } => return,
            };
            let receipt = Receipt::new(self.queue.clone(), flight);
            self.write(term, Body(body), receipt).await;
        }
    }

    async fn write(&self, term: Option<u64>, body: Body, receipt: Receipt<WriteResult>) {
        let written = match term {
            None => self.raft.client_write_ff(body, Some(receipt)).await,
            // What was judged in one term must not enter the log in another.
            Some(term) => {
                let write = self.raft.write(body).responder(receipt);
                write.with_leader(leader_of(term)).await
            }
        };
        // An error says that the engine has stopped. The receipt was dropped with the
        // entry, so the queue knows, and the next turn ends.
        if let Err(error) = written {
            tracing::debug!(%error, "an entry was not taken");
        }
    }

    /// Goes this way while it is the way, and not to the own engine.
    async fn follow(&mut self, way: Way) {
        match (way, &mut self.courier) {
            (Way::Link { leader, .. }, Some(courier)) => courier.follow(leader, way).await,
            _ => self.queue.turned(way).await,
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

/// Returns when the queue was closed and what is in it does not get away.
async fn give_up(queue: &ProposeQueue) {
    queue.until_closed().await;
    if !queue.is_through() {
        tokio::time::sleep(DRAIN_AWAY).await;
    }
}
