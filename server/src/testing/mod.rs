//! Servers and a client for tests: of this crate, and of applications.
//!
//! [`TestServer::start`] gives a whole server in this process, on a port of its own, ready when
//! it returns, in memory unless it is asked for a directory. Nothing has to be installed or
//! cleaned up. [`wire`] is a client that hides nothing of the protocol.

mod cluster;
mod server;
pub mod wire;

pub use self::cluster::{TestCluster, TestClusterBuilder};
pub use self::server::{TestServer, TestServerBuilder};
pub use crate::node::NoSession;
pub use crate::replication::SnapshotFailed;
