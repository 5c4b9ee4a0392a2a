//! Segment files: making, filling ahead, starting, recycling. Nothing of what stands in them.
//!
//! Three kinds of names: `<sequence>.wal` is part of the log; `<n>.spare` is ready to become so,
//! with zeros or the remains of a purged segment in it; `<n>.new` is unfinished and worth
//! nothing. A name changes to `.wal` once header and first frame are synced, and a purged segment
//! leaves the log, oldest first, each change of name synced before the next: the
//! `.wal` files that a crash leaves are always a run without gaps and without half-made members.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::format::Salt;
use crate::disk::{DiskFile, SharedDisk};

/// Spare files kept; more purged segments than this are removed.
const SPARES_MAX: usize = 2;
/// Filling goes in steps, each synced, so that the log's own syncs never wait for all of it.
const FILL_STEP: usize = 256 * 1024;

/// A file that is part of the log.
pub(super) struct Segment {
    pub(super) sequence: u64,
    pub(super) path: PathBuf,
    pub(super) file: Box<dyn DiskFile>,
    pub(super) salt: Salt,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment").field("path", &self.path).finish()
    }
}

/// A file that can become part of the log.
pub(super) struct Spare {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    /// Writes below this do not change the file's length or allocation.
    pub(super) filled: u64,
}

/// The log's directory.
pub(super) struct Files {
    disk: SharedDisk,
    dir: PathBuf,
    spares: Mutex<Vec<Spare>>,
    next_spare: AtomicU64,
    /// A purged segment could not be taken out: those after it must stay too.
    stuck: AtomicBool,
}

/// What stands in the directory at a start.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Sequences of the segments, rising.
    pub(super) segments: Vec<u64>,
}

impl Files {
    /// Opens the directory, making it if it is not there.
    pub(super) fn open(disk: SharedDisk, dir: &Path) -> io::Result<(Files, Found)> {
        disk.create_dir_all(dir)?;
        let entries = disk.list(dir)?;
        // A killed process may have left names that are not durable. We build on what we see.
        disk.sync_dir(dir)?;
        let mut found = Found::default();
        let mut spares = Vec::new();
        let mut next_spare = 0;
        for entry in entries {
            let Some((stem, kind)) = entry.name.split_once('.') else {
                continue;
            };
            let Ok(number) = u64::from_str_radix(stem, 16) else {
                continue;
            };
            match kind {
                "wal" => found.segments.push(number),
                "spare" => {
                    next_spare = next_spare.max(number + 1);
                    spares.push((dir.join(&entry.name), entry.len));
                }
                "new" => disk.remove(&dir.join(&entry.name))?,
                _ => {}
            }
        }
        found.segments.sort_unstable();
        let files = Files {
            disk,
            dir: dir.to_owned(),
            spares: Mutex::new(Vec::new()),
            next_spare: AtomicU64::new(next_spare),
            stuck: AtomicBool::new(false),
        };
        // The largest first: small ones are from the early days of the log.
        spares.sort_unstable_by_key(|(path, len)| (std::cmp::Reverse(*len), path.clone()));
        for (i, (path, filled)) in spares.into_iter().enumerate() {
            if i < SPARES_MAX {
                let file = files.disk.open(&path)?;
                files.spares.lock().push(Spare { path, file, filled });
            } else {
                files.disk.remove(&path)?;
            }
        }
        Ok((files, found))
    }

    /// The directory.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The name of a segment.
    pub(super) fn segment_path(&self, sequence: u64) -> PathBuf {
        self.dir.join(format!("{sequence:016x}.wal"))
    }

    /// Opens a segment's file.
    pub(super) fn open_segment(&self, sequence: u64) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(&self.segment_path(sequence))
    }

    /// A file that is ready, if there is one.
    pub(super) fn take_spare(&self) -> Option<Spare> {
        self.spares.lock().pop()
    }

    /// Whether a file is ready.
    pub(super) fn has_spare(&self) -> bool {
        !self.spares.lock().is_empty()
    }

    /// Makes a file with so many zeros in it, on disk.
    pub(super) fn make(&self, filled: u64) -> io::Result<Spare> {
        let number = self.next_spare.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.dir.join(format!("{number:016x}.new"));
        let file = self.disk.create(&unfinished)?;
        let path = self.dir.join(format!("{number:016x}.spare"));
        let fill = || {
            let step = usize::try_from(filled).map_or(FILL_STEP, |filled| filled.min(FILL_STEP));
            let zeros = vec![0; step];
            let mut offset = 0;
            while offset < filled {
                let left = usize::try_from(filled - offset).unwrap_or(usize::MAX);
                let zeros = zeros.get(..left).unwrap_or(&zeros);
                file.write_at(zeros, offset)?;
                file.sync_data()?;
                offset += zeros.len() as u64;
            }
            self.disk.rename(&unfinished, &path)
        };
        if let Err(error) = fill() {
            // Best effort: what remains is removed at the next start.
            drop(self.disk.remove(&unfinished));
            return Err(error);
        }
        Ok(Spare { path, file, filled })
    }

    /// Makes a file ready for [`Files::take_spare`].
    pub(super) fn prepare(&self, filled: u64) -> io::Result<()> {
        let spare = self.make(filled)?;
        self.spares.lock().push(spare);
        Ok(())
    }

    /// Turns a spare file into a segment that starts with these bytes. Durable on return.
    pub(super) fn start(
        &self,
        spare: Spare,
        sequence: u64,
        salt: Salt,
        start: &[u8],
    ) -> io::Result<Segment> {
        spare.file.write_at(start, 0)?;
        spare.file.sync_data()?;
        let path = self.segment_path(sequence);
        self.disk.rename(&spare.path, &path)?;
        self.disk.sync_dir(&self.dir)?;
        Ok(Segment {
            sequence,
            path,
            file: spare.file,
            salt,
        })
    }

    /// Takes purged segments out of the log, oldest first, and keeps some as spares of at least
    /// `keep_from` bytes.
    pub(super) fn retire(&self, segments: Vec<Arc<Segment>>, keep_from: u64) -> io::Result<()> {
        if self.stuck.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.stuck.store(true, Ordering::Relaxed);
        for segment in segments {
            // A reader that still holds the segment must not see it overwritten.
            let kept = match Arc::try_unwrap(segment) {
                Ok(segment) => {
                    let filled = segment.file.len()?;
                    let wanted = self.spares.lock().len() < SPARES_MAX && filled >= keep_from;
                    if wanted {
                        Ok((segment, filled))
                    } else {
                        Err(segment.path)
                    }
                }
                Err(shared) => Err(shared.path.clone()),
            };
            match kept {
                Ok((segment, filled)) => {
                    let number = self.next_spare.fetch_add(1, Ordering::Relaxed);
                    let path = self.dir.join(format!("{number:016x}.spare"));
                    self.disk.rename(&segment.path, &path)?;
                    self.disk.sync_dir(&self.dir)?;
                    let file = segment.file;
                    self.spares.lock().push(Spare { path, file, filled });
                }
                Err(path) => {
                    self.disk.remove(&path)?;
                    self.disk.sync_dir(&self.dir)?;
                }
            }
        }
        self.stuck.store(false, Ordering::Relaxed);
        Ok(())
    }
}
