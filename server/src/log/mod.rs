//! The write-ahead log: entries, votes, truncations, purges and committed hints in one stream.
//!
//! One thread writes and syncs. Whoever appends can read what he appended at once, and is told,
//! in order, when it is on stable storage. What stands in entries and votes is the caller's.
//!
//! Not here: when to purge, what an entry means, and whether a committed hint is plausible: it
//! is opaque, and the order of the stream alone sees to it that a hint is never found without the
//! entries that were appended before it was given.
//!
//! Invariants:
//! - What was acknowledged is found again after any crash, or the log refuses to open and says
//!   what is damaged. It never opens with a hole.
//! - After an error of the disk nothing is written or retried; everything later fails alike.
//! - Memory is bounded: the ring of recent entries, the queue, one frame's buffer, and 32 bytes
//!   for each frame that was not purged.

mod error;
mod format;
mod memory;
mod read;
mod recovery;
mod scan;
mod segment;
mod shared;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use self::format::{BODY_MAX, FrameBuf, RECORD_OVERHEAD};
use self::memory::Point;
use self::segment::Files;
use self::shared::{COMMAND_COST, Command, QUEUE_MAX, Shared, State, What};
use self::writer::{FSYNC_WARNING, Helper, Writer};
use crate::clock::SharedClock;
use crate::disk::SharedDisk;
use crate::metrics::Metrics;

pub(crate) use self::error::LogError;

/// Told once what was asked for is on stable storage, or that it may not be.
///
/// Called on the log's thread, in the order of the calls, and holding it up: be short, and do
/// not call back into the log. Only what is refused at once, because the log has failed or is
/// closed or the entries are no continuation, is told on the caller's own thread.
pub(crate) type Done = Box<dyn FnOnce(Result<(), LogError>) + Send>;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogEntry {
    /// Its place; one more than that of the entry before. The first ever is 0.
    pub(crate) index: u64,
    /// The term in which it was proposed.
    pub(crate) term: u64,
    /// What it says.
    pub(crate) body: Bytes,
}

/// What the log remembers besides entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogState {
    /// (term, index) up to which entries are gone.
    pub(crate) purged: Option<(u64, u64)>,
    /// (term, index) of the newest entry; what was purged last if there is none.
    pub(crate) last: Option<(u64, u64)>,
    /// The vote saved last.
    pub(crate) vote: Option<Bytes>,
    /// The committed hint saved last.
    pub(crate) committed: Option<Bytes>,
    /// Whose log this is.
    pub(crate) cluster_id: [u8; 16],
    /// Set if the last write before the start was found half done, and dropped.
    pub(crate) torn_tail: Option<TornTail>,
}

/// A write that was begun and never finished, hence never acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TornTail {
    /// The segment.
    pub(crate) path: PathBuf,
    /// Where it began.
    pub(crate) offset: u64,
}

/// How the log is kept.
#[derive(Clone, Debug)]
pub(crate) struct LogOptions {
    /// For a log that is made now; an existing one keeps its own ([`LogState::cluster_id`]).
    pub(crate) cluster_id: [u8; 16],
    /// Largest size of a segment, an oversized frame aside. Default 64 MiB.
    pub(crate) segment_bytes: u64,
    /// Size of the very first one; each further one is four times as large, up to the largest.
    /// Default 1 MiB: a new server is ready at once, and a small one stays small.
    pub(crate) first_segment_bytes: u64,
    /// Recent entries kept in memory. Default 4 MiB: what is on its way, and a moment more.
    pub(crate) ring_bytes: usize,
    /// `false`: acknowledge without a sync. A power failure then loses what was acknowledged.
    pub(crate) force_sync: bool,
    /// Warn about a sync that takes longer. Default 1 s.
    pub(crate) fsync_warning: Duration,
    /// Prepare and remove files on a second thread. `false` makes runs repeatable.
    pub(crate) helper_thread: bool,
    /// Where the salts of segments come from; `None`: the system's randomness.
    pub(crate) salt_seed: Option<u64>,
}

impl LogOptions {
    /// The defaults, for a cluster.
    pub(crate) fn new(cluster_id: [u8; 16]) -> LogOptions {
        LogOptions {
            cluster_id,
            segment_bytes: 64 << 20,
            first_segment_bytes: 1 << 20,
            ring_bytes: 4 << 20,
            force_sync: true,
            fsync_warning: FSYNC_WARNING,
            helper_thread: true,
            salt_seed: None,
        }
    }
}

