//! Our snapshot files: what goes in comes out, and what is damaged is noticed.

mod receive;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use proptest::prelude::*;
use quorate_proto::{Acl, Id, Perms, SessionId, Zxid};

use super::fault::{Fault, FileFault};
use super::format;
use super::load::SnapshotVisitor;
use super::record::{NodeView, SessionRecord};
use super::state::LoadedState;
use super::*;
use crate::disk::sim::SimDisk;
use crate::disk::{Disk as _, SharedDisk};
use crate::tree::txn::Ticket;
use crate::tree::{PersistedStat, SessionInfo, State};

const LEVEL: u32 = 1;

fn dir() -> &'static Path {
    Path::new("/data/snapshots")
}

#[derive(Clone, PartialEq, Debug)]
struct OwnedNode {
    path: String,
    data: Option<Vec<u8>>,
    acl: Vec<Acl>,
    stat: PersistedStat,
}

/// All that a snapshot holds.
#[derive(Clone, PartialEq, Debug, Default)]
struct Content {
    meta: Option<SnapshotMeta>,
    sessions: Vec<SessionRecord>,
    nodes: Vec<OwnedNode>,
}

#[derive(Default)]
struct Reading {
    content: Content,
    nodes: Mutex<Vec<OwnedNode>>,
}

impl SnapshotVisitor for Reading {
    type Acl = Vec<Acl>;

    fn meta(&mut self, meta: &SnapshotMeta) -> Result<(), Fault> {
        self.content.meta = Some(meta.clone());
        Ok(())
    }

    fn session(&mut self, session: SessionRecord) -> Result<(), Fault> {
        self.content.sessions.push(session);
        Ok(())
    }

    fn acl(&self, acl: Vec<Acl>) -> Vec<Acl> {
        acl
    }

    fn node(
        &self,
        path: &str,
        data: Option<&[u8]>,
        acl: &Vec<Acl>,
        stat: &PersistedStat,
    ) -> Result<(), Fault> {
        self.nodes.lock().push(OwnedNode {
            path: path.to_owned(),
            data: data.map(<[u8]>::to_vec),
            acl: acl.clone(),
            stat: *stat,
        });
        Ok(())
    }
}

fn read(store: &SnapshotStore, name: SnapshotName) -> Result<Content, FileFault> {
    let mut reading = Reading::default();
    store.load(&store.path(name), &mut reading)?;
    let mut content = reading.content;
    content.nodes = reading.nodes.into_inner();
    content.nodes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(content)
}

fn newest(store: &SnapshotStore, log: Option<LogReach>) -> Result<Option<Content>, LoadError> {
    store.load_newest(log, read)
}

/// A log that has every entry.
const WHOLE_LOG: Option<LogReach> = Some(LogReach {
    first: 1,
    last: 1_000_000,
});

fn meta(index: u64) -> SnapshotMeta {
    SnapshotMeta {
        cluster_id: [7; 16],
        cluster_key: [9; 32],
        level: LEVEL,
        zxid: 0x3_0000_0000 + index.cast_signed(),
        last_log: (index > 0).then_some((3, index)),
        membership: Bytes::from_static(b"opaque"),
        digest: 0xfeed_beef_0000 + index,
    }
}

