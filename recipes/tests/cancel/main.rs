//! Each future of the public API may be dropped at any poll: no znode, watch or task stays behind,
//! and the next contender gets what this one wanted.
//!
//! In each case the future is dropped after its first poll, after its second, and so on until it
//! comes to its end or waits for another. What it waits for is dropped after it.
#![expect(clippy::unwrap_used, reason = "helper functions of tests")]

mod locks;
mod others;
mod queues;
#[path = "../support/relay.rs"]
#[expect(dead_code, reason = "nothing is counted or swallowed here")]
mod relay;
#[path = "../support/sweep.rs"]
mod sweep;

use quorate_recipes::{Client, Result};

/// Prepares nothing.
async fn nothing(_: &Client) -> Result<()> {
    Ok(())
}
