//! The jobs as a stream.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::{self, BoxStream, Stream, StreamExt};
use quorate_client::{Codec, Result};

use super::{Job, Queue};

/// The jobs of a queue; see [`Queue::consume`].
///
/// It takes an item when it is polled, and none ahead. Items that cannot be read are error items,
/// and the stream goes on behind them. It goes on in the next session where the client makes one;
/// the loss of the last one is its last item.
///
/// # Cancel safety
/// `next()` may be dropped and called again: the take goes on. Dropping the stream gives back what
/// was not yet given out.
#[must_use = "a stream does nothing until it is polled"]
pub struct Jobs<T>(BoxStream<'static, Result<Job<T>>>);

impl<T: Codec + Send + 'static> Jobs<T> {
    pub(super) fn new(queue: Queue<T>) -> Jobs<T> {
        let jobs = stream::unfold(Some(queue), |queue| async move {
            let queue = queue?;
            loop {
                match queue.take().await {
                    Ok(job) => return Some((Ok(job), Some(queue))),
                    Err(error) if !error.is_session_lost() => {
                        return Some((Err(error), Some(queue)));
                    }
                    Err(error) => {
                        if queue.shared.client.connected().await.is_err() {
                            return Some((Err(error), None));
                        }
                    }
                }
            }
        });
        Jobs(jobs.boxed())
    }
}

impl<T> Stream for Jobs<T> {
    type Item = Result<Job<T>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

impl<T> fmt::Debug for Jobs<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jobs")
    }
}
