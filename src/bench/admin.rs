//! What happens before and after a run: one blocking connection that makes the znodes and
//! deletes them, and the four-letter words that say who the server is.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::BytesMut;
use quorate_proto::request::{Create, PathVersion, PathWatch};
use quorate_proto::{
    AclRef, ConnectRequest, ConnectResponse, ErrorCode, OpCode, Perms, Reply, ReplyHeader, Request,
    SessionId, Version, Xid, Zxid, frame,
};

use super::error::BenchError;

/// Requests in flight: enough to keep a server busy, and small enough that neither side's socket
/// buffers fill up while the other one writes.
const IN_FLIGHT: usize = 256;
const FRAME_BYTES_MAX: usize = 256 << 20;
/// How long a server may take for one answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// `world:anyone`, everything.
pub(super) fn open_acl() -> Option<Vec<AclRef<'static>>> {
    Some(vec![AclRef {
        perms: Perms::ALL,
        scheme: Some("world".into()),
        id: Some("anyone".into()),
    }])
}

/// A plain create.
pub(super) fn create<'a>(path: &'a str, data: &'a [u8], flags: i32) -> Request<'a> {
    Request::Create(Create {
        path: path.into(),
        data: Some(data),
        acl: open_acl(),
        flags,
    })
}

/// One session on a blocking socket.
pub(super) struct Admin {
    socket: TcpStream,
    received: BytesMut,
    out: BytesMut,
}

