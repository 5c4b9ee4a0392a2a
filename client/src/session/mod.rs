//! One session: a task that owns the socket, and the handle that requests go through.
//!
//! ```text
//! operation ── submit ──► queue ──► task ──► socket
//!     ▲                              │
//!     └────────── slot ◄─────────────┘    watches ──► streams and futures
//! ```
//!
//! Requests leave in the order in which they were submitted, however their futures are polled.
//! What the task knows lies in plain structs without a runtime: [`link`] (which request is open,
//! when to ping), [`trust`] (until when the session is ours), [`watches`] (who waits for what).
//!
//! Bounds: the queue holds [`Settings::waiting_max`] requests, sent or not, and
//! [`Settings::waiting_bytes_max`] of those that have not left, and refuses more;
//! notices of a slow consumer collapse into a gap; everything else is bounded by what the caller
//! holds in hand.

mod attach;
mod dial;
mod ending;
mod link;
mod listen;
mod reach;
mod slot;
mod speak;
mod state;
mod task;
mod trust;
mod watches;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use quorate_proto::frame::{FrameError, PREFIX_LEN};
use quorate_proto::{AddWatchMode, OpCode, Request, SessionId, Xid, Zxid};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::auth::{AuthProvider, Credential};
use crate::error::{Context, Error, Outcome, Reason};
use crate::hosts::EnsembleProvider;
use crate::metrics;
use crate::root::Root;
use crate::transport::Connector;
use crate::watch::NoticeQueue;

pub(crate) use slot::Answer;
pub(crate) use slot::Orphan;
use slot::Slot;
pub use state::{SessionInfo, SessionState, Status};
pub(crate) use task::spawn;
pub(crate) use watches::{Fire, Table, table_of};

/// What a session is made with.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) session_timeout: Duration,
    pub(crate) connector: Connector,
    pub(crate) servers: Vec<crate::hosts::HostPort>,
    /// Asked for the servers at the start and after every round of failures.
    pub(crate) ensemble: Option<Arc<dyn EnsembleProvider>>,
    pub(crate) auth: Option<Arc<dyn AuthProvider>>,
    pub(crate) sasl: Option<SaslLogin>,
    pub(crate) may_be_read_only: bool,
    pub(crate) new_session_on_loss: bool,
    pub(crate) resume: Option<SessionInfo>,
    /// Requests that may wait for an answer, sent or not.
    pub(crate) waiting_max: usize,
    /// Bytes of requests that may wait to be sent.
    pub(crate) waiting_bytes_max: usize,
    /// The largest payload that servers read.
    pub(crate) request_bytes_max: usize,
    /// The largest payload that this client reads.
    pub(crate) reply_bytes_max: usize,
    /// How long a close waits for the server's answer.
    pub(crate) close_timeout: Duration,
}

/// User and password for SASL DIGEST-MD5.
#[derive(Clone)]
pub(crate) struct SaslLogin {
    pub(crate) user: String,
    pub(crate) password: String,
}

/// Hides the password.
impl std::fmt::Debug for SaslLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SaslLogin({})", self.user)
    }
}

/// Room for a path of some length and a small value.
const FRAME_BYTES_USUAL: usize = 256;

/// A request as it is handed to the task.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) op: OpCode,
    /// The whole frame; the xid is put in when it leaves.
    pub(crate) frame: BytesMut,
    /// The watch that a good reply arms.
    pub(crate) arm: Option<Arm>,
    /// The generation of the session that it belongs to, if only that one will do.
    pub(crate) generation: Option<u64>,
    /// What becomes of the answer when nobody waits for it any more.
    pub(crate) orphan: Option<Orphan>,
}

impl Submission {
    pub(crate) fn new(request: &Request<'_>) -> Result<Submission, FrameError> {
        // Most requests fit, and are not moved while they are written.
        let mut frame = BytesMut::with_capacity(FRAME_BYTES_USUAL);
        request.write_frame(&mut frame, Xid(0))?;
        Ok(Submission {
            op: request.op(),
            frame,
            arm: None,
            generation: None,
            orphan: None,
        })
    }
}

