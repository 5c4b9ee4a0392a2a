//! The read-write lock: many readers or one writer, first come, first served.

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quorate_client::{Client, CreateOp, Error, Result};

use super::LockGuard;
use super::mutex::{predecessor, within};
use crate::contention::{Contender, Contention, Entry, Standing};
use crate::naming::{Layout, Naming, new_protection};

const CURATOR_READ: &str = "__READ__";
const CURATOR_WRITE: &str = "__WRIT__";
const KAZOO_READ: &str = "__rlock__";
const KAZOO_WRITE: &str = "__lock__";

/// A lock that many readers share, or one writer has alone.
///
/// | | |
/// | --- | --- |
/// | guarantee | no reader beside a writer, no writer beside another; a reader behind a waiting writer waits, so that readers cannot starve writers; [`LockGuard::lost`] resolves before another can hold it |
/// | what can go wrong | a holder that stands still: compare the [tokens](LockGuard::token) of writers; those of readers are in no order among themselves |
/// | znodes | `<path>/_c_<uuid>-__READ__<number>` and `…-__WRIT__<number>`, ephemeral; `<path>` is a container |
/// | cost | as [`Mutex`](super::Mutex). A reader watches the writer directly in front of it; a writer, whoever is directly in front |
/// | Curator, kazoo | `InterProcessReadWriteLock`; `ReadLock` and `WriteLock` with [`Layout::Kazoo`] |
///
/// It is not re-entrant: who wants to read and then to write downgrades, or tries to upgrade.
///
/// ```no_run
/// use quorate_recipes::{Client, lock::RwLock};
///
/// # async fn example(client: Client) -> quorate_recipes::Result<()> {
/// let lock = RwLock::new(&client, "/locks/index");
/// let writing = lock.write().await?;
/// // ... build the index, then read it, and let no writer in between ...
/// let reading = writing.downgrade().await?;
/// reading.release().await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RwLock {
    read: Contention,
    write: Contention,
    data: Bytes,
}

impl RwLock {
    /// A lock at this path, in Curator's layout. Nothing is sent yet.
    #[must_use]
    pub fn new(client: &Client, path: &str) -> RwLock {
        RwLock::with_layout(client, path, Layout::Curator)
    }

