//! The Apache ZooKeeper client protocol: records, rules and limits, shared by client and server.
//!
//! Bytes in, records out, and back. There is no socket, no clock and no task in here, and no
//! input makes it panic: a decoder answers with a record or with a [`DecodeError`].
//!
//! Decoding borrows from the frame, and allocates only for lists (ACLs, paths, the operations of
//! a multi) and for text that is not UTF-8; what it allocates is bounded by the frame. Encoding
//! appends to a `BytesMut`. Every record goes both ways, because a server, a client and their
//! tests stand on the same code.
//!
//! [`DecodeError`]: crate::jute::DecodeError

mod acl;
mod connect;
mod create_mode;
mod error_code;
mod event;
pub mod frame;
mod id;
pub mod jute;
pub mod limits;
pub mod multi;
mod op;
pub mod path;
pub mod reply;
pub mod request;
mod stat;
mod watch;

pub use acl::{Acl, AclRef, Id, Perms};
pub use connect::{ConnectRequest, ConnectResponse};
pub use create_mode::{CreateMode, is_valid_ttl};
pub use error_code::ErrorCode;
pub use event::{EventType, KeeperState};
pub use id::{SessionId, Version, Xid, Zxid};
pub use op::{OpCode, ReplyHeader, RequestHeader};
pub use reply::{Reply, ServerFrame};
pub use request::Request;
pub use stat::Stat;
pub use watch::{AddWatchMode, SetWatches, SetWatches2, WatcherEvent, WatcherType};
