//! The leader's view of all sessions: when each was heard, and which are over.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use quorate_proto::SessionId;

use super::conn::Conn;
use super::expiry::{ExpiryQueue, Heard};
use crate::tree::txn::Judgement;

/// Sessions of the ensemble, by the time at which they are over.
#[derive(Debug)]
pub(crate) struct Live {
    queue: ExpiryQueue,
    sessions: HashMap<SessionId, LiveSession>,
}

#[derive(Debug)]
struct LiveSession {
    timeout_ms: u64,
    /// When it was last heard, as far as no open connection knows better.
    heard_ms: u64,
    attach: u32,
    /// Its last write that was applied, as far as this server kept count.
    wrote_seq: u64,
    /// Its expiry is on its way through the log: nothing is confirmed to it any more (R16).
    marked: Option<Judgement>,
}

/// A session that was silent for too long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Overdue {
    /// The session.
    pub(crate) session: SessionId,
    /// What it was judged by.
    pub(crate) judged: Judgement,
    /// Its timeout, for the log line.
    pub(crate) timeout_ms: u64,
}

/// Who judges.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Judge {
    /// The term in which it leads.
    pub(super) term: u64,
    /// Writes come from other servers too, and count when they are applied.
    pub(super) counts_writes: bool,
}

impl Live {
    pub(super) fn new(tick_ms: u64) -> Live {
        Live {
            queue: ExpiryQueue::new(tick_ms),
            sessions: HashMap::new(),
        }
    }

    /// A session was opened or attached, or this server began to judge it: it has its full timeout.
    pub(crate) fn start(&mut self, session: SessionId, attach: u32, timeout_ms: u64, now_ms: u64) {
        // What a new leader granted on top (R18) is not taken back by an attach.
        let granted_ms = self.sessions.get(&session).map_or(0, |live| live.heard_ms);
        let heard_ms = now_ms.max(granted_ms);
        self.sessions.insert(
            session,
            LiveSession {
                timeout_ms,
                heard_ms,
                attach,
                wrote_seq: 0,
                marked: None,
            },
        );
        self.queue.insert(
            session,
            Heard {
                at_ms: heard_ms,
                timeout_ms,
            },
        );
    }

    /// Every session has its full timeout from `from_ms` on. Those that are marked stay so: their
    /// expiry may yet be applied.
    pub(super) fn start_over(&mut self, from_ms: u64) {
        for (session, live) in &mut self.sessions {
            live.heard_ms = live.heard_ms.max(from_ms);
            if live.marked.is_none() {
                let heard = Heard {
                    at_ms: live.heard_ms,
                    timeout_ms: live.timeout_ms,
                };
                self.queue.insert(*session, heard);
            }
        }
    }

    /// Takes the marks of earlier terms off, and tells whose: an expiry of another term is void.
    pub(super) fn unmark_earlier(&mut self, term: u64) -> Vec<SessionId> {
        let mut unmarked = Vec::new();
        for (session, live) in &mut self.sessions {
            if live.marked.is_some_and(|judged| judged.term != term) {
                live.marked = None;
                let heard = Heard {
                    at_ms: live.heard_ms,
                    timeout_ms: live.timeout_ms,
                };
                self.queue.insert(*session, heard);
                unmarked.push(*session);
            }
        }
        unmarked
    }

    /// Renews a session, unless it is unknown or marked.
    pub(super) fn renew(&mut self, session: SessionId, now_ms: u64) -> bool {
        match self.sessions.get_mut(&session) {
            Some(live) if live.marked.is_none() => {
                live.heard_ms = live.heard_ms.max(now_ms);
                true
            }
            Some(_) | None => false,
        }
    }

    /// A write of a session was applied: a sign of life, wherever its client is connected.
    pub(super) fn wrote(&mut self, session: SessionId, attach: u32, seq: u64, now_ms: u64) {
        if let Some(live) = self.sessions.get_mut(&session)
            && live.attach == attach
        {
            live.wrote_seq = live.wrote_seq.max(seq);
            live.heard_ms = live.heard_ms.max(now_ms);
        }
    }

    /// A session has ended.
    pub(crate) fn end(&mut self, session: SessionId) {
        self.sessions.remove(&session);
        self.queue.remove(session);
    }

    /// Forgets all sessions: the state that they were in has been replaced.
    pub(super) fn clear(&mut self) {
        for (session, _) in self.sessions.drain() {
            self.queue.remove(session);
        }
    }

    /// Keeps what a connection that goes away knew.
    pub(super) fn spoke(&mut self, session: SessionId, heard_ms: u64) {
        if let Some(live) = self.sessions.get_mut(&session) {
            live.heard_ms = live.heard_ms.max(heard_ms);
        }
    }

    /// Puts a session back whose expiry did not come about, to be judged again at the next tick:
    /// by its own deadline it would be over at once, and again, for as long as the log takes
    /// nothing. Only the judgement that was marked may take its mark off: an older one may come
    /// to its end behind it.
    pub(super) fn revive(
        &mut self,
        session: SessionId,
        judged: Judgement,
        conn: Option<&Conn>,
        now_ms: u64,
    ) {
        let Some(live) = self.sessions.get_mut(&session) else {
            return;
        };
        if live.marked != Some(judged) {
            return;
        }
        live.marked = None;
        if let Some(conn) = conn {
            conn.expiring.store(false, Ordering::SeqCst);
        }
        self.queue.insert(
            session,
            Heard {
                at_ms: now_ms,
                timeout_ms: 0,
            },
        );
    }

