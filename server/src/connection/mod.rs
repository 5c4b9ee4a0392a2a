//! One client connection: frames in, frames out.
//!
//! One task owns the socket, reads and writes. Reading and writing in one task spares a wake-up
//! per request: replies to reads leave in the same turn that read them, in one write. The task
//! holds no large buffer while it waits, so an idle connection costs little.
//!
//! It does not know what a request means: the first frame goes to [`Pipeline::connect`], every
//! later one to the connection's [`Line`]. Where peers share the port, theirs are handed on.

mod socket;

use std::future::poll_fn;
use std::io;
use std::os::fd::AsFd as _;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use quorate_proto::frame;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use self::socket::{ReadTurn, linger, read_turn, write_some};
use crate::clock::SharedClock;
use crate::peers::{FIRST_BYTE, Peers};
use crate::pipeline::{Connected, Line, LineClosed, Pipeline};
use crate::sessions::{CloseReason, Conn, Fate};

/// How long a client may take for the last word to it.
const LAST_WORD: Duration = Duration::from_secs(10);

/// What answers the four-letter words, which stand in for the first frame's length.
pub(crate) trait FourLetter: Send + Sync {
    /// How many bytes the word needs behind its four; `None` if it is none.
    fn extra(&self, word: [u8; 4]) -> Option<usize>;
    /// The answer; the connection closes behind it.
    fn answer(&self, word: [u8; 4], extra: &[u8]) -> Vec<u8>;
}

/// What all connections of a server share.
pub(crate) struct Shared {
    /// Where requests go.
    pub(crate) pipeline: Arc<Pipeline>,
    /// Who answers four-letter words.
    pub(crate) words: Arc<dyn FourLetter>,
    /// The time.
    pub(crate) clock: SharedClock,
    /// How long a socket may take for its connect request.
    pub(crate) sessionless_timeout: Duration,
    /// Who takes the connections of peers where they share a port with clients; `None`: nobody,
    /// and such a connection is closed as any that begins with no frame.
    pub(crate) peers: Option<Arc<dyn PeerPort>>,
}

/// Takes over connections that began as links between servers do.
pub(crate) trait PeerPort: Send + Sync {
    /// The connection, and what was read of it.
    fn adopt(&self, stream: std::net::TcpStream, read: BytesMut);
}

impl PeerPort for Peers {
    fn adopt(&self, stream: std::net::TcpStream, read: BytesMut) {
        self.adopt_tcp(stream, read);
    }
}

/// How a part of a connection's life ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// It has its session: requests come.
    Opened,
    /// It is over, at once.
    Now,
    /// It is over once what is queued is written, if the client takes it.
    LastWord,
    /// It is over, and the client should get to read the last reply, even if it sent more.
    Linger,
}

/// One connection. While it waits for requests it is a few hundred bytes: what it needs to begin
/// and to end is on the heap, for that time alone.
pub(crate) struct Connection {
    stream: TcpStream,
    conn: Arc<Conn>,
    shared: Arc<Shared>,
    /// What was read and is not a whole frame yet.
    inbound: BytesMut,
    /// What is being written; empty unless the socket is full.
    writing: BytesMut,
}

