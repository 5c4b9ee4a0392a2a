//! When a silent session is over: tick buckets, as in ZooKeeper's `ExpiryQueue`.
//!
//! Pure: the caller brings the time. A deadline is rounded *up* to the next tick, so a session
//! lives for its timeout and up to a tick more, and is never expired early. Hearing from a session
//! does not touch the queue: the queue asks, when a bucket is due, when each session in it was
//! last heard, and moves those that spoke since. So a request costs one store, and a tick costs
//! the sessions of one bucket.

use std::collections::{BTreeMap, HashMap, HashSet};

use quorate_proto::SessionId;

/// Sessions by the tick at which they are over unless they are heard.
#[derive(Debug)]
pub(crate) struct ExpiryQueue {
    tick_ms: u64,
    buckets: BTreeMap<u64, HashSet<SessionId>>,
    deadlines: HashMap<SessionId, u64>,
}

/// What the owner of the queue knows about a session whose bucket is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Heard {
    /// When it was last heard, in milliseconds of the monotonic clock.
    pub(crate) at_ms: u64,
    /// Its timeout.
    pub(crate) timeout_ms: u64,
}

impl ExpiryQueue {
    /// A queue that works in ticks of `tick_ms` (at least 1).
    pub(crate) fn new(tick_ms: u64) -> ExpiryQueue {
        ExpiryQueue {
            tick_ms: tick_ms.max(1),
            buckets: BTreeMap::new(),
            deadlines: HashMap::new(),
        }
    }

    /// Counts a session from `heard`; one that is known starts anew.
    pub(crate) fn insert(&mut self, session: SessionId, heard: Heard) {
        self.remove(session);
        let deadline = self.deadline(heard);
        self.buckets.entry(deadline).or_default().insert(session);
        self.deadlines.insert(session, deadline);
    }

    /// Forgets a session.
    pub(crate) fn remove(&mut self, session: SessionId) {
        let Some(deadline) = self.deadlines.remove(&session) else {
            return;
        };
        if let Some(bucket) = self.buckets.get_mut(&deadline) {
            bucket.remove(&session);
            if bucket.is_empty() {
                self.buckets.remove(&deadline);
            }
        }
    }

    /// Takes out the sessions that are over at `now_ms`. `heard` tells when a session was last
    /// heard; one that it does not know is dropped in silence.
    pub(crate) fn due(
        &mut self,
        now_ms: u64,
        mut heard: impl FnMut(SessionId) -> Option<Heard>,
    ) -> Vec<SessionId> {
        let mut over = Vec::new();
        while let Some(bucket) = self.buckets.first_entry() {
            if *bucket.key() > now_ms {
                break;
            }
            for session in bucket.remove() {
                self.deadlines.remove(&session);
                match heard(session) {
                    None => {}
                    Some(heard) if self.deadline(heard) <= now_ms => over.push(session),
                    Some(heard) => self.insert(session, heard),
                }
            }
        }
        over
    }

    /// When the next bucket is due.
    pub(crate) fn next_ms(&self) -> Option<u64> {
        self.buckets.keys().next().copied()
    }

    /// Buckets with their sessions, soonest first, for `dump`. Deadlines are as last computed:
    /// a session that spoke since lives longer.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (u64, &HashSet<SessionId>)> {
        self.buckets.iter().map(|(at, sessions)| (*at, sessions))
    }

    fn deadline(&self, heard: Heard) -> u64 {
        let end = heard.at_ms.saturating_add(heard.timeout_ms);
        (end / self.tick_ms)
            .saturating_add(1)
            .saturating_mul(self.tick_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: SessionId = SessionId(7);

    fn heard(at_ms: u64) -> Heard {
        Heard {
            at_ms,
            timeout_ms: 4_000,
        }
    }

    #[test]
    fn deadline_is_rounded_up_to_the_next_tick() {
        let mut queue = ExpiryQueue::new(2_000);
        queue.insert(S, heard(500));
        assert_eq!(queue.next_ms(), Some(6_000));
        assert_eq!(queue.due(5_999, |_| Some(heard(500))), []);
        assert_eq!(queue.due(6_000, |_| Some(heard(500))), [S]);
        assert_eq!(queue.next_ms(), None);
    }

    #[test]
    fn a_timeout_that_ends_on_a_tick_still_gets_the_next_one() {
        let mut queue = ExpiryQueue::new(2_000);
        queue.insert(S, heard(0));
        assert_eq!(
            queue.due(4_000, |_| Some(heard(0))),
            [],
            "the timeout itself is never too late"
        );
        assert_eq!(queue.due(6_000, |_| Some(heard(0))), [S]);
    }

    #[test]
    fn a_session_that_spoke_since_moves_to_a_later_bucket() {
        let mut queue = ExpiryQueue::new(2_000);
        queue.insert(S, heard(0));
        assert_eq!(queue.due(6_000, |_| Some(heard(5_900))), []);
        assert_eq!(queue.next_ms(), Some(10_000));
        assert_eq!(queue.due(10_000, |_| Some(heard(5_900))), [S]);
    }

    #[test]
    fn a_session_is_over_once() {
        let mut queue = ExpiryQueue::new(2_000);
        queue.insert(S, heard(0));
        assert_eq!(queue.due(60_000, |_| Some(heard(0))), [S]);
        assert_eq!(queue.due(60_000, |_| Some(heard(0))), []);
    }

    #[test]
    fn a_removed_or_unknown_session_is_never_over() {
        let mut queue = ExpiryQueue::new(2_000);
        queue.insert(S, heard(0));
        queue.remove(S);
        assert_eq!(queue.due(60_000, |_| Some(heard(0))), []);
        queue.insert(S, heard(0));
        assert_eq!(queue.due(60_000, |_| None), []);
        assert_eq!(queue.buckets().count(), 0);
    }

    #[test]
    fn absurd_times_do_not_overflow() {
        let mut queue = ExpiryQueue::new(0);
        queue.insert(
            S,
            Heard {
                at_ms: u64::MAX,
                timeout_ms: u64::MAX,
            },
        );
        assert_eq!(queue.due(u64::MAX - 1, |_| None), []);
    }
}
