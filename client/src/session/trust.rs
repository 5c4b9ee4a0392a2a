//! Until when may this client believe that the server still keeps its session? Pure.
//!
//! The leader frees a session's ephemerals no earlier than one session timeout after it last
//! heard of the session. So what proves the session is a packet that the **leader** heard of, and
//! it proves it from the moment that the packet was **sent**, not from the reply.
//!
//! - On Quorate a reply to a ping, a write, a `sync` or an attach is sent only after the leader has
//!   renewed the session. It proves the packet that it answers.
//! - On ZooKeeper a follower answers pings alone and reports them to the leader when the leader
//!   next asks, twice a tick. Only a committed write shows that the follower still has a leader:
//!   it proves what was answered at least half a tick and a round trip before the write left.
//!   A tick is at most half of the smallest timeout, so half a tick is at most a quarter of ours.
//!
//! A local read proves nothing on either.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The part of a session timeout that clocks running at different rates may eat: one in 50.
const RATE_ERROR: u32 = 50;
/// Answered packets remembered on ZooKeeper; they are thinned out to a timeout's sixty-fourth.
const ANSWERED_MAX: usize = 96;

/// Which replies prove a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rule {
    /// Quorate: the leader confirms before the reply is sent.
    LeaderConfirmed,
    /// ZooKeeper: committed writes prove what was answered well before them.
    CommittedWrites,
}

/// What a reply answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Proof {
    /// The session was opened, which a quorum has committed.
    Opened,
    /// The session was taken up at a server. Quorate takes that through its log. ZooKeeper's leader
    /// judges alone, and one that was cut off from its quorum does not know it yet.
    Reattached,
    /// A write that a quorum committed, refused or not.
    Write,
    /// A ping or a `sync`.
    Contact,
    /// A read.
    Read,
}

#[derive(Debug)]
pub(crate) struct Trust {
    rule: Rule,
    timeout: Duration,
    /// The latest packet that is known to have reached the leader.
    proven: Option<Instant>,
    /// The latest packet that was answered at all.
    heard: Option<Instant>,
    /// When packets were sent that were answered, oldest first; for [`Rule::CommittedWrites`].
    answered: VecDeque<Instant>,
}

impl Trust {
    pub(crate) const fn new(rule: Rule, timeout: Duration) -> Trust {
        Trust {
            rule,
            timeout,
            proven: None,
            heard: None,
            answered: VecDeque::new(),
        }
    }

    pub(crate) const fn rule(&self) -> Rule {
        self.rule
    }

    /// The same session, with the timeout that a server has just agreed to. What was proven before
    /// holds for the shorter of the two: the leader counts with the new one from now on.
    pub(crate) fn renewed(mut self, timeout: Duration) -> Trust {
        if timeout != self.timeout {
            self.answered.clear();
        }
        if timeout > self.timeout {
            self.proven = None;
        }
        self.timeout = timeout;
        self
    }

    /// Takes a reply in that came at `now` for a packet sent at `sent`.
    pub(crate) fn answered(&mut self, proof: Proof, sent: Instant, now: Instant) {
        self.heard = self.heard.max(Some(sent));
        match (self.rule, proof) {
            (_, Proof::Opened)
            | (Rule::LeaderConfirmed, Proof::Reattached | Proof::Write | Proof::Contact) => {
                self.proven = self.proven.max(Some(sent));
            }
            (Rule::CommittedWrites, Proof::Write) => {
                let round_trip = now.saturating_duration_since(sent);
                let reported_by = sent.checked_sub(self.timeout / 4 + round_trip);
                while let Some(&earlier) = self.answered.front() {
                    if Some(earlier) > reported_by {
                        break;
                    }
                    self.proven = self.proven.max(Some(earlier));
                    self.answered.pop_front();
                }
            }
            (_, Proof::Reattached | Proof::Contact | Proof::Read) => {}
        }
        if self.rule == Rule::CommittedWrites {
            let spacing = self.timeout / 64;
            let is_news = self
                .answered
                .back()
                .is_none_or(|&last| sent >= last + spacing);
            if is_news {
                if self.answered.len() == ANSWERED_MAX {
                    self.answered.pop_front();
                }
                self.answered.push_back(sent);
            }
        }
    }

    /// No other session can take this one's locks before then. `None`: nothing proves it yet.
    pub(crate) fn until(&self) -> Option<Instant> {
        Some(self.proven? + self.lease())
    }

    /// When a session that is out of contact must be given up.
    ///
    /// On Quorate that is [`until`](Trust::until). On ZooKeeper, where a client that only reads is
    /// never proven, it is reckoned from the last packet that was answered by anybody.
    pub(crate) fn give_up_at(&self) -> Option<Instant> {
        match self.rule {
            Rule::LeaderConfirmed => self.until(),
            Rule::CommittedWrites => Some(self.heard? + self.lease()),
        }
    }

