//! Drops a future after its first poll, after its second, and so on to its end, and looks for what
//! it has left behind.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use quorate_recipes::{Client, Result};
use quorate_server::testing::TestServer;
use tokio::time::timeout;

use super::relay::Relay;

/// A future that nobody wakes for so long waits for another.
const IDLE: Duration = Duration::from_millis(60);
/// What does not come by then does not come.
const PATIENCE: Duration = Duration::from_secs(15);

/// How far a future came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Came {
    /// It was polled as often as asked for, and would have gone on.
    SoFar,
    /// It waits for somebody else.
    Waits,
    ToItsEnd,
}

/// What becomes of the request that the last poll made, before the future is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Request {
    /// Nothing yet: it is withdrawn.
    Queued,
    /// It is on its way.
    Sent,
    /// Its answer came, and was not looked at.
    Answered,
}

/// What happens to the connection just before the future is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Weather {
    Calm,
    /// It is cut: what was asked may have happened or not.
    Cut,
}

pub(crate) struct Sweep {
    server: TestServer,
    /// The next contender.
    rival: Client,
}

/// Whose futures are dropped.
struct Victim {
    /// Two ways to the server: a client that lost one takes the other without a pause.
    relays: [Relay; 2],
    client: Client,
    /// Tasks of this runtime while nothing is under way.
    tasks: usize,
}

impl Sweep {
    pub(crate) async fn start() -> Sweep {
        let builder = TestServer::builder().config(|config| config.extended_types = true);
        let server = builder.start().await;
        let rival = Client::connect(server.connect_string()).await.unwrap();
        warm(&rival).await;
        Sweep { server, rival }
    }

    async fn victim(&self) -> Victim {
        let relays = [
            Relay::start(self.server.addr()).await,
            Relay::start(self.server.addr()).await,
        ];
        let ways = relays.each_ref().map(Relay::connect_string).join(",");
        let client = Client::connect(ways).await.unwrap();
        warm(&client).await;
        Victim {
            relays,
            client,
            tasks: tasks(),
        }
    }

    pub(crate) const fn rival(&self) -> &Client {
        &self.rival
    }

    /// Drops `attempt` at every poll. The rival prepares each one, and what it prepared with is
    /// dropped after it; then the rival must get what the victim wanted, and nothing may stay.
    pub(crate) async fn run<Held>(
        &self,
        case: &str,
        prepare: impl AsyncFn(&Client) -> Result<Held>,
        attempt: impl AsyncFn(Client) -> Result<()>,
        next: impl AsyncFn(&Client) -> Result<()>,
    ) {
        self.run_in(Weather::Calm, case, prepare, attempt, next)
            .await;
    }

    pub(crate) async fn run_in<Held>(
        &self,
        weather: Weather,
        case: &str,
        prepare: impl AsyncFn(&Client) -> Result<Held>,
        attempt: impl AsyncFn(Client) -> Result<()>,
        next: impl AsyncFn(&Client) -> Result<()>,
    ) {
        let mut victim = self.victim().await;
        for polls in 0.. {
            for request in [Request::Queued, Request::Sent, Request::Answered] {
                if weather == Weather::Cut && request != Request::Sent {
                    // As in calm weather: no request is on its way.
                    continue;
                }
                let case = format!("{case}, {weather:?}, dropped after {polls} polls, {request:?}");
                let held = bounded(&case, "cannot prepare", prepare(&self.rival)).await;
                let came = {
                    let attempt = attempt(victim.client.clone());
                    let mut attempt = pin!(attempt);
                    let came = polled(attempt.as_mut(), polls, request, &case).await;
                    if weather == Weather::Cut {
                        victim.relays.iter().for_each(Relay::cut);
                    }
                    came
                };
                drop(held);
                bounded(&case, "the next does not move up", next(&self.rival)).await;
                self.is_settled(&victim, &case).await;
                if came != Came::SoFar {
                    return;
                }
                if weather == Weather::Cut {
                    // A new one has no pauses before it that come of earlier cuts.
                    victim.client.close().await.unwrap();
                    victim = self.victim().await;
                }
            }
            assert!(polls < 500, "{case}: it comes to no end");
        }
    }

    /// Until no session has an ephemeral, no client a watch, and no task runs that did not before.
    async fn is_settled(&self, victim: &Victim, case: &str) {
        let mut left = String::new();
        let settled = async {
            loop {
                let ours = victim.client.ephemerals("/").await;
                let theirs = self.rival.ephemerals("/").await;
                let watches = victim.client.watches() + self.rival.watches();
                let more = tasks().saturating_sub(victim.tasks);
                let is_clean = |listed: &Result<Vec<String>>| {
                    listed.as_ref().is_ok_and(std::vec::Vec::is_empty)
                };
                if is_clean(&ours) && is_clean(&theirs) && watches == 0 && more == 0 {
                    return;
                }
                left = format!("{ours:?}, {theirs:?}, {watches} watches, {more} tasks");
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        };
        let is_settled = timeout(PATIENCE, settled).await.is_ok();
        assert!(is_settled, "{case}: left behind: {left}");
    }
}

/// Starts what a client starts when it is first needed.
async fn warm(client: &Client) {
    let made = client.create("/warm", "").ephemeral().sequential().await;
    let path = made.unwrap().path;
    client.delete(&path).in_background();
    while client.exists(&path).await.unwrap().is_some() {}
}

/// Tasks of this runtime. The server's are in runtimes of its own.
fn tasks() -> usize {
    tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks()
}

async fn bounded<T>(case: &str, trouble: &str, work: impl Future<Output = Result<T>>) -> T {
    match timeout(PATIENCE, work).await {
        Ok(done) => done.unwrap_or_else(|error| panic!("{case}: {trouble}: {error}")),
        Err(_) => panic!("{case}: {trouble}"),
    }
}

/// Polls so many times, each time when the future was woken.
async fn polled(
    mut future: Pin<&mut impl Future<Output = Result<()>>>,
    polls: usize,
    request: Request,
    case: &str,
) -> Came {
    let mut left = polls;
    let so_far = poll_fn(|cx| {
        if left == 0 {
            // Woken once more: what it asked for is answered.
            return Poll::Ready(Came::SoFar);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Came::ToItsEnd),
            Poll::Ready(Err(error)) => panic!("{case}: {error}"),
            Poll::Pending if left == 0 && request != Request::Answered => Poll::Ready(Came::SoFar),
            Poll::Pending => Poll::Pending,
        }
    });
    let came = timeout(IDLE, so_far).await.unwrap_or(Came::Waits);
    if request == Request::Sent {
        // For the session's task, which writes it.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }
    came
}
