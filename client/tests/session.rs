//! What a session survives, what it does not, and that nobody waits for ever.

#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "helpers of tests are tests"
)]

mod support;

use std::time::Duration;

use quorate_client::{Client, Error, NoRetry, Outcome, Reason, SessionState};
use quorate_proto::{OpCode, Reply, Stat, Xid};
use quorate_server::testing::TestServer;
use support::fake::{FakeServer, Peer};
use support::proxy::{Proxy, Weather};
use support::{builder, quick_server, soon, state_is, status_is};

const NO_NODE: i32 = -101;

fn is_connection_lost(error: &Error) -> bool {
    error.outcome() == Outcome::Unknown && matches!(error.reason(), Reason::ConnectionLost(_))
}

/// A client and its server, connected.
async fn pair(timeout_ms: i32) -> (Client, FakeServer, Peer) {
    let server = FakeServer::bind().await;
    let (client, peer) = tokio::join!(
        builder(&server.connect_string())
            .session_timeout(Duration::from_secs(30))
            .connect(),
        server.accept_session(7, timeout_ms)
    );
    (client.unwrap(), server, peer)
}

/// Answers one setData with these bytes, and tells how the call ended and that the client took
/// the session up again.
async fn answered_with(bytes: impl FnOnce(Xid) -> Vec<u8>) -> Error {
    let (client, server, mut peer) = pair(30_000).await;
    let call = client.set("/a", "1").send();
    let request = soon(peer.real_request()).await.unwrap();
    peer.write(&bytes(request.xid)).await;
    let error = soon(call).await.unwrap_err();
    let mut again = soon(server.accept()).await;
    assert_eq!(soon(again.asked()).await.session.0, 7);
    again.welcome(7, 30_000, false).await;
    state_is(&client, SessionState::Connected).await;
    assert_eq!(client.waiting(), 0);
    error
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_is_left_and_the_outcome_is_unknown() {
    let wrong_xid = |xid: Xid| Peer::frame_of(Xid(xid.0 + 1), 1, 0, None).to_vec();
    assert!(is_connection_lost(&answered_with(wrong_xid).await));
    for length in [-1_i32, i32::MIN, i32::MAX, 65 * 1024 * 1024] {
        let error = answered_with(|_| length.to_be_bytes().to_vec()).await;
        assert!(is_connection_lost(&error), "{length}: {error}");
    }
    let no_header = [0, 0, 0, 3, 1, 2, 3];
    assert!(is_connection_lost(
        &answered_with(|_| no_header.to_vec()).await
    ));
    let torn_event = Peer::frame_of(Xid::NOTIFICATION, -1, 0, None).to_vec();
    assert!(is_connection_lost(&answered_with(|_| torn_event).await));
}

#[tokio::test]
async fn replies_may_come_in_pieces_and_events_of_unknown_kinds_are_skipped() {
    let (client, _server, mut peer) = pair(30_000).await;
    let call = client.exists("/a").send();
    let other = client.exists("/b").send();
    let (first, second) = (
        peer.real_request().await.unwrap(),
        peer.real_request().await.unwrap(),
    );
    let mut bytes = Vec::new();
    for kind in [-1_i32, 5, 6, 7, 99] {
        let mut event = Peer::frame_of(Xid::NOTIFICATION, -1, 0, None).to_vec();
        event.extend(kind.to_be_bytes());
        event.extend(3_i32.to_be_bytes());
        event.extend(2_i32.to_be_bytes());
        event.extend(b"/a");
        let len = i32::try_from(event.len() - 4).unwrap();
        event[..4].copy_from_slice(&len.to_be_bytes());
        bytes.extend(event);
    }
    let stat = Stat {
        version: 3,
        ..Stat::default()
    };
    bytes.extend(Peer::frame_of(first.xid, 5, 0, Some(&Reply::Stat(stat))));
    bytes.extend(Peer::frame_of(second.xid, 5, NO_NODE, None));
    for byte in bytes {
        peer.write(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(soon(call).await.unwrap().map(|stat| stat.version), Some(3));
    assert_eq!(soon(other).await.unwrap(), None);
}

#[tokio::test]
async fn replies_in_another_order_end_the_connection() {
    let (client, _server, mut peer) = pair(30_000).await;
    let first = client.set("/a", "").send();
    let second = client.set("/b", "").send();
    peer.real_request().await.unwrap();
    let second_xid = peer.real_request().await.unwrap().xid;
    let reply = Reply::Stat(Stat::default());
    peer.reply(second_xid, 1, 0, Some(&reply)).await;
    assert!(is_connection_lost(&soon(first).await.unwrap_err()));
    assert!(is_connection_lost(&soon(second).await.unwrap_err()));
}

#[tokio::test]
async fn a_server_that_is_behind_and_says_nothing_is_passed_over() {
    let (behind, ahead) = (FakeServer::bind().await, FakeServer::bind().await);
    let servers = format!("{},{}", behind.connect_string(), ahead.connect_string());
    let turned_away = tokio::spawn(async move {
        loop {
            behind.accept().await.asked().await;
        }
    });
    let client = builder(&servers).connect();
    let (client, _peer) = tokio::join!(client, ahead.accept_session(9, 10_000));
    assert_eq!(client.unwrap().session_id().unwrap().0, 9);
    turned_away.abort();
}

#[tokio::test]
async fn pings_go_out_while_only_reads_flow_and_a_server_without_pings_is_left() {
    let (client, server, mut peer) = pair(1_500).await;
    let reads = tokio::spawn({
        let client = client.clone();
        async move { while client.exists("/a").await.is_ok() {} }
    });
    let mut pings = 0;
    while let Some(request) = soon(peer.request()).await {
        if request.is(OpCode::Ping) {
            pings += 1;
        } else {
            peer.reply(request.xid, 1, NO_NODE, None).await;
        }
    }
    assert!(pings > 0);
    assert_eq!(soon(server.accept()).await.asked().await.session.0, 7);
    reads.abort();
}

#[tokio::test]
async fn a_server_that_reads_nothing_cannot_make_the_client_grow() {
    let server = FakeServer::bind().await;
    let client = builder(&server.connect_string())
        .session_timeout(Duration::from_secs(30))
        .max_waiting_bytes(8 << 20)
        .retry(NoRetry)
        .connect();
    let (client, peer) = tokio::join!(client, server.accept_session(7, 30_000));
    let client = client.unwrap();
    let data = vec![7; 1 << 19];
    let mut calls = Vec::new();
    let refused = loop {
        let mut call = client
            .set("/a", data.clone())
            .timeout(Duration::from_secs(60))
            .send();
        match futures::poll!(&mut call) {
            std::task::Poll::Pending => calls.push(call),
            std::task::Poll::Ready(result) => break result.unwrap_err(),
        }
        assert!(calls.len() < 100, "50 MiB wait");
        tokio::task::yield_now().await;
    };
    assert!(matches!(refused.reason(), Reason::TooManyWaiting { .. }) && refused.is_retryable());
    assert_eq!(client.waiting(), calls.len());
    assert_eq!(client.state(), SessionState::Connected);
    drop(calls);
    // A server that reads again, and answers: the session is as it was, the counter at nothing.
    let serving = tokio::spawn(peer.serve());
    assert_eq!(soon(client.exists("/a")).await.unwrap(), None);
    assert_eq!(client.waiting(), 0);
    serving.abort();
}

#[tokio::test]
async fn more_requests_than_may_wait_are_refused_and_those_given_up_count_no_more() {
    let server = FakeServer::bind().await;
    let client = builder(&server.connect_string())
        .max_waiting(3)
        .start()
        .unwrap();
    let calls: Vec<_> = (0..3).map(|_| client.exists("/a").send()).collect();
    let one_more = client.exists("/a").timeout(Duration::from_millis(1)).await;
    assert!(matches!(
        one_more.unwrap_err().reason(),
        Reason::TooManyWaiting { waiting: 3 }
    ));
    drop(calls);
    let peer = server.accept_session(7, 10_000).await;
    let serving = tokio::spawn(peer.serve());
    state_is(&client, SessionState::Connected).await;
    assert_eq!(soon(client.exists("/a")).await.unwrap(), None);
    assert_eq!(client.waiting(), 0);
    serving.abort();
}

#[test]
fn a_runtime_that_is_shut_down_leaves_nobody_waiting() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let (outer, inner) = (runtime(), runtime());
    let server = outer.block_on(FakeServer::bind());
    let (client, mut peer) = outer.block_on(async {
        let connect = builder(&server.connect_string()).session_timeout(Duration::from_secs(30));
        let client = inner.spawn(connect.connect());
        let peer = server.accept_session(7, 30_000).await;
        (client.await.unwrap().unwrap(), peer)
    });
    let sent = client
        .set("/a", "")
        .timeout(Duration::from_secs(600))
        .send();
    outer.block_on(peer.real_request()).unwrap();
    inner.shutdown_background();
    outer.block_on(async {
        let error = soon(sent).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown);
        assert_eq!(*error.reason(), Reason::RuntimeGone);
        let error = soon(client.exists("/a")).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::DidNotHappen);
        assert_eq!(soon(client.lost()).await, Reason::RuntimeGone);
        assert_eq!(client.trusted_until(), None);
        assert!(
            soon(client.close()).await.is_err(),
            "the server was told nothing"
        );
    });
}

