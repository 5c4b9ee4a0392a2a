//! What the log holds in memory: the newest entries, and where the older ones stand.
//!
//! Two views, one behind the other. [`Memory`] changes when somebody calls the log; [`Index`]
//! follows when the frame is on disk. An entry leaves the ring only when the index can find
//! it, so a read always has one of the two:
//!
//! - `written_next`: entries below it stand in the index *as they are now*. A truncation takes it
//!   back, and what was in flight at that moment does not move it forward again (`epoch`).

use std::collections::VecDeque;

use bytes::Bytes;

use super::LogEntry;

/// Memory that a ring entry takes besides its body.
const ENTRY_COST: usize = 64;

/// A log position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Point {
    pub(super) term: u64,
    pub(super) index: u64,
}

/// The log as its callers see it.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) purged: Option<Point>,
    /// Index of the entry that comes next.
    pub(super) next: u64,
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<Bytes>,
    /// Counts truncations and purges past the end.
    pub(super) epoch: u64,
    written_next: u64,
    /// (first index, term) of each run of entries of one term, live entries only.
    terms: VecDeque<(u64, u64)>,
    /// The newest entries, without gaps, up to `next`.
    ring: VecDeque<LogEntry>,
    ring_bytes: usize,
    ring_limit: usize,
}

impl Memory {
    /// An empty log whose next entry is `next`.
    pub(super) fn new(next: u64, ring_limit: usize) -> Memory {
        Memory {
            purged: None,
            next,
            vote: None,
            committed: None,
            epoch: 0,
            written_next: next,
            terms: VecDeque::new(),
            ring: VecDeque::new(),
            ring_bytes: 0,
            ring_limit,
        }
    }

    /// The first index that is not purged.
    pub(super) fn first(&self) -> u64 {
        self.purged.map_or(0, |purged| purged.index + 1)
    }

    /// The newest entry, or what was purged last.
    pub(super) fn last(&self) -> Option<Point> {
        match self.terms.back() {
            Some(&(_, term)) => Some(Point {
                term,
                index: self.next - 1,
            }),
            None => self.purged,
        }
    }

    /// The term of an entry; `None` if it is purged, or not there yet.
    pub(super) fn term_at(&self, index: u64) -> Option<u64> {
        if index < self.first() || index >= self.next {
            return None;
        }
        let behind = self.terms.partition_point(|run| run.0 <= index);
        let run = self.terms.get(behind.checked_sub(1)?)?;
        Some(run.1)
    }

    /// The first index that the ring holds; `next` if it is empty.
    pub(super) fn ring_start(&self) -> u64 {
        self.ring.front().map_or(self.next, |entry| entry.index)
    }

    /// Takes the next entry. The caller has checked that it is the next.
    pub(super) fn push(&mut self, entry: LogEntry) {
        debug_assert_eq!(entry.index, self.next, "the ring has no gaps");
        if self.terms.back().is_none_or(|run| run.1 != entry.term) {
            self.terms.push_back((entry.index, entry.term));
        }
        self.next = entry.index + 1;
        self.ring_bytes += cost(&entry);
        self.ring.push_back(entry);
    }

    /// Drops the entries from `next` on.
    pub(super) fn truncate(&mut self, next: u64) {
        let next = next.max(self.first());
        if next >= self.next {
            return;
        }
        self.epoch += 1;
        self.next = next;
        self.written_next = self.written_next.min(next);
        while self.terms.back().is_some_and(|run| run.0 >= next) {
            self.terms.pop_back();
        }
        while let Some(entry) = self.ring.pop_back_if(|entry| entry.index >= next) {
            self.ring_bytes -= cost(&entry);
        }
        self.shrink();
    }

    /// Drops the entries up to a point, which may lie beyond the end.
    pub(super) fn purge(&mut self, point: Point) {
        if self
            .purged
            .is_some_and(|purged| purged.index >= point.index)
        {
            return;
        }
        self.purged = Some(point);
        let first = point.index + 1;
        if first >= self.next {
            self.terms.clear();
            if first > self.next {
                self.epoch += 1;
                self.next = first;
                self.written_next = first;
            }
        }
        while self.terms.get(1).is_some_and(|run| run.0 <= first) {
            self.terms.pop_front();
        }
        while let Some(entry) = self.ring.pop_front_if(|entry| entry.index < first) {
            self.ring_bytes -= cost(&entry);
        }
        self.shrink();
    }

    /// Entries below `next` are on disk and in the index, if nothing was truncated since.
    pub(super) fn written(&mut self, next: u64, epoch: u64) {
        if epoch == self.epoch {
            self.written_next = self.written_next.max(next);
        }
        self.evict();
    }

