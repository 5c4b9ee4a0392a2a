//! What servers say on a link for requests.
//!
//! `[version: u8][kind: u8]`, then what the kind holds, big-endian. Both ends are servers of one
//! ensemble, maybe of different versions: what one does not know ends the link.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate_proto::SessionId;

const VERSION: u8 = 1;

/// Sessions in one message.
pub(super) const SESSIONS_MAX: usize = 100_000;

/// From a follower or observer to the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::replication) enum ToLeader {
    /// Requests for the log. The numbers of the frames of a link rise.
    Requests {
        number: u64,
        count: u32,
        requests: Bytes,
    },
    /// Up to where must be applied what was acknowledged before this was sent?
    ReadIndex { number: u64 },
    /// These sessions spoke. None: this server wants to know whether it is still heard.
    Touches {
        number: u64,
        sessions: Vec<SessionId>,
    },
}

/// From the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::replication) enum FromLeader {
    /// All frames of this link up to this one are applied at the leader.
    Taken { up_to: u64 },
    /// Answers [`ToLeader::ReadIndex`].
    ReadAt { number: u64, index: u64 },
    /// Answers [`ToLeader::Touches`]: all are renewed but these.
    Confirmed {
        number: u64,
        refused: Vec<SessionId>,
    },
    /// Answers either: the leader cannot tell at the moment.
    Unproven { number: u64 },
}

/// A message that this version does not understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::replication) enum MessageError {
    #[error("messages of version {version}, this server knows version {VERSION}")]
    Version { version: u8 },
    #[error("message kind {kind} is not known")]
    Kind { kind: u8 },
    #[error("a message of {len} bytes ends too early or too late")]
    Length { len: usize },
}

mod kind {
    pub(super) const REQUESTS: u8 = 1;
    pub(super) const READ_INDEX: u8 = 2;
    pub(super) const TOUCHES: u8 = 3;
    pub(super) const TAKEN: u8 = 17;
    pub(super) const READ_AT: u8 = 18;
    pub(super) const CONFIRMED: u8 = 19;
    pub(super) const UNPROVEN: u8 = 20;
}

fn start(kind: u8, room: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(2 + room);
    out.put_u8(VERSION);
    out.put_u8(kind);
    out
}

fn put_sessions(out: &mut BytesMut, sessions: &[SessionId]) {
    sessions.iter().for_each(|session| out.put_i64(session.0));
}

/// Splits the head off.
fn kind_of(body: &mut Bytes) -> Result<u8, MessageError> {
    let len = body.len();
    let version = body
        .try_get_u8()
        .map_err(|_| MessageError::Length { len })?;
    if version != VERSION {
        return Err(MessageError::Version { version });
    }
    body.try_get_u8().map_err(|_| MessageError::Length { len })
}

struct Fields {
    len: usize,
    rest: Bytes,
}

impl Fields {
    fn u32(&mut self) -> Result<u32, MessageError> {
        let len = self.len;
        self.rest
            .try_get_u32()
            .map_err(|_| MessageError::Length { len })
    }

    fn u64(&mut self) -> Result<u64, MessageError> {
        let len = self.len;
        self.rest
            .try_get_u64()
            .map_err(|_| MessageError::Length { len })
    }

    /// All that is left.
    fn sessions(&mut self) -> Result<Vec<SessionId>, MessageError> {
        let count = self.rest.len() / 8;
        if count > SESSIONS_MAX || !self.rest.len().is_multiple_of(8) {
            return Err(MessageError::Length { len: self.len });
        }
        let mut sessions = Vec::with_capacity(count);
        while let Ok(session) = self.rest.try_get_i64() {
            sessions.push(SessionId(session));
        }
        Ok(sessions)
    }

    fn end(&self) -> Result<(), MessageError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(MessageError::Length { len: self.len })
        }
    }
}

impl ToLeader {
    pub(in crate::replication) fn encode(&self) -> Bytes {
        let out = match self {
            ToLeader::Requests {
                number,
                count,
                requests,
            } => {
                let mut out = start(kind::REQUESTS, 12 + requests.len());
                out.put_u64(*number);
                out.put_u32(*count);
                out.put_slice(requests);
                out
            }
            ToLeader::ReadIndex { number } => {
                let mut out = start(kind::READ_INDEX, 8);
                out.put_u64(*number);
                out
            }
            ToLeader::Touches { number, sessions } => {
                let mut out = start(kind::TOUCHES, 8 + sessions.len() * 8);
                out.put_u64(*number);
                put_sessions(&mut out, sessions);
                out
            }
        };
        out.freeze()
    }

