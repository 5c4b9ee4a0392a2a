//! How the model carries reports to a leader and back.

use super::*;

impl World {
    /// The next step of this server's report.
    pub(super) fn report(&mut self, at: usize) {
        self.wake(at);
        let flight = self.servers[at].flight.take();
        let cut = self.now < self.servers[at].cut_until;
        let next = match flight {
            None => self.send_report(at),
            Some(Flight::To(report, _)) if cut => Some(Flight::Back(report, Err(Unconfirmed))),
            Some(Flight::To(report, to)) if self.is_awake(to) => Some(self.renew(report, to)),
            Some(Flight::Renewed(report, to, refused, leased)) if self.is_awake(to) => {
                self.wake(to);
                let leader = &self.servers[to];
                let confirmed = leased && leader.alone.confirms_alone();
                let answer = if confirmed {
                    Ok(refused)
                } else {
                    Err(Unconfirmed)
                };
                Some(Flight::Back(report, answer))
            }
            Some(Flight::Back(report, answer)) => {
                self.servers[at].reports.settle(report, answer);
                self.release_pings(at);
                None
            }
            waits => waits,
        };
        self.servers[at].flight = next;
    }

    pub(super) fn send_report(&mut self, at: usize) -> Option<Flight> {
        let sweep = self.now >= self.servers[at].sweep_at;
        if sweep {
            self.servers[at].sweep_at = self.now + PAUSE;
        }
        let server = &self.servers[at];
        let report = server.reports.collect(&server.sessions, sweep);
        if let Some(answer) = server.reports.alone(&report) {
            return Some(Flight::Back(report, Ok(answer)));
        }
        // Whoever was last seen leading.
        let leaders = (0..3).filter(|&to| to != at && self.servers[to].leads.is_some());
        let leaders: Vec<_> = leaders.collect();
        let to = match leaders.len() {
            0 => return Some(Flight::Back(report, Err(Unconfirmed))),
            several => leaders[self.rng.random_range(0..several)],
        };
        Some(Flight::To(report, to))
    }

    pub(super) fn renew(&mut self, report: Report, to: usize) -> Flight {
        self.wake(to);
        let leader = &self.servers[to];
        if leader.leads.is_none() || self.now < leader.cut_until {
            return Flight::Back(report, Err(Unconfirmed));
        }
        let leased = leader.alone.confirms_alone();
        let refused = leader.sessions.renew(&report.sessions());
        let refused = match self.plant {
            Some(Plant::ConfirmsMarked) => Vec::new(),
            _ => refused,
        };
        Flight::Renewed(report, to, refused, leased)
    }

    /// The connection is told that a report came through.
    pub(super) fn release_pings(&mut self, at: usize) {
        let Some(link) = &mut self.link else { return };
        if link.at != at {
            return;
        }
        let confirmed = link.conn.confirmed.load(Ordering::Acquire);
        let mut proofs = Vec::new();
        while link.pings.front().is_some_and(|ping| ping.0 <= confirmed) {
            proofs.extend(link.pings.pop_front());
        }
        let Some(link) = &self.link else { return };
        if !proofs.is_empty() && !self.may_answer(link) {
            self.hang_up();
            return;
        }
        for (_, sent) in proofs {
            self.release(sent, "a ping");
        }
    }
}
