//! The frames of Raft between servers.
//!
//! ```text
//! open:    0 format target[8]
//! request: kind id[8] …          reply: kind id[8] …
//! ```
//!
//! Each link begins with an open frame that names the version of all that follows and the server,
//! in its present incarnation, that is meant: what was meant for a member that is no more must
//! not be answered by the one that took its number. Requests are answered in their order, each
//! once. What comes from a peer is checked here as far as one message can be; no length is
//! believed before the bytes are there.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, TransferLeaderError, TransferLeaderRequest, VoteRequest, VoteResponse,
};

use crate::log::LogEntry;
use crate::replication::entry;
use crate::replication::types::{Body, Entry, LogId, Types, Vote};

/// The version of these frames.
const FORMAT: u8 = 1;

const OPEN: u8 = 0;
const APPEND: u8 = 1;
const BEAT: u8 = 2;
const VOTE: u8 = 3;
const PRE_VOTE: u8 = 4;
const TRANSFER: u8 = 5;

const APPENDED: u8 = 64;
const CONFLICT: u8 = 65;
const HIGHER_VOTE: u8 = 66;
const DISCARDED: u8 = 67;
const VOTED: u8 = 68;
const TRANSFERRED: u8 = 69;
const VOTE_CHANGED: u8 = 70;
const LOG_NOT_FLUSHED: u8 = 71;
const REFUSED: u8 = 72;

/// Kind and id.
const HEAD: usize = 9;
/// Term and length of an entry.
const ENTRY_HEAD: usize = 12;

pub(super) type Append = AppendEntriesRequest<Types>;

/// What is asked of a peer.
#[derive(Debug)]
pub(super) enum Request {
    /// Entries, or news of what is committed, within a stream of such.
    Append {
        /// Streams of one link have different numbers. An error ends the stream.
        stream: u64,
        rpc: Append,
    },
    /// As [`Request::Append`], alone.
    Beat(Append),
    Vote(VoteRequest<Types>),
    PreVote(VoteRequest<Types>),
    Transfer(TransferLeaderRequest<Types>),
}

/// What a peer answers.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// All entries of the request are stored there.
    Appended,
    /// What the request builds upon is not there.
    Conflict,
    /// The peer knows of a newer vote.
    HigherVote(Vote),
    /// An earlier request of the stream failed, and this one was not looked at.
    Discarded,
    Voted(VoteResponse<Types>),
    Transferred(Result<(), TransferLeaderError<Types>>),
    /// The peer will not have this link. Its own words.
    Refused(String),
}

/// Bytes that are no message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("a message ends too early or too late")]
    Length,
    #[error("a message of kind {0}, which is not known here")]
    Kind(u8),
    #[error("the peer speaks version {0} of Raft between servers, this server version {FORMAT}")]
    Format(u8),
    #[error("a message contradicts itself: {0}")]
    Nonsense(&'static str),
}

/// The first frame of a link to `target`.
pub(super) fn open(target: u64) -> BytesMut {
    let mut out = BytesMut::with_capacity(10);
    out.put_u8(OPEN);
    out.put_u8(FORMAT);
    out.put_u64(target);
    out
}

/// Whom the first frame means.
pub(super) fn opened(mut frame: Bytes) -> Result<u64, Malformed> {
    let [kind, format] = take(&mut frame)?;
    if kind != OPEN {
        return Err(Malformed::Kind(kind));
    }
    if format != FORMAT {
        return Err(Malformed::Format(format));
    }
    let target = u64::from_be_bytes(take(&mut frame)?);
    nothing_left(&frame)?;
    Ok(target)
}

impl Request {
    /// The frame, with an id of 0.
    pub(super) fn encode(self) -> BytesMut {
        match self {
            Request::Append { stream, rpc } => append(APPEND, stream, rpc),
            Request::Beat(rpc) => append(BEAT, 0, rpc),
            Request::Vote(rpc) => vote(VOTE, &rpc),
            Request::PreVote(rpc) => vote(PRE_VOTE, &rpc),
            Request::Transfer(rpc) => {
                let mut out = frame(TRANSFER, 64);
                put_vote(&mut out, rpc.from_leader());
                out.put_u64(*rpc.to_node_id());
                put_log_id(&mut out, rpc.last_log_id());
                out
            }
        }
    }

