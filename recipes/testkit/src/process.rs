//! A process of its own, which can stand still.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};

use crate::line::Line;
use crate::settle::{Still, pass, settle};

/// What runs in the process's thread.
type Job = Box<dyn FnOnce() + Send>;

enum Command {
    Run(Job),
    Pass(Duration, oneshot::Sender<()>),
    Settle(bool, oneshot::Sender<()>),
    /// Stand still until told how much time has passed meanwhile.
    Stand(blocking::Receiver<Duration>),
}

/// A thread with a runtime, a clock and a [`Line`] of its own, as a process of the application has.
///
/// Unlike what runs in the test's own runtime it can be [paused](Process::pause): then nothing in it
/// runs, not even its client, and when it goes on, its clock has jumped. A clone is the same process.
#[derive(Clone, Debug)]
pub struct Process(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    line: Line,
    commands: mpsc::Sender<Command>,
    /// While it stands still: how to wake it, and what it misses.
    stands: Mutex<Option<(blocking::Sender<Duration>, Duration)>>,
}

impl Process {
    pub(crate) async fn start(server: SocketAddr) -> Process {
        let (commands, commanded) = mpsc::channel(16);
        let (tell, told) = oneshot::channel();
        let thread = std::thread::Builder::new().name("process".to_owned());
        let spawned = thread.spawn(move || {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .start_paused(true)
                .build()
                .expect("a runtime starts");
            runtime.block_on(async move {
                let still = Still::hold();
                let line = Line::open(server).await;
                if tell.send(line.clone()).is_ok() {
                    obey(commanded, line).await;
                }
                // The runtime waits for its blocking tasks when it ends.
                drop(still);
            });
        });
        spawned.expect("a thread starts");
        Process(Arc::new(Inner {
            line: told.await.expect("a process starts"),
            commands,
            stands: Mutex::new(None),
        }))
    }

    /// Its way to the server.
    #[must_use]
    pub fn line(&self) -> &Line {
        &self.0.line
    }

    /// Runs part of the application in the process, and waits for what it answers. Its future is
    /// made and polled there, and need not be `Send`.
    ///
    /// # Panics
    /// If it panics there.
    ///
    /// # Cancel safety
    /// When dropped it goes on.
    pub async fn run<T, Running>(&self, work: impl FnOnce(Line) -> Running + Send + 'static) -> T
    where
        T: Send + 'static,
        Running: Future<Output = T> + 'static,
    {
        self.start_running(work)
            .await
            .expect("it ended without an answer")
    }

    /// As [`run`](Process::run), without waiting: the answer comes through the receiver.
    ///
    /// # Panics
    /// If the process stands still and has been given 16 pieces of work meanwhile, or has ended.
    pub fn start_running<T, Running>(
        &self,
        work: impl FnOnce(Line) -> Running + Send + 'static,
    ) -> oneshot::Receiver<T>
    where
        T: Send + 'static,
        Running: Future<Output = T> + 'static,
    {
        let (tell, told) = oneshot::channel();
        let line = self.0.line.clone();
        let job: Job = Box::new(move || {
            tokio::task::spawn_local(async move {
                // Whoever asked may have gone.
                let _ = tell.send(work(line).await);
            });
        });
        // The queue is emptied as long as the process lives; one that stands still takes a few.
        let sent = self.0.commands.try_send(Command::Run(job));
        assert!(sent.is_ok(), "the process takes no more work");
        told
    }

    /// Lets nothing run in the process until [`resume`](Process::resume). Its connections stay open.
    ///
    /// # Cancel safety
    /// May take effect when dropped.
    pub async fn pause(&self) {
        let (wake, woken) = blocking::channel();
        let is_paused = {
            let mut stands = self.0.stands.lock();
            let is_paused = stands.is_some();
            stands.get_or_insert((wake, Duration::ZERO));
            is_paused
        };
        if !is_paused {
            // A process that has ended stands still, too.
            let _ = self.0.commands.send(Command::Stand(woken)).await;
        }
    }

    /// Goes on. All the time that has passed meanwhile has passed at once.
    pub fn resume(&self) {
        if let Some((wake, missed)) = self.0.stands.lock().take() {
            let _ = wake.send(missed);
        }
    }

    /// Lets its time pass: it runs, or misses it.
    pub(crate) async fn pass(&self, time: Duration) {
        if let Some((_, missed)) = &mut *self.0.stands.lock() {
            *missed += time;
            return;
        }
        self.command(|done| Command::Pass(time, done)).await;
    }

    pub(crate) async fn settle(&self, asks: bool) {
        if self.0.stands.lock().is_none() {
            self.command(|done| Command::Settle(asks, done)).await;
        }
    }

    async fn command(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) {
        let (done, is_done) = oneshot::channel();
        if self.0.commands.send(command(done)).await.is_ok() {
            let _ = is_done.await;
        }
    }
}

async fn obey(mut commands: mpsc::Receiver<Command>, line: Line) {
    let local = tokio::task::LocalSet::new();
    let lines = [line];
    let obeying = local.run_until(async {
        while let Some(command) = commands.recv().await {
            match command {
                Command::Run(job) => job(),
                Command::Pass(time, done) => {
                    pass(time).await;
                    let _ = done.send(());
                }
                Command::Settle(asks, done) => {
                    settle(&lines, asks).await;
                    let _ = done.send(());
                }
                Command::Stand(woken) => {
                    // Blocks the thread: that is what it means to stand still.
                    let missed = woken.recv().unwrap_or_default();
                    pass(missed).await;
                }
            }
        }
    });
    obeying.await;
}
