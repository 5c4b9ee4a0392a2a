//! The sample directories of a real ZooKeeper 3.9.5, and what damage does to them.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use quorate_proto::SessionId;
use serde_json::{Value, json};

use super::super::fault::Fault;
use super::super::record::{NodeKind, NodeView, kind_of};
use super::log_file::{End, LogFile, Position};
use super::txn::{LoggedKind, LoggedRecord, LoggedTxn};
use super::*;
use crate::tree::{PersistedStat, State};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/zk-datadir")
        .join(name)
}

/// A copy that may be damaged.
fn copy_of(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("version-2")).unwrap();
    for entry in fs::read_dir(fixture(name).join("version-2")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(
            entry.path(),
            dir.path().join("version-2").join(entry.file_name()),
        )
        .unwrap();
    }
    dir
}

fn keep_config() -> ImportOptions {
    ImportOptions {
        config_node: ConfigNode::Keep,
        ..ImportOptions::default()
    }
}

fn load(dir: &Path) -> Result<Import, ImportError> {
    read(&ZooKeeperDirs::new(dir, None), &keep_config())
}

fn expected(name: &str) -> Value {
    serde_json::from_slice(&fs::read(fixture(name).join("expected-tree.json")).unwrap()).unwrap()
}

/// A znode in the words of `expected-tree.json`.
fn node_json(node: &NodeView<'_>, children: usize) -> Value {
    let base64 = base64::engine::general_purpose::STANDARD;
    let mut value = json!({
        "path": if node.path.is_empty() { "/" } else { node.path },
        "data_base64": node.data.map(|data| base64.encode(data)),
        "acl": node.acl.iter().map(|entry| json!({
            "perms": entry.perms.0, "scheme": entry.id.scheme, "id": entry.id.id,
        })).collect::<Vec<_>>(),
        "stat": {
            "czxid": node.stat.czxid, "mzxid": node.stat.mzxid, "ctime": node.stat.ctime,
            "mtime": node.stat.mtime, "version": node.stat.version,
            "cversion": node.stat.cversion, "aversion": node.stat.aversion,
            "ephemeralOwner": node.stat.ephemeral_owner, "pzxid": node.stat.pzxid,
            "dataLength": node.data.map_or(0, <[u8]>::len), "numChildren": children,
        },
        "kind": match kind_of(node.stat.ephemeral_owner) {
            NodeKind::Persistent => "persistent",
            NodeKind::Ephemeral(_) => "ephemeral",
            NodeKind::Container => "container",
            NodeKind::Ttl(_) => "ttl",
            NodeKind::Unknown => "unknown",
        },
    });
    if let NodeKind::Ttl(ttl_ms) = kind_of(node.stat.ephemeral_owner) {
        value["ttl_ms"] = json!(ttl_ms);
    }
    value
}

fn nodes_json(import: &Import) -> Vec<Value> {
    let nodes: Vec<_> = import.nodes().collect();
    let mut values: Vec<_> = nodes
        .iter()
        .map(|node| {
            let children = nodes
                .iter()
                .filter(|child| image::parent_of(child.path) == Some(node.path));
            node_json(node, children.count())
        })
        .collect();
    values.sort_by_key(|value| value["path"].as_str().unwrap().to_owned());
    values
}

fn assert_is_as_expected(import: &Import, name: &str) {
    let expected = expected(name);
    let mut nodes = expected["nodes"].as_array().unwrap().clone();
    nodes.sort_by_key(|value| value["path"].as_str().unwrap().to_owned());
    let found = nodes_json(import);
    for (found, expected) in found.iter().zip(&nodes) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.len(), nodes.len());
    let sessions: Vec<_> = import
        .sessions()
        .map(|session| {
            json!({"id": format!("{:#x}", session.id.0), "timeout_ms": session.session.timeout_ms})
        })
        .collect();
    assert_eq!(Value::from(sessions), expected["sessions"]);
    assert_eq!(
        import.report.digest,
        expected["final_tree_digest"].as_u64().unwrap()
    );
    assert_eq!(
        format!("{:#x}", import.report.last_zxid),
        expected["last_zxid"]
    );
    assert_eq!(import.report.digests_differed, 0);
}

