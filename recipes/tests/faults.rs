//! Under lost connections, ended sessions, silence and restarts nobody holds what another holds,
//! nobody waits for nothing, and nothing stays behind.
//!
//! `QUORATE_SEED` runs one seed again, `QUORATE_SEEDS` so many from it on.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helper functions of tests"
)]

#[path = "support/history.rs"]
mod history;
#[path = "support/relay.rs"]
#[expect(dead_code, reason = "requests are not counted here")]
mod relay;

use std::ops::ControlFlow;
use std::time::Duration;

use history::{History, Holding};
use quorate_recipes::election::{LeaderLatch, LeaderSelector};
use quorate_recipes::lock::{LockGuard, Mutex, RwLock, Semaphore};
use quorate_recipes::{Client, Contention, FencingToken, Layout, Naming, Result};
use quorate_server::testing::TestServer;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use relay::Relay;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const SESSION: Duration = Duration::from_millis(1_000);
const WORKERS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Mutex,
    RwLock,
    Semaphore,
    Latch,
    Selector,
}

impl Kind {
    const ALL: [Kind; 5] = [
        Kind::Mutex,
        Kind::RwLock,
        Kind::Semaphore,
        Kind::Latch,
        Kind::Selector,
    ];

    fn capacity(self) -> usize {
        match self {
            Kind::RwLock => WORKERS,
            Kind::Semaphore => 2,
            _ => 1,
        }
    }

    fn path(self) -> String {
        format!("/resource/{self:?}")
    }

    fn directories(self) -> Vec<String> {
        match self {
            Kind::Semaphore => ["leases", "locks"]
                .map(|directory| format!("{}/{directory}", self.path()))
                .to_vec(),
            _ => vec![self.path()],
        }
    }
}

async fn server() -> TestServer {
    let builder = TestServer::builder().config(|config| {
        config.tick_time = SESSION / 5;
        config.min_session_timeout = SESSION / 5;
    });
    builder.start().await
}

async fn client(connect_string: String) -> Client {
    Client::builder(connect_string)
        .session_timeout(SESSION)
        .new_session_on_loss(true)
        .connect()
        .await
        .unwrap()
}

/// Holds for a moment, and lets go when the lock is lost.
async fn hold(guard: &LockGuard, holding: Holding, time: Duration) {
    drop(guard.run(sleep(time)).await);
    drop(holding);
}

struct Worker {
    number: usize,
    client: Client,
    history: History,
    rng: StdRng,
}

impl Worker {
    async fn once(&mut self, kind: Kind) -> Result<()> {
        let time = Duration::from_millis(self.rng.random_range(0..40));
        let (client, history, number) = (&self.client, &self.history, self.number);
        let enter = |guard: &LockGuard, weight| {
            history.enter(number, guard.session(), guard.token(), weight)
        };
        let path = kind.path();
        match kind {
            Kind::Mutex => {
                let guard = Mutex::new(client, &path).acquire().await?;
                hold(&guard, enter(&guard, 1), time).await;
                guard.release().await
            }
            Kind::RwLock if self.rng.random_bool(0.5) => {
                let guard = RwLock::new(client, &path).read().await?;
                hold(&guard, enter(&guard, 1), time).await;
                guard.release().await
            }
            Kind::RwLock => {
                let guard = RwLock::new(client, &path).write().await?;
                hold(&guard, enter(&guard, WORKERS), time).await;
                let guard = guard.downgrade().await?;
                hold(&guard, enter(&guard, 1), time).await;
                guard.release().await
            }
            Kind::Semaphore => {
                let permits = Semaphore::new(client, &path, 2).acquire(1).await?;
                // Two of capacity two: no order of tokens is asked of those who hold one.
                hold(permits.guard(), enter(permits.guard(), 1), time).await;
                permits.release().await
            }
            Kind::Latch => {
                let leadership = LeaderLatch::new(client, &path, "id").campaign().await?;
                hold(&leadership, enter(&leadership, 1), time).await;
                leadership.resign().await
            }
            Kind::Selector => {
                let selector = LeaderSelector::new(client, &path, "id");
                let lead = selector.lead(|term| {
                    let holding = enter(&term, 1);
                    async move {
                        sleep(time).await;
                        drop(holding);
                        ControlFlow::Break(())
                    }
                });
                lead.await
            }
        }
    }

    async fn work(mut self, kind: Kind, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                // Failures are what the faults are for.
                result = self.once(kind) => if result.is_err() {
                    sleep(Duration::from_millis(10)).await;
                },
            }
        }
        self.client.close().await.ok();
    }
}

