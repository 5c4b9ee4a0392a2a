//! A TCP relay between clients and a server that counts requests, cuts and swallows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

const PING: i32 = 11;

#[derive(Debug)]
pub(crate) struct Relay {
    address: SocketAddr,
    /// Requests that clients sent, without handshakes and pings.
    pub(crate) requests: Arc<AtomicUsize>,
    link: Arc<Link>,
    _stop: DropGuard,
}

#[derive(Debug, Default)]
struct Link {
    cut: Notify,
    swallows: AtomicBool,
}

impl Relay {
    pub(crate) async fn start(server: SocketAddr) -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, link) = (Arc::<AtomicUsize>::default(), Arc::<Link>::default());
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let accept = {
            let (requests, link, tasks) = (Arc::clone(&requests), Arc::clone(&link), tasks.clone());
            let stop = stop.clone();
            async move {
                while let Ok((socket, _)) = listener.accept().await {
                    let Ok(to) = TcpStream::connect(server).await else {
                        continue;
                    };
                    let carry = carry(socket, to, Arc::clone(&requests), Arc::clone(&link));
                    let stop = stop.clone();
                    tasks.spawn(async move {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = carry => {}
                        }
                    });
                }
            }
        };
        let stopped = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = accept => {}
            }
        });
        Relay {
            address,
            requests,
            link,
            _stop: stop.drop_guard(),
        }
    }

    pub(crate) fn connect_string(&self) -> String {
        self.address.to_string()
    }

    /// Ends all connections.
    pub(crate) fn cut(&self) {
        self.link.cut.notify_waiters();
    }

    /// Lets nothing through in either direction, and says so to nobody.
    pub(crate) fn swallow(&self, swallows: bool) {
        self.link.swallows.store(swallows, Ordering::SeqCst);
        if !swallows {
            // What was swallowed is missing: those connections are of no use any more.
            self.cut();
        }
    }
}

async fn carry(from: TcpStream, to: TcpStream, requests: Arc<AtomicUsize>, link: Arc<Link>) {
    from.set_nodelay(true).unwrap();
    to.set_nodelay(true).unwrap();
    let (client_out, client_in) = from.into_split();
    let (server_out, server_in) = to.into_split();
    tokio::select! {
        () = link.cut.notified() => {}
        _ = frames(client_out, server_in, Some(&requests), &link) => {}
        _ = frames(server_out, client_in, None, &link) => {}
    }
}

async fn frames(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    requests: Option<&AtomicUsize>,
    link: &Link,
) -> std::io::Result<()> {
    let mut is_handshake = true;
    loop {
        let length = from.read_u32().await?;
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        from.read_exact(&mut frame).await?;
        let op = frame
            .get(4..8)
            .map(|op| i32::from_be_bytes(op.try_into().unwrap()));
        if let Some(requests) = requests
            && !is_handshake
            && op != Some(PING)
        {
            requests.fetch_add(1, Ordering::Relaxed);
        }
        is_handshake = false;
        if link.swallows.load(Ordering::SeqCst) {
            continue;
        }
        let mut whole = length.to_be_bytes().to_vec();
        whole.append(&mut frame);
        to.write_all(&whole).await?;
    }
}
