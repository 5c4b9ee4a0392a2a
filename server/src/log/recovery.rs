//! Opening: replays every segment, judges the end of the last one, and says where to go on.
//!
//! What is refused is never changed, so that a better program or a backup can still help.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tracing::warn;

use super::format::{BadHeader, FORMAT, FRAMES_START, Record, SegmentHeader, next_record};
use super::memory::{FrameRef, Index, Memory, Point};
use super::scan::{End, Frame, Scan, read_exact};
use super::segment::{Files, Segment};
use super::writer::{Kept, Position, Start, start_segment};
use super::{LogEntry, LogError, LogOptions, TornTail};
use crate::disk::DiskFile;

/// A log, read.
pub(super) struct Recovered {
    pub(super) cluster_id: [u8; 16],
    pub(super) memory: Memory,
    pub(super) index: Index,
    pub(super) segments: VecDeque<Arc<Segment>>,
    pub(super) position: Position,
    pub(super) torn_tail: Option<TornTail>,
    /// The end of the last segment must not be written on: start the next one first.
    pub(super) rotate: bool,
}

impl Recovered {
    /// What the next segment repeats.
    pub(super) fn kept(&self) -> Kept {
        Kept {
            purged: self.memory.purged,
            vote: self.memory.vote.clone(),
            committed: self.memory.committed.clone(),
        }
    }
}

/// Makes the first segment of an empty directory.
pub(super) fn start_empty(files: &Files, options: &LogOptions) -> Result<Recovered, LogError> {
    let start = Start {
        sequence: 1,
        first_index: 0,
        first_frame: 1,
    };
    let filled = options.first_segment_bytes.min(options.segment_bytes);
    let kept = Kept::default();
    let cluster_id = options.cluster_id;
    let position = start_segment(files, options, cluster_id, &kept, filled, &start)?;
    Ok(Recovered {
        cluster_id,
        memory: Memory::new(0, options.ring_bytes),
        index: Index::new(0),
        segments: VecDeque::from([Arc::clone(&position.segment)]),
        position,
        torn_tail: None,
        rotate: false,
    })
}

/// Reads a log of at least one segment.
pub(super) fn replay(
    files: &Files,
    sequences: &[u64],
    options: &LogOptions,
) -> Result<Recovered, LogError> {
    let mut replay: Option<Replay> = None;
    let mut segments = VecDeque::new();
    let mut last = None;
    let mut tail: Option<Tail> = None;
    for &sequence in sequences {
        let path = files.segment_path(sequence);
        let file = files
            .open_segment(sequence)
            .map_err(LogError::io("open", &path))?;
        let header = read_header(file.as_ref(), &path, sequence)?;
        let replay = replay.get_or_insert_with(|| Replay::new(&header, options.ring_bytes));
        if let Some(tail) = tail.take() {
            tail.continued_by(&header, files)?;
        }
        if header.cluster_id != replay.cluster_id {
            return Err(damaged(&path, 0, "it belongs to another cluster"));
        }
        let (end, clean) = replay.segment(file.as_ref(), &path, &header)?;
        tail = Some(Tail {
            path: path.clone(),
            sequence,
            end,
        });
        let segment = Arc::new(Segment {
            sequence,
            path,
            file,
            salt: header.salt,
        });
        segments.push_back(Arc::clone(&segment));
        last = Some((segment, header, end, clean));
    }
    let (Some(replay), Some((segment, header, end, last_scan))) = (replay, last) else {
        return start_empty(files, options);
    };
    replay.check_start(files, sequences)?;
    let torn_tail = judge_tail(&segment, &header, end, last_scan)?;
    // A killed process may have written a frame and not synced it. We have just believed it, so
    // make it true before anything is built on it.
    let filled = segment
        .file
        .sync_data()
        .and_then(|()| segment.file.len())
        .map_err(LogError::io("sync", &segment.path))?;
    let unsynced = header.unsynced;
    Ok(Recovered {
        cluster_id: replay.cluster_id,
        position: Position {
            segment,
            offset: end.offset,
            filled,
            start: 0,
            asked: false,
            next_frame: end.next_frame,
            next_index: replay.index.next,
        },
        // Without syncs, whole frames may stand behind the torn one; they must not come back.
        rotate: unsynced == options.force_sync || (unsynced && torn_tail.is_some()),
        memory: replay.memory,
        index: replay.index,
        segments,
        torn_tail,
    })
}

fn read_header(file: &dyn DiskFile, path: &Path, sequence: u64) -> Result<SegmentHeader, LogError> {
    let mut page = vec![0; usize::try_from(FRAMES_START).unwrap_or(4096)];
    match read_exact(file, &mut page, 0) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(damaged(path, 0, "the file is cut off"));
        }
        done => done.map_err(LogError::io("read", path))?,
    }
    match SegmentHeader::decode(&page) {
        Ok(header) if header.sequence == sequence => Ok(header),
        Ok(_) => Err(damaged(path, 0, "it is another segment than its name says")),
        Err(BadHeader::Damaged) => Err(damaged(path, 0, "its header fails its checksum")),
        Err(BadHeader::UnknownFormat(version)) => Err(LogError::UnknownFormat {
            path: path.to_owned(),
            version,
            known: FORMAT,
        }),
    }
}

