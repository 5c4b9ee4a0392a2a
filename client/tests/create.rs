//! What a create makes, and that a protected one makes it once.
#![expect(clippy::unwrap_used, reason = "helper functions of tests")]

mod support;

use std::time::Duration;

use quorate_client::{Client, ClientBuilder, Error, ErrorCode, NoRetry, Outcome, Reason};
use quorate_proto::OpCode;
use quorate_server::testing::TestServer;
use support::requests::{Fault, Proxy};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

async fn start() -> (TestServer, Client) {
    let server = TestServer::builder()
        .config(|config| config.extended_types = true)
        .start()
        .await;
    let client = Client::connect(server.connect_string()).await.unwrap();
    (server, client)
}

/// A client behind a proxy, and one that sees what really happens. `/d` exists.
struct Scene {
    proxy: Proxy,
    client: Client,
    witness: Client,
    server: TestServer,
}

impl Scene {
    async fn start() -> Scene {
        Scene::with(|builder| builder).await
    }

    async fn with(change: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Scene {
        let (server, witness) = start().await;
        let proxy = Proxy::start(server.addr()).await;
        let builder =
            Client::builder(proxy.connect_string()).session_timeout(Duration::from_secs(4));
        let client = change(builder).connect().await.unwrap();
        witness.create("/d", "").await.unwrap();
        Scene {
            proxy,
            client,
            witness,
            server,
        }
    }

    async fn names(&self) -> Vec<String> {
        self.witness.children("/d").await.unwrap().0
    }

    /// Returns when `/d` has so many children.
    async fn until_there_are(&self, count: usize) {
        let wait = async {
            loop {
                let (names, _, watch) = self.witness.children("/d").watch().await.unwrap();
                if names.len() == count {
                    return;
                }
                watch.await.unwrap();
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            panic!("{count} expected: {:?}", self.names().await);
        }
    }
}

#[tokio::test]
async fn a_znode_has_the_kind_that_was_asked_for() {
    let (_server, client) = start().await;
    let ephemeral = client.create("/e", "").ephemeral().await.unwrap();
    assert_eq!(
        Some(ephemeral.stat.ephemeral_owner),
        client.session_id().map(|id| id.0)
    );
    let numbered = client.create("/s-", "").sequential().await.unwrap();
    assert_eq!(numbered.path, "/s-0000000001");
    let both = client
        .create("/es-", "")
        .ephemeral()
        .sequential()
        .await
        .unwrap();
    assert_eq!(both.path, "/es-0000000002");
    client.create("/c", "").container().await.unwrap();
    client
        .create("/t", "")
        .ttl(Duration::from_secs(60))
        .await
        .unwrap();
    let ttl = client
        .create("/ts-", "")
        .ttl(Duration::from_secs(60))
        .sequential();
    assert_eq!(ttl.await.unwrap().path, "/ts-0000000005");
}

#[tokio::test]
async fn a_server_without_ttls_says_so() {
    let server = TestServer::builder()
        .config(|config| config.extended_types = false)
        .start()
        .await;
    let client = Client::connect(server.connect_string()).await.unwrap();
    let error = client
        .create("/t", "")
        .ttl(Duration::from_secs(1))
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::Unimplemented));
}

#[tokio::test]
async fn options_that_exclude_each_other_are_refused_before_anything_is_sent() {
    let (_server, client) = start().await;
    let hour = Duration::from_secs(3600);
    let create = || client.create("/x", "");
    for create in [
        create().container().ephemeral(),
        create().container().sequential(),
        create().container().ttl(hour),
        create().ephemeral().ttl(hour),
        create().ttl(Duration::ZERO),
        create().sequential().idempotent(),
        client.create("/", ""),
        client.create("/x/", ""),
        client.create("x", ""),
    ] {
        let shown = format!("{create:?}");
        let error = create.await.unwrap_err();
        assert!(
            matches!(error, Error::BadArgument { .. }),
            "{error}: {shown}"
        );
        assert_eq!(error.server(), "");
    }
}

