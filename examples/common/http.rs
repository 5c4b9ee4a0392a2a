//! As much of HTTP as a load balancer needs to be shown: one request for a line of text on each
//! connection.

use std::future::Future;
use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const BYTES_MAX: u64 = 4_096;

/// Asks for `/`. An answer that is not 200, or not whole, is an error.
pub(crate) async fn get(address: &str) -> io::Result<String> {
    let mut socket = TcpStream::connect(address).await?;
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    socket.take(BYTES_MAX).read_to_string(&mut answer).await?;
    let body = answer
        .split_once("\r\n\r\n")
        .filter(|_| answer.starts_with("HTTP/1.1 200 "))
        .and_then(|(_, body)| body.strip_suffix('\n'));
    body.map(str::to_owned)
        .ok_or_else(|| io::Error::other("no whole answer"))
}

/// Answers each request with a line of text, or with 502. Asked to stop, it takes no more
/// connections, and returns when all of those that it has are answered.
pub(crate) async fn serve<A, F>(listener: TcpListener, answer: A, stop: impl Future)
where
    A: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = Option<String>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            _ = &mut stop => break,
            accepted = listener.accept() => if let Ok((socket, _)) = accepted {
                connections.spawn(respond(socket, answer.clone()));
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Whoever asked may be gone before the answer comes.
async fn respond<F: Future<Output = Option<String>>>(
    mut socket: TcpStream,
    answer: impl Fn() -> F,
) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if request.len() > 1_024 || socket.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let (status, body) = match answer().await {
        Some(body) => ("200 OK", body + "\n"),
        None => ("502 Bad Gateway", "\n".to_owned()),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}", body.len());
    let answer = format!("{head}\r\nConnection: close\r\n\r\n{body}");
    socket.write_all(answer.as_bytes()).await?;
    socket.shutdown().await
}
