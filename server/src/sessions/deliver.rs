//! The way back: what apply made of requests becomes frames in outboxes.
//!
//! Called by the one apply task of the server. Results never travel between servers: each computes
//! the same one, and the server that took the request answers it, matched by session, attach and
//! number (R11).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use quorate_proto::{
    Acl, ConnectResponse, ErrorCode, EventType, Perms, SessionId, Xid, Zxid, reply,
};

use super::conn::{Attachment, Conn, millis};
use super::outbox::{CloseReason, Fate, InFlight};
use super::{DIGEST_EVERY, DIGESTS_MOST, Handshake, Sessions};
use crate::replication::Deliver;
use crate::tree::State;
use crate::tree::txn::{Op, OpResult, Origin, Outcome, Proposal, Ticket, Txn, Verdict};
use crate::watches::ConnId;

/// Fills the outboxes of this server from what is applied.
pub(crate) struct Delivery {
    sessions: Arc<Sessions>,
    state: Arc<State>,
    /// Connections to wake at the end of the turn.
    dirty: Vec<Arc<Conn>>,
    /// Sessions whose writes this turn applied, with attach and number, for the judge.
    wrote: Vec<(SessionId, u32, u64)>,
    /// Whom the change at hand concerns; kept for its capacity.
    recipients: Vec<ConnId>,
    /// The event at hand, encoded once for all of them.
    event: BytesMut,
    /// The time of this turn, read at its first outcome.
    now: Option<Duration>,
    /// The zxid of the last recorded digest.
    recorded: Zxid,
}

impl Delivery {
    /// The delivery of a server; apply owns it.
    pub(crate) fn new(sessions: Arc<Sessions>, state: Arc<State>) -> Delivery {
        let now_ms = millis(sessions.clock.monotonic());
        start_all(&sessions, &state, now_ms);
        Delivery {
            sessions,
            state,
            dirty: Vec::new(),
            wrote: Vec::new(),
            recipients: Vec::new(),
            event: BytesMut::new(),
            now: None,
            recorded: Zxid::ZERO,
        }
    }

    fn now(&mut self) -> Duration {
        let clock = &self.sessions.clock;
        *self.now.get_or_insert_with(|| clock.monotonic())
    }

    /// The connection that sent a request, if it is here and still of that attach.
    fn origin(&self, origin: Origin) -> Option<Arc<Conn>> {
        let conn = self.sessions.by_session(origin.session)?;
        (conn.attachment.get()?.attach == origin.attach).then_some(conn)
    }

    /// Takes the handshake with this ticket, if this start of this server handed it out.
    fn handshake(&self, ticket: Ticket) -> Option<Handshake> {
        let ours = ticket.server == self.sessions.server && ticket.boot == self.sessions.boot;
        ours.then(|| self.sessions.handshakes.lock().remove(&ticket.count))
            .flatten()
    }

    /// Keeps the digest of the tree every so often. Nothing else is applied meanwhile, so zxid and
    /// digest belong together.
    fn record_digest(&mut self) {
        let zxid = self.state.applied_zxid();
        if zxid.0 / DIGEST_EVERY == self.recorded.0 / DIGEST_EVERY {
            return;
        }
        self.recorded = zxid;
        let mut digests = self.sessions.digests.lock();
        if digests.len() == DIGESTS_MOST {
            digests.pop_front();
        }
        digests.push_back((zxid, self.state.tree().digest()));
    }

    fn answer(&mut self, proposal: &Proposal<'_>, zxid: Zxid, outcome: &Outcome) {
        let Some(conn) = self.origin(proposal.origin) else {
            return;
        };
        self.reply(&conn, proposal.origin.seq, zxid, |out, xid, zxid| {
            write_outcome(out, xid, zxid, proposal, outcome);
        });
    }

    /// Queues the reply to write `seq` of a connection.
    fn reply(
        &mut self,
        conn: &Arc<Conn>,
        seq: u64,
        zxid: Zxid,
        write: impl FnOnce(&mut BytesMut, Xid, Zxid),
    ) {
        let now = self.now();
        let mut outbox = conn.outbox();
        let Some(InFlight {
            xid, op, read_at, ..
        }) = outbox.answered(seq)
        else {
            return;
        };
        outbox.tell(zxid);
        outbox.queue(|out| write(out, xid, zxid));
        // Under the outbox: whoever takes the connection down counts what is left behind this.
        conn.stats.outstanding.fetch_sub(1, Ordering::Relaxed);
        drop(outbox);
        let latency = now.saturating_sub(read_at);
        conn.stats.answered(op.code(), xid.0, zxid.0, now, latency);
        let metrics = &self.sessions.metrics;
        metrics.outstanding.add(-1);
        metrics.update_latency.record(millis(latency));
        self.mark(conn);
    }

    fn mark(&mut self, conn: &Arc<Conn>) {
        mark(&mut self.dirty, conn);
    }

