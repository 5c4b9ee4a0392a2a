//! Values that are at hand, and tell of their changes.

use std::fmt;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use quorate_client::{Client, Context, Error, Reason, Result, Stat};
use tokio::sync::watch;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::stored::Stored;

/// A number that all see: [`Shared`].
pub type SharedCount = Shared<i32>;
/// Bytes that all see: [`Shared`].
pub type SharedValue = Shared<Bytes>;

/// A value that is kept at hand, and written on the condition of what was seen.
///
/// | | |
/// | --- | --- |
/// | guarantee | never older than what it showed before, by `mzxid`; a [`try_set`](Shared::try_set) never overwrites what its caller has not seen |
/// | what can go wrong | values in between are skipped, the last one never; the value is as old as the connection is away |
/// | znodes | `<path>`, persistent |
/// | cost | one watch; a read per change |
/// | Curator, kazoo | `SharedValue`, `SharedCount`; `Counter(support_curator=True)` writes the same |
///
/// ```no_run
/// use futures::StreamExt;
/// use quorate_recipes::{Client, counter::SharedCount};
///
/// # async fn example(client: Client) -> quorate_recipes::Result<()> {
/// let replicas = SharedCount::open(&client, "/config/replicas", 3).await?;
/// let mut changes = replicas.changes();
/// let seen = replicas.get();
/// if !replicas.try_set(&seen, seen.value + 1).await? {
///     println!("somebody was faster");
/// }
/// while let Some(current) = changes.next().await {
///     println!("{} replicas", current?.value);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Shared<V> {
    client: Client,
    path: String,
    latest: watch::Sender<Seen<V>>,
    _follower: AbortOnDropHandle<()>,
}

/// A value, and which state of the znode it is.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Current<V> {
    /// The value.
    pub value: V,
    /// The znode's version.
    pub version: i32,
    /// When it was written.
    pub mzxid: i64,
}

#[derive(Clone, Debug)]
struct Seen<V> {
    current: Current<V>,
    /// Why nothing newer will come, or why the newest is no value.
    error: Option<Error>,
}

impl<V: Stored> Shared<V> {
    /// Reads the value and follows it; makes it with this seed if there is none.
    ///
    /// # Errors
    /// As a create's and a read's; [`Reason::Codec`] for bytes that are no such value.
    ///
    /// # Cancel safety
    /// The value may be made when dropped.
    pub async fn open(client: &Client, path: &str, seed: V) -> Result<Shared<V>> {
        let create = client.create(path, seed.store()).parents().idempotent();
        match create.await {
            Err(error) if !error.is_node_exists() => return Err(error),
            _ => {}
        }
        let node = client.get(path).await?;
        let current = current(path, &node.data, &node.stat)?;
        let (latest, _) = watch::channel(Seen {
            current,
            error: None,
        });
        let follow = follow::<V>(client.clone(), path.to_owned(), latest.clone());
        let task = TaskTracker::new().spawn(follow);
        Ok(Shared {
            client: client.clone(),
            path: path.to_owned(),
            latest,
            _follower: AbortOnDropHandle::new(task),
        })
    }

    /// The latest value that was seen.
    #[must_use]
    pub fn get(&self) -> Current<V> {
        self.latest.borrow().current.clone()
    }

    /// The value of now, and then each latest one after a change. Data that is no such value is an
    /// error item; the loss of the session is the last item.
    pub fn changes(&self) -> Changes<V> {
        let mut latest = self.latest.subscribe();
        latest.mark_changed();
        let changes = stream::unfold(latest, |mut latest| async move {
            latest.changed().await.ok()?;
            let seen = latest.borrow_and_update().clone();
            let item = match seen.error {
                Some(error) => Err(error),
                None => Ok(seen.current),
            };
            Some((item, latest))
        });
        Changes(changes.boxed())
    }

    /// Replaces the value, whatever it is.
    ///
    /// # Errors
    /// As any write's.
    ///
    /// # Cancel safety
    /// May take effect when dropped.
    pub async fn set(&self, value: V) -> Result<()> {
        let stat = self.client.set(&self.path, value.store()).await?;
        self.show(value, &stat);
        Ok(())
    }

    /// Replaces the value if it is still the one that was seen; false if it is not.
    ///
    /// # Errors
    /// As any write's. An [`Error::Unknown`] must be looked into: [`get`](Shared::get) will show
    /// what came of it.
    ///
    /// # Cancel safety
    /// May take effect when dropped.
    pub async fn try_set(&self, seen: &Current<V>, value: V) -> Result<bool> {
        if seen.version == -1 {
            // To the server -1 is any version.
            let text = "the znode's version has come round to -1: set it once without a condition";
            let context = Context::of("setData", &self.path);
            return Err(Error::bad_argument(
                Reason::Option(text.to_owned()),
                context,
            ));
        }
        let set = self.client.set(&self.path, value.store());
        match set.version(seen.version).await {
            Ok(stat) => {
                self.show(value, &stat);
                Ok(true)
            }
            Err(error) if error.is_bad_version() => {
                let node = self.client.get(&self.path).await?;
                let current = current::<V>(&self.path, &node.data, &node.stat)?;
                show(&self.latest, Ok(current));
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn show(&self, value: V, stat: &Stat) {
        let current = Current {
            value,
            version: stat.version,
            mzxid: stat.mzxid,
        };
        show(&self.latest, Ok(current));
    }
}

/// The latest values; see [`Shared::changes`].
#[must_use = "a stream does nothing until it is polled"]
pub struct Changes<V>(BoxStream<'static, Result<Current<V>>>);

impl<V> Stream for Changes<V> {
    type Item = Result<Current<V>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl<V> fmt::Debug for Changes<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Changes")
    }
}

async fn follow<V: Stored>(client: Client, path: String, latest: watch::Sender<Seen<V>>) {
    let mut nodes = client.follow(&path);
    while let Some(node) = nodes.next().await {
        match node {
            Ok(Some(node)) => show(&latest, current(&path, &node.data, &node.stat)),
            // Deleted: what was seen last stays on show.
            Ok(None) => {}
            Err(error) => show(&latest, Err(error)),
        }
    }
}

/// Shows what is newer than what is shown.
fn show<V>(latest: &watch::Sender<Seen<V>>, news: Result<Current<V>>) {
    latest.send_if_modified(|seen| match news {
        Ok(current) if current.mzxid > seen.current.mzxid => {
            *seen = Seen {
                current,
                error: None,
            };
            true
        }
        Ok(_) => false,
        Err(error) => {
            seen.error = Some(error);
            true
        }
    });
}

fn current<V: Stored>(path: &str, data: &Bytes, stat: &Stat) -> Result<Current<V>> {
    let Some(value) = V::load(data) else {
        let text = format!("{} bytes are no such value", data.len());
        let context = Context::of("getData", path);
        return Err(Error::did_not_happen(Reason::Codec(text), context));
    };
    Ok(Current {
        value,
        version: stat.version,
        mzxid: stat.mzxid,
    })
}
