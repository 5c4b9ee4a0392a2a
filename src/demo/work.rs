//! The living workload: a lock, an election, a queue, a configuration and a group, each used by
//! several clients with sessions of their own.
//!
//! Whatever fails is tried again, as applications do. What was acknowledged is noted on the board.

use std::time::Duration;

use futures::StreamExt as _;
use quorate_client::{Client, Outcome as Happened};
use quorate_recipes::election::LeaderLatch;
use quorate_recipes::lock::{LockGuard, Mutex};
use quorate_recipes::membership::{Group, Membership};
use quorate_recipes::queue::Queue;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Outcome;
use super::board::Board;

const SESSION: Duration = Duration::from_secs(4);
/// The pace of each worker, and of its next try.
const PACE: Duration = Duration::from_millis(50);
const TERM: Duration = Duration::from_millis(1_500);
const RELEASE: Duration = Duration::from_millis(500);
/// For how long what is under way may take to come to its end.
const PATIENCE: Duration = Duration::from_secs(60);

const COUNT: &str = "/demo/count";
const CONFIG: &str = "/demo/config";
const DONE: &str = "/demo/done";
const NAMES: [&str; 3] = ["anna", "bert", "cleo"];

/// Whether nothing new is to be begun.
type Over = watch::Receiver<bool>;

pub(super) struct Work {
    client: Client,
    over: watch::Sender<bool>,
    /// What is waited for at the end: whoever begins something.
    beginning: JoinSet<()>,
    _lasting: JoinSet<()>,
    _members: Vec<Membership>,
}

impl Work {
    pub(super) async fn start(servers: String, board: &Board) -> Outcome<Work> {
        let (over, is_over) = watch::channel(false);
        let (mut beginning, mut lasting) = (JoinSet::new(), JoinSet::new());
        let mut members = Vec::new();
        let client = connect(&servers).await?;
        for (path, data) in [(COUNT, "0"), (CONFIG, "0"), (DONE, "")] {
            client.create(path, data).parents().idempotent().await?;
        }
        for (at, name) in NAMES.into_iter().enumerate() {
            let own = connect(&servers).await?;
            beginning.spawn(add(own.clone(), name, board.clone(), is_over.clone()));
            lasting.spawn(lead(own.clone(), name, board.clone()));
            lasting.spawn(consume(own.clone(), board.clone()));
            lasting.spawn(subscribe(own.clone(), at, board.clone()));
            members.push(Group::new(&own, "/demo/group").join(name, "here"));
        }
        for name in ["shop", "phone"] {
            let own = connect(&servers).await?;
            beginning.spawn(produce(own, name, board.clone(), is_over.clone()));
        }
        beginning.spawn(publish(client.clone(), board.clone(), is_over));
        lasting.spawn(observe(client.clone(), board.clone()));
        Ok(Work {
            client,
            over,
            beginning,
            _lasting: lasting,
            _members: members,
        })
    }

    /// Lets nothing new begin, waits until all that was begun is done, and counts.
    pub(super) async fn finish(mut self, board: &Board) -> Outcome {
        self.over.send_replace(true);
        let end = async {
            while self.beginning.join_next().await.is_some() {}
            while !is_settled(&self.client, board).await {
                sleep(PACE).await;
            }
        };
        // If that takes too long the count says what is missing.
        let _ = timeout(PATIENCE, end).await;
        board.there.set(number(&self.client.get(COUNT).await?.data));
        let (done, _) = self.client.children(DONE).await?;
        for (order, times) in board.put.lock().iter_mut() {
            // Its transaction happened, and the answer was lost.
            if *times == 0 && done.contains(order) {
                *times = 1;
            }
        }
        Ok(())
    }
}

async fn is_settled(client: &Client, board: &Board) -> bool {
    let queue = Queue::<String>::new(client, "/demo/orders");
    let published = board.published.get();
    queue.is_empty().await.unwrap_or(false)
        && board.runs.iter().all(|run| run.get() == published)
        && board.members.get() == 3
}

