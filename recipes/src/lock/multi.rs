//! Several locks as one.

use std::time::Duration;

use futures::future::select_all;
use quorate_client::{Context, Error, Reason, Result};
use tokio::time::timeout;

use super::{LockGuard, Lost, Mutex, Permits, ReadGuard, RwLock, SemaphoreMutex, WriteGuard};

/// A lock of one kind or another, as a member of a [`MultiLock`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Member {
    /// A mutex.
    Mutex(Mutex),
    /// A read-write lock, for reading.
    Read(RwLock),
    /// A read-write lock, for writing.
    Write(RwLock),
    /// A semaphore of one permit.
    Semaphore(SemaphoreMutex),
}

impl Member {
    fn path(&self) -> &str {
        match self {
            Member::Mutex(lock) => lock.path(),
            Member::Read(lock) | Member::Write(lock) => lock.path(),
            Member::Semaphore(lock) => lock.path(),
        }
    }

    async fn acquire(&self) -> Result<Held> {
        Ok(match self {
            Member::Mutex(lock) => Held::Mutex(lock.acquire().await?),
            Member::Read(lock) => Held::Read(lock.read().await?),
            Member::Write(lock) => Held::Write(lock.write().await?),
            Member::Semaphore(lock) => Held::Semaphore(lock.acquire().await?),
        })
    }
}

impl From<Mutex> for Member {
    fn from(lock: Mutex) -> Member {
        Member::Mutex(lock)
    }
}

impl From<SemaphoreMutex> for Member {
    fn from(lock: SemaphoreMutex) -> Member {
        Member::Semaphore(lock)
    }
}

#[derive(Debug)]
enum Held {
    Mutex(LockGuard),
    Read(ReadGuard),
    Write(WriteGuard),
    Semaphore(Permits),
}

impl Held {
    fn guard(&self) -> &LockGuard {
        match self {
            Held::Mutex(guard) => guard,
            Held::Read(guard) => guard,
            Held::Write(guard) => guard,
            Held::Semaphore(permits) => permits.guard(),
        }
    }

    async fn release(self) -> Result<()> {
        match self {
            Held::Mutex(guard) => guard.release().await,
            Held::Read(guard) => guard.release().await,
            Held::Write(guard) => guard.release().await,
            Held::Semaphore(permits) => permits.release().await,
        }
    }
}

/// Several locks that are taken together, or not at all.
///
/// | | |
/// | --- | --- |
/// | guarantee | those who take overlapping sets cannot wait for each other in a circle: all take them in the order of their paths |
/// | what can go wrong | a circle with somebody who takes single locks in another order; Curator keeps the order that its caller gives |
/// | znodes, cost | those of the members, one after the other |
/// | Curator, kazoo | `InterProcessMultiLock`; none |
///
/// ```no_run
/// use quorate_recipes::{Client, lock::{MultiLock, Mutex}};
///
/// # async fn example(client: Client) -> quorate_recipes::Result<()> {
/// let accounts = ["/accounts/7", "/accounts/3"].map(|path| Mutex::new(&client, path).into());
/// let held = MultiLock::new(accounts)?.acquire().await?;
/// held.release().await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct MultiLock {
    /// In the order of their paths.
    members: Vec<Member>,
}

impl MultiLock {
    /// These locks, in whatever order they come.
    ///
    /// # Errors
    /// [`Error::BadArgument`] for none, or two of one path: the second would wait for the first.
    pub fn new(members: impl IntoIterator<Item = Member>) -> Result<MultiLock> {
        let mut members: Vec<Member> = members.into_iter().collect();
        members.sort_by(|a, b| a.path().cmp(b.path()));
        let twice = members
            .windows(2)
            .find_map(|pair| match pair {
                [a, b] if a.path() == b.path() => Some(format!("{} is there twice", a.path())),
                _ => None,
            })
            .or_else(|| members.is_empty().then(|| "no locks".to_owned()));
        match twice {
            None => Ok(MultiLock { members }),
            Some(text) => {
                let context = Context::of("acquire", "");
                Err(Error::bad_argument(Reason::Option(text), context))
            }
        }
    }

    /// Waits for all of them, one after the other.
    ///
    /// # Errors
    /// The first that a member meets. What was taken by then is released in the background.
    ///
    /// # Cancel safety
    /// May be dropped at any time: what was taken by then is released in the background.
    pub async fn acquire(&self) -> Result<MultiGuard> {
        let mut guard = MultiGuard { held: Vec::new() };
        for member in &self.members {
            guard.held.push(member.acquire().await?);
        }
        Ok(guard)
    }

    /// As [`acquire`](MultiLock::acquire), for this long at most, over all of them; `None` if that
    /// was too short.
    ///
    /// # Errors
    /// As [`acquire`](MultiLock::acquire).
    ///
    /// # Cancel safety
    /// As [`acquire`](MultiLock::acquire).
    pub async fn acquire_within(&self, time: Duration) -> Result<Option<MultiGuard>> {
        match timeout(time, self.acquire()).await {
            Ok(result) => result.map(Some),
            Err(_) => Ok(None),
        }
    }
}

/// Holds several locks. They are released in the reverse order.
#[derive(Debug)]
#[must_use = "a dropped guard releases the locks"]
pub struct MultiGuard {
    /// Never empty once it is handed out.
    held: Vec<Held>,
}

impl MultiGuard {
    /// The members' guards, in the order of their paths.
    pub fn guards(&self) -> impl Iterator<Item = &LockGuard> {
        self.held.iter().map(Held::guard)
    }

    /// Resolves when one of the locks is lost, before another can hold it.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn lost(&self) -> Lost {
        select_all(self.guards().map(|guard| Box::pin(guard.lost())))
            .await
            .0
    }

    /// Releases all, the last first, and waits until it is done.
    ///
    /// # Errors
    /// If an outcome stays unknown; the release goes on in the background then.
    ///
    /// # Cancel safety
    /// May be dropped at any time: the release goes on in the background.
    pub async fn release(mut self) -> Result<()> {
        let mut result = Ok(());
        while let Some(held) = self.held.pop() {
            result = held.release().await.and(result);
        }
        result
    }
}

impl Drop for MultiGuard {
    fn drop(&mut self) {
        while self.held.pop().is_some() {}
    }
}
