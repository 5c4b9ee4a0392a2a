//! Many connections on one thread.
//!
//! A [`Net`] owns sockets and an epoll instance. It knows frames, the handshake, xids, pings and
//! the end of a session; what a request means is the [`Handler`]'s business. Requests are only
//! queued by [`Net::send`]; they leave in one `write` per connection when the answers that led
//! to them have been looked at.
//!
//! Invariants: answers come in the order of the requests, xid by xid, or the run ends with
//! [`BenchError::OutOfOrder`]; a connection that is idle for a third of its session's timeout
//! pings.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use bytes::BytesMut;
use quorate_proto::{
    ConnectRequest, ConnectResponse, EventType, ReplyHeader, Request, SessionId, WatcherEvent, Xid,
    Zxid, frame,
};
use rustix::event::epoll;

use super::clock::{Clock, nanos};
use super::error::BenchError;
use super::template::Template;

/// What is read at once; grows for a frame that does not fit.
const SCRATCH: usize = 256 << 10;
/// No frame of a server is longer: a list of a million children is 30 MB.
const FRAME_BYTES_MAX: usize = 256 << 20;
/// How often connections are looked over for pings.
const SWEEP: Duration = Duration::from_millis(500);
const EVENTS_AT_ONCE: usize = 256;

/// Which connection; reused after it has closed.
pub(super) type ConnId = usize;

/// An answer to a request.
pub(super) struct Answer<'a> {
    pub(super) conn: ConnId,
    /// What the request was sent with.
    pub(super) tag: u32,
    pub(super) started: u64,
    pub(super) now: u64,
    pub(super) err: i32,
    pub(super) body: &'a [u8],
}

