//! Caches: a znode, its children, or a whole subtree, kept in memory and up to date.
//!
//! Job: views that are cheap to take, the changes as a stream, and an honest word about how old
//! the view may be. Not here: writing.
//!
//! Invariants: what a cache shows came from reads, never from events; after a disconnect it says
//! that it may be old until everything has been read again, or the server has caught up with it;
//! it holds [`CacheBuilder::max_bytes`] and says what it leaves out; a dropped cache stops.

mod keeper;
mod store;
mod work;

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use futures::stream::{self, BoxStream, Stream, StreamExt};
use parking_lot::Mutex;
use quorate_proto::path;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::keeper::Keeper;
use self::store::Store;
use self::work::Parts;
use crate::client::Client;
use crate::error::{Context, Error, Reason, Result};
use crate::path::PathArg;

pub use self::store::{CacheEvent, CacheSnapshot, CachedNode};

/// Events that wait for the slowest consumer.
const EVENTS_MAX: usize = 1024;
/// What a cache holds at most, if nothing else is said.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// How far the re-reads of many clients are spread after a disconnect.
const JITTER: Duration = Duration::from_millis(250);
/// And at most.
const JITTER_MAX: Duration = Duration::from_secs(24 * 3600);

impl Client {
    /// Describes a cache of one znode. It need not exist.
    ///
    /// Source: Curator `CuratorCache` with `SINGLE_NODE_CACHE`, `NodeCache`; kazoo `DataWatch`.
    pub fn node_cache(&self, path: impl Into<PathArg>) -> CacheBuilder<NodeCache> {
        CacheBuilder::new(self, path, Scope::Node)
    }

    /// Describes a cache of a znode and its children.
    ///
    /// Source: Curator `PathChildrenCache`; kazoo `ChildrenWatch`.
    pub fn children_cache(&self, path: impl Into<PathArg>) -> CacheBuilder<ChildrenCache> {
        CacheBuilder::new(self, path, Scope::Children)
    }

