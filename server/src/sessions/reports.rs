//! What a server of an ensemble reports of its sessions, and what it may tell its clients on the
//! strength of that (R16, R17).
//!
//! One report is in flight. Meanwhile the next is collected, and it leaves as soon as the former
//! is through: a ping costs one round trip to the leader. Most reports carry the sessions whose
//! reply waits, and nothing else. Every so often one is a *sweep*: it carries all sessions that
//! were heard since they were last confirmed, so that reads count as signs of life without a word
//! of their own, and it goes out even if there are none. The age of the newest confirmed sweep,
//! counted from its beginning, is what this server knows about the ensemble: past
//! [`Bounds::silence`] it closes its clients and takes no new ones.
//!
//! Not here: what the leader does with a report (`judge`), and how it gets there (`replication`).
//!
//! Invariants:
//! - A reply is released only by a report that was sent after its request was read, that named its
//!   session, and that the leader confirmed without refusing that session.
//! - The time that counts is taken before the report is collected.
//! - What a report carried and the leader did not confirm is in the next sweep again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use quorate_proto::SessionId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Sessions;
use super::confirm::{Bounds, Confirm, Unconfirmed};
use super::conn::{Conn, millis};
use super::outbox::{CloseReason, Fate};
use crate::clock::SharedClock;
use crate::watches::ConnId;

/// Sweeps in the time after which the clients are closed, at least.
const SWEEPS: u32 = 6;
/// Looks at the connections in that time, at least.
const LOOKS: u32 = 12;
/// The longest time between two sweeps, and two looks.
const SWEEP_MOST: Duration = Duration::from_millis(100);
/// How soon to try again when nobody confirms.
const RETRY: Duration = Duration::from_millis(10);

/// The reports of one server.
pub(crate) struct Reports {
    confirm: Arc<dyn Confirm>,
    bounds: Bounds,
    clock: SharedClock,
    /// When the newest confirmed sweep began: monotonic microseconds plus one, 0 before the first.
    confirmed_us: AtomicU64,
    asked: Mutex<Asked>,
    wake: Notify,
}

/// Whose reply waits. At most one entry for each open connection.
#[derive(Default)]
struct Asked {
    /// The number of the report that is being collected.
    round: u64,
    /// They go with the next report.
    next: HashMap<ConnId, Arc<Conn>>,
    /// The leader did not confirm them; it is asked again with the next sweep.
    refused: HashMap<ConnId, Arc<Conn>>,
}

/// One report, from its collection to its answer.
pub(crate) struct Report {
    round: u64,
    pub(crate) began: Duration,
    /// Connections with a reply that waits for this.
    waiting: Vec<Arc<Conn>>,
    /// In a sweep: everybody who was heard, and when.
    heard: Option<Vec<(Arc<Conn>, u64)>>,
}

impl Report {
    pub(crate) fn sessions(&self) -> Vec<SessionId> {
        let heard = self.heard.iter().flatten().map(|(conn, _)| conn.session());
        let waiting = self.waiting.iter().map(|conn| conn.session());
        let mut sessions: Vec<_> = waiting.chain(heard).collect();
        sessions.sort_unstable();
        sessions.dedup();
        sessions
    }
}

impl Reports {
    /// Reports that go to `confirm`.
    pub(crate) fn new(
        confirm: Arc<dyn Confirm>,
        bounds: Bounds,
        clock: SharedClock,
    ) -> Arc<Reports> {
        Arc::new(Reports {
            confirm,
            bounds,
            clock,
            confirmed_us: AtomicU64::new(0),
            asked: Mutex::new(Asked {
                round: 1,
                ..Asked::default()
            }),
            wake: Notify::new(),
        })
    }

    /// Whether this server judges the sessions itself, right now.
    pub(crate) fn confirms_alone(&self) -> bool {
        self.confirm.confirms_alone()
    }

    /// The times that hold here.
    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Whether clients may be answered at `now` (R17).
    pub(crate) fn is_fresh(&self, now: Duration) -> bool {
        self.fresh_until().is_some_and(|until| now <= until)
    }

    fn fresh_until(&self) -> Option<Duration> {
        let began = self.confirmed_us.load(Ordering::Acquire).checked_sub(1)?;
        Some(Duration::from_micros(began) + self.bounds.silence)
    }

    /// Asks for the confirmation of a connection's session; returns the number that
    /// [`Conn::confirmed`] has to reach. The connection is woken then.
    pub(crate) fn ask(&self, conn: &Arc<Conn>) -> u64 {
        let round = {
            let mut asked = self.asked.lock();
            asked.next.insert(conn.id, conn.clone());
            asked.round
        };
        self.wake.notify_one();
        round
    }

