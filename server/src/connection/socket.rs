//! Reading and writing a socket without waiting, through one buffer per thread.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

/// Most bytes that one turn of one connection reads, so that others get theirs.
const READ_BYTES: usize = 64 << 10;

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

/// Reads once, without waiting, and hands what came to `take` before it returns.
///
/// A read that does not fill the buffer has emptied the socket: tokio takes note of that here, as
/// it does not for `try_read`, and the next wait sleeps instead of reading in vain.
pub(super) async fn read_turn(stream: &mut TcpStream, take: impl FnOnce(&[u8])) -> ReadTurn {
    let mut take = Some(take);
    poll_fn(|cx| {
        READ_BUFFER.with_borrow_mut(|buffer| {
            let mut read = ReadBuf::new(buffer);
            let turn = match Pin::new(&mut *stream).poll_read(cx, &mut read) {
                Poll::Pending => ReadTurn::Nothing,
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                    if let Some(take) = take.take() {
                        take(read.filled());
                    }
                    ReadTurn::Read(read.filled().len())
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {
                    ReadTurn::Nothing
                }
                Poll::Ready(_) => ReadTurn::Closed,
            };
            Poll::Ready(turn)
        })
    })
    .await
}

/// Returns when there may be something to read.
pub(super) async fn readable(stream: &TcpStream) -> io::Result<()> {
    poll_fn(|cx| stream.poll_read_ready(cx)).await
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
pub(super) async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let drain = async {
        let mut left = 1 << 20;
        while left > 0 && readable(&stream).await.is_ok() {
            match read_turn(&mut stream, |_| ()).await {
                ReadTurn::Read(n) => left = usize::saturating_sub(left, n),
                ReadTurn::Nothing => {}
                ReadTurn::Closed => return,
            }
        }
    };
    // The client's own time is up after the bound: dropping the socket is all that is left.
    let _ = tokio::time::timeout(LINGER, drain).await;
}
