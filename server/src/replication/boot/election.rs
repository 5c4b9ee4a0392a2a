//! A leader that died is replaced without waiting for its lease.
//!
//! Each voter keeps an idle link to the leader. When that breaks and dialling again is *refused*,
//! the process is gone; when a majority of the voters see the same, the one with the longest log
//! asks for votes as a successor that the leader named would: voters grant those inside the lease
//! (R19). One bad link does not depose a leader, and a machine that is silent is left to the
//! ordinary timeout.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use openraft::RaftMetrics;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::TransferLeaderRequest;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::ask;
use super::desk::Desk;
use super::message::{Message, Seen};
use crate::peers::{Link, Purpose};
use crate::replication::links::Links;
use crate::replication::role::Role;
use crate::replication::types::{Raft, Types, server_of};

/// Pause before a leader that could not be reached is dialled again.
const REDIAL: Duration = Duration::from_millis(100);
/// How long the others may take to say what they see.
const ASK_WITHIN: Duration = Duration::from_millis(150);
/// How long a voter waits for each that has a better claim.
const PRECEDENCE: Duration = Duration::from_millis(40);

/// Term and index of the end of a server's log: the longer one may lead.
pub(super) fn claim(metrics: &RaftMetrics<Types>) -> (u64, u64) {
    // The log's last term is the vote's, unless nothing of this term arrived yet; the index alone
    // tells servers apart that follow the same leader.
    (metrics.current_term, metrics.last_log_index.unwrap_or(0))
}

/// Whether nobody listens there any more.
pub(super) async fn is_refused(links: &dyn Links, server: u8) -> bool {
    let dialled = tokio::time::timeout(ASK_WITHIN, links.call(server, Purpose::Boot)).await;
    matches!(dialled, Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Watches over the leader of the moment.
pub(in crate::replication) struct Sentinel {
    pub(in crate::replication) raft: Raft,
    pub(in crate::replication) desk: Arc<Desk>,
    pub(in crate::replication) role: watch::Receiver<Role>,
    pub(in crate::replication) stop: CancellationToken,
}

impl Sentinel {
    pub(in crate::replication) async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            () = self.watch() => {}
            () = stop.cancelled() => {}
        }
    }

    async fn watch(&mut self) {
        loop {
            let follows = |role: &Role| matches!(role, Role::Following { .. });
            let Ok(role) = self.role.wait_for(follows).await.map(|role| *role) else {
                return;
            };
            let Role::Following { leader, term } = role else {
                continue;
            };
            let mut changes = self.role.clone();
            tokio::select! {
                () = self.watch_one(leader, term) => {}
                _ = changes.wait_for(|now| *now != role) => {}
            }
        }
    }

    /// Ends only by being dropped, with the role.
    async fn watch_one(&self, leader: u8, term: u64) {
        let mut was_there = false;
        loop {
            match self.desk.links.call(leader, Purpose::Boot).await {
                Ok(link) => {
                    was_there = true;
                    until_broken(link).await;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused && was_there => {
                    self.replace(leader, term).await;
                }
                Err(_) => {}
            }
            tokio::time::sleep(REDIAL).await;
        }
    }

    /// Nobody listens where the leader did. Others must see the same.
    async fn replace(&self, leader: u8, term: u64) {
        let (me, vote, voters, mine, last) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let voters: Vec<u64> = metrics.membership_config.membership().voter_ids().collect();
            let vote = metrics.vote;
            (
                metrics.id,
                vote,
                voters,
                claim(&metrics),
                metrics.last_applied,
            )
        };
        let gone = vote.leader_id.voted_for;
        if !voters.contains(&me) || server_of(gone) != leader || vote.leader_id.term != term {
            return;
        }
        let others = voters.iter().copied().filter(|&id| id != me && id != gone);
        let seen = join_all(others.map(|id| self.ask(id, term, gone))).await;
        let agree: Vec<(u64, (u64, u64))> = seen.into_iter().flatten().collect();
        if (agree.len() + 1) * 2 <= voters.len() {
            return;
        }
        let better = agree.iter().filter(|(id, last)| (*last, me) > (mine, *id));
        let wait = PRECEDENCE * u32::try_from(better.count()).unwrap_or(u32::MAX);
        tokio::time::sleep(wait).await;
        tracing::info!(leader, term, "the leader is gone: asking for votes");
        let request = TransferLeaderRequest::new(vote, me, last);
        match self.raft.handle_transfer_leader(request).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "no election"),
            Err(error) => tracing::debug!(%error, "no election"),
        }
    }

    /// What another voter says, if it agrees.
    async fn ask(&self, id: u64, term: u64, leader: u64) -> Option<(u64, (u64, u64))> {
        let question = Message::Gone { term, leader };
        let asked = ask(&*self.desk.links, server_of(id), &question);
        match tokio::time::timeout(ASK_WITHIN * 2, asked).await {
            Ok(Ok(Message::Seen(Seen { gone: true, last }))) => Some((id, last)),
            _ => None,
        }
    }
}

/// Nobody sends anything on it; it lasts as long as the process at the other end.
async fn until_broken(mut link: Link) {
    while let Ok(Some(_)) = link.reader.recv().await {}
}
