//! A server that says what the test tells it to.

use std::net::SocketAddr;

use bytes::{Buf, BytesMut};
use quorate_client::{SessionId, Zxid};
use quorate_proto::{
    ConnectRequest, ConnectResponse, OpCode, Reply, ReplyHeader, RequestHeader, Xid, frame, limits,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub const PASSWORD: [u8; 16] = *b"QUORA\x01----------";

pub struct FakeServer {
    listener: TcpListener,
    addr: SocketAddr,
}

/// One connection, from the server's side.
pub struct Peer {
    pub stream: TcpStream,
    input: BytesMut,
}

/// What was asked for in a handshake.
#[derive(Debug)]
pub struct Asked {
    pub session: SessionId,
    pub last_zxid: Zxid,
    pub timeout_ms: i32,
}

#[derive(Debug)]
pub struct Received {
    pub xid: Xid,
    pub op: i32,
    pub body: Vec<u8>,
}

impl Received {
    pub fn is(&self, op: OpCode) -> bool {
        self.op == op.code()
    }

    /// Of a request that begins with a path, as most do.
    pub fn path(&self) -> &str {
        let (len, rest) = self.body.split_first_chunk().unwrap();
        let len = usize::try_from(i32::from_be_bytes(*len)).unwrap();
        std::str::from_utf8(&rest[..len]).unwrap()
    }
}

impl FakeServer {
    pub async fn bind() -> FakeServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        FakeServer { listener, addr }
    }

    pub fn connect_string(&self) -> String {
        self.addr.to_string()
    }

    pub async fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        Peer {
            stream,
            input: BytesMut::new(),
        }
    }

    /// Accepts a connection and gives it this session.
    pub async fn accept_session(&self, session: i64, timeout_ms: i32) -> Peer {
        let mut peer = self.accept().await;
        peer.asked().await;
        peer.welcome(session, timeout_ms, false).await;
        peer
    }
}

impl Peer {
    pub async fn frame(&mut self) -> Option<BytesMut> {
        loop {
            if let Some((_, len)) = frame::split(&self.input, 1 << 24).unwrap() {
                let mut payload = self.input.split_to(len);
                payload.advance(frame::PREFIX_LEN);
                return Some(payload);
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    pub async fn asked(&mut self) -> Asked {
        let payload = self.frame().await.expect("a handshake");
        let request = ConnectRequest::decode(&payload).unwrap();
        Asked {
            session: request.session,
            last_zxid: request.last_zxid_seen,
            timeout_ms: request.timeout_ms,
        }
    }

    pub async fn welcome(&mut self, session: i64, timeout_ms: i32, read_only: bool) {
        self.welcome_as(PASSWORD, session, timeout_ms, read_only)
            .await;
    }

    /// The password tells the kind of server.
    pub async fn welcome_as(
        &mut self,
        password: [u8; 16],
        session: i64,
        timeout_ms: i32,
        read_only: bool,
    ) {
        let response = ConnectResponse {
            timeout_ms,
            session: SessionId(session),
            password,
            read_only: Some(read_only),
        };
        let mut out = BytesMut::new();
        response.write_frame(&mut out);
        self.write(&out).await;
    }

    /// The next request; `None` at the end.
    pub async fn request(&mut self) -> Option<Received> {
        let payload = self.frame().await?;
        let (header, body) = RequestHeader::decode(&payload).unwrap();
        Some(Received {
            xid: header.xid,
            op: header.op,
            body: body.to_vec(),
        })
    }

    /// The next request that is no ping; pings are answered.
    pub async fn real_request(&mut self) -> Option<Received> {
        loop {
            let request = self.request().await?;
            if !request.is(OpCode::Ping) {
                return Some(request);
            }
            self.reply(Xid::PING, 1, 0, None).await;
        }
    }

    pub fn frame_of(xid: Xid, zxid: i64, err: i32, body: Option<&Reply<'_>>) -> BytesMut {
        let header = ReplyHeader {
            xid,
            zxid: Zxid(zxid),
            err,
        };
        let mut out = BytesMut::new();
        frame::write(&mut out, |writer| {
            header.encode(writer);
            if let Some(body) = body {
                body.encode(writer);
            }
        })
        .unwrap();
        out
    }

    pub async fn reply(&mut self, xid: Xid, zxid: i64, err: i32, body: Option<&Reply<'_>>) {
        let frame = Peer::frame_of(xid, zxid, err, body);
        self.write(&frame).await;
    }

    /// Writes; a client that is gone is the client's affair.
    pub async fn write(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes).await);
    }

    /// Answers pings and `exists` (with NoNode), until the client goes.
    pub async fn serve(mut self) {
        while let Some(request) = self.request().await {
            match request.op {
                op if op == OpCode::Ping.code() => self.reply(Xid::PING, 1, 0, None).await,
                op if op == OpCode::Exists.code() => self.reply(request.xid, 1, -101, None).await,
                _ => self.reply(request.xid, 1, 0, None).await,
            }
        }
    }
}

const _: () = assert!(limits::PASSWORD_LEN == PASSWORD.len());
