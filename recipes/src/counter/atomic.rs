//! Values that are changed on the condition that nobody changed them in between.

use std::time::Duration;

use bytes::Bytes;
use quorate_client::{Client, Context, Error, ErrorCode, Outcome, Reason, Result};
use rand::Rng;
use tokio::time::sleep;

use super::marks::Marks;
use super::stored::{Addable, Stored};
use crate::lock::Mutex;

/// A 4-byte counter: [`Atomic`].
pub type AtomicInteger = Atomic<i32>;
/// An 8-byte counter: [`Atomic`].
pub type AtomicLong = Atomic<i64>;
/// Any bytes: [`Atomic`].
pub type AtomicValue = Atomic<Bytes>;

/// A value that many change, none of whose changes is lost or counted twice unnoticed.
///
/// | | |
/// | --- | --- |
/// | guarantee | `Ok`: it took effect, exactly once. An error's [`outcome`](Error::outcome) says `DidNotHappen` or `Unknown`; what is unknown is never repeated |
/// | what can go wrong | a lost answer while another writes the same bytes: `Unknown`; with [`settled_by`](Atomic::settled_by) only the loss of the session can leave it so |
/// | znodes | `<path>`, persistent, its parents containers; `<marks>/_c_<uuid>-<number>`, ephemeral |
/// | cost | a read and a write; each conflict costs both again. No watches |
/// | Curator, kazoo | `DistributedAtomicInteger`, `DistributedAtomicLong`, `DistributedAtomicValue`; `Counter` with [`Ascii`](super::Ascii) |
///
/// ```no_run
/// use quorate_recipes::{Client, counter::AtomicLong};
///
/// # async fn example(client: Client) -> quorate_recipes::Result<()> {
/// let visits = AtomicLong::new(&client, "/counters/visits").settled_by("/counters/marks");
/// let change = visits.add(&1).await?;
/// println!("we were visitor number {}", change.after);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Atomic<V> {
    client: Client,
    path: String,
    /// How often it is tried against others without a lock.
    tries: u32,
    /// Whose turn it is when the tries did not do, and for how long that is waited for.
    lock: Option<(Mutex, Duration)>,
    marks: Option<Marks>,
    _value: std::marker::PhantomData<fn() -> V>,
}

/// A change that took effect.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Change<V> {
    /// The value that it found.
    pub before: V,
    /// The value that it left.
    pub after: V,
}

/// What was read.
struct Found<V> {
    value: V,
    /// Its version and the znode's birth; `None` if there is none.
    at: Option<(i32, i64)>,
}

/// How one attempt to write ended.
enum Written {
    Done,
    /// Somebody was faster; nothing of ours happened.
    Conflict(Error),
}

impl<V: Stored> Atomic<V> {
    /// The value at this path. Nothing is sent yet.
    #[must_use]
    pub fn new(client: &Client, path: &str) -> Atomic<V> {
        Atomic {
            client: client.clone(),
            path: path.to_owned(),
            tries: 16,
            lock: None,
            marks: None,
            _value: std::marker::PhantomData,
        }
    }

    /// How often a change is tried when others are faster: 16 times if nothing else is said.
    #[must_use]
    pub fn tries(mut self, tries: u32) -> Atomic<V> {
        self.tries = tries.max(1);
        self
    }

    /// Goes on under this lock when the tries did not do, after waiting for it this long at most.
    ///
    /// Source: Curator `PromotedToLock`.
    #[must_use]
    pub fn promoted(mut self, lock: Mutex, wait: Duration) -> Atomic<V> {
        self.lock = Some((lock, wait));
        self
    }

    /// Finds out whether a change took effect whose answer was lost, by a mark in this directory
    /// that is written together with the value.
    ///
    /// One ephemeral znode per handle, and one change at a time. Others need not know of it.
    #[must_use]
    pub fn settled_by(mut self, directory: &str) -> Atomic<V> {
        self.marks = Some(Marks::new(directory));
        self
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The value as the connected server knows it; where there is none, as
    /// [`Stored::absent`].
    ///
    /// # Errors
    /// [`Reason::Codec`] for bytes that are no such value.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn get(&self) -> Result<V> {
        Ok(self.find().await?.value)
    }

    /// Replaces the value, whatever it was; makes it if there is none.
    ///
    /// # Errors
    /// As any write's; after an unknown outcome it may be called again, as far as this writer alone
    /// is concerned.
    ///
    /// # Cancel safety
    /// May take effect when dropped.
    ///
    /// Source: Curator `forceSet`.
    pub async fn force_set(&self, value: &V) -> Result<()> {
        loop {
            match self.client.set(&self.path, value.store()).await {
                Err(error) if error.is_no_node() => {}
                result => return result.map(drop),
            }
            match self.initialize(value).await {
                Ok(false) => {}
                result => return result.map(drop),
            }
        }
    }

