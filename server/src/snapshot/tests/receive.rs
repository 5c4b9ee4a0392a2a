//! A snapshot arrives from another server.

use super::*;

fn bytes_of(store: &SnapshotStore, name: SnapshotName) -> Vec<u8> {
    let file = store.open_file(name).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), bytes.len());
    bytes
}

fn arrive(
    store: &Arc<SnapshotStore>,
    bytes: &[u8],
    piece: usize,
) -> Result<SnapshotName, FileFault> {
    let same = |meta: &SnapshotMeta| {
        let same = meta.cluster_id == [7; 16] && meta.last_log == Some((3, 20));
        let what = "the snapshot";
        same.then_some(()).ok_or(Fault::NotAnnounced { what })
    };
    let mut receiver = store.receive(Box::new(same))?;
    for piece in bytes.chunks(piece) {
        receiver.write(piece)?;
    }
    receiver
        .finish(State::builder([0; 32]), true)
        .map(|(name, _)| name)
}

fn sent(cluster: u8, index: u64) -> Vec<u8> {
    let store = open(&SimDisk::new());
    let at = CapturedAt {
        cluster_id: [cluster; 16],
        ..captured_at(index)
    };
    let name = store.write(state_of(50, b"data").capture(), at).unwrap();
    bytes_of(&store, name)
}

/// A store with one snapshot of its own, and the names of all files in it.
fn receiving() -> (SimDisk, Arc<SnapshotStore>, Vec<String>) {
    let disk = SimDisk::new();
    let store = Arc::new(open(&disk));
    store
        .write(state_of(3, b"old").capture(), captured_at(10))
        .unwrap();
    let files = files(&disk);
    (disk, store, files)
}

fn files(disk: &SimDisk) -> Vec<String> {
    let mut names: Vec<_> = disk
        .list(dir())
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    names.sort();
    names
}

#[test]
fn a_whole_one_comes_in_whatever_the_pieces_and_survives_a_power_failure() {
    let bytes = sent(7, 20);
    for piece in [1, 7, 20, 100, 4096, usize::MAX] {
        let (disk, store, _) = receiving();
        let name = arrive(&store, &bytes, piece).unwrap();
        assert_eq!(bytes_of(&store, name), bytes);
        let after = open(&disk.crash(piece as u64));
        assert_eq!(newest_state(&after, None).meta.last_log, Some((3, 20)));
    }
}

#[test]
fn a_torn_one_is_refused_at_every_length_and_leaves_nothing() {
    let bytes = sent(7, 20);
    let (disk, store, before) = receiving();
    for cut in (0..bytes.len()).step_by(13).chain([bytes.len() - 1]) {
        arrive(&store, &bytes[..cut], 64).unwrap_err();
        assert_eq!(files(&disk), before, "cut at {cut}");
    }
    let longer = [bytes.as_slice(), b"more"].concat();
    arrive(&store, &longer, 64).unwrap_err();
    assert_eq!(files(&disk), before);
    assert_eq!(newest_state(&store, None).meta.last_log, Some((3, 10)));
}

#[test]
fn a_flipped_bit_is_refused_wherever_it_is() {
    let bytes = sent(7, 20);
    let (disk, store, before) = receiving();
    for at in (0..bytes.len()).step_by(17) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1 << (at % 8);
        arrive(&store, &bytes, 512).unwrap_err();
    }
    assert_eq!(files(&disk), before);
}

#[test]
fn one_of_another_ensemble_or_of_another_point_is_refused_at_its_beginning() {
    let (disk, store, before) = receiving();
    for foreign in [sent(8, 20), sent(7, 21)] {
        let fault = arrive(&store, &foreign, 300).unwrap_err();
        assert!(matches!(fault.fault, Fault::NotAnnounced { .. }), "{fault}");
        assert!(fault.offset < 600, "only at {}", fault.offset);
    }
    assert_eq!(files(&disk), before);
}

#[test]
fn a_newer_level_asks_for_an_upgrade_at_once() {
    let (_, store, _) = receiving();
    let mut front = format::encode_header(LEVEL + 1).to_vec();
    front.resize(4096, 0);
    let fault = arrive(&store, &front, 20).unwrap_err();
    assert!(matches!(fault.fault, Fault::UnknownLevel { .. }), "{fault}");
    assert_eq!(fault.offset, 0);
}

#[test]
fn a_first_section_of_any_length_takes_bounded_memory() {
    let (_, store, _) = receiving();
    let mut front = format::encode_header(0).to_vec();
    let head = format::Head {
        kind: format::Kind::Meta,
        number: 0,
        len: format::SECTION_BYTES_MAX,
        body_crc: 0,
    };
    front.extend(head.encode());
    let fault = arrive(&store, &front, 20).unwrap_err();
    assert!(matches!(fault.fault, Fault::BadLength { .. }), "{fault}");
}

/// What was begun when the power went is cleared by the next start.
#[test]
fn the_power_may_fail_at_any_moment() {
    let bytes = sent(7, 20);
    let (disk, store, _) = receiving();
    let began = disk.operations();
    arrive(&store, &bytes, 1000).unwrap();
    let ended = disk.operations();
    for cut in began..=ended {
        let (disk, store, before) = receiving();
        disk.cut_after(cut);
        let arrived = arrive(&store, &bytes, 1000);
        let disk = disk.crash(cut);
        let store = open(&disk);
        let last = newest_state(&store, None).meta.last_log;
        if arrived.is_ok() {
            assert_eq!(last, Some((3, 20)));
        }
        if last == Some((3, 10)) {
            assert_eq!(files(&disk), before, "cut at {cut}");
        }
    }
}

#[test]
fn an_open_snapshot_can_be_read_to_its_end_although_it_is_purged() {
    let store = open(&SimDisk::new());
    let name = store
        .write(state_of(3, b"x").capture(), captured_at(10))
        .unwrap();
    let whole = bytes_of(&store, name);
    let file = store.open_file(name).unwrap();
    store
        .write(state_of(4, b"y").capture(), captured_at(20))
        .unwrap();
    store.purge(1).unwrap();
    store.open_file(name).map(|_| ()).unwrap_err();
    let mut bytes = vec![0; whole.len()];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), whole.len());
    assert_eq!(bytes, whole);
}
