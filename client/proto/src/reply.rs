//! What servers answer.
//!
//! Two ways to the same bytes. A server writes frames straight into its output: [`frame`] and
//! [`error`] for the outside, and for the inside one function per record that takes its parts
//! from wherever they are. [`Reply`] is the record in one piece, for whoever reads replies.

use std::borrow::Cow;

use bytes::BytesMut;

use crate::acl::AclRef;
use crate::jute::{DecodeError, Reader, Writer};
use crate::multi::MultiResult;
use crate::op::{OpCode, ReplyHeader};
use crate::request::SaslToken;
use crate::watch::WatcherEvent;
use crate::{ErrorCode, EventType, KeeperState, Stat, Xid, Zxid};

/// Appends a reply: prefix, header and body.
///
/// An `err` other than 0 goes without a body, but for a SASL failure.
///
/// A body that no frame can hold (2 GiB) turns into `MarshallingError`, so that the client hears
/// something in its place.
pub fn frame(
    out: &mut BytesMut,
    xid: Xid,
    zxid: Zxid,
    err: i32,
    body: impl FnOnce(&mut Writer<'_>),
) {
    let written = crate::frame::write(out, |writer| {
        ReplyHeader { xid, zxid, err }.encode(writer);
        body(writer);
    });
    if written.is_err() {
        error(out, xid, zxid, ErrorCode::MarshallingError);
    }
}

/// Appends a reply that is a success and nothing more.
pub fn empty(out: &mut BytesMut, xid: Xid, zxid: Zxid) {
    frame(out, xid, zxid, 0, |_| {});
}

/// Appends a reply that is an error.
#[expect(clippy::missing_panics_doc, reason = "its size is fixed")]
pub fn error(out: &mut BytesMut, xid: Xid, zxid: Zxid, code: ErrorCode) {
    let err = code.code();
    crate::frame::write(out, |w| ReplyHeader { xid, zxid, err }.encode(w))
        .expect("16 bytes fit into a frame");
}

/// Appends a notification. `zxid` is that of the transaction that fired it; [`Zxid::NONE`] for
/// the catch-up of `setWatches`.
pub fn notification(out: &mut BytesMut, zxid: Zxid, event: EventType, path: &str) {
    frame(out, Xid::NOTIFICATION, zxid, 0, |w| {
        watcher_event(w, event, path)
    });
}

/// `exists`, `setData`, `setACL`.
pub fn stat(w: &mut Writer<'_>, stat: &Stat) {
    stat.encode(w);
}

/// `create`.
pub fn path(w: &mut Writer<'_>, path: &str) {
    w.string(path);
}

/// `sync`: what was asked for, null included.
pub fn sync(w: &mut Writer<'_>, path: Option<&str>) {
    w.optional_string(path);
}

/// `create2`, `createContainer`, `createTTL`.
pub fn path_stat(w: &mut Writer<'_>, path: &str, stat: &Stat) {
    w.string(path);
    stat.encode(w);
}

/// `getData`, `reconfig`.
pub fn data_stat(w: &mut Writer<'_>, data: Option<&[u8]>, stat: &Stat) {
    w.reserve(4 + data.map_or(0, <[u8]>::len) + Stat::ENCODED_LEN);
    w.buffer(data);
    stat.encode(w);
}

/// `getACL`. Hashes of `digest` ids are for callers with ADMIN only; the server masks them.
pub fn acl_stat<'a>(w: &mut Writer<'_>, acl: impl IntoIterator<Item = AclRef<'a>>, stat: &Stat) {
    w.vector(acl, |w, entry| entry.encode(w));
    stat.encode(w);
}

/// `getChildren`, `getEphemerals`.
pub fn children<T: AsRef<str>>(w: &mut Writer<'_>, names: impl IntoIterator<Item = T>) {
    w.strings(names);
}

/// `getChildren2`.
pub fn children_stat<T: AsRef<str>>(
    w: &mut Writer<'_>,
    names: impl IntoIterator<Item = T>,
    stat: &Stat,
) {
    w.strings(names);
    stat.encode(w);
}

/// `getAllChildrenNumber`.
pub fn total_number(w: &mut Writer<'_>, count: i32) {
    w.i32(count);
}

