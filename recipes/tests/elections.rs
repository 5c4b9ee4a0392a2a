//! Elections have one leader, tell who it is, and go on over sessions and restarts.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "helper functions of tests"
)]

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use quorate_recipes::election::{LeaderLatch, LeaderSelector};
use quorate_recipes::lock::Mutex;
use quorate_recipes::{Client, Layout};
use quorate_server::testing::TestServer;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

async fn client(server: &TestServer) -> Client {
    Client::connect(server.connect_string()).await.unwrap()
}

async fn until(client: &Client, path: &str, count: usize) {
    let wait = async {
        loop {
            let names = match client.children(path).await {
                Ok((names, _)) => names,
                Err(error) if error.is_no_node() => Vec::new(),
                Err(error) => panic!("{error}"),
            };
            if names.len() == count {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), wait).await.expect(path);
}

#[tokio::test]
async fn a_latch_hands_over_in_order_and_tells_who_takes_part_under_curators_and_kazoos_names() {
    let server = TestServer::start().await;
    let (one, two) = (client(&server).await, client(&server).await);
    for (layout, tag) in [(Layout::Curator, "-latch-"), (Layout::Kazoo, "__lock__")] {
        let path = format!("/election/{layout:?}");
        let first = LeaderLatch::with_layout(&one, &path, "one", layout);
        let second = LeaderLatch::with_layout(&two, &path, "two", layout);
        let leading = first.campaign().await.unwrap();
        assert!(leading.path().ends_with(&format!("{tag}0000000000")));
        let tasks = TaskTracker::new();
        let next = tasks.spawn({
            let second = second.clone();
            async move { second.campaign().await.unwrap() }
        });
        until(&one, &path, 2).await;
        let standing = second.participants().await.unwrap();
        assert_eq!(standing.holding[0].data, "one");
        assert_eq!(standing.waiting[0].data, "two");
        let token = leading.token();
        leading.resign().await.unwrap();
        let next = next.await.unwrap();
        assert!(next.token() > token);
        assert_eq!(first.leader().await.unwrap().unwrap().data, "two");
        next.resign().await.unwrap();
        assert_eq!(first.leader().await.unwrap(), None);
    }
}

#[tokio::test]
async fn observers_see_who_leads_what_is_proclaimed_and_that_nobody_does() {
    let server = TestServer::start().await;
    let (one, two) = (client(&server).await, client(&server).await);
    let mut seen = LeaderLatch::new(&two, "/leader", "").observe();
    assert_eq!(seen.next().await.unwrap().unwrap(), None);
    let leading = LeaderLatch::new(&one, "/leader", "one")
        .campaign()
        .await
        .unwrap();
    let leader = seen.next().await.unwrap().unwrap().unwrap();
    assert_eq!(
        (&leader.data[..], leader.token),
        (&b"one"[..], leading.token())
    );
    leading.proclaim("one, ready").await.unwrap();
    let leader = seen.next().await.unwrap().unwrap().unwrap();
    assert_eq!(
        (&leader.data[..], leader.token),
        (&b"one, ready"[..], leading.token())
    );
    leading.resign().await.unwrap();
    assert_eq!(seen.next().await.unwrap().unwrap(), None);
}

#[tokio::test]
async fn a_leader_goes_on_after_a_restart_of_its_process_in_the_same_session() {
    let server = TestServer::start().await;
    let (one, two) = (client(&server).await, client(&server).await);
    let leading = LeaderLatch::new(&one, "/leader", "one")
        .campaign()
        .await
        .unwrap();
    let token = leading.token();
    // As a process that ends without a word: nothing is given up.
    let session = one.detach().unwrap();
    drop(leading);
    let again = Client::builder(server.connect_string())
        .resume(session)
        .connect()
        .await
        .unwrap();
    let latch = LeaderLatch::new(&again, "/leader", "one");
    let leading = latch.resume().await.unwrap().expect("still there");
    assert_eq!(leading.token(), token);
    let rival = LeaderLatch::new(&two, "/leader", "two");
    assert!(rival.resume().await.unwrap().is_none());
    leading.resign().await.unwrap();
    until(&two, "/leader", 0).await;
}

#[tokio::test]
async fn a_selector_leads_again_after_continue_after_stepping_down_and_after_a_lost_session() {
    let server = TestServer::start().await;
    let builder = Client::builder(server.connect_string()).new_session_on_loss(true);
    let client = builder.connect().await.unwrap();
    let selector = LeaderSelector::new(&client, "/leader", "one");
    let (terms, running) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let mut tokens = Vec::new();
    let result = selector
        .lead(|term| {
            let number = terms.fetch_add(1, Ordering::SeqCst);
            assert!(tokens.last().is_none_or(|last| *last < term.token()));
            tokens.push(term.token());
            assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "a second body");
            let running = Running(Arc::clone(&running));
            let (server, selector) = (&server, &selector);
            async move {
                let _running = running;
                match number {
                    0 => ControlFlow::Continue(()),
                    1 => {
                        selector.step_down();
                        std::future::pending().await
                    }
                    2 => {
                        server.expire_session(term.session()).await.unwrap();
                        std::future::pending().await
                    }
                    _ => ControlFlow::Break("done"),
                }
            }
        })
        .await;
    assert_eq!(result.unwrap(), "done");
    assert_eq!(terms.load(Ordering::SeqCst), 4);
    until(&client, "/leader", 0).await;
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_selector_and_a_mutex_exclude_each_other_and_its_names_are_curators() {
    let server = TestServer::start().await;
    let client = client(&server).await;
    let selector = LeaderSelector::new(&client, "/leader", "one");
    let name = selector
        .lead(|term| {
            let client = &client;
            async move {
                let mutex = Mutex::new(client, "/leader");
                assert!(mutex.try_acquire().await.unwrap().is_none());
                assert_eq!(client.get(term.path()).await.unwrap().data, "one");
                ControlFlow::Break(term.path().to_owned())
            }
        })
        .await
        .unwrap();
    assert!(name.starts_with("/leader/_c_") && name.ends_with("-lock-0000000000"));
    until(&client, "/leader", 0).await;
}

#[tokio::test]
async fn a_campaign_that_is_dropped_lets_the_next_candidate_lead() {
    let server = TestServer::start().await;
    let (one, two) = (client(&server).await, client(&server).await);
    let first = LeaderLatch::new(&one, "/leader", "one");
    let leading = first.campaign().await.unwrap();
    let second = LeaderLatch::new(&two, "/leader", "two");
    let given_up = second.campaign_within(Duration::from_millis(50)).await;
    assert!(given_up.unwrap().is_none());
    until(&one, "/leader", 1).await;
    drop(leading);
    second.campaign().await.unwrap().resign().await.unwrap();
    until(&one, "/leader", 0).await;
}