#[tokio::test]
async fn after_a_close_nothing_is_taken_and_nothing_hangs() {
    let server = TestServer::start().await;
    let client = Client::connect(server.connect_string()).await.unwrap();
    let other = client.clone();
    client.create("/e", "").ephemeral().await.unwrap();
    let before = client.set("/e", "1").send();
    let (closed, before) = tokio::join!(soon(client.close()), soon(before));
    closed.unwrap();
    assert_eq!(
        before.unwrap().version,
        1,
        "what was called before is done first"
    );
    let error = soon(other.get("/e")).await.unwrap_err();
    assert_eq!(*error.reason(), Reason::Closed);
    assert_eq!(error.outcome(), Outcome::DidNotHappen);
    assert_eq!(other.state(), SessionState::Closed);
    assert_eq!(soon(other.lost()).await, Reason::Closed);
    soon(other.trust_lapsed()).await;
    soon(other.clone().close()).await.unwrap();
    let reader = Client::connect(server.connect_string()).await.unwrap();
    assert_eq!(reader.exists("/e").await.unwrap(), None);
}

#[tokio::test]
async fn the_last_handle_dropped_closes_the_session() {
    let server = TestServer::start().await;
    let reader = Client::connect(server.connect_string()).await.unwrap();
    let client = Client::connect(server.connect_string()).await.unwrap();
    client.create("/e", "").ephemeral().await.unwrap();
    let (stat, gone) = reader.exists("/e").watch().await.unwrap();
    assert!(stat.is_some());
    let clone = client.clone();
    drop(client);
    clone.set("/e", "").await.unwrap();
    let (_, changed) = reader.exists("/e").watch().await.unwrap();
    soon(gone).await.unwrap();
    drop(clone);
    soon(changed).await.unwrap();
}

