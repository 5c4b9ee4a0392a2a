//! The disk as it stands, after a kill and after a crash.

use super::*;

fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("d")).unwrap();
    disk
}

fn content(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    let file = disk.open(Path::new(path)).ok()?;
    let mut buf = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), buf.len());
    Some(buf)
}

#[test]
fn a_crash_keeps_what_was_synced_and_each_unsynced_sector_or_not() {
    let disk = disk();
    let file = disk.create(Path::new("d/f")).unwrap();
    file.write_at(&[1; 2048], 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_dir(Path::new("d")).unwrap();
    file.write_at(&[2; 1024], 512).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let after = content(&disk.crash(seed), "d/f").unwrap();
        assert_eq!(after.len(), 2048);
        let sectors: Vec<u8> = after.chunks(512).map(|sector| sector[0]).collect();
        assert!(after.chunks(512).all(|s| s.iter().all(|b| *b == s[0])));
        assert_eq!((sectors[0], sectors[3]), (1, 1), "synced and untouched");
        seen.insert((sectors[1], sectors[2]));
        assert_eq!(Some(after), content(&disk.crash(seed), "d/f"), "same seed");
    }
    assert_eq!(seen.len(), 4, "every combination is met: {seen:?}");
}

#[test]
fn a_crash_may_forget_names_until_their_directory_is_synced() {
    let disk = disk();
    disk.create(Path::new("d/old")).unwrap();
    disk.sync_dir(Path::new("d")).unwrap();
    disk.rename(Path::new("d/old"), Path::new("d/new")).unwrap();
    let names = |seed| {
        disk.crash(seed).list(Path::new("d")).unwrap()[0]
            .name
            .clone()
    };
    let seen: BTreeSet<String> = (0..50).map(names).collect();
    assert_eq!(seen.len(), 2, "{seen:?}");
    disk.sync_dir(Path::new("d")).unwrap();
    let seen: BTreeSet<String> = (0..50).map(names).collect();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["new"]);
}

#[test]
fn growth_and_cuts_of_a_file_are_uncertain_until_synced() {
    let disk = disk();
    let file = disk.create(Path::new("d/f")).unwrap();
    disk.sync_dir(Path::new("d")).unwrap();
    file.write_at(&[1; 1000], 0).unwrap();
    file.sync_data().unwrap();
    disk.set_len(Path::new("d/f"), 10);
    disk.set_len(Path::new("d/f"), 600);
    assert_eq!(
        &content(&disk, "d/f").unwrap()[..12],
        [[1; 6], [1, 1, 1, 1, 0, 0]].concat()
    );
    let lens: BTreeSet<usize> = (0..50)
        .map(|seed| content(&disk.crash(seed), "d/f").unwrap().len())
        .collect();
    assert!(lens.contains(&600) && lens.contains(&1000), "{lens:?}");
    assert!(lens.iter().all(|len| (600..=1000).contains(len)));
}

#[test]
fn after_a_cut_everything_fails() {
    let disk = disk();
    let file = disk.create(Path::new("d/f")).unwrap();
    file.write_at(b"a", 0).unwrap();
    disk.cut_after(disk.operations() + 1);
    file.sync_data().unwrap();
    assert!(file.write_at(b"b", 0).is_err());
    assert!(file.sync_data().is_err());
    assert!(file.read_at(&mut [0], 0).is_err());
    assert!(disk.create(Path::new("d/g")).is_err());
    assert_eq!(
        content(&disk.kill(), "d/f").unwrap(),
        b"b",
        "torn either way"
    );
}

#[test]
fn a_failed_sync_is_never_made_good_by_a_later_one() {
    let disk = disk();
    let file = disk.create(Path::new("d/f")).unwrap();
    disk.sync_dir(Path::new("d")).unwrap();
    file.write_at(b"a", 0).unwrap();
    disk.fail_sync(1);
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    let lost = |seed| content(&disk.crash(seed), "d/f") != Some(b"a".to_vec());
    assert!((0..50).any(lost));
}

#[test]
fn a_full_disk_takes_what_fits() {
    let disk = disk();
    let file = disk.create(Path::new("d/f")).unwrap();
    disk.set_space(Some(3));
    let error = file.write_at(b"hello", 0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(content(&disk, "d/f").unwrap(), b"hel");
    file.write_at(b"HEL", 0).unwrap();
    disk.set_space(None);
    file.write_at(b"hello", 0).unwrap();
}

#[test]
fn zeros_take_no_room() {
    let disk = disk();
    let file = disk.create(Path::new("d/f")).unwrap();
    file.write_at(&vec![0; 1 << 20], 0).unwrap();
    assert_eq!(file.len().unwrap(), 1 << 20);
    assert!(
        disk.world()
            .files
            .values()
            .all(|file| file.pages.is_empty())
    );
}
