//! One connection's waiting line: who may go, and in which order.
//!
//! - While a write or a `sync` is unanswered, everything behind it waits in its place, plain reads
//!   too (R1).
//! - A write leaves only when nothing but writes is in front of it; writes behind writes leave at
//!   once (R2).
//!
//! So the writes on their way are always the oldest of what is unanswered, and their replies,
//! queued by apply as they come, are in order by construction.
//!
//! - In a session with linearizable reads, a read waits for its proof in its place ([`Proofs`]).
//!
//! Pings and replies to auth packets take their place in the line as in ZooKeeper, but a ping does
//! not wait behind a stalled write for longer than [`PING_PATIENCE`]: it says that the session is
//! alive, which it is. In an ensemble a leader has to say so first ([`Pings`]); while it is asked,
//! the ping stands outside the line, and nothing waits for it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use quorate_proto::request::Request;
use quorate_proto::{ErrorCode, OpCode, RequestHeader, Xid, Zxid, reply};

use super::Pipeline;
use super::auth::{AuthRefused, ReadMode, WISHES};
use super::pings::Pings;
use super::proofs::{Claim, Proofs};
use super::sasl::{SaslExchange, SaslStep};
use crate::replication::Unavailable;
use crate::sessions::{CloseReason, Conn, Fate, Identities, PAUSE_BYTES, millis};

/// How long a ping keeps its place behind a request that is not answered.
const PING_PATIENCE: Duration = Duration::from_millis(250);
/// How soon to look again when the propose queue was full.
const RETRY: Duration = Duration::from_millis(5);
/// Requests of one connection that may wait here or in the log; above, its socket is not read.
const WAITING_MOST: usize = 1000;
/// Bytes of requests that may wait here.
const WAITING_BYTES_MOST: usize = 4 << 20;

/// Bytes of a connection's identities: each of its writes carries all of them.
const IDENTITIES_BYTES_MAX: usize = 64 << 10;

/// The connection cannot go on: what it sent makes no sense, or what it said last was its last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LineClosed;

/// A request that could not go at once.
struct Waiting {
    xid: Xid,
    read_at: Duration,
    what: What,
}

enum What {
    /// To be run in its turn, with the identities of the moment at which it was read (R14).
    Request {
        op: OpCode,
        body: Bytes,
        identities: Arc<Identities>,
        /// The proof that it waits for.
        claim: Option<Claim>,
    },
    /// Answered already; the reply keeps its place.
    Answered { frame: Bytes, last: bool },
    /// Refused already; its zxid is that of its turn, or it would go back behind a write's (R4).
    Refused { code: ErrorCode },
    /// To be answered in its turn, or when patience ends.
    Ping,
}

/// The line of one connection. Owned by the connection's task.
pub(crate) struct Line {
    pub(super) pipeline: Arc<Pipeline>,
    pub(super) conn: Arc<Conn>,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Pings that wait for a leader's word.
    pings: Pings,
    /// The `sync` at the head of the line.
    sync: Option<Box<Sync>>,
    proofs: Proofs,
    sasl: SaslExchange,
    /// The time of this turn: when its frames were read, or when the line moved on.
    now: Duration,
    /// Number of the next write of this attach.
    pub(super) next_seq: u64,
    /// The propose queue was full: when to look again.
    retry: bool,
    /// The outbox was full while something here could have gone.
    lacked_room: bool,
    /// Nothing that comes from now on is answered: the session is closing, or a last word is due.
    over: bool,
}

struct Sync {
    xid: Xid,
    read_at: Duration,
    path: Option<String>,
    done: Pin<Box<dyn Future<Output = Result<(), Unavailable>> + Send>>,
    /// What `done` came to.
    outcome: Option<Result<(), Unavailable>>,
    /// The report that has to confirm the session: a reply to `sync` proves it (R16).
    confirmed_by: Option<u64>,
}

/// What one request needs to be run.
pub(super) struct Ask<'a> {
    pub(super) xid: Xid,
    pub(super) op: OpCode,
    pub(super) identities: &'a Arc<Identities>,
    pub(super) read_at: Duration,
}

/// What became of a request that was to be run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ran {
    /// Answered, or on its way.
    Yes,
    /// The propose queue is full: it has to wait.
    NotNow,
}

