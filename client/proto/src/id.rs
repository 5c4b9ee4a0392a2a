//! Numbers that differ get types, so that swapped arguments do not compile.

use std::fmt;

/// A transaction id: the epoch in the high 32 bits, a counter within it in the low 32.
///
/// Zxids order everything that happened. They are signed on the wire, and a valid one is positive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Zxid(pub i64);

impl Zxid {
    /// Before every transaction.
    pub const ZERO: Zxid = Zxid(0);
    /// What a header carries where no transaction is meant: unknown opcodes, catch-up events.
    pub const NONE: Zxid = Zxid(-1);
}

impl fmt::Display for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for Zxid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A session id. Any 64 bits may arrive: an id that nobody knows is an expired session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SessionId(pub i64);

impl SessionId {
    /// What a client sends that asks for a new session.
    pub const NONE: SessionId = SessionId(0);
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A client's number for a request. The server echoes it and never looks for uniqueness.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Xid(pub i32);

impl Xid {
    /// A notification, from server to client.
    pub const NOTIFICATION: Xid = Xid(-1);
    /// A ping; the reply always carries it, whatever the request said.
    pub const PING: Xid = Xid(-2);
    /// An auth packet, as clients number it.
    pub const AUTH: Xid = Xid(-4);
    /// `setWatches` and `setWatches2`, as clients number them.
    pub const SET_WATCHES: Xid = Xid(-8);
}

impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The version that a conditional change expects, or [`Version::ANY`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Version(pub i32);

impl Version {
    /// Matches whatever version the znode has.
    pub const ANY: Version = Version(-1);

    /// Whether a znode at `actual` satisfies this expectation.
    #[must_use]
    pub fn matches(self, actual: i32) -> bool {
        self == Self::ANY || self.0 == actual
    }
}