#[test]
fn a_standalone_directory_loads_to_exactly_what_its_server_had() {
    let import = load(&fixture("standalone")).unwrap();
    assert_is_as_expected(&import, "standalone");
    let report = &import.report;
    assert_eq!(report.snapshot_zxid, Some(0x20));
    assert_eq!(report.txns_replayed, 24);
    assert_eq!(
        report.digests_matched, 22,
        "the snapshot, and all records but three errors"
    );
    assert_eq!(
        (report.containers, report.ttl_nodes, report.ephemerals),
        (3, 2, 3)
    );
    assert_eq!(report.zxid_gaps, []);
    assert_eq!((report.torn_tail.as_ref(), report.epoch), (None, 0));
}

#[test]
fn a_member_of_an_ensemble_loads_to_exactly_what_it_had() {
    let import = load(&fixture("quorum")).unwrap();
    assert_is_as_expected(&import, "quorum");
    assert_eq!(import.report.txns_replayed, 26);
    assert_eq!(import.report.epoch, 1);
}

#[test]
fn a_standalone_server_does_not_take_over_the_configuration_of_an_ensemble() {
    let dirs = ZooKeeperDirs::new(&fixture("quorum"), None);
    let import = read(&dirs, &ImportOptions::default()).unwrap();
    let config = import
        .nodes()
        .find(|node| node.path == image::CONFIG_PATH)
        .unwrap();
    assert_eq!(config.data, Some(&b""[..]));
    assert!(import.report.config_emptied);
}

#[test]
fn the_log_alone_gives_the_same_tree_as_the_newest_snapshot() {
    let dir = copy_of("standalone");
    fs::remove_file(dir.path().join("version-2/snapshot.20")).unwrap();
    let import = load(dir.path()).unwrap();
    assert_is_as_expected(&import, "standalone");
    assert_eq!(import.report.snapshot_zxid, Some(0));
}

/// A snapshot named for an earlier transaction than its content, as fuzzy snapshots are: every
/// transaction is applied to a tree that has seen it.
#[test]
fn transactions_that_the_snapshot_has_seen_change_nothing() {
    let dir = copy_of("standalone");
    let version2 = dir.path().join("version-2");
    for early in 0..0x20 {
        fs::rename(
            version2.join("snapshot.20"),
            version2.join(format!("snapshot.{early:x}")),
        )
        .unwrap();
        let import = load(dir.path()).unwrap();
        assert_is_as_expected(&import, "standalone");
        fs::rename(
            version2.join(format!("snapshot.{early:x}")),
            version2.join("snapshot.20"),
        )
        .unwrap();
    }
}

/// A log record in the words of `expected-txns.jsonl`.
fn txn_json(txn: &LoggedTxn<'_>) -> Value {
    let data = |data: &Option<&[u8]>| {
        data.map_or(Value::Null, |data| {
            let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({ "hex": hex })
        })
    };
    let acl = |acl: &[quorate_proto::Acl]| -> Value {
        acl.iter()
            .map(|entry| json!([entry.perms.0, entry.id.scheme, entry.id.id]))
            .collect()
    };
    match txn {
        LoggedTxn::CreateSession { timeout_ms } => json!({ "timeout": timeout_ms }),
        LoggedTxn::CloseSession { deleted } => json!({ "paths": deleted }),
        LoggedTxn::Error { code } => json!({ "err": code }),
        LoggedTxn::Create(create) => {
            let mut value = json!({
                "path": create.path, "data": data(&create.data), "acl": acl(&create.acl),
                "pcv": create.parent_cversion,
            });
            match create.kind {
                LoggedKind::Persistent => value["eph"] = json!(false),
                LoggedKind::Ephemeral => value["eph"] = json!(true),
                LoggedKind::Container => {}
                LoggedKind::Ttl(ttl_ms) => value["ttl"] = json!(ttl_ms),
            }
            value
        }
        LoggedTxn::Delete { path } => json!({ "path": path }),
        LoggedTxn::SetData {
            path,
            data: new,
            version,
        } => {
            json!({ "path": path, "data": data(new), "version": version })
        }
        LoggedTxn::SetAcl {
            path,
            acl: new,
            version,
        } => {
            json!({ "path": path, "acl": acl(new), "version": version })
        }
        LoggedTxn::Check { path, version } => json!({ "path": path, "version": version }),
        LoggedTxn::Multi(txns) => {
            let txns: Vec<_> = txns
                .iter()
                .map(|(code, txn)| json!([code, txn_json(txn)]))
                .collect();
            json!({ "txns": txns })
        }
    }
}

