//! A leader without clients of its own, as `leaderServes=no` wants it.
//!
//! The pipeline turns away who comes while this server leads; here its clients are sent on when it
//! begins to. They find their sessions at the followers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::replication::Role;
use crate::sessions::{CloseReason, Sessions};

/// Sends the clients of this server on whenever it leads, until `stop`. Looks again every `tick`:
/// somebody may have come in while the role changed.
pub(super) async fn send_clients_on(
    mut role: watch::Receiver<Role>,
    sessions: Arc<Sessions>,
    tick: Duration,
    stop: CancellationToken,
) {
    let sending = async {
        while role.wait_for(|role| role.leads()).await.is_ok() {
            tracing::info!(
                "this server leads: its clients are sent to the others (leaderServes=no)"
            );
            while role.borrow_and_update().leads() {
                sessions.close_clients(CloseReason::Moved);
                // Whether it was the role or the time: looked at in the condition.
                let _ = tokio::time::timeout(tick, role.changed()).await;
            }
        }
    };
    tokio::select! {
        () = sending => {}
        () = stop.cancelled() => {}
    }
}
