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
    /// When something left whose reply proves the session.
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
            last_proving: now,
            last_write: now,
        }
    }

    pub(crate) fn open_count(&self) -> usize {
        self.open.len() + self.auths.len()
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
        if proof_of(open.op) != Proof::Read {
            self.last_proving = open.sent;
        }
        if proof_of(open.op) == Proof::Write {
            self.last_write = open.sent;
        }
        match open.xid {
            Xid::AUTH => self.auths.push_back(open),
            _ => self.open.push_back(open),
        }
    }

    pub(crate) fn pinged(&mut self, now: Instant) {
        self.last_proving = now;
        self.pings.push_back(now);
    }

    /// Something arrived.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
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

    /// When a server that says nothing is given up.
    pub(crate) fn silent_at(&self) -> Instant {
        self.last_heard + self.timeout * 2 / 3
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
