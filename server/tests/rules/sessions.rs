//! Sessions: attaching again (R10), former lives (R11), closing (R12), ids and passwords (R13),
//! expiry, restarts.

use std::collections::HashSet;
use std::time::Duration;

use quorate_proto::{
    AddWatchMode, CreateMode, ErrorCode, EventType, OpCode, Request, SessionId, Xid, Zxid,
};
use quorate_server::testing::wire::{ConnectOptions, Frame, Handshake, WireClient};
use quorate_server::testing::{NoSession, TestServer};

use crate::support::{create, get, reply_to, rest, set};

#[tokio::test]
async fn what_a_former_connection_sent_is_done_or_never_will_be_once_a_new_one_stands() {
    let server = TestServer::start().await;
    let mut former = WireClient::open(server.addr()).await;
    former.create("/a", b"").await.unwrap();
    server.stall_disk();
    former.submit(&create("/e", CreateMode::Ephemeral)).await;
    // Behind a read, so it waits here and not in the log.
    former.submit(&get("/a", false)).await;
    former
        .submit(&create("/late", CreateMode::Persistent))
        .await;
    former.submit(&Request::Ping).await;
    reply_to(&mut former, Xid::PING).await;
    let options = former.reattach();
    let attach = async {
        let mut client = WireClient::tcp(server.addr()).await;
        let handshake = client.shake_hands(&options).await;
        assert!(matches!(handshake, Handshake::Accepted { .. }));
        client
    };
    let cut = async {
        let unanswered = rest(&mut former).await;
        assert_eq!(unanswered, [], "the newest connection has the session");
        server.resume_disk();
    };
    let (mut client, ()) = tokio::join!(attach, cut);
    assert!(
        client.exists("/e", false).await.is_ok(),
        "ahead of the attach"
    );
    for _ in 0..20 {
        let late = client.exists("/late", false).await;
        assert_eq!(late, Err(ErrorCode::NoNode));
        client.set_data("/a", b"x", -1).await.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_has_seen_the_future_is_closed_without_a_word() {
    let server = TestServer::start().await;
    let client = WireClient::open(server.addr()).await;
    let mut ahead = client.reattach();
    ahead.last_zxid_seen = Zxid(i64::MAX);
    let (_, handshake) = WireClient::connect(server.addr(), &ahead).await;
    assert_eq!(handshake, Handshake::ClosedWithoutReply);
    ahead.session = SessionId::NONE;
    let (_, handshake) = WireClient::connect(server.addr(), &ahead).await;
    assert_eq!(handshake, Handshake::ClosedWithoutReply);
    let mut now = client.reattach();
    let mut other = WireClient::open(server.addr()).await;
    other.create("/a", b"").await.unwrap();
    now.last_zxid_seen = other.last_header().zxid;
    WireClient::open_with(server.addr(), &now).await;
}

#[tokio::test]
async fn replies_to_a_former_life_answer_nobody() {
    let mut server = TestServer::start().await;
    let mut client = WireClient::open(server.addr()).await;
    client.create("/a", b"old").await.unwrap();
    server.stall_disk();
    for n in 0..5 {
        let path = format!("/former{n}");
        client.submit(&create(&path, CreateMode::Persistent)).await;
    }
    client.submit(&Request::Ping).await;
    reply_to(&mut client, Xid::PING).await;
    server.kill().await;
    assert_eq!(
        rest(&mut client).await,
        [],
        "a killed server answers nothing"
    );

    // The same xids again, for other requests.
    let mut client = WireClient::open_with(server.addr(), &client.reattach()).await;
    assert_eq!(
        client.get_data("/a", false).await.unwrap().0.unwrap(),
        b"old"
    );
    for n in 0..5 {
        let path = format!("/new{n}");
        assert_eq!(client.create(&path, b"").await, Ok(path));
    }
    assert!(client.get_data("/none", false).await.is_err());
    assert_eq!(client.events(), []);
}

#[tokio::test]
async fn nothing_of_a_session_survives_its_close() {
    let server = TestServer::start().await;
    let mut watcher = WireClient::open(server.addr()).await;
    let mut client = WireClient::open(server.addr()).await;
    let paths: Vec<_> = (0..100).map(|n| format!("/e{n}")).collect();
    for path in &paths {
        client.submit(&create(path, CreateMode::Ephemeral)).await;
    }
    let close = client.submit(&Request::CloseSession).await;
    client
        .submit(&create("/late", CreateMode::Persistent))
        .await;
    let frames = rest(&mut client).await;
    assert_eq!(frames.len(), 101, "nothing behind the close is answered");
    let Some(Frame::Reply(last)) = frames.last() else {
        panic!("no reply to the close")
    };
    assert_eq!((last.header.xid, last.header.err), (close, 0));
    let left = watcher.get_children("/", false).await.unwrap();
    assert_eq!(left, ["zookeeper"]);
    let again = WireClient::connect(server.addr(), &client.reattach()).await;
    assert!(matches!(again.1, Handshake::Refused { .. }));
}

#[tokio::test]
async fn a_handshake_is_zookeepers_with_our_mark_in_the_password() {
    let server = TestServer::start().await;
    let mut first = WireClient::open(server.addr()).await;
    let Handshake::Accepted {
        session,
        password,
        timeout,
        read_only,
        raw_len,
    } = first.handshake()
    else {
        panic!("no session")
    };
    assert_eq!(password[..6], *b"QUORA\x01");
    assert_eq!(
        (timeout, read_only, raw_len),
        (Duration::from_secs(10), Some(false), 37)
    );
    // Server 1, and the zxid that opened it: nothing else has happened since.
    first.ping().await.unwrap();
    let opened_at = first.last_header().zxid;
    assert_eq!(session.0, (1 << 56) | opened_at.0);
    let options = ConnectOptions {
        read_only: None,
        ..ConnectOptions::default()
    };
    let (_, old) = WireClient::connect(server.addr(), &options).await;
    assert!(
        matches!(old, Handshake::Accepted { raw_len: 36, password: other, .. } if other != password)
    );
}

#[tokio::test]
async fn no_session_id_is_given_twice_over_restarts() {
    let mut server = TestServer::start().await;
    let mut seen = HashSet::new();
    for life in 0..4 {
        for _ in 0..10 {
            let mut client = WireClient::open(server.addr()).await;
            let session = client.session();
            assert!(seen.insert(session), "{session} was given twice");
            client.close_session().await.unwrap();
        }
        match life % 2 {
            0 => server.kill().await,
            _ => server.restart().await,
        }
    }
}

#[tokio::test]
async fn an_expired_session_takes_its_ephemerals_its_watches_and_its_connection() {
    let server = TestServer::start().await;
    let mut watcher = WireClient::open(server.addr()).await;
    let mut client = WireClient::open(server.addr()).await;
    client
        .create_mode("/e", b"", CreateMode::Ephemeral)
        .await
        .unwrap();
    client.get_data("/e", true).await.unwrap();
    watcher.get_data("/e", true).await.unwrap();
    let session = client.session();
    server.expire_session(session).await.unwrap();
    let event = watcher.event().await;
    assert_eq!(
        (event.kind, &event.path[..]),
        (EventType::NodeDeleted, "/e")
    );
    assert_eq!(watcher.exists("/e", false).await, Err(ErrorCode::NoNode));
    rest(&mut client).await;
    let (_, again) = WireClient::connect(server.addr(), &client.reattach()).await;
    assert!(matches!(again, Handshake::Refused { .. }));
    assert_eq!(
        server.expire_session(session).await,
        Err(NoSession { session })
    );
}

#[tokio::test]
async fn a_silent_session_expires_and_one_that_speaks_does_not() {
    let server = TestServer::builder()
        .config(|config| {
            config.tick_time = Duration::from_millis(50);
            config.min_session_timeout = Duration::from_millis(100);
        })
        .start()
        .await;
    let mut watcher = WireClient::open(server.addr()).await;
    let silent = ConnectOptions::with_timeout_ms(1);
    let mut silent = WireClient::open_with(server.addr(), &silent).await;
    silent
        .create_mode("/e", b"", CreateMode::Ephemeral)
        .await
        .unwrap();
    watcher.exists("/e", true).await.unwrap();
    assert_eq!(watcher.event().await.kind, EventType::NodeDeleted);
    silent.closed().await;
    watcher.ping().await.unwrap();
}

#[tokio::test]
async fn sessions_and_their_ephemerals_survive_a_restart_and_a_kill() {
    let mut server = TestServer::start().await;
    let mut client = WireClient::open(server.addr()).await;
    client
        .create_mode("/e", b"", CreateMode::Ephemeral)
        .await
        .unwrap();
    for life in 0..3 {
        let digest = server.tree_digest();
        match life {
            0 => server.restart().await,
            _ => server.kill().await,
        }
        assert_eq!(server.tree_digest(), digest);
        let options = client.reattach();
        client = WireClient::open_with(server.addr(), &options).await;
        assert_eq!(client.reattach().session, options.session);
        let stat = client.exists("/e", false).await.unwrap();
        assert_eq!(stat.ephemeral_owner, options.session.0);
        let mut wrong = options.clone();
        wrong.password = Some(b"QUORA\x01wrong word".to_vec());
        let (_, refused) = WireClient::connect(server.addr(), &wrong).await;
        assert!(matches!(refused, Handshake::Refused { .. }));
        // ZooKeeper looks at the password last: the right connection is cut all the same.
        rest(&mut client).await;
        client = WireClient::open_with(server.addr(), &options).await;
    }
    client.close_session().await.unwrap();
    let mut other = WireClient::open(server.addr()).await;
    assert_eq!(other.exists("/e", false).await, Err(ErrorCode::NoNode));
}

#[tokio::test]
async fn empty_containers_and_stale_ttl_znodes_go_by_themselves() {
    let mut server = TestServer::builder()
        .config(|config| {
            config.container_check_interval = Duration::from_millis(10);
            config.container_max_per_minute = 60_000;
        })
        .start()
        .await;
    let mut client = WireClient::open(server.addr()).await;
    for path in ["/box", "/brief"] {
        client
            .add_watch(path, AddWatchMode::Persistent)
            .await
            .unwrap();
    }
    client.create_container("/box").await.unwrap();
    client.create("/box/a", b"").await.unwrap();
    client.delete("/box/a", -1).await.unwrap();
    let ttl = CreateMode::PersistentWithTtl;
    client.create_ttl("/brief", b"", ttl, 20).await.unwrap();
    client
        .create_ttl("/long", b"", ttl, 1_000_000)
        .await
        .unwrap();
    let mut gone = Vec::new();
    while gone.len() < 2 {
        let event = client.event().await;
        if event.kind == EventType::NodeDeleted {
            gone.push(event.path);
        }
    }
    gone.sort();
    assert_eq!(gone, ["/box", "/brief"]);
    client.exists("/long", false).await.unwrap();
    // What a stopped server did not reap, the next one does.
    client.create_container("/box").await.unwrap();
    client.create("/box/a", b"").await.unwrap();
    server.restart().await;
    let mut client = WireClient::open(server.addr()).await;
    client.exists("/box", true).await.unwrap();
    client.delete("/box/a", -1).await.unwrap();
    let event = client.event().await;
    assert_eq!(
        (event.kind, &event.path[..]),
        (EventType::NodeDeleted, "/box")
    );
}

#[tokio::test]
async fn requests_of_one_session_take_effect_once_and_in_order() {
    let server = TestServer::start().await;
    let mut client = WireClient::open(server.addr()).await;
    client.create("/q", b"").await.unwrap();
    for _ in 0..300 {
        let mode = CreateMode::PersistentSequential;
        client.submit(&create("/q/n", mode)).await;
    }
    client.submit(&set("/q", b"end")).await;
    for number in 0..300 {
        let reply = client.reply().await;
        let Ok(quorate_proto::Reply::Path(path)) = reply.result(OpCode::Create) else {
            panic!("not created")
        };
        assert_eq!(path, format!("/q/n{number:010}"));
    }
    assert!(client.reply().await.result(OpCode::SetData).is_ok());
}

/// Nothing but their outboxes tells connections with a session of the end.
#[tokio::test]
async fn a_server_that_stops_does_not_wait_for_idle_connections() {
    let mut server = TestServer::start().await;
    let mut idle = WireClient::open(server.addr()).await;
    let patience = std::time::Duration::from_secs(4);
    tokio::time::timeout(patience, server.stop()).await.unwrap();
    idle.closed().await;
}
