//! What each operation does, and how it is refused.
#![expect(clippy::unwrap_used, reason = "helper functions of tests")]

use std::time::Duration;

use futures::future::join_all;
use quorate_client::{
    Acl, Client, CreatorAllAcl, Credential, Error, ErrorCode, Gzip, Id, Perms, ReadResult, Reason,
    ZnodePath,
};
use quorate_server::testing::{TestCluster, TestServer};

async fn client(server: &TestServer) -> Client {
    Client::connect(server.connect_string()).await.unwrap()
}

async fn start() -> (TestServer, Client) {
    let server = TestServer::start().await;
    let client = client(&server).await;
    (server, client)
}

#[tokio::test]
async fn an_acl_is_read_and_replaced_by_its_own_version() {
    let (_server, client) = start().await;
    client.create("/a", "").await.unwrap();
    let (acl, stat) = client.get_acl("/a").await.unwrap();
    assert_eq!((acl, stat.aversion), (Acl::open_unsafe(), 0));
    let read_only = Acl::read_unsafe();
    let stat = client
        .set_acl("/a", read_only.clone())
        .version(0)
        .await
        .unwrap();
    assert_eq!(stat.aversion, 1);
    let error = client
        .set_acl("/a", read_only)
        .version(0)
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::NotAllowed { .. }),
        "ADMIN is gone: {error}"
    );
    let error = client.set("/a", "x").await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NoAuth));
    let error = client.create("/b", "").acl(Vec::new()).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::InvalidAcl));
    let error = client.get_acl("/missing").await.unwrap_err();
    assert!(error.is_no_node());
}

#[tokio::test]
async fn a_path_is_text_of_any_kind_or_checked_once() {
    let (_server, client) = start().await;
    let app: ZnodePath = "/app".parse().unwrap();
    let job = app.join("job").unwrap();
    client.create(&job, "1").parents().await.unwrap();
    let text = String::from("/app/job");
    let shared: std::sync::Arc<str> = text.as_str().into();
    let calls = [
        client.get(&job).send(),
        client.get(job.clone()).send(),
        client.get("/app/job").send(),
        client.get(&text).send(),
        client.get(text.clone()).send(),
        client.get(&shared).send(),
        client.get(&*job).send(),
    ];
    for call in calls {
        assert_eq!(call.await.unwrap().text(), Ok("1"));
    }
    let below = client.chroot(&app).unwrap();
    assert!(below.exists("/job").await.unwrap().is_some());
    let results = client.multi().set(&job, "2").check(&app, 0).await.unwrap();
    assert_eq!(results.len(), 2);
    let names = client.children(job.parent().unwrap()).await.unwrap().0;
    assert_eq!(names, [job.name()]);
    client.delete_recursive(&app).await.unwrap();
    let error = client.get(&job).await.unwrap_err();
    assert!(error.is_no_node() && error.path() == job.as_str());
}

#[tokio::test]
async fn a_credential_that_is_added_counts_at_once_and_after_a_reconnect() {
    let (mut server, client) = start().await;
    client
        .add_auth(Credential::digest("bob", "secret"))
        .await
        .unwrap();
    let who = client.who_am_i().await.unwrap();
    assert!(
        who.iter().any(|i| i.scheme == "digest" && i.user == "bob"),
        "{who:?}"
    );
    let acl = vec![Acl {
        perms: Perms::ALL,
        id: Id::new("auth", ""),
    }];
    client.create("/mine", "x").acl(acl).await.unwrap();
    server.restart().await;
    assert_eq!(client.get("/mine").await.unwrap().text(), Ok("x"));
    let other = Client::connect(server.connect_string()).await.unwrap();
    let error = other.get("/mine").await.unwrap_err();
    assert!(matches!(error, Error::NotAllowed { .. }));
}

#[tokio::test]
async fn a_credential_that_is_refused_ends_the_client() {
    let (_server, client) = start().await;
    let error = client
        .add_auth(Credential::new("nonsense", "x"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotAllowed { .. }), "{error}");
    let reason = client.lost().await;
    assert!(matches!(reason, Reason::AuthFailed(_)), "{reason}");
}

