//! What other servers forwarded to this one, while it leads: whole frames, in the order in which
//! each server sent them, until they are applied.
//!
//! A guest is one link. What the engine refuses of it is not tried again here: the guest is
//! refused as a whole, its link is closed, and the server at the other end sends all that it has
//! no word of to whoever leads then.
//!
//! Bounded for each guest: [`FLIGHTS_MAX`] frames, and the bytes of one server's whole queue.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;

use super::{
    ENTRY_BYTES_MAX, ENTRY_REQUESTS_MAX, FLIGHTS_MAX, ProposeQueue, QUEUE_BYTES_MAX, Unavailable,
};

/// Why a frame was not taken; its link must be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::replication) enum Unwelcome {
    /// Something of this guest was refused before, or this server does not lead any more.
    #[error("this server does not take forwarded requests any more")]
    Refused,
    /// More than a server may have untaken.
    #[error("{frames} frames of {bytes} bytes are untaken already")]
    TooMuch { frames: usize, bytes: usize },
    /// Numbers must rise.
    #[error("frame {number} follows frame {last}")]
    OutOfOrder { number: u64, last: u64 },
    /// Nothing is taken any more.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Requests that wait for an entry.
pub(super) struct Frame {
    guest: u64,
    number: u64,
    pub(super) count: u32,
    pub(super) requests: Bytes,
}

impl Frame {
    pub(super) fn part(&self) -> Part {
        Part {
            guest: self.guest,
            number: self.number,
        }
    }
}

/// A frame inside an entry.
pub(super) struct Part {
    guest: u64,
    number: u64,
}

struct Untaken {
    number: u64,
    bytes: usize,
    landed: bool,
}

struct Member {
    term: u64,
    untaken: VecDeque<Untaken>,
    bytes: usize,
    last: Option<u64>,
    /// All up to this one is applied.
    taken: Option<u64>,
    refused: bool,
    news: Arc<Notify>,
}

/// All guests, and what of theirs waits.
#[derive(Default)]
pub(super) struct Guests {
    members: HashMap<u64, Member>,
    frames: VecDeque<Frame>,
    next: u64,
}

impl Guests {
    pub(super) fn has_waiting(&self) -> bool {
        !self.frames.is_empty()
    }

    /// Takes the frames that fit into an entry which holds so much already. Into an empty one
    /// the first fits always.
    pub(super) fn take(&mut self, mut len: usize, mut count: u32) -> Vec<Frame> {
        let mut taken = Vec::new();
        while let Some(frame) = self.frames.front() {
            let fits = len + frame.requests.len() <= ENTRY_BYTES_MAX
                && count.saturating_add(frame.count) <= ENTRY_REQUESTS_MAX;
            if !fits && count > 0 {
                break;
            }
            len += frame.requests.len();
            count += frame.count;
            taken.extend(self.frames.pop_front());
        }
        taken
    }

    pub(super) fn landed(&mut self, parts: &[Part]) {
        for part in parts {
            let Some(member) = self.members.get_mut(&part.guest) else {
                continue;
            };
            let mut untaken = member.untaken.iter_mut();
            if let Some(frame) = untaken.find(|frame| frame.number == part.number) {
                frame.landed = true;
            }
            while let Some(first) = member.untaken.front()
                && first.landed
            {
                member.taken = Some(first.number);
                member.bytes -= first.bytes;
                member.untaken.pop_front();
            }
            member.news.notify_one();
        }
    }

    pub(super) fn refuse(&mut self, parts: &[Part]) {
        for part in parts {
            self.refuse_one(part.guest);
        }
    }

    pub(super) fn refuse_all(&mut self) {
        self.refuse_others(None);
    }

    /// Refuses all that came under another leadership than this.
    pub(super) fn refuse_others(&mut self, term: Option<u64>) {
        let others = self.members.iter();
        let others = others.filter(|(_, member)| Some(member.term) != term);
        let others: Vec<u64> = others.map(|(&id, _)| id).collect();
        for guest in others {
            self.refuse_one(guest);
        }
    }

    fn refuse_one(&mut self, guest: u64) {
        if let Some(member) = self.members.get_mut(&guest)
            && !member.refused
        {
            member.refused = true;
            member.news.notify_one();
            self.frames.retain(|frame| frame.guest != guest);
        }
    }

