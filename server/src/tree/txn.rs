//! What a write says once every local question about it is answered, as it stands in the log.
//!
//! Whatever depends on one server (its ACL providers, disabled types, its clock) was decided
//! before: fixed ACLs and verdicts travel, settings do not. Applying a transaction depends on
//! the state and on nothing else.

use std::borrow::Cow;

use quorate_proto::{ErrorCode, SessionId, Stat, Version, Zxid};

use super::Caller;

/// Which request of which connection this is (R8, R11).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Origin {
    /// The session; [`SessionId::NONE`] for what the leader itself asks for.
    pub(crate) session: SessionId,
    /// The attach of the session that the connection stands for; 1 for the first.
    pub(crate) attach: u32,
    /// Counts the writes of this attach, from 1.
    pub(crate) seq: u64,
}

/// Names an open or attach, so that its outcome finds the connection that waits for it (R11).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Ticket {
    /// The server that took the connection: its number.
    pub(crate) server: u8,
    /// Drawn at random at every start of that server.
    pub(crate) boot: u64,
    /// Counts within that boot.
    pub(crate) count: u64,
}

/// One transaction, with who asked for it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Proposal<'a> {
    /// Whose it is.
    pub(crate) origin: Origin,
    /// The identities of the connection when the frame was read (R14).
    pub(crate) caller: Caller<'a>,
    /// What to do.
    pub(crate) txn: Txn<'a>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Txn<'a> {
    /// One operation of a client.
    Op(Op<'a>),
    /// All of them or none, with one zxid.
    Multi(Vec<Op<'a>>),
    /// A new session. Its id comes from the zxid that this takes.
    OpenSession { ticket: Ticket, timeout_ms: i32 },
    /// A client came back with its session. Takes no zxid.
    Attach {
        ticket: Ticket,
        session: SessionId,
        timeout_ms: i32,
    },
    /// The client ends its session.
    CloseSession,
    /// The leader ends a session that was silent for too long, unless that is so no more.
    ExpireSession {
        session: SessionId,
        judged: Judgement,
    },
    /// The leader removes an empty container or a stale TTL znode, if it still is one: `czxid`
    /// must match, and it must have no children.
    Reap {
        path: Cow<'a, str>,
        czxid: Zxid,
        mzxid: Zxid,
    },
}

/// What an expiry was judged by. It is void if one of these is no longer so when it is applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Judgement {
    /// Which attach of the session was silent.
    pub(crate) attach: u32,
    /// The last write of that attach that the leader knew: a later one spoke for the session.
    /// `u64::MAX` where no write can go unheard.
    pub(crate) seq: u64,
    /// The term of the leader that judged; a later leader hears for itself. 0: any.
    pub(crate) term: u64,
}

impl Judgement {
    /// Whether an entry of `term` comes too late for it: it was proposed again, and the leader of
    /// that term has heard of the session since.
    pub(crate) fn is_outdated_in(&self, term: u64) -> bool {
        self.term != 0 && self.term != term
    }
}

/// One operation that changes a znode, or checks one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Op<'a> {
    /// Refused by the server that read it. It keeps its place, so that the first error of a
    /// multi still wins, and takes a zxid as any refused write does.
    Refused { code: ErrorCode },
    /// All four opcodes that create.
    Create(Create<'a>),
    /// `delete`.
    Delete {
        path: Cow<'a, str>,
        version: Version,
    },
    /// `setData`.
    SetData {
        path: Cow<'a, str>,
        data: Option<Cow<'a, [u8]>>,
        version: Version,
        enforce_quota: bool,
    },
    /// `setACL`, its list already fixed up.
    SetAcl {
        path: Cow<'a, str>,
        acl: Cow<'a, [quorate_proto::Acl]>,
        version: Version,
    },
    /// `check`, inside a multi.
    Check {
        path: Cow<'a, str>,
        version: Version,
    },
}

/// What the create family asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Create<'a> {
    /// The path, or for a sequential znode what stands before the number.
    pub(crate) path: Cow<'a, str>,
    /// `None` is null, which is not the same as empty.
    pub(crate) data: Option<Cow<'a, [u8]>>,
    /// Already fixed up.
    pub(crate) acl: Cow<'a, [quorate_proto::Acl]>,
    /// What kind of znode.
    pub(crate) kind: CreateKind,
    /// Append the parent's counter.
    pub(crate) sequential: bool,
    /// The server that read it enforces quotas.
    pub(crate) enforce_quota: bool,
    /// The reply carries the Stat: every opcode of the family but `create`.
    pub(crate) with_stat: bool,
}

/// What kind of znode is created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum CreateKind {
    /// Stays until deleted.
    Persistent,
    /// Goes with its session.
    Ephemeral,
    /// Goes when its last child has gone.
    Container,
    /// Goes when childless and unchanged for this many milliseconds.
    Ttl(i64),
}

/// What became of a proposal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Judged, with the zxid that it took.
    Judged { zxid: Zxid, outcome: Outcome },
    /// The session exists now.
    Opened {
        zxid: Zxid,
        session: SessionId,
        timeout_ms: i32,
        password: [u8; 16],
    },
    /// The session belongs to the connection with this ticket now, under this attach.
    Attached {
        session: SessionId,
        attach: u32,
        timeout_ms: i32,
        password: [u8; 16],
    },
    /// There is no such session, any more or at all.
    AttachRefused,
    /// The session has ended, by its client or by expiry.
    Closed { zxid: Zxid, session: SessionId },
    /// Of a former attach, behind a gap, or of no session: no effect, no zxid. The connection
    /// that waits for it must be closed.
    Stale,
    /// Applied before: no effect, no zxid, no answer.
    Duplicate,
    /// Of the leader's own: void by now. No effect; no zxid.
    Void,
}

/// The result of a client's write.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    /// The operation took effect.
    Done(OpResult),
    /// It did not.
    Failed(ErrorCode),
    /// Every operation of the multi took effect.
    MultiDone(Vec<OpResult>),
    /// None did: the one at `index` failed with `code`.
    MultiFailed { index: usize, code: ErrorCode },
}

/// What a successful operation tells its client.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum OpResult {
    /// The full path and the Stat of the new znode, as of this operation.
    Created {
        path: std::sync::Arc<str>,
        stat: Stat,
    },
    /// It is gone.
    Deleted,
    /// Its Stat after the change (`setData`, `setACL`).
    Changed { stat: Stat },
    /// It is as expected.
    Checked,
}
