//! A server as a process: how it starts, what it needs when idle, how it stops, what it refuses.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world should fail"
)]

mod support;

use std::net::TcpListener;
use std::path::Path;

use quorate_server::testing::wire::WireClient;
use support::{Process, run};
use tempfile::TempDir;

fn data_dir(dir: &TempDir) -> [String; 2] {
    let data = dir.path().join("data");
    ["--data-dir".into(), data.display().to_string()]
}

/// Kilobytes of another process's memory, as the kernel says: `VmRSS`, `RssAnon`.
fn memory_kb(id: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
    let number = line.unwrap().split_whitespace().next().unwrap();
    number.parse().unwrap()
}

fn files_below(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let count = |path: &Path| if path.is_dir() { files_below(path) } else { 1 };
    entries.map(|entry| count(&entry.path())).sum()
}

#[tokio::test]
async fn a_server_is_ready_on_an_empty_directory_and_small_when_idle() {
    let dir = TempDir::new().unwrap();
    let server = Process::start(&data_dir(&dir));
    let said = server.said();
    let ready = said.last().unwrap();
    let ms = ready.strip_prefix("ready in ").unwrap();
    let ms: u64 = ms.strip_suffix(" ms").unwrap().parse().unwrap();
    assert!(said[0].contains("(new)"), "{said:?}");
    let mut client = WireClient::open(server.addr).await;
    client.create("/a", b"").await.unwrap();
    client.close_session().await.unwrap();
    let resident = memory_kb(server.id(), "VmRSS");
    let own = memory_kb(server.id(), "RssAnon");
    eprintln!(
        "ready in {ms} ms; {resident} KB resident, {own} KB of them not of the program's file"
    );
    assert!(own < 8_000, "{own} KB of its own when idle");
    // Code that is not optimized is several times as large, and says nothing of the server.
    if !cfg!(debug_assertions) {
        assert!(resident < 20_000, "{resident} KB resident when idle");
    }
}

#[tokio::test]
async fn what_sigterm_leaves_starts_again() {
    let dir = TempDir::new().unwrap();
    let server = Process::start(&data_dir(&dir));
    let mut client = WireClient::open(server.addr).await;
    client.create("/a", b"kept").await.unwrap();
    let options = client.reattach();
    let (status, said) = server.terminate();
    assert_eq!(status.code(), Some(0), "{said:?}");

    let server = Process::start(&data_dir(&dir));
    assert!(!server.said()[0].contains("(new)"), "{:?}", server.said());
    let mut client = WireClient::open_with(server.addr, &options).await;
    let (data, _) = client.get_data("/a", false).await.unwrap();
    assert_eq!(data.as_deref(), Some(&b"kept"[..]));
}

#[tokio::test]
async fn a_start_after_a_kill_says_what_it_recovered() {
    let dir = TempDir::new().unwrap();
    let server = Process::start(&data_dir(&dir));
    let mut client = WireClient::open(server.addr).await;
    for n in 0..10 {
        client.create(&format!("/n{n}"), b"kept").await.unwrap();
    }
    server.kill();
    let server = Process::start_logging(&data_dir(&dir), "info");
    let said = server.said();
    let line = said.iter().find(|line| line.contains("leading")).unwrap();
    // Four of its own, and ours.
    assert!(line.contains("znodes=14 sessions=1"), "{line}");
    let mut client = WireClient::open(server.addr).await;
    let names = client.get_children("/", false).await.unwrap();
    assert_eq!(names.len(), 11, "{names:?}");
}

#[tokio::test]
async fn a_second_server_on_the_same_data_is_refused_and_harms_nothing() {
    let dir = TempDir::new().unwrap();
    let first = Process::start(&data_dir(&dir));
    let files = files_below(dir.path());
    let args = data_dir(&dir);
    let output = run(&["server", "--listen", "127.0.0.1:0", &args[0], &args[1]]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.starts_with("error[Q0103]: "), "{text}");
    assert!(text.contains("data") && text.contains("in use"), "{text}");
    assert_eq!(files_below(dir.path()), files);
    let mut client = WireClient::open(first.addr).await;
    client.create("/still", b"").await.unwrap();
}

#[tokio::test]
async fn a_port_in_use_is_refused_before_anything_is_written() {
    let dir = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let args = data_dir(&dir);
    let output = run(&["server", "--listen", &addr, &args[0], &args[1]]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.starts_with("error[Q0104]: ") && text.contains(&addr),
        "{text}"
    );
    assert_eq!(files_below(dir.path()), 0);
}