/// What a connection that waits has met.
enum Event {
    /// Its outbox, its fate or its line changed.
    Told,
    /// Something can be read, or nothing ever will.
    Readable(io::Result<()>),
    /// What is left can be written, or nothing ever will.
    Writable(io::Result<()>),
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, conn: Arc<Conn>, shared: Arc<Shared>) -> Connection {
        Connection {
            stream,
            conn,
            shared,
            inbound: BytesMut::new(),
            writing: BytesMut::new(),
        }
    }

    /// Serves it until it is over.
    ///
    /// When the server stops, connections with a session are closed through their outboxes:
    /// thousands of them do not stand in the one list behind `stop`.
    pub(crate) async fn serve(&mut self, stop: &CancellationToken) {
        let mut end = until(stop, self.open()).await;
        if end == End::Opened {
            end = self.requests().await;
        }
        if end == End::LastWord {
            end = until(stop, self.last_word()).await;
        }
        self.shared.pipeline.gone(&self.conn);
        if end == End::Linger {
            Box::pin(linger(&mut self.stream)).await;
        }
    }

    async fn open(&mut self) -> End {
        let opening = tokio::time::timeout(self.shared.sessionless_timeout, self.first_bytes());
        match opening.await {
            Err(_elapsed) => {
                self.shared.pipeline.metrics().sessionless_expired.inc();
                return End::Now;
            }
            Ok(None) => return End::Now,
            Ok(Some(First::Word(answer))) => {
                self.conn
                    .outbox()
                    .queue(|out| out.extend_from_slice(&answer));
                return End::LastWord;
            }
            Ok(Some(First::Peer)) => {
                self.hand_over();
                return End::Now;
            }
            Ok(Some(First::Frame)) => {}
        }
        if self.handshake().await {
            return End::Opened;
        }
        // Its own statement: the guard must not outlive the question.
        let fate = self.conn.outbox().fate();
        match fate {
            Fate::CloseAfterFlush => End::LastWord,
            Fate::Open | Fate::Close(_) => End::Now,
        }
    }

    /// Waits for the first byte of a peer, a four-letter word or a whole connect request. `None`:
    /// over.
    async fn first_bytes(&mut self) -> Option<First> {
        let limit = self.shared.pipeline.frame_limit();
        loop {
            if self.inbound.first() == Some(&FIRST_BYTE) && self.shared.peers.is_some() {
                return Some(First::Peer);
            }
            if let Some(word) = self.inbound.first_chunk::<4>().copied()
                && let Some(extra) = self.shared.words.extra(word)
            {
                if let Some(extra) = self.inbound.get(4..4 + extra) {
                    return Some(First::Word(self.shared.words.answer(word, extra)));
                }
            } else if frame::split(&self.inbound, limit).ok()?.is_some() {
                return Some(First::Frame);
            }
            self.read_more().await?;
        }
    }

    /// Gives the socket to the peers. What remains here is a second handle of it, which goes, and
    /// with it its place among the clients.
    fn hand_over(&mut self) {
        let Some(peers) = &self.shared.peers else {
            return;
        };
        match self.stream.as_fd().try_clone_to_owned() {
            Ok(socket) => peers.adopt(socket.into(), std::mem::take(&mut self.inbound)),
            Err(error) => tracing::warn!(%error, "a peer cannot be taken over"),
        }
    }

    /// Reads once into `inbound`, waiting for something to read.
    async fn read_more(&mut self) -> Option<()> {
        self.stream.readable().await.ok()?;
        let inbound = &mut self.inbound;
        match read_turn(&self.stream, |bytes| inbound.extend_from_slice(bytes)) {
            ReadTurn::Closed => None,
            ReadTurn::Read(n) => {
                self.shared.pipeline.metrics().bytes_received.add(n as u64);
                Some(())
            }
            ReadTurn::Nothing => Some(()),
        }
    }

    /// From the connect request to the reply. False: no session came of it.
    async fn handshake(&mut self) -> bool {
        let limit = self.shared.pipeline.frame_limit();
        let connected = match frame::split(&self.inbound, limit) {
            Ok(Some((payload, used))) => {
                let connected = self.shared.pipeline.connect(&self.conn, payload);
                self.consumed(used);
                connected
            }
            _ => return false,
        };
        let Connected::Waits { at_most } = connected else {
            return false;
        };
        // Whatever the client sent behind stays unread until it has a session.
        let wait = async {
            loop {
                if self.conn.attachment.get().is_some() {
                    return true;
                }
                if self.conn.outbox().fate() != Fate::Open {
                    return false;
                }
                poll_fn(|cx| self.conn.wake.poll_told(cx)).await;
            }
        };
        tokio::time::timeout(at_most, wait).await.unwrap_or(false)
    }

    async fn requests(&mut self) -> End {
        let mut line = Line::new(self.shared.pipeline.clone(), self.conn.clone());
        let mut over = self.take_frames(&mut line).err().map(|LineClosed| End::Now);
        let end = loop {
            if let Some(end) = over.take().or_else(|| self.turn(&mut line)) {
                break end;
            }
            if self.writing.is_empty() && line.lacked_room() {
                // What waited for room in the outbox has it now, and nobody else says so.
                tokio::task::yield_now().await;
                continue;
            }
            over = match self.event(&mut line).await {
                Event::Told | Event::Writable(Ok(())) => None,
                Event::Readable(Ok(())) => {
                    self.read_frames(&mut line).err().map(|LineClosed| End::Now)
                }
                Event::Readable(Err(_)) | Event::Writable(Err(_)) => Some(End::Now),
            };
        };
        line.abandon();
        end
    }

    /// Does what can be done now. `Some`: it is over.
    fn turn(&mut self, line: &mut Line) -> Option<End> {
        line.pump();
        if self.flush().is_err() {
            return Some(End::Now);
        }
        // Its own statement: the guard must not outlive the question.
        let fate = self.conn.outbox().fate();
        match fate {
            Fate::Open => None,
            Fate::CloseAfterFlush => Some(End::LastWord),
            Fate::Close(reason) => {
                self.log_close(reason);
                Some(End::Now)
            }
        }
    }

    /// Waits. By hand, because this is what thousands of idle connections are made of: the socket
    /// and [`Wake`](crate::sessions::Wake) have room for their waker, futures of their own would
    /// add half a kilobyte.
    fn event<'a>(&'a self, line: &'a mut Line) -> impl Future<Output = Event> + Send + 'a {
        let reads = line.may_read();
        let writes = !self.writing.is_empty();
        let mut later = line
            .next_look()
            .map(|later| Box::pin(tokio::time::sleep(later)));
        poll_fn(move |cx| {
            if self.conn.wake.poll_told(cx).is_ready() {
                return Poll::Ready(Event::Told);
            }
            if reads && let Poll::Ready(readable) = self.stream.poll_read_ready(cx) {
                return Poll::Ready(Event::Readable(readable));
            }
            if writes && let Poll::Ready(writable) = self.stream.poll_write_ready(cx) {
                return Poll::Ready(Event::Writable(writable));
            }
            if line.poll_moves(cx).is_ready() {
                return Poll::Ready(Event::Told);
            }
            match &mut later {
                Some(later) => later.as_mut().poll(cx).map(|()| Event::Told),
                None => Poll::Pending,
            }
        })
    }

    /// Reads once and hands every whole frame to the line, from the shared read buffer where it
    /// can: only what is left over is copied.
    fn read_frames(&mut self, line: &mut Line) -> Result<(), LineClosed> {
        let limit = self.shared.pipeline.frame_limit();
        let now = self.shared.clock.monotonic();
        let inbound = &mut self.inbound;
        let mut outcome = Ok(());
        let turn = read_turn(&self.stream, |bytes| {
            if inbound.is_empty() {
                match feed(line, bytes, limit, now) {
                    Ok(used) => inbound.extend_from_slice(bytes.get(used..).unwrap_or_default()),
                    Err(closed) => outcome = Err(closed),
                }
            } else {
                inbound.extend_from_slice(bytes);
            }
        });
        match turn {
            ReadTurn::Closed => return Err(LineClosed),
            ReadTurn::Nothing => return Ok(()),
            ReadTurn::Read(n) => self.shared.pipeline.metrics().bytes_received.add(n as u64),
        }
        outcome?;
        self.take_frames(line)
    }

    /// Hands the whole frames in `inbound` to the line.
    fn take_frames(&mut self, line: &mut Line) -> Result<(), LineClosed> {
        if self.inbound.is_empty() {
            return Ok(());
        }
        let limit = self.shared.pipeline.frame_limit();
        let used = feed(line, &self.inbound, limit, self.shared.clock.monotonic())?;
        self.consumed(used);
        Ok(())
    }

    /// Lets go of the first bytes of `inbound`; a connection that waits holds no buffer.
    fn consumed(&mut self, used: usize) {
        self.inbound.advance(used);
        if self.inbound.is_empty() {
            self.inbound = BytesMut::new();
        }
    }

    /// Writes as much as the socket takes now.
    fn flush(&mut self) -> io::Result<()> {
        loop {
            if self.writing.is_empty() {
                let mut outbox = self.conn.outbox();
                if !outbox.has_queued() {
                    break;
                }
                let frames = outbox.take(&mut self.writing);
                drop(outbox);
                self.shared
                    .pipeline
                    .sent(&self.conn, frames, self.writing.len());
            }
            let written = write_some(&self.stream, &self.writing)?;
            if written == 0 {
                return Ok(());
            }
            self.writing.advance(written);
            self.conn.outbox().written(written);
        }
        self.writing = BytesMut::new();
        Ok(())
    }

    /// Writes everything queued. A client that does not take it must not keep us.
    async fn last_word(&mut self) -> End {
        let all = async {
            loop {
                if self.flush().is_err() {
                    return End::Now;
                }
                if self.writing.is_empty() {
                    return End::Linger;
                }
                if self.stream.writable().await.is_err() {
                    return End::Now;
                }
            }
        };
        tokio::time::timeout(LAST_WORD, all)
            .await
            .unwrap_or(End::Now)
    }

    fn log_close(&self, reason: CloseReason) {
        let (session, peer) = (self.conn.session(), self.conn.peer);
        match reason {
            CloseReason::SlowClient => {
                self.shared.pipeline.metrics().slow_clients_closed.inc();
                tracing::warn!(%session, %peer, "closed: the client does not take its events");
            }
            reason => tracing::debug!(%session, %peer, ?reason, "closed"),
        }
    }
}

/// A part of a connection's life, on the heap, unless the server stops.
fn until<'a>(
    stop: &'a CancellationToken,
    part: impl Future<Output = End> + Send + 'a,
) -> Pin<Box<dyn Future<Output = End> + Send + 'a>> {
    Box::pin(async move {
        tokio::select! {
            biased;
            () = stop.cancelled() => End::Now,
            end = part => end,
        }
    })
}

/// What a connection begins with.
enum First {
    /// A peer's greeting; its beginning is in `inbound`.
    Peer,
    /// A four-letter word; this is its answer.
    Word(Vec<u8>),
    /// A whole frame, at the start of `inbound`.
    Frame,
}

/// Hands the whole frames at the start of `bytes` to the line; returns how many bytes they took.
fn feed(line: &mut Line, bytes: &[u8], limit: usize, now: Duration) -> Result<usize, LineClosed> {
    let mut used = 0;
    while let Some((payload, len)) =
        frame::split(bytes.get(used..).unwrap_or_default(), limit).map_err(|_| LineClosed)?
    {
        line.take(payload, now)?;
        used += len;
    }
    Ok(used)
}
