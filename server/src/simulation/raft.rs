//! The log's replication as Raft does it, small and pure: it takes messages, the time and the
//! disk's word, and says what to send. It stands in for openraft, whose rules it shares where
//! ours rest on them: one leader in a term, an entry is committed when a quorum has *synced* it,
//! no vote while a leader was heard within its lease, unless leadership is handed over.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng as _;
use rand::rngs::StdRng;

use super::{HEARTBEAT, LEASE};

/// Entries in one message.
const ENTRIES_MAX: usize = 32;
/// What is drawn on top of the lease before a follower stands for election.
const PATIENCE_MOST: u64 = 120;

/// An entry; without requests it is the first of its term.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) term: u64,
    pub(super) requests: Option<Bytes>,
}

/// Term and index of an entry.
type At = (u64, usize);

/// What servers tell each other of the log.
#[derive(Clone, Debug)]
pub(super) enum Message {
    /// `urgent`: leadership was handed over, leases do not count.
    Vote {
        term: u64,
        last: At,
        urgent: bool,
    },
    Granted {
        term: u64,
    },
    Append {
        term: u64,
        before: At,
        entries: Vec<Entry>,
        commit: usize,
        round: usize,
    },
    /// `matched`: what is synced here and the same as there; `Err`: look further in front.
    Appended {
        term: u64,
        round: usize,
        matched: Result<usize, usize>,
    },
    /// Stand for election now.
    Stand {
        term: u64,
    },
}

/// What a server is.
#[derive(Debug)]
enum Part {
    Follower { leader: Option<usize> },
    Candidate { votes: BTreeSet<usize> },
    Leader(Leader),
}

#[derive(Debug)]
struct Leader {
    next: Vec<usize>,
    matched: Vec<usize>,
    /// The newest round that each server answered.
    acked: Vec<usize>,
    /// When each round was sent.
    rounds: Vec<Duration>,
}

/// A quorum counts what is written and not synced.
pub(super) type Unsynced = bool;

/// See the module.
#[derive(Debug)]
pub(super) struct Raft {
    id: usize,
    voters: usize,
    rng: StdRng,
    acks_unsynced: Unsynced,
    // On the disk.
    term: u64,
    voted: Option<usize>,
    log: Vec<Entry>,
    synced: usize,
    saved_commit: usize,
    // In memory.
    part: Part,
    commit: usize,
    /// The log up to here is the leader's.
    verified: usize,
    /// Rises when entries are taken back: what the disk says of those counts for nothing.
    generation: u64,
    heard: Option<Duration>,
    election_at: Duration,
    out: Vec<(usize, Message)>,
    /// A committed entry that a leader does not have: the model is broken, or a rule is out.
    pub(super) taken_back: Option<usize>,
}

impl Raft {
    pub(super) fn new(id: usize, voters: usize, first: Entry, rng: StdRng) -> Raft {
        Raft {
            id,
            voters,
            rng,
            acks_unsynced: false,
            term: 0,
            voted: None,
            log: vec![first],
            synced: 1,
            saved_commit: 0,
            part: Part::Follower { leader: None },
            commit: 0,
            verified: 0,
            generation: 0,
            heard: None,
            election_at: Duration::ZERO,
            out: Vec::new(),
            taken_back: None,
        }
    }

    pub(super) fn ack_unsynced(&mut self) {
        self.acks_unsynced = true;
    }

    /// The power goes, and comes again: what was not synced is there in part, or not at all.
    pub(super) fn crash(&mut self, now: Duration) {
        let kept = self.rng.random_range(self.synced..=self.log.len());
        // A plant tells lies about the disk: there, nothing is kept by luck.
        let kept = if self.acks_unsynced {
            self.synced
        } else {
            kept
        };
        self.log.truncate(kept);
        self.synced = kept;
        self.generation += 1;
        self.commit = self.saved_commit.min(kept - 1);
        self.part = Part::Follower { leader: None };
        self.verified = 0;
        self.heard = None;
        self.out.clear();
        self.draw_election(now);
    }

    pub(super) fn term(&self) -> u64 {
        self.term
    }

    pub(super) fn commit(&self) -> usize {
        self.commit
    }

    pub(super) fn last(&self) -> usize {
        self.log.len() - 1
    }

    pub(super) fn entry(&self, index: usize) -> Option<&Entry> {
        self.log.get(index)
    }

    pub(super) fn leads(&self) -> bool {
        matches!(self.part, Part::Leader(_))
    }

    pub(super) fn leader(&self) -> Option<usize> {
        match self.part {
            Part::Follower { leader } => leader,
            Part::Candidate { .. } => None,
            Part::Leader(_) => Some(self.id),
        }
    }

    /// What is to be sent.
    pub(super) fn take_out(&mut self) -> Vec<(usize, Message)> {
        std::mem::take(&mut self.out)
    }

