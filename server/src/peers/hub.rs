//! A network within one process, that can be cut and slowed down, for tests and simulations.
//!
//! Addresses are those of the configuration, compared as text. A cut network behaves as a real
//! one: what was sent stays under way and arrives after healing, nobody is told, and who dials
//! waits. A delay holds each byte back for its time; it limits no throughput.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use super::net::{Net, SharedNet, Stream};
use crate::config::PeerAddress;

/// Bytes that wait at either end of a pipe.
const PIPE: usize = 64 * 1024;
/// Pieces of at most [`PIECE`] bytes that are under way in one direction.
const UNDER_WAY: usize = 4096;
const PIECE: usize = 16 * 1024;
const BACKLOG: usize = 64;

/// The switchboard. Cloned handles are the same one.
#[derive(Clone)]
pub(crate) struct Hub {
    board: Arc<Mutex<Board>>,
    changed: Arc<watch::Sender<()>>,
    tasks: TaskTracker,
}

#[derive(Default)]
struct Board {
    listeners: HashMap<String, Listening>,
    /// Whose address it is, whether it listens or not.
    owners: HashMap<String, u8>,
    /// Directions that carry nothing.
    cut: HashSet<(u8, u8)>,
    delays: HashMap<(u8, u8), Duration>,
    next: u64,
}

struct Listening {
    id: u64,
    calls: mpsc::Sender<Stream>,
}

impl Hub {
    /// A network without a fault.
    pub(crate) fn new() -> Hub {
        Hub {
            board: Arc::default(),
            changed: Arc::new(watch::Sender::new(())),
            tasks: TaskTracker::new(),
        }
    }

    /// The network as a server sees it.
    pub(crate) fn net(&self, server: u8) -> SharedNet {
        Arc::new(HubNet {
            hub: self.clone(),
            server,
        })
    }

    /// Nothing passes between the two any more.
    pub(crate) fn cut(&self, one: u8, other: u8) {
        self.change(|board| board.cut.extend([(one, other), (other, one)]));
    }

    /// Nothing passes from the one to the other any more; the other way it does.
    pub(crate) fn cut_one_way(&self, from: u8, to: u8) {
        self.change(|board| board.cut.extend([(from, to)]));
    }

    /// Everything passes again between the two, what was held back first.
    #[cfg(test)]
    pub(crate) fn heal(&self, one: u8, other: u8) {
        self.change(|board| {
            board.cut.remove(&(one, other));
            board.cut.remove(&(other, one));
        });
    }

    /// No cut and no delay is left.
    pub(crate) fn heal_all(&self) {
        self.change(|board| {
            board.cut.clear();
            board.delays.clear();
        });
    }

    /// What is sent from the one to the other from now on takes so long.
    pub(crate) fn delay(&self, from: u8, to: u8, delay: Duration) {
        self.change(|board| board.delays.extend([((from, to), delay)]));
    }

    /// Whether somebody listens there.
    #[cfg(test)]
    pub(crate) fn is_listening(&self, at: &PeerAddress) -> bool {
        self.board.lock().listeners.contains_key(&key(at))
    }

    fn change(&self, change: impl FnOnce(&mut Board)) {
        change(&mut self.board.lock());
        self.changed.send_replace(());
    }

    fn delay_of(&self, way: (u8, u8)) -> Duration {
        let delays = &self.board.lock().delays;
        delays.get(&way).copied().unwrap_or_default()
    }

    /// Returns when something passes this way.
    async fn open(&self, way: (u8, u8)) {
        let mut changed = self.changed.subscribe();
        while self.board.lock().cut.contains(&way) {
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    async fn dial(self, from: u8, at: String) -> io::Result<Stream> {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let to = self.board.lock().owners.get(&at).copied();
        let to = to.ok_or_else(refused)?;
        let (there, back) = ((from, to), (to, from));
        self.open(there).await;
        tokio::time::sleep(self.delay_of(there)).await;
        let calls = {
            let board = self.board.lock();
            board.listeners.get(&at).map(|there| there.calls.clone())
        };
        self.open(back).await;
        tokio::time::sleep(self.delay_of(back)).await;
        let calls = calls.ok_or_else(refused)?;
        let (mine, my_end) = tokio::io::duplex(PIPE);
        let (theirs, their_end) = tokio::io::duplex(PIPE);
        // A full backlog drops the call, and the dialler sees its connection end.
        calls
            .try_send(Box::new(theirs))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => io::ErrorKind::TimedOut.into(),
                mpsc::error::TrySendError::Closed(_) => refused(),
            })?;
        let (my_reader, my_writer) = tokio::io::split(my_end);
        let (their_reader, their_writer) = tokio::io::split(their_end);
        self.tasks
            .spawn(self.clone().carry(there, my_reader, their_writer));
        self.tasks
            .spawn(self.clone().carry(back, their_reader, my_writer));
        Ok(Box::new(mine))
    }

