//! A thin client that shows what is on the wire.
//!
//! It does what it is told and nothing else: it sends no pings, repeats nothing, never reconnects
//! and checks no order, so that a test sees every frame as the server sent it, and in its order.
//! For a client to build on, take another.
//!
//! ```no_run
//! # async fn example(addr: std::net::SocketAddr) {
//! use quorate_server::testing::wire::{Frame, WireClient};
//!
//! let mut client = WireClient::open(addr).await;
//! client.create("/a", b"data").await.expect("the znode is new");
//! client.get_data("/a", true).await.expect("it is there");
//! client.set_data("/a", b"other", -1).await.expect("any version will do");
//! let event = client.event().await;
//! assert_eq!(event.path, "/a");
//! assert_eq!(event.zxid, client.last_header().zxid);
//! # }
//! ```
//!
//! **Waits are bounded.** Whatever does not come within [`PATIENCE`] of real time fails the test
//! with a panic that says what was waited for. Do not pause tokio's clock around this client: a
//! paused clock jumps over the wait while the bytes are still on their way.

mod operations;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quorate_proto::{
    ConnectRequest, ConnectResponse, ErrorCode, EventType, OpCode, Reply, ReplyHeader, Request,
    RequestHeader, ServerFrame, SessionId, Xid, Zxid, frame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub use operations::OpOutcome;
pub use quorate_proto as proto;

/// How long anything is waited for.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What a handshake says. The default asks for a new session, as current clients do.
#[derive(Clone)]
pub struct ConnectOptions {
    /// The version of the protocol; 0.
    pub protocol_version: i32,
    /// The highest zxid that the client pretends to have seen.
    pub last_zxid_seen: Zxid,
    /// The session timeout to wish for, in milliseconds; 10 000.
    pub timeout_ms: i32,
    /// The session to take up again; none.
    pub session: SessionId,
    /// Its password; 16 zero bytes.
    pub password: Option<Vec<u8>>,
    /// The last byte of the request, `None` to leave it out; false.
    pub read_only: Option<bool>,
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms: 10_000,
            session: SessionId::NONE,
            password: Some(vec![0; 16]),
            read_only: Some(false),
        }
    }
}

impl ConnectOptions {
    /// Asks for a new session with this timeout.
    #[must_use]
    pub fn with_timeout_ms(timeout_ms: i32) -> ConnectOptions {
        ConnectOptions {
            timeout_ms,
            ..ConnectOptions::default()
        }
    }

    /// Takes a session up again.
    #[must_use]
    pub fn reattach(session: SessionId, password: [u8; 16]) -> ConnectOptions {
        ConnectOptions {
            session,
            password: Some(password.to_vec()),
            ..ConnectOptions::default()
        }
    }
}

/// How a handshake ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// There is a session.
    Accepted {
        /// Which.
        session: SessionId,
        /// Its password.
        password: [u8; 16],
        /// The timeout that was agreed on.
        timeout: Duration,
        /// Whether the server is read-only; `None` if the answer does not say.
        read_only: Option<bool>,
        /// Bytes of the answer, without its prefix: 37, or 36 without the last byte.
        raw_len: usize,
    },
    /// The server answered with a timeout of 0: expired, unknown, or the wrong password.
    Refused {
        /// 0 from a server that keeps the protocol.
        session: SessionId,
        /// All zero from a server that keeps the protocol.
        password: [u8; 16],
        /// Bytes of the answer, without its prefix.
        raw_len: usize,
    },
    /// The server closed the connection without a byte.
    ClosedWithoutReply,
}

/// Hides the password.
impl std::fmt::Debug for Handshake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Handshake::Accepted {
                session, timeout, ..
            } => write!(f, "Accepted({session}, {timeout:?})"),
            Handshake::Refused { session, .. } => write!(f, "Refused({session})"),
            Handshake::ClosedWithoutReply => f.write_str("ClosedWithoutReply"),
        }
    }
}

/// A notification.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// That of the header: of the transaction that fired it, or -1.
    pub zxid: Zxid,
    /// What happened.
    pub kind: EventType,
    /// To which znode.
    pub path: String,
}

