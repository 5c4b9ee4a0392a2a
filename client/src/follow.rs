//! Following a znode: its state of now, and then each latest state.
//!
//! Job: a stream that always catches up with the last state and never goes back. Not here: every
//! single change (that is [`Client::watch`]), many znodes at once (the caches).
//!
//! Built on one-shot watches, so that it works on every server. Invariants: a state is read
//! together with the watch that tells of the next one, so that there is no time in which a change
//! goes unnoticed; the watch survives reconnects, and the server compares what was seen with what
//! is there; a state is yielded only if it is newer than the one before. Nothing runs while
//! nobody polls: a slow consumer gets the latest state and skips those between.

mod endure;

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use quorate_proto::Stat;

use crate::client::Client;
use crate::codec::Codec;
use crate::error::{Context, Error, Reason, Result};
use crate::ops::{Node, Versioned};
use crate::path::PathArg;
use crate::watch::Watch;

pub(crate) use endure::{Pauses, may_pass};

impl Client {
    /// Follows a znode: yields its state of now at once, then the latest state after each change;
    /// `None` while it does not exist.
    ///
    /// Latest wins: a consumer that is slower than the changes skips some, and never the last one.
    /// The stream goes on over disconnects, deletions and re-creations, and with
    /// [`new_session_on_loss`](crate::ClientBuilder::new_session_on_loss) over lost sessions. It
    /// never yields a state older than the one before, by `mzxid`. Changes of nothing but the
    /// ACL or the children are not told.
    ///
    /// ```
    /// use futures::StreamExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> quorate_client::Result<()> {
    /// # let server = quorate_server::testing::TestServer::start().await;
    /// # let client = quorate_client::Client::connect(server.connect_string()).await?;
    /// # client.create("/motd", "hello").await?;
    /// let mut motd = client.follow("/motd");
    /// while let Some(node) = motd.next().await {
    ///     match node? {
    ///         Some(node) => println!("version {}: {:?}", node.stat.version, node.data),
    ///         None => println!("there is none"),
    ///     }
    /// #     break;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The stream's last item, if the session ends for good, the znode may not be read, or the path
    /// breaks the rules. Lost connections are no errors.
    ///
    /// # Cancel safety
    /// `next()` may be dropped at any time. The dropped stream takes its watch off.
    ///
    /// Source: Curator `NodeCache`, `CuratorCache` with `SINGLE_NODE_CACHE`; kazoo `DataWatch`.
    pub fn follow(&self, path: impl Into<PathArg>) -> Follow {
        Follow(states(self, path, look_at_node, |node: &Node| {
            node.stat.mzxid
        }))
    }

    /// Follows a znode's value of a type; as [`follow`](Client::follow) in everything else.
    ///
    /// Data that is no such value is an error item, and the stream goes on behind it.
    ///
    /// ```
    /// use futures::StreamExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> quorate_client::Result<()> {
    /// # let server = quorate_server::testing::TestServer::start().await;
    /// # let client = quorate_client::Client::connect(server.connect_string()).await?;
    /// # client.create("/greeting", "hello").await?;
    /// let mut greeting = client.value::<String>("/greeting");
    /// while let Some(update) = greeting.next().await {
    ///     match update {
    ///         Ok(Some(greeting)) => println!("v{}: {}", greeting.stat.version, greeting.value),
    ///         Ok(None) => println!("removed, keeping the last one"),
    ///         Err(error) => eprintln!("ignored: {error}"),
    ///     }
    /// #     break;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`follow`](Client::follow), and [`Reason::Codec`] for data that is no such value.
    ///
    /// # Cancel safety
    /// As [`follow`](Client::follow).
    ///
    /// Source: Curator `CachedModeledFramework`; kazoo `DataWatch`.
    pub fn value<T: Codec>(&self, path: impl Into<PathArg>) -> FollowValue<T> {
        let path = path.into();
        FollowValue {
            nodes: self.follow(&path),
            path,
            _value: PhantomData,
        }
    }