    /// Lets the oldest entries go, down to the limit.
    pub(super) fn evict(&mut self) {
        while self.ring_bytes > self.ring_limit
            && let Some(entry) = self.ring.pop_front_if(|e| e.index < self.written_next)
        {
            self.ring_bytes -= cost(&entry);
        }
    }

    /// Copies entries out of the ring until `budget` bytes are used up.
    pub(super) fn copy(&self, from: u64, to: u64, budget: &mut Budget, out: &mut Vec<LogEntry>) {
        let start = self.ring_start();
        let skip = usize::try_from(from.saturating_sub(start)).unwrap_or(usize::MAX);
        for entry in self.ring.iter().skip(skip) {
            if entry.index >= to || !budget.take(entry) {
                return;
            }
            out.push(entry.clone());
        }
    }

    fn shrink(&mut self) {
        if self.ring.capacity() > 1024 && self.ring.len() < self.ring.capacity() / 4 {
            self.ring.shrink_to(self.ring.len() * 2);
        }
    }
}

fn cost(entry: &LogEntry) -> usize {
    entry.body.len() + ENTRY_COST
}

/// How much a read may return: the first entry always, further ones within a limit.
#[derive(Debug)]
pub(super) struct Budget {
    left: usize,
    first: bool,
}

impl Budget {
    /// Up to so many bytes of bodies.
    pub(super) fn new(max_bytes: usize) -> Budget {
        Budget {
            left: max_bytes,
            first: true,
        }
    }

    /// Whether this entry still fits; if so, it is counted.
    pub(super) fn take(&mut self, entry: &LogEntry) -> bool {
        let fits = self.first || entry.body.len() <= self.left;
        if fits {
            self.left = self.left.saturating_sub(entry.body.len());
        } else {
            self.left = 0;
        }
        self.first = false;
        fits
    }
}

/// A frame on disk that holds entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameRef {
    /// Its first entry that is still valid. The next reference's is where it ends.
    pub(super) first: u64,
    pub(super) segment: u64,
    /// Of the frame header.
    pub(super) offset: u64,
    pub(super) body_len: u32,
}

/// Where the entries stand, as of the last frame on disk.
#[derive(Debug)]
pub(super) struct Index {
    frames: VecDeque<FrameRef>,
    /// Index of the entry that comes next on disk.
    pub(super) next: u64,
}

impl Index {
    /// Nothing, whose next entry is `next`.
    pub(super) fn new(next: u64) -> Index {
        Index {
            frames: VecDeque::new(),
            next,
        }
    }

    /// An entry stands in that frame (`first` is ignored).
    pub(super) fn push(&mut self, index: u64, frame: FrameRef) {
        let same = |last: &FrameRef| (last.segment, last.offset) == (frame.segment, frame.offset);
        if !self.frames.back().is_some_and(same) {
            self.frames.push_back(FrameRef {
                first: index,
                ..frame
            });
        }
        self.next = index + 1;
    }

    /// A truncation was written.
    pub(super) fn truncate(&mut self, next: u64) {
        if next < self.next {
            while self.frames.back().is_some_and(|frame| frame.first >= next) {
                self.frames.pop_back();
            }
            self.next = next;
        }
    }

    /// A purge was written.
    pub(super) fn purge(&mut self, index: u64) {
        let first = index + 1;
        if first >= self.next {
            self.frames.clear();
            self.next = first;
        }
        while self.frames.get(1).is_some_and(|frame| frame.first <= first) {
            self.frames.pop_front();
        }
    }

    /// The oldest segment that a read may need.
    pub(super) fn oldest_segment(&self) -> Option<u64> {
        self.frames.front().map(|frame| frame.segment)
    }

    /// The first entry that can be found.
    pub(super) fn first(&self) -> Option<u64> {
        self.frames.front().map(|frame| frame.first)
    }

    /// The frames of a range, each with the end of its valid entries; at most `limit` of them.
    pub(super) fn find(&self, from: u64, to: u64, limit: usize) -> Vec<(FrameRef, u64)> {
        let start = self.frames.partition_point(|frame| frame.first <= from);
        let start = start.saturating_sub(1);
        let ends = self.frames.iter().skip(start + 1).map(|frame| frame.first);
        let ends = ends.chain([self.next]);
        let found = self.frames.iter().skip(start).copied().zip(ends);
        found
            .take_while(|(frame, _)| frame.first < to)
            .take(limit)
            .collect()
    }
}
