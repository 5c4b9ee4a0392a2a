//! The Apache ZooKeeper client protocol: records, rules and limits, shared by client and server.
//!
//! Bytes in, records out, and back. There is no socket, no clock and no task in here, and no
//! input makes it panic: a decoder answers with a record or with a [`DecodeError`].
//!
//! [`DecodeError`]: crate::jute::DecodeError

mod acl;
mod error_code;
mod event;
mod id;
mod stat;

pub use acl::{Acl, Id, Perms};
pub use error_code::ErrorCode;
pub use event::{EventType, KeeperState};
pub use id::{SessionId, Version, Xid, Zxid};
pub use stat::Stat;