    /// Makes the value if there is none; false if there is.
    ///
    /// # Errors
    /// As a create's.
    ///
    /// # Cancel safety
    /// May take effect when dropped.
    pub async fn initialize(&self, value: &V) -> Result<bool> {
        let create = self.client.create(&self.path, value.store());
        match create.container_parents().await {
            Ok(_) => Ok(true),
            Err(error) if error.is_node_exists() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Replaces the value if it is `expected`; false if it is not, or there is none.
    ///
    /// # Errors
    /// As [`update`](Atomic::update).
    ///
    /// # Cancel safety
    /// May take effect when dropped.
    pub async fn compare_and_set(&self, expected: &V, value: &V) -> Result<bool> {
        let mut is_equal = false;
        let change = self
            .try_update(|found| {
                is_equal = found.at.is_some() && found.value == *expected;
                is_equal.then(|| value.clone())
            })
            .await?;
        Ok(change.is_some())
    }

    /// Replaces the value by what `change` makes of it. It is called again for each conflict.
    ///
    /// # Errors
    /// [`Error::is_bad_version`] if others were faster every time: nothing happened.
    /// [`Error::Unknown`], or [`Error::SessionGone`] with an unknown outcome, if nobody can tell
    /// whether it took effect.
    ///
    /// # Cancel safety
    /// May take effect when dropped.
    pub async fn update(&self, mut change: impl FnMut(&V) -> V) -> Result<Change<V>> {
        let made = self.try_update(|found| Some(change(&found.value))).await?;
        made.ok_or_else(|| self.odd("no change was made"))
    }

    /// As [`update`](Atomic::update), where `change` may leave the value alone.
    async fn try_update(
        &self,
        mut change: impl FnMut(&Found<V>) -> Option<V>,
    ) -> Result<Option<Change<V>>> {
        let conflict = match self.rounds(&mut change).await {
            Err(error) if is_conflict(&error) => error,
            result => return result,
        };
        let Some((lock, wait)) = &self.lock else {
            return Err(conflict);
        };
        let Some(guard) = lock.acquire_within(*wait).await? else {
            return Err(conflict);
        };
        let result = self.rounds(&mut change).await;
        // The value is written whatever becomes of the lock: it only spares us the conflicts.
        drop(guard);
        result
    }

    async fn rounds(
        &self,
        change: &mut impl FnMut(&Found<V>) -> Option<V>,
    ) -> Result<Option<Change<V>>> {
        let mut round = 0;
        loop {
            let found = self.find().await?;
            let Some(after) = change(&found) else {
                return Ok(None);
            };
            let conflict = match self.write(&found, &after).await? {
                Written::Done => {
                    let before = found.value;
                    return Ok(Some(Change { before, after }));
                }
                Written::Conflict(error) => error,
            };
            round += 1;
            if round >= self.tries {
                return Err(conflict);
            }
            let pause_max_ms = 1_u64 << round.min(6);
            let pause_ms = rand::rng().random_range(0..pause_max_ms);
            sleep(Duration::from_millis(pause_ms)).await;
        }
    }

    async fn find(&self) -> Result<Found<V>> {
        match self.client.get(&self.path).await {
            Ok(node) => Ok(Found {
                value: V::load(&node.data).ok_or_else(|| self.unreadable(&node.data))?,
                at: Some((node.stat.version, node.stat.czxid)),
            }),
            Err(error) if error.is_no_node() => Ok(Found {
                value: V::absent(),
                at: None,
            }),
            Err(error) => Err(error),
        }
    }

    async fn write(&self, found: &Found<V>, after: &V) -> Result<Written> {
        if found.at.is_some_and(|(version, _)| version == -1) {
            // To the server -1 is any version: the write would be unconditional.
            return Err(self.odd("the znode's version has come round to -1: set it once by force"));
        }
        let data = after.store();
        let mut is_in_doubt = false;
        loop {
            let error = match self.write_once(found, data.clone()).await {
                Ok(()) => return Ok(Written::Done),
                Err(error) => error,
            };
            if error.outcome() == Outcome::Unknown && !error.is_session_lost() {
                if self.marks.is_some() {
                    return Err(error);
                }
                is_in_doubt = true;
            } else if self.marks.is_some() && error.is_retryable() {
                // The answer was lost, and it is settled that nothing happened.
                return Ok(Written::Conflict(error));
            } else if !is_conflict(&error) {
                return Err(still_in_doubt(error, is_in_doubt));
            } else if !is_in_doubt {
                return Ok(Written::Conflict(error));
            }
            match self.judge(found, &data).await? {
                // On its version at most one of two equal writes takes effect.
                Verdict::NotYet => {}
                Verdict::Never => return Ok(Written::Conflict(conflict(&error))),
                Verdict::Unknown => return Err(still_in_doubt(error, true)),
            }
        }
    }

    async fn write_once(&self, found: &Found<V>, data: Bytes) -> Result<()> {
        let path = &self.path;
        match (&self.marks, found.at) {
            (None, Some((version, _))) => {
                let set = self.client.set(path, data).version(version);
                set.await.map(drop)
            }
            (None, None) => {
                let create = self.client.create(path, data).container_parents();
                create.await.map(drop)
            }
            (Some(marks), Some((version, _))) => {
                let add = |multi: quorate_client::Multi| multi.set_version(path, data, version);
                marks.run(&self.client, add).await.map(drop)
            }
            (Some(marks), None) => {
                let make = || marks.run(&self.client, |multi| multi.create(path, data.clone()));
                match make().await {
                    Err(error) if error.is_no_node() => {}
                    result => return result.map(drop),
                }
                // A multi makes no parents.
                self.make_parents().await?;
                make().await.map(drop)
            }
        }
    }

    async fn make_parents(&self) -> Result<()> {
        let parent = self.path.rsplit_once('/').map_or("", |(parent, _)| parent);
        if parent.is_empty() {
            return Ok(());
        }
        let create = self.client.create(parent, Bytes::new());
        match create.container().container_parents().await {
            Err(error) if !error.is_node_exists() => Err(error),
            _ => Ok(()),
        }
    }

    /// What a write has come to whose answer was lost.
    async fn judge(&self, found: &Found<V>, data: &Bytes) -> Result<Verdict> {
        let read = async {
            // The server that we read from may be behind the one that took the write.
            self.client.sync(&self.path).await?;
            self.client.get(&self.path).await
        };
        let node = match read.await {
            Ok(node) => Some(node),
            Err(error) if error.is_no_node() => None,
            Err(error) => return Err(still_in_doubt(error, true)),
        };
        Ok(match (found.at, node) {
            (None, None) => Verdict::NotYet,
            (None, Some(node)) if node.stat.version == 0 && node.data != *data => Verdict::Never,
            (Some((version, born)), Some(node)) if node.stat.czxid == born => {
                match node.stat.version.wrapping_sub(version) {
                    0 => Verdict::NotYet,
                    // The next version is another's.
                    1 if node.data != *data => Verdict::Never,
                    _ => Verdict::Unknown,
                }
            }
            _ => Verdict::Unknown,
        })
    }

    fn unreadable(&self, data: &Bytes) -> Error {
        let text = format!("{} bytes are no such value", data.len());
        Error::did_not_happen(Reason::Codec(text), Context::of("getData", &self.path))
    }

    fn odd(&self, text: &str) -> Error {
        let context = Context::of("setData", &self.path);
        Error::did_not_happen(Reason::Option(text.to_owned()), context)
    }
}

/// What became of a write.
enum Verdict {
    /// Nobody has written since: ours may still come, and may be sent again.
    NotYet,
    /// Another's write stands where ours would be.
    Never,
    /// It cannot be told.
    Unknown,
}

impl<V: Addable> Atomic<V> {
    /// Adds to the value.
    ///
    /// # Errors
    /// As [`update`](Atomic::update); [`Reason::Option`] if the type cannot hold the sum.
    ///
    /// # Cancel safety
    /// May take effect when dropped.
    pub async fn add(&self, delta: &V) -> Result<Change<V>> {
        let made = self.try_update(|found| found.value.plus(delta)).await?;
        made.ok_or_else(|| self.odd("the sum is more than the counter can hold"))
    }

    /// Subtracts from the value.
    ///
    /// # Errors
    /// As [`add`](Atomic::add).
    ///
    /// # Cancel safety
    /// May take effect when dropped.
    pub async fn subtract(&self, delta: &V) -> Result<Change<V>> {
        let made = self.try_update(|found| found.value.minus(delta)).await?;
        made.ok_or_else(|| self.odd("the difference is more than the counter can hold"))
    }

    /// Adds one.
    ///
    /// # Errors
    /// As [`add`](Atomic::add).
    ///
    /// # Cancel safety
    /// May take effect when dropped.
    pub async fn increment(&self) -> Result<Change<V>> {
        self.add(&V::one()).await
    }

    /// Subtracts one.
    ///
    /// # Errors
    /// As [`add`](Atomic::add).
    ///
    /// # Cancel safety
    /// May take effect when dropped.
    pub async fn decrement(&self) -> Result<Change<V>> {
        self.subtract(&V::one()).await
    }
}

/// Whether somebody else was faster.
fn is_conflict(error: &Error) -> bool {
    error.is_bad_version() || error.is_no_node() || error.is_node_exists()
}

/// Somebody else was faster, as it turned out.
fn conflict(error: &Error) -> Error {
    let context = Context::of("setData", error.path());
    Error::did_not_happen(Reason::Code(ErrorCode::BadVersion), context)
}

/// A refusal says nothing about an attempt before it.
fn still_in_doubt(error: Error, is_in_doubt: bool) -> Error {
    match is_in_doubt && error.outcome() == Outcome::DidNotHappen {
        true => {
            let context = Context::of("setData", error.path());
            Error::unknown(error.reason().clone(), context)
        }
        false => error,
    }
}