/// `nodes` znodes of about `data_bytes`, with every kind of owner, list and data.
fn content(index: u64, nodes: usize, data_bytes: usize) -> Content {
    let lists = [
        Acl::open_unsafe(),
        Vec::new(),
        vec![
            Acl {
                perms: Perms(17),
                id: Id::new("digest", "bob:hash"),
            },
            Acl {
                perms: Perms(-1),
                id: Id::new("", ""),
            },
        ],
    ];
    let nodes = (0..nodes)
        .map(|n| OwnedNode {
            path: if n == 0 {
                "/".to_owned()
            } else {
                format!("/ünï/{n:06}")
            },
            data: match n % 3 {
                0 => None,
                1 => Some(Vec::new()),
                _ => Some(vec![u8::try_from(n % 251).unwrap(); data_bytes]),
            },
            acl: lists[n % lists.len()].clone(),
            stat: PersistedStat {
                czxid: i64::try_from(n).unwrap(),
                mzxid: 2,
                pzxid: i64::MIN,
                ctime: 4,
                mtime: -5,
                version: i32::MAX,
                cversion: 7,
                aversion: -1,
                ephemeral_owner: [0, i64::MIN, 42][n % 3],
            },
        })
        .collect();
    let sessions = vec![
        SessionRecord {
            id: SessionId(42),
            session: SessionInfo {
                timeout_ms: 30_000,
                attach: 3,
                last_seq: 1 << 40,
                ticket: Some(Ticket {
                    server: 1,
                    boot: u64::MAX,
                    count: 8,
                }),
                imported: false,
            },
        },
        SessionRecord {
            id: SessionId(-1),
            session: SessionInfo {
                timeout_ms: 4_000,
                attach: 1,
                last_seq: 0,
                ticket: None,
                imported: true,
            },
        },
    ];
    Content {
        meta: Some(meta(index)),
        sessions,
        nodes,
    }
}

fn write(store: &SnapshotStore, content: &Content) -> std::io::Result<SnapshotName> {
    let mut writer = store.writer(content.meta.as_ref().unwrap())?;
    for session in &content.sessions {
        writer.session(session)?;
    }
    for node in &content.nodes {
        writer.node(&NodeView {
            path: &node.path,
            data: node.data.as_deref(),
            acl: &node.acl,
            stat: node.stat,
        })?;
    }
    let name = writer.finish()?;
    store.written(name);
    Ok(name)
}

fn open(disk: &SimDisk) -> SnapshotStore {
    SnapshotStore::open(Arc::new(disk.clone()), dir(), LEVEL).unwrap()
}

fn bytes_of(disk: &SimDisk, path: &Path) -> Vec<u8> {
    let file = disk.open(path).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    let mut read = 0;
    while read < bytes.len() {
        read += file.read_at(&mut bytes[read..], read as u64).unwrap();
    }
    bytes
}

fn put(disk: &SimDisk, path: &Path, bytes: &[u8]) {
    disk.create(path).unwrap().write_at(bytes, 0).unwrap();
}

#[test]
fn what_goes_in_comes_out() {
    let disk = SimDisk::new();
    let store = open(&disk);
    assert_eq!(newest(&store, None).unwrap(), None);
    for (index, nodes, data) in [(0, 1, 0), (1, 0, 0), (2, 5000, 700), (3, 4, 3_000_000)] {
        let content = content(index, nodes, data);
        write(&store, &content).unwrap();
        // `assert_eq` would print megabytes.
        assert!(
            newest(&store, None).unwrap().unwrap() == content,
            "snapshot {index}"
        );
    }
    assert_eq!(store.list().unwrap().len(), 4);
}

#[test]
fn a_snapshot_is_durable_once_it_is_finished() {
    let disk = SimDisk::new();
    let expected = content(5, 3000, 500);
    write(&open(&disk), &expected).unwrap();
    for seed in 0..20 {
        let after = open(&disk.crash(seed));
        assert!(newest(&after, None).unwrap().unwrap() == expected);
    }
}

/// The power goes at each operation of writing a second snapshot.
#[test]
fn a_power_cut_at_any_instant_leaves_the_old_or_the_new_snapshot_whole() {
    let (old, new) = (content(10, 40, 100), content(20, 6000, 700));
    let (mut olds, mut news) = (0, 0);
    for cut in 0.. {
        let disk = SimDisk::new();
        let store = open(&disk);
        write(&store, &old).unwrap();
        disk.cut_after(disk.operations() + cut);
        let finished = write(&store, &new).is_ok();
        for seed in 0..5 {
            let after = open(&disk.crash(cut * 100 + seed));
            let found = newest(&after, WHOLE_LOG).unwrap().unwrap();
            assert!(found == old || found == new, "cut {cut}, seed {seed}");
            assert!(
                !finished || found == new,
                "cut {cut}, seed {seed}: a finished one is gone"
            );
            if found == old {
                olds += 1
            } else {
                news += 1
            }
            assert!(
                after
                    .disk_names()
                    .iter()
                    .all(|name| !name.ends_with(".tmp"))
            );
        }
        if finished {
            break;
        }
    }
    assert!(olds > 10 && news >= 5, "{olds} {news}");
}

