//! A process that is killed under load, again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use quorate_proto::CreateMode;
use quorate_server::testing::wire::{ConnectOptions, Handshake, WireClient};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::journal::{Ack, Fault, Journal, Op, World};
use crate::load::{Worker, number_of, observe, read_all};
use crate::support::Process;

const KILLS: usize = 100;
const WORKERS: usize = 4;
/// Rounds that share a parent of sequential znodes, so that numbers go on over kills.
const ROUNDS_PER_PARENT: usize = 10;

/// A configuration that meets snapshots, new segments and purges all the time.
fn configure(dir: &Path) -> Vec<String> {
    let file = dir.join("zoo.cfg");
    let data = dir.join("data");
    let text = format!(
        "dataDir={}\nclientPort=2181\nmaxClientCnxns=0\nsnapCount=300\n\
         maxSessionTimeout=600000\nautopurge.snapRetainCount=3\n",
        data.display()
    );
    std::fs::write(&file, text).unwrap();
    vec!["--config".into(), file.display().to_string()]
}

fn long() -> ConnectOptions {
    ConnectOptions::with_timeout_ms(600_000)
}

/// What must be there for ever: what each worker had written in each round.
type Settled = BTreeMap<String, World>;

/// The sequential znodes under one parent.
#[derive(Default)]
struct Numbers {
    /// What is known to be there, by number.
    there: BTreeMap<i32, String>,
    /// Every number ever seen or acknowledged, with what it was given to.
    given: BTreeMap<i32, String>,
}

struct Run {
    rng: StdRng,
    /// The workers' sessions, which live through every kill.
    sessions: Vec<ConnectOptions>,
    settled: Settled,
    numbers: Numbers,
    highest_zxid: i64,
    acknowledged: usize,
    in_flight: usize,
    came_anyway: usize,
}

fn root(round: usize, worker: usize) -> String {
    format!("/r{round}-{worker}")
}

fn parent(round: usize) -> String {
    format!("/numbers{}", round / ROUNDS_PER_PARENT)
}

impl Run {
    /// Puts the server under load and kills it; the journals of the workers.
    async fn load(&mut self, server: Process, round: usize) -> (Vec<Journal>, Visitors) {
        let mut first = WireClient::open_with(server.addr, &long()).await;
        let parent = parent(round);
        if round.is_multiple_of(ROUNDS_PER_PARENT) {
            first.create(&parent, b"").await.unwrap();
            self.numbers = Numbers::default();
        }
        let zxid = first.last_header().zxid.0;
        first.close_session().await.unwrap();
        self.see(zxid);
        let mut visitors = Visitors::come(&server, round).await;

        let (acked, mut watching) = watch::channel(0);
        let mut workers = JoinSet::new();
        for worker in 0..WORKERS {
            let client = WireClient::open_with(server.addr, &self.sessions[worker]).await;
            let shared = format!("{parent}/n-");
            let load = Worker::new(client, root(round, worker), shared, self.rng.random());
            let acked = acked.clone();
            workers.spawn(async move { (worker, load.run(usize::MAX, acked).await.journal) });
        }
        let target = self.rng.random_range(1..300);
        visitors.first_goes().await;
        watching.wait_for(|acked| *acked >= target).await.unwrap();
        visitors.second_goes_without_waiting().await;
        let moment = Duration::from_micros(self.rng.random_range(0..3_000));
        tokio::time::sleep(moment).await;
        let said = tokio::task::spawn_blocking(|| server.kill()).await.unwrap();
        let warned: Vec<_> = said.iter().filter(|line| line.contains("ERROR")).collect();
        assert!(warned.is_empty(), "{warned:?}");
        let mut journals = vec![Journal::default(); WORKERS];
        while let Some(done) = workers.join_next().await {
            let (worker, journal) = done.unwrap();
            journals[worker] = journal;
        }
        (journals, visitors)
    }

