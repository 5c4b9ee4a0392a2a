//! Servers that do what none should: they talk without end, or about nothing that was asked.
#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests are tests"
)]

mod support;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quorate_client::{Client, Error, Outcome, Reason, RetryForever, SessionState};
use quorate_proto::request::SaslToken;
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
    let (client, _server, mut peer) = pair(1_800).await;
    tokio::spawn(async move {
        while let Some(request) = peer.request().await {
            match request.is(OpCode::Ping) {
                true => peer.reply(Xid::PING, 1, 0, None).await,
                false => peer.reply(request.xid, 0, BAD_ARGUMENTS, None).await,
            }
        }
    });
    let until = Instant::now() + Duration::from_millis(2_400);
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

/// What a later server may say, or one that fails behind the work.
#[tokio::test]
async fn a_code_that_says_nothing_of_the_outcome_leaves_it_unknown() {
    const SYSTEM_ERROR: i32 = -1;
    const NO_SUCH_CODE: i32 = -9_999;
    for code in [SYSTEM_ERROR, NO_SUCH_CODE] {
        let (client, _server, mut peer) = pair(30_000).await;
        let (set, get) = (client.set("/a", "").send(), client.get("/a").send());
        for _ in 0..2 {
            let request = soon(peer.real_request()).await.unwrap();
            peer.reply(request.xid, 1, code, None).await;
        }
        let error = soon(set).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
        assert!(soon(get).await.is_err(), "asked again and again");
    }
}

/// A server without a quorum cannot end a session.
#[tokio::test]
async fn a_close_that_is_refused_is_no_close() {
    const NOT_READ_ONLY: i32 = -119;
    let (client, server, mut peer) = pair(30_000).await;
    let closing = tokio::spawn(client.close());
    let request = soon(peer.real_request()).await.unwrap();
    assert!(request.is(OpCode::CloseSession));
    peer.reply(request.xid, 1, NOT_READ_ONLY, None).await;
    let mut again = soon(server.accept_session(7, 30_000)).await;
    let request = soon(again.real_request()).await.unwrap();
    assert!(request.is(OpCode::CloseSession), "asked again");
    drop((server, again));
    let error = soon(closing).await.unwrap().unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
}

/// One that is no server of ours must not be able to end the client.
#[tokio::test]
async fn a_server_that_speaks_sasl_badly_is_passed_over() {
    let server = FakeServer::bind().await;
    let client = builder(&server.connect_string()).sasl_digest_md5("u", "p");
    let client = client.start().unwrap();
    for _ in 0..2 {
        let mut peer = soon(server.accept_session(7, 30_000)).await;
        let request = soon(peer.request()).await.unwrap();
        assert!(request.is(OpCode::Sasl));
        let nonsense = Reply::Sasl(SaslToken(Some(b"nonsense")));
        peer.reply(request.xid, 1, 0, Some(&nonsense)).await;
    }
    assert_eq!(client.state(), SessionState::Connecting);
}

/// It is the caller's: deleted behind its back, it would be neither there nor known to be gone.
#[tokio::test]
async fn a_protected_create_whose_good_answer_cannot_be_read_is_found_and_not_deleted() {
    for is_found in [true, false] {
        let (client, _server, mut peer) = pair(30_000).await;
        let call = client.create("/d/n", "x").protected().send();
        let request = soon(peer.real_request()).await.unwrap();
        let name = request.path().rsplit('/').next().unwrap().to_owned();
        let calling = tokio::spawn(call);
        let misshapen = Reply::Children(vec!["no".into(), "stat".into()]);
        peer.reply(request.xid, 5, 0, Some(&misshapen)).await;
        for (op, reply) in [
            (OpCode::Sync, Reply::Sync(Some("/d".into()))),
            (OpCode::GetChildren, Reply::Children(vec![(&*name).into()])),
        ] {
            let request = soon(peer.real_request()).await.unwrap();
            assert!(request.is(op), "{request:?}");
            match is_found {
                true => peer.reply(request.xid, 5, 0, Some(&reply)).await,
                false => peer.reply(request.xid, 5, BAD_ARGUMENTS, None).await,
            }
        }
        if is_found {
            let request = soon(peer.real_request()).await.unwrap();
            assert!(request.is(OpCode::Exists), "{request:?}");
            let stat = Reply::Stat(Stat::default());
            peer.reply(request.xid, 5, 0, Some(&stat)).await;
        }
        match soon(calling).await.unwrap() {
            Ok(created) => assert_eq!(created.path, format!("/d/{name}")),
            Err(error) => {
                assert!(!is_found, "{error}");
                assert_eq!(error.outcome(), Outcome::Happened, "{error}");
            }
        }
        let closing = tokio::spawn(client.close());
        let request = soon(peer.real_request()).await.unwrap();
        assert!(request.is(OpCode::CloseSession), "{request:?}");
        peer.reply(request.xid, 9, 0, None).await;
        soon(closing).await.unwrap().unwrap();
    }
}

