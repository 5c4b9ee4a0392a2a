//! What went wrong, and above all: did it happen?
//!
//! An operation on a coordination service ends in one of three ways: it happened, it did not
//! happen, or nobody here can tell. [`Error`] keeps them apart in its variants, and
//! [`Error::outcome`] names them. A program that cannot tell these apart gives one lock to two.

use std::fmt;
use std::time::Duration;

use quorate_proto::path::PathError;
use quorate_proto::{ErrorCode, SessionId};

/// What a client's operations return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whether an operation that ended in an error changed anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The server did not do it, and never will.
    DidNotHappen,
    /// The server did it; what failed came later.
    Happened,
    /// It may have happened, or may happen yet. Read before you repeat it.
    Unknown,
}

/// Why an operation failed, by what its caller can do about it.
///
/// Each variant says where ([`path`](Error::path), [`server`](Error::server)) and how long it
/// took ([`elapsed`](Error::elapsed)). [`is_retryable`](Error::is_retryable) says whether the same
/// call may be made again as it is.
///
/// ```
/// # use quorate_client::{Error, Outcome};
/// fn advice(error: &Error) -> &'static str {
///     match error.outcome() {
///         Outcome::DidNotHappen if error.is_retryable() => "call it again",
///         Outcome::DidNotHappen => "it was refused, and would be again",
///         Outcome::Happened => "it is done",
///         _ => "read, then decide",
///     }
/// }
/// ```
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It had no effect: the server refused it, or it never left this process.
    #[error("{context}: {reason}")]
    DidNotHappen {
        /// Why.
        reason: Reason,
        /// Where, and after how long.
        context: Box<Context>,
    },
    /// It took effect, but its result did not get through to the caller.
    #[error("{context}: it was done, but {reason}")]
    Happened {
        /// What failed then.
        reason: Reason,
        /// Where, and after how long.
        context: Box<Context>,
    },
    /// It left this process and no answer came: it may have taken effect.
    #[error("{context}: outcome unknown: {reason}")]
    Unknown {
        /// Why no answer came.
        reason: Reason,
        /// Where, and after how long.
        context: Box<Context>,
    },
    /// The session that the operation belonged to is over, with its ephemerals and its locks.
    #[error("{context}: {reason}")]
    SessionGone {
        /// How it ended.
        reason: Reason,
        /// Whether the operation had left before.
        outcome: Outcome,
        /// Where, and after how long.
        context: Box<Context>,
    },
    /// The server knows who asks and does not allow it. It had no effect.
    #[error("{context}: {reason}")]
    NotAllowed {
        /// What was refused.
        reason: Reason,
        /// Where, and after how long.
        context: Box<Context>,
    },
    /// No server would take this call, whatever its state. It had no effect.
    #[error("{context}: {reason}")]
    BadArgument {
        /// What is wrong with it.
        reason: Reason,
        /// Where, and after how long.
        context: Box<Context>,
    },
}

/// The cause that stands behind an [`Error`].
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The server's own code.
    #[error("{}", explain(*.0))]
    Code(ErrorCode),
    /// A code that this client does not know.
    #[error("the server answered with the unknown code {0}")]
    UnknownCode(i32),
    /// The connection ended before the answer came.
    #[error("the connection was lost ({0})")]
    ConnectionLost(String),
    /// No server could be reached in time.
    #[error("no server could be reached ({0})")]
    NoServer(String),
    /// Each of the servers failed to prove itself, or took us for a stranger: the certificates or
    /// the authorities have to change first.
    #[error("no server can be trusted, or none trusts us ({0})")]
    Tls(String),
    /// The time given for the operation passed.
    #[error("no answer in time")]
    TimedOut,
    /// The server said that the session is over.
    #[error("the session {0} has expired")]
    SessionExpired(SessionId),
    /// Nothing proves any more that the server still keeps the session, so it was given up
    /// before its locks could go to another.
    #[error("the session {0} was given up: no server could confirm it in time")]
    SessionGivenUp(SessionId),
    /// The client was closed.
    #[error("the client is closed")]
    Closed,
    /// The Tokio runtime that the client was made on was shut down, and the client with it.
    #[error("the runtime that the client was made on is gone")]
    RuntimeGone,
    /// More requests wait than the client was told to hold.
    #[error("{waiting} requests are waiting, as many as the client may hold")]
    TooManyWaiting {
        /// How many.
        waiting: usize,
    },
    /// The request is larger than the server would read.
    #[error("the request has {bytes} bytes, and the server reads at most {limit}")]
    TooLarge {
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        limit: usize,
    },
    /// A path that breaks the rules of paths.
    #[error("{0}")]
    Path(PathError),
    /// Options that exclude each other, or a value out of its range.
    #[error("{0}")]
    Option(String),
    /// A server that this client may not talk to, or that does not keep the protocol.
    #[error("{0}")]
    Protocol(String),
    /// Credentials that no server will take.
    #[error("the server refused the credentials ({0})")]
    AuthFailed(String),
    /// The data could not be written or read as the type asked for.
    #[error("{0}")]
    Codec(String),
    /// A node that was expected to be ours belongs to another session, or is gone.
    #[error("{0}")]
    NotOurs(String),
}