/// Where the valid frames of a segment end.
#[derive(Clone, Copy)]
struct FramesEnd {
    offset: u64,
    next_frame: u64,
}

/// The segment before.
struct Tail {
    path: PathBuf,
    sequence: u64,
    end: FramesEnd,
}

impl Tail {
    /// Refuses if frames are missing between the two.
    fn continued_by(&self, next: &SegmentHeader, files: &Files) -> Result<(), LogError> {
        if next.sequence != self.sequence + 1 {
            return Err(LogError::Missing {
                path: files.segment_path(self.sequence + 1),
            });
        }
        if next.first_frame != self.end.next_frame {
            let what = "a frame fails its checksum";
            return Err(damaged(&self.path, self.end.offset, what));
        }
        Ok(())
    }
}

/// The state that the records build up.
struct Replay {
    cluster_id: [u8; 16],
    memory: Memory,
    index: Index,
}

impl Replay {
    fn new(first: &SegmentHeader, ring_bytes: usize) -> Replay {
        Replay {
            cluster_id: first.cluster_id,
            memory: Memory::new(first.first_index, ring_bytes),
            index: Index::new(first.first_index),
        }
    }

    /// Applies a segment's frames. Returns their end, and what stands there.
    fn segment(
        &mut self,
        file: &dyn DiskFile,
        path: &Path,
        header: &SegmentHeader,
    ) -> Result<(FramesEnd, End), LogError> {
        let io = || LogError::io("read", path);
        let mut scan =
            Scan::new(file, header.sequence, header.salt, header.first_frame).map_err(io())?;
        while let Some(frame) = scan.next().map_err(io())? {
            self.frame(header.sequence, &frame)
                .map_err(|what| damaged(path, frame.offset, what))?;
        }
        let end = FramesEnd {
            offset: scan.offset,
            next_frame: scan.number,
        };
        if end.next_frame == header.first_frame {
            // A segment gets its name after its first frame was synced.
            return Err(damaged(
                path,
                end.offset,
                "its first frame fails its checksum",
            ));
        }
        Ok((end, scan.end().map_err(io())?))
    }

    fn frame(&mut self, segment: u64, frame: &Frame) -> Result<(), &'static str> {
        let location = FrameRef {
            first: 0,
            segment,
            offset: frame.offset,
            body_len: u32::try_from(frame.body.len()).unwrap_or(u32::MAX),
        };
        let mut rest: &[u8] = &frame.body;
        while let Some(record) =
            next_record(&mut rest).map_err(|_| "a record is of a kind that is not known")?
        {
            match record {
                Record::Entry { index, term, body } => {
                    if index != self.memory.next {
                        return Err("an entry does not follow the one before");
                    }
                    self.memory.push(LogEntry {
                        index,
                        term,
                        body: frame.body.slice_ref(body),
                    });
                    self.index.push(index, location);
                }
                Record::Vote(vote) => self.memory.vote = Some(Bytes::copy_from_slice(vote)),
                Record::Truncate { next } => {
                    self.memory.truncate(next);
                    self.index.truncate(next);
                }
                Record::Purge { term, index } => {
                    self.memory.purge(Point { term, index });
                    self.index.purge(index);
                }
                Record::Committed(committed) => {
                    self.memory.committed = Some(Bytes::copy_from_slice(committed));
                }
            }
        }
        self.memory.written(self.index.next, self.memory.epoch);
        Ok(())
    }

    /// Refuses a log whose oldest segments were taken away.
    fn check_start(&self, files: &Files, sequences: &[u64]) -> Result<(), LogError> {
        let first = self.index.first().unwrap_or(self.index.next);
        if first > self.memory.first() {
            let oldest = sequences.first().copied().unwrap_or(1);
            return Err(LogError::Missing {
                path: files.segment_path(oldest.saturating_sub(1)),
            });
        }
        Ok(())
    }
}

/// Says whether the log may go on at the end of its last segment.
fn judge_tail(
    segment: &Segment,
    header: &SegmentHeader,
    end: FramesEnd,
    found: End,
) -> Result<Option<TornTail>, LogError> {
    match found {
        End::Clean => return Ok(None),
        End::Damaged { .. } if !header.unsynced => {
            let what = "a frame fails its checksum";
            return Err(damaged(&segment.path, end.offset, what));
        }
        End::Damaged { .. } | End::Torn => {}
    }
    warn!(
        file = %segment.path.display(),
        offset = end.offset,
        "the log ends in a write that was never finished; it was not acknowledged and is dropped"
    );
    Ok(Some(TornTail {
        path: segment.path.clone(),
        offset: end.offset,
    }))
}

fn damaged(path: &Path, offset: u64, what: &'static str) -> LogError {
    LogError::Damaged {
        path: path.to_owned(),
        offset,
        what,
    }
}
