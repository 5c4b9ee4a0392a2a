//! The error codes that may appear in a reply header or in a multi result.

use std::fmt;

macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal),+ $(,)?) => {
        /// An error as it stands on the wire.
        ///
        /// There is no way to make a code that is not listed: clients crash on numbers that they
        /// do not know (Java's `Code.get` throws, kazoo raises in its connection thread).
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        pub enum ErrorCode { $($(#[$doc])* $name),+ }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$name),+];

            /// The number on the wire.
            #[must_use]
            pub const fn code(self) -> i32 {
                match self { $(ErrorCode::$name => $code),+ }
            }

            /// The code with this number; `None` for 0, which is success, and for unknown ones.
            #[must_use]
            pub const fn from_code(code: i32) -> Option<ErrorCode> {
                match code { $($code => Some(ErrorCode::$name),)+ _ => None }
            }

            /// ZooKeeper's name for it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(ErrorCode::$name => stringify!($name)),+ }
            }
        }
    };
}

error_codes! {
    /// Marks the range of system errors; not sent.
    SystemError = -1,
    /// In a multi: an operation behind the one that failed.
    RuntimeInconsistency = -2,
    /// Not sent.
    DataInconsistency = -3,
    /// Made by clients only.
    ConnectionLoss = -4,
    /// The body of the request could not be understood.
    MarshallingError = -5,
    /// Unknown opcode, or a type of znode that is switched off.
    Unimplemented = -6,
    /// Made by clients only.
    OperationTimeout = -7,
    /// A path, flag or ttl that no server would take.
    BadArguments = -8,
    /// Internal to servers.
    UnknownSession = -12,
    /// A reconfig whose new voters are not connected and in step.
    NewConfigNoQuorum = -13,
    /// Another reconfig is on its way.
    ReconfigInProgress = -14,
    /// Marks the range of API errors; not sent.
    ApiError = -100,
    /// The znode does not exist.
    NoNode = -101,
    /// A permission is missing.
    NoAuth = -102,
    /// The version is not the expected one.
    BadVersion = -103,
    /// An ephemeral znode can have no children.
    NoChildrenForEphemerals = -108,
    /// The znode exists.
    NodeExists = -110,
    /// The znode has children.
    NotEmpty = -111,
    /// The session is closing or gone.
    SessionExpired = -112,
    /// Made by clients only.
    InvalidCallback = -113,
    /// The ACL is empty, or has an entry that no provider accepts.
    InvalidAcl = -114,
    /// Credentials were refused; the connection closes.
    AuthFailed = -115,
    /// The session was attached elsewhere; servers close instead of sending it.
    SessionMoved = -118,
    /// A write on a read-only server.
    NotReadOnly = -119,
    /// An ephemeral on a local session.
    EphemeralOnLocalSession = -120,
    /// `checkWatches` or `removeWatches` found none.
    NoWatcher = -121,
    /// Made by clients only.
    RequestTimeout = -122,
    /// `reconfigEnabled` is false.
    ReconfigDisabled = -123,
    /// Authentication is enforced and missing; the connection closes.
    SessionClosedRequireSaslAuth = -124,
    /// A hard quota would be exceeded.
    QuotaExceeded = -125,
    /// The request waited too long and was not executed.
    ThrottledOp = -127,
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.code())
    }
}