#[tokio::test]
async fn a_sequential_name_may_be_nothing_but_the_number() {
    let (_server, client) = start().await;
    client.create("/app", "").await.unwrap();
    let app = client.chroot("/app").unwrap();
    assert_eq!(
        app.create("/", "").sequential().await.unwrap().path,
        "/0000000000"
    );
    assert_eq!(
        client.create("/app/", "").sequential().await.unwrap().path,
        "/app/0000000001"
    );
    let protected = app.create("/", "").sequential().protected().await.unwrap();
    assert!(protected.path.starts_with("/_c_") && protected.path.ends_with("-0000000002"));
}

#[tokio::test]
async fn parents_are_made_on_the_way() {
    let (_server, client) = start().await;
    let app = client.chroot("/app").unwrap();
    let error = app.create("/a/b/c", "").await.unwrap_err();
    assert!(error.is_no_node());
    let made = app
        .create("/a/b/c", "")
        .ephemeral()
        .parents()
        .await
        .unwrap();
    assert_eq!(made.path, "/a/b/c");
    let made = app
        .create("/x/y/z-", "")
        .sequential()
        .protected()
        .container_parents();
    let made = made.await.unwrap();
    assert!(
        client
            .exists(format!("/app{}", made.path))
            .await
            .unwrap()
            .is_some()
    );
    let error = app.create("/a/b/c/d/e", "").parents().await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NoChildrenForEphemerals));
}

#[tokio::test]
async fn parents_are_made_again_for_as_long_as_somebody_deletes_them() {
    let (_server, client) = start().await;
    let deleting = async {
        loop {
            drop(client.delete_recursive("/p").await);
        }
    };
    let creating = async {
        for _ in 0..20 {
            client.create("/p/q/r", "").parents().await.unwrap();
            drop(client.delete("/p/q/r").await);
        }
    };
    tokio::select! {
        () = deleting => {}
        done = timeout(PATIENCE, creating) => done.unwrap(),
    }
}

#[tokio::test]
async fn a_protected_create_whose_connection_is_cut_makes_exactly_one_znode() {
    for cuts in [
        &[Fault::CutBefore][..],
        &[Fault::CutAfter],
        &[Fault::CutBefore, Fault::CutAfter],
        &[Fault::CutBefore, Fault::CutBefore],
    ] {
        for kind in 0..4 {
            let scene = Scene::start().await;
            for &fault in cuts {
                scene.proxy.lose(OpCode::Create2, fault);
            }
            let mut create = scene.client.create("/d/n-", "x").protected();
            if kind & 1 != 0 {
                create = create.ephemeral();
            }
            if kind & 2 != 0 {
                create = create.sequential();
            }
            let created = timeout(PATIENCE, create).await.unwrap().unwrap();
            let names = scene.names().await;
            assert_eq!(names.len(), 1, "{cuts:?} {kind}: {names:?}");
            assert_eq!(created.path, format!("/d/{}", names[0]));
            let stat = scene.witness.exists(&created.path).await.unwrap().unwrap();
            assert_eq!(created.stat, stat);
        }
    }
}

#[tokio::test]
async fn the_search_may_be_cut_as_well() {
    let scene = Scene::start().await;
    scene.proxy.lose(OpCode::Create2, Fault::CutAfter);
    scene.proxy.lose(OpCode::Sync, Fault::CutBefore);
    scene.proxy.lose(OpCode::GetChildren, Fault::CutAfter);
    scene.proxy.lose(OpCode::Exists, Fault::CutAfter);
    let create = scene
        .client
        .create("/d/n-", "")
        .protected()
        .ephemeral()
        .sequential();
    timeout(PATIENCE, create).await.unwrap().unwrap();
    assert_eq!(scene.names().await.len(), 1);
}

#[tokio::test]
async fn an_ephemeral_of_the_same_name_and_another_session_is_not_taken_for_ours() {
    let scene = Scene::start().await;
    scene.proxy.lose(OpCode::Create2, Fault::CutBefore);
    let mut status = scene.client.status();
    let call = scene
        .client
        .create("/d/n-", "")
        .protected()
        .ephemeral()
        .sequential()
        .send();
    scene.proxy.open(false);
    let wait = status.wait_for(|now| !now.state.is_connected());
    timeout(PATIENCE, wait).await.unwrap().unwrap();
    let name = scene.proxy.seen(OpCode::Create2).remove(0);
    let foreign = scene
        .witness
        .create(&name, "")
        .ephemeral()
        .sequential()
        .await
        .unwrap();
    scene.proxy.open(true);
    let created = timeout(PATIENCE, call).await.unwrap().unwrap();
    assert_ne!(created.path, foreign.path);
    assert_eq!(
        Some(created.stat.ephemeral_owner),
        scene.client.session_id().map(|id| id.0)
    );
    assert_eq!(scene.names().await.len(), 2);
}

