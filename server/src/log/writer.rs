//! The log thread: takes what waits, writes it as one frame, syncs, tells everybody in order.
//!
//! Sync at once and collect meanwhile: the sync itself is the time in which the next batch
//! gathers, so an idle log answers after one sync and a busy one groups as much as there is.
//!
//! Invariants: a frame is written only after the sync of the one before has returned. After an
//! error nothing is written any more, and nothing is retried: a second fsync would answer "fine"
//! for pages that the kernel has thrown away.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use tracing::warn;

use super::format::{
    BODY_MAX, FRAME_HEADER, FrameBuf, Record, Salt, SegmentHeader, next_frame_offset,
};
use super::memory::{FrameRef, Point};
use super::segment::{Files, Segment};
use super::shared::{Command, Shared, What};
use super::{LogError, LogOptions};
use crate::clock::SharedClock;
use crate::metrics::Metrics;

/// A frame takes no further command beyond this.
const FRAME_TARGET: usize = 4 << 20;
/// Buffer that is kept between frames.
const BUFFER_KEPT: usize = 1 << 20;

/// What the log thread owns.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) files: Arc<Files>,
    pub(super) helper: Helper,
    pub(super) options: LogOptions,
    pub(super) cluster_id: [u8; 16],
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: SharedClock,
    pub(super) buf: FrameBuf,
    pub(super) position: Position,
    pub(super) kept: Kept,
}

/// Where the next frame goes.
pub(super) struct Position {
    pub(super) segment: Arc<Segment>,
    pub(super) offset: u64,
    /// Writes below this do not grow the file.
    pub(super) filled: u64,
    /// Where the segment's own first frame ended.
    pub(super) start: u64,
    /// The helper was asked for the file that follows.
    pub(super) asked: bool,
    pub(super) next_frame: u64,
    pub(super) next_index: u64,
}

/// What each segment repeats at its start, so that the segments before it can go.
#[derive(Clone, Default)]
pub(super) struct Kept {
    pub(super) purged: Option<Point>,
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<Bytes>,
}

/// What a segment starts with.
pub(super) struct Start {
    pub(super) sequence: u64,
    pub(super) first_index: u64,
    pub(super) first_frame: u64,
}

/// Makes a segment the end of the log: header and first frame are on disk on return.
pub(super) fn start_segment(
    files: &Files,
    options: &LogOptions,
    cluster_id: [u8; 16],
    kept: &Kept,
    filled: u64,
    start: &Start,
) -> Result<Position, LogError> {
    let path = files.segment_path(start.sequence);
    let spare = match files.take_spare() {
        Some(spare) => spare,
        None => files.make(filled).map_err(LogError::io("create", &path))?,
    };
    let salt = Salt::from_bits(match options.salt_seed {
        Some(seed) => StdRng::seed_from_u64(seed ^ start.sequence).next_u64(),
        None => rand::random(),
    });
    let header = SegmentHeader {
        cluster_id,
        sequence: start.sequence,
        first_index: start.first_index,
        first_frame: start.first_frame,
        salt,
        unsynced: !options.force_sync,
    };
    let mut buf = FrameBuf::default();
    buf.clear(0);
    if let Some(Point { term, index }) = kept.purged {
        buf.put(Record::Purge { term, index });
    }
    if let Some(vote) = &kept.vote {
        buf.put(Record::Vote(vote));
    }
    if let Some(committed) = &kept.committed {
        buf.put(Record::Committed(committed));
    }
    let mut bytes = header.encode();
    bytes.extend_from_slice(buf.seal(start.sequence, start.first_frame, salt));
    let filled = spare.filled.max(bytes.len() as u64);
    let segment = files
        .start(spare, start.sequence, salt, &bytes)
        .map_err(LogError::io("start", &path))?;
    Ok(Position {
        segment: Arc::new(segment),
        offset: bytes.len() as u64,
        filled,
        start: bytes.len() as u64,
        asked: false,
        next_frame: start.first_frame + 1,
        next_index: start.first_index,
    })
}

impl Writer {
    /// The thread's whole life: until the log is closed and nothing waits.
    pub(super) fn run(mut self) {
        let mut taken = VecDeque::new();
        loop {
            let (mut hint, closing) = self.take(&mut taken);
            if taken.is_empty() && closing {
                if hint.is_some() {
                    self.write_frame(&mut taken, &mut hint);
                }
                self.helper.stop();
                return;
            }
            while !taken.is_empty() {
                self.write_frame(&mut taken, &mut hint);
            }
        }
    }

    /// Waits for commands and takes all of them.
    fn take(&self, taken: &mut VecDeque<Command>) -> (Option<Bytes>, bool) {
        let mut state = self.shared.state.lock();
        while state.queue.is_empty() && !state.closing {
            state.idle = true;
            self.shared.work.wait(&mut state);
        }
        state.idle = false;
        std::mem::swap(&mut state.queue, taken);
        (state.hint.take(), state.closing)
    }

