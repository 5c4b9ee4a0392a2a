//! What a watch tells: events as values, and honest words where events may have been missed.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures::Stream;
use parking_lot::Mutex;
use quorate_proto::{EventType, Zxid};
use tokio::sync::oneshot;

use crate::error::{Reason, Result};
use crate::root::Root;
use crate::session::Unwatch;

/// Notices that wait for one slow consumer. Behind them a [`Notice::Gap`] takes the place of all.
const NOTICES_MAX: usize = 4096;
/// As do these bytes of paths: a path may be as long as a frame.
const BYTES_MAX: usize = 1 << 20;

/// A change that a watch saw.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct WatchedEvent {
    /// What happened.
    pub kind: EventType,
    /// To which znode, as the client that watches names it.
    pub path: String,
    /// The transaction that did it. `None` where the server does not tell: ZooKeeper before 3.9,
    /// and changes that were found when a connection was taken up again.
    pub zxid: Option<Zxid>,
}

/// What a lasting watch says.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Notice {
    /// Something changed.
    Event(WatchedEvent),
    /// Events may have been missed: the connection was away, or this consumer was too slow. The
    /// watch is armed again; what is read from now on, with the events that follow, is complete.
    Gap {
        /// The last transaction that this client had seen before.
        since: Zxid,
    },
    /// The session is over, and the watch with it. The last notice of every stream.
    Lost(Reason),
}

/// The notices that wait for one consumer.
#[derive(Debug, Default)]
pub(crate) struct NoticeQueue(Mutex<Notices>);

#[derive(Debug, Default)]
struct Notices {
    waiting: VecDeque<Notice>,
    /// Of the paths in `waiting`.
    bytes: usize,
    waker: Option<Waker>,
    is_over: bool,
}

