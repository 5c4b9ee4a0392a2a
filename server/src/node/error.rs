//! Why a server does not start, or go on.

use std::io;
use std::net::SocketAddr;

use crate::replication;

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
    /// The address where this server's peers reach it cannot be listened on.
    #[error(
        "cannot listen for the other servers: {source}. If the address is not this machine's, \
         `quorumListenOnAllIPs=true` listens on all of its addresses"
    )]
    BindPeers {
        /// What the operating system says, and of which address.
        source: io::Error,
    },
    /// What lies on disk, or who else uses it, is in the way.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What is wrong with the directories of a server.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StorageError(#[from] replication::StartError);

/// What kind of trouble a [`StorageError`] is, for those who react to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum StorageTrouble {
    /// A directory is missing, in use, or may not be read or written.
    Directory,
    /// The configuration and the data do not belong together.
    Mismatch,
    /// The data are damaged, or of a version that this server does not know.
    Data,
    /// The consensus engine did not start.
    Engine,
}

impl StorageError {
    /// What kind of trouble it is.
    #[must_use]
    pub fn trouble(&self) -> StorageTrouble {
        use replication::StartError as E;
        match self.0 {
            E::NoDirectory { .. } | E::Io { .. } | E::Locked(_) | E::ZooKeeperRuns { .. } => {
                StorageTrouble::Directory
            }
            E::OtherServer { .. }
            | E::IdentityMissing { .. }
            | E::OtherEnsemble { .. }
            | E::LogMissing { .. }
            | E::NotListed { .. }
            | E::MemberAlone { .. }
            | E::Times { .. }
            | E::ZooKeeperWentOn { .. } => StorageTrouble::Mismatch,
            E::Engine { .. } => StorageTrouble::Engine,
            _ => StorageTrouble::Data,
        }
    }
}

impl From<replication::StartError> for StartError {
    fn from(error: replication::StartError) -> StartError {
        StartError::Storage(StorageError(error))
    }
}

/// Why a running server stopped by itself.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the server stopped: {cause}")]
#[non_exhaustive]
pub struct ServerFailed {
    /// What happened.
    pub cause: String,
}

/// There is no such session.
#[cfg(feature = "testing")]
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there is no session {session}")]
pub struct NoSession {
    /// The session that was named.
    pub session: quorate_proto::SessionId,
}
