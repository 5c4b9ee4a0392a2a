//! Our snapshot files; ZooKeeper's dataDir read and written.
#![cfg_attr(
    not(test),
    expect(dead_code, reason = "used once the request path joins")
)]

pub mod zookeeper;

mod fault;
mod record;

pub use fault::{Fault, FileFault};
