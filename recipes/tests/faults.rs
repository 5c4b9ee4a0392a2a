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

use history::{BEGINS_WITHIN, History, Hold, Holding, Kill};
use quorate_recipes::client::SessionId;
use quorate_recipes::election::{LeaderLatch, LeaderSelector};
use quorate_recipes::lock::{LockGuard, Mutex, RwLock, Semaphore};
use quorate_recipes::{Client, Contention, FencingToken, Layout, Naming, Result};
use quorate_server::testing::TestServer;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use relay::Relay;
use tokio::time::{Instant, sleep, timeout};
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

/// Ends a session by force, unless it has ended by itself.
async fn kill(server: &TestServer, session: SessionId, history: &History) {
    let asked = Instant::now();
    if server.expire_session(session).await.is_ok() {
        history.killed(Kill {
            session,
            asked,
            done: Instant::now(),
            timeout: SESSION,
        });
    }
}

/// How many holds there were, and how many of them are excused.
async fn run(kind: Kind, seed: u64, steps: usize) -> (usize, usize) {
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
                    kill(&server, session, &history).await;
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
    history.excused()
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
        let excused = futures::future::join_all(runs).await;
        eprintln!("(holds, excused): {excused:?}");
    }
}

/// Its turn had come, so that no more than the proof of its session stands before its claim.
#[tokio::test]
async fn a_killed_contender_claims_nothing_once_it_could_know() {
    let server = server().await;
    for is_cut_off in [false, true] {
        let relay = Relay::start(server.addr()).await;
        let one = client(relay.connect_string()).await;
        let naming = Naming::new(Layout::Curator, "lock-", &[]);
        let contender = Contention::new(&one, "/lock", naming).enter("").await;
        let contender = contender.unwrap();
        contender.wait(|_, own| own.checked_sub(1)).await.unwrap();
        relay.swallow(is_cut_off);
        server.expire_session(contender.session()).await.unwrap();
        let knows = timeout(SESSION + BEGINS_WITHIN, contender.lost()).await;
        assert!(knows.is_ok(), "cut off: {is_cut_off}");
        let claim = timeout(PATIENCE, contender.prove()).await.unwrap();
        assert!(claim.is_err(), "cut off: {is_cut_off}");
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

/// What one who was killed may still do, and until when: (from, to, token of the killed one, which
/// has the second place in line; how often that is a fault), in milliseconds after the kill.
#[tokio::test]
async fn the_checker_excuses_a_killed_holder_only_while_it_cannot_know() {
    let killed_at = Instant::now() + SESSION;
    let at = |ms: i64| match u64::try_from(ms) {
        Ok(ms) => killed_at + Duration::from_millis(ms),
        Err(_) => killed_at - Duration::from_millis(ms.unsigned_abs()),
    };
    let begins_by = i64::try_from(BEGINS_WITHIN.as_millis()).unwrap();
    let table = [
        ("it held before", -20, 30, 2, false),
        ("its turn had come", 15, 40, 2, false),
        ("black-holed until its trust lapses", 15, 980, 2, false),
        ("it holds when its trust has lapsed", -20, 1_400, 2, true),
        (
            "it begins when it must know",
            begins_by + 2,
            begins_by + 3,
            2,
            true,
        ),
        ("its token is not behind the next one's", 15, 40, 4, true),
        ("its token is that of one before", 15, 40, 1, true),
        ("it begins while another holds", -90, 30, 2, true),
    ];
    for (case, from, to, token, is_fault) in table {
        let history = History::default();
        let (killed, other) = (SessionId(1), SessionId(2));
        let mut holds = vec![
            (other, 1, -100, -80),
            (killed, token, from, to),
            (other, 3, 10, 50),
            (other, 5, 60, 70),
        ];
        holds.sort_by_key(|&(_, _, from, _)| from);
        for (session, token, from, to) in holds {
            history.held(Hold {
                holder: 0,
                session,
                token,
                weight: 1,
                start: at(from),
                end: Some(at(to)),
            });
        }
        history.killed(Kill {
            session: killed,
            asked: at(0),
            done: at(1),
            timeout: SESSION,
        });
        let faults = history.faults(1);
        assert_eq!(!faults.is_empty(), is_fault, "{case}: {faults:#?}");
        assert_eq!(history.excused(), (4, 1), "{case}");
        let tells_kills = faults.last().is_none_or(|fault| fault.contains("killed:"));
        assert!(tells_kills, "{case}: {faults:#?}");
    }
}

#[tokio::test]
async fn the_checker_finds_a_history_that_is_mostly_excuses() {
    let history = History::default();
    let asked = Instant::now();
    for session in 1..=3 {
        drop(history.enter(0, SessionId(session), FencingToken::from(session), 1));
        if session > 1 {
            history.killed(Kill {
                session: SessionId(session),
                asked,
                done: Instant::now(),
                timeout: SESSION,
            });
        }
    }
    assert_eq!(history.excused(), (3, 2));
    let faults = history.faults(1);
    assert!(
        faults.iter().any(|fault| fault.contains("2 of 3")),
        "{faults:#?}"
    );
}