/// What waits there for ever holds up all that comes behind it.
#[tokio::test]
async fn a_server_that_answers_pings_alone_is_left_when_nobody_waits_for_it_any_more() {
    let (client, server, mut peer) = pair(600).await;
    let call = client.set("/a", "1").timeout(Duration::from_millis(100));
    let read = client.exists("/a").send();
    let call = call.send();
    let serving = tokio::spawn(async move {
        while let Some(request) = peer.request().await {
            if request.is(OpCode::Ping) {
                peer.reply(Xid::PING, 1, 0, None).await;
            }
        }
    });
    let error = soon(call).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    assert!(matches!(error.reason(), Reason::TimedOut), "{error}");
    // The read is still waited for, and stands in front.
    sleep(Duration::from_millis(1_500)).await;
    assert_eq!(client.state(), SessionState::Connected);
    drop(read);
    state_is(&client, SessionState::Suspended).await;
    let peer = soon(server.accept_session(7, 600)).await;
    tokio::spawn(peer.serve());
    soon(serving).await.unwrap();
    assert_eq!(soon(client.exists("/a")).await.unwrap(), None);
}

#[tokio::test]
async fn a_session_timeout_that_no_server_means_is_refused_by_name() {
    for absurd in [i32::MIN, -1, 0, 1, i32::MAX] {
        let server = FakeServer::bind().await;
        let connect = builder(&server.connect_string())
            .connect_timeout(Duration::from_millis(400))
            .connect();
        let (error, _peer) = tokio::join!(connect, server.accept_session(7, absurd));
        let text = error.unwrap_err().to_string();
        assert!(text.contains(&server.connect_string()), "{absurd}: {text}");
        let is_named = absurd == 0 || text.contains(&format!("{absurd} ms"));
        assert!(is_named, "{absurd}: {text}");
    }
    // Nor does it end a session that lives.
    let (client, server, peer) = pair(30_000).await;
    drop(peer);
    drop(soon(server.accept_session(7, -1)).await);
    let _peer = soon(server.accept_session(7, 30_000)).await;
    state_is(&client, SessionState::Connected).await;
    assert_eq!(client.session_id().map(|id| id.0), Some(7));
    // What was asked for is believed, however long it is.
    let server = FakeServer::bind().await;
    let connect = builder(&server.connect_string()).session_timeout(Duration::MAX);
    let (client, _peer) = tokio::join!(connect.connect(), server.accept_session(7, i32::MAX));
    assert!(client.is_ok());
}

/// Shown to the next server, it would make every honest one refuse us.
#[tokio::test]
async fn a_transaction_number_from_another_age_is_not_taken_over() {
    let (client, server, mut peer) = pair(30_000).await;
    let (first, second) = (client.exists("/a").send(), client.exists("/a").send());
    let request = soon(peer.real_request()).await.unwrap();
    peer.reply(request.xid, 0x2_0000_0007, -101, None).await;
    assert_eq!(soon(first).await.unwrap(), None);
    let request = soon(peer.real_request()).await.unwrap();
    peer.reply(request.xid, i64::MAX, -101, None).await;
    let mut again = soon(server.accept()).await;
    assert_eq!(soon(again.asked()).await.last_zxid.0, 0x2_0000_0007);
    again.welcome(7, 30_000, false).await;
    tokio::spawn(again.serve());
    assert_eq!(soon(second).await.unwrap(), None);
}

/// Counts warnings.
struct Warnings(Arc<AtomicUsize>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn a_flood_of_events_of_unknown_kinds_is_one_warning() {
    let count = Arc::new(AtomicUsize::new(0));
    let _guard = tracing::subscriber::set_default(Warnings(Arc::clone(&count)));
    let (client, _server, mut peer) = pair(30_000).await;
    let mut unknown = event();
    let kind = unknown.len() - 4 - 2 - 4 - 4;
    unknown[kind..kind + 4].copy_from_slice(&77_i32.to_be_bytes());
    let call = client.exists("/a").send();
    let request = soon(peer.real_request()).await.unwrap();
    peer.write(&unknown.repeat(1_000)).await;
    peer.reply(request.xid, 1, -101, None).await;
    assert_eq!(soon(call).await.unwrap(), None);
    assert_eq!(count.load(Ordering::Relaxed), 1);
}
