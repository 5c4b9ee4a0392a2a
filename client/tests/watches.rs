//! Lasting watches and followers: what they tell, how they end, and that nothing stays behind.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world should fail"
)]

use std::time::Duration;

use futures::StreamExt;
use quorate_client::{Client, ErrorCode, EventType, Notice, Reason, WatchStream, WatchedEvent};
use quorate_server::testing::TestServer;
use tokio::time::timeout;

async fn client(server: &TestServer) -> Client {
    Client::connect(server.connect_string()).await.unwrap()
}

/// The next item, which must come.
async fn next<S: futures::Stream + Unpin>(stream: &mut S) -> S::Item {
    let next = timeout(Duration::from_secs(20), stream.next());
    next.await.expect("an item in time").expect("an item")
}

async fn event(stream: &mut WatchStream) -> (EventType, String) {
    match next(stream).await {
        Notice::Event(WatchedEvent { kind, path, .. }) => (kind, path),
        other => panic!("no event but {other:?}"),
    }
}

/// Waits until the client holds so many watches.
async fn watches(client: &Client, count: usize) {
    for _ in 0..2000 {
        if client.watches() == count {
            return;
        }
        // Each answer is a turn of the session task.
        client.exists("/").await.unwrap();
    }
    panic!("{} watches, not {count}", client.watches());
}

#[tokio::test]
async fn a_persistent_watch_tells_of_the_znode_and_of_its_children_coming_and_going() {
    let server = TestServer::start().await;
    let client = client(&server).await;
    let mut stream = client.watch("/a").await.unwrap();
    let created = client.create("/a", "").await.unwrap();
    let Notice::Event(first) = next(&mut stream).await else {
        panic!("no event");
    };
    assert_eq!(first.kind, EventType::NodeCreated);
    assert_eq!(first.zxid.map(|zxid| zxid.0), Some(created.stat.czxid));
    client.set("/a", "1").await.unwrap();
    client.create("/a/b", "").await.unwrap();
    client.set("/a/b", "1").await.unwrap();
    client.delete("/a/b").await.unwrap();
    client.delete("/a").await.unwrap();
    let a = "/a".to_owned();
    for kind in [
        EventType::NodeDataChanged,
        EventType::NodeChildrenChanged,
        EventType::NodeChildrenChanged,
        EventType::NodeDeleted,
    ] {
        assert_eq!(event(&mut stream).await, (kind, a.clone()));
    }
    drop(stream);
    watches(&client, 0).await;
}

#[tokio::test]
async fn a_recursive_watch_tells_of_everything_below_by_its_own_path() {
    let server = TestServer::start().await;
    let root = client(&server).await;
    root.create("/app", "").await.unwrap();
    let client = root.chroot("/app").unwrap();
    let mut stream = client.watch_recursive("/").await.unwrap();
    client.create("/a", "").await.unwrap();
    client.create("/a/b", "").await.unwrap();
    client.set("/a/b", "1").await.unwrap();
    client.delete("/a/b").await.unwrap();
    root.create("/application", "").await.unwrap();
    root.set("/app", "1").await.unwrap();
    for (kind, path) in [
        (EventType::NodeCreated, "/a"),
        (EventType::NodeCreated, "/a/b"),
        (EventType::NodeDataChanged, "/a/b"),
        (EventType::NodeDeleted, "/a/b"),
        (EventType::NodeDataChanged, "/"),
    ] {
        assert_eq!(event(&mut stream).await, (kind, path.to_owned()));
    }
}

#[tokio::test]
async fn two_who_watch_the_same_are_both_told_and_one_can_go_without_the_other() {
    let server = TestServer::start().await;
    let client = client(&server).await;
    let first = client.watch("/a").await.unwrap();
    let mut second = client.watch("/a").await.unwrap();
    drop(first);
    watches(&client, 1).await;
    client.create("/a", "").await.unwrap();
    assert_eq!(
        event(&mut second).await,
        (EventType::NodeCreated, "/a".to_owned())
    );
}

#[tokio::test]
async fn a_lasting_watch_goes_on_behind_a_gap_when_the_server_restarts() {
    let mut server = TestServer::start().await;
    let client = client(&server).await;
    let mut stream = client.watch_recursive("/").await.unwrap();
    server.restart().await;
    assert!(matches!(next(&mut stream).await, Notice::Gap { .. }));
    client.create("/a", "").await.unwrap();
    assert_eq!(
        event(&mut stream).await,
        (EventType::NodeCreated, "/a".to_owned())
    );
}

