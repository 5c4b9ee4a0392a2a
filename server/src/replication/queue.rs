//! The propose queue: where requests wait until they leave for the log, and until they land.
//!
//! Connections push, synchronously; one batcher takes whole entries out. Nothing per request is
//! kept but its encoding. Order: what is pushed first stands first in the log, whatever openraft
//! refuses on the way, as long as both were pushed for the same session.
//!
//! Entries go to the own engine while this server leads, else over a link to the leader
//! ([`Way`]). On the leader, the requests that other servers forwarded join the own ones in an
//! entry; they belong to their guests ([`guests`]), who send them again if the engine refuses.
//! What only a leader may ask for, to end a session or to reap a znode, is dropped when the
//! leadership in which it was judged is over: the next leader judges anew (R18).
//!
//! Bounded in bytes, waiting and in flight together; a push beyond that is refused with
//! [`Refused::Full`]. A request larger than [`ENTRY_BYTES_MAX`] travels alone.

mod guests;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, watch};

pub(super) use self::guests::{Guest, GuestNews};
use self::guests::{Guests, Part};
use super::entry::Header;
use crate::tree::txn::{Proposal, Txn};

/// Requests in one entry. One turn of the apply loop stays around a millisecond.
pub(super) const ENTRY_REQUESTS_MAX: u32 = 1000;
/// Bytes of one entry, unless a single request is larger.
pub(super) const ENTRY_BYTES_MAX: usize = 512 * 1024;
/// Bytes of one request. An entry that the log refuses for its size would be the end of the
/// engine, so it must not come that far.
pub(super) const REQUEST_BYTES_MAX: usize = 512 * 1024 * 1024;
/// Entries in flight. More would cut the same requests into more entries.
pub(super) const FLIGHTS_MAX: usize = 4;
/// Bytes waiting and in flight.
pub(super) const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Entries are cut from blocks of this size, so that a small one costs no allocation of its own.
const BLOCK: usize = 64 * 1024;

/// A request that was not taken. It has had no effect and never will.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    /// Too much waits already.
    #[error("{held} bytes wait to be written, {limit} at most")]
    Full { held: usize, limit: usize },
    /// No entry of the log could hold it.
    #[error("a request of {bytes} bytes, {limit} at most")]
    TooLarge { bytes: usize, limit: usize },
    /// Nothing is taken any more.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why this server takes no writes, and proves no read current.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unavailable {
    /// It is stopping.
    #[error("this server is stopping")]
    Stopping,
    /// Its disk failed.
    #[error("the disk failed: {cause}")]
    DiskFailed { cause: Arc<str> },
    /// No leader answered in time. Another server may know one.
    #[error("no leader answers")]
    NoLeader,
    /// It may not go on: its log or state is not what it must be.
    #[error("this server stopped writing: {cause}")]
    Broken { cause: Arc<str> },
}

/// Where entries go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// To the own engine, which leads this term; `None`: it is a quorum of one and always leads.
    Engine { term: Option<u64> },
    /// To the server that leads this term.
    Link { leader: u8, term: u64 },
    /// Nowhere: no leader is known.
    Nowhere,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landing {
    /// It was applied here; its outcomes were delivered before.
    Applied,
    /// It must be sent again.
    Refused,
    /// Nobody will ever tell: the engine stopped.
    Lost,
}

/// What the batcher is to do.
#[derive(Debug)]
pub(super) enum Next {
    /// Hand this entry to openraft.
    Send { flight: u64, body: Bytes },
    /// Wait, then hand it over again.
    Resend { flight: u64, body: Bytes },
    /// Send these requests to the leader.
    Frame {
        number: u64,
        count: u32,
        requests: Bytes,
    },
    /// Entries go another way now.
    Turn,
    /// Sleep until [`ProposeQueue::wake`].
    Sleep,
    /// End: closed and empty, or failed.
    End,
}

/// See the module.
pub(crate) struct ProposeQueue {
    inner: Mutex<Inner>,
    wake: Notify,
    /// [`ProposeQueue::gather`] waits here.
    gather: Notify,
    signs: watch::Sender<Signs>,
    limit: usize,
    request_limit: usize,
}

