//! One client connection, as the other parts of the server see it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard, RwLock};
use quorate_proto::SessionId;

use super::identities::Identities;
use super::outbox::{Budget, CloseReason, Outbox};
use super::wake::Wake;
use crate::lock_order::{Ordered, Rank};
use crate::watches::ConnId;

/// The part of a timeout, one in so many, that a proof does not cover.
const PROOF_MARGIN: u32 = 16;

/// What binds a connection to its session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Attachment {
    /// The session.
    pub(crate) session: SessionId,
    /// Which attach of it this connection is.
    pub(crate) attach: u32,
    /// The negotiated timeout.
    pub(crate) timeout: Duration,
}

/// A connection. Its task owns the socket; everybody else has this.
#[derive(Debug)]
pub(crate) struct Conn {
    /// Its number among the open ones.
    pub(crate) id: ConnId,
    /// Where the client is.
    pub(crate) peer: SocketAddr,
    /// Tells the task that the outbox, or the fate of the connection, changed.
    pub(crate) wake: Wake,
    /// The session, once the handshake is through.
    pub(crate) attachment: OnceLock<Attachment>,
    /// When the session was last heard here (monotonic, ms). Every accepted request counts.
    pub(crate) heard_ms: AtomicU64,
    /// What of that a leader has confirmed: the time it was when it was reported.
    pub(crate) reported_ms: AtomicU64,
    /// When the newest report began that a leader confirmed for the session, or when the handshake
    /// was read: the session is not over before this plus its timeout. Kept in an ensemble.
    pub(crate) proven_ms: AtomicU64,
    /// The number of the newest report that confirmed the session for a reply that waits.
    pub(crate) confirmed: AtomicU64,
    /// The leader is about to expire the session: nothing is confirmed to it any more (R16).
    pub(crate) expiring: AtomicBool,
    /// Statistics for `cons`.
    pub(crate) stats: ConnStats,
    identities: RwLock<Arc<Identities>>,
    outbox: Mutex<Outbox>,
}

/// What `cons` and `stat` show of a connection.
#[derive(Debug, Default)]
pub(crate) struct ConnStats {
    /// When it was accepted (ms since 1970).
    pub(crate) established_ms: AtomicI64,
    /// Frames received.
    pub(crate) received: AtomicU64,
    /// Frames sent.
    pub(crate) sent: AtomicU64,
    /// Requests read and not answered.
    pub(crate) outstanding: AtomicU64,
    /// The last operation answered; its opcode.
    pub(crate) last_op: AtomicI32,
    /// The last xid answered.
    pub(crate) last_xid: AtomicI32,
    /// The last zxid told.
    pub(crate) last_zxid: AtomicI64,
    /// When the last reply was queued (monotonic, ms).
    pub(crate) last_response_ms: AtomicU64,
    /// Latency of the last request, in ms; then the least, the largest, and the sum and count.
    pub(crate) last_latency_ms: AtomicU64,
    /// Least latency plus one; 0 = none yet.
    pub(crate) min_latency_plus_1_ms: AtomicU64,
    /// Largest latency.
    pub(crate) max_latency_ms: AtomicU64,
    /// Sum of latencies.
    pub(crate) sum_latency_ms: AtomicU64,
    /// Requests with a latency.
    pub(crate) latencies: AtomicU64,
}

impl Conn {
    pub(crate) fn new(
        id: ConnId,
        peer: SocketAddr,
        identities: Arc<Identities>,
        budget: Arc<Budget>,
    ) -> Conn {
        Conn {
            id,
            peer,
            wake: Wake::default(),
            attachment: OnceLock::new(),
            heard_ms: AtomicU64::new(0),
            reported_ms: AtomicU64::new(0),
            proven_ms: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            expiring: AtomicBool::new(false),
            stats: ConnStats::default(),
            identities: RwLock::new(identities),
            outbox: Mutex::new(Outbox::new(budget)),
        }
    }

    /// What goes out. The innermost lock of all (R7): nothing else is taken under it.
    pub(crate) fn outbox(&self) -> Ordered<MutexGuard<'_, Outbox>> {
        Ordered::lock(Rank::Outbox, || self.outbox.lock())
    }

    /// The identities of this moment.
    pub(crate) fn identities(&self) -> Arc<Identities> {
        self.identities.read().clone()
    }

    /// Replaces them; only the connection's own task does.
    pub(crate) fn set_identities(&self, identities: Arc<Identities>) {
        *self.identities.write() = identities;
    }

    /// The session, or none before the handshake.
    pub(crate) fn session(&self) -> SessionId {
        self.attachment.get().map_or(SessionId::NONE, |a| a.session)
    }

    /// Whether the session is certainly not over at `now`, for all that reports have shown. A part
    /// of the timeout is kept back, for clocks that run at different rates.
    pub(crate) fn is_proven(&self, now: Duration) -> bool {
        let Some(attachment) = self.attachment.get() else {
            return true;
        };
        let timeout = attachment.timeout - attachment.timeout / PROOF_MARGIN;
        millis(now) <= self.proven_ms.load(Ordering::Acquire) + millis(timeout)
    }

    /// Closes the connection at once, without a word to the client.
    pub(crate) fn close(&self, reason: CloseReason) {
        self.outbox().close(reason);
        self.wake.wake();
    }

    /// Notes that the session spoke. True if that counts: false once it is being expired.
    ///
    /// Expiry marks first and looks at the time afterwards, this stores the time first and looks
    /// at the mark afterwards, both in one total order: at least one of them sees the other, so a
    /// session is never both confirmed and expired.
    pub(crate) fn touch(&self, now: Duration) -> bool {
        self.heard_ms.store(millis(now), Ordering::SeqCst);
        !self.expiring.load(Ordering::SeqCst)
    }
}

impl ConnStats {
    /// Notes one answered request.
    pub(crate) fn answered(&self, op: i32, xid: i32, zxid: i64, now: Duration, latency: Duration) {
        let latency = millis(latency);
        self.last_op.store(op, Ordering::Relaxed);
        self.last_xid.store(xid, Ordering::Relaxed);
        self.last_zxid.store(zxid, Ordering::Relaxed);
        self.last_response_ms.store(millis(now), Ordering::Relaxed);
        self.last_latency_ms.store(latency, Ordering::Relaxed);
        if latency > self.max_latency_ms.load(Ordering::Relaxed) {
            self.max_latency_ms.fetch_max(latency, Ordering::Relaxed);
        }
        let least = self.min_latency_plus_1_ms.load(Ordering::Relaxed);
        if least == 0 || latency + 1 < least {
            self.min_latency_plus_1_ms
                .store(latency + 1, Ordering::Relaxed);
        }
        self.sum_latency_ms.fetch_add(latency, Ordering::Relaxed);
        self.latencies.fetch_add(1, Ordering::Relaxed);
    }

    /// Forgets the counters, as `crst` asks.
    pub(crate) fn reset(&self) {
        for counter in [
            &self.received,
            &self.sent,
            &self.last_latency_ms,
            &self.min_latency_plus_1_ms,
            &self.max_latency_ms,
            &self.sum_latency_ms,
            &self.latencies,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
    }
}

/// Whole milliseconds.
pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
