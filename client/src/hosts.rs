//! Which servers there are, and which to dial next.
//!
//! Job: read a connect string; hand out servers in a shuffled round with pauses that grow; keep
//! the place when the list changes. Not here: name resolution, sockets, clocks, waiting. Pure,
//! but for the random numbers that a seed decides.
//!
//! Invariants: the list is never empty; no pause is longer than the caller's cap; every server
//! is tried once before any is tried again, but for the one that worked last.

use std::fmt;

use async_trait::async_trait;

pub(crate) use self::connect_string::ConnectString;
pub use self::connect_string::ConnectStringError;
pub(crate) use self::server_list::ServerList;

mod connect_string;
mod server_list;

/// The port of a server that is named without one.
pub(crate) const PORT_DEFAULT: u16 = 2181;

/// A server as the user names it; resolved when it is dialled.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct HostPort {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HostPort { host, port } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

/// Where the list of servers comes from when it is not a fixed string: a service registry, a
/// file, a control plane.
///
/// Asked when the client starts and after every full round of failed attempts. Implement it with
/// the attribute `#[async_trait]` of the crate `async-trait`: the method then returns a boxed
/// future, and a client can hold any provider.
#[async_trait]
pub trait EnsembleProvider: Send + Sync + fmt::Debug {
    /// The servers as a connect string, `host:port,host:port`. A chroot in it is ignored: the one
    /// that the client was made with stays, so that paths keep their meaning while it lives.
    ///
    /// # Errors
    /// Whatever keeps it from answering; the client goes on with the servers it knows.
    ///
    /// # Cancel safety
    /// May be dropped at any time, when a connection attempt is given up.
    async fn connect_string(&self) -> Result<String, Box<dyn std::error::Error + Send + Sync>>;
}

/// Always the same connect string.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FixedEnsemble(String);

impl FixedEnsemble {
    /// `host:port,host:port/chroot`.
    pub fn new(connect_string: impl Into<String>) -> FixedEnsemble {
        FixedEnsemble(connect_string.into())
    }
}

#[async_trait]
impl EnsembleProvider for FixedEnsemble {
    async fn connect_string(&self) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.0.clone())
    }
}