impl SnapshotStore {
    fn disk_names(&self) -> Vec<String> {
        self.disk()
            .list(dir())
            .unwrap()
            .into_iter()
            .map(|entry| entry.name)
            .collect()
    }
}

#[test]
fn a_full_disk_leaves_the_old_snapshot() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let old = content(10, 40, 100);
    write(&store, &old).unwrap();
    disk.set_space(Some(100_000));
    assert!(write(&store, &content(20, 6000, 700)).is_err());
    assert!(newest(&store, WHOLE_LOG).unwrap().unwrap() == old);
}

#[test]
fn any_changed_byte_is_noticed_and_the_older_snapshot_is_used() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let (old, new) = (content(10, 3, 10), content(20, 7, 20));
    write(&store, &old).unwrap();
    let path = store.path(write(&store, &new).unwrap());
    let good = bytes_of(&disk, &path);
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        put(&disk, &path, &bytes);
        assert!(
            newest(&store, WHOLE_LOG).unwrap().unwrap() == old,
            "byte {at}"
        );
    }
    put(&disk, &path, &good);
    assert!(newest(&store, WHOLE_LOG).unwrap().unwrap() == new);
}

#[test]
fn a_snapshot_cut_or_grown_is_noticed_and_the_older_one_is_used() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let (old, new) = (content(10, 3, 10), content(20, 7, 20));
    write(&store, &old).unwrap();
    let path = store.path(write(&store, &new).unwrap());
    let good = bytes_of(&disk, &path);
    for len in 0..good.len() {
        put(&disk, &path, &good[..len]);
        assert!(
            newest(&store, WHOLE_LOG).unwrap().unwrap() == old,
            "cut to {len}"
        );
    }
    let mut grown = good.clone();
    grown.push(0);
    put(&disk, &path, &grown);
    assert!(newest(&store, WHOLE_LOG).unwrap().unwrap() == old);
}

/// Stores two snapshots, up to entries 10 and 20, and damages the newer.
fn damaged_at_20() -> SnapshotStore {
    let disk = SimDisk::new();
    let store = open(&disk);
    write(&store, &content(10, 3, 10)).unwrap();
    let path = store.path(write(&store, &content(20, 7, 20)).unwrap());
    let mut bytes = bytes_of(&disk, &path);
    bytes[200] ^= 1;
    put(&disk, &path, &bytes);
    store
}

#[test]
fn an_older_snapshot_is_used_only_if_the_log_leads_from_it_to_the_damaged_one() {
    let store = damaged_at_20();
    let reach = |first, last| Some(LogReach { first, last });
    for log in [reach(11, 20), reach(1, 30)] {
        let found = newest(&store, log).unwrap().unwrap();
        assert_eq!(found.meta.unwrap().last_log, Some((3, 10)));
    }
    for log in [None, reach(12, 30), reach(1, 19)] {
        let error = newest(&store, log).unwrap_err();
        assert!(
            matches!(
                error,
                LoadError::Unreachable {
                    damaged: 20,
                    usable: 10,
                    ..
                }
            ),
            "{log:?}: {error}"
        );
    }
}

#[test]
fn a_log_that_begins_behind_the_newest_snapshot_is_refused() {
    let store = open(&SimDisk::new());
    write(&store, &content(10, 3, 10)).unwrap();
    let log = |first, last| Some(LogReach { first, last });
    assert!(newest(&store, log(11, 12)).is_ok());
    // Applied before the local flush, then a crash.
    assert!(newest(&store, log(1, 7)).is_ok());
    assert!(matches!(
        newest(&store, log(12, 13)),
        Err(LoadError::Gap {
            snapshot: 10,
            log: 12
        })
    ));
}

