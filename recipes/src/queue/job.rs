//! An item that is being worked on.

use std::sync::Arc;

use bytes::Bytes;
use quorate_client::{Codec, Context, CreateOp, Error, Multi, Outcome, Reason, Result, TrustLease};

use super::claim::Raw;
use super::name::QueueLayout;
use super::{Shared, framing};
use crate::fencing::FencingToken;
use crate::hold::Hold;
use crate::lock::Lost;

/// An item that is ours to work on. Dropping it gives the item back, to its place.
///
/// It is done when it is [acked](Job::ack), and not before; in queues that take at most once it is
/// gone from the start, and acks do nothing.
#[derive(Debug)]
#[must_use = "a dropped job goes back to the queue"]
pub struct Job<T> {
    /// The value.
    pub body: T,
    /// The values that were put together with it, and are done together with it.
    pub more: Vec<T>,
    work: Work,
}

#[derive(Debug)]
struct Work {
    shared: Arc<Shared>,
    raw: Box<Raw>,
    parts: Vec<Bytes>,
    /// Which take of the item this is, from 1; only the first where nobody counts.
    attempt: u32,
    _trust: Option<TrustLease>,
}

impl<T: Codec> Job<T> {
    /// Reads an item, counts the take, and buries what was taken too often. The name of an item that
    /// cannot be read comes with its error.
    pub(super) async fn open(
        shared: &Arc<Shared>,
        raw: Box<Raw>,
    ) -> Result<Option<Job<T>>, (String, Error)> {
        let parts = match shared.settings.namer.is_framed() {
            true => framing::decode(raw.data.clone()),
            false => Some((vec![raw.data.clone()], 0)),
        };
        let (parts, given_back) = parts.unwrap_or_default();
        let values: Option<Vec<T>> = parts.iter().map(|part| T::decode(part).ok()).collect();
        let taken = u32::try_from(raw.version).unwrap_or(0);
        let name = raw.name.name.clone();
        let mut work = Work {
            _trust: raw.hold.as_ref().map(|hold| hold.client().hold_trust()),
            shared: Arc::clone(shared),
            attempt: given_back.saturating_add(taken).saturating_add(1),
            raw,
            parts,
        };
        let mut values = values.unwrap_or_default().into_iter();
        let Some(body) = values.next() else {
            let error = work.unreadable();
            if shared.settings.dead_letter.is_some() {
                work.bury().await.map_err(|error| (name.clone(), error))?;
            }
            return Err((name, error));
        };
        match work.count().await {
            Ok(true) => Ok(Some(Job {
                body,
                more: values.collect(),
                work,
            })),
            Ok(false) => Ok(None),
            Err(error) => Err((String::new(), error)),
        }
    }
}

impl<T> Job<T> {
    /// The item's znode.
    #[must_use]
    pub fn path(&self) -> String {
        self.work.path()
    }

    /// The id that it was put with, in queues of ids.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.work.raw.name.id.as_deref()
    }

    /// Which attempt this is, from 1. Those that ended without a [`nack`](Job::nack) are counted
    /// in queues with [`max_attempts`](super::Queue::max_attempts) only.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.work.attempt
    }

    /// Larger than that of whoever had the item before. `None` in queues that take at most once.
    #[must_use]
    pub fn token(&self) -> Option<FencingToken> {
        self.work.raw.hold.as_ref().map(Hold::token)
    }

    /// Resolves when the item is no longer ours, before another can have it. Never in queues that
    /// take at most once.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn lost(&self) -> Lost {
        let Some(hold) = &self.work.raw.hold else {
            return std::future::pending().await;
        };
        tokio::select! {
            biased;
            reason = hold.client().lost() => Lost::Session(reason),
            () = hold.client().trust_lapsed() => Lost::NotTrusted,
        }
    }

    /// The work is done: deletes the item, if it is still ours.
    ///
    /// # Errors
    /// [`Error::SessionGone`] if it is not: another has it, or will have it. "The znode does not
    /// exist" if the item was taken out meanwhile: its put was dropped, or it was removed by its id.
    ///
    /// # Cancel safety
    /// When dropped the item is done, or goes back to the queue.
    pub async fn ack(self) -> Result<()> {
        self.ack_with(|multi| multi).await
    }

    /// As [`ack`](Job::ack), in one transaction with whatever `add` adds: it happens exactly once,
    /// however often the item is taken.
    ///
    /// # Errors
    /// As [`ack`](Job::ack); what refuses an operation that was added. The item goes back then.
    ///
    /// # Cancel safety
    /// As [`ack`](Job::ack).
    pub async fn ack_with(self, add: impl Fn(Multi) -> Multi) -> Result<()> {
        let item = self.path();
        let client = self.work.shared.client.clone();
        let mut work = self.work;
        match work.raw.hold {
            Some(_) => work.finish(|multi| add(multi.delete(&item))).await,
            None => {
                let multi = add(client.multi());
                match multi.is_empty() {
                    true => Ok(()),
                    false => multi.await.map(drop),
                }
            }
        }
    }

    /// The work could not be done: puts the item behind the others, with its priority, delay and
    /// id; or buries it, if this was its last attempt. In kazoo's layout it keeps its place.
    ///
    /// # Errors
    /// As [`ack`](Job::ack).
    ///
    /// # Cancel safety
    /// When dropped the item is in the queue in any case, with or without this attempt counted.
    pub async fn nack(self) -> Result<()> {
        let mut work = self.work;
        if work.raw.hold.is_none() {
            return work.put_again().await;
        }
        if work.is_last() {
            return work.bury().await;
        }
        if work.shared.settings.namer.layout == QueueLayout::KazooLocking {
            return work.release().await;
        }
        let item = work.path();
        let again = work.shared.item(&work.raw.name.lead);
        let data = work.again();
        work.finish(|multi| {
            let create = CreateOp::new(&again, data.clone()).sequential();
            multi.delete(&item).create_with(create)
        })
        .await
    }

    /// Gives the item back to its place, and waits until others can take it.
    ///
    /// # Errors
    /// If the outcome stays unknown; the release goes on in the background then.
    ///
    /// # Cancel safety
    /// May be dropped at any time: the release goes on in the background.
    pub async fn release(self) -> Result<()> {
        let mut work = self.work;
        match work.raw.hold {
            Some(_) => work.release().await,
            None => work.put_again().await,
        }
    }
}

