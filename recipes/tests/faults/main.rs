//! Under lost connections, ended sessions, silence, processes that stand still, and restarts nobody
//! holds what another holds, nobody waits for nothing, and nothing stays behind.
//!
//! Each worker is a process: a thread with a runtime of its own. One that stands still cannot let go
//! in time; what it does then is judged by its token, at a resource that takes no smaller token
//! after a larger one.
//!
//! `QUORATE_SEED` runs one seed again, `QUORATE_SEEDS` so many from it on.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "helper functions of tests"
)]

#[path = "../support/history.rs"]
mod history;
mod planted;
mod process;
#[path = "../support/relay.rs"]
#[expect(dead_code, reason = "requests are not counted here")]
mod relay;
mod worker;

use std::time::Duration;

use history::{History, Kill};
use process::{Process, pulse};
use quorate_recipes::Client;
use quorate_recipes::client::SessionId;
use quorate_server::testing::TestServer;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use relay::Relay;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use worker::{Kind, Worker};

const SESSION: Duration = Duration::from_millis(1_000);
const WORKERS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(20);

async fn server() -> TestServer {
    let builder = TestServer::builder().config(|config| {
        config.tick_time = SESSION / 5;
        config.min_session_timeout = SESSION / 5;
    });
    builder.start().await
}

async fn client(connect_string: String) -> Client {
    client_of(connect_string, SESSION).await
}

async fn client_of(connect_string: String, session: Duration) -> Client {
    Client::builder(connect_string)
        .session_timeout(session)
        .new_session_on_loss(true)
        .connect()
        .await
        .unwrap()
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

/// How many holds there were, how many of them are excused, and how many writes were refused.
async fn run(kind: Kind, seed: u64, steps: usize) -> (usize, usize, usize) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut server = server().await;
    let history = History::default();
    let stop = CancellationToken::new();
    let _pulse = AbortOnDropHandle::new(TaskTracker::new().spawn(pulse(None, history.clone())));
    let (mut relays, mut processes) = (Vec::new(), Vec::new());
    for number in 0..WORKERS {
        let relay = Relay::start(server.addr()).await;
        let seed = rng.random();
        let (work, stop) = (history.clone(), stop.clone());
        let work = move |client| {
            let rng = StdRng::seed_from_u64(seed);
            Worker::new(number, client, work, rng).work(kind, stop)
        };
        let process =
            Process::start(number, (relay.connect_string(), SESSION), &history, work).await;
        processes.push(process);
        relays.push(relay);
    }
    for _ in 0..steps {
        sleep(Duration::from_millis(rng.random_range(20..150))).await;
        let anybody = rng.random_range(0..WORKERS);
        // Whoever holds has the most to lose.
        let victim = match rng.random_bool(0.7) {
            true => history.holder().unwrap_or(anybody),
            false => anybody,
        };
        match rng.random_range(0..7) {
            0 | 1 => relays[victim].cut(),
            2 => {
                relays[victim].swallow(true);
                sleep(SESSION + Duration::from_millis(rng.random_range(0..600))).await;
                relays[victim].swallow(false);
            }
            3 => {
                if let Some(session) = processes[victim].client.session_id() {
                    kill(&server, session, &history).await;
                }
            }
            // Shorter than its session lives, or longer.
            4 | 5 => processes[victim].pause(Duration::from_millis(rng.random_range(100..1_800))),
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
    let over = async {
        while !processes.iter().all(Process::is_over) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, over).await.expect("workers stop");
    processes.into_iter().for_each(Process::join);
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
    let (holds, excused) = history.excused();
    (holds, excused, history.refused())
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[expect(clippy::print_stderr, reason = "a failing run says with which seed")]
async fn run_all(kinds: &[Kind]) {
    let first = from_environment("QUORATE_SEED").unwrap_or(1);
    let seeds = from_environment("QUORATE_SEEDS").unwrap_or(1);
    for seed in first..first + seeds {
        eprintln!("QUORATE_SEED={seed}");
        let runs = kinds.iter().map(|&kind| run(kind, seed, 8));
        let excused = futures::future::join_all(runs).await;
        eprintln!("{kinds:?} (holds, excused, refused): {excused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_held_is_held_by_one_whatever_breaks() {
    run_all(&[Kind::Mutex, Kind::RwLock, Kind::Semaphore]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_led_is_led_by_one_whatever_breaks() {
    run_all(&[Kind::Latch, Kind::Selector, Kind::KazooElection]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kazoos_layouts_hold_whatever_breaks() {
    run_all(&[Kind::KazooMutex, Kind::KazooRwLock, Kind::KazooSemaphore]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_made_of_locks_hold_whatever_breaks() {
    run_all(&[Kind::Reentrant, Kind::Multi, Kind::Revocable]).await;
}

/// A step that was answered is not undone by a cut: what a contender needs is a connection that
/// lasts for one request, again and again, while its session lives. Sessions that are shorter than
/// the pauses between dials end, and with them their places.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_cuts_starve_nobody() {
    let server = server().await;
    let (history, stop) = (History::default(), CancellationToken::new());
    let (mut relays, mut processes) = (Vec::new(), Vec::new());
    for number in 0..WORKERS {
        let relay = Relay::start(server.addr()).await;
        let (work, stop) = (history.clone(), stop.clone());
        let work = move |client| {
            let rng = StdRng::seed_from_u64(1);
            Worker::new(number, client, work, rng).work(Kind::Mutex, stop)
        };
        let process = Process::start(
            number,
            (relay.connect_string(), SESSION * 4),
            &history,
            work,
        )
        .await;
        processes.push(process);
        relays.push(relay);
    }
    let served = async {
        while !(0..WORKERS).all(|number| history.holds_of(number) > 0) {
            relays.iter().for_each(Relay::cut);
            sleep(Duration::from_millis(15)).await;
        }
    };
    let served = timeout(PATIENCE, served).await;
    let holds: Vec<usize> = (0..WORKERS).map(|n| history.holds_of(n)).collect();
    stop.cancel();
    assert!(served.is_ok(), "starved: {holds:?}");
    assert_eq!(history.faults(1), Vec::<String>::new());
    processes.into_iter().for_each(Process::join);
}
