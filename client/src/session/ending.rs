//! How connections and sessions end: who is told, in which order, and what becomes of requests.
//!
//! Job: every request gets an answer, every watch a word, the status its state. Not here: when
//! something ends (`task`, `reach`).
//!
//! Invariants: the status says why before any request fails for it; once a session is over
//! nothing of it can be queued, sent or trusted; a task that is dropped, with its runtime or by a
//! panic, ends in the same way as one that returns.

use std::sync::Arc;

use quorate_proto::{OpCode, SessionId, Zxid};
use tokio::time::Instant;

use super::task::{Driver, Wire};
use super::{Failure, Queued, SessionState};
use crate::error::Reason;
use crate::metrics;

/// How a connection, or the attempt to make one, ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// Dial again.
    Disconnected(String),
    /// The session is over.
    Lost(Reason),
    /// There will be no further session.
    Closed(Reason),
}

/// What follows an end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// The session may live: dial again.
    Suspend(String),
    /// It is over, and another is to be opened.
    Renew(Reason),
    /// It is over, and this client with it.
    Stop(SessionState, Reason),
}

impl End {
    /// What follows, for a client that opens new sessions or not, and was told to close or not.
    pub(super) fn next(self, opens_new_sessions: bool, is_closing: bool) -> Next {
        match self {
            End::Disconnected(why) => Next::Suspend(why),
            // The server has done already what the close would have asked for.
            End::Lost(Reason::SessionExpired(_)) if is_closing => {
                Next::Stop(SessionState::Closed, Reason::Closed)
            }
            End::Lost(reason) | End::Closed(reason) if is_closing => {
                Next::Stop(SessionState::Closed, reason)
            }
            End::Lost(reason) if opens_new_sessions => Next::Renew(reason),
            End::Lost(reason) => Next::Stop(SessionState::Lost, reason),
            End::Closed(reason) => Next::Stop(SessionState::Closed, reason),
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if !self.is_over {
            self.over(SessionState::Closed, Reason::RuntimeGone);
        }
    }
}

impl Driver {
    /// Requests that left and were not answered: nobody here knows what became of them.
    pub(super) fn fail_open(&mut self, wire: &mut Wire, end: &End) {
        self.watches.disconnected();
        let (reason, session_gone) = match end {
            End::Disconnected(why) => (Reason::ConnectionLost(why.clone()), false),
            End::Lost(reason) => (reason.clone(), true),
            End::Closed(reason) => (reason.clone(), ends_session(reason)),
        };
        let server = Arc::clone(&wire.server);
        for open in wire.link.drain() {
            let Some(slot) = open.slot else { continue };
            let is_close = open.op == OpCode::CloseSession;
            let failure = Failure {
                sent: true,
                session_gone: session_gone && !is_close,
                reason: reason.clone(),
                server: Arc::clone(&server),
            };
            self.to_answer.push((slot, Err(failure)));
        }
    }

    /// The status says what happened: now the callers may see it.
    fn answer_late(&mut self) {
        for (slot, result) in self.to_answer.drain(..) {
            self.shared.answered(1);
            slot.fill(result);
        }
    }

    pub(super) fn suspended(&mut self, why: String) {
        tracing::info!(session = ?self.attached.map(|info| info.id), reason = %why, "connection lost");
        metrics::connection_lost();
        if let Some(info) = &mut *self.shared.info.lock() {
            info.last_zxid = self.last_zxid;
        }
        let has_session = self.attached.is_some();
        self.shared.status.send_modify(|status| {
            status.state = match has_session {
                true => SessionState::Suspended,
                false => SessionState::Connecting,
            };
            status.reason = Some(Reason::ConnectionLost(why));
        });
        self.answer_late();
    }

    /// The session is over and another will be opened.
    pub(super) fn lost(&mut self, reason: Reason) {
        tracing::warn!(%reason, "session lost, opening another");
        metrics::session_lost(&reason);
        let attached = self.attached.take();
        self.trust = None;
        self.shared.set_trusted_until(None);
        *self.shared.info.lock() = None;
        // The state first: whoever sees a request fail must find the reason there.
        self.shared.status.send_modify(|status| {
            status.state = SessionState::Lost;
            status.session = None;
            status.reason = Some(reason.clone());
        });
        self.watches.lost(&reason, self.last_zxid);
        // Another session has nothing to do with what this one saw, and its servers may have
        // been set up anew.
        self.last_zxid = Zxid::ZERO;
        self.watched_zxid = Zxid::ZERO;
        let mut queue = self.shared.queue.lock();
        if let (Some(info), Reason::SessionGivenUp(_)) = (attached, &reason) {
            // A server counts from the last that it heard, and rounds up to a tick, which is at
            // most half of the timeout.
            let until = Instant::now() + info.timeout * 3 / 2;
            queue.given_up = Some((queue.generation, until));
        }
        queue.generation += 1;
        queue.last_loss = Some(reason.clone());
        queue.unwatch.clear();
        let generation = queue.generation;
        let over = queue.take_out(|queued| queued.generation >= generation);
        drop(queue);
        self.answer_late();
        self.refuse(over, &reason, true);
    }

