//! The bytes of a log entry, and of the little that openraft keeps beside the entries.
//!
//! The first byte names what follows *and* its version. A server that meets a byte it does not
//! know stops and asks to be upgraded: skipping would make it differ from the others (R25).

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use openraft::{BasicNode, EntryPayload};

use super::types::{Body, Entry, LogId, Membership, StoredMembership, Vote, log_id};
use crate::log::LogEntry;
use crate::snapshot::FileFault;
use crate::tree::CodecError;

/// Requests of clients and of the leader.
const REQUESTS: u8 = 1;
/// Nothing: a new leader's first entry.
const BLANK: u8 = 2;
/// Who belongs to the ensemble.
const MEMBERSHIP: u8 = 3;

/// Why bytes of the log, or what they ask for, cannot be obeyed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntryError {
    /// Written by a newer version.
    #[error(
        "log entry {index} has format {format}, which this version does not know: upgrade this server"
    )]
    UnknownFormat { index: u64, format: u8 },
    /// Its parts do not fill it, or overfill it.
    #[error("log entry {index} ends too early or too late")]
    BadLength { index: u64 },
    /// A request in it cannot be decoded.
    #[error(
        "request {position} of log entry {index} cannot be decoded: upgrade this server, or its log is damaged"
    )]
    Request {
        index: u64,
        position: u32,
        source: CodecError,
    },
    /// A leader sent a snapshot in place of entries that it no longer has, and it cannot be loaded.
    #[error("the snapshot up to log entry {index} cannot be installed: {}", source.fault)]
    Snapshot { index: u64, source: FileFault },
    /// The state is not what the leader had at that point (R27).
    #[error(
        "the state after log entry {index} has digest {ours:#018x} here, {theirs:#018x} when it was recorded"
    )]
    Diverged { index: u64, ours: u64, theirs: u64 },
}

/// What stands in front of the requests of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The leader's calendar. Information, never an order (R21).
    pub(super) wall_ms: i64,
    /// How many requests follow.
    pub(super) count: u32,
    /// The newest entry that the leader had applied, and the digest of its state then (R27).
    pub(super) applied: Option<(u64, u64)>,
}

/// Stands for "nothing applied yet" in the place of an index.
const NO_INDEX: u64 = u64::MAX;

impl Header {
    /// Bytes of a header.
    pub(super) const LEN: usize = 29;

    /// Writes it over the place that was kept at the front of `entry`.
    pub(super) fn fill(&self, entry: &mut BytesMut) {
        let mut head = [0; Self::LEN];
        let mut out = head.as_mut_slice();
        out.put_u8(REQUESTS);
        out.put_i64(self.wall_ms);
        out.put_u32(self.count);
        let (index, digest) = self.applied.unwrap_or((NO_INDEX, 0));
        out.put_u64(index);
        out.put_u64(digest);
        if let Some(place) = entry.get_mut(..Self::LEN) {
            place.copy_from_slice(&head);
        }
    }

    /// Takes it off the front of the entry at `index`.
    pub(super) fn split(index: u64, body: &[u8]) -> Result<(Header, &[u8]), EntryError> {
        let mut reader = Reader { index, rest: body };
        let format = reader.u8()?;
        if format != REQUESTS {
            return Err(EntryError::UnknownFormat { index, format });
        }
        let header = Header {
            wall_ms: reader.i64()?,
            count: reader.u32()?,
            applied: Some((reader.u64()?, reader.u64()?)).filter(|applied| applied.0 != NO_INDEX),
        };
        Ok((header, reader.rest))
    }
}

/// An entry as the log keeps it.
pub(super) fn to_log(entry: Entry) -> LogEntry {
    let body = match entry.payload {
        EntryPayload::Normal(Body(bytes)) => bytes,
        EntryPayload::Blank => Bytes::from_static(&[BLANK]),
        EntryPayload::Membership(membership) => {
            let mut out = BytesMut::new();
            out.put_u8(MEMBERSHIP);
            put_membership(&mut out, &membership);
            out.freeze()
        }
    };
    LogEntry {
        index: entry.log_id.index,
        term: entry.log_id.leader_id.term,
        body,
    }
}

