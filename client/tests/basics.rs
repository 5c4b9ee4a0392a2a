//! The first things that anybody does with a client.
#![expect(clippy::unwrap_used, reason = "helper functions of tests")]

use quorate_client::{Client, SessionState};
use quorate_server::testing::TestServer;

async fn client(server: &TestServer) -> Client {
    Client::connect(server.connect_string()).await.unwrap()
}

#[tokio::test]
async fn what_is_created_can_be_read_changed_and_deleted() {
    let server = TestServer::start().await;
    let client = client(&server).await;
    assert_eq!(client.state(), SessionState::Connected);
    let created = client.create("/a", "one").await.unwrap();
    assert_eq!(created.path, "/a");
    assert_eq!(client.get("/a").await.unwrap().text(), Ok("one"));
    let stat = client.set("/a", "two").version(0).await.unwrap();
    assert_eq!(stat.version, 1);
    assert!(
        client
            .set("/a", "x")
            .version(0)
            .await
            .unwrap_err()
            .is_bad_version()
    );
    client.delete("/a").await.unwrap();
    assert_eq!(client.exists("/a").await.unwrap(), None);
    assert!(client.trusted_until().is_some());
    client.close().await.unwrap();
}

#[tokio::test]
async fn requests_leave_in_the_order_of_the_calls() {
    let server = TestServer::start().await;
    let client = client(&server).await;
    client.create("/a", "").await.unwrap();
    let calls: Vec<_> = (0..100)
        .map(|n| client.set("/a", n.to_string()).send())
        .collect();
    for (n, call) in calls.into_iter().enumerate().rev() {
        assert_eq!(call.await.unwrap().version, i32::try_from(n).unwrap() + 1);
    }
}

#[tokio::test]
async fn a_watch_resolves_with_the_next_change() {
    let server = TestServer::start().await;
    let client = client(&server).await;
    client.create("/a", "").await.unwrap();
    let (_, watch) = client.get("/a").watch().await.unwrap();
    let (names, _, children) = client.children("/").watch().await.unwrap();
    assert!(names.contains(&"a".to_owned()));
    let stat = client.set("/a", "1").await.unwrap();
    let event = watch.await.unwrap();
    assert_eq!(event.path, "/a");
    assert_eq!(event.zxid.map(|zxid| zxid.0), Some(stat.mzxid));
    client.create("/b", "").await.unwrap();
    assert_eq!(children.await.unwrap().path, "/");
}