    /// No session will follow.
    pub(super) fn over(&mut self, state: SessionState, reason: Reason) {
        self.is_over = true;
        if state == SessionState::Lost {
            tracing::warn!(%reason, "session lost");
            metrics::session_lost(&reason);
        } else {
            tracing::info!(%reason, "closed");
        }
        self.attached = None;
        self.shared.set_trusted_until(None);
        *self.shared.info.lock() = None;
        let mut queue = self.shared.queue.lock();
        queue.is_closed = true;
        queue.over = Some(reason.clone());
        queue.last_loss = Some(reason.clone());
        queue.unwatch.clear();
        let over = queue.take_out(|_| false);
        drop(queue);
        self.shared.status.send_modify(|status| {
            status.state = state;
            status.session = None;
            status.reason = Some(reason.clone());
        });
        self.watches.lost(&reason, self.last_zxid);
        self.shared.set_watches_held(0);
        self.answer_late();
        self.refuse(over, &reason, ends_session(&reason));
    }

    fn refuse(
        &self,
        requests: impl IntoIterator<Item = Queued>,
        reason: &Reason,
        session_gone: bool,
    ) {
        for Queued { slot, .. } in requests {
            let Some(slot) = slot else { continue };
            self.shared.answered(1);
            slot.fill(Err(Failure {
                sent: false,
                session_gone,
                reason: reason.clone(),
                server: Arc::from(""),
            }));
        }
    }

    /// The session that is, or was, attached.
    pub(super) fn session_id(&self) -> SessionId {
        self.attached.map(|info| info.id).unwrap_or_default()
    }
}

/// Whether a client that ends for this reason takes the session's end for certain: one that was
/// closed by hand, detached or cut off from its runtime says nothing about the session.
const fn ends_session(reason: &Reason) -> bool {
    !matches!(
        reason,
        Reason::Closed | Reason::RuntimeGone | Reason::ConnectionLost(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_an_end() {
        let id = SessionId(7);
        let (expired, given_up) = (Reason::SessionExpired(id), Reason::SessionGivenUp(id));
        let auth = Reason::AuthFailed("no".to_owned());
        let why = || "cut".to_owned();
        let stop = |state, reason: &Reason| Next::Stop(state, reason.clone());
        use SessionState::{Closed, Lost};
        // (end, opens new sessions, is closing, what follows)
        let table = [
            (End::Disconnected(why()), false, false, Next::Suspend(why())),
            (End::Disconnected(why()), true, false, Next::Suspend(why())),
            (End::Disconnected(why()), true, true, Next::Suspend(why())),
            (
                End::Lost(expired.clone()),
                false,
                false,
                stop(Lost, &expired),
            ),
            (
                End::Lost(expired.clone()),
                true,
                false,
                Next::Renew(expired.clone()),
            ),
            (
                End::Lost(given_up.clone()),
                false,
                false,
                stop(Lost, &given_up),
            ),
            (
                End::Lost(given_up.clone()),
                true,
                false,
                Next::Renew(given_up.clone()),
            ),
            // Closing: an expired session is what was wished, one given up is not known to be over.
            (
                End::Lost(expired.clone()),
                true,
                true,
                stop(Closed, &Reason::Closed),
            ),
            (
                End::Lost(given_up.clone()),
                true,
                true,
                stop(Closed, &given_up),
            ),
            (
                End::Closed(Reason::Closed),
                true,
                true,
                stop(Closed, &Reason::Closed),
            ),
            (End::Closed(auth.clone()), true, false, stop(Closed, &auth)),
        ];
        for (end, opens_new, is_closing, next) in table {
            let case = format!("{end:?}, opens new {opens_new}, closing {is_closing}");
            assert_eq!(end.next(opens_new, is_closing), next, "{case}");
        }
    }
}
