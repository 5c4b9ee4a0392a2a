//! How things end: in which order that is told, and what is still done behind it.
#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests are tests"
)]

mod support;

use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use quorate_client::{AuthProvider, Client, Credential, Outcome, Reason, SessionState};
use quorate_proto::{OpCode, Reply, Stat, Xid};
use support::fake::{FakeServer, Peer};
use support::{builder, soon, state_is, status_is};

const SESSION_EXPIRED: i32 = -112;
const AUTH_FAILED: i32 = -115;

async fn pair(timeout_ms: i32) -> (Client, FakeServer, Peer) {
    let server = FakeServer::bind().await;
    let connect = builder(&server.connect_string())
        .session_timeout(Duration::from_secs(30))
        .connect();
    let (client, peer) = tokio::join!(connect, server.accept_session(7, timeout_ms));
    (client.unwrap(), server, peer)
}

/// Notes what the status says in the moment in which a caller is woken.
struct Witness {
    client: Client,
    seen: Mutex<Vec<SessionState>>,
}

impl Wake for Witness {
    fn wake(self: Arc<Self>) {
        self.seen.lock().push(self.client.state());
    }
}

/// Whoever is told that the session is gone looks at the status next.
#[tokio::test]
async fn the_status_says_it_before_any_call_does() {
    let cases = [
        (Some(SESSION_EXPIRED), SessionState::Lost),
        (Some(AUTH_FAILED), SessionState::Closed),
        (None, SessionState::Suspended),
    ];
    for (code, state) in cases {
        let (client, _server, mut peer) = pair(30_000).await;
        let witness = Arc::new(Witness {
            client: client.clone(),
            seen: Mutex::default(),
        });
        let waker = Waker::from(Arc::clone(&witness));
        let mut cx = Context::from_waker(&waker);
        let mut first = match code {
            Some(AUTH_FAILED) => pin!(client.add_auth(Credential::digest("a", "b"))),
            _ => pin!(client.sync("/").send()),
        };
        let mut second = pin!(client.set("/a", "").send());
        assert!(first.as_mut().poll(&mut cx).is_pending());
        assert!(second.as_mut().poll(&mut cx).is_pending());
        let request = soon(peer.real_request()).await.unwrap();
        soon(peer.real_request()).await.unwrap();
        match code {
            Some(code) => peer.reply(request.xid, 1, code, None).await,
            None => drop(peer),
        }
        state_is(&client, state).await;
        assert_eq!(*witness.seen.lock(), [state, state], "{code:?}");
    }
}

/// The old session lives on at its server for a while, and so does what it was asked.
#[tokio::test]
async fn behind_a_session_that_was_given_up_a_protected_create_is_searched_for_twice() {
    let server = FakeServer::bind().await;
    let connect = builder(&server.connect_string())
        .new_session_on_loss(true)
        .connect();
    let (client, mut peer) = tokio::join!(connect, server.accept_session(7, 400));
    let client = client.unwrap();
    let call = client.create("/d/n", "x").protected().send();
    let request = soon(peer.real_request()).await.unwrap();
    let name = request.path().rsplit('/').next().unwrap().to_owned();
    let asked_at = std::time::Instant::now();
    // Silence: the client lets this connection go, and finds no other in time.
    let error = soon(call).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    status_is(&client, |status| {
        matches!(status.reason, Some(Reason::SessionGivenUp(_)))
    })
    .await;
    let mut peer = loop {
        let mut peer = soon(server.accept()).await;
        if soon(peer.asked()).await.session.0 == 0 {
            peer.welcome(8, 30_000, false).await;
            break peer;
        }
    };
    for is_there in [false, true] {
        let request = soon(peer.real_request()).await.unwrap();
        assert!(request.is(OpCode::Sync), "{request:?}");
        peer.reply(request.xid, 5, 0, Some(&Reply::Sync(Some("/d".into()))))
            .await;
        let request = soon(peer.real_request()).await.unwrap();
        assert!(request.is(OpCode::GetChildren), "{request:?}");
        let names = is_there.then(|| (&*name).into()).into_iter().collect();
        peer.reply(request.xid, 5, 0, Some(&Reply::Children(names)))
            .await;
    }
    assert!(asked_at.elapsed() > Duration::from_millis(800), "too early");
    let request = soon(peer.real_request()).await.unwrap();
    assert!(request.is(OpCode::Exists), "{request:?}");
    let stat = Reply::Stat(Stat::default());
    peer.reply(request.xid, 5, 0, Some(&stat)).await;
    let request = soon(peer.real_request()).await.unwrap();
    assert!(request.is(OpCode::Delete), "{request:?}");
    assert_eq!(request.path(), format!("/d/{name}"));
    peer.reply(request.xid, 6, 0, None).await;
}

/// Is asked and says nothing.
#[derive(Debug)]
struct Silent;

#[async_trait::async_trait]
impl AuthProvider for Silent {
    async fn credentials(
        &self,
    ) -> Result<Vec<Credential>, Box<dyn std::error::Error + Send + Sync>> {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_provider_of_credentials_that_says_nothing_holds_up_no_end() {
    for detaches in [true, false] {
        let server = FakeServer::bind().await;
        let client = builder(&server.connect_string())
            .auth_provider(Silent)
            .close_timeout(Duration::from_millis(300))
            .start()
            .unwrap();
        let mut status = client.status();
        let mut peer = soon(server.accept_session(7, 30_000)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let asked_at = std::time::Instant::now();
        match detaches {
            true => assert!(client.detach().is_some()),
            false => assert!(client.close().await.is_err()),
        }
        let closed = status.wait_for(|status| status.state == SessionState::Closed);
        soon(closed).await.unwrap();
        assert_eq!(peer.request().await.map(|request| request.xid), None::<Xid>);
        assert!(asked_at.elapsed() < Duration::from_secs(5));
    }
}
