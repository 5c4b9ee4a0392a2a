//! Pings of one connection that are not answered before a leader has confirmed the session.

use std::collections::VecDeque;
use std::time::Duration;

/// They are confirmed in the order in which they came: the reports have numbers that grow.
#[derive(Debug, Default)]
pub(super) struct Pings {
    waiting: VecDeque<Unconfirmed>,
}

#[derive(Debug)]
struct Unconfirmed {
    /// The first report that carries the session behind this ping.
    round: u64,
    read_at: Duration,
}

impl Pings {
    /// A ping that was read then waits for this report.
    pub(super) fn wait(&mut self, round: u64, read_at: Duration) {
        self.waiting.push_back(Unconfirmed { round, read_at });
    }

    /// The oldest one that report number `confirmed` or an earlier one has confirmed; when it was
    /// read.
    pub(super) fn next(&mut self, confirmed: u64) -> Option<Duration> {
        let ping = self.waiting.pop_front_if(|ping| ping.round <= confirmed)?;
        if self.waiting.is_empty() {
            // Thousands of connections wait for nothing most of the time.
            self.waiting = VecDeque::new();
        }
        Some(ping.read_at)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_is_confirmed_by_its_report_or_a_later_one() {
        let mut pings = Pings::default();
        let at = Duration::from_secs;
        pings.wait(3, at(1));
        pings.wait(3, at(2));
        pings.wait(5, at(3));
        assert_eq!(pings.next(2), None);
        assert_eq!(pings.next(4), Some(at(1)));
        assert_eq!(pings.next(4), Some(at(2)));
        assert_eq!(pings.next(4), None);
        assert_eq!(pings.next(6), Some(at(3)));
        assert!(pings.is_empty());
    }
}
