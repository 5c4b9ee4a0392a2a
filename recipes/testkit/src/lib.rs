//! A server, the connections to it, and time, in the hands of a test.
//!
//! An application's test says what happens: this session ends, that connection is cut, this process
//! stands still, half a minute passes. It takes milliseconds, because time passes by command: on the
//! server's clock and on tokio's paused one together.
//!
//! ```
//! use std::time::Duration;
//! use quorate_testkit::Kit;
//!
//! const SESSION: Duration = Duration::from_secs(30);
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! // #[tokio::test(start_paused = true)]
//! async fn a_session_ends_in_silence() {
//!     let mut kit = Kit::start().await;
//!     let line = kit.line().await;
//!     let client = line.client(SESSION).await.unwrap();
//!     client.create("/here", "").ephemeral().await.unwrap();
//!     let watcher = kit.line().await.client(SESSION).await.unwrap();
//!
//!     line.silence();
//!     kit.advance(SESSION).await;
//!     assert!(watcher.exists("/here").await.unwrap().is_some());
//!     kit.advance(Duration::from_secs(1)).await; // the server rounds up
//!     assert!(watcher.exists("/here").await.unwrap().is_none());
//! }
//! # fn main() { a_session_ends_in_silence() }
//! ```
//!
//! `tests/application.rs` shows a whole application that loses its session, and one that stands
//! still while another takes over.
//!
//! # How it works
//!
//! - The server is the real one, in memory, in threads of its own. Its clock moves with
//!   [`Kit::advance`] only, and sessions, containers and TTL znodes end when the kit looks.
//! - Each process of the application has a [`Line`]: a way to the server that passes frames on and
//!   knows which requests are unanswered. A line is cut, silenced and healed.
//! - What is to share the test's runtime uses [`Kit::line`]. What is to stand still needs a runtime
//!   of its own: a [`Process`].
//! - Time passes in [steps](KitBuilder::step). After each one the kit waits until nothing moves any
//!   more: all requests are answered, all notifications delivered, all tasks have had their turn.
//!   Only then are sessions judged, so that a client has always noticed what it could notice.
//!
//! # Limits
//!
//! - The test's runtime must be of the current thread, with time paused from the start. The kit keeps
//!   the clock from running ahead on its own, as it would whenever all tasks wait. So a test that
//!   awaits a `sleep` itself waits for ever: let [`Kit::within`] await it, or a task.
//! - Sockets and the server's threads are real. Which of two requests that are under way at once on
//!   two lines comes first is not decided by the kit; put an `await` or [`Kit::settle`] between them.
//! - Work of the application that is neither a task of the runtime nor on a line (threads, blocking
//!   tasks, other sockets) is not waited for.
//! - A timer goes off up to a step too late, by the clocks of the test. A session shorter than fifty
//!   steps may end before its client has noticed.
//! - An ensemble of one. Its leader is killed with [`Kit::kill_server`]; no other takes over.
#![forbid(unsafe_code)]

mod connection;
mod host;
mod line;
mod process;
mod settle;

use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use quorate_client::Client;
use quorate_server::config::Config;
use quorate_server::testing::{TestServer, TestServerBuilder};
use tokio::runtime::{Handle, RuntimeFlavor};

use host::{Deed, Host};
pub use line::Line;
pub use process::Process;
use settle::{Still, pass, settle};

/// How far time passes at once.
const STEP: Duration = Duration::from_millis(20);

/// A server, the lines to it, and the time.
#[derive(Debug)]
pub struct Kit {
    host: Host,
    step: Duration,
    reaps_every: Duration,
    /// Since containers and TTL znodes were looked at.
    unreaped: Duration,
    /// The lines of the test's own runtime.
    lines: Vec<Line>,
    processes: Vec<Process>,
    _still: Still,
}

/// How a [`Kit`] is to be.
#[derive(Debug)]
#[must_use = "a builder does nothing until `start`"]
pub struct KitBuilder {
    server: TestServerBuilder,
    reaps_every: Duration,
    step: Duration,
}

impl KitBuilder {
    /// Changes the server's configuration. Without that its tick is 100 ms, and a client gets any
    /// session timeout from that to an hour.
    pub fn config(mut self, change: impl FnOnce(&mut Config)) -> KitBuilder {
        let mut every = self.reaps_every;
        self.server = self.server.config(|config| {
            change(config);
            every = config.container_check_interval;
        });
        self.reaps_every = every;
        self
    }

    /// How far time passes at once: 20 ms if nothing else is said. Shorter steps are more exact,
    /// longer ones are faster.
    pub fn step(mut self, step: Duration) -> KitBuilder {
        self.step = step.max(Duration::from_millis(1));
        self
    }