/// The answer to a close gets lost with its connection: the next connection closes after all.
/// Without this the session would be kept alive by a client that nobody holds.
#[tokio::test]
async fn a_close_whose_answer_was_lost_is_asked_for_again() {
    let (client, server, mut peer) = pair(10_000).await;
    drop(client);
    let request = soon(peer.real_request()).await.unwrap();
    assert!(request.is(OpCode::CloseSession));
    drop(peer);
    let mut peer = soon(server.accept_session(7, 10_000)).await;
    let request = soon(peer.real_request()).await.unwrap();
    assert!(request.is(OpCode::CloseSession));
    peer.reply(request.xid, 3, 0, None).await;
    assert!(soon(peer.request()).await.is_none(), "it says no more");
}

#[tokio::test]
async fn a_close_that_reaches_nobody_says_so_in_time() {
    let server = TestServer::start().await;
    let proxy = Proxy::start(server.addr()).await;
    for breaks in [
        Weather::black_hole(),
        Weather {
            refuses: true,
            ..Weather::default()
        },
    ] {
        proxy.set(Weather::default());
        let client = builder(&proxy.connect_string())
            .session_timeout(Duration::from_secs(30))
            .close_timeout(Duration::from_millis(300))
            .connect()
            .await
            .unwrap();
        let watching = client.clone();
        proxy.set(breaks);
        if breaks.refuses {
            proxy.cut();
            state_is(&client, SessionState::Suspended).await;
        }
        let error = soon(client.close()).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown, "{breaks:?}");
        state_is(&watching, SessionState::Closed).await;
    }
}

