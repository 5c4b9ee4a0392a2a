//! What a server says to its leader and hears as one: the work of couriers, clerks and reporters.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use quorate_proto::SessionId;

use super::{Effect, Life, LinkId, Server};
use crate::clock::Clock as _;
use crate::replication::{Answer, Heard, Questions, Role, Visit, read_at};
use crate::sessions::{Report, Unconfirmed};
use crate::simulation::{PATIENCE, Plant, RETRY, SILENCE, SWEEP_PAUSE};

/// A courier's end of a link.
pub(in crate::simulation) struct Way {
    pub(in crate::simulation) link: LinkId,
    pub(in crate::simulation) to: usize,
    pub(super) questions: Questions,
    /// When the oldest question was asked that has no answer.
    pub(super) asked: VecDeque<Duration>,
}

/// A leader's end of one.
pub(super) struct Visitor {
    pub(super) from: usize,
    since: Duration,
    visit: Option<Visit>,
    /// What came before this server led.
    inbox: VecDeque<Bytes>,
    /// Questions for a read index: their numbers, the index, and the round that proves it.
    reads: Vec<(u64, usize, usize)>,
}

/// A report on its way.
pub(super) struct Carried {
    report: Report,
    answer: Answer<Vec<SessionId>>,
    sent: Duration,
}

/// A read index that is being asked for.
pub(in crate::simulation) enum Proof {
    Quorum {
        term: u64,
        index: usize,
        round: usize,
    },
    Asked(Answer<u64>),
}

impl Server {
    pub(super) fn close_way(&mut self, dial_at: Duration) {
        let Some(life) = &mut self.life else { return };
        if let Some(Way { link, to, .. }) = life.way.take() {
            self.effects.push(Effect::Close { link, to });
        }
        life.bare.link_lost();
        life.dial_at = dial_at;
    }

    pub(super) fn dial(&mut self) {
        let now = self.now();
        let Some(life) = &mut self.life else { return };
        let Role::Following { leader, .. } = life.bare.role() else {
            return;
        };
        if life.way.is_some() || now < life.dial_at {
            return;
        }
        let link = ((self.at as u64) << 32) | self.next_link;
        self.next_link += 1;
        let to = usize::from(leader) - 1;
        self.effects.push(Effect::Open { link, to });
        life.way = Some(Way {
            link,
            to,
            questions: Questions::default(),
            asked: VecDeque::new(),
        });
    }

    /// A courier's link came.
    pub(in crate::simulation) fn opened(&mut self, link: LinkId, from: usize) {
        let since = self.now();
        if let Some(life) = &mut self.life {
            let visitor = Visitor {
                from,
                since,
                visit: None,
                inbox: VecDeque::new(),
                reads: Vec::new(),
            };
            life.visitors.insert(link, visitor);
        }
        self.pump();
    }

    /// Something came over a link.
    pub(in crate::simulation) fn came(&mut self, link: LinkId, message: Bytes) {
        let now = self.now();
        let Some(life) = &mut self.life else { return };
        if let Some(visitor) = life.visitors.get_mut(&link) {
            visitor.inbox.push_back(message);
        } else if let Some(way) = &mut life.way
            && way.link == link
        {
            let of_question = way.questions.asked();
            if way.questions.hear(&life.bare, message).is_err() {
                self.close_way(now + RETRY);
            } else if way.questions.asked() < of_question {
                way.asked.pop_front();
            }
        }
        self.pump();
    }

    /// The other end closed a link.
    pub(in crate::simulation) fn closed(&mut self, link: LinkId) {
        let now = self.now();
        let Some(life) = &mut self.life else { return };
        life.visitors.remove(&link);
        if life.way.as_ref().is_some_and(|way| way.link == link) {
            self.close_way(now + RETRY);
        }
        self.pump();
    }

