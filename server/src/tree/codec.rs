//! Proposals as bytes: what the log holds and what servers forward.
//!
//! A record starts with its length, so that a reader can step over it. Decoding borrows from the
//! record, checks every bound and never panics.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};
use quorate_proto::{Acl, ErrorCode, Id, Perms, SessionId, Version, Zxid};

use super::Caller;
use super::acls::OPEN;
use super::txn::{Create, CreateKind, Judgement, Op, Origin, Proposal, Ticket, Txn};

/// These bytes are no proposal that this server knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CodecError {
    /// It ends too early.
    #[error("proposal: {field} is cut off")]
    Truncated { field: &'static str },
    /// Written by a newer server, or damaged.
    #[error("proposal: {field} cannot be {value}")]
    BadValue { field: &'static str, value: i64 },
    /// Text that is no UTF-8.
    #[error("proposal: {field} is no UTF-8")]
    BadText { field: &'static str },
    /// More bytes than the transaction needs.
    #[error("proposal: {count} bytes too many")]
    TooLong { count: usize },
}

type Result<T> = std::result::Result<T, CodecError>;

/// Length of null.
const NULL: u32 = u32::MAX;

mod tag {
    pub(super) const OP: u8 = 1;
    pub(super) const MULTI: u8 = 2;
    pub(super) const OPEN_SESSION: u8 = 3;
    pub(super) const ATTACH: u8 = 4;
    pub(super) const CLOSE_SESSION: u8 = 5;
    /// As single servers wrote it: nothing but the attach was judged by.
    pub(super) const EXPIRE_SESSION: u8 = 6;
    pub(super) const REAP: u8 = 7;
    pub(super) const EXPIRE_JUDGED: u8 = 8;

    pub(super) const REFUSED: u8 = 1;
    pub(super) const CREATE: u8 = 2;
    pub(super) const DELETE: u8 = 3;
    pub(super) const SET_DATA: u8 = 4;
    pub(super) const SET_ACL: u8 = 5;
    pub(super) const CHECK: u8 = 6;

    pub(super) const PERSISTENT: u8 = 0;
    pub(super) const EPHEMERAL: u8 = 1;
    pub(super) const CONTAINER: u8 = 2;
    pub(super) const TTL: u8 = 3;

    pub(super) const SEQUENTIAL: u8 = 1;
    pub(super) const ENFORCE_QUOTA: u8 = 2;
    pub(super) const WITH_STAT: u8 = 4;
}

impl Proposal<'_> {
    /// Appends the record.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        let start = out.len();
        out.put_u32(0);
        out.put_i64(self.origin.session.0);
        out.put_u32(self.origin.attach);
        out.put_u64(self.origin.seq);
        put_bytes(out, self.caller.as_bytes());
        put_txn(out, &self.txn);
        let len = len_u32(out.len() - start - 4);
        if let Some(field) = out
            .get_mut(start..)
            .and_then(|record| record.first_chunk_mut())
        {
            *field = len.to_be_bytes();
        }
    }
}

fn len_u32(len: usize) -> u32 {
    // Frames are limited to far less; a length that does not fit makes an undecodable record,
    // not a wrong one.
    u32::try_from(len).unwrap_or(NULL)
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(len_u32(bytes.len()));
    out.put_slice(bytes);
}

fn put_ticket(out: &mut BytesMut, ticket: Ticket) {
    out.put_u8(ticket.server);
    out.put_u64(ticket.boot);
    out.put_u64(ticket.count);
}

fn put_txn(out: &mut BytesMut, txn: &Txn<'_>) {
    match txn {
        Txn::Op(op) => {
            out.put_u8(tag::OP);
            put_op(out, op);
        }
        Txn::Multi(ops) => {
            out.put_u8(tag::MULTI);
            out.put_u32(len_u32(ops.len()));
            for op in ops {
                put_op(out, op);
            }
        }
        Txn::OpenSession { ticket, timeout_ms } => {
            out.put_u8(tag::OPEN_SESSION);
            put_ticket(out, *ticket);
            out.put_i32(*timeout_ms);
        }
        Txn::Attach {
            ticket,
            session,
            timeout_ms,
        } => {
            out.put_u8(tag::ATTACH);
            put_ticket(out, *ticket);
            out.put_i64(session.0);
            out.put_i32(*timeout_ms);
        }
        Txn::CloseSession => out.put_u8(tag::CLOSE_SESSION),
        Txn::ExpireSession { session, judged } => {
            out.put_u8(tag::EXPIRE_JUDGED);
            out.put_i64(session.0);
            out.put_u32(judged.attach);
            out.put_u64(judged.seq);
            out.put_u64(judged.term);
        }
        Txn::Reap { path, czxid, mzxid } => {
            out.put_u8(tag::REAP);
            put_bytes(out, path.as_bytes());
            out.put_i64(czxid.0);
            out.put_i64(mzxid.0);
        }
    }
}