#[tokio::test]
async fn a_protected_create_that_fails_leaves_nothing() {
    for fault in [Fault::CutAfter, Fault::Silence] {
        let scene = Scene::with(|builder| builder.retry(NoRetry)).await;
        scene.proxy.lose(OpCode::Create2, fault);
        let create = scene.client.create("/d/n-", "").protected().sequential();
        let error = create
            .timeout(Duration::from_millis(300))
            .await
            .unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
        scene.until_there_are(0).await;
    }
}

#[tokio::test]
async fn a_sequential_create_that_is_dropped_on_its_way_leaves_nothing() {
    let scene = Scene::start().await;
    let call = scene.client.create("/d/n-", "").sequential().send();
    scene.client.sync("/d").await.unwrap();
    scene.until_there_are(1).await;
    drop(call);
    scene.until_there_are(0).await;
}

#[tokio::test]
async fn an_idempotent_create_takes_its_own_work_for_its_own() {
    let scene = Scene::start().await;
    scene.proxy.lose(OpCode::Create2, Fault::CutAfter);
    let created = scene
        .client
        .create("/d/a", "x")
        .ephemeral()
        .idempotent()
        .await
        .unwrap();
    assert_eq!(created.path, "/d/a");
    // Where nothing was in doubt, what exists is another's.
    let error = scene
        .client
        .create("/d/a", "x")
        .ephemeral()
        .idempotent()
        .await
        .unwrap_err();
    assert!(error.is_node_exists());
    // In doubt, and other data stands there.
    scene.witness.create("/d/b", "other").await.unwrap();
    scene.proxy.lose(OpCode::Create2, Fault::CutBefore);
    let error = scene
        .client
        .create("/d/b", "x")
        .idempotent()
        .await
        .unwrap_err();
    assert!(error.is_node_exists());
}

#[tokio::test]
async fn a_lost_session_ends_a_protected_create() {
    let scene = Scene::start().await;
    scene.proxy.lose(OpCode::Create2, Fault::CutAfter);
    let session = scene.client.session_id().unwrap();
    scene.proxy.open(false);
    let call = scene
        .client
        .create("/d/n-", "")
        .protected()
        .ephemeral()
        .send();
    scene.until_there_are(1).await;
    scene.server.expire_session(session).await.unwrap();
    scene.proxy.open(true);
    let error = timeout(PATIENCE, call).await.unwrap().unwrap_err();
    assert!(error.is_session_lost(), "{error}");
    assert!(
        matches!(error.reason(), Reason::SessionExpired(_)),
        "{error}"
    );
    assert_eq!(error.outcome(), Outcome::Unknown);
    scene.until_there_are(0).await;
}

#[tokio::test]
async fn what_a_lost_session_may_have_created_is_deleted_in_the_next() {
    let scene = Scene::with(|builder| builder.new_session_on_loss(true)).await;
    scene.proxy.lose(OpCode::Create2, Fault::CutAfter);
    let session = scene.client.session_id().unwrap();
    scene.proxy.open(false);
    let call = scene.client.create("/d/n-", "").protected().send();
    scene.until_there_are(1).await;
    scene.server.expire_session(session).await.unwrap();
    scene.proxy.open(true);
    let error = timeout(PATIENCE, call).await.unwrap().unwrap_err();
    assert!(error.is_session_lost(), "{error}");
    scene.until_there_are(0).await;
}

#[tokio::test]
async fn a_server_without_containers_gets_persistent_parents() {
    let scene = Scene::start().await;
    let refusal = Fault::Refuse(ErrorCode::Unimplemented);
    scene.proxy.lose(OpCode::CreateContainer, refusal);
    let create = scene.client.create("/d/a/b/c", "").container_parents();
    create.await.unwrap();
    assert_eq!(scene.proxy.seen(OpCode::CreateContainer).len(), 1);
    scene.until_there_are(1).await;
}
