//! What clients ask: one record per opcode, decoded without a copy.
//!
//! A record says what stood on the wire and judges little: flags, versions and paths are the
//! server's to check, in the server's order. Null is kept wherever ZooKeeper gives it a meaning
//! or an error code of its own; elsewhere it is [`DecodeError::Null`].

use std::borrow::Cow;
use std::fmt;

use bytes::BytesMut;

use crate::acl::AclRef;
use crate::frame::{self, FrameError};
use crate::jute::{DecodeError, Reader, Writer};
use crate::multi::{MultiRead, MultiRequest};
use crate::op::{OpCode, RequestHeader};
use crate::watch::{AddWatchMode, SetWatches, SetWatches2, WatcherType};
use crate::{ErrorCode, Version, Xid};

/// A request without its header.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Request<'a> {
    /// `closeSession`: no body.
    CloseSession,
    /// `create`.
    Create(Create<'a>),
    /// `delete`.
    Delete(PathVersion<'a>),
    /// `exists`.
    Exists(PathWatch<'a>),
    /// `getData`.
    GetData(PathWatch<'a>),
    /// `setData`.
    SetData(SetData<'a>),
    /// `getACL`.
    GetAcl {
        /// Of which znode.
        path: Cow<'a, str>,
    },
    /// `setACL`.
    SetAcl {
        /// Of which znode.
        path: Cow<'a, str>,
        /// The list that replaces it.
        acl: Option<Vec<AclRef<'a>>>,
        /// Compared with the ACL's version.
        version: Version,
    },
    /// `getChildren`.
    GetChildren(PathWatch<'a>),
    /// `sync`.
    Sync {
        /// Echoed, whatever it is.
        path: Option<Cow<'a, str>>,
    },
    /// `ping`: no body.
    Ping,
    /// `getChildren2`.
    GetChildren2(PathWatch<'a>),
    /// `check`, which only a multi may hold.
    Check(PathVersion<'a>),
    /// `multi`.
    Multi(MultiRequest<'a>),
    /// `create2`.
    Create2(Create<'a>),
    /// `reconfig`.
    Reconfig(Reconfig<'a>),
    /// `checkWatches`.
    CheckWatches {
        /// At which path; null is read as empty.
        path: Cow<'a, str>,
        /// Which.
        kind: WatcherType,
    },
    /// `removeWatches`.
    RemoveWatches {
        /// At which path; null is read as empty.
        path: Cow<'a, str>,
        /// Which.
        kind: WatcherType,
    },
    /// `createContainer`.
    CreateContainer(Create<'a>),
    /// `deleteContainer`.
    DeleteContainer {
        /// Which znode.
        path: Cow<'a, str>,
    },
    /// `createTTL`.
    CreateTtl(CreateTtl<'a>),
    /// `multiRead`.
    MultiRead(MultiRead<'a>),
    /// `auth`.
    Auth(AuthPacket<'a>),
    /// `setWatches`.
    SetWatches(SetWatches<'a>),
    /// `sasl`.
    Sasl(SaslToken<'a>),
    /// `getEphemerals`.
    GetEphemerals {
        /// Compared as text; null is as good as `/`.
        prefix: Option<Cow<'a, str>>,
    },
    /// `getAllChildrenNumber`.
    GetAllChildrenNumber {
        /// Of which znode.
        path: Cow<'a, str>,
    },
    /// `setWatches2`.
    SetWatches2(SetWatches2<'a>),
    /// `addWatch`.
    AddWatch {
        /// Any string, null (read as empty) included; the znode need not exist.
        path: Cow<'a, str>,
        /// What to add.
        mode: AddWatchMode,
    },
    /// `whoAmI`: no body.
    WhoAmI,
}

impl<'a> Request<'a> {
    /// Reads a body. Bytes behind the record are ignored.
    ///
    /// # Errors
    /// Any [`DecodeError`]. [`Request::decode_error_code`] says how to answer, and the connection
    /// stays open. Only a `sasl` without a token ends it, which decodes: see [`SaslToken`].
    pub fn decode(op: OpCode, body: &'a [u8]) -> Result<Request<'a>, DecodeError> {
        let mut reader = Reader::new(body);
        let r = &mut reader;
        Ok(match op {
            OpCode::CloseSession => Request::CloseSession,
            OpCode::CreateSession => {
                return Err(DecodeError::BadValue {
                    field: "type",
                    value: op.code().into(),
                });
            }
            OpCode::Create => Request::Create(Create::read(r)?),
            OpCode::Delete => Request::Delete(PathVersion::read(r)?),
            OpCode::Exists => Request::Exists(PathWatch::read(r)?),
            OpCode::GetData => Request::GetData(PathWatch::read(r)?),
            OpCode::SetData => Request::SetData(SetData::read(r)?),
            OpCode::GetAcl => Request::GetAcl { path: path(r)? },
            OpCode::SetAcl => Request::SetAcl {
                path: path(r)?,
                acl: AclRef::read_list(r)?,
                version: version(r)?,
            },
            OpCode::GetChildren => Request::GetChildren(PathWatch::read(r)?),
            OpCode::Sync => Request::Sync {
                path: r.string("path")?,
            },
            OpCode::Ping => Request::Ping,
            OpCode::GetChildren2 => Request::GetChildren2(PathWatch::read(r)?),
            OpCode::Check => Request::Check(PathVersion::read(r)?),
            OpCode::Multi => Request::Multi(MultiRequest::read(r)?),
            OpCode::Create2 => Request::Create2(Create::read(r)?),
            OpCode::Reconfig => Request::Reconfig(Reconfig::read(r)?),
            OpCode::CheckWatches => Request::CheckWatches {
                path: r.string_or_empty("path")?,
                kind: watcher_type(r)?,
            },
            OpCode::RemoveWatches => Request::RemoveWatches {
                path: r.string_or_empty("path")?,
                kind: watcher_type(r)?,
            },
            OpCode::CreateContainer => Request::CreateContainer(Create::read(r)?),
            OpCode::DeleteContainer => Request::DeleteContainer { path: path(r)? },
            OpCode::CreateTtl => Request::CreateTtl(CreateTtl::read(r)?),
            OpCode::MultiRead => Request::MultiRead(MultiRead::read(r)?),
            OpCode::Auth => Request::Auth(AuthPacket::read(r)?),
            OpCode::SetWatches => Request::SetWatches(SetWatches::read(r)?),
            OpCode::Sasl => Request::Sasl(SaslToken::read(r)?),
            OpCode::GetEphemerals => Request::GetEphemerals {
                prefix: r.string("prefixPath")?,
            },
            OpCode::GetAllChildrenNumber => Request::GetAllChildrenNumber { path: path(r)? },
            OpCode::SetWatches2 => Request::SetWatches2(SetWatches2::read(r)?),
            OpCode::AddWatch => Request::AddWatch {
                path: r.string_or_empty("path")?,
                mode: add_watch_mode(r)?,
            },
            OpCode::WhoAmI => Request::WhoAmI,
        })
    }

    /// What a server answers to a body that does not decode.
    ///
    /// `MarshallingError`, but for a null path where ZooKeeper judges the path before it uses it.
    #[must_use]
    pub fn decode_error_code(op: OpCode, error: DecodeError) -> ErrorCode {
        match (op, error) {
            (OpCode::SetData | OpCode::SetAcl, DecodeError::Null { field: "path" }) => {
                ErrorCode::BadArguments
            }
            _ => ErrorCode::MarshallingError,
        }
    }

    /// The opcode.
    #[must_use]
    pub const fn op(&self) -> OpCode {
        match self {
            Request::CloseSession => OpCode::CloseSession,
            Request::Create(_) => OpCode::Create,
            Request::Delete(_) => OpCode::Delete,
            Request::Exists(_) => OpCode::Exists,
            Request::GetData(_) => OpCode::GetData,
            Request::SetData(_) => OpCode::SetData,
            Request::GetAcl { .. } => OpCode::GetAcl,
            Request::SetAcl { .. } => OpCode::SetAcl,
            Request::GetChildren(_) => OpCode::GetChildren,
            Request::Sync { .. } => OpCode::Sync,
            Request::Ping => OpCode::Ping,
            Request::GetChildren2(_) => OpCode::GetChildren2,
            Request::Check(_) => OpCode::Check,
            Request::Multi(_) => OpCode::Multi,
            Request::Create2(_) => OpCode::Create2,
            Request::Reconfig(_) => OpCode::Reconfig,
            Request::CheckWatches { .. } => OpCode::CheckWatches,
            Request::RemoveWatches { .. } => OpCode::RemoveWatches,
            Request::CreateContainer(_) => OpCode::CreateContainer,
            Request::DeleteContainer { .. } => OpCode::DeleteContainer,
            Request::CreateTtl(_) => OpCode::CreateTtl,
            Request::MultiRead(_) => OpCode::MultiRead,
            Request::Auth(_) => OpCode::Auth,
            Request::SetWatches(_) => OpCode::SetWatches,
            Request::Sasl(_) => OpCode::Sasl,
            Request::GetEphemerals { .. } => OpCode::GetEphemerals,
            Request::GetAllChildrenNumber { .. } => OpCode::GetAllChildrenNumber,
            Request::SetWatches2(_) => OpCode::SetWatches2,
            Request::AddWatch { .. } => OpCode::AddWatch,
            Request::WhoAmI => OpCode::WhoAmI,
        }
    }

    /// Writes the body.
    pub fn encode(&self, w: &mut Writer<'_>) {
        match self {
            Request::CloseSession | Request::Ping | Request::WhoAmI => {}
            Request::Create(create)
            | Request::Create2(create)
            | Request::CreateContainer(create) => create.encode(w),
            Request::Delete(record) | Request::Check(record) => record.encode(w),
            Request::Exists(record)
            | Request::GetData(record)
            | Request::GetChildren(record)
            | Request::GetChildren2(record) => record.encode(w),
            Request::SetData(set) => set.encode(w),
            Request::GetAcl { path }
            | Request::DeleteContainer { path }
            | Request::GetAllChildrenNumber { path } => w.string(path),
            Request::SetAcl { path, acl, version } => {
                w.string(path);
                AclRef::encode_list(acl.as_deref(), w);
                w.i32(version.0);
            }
            Request::Sync { path: text } | Request::GetEphemerals { prefix: text } => {
                w.optional_string(text.as_deref());
            }
            Request::Multi(multi) => multi.encode(w),
            Request::Reconfig(reconfig) => reconfig.encode(w),
            Request::CheckWatches { path, kind } | Request::RemoveWatches { path, kind } => {
                w.string(path);
                w.i32(kind.code());
            }
            Request::CreateTtl(create) => create.encode(w),
            Request::MultiRead(multi) => multi.encode(w),
            Request::Auth(packet) => packet.encode(w),
            Request::SetWatches(watches) => watches.encode(w),
            Request::Sasl(token) => w.buffer(token.0),
            Request::SetWatches2(watches) => watches.encode(w),
            Request::AddWatch { path, mode } => {
                w.string(path);
                w.i32(mode.code());
            }
        }
    }

    /// Appends the whole frame.
    ///
    /// # Errors
    /// `TooLarge` above 2 GiB. The server's limit is its own, see
    /// [`FRAME_BYTES_MAX_DEFAULT`](crate::limits::FRAME_BYTES_MAX_DEFAULT).
    pub fn write_frame(&self, out: &mut BytesMut, xid: Xid) -> Result<(), FrameError> {
        frame::write(out, |writer| {
            let op = self.op().code();
            RequestHeader { xid, op }.encode(writer);
            self.encode(writer);
        })
    }
}

/// The body of `create`, `create2` and `createContainer`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Create<'a> {
    /// The path; of a sequential znode what stands before the number.
    pub path: Cow<'a, str>,
    /// `None` is null, which is not the same as empty.
    pub data: Option<&'a [u8]>,
    /// Null and empty are refused, as `InvalidAcl`.
    pub acl: Option<Vec<AclRef<'a>>>,
    /// See [`CreateMode::from_flags`](crate::CreateMode::from_flags).
    pub flags: i32,
}

impl<'a> Create<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<Create<'a>, DecodeError> {
        Ok(Create {
            path: path(r)?,
            data: r.buffer("data")?,
            acl: AclRef::read_list(r)?,
            flags: r.i32("flags")?,
        })
    }

    pub(crate) fn encode(&self, w: &mut Writer<'_>) {
        w.string(&self.path);
        w.buffer(self.data);
        AclRef::encode_list(self.acl.as_deref(), w);
        w.i32(self.flags);
    }
}

/// The body of `createTTL`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateTtl<'a> {
    /// As for the other creates.
    pub create: Create<'a>,
    /// Milliseconds.
    pub ttl_ms: i64,
}

impl<'a> CreateTtl<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<CreateTtl<'a>, DecodeError> {
        Ok(CreateTtl {
            create: Create::read(r)?,
            ttl_ms: r.i64("ttl")?,
        })
    }

    pub(crate) fn encode(&self, w: &mut Writer<'_>) {
        self.create.encode(w);
        w.i64(self.ttl_ms);
    }
}

/// The body of the reads that can leave a watch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathWatch<'a> {
    /// Which znode; empty means the root.
    pub path: Cow<'a, str>,
    /// Whether to leave a one-shot watch. A multiRead ignores it.
    pub watch: bool,
}

impl<'a> PathWatch<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<PathWatch<'a>, DecodeError> {
        Ok(PathWatch {
            path: path(r)?,
            watch: r.bool("watch")?,
        })
    }

    pub(crate) fn encode(&self, w: &mut Writer<'_>) {
        w.string(&self.path);
        w.bool(self.watch);
    }
}

/// The body of `delete` and `check`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PathVersion<'a> {
    /// Which znode.
    pub path: Cow<'a, str>,
    /// Compared with the version of its data.
    pub version: Version,
}

impl<'a> PathVersion<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<PathVersion<'a>, DecodeError> {
        Ok(PathVersion {
            path: path(r)?,
            version: version(r)?,
        })
    }

    pub(crate) fn encode(&self, w: &mut Writer<'_>) {
        w.string(&self.path);
        w.i32(self.version.0);
    }
}

/// The body of `setData`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetData<'a> {
    /// Of which znode.
    pub path: Cow<'a, str>,
    /// `None` is null, which is not the same as empty.
    pub data: Option<&'a [u8]>,
    /// Compared with the version of its data.
    pub version: Version,
}

impl<'a> SetData<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<SetData<'a>, DecodeError> {
        Ok(SetData {
            path: path(r)?,
            data: r.buffer("data")?,
            version: version(r)?,
        })
    }

    pub(crate) fn encode(&self, w: &mut Writer<'_>) {
        w.string(&self.path);
        w.buffer(self.data);
        w.i32(self.version.0);
    }
}

/// The body of `reconfig`. Each text may be null.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reconfig<'a> {
    /// Server lines to add or change, separated by commas.
    pub joining: Option<Cow<'a, str>>,
    /// Numbers of servers to remove, separated by commas.
    pub leaving: Option<Cow<'a, str>>,
    /// All server lines, to replace the present ones.
    pub new_members: Option<Cow<'a, str>>,
    /// The version of the configuration that this is meant for, or -1.
    pub config_id: i64,
}

impl<'a> Reconfig<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Reconfig<'a>, DecodeError> {
        Ok(Reconfig {
            joining: r.string("joiningServers")?,
            leaving: r.string("leavingServers")?,
            new_members: r.string("newMembers")?,
            config_id: r.i64("curConfigId")?,
        })
    }

    fn encode(&self, w: &mut Writer<'_>) {
        w.optional_string(self.joining.as_deref());
        w.optional_string(self.leaving.as_deref());
        w.optional_string(self.new_members.as_deref());
        w.i64(self.config_id);
    }
}

/// The body of `auth`.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthPacket<'a> {
    /// 0; servers do not look at it.
    pub kind: i32,
    /// Null is an unknown scheme.
    pub scheme: Option<Cow<'a, str>>,
    /// The credentials. Null is not the same as empty.
    pub auth: Option<&'a [u8]>,
}

impl<'a> AuthPacket<'a> {
    fn read(r: &mut Reader<'a>) -> Result<AuthPacket<'a>, DecodeError> {
        Ok(AuthPacket {
            kind: r.i32("type")?,
            scheme: r.string("scheme")?,
            auth: r.buffer("auth")?,
        })
    }

    fn encode(&self, w: &mut Writer<'_>) {
        w.i32(self.kind);
        w.optional_string(self.scheme.as_deref());
        w.buffer(self.auth);
    }
}

/// Hides the credentials.
impl fmt::Debug for AuthPacket<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthPacket")
            .field("kind", &self.kind)
            .field("scheme", &self.scheme)
            .finish_non_exhaustive()
    }
}

/// The body of `sasl`, in both directions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SaslToken<'a>(
    /// Null in a reply is a failure. Null in a request closes the connection, without a reply.
    pub Option<&'a [u8]>,
);

impl<'a> SaslToken<'a> {
    pub(crate) fn read(r: &mut Reader<'a>) -> Result<SaslToken<'a>, DecodeError> {
        r.buffer("token").map(SaslToken)
    }
}

/// Hides the token.
impl fmt::Debug for SaslToken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("SaslToken(null)"),
            Some(token) => write!(f, "SaslToken({} bytes)", token.len()),
        }
    }
}

fn path<'a>(r: &mut Reader<'a>) -> Result<Cow<'a, str>, DecodeError> {
    r.required_string("path")
}

fn version(r: &mut Reader<'_>) -> Result<Version, DecodeError> {
    r.i32("version").map(Version)
}

fn watcher_type(r: &mut Reader<'_>) -> Result<WatcherType, DecodeError> {
    let value = r.i32("type")?;
    WatcherType::from_code(value).ok_or(DecodeError::BadValue {
        field: "type",
        value: value.into(),
    })
}

fn add_watch_mode(r: &mut Reader<'_>) -> Result<AddWatchMode, DecodeError> {
    let value = r.i32("mode")?;
    AddWatchMode::from_code(value).ok_or(DecodeError::BadValue {
        field: "mode",
        value: value.into(),
    })
}

#[cfg(test)]
mod tests;
