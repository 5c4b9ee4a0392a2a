//! What goes out on a connection: requests in their order, watches taken off, pings in time.
//!
//! Job: fill the buffer that is written next. Not here: writing it (`task`), the numbers and the
//! times (`link`).
//!
//! Invariant: the buffer grows no further while a server does not read, but for pings.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use quorate_proto::request::PathVersion;
use quorate_proto::{ErrorCode, OpCode, Request, Version, WatcherType, Xid, frame};
use tokio::time::Instant;

use super::Slot;
use super::task::{Driver, Wire};
use super::trust::Rule;
use super::watches::Table;

/// Bytes collected before they are written.
const WRITE_CHUNK: usize = 64 * 1024;
/// A znode that nobody has: deleting it is a write that changes nothing and is yet committed.
const NO_SUCH_ZNODE: &str = "/quorate-proof-of-session";

impl Driver {
    /// Moves requests from the queue to the wire, as many as are worth one write.
    pub(super) fn fill_out(&mut self, wire: &mut Wire, now: Instant) {
        if wire.out.len() >= WRITE_CHUNK {
            return;
        }
        let mut queue = self.shared.queue.lock();
        while wire.out.len() < WRITE_CHUNK {
            let Some(queued) = queue.pop() else {
                return;
            };
            if !queued.slot.as_ref().is_none_or(Slot::begin) {
                self.shared.answered(1);
                continue;
            }
            let op = queued.submission.op;
            let xid = match op {
                OpCode::Auth => Xid::AUTH,
                _ => wire.link.take_xid(),
            };
            if let Some(arm) = &queued.submission.arm {
                let (path, table, _) = arm.place();
                self.watches.arming(path, table);
            }
            let at = wire.out.len() + frame::PREFIX_LEN;
            wire.out.extend_from_slice(&queued.submission.frame);
            if let Some(number) = wire.out.get_mut(at..at + 4) {
                number.copy_from_slice(&xid.0.to_be_bytes());
            }
            wire.link.opened(xid, queued, now);
        }
        // More waits: come back when this much is written.
        if !queue.requests.is_empty() {
            self.shared.wake.notify_one();
        }
    }

    /// Takes watches off the server that nobody waits for any more.
    pub(super) fn take_off_watches(&mut self, wire: &mut Wire, now: Instant) {
        let unwatch = std::mem::take(&mut self.shared.queue.lock().unwatch);
        for (path, table, id) in unwatch {
            self.watches.forget(&path, table, id);
            if self.watches.release(&path, table) {
                self.take_off(wire, &path, kind_of(table), now);
            }
        }
        self.shared.set_watches_held(self.watches.len());
    }

    pub(super) fn take_off(
        &self,
        wire: &mut Wire,
        path: &Arc<str>,
        kind: WatcherType,
        now: Instant,
    ) {
        let request = Request::RemoveWatches {
            path: (&**path).into(),
            kind,
        };
        let xid = wire.link.take_xid();
        if request.write_frame(&mut wire.out, xid).is_ok() {
            wire.link.opened_own(xid, OpCode::RemoveWatches, now);
            if matches!(
                kind,
                WatcherType::Persistent | WatcherType::PersistentRecursive
            ) {
                wire.taking_off.push_back((xid, Arc::clone(path)));
            }
        }
    }

    /// The answer to the removal of a lasting watch. ZooKeeper before 3.9 takes those off only
    /// together with whatever else stands at the path.
    pub(super) fn taken_off(&mut self, wire: &mut Wire, xid: Xid, err: i32, now: Instant) {
        let is_next = wire
            .taking_off
            .front()
            .is_some_and(|(next, _)| *next == xid);
        let Some((_, path)) = wire.taking_off.pop_front_if(|_| is_next) else {
            return;
        };
        // Another watch is needed there: the one that nobody needs stays with it.
        if err == ErrorCode::MarshallingError.code() && !self.watches.stands_at(&path) {
            self.take_off(wire, &path, WatcherType::Any, now);
        }
    }

    /// Pings, and proves the session, when it is time to; says when to come back.
    pub(super) fn speak_on_time(&mut self, wire: &mut Wire, now: Instant) -> Instant {
        if now >= wire.link.ping_at() && Request::Ping.write_frame(&mut wire.out, Xid::PING).is_ok()
        {
            wire.link.pinged(now);
        }
        let mut next = wire.link.ping_at().min(wire.link.silent_at());
        let needs_writes = self
            .trust
            .as_ref()
            .is_some_and(|trust| trust.rule() == Rule::CommittedWrites)
            && self.shared.trust_holders.load(Ordering::Relaxed) > 0
            && !wire.is_read_only;
        if needs_writes {
            if now >= wire.link.proof_at() {
                let proof = PathVersion {
                    path: NO_SUCH_ZNODE.into(),
                    version: Version(0),
                };
                let xid = wire.link.take_xid();
                if Request::Delete(proof)
                    .write_frame(&mut wire.out, xid)
                    .is_ok()
                {
                    wire.link.opened_own(xid, OpCode::Delete, now);
                    wire.link.proving(now);
                }
            }
            next = next.min(wire.link.proof_at());
        }
        next
    }
}

/// How a watch is taken off by itself.
pub(super) const fn kind_of(table: Table) -> WatcherType {
    match table {
        Table::Data => WatcherType::Data,
        Table::Child => WatcherType::Children,
        Table::Persistent => WatcherType::Persistent,
        Table::Recursive => WatcherType::PersistentRecursive,
    }
}
