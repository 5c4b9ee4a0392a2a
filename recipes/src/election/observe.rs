//! Who leads, for those who do not stand for it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{BoxStream, Stream, StreamExt as _, unfold};
use quorate_client::{Error, Result, SessionId, Watch};
use tokio::time::sleep;

use crate::contention::Contention;
use crate::fencing::FencingToken;

const PAUSE: Duration = Duration::from_millis(50);

/// Who leads.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Leader {
    /// Its id, or what it has [proclaimed](super::Leadership::proclaim) since.
    pub data: Bytes,
    /// Its znode.
    pub path: String,
    /// Its session.
    pub session: SessionId,
    /// Larger than that of every leader before.
    pub token: FencingToken,
}

/// The leaders, one after the other: the one of now first, `None` while there is none.
///
/// The latest counts: who led shortly between two looks may go unseen. It never goes back to a
/// leader before the one that it gave last. It goes on over lost connections, and over lost
/// sessions if the client opens new ones. One watch.
///
/// # Errors
/// An item, the last one: when the client is closed or its session lost for good, or when the
/// directory cannot be read.
///
/// # Cancel safety
/// `next()` may be dropped at any time. The dropped stream takes its watch off.
///
/// Source: etcd `Observe`; Curator and kazoo have none.
#[must_use = "a stream does nothing until it is polled"]
pub struct Observe(BoxStream<'static, Result<Option<Leader>>>);

struct Observer {
    contention: Contention,
    /// What was given last.
    last: Option<Option<Leader>>,
    token_max: Option<FencingToken>,
    watch: Option<Watch>,
    is_over: bool,
}

impl Observe {
    pub(crate) fn new(contention: Contention) -> Observe {
        let observer = Observer {
            contention,
            last: None,
            token_max: None,
            watch: None,
            is_over: false,
        };
        Observe(unfold(observer, Observer::next).boxed())
    }
}

impl Stream for Observe {
    type Item = Result<Option<Leader>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl fmt::Debug for Observe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observe")
    }
}

impl Observer {
    async fn next(mut self) -> Option<(Result<Option<Leader>>, Observer)> {
        while !self.is_over {
            if let Some(watch) = self.watch.take() {
                // The event and the end of the session alike are reasons to look again.
                drop(watch.await);
            }
            match look(&self.contention).await {
                Ok((leader, watch)) => {
                    self.watch = Some(watch);
                    let token = leader.as_ref().map(|leader| leader.token);
                    // A server that lags behind the one before may still show who led before.
                    let is_old = token.is_some() && token < self.token_max;
                    if is_old || self.last.as_ref() == Some(&leader) {
                        continue;
                    }
                    self.token_max = self.token_max.max(token);
                    self.last = Some(leader.clone());
                    return Some((Ok(leader), self));
                }
                Err(error) => {
                    if let Err(error) = go_on_after(&self.contention, error).await {
                        self.is_over = true;
                        return Some((Err(error), self));
                    }
                }
            }
        }
        None
    }
}

/// Waits for a connection, in a next session if need be, unless the error is about something else.
pub(super) async fn go_on_after(contention: &Contention, error: Error) -> Result<()> {
    let may_pass = error.is_retryable() || error.is_session_lost();
    if !may_pass && !matches!(error, Error::Unknown { .. }) {
        return Err(error);
    }
    sleep(PAUSE).await;
    contention.client().connected().await.map_err(|_| error)
}

/// Who leads, and a watch that fires when that may change.
async fn look(contention: &Contention) -> Result<(Option<Leader>, Watch)> {
    let client = contention.client();
    let directory = contention.directory();
    loop {
        if let Some((path, _)) = first(contention).await? {
            match client.get(&path).watch().await {
                Ok((node, watch)) => {
                    let leader = Leader {
                        data: node.data,
                        path,
                        session: SessionId(node.stat.ephemeral_owner),
                        token: FencingToken::from(node.stat.czxid),
                    };
                    return Ok((Some(leader), watch));
                }
                Err(error) if error.is_no_node() => continue,
                Err(error) => return Err(error),
            }
        }
        let watch = match client.children(directory).watch().await {
            Ok((_, _, watch)) => watch,
            Err(error) if error.is_no_node() => match client.exists(directory).watch().await? {
                (None, watch) => return Ok((None, watch)),
                (Some(_), _) => continue,
            },
            Err(error) => return Err(error),
        };
        // Armed first, so that whoever came before the watch is seen.
        if first(contention).await?.is_none() {
            return Ok((None, watch));
        }
    }
}

async fn first(contention: &Contention) -> Result<Option<(String, i32)>> {
    let (entries, _) = contention.entries().await?;
    let first = entries.first();
    Ok(first.map(|entry| (contention.path_of(&entry.name), entry.sequence)))
}

/// Who leads now.
pub(super) async fn leader(contention: &Contention) -> Result<Option<Leader>> {
    look(contention).await.map(|(leader, _)| leader)
}