/// A watch to arm when the reply comes. Paths are the server's.
#[derive(Debug)]
pub(crate) enum Arm {
    /// By getData (`Table::Data`), exists (`Table::Data`, also when missing) or getChildren.
    Once {
        path: Arc<str>,
        id: u64,
        table: Table,
        exists: bool,
        fire: Fire,
    },
    Lasting {
        path: Arc<str>,
        id: u64,
        mode: AddWatchMode,
        queue: Arc<NoticeQueue>,
    },
}

impl Arm {
    /// Whether somebody still holds the other end: a watch that was dropped took itself off
    /// already, in vain, and must not be armed behind that.
    fn is_wanted(&self) -> bool {
        match self {
            Arm::Once { fire, .. } => !fire.is_closed(),
            Arm::Lasting { queue, .. } => Arc::strong_count(queue) > 1,
        }
    }

    fn place(&self) -> (&Arc<str>, Table, u64) {
        match self {
            Arm::Once {
                path, table, id, ..
            } => (path, *table, *id),
            Arm::Lasting { path, mode, id, .. } => (path, table_of(*mode), *id),
        }
    }
}

/// A reply, its code not yet judged.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) xid: Xid,
    pub(crate) zxid: Zxid,
    pub(crate) err: i32,
    pub(crate) body: Bytes,
    pub(crate) server: Arc<str>,
    /// The session that it was answered in.
    pub(crate) session: SessionId,
    /// Its generation.
    pub(crate) generation: u64,
}

/// Why a request was not answered.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// Whether it had left.
    pub(crate) sent: bool,
    /// Whether the session that it belonged to is over.
    pub(crate) session_gone: bool,
    pub(crate) reason: Reason,
    pub(crate) server: Arc<str>,
}

#[derive(Debug)]
struct Queued {
    submission: Submission,
    slot: Option<Slot>,
    /// The generation that it was submitted in.
    generation: u64,
}

#[derive(Debug, Default)]
struct Queue {
    requests: VecDeque<Queued>,
    /// Of the frames in `requests`.
    bytes: usize,
    /// Watches to take off: at most as many as there were.
    unwatch: Vec<(Arc<str>, Table, u64)>,
    /// No request comes after a close.
    is_closed: bool,
    /// Why, where it was not a close of ours.
    over: Option<Reason>,
    /// How the session before this generation ended.
    last_loss: Option<Reason>,
    /// The generation of the session that stands or is coming, from 1.
    generation: u64,
    /// The last session that was given up here, by its generation, and until when a server may
    /// keep it.
    given_up: Option<(u64, Instant)>,
    /// Credentials that were added by hand, sent on every connection.
    credentials: Vec<Credential>,
}

impl Queue {
    fn push(&mut self, queued: Queued) {
        self.bytes += queued.submission.frame.len();
        self.requests.push_back(queued);
    }

    fn pop(&mut self) -> Option<Queued> {
        let queued = self.requests.pop_front()?;
        self.bytes = self.bytes.saturating_sub(queued.submission.frame.len());
        Some(queued)
    }

    /// Takes out those that are not to stay.
    fn take_out(&mut self, mut stays: impl FnMut(&Queued) -> bool) -> Vec<Queued> {
        let (stay, out) = self.requests.drain(..).partition(|queued| stays(queued));
        self.requests = stay;
        self.bytes = self.requests.iter().map(|q| q.submission.frame.len()).sum();
        Vec::from(out)
    }

    fn lost_reason(&self) -> Reason {
        let reason = self.last_loss.clone();
        reason.unwrap_or(Reason::SessionExpired(SessionId::NONE))
    }
}

/// What the handle and the task share.
#[derive(Debug)]
pub(crate) struct Session {
    settings: Settings,
    queue: Mutex<Queue>,
    /// Wakes the task: something was queued.
    wake: Notify,
    status: watch::Sender<Status>,
    /// When the session's locks can go to another, as nanoseconds after `epoch`; 0: unproven.
    trusted_until: AtomicU64,
    epoch: Instant,
    /// Requests in the queue and on their way.
    waiting: AtomicUsize,
    next_watch: AtomicU64,
    watches_held: AtomicUsize,
    /// Holders who want the session proven all the time.
    trust_holders: AtomicUsize,
    info: Mutex<Option<SessionInfo>>,
    new_servers: Mutex<Option<Vec<crate::hosts::HostPort>>>,
    /// The task is told to leave at once.
    abort: AtomicBool,
}

