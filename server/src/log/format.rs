//! The bytes of a segment: its header, frames, and the records in them. Pure.
//!
//! ```text
//! segment = header, padded to 4096 bytes; frames from there on, each at a multiple of 8
//! header  = magic 8, format u32, flags u32, cluster id 16, sequence u64, first index u64,
//!           first frame u64, salt 2 × u32, CRC u32 of all before it
//! frame   = magic u32, segment sequence u64, frame number u64, body length u32,
//!           CRC u32 of the body, CRC u32 of the 28 bytes before it; body
//! body    = records: tag u8, then
//!           1 entry: index u64, term u64, length u32, bytes    2 vote: length u32, bytes
//!           3 truncate: next index u64      4 purge: term u64, index u64
//!           5 committed: length u32, bytes
//! ```
//!
//! Integers are little-endian. Frame numbers go on from one segment to the next. The CRCs of
//! frames start from the salts of their segment, which nobody outside learns: what a client
//! writes into a znode can never pass for a frame (R28).

use crc32fast::Hasher;

/// The newest format that this code reads, and the one that it writes.
pub(super) const FORMAT: u32 = 1;
/// Where the frames of a segment start: the header's page is never written again.
pub(super) const FRAMES_START: u64 = 4096;
/// Bytes in front of a frame's body.
pub(super) const FRAME_HEADER: usize = 32;
/// Frames start at multiples of this.
pub(super) const ALIGNMENT: usize = 8;
/// The largest body.
pub(super) const BODY_MAX: usize = 1 << 30;
/// Bytes of a record besides its content, at most.
pub(super) const RECORD_OVERHEAD: usize = 21;

const SEGMENT_MAGIC: [u8; 8] = *b"QUORWAL\n";
const FRAME_MAGIC: [u8; 4] = *b"QFrm";
const HEADER_LEN: usize = 68;
const FLAG_UNSYNCED: u32 = 1;

/// The starting values of a segment's checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Salt {
    pub(super) header: u32,
    pub(super) body: u32,
}

impl Salt {
    /// Splits 64 random bits.
    pub(super) fn from_bits(bits: u64) -> Salt {
        let [a, b, c, d, e, f, g, h] = bits.to_le_bytes();
        Salt {
            header: u32::from_le_bytes([a, b, c, d]),
            body: u32::from_le_bytes([e, f, g, h]),
        }
    }
}

/// What a segment says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) cluster_id: [u8; 16],
    pub(super) sequence: u64,
    /// The index that an entry would have had when the segment was started.
    pub(super) first_index: u64,
    /// Number of the first frame here: the segment before ends with the one below it.
    pub(super) first_frame: u64,
    pub(super) salt: Salt,
    /// Frames here were not synced one by one (`forceSync=no`).
    pub(super) unsynced: bool,
}

/// Why a segment header was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    Damaged,
    UnknownFormat(u32),
}

impl SegmentHeader {
    /// The first page of a segment.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4096);
        out.extend_from_slice(&SEGMENT_MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        let flags = if self.unsynced { FLAG_UNSYNCED } else { 0 };
        out.extend_from_slice(&flags.to_le_bytes());
        out.extend_from_slice(&self.cluster_id);
        for number in [self.sequence, self.first_index, self.first_frame] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.salt.header.to_le_bytes());
        out.extend_from_slice(&self.salt.body.to_le_bytes());
        let crc = crc(0, &out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.resize(4096, 0);
        out
    }