/// Where an operation failed, and after how long.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Context {
    /// The operation, by ZooKeeper's name.
    pub op: &'static str,
    /// The path as the caller gave it; empty where there is none.
    pub path: String,
    /// The server that was asked last; empty if none was.
    pub server: String,
    /// From the call to the error, retries included.
    pub elapsed: Duration,
    /// In a multi: which of its operations was refused, from 0.
    pub failed_op: Option<usize>,
}

impl Context {
    /// The context of something that is built from operations: a recipe, a test.
    #[must_use]
    pub fn of(op: &'static str, path: &str) -> Context {
        Context {
            op,
            path: path.to_owned(),
            ..Context::default()
        }
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.op)?;
        if !self.path.is_empty() {
            write!(f, " {}", self.path)?;
        }
        if let Some(index) = self.failed_op {
            write!(f, ", operation {index}")?;
        }
        if !self.server.is_empty() {
            write!(f, " at {}", self.server)?;
        }
        if self.elapsed > Duration::ZERO {
            write!(f, " after {:.1?}", self.elapsed)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({self})", self.variant())
    }
}

impl Error {
    /// What a server's refusal means.
    pub(crate) fn from_code(code: ErrorCode, context: Context) -> Error {
        let reason = Reason::Code(code);
        let context = Box::new(context);
        match code {
            ErrorCode::NoAuth
            | ErrorCode::AuthFailed
            | ErrorCode::SessionClosedRequireSaslAuth
            | ErrorCode::QuotaExceeded => Error::NotAllowed { reason, context },
            ErrorCode::MarshallingError
            | ErrorCode::BadArguments
            | ErrorCode::Unimplemented
            | ErrorCode::InvalidAcl => Error::BadArgument { reason, context },
            ErrorCode::SessionExpired | ErrorCode::UnknownSession => Error::SessionGone {
                reason,
                outcome: Outcome::DidNotHappen,
                context,
            },
            // Made by clients, or said of a server's own failure, which may come behind the work: a
            // server that sends one has not said what happened.
            ErrorCode::ConnectionLoss
            | ErrorCode::OperationTimeout
            | ErrorCode::RequestTimeout
            | ErrorCode::SystemError
            | ErrorCode::DataInconsistency => Error::Unknown { reason, context },
            _ => Error::DidNotHappen { reason, context },
        }
    }

    /// The session that something belonged to is over, or what it owned is; for what is built on
    /// operations.
    #[must_use]
    pub fn session_gone(reason: Reason, context: Context) -> Error {
        Error::SessionGone {
            reason,
            outcome: Outcome::DidNotHappen,
            context: Box::new(context),
        }
    }

    /// It certainly had no effect; for what is built on operations.
    #[must_use]
    pub fn did_not_happen(reason: Reason, context: Context) -> Error {
        Error::DidNotHappen {
            reason,
            context: Box::new(context),
        }
    }

    /// No server would take such a call; for what is built on operations.
    #[must_use]
    pub fn bad_argument(reason: Reason, context: Context) -> Error {
        Error::BadArgument {
            reason,
            context: Box::new(context),
        }
    }

    /// Nobody knows whether it took effect; for what is built on operations.
    #[must_use]
    pub fn unknown(reason: Reason, context: Context) -> Error {
        Error::Unknown {
            reason,
            context: Box::new(context),
        }
    }

    pub(crate) fn happened(reason: Reason, context: Context) -> Error {
        Error::Happened {
            reason,
            context: Box::new(context),
        }
    }

    const fn parts(&self) -> (&Reason, &Context) {
        match self {
            Error::DidNotHappen { reason, context }
            | Error::Happened { reason, context }
            | Error::Unknown { reason, context }
            | Error::SessionGone {
                reason, context, ..
            }
            | Error::NotAllowed { reason, context }
            | Error::BadArgument { reason, context } => (reason, context),
        }
    }

