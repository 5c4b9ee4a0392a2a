//! Servers for tests: of this crate, and of applications.
//!
//! [`TestServer::start`] gives a whole server in this process, on a port of its own, ready when
//! it returns, in memory unless it is asked for a directory. Nothing has to be installed or
//! cleaned up.

mod server;

pub use self::server::{NoSession, TestServer, TestServerBuilder};
