//! The loop: one thread, one epoll instance, all connections.
//!
//! Invariants: answers leave in the order of the requests; with a disk, no answer leaves before
//! the changes that stand before it on its connection are synced.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;

use bytes::BytesMut;
use quorate_proto::limits::FRAME_BYTES_MAX_DEFAULT;
use quorate_proto::{ConnectRequest, ConnectResponse, SessionId, frame};
use rustix::event::epoll;

use super::answer::{Answers, Effect};
use super::disk::Disk;
use crate::bench::error::BenchError;
use crate::bench::run::NULL_VERSION;

const SCRATCH: usize = 256 << 10;
/// Answers that have left are forgotten when they are this many bytes.
const COMPACT_AT: usize = 64 << 10;
const EVENTS_AT_ONCE: usize = 256;
/// More than any client's id can be.
const LISTENER: u64 = u64::MAX;
const DISK: u64 = u64::MAX - 1;

#[derive(Debug)]
struct Conn {
    socket: TcpStream,
    generation: u32,
    greeted: bool,
    closing: bool,
    blocked: bool,
    partial: Vec<u8>,
    out: Vec<u8>,
    /// How much of `out` has left.
    written: usize,
    /// How much of `out` may leave: up to the first answer to a change that is not synced.
    free: usize,
    /// Where in `out` the answers end that the batch being synced, and the one being gathered,
    /// set free.
    marks: VecDeque<usize>,
    /// Is on the list of the batch being gathered.
    listed: bool,
}

/// A server that listens.
#[derive(Debug)]
pub(in crate::bench) struct Server {
    epoll: OwnedFd,
    listener: TcpListener,
    address: SocketAddr,
    answers: Answers,
    conns: Vec<Option<Conn>>,
    free: Vec<usize>,
    generation: u32,
    zxid: i64,
    sessions: i64,
    disk: Option<Disk>,
    /// What the next batch will hold, and whose answers wait for it.
    gathering: Vec<u8>,
    gathering_for: Vec<(usize, u32)>,
    syncing_for: Vec<(usize, u32)>,
}

impl Server {
    pub(super) fn bind(listen: SocketAddr, fsync: Option<&Path>) -> Result<Server, BenchError> {
        Server::with_disk(listen, fsync.map(Disk::open).transpose()?)
    }

    fn with_disk(listen: SocketAddr, disk: Option<Disk>) -> Result<Server, BenchError> {
        let doing = || format!("listen on {listen}");
        let listener = TcpListener::bind(listen).map_err(BenchError::io(doing()))?;
        listener
            .set_nonblocking(true)
            .map_err(BenchError::io(doing()))?;
        let address = listener.local_addr().map_err(BenchError::io(doing()))?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(BenchError::os("create an epoll instance"))?;
        let watch = BenchError::os("watch a socket");
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::add(&epoll, &listener, data, epoll::EventFlags::IN).map_err(watch)?;
        if let Some(disk) = &disk {
            let data = epoll::EventData::new_u64(DISK);
            epoll::add(&epoll, disk.wake(), data, epoll::EventFlags::IN)
                .map_err(BenchError::os("watch the log"))?;
        }
        Ok(Server {
            epoll,
            listener,
            address,
            answers: Answers::new(),
            conns: Vec::new(),
            free: Vec::new(),
            generation: 0,
            zxid: 1,
            sessions: 0,
            disk,
            gathering: Vec::new(),
            gathering_for: Vec::new(),
            syncing_for: Vec::new(),
        })
    }

    /// Where it listens.
    pub(in crate::bench) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves; returns only with an error.
    pub(in crate::bench) fn serve(mut self) -> Result<(), BenchError> {
        let mut events = Vec::with_capacity(EVENTS_AT_ONCE);
        let mut scratch = vec![0; SCRATCH];
        loop {
            self.turn(&mut events, &mut scratch)?;
        }
    }

