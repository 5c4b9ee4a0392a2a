//! The snapshot files of one server: which there are, the newest that can be used, and purging.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tracing::{info, warn};

use super::fault::{Fault, FileFault};
use super::load::{self, SnapshotVisitor};
use super::receive::{Announced, SnapshotReceiver};
use super::record::SnapshotMeta;
use super::write::SnapshotWriter;
use crate::disk::{DiskFile, SharedDisk};

const PREFIX: &str = "snapshot.";
const TEMPORARY: &str = ".tmp";
/// What another server sends has a name of its own until it is whole: it may send the same twice.
const INCOMING: &str = "incoming.";

/// The name of a snapshot file: what it covers.
///
/// The order of names is the order of age: by log index, then by zxid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct SnapshotName {
    /// The last log entry in it; 0 before the first.
    pub(crate) index: u64,
    /// The last zxid in it.
    pub(crate) zxid: u64,
}

impl SnapshotName {
    pub(super) fn of(meta: &SnapshotMeta) -> SnapshotName {
        SnapshotName {
            index: meta.last_log.map_or(0, |(_, index)| index),
            zxid: meta.zxid.cast_unsigned(),
        }
    }

    /// The name before the file is complete.
    pub(super) fn temporary(&self) -> String {
        format!("{self}{TEMPORARY}")
    }

    fn parse(name: &str) -> Option<SnapshotName> {
        let (zxid, index) = name.strip_prefix(PREFIX)?.split_once('.')?;
        let name_of = SnapshotName {
            index: u64::from_str_radix(index, 16).ok()?,
            zxid: u64::from_str_radix(zxid, 16).ok()?,
        };
        // Only what we would write: no sign, no leading zeros.
        (name_of.to_string() == name).then_some(name_of)
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{:x}.{:x}", self.zxid, self.index)
    }
}

/// Which entries the log has: the first and the last index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LogReach {
    /// The oldest entry.
    pub(crate) first: u64,
    /// The newest entry.
    pub(crate) last: u64,
}

/// No snapshot can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The operating system said no.
    #[error("cannot read the snapshots")]
    Io(#[from] io::Error),
    /// A newer version of this server wrote it.
    #[error("a snapshot is of a newer version: upgrade this server")]
    Newer(#[source] FileFault),
    /// There are snapshots, and all are damaged.
    #[error("none of {tried} snapshots can be read; the newest says")]
    AllDamaged {
        /// How many there are.
        tried: usize,
        /// What is wrong with the newest.
        #[source]
        newest: FileFault,
    },
    /// Only an older snapshot can be read, and the log does not lead from it to where the damaged
    /// one was.
    #[error(
        "a snapshot up to entry {damaged} cannot be read; the one before ends at {usable}, and \
         the log does not lead from there to it"
    )]
    Unreachable {
        /// The last entry of the damaged one.
        damaged: u64,
        /// The last entry of the one that can be read.
        usable: u64,
        /// What is wrong with the damaged one.
        #[source]
        fault: FileFault,
    },
    /// Entries between the snapshot and the log are missing.
    #[error("the newest snapshot ends at entry {snapshot}, and the log begins at {log} only")]
    Gap {
        /// The last entry of the snapshot.
        snapshot: u64,
        /// The first entry of the log.
        log: u64,
    },
}

/// The directory of snapshots.
pub(crate) struct SnapshotStore {
    disk: SharedDisk,
    dir: PathBuf,
    level_max: u32,
    /// How many were received.
    received: AtomicU64,
    /// Read through or written by this process: these are not read again before a purge.
    verified: Mutex<BTreeSet<SnapshotName>>,
}

impl SnapshotStore {
    /// Opens a directory, making it if it is missing, and clears what was left half written.
    ///
    /// Snapshots of a level above `level_max` are refused (R25).
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn open(disk: SharedDisk, dir: &Path, level_max: u32) -> io::Result<SnapshotStore> {
        disk.create_dir_all(dir)?;
        let store = SnapshotStore {
            disk,
            dir: dir.to_owned(),
            level_max,
            received: AtomicU64::new(0),
            verified: Mutex::default(),
        };
        let mut cleared = false;
        for entry in store.disk.list(dir)? {
            let half_written =
                |name: &str| name.starts_with(INCOMING) || SnapshotName::parse(name).is_some();
            if entry.name.strip_suffix(TEMPORARY).is_some_and(half_written) {
                store.disk.remove(&dir.join(&entry.name))?;
                cleared = true;
            }
        }
        if cleared {
            store.disk.sync_dir(dir)?;
        }
        Ok(store)
    }

