//! What a leader does without being asked: expiry, and the reaping of containers and TTL znodes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::SharedClock;
use crate::config::Config;
use crate::replication::{Replication, Role};
use crate::sessions::{Overdue, Sessions};
use crate::tree::CallerBuf;
#[cfg(feature = "testing")]
use crate::tree::txn::Judgement;
use crate::tree::txn::{Origin, Proposal, Txn};

/// What the periodic tasks need.
pub(super) struct Periodic {
    replication: Arc<Replication>,
    sessions: Arc<Sessions>,
    clock: SharedClock,
    /// What this server is; `None` if it stands alone, and always leads.
    role: Option<watch::Receiver<Role>>,
    tick: Duration,
    reap_interval: Duration,
    reap_per_minute: u32,
    never_used_ms: Option<i64>,
}

impl Periodic {
    pub(super) fn new(
        config: &Config,
        replication: &Arc<Replication>,
        sessions: &Arc<Sessions>,
        clock: &SharedClock,
        role: Option<watch::Receiver<Role>>,
    ) -> Periodic {
        let never_used = config.container_max_never_used;
        Periodic {
            replication: replication.clone(),
            sessions: sessions.clone(),
            clock: clock.clone(),
            role,
            tick: config.tick_time.max(Duration::from_millis(1)),
            reap_interval: config
                .container_check_interval
                .max(Duration::from_millis(1)),
            reap_per_minute: config.container_max_per_minute.max(1),
            never_used_ms: never_used.map(|d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)),
        }
    }

    /// The term in which this server leads, if it does.
    fn leads(&self) -> Option<u64> {
        let Some(role) = &self.role else {
            return Some(self.replication.term());
        };
        match *role.borrow() {
            Role::Leading { term } => Some(term),
            Role::Looking | Role::Following { .. } => None,
        }
    }

    /// How long nothing is due.
    fn next_look(&self, now: Duration, leads: bool) -> Duration {
        if !leads && self.role.is_some() {
            return self.tick;
        }
        let next = self.sessions.live.lock().next_ms();
        let wait = next.map_or(self.tick, |at_ms| {
            Duration::from_millis(at_ms).saturating_sub(now)
        });
        // What is due stays so while a leader has no lease.
        let least = if self.role.is_some() { 10 } else { 1 };
        wait.min(self.tick).max(Duration::from_millis(least))
    }

    /// Looks at every bucket when it is due, and at least once a tick: a session that was opened
    /// meanwhile may be due sooner.
    pub(super) async fn expire(mut self, stop: CancellationToken) {
        let mut led = None;
        loop {
            let now = self.clock.monotonic();
            let wait = self.next_look(now, led.is_some());
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
                () = changed(&mut self.role) => {}
            }
            if self.clock.monotonic() > now + wait + self.tick {
                // This process stood still. What its clients said meanwhile is not read yet, and
                // must not count as silence.
                tracing::warn!("stood still: sessions are judged a tick later");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(self.tick) => {}
                }
                self.sessions.stood_still();
            }
            let leads = self.leads();
            if leads != led {
                match leads {
                    Some(term) => self.sessions.begin_term(term, self.replication.state()),
                    None => self.sessions.end_term(),
                }
                led = leads;
            }
            let Some(term) = leads else {
                continue;
            };
            for Overdue {
                session,
                judged,
                timeout_ms,
            } in self.sessions.overdue(term)
            {
                let expiry = Txn::ExpireSession { session, judged };
                if propose_in(term, &self.replication, expiry) {
                    tracing::info!(
                        "Expiring session {session}, timeout of {timeout_ms}ms exceeded"
                    );
                } else {
                    self.sessions.not_expired(session, judged);
                }
            }
        }
    }

    /// Proposes the removal of empty containers and stale TTL znodes, spread over the time so that
    /// no more than so many a minute are removed.
    pub(super) async fn reap(self, stop: CancellationToken) {
        let pause = Duration::from_secs(60) / self.reap_per_minute;
        let mut next = self.clock.monotonic() + self.reap_interval;
        loop {
            let wait = next.saturating_sub(self.clock.monotonic());
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
            next = self.clock.monotonic() + self.reap_interval;
            if self.leads().is_none() {
                continue;
            }
            let now_ms = self.clock.wall_ms();
            let most = usize::try_from(self.reap_per_minute).unwrap_or(usize::MAX);
            let candidates =
                self.replication
                    .state()
                    .tree()
                    .reap_candidates(now_ms, self.never_used_ms, most);
            for (path, czxid, mzxid) in candidates {
                let Some(term) = self.leads() else {
                    break;
                };
                let path = std::borrow::Cow::Borrowed(&*path);
                propose_in(term, &self.replication, Txn::Reap { path, czxid, mzxid });
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        }
    }
}

/// Returns when this server has become something else; never for one that stands alone.
async fn changed(role: &mut Option<watch::Receiver<Role>>) {
    if let Some(role) = role
        && role.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Proposes what the leader of `term` judged. False if the log does not take it now.
fn propose_in(term: u64, replication: &Replication, txn: Txn<'_>) -> bool {
    let caller = CallerBuf::new(&[], true);
    let proposal = Proposal {
        origin: Origin::default(),
        caller: caller.as_caller(),
        txn,
    };
    replication.queue().push_in_term(term, &proposal).is_ok()
}

/// Expires one session now, whatever it said, and waits until that is applied.
#[cfg(feature = "testing")]
pub(super) async fn expire_now(
    replication: &Replication,
    sessions: &Sessions,
    session: quorate_proto::SessionId,
) -> Result<(), super::NoSession> {
    let no_session = super::NoSession { session };
    loop {
        let Some(info) = replication.state().session(session) else {
            return Err(no_session);
        };
        if !propose_in(
            replication.term(),
            replication,
            Txn::ExpireSession {
                session,
                judged: Judgement {
                    attach: info.attach,
                    seq: u64::MAX,
                    term: 0,
                },
            },
        ) {
            return Err(no_session);
        }
        // Ordered behind the proposal; a session that was attached meanwhile is judged anew.
        if replication.read_index().await.is_err() {
            return Err(no_session);
        }
        let mut waited = 0;
        while replication
            .state()
            .session(session)
            .is_some_and(|now| now.attach == info.attach)
        {
            tokio::task::yield_now().await;
            waited += 1;
            if waited > 1_000_000 {
                return Err(no_session);
            }
        }
        if replication.state().session(session).is_none() {
            // Its connection is told by the same apply turn.
            sessions.cut(session, crate::sessions::CloseReason::Expired);
            return Ok(());
        }
    }
}

/// Reaps what is due at this time, and waits until that is applied.
#[cfg(feature = "testing")]
pub(super) async fn reap_now(
    replication: &Replication,
    now_ms: i64,
    never_used_ms: Option<i64>,
) -> usize {
    let due = || {
        let state = replication.state();
        state
            .tree()
            .reap_candidates(now_ms, never_used_ms, usize::MAX)
    };
    let candidates = due();
    let count = candidates.len();
    for (path, czxid, mzxid) in candidates {
        let path = std::borrow::Cow::Borrowed(&*path);
        propose_in(
            replication.term(),
            replication,
            Txn::Reap { path, czxid, mzxid },
        );
    }
    // Ordered behind the proposals. A server that stops reaps after its next start.
    if replication.read_index().await.is_ok() {
        let mut waited = 0;
        while !due().is_empty() && waited < 10_000 {
            tokio::task::yield_now().await;
            waited += 1;
        }
    }
    count
}