#[tokio::test]
async fn a_session_goes_from_one_client_to_another() {
    let server = quick_server().await;
    let first = builder(&server.connect_string()).connect().await.unwrap();
    first.create("/e", "").ephemeral().await.unwrap();
    let id = first.session_id();
    let info = first.detach().unwrap();
    assert_eq!(Some(info.id), id);
    assert!(!format!("{info:?}").contains(&format!("{:?}", info.password)));
    let second = builder(&server.connect_string())
        .resume(info)
        .connect()
        .await
        .unwrap();
    assert_eq!(second.session_id(), id);
    assert!(second.trusted_until().is_some());
    let owner = second.exists("/e").await.unwrap().unwrap().ephemeral_owner;
    assert_eq!(owner, info.id.0);
    second.close().await.unwrap();
    let third = builder(&server.connect_string())
        .resume(info)
        .connect()
        .await;
    let error = third.unwrap_err();
    assert_eq!(*error.reason(), Reason::SessionExpired(info.id));
}

#[tokio::test]
async fn a_session_that_was_taken_over_is_not_fought_for_at_full_speed() {
    let server = quick_server().await;
    let proxy = Proxy::start(server.addr()).await;
    let first = builder(&proxy.connect_string()).connect().await.unwrap();
    let info = first.session_info().unwrap();
    // The server closes the first client's connection; that one comes back, and so on.
    let second = builder(&proxy.connect_string())
        .resume(info)
        .connect()
        .await;
    let second = second.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(proxy.accepted() < 30, "{} connections", proxy.accepted());
    assert!(second.detach().is_some());
    state_is(&first, SessionState::Connected).await;
}

#[tokio::test]
async fn every_state_is_told_with_its_reason() {
    let server = quick_server().await;
    let proxy = Proxy::start(server.addr()).await;
    let client = builder(&proxy.connect_string()).start().unwrap();
    assert_eq!(client.state(), SessionState::Connecting);
    let status = state_is(&client, SessionState::Connected).await;
    assert_eq!((status.generation, &status.reason), (1, &None));
    assert_eq!(status.session, client.session_id());
    let id = client.session_id().unwrap();
    proxy.set(Weather {
        refuses: true,
        ..Weather::default()
    });
    proxy.cut();
    let status = state_is(&client, SessionState::Suspended).await;
    assert!(matches!(status.reason, Some(Reason::ConnectionLost(_))));
    assert_eq!(status.session, Some(id));
    let status = status_is(&client, |s| matches!(s.reason, Some(Reason::NoServer(_)))).await;
    assert_eq!(status.state, SessionState::Suspended);
    proxy.set(Weather::default());
    state_is(&client, SessionState::Connected).await;
    assert_eq!(client.session_id(), Some(id));
    let waiting = client.clone();
    let lost = tokio::spawn(async move { waiting.lost().await });
    server.expire_session(id).await.unwrap();
    let status = state_is(&client, SessionState::Lost).await;
    assert_eq!(status.reason, Some(Reason::SessionExpired(id)));
    assert_eq!(status.session, None);
    assert_eq!(soon(lost).await.unwrap(), Reason::SessionExpired(id));
    assert_eq!((client.trusted_until(), client.session_id()), (None, None));
    let error = soon(client.get("/a")).await.unwrap_err();
    assert!(error.is_session_lost());
    soon(client.close()).await.unwrap();
}

