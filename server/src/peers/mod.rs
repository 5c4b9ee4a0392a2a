//! Links between the servers of an ensemble: who listens where, who may talk to whom, and frames.
//!
//! What a frame says is the business of whoever opened the link: `replication` speaks Raft,
//! forwards requests and admits new servers over links of its own purpose each. Nothing here
//! knows of consensus, sessions or znodes.
//!
//! Invariants:
//! - A link is handed out only after both ends named themselves, the same ensemble and the same
//!   purpose; whoever is not a member, or not the server that was meant, is refused by name.
//! - A frame arrives whole and with a right checksum, or the link ends.
//! - Nothing is unbounded: the size of a frame, the time of a handshake, the links of one peer.

mod exchange;
mod hello;
#[cfg(any(test, feature = "testing"))]
mod hub;
mod link;
mod net;
mod tcp;

#[cfg(test)]
mod tests;

use std::io;

use futures::future::BoxFuture;

pub(crate) use self::exchange::Peers;
pub(crate) use self::hello::FIRST_BYTE;
#[cfg(any(test, feature = "testing"))]
pub(crate) use self::hub::Hub;
pub(crate) use self::link::{Link, LinkReader, LinkWriter};
pub(crate) use self::net::SharedNet;
pub(crate) use self::tcp::{TcpNet, bind, tune};

/// What a link is for. The number goes over the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Purpose {
    /// First boot and admission: the only purpose open to servers that are no members yet.
    Boot = 1,
    /// Votes and log entries.
    Raft = 2,
    /// One snapshot.
    Snapshot = 3,
    /// From a follower or observer to the leader: requests of clients, what sessions said, and
    /// read indexes.
    Requests = 4,
}

impl Purpose {
    fn of(number: u8) -> Option<Purpose> {
        [
            Purpose::Boot,
            Purpose::Raft,
            Purpose::Snapshot,
            Purpose::Requests,
        ]
        .into_iter()
        .find(|&purpose| purpose as u8 == number)
    }
}

/// Who opened a link, as it said and as was checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Caller {
    /// Its number in the configuration.
    pub(crate) server: u8,
    /// Its id in the consensus group; 0 = it has none yet.
    pub(crate) node: u64,
}

/// Opens links. The real one is `Peers`; tests have others.
pub(crate) trait Call: Send + Sync + 'static {
    /// Opens a link to a server of the configuration, within a bounded time.
    ///
    /// # Errors
    /// [`io::ErrorKind::ConnectionRefused`] exactly if the other end is there and nobody listens;
    /// [`io::ErrorKind::PermissionDenied`] if it refused the handshake, with its words; others as
    /// they come.
    fn call(&self, server: u8, purpose: Purpose) -> BoxFuture<'static, io::Result<Link>>;
}

/// Serves the links of one purpose. Called once for each link, as a task of its own; the link is
/// closed when it returns.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Serves one link to its end.
    fn handle(&self, caller: Caller, link: Link) -> BoxFuture<'static, ()>;
}
