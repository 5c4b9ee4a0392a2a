//! What openraft's type parameters are here, and the names by which this module calls them.
//!
//! No openraft type leaves `replication`.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use openraft::alias;
use openraft::impls::leader_id_std;
use openraft::raft::responder::Responder;
use openraft::vote::RaftLeaderId;
use openraft::{OptionalSend, RaftTypeConfig};

use super::machine::Machine;
use super::queue::{Landing, ProposeQueue};

/// Our choice of openraft's types: one leader per term, so that a term can become an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Types;

impl RaftTypeConfig for Types {
    type D = Body;
    type R = ();
    type NodeId = u64;
    type Node = openraft::BasicNode;
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Body, u64, openraft::BasicNode>;
    type Entry = openraft::Entry<<Self::LeaderId as RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = openraft_rt_tokio::TokioRuntime;
    type Responder<T>
        = Receipt<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(super) type Raft = openraft::Raft<Types, Machine>;
pub(super) type Entry = alias::EntryOf<Types>;
pub(super) type Fatal = openraft::errors::Fatal<Types>;
pub(super) type LogId = alias::LogIdOf<Types>;
pub(super) type Membership = openraft::Membership<u64, openraft::BasicNode>;
pub(super) type StoredMembership = alias::StoredMembershipOf<Types>;
pub(super) type Vote = alias::VoteOf<Types>;
pub(super) type WriteResult = openraft::raft::ClientWriteResult<Types>;

/// The log id of an entry that the leader of `term` wrote at `index`.
pub(super) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(alias::CommittedLeaderIdOf::<Types>::new(term), index)
}

/// Who leads `term`, as entries name it: there is one leader in a term.
pub(super) fn leader_of(term: u64) -> alias::CommittedLeaderIdOf<Types> {
    alias::CommittedLeaderIdOf::<Types>::new(term)
}
/// The incarnation of whoever founded an ensemble, and of nobody else.
pub(super) const FOUNDER: u32 = 1;

/// The id of a server in the consensus group: its number, and how often that number began with
/// an empty disk. A wiped server is a new member, so it can never vote away what it once
/// acknowledged.
pub(super) fn node_id(my_id: u8, incarnation: u32) -> u64 {
    u64::from(my_id) << 32 | u64::from(incarnation)
}

/// The number of the server that has this id.
pub(super) fn server_of(node: u64) -> u8 {
    // The number was put there by `node_id`; whatever else is there is nobody's.
    u8::try_from(node >> 32).unwrap_or(0)
}

/// The encoded requests of one log entry. They stay encoded from here to the disk of every server.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Body(pub(super) Bytes);

/// Never the content: it is the users' data.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Tells the propose queue what became of an entry that was handed to openraft, exactly once.
///
/// It says nothing about outcomes: those come from the apply loop, on every server alike.
pub(super) struct Receipt<T> {
    flight: Option<(Arc<ProposeQueue>, u64)>,
    judge: fn(T) -> Landing,
}

impl Receipt<WriteResult> {
    pub(super) fn new(queue: Arc<ProposeQueue>, flight: u64) -> Self {
        Receipt {
            flight: Some((queue, flight)),
            judge: |result| match result {
                Ok(_) => Landing::Applied,
                // Whether the entry was refused or discarded: sending it again is safe, because
                // apply takes each request of a session once.
                Err(_) => Landing::Refused,
            },
        }
    }
}

impl<T: OptionalSend + 'static> Responder<Types, T> for Receipt<T> {
    fn on_complete(mut self, result: T) {
        if let Some((queue, flight)) = self.flight.take() {
            queue.landed(flight, (self.judge)(result));
        }
    }
}

/// openraft drops the receipts that it holds when it stops.
impl<T> Drop for Receipt<T> {
    fn drop(&mut self) {
        if let Some((queue, flight)) = self.flight.take() {
            queue.landed(flight, Landing::Lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_carries_the_number_and_the_incarnation() {
        assert_eq!(node_id(3, 1), 0x3_0000_0001);
        assert_eq!(server_of(node_id(255, u32::MAX)), 255);
    }
}