/// A reply, its body not yet read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// Its header.
    pub header: ReplyHeader,
    /// What stands behind the header.
    pub body: Bytes,
}

impl Response {
    /// The body as the answer to `op`.
    ///
    /// # Errors
    /// The code of the header.
    ///
    /// # Panics
    /// If the header has a number that is no code, or the body is not what `op` is answered with.
    pub fn result(&self, op: OpCode) -> Result<Reply<'_>, ErrorCode> {
        if self.header.err != 0 {
            let code = ErrorCode::from_code(self.header.err);
            return Err(code.unwrap_or_else(|| panic!("{} is no error code", self.header.err)));
        }
        match Reply::decode(op, &self.body) {
            Ok(reply) => Ok(reply),
            Err(error) => panic!("reply to {}: {error}: {:02x?}", op.name(), self.body),
        }
    }
}

/// What comes from a server after the handshake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// A reply.
    Reply(Response),
    /// A notification.
    Event(Event),
}

/// One connection.
///
/// Frames are read by whoever waits for one; there is no task behind it. Dropping it closes the
/// connection and leaves the session alone.
#[derive(Debug)]
pub struct WireClient {
    socket: TcpStream,
    /// What has arrived and was not yet taken as a frame.
    unread: BytesMut,
    /// Events that came while a reply was waited for. As many as the test provokes.
    events: VecDeque<Event>,
    handshake: Handshake,
    last_header: ReplyHeader,
    last_xid: i32,
}

impl WireClient {
    /// A TCP connection without a handshake: for four-letter words, and for what is no protocol.
    ///
    /// # Panics
    /// If there is no connection within [`PATIENCE`].
    pub async fn tcp(addr: SocketAddr) -> WireClient {
        let socket = bounded("a connection", TcpStream::connect(addr)).await;
        let socket = socket.unwrap_or_else(|error| panic!("no connection to {addr}: {error}"));
        // Without this a test that sends in pieces waits for acknowledgements.
        let _ = socket.set_nodelay(true);
        WireClient {
            socket,
            unread: BytesMut::new(),
            events: VecDeque::new(),
            handshake: Handshake::ClosedWithoutReply,
            last_header: ReplyHeader {
                xid: Xid(0),
                zxid: Zxid::ZERO,
                err: 0,
            },
            last_xid: 0,
        }
    }

    /// Connects and shakes hands; [`WireClient::handshake`] says how that ended.
    ///
    /// # Panics
    /// If there is no connection within [`PATIENCE`], or no end to the handshake.
    pub async fn connect(addr: SocketAddr, options: &ConnectOptions) -> (WireClient, Handshake) {
        let mut client = WireClient::tcp(addr).await;
        let handshake = client.shake_hands(options).await;
        (client, handshake)
    }