/// What those wait for who are not asleep in [`ProposeQueue::wake`].
#[derive(Clone, Copy)]
struct Signs {
    way: Way,
    closed: bool,
    failed: bool,
}

struct Inner {
    way: Way,
    /// The entry that is being filled: [`Header::LEN`] bytes of space, then requests.
    open: BytesMut,
    open_count: u32,
    /// Full entries, their headers still blank.
    sealed: VecDeque<(BytesMut, u32)>,
    /// What waits may hold requests that only the leader of this way may make.
    judgements: bool,
    /// What other servers forwarded.
    guests: Guests,
    /// It did not fit into the last entry: it comes first in the next.
    guests_first: bool,
    /// Entries that left, oldest first.
    flights: VecDeque<Flight>,
    next_flight: u64,
    /// Bytes of own requests in all of these.
    held: usize,
    /// The batcher sleeps.
    asleep: bool,
    /// [`ProposeQueue::gather`] runs, and passes on that there is something to send.
    gathering: bool,
    /// It was told so.
    gather_told: bool,
    closed: Option<Unavailable>,
    /// Something was lost, or the disk failed: nothing leaves any more.
    failed: bool,
}

struct Flight {
    number: u64,
    /// Header, own requests, requests of guests.
    body: Bytes,
    own_count: u32,
    /// Bytes of the own requests, with the header.
    own_len: usize,
    guests: Vec<Part>,
    at: At,
    /// How it first left: what a leader judged holds in that leadership only.
    judged: Way,
}

/// An entry that is about to leave, its header still blank.
struct Cut {
    entry: BytesMut,
    count: u32,
    own_count: u32,
    own_len: usize,
    guests: Vec<Part>,
}

/// Where a flight is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Engine,
    Link,
    /// It must be sent again.
    Here,
}

/// Whether only a leader may ask for this.
pub(super) fn is_judgement(txn: &Txn<'_>) -> bool {
    matches!(txn, Txn::ExpireSession { .. } | Txn::Reap { .. })
}

/// These requests without those that only a leader may make: their number and bytes, without a
/// header. `None` if there are none, or if they cannot be read: then apply will say so.
fn without_judgements(requests: &[u8]) -> Option<(u32, BytesMut)> {
    let (mut count, mut kept, mut found) = (0, BytesMut::new(), false);
    let mut rest = requests;
    while !rest.is_empty() {
        let record = rest;
        let proposal = Proposal::decode(&mut rest).ok()?;
        if is_judgement(&proposal.txn) {
            found = true;
        } else {
            count += 1;
            kept.extend_from_slice(record.get(..record.len() - rest.len())?);
        }
    }
    found.then_some((count, kept))
}

impl Inner {
    fn seal(&mut self) {
        if self.open_count > 0 {
            let entry = self.open.split();
            self.sealed.push_back((entry, self.open_count));
            self.open_count = 0;
        }
    }

    fn has_waiting(&self) -> bool {
        self.open_count > 0 || !self.sealed.is_empty()
    }

    fn any_refused(&self) -> bool {
        self.flights.iter().any(|flight| flight.at == At::Here)
    }

    fn any_at(&self, at: At) -> bool {
        self.flights.iter().any(|flight| flight.at == at)
    }

    fn is_through(&self) -> bool {
        self.closed.is_some() && self.flights.is_empty() && !self.has_waiting()
    }

    /// Whether a sleeping batcher would find something to do.
    fn actionable(&self) -> bool {
        if self.failed || self.is_through() {
            return true;
        }
        let room = self.flights.len() < FLIGHTS_MAX;
        match self.way {
            Way::Engine { .. } if self.any_refused() => {
                self.flights.iter().all(|flight| flight.at == At::Here)
            }
            Way::Engine { .. } => room && (self.has_waiting() || self.guests.has_waiting()),
            // What is at the engine lands first, or requests would overtake it.
            Way::Link { .. } => {
                !self.any_at(At::Engine) && (self.any_refused() || (room && self.has_waiting()))
            }
            Way::Nowhere => false,
        }
    }

