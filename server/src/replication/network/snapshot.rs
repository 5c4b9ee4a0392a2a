//! A snapshot on its way from a leader to a member, over a link of its own.
//!
//! ```text
//! leader: open, offer {vote, last log id, membership, length}, chunk … chunk
//! member: working … working, then done {vote} or refused {words}
//! ```
//!
//! The file is read and written piece by piece on threads that may block; a few pieces at most
//! are in memory. A member that has a newer vote says so before it takes anything. Either end
//! gives up on a silent one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::future::BoxFuture;
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::codec::{self, Malformed};
use crate::peers::{Call, Caller, Handler, Link, LinkReader, LinkWriter, Purpose};
use crate::replication::entry;
use crate::replication::snapshots::{SnapshotFile, Snapshots};
use crate::replication::types::{Raft, Types, Vote};

const OFFER: u8 = 32;
const CHUNK: u8 = 33;
const WORKING: u8 = 96;
const DONE: u8 = 97;
const REFUSED: u8 = 98;

/// Bytes of a chunk.
const PIECE: usize = 256 * 1024;
/// Pieces between the disk and the link.
const AHEAD: usize = 2;
/// How long the other end may be silent while it is its turn.
const SILENCE: Duration = Duration::from_secs(10);
/// How often a member that checks, loads and installs says that it still does.
const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

type Meta = SnapshotMetaOf<Types>;

/// What a leader offers.
#[derive(Debug, PartialEq)]
struct Offer {
    vote: Vote,
    meta: Meta,
    len: u64,
}

impl Offer {
    fn encode(&self) -> BytesMut {
        let membership = entry::encode_stored_membership(&self.meta.last_membership);
        let mut out = BytesMut::with_capacity(64 + membership.len());
        out.put_u8(OFFER);
        codec::put_vote(&mut out, &self.vote);
        codec::put_log_id(&mut out, self.meta.last_log_id.as_ref());
        out.put_u64(self.len);
        out.put_slice(&membership);
        out
    }

    fn decode(mut frame: Bytes) -> Result<Offer, Malformed> {
        let [kind] = codec::take(&mut frame)?;
        if kind != OFFER {
            return Err(Malformed::Kind(kind));
        }
        let vote = codec::take_vote(&mut frame)?;
        let last_log_id = codec::take_log_id(&mut frame)?;
        let len = u64::from_be_bytes(codec::take(&mut frame)?);
        let last_membership = entry::decode_stored_membership(&frame)
            .map_err(|_| Malformed::Nonsense("a membership that cannot be"))?;
        // openraft takes these for granted, and would panic.
        if !vote.committed {
            return Err(Malformed::Nonsense("a snapshot of one who was not elected"));
        }
        if last_log_id.is_some_and(|last| last.leader_id.term > vote.leader_id.term) {
            return Err(Malformed::Nonsense("a snapshot beyond its leader's term"));
        }
        let meta = Meta {
            last_log_id,
            last_membership,
        };
        Ok(Offer { vote, meta, len })
    }
}

/// What a member says.
enum Word {
    Working,
    Done(Vote),
    Refused(String),
}

impl Word {
    fn encode(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(32);
        match self {
            Word::Working => out.put_u8(WORKING),
            Word::Done(vote) => {
                out.put_u8(DONE);
                codec::put_vote(&mut out, vote);
            }
            Word::Refused(words) => {
                out.put_u8(REFUSED);
                out.put_slice(words.as_bytes());
            }
        }
        out
    }

    fn decode(mut frame: Bytes) -> Result<Word, Malformed> {
        let [kind] = codec::take(&mut frame)?;
        match kind {
            WORKING => Ok(Word::Working),
            DONE => Ok(Word::Done(codec::take_vote(&mut frame)?)),
            REFUSED => {
                frame.truncate(1024);
                Ok(Word::Refused(String::from_utf8_lossy(&frame).into_owned()))
            }
            other => Err(Malformed::Kind(other)),
        }
    }
}

