//! ZooKeeper's data directory, read and written.
//!
//! [`read`] takes over what a ZooKeeper left behind, without touching it; `export` writes a
//! directory that a ZooKeeper starts from. The formats are those of ZooKeeper 3.4 to 3.9.
//!
//! Not in here: whether to import at all, and where our own files stand.

mod compression;
mod directory;
mod export;
mod fingerprint;
mod image;
mod import;
mod jute;
mod log_file;
mod quota;
mod snapshot_file;
mod snapshot_write;
mod source;
mod txn;

#[cfg(test)]
mod tests;

pub use directory::ZooKeeperDirs;
pub(crate) use export::export;
pub use export::{Ephemerals, ExportError, ExportOptions, ExportReport, TtlNodes};
pub use fingerprint::Fingerprint;
pub use import::{ConfigNode, Import, ImportError, ImportOptions, ImportReport, read};
