//! What goes wrong in a schedule, and when it is repaired.

use std::collections::BTreeMap;

use rand::Rng as _;
use rand::rngs::StdRng;

use super::T_US;
use super::clock::Time;
use super::world::{Event, World};

/// The faults of the moment.
pub(super) struct Faults {
    voters: usize,
    /// Cuts, by number: from, to.
    cuts: BTreeMap<u64, Vec<(usize, usize)>>,
    next: u64,
    stalled_until: Vec<Time>,
    slow_disks: BTreeMap<u64, usize>,
    /// In a thousand messages.
    lost: u32,
    twice: u32,
    late: u32,
    /// The longest time between two faults: a judge that is never left alone judges nobody.
    pause_most: Time,
}

impl Faults {
    pub(super) fn new(voters: usize, rng: &mut StdRng) -> Faults {
        let rough = rng.random_range(0..3);
        Faults {
            voters,
            cuts: BTreeMap::new(),
            next: 0,
            stalled_until: vec![0; voters],
            slow_disks: BTreeMap::new(),
            lost: [0, 10, 50][rough],
            twice: [0, 10, 50][rough],
            late: [0, 20, 60][rough],
            pause_most: [T_US / 3, 2 * T_US][rng.random_range(0..2)],
        }
    }

    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.values().flatten().any(|cut| *cut == (from, to))
    }

    /// Until when a server stands still, if it does.
    pub(super) fn stalled(&self, at: usize, now: Time) -> Option<Time> {
        let until = self.stalled_until[at];
        (now < until).then_some(until)
    }

    /// How long something takes.
    pub(super) fn delay(&self, rng: &mut StdRng) -> Time {
        if rng.random_range(0..1000) < self.late {
            rng.random_range(2_000..60_000)
        } else {
            rng.random_range(100..1_000)
        }
    }

    /// When a message that nothing keeps in order arrives: never, once, twice.
    pub(super) fn journey(&self, rng: &mut StdRng) -> Vec<Time> {
        let dice = rng.random_range(0..1000);
        let times = if dice < self.lost {
            0
        } else if dice < self.lost + self.twice {
            2
        } else {
            1
        };
        (0..times).map(|_| self.delay(rng)).collect()
    }

    /// How long a sync takes.
    pub(super) fn disk(&self, at: usize, rng: &mut StdRng) -> Time {
        if self.slow_disks.values().any(|slow| *slow == at) {
            rng.random_range(5_000..80_000)
        } else {
            rng.random_range(200..2_000)
        }
    }

    pub(super) fn repair(&mut self, number: u64) {
        self.cuts.remove(&number);
        self.slow_disks.remove(&number);
    }

    fn cut(&mut self, pairs: Vec<(usize, usize)>) -> u64 {
        self.next += 1;
        self.cuts.insert(self.next, pairs);
        self.next
    }

    /// Between one server and all others.
    fn around(&self, at: usize, out: bool, inward: bool) -> Vec<(usize, usize)> {
        let others = (0..self.voters).filter(|&other| other != at);
        others
            .flat_map(|other| [(out, (at, other)), (inward, (other, at))])
            .filter_map(|(is_cut, pair)| is_cut.then_some(pair))
            .collect()
    }
}

impl World {
    /// Something goes wrong, and after a while the next thing does.
    pub(super) fn fault(&mut self) {
        let voters = self.servers.len();
        let leader = (0..voters).find(|&at| self.servers[at].raft.leads());
        let any = self.rng.random_range(0..voters);
        // Leaders break more often than their share.
        let at = match leader {
            Some(leader) if self.rng.random_range(0..2) == 0 => leader,
            _ => any,
        };
        let long = match self.rng.random_range(0..3) {
            0 => self.rng.random_range(T_US / 2..5 * T_US / 2),
            _ => self.rng.random_range(T_US / 20..T_US),
        };
        let client = self.rng.random_range(0..self.clients.len());
        match self.rng.random_range(0..100) {
            0..18 => self.crash(at, long / 2),
            18..22 => {
                // All of them: what was acknowledged is on the disks.
                for at in 0..voters {
                    self.crash(at, long / 4);
                }
            }
            22..34 => {
                // Never shorter than it was: what waits for the end must not be overtaken.
                let until = &mut self.faults.stalled_until[at];
                *until = (self.time.now() + long).max(*until);
            }
            34..46 => self.cut_off(at, true, true, long),
            46..52 => self.cut_off(at, true, false, long),
            52..58 => self.cut_off(at, false, true, long),
            58..63 => {
                let to = self.rng.random_range(0..voters);
                let number = self.faults.cut(vec![(at, to)]);
                self.after(long, Event::Repair(number));
            }
            63..70 => {
                self.faults.next += 1;
                let number = self.faults.next;
                self.faults.slow_disks.insert(number, at);
                self.after(long, Event::Repair(number));
            }
            70..76 => {
                self.servers[at].raft.hand_over();
                self.servers[at].pump();
                self.effects(at);
            }
            76..86 => (0..voters).for_each(|at| self.cut_way(at)),
            86..90 => self.cut_client(client),
            90..97 => {
                let quiet = self.rng.random_range(T_US / 4..2 * T_US);
                let until = self.now() + quiet;
                let client = &mut self.clients[client];
                client.quiet_until = client.quiet_until.max(until);
            }
            _ => {
                let by = self.rng.random_range(-100_000..100_000);
                self.servers[at].clock.jump(by);
            }
        }
        let wait = self.rng.random_range(T_US / 25..self.faults.pause_most);
        self.after(wait, Event::Fault);
    }

    fn cut_off(&mut self, at: usize, out: bool, inward: bool, long: Time) {
        let pairs = self.faults.around(at, out, inward);
        let number = self.faults.cut(pairs);
        self.after(long, Event::Repair(number));
    }

    /// Nothing is wrong any more, but that whoever stands still does so until its time.
    pub(super) fn repair_all(&mut self) {
        self.faults.cuts.clear();
        self.faults.slow_disks.clear();
        self.faults.lost = 0;
        self.faults.twice = 0;
        self.faults.late = 0;
        for at in 0..self.servers.len() {
            self.after(0, Event::Start { at });
        }
    }
}
