//! One run from beginning to end.
//!
//! The threads of the generator open their sessions and report; when all have, this thread names
//! the window that counts, and while they work it shows progress and reads the server's CPU time
//! at both ends of the window.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use super::admin::{self, Admin};
use super::args::{Common, Plan, Preset};
use super::clock::{self, Clock, nanos};
use super::drive::{self, drive};
use super::error::BenchError;
use super::net::Net;
use super::process;
use super::progress::Progress;
use super::record::{Counters, Recorder, Window};
use super::report::{self, Measured};
use super::workload::{Fanout, Lock, NODES_PER_PARENT, Pump, PumpPlan, Storm};

/// Handshakes in flight while sessions are opened before a run.
const OPENING_AT_ONCE: usize = 128;
const PROGRESS: Duration = Duration::from_millis(250);
/// What a null server calls itself: there is nothing to tidy up on it.
pub(super) const NULL_VERSION: &str = "null";

/// Runs a plan and reports.
pub(super) fn run(plan: &Plan) -> Result<(), BenchError> {
    let measured = measure(plan)?;
    report::report(plan, &measured)?;
    measured.verdict()
}

/// Runs a plan.
pub(super) fn measure(plan: &Plan) -> Result<Measured, BenchError> {
    let common = &plan.common;
    let targets = resolve(&common.server)?;
    let target = *targets
        .first()
        .ok_or_else(|| BenchError::NoAddress(common.server.clone()))?;
    let progress = Progress::new();
    progress.say("preparing");
    let server = admin::facts(target);
    let stateless = server
        .get("version")
        .is_some_and(|text| text.starts_with(NULL_VERSION));
    let base = common
        .base
        .clone()
        .unwrap_or_else(|| format!("/bench-{:x}-{}", clock::wall_seconds(), std::process::id()));
    prepare(plan, target, &base)?;
    let run = Run {
        plan,
        targets,
        base: &base,
        clock: Clock::new(),
        server_memory_before: process::memory_of_all(&common.server_pid),
    };
    let result = match plan.preset {
        Preset::SessionStorm { hold: true } => run.hold(progress),
        _ => run.threads(progress),
    };
    let tidied = if common.keep || stateless {
        Ok(())
    } else {
        tidy(target, common.session_timeout, &base)
    };
    // What broke the run says more than what it broke after that.
    let measured = result?;
    tidied?;
    Ok(Measured { server, ..measured })
}

fn tidy(target: SocketAddr, timeout: Duration, base: &str) -> Result<(), BenchError> {
    let mut admin = Admin::connect(target, timeout)?;
    admin.delete_tree(base)?;
    admin.close()
}

fn resolve(servers: &str) -> Result<Vec<SocketAddr>, BenchError> {
    let address = |server: &str| {
        let addresses = server.trim().to_socket_addrs().ok();
        addresses
            .and_then(|mut addresses| addresses.next())
            .ok_or_else(|| BenchError::NoAddress(server.to_owned()))
    };
    servers.split(',').map(address).collect()
}

/// Makes the znodes that the preset works on.
fn prepare(plan: &Plan, target: SocketAddr, base: &str) -> Result<(), BenchError> {
    let Common {
        connections, keys, ..
    } = plan.common;
    let data = vec![b'x'; plan.common.size];
    let names = |count: u64, name: &dyn Fn(u64) -> String| -> Vec<String> {
        (0..count).map(|i| format!("{base}/{}", name(i))).collect()
    };
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let (paths, data) = match plan.preset {
        Preset::Get | Preset::Set | Preset::Mixed { .. } | Preset::Multi { .. } => {
            (names(keys, &|i| format!("k{i:06}")), data)
        }
        Preset::Create => (
            names(count(connections.get()), &|i| format!("d{i:06}")),
            Vec::new(),
        ),
        Preset::Children { children } => (
            names(u64::from(children), &|i| format!("child-{i:06}")),
            data,
        ),
        Preset::WatchFanout => (names(1, &|_| "watched".to_owned()), data),
        Preset::Lock { paths } => (names(count(paths), &|i| format!("lock-{i:06}")), Vec::new()),
        Preset::Fill { count } => (
            names(count.div_ceil(NODES_PER_PARENT), &|i| format!("dir-{i:06}")),
            Vec::new(),
        ),
        Preset::Ephemeral | Preset::SessionStorm { .. } => (Vec::new(), Vec::new()),
    };
    let mut admin = Admin::connect(target, plan.common.session_timeout)?;
    admin.create_all([base], &[])?;
    admin.create_all(paths.iter().map(String::as_str), &data)?;
    admin.close()
}

