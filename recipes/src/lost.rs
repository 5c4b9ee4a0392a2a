//! Why something that was held is not held any more.

use quorate_client::Reason;

/// Why a lock, a permit or a term is no longer held.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Lost {
    /// Nobody has confirmed our session for so long that its locks may go to another.
    #[error("nobody confirms the session any more, another may hold the lock from now on")]
    NotTrusted,
    /// The session is over.
    #[error("the session is over: {0}")]
    Session(Reason),
    /// Our znode was deleted by somebody else.
    #[error("the lock's znode was deleted by somebody else")]
    Deleted,
}