    /// A lock at this path, in the layout of those that it must exclude.
    #[must_use]
    pub fn with_layout(client: &Client, path: &str, layout: Layout) -> RwLock {
        let (read, write): (_, (&'static str, &'static [&'static str])) = match layout {
            Layout::Curator => (
                Naming::new(layout, CURATOR_READ, &[CURATOR_WRITE]),
                (CURATOR_WRITE, &[CURATOR_READ]),
            ),
            Layout::Kazoo => (
                Naming::new(layout, KAZOO_READ, &[KAZOO_WRITE]),
                (KAZOO_WRITE, &[KAZOO_READ]),
            ),
        };
        RwLock {
            read: Contention::new(client, path, read),
            write: Contention::new(client, path, Naming::new(layout, write.0, write.1)),
            data: Bytes::new(),
        }
    }

    /// What the znodes of this handle carry, for those who look at who holds and who waits.
    #[must_use]
    pub fn data(mut self, data: impl Into<Bytes>) -> RwLock {
        self.data = data.into();
        self
    }

    /// Waits until no writer holds the lock or waits in front of us.
    ///
    /// # Errors
    /// [`Error::SessionGone`] if the session ends while waiting; others if our znode cannot be made.
    ///
    /// # Cancel safety
    /// May be dropped at any time: our place is given up in the background.
    pub async fn read(&self) -> Result<ReadGuard> {
        self.read_noting(&AtomicBool::new(false)).await
    }

    /// As [`read`](RwLock::read), for this long at most; `None` if there was a writer all that time.
    ///
    /// # Errors
    /// As [`read`](RwLock::read); [`Reason::TimedOut`](quorate_client::Reason::TimedOut) if not
    /// even our place could be made.
    ///
    /// # Cancel safety
    /// As [`read`](RwLock::read).
    pub async fn read_within(&self, time: Duration) -> Result<Option<ReadGuard>> {
        let has_entered = AtomicBool::new(false);
        let read = self.read_noting(&has_entered);
        within(time, &has_entered, self.path(), read).await
    }

    /// Takes the lock for reading if no writer holds it or waits for it.
    ///
    /// # Errors
    /// As [`read`](RwLock::read).
    ///
    /// # Cancel safety
    /// As [`read`](RwLock::read).
    pub async fn try_read(&self) -> Result<Option<ReadGuard>> {
        let guard = try_enter(&self.read, &self.data, nearest_writer).await?;
        Ok(guard.map(|guard| self.reading(guard)))
    }

    /// Waits until all in front of us have left.
    ///
    /// # Errors
    /// As [`read`](RwLock::read).
    ///
    /// # Cancel safety
    /// As [`read`](RwLock::read).
    pub async fn write(&self) -> Result<WriteGuard> {
        self.write_noting(&AtomicBool::new(false)).await
    }

    /// As [`write`](RwLock::write), for this long at most; `None` if others held it all that time.
    ///
    /// # Errors
    /// As [`read_within`](RwLock::read_within).
    ///
    /// # Cancel safety
    /// As [`read`](RwLock::read).
    pub async fn write_within(&self, time: Duration) -> Result<Option<WriteGuard>> {
        let has_entered = AtomicBool::new(false);
        let write = self.write_noting(&has_entered);
        within(time, &has_entered, self.path(), write).await
    }

    /// Takes the lock for writing if nobody holds it or waits for it.
    ///
    /// # Errors
    /// As [`read`](RwLock::read).
    ///
    /// # Cancel safety
    /// As [`read`](RwLock::read).
    pub async fn try_write(&self) -> Result<Option<WriteGuard>> {
        let guard = try_enter(&self.write, &self.data, predecessor).await?;
        Ok(guard.map(|guard| self.writing(guard)))
    }

    /// Who reads or writes, who waits, and the children that are no contenders of this layout.
    /// [`Contestant::tag`](crate::Contestant::tag) tells readers from writers.
    ///
    /// A listing, and one read for each contender.
    ///
    /// # Errors
    /// If the directory cannot be read.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn contenders(&self) -> Result<Standing> {
        self.read.standing(blocker).await
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &str {
        self.read.directory()
    }

    async fn read_noting(&self, has_entered: &AtomicBool) -> Result<ReadGuard> {
        let (contender, listing) = self.read.enter_and_list(self.data.clone()).await?;
        has_entered.store(true, Ordering::Relaxed);
        contender.wait_from(Some(listing), nearest_writer).await?;
        Ok(self.reading(LockGuard::claim(contender).await?))
    }

    async fn write_noting(&self, has_entered: &AtomicBool) -> Result<WriteGuard> {
        let (contender, listing) = self.write.enter_and_list(self.data.clone()).await?;
        has_entered.store(true, Ordering::Relaxed);
        contender.wait_from(Some(listing), predecessor).await?;
        Ok(self.writing(LockGuard::claim(contender).await?))
    }

    fn reading(&self, guard: LockGuard) -> ReadGuard {
        let lock = self.clone();
        ReadGuard { guard, lock }
    }

    fn writing(&self, guard: LockGuard) -> WriteGuard {
        let lock = self.clone();
        WriteGuard { guard, lock }
    }

    /// The name of a znode that takes the place of `held` under another tag.
    fn name_in_place_of(&self, held: &Contender, tag: &str) -> String {
        let (_, number) = held.name().split_at(held.name().len().saturating_sub(10));
        let protection = new_protection(self.read.naming().layout());
        format!("{protection}{tag}{number}")
    }
}

async fn try_enter(
    contention: &Contention,
    data: &Bytes,
    blocker: fn(&[Entry], usize) -> Option<usize>,
) -> Result<Option<LockGuard>> {
    let (contender, listing) = contention.enter_and_list(data.clone()).await?;
    let place = contender.place_by(listing).await?;
    if blocker(&place.entries, place.own).is_some() {
        contender.leave().await?;
        return Ok(None);
    }
    LockGuard::claim(contender).await.map(Some)
}

fn is_writer(entry: &Entry) -> bool {
    entry.tag == CURATOR_WRITE || entry.tag == KAZOO_WRITE
}

/// A reader waits for the last writer in front of it: when that has left, all in front of it have.
fn nearest_writer(entries: &[Entry], own: usize) -> Option<usize> {
    entries.get(..own)?.iter().rposition(is_writer)
}

/// What each of them waits for.
fn blocker(entries: &[Entry], own: usize) -> Option<usize> {
    match entries.get(own).is_some_and(is_writer) {
        true => predecessor(entries, own),
        false => nearest_writer(entries, own),
    }
}

/// Holds the lock for reading.
#[derive(Debug)]
#[must_use = "a dropped guard releases the lock"]
pub struct ReadGuard {
    guard: LockGuard,
    lock: RwLock,
}

/// Holds the lock for writing.
#[derive(Debug)]
#[must_use = "a dropped guard releases the lock"]
pub struct WriteGuard {
    guard: LockGuard,
    lock: RwLock,
}

impl Deref for ReadGuard {
    type Target = LockGuard;

    fn deref(&self) -> &LockGuard {
        &self.guard
    }
}

impl Deref for WriteGuard {
    type Target = LockGuard;

    fn deref(&self) -> &LockGuard {
        &self.guard
    }
}

/// What became of [`ReadGuard::try_upgrade`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Upgrade {
    /// Alone: the lock is held for writing.
    Writing(WriteGuard),
    /// Others read, or came to read just then: the lock is still held for reading.
    StillReading(ReadGuard),
}

impl WriteGuard {
    /// Goes on as a reader, and lets no writer in between. One request.
    ///
    /// The [token](LockGuard::token) stays: a new one would be larger than those of writers that
    /// already wait. The reader's znode is a plain ephemeral that has the writer's number.
    ///
    /// # Errors
    /// If nobody knows whether it happened, or the lock is lost. The lock is released then.
    ///
    /// # Cancel safety
    /// May be dropped at any time: the lock is released in the background.
    ///
    /// Source: Curator `InterProcessReadWriteLock`, which takes two requests.
    pub async fn downgrade(self) -> Result<ReadGuard> {
        let WriteGuard { guard, lock } = self;
        let token = guard.token();
        let writer = guard.contender();
        let name = lock.name_in_place_of(writer, lock.read.naming().tag());
        // Before its znode is made, so that a drop deletes what may have been made.
        let reader = writer.beside(&name);
        let node = CreateOp::new(reader.path(), lock.data.clone()).ephemeral();
        let swap = writer.client().multi().create_with(node);
        match swap.delete(writer.path()).await {
            Ok(_) => {}
            Err(error) if matches!(error, Error::Unknown { .. }) => {
                // The name was never used before: if it is there, it is what we made.
                drop(reader.watch_own().await.map_err(|_| error)?);
            }
            Err(error) => return Err(error),
        }
        guard.into_contender().forget();
        let guard = LockGuard::claim_with(reader, token).await?;
        Ok(lock.reading(guard))
    }