impl Session {
    pub(crate) fn new(settings: Settings) -> Arc<Session> {
        let status = Status {
            state: SessionState::Connecting,
            session: None,
            generation: 1,
            server: Arc::from(""),
            reason: None,
        };
        let queue = Queue {
            generation: 1,
            ..Queue::default()
        };
        Arc::new(Session {
            settings,
            queue: Mutex::new(queue),
            wake: Notify::new(),
            status: watch::Sender::new(status),
            trusted_until: AtomicU64::new(0),
            epoch: Instant::now(),
            waiting: AtomicUsize::new(0),
            next_watch: AtomicU64::new(1),
            watches_held: AtomicUsize::new(0),
            trust_holders: AtomicUsize::new(0),
            info: Mutex::default(),
            new_servers: Mutex::default(),
            abort: AtomicBool::new(false),
        })
    }

    /// Queues a request. It leaves in this order, as soon as there is a connection.
    pub(crate) fn submit(&self, mut submission: Submission) -> Answer {
        let (slot, answer) = slot::slot(submission.orphan.take());
        let refusal = self.enqueue(submission, slot);
        if let Some((slot, failure)) = refusal {
            slot.fill(Err(failure));
        }
        answer
    }

    fn enqueue(&self, submission: Submission, slot: Slot) -> Option<(Slot, Failure)> {
        let refuse = |slot, session_gone, reason| {
            let failure = Failure {
                sent: false,
                session_gone,
                reason,
                server: Arc::from(""),
            };
            Some((slot, failure))
        };
        let bytes = submission.frame.len().saturating_sub(PREFIX_LEN);
        let limit = self.settings.request_bytes_max;
        if bytes > limit {
            return refuse(slot, false, Reason::TooLarge { bytes, limit });
        }
        let mut queue = self.queue.lock();
        if queue.is_closed {
            let reason = queue.over.clone().unwrap_or(Reason::Closed);
            let session_gone = !matches!(reason, Reason::Closed);
            return refuse(slot, session_gone, reason);
        }
        let generation = submission.generation.unwrap_or(queue.generation);
        if generation < queue.generation {
            let reason = queue.lost_reason();
            return refuse(slot, true, reason);
        }
        let waiting = self.waiting.load(Ordering::Relaxed);
        let is_full =
            queue.bytes > 0 && queue.bytes.saturating_add(bytes) > self.settings.waiting_bytes_max;
        if waiting >= self.settings.waiting_max || is_full {
            return refuse(slot, false, Reason::TooManyWaiting { waiting });
        }
        let was_empty = queue.requests.is_empty();
        queue.push(Queued {
            submission,
            slot: Some(slot),
            generation,
        });
        self.waiting.fetch_add(1, Ordering::Relaxed);
        metrics::waiting_grew(1);
        drop(queue);
        if was_empty {
            self.wake.notify_one();
        }
        None
    }

    /// Sends closeSession behind all that was submitted. Nothing can be submitted after it.
    pub(crate) fn close(&self) {
        let Ok(submission) = Submission::new(&Request::CloseSession) else {
            unreachable!("a header fits into a frame");
        };
        let mut queue = self.queue.lock();
        if queue.is_closed {
            return;
        }
        queue.is_closed = true;
        let generation = queue.generation;
        queue.push(Queued {
            submission,
            slot: None,
            generation,
        });
        drop(queue);
        // Whatever else waits: a task that has no connection must learn that it has little time.
        self.wake.notify_one();
    }

    /// So many requests do not wait any more.
    fn answered(&self, requests: usize) {
        self.waiting.fetch_sub(requests, Ordering::Relaxed);
        metrics::waiting_shrank(requests);
    }

    fn set_watches_held(&self, watches: usize) {
        let before = self.watches_held.swap(watches, Ordering::Relaxed);
        metrics::watches_changed(before, watches);
    }

    /// How the session of an earlier generation ended, as far as is still known.
    pub(crate) fn lost_reason(&self) -> Reason {
        self.queue.lock().lost_reason()
    }

    pub(crate) fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// The session, if there is one now.
    pub(crate) fn info(&self) -> Option<SessionInfo> {
        *self.info.lock()
    }

    /// The generation that a request submitted now belongs to.
    pub(crate) fn generation(&self) -> u64 {
        self.queue.lock().generation
    }

