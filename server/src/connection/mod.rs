//! One client connection: frames in, frames out.
//!
//! One task owns the socket, reads and writes. Reading and writing in one task spares a wake-up
//! per request: replies to reads leave in the same turn that read them, in one write. The task
//! holds no large buffer while it waits, so an idle connection costs little.
//!
//! It does not know what a request means: the first frame goes to [`Pipeline::connect`], every
//! later one to the connection's [`Line`].

mod socket;

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use quorate_proto::frame;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use self::socket::{ReadTurn, linger, read_turn, readable, write_some};
use crate::clock::SharedClock;
use crate::pipeline::{Connected, Line, LineClosed, Pipeline};
use crate::sessions::{CloseReason, Conn, Fate};

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
}

/// Serves one connection until it is over.
pub(crate) async fn serve(
    stream: TcpStream,
    conn: Arc<Conn>,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    let mut task = Task {
        stream,
        conn,
        shared,
        inbound: BytesMut::new(),
        writing: BytesMut::new(),
    };
    let end = tokio::select! {
        biased;
        () = stop.cancelled() => End::Now,
        end = task.run() => end,
    };
    let Task {
        stream,
        conn,
        shared,
        ..
    } = task;
    shared.pipeline.gone(&conn);
    if end == End::Linger {
        linger(stream).await;
    }
}

/// How a connection ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// At once.
    Now,
    /// With a last reply that the client should get to read, even if it sent more.
    Linger,
}

struct Task {
    stream: TcpStream,
    conn: Arc<Conn>,
    shared: Arc<Shared>,
    /// What was read and is not a whole frame yet.
    inbound: BytesMut,
    /// What is being written; empty unless the socket is full.
    writing: BytesMut,
}

impl Task {
    async fn run(&mut self) -> End {
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
                return match self.flush_all().await {
                    true => End::Linger,
                    false => End::Now,
                };
            }
            Ok(Some(First::Frame)) => {}
        }
        match self.handshake().await {
            true => self.requests().await,
            false => {
                let refused = self.conn.outbox().fate() == Fate::CloseAfterFlush;
                if refused && self.flush_all().await {
                    End::Linger
                } else {
                    End::Now
                }
            }
        }
    }

    /// Waits for a four-letter word or a whole connect request. `None`: over.
    async fn first_bytes(&mut self) -> Option<First> {
        let limit = self.shared.pipeline.frame_limit();
        loop {
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

    /// Reads once into `inbound`, waiting for something to read.
    async fn read_more(&mut self) -> Option<()> {
        readable(&self.stream).await.ok()?;
        let inbound = &mut self.inbound;
        match read_turn(&mut self.stream, |bytes| inbound.extend_from_slice(bytes)).await {
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
                self.inbound.advance(used);
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
                self.conn.wake.notified().await;
            }
        };
        tokio::time::timeout(at_most, wait).await.unwrap_or(false)
    }

    async fn requests(&mut self) -> End {
        let mut line = Line::new(self.shared.pipeline.clone(), self.conn.clone());
        let end = self.serve_line(&mut line).await;
        line.abandon();
        end
    }

    async fn serve_line(&mut self, line: &mut Line) -> End {
        if self.take_frames(line).is_err() {
            return End::Now;
        }
        loop {
            line.pump();
            if self.flush().is_err() {
                return End::Now;
            }
            // Its own statement: the guard must not outlive the question.
            let fate = self.conn.outbox().fate();
            match fate {
                Fate::Open => {}
                // The last word is due. A client that does not take it must not keep us.
                Fate::CloseAfterFlush => {
                    return match self.flush_all().await {
                        true => End::Linger,
                        false => End::Now,
                    };
                }
                Fate::Close(reason) => {
                    self.log_close(reason);
                    return End::Now;
                }
            }
            if self.writing.is_empty() && line.lacked_room() {
                // What waited for room in the outbox has it now, and nobody else says so.
                tokio::task::yield_now().await;
                continue;
            }
            let reads = line.may_read();
            let later = line.next_look();
            tokio::select! {
                biased;
                () = self.conn.wake.notified() => {}
                readable = readable(&self.stream), if reads => {
                    if readable.is_err() || self.read_frames(line).await.is_err() {
                        return End::Now;
                    }
                }
                writable = self.stream.writable(), if !self.writing.is_empty() => {
                    if writable.is_err() {
                        return End::Now;
                    }
                }
                () = line.synced() => {}
                () = async { tokio::time::sleep(later.unwrap_or_default()).await },
                    if later.is_some() => {}
            }
        }
    }

    /// Reads once and hands every whole frame to the line, from the shared read buffer where it
    /// can: only what is left over is copied.
    async fn read_frames(&mut self, line: &mut Line) -> Result<(), LineClosed> {
        let limit = self.shared.pipeline.frame_limit();
        let now = self.shared.clock.monotonic();
        let inbound = &mut self.inbound;
        let mut outcome = Ok(());
        let turn = read_turn(&mut self.stream, |bytes| {
            if inbound.is_empty() {
                match feed(line, bytes, limit, now) {
                    Ok(used) => inbound.extend_from_slice(bytes.get(used..).unwrap_or_default()),
                    Err(closed) => outcome = Err(closed),
                }
            } else {
                inbound.extend_from_slice(bytes);
            }
        })
        .await;
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
        self.inbound.advance(used);
        if self.inbound.is_empty() {
            // A connection that waits holds no buffer.
            self.inbound = BytesMut::new();
        }
        Ok(())
    }

    /// Writes as much as the socket takes now.
    fn flush(&mut self) -> std::io::Result<()> {
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

    /// Writes everything queued, within a bound. False if the client does not take it.
    async fn flush_all(&mut self) -> bool {
        let all = async {
            loop {
                if self.flush().is_err() {
                    return false;
                }
                if self.writing.is_empty() {
                    return true;
                }
                if self.stream.writable().await.is_err() {
                    return false;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), all)
            .await
            .unwrap_or(false)
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

/// What a connection begins with.
enum First {
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
