//! Schedules that somebody thought of: one for each rule that a seed seldom gets to.
//!
//! Server 0 leads, and the client is quiet unless it is told to send. Nothing happens but what a
//! script says: time passes in a healthy ensemble ([`World::calm`]), or while the log stands
//! still ([`World::pass`]); servers stand still, are cut off, and take over.

use super::*;

/// How old the newest proof is when the client sends again: shortly before its server would close
/// the connection.
const LATE: u64 = T * 9 / 10;
/// From there until the leader that heard of that proof judges the session over.
const UNTIL_OVER: u64 = T - LATE + 3;
/// The steps of a report, there and back.
const REPORT: usize = 4;

/// Runs a script until the session is over, with all rules or without one.
pub(in super::super) fn follow(script: fn(&mut World), plant: Option<Plant>) -> Outcome {
    let mut world = World::new(0, plant);
    world.elect(0);
    world.calm(20);
    script(&mut world);
    world.expire();
    world.outcome
}

/// A ping comes while a report is on its way, and the report is all that the leader ever hears.
pub(in super::super) fn ping_behind_a_report(world: &mut World) {
    world.serve(1);
    world.sends(Packet::Ping);
    world.report_steps(1, 2);
    world.pass(20);
    world.sends(Packet::Ping);
    world.report_steps(1, 2);
    world.cut(1);
}

/// A report reaches the leader behind its judgement, and in front of the expiry.
pub(in super::super) fn report_behind_the_mark(world: &mut World) {
    world.serve(1);
    world.wait_for_proof_of(LATE);
    world.sends(Packet::Ping);
    world.report_steps(1, 1);
    world.freeze(1);
    world.pass(UNTIL_OVER);
    world.judge(0);
    world.thaw(1);
    world.report_steps(1, 3);
}

/// An expiry is in the log when a server is elected that has not applied it.
pub(in super::super) fn report_in_front_of_the_first_entry(world: &mut World) {
    world.serve(1);
    world.wait_for_proof_of(LATE);
    world.sends(Packet::Ping);
    world.freeze(1);
    world.pass(UNTIL_OVER);
    world.judge(0);
    world.propose(0);
    world.commit_all();
    world.elect(2);
    world.learn(0);
    world.hold_lease();
    world.thaw(1);
    world.report_steps(1, REPORT);
}

/// Leadership is handed over, and the former leader confirms at the end of its lease.
pub(in super::super) fn ping_at_the_end_of_a_lease(world: &mut World) {
    world.serve(0);
    world.cut(0);
    world.elect(2);
    world.take_over(2);
    world.pass(LEASE - 1);
    world.sends(Packet::Ping);
}

/// A server stood still, then swept, and then read what its client had said meanwhile.
pub(in super::super) fn read_behind_a_sweep(world: &mut World) {
    world.serve(1);
    world.freeze(1);
    world.wait_for_proof_of(READ_TIMEOUT - 2);
    world.thaw(1);
    world.report_steps(1, REPORT);
    world.sends(|_| Packet::Read);
    world.cut(1);
}

/// A leader that was deposed has judged, and the next one takes up its expiry.
pub(in super::super) fn expiry_of_a_former_leader(world: &mut World) {
    world.serve(1);
    world.wait_for_proof_of(LATE);
    world.sends(Packet::Ping);
    world.freeze(1);
    world.pass(UNTIL_OVER);
    world.judge(0);
    world.elect(2);
    world.learn(0);
    world.take_over(2);
    world.thaw(1);
    world.report_steps(1, REPORT);
    world.propose(0);
    world.commit_all();
    world.apply_all(2);
}

/// A leader judges before it applies a write that is in the log in front of its expiry.
pub(in super::super) fn write_in_front_of_an_expiry(world: &mut World) {
    world.serve(1);
    world.wait_for_proof_of(LATE);
    world.sends(Packet::Write);
    world.propose(1);
    world.commit_all();
    world.apply_all(1);
    world.cut(1);
    world.pass(UNTIL_OVER);
    world.judge(0);
}

impl World {
    /// Time in which the latest leader keeps its lease, and awake servers look after themselves.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now += 1;
            for at in 0..3 {
                if self.is_awake(at) {
                    self.guard(at);
                }
            }
            self.look_at_connection("is open");
            self.hold_lease();
        }
    }

    /// Time in which all that is on its way arrives.
    fn calm(&mut self, ms: u64) {
        for _ in 0..ms {
            self.pass(1);
            for at in 0..3 {
                for _ in 0..self.servers[at].queue.len() {
                    self.propose(at);
                }
            }
            self.commit_all();
            for at in (0..3).filter(|&at| self.is_awake(at)).collect::<Vec<_>>() {
                self.apply_all(at);
                self.begin(at);
                self.learn(at);
                self.server_reads(at);
                self.report_steps(at, REPORT);
            }
        }
    }

    /// The client goes to a server, and has a session there.
    fn serve(&mut self, at: usize) {
        self.connect(at);
        self.calm(10);
        assert!(self.session.is_some(), "the client is served");
    }

    fn wait_for_proof_of(&mut self, age: u64) {
        let link = self.link.as_ref().expect("the client is connected");
        let proven_ms = link.conn.proven_ms.load(Ordering::Acquire);
        let until = proven_ms - self.servers[link.at].offset + age;
        self.calm(until.checked_sub(self.now).expect("the proof is younger"));
    }

    /// The client sends, and its server reads.
    fn sends(&mut self, packet: fn(u64) -> Packet) {
        let link = self.link.as_mut().expect("the client is connected");
        link.inbox.push_back(packet(self.now));
        let at = link.at;
        self.server_reads(at);
    }

    fn report_steps(&mut self, at: usize, steps: usize) {
        for _ in 0..steps {
            self.report(at);
        }
    }

    fn hold_lease(&mut self) {
        self.quorum_answers();
        self.take_lease(self.latest);
    }

    fn commit_all(&mut self) {
        self.committed.append(&mut self.pending);
    }

    fn apply_all(&mut self, at: usize) {
        for _ in self.servers[at].applied..self.committed.len() {
            self.apply(at);
        }
    }

    /// A server that was elected begins to lead.
    fn take_over(&mut self, at: usize) {
        self.commit_all();
        self.apply_all(at);
        self.begin(at);
        assert!(self.servers[at].leads.is_some(), "its term has begun");
        self.hold_lease();
    }

    fn freeze(&mut self, at: usize) {
        self.servers[at].stalled_until = u64::MAX;
    }

    fn thaw(&mut self, at: usize) {
        self.servers[at].stalled_until = 0;
    }

    fn cut(&mut self, at: usize) {
        self.servers[at].cut_until = u64::MAX;
    }

    /// The client says no more; whoever leads judges.
    fn expire(&mut self) {
        for _ in 0..4 * T {
            if self.over_at.is_none_or(|over| self.now < over + T) {
                self.calm(1);
                self.judge(self.latest);
            }
        }
    }
}