fn put_op(out: &mut BytesMut, op: &Op<'_>) {
    match op {
        Op::Refused { code } => {
            out.put_u8(tag::REFUSED);
            out.put_i32(code.code());
        }
        Op::Create(create) => put_create(out, create),
        Op::Delete { path, version } => {
            out.put_u8(tag::DELETE);
            put_bytes(out, path.as_bytes());
            out.put_i32(version.0);
        }
        Op::SetData {
            path,
            data,
            version,
            enforce_quota,
        } => {
            out.put_u8(tag::SET_DATA);
            put_bytes(out, path.as_bytes());
            put_data(out, data.as_deref());
            out.put_i32(version.0);
            out.put_u8(u8::from(*enforce_quota));
        }
        Op::SetAcl { path, acl, version } => {
            out.put_u8(tag::SET_ACL);
            put_bytes(out, path.as_bytes());
            put_acl(out, acl);
            out.put_i32(version.0);
        }
        Op::Check { path, version } => {
            out.put_u8(tag::CHECK);
            put_bytes(out, path.as_bytes());
            out.put_i32(version.0);
        }
    }
}

fn put_create(out: &mut BytesMut, create: &Create<'_>) {
    out.put_u8(tag::CREATE);
    put_bytes(out, create.path.as_bytes());
    put_data(out, create.data.as_deref());
    put_acl(out, &create.acl);
    match create.kind {
        CreateKind::Persistent => out.put_u8(tag::PERSISTENT),
        CreateKind::Ephemeral => out.put_u8(tag::EPHEMERAL),
        CreateKind::Container => out.put_u8(tag::CONTAINER),
        CreateKind::Ttl(ms) => {
            out.put_u8(tag::TTL);
            out.put_i64(ms);
        }
    }
    let flag = |set, flag| if set { flag } else { 0 };
    out.put_u8(
        flag(create.sequential, tag::SEQUENTIAL)
            | flag(create.enforce_quota, tag::ENFORCE_QUOTA)
            | flag(create.with_stat, tag::WITH_STAT),
    );
}

fn put_data(out: &mut BytesMut, data: Option<&[u8]>) {
    match data {
        Some(data) => put_bytes(out, data),
        None => out.put_u32(NULL),
    }
}

/// The open list, which most requests carry, is one byte.
fn put_acl(out: &mut BytesMut, acl: &[Acl]) {
    if acl == &***OPEN {
        out.put_u8(0);
        return;
    }
    out.put_u8(1);
    out.put_u32(len_u32(acl.len()));
    for entry in acl {
        out.put_i32(entry.perms.0);
        put_bytes(out, entry.id.scheme.as_bytes());
        put_bytes(out, entry.id.id.as_bytes());
    }
}

