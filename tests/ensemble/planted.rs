//! The checkers find the bugs that are planted for them, and nothing without them.

use quorate_server::testing::TestCluster;

use crate::run::{Extra, run};

/// Power failures are tried until one leaves less than what was acknowledged: what a disk keeps
/// of unsynced writes is up to the seed, and a server does not start on pieces.
const POWER_FAILURES: u64 = 16;

async fn power_failure(seed: u64, lies: bool) -> Result<(), String> {
    let mut cluster = TestCluster::start(3).await;
    if lies {
        for server in cluster.servers() {
            cluster.break_syncs(server);
        }
    }
    let report = run(&mut cluster, seed, 0, Extra::PowerFailureOfAll).await;
    report.map(|_| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_that_lie_about_syncs_are_found_when_the_power_fails() {
    for seed in 0..POWER_FAILURES {
        let Err(broken) = power_failure(seed, true).await else {
            continue;
        };
        if broken.contains("is damaged") {
            continue;
        }
        assert!(broken.starts_with("Lost"), "{broken}");
        assert_eq!(power_failure(seed, false).await, Ok(()), "seed {seed}");
        return;
    }
    panic!("{POWER_FAILURES} power failures of lying disks, and nothing was missed");
}

async fn standstill(expire: bool) -> Result<(), String> {
    let mut cluster = TestCluster::start(3).await;
    let report = run(&mut cluster, 1, 0, Extra::Standstill { expire }).await;
    report.map(|_| ())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_expired_early_is_found() {
    let broken = standstill(true).await.unwrap_err();
    assert!(
        broken.contains("was closed while its client trusts it"),
        "{broken}"
    );
    assert_eq!(standstill(false).await, Ok(()));
}
