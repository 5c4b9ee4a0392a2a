//! The semaphore: at most so many permits at a time, over processes and machines.
//!
//! Both layouts have a gate, a mutex that only the next in line holds, and count the children of
//! one directory. A permit that does not fit is waited for inside the gate.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use futures::future::{pending, select_all};
use quorate_client::{Client, Context, Error, Reason, Result, Watch};

use super::mutex::within;
use super::{LockGuard, Lost, Mutex};
use crate::contention::{Contender, Contention, Standing};
use crate::fencing::FencingToken;
use crate::naming::{Layout, Naming, new_protection};

/// Permits, of which there are never more than a maximum.
///
/// | | |
/// | --- | --- |
/// | guarantee | as long as all use the same maximum, never more permits are held than that; first come, first served, also for those who want many at once |
/// | what can go wrong | users with different maxima each keep to their own; who wants many makes those behind wait, even where they would fit |
/// | znodes | `<path>/leases/_c_<uuid>-lease-<number>`, one for each permit, and the mutex `<path>/locks`; kazoo: `<path>/<hex>`, `<path>-__lock__`, and the maximum as text in `<path>` |
/// | cost | a free permit: create, list, create, list, delete; its release: delete. Only the next in line watches the permits |
/// | Curator, kazoo | `InterProcessSemaphoreV2`; `Semaphore` with [`Layout::Kazoo`] |
///
/// ```no_run
/// use quorate_recipes::{Client, lock::Semaphore};
///
/// # async fn example(client: Client) -> quorate_recipes::Result<()> {
/// let downloads = Semaphore::new(&client, "/limits/downloads", 3);
/// let permit = downloads.acquire(1).await?;
/// // ... one of three ...
/// permit.release().await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Semaphore {
    gate: Mutex,
    leases: Contention,
    path: String,
    max: Max,
    data: Bytes,
}

/// How many permits there are.
#[derive(Clone, Debug)]
enum Max {
    Fixed(u32),
    /// Four bytes in a znode, as Curator's `SharedCount` writes them.
    Shared(String),
}

impl Semaphore {
    /// Permits below this path, in Curator's layout. Nothing is sent yet.
    #[must_use]
    pub fn new(client: &Client, path: &str, max: u32) -> Semaphore {
        Semaphore::with_layout(client, path, max, Layout::Curator)
    }

    /// Permits below this path, in the layout of those who share them.
    #[must_use]
    pub fn with_layout(client: &Client, path: &str, max: u32, layout: Layout) -> Semaphore {
        Semaphore::of(client, path, Max::Fixed(max), layout)
    }

    /// As many permits as the znode at `count` says: four bytes, as Curator's `SharedCount` writes
    /// them. Whoever waits follows its changes; permits that are held when it falls stay held.
    #[must_use]
    pub fn with_shared_max(client: &Client, path: &str, count: &str) -> Semaphore {
        Semaphore::of(client, path, Max::Shared(count.to_owned()), Layout::Curator)
    }

    fn of(client: &Client, path: &str, max: Max, layout: Layout) -> Semaphore {
        let base = path.trim_end_matches('/');
        let (gate, leases) = match layout {
            Layout::Curator => (format!("{base}/locks"), format!("{base}/leases")),
            Layout::Kazoo => (format!("{base}-__lock__"), path.to_owned()),
        };
        Semaphore {
            gate: Mutex::with_layout(client, &gate, layout),
            leases: Contention::new(client, &leases, Naming::new(layout, "lease-", &[])),
            path: path.to_owned(),
            max,
            data: Bytes::new(),
        }
    }

    /// What the permits of this handle carry, for those who look at who holds them.
    #[must_use]
    pub fn data(mut self, data: impl Into<Bytes>) -> Semaphore {
        self.data = data.into();
        self.gate = self.gate.data(self.data.clone());
        self
    }

