//! One request's answer: a slot that the session task fills and the caller's future waits on.
//!
//! It knows three things that a plain channel does not, all under one lock: whether the request
//! has left this process, so that a timeout can say *did not happen* or *unknown*; whether the
//! caller still wants it, so that a request dropped before it left is withdrawn; and what to do
//! with an answer that comes when nobody waits any more, so that nothing made is forgotten.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::{Failure, Response};
use crate::error::Reason;

/// What is done with the answer to a request that left and that nobody waits for any more.
pub(crate) struct Orphan(pub(crate) Box<dyn FnOnce(Result<Response, Failure>) + Send>);

impl fmt::Debug for Orphan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Orphan")
    }
}

#[derive(Debug)]
enum State {
    /// In the queue.
    Waiting(Option<Waker>),
    /// On its way to the server.
    Sent(Option<Waker>),
    Done(Result<Response, Failure>),
    /// The answer was taken, or nobody wants it.
    Gone {
        was_sent: bool,
    },
}

impl State {
    fn was_sent(&self) -> bool {
        match self {
            State::Waiting(_) => false,
            State::Sent(_) => true,
            State::Done(result) => match result {
                Ok(_) => true,
                Err(failure) => failure.sent,
            },
            State::Gone { was_sent } => *was_sent,
        }
    }
}

#[derive(Debug)]
struct Inner {
    state: State,
    orphan: Option<Orphan>,
}

/// The caller's side.
#[derive(Debug)]
#[must_use = "a dropped answer withdraws a request that has not left yet"]
pub(crate) struct Answer(Arc<Mutex<Inner>>);

/// The session task's side.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Mutex<Inner>>);

pub(crate) fn slot(orphan: Option<Orphan>) -> (Slot, Answer) {
    let inner = Inner {
        state: State::Waiting(None),
        orphan,
    };
    let inner = Arc::new(Mutex::new(inner));
    (Slot(Arc::clone(&inner)), Answer(inner))
}

impl Slot {
    /// Marks the request as sent; false if the caller no longer wants it, so that it must not be.
    pub(crate) fn begin(&self) -> bool {
        let state = &mut self.0.lock().state;
        match state {
            State::Waiting(waker) => {
                *state = State::Sent(waker.take());
                true
            }
            State::Sent(_) => true,
            State::Done(_) | State::Gone { .. } => false,
        }
    }

    /// Whether the caller no longer waits.
    pub(crate) fn is_abandoned(&self) -> bool {
        matches!(self.0.lock().state, State::Gone { .. })
    }

    /// Gives the answer, to the caller or to whoever cleans up behind it.
    pub(crate) fn fill(self, result: Result<Response, Failure>) {
        let mut inner = self.0.lock();
        match &mut inner.state {
            State::Waiting(waker) | State::Sent(waker) => {
                let waker = waker.take();
                inner.state = State::Done(result);
                drop(inner);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            State::Done(_) => debug_assert!(false, "a request is answered once"),
            State::Gone { .. } => {
                let orphan = inner.orphan.take();
                drop(inner);
                if let Some(Orphan(clean_up)) = orphan {
                    clean_up(result);
                }
            }
        }
    }
}

/// A request whose task is gone with its runtime: nobody will answer, and nobody may wait for ever.
impl Drop for Slot {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        let sent = inner.state.was_sent();
        if let State::Waiting(waker) | State::Sent(waker) = &mut inner.state {
            let waker = waker.take();
            inner.state = State::Done(Err(Failure {
                sent,
                session_gone: false,
                reason: Reason::RuntimeGone,
                server: Arc::from(""),
            }));
            drop(inner);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl Answer {
    /// Gives the request up: withdraws it if it has not left. True if it had, so that it may take
    /// effect.
    pub(crate) fn give_up(&self) -> bool {
        let mut inner = self.0.lock();
        let was_sent = inner.state.was_sent();
        match std::mem::replace(&mut inner.state, State::Gone { was_sent }) {
            State::Gone { .. } => {}
            State::Waiting(_) => inner.orphan = None,
            State::Sent(_) => {}
            State::Done(result) => {
                let orphan = inner.orphan.take();
                drop(inner);
                if let Some(Orphan(clean_up)) = orphan {
                    clean_up(result);
                }
            }
        }
        was_sent
    }
}

impl Future for Answer {
    type Output = Result<Response, Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut inner = self.0.lock();
        match &mut inner.state {
            State::Waiting(waker) | State::Sent(waker) => {
                match waker {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => *waker = Some(cx.waker().clone()),
                }
                Poll::Pending
            }
            State::Done(_) | State::Gone { .. } => {
                let gone = State::Gone { was_sent: true };
                inner.orphan = None;
                match std::mem::replace(&mut inner.state, gone) {
                    State::Done(result) => Poll::Ready(result),
                    // Polled again after it was ready, or given up: nothing more will come.
                    _ => Poll::Pending,
                }
            }
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.give_up();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;
    use quorate_proto::{SessionId, Xid, Zxid};

    use super::*;

    fn response() -> Result<Response, Failure> {
        Ok(Response {
            xid: Xid(1),
            zxid: Zxid(1),
            err: 0,
            body: bytes::Bytes::new(),
            server: Arc::from(""),
            session: SessionId(1),
            generation: 1,
        })
    }

    /// Counts the answers that came when nobody waited.
    fn counted() -> (Arc<AtomicUsize>, Option<Orphan>) {
        let count = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&count);
        let orphan = Orphan(Box::new(move |_| {
            counts.fetch_add(1, Ordering::Relaxed);
        }));
        (count, Some(orphan))
    }

    #[test]
    fn a_request_given_up_before_it_left_never_leaves() {
        let (orphans, orphan) = counted();
        let (slot, answer) = slot(orphan);
        assert!(!answer.give_up(), "it had not left");
        assert!(slot.is_abandoned());
        assert!(!slot.begin());
        drop(slot);
        assert_eq!(orphans.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_answer_to_a_request_given_up_behind_that_goes_to_who_cleans_up() {
        for answered_first in [false, true] {
            let (orphans, orphan) = counted();
            let (slot, answer) = slot(orphan);
            assert!(slot.begin());
            if answered_first {
                slot.fill(response());
                assert!(answer.give_up());
            } else {
                assert!(answer.give_up(), "it had left");
                slot.fill(response());
            }
            drop(answer);
            assert_eq!(orphans.load(Ordering::Relaxed), 1, "{answered_first}");
        }
    }

    #[test]
    fn an_answer_that_was_taken_is_nobody_elses() {
        let (orphans, orphan) = counted();
        let (slot, mut answer) = slot(orphan);
        assert!(slot.begin());
        assert!((&mut answer).now_or_never().is_none());
        slot.fill(response());
        assert!(
            (&mut answer)
                .now_or_never()
                .is_some_and(|result| result.is_ok())
        );
        drop(answer);
        assert_eq!(orphans.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_slot_that_is_dropped_answers_that_the_runtime_is_gone() {
        for sent in [false, true] {
            let (slot, mut answer) = slot(None);
            if sent {
                slot.begin();
            }
            assert!((&mut answer).now_or_never().is_none());
            drop(slot);
            let failure = (&mut answer).now_or_never().unwrap().unwrap_err();
            assert_eq!((failure.sent, failure.reason), (sent, Reason::RuntimeGone));
        }
    }
}