#[test]
fn every_record_of_the_sample_logs_decodes_to_what_it_is() {
    for (name, files) in [
        ("standalone", &["log.1", "log.21"][..]),
        ("quorum", &["log.100000001"][..]),
    ] {
        let text = fs::read_to_string(fixture(name).join("expected-txns.jsonl")).unwrap();
        let mut lines = text.lines();
        for file in files {
            let path = fixture(name).join("version-2").join(file);
            let mut log = LogFile::open(&path, Position::Earlier).unwrap();
            while let Some((offset, payload)) = log.next().unwrap() {
                let record = LoggedRecord::decode(payload).unwrap();
                let found = json!({
                    "file": file, "offset": offset, "payload_len": payload.len(),
                    "session": format!("{:#x}", record.header.session),
                    "cxid": record.header.cxid,
                    "zxid": format!("{:#x}", record.header.zxid),
                    "time_ms": record.header.time_ms, "type": record.header.code,
                    "txn": txn_json(&record.txn),
                    "digest": record.digest.map(|digest| json!({
                        "version": digest.version, "tree": digest.tree,
                    })),
                });
                let mut expected: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
                // The expectations note the length of each element of a multi behind it.
                if let Some(txns) = expected
                    .pointer_mut("/txn/txns")
                    .and_then(Value::as_array_mut)
                {
                    for txn in txns {
                        txn.as_array_mut().unwrap().truncate(2);
                    }
                }
                assert_eq!(found, expected);
            }
            assert_eq!(log.end(), End::Clean);
        }
        assert_eq!(lines.next(), None);
    }
}

#[test]
fn compressed_snapshots_load_like_plain_ones() {
    use std::io::Write as _;
    let plain = fs::read(fixture("standalone").join("version-2/snapshot.20")).unwrap();

    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();

    let mut snappy = vec![0x82];
    snappy.extend_from_slice(b"SNAPPY\0\0\0\0\x01\0\0\0\x01");
    for block in plain.chunks(1000) {
        let block = snap::raw::Encoder::new().compress_vec(block).unwrap();
        snappy.extend_from_slice(&i32::try_from(block.len()).unwrap().to_be_bytes());
        snappy.extend_from_slice(&block);
    }

    for (suffix, bytes) in [("gz", gzip.finish().unwrap()), ("snappy", snappy)] {
        let dir = copy_of("standalone");
        let version2 = dir.path().join("version-2");
        fs::remove_file(version2.join("snapshot.20")).unwrap();
        fs::write(version2.join(format!("snapshot.20.{suffix}")), &bytes).unwrap();
        assert_is_as_expected(&load(dir.path()).unwrap(), "standalone");
        // Cut anywhere, it is passed over.
        fs::write(
            version2.join(format!("snapshot.20.{suffix}")),
            bytes.get(..bytes.len() / 2).unwrap(),
        )
        .unwrap();
        let import = load(dir.path()).unwrap();
        assert_eq!(import.report.snapshots_skipped.len(), 1);
        assert_is_as_expected(&import, "standalone");
    }
}

#[test]
fn a_snapshot_with_any_byte_changed_is_passed_over_for_the_one_before() {
    let dir = copy_of("standalone");
    let path = dir.path().join("version-2/snapshot.20");
    let good = fs::read(&path).unwrap();
    for at in (0..good.len()).filter(|at| !(8..16).contains(at)) {
        let mut bytes = good.clone();
        bytes[at] ^= 0x20;
        fs::write(&path, &bytes).unwrap();
        let found = snapshot_file::read(&path, 0x20);
        assert!(
            found.is_err(),
            "byte {at}: {:?}",
            found.map(|found| found.recorded)
        );
    }
    // One of them all the way.
    let import = load(dir.path()).unwrap();
    assert_eq!(import.report.snapshot_zxid, Some(0));
    assert_eq!(import.report.snapshots_skipped.len(), 1);
    assert_is_as_expected(&import, "standalone");
}

