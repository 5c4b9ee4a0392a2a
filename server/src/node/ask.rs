//! Between `sessions`, which want to be confirmed, and `replication`, which knows who leads.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use quorate_proto::SessionId;

use crate::replication::Confirmer;
use crate::sessions::{Confirm, Unconfirmed};

/// Asks the leader, wherever it is.
pub(super) struct Ask(Arc<Confirmer>);

impl Ask {
    pub(super) fn new(confirmer: Arc<Confirmer>) -> Ask {
        Ask(confirmer)
    }
}

impl Confirm for Ask {
    fn confirms_alone(&self) -> bool {
        self.0.alone()
    }

    fn confirm(
        &self,
        sessions: Vec<SessionId>,
    ) -> BoxFuture<'static, Result<Vec<SessionId>, Unconfirmed>> {
        let confirmer = self.0.clone();
        async move {
            let confirmed = confirmer.confirm(sessions).await;
            confirmed
                .map(|confirmed| confirmed.refused)
                .map_err(|_| Unconfirmed)
        }
        .boxed()
    }
}
