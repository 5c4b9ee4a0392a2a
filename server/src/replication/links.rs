//! What consensus asks of the links between servers, beyond opening one.

use std::sync::Arc;

use crate::peers::{Call, Handler, Peers, Purpose};

/// Opens links to the other servers, and lets them open links to this one.
pub(crate) trait Links: Call {
    /// From now on this server is `node` of the ensemble `cluster`: its handshakes say so, and
    /// those of other ensembles are refused. Before, it has no id and takes links of
    /// [`Purpose::Boot`] alone.
    fn identify(&self, cluster: [u8; 16], node: u64);

    /// Serves the links of a purpose; the handler replaces the one before.
    fn serve(&self, purpose: Purpose, handler: Arc<dyn Handler>);
}

impl Links for Peers {
    fn identify(&self, cluster: [u8; 16], node: u64) {
        self.become_member(cluster, node);
    }

    fn serve(&self, purpose: Purpose, handler: Arc<dyn Handler>) {
        Peers::serve(self, purpose, handler);
    }
}

/// Links that are shared by the parts of a server.
pub(crate) type SharedLinks = Arc<dyn Links>;