    /// Connects with a new session and the default options.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn open(addr: SocketAddr) -> WireClient {
        WireClient::open_with(addr, &ConnectOptions::default()).await
    }

    /// Connects, and insists on a session.
    ///
    /// # Panics
    /// If the server refuses.
    pub async fn open_with(addr: SocketAddr, options: &ConnectOptions) -> WireClient {
        let (client, handshake) = WireClient::connect(addr, options).await;
        match handshake {
            Handshake::Accepted { .. } => client,
            _ => panic!("no session at {addr}: {handshake:?}"),
        }
    }

    /// Sends a handshake over a connection made by [`WireClient::tcp`] and reads the answer.
    ///
    /// # Panics
    /// If nothing comes within [`PATIENCE`], or something that is no answer.
    pub async fn shake_hands(&mut self, options: &ConnectOptions) -> Handshake {
        let request = ConnectRequest {
            protocol_version: options.protocol_version,
            last_zxid_seen: options.last_zxid_seen,
            timeout_ms: options.timeout_ms,
            session: options.session,
            password: options.password.as_deref(),
            read_only: options.read_only,
        };
        let mut out = BytesMut::new();
        request
            .write_frame(&mut out)
            .expect("a handshake fits into a frame");
        self.send_raw(&out).await;
        self.handshake = match self.next_frame().await {
            None => Handshake::ClosedWithoutReply,
            Some(answer) => read_handshake(&answer),
        };
        self.handshake
    }

    /// How the handshake ended; `ClosedWithoutReply` if there was none.
    #[must_use]
    pub fn handshake(&self) -> Handshake {
        self.handshake
    }

    /// The session.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn session(&self) -> SessionId {
        match self.handshake {
            Handshake::Accepted { session, .. } => session,
            other => panic!("no session: {other:?}"),
        }
    }

    /// What it takes to take the session up again on another connection.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn reattach(&self) -> ConnectOptions {
        match self.handshake {
            Handshake::Accepted {
                session, password, ..
            } => ConnectOptions::reattach(session, password),
            other => panic!("no session: {other:?}"),
        }
    }

    /// The header of the last reply that was read: its xid, zxid and error.
    #[must_use]
    pub fn last_header(&self) -> ReplyHeader {
        self.last_header
    }

    /// The socket, for what has no method here.
    pub fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Sends bytes as they are, prefix included.
    ///
    /// A connection that the server has closed swallows them: what is read next tells.
    ///
    /// # Panics
    /// If the server does not take them within [`PATIENCE`].
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        let _ = bounded("room to send", self.socket.write_all(bytes)).await;
    }

    /// Sends a request of any opcode with any body.
    ///
    /// # Panics
    /// As [`WireClient::send_raw`].
    pub async fn send(&mut self, xid: Xid, op: i32, body: &[u8]) {
        let mut out = BytesMut::new();
        frame::write(&mut out, |writer| {
            RequestHeader { xid, op }.encode(writer);
            writer.raw(body);
        })
        .expect("a test's body fits into a frame");
        self.send_raw(&out).await;
    }

    /// Sends a request under the next xid, or under its own if it has one (ping, auth,
    /// setWatches), and does not wait.
    ///
    /// # Panics
    /// As [`WireClient::send_raw`].
    pub async fn submit(&mut self, request: &Request<'_>) -> Xid {
        let xid = match request.op() {
            OpCode::Ping => Xid::PING,
            OpCode::Auth => Xid::AUTH,
            OpCode::SetWatches | OpCode::SetWatches2 => Xid::SET_WATCHES,
            _ => {
                self.last_xid = self.last_xid.wrapping_add(1);
                Xid(self.last_xid)
            }
        };
        let mut out = BytesMut::new();
        request
            .write_frame(&mut out, xid)
            .expect("a test's request fits into a frame");
        self.send_raw(&out).await;
        xid
    }

    /// The payload of the next frame; `None` if the server has closed the connection, be it in
    /// the middle of one.
    ///
    /// # Panics
    /// If neither happens within [`PATIENCE`].
    pub async fn next_frame(&mut self) -> Option<Bytes> {
        loop {
            // A server may send as much as a length can say.
            let limit = i32::MAX.unsigned_abs() as usize;
            match frame::split(&self.unread, limit) {
                Ok(Some((_, used))) => {
                    let frame = self.unread.split_to(used).freeze();
                    return Some(frame.slice(frame::PREFIX_LEN..));
                }
                Ok(None) => {}
                Err(error) => panic!("the server sent a {error}"),
            }
            let read = self.socket.read_buf(&mut self.unread);
            match bounded("a frame, or the end of the connection", read).await {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("reading from the server: {error}"),
            }
        }
    }

    /// The next frame as what it is; `None` if the server has closed the connection.
    ///
    /// Does not look at the events that were put aside, see [`WireClient::events`].
    ///
    /// # Panics
    /// If nothing comes within [`PATIENCE`], or something that is neither reply nor event.
    pub async fn next(&mut self) -> Option<Frame> {
        let payload = self.next_frame().await?;
        let decoded = ServerFrame::decode(&payload)
            .unwrap_or_else(|error| panic!("frame of the server: {error}: {payload:02x?}"));
        Some(match decoded {
            ServerFrame::Event(zxid, event) => Frame::Event(Event {
                zxid,
                kind: event.event,
                path: event.path.into_owned(),
            }),
            ServerFrame::Reply(header, body) => {
                self.last_header = header;
                let body = payload.slice_ref(body);
                Frame::Reply(Response { header, body })
            }
        })
    }

    /// The next reply; events on the way are put aside.
    ///
    /// # Panics
    /// If the connection is closed instead, or nothing comes within [`PATIENCE`].
    pub async fn reply(&mut self) -> Response {
        loop {
            match self.next().await {
                Some(Frame::Reply(response)) => return response,
                Some(Frame::Event(event)) => self.events.push_back(event),
                None => panic!("the server closed the connection instead of a reply"),
            }
        }
    }

    /// The next event, put aside or still to come.
    ///
    /// # Panics
    /// If a reply or the end of the connection comes instead, or nothing within [`PATIENCE`].
    pub async fn event(&mut self) -> Event {
        if let Some(event) = self.events.pop_front() {
            return event;
        }
        match self.next().await {
            Some(Frame::Event(event)) => event,
            other => panic!("no event but {other:?}"),
        }
    }

    /// Takes the events that were put aside. With a `ping` in front, no event that was fired
    /// before is missing.
    pub fn events(&mut self) -> Vec<Event> {
        self.events.drain(..).collect()
    }

    /// Sends a request and waits for its reply; events on the way are put aside.
    ///
    /// # Panics
    /// If another reply, or none, or the end of the connection comes instead.
    pub async fn call(&mut self, request: &Request<'_>) -> Response {
        let xid = self.submit(request).await;
        let response = self.reply().await;
        let op = request.op().name();
        assert_eq!(response.header.xid, xid, "reply to another than {op}");
        response
    }

    /// Sends a request and returns every frame up to its reply, events in their place.
    ///
    /// # Panics
    /// As [`WireClient::call`].
    pub async fn call_traced(&mut self, request: &Request<'_>) -> Vec<Frame> {
        self.submit(request).await;
        let mut frames = Vec::new();
        loop {
            let frame = self.next().await;
            let frame =
                frame.unwrap_or_else(|| panic!("closed instead of a reply, after {frames:?}"));
            let last = matches!(frame, Frame::Reply(_));
            frames.push(frame);
            if last {
                return frames;
            }
        }
    }

    /// Waits for the server to close the connection.
    ///
    /// # Panics
    /// If a frame comes instead, or nothing within [`PATIENCE`].
    pub async fn closed(&mut self) {
        if let Some(payload) = self.next_frame().await {
            panic!("a frame instead of the end of the connection: {payload:02x?}");
        }
    }

    /// Sends a four-letter word over a connection made by [`WireClient::tcp`], and reads the
    /// whole answer.
    ///
    /// # Panics
    /// If the server has not closed the connection within [`PATIENCE`].
    pub async fn word(mut self, word: &str) -> String {
        self.send_raw(word.as_bytes()).await;
        let mut text = Vec::new();
        let _ = bounded("the end of the answer", self.socket.read_to_end(&mut text)).await;
        String::from_utf8_lossy(&text).into_owned()
    }
}

fn read_handshake(answer: &Bytes) -> Handshake {
    let response = ConnectResponse::decode(answer)
        .unwrap_or_else(|error| panic!("answer to the handshake: {error}: {answer:02x?}"));
    let ConnectResponse {
        timeout_ms,
        session,
        password,
        read_only,
    } = response;
    let raw_len = answer.len();
    match u64::try_from(timeout_ms) {
        Ok(timeout_ms) if timeout_ms > 0 => Handshake::Accepted {
            session,
            password,
            timeout: Duration::from_millis(timeout_ms),
            read_only,
            raw_len,
        },
        _ => Handshake::Refused {
            session,
            password,
            raw_len,
        },
    }
}

/// Waits for `what`, and not for ever.
async fn bounded<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} for {what}"),
    }
}

#[cfg(test)]
mod tests;