#[tokio::test]
async fn the_acl_provider_counts_for_parents_too() {
    let server = TestServer::start().await;
    let client = Client::builder(server.connect_string())
        .digest("bob", "secret")
        .acl_provider(CreatorAllAcl)
        .connect()
        .await
        .unwrap();
    client.create("/a/b", "").parents().await.unwrap();
    let (acl, _) = client.get_acl("/a").await.unwrap();
    assert_eq!(acl[0].id.scheme, "digest");
}

#[tokio::test]
async fn a_sync_needs_no_znode() {
    let (_server, client) = start().await;
    client.sync("/nowhere").await.unwrap();
    let error = client.sync("nowhere").await.unwrap_err();
    assert!(matches!(error, Error::BadArgument { .. }));
}

#[tokio::test]
async fn ephemerals_are_those_of_this_session_below_this_root() {
    let (server, client) = start().await;
    let other = self::client(&server).await;
    client.create("/app", "").await.unwrap();
    client.create("/app/a", "").ephemeral().await.unwrap();
    client.create("/apple", "").ephemeral().await.unwrap();
    other.create("/app/b", "").ephemeral().await.unwrap();
    let mut all = client.ephemerals("/").await.unwrap();
    all.sort();
    assert_eq!(all, ["/app/a", "/apple"]);
    let app = client.chroot("/app").unwrap();
    assert_eq!(app.ephemerals("/").await.unwrap(), ["/a"]);
    assert_eq!(app.ephemerals("/x").await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn descendants_are_counted_without_the_znode_itself() {
    let (_server, client) = start().await;
    client.create("/a/b/c", "").parents().await.unwrap();
    client.create("/a/d", "").await.unwrap();
    assert_eq!(client.count_descendants("/a").await.unwrap(), 3);
    let error = client.count_descendants("/x").await.unwrap_err();
    assert!(error.is_no_node());
}

#[tokio::test]
async fn the_configuration_is_the_same_below_every_root() {
    let (_server, client) = start().await;
    let config = client.config().await.unwrap();
    let app = client.chroot("/app").unwrap();
    assert_eq!(app.config().await.unwrap().data, config.data);
    let error = client.reconfig().leaving("7").await.unwrap_err();
    assert!(error.code().is_some(), "{error}");
    assert_eq!(error.outcome(), quorate_client::Outcome::DidNotHappen);
}

#[tokio::test]
async fn a_bundle_of_reads_has_a_result_for_each() {
    let (_server, client) = start().await;
    client.create("/app/a", "x").parents().await.unwrap();
    let app = client.chroot("/app").unwrap();
    let results = app
        .read_multi()
        .get("/a")
        .get("/missing")
        .children("/")
        .await
        .unwrap();
    let [
        Ok(ReadResult::Node(node)),
        Err(missing),
        Ok(ReadResult::Children(names)),
    ] = &results[..]
    else {
        panic!("{results:?}");
    };
    assert_eq!(
        (node.text(), names.as_slice()),
        (Ok("x"), &["a".to_owned()][..])
    );
    assert!(missing.is_no_node());
    assert_eq!((missing.failed_op(), missing.path()), (Some(1), "/missing"));
    assert_eq!(client.read_multi().await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_subtree_is_deleted_and_its_neighbours_stay() {
    let (_server, client) = start().await;
    client.create("/a/b/c/d", "").parents().await.unwrap();
    client.create("/ab", "").await.unwrap();
    let calls = (0..600).map(|n| client.create(format!("/a/b/{n}"), "").send());
    for created in join_all(calls.collect::<Vec<_>>()).await {
        created.unwrap();
    }
    client.delete_recursive("/a").await.unwrap();
    assert_eq!(client.exists("/a").await.unwrap(), None);
    assert!(client.exists("/ab").await.unwrap().is_some());
    client.delete_recursive("/a").await.unwrap();
    for kept in ["/", "/zookeeper", "/zookeeper/config"] {
        let error = client.delete_recursive(kept).await.unwrap_err();
        assert!(matches!(error, Error::BadArgument { .. }), "{kept}");
    }
}

#[tokio::test]
async fn a_root_can_be_deleted_with_all_below_it() {
    let (_server, client) = start().await;
    let app = client.chroot("/app").unwrap();
    app.ensure_path("/x/y").await.unwrap();
    app.ensure_path("/x/y").await.unwrap();
    app.ensure_path("/").await.unwrap();
    app.delete_recursive("/").await.unwrap();
    assert_eq!(client.exists("/app").await.unwrap(), None);
    app.ensure_containers("/x").await.unwrap();
    assert!(client.exists("/app/x").await.unwrap().is_some());
}

#[tokio::test]
async fn compressed_data_is_read_as_it_was_and_other_data_is_refused() {
    let (_server, client) = start().await;
    client.create("/a", "aaaa").compressed(Gzip).await.unwrap();
    assert_eq!(client.get("/a").await.unwrap().data.len(), 24);
    assert_eq!(
        client.get("/a").decompressed(Gzip).await.unwrap().text(),
        Ok("aaaa")
    );
    client.set("/a", "bbbb").compressed(Gzip).await.unwrap();
    let (node, _watch) = client.get("/a").decompressed(Gzip).watch().await.unwrap();
    assert_eq!(node.text(), Ok("bbbb"));
    client.set("/a", "plain").await.unwrap();
    let error = client.get("/a").decompressed(Gzip).await.unwrap_err();
    assert!(matches!(error.reason(), Reason::Codec(_)), "{error}");
}

#[tokio::test]
async fn a_typed_node_holds_values() {
    let (_server, client) = start().await;
    let node = client.node::<String>("/t").compressed(Gzip);
    assert_eq!(node.find().await.unwrap(), None);
    assert_eq!(node.create(&"a".to_owned()).await.unwrap().version, 0);
    let read = node.get().await.unwrap();
    assert_eq!((read.value.as_str(), read.stat.version), ("a", 0));
    node.set(&"b".to_owned()).await.unwrap();
    let error = node.set_version(&"c".to_owned(), 0).await.unwrap_err();
    assert!(error.is_bad_version());
    client.set("/t", b"\xff".as_slice()).await.unwrap();
    let error = client.node::<String>("/t").get().await.unwrap_err();
    assert!(error.to_string().contains("index 0"), "{error}");
}

#[tokio::test]
async fn concurrent_updates_of_a_typed_node_lose_nothing() {
    let (_server, client) = start().await;
    let node = client.node::<String>("/n");
    node.create(&String::new()).await.unwrap();
    let updates = (0..16).map(|_| node.update(|text| text + "x"));
    for updated in join_all(updates).await {
        updated.unwrap();
    }
    assert_eq!(node.get().await.unwrap().value.len(), 16);
}

#[tokio::test]
async fn a_time_limit_is_kept_where_no_server_is() {
    let server = TestServer::start().await;
    let address = server.connect_string();
    drop(server);
    let client = Client::builder(address).start().unwrap();
    let error = client
        .get("/a")
        .timeout(Duration::from_millis(50))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::DidNotHappen { .. }), "{error}");
    assert!(error.is_retryable());
}

#[tokio::test(flavor = "multi_thread")]
async fn linearizable_reads_show_what_others_have_just_written() {
    let cluster = TestCluster::start(3).await;
    let leader = cluster.leader().await;
    let lagging = cluster.servers().into_iter().find(|&id| id != leader);
    let lagging = lagging.unwrap();
    let writer = Client::connect(cluster.addr(leader).to_string())
        .await
        .unwrap();
    writer.create("/a", "0").await.unwrap();
    let reader = Client::builder(cluster.addr(lagging).to_string())
        .linearizable_reads(true)
        .connect()
        .await
        .unwrap();
    cluster.slow_link(leader, lagging, Duration::from_millis(60));
    for turn in 1..=5 {
        let turn = turn.to_string();
        writer.set("/a", turn.clone()).await.unwrap();
        assert_eq!(reader.get("/a").await.unwrap().text(), Ok(turn.as_str()));
    }
}
