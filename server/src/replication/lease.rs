//! For how long no other server can have begun to lead.
//!
//! A follower grants no vote for the lease's length after it heard the leader. So a leader whose
//! heartbeat, sent at `t`, a quorum answered is alone until `t` + the length, as long as nobody
//! passes over leases: a hand-over and an election after a refused dial do (R19). Whoever builds on
//! the lease adds one length for those (R18); reads never build on it.
//!
//! The watcher of this server's role extends the lease and counts its gaps. Between two of its
//! looks the lease ends where the last look put it, so a gap is never passed over in silence.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::SharedClock;

/// The lease of this server, as it knows it. Clones are of one lease.
#[derive(Clone)]
pub(crate) struct Lease {
    shared: Arc<Shared>,
    clock: SharedClock,
}

struct Shared {
    /// When it ends, by the monotonic clock; `None`: it is not held.
    ends: Mutex<Option<Duration>>,
    gaps: AtomicU64,
    length: Duration,
}

impl Lease {
    /// A lease that nobody holds yet.
    pub(super) fn new(length: Duration, clock: SharedClock) -> Lease {
        let shared = Shared {
            ends: Mutex::new(None),
            gaps: AtomicU64::new(0),
            length,
        };
        Lease {
            shared: Arc::new(shared),
            clock,
        }
    }

    /// Whether this server leads, and no other can have begun to by election.
    pub(crate) fn valid(&self) -> bool {
        let ends = *self.shared.ends.lock();
        ends.is_some_and(|ends| self.clock.monotonic() < ends)
    }

    /// How long one lasts. Zero where this server is the only voter and needs none.
    pub(crate) fn length(&self) -> Duration {
        self.shared.length
    }

    /// How often it was lost and won again while this server led. Whoever needs a lease without
    /// a gap compares two readings.
    #[cfg(test)]
    pub(crate) fn gaps(&self) -> u64 {
        self.shared.gaps.load(Ordering::Acquire)
    }

    /// It lasts until then; `None`: it is over, or nobody may trust it until it is set again.
    pub(super) fn set(&self, ends: Option<Duration>) {
        *self.shared.ends.lock() = ends;
    }

    /// It was lost and won again.
    pub(super) fn count_gap(&self) {
        self.shared.gaps.fetch_add(1, Ordering::AcqRel);
    }
}
