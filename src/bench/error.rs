//! What ends a run before its time.

use std::io;

use quorate_proto::frame::FrameError;
use quorate_proto::jute::DecodeError;

/// A run that could not be finished. Requests that the server refuses are counted, not raised.
#[derive(Debug, thiserror::Error)]
pub(super) enum BenchError {
    #[error("cannot {doing}")]
    Io { doing: String, source: io::Error },
    #[error("no address in `{0}`: host:port is needed")]
    NoAddress(String),
    #[error("the server closed connection {conn} with {pending} requests unanswered")]
    ConnectionLost { conn: usize, pending: usize },
    #[error("the server refused a session")]
    SessionRefused,
    #[error("connection {conn} was answered out of order: xid {found} in place of {expected}")]
    OutOfOrder {
        conn: usize,
        expected: i32,
        found: i32,
    },
    #[error("the server broke the protocol")]
    Decode(#[from] DecodeError),
    #[error("the server broke the framing")]
    Frame(#[from] FrameError),
    #[error("{op} of {path} failed with {code}")]
    Refused {
        op: &'static str,
        path: String,
        code: i32,
    },
    #[error("{missing} sessions did not open within {waited_s} s")]
    TooSlow { missing: usize, waited_s: u64 },
    #[error("{errors} of {total} requests failed")]
    Errors { errors: u64, total: u64 },
    #[error("a thread of the generator ended early")]
    ThreadLost,
}

impl BenchError {
    /// For `map_err` on I/O.
    pub(super) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> BenchError {
        let doing = doing.into();
        move |source| BenchError::Io { doing, source }
    }

    /// The same for calls without the standard library.
    pub(super) fn os(doing: &'static str) -> impl FnOnce(rustix::io::Errno) -> BenchError {
        move |errno| BenchError::Io {
            doing: doing.to_owned(),
            source: errno.into(),
        }
    }
}
