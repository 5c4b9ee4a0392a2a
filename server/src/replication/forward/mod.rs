//! Between a server and its leader: requests for the log, proofs that a read is current, and what
//! sessions said.
//!
//! The courier of a follower or observer sends what the propose queue gives out, over one link to
//! the leader of the moment; the clerk of the leader takes it, one task for each link. Results do
//! not come back: every server computes them as it applies. So all that a leader says of requests
//! is how far it has applied them.
//!
//! Not here: what waits and what must be sent again (`queue`), who leads (`role`), who judges
//! sessions (`Judge`).
//!
//! Invariants:
//! - On one link, requests arrive in the order in which they were pushed, and nothing between two
//!   of them is missing. What was not taken when a link ends is sent again, first and in order,
//!   on the next (R8, R9).
//! - A server that does not lead the term in which a link was opened answers nothing on it.
//! - A read index is the quorum's, never a lease's (R19). A session is confirmed within a lease
//!   that holds before and after (R16).

mod clerk;
mod courier;
mod message;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use quorate_proto::SessionId;
use tokio::sync::{mpsc, oneshot, watch};

pub(super) use self::clerk::Clerk;
#[cfg(test)]
pub(super) use self::clerk::vetted;
#[cfg(test)]
pub(super) use self::courier::Asked;
pub(super) use self::courier::Courier;
#[cfg(test)]
pub(super) use self::message::{FromLeader, ToLeader};
use super::machine::Progress;
use super::queue::{ProposeQueue, Unavailable, Way};
use super::read_index::ReadIndex;
use super::{Judge, Lease, Role};
use crate::config::Config;
use crate::peers::Call;

/// Errands that wait for the courier. Readers share theirs, and one report is in flight: more
/// only come when links break.
const ERRANDS_MAX: usize = 64;

/// The leader's right to believe that nobody else leads.
pub(crate) trait Alone: Send + Sync + 'static {
    /// Whether this server leads `term` and a quorum acknowledged it recently enough that no
    /// other server can lead before the lease is over.
    fn valid(&self, term: u64) -> bool;
}

/// Asks a quorum whether this server leads.
pub(super) trait Quorum: Send + Sync + 'static {
    /// The index up to which must be applied what was acknowledged before the call. Never by a
    /// lease.
    fn read_index(&self) -> BoxFuture<'_, Result<u64, Unproven>>;
}

/// No read index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unproven {
    /// It may come if asked again: the leader changes, or a quorum does not answer.
    NotNow,
    /// The engine has stopped.
    Ended,
}

/// What the leader said to a report of touches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Confirmed {
    /// The sessions that were not renewed: unknown, or about to be closed.
    pub(crate) refused: Vec<SessionId>,
}

/// How patient a server is with its leader.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// How long the leader may leave a read index or a report unanswered before the link to it
    /// is given up. Nothing in these waits for a disk.
    pub(super) answer: Duration,
    /// How long a read or a report waits for a leader in all.
    pub(super) leader: Duration,
}

impl Patience {
    /// That of a server of an ensemble; `None` where it stands alone.
    ///
    /// Whoever waits longer than clients are kept waits for nothing (R17).
    pub(super) fn of(config: &Config) -> Option<Patience> {
        let ensemble = config.ensemble.as_ref()?;
        let leader = config.tick_time.min(ensemble.sync_limit);
        Some(Patience {
            answer: leader / 3,
            leader,
        })
    }
}

impl Alone for Lease {
    fn valid(&self, _term: u64) -> bool {
        // It is taken away before another term's is given, and given only to whoever started over.
        Lease::valid(self)
    }
}

/// Something to ask the leader. Whoever asked has gone away if the sender is closed; dropped
/// without an answer: ask again.
pub(super) enum Errand {
    ReadIndex(oneshot::Sender<Option<u64>>),
    Touches(Vec<SessionId>, oneshot::Sender<Option<Vec<SessionId>>>),
}

/// Where errands go in; [`Courier`] has the other end.
#[derive(Clone)]
pub(super) struct Errands(mpsc::Sender<Errand>);

impl Errands {
    pub(super) fn new() -> (Errands, mpsc::Receiver<Errand>) {
        let (errands, courier) = mpsc::channel(ERRANDS_MAX);
        (Errands(errands), courier)
    }

    /// Asks the leader for a read index, as long as `role` does not change.
    pub(super) async fn read_index(
        &self,
        role: &mut watch::Receiver<Role>,
    ) -> Result<u64, Unproven> {
        let (answer, answered) = oneshot::channel();
        self.run(Errand::ReadIndex(answer), answered, role)
            .await
            .ok_or(Unproven::NotNow)
    }

    async fn run<T>(
        &self,
        errand: Errand,
        answered: oneshot::Receiver<Option<T>>,
        role: &mut watch::Receiver<Role>,
    ) -> Option<T> {
        let errand = async {
            self.0.send(errand).await.ok()?;
            answered.await.ok()?
        };
        tokio::select! {
            answer = errand => answer,
            _ = role.changed() => None,
        }
    }
}

