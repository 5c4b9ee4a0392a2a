//! What is locked, led or limited, and one who does it again and again.

use std::ops::ControlFlow;
use std::time::Duration;

use quorate_recipes::election::{LeaderLatch, LeaderSelector};
use quorate_recipes::lock::{
    LockGuard, MultiLock, Mutex, ReentrantMutex, RwLock, Semaphore, revoke,
};
use quorate_recipes::{Client, Layout, Result};
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::WORKERS;
use super::history::{History, Holding};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Mutex,
    KazooMutex,
    RwLock,
    KazooRwLock,
    /// One permit or two at a time, of three.
    Semaphore,
    KazooSemaphore,
    Reentrant,
    Multi,
    /// Whoever waits asks the holder to let go.
    Revocable,
    Latch,
    Selector,
    KazooElection,
}

impl Kind {
    pub(crate) fn capacity(self) -> usize {
        match self {
            Kind::RwLock | Kind::KazooRwLock => WORKERS,
            Kind::Semaphore => 3,
            Kind::KazooSemaphore => 2,
            _ => 1,
        }
    }

    fn layout(self) -> Layout {
        match self {
            Kind::KazooMutex | Kind::KazooRwLock | Kind::KazooSemaphore | Kind::KazooElection => {
                Layout::Kazoo
            }
            _ => Layout::Curator,
        }
    }

    fn path(self) -> String {
        format!("/resource/{self:?}")
    }

    /// What is empty when nobody holds or waits.
    pub(crate) fn directories(self) -> Vec<String> {
        let path = self.path();
        match self {
            Kind::Semaphore => vec![format!("{path}/leases"), format!("{path}/locks")],
            Kind::KazooSemaphore => vec![format!("{path}-__lock__"), path],
            Kind::Multi => vec![format!("{path}/a"), format!("{path}/b")],
            _ => vec![path],
        }
    }
}

pub(crate) struct Worker {
    number: usize,
    client: Client,
    history: History,
    rng: StdRng,
}

/// Holds for a moment, writes, and lets go when the lock is lost.
async fn hold(guard: &LockGuard, holding: Holding, time: Duration) {
    let work = async {
        holding.write();
        sleep(time).await;
        holding.write();
    };
    drop(guard.run(work).await);
    drop(holding);
}

/// As [`hold`], where others hold at the same time: they have no order.
async fn share(guard: &LockGuard, holding: Holding, time: Duration) {
    drop(guard.run(sleep(time)).await);
    drop(holding);
}

impl Worker {
    pub(crate) fn new(number: usize, client: Client, history: History, rng: StdRng) -> Worker {
        Worker {
            number,
            client,
            history,
            rng,
        }
    }

    async fn once(&mut self, kind: Kind) -> Result<()> {
        // Now and then long enough to be lost meanwhile.
        let time = match self.rng.random_bool(0.2) {
            true => self.rng.random_range(1_000..2_500),
            false => self.rng.random_range(0..40),
        };
        let time = Duration::from_millis(time);
        let (client, history, number) = (&self.client, &self.history, self.number);
        let enter = |guard: &LockGuard, weight| {
            history.enter(number, guard.session(), guard.token(), weight)
        };
        let (path, layout) = (kind.path(), kind.layout());
        match kind {
            Kind::Mutex | Kind::KazooMutex => {
                let lock = Mutex::with_layout(client, &path, layout);
                let guard = lock.acquire().await?;
                hold(&guard, enter(&guard, 1), time).await;
                guard.release().await
            }
            Kind::RwLock | Kind::KazooRwLock if self.rng.random_bool(0.5) => {
                let lock = RwLock::with_layout(client, &path, layout);
                let guard = lock.read().await?;
                share(&guard, enter(&guard, 1), time).await;
                guard.release().await
            }
            Kind::RwLock | Kind::KazooRwLock => {
                let lock = RwLock::with_layout(client, &path, layout);
                let guard = lock.write().await?;
                hold(&guard, enter(&guard, WORKERS), time).await;
                let guard = guard.downgrade().await?;
                share(&guard, enter(&guard, 1), time).await;
                guard.release().await
            }
            Kind::Semaphore | Kind::KazooSemaphore => {
                let (max, weight) = match kind {
                    Kind::Semaphore => (3, self.rng.random_range(1..=2)),
                    _ => (2, 1),
                };
                let semaphore = Semaphore::with_layout(client, &path, max, layout);
                let permits = semaphore.acquire(weight).await?;
                let holding = enter(permits.guard(), permits.count());
                drop(permits.run(sleep(time)).await);
                drop(holding);
                permits.release().await
            }
            Kind::Reentrant => {
                let lock = ReentrantMutex::new(Mutex::new(client, &path));
                let outer = lock.acquire(number).await?;
                let holding = enter(&outer, 1);
                let inner = lock.acquire(number).await?;
                // Another session may have come in between: then it is another lock, and the
                // first one is lost.
                if inner.token() == outer.token() {
                    hold(&inner, holding, time).await;
                }
                inner.release().await?;
                outer.release().await
            }
            Kind::Multi => {
                let members = ["b", "a"].map(|name| Mutex::new(client, &format!("{path}/{name}")));
                let guard = MultiLock::new(members.map(Into::into))?.acquire().await?;
                let first = guard.guards().next().unwrap();
                let holding = enter(first, 1);
                tokio::select! {
                    biased;
                    _ = guard.lost() => {}
                    () = hold(first, holding, time) => {}
                }
                guard.release().await
            }
            Kind::Revocable => {
                let lock = Mutex::new(client, &path);
                if let Some(holder) = lock.contenders().await?.holding.first() {
                    drop(revoke(client, &holder.path).await);
                }
                let guard = lock.acquire().await?;
                let holding = enter(&guard, 1);
                let work = async {
                    holding.write();
                    tokio::select! {
                        () = sleep(time) => {}
                        _ = guard.revoke_requested() => {}
                    }
                };
                drop(guard.run(work).await);
                drop(holding);
                guard.release().await
            }
            Kind::Latch | Kind::KazooElection => {
                let latch = LeaderLatch::with_layout(client, &path, "id", layout);
                let leadership = latch.campaign().await?;
                hold(&leadership, enter(&leadership, 1), time).await;
                leadership.resign().await
            }
            Kind::Selector => {
                let selector = LeaderSelector::new(client, &path, "id");
                let lead = selector.lead(|term| {
                    let holding = enter(&term, 1);
                    async move {
                        holding.write();
                        sleep(time).await;
                        holding.write();
                        drop(holding);
                        ControlFlow::Break(())
                    }
                });
                lead.await
            }
        }
    }

    pub(crate) async fn work(mut self, kind: Kind, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                // Failures are what the faults are for.
                result = self.once(kind) => if result.is_err() {
                    sleep(Duration::from_millis(10)).await;
                },
            }
        }
        self.client.close().await.ok();
    }
}