    /// Writes the first commands of the queue as one frame, and answers them.
    fn write_frame(&mut self, queue: &mut VecDeque<Command>, hint: &mut Option<Bytes>) {
        self.buf.clear(BUFFER_KEPT);
        let mut batch = Vec::new();
        let mut entries = 0_u64;
        while self.buf.body_len() < FRAME_TARGET
            && let Some(command) = queue.pop_front_if(|command| {
                self.buf.body_len() == 0 || self.buf.body_len() + command.bytes <= BODY_MAX
            })
        {
            entries += self.put(&command.what);
            batch.push(command);
        }
        // It may speak of everything in the queue, so it goes last.
        let hint = if queue.is_empty() { hint.take() } else { None };
        if let Some(committed) = &hint {
            self.buf.put(Record::Committed(committed));
        }
        let failure = self.shared.state.lock().failure.clone();
        let written = match failure {
            Some(failure) => Err(failure.as_ref().clone()),
            None => self.store(),
        };
        let result = match written {
            Ok(frame) => {
                if entries > 0 {
                    self.metrics.batch_size.record(entries);
                }
                // Not earlier: a segment must not start with a hint of what is yet to come.
                self.kept.committed = hint.or(self.kept.committed.take());
                self.publish(&batch, frame);
                Ok(())
            }
            Err(error) => {
                let mut state = self.shared.state.lock();
                state.failure.get_or_insert_with(|| Arc::new(error.clone()));
                Err(error)
            }
        };
        let mut bytes = 0;
        for command in batch {
            bytes += command.bytes;
            (command.done)(result.clone());
        }
        let mut state = self.shared.state.lock();
        state.queued_bytes = state.queued_bytes.saturating_sub(bytes);
        if state.waiting_for_room > 0 {
            self.shared.room.notify_all();
        }
    }

    /// Adds a command's records to the frame. Returns the entries among them.
    fn put(&mut self, what: &What) -> u64 {
        match what {
            What::Entries(entries) => {
                for entry in entries {
                    self.buf.put(Record::Entry {
                        index: entry.index,
                        term: entry.term,
                        body: &entry.body,
                    });
                }
                return entries.len() as u64;
            }
            What::Vote(vote) => self.buf.put(Record::Vote(vote)),
            What::Truncate { next } => self.buf.put(Record::Truncate { next: *next }),
            What::Purge(Point { term, index }) => self.buf.put(Record::Purge {
                term: *term,
                index: *index,
            }),
        }
        0
    }

    /// Puts the frame on disk.
    fn store(&mut self) -> Result<FrameRef, LogError> {
        let body_len = self.buf.body_len();
        self.make_room((FRAME_HEADER + body_len) as u64)?;
        let Position {
            segment,
            offset,
            filled,
            next_frame,
            ..
        } = &mut self.position;
        let frame = FrameRef {
            first: 0,
            segment: segment.sequence,
            offset: *offset,
            body_len: u32::try_from(body_len).unwrap_or(u32::MAX),
        };
        let bytes = self.buf.seal(segment.sequence, *next_frame, segment.salt);
        segment
            .file
            .write_at(bytes, *offset)
            .map_err(LogError::io("write to", &segment.path))?;
        *offset = next_frame_offset(*offset, bytes.len() as u64);
        *filled = (*filled).max(*offset);
        *next_frame += 1;
        if self.options.force_sync {
            self.sync()?;
        }
        Ok(frame)
    }