/// What a workload hears.
pub(super) trait Handler {
    /// A session is open; its connection was begun at `started`.
    fn opened(&mut self, net: &mut Net, conn: ConnId, started: u64) -> Result<(), BenchError> {
        let _ = (net, conn, started);
        Ok(())
    }
    /// A request was answered.
    fn answered(&mut self, net: &mut Net, answer: &Answer<'_>) -> Result<(), BenchError> {
        let _ = (net, answer);
        Ok(())
    }
    /// A watch fired.
    fn event(
        &mut self,
        net: &mut Net,
        conn: ConnId,
        event: EventType,
        now: u64,
    ) -> Result<(), BenchError> {
        let _ = (net, conn, event, now);
        Ok(())
    }
    /// A session was closed, as [`Net::close`] asked.
    fn closed(&mut self, net: &mut Net) -> Result<(), BenchError> {
        let _ = net;
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    Open,
    Closing,
}

struct Pending {
    xid: i32,
    tag: u32,
    started: u64,
}

struct Conn {
    socket: TcpStream,
    stage: Stage,
    /// Tells late epoll events of the connection before it from its own.
    generation: u32,
    begun: u64,
    ping_after: u64,
    last_sent: u64,
    next_xid: i32,
    out: Vec<u8>,
    written: usize,
    /// Waits for room in the socket's buffer.
    blocked: bool,
    /// Is on the list of those to be flushed.
    queued: bool,
    /// The beginning of a frame whose rest has not come.
    partial: Vec<u8>,
    pending: VecDeque<Pending>,
}

/// The connections of one thread.
pub(super) struct Net {
    epoll: OwnedFd,
    clock: Clock,
    /// Connections go to them in turn.
    targets: Vec<SocketAddr>,
    hello: Vec<u8>,
    ping: Vec<u8>,
    conns: Vec<Option<Conn>>,
    free: Vec<ConnId>,
    generation: u32,
    to_flush: Vec<ConnId>,
    events: Vec<epoll::Event>,
    scratch: Vec<u8>,
    next_sweep: u64,
}

impl Net {
    pub(super) fn new(
        targets: &[SocketAddr],
        session_timeout: Duration,
        clock: Clock,
    ) -> Result<Net, BenchError> {
        let mut hello = BytesMut::new();
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms: i32::try_from(session_timeout.as_millis()).unwrap_or(i32::MAX),
            session: SessionId::NONE,
            password: Some(&[0; 16]),
            read_only: Some(false),
        }
        .write_frame(&mut hello)?;
        let mut ping = Vec::new();
        Template::new(&Request::Ping)?.write(&mut ping, Xid::PING.0, &[]);
        Ok(Net {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)
                .map_err(BenchError::os("create an epoll instance"))?,
            clock,
            targets: targets.to_vec(),
            hello: hello.to_vec(),
            ping,
            conns: Vec::new(),
            free: Vec::new(),
            generation: 0,
            to_flush: Vec::new(),
            events: Vec::with_capacity(EVENTS_AT_ONCE),
            scratch: vec![0; SCRATCH],
            next_sweep: 0,
        })
    }

    pub(super) const fn clock(&self) -> Clock {
        self.clock
    }

    /// How many connections there are, in whatever stage.
    pub(super) fn len(&self) -> usize {
        self.conns.len() - self.free.len()
    }

    /// Every connection whose session is open.
    pub(super) fn open_conns(&self) -> Vec<ConnId> {
        let open = |(id, conn): (ConnId, &Option<Conn>)| {
            conn.as_ref()
                .is_some_and(|conn| conn.stage == Stage::Open)
                .then_some(id)
        };
        self.conns.iter().enumerate().filter_map(open).collect()
    }

    /// Starts a connection and a session on it.
    pub(super) fn connect(&mut self) -> Result<(), BenchError> {
        let turn = usize::try_from(self.generation).unwrap_or(0) % self.targets.len().max(1);
        let target = *self
            .targets
            .get(turn)
            .ok_or(BenchError::NoAddress(String::new()))?;
        let doing = || format!("connect to {target}");
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(target),
            socket2::Type::STREAM,
            None,
        )
        .map_err(BenchError::io(doing()))?;
        socket
            .set_nonblocking(true)
            .map_err(BenchError::io(doing()))?;
        socket
            .set_tcp_nodelay(true)
            .map_err(BenchError::io(doing()))?;
        match socket.connect(&target.into()) {
            Ok(()) => {}
            Err(error)
                if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(source) => return Err(BenchError::io(doing())(source)),
        }
        self.generation = self.generation.wrapping_add(1);
        let now = self.clock.now();
        let conn = Conn {
            socket: socket.into(),
            stage: Stage::Connecting,
            generation: self.generation,
            begun: now,
            ping_after: u64::MAX,
            last_sent: now,
            next_xid: 1,
            out: self.hello.clone(),
            written: 0,
            // The socket says when it is connected by saying that there is room.
            blocked: true,
            queued: false,
            partial: Vec::new(),
            pending: VecDeque::new(),
        };
        let id = self.free.pop().unwrap_or_else(|| {
            self.conns.push(None);
            self.conns.len() - 1
        });
        epoll::add(
            &self.epoll,
            &conn.socket,
            event_data(id, conn.generation),
            epoll::EventFlags::IN | epoll::EventFlags::OUT,
        )
        .map_err(BenchError::os("watch a socket"))?;
        if let Some(slot) = self.conns.get_mut(id) {
            *slot = Some(conn);
        }
        Ok(())
    }

    /// Queues a request. `tag` and `started` come back with its answer.
    pub(super) fn send(
        &mut self,
        id: ConnId,
        template: &Template,
        numbers: &[u64],
        tag: u32,
        started: u64,
    ) {
        let Some(conn) = self.conns.get_mut(id).and_then(Option::as_mut) else {
            return;
        };
        let xid = conn.next_xid;
        conn.next_xid = if xid == i32::MAX { 1 } else { xid + 1 };
        template.write(&mut conn.out, xid, numbers);
        conn.pending.push_back(Pending { xid, tag, started });
        if !conn.queued {
            conn.queued = true;
            self.to_flush.push(id);
        }
    }

    /// Queues the end of the session; requests that were sent before are answered first.
    pub(super) fn close(&mut self, id: ConnId) -> Result<(), BenchError> {
        let end = Template::new(&Request::CloseSession)?;
        let now = self.clock.now();
        self.send(id, &end, &[], 0, now);
        if let Some(conn) = self.conns.get_mut(id).and_then(Option::as_mut) {
            conn.stage = Stage::Closing;
        }
        Ok(())
    }

    /// Sends what is queued.
    pub(super) fn flush(&mut self) -> Result<(), BenchError> {
        while let Some(id) = self.to_flush.pop() {
            if let Some(conn) = self.conns.get_mut(id).and_then(Option::as_mut) {
                conn.queued = false;
                if !conn.blocked {
                    self.write(id)?;
                }
            }
        }
        Ok(())
    }

    /// Waits until something has happened, at most until `deadline`, and tells the handler.
    pub(super) fn turn<H: Handler>(
        &mut self,
        deadline: u64,
        handler: &mut H,
    ) -> Result<(), BenchError> {
        self.flush()?;
        self.ping_idle()?;
        let wait = self.clock.until(deadline.min(self.next_sweep));
        let timeout = rustix::event::Timespec {
            tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        };
        self.events.clear();
        let spare = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, spare, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(BenchError::os("wait for sockets")(errno)),
        }
        let events = std::mem::take(&mut self.events);
        let mut result = Ok(());
        for event in &events {
            let (id, generation) = event_source(event.data.u64());
            let flags = event.flags;
            let live = |net: &Net| {
                let conn = net.conns.get(id).and_then(Option::as_ref);
                conn.is_some_and(|conn| conn.generation == generation)
            };
            if live(self) && flags.contains(epoll::EventFlags::OUT) {
                result = self.write(id);
            }
            let readable = epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
            if result.is_ok() && live(self) && flags.intersects(readable) {
                result = self.read(id, generation, handler);
            }
            if result.is_err() {
                break;
            }
            self.flush()?;
        }
        self.events = events;
        result
    }

    fn write(&mut self, id: ConnId) -> Result<(), BenchError> {
        let Some(conn) = self.conns.get_mut(id).and_then(Option::as_mut) else {
            return Ok(());
        };
        let was_blocked = conn.blocked;
        conn.blocked = false;
        while let Some(rest) = conn.out.get(conn.written..).filter(|rest| !rest.is_empty()) {
            match conn.socket.write(rest) {
                Ok(n) => conn.written += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    conn.blocked = true;
                    break;
                }
                Err(source) => return Err(BenchError::io("send to the server")(source)),
            }
        }
        if !conn.blocked {
            conn.out.clear();
            conn.written = 0;
        }
        if conn.ping_after != u64::MAX {
            conn.last_sent = self.clock.now();
        }
        if conn.blocked != was_blocked {
            let mut wanted = epoll::EventFlags::IN;
            wanted.set(epoll::EventFlags::OUT, conn.blocked);
            let data = event_data(id, conn.generation);
            epoll::modify(&self.epoll, &conn.socket, data, wanted)
                .map_err(BenchError::os("watch a socket"))?;
        }
        Ok(())
    }

    fn read<H: Handler>(
        &mut self,
        id: ConnId,
        generation: u32,
        handler: &mut H,
    ) -> Result<(), BenchError> {
        // Taken out, so that the handler can use the rest of us while it looks at an answer.
        let mut scratch = std::mem::take(&mut self.scratch);
        let result = self.read_into(&mut scratch, id, generation, handler);
        self.scratch = scratch;
        result
    }

    fn read_into<H: Handler>(
        &mut self,
        scratch: &mut Vec<u8>,
        id: ConnId,
        generation: u32,
        handler: &mut H,
    ) -> Result<(), BenchError> {
        loop {
            let Some(conn) = self.conns.get_mut(id).and_then(Option::as_mut) else {
                return Ok(());
            };
            let kept = conn.partial.len();
            if scratch.len() < 2 * kept {
                scratch.resize(4 * kept, 0);
            }
            let Some((front, room)) = scratch.split_at_mut_checked(kept) else {
                return Ok(());
            };
            let n = match conn.socket.read(room) {
                Ok(0) => return Err(conn.lost(id)),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Err(conn.lost(id));
                }
                Err(source) => return Err(BenchError::io("read from the server")(source)),
            };
            front.copy_from_slice(&conn.partial);
            conn.partial.clear();
            let filled_up = n == room.len();
            let now = self.clock.now();
            let mut rest = scratch.get(..kept + n).unwrap_or_default();
            while let Some((payload, used)) = frame::split(rest, FRAME_BYTES_MAX)? {
                rest = rest.get(used..).unwrap_or_default();
                self.take_frame(id, payload, now, handler)?;
            }
            // The session may have ended with its last frame, and another taken its place.
            let Some(conn) = self.conns.get_mut(id).and_then(Option::as_mut) else {
                return Ok(());
            };
            if conn.generation != generation {
                return Ok(());
            }
            conn.partial.extend_from_slice(rest);
            if !filled_up {
                return Ok(());
            }
        }
    }

    fn take_frame<H: Handler>(
        &mut self,
        id: ConnId,
        payload: &[u8],
        now: u64,
        handler: &mut H,
    ) -> Result<(), BenchError> {
        let Some(conn) = self.conns.get_mut(id).and_then(Option::as_mut) else {
            return Ok(());
        };
        if conn.stage == Stage::Connecting {
            let response = ConnectResponse::decode(payload)?;
            let timeout = u64::try_from(response.timeout_ms).unwrap_or(0);
            if timeout == 0 {
                return Err(BenchError::SessionRefused);
            }
            conn.stage = Stage::Open;
            conn.ping_after = nanos(Duration::from_millis(timeout)) / 3;
            let begun = conn.begun;
            return handler.opened(self, id, begun);
        }
        let (header, body) = ReplyHeader::decode(payload)?;
        match header.xid {
            Xid::PING => return Ok(()),
            Xid::NOTIFICATION => {
                let event = WatcherEvent::decode(body)?;
                return handler.event(self, id, event.event, now);
            }
            Xid(_) => {}
        }
        let expected = conn.pending.pop_front();
        let Some(pending) = expected.filter(|pending| pending.xid == header.xid.0) else {
            return Err(BenchError::OutOfOrder {
                conn: id,
                expected: conn.pending.front().map_or(0, |pending| pending.xid),
                found: header.xid.0,
            });
        };
        if conn.stage == Stage::Closing && conn.pending.is_empty() {
            if let Some(slot) = self.conns.get_mut(id) {
                *slot = None;
                self.free.push(id);
            }
            return handler.closed(self);
        }
        let answer = Answer {
            conn: id,
            tag: pending.tag,
            started: pending.started,
            now,
            err: header.err,
            body,
        };
        handler.answered(self, &answer)
    }

    fn ping_idle(&mut self) -> Result<(), BenchError> {
        let now = self.clock.now();
        if now < self.next_sweep {
            return Ok(());
        }
        self.next_sweep = now + nanos(SWEEP);
        for id in 0..self.conns.len() {
            let Some(conn) = self.conns.get_mut(id).and_then(Option::as_mut) else {
                continue;
            };
            let idle = now.saturating_sub(conn.last_sent);
            if conn.stage == Stage::Open && !conn.blocked && idle > conn.ping_after {
                conn.out.extend_from_slice(&self.ping);
                self.write(id)?;
            }
        }
        Ok(())
    }
}

impl Conn {
    fn lost(&self, id: ConnId) -> BenchError {
        BenchError::ConnectionLost {
            conn: id,
            pending: self.pending.len(),
        }
    }
}

fn event_data(id: ConnId, generation: u32) -> epoll::EventData {
    let id = u64::try_from(id).unwrap_or(u64::MAX);
    epoll::EventData::new_u64(u64::from(generation) << 32 | (id & u64::from(u32::MAX)))
}

fn event_source(data: u64) -> (ConnId, u32) {
    let id = data & u64::from(u32::MAX);
    (
        usize::try_from(id).unwrap_or(usize::MAX),
        u32::try_from(data >> 32).unwrap_or(0),
    )
}
