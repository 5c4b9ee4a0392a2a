//! Counters that any part may raise and `admin` reads. Plain atomics: no registry, no names.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A count that only grows, until it is reset.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub(crate) fn inc(&self) {
        self.add(1);
    }

    /// `n` more.
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Back to zero.
    pub(crate) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// A value that rises and falls.
#[derive(Debug, Default)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    /// Moves it by `n`.
    pub(crate) fn add(&self, n: i64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Sets it.
    pub(crate) fn set(&self, n: i64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value.
    pub(crate) fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Count, sum, least and largest of a series of values.
#[derive(Debug)]
pub(crate) struct Summary {
    count: AtomicU64,
    sum: AtomicU64,
    min: AtomicU64,
    max: AtomicU64,
}

impl Default for Summary {
    fn default() -> Self {
        Summary {
            count: AtomicU64::new(0),
            sum: AtomicU64::new(0),
            min: AtomicU64::new(u64::MAX),
            max: AtomicU64::new(0),
        }
    }
}

/// A [`Summary`] at one moment; all zero when nothing was recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct SummaryView {
    /// How many values.
    pub(crate) count: u64,
    /// Their sum.
    pub(crate) sum: u64,
    /// The least.
    pub(crate) min: u64,
    /// The largest.
    pub(crate) max: u64,
}

impl SummaryView {
    /// Both series as one.
    pub(crate) fn and(self, other: SummaryView) -> SummaryView {
        if self.count == 0 || other.count == 0 {
            return if self.count == 0 { other } else { self };
        }
        SummaryView {
            count: self.count + other.count,
            sum: self.sum.saturating_add(other.sum),
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

impl Summary {
    /// Adds one value.
    pub(crate) fn record(&self, value: u64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
        // Nearly every value lies between: then it is enough to look.
        if value < self.min.load(Ordering::Relaxed) {
            self.min.fetch_min(value, Ordering::Relaxed);
        }
        if value > self.max.load(Ordering::Relaxed) {
            self.max.fetch_max(value, Ordering::Relaxed);
        }
    }

    /// The four figures. They are read one by one, so a value recorded meanwhile may be in some.
    pub(crate) fn view(&self) -> SummaryView {
        let count = self.count.load(Ordering::Relaxed);
        if count == 0 {
            return SummaryView::default();
        }
        SummaryView {
            count,
            sum: self.sum.load(Ordering::Relaxed),
            min: self.min.load(Ordering::Relaxed),
            max: self.max.load(Ordering::Relaxed),
        }
    }

    /// Forgets everything.
    pub(crate) fn reset(&self) {
        self.count.store(0, Ordering::Relaxed);
        self.sum.store(0, Ordering::Relaxed);
        self.min.store(u64::MAX, Ordering::Relaxed);
        self.max.store(0, Ordering::Relaxed);
    }
}

impl Metrics {
    /// Latency of all requests: each is a read or a write.
    pub(crate) fn request_latency(&self) -> SummaryView {
        self.read_latency.view().and(self.update_latency.view())
    }
}

/// The counters of one server. Latencies are in milliseconds, as ZooKeeper reports them; disk
/// times too, rounded up, so that something that happened is never 0 in sum over many.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Frames received from clients.
    pub(crate) packets_received: Counter,
    /// Frames sent to clients, notifications included.
    pub(crate) packets_sent: Counter,
    /// Bytes received from clients.
    pub(crate) bytes_received: Counter,
    /// Bytes sent to clients.
    pub(crate) response_bytes: Counter,
    /// From the reading of a request to the queueing of its reply: reads.
    pub(crate) read_latency: Summary,
    /// As above, writes.
    pub(crate) update_latency: Summary,
    /// Requests read and not yet answered.
    pub(crate) outstanding: Gauge,
    /// Open client connections.
    pub(crate) connections: Gauge,
    /// Connect requests seen.
    pub(crate) connection_requests: Counter,
    /// Sockets closed at accept by a limit.
    pub(crate) connections_rejected: Counter,
    /// Connect requests dropped by the connection throttle.
    pub(crate) connections_dropped: Counter,
    /// Re-attaches asked for.
    pub(crate) revalidations: Counter,
    /// Sockets that never sent a connect request in time.
    pub(crate) sessionless_expired: Counter,
    /// Sessions ended by expiry.
    pub(crate) sessions_expired: Counter,
    /// Refused credentials.
    pub(crate) auth_failed: Counter,
    /// Frames over the large-request budget.
    pub(crate) large_requests_rejected: Counter,
    /// Requests refused by the throttle.
    pub(crate) throttled_ops: Counter,
    /// Connections closed because their outbox was full.
    pub(crate) slow_clients_closed: Counter,
    /// Entries proposed to the log.
    pub(crate) proposals: Counter,
    /// Client requests applied.
    pub(crate) commits: Counter,
    /// Log syncs, in milliseconds.
    pub(crate) fsync_ms: Summary,
    /// Log syncs over `fsync.warningthresholdms`.
    pub(crate) fsync_threshold_exceeded: Counter,
    /// Requests in one log sync's entries.
    pub(crate) batch_size: Summary,
    /// Writing one snapshot, in milliseconds.
    pub(crate) snapshot_ms: Summary,
    /// Snapshots written.
    pub(crate) snapshots: Counter,
    /// Loading at start: snapshot and log, in milliseconds.
    pub(crate) startup_load_ms: Summary,
    /// Tree digests that differed from the recorded one.
    pub(crate) digest_mismatches: Counter,
    /// Writes refused by an enforced quota.
    pub(crate) quota_exceeded: Counter,
    /// Watch events queued.
    pub(crate) watch_events: Counter,
    /// Bytes of the last reply sent.
    pub(crate) last_response_bytes: Gauge,
    /// Sizes of replies.
    pub(crate) response_size: Summary,
    /// Sizes of proposed entries.
    pub(crate) proposal_size: Summary,
    /// Bytes of the last proposed entry; -1 before the first.
    pub(crate) last_proposal_bytes: Gauge,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_series_are_seen_as_one() {
        let metrics = Metrics::default();
        assert_eq!(metrics.request_latency(), SummaryView::default());
        for latency in [4, 2] {
            metrics.read_latency.record(latency);
        }
        let reads = metrics.read_latency.view();
        assert_eq!(metrics.request_latency(), reads);
        metrics.update_latency.record(9);
        let both = SummaryView {
            count: 3,
            sum: 15,
            min: 2,
            max: 9,
        };
        assert_eq!(metrics.request_latency(), both);
    }
}
