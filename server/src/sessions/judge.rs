//! The leader's end: which sessions are renewed, and which are over.
//!
//! One lock orders renewals and judgements: a session is renewed before it is looked at, or it is
//! marked and not renewed any more. Sessions that are connected to this server are renewed by a
//! store to their connection; see [`Conn::touch`](super::Conn::touch) for their order.
//!
//! An expiry that was judged is not yet applied. What may happen to its session in between makes it
//! void when it is applied, at the same place of the log on every server: another attach, a write
//! that reached the log first, or another leader.

use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_proto::SessionId;

use super::conn::millis;
use super::live::{self, Overdue};
use super::{Bounds, Sessions};
use crate::replication::Judge;
use crate::tree::State;
use crate::tree::txn::Judgement;

impl Judge for Sessions {
    fn renew(&self, sessions: &[SessionId]) -> Vec<SessionId> {
        let mut live = self.live.lock();
        // Read under the lock: a session is not renewed to a time before it was looked at.
        let now_ms = millis(self.clock.monotonic());
        let refused = |session: &SessionId| !live.renew(*session, now_ms);
        sessions.iter().copied().filter(refused).collect()
    }

    fn start_over(&self, lease: Duration) {
        let mut live = self.live.lock();
        let from_ms = millis(self.clock.monotonic() + lease);
        live.start_over(from_ms);
    }
}

impl Sessions {
    /// This server leads in `term`, and its deadlines were started over. Called by whoever calls
    /// [`Sessions::overdue`], once a term, before it.
    pub(crate) fn begin_term(&self, term: u64, state: &State) {
        if self.reports.get().is_none() {
            return;
        }
        // Counted from here on, and what was written before is in the state: nothing falls between.
        self.counts_writes.store(true, Ordering::SeqCst);
        let all = state.sessions();
        let mut live = self.live.lock();
        for (session, info) in all {
            live.wrote(session, info.attach, info.last_seq, 0);
        }
        for session in live.unmark_earlier(term) {
            if let Some(conn) = self.by_session(session) {
                conn.expiring.store(false, Ordering::SeqCst);
            }
        }
    }

    /// This server does not lead any more.
    pub(crate) fn end_term(&self) {
        self.counts_writes.store(false, Ordering::SeqCst);
    }

    /// Takes out the sessions that are over, marked so that nothing is confirmed to them any more.
    /// None without a lease: it may be this server that was not heard.
    pub(crate) fn overdue(&self, term: u64) -> Vec<Overdue> {
        let reports = self.reports.get();
        if reports.is_some_and(|reports| !reports.confirms_alone()) {
            return Vec::new();
        }
        let by = live::Judge {
            term,
            counts_writes: reports.is_some(),
        };
        let now_ms = millis(self.clock.monotonic());
        self.live
            .lock()
            .overdue(now_ms, by, |session| self.by_session(session))
    }

    /// The expiry of a session did not come about: it is looked at again at the next tick.
    pub(crate) fn not_expired(&self, session: SessionId, judged: Judgement) {
        let conn = self.by_session(session);
        let now_ms = millis(self.clock.monotonic());
        self.live
            .lock()
            .revive(session, judged, conn.as_deref(), now_ms);
    }

    /// This process stood still. Alone, what clients said meanwhile is read within a tick; in an
    /// ensemble others may not have been able to say it at all (R18).
    pub(crate) fn stood_still(&self) {
        if let Some(reports) = self.reports.get() {
            let Bounds { lease, .. } = reports.bounds();
            self.start_over(lease);
        }
    }

    /// Writes of sessions were applied, at `now`.
    pub(super) fn wrote(&self, writes: &mut Vec<(SessionId, u32, u64)>, now: Duration) {
        let now_ms = millis(now);
        let mut live = self.live.lock();
        for (session, attach, seq) in writes.drain(..) {
            live.wrote(session, attach, seq, now_ms);
        }
    }

    /// Whether applied writes are to be counted.
    pub(super) fn counts_writes(&self) -> bool {
        self.counts_writes.load(Ordering::SeqCst)
    }
}