    /// The session belongs to the connection of this handshake from now on.
    fn attached(&mut self, ticket: Ticket, attachment: Attachment, password: [u8; 16]) {
        let Attachment {
            session,
            attach,
            timeout,
        } = attachment;
        let now = self.now();
        self.sessions
            .live
            .lock()
            .start(session, attach, millis(timeout), millis(now));
        let handshake = self.handshake(ticket);
        let mut by_session = self.sessions.by_session.write();
        // Whoever stood for the session until now, here, does so no more.
        if let Some(former) = by_session.remove(&session) {
            former.close(CloseReason::Moved);
        }
        let Some(Handshake {
            conn,
            read_only,
            last_zxid_seen,
        }) = handshake
        else {
            return;
        };
        let is_fresh = self.sessions.is_fresh(now);
        let mut outbox = conn.outbox();
        if outbox.fate() != Fate::Open {
            return;
        }
        if !is_fresh {
            outbox.close(CloseReason::CutOff);
        } else if last_zxid_seen > self.state.applied_zxid() {
            // It comes from another history: everything that ours committed is applied here.
            outbox.close(CloseReason::Moved);
        } else {
            conn.heard_ms.store(millis(now), Ordering::SeqCst);
            // Cannot be set already: a connection makes one handshake.
            let _ = conn.attachment.set(attachment);
            let response = ConnectResponse {
                timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
                session,
                password,
                read_only: read_only.map(|_| false),
            };
            outbox.queue(|out| response.write_frame(out));
            drop(outbox);
            by_session.insert(session, conn.clone());
        }
        drop(by_session);
        self.mark(&conn);
    }

    fn attach_refused(&mut self, ticket: Ticket) {
        let Some(Handshake {
            conn, read_only, ..
        }) = self.handshake(ticket)
        else {
            return;
        };
        {
            let mut outbox = conn.outbox();
            outbox.queue(|out| ConnectResponse::refused(read_only.map(|_| false)).write_frame(out));
            outbox.close_after_flush();
        }
        self.mark(&conn);
    }

    fn closed(&mut self, proposal: &Proposal<'_>, zxid: Zxid, session: SessionId) {
        self.sessions.live.lock().end(session);
        let by_client = matches!(proposal.txn, Txn::CloseSession);
        if !by_client {
            self.sessions.metrics.sessions_expired.inc();
        }
        let own = if by_client {
            self.origin(proposal.origin)
        } else {
            None
        };
        let conn = self.sessions.by_session.write().remove(&session);
        if let Some(conn) = own {
            self.reply(&conn, proposal.origin.seq, zxid, |out, xid, zxid| {
                reply::empty(out, xid, zxid);
            });
            conn.outbox().close_after_flush();
            self.mark(&conn);
        } else if let Some(conn) = conn {
            conn.close(CloseReason::Expired);
        }
    }
}

impl Deliver for Delivery {
    fn change(&mut self, zxid: Zxid, event: EventType, path: &str, acl: &[Acl]) {
        // Held until all are told: numbers are used again, and one that becomes free between the
        // table of watches and here would be another client's.
        let conns = self.sessions.conns.read();
        self.sessions
            .watches
            .fire(event, path, &mut self.recipients);
        if self.recipients.is_empty() {
            return;
        }
        self.event.clear();
        reply::notification(&mut self.event, zxid, event, path);
        let recipients = std::mem::take(&mut self.recipients);
        for &id in &recipients {
            let Some(conn) = conns.get(id) else {
                continue;
            };
            // Judged with what the receiver may read now; its one-shot watch is gone either way.
            if conn.identities().caller().allows(acl, Perms::READ) {
                conn.outbox().queue_event(&self.event);
                self.sessions.metrics.watch_events.inc();
                mark(&mut self.dirty, conn);
            }
        }
        drop(conns);
        self.recipients = recipients;
    }

    fn outcome(&mut self, proposal: &Proposal<'_>, verdict: &Verdict) {
        match (verdict, &proposal.txn) {
            (Verdict::Judged { zxid, outcome }, _) => {
                if self.sessions.counts_writes() {
                    let Origin {
                        session,
                        attach,
                        seq,
                    } = proposal.origin;
                    self.wrote.push((session, attach, seq));
                }
                self.answer(proposal, *zxid, outcome);
            }
            (
                Verdict::Opened {
                    session,
                    timeout_ms: timeout,
                    password,
                    ..
                },
                Txn::OpenSession { ticket, .. },
            ) => {
                let timeout = Duration::from_millis(timeout_ms(*timeout));
                let attachment = Attachment {
                    session: *session,
                    attach: 1,
                    timeout,
                };
                self.attached(*ticket, attachment, *password);
            }
            (
                Verdict::Attached {
                    session,
                    attach,
                    timeout_ms: timeout,
                    password,
                },
                Txn::Attach { ticket, .. },
            ) => {
                let timeout = Duration::from_millis(timeout_ms(*timeout));
                let attachment = Attachment {
                    session: *session,
                    attach: *attach,
                    timeout,
                };
                self.attached(*ticket, attachment, *password);
            }
            (Verdict::AttachRefused, Txn::Attach { ticket, .. }) => self.attach_refused(*ticket),
            (Verdict::Closed { zxid, session }, _) => self.closed(proposal, *zxid, *session),
            (Verdict::Stale, _) => {
                if let Some(conn) = self.origin(proposal.origin) {
                    conn.close(CloseReason::OutcomeUnknown);
                }
            }
            (Verdict::Void, Txn::ExpireSession { session, judged }) => {
                self.sessions.not_expired(*session, *judged);
            }
            // Opened and attached come with the transactions that ask for them, nothing else does.
            (
                Verdict::Opened { .. }
                | Verdict::Attached { .. }
                | Verdict::AttachRefused
                | Verdict::Duplicate
                | Verdict::Void,
                _,
            ) => {}
        }
    }