    /// Follows the names of a znode's children: those of now at once, then the latest after each
    /// change; `None` while the znode does not exist.
    ///
    /// Latest wins, and the stream goes on, as with [`follow`](Client::follow). It never yields
    /// children older than those before, by `pzxid`.
    ///
    /// ```
    /// use futures::StreamExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> quorate_client::Result<()> {
    /// # let server = quorate_server::testing::TestServer::start().await;
    /// # let client = quorate_client::Client::connect(server.connect_string()).await?;
    /// # client.create("/workers/a", "").parents().await?;
    /// let mut workers = client.follow_children("/workers");
    /// while let Some(children) = workers.next().await {
    ///     let names = children?.map(|children| children.names).unwrap_or_default();
    ///     println!("{} workers: {names:?}", names.len());
    /// #     break;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`follow`](Client::follow).
    ///
    /// # Cancel safety
    /// As [`follow`](Client::follow).
    ///
    /// Source: Curator `PathChildrenCache` without data; kazoo `ChildrenWatch`, which ends when
    /// the znode is deleted, where this goes on.
    pub fn follow_children(&self, path: impl Into<PathArg>) -> FollowChildren {
        FollowChildren(states(
            self,
            path,
            look_at_children,
            |children: &Children| children.stat.pzxid,
        ))
    }
}

/// The children of a znode.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Children {
    /// Their names, sorted.
    pub names: Vec<String>,
    /// The parent's `Stat`.
    pub stat: Stat,
}

/// The states of a znode; see [`Client::follow`].
#[must_use = "a stream does nothing until it is polled"]
pub struct Follow(BoxStream<'static, Result<Option<Node>>>);

/// The values of a znode; see [`Client::value`].
#[must_use = "a stream does nothing until it is polled"]
pub struct FollowValue<T> {
    nodes: Follow,
    path: PathArg,
    _value: PhantomData<fn() -> T>,
}

/// The children of a znode; see [`Client::follow_children`].
#[must_use = "a stream does nothing until it is polled"]
pub struct FollowChildren(BoxStream<'static, Result<Option<Children>>>);

impl Stream for Follow {
    type Item = Result<Option<Node>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl Stream for FollowChildren {
    type Item = Result<Option<Children>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl<T: Codec> Stream for FollowValue<T> {
    type Item = Result<Option<Versioned<T>>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        self.nodes.poll_next_unpin(cx).map(|item| {
            item.map(|node| match node? {
                Some(Node { data, stat, .. }) => match T::decode(&data) {
                    Ok(value) => Ok(Some(Versioned { value, stat })),
                    Err(error) => Err(self.unreadable(&error)),
                },
                None => Ok(None),
            })
        })
    }
}

impl<T> FollowValue<T> {
    /// It was read; what it holds is another thing.
    fn unreadable(&self, error: &crate::CodecError) -> Error {
        let text = match std::error::Error::source(error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        };
        let context = Context {
            op: "getData",
            path: self.path.to_string(),
            ..Context::default()
        };
        Error::happened(Reason::Codec(text), context)
    }
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Follow")
    }
}

impl<T> fmt::Debug for FollowValue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FollowValue({})", self.path)
    }
}

impl fmt::Debug for FollowChildren {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FollowChildren")
    }
}

/// Reads a state, and arms the watch of the next.
type Look<T> = fn(Client, PathArg) -> BoxFuture<'static, Result<(Option<T>, Watch)>>;

fn states<T: Send + 'static>(
    client: &Client,
    path: impl Into<PathArg>,
    look: Look<T>,
    mark: fn(&T) -> i64,
) -> BoxStream<'static, Result<Option<T>>> {
    let follower = Follower {
        client: client.clone(),
        path: path.into(),
        look,
        mark,
        watch: None,
        shown: None,
        generation: 0,
        is_over: false,
    };
    stream::unfold(follower, |mut follower| async move {
        let item = follower.next().await?;
        Some((item, follower))
    })
    .boxed()
}