async fn run(kind: Kind, seed: u64, steps: usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut server = server().await;
    let history = History::default();
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let (mut relays, mut clients) = (Vec::new(), Vec::new());
    for number in 0..WORKERS {
        let relay = Relay::start(server.addr()).await;
        let client = client(relay.connect_string()).await;
        clients.push(client.clone());
        relays.push(relay);
        let worker = Worker {
            number,
            client,
            history: history.clone(),
            rng: StdRng::seed_from_u64(rng.random()),
        };
        tasks.spawn(worker.work(kind, stop.clone()));
    }
    for _ in 0..steps {
        sleep(Duration::from_millis(rng.random_range(20..150))).await;
        let victim = rng.random_range(0..WORKERS);
        match rng.random_range(0..5) {
            0 | 1 => relays[victim].cut(),
            2 => {
                relays[victim].swallow(true);
                sleep(SESSION + Duration::from_millis(rng.random_range(0..600))).await;
                relays[victim].swallow(false);
            }
            3 => {
                if let Some(session) = clients[victim].session_id() {
                    history.killed(session);
                    // It may have ended by itself.
                    server.expire_session(session).await.ok();
                }
            }
            _ => server.restart().await,
        }
    }
    // All is well again: everybody gets it once more.
    for number in 0..WORKERS {
        let had = history.holds_of(number);
        let again = async {
            while history.holds_of(number) <= had {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let served = timeout(PATIENCE, again).await;
        assert!(
            served.is_ok(),
            "{kind:?}, seed {seed}: {number} is stranded"
        );
    }
    stop.cancel();
    tasks.close();
    timeout(PATIENCE, tasks.wait()).await.expect("workers stop");
    let faults = history.faults(kind.capacity());
    assert!(faults.is_empty(), "{kind:?}, seed {seed}: {faults:#?}");
    let looker = client(server.addr().to_string()).await;
    for directory in kind.directories() {
        let empty = async {
            while looker
                .children(&directory)
                .await
                .is_ok_and(|(names, _)| !names.is_empty())
            {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let emptied = timeout(PATIENCE, empty).await;
        assert!(
            emptied.is_ok(),
            "{kind:?}, seed {seed}: left in {directory}"
        );
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_is_held_by_one_whatever_breaks() {
    let first = from_environment("QUORATE_SEED").unwrap_or(1);
    let seeds = from_environment("QUORATE_SEEDS").unwrap_or(1);
    for seed in first..first + seeds {
        eprintln!("QUORATE_SEED={seed}");
        let runs = Kind::ALL.map(|kind| run(kind, seed, 8));
        futures::future::join_all(runs).await;
    }
}

/// Takes turns by names alone: neither pinned to a session nor told of a loss.
#[tokio::test]
async fn the_checker_finds_a_holder_that_does_not_check_whose_znode_it_holds() {
    let server = server().await;
    let relay = Relay::start(server.addr()).await;
    let one = client(relay.connect_string()).await;
    let two = client(server.connect_string()).await;
    let history = History::default();
    let mine = one
        .create("/lock/lock-", "")
        .ephemeral()
        .sequential()
        .protected()
        .container_parents()
        .await
        .unwrap();
    let (session, token) = (
        one.session_id().unwrap(),
        FencingToken::from(mine.stat.czxid),
    );
    let believed = history.enter(0, session, token, 1);
    relay.swallow(true);
    let guard = Mutex::new(&two, "/lock").acquire().await.unwrap();
    let held = history.enter(1, guard.session(), guard.token(), 1);
    drop((held, believed));
    assert_eq!(history.faults(1).len(), 1);
}

#[tokio::test]
async fn the_checker_finds_a_contender_that_waits_for_the_wrong_one() {
    let server = server().await;
    let one = client(server.connect_string()).await;
    let naming = Naming::new(Layout::Curator, "lock-", &[]);
    let contention = Contention::new(&one, "/lock", naming);
    let history = History::default();
    let mut holding = Vec::new();
    let mut contenders = Vec::new();
    for holder in 0..2 {
        let contender = contention.enter("").await.unwrap();
        contender.wait(|_, own| own.checked_sub(2)).await.unwrap();
        let (session, token) = (contender.session(), contender.token());
        holding.push(history.enter(holder, session, token, 1));
        contenders.push(contender);
    }
    drop(holding);
    assert_eq!(history.faults(1).len(), 1);
}

#[tokio::test]
async fn the_checker_finds_a_token_that_is_a_sequence_number() {
    let server = server().await;
    let one = client(server.connect_string()).await;
    let (by_number, by_czxid) = (History::default(), History::default());
    for holder in 0..2 {
        let guard = Mutex::new(&one, "/lock").acquire().await.unwrap();
        let number: i64 = guard.path().rsplit('-').next().unwrap().parse().unwrap();
        drop(by_number.enter(holder, guard.session(), FencingToken::from(number), 1));
        drop(by_czxid.enter(holder, guard.session(), guard.token(), 1));
        guard.release().await.unwrap();
        // As the server does with a container that is empty: the numbers start again.
        one.delete("/lock").await.unwrap();
    }
    assert_eq!(by_number.faults(1).len(), 1);
    assert_eq!(by_czxid.faults(1), Vec::<String>::new());
}
