//! The way from a client to the server, which a test can cut and silence.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use quorate_client::{Client, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::connection::{self, Connection};

/// What becomes of frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Weather {
    Fair,
    Cut,
    Silent,
}

/// The way of one process to the server: give its [`connect_string`](Line::connect_string) to the
/// application, or take a [`client`](Line::client) of it.
///
/// A clone is the same line. It lives in the runtime where it was opened.
#[derive(Clone, Debug)]
pub struct Line(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    connections: Arc<Mutex<Vec<Arc<Connection>>>>,
    /// Counts all that happens on it.
    moved: Arc<AtomicU64>,
    _stop: DropGuard,
}

impl Line {
    pub(crate) async fn open(server: SocketAddr) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let (weather, watched) = watch::channel(Weather::Fair);
        let (connections, moved) = (Arc::default(), Arc::default());
        let stop = CancellationToken::new();
        let accepting = accept(
            listener,
            server,
            watched,
            Arc::clone(&connections),
            Arc::clone(&moved),
            stop.clone(),
        );
        let stopped = stop.clone();
        TaskTracker::new().spawn(async move { stopped.run_until_cancelled(accepting).await });
        Line(Arc::new(Inner {
            address,
            weather,
            connections,
            moved,
            _stop: stop.drop_guard(),
        }))
    }

    /// Where a client of this line connects to.
    #[must_use]
    pub fn connect_string(&self) -> String {
        self.0.address.to_string()
    }

    /// A client of this line, whose session lives for so long without a word, and which opens
    /// another session when that one is lost.
    ///
    /// # Errors
    /// If there is no connection: the line is cut, or the server is stopped.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn client(&self, session_timeout: Duration) -> Result<Client> {
        Client::builder(self.connect_string())
            .session_timeout(session_timeout)
            .new_session_on_loss(true)
            .connect()
            .await
    }

    /// Ends all connections, and lets none come until [`heal`](Line::heal). Both sides notice.
    pub fn cut(&self) {
        self.0.weather.send_replace(Weather::Cut);
    }

    /// Lets frames vanish in both directions until [`heal`](Line::heal). Nobody is told: connections
    /// stay open, and new ones are accepted.
    pub fn silence(&self) {
        self.0.weather.send_replace(Weather::Silent);
    }

    /// All is well again. Connections on which something has vanished end.
    pub fn heal(&self) {
        self.0.weather.send_replace(Weather::Fair);
    }

    /// Grows with all that happens on this line.
    pub(crate) fn moved(&self) -> u64 {
        self.0.moved.load(Ordering::SeqCst)
    }

    pub(crate) fn is_busy(&self) -> bool {
        let connections = self.0.connections.lock();
        connections.iter().any(|connection| connection.is_busy())
    }

    /// Waits until all that the server has to say by now has been passed on.
    pub(crate) async fn barrier(&self) {
        let connections = self.0.connections.lock().clone();
        for connection in connections {
            connection.barrier().await;
        }
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    weather: watch::Receiver<Weather>,
    connections: Arc<Mutex<Vec<Arc<Connection>>>>,
    moved: Arc<AtomicU64>,
    stop: CancellationToken,
) {
    let tasks = TaskTracker::new();
    while let Ok((client, _)) = listener.accept().await {
        moved.fetch_add(1, Ordering::SeqCst);
        if *weather.borrow() == Weather::Cut {
            continue;
        }
        // A server that is stopped takes nobody: the client sees its connection end.
        let Ok(server) = TcpStream::connect(server).await else {
            continue;
        };
        let (connection, carry) =
            connection::connect(client, server, weather.clone(), Arc::clone(&moved));
        connections.lock().push(Arc::clone(&connection));
        let (connections, stop) = (Arc::clone(&connections), stop.clone());
        tasks.spawn(async move {
            stop.run_until_cancelled(carry).await;
            let mut connections = connections.lock();
            connections.retain(|other| !Arc::ptr_eq(other, &connection));
        });
    }
}
