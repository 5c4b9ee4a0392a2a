//! Group commit: one thread that writes and syncs, one batch at a time, in the order given.
//!
//! The file is full of zeros from the start and is written round and round: a sync then carries
//! data and no metadata, which is the cheapest that a disk can do.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, eventfd};

use crate::bench::error::BenchError;

const FILE_BYTES: u64 = 64 << 20;
const FILE_NAME: &str = "null-server.log";

/// The log thread, seen from the loop.
#[derive(Debug)]
pub(super) struct Disk {
    work: Option<Sender<Vec<u8>>>,
    shared: Arc<Shared>,
    /// Batches handed over.
    given: u64,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Batches that are safe.
    synced: AtomicU64,
    failed: AtomicBool,
    wake: OwnedFd,
    /// A buffer to use again, so that batches need no allocation.
    spare: Mutex<Vec<u8>>,
}

impl Disk {
    pub(super) fn open(dir: &Path) -> Result<Disk, BenchError> {
        let doing = || format!("open a log in {}", dir.display());
        let file = zero_filled(&dir.join(FILE_NAME)).map_err(BenchError::io(doing()))?;
        let shared = Arc::new(Shared {
            synced: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
                .map_err(BenchError::os("create an eventfd"))?,
            spare: Mutex::default(),
        });
        // At most one batch is in it: the next is given when this one is safe.
        let (work, batches) = channel();
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("null-log".to_owned())
            .spawn(move || write_all(&file, &batches, &for_thread))
            .map_err(BenchError::io("start the log thread"))?;
        Ok(Disk {
            work: Some(work),
            shared,
            given: 0,
            thread: Some(thread),
        })
    }

    /// A disk that syncs nothing until the other half says so.
    #[cfg(test)]
    pub(super) fn held() -> (Disk, Held) {
        let shared = Arc::new(Shared {
            synced: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            wake: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap(),
            spare: Mutex::default(),
        });
        let (work, batches) = channel();
        let held = Held {
            shared: Arc::clone(&shared),
            batches,
        };
        let disk = Disk {
            work: Some(work),
            shared,
            given: 0,
            thread: None,
        };
        (disk, held)
    }

    /// Becomes readable when a batch is safe.
    pub(super) fn wake(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }

    /// Whether the last batch is safe, and there can be another.
    pub(super) fn idle(&self) -> Result<bool, BenchError> {
        if self.shared.failed.load(Ordering::Acquire) {
            let source = io::Error::other("see the log thread's file system");
            return Err(BenchError::io("sync the log")(source));
        }
        Ok(self.shared.synced.load(Ordering::Acquire) == self.given)
    }

    /// Resets [`Disk::wake`].
    pub(super) fn woken(&self) {
        let mut count = [0; 8];
        // Nothing to read: then it is reset.
        let _ = rustix::io::read(&self.shared.wake, &mut count);
    }

    /// Hands a batch over, and takes an empty buffer in its place.
    pub(super) fn give(&mut self, batch: &mut Vec<u8>) {
        let spare = &mut *self
            .shared
            .spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let batch = std::mem::replace(batch, std::mem::take(spare));
        if let Some(work) = &self.work
            && work.send(batch).is_ok()
        {
            self.given += 1;
        }
    }
}

/// The other half of [`Disk::held`].
#[cfg(test)]
pub(super) struct Held {
    shared: Arc<Shared>,
    batches: Receiver<Vec<u8>>,
}

#[cfg(test)]
impl Held {
    /// Syncs the batch that was given, and returns it.
    pub(super) fn sync(&self) -> Option<Vec<u8>> {
        let batch = self.batches.try_recv().ok()?;
        self.shared.synced.fetch_add(1, Ordering::Release);
        rustix::io::write(&self.shared.wake, &1u64.to_ne_bytes()).unwrap();
        Some(batch)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            // It ends with its channel; a panic in it has been printed.
            let _ = thread.join();
        }
    }
}

fn zero_filled(path: &Path) -> io::Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)?;
    if file.metadata()?.len() != FILE_BYTES {
        let zeros = vec![0; 1 << 20];
        let mut at = 0;
        while at < FILE_BYTES {
            file.write_all_at(&zeros, at)?;
            at += 1 << 20;
        }
        file.set_len(FILE_BYTES)?;
        file.sync_all()?;
    }
    Ok(file)
}

fn write_all(file: &File, batches: &Receiver<Vec<u8>>, shared: &Shared) {
    let mut at = 0;
    while let Ok(mut batch) = batches.recv() {
        let len = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        if at + len > FILE_BYTES {
            at = 0;
        }
        let written = file
            .write_all_at(&batch, at)
            .and_then(|()| file.sync_data());
        at += len;
        batch.clear();
        *shared.spare.lock().unwrap_or_else(PoisonError::into_inner) = batch;
        match written {
            Ok(()) => shared.synced.fetch_add(1, Ordering::Release),
            Err(_) => {
                shared.failed.store(true, Ordering::Release);
                0
            }
        };
        // A counter that is full wakes as well.
        let _ = rustix::io::write(&shared.wake, &1u64.to_ne_bytes());
    }
}