    /// Waits until something has happened, and answers it.
    fn turn(
        &mut self,
        events: &mut Vec<epoll::Event>,
        scratch: &mut Vec<u8>,
    ) -> Result<(), BenchError> {
        events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(events), None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(BenchError::os("wait for sockets")(errno)),
        }
        for event in &*events {
            match event.data.u64() {
                LISTENER => self.accept()?,
                DISK => self.disk.iter().for_each(Disk::woken),
                source => {
                    let id = usize::try_from(source & u64::from(u32::MAX)).unwrap_or(0);
                    self.ready(id, source >> 32, event.flags, scratch);
                }
            }
        }
        self.commit()
    }

    fn accept(&mut self) -> Result<(), BenchError> {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // Gone before it was taken, or too many files: the next may do better.
                Err(_) => return Ok(()),
            };
            let configured = socket
                .set_nonblocking(true)
                .and_then(|()| socket.set_nodelay(true));
            if configured.is_err() {
                continue;
            }
            self.generation = self.generation.wrapping_add(1) & 0x7fff_ffff;
            let id = self.free.pop().unwrap_or_else(|| {
                self.conns.push(None);
                self.conns.len() - 1
            });
            let data = event_data(id, self.generation);
            epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN)
                .map_err(BenchError::os("watch a socket"))?;
            if let Some(slot) = self.conns.get_mut(id) {
                *slot = Some(Conn {
                    socket,
                    generation: self.generation,
                    greeted: false,
                    closing: false,
                    blocked: false,
                    partial: Vec::new(),
                    out: Vec::new(),
                    written: 0,
                    free: 0,
                    marks: VecDeque::new(),
                    listed: false,
                });
            }
        }
    }

    fn ready(
        &mut self,
        id: usize,
        generation: u64,
        flags: epoll::EventFlags,
        scratch: &mut Vec<u8>,
    ) {
        let conn = self.conns.get_mut(id).and_then(Option::as_mut);
        let Some(conn) = conn.filter(|conn| u64::from(conn.generation) == generation) else {
            return;
        };
        let gone = epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        let alive = if flags.intersects(gone) {
            false
        } else if flags.contains(epoll::EventFlags::OUT) {
            self.write(id)
        } else {
            conn.closing || self.read(id, scratch).is_some()
        };
        if !alive {
            self.drop_conn(id);
        }
    }

    fn drop_conn(&mut self, id: usize) {
        if self.conns.get_mut(id).and_then(Option::take).is_some() {
            self.free.push(id);
        }
    }

    /// `None` ends the connection.
    fn read(&mut self, id: usize, scratch: &mut Vec<u8>) -> Option<()> {
        loop {
            let conn = self.conns.get_mut(id)?.as_mut()?;
            let kept = conn.partial.len();
            if scratch.len() < 2 * kept {
                scratch.resize(4 * kept, 0);
            }
            let (front, room) = scratch.split_at_mut_checked(kept)?;
            let n = match conn.socket.read(room) {
                Ok(0) => return None,
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return None,
            };
            front.copy_from_slice(&conn.partial);
            conn.partial.clear();
            let filled_up = n == room.len();
            let received = scratch.get(..kept + n)?;
            let used = self.take_frames(id, received)?;
            let conn = self.conns.get_mut(id)?.as_mut()?;
            conn.partial.extend_from_slice(received.get(used..)?);
            if !self.write(id) {
                return None;
            }
            if !filled_up {
                return Some(());
            }
        }
    }

    /// Answers what has come; how many bytes that were.
    fn take_frames(&mut self, id: usize, received: &[u8]) -> Option<usize> {
        let conn = self.conns.get_mut(id)?.as_mut()?;
        if !conn.greeted && (received.starts_with(b"srvr") || received.starts_with(b"ruok")) {
            let text = format!("Zookeeper version: {NULL_VERSION}\nMode: standalone\n");
            conn.out.extend_from_slice(text.as_bytes());
            conn.free = conn.out.len();
            conn.closing = true;
            return Some(received.len());
        }
        let mut used = 0;
        while let Some(rest) = received.get(used..).filter(|_| !conn.closing) {
            let Some((payload, len)) = frame::split(rest, FRAME_BYTES_MAX_DEFAULT).ok()? else {
                break;
            };
            used += len;
            let effect = if conn.greeted {
                self.answers.answer(payload, self.zxid, &mut conn.out)?
            } else {
                conn.greeted = true;
                self.sessions += 1;
                greet(payload, self.sessions, &mut conn.out)?;
                Effect::Write
            };
            conn.closing = effect == Effect::Close;
            if effect != Effect::Read {
                self.zxid += 1;
                if self.disk.is_some() {
                    self.gathering.extend_from_slice(payload);
                    if !conn.listed {
                        conn.listed = true;
                        self.gathering_for.push((id, conn.generation));
                        conn.marks.push_back(conn.out.len());
                    }
                }
            }
            match conn.marks.back_mut() {
                // Behind a change that is not synced everything waits for it.
                Some(mark) => *mark = conn.out.len(),
                None => conn.free = conn.out.len(),
            }
        }
        Some(used)
    }

    /// Sets free what the last batch has made safe, and starts the next.
    fn commit(&mut self) -> Result<(), BenchError> {
        let Some(disk) = &mut self.disk else {
            return Ok(());
        };
        if !disk.idle()? {
            return Ok(());
        }
        if !self.gathering.is_empty() {
            // First, so that the disk works while the answers leave.
            disk.give(&mut self.gathering);
        }
        let safe = std::mem::replace(
            &mut self.syncing_for,
            std::mem::take(&mut self.gathering_for),
        );
        for &(id, generation) in &self.syncing_for {
            let conn = self.conns.get_mut(id).and_then(Option::as_mut);
            if let Some(conn) = conn.filter(|conn| conn.generation == generation) {
                conn.listed = false;
            }
        }
        for &(id, generation) in &safe {
            let conn = self.conns.get_mut(id).and_then(Option::as_mut);
            let Some(conn) = conn.filter(|conn| conn.generation == generation) else {
                continue;
            };
            if let Some(mark) = conn.marks.pop_front() {
                conn.free = mark;
            }
            if !self.write(id) {
                self.drop_conn(id);
            }
        }
        self.gathering_for = safe;
        self.gathering_for.clear();
        Ok(())
    }

    /// Sends what may leave; `false` ends the connection.
    fn write(&mut self, id: usize) -> bool {
        let Some(conn) = self.conns.get_mut(id).and_then(Option::as_mut) else {
            return true;
        };
        let was_blocked = conn.blocked;
        conn.blocked = false;
        while let Some(rest) = conn
            .out
            .get(conn.written..conn.free)
            .filter(|rest| !rest.is_empty())
        {
            match conn.socket.write(rest) {
                Ok(n) => conn.written += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    conn.blocked = true;
                    break;
                }
                Err(_) => return false,
            }
        }
        if conn.written == conn.out.len() {
            conn.out.clear();
            (conn.written, conn.free) = (0, 0);
            if conn.closing {
                return false;
            }
        }
        if conn.written >= COMPACT_AT {
            // With a batch always in flight it would never be empty.
            conn.out.drain(..conn.written);
            conn.free -= conn.written;
            for mark in &mut conn.marks {
                *mark -= conn.written;
            }
            conn.written = 0;
        }
        if conn.blocked != was_blocked {
            let mut wanted = epoll::EventFlags::IN;
            wanted.set(epoll::EventFlags::OUT, conn.blocked);
            let data = event_data(id, conn.generation);
            return epoll::modify(&self.epoll, &conn.socket, data, wanted).is_ok();
        }
        true
    }
}