#[tokio::test]
async fn a_stream_ends_with_the_session() {
    let server = TestServer::start().await;
    let client = client(&server).await;
    let mut stream = client.watch("/a").await.unwrap();
    server
        .expire_session(client.session_id().unwrap())
        .await
        .unwrap();
    loop {
        match next(&mut stream).await {
            Notice::Gap { .. } => {}
            Notice::Lost(Reason::SessionExpired(_)) => break,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn follow_yields_the_state_of_now_and_then_each_latest() {
    let server = TestServer::start().await;
    let client = client(&server).await;
    let mut states = client.follow("/a");
    assert_eq!(next(&mut states).await, Ok(None));
    client.create("/a", "0").await.unwrap();
    assert_eq!(next(&mut states).await.unwrap().unwrap().text(), Ok("0"));
    for n in 1..=10 {
        client.set("/a", n.to_string()).await.unwrap();
    }
    assert_eq!(next(&mut states).await.unwrap().unwrap().text(), Ok("10"));
    client.delete("/a").await.unwrap();
    assert_eq!(next(&mut states).await, Ok(None));
    client.create("/a", "10").await.unwrap();
    assert_eq!(next(&mut states).await.unwrap().unwrap().text(), Ok("10"));
    drop(states);
    watches(&client, 0).await;
}

#[tokio::test]
async fn follow_children_yields_the_sorted_names_also_after_a_deletion() {
    let server = TestServer::start().await;
    let client = client(&server).await;
    let mut states = client.follow_children("/p");
    assert_eq!(next(&mut states).await, Ok(None));
    client.create("/p", "").await.unwrap();
    assert!(next(&mut states).await.unwrap().unwrap().names.is_empty());
    client.create("/p/b", "").await.unwrap();
    client.create("/p/a", "").await.unwrap();
    assert_eq!(next(&mut states).await.unwrap().unwrap().names, ["a", "b"]);
    for path in ["/p/a", "/p/b", "/p"] {
        client.delete(path).await.unwrap();
    }
    assert_eq!(next(&mut states).await, Ok(None));
    client.create("/p", "").await.unwrap();
    let children = next(&mut states).await.unwrap().unwrap();
    assert!(children.names.is_empty());
}

#[tokio::test]
async fn bad_data_is_an_error_item_and_the_stream_of_values_goes_on() {
    let server = TestServer::start().await;
    let client = client(&server).await;
    client.create("/a", "ok").await.unwrap();
    let mut values = client.value::<String>("/a");
    let first = next(&mut values).await.unwrap().unwrap();
    assert_eq!((first.value.as_str(), first.stat.version), ("ok", 0));
    client.set("/a", vec![0xff]).await.unwrap();
    let error = next(&mut values).await.unwrap_err();
    assert!(matches!(error.reason(), Reason::Codec(_)), "{error}");
    assert_eq!(error.path(), "/a");
    client.set("/a", "again").await.unwrap();
    assert_eq!(next(&mut values).await.unwrap().unwrap().value, "again");
}

#[tokio::test]
async fn followers_go_on_in_the_next_session_where_there_is_one() {
    let server = TestServer::start().await;
    let follower = Client::builder(server.connect_string())
        .new_session_on_loss(true)
        .connect()
        .await
        .unwrap();
    let writer = client(&server).await;
    writer.create("/a", "1").await.unwrap();
    let mut states = follower.follow("/a");
    assert_eq!(next(&mut states).await.unwrap().unwrap().text(), Ok("1"));
    let session = follower.session_id().unwrap();
    server.expire_session(session).await.unwrap();
    writer.set("/a", "2").await.unwrap();
    assert_eq!(next(&mut states).await.unwrap().unwrap().text(), Ok("2"));
    assert_ne!(follower.session_id(), Some(session));
}

#[tokio::test]
async fn a_follower_ends_with_the_error_where_there_is_no_next_session() {
    let server = TestServer::start().await;
    let client = client(&server).await;
    let mut states = client.follow("/a");
    assert_eq!(next(&mut states).await, Ok(None));
    server
        .expire_session(client.session_id().unwrap())
        .await
        .unwrap();
    let error = next(&mut states).await.unwrap_err();
    assert!(error.is_session_lost(), "{error}");
    assert_eq!(states.next().await, None);
}

#[tokio::test]
async fn a_path_that_breaks_the_rules_ends_a_follower_at_once() {
    let server = TestServer::start().await;
    let client = client(&server).await;
    let mut states = client.follow("a/");
    let error = next(&mut states).await.unwrap_err();
    assert!(matches!(error.reason(), Reason::Path(_)), "{error}");
    assert_eq!(states.next().await, None);
    let error = client.watch("a/").await.unwrap_err();
    assert_eq!(error.code(), None::<ErrorCode>);
}
