//! What this server is in its ensemble at the moment, and who is told.
//!
//! One task watches openraft's metrics. It publishes [`Role`] and whether clients are served,
//! keeps the [`Lease`], and has the [`Judge`] start over *before* anybody reads that this server
//! leads, and before the lease counts again after a gap.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use openraft::{Instant, RaftMetrics, ServerState};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Judge;
use super::lease::Lease;
use super::types::{Raft, Types, server_of};
use crate::clock::SharedClock;
use crate::config::{self, Ensemble};

/// The role of this server, as `Replication::role` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// No leader is known here.
    Looking,
    /// It follows server `leader`, and forwards to it.
    Following {
        /// The number of the leader.
        leader: u8,
        /// The leader's term: another leadership of the same server is another role.
        term: u64,
    },
    /// It leads, and has applied the first entry of its term: it may confirm, expire and reap.
    Leading {
        /// Its term.
        term: u64,
    },
}

impl Role {
    /// Whether this server leads.
    pub(crate) fn leads(self) -> bool {
        matches!(self, Role::Leading { .. })
    }
}

/// How often in its lease a leader looks whether it still holds it.
const LOOKS: u32 = 4;

/// Publishes what openraft says, until it is told to stop.
pub(super) struct Watcher {
    pub(super) raft: Raft,
    pub(super) clock: SharedClock,
    pub(super) judge: Arc<dyn Judge>,
    pub(super) lease: Lease,
    /// Participants of the configured list; none where the server stands alone.
    pub(super) listed: BTreeSet<u8>,
    pub(super) role: watch::Sender<Role>,
    pub(super) serving: watch::Sender<bool>,
    pub(super) stop: CancellationToken,
}

/// Those who vote in a configured list.
pub(super) fn listed(ensemble: Option<&Ensemble>) -> BTreeSet<u8> {
    ensemble.map_or_else(BTreeSet::new, |ensemble| ensemble.participants().collect())
}

/// What a look at openraft's metrics says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    Looking,
    Following {
        leader: u8,
        term: u64,
    },
    /// Leads, maybe without having applied anything of its term.
    Elected {
        term: u64,
        applied: bool,
    },
}

fn look(metrics: &RaftMetrics<Types>) -> Seen {
    let term = metrics.current_term;
    let applied = metrics.last_applied.map(|applied| applied.leader_id.term);
    match metrics.current_leader {
        _ if metrics.state == ServerState::Leader => Seen::Elected {
            term,
            applied: applied == Some(term),
        },
        Some(leader) if leader != metrics.id => Seen::Following {
            leader: server_of(leader),
            term,
        },
        _ => Seen::Looking,
    }
}

/// Whether this server belongs to the ensemble as it is in force, which is large enough to be the
/// one that was configured, and knows a leader.
fn serves(metrics: &RaftMetrics<Types>, listed: &BTreeSet<u8>) -> bool {
    let membership = metrics.committed_membership_config.membership();
    let known = metrics.current_leader.is_some();
    if listed.is_empty() {
        return known;
    }
    let voters: BTreeSet<u8> = membership.voter_ids().map(server_of).collect();
    let member = membership.get_node(&metrics.id).is_some();
    known && member && voters.intersection(listed).count() * 2 > listed.len()
}

impl Watcher {
    pub(super) async fn run(self) {
        tokio::select! {
            () = self.watch() => {}
            () = self.stop.cancelled() => {}
        }
        self.lease.set(None);
        self.serving.send_replace(false);
        self.role.send_replace(Role::Looking);
    }

    async fn watch(&self) {
        // Told of changes of the role only, so that this task sleeps while requests flow.
        let mut server = self.raft.server_metrics();
        // Told of every entry: waited for only while the first of a term is on its way.
        let mut every = self.raft.metrics();
        loop {
            let of_the_role = server.borrow_and_update().clone();
            let (settled, seen, serves, alone) = {
                let metrics = every.borrow_and_update();
                let settled = is_settled(&of_the_role, &metrics);
                let alone = alone(&metrics);
                (
                    settled,
                    look(&metrics),
                    serves(&metrics, &self.listed),
                    alone,
                )
            };
            if !settled {
                let ended = tokio::select! {
                    changed = every.changed() => changed.is_err(),
                    changed = server.changed() => changed.is_err(),
                };
                if ended {
                    return;
                }
                continue;
            }
            self.publish(seen, serves);
            let ended = match seen {
                Seen::Elected { applied: false, .. } => every.changed().await.is_err(),
                Seen::Elected { .. } if !alone => tokio::select! {
                    changed = server.changed() => changed.is_err(),
                    () = tokio::time::sleep(self.lease.length() / LOOKS) => false,
                },
                _ => server.changed().await.is_err(),
            };
            if ended {
                return;
            }
        }
    }

    fn publish(&self, seen: Seen, serves: bool) {
        let before = *self.role.borrow();
        let role = match seen {
            Seen::Elected {
                term,
                applied: true,
            } => Role::Leading { term },
            Seen::Following { leader, term } => Role::Following { leader, term },
            Seen::Looking | Seen::Elected { .. } => Role::Looking,
        };
        if !role.leads() {
            self.lease.set(None);
        } else if before == role {
            self.keep_lease();
        } else {
            self.lease.set(None);
            self.judge.start_over(self.lease.length());
            self.lease.set(self.acked_until());
        }
        if before != role {
            // Whoever stands alone leads from the start, and has nothing to tell of it.
            if !self.listed.is_empty() {
                tracing::info!(?role, "role changed");
            }
            self.role.send_replace(role);
        }
        self.serving.send_if_modified(|told| {
            let changed = *told != serves;
            *told = serves;
            changed
        });
    }

    /// The lease goes on if this look came before it ended; else there was a gap, be it of the
    /// quorum's answers or of this task.
    fn keep_lease(&self) {
        let ends = self.acked_until();
        if ends.is_some() && !self.lease.valid() {
            self.lease.set(None);
            self.lease.count_gap();
            self.judge.start_over(self.lease.length());
        }
        self.lease.set(ends);
    }

    /// Until when the quorum's last answer holds; `None` if that is over.
    fn acked_until(&self) -> Option<Duration> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let now = self.clock.monotonic();
        if alone(&metrics) {
            return Some(Duration::MAX);
        }
        let acked = metrics.last_quorum_acked.as_ref()?;
        let left = self.lease.length().checked_sub(acked.elapsed())?;
        Some(now + left).filter(|_| !left.is_zero())
    }
}

/// Whether both kinds of metrics tell of one moment. openraft sends those of the role first and
/// all of them right after: whoever is woken by the former and reads the latter may read of the
/// moment before, and is not woken again.
pub(super) fn is_settled(role: &RaftServerMetrics<Types>, all: &RaftMetrics<Types>) -> bool {
    role.state == all.state
        && role.current_leader == all.current_leader
        && role.vote == all.vote
        && role.membership_config == all.membership_config
        && role.committed_membership_config == all.committed_membership_config
}

/// Whether nobody else has a vote.
fn alone(metrics: &RaftMetrics<Types>) -> bool {
    let mut voters = metrics.membership_config.membership().voter_ids();
    voters.next() == Some(metrics.id) && voters.next().is_none()
}

/// What a server is in its list.
pub(super) fn is_participant(ensemble: &Ensemble, server: u8) -> bool {
    ensemble
        .server(server)
        .is_some_and(|line| line.role == config::Role::Participant)
}
