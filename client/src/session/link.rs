//! One connection's part of the protocol: which request is open, in which order, and when to
//! speak. Pure: time comes in, frames go out.
//!
//! Replies come in the order of the requests. Those with a number of their own (pings,
//! credentials, `setWatches`) come in order among themselves.

use std::collections::VecDeque;
use std::time::Duration;

use quorate_proto::{OpCode, Xid};
use tokio::time::Instant;

use super::slot::Slot;
use super::trust::Proof;
use super::{Arm, Queued};

/// How long what has arrived may take to be read, once silence is suspected.
const DOUBT: Duration = Duration::from_millis(20);

/// A request that has left.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) xid: Xid,
    pub(crate) op: OpCode,
    pub(crate) sent: Instant,
    /// `None` for the session task's own requests.
    pub(crate) slot: Option<Slot>,
    pub(crate) arm: Option<Arm>,
}

#[derive(Debug)]
pub(crate) struct Link {
    open: VecDeque<Open>,
    /// Credentials on their way, which share one number.
    auths: VecDeque<Open>,
    pings: VecDeque<Instant>,
    next_xid: i32,
    timeout: Duration,
    last_heard: Instant,
    /// Since when silence is suspected.
    doubted: Option<Instant>,
    /// When the last ping left, or what was answered by a proof of the session.
    last_proving: Instant,
    last_write: Instant,
}

impl Link {
    pub(crate) fn new(timeout: Duration, next_xid: i32, now: Instant) -> Link {
        Link {
            open: VecDeque::new(),
            auths: VecDeque::new(),
            pings: VecDeque::new(),
            next_xid,
            timeout,
            last_heard: now,
            doubted: None,
            last_proving: now,
            last_write: now,
        }
    }

    /// The next request's number: positive, so that it is never one with a meaning of its own.
    pub(crate) fn take_xid(&mut self) -> Xid {
        let xid = self.next_xid;
        self.next_xid = xid.checked_add(1).unwrap_or(1);
        Xid(xid)
    }

    /// Opens a caller's request that leaves now, under this number.
    pub(crate) fn opened(&mut self, xid: Xid, queued: Queued, now: Instant) {
        let Queued {
            submission, slot, ..
        } = queued;
        let open = Open {
            xid,
            op: submission.op,
            sent: now,
            slot,
            arm: submission.arm,
        };
        self.push(open);
    }

    /// Opens a request of the session task itself.
    pub(crate) fn opened_own(&mut self, xid: Xid, op: OpCode, now: Instant) {
        self.push(Open {
            xid,
            op,
            sent: now,
            slot: None,
            arm: None,
        });
    }

    fn push(&mut self, open: Open) {
        match open.xid {
            Xid::AUTH => self.auths.push_back(open),
            _ => self.open.push_back(open),
        }
    }

    /// A write of the session task's own leaves, to prove the session.
    pub(crate) fn proving(&mut self, now: Instant) {
        self.last_write = now;
    }

    /// A reply has proven the session from when its request was sent. One that was refused without
    /// having been judged proves nothing, so that sending it puts no ping off.
    pub(crate) fn proven(&mut self, proof: Proof, sent: Instant) {
        if proof != Proof::Read {
            self.last_proving = self.last_proving.max(sent);
        }
        if proof == Proof::Write {
            self.last_write = self.last_write.max(sent);
        }
    }

    pub(crate) fn pinged(&mut self, now: Instant) {
        self.last_proving = now;
        self.pings.push_back(now);
    }

    /// Something arrived that answers us.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
        self.doubted = None;
    }

    /// When the ping that a reply answers was sent.
    pub(crate) fn ping_answered(&mut self) -> Option<Instant> {
        self.pings.pop_front()
    }

    /// The request that a reply answers. `None` if no such reply can come now: the server does not
    /// keep the protocol, or we lost count, and nothing that follows can be believed.
    pub(crate) fn answered(&mut self, xid: Xid) -> Option<Open> {
        match xid {
            Xid::AUTH => self.auths.pop_front(),
            _ if self.open.front()?.xid == xid => self.open.pop_front(),
            _ => None,
        }
    }

    /// All that will not be answered any more.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Open> + '_ {
        self.auths.drain(..).chain(self.open.drain(..))
    }

    /// When to send a ping: on schedule even while reads are answered, because they prove nothing.
    pub(crate) fn ping_at(&self) -> Instant {
        self.last_proving + self.timeout / 3
    }

    /// When to send a write that proves the session, where only writes do.
    pub(crate) fn proof_at(&self) -> Instant {
        self.last_write + self.timeout / 4
    }

    /// Whether a request that left long after a ping was answered while the ping was not: then the
    /// server talks, but does not confirm the session.
    pub(crate) fn has_overtaken_pings(&self, answered: &Open) -> bool {
        self.pings
            .front()
            .is_some_and(|&ping| answered.sent >= ping + self.timeout / 3)
    }

    /// Whether the request that is to be answered next left a whole timeout before a ping that is
    /// answered already, and nobody waits for it any more. A server may take long; but nothing
    /// that stands behind such a request is answered either, and another server may do better.
    ///
    /// While somebody waits it is that caller's time limit that decides: pings show that the
    /// server keeps the session.
    pub(crate) fn is_stuck(&self, pinged: Instant) -> bool {
        self.open.front().is_some_and(|open| {
            open.sent + self.timeout <= pinged && open.slot.as_ref().is_none_or(Slot::is_abandoned)
        })
    }

    /// When to look whether the server has been silent for too long.
    pub(crate) fn silent_at(&self) -> Instant {
        match self.doubted {
            Some(since) => since + DOUBT,
            None => self.last_heard + self.timeout * 2 / 3,
        }
    }

    /// Whether the server is given up now. A process that was stopped finds its clock ahead of its
    /// socket: what has arrived meanwhile is read first.
    pub(crate) fn is_silent(&mut self, now: Instant) -> bool {
        if now < self.silent_at() {
            return false;
        }
        match self.doubted {
            Some(_) => true,
            None => {
                self.doubted = Some(now);
                false
            }
        }
    }
}

