//! Queues, counters, ids and leases against a server.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helper functions of tests"
)]

mod counters;
mod ids;
mod leases;
#[expect(
    dead_code,
    unreachable_pub,
    clippy::disallowed_methods,
    reason = "shared with the client's tests, which use all of it"
)]
#[path = "../../../client/tests/support/proxy.rs"]
mod proxy;
mod work;

use std::future::Future;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use quorate_recipes::Client;
use quorate_recipes::queue::{Item, Queue, QueueLayout, QueueOrder, Sharder};
use quorate_server::config::FourLetterWords;
use quorate_server::testing::TestServer;
use quorate_server::testing::wire::WireClient;

async fn client(server: &TestServer) -> Client {
    Client::connect(server.connect_string()).await.unwrap()
}

async fn children(client: &Client, path: &str) -> Vec<String> {
    let mut names = client.children(path).await.unwrap().0;
    names.sort();
    names
}

/// Polls a future this many times, with the server's answers in between, and drops it.
async fn poll_then_drop<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(move |cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn items_come_in_the_order_of_their_puts_with_curators_names_and_bytes() {
    let server = TestServer::start().await;
    let zk = client(&server).await;
    let queue = Queue::<String>::new(&zk, "/q");
    let path = queue.put("hello".to_owned()).await.unwrap();
    assert_eq!(path, "/q/queue-0000000000");
    let data = zk.get(&path).await.unwrap().data;
    assert_eq!(&data[..], b"\0\x01\0\x01\x01\0\0\0\x05hello\x02");
    queue
        .put_all(["b".to_owned(), "c".to_owned()])
        .await
        .unwrap();
    let together = ["d".to_owned(), "e".to_owned()];
    queue.put_together(together).await.unwrap();
    let job = queue.take().await.unwrap();
    assert_eq!(children(&zk, "/q-locks").await, ["queue-0000000000"]);
    let mut bodies = vec![job.body.clone()];
    job.ack().await.unwrap();
    let mut jobs = queue.consume();
    for _ in 0..3 {
        let job = jobs.next().await.unwrap().unwrap();
        bodies.push(job.body.clone());
        bodies.extend(job.more.clone());
        job.ack().await.unwrap();
    }
    assert_eq!(bodies, ["hello", "b", "c", "d", "e"]);
    assert!(queue.is_empty().await.unwrap());
    assert_eq!(children(&zk, "/q-locks").await, [""; 0]);
}

#[tokio::test]
async fn a_nacked_item_keeps_its_priority_its_delay_and_its_id() {
    let server = TestServer::start().await;
    let zk = client(&server).await;
    let queue = Queue::<String>::new(&zk, "/p").order(QueueOrder::Priority);
    for (body, priority) in [("late", 7), ("soon", -5), ("soon too", -5)] {
        let item = Item::new(body.to_owned()).priority(priority);
        queue.put(item).await.unwrap();
    }
    let job = queue.take().await.unwrap();
    assert_eq!(job.body, "soon");
    job.nack().await.unwrap();
    let names = children(&zk, "/p").await;
    assert_eq!(
        names,
        [
            "queue-0FFFFFFFB0000000002",
            "queue-0FFFFFFFB0000000003",
            "queue-1000000070000000000"
        ]
    );
    let job = queue.take().await.unwrap();
    assert_eq!(job.body, "soon too");
    let job = queue.take().await.unwrap();
    assert_eq!((job.body.as_str(), job.attempt()), ("soon", 2));

    let delayed = Queue::<String>::new(&zk, "/d").order(QueueOrder::Delay);
    let far = Item::new("far".to_owned()).delay(Duration::from_secs(3600));
    delayed.put(far).await.unwrap();
    assert!(delayed.try_take().await.unwrap().is_none());
    let past = Item::new("now".to_owned()).due(std::time::UNIX_EPOCH + Duration::from_secs(9));
    delayed.put(past).await.unwrap();
    let job = delayed.take().await.unwrap();
    assert_eq!(job.path(), "/d/queue-|00002328|0000000001");
    job.nack().await.unwrap();
    let again = delayed.take().await.unwrap();
    assert_eq!(again.path(), "/d/queue-|00002328|0000000002");

    let named = Queue::<String>::new(&zk, "/i").order(QueueOrder::Id);
    named
        .put(Item::new("x".to_owned()).id("a/b"))
        .await
        .unwrap();
    named.put(Item::new("y".to_owned()).id("c")).await.unwrap();
    named.take().await.unwrap().nack().await.unwrap();
    assert_eq!(
        children(&zk, "/i").await,
        ["queue-|a_b|0000000002", "queue-|c|0000000001"]
    );
    assert_eq!(named.remove("a/b").await.unwrap(), 1);
    assert_eq!(named.take().await.unwrap().id(), Some("c"));
}

#[tokio::test]
async fn what_fails_too_often_or_cannot_be_read_goes_to_the_dead_letters() {
    let server = TestServer::start().await;
    let zk = client(&server).await;
    let queue = Queue::<String>::new(&zk, "/q")
        .max_attempts(2)
        .dead_letter("/dead");
    queue.put("poison".to_owned()).await.unwrap();
    queue.take().await.unwrap().nack().await.unwrap();
    // This one ends without a word, and is counted, too.
    let second = queue.take().await.unwrap();
    assert_eq!(second.attempt(), 2);
    second.release().await.unwrap();
    assert!(queue.try_take().await.unwrap().is_none());
    zk.create("/q/queue-", "garbage")
        .sequential()
        .await
        .unwrap();
    assert!(queue.try_take().await.is_err());
    assert!(queue.is_empty().await.unwrap());
    let dead = Queue::<String>::new(&zk, "/dead");
    assert_eq!(dead.len().await.unwrap(), 2);
    assert_eq!(dead.take().await.unwrap().body, "poison");
}

#[tokio::test]
async fn other_layouts_are_written_to_the_byte() {
    let server = TestServer::start().await;
    let zk = client(&server).await;
    let simple = Queue::<Bytes>::new(&zk, "/s").layout(QueueLayout::Simple);
    assert_eq!(
        simple.put(Bytes::from("raw")).await.unwrap(),
        "/s/qn-0000000000"
    );
    assert_eq!(simple.take().await.unwrap().body, "raw");
    assert_eq!(simple.len().await.unwrap(), 0);

    let locking = Queue::<Bytes>::new(&zk, "/k").layout(QueueLayout::KazooLocking);
    let path = locking.put(Bytes::from("raw")).await.unwrap();
    assert_eq!(path, "/k/entries/entry-100-0000000000");
    assert_eq!(zk.get(&path).await.unwrap().data, "raw");
    let urgent = locking
        .put(Item::new(Bytes::from("urgent")).priority(5))
        .await;
    assert_eq!(urgent.unwrap(), "/k/entries/entry-005-0000000001");
    let job = locking.take().await.unwrap();
    assert_eq!(job.body, "urgent");
    assert_eq!(children(&zk, "/k/taken").await, ["entry-005-0000000001"]);
    job.nack().await.unwrap();
    let job = locking.take().await.unwrap();
    assert_eq!(job.path(), "/k/entries/entry-005-0000000001");
    job.ack().await.unwrap();

    let kazoo = Queue::<Bytes>::new(&zk, "/kq").layout(QueueLayout::Kazoo);
    assert_eq!(
        kazoo.put(Bytes::from("x")).await.unwrap(),
        "/kq/entry-100-0000000000"
    );
    assert_eq!(kazoo.take().await.unwrap().body, "x");
}

#[tokio::test]
async fn a_put_waits_for_room() {
    let server = TestServer::start().await;
    let zk = client(&server).await;
    let queue = Queue::<Bytes>::new(&zk, "/q").max_items(1);
    queue.put(Bytes::from("a")).await.unwrap();
    let waiting = queue.put(Bytes::from("b"));
    tokio::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(50), &mut waiting).await;
    assert!(early.is_err());
    queue.take().await.unwrap().ack().await.unwrap();
    waiting.await.unwrap();
}

