//! What can be wrong with a file, and where in it.

use std::io;
use std::path::{Path, PathBuf};

/// A file cannot be trusted.
#[derive(Debug, thiserror::Error)]
#[error("{} is not usable: offset {offset}", file.display())]
pub struct FileFault {
    /// The file.
    pub file: PathBuf,
    /// Where reading stopped to make sense, in bytes of the content (after decompression).
    pub offset: u64,
    /// Why.
    #[source]
    pub fault: Fault,
}

/// Why a file cannot be trusted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The operating system said no, or a compressed stream is broken.
    #[error("reading failed")]
    Io(#[from] io::Error),
    /// It ends in the middle of something.
    #[error("the file ends within a record")]
    Truncated,
    /// A length that cannot be.
    #[error("length {declared} of {field}, where at most {limit} are allowed")]
    BadLength {
        /// Of what.
        field: &'static str,
        /// What stands there.
        declared: i64,
        /// What may stand there.
        limit: u64,
    },
    /// The first bytes are not those of such a file.
    #[error("this is no {expected}")]
    WrongMagic {
        /// What it should be.
        expected: &'static str,
    },
    /// Another version of the format.
    #[error("format version {found}, where this server knows {known}")]
    UnknownVersion {
        /// What stands there.
        found: i64,
        /// What we read.
        known: i64,
    },
    /// Rules of apply that this server does not have.
    #[error("level {found}, where this server knows levels up to {known}")]
    UnknownLevel {
        /// What stands there.
        found: u32,
        /// The highest that we have.
        known: u32,
    },
    /// Another snapshot than the one that was announced.
    #[error("{what} is not what was announced")]
    NotAnnounced {
        /// Where they differ.
        what: &'static str,
    },
    /// Content and checksum differ.
    #[error("checksum {stored:#x} stored, {computed:#x} computed")]
    Checksum {
        /// What stands there.
        stored: u64,
        /// What the content gives.
        computed: u64,
    },
    /// Content that no writer produces.
    #[error("{0}")]
    Malformed(&'static str),
    /// A znode without a parent.
    #[error("{path} comes before its parent")]
    Orphan {
        /// The znode.
        path: String,
    },
    /// A transaction of a type that this server does not know.
    #[error("transaction type {0} is unknown")]
    UnknownTxn(i32),
    /// Transactions out of order.
    #[error("zxid {found:#x} after {last:#x}")]
    FallingZxid {
        /// The one before.
        last: i64,
        /// The one found.
        found: i64,
    },
    /// A broken record, and the next file does not go on where it stood.
    #[error("zxid {found:#x} after {last:#x} and a broken record")]
    Gap {
        /// The last before the broken record.
        last: i64,
        /// The first behind it.
        found: i64,
    },
    /// A broken record with whole ones behind it: damage, not the end of what was written.
    #[error("a broken record, although a whole one follows at offset {next}")]
    Hole {
        /// Where the next whole record starts.
        next: u64,
    },
    /// The znodes do not make a tree.
    #[error("the znodes do not make a tree")]
    Tree(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// What was counted is not what was announced.
    #[error("{found} {what}, where {expected} were announced")]
    Count {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// How many were announced.
        expected: u64,
    },
    /// The tree is not the one that was written.
    #[error("tree digest {found:#x}, where {expected:#x} was recorded")]
    Digest {
        /// What the tree gives.
        found: u64,
        /// What stands in the file.
        expected: u64,
    },
}

impl Fault {
    /// The state refused what the file holds.
    pub(crate) fn tree(error: crate::tree::LoadError) -> Fault {
        Fault::Tree(Box::new(error))
    }

    /// This fault, in that file.
    pub(crate) fn at(self, file: &Path, offset: u64) -> FileFault {
        FileFault {
            file: file.to_owned(),
            offset,
            fault: self,
        }
    }
}
