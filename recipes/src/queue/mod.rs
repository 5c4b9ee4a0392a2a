//! Queues: what one process puts, another takes.
//!
//! ```text
//! put ─► item ── claim ─► Job ─┬─ ack ──► gone
//!          ▲                   ├─ nack ─► behind the others, or in the dead letters
//!          └── dropped, or the consumer died ──┘
//! ```
//!
//! At least once, unless asked otherwise: an item is deleted only together with the lock under which
//! it was worked on, in one transaction that first checks that the lock is still held. A consumer
//! that lost it cannot delete what another works on. What the transaction writes besides, by
//! [`Job::ack_with`], happens exactly once.
//!
//! A consumer that finds nothing waits in a line; only the first in the line watches the queue.
//!
//! A coordination service is no broker: a listing of tens of thousands of items is more than a reply
//! can hold. Bound the queue, or use a [`Sharder`].

mod claim;
mod framing;
mod item;
mod job;
mod jobs;
mod name;
mod put;
mod sharder;

mod take;

use std::marker::PhantomData;
use std::sync::Arc;

use parking_lot::Mutex as PlainMutex;
use quorate_client::{Client, Codec, Context, Error, Reason, Result};

pub use item::Item;
pub use job::Job;
pub use jobs::Jobs;
pub use name::{QueueLayout, QueueOrder};
pub use sharder::Sharder;

use name::Namer;
use take::Known;

/// A queue of values.
///
/// | | |
/// | --- | --- |
/// | guarantee | each item is taken at least once, or [at most once](Queue::at_most_once); in its order, as far as one consumer can see it |
/// | what can go wrong | a put whose answer is lost may be in the queue: put again, it is there twice. A consumer that loses its session may still be at work while another has the item: [`Job::ack_with`] writes only once |
/// | znodes | `<path>/queue-<number>`, persistent; `<path>-locks/<item>`, ephemeral; `<path>-waiters/_c_<uuid>-lock-<number>`, ephemeral |
/// | cost | put: a write. Take: two requests, and a share of a listing; ack: a transaction. Waiting: one or two watches for the first in line, one for each other |
/// | Curator, kazoo | `DistributedQueue`, `DistributedPriorityQueue`, `DistributedDelayQueue`, `DistributedIdQueue` with `lockPath`; `SimpleDistributedQueue`, `Queue`, `LockingQueue` by [`QueueLayout`] |
///
/// Curator's consumers must be given the same `lockPath`: [`locks`](Queue::locks).
///
/// ```no_run
/// use futures::StreamExt;
/// use quorate_recipes::{Client, queue::Queue};
///
/// # async fn resize(_: &str) -> Result<(), ()> { Ok(()) }
/// # async fn example(client: Client) -> quorate_recipes::Result<()> {
/// let queue = Queue::<String>::new(&client, "/queues/thumbs")
///     .max_attempts(5)
///     .dead_letter("/queues/thumbs-dead");
/// queue.put("cat.png".to_owned()).await?;
/// let mut jobs = queue.consume();
/// while let Some(job) = jobs.next().await {
///     let job = job?;
///     match resize(&job.body).await {
///         Ok(()) => job.ack().await?,
///         Err(()) => job.nack().await?,
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Queue<T> {
    shared: Arc<Shared>,
    _items: PhantomData<fn() -> T>,
}

/// What all clones of a queue, and its jobs, have in common.
#[derive(Debug)]
struct Shared {
    client: Client,
    settings: Settings,
    known: PlainMutex<Known>,
}

#[derive(Clone, Debug)]
struct Settings {
    path: String,
    namer: Namer,
    locks: String,
    waiters: String,
    is_at_most_once: bool,
    max_attempts: Option<u32>,
    dead_letter: Option<String>,
    max_items: Option<u32>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Queue<T> {
        Queue {
            shared: Arc::clone(&self.shared),
            _items: PhantomData,
        }
    }
}