    /// Carries bytes, and at last the end, in one direction.
    async fn carry(
        self,
        way: (u8, u8),
        mut from: ReadHalf<DuplexStream>,
        mut to: WriteHalf<DuplexStream>,
    ) {
        let (taken, mut under_way) = mpsc::channel::<(Instant, Bytes)>(UNDER_WAY);
        let take = async {
            loop {
                let mut piece = BytesMut::with_capacity(PIECE);
                let end = !matches!(from.read_buf(&mut piece).await, Ok(1..));
                let due = Instant::now() + self.delay_of(way);
                if taken.send((due, piece.freeze())).await.is_err() || end {
                    return;
                }
            }
        };
        let give = async {
            while let Some((due, piece)) = under_way.recv().await {
                tokio::time::sleep_until(due).await;
                self.open(way).await;
                if piece.is_empty() || to.write_all(&piece).await.is_err() {
                    break;
                }
            }
            under_way.close();
            let _ = to.shutdown().await;
        };
        tokio::join!(take, give);
    }
}

/// The network as one server sees it.
struct HubNet {
    hub: Hub,
    server: u8,
}

impl Net for HubNet {
    fn dial(&self, to: &PeerAddress) -> BoxFuture<'static, io::Result<Stream>> {
        Box::pin(self.hub.clone().dial(self.server, key(to)))
    }

    fn listen(
        &self,
        at: &PeerAddress,
        _everywhere: bool,
    ) -> BoxFuture<'static, io::Result<BoxStream<'static, io::Result<Stream>>>> {
        let (hub, server, at) = (self.hub.clone(), self.server, key(at));
        Box::pin(async move {
            let (calls, heard) = mpsc::channel(BACKLOG);
            let mut board = hub.board.lock();
            if board.listeners.contains_key(&at) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            board.next += 1;
            let id = board.next;
            board.owners.insert(at.clone(), server);
            board.listeners.insert(at.clone(), Listening { id, calls });
            drop(board);
            let listening = Ended { hub, at, id };
            let heard = futures::stream::unfold((heard, listening), |(mut heard, end)| async {
                let stream = heard.recv().await?;
                Some((Ok(stream), (heard, end)))
            });
            Ok(heard.boxed())
        })
    }
}

/// Stops listening when dropped.
struct Ended {
    hub: Hub,
    at: String,
    id: u64,
}

impl Drop for Ended {
    fn drop(&mut self) {
        let mut board = self.hub.board.lock();
        if board
            .listeners
            .get(&self.at)
            .is_some_and(|there| there.id == self.id)
        {
            board.listeners.remove(&self.at);
        }
    }
}

fn key(at: &PeerAddress) -> String {
    format!("{}:{}", at.host, at.quorum_port)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn at(port: u16) -> PeerAddress {
        PeerAddress {
            host: "host".into(),
            quorum_port: port,
            election_port: 1,
        }
    }

    /// Both ends of a connection from server 1 to server 2.
    async fn connected(hub: &Hub) -> (Stream, Stream) {
        let mut heard = hub.net(2).listen(&at(2), false).await.unwrap();
        let one = hub.net(1).dial(&at(2)).await.unwrap();
        (one, heard.next().await.unwrap().unwrap())
    }

    async fn says(stream: &mut Stream, what: &[u8]) {
        stream.write_all(what).await.unwrap();
    }

    async fn hears(stream: &mut Stream, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        stream.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    /// Lets everything that can happen at this moment of the paused clock happen.
    async fn settle() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_there_refuses_and_a_cut_lets_wait() {
        let hub = Hub::new();
        let refused = hub.net(1).dial(&at(2)).await.err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let heard = hub.net(2).listen(&at(2), false).await.unwrap();
        assert!(hub.is_listening(&at(2)));
        hub.cut_one_way(2, 1);
        let mut dialling = hub.net(1).dial(&at(2));
        settle().await;
        assert!((&mut dialling).now_or_never().is_none());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!((&mut dialling).now_or_never().is_none());
        hub.heal(1, 2);
        dialling.await.unwrap();
        drop(heard);
        assert!(!hub.is_listening(&at(2)));
        let refused = hub.net(1).dial(&at(2)).await.err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_pipe_is_silent_and_goes_on_after_healing() {
        let hub = Hub::new();
        let (mut one, mut two) = connected(&hub).await;
        says(&mut one, b"before").await;
        assert_eq!(hears(&mut two, 6).await, b"before");
        hub.cut_one_way(1, 2);
        says(&mut one, b"during").await;
        says(&mut two, b"back").await;
        assert_eq!(hears(&mut one, 4).await, b"back", "the other way is open");
        let mut byte = [0];
        drop(one);
        let silent = tokio::time::timeout(Duration::from_secs(60), two.read(&mut byte)).await;
        assert!(silent.is_err(), "neither bytes nor the end");
        hub.heal(1, 2);
        assert_eq!(hears(&mut two, 6).await, b"during");
        assert_eq!(two.read(&mut byte).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_holds_back_and_limits_no_throughput() {
        let hub = Hub::new();
        let (mut one, mut two) = connected(&hub).await;
        hub.delay(1, 2, Duration::from_secs(5));
        let began = Instant::now();
        for _ in 0..100 {
            says(&mut one, &[7; 1000]).await;
        }
        hears(&mut two, 1).await;
        assert!(began.elapsed() >= Duration::from_secs(5));
        hears(&mut two, 99_999).await;
        assert!(began.elapsed() < Duration::from_secs(6));
    }
}