    /// Reads a frame; its id, and what is asked.
    pub(super) fn decode(mut frame: Bytes) -> Result<(u64, Request), Malformed> {
        let (kind, id) = head(&mut frame)?;
        let from = &mut frame;
        let request = match kind {
            APPEND => {
                let stream = u64::from_be_bytes(take(from)?);
                let rpc = take_append(from)?;
                Request::Append { stream, rpc }
            }
            BEAT => {
                let _stream: [u8; 8] = take(from)?;
                Request::Beat(take_append(from)?)
            }
            VOTE => Request::Vote(take_vote_request(from)?),
            PRE_VOTE => Request::PreVote(take_vote_request(from)?),
            TRANSFER => {
                let vote = take_vote(from)?;
                let to = u64::from_be_bytes(take(from)?);
                Request::Transfer(TransferLeaderRequest::new(vote, to, take_log_id(from)?))
            }
            other => return Err(Malformed::Kind(other)),
        };
        nothing_left(&frame)?;
        Ok((id, request))
    }

    /// Who sent it, as it says: who wants the vote, or leads.
    pub(super) fn sender(&self) -> u64 {
        let vote = match self {
            Request::Append { rpc, .. } | Request::Beat(rpc) => &rpc.vote,
            Request::Vote(rpc) | Request::PreVote(rpc) => &rpc.vote,
            Request::Transfer(rpc) => rpc.from_leader(),
        };
        vote.leader_id.voted_for
    }
}

impl Reply {
    /// The frame that answers request `id`.
    pub(super) fn encode(&self, id: u64) -> BytesMut {
        let mut out = match self {
            Reply::Appended => frame(APPENDED, 0),
            Reply::Conflict => frame(CONFLICT, 0),
            Reply::Discarded => frame(DISCARDED, 0),
            Reply::HigherVote(vote) => {
                let mut out = frame(HIGHER_VOTE, 17);
                put_vote(&mut out, vote);
                out
            }
            Reply::Voted(response) => {
                let mut out = frame(VOTED, 48);
                put_vote(&mut out, &response.vote);
                out.put_u8(u8::from(response.vote_granted));
                put_log_id(&mut out, response.last_log_id.as_ref());
                out
            }
            Reply::Transferred(Ok(())) => frame(TRANSFERRED, 0),
            Reply::Transferred(Err(TransferLeaderError::VoteChanged { expected, actual })) => {
                let mut out = frame(VOTE_CHANGED, 34);
                put_vote(&mut out, expected);
                put_vote(&mut out, actual);
                out
            }
            Reply::Transferred(Err(TransferLeaderError::LogNotFlushed { expected, actual })) => {
                let mut out = frame(LOG_NOT_FLUSHED, 34);
                put_log_id(&mut out, expected.as_ref());
                put_log_id(&mut out, actual.as_ref());
                out
            }
            Reply::Refused(words) => {
                let mut out = frame(REFUSED, words.len());
                out.put_slice(words.as_bytes());
                out
            }
        };
        set_id(&mut out, id);
        out
    }

    /// Reads a frame; the id of the request, and the answer.
    pub(super) fn decode(mut frame: Bytes) -> Result<(u64, Reply), Malformed> {
        let (kind, id) = head(&mut frame)?;
        let from = &mut frame;
        let reply = match kind {
            APPENDED => Reply::Appended,
            CONFLICT => Reply::Conflict,
            DISCARDED => Reply::Discarded,
            HIGHER_VOTE => Reply::HigherVote(take_vote(from)?),
            VOTED => {
                let vote = take_vote(from)?;
                let granted = take_flag(from)?;
                Reply::Voted(VoteResponse::new(vote, take_log_id(from)?, granted))
            }
            TRANSFERRED => Reply::Transferred(Ok(())),
            VOTE_CHANGED => Reply::Transferred(Err(TransferLeaderError::VoteChanged {
                expected: take_vote(from)?,
                actual: take_vote(from)?,
            })),
            LOG_NOT_FLUSHED => Reply::Transferred(Err(TransferLeaderError::LogNotFlushed {
                expected: take_log_id(from)?,
                actual: take_log_id(from)?,
            })),
            REFUSED => {
                let words = from.split_to(from.len().min(1024));
                from.clear();
                Reply::Refused(String::from_utf8_lossy(&words).into_owned())
            }
            other => return Err(Malformed::Kind(other)),
        };
        nothing_left(&frame)?;
        Ok((id, reply))
    }
}