/// Sends a snapshot; the vote of the member when it has installed it, or will not.
pub(super) async fn send(
    call: &dyn Call,
    snapshots: &Arc<Snapshots>,
    target: u64,
    vote: Vote,
    meta: &Meta,
    file: &SnapshotFile,
) -> io::Result<Vote> {
    let mut file = {
        let (snapshots, file) = (snapshots.clone(), file.clone());
        blocking(move || snapshots.open_for_sending(&file)).await??
    };
    let offer = Offer {
        vote,
        meta: meta.clone(),
        len: file.len(),
    };
    let server = u8::try_from(target >> 32).map_err(io::Error::other)?;
    let Link {
        mut reader,
        mut writer,
    } = call.call(server, Purpose::Snapshot).await?;
    let (ready, mut pieces) = mpsc::channel::<io::Result<BytesMut>>(AHEAD);
    // Ends at the end of the file, or when nobody takes the pieces any more.
    let _reading = tokio::task::spawn_blocking(move || {
        loop {
            let mut piece = BytesMut::zeroed(1 + PIECE);
            if let Some(kind) = piece.first_mut() {
                *kind = CHUNK;
            }
            let read = file.read(piece.get_mut(1..).unwrap_or_default());
            let piece = read.map(|read| {
                piece.truncate(1 + read);
                piece
            });
            let over = !matches!(&piece, Ok(piece) if piece.len() > 1);
            if ready.blocking_send(piece).is_err() || over {
                return;
            }
        }
    });
    let sending = async {
        writer.feed(&codec::open(target)).await?;
        within(writer.send(&offer.encode())).await?;
        while let Some(piece) = pieces.recv().await {
            let piece = piece?;
            if piece.len() == 1 {
                return writer.flush().await;
            }
            within(writer.feed(&piece)).await?;
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    };
    tokio::pin!(sending);
    // The member may have its say before it has everything.
    let early = tokio::select! {
        sent = &mut sending => {
            sent?;
            None
        }
        word = verdict(&mut reader, None) => Some(word?),
    };
    match early {
        Some(vote) => Ok(vote),
        None => verdict(&mut reader, Some(SILENCE)).await,
    }
}

/// Waits for the member's last word, as long as it is not silent.
async fn verdict(reader: &mut LinkReader, patience: Option<Duration>) -> io::Result<Vote> {
    loop {
        let frame = match patience {
            Some(patience) => timeout(patience, reader.recv()).await.map_err(silent)??,
            None => reader.recv().await?,
        };
        let frame = frame.ok_or(io::ErrorKind::UnexpectedEof)?;
        match Word::decode(frame).map_err(invalid)? {
            Word::Working => {}
            Word::Done(vote) => return Ok(vote),
            Word::Refused(words) => {
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, words));
            }
        }
    }
}

/// Serves [`Purpose::Snapshot`].
pub(in crate::replication) struct SnapshotHandler {
    raft: Raft,
    node: u64,
    snapshots: Arc<Snapshots>,
}

impl SnapshotHandler {
    /// Takes snapshots that leaders send to `node`, which is this server.
    pub(in crate::replication) fn new(
        raft: Raft,
        node: u64,
        snapshots: Arc<Snapshots>,
    ) -> SnapshotHandler {
        SnapshotHandler {
            raft,
            node,
            snapshots,
        }
    }
}

impl Handler for SnapshotHandler {
    fn handle(&self, caller: Caller, link: Link) -> BoxFuture<'static, ()> {
        let receiving = Receiving {
            raft: self.raft.clone(),
            node: self.node,
            snapshots: self.snapshots.clone(),
            caller,
        };
        Box::pin(async move {
            let Link {
                mut reader,
                mut writer,
            } = link;
            let word = match receiving.run(&mut reader, &mut writer).await {
                Ok(vote) => Word::Done(vote),
                Err(error) => {
                    let error = chain(&error);
                    tracing::warn!(peer = caller.server, error, "a snapshot was not taken");
                    Word::Refused(error)
                }
            };
            // Whether it arrives or not, the link is over.
            let _ = timeout(SILENCE, writer.send(&word.encode())).await;
        })
    }
}

struct Receiving {
    raft: Raft,
    node: u64,
    snapshots: Arc<Snapshots>,
    caller: Caller,
}