struct Run<'a> {
    plan: &'a Plan,
    targets: Vec<SocketAddr>,
    base: &'a str,
    clock: Clock,
    server_memory_before: Option<process::Memory>,
}

enum News {
    Opened,
    Finished(Result<Recorder, BenchError>),
}

impl Run<'_> {
    fn threads(&self, mut progress: Progress) -> Result<Measured, BenchError> {
        let counters = Arc::new(Counters::default());
        let threads = self.thread_count();
        std::thread::scope(|scope| {
            let (news, heard) = channel();
            let mut starts = Vec::new();
            for thread in 0..threads {
                let (start, started) = channel::<Window>();
                starts.push(start);
                let (news, counters) = (news.clone(), Arc::clone(&counters));
                scope.spawn(move || {
                    let result = self.thread(thread, threads, &news, &started, counters);
                    // Nobody listens any more where another thread has failed.
                    let _ = news.send(News::Finished(result));
                });
            }
            drop(news);
            self.conduct(&heard, starts, &counters, &mut progress)
        })
    }

    /// Fewer than asked for where the contenders must know of each other, or there is less than
    /// one connection for each.
    fn thread_count(&self) -> usize {
        match self.plan.preset {
            Preset::WatchFanout | Preset::Lock { .. } => 1,
            _ => {
                let common = &self.plan.common;
                common.threads.get().min(common.connections.get())
            }
        }
    }

    fn conduct(
        &self,
        heard: &Receiver<News>,
        starts: Vec<Sender<Window>>,
        counters: &Counters,
        progress: &mut Progress,
    ) -> Result<Measured, BenchError> {
        for _ in &starts {
            match heard.recv() {
                Ok(News::Opened) => {}
                Ok(News::Finished(Err(error))) => return Err(error),
                Ok(News::Finished(Ok(_))) | Err(_) => return Err(BenchError::ThreadLost),
            }
        }
        let window = self.window();
        for start in &starts {
            // A thread that is gone says why by its last news.
            let _ = start.send(window);
        }
        let mut cpu_at_start = None;
        let mut cpu_at_end = None;
        let mut finished: Vec<Recorder> = Vec::new();
        while finished.len() < starts.len() {
            let now = self.clock.now();
            if now >= window.start && cpu_at_start.is_none() {
                cpu_at_start = Some(self.cpu());
            }
            if now >= window.end && cpu_at_end.is_none() {
                cpu_at_end = Some(self.cpu());
            }
            progress.update(now, window, counters);
            let next = [window.start, window.end].into_iter().find(|at| *at > now);
            let wait = next.map_or(PROGRESS, |at| PROGRESS.min(self.clock.until(at)));
            match heard.recv_timeout(wait) {
                Ok(News::Opened) | Err(RecvTimeoutError::Timeout) => {}
                Ok(News::Finished(result)) => finished.push(result?),
                Err(RecvTimeoutError::Disconnected) => return Err(BenchError::ThreadLost),
            }
        }
        progress.clear();
        let cpu_at_end = cpu_at_end.unwrap_or_else(|| self.cpu());
        let mut merged = finished.pop().ok_or(BenchError::ThreadLost)?;
        for recorder in &finished {
            merged.merge(recorder);
        }
        let elapsed_ns = if window.end == u64::MAX {
            merged.last_answer - window.start
        } else {
            window.end - window.start
        };
        let used = |part: fn(&Cpu) -> Option<u64>| {
            let start = cpu_at_start.as_ref().and_then(part)?;
            Some(part(&cpu_at_end)?.saturating_sub(start))
        };
        Ok(Measured {
            server: Default::default(),
            recorder: merged,
            elapsed_ns,
            server_cpu_ns: used(|cpu| cpu.server),
            own_cpu_ns: used(|cpu| cpu.own),
            server_memory_before: self.server_memory_before,
            server_memory: process::memory_of_all(&self.plan.common.server_pid),
        })
    }

    fn window(&self) -> Window {
        let now = self.clock.now();
        if matches!(self.plan.preset, Preset::Fill { .. }) {
            return Window {
                start: now,
                end: u64::MAX,
            };
        }
        let start = now + nanos(self.plan.common.warmup);
        Window {
            start,
            end: start + nanos(self.plan.common.duration),
        }
    }

    fn cpu(&self) -> Cpu {
        Cpu {
            server: process::cpu_ns_of_all(&self.plan.common.server_pid),
            own: process::cpu_ns(std::process::id()),
        }
    }

    fn net(&self) -> Result<Net, BenchError> {
        Net::new(&self.targets, self.plan.common.session_timeout, self.clock)
    }

    fn thread(
        &self,
        thread: usize,
        threads: usize,
        news: &Sender<News>,
        started: &Receiver<Window>,
        counters: Arc<Counters>,
    ) -> Result<Recorder, BenchError> {
        let common = &self.plan.common;
        let preset = self.plan.preset;
        let mut net = self.net()?;
        let share = (common.connections.get() + threads - 1 - thread) / threads;
        let conns = match preset {
            Preset::SessionStorm { .. } => Vec::new(),
            // One more, which sets.
            Preset::WatchFanout => drive::open_all(&mut net, share + 1, OPENING_AT_ONCE)?.conns,
            _ => drive::open_all(&mut net, share, OPENING_AT_ONCE)?.conns,
        };
        let _ = news.send(News::Opened);
        let window = started.recv().map_err(|_| BenchError::ThreadLost)?;
        let recorder = |names| Recorder::new(names, window, counters);
        let recorder = match preset {
            Preset::WatchFanout => {
                let path = format!("{}/watched", self.base);
                let recorder = recorder(Fanout::SERIES);
                drive(&mut net, Fanout::new(recorder, &path, common.size, conns)?)
            }
            Preset::Lock { paths } => {
                let recorder = recorder(Lock::SERIES);
                drive(&mut net, Lock::new(recorder, self.base, paths, conns)?)
            }
            Preset::SessionStorm { .. } => {
                drive(&mut net, Storm::new(recorder(Storm::SERIES), share))
            }
            _ => {
                let plan = PumpPlan {
                    preset,
                    base: self.base,
                    size: common.size,
                    keys: common.keys,
                    depth: common.depth(),
                    rate: common.rate.map(|rate| rate / threads as f64),
                    thread: u64::try_from(thread).unwrap_or(0),
                    threads: u64::try_from(threads).unwrap_or(1),
                };
                let recorder = recorder(Pump::series(preset));
                drive(&mut net, Pump::new(&plan, recorder, conns)?)
            }
        }?;
        drive::close_all(&mut net)?;
        Ok(recorder)
    }

    /// Opens the sessions and holds them; the figures are how fast they opened and, by the
    /// server's memory before and after, what they weigh.
    fn hold(&self, progress: Progress) -> Result<Measured, BenchError> {
        let common = &self.plan.common;
        let mut net = self.net()?;
        let count = common.connections.get();
        progress.say("opening sessions");
        let before = self.cpu();
        let begun = self.clock.now();
        let at_once = common.depth.map_or(OPENING_AT_ONCE, |_| common.depth());
        let opened = drive::open_all(&mut net, count, at_once)?;
        let after = self.cpu();
        progress.say("holding sessions");
        drive::hold(&mut net, self.clock.now() + nanos(common.duration))?;
        let server_memory = process::memory_of_all(&common.server_pid);
        progress.clear();
        drive::close_all(&mut net)?;
        let window = Window {
            start: begun,
            end: u64::MAX,
        };
        let mut recorder = Recorder::new(&[], window, Arc::default());
        recorder.series.push(opened.series);
        let used = |part: fn(&Cpu) -> Option<u64>| Some(part(&after)? - part(&before)?);
        Ok(Measured {
            server: Default::default(),
            recorder,
            elapsed_ns: opened.elapsed_ns,
            server_cpu_ns: used(|cpu| cpu.server),
            own_cpu_ns: used(|cpu| cpu.own),
            server_memory_before: self.server_memory_before,
            server_memory,
        })
    }
}

/// CPU time at one moment, in nanoseconds.
struct Cpu {
    server: Option<u64>,
    own: Option<u64>,
}