async fn connect(servers: &str) -> Outcome<Client> {
    let client = Client::builder(servers)
        .session_timeout(SESSION)
        .new_session_on_loss(true);
    Ok(client.connect().await?)
}

fn number(data: &[u8]) -> u64 {
    std::str::from_utf8(data)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

/// Reads a number, adds one and writes it, under a lock: without the lock additions would be lost.
async fn add(client: Client, name: &'static str, board: Board, over: Over) {
    let lock = Mutex::new(&client, "/demo/lock").data(name);
    while !*over.borrow() {
        if let Ok(guard) = lock.acquire().await {
            *board.holder.lock() = name;
            match guard.run(add_one(&guard)).await {
                Ok(Ok(())) => board.added.add(1),
                Ok(Err(error)) if error.outcome() == Happened::DidNotHappen => {}
                Ok(Err(_)) | Err(_) => board.unknown.add(1),
            }
            // If that fails the lock goes with the session, or in the background.
            let _ = guard.release().await;
        }
        sleep(PACE).await;
    }
}

async fn add_one(guard: &LockGuard) -> quorate_client::Result<()> {
    let node = guard.client().get(COUNT).await?;
    let next = number(&node.data) + 1;
    let write = guard.client().set(COUNT, next.to_string());
    write.version(node.stat.version).idempotent().await?;
    Ok(())
}

/// Stands for election again and again, and resigns after a while.
async fn lead(client: Client, name: &'static str, board: Board) {
    let latch = LeaderLatch::new(&client, "/demo/leader", name);
    loop {
        if let Ok(leadership) = latch.campaign().await {
            let token = leadership.token().value().cast_unsigned();
            if token <= board.token.get() {
                board.backwards.add(1);
            }
            board.token.set(token);
            board.terms.add(1);
            *board.leader.lock() = name;
            if leadership.run(sleep(TERM)).await.is_ok() {
                let _ = leadership.resign().await;
            }
        }
        sleep(PACE).await;
    }
}

async fn produce(client: Client, name: &'static str, board: Board, over: Over) {
    let queue = Queue::new(&client, "/demo/orders").max_items(100);
    let mut number = 0_u32;
    while !*over.borrow() {
        number += 1;
        let order = format!("{name}-{number}");
        // One whose answer was lost may be in the queue: it is not put again, and not counted.
        if queue.put(order.clone()).await.is_ok() {
            board.put.lock().entry(order).or_default();
        }
        sleep(PACE).await;
    }
}

/// Does orders: the result is written and the order deleted in one transaction.
async fn consume(client: Client, board: Board) {
    let queue = Queue::<String>::new(&client, "/demo/orders");
    loop {
        let Ok(job) = queue.take().await else {
            sleep(PACE).await;
            continue;
        };
        let order = job.body.clone();
        let result = format!("{DONE}/{order}");
        if job
            .ack_with(|multi| multi.create(&result, ""))
            .await
            .is_ok()
        {
            *board.put.lock().entry(order).or_default() += 1;
            board.done.add(1);
        }
    }
}

async fn publish(client: Client, board: Board, over: Over) {
    let mut next = 1_u64;
    while !*over.borrow() {
        sleep(RELEASE).await;
        // The same one again until it is there for certain.
        while client
            .set(CONFIG, next.to_string())
            .idempotent()
            .await
            .is_err()
        {
            sleep(PACE).await;
        }
        board.published.set(next);
        next += 1;
    }
}

async fn subscribe(client: Client, at: usize, board: Board) {
    loop {
        let mut latest = client.follow(CONFIG);
        while let Some(Ok(node)) = latest.next().await {
            if let (Some(node), Some(runs)) = (node, board.runs.get(at)) {
                runs.set(number(&node.data));
            }
        }
        sleep(PACE).await;
    }
}

async fn observe(client: Client, board: Board) {
    let group = Group::new(&client, "/demo/group");
    loop {
        let mut changes = group.changes();
        while let Some(Ok(_)) = changes.next().await {
            if let Ok(members) = group.members().await {
                board
                    .members
                    .set(members.len().try_into().unwrap_or_default());
            }
        }
        sleep(PACE).await;
    }
}
