//! The mutex: one holder at a time, first come, first served.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quorate_client::{Client, Context, Error, Reason, Result};
use tokio::time::timeout;

use super::LockGuard;
use crate::contention::{Contention, Entry, Standing};
use crate::naming::{Layout, Naming};

/// A lock that one holder has at a time, over processes and machines.
///
/// | | |
/// | --- | --- |
/// | guarantee | first come, first served; [`LockGuard::lost`] resolves before the next can hold it |
/// | what can go wrong | a holder that stands still, and does not look: compare [tokens](LockGuard::token) |
/// | znodes | `<path>/_c_<uuid>-lock-<number>`, ephemeral; `<path>` is a container |
/// | cost | free lock: create and list in one round trip, delete. Waiting: one watch; a listing when the one in front leaves |
/// | Curator, kazoo | `InterProcessMutex`, `LeaderSelector`; `Lock` with [`Layout::Kazoo`] |
///
/// It is not re-entrant: who holds a guard passes a reference to it.
///
/// ```no_run
/// use quorate_recipes::{Client, lock::Mutex};
///
/// # async fn example(client: Client) -> quorate_recipes::Result<()> {
/// let lock = Mutex::new(&client, "/locks/report");
/// let guard = lock.acquire().await?;
/// // ... the work that nobody else may do now ...
/// guard.release().await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Mutex {
    contention: Contention,
    data: Bytes,
}

impl Mutex {
    /// A lock at this path, in Curator's layout. Nothing is sent yet.
    #[must_use]
    pub fn new(client: &Client, path: &str) -> Mutex {
        Mutex::with_layout(client, path, Layout::Curator)
    }

    /// A lock at this path, in the layout of those that it must exclude.
    #[must_use]
    pub fn with_layout(client: &Client, path: &str, layout: Layout) -> Mutex {
        let naming = match layout {
            Layout::Curator => Naming::new(layout, "lock-", &[]),
            Layout::Kazoo => Naming::new(layout, "__lock__", &["__rlock__"]),
        };
        Mutex {
            contention: Contention::new(client, path, naming),
            data: Bytes::new(),
        }
    }

    /// What the znodes of this handle carry, for those who look at who holds and who waits.
    #[must_use]
    pub fn data(mut self, data: impl Into<Bytes>) -> Mutex {
        self.data = data.into();
        self
    }

    /// Waits for the lock, for as long as the session lives.
    ///
    /// # Errors
    /// [`Error::SessionGone`] if the session ends while waiting; others if our znode cannot be made.
    ///
    /// # Cancel safety
    /// May be dropped at any time: our place is given up in the background.
    pub async fn acquire(&self) -> Result<LockGuard> {
        self.acquire_noting(&AtomicBool::new(false)).await
    }

    /// Waits for the lock for this long at most; `None` if others held it all that time.
    ///
    /// # Errors
    /// As [`acquire`](Mutex::acquire); [`Reason::TimedOut`] if not even our place could be made.
    ///
    /// # Cancel safety
    /// As [`acquire`](Mutex::acquire).
    pub async fn acquire_within(&self, time: Duration) -> Result<Option<LockGuard>> {
        let has_entered = AtomicBool::new(false);
        let acquire = self.acquire_noting(&has_entered);
        within(time, &has_entered, self.contention.directory(), acquire).await
    }

    pub(crate) async fn acquire_noting(&self, has_entered: &AtomicBool) -> Result<LockGuard> {
        let (contender, listing) = self.contention.enter_and_list(self.data.clone()).await?;
        has_entered.store(true, Ordering::Relaxed);
        contender.wait_from(Some(listing), predecessor).await?;
        LockGuard::claim(contender).await
    }

    /// Takes the lock if nobody holds it or waits for it.
    ///
    /// # Errors
    /// As [`acquire`](Mutex::acquire).
    ///
    /// # Cancel safety
    /// As [`acquire`](Mutex::acquire).
    pub async fn try_acquire(&self) -> Result<Option<LockGuard>> {
        let (contender, listing) = self.contention.enter_and_list(self.data.clone()).await?;
        let place = contender.place_by(listing).await?;
        if place.own > 0 {
            contender.leave().await?;
            return Ok(None);
        }
        LockGuard::claim(contender).await.map(Some)
    }

    /// Who holds the lock, who waits for it, and the children that are no contenders of this
    /// layout, which this lock does not exclude.
    ///
    /// A listing, and one read for each contender.
    ///
    /// # Errors
    /// If the directory cannot be read.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn contenders(&self) -> Result<Standing> {
        self.contention.standing(predecessor).await
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &str {
        self.contention.directory()
    }
}

/// A mutex waits for the one directly in front.
pub(crate) fn predecessor(_: &[Entry], own: usize) -> Option<usize> {
    own.checked_sub(1)
}

/// Gives up after this time: `None` if we had a place by then, an error if not even that.
pub(crate) async fn within<T>(
    time: Duration,
    has_entered: &AtomicBool,
    path: &str,
    acquire: impl Future<Output = Result<T>>,
) -> Result<Option<T>> {
    match timeout(time, acquire).await {
        Ok(result) => result.map(Some),
        Err(_) if has_entered.load(Ordering::Relaxed) => Ok(None),
        Err(_) => {
            let context = Context::of("acquire", path);
            Err(Error::did_not_happen(Reason::TimedOut, context))
        }
    }
}
