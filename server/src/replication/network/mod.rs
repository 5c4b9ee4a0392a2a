//! Raft between servers: openraft's requests over links between peers.
//!
//! A leader has three links to each member: entries go pipelined over one, heartbeats and votes
//! over another, a snapshot over a third, so that nothing large stands in front of a sign of
//! life. Links are made when needed and again when they break.
//!
//! Not here: who the leader is, and what entries mean. Nothing is retried here: openraft does.
//!
//! Invariants:
//! - Answers come in the order of the requests, each once, or the link is over.
//! - A request reaches the very member it was meant for, not the one that took its number.
//! - What is under way is bounded in number and bytes, at either end; a silent peer is given up.

mod alone;
mod client;
mod codec;
mod lane;
mod serve;
mod snapshot;

#[cfg(test)]
mod tests;

pub(super) use self::alone::NoPeers;
pub(super) use self::client::Network;
pub(super) use self::serve::RaftHandler;
pub(super) use self::snapshot::SnapshotHandler;
