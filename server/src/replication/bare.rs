//! One server's replication without engine, links and tasks: for a simulation, which has all
//! three of its own and one thread.
//!
//! The queue with its guests, apply with its digests, the lease, what a clerk makes of a message,
//! and what a courier remembers of its questions are the real ones. What runs them in order, and
//! what is written here in their place, is said at each function.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use quorate_proto::SessionId;
use tokio::sync::{oneshot, watch};

use super::apply::Applier;
use super::entry::Header;
use super::forward::{
    Asked, Confirmer, Errand, Errands, FromLeader, Patience, ToLeader, vetted, way_in,
};
use super::machine::Progress;
use super::queue::{Guest, GuestNews, Landing, Next, ProposeQueue, QUEUE_BYTES_MAX};
use super::{Deliver, Judge, Lease, Role};
use crate::clock::SharedClock;
use crate::metrics::Metrics;
use crate::tree::State;
use crate::tree::txn::Proposal;

/// See the module.
pub(crate) struct Bare {
    pub(crate) queue: Arc<ProposeQueue>,
    pub(crate) lease: Lease,
    applier: Applier,
    progress: Arc<Progress>,
    role: watch::Sender<Role>,
    judge: Weak<dyn Judge>,
    confirmer: Arc<Confirmer>,
}

/// What leaves the queue.
pub(crate) enum Departure {
    /// To the own engine.
    Entry { flight: u64, body: Bytes },
    /// To the leader: a message, and the number of its frame.
    Frame { number: u64, message: Bytes },
}

impl Bare {
    /// A server that has applied nothing.
    pub(crate) fn new(
        state: Arc<State>,
        deliver: Box<dyn Deliver>,
        judge: Weak<dyn Judge>,
        lease: Duration,
        clock: SharedClock,
    ) -> Bare {
        let progress = Arc::new(Progress::default());
        let metrics = Arc::new(Metrics::default());
        let role = watch::Sender::new(Role::Looking);
        let lease = Lease::new(lease, clock);
        let queue = Arc::new(ProposeQueue::new(QUEUE_BYTES_MAX));
        queue.turn(way_in(Role::Looking));
        let confirmer = Confirmer {
            role: role.subscribe(),
            judge: judge.clone(),
            lease: Arc::new(lease.clone()),
            // Nobody takes errands from there: questions are asked with `ask_*`.
            errands: Errands::new().0,
            patience: Patience {
                answer: Duration::ZERO,
                leader: Duration::ZERO,
            },
        };
        Bare {
            queue,
            lease,
            applier: Applier::new(state, 0, deliver, progress.clone(), metrics),
            progress,
            role,
            judge,
            confirmer: Arc::new(confirmer),
        }
    }

    pub(crate) fn confirmer(&self) -> &Arc<Confirmer> {
        &self.confirmer
    }

    pub(crate) fn role(&self) -> Role {
        *self.role.borrow()
    }

    /// As the watcher of the role does, and `steer`. `acked`: until when the quorum's last answer
    /// to this leader holds.
    pub(crate) fn turn(&self, role: Role, acked: Option<Duration>) {
        let before = self.role();
        if !role.leads() {
            self.lease.set(None);
        } else if before == role {
            if acked.is_some() && !self.lease.valid() {
                self.lease.set(None);
                self.lease.count_gap();
                self.start_over();
            }
            self.lease.set(acked);
        } else {
            self.lease.set(None);
            self.start_over();
            self.lease.set(acked);
        }
        if before != role {
            self.role.send_replace(role);
            self.queue.turn(way_in(role));
        }
    }

    fn start_over(&self) {
        if let Some(judge) = self.judge.upgrade() {
            judge.start_over(self.lease.length());
        }
    }

    /// As the batcher and the courier do: what leaves the queue now, stamped with this calendar.
    pub(crate) fn depart(&self, wall_ms: i64) -> Option<Departure> {
        let stamp = |count| Header {
            wall_ms,
            count,
            applied: self.progress.digest(),
        };
        match self.queue.next(self.queue.way(), stamp) {
            Next::Send { flight, body } | Next::Resend { flight, body } => {
                Some(Departure::Entry { flight, body })
            }
            Next::Frame {
                number,
                count,
                requests,
            } => {
                let message = ToLeader::Requests {
                    number,
                    count,
                    requests,
                };
                let message = message.encode();
                Some(Departure::Frame { number, message })
            }
            Next::Turn | Next::Sleep | Next::End => None,
        }
    }

    /// What the engine made of an entry: applied, or to be sent again.
    pub(crate) fn landed(&self, flight: u64, applied: bool) {
        let landing = match applied {
            true => Landing::Applied,
            false => Landing::Refused,
        };
        self.queue.landed(flight, landing);
    }

    /// The link to the leader is gone.
    pub(crate) fn link_lost(&self) {
        self.queue.link_lost();
    }

    /// Applies a committed entry; the digest of the state then.
    pub(crate) fn apply(
        &mut self,
        index: u64,
        term: u64,
        requests: Option<&[u8]>,
    ) -> Result<u64, String> {
        let applied = self.applier.apply(index, term, requests);
        applied.map_err(|error| error.to_string())?;
        Ok(self.applier.state().tree().digest())
    }

    /// As the clerk does when a link comes, if this server leads.
    pub(crate) fn admit(&self) -> Option<Visit> {
        let Role::Leading { term } = self.role() else {
            return None;
        };
        let guest = Guest::admit(&self.queue, term);
        let news = guest.news();
        Some(Visit { term, guest, news })
    }