/// What the reply to an operation proves about the session.
pub(crate) const fn proof_of(op: OpCode) -> Proof {
    match op {
        OpCode::Create
        | OpCode::Create2
        | OpCode::CreateContainer
        | OpCode::CreateTtl
        | OpCode::Delete
        | OpCode::SetData
        | OpCode::SetAcl
        | OpCode::Multi
        | OpCode::Reconfig => Proof::Write,
        OpCode::Ping | OpCode::Sync => Proof::Contact,
        _ => Proof::Read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Duration = Duration::from_secs(6);

    fn own(link: &mut Link, op: OpCode, now: Instant) -> Xid {
        let xid = link.take_xid();
        link.opened_own(xid, op, now);
        xid
    }

    #[test]
    fn replies_come_in_the_order_of_the_requests_and_in_no_other() {
        let now = Instant::now();
        let mut link = Link::new(T, 1, now);
        let first = own(&mut link, OpCode::GetData, now);
        let second = own(&mut link, OpCode::GetData, now);
        assert!(link.answered(second).is_none());
        assert!(link.answered(Xid(77)).is_none());
        assert_eq!(link.answered(first).map(|open| open.xid), Some(first));
        assert_eq!(link.answered(second).map(|open| open.xid), Some(second));
        assert!(link.answered(second).is_none(), "answered once");
        assert!(link.answered(Xid::AUTH).is_none(), "none was sent");
        assert_eq!(link.ping_answered(), None, "none was sent");
    }

    #[test]
    fn numbers_stay_positive_when_they_run_out() {
        let mut link = Link::new(T, i32::MAX, Instant::now());
        assert_eq!(link.take_xid(), Xid(i32::MAX));
        assert_eq!(link.take_xid(), Xid(1));
    }

    #[test]
    fn pings_go_out_while_only_reads_flow() {
        let start = Instant::now();
        let mut link = Link::new(T, 1, start);
        for n in 1..10 {
            own(&mut link, OpCode::GetData, start + n * T / 30);
        }
        assert_eq!(link.ping_at(), start + T / 3);
        let write = start + T / 6;
        own(&mut link, OpCode::SetData, write);
        assert_eq!(
            link.ping_at(),
            start + T / 3,
            "nobody knows whether it will be judged"
        );
        link.proven(Proof::Write, write);
        assert_eq!(
            link.ping_at(),
            write + T / 3,
            "a write proves as much as a ping"
        );
    }

    #[test]
    fn silence_is_believed_only_after_what_has_arrived_was_read() {
        let start = Instant::now();
        let mut link = Link::new(T, 1, start);
        let woken = start + T * 10;
        assert!(!link.is_silent(start + T / 2));
        assert!(
            !link.is_silent(woken),
            "the process was stopped: read first"
        );
        let mut heard = Link::new(T, 1, start);
        assert!(!heard.is_silent(woken));
        heard.heard(woken);
        assert!(!heard.is_silent(woken + DOUBT), "it had spoken");
        assert!(link.is_silent(woken + DOUBT), "it had not");
    }

    #[test]
    fn a_server_that_answers_reads_and_no_pings_is_found_out() {
        let start = Instant::now();
        let mut link = Link::new(T, 1, start);
        let before = own(&mut link, OpCode::GetData, start);
        link.pinged(start + T / 3);
        let soon = own(&mut link, OpCode::GetData, start + T / 2);
        let late = own(&mut link, OpCode::GetData, start + T);
        let mut overtaken = |xid| {
            let open = link.answered(xid).unwrap();
            link.has_overtaken_pings(&open)
        };
        assert!(!overtaken(before));
        assert!(!overtaken(soon), "it may be on its way");
        assert!(overtaken(late));
    }
}
