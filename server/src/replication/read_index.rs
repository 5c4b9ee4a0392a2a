//! Proof that what is applied here is current: the quorum's read index, then local apply.
//!
//! A server that does not lead asks the leader, which asks the quorum; what one leader cannot
//! answer is asked of the next. Never a lease: a hand-over of leadership passes over leases
//! (R19). Callers share rounds: one is under way, the next serves everybody who came meanwhile. A
//! caller never joins a round that began before it asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use openraft::ReadPolicy;
use openraft::errors::RaftError;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::Role;
use super::forward::{Errands, Quorum, Unproven};
use super::machine::Progress;
use super::queue::Unavailable;
use super::types::Raft;

/// How soon a leader is asked again that could not tell.
const RETRY: Duration = Duration::from_millis(10);

/// The result of the newest round: it answers every ticket up to `served`.
#[derive(Clone, Debug)]
struct Round {
    served: u64,
    result: Result<u64, Unavailable>,
}

/// Hands out tickets; one task serves them.
pub(super) struct ReadIndex {
    tickets: AtomicU64,
    asked: Notify,
    rounds: watch::Sender<Round>,
    progress: Arc<Progress>,
    /// How long one caller waits for a leader and for local apply; `None`: as long as it takes.
    limit: Option<Duration>,
}

/// Who knows the index: this server's quorum, or the leader.
pub(super) struct Oracle {
    pub(super) quorum: Box<dyn Quorum>,
    /// Of an ensemble; a quorum of one always leads.
    pub(super) ensemble: Option<(watch::Receiver<Role>, Errands)>,
}

impl Oracle {
    /// One attempt.
    async fn index(&mut self) -> Result<u64, Unproven> {
        let Some((role, errands)) = &mut self.ensemble else {
            return self.quorum.read_index().await;
        };
        let now = *role.borrow_and_update();
        match now {
            Role::Leading { .. } => self.quorum.read_index().await,
            Role::Following { .. } => errands.read_index(role).await,
            Role::Looking => role
                .changed()
                .await
                .map_or(Err(Unproven::Ended), |()| Err(Unproven::NotNow)),
        }
    }

    /// Waits until another attempt may have another end.
    async fn pause(&mut self) {
        match &mut self.ensemble {
            Some((role, _)) => tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                Ok(()) = role.changed() => role.mark_changed(),
            },
            None => tokio::time::sleep(RETRY).await,
        }
    }
}

impl Quorum for Raft {
    fn read_index(&self) -> BoxFuture<'_, Result<u64, Unproven>> {
        async {
            match self.get_read_linearizer(ReadPolicy::ReadIndex).await {
                Ok(linearizer) => Ok(linearizer.read_log_id().index()),
                Err(RaftError::APIError(error)) => {
                    tracing::debug!(%error, "no read index");
                    Err(Unproven::NotNow)
                }
                Err(RaftError::Fatal(_)) => Err(Unproven::Ended),
            }
        }
        .boxed()
    }
}

impl ReadIndex {
    pub(super) fn new(progress: Arc<Progress>, limit: Option<Duration>) -> ReadIndex {
        ReadIndex {
            tickets: AtomicU64::new(0),
            asked: Notify::new(),
            rounds: watch::Sender::new(Round {
                served: 0,
                result: Ok(0),
            }),
            progress,
            limit,
        }
    }

    /// Returns once everything that was acknowledged anywhere before the call is applied here.
    pub(super) async fn wait(&self) -> Result<(), Unavailable> {
        self.within_limit(async {
            let index = self.proven().await?;
            if self.progress.has_applied(index) {
                return Ok(());
            }
            let mut rounds = self.rounds.subscribe();
            tokio::select! {
                () = self.progress.until_applied(index) => Ok(()),
                // The last round: nothing more is applied.
                last = rounds.wait_for(|round| round.served == u64::MAX) => match last {
                    Ok(round) => round.result.clone().map(|_| ()),
                    Err(_) => Err(Unavailable::Stopping),
                },
            }
        })
        .await
    }

    /// The index up to which must be applied what was acknowledged anywhere before the call.
    pub(super) async fn index(&self) -> Result<u64, Unavailable> {
        self.within_limit(self.proven()).await
    }

    async fn within_limit<T>(
        &self,
        work: impl Future<Output = Result<T, Unavailable>>,
    ) -> Result<T, Unavailable> {
        match self.limit {
            None => work.await,
            Some(limit) => match tokio::time::timeout(limit, work).await {
                Ok(result) => result,
                Err(_) => Err(Unavailable::NoLeader),
            },
        }
    }

    async fn proven(&self) -> Result<u64, Unavailable> {
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
        mut oracle: Oracle,
        stop: CancellationToken,
        why: impl Fn() -> Unavailable + Send,
    ) {
        let rounds = async {
            loop {
                self.asked.notified().await;
                self.round(&mut oracle, &why).await;
            }
        };
        tokio::select! {
            () = rounds => {}
            () = stop.cancelled() => {}
        }
        self.rounds.send_replace(Round {
            served: u64::MAX,
            result: Err(why()),
        });
    }

    /// Answers all who asked until now, and those who join while a leader is looked for.
    async fn round(&self, oracle: &mut Oracle, why: &impl Fn() -> Unavailable) {
        while self.tickets.load(Ordering::Acquire) != self.rounds.borrow().served {
            // Whoever asks later than this may have seen what this attempt does not cover.
            let served = self.tickets.load(Ordering::Acquire);
            let result = match oracle.index().await {
                Ok(index) => Ok(index),
                Err(Unproven::Ended) => Err(why()),
                Err(Unproven::NotNow) => {
                    oracle.pause().await;
                    continue;
                }
            };
            self.rounds.send_replace(Round { served, result });
            return;
        }
    }
}