/// A server of ZooKeeper's kind: pings prove nothing there, so a holder of trust pays with writes.
#[tokio::test]
async fn on_zookeeper_trust_that_is_held_is_renewed_by_small_writes_and_only_then() {
    let server = FakeServer::bind().await;
    let client = builder(&server.connect_string()).connect();
    let accept = async {
        let mut peer = server.accept().await;
        peer.asked().await;
        peer.welcome_as(*b"ZooKeeper's own.", 7, 600, false).await;
        peer
    };
    let (client, mut peer) = tokio::join!(client, accept);
    let client = client.unwrap();
    let attached = client.trusted_until().unwrap();
    let mut requests = Vec::new();
    let mut lease = None;
    let mut zxid = 1;
    // Trust runs out while pings are answered; then it is held, and comes back.
    while lease.is_none() || client.trusted_until().unwrap() <= tokio::time::Instant::now() {
        if lease.is_none() && attached <= tokio::time::Instant::now() {
            assert_eq!(
                client.trusted_until(),
                Some(attached),
                "a ping proves nothing"
            );
            assert_eq!(client.state(), SessionState::Connected);
            soon(client.trust_lapsed()).await;
            lease = Some(client.hold_trust());
        }
        let request = soon(peer.request()).await.unwrap();
        if request.is(OpCode::Ping) {
            peer.reply(Xid::PING, zxid, 0, None).await;
            continue;
        }
        assert!(lease.is_some(), "{request:?}");
        assert!(request.is(OpCode::Delete), "{request:?}");
        zxid += 1;
        peer.reply(request.xid, zxid, NO_NODE, None).await;
        requests.push(request);
    }
    assert!(
        requests.len() >= 2,
        "one write proves what was answered before it"
    );
}

/// The thread is blocked for longer than a server may be silent, while the server's answers
/// arrive: they are read before the clock is believed.
#[test]
fn a_process_that_was_stopped_does_not_take_its_server_for_silent() {
    let outer = tokio::runtime::Runtime::new().unwrap();
    let server = outer.block_on(FakeServer::bind());
    let address = server.connect_string();
    let connections = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = connections.clone();
    outer.spawn(async move {
        loop {
            let peer = server.accept_session(7, 1_500).await;
            counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tokio::spawn(peer.serve());
        }
    });
    let stopped = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    stopped.block_on(async {
        let client = builder(&address).connect().await.unwrap();
        for _ in 0..3 {
            // A ping is due and leaves; its answer comes while nobody looks.
            let call = client.exists("/a").send();
            tokio::task::yield_now().await;
            std::thread::sleep(Duration::from_millis(1_150));
            // This wakes the session's task before the runtime has looked at the socket.
            let behind = client.exists("/b").send();
            assert_eq!(soon(behind).await.unwrap(), None);
            assert_eq!(soon(call).await.unwrap(), None);
            assert_eq!(client.state(), SessionState::Connected);
        }
    });
    let connections = connections.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(connections, 1, "it never left");
}

#[tokio::test]
async fn an_expired_session_is_lost_at_the_first_word_and_one_that_moved_is_taken_back() {
    let (client, _server, mut peer) = pair(30_000).await;
    let call = client.set("/a", "").send();
    let request = soon(peer.real_request()).await.unwrap();
    peer.reply(request.xid, 1, -112, None).await;
    let error = soon(call).await.unwrap_err();
    assert!(error.is_session_lost() && error.outcome() == Outcome::DidNotHappen);
    state_is(&client, SessionState::Lost).await;

    let (client, server, mut peer) = pair(30_000).await;
    let call = client.set("/a", "").send();
    let request = soon(peer.real_request()).await.unwrap();
    peer.reply(request.xid, 1, -118, None).await;
    let again = async {
        let mut peer = server.accept_session(7, 30_000).await;
        let request = peer.real_request().await.unwrap();
        let reply = Reply::Stat(Stat::default());
        peer.reply(request.xid, 2, 0, Some(&reply)).await;
        peer
    };
    let (result, _peer) = soon(async { tokio::join!(call, again) }).await;
    assert!(
        result.is_ok(),
        "it did not happen, so it was asked for again"
    );
    assert_eq!(client.state(), SessionState::Connected);
}
