//! Barriers hold until all have come, let through whoever was there when they opened, and leave
//! nothing behind.
#![expect(clippy::unwrap_used, reason = "helper functions of tests")]

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use quorate_recipes::barrier::{Barrier, DoubleBarrier, Inside};
use quorate_recipes::{Client, Layout};
use quorate_server::testing::TestServer;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// Longer than anything here takes; a test that waits this long has failed.
const SOON: Duration = Duration::from_secs(20);

async fn client(server: &TestServer) -> Client {
    Client::connect(server.connect_string()).await.unwrap()
}

async fn soon<T>(future: impl IntoFuture<Output = T>) -> T {
    timeout(SOON, future.into_future()).await.expect("it hangs")
}

/// Waits until the children are as wished.
async fn children_are(client: &Client, path: &str, wished: impl Fn(&[String]) -> bool) {
    soon(async {
        loop {
            let names = match client.children(path).watch().await {
                Ok((names, _, watch)) if !wished(&names) => {
                    watch.await.unwrap();
                    continue;
                }
                Ok((names, ..)) => names,
                Err(error) if error.is_no_node() => Vec::new(),
                Err(error) => panic!("{error}"),
            };
            if wished(&names) {
                return;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Polls so many times, each time when the future was woken; `None` if it is not done by then.
async fn polled<F: Future>(mut future: Pin<&mut F>, times: usize) -> Option<F::Output> {
    let mut left = times;
    let polls = poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    });
    // What waits for others is not woken.
    timeout(Duration::from_millis(100), polls)
        .await
        .unwrap_or(None)
}

#[tokio::test]
async fn a_gate_holds_all_until_it_opens_and_outlives_who_closed_it() {
    let server = TestServer::start().await;
    let (one, two) = (client(&server).await, client(&server).await);
    let gate = Barrier::new(&one, "/gates/a");
    assert!(gate.wait_within(SOON).await.unwrap(), "it does not exist");
    assert!(gate.close().await.unwrap());
    assert!(!gate.close().await.unwrap());
    let node = one.get("/gates/a").await.unwrap();
    assert_eq!((&node.data[..], node.stat.ephemeral_owner), (&b""[..], 0));
    let other = Barrier::new(&two, "/gates/a");
    assert!(!other.wait_within(Duration::from_millis(20)).await.unwrap());
    one.close().await.unwrap();
    assert!(other.is_closed().await.unwrap());
    let three = client(&server).await;
    let tasks = TaskTracker::new();
    let waiting = tasks.spawn({
        let other = other.clone();
        async move { other.wait().await }
    });
    while two.watches() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(Barrier::new(&three, "/gates/a").open().await.unwrap());
    assert!(!other.open().await.unwrap());
    soon(waiting).await.unwrap().unwrap();
    assert_eq!(two.watches(), 0);
}

#[tokio::test]
async fn a_gate_is_waited_at_over_a_restart_of_the_server() {
    let mut server = TestServer::start().await;
    let one = client(&server).await;
    let gate = Barrier::new(&one, "/gate");
    gate.close().await.unwrap();
    let waiting = {
        let gate = gate.clone();
        TaskTracker::new().spawn(async move { gate.wait().await })
    };
    while one.watches() == 0 {
        tokio::task::yield_now().await;
    }
    server.restart().await;
    assert!(!waiting.is_finished());
    gate.open().await.unwrap();
    soon(waiting).await.unwrap().unwrap();
}

/// Starts so many members, each with a client of its own, and waits until all are inside.
async fn all_inside(server: &TestServer, path: &str, members: usize) -> Vec<(Client, Inside)> {
    let tasks = TaskTracker::new();
    let mut entering = Vec::new();
    for n in 0..members {
        let client = client(server).await;
        let layout = match n % 2 {
            0 => Layout::Curator,
            _ => Layout::Kazoo,
        };
        let barrier = DoubleBarrier::new(&client, path, members).layout(layout);
        entering.push(tasks.spawn(async move { (client, barrier.enter().await.unwrap()) }));
        if n + 1 < members {
            assert!(!entering.iter().any(tokio::task::JoinHandle::is_finished));
        }
    }
    let mut inside = Vec::new();
    for entering in entering {
        inside.push(soon(entering).await.unwrap());
    }
    inside
}

#[tokio::test]
async fn members_enter_together_and_leave_together_and_the_znodes_are_the_anchors() {
    let server = TestServer::start().await;
    let watcher = client(&server).await;
    for _ in 0..3 {
        let inside = all_inside(&server, "/meet", 4).await;
        let barrier = DoubleBarrier::new(&watcher, "/meet", 4);
        let (names, is_on) = barrier.members().await.unwrap();
        assert!(is_on);
        let mut lengths: Vec<usize> = names.iter().map(String::len).collect();
        lengths.sort_unstable();
        assert_eq!(lengths, [32, 32, 36, 36], "{names:?}");
        let ready = watcher.get("/meet/ready").await.unwrap();
        assert_eq!((&ready.data[..], ready.stat.ephemeral_owner), (&b""[..], 0));
        let tasks = TaskTracker::new();
        let mut leaving: Vec<_> = inside
            .into_iter()
            .map(|(client, inside)| {
                tasks.spawn(async move {
                    inside.leave().await.unwrap();
                    drop(client);
                })
            })
            .collect();
        let last = leaving.pop().unwrap();
        for leaving in leaving {
            soon(leaving).await.unwrap();
        }
        soon(last).await.unwrap();
        let (names, _) = watcher.children("/meet").await.unwrap();
        assert_eq!(names, Vec::<String>::new());
    }
}

#[tokio::test]
async fn nobody_has_left_before_the_last_is_done() {
    let server = TestServer::start().await;
    let mut inside = all_inside(&server, "/meet", 3).await;
    let (_client, last) = inside.pop().unwrap();
    let tasks = TaskTracker::new();
    let leaving: Vec<_> = inside
        .into_iter()
        .map(|(client, inside)| {
            tasks.spawn(async move {
                let left = inside.leave().await;
                drop(client);
                left
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!leaving.iter().any(tokio::task::JoinHandle::is_finished));
    soon(last.leave()).await.unwrap();
    for leaving in leaving {
        soon(leaving).await.unwrap().unwrap();
    }
}

/// Curator's unreleased fix strands a member that lists again after the fast ones have left, and
/// kazoo takes `ready` away when the first one leaves. What was seen to come has come.
#[tokio::test]
async fn a_member_that_looks_late_is_let_in_wherever_it_was_slow() {
    let server = TestServer::start().await;
    let (slow, fast) = (client(&server).await, client(&server).await);
    let mut late = 0;
    for polls in 1..40 {
        let path = format!("/late-{polls}");
        fast.create(&path, "").await.unwrap();
        let barrier = DoubleBarrier::new(&slow, &path, 2);
        let mut entering = pin!(barrier.enter());
        assert!(polled(entering.as_mut(), polls).await.is_none());
        // What it has sent by now arrives before this.
        slow.sync(&path).await.unwrap();
        let (names, _) = fast.children(&path).await.unwrap();
        if names.is_empty() {
            continue;
        }
        late += 1;
        let own = format!("{path}/{}", "f".repeat(32));
        fast.create(&own, "").ephemeral().await.unwrap();
        fast.create(format!("{path}/ready"), "").await.unwrap();
        fast.delete(format!("{path}/ready")).await.unwrap();
        fast.delete(&own).await.unwrap();
        let inside = soon(entering).await.unwrap();
        soon(inside.leave()).await.unwrap();
    }
    assert!(late > 3, "it was slow at {late} points only");
}

/// Up to Curator 5.9.0 any wake-up lets a member through.
#[tokio::test]
async fn a_reconnect_lets_nobody_through() {
    let mut server = TestServer::start().await;
    let one = client(&server).await;
    let barrier = DoubleBarrier::new(&one, "/meet", 2);
    let entering = TaskTracker::new().spawn(async move { barrier.enter().await });
    children_are(&one, "/meet", |names| names.len() == 1).await;
    server.restart().await;
    one.sync("/").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!entering.is_finished());
    let two = client(&server).await;
    let other = soon(DoubleBarrier::new(&two, "/meet", 2).enter())
        .await
        .unwrap();
    let inside = soon(entering).await.unwrap().unwrap();
    let (one_left, other_left) = tokio::join!(inside.leave(), other.leave());
    one_left.unwrap();
    other_left.unwrap();
}

/// In kazoo whoever finds `ready` without enough members waits for good.
#[tokio::test]
async fn who_comes_while_a_round_is_on_joins_it() {
    let server = TestServer::start().await;
    let inside = all_inside(&server, "/meet", 2).await;
    let late = client(&server).await;
    let joined = soon(DoubleBarrier::new(&late, "/meet", 9).enter())
        .await
        .unwrap();
    drop(inside);
    soon(joined.leave()).await.unwrap();
    let (names, _) = late.children("/meet").await.unwrap();
    assert_eq!(names, Vec::<String>::new());
}

#[tokio::test]
async fn members_that_die_inside_hold_up_nobody_and_what_they_leave_opens_nothing() {
    let server = TestServer::start().await;
    let mut inside = all_inside(&server, "/meet", 3).await;
    let (_one, survivor) = inside.pop().unwrap();
    let mut victims = Vec::new();
    for (client, inside) in inside {
        let session = client.session_id().unwrap();
        server.expire_session(session).await.unwrap();
        soon(inside.lost()).await;
        assert!(inside.leave().await.unwrap_err().is_session_lost());
        victims.push(client);
    }
    soon(survivor.leave()).await.unwrap();

    // And when all die, `ready` stays behind, alone.
    let inside = all_inside(&server, "/meet", 2).await;
    let watcher = client(&server).await;
    for (client, inside) in &inside {
        let session = client.session_id().unwrap();
        server.expire_session(session).await.unwrap();
        soon(inside.lost()).await;
    }
    let (names, _) = watcher.children("/meet").await.unwrap();
    assert_eq!(names, ["ready"]);
    let barrier = DoubleBarrier::new(&watcher, "/meet", 2);
    let none = barrier.enter_within(Duration::from_millis(50)).await;
    assert!(
        none.unwrap().is_none(),
        "it is let through by a round that is over"
    );
    let inside = all_inside(&server, "/meet", 2).await;
    drop(inside);
}

#[tokio::test]
async fn a_member_dropped_at_any_point_leaves_nothing_and_the_others_meet() {
    let server = TestServer::start().await;
    let (one, two) = (client(&server).await, client(&server).await);
    for polls in 0..12 {
        let path = format!("/sweep/{polls}");
        let barrier = DoubleBarrier::new(&one, &path, 2);
        {
            let mut entering = pin!(barrier.enter());
            assert!(polled(entering.as_mut(), polls).await.is_none());
        }
        // Drops at every point while a second one is there, inside included.
        children_are(&two, &path, <[String]>::is_empty).await;
        let other = DoubleBarrier::new(&two, &path, 2);
        let tasks = TaskTracker::new();
        let entering = tasks.spawn(async move { other.enter().await });
        children_are(&one, &path, |names| names.len() == 1).await;
        {
            let mut full = pin!(barrier.enter());
            if let Some(inside) = polled(full.as_mut(), polls).await {
                drop(inside.unwrap());
            }
        }
        // It is in by now, or comes in with the next.
        let third = DoubleBarrier::new(&one, &path, 2);
        let third = soon(third.enter()).await.unwrap();
        let second = soon(entering).await.unwrap().unwrap();
        let (third, second) = soon(async { tokio::join!(third.leave(), second.leave()) }).await;
        third.unwrap();
        second.unwrap();
        children_are(&two, &path, <[String]>::is_empty).await;
        soon(async {
            // A dropped watch is taken off a moment later.
            while one.watches() + two.watches() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}
