//! An ensemble under faults: nothing acknowledged is lost, nothing happens twice, no order is
//! broken, no session ends early.
//!
//! `QUORATE_SEEDS=200` runs that many schedules, `QUORATE_SEED=17` that one alone.

#![expect(clippy::indexing_slicing, reason = "a broken test may panic")]

mod history;
mod nemesis;
mod run;

use quorate_server::testing::TestCluster;

/// Schedules of a short run.
const SEEDS: u64 = 3;
/// Faults of one schedule.
const STEPS: usize = 12;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_no_order_is_broken_under_faults() {
    let seeds = match number("QUORATE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("QUORATE_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let mut cluster = TestCluster::start(3).await;
        match run::run(&mut cluster, seed, STEPS).await {
            Ok(report) => eprintln!(
                "seed {seed}: {} calls, {} acknowledged, {} unknown, {:?}",
                report.calls, report.acknowledged, report.unknown, report.faults
            ),
            Err(broken) => panic!("QUORATE_SEED={seed}: {broken}"),
        }
    }
}
