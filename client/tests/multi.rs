//! Transactions: all or nothing, with typed results.
#![expect(clippy::unwrap_used, reason = "helper functions of tests")]

use std::time::Duration;

use quorate_client::{Acl, Client, CreateOp, Error, ErrorCode, OpResult, Outcome};
use quorate_server::testing::TestServer;

async fn start() -> (TestServer, Client) {
    let server = TestServer::start().await;
    let client = Client::connect(server.connect_string()).await.unwrap();
    (server, client)
}

#[tokio::test]
async fn every_operation_has_its_result() {
    let (_server, client) = start().await;
    client.create("/app/old", "").parents().await.unwrap();
    let app = client.chroot("/app").unwrap();
    let results = app
        .multi()
        .create("/new", "1")
        .set("/new", "2")
        .check("/new", 1)
        .delete("/old")
        .await
        .unwrap();
    let [
        OpResult::Created(created),
        OpResult::Set(stat),
        OpResult::Checked,
        OpResult::Deleted,
    ] = &results[..]
    else {
        panic!("{results:?}");
    };
    assert_eq!((created.path.as_str(), stat.version), ("/new", 1));
    assert_eq!(client.get("/app/new").await.unwrap().text(), Ok("2"));
}

#[tokio::test]
async fn the_operation_that_was_refused_is_named_and_nothing_happened() {
    let (_server, client) = start().await;
    let error = client
        .multi()
        .create("/a", "")
        .check("/", -1)
        .delete_version("/missing", 3)
        .create("/b", "")
        .await
        .unwrap_err();
    assert_eq!(error.failed_op(), Some(2));
    assert_eq!(
        (error.code(), error.path()),
        (Some(ErrorCode::NoNode), "/missing")
    );
    assert_eq!(error.outcome(), Outcome::DidNotHappen);
    assert!(error.to_string().contains("operation 2"), "{error}");
    assert_eq!(client.exists("/a").await.unwrap(), None);
    client.create("/a", "").await.unwrap();
    let error = client.multi().set_version("/a", "x", 7).await.unwrap_err();
    assert!(error.is_bad_version());
}

#[tokio::test]
async fn znodes_of_every_kind_can_be_created_together() {
    let server = TestServer::builder()
        .config(|config| config.extended_types = true)
        .start()
        .await;
    let client = Client::connect(server.connect_string()).await.unwrap();
    let results = client
        .multi()
        .create_with(CreateOp::new("/e", "").ephemeral())
        .create_with(CreateOp::new("/s-", "").sequential())
        .create_with(CreateOp::new("/c", "").container())
        .create_with(CreateOp::new("/t", "").ttl(Duration::from_secs(60)))
        .create_with(CreateOp::new("/r", "").acl(Acl::read_unsafe()))
        .await
        .unwrap();
    let paths: Vec<&str> = results
        .iter()
        .map(|result| match result {
            OpResult::Created(created) => created.path.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(paths[0], "/e");
    assert!(paths[1].starts_with("/s-00"), "{paths:?}");
    assert_eq!(paths[2..], ["/c", "/t", "/r"]);
    let owner = client.exists("/e").await.unwrap().unwrap().ephemeral_owner;
    assert_eq!(Some(owner), client.session_id().map(|id| id.0));
    assert_eq!(client.get_acl("/r").await.unwrap().0, Acl::read_unsafe());
}

#[tokio::test]
async fn bad_arguments_are_refused_here_with_their_place() {
    let (_server, client) = start().await;
    let error = client
        .multi()
        .create("/a", "")
        .create_with(CreateOp::new("/b", "").container().ephemeral())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::BadArgument { .. }));
    assert_eq!((error.failed_op(), error.path()), (Some(1), "/b"));
    let error = client.multi().delete("x").await.unwrap_err();
    assert_eq!(error.failed_op(), Some(0));
}

#[tokio::test]
async fn an_empty_transaction_does_nothing() {
    let (_server, client) = start().await;
    assert!(client.multi().is_empty());
    assert_eq!(client.multi().await.unwrap(), []);
}
