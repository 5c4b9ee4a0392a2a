//! An ensemble under faults: nothing acknowledged is lost, nothing happens twice, no order is
//! broken, no session ends early.
//!
//! `QUORATE_SEEDS=200` runs that many schedules, `QUORATE_SEED=17` that one alone,
//! `QUORATE_VOTERS=5` and `QUORATE_OBSERVERS=2` on that many servers.

#![expect(
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a broken test may panic, and a run says what it did"
)]

mod history;
mod nemesis;
mod planted;
mod run;

use std::ops::Range;

use quorate_server::testing::TestCluster;

use crate::run::Extra;

/// Schedules of a short run.
const SEEDS: u64 = 3;
/// Faults of one schedule.
const STEPS: usize = 12;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

async fn schedules(voters: u8, observers: u8, seeds: Range<u64>) {
    for seed in seeds {
        let builder = TestCluster::builder().participants(voters);
        let mut cluster = builder.observers(observers).start().await;
        match run::run(&mut cluster, seed, STEPS, Extra::Nothing).await {
            Ok(report) => eprintln!(
                "seed {seed}: {} calls, {} acknowledged, {} unknown, {:?}",
                report.calls, report.acknowledged, report.unknown, report.faults
            ),
            Err(broken) => panic!("QUORATE_SEED={seed}: {broken}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_no_order_is_broken_under_faults() {
    let seeds = match number("QUORATE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("QUORATE_SEEDS").unwrap_or(SEEDS),
    };
    let servers = |name, default| u8::try_from(number(name).unwrap_or(default)).unwrap();
    let (voters, observers) = (
        servers("QUORATE_VOTERS", 3),
        servers("QUORATE_OBSERVERS", 0),
    );
    schedules(voters, observers, seeds).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ensemble_with_an_observer_keeps_the_same_promises() {
    schedules(3, 1, 1_000..1_001).await;
}
