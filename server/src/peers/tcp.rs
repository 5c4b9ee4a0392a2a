//! The real network.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{BoxStream, FuturesUnordered, StreamExt};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};

use super::net::{Net, Stream};
use crate::config::PeerAddress;

/// A peer that is silent for so long is asked whether it is there, so often.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(2);
const BACKLOG: i32 = 256;
/// How long to hold back after a failed accept: out of file handles is not over at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// TCP. Names are resolved at every call, by the system.
pub(crate) struct TcpNet;

impl Net for TcpNet {
    fn dial(&self, to: &PeerAddress) -> BoxFuture<'static, io::Result<Stream>> {
        let (host, port) = (to.host.clone(), to.quorum_port);
        Box::pin(async move {
            let resolved = tokio::net::lookup_host((host.as_str(), port)).await?;
            let mut dials: FuturesUnordered<_> = resolved.map(TcpStream::connect).collect();
            let mut errors = Vec::new();
            while let Some(dialled) = dials.next().await {
                match dialled {
                    Ok(stream) => {
                        tune(&stream)?;
                        return Ok(Box::new(stream) as Stream);
                    }
                    Err(error) => errors.push(error),
                }
            }
            Err(worst(errors, &host))
        })
    }

    fn listen(
        &self,
        at: &PeerAddress,
        everywhere: bool,
    ) -> BoxFuture<'static, io::Result<BoxStream<'static, io::Result<Stream>>>> {
        let (host, port) = (at.host.clone(), at.quorum_port);
        Box::pin(async move {
            let addresses = match tokio::net::lookup_host((host.as_str(), port)).await {
                _ if everywhere => vec![anywhere(port)],
                Ok(resolved) => resolved.collect(),
                Err(error) => {
                    tracing::warn!(
                        host, %error,
                        "the name of this server is not known yet: listening for peers on all interfaces"
                    );
                    vec![anywhere(port)]
                }
            };
            let mut listeners = Vec::new();
            let mut errors = Vec::new();
            for address in addresses {
                match bind(address, BACKLOG) {
                    Ok(listener) => listeners.push(accept(listener)),
                    Err(error) => errors.push(error),
                }
            }
            if listeners.is_empty() {
                return Err(cannot_listen(worst(errors, &host), &host, port));
            }
            Ok(futures::stream::select_all(listeners).boxed())
        })
    }
}

/// Whether the listener for clients at `clients` hears peers that dial `at`, too: whoever binds
/// `at` as well would be told that it is taken.
pub(crate) async fn shares_port(at: &PeerAddress, everywhere: bool, clients: SocketAddr) -> bool {
    if at.quorum_port != clients.port() {
        return false;
    }
    if everywhere || clients.ip().is_unspecified() {
        return true;
    }
    match tokio::net::lookup_host((at.host.as_str(), at.quorum_port)).await {
        Ok(resolved) => resolved
            .into_iter()
            .any(|address| address.ip().to_canonical() == clients.ip().to_canonical()),
        Err(_) => true,
    }
}

fn anywhere(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

/// Listens with the options that servers want, for peers or for clients.
pub(crate) fn bind(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restart must not wait for the sockets of its former life to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    TcpListener::from_std(socket.into())
}

fn accept(listener: TcpListener) -> BoxStream<'static, io::Result<Stream>> {
    futures::stream::unfold(listener, |listener| async move {
        let accepted = match listener.accept().await {
            Ok((stream, _)) => tune(&stream).map(|()| Box::new(stream) as Stream),
            Err(error) => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                Err(error)
            }
        };
        Some((accepted, listener))
    })
    .boxed()
}

/// What a socket between servers needs: no waiting for more bytes, and an end when the other
/// machine is gone without a word.
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keep_alive = TcpKeepalive::new()
        .with_time(KEEP_ALIVE)
        .with_interval(KEEP_ALIVE_INTERVAL);
    SockRef::from(stream).set_tcp_keepalive(&keep_alive)
}

/// Of several errors the one to report: a refusal only if all refused, because it is taken for a
/// proof that nobody is there.
pub(super) fn worst(errors: Vec<io::Error>, host: &str) -> io::Error {
    let refused = |error: &io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    let mut errors = errors.into_iter();
    let Some(mut worst) = errors.next() else {
        return io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
    };
    for error in errors {
        if refused(&worst) {
            worst = error;
        }
    }
    worst
}

fn cannot_listen(error: io::Error, host: &str, port: u16) -> io::Error {
    let way_out = if error.kind() == io::ErrorKind::AddrNotAvailable {
        ": the address is not this machine's; correct the server line, or set \
         quorumListenOnAllIPs=true to listen on all interfaces"
    } else {
        ""
    };
    let message = format!("cannot listen for peers on {host}:{port}: {error}{way_out}");
    io::Error::new(error.kind(), message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: io::ErrorKind) -> io::Error {
        kind.into()
    }

    #[test]
    fn a_server_is_refused_only_if_each_of_its_addresses_refuses() {
        use io::ErrorKind::{ConnectionRefused, HostUnreachable};
        let both = vec![error(ConnectionRefused), error(ConnectionRefused)];
        assert_eq!(worst(both, "host").kind(), ConnectionRefused);
        for one in [
            [ConnectionRefused, HostUnreachable],
            [HostUnreachable, ConnectionRefused],
        ] {
            let errors = one.map(error).into();
            assert_eq!(worst(errors, "host").kind(), HostUnreachable);
        }
    }

    #[tokio::test]
    async fn a_foreign_address_names_the_way_out() {
        let at = PeerAddress {
            host: "192.0.2.1".into(),
            quorum_port: 1,
            election_port: 2,
        };
        let Err(error) = TcpNet.listen(&at, false).await else {
            panic!("the documentation's address is ours");
        };
        assert!(
            error.to_string().contains("quorumListenOnAllIPs=true"),
            "{error}"
        );
    }
}