    fn turn_done(&mut self) {
        if !self.wrote.is_empty() {
            let now = self.now();
            self.sessions.wrote(&mut self.wrote, now);
        }
        self.now = None;
        self.record_digest();
        for conn in self.dirty.drain(..) {
            conn.wake.wake();
        }
    }

    fn skipped(&mut self) {
        self.sessions.close_all(CloseReason::OutcomeUnknown);
        // Their entries may be among those that are skipped: nobody would answer them.
        self.sessions.abandon_writes();
    }

    fn resumed(&mut self) {
        let now_ms = millis(self.sessions.clock.monotonic());
        self.sessions.live.lock().clear();
        start_all(&self.sessions, &self.state, now_ms);
    }

    fn lost(&mut self) {
        self.sessions.abandon_writes();
    }
}

/// Whoever has a session when this server starts to judge gets the full timeout.
fn start_all(sessions: &Sessions, state: &State, now_ms: u64) {
    let all = state.sessions();
    let mut live = sessions.live.lock();
    for (session, info) in all {
        live.start(session, info.attach, timeout_ms(info.timeout_ms), now_ms);
    }
}

/// Has a connection woken at the end of the turn.
fn mark(dirty: &mut Vec<Arc<Conn>>, conn: &Arc<Conn>) {
    if !dirty.last().is_some_and(|last| Arc::ptr_eq(last, conn)) {
        dirty.push(conn.clone());
    }
}

fn timeout_ms(timeout: i32) -> u64 {
    u64::try_from(timeout).unwrap_or(0)
}

/// Writes the reply to a client's write.
fn write_outcome(
    out: &mut BytesMut,
    xid: Xid,
    zxid: Zxid,
    proposal: &Proposal<'_>,
    outcome: &Outcome,
) {
    match (outcome, &proposal.txn) {
        (Outcome::Failed(code), _) => reply::error(out, xid, zxid, *code),
        (Outcome::Done(result), txn) => {
            let with_stat = matches!(txn, Txn::Op(Op::Create(create)) if create.with_stat);
            reply::frame(out, xid, zxid, 0, |w| match result {
                OpResult::Created { path, stat } if with_stat => reply::path_stat(w, path, stat),
                OpResult::Created { path, .. } => reply::path(w, path),
                OpResult::Changed { stat } => reply::stat(w, stat),
                OpResult::Deleted | OpResult::Checked => {}
            });
        }
        (Outcome::MultiDone(results), Txn::Multi(ops)) => {
            reply::frame(out, xid, zxid, 0, |w| {
                let mut written = reply::ResultWriter::new(w);
                for (result, op) in results.iter().zip(ops) {
                    let with_stat = matches!(op, Op::Create(create) if create.with_stat);
                    match result {
                        OpResult::Created { path, stat } if with_stat => {
                            written.create2(path, stat)
                        }
                        OpResult::Created { path, .. } => written.create(path),
                        OpResult::Changed { stat } => written.set_data(stat),
                        OpResult::Deleted => written.delete(),
                        OpResult::Checked => written.check(),
                    }
                }
                written.finish();
            });
        }
        // What ZooKeeper trips over when it gets there fails the request as a whole.
        (
            Outcome::MultiFailed {
                code: code @ ErrorCode::MarshallingError,
                ..
            },
            _,
        ) => {
            reply::error(out, xid, zxid, *code);
        }
        (Outcome::MultiFailed { index, code }, Txn::Multi(ops)) => {
            reply::frame(out, xid, zxid, 0, |w| {
                let mut written = reply::ResultWriter::new(w);
                for at in 0..ops.len() {
                    // Before the one that failed: 0. Behind it: never looked at.
                    written.error(match at.cmp(index) {
                        std::cmp::Ordering::Less => 0,
                        std::cmp::Ordering::Equal => code.code(),
                        std::cmp::Ordering::Greater => ErrorCode::RuntimeInconsistency.code(),
                    });
                }
                written.finish();
            });
        }
        // Results of several operations come from a multi, and from nothing else.
        (Outcome::MultiDone(_) | Outcome::MultiFailed { .. }, _) => {
            reply::error(out, xid, zxid, ErrorCode::SystemError);
        }
    }
}

#[cfg(test)]
#[path = "deliver_tests.rs"]
mod tests;