#[test]
fn a_snapshot_cut_anywhere_is_passed_over() {
    let dir = copy_of("standalone");
    let path = dir.path().join("version-2/snapshot.20");
    let good = fs::read(&path).unwrap();
    for len in 0..good.len() {
        fs::write(&path, &good[..len]).unwrap();
        match snapshot_file::read(&path, 0x20) {
            Err(_) => {}
            // Without the optional blocks it is a snapshot as older servers wrote it.
            Ok(found) => assert!(
                found.recorded.last_zxid.is_none() && good.len() - len >= 21,
                "cut to {len}"
            ),
        }
    }
}

#[test]
fn a_damaged_newest_snapshot_is_refused_when_the_log_does_not_lead_to_it() {
    let dir = copy_of("standalone");
    let version2 = dir.path().join("version-2");
    let mut bytes = fs::read(version2.join("snapshot.20")).unwrap();
    bytes[700] ^= 1;
    fs::write(version2.join("snapshot.20"), &bytes).unwrap();
    fs::remove_file(version2.join("log.1")).unwrap();
    fs::remove_file(version2.join("log.21")).unwrap();
    assert!(matches!(
        load(dir.path()).unwrap_err(),
        ImportError::Missing {
            lost: 0x20,
            reached: 0,
            ..
        }
    ));
}

#[test]
fn without_a_valid_snapshot_nothing_is_loaded() {
    let dir = copy_of("standalone");
    let version2 = dir.path().join("version-2");
    fs::write(version2.join("snapshot.20"), b"ZKSN").unwrap();
    fs::write(version2.join("snapshot.0"), b"").unwrap();
    assert!(matches!(
        load(dir.path()).unwrap_err(),
        ImportError::NoValidSnapshot { tried: 2, .. }
    ));
}

#[test]
fn a_log_without_any_snapshot_is_loaded_only_when_that_is_trusted() {
    let dir = copy_of("standalone");
    fs::remove_file(dir.path().join("version-2/snapshot.0")).unwrap();
    fs::remove_file(dir.path().join("version-2/snapshot.20")).unwrap();
    assert!(matches!(
        load(dir.path()).unwrap_err(),
        ImportError::NoSnapshot
    ));
    let options = ImportOptions {
        trust_empty: true,
        ..keep_config()
    };
    let import = read(&ZooKeeperDirs::new(dir.path(), None), &options).unwrap();
    assert_is_as_expected(&import, "standalone");
}

#[test]
fn an_empty_directory_holds_no_zookeeper() {
    let dir = tempfile::tempdir().unwrap();
    let dirs = ZooKeeperDirs::new(dir.path(), None);
    assert!(!dirs.hold_a_zookeeper().unwrap());
    assert!(matches!(
        load(dir.path()).unwrap_err(),
        ImportError::Nothing
    ));
    assert!(
        ZooKeeperDirs::new(&fixture("quorum"), None)
            .hold_a_zookeeper()
            .unwrap()
    );
}

/// Where the records of a log end, by their offsets in the expectations.
const LOG_21_RECORDS_END: usize = 2112;

fn records_end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&byte| byte != 0).unwrap() + 1
}

#[test]
fn a_log_cut_anywhere_loads_up_to_its_last_whole_record() {
    let dir = copy_of("standalone");
    let path = dir.path().join("version-2/log.21");
    let good = fs::read(&path).unwrap();
    let mut zxids = Vec::new();
    for len in 0..=records_end(&good) {
        fs::write(&path, &good[..len]).unwrap();
        let import = load(dir.path()).unwrap();
        zxids.push(import.report.last_zxid);
        assert_eq!(
            import.report.txns_replayed,
            u64::try_from(import.report.last_zxid - 0x20).unwrap()
        );
    }
    assert!(zxids.is_sorted());
    assert_eq!((zxids[0], zxids[zxids.len() - 1]), (0x20, 0x38));
}

