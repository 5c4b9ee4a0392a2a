//! One seeded run: clients at work, an ensemble that is broken and mended, then the judgement.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use quorate_client::{Client, Error, NoRetry, Outcome, SessionId, SessionState};
use quorate_server::testing::TestCluster;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::history::{self, Call, Final, PAIR, Time, Told, Version, What};
use crate::nemesis::{Fault, Nemesis};

/// Workers of a run; each is one client with one session at a time.
const WORKERS: usize = 6;
const REGISTERS: [&str; 2] = ["/register-a", "/register-b"];
const COUNTERS: [&str; 2] = ["/counter-a", "/counter-b"];
const PARENT: &str = "/sequence";
const ALIVE: &str = "/alive";
/// What the workers ask for.
const SESSION: Duration = Duration::from_secs(2);
/// How long a healed ensemble may take until every client is served again.
const RECOVERY: Duration = Duration::from_secs(60);

/// Shared by all workers.
struct Board {
    began: Instant,
    calls: Mutex<Vec<Call>>,
    /// What was seen while it happened, and cannot be.
    seen: Mutex<Vec<String>>,
    /// Each worker's ephemeral, with the client of its session.
    alive: Mutex<BTreeMap<usize, (i64, Client)>>,
    over: AtomicBool,
}

impl Board {
    fn now(&self) -> Time {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// What a run came to.
pub(crate) struct Report {
    pub(crate) calls: usize,
    pub(crate) acknowledged: usize,
    pub(crate) unknown: usize,
    pub(crate) faults: Vec<Fault>,
}

/// What is done beside the faults, which no seed draws.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extra {
    Nothing,
    /// A follower stands still for a moment; with `expire`, sessions end meanwhile that nobody
    /// may end.
    Standstill {
        expire: bool,
    },
    /// In the end, when all calls were answered, the power of all servers fails at once.
    PowerFailureOfAll,
}

/// Runs one seed to its end. An error says what was broken.
pub(crate) async fn run(
    cluster: &mut TestCluster,
    seed: u64,
    steps: usize,
    extra: Extra,
) -> Result<Report, String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let servers = cluster.connect_string();
    let setup = connect(&servers).await;
    for key in REGISTERS.iter().chain(&PAIR) {
        setup.create(key, "").await.expect("set up");
    }
    for key in COUNTERS {
        setup.create(key, "0").await.expect("set up");
    }
    for parent in [PARENT, ALIVE] {
        setup.create(parent, "").await.expect("set up");
    }
    let board = Arc::new(Board {
        began: Instant::now(),
        calls: Mutex::default(),
        seen: Mutex::default(),
        alive: Mutex::default(),
        over: AtomicBool::new(false),
    });
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let client = connect(&servers).await;
        let rng = StdRng::seed_from_u64(seed ^ (worker as u64 + 1) << 32);
        workers.spawn(work(worker, client, board.clone(), rng));
    }
    // Whoever follows a value must end on the last one, whatever happened in between.
    let follower = connect(&servers).await;
    let latest = Arc::new(Mutex::new(None));
    let (following, shown) = (follower.clone(), latest.clone());
    let mut follow = JoinSet::new();
    follow.spawn(async move {
        use futures::StreamExt as _;
        let mut values = following.follow(REGISTERS[0]);
        while let Some(value) = values.next().await {
            if let Ok(Some(node)) = value {
                *shown.lock() = Some((node.stat.version, node.stat.mzxid));
            }
        }
    });

    let mut nemesis = Nemesis::new(cluster.servers(), &mut rng);
    let mut faults = Vec::new();
    for _ in 0..steps {
        faults.push(nemesis.step(cluster, &mut rng).await);
        sleep(Duration::from_millis(rng.random_range(100..900))).await;
    }
    if let Extra::Standstill { expire } = extra {
        standstill(cluster, &board, expire).await;
    }
    nemesis.mend(cluster).await;
    cluster.serving(&cluster.servers()).await;
    // A moment of work on a healthy ensemble: everybody must get through.
    let reached = board.calls.lock().len();
    let progress = async {
        while board.calls.lock().len() < reached + WORKERS * 5 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(RECOVERY, progress).await.is_err() {
        return Err(format!("no progress for {RECOVERY:?} after all was mended"));
    }
    board.over.store(true, Ordering::SeqCst);
    let finished = async { while workers.join_next().await.is_some() {} };
    if timeout(RECOVERY, finished).await.is_err() {
        return Err("a call did not end after all was mended".into());
    }
    cluster.converged().await;

    let mut last = look_until_seen(&setup).await?;
    let newest = last
        .nodes
        .get(REGISTERS[0])
        .map(|(_, at)| (at.version, at.mzxid));
    let caught_up = async {
        while *latest.lock() != newest {
            sleep(Duration::from_millis(20)).await;
        }
    };
    if timeout(RECOVERY, caught_up).await.is_err() {
        let shown = *latest.lock();
        return Err(format!("a follower shows {shown:x?}, it is {newest:x?}"));
    }
    follow.abort_all();
    if let Some(seen) = board.seen.lock().first() {
        return Err(seen.clone());
    }
    if extra == Extra::PowerFailureOfAll {
        cluster.power_failure_of_all(seed).await?;
        cluster.converged().await;
        // The others may have seen more than there is, and would not be served.
        let fresh = connect(&servers).await;
        last = look_until_seen(&fresh).await?;
    }
    let calls = std::mem::take(&mut *board.calls.lock());
    history::check(&calls, &last).map_err(|violation| violation.to_string())?;
    board.alive.lock().clear();
    no_ephemerals(&setup).await?;
    let told = |done| move |call: &&Call| is_told(&call.what) == Some(done);
    Ok(Report {
        calls: calls.len(),
        acknowledged: calls.iter().filter(told(true)).count(),
        unknown: calls.iter().filter(told(false)).count(),
        faults,
    })
}

