//! Measures, and asserts nothing. In release, on the disk in question:
//! `TMPDIR=… cargo test --release -p quorate-server log::tests::speed -- --ignored --nocapture`

use std::time::Duration;

use super::*;
use crate::clock::{SharedClock, SystemClock};
use crate::disk::real::RealDisk;

const PER_RUN: Duration = Duration::from_millis(700);
const BODY: usize = 120;

/// Processor time of all threads of this process.
fn cpu() -> Duration {
    let mut ns = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let stat = std::fs::read_to_string(task.unwrap().path().join("schedstat"));
        let stat = stat.unwrap_or_default();
        ns += stat
            .split(' ')
            .next()
            .map_or(0, |ns| ns.parse().unwrap_or(0));
    }
    Duration::from_nanos(ns)
}

/// Does it again and again; rounds, median and processor time of one.
fn measure(clock: &SharedClock, mut round: impl FnMut()) -> (usize, Duration, Duration) {
    let cpu_before = cpu();
    let start = clock.monotonic();
    let mut took = Vec::new();
    while clock.monotonic() - start < PER_RUN {
        let before = clock.monotonic();
        round();
        took.push(clock.monotonic() - before);
    }
    let cpu = cpu().saturating_sub(cpu_before);
    took.sort_unstable();
    (
        took.len(),
        took[took.len() / 2],
        cpu / u32::try_from(took.len()).unwrap(),
    )
}

#[test]
#[ignore = "a measurement"]
fn append_against_a_bare_write_and_sync() {
    let dir = tempfile::tempdir().unwrap();
    let clock = SystemClock::shared();
    let before = clock.monotonic();
    let disk = Arc::new(RealDisk);
    let log_dir = dir.path().join("log");
    let metrics = Arc::new(Metrics::default());
    let mut options = LogOptions::new(CLUSTER);
    options.first_segment_bytes = 64 << 20;
    let quick = LogOptions::new(CLUSTER);
    let first = Log::open(
        disk.clone(),
        &dir.path().join("first"),
        quick,
        metrics.clone(),
        clock.clone(),
    );
    println!("a new log opens in {:?}", clock.monotonic() - before);
    drop(first.unwrap());
    let log = Log::open(disk, &log_dir, options, metrics, clock.clone()).unwrap();
    for round in 0..2 {
        for k in [1_usize, 32, 1000] {
            let bare = RealDisk.create(&dir.path().join("bare")).unwrap();
            let bytes = vec![7; (BODY + 21) * k + 32];
            bare.write_at(&vec![0; 64 << 20], 0).unwrap();
            bare.sync_data().unwrap();
            let mut at = 0;
            let (bare_n, bare_median, bare_cpu) = measure(&clock, || {
                bare.write_at(&bytes, at).unwrap();
                bare.sync_data().unwrap();
                at = (at + bytes.len() as u64) % (60 << 20);
            });
            let (n, median, cpu) = measure(&clock, || {
                let next = log.state().last.map_or(0, |(_, index)| index + 1);
                let body = Bytes::from(vec![7; BODY]);
                let batch = (next..next + k as u64).map(|index| LogEntry {
                    index,
                    term: 1,
                    body: body.clone(),
                });
                append(&log, batch.collect()).unwrap();
            });
            let ratio = median.as_secs_f64() / bare_median.as_secs_f64();
            println!(
                "round {round} K={k}: bare {bare_n} × {bare_median:?} (cpu {bare_cpu:?}), \
                 log {n} × {median:?} (cpu {cpu:?}): ratio {ratio:.2}, cpu per entry {:?}, \
                 {:.0} entries/s",
                cpu / u32::try_from(k).unwrap(),
                (n * k) as f64 / PER_RUN.as_secs_f64(),
            );
        }
    }
    // The thread's own work, without a disk: what remains is the log's.
    let log = open_with(&SimDisk::new(), LogOptions::new(CLUSTER)).unwrap();
    for k in [1_usize, 1000] {
        let (n, median, cpu) = measure(&clock, || {
            let next = log.state().last.map_or(0, |(_, index)| index + 1);
            let body = Bytes::from(vec![7; BODY]);
            let batch = (next..next + k as u64).map(|index| LogEntry {
                index,
                term: 1,
                body: body.clone(),
            });
            append(&log, batch.collect()).unwrap();
        });
        println!(
            "in memory K={k}: {n} × {median:?}, cpu {:?} per entry",
            cpu / u32::try_from(k).unwrap()
        );
    }
}
