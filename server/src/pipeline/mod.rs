//! From a request to its answer: order, identities, routing.
//!
//! `line` keeps each connection's order (R1, R2). Reads run here, on the connection's own task,
//! against the local tree (`reads`, `watch_ops`). Writes are judged as far as this server's own
//! settings go (`writes`, `acl`) and go to `replication`; their answers come back through
//! `sessions`. `connect` and `auth`/`sasl` are the two things that do not go through the tree.

mod acl;
mod auth;
mod connect;
mod line;
mod pings;
mod proofs;
mod reads;
mod sasl;
mod throttle;
mod watch_ops;
mod writes;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use self::auth::{AuthRules, ReadMode};
pub(crate) use self::connect::Connected;
pub(crate) use self::line::{Line, LineClosed};
use self::throttle::Throttle;
use crate::clock::SharedClock;
use crate::config::{Config, Ensemble, RequestThrottle, SaslUser};
use crate::metrics::Metrics;
use crate::replication::Replication;
use crate::sessions::{Conn, Sessions};
use crate::tree::State;

/// What every connection's requests need.
pub(crate) struct Pipeline {
    replication: Arc<Replication>,
    state: Arc<State>,
    sessions: Arc<Sessions>,
    clock: SharedClock,
    metrics: Arc<Metrics>,
    rules: AuthRules,
    limits: Limits,
    sasl_users: Vec<SaslUser>,
    sasl_super_user: Option<String>,
    allow_sasl_failed: bool,
    enforce_auth_schemes: Vec<String>,
    min_timeout: Duration,
    max_timeout: Duration,
    extended_types: bool,
    enforce_quota: bool,
    reconfig_enabled: bool,
    /// Whether the ensemble was complete enough to serve clients, once.
    opened: AtomicBool,
    /// The list of servers; `None` where this server stands alone.
    ensemble: Option<Ensemble>,
    /// Whether clients are turned away while this server leads.
    leader_is_aloof: bool,
    /// What the reads of a new connection are.
    read_mode: ReadMode,
    throttle: Option<Mutex<Throttle>>,
    /// Bytes of large requests in process.
    large_bytes: AtomicUsize,
}

/// The bounds of `zoo.cfg` that requests run into.
#[derive(Clone, Debug)]
struct Limits {
    frame_bytes: usize,
    outstanding: i64,
    large_request: Option<usize>,
    large_request_budget: usize,
    requests: Option<RequestThrottle>,
    op_wait: Option<Duration>,
}

impl Pipeline {
    pub(crate) fn new(
        config: &Config,
        replication: Arc<Replication>,
        sessions: Arc<Sessions>,
        clock: SharedClock,
        metrics: Arc<Metrics>,
    ) -> Arc<Pipeline> {
        let now = clock.monotonic();
        Arc::new(Pipeline {
            state: replication.state().clone(),
            replication,
            sessions,
            clock,
            metrics,
            rules: AuthRules::new(config),
            limits: Limits {
                frame_bytes: config.jute_max_buffer,
                outstanding: i64::from(config.global_outstanding_limit),
                large_request: config.large_request_threshold,
                large_request_budget: config.large_request_max_bytes,
                requests: config.request_throttle.clone(),
                op_wait: config.throttled_op_wait,
            },
            sasl_users: config.sasl_users.clone(),
            sasl_super_user: config.sasl_super_user.clone(),
            allow_sasl_failed: config.allow_sasl_failed_clients,
            enforce_auth_schemes: config.enforce_auth_schemes.clone(),
            min_timeout: config.min_session_timeout,
            max_timeout: config.max_session_timeout,
            extended_types: config.extended_types,
            enforce_quota: config.enforce_quota,
            reconfig_enabled: config.reconfig_enabled,
            opened: AtomicBool::new(false),
            ensemble: config.ensemble.clone(),
            leader_is_aloof: config.leader_is_aloof(),
            read_mode: ReadMode::of(config),
            throttle: config
                .connection_throttle
                .clone()
                .map(|t| Mutex::new(Throttle::new(t, now))),
            large_bytes: AtomicUsize::new(0),
        })
    }

    /// What `/zookeeper/config` holds; nothing where this server stands alone.
    fn members_text(&self) -> Option<String> {
        let ensemble = self.ensemble.as_ref()?;
        Some(self.replication.members_text(ensemble))
    }

    /// Whether clients may have sessions. A founder that is still alone says no: what it would
    /// acknowledge would be on one disk. Once open, an election does not close the door: whoever
    /// comes meanwhile waits for the new leader.
    fn is_open(&self) -> bool {
        if self.ensemble.is_none() {
            return true;
        }
        if self.leader_is_aloof && self.replication.role().borrow().leads() {
            return false;
        }
        if self.opened.load(Ordering::Relaxed) {
            return true;
        }
        let serving = *self.replication.serving().borrow();
        self.opened.fetch_or(serving, Ordering::Relaxed) || serving
    }

    /// Largest request frame, in bytes.
    pub(crate) fn frame_limit(&self) -> usize {
        self.limits.frame_bytes
    }

    /// The counters of the server.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Notes frames that are being written to a client.
    pub(crate) fn sent(&self, conn: &Conn, frames: u64, bytes: usize) {
        conn.stats.sent.fetch_add(frames, Ordering::Relaxed);
        self.metrics.packets_sent.add(frames);
        self.metrics.response_bytes.add(bytes as u64);
        if let Some(each) = (bytes as u64).checked_div(frames) {
            self.metrics.response_size.record(each);
            self.metrics
                .last_response_bytes
                .set(i64::try_from(each).unwrap_or(i64::MAX));
        }
    }

    /// A connection is over: its watches and its place go.
    pub(crate) fn gone(&self, conn: &Arc<Conn>) {
        self.sessions.remove(conn);
        let left = conn.stats.outstanding.swap(0, Ordering::Relaxed);
        self.metrics
            .outstanding
            .add(-i64::try_from(left).unwrap_or(0));
    }

    /// Whether a request of so many bytes counts against the budget of large ones.
    fn is_large(&self, bytes: usize) -> bool {
        self.limits
            .large_request
            .is_some_and(|threshold| bytes > threshold)
    }

    /// Takes a large request's bytes from their budget. False: there is not enough left.
    fn admit_large(&self, bytes: usize) -> bool {
        let admitted =
            self.large_bytes
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                    let used = used.checked_add(bytes)?;
                    (used <= self.limits.large_request_budget).then_some(used)
                });
        if admitted.is_err() {
            self.metrics.large_requests_rejected.inc();
        }
        admitted.is_ok()
    }

    /// Gives a large request's bytes back.
    fn release_large(&self, bytes: usize) {
        self.large_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}
