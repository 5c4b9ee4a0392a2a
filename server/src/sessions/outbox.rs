//! What a connection is about to be sent, in the one order that counts.
//!
//! Replies and events share one buffer. Apply queues an event before it releases the shard that
//! makes the change visible; a read queues its reply while it holds its shard. So events of what
//! the read saw stand before its reply and events of the watch that it armed stand behind it (R3):
//! there is no second queue that could get this wrong.
//!
//! Bounded: a connection whose client does not take its frames is not read from above
//! [`PAUSE_BYTES`], so only events can go on to fill it, and at the limit it is closed. The client
//! reconnects and sends `setWatches`, as after any disconnect.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use quorate_proto::{OpCode, Xid, Zxid};

/// Queued bytes above which no more requests of the connection are taken up.
pub(crate) const PAUSE_BYTES: usize = 1 << 20;
/// Queued bytes of events above which the connection is closed.
pub(crate) const LIMIT_BYTES: usize = 16 << 20;
/// With all outboxes together above their budget, what one connection may still keep.
const FAIR_BYTES: usize = 256 << 10;

/// Room that an outbox begins with, so that a handful of replies does not let it grow step by
/// step. It holds none while nothing is queued.
const FIRST_BYTES: usize = 1 << 10;

/// A write of this connection that is on its way through the log.
#[derive(Debug)]
pub(crate) struct InFlight {
    /// Its number within the attach.
    pub(crate) seq: u64,
    /// What the client calls it.
    pub(crate) xid: Xid,
    /// What it is, for the statistics.
    pub(crate) op: OpCode,
    /// When it was read (monotonic).
    pub(crate) read_at: Duration,
}

/// What becomes of the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It goes on.
    Open,
    /// It closes when everything queued is written.
    CloseAfterFlush,
    /// It closes now.
    Close(CloseReason),
}

/// Why a connection is closed without a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CloseReason {
    /// The client did not take its events.
    SlowClient,
    /// The session was attached again, here or elsewhere.
    Moved,
    /// The session expired.
    Expired,
    /// The outcome of a write is unknown.
    OutcomeUnknown,
    /// No leader confirmed the sessions of this server for too long (R17).
    CutOff,
    /// The server is stopping.
    Shutdown,
}

/// The bytes in all outboxes of a server, against their budget.
#[derive(Debug)]
pub(crate) struct Budget {
    used: AtomicUsize,
    limit: usize,
}

impl Budget {
    /// A budget of so many bytes.
    pub(crate) fn new(limit: usize) -> Arc<Budget> {
        Arc::new(Budget {
            used: AtomicUsize::new(0),
            limit,
        })
    }
}

/// The queue, and the writes whose replies will join it.
#[derive(Debug)]
pub(crate) struct Outbox {
    out: BytesMut,
    /// Bytes in `out` and taken from it, but not yet written to the socket.
    unwritten: usize,
    /// Frames queued since the last [`Outbox::take`].
    frames: u64,
    /// The largest zxid that this connection was told in a reply (R4).
    told: Zxid,
    in_flight: VecDeque<InFlight>,
    fate: Fate,
    budget: Arc<Budget>,
}

impl Outbox {
    pub(crate) fn new(budget: Arc<Budget>) -> Outbox {
        Outbox {
            out: BytesMut::new(),
            unwritten: 0,
            frames: 0,
            told: Zxid::ZERO,
            in_flight: VecDeque::new(),
            fate: Fate::Open,
            budget,
        }
    }

    /// Queues one whole frame that `write` makes. Nothing is queued on a closing connection.
    pub(crate) fn queue(&mut self, write: impl FnOnce(&mut BytesMut)) {
        if self.fate != Fate::Open {
            return;
        }
        let before = self.out.len();
        if self.out.capacity() == 0 {
            self.out = BytesMut::with_capacity(FIRST_BYTES);
        }
        write(&mut self.out);
        let added = self.out.len().saturating_sub(before);
        self.unwritten += added;
        self.frames += 1;
        let used = self.budget.used.fetch_add(added, Ordering::Relaxed) + added;
        let short = used > self.budget.limit && self.unwritten > FAIR_BYTES;
        if short {
            self.close(CloseReason::SlowClient);
        }
    }

    /// Queues an event; at the limit the connection closes instead.
    pub(crate) fn queue_event(&mut self, frame: &[u8]) {
        if self.unwritten + frame.len() > LIMIT_BYTES && self.unwritten > PAUSE_BYTES {
            self.close(CloseReason::SlowClient);
            return;
        }
        self.queue(|out| out.extend_from_slice(frame));
    }

    /// The zxid for a reply that shows the state at `zxid`: never less than told before.
    pub(crate) fn tell(&mut self, zxid: Zxid) -> Zxid {
        self.told = self.told.max(zxid);
        self.told
    }

    /// Notes a write that was sent on.
    pub(crate) fn sent_on(&mut self, write: InFlight) {
        self.in_flight.push_back(write);
    }