    /// It was this operation of a multi, counted from 0.
    pub(crate) fn of_op(mut self, index: usize, path: String) -> Error {
        let (Error::DidNotHappen { context, .. }
        | Error::Happened { context, .. }
        | Error::Unknown { context, .. }
        | Error::SessionGone { context, .. }
        | Error::NotAllowed { context, .. }
        | Error::BadArgument { context, .. }) = &mut self;
        context.failed_op = Some(index);
        context.path = path;
        self
    }

    const fn variant(&self) -> &'static str {
        match self {
            Error::DidNotHappen { .. } => "DidNotHappen",
            Error::Happened { .. } => "Happened",
            Error::Unknown { .. } => "Unknown",
            Error::SessionGone { .. } => "SessionGone",
            Error::NotAllowed { .. } => "NotAllowed",
            Error::BadArgument { .. } => "BadArgument",
        }
    }

    /// Whether it changed anything.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            Error::DidNotHappen { .. } | Error::NotAllowed { .. } | Error::BadArgument { .. } => {
                Outcome::DidNotHappen
            }
            Error::Happened { .. } => Outcome::Happened,
            Error::Unknown { .. } => Outcome::Unknown,
            Error::SessionGone { outcome, .. } => *outcome,
        }
    }

    /// Why it failed.
    #[must_use]
    pub const fn reason(&self) -> &Reason {
        self.parts().0
    }

    /// The server's code, if a server answered with one.
    #[must_use]
    pub const fn code(&self) -> Option<ErrorCode> {
        match self.reason() {
            Reason::Code(code) => Some(*code),
            _ => None,
        }
    }

    /// The path as the caller gave it; empty for operations without one.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.parts().1.path
    }

    /// The server that was asked last; empty if the operation never left.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.parts().1.server
    }

    /// From the call to the error, retries included.
    #[must_use]
    pub const fn elapsed(&self) -> Duration {
        self.parts().1.elapsed
    }

    /// In a multi: which of its operations was refused, from 0.
    #[must_use]
    pub const fn failed_op(&self) -> Option<usize> {
        self.parts().1.failed_op
    }

    /// Whether the same call may be made again as it is, in the same session, with hope.
    ///
    /// True only if it certainly did not happen and the cause may pass: no server in reach, too
    /// many requests waiting, a server that was overloaded. An unknown outcome is not retryable:
    /// the caller, or [`idempotent`](crate::SetData::idempotent) and
    /// [`protected`](crate::Create::protected), must find out first.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Error::DidNotHappen { reason, .. } => matches!(
                reason,
                Reason::ConnectionLost(_)
                    | Reason::NoServer(_)
                    | Reason::TimedOut
                    | Reason::TooManyWaiting { .. }
                    | Reason::Code(
                        ErrorCode::ThrottledOp | ErrorCode::NotReadOnly | ErrorCode::SessionMoved
                    )
            ),
            _ => false,
        }
    }

    /// Whether the session is over, so that nothing of it can be trusted any more.
    #[must_use]
    pub const fn is_session_lost(&self) -> bool {
        matches!(self, Error::SessionGone { .. })
    }

    /// Whether the znode does not exist.
    #[must_use]
    pub fn is_no_node(&self) -> bool {
        self.code() == Some(ErrorCode::NoNode)
    }

    /// Whether the znode exists already.
    #[must_use]
    pub fn is_node_exists(&self) -> bool {
        self.code() == Some(ErrorCode::NodeExists)
    }

    /// Whether the version was not the expected one.
    #[must_use]
    pub fn is_bad_version(&self) -> bool {
        self.code() == Some(ErrorCode::BadVersion)
    }

    /// Whether the znode has children.
    #[must_use]
    pub fn is_not_empty(&self) -> bool {
        self.code() == Some(ErrorCode::NotEmpty)
    }
}

