//! The propose queue: where requests wait until they leave for the log, and until they land.
//!
//! Connections push, synchronously; one batcher takes whole entries out. Nothing per request is
//! kept but its encoding. Order: what is pushed first stands first in the log, whatever openraft
//! refuses on the way, as long as both were pushed for the same session.
//!
//! Bounded in bytes, waiting and in flight together; a push beyond that is refused with
//! [`Refused::Full`]. A request larger than [`ENTRY_BYTES_MAX`] travels alone.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::entry::Header;
use crate::tree::txn::Proposal;

/// Requests in one entry. One turn of the apply loop stays around a millisecond.
pub(super) const ENTRY_REQUESTS_MAX: u32 = 1000;
/// Bytes of one entry, unless a single request is larger.
pub(super) const ENTRY_BYTES_MAX: usize = 512 * 1024;
/// Bytes of one request. An entry that the log refuses for its size would be the end of the
/// engine, so it must not come that far.
pub(super) const REQUEST_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Entries in flight. More would cut the same requests into more entries.
const FLIGHTS_MAX: usize = 4;
/// Bytes waiting and in flight.
pub(super) const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Entries are cut from blocks of this size, so that a small one costs no allocation of its own.
const BLOCK: usize = 64 * 1024;

/// A request that was not taken. It has had no effect and never will.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// Too much waits already.
    #[error("{held} bytes wait to be written, {limit} at most")]
    Full { held: usize, limit: usize },
    /// No entry of the log could hold it.
    #[error("a request of {bytes} bytes, {limit} at most")]
    TooLarge { bytes: usize, limit: usize },
    /// Nothing is taken any more.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why this server takes no writes, and proves no read current.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unavailable {
    /// It is stopping.
    #[error("this server is stopping")]
    Stopping,
    /// Its disk failed.
    #[error("the disk failed: {cause}")]
    DiskFailed { cause: Arc<str> },
    /// It may not go on: its log or state is not what it must be.
    #[error("this server stopped writing: {cause}")]
    Broken { cause: Arc<str> },
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landing {
    /// It was applied here; its outcomes were delivered before.
    Applied,
    /// It must be sent again.
    Refused,
    /// Nobody will ever tell: the engine stopped.
    Lost,
}

/// What the batcher is to do.
#[derive(Debug)]
pub(super) enum Next {
    /// Hand this entry to openraft.
    Send { flight: u64, body: Bytes },
    /// Wait, then hand it over again.
    Resend { flight: u64, body: Bytes },
    /// Sleep until [`ProposeQueue::wake`].
    Sleep,
    /// End: closed and empty, or failed.
    End,
}

/// See the module.
pub(crate) struct ProposeQueue {
    inner: Mutex<Inner>,
    wake: Notify,
    /// [`ProposeQueue::gather`] waits here.
    gather: Notify,
    limit: usize,
    request_limit: usize,
}

struct Inner {
    /// The entry that is being filled: [`Header::LEN`] bytes of space, then requests.
    open: BytesMut,
    open_count: u32,
    /// Full entries, their headers still blank.
    sealed: VecDeque<(BytesMut, u32)>,
    /// Entries at openraft, oldest first.
    flights: VecDeque<Flight>,
    next_flight: u64,
    /// Bytes in all of these.
    held: usize,
    /// The batcher sleeps.
    asleep: bool,
    /// [`ProposeQueue::gather`] runs, and passes on that there is something to send.
    gathering: bool,
    /// It was told so.
    gather_told: bool,
    closed: Option<Unavailable>,
    /// Something was lost, or the disk failed: nothing leaves any more.
    failed: bool,
}

struct Flight {
    number: u64,
    body: Bytes,
    refused: bool,
}

impl Inner {
    fn seal(&mut self) {
        if self.open_count > 0 {
            let entry = self.open.split();
            self.sealed.push_back((entry, self.open_count));
            self.open_count = 0;
        }
    }

    fn has_waiting(&self) -> bool {
        self.open_count > 0 || !self.sealed.is_empty()
    }

    fn any_refused(&self) -> bool {
        self.flights.iter().any(|flight| flight.refused)
    }