    /// Cuts the next entry, of own requests and, at the engine, those of guests.
    fn cut(&mut self) -> Option<Cut> {
        let room_for_guests = matches!(self.way, Way::Engine { .. }) && self.guests.has_waiting();
        let mut own = None;
        if !(std::mem::take(&mut self.guests_first) && room_for_guests) {
            if self.sealed.is_empty() {
                self.seal();
            }
            own = self.sealed.pop_front();
        }
        if !room_for_guests {
            return own.map(|(entry, count)| Cut {
                own_len: entry.len(),
                own_count: count,
                count,
                entry,
                guests: Vec::new(),
            });
        }
        let own_count = own.as_ref().map_or(0, |own| own.1);
        let mut entry = own.map_or_else(|| BytesMut::zeroed(Header::LEN), |own| own.0);
        let own_len = entry.len();
        let frames = self.guests.take(own_len, own_count);
        self.guests_first = own_count > 0 && self.guests.has_waiting();
        entry.reserve(frames.iter().map(|frame| frame.requests.len()).sum());
        let mut count = own_count;
        for frame in &frames {
            entry.extend_from_slice(&frame.requests);
            count += frame.count;
        }
        (count > 0).then(|| Cut {
            entry,
            count,
            own_count,
            own_len,
            guests: frames.iter().map(guests::Frame::part).collect(),
        })
    }

    /// Takes note of an entry that leaves; its number.
    fn depart(&mut self, cut: Cut, at: At) -> (u64, Bytes) {
        let number = self.next_flight;
        self.next_flight += 1;
        let body = cut.entry.freeze();
        self.flights.push_back(Flight {
            number,
            body: body.clone(),
            own_count: cut.own_count,
            own_len: cut.own_len,
            guests: cut.guests,
            at,
            judged: self.way,
        });
        (number, body)
    }

    /// The oldest flight that must be sent again, cleaned of what nobody may ask for any more.
    fn refused(&mut self) -> Option<&mut Flight> {
        loop {
            let at = self
                .flights
                .iter()
                .position(|flight| flight.at == At::Here)?;
            let way = self.way;
            let flight = self.flights.get_mut(at)?;
            if flight.judged != way {
                flight.judged = way;
                let requests = flight.body.get(Header::LEN..).unwrap_or_default();
                if let Some((count, kept)) = without_judgements(requests) {
                    self.held = self.held.saturating_sub(requests.len() - kept.len());
                    let mut body = BytesMut::zeroed(Header::LEN);
                    body.extend_from_slice(&kept);
                    flight.own_count = count;
                    flight.own_len = body.len();
                    flight.body = body.freeze();
                }
                if flight.own_count == 0 {
                    self.flights.remove(at);
                    continue;
                }
            }
            return self.flights.get_mut(at);
        }
    }

    /// Drops what waits and only the leader of another way could ask for.
    fn drop_judgements(&mut self) {
        if !std::mem::take(&mut self.judgements) {
            return;
        }
        self.seal();
        let mut dropped = 0;
        for (entry, count) in &mut self.sealed {
            let requests = entry.get(Header::LEN..).unwrap_or_default();
            if let Some((kept_count, kept)) = without_judgements(requests) {
                dropped += requests.len() - kept.len();
                let mut cleaned = BytesMut::zeroed(Header::LEN);
                cleaned.extend_from_slice(&kept);
                (*entry, *count) = (cleaned, kept_count);
            }
        }
        self.sealed.retain(|(_, count)| *count > 0);
        self.held = self.held.saturating_sub(dropped);
    }

    fn fail(&mut self, why: Unavailable) {
        self.failed = true;
        if self.closed.is_none() || !matches!(why, Unavailable::Stopping) {
            self.closed = Some(why);
        }
        self.open = BytesMut::new();
        self.open_count = 0;
        self.sealed.clear();
        self.flights.clear();
        self.guests.refuse_all();
        self.held = 0;
    }
}