/// Clients of a server that stands still trust their sessions for a while, and learn nothing.
async fn standstill(cluster: &mut TestCluster, board: &Board, expire: bool) {
    // Everybody has its ephemeral by then.
    while board.alive.lock().len() < WORKERS {
        sleep(Duration::from_millis(10)).await;
    }
    let leader = cluster.leader().await;
    let Some(still) = cluster.servers().into_iter().find(|&id| id != leader) else {
        return;
    };
    cluster.pause(still);
    if expire {
        let sessions: Vec<i64> = board.alive.lock().values().map(|known| known.0).collect();
        for session in sessions {
            let _ = cluster.expire(SessionId(session)).await;
        }
    }
    sleep(SESSION / 2).await;
    cluster.resume(still);
}

/// Whether a write was acknowledged; `None` for reads.
fn is_told(what: &What) -> Option<bool> {
    Some(match what {
        What::Set { told, .. } | What::Raise { told, .. } => matches!(told, Told::Done(_)),
        What::Sequential { told, .. } => matches!(told, Told::Done(_)),
        What::Pair { told, .. } => matches!(told, Told::Done(_)),
        What::Read { .. } => return None,
    })
}

async fn connect(servers: &str) -> Client {
    let client = Client::builder(servers)
        .session_timeout(SESSION)
        .connect_timeout(RECOVERY)
        .operation_timeout(Duration::from_secs(20))
        .new_session_on_loss(true)
        .retry(NoRetry)
        .connect();
    client
        .await
        .expect("a client of a healthy ensemble connects")
}