    /// Until when a server may still do what it was asked in a session that is over here; `None`
    /// if it does nothing more for this one.
    pub(crate) fn may_live_until(&self, generation: u64) -> Option<Instant> {
        let given_up = self.queue.lock().given_up;
        // An earlier session was given up earlier.
        given_up.and_then(|(last, until)| (generation <= last).then_some(until))
    }

    /// Until when no other session can take this one's locks.
    pub(crate) fn trusted_until(&self) -> Option<Instant> {
        match self.trusted_until.load(Ordering::Acquire) {
            0 => None,
            nanos => Some(self.epoch + Duration::from_nanos(nanos)),
        }
    }

    fn set_trusted_until(&self, until: Option<Instant>) {
        let nanos = until.map_or(0, |until| {
            let nanos = until.saturating_duration_since(self.epoch).as_nanos();
            u64::try_from(nanos).unwrap_or(u64::MAX).max(1)
        });
        self.trusted_until.store(nanos, Ordering::Release);
    }

    /// While holders are counted, the session is proven often enough to be trusted all the time.
    pub(crate) fn hold_trust(&self) {
        self.trust_holders.fetch_add(1, Ordering::Relaxed);
        self.wake.notify_one();
    }

    pub(crate) fn release_trust(&self) {
        self.trust_holders.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn watches_held(&self) -> usize {
        self.watches_held.load(Ordering::Relaxed)
    }

    pub(crate) fn next_watch_id(&self) -> u64 {
        self.next_watch.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn opens_new_sessions(&self) -> bool {
        self.settings.new_session_on_loss
    }

    pub(crate) fn reply_bytes_max(&self) -> usize {
        self.settings.reply_bytes_max
    }

    pub(crate) fn close_timeout(&self) -> Duration {
        self.settings.close_timeout
    }

    /// Adds credentials to those sent on every later connection.
    pub(crate) fn remember_credential(&self, credential: Credential) {
        let mut queue = self.queue.lock();
        if !queue.credentials.contains(&credential) {
            queue.credentials.push(credential);
        }
    }

    /// Replaces the list of servers. A connected server that is not in it is left.
    pub(crate) fn set_servers(&self, servers: Vec<crate::hosts::HostPort>) {
        *self.new_servers.lock() = Some(servers);
        self.wake.notify_one();
    }

    /// Asks the task to end at once, without a word to the server.
    pub(crate) fn abort(&self) {
        self.abort.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }

    fn unwatch(&self, path: Arc<str>, table: Table, id: u64) {
        let mut queue = self.queue.lock();
        // Nothing is held any more, and nobody would take this out again.
        if queue.over.is_some() {
            return;
        }
        queue.unwatch.push((path, table, id));
        drop(queue);
        self.wake.notify_one();
    }
}

/// Takes a watch off when it is dropped.
#[derive(Debug)]
pub(crate) struct Unwatch {
    session: Arc<Session>,
    path: Arc<str>,
    table: Table,
    id: u64,
    is_armed: bool,
}

impl Unwatch {
    pub(crate) fn new(session: Arc<Session>, path: Arc<str>, table: Table, id: u64) -> Unwatch {
        Unwatch {
            session,
            path,
            table,
            id,
            is_armed: true,
        }
    }

    /// The watch has fired or ended: nothing is to be taken off.
    pub(crate) fn disarm(&mut self) {
        self.is_armed = false;
    }

    pub(crate) fn session_gone(&self, reason: Reason, root: &Root) -> Error {
        let context = Context {
            op: "watch",
            path: root.strip(&self.path).to_owned(),
            ..Context::default()
        };
        Error::SessionGone {
            reason,
            outcome: Outcome::DidNotHappen,
            context: Box::new(context),
        }
    }
}

impl Drop for Unwatch {
    fn drop(&mut self) {
        if self.is_armed {
            self.session
                .unwatch(Arc::clone(&self.path), self.table, self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::client::Client;

    #[tokio::test]
    async fn behind_the_end_nothing_is_noted_that_nobody_would_take_out() {
        let client = Client::builder("127.0.0.1:1").start().unwrap();
        client.clone().close().await.unwrap();
        for _ in 0..8 {
            assert!(client.watch("/a").await.is_err());
            assert!(client.get("/a").watch().await.is_err());
        }
        assert!(client.session().queue.lock().unwatch.is_empty());
    }
}