/// A log that takes entries. Closed when dropped.
pub(crate) struct Log {
    shared: Arc<Shared>,
    cluster_id: [u8; 16],
    torn_tail: Option<TornTail>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Log {
    /// Opens the log in a directory, or starts one there, with the directory.
    ///
    /// The torn end of a last write is dropped and told in [`LogState::torn_tail`].
    pub(crate) fn open(
        disk: SharedDisk,
        dir: &Path,
        options: LogOptions,
        metrics: Arc<Metrics>,
        clock: SharedClock,
    ) -> Result<Log, LogError> {
        let (files, found) = Files::open(disk, dir).map_err(LogError::io("open", dir))?;
        let recovered = if found.segments.is_empty() {
            recovery::start_empty(&files, &options)?
        } else {
            recovery::replay(&files, &found.segments, &options)?
        };
        let files = Arc::new(files);
        let thread_failed = || LogError::io("start a thread for", dir);
        let helper = if options.helper_thread {
            Helper::spawn(Arc::clone(&files)).map_err(thread_failed())?
        } else {
            Helper::Inline
        };
        let kept = recovered.kept();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                memory: recovered.memory,
                index: recovered.index,
                segments: recovered.segments,
                queue: VecDeque::new(),
                queued_bytes: 0,
                waiting_for_room: 0,
                hint: None,
                idle: false,
                closing: false,
                failure: None,
            }),
            work: Condvar::new(),
            room: Condvar::new(),
        });
        let mut writer = Writer {
            shared: Arc::clone(&shared),
            files,
            helper,
            options,
            cluster_id: recovered.cluster_id,
            metrics,
            clock,
            buf: FrameBuf::default(),
            position: recovered.position,
            kept,
        };
        if recovered.rotate {
            writer.rotate()?;
        }
        let thread = std::thread::Builder::new()
            .name("quorate-log".to_owned())
            .spawn(move || writer.run())
            .map_err(thread_failed())?;
        Ok(Log {
            shared,
            cluster_id: recovered.cluster_id,
            torn_tail: recovered.torn_tail,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// What the log remembers besides entries, as its callers left it; not all of it need be
    /// on disk yet.
    pub(crate) fn state(&self) -> LogState {
        let state = self.shared.state.lock();
        let pair = |point: Point| (point.term, point.index);
        LogState {
            purged: state.memory.purged.map(pair),
            last: state.memory.last().map(pair),
            vote: state.memory.vote.clone(),
            committed: state.memory.committed.clone(),
            cluster_id: self.cluster_id,
            torn_tail: self.torn_tail.clone(),
        }
    }

    /// The term of an entry; `None` if it is purged, or not there yet.
    pub(crate) fn term_at(&self, index: u64) -> Option<u64> {
        self.shared.state.lock().memory.term_at(index)
    }

    /// Adds entries, which must follow the last one. They can be read on return.
    ///
    /// Waits while more than 32 MiB are on their way to the disk.
    pub(crate) fn append(&self, entries: Vec<LogEntry>, done: Done) {
        let bytes = entries
            .iter()
            .map(|entry| entry.body.len().saturating_add(RECORD_OVERHEAD))
            .fold(0, usize::saturating_add);
        if bytes > BODY_MAX {
            let limit = BODY_MAX;
            return done(Err(LogError::TooLarge { bytes, limit }));
        }
        self.submit(bytes, done, |state| {
            for (entry, expected) in entries.iter().zip(state.memory.next..) {
                let found = entry.index;
                if found != expected {
                    return Err(LogError::Gap { expected, found });
                }
            }
            for entry in &entries {
                state.memory.push(entry.clone());
            }
            state.memory.evict();
            Ok(What::Entries(entries))
        });
    }

    /// Remembers a vote; `done` before a peer may hear of it.
    pub(crate) fn save_vote(&self, vote: Bytes, done: Done) {
        self.submit(vote.len(), done, |state| {
            state.memory.vote = Some(vote.clone());
            Ok(What::Vote(vote))
        });
    }

    /// Remembers how far the cluster has committed. Goes to disk with the next frame, or when
    /// the log is closed; no sync of its own.
    pub(crate) fn save_committed(&self, committed: Bytes) {
        let mut state = self.shared.state.lock();
        state.memory.committed = Some(committed.clone());
        state.hint = Some(committed);
    }

    /// Drops the entries after an index; `None`: all. What is purged stays purged.
    pub(crate) fn truncate_after(&self, index: Option<u64>, done: Done) {
        self.submit(0, done, |state| {
            let next = index.map_or(0, |index| index.saturating_add(1));
            let next = next.max(state.memory.first());
            state.memory.truncate(next);
            Ok(What::Truncate { next })
        });
    }

    /// Drops the entries up to an index, which may lie beyond the last one: the log then goes on
    /// behind it. Call it when the snapshot that covers them is on disk.
    pub(crate) fn purge_to(&self, term: u64, index: u64, done: Done) {
        self.submit(0, done, |state| {
            let point = Point { term, index };
            state.memory.purge(point);
            Ok(What::Purge(point))
        });
    }

    /// Why the log takes nothing any more.
    pub(crate) fn failure(&self) -> Option<Arc<LogError>> {
        self.shared.state.lock().failure.clone()
    }

    /// Writes what waits, ends the threads. Later calls are answered with [`LogError::Closed`].
    pub(crate) fn close(&self) {
        let thread = {
            let mut state = self.shared.state.lock();
            state.closing = true;
            self.shared.work.notify_one();
            self.shared.room.notify_all();
            self.thread.lock().take()
        };
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            // A panic of the log thread has been printed, and shows in every callback that is
            // dropped uncalled.
            drop(thread.join());
        }
    }

    /// Changes memory and queues the command in one step: both see all calls in one order.
    fn submit(
        &self,
        bytes: usize,
        done: Done,
        change: impl FnOnce(&mut State) -> Result<What, LogError>,
    ) {
        let bytes = bytes.saturating_add(COMMAND_COST);
        let mut state = self.shared.state.lock();
        while state.queued_bytes > 0
            && state.queued_bytes.saturating_add(bytes) > QUEUE_MAX
            && !state.closing
        {
            state.waiting_for_room += 1;
            self.shared.room.wait(&mut state);
            state.waiting_for_room -= 1;
        }
        let refused = match (&state.failure, state.closing) {
            (Some(failure), _) => Some(failure.as_ref().clone()),
            (None, true) => Some(LogError::Closed),
            (None, false) => None,
        };
        let what = match refused {
            Some(error) => Err(error),
            None => change(&mut state),
        };
        match what {
            Ok(what) => {
                let epoch = state.memory.epoch;
                state.queued_bytes += bytes;
                state.queue.push_back(Command {
                    what,
                    epoch,
                    bytes,
                    done,
                });
                let wake = std::mem::take(&mut state.idle);
                drop(state);
                if wake {
                    self.shared.work.notify_one();
                }
            }
            Err(error) => {
                drop(state);
                done(Err(error));
            }
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.close();
    }
}