#[test]
fn a_log_whose_tail_never_reached_the_disk_loads_up_to_its_last_whole_record() {
    let dir = copy_of("standalone");
    let path = dir.path().join("version-2/log.21");
    let good = fs::read(&path).unwrap();
    for len in 16..records_end(&good) {
        let mut bytes = good.clone();
        bytes[len..].fill(0);
        fs::write(&path, &bytes).unwrap();
        let import = load(dir.path()).unwrap();
        assert!(import.report.last_zxid < 0x38, "cut at {len}");
    }
}

#[test]
fn a_changed_byte_in_a_log_is_refused_unless_it_is_in_the_last_record() {
    let dir = copy_of("standalone");
    for (name, last_file) in [("log.1", false), ("log.21", true)] {
        let path = dir.path().join("version-2").join(name);
        // From the first snapshot on, so that both logs count.
        let _ = fs::remove_file(dir.path().join("version-2/snapshot.20"));
        let good = fs::read(&path).unwrap();
        let end = records_end(&good);
        let last_record = last_record_of(&good);
        // The dbid at 8 means nothing. Loading takes a moment: every byte of the last record, and
        // some of each before.
        for at in (0..end).filter(|at| !(8..16).contains(at) && (*at >= last_record || at % 7 == 0))
        {
            let mut bytes = good.clone();
            bytes[at] ^= 0x11;
            fs::write(&path, &bytes).unwrap();
            match load(dir.path()) {
                Err(ImportError::DamagedLog(fault)) => {
                    let in_next_file = matches!(fault.fault, Fault::Gap { .. });
                    assert!(
                        in_next_file || fault.offset <= at as u64,
                        "{name} byte {at}: {fault}"
                    );
                }
                Err(error) => panic!("{name} byte {at}: {error}"),
                Ok(import) => {
                    assert!(at >= last_record, "{name} byte {at} was not noticed");
                    assert!(
                        last_file && import.report.torn_tail.is_some(),
                        "{name} byte {at}"
                    );
                }
            }
        }
        fs::write(&path, &good).unwrap();
    }
}

/// The offset of the last record.
fn last_record_of(bytes: &[u8]) -> usize {
    let (mut at, mut last) = (16, 16);
    while let Some(&[_, _, _, _, _, _, _, _, l0, l1, l2, l3]) = bytes.get(at..at + 12) {
        let len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if len == 0 {
            break;
        }
        last = at;
        at += 12 + len + 1;
    }
    last
}

#[test]
fn the_padding_behind_the_records_is_not_read() {
    let bytes = fs::read(fixture("standalone").join("version-2/log.21")).unwrap();
    assert!(records_end(&bytes) >= LOG_21_RECORDS_END - 100 && bytes.len() == 8208);
}

#[test]
fn a_directory_that_zookeeper_wrote_to_again_is_recognised() {
    let dir = copy_of("standalone");
    let dirs = ZooKeeperDirs::new(dir.path(), None);
    let import = load(dir.path()).unwrap();
    let text = import.fingerprint.to_text();
    let then = Fingerprint::from_text(&text).unwrap();
    assert_eq!(then, import.fingerprint);
    assert_eq!(dirs.changed_since(&then).unwrap(), None);

    // Clearing out is no change.
    fs::remove_file(dir.path().join("version-2/log.1")).unwrap();
    assert_eq!(dirs.changed_since(&then).unwrap(), None);

    let log = dir.path().join("version-2/log.39");
    fs::write(&log, b"ZKLG").unwrap();
    assert_eq!(
        dirs.changed_since(&then).unwrap(),
        Some("log.39".to_owned())
    );
    fs::remove_file(&log).unwrap();

    let path = dir.path().join("version-2/log.21");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes).unwrap();
    assert_eq!(
        dirs.changed_since(&then).unwrap(),
        Some("log.21".to_owned())
    );
}

