//! A server on the data of an Apache ZooKeeper, by its own `zoo.cfg`, and back again.
//!
//! The data come from a real ZooKeeper 3.9.5, with what it showed of them (see the README of the
//! fixture).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot set up its world should fail"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use quorate_proto::{SessionId, Stat};
use quorate_server::testing::wire::{ConnectOptions, Handshake, WireClient};
use serde_json::Value;
use support::{Process, run};
use tempfile::TempDir;

/// What a ZooKeeper left, copied, and the `zoo.cfg` that it had.
struct Left {
    dir: TempDir,
    expected: Value,
}

const FIXTURE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/server/tests/fixtures/zk-datadir/standalone"
);

/// The files of a directory, by name.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect()
}

impl Left {
    fn by_zookeeper() -> Left {
        let dir = TempDir::new().unwrap();
        let data = dir.path().join("data/version-2");
        fs::create_dir_all(&data).unwrap();
        for (path, content) in contents(&Path::new(FIXTURE).join("version-2")) {
            fs::write(data.join(path.file_name().unwrap()), content).unwrap();
        }
        let expected = fs::read(Path::new(FIXTURE).join("expected-tree.json")).unwrap();
        let left = Left {
            dir,
            expected: serde_json::from_slice(&expected).unwrap(),
        };
        // `super:secret`: reads every ACL unabridged.
        left.configure("data");
        left
    }

    fn configure(&self, data: &str) {
        let data = self.dir.path().join(data);
        let digest = run(&["digest", "super:secret"]);
        let digest = String::from_utf8(digest.stdout).unwrap();
        let digest = digest.trim().split("->").nth(1).unwrap().to_owned();
        let text = format!(
            "tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir={}\nclientPort=2181\n\
             maxSessionTimeout=4000000\nextendedTypesEnabled=true\n\
             DigestAuthenticationProvider.superDigest={digest}\n",
            data.display()
        );
        fs::write(self.dir.path().join("zoo.cfg"), text).unwrap();
    }

    fn args(&self) -> [String; 2] {
        let file = self.dir.path().join("zoo.cfg");
        ["--config".into(), file.display().to_string()]
    }

    fn version_2(&self) -> PathBuf {
        self.dir.path().join("data/version-2")
    }

    fn last_zxid(&self) -> i64 {
        let text = self.expected["last_zxid"].as_str().unwrap();
        i64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap()
    }

    fn session(&self) -> SessionId {
        let text = self.expected["sessions"][0]["id"].as_str().unwrap();
        SessionId(i64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap())
    }

    /// A start that is refused: its exit code, and what it said.
    fn refused(&self) -> (Option<i32>, String) {
        let args = self.args();
        let output = run(&["server", "--listen", "127.0.0.1:0", &args[0], &args[1]]);
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    }
}

/// ZooKeeper's password of a session: 16 bytes of Java's generator, seeded with the id.
/// Source: protocol of sessions, `SessionTrackerImpl` and `ZooKeeperServer.generatePasswd`.
fn zookeepers_password(session: SessionId) -> [u8; 16] {
    const MULTIPLIER: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;
    let seed = session.0.cast_unsigned() ^ 0xB341_5C00;
    let mut state = (seed ^ MULTIPLIER) & MASK;
    let mut password = [0; 16];
    for four in password.chunks_mut(4) {
        state = state.wrapping_mul(MULTIPLIER).wrapping_add(0xB) & MASK;
        let word = u32::try_from(state >> 16).unwrap();
        four.copy_from_slice(&word.to_le_bytes());
    }
    password
}

/// A stat as a client sees it, from the persisted fields of the fixture.
fn visible(node: &Value) -> Stat {
    let number = |name: &str| node["stat"][name].as_i64().unwrap();
    let small = |name: &str| i32::try_from(number(name)).unwrap();
    let is_ephemeral = node["kind"].as_str().unwrap().starts_with("ephemeral");
    Stat {
        czxid: number("czxid"),
        mzxid: number("mzxid"),
        ctime: number("ctime"),
        mtime: number("mtime"),
        version: small("version"),
        cversion: 2 * small("cversion") - small("numChildren"),
        aversion: small("aversion"),
        ephemeral_owner: if is_ephemeral {
            number("ephemeralOwner")
        } else {
            0
        },
        data_length: small("dataLength"),
        num_children: small("numChildren"),
        pzxid: number("pzxid"),
    }
}