    /// The snapshots there are, newest first.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn list(&self) -> io::Result<Vec<SnapshotName>> {
        let mut names: Vec<_> = self
            .disk
            .list(&self.dir)?
            .iter()
            .filter_map(|entry| SnapshotName::parse(&entry.name))
            .collect();
        names.sort_unstable();
        names.reverse();
        Ok(names)
    }

    pub(super) fn disk(&self) -> &SharedDisk {
        &self.disk
    }

    pub(super) fn level_max(&self) -> u32 {
        self.level_max
    }

    /// Where a snapshot stands.
    pub(crate) fn path(&self, name: SnapshotName) -> PathBuf {
        self.dir.join(name.to_string())
    }

    /// Starts a new snapshot. Call [`SnapshotStore::written`] when it is finished.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn writer(&self, meta: &SnapshotMeta) -> io::Result<SnapshotWriter> {
        SnapshotWriter::create(&self.disk, &self.dir, meta)
    }

    /// Starts to take in a snapshot from another server, as long as it is what was announced.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn receive(
        self: &Arc<Self>,
        announced: Announced,
    ) -> Result<SnapshotReceiver, FileFault> {
        let count = self.received.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("{INCOMING}{count}{TEMPORARY}"));
        SnapshotReceiver::create(self.clone(), path, announced)
    }

    /// Gives a received file, checked and synced, its name.
    pub(super) fn name_file(&self, path: &Path, name: SnapshotName) -> io::Result<()> {
        self.disk.rename(path, &self.path(name))?;
        self.disk.sync_dir(&self.dir)?;
        self.written(name);
        Ok(())
    }

    /// Opens a snapshot for reading. Who has it open can read it to its end, purged or not.
    ///
    /// # Errors
    /// If the disk fails, or if it was purged.
    pub(crate) fn open_file(&self, name: SnapshotName) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(&self.path(name))
    }

    /// Notes that this process wrote it to the end.
    pub(crate) fn written(&self, name: SnapshotName) {
        self.verified.lock().insert(name);
    }

    /// Reads one snapshot.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn load<V: SnapshotVisitor>(
        &self,
        path: &Path,
        visitor: &mut V,
    ) -> Result<SnapshotMeta, FileFault> {
        let file = self
            .disk
            .open(path)
            .map_err(|error| Fault::Io(error).at(path, 0))?;
        load::load(&*file, path, self.level_max, visitor)
    }

    /// Builds a state from the newest snapshot that can be used; `None` if there is no snapshot.
    ///
    /// `build` is called for one snapshot after the other, newest first, until it succeeds. A
    /// damaged snapshot is passed over, with a warning, only if the log leads from the one before
    /// it to where it was: otherwise entries would be lost that were acknowledged.
    ///
    /// # Errors
    /// See [`LoadError`].
    pub(crate) fn load_newest<T>(
        &self,
        log: Option<LogReach>,
        mut build: impl FnMut(&SnapshotStore, SnapshotName) -> Result<T, FileFault>,
    ) -> Result<Option<T>, LoadError> {
        let mut damaged: Option<(SnapshotName, FileFault)> = None;
        let mut tried = 0;
        for name in self.list()? {
            tried += 1;
            match build(self, name) {
                Ok(state) => {
                    reachable(name, log, damaged)?;
                    self.verified.lock().insert(name);
                    info!(snapshot = %name, "loaded");
                    return Ok(Some(state));
                }
                Err(fault)
                    if matches!(
                        fault.fault,
                        Fault::UnknownVersion { .. } | Fault::UnknownLevel { .. }
                    ) =>
                {
                    return Err(LoadError::Newer(fault));
                }
                Err(fault) => {
                    warn!(
                        file = %fault.file.display(),
                        offset = fault.offset,
                        cause = %fault.fault,
                        "snapshot is not usable, trying the one before"
                    );
                    damaged.get_or_insert((name, fault));
                }
            }
        }
        match damaged {
            None => Ok(None),
            Some((_, newest)) => Err(LoadError::AllDamaged { tried, newest }),
        }
    }

    /// Removes all but the `keep` newest snapshots that are whole, at least one. Damaged ones do
    /// not count, and are removed once they are older than those kept. Returns what is kept,
    /// newest first.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn purge(&self, keep: usize) -> io::Result<Vec<SnapshotName>> {
        let mut kept = Vec::new();
        let mut removed = 0;
        for name in self.list()? {
            if kept.len() >= keep.max(1) {
                self.disk.remove(&self.path(name))?;
                self.verified.lock().remove(&name);
                removed += 1;
            } else if self.is_whole(name) {
                kept.push(name);
            }
        }
        if removed > 0 {
            self.disk.sync_dir(&self.dir)?;
            info!(removed, kept = kept.len(), "purged snapshots");
        }
        Ok(kept)
    }

    fn is_whole(&self, name: SnapshotName) -> bool {
        if self.verified.lock().contains(&name) {
            return true;
        }
        let path = self.path(name);
        let found = self
            .disk
            .open(&path)
            .map_err(|error| Fault::Io(error).at(&path, 0))
            .and_then(|file| load::verify(&*file, &path, self.level_max));
        match found {
            Ok(_) => {
                self.verified.lock().insert(name);
                true
            }
            Err(fault) => {
                warn!(
                    file = %fault.file.display(),
                    offset = fault.offset,
                    cause = %fault.fault,
                    "snapshot is damaged and does not count"
                );
                false
            }
        }
    }
}

/// Whether snapshot and log together hold every entry that ever was.
fn reachable(
    usable: SnapshotName,
    log: Option<LogReach>,
    damaged: Option<(SnapshotName, FileFault)>,
) -> Result<(), LoadError> {
    let begins = log.is_none_or(|log| log.first <= usable.index.saturating_add(1));
    match damaged {
        Some((name, fault)) => {
            let leads = name.index <= usable.index || log.is_some_and(|log| log.last >= name.index);
            if begins && leads {
                Ok(())
            } else {
                let (damaged, usable) = (name.index, usable.index);
                Err(LoadError::Unreachable {
                    damaged,
                    usable,
                    fault,
                })
            }
        }
        None => match log {
            Some(log) if !begins => Err(LoadError::Gap {
                snapshot: usable.index,
                log: log.first,
            }),
            Some(_) | None => Ok(()),
        },
    }
}