    /// The clerk's work.
    pub(super) fn welcome(&mut self) {
        let now = self.clock.monotonic();
        let stale_reads = self.plant == Some(Plant::DeposedSyncs);
        let Some(life) = &mut self.life else { return };
        let Life { bare, visitors, .. } = life;
        let role = bare.role();
        let mut closed = Vec::new();
        for (&link, visitor) in visitors.iter_mut() {
            let to = visitor.from;
            if visitor.visit.is_none() {
                visitor.visit = bare.admit();
            }
            let Some(visit) = &mut visitor.visit else {
                if now > visitor.since + PATIENCE {
                    closed.push((link, to));
                }
                continue;
            };
            // Nothing is said any more once this server does not lead.
            let mut closes = role != Role::Leading { term: visit.term };
            while !closes && let Some(message) = visitor.inbox.pop_front() {
                match bare.hear(visit, message) {
                    Heard::Nothing => {}
                    Heard::Answers(message) => {
                        self.effects.push(Effect::Frame { link, to, message });
                    }
                    Heard::ReadIndex(number) => {
                        let index = self.raft.commit();
                        match self.raft.ask_quorum(now) {
                            Some(_) if stale_reads => visitor.reads.push((number, index, 0)),
                            Some(round) => visitor.reads.push((number, index, round)),
                            None => closes = true,
                        }
                    }
                    Heard::Closes => closes = true,
                }
            }
            let proven = self.raft.acked().map_or(0, |(round, _)| round);
            visitor.reads.retain(|&(number, index, round)| {
                if round <= proven {
                    let message = read_at(number, Some(index as u64));
                    self.effects.push(Effect::Frame { link, to, message });
                }
                round > proven
            });
            match visit.news() {
                Ok(Some(message)) => self.effects.push(Effect::Frame { link, to, message }),
                Ok(None) => {}
                Err(()) => closes = true,
            }
            if closes {
                closed.push((link, to));
            }
        }
        for (link, to) in closed {
            visitors.remove(&link);
            self.effects.push(Effect::Close { link, to });
        }
        // A frame that waited may be an entry now.
        if role.leads() {
            while self.depart() {}
        }
    }

    /// The next step of this server's reports, as `Reports::run` takes them.
    pub(super) fn report(&mut self) {
        let now = self.clock.monotonic();
        let Some(life) = &mut self.life else { return };
        if let Some(carried) = &mut life.carried {
            let answer = match carried.answer.look() {
                Some(answer) => answer.ok_or(Unconfirmed),
                None if now > carried.sent + SILENCE => Err(Unconfirmed),
                None => return,
            };
            if let Some(carried) = life.carried.take() {
                settle(life, carried.report, answer, now);
            }
        }
        loop {
            let sweep = now >= life.sweep_at;
            let report = life.reports.collect(&life.sessions, sweep);
            if !sweep && report.sessions().is_empty() {
                return;
            }
            if sweep {
                life.sweep_at = now + SWEEP_PAUSE;
            }
            if let Some(refused) = life.reports.alone(&report) {
                settle(life, report, Ok(refused), now);
                continue;
            }
            let sessions = report.sessions();
            if life.bare.role().leads() {
                let answer = life.bare.confirm_here(&sessions).ok_or(Unconfirmed);
                settle(life, report, answer, now);
                return;
            }
            let asked = life.way.as_mut().and_then(|way| {
                let (message, answer) = way.questions.ask_touches(sessions)?;
                way.asked.push_back(now);
                let (link, to) = (way.link, way.to);
                self.effects.push(Effect::Frame { link, to, message });
                Some(answer)
            });
            match asked {
                Some(answer) => {
                    life.carried = Some(Carried {
                        report,
                        answer,
                        sent: now,
                    });
                }
                None => settle(life, report, Err(Unconfirmed), now),
            }
            return;
        }
    }

    /// Asks for a read index: the leader's quorum, over the link or here.
    pub(in crate::simulation) fn ask_index(&mut self) -> Option<Proof> {
        let now = self.clock.monotonic();
        let stale_reads = self.is_planted(Plant::DeposedSyncs);
        let life = self.life.as_mut()?;
        match life.bare.role() {
            Role::Leading { term } => {
                let index = self.raft.commit();
                let round = self.raft.ask_quorum(now)?;
                let round = if stale_reads { 0 } else { round };
                Some(Proof::Quorum { term, index, round })
            }
            Role::Following { .. } => {
                let way = life.way.as_mut()?;
                let (message, answer) = way.questions.ask_read_index()?;
                way.asked.push_back(now);
                let (link, to) = (way.link, way.to);
                self.effects.push(Effect::Frame { link, to, message });
                Some(Proof::Asked(answer))
            }
            Role::Looking => None,
        }
    }

    /// `None`: not yet. `Some(None)`: there will be none, ask again.
    pub(in crate::simulation) fn look_at(&self, proof: &mut Proof) -> Option<Option<usize>> {
        match proof {
            Proof::Quorum { term, .. } if !self.raft.leads() || self.raft.term() != *term => {
                Some(None)
            }
            Proof::Quorum { index, round, .. } => {
                let proven = self.raft.acked().map_or(0, |(round, _)| round);
                (*round <= proven).then_some(Some(*index))
            }
            Proof::Asked(answer) => {
                let answer = answer.look()?;
                Some(answer.map(|index| usize::try_from(index).unwrap()))
            }
        }
    }
}

fn settle(
    life: &mut Life,
    report: Report,
    answer: Result<Vec<SessionId>, Unconfirmed>,
    now: Duration,
) {
    if answer.is_err() {
        life.sweep_at = now + RETRY;
    }
    life.reports.settle(report, answer);
}