fn greet(payload: &[u8], session: i64, out: &mut Vec<u8>) -> Option<()> {
    let request = ConnectRequest::decode(payload).ok()?;
    let mut response = BytesMut::new();
    ConnectResponse {
        timeout_ms: request.timeout_ms.max(1),
        session: SessionId(session),
        password: [1; 16],
        read_only: request.read_only.map(|_| false),
    }
    .write_frame(&mut response);
    out.extend_from_slice(&response);
    Some(())
}

fn event_data(id: usize, generation: u32) -> epoll::EventData {
    let id = u64::try_from(id).unwrap_or(0) & u64::from(u32::MAX);
    epoll::EventData::new_u64(u64::from(generation) << 32 | id)
}

#[cfg(test)]
mod tests {
    use quorate_proto::request::{PathVersion, PathWatch};
    use quorate_proto::{ReplyHeader, Request, Version, Xid, Zxid};

    use super::*;

    struct Client(TcpStream);

    impl Client {
        fn send(&mut self, requests: &[(i32, Request<'_>)]) {
            let mut out = BytesMut::new();
            for (xid, request) in requests {
                request.write_frame(&mut out, Xid(*xid)).unwrap();
            }
            self.0.write_all(&out).unwrap();
        }

        /// The xids of the answers that are there.
        fn answered(&mut self) -> Vec<i32> {
            let mut received = Vec::new();
            let mut some = [0; 4096];
            while let Ok(n) = self.0.read(&mut some) {
                received.extend_from_slice(&some[..n]);
            }
            let mut rest = &received[..];
            let mut xids = Vec::new();
            while let Some((payload, used)) = frame::split(rest, 1 << 20).unwrap() {
                xids.push(ReplyHeader::decode(payload).unwrap().0.xid.0);
                rest = &rest[used..];
            }
            xids
        }
    }

    fn read() -> Request<'static> {
        Request::Exists(PathWatch {
            path: "/a".into(),
            watch: false,
        })
    }

    fn write() -> Request<'static> {
        Request::Delete(PathVersion {
            path: "/a".into(),
            version: Version::ANY,
        })
    }

    #[test]
    fn no_answer_leaves_before_the_changes_in_front_of_it_are_synced() {
        let (disk, held) = Disk::held();
        let mut server = Server::with_disk("127.0.0.1:0".parse().unwrap(), Some(disk)).unwrap();
        let mut client = Client(TcpStream::connect(server.address()).unwrap());
        let (mut events, mut scratch) = (Vec::with_capacity(8), vec![0; SCRATCH]);
        let mut turn = || server.turn(&mut events, &mut scratch).unwrap();
        turn();
        let mut hello = BytesMut::new();
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms: 4_000,
            session: SessionId::NONE,
            password: None,
            read_only: None,
        }
        .write_frame(&mut hello)
        .unwrap();
        client.0.write_all(&hello).unwrap();
        turn();
        held.sync().unwrap();
        turn();
        let mut greeting = [0; 40];
        client.0.read_exact(&mut greeting).unwrap();
        client.0.set_nonblocking(true).unwrap();

        client.send(&[(1, read()), (2, write()), (3, read())]);
        turn();
        assert_eq!(client.answered(), [1]);
        client.send(&[(4, write()), (5, write())]);
        turn();
        assert_eq!(client.answered(), [0; 0], "both batches wait");
        assert!(held.sync().is_some());
        turn();
        assert_eq!(client.answered(), [2, 3]);
        let batch = held.sync().expect("the second batch was given");
        assert!(!batch.is_empty());
        assert!(held.sync().is_none(), "4 and 5 share it");
        turn();
        assert_eq!(client.answered(), [4, 5]);
    }
}
