//! A network between a client and a server that can be cut, clogged and slowed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Weather {
    /// Bytes from the client vanish.
    pub swallows_requests: bool,
    /// Bytes to the client vanish.
    pub swallows_replies: bool,
    /// New connections are closed at once.
    pub refuses: bool,
    /// How long bytes to the server take.
    pub request_delay: Duration,
    /// How long bytes to the client take.
    pub reply_delay: Duration,
    /// Connections of an earlier epoch are closed.
    pub epoch: u64,
}

impl Weather {
    pub fn black_hole() -> Weather {
        Weather {
            swallows_requests: true,
            swallows_replies: true,
            ..Weather::default()
        }
    }
}

pub struct Proxy {
    addr: SocketAddr,
    weather: watch::Sender<Weather>,
    accepted: Arc<AtomicUsize>,
    listening: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
        self.cut();
    }
}

impl Proxy {
    pub async fn start(to: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let weather = watch::Sender::new(Weather::default());
        let accepted = Arc::new(AtomicUsize::new(0));
        let listening = tokio::spawn({
            let (weather, accepted) = (weather.clone(), Arc::clone(&accepted));
            async move {
                loop {
                    let (client, _) = listener.accept().await.unwrap();
                    accepted.fetch_add(1, Ordering::Relaxed);
                    if !weather.borrow().refuses {
                        tokio::spawn(connection(client, to, weather.subscribe()));
                    }
                }
            }
        });
        Proxy {
            addr,
            weather,
            accepted,
            listening,
        }
    }

    pub fn connect_string(&self) -> String {
        self.addr.to_string()
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    pub fn set(&self, new: Weather) {
        self.weather.send_modify(|weather| {
            *weather = Weather {
                epoch: weather.epoch,
                ..new
            };
        });
    }

    /// Closes every connection that stands.
    pub fn cut(&self) {
        self.weather.send_modify(|weather| weather.epoch += 1);
    }
}

async fn connection(client: TcpStream, to: SocketAddr, mut weather: watch::Receiver<Weather>) {
    let Ok(server) = TcpStream::connect(to).await else {
        return;
    };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let epoch = weather.borrow().epoch;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let requests = pump(from_client, to_server, weather.clone(), |weather| {
        (weather.swallows_requests, weather.request_delay)
    });
    let replies = pump(from_server, to_client, weather.clone(), |weather| {
        (weather.swallows_replies, weather.reply_delay)
    });
    tokio::select! {
        () = requests => {}
        () = replies => {}
        _ = weather.wait_for(|weather| weather.epoch > epoch) => {}
    }
}

/// Carries bytes until one side ends. What vanishes, vanishes for good, and so does an end.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    weather: watch::Receiver<Weather>,
    of: impl Fn(&Weather) -> (bool, Duration),
) {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<(Instant, Vec<u8>)>(1024);
    let read = async {
        let mut chunk = vec![0; 16 * 1024];
        while let Ok(len @ 1..) = from.read(&mut chunk).await {
            let (_, delay) = of(&weather.borrow());
            let due = Instant::now() + delay;
            if sender.send((due, chunk[..len].to_vec())).await.is_err() {
                break;
            }
        }
        // An end travels no faster than bytes, and not at all where they vanish.
        let (_, delay) = of(&weather.borrow());
        drop(sender.send((Instant::now() + delay, Vec::new())).await);
        std::future::pending::<()>().await;
    };
    let write = async {
        while let Some((due, bytes)) = receiver.recv().await {
            sleep_until(due).await;
            let (swallows, _) = of(&weather.borrow());
            if swallows {
                continue;
            }
            if bytes.is_empty() || to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = read => {}
        () = write => {}
    }
}
