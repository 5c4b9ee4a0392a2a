//! Exactly once at a store that is written together with the ack, whatever happens to connections
//! and sessions.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_recipes::Client;
use quorate_recipes::queue::Queue;
use quorate_server::testing::TestServer;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_util::task::TaskTracker;

use super::proxy::Proxy;
use super::{children, client};

/// What the history of effects says: each item once.
fn judge(effects: &[String], items: usize) -> Result<(), String> {
    let mut counts = BTreeMap::<&str, usize>::new();
    for effect in effects {
        *counts.entry(effect).or_default() += 1;
    }
    for n in 0..items {
        match counts.get(n.to_string().as_str()) {
            Some(1) => {}
            count => return Err(format!("item {n} took effect {count:?} times")),
        }
    }
    Ok(())
}

/// The store: one sequential znode per effect, so that a second effect of one item shows.
async fn effects(zk: &Client) -> Vec<String> {
    let mut effects = Vec::new();
    for name in children(zk, "/done").await {
        let node = zk.get(format!("/done/{name}")).await.unwrap();
        effects.push(node.text().unwrap().to_owned());
    }
    effects
}

fn effect(body: &str) -> quorate_recipes::client::CreateOp {
    quorate_recipes::client::CreateOp::new("/done/e-", body.to_owned()).sequential()
}

async fn run(seed: u64) {
    const ITEMS: usize = 30;
    let server = TestServer::start().await;
    let zk = client(&server).await;
    zk.create("/done", "").await.unwrap();
    let queue = Queue::<String>::new(&zk, "/q");
    let items = (0..ITEMS).map(|n| n.to_string());
    queue.put_all(items).await.unwrap();
    let tasks = TaskTracker::new();
    let mut proxies = Vec::new();
    let mut workers = Vec::new();
    for _ in 0..3 {
        let proxy = Proxy::start(server.addr()).await;
        let worker = Client::builder(proxy.connect_string())
            .new_session_on_loss(true)
            .connect()
            .await
            .unwrap();
        let queue = Queue::<String>::new(&worker, "/q");
        proxies.push(proxy);
        workers.push(worker);
        tasks.spawn(async move {
            loop {
                let Ok(job) = queue.take().await else {
                    continue;
                };
                tokio::task::yield_now().await;
                let body = job.body.clone();
                // Whether this one succeeds or not: the store and the queue agree.
                let _ = job.ack_with(|multi| multi.create_with(effect(&body))).await;
            }
        });
    }
    let mut random = StdRng::seed_from_u64(seed);
    // So many troubles, then calm weather in which the rest must get done.
    for _ in 0..12 {
        let at = random.random_range(0..proxies.len());
        match random.random_range(0..3) {
            0 => {
                if let Some(session) = workers[at].session_id() {
                    let _ = server.expire_session(session).await;
                }
            }
            _ => proxies[at].cut(),
        }
        for _ in 0..random.random_range(0..40) {
            let _ = queue.len().await.unwrap();
        }
    }
    let calm = async {
        while !queue.is_empty().await.unwrap() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(20), calm)
        .await
        .is_err()
    {
        let (items, locks) = (children(&zk, "/q").await, children(&zk, "/q-locks").await);
        let waiters = children(&zk, "/q-waiters").await;
        panic!("seed {seed}: stranded {items:?}, locked {locks:?}, waiting {waiters:?}");
    }
    judge(&effects(&zk).await, ITEMS).unwrap_or_else(|text| panic!("seed {seed}: {text}"));
}

#[tokio::test]
async fn each_item_takes_effect_once_under_cut_connections_and_lost_sessions() {
    let seed = std::env::var("QUORATE_SEED").ok();
    let first: u64 = seed.and_then(|seed| seed.parse().ok()).unwrap_or(1);
    for seed in first..first + 3 {
        run(seed).await;
    }
}

/// A consumer loses its session at work, another does the work, and then the first one finishes.
#[tokio::test]
async fn who_lost_the_lock_cannot_ack_and_one_who_does_not_check_is_found() {
    let server = TestServer::start().await;
    let zk = client(&server).await;
    zk.create("/done", "").await.unwrap();
    let queue = Queue::<String>::new(&zk, "/q");
    queue
        .put_all(["0".to_owned(), "1".to_owned()])
        .await
        .unwrap();
    let slow = client(&server).await;
    let job = Queue::<String>::new(&slow, "/q").take().await.unwrap();
    let token = job.token();
    server
        .expire_session(slow.session_id().unwrap())
        .await
        .unwrap();
    job.lost().await;
    for n in ["0", "1"] {
        let job = queue.take().await.unwrap();
        assert_eq!(job.body, n);
        assert!(job.token() > token);
        let done = job.ack_with(|multi| multi.create_with(effect(n)));
        done.await.unwrap();
    }
    let late = job.ack_with(|multi| multi.create_with(effect("0"))).await;
    assert!(late.unwrap_err().is_session_lost());
    assert_eq!(judge(&effects(&zk).await, 2), Ok(()));
    // The same without the check.
    zk.multi().create_with(effect("0")).await.unwrap();
    assert!(judge(&effects(&zk).await, 2).is_err());
}

#[tokio::test]
async fn a_dead_consumers_item_goes_to_one_that_waits() {
    let server = TestServer::start().await;
    let (zk, dying) = (client(&server).await, client(&server).await);
    let queue = Queue::<String>::new(&zk, "/q");
    queue.put("a".to_owned()).await.unwrap();
    let job = Queue::<String>::new(&dying, "/q").take().await.unwrap();
    let waiting = queue.take();
    tokio::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(50), &mut waiting).await;
    assert!(early.is_err());
    server
        .expire_session(dying.session_id().unwrap())
        .await
        .unwrap();
    assert_eq!(waiting.await.unwrap().body, "a");
    drop(job);
}