    /// Compares what a new process serves with what the journals promise.
    async fn check(&mut self, server: &Process, round: usize, journals: &[Journal]) {
        let mut client = WireClient::open_with(server.addr, &self.sessions[0]).await;
        let _ = client.exists("/", false).await.unwrap();
        let highest = journals.iter().flat_map(|journal| journal.acks.last());
        let highest = highest.map(|ack| ack.zxid).max().unwrap_or(0);
        self.see(highest);
        let zxid = client.last_header().zxid.0;
        assert!(zxid >= highest, "{zxid:#x} after {highest:#x}");
        self.see(zxid);

        let numbers = self.new_numbers(&mut client, round, journals).await;
        for (worker, journal) in journals.iter().enumerate() {
            let root = root(round, worker);
            let there = look(&mut client, &root, &numbers).await;
            let requests = judge(journal, &there).unwrap_or_else(|fault| {
                panic!("round {round}, worker {worker}: {fault}");
            });
            self.acknowledged += journal.acks.len();
            self.in_flight += journal.ops.len() - journal.acks.len();
            self.came_anyway += requests - journal.acks.len();
            self.settled.insert(root, there);
        }
        // And one of the older ones, as it was.
        let older = root(self.rng.random_range(0..=round), 0);
        self.check_settled(&mut client, &older).await;
    }

    async fn check_settled(&self, client: &mut WireClient, root: &str) {
        let there = observe(client, root).await;
        assert_eq!(there.nodes, self.settled[root].nodes, "{root} has changed");
    }

    /// The sequential znodes that came since the last look, data to number. Those that were
    /// there are still there, unless a journal says so, and no number was given twice.
    async fn new_numbers(
        &mut self,
        client: &mut WireClient,
        round: usize,
        journals: &[Journal],
    ) -> BTreeMap<String, Option<i32>> {
        let parent = parent(round);
        let names = client.get_children(&parent, false).await.unwrap();
        let there: BTreeSet<i32> = names.iter().map(|name| number_of(name)).collect();
        assert_eq!(there.len(), names.len(), "{names:?}");
        let old = &self.numbers.there;
        for number in old.keys() {
            assert!(there.contains(number), "number {number} is lost");
        }
        let before = self
            .numbers
            .given
            .last_key_value()
            .map_or(-1, |last| *last.0);
        let new = names
            .iter()
            .filter(|name| !old.contains_key(&number_of(name)));
        let paths: Vec<String> = new.map(|name| format!("{parent}/{name}")).collect();
        let mut found = BTreeMap::new();
        for (path, (data, _)) in read_all(client, &paths).await {
            let number = number_of(&path);
            assert!(number > before, "{number} again, after {before}");
            found.insert(data.clone(), Some(number));
            self.numbers.there.insert(number, data.clone());
            self.numbers.given.insert(number, data);
        }
        for journal in journals {
            for (op, ack) in journal.ops.iter().zip(&journal.acks) {
                if let (Op::Number { data }, Some(number)) = (op, ack.number) {
                    assert!(number > before, "{number} again, after {before}");
                    let other = self.numbers.given.insert(number, data.clone());
                    let same = other.is_none_or(|other| other == *data);
                    assert!(same, "number {number} was given twice");
                }
            }
        }
        found
    }

    fn see(&mut self, zxid: i64) {
        self.highest_zxid = self.highest_zxid.max(zxid);
    }
}

/// What a worker wrote, its numbers included.
async fn look(
    client: &mut WireClient,
    root: &str,
    numbers: &BTreeMap<String, Option<i32>>,
) -> World {
    let mut there = observe(client, root).await;
    let prefix = format!("{root}/");
    let own = numbers.iter().filter(|(data, _)| data.starts_with(&prefix));
    there.numbers = own.map(|(data, number)| (data.clone(), *number)).collect();
    there
}

fn judge(journal: &Journal, there: &World) -> Result<usize, Fault> {
    journal.judge(there)
}

/// Sessions that come and go: one is closed before the kill, one while it happens, one stays.
struct Visitors {
    clients: Vec<WireClient>,
    options: Vec<ConnectOptions>,
    paths: Vec<String>,
}

impl Visitors {
    async fn come(server: &Process, round: usize) -> Visitors {
        let mut visitors = Visitors {
            clients: Vec::new(),
            options: Vec::new(),
            paths: Vec::new(),
        };
        for n in 0..3 {
            let mut client = WireClient::open_with(server.addr, &long()).await;
            let path = format!("/visitor{round}-{n}");
            let created = client.create_mode(&path, b"", CreateMode::Ephemeral).await;
            created.unwrap();
            visitors.options.push(client.reattach());
            visitors.clients.push(client);
            visitors.paths.push(path);
        }
        visitors
    }