#[test]
fn importing_changes_nothing_in_the_directory() {
    let dir = copy_of("standalone");
    let dirs = ZooKeeperDirs::new(dir.path(), None);
    let before = dirs.stamps().unwrap();
    load(dir.path()).unwrap();
    assert_eq!(dirs.stamps().unwrap(), before);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_recorded_digest_that_differs_is_refused_unless_digests_are_off() {
    let dir = copy_of("standalone");
    let path = dir.path().join("version-2/log.21");
    let mut bytes = fs::read(&path).unwrap();
    // Data of the last create, with its checksum made right again.
    let at = last_record_of(&bytes);
    let len = u32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
    bytes[at + 12 + len - 1] ^= 1;
    let checksum = simd_adler32::adler32(&&bytes[at + 12..at + 12 + len]);
    bytes[at..at + 8].copy_from_slice(&u64::from(checksum).to_be_bytes());
    fs::write(&path, &bytes).unwrap();
    // The record may be an error without a digest: then its code changed and nothing else.
    match load(dir.path()) {
        Err(ImportError::Digest { zxid, .. }) => assert_eq!(zxid, 0x38),
        other => panic!("{:?}", other.map(|import| import.report)),
    }
    let options = ImportOptions {
        check_digest: false,
        ..keep_config()
    };
    assert!(read(&ZooKeeperDirs::new(dir.path(), None), &options).is_ok());
}

#[test]
fn unknown_transactions_are_refused_with_their_place() {
    let mut payload = Vec::new();
    payload.extend_from_slice(&7_i64.to_be_bytes());
    payload.extend_from_slice(&1_i32.to_be_bytes());
    payload.extend_from_slice(&9_i64.to_be_bytes());
    payload.extend_from_slice(&0_i64.to_be_bytes());
    payload.extend_from_slice(&99_i32.to_be_bytes());
    assert!(matches!(
        LoggedRecord::decode(&payload),
        Err(Fault::UnknownTxn(99))
    ));
}

/// The sample, as a state of ours.
fn sample_state() -> State {
    load(&fixture("standalone"))
        .unwrap()
        .into_state([1; 32], 1)
        .unwrap()
}

#[test]
fn an_imported_tree_is_the_state_that_we_serve() {
    let import = load(&fixture("standalone")).unwrap();
    let report = import.report.clone();
    let state = import.into_state([1; 32], 1).unwrap();
    assert_eq!(state.applied_zxid().0, 0x38);
    assert_eq!(state.tree().digest(), report.digest);
    assert_eq!(state.tree().node_count(), report.nodes);
    assert_eq!(state.tree().ephemeral_count(), report.ephemerals);

    let session = SessionId(0x0100_0011_740d_0000);
    assert_eq!(state.session(session).unwrap().timeout_ms, 3_600_000);
    let owned: Vec<String> = state
        .ephemerals_of(session)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        owned,
        [
            "/after-snapshot/e",
            "/ephemeral",
            "/persistent/eseq-0000000004"
        ]
    );

    let read = state.tree().read("/persistent");
    let stat = read.node().unwrap().stat();
    assert_eq!((stat.cversion, stat.num_children, stat.version), (6, 4, 2));
    // One shard at a time: which of the two comes first is drawn anew in every run.
    drop(read);
    let read = state.tree().read("/ttl");
    assert_eq!(read.node().unwrap().stat().ephemeral_owner, 0);
}

#[test]
fn what_is_exported_and_imported_again_is_identical() {
    for name in ["standalone", "quorum"] {
        let state = load(&fixture(name))
            .unwrap()
            .into_state([1; 32], 1)
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("missing/target");
        let report = export(&state, &target, &ExportOptions::default()).unwrap();
        assert_eq!(report.digest, state.tree().digest());
        assert_eq!(report.znodes, state.tree().node_count());
        let import = load(&target).unwrap();
        assert_eq!(import.report.digests_matched, 1);
        assert_is_as_expected(&import, name);
    }
}

