//! Servers that do what none should: they talk without end, or about nothing that was asked.
#![expect(clippy::unwrap_used, reason = "helper functions of tests")]

mod support;

use std::io::Write as _;
use std::time::Duration;

use quorate_client::{Client, Error, RetryForever, SessionState};
use quorate_proto::{OpCode, Reply, Stat, Xid};
use support::fake::{FakeServer, Peer};
use support::{builder, soon, state_is};
use tokio::time::{Instant, sleep};

const BAD_ARGUMENTS: i32 = -8;

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

/// That the data of a znode changed which nobody watches.
fn event() -> Vec<u8> {
    let mut event = Peer::frame_of(Xid::NOTIFICATION, -1, 0, None).to_vec();
    event.extend(3_i32.to_be_bytes());
    event.extend(3_i32.to_be_bytes());
    event.extend(2_i32.to_be_bytes());
    event.extend(b"/x");
    let len = i32::try_from(event.len() - 4).unwrap();
    event[..4].copy_from_slice(&len.to_be_bytes());
    event
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_events_does_not_keep_requests_from_leaving() {
    let (client, _server, peer) = pair(30_000).await;
    let stream = peer.stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    let mut flood = stream.try_clone().unwrap();
    let flooding = std::thread::spawn(move || {
        let events = event().repeat(4096);
        while flood.write_all(&events).is_ok() {}
    });
    sleep(Duration::from_millis(300)).await;
    let call = client.exists("/a").send();
    let listening = stream.try_clone().unwrap();
    listening
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let arrived = tokio::task::spawn_blocking(move || {
        std::io::Read::read(&mut &listening, &mut [0; 64]).is_ok_and(|read| read > 0)
    });
    let arrived = arrived.await.unwrap();
    stream.shutdown(std::net::Shutdown::Both).unwrap();
    flooding.join().unwrap();
    drop(call);
    assert!(arrived, "it waits for a pause that never comes");
}

#[tokio::test]
async fn a_server_that_sends_events_and_answers_nothing_is_left() {
    let (client, server, mut peer) = pair(900).await;
    let talking = tokio::spawn(async move {
        loop {
            peer.write(&event()).await;
            sleep(Duration::from_millis(20)).await;
        }
    });
    state_is(&client, SessionState::Suspended).await;
    drop(server);
    talking.abort();
}

/// They are refused by the server that was asked: the leader never heard of them.
#[tokio::test]
async fn writes_that_are_refused_unjudged_put_no_ping_off() {
    let (client, _server, mut peer) = pair(900).await;
    tokio::spawn(async move {
        while let Some(request) = peer.request().await {
            match request.is(OpCode::Ping) {
                true => peer.reply(Xid::PING, 1, 0, None).await,
                false => peer.reply(request.xid, 0, BAD_ARGUMENTS, None).await,
            }
        }
    });
    let until = Instant::now() + Duration::from_millis(1_500);
    while Instant::now() < until {
        let error = soon(client.set("/a", "")).await.unwrap_err();
        assert!(matches!(error, Error::BadArgument { .. }), "{error}");
        sleep(Duration::from_millis(20)).await;
    }
    let trusted_until = client.trusted_until().unwrap();
    assert!(
        trusted_until > Instant::now(),
        "all is well, and trust is gone"
    );
}

/// A sequential name can come again when its parent was made again.
#[tokio::test]
async fn what_a_dropped_create_made_is_not_deleted_once_another_stands_there() {
    let (client, _server, mut peer) = pair(30_000).await;
    let call = client.create("/q/n-", "").sequential().send();
    let request = soon(peer.real_request()).await.unwrap();
    assert!(request.is(OpCode::Create2));
    drop(call);
    let stat = |czxid| Stat {
        czxid,
        ..Stat::default()
    };
    let made = Reply::PathStat("/q/n-0000000000".into(), stat(5));
    peer.reply(request.xid, 5, 0, Some(&made)).await;
    let request = soon(peer.real_request()).await.unwrap();
    assert!(request.is(OpCode::Exists), "{request:?}");
    let other = Reply::Stat(stat(9));
    peer.reply(request.xid, 9, 0, Some(&other)).await;
    let closing = tokio::spawn(client.close());
    let request = soon(peer.real_request()).await.unwrap();
    assert!(request.is(OpCode::CloseSession), "{request:?}");
    peer.reply(request.xid, 9, 0, None).await;
    soon(closing).await.unwrap().unwrap();
}

#[tokio::test]
async fn times_without_end_are_no_reason_to_panic() {
    let (client, _server, mut peer) = pair(30_000).await;
    let call = client.exists("/a").timeout(Duration::MAX).send();
    let request = soon(peer.real_request()).await.unwrap();
    peer.reply(request.xid, 1, -101, None).await;
    assert_eq!(soon(call).await.unwrap(), None);

    let server = FakeServer::bind().await;
    let client = builder(&server.connect_string())
        .operation_timeout(Duration::from_secs(1))
        .close_timeout(Duration::MAX)
        .retry(RetryForever::new(Duration::MAX));
    let (client, mut peer) = tokio::join!(client.connect(), server.accept_session(8, 30_000));
    let client = client.unwrap();
    let call = client.exists("/a").send();
    let request = soon(peer.real_request()).await.unwrap();
    assert!(request.is(OpCode::Exists));
    drop(peer);
    assert!(soon(call).await.is_err());
    let mut peer = soon(server.accept_session(8, 30_000)).await;
    let closing = tokio::spawn(client.close());
    let request = soon(peer.real_request()).await.unwrap();
    assert!(request.is(OpCode::CloseSession));
    peer.reply(request.xid, 2, 0, None).await;
    soon(closing).await.unwrap().unwrap();
}