    /// Reports, and closes the clients when nobody confirms, until `stop`.
    pub(crate) async fn run(self: Arc<Self>, sessions: Arc<Sessions>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.report(&sessions) => {}
            () = self.guard(&sessions) => {}
        }
    }

    async fn report(&self, sessions: &Sessions) {
        let pause = (self.bounds.silence / SWEEPS).min(SWEEP_MOST);
        let mut sweep_at = self.clock.monotonic();
        loop {
            let wait = sweep_at.saturating_sub(self.clock.monotonic());
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
            let sweep = self.clock.monotonic() >= sweep_at;
            let report = self.collect(sessions, sweep);
            if !sweep && report.waiting.is_empty() {
                continue;
            }
            let began = report.began;
            let answer = self.send(&report).await;
            let failed = answer.is_err();
            self.settle(report, answer);
            if failed {
                // Looked for by a sweep, which also carries what this one carried.
                tokio::time::sleep(RETRY).await;
                sweep_at = self.clock.monotonic();
            } else if sweep {
                sweep_at = began + pause;
            }
        }
    }

    /// The answer to a report of a server that judges by itself.
    pub(crate) fn alone(&self, report: &Report) -> Option<Vec<SessionId>> {
        if !self.confirm.confirms_alone() {
            return None;
        }
        let named = report.heard.iter().flatten().map(|(conn, _)| conn);
        let marked = named
            .chain(&report.waiting)
            .filter(|conn| conn.expiring.load(Ordering::SeqCst));
        Some(marked.map(|conn| conn.session()).collect())
    }

    async fn send(&self, report: &Report) -> Result<Vec<SessionId>, Unconfirmed> {
        if let Some(refused) = self.alone(report) {
            return Ok(refused);
        }
        let asking = self.confirm.confirm(report.sessions());
        // Later than this it would be of no use.
        match tokio::time::timeout(self.bounds.silence, asking).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(Unconfirmed),
        }
    }

    pub(crate) fn collect(&self, sessions: &Sessions, sweep: bool) -> Report {
        // First of all: whatever is heard from now on may count for later, never for earlier.
        let began = self.clock.monotonic();
        let (round, mut waiting) = {
            let mut asked = self.asked.lock();
            let round = asked.round;
            asked.round += 1;
            let mut waiting: Vec<_> = asked.next.drain().map(|(_, conn)| conn).collect();
            if sweep {
                waiting.extend(asked.refused.drain().map(|(_, conn)| conn));
            }
            (round, waiting)
        };
        waiting.retain(|conn| conn.outbox().fate() == Fate::Open);
        let heard = sweep.then(|| heard_since_confirmed(sessions));
        Report {
            round,
            began,
            waiting,
            heard,
        }
    }

    pub(crate) fn settle(&self, report: Report, answer: Result<Vec<SessionId>, Unconfirmed>) {
        let Ok(refused) = answer else {
            let mut asked = self.asked.lock();
            for conn in report.waiting {
                asked.next.insert(conn.id, conn);
            }
            return;
        };
        let refused: HashSet<SessionId> = refused.into_iter().collect();
        let began_ms = millis(report.began);
        if let Some(heard) = report.heard {
            for (conn, at_ms) in heard {
                if !refused.contains(&conn.session()) {
                    conn.reported_ms.store(at_ms, Ordering::Relaxed);
                    conn.proven_ms.fetch_max(began_ms, Ordering::AcqRel);
                }
            }
            let began = u64::try_from(report.began.as_micros()).unwrap_or(u64::MAX - 1);
            let was = self.confirmed_us.fetch_max(began + 1, Ordering::AcqRel);
            if was == 0 {
                tracing::info!("sessions: a leader confirms them, clients are served");
            }
        }
        for conn in report.waiting {
            if refused.contains(&conn.session()) {
                self.asked.lock().refused.insert(conn.id, conn);
            } else {
                conn.proven_ms.fetch_max(began_ms, Ordering::AcqRel);
                conn.confirmed.fetch_max(report.round, Ordering::AcqRel);
                conn.wake.wake();
            }
        }
    }

    /// Closes whoever may not be answered at `now`.
    pub(crate) fn close_stale(&self, sessions: &Sessions, now: Duration) {
        if !self.is_fresh(now) {
            sessions.close_clients(CloseReason::CutOff);
            return;
        }
        for conn in sessions.attached() {
            if !conn.is_proven(now) {
                conn.close(CloseReason::CutOff);
            }
        }
    }

    /// Closes the clients when nothing was confirmed for too long, and goes on doing so: a
    /// handshake may just have come through. Closes those, too, whose own proof runs out.
    async fn guard(&self, sessions: &Sessions) {
        // Within what a proof leaves of the shortest timeout.
        let look = (self.bounds.silence / LOOKS).min(SWEEP_MOST);
        let mut was_fresh = false;
        loop {
            let now = self.clock.monotonic();
            let left = self
                .fresh_until()
                .and_then(|until| until.checked_sub(now))
                .filter(|left| !left.is_zero());
            self.close_stale(sessions, now);
            if left.is_none() && was_fresh {
                tracing::warn!(
                    silence_ms = self.bounds.silence.as_millis(),
                    "no leader confirms the sessions: client connections are closed"
                );
            }
            was_fresh = left.is_some();
            tokio::time::sleep(left.map_or(look, |left| left.min(look))).await;
        }
    }
}

/// Who was heard since that was last confirmed, and when.
fn heard_since_confirmed(sessions: &Sessions) -> Vec<(Arc<Conn>, u64)> {
    let heard = |conn: Arc<Conn>| {
        let at_ms = conn.heard_ms.load(Ordering::SeqCst);
        (at_ms != conn.reported_ms.load(Ordering::Relaxed)).then_some((conn, at_ms))
    };
    sessions.attached().into_iter().filter_map(heard).collect()
}

#[cfg(test)]
#[path = "reports_tests.rs"]
mod tests;
