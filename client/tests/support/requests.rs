//! A proxy that loses what it is told to lose.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use quorate_proto::{ErrorCode, OpCode, ReplyHeader, Request, RequestHeader, Zxid, frame, reply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

const LIMIT: usize = 16 * 1024 * 1024;

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The connection ends and the server never sees it.
    CutBefore,
    /// The server answers it, and the connection ends in place of the answer.
    CutAfter,
    /// The server answers it, and nothing more arrives on this connection.
    Silence,
    /// The server never sees it, and the proxy answers with this code. Only for a request that
    /// nothing else is waiting with.
    Refuse(ErrorCode),
}

#[derive(Default)]
struct Plan {
    /// What is still to be lost, in this order.
    faults: Vec<(OpCode, Fault)>,
    /// What was asked for: creates with their paths.
    seen: Vec<(OpCode, String)>,
}

struct Shared {
    upstream: SocketAddr,
    plan: Mutex<Plan>,
    is_open: watch::Sender<bool>,
}

/// Stands between a client and a server.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Ends with the proxy.
    _accept: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn start(upstream: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream,
            plan: Mutex::default(),
            is_open: watch::Sender::new(true),
        });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&shared)));
        Proxy {
            address,
            shared,
            _accept: accepting,
        }
    }

    pub(crate) fn connect_string(&self) -> String {
        self.address.to_string()
    }

    /// The next request of this kind is lost; called again, the one after it.
    pub(crate) fn lose(&self, op: OpCode, fault: Fault) {
        self.shared.plan.lock().faults.push((op, fault));
    }

    /// The paths of the requests of this kind that came by, lost or not.
    pub(crate) fn seen(&self, op: OpCode) -> Vec<String> {
        let plan = self.shared.plan.lock();
        let of_kind = plan.seen.iter().filter(|(seen, _)| *seen == op);
        of_kind.map(|(_, path)| path.clone()).collect()
    }

    /// New connections wait, or go on.
    pub(crate) fn open(&self, is_open: bool) {
        self.shared.is_open.send_replace(is_open);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        connections.spawn(relay(socket, Arc::clone(&shared)));
    }
}

async fn relay(mut client: TcpStream, shared: Arc<Shared>) {
    let mut gate = shared.is_open.subscribe();
    gate.wait_for(|is_open| *is_open).await.unwrap();
    let Ok(mut server) = TcpStream::connect(shared.upstream).await else {
        return;
    };
    let (mut up, mut down) = (BytesMut::new(), BytesMut::new());
    let (mut is_first_up, mut is_first_down) = (true, true);
    let mut stop_at = None;
    let mut is_silent = false;
    loop {
        tokio::select! {
            read = client.read_buf(&mut up) => if !matches!(read, Ok(1..)) { return },
            read = server.read_buf(&mut down) => if !matches!(read, Ok(1..)) { return },
        }
        while let Ok(Some((payload, len))) = frame::split(&up, LIMIT) {
            if !std::mem::take(&mut is_first_up) {
                let (header, body) = RequestHeader::decode(payload).unwrap();
                match shared.fault(&header, body) {
                    Some(Fault::CutBefore) => return,
                    Some(Fault::Refuse(code)) => {
                        let mut out = BytesMut::new();
                        reply::error(&mut out, header.xid, Zxid(1), code);
                        up.advance(len);
                        if client.write_all(&out).await.is_err() {
                            return;
                        }
                        continue;
                    }
                    Some(fault) => stop_at = Some((header.xid, fault)),
                    None => {}
                }
            }
            if server.write_all(&up.split_to(len)).await.is_err() {
                return;
            }
        }
        while let Ok(Some((payload, len))) = frame::split(&down, LIMIT) {
            if !std::mem::take(&mut is_first_down) {
                let (header, _) = ReplyHeader::decode(payload).unwrap();
                match stop_at {
                    Some((xid, Fault::CutAfter)) if xid == header.xid => return,
                    Some((xid, _)) if xid == header.xid => is_silent = true,
                    _ => {}
                }
            }
            let bytes = down.split_to(len);
            if !is_silent && client.write_all(&bytes).await.is_err() {
                return;
            }
        }
    }
}

impl Shared {
    fn fault(&self, header: &RequestHeader, body: &[u8]) -> Option<Fault> {
        let op = OpCode::from_code(header.op)?;
        let path = match Request::decode(op, body) {
            Ok(Request::Create2(create)) => create.path.into_owned(),
            _ => String::new(),
        };
        let mut plan = self.plan.lock();
        plan.seen.push((op, path));
        let at = plan.faults.iter().position(|(lost, _)| *lost == op)?;
        Some(plan.faults.remove(at).1)
    }
}