/// `addWatch`: four zero bytes. Without them the Java client drops the connection and loops.
pub fn add_watch(w: &mut Writer<'_>) {
    w.i32(0);
}

/// `sasl`; null is a failure.
pub fn sasl(w: &mut Writer<'_>, token: Option<&[u8]>) {
    w.buffer(token);
}

/// `whoAmI`: scheme and displayable user of every identity.
pub fn who_am_i<'a>(w: &mut Writer<'_>, identities: impl IntoIterator<Item = (&'a str, &'a str)>) {
    w.vector(identities, |w, (scheme, user)| {
        w.string(scheme);
        w.string(user);
    });
}

/// A notification.
pub fn watcher_event(w: &mut Writer<'_>, event: EventType, path: &str) {
    w.i32(event.code());
    w.i32(KeeperState::SyncConnected.code());
    w.string(path);
}

/// `multi` and `multiRead`: see [`ResultWriter`].
pub use crate::multi::ResultWriter;

/// One identity, as `whoAmI` shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientInfo<'a> {
    /// The scheme.
    pub scheme: Cow<'a, str>,
    /// What may be shown of the id: of a digest the user.
    pub user: Cow<'a, str>,
}

/// The body of a reply without error.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Reply<'a> {
    /// Nothing but the header.
    Empty,
    /// `create`.
    Path(Cow<'a, str>),
    /// `sync`.
    Sync(Option<Cow<'a, str>>),
    /// The other creates.
    PathStat(Cow<'a, str>, Stat),
    /// `exists`, `setData`, `setACL`.
    Stat(Stat),
    /// `getData`, `reconfig`.
    DataStat(Option<&'a [u8]>, Stat),
    /// `getACL`.
    AclStat(Vec<AclRef<'a>>, Stat),
    /// `getChildren`, `getEphemerals`.
    Children(Vec<Cow<'a, str>>),
    /// `getChildren2`.
    ChildrenStat(Vec<Cow<'a, str>>, Stat),
    /// `getAllChildrenNumber`.
    TotalNumber(i32),
    /// `addWatch`; 0.
    AddWatch(i32),
    /// `sasl`.
    Sasl(SaslToken<'a>),
    /// `whoAmI`.
    WhoAmI(Vec<ClientInfo<'a>>),
    /// `multi` and `multiRead`.
    Multi(Vec<MultiResult<'a>>),
}

impl<'a> Reply<'a> {
    /// Reads the body of a reply to `op` whose header has no error. Bytes behind it are ignored.
    ///
    /// # Errors
    /// Any [`DecodeError`]: the server broke the protocol.
    pub fn decode(op: OpCode, body: &'a [u8]) -> Result<Reply<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let r = &mut reader;
        Ok(match op {
            OpCode::CloseSession
            | OpCode::CreateSession
            | OpCode::Delete
            | OpCode::Ping
            | OpCode::Check
            | OpCode::CheckWatches
            | OpCode::RemoveWatches
            | OpCode::DeleteContainer
            | OpCode::Auth
            | OpCode::SetWatches
            | OpCode::SetWatches2 => Reply::Empty,
            OpCode::Create => Reply::Path(r.required_string("path")?),
            OpCode::Sync => Reply::Sync(r.string("path")?),
            OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
                Reply::PathStat(r.required_string("path")?, Stat::read(r)?)
            }
            OpCode::Exists | OpCode::SetData | OpCode::SetAcl => Reply::Stat(Stat::read(r)?),
            OpCode::GetData | OpCode::Reconfig => {
                Reply::DataStat(r.buffer("data")?, Stat::read(r)?)
            }
            OpCode::GetAcl => {
                let acl = AclRef::read_list(r)?.ok_or(DecodeError::Null { field: "acl" })?;
                Reply::AclStat(acl, Stat::read(r)?)
            }
            OpCode::GetChildren => Reply::Children(r.required_strings("children")?),
            OpCode::GetEphemerals => Reply::Children(r.required_strings("ephemerals")?),
            OpCode::GetChildren2 => {
                Reply::ChildrenStat(r.required_strings("children")?, Stat::read(r)?)
            }
            OpCode::GetAllChildrenNumber => Reply::TotalNumber(r.i32("totalNumber")?),
            OpCode::AddWatch => Reply::AddWatch(r.i32("err")?),
            OpCode::Sasl => Reply::Sasl(SaslToken::read(r)?),
            OpCode::WhoAmI => Reply::WhoAmI(client_infos(r)?),
            OpCode::Multi | OpCode::MultiRead => Reply::Multi(MultiResult::read_list(r)?),
        })
    }

    /// Writes the body.
    pub fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Reply::Empty => {}
            Reply::Path(text) => path(w, text),
            Reply::Sync(text) => sync(w, text.as_deref()),
            Reply::PathStat(text, stat) => path_stat(w, text, stat),
            Reply::Stat(record) => stat(w, record),
            Reply::DataStat(data, stat) => data_stat(w, *data, stat),
            Reply::AclStat(acl, stat) => acl_stat(w, acl.iter().cloned(), stat),
            Reply::Children(names) => children(w, names),
            Reply::ChildrenStat(names, stat) => children_stat(w, names, stat),
            Reply::TotalNumber(count) => total_number(w, *count),
            Reply::AddWatch(err) => w.i32(*err),
            Reply::Sasl(token) => sasl(w, token.0),
            Reply::WhoAmI(infos) => {
                who_am_i(w, infos.iter().map(|info| (&*info.scheme, &*info.user)));
            }
            Reply::Multi(results) => MultiResult::encode_list(results, w),
        }
    }
}

fn client_infos<'a>(r: &mut Reader<'a>) -> Result<Vec<ClientInfo<'a>>, DecodeError> {
    let field = "clientInfo";
    r.vector(field, 8, |r| {
        Ok(ClientInfo {
            scheme: r.required_string("authScheme")?,
            user: r.required_string("user")?,
        })
    })?
    .ok_or(DecodeError::Null { field })
}

/// A payload from a server, after the handshake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ServerFrame<'a> {
    /// Answers a request; its body is to be read with [`Reply::decode`].
    Reply(ReplyHeader, &'a [u8]),
    /// Tells what a watch saw.
    Event(Zxid, WatcherEvent<'a>),
}

impl<'a> ServerFrame<'a> {
    /// Tells replies and notifications apart.
    ///
    /// # Errors
    /// `Truncated`, or what [`WatcherEvent::decode`] fails with.
    pub fn decode(payload: &'a [u8]) -> Result<ServerFrame<'a>, DecodeError> {
        let (header, body) = ReplyHeader::decode(payload)?;
        if header.xid == Xid::NOTIFICATION {
            return WatcherEvent::decode(body).map(|event| ServerFrame::Event(header.zxid, event));
        }
        Ok(ServerFrame::Reply(header, body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_no_body() {
        let mut out = BytesMut::new();
        error(&mut out, Xid(3), Zxid(9), ErrorCode::NoNode);
        assert_eq!(
            &out[..],
            b"\0\0\0\x10\0\0\0\x03\0\0\0\0\0\0\0\x09\xff\xff\xff\x9b"
        );
    }

    #[test]
    fn the_reply_to_add_watch_has_four_bytes() {
        let mut out = BytesMut::new();
        frame(&mut out, Xid(1), Zxid(2), 0, add_watch);
        assert_eq!(out.len(), 4 + 16 + 4);
    }

    #[test]
    fn replies_stand_one_behind_the_other() {
        let mut out = BytesMut::new();
        notification(&mut out, Zxid(5), EventType::NodeCreated, "/a");
        empty(&mut out, Xid(1), Zxid(5));
        let limit = crate::limits::FRAME_BYTES_MAX_DEFAULT;
        let (first, used) = crate::frame::split(&out, limit).unwrap().unwrap();
        let (second, _) = crate::frame::split(&out[used..], limit).unwrap().unwrap();
        let event = WatcherEvent {
            event: EventType::NodeCreated,
            state: KeeperState::SyncConnected,
            path: "/a".into(),
        };
        assert_eq!(
            ServerFrame::decode(first),
            Ok(ServerFrame::Event(Zxid(5), event))
        );
        assert!(matches!(
            ServerFrame::decode(second),
            Ok(ServerFrame::Reply(ReplyHeader { xid: Xid(1), .. }, b""))
        ));
    }
}
