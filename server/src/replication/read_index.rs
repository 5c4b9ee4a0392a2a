//! Proof that what is applied here is current: the quorum's read index, then local apply.
//!
//! Never a lease: a hand-over of leadership passes over leases (R19). Callers share rounds: one
//! is under way, the next serves everybody who came meanwhile. A caller never joins a round that
//! began before it asked.

use std::sync::atomic::{AtomicU64, Ordering};

use openraft::ReadPolicy;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::queue::Unavailable;
use super::types::Raft;

/// The result of the newest round: it answers every ticket up to `served`.
#[derive(Clone, Debug)]
struct Round {
    served: u64,
    result: Result<(), Unavailable>,
}

/// Hands out tickets; one task serves them.
pub(super) struct ReadIndex {
    tickets: AtomicU64,
    asked: Notify,
    rounds: watch::Sender<Round>,
}

impl ReadIndex {
    pub(super) fn new() -> ReadIndex {
        ReadIndex {
            tickets: AtomicU64::new(0),
            asked: Notify::new(),
            rounds: watch::Sender::new(Round {
                served: 0,
                result: Ok(()),
            }),
        }
    }

    /// Returns once everything that was acknowledged anywhere before the call is applied here.
    pub(super) async fn wait(&self) -> Result<(), Unavailable> {
        let mut rounds = self.rounds.subscribe();
        let ticket = self.tickets.fetch_add(1, Ordering::AcqRel) + 1;
        self.asked.notify_one();
        match rounds.wait_for(|round| round.served >= ticket).await {
            Ok(round) => round.result.clone(),
            Err(_) => Err(Unavailable::Stopping),
        }
    }

    /// Serves until it is told to stop; then all who wait, and all who come, hear `why`.
    pub(super) async fn serve(
        &self,
        raft: Raft,
        stop: CancellationToken,
        why: impl Fn() -> Unavailable + Send,
    ) {
        loop {
            let stopping = tokio::select! {
                () = self.asked.notified() => false,
                () = stop.cancelled() => true,
            };
            let served = self.tickets.load(Ordering::Acquire);
            let result = if stopping {
                Err(why())
            } else if served == self.rounds.borrow().served {
                continue;
            } else {
                tokio::select! {
                    result = raft.ensure_linearizable(ReadPolicy::ReadIndex) => {
                        result.map(|_| ()).map_err(|_| why())
                    }
                    () = stop.cancelled() => Err(why()),
                }
            };
            let served = if stopping { u64::MAX } else { served };
            self.rounds.send_replace(Round { served, result });
            if stopping {
                return;
            }
        }
    }
}
