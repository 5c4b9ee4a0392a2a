//! Our snapshot files; ZooKeeper's dataDir read and written.
pub mod zookeeper;

mod fault;
mod format;
mod load;
mod receive;
mod record;
mod state;
mod store;
mod write;

#[cfg(test)]
mod tests;

pub use fault::{Fault, FileFault};
pub(crate) use receive::SnapshotReceiver;
pub(crate) use record::SnapshotMeta;
pub(crate) use state::CapturedAt;
pub use store::LoadError;
pub(crate) use store::{LogReach, SnapshotName, SnapshotStore};
