//! The leader's view of all sessions: when each was heard, and which are over.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use quorate_proto::SessionId;

use super::conn::Conn;
use super::expiry::{ExpiryQueue, Heard};

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
}

/// A session that was silent for too long, as of `attach`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Overdue {
    /// The session.
    pub(crate) session: SessionId,
    /// Its attach when it was judged; its expiry is void if it was attached again since.
    pub(crate) attach: u32,
    /// Its timeout, for the log line.
    pub(crate) timeout_ms: u64,
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
        self.sessions.insert(
            session,
            LiveSession {
                timeout_ms,
                heard_ms: now_ms,
                attach,
            },
        );
        self.queue.insert(
            session,
            Heard {
                at_ms: now_ms,
                timeout_ms,
            },
        );
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
    /// nothing.
    pub(super) fn revive(&mut self, session: SessionId, conn: Option<&Conn>, now_ms: u64) {
        if let Some(conn) = conn {
            conn.expiring.store(false, Ordering::SeqCst);
        }
        if self.sessions.contains_key(&session) {
            self.queue.insert(
                session,
                Heard {
                    at_ms: now_ms,
                    timeout_ms: 0,
                },
            );
        }
    }

    /// The sessions that are over at `now_ms`. Their connections are marked first and asked
    /// afterwards, see [`Conn::touch`].
    pub(super) fn overdue(
        &mut self,
        now_ms: u64,
        conn_of: impl Fn(SessionId) -> Option<Arc<Conn>>,
    ) -> Vec<Overdue> {
        let sessions = &self.sessions;
        let heard = |session| {
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
        for session in self.queue.due(now_ms, heard) {
            let conn = conn_of(session);
            if let Some(conn) = &conn {
                conn.expiring.store(true, Ordering::SeqCst);
            }
            let Some(heard) = heard(session) else {
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
            let Some(live) = sessions.get(&session) else {
                continue;
            };
            over.push(Overdue {
                session,
                attach: live.attach,
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
        assert_eq!(live.overdue(4_999, |_| Some(conn.clone())), []);
        let over = live.overdue(5_000, |_| Some(conn.clone()));
        assert_eq!(
            over,
            [Overdue {
                session: S,
                attach: 3,
                timeout_ms: 4_000
            }]
        );
        assert!(
            !conn.touch(Duration::from_secs(5)),
            "a marked session is confirmed nothing"
        );
        assert_eq!(live.overdue(9_000, |_| Some(conn.clone())), []);
    }

    #[test]
    fn a_session_that_speaks_lives() {
        let (mut live, conn) = (Live::new(1_000), conn());
        live.start(S, 1, 4_000, 0);
        for second in 1..20 {
            assert!(conn.touch(Duration::from_secs(second)));
            assert_eq!(
                live.overdue(second * 1_000 + 999, |_| Some(conn.clone())),
                []
            );
        }
    }

    #[test]
    fn what_a_lost_connection_heard_counts() {
        let mut live = Live::new(1_000);
        live.start(S, 1, 4_000, 0);
        live.spoke(S, 3_500);
        assert_eq!(live.overdue(7_999, |_| None), []);
        assert_eq!(live.overdue(8_000, |_| None).len(), 1);
    }

    #[test]
    fn a_revived_session_is_judged_again() {
        let (mut live, conn) = (Live::new(1_000), conn());
        live.start(S, 1, 4_000, 0);
        assert_eq!(live.overdue(5_000, |_| Some(conn.clone())).len(), 1);
        live.revive(S, Some(&conn), 5_000);
        assert!(conn.touch(Duration::from_secs(5)));
        assert_eq!(live.overdue(5_500, |_| Some(conn.clone())), []);
        assert_eq!(live.overdue(60_000, |_| Some(conn.clone())).len(), 1);
    }

    /// The log takes nothing for as long as the disk is full.
    #[test]
    fn a_session_that_cannot_be_expired_is_judged_once_a_tick() {
        let mut live = Live::new(1_000);
        live.start(S, 1, 4_000, 0);
        let mut judged = 0;
        for now_ms in 5_000..10_000 {
            for over in live.overdue(now_ms, |_| None) {
                judged += 1;
                live.revive(over.session, None, now_ms);
            }
        }
        assert_eq!(judged, 5);
    }

    #[test]
    fn an_ended_session_is_never_over() {
        let mut live = Live::new(1_000);
        live.start(S, 1, 4_000, 0);
        live.end(S);
        assert_eq!(live.overdue(60_000, |_| None), []);
        assert!(live.buckets().is_empty());
    }
}
