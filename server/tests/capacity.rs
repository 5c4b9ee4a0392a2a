//! A million znodes and a million watches are held, and what they cost.
//!
//! Alone in its test binary, so that the memory of the process is that of the server (and of two
//! clients that keep nothing). A debug build takes a tenth: it is the code that is tested there,
//! not the size.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world should fail"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::BytesMut;
use quorate_server::config::FourLetterWords;
use quorate_server::testing::TestServer;
use quorate_server::testing::wire::proto::request::{Create, PathWatch, SetData};
use quorate_server::testing::wire::proto::{
    AclRef, CreateMode, Perms, Request, SetWatches, Version, Xid, Zxid,
};
use quorate_server::testing::wire::{ConnectOptions, WireClient};

const COUNT: usize = if cfg!(debug_assertions) {
    100_000
} else {
    1_000_000
};
/// Children per parent, and watches per setWatches.
const GROUP: usize = 1_000;
/// Requests under way.
const WINDOW: usize = 1_000;

/// Most bytes per znode of 100 bytes of data and a path of 35.
const ZNODE_MOST: usize = 600;
/// Most bytes per watch.
const WATCH_MOST: usize = 250;

fn path(n: usize) -> String {
    // 35 bytes: as long as paths usually are.
    format!("/capacity/group-{:06}/znode-{n:06}", n / GROUP)
}

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Sends requests, a window of them ahead, and sees each of them succeed.
async fn pipelined(
    client: &mut WireClient,
    count: usize,
    mut write: impl FnMut(usize, Xid, &mut BytesMut),
) {
    let mut out = BytesMut::new();
    let mut sent = 0;
    for answered in 0..count {
        // Half a window at a time, so that requests travel in few packets.
        if sent - answered < WINDOW / 2 {
            while sent < count.min(answered + WINDOW) {
                write(sent, Xid(1), &mut out);
                sent += 1;
            }
            client.send_raw(&out).await;
            out.clear();
        }
        assert_eq!(client.reply().await.header.err, 0, "request {answered}");
    }
}

fn open<'a>(path: &'a str, data: &'a [u8]) -> Request<'a> {
    Request::Create(Create {
        path: path.into(),
        data: Some(data),
        acl: Some(vec![AclRef {
            perms: Perms::ALL,
            scheme: Some("world".into()),
            id: Some("anyone".into()),
        }]),
        flags: CreateMode::Persistent.flags(),
    })
}

async fn figure(addr: SocketAddr, word: &str, before: &str) -> usize {
    let answer = WireClient::tcp(addr).await.word(word).await;
    let line = answer.lines().find_map(|line| line.strip_prefix(before));
    let number = line.unwrap_or_else(|| panic!("{answer}"));
    number.trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_million_znodes_and_a_million_watches_are_held() {
    let configured = TestServer::builder().on_disk().config(|config| {
        config.four_letter_words = FourLetterWords::All;
        // Snapshots have tests of their own; here they would only blur the figures.
        config.snap_count = 100_000_000;
        config.global_outstanding_limit = 10_000;
    });
    let server = configured.start().await;
    let options = ConnectOptions::with_timeout_ms(60_000);
    let mut writer = WireClient::open_with(server.addr(), &options).await;
    writer.create("/capacity", b"").await.unwrap();
    let group = |n: usize| path(n * GROUP).rsplit_once('/').unwrap().0.to_owned();
    pipelined(&mut writer, COUNT / GROUP, |n, xid, out| {
        open(&group(n), b"").write_frame(out, xid).unwrap();
    })
    .await;
    assert_eq!(path(COUNT - 1).len(), 35);
    // The log's memory and the allocator's are not the znodes': let them fill first.
    pipelined(&mut writer, 20_000, |n, xid, out| {
        let path = group(n % (COUNT / GROUP));
        let set = SetData {
            path: path.as_str().into(),
            data: Some(&[0; 100]),
            version: Version(-1),
        };
        Request::SetData(set).write_frame(out, xid).unwrap();
    })
    .await;

    let nodes_before = figure(server.addr(), "srvr", "Node count:").await;
    let before = resident();
    pipelined(&mut writer, COUNT, |n, xid, out| {
        open(&path(n), &[7; 100]).write_frame(out, xid).unwrap();
    })
    .await;
    let znode = resident().saturating_sub(before) / COUNT;
    let nodes = figure(server.addr(), "srvr", "Node count:").await;
    assert_eq!(nodes - nodes_before, COUNT);
    let zxid = writer.last_header().zxid;

    // Half by setWatches, as after a reconnect; half by getData.
    let before = resident();
    let mut returned = WireClient::open_with(server.addr(), &options).await;
    for first in (0..COUNT / 2).step_by(GROUP) {
        let paths: Vec<_> = (first..first + GROUP).map(path).collect();
        let watches = SetWatches {
            relative_zxid: Zxid(zxid.0),
            data: paths.iter().map(|path| path.as_str().into()).collect(),
            exist: Vec::new(),
            child: Vec::new(),
        };
        returned.set_watches(watches).await.unwrap();
    }
    let mut reader = WireClient::open_with(server.addr(), &options).await;
    pipelined(&mut reader, COUNT / 2, |n, xid, out| {
        let path = path(COUNT / 2 + n);
        let path = path.as_str().into();
        let read = Request::GetData(PathWatch { path, watch: true });
        read.write_frame(out, xid).unwrap();
    })
    .await;
    let watch = resident().saturating_sub(before) / COUNT;
    let watches = figure(server.addr(), "wchs", "Total watches:").await;
    assert_eq!(watches, COUNT);

    // A sample of both kinds fires, each once, and nothing else does.
    let step = COUNT / 1_000;
    pipelined(&mut writer, 1_000, |n, xid, out| {
        let path = path(n * step);
        let set = SetData {
            path: path.as_str().into(),
            data: Some(b"changed"),
            version: Version(0),
        };
        Request::SetData(set).write_frame(out, xid).unwrap();
    })
    .await;
    let mut fired = BTreeSet::new();
    for client in [&mut returned, &mut reader] {
        client.ping().await.unwrap();
        for event in client.events() {
            assert!(fired.insert(event.path.clone()), "{event:?} again");
        }
    }
    let expected: BTreeSet<_> = (0..1_000).map(|n| path(n * step)).collect();
    assert_eq!(fired, expected);
    let watches = figure(server.addr(), "wchs", "Total watches:").await;
    assert_eq!(watches, COUNT - 1_000);

    eprintln!("{COUNT} znodes: {znode} bytes each; {COUNT} watches: {watch} bytes each");
    assert!(znode < ZNODE_MOST, "{znode} bytes per znode");
    assert!(watch < WATCH_MOST, "{watch} bytes per watch");
    // A kill and a start later the znodes are still there.
    let mut server = server;
    server.kill().await;
    let nodes = figure(server.addr(), "srvr", "Node count:").await;
    assert_eq!(nodes - nodes_before, COUNT);
}