    /// Reads the start of a segment.
    pub(super) fn decode(page: &[u8]) -> Result<SegmentHeader, BadHeader> {
        let mut input = page;
        let magic: [u8; 8] = take(&mut input).ok_or(BadHeader::Damaged)?;
        if magic != SEGMENT_MAGIC {
            return Err(BadHeader::Damaged);
        }
        match take(&mut input).map(u32::from_le_bytes) {
            None => return Err(BadHeader::Damaged),
            Some(FORMAT) => {}
            Some(other) => return Err(BadHeader::UnknownFormat(other)),
        }
        let rest = |input: &mut &[u8]| {
            let flags = u32::from_le_bytes(take(input)?);
            let header = SegmentHeader {
                cluster_id: take(input)?,
                sequence: u64::from_le_bytes(take(input)?),
                first_index: u64::from_le_bytes(take(input)?),
                first_frame: u64::from_le_bytes(take(input)?),
                salt: Salt {
                    header: u32::from_le_bytes(take(input)?),
                    body: u32::from_le_bytes(take(input)?),
                },
                unsynced: flags & FLAG_UNSYNCED != 0,
            };
            let covered = page.get(..HEADER_LEN - 4)?;
            (crc(0, covered) == u32::from_le_bytes(take(input)?)).then_some(header)
        };
        rest(&mut input).ok_or(BadHeader::Damaged)
    }
}

/// The start of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) segment: u64,
    pub(super) number: u64,
    pub(super) body_len: u32,
    pub(super) body_crc: u32,
}

impl FrameHeader {
    fn encode(self, salt: Salt) -> [u8; FRAME_HEADER] {
        let mut out = [0; FRAME_HEADER];
        let mut rest = out.as_mut_slice();
        let mut put = |bytes: &[u8]| {
            if let Some((now, later)) = std::mem::take(&mut rest).split_at_mut_checked(bytes.len())
            {
                now.copy_from_slice(bytes);
                rest = later;
            }
        };
        put(&FRAME_MAGIC);
        put(&self.segment.to_le_bytes());
        put(&self.number.to_le_bytes());
        put(&self.body_len.to_le_bytes());
        put(&self.body_crc.to_le_bytes());
        let (covered, tail) = out.split_at_mut(FRAME_HEADER - 4);
        tail.copy_from_slice(&crc(salt.header, covered).to_le_bytes());
        out
    }

    /// Reads a frame's start; `None` for anything else. Its fields can be trusted.
    pub(super) fn decode(bytes: &[u8], salt: Salt) -> Option<FrameHeader> {
        let mut input = bytes.get(..FRAME_HEADER)?;
        let covered = input.get(..FRAME_HEADER - 4)?;
        if take::<4>(&mut input)? != FRAME_MAGIC {
            return None;
        }
        let header = FrameHeader {
            segment: u64::from_le_bytes(take(&mut input)?),
            number: u64::from_le_bytes(take(&mut input)?),
            body_len: u32::from_le_bytes(take(&mut input)?),
            body_crc: u32::from_le_bytes(take(&mut input)?),
        };
        (u32::from_le_bytes(take(&mut input)?) == crc(salt.header, covered)).then_some(header)
    }

    /// Whether these bytes, wherever they come from, want to be this frame: its start was
    /// written, even if the rest was not.
    pub(super) fn names(bytes: &[u8], segment: u64, number: u64) -> bool {
        let mut input = bytes;
        take(&mut input) == Some(FRAME_MAGIC)
            && take(&mut input).map(u64::from_le_bytes) == Some(segment)
            && take(&mut input).map(u64::from_le_bytes) == Some(number)
    }

    /// Whether a body is the one that this header was written for.
    pub(super) fn fits(&self, body: &[u8], salt: Salt) -> bool {
        usize::try_from(self.body_len).ok() == Some(body.len())
            && crc(salt.body, body) == self.body_crc
    }
}

/// The offset of the frame behind one of `len` bytes (header and body) at `offset`.
pub(super) fn next_frame_offset(offset: u64, len: u64) -> u64 {
    (offset + len).next_multiple_of(ALIGNMENT as u64)
}

/// Where the search for any frame header goes on. `None` when the bytes hold none.
pub(super) fn find_frame_magic(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let starts = bytes.chunks(ALIGNMENT).enumerate();
    starts.filter_map(|(i, chunk)| chunk.starts_with(&FRAME_MAGIC).then_some(i * ALIGNMENT))
}