/// All sessions of the workers are closed: nothing of them is left.
async fn no_ephemerals(client: &Client) -> Result<(), String> {
    let gone = async {
        loop {
            if let Ok((children, _)) = client.children(ALIVE).await
                && children.is_empty()
            {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    let left = || format!("ephemerals are left {RECOVERY:?} after their sessions ended");
    timeout(RECOVERY, gone).await.map_err(|_| left())
}

/// The session of whoever looks may have been lost on the way here: then it has another.
async fn look_until_seen(client: &Client) -> Result<Final, String> {
    let mut attempts = 0;
    loop {
        match look(client).await {
            Ok(last) => return Ok(last),
            Err(error) if attempts == 50 => return Err(format!("at the end: {error}")),
            Err(_) => attempts += 1,
        }
        sleep(Duration::from_millis(100)).await;
    }
}

async fn look(client: &Client) -> Result<Final, Error> {
    let mut last = Final::default();
    client.sync("/").await?;
    for key in REGISTERS.iter().chain(&COUNTERS).chain(&PAIR) {
        // What is gone is for the checker to judge.
        if let Some(node) = unless_gone(client.get(key).await)? {
            last.nodes.insert((*key).into(), seen(&node));
        }
    }
    let children = last.children.entry(PARENT.into()).or_default();
    let listed = unless_gone(client.children(PARENT).await)?;
    let mut names = listed.map(|(names, _)| names).unwrap_or_default();
    names.sort();
    for name in names {
        let node = client.get(format!("{PARENT}/{name}")).await?;
        let mark = String::from_utf8_lossy(&node.data).into_owned();
        children.insert(name, (mark, node.stat.czxid));
    }
    Ok(last)
}

fn unless_gone<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.is_no_node() => Ok(None),
        Err(error) => Err(error),
    }
}

fn seen(node: &quorate_client::Node) -> (String, Version) {
    let value = String::from_utf8_lossy(&node.data).into_owned();
    (value, version(&node.stat))
}

fn version(stat: &quorate_client::Stat) -> Version {
    Version {
        version: stat.version,
        mzxid: stat.mzxid,
    }
}

/// `None`: it surely had no effect, and is no part of the history.
fn told<T>(result: Result<T, Error>) -> Option<Told<T>> {
    match result {
        Ok(done) => Some(Told::Done(done)),
        Err(error) if error.outcome() == Outcome::DidNotHappen => None,
        Err(_) => Some(Told::Unknown),
    }
}

async fn work(worker: usize, client: Client, board: Arc<Board>, mut rng: StdRng) {
    let mut number = 0;
    let mut alive_in = None;
    while !board.over.load(Ordering::SeqCst) {
        number += 1;
        if client.connected().await.is_err() {
            break;
        }
        let session = client.pinned();
        let Some(id) = session.session_id() else {
            sleep(Duration::from_millis(5)).await;
            continue;
        };
        if alive_in != Some(id) {
            let path = format!("{ALIVE}/{worker}-{:x}", id.0);
            if session.create(&path, "").ephemeral().await.is_ok() {
                alive_in = Some(id);
                board.alive.lock().insert(worker, (id.0, session.clone()));
            }
        }
        let began = board.now();
        let mark = format!("{worker}-{number}");
        let what = call(&session, &board, &mut rng, mark).await;
        let ended = board.now();
        if let Some(what) = what {
            let session = id.0;
            board.calls.lock().push(Call {
                session,
                began,
                ended,
                what,
            });
        } else {
            sleep(Duration::from_millis(10)).await;
        }
    }
    board.alive.lock().remove(&worker);
    let _ = timeout(RECOVERY, client.close()).await;
}

/// One call of a worker, if it belongs into the history.
async fn call(client: &Client, board: &Board, rng: &mut StdRng, mark: String) -> Option<What> {
    let key = REGISTERS[rng.random_range(0..REGISTERS.len())].to_owned();
    match rng.random_range(0..100) {
        0..25 => {
            let set = client.set(&key, mark.clone()).await;
            let told = told(set.map(|stat| version(&stat)))?;
            let value = mark;
            Some(What::Set { key, value, told })
        }
        25..40 => {
            let key = COUNTERS[rng.random_range(0..COUNTERS.len())].to_owned();
            let node = client.get(&key).await.ok()?;
            let expected = node.stat.version;
            let raised = (expected + 1).to_string();
            let set = client.set(&key, raised).version(expected).await;
            let told = told(set.map(|stat| version(&stat)))?;
            Some(What::Raise {
                key,
                expected,
                told,
            })
        }
        40..55 => {
            let create = client
                .create(format!("{PARENT}/n-"), mark.clone())
                .sequential()
                .await;
            let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
            let told = told(create.map(|made| (name(&made.path), made.stat.czxid)))?;
            let parent = PARENT.to_owned();
            Some(What::Sequential { parent, mark, told })
        }
        55..65 => {
            let multi = client
                .multi()
                .set(PAIR[0], mark.clone())
                .set(PAIR[1], mark.clone())
                .await;
            let zxid = |results: Vec<quorate_client::OpResult>| match results.first() {
                Some(quorate_client::OpResult::Set(stat)) => stat.mzxid,
                _ => 0,
            };
            let told = told(multi.map(zxid))?;
            Some(What::Pair { value: mark, told })
        }
        65..80 => {
            client.sync(&key).await.ok()?;
            let saw = seen(&client.get(&key).await.ok()?);
            let synced = true;
            Some(What::Read { key, synced, saw })
        }
        80..95 => {
            let saw = seen(&client.get(&key).await.ok()?);
            let synced = false;
            Some(What::Read { key, synced, saw })
        }
        _ => {
            neighbours(client, board).await;
            None
        }
    }
}

/// Nobody's ephemeral is gone while its owner may believe in its session.
async fn neighbours(client: &Client, board: &Board) {
    let believed: Vec<_> = board.alive.lock().clone().into_iter().collect();
    if client.sync("/").await.is_err() {
        return;
    }
    let Ok((children, _)) = client.children(ALIVE).await else {
        return;
    };
    let now = Instant::now();
    for (worker, (session, owner)) in believed {
        let name = format!("{worker}-{session:x}");
        if children.contains(&name) {
            continue;
        }
        let until = owner.trusted_until();
        let alive = matches!(
            owner.state(),
            SessionState::Connected | SessionState::Suspended
        );
        let same = owner.session_id().is_some_and(|id| id.0 == session);
        let still = board.alive.lock().get(&worker).map(|known| known.0) == Some(session);
        if alive && same && still && until.is_some_and(|until| until > now) {
            let told = format!("session {session:#x} was closed while its client trusts it");
            board.seen.lock().push(told);
        }
    }
}
