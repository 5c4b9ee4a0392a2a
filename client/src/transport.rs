//! From a server's name to a connected socket.
//!
//! Job: resolve the name, dial its addresses, set the socket's options, shake hands for TLS.
//! Not here: which server, when, and for how long (`hosts` and the session decide); frames.
//!
//! Invariants: a name is resolved anew at every dial, so that a server that moved is found; no
//! time limit of its own, because the caller's covers the whole attempt.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use rand::seq::SliceRandom as _;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::hosts::HostPort;

#[cfg(feature = "tls")]
pub(crate) mod tls;

/// Addresses tried for one name; more are left for the next dial, which draws anew.
const ADDRESSES_MAX: usize = 8;
/// How long a connection may be silent before the kernel asks whether the peer is there.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(60);

/// A connection to a server, in the clear or through TLS.
///
/// Needs no `flush` as long as somebody reads: whoever waits for an answer wants the question
/// sent, so reading sends what TLS still holds.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// Passes one call on to whichever stream it is.
macro_rules! delegate {
    ($socket:expr, $stream:ident => $call:expr) => {
        match $socket {
            Socket::Tcp($stream) => $call,
            #[cfg(feature = "tls")]
            Socket::Tls($stream) => {
                let $stream = &mut **$stream;
                $call
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self.get_mut(), stream => {
            // Of a failure to send the reading tells more, such as why the peer hung up.
            let _ = Pin::new(&mut *stream).poll_flush(cx);
            Pin::new(stream).poll_read(cx, buf)
        })
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Socket::Tcp(stream) => stream.is_write_vectored(),
            #[cfg(feature = "tls")]
            Socket::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// How connections are made: the same way for all servers of a client.
#[derive(Clone, Default, Debug)]
pub(crate) struct Connector {
    #[cfg(feature = "tls")]
    tls: Option<tls::TlsConfig>,
}

impl Connector {
    /// Connections in the clear.
    pub(crate) fn plain() -> Connector {
        Connector::default()
    }

    /// Connections through TLS only: there is no way back to the clear.
    #[cfg(feature = "tls")]
    pub(crate) fn with_tls(config: tls::TlsConfig) -> Connector {
        Connector { tls: Some(config) }
    }

    /// Dials a server: its addresses in random order, until one is connected (and has proven
    /// itself, with TLS). Returns the address, too: a name says little in a log.
    ///
    /// # Errors
    /// What the resolver said, or [`DialError`] inside with the kind of the first failure.
    ///
    /// # Cancel safety
    /// May be dropped at any time; whatever was connected is closed. There is no time limit:
    /// wrap the call in a timeout.
    pub(crate) async fn connect(&self, server: &HostPort) -> io::Result<(Socket, SocketAddr)> {
        let resolved = tokio::net::lookup_host((server.host.as_str(), server.port)).await;
        let mut addresses: Vec<SocketAddr> = match resolved {
            Ok(addresses) => addresses.collect(),
            Err(error) => {
                let text = format!("cannot resolve {server}: {error}");
                return Err(io::Error::new(error.kind(), text));
            }
        };
        addresses.shuffle(&mut rand::rng());
        addresses.truncate(ADDRESSES_MAX);
        let mut failures = Vec::new();
        for address in addresses {
            match self.dial(server, address).await {
                Ok(socket) => return Ok((socket, address)),
                Err(error) => failures.push((address, error)),
            }
        }
        let kind = failures
            .first()
            .map_or(io::ErrorKind::NotFound, |(_, error)| error.kind());
        let server = server.clone();
        Err(io::Error::new(kind, DialError { server, failures }))
    }

    #[cfg_attr(
        not(feature = "tls"),
        expect(unused_variables, reason = "only TLS needs the name")
    )]
    async fn dial(&self, server: &HostPort, address: SocketAddr) -> io::Result<Socket> {
        let stream = TcpStream::connect(address).await?;
        // Requests are small and awaited: the kernel must not hold them back for company.
        stream.set_nodelay(true)?;
        SockRef::from(&stream)
            .set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE_AFTER))?;
        #[cfg(feature = "tls")]
        if let Some(config) = &self.tls {
            return Ok(Socket::Tls(Box::new(
                config.handshake(&server.host, stream).await?,
            )));
        }
        Ok(Socket::Tcp(stream))
    }
}

/// Whether a connection failed because one side does not trust the other's certificate: that does
/// not pass by itself.
pub(crate) fn is_untrusted(error: &io::Error) -> bool {
    #[cfg(feature = "tls")]
    {
        let inner = error.get_ref();
        if let Some(DialError { failures, .. }) = inner.and_then(|inner| inner.downcast_ref()) {
            return !failures.is_empty() && failures.iter().all(|(_, error)| is_untrusted(error));
        }
        inner.is_some_and(|inner| tls::is_untrusted(inner))
    }
    #[cfg(not(feature = "tls"))]
    {
        let _ = error;
        false
    }
}

/// No address of a server could be connected.
#[derive(Debug)]
pub(crate) struct DialError {
    server: HostPort,
    failures: Vec<(SocketAddr, io::Error)>,
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot connect to {}", self.server)?;
        if self.failures.is_empty() {
            f.write_str(": the name has no address")?;
        }
        for (at, (address, error)) in self.failures.iter().enumerate() {
            let separator = if at == 0 { ":" } else { ";" };
            write!(f, "{separator} {address}: {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for DialError {}

#[cfg(test)]
mod tests;