async fn packets(server: &TestServer) -> u64 {
    let text = WireClient::tcp(server.addr()).await.word("mntr").await;
    let line = text
        .lines()
        .find(|line| line.starts_with("zk_packets_received"));
    line.unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

#[tokio::test]
async fn an_item_wakes_one_of_many_that_wait() {
    const WAITING: usize = 12;
    let server = TestServer::builder()
        .config(|config| config.four_letter_words = FourLetterWords::Listed(vec!["mntr".into()]))
        .start()
        .await;
    let zk = client(&server).await;
    let tasks = tokio_util::task::TaskTracker::new();
    let (taken, mut bodies) = tokio::sync::mpsc::channel(WAITING);
    for _ in 0..WAITING {
        let queue = Queue::<String>::new(&client(&server).await, "/q");
        let taken = taken.clone();
        tasks.spawn(async move {
            let job = queue.take().await.unwrap();
            taken.send(job.body.clone()).await.unwrap();
            job.ack().await.unwrap();
        });
    }
    while zk
        .exists("/q-waiters")
        .await
        .unwrap()
        .is_none_or(|stat| stat.num_children < 12)
    {
        tokio::task::yield_now().await;
    }
    let queue = Queue::<String>::new(&zk, "/q");
    let before = packets(&server).await;
    for n in 0..WAITING {
        queue.put(n.to_string()).await.unwrap();
        assert_eq!(bodies.recv().await.unwrap(), n.to_string());
    }
    let per_item = (packets(&server).await - before) / 12;
    // Were all woken by each, it would be a dozen listings each.
    assert!(per_item < 30, "{per_item} requests per item");
}

#[tokio::test]
async fn takes_and_puts_that_are_dropped_half_way_strand_nothing() {
    let server = TestServer::start().await;
    let zk = client(&server).await;
    let worker = client(&server).await;
    let queue = Queue::<String>::new(&zk, "/q");
    let theirs = Queue::<String>::new(&worker, "/q");
    for polls in 1..24 {
        queue.put(format!("{polls}")).await.unwrap();
        drop(poll_then_drop(theirs.take(), polls).await);
        let job = queue.take_within(Duration::from_secs(5)).await.unwrap();
        let job = job.unwrap_or_else(|| panic!("stranded after {polls} polls"));
        assert_eq!(job.body, polls.to_string());
        drop(poll_then_drop(job.ack(), polls).await);
        // Done, or back: whatever it is, the queue can be worked off.
        while !queue.is_empty().await.unwrap() {
            let job = queue.take_within(Duration::from_millis(200)).await.unwrap();
            if let Some(job) = job {
                job.ack().await.unwrap();
            }
        }
    }
    for polls in 1..12 {
        drop(poll_then_drop(theirs.put("x".to_owned()), polls).await);
        drop(poll_then_drop(theirs.take(), polls).await);
        let next = theirs.consume().into_future();
        drop(poll_then_drop(next, polls).await);
    }
    for directory in ["/q-locks", "/q-waiters"] {
        while zk
            .exists(directory)
            .await
            .unwrap()
            .is_some_and(|stat| stat.num_children > 0)
        {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_full_shard_gets_no_more_and_another_is_added() {
    let server = TestServer::start().await;
    let zk = client(&server).await;
    let queue = Sharder::<String>::open(&zk, "/sharded", |shard| shard)
        .threshold(2)
        .max_shards(2);
    for n in 0..6 {
        queue.put(n.to_string()).await.unwrap();
        queue.check().await.unwrap();
    }
    let shards = children(&zk, "/sharded").await;
    assert_eq!(shards.len(), 2);
    let mut jobs = queue.consume();
    let mut bodies = Vec::new();
    while bodies.len() < 6 {
        let job = jobs.next().await.unwrap().unwrap();
        bodies.push(job.body.clone());
        job.ack().await.unwrap();
    }
    bodies.sort();
    assert_eq!(bodies, ["0", "1", "2", "3", "4", "5"]);
}
