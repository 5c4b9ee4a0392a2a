//! What the four-letter words see of a running server.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_proto::{SessionId, Zxid};

use crate::admin;
use crate::admin::view::{
    ConnectedSession, ConnectionRow, DirSizes, Duty, EnsembleView, Leading, PeerRow, ProcessFacts,
    ServerView, SessionRow, TreeFacts, WatchFacts, op_label,
};
use crate::admin::word::Word;
use crate::clock::SharedClock;
use crate::config::{self, Config};
use crate::connection::FourLetter;
use crate::metrics::{Metrics, SummaryView};
use crate::replication::{Health, Replication, Role, Standing};
use crate::sessions::{Conn, PAUSE_BYTES, Sessions, millis};

/// A follower that lacks fewer entries of the log is in step with its leader.
const SYNCED_WITHIN: u64 = 1000;

/// One server, seen from outside.
pub(super) struct View {
    pub(super) config: Config,
    pub(super) client_addr: Option<SocketAddr>,
    pub(super) replication: Arc<Replication>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) clock: SharedClock,
    pub(super) metrics: Arc<Metrics>,
    /// When the server was ready (monotonic).
    pub(super) since: Duration,
}

impl FourLetter for View {
    fn extra(&self, word: [u8; 4]) -> Option<usize> {
        Word::from_bytes(word).map(Word::argument_len)
    }

    fn answer(&self, word: [u8; 4], extra: &[u8]) -> Vec<u8> {
        match Word::from_bytes(word) {
            Some(word) => {
                let word = extra
                    .first_chunk()
                    .map_or(word, |mask| word.with_argument(*mask));
                admin::answer(word, self, &self.config.four_letter_words)
            }
            None => Vec::new(),
        }
    }
}

impl View {
    /// Whether a client that comes now gets a session.
    fn serves_clients(&self) -> bool {
        *self.replication.serving().borrow() && self.sessions.is_fresh(self.clock.monotonic())
    }

    fn leading(&self, standing: &Standing) -> Leading {
        let late = self.config.tick_time;
        let peers = standing.peers.iter().map(|peer| {
            let lag = peer.matched.map(|at| standing.last.saturating_sub(at));
            PeerRow {
                id: peer.server,
                votes: peer.votes,
                synced: peer.heard.is_some_and(|heard| heard < late)
                    && lag.is_some_and(|lag| lag < SYNCED_WITHIN),
                lag,
            }
        });
        let began = self.since;
        Leading {
            uptime: self.clock.monotonic().saturating_sub(began),
            peers: peers.collect(),
            pending: standing.last.saturating_sub(standing.committed),
        }
    }

    fn row(&self, conn: &Conn) -> ConnectionRow {
        let stats = &conn.stats;
        let load = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed);
        let now_ms = millis(self.clock.monotonic());
        let (unwritten, attachment) = (conn.outbox().unwritten(), conn.attachment.get());
        let timeout_ms = attachment.map_or(millis(self.config.sessionless_timeout), |bound| {
            millis(bound.timeout)
        });
        let heard_ms = conn.heard_ms.load(Ordering::Relaxed);
        let left_ms = (heard_ms + timeout_ms).saturating_sub(now_ms);
        ConnectionRow {
            peer: conn.peer,
            interest_ops: u8::from(unwritten <= PAUSE_BYTES) | (u8::from(unwritten > 0) << 2),
            queued: load(&stats.outstanding),
            received: load(&stats.received),
            sent: load(&stats.sent),
            expires_ms: self.clock.wall_ms().saturating_add(signed(left_ms)),
            session: attachment.map(|bound| ConnectedSession {
                id: bound.session,
                last_op: op_label(stats.last_op.load(Ordering::Relaxed)),
                established_ms: stats.established_ms.load(Ordering::Relaxed),
                timeout_ms: signed(timeout_ms),
                last_xid: stats.last_xid.load(Ordering::Relaxed).into(),
                last_zxid: Zxid(stats.last_zxid.load(Ordering::Relaxed)),
                last_reply_ms: load(&stats.last_response_ms),
                latency_last_ms: load(&stats.last_latency_ms),
                latency_min_ms: load(&stats.min_latency_plus_1_ms).saturating_sub(1),
                latency_avg_ms: load(&stats.sum_latency_ms)
                    .checked_div(load(&stats.latencies))
                    .unwrap_or(0),
                latency_max_ms: load(&stats.max_latency_ms),
            }),
        }
    }
}

impl ServerView for View {
    fn config(&self) -> &Config {
        &self.config
    }

    fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn serving(&self) -> bool {
        let runs = !matches!(
            *self.replication.health().borrow(),
            Health::Stopped | Health::Broken { .. }
        );
        let alone = self.config.ensemble.is_none();
        runs && (alone || self.serves_clients())
    }

