//! The examples as processes: each ends by itself, and what it prints is what its first lines promise.
//!
//! `cargo test` builds them beside the tests. With `--test examples` alone, `cargo build --examples`
//! comes first.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world should fail"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How long one may take on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(120);

fn example(name: &str) -> Command {
    // target/debug/deps/examples-1234 → target/debug/examples/NAME
    let own = std::env::current_exe().unwrap();
    let target = own.ancestors().nth(2).unwrap();
    let path: PathBuf = target.join("examples").join(name);
    assert!(
        path.exists(),
        "{} is missing: cargo build --examples",
        path.display()
    );
    let mut command = Command::new(path);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// Dropped, it is killed.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs an example to its end, and returns what it printed without the times.
fn run(name: &str) -> Vec<String> {
    let mut running = Running(example(name).spawn().unwrap());
    let mut out = running.0.stdout.take().unwrap();
    let (read, text) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        let _ = read.send(text);
    });
    let text = text.recv_timeout(PATIENCE);
    let text = text.unwrap_or_else(|_| panic!("{name} did not end in {PATIENCE:?}"));
    let status = running.0.wait().unwrap();
    assert!(status.success(), "{name} ended with {status}:\n{text}");
    text.lines().map(said).collect()
}

/// `  0.12 s  anna      has the lock` → `anna: has the lock`. Other lines stay.
fn said(line: &str) -> String {
    let timed = line
        .split_once(" s  ")
        .filter(|(time, _)| time.trim().parse::<f64>().is_ok());
    match timed.and_then(|(_, spoken)| spoken.split_once(' ')) {
        Some((who, what)) => format!("{who}: {}", what.trim_start()),
        None => line.to_owned(),
    }
}

fn count(lines: &[String], part: &str) -> usize {
    lines.iter().filter(|line| line.contains(part)).count()
}

/// The number behind `token` in a line.
fn token(line: &str) -> Option<i64> {
    let (_, rest) = line.split_once("token ")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[test]
fn lock_lets_one_work_at_a_time_and_tokens_grow() {
    let lines = run("lock");
    let held: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("has the lock"))
        .collect();
    assert_eq!(held.len(), 9, "{lines:#?}");
    for (at, line) in held.iter().enumerate() {
        assert!(line.ends_with(&format!("writes {}", at + 1)), "{lines:#?}");
    }
    assert!(held.iter().map(|line| token(line).unwrap()).is_sorted());
    for name in ["anna", "bert", "cleo"] {
        assert_eq!(count(&lines, &format!("{name}: has the lock")), 3);
    }
    assert_eq!(count(&lines, "9 of 9 additions are there"), 1, "{lines:#?}");
}

#[tokio::test]
async fn lock_is_held_by_one_of_two_processes_and_passes_on_when_that_is_killed() {
    let server = quorate_server::testing::TestServer::builder()
        .config(|config| {
            config.tick_time = Duration::from_millis(100);
            config.min_session_timeout = Duration::from_millis(200);
        })
        .start()
        .await;
    let start = |name: &str| {
        let mut command = example("lock");
        command
            .args([&server.connect_string(), name])
            .stdin(Stdio::piped());
        let mut running = Running(command.spawn().unwrap());
        let lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
        (running, lines)
    };
    let (anna, mut lines) = start("anna");
    let first = lines.find_map(|line| token(&line.unwrap())).unwrap();
    let (mut bert, mut lines) = start("bert");
    let waits = lines.nth(1).unwrap().unwrap();
    assert!(waits.contains("anna holds the lock: I wait"), "{waits}");
    // Without a goodbye.
    drop(anna);
    let second = lines.find_map(|line| token(&line.unwrap())).unwrap();
    assert!(first < second);
    bert.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    let last = lines.last().unwrap().unwrap();
    assert!(last.contains("released the lock"), "{last}");
    assert!(bert.0.wait().unwrap().success());
}