    /// Waits for so many permits, all together.
    ///
    /// # Errors
    /// [`Error::BadArgument`] for none, or more than a fixed maximum;
    /// [`Error::SessionGone`] if the session ends while waiting; others if the znodes cannot be
    /// made.
    ///
    /// # Cancel safety
    /// May be dropped at any time: our place and what we had are given up in the background.
    pub async fn acquire(&self, permits: u32) -> Result<Permits> {
        self.acquire_noting(permits, &AtomicBool::new(false)).await
    }

    /// As [`acquire`](Semaphore::acquire), for this long at most; `None` if they did not come free.
    ///
    /// # Errors
    /// As [`acquire`](Semaphore::acquire); [`Reason::TimedOut`] if we could not even queue.
    ///
    /// # Cancel safety
    /// As [`acquire`](Semaphore::acquire).
    pub async fn acquire_within(&self, permits: u32, time: Duration) -> Result<Option<Permits>> {
        let has_entered = AtomicBool::new(false);
        let acquire = self.acquire_noting(permits, &has_entered);
        within(time, &has_entered, &self.path, acquire).await
    }

    /// Takes permits if they are free and nobody waits for some.
    ///
    /// # Errors
    /// As [`acquire`](Semaphore::acquire).
    ///
    /// # Cancel safety
    /// As [`acquire`](Semaphore::acquire).
    pub async fn try_acquire(&self, permits: u32) -> Result<Option<Permits>> {
        self.check(permits)?;
        let Some(gate) = self.gate.try_acquire().await? else {
            return Ok(None);
        };
        let held = self.enter(&gate, permits).await?;
        match self.room(&gate, &held).await? {
            Room::Fits => self.pass(gate, held).await.map(Some),
            Room::Full(_) => {
                for lease in held {
                    lease.leave().await?;
                }
                gate.release().await?;
                Ok(None)
            }
        }
    }