/// A server's code in words that do not need the code's name.
const fn explain(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::NoNode => "the znode does not exist",
        ErrorCode::NodeExists => "the znode exists already",
        ErrorCode::BadVersion => "the version is not the expected one",
        ErrorCode::NotEmpty => "the znode has children",
        ErrorCode::NoChildrenForEphemerals => "the parent is ephemeral and can have no children",
        ErrorCode::NoAuth => "permission denied",
        ErrorCode::AuthFailed => "the server refused the credentials",
        ErrorCode::InvalidAcl => "the ACL is empty, or has an entry that the server does not know",
        ErrorCode::BadArguments => "the server refused the arguments",
        ErrorCode::MarshallingError => "the server could not read the request",
        ErrorCode::Unimplemented => "the server does not know this operation, or has it off",
        ErrorCode::SessionExpired => "the session has expired",
        ErrorCode::SessionMoved => "the session went on at another server",
        ErrorCode::NotReadOnly => "the server takes no writes now",
        ErrorCode::NoWatcher => "there is no such watch",
        ErrorCode::QuotaExceeded => "a quota would be exceeded",
        ErrorCode::ThrottledOp => "the server is overloaded and did not do it",
        ErrorCode::ReconfigDisabled => "reconfiguration is switched off",
        ErrorCode::ReconfigInProgress => "another reconfiguration is on its way",
        ErrorCode::NewConfigNoQuorum => "the new members are not connected and in step",
        ErrorCode::EphemeralOnLocalSession => "a local session can have no ephemerals",
        ErrorCode::SessionClosedRequireSaslAuth => "the server demands authentication",
        ErrorCode::RuntimeInconsistency => "an earlier operation of the multi was refused",
        code => code.name(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: ErrorCode) -> Error {
        let context = Context {
            op: "create",
            path: "/a".to_owned(),
            server: "zk1:2181".to_owned(),
            elapsed: Duration::from_millis(12),
            failed_op: None,
        };
        Error::from_code(code, context)
    }

    #[test]
    fn every_code_of_a_server_has_its_variant() {
        use ErrorCode as Code;
        for &code in Code::ALL {
            let expected = match code {
                Code::NoAuth
                | Code::AuthFailed
                | Code::SessionClosedRequireSaslAuth
                | Code::QuotaExceeded => "NotAllowed",
                Code::MarshallingError
                | Code::BadArguments
                | Code::Unimplemented
                | Code::InvalidAcl => "BadArgument",
                Code::SessionExpired | Code::UnknownSession => "SessionGone",
                Code::ConnectionLoss
                | Code::OperationTimeout
                | Code::RequestTimeout
                | Code::SystemError
                | Code::DataInconsistency => "Unknown",
                _ => "DidNotHappen",
            };
            let error = of(code);
            assert_eq!(error.variant(), expected, "{code}");
            assert_eq!(error.code(), Some(code));
            let is_unknown = expected == "Unknown";
            let outcome = match is_unknown {
                true => Outcome::Unknown,
                false => Outcome::DidNotHappen,
            };
            assert_eq!(error.outcome(), outcome, "{code}");
        }
    }

    #[test]
    fn only_what_did_not_happen_and_may_pass_is_retryable() {
        let retryable: Vec<_> = ErrorCode::ALL
            .iter()
            .copied()
            .filter(|&code| of(code).is_retryable())
            .collect();
        // A session that moved lives on: the same call may be made again in it.
        let expected = [
            ErrorCode::SessionMoved,
            ErrorCode::NotReadOnly,
            ErrorCode::ThrottledOp,
        ];
        assert_eq!(retryable, expected);
        let lost = || Reason::ConnectionLost("x".to_owned());
        assert!(Error::did_not_happen(lost(), Context::default()).is_retryable());
        assert!(!Error::unknown(lost(), Context::default()).is_retryable());
        assert!(!Error::happened(lost(), Context::default()).is_retryable());
    }

    #[test]
    fn messages_say_where_what_and_after_how_long() {
        let after = "at zk1:2181 after 12.0ms";
        for (error, text) in [
            (
                of(ErrorCode::NoNode),
                format!("create /a {after}: the znode does not exist"),
            ),
            (
                of(ErrorCode::NoAuth).of_op(2, "/b".to_owned()),
                format!("create /b, operation 2 {after}: permission denied"),
            ),
            (
                Error::unknown(Reason::TimedOut, Context::default()),
                ": outcome unknown: no answer in time".to_owned(),
            ),
            (
                Error::happened(
                    Reason::Codec("the data is no JSON".to_owned()),
                    Context {
                        op: "getData",
                        ..Context::default()
                    },
                ),
                "getData: it was done, but the data is no JSON".to_owned(),
            ),
        ] {
            assert_eq!(error.to_string(), text);
            assert_eq!(format!("{error:?}"), format!("{}({text})", error.variant()));
        }
        for &code in ErrorCode::ALL {
            let text = of(code).to_string();
            assert!(!text.ends_with('.') && !text.contains("Error("), "{text}");
        }
    }
}