    /// Describes a cache of a znode and everything below it.
    ///
    /// ```
    /// use futures::StreamExt;
    /// use quorate_client::CacheEvent;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> quorate_client::Result<()> {
    /// # let server = quorate_server::testing::TestServer::start().await;
    /// # let client = quorate_client::Client::connect(server.connect_string()).await?;
    /// # client.create("/services/a", "").parents().await?;
    /// let cache = client.tree_cache("/services").max_bytes(16 << 20).start()?;
    /// cache.synced().await?;
    /// for (path, node) in cache.snapshot().iter() {
    ///     println!("{path}: version {}", node.stat.version);
    /// }
    /// let mut events = cache.events();
    /// # client.create("/services/b", "").await?;
    /// while let Some(event) = events.next().await {
    ///     match event {
    ///         CacheEvent::Created { path, .. } => println!("{path} came"),
    ///         CacheEvent::Deleted { path, .. } => println!("{path} went"),
    ///         CacheEvent::Stale => println!("out of contact"),
    ///         _ => {}
    ///     }
    /// #     break;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Source: Curator `CuratorCache`, `TreeCache`; kazoo `TreeCache`.
    pub fn tree_cache(&self, path: impl Into<PathArg>) -> CacheBuilder<TreeCache> {
        CacheBuilder::new(self, path, Scope::Tree)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scope {
    Node,
    Children,
    Tree,
}

type Filter = Arc<dyn Fn(&str) -> bool + Send + Sync>;

#[derive(Clone)]
struct Options {
    root: Arc<str>,
    scope: Scope,
    names_only: bool,
    filter: Option<Filter>,
    bytes_max: usize,
    jitter: Duration,
    one_shot_only: bool,
    forget_gaps: bool,
}

impl Options {
    /// What is read of a path; `None` if it does not belong to the cache.
    fn parts_of(&self, at: &str, parts: Parts) -> Option<Parts> {
        let below = match &*self.root {
            path::ROOT => at,
            root => at.strip_prefix(root)?,
        };
        let is_root = at == &*self.root;
        if !is_root && !below.starts_with('/') {
            return None;
        }
        let may_list = match self.scope {
            Scope::Node if is_root => false,
            Scope::Children if is_root => true,
            Scope::Children if path::parent(at) == Some(&*self.root) => false,
            Scope::Tree => true,
            Scope::Node | Scope::Children => return None,
        };
        if let Some(filter) = &self.filter {
            let mut next = (!is_root).then_some(at);
            while let Some(at) = next.filter(|at| **at != *self.root) {
                if !filter(at) {
                    return None;
                }
                next = path::parent(at);
            }
        }
        let parts = Parts {
            children: parts.children && may_list,
            ..parts
        };
        (parts.node || parts.children).then_some(parts)
    }
}

/// Describes a cache; see [`Client::tree_cache`].
#[must_use = "a builder does nothing until `start`"]
pub struct CacheBuilder<C> {
    client: Client,
    path: PathArg,
    options: Options,
    _cache: PhantomData<fn() -> C>,
}

impl<C: From<Cache>> CacheBuilder<C> {
    fn new(client: &Client, path: impl Into<PathArg>, scope: Scope) -> CacheBuilder<C> {
        let path = path.into();
        CacheBuilder {
            client: client.clone(),
            options: Options {
                root: Arc::clone(path.text()),
                scope,
                names_only: false,
                filter: None,
                bytes_max: BYTES_MAX,
                jitter: JITTER,
                one_shot_only: false,
                forget_gaps: false,
            },
            path,
            _cache: PhantomData,
        }
    }

    /// How much it may hold: paths, data, and some 200 bytes for each znode. 64 MiB.
    ///
    /// What does not fit is left out: the cache says so with [`CacheEvent::Incomplete`] and
    /// [`CacheSnapshot::is_complete`], and tries again when a quarter of it has become free.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.options.bytes_max = bytes;
        self
    }

    /// Holds paths and `Stat`s without the data.
    pub fn names_only(mut self) -> Self {
        self.options.names_only = true;
        self
    }

    /// Holds only the paths for which this says yes, and nothing below one for which it says no.
    /// The cache's own path is not asked for.
    pub fn filter(mut self, keep: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.options.filter = Some(Arc::new(keep));
        self
    }

    /// Over which time the re-reads of many clients are spread after a disconnect. 250 ms.
    pub fn jitter(mut self, time: Duration) -> Self {
        self.options.jitter = time.min(JITTER_MAX);
        self
    }

    /// Does without lasting watches, as with servers that have none: two one-shot watches for each
    /// znode.
    pub fn one_shot_watches(mut self) -> Self {
        self.options.one_shot_only = true;
        self
    }

    /// A defect on purpose: reads nothing again after a gap. For the test that must notice.
    #[doc(hidden)]
    pub fn forget_gaps(mut self) -> Self {
        self.options.forget_gaps = true;
        self
    }

    /// Starts to read and to watch.
    ///
    /// # Errors
    /// [`Error::BadArgument`] for a path that breaks the rules. Everything else is told by
    /// [`Cache::synced`] and [`Cache::events`].
    pub fn start(self) -> Result<C> {
        let CacheBuilder {
            client,
            path,
            options,
            ..
        } = self;
        path.check().map_err(|error| {
            let context = Context {
                op: "cache",
                path: path.to_string(),
                ..Context::default()
            };
            Error::bad_argument(Reason::Path(error), context)
        })?;
        let shared = Arc::new(Shared {
            root: Arc::clone(&options.root),
            inner: Mutex::new(Inner {
                store: Store::new(options.bytes_max),
                is_complete: true,
                stale_since: Some(Instant::now()),
            }),
            events: broadcast::Sender::new(EVENTS_MAX),
            state: watch::Sender::new(State::Stale),
        });
        let stop = CancellationToken::new();
        let keeper = Keeper::new(&client, options, Arc::clone(&shared));
        let stopped = stop.clone();
        client.inner.tasks.spawn(async move {
            // Dropped with the cache: its watches are taken off, its reads withdrawn.
            stopped.run_until_cancelled(keeper.run()).await;
        });
        Ok(C::from(Cache {
            shared,
            _stop: Arc::new(stop.drop_guard()),
        }))
    }
}

impl<C> fmt::Debug for CacheBuilder<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CacheBuilder({:?} {})",
            self.options.scope, self.options.root
        )
    }
}

#[derive(Clone, Debug)]
enum State {
    Stale,
    Synced,
    Ended(Error),
}

/// What the cache's handles share with its task.
#[derive(Debug)]
struct Shared {
    root: Arc<str>,
    inner: Mutex<Inner>,
    events: broadcast::Sender<CacheEvent>,
    state: watch::Sender<State>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    is_complete: bool,
    stale_since: Option<Instant>,
}

impl Shared {
    fn tell(&self, event: CacheEvent) {
        // Nobody may be listening.
        drop(self.events.send(event));
    }

