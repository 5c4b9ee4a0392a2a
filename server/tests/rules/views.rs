//! What replies say of the state they show: zxids (R4), reads of several znodes and recursive
//! watches at one point of the log (R5).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::future::join_all;
use quorate_proto::multi::MultiRequest;
use quorate_proto::{
    AddWatchMode, CreateMode, ErrorCode, EventType, OpCode, Request, WatcherType, Xid, Zxid,
};
use quorate_server::testing::TestServer;
use quorate_server::testing::wire::{OpOutcome, WireClient};

use crate::support::{Told, create_op, delete_op, get, number, read_op, reply_to, set, set_op};

/// Runs `writes`, and `reader` time and again until they are done.
async fn while_writing(
    writes: impl Future<Output = ()>,
    readers: usize,
    reader: impl AsyncFn(&mut WireClient, &mut Told),
    server: &TestServer,
) {
    let done = AtomicBool::new(false);
    let writes = async {
        writes.await;
        done.store(true, Ordering::Relaxed);
    };
    let readers = join_all((0..readers).map(async |_| {
        let mut client = WireClient::open(server.addr()).await;
        let mut told = Told::nothing();
        let mut rounds = 0;
        while !done.load(Ordering::Relaxed) {
            reader(&mut client, &mut told).await;
            rounds += 1;
        }
        assert!(rounds > 5, "nothing was read meanwhile");
    }));
    tokio::join!(writes, readers);
}

#[tokio::test]
async fn zxids_never_fall_and_no_data_is_newer_than_its_header() {
    let server = TestServer::start().await;
    let paths: Vec<_> = (0..20).map(|n| format!("/n{n}")).collect();
    let mut setup = WireClient::open(server.addr()).await;
    for path in &paths {
        setup.create(path, b"").await.unwrap();
    }
    setup.create("/quiet", b"").await.unwrap();
    let writer = async || {
        let mut client = WireClient::open(server.addr()).await;
        let mut told = Told::nothing();
        for _ in 0..200 {
            let ops = paths.iter().map(|path| set_op(path, b"x")).collect();
            client.multi(ops).await.unwrap();
            told.hears(client.last_header().zxid);
        }
    };
    let writes = async {
        tokio::join!(writer(), writer());
    };
    let reader = async |client: &mut WireClient, told: &mut Told| {
        for path in &paths {
            let (_, stat) = client.get_data(path, false).await.unwrap();
            let header = client.last_header().zxid;
            told.hears(header);
            assert!(Zxid(stat.mzxid) <= header, "{path} is newer than its reply");
            let stat = client.exists(path, false).await.unwrap();
            let header = client.last_header().zxid;
            told.hears(header);
            assert!(Zxid(stat.mzxid) <= header, "{path} is newer than its reply");
        }
        let ops = paths.iter().map(|path| read_op(path)).collect();
        client.multi_read(ops).await.unwrap();
        told.hears(client.last_header().zxid);
        // Together: the first may see a change that is not through yet, the second sees none.
        for _ in 0..20 {
            client.submit(&get(&paths[0], false)).await;
            client.submit(&get("/quiet", false)).await;
        }
        for _ in 0..40 {
            told.hears(client.reply().await.header.zxid);
        }
        client.ping().await.unwrap();
        told.hears(client.last_header().zxid);
    };
    while_writing(writes, 3, reader, &server).await;
}

/// A refusal that does not pass through the log was stamped when it was read: behind writes, the
/// zxids of its connection went back.
#[tokio::test]
async fn a_refusal_behind_writes_has_the_zxid_of_its_turn() {
    let server = TestServer::start().await;
    let mut client = WireClient::open(server.addr()).await;
    client.create("/a", b"").await.unwrap();
    let mut told = Told::nothing();
    server.stall_disk();
    let mut xids = Vec::new();
    for round in 0..3 {
        xids.push(client.submit(&set("/a", b"x")).await);
        let malformed = Xid(1000 + round);
        client.send(malformed, OpCode::SetData.code(), b"").await;
        xids.push(malformed);
    }
    // Everything is read before anything is answered.
    client.submit(&Request::Ping).await;
    reply_to(&mut client, Xid::PING).await;
    server.resume_disk();
    for xid in xids {
        let reply = reply_to(&mut client, xid).await;
        told.hears(reply.header.zxid);
        if xid.0 >= 1000 {
            assert_eq!(reply.header.err, ErrorCode::MarshallingError.code());
        }
    }
}

