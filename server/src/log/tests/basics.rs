//! What the log promises when nothing goes wrong.

use super::*;

#[test]
fn entries_are_readable_at_once_and_after_a_reopen() {
    let disk = SimDisk::new();
    let log = open(&disk);
    assert_eq!(log.state().last, None);
    disk.stall_syncs();
    let (done, told) = done();
    log.append(entries(0..5, 1), done);
    assert_eq!(read_all(&log), entries(0..5, 1));
    assert!(told.try_recv().is_err(), "not acknowledged before the sync");
    disk.resume_syncs();
    told.recv().unwrap().unwrap();
    append(&log, entries(5..60, 2)).unwrap();
    assert_eq!(
        read_all(&log),
        [entries(0..5, 1), entries(5..60, 2)].concat()
    );
    assert_eq!(log.state().last, Some((2, 59)));
    log.close();
    let log = open(&disk);
    assert_eq!(
        read_all(&log),
        [entries(0..5, 1), entries(5..60, 2)].concat()
    );
    assert_eq!(log.state().last, Some((2, 59)));
    assert_eq!(log.state().cluster_id, CLUSTER);
    assert_eq!(log.state().torn_tail, None);
}

#[test]
fn old_entries_come_from_many_segments_and_a_range_is_cut_as_asked() {
    let disk = SimDisk::new();
    let log = open(&disk);
    for index in 0..300 {
        append(&log, entries(index..index + 1, 1)).unwrap();
    }
    assert!(segments(&disk).len() > 3);
    for (from, to) in [(0, 300), (7, 8), (100, 290), (299, 300), (290, 400)] {
        let read = log.read(from, to, usize::MAX).unwrap();
        assert_eq!(read, entries(from..to.min(300), 1));
    }
    let budget = entries(10..13, 1).iter().map(|e| e.body.len()).sum();
    assert_eq!(log.read(10, 300, budget).unwrap(), entries(10..13, 1));
    assert_eq!(log.read(10, 300, budget - 1).unwrap(), entries(10..12, 1));
    assert_eq!(log.read(10, 300, 0).unwrap(), entries(10..11, 1));
    assert_eq!(log.read(298, 300, 0).unwrap(), entries(298..299, 1));
    assert_eq!(log.read(300, 400, 1000).unwrap(), []);
}

#[test]
fn votes_hints_truncations_and_purges_are_found_again() {
    let disk = SimDisk::new();
    let log = open(&disk);
    append(&log, entries(0..100, 1)).unwrap();
    wait(|done| log.save_vote(Bytes::from_static(b"me"), done)).unwrap();
    wait(|done| log.truncate_after(Some(49), done)).unwrap();
    assert_eq!(log.state().last, Some((1, 49)));
    log.save_committed(Bytes::from_static(b"40"));
    append(&log, entries(50..60, 2)).unwrap();
    wait(|done| log.purge_to(1, 19, done)).unwrap();
    let expected = [entries(20..50, 1), entries(50..60, 2)].concat();
    assert_eq!(read_all(&log), expected);
    let state = log.state();
    assert_eq!((state.purged, state.last), (Some((1, 19)), Some((2, 59))));
    log.close();
    let log = open(&disk);
    assert_eq!(read_all(&log), expected);
    assert_eq!(log.state(), state);
    assert_eq!(state.vote.unwrap(), "me");
    assert_eq!(state.committed.unwrap(), "40");
}

#[test]
fn a_purge_beyond_the_end_moves_the_log_there() {
    let disk = SimDisk::new();
    let log = open(&disk);
    append(&log, entries(0..10, 1)).unwrap();
    wait(|done| log.purge_to(3, 99, done)).unwrap();
    assert_eq!(log.state().last, Some((3, 99)));
    assert_eq!(read_all(&log), []);
    append(&log, entries(100..105, 4)).unwrap();
    assert_eq!(read_all(&log), entries(100..105, 4));
    drop(log);
    let log = open(&disk);
    assert_eq!(read_all(&log), entries(100..105, 4));
    assert_eq!(log.state().purged, Some((3, 99)));
    assert_eq!(log.state().last, Some((4, 104)));
}

#[test]
fn truncating_everything_keeps_what_was_purged() {
    let disk = SimDisk::new();
    let log = open(&disk);
    append(&log, entries(0..10, 1)).unwrap();
    wait(|done| log.purge_to(1, 3, done)).unwrap();
    wait(|done| log.truncate_after(None, done)).unwrap();
    assert_eq!(log.state().last, Some((1, 3)));
    append(&log, entries(4..6, 2)).unwrap();
    drop(log);
    assert_eq!(read_all(&open(&disk)), entries(4..6, 2));
}