impl ProposeQueue {
    /// An empty queue that holds up to `limit` bytes.
    pub(super) fn new(limit: usize) -> ProposeQueue {
        ProposeQueue {
            inner: Mutex::new(Inner {
                way: Way::Engine { term: None },
                judgements: false,
                guests: Guests::default(),
                guests_first: false,
                open: BytesMut::new(),
                open_count: 0,
                sealed: VecDeque::new(),
                flights: VecDeque::new(),
                next_flight: 0,
                held: 0,
                asleep: false,
                gathering: false,
                gather_told: false,
                closed: None,
                failed: false,
            }),
            wake: Notify::new(),
            gather: Notify::new(),
            signs: watch::Sender::new(Signs {
                way: Way::Engine { term: None },
                closed: false,
                failed: false,
            }),
            limit,
            request_limit: REQUEST_BYTES_MAX,
        }
    }

    /// With another bound for one request.
    #[cfg(test)]
    fn with_request_limit(self, request_limit: usize) -> ProposeQueue {
        ProposeQueue {
            request_limit,
            ..self
        }
    }

    /// Takes a request for the log. Returns at once, never waits. Its outcome goes to
    /// [`super::Deliver`].
    ///
    /// # Errors
    /// [`Refused`]: the request has no effect. For a request of a session this is a gap: the
    /// connection must end, because apply takes nothing behind a gap.
    pub(crate) fn push(&self, proposal: &Proposal<'_>) -> Result<(), Refused> {
        self.push_into(self.inner.lock(), proposal)
    }

    /// Takes a request that holds in this leadership only. If the leadership ends before it is in
    /// the log, it is dropped.
    ///
    /// # Errors
    /// [`Refused`]; [`Unavailable::NoLeader`] if this server does not lead this term.
    pub(crate) fn push_in_term(&self, term: u64, proposal: &Proposal<'_>) -> Result<(), Refused> {
        let inner = self.inner.lock();
        match inner.way {
            Way::Engine { term: None } => {}
            Way::Engine { term: Some(now) } if now == term => {}
            _ => return Err(Unavailable::NoLeader.into()),
        }
        self.push_into(inner, proposal)
    }

    #[inline]
    fn push_into(
        &self,
        mut inner: MutexGuard<'_, Inner>,
        proposal: &Proposal<'_>,
    ) -> Result<(), Refused> {
        if let Some(why) = &inner.closed {
            return Err(why.clone().into());
        }
        if is_judgement(&proposal.txn) {
            if !matches!(inner.way, Way::Engine { .. }) {
                return Err(Unavailable::NoLeader.into());
            }
            inner.judgements = true;
        }
        if inner.open_count == 0 {
            if inner.open.capacity() < BLOCK / 16 {
                inner.open = BytesMut::with_capacity(BLOCK);
            }
            inner.open.resize(Header::LEN, 0);
        }
        let start = inner.open.len();
        proposal.encode(&mut inner.open);
        let len = inner.open.len() - start;
        let held = inner.held;
        if len > self.request_limit {
            inner.open.truncate(start);
            return Err(Refused::TooLarge {
                bytes: len,
                limit: self.request_limit,
            });
        }
        // A request that is larger than the whole queue is taken when nothing else waits: the
        // frame limit has judged its size.
        if held + len > self.limit && held > 0 {
            inner.open.truncate(start);
            return Err(Refused::Full {
                held,
                limit: self.limit,
            });
        }
        inner.held += len;
        if inner.open_count > 0 && inner.open.len() > ENTRY_BYTES_MAX {
            let request = inner.open.split_off(start);
            inner.seal();
            let mut open = BytesMut::with_capacity(BLOCK.max(Header::LEN + request.len()));
            open.resize(Header::LEN, 0);
            open.extend_from_slice(&request);
            inner.open = open;
        }
        inner.open_count += 1;
        if inner.open_count >= ENTRY_REQUESTS_MAX || inner.open.len() >= ENTRY_BYTES_MAX {
            inner.seal();
        }
        if inner.gathering {
            self.gather_if_needed(inner);
        } else {
            self.wake_if_needed(inner);
        }
        Ok(())
    }