#[tokio::test]
async fn a_read_of_several_znodes_sees_one_zxid() {
    let server = TestServer::start().await;
    let paths: Vec<_> = (0..30).map(|n| format!("/n{n}")).collect();
    let mut writer = WireClient::open(server.addr()).await;
    for path in &paths {
        writer.create(path, b"0").await.unwrap();
    }
    let writes = async {
        for value in 1..=300 {
            let text = value.to_string();
            let ops = paths.iter().map(|path| set_op(path, text.as_bytes()));
            writer.multi(ops.collect()).await.unwrap();
        }
    };
    let reader = async |client: &mut WireClient, _: &mut Told| {
        let ops = paths.iter().map(|path| read_op(path)).collect();
        let seen = client.multi_read(ops).await.unwrap();
        let mut values = seen.into_iter().map(|outcome| match outcome {
            OpOutcome::Data(data, _) => number(data),
            other => panic!("no data but {other:?}"),
        });
        let first = values.next().unwrap();
        assert!(values.all(|value| value == first), "half of a multi");
    };
    while_writing(writes, 3, reader, &server).await;
}

#[tokio::test]
async fn descendants_are_counted_at_one_zxid() {
    let server = TestServer::start().await;
    let parents: Vec<_> = (0..20).map(|n| format!("/top/n{n}")).collect();
    let children: Vec<_> = parents.iter().map(|path| format!("{path}/c")).collect();
    let mut writer = WireClient::open(server.addr()).await;
    writer.create("/top", b"").await.unwrap();
    for path in &parents {
        writer.create(path, b"").await.unwrap();
    }
    let writes = async {
        for _ in 0..200 {
            let ops = children
                .iter()
                .map(|c| create_op(c, CreateMode::Persistent));
            writer.multi(ops.collect()).await.unwrap();
            let ops = children.iter().map(|c| delete_op(c)).collect();
            writer.multi(ops).await.unwrap();
        }
    };
    let reader = async |client: &mut WireClient, _: &mut Told| {
        let count = client.get_all_children_number("/top").await.unwrap();
        assert!(
            [20, 40].contains(&count),
            "{count} in the middle of a multi"
        );
    };
    while_writing(writes, 3, reader, &server).await;
}

#[tokio::test]
async fn ephemerals_are_listed_at_one_zxid() {
    let server = TestServer::start().await;
    let mut owner = WireClient::open(server.addr()).await;
    let mut other = WireClient::open(server.addr()).await;
    let paths: Vec<_> = (0..20).map(|n| format!("/e{n}")).collect();
    for _ in 0..50 {
        let ops = paths.iter().map(|p| create_op(p, CreateMode::Ephemeral));
        owner.multi(ops.collect()).await.unwrap();
        let gone = other.multi(paths.iter().map(|path| delete_op(path)).collect());
        let listed = async {
            loop {
                match owner.get_ephemerals("/").await.unwrap().len() {
                    0 => return,
                    20 => {}
                    some => panic!("{some} in the middle of a multi"),
                }
            }
        };
        let (gone, ()) = tokio::join!(gone, listed);
        gone.unwrap();
    }
}

#[tokio::test]
async fn a_recursive_watch_hears_every_change_above_the_zxid_of_its_reply() {
    let server = TestServer::start().await;
    let mut writer = WireClient::open(server.addr()).await;
    writer.create("/top", b"").await.unwrap();
    let (done, watching) = (AtomicBool::new(false), AtomicUsize::new(3));
    let writes = async {
        let mut created = Vec::new();
        for batch in 0..40 {
            let paths: Vec<_> = (0..100).map(|n| format!("/top/b{batch}n{n}")).collect();
            for paths in paths.chunks(10) {
                let ops = paths.iter().map(|p| create_op(p, CreateMode::Persistent));
                let ops = ops.collect();
                writer.submit(&Request::Multi(MultiRequest { ops })).await;
            }
            for paths in paths.chunks(10) {
                let zxid = writer.reply().await.header.zxid;
                created.extend(paths.iter().map(|path| (zxid, path.clone())));
            }
        }
        done.store(true, Ordering::Relaxed);
        // Whoever has armed a watch still waits for something to hear.
        while watching.load(Ordering::Relaxed) > 0 {
            let path = format!("/top/{}", created.len());
            writer.create(&path, b"").await.unwrap();
            created.push((writer.last_header().zxid, path));
        }
        created
    };
    let watcher = async || {
        let recursive = AddWatchMode::PersistentRecursive;
        let mut client = WireClient::open(server.addr()).await;
        let mut heard = Vec::new();
        while !done.load(Ordering::Relaxed) {
            client.add_watch("/top", recursive).await.unwrap();
            let armed_at = client.last_header().zxid;
            // An event of the watch before may come behind the reply that removed it.
            client.events();
            let first = client.event().await;
            heard.push((armed_at, first));
            let any = WatcherType::Any;
            client.remove_watches("/top", any).await.unwrap();
            client.events();
        }
        watching.fetch_sub(1, Ordering::Relaxed);
        heard
    };
    let (created, heard) = tokio::join!(writes, join_all((0..3).map(|_| watcher())));
    for (armed_at, first) in heard.into_iter().flatten() {
        let due = created.iter().find(|(zxid, _)| *zxid > armed_at).unwrap();
        assert_eq!(
            (first.zxid, &first.path),
            (due.0, &due.1),
            "armed at {armed_at}"
        );
        assert_eq!(first.kind, EventType::NodeCreated);
    }
}
