//! Taking: what is known of the queue, and waiting for more.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use futures::future::{Either, select, try_join};
use quorate_client::{Client, Codec, Error, Result, Watch};
use tokio::time::{sleep, timeout};

use super::claim::Claimed;
use super::item::now_ms;
use super::name::{Name, QueueOrder, safe_id};
use super::{Job, Jobs, Queue};
use crate::lock::Mutex;

/// How many items of a listing are kept for the takes after it.
const KEPT_MAX: usize = 256;
/// How many items that cannot be read are remembered, so as not to be taken again.
const SICK_MAX: usize = 1024;

/// What the last listing said, for all clones of a queue.
#[derive(Debug, Default)]
pub(super) struct Known {
    items: VecDeque<Name>,
    sick: HashSet<String>,
}

/// What can change so that there is something to take.
struct News {
    watches: Vec<Watch>,
    /// When the next item is due.
    due_ms: Option<i64>,
}

impl<T: Codec + Send + 'static> Queue<T> {
    /// Waits for an item, and takes it.
    ///
    /// # Errors
    /// When the session ends. An item that cannot be read is reported once ([`Reason::Codec`]) and
    /// left alone, or is buried where there are [dead letters](Queue::dead_letter). At most once:
    /// an [`Error::Unknown`] if an item may have been deleted; it is not given out then.
    ///
    /// [`Reason::Codec`]: quorate_client::Reason::Codec
    ///
    /// # Cancel safety
    /// May be dropped at any time: an item that was taken is given back in the background. At most
    /// once: it may be lost.
    pub async fn take(&self) -> Result<Job<T>> {
        loop {
            match self.take_or_wait().await {
                Err(error) if self.may_go_on(&error) => self.shared.client.connected().await?,
                result => return result,
            }
        }
    }

    /// Waits for an item for this long at most.
    ///
    /// # Errors
    /// As [`take`](Queue::take).
    ///
    /// # Cancel safety
    /// As [`take`](Queue::take).
    pub async fn take_within(&self, time: Duration) -> Result<Option<Job<T>>> {
        match timeout(time, self.take()).await {
            Ok(job) => job.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Takes an item if there is one.
    ///
    /// # Errors
    /// As [`take`](Queue::take), and lost connections.
    ///
    /// # Cancel safety
    /// As [`take`](Queue::take).
    pub async fn try_take(&self) -> Result<Option<Job<T>>> {
        if let Some(job) = self.take_known().await? {
            return Ok(Some(job));
        }
        let _ = self.list(false).await?;
        self.take_known().await
    }

    /// Waits for an item, and takes it with those that are there besides, this many at most.
    ///
    /// # Errors
    /// As [`take`](Queue::take) for the first; what was taken is given out in any case.
    ///
    /// # Cancel safety
    /// As [`take`](Queue::take).
    pub async fn take_many(&self, count: usize) -> Result<Vec<Job<T>>> {
        let mut jobs = Vec::new();
        if count == 0 {
            return Ok(jobs);
        }
        jobs.push(self.take().await?);
        while jobs.len() < count {
            match self.try_take().await {
                Ok(Some(job)) => jobs.push(job),
                // The next take will meet the same error, and tell.
                Ok(None) | Err(_) => break,
            }
        }
        Ok(jobs)
    }

    /// The jobs, one after the other, for as long as there is a session.
    pub fn consume(&self) -> Jobs<T> {
        Jobs::new(self.clone())
    }

    /// Removes the items of this id that nobody works on, and says how many there were.
    ///
    /// # Errors
    /// As a delete's; some may be removed then.
    ///
    /// # Cancel safety
    /// When dropped some may be removed.
    pub async fn remove(&self, id: &str) -> Result<usize> {
        let id = safe_id(id);
        let names = self.shared.names().await?;
        let mut removed = 0;
        for name in names.iter().filter(|name| name.id.as_ref() == Some(&id)) {
            removed += usize::from(self.shared.remove(name).await?);
        }
        Ok(removed)
    }

    async fn take_or_wait(&self) -> Result<Job<T>> {
        if let Some(job) = self.try_take().await? {
            return Ok(job);
        }
        // Only the first in line watches the queue, so that an item wakes one.
        let settings = &self.shared.settings;
        let line = Mutex::new(&self.shared.client, &settings.waiters);
        let place = line.acquire().await?;
        loop {
            let news = self.list(true).await?;
            if let Some(job) = self.take_known().await? {
                return Ok(job);
            }
            let lost = place.client().lost();
            match select(std::pin::pin!(news.wait()), std::pin::pin!(lost)).await {
                Either::Left((waited, _)) => waited?,
                // The next look tells why.
                Either::Right(_) => drop(place.verify().await?),
            }
        }
    }

    /// Takes the first of those that are known and due.
    async fn take_known(&self) -> Result<Option<Job<T>>> {
        loop {
            let Some(name) = self.shared.next_known() else {
                return Ok(None);
            };
            let Claimed::Ours(raw) = self.shared.claim(name).await? else {
                continue;
            };
            self.shared.forget_better();
            match Job::open(&self.shared, raw).await {
                Ok(Some(job)) => return Ok(Some(job)),
                Ok(None) => {}
                Err((name, error)) => {
                    self.shared.remember_sick(name);
                    return Err(error);
                }
            }
        }
    }

    /// Lists the queue, and remembers what can be taken.
    async fn list(&self, is_waiting: bool) -> Result<News> {
        let shared = &self.shared;
        let client = &shared.client;
        let items = shared.items();
        let is_locked = !shared.settings.is_at_most_once;
        let locks_path = &shared.settings.locks;
        let mut news = News {
            watches: Vec::new(),
            due_ms: None,
        };
        // Locks first, in one round trip: what is unlocked by then is a candidate, and the claim
        // decides.
        let locks = async {
            match is_locked {
                true => children(client, locks_path, is_waiting).await,
                false => Ok((Vec::new(), None)),
            }
        };
        let listed = try_join(locks, children(client, &items, is_waiting)).await?;
        let ((locked, locks_watch), (names, items_watch)) = listed;
        let locked: HashSet<String> = locked.into_iter().collect();
        news.watches
            .extend(locks_watch.into_iter().chain(items_watch));
        let sorted = shared.settings.namer.sort(names);
        let now = now_ms();
        let later = sorted.iter().map(|name| name.due_ms);
        news.due_ms = later.filter(|due_ms| *due_ms > now).min();
        shared.remember(sorted, &locked, now);
        Ok(news)
    }

    /// Whether an error only means that the connection is away.
    fn may_go_on(&self, error: &Error) -> bool {
        // What is deleted when it is taken may be lost by now: its caller must be told.
        let is_harmless = !self.shared.settings.is_at_most_once;
        error.is_retryable() || (is_harmless && matches!(error, Error::Unknown { .. }))
    }
}

impl News {
    /// Waits for a change in the queue, or until an item is due.
    async fn wait(self) -> Result<()> {
        let changed = async {
            match self.watches.is_empty() {
                true => std::future::pending().await,
                false => futures::future::select_all(self.watches).await.0.map(drop),
            }
        };
        let Some(due_ms) = self.due_ms else {
            return changed.await;
        };
        let wait_ms = u64::try_from(due_ms.saturating_sub(now_ms())).unwrap_or(0);
        // A wall clock may be set meanwhile: look again every minute.
        let wait = Duration::from_millis(wait_ms.min(60_000));
        tokio::select! {
            changed = changed => changed,
            () = sleep(wait) => Ok(()),
        }
    }
}

impl super::Shared {
    /// The items, in order.
    async fn names(&self) -> Result<Vec<Name>> {
        let (names, _) = children(&self.client, &self.items(), false).await?;
        Ok(self.settings.namer.sort(names))
    }

    fn next_known(&self) -> Option<Name> {
        let mut known = self.known.lock();
        let is_due = known
            .items
            .front()
            .is_some_and(|name| name.due_ms <= now_ms());
        is_due.then(|| known.items.pop_front())?
    }

    fn remember(&self, sorted: Vec<Name>, locked: &HashSet<String>, now_ms: i64) {
        let count = match self.settings.namer.order {
            QueueOrder::Fifo | QueueOrder::Id => KEPT_MAX,
            QueueOrder::Priority | QueueOrder::Delay => 8,
        };
        let mut known = self.known.lock();
        let is_free = |name: &Name| {
            name.due_ms <= now_ms
                && !locked.contains(&name.name)
                && !known.sick.contains(&name.name)
        };
        let items: VecDeque<Name> = sorted.into_iter().filter(is_free).take(count).collect();
        known.items = items;
    }

    /// Where a better item may come at any time, a list is good for one take.
    fn forget_better(&self) {
        let order = self.settings.namer.order;
        if matches!(order, QueueOrder::Priority | QueueOrder::Delay) {
            self.known.lock().items.clear();
        }
    }

    fn remember_sick(&self, name: String) {
        let mut known = self.known.lock();
        if known.sick.len() >= SICK_MAX {
            // They are reported once more, then.
            known.sick.clear();
        }
        known.sick.insert(name);
    }
}

/// The children, and a watch on them; none of a znode that does not exist, and a watch on that.
async fn children(
    client: &Client,
    path: &str,
    is_watched: bool,
) -> Result<(Vec<String>, Option<Watch>)> {
    loop {
        let listed = match is_watched {
            true => {
                let listed = client.children(path).watch().await;
                listed.map(|(names, _, watch)| (names, Some(watch)))
            }
            false => client.children(path).await.map(|(names, _)| (names, None)),
        };
        match listed {
            Err(error) if error.is_no_node() => {}
            listed => return listed,
        }
        if !is_watched {
            return Ok((Vec::new(), None));
        }
        if let (None, watch) = client.exists(path).watch().await? {
            return Ok((Vec::new(), Some(watch)));
        }
    }
}