    fn ensemble(&self) -> Option<EnsembleView> {
        let ensemble = self.config.ensemble.as_ref()?;
        let standing = self.replication.standing();
        let role = *self.replication.role().borrow();
        let duty = match role {
            Role::Leading { .. } => Duty::Leads(self.leading(&standing)),
            Role::Following { leader, .. } if ensemble.role == config::Role::Observer => {
                Duty::Observes { leader }
            }
            Role::Following { .. } | Role::Looking => Duty::Follows,
        };
        Some(EnsembleView {
            duty,
            quorum_size: standing.voters as u64,
            term: standing.term,
            committed: standing.committed,
            applied: standing.applied,
            members: self.replication.members_text(ensemble),
            elections: SummaryView::default(),
        })
    }

    fn session_timeouts(&self) -> Vec<(SessionId, i32)> {
        let all = self.replication.state().sessions();
        all.into_iter()
            .map(|(id, session)| (id, session.timeout_ms))
            .collect()
    }

    fn uptime(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.since)
    }

    fn client_addr(&self) -> Option<SocketAddr> {
        self.client_addr
    }

    fn tree(&self) -> TreeFacts {
        let tree = self.replication.state().tree();
        TreeFacts {
            zxid: self.replication.state().applied_zxid(),
            // ZooKeeper counts the root twice: once as "/" and once as "".
            znodes: tree.node_count() + 1,
            ephemerals: tree.ephemeral_count(),
            approximate_data_size: tree.approximate_data_size(),
        }
    }

    fn each_connection(&self, visit: &mut dyn FnMut(&ConnectionRow) -> ControlFlow<()>) {
        for conn in self.sessions.connections() {
            if visit(&self.row(&conn)).is_break() {
                return;
            }
        }
    }

    fn each_session(&self, visit: &mut dyn FnMut(&SessionRow) -> ControlFlow<()>) {
        let (wall, now_ms) = (self.clock.wall_ms(), millis(self.clock.monotonic()));
        let buckets = self.sessions.live.lock().buckets();
        for (at_ms, sessions) in buckets {
            let expires_ms = wall.saturating_add(signed(at_ms.saturating_sub(now_ms)));
            for id in sessions {
                if visit(&SessionRow { id, expires_ms }).is_break() {
                    return;
                }
            }
        }
    }

    fn ephemerals_of(&self, session: SessionId) -> Vec<Arc<str>> {
        self.replication.state().ephemerals_of(session)
    }

    fn watches(&self) -> WatchFacts {
        let totals = self.sessions.watches.totals();
        WatchFacts {
            connections: totals.connections as u64,
            paths: totals.paths as u64,
            total: totals.watches as u64,
        }
    }

    fn each_watch_by_session(&self, visit: &mut dyn FnMut(SessionId, &str) -> ControlFlow<()>) {
        for conn in self.sessions.connections() {
            let session = conn.session();
            let watches = &self.sessions.watches;
            if !watches.visit_connection(conn.id, |path| visit(session, path).is_continue()) {
                return;
            }
        }
    }

    fn each_watch_by_path(&self, visit: &mut dyn FnMut(&str, SessionId) -> ControlFlow<()>) {
        // Before the table is locked: connections are not asked for under it.
        let sessions = self.sessions.sessions_by_connection();
        self.sessions.watches.visit(|path, conns| {
            conns
                .map(|id| sessions.get(&id).copied().unwrap_or(SessionId::NONE))
                .all(|session| visit(path, session).is_continue())
        });
    }

    fn digests(&self) -> Vec<(Zxid, u64)> {
        self.sessions.digests.lock().iter().copied().collect()
    }

    fn dir_sizes(&self) -> DirSizes {
        let log = self
            .config
            .data_log_dir
            .as_ref()
            .unwrap_or(&self.config.data_dir);
        DirSizes {
            data: size_of(&self.config.data_dir),
            log: size_of(log),
        }
    }

    fn disk_failure(&self) -> Option<String> {
        match &*self.replication.health().borrow() {
            Health::DiskFailed { cause } | Health::Broken { cause } => Some(cause.clone()),
            Health::Serving | Health::Stopped => None,
        }
    }

    fn process(&self) -> ProcessFacts {
        ProcessFacts::read()
    }

    fn reset_connection_stats(&self) {
        for conn in self.sessions.connections() {
            conn.stats.reset();
        }
    }

    fn reset_server_stats(&self) {
        let metrics = &self.metrics;
        metrics.packets_received.reset();
        metrics.packets_sent.reset();
        metrics.read_latency.reset();
        metrics.update_latency.reset();
        metrics.fsync_threshold_exceeded.reset();
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Bytes in the files below a directory; what cannot be read counts for nothing.
fn size_of(dir: &Path) -> u64 {
    let mut left: Vec<PathBuf> = vec![dir.to_owned()];
    let mut bytes = 0;
    while let Some(dir) = left.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => left.push(entry.path()),
                Ok(meta) => bytes += meta.len(),
                Err(_) => {}
            }
        }
    }
    bytes
}
