//! Our snapshot files; ZooKeeper's dataDir read and written.
#![cfg_attr(
    not(test),
    expect(dead_code, unused_imports, reason = "used once the request path joins")
)]

pub mod zookeeper;

mod fault;
mod format;
mod load;
mod record;
mod state;
mod store;
mod write;

#[cfg(test)]
mod tests;

pub use fault::{Fault, FileFault};
pub(crate) use load::SnapshotVisitor;
pub(crate) use record::{NodeView, SessionRecord, SnapshotMeta};
pub(crate) use state::{CapturedAt, LoadedState};
pub use store::LoadError;
pub(crate) use store::{LogReach, SnapshotName, SnapshotStore};