    /// What the disk has to sync, if anything: entries below the first number, in a generation.
    pub(super) fn unsynced(&self) -> Option<(usize, u64)> {
        (self.log.len() > self.synced).then_some((self.log.len(), self.generation))
    }

    /// The leader's next entry; its index.
    pub(super) fn propose(&mut self, requests: Bytes, now: Duration) -> usize {
        self.log.push(Entry {
            term: self.term,
            requests: Some(requests),
        });
        self.replicate(now);
        self.last()
    }

    /// Begins a round whose answers tell that this server leads; its number.
    pub(super) fn ask_quorum(&mut self, now: Duration) -> Option<usize> {
        self.replicate(now);
        match &self.part {
            Part::Leader(leader) => Some(leader.rounds.len() - 1),
            _ => None,
        }
    }

    /// The newest round that a quorum answered, and when it was sent.
    pub(super) fn acked(&self) -> Option<(usize, Duration)> {
        let Part::Leader(leader) = &self.part else {
            return None;
        };
        let round = nth_best(&leader.acked, self.voters / 2);
        (round > 0).then(|| (round, leader.rounds[round]))
    }

    /// Has the server that is furthest stand for election.
    pub(super) fn hand_over(&mut self) {
        let Part::Leader(leader) = &self.part else {
            return;
        };
        let others = (0..self.voters).filter(|&at| at != self.id);
        if let Some(heir) = others.max_by_key(|&at| leader.matched[at]) {
            self.out.push((heir, Message::Stand { term: self.term }));
        }
    }

    pub(super) fn tick(&mut self, now: Duration) {
        let heartbeat = |leader: &Leader| {
            let last = leader.rounds.last().copied().unwrap_or_default();
            now >= last + HEARTBEAT
        };
        match &self.part {
            Part::Leader(leader) if heartbeat(leader) => self.replicate(now),
            Part::Leader(_) => {}
            _ if now >= self.election_at => self.stand(now, false),
            _ => {}
        }
    }

    /// The disk has synced the entries below `upto`.
    pub(super) fn synced(&mut self, upto: usize, generation: u64) {
        if generation != self.generation {
            return;
        }
        self.synced = self.synced.max(upto.min(self.log.len()));
        self.saved_commit = self.commit.min(self.synced - 1);
        match self.part {
            Part::Leader(_) => self.count(),
            Part::Follower {
                leader: Some(leader),
            } => self.acknowledge(leader, 0),
            _ => {}
        }
    }

    pub(super) fn receive(&mut self, from: usize, message: Message, now: Duration) {
        match message {
            Message::Vote { term, last, urgent } => self.judge(from, term, last, urgent, now),
            Message::Granted { term } if term == self.term => {
                if let Part::Candidate { votes } = &mut self.part {
                    votes.insert(from);
                    if votes.len() > self.voters / 2 {
                        self.lead(now);
                    }
                }
            }
            Message::Granted { .. } => {}
            Message::Append {
                term,
                before,
                entries,
                commit,
                round,
            } => {
                if term < self.term {
                    let (term, matched) = (self.term, Err(0));
                    let message = Message::Appended {
                        term,
                        round: 0,
                        matched,
                    };
                    self.out.push((from, message));
                    return;
                }
                self.follow(term, from, now);
                self.append(from, before, entries, commit, round);
            }
            Message::Appended { term, .. } if term > self.term => self.learn(term, now),
            Message::Appended {
                term,
                round,
                matched,
            } if term == self.term => self.appended(from, round, matched, now),
            Message::Appended { .. } => {}
            Message::Stand { term } if term == self.term => self.stand(now, true),
            Message::Stand { .. } => {}
        }
    }

    fn last_at(&self) -> At {
        (self.log[self.last()].term, self.last())
    }

    fn draw_election(&mut self, now: Duration) {
        let more = self.rng.random_range(20..PATIENCE_MOST);
        self.election_at = now + LEASE + Duration::from_millis(more);
    }

    fn stand(&mut self, now: Duration, urgent: bool) {
        self.term += 1;
        self.voted = Some(self.id);
        self.part = Part::Candidate {
            votes: BTreeSet::from([self.id]),
        };
        self.draw_election(now);
        let (term, last) = (self.term, self.last_at());
        self.tell_all(|| Message::Vote { term, last, urgent });
    }

    fn tell_all(&mut self, message: impl Fn() -> Message) {
        for to in (0..self.voters).filter(|&to| to != self.id) {
            self.out.push((to, message()));
        }
    }

    /// A later term is known.
    fn learn(&mut self, term: u64, now: Duration) {
        if term > self.term {
            self.term = term;
            self.voted = None;
            self.part = Part::Follower { leader: None };
            self.verified = 0;
            self.draw_election(now);
        }
    }

