//! One connection's order: the waiting line (R1, R2), events and replies (R3), identities (R14).

use futures::future::join_all;
use quorate_proto::multi::MultiRequest;
use quorate_proto::{
    Acl, CreateMode, ErrorCode, EventType, Id, OpCode, Perms, Reply, Request, Xid,
};
use quorate_server::testing::TestServer;
use quorate_server::testing::wire::{Frame, WireClient};

use crate::support::{create, delete, delete_op, get, number, reply_to, set, set_op};

#[tokio::test]
async fn nothing_behind_an_unanswered_write_is_answered_but_a_ping() {
    let server = TestServer::start().await;
    let mut client = WireClient::open(server.addr()).await;
    client.create("/a", b"old").await.unwrap();
    server.stall_disk();
    let write = client.submit(&set("/a", b"new")).await;
    let read = client.submit(&get("/a", false)).await;
    client.submit(&Request::Ping).await;
    reply_to(&mut client, Xid::PING).await;
    server.resume_disk();
    reply_to(&mut client, write).await;
    let reply = reply_to(&mut client, read).await;
    let Reply::DataStat(data, _) = reply.result(OpCode::GetData).unwrap() else {
        panic!("no data")
    };
    assert_eq!(data, Some(&b"new"[..]), "a client reads its own writes");
}

#[tokio::test]
async fn replies_come_in_the_order_of_their_requests() {
    let server = TestServer::start().await;
    let mut client = WireClient::open(server.addr()).await;
    client.create("/a", b"0").await.unwrap();
    let mut xids = Vec::new();
    for round in 0..100 {
        let data = round.to_string();
        let sync = Request::Sync { path: None };
        for request in [sync, get("/a", true), set("/a", data.as_bytes())] {
            xids.push(client.submit(&request).await);
        }
        xids.push(client.submit(&get("/a", false)).await);
        xids.push(client.submit(&set("/none", b"")).await);
    }
    for xid in xids {
        reply_to(&mut client, xid).await;
    }
    assert_eq!(client.events().len(), 100);
}

#[tokio::test]
async fn a_write_does_not_overtake_the_reads_in_front_of_it() {
    const TRIPLES: usize = 1000;
    let server = TestServer::start().await;
    let mut client = WireClient::open(server.addr()).await;
    let paths: Vec<_> = (0..TRIPLES).map(|n| format!("/x{n}")).collect();
    for path in &paths {
        client.submit(&create(path, CreateMode::Persistent)).await;
        client.submit(&get(path, true)).await;
        client.submit(&delete(path)).await;
    }
    for path in &paths {
        for op in [OpCode::Create, OpCode::GetData] {
            let reply = client.reply().await;
            assert!(reply.result(op).is_ok(), "{path}: {} failed", op.name());
            assert!(client.events().is_empty(), "{path}: an event too early");
        }
        assert!(client.reply().await.result(OpCode::Delete).is_ok());
        let events = client.events();
        assert_eq!(events.len(), 1, "{path}: the watch heard {events:?}");
        assert_eq!(
            (events[0].kind, &events[0].path),
            (EventType::NodeDeleted, path)
        );
    }
}

/// Java's client puts a watch into force when it reads the reply that armed it, and drops events
/// that nobody waits for: one that came first would leave its watcher waiting for ever.
#[tokio::test]
async fn an_event_never_stands_before_the_reply_that_armed_its_watch() {
    const LAST: u64 = 1500;
    let server = TestServer::start().await;
    let mut writer = WireClient::open(server.addr()).await;
    writer.create("/a", b"0").await.unwrap();
    let writes = async {
        for value in 1..=LAST {
            let text = value.to_string();
            writer.set_data("/a", text.as_bytes(), -1).await.unwrap();
        }
    };
    let reader = async || {
        let mut client = WireClient::open(server.addr()).await;
        loop {
            let frames = client.call_traced(&get("/a", true)).await;
            let [Frame::Reply(reply)] = &frames[..] else {
                panic!("an event before the reply that armed its watch: {frames:?}")
            };
            let Ok(Reply::DataStat(data, _)) = reply.result(OpCode::GetData) else {
                panic!("no data")
            };
            if number(data.map(<[u8]>::to_vec)) == LAST {
                return;
            }
            assert_eq!(client.event().await.kind, EventType::NodeDataChanged);
        }
    };
    let readers = join_all((0..4).map(|_| reader()));
    tokio::join!(writes, readers);
}