/// The same size to the byte, and the same seals at the same places: only the order of znodes
/// and the numbers of lists are free.
#[test]
fn a_rewritten_snapshot_has_the_layout_of_the_real_one() {
    let path = fixture("standalone").join("version-2/snapshot.20");
    let real = fs::read(&path).unwrap();
    let read = snapshot_file::read(&path, 0x20).unwrap();
    let sessions: Vec<_> = read
        .image
        .sessions
        .iter()
        .map(|(&id, &timeout)| (SessionId(id), timeout))
        .collect();
    let mut ours = Vec::new();
    let digest = snapshot_write::write(
        &mut ours,
        0x20,
        &sessions,
        read.image.sorted().iter().copied(),
    )
    .unwrap();
    assert_eq!(digest, 46_632_994_057, "what the real server recorded");
    assert_eq!(ours.len(), real.len());
    // Magic, version, dbid, the session.
    assert_eq!(ours[..32], real[..32]);
    // Behind the tree: everything but the checksums.
    let tail = real.len() - 13 - 33 - 21 - 5..real.len();
    for at in tail.clone() {
        let in_checksum = [67, 34, 13]
            .iter()
            .any(|seal| (real.len() - seal..).take(8).any(|byte| byte == at));
        assert!(
            in_checksum || ours[at] == real[at],
            "byte {at} of {}",
            real.len()
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let copy = dir.path().join("snapshot.20");
    fs::write(&copy, &ours).unwrap();
    let again = snapshot_file::read(&copy, 0x20).unwrap();
    assert_eq!(again.recorded, read.recorded);
    assert_eq!(again.image.digest(), read.image.digest());
}

#[test]
fn a_target_with_something_in_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("myid"), "1").unwrap();
    let error = export(&sample_state(), dir.path(), &ExportOptions::default()).unwrap_err();
    assert!(matches!(error, ExportError::NotEmpty { .. }), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn ephemerals_can_be_left_out_and_times_to_live_taken_off() {
    let dir = tempfile::tempdir().unwrap();
    let options = ExportOptions {
        ephemerals: Ephemerals::LeaveOut,
        ttl_nodes: TtlNodes::MakePersistent,
        data_bytes_max: 100,
    };
    let report = export(&sample_state(), dir.path(), &options).unwrap();
    assert_eq!(
        (
            report.ephemerals,
            report.ephemerals_left_out,
            report.sessions
        ),
        (0, 3, 0)
    );
    assert_eq!((report.ttl_nodes, report.ttl_nodes_made_persistent), (0, 2));
    assert_eq!(report.oversize_paths, ["/binary"]);
    let import = load(dir.path()).unwrap();
    assert_eq!((import.report.ephemerals, import.report.ttl_nodes), (0, 0));
    assert_eq!(import.report.digest, report.digest);
    assert_eq!(import.report.nodes, sample_state().tree().node_count() - 3);
}

#[test]
fn an_export_says_what_a_zookeeper_will_do_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let report = export(&sample_state(), dir.path(), &ExportOptions::default()).unwrap();
    assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
    assert!(report.warnings[0].contains("extendedTypesEnabled"));
}

/// As of a member that was stopped between a promise and its first transaction.
#[test]
fn the_next_epoch_is_above_the_one_that_the_member_had_promised() {
    let dir = copy_of("quorum");
    fs::write(dir.path().join("version-2/currentEpoch"), "7").unwrap();
    let import = load(dir.path()).unwrap();
    assert_eq!(
        (import.report.epoch, import.report.last_zxid),
        (7, 0x1_0000_001a)
    );
    let state = import.into_state([1; 32], 1).unwrap();
    assert_eq!(state.applied_zxid().0, 0x7_0000_0000);
    fs::write(dir.path().join("version-2/currentEpoch"), "seven").unwrap();
    assert!(matches!(load(dir.path()), Err(ImportError::Io(_))));
}

#[test]
fn ephemerals_of_sessions_that_are_gone_are_dropped_and_counted() {
    let path = fixture("standalone").join("version-2/snapshot.20");
    let read = snapshot_file::read(&path, 0x20).unwrap();
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("version-2")).unwrap();
    let mut bytes = Vec::new();
    snapshot_write::write(&mut bytes, 0x20, &[], read.image.sorted().iter().copied()).unwrap();
    fs::write(dir.path().join("version-2/snapshot.20"), bytes).unwrap();
    let import = load(dir.path()).unwrap();
    assert_eq!(
        (import.report.orphaned_ephemerals, import.report.ephemerals),
        (2, 0)
    );
    assert!(import.nodes().all(|node| node.path != "/ephemeral"));
    let parent = import
        .nodes()
        .find(|node| node.path == "/persistent")
        .unwrap();
    assert_eq!(parent.stat.pzxid, 0x20, "a deletion like any other");
}

