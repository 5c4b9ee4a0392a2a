//! Accepting clients, within their number.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::connection::{Connection, Shared};
use crate::metrics::Metrics;
use crate::peers;
use crate::sessions::{Identities, Sessions};

/// Backlog of the listening socket where the configuration names none.
const BACKLOG: u32 = 1024;
/// How long to hold back after a failed accept: out of file handles is not over at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections of one address and starts their tasks.
pub(crate) struct Listener {
    listener: TcpListener,
    shared: Arc<Shared>,
    sessions: Arc<Sessions>,
    metrics: Arc<Metrics>,
    counts: Arc<Counts>,
    keep_alive: bool,
}

/// Open connections, in all and by source address.
#[derive(Debug)]
struct Counts {
    per_address: u32,
    in_all: u32,
    skip_acl: bool,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    by_address: HashMap<IpAddr, Source>,
    in_all: u32,
}

/// An address with open connections.
#[derive(Debug)]
struct Source {
    count: u32,
    /// What its connections start with, shared by them.
    identities: Arc<Identities>,
}

/// A connection's place among the counted ones; given back when dropped.
struct Place {
    counts: Arc<Counts>,
    address: IpAddr,
}

impl Counts {
    /// A place for one more connection from an address, unless a limit is reached, and who it is
    /// until it says more.
    fn take(self: &Arc<Self>, address: IpAddr) -> Option<(Place, Arc<Identities>)> {
        let mut open = self.open.lock();
        if self.in_all > 0 && open.in_all >= self.in_all {
            return None;
        }
        let source = open.by_address.entry(address).or_insert_with(|| Source {
            count: 0,
            identities: Identities::of_address(address, self.skip_acl),
        });
        if self.per_address > 0 && source.count >= self.per_address {
            return None;
        }
        source.count += 1;
        let identities = source.identities.clone();
        open.in_all += 1;
        let place = Place {
            counts: self.clone(),
            address,
        };
        Some((place, identities))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.counts.open.lock();
        open.in_all -= 1;
        if let Some(source) = open.by_address.get_mut(&self.address) {
            source.count -= 1;
            if source.count == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

/// Binds an address with the options that servers want. Call it inside the runtime that is to
/// serve the listener.
pub(crate) fn bind(address: SocketAddr, backlog: Option<u32>) -> io::Result<TcpListener> {
    let backlog = i32::try_from(backlog.unwrap_or(BACKLOG)).unwrap_or(i32::MAX);
    peers::bind(address, backlog)
}

impl Listener {
    pub(crate) fn new(
        listener: TcpListener,
        config: &Config,
        shared: Arc<Shared>,
        sessions: Arc<Sessions>,
        metrics: Arc<Metrics>,
    ) -> Listener {
        let counts = Counts {
            per_address: config.max_client_cnxns,
            in_all: config.max_cnxns,
            skip_acl: config.skip_acl,
            open: Mutex::default(),
        };
        Listener {
            listener,
            shared,
            sessions,
            metrics,
            counts: Arc::new(counts),
            keep_alive: config.tcp_keep_alive,
        }
    }

    /// Accepts until `stop`; each connection is a task of `tasks`.
    pub(crate) async fn run(self, tasks: TaskTracker, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(stream, peer, &tasks, &stop),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) {
        let address = peer.ip().to_canonical();
        let Some((place, identities)) = self.counts.take(address) else {
            self.metrics.connections_rejected.inc();
            let most = self.counts.per_address;
            tracing::warn!(%peer, "too many connections from {address} - max is {most}");
            return;
        };
        if let Err(error) = self.set_options(&stream) {
            tracing::debug!(%peer, %error, "the connection is gone already");
            return;
        }
        let conn = self
            .sessions
            .accept(SocketAddr::new(address, peer.port()), identities);
        let mut connection = Connection::new(stream, conn, self.shared.clone());
        let stop = stop.clone();
        tasks.spawn(async move {
            connection.serve(&stop).await;
            drop((connection, place));
        });
    }

    fn set_options(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        if self.keep_alive {
            SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn counts(per_address: u32, in_all: u32) -> Arc<Counts> {
        Arc::new(Counts {
            per_address,
            in_all,
            skip_acl: false,
            open: Mutex::default(),
        })
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))
    }

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let counts = counts(2, 0);
        let first = counts.take(address(1));
        let second = counts.take(address(1));
        assert!(first.is_some() && second.is_some());
        assert!(counts.take(address(1)).is_none());
        assert!(
            counts.take(address(2)).is_some(),
            "another address has its own"
        );
        drop(first);
        assert!(counts.take(address(1)).is_some());
    }

    #[test]
    fn all_together_have_so_many_places() {
        let counts = counts(0, 2);
        let places: Vec<_> = (1..=2).filter_map(|n| counts.take(address(n))).collect();
        assert_eq!(places.len(), 2);
        assert!(counts.take(address(3)).is_none());
        drop(places);
        assert!(counts.take(address(3)).is_some());
        assert!(
            counts.open.lock().by_address.is_empty(),
            "nothing is kept of who has gone"
        );
    }
}
