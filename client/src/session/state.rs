//! What a program is told about its session.

use std::sync::Arc;
use std::time::Duration;

use quorate_proto::{SessionId, Zxid};

use crate::error::Reason;

/// Where a session stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SessionState {
    /// The first connection is being made; there is no session yet.
    Connecting,
    /// A server that takes writes is connected.
    Connected,
    /// The connection is away and the session may still live. Requests wait; who holds a lock
    /// goes on until [`Client::trusted_until`](crate::Client::trusted_until) and no longer.
    Suspended,
    /// The session is over: its ephemerals are gone or will be, its locks belong to others.
    Lost,
    /// A server that takes no writes is connected. It proves nothing about a session.
    ReadOnly,
    /// The client was closed, or can never connect.
    Closed,
}

impl SessionState {
    /// Whether requests are being answered now.
    #[must_use]
    pub const fn is_connected(self) -> bool {
        matches!(self, SessionState::Connected | SessionState::ReadOnly)
    }
}

/// What a client knows about its session; the latest value is in [`Client::status`](crate::Client::status).
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Status {
    /// Where it stands.
    pub state: SessionState,
    /// The session; `None` before the first and between two.
    pub session: Option<SessionId>,
    /// The number of the session, from 1: it grows with each new session, so that nobody who
    /// looks rarely can miss that one was lost in between.
    pub generation: u64,
    /// The server that is connected, or was last.
    pub server: Arc<str>,
    /// What ended the last connection or session; `None` while all is well.
    pub reason: Option<Reason>,
}

/// A session that another process, or this one after a restart, can take up again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its id.
    pub id: SessionId,
    /// Its password: who has it has the session.
    pub password: [u8; 16],
    /// The timeout that the server agreed to.
    pub timeout: Duration,
    /// The last transaction that the session saw.
    pub last_zxid: Zxid,
}

/// Hides the password.
impl std::fmt::Debug for SessionInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionInfo({}, {:?})", self.id, self.timeout)
    }
}
