//! The operating system's files, and the lock of a data directory.
//!
//! Not here: any caching or retry. What the kernel answers is handed on as it is.

use std::any::Any;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::{DirEntry, Disk, DiskFile};

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        // Data, hashes of passwords, and the key that makes the passwords of sessions: for the
        // server's own user.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Box::new(RealFile(file)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            // A name that is not UTF-8 is none of ours.
            if let (true, Ok(name)) = (meta.is_file(), entry.file_name().into_string()) {
                found.push(DirEntry {
                    name,
                    len: meta.len(),
                });
            }
        }
        Ok(found)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = match dir.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        self.create_dir_all(parent)?;
        match fs::create_dir(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        self.sync_dir(parent)
    }

    fn lock(&self, dir: &Path) -> Result<Box<dyn Any + Send + Sync>, DirLockError> {
        Ok(Box::new(DirLock::acquire(dir)?))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

/// An open file of the operating system.
struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(buf, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

/// Why a data directory could not be claimed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirLockError {
    /// Another process works on it.
    #[error(
        "{} is in use by another process: stop that server, or give this one a data directory of its own",
        .0.display()
    )]
    InUse(PathBuf),
    /// The lock file cannot be made or opened.
    #[error("cannot lock {}", dir.display())]
    Io {
        /// The data directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Sole use of a data directory, for as long as this lives; the system ends it with the process.
///
/// The file `LOCK` stays behind: to remove it would let two processes lock two files of that name.
#[derive(Debug)]
#[must_use = "the directory is free again when this is dropped"]
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    /// Claims an existing directory.
    pub(crate) fn acquire(dir: &Path) -> Result<DirLock, DirLockError> {
        let failed = |source| DirLockError::Io {
            dir: dir.to_owned(),
            source,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join("LOCK"))
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(DirLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(DirLockError::InUse(dir.to_owned())),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_listed() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b");
        RealDisk.create_dir_all(&deep).unwrap();
        RealDisk.create_dir_all(&deep).unwrap();
        let file = RealDisk.create(&deep.join("x")).unwrap();
        file.write_at(b"hello", 3).unwrap();
        file.sync_data().unwrap();
        RealDisk.rename(&deep.join("x"), &deep.join("y")).unwrap();
        RealDisk.sync_dir(&deep).unwrap();
        let entry = DirEntry {
            name: "y".to_owned(),
            len: 8,
        };
        assert_eq!(RealDisk.list(&deep).unwrap(), [entry]);
        let mut buf = [9; 10];
        let file = RealDisk.open(&deep.join("y")).unwrap();
        assert_eq!(file.read_at(&mut buf, 0).unwrap(), 8);
        assert_eq!(&buf[..8], b"\0\0\0hello");
        assert_eq!(file.len().unwrap(), 8);
        RealDisk.remove(&deep.join("y")).unwrap();
        assert_eq!(RealDisk.list(&deep).unwrap(), []);
    }

    #[cfg(unix)]
    #[test]
    fn what_is_created_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        drop(RealDisk.create(&path).unwrap());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
    }

    #[test]
    fn a_missing_directory_and_file_are_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let nowhere = dir.path().join("nowhere");
        assert_eq!(
            RealDisk.list(&nowhere).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        assert_eq!(
            RealDisk.open(&nowhere).map(|_| ()).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn a_directory_has_one_owner_at_a_time_and_the_refusal_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirLock::acquire(dir.path()).unwrap();
        let refused = DirLock::acquire(dir.path()).unwrap_err();
        assert!(matches!(refused, DirLockError::InUse(_)));
        let name = dir.path().display().to_string();
        assert!(refused.to_string().contains(&name), "{refused}");
        drop(lock);
        drop(DirLock::acquire(dir.path()).unwrap());
    }
}
