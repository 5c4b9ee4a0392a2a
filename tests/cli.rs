//! The `quorate` command as a process: exit codes, and what goes to which stream.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world should fail"
)]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;

use support::{quorate, run};
use tempfile::TempDir;

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A server for one connection: takes four bytes and says `answer`.
fn fake(answer: &'static [u8]) -> (SocketAddr, JoinHandle<[u8; 4]>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut word = [0; 4];
        socket.read_exact(&mut word).unwrap();
        socket.write_all(answer).unwrap();
        word
    });
    (addr, thread)
}

fn ask_fake(answer: &'static [u8]) -> Output {
    let (addr, thread) = fake(answer);
    let output = run(&["4lw", "stat", "-s", &addr.to_string()]);
    assert_eq!(&thread.join().unwrap(), b"stat");
    output
}

#[test]
fn a_word_prints_the_answer_and_nothing_else() {
    let output = ask_fake(b"imok");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), "imok");
    assert_eq!(stderr(&output), "");
}

#[test]
fn words_that_are_not_answered_have_their_own_exit_codes() {
    let output = ask_fake(b"stat is not executed because it is not in the whitelist.\n");
    assert_eq!(output.status.code(), Some(5));
    assert!(
        stderr(&output).starts_with("error[Q0005]: "),
        "{}",
        stderr(&output)
    );
    let output = ask_fake(b"This ZooKeeper instance is not currently serving requests\n");
    assert_eq!(output.status.code(), Some(9));
    assert!(stderr(&output).starts_with("error[Q0009]: "));
    let output = ask_fake(b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("error[Q0010]: "));
}

#[test]
fn a_server_that_never_answers_is_a_timeout() {
    // The backlog accepts, and nobody reads.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let output = run(&["4lw", "ruok", "-s", &addr, "--timeout", "0.05"]);
    assert_eq!(output.status.code(), Some(7));
    assert!(stderr(&output).contains("error[Q0007]: timed out while connected\n  127.0.0.1:"));
}

#[test]
fn nobody_there_is_exit_code_6_and_every_server_is_named() {
    let closed = |_| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let (a, b) = (closed(0), closed(1));
    let output = run(&["4lw", "ruok", "-s", &format!("{a},{b}")]);
    assert_eq!(output.status.code(), Some(6));
    assert_eq!(stdout(&output), "");
    let text = stderr(&output);
    assert!(
        text.starts_with("error[Q0006]: cannot reach any server\n"),
        "{text}"
    );
    assert!(
        text.contains(&format!("  {a}  connection refused (")),
        "{text}"
    );
    assert!(
        text.contains(&format!("  {b}  connection refused (")),
        "{text}"
    );
    assert!(text.contains("  help: "), "{text}");
}

#[test]
fn the_server_comes_from_the_environment_too() {
    let (addr, thread) = fake(b"imok");
    let output = quorate()
        .args(["4lw", "ruok"])
        .env("QUORATE_SERVER", addr.to_string())
        .output()
        .unwrap();
    assert_eq!(&thread.join().unwrap(), b"ruok");
    assert_eq!(stdout(&output), "imok");
}