impl Line {
    /// The line of a connection that has just got its session.
    pub(crate) fn new(pipeline: Arc<Pipeline>, conn: Arc<Conn>) -> Line {
        let mut proofs = Proofs::default();
        proofs.set(pipeline.read_mode);
        Line {
            pipeline,
            conn,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            pings: Pings::default(),
            sync: None,
            proofs,
            sasl: SaslExchange::Fresh,
            now: Duration::ZERO,
            next_seq: 1,
            retry: false,
            lacked_room: false,
            over: false,
        }
    }

    /// Takes one frame, read at `now`: runs it, or gives it its place.
    ///
    /// # Errors
    /// [`LineClosed`] if the connection has to close at once.
    pub(crate) fn take(&mut self, payload: &[u8], now: Duration) -> Result<(), LineClosed> {
        if self.over {
            return Ok(());
        }
        if !self.pipeline.sessions.may_answer(&self.conn, now) {
            // Whatever it is, its answer might be believed (R17).
            return Err(LineClosed);
        }
        self.now = now;
        let (header, body) = RequestHeader::decode(payload).map_err(|_| LineClosed)?;
        let xid = header.xid;
        self.pipeline.metrics.packets_received.inc();
        self.conn.stats.received.fetch_add(1, Ordering::Relaxed);
        let op = OpCode::from_code(header.op);
        if !matches!(op, Some(OpCode::Auth | OpCode::Sasl)) && self.must_authenticate() {
            tracing::warn!(session = %self.conn.session(), "closed: authentication is required");
            self.last_word(
                xid,
                Zxid::ZERO,
                ErrorCode::SessionClosedRequireSaslAuth,
                now,
            );
            return Ok(());
        }
        match op {
            // A top-level check is as unknown as an unknown number.
            None | Some(OpCode::Check) => {
                self.last_word(xid, Zxid::NONE, ErrorCode::Unimplemented, now);
            }
            Some(OpCode::Auth) => self.auth(xid, body, now)?,
            Some(OpCode::Sasl) => self.sasl(xid, body, now)?,
            Some(op) => {
                let counted = self.conn.touch(now) || self.pipeline.sessions.in_ensemble();
                if op == OpCode::Ping {
                    if counted {
                        self.ping(now);
                    }
                } else if counted {
                    self.request(xid, op, body, now)?;
                } else {
                    self.refused(xid, now, ErrorCode::SessionExpired);
                }
            }
        }
        Ok(())
    }

    /// Runs what can be run now.
    pub(crate) fn pump(&mut self) {
        self.retry = false;
        self.lacked_room = false;
        if self.waiting.is_empty() && self.pings.is_empty() {
            return;
        }
        self.now = self.pipeline.clock.monotonic();
        if !self.pipeline.sessions.may_answer(&self.conn, self.now) {
            self.conn.outbox().close(CloseReason::CutOff);
            return;
        }
        self.confirmed_pings();
        self.impatient_pings();
        while self.sync.is_none() {
            let Some(first) = self.waiting.front() else {
                return;
            };
            let is_write = matches!(&first.what, What::Request { op, .. } if is_write(*op));
            let (in_flight, unwritten) = {
                let outbox = self.conn.outbox();
                (outbox.in_flight(), outbox.unwritten())
            };
            if in_flight > 0 && !is_write {
                return;
            }
            if let What::Request {
                claim: Some(claim), ..
            } = &first.what
                && !self.proofs.covers(*claim)
            {
                return;
            }
            if unwritten > PAUSE_BYTES {
                self.lacked_room = true;
                return;
            }
            let Some(Waiting { xid, read_at, what }) = self.waiting.pop_front() else {
                return;
            };
            match what {
                What::Ping => self.answer_ping(),
                What::Answered { frame, last } => self.queue_answered(&frame, last),
                What::Refused { code } => self.queue_refused(xid, code),
                What::Request {
                    op,
                    body,
                    identities,
                    claim,
                } => {
                    self.waiting_bytes -= body.len();
                    let ask = Ask {
                        xid,
                        op,
                        identities: &identities,
                        read_at,
                    };
                    if self.run(&ask, &body) == Ran::NotNow {
                        self.waiting_bytes += body.len();
                        let what = What::Request {
                            op,
                            body,
                            identities,
                            claim,
                        };
                        self.waiting.push_front(Waiting { xid, read_at, what });
                        self.retry = true;
                        return;
                    }
                    if !is_write && op != OpCode::Sync {
                        self.count_outstanding(-1);
                    }
                    self.release_large(body.len());
                }
            }
        }
    }