    /// Whether a sleeping batcher would find something to do.
    fn actionable(&self) -> bool {
        if self.failed {
            return true;
        }
        if self.any_refused() {
            return self.flights.iter().all(|flight| flight.refused);
        }
        (self.has_waiting() && self.flights.len() < FLIGHTS_MAX)
            || (self.closed.is_some() && self.flights.is_empty() && !self.has_waiting())
    }

    fn fail(&mut self, why: Unavailable) {
        self.failed = true;
        if self.closed.is_none() || !matches!(why, Unavailable::Stopping) {
            self.closed = Some(why);
        }
        self.open = BytesMut::new();
        self.open_count = 0;
        self.sealed.clear();
        self.flights.clear();
        self.held = 0;
    }
}

impl ProposeQueue {
    /// An empty queue that holds up to `limit` bytes.
    pub(super) fn new(limit: usize) -> ProposeQueue {
        ProposeQueue {
            inner: Mutex::new(Inner {
                open: BytesMut::new(),
                open_count: 0,
                sealed: VecDeque::new(),
                flights: VecDeque::new(),
                next_flight: 0,
                held: 0,
                asleep: false,
                gathering: false,
                gather_told: false,
                closed: None,
                failed: false,
            }),
            wake: Notify::new(),
            gather: Notify::new(),
            limit,
            request_limit: REQUEST_BYTES_MAX,
        }
    }

    /// With another bound for one request.
    #[cfg(test)]
    fn with_request_limit(self, request_limit: usize) -> ProposeQueue {
        ProposeQueue {
            request_limit,
            ..self
        }
    }

    /// Takes a request for the log. Returns at once, never waits. Its outcome goes to
    /// [`super::Deliver`].
    ///
    /// # Errors
    /// [`Refused`]: the request has no effect. For a request of a session this is a gap: the
    /// connection must end, because apply takes nothing behind a gap.
    pub(crate) fn push(&self, proposal: &Proposal<'_>) -> Result<(), Refused> {
        let mut inner = self.inner.lock();
        if let Some(why) = &inner.closed {
            return Err(why.clone().into());
        }
        if inner.open_count == 0 {
            if inner.open.capacity() < BLOCK / 16 {
                inner.open = BytesMut::with_capacity(BLOCK);
            }
            inner.open.resize(Header::LEN, 0);
        }
        let start = inner.open.len();
        proposal.encode(&mut inner.open);
        let len = inner.open.len() - start;
        let held = inner.held;
        if len > self.request_limit {
            inner.open.truncate(start);
            return Err(Refused::TooLarge {
                bytes: len,
                limit: self.request_limit,
            });
        }
        // A request that is larger than the whole queue is taken when nothing else waits: the
        // frame limit has judged its size.
        if held + len > self.limit && held > 0 {
            inner.open.truncate(start);
            return Err(Refused::Full {
                held,
                limit: self.limit,
            });
        }
        inner.held += len;
        if inner.open_count > 0 && inner.open.len() > ENTRY_BYTES_MAX {
            let request = inner.open.split_off(start);
            inner.seal();
            let mut open = BytesMut::with_capacity(BLOCK.max(Header::LEN + request.len()));
            open.resize(Header::LEN, 0);
            open.extend_from_slice(&request);
            inner.open = open;
        }
        inner.open_count += 1;
        if inner.open_count >= ENTRY_REQUESTS_MAX || inner.open.len() >= ENTRY_BYTES_MAX {
            inner.seal();
        }
        if inner.gathering {
            self.gather_if_needed(inner);
        } else {
            self.wake_if_needed(inner);
        }
        Ok(())
    }