    fn push(
        &mut self,
        guest: u64,
        number: u64,
        count: u32,
        requests: Bytes,
    ) -> Result<(), Unwelcome> {
        let member = self.members.get_mut(&guest);
        let member = member.filter(|member| !member.refused);
        let member = member.ok_or(Unwelcome::Refused)?;
        if let Some(last) = member.last
            && number <= last
        {
            return Err(Unwelcome::OutOfOrder { number, last });
        }
        let bytes = requests.len();
        let (frames, held) = (member.untaken.len(), member.bytes);
        // As in the queue that this came from: what is larger than all travels alone.
        if frames >= FLIGHTS_MAX || (held + bytes > QUEUE_BYTES_MAX && held > 0) {
            return Err(Unwelcome::TooMuch {
                frames,
                bytes: held,
            });
        }
        member.last = Some(number);
        member.bytes += bytes;
        member.untaken.push_back(Untaken {
            number,
            bytes,
            // Nothing to write: as good as applied once what stands before it is.
            landed: count == 0,
        });
        if count > 0 {
            self.frames.push_back(Frame {
                guest,
                number,
                count,
                requests,
            });
        } else {
            self.landed(&[Part { guest, number }]);
        }
        Ok(())
    }
}

/// One link to this server over which requests come. Dropped, what waits of it is forgotten.
pub(in crate::replication) struct Guest {
    queue: Arc<ProposeQueue>,
    id: u64,
    news: Arc<Notify>,
}

impl Guest {
    /// A guest of the leadership of `term`.
    pub(in crate::replication) fn admit(queue: &Arc<ProposeQueue>, term: u64) -> Guest {
        let news = Arc::new(Notify::new());
        let mut inner = queue.inner.lock();
        let id = inner.guests.next;
        inner.guests.next += 1;
        inner.guests.members.insert(
            id,
            Member {
                term,
                untaken: VecDeque::new(),
                bytes: 0,
                last: None,
                taken: None,
                refused: false,
                news: news.clone(),
            },
        );
        drop(inner);
        Guest {
            queue: queue.clone(),
            id,
            news,
        }
    }

    /// Takes the requests of a frame, which apply must be able to read.
    ///
    /// # Errors
    /// [`Unwelcome`]: the link must be closed.
    pub(in crate::replication) fn push(
        &self,
        number: u64,
        count: u32,
        requests: Bytes,
    ) -> Result<(), Unwelcome> {
        let mut inner = self.queue.inner.lock();
        if let Some(why) = &inner.closed {
            return Err(why.clone().into());
        }
        inner.guests.push(self.id, number, count, requests)?;
        // It was gathered where it came from.
        self.queue.wake_if_needed(inner);
        Ok(())
    }

    /// Tells what becomes of this guest's frames. For one listener.
    pub(in crate::replication) fn news(&self) -> GuestNews {
        GuestNews {
            queue: self.queue.clone(),
            id: self.id,
            news: self.news.clone(),
            told: None,
        }
    }
}

/// See [`Guest::news`].
pub(in crate::replication) struct GuestNews {
    queue: Arc<ProposeQueue>,
    id: u64,
    news: Arc<Notify>,
    told: Option<u64>,
}

impl GuestNews {
    /// The number up to which all frames are applied, once it is higher than what was told
    /// before; `None` when this guest was refused and its link must be closed.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(in crate::replication) async fn next(&mut self) -> Option<u64> {
        loop {
            if let Some(news) = self.look() {
                return news.ok();
            }
            self.news.notified().await;
        }
    }

    /// What [`GuestNews::next`] would say at once.
    pub(in crate::replication) fn look(&mut self) -> Option<Result<u64, Unwelcome>> {
        let inner = self.queue.inner.lock();
        let member = inner.guests.members.get(&self.id);
        let Some(member) = member.filter(|member| !member.refused) else {
            return Some(Err(Unwelcome::Refused));
        };
        let taken = member.taken.filter(|_| member.taken > self.told)?;
        self.told = Some(taken);
        Some(Ok(taken))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut inner = self.queue.inner.lock();
        inner.guests.refuse_one(self.id);
        inner.guests.members.remove(&self.id);
    }
}