    fn sync(&self) -> Result<(), LogError> {
        let segment = &self.position.segment;
        let before = self.clock.monotonic();
        segment
            .file
            .sync_data()
            .map_err(LogError::io("sync", &segment.path))?;
        let took = self.clock.monotonic().saturating_sub(before);
        let took_ms = u64::try_from(took.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        self.metrics.fsync_ms.record(took_ms);
        if took > self.options.fsync_warning {
            self.metrics.fsync_threshold_exceeded.inc();
            // ZooKeeper's words, which operators search their logs for.
            warn!(
                "fsync-ing the write ahead log in {} took {}ms which will adversely effect \
                 operation latency. File size is {} bytes",
                std::thread::current().name().unwrap_or("quorate-log"),
                took.as_millis(),
                self.position.filled,
            );
        }
        Ok(())
    }

    /// Starts a new segment if the frame does not fit into this one, and sees to it that a file
    /// is ready when that happens.
    fn make_room(&mut self, frame_len: u64) -> Result<(), LogError> {
        let end = self.position.offset + frame_len;
        let fits = end <= self.position.filled;
        if end > self.position.filled / 2 && !self.position.asked && !self.files.has_spare() {
            self.position.asked = true;
            self.helper.prepare(&self.files, self.next_filled());
        }
        // Without a file at hand a young segment grows, a little slower, and nobody waits.
        let grows = !self.files.has_spare() && end <= self.options.segment_bytes;
        let untouched = self.position.offset == self.position.start;
        if fits || grows || untouched {
            return Ok(());
        }
        self.rotate()
    }

    /// Length of the file that follows this one.
    fn next_filled(&self) -> u64 {
        self.position
            .filled
            .saturating_mul(4)
            .min(self.options.segment_bytes)
    }

    /// Goes on in a new segment.
    pub(super) fn rotate(&mut self) -> Result<(), LogError> {
        let old = &self.position;
        // Frames of the new segment vouch for all frames of this one.
        old.segment
            .file
            .sync_data()
            .map_err(LogError::io("sync", &old.segment.path))?;
        let start = Start {
            sequence: old.segment.sequence + 1,
            first_index: old.next_index,
            first_frame: old.next_frame,
        };
        self.position = start_segment(
            &self.files,
            &self.options,
            self.cluster_id,
            &self.kept,
            0,
            &start,
        )?;
        let mut state = self.shared.state.lock();
        state.segments.push_back(Arc::clone(&self.position.segment));
        Ok(())
    }

    /// Lets readers find on disk what stands there now, and lets go of what was purged.
    fn publish(&mut self, batch: &[Command], frame: FrameRef) {
        let mut purged = false;
        let mut state = self.shared.state.lock();
        let state_now = &mut *state;
        for command in batch {
            match &command.what {
                What::Entries(entries) => {
                    for entry in entries {
                        state_now.index.push(entry.index, frame);
                    }
                    state_now
                        .memory
                        .written(state_now.index.next, command.epoch);
                }
                What::Vote(vote) => self.kept.vote = Some(vote.clone()),
                What::Truncate { next } => state_now.index.truncate(*next),
                What::Purge(point) => {
                    state_now.index.purge(point.index);
                    self.kept.purged = Some(*point);
                    purged = true;
                }
            }
        }
        self.position.next_index = state_now.index.next;
        if purged {
            let active = self.position.segment.sequence;
            let keep = state_now.index.oldest_segment().unwrap_or(active);
            let mut gone = Vec::new();
            while let Some(segment) = state_now
                .segments
                .pop_front_if(|segment| segment.sequence < keep.min(active))
            {
                gone.push(segment);
            }
            drop(state);
            if !gone.is_empty() {
                let keep_from = self.options.segment_bytes;
                self.helper.retire(&self.files, gone, keep_from);
            }
        }
    }
}

/// Runs what the log thread should not wait for.
pub(super) enum Helper {
    /// On a thread of its own.
    Thread {
        jobs: Option<SyncSender<Job>>,
        thread: Option<JoinHandle<()>>,
    },
    /// At once, by whoever asks: for runs that must come out the same every time.
    Inline,
}

/// Work for the helper.
pub(super) enum Job {
    Prepare { filled: u64 },
    Retire(Vec<Arc<Segment>>, u64),
}

impl Helper {
    /// Starts the thread.
    pub(super) fn spawn(files: Arc<Files>) -> std::io::Result<Helper> {
        // One of each kind can wait; what does not fit is asked for again by the next frame.
        let (jobs, waiting): (SyncSender<Job>, Receiver<Job>) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("quorate-log-files".to_owned())
            .spawn(move || {
                for job in waiting {
                    run_job(&files, job);
                }
            })?;
        Ok(Helper::Thread {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    fn prepare(&self, files: &Files, filled: u64) {
        self.submit(files, Job::Prepare { filled });
    }

    fn retire(&self, files: &Files, segments: Vec<Arc<Segment>>, keep_from: u64) {
        self.submit(files, Job::Retire(segments, keep_from));
    }

    fn submit(&self, files: &Files, job: Job) {
        match self {
            Helper::Inline => run_job(files, job),
            Helper::Thread { jobs, .. } => {
                let Some(jobs) = jobs else { return };
                match jobs.try_send(job) {
                    // Retiring must keep its order and must not be forgotten: wait for the
                    // helper. It is rare (a purge), and the queue has one place.
                    Err(TrySendError::Full(job @ Job::Retire(..))) => drop(jobs.send(job)),
                    Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
                }
            }
        }
    }

    /// Waits for what was asked, then ends the thread.
    fn stop(&mut self) {
        if let Helper::Thread { jobs, thread } = self {
            drop(jobs.take());
            if let Some(thread) = thread.take() {
                // A panic there has been printed; the log itself is whole.
                drop(thread.join());
            }
        }
    }
}

/// None of this is needed for what the log has promised: a failure is told and that is all. A
/// disk that is really broken shows at the next frame.
fn run_job(files: &Files, job: Job) {
    let failed = match job {
        Job::Prepare { .. } if files.has_spare() => Ok(()),
        Job::Prepare { filled } => files.prepare(filled),
        Job::Retire(segments, keep_from) => files.retire(segments, keep_from),
    };
    if let Err(error) = failed {
        warn!(%error, dir = %files.dir().display(), "log files not prepared or not removed");
    }
}

/// The default of [`LogOptions::fsync_warning`].
pub(super) const FSYNC_WARNING: Duration = Duration::from_secs(1);