    /// Whether [`Line::pump`] stopped for want of room in the outbox alone: once that is written,
    /// pump again.
    pub(crate) fn lacked_room(&self) -> bool {
        self.lacked_room
    }

    /// Whether the socket may be read: bounds of this connection and of the server.
    pub(crate) fn may_read(&self) -> bool {
        let outstanding = self.conn.stats.outstanding.load(Ordering::Relaxed);
        let limits = &self.pipeline.limits;
        let server = self.pipeline.metrics.outstanding.get();
        let crowded = server > limits.outstanding && outstanding > 0;
        let stalled = limits
            .requests
            .as_ref()
            .is_some_and(|r| server >= i64::from(r.max_requests));
        !crowded
            && !stalled
            && self.waiting.len() + self.pings.len() < WAITING_MOST
            && self.waiting_bytes < WAITING_BYTES_MOST
            && outstanding < WAITING_MOST as u64
            && self.conn.outbox().unwritten() <= PAUSE_BYTES
    }

    /// When to look again though nothing happened on the connection.
    pub(crate) fn next_look(&self) -> Option<Duration> {
        if self.retry {
            return Some(RETRY);
        }
        if let Some(ping) = self.waiting.iter().find(|w| matches!(w.what, What::Ping)) {
            let due = ping.read_at + PING_PATIENCE;
            return Some(due.saturating_sub(self.pipeline.clock.monotonic()));
        }
        let throttle = self.pipeline.limits.requests.as_ref()?;
        let server = self.pipeline.metrics.outstanding.get();
        (server >= i64::from(throttle.max_requests)).then_some(throttle.stall_time)
    }

    /// Waits for what lets the line move on: a proof for its reads, or the `sync` at its head.
    /// Never ready without one.
    pub(crate) fn poll_moves(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let replication = &self.pipeline.replication;
        let proof = self.proofs.poll(cx, || {
            let replication = replication.clone();
            Box::pin(async move { replication.read_index().await })
        });
        match proof {
            Poll::Pending => self.poll_synced(cx),
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Ready(Err(unavailable)) => {
                // Nothing is known about what the others have; another server may know.
                tracing::warn!(session = %self.conn.session(), %unavailable, "no linearizable read");
                self.conn.outbox().close(CloseReason::OutcomeUnknown);
                Poll::Ready(())
            }
        }
    }

    /// Answers the `sync` at the head of the line when it is through.
    fn poll_synced(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(sync) = &mut self.sync else {
            return Poll::Pending;
        };
        if sync.outcome.is_none() {
            sync.outcome = Some(ready!(sync.done.as_mut().poll(cx)));
        }
        let confirmed = self.conn.confirmed.load(Ordering::Acquire);
        if sync.confirmed_by.is_some_and(|round| confirmed < round)
            && matches!(sync.outcome, Some(Ok(())))
        {
            // The connection is told when it is.
            return Poll::Pending;
        }
        if let Some(sync) = self.sync.take() {
            self.answer_sync(*sync);
        }
        Poll::Ready(())
    }

    fn answer_sync(&mut self, sync: Sync) {
        let Sync {
            xid,
            read_at,
            path,
            outcome,
            ..
        } = sync;
        let zxid = self.pipeline.state.applied_zxid();
        self.now = self.pipeline.clock.monotonic();
        self.count_outstanding(-1);
        match outcome {
            None | Some(Ok(())) => {
                let identities = self.conn.identities();
                let ask = Ask {
                    xid,
                    op: OpCode::Sync,
                    identities: &identities,
                    read_at,
                };
                self.reply(&ask, zxid, |w| reply::sync(w, path.as_deref()));
            }
            Some(Err(unavailable)) => {
                // Nothing is known about what the others have; another server may know.
                tracing::warn!(session = %self.conn.session(), %unavailable, "sync failed");
                self.conn.outbox().close(CloseReason::OutcomeUnknown);
            }
        }
    }

