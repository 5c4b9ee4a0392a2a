//! The Quorate server as a library.
//!
//! The order of the modules below is the architecture: a module uses only modules declared after
//! it. Read downwards you follow a request; replies travel back up as return values and through
//! traits that the lower module defines. `tests/layers.rs` holds the code to it.

#[cfg(feature = "testing")]
pub mod testing;

mod node;

mod admin;

mod listener;

mod connection;

mod pipeline;

#[cfg(test)]
mod simulation;

mod sessions;

mod replication;

mod peers;

mod log;

pub mod snapshot;

mod watches;

mod tree;

mod disk;

pub mod config;

mod clock;

mod metrics;

mod lock_order;

pub use crate::config::Config;
pub use crate::node::{
    ExportDataDirError, Server, ServerFailed, StartError, StorageError, StorageTrouble,
    export_datadir,
};