    /// Takes the oldest write out if it is number `seq`. Outcomes come in order, so anything else
    /// is a request of a former life of the session.
    pub(crate) fn answered(&mut self, seq: u64) -> Option<InFlight> {
        if self.in_flight.front()?.seq != seq {
            return None;
        }
        self.in_flight.pop_front()
    }

    /// Takes the youngest write back out: it was refused before the log.
    pub(crate) fn take_back(&mut self, seq: u64) {
        if self.in_flight.back().is_some_and(|write| write.seq == seq) {
            self.in_flight.pop_back();
        }
    }

    /// The connection has left: outcomes that still come find nobody, and count for nobody.
    pub(crate) fn leave(&mut self) {
        self.close(CloseReason::Shutdown);
        self.in_flight.clear();
    }

    /// Writes on their way.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Everything queued, to be written; `buffer` (empty) takes its place.
    pub(crate) fn take(&mut self, buffer: &mut BytesMut) -> u64 {
        std::mem::swap(&mut self.out, buffer);
        std::mem::take(&mut self.frames)
    }

    /// Whether something is queued that [`Outbox::take`] would give.
    pub(crate) fn has_queued(&self) -> bool {
        !self.out.is_empty()
    }

    /// Notes that `n` of the bytes taken have left.
    pub(crate) fn written(&mut self, n: usize) {
        let n = n.min(self.unwritten);
        self.unwritten -= n;
        self.budget.used.fetch_sub(n, Ordering::Relaxed);
    }

    /// Bytes on their way out.
    pub(crate) fn unwritten(&self) -> usize {
        self.unwritten
    }

    /// What becomes of the connection.
    pub(crate) fn fate(&self) -> Fate {
        self.fate
    }

    /// Closes as soon as what is queued has left; what would follow is dropped.
    pub(crate) fn close_after_flush(&mut self) {
        if self.fate == Fate::Open {
            self.fate = Fate::CloseAfterFlush;
        }
    }

    /// Closes now. The first reason stays.
    pub(crate) fn close(&mut self, reason: CloseReason) {
        if !matches!(self.fate, Fate::Close(_)) {
            self.fate = Fate::Close(reason);
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.budget
            .used
            .fetch_sub(self.unwritten, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(limit: usize) -> Outbox {
        Outbox::new(Budget::new(limit))
    }

    fn taken(outbox: &mut Outbox) -> Vec<u8> {
        let mut buffer = BytesMut::new();
        outbox.take(&mut buffer);
        buffer.to_vec()
    }

    #[test]
    fn frames_leave_in_the_order_in_which_they_were_queued() {
        let mut outbox = outbox(1000);
        outbox.queue_event(b"event");
        outbox.queue(|out| out.extend_from_slice(b"reply"));
        outbox.queue_event(b"later");
        assert_eq!(taken(&mut outbox), b"eventreplylater");
    }

    #[test]
    fn a_zxid_told_never_falls() {
        let mut outbox = outbox(1000);
        assert_eq!(outbox.tell(Zxid(5)), Zxid(5));
        assert_eq!(outbox.tell(Zxid(3)), Zxid(5));
        assert_eq!(outbox.tell(Zxid::NONE), Zxid(5));
    }

    #[test]
    fn a_client_that_takes_no_events_is_closed_at_the_limit() {
        let mut outbox = outbox(usize::MAX);
        let event = vec![0; 64 << 10];
        for _ in 0..LIMIT_BYTES / event.len() {
            outbox.queue_event(&event);
        }
        assert_eq!(outbox.fate(), Fate::Open);
        outbox.queue_event(&event);
        assert_eq!(outbox.fate(), Fate::Close(CloseReason::SlowClient));
        let held = outbox.unwritten();
        outbox.queue_event(&event);
        assert_eq!(outbox.unwritten(), held, "nothing joins a closed outbox");
    }

    #[test]
    fn over_the_common_budget_the_large_outboxes_go() {
        let budget = Budget::new(FAIR_BYTES);
        let (mut large, mut small) = (Outbox::new(budget.clone()), Outbox::new(budget.clone()));
        large.queue(|out| out.resize(FAIR_BYTES + 1, 0));
        small.queue(|out| out.extend_from_slice(b"x"));
        assert_eq!(large.fate(), Fate::Close(CloseReason::SlowClient));
        assert_eq!(small.fate(), Fate::Open);
        drop(large);
        assert_eq!(
            budget.used.load(Ordering::Relaxed),
            1,
            "what is dropped is given back"
        );
    }

    #[test]
    fn only_the_oldest_write_is_answered() {
        let mut outbox = outbox(1000);
        for seq in [1, 2] {
            outbox.sent_on(InFlight {
                seq,
                xid: Xid(9),
                op: OpCode::Create,
                read_at: Duration::ZERO,
            });
        }
        assert!(outbox.answered(2).is_none());
        assert_eq!(outbox.answered(1).map(|w| w.seq), Some(1));
        outbox.take_back(2);
        assert_eq!(outbox.in_flight(), 0);
    }
}