    /// The connection is over: whatever waits is not run.
    pub(crate) fn abandon(&mut self) {
        for waiting in self.waiting.drain(..) {
            if let What::Request { body, .. } = &waiting.what {
                let len = body.len();
                if self.pipeline.is_large(len) {
                    self.pipeline.release_large(len);
                }
            }
        }
    }

    /// Nothing of this connection is unanswered.
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.sync.is_none() && self.conn.outbox().in_flight() == 0
    }

    fn request(
        &mut self,
        xid: Xid,
        op: OpCode,
        body: &[u8],
        now: Duration,
    ) -> Result<(), LineClosed> {
        let large = self.pipeline.is_large(body.len());
        if large && !self.pipeline.admit_large(body.len()) {
            tracing::warn!(session = %self.conn.session(), bytes = body.len(), "rejecting large request");
            return Err(LineClosed);
        }
        self.count_outstanding(1);
        let identities = self.conn.identities();
        let claim = self.proofs.claim(op);
        let goes = claim.is_none() && self.waiting.is_empty() && self.sync.is_none() && {
            let outbox = self.conn.outbox();
            if is_write(op) {
                true
            } else {
                outbox.in_flight() == 0 && outbox.unwritten() <= PAUSE_BYTES
            }
        };
        if goes {
            let ask = Ask {
                xid,
                op,
                identities: &identities,
                read_at: now,
            };
            if self.run(&ask, body) == Ran::Yes {
                if !is_write(op) && op != OpCode::Sync {
                    self.count_outstanding(-1);
                }
                self.release_large(body.len());
                return Ok(());
            }
            self.retry = true;
        }
        self.waiting_bytes += body.len();
        let what = What::Request {
            op,
            body: Bytes::copy_from_slice(body),
            identities,
            claim,
        };
        self.waiting.push_back(Waiting {
            xid,
            read_at: now,
            what,
        });
        Ok(())
    }

    /// Runs one request whose turn it is.
    fn run(&mut self, ask: &Ask<'_>, body: &[u8]) -> Ran {
        if let Some(most) = self.pipeline.limits.op_wait
            && ask.op != OpCode::CloseSession
            && self.pipeline.clock.monotonic().saturating_sub(ask.read_at) > most
        {
            self.pipeline.metrics.throttled_ops.inc();
            self.refuse(ask, ErrorCode::ThrottledOp);
            return Ran::Yes;
        }
        if is_write(ask.op) {
            return self.write(ask, body);
        }
        match Request::decode(ask.op, body) {
            Ok(Request::Sync { path }) => {
                let replication = self.pipeline.replication.clone();
                self.sync = Some(Box::new(Sync {
                    xid: ask.xid,
                    read_at: ask.read_at,
                    path: path.map(std::borrow::Cow::into_owned),
                    done: Box::pin(async move { replication.read_index().await }),
                    outcome: None,
                    confirmed_by: self.pipeline.sessions.confirm(&self.conn),
                }));
            }
            Ok(request) => self.read(ask, &request),
            Err(_) if ask.op == OpCode::Sync => {
                self.count_outstanding(-1);
                self.fail(
                    ask,
                    self.pipeline.state.applied_zxid(),
                    ErrorCode::MarshallingError,
                );
            }
            Err(_) => self.fail(
                ask,
                self.pipeline.state.applied_zxid(),
                ErrorCode::MarshallingError,
            ),
        }
        Ran::Yes
    }

    /// Refuses the request at the head of the line; its reply does not overtake those in front.
    pub(super) fn refuse(&mut self, ask: &Ask<'_>, code: ErrorCode) {
        if is_write(ask.op) || ask.op == OpCode::Sync {
            self.count_outstanding(-1);
        }
        // Its own statement: the guard must not outlive the question.
        let in_flight = self.conn.outbox().in_flight();
        if in_flight == 0 {
            self.queue_refused(ask.xid, code);
        } else {
            self.waiting.push_front(Waiting {
                xid: ask.xid,
                read_at: ask.read_at,
                what: What::Refused { code },
            });
        }
    }

    /// Refuses a request that has just come, now or in its turn.
    fn refused(&mut self, xid: Xid, read_at: Duration, code: ErrorCode) {
        if self.is_idle() {
            self.queue_refused(xid, code);
        } else {
            let what = What::Refused { code };
            self.waiting.push_back(Waiting { xid, read_at, what });
        }
    }

    fn queue_refused(&self, xid: Xid, code: ErrorCode) {
        let applied = self.pipeline.state.applied_zxid();
        let mut outbox = self.conn.outbox();
        let zxid = outbox.tell(applied);
        outbox.queue(|out| reply::error(out, xid, zxid, code));
    }

    /// No more requests are taken: the session closes.
    pub(super) fn end(&mut self) {
        self.over = true;
    }

    fn ping(&mut self, now: Duration) {
        match self.pipeline.sessions.confirm(&self.conn) {
            None => self.confirmed_ping(now),
            Some(round) => self.pings.wait(round, now),
        }
    }

    /// A ping that was read then may be answered in its turn.
    fn confirmed_ping(&mut self, read_at: Duration) {
        if self.is_idle() {
            self.answer_ping();
        } else {
            self.waiting.push_back(Waiting {
                xid: Xid::PING,
                read_at,
                what: What::Ping,
            });
        }
    }

    fn confirmed_pings(&mut self) {
        let confirmed = self.conn.confirmed.load(Ordering::Acquire);
        while let Some(read_at) = self.pings.next(confirmed) {
            self.confirmed_ping(read_at);
        }
    }

    fn answer_ping(&mut self) {
        // Marked for expiry while it waited: then nothing is confirmed any more (R16). In an
        // ensemble it was confirmed before it came here.
        let marked = self.conn.expiring.load(Ordering::SeqCst);
        if marked && !self.pipeline.sessions.in_ensemble() {
            return;
        }
        let applied = self.pipeline.state.applied_zxid();
        let mut outbox = self.conn.outbox();
        let zxid = outbox.tell(applied);
        outbox.queue(|out| reply::empty(out, Xid::PING, zxid));
    }

    fn impatient_pings(&mut self) {
        let now = self.now;
        let due = |w: &Waiting| matches!(w.what, What::Ping) && now >= w.read_at + PING_PATIENCE;
        let before = self.waiting.len();
        self.waiting.retain(|waiting| !due(waiting));
        for _ in self.waiting.len()..before {
            self.answer_ping();
        }
    }

    fn auth(&mut self, xid: Xid, body: &[u8], now: Duration) -> Result<(), LineClosed> {
        let Ok(Request::Auth(packet)) = Request::decode(OpCode::Auth, body) else {
            return Err(LineClosed);
        };
        let scheme = packet.scheme.as_deref();
        let brought = if scheme == Some(WISHES) {
            self.wish(packet.auth).map(|()| Vec::new())
        } else {
            let rules = &self.pipeline.rules;
            rules.authenticate(scheme, packet.auth, self.conn.peer.ip())
        };
        let given = brought
            .map(|ids| self.conn.identities().with(ids))
            .and_then(|identities| {
                if identities.encoded_len() > IDENTITIES_BYTES_MAX {
                    return Err(AuthRefused::TooMany);
                }
                Ok(identities)
            });
        match given {
            Ok(identities) => {
                self.conn.set_identities(identities);
                self.answered(xid, now, false, |out| reply::empty(out, xid, Zxid::ZERO));
            }
            Err(refused) => {
                let session = self.conn.session();
                tracing::warn!(%session, ?scheme, %refused, "closed: authentication failed");
                self.pipeline.metrics.auth_failed.inc();
                self.last_word(xid, Zxid::ZERO, ErrorCode::AuthFailed, now);
            }
        }
        Ok(())
    }

    /// How this session is to be served from now on.
    fn wish(&mut self, credentials: Option<&[u8]>) -> Result<(), AuthRefused> {
        let mode = ReadMode::wished(credentials)?;
        // Alone, no other server knows of anything newer.
        if self.pipeline.ensemble.is_some() {
            self.proofs.set(mode);
        }
        Ok(())
    }

    fn sasl(&mut self, xid: Xid, body: &[u8], now: Duration) -> Result<(), LineClosed> {
        let Ok(Request::Sasl(token)) = Request::decode(OpCode::Sasl, body) else {
            return Err(LineClosed);
        };
        let token = token.0.ok_or(LineClosed)?;
        if self.pipeline.sasl_users.is_empty() {
            self.answered(xid, now, false, |out| {
                reply::frame(out, xid, Zxid::ZERO, 0, |w| reply::sasl(w, None));
            });
            return Ok(());
        }
        let nonce = format!("{:032x}", rand::random::<u128>());
        let answer = match self.sasl.step(&self.pipeline.sasl_users, &nonce, token) {
            SaslStep::Challenge(challenge) => Some(challenge),
            SaslStep::Authenticated { user, token } => {
                let mut ids = vec![quorate_proto::Id::new("sasl", user.clone())];
                if self.pipeline.sasl_super_user.as_ref() == Some(&user) {
                    ids.push(quorate_proto::Id::new("super", ""));
                }
                self.conn.set_identities(self.conn.identities().with(ids));
                Some(token)
            }
            SaslStep::Refused if self.pipeline.allow_sasl_failed => None,
            SaslStep::Refused => {
                self.pipeline.metrics.auth_failed.inc();
                self.over = true;
                self.answered(xid, now, true, |out| {
                    let code = ErrorCode::AuthFailed.code();
                    reply::frame(out, xid, Zxid::ZERO, code, |w| reply::sasl(w, None));
                });
                return Ok(());
            }
        };
        self.answered(xid, now, false, |out| {
            reply::frame(out, xid, Zxid::ZERO, 0, |w| {
                reply::sasl(w, answer.as_deref())
            });
        });
        Ok(())
    }

    fn must_authenticate(&self) -> bool {
        let schemes = &self.pipeline.enforce_auth_schemes;
        !schemes.is_empty()
            && !self
                .conn
                .identities()
                .ids()
                .iter()
                .any(|id| schemes.contains(&id.scheme))
    }

    /// An error behind which the connection closes, once what is in front of it is answered.
    fn last_word(&mut self, xid: Xid, zxid: Zxid, code: ErrorCode, now: Duration) {
        self.over = true;
        self.answered(xid, now, true, |out| reply::error(out, xid, zxid, code));
    }

    /// Queues a reply that is known already, now or in its turn.
    fn answered(
        &mut self,
        xid: Xid,
        read_at: Duration,
        last: bool,
        write: impl FnOnce(&mut BytesMut),
    ) {
        let mut frame = BytesMut::new();
        write(&mut frame);
        if self.is_idle() {
            self.queue_answered(&frame, last);
        } else {
            let what = What::Answered {
                frame: frame.freeze(),
                last,
            };
            self.waiting.push_back(Waiting { xid, read_at, what });
        }
    }

    fn queue_answered(&mut self, frame: &[u8], last: bool) {
        let mut outbox = self.conn.outbox();
        outbox.queue(|out| out.extend_from_slice(frame));
        if last && outbox.fate() == Fate::Open {
            outbox.close_after_flush();
        }
    }

    /// Moves the counts of unanswered requests, here and of the server.
    pub(super) fn count_outstanding(&self, by: i64) {
        self.pipeline.metrics.outstanding.add(by);
        if by > 0 {
            self.conn
                .stats
                .outstanding
                .fetch_add(by.unsigned_abs(), Ordering::Relaxed);
        } else {
            self.conn
                .stats
                .outstanding
                .fetch_sub(by.unsigned_abs(), Ordering::Relaxed);
        }
    }

    fn release_large(&self, bytes: usize) {
        if self.pipeline.is_large(bytes) {
            self.pipeline.release_large(bytes);
        }
    }

    /// Notes the answer to a read.
    pub(super) fn note_read(&self, ask: &Ask<'_>, zxid: Zxid) {
        let latency = self.now.saturating_sub(ask.read_at);
        self.conn
            .stats
            .answered(ask.op.code(), ask.xid.0, zxid.0, self.now, latency);
        self.pipeline.metrics.read_latency.record(millis(latency));
    }
}

/// Whether an operation goes through the log.
fn is_write(op: OpCode) -> bool {
    matches!(
        op,
        OpCode::Create
            | OpCode::Create2
            | OpCode::CreateContainer
            | OpCode::CreateTtl
            | OpCode::Delete
            | OpCode::DeleteContainer
            | OpCode::SetData
            | OpCode::SetAcl
            | OpCode::Multi
            | OpCode::Reconfig
            | OpCode::CloseSession
    )
}
