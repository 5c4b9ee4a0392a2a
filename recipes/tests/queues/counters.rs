//! Counters count once.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use quorate_recipes::client::Outcome;
use quorate_recipes::counter::{
    Ascii, Atomic, AtomicInteger, AtomicLong, AtomicValue, CachedAtomic, CachedAtomicInteger,
    SharedCount,
};
use quorate_recipes::lock::Mutex;
use quorate_recipes::{Client, client::RetryForever};
use quorate_server::testing::TestServer;
use tokio_util::task::TaskTracker;

use super::client;
use super::proxy::{Proxy, Weather};

async fn bytes(zk: &Client, path: &str) -> Bytes {
    zk.get(path).await.unwrap().data
}

#[tokio::test]
async fn counters_write_what_curator_and_kazoo_write() {
    let server = TestServer::start().await;
    let zk = client(&server).await;
    let long = AtomicLong::new(&zk, "/c/long");
    assert_eq!(long.get().await.unwrap(), 0);
    let change = long.add(&300).await.unwrap();
    assert_eq!((change.before, change.after), (0, 300));
    assert_eq!(
        &bytes(&zk, "/c/long").await[..],
        [0, 0, 0, 0, 0, 0, 1, 0x2c]
    );
    let int = AtomicInteger::new(&zk, "/c/int");
    int.decrement().await.unwrap();
    assert_eq!(&bytes(&zk, "/c/int").await[..], [0xff; 4]);
    assert!(int.compare_and_set(&-1, &258).await.unwrap());
    assert!(!int.compare_and_set(&-1, &0).await.unwrap());
    let shared = SharedCount::open(&zk, "/c/int", 7).await.unwrap();
    assert_eq!(shared.get().value, 258);
    assert!(!int.initialize(&1).await.unwrap());
    int.force_set(&i32::MAX).await.unwrap();
    let full = int.increment().await.unwrap_err();
    assert_eq!(full.outcome(), Outcome::DidNotHappen);
    let text = Atomic::<Ascii<f64>>::new(&zk, "/c/text");
    text.add(&Ascii(2.5)).await.unwrap();
    assert_eq!(bytes(&zk, "/c/text").await, "2.5");
    let mixed = AtomicLong::new(&zk, "/c/text").increment().await;
    assert!(mixed.is_err(), "3 bytes are no number of 8");
    let value = AtomicValue::new(&zk, "/c/value");
    value.update(|_| Bytes::from("x")).await.unwrap();
    assert_eq!(value.get().await.unwrap(), "x");
}

#[tokio::test]
async fn no_change_is_lost_among_many_writers_with_marks_and_a_lock() {
    let server = TestServer::start().await;
    let tasks = TaskTracker::new();
    let mut writers = Vec::new();
    for n in 0..6 {
        let zk = client(&server).await;
        let lock = Mutex::new(&zk, "/c-lock");
        let counter = AtomicLong::new(&zk, "/deep/er/c")
            .tries(2)
            .promoted(lock, Duration::from_secs(20));
        let counter = if n % 2 == 0 {
            counter.settled_by("/marks")
        } else {
            counter.tries(1000)
        };
        writers.push(tasks.spawn(async move {
            for _ in 0..10 {
                while let Err(error) = counter.increment().await {
                    assert_eq!(error.outcome(), Outcome::DidNotHappen);
                }
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let zk = client(&server).await;
    assert_eq!(AtomicLong::new(&zk, "/deep/er/c").get().await.unwrap(), 60);
}

async fn lossy(server: &TestServer) -> (Proxy, Client) {
    let proxy = Proxy::start(server.addr()).await;
    let client = Client::builder(proxy.connect_string())
        .retry(RetryForever::new(Duration::from_millis(5)))
        .connect()
        .await
        .unwrap();
    (proxy, client)
}

/// Adds one, and cuts the connection between the write and its answer.
async fn add_unheard(
    proxy: &Proxy,
    direct: &Client,
    counter: &AtomicLong,
) -> quorate_recipes::Result<i64> {
    let direct = AtomicLong::new(direct, counter.path());
    let before = direct.get().await.unwrap();
    proxy.set(Weather {
        reply_delay: Duration::from_millis(100),
        ..Weather::default()
    });
    let adding = async { counter.add(&1).await.map(|change| change.after) };
    let cutting = async {
        while direct.get().await.unwrap() == before {
            tokio::task::yield_now().await;
        }
        proxy.set(Weather::default());
        proxy.cut();
    };
    tokio::join!(adding, cutting).0
}

#[tokio::test]
async fn a_lost_answer_is_settled_by_a_mark_and_reported_without_one() {
    let server = TestServer::start().await;
    let (proxy, zk) = lossy(&server).await;
    let plain = AtomicLong::new(&zk, "/c");
    let marked = plain.clone().settled_by("/marks");
    marked.add(&1).await.unwrap();
    let direct = client(&server).await;
    let after = add_unheard(&proxy, &direct, &marked).await.unwrap();
    assert_eq!(after, 2);
    let unknown = add_unheard(&proxy, &direct, &plain).await.unwrap_err();
    assert_eq!(unknown.outcome(), Outcome::Unknown);
    // Once each, whatever was said.
    assert_eq!(plain.get().await.unwrap(), 3);
}

#[tokio::test]
async fn a_shared_count_tells_of_changes_and_never_overwrites_the_unseen() {
    let server = TestServer::start().await;
    let (one, two) = (client(&server).await, client(&server).await);
    let ours = SharedCount::open(&one, "/n", 1).await.unwrap();
    let theirs = SharedCount::open(&two, "/n", 5).await.unwrap();
    let mut changes = theirs.changes();
    assert_eq!(changes.next().await.unwrap().unwrap().value, 1);
    let seen = ours.get();
    assert!(ours.try_set(&seen, 2).await.unwrap());
    assert!(!ours.try_set(&seen, 3).await.unwrap());
    assert_eq!(ours.get().value, 2);
    assert_eq!(changes.next().await.unwrap().unwrap().value, 2);
    theirs.set(9).await.unwrap();
    assert_eq!(theirs.get().value, 9);
}

#[tokio::test]
async fn blocks_give_no_number_twice() {
    let server = TestServer::start().await;
    let zk = client(&server).await;
    let sources = [0, 1].map(|_| CachedAtomic::new(AtomicLong::new(&zk, "/b"), 4));
    let mut numbers = Vec::new();
    for _ in 0..10 {
        for source in &sources {
            numbers.push(source.next().await.unwrap());
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 20);

    let small = CachedAtomicInteger::new(AtomicInteger::new(&zk, "/i"), 3);
    for number in 0..7 {
        assert_eq!(small.next().await.unwrap(), number);
    }
    assert_eq!(zk.get("/i").await.unwrap().data, &9_i32.to_be_bytes()[..]);
}