struct Follower<T> {
    client: Client,
    path: PathArg,
    look: Look<T>,
    /// The zxid by which states are ordered.
    mark: fn(&T) -> i64,
    /// Tells that what was shown is old.
    watch: Option<Watch>,
    /// What was yielded last: its mark, and whether it was a znode or none.
    shown: Option<Shown>,
    /// The session that was read in last.
    generation: u64,
    is_over: bool,
}

#[derive(Clone, Copy, Debug)]
struct Shown {
    /// The newest mark ever shown: it stays while there is no znode.
    mark: i64,
    is_missing: bool,
}

impl<T> Follower<T> {
    async fn next(&mut self) -> Option<Result<Option<T>>> {
        if self.is_over {
            return None;
        }
        let mut pauses = Pauses::default();
        loop {
            let error = match self.advance().await {
                Ok(Some(state)) => return Some(Ok(state)),
                // Nothing new.
                Ok(None) => {
                    pauses.reset();
                    continue;
                }
                Err(error) => error,
            };
            if !may_pass(&self.client, &error) {
                self.is_over = true;
                return Some(Err(error));
            }
            tracing::debug!(path = %self.path, %error, "following goes on");
            pauses.pause().await;
        }
    }

    /// Waits for a change, and reads. `None` if what is there was shown already.
    async fn advance(&mut self) -> Result<Option<Option<T>>> {
        if let Some(watch) = &mut self.watch {
            let fired = Pin::new(watch).await;
            self.watch = None;
            fired?;
        }
        // Sync and reads in one session: what was synced says nothing about the next one.
        let client = match self.client.is_pinned() {
            true => self.client.clone(),
            false => self.client.pinned(),
        };
        let generation = client.bound_generation();
        if self.shown.is_some() && generation != self.generation {
            // A session never reads backwards; the next one may, at a server that lags.
            client.sync(&self.path).await?;
        }
        let (state, watch) = (self.look)(client, self.path.clone()).await?;
        self.watch = Some(watch);
        self.generation = generation;
        let mark = state.as_ref().map(self.mark);
        let newest = self.shown.map_or(i64::MIN, |shown| shown.mark);
        let is_news = match (self.shown, mark) {
            (None, _) => true,
            (Some(shown), None) => !shown.is_missing,
            // Also what came back with the mark that it had: only a server that has lost data
            // does that, and a missing znode must not stay on show.
            (Some(shown), Some(mark)) => mark > newest || (shown.is_missing && mark == newest),
        };
        if !is_news {
            return Ok(None);
        }
        self.shown = Some(Shown {
            mark: mark.unwrap_or(newest).max(newest),
            is_missing: mark.is_none(),
        });
        Ok(Some(state))
    }
}

fn look_at_node(
    client: Client,
    path: PathArg,
) -> BoxFuture<'static, Result<(Option<Node>, Watch)>> {
    Box::pin(async move { look(&client, path.as_str(), || client.get(&path).watch()).await })
}

fn look_at_children(
    client: Client,
    path: PathArg,
) -> BoxFuture<'static, Result<(Option<Children>, Watch)>> {
    Box::pin(async move {
        look(&client, path.as_str(), || async {
            let (mut names, stat, watch) = client.children(&path).watch().await?;
            names.sort_unstable();
            Ok((Children { names, stat }, watch))
        })
        .await
    })
}

/// Reads what is there, or that nothing is; in both cases with a watch.
pub(crate) async fn look<T, F: Future<Output = Result<(T, Watch)>>>(
    client: &Client,
    path: &str,
    read: impl Fn() -> F,
) -> Result<(Option<T>, Watch)> {
    loop {
        match read().await {
            Ok((state, watch)) => return Ok((Some(state), watch)),
            Err(error) if error.is_no_node() => {}
            Err(error) => return Err(error),
        }
        let (stat, watch) = client.exists(path).watch().await?;
        if stat.is_none() {
            return Ok((None, watch));
        }
        // It was created in between.
    }
}
