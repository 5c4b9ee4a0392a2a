//! Locks exclude, hand over in order, and leave nothing behind.
#![expect(clippy::unwrap_used, reason = "helper functions of tests")]

use quorate_recipes::Client;
use quorate_recipes::lock::Mutex;
use quorate_server::testing::TestServer;
use tokio_util::task::TaskTracker;

async fn client(server: &TestServer) -> Client {
    Client::connect(server.connect_string()).await.unwrap()
}

#[tokio::test]
async fn a_mutex_is_handed_over_in_the_order_of_arrival_with_growing_tokens() {
    let server = TestServer::start().await;
    let (one, two) = (client(&server).await, client(&server).await);
    let first = Mutex::new(&one, "/locks/a").acquire().await.unwrap();
    assert!(
        Mutex::new(&two, "/locks/a")
            .try_acquire()
            .await
            .unwrap()
            .is_none()
    );
    let lock = Mutex::new(&two, "/locks/a");
    let tasks = TaskTracker::new();
    let second = tasks.spawn(async move { lock.acquire().await.unwrap() });
    let mut place = Mutex::new(&one, "/locks/a").contenders().await.unwrap().0;
    while place.len() < 2 {
        tokio::task::yield_now().await;
        place = Mutex::new(&one, "/locks/a").contenders().await.unwrap().0;
    }
    assert!(!second.is_finished());
    let token = first.token();
    first.release().await.unwrap();
    let second = second.await.unwrap();
    assert!(second.token() > token);
    second.verify().await.unwrap();
    second.release().await.unwrap();
    let (names, _) = one.children("/locks/a").await.unwrap();
    assert_eq!(names, Vec::<String>::new());
}
