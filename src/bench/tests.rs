//! Whole runs against the null server, in this process.

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;

use super::args::{BenchArgs, NullArgs, Preset, What};
use super::clock::Clock;
use super::drive::{self, Workload};
use super::error::BenchError;
use super::net::Net;
use super::record::{Recorder, Window};
use super::report::Measured;
use super::workload::{Pump, PumpPlan};
use super::{null, run};

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    bench: BenchArgs,
}

/// Starts a null server that lives until the process ends, and runs `line` against it.
fn measure(line: &str, args: &NullArgs) -> Result<Measured, BenchError> {
    let server = null::start(args)?;
    let line = format!(
        "bench {line} --server {} --warmup 50ms --duration 150ms",
        server.address()
    );
    std::thread::spawn(move || server.serve());
    let what = Cli::parse_from(line.split(' ')).bench.what;
    assert!(!matches!(what, What::NullServer(_)));
    run::measure(&what.plan())
}

fn in_memory() -> NullArgs {
    NullArgs {
        listen: "127.0.0.1:0".parse().unwrap(),
        fsync: None,
    }
}

/// Names of the series that have answers; there are no errors.
fn series(measured: &Measured) -> Vec<&'static str> {
    measured.verdict().unwrap();
    let series = measured.recorder.series.iter();
    let answered = series.filter(|series| !series.latencies.is_empty());
    answered.map(|series| series.name).collect()
}

#[test]
fn every_preset_without_state_runs_against_the_null_server() {
    for (line, expected) in [
        ("get", &["get"][..]),
        ("set -c 8 -d 4", &["set"]),
        ("mixed -c 2 -d 8 --read 50", &["read", "write"]),
        ("create -c 4 -d 2 --size 1024", &["create"]),
        ("ephemeral -c 4 -d 4", &["create", "delete"]),
        ("multi -c 2 -d 2", &["multi"]),
        ("children -c 2 -d 2", &["children"]),
        ("session-storm -c 4", &["open"]),
        ("session-storm --hold -c 20", &["open"]),
        ("get -c 6 -d 4 --threads 2", &["get"]),
    ] {
        let measured = measure(line, &in_memory()).unwrap();
        assert_eq!(series(&measured), expected, "{line}");
    }
}

#[test]
fn a_fill_makes_as_many_znodes_as_were_asked_for() {
    for threads in [1, 3] {
        let line = format!("fill --count 2500 -c 3 -d 16 --threads {threads}");
        let measured = measure(&line, &in_memory()).unwrap();
        measured.verdict().unwrap();
        assert_eq!(measured.recorder.series[0].latencies.len(), 2_500);
    }
}

#[test]
fn changes_are_answered_in_order_when_they_are_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let args = NullArgs {
        fsync: Some(dir.path().to_owned()),
        ..in_memory()
    };
    // The reads in between have to wait for the writes before them.
    let measured = measure("mixed -c 4 -d 16 --read 50", &args).unwrap();
    assert_eq!(series(&measured), ["read", "write"]);
}

#[test]
fn an_open_loop_sends_what_its_rate_says() {
    let measured = measure("get -c 4 --rate 2000", &in_memory()).unwrap();
    measured.verdict().unwrap();
    let answers = measured.recorder.series[0].latencies.len();
    // Exactly so many are due in 150 ms, but for the edges of the window.
    assert!((299..=301).contains(&answers), "{answers}");
}

/// The generator itself is late here: it wakes when the whole schedule is over. What it then sends
/// at once has been due for a second, and says so.
#[test]
fn an_open_loop_counts_from_when_a_request_should_have_left() {
    let server = null::start(&in_memory()).unwrap();
    let target = server.address();
    std::thread::spawn(move || server.serve());
    let clock = Clock::started_before(Duration::from_secs(1));
    let mut net = Net::new(&[target], Duration::from_secs(30), clock).unwrap();
    let conns = drive::open_all(&mut net, 2, 2).unwrap().conns;
    let window = Window {
        start: 0,
        end: 50_000_000,
    };
    let plan = PumpPlan {
        preset: Preset::Get,
        base: "/b",
        size: 100,
        keys: 10,
        depth: 4,
        rate: Some(1_000.0),
        thread: 0,
        threads: 1,
    };
    let recorder = Recorder::new(Pump::series(Preset::Get), window, Arc::default());
    let mut pump = Pump::new(&plan, recorder, conns).unwrap();
    pump.begin(&mut net, 0).unwrap();
    while !pump.finished(net.clock().now()) {
        let now = net.clock().now();
        pump.tick(&mut net, now).unwrap();
        net.turn(now + 1_000_000, &mut pump).unwrap();
    }
    let recorder = pump.into_recorder();
    let latencies = &recorder.series[0].latencies;
    assert_eq!(latencies.len(), 50);
    assert!(latencies.min() >= 949_000_000, "{}", latencies.min());
}

#[test]
fn a_server_that_is_not_there_is_said_so() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    let line = format!("bench get --server {address}");
    let plan = Cli::parse_from(line.split(' ')).bench.what.plan();
    let error = run::measure(&plan).unwrap_err();
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}
