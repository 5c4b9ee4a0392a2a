//! The file layer: everything durable goes through [`Disk`], so that tests can break it.
//!
//! `real` is the operating system. `sim` (tests only) keeps what was written apart from what was
//! synced, and on a crash forgets, tears and reorders the difference.

pub(crate) mod real;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod sim;

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A disk, shared by the log and the snapshots of one server.
pub(crate) type SharedDisk = Arc<dyn Disk>;

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirEntry {
    /// The file's name within its directory.
    pub(crate) name: String,
    /// Its length in bytes.
    pub(crate) len: u64,
}

/// What we ask of a file system.
///
/// A new, renamed or removed name is durable after [`Disk::sync_dir`] of its directory; content
/// is durable after [`DiskFile::sync_data`].
pub(crate) trait Disk: Send + Sync + 'static {
    /// Makes an empty file, replacing one of that name. Readable and writable.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file another name in one step, replacing what stood there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The files of a directory, in no order. Missing directory: `NotFound`.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// Makes a directory and its parents, durably.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Claims a directory for this process, until the claim is dropped. A disk that no other
    /// process can reach needs no claim.
    fn lock(&self, _dir: &Path) -> Result<Box<dyn Any + Send + Sync>, real::DirLockError> {
        Ok(Box::new(()))
    }
}

/// An open file. Offsets are explicit: there is no cursor to share.
pub(crate) trait DiskFile: Send + Sync {
    /// Reads up to `buf.len()` bytes; 0 at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `buf`, growing the file as needed.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Returns once all that was written is on stable storage. After an error nothing is known
    /// about what reached it, and a retry proves nothing: treat it as fatal.
    fn sync_data(&self) -> io::Result<()>;
    /// Bytes in the file.
    fn len(&self) -> io::Result<u64>;
}