    /// As the clerk does with a message.
    pub(crate) fn hear(&self, visit: &Visit, message: Bytes) -> Heard {
        let Ok(message) = ToLeader::decode(message) else {
            return Heard::Closes;
        };
        match message {
            ToLeader::Requests {
                number,
                count,
                requests,
            } => {
                let Some((count, requests)) = vetted(count, requests) else {
                    return Heard::Closes;
                };
                match visit.guest.push(number, count, requests) {
                    Ok(()) => Heard::Nothing,
                    Err(_) => Heard::Closes,
                }
            }
            ToLeader::ReadIndex { number } => Heard::ReadIndex(number),
            ToLeader::Touches { number, sessions } => {
                let answer = match self.confirmer.confirm_here(visit.term, &sessions) {
                    Some(confirmed) => FromLeader::Confirmed {
                        number,
                        refused: confirmed.refused,
                    },
                    None => FromLeader::Unproven { number },
                };
                Heard::Answers(answer.encode())
            }
        }
    }

    /// As the leader's own reports are confirmed.
    pub(crate) fn confirm_here(&self, sessions: &[SessionId]) -> Option<Vec<SessionId>> {
        let Role::Leading { term } = self.role() else {
            return None;
        };
        let confirmed = self.confirmer.confirm_here(term, sessions);
        confirmed.map(|confirmed| confirmed.refused)
    }
}

/// A courier's link, at the leader.
pub(crate) struct Visit {
    pub(crate) term: u64,
    guest: Guest,
    news: GuestNews,
}

impl Visit {
    /// What there is to say of requests; an error: the link must be closed.
    pub(crate) fn news(&mut self) -> Result<Option<Bytes>, ()> {
        match self.news.look() {
            None => Ok(None),
            Some(Ok(up_to)) => Ok(Some(FromLeader::Taken { up_to }.encode())),
            Some(Err(_)) => Err(()),
        }
    }
}

/// What becomes of a message at the leader.
pub(crate) enum Heard {
    Nothing,
    Answers(Bytes),
    /// To be answered by [`read_at`].
    ReadIndex(u64),
    Closes,
}

/// The answer to a question for a read index; `None`: the leader cannot tell.
pub(crate) fn read_at(number: u64, index: Option<u64>) -> Bytes {
    match index {
        Some(index) => FromLeader::ReadAt { number, index }.encode(),
        None => FromLeader::Unproven { number }.encode(),
    }
}

/// What a courier said on its link, and has no word of.
#[derive(Default)]
pub(crate) struct Questions(Asked);

impl Questions {
    /// Notes a frame of requests that leaves.
    pub(crate) fn sent(&mut self, number: u64) {
        self.0.sent = Some(number);
    }

    /// How many questions wait for an answer.
    pub(crate) fn asked(&self) -> usize {
        self.0.questions.len()
    }

    pub(crate) fn ask_read_index(&mut self) -> Option<(Bytes, Answer<u64>)> {
        let (answer, answered) = oneshot::channel();
        let message = self.0.note(Errand::ReadIndex(answer))?;
        Some((message.encode(), Answer(answered)))
    }

    pub(crate) fn ask_touches(
        &mut self,
        sessions: Vec<SessionId>,
    ) -> Option<(Bytes, Answer<Vec<SessionId>>)> {
        let (answer, answered) = oneshot::channel();
        let message = self.0.note(Errand::Touches(sessions, answer))?;
        Some((message.encode(), Answer(answered)))
    }

    /// Takes in what the leader says. An error: the link must be closed.
    pub(crate) fn hear(&mut self, server: &Bare, message: Bytes) -> Result<(), ()> {
        let message = FromLeader::decode(message).map_err(|_| ())?;
        if let Some(up_to) = self.0.hear(message).map_err(|_| ())? {
            server.queue.taken(up_to);
        }
        Ok(())
    }
}

/// The answer to a question, when it is there.
pub(crate) struct Answer<T>(oneshot::Receiver<Option<T>>);

impl<T> Answer<T> {
    /// `None`: not yet. `Some(None)`: there will be none.
    pub(crate) fn look(&mut self) -> Option<Option<T>> {
        match self.0.try_recv() {
            Ok(answer) => Some(answer),
            Err(oneshot::error::TryRecvError::Closed) => Some(None),
            Err(oneshot::error::TryRecvError::Empty) => None,
        }
    }
}

/// The requests of an entry, or an entry of these requests.
pub(crate) mod body {
    use bytes::{BufMut as _, BytesMut};

    use super::*;

    /// An entry with these requests.
    pub(crate) fn of(wall_ms: i64, proposals: &[Proposal<'_>]) -> Bytes {
        entry(wall_ms, None, proposals)
    }

    fn entry(wall_ms: i64, applied: Option<(u64, u64)>, proposals: &[Proposal<'_>]) -> Bytes {
        let mut body = BytesMut::new();
        body.put_bytes(0, Header::LEN);
        for proposal in proposals {
            proposal.encode(&mut body);
        }
        let header = Header {
            wall_ms,
            count: u32::try_from(proposals.len()).unwrap(),
            applied,
        };
        header.fill(&mut body);
        body.freeze()
    }

    /// The same entry, with each of its requests changed.
    pub(crate) fn change(body: &[u8], mut change: impl FnMut(&mut Proposal<'_>)) -> Bytes {
        let (header, mut rest) = Header::split(0, body).unwrap();
        let mut proposals = Vec::new();
        for _ in 0..header.count {
            let mut proposal = Proposal::decode(&mut rest).unwrap();
            change(&mut proposal);
            proposals.push(proposal);
        }
        entry(header.wall_ms, header.applied, &proposals)
    }
}