/// One thing that the log remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    Entry {
        index: u64,
        term: u64,
        body: &'a [u8],
    },
    Vote(&'a [u8]),
    /// Entries from this index on are gone.
    Truncate {
        next: u64,
    },
    /// Entries up to this one are gone.
    Purge {
        term: u64,
        index: u64,
    },
    Committed(&'a [u8]),
}

/// A frame in the making. One buffer, used again and again.
#[derive(Debug, Default)]
pub(super) struct FrameBuf {
    bytes: Vec<u8>,
}

impl FrameBuf {
    /// Starts over. Gives memory back if the last frame was unusually large.
    pub(super) fn clear(&mut self, keep: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(keep);
        self.bytes.resize(FRAME_HEADER, 0);
    }

    /// Bytes of the body so far.
    pub(super) fn body_len(&self) -> usize {
        self.bytes.len().saturating_sub(FRAME_HEADER)
    }

    /// Adds a record.
    pub(super) fn put(&mut self, record: Record<'_>) {
        let out = &mut self.bytes;
        match record {
            Record::Entry { index, term, body } => {
                let mut head = [1; 21];
                head[1..9].copy_from_slice(&index.to_le_bytes());
                head[9..17].copy_from_slice(&term.to_le_bytes());
                head[17..].copy_from_slice(&len_u32(body).to_le_bytes());
                out.extend_from_slice(&head);
                out.extend_from_slice(body);
            }
            Record::Vote(vote) => put_bytes(out, 2, vote),
            Record::Truncate { next } => {
                out.push(3);
                out.extend_from_slice(&next.to_le_bytes());
            }
            Record::Purge { term, index } => {
                out.push(4);
                out.extend_from_slice(&term.to_le_bytes());
                out.extend_from_slice(&index.to_le_bytes());
            }
            Record::Committed(committed) => put_bytes(out, 5, committed),
        }
    }

    /// The finished frame, padded.
    pub(super) fn seal(&mut self, segment: u64, number: u64, salt: Salt) -> &[u8] {
        let (start, body) = self
            .bytes
            .split_first_chunk_mut::<FRAME_HEADER>()
            .expect("`clear` made room for the header");
        let header = FrameHeader {
            segment,
            number,
            body_len: len_u32(body),
            body_crc: crc(salt.body, body),
        };
        *start = header.encode(salt);
        let padded = self.bytes.len().next_multiple_of(ALIGNMENT);
        self.bytes.resize(padded, 0);
        &self.bytes
    }
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&len_u32(bytes).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn len_u32(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("the log takes nothing over BODY_MAX")
}

/// A body that passed its checksum and still says nothing that we understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadRecord;

/// Takes the next record off a body.
pub(super) fn next_record<'a>(body: &mut &'a [u8]) -> Result<Option<Record<'a>>, BadRecord> {
    let Some((tag, rest)) = body.split_first() else {
        return Ok(None);
    };
    *body = rest;
    let record = match tag {
        1 => take_entry(body),
        2 => take_bytes(body).map(Record::Vote),
        3 => take(body).map(|next| Record::Truncate {
            next: u64::from_le_bytes(next),
        }),
        4 => take_pair(body).map(|(term, index)| Record::Purge { term, index }),
        5 => take_bytes(body).map(Record::Committed),
        _ => None,
    };
    record.map(Some).ok_or(BadRecord)
}

fn take_entry<'a>(input: &mut &'a [u8]) -> Option<Record<'a>> {
    let (index, term) = take_pair(input)?;
    let body = take_bytes(input)?;
    Some(Record::Entry { index, term, body })
}

fn take_pair(input: &mut &[u8]) -> Option<(u64, u64)> {
    Some((
        u64::from_le_bytes(take(input)?),
        u64::from_le_bytes(take(input)?),
    ))
}

fn take_bytes<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(u32::from_le_bytes(take(input)?)).ok()?;
    let (bytes, rest) = input.split_at_checked(len)?;
    *input = rest;
    Some(bytes)
}

fn take<const N: usize>(input: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = input.split_first_chunk()?;
    *input = rest;
    Some(*taken)
}

fn crc(start: u32, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(start);
    hasher.update(bytes);
    hasher.finalize()
}
