//! What the callers of the log and its thread share, behind one lock that nobody holds for long.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::memory::{Index, Memory, Point};
use super::segment::Segment;
use super::{Done, LogEntry, LogError};

/// Bytes of commands that wait or are being written; a caller beyond that waits.
pub(super) const QUEUE_MAX: usize = 32 << 20;
/// What a command counts for besides its content.
pub(super) const COMMAND_COST: usize = 128;

/// See the module.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// The log thread waits here.
    pub(super) work: Condvar,
    /// Callers wait here while the queue is full.
    pub(super) room: Condvar,
}

/// See the module.
pub(super) struct State {
    pub(super) memory: Memory,
    pub(super) index: Index,
    pub(super) segments: VecDeque<Arc<Segment>>,
    pub(super) queue: VecDeque<Command>,
    pub(super) queued_bytes: usize,
    pub(super) waiting_for_room: usize,
    /// A committed hint that rides with the next frame.
    pub(super) hint: Option<Bytes>,
    /// The log thread waits for work.
    pub(super) idle: bool,
    pub(super) closing: bool,
    pub(super) failure: Option<Arc<LogError>>,
}

/// Something to write, and whom to tell.
pub(super) struct Command {
    pub(super) what: What,
    /// [`Memory::epoch`] when it was given.
    pub(super) epoch: u64,
    pub(super) bytes: usize,
    pub(super) done: Done,
}

/// What to write.
pub(super) enum What {
    Entries(Vec<LogEntry>),
    Vote(Bytes),
    Truncate { next: u64 },
    Purge(Point),
}

impl State {
    /// The segment of that sequence. They have no gaps.
    pub(super) fn segment(&self, sequence: u64) -> Option<&Arc<Segment>> {
        let first = self.segments.front()?.sequence;
        let at = usize::try_from(sequence.checked_sub(first)?).ok()?;
        self.segments.get(at)
    }
}
