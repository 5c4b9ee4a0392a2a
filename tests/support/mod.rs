//! The command as a process: started, watched and killed.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot set up its world should fail"
)]
#![allow(dead_code, reason = "no test binary uses all of it")]

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// The command, in an environment of its own.
pub(crate) fn quorate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    for name in [
        "QUORATE_SERVER",
        "QUORATE_LOG",
        "SERVER_JVMFLAGS",
        "JVMFLAGS",
    ] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Runs the command to its end.
pub(crate) fn run<S: AsRef<OsStr>>(args: &[S]) -> Output {
    quorate().args(args).output().unwrap()
}

/// A server as a process. Dropped, it is killed.
pub(crate) struct Process {
    child: Child,
    /// Where clients connect.
    pub(crate) addr: SocketAddr,
    said: Arc<Mutex<Vec<String>>>,
    listener: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts `quorate server` on a free port, and returns when it is ready.
    ///
    /// Panics with what it said if it ends instead.
    pub(crate) fn start<S: AsRef<OsStr>>(args: &[S]) -> Process {
        Process::start_logging(args, "warn")
    }

    /// The same, with a filter of its log.
    pub(crate) fn start_logging<S: AsRef<OsStr>>(args: &[S], filter: &str) -> Process {
        let mut child = quorate()
            .args(["server", "--listen", "127.0.0.1:0"])
            .args(args)
            .env("QUORATE_LOG", filter)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let mut addr = None;
        loop {
            let Some(line) = lines.next() else {
                let status = child.wait().unwrap();
                panic!("ended with {status}: {said:#?}");
            };
            let line = line.unwrap();
            if let Some(rest) = line.strip_prefix("  clients ") {
                addr = rest.split_whitespace().next().unwrap().parse().ok();
            }
            let ready = line.starts_with("ready in ");
            said.push(line);
            if ready {
                break;
            }
        }
        let said = Arc::new(Mutex::new(said));
        // Read on: a full pipe would stop the server.
        let more = said.clone();
        let listener = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                more.lock().unwrap().push(line);
            }
        });
        Process {
            child,
            addr: addr.expect("the banner names the address"),
            said,
            listener: Some(listener),
        }
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }

    /// `kill -9`. Returns when it is gone, with what it had said.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.end().1
    }

    /// `kill -TERM`. Returns when it has ended, with what it had said.
    pub(crate) fn terminate(mut self) -> (ExitStatus, Vec<String>) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(sent.success());
        self.end()
    }

    fn end(&mut self) -> (ExitStatus, Vec<String>) {
        let status = self.child.wait().unwrap();
        if let Some(listener) = self.listener.take() {
            listener.join().unwrap();
        }
        (status, self.said())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
