//! From one server to the next, and from one session to the next.

#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "helpers of tests are tests"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use quorate_client::{Client, Declaration, EnsembleProvider, Outcome, Reason, SessionState};
use quorate_proto::OpCode;
use quorate_server::testing::TestServer;
use support::fake::{FakeServer, Peer};
use support::proxy::{Proxy, Weather};
use support::{builder, quick_server, soon, state_is, status_is};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

#[tokio::test]
async fn sessions_outlive_connections_and_restarts_of_the_server() {
    let mut server = TestServer::start().await;
    let proxy = Proxy::start(server.addr()).await;
    let client = builder(&proxy.connect_string())
        .session_timeout(Duration::from_secs(10))
        .connect()
        .await
        .unwrap();
    let id = client.session_id();
    client.create("/e", "0").ephemeral().await.unwrap();
    for n in 1..=5 {
        proxy.cut();
        let (node, watch) = soon(client.get("/e").watch()).await.unwrap();
        assert_eq!(node.text().unwrap(), (n - 1).to_string());
        soon(client.set("/e", n.to_string())).await.unwrap();
        soon(watch).await.unwrap();
    }
    server.restart().await;
    let stat = soon(client.exists("/e")).await.unwrap().unwrap();
    assert_eq!((client.session_id(), stat.version), (id, 5));
    soon(client.close()).await.unwrap();
}

#[tokio::test]
async fn no_write_is_made_twice_and_none_is_forgotten_on_bad_connections() {
    let server = TestServer::start().await;
    let proxy = Proxy::start(server.addr()).await;
    let client = builder(&proxy.connect_string()).connect().await.unwrap();
    client.create("/n", "").await.unwrap();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let (mut done, mut unknown, mut cuts) = (0, 0, 0);
    // A cut may fall between two connections, and each of them on a write where all is slow: it goes
    // on until one fell on a write, and one did not.
    while cuts < 20 || unknown == 0 || done == 0 {
        assert!(cuts < 1000, "{done} done, {unknown} unknown");
        let mut write = client.set("/n", "x").send();
        let result = loop {
            tokio::select! {
                result = &mut write => break result,
                _ = ticks.tick() => {
                    proxy.cut();
                    cuts += 1;
                }
            }
        };
        match result {
            Ok(_) => done += 1,
            Err(error) if error.outcome() == Outcome::Unknown => unknown += 1,
            Err(error) => panic!("{error}"),
        }
    }
    let version = soon(client.exists("/n")).await.unwrap().unwrap().version;
    assert!(
        (done..=done + unknown).contains(&version),
        "{done} {unknown} {version}"
    );
    assert!(done > 0, "{done} done, {unknown} unknown");
    assert_eq!(client.waiting(), 0);
}