/// `emulate353TTLNodes`: 0x80 and 56 bits, which is a session's id otherwise.
#[test]
fn old_times_to_live_are_understood_when_asked_for() {
    let mut image = image::Image::fresh();
    let acl = image.intern(&quorate_proto::Acl::open_unsafe());
    let owner = (0x80_u64 << 56 | 5000).cast_signed();
    let stat = PersistedStat {
        ephemeral_owner: owner,
        ..PersistedStat::default()
    };
    image.put("/old", None, acl, stat);
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("version-2")).unwrap();
    let mut bytes = Vec::new();
    snapshot_write::write(&mut bytes, 9, &[], image.sorted().iter().copied()).unwrap();
    fs::write(dir.path().join("version-2/snapshot.9"), bytes).unwrap();

    assert_eq!(load(dir.path()).unwrap().report.orphaned_ephemerals, 1);
    let options = ImportOptions {
        emulate_353_ttl: true,
        ..keep_config()
    };
    let import = read(&ZooKeeperDirs::new(dir.path(), None), &options).unwrap();
    assert_eq!(import.report.ttl_nodes, 1);
    let node = import.nodes().find(|node| node.path == "/old").unwrap();
    assert_eq!(kind_of(node.stat.ephemeral_owner), NodeKind::Ttl(5000));
}

/// For `tests/interop/datadir.py boots`: a directory made from `$QUORATE_EXPORT_FROM` in
/// `$QUORATE_EXPORT_TO`.
#[test]
#[ignore = "a tool"]
fn write_an_export_for_a_real_zookeeper() {
    let from = std::env::var("QUORATE_EXPORT_FROM").unwrap();
    let to = std::env::var("QUORATE_EXPORT_TO").unwrap();
    let state = load(Path::new(&from))
        .unwrap()
        .into_state([1; 32], 1)
        .unwrap();
    let report = export(&state, Path::new(&to), &ExportOptions::default()).unwrap();
    println!("{report:?}");
}

mod any_bytes {
    use proptest::prelude::*;

    use super::super::source::Source;
    use super::super::txn::LoggedRecord;
    use super::super::{compression::SnappyBlocks, snapshot_file};
    use super::*;

    /// A sample with a few bytes changed gets further than noise.
    fn changed(name: &'static str) -> impl Strategy<Value = Vec<u8>> {
        let good = fs::read(fixture("standalone/version-2").join(name)).unwrap();
        let len = good.len();
        proptest::collection::vec((0..len, any::<u8>()), 1..8).prop_map(move |changes| {
            let mut bytes = good.clone();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            bytes
        })
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_snapshot_reader_panic(bytes in any::<Vec<u8>>()) {
            let _ = snapshot_file::read_from(&mut Source::new(bytes.as_slice()));
        }

        #[test]
        fn no_changed_snapshot_makes_the_reader_panic(bytes in changed("snapshot.20")) {
            let _ = snapshot_file::read_from(&mut Source::new(bytes.as_slice()));
        }

        #[test]
        fn no_bytes_make_the_record_decoder_panic(bytes in any::<Vec<u8>>()) {
            let _ = LoggedRecord::decode(&bytes);
        }

        #[test]
        fn no_changed_record_makes_the_decoder_panic(
            bytes in changed("log.21"), at in 0_usize..2000,
        ) {
            let _ = LoggedRecord::decode(bytes.get(at..).unwrap());
        }

        #[test]
        fn no_bytes_make_the_snappy_reader_panic(bytes in any::<Vec<u8>>()) {
            let mut stream = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
            stream.extend_from_slice(&bytes);
            let mut blocks = SnappyBlocks::new(stream.as_slice()).unwrap();
            let _ = std::io::copy(&mut blocks, &mut std::io::sink());
        }

        #[test]
        fn no_changed_log_file_makes_the_reader_panic(bytes in changed("log.21")) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log.21");
            fs::write(&path, &bytes).unwrap();
            if let Ok(mut log) = LogFile::open(&path, Position::Last) {
                while let Ok(Some(_)) = log.next() {}
            }
        }
    }
}