    /// Who holds permits, one contestant for each; who waits for some, the next first; and what
    /// else is there. What is foreign among the permits counts as one nevertheless.
    ///
    /// # Errors
    /// If the directories cannot be read.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn contenders(&self) -> Result<Standing> {
        let leases = self.leases.standing(|_, _| None).await?;
        let queue = self.gate.contenders().await?;
        // Whoever holds the gate waits, or is about to leave it.
        Ok(Standing {
            holding: leases.holding,
            waiting: queue.holding.into_iter().chain(queue.waiting).collect(),
            foreign: leases.foreign.into_iter().chain(queue.foreign).collect(),
        })
    }

    fn check(&self, permits: u32) -> Result<()> {
        let text = match self.max {
            _ if permits == 0 => "no permits to wait for".to_owned(),
            Max::Fixed(max) if permits > max => format!("{permits} permits, and there are {max}"),
            _ => return Ok(()),
        };
        Err(Error::bad_argument(Reason::Option(text), self.context()))
    }

    fn context(&self) -> Context {
        Context::of("acquire", &self.path)
    }

    async fn acquire_noting(&self, permits: u32, has_entered: &AtomicBool) -> Result<Permits> {
        self.check(permits)?;
        let gate = self.gate.acquire_noting(has_entered).await?;
        let held = self.enter(&gate, permits).await?;
        let contender = gate.contender();
        contender
            .while_in_session(async {
                loop {
                    let change = match self.room(&gate, &held).await {
                        Ok(Room::Fits) => return Ok(()),
                        Ok(Room::Full(change)) => change,
                        Err(error) => {
                            contender.go_on_after(error).await?;
                            continue;
                        }
                    };
                    change.happened().await?;
                }
            })
            .await?;
        self.pass(gate, held).await
    }

    /// Makes the permits' znodes. They are counted before they are held.
    async fn enter(&self, gate: &LockGuard, permits: u32) -> Result<Vec<Contender>> {
        let leases = self.leases.in_session_of(gate.client());
        let mut held = Vec::new();
        match self.leases.naming().layout() {
            Layout::Curator => {
                for _ in 0..permits {
                    held.push(leases.enter(self.data.clone()).await?);
                }
            }
            Layout::Kazoo => {
                self.agree_on_max(gate).await?;
                for _ in 0..permits {
                    let lease = leases.plain(gate.contender(), &new_protection(Layout::Kazoo));
                    let create = gate.client().create(lease.path(), self.data.clone());
                    let created = create.ephemeral().idempotent().parents().await?;
                    held.push(lease.created(created.stat));
                }
            }
        }
        Ok(held)
    }

    /// kazoo keeps the maximum in the directory, and refuses another.
    async fn agree_on_max(&self, gate: &LockGuard) -> Result<()> {
        let Max::Fixed(max) = self.max else {
            return Ok(());
        };
        let text = max.to_string();
        let create = gate.client().create(&self.path, text.clone());
        match create.parents().await {
            Err(error) if error.is_node_exists() => {}
            result => return result.map(drop),
        }
        let node = gate.client().get(&self.path).await?;
        if node.data.is_empty() {
            return gate.client().set(&self.path, text).await.map(drop);
        }
        let said: Option<u32> = std::str::from_utf8(&node.data)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        match said {
            Some(said) if said != max => {
                let text = format!("{said} permits are agreed on here, and not {max}");
                Err(Error::bad_argument(Reason::Option(text), self.context()))
            }
            _ => Ok(()),
        }
    }

    /// Counts all children: whoever made them, each is a permit.
    async fn room(&self, gate: &LockGuard, held: &[Contender]) -> Result<Room> {
        let client = gate.client();
        let (max, max_changed) = match &self.max {
            Max::Fixed(max) => (usize::try_from(*max).unwrap_or(usize::MAX), None),
            Max::Shared(path) => {
                let (node, watch) = client.get(path).watch().await?;
                (self.read_max(&node.data)?, Some(watch))
            }
        };
        let (names, _, left) = client.children(self.leases.directory()).watch().await?;
        if let Some(lease) = held
            .iter()
            .find(|lease| !names.iter().any(|name| name == lease.name()))
        {
            return Err(lease.gone());
        }
        match names.len() <= max {
            true => Ok(Room::Fits),
            false => Ok(Room::Full(Change { left, max_changed })),
        }
    }

    fn read_max(&self, data: &[u8]) -> Result<usize> {
        let bytes: Option<[u8; 4]> = data.try_into().ok();
        let count = bytes.map(i32::from_be_bytes).ok_or_else(|| {
            let text = format!("{} bytes are no count", data.len());
            Error::bad_argument(Reason::Codec(text), self.context())
        })?;
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Lets the next in line through.
    async fn pass(&self, gate: LockGuard, held: Vec<Contender>) -> Result<Permits> {
        let mut guards = Vec::with_capacity(held.len());
        for lease in held {
            guards.push(LockGuard::claim(lease).await?);
        }
        gate.release().await?;
        Ok(Permits { guards })
    }
}

enum Room {
    Fits,
    Full(Change),
}

/// What can make room.
struct Change {
    left: Watch,
    max_changed: Option<Watch>,
}

impl Change {
    async fn happened(self) -> Result<()> {
        let max_changed = async {
            match self.max_changed {
                Some(watch) => watch.await,
                None => pending().await,
            }
        };
        tokio::select! {
            event = self.left => event.map(drop),
            event = max_changed => event.map(drop),
        }
    }
}

/// Permits that are held until they are released or dropped, or until the session ends.
#[derive(Debug)]
#[must_use = "dropped permits are released"]
pub struct Permits {
    /// Never empty.
    guards: Vec<LockGuard>,
}

