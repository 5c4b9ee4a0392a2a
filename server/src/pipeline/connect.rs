//! The connect request: the checks that need no log, in ZooKeeper's order, and then the log.
//!
//! Source: ZooKeeper's `ZooKeeperServer.processConnectRequest`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_proto::{ConnectRequest, ConnectResponse, SessionId};

use super::Pipeline;
use super::throttle::Weight;
use crate::sessions::{CloseReason, Conn, Handshake};
use crate::tree::CallerBuf;
use crate::tree::txn::{Origin, Proposal, Txn};

/// What came of a connect request.
pub(crate) enum Connected {
    /// The log decides; the connection is told through its outbox.
    Waits {
        /// How long the client can have use of an answer.
        at_most: Duration,
    },
    /// Nothing: what there is to send is queued, and the connection closes.
    Refused,
}

impl Pipeline {
    /// Takes the first frame of a connection.
    pub(crate) fn connect(&self, conn: &Arc<Conn>, payload: &[u8]) -> Connected {
        self.metrics.packets_received.inc();
        conn.stats.received.fetch_add(1, Ordering::Relaxed);
        self.metrics.connection_requests.inc();
        let Ok(request) = ConnectRequest::decode(payload) else {
            return Connected::Refused;
        };
        if !self.is_open() {
            tracing::debug!(peer = %conn.peer, "refused: the ensemble is not complete, or this leader serves no clients");
            return Connected::Refused;
        }
        if !self.sessions.is_fresh(self.clock.monotonic()) {
            tracing::debug!(peer = %conn.peer, "refused: no leader confirms the sessions (R17)");
            return Connected::Refused;
        }
        let renewal = request.session != SessionId::NONE;
        if !self.connection_admitted(renewal) {
            self.metrics.connections_dropped.inc();
            return Connected::Refused;
        }
        // What a read has just shown may not count as applied yet: looked at twice, once for free.
        if request.last_zxid_seen > self.state.applied_zxid()
            && request.last_zxid_seen > self.state.settled_zxid()
        {
            tracing::info!(
                peer = %conn.peer, seen = %request.last_zxid_seen, zxid = %self.state.applied_zxid(),
                "refused: the client has seen a zxid that this server has not; it must try another"
            );
            return Connected::Refused;
        }
        let timeout = self.negotiate(request.timeout_ms);
        if renewal {
            self.metrics.revalidations.inc();
            // Before the password is looked at, as in ZooKeeper: the newest connection wins.
            self.sessions.cut(request.session, CloseReason::Moved);
            let password = request.password.unwrap_or_default();
            if !self.state.password_matches(request.session, password) {
                let refused = ConnectResponse::refused(request.read_only.map(|_| false));
                let mut outbox = conn.outbox();
                outbox.queue(|out| refused.write_frame(out));
                outbox.close_after_flush();
                return Connected::Refused;
            }
        }
        let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        let ticket = self.sessions.handshake(Handshake {
            conn: conn.clone(),
            read_only: request.read_only,
            last_zxid_seen: request.last_zxid_seen,
        });
        let txn = if renewal {
            Txn::Attach {
                ticket,
                session: request.session,
                timeout_ms,
            }
        } else {
            Txn::OpenSession { ticket, timeout_ms }
        };
        let caller = CallerBuf::new(&[], false);
        let proposal = Proposal {
            origin: Origin::default(),
            caller: caller.as_caller(),
            txn,
        };
        if let Err(refused) = self.replication.queue().push(&proposal) {
            tracing::warn!(peer = %conn.peer, %refused, "no session: the log takes no writes");
            self.sessions.forget_handshake(ticket);
            return Connected::Refused;
        }
        Connected::Waits { at_most: timeout }
    }

    /// The timeout for a wish: raised to the least, lowered to the most.
    fn negotiate(&self, wished_ms: i32) -> Duration {
        let wished = Duration::from_millis(u64::try_from(wished_ms).unwrap_or(0));
        wished.max(self.min_timeout).min(self.max_timeout)
    }

    fn connection_admitted(&self, renewal: bool) -> bool {
        let Some(throttle) = &self.throttle else {
            return true;
        };
        let weight = if renewal {
            Weight::Renewal
        } else {
            Weight::New
        };
        throttle
            .lock()
            .admits(weight, self.clock.monotonic(), rand::random())
    }
}