    /// Bytes waiting and in flight.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.inner.lock().held
    }

    /// What the batcher does next. `stamp` makes the header of an entry with so many requests.
    pub(super) fn next(&self, stamp: impl FnOnce(u32) -> Header) -> Next {
        let inner = &mut *self.inner.lock();
        inner.asleep = false;
        if inner.failed {
            return Next::End;
        }
        if inner.any_refused() {
            // Everything in flight lands first; then what was refused leaves again, one by one
            // and before anything younger. So no session's requests are reordered.
            if inner.flights.iter().any(|flight| !flight.refused) {
                inner.asleep = true;
                return Next::Sleep;
            }
            if let Some(first) = inner.flights.front_mut() {
                first.refused = false;
                return Next::Resend {
                    flight: first.number,
                    body: first.body.clone(),
                };
            }
        }
        if inner.flights.len() < FLIGHTS_MAX {
            if inner.sealed.is_empty() {
                inner.seal();
            }
            if let Some((mut entry, count)) = inner.sealed.pop_front() {
                stamp(count).fill(&mut entry);
                let body = entry.freeze();
                let flight = inner.next_flight;
                inner.next_flight += 1;
                inner.flights.push_back(Flight {
                    number: flight,
                    body: body.clone(),
                    refused: false,
                });
                return Next::Send { flight, body };
            }
        }
        if inner.closed.is_some() && inner.flights.is_empty() {
            return Next::End;
        }
        inner.asleep = true;
        Next::Sleep
    }

    /// Takes note of what became of a flight.
    pub(super) fn landed(&self, flight: u64, landing: Landing) {
        let mut inner = self.inner.lock();
        let Some(at) = inner.flights.iter().position(|f| f.number == flight) else {
            return;
        };
        match landing {
            Landing::Applied => {
                if let Some(flight) = inner.flights.remove(at) {
                    inner.held = inner
                        .held
                        .saturating_sub(flight.body.len().saturating_sub(Header::LEN));
                }
            }
            Landing::Refused => {
                if let Some(flight) = inner.flights.get_mut(at) {
                    flight.refused = true;
                }
            }
            Landing::Lost => inner.fail(Unavailable::Stopping),
        }
        self.wake_if_needed(inner);
    }

    /// Refuses further requests; what waits still leaves, then the batcher ends.
    pub(super) fn close(&self, why: Unavailable) {
        let mut inner = self.inner.lock();
        inner.closed.get_or_insert(why);
        self.wake_if_needed(inner);
    }

    /// Refuses further requests and forgets all that wait. Their outcomes are unknown.
    pub(super) fn fail(&self, why: Unavailable) {
        let mut inner = self.inner.lock();
        inner.fail(why);
        self.wake_if_needed(inner);
    }

    /// Why it takes nothing, if so.
    pub(super) fn closed(&self) -> Option<Unavailable> {
        self.inner.lock().closed.clone()
    }

    /// Returns when [`ProposeQueue::next`] may have something else to say than [`Next::Sleep`].
    pub(super) async fn wake(&self) {
        self.wake.notified().await;
    }

    /// Wakes the batcher on behalf of those who push, when the runtime that this runs on has seen
    /// to everything that was ready. Without it every first push behind a pause wakes the batcher
    /// at once, and what the other connections are about to push misses the entry.
    ///
    /// # Cancel safety
    /// May be dropped at any time; then pushes wake the batcher themselves.
    pub(crate) async fn gather(&self) {
        let _end = Gathering::begin(self);
        loop {
            self.gather.notified().await;
            // Runs again behind all that is ready now, and what the sockets bring meanwhile.
            tokio::task::yield_now().await;
            let mut inner = self.inner.lock();
            inner.gather_told = false;
            self.wake_if_needed(inner);
        }
    }

    fn gather_if_needed(&self, mut inner: parking_lot::MutexGuard<'_, Inner>) {
        if inner.asleep && !inner.gather_told && inner.actionable() {
            inner.gather_told = true;
            drop(inner);
            self.gather.notify_one();
        }
    }

    fn wake_if_needed(&self, mut inner: parking_lot::MutexGuard<'_, Inner>) {
        if inner.asleep && inner.actionable() {
            inner.asleep = false;
            drop(inner);
            self.wake.notify_one();
        }
    }
}

/// While this lives, [`ProposeQueue::gather`] wakes the batcher on behalf of those who push.
struct Gathering<'a>(&'a ProposeQueue);

impl Gathering<'_> {
    fn begin(queue: &ProposeQueue) -> Gathering<'_> {
        queue.inner.lock().gathering = true;
        Gathering(queue)
    }
}

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.inner.lock();
        inner.gathering = false;
        inner.gather_told = false;
        self.0.wake_if_needed(inner);
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
