//! One connection between a client and the server: passes frames on, and knows what is unanswered.
//!
//! Invariant: while `outstanding` is 0 and nobody sends, no frame is on its way but notifications;
//! the answer to a ping of the kit's own comes behind all notifications that the server had to send
//! when it was asked.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use futures::stream::{BoxStream, StreamExt as _, unfold};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};

use crate::line::Weather;

/// Larger than what any server or client sends.
const FRAME_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A ping: its xid, its opcode.
const PING: [u8; 12] = [0, 0, 0, 8, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 11];
const PING_XID: i32 = -2;
const NOTIFICATION_XID: i32 = -1;

/// What the kit sees of a connection.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Requests without an answer.
    outstanding: AtomicUsize,
    barriers: mpsc::Sender<oneshot::Sender<()>>,
}

impl Connection {
    /// Whether an answer is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.outstanding.load(Ordering::SeqCst) > 0
    }

    /// Waits until all that the server has to say by now has been passed on.
    pub(crate) async fn barrier(&self) {
        let (done, is_done) = oneshot::channel();
        if self.barriers.send(done).await.is_ok() {
            // A connection that ends meanwhile has nothing more to say.
            let _ = is_done.await;
        }
    }
}

/// Who waits for an answer.
enum Asked {
    Handshake,
    Client(i32),
    Kit(oneshot::Sender<()>),
}

/// A connection and what drives it, which ends with the connection.
pub(crate) fn connect(
    client: TcpStream,
    server: TcpStream,
    weather: watch::Receiver<Weather>,
    moved: Arc<AtomicU64>,
) -> (Arc<Connection>, impl Future<Output = ()> + Send) {
    let (barriers, asked) = mpsc::channel(1);
    let connection = Arc::new(Connection {
        outstanding: AtomicUsize::new(0),
        barriers,
    });
    let state = Arc::clone(&connection);
    let carry = async move {
        // An end of either side is the end of both.
        let _ = carry(client, server, weather, asked, &state, &moved).await;
        state.outstanding.store(0, Ordering::SeqCst);
        moved.fetch_add(1, Ordering::SeqCst);
    };
    (connection, carry)
}

async fn carry(
    client: TcpStream,
    server: TcpStream,
    mut weather: watch::Receiver<Weather>,
    mut barriers: mpsc::Receiver<oneshot::Sender<()>>,
    state: &Connection,
    moved: &AtomicU64,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_out, mut client_in) = client.into_split();
    let (server_out, mut server_in) = server.into_split();
    let (mut requests, mut replies) = (frames(client_out), frames(server_out));
    let mut asked: VecDeque<Asked> = VecDeque::new();
    let mut is_greeted = false;
    // Bytes have vanished: the connection is of no use any more.
    let mut is_torn = false;
    loop {
        state.outstanding.store(asked.len(), Ordering::SeqCst);
        let now = *weather.borrow_and_update();
        if now == Weather::Cut || (is_torn && now == Weather::Fair) {
            return Ok(());
        }
        tokio::select! {
            biased;
            changed = weather.changed() => if changed.is_err() {
                return Ok(());
            },
            request = requests.next() => {
                let Some(request) = request.transpose()? else {
                    return Ok(());
                };
                moved.fetch_add(1, Ordering::SeqCst);
                if now == Weather::Silent {
                    is_torn = true;
                    continue;
                }
                asked.push_back(match is_greeted {
                    true => Asked::Client(xid_of(&request)),
                    false => Asked::Handshake,
                });
                is_greeted = true;
                send(&mut server_in, &request).await?;
            }
            reply = replies.next() => {
                let Some(reply) = reply.transpose()? else {
                    return Ok(());
                };
                if let Some(Asked::Kit(done)) = answered(&mut asked, &reply) {
                    let _ = done.send(());
                    continue;
                }
                moved.fetch_add(1, Ordering::SeqCst);
                match now {
                    Weather::Silent => is_torn = true,
                    _ => send(&mut client_in, &reply).await?,
                }
            }
            Some(done) = barriers.recv() => {
                // A silent connection says nothing; one that was not greeted must not be asked.
                if now == Weather::Fair && !is_torn && is_greeted {
                    asked.push_back(Asked::Kit(done));
                    server_in.write_all(&PING).await?;
                }
            }
        }
    }
}

/// Takes out whoever waits for this reply; nobody waits for a notification.
fn answered(asked: &mut VecDeque<Asked>, reply: &[u8]) -> Option<Asked> {
    let xid = xid_of(reply);
    let is_handshake = matches!(asked.front(), Some(Asked::Handshake));
    if xid == NOTIFICATION_XID && !is_handshake {
        return None;
    }
    let at = asked.iter().position(|asked| match asked {
        Asked::Handshake => true,
        Asked::Client(waiting) => *waiting == xid,
        Asked::Kit(_) => xid == PING_XID,
    })?;
    asked.remove(at)
}

fn xid_of(frame: &[u8]) -> i32 {
    frame
        .first_chunk()
        .map_or(0, |bytes| i32::from_be_bytes(*bytes))
}

/// The frames without their lengths. What is read of one is kept when `next` is dropped.
fn frames(socket: OwnedReadHalf) -> BoxStream<'static, io::Result<Vec<u8>>> {
    let read = |mut socket: OwnedReadHalf| async move {
        let length = match socket.read_u32().await {
            Ok(length) => usize::try_from(length).unwrap_or(usize::MAX),
            Err(_) => return None,
        };
        if length > FRAME_BYTES_MAX {
            return Some((Err(io::ErrorKind::InvalidData.into()), socket));
        }
        let mut frame = vec![0; length];
        let read = socket.read_exact(&mut frame).await;
        Some((read.map(|_| frame), socket))
    };
    unfold(socket, read).boxed()
}

async fn send(socket: &mut OwnedWriteHalf, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut whole = length.to_be_bytes().to_vec();
    whole.extend_from_slice(frame);
    socket.write_all(&whole).await
}