impl Work {
    fn path(&self) -> String {
        self.shared.item(&self.raw.name.name)
    }

    /// Counts this take where takes are counted, by a write of what is there already: the znode's
    /// version is the count, and survives us. False if the item was buried instead.
    async fn count(&mut self) -> Result<bool> {
        let Some(max) = self.shared.settings.max_attempts else {
            return Ok(true);
        };
        let Some(hold) = &self.raw.hold else {
            return Ok(true);
        };
        if self.attempt > max {
            self.bury().await?;
            return Ok(false);
        }
        let set = hold.client().set(self.path(), self.raw.data.clone());
        match set.version(self.raw.version).idempotent().await {
            Ok(stat) => {
                self.raw.version = stat.version;
                Ok(true)
            }
            Err(error) if error.is_no_node() || error.is_bad_version() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn is_last(&self) -> bool {
        let max = self.shared.settings.max_attempts;
        max.is_some_and(|max| self.attempt >= max)
    }

    /// Moves the item to the dead letters, or away where there are none.
    async fn bury(&mut self) -> Result<()> {
        let item = self.path();
        let Some(dead) = self.shared.settings.dead_letter.clone() else {
            return self.finish(|multi| multi.delete(&item)).await;
        };
        let directory = self.shared.settings.namer.items(&dead);
        self.shared.make(&directory).await?;
        let letter = format!("{directory}/{}", self.raw.name.lead);
        // Without the count of attempts: there it begins anew.
        let data = match self.parts.is_empty() || !self.shared.settings.namer.is_framed() {
            true => self.raw.data.clone(),
            false => framing::encode(&self.parts, 0),
        };
        if self.raw.hold.is_none() {
            let create = self.shared.client.create(&letter, data);
            return create.sequential().await.map(drop);
        }
        tracing::info!(path = %item, attempt = self.attempt, to = %dead, "buried");
        self.finish(|multi| {
            let create = CreateOp::new(&letter, data.clone()).sequential();
            multi.delete(&item).create_with(create)
        })
        .await
    }

    /// The item as it goes back behind the others.
    fn again(&self) -> Bytes {
        framing::encode(&self.parts, self.attempt)
    }

    /// It was deleted when it was taken: puts it anew.
    async fn put_again(&mut self) -> Result<()> {
        let data = match self.shared.settings.namer.is_framed() {
            true => self.again(),
            false => self.raw.data.clone(),
        };
        let path = self.shared.item(&self.raw.name.lead);
        let create = self.shared.client.create(&path, data);
        create.sequential().parents().await.map(drop)
    }

    async fn release(&mut self) -> Result<()> {
        match self.raw.hold.take() {
            Some(hold) => hold.release().await,
            None => Ok(()),
        }
    }

    /// A transaction that happens only while the lock is ours, and ends it.
    async fn finish(&mut self, add: impl Fn(Multi) -> Multi) -> Result<()> {
        let Some(hold) = &mut self.raw.hold else {
            return Ok(());
        };
        let mut is_in_doubt = false;
        loop {
            let multi = hold.client().multi().check(hold.path(), -1);
            let error = match add(multi).delete(hold.path()).await {
                Ok(_) => {
                    hold.forget();
                    return Ok(());
                }
                Err(error) => error,
            };
            let is_lock_gone = error.is_no_node() && error.failed_op() == Some(0);
            if is_lock_gone {
                hold.forget();
                // Only we take our lock away while our session lives: it was that attempt.
                return match is_in_doubt {
                    true => Ok(()),
                    false => Err(hold.gone()),
                };
            }
            let is_unknown = error.outcome() == Outcome::Unknown && !error.is_session_lost();
            if !is_unknown && !error.is_retryable() {
                return Err(match is_in_doubt && error.outcome() != Outcome::Unknown {
                    true => in_doubt(&error),
                    false => error,
                });
            }
            is_in_doubt |= is_unknown;
            // Sent again it takes effect once: it takes away what it checks.
            if let Err(ended) = hold.client().connected().await {
                return Err(if is_in_doubt { in_doubt(&ended) } else { ended });
            }
        }
    }

    fn unreadable(&self) -> Error {
        let text = format!("{} bytes are no item of this queue", self.raw.data.len());
        let context = Context::of("take", &self.path());
        Error::did_not_happen(Reason::Codec(text), context)
    }
}

/// An attempt before this error may have taken effect.
fn in_doubt(error: &Error) -> Error {
    Error::unknown(error.reason().clone(), Context::of("ack", error.path()))
}