    async fn first_goes(&mut self) {
        self.clients[0].close_session().await.unwrap();
    }

    async fn second_goes_without_waiting(&mut self) {
        let request = quorate_proto::Request::CloseSession;
        self.clients[1].submit(&request).await;
    }

    /// A session and its ephemeral are there together, or gone together.
    async fn check(&self, server: &Process) {
        let mut reader = WireClient::open_with(server.addr, &long()).await;
        for (n, (options, path)) in self.options.iter().zip(&self.paths).enumerate() {
            let there = reader.exists(path, false).await.is_ok();
            let (mut client, handshake) = WireClient::connect(server.addr, options).await;
            let attached = matches!(handshake, Handshake::Accepted { .. });
            assert_eq!(attached, there, "{path}: {handshake:?}");
            assert!(n != 0 || !there, "{path} outlived its session");
            assert!(n != 2 || there, "{path} is lost, and its session lives");
            if attached {
                client.close_session().await.unwrap();
                assert!(reader.exists(path, false).await.is_err());
            }
        }
        reader.close_session().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills_under_load_lose_nothing_acknowledged() {
    let seed = crate::seed();
    eprintln!("QUORATE_SEED={seed}");
    let dir = TempDir::new().unwrap();
    let args = configure(dir.path());
    let mut server = Process::start(&args);
    let mut run = Run {
        rng: StdRng::seed_from_u64(seed),
        sessions: Vec::new(),
        settled: Settled::new(),
        numbers: Numbers::default(),
        highest_zxid: 0,
        acknowledged: 0,
        in_flight: 0,
        came_anyway: 0,
    };
    for _ in 0..WORKERS {
        let client = WireClient::open_with(server.addr, &long()).await;
        run.sessions.push(client.reattach());
    }
    for round in 0..KILLS {
        let (journals, visitors) = run.load(server, round).await;
        server = Process::start(&args);
        run.check(&server, round, &journals).await;
        visitors.check(&server).await;
    }
    // Everything that any round left is still as it was, to the last kill.
    let mut client = WireClient::open_with(server.addr, &run.sessions[0]).await;
    for root in run.settled.keys() {
        run.check_settled(&mut client, root).await;
    }
    client.create("/after", b"").await.unwrap();
    let zxid = client.last_header().zxid.0;
    assert!(zxid > run.highest_zxid);
    eprintln!(
        "{KILLS} kills: {} acknowledged, {} in flight, {} of these took effect; zxid {zxid:#x}",
        run.acknowledged, run.in_flight, run.came_anyway
    );
    assert!(run.acknowledged > KILLS, "the load was no load");
}

/// The check above can fail: what was never acknowledged is missed.
#[tokio::test]
async fn a_fabricated_acknowledgement_is_missed_after_a_kill() {
    let dir = TempDir::new().unwrap();
    let args = configure(dir.path());
    let server = Process::start(&args);
    let mut client = WireClient::open_with(server.addr, &long()).await;
    client.create("/numbers", b"").await.unwrap();
    let options = client.reattach();
    let worker = Worker::new(client, "/r0-0".into(), "/numbers/n-".into(), 1);
    let (_client, mut journal) = worker.run(20, watch::channel(0).0).await.into_client();
    server.kill();
    let server = Process::start(&args);
    let mut client = WireClient::open_with(server.addr, &options).await;
    let mut there = observe(&mut client, "/r0-0").await;
    there.numbers = journal.settled(20).numbers;
    assert_eq!(journal.judge(&there), Ok(20));
    journal.ops.push(Op::Create {
        path: "/r0-0/never".into(),
        data: String::new(),
        owner: 0,
    });
    assert_eq!(journal.judge(&there), Ok(20), "it may be in flight");
    journal.acks.push(Ack {
        zxid: i64::MAX,
        number: None,
    });
    let fault = journal.judge(&there).unwrap_err();
    assert!(matches!(fault, Fault::Lost { request: 20, .. }), "{fault}");
}