/// An entry as openraft wants it. An unknown format passes through: it is judged when applied,
/// because an entry that is never committed may say what it likes.
pub(super) fn from_log(entry: LogEntry) -> io::Result<Entry> {
    let payload = match entry.body.first() {
        Some(&BLANK) => EntryPayload::Blank,
        Some(&MEMBERSHIP) => {
            let mut reader = Reader {
                index: entry.index,
                rest: entry.body.get(1..).unwrap_or_default(),
            };
            EntryPayload::Membership(reader.membership().map_err(invalid)?)
        }
        _ => EntryPayload::Normal(Body(entry.body)),
    };
    Ok(Entry {
        log_id: log_id(entry.term, entry.index),
        payload,
    })
}

fn put_membership(out: &mut BytesMut, membership: &Membership) {
    let configs = membership.get_joint_config();
    out.put_u32(count(configs.len()));
    for voters in configs {
        out.put_u32(count(voters.len()));
        voters.iter().for_each(|&id| out.put_u64(id));
    }
    out.put_u32(count(membership.nodes().count()));
    for (&id, node) in membership.nodes() {
        out.put_u64(id);
        out.put_u32(count(node.addr.len()));
        out.put_slice(node.addr.as_bytes());
    }
}

/// The membership in force, with the entry that set it, as a snapshot carries it.
pub(super) fn encode_stored_membership(stored: &StoredMembership) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(MEMBERSHIP);
    match stored.log_id() {
        Some(at) => {
            out.put_u8(1);
            out.put_u64(at.leader_id.term);
            out.put_u64(at.index);
        }
        None => out.put_u8(0),
    }
    put_membership(&mut out, stored.membership());
    out.freeze()
}

/// Reads what [`encode_stored_membership`] wrote; of nothing, no membership at all.
pub(super) fn decode_stored_membership(bytes: &[u8]) -> Result<StoredMembership, EntryError> {
    if bytes.is_empty() {
        return Ok(StoredMembership::default());
    }
    let mut reader = Reader {
        index: 0,
        rest: bytes,
    };
    let format = reader.u8()?;
    if format != MEMBERSHIP {
        return Err(EntryError::UnknownFormat { index: 0, format });
    }
    let at = match reader.u8()? {
        0 => None,
        _ => Some(log_id(reader.u64()?, reader.u64()?)),
    };
    Ok(StoredMembership::new(at, reader.membership()?))
}

/// A vote: term, for whom, and whether a quorum granted it.
pub(super) fn encode_vote(vote: &Vote) -> Bytes {
    let mut out = BytesMut::with_capacity(17);
    out.put_u64(vote.leader_id.term);
    out.put_u64(vote.leader_id.voted_for);
    out.put_u8(u8::from(vote.committed));
    out.freeze()
}

/// Reads what [`encode_vote`] wrote.
pub(super) fn decode_vote(bytes: &[u8]) -> Result<Vote, EntryError> {
    let mut reader = Reader {
        index: 0,
        rest: bytes,
    };
    let (term, voted_for) = (reader.u64()?, reader.u64()?);
    Ok(match reader.u8()? {
        0 => Vote::new(term, voted_for),
        _ => Vote::new_committed(term, voted_for),
    })
}

/// A log id, as the hint of what is committed.
pub(super) fn encode_log_id(id: &LogId) -> Bytes {
    let mut out = BytesMut::with_capacity(16);
    out.put_u64(id.leader_id.term);
    out.put_u64(id.index);
    out.freeze()
}

/// Reads what [`encode_log_id`] wrote.
pub(super) fn decode_log_id(bytes: &[u8]) -> Result<LogId, EntryError> {
    let mut reader = Reader {
        index: 0,
        rest: bytes,
    };
    Ok(log_id(reader.u64()?, reader.u64()?))
}