impl Receiving {
    async fn run(&self, reader: &mut LinkReader, writer: &mut LinkWriter) -> io::Result<Vote> {
        let meant = codec::opened(frame(reader).await?).map_err(invalid)?;
        if meant != self.node {
            let (node, words) = (self.node, "this is node");
            return Err(io::Error::other(format!(
                "{words} {node:#x}, not {meant:#x}"
            )));
        }
        let offer = Offer::decode(frame(reader).await?).map_err(invalid)?;
        if offer.vote.leader_id.voted_for != self.caller.node {
            return Err(io::Error::other("it is another leader's"));
        }
        let (newest, committed) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            (metrics.vote, metrics.local_committed)
        };
        if newest > offer.vote {
            return Ok(newest);
        }
        // openraft would panic: two entries that are committed would stand at one place.
        if let (Some(last), Some(committed)) = (offer.meta.last_log_id, committed)
            && last > committed
            && last.index <= committed.index
        {
            return Err(io::Error::other("it contradicts what is committed here"));
        }
        let file = self.take(reader, writer, &offer).await?;
        let snapshot = SnapshotOf::<Types, SnapshotFile> {
            meta: offer.meta,
            snapshot: file,
        };
        let installing = self.raft.install_full_snapshot(offer.vote, snapshot);
        let installed = working(writer, installing).await?;
        Ok(installed.map_err(io::Error::other)?.vote)
    }

    /// Takes in the file.
    async fn take(
        &self,
        reader: &mut LinkReader,
        writer: &mut LinkWriter,
        offer: &Offer,
    ) -> io::Result<SnapshotFile> {
        let (give, mut pieces) = mpsc::channel::<Bytes>(AHEAD);
        let (snapshots, meta) = (self.snapshots.clone(), offer.meta.clone());
        let len = offer.len;
        let mut writing = tokio::task::spawn_blocking(move || {
            let mut sink = snapshots.receive(&meta).map_err(io::Error::other)?;
            let mut left = len;
            while left > 0 {
                // The link ended: what was written goes away with the sink.
                let piece = pieces.blocking_recv().ok_or(io::ErrorKind::UnexpectedEof)?;
                let longer = || io::Error::other("it is longer than it was announced");
                let piece_len = u64::try_from(piece.len()).unwrap_or(u64::MAX);
                left = left.checked_sub(piece_len).ok_or_else(longer)?;
                sink.write(&piece).map_err(io::Error::other)?;
            }
            sink.finish().map_err(io::Error::other)
        });
        let reading = async {
            let mut left = len;
            while left > 0 {
                let mut piece = frame(reader).await?;
                if codec::take(&mut piece).map_err(invalid)? != [CHUNK] || piece.is_empty() {
                    return Err(invalid(Malformed::Nonsense("a chunk that is none")));
                }
                left = left.saturating_sub(u64::try_from(piece.remaining()).unwrap_or(u64::MAX));
                if give.send(piece).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        let early = tokio::select! {
            read = reading => {
                read?;
                None
            }
            written = &mut writing => Some(written),
        };
        drop(give);
        let written = match early {
            Some(written) => written,
            None => working(writer, writing).await?,
        };
        written.map_err(io::Error::other)?
    }
}

/// Waits, and says now and then that it does.
async fn working<T>(writer: &mut LinkWriter, what: impl Future<Output = T>) -> io::Result<T> {
    tokio::pin!(what);
    loop {
        match timeout(SIGN_OF_LIFE, &mut what).await {
            Ok(done) => return Ok(done),
            Err(_) => within(writer.send(&Word::Working.encode())).await?,
        }
    }
}

async fn frame(reader: &mut LinkReader) -> io::Result<Bytes> {
    let frame = timeout(SILENCE, reader.recv()).await.map_err(silent)??;
    frame.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

async fn within(what: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    timeout(SILENCE, what).await.map_err(silent)?
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(io::Error::other)
}

fn silent(_: tokio::time::error::Elapsed) -> io::Error {
    let silence = SILENCE.as_secs();
    let message = format!("the other end was silent for {silence} s");
    io::Error::new(io::ErrorKind::TimedOut, message)
}

fn invalid(error: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// An error with its sources, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