#[test]
fn what_is_no_continuation_is_refused_and_changes_nothing() {
    let disk = SimDisk::new();
    let log = open(&disk);
    append(&log, entries(0..3, 1)).unwrap();
    for wrong in [
        entries(4..5, 1),
        entries(2..4, 1),
        vec![entry(3, 1), entry(5, 1)],
    ] {
        let refused = append(&log, wrong).unwrap_err();
        assert!(matches!(refused, LogError::Gap { .. }), "{refused}");
    }
    append(&log, entries(3..4, 1)).unwrap();
    assert_eq!(read_all(&log), entries(0..4, 1));
}

#[test]
fn everything_that_waits_goes_into_one_sync_and_is_told_in_order() {
    let disk = SimDisk::new();
    let log = open_with(&disk, LogOptions::new(CLUSTER)).unwrap();
    let before = disk.syncs();
    disk.stall_syncs();
    let (tell, told) = channel();
    for index in 0..100 {
        let tell = tell.clone();
        let done = Box::new(move |result: Result<(), LogError>| {
            tell.send((index, result.is_ok())).unwrap();
        });
        log.append(entries(index..index + 1, 1), done);
    }
    disk.resume_syncs();
    let order: Vec<(u64, bool)> = told.iter().take(100).collect();
    assert_eq!(order, (0..100).map(|i| (i, true)).collect::<Vec<_>>());
    // The first one or few went alone, before the others were there.
    assert!(
        disk.syncs() - before <= 3,
        "{} syncs",
        disk.syncs() - before
    );
}

#[test]
fn a_closed_log_refuses_and_has_written_what_waited() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let (done, told) = done();
    log.append(entries(0..3, 1), done);
    log.save_committed(Bytes::from_static(b"2"));
    log.close();
    log.close();
    told.recv().unwrap().unwrap();
    let refused = append(&log, entries(3..4, 1)).unwrap_err();
    assert!(matches!(refused, LogError::Closed));
    let log = open(&disk);
    assert_eq!(read_all(&log), entries(0..3, 1));
    assert_eq!(log.state().committed.unwrap(), "2");
}

/// The ring may let go only of what the index finds: entries that replaced others are not on
/// disk because those were.
#[test]
fn entries_that_replace_others_in_flight_are_read_as_they_are_now() {
    let disk = SimDisk::new();
    let log = open_with(
        &disk,
        LogOptions {
            ring_bytes: 500,
            ..LogOptions::new(CLUSTER)
        },
    )
    .unwrap();
    disk.stall_syncs();
    let (tell, told) = channel();
    let stall_again = disk.clone();
    let first = Box::new(move |result: Result<(), LogError>| {
        stall_again.stall_syncs();
        tell.send(result).unwrap();
    });
    log.append(entries(0..30, 1), first);
    wait_until(|| disk.syncs_waiting() == 1);
    log.truncate_after(Some(2), Box::new(drop));
    log.append(entries(3..40, 2), Box::new(drop));
    disk.resume_syncs();
    told.recv().unwrap().unwrap();
    let expected = [entries(0..3, 1), entries(3..40, 2)].concat();
    let found = read_all(&log);
    disk.resume_syncs();
    assert_eq!(found, expected);
    log.close();
    assert_eq!(read_all(&log), expected);
    assert_eq!(read_all(&open(&disk)), expected);
}

#[test]
fn a_hint_is_never_found_without_the_entries_before_it() {
    let disk = SimDisk::new();
    let log = open_with(&disk, LogOptions::new(CLUSTER)).unwrap();
    disk.stall_syncs();
    let (first, _) = done();
    log.append(entries(0..1, 1), first);
    wait_until(|| disk.syncs_waiting() == 1);
    // More than one frame holds waits now; the power goes after the first of them.
    let large = LogEntry {
        index: 1,
        term: 1,
        body: vec![1; 5 << 20].into(),
    };
    let (tell, told) = channel();
    let power = disk.clone();
    let cut = Box::new(move |result: Result<(), LogError>| {
        power.cut_after(power.operations());
        tell.send(result).unwrap();
    });
    log.append(vec![large], cut);
    log.append(entries(2..3, 1), Box::new(drop));
    log.save_committed(Bytes::from_static(b"2"));
    disk.resume_syncs();
    told.recv().unwrap().unwrap();
    log.close();
    let log = open(&disk.crash(0));
    assert_eq!(log.state().last, Some((1, 1)));
    assert_eq!(log.state().committed, None);
}