#[test]
fn leader_election_has_one_master_after_the_other_and_refuses_the_late_one() {
    let lines = run("leader_election");
    let masters: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("is master"))
        .collect();
    assert_eq!(masters.len(), 3, "{lines:#?}");
    assert!(masters.iter().map(|line| token(line).unwrap()).is_sorted());
    let first = masters[0].split(':').next().unwrap();
    for part in [
        format!("example: cuts {first}'s connection"),
        format!("{first}: stops working:"),
        format!("took over from {first}"),
        format!("store: refused {first}"),
    ] {
        assert_eq!(count(&lines, &part), 1, "{part}: {lines:#?}");
    }
    assert_eq!(count(&lines, ": resigns"), 2);
}

#[test]
fn work_queue_loses_nothing_and_does_nothing_twice_although_a_worker_dies() {
    let lines = run("work_queue");
    assert_eq!(count(&lines, ": does "), 20, "{lines:#?}");
    let orders: std::collections::BTreeSet<_> = lines
        .iter()
        .filter_map(|line| line.split_once(": does ")?.1.split(' ').next())
        .collect();
    assert_eq!(orders.len(), 20);
    let begun = lines
        .iter()
        .find(|line| line.starts_with("carl: begins with "));
    let begun = begun.unwrap().split(' ').nth(3).unwrap();
    assert_eq!(
        count(&lines, &format!("store: refused carl's {begun}")),
        1,
        "{lines:#?}"
    );
    let end = "20 orders done, 20 of them exactly once, 0 left";
    assert_eq!(count(&lines, end), 1, "{lines:#?}");
}

#[test]
fn naming_gives_nothing_twice_and_a_dead_owners_name_to_the_next() {
    let lines = run("naming");
    for part in [
        "15 order numbers, all different",
        "north: is worker 0",
        "south: is worker 1",
        "west: gets no number",
        "west: is worker 0, which north gave back",
        "cannot be `printer`: east is",
        "north: is called `printer` now",
    ] {
        assert_eq!(count(&lines, part), 1, "{part}: {lines:#?}");
    }
}

#[test]
fn barrier_lets_all_begin_and_go_on_together() {
    let lines = run("barrier");
    assert_eq!(count(&lines, "waits at the gate"), 4, "{lines:#?}");
    assert_eq!(count(&lines, "begins: 4 of 4 have come"), 4, "{lines:#?}");
    assert_eq!(count(&lines, "goes on: 4 of 4 are done"), 4, "{lines:#?}");
    let opened = lines
        .iter()
        .position(|line| line.contains("opened the gate"));
    let begun = lines.iter().position(|line| line.contains("begins:"));
    assert!(opened < begun, "{lines:#?}");
}

#[test]
fn group_membership_tells_of_those_who_leave_and_of_those_who_die() {
    let lines = run("group_membership");
    for name in ["anna", "bert", "cleo"] {
        assert_eq!(count(&lines, &format!("observer: {name} is there")), 1);
    }
    for name in ["bert", "cleo"] {
        assert_eq!(count(&lines, &format!("observer: {name} is gone")), 1);
    }
    assert_eq!(count(&lines, "still there: anna"), 1, "{lines:#?}");
}

#[test]
fn embedded_test_shows_an_application_that_stops_before_another_begins() {
    let lines = run("embedded_test").join("\n");
    for part in [
        "the application had stopped before",
        "no page was written without the lock",
        "by the test's clock that took",
    ] {
        assert!(lines.contains(part), "{part}: {lines}");
    }
}

#[test]
fn load_balancer_keeps_the_weights_and_fails_no_request_when_a_backend_leaves_or_dies() {
    let lines = run("load_balancer");
    let shares = r#"by weights 3, 1, 1: {"east": 10, "north": 30, "south": 10}"#;
    assert_eq!(count(&lines, shares), 1, "{lines:#?}");
    assert_eq!(count(&lines, "frontend: north is gone"), 1, "{lines:#?}");
    assert_eq!(count(&lines, "frontend: east is gone"), 1, "{lines:#?}");
    let last = lines.last().unwrap();
    assert!(!last.starts_with("example: 0 requests"), "{last}");
    assert!(last.ends_with(" elsewhere, 0 failed"), "{last}");
}
