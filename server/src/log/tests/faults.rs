//! The disk says no.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::clock::Clock;

/// Appends one by one until that fails; how many were acknowledged.
fn append_until_failure(log: &Log) -> Option<u64> {
    (0..500).find(|index| append(log, entries(*index..index + 1, 1)).is_err())
}

fn everything_fails_and_reads_go_on(log: &Log, acknowledged: u64) {
    let failure = log.failure().expect("it stays failed");
    let later = entries(acknowledged + 1..acknowledged + 2, 1);
    assert_eq!(
        append(log, later).unwrap_err().to_string(),
        failure.to_string()
    );
    assert!(wait(|done| log.save_vote(Bytes::new(), done)).is_err());
    assert!(wait(|done| log.truncate_after(None, done)).is_err());
    assert!(wait(|done| log.purge_to(1, 0, done)).is_err());
    let read = log.read(0, acknowledged, usize::MAX).unwrap();
    assert_eq!(read, entries(0..acknowledged, 1));
}

#[test]
fn a_failing_sync_or_write_is_final_and_takes_nothing_acknowledged() {
    let sync: fn(&SimDisk, u64) = SimDisk::fail_sync;
    let write: fn(&SimDisk, u64) = SimDisk::fail_write;
    let mut met = 0;
    for (fail, nth) in (1..80).flat_map(|nth| [(sync, nth), (write, nth)]) {
        let disk = SimDisk::new();
        let log = open(&disk);
        fail(&disk, nth);
        let Some(acknowledged) = append_until_failure(&log) else {
            // It was the filling of a file that might have been used later.
            assert!(log.failure().is_none());
            continue;
        };
        met += 1;
        let writes = disk.operations();
        everything_fails_and_reads_go_on(&log, acknowledged);
        log.close();
        assert_eq!(disk.operations(), writes, "nothing is tried again");
        let disk = disk.crash(nth);
        let found = read_all(&open(&disk)).len() as u64;
        assert!(
            (acknowledged..=acknowledged + 1).contains(&found),
            "{nth}: {found}"
        );
    }
    assert!(met > 100, "{met}");
}

#[test]
fn a_full_disk_ends_the_log_and_room_brings_it_back_at_the_next_start() {
    for space in (0..40_000).step_by(709) {
        let disk = SimDisk::new();
        let log = open(&disk);
        disk.set_space(Some(space));
        let acknowledged = append_until_failure(&log).expect("the disk is small");
        let failure = log.failure().unwrap();
        let LogError::Io { source, .. } = failure.as_ref() else {
            panic!("{failure}");
        };
        assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
        everything_fails_and_reads_go_on(&log, acknowledged);
        drop(log);
        disk.set_space(None);
        let log = open(&disk.crash(space));
        let found = read_all(&log);
        assert_eq!(found, entries(0..found.len() as u64, 1));
        assert!((acknowledged..=acknowledged + 1).contains(&(found.len() as u64)));
        let next = found.len() as u64;
        append(&log, entries(next..next + 50, 1)).unwrap();
    }
}

#[test]
fn what_was_in_flight_when_the_disk_failed_is_told_so_in_order() {
    let disk = SimDisk::new();
    let log = open_with(&disk, LogOptions::new(CLUSTER)).unwrap();
    disk.stall_syncs();
    disk.fail_sync(1);
    let (tell, told) = channel();
    for index in 0..20 {
        let tell = tell.clone();
        let done = move |result: Result<(), LogError>| tell.send((index, result)).unwrap();
        log.append(entries(index..index + 1, 1), Box::new(done));
    }
    disk.resume_syncs();
    for (expected, (index, result)) in told.iter().take(20).enumerate() {
        assert_eq!(index, expected as u64);
        assert!(matches!(result, Err(LogError::Io { action: "sync", .. })));
    }
}

#[test]
fn a_caller_waits_while_the_queue_is_full() {
    let disk = SimDisk::new();
    let log = Arc::new(open_with(&disk, LogOptions::new(CLUSTER)).unwrap());
    disk.stall_syncs();
    let large = |index| LogEntry {
        index,
        term: 1,
        body: vec![1; 9 << 20].into(),
    };
    let (tell, told) = channel();
    let writer = {
        let log = Arc::clone(&log);
        std::thread::spawn(move || {
            for index in 0..6 {
                let answer = tell.clone();
                let done = Box::new(move |result| answer.send((index, result)).unwrap());
                log.append(vec![large(index)], done);
            }
        })
    };
    // Three fit; the fourth makes it wait.
    wait_until(|| log.shared.state.lock().waiting_for_room > 0);
    assert_eq!(log.state().last, Some((1, 2)));
    disk.resume_syncs();
    writer.join().unwrap();
    for (index, result) in told.iter().take(6) {
        assert!(result.is_ok(), "{index}: {result:?}");
    }
    log.close();
    assert_eq!(log.shared.state.lock().queued_bytes, 0);
}

#[test]
fn without_force_sync_answers_do_not_wait_and_a_crash_leaves_a_beginning() {
    let unsynced = LogOptions {
        force_sync: false,
        segment_bytes: 64 << 10,
        first_segment_bytes: 64 << 10,
        ..options()
    };
    for seed in 0..60 {
        let disk = SimDisk::new();
        let log = open_with(&disk, unsynced.clone()).unwrap();
        append(&log, entries(0..1, 1)).unwrap();
        let before = disk.syncs();
        for index in 1..20 {
            append(&log, entries(index..index + 1, 1)).unwrap();
        }
        assert_eq!(disk.syncs(), before, "no segment was filled, so no sync");
        let mut disk = disk.crash(seed);
        log.close();
        let mut expected = Vec::new();
        for turn in 0..4 {
            let log = open_with(&disk, unsynced.clone()).unwrap();
            let found = read_all(&log);
            if turn == 0 {
                expected = entries(0..found.len() as u64, 1);
            }
            assert_eq!(found, expected, "seed {seed}, turn {turn}");
            let next = found.len() as u64;
            let more = entries(next..next + 1, 2);
            append(&log, more.clone()).unwrap();
            expected.extend(more);
            log.close();
            disk = disk.kill();
        }
        // And back to safety.
        let log = open(&disk);
        assert_eq!(read_all(&log), expected, "seed {seed}");
        let next = expected.len() as u64;
        append(&log, entries(next..next + 1, 3)).unwrap();
        expected.extend(entries(next..next + 1, 3));
        assert_eq!(read_all(&open(&disk.crash(seed))), expected, "seed {seed}");
    }
}

/// Two seconds pass between any two looks at it.
#[derive(Default)]
struct SlowClock(AtomicU64);

impl Clock for SlowClock {
    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.fetch_add(2, Ordering::Relaxed))
    }

    fn wall_ms(&self) -> i64 {
        0
    }
}

#[test]
fn slow_syncs_and_batches_are_counted() {
    let disk = Arc::new(SimDisk::new());
    let metrics = Arc::new(Metrics::default());
    let clock = Arc::new(SlowClock::default());
    let log = Log::open(disk, Path::new(DIR), options(), Arc::clone(&metrics), clock).unwrap();
    append(&log, entries(0..7, 1)).unwrap();
    log.close();
    assert_eq!(metrics.fsync_ms.view().count, 1);
    assert_eq!(metrics.fsync_ms.view().max, 2000);
    assert_eq!(metrics.fsync_threshold_exceeded.get(), 1);
    assert_eq!(metrics.batch_size.view().max, 7);
}