    /// Bytes waiting and in flight.
    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        self.inner.lock().held
    }

    /// What the batcher does next, if entries still go this way. `stamp` makes the header of an
    /// entry with so many requests.
    pub(super) fn next(&self, way: Way, stamp: impl FnOnce(u32) -> Header) -> Next {
        let inner = &mut *self.inner.lock();
        inner.asleep = false;
        if inner.failed || inner.is_through() {
            return Next::End;
        }
        if inner.way != way {
            return Next::Turn;
        }
        let next = match way {
            Way::Engine { .. } => next_entry(inner, stamp),
            Way::Link { .. } => next_frame(inner),
            Way::Nowhere => None,
        };
        next.unwrap_or_else(|| {
            // What was dropped on the way may have been the last.
            if inner.is_through() {
                return Next::End;
            }
            inner.asleep = true;
            Next::Sleep
        })
    }

    /// Takes note of what became of a flight at the engine.
    pub(super) fn landed(&self, flight: u64, landing: Landing) {
        let mut inner = self.inner.lock();
        let Some(at) = inner.flights.iter().position(|f| f.number == flight) else {
            return;
        };
        match landing {
            Landing::Applied => {
                if let Some(flight) = inner.flights.remove(at) {
                    inner.release(&flight);
                }
            }
            Landing::Refused => inner.refuse(at),
            Landing::Lost => return self.fail_all(inner, Unavailable::Stopping),
        }
        self.wake_if_needed(inner);
    }

    /// The leader has applied all flights up to this one.
    pub(super) fn taken(&self, up_to: u64) {
        let mut inner = self.inner.lock();
        while let Some(first) = inner.flights.front()
            && first.number <= up_to
            && first.at == At::Link
            && let Some(flight) = inner.flights.pop_front()
        {
            inner.release(&flight);
        }
        self.wake_if_needed(inner);
    }

    /// The link is gone: all that went over it and was not taken must be sent again.
    pub(super) fn link_lost(&self) {
        let mut inner = self.inner.lock();
        inner.recall();
        self.wake_if_needed(inner);
    }

    /// From now on entries go this way.
    pub(super) fn turn(&self, way: Way) {
        let mut inner = self.inner.lock();
        if inner.failed || inner.way == way {
            return;
        }
        inner.way = way;
        inner.recall();
        inner.drop_judgements();
        let term = match way {
            Way::Engine { term } => term,
            Way::Link { .. } | Way::Nowhere => None,
        };
        inner.guests.refuse_others(term);
        self.signs.send_modify(|signs| signs.way = way);
        let asleep = std::mem::take(&mut inner.asleep);
        drop(inner);
        if asleep {
            self.wake.notify_one();
        }
    }

    /// Which way entries go.
    pub(super) fn way(&self) -> Way {
        self.inner.lock().way
    }

    /// Returns when entries do not go this way, or nowhere any more.
    pub(super) async fn turned(&self, way: Way) {
        let mut signs = self.signs.subscribe();
        // The sender is a part of this queue.
        let _ = signs
            .wait_for(|signs| signs.way != way || signs.failed)
            .await;
    }

    /// Returns when nothing is taken any more; what waits may still leave.
    pub(super) async fn until_closed(&self) {
        let mut signs = self.signs.subscribe();
        let _ = signs.wait_for(|signs| signs.closed).await;
    }

    /// Whether it is closed and empty.
    pub(super) fn is_through(&self) -> bool {
        let inner = self.inner.lock();
        inner.failed || inner.is_through()
    }

    /// Refuses further requests; what waits still leaves, then the batcher ends.
    pub(super) fn close(&self, why: Unavailable) {
        let mut inner = self.inner.lock();
        inner.closed.get_or_insert(why);
        inner.guests.refuse_all();
        self.signs.send_modify(|signs| signs.closed = true);
        self.wake_if_needed(inner);
    }

    /// Refuses further requests and forgets all that wait. Their outcomes are unknown.
    pub(super) fn fail(&self, why: Unavailable) {
        self.fail_all(self.inner.lock(), why);
    }

    fn fail_all(&self, mut inner: MutexGuard<'_, Inner>, why: Unavailable) {
        inner.fail(why);
        self.signs.send_replace(Signs {
            way: Way::Nowhere,
            closed: true,
            failed: true,
        });
        self.wake_if_needed(inner);
    }

    /// Why it takes nothing, if so.
    pub(super) fn closed(&self) -> Option<Unavailable> {
        self.inner.lock().closed.clone()
    }

    /// Returns when [`ProposeQueue::next`] may have something else to say than [`Next::Sleep`].
    pub(super) async fn wake(&self) {
        self.wake.notified().await;
    }

    /// Wakes the batcher on behalf of those who push, when the runtime that this runs on has seen
    /// to everything that was ready. Without it every first push behind a pause wakes the batcher
    /// at once, and what the other connections are about to push misses the entry.
    ///
    /// # Cancel safety
    /// May be dropped at any time; then pushes wake the batcher themselves.
    pub(crate) async fn gather(&self) {
        let _end = Gathering::begin(self);
        loop {
            self.gather.notified().await;
            // Runs again behind all that is ready now, and what the sockets bring meanwhile.
            tokio::task::yield_now().await;
            let mut inner = self.inner.lock();
            inner.gather_told = false;
            self.wake_if_needed(inner);
        }
    }

    fn gather_if_needed(&self, mut inner: MutexGuard<'_, Inner>) {
        if inner.asleep && !inner.gather_told && inner.actionable() {
            inner.gather_told = true;
            drop(inner);
            self.gather.notify_one();
        }
    }

    fn wake_if_needed(&self, mut inner: MutexGuard<'_, Inner>) {
        if inner.asleep && inner.actionable() {
            inner.asleep = false;
            drop(inner);
            self.wake.notify_one();
        }
    }
}

