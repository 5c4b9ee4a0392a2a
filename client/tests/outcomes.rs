//! What callers are told when answers are lost.
#![expect(clippy::unwrap_used, reason = "helper functions of tests")]

mod support;

use std::time::Duration;

use quorate_client::{Client, Error, ErrorCode, NoRetry, Outcome, Reason};
use quorate_proto::OpCode;
use quorate_server::testing::TestServer;
use support::requests::{Fault, Proxy};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

struct Scene {
    proxy: Proxy,
    client: Client,
    witness: Client,
    server: TestServer,
}

/// A client behind a proxy, and one that sees what really happens. `/a` holds `0`.
async fn start() -> Scene {
    let server = TestServer::start().await;
    let witness = Client::connect(server.connect_string()).await.unwrap();
    witness.create("/a", "0").await.unwrap();
    let proxy = Proxy::start(server.addr()).await;
    let client = Client::builder(proxy.connect_string())
        .session_timeout(Duration::from_secs(4))
        .connect()
        .await
        .unwrap();
    Scene {
        proxy,
        client,
        witness,
        server,
    }
}

impl Scene {
    async fn data(&self) -> String {
        let node = self.witness.get("/a").await.unwrap();
        node.text().unwrap().to_owned()
    }
}

#[tokio::test]
async fn reads_are_repeated_until_they_are_answered() {
    for fault in [Fault::CutBefore, Fault::CutAfter] {
        let scene = start().await;
        scene.proxy.lose(OpCode::GetData, fault);
        scene.proxy.lose(OpCode::GetData, fault);
        let node = timeout(PATIENCE, scene.client.get("/a"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(node.text(), Ok("0"));
        assert_eq!(scene.proxy.seen(OpCode::GetData).len(), 3);
        scene.proxy.lose(OpCode::Exists, fault);
        assert!(scene.client.exists("/a").await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_plain_write_is_never_repeated_when_its_answer_is_lost() {
    for fault in [Fault::CutBefore, Fault::CutAfter] {
        let scene = start().await;
        scene.proxy.lose(OpCode::SetData, fault);
        let error = scene.client.set("/a", "1").await.unwrap_err();
        assert!(matches!(error, Error::Unknown { .. }), "{error}");
        assert!(matches!(error.reason(), Reason::ConnectionLost(_)));
        assert!(!error.is_retryable());
        assert_eq!(error.server(), scene.proxy.connect_string());
        assert_eq!(scene.proxy.seen(OpCode::SetData).len(), 1);
        let happened = fault == Fault::CutAfter;
        assert_eq!(scene.data().await == "1", happened);
        for (op, error) in [
            (OpCode::Delete, lost_delete(&scene, fault).await),
            (OpCode::Multi, lost_multi(&scene, fault).await),
        ] {
            assert_eq!(error.outcome(), Outcome::Unknown, "{op:?}");
        }
    }
}

async fn lost_delete(scene: &Scene, fault: Fault) -> Error {
    scene.proxy.lose(OpCode::Delete, fault);
    scene.client.delete("/missing").await.unwrap_err()
}

async fn lost_multi(scene: &Scene, fault: Fault) -> Error {
    scene.proxy.lose(OpCode::Multi, fault);
    scene.client.multi().set("/a", "m").await.unwrap_err()
}

#[tokio::test]
async fn an_idempotent_set_is_repeated_and_knows_its_own_work() {
    for fault in [Fault::CutBefore, Fault::CutAfter] {
        let scene = start().await;
        scene.proxy.lose(OpCode::SetData, fault);
        let stat = scene
            .client
            .set("/a", "1")
            .version(0)
            .idempotent()
            .await
            .unwrap();
        assert_eq!(stat.version, 1);
        assert_eq!(scene.data().await, "1");
        scene.witness.set("/a", "2").await.unwrap();
        let error = scene
            .client
            .set("/a", "3")
            .version(1)
            .idempotent()
            .await
            .unwrap_err();
        assert!(error.is_bad_version());
        assert_eq!(error.outcome(), Outcome::DidNotHappen);
    }
}

#[tokio::test]
async fn an_idempotent_set_that_was_written_over_cannot_tell() {
    let scene = start().await;
    scene.proxy.lose(OpCode::SetData, Fault::CutAfter);
    scene.proxy.open(false);
    let call = scene.client.set("/a", "1").version(0).idempotent().send();
    let mut status = scene.client.status();
    let wait = status.wait_for(|now| !now.state.is_connected());
    timeout(PATIENCE, wait).await.unwrap().unwrap();
    scene.witness.set("/a", "2").await.unwrap();
    scene.proxy.open(true);
    let error = timeout(PATIENCE, call).await.unwrap().unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
}

#[tokio::test]
async fn an_idempotent_delete_is_repeated_and_finds_nothing() {
    for fault in [Fault::CutBefore, Fault::CutAfter] {
        let scene = start().await;
        scene.proxy.lose(OpCode::Delete, fault);
        scene.client.delete("/a").idempotent().await.unwrap();
        assert_eq!(scene.witness.exists("/a").await.unwrap(), None);
        let error = scene.client.delete("/a").idempotent().await.unwrap_err();
        assert!(error.is_no_node());
    }
}

#[tokio::test]
async fn in_time_limits_what_left_is_unknown_and_what_waited_did_not_happen() {
    let scene = start().await;
    scene.proxy.lose(OpCode::SetData, Fault::Silence);
    let late = Duration::from_millis(100);
    let error = scene.client.set("/a", "1").timeout(late).await.unwrap_err();
    assert_eq!(*error.reason(), Reason::TimedOut);
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert_eq!(scene.data().await, "1");
    assert!(error.elapsed() >= late);
    // Now the connection ends, and none follows.
    scene.proxy.open(false);
    let mut status = scene.client.status();
    let wait = status.wait_for(|now| !now.state.is_connected());
    timeout(PATIENCE, wait).await.unwrap().unwrap();
    let error = scene.client.set("/a", "2").timeout(late).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::DidNotHappen, "{error}");
    assert!(error.is_retryable());
    scene.proxy.open(true);
    timeout(PATIENCE, scene.client.sync("/"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(scene.data().await, "1");
}

#[tokio::test]
async fn a_guaranteed_delete_goes_on_when_its_call_is_dropped() {
    for fault in [None, Some(Fault::CutBefore), Some(Fault::CutAfter)] {
        let scene = start().await;
        let (_, watch) = scene.witness.get("/a").watch().await.unwrap();
        if let Some(fault) = fault {
            scene.proxy.lose(OpCode::Delete, fault);
        }
        drop(scene.client.delete("/a").guaranteed().send());
        timeout(PATIENCE, watch).await.unwrap().unwrap();
        assert_eq!(scene.witness.exists("/a").await.unwrap(), None, "{fault:?}");
    }
}

#[tokio::test]
async fn a_guaranteed_delete_goes_on_when_its_call_has_failed() {
    let scene = start().await;
    let (_, watch) = scene.witness.get("/a").watch().await.unwrap();
    let client = Client::builder(scene.proxy.connect_string()).retry(NoRetry);
    let client = client.connect().await.unwrap();
    scene.proxy.lose(OpCode::Delete, Fault::CutBefore);
    let error = client.delete("/a").guaranteed().await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown);
    timeout(PATIENCE, watch).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_close_waits_for_what_is_to_be_cleaned_up() {
    let scene = start().await;
    for n in 0..100 {
        scene.witness.create(format!("/a/{n}"), "").await.unwrap();
    }
    for n in 0..100 {
        drop(scene.client.delete(format!("/a/{n}")).guaranteed().send());
    }
    scene.client.clone().close().await.unwrap();
    assert_eq!(scene.witness.children("/a").await.unwrap().0.len(), 0);
}

#[tokio::test]
async fn the_last_handle_cleans_up_before_it_closes_the_session() {
    let scene = start().await;
    let client = Client::connect(scene.server.connect_string())
        .await
        .unwrap();
    let ephemeral = client.create("/e", "").ephemeral().await.unwrap();
    let (_, gone) = scene.witness.exists(&ephemeral.path).watch().await.unwrap();
    let create = client.create("/s-", "").sequential().protected().send();
    drop(client.delete("/a").guaranteed().send());
    drop((create, client));
    timeout(PATIENCE, gone).await.unwrap().unwrap();
    let (names, _) = scene.witness.children("/").await.unwrap();
    assert_eq!(names, ["zookeeper"]);
}

#[tokio::test]
async fn what_an_overloaded_server_did_not_do_is_repeated() {
    let scene = start().await;
    for refusal in [ErrorCode::ThrottledOp, ErrorCode::NotReadOnly] {
        scene.proxy.lose(OpCode::SetData, Fault::Refuse(refusal));
        scene.client.set("/a", "1").await.unwrap();
    }
    scene
        .proxy
        .lose(OpCode::SetData, Fault::Refuse(ErrorCode::OperationTimeout));
    let error = scene.client.set("/a", "2").await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    assert_eq!(scene.data().await, "1");
}

/// Whether an earlier attempt took effect is not answered by the refusal of a look or of a later
/// attempt.
#[tokio::test]
async fn a_refusal_says_nothing_about_an_attempt_before_it() {
    let no_auth = Fault::Refuse(ErrorCode::NoAuth);
    let scene = start().await;
    scene.proxy.lose(OpCode::Create2, Fault::CutAfter);
    scene.proxy.lose(OpCode::GetData, no_auth);
    let create = scene.client.create("/b", "x").idempotent();
    let error = timeout(PATIENCE, create).await.unwrap().unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    assert!(scene.witness.exists("/b").await.unwrap().is_some());

    scene.proxy.lose(OpCode::SetData, Fault::CutAfter);
    scene.proxy.lose(OpCode::GetData, no_auth);
    let set = scene.client.set("/a", "1").version(0).idempotent();
    let error = timeout(PATIENCE, set).await.unwrap().unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    assert_eq!(scene.data().await, "1");

    scene.proxy.lose(OpCode::SetData, Fault::CutAfter);
    scene.proxy.lose(OpCode::SetData, no_auth);
    let set = scene.client.set("/a", "2").idempotent();
    let error = timeout(PATIENCE, set).await.unwrap().unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    assert_eq!(error.code(), Some(ErrorCode::NoAuth));
    assert_eq!(scene.data().await, "2");

    scene.proxy.lose(OpCode::Delete, Fault::CutAfter);
    scene.proxy.lose(OpCode::Delete, no_auth);
    let delete = scene.client.delete_recursive("/a");
    let error = timeout(PATIENCE, delete).await.unwrap().unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    assert_eq!(scene.witness.exists("/a").await.unwrap(), None);
}

#[tokio::test]
async fn an_idempotent_create_that_was_written_over_cannot_tell() {
    let scene = start().await;
    scene.proxy.lose(OpCode::Create2, Fault::CutAfter);
    scene.proxy.open(false);
    let call = scene.client.create("/b", "x").idempotent().send();
    let mut status = scene.client.status();
    let wait = status.wait_for(|now| !now.state.is_connected());
    timeout(PATIENCE, wait).await.unwrap().unwrap();
    scene.witness.set("/b", "y").await.unwrap();
    scene.proxy.open(true);
    let error = timeout(PATIENCE, call).await.unwrap().unwrap_err();
    assert!(error.is_node_exists());
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
}