/// Everything that is served equals what ZooKeeper showed: data, stats and ACLs of every znode.
async fn assert_tree(addr: SocketAddr, expected: &Value) {
    let mut client = WireClient::open(addr).await;
    client.auth("digest", b"super:secret").await.unwrap();
    let nodes = expected["nodes"].as_array().unwrap();
    for node in nodes {
        let path = node["path"].as_str().unwrap();
        let (data, stat) = client.get_data(path, false).await.unwrap();
        let expected = node["data_base64"].as_str();
        let expected = expected.map(|text| BASE64_STANDARD.decode(text).unwrap());
        assert_eq!(data, expected, "{path}");
        assert_eq!(stat, visible(node), "{path}");
        let (acl, _) = client.get_acl(path).await.unwrap();
        let acl: Vec<_> = acl
            .iter()
            .map(|acl| {
                (
                    i64::from(acl.perms.0),
                    acl.id.scheme.as_str(),
                    acl.id.id.as_str(),
                )
            })
            .collect();
        let text =
            |acl: &'static str| move |value: &'_ Value| value[acl].as_str().unwrap().to_owned();
        let expected: Vec<_> = node["acl"]
            .as_array()
            .unwrap()
            .iter()
            .map(|acl| {
                (
                    acl["perms"].as_i64().unwrap(),
                    text("scheme")(acl),
                    text("id")(acl),
                )
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(perms, scheme, id)| (*perms, scheme.as_str(), id.as_str()))
            .collect();
        assert_eq!(acl, expected, "{path}");
    }
    let below_root = client.get_all_children_number("/").await.unwrap();
    assert_eq!(usize::try_from(below_root).unwrap(), nodes.len() - 1);
    client.close_session().await.unwrap();
}

#[tokio::test]
async fn a_zookeepers_data_are_served_as_zookeeper_served_them() {
    let left = Left::by_zookeeper();
    let before = contents(&left.version_2());
    let server = Process::start(&left.args());

    // The live session goes on, with the password that ZooKeeper gave it, and its ephemerals.
    let session = left.session();
    let options = ConnectOptions {
        timeout_ms: 3_600_000,
        ..ConnectOptions::reattach(session, zookeepers_password(session))
    };
    let (mut client, handshake) = WireClient::connect(server.addr, &options).await;
    match handshake {
        Handshake::Accepted { session: found, .. } => assert_eq!(found, session),
        other => panic!("{other:?}"),
    }
    let mut wrong = options.clone();
    wrong.password.as_mut().unwrap()[3] ^= 1;
    assert_tree(server.addr, &left.expected).await;
    let mut ephemerals = client.get_ephemerals("/").await.unwrap();
    ephemerals.sort();
    let nodes = left.expected["nodes"].as_array().unwrap().iter();
    let owned = nodes.filter(|node| visible(node).ephemeral_owner == session.0);
    let mut expected: Vec<_> = owned.map(|node| node["path"].as_str().unwrap()).collect();
    expected.sort_unstable();
    assert_eq!(ephemerals, expected);
    let (_, handshake) = WireClient::connect(server.addr, &wrong).await;
    assert!(
        matches!(handshake, Handshake::Refused { .. }),
        "{handshake:?}"
    );

    // Zxids go on, and the originals are as they were.
    let (mut client, _) = WireClient::connect(server.addr, &options).await;
    client.create("/ours", b"new").await.unwrap();
    let zxid = client.last_header().zxid.0;
    assert!(zxid > left.last_zxid(), "{zxid:#x}");
    assert_eq!(contents(&left.version_2()), before);

    // A second start goes on with ours, and imports nothing again.
    server.kill();
    let server = Process::start(&left.args());
    let (mut client, _) = WireClient::connect(server.addr, &options).await;
    let (data, stat) = client.get_data("/ours", false).await.unwrap();
    assert_eq!((data, stat.czxid), (Some(b"new".to_vec()), zxid));
    assert_eq!(contents(&left.version_2()), before);
}

/// Something that ZooKeeper does in its `version-2`.
type GoOn = fn(&Path);

#[tokio::test]
async fn a_zookeeper_that_went_on_after_the_import_is_refused() {
    let appended = |version_2: &Path| {
        let log = version_2.join("log.21");
        let mut log = fs::OpenOptions::new().append(true).open(log).unwrap();
        log.write_all(&[1; 100]).unwrap();
    };
    let overwritten = |version_2: &Path| {
        // As ZooKeeper writes: into the zeros that it had reserved.
        let log = version_2.join("log.21");
        let mut content = fs::read(&log).unwrap();
        let end = content.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        content[end + 1..end + 50].fill(7);
        fs::write(&log, content).unwrap();
    };
    let newer = |version_2: &Path| {
        let old = version_2.join("snapshot.20");
        fs::copy(old, version_2.join("snapshot.39")).unwrap();
    };
    let went_on: [(&str, GoOn); 3] = [
        ("log.21", appended),
        ("log.21", overwritten),
        ("snapshot.39", newer),
    ];
    for (file, go_on) in went_on {
        let left = Left::by_zookeeper();
        let (status, _) = Process::start(&left.args()).terminate();
        assert_eq!(status.code(), Some(0));
        go_on(&left.version_2());
        let (code, said) = left.refused();
        assert_eq!(code, Some(2), "{said}");
        assert!(
            said.contains("error[Q0101]: ") && said.contains(file),
            "{said}"
        );
        assert!(said.contains("ZooKeeper wrote"), "{said}");
    }
}

#[tokio::test]
async fn an_export_of_the_import_is_imported_as_the_same() {
    let left = Left::by_zookeeper();
    let (status, _) = Process::start(&left.args()).terminate();
    assert_eq!(status.code(), Some(0));
    let to = left.dir.path().join("exported").display().to_string();
    let args = left.args();
    let output = run(&["export-datadir", &args[0], &args[1], "--to", &to]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let nodes = left.expected["nodes"].as_array().unwrap().len();
    assert!(
        said.contains(&format!("{nodes} znodes and 1 sessions")),
        "{said}"
    );

    left.configure("exported");
    let server = Process::start(&left.args());
    assert_tree(server.addr, &left.expected).await;
    let session = left.session();
    let options = ConnectOptions::reattach(session, zookeepers_password(session));
    let (_, handshake) = WireClient::connect(server.addr, &options).await;
    assert!(
        matches!(handshake, Handshake::Accepted { .. }),
        "{handshake:?}"
    );
}