impl<T: Codec + Send + 'static> Queue<T> {
    /// A first-in first-out queue at this path, in Curator's layout. Nothing is sent yet.
    #[must_use]
    pub fn new(client: &Client, path: &str) -> Queue<T> {
        let path = path.trim_end_matches('/').to_owned();
        let settings = Settings {
            locks: format!("{path}-locks"),
            waiters: format!("{path}-waiters"),
            namer: Namer::default(),
            is_at_most_once: false,
            max_attempts: None,
            dead_letter: None,
            max_items: None,
            path,
        };
        Queue::with(client, settings)
    }

    fn with(client: &Client, settings: Settings) -> Queue<T> {
        Queue {
            shared: Arc::new(Shared {
                client: client.clone(),
                settings,
                known: PlainMutex::default(),
            }),
            _items: PhantomData,
        }
    }

    fn change(&self, change: impl FnOnce(&mut Settings)) -> Queue<T> {
        let mut settings = self.shared.settings.clone();
        change(&mut settings);
        Queue::with(&self.shared.client, settings)
    }

    /// In which order items are taken. All who use the queue must agree.
    #[must_use]
    pub fn order(self, order: QueueOrder) -> Queue<T> {
        self.change(|settings| settings.namer.order = order)
    }

    /// Whose znodes it writes and reads. All who use the queue must agree.
    #[must_use]
    pub fn layout(self, layout: QueueLayout) -> Queue<T> {
        self.change(|settings| {
            settings.namer.layout = layout;
            if matches!(layout, QueueLayout::Kazoo | QueueLayout::KazooLocking) {
                settings.namer.order = QueueOrder::Priority;
            }
            match layout {
                QueueLayout::KazooLocking => settings.locks = format!("{}/taken", settings.path),
                QueueLayout::Simple | QueueLayout::Kazoo => settings.is_at_most_once = true,
                QueueLayout::Curator => {}
            }
        })
    }

    /// Where consumers lock what they work on: `<path>-locks` if nothing else is said. All who use
    /// the queue must agree.
    #[must_use]
    pub fn locks(self, path: &str) -> Queue<T> {
        self.change(|settings| path.trim_end_matches('/').clone_into(&mut settings.locks))
    }

    /// Items are deleted when they are taken: none is taken twice, and one whose consumer dies, or
    /// whose `take` is dropped half way, is lost. All who use the queue must agree.
    #[must_use]
    pub fn at_most_once(self) -> Queue<T> {
        self.change(|settings| settings.is_at_most_once = true)
    }

    /// An item that was taken this often without an ack, for whatever reason, goes to the
    /// [dead letters](Queue::dead_letter), or away where there are none. Costs a write per take.
    #[must_use]
    pub fn max_attempts(self, attempts: u32) -> Queue<T> {
        self.change(|settings| settings.max_attempts = Some(attempts.max(1)))
    }

    /// The queue for what cannot be done, or read: of the same layout and order as this one.
    #[must_use]
    pub fn dead_letter(self, path: &str) -> Queue<T> {
        let path = path.trim_end_matches('/').to_owned();
        self.change(|settings| settings.dead_letter = Some(path))
    }

    /// Puts wait while there are this many items. Those who put at one time may exceed it by their
    /// number.
    #[must_use]
    pub fn max_items(self, items: u32) -> Queue<T> {
        self.change(|settings| settings.max_items = Some(items.max(1)))
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.shared.settings.path
    }

    /// How many items there are, those that are being worked on included.
    ///
    /// # Errors
    /// As a read's.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn len(&self) -> Result<usize> {
        let directory = self.shared.items();
        let stat = self.shared.client.exists(&directory).await?;
        let count = stat.map_or(0, |stat| stat.num_children);
        Ok(usize::try_from(count).unwrap_or(0))
    }

    /// Whether there are no items.
    ///
    /// # Errors
    /// As [`len`](Queue::len).
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn is_empty(&self) -> Result<bool> {
        Ok(self.len().await? == 0)
    }
}

impl Shared {
    /// Where the items are.
    fn items(&self) -> String {
        self.settings.namer.items(&self.settings.path)
    }

    fn item(&self, name: &str) -> String {
        format!("{}/{name}", self.items())
    }

    fn lock(&self, name: &str) -> String {
        format!("{}/{name}", self.settings.locks)
    }

    fn bad(&self, text: &str) -> Error {
        let context = Context::of("put", &self.settings.path);
        Error::bad_argument(Reason::Option(text.to_owned()), context)
    }
}
