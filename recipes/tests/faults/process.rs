//! A process: a thread with a runtime of its own, which can be made to stand still.

use std::thread::JoinHandle;
use std::time::Duration;

use quorate_recipes::Client;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::history::{History, Stall};

/// How often a process looks whether it stood still, and what counts as that.
const PULSE: Duration = Duration::from_millis(5);
const STILL: Duration = Duration::from_millis(25);

pub(crate) struct Process {
    runtime: Handle,
    pub(crate) client: Client,
    thread: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts a process that opens a client and works with it until that ends.
    pub(crate) async fn start<Work: Future<Output = ()> + 'static>(
        number: usize,
        (connect_string, session): (String, Duration),
        history: &History,
        work: impl FnOnce(Client) -> Work + Send + 'static,
    ) -> Process {
        let (tell, told) = oneshot::channel();
        let history = history.clone();
        let thread = std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let client = super::client_of(connect_string, session).await;
                let told = tell.send((Handle::current(), client.clone()));
                assert!(told.is_ok(), "the run is over");
                tokio::select! {
                    // First, so that what it notes is noted before the work goes on.
                    biased;
                    () = pulse(Some(number), history) => {}
                    () = work(client) => {}
                }
            });
        });
        let (runtime, client) = told.await.unwrap();
        Process {
            runtime,
            client,
            thread: Some(thread),
        }
    }

    /// Lets nothing run in this process for so long: as a debugger, a swap or a hypervisor does.
    #[expect(clippy::disallowed_methods, reason = "it is to block, at any await")]
    pub(crate) fn pause(&self, time: Duration) {
        self.runtime.spawn(async move { std::thread::sleep(time) });
    }

    pub(crate) fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    pub(crate) fn join(mut self) {
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Notes when nothing ran here, whoever was to blame.
pub(crate) async fn pulse(process: Option<usize>, history: History) {
    let mut last = Instant::now();
    loop {
        sleep(PULSE).await;
        let now = Instant::now();
        if now - last > STILL {
            history.stalled(Stall {
                process,
                from: last,
                to: now,
            });
        }
        last = now;
    }
}
