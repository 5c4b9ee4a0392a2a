//! The replicated state: znodes, their Stats and ACLs, sessions, zxids.
//!
//! One writer, [`State::apply`], takes transactions in log order; many readers look at single
//! znodes while it does. It judges a transaction first, without changing anything, and then
//! carries it out, which cannot fail. Watches are not in here: each change is handed to a
//! [`ChangeSink`] before its locks are released.
//!
//! Pure: no I/O, clock, randomness or task. Time comes with each transaction. Every server
//! reaches the same state from the same log, and nothing that a client can see depends on the
//! order of a hash map.
//!
//! Locks: the apply gate, then shards in ascending order. [`Tree::read`] holds one shard;
//! whoever needs several to agree holds [`Tree::gate`].

#![warn(clippy::wildcard_enum_match_arm)]

mod acls;
mod builder;
mod caller;
mod capture;
mod codec;
mod commit;
mod core;
mod digest;
mod names;
mod node;
mod password;
mod plan;
mod quota;
mod reap;
mod replace;
mod sessions;
mod shard;
mod state;
mod store;
pub(crate) mod txn;

#[cfg(test)]
mod tests;

pub(crate) use acls::open_acl;
pub(crate) use builder::{AclHandle, LoadError, StateBuilder};
pub(crate) use caller::{Caller, CallerBuf};
pub(crate) use capture::{Capture, CapturedNode};
pub(crate) use codec::CodecError;
pub(crate) use node::PersistedStat;
pub(crate) use sessions::SessionInfo;
pub(crate) use state::{ChangeSink, State};
pub(crate) use store::NodeRef;