impl<'a> Proposal<'a> {
    /// Takes one record off the front.
    ///
    /// # Errors
    /// If the record is cut off or says something that this server does not know. `input` is
    /// then where it was.
    pub(crate) fn decode(input: &mut &'a [u8]) -> Result<Proposal<'a>> {
        let mut outer = Reader(input);
        let record = outer.bytes("record")?;
        let mut reader = Reader(record);
        let origin = Origin {
            session: SessionId(reader.i64("session")?),
            attach: reader.u32("attach")?,
            seq: u64::from_be_bytes(reader.array("seq")?),
        };
        let caller = Caller::from_bytes(reader.bytes("caller")?);
        let txn = reader.txn()?;
        if !reader.0.is_empty() {
            let count = reader.0.len();
            return Err(CodecError::TooLong { count });
        }
        *input = outer.0;
        Ok(Proposal {
            origin,
            caller,
            txn,
        })
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N]> {
        let (array, rest) = self
            .0
            .split_first_chunk()
            .ok_or(CodecError::Truncated { field })?;
        self.0 = rest;
        Ok(*array)
    }

    fn u8(&mut self, field: &'static str) -> Result<u8> {
        Ok(u8::from_be_bytes(self.array(field)?))
    }

    fn u32(&mut self, field: &'static str) -> Result<u32> {
        Ok(u32::from_be_bytes(self.array(field)?))
    }

    fn i32(&mut self, field: &'static str) -> Result<i32> {
        Ok(i32::from_be_bytes(self.array(field)?))
    }

    fn i64(&mut self, field: &'static str) -> Result<i64> {
        Ok(i64::from_be_bytes(self.array(field)?))
    }

    fn take(&mut self, len: u32, field: &'static str) -> Result<&'a [u8]> {
        let (bytes, rest) = self
            .0
            .split_at_checked(len as usize)
            .ok_or(CodecError::Truncated { field })?;
        self.0 = rest;
        Ok(bytes)
    }

    fn bytes(&mut self, field: &'static str) -> Result<&'a [u8]> {
        let len = self.u32(field)?;
        self.take(len, field)
    }

    fn text(&mut self, field: &'static str) -> Result<&'a str> {
        std::str::from_utf8(self.bytes(field)?).map_err(|_| CodecError::BadText { field })
    }

    fn path(&mut self) -> Result<Cow<'a, str>> {
        self.text("path").map(Cow::Borrowed)
    }

    fn version(&mut self) -> Result<Version> {
        self.i32("version").map(Version)
    }

    fn data(&mut self) -> Result<Option<Cow<'a, [u8]>>> {
        match self.u32("data")? {
            NULL => Ok(None),
            len => Ok(Some(Cow::Borrowed(self.take(len, "data")?))),
        }
    }

    fn ticket(&mut self) -> Result<Ticket> {
        Ok(Ticket {
            server: self.u8("ticket")?,
            boot: u64::from_be_bytes(self.array("ticket")?),
            count: u64::from_be_bytes(self.array("ticket")?),
        })
    }

    /// A declared number of items, each of which takes a byte at least.
    fn count(&mut self, field: &'static str) -> Result<usize> {
        let declared = self.u32(field)? as usize;
        if declared > self.0.len() {
            return Err(CodecError::Truncated { field });
        }
        Ok(declared)
    }

    fn acl(&mut self) -> Result<Cow<'a, [Acl]>> {
        match self.u8("acl")? {
            0 => Ok(Cow::Borrowed(&**OPEN)),
            1 => {
                let mut acl = Vec::new();
                for _ in 0..self.count("acl")? {
                    let perms = Perms(self.i32("perms")?);
                    let scheme = self.text("scheme")?;
                    let id = Id::new(scheme, self.text("id")?);
                    acl.push(Acl { perms, id });
                }
                Ok(Cow::Owned(acl))
            }
            other => Err(bad("acl", other)),
        }
    }

    fn txn(&mut self) -> Result<Txn<'a>> {
        match self.u8("transaction")? {
            tag::OP => self.op().map(Txn::Op),
            tag::MULTI => {
                let mut ops = Vec::new();
                for _ in 0..self.count("multi")? {
                    ops.push(self.op()?);
                }
                Ok(Txn::Multi(ops))
            }
            tag::OPEN_SESSION => Ok(Txn::OpenSession {
                ticket: self.ticket()?,
                timeout_ms: self.i32("timeout")?,
            }),
            tag::ATTACH => Ok(Txn::Attach {
                ticket: self.ticket()?,
                session: SessionId(self.i64("session")?),
                timeout_ms: self.i32("timeout")?,
            }),
            tag::CLOSE_SESSION => Ok(Txn::CloseSession),
            tag::EXPIRE_SESSION => Ok(Txn::ExpireSession {
                session: SessionId(self.i64("session")?),
                judged: Judgement {
                    attach: self.u32("attach")?,
                    seq: u64::MAX,
                    term: 0,
                },
            }),
            tag::EXPIRE_JUDGED => Ok(Txn::ExpireSession {
                session: SessionId(self.i64("session")?),
                judged: Judgement {
                    attach: self.u32("attach")?,
                    seq: u64::from_be_bytes(self.array("seq")?),
                    term: u64::from_be_bytes(self.array("term")?),
                },
            }),
            tag::REAP => Ok(Txn::Reap {
                path: self.path()?,
                czxid: Zxid(self.i64("czxid")?),
                mzxid: Zxid(self.i64("mzxid")?),
            }),
            other => Err(bad("transaction", other)),
        }
    }

    fn op(&mut self) -> Result<Op<'a>> {
        match self.u8("operation")? {
            tag::REFUSED => {
                let value = self.i32("code")?;
                let code = ErrorCode::from_code(value).ok_or(CodecError::BadValue {
                    field: "code",
                    value: value.into(),
                })?;
                Ok(Op::Refused { code })
            }
            tag::CREATE => self.create().map(Op::Create),
            tag::DELETE => Ok(Op::Delete {
                path: self.path()?,
                version: self.version()?,
            }),
            tag::SET_DATA => Ok(Op::SetData {
                path: self.path()?,
                data: self.data()?,
                version: self.version()?,
                enforce_quota: match self.u8("quota")? {
                    0 => false,
                    1 => true,
                    other => return Err(bad("quota", other)),
                },
            }),
            tag::SET_ACL => Ok(Op::SetAcl {
                path: self.path()?,
                acl: self.acl()?,
                version: self.version()?,
            }),
            tag::CHECK => Ok(Op::Check {
                path: self.path()?,
                version: self.version()?,
            }),
            other => Err(bad("operation", other)),
        }
    }

    fn create(&mut self) -> Result<Create<'a>> {
        let path = self.path()?;
        let data = self.data()?;
        let acl = self.acl()?;
        let kind = match self.u8("kind")? {
            tag::PERSISTENT => CreateKind::Persistent,
            tag::EPHEMERAL => CreateKind::Ephemeral,
            tag::CONTAINER => CreateKind::Container,
            tag::TTL => CreateKind::Ttl(self.i64("ttl")?),
            other => return Err(bad("kind", other)),
        };
        let flags = self.u8("flags")?;
        if flags & !(tag::SEQUENTIAL | tag::ENFORCE_QUOTA | tag::WITH_STAT) != 0 {
            return Err(bad("flags", flags));
        }
        Ok(Create {
            path,
            data,
            acl,
            kind,
            sequential: flags & tag::SEQUENTIAL != 0,
            enforce_quota: flags & tag::ENFORCE_QUOTA != 0,
            with_stat: flags & tag::WITH_STAT != 0,
        })
    }
}

fn bad(field: &'static str, value: u8) -> CodecError {
    CodecError::BadValue {
        field,
        value: value.into(),
    }
}