impl Admin {
    pub(super) fn connect(target: SocketAddr, timeout: Duration) -> Result<Admin, BenchError> {
        let doing = || format!("connect to {target}");
        let socket =
            TcpStream::connect_timeout(&target, PATIENCE).map_err(BenchError::io(doing()))?;
        socket.set_nodelay(true).map_err(BenchError::io(doing()))?;
        socket
            .set_read_timeout(Some(PATIENCE))
            .map_err(BenchError::io(doing()))?;
        let mut admin = Admin {
            socket,
            received: BytesMut::new(),
            out: BytesMut::new(),
        };
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
            session: SessionId::NONE,
            password: Some(&[0; 16]),
            read_only: Some(false),
        }
        .write_frame(&mut admin.out)?;
        admin.flush()?;
        let response = ConnectResponse::decode(&admin.frame()?)?;
        if response.timeout_ms == 0 {
            return Err(BenchError::SessionRefused);
        }
        Ok(admin)
    }

    /// Ends the session.
    pub(super) fn close(mut self) -> Result<(), BenchError> {
        Request::CloseSession.write_frame(&mut self.out, Xid(1))?;
        self.flush()?;
        self.frame().map(drop)
    }

    /// Creates a znode for every path, all with the same data.
    pub(super) fn create_all<'a>(
        &mut self,
        paths: impl IntoIterator<Item = &'a str>,
        data: &[u8],
    ) -> Result<(), BenchError> {
        let paths: Vec<&str> = paths.into_iter().collect();
        self.all(&paths, |path| create(path, data, 0), ErrorCode::NodeExists)
    }

    /// Deletes a znode and what is below it.
    pub(super) fn delete_tree(&mut self, path: &str) -> Result<(), BenchError> {
        let children = self.children(path)?;
        let paths: Vec<String> = children
            .iter()
            .map(|name| format!("{path}/{name}"))
            .collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        for path in self.delete_all(&paths)? {
            self.delete_tree(path)?;
        }
        self.delete_all(&[path]).map(drop)
    }

    fn children(&mut self, path: &str) -> Result<Vec<String>, BenchError> {
        Request::GetChildren(PathWatch {
            path: path.into(),
            watch: false,
        })
        .write_frame(&mut self.out, Xid(1))?;
        self.flush()?;
        let payload = self.frame()?;
        let (header, body) = ReplyHeader::decode(&payload)?;
        if header.err != 0 {
            return refused(OpCode::GetChildren, path, header.err);
        }
        match Reply::decode(OpCode::GetChildren, body)? {
            Reply::Children(names) => Ok(names.into_iter().map(|name| name.into_owned()).collect()),
            _ => Ok(Vec::new()),
        }
    }

    /// Deletes those without children, and returns the others.
    fn delete_all<'p>(&mut self, paths: &[&'p str]) -> Result<Vec<&'p str>, BenchError> {
        let mut kept = Vec::new();
        let delete = |path: &str| {
            Request::Delete(PathVersion {
                path: path.to_owned().into(),
                version: Version::ANY,
            })
        };
        self.each(paths, delete, |path, err| {
            if err == ErrorCode::NotEmpty.code() {
                kept.push(path);
                return Ok(());
            }
            // Ephemerals go with their sessions, while we are at it.
            if err == 0 || err == ErrorCode::NoNode.code() {
                return Ok(());
            }
            refused(OpCode::Delete, path, err)
        })?;
        Ok(kept)
    }

    fn all<'p>(
        &mut self,
        paths: &[&'p str],
        request: impl Fn(&'p str) -> Request<'p>,
        tolerated: ErrorCode,
    ) -> Result<(), BenchError> {
        self.each(paths, request, |path, err| {
            if err == 0 || err == tolerated.code() {
                return Ok(());
            }
            refused(OpCode::Create, path, err)
        })
    }

    fn each<'p, 'r>(
        &mut self,
        paths: &[&'p str],
        request: impl Fn(&'p str) -> Request<'r>,
        mut answered: impl FnMut(&'p str, i32) -> Result<(), BenchError>,
    ) -> Result<(), BenchError> {
        for some in paths.chunks(IN_FLIGHT) {
            for &path in some {
                request(path).write_frame(&mut self.out, Xid(1))?;
            }
            self.flush()?;
            for &path in some {
                let (header, _) = ReplyHeader::decode(&self.frame()?)
                    .map(|(header, body)| (header, body.len()))?;
                answered(path, header.err)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BenchError> {
        let out = self.out.split();
        self.socket
            .write_all(&out)
            .map_err(BenchError::io("send to the server"))
    }

    fn frame(&mut self) -> Result<BytesMut, BenchError> {
        loop {
            if let Some((_, used)) = frame::split(&self.received, FRAME_BYTES_MAX)? {
                let mut whole = self.received.split_to(used);
                return Ok(whole.split_off(frame::PREFIX_LEN));
            }
            let mut some = [0; 64 << 10];
            let n = self
                .socket
                .read(&mut some)
                .map_err(BenchError::io("read from the server"))?;
            let Some(some) = some.get(..n).filter(|some| !some.is_empty()) else {
                return Err(BenchError::ConnectionLost {
                    conn: 0,
                    pending: 1,
                });
            };
            self.received.extend_from_slice(some);
        }
    }
}

fn refused<T>(op: OpCode, path: &str, code: i32) -> Result<T, BenchError> {
    Err(BenchError::Refused {
        op: op.name(),
        path: path.to_owned(),
        code,
    })
}

/// What a server says about itself; empty where its whitelist keeps it silent.
pub(super) fn facts(target: SocketAddr) -> BTreeMap<&'static str, String> {
    let mut facts = BTreeMap::new();
    let srvr = four_letter_word(target, b"srvr").unwrap_or_default();
    let envi = four_letter_word(target, b"envi").unwrap_or_default();
    let line = |text: &str, prefix: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(prefix));
        found.map(|value| value.trim().to_owned())
    };
    let version = line(&srvr, "Zookeeper version:").or_else(|| line(&envi, "zookeeper.version="));
    let known = [
        ("version", version),
        ("mode", line(&srvr, "Mode:")),
        ("java", line(&envi, "java.version=")),
        ("os", line(&envi, "os.version=")),
    ];
    facts.extend(
        known
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    facts
}

fn four_letter_word(target: SocketAddr, word: &[u8; 4]) -> Option<String> {
    let mut socket = TcpStream::connect_timeout(&target, Duration::from_secs(2)).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    socket.write_all(word).ok()?;
    let mut text = String::new();
    // What has come before an error is as good.
    let _ = socket.read_to_string(&mut text);
    Some(text)
}
