//! The network as a parameter: TCP in production, a switchboard of pipes in tests.

use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::config::PeerAddress;

/// Bytes both ways.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// One connection.
pub(crate) type Stream = Box<dyn Io>;

/// Dials and listens.
pub(crate) trait Net: Send + Sync + 'static {
    /// Connects to a peer. Names are resolved at each call. The caller bounds the time.
    fn dial(&self, to: &PeerAddress) -> BoxFuture<'static, io::Result<Stream>>;

    /// Listens on the quorum port of an address of this server; with `everywhere` on all
    /// interfaces. The listener is bound when the future is ready.
    fn listen(
        &self,
        at: &PeerAddress,
        everywhere: bool,
    ) -> BoxFuture<'static, io::Result<BoxStream<'static, io::Result<Stream>>>>;
}

/// A network that is shared by the parts of a server.
pub(crate) type SharedNet = Arc<dyn Net>;