#[test]
fn with_all_snapshots_damaged_nothing_is_loaded() {
    let disk = SimDisk::new();
    let store = open(&disk);
    for index in [10, 20] {
        let name = write(&store, &content(index, 3, 10)).unwrap();
        put(&disk, &store.path(name), b"QUORSNAP");
    }
    let error = newest(&store, WHOLE_LOG).unwrap_err();
    assert!(
        matches!(error, LoadError::AllDamaged { tried: 2, .. }),
        "{error}"
    );
}

/// To pass over it for an older one would quietly go back in time.
#[test]
fn a_snapshot_of_a_newer_version_stops_the_server() {
    let disk = SimDisk::new();
    let store = open(&disk);
    write(&store, &content(10, 3, 10)).unwrap();
    let mut newer = content(20, 3, 10);
    newer.meta.as_mut().unwrap().level = LEVEL + 1;
    let path = store.path(write(&store, &newer).unwrap());
    assert!(matches!(
        newest(&store, WHOLE_LOG),
        Err(LoadError::Newer(_))
    ));

    let mut bytes = bytes_of(&disk, &path);
    bytes[..16].copy_from_slice(b"QUORSNAP\0\0\0\x02\0\0\0\x01");
    let crc = crc32fast::hash(&bytes[..16]);
    bytes[16..20].copy_from_slice(&crc.to_be_bytes());
    put(&disk, &path, &bytes);
    match newest(&store, WHOLE_LOG).unwrap_err() {
        LoadError::Newer(fault) => {
            assert!(matches!(
                fault.fault,
                Fault::UnknownVersion { found: 2, known: 1 }
            ));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn purging_keeps_the_newest_whole_snapshots() {
    let disk = SimDisk::new();
    let names: Vec<_> = {
        let store = open(&disk);
        (1..=6)
            .map(|index| write(&store, &content(index, 3, 10)).unwrap())
            .collect()
    };
    // Another process: nothing counts as verified.
    let store = open(&disk);
    disk.flip(&store.path(names[4]), 150, 1);
    let kept = store.purge(3).unwrap();
    assert_eq!(kept, [names[5], names[3], names[2]]);
    // The damaged one is younger than those kept: left for whoever wants to look.
    assert_eq!(
        store.list().unwrap(),
        [names[5], names[4], names[3], names[2]]
    );
    assert_eq!(store.purge(1).unwrap(), [names[5]]);
    assert_eq!(store.list().unwrap(), [names[5]]);
    assert_eq!(store.purge(0).unwrap(), [names[5]], "the last one stays");
}

#[test]
fn names_are_ordered_by_what_they_cover() {
    let disk = SimDisk::new();
    let store = open(&disk);
    for index in [0x10, 0x9, 0x100, 0] {
        write(&store, &content(index, 1, 0)).unwrap();
    }
    put(&disk, &dir().join("snapshot.300000000.0x1"), b"");
    put(&disk, &dir().join("snapshot.1"), b"");
    let names: Vec<_> = store
        .list()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        names,
        [
            "snapshot.300000100.100",
            "snapshot.300000010.10",
            "snapshot.300000009.9",
            "snapshot.300000000.0"
        ]
    );
}

#[test]
fn an_abandoned_snapshot_leaves_nothing() {
    let disk = SimDisk::new();
    let store = open(&disk);
    store.writer(&meta(3)).unwrap().abandon().unwrap();
    assert_eq!(store.disk_names(), Vec::<String>::new());
}

/// The first bytes of every snapshot, held still: a change here needs a new format number.
#[test]
fn the_format_is_as_it_was() {
    let disk = SimDisk::new();
    let store = open(&disk);
    let name = write(&store, &content(1, 3, 2)).unwrap();
    let bytes = bytes_of(&disk, &store.path(name));
    assert_eq!(&bytes[..12], b"QUORSNAP\0\0\0\x01");
    assert_eq!((bytes.len(), crc32fast::hash(&bytes)), (584, 1_532_487_453));
}

fn load_bytes(bytes: &[u8]) -> Result<SnapshotMeta, FileFault> {
    let disk = SimDisk::new();
    let path = dir().join("snapshot");
    disk.create_dir_all(dir()).unwrap();
    put(&disk, &path, bytes);
    let file = disk.open(&path).unwrap();
    load::verify(&*file, &path, LEVEL)
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in any::<Vec<u8>>()) {
        prop_assert!(load_bytes(&bytes).is_err());
    }

    /// Behind checksums that are right, as only a broken writer would make them.
    #[test]
    fn no_section_makes_the_decoders_panic(bytes in any::<Vec<u8>>()) {
        let _ = format::decode_nodes(&bytes, &Reading::default());
        let _ = format::decode_sessions(&bytes, |_| Ok(()));
        let _ = format::decode_meta(&bytes, LEVEL);
    }
}

/// A state of so many znodes under directories of a thousand.
fn state_of(nodes: usize, data: &[u8]) -> State {
    let mut builder = State::builder([9; 32]);
    builder.zxid(Zxid(0x3_0000_0100));
    builder.level(LEVEL);
    let acl = builder.acl(&Acl::open_unsafe());
    let stat = PersistedStat {
        czxid: 1,
        mzxid: 1,
        pzxid: 1,
        ..PersistedStat::default()
    };
    builder
        .node("/", Some(b""), &acl, &PersistedStat::default())
        .unwrap();
    for n in 0..nodes {
        if n % 1000 == 0 {
            let dir = format!("/directory-{:05}", n / 1000);
            builder.node(&dir, None, &acl, &stat).unwrap();
        }
        let path = format!("/directory-{:05}/some-node-{n:08}", n / 1000);
        builder.node(&path, Some(data), &acl, &stat).unwrap();
    }
    for session in content(1, 0, 0).sessions {
        builder.session(session.id, session.session);
    }
    builder.finish().unwrap()
}

fn captured_at(index: u64) -> CapturedAt {
    CapturedAt {
        cluster_id: [7; 16],
        last_log: Some((3, index)),
        membership: Bytes::from_static(b"opaque"),
    }
}

/// Everything in a state, by way of a capture.
fn content_of(state: &State) -> (Vec<(SessionId, SessionInfo)>, Vec<OwnedNode>) {
    let mut capture = state.capture();
    let sessions = capture.sessions();
    let mut nodes = Vec::new();
    while let Some(section) = capture.next_section() {
        nodes.extend(section.iter().map(|node| OwnedNode {
            path: node.path().to_owned(),
            data: node.data().map(<[u8]>::to_vec),
            acl: node.acl().to_vec(),
            stat: node.stat(),
        }));
    }
    nodes.sort_by(|a, b| a.path.cmp(&b.path));
    (sessions, nodes)
}

fn newest_state(store: &SnapshotStore, log: Option<LogReach>) -> LoadedState {
    let loaded = store.load_newest(log, |store, name| store.load_state(name, true));
    loaded.unwrap().unwrap()
}

#[test]
fn a_state_comes_back_as_it_was_captured() {
    let state = state_of(20_000, &[5; 100]);
    let store = open(&SimDisk::new());
    let name = store.write(state.capture(), captured_at(77)).unwrap();
    assert_eq!(name.to_string(), "snapshot.300000100.4d");

    let loaded: LoadedState = newest_state(&store, None);
    assert_eq!(loaded.meta.last_log, Some((3, 77)));
    assert_eq!(loaded.meta.membership, "opaque");
    assert_eq!(loaded.state.applied_zxid(), state.applied_zxid());
    assert_eq!(loaded.state.level(), LEVEL);
    assert_eq!(loaded.state.cluster_key(), [9; 32]);
    assert_eq!(loaded.state.tree().digest(), state.tree().digest());
    assert_eq!(
        loaded.state.tree().ephemeral_count(),
        state.tree().ephemeral_count()
    );
    assert!(content_of(&loaded.state) == content_of(&state));
}

/// All checksums are right, and still it is not the tree that was captured.
#[test]
fn a_tree_with_another_digest_is_passed_over_unless_digests_are_off() {
    let store = open(&SimDisk::new());
    let state = state_of(3, b"x");
    store.write(state.capture(), captured_at(10)).unwrap();
    let mut wrong = meta(20);
    wrong.digest = state.tree().digest();
    let writer = store.writer(&wrong).unwrap();
    let name = writer.finish().unwrap();
    let fault = store.load_state(name, true).err().unwrap();
    assert!(matches!(fault.fault, Fault::Digest { .. }), "{fault}");
    assert!(store.load_state(name, false).is_ok());
    let loaded = newest_state(&store, WHOLE_LOG);
    assert_eq!(loaded.meta.last_log, Some((3, 10)));
}

/// Of what a tree cannot be made of, with checksums that are right.
#[test]
fn znodes_that_make_no_tree_are_refused() {
    let store = open(&SimDisk::new());
    for (index, paths) in [["/a/b", "/"], ["/", "/"], ["/", "a"]].iter().enumerate() {
        let mut broken = content(index as u64 + 1, 2, 0);
        for (node, path) in broken.nodes.iter_mut().zip(paths) {
            node.path = (*path).to_owned();
        }
        let name = write(&store, &broken).unwrap();
        let fault = store.load_state(name, false).err().unwrap();
        assert!(matches!(fault.fault, Fault::Tree(_)), "{paths:?}: {fault}");
    }
}

/// Time of a large one: `cargo test --release -- --ignored --nocapture a_million`.
#[test]
#[ignore = "a measurement"]
fn a_million_znodes_are_written_and_read_in_about_a_second() {
    let temp = tempfile::tempdir().unwrap();
    let disk: SharedDisk = Arc::new(crate::disk::real::RealDisk);
    let store = SnapshotStore::open(disk, temp.path(), LEVEL).unwrap();
    let state = state_of(1_000_000, &[7; 100]);
    for round in 1..=3 {
        let start = Stopwatch::start();
        let name = store.write(state.capture(), captured_at(round)).unwrap();
        let written = start.text();
        let start = Stopwatch::start();
        let loaded = store.load_state(name, true).unwrap();
        let read = start.text();
        let bytes = std::fs::metadata(store.path(name)).unwrap().len();
        println!("written in {written}; read in {read}; {bytes} bytes");
        drop(loaded);
    }
}

/// Time that passed, and time that this process was on a processor: the latter tells something
/// on a busy machine too.
struct Stopwatch {
    start: std::time::Instant,
    cpu_ms: (u64, u64),
}

impl Stopwatch {
    #[expect(clippy::disallowed_methods, reason = "a measurement")]
    fn start() -> Stopwatch {
        Stopwatch {
            start: std::time::Instant::now(),
            cpu_ms: cpu_ms(),
        }
    }

    fn text(&self) -> String {
        let (user, system) = cpu_ms();
        let (user, system) = (user - self.cpu_ms.0, system - self.cpu_ms.1);
        let passed = self.start.elapsed();
        format!("{passed:.2?} ({user} ms in the program, {system} ms in the kernel)")
    }
}

/// Linux counts in hundredths of a second. Nothing elsewhere.
fn cpu_ms() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<u64> = text
        .rsplit(") ")
        .next()
        .unwrap_or_default()
        .split(' ')
        .map(|field| field.parse().unwrap_or(0))
        .collect();
    (
        fields.get(11).map_or(0, |ticks| ticks * 10),
        fields.get(12).map_or(0, |ticks| ticks * 10),
    )
}
