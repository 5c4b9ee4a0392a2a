//! Who leads in the model, under which lease, and what reaches the log.

use super::*;

impl World {
    /// A majority elects a server, inside the lease of the former leader or not.
    pub(super) fn elect(&mut self, at: usize) {
        self.outcome.elections += 1;
        self.term += 1;
        // What of the former leader's log the new one has is kept; the rest is proposed again, and
        // some of the kept as well: who proposed it does not know.
        let kept = self.rng.random_range(0..=self.pending.len());
        let lost = self.pending.split_off(kept);
        let mut again: Vec<_> = self.pending.iter().chain(&lost).cloned().collect();
        if !self.chance(3) {
            again.drain(..kept);
        }
        for request in again.into_iter().rev().filter_map(|entry| entry.request) {
            self.servers[request.from].queue.push_front(request);
        }
        let first = Entry {
            term: self.term,
            request: None,
        };
        self.pending.push(first);
        self.latest = at;
        self.wake(at);
        let server = &mut self.servers[at];
        server.leads = None;
        server.acked = None;
        server.lease_until = 0;
        server.elected = Some(self.term);
        server.sessions.end_term();
        if self.is_planted(Plant::BeforeFirstEntry) {
            self.lead(at);
        }
    }

    pub(super) fn lead(&mut self, at: usize) {
        self.wake(at);
        let lease = match self.plant {
            Some(Plant::NoExtraLease) => 0,
            _ => LEASE,
        };
        let server = &mut self.servers[at];
        let Some(term) = server.elected.take() else {
            return;
        };
        if self.plant != Some(Plant::NoStartOver) {
            server.sessions.start_over(Duration::from_millis(lease));
        }
        server.leads = Some(term);
        server.sessions.begin_term(term, &server.state);
    }

    pub(super) fn begin(&mut self, at: usize) {
        let server = &self.servers[at];
        if server.elected == Some(server.applied_term) {
            self.lead(at);
        }
    }

    /// A server that was deposed hears of it.
    pub(super) fn learn(&mut self, at: usize) {
        let server = &mut self.servers[at];
        if at != self.latest && self.now >= server.cut_until {
            server.leads = None;
            server.elected = None;
            server.sessions.end_term();
        }
    }

    pub(super) fn quorum_answers(&mut self) {
        let server = &mut self.servers[self.latest];
        if self.now >= server.cut_until && self.now >= server.stalled_until {
            server.acked = Some(self.now);
            if self.rng.random_range(0..2) == 0 {
                self.take_lease(self.latest);
            }
        }
    }

    pub(super) fn take_lease(&mut self, at: usize) {
        let server = &mut self.servers[at];
        if let Some(sent) = server.acked.take() {
            server.lease_until = server.lease_until.max(sent + LEASE);
        }
    }

    pub(super) fn commit(&mut self) {
        let server = &self.servers[self.latest];
        if self.now >= server.cut_until && !self.pending.is_empty() {
            let upto = self.rng.random_range(1..=self.pending.len());
            self.committed.extend(self.pending.drain(..upto));
        }
    }

    /// What a server took reaches the latest leader's log.
    pub(super) fn propose(&mut self, at: usize) {
        if self.now < self.servers[at].cut_until || !self.is_awake(self.latest) {
            return;
        }
        let term = self.term;
        if let Some(request) = self.servers[at].queue.pop_front() {
            let request = Some(request);
            self.pending.push(Entry { term, request });
        }
    }

    pub(super) fn judge(&mut self, at: usize) {
        self.wake(at);
        let Some(term) = self.servers[at].leads else {
            return;
        };
        for Overdue {
            session, judged, ..
        } in self.servers[at].sessions.overdue(term)
        {
            let judged = match self.plant {
                Some(Plant::ExpiryDespiteWrites) => Judgement {
                    seq: u64::MAX,
                    ..judged
                },
                _ => judged,
            };
            let what = What::Expire(session, judged);
            self.servers[at].queue.push_back(Request { from: at, what });
        }
    }
}
