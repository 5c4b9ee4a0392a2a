//! A mutex that its owner may take again.

use std::collections::HashMap;
use std::hash::Hash;
use std::ops::Deref;
use std::sync::{Arc, Weak};

use parking_lot::Mutex as Map;
use quorate_client::Result;
use tokio::sync::Mutex as Slot;

use super::{LockGuard, Mutex};

/// What an owner holds, if it does; locked while it waits for it.
type Owner = Arc<Slot<Weak<LockGuard>>>;

/// A [`Mutex`] that an owner may take again while it holds it. Tasks wander between threads, so
/// the owner is whoever says the same id, to a clone of the same handle.
///
/// | | |
/// | --- | --- |
/// | guarantee | as [`Mutex`]; the znode goes when the owner's last guard goes |
/// | what can go wrong | two tasks with one id hold the lock together: that is what the id says |
/// | znodes | as [`Mutex`] |
/// | cost | as [`Mutex`] the first time, nothing after that |
/// | Curator, kazoo | `InterProcessMutex`, whose owner is a thread; none |
///
/// ```no_run
/// use quorate_recipes::{Client, lock::{Mutex, ReentrantMutex}};
///
/// # async fn example(client: Client) -> quorate_recipes::Result<()> {
/// let lock = ReentrantMutex::new(Mutex::new(&client, "/locks/report"));
/// let outer = lock.acquire("job 17").await?;
/// let inner = lock.acquire("job 17").await?;
/// assert_eq!(inner.token(), outer.token());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ReentrantMutex<Id> {
    mutex: Mutex,
    owners: Arc<Map<HashMap<Id, Owner>>>,
}

impl<Id: Hash + Eq + Clone> ReentrantMutex<Id> {
    /// Lets owners take this mutex again.
    #[must_use]
    pub fn new(mutex: Mutex) -> ReentrantMutex<Id> {
        let owners = Arc::default();
        ReentrantMutex { mutex, owners }
    }

    /// Waits for the lock, unless this owner holds it already.
    ///
    /// A lock whose session is no longer trusted counts as lost: its owner queues anew.
    ///
    /// # Errors
    /// As [`Mutex::acquire`].
    ///
    /// # Cancel safety
    /// As [`Mutex::acquire`].
    pub async fn acquire(&self, owner: Id) -> Result<ReentrantGuard> {
        let slot = {
            let mut owners = self.owners.lock();
            // Owners that hold nothing and wait for nothing are forgotten.
            owners.retain(|_, slot| {
                Arc::strong_count(slot) > 1
                    || slot.try_lock().is_ok_and(|held| held.strong_count() > 0)
            });
            Arc::clone(owners.entry(owner).or_default())
        };
        // Held while we wait: others of this owner wait for our guard and not behind it.
        let mut held = slot.lock().await;
        if let Some(guard) = held.upgrade()
            && guard.is_trusted()
        {
            return Ok(ReentrantGuard(guard));
        }
        let guard = Arc::new(self.mutex.acquire().await?);
        *held = Arc::downgrade(&guard);
        Ok(ReentrantGuard(guard))
    }

    /// The mutex.
    #[must_use]
    pub const fn mutex(&self) -> &Mutex {
        &self.mutex
    }
}

/// One of the holds of one owner. The lock is released with the last of them.
#[derive(Debug)]
#[must_use = "a dropped guard releases one hold"]
pub struct ReentrantGuard(Arc<LockGuard>);

impl Deref for ReentrantGuard {
    type Target = LockGuard;

    fn deref(&self) -> &LockGuard {
        &self.0
    }
}

impl ReentrantGuard {
    /// Gives up this hold, and waits for the lock's release if it was the last.
    ///
    /// # Errors
    /// As [`LockGuard::release`].
    ///
    /// # Cancel safety
    /// As [`LockGuard::release`].
    pub async fn release(self) -> Result<()> {
        match Arc::into_inner(self.0) {
            Some(guard) => guard.release().await,
            None => Ok(()),
        }
    }
}
