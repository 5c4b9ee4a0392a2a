//! Wakes the task of one connection: a flag and a waker, three words, no list and no lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

/// Tells one task that there is something to do. What is told while the task is at work is not
/// lost, and told twice is told once.
#[derive(Debug, Default)]
pub(crate) struct Wake {
    told: AtomicBool,
    waker: AtomicWaker,
}

impl Wake {
    /// Tells the task.
    pub(crate) fn wake(&self) {
        // Who told it first wakes it, too.
        if !self.told.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Ready, once, if the task was told since it last asked. One task asks, nobody else.
    pub(crate) fn poll_told(&self, cx: &Context<'_>) -> Poll<()> {
        // Registered before it looks: whoever tells it in between finds the waker.
        self.waker.register(cx.waker());
        if self.told.swap(false, Ordering::AcqRel) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn what_is_told_before_the_task_asks_is_heard_once() {
        let wake = Wake::default();
        wake.wake();
        wake.wake();
        assert!(poll_fn(|cx| wake.poll_told(cx)).now_or_never().is_some());
        assert!(poll_fn(|cx| wake.poll_told(cx)).now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_task_that_waits_is_woken() {
        let wake = Wake::default();
        let told = poll_fn(|cx| wake.poll_told(cx));
        tokio::join!(told, async { wake.wake() });
    }
}