#[test]
fn usage_errors_are_exit_code_2() {
    for args in [
        &["4lw", "toolong"][..],
        &["nonsense"],
        &["4lw"],
        &["4lw", "ruok", "--timeout", "-1"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn digest_prints_as_zookeepers_tool_does() {
    let output = run(&["digest", "super:test"]);
    assert_eq!(
        stdout(&output),
        "super:test->super:D/InIHSb7yEEbrWz8b9l71RjZJU=\n"
    );
    assert_eq!(stderr(&output), "");
    let mut child = quorate()
        .args(["digest", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"super:test\n")
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(stdout(&output), "super:D/InIHSb7yEEbrWz8b9l71RjZJU=\n");
}

#[test]
fn version_names_both_versions() {
    let output = run(&["version"]);
    assert_eq!(
        stdout(&output),
        format!(
            "quorate {}, speaks ZooKeeper 3.9\n",
            env!("CARGO_PKG_VERSION")
        )
    );
}

fn zoo_cfg(dir: &Path, text: &str) -> String {
    let path = dir.join("zoo.cfg");
    let data = dir.join("data");
    std::fs::write(&path, format!("dataDir={}\n{text}", data.display())).unwrap();
    path.display().to_string()
}

#[test]
fn config_check_reports_and_starts_nothing() {
    let dir = TempDir::new().unwrap();
    let file = zoo_cfg(dir.path(), "clientPort=2181\ntikTime=2000\ninitLimit=5\n");
    let output = run(&["config", "check", &file]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stdout(&output), "");
    let text = stderr(&output);
    assert!(
        text.contains("warning: ") && text.contains("did you mean `tickTime`?"),
        "{text}"
    );
    assert!(text.contains("note: "), "{text}");
    assert!(
        text.ends_with("would start; 1 notes, 1 warnings\n"),
        "{text}"
    );
    assert!(!dir.path().join("data").exists());

    assert_eq!(
        run(&["config", "check", "--strict", &file]).status.code(),
        Some(2)
    );
    let file = zoo_cfg(dir.path(), "clientPort=2181\nsecureClientPort=2281\n");
    let output = run(&["config", "check", &file]);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(
        text.starts_with("error[Q0101]: the configuration is refused\n  "),
        "{text}"
    );
    assert!(
        text.contains("zoo.cfg:3: `secureClientPort=2281` cannot be honoured"),
        "{text}"
    );
}

#[test]
fn config_explain_prints_values_with_their_origin() {
    let dir = TempDir::new().unwrap();
    let file = zoo_cfg(dir.path(), "clientPort=2181\ntickTime=1234\n");
    let output = run(&["config", "explain", &file]);
    let text = stdout(&output);
    let line = text
        .lines()
        .find(|line| line.starts_with("tickTime"))
        .unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert_eq!(words[..3], ["tickTime", "1234", "3000"]);
    assert!(words[3].ends_with("zoo.cfg:3"), "{line}");
    assert!(
        text.lines()
            .any(|line| line.starts_with("maxClientCnxns") && line.ends_with("default"))
    );
}

#[test]
fn a_refused_file_ends_the_server_with_exit_code_2() {
    let dir = TempDir::new().unwrap();
    let members = "clientPort=2181\nserver.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\n";
    let file = zoo_cfg(dir.path(), members);
    let output = run(&["server", "--config", &file]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("myid"), "{}", stderr(&output));
    // The observer of an ensemble that is not there.
    let file = zoo_cfg(
        dir.path(),
        "clientPort=2181\npeerType=observer\nserver.1=a:1:2:observer\n",
    );
    let output = run(&["server", &file]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("observers without participants"));
    assert_eq!(
        run(&["server", "--config", "/no/such/zoo.cfg"])
            .status
            .code(),
        Some(2)
    );
    assert_eq!(
        run(&["server", "--listen", "nowhere"]).status.code(),
        Some(2)
    );
    let file = zoo_cfg(dir.path(), "clientPort=2181\ntikTime=1\n");
    assert_eq!(
        run(&["server", "--strict-config", "-c", &file])
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn a_missing_data_directory_is_exit_code_3_when_it_may_not_be_made() {
    let dir = TempDir::new().unwrap();
    let file = zoo_cfg(dir.path(), "clientPort=2181\ndatadir.autocreate=false\n");
    let output = run(&["server", "--config", &file, "--listen", "0"]);
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(
        stderr(&output).starts_with("error[Q0103]: "),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_taken_port_is_told_with_its_address() {
    let dir = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let data = dir.path().display().to_string();
    let output = run(&["server", "--data-dir", &data, "--listen", &addr]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&addr), "{}", stderr(&output));
    assert!(
        stderr(&output).starts_with("error[Q0104]: "),
        "{}",
        stderr(&output)
    );
}

/// Stops the process whatever happens to the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server on a free port, and the lines that it said until it was ready.
fn server(dir: &Path) -> (Running, Vec<String>) {
    let mut child = quorate()
        .args(["server", "--listen", "0", "--data-dir"])
        .arg(dir.join("data"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = Vec::new();
    for line in BufReader::new(child.stderr.as_mut().unwrap()).lines() {
        let line = line.unwrap();
        let ready = line.starts_with("ready in ");
        said.push(line);
        if ready {
            break;
        }
    }
    (Running(child), said)
}

#[test]
fn a_server_says_where_it_is_and_stops_on_sigterm_and_sigint() {
    for signal in ["-TERM", "-INT"] {
        let dir = TempDir::new().unwrap();
        let (mut running, said) = server(dir.path());
        assert!(
            said[0].starts_with(concat!("quorate ", env!("CARGO_PKG_VERSION"))),
            "{said:?}"
        );
        assert!(said[0].contains("(new) · fsync on"), "{said:?}");
        assert!(said[1].starts_with("  clients   127.0.0.1:"), "{said:?}");
        assert!(said[2].ends_with(" ms"), "{said:?}");
        let id = running.0.id().to_string();
        assert!(
            Command::new("kill")
                .args([signal, &id])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(running.0.wait().unwrap().code(), Some(0), "{signal}");
        let mut left = String::new();
        running
            .0
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut left)
            .unwrap();
        assert_eq!(left, "", "standard output is for data");
    }
}

#[test]
fn an_export_of_nothing_fails_and_writes_nothing() {
    let dir = TempDir::new().unwrap();
    let (from, to) = (dir.path().join("none"), dir.path().join("to"));
    let output = quorate()
        .args(["export-datadir", "--data-dir"])
        .arg(&from)
        .arg("--to")
        .arg(&to)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).starts_with("error[Q0120]: "),
        "{}",
        stderr(&output)
    );
    assert!(!to.exists() && !from.exists());
}