/// An error of this module as openraft takes them from storage.
pub(super) fn invalid(error: EntryError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// Reads big-endian numbers off the front of a slice.
struct Reader<'a> {
    index: u64,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], EntryError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(EntryError::BadLength { index: self.index })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], EntryError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or(EntryError::BadLength { index: self.index })?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, EntryError> {
        self.array().map(u8::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, EntryError> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, EntryError> {
        self.array().map(u64::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, EntryError> {
        self.array().map(i64::from_be_bytes)
    }

    fn membership(&mut self) -> Result<Membership, EntryError> {
        let mut configs = Vec::new();
        for _ in 0..self.u32()? {
            let mut voters = BTreeSet::new();
            for _ in 0..self.u32()? {
                voters.insert(self.u64()?);
            }
            configs.push(voters);
        }
        let mut nodes = BTreeMap::new();
        for _ in 0..self.u32()? {
            let id = self.u64()?;
            let len = self.u32()?;
            let len = usize::try_from(len).unwrap_or(usize::MAX);
            let addr = String::from_utf8_lossy(self.bytes(len)?).into_owned();
            nodes.insert(id, BasicNode { addr });
        }
        if configs.is_empty() {
            return Ok(Membership::default());
        }
        Membership::new(configs, nodes).map_err(|_| EntryError::BadLength { index: self.index })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership() -> Membership {
        let nodes = BTreeMap::from([
            (7, BasicNode::new("one:2888")),
            (9, BasicNode::new("two:2888")),
        ]);
        Membership::new(vec![BTreeSet::from([7]), BTreeSet::from([7, 9])], nodes).unwrap()
    }

    #[test]
    fn a_header_returns_as_written() {
        for applied in [None, Some((5, 77))] {
            let header = Header {
                wall_ms: -3,
                count: 12,
                applied,
            };
            let mut entry = BytesMut::zeroed(Header::LEN);
            entry.put_slice(b"requests");
            header.fill(&mut entry);
            let (read, rest) = Header::split(1, &entry).unwrap();
            assert_eq!((read, rest), (header, b"requests".as_slice()));
        }
    }

    /// The first entry that a newer version writes in a new format stops this one.
    #[test]
    fn an_unknown_format_asks_for_an_upgrade() {
        let error = Header::split(8, &[200, 0, 0]).unwrap_err();
        assert!(
            matches!(
                error,
                EntryError::UnknownFormat {
                    index: 8,
                    format: 200
                }
            ),
            "{error}"
        );
        assert!(error.to_string().contains("upgrade this server"));
    }

    #[test]
    fn a_membership_passes_through_the_log() {
        let entry = Entry {
            log_id: log_id(3, 4),
            payload: EntryPayload::Membership(membership()),
        };
        let read = from_log(to_log(entry)).unwrap();
        assert_eq!(read.log_id, log_id(3, 4));
        assert_eq!(read.payload, EntryPayload::Membership(membership()));
    }

    #[test]
    fn a_membership_passes_through_a_snapshot() {
        let stored = StoredMembership::new(Some(log_id(3, 4)), membership());
        let read = decode_stored_membership(&encode_stored_membership(&stored)).unwrap();
        assert_eq!(read, stored);
    }

    #[test]
    fn votes_and_log_ids_return_as_written() {
        for vote in [Vote::new(4, 9), Vote::new_committed(u64::MAX, 1)] {
            assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
        }
        let id = log_id(6, 1 << 40);
        assert_eq!(decode_log_id(&encode_log_id(&id)).unwrap(), id);
    }

    #[test]
    fn cut_bytes_are_errors_and_no_panic() {
        let stored = StoredMembership::new(Some(log_id(3, 4)), membership());
        let whole = encode_stored_membership(&stored);
        for len in 1..whole.len() {
            assert!(decode_stored_membership(&whole[..len]).is_err(), "{len}");
        }
        for len in 0..Header::LEN {
            let mut entry = vec![0; len];
            if let Some(first) = entry.first_mut() {
                *first = REQUESTS;
            }
            assert!(Header::split(1, &entry).is_err(), "{len}");
        }
    }
}
