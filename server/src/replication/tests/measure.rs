//! How fast, over the operating system's disk. Run with `--release -- --ignored --nocapture`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Condvar;

use super::*;
use crate::clock::SystemClock;

/// Counts outcomes and wakes whoever waits for one.
#[derive(Clone, Default)]
struct Counter {
    shared: Arc<(Mutex<u64>, Condvar)>,
    turn: u64,
    turns: Arc<AtomicU64>,
    session: Arc<Mutex<Option<SessionId>>>,
}

impl Deliver for Counter {
    fn change(&mut self, _: Zxid, _: EventType, _: &str, _: &[Acl]) {}
    fn outcome(&mut self, _: &Proposal<'_>, verdict: &Verdict) {
        self.turn += 1;
        if let Verdict::Opened { session, .. } = verdict {
            *self.session.lock() = Some(*session);
        }
    }
    fn turn_done(&mut self) {
        *self.shared.0.lock() += std::mem::take(&mut self.turn);
        self.turns.fetch_add(1, Ordering::Relaxed);
        self.shared.1.notify_all();
    }
    fn skipped(&mut self) {}
    fn lost(&mut self) {}
}

/// User and system time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split(' ').collect();
    let ticks: u64 = fields[12].parse::<u64>().unwrap() + fields[13].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "it measures the passing of time")]
fn writes_per_second() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    for depth in [1, 64, 1000] {
        let dir = tempfile::tempdir().unwrap();
        let config = Config {
            data_dir: dir.path().to_owned(),
            snap_count: 10_000_000,
            ..Config::default()
        };
        let counter = Counter::default();
        let deliver = counter.clone();
        let metrics = Arc::new(Metrics::default());
        let began = Instant::now();
        let replication = runtime
            .block_on(Replication::start(
                &config,
                Arc::new(crate::disk::real::RealDisk),
                SystemClock::shared(),
                metrics.clone(),
                |_| Box::new(deliver),
                Arc::new(NoJudge),
                None,
                runtime.handle().clone(),
            ))
            .unwrap();
        let ready = began.elapsed();
        let caller = CallerBuf::new(&[], false);
        let push = |origin, txn| {
            let caller = caller.as_caller();
            let proposal = Proposal {
                origin,
                caller,
                txn,
            };
            replication.queue().push(&proposal).unwrap();
        };
        let wait = |count: u64| {
            let mut done = counter.shared.0.lock();
            while *done < count {
                counter.shared.1.wait(&mut done);
            }
            *done
        };
        let ticket = Ticket {
            server: 1,
            boot: 1,
            count: 1,
        };
        push(
            Origin::default(),
            Txn::OpenSession {
                ticket,
                timeout_ms: 30_000,
            },
        );
        wait(1);
        let session = counter.session.lock().unwrap();
        let create = Create {
            path: "/a".into(),
            data: None,
            acl: Cow::Owned(Acl::open_unsafe()),
            kind: CreateKind::Persistent,
            sequential: false,
            enforce_quota: false,
            with_stat: false,
        };
        push(origin(session, 1), Txn::Op(Op::Create(create)));
        wait(2);
        let data = [7; 100];
        let (began, cpu_before) = (Instant::now(), cpu());
        let turns = counter.turns.load(Ordering::Relaxed);
        let syncs = metrics.fsync_ms.view().count;
        let (mut seq, mut done) = (1, 2);
        while began.elapsed() < Duration::from_secs(3) {
            while seq + 1 - done < depth {
                seq += 1;
                let set = Op::SetData {
                    path: "/a".into(),
                    data: Some(data.as_slice().into()),
                    version: Version::ANY,
                    enforce_quota: false,
                };
                push(origin(session, seq), Txn::Op(set));
            }
            done = wait(done + 1);
        }
        let (took, used) = (began.elapsed(), cpu() - cpu_before);
        let entries = counter.turns.load(Ordering::Relaxed) - turns;
        let syncs = metrics.fsync_ms.view().count - syncs;
        let rate = done as f64 / took.as_secs_f64();
        println!(
            "depth {depth:4}: ready {ready:?}, {rate:.0}/s, {:.2} us CPU each, {:.1} per entry, {:.0} syncs/s",
            used.as_secs_f64() * 1e6 / done as f64,
            done as f64 / entries as f64,
            syncs as f64 / took.as_secs_f64(),
        );
        runtime.block_on(replication.stop());
    }
}
