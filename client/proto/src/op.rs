//! The opcodes, and the headers in front of every request and reply after the handshake.

use crate::jute::{DecodeError, Reader, Writer};
use crate::{Xid, Zxid};

macro_rules! op_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal $wire:literal),+ $(,)?) => {
        /// What a request asks for.
        ///
        /// 10 does not exist, and 0 and -1 are not requests: like every number that is not
        /// listed they are refused with `Unimplemented`, and the connection closes.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum OpCode { $($(#[$doc])* $name),+ }

        impl OpCode {
            /// Every opcode.
            pub const ALL: &'static [OpCode] = &[$(OpCode::$name),+];

            /// The number on the wire.
            #[must_use]
            pub const fn code(self) -> i32 {
                match self { $(OpCode::$name => $code),+ }
            }

            /// The opcode with this number.
            #[must_use]
            pub const fn from_code(code: i32) -> Option<OpCode> {
                match code { $($code => Some(OpCode::$name),)+ _ => None }
            }

            /// ZooKeeper's name for it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(OpCode::$name => $wire),+ }
            }
        }
    };
}

op_codes! {
    /// Ends the session, then the connection.
    CloseSession = -11 "closeSession",
    /// What servers tell each other; from a client it is malformed, whatever its body.
    CreateSession = -10 "createSession",
    /// Creates a znode and answers with its path.
    Create = 1 "create",
    /// Deletes a znode.
    Delete = 2 "delete",
    /// Reads a znode's Stat.
    Exists = 3 "exists",
    /// Reads data and Stat.
    GetData = 4 "getData",
    /// Replaces the data.
    SetData = 5 "setData",
    /// Reads ACL and Stat.
    GetAcl = 6 "getACL",
    /// Replaces the ACL.
    SetAcl = 7 "setACL",
    /// Lists the children.
    GetChildren = 8 "getChildren",
    /// Waits until this server has all that was committed.
    Sync = 9 "sync",
    /// Keeps the session alive.
    Ping = 11 "ping",
    /// Lists the children, with Stat.
    GetChildren2 = 12 "getChildren2",
    /// Compares a version. Only inside a multi: on top level it counts as unknown.
    Check = 13 "check",
    /// Several writes, all or none.
    Multi = 14 "multi",
    /// Creates a znode and answers with path and Stat.
    Create2 = 15 "create2",
    /// Changes the ensemble's members.
    Reconfig = 16 "reconfig",
    /// Asks whether a watch is there.
    CheckWatches = 17 "checkWatches",
    /// Removes a watch.
    RemoveWatches = 18 "removeWatches",
    /// Creates a container.
    CreateContainer = 19 "createContainer",
    /// Deletes an empty container. Servers only: from a client it would pass by every ACL.
    DeleteContainer = 20 "deleteContainer",
    /// Creates a znode with a TTL.
    CreateTtl = 21 "createTTL",
    /// Several reads.
    MultiRead = 22 "multiRead",
    /// Adds an identity to the connection.
    Auth = 100 "auth",
    /// Takes watches up again after a reconnect.
    SetWatches = 101 "setWatches",
    /// One step of SASL.
    Sasl = 102 "sasl",
    /// Lists the ephemerals of this session.
    GetEphemerals = 103 "getEphemerals",
    /// Counts all descendants.
    GetAllChildrenNumber = 104 "getAllChildrenNumber",
    /// As `SetWatches`, persistent ones included.
    SetWatches2 = 105 "setWatches2",
    /// Adds a persistent watch.
    AddWatch = 106 "addWatch",
    /// Lists the identities of the connection.
    WhoAmI = 107 "whoAmI",
}

/// What stands in front of every request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestHeader {
    /// The client's number for it.
    pub xid: Xid,
    /// The opcode, as it came: unknown ones have to be answered too.
    pub op: i32,
}

impl RequestHeader {
    /// Bytes on the wire.
    pub const ENCODED_LEN: usize = 8;

    /// Splits a payload into header and body.
    ///
    /// # Errors
    /// `Truncated`. There is no xid to answer then, so the connection has to close.
    pub fn decode(payload: &[u8]) -> Result<(RequestHeader, &[u8]), DecodeError> {
        let mut reader = Reader::new(payload);
        let header = RequestHeader {
            xid: Xid(reader.i32("xid")?),
            op: reader.i32("type")?,
        };
        Ok((header, reader.rest()))
    }

    /// Writes it.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.i32(self.xid.0);
        writer.i32(self.op);
    }
}

/// What stands in front of every reply and notification.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplyHeader {
    /// That of the request, or [`Xid::NOTIFICATION`].
    pub xid: Xid,
    /// How far the answering server was. See the protocol for the replies where it is 0 or -1.
    pub zxid: Zxid,
    /// 0, or an [`ErrorCode`](crate::ErrorCode); there is no body then.
    pub err: i32,
}

impl ReplyHeader {
    /// Bytes on the wire.
    pub const ENCODED_LEN: usize = 16;

    /// Splits a payload into header and body.
    ///
    /// # Errors
    /// `Truncated`.
    pub fn decode(payload: &[u8]) -> Result<(ReplyHeader, &[u8]), DecodeError> {
        let mut reader = Reader::new(payload);
        let header = ReplyHeader {
            xid: Xid(reader.i32("xid")?),
            zxid: Zxid(reader.i64("zxid")?),
            err: reader.i32("err")?,
        };
        Ok((header, reader.rest()))
    }

    /// Writes it.
    pub fn encode(&self, writer: &mut Writer<'_>) {
        writer.i32(self.xid.0);
        writer.i64(self.zxid.0);
        writer.i32(self.err);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_no_request_have_no_opcode() {
        for code in [-1, 0, 10, 23, 99, 108, 1000, i32::MIN] {
            assert_eq!(OpCode::from_code(code), None, "{code}");
        }
        for &op in OpCode::ALL {
            assert_eq!(OpCode::from_code(op.code()), Some(op));
        }
    }

    #[test]
    fn a_header_needs_its_eight_bytes() {
        assert!(RequestHeader::decode(&[0; 7]).is_err());
        let (header, body) = RequestHeader::decode(b"\0\0\0\x05\xff\xff\xff\xf5xy").unwrap();
        assert_eq!(
            header,
            RequestHeader {
                xid: Xid(5),
                op: -11
            }
        );
        assert_eq!(body, b"xy");
    }
}