/// Has sessions confirmed by the leader, be it this server or another.
pub(crate) struct Confirmer {
    pub(super) role: watch::Receiver<Role>,
    /// Whoever judges holds this, by way of what it is confirmed by.
    pub(super) judge: Weak<dyn Judge>,
    pub(super) lease: Arc<dyn Alone>,
    pub(super) errands: Errands,
    pub(super) patience: Patience,
}

impl Confirmer {
    /// Renews these sessions at the leader, after this call.
    pub(crate) async fn confirm(&self, sessions: Vec<SessionId>) -> Result<Confirmed, Unavailable> {
        let mut role = self.role.clone();
        let now = *role.borrow_and_update();
        match now {
            Role::Leading { term } => self.confirm_here(term, &sessions),
            Role::Following { .. } => {
                let asking = self.confirm_there(sessions, &mut role);
                let asked = tokio::time::timeout(self.patience.leader, asking).await;
                asked.unwrap_or_default()
            }
            Role::Looking => None,
        }
        .ok_or(Unavailable::NoLeader)
    }

    /// Whether this server leads, and no other can: what it renews itself is confirmed.
    pub(crate) fn alone(&self) -> bool {
        match *self.role.borrow() {
            Role::Leading { term } => self.lease.valid(term),
            Role::Looking | Role::Following { .. } => false,
        }
    }

    /// As the leader of `term`; `None` if it cannot be sure to be that.
    pub(super) fn confirm_here(&self, term: u64, sessions: &[SessionId]) -> Option<Confirmed> {
        let leads = || self.lease.valid(term) && *self.role.borrow() == Role::Leading { term };
        if !leads() {
            return None;
        }
        let refused = self.judge.upgrade()?.renew(sessions);
        leads().then_some(Confirmed { refused })
    }

    async fn confirm_there(
        &self,
        mut sessions: Vec<SessionId>,
        role: &mut watch::Receiver<Role>,
    ) -> Option<Confirmed> {
        let mut refused = Vec::new();
        loop {
            let rest = sessions.split_off(sessions.len().min(message::SESSIONS_MAX));
            let (answer, answered) = oneshot::channel();
            let errand = Errand::Touches(sessions, answer);
            refused.extend(self.errands.run(errand, answered, role).await?);
            if rest.is_empty() {
                return Some(Confirmed { refused });
            }
            sessions = rest;
        }
    }
}

/// What forwarding needs of the rest of the server.
pub(super) struct Surroundings {
    pub(super) queue: Arc<ProposeQueue>,
    pub(super) role: watch::Receiver<Role>,
    pub(super) call: Arc<dyn Call>,
    pub(super) judge: Weak<dyn Judge>,
    pub(super) lease: Arc<dyn Alone>,
    pub(super) progress: Arc<Progress>,
    pub(super) patience: Patience,
}

/// The parts of an ensemble's server that this room makes.
pub(super) struct Forwarding {
    /// For the batcher.
    pub(super) courier: Courier,
    /// Serves [`crate::peers::Purpose::Requests`].
    pub(super) clerk: Clerk,
    pub(super) confirmer: Arc<Confirmer>,
    /// To be served with an [`super::read_index::Oracle`] that has `errands`.
    pub(super) read_index: Arc<ReadIndex>,
    pub(super) errands: Errands,
}

/// Puts the parts together, and turns the queue to the role of the moment. From then on [`steer`]
/// must run.
pub(super) fn open(around: Surroundings) -> Forwarding {
    let (errands, run) = Errands::new();
    around.queue.turn(way_in(*around.role.borrow()));
    let read_index = ReadIndex::new(around.progress, Some(around.patience.leader));
    let read_index = Arc::new(read_index);
    let confirmer = Arc::new(Confirmer {
        role: around.role.clone(),
        judge: around.judge,
        lease: around.lease,
        errands: errands.clone(),
        patience: around.patience,
    });
    Forwarding {
        courier: Courier {
            queue: around.queue.clone(),
            call: around.call,
            errands: run,
            patience: around.patience,
        },
        clerk: Clerk {
            queue: around.queue,
            role: around.role,
            reads: read_index.clone(),
            confirmer: confirmer.clone(),
        },
        confirmer,
        read_index,
        errands,
    }
}

/// Which way entries go in a role.
pub(super) fn way_in(role: Role) -> Way {
    match role {
        Role::Looking => Way::Nowhere,
        Role::Following { leader, term } => Way::Link { leader, term },
        Role::Leading { term } => Way::Engine { term: Some(term) },
    }
}

/// Turns the queue as the role turns, until there are no more roles.
pub(super) async fn steer(queue: Arc<ProposeQueue>, mut role: watch::Receiver<Role>) {
    loop {
        let now = *role.borrow_and_update();
        queue.turn(way_in(now));
        if role.changed().await.is_err() {
            queue.turn(Way::Nowhere);
            return;
        }
    }
}