/// Told of the change first, whoever looks then sees it.
#[tokio::test]
async fn an_event_comes_before_every_reply_that_shows_the_change() {
    let server = TestServer::start().await;
    let mut writer = WireClient::open(server.addr()).await;
    for path in ["/a", "/b"] {
        writer.create(path, b"0").await.unwrap();
    }
    const LAST: u64 = 500;
    let writes = async {
        for value in 1..=LAST {
            let text = value.to_string();
            let ops = vec![set_op("/a", text.as_bytes()), set_op("/b", text.as_bytes())];
            writer.multi(ops).await.unwrap();
        }
    };
    let reader = async {
        let mut client = WireClient::open(server.addr()).await;
        loop {
            // Many at once, so that some are read in the middle of a change.
            client.submit(&get("/a", true)).await;
            for _ in 0..50 {
                client.submit(&get("/b", false)).await;
            }
            let mut value = async || {
                let reply = client.reply().await;
                let Ok(Reply::DataStat(data, _)) = reply.result(OpCode::GetData) else {
                    panic!("no data")
                };
                (number(data.map(<[u8]>::to_vec)), client.events().len())
            };
            let (armed_at, _) = value().await;
            let mut heard = 0;
            for _ in 0..50 {
                let (value, events) = value().await;
                heard += events;
                assert!(value == armed_at || heard == 1, "news before its event");
            }
            if armed_at == LAST {
                return;
            }
            if heard == 0 {
                client.event().await;
            }
        }
    };
    tokio::join!(writes, reader);
}

#[tokio::test]
async fn a_multi_that_fails_at_any_operation_leaves_nothing_and_fires_nothing() {
    let server = TestServer::start().await;
    let mut client = WireClient::open(server.addr()).await;
    for path in ["/a", "/b"] {
        client.create(path, b"0").await.unwrap();
        client.get_data(path, true).await.unwrap();
    }
    client.get_children("/", true).await.unwrap();
    let before = server.tree_digest();
    for at in 0..4 {
        let mut ops = vec![
            set_op("/a", b"1"),
            delete_op("/b"),
            crate::support::create_op("/c", CreateMode::Persistent),
        ];
        ops.insert(at, delete_op("/none"));
        let reply = client.call(&Request::Multi(MultiRequest { ops })).await;
        assert_eq!(reply.header.err, 0, "the results say which one failed");
        assert_eq!(server.tree_digest(), before);
    }
    client.ping().await.unwrap();
    assert_eq!(client.events(), []);
}

#[tokio::test]
async fn a_request_is_judged_with_the_identities_of_the_moment_it_was_read() {
    let server = TestServer::start().await;
    let mut owner = WireClient::open(server.addr()).await;
    owner.auth("digest", b"alice:secret").await.unwrap();
    let acl = Acl {
        perms: Perms::ALL,
        id: Id::new("auth", ""),
    };
    owner.create_with_acl("/hers", b"", &[acl]).await.unwrap();
    owner.create("/a", b"").await.unwrap();

    let mut client = WireClient::open(server.addr()).await;
    server.stall_disk();
    let write = client.submit(&set("/a", b"1")).await;
    let before = client.submit(&get("/hers", false)).await;
    let forbidden = client.submit(&set("/hers", b"1")).await;
    let auth = Request::Auth(quorate_proto::request::AuthPacket {
        kind: 0,
        scheme: Some("digest".into()),
        auth: Some(b"alice:secret"),
    });
    client.submit(&auth).await;
    let after = client.submit(&get("/hers", false)).await;
    client.submit(&Request::Ping).await;
    reply_to(&mut client, Xid::PING).await;
    server.resume_disk();
    let mut errors = Vec::new();
    for xid in [write, before, forbidden, Xid::AUTH, after] {
        errors.push(reply_to(&mut client, xid).await.header.err);
    }
    let no = ErrorCode::NoAuth.code();
    assert_eq!(errors, [0, no, no, 0, 0]);
}

/// The kernel may take a full outbox in one go; then nothing but the line itself can tell that
/// the rest may follow.
#[tokio::test]
async fn requests_that_waited_for_room_in_the_outbox_are_answered_unasked() {
    const READS: usize = 12;
    let server = TestServer::start().await;
    let mut client = WireClient::open(server.addr()).await;
    client.create("/large", &vec![7; 900_000]).await.unwrap();
    for _ in 0..10 {
        for _ in 0..READS {
            client.submit(&get("/large", false)).await;
        }
        for _ in 0..READS {
            assert_eq!(client.reply().await.header.err, 0);
        }
    }
}