impl Inner {
    /// A flight has arrived for good.
    fn release(&mut self, flight: &Flight) {
        self.held = self.held.saturating_sub(flight.own_len - Header::LEN);
        self.guests.landed(&flight.guests);
    }

    /// The engine refused the flight at this place: what is ours must be sent again, the guests
    /// send again what is theirs.
    fn refuse(&mut self, at: usize) {
        let Some(flight) = self.flights.get_mut(at) else {
            return;
        };
        self.guests.refuse(&flight.guests);
        flight.guests.clear();
        flight.body.truncate(flight.own_len);
        flight.at = At::Here;
        if flight.own_count == 0 {
            self.flights.remove(at);
        }
    }

    /// All that is on a link must be sent again.
    fn recall(&mut self) {
        for flight in &mut self.flights {
            if flight.at == At::Link {
                flight.at = At::Here;
            }
        }
    }
}

fn next_entry(inner: &mut Inner, stamp: impl FnOnce(u32) -> Header) -> Option<Next> {
    if inner.any_refused() {
        // Everything in flight lands first; then what was refused leaves again, one by one
        // and before anything younger. So no session's requests are reordered.
        if inner.flights.iter().any(|flight| flight.at != At::Here) {
            return None;
        }
        if let Some(first) = inner.refused() {
            first.at = At::Engine;
            let mut body = BytesMut::from(&*first.body);
            stamp(first.own_count).fill(&mut body);
            first.body = body.freeze();
            return Some(Next::Resend {
                flight: first.number,
                body: first.body.clone(),
            });
        }
    }
    if inner.flights.len() >= FLIGHTS_MAX {
        return None;
    }
    let mut cut = inner.cut()?;
    stamp(cut.count).fill(&mut cut.entry);
    let (flight, body) = inner.depart(cut, At::Engine);
    Some(Next::Send { flight, body })
}

fn next_frame(inner: &mut Inner) -> Option<Next> {
    if inner.any_at(At::Engine) {
        return None;
    }
    if let Some(flight) = inner.refused() {
        flight.at = At::Link;
        return Some(Next::Frame {
            number: flight.number,
            count: flight.own_count,
            requests: flight.body.slice(Header::LEN..),
        });
    }
    if inner.flights.len() >= FLIGHTS_MAX {
        return None;
    }
    let cut = inner.cut()?;
    let count = cut.count;
    let (number, body) = inner.depart(cut, At::Link);
    Some(Next::Frame {
        number,
        count,
        requests: body.slice(Header::LEN..),
    })
}

/// While this lives, [`ProposeQueue::gather`] wakes the batcher on behalf of those who push.
struct Gathering<'a>(&'a ProposeQueue);

impl Gathering<'_> {
    fn begin(queue: &ProposeQueue) -> Gathering<'_> {
        queue.inner.lock().gathering = true;
        Gathering(queue)
    }
}

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.inner.lock();
        inner.gathering = false;
        inner.gather_told = false;
        self.0.wake_if_needed(inner);
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
