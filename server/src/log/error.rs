//! What can go wrong with the log, told to whoever has to act on it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Why the log cannot be opened, or no longer takes anything.
///
/// `Clone`, because one failure of the disk is the answer to everybody who waits.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum LogError {
    /// The disk failed. What was in flight may or may not be on it; the log stays closed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: "write to", "sync" …
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// Synced data is damaged: it is followed by data that was written later.
    #[error(
        "{} is damaged at byte {offset}: {what}. This is not the torn end of a last write, \
         acknowledged writes stand behind it. Restore this directory from a backup; \
         if this server is one of an ensemble, empty its data directory and admit it anew",
        path.display()
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What was found.
        what: &'static str,
    },
    /// A segment between two others, or before the first, is gone.
    #[error(
        "log segment {} is missing: restore it, it holds acknowledged writes", path.display()
    )]
    Missing {
        /// The segment that should be there.
        path: PathBuf,
    },
    /// Written by a version of Quorate that this one does not know (R25).
    #[error(
        "{} has log format {version}, this server knows formats up to {known}: upgrade this server",
        path.display()
    )]
    UnknownFormat {
        /// The segment.
        path: PathBuf,
        /// Its format.
        version: u32,
        /// The newest format that we know.
        known: u32,
    },
    /// Entries must be handed over without gaps.
    #[error("entry {found} does not follow the log, whose next index is {expected}")]
    Gap {
        /// The index that comes next.
        expected: u64,
        /// The index that was given.
        found: u64,
    },
    /// More than one frame can hold.
    #[error("an append of {bytes} bytes exceeds the limit of {limit} bytes")]
    TooLarge {
        /// What was given.
        bytes: usize,
        /// The most that is taken.
        limit: usize,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

impl LogError {
    /// Wraps what the disk said.
    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> LogError {
        let path = path.into();
        move |source| LogError::Io {
            action,
            path,
            source: Arc::new(source),
        }
    }
}