    /// Releases the lock, and waits until it is done.
    ///
    /// # Errors
    /// As [`LockGuard::release`].
    ///
    /// # Cancel safety
    /// As [`LockGuard::release`].
    pub async fn release(self) -> Result<()> {
        self.guard.release().await
    }
}

impl ReadGuard {
    /// Goes on as the writer if nobody else reads. It never waits for others, so two who try
    /// cannot wait for each other; then neither may succeed, or one.
    ///
    /// Three requests. The [token](LockGuard::token) stays that of the reader: it is larger than
    /// those of all writers before, and smaller than those of writers that already wait.
    ///
    /// # Errors
    /// If our znode cannot be exchanged, or the lock is lost. The lock is released then.
    ///
    /// # Cancel safety
    /// May be dropped at any time: the lock is released in the background.
    ///
    /// Curator and kazoo have none.
    pub async fn try_upgrade(self) -> Result<Upgrade> {
        let ReadGuard { guard, lock } = self;
        let reader = guard.contender();
        let name = lock.name_in_place_of(reader, lock.write.naming().tag());
        let writer = reader.beside(&name);
        // From here on whoever comes to read waits behind it.
        let create = writer.client().create(writer.path(), lock.data.clone());
        create.ephemeral().idempotent().await?;
        let (entries, _) = lock.read_pinned(reader).entries().await?;
        let others: Vec<&Entry> = entries
            .iter()
            .filter(|entry| entry.name != reader.name() && entry.name != writer.name())
            .collect();
        // Whoever else reads now stands in front of every other writer, or beside the one that it
        // would become itself: those two have one number, and the order of their names means
        // nothing.
        let front = others.first().map(|entry| entry.sequence);
        let is_alone = others
            .iter()
            .filter(|entry| Some(entry.sequence) == front)
            .all(|entry| is_writer(entry));
        let is_held = entries.iter().any(|entry| entry.name == writer.name());
        if !is_held || !entries.iter().any(|entry| entry.name == reader.name()) {
            return Err(reader.gone());
        }
        if !is_alone {
            writer.leave().await?;
            return Ok(Upgrade::StillReading(lock.reading(guard)));
        }
        let token = guard.token();
        let writing = LockGuard::claim_with(writer, token).await?;
        guard.release().await?;
        Ok(Upgrade::Writing(lock.writing(writing)))
    }

    /// Releases the lock, and waits until it is done.
    ///
    /// # Errors
    /// As [`LockGuard::release`].
    ///
    /// # Cancel safety
    /// As [`LockGuard::release`].
    pub async fn release(self) -> Result<()> {
        self.guard.release().await
    }
}

impl RwLock {
    /// The directory, looked at in the session of a contender.
    fn read_pinned(&self, contender: &Contender) -> Contention {
        self.read.in_session_of(contender.client())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(tags: &[&'static str]) -> Vec<Entry> {
        let numbered = tags.iter().zip(0..);
        let entry = |(&tag, sequence)| Entry {
            name: format!("{tag}{sequence:010}"),
            tag,
            sequence,
        };
        numbered.map(entry).collect()
    }

    #[test]
    fn a_reader_waits_for_the_nearest_writer_and_a_writer_for_anybody() {
        let queue = entries(&[
            CURATOR_READ,
            CURATOR_WRITE,
            CURATOR_WRITE,
            CURATOR_READ,
            CURATOR_READ,
        ]);
        let waits: Vec<Option<usize>> = (0..5).map(|own| blocker(&queue, own)).collect();
        assert_eq!(waits, [None, Some(0), Some(1), Some(2), Some(2)]);
    }
}