    /// The sessions that are over at `now_ms`. Their connections are marked first and asked
    /// afterwards, see [`Conn::touch`]. `by` is the judge.
    pub(super) fn overdue(
        &mut self,
        now_ms: u64,
        by: Judge,
        conn_of: impl Fn(SessionId) -> Option<Arc<Conn>>,
    ) -> Vec<Overdue> {
        let sessions = &mut self.sessions;
        let heard_of = |sessions: &HashMap<SessionId, LiveSession>, session| {
            let live = sessions.get(&session)?;
            let at_ms = match conn_of(session) {
                Some(conn) => live.heard_ms.max(conn.heard_ms.load(Ordering::SeqCst)),
                None => live.heard_ms,
            };
            Some(Heard {
                at_ms,
                timeout_ms: live.timeout_ms,
            })
        };
        let mut over = Vec::new();
        for session in self
            .queue
            .due(now_ms, |session| heard_of(sessions, session))
        {
            let conn = conn_of(session);
            if let Some(conn) = &conn {
                conn.expiring.store(true, Ordering::SeqCst);
            }
            let Some(heard) = heard_of(sessions, session) else {
                continue;
            };
            if heard.at_ms.saturating_add(heard.timeout_ms) > now_ms {
                // It spoke between the two looks.
                if let Some(conn) = &conn {
                    conn.expiring.store(false, Ordering::SeqCst);
                }
                self.queue.insert(session, heard);
                continue;
            }
            let Some(live) = sessions.get_mut(&session) else {
                continue;
            };
            let judged = Judgement {
                attach: live.attach,
                seq: if by.counts_writes {
                    live.wrote_seq
                } else {
                    u64::MAX
                },
                term: by.term,
            };
            live.marked = Some(judged);
            over.push(Overdue {
                session,
                judged,
                timeout_ms: live.timeout_ms,
            });
        }
        over
    }

    /// When the next look is due (monotonic, ms).
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.queue.next_ms()
    }

    /// Buckets with their sessions, soonest first.
    pub(crate) fn buckets(&self) -> Vec<(u64, Vec<SessionId>)> {
        let sorted = |sessions: &std::collections::HashSet<SessionId>| {
            let mut sessions: Vec<SessionId> = sessions.iter().copied().collect();
            sessions.sort_unstable();
            sessions
        };
        self.queue
            .buckets()
            .map(|(at, sessions)| (at, sorted(sessions)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};
    use std::time::Duration;

    use super::super::{Budget, Identities};
    use super::*;
    use crate::watches::ConnId;

    const S: SessionId = SessionId(7);

    const ALONE: Judge = Judge {
        term: 1,
        counts_writes: false,
    };

    fn judged(attach: u32) -> Judgement {
        Judgement {
            attach,
            seq: u64::MAX,
            term: 1,
        }
    }

    fn conn() -> Arc<Conn> {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let identities = Identities::of_address(address, false);
        Arc::new(Conn::new(
            ConnId(0),
            SocketAddr::new(address, 1),
            identities,
            Budget::new(1000),
        ))
    }

    #[test]
    fn a_silent_session_is_over_once_and_its_connection_is_marked() {
        let (mut live, conn) = (Live::new(1_000), conn());
        live.start(S, 3, 4_000, 0);
        assert_eq!(live.overdue(4_999, ALONE, |_| Some(conn.clone())), []);
        let over = live.overdue(5_000, ALONE, |_| Some(conn.clone()));
        assert_eq!(
            over,
            [Overdue {
                session: S,
                judged: judged(3),
                timeout_ms: 4_000
            }]
        );
        assert!(
            !conn.touch(Duration::from_secs(5)),
            "a marked session is confirmed nothing"
        );
        assert_eq!(live.overdue(9_000, ALONE, |_| Some(conn.clone())), []);
    }

    #[test]
    fn a_session_that_speaks_lives() {
        let (mut live, conn) = (Live::new(1_000), conn());
        live.start(S, 1, 4_000, 0);
        for second in 1..20 {
            assert!(conn.touch(Duration::from_secs(second)));
            assert_eq!(
                live.overdue(second * 1_000 + 999, ALONE, |_| Some(conn.clone())),
                []
            );
        }
    }

    #[test]
    fn what_a_lost_connection_heard_counts() {
        let mut live = Live::new(1_000);
        live.start(S, 1, 4_000, 0);
        live.spoke(S, 3_500);
        assert_eq!(live.overdue(7_999, ALONE, |_| None), []);
        assert_eq!(live.overdue(8_000, ALONE, |_| None).len(), 1);
    }

    #[test]
    fn a_revived_session_is_judged_again() {
        let (mut live, conn) = (Live::new(1_000), conn());
        live.start(S, 1, 4_000, 0);
        assert_eq!(live.overdue(5_000, ALONE, |_| Some(conn.clone())).len(), 1);
        live.revive(S, judged(1), Some(&conn), 5_000);
        assert!(conn.touch(Duration::from_secs(5)));
        assert_eq!(live.overdue(5_500, ALONE, |_| Some(conn.clone())), []);
        assert_eq!(live.overdue(60_000, ALONE, |_| Some(conn.clone())).len(), 1);
    }

    /// The log takes nothing for as long as the disk is full.
    #[test]
    fn a_session_that_cannot_be_expired_is_judged_once_a_tick() {
        let mut live = Live::new(1_000);
        live.start(S, 1, 4_000, 0);
        let mut judged = 0;
        for now_ms in 5_000..10_000 {
            for over in live.overdue(now_ms, ALONE, |_| None) {
                judged += 1;
                live.revive(over.session, over.judged, None, now_ms);
            }
        }
        assert_eq!(judged, 5);
    }

    #[test]
    fn an_ended_session_is_never_over() {
        let mut live = Live::new(1_000);
        live.start(S, 1, 4_000, 0);
        live.end(S);
        assert_eq!(live.overdue(60_000, ALONE, |_| None), []);
        assert!(live.buckets().is_empty());
    }
}
