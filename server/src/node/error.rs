//! Why a server does not start, or go on.

use std::io;
use std::net::SocketAddr;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The operating system gave no threads.
    #[error("cannot start threads")]
    Runtime(#[source] io::Error),
    /// The client address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// The data directory, the log or a snapshot is in the way.
    #[error(transparent)]
    Storage(#[from] crate::replication::StartError),
}

/// Why a running server stopped by itself.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the server stopped: {cause}")]
#[non_exhaustive]
pub struct ServerFailed {
    /// What happened.
    pub cause: String,
}
