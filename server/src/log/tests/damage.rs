//! What stands in the files is not what was written.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::format::{FRAMES_START, FrameBuf, Record, Salt, SegmentHeader, next_record};
use super::super::scan::Scan;
use super::*;

/// A disk with a log of four frames, cleanly closed.
fn small_log() -> SimDisk {
    let disk = SimDisk::new();
    let log = open(&disk);
    for index in 0..4 {
        append(&log, entries(index..index + 1, 1)).unwrap();
    }
    drop(log);
    disk
}

fn byte(disk: &SimDisk, path: &Path, offset: u64) -> u8 {
    let mut byte = [0];
    disk.open(path).unwrap().read_at(&mut byte, offset).unwrap();
    byte[0]
}

fn content(disk: &SimDisk, path: &Path) -> Vec<u8> {
    let file = disk.open(path).unwrap();
    let mut all = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(&mut all, 0).unwrap();
    all
}

fn frame_starts(content: &[u8]) -> Vec<u64> {
    let starts = (0..content.len()).step_by(8);
    let frames = starts.filter(|at| content[*at..].starts_with(b"QFrm"));
    frames.map(|at| at as u64).collect()
}

#[test]
fn a_flipped_bit_anywhere_is_harmless_or_refused_or_in_the_last_frame() {
    let disk = small_log();
    let path = segments(&disk).remove(0);
    let all = content(&disk, &path);
    let frames = frame_starts(&all);
    let last = *frames.last().unwrap();
    assert_eq!(frames.len(), 5, "the segment's own and four");
    let end = (0..all.len()).rev().find(|at| all[*at] != 0).unwrap() as u64 + 1;
    let (mut harmless, mut refused, mut torn) = (0, 0, 0);
    for offset in 0..all.len() as u64 {
        for bit in 0..8 {
            if !(64..4000).contains(&offset) || bit == offset % 8 {
                let disk = disk.kill();
                disk.flip(&path, offset, 1 << bit);
                match open_with(&disk, options()) {
                    Ok(log) if read_all(&log) == entries(0..4, 1) => harmless += 1,
                    Ok(log) => {
                        assert_eq!(read_all(&log), entries(0..3, 1), "byte {offset}");
                        assert!((last..end).contains(&offset), "byte {offset}");
                        torn += 1;
                    }
                    Err(error) => {
                        assert!(offset < last, "byte {offset}: {error}");
                        let text = error.to_string();
                        assert!(text.contains(path.to_str().unwrap()), "{text}");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(
        harmless > 1000 && refused > 1000 && torn > 300,
        "{harmless} {refused} {torn}"
    );
}

#[test]
fn a_lost_frame_in_front_of_a_whole_one_is_refused_with_file_offset_and_advice() {
    let disk = small_log();
    let path = segments(&disk).remove(0);
    let frames = frame_starts(&content(&disk, &path));
    // All of the third frame is zeros: a write that the disk forgot.
    let file = disk.open(&path).unwrap();
    let hole = vec![0; usize::try_from(frames[3] - frames[2]).unwrap()];
    file.write_at(&hole, frames[2]).unwrap();
    let refused = open_with(&disk, options()).map(|_| ()).unwrap_err();
    let LogError::Damaged { offset, .. } = &refused else {
        panic!("{refused}");
    };
    assert_eq!(*offset, frames[2]);
    let text = refused.to_string();
    assert!(
        text.contains("0000000000000001.wal is damaged at byte"),
        "{text}"
    );
    assert!(text.contains("backup"), "{text}");
}

#[test]
fn damage_at_the_end_of_a_segment_is_seen_from_the_next_one() {
    let disk = SimDisk::new();
    let log = open(&disk);
    for index in 0..60 {
        append(&log, entries(index..index + 1, 1)).unwrap();
    }
    drop(log);
    let paths = segments(&disk);
    assert!(paths.len() >= 2);
    let frames = frame_starts(&content(&disk, &paths[0]));
    disk.flip(&paths[0], frames.last().unwrap() + 40, 1);
    let refused = open_with(&disk, options()).map(|_| ()).unwrap_err();
    let LogError::Damaged { path, offset, .. } = refused else {
        panic!("{refused}");
    };
    assert_eq!((path, offset), (paths[0].clone(), *frames.last().unwrap()));
}

#[test]
fn a_missing_segment_is_refused_by_name() {
    let disk = SimDisk::new();
    let log = open(&disk);
    for index in 0..200 {
        append(&log, entries(index..index + 1, 1)).unwrap();
    }
    drop(log);
    let paths = segments(&disk);
    for gone in [&paths[0], &paths[1]] {
        let disk = disk.kill();
        disk.remove(gone).unwrap();
        let refused = open_with(&disk, options()).map(|_| ()).unwrap_err();
        assert!(matches!(&refused, LogError::Missing { .. }), "{refused}");
        let first = gone == &paths[0];
        let text = refused.to_string();
        assert!(first || text.contains(gone.to_str().unwrap()), "{text}");
    }
}

#[test]
fn a_format_of_the_future_asks_for_an_upgrade() {
    let disk = small_log();
    let path = segments(&disk).remove(0);
    disk.flip(&path, 8, 1 ^ 9);
    let refused = open_with(&disk, options()).map(|_| ()).unwrap_err();
    assert!(matches!(
        &refused,
        LogError::UnknownFormat { version: 9, .. }
    ));
    assert!(
        refused.to_string().contains("upgrade this server"),
        "{refused}"
    );
}

#[test]
fn an_existing_log_keeps_its_cluster_and_a_foreign_segment_is_refused() {
    let disk = small_log();
    let other = LogOptions {
        cluster_id: *b"another cluster!",
        ..options()
    };
    let log = open_with(&disk, other).unwrap();
    assert_eq!(log.state().cluster_id, CLUSTER);
    drop(log);
    let path = segments(&disk).remove(0);
    let mut header = SegmentHeader::decode(&content(&disk, &path)).unwrap();
    header.cluster_id = *b"another cluster!";
    header.sequence = 2;
    header.first_frame = frame_starts(&content(&disk, &path)).len() as u64 + 1;
    let next = disk
        .create(&path.with_file_name("0000000000000002.wal"))
        .unwrap();
    next.write_at(&header.encode(), 0).unwrap();
    let refused = open_with(&disk, options()).map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("another cluster"), "{refused}");
}

/// R28. The salt is what a client cannot know; everything else he is given here.
#[test]
fn frames_forged_in_an_entry_do_not_turn_a_torn_tail_into_damage() {
    let disk = SimDisk::new();
    let large = LogOptions {
        segment_bytes: 64 << 10,
        first_segment_bytes: 64 << 10,
        ..options()
    };
    let log = open_with(&disk, large.clone()).unwrap();
    append(&log, entries(0..3, 1)).unwrap();
    let path = segments(&disk).remove(0);
    let mut frame = FrameBuf::default();
    let mut forged = Vec::new();
    for number in 0..20 {
        frame.clear(0);
        frame.put(Record::Vote(b"mallory"));
        let without_salt = Salt { header: 0, body: 0 };
        forged.extend_from_slice(frame.seal(1, number, without_salt));
    }
    // One of eight paddings puts them where frames can start.
    let padded = (0..8).map(|pad| [vec![0; pad], forged.clone()].concat().into());
    let entry = |(body, index)| LogEntry {
        index,
        term: 1,
        body,
    };
    append(&log, padded.zip(3..).map(entry).collect()).unwrap();
    drop(log);
    let frames = frame_starts(&content(&disk, &path));
    assert!(
        frames.len() >= 3 + 20,
        "the forged ones stand where frames can"
    );
    disk.flip(&path, frames[2] + 33, 1);
    let log = open_with(&disk, large).unwrap();
    assert_eq!(read_all(&log), entries(0..3, 1));
    assert!(log.state().torn_tail.is_some());
    assert_eq!(log.state().vote, None);
}

#[test]
fn a_frame_of_another_segment_is_none_even_with_the_same_salt() {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/")).unwrap();
    let file = disk.create(Path::new("/f")).unwrap();
    let salt = Salt { header: 1, body: 2 };
    let mut frame = FrameBuf::default();
    frame.clear(0);
    file.write_at(frame.seal(7, 5, salt), FRAMES_START).unwrap();
    let found = |segment, number| {
        let mut scan = Scan::new(file.as_ref(), segment, salt, number).unwrap();
        scan.next().unwrap().is_some()
    };
    assert!(found(7, 5));
    assert!(!found(8, 5));
    assert!(!found(7, 4));
}

#[test]
fn a_torn_tail_is_told_dropped_and_written_over() {
    let disk = small_log();
    let path = segments(&disk).remove(0);
    let last = *frame_starts(&content(&disk, &path)).last().unwrap();
    disk.flip(&path, last + 35, 1);
    let log = open(&disk);
    let torn = log.state().torn_tail.unwrap();
    assert_eq!((torn.path, torn.offset), (path, last));
    append(&log, entries(3..9, 2)).unwrap();
    drop(log);
    let log = open(&disk);
    assert_eq!(
        read_all(&log),
        [entries(0..3, 1), entries(3..9, 2)].concat()
    );
    assert_eq!(log.state().torn_tail, None);
}

#[test]
fn the_remains_in_a_recycled_segment_are_never_read() {
    let disk = SimDisk::new();
    let log = open(&disk);
    let mut next = 0;
    let mut write = |log: &Log| {
        append(log, entries(next..next + 1, 1)).unwrap();
        next += 1;
        next
    };
    let spare = |disk: &SimDisk| {
        let names = disk.list(Path::new(DIR)).unwrap();
        names
            .into_iter()
            .any(|e| e.name.ends_with(".spare") && e.len >= 8192)
    };
    // Fill some, purge them, and go on until a purged one is in use again.
    for _ in 0..300 {
        write(&log);
    }
    wait(|done| log.purge_to(1, 290, done)).unwrap();
    assert!(spare(&disk), "a purged segment is kept");
    let before = segments(&disk).len();
    while segments(&disk).len() == before {
        write(&log);
    }
    let path = segments(&disk).pop().unwrap();
    assert!(
        frame_starts(&content(&disk, &path)).len() > 5,
        "remains are there"
    );
    drop(log);
    for _ in 0..20 {
        let log = open(&disk);
        assert_eq!(log.state().torn_tail, None);
        let next = write(&log);
        assert_eq!(read_all(&log), entries(291..next, 1));
        drop(log);
    }
    assert_ne!(byte(&disk, &path, 4096), 0);
}

#[test]
fn a_read_of_rotten_bytes_fails_and_says_where() {
    let disk = SimDisk::new();
    let log = open(&disk);
    for index in 0..60 {
        append(&log, entries(index..index + 1, 1)).unwrap();
    }
    let path = segments(&disk).remove(0);
    let frames = frame_starts(&content(&disk, &path));
    disk.flip(&path, frames[1] + 50, 1);
    let refused = log.read(0, 1, 1000).unwrap_err();
    assert!(matches!(&refused, LogError::Damaged { offset, .. } if *offset == frames[1]));
    assert_eq!(log.read(1, 5, 10_000).unwrap(), entries(1..5, 1));
}

#[test]
fn garbage_is_refused_or_ends_the_log_and_is_never_an_entry() {
    let disk = small_log();
    let path = segments(&disk).remove(0);
    let all = content(&disk, &path);
    let mut rng = StdRng::seed_from_u64(3);
    for _ in 0..500 {
        let disk = disk.kill();
        let start = rng.random_range(0..all.len());
        let len = rng.random_range(1..all.len());
        let garbage: Vec<u8> = (0..len).map(|_| rng.random()).collect();
        let file = disk.open(&path).unwrap();
        file.write_at(&garbage, start as u64).unwrap();
        if rng.random_bool(0.3) {
            disk.set_len(&path, rng.random_range(0..all.len() as u64));
        }
        if let Ok(log) = open_with(&disk, options()) {
            let found = read_all(&log);
            assert_eq!(found, entries(0..found.len() as u64, 1));
        }
    }
    // What a checksum vouches for is not believed either.
    for _ in 0..20_000 {
        let len = rng.random_range(0..60);
        let body: Vec<u8> = (0..len).map(|_| rng.random_range(0..8)).collect();
        let mut rest = body.as_slice();
        while let Ok(Some(_)) = next_record(&mut rest) {}
    }
}
