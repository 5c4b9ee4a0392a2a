//! Two runtimes: clients on one, replication and apply on the other.
//!
//! Client tasks that share a worker with the Raft core wake it per request and cut its batches to
//! one or two entries: measured, half of the throughput.

use std::io;
#[cfg(feature = "testing")]
use std::sync::Arc;
#[cfg(feature = "testing")]
use std::time::Duration;

#[cfg(feature = "testing")]
use parking_lot::{Condvar, Mutex};
use tokio::runtime::{Builder, Handle, Runtime};

/// The runtimes of one server. Dropped, they stop without waiting for their tasks.
#[derive(Debug)]
pub(super) struct Runtimes {
    clients: Option<Runtime>,
    raft: Option<Runtime>,
}

/// While this lives, no task of the server makes a step: as a process that was stopped.
#[cfg(feature = "testing")]
#[derive(Debug)]
pub(crate) struct Paused {
    over: Arc<(Mutex<bool>, Condvar)>,
}

#[cfg(feature = "testing")]
impl Drop for Paused {
    fn drop(&mut self) {
        *self.over.0.lock() = true;
        self.over.1.notify_all();
    }
}

impl Runtimes {
    pub(super) fn new() -> io::Result<Runtimes> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // The log thread and the Raft worker want a core each under load.
        let workers = match cores {
            0..=2 => 1,
            3..=4 => cores - 1,
            more => more - 3,
        };
        Ok(Runtimes {
            clients: Some(runtime("quorate-client", workers)?),
            raft: Some(runtime("quorate-raft", if cores >= 8 { 2 } else { 1 })?),
        })
    }

    /// Where connections live.
    pub(super) fn clients(&self) -> &Handle {
        self.clients.as_ref().expect("taken by drop alone").handle()
    }

    /// Where the Raft core, the batcher, apply and everything periodic live.
    pub(super) fn raft(&self) -> &Handle {
        self.raft.as_ref().expect("taken by drop alone").handle()
    }
}

#[cfg(feature = "testing")]
impl Runtimes {
    /// Drops both runtimes and waits until none of their tasks makes a step. Blocks.
    pub(super) fn end(mut self) {
        for runtime in [self.clients.take(), self.raft.take()]
            .into_iter()
            .flatten()
        {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }

    /// Blocks every worker of both runtimes until the answer is dropped. Timers that are due
    /// meanwhile fire behind it, as they do in a process that goes on after a stop.
    pub(super) fn pause(&self) -> Paused {
        let over = Arc::new((Mutex::new(false), Condvar::new()));
        for runtime in [self.clients(), self.raft()] {
            for _ in 0..runtime.metrics().num_workers() {
                let over = over.clone();
                runtime.spawn(async move {
                    let mut ended = over.0.lock();
                    while !*ended {
                        over.1.wait(&mut ended);
                    }
                });
            }
        }
        Paused { over }
    }
}

impl Drop for Runtimes {
    fn drop(&mut self) {
        // A runtime must not be dropped where it could block, and this may be an async function.
        for runtime in [self.clients.take(), self.raft.take()]
            .into_iter()
            .flatten()
        {
            runtime.shutdown_background();
        }
    }
}

fn runtime(name: &str, workers: usize) -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name(name)
        .enable_all()
        .build()
}
