//! Reading and writing a socket without waiting, through one buffer per thread.

use std::cell::RefCell;
use std::io::{self, Read as _};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;

/// Most bytes that one turn of one connection reads, so that others get theirs.
const READ_BYTES: usize = 64 << 10;

/// Whether the system tells of data once, when they come.
const EDGES: bool = cfg!(target_os = "linux");

/// How long a closing connection waits for its client to stop sending.
const LINGER: Duration = Duration::from_secs(2);

thread_local! {
    /// Where this thread's connections read to. One buffer for thousands of them.
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// What one attempt to read brought.
pub(super) enum ReadTurn {
    /// So many bytes, and they were handed on.
    Read(usize),
    /// Nothing to read yet.
    Nothing,
    /// The client has closed, or the socket is broken.
    Closed,
}

/// Reads once, and hands what came to `take` before it returns.
pub(super) fn read_turn(stream: &TcpStream, take: impl FnOnce(&[u8])) -> ReadTurn {
    READ_BUFFER.with_borrow_mut(|buffer| {
        let mut read = None;
        let outcome = stream.try_io(Interest::READABLE, || {
            let n = (&*SockRef::from(stream)).read(buffer)?;
            read = Some(n);
            // A read that brings less than asked for has emptied the socket, and epoll tells of
            // what comes later: said to be dry, the socket is not read again only to hear so.
            if EDGES && n > 0 && n < buffer.len() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        match (read, outcome) {
            (Some(0), _) => ReadTurn::Closed,
            (Some(n), _) => {
                take(buffer.get(..n).unwrap_or_default());
                ReadTurn::Read(n)
            }
            (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => ReadTurn::Nothing,
            (None, Err(error)) if error.kind() == io::ErrorKind::Interrupted => ReadTurn::Nothing,
            (None, _) => ReadTurn::Closed,
        }
    })
}

/// Writes once; 0 if the socket is full.
pub(super) fn write_some(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match stream.try_write(bytes) {
        Ok(0) if !bytes.is_empty() => Err(io::ErrorKind::WriteZero.into()),
        Ok(n) => Ok(n),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error),
    }
}

/// Closes our side and swallows what the client still sends, for a while. Closing a socket with
/// unread bytes resets it, and a reset takes the last reply away from the client.
pub(super) async fn linger(stream: &mut TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let drain = async {
        let mut left = 1 << 20;
        while left > 0 && stream.readable().await.is_ok() {
            match read_turn(stream, |_| ()) {
                ReadTurn::Read(n) => left = usize::saturating_sub(left, n),
                ReadTurn::Nothing => {}
                ReadTurn::Closed => return,
            }
        }
    };
    // The client's own time is up after the bound: dropping the socket is all that is left.
    let _ = tokio::time::timeout(LINGER, drain).await;
}