    pub(in crate::replication) fn decode(mut body: Bytes) -> Result<ToLeader, MessageError> {
        let len = body.len();
        let kind = kind_of(&mut body)?;
        let mut fields = Fields { len, rest: body };
        let message = match kind {
            kind::REQUESTS => {
                return Ok(ToLeader::Requests {
                    number: fields.u64()?,
                    count: fields.u32()?,
                    requests: fields.rest,
                });
            }
            kind::READ_INDEX => ToLeader::ReadIndex {
                number: fields.u64()?,
            },
            kind::TOUCHES => ToLeader::Touches {
                number: fields.u64()?,
                sessions: fields.sessions()?,
            },
            kind => return Err(MessageError::Kind { kind }),
        };
        fields.end()?;
        Ok(message)
    }
}

impl FromLeader {
    pub(in crate::replication) fn encode(&self) -> Bytes {
        let out = match self {
            FromLeader::Taken { up_to } => {
                let mut out = start(kind::TAKEN, 8);
                out.put_u64(*up_to);
                out
            }
            FromLeader::ReadAt { number, index } => {
                let mut out = start(kind::READ_AT, 16);
                out.put_u64(*number);
                out.put_u64(*index);
                out
            }
            FromLeader::Confirmed { number, refused } => {
                let mut out = start(kind::CONFIRMED, 8 + refused.len() * 8);
                out.put_u64(*number);
                put_sessions(&mut out, refused);
                out
            }
            FromLeader::Unproven { number } => {
                let mut out = start(kind::UNPROVEN, 8);
                out.put_u64(*number);
                out
            }
        };
        out.freeze()
    }

    pub(in crate::replication) fn decode(mut body: Bytes) -> Result<FromLeader, MessageError> {
        let len = body.len();
        let kind = kind_of(&mut body)?;
        let mut fields = Fields { len, rest: body };
        let message = match kind {
            kind::TAKEN => FromLeader::Taken {
                up_to: fields.u64()?,
            },
            kind::READ_AT => FromLeader::ReadAt {
                number: fields.u64()?,
                index: fields.u64()?,
            },
            kind::CONFIRMED => FromLeader::Confirmed {
                number: fields.u64()?,
                refused: fields.sessions()?,
            },
            kind::UNPROVEN => FromLeader::Unproven {
                number: fields.u64()?,
            },
            kind => return Err(MessageError::Kind { kind }),
        };
        fields.end()?;
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_leader() -> Vec<ToLeader> {
        vec![
            ToLeader::Requests {
                number: 7,
                count: 2,
                requests: Bytes::from_static(b"requests"),
            },
            ToLeader::ReadIndex { number: u64::MAX },
            ToLeader::Touches {
                number: 1,
                sessions: vec![SessionId(-5), SessionId(9)],
            },
            ToLeader::Touches {
                number: 2,
                sessions: Vec::new(),
            },
        ]
    }

    fn from_leader() -> Vec<FromLeader> {
        vec![
            FromLeader::Taken { up_to: 3 },
            FromLeader::ReadAt {
                number: 4,
                index: 1 << 50,
            },
            FromLeader::Confirmed {
                number: 5,
                refused: vec![SessionId(i64::MIN)],
            },
            FromLeader::Unproven { number: 6 },
        ]
    }

    #[test]
    fn messages_return_as_sent() {
        for message in to_leader() {
            assert_eq!(ToLeader::decode(message.encode()), Ok(message));
        }
        for message in from_leader() {
            assert_eq!(FromLeader::decode(message.encode()), Ok(message));
        }
    }

    #[test]
    fn cut_or_longer_messages_are_errors_and_no_panic() {
        for message in to_leader() {
            let whole = message.encode();
            for len in 0..whole.len() {
                let cut = ToLeader::decode(whole.slice(..len));
                assert_ne!(cut, Ok(message.clone()), "{len}");
            }
        }
        for message in from_leader() {
            let mut long = BytesMut::from(&*message.encode());
            for len in 0..long.len() {
                let cut = FromLeader::decode(Bytes::copy_from_slice(&long[..len]));
                assert_ne!(cut, Ok(message.clone()), "{len}");
            }
            long.put_u8(0);
            assert!(FromLeader::decode(long.freeze()).is_err());
        }
    }

    #[test]
    fn another_version_and_an_unknown_kind_are_named() {
        let newer = Bytes::from_static(&[2, 1, 0, 0]);
        let version = MessageError::Version { version: 2 };
        assert_eq!(ToLeader::decode(newer.clone()), Err(version));
        assert_eq!(FromLeader::decode(newer), Err(version));
        let odd = Bytes::from_static(&[1, 99]);
        assert_eq!(ToLeader::decode(odd), Err(MessageError::Kind { kind: 99 }));
    }
}