impl NoticeQueue {
    /// Queues a notice; `seen` is the last zxid that the client knows.
    pub(crate) fn push(&self, notice: Notice, seen: Zxid) {
        let mut queue = self.0.lock();
        if queue.is_over {
            return;
        }
        match notice {
            Notice::Gap { since } => queue.collapse(since),
            // The event is one of those that the gap stands for.
            Notice::Event(_) if queue.is_full_for(&notice) => queue.collapse(seen),
            Notice::Event(_) => {
                queue.bytes += path_bytes(&notice);
                queue.waiting.push_back(notice);
            }
            Notice::Lost(_) => {
                queue.is_over = true;
                queue.waiting.push_back(notice);
            }
        }
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Notice>> {
        let mut queue = self.0.lock();
        match queue.waiting.pop_front() {
            Some(notice) => {
                queue.bytes -= path_bytes(&notice);
                Poll::Ready(Some(notice))
            }
            None if queue.is_over => Poll::Ready(None),
            None => {
                queue.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// What a notice holds besides itself.
fn path_bytes(notice: &Notice) -> usize {
    match notice {
        Notice::Event(event) => event.path.len(),
        Notice::Gap { .. } | Notice::Lost(_) => 0,
    }
}

impl Notices {
    fn is_full_for(&self, notice: &Notice) -> bool {
        self.waiting.len() >= NOTICES_MAX || self.bytes + path_bytes(notice) > BYTES_MAX
    }

    /// Lets one gap stand for all that waits: whoever reads after it sees what the events told.
    fn collapse(&mut self, since: Zxid) {
        let since = match self.waiting.front() {
            Some(Notice::Gap { since }) => *since,
            _ => since,
        };
        self.waiting.clear();
        self.bytes = 0;
        self.waiting.push_back(Notice::Gap { since });
    }
}

/// A one-shot watch that is armed: a future of the next change.
///
/// It survives reconnects within the session: what changed while the connection was away is told
/// when it is back. Dropping it takes the watch off the server, unless another still needs it.
///
/// # Errors
/// [`Error::SessionGone`](crate::Error::SessionGone) if the session ends first.
///
/// # Cancel safety
/// It may be polled by reference in `select!`; dropping it is how to give up.
#[derive(Debug)]
#[must_use = "a dropped watch is removed"]
pub struct Watch {
    pub(crate) fired: oneshot::Receiver<Result<WatchedEvent, Reason>>,
    pub(crate) root: Root,
    /// Takes the watch off when this is dropped.
    pub(crate) off: Unwatch,
}

impl Future for Watch {
    type Output = Result<WatchedEvent>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let fired = match Pin::new(&mut self.fired).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(fired) => fired,
        };
        let this = &mut *self;
        this.off.disarm();
        Poll::Ready(match fired {
            Ok(Ok(event)) => Ok(this.root.strip_event(event)),
            Ok(Err(reason)) => Err(this.off.session_gone(reason, &this.root)),
            // The session task is gone, and its runtime with it.
            Err(_) => Err(this.off.session_gone(Reason::Closed, &this.root)),
        })
    }
}

/// A lasting watch that is armed: a stream of changes.
///
/// It survives reconnects within the session; where events may have been missed it says
/// [`Notice::Gap`]. It ends with [`Notice::Lost`]. Dropping it takes the watch off the server,
/// unless another still needs it. At most 4096 notices wait for a slow consumer, with paths of 1 MiB
/// in all: then a gap stands for them all.
#[derive(Debug)]
#[must_use = "a dropped watch is removed"]
pub struct WatchStream {
    pub(crate) queue: Arc<NoticeQueue>,
    pub(crate) root: Root,
    /// Takes the watch off when this is dropped.
    pub(crate) _off: Unwatch,
}

impl Stream for WatchStream {
    type Item = Notice;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Notice>> {
        self.queue.poll_next(cx).map(|notice| {
            notice.map(|notice| match notice {
                Notice::Event(event) => Notice::Event(self.root.strip_event(event)),
                other => other,
            })
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use futures::task::noop_waker;

    use super::*;

    pub(crate) fn queue() -> Arc<NoticeQueue> {
        Arc::default()
    }

    /// Takes all that waits.
    pub(crate) fn drain(queue: &NoticeQueue) -> Vec<Notice> {
        std::iter::from_fn(|| match next(queue) {
            Poll::Ready(notice) => notice,
            Poll::Pending => None,
        })
        .collect()
    }

    fn event(n: i64) -> Notice {
        Notice::Event(WatchedEvent {
            kind: EventType::NodeDataChanged,
            path: "/a".to_owned(),
            zxid: Some(Zxid(n)),
        })
    }

    fn next(queue: &NoticeQueue) -> Poll<Option<Notice>> {
        queue.poll_next(&mut Context::from_waker(&noop_waker()))
    }

    #[test]
    fn a_slow_consumer_is_told_of_a_gap_and_not_of_half_the_events() {
        let queue = NoticeQueue::default();
        for n in 0..10_000 {
            queue.push(event(n), Zxid(n));
        }
        let Poll::Ready(Some(Notice::Gap { since })) = next(&queue) else {
            panic!("no gap");
        };
        assert!(since <= Zxid(10_000));
        let mut events = 0;
        while let Poll::Ready(Some(Notice::Event(_))) = next(&queue) {
            events += 1;
        }
        assert!(events <= NOTICES_MAX);
    }

    /// A path may be as long as a frame, and nobody who watches chose it.
    #[test]
    fn what_waits_for_a_slow_consumer_is_bounded_in_bytes_too() {
        let long = |n| {
            Notice::Event(WatchedEvent {
                kind: EventType::NodeCreated,
                path: "x".repeat(1 << 20),
                zxid: Some(Zxid(n)),
            })
        };
        let queue = NoticeQueue::default();
        for n in 0..1_000 {
            queue.push(long(n), Zxid(n));
            let held: usize = queue.0.lock().waiting.iter().map(path_bytes).sum();
            assert!(held <= BYTES_MAX, "{held}");
        }
        assert!(matches!(
            next(&queue),
            Poll::Ready(Some(Notice::Gap { .. }))
        ));
        drop(drain(&queue));
        queue.push(event(1_001), Zxid(1_001));
        assert_eq!(next(&queue), Poll::Ready(Some(event(1_001))));
    }

    #[test]
    fn two_gaps_in_a_row_are_one_since_the_first() {
        let queue = NoticeQueue::default();
        queue.push(Notice::Gap { since: Zxid(3) }, Zxid(9));
        queue.push(event(5), Zxid(9));
        queue.push(Notice::Gap { since: Zxid(7) }, Zxid(9));
        assert_eq!(
            next(&queue),
            Poll::Ready(Some(Notice::Gap { since: Zxid(3) }))
        );
        assert_eq!(next(&queue), Poll::Pending);
    }

    #[test]
    fn nothing_follows_the_loss_of_the_session() {
        let queue = NoticeQueue::default();
        queue.push(event(1), Zxid(1));
        queue.push(Notice::Lost(Reason::Closed), Zxid(1));
        queue.push(event(2), Zxid(2));
        assert_eq!(next(&queue), Poll::Ready(Some(event(1))));
        assert_eq!(
            next(&queue),
            Poll::Ready(Some(Notice::Lost(Reason::Closed)))
        );
        assert_eq!(next(&queue), Poll::Ready(None));
    }
}