    /// Starts the server.
    ///
    /// # Panics
    /// If the runtime has several threads, or its time is not paused; if no server comes up.
    pub async fn start(self) -> Kit {
        assert!(
            Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread,
            "the kit wants #[tokio::test(start_paused = true)], with a runtime of one thread"
        );
        // Fails if time is not paused.
        tokio::time::advance(Duration::ZERO).await;
        let still = Still::hold();
        Kit {
            host: Host::start(self.server).await,
            step: self.step,
            reaps_every: self.reaps_every,
            unreaped: Duration::ZERO,
            lines: Vec::new(),
            processes: Vec::new(),
            _still: still,
        }
    }
}

impl Kit {
    /// A kit with a server in memory.
    ///
    /// # Panics
    /// As [`KitBuilder::start`].
    pub async fn start() -> Kit {
        Kit::builder().start().await
    }

    /// To start one that differs.
    pub fn builder() -> KitBuilder {
        let builder = KitBuilder {
            server: TestServer::builder(),
            reaps_every: Duration::ZERO,
            step: STEP,
        };
        builder.config(|config| {
            config.tick_time = Duration::from_millis(100);
            config.min_session_timeout = Duration::from_millis(100);
            config.max_session_timeout = Duration::from_secs(3_600);
        })
    }

    /// A way to the server, for what shares the runtime of the test.
    pub async fn line(&mut self) -> Line {
        let line = Line::open(self.host.address).await;
        self.lines.push(line.clone());
        line
    }

    /// A process of its own, which can stand still.
    pub async fn process(&mut self) -> Process {
        let process = Process::start(self.host.address).await;
        self.processes.push(process.clone());
        process
    }

    /// Ends the client's session as if it had been silent for its timeout, before the client can
    /// know: its ephemerals are gone when this returns. False if it has none.
    pub async fn expire(&mut self, client: &Client) -> bool {
        let Some(session) = client.session_id() else {
            return false;
        };
        let is_ended = self.host.has(Deed::Expire(session)).await;
        self.settle().await;
        is_ended
    }

    /// Stops the server in order and starts it again.
    pub async fn restart_server(&mut self) {
        self.host.has(Deed::Restart).await;
        self.settle().await;
    }

    /// Kills the server and starts it again: what it acknowledged is there.
    pub async fn kill_server(&mut self) {
        self.host.has(Deed::Kill).await;
        self.settle().await;
    }

    /// Stops the server until [`restart_server`](Kit::restart_server).
    pub async fn stop_server(&mut self) {
        self.host.has(Deed::Stop).await;
        self.settle().await;
    }

    /// Lets everything happen that can happen without time passing.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn settle(&mut self) {
        self.settle_all(true).await;
    }

    /// Lets time pass, for the server and for all that runs in the test's runtime and in processes
    /// that do not stand still. What falls due meanwhile has happened when this returns.
    ///
    /// # Panics
    /// If the server does not answer.
    ///
    /// # Cancel safety
    /// None: clocks may differ by a step when it is dropped.
    pub async fn advance(&mut self, time: Duration) {
        self.settle().await;
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(self.step);
            left -= step;
            self.pass_one(step).await;
        }
    }

    /// Awaits `work`, and lets time pass for as long as it waits: for this long at most. `None` if
    /// it is not done by then.
    ///
    /// # Panics
    /// If the server does not answer.
    pub async fn within<T>(&mut self, time: Duration, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut left = time;
        // What needs no time comes first.
        let mut next = Duration::ZERO;
        loop {
            let step = next;
            let done = {
                let passing = pin!(async {
                    match step.is_zero() {
                        true => self.settle().await,
                        false => self.pass_one(step).await,
                    }
                });
                match select(work.as_mut(), passing).await {
                    Either::Left((done, passing)) => {
                        // To its end, so that all clocks agree.
                        passing.await;
                        Some(done)
                    }
                    Either::Right(_) => None,
                }
            };
            if done.is_some() || left.is_zero() {
                return done;
            }
            next = left.min(self.step);
            left -= next;
        }
    }

    async fn pass_one(&mut self, step: Duration) {
        let before = self.moved();
        self.host.pass(step).await;
        pass(step).await;
        for process in &self.processes {
            process.pass(step).await;
        }
        settle(&self.lines, false).await;
        for process in &self.processes {
            process.settle(false).await;
        }
        let mut has_changed = before != self.moved();
        // Clients first: they know by now what they can know.
        if has_changed {
            self.settle_all(true).await;
        }
        has_changed = self.host.has(Deed::ExpireOverdue).await;
        self.unreaped += step;
        if self.unreaped >= self.reaps_every {
            self.unreaped = Duration::ZERO;
            has_changed |= self.host.has(Deed::Reap).await;
        }
        if has_changed {
            self.settle_all(true).await;
        }
    }

    /// Until nothing moves anywhere: what one does may move another.
    async fn settle_all(&mut self, asks: bool) {
        loop {
            let before = self.moved();
            settle(&self.lines, asks).await;
            for process in &self.processes {
                process.settle(asks).await;
            }
            if before == self.moved() {
                return;
            }
        }
    }

    fn moved(&self) -> u64 {
        let processes = self.processes.iter().map(|process| process.line().moved());
        settle::moved(&self.lines) + processes.sum::<u64>()
    }
}
