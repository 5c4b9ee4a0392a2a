//! Small files, read and written whole; and the directories that a server owns.

use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::disk::Disk;
use crate::disk::real::DirLockError;

/// The directory of ours within dataDir and dataLogDir. ZooKeeper's `version-2` stays beside it.
const OURS: &str = "quorate";
/// Where everything lies.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Snapshots and the identity.
    pub(super) data: PathBuf,
    /// The log.
    pub(super) log: PathBuf,
}

impl Layout {
    pub(super) fn new(config: &Config) -> Layout {
        let log_dir = config.data_log_dir.as_ref().unwrap_or(&config.data_dir);
        Layout {
            data: config.data_dir.join(OURS),
            log: log_dir.join(OURS),
        }
    }

    pub(super) fn identity(&self) -> PathBuf {
        self.data.join("identity")
    }

    /// Stands beside the identity of a member of an ensemble whose log holds something.
    pub(super) fn joined(&self) -> PathBuf {
        self.data.join("joined")
    }

    /// Claims the directories for this process, until the claim is dropped.
    pub(super) fn lock(&self, disk: &dyn Disk) -> Result<Claim, DirLockError> {
        let mut locks = Vec::new();
        let mut dirs = vec![&self.data];
        if self.log != self.data {
            dirs.push(&self.log);
        }
        for dir in dirs {
            locks.push(disk.lock(dir)?);
        }
        Ok(Claim { _locks: locks })
    }
}

/// No other process uses the directories while this lives.
pub(super) struct Claim {
    _locks: Vec<Box<dyn Any + Send + Sync>>,
}

/// All bytes of a file of at most `limit` bytes.
pub(super) fn read_file(disk: &dyn Disk, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path)?;
    let len = file.len()?;
    if len > limit {
        let message = format!("{len} bytes, at most {limit} expected");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let offset = u64::try_from(filled).map_err(io::Error::other)?;
        match file.read_at(rest, offset)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => filled += n,
        }
    }
    Ok(bytes)
}

/// Writes a file beside its place, then moves it there: after a crash the old or the new one
/// stands, whole.
pub(super) fn write_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let beside = path.with_extension("tmp");
    let file = disk.create(&beside)?;
    file.write_at(bytes, 0)?;
    file.sync_data()?;
    drop(file);
    disk.rename(&beside, path)?;
    disk.sync_dir(dir)
}
