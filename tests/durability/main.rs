//! Nothing acknowledged is lost: not by a kill, not by a power failure.
//!
//! `journal` knows what a client asked for and what it was told, and judges what is there
//! afterwards. `load` is a client that keeps a journal. `kill` ends real processes with SIGKILL;
//! `torn` cuts the power of a simulated disk at every operation.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot set up its world should fail"
)]

mod journal;
mod kill;
mod load;
#[path = "../support/mod.rs"]
mod support;
mod torn;

/// The seed of this run: `QUORATE_SEED`, or a new one. It is printed, to repeat a failure.
fn seed() -> u64 {
    let given = std::env::var("QUORATE_SEED").ok();
    given.map_or_else(rand::random, |text| text.parse().unwrap())
}