    fn lease(&self) -> Duration {
        self.timeout - self.timeout / RATE_ERROR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Duration = Duration::from_secs(8);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn lease() -> Duration {
        T - T / RATE_ERROR
    }

    /// A leader that was cut off goes on to judge attaches until it notices, and the next leader
    /// counts from its own start.
    #[test]
    fn to_be_taken_up_again_proves_a_session_on_quorate_only() {
        let start = Instant::now();
        for (rule, proven) in [
            (Rule::LeaderConfirmed, start + ms(3_000)),
            (Rule::CommittedWrites, start),
        ] {
            let mut trust = Trust::new(rule, T);
            trust.answered(Proof::Opened, start, start + ms(5));
            trust.answered(Proof::Reattached, start + ms(3_000), start + ms(3_005));
            assert_eq!(trust.until(), Some(proven + lease()), "{rule:?}");
            assert_eq!(
                trust.give_up_at(),
                Some(start + ms(3_000) + lease()),
                "{rule:?}"
            );
        }
    }

    #[test]
    fn what_was_proven_for_a_shorter_timeout_proves_nothing_for_a_longer_one() {
        let start = Instant::now();
        let mut trust = Trust::new(Rule::CommittedWrites, T);
        trust.answered(Proof::Opened, start, start + ms(5));
        assert_eq!(trust.renewed(T * 2).until(), None);
    }

    #[test]
    fn on_quorate_a_ping_proves_from_when_it_was_sent() {
        let start = Instant::now();
        let mut trust = Trust::new(Rule::LeaderConfirmed, T);
        assert_eq!(trust.until(), None);
        trust.answered(Proof::Opened, start, start + ms(5));
        trust.answered(Proof::Contact, start + ms(2_000), start + ms(3_900));
        assert_eq!(trust.until(), Some(start + ms(2_000) + lease()));
        assert_eq!(trust.give_up_at(), trust.until());
    }

    #[test]
    fn a_local_read_proves_nothing() {
        let start = Instant::now();
        for rule in [Rule::LeaderConfirmed, Rule::CommittedWrites] {
            let mut trust = Trust::new(rule, T);
            trust.answered(Proof::Opened, start, start + ms(5));
            let before = trust.until();
            trust.answered(Proof::Read, start + ms(2_000), start + ms(2_001));
            assert_eq!(trust.until(), before, "{rule:?}");
        }
    }

    #[test]
    fn on_zookeeper_a_ping_proves_nothing_by_itself() {
        let start = Instant::now();
        let mut trust = Trust::new(Rule::CommittedWrites, T);
        trust.answered(Proof::Opened, start, start + ms(5));
        trust.answered(Proof::Contact, start + ms(4_000), start + ms(4_001));
        assert_eq!(trust.until(), Some(start + lease()));
        // It does show that somebody is there: the session is not given up yet.
        assert_eq!(trust.give_up_at(), Some(start + ms(4_000) + lease()));
    }

    /// The follower reports to the leader every half tick: a write proves only what was answered
    /// before the report that came before it.
    #[test]
    fn on_zookeeper_a_write_proves_what_was_answered_half_a_tick_and_a_round_trip_before() {
        let start = Instant::now();
        let mut trust = Trust::new(Rule::CommittedWrites, T);
        trust.answered(Proof::Opened, start, start + ms(5));
        trust.answered(Proof::Contact, start + ms(1_000), start + ms(1_001));
        trust.answered(Proof::Contact, start + ms(2_950), start + ms(2_951));
        trust.answered(Proof::Write, start + ms(5_000), start + ms(5_100));
        // 5 000 - 2 000 (a quarter of the timeout) - 100 (the round trip) = 2 900.
        assert_eq!(trust.until(), Some(start + ms(1_000) + lease()));
        trust.answered(Proof::Write, start + ms(5_200), start + ms(5_201));
        assert_eq!(trust.until(), Some(start + ms(2_950) + lease()));
    }

    /// A server that was set up anew may agree to less than before.
    #[test]
    fn a_shorter_timeout_counts_from_the_last_proof() {
        let start = Instant::now();
        for (rule, proven) in [
            (Rule::LeaderConfirmed, start + ms(3_000)),
            (Rule::CommittedWrites, start),
        ] {
            let mut trust = Trust::new(rule, T);
            trust.answered(Proof::Opened, start, start + ms(5));
            let mut trust = trust.renewed(T / 2);
            trust.answered(Proof::Reattached, start + ms(3_000), start + ms(3_005));
            let lease = T / 2 - T / 2 / RATE_ERROR;
            assert_eq!(trust.until(), Some(proven + lease), "{rule:?}");
        }
    }

    #[test]
    fn a_reply_that_took_long_proves_no_more_than_one_that_did_not() {
        let start = Instant::now();
        let mut trust = Trust::new(Rule::LeaderConfirmed, T);
        trust.answered(Proof::Contact, start, start + T * 2);
        assert_eq!(trust.until(), Some(start + lease()));
        // And an older packet whose answer comes later takes nothing back.
        trust.answered(Proof::Contact, start + ms(50), start + T * 2);
        trust.answered(Proof::Write, start + ms(40), start + T * 2);
        assert_eq!(trust.until(), Some(start + ms(50) + lease()));
    }

    #[test]
    fn memory_of_answered_packets_is_bounded() {
        let start = Instant::now();
        let mut trust = Trust::new(Rule::CommittedWrites, T);
        for n in 0..100_000 {
            trust.answered(Proof::Read, start + ms(n), start + ms(n + 1));
        }
        assert!(trust.answered.len() <= ANSWERED_MAX);
    }
}