/// Writes the id into a frame.
pub(super) fn set_id(frame: &mut BytesMut, id: u64) {
    if let Some(place) = frame.get_mut(1..HEAD) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

fn frame(kind: u8, room: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(HEAD + room);
    out.put_u8(kind);
    out.put_u64(0);
    out
}

fn head(from: &mut Bytes) -> Result<(u8, u64), Malformed> {
    let [kind] = take(from)?;
    Ok((kind, u64::from_be_bytes(take(from)?)))
}

fn append(kind: u8, stream: u64, rpc: Append) -> BytesMut {
    let body = |entry: &Entry| match &entry.payload {
        EntryPayload::Normal(Body(body)) => body.len(),
        EntryPayload::Blank => 1,
        EntryPayload::Membership(_) => 256,
    };
    let bodies: usize = rpc.entries.iter().map(body).sum();
    let mut out = frame(kind, 80 + rpc.entries.len() * ENTRY_HEAD + bodies);
    out.put_u64(stream);
    put_vote(&mut out, &rpc.vote);
    put_log_id(&mut out, rpc.prev_log_id.as_ref());
    put_log_id(&mut out, rpc.leader_commit.as_ref());
    out.put_u32(length(rpc.entries.len()));
    for entry in rpc.entries {
        let LogEntry { term, body, .. } = entry::to_log(entry);
        out.put_u64(term);
        out.put_u32(length(body.len()));
        out.put_slice(&body);
    }
    out
}

/// The indexes are not written: the entries follow each other, the first one `prev`.
fn take_append(from: &mut Bytes) -> Result<Append, Malformed> {
    let vote = take_vote(from)?;
    if !vote.committed {
        return Err(Malformed::Nonsense("entries of one who was not elected"));
    }
    let prev_log_id = take_log_id(from)?;
    let leader_commit = take_log_id(from)?;
    let count = take_length(from)?;
    if count > from.len() / ENTRY_HEAD {
        return Err(Malformed::Length);
    }
    let mut term = prev_log_id.map_or(0, |prev| prev.leader_id.term);
    let mut index = match prev_log_id {
        Some(prev) => prev.index.checked_add(1),
        None => Some(0),
    };
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let older = term;
        term = u64::from_be_bytes(take(from)?);
        if term < older || term > vote.leader_id.term {
            return Err(Malformed::Nonsense(
                "terms that fall, or that are not there yet",
            ));
        }
        let at = index.ok_or(Malformed::Nonsense("an index beyond all"))?;
        index = at.checked_add(1);
        let len = take_length(from)?;
        if len == 0 || len > from.len() {
            return Err(Malformed::Length);
        }
        let body = from.split_to(len);
        let entry = entry::from_log(LogEntry {
            index: at,
            term,
            body,
        });
        entries.push(entry.map_err(|_| Malformed::Nonsense("a membership that cannot be"))?);
    }
    Ok(Append {
        vote,
        prev_log_id,
        entries,
        leader_commit,
    })
}

fn vote(kind: u8, rpc: &VoteRequest<Types>) -> BytesMut {
    let mut out = frame(kind, 48);
    put_vote(&mut out, &rpc.vote);
    put_log_id(&mut out, rpc.last_log_id.as_ref());
    out.put_u8(u8::from(rpc.leadership_transfer));
    out
}

fn take_vote_request(from: &mut Bytes) -> Result<VoteRequest<Types>, Malformed> {
    let vote = take_vote(from)?;
    if vote.committed {
        return Err(Malformed::Nonsense(
            "a vote is asked for that was won already",
        ));
    }
    let mut rpc = VoteRequest::new(vote, take_log_id(from)?);
    rpc.leadership_transfer = take_flag(from)?;
    Ok(rpc)
}

pub(super) fn put_vote(out: &mut BytesMut, vote: &Vote) {
    out.put_slice(&entry::encode_vote(vote));
}

pub(super) fn take_vote(from: &mut Bytes) -> Result<Vote, Malformed> {
    let bytes: [u8; 17] = take(from)?;
    entry::decode_vote(&bytes).map_err(|_| Malformed::Length)
}

pub(super) fn put_log_id(out: &mut BytesMut, id: Option<&LogId>) {
    match id {
        Some(id) => {
            out.put_u8(1);
            out.put_slice(&entry::encode_log_id(id));
        }
        None => out.put_u8(0),
    }
}

pub(super) fn take_log_id(from: &mut Bytes) -> Result<Option<LogId>, Malformed> {
    if !take_flag(from)? {
        return Ok(None);
    }
    let bytes: [u8; 16] = take(from)?;
    let id = entry::decode_log_id(&bytes).map_err(|_| Malformed::Length)?;
    Ok(Some(id))
}

pub(super) fn take<const N: usize>(from: &mut Bytes) -> Result<[u8; N], Malformed> {
    let taken = *from.first_chunk().ok_or(Malformed::Length)?;
    from.advance(N);
    Ok(taken)
}

fn take_flag(from: &mut Bytes) -> Result<bool, Malformed> {
    match take(from)? {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(Malformed::Nonsense("neither yes nor no")),
    }
}

pub(super) fn take_length(from: &mut Bytes) -> Result<usize, Malformed> {
    let len = u32::from_be_bytes(take(from)?);
    usize::try_from(len).map_err(|_| Malformed::Length)
}

pub(super) fn nothing_left(rest: &Bytes) -> Result<(), Malformed> {
    if rest.is_empty() {
        Ok(())
    } else {
        Err(Malformed::Length)
    }
}

pub(super) fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