#[tokio::test]
async fn a_server_that_drops_every_connection_is_not_dialled_at_full_speed() {
    let server = FakeServer::bind().await;
    let address = server.connect_string();
    let dials = Arc::new(AtomicUsize::new(0));
    let counting = tokio::spawn({
        let dials = Arc::clone(&dials);
        async move {
            loop {
                drop(server.accept_session(7, 10_000).await);
                dials.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let client = builder(&address).start().unwrap();
    sleep(Duration::from_secs(1)).await;
    let dials = dials.load(Ordering::Relaxed);
    assert!((2..30).contains(&dials), "{dials} dials in a second");
    drop(client);
    counting.abort();
}

#[tokio::test]
async fn servers_can_be_exchanged_while_connected() {
    let server = TestServer::start().await;
    let (old, new) = (
        Proxy::start(server.addr()).await,
        Proxy::start(server.addr()).await,
    );
    let client = builder(&format!("{}/app", old.connect_string()))
        .connect()
        .await
        .unwrap();
    assert_eq!(client.root(), "/app");
    let id = client.session_id();
    assert!(client.set_servers("h1:2181/other").is_err());
    assert!(client.set_servers(",").is_err());
    client.set_servers(&new.connect_string()).unwrap();
    let status = status_is(&client, |status| {
        status.state == SessionState::Connected && *status.server == *new.connect_string()
    })
    .await;
    assert_eq!(status.session, id);
}

#[derive(Debug)]
struct Provider {
    answers: Vec<String>,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl EnsembleProvider for Provider {
    async fn connect_string(&self) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        let n = self.asked.fetch_add(1, Ordering::Relaxed);
        match self.answers.get(n.min(self.answers.len() - 1)) {
            Some(answer) if !answer.is_empty() => Ok(answer.clone()),
            _ => Err("it does not know".into()),
        }
    }
}

#[tokio::test]
async fn a_provider_is_asked_at_the_start_and_after_every_round_of_failures() {
    let server = TestServer::start().await;
    let good = server.connect_string();
    let bad = "127.0.0.1:1".to_owned();
    for (answers, asked_times) in [
        (vec![good.clone()], 1),
        (vec![bad.clone(), String::new(), good.clone()], 3),
    ] {
        let asked = Arc::new(AtomicUsize::new(0));
        let provider = Provider {
            answers,
            asked: Arc::clone(&asked),
        };
        let client = builder("127.0.0.1:1/app")
            .ensemble_provider(provider)
            .connect();
        let client = soon(client).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), asked_times);
        assert_eq!(client.root(), "/app");
    }
}

#[tokio::test]
async fn the_ensembles_own_list_is_followed_where_that_is_wished() {
    let server = FakeServer::bind().await;
    let new = FakeServer::bind().await;
    let client = builder(&server.connect_string())
        .track_ensemble(true)
        .connect();
    let (client, mut peer) = tokio::join!(client, server.accept_session(7, 10_000));
    let client = client.unwrap();
    let request = soon(peer.real_request()).await.unwrap();
    assert!(request.is(OpCode::GetData));
    let port = new.connect_string().split_once(':').unwrap().1.to_owned();
    let config = format!("server.1=127.0.0.1:2888:3888:participant;0.0.0.0:{port}\nversion=1");
    let stat = quorate_client::Stat::default();
    let reply = quorate_proto::Reply::DataStat(Some(config.as_bytes()), stat);
    peer.reply(request.xid, 2, 0, Some(&reply)).await;
    let mut moved = soon(new.accept()).await;
    assert_eq!(soon(moved.asked()).await.session.0, 7);
    drop(client);
}

/// A read-only server that answers the handshake, and `isro` with whatever holds.
async fn read_only_server(server: FakeServer) {
    loop {
        let mut peer = server.accept().await;
        tokio::spawn(async move {
            let mut word = [0; 4];
            peer.stream.peek(&mut word).await.unwrap();
            if &word == b"isro" {
                peer.write(b"ro").await;
                return;
            }
            let asked = peer.asked().await;
            peer.welcome(asked.session.0.max(3), 10_000, true).await;
            peer.serve().await;
        });
    }
}

/// A server that comes up later: closes what it gets until then.
async fn late_server(server: FakeServer, up_at: Instant) {
    loop {
        let mut peer: Peer = server.accept().await;
        if Instant::now() < up_at {
            continue;
        }
        tokio::spawn(async move {
            let mut word = [0; 4];
            peer.stream.peek(&mut word).await.unwrap();
            if &word == b"isro" {
                peer.stream.read_exact(&mut word).await.unwrap();
                peer.stream.write_all(b"rw").await.unwrap();
                return;
            }
            peer.asked().await;
            peer.welcome(21, 10_000, false).await;
            peer.serve().await;
        });
    }
}

#[tokio::test]
async fn a_read_only_server_serves_until_one_that_takes_writes_is_found() {
    let (read_only, late) = (FakeServer::bind().await, FakeServer::bind().await);
    let servers = format!("{},{}", read_only.connect_string(), late.connect_string());
    let first = read_only.connect_string();
    tokio::spawn(read_only_server(read_only));
    let up_at = Instant::now() + Duration::from_millis(500);
    tokio::spawn(late_server(late, up_at));
    let refused = builder(&first).read_only(true).connect().await.unwrap();
    assert_eq!(refused.state(), SessionState::ReadOnly);
    assert_eq!(refused.trusted_until(), None, "it proves nothing");
    assert_eq!(refused.exists("/a").await.unwrap(), None);
    let client = builder(&servers).read_only(true).connect().await.unwrap();
    let status = state_is(&client, SessionState::Connected).await;
    assert_eq!(status.session.map(|id| id.0), Some(21));
    assert!(client.trusted_until().is_some());
    assert_eq!(status.generation, 1, "there was no session before");
}

#[tokio::test]
async fn a_session_is_given_up_under_the_eyes_of_a_read_only_server() {
    let server = quick_server().await;
    let proxy = Proxy::start(server.addr()).await;
    let read_only = FakeServer::bind().await;
    let client = builder(&proxy.connect_string())
        .session_timeout(Duration::from_millis(800))
        .read_only(true)
        .connect()
        .await
        .unwrap();
    let id = client.session_id().unwrap();
    client.set_servers(&read_only.connect_string()).unwrap();
    tokio::spawn(read_only_server(read_only));
    state_is(&client, SessionState::ReadOnly).await;
    let status = state_is(&client, SessionState::Lost).await;
    assert_eq!(status.reason, Some(Reason::SessionGivenUp(id)));
}

#[tokio::test]
async fn after_a_loss_another_session_opens_and_nothing_leaks_into_it() {
    let server = quick_server().await;
    let proxy = Proxy::start(server.addr()).await;
    let client = builder(&proxy.connect_string())
        .session_timeout(Duration::from_millis(800))
        .new_session_on_loss(true)
        .connect()
        .await
        .unwrap();
    client.create("/a", "").await.unwrap();
    client.create("/e", "").ephemeral().await.unwrap();
    let pinned = client.pinned();
    let first = client.session_id().unwrap();
    let (_, watch) = client.get("/a").watch().await.unwrap();
    let (losing, lapsing) = (client.clone(), client.clone());
    let lost = tokio::spawn(async move { losing.lost().await });
    let lapsed = tokio::spawn(async move { lapsing.trust_lapsed().await });

    proxy.set(Weather {
        refuses: true,
        ..Weather::default()
    });
    proxy.cut();
    state_is(&client, SessionState::Suspended).await;
    // Queued in the session that is about to end: it goes with it.
    let queued = client.set("/a", "late").send();
    let status = state_is(&client, SessionState::Lost).await;
    assert_eq!(status.reason, Some(Reason::SessionGivenUp(first)));
    // Made between two sessions: it goes to the next.
    let next = client.set("/a", "next").send();
    let error = soon(queued).await.unwrap_err();
    assert!(error.is_session_lost() && error.outcome() == Outcome::DidNotHappen);
    assert!(soon(watch).await.unwrap_err().is_session_lost());
    assert_eq!(soon(lost).await.unwrap(), Reason::SessionGivenUp(first));
    soon(lapsed).await.unwrap();
    assert_eq!(client.trusted_until(), None);

    proxy.set(Weather::default());
    assert_eq!(soon(next).await.unwrap().version, 1);
    let status = state_is(&client, SessionState::Connected).await;
    assert_eq!(status.generation, 2);
    assert_ne!(status.session, Some(first));
    let error = soon(pinned.get("/a")).await.unwrap_err();
    assert!(error.is_session_lost(), "{error}");
    assert_eq!(*error.reason(), Reason::SessionGivenUp(first));
    assert_eq!(soon(pinned.lost()).await, Reason::SessionGivenUp(first));
    assert_eq!(
        pinned.trusted_until(),
        None,
        "the next session's trust is not its own"
    );
    assert!(client.trusted_until().is_some());
    assert!(client.pinned().get("/a").await.is_ok());
    assert_eq!(client.waiting(), 0);
}

#[tokio::test]
async fn what_was_declared_is_kept_in_existence() {
    let server = quick_server().await;
    let reader = Client::connect(server.connect_string()).await.unwrap();
    let client = builder(&server.connect_string())
        .new_session_on_loss(true)
        .connect()
        .await
        .unwrap();
    let declared = client.declare("/here", "one").start().unwrap();
    let first = soon(declared.established()).await.unwrap();
    assert_eq!(reader.get("/here").await.unwrap().text(), Ok("one"));

    declared.update("two");
    while reader.get("/here").await.unwrap().text() != Ok("two") {
        tokio::task::yield_now().await;
    }
    // Somebody deletes it: it comes back.
    reader.delete("/here").await.unwrap();
    let standing_again = |not: quorate_client::Zxid| {
        let mut status = declared.status();
        async move {
            let is = |state: &Declaration| matches!(state, Declaration::Standing { czxid, .. } if *czxid != not);
            match &*soon(status.wait_for(is)).await.unwrap() {
                Declaration::Standing { czxid, generation } => (*czxid, *generation),
                _ => unreachable!("waited for"),
            }
        }
    };
    let (second, generation) = standing_again(first).await;
    assert_eq!(generation, 1);
    assert_eq!(reader.get("/here").await.unwrap().text(), Ok("two"));

    // The session goes, and the znode with it: the next session has it again.
    server
        .expire_session(client.session_id().unwrap())
        .await
        .unwrap();
    let (_, generation) = standing_again(second).await;
    assert_eq!(generation, 2);
    let node = reader.get("/here").await.unwrap();
    assert_eq!(node.text(), Ok("two"));
    assert_eq!(
        Some(node.stat.ephemeral_owner),
        client.session_id().map(|id| id.0)
    );

    soon(declared.withdraw()).await;
    assert_eq!(reader.exists("/here").await.unwrap(), None);

    let persistent = client.declare("/stays", "x").persistent().start().unwrap();
    soon(persistent.established()).await.unwrap();
    let (_, gone) = reader.exists("/stays").watch().await.unwrap();
    drop(persistent);
    soon(gone).await.unwrap();
    assert!(client.declare("no-slash", "").start().is_err());
}

#[tokio::test]
async fn a_declared_znode_waits_for_that_of_another_session_to_go() {
    let server = quick_server().await;
    let other = Client::connect(server.connect_string()).await.unwrap();
    other.create("/here", "theirs").ephemeral().await.unwrap();
    let client = builder(&server.connect_string()).connect().await.unwrap();
    let declared = client.declare("/here", "ours").start().unwrap();
    client.exists("/nothing").await.unwrap();
    assert_eq!(client.get("/here").await.unwrap().text(), Ok("theirs"));
    other.close().await.unwrap();
    soon(declared.established()).await.unwrap();
    assert_eq!(client.get("/here").await.unwrap().text(), Ok("ours"));
    let state = declared.status();
    soon(client.close()).await.unwrap();
    let mut state = state;
    soon(state.wait_for(|state| *state == Declaration::Over))
        .await
        .unwrap();
}