    fn judge(&mut self, from: usize, term: u64, last: At, urgent: bool, now: Duration) {
        let heard = match self.part {
            Part::Leader(_) => self.acked().map(|acked| acked.1),
            _ => self.heard,
        };
        let leased = heard.is_some_and(|heard| now < heard + LEASE);
        if leased && !urgent {
            return;
        }
        self.learn(term, now);
        let free = self.voted.is_none_or(|voted| voted == from);
        if term == self.term && free && last >= self.last_at() {
            self.voted = Some(from);
            self.draw_election(now);
            self.out.push((from, Message::Granted { term }));
        }
    }

    fn lead(&mut self, now: Duration) {
        self.log.push(Entry {
            term: self.term,
            requests: None,
        });
        self.part = Part::Leader(Leader {
            next: vec![self.last(); self.voters],
            matched: vec![0; self.voters],
            acked: vec![0; self.voters],
            rounds: vec![Duration::ZERO],
        });
        self.replicate(now);
    }

    fn replicate(&mut self, now: Duration) {
        let Part::Leader(leader) = &mut self.part else {
            return;
        };
        leader.rounds.push(now);
        let round = leader.rounds.len() - 1;
        leader.acked[self.id] = round;
        for to in 0..self.voters {
            self.send_entries(to, round);
        }
        self.count();
    }

    fn send_entries(&mut self, to: usize, round: usize) {
        let Part::Leader(leader) = &self.part else {
            return;
        };
        if to == self.id {
            return;
        }
        let next = leader.next[to];
        let upto = self.log.len().min(next + ENTRIES_MAX);
        let message = Message::Append {
            term: self.term,
            before: (self.log[next - 1].term, next - 1),
            entries: self.log[next..upto].to_vec(),
            commit: self.commit,
            round,
        };
        self.out.push((to, message));
    }

    /// What counts as stored here.
    fn stored(&self) -> usize {
        if self.acks_unsynced {
            self.last()
        } else {
            self.synced - 1
        }
    }

    /// The leader counts what a quorum has.
    fn count(&mut self) {
        let stored = self.stored();
        let Part::Leader(leader) = &mut self.part else {
            return;
        };
        leader.matched[self.id] = stored;
        let quorum = nth_best(&leader.matched, self.voters / 2);
        // Of an earlier term only what stands before an entry of this one (Raft, 5.4.2).
        if quorum > self.commit && self.log[quorum].term == self.term {
            self.commit = quorum;
        }
    }

    fn follow(&mut self, term: u64, leader: usize, now: Duration) {
        self.learn(term, now);
        self.part = Part::Follower {
            leader: Some(leader),
        };
        self.heard = Some(now);
        self.draw_election(now);
    }

    fn append(
        &mut self,
        from: usize,
        before: At,
        entries: Vec<Entry>,
        commit: usize,
        round: usize,
    ) {
        let (before_term, before) = before;
        if self.log.get(before).map(|entry| entry.term) != Some(before_term) {
            let message = Message::Appended {
                term: self.term,
                round,
                matched: Err(self.log.len().min(before)),
            };
            self.out.push((from, message));
            return;
        }
        let upto = before + entries.len();
        for (index, entry) in (before + 1..).zip(entries) {
            match self.log.get(index) {
                Some(there) if there.term == entry.term => continue,
                Some(_) => {
                    if index <= self.commit {
                        self.taken_back.get_or_insert(index);
                        return;
                    }
                    self.log.truncate(index);
                    self.synced = self.synced.min(index);
                    self.generation += 1;
                }
                None => {}
            }
            self.log.push(entry);
        }
        self.verified = self.verified.max(upto);
        self.commit = self.commit.max(commit.min(self.verified));
        self.acknowledge(from, round);
    }

    fn acknowledge(&mut self, leader: usize, round: usize) {
        let message = Message::Appended {
            term: self.term,
            round,
            matched: Ok(self.verified.min(self.stored())),
        };
        self.out.push((leader, message));
    }

    fn appended(
        &mut self,
        from: usize,
        round: usize,
        matched: Result<usize, usize>,
        now: Duration,
    ) {
        let Part::Leader(leader) = &mut self.part else {
            return;
        };
        leader.acked[from] = leader.acked[from].max(round);
        match matched {
            Ok(matched) => {
                let known = &mut leader.matched[from];
                *known = matched.max(*known);
                leader.next[from] = leader.next[from].max(*known + 1);
                let before = self.commit;
                self.count();
                // Told at once, or every write would wait for a heartbeat.
                if self.commit > before {
                    self.replicate(now);
                }
            }
            Err(hint) => {
                leader.next[from] = hint.max(leader.matched[from] + 1).max(1);
                let round = leader.rounds.len() - 1;
                self.send_entries(from, round);
            }
        }
    }
}

/// The largest number that more than `behind` of these reach.
fn nth_best(numbers: &[usize], behind: usize) -> usize {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    sorted[behind]
}
