//! Reading entries back: from the ring if they are recent, from the segments if not.

use std::sync::Arc;

use bytes::Bytes;

use super::format::{FRAME_HEADER, FrameHeader, Record, next_record};
use super::memory::{Budget, FrameRef};
use super::scan::read_exact;
use super::segment::Segment;
use super::{Log, LogEntry, LogError};

/// Frames looked up at once.
const FRAMES_AT_ONCE: usize = 64;

/// A frame to read, and the end of what is valid in it.
type Wanted = (FrameRef, u64, Arc<Segment>);

impl Log {
    /// The entries of a range that the log holds, in order, up to `max_bytes` of bodies, but at
    /// least one if there is one. What is purged or not yet appended is left out.
    ///
    /// Reads the disk for what is no longer in memory: not for a thread that must not wait.
    pub(crate) fn read(
        &self,
        from: u64,
        to_exclusive: u64,
        max_bytes: usize,
    ) -> Result<Vec<LogEntry>, LogError> {
        let mut out = Vec::new();
        let mut budget = Budget::new(max_bytes);
        let mut at = from;
        loop {
            let wanted = {
                let state = self.shared.state.lock();
                let first = state.memory.first();
                if at < first && !out.is_empty() {
                    // Purged while we read.
                    return Ok(out);
                }
                at = at.max(first);
                let to = to_exclusive.min(state.memory.next);
                if at >= to {
                    return Ok(out);
                }
                let ring_start = state.memory.ring_start();
                if at >= ring_start {
                    state.memory.copy(at, to, &mut budget, &mut out);
                    return Ok(out);
                }
                let to = to.min(ring_start);
                let frames = state.index.find(at, to, FRAMES_AT_ONCE);
                let with_segment = |(frame, end): (FrameRef, u64)| -> Option<Wanted> {
                    let segment = state.segment(frame.segment)?;
                    Some((frame, end.min(to), Arc::clone(segment)))
                };
                frames.into_iter().filter_map(with_segment).collect()
            };
            let before = at;
            if !take_entries(wanted, &mut at, &mut budget, &mut out)? {
                return Ok(out);
            }
            assert!(at > before, "entry {at} is neither in memory nor on disk");
        }
    }
}

/// Adds the entries from `at` on, and moves it. `false` once the budget is used up.
fn take_entries(
    wanted: Vec<Wanted>,
    at: &mut u64,
    budget: &mut Budget,
    out: &mut Vec<LogEntry>,
) -> Result<bool, LogError> {
    for (frame, end, segment) in wanted {
        for entry in read_frame(frame, &segment)? {
            if entry.index == *at && entry.index < end {
                if !budget.take(&entry) {
                    return Ok(false);
                }
                *at += 1;
                out.push(entry);
            }
        }
    }
    Ok(true)
}

/// The entries that are left when all records of the frame have had their effect.
fn read_frame(frame: FrameRef, segment: &Segment) -> Result<Vec<LogEntry>, LogError> {
    let damaged = |what| LogError::Damaged {
        path: segment.path.clone(),
        offset: frame.offset,
        what,
    };
    let body_len = usize::try_from(frame.body_len).unwrap_or(usize::MAX);
    let mut bytes = vec![0; FRAME_HEADER + body_len];
    read_exact(segment.file.as_ref(), &mut bytes, frame.offset)
        .map_err(LogError::io("read", &segment.path))?;
    let bytes = Bytes::from(bytes);
    let body = bytes.slice(FRAME_HEADER..);
    FrameHeader::decode(&bytes, segment.salt)
        .filter(|header| header.fits(&body, segment.salt))
        .ok_or_else(|| damaged("a frame fails its checksum"))?;
    let mut entries: Vec<LogEntry> = Vec::new();
    let mut rest: &[u8] = &body;
    while let Some(record) =
        next_record(&mut rest).map_err(|_| damaged("a record is of a kind that is not known"))?
    {
        match record {
            Record::Entry {
                index,
                term,
                body: entry,
            } => entries.push(LogEntry {
                index,
                term,
                body: body.slice_ref(entry),
            }),
            Record::Truncate { next } => {
                while entries.pop_if(|entry| entry.index >= next).is_some() {}
            }
            Record::Vote(_) | Record::Purge { .. } | Record::Committed(_) => {}
        }
    }
    Ok(entries)
}