    fn snapshot(&self) -> CacheSnapshot {
        let inner = self.inner.lock();
        CacheSnapshot {
            nodes: Arc::clone(&inner.store.nodes),
            root: Arc::clone(&self.root),
            as_of: inner.store.as_of(),
            is_complete: inner.is_complete,
            stale_since: inner.stale_since,
        }
    }
}

/// What all caches have in common. Clones share the cache; when the last is dropped it stops.
///
/// What it shows goes forward only, znode by znode, and always comes to the last state, over
/// disconnects and, with [`new_session_on_loss`](crate::ClientBuilder::new_session_on_loss), lost
/// sessions. States in between may be skipped. Znodes are read one by one, so a view need not be
/// what the whole tree looked like at one time.
#[derive(Clone, Debug)]
pub struct Cache {
    shared: Arc<Shared>,
    _stop: Arc<DropGuard>,
}

impl Cache {
    /// What it shows now. Cheap; but the first change after a snapshot copies the index of paths
    /// if the snapshot is still held.
    #[must_use]
    pub fn snapshot(&self) -> CacheSnapshot {
        self.shared.snapshot()
    }

    /// The znode at this path, as it shows it now.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<Arc<CachedNode>> {
        self.shared.inner.lock().store.nodes.get(path).cloned()
    }

    /// Since when it may be old: it is out of contact, or has not read everything again since.
    /// `None` when it is current: then nothing that the connected server had told is missing.
    #[must_use]
    pub fn staleness(&self) -> Option<Instant> {
        self.shared.inner.lock().stale_since
    }

    /// What it counts as held, of [`CacheBuilder::max_bytes`].
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shared.inner.lock().store.bytes()
    }

    /// What changes from now on.
    ///
    /// At most 1024 events wait for a slow consumer; it is told how many it
    /// [missed](CacheEvent::Missed). To begin with all that is there, subscribe, and then take a
    /// snapshot: an event that the snapshot shows already has a `mzxid` that is not newer. The stream
    /// ends when the cache is dropped.
    pub fn events(&self) -> CacheEvents {
        let events = self.shared.events.subscribe();
        CacheEvents(
            stream::unfold(events, |mut events| async move {
                match events.recv().await {
                    Ok(event) => Some((event, events)),
                    Err(broadcast::error::RecvError::Lagged(count)) => {
                        Some((CacheEvent::Missed(count), events))
                    }
                    Err(broadcast::error::RecvError::Closed) => None,
                }
            })
            .boxed(),
        )
    }

    /// Waits until it is current.
    ///
    /// # Errors
    /// What ended it: the session was lost for good, or the client closed.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn synced(&self) -> Result<()> {
        let mut state = self.shared.state.subscribe();
        match state
            .wait_for(|state| !matches!(state, State::Stale))
            .await
            .as_deref()
        {
            Ok(State::Ended(error)) => Err(error.clone()),
            // The sender is held here: it cannot be gone.
            Ok(State::Stale | State::Synced) | Err(_) => Ok(()),
        }
    }
}

/// The changes of a cache; see [`Cache::events`].
#[must_use = "a stream does nothing until it is polled"]
pub struct CacheEvents(BoxStream<'static, CacheEvent>);

impl Stream for CacheEvents {
    type Item = CacheEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<CacheEvent>> {
        self.0.poll_next_unpin(cx)
    }
}

impl fmt::Debug for CacheEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheEvents")
    }
}

/// Gives a cache what all of them have.
macro_rules! cache {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        #[must_use = "a dropped cache stops"]
        pub struct $name(Cache);

        impl From<Cache> for $name {
            fn from(cache: Cache) -> $name {
                $name(cache)
            }
        }

        impl Deref for $name {
            type Target = Cache;

            fn deref(&self) -> &Cache {
                &self.0
            }
        }
    };
}

cache!(
    /// A cache of one znode; see [`Client::node_cache`] and [`Cache`].
    NodeCache
);
cache!(
    /// A cache of a znode and its children; see [`Client::children_cache`] and [`Cache`].
    ChildrenCache
);
cache!(
    /// A cache of a znode and all below it; see [`Client::tree_cache`] and [`Cache`].
    TreeCache
);

impl NodeCache {
    /// The znode, as it shows it now.
    #[must_use]
    pub fn node(&self) -> Option<Arc<CachedNode>> {
        self.0.get(&self.0.shared.root)
    }
}