impl Permits {
    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.guards.len()
    }

    /// The first permit's guard: its token, its session, its checked transactions.
    ///
    /// # Panics
    /// Never: there is at least one.
    pub fn guard(&self) -> &LockGuard {
        self.guards.first().expect("at least one permit")
    }

    /// The first permit's token. It tells grants apart; between holders at one time its order
    /// means nothing, except where the maximum is 1.
    #[must_use]
    pub fn token(&self) -> FencingToken {
        self.guard().token()
    }

    /// Resolves when one of the permits is no longer held, before another can hold it.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn lost(&self) -> Lost {
        let lost = self.guards.iter().map(|guard| Box::pin(guard.lost()));
        select_all(lost).await.0
    }

    /// As [`LockGuard::run`].
    ///
    /// # Errors
    /// [`Lost`] if a permit was lost first.
    ///
    /// # Cancel safety
    /// As `work`; the permits stay held.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, Lost> {
        tokio::select! {
            biased;
            lost = self.lost() => Err(lost),
            done = work => Ok(done),
        }
    }

    /// Gives some of the permits away, at most all but one.
    #[must_use = "dropped permits are released"]
    pub fn split(&mut self, permits: usize) -> Option<Permits> {
        let at = self
            .guards
            .len()
            .checked_sub(permits)
            .filter(|&at| at > 0)?;
        let guards = self.guards.split_off(at);
        (!guards.is_empty()).then_some(Permits { guards })
    }

    /// Releases the permits, and waits until it is done.
    ///
    /// # Errors
    /// If an outcome stays unknown; the release goes on in the background then.
    ///
    /// # Cancel safety
    /// May be dropped at any time: the release goes on in the background.
    pub async fn release(self) -> Result<()> {
        let mut result = Ok(());
        for guard in self.guards {
            result = guard.release().await.and(result);
        }
        result
    }
}

/// A lock of one permit: as [`Semaphore`] with a maximum of 1, and with its znodes.
///
/// It excludes neither a [`Mutex`] nor anything else at the same path but its own kind. A
/// [`Mutex`] needs fewer requests: this one is for meeting Curator's.
///
/// | | |
/// | --- | --- |
/// | guarantee | first come, first served; [`Permits::lost`] resolves before the next can hold it |
/// | what can go wrong, znodes, cost | as [`Semaphore`] |
/// | Curator, kazoo | `InterProcessSemaphoreMutex`; none |
///
/// ```no_run
/// use quorate_recipes::{Client, lock::SemaphoreMutex};
///
/// # async fn example(client: Client) -> quorate_recipes::Result<()> {
/// let held = SemaphoreMutex::new(&client, "/locks/report").acquire().await?;
/// held.release().await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct SemaphoreMutex(Semaphore);

impl SemaphoreMutex {
    /// A lock below this path. Nothing is sent yet.
    #[must_use]
    pub fn new(client: &Client, path: &str) -> SemaphoreMutex {
        SemaphoreMutex(Semaphore::new(client, path, 1))
    }

    /// Waits for the lock.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`].
    ///
    /// # Cancel safety
    /// As [`Semaphore::acquire`].
    pub async fn acquire(&self) -> Result<Permits> {
        self.0.acquire(1).await
    }

    /// Waits for the lock for this long at most.
    ///
    /// # Errors
    /// As [`Semaphore::acquire_within`].
    ///
    /// # Cancel safety
    /// As [`Semaphore::acquire`].
    pub async fn acquire_within(&self, time: Duration) -> Result<Option<Permits>> {
        self.0.acquire_within(1, time).await
    }

    /// Takes the lock if it is free.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`].
    ///
    /// # Cancel safety
    /// As [`Semaphore::acquire`].
    pub async fn try_acquire(&self) -> Result<Option<Permits>> {
        self.0.try_acquire(1).await
    }

    /// As [`Semaphore::contenders`].
    ///
    /// # Errors
    /// If the directories cannot be read.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn contenders(&self) -> Result<Standing> {
        self.0.contenders().await
    }

    pub(crate) fn path(&self) -> &str {
        &self.0.path
    }
}
