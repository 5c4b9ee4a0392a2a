//! What comes in on a connection: replies, events, and what they prove.
//!
//! Job: take whole frames apart, answer who waits, fire watches, renew the trust. Not here:
//! reading bytes (`task`), the meaning of a reply's body (the operations).
//!
//! Invariant: nothing that a server sends can do more than end the connection.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use quorate_proto::jute::DecodeError;
use quorate_proto::{ErrorCode, OpCode, ReplyHeader, WatcherEvent, Xid, Zxid, frame};
use tokio::time::Instant;

use super::ending::End;
use super::link::{Open, proof_of};
use super::speak::kind_of;
use super::task::{Driver, READ_CHUNK, Wire};
use super::trust::Proof;
use super::watches::{OneShot, Table};
use super::{Arm, Response};
use crate::error::Reason;

impl Driver {
    /// Handles every whole frame that has arrived.
    pub(super) fn take_in(&mut self, wire: &mut Wire) -> Option<End> {
        let now = Instant::now();
        let limit = self.shared.settings.reply_bytes_max;
        loop {
            let len = match frame::split(&wire.input, limit) {
                Ok(Some((_, len))) => len,
                Ok(None) => break,
                Err(error) => return Some(End::Disconnected(error.to_string())),
            };
            let mut payload = wire.input.split_to(len).freeze();
            payload.advance(frame::PREFIX_LEN);
            let Ok((header, _)) = ReplyHeader::decode(&payload) else {
                return Some(End::Disconnected(
                    "the server sent a reply without a header".to_owned(),
                ));
            };
            payload.advance(ReplyHeader::ENCODED_LEN);
            if let Some(end) = self.take_reply(wire, header, payload, now) {
                return Some(end);
            }
        }
        // A long reply is on its way.
        if wire.input.len() >= READ_CHUNK {
            wire.link.heard(now);
        }
        if let Some(trust) = &self.trust {
            self.shared.set_trusted_until(trust.until());
        }
        None
    }

    fn take_reply(
        &mut self,
        wire: &mut Wire,
        header: ReplyHeader,
        body: Bytes,
        now: Instant,
    ) -> Option<End> {
        if header.xid == Xid::NOTIFICATION {
            return self.take_event(wire, header, &body);
        }
        // Events answer nothing: a server that sends those alone has forgotten us.
        wire.link.heard(now);
        match header.xid {
            Xid::PING => {
                let sent = wire.link.ping_answered()?;
                self.proven(wire, Proof::Contact, sent, now);
                return wire.link.is_stuck(sent).then(|| {
                    let text = format!("{} answers pings and no requests", wire.server);
                    End::Disconnected(text)
                });
            }
            // Another server may be newer: without an error nobody would be told.
            Xid::SET_WATCHES if header.err != 0 => {
                let text = format!("the server refused to take up watches ({})", header.err);
                return Some(End::Disconnected(text));
            }
            Xid::SET_WATCHES => {
                wire.watches_resuming = wire.watches_resuming.saturating_sub(1);
                if wire.watches_resuming == 0 {
                    self.watches.resumed();
                    self.watched_zxid = self.last_zxid;
                }
                return None;
            }
            _ => {}
        }
        if !is_plausible(header.zxid, self.last_zxid) {
            let text = format!(
                "{} answered with zxid {}, which no server has reached",
                wire.server, header.zxid
            );
            return Some(End::Disconnected(text));
        }
        // Only from replies to requests, which come behind the events of what they have seen. Two
        // events of one transaction may be cut apart, and the second would then be behind what we
        // claim to have seen.
        if header.zxid > self.last_zxid {
            self.last_zxid = header.zxid;
        }
        if wire.watches_resuming == 0 {
            self.watched_zxid = self.last_zxid;
        }
        let Some(open) = wire.link.answered(header.xid) else {
            let text = format!(
                "the server answered request {}, which is not its turn",
                header.xid
            );
            return Some(End::Disconnected(text));
        };
        if wire.link.has_overtaken_pings(&open) {
            let text = "the server answers requests and no pings".to_owned();
            return Some(End::Disconnected(text));
        }
        if is_judged(header) {
            wire.link.proven(proof_of(open.op), open.sent);
            self.proven(wire, proof_of(open.op), open.sent, now);
        }
        self.answer(wire, open, header, body, now)
    }

    fn answer(
        &mut self,
        wire: &mut Wire,
        open: Open,
        header: ReplyHeader,
        body: Bytes,
        now: Instant,
    ) -> Option<End> {
        if let Some(arm) = open.arm {
            self.arm(wire, arm, header.err, open.slot.as_ref(), now);
        }
        if open.op == OpCode::RemoveWatches && open.slot.is_none() {
            self.taken_off(wire, header.xid, header.err, now);
        }
        let end = self.end_of(wire, open.op, header.err);
        if let Some(slot) = open.slot {
            let response = Response {
                xid: header.xid,
                zxid: header.zxid,
                err: header.err,
                body,
                server: Arc::clone(&wire.server),
                session: wire.info.id,
                generation: wire.generation,
            };
            match end {
                None => {
                    self.shared.answered(1);
                    slot.fill(Ok(response));
                }
                Some(_) => self.to_answer.push((slot, Ok(response))),
            }
        }
        end
    }

    /// What a reply with this code ends.
    fn end_of(&self, wire: &Wire, op: OpCode, err: i32) -> Option<End> {
        let is_closed = op == OpCode::CloseSession;
        if op == OpCode::Auth && err != 0 {
            let text = format!("by {}", wire.server);
            return Some(End::Closed(Reason::AuthFailed(text)));
        }
        match ErrorCode::from_code(err) {
            // It closes the connection behind such an answer. What waits to be sent must not be
            // sent into that: nobody would know what became of it.
            Some(ErrorCode::Unimplemented) if is_unknown_to_old_servers(op) => {
                let text = format!("{} does not know {op:?}", wire.server);
                Some(End::Disconnected(text))
            }
            // Said by the leader, from the moment that it ends the session.
            Some(ErrorCode::SessionExpired) => {
                Some(End::Lost(Reason::SessionExpired(wire.info.id)))
            }
            // The session is well, and another connection has it.
            Some(ErrorCode::SessionMoved) => {
                let text = "the session has moved to another connection".to_owned();
                Some(End::Disconnected(text))
            }
            // A server without a quorum ends no session but one of its own making.
            _ if is_closed && (err != 0 || (wire.is_read_only && self.attached.is_some())) => Some(
                End::Disconnected("the server did not close the session".to_owned()),
            ),
            _ => is_closed.then_some(End::Closed(Reason::Closed)),
        }
    }

    /// The reply to a request that asked for a watch: arms it, if the server did.
    fn arm(
        &mut self,
        wire: &mut Wire,
        arm: Arm,
        err: i32,
        slot: Option<&super::Slot>,
        now: Instant,
    ) {
        let is_missing = err == ErrorCode::NoNode.code();
        let is_wanted = slot.is_some_and(|slot| !slot.is_abandoned()) && arm.is_wanted();
        let (path, table, _) = arm.place();
        let path = Arc::clone(path);
        self.watches.settled(&path, table);
        let is_armed = match arm {
            Arm::Once {
                path,
                id,
                table,
                fire,
                exists,
            } => {
                let list = match (table, is_missing) {
                    (Table::Child, _) => OneShot::Child,
                    (_, true) => OneShot::Exist,
                    (_, false) => OneShot::Data,
                };
                let is_armed = err == 0 || (exists && is_missing);
                if is_armed && is_wanted {
                    self.watches.armed_once(&path, id, list, fire);
                }
                is_armed
            }
            Arm::Lasting {
                path,
                id,
                mode,
                queue,
            } => {
                if err == 0 && is_wanted {
                    self.watches.armed(&path, id, mode, queue);
                }
                err == 0
            }
        };
        if is_armed && !is_wanted {
            self.watches.armed_for_nobody(&path, table);
        }
        if self.watches.release(&path, table) {
            self.take_off(wire, &path, kind_of(table), now);
        }
    }

    fn take_event(&mut self, wire: &mut Wire, header: ReplyHeader, body: &[u8]) -> Option<End> {
        match WatcherEvent::decode(body) {
            Ok(event) => {
                let zxid = (header.zxid > Zxid::ZERO).then_some(header.zxid);
                self.watches
                    .fire(event.event, &event.path, zxid, self.last_zxid);
                None
            }
            Err(error @ DecodeError::BadValue { .. }) => {
                // As often as a server likes: once on each connection is enough.
                if wire.events_skipped == 0 {
                    tracing::warn!(%error, server = %wire.server, "events of an unknown kind are skipped");
                }
                wire.events_skipped += 1;
                None
            }
            Err(error) => Some(End::Disconnected(format!(
                "an event that cannot be read: {error}"
            ))),
        }
    }

    fn proven(&mut self, wire: &Wire, proof: Proof, sent: Instant, now: Instant) {
        if wire.is_read_only {
            return;
        }
        if let Some(trust) = &mut self.trust {
            trust.answered(proof, sent, now);
        }
    }
}

/// Whether a server that was at `seen` can be at `zxid` now. Its upper half counts the elections of
/// the ensemble's life: more of them than this there were nowhere.
///
/// What is believed is shown to the next server, and one that is behind it refuses the session. A
/// zxid that is false and plausible costs the session; one at the end of the range would cost it
/// with every server for ever, also where the session is resumed.
fn is_plausible(zxid: Zxid, seen: Zxid) -> bool {
    const ELECTIONS_MAX: i64 = 1 << 24;
    (zxid.0 >> 32) - (seen.0 >> 32) < ELECTIONS_MAX
}

/// Whether this is an operation that came after ZooKeeper 3.5, and that no setting switches off: a
/// server refuses it only because it has never heard of it.
///
/// Source: ZooKeeper, `UnimplementedRequestProcessor`.
const fn is_unknown_to_old_servers(op: OpCode) -> bool {
    matches!(
        op,
        OpCode::AddWatch
            | OpCode::GetEphemerals
            | OpCode::GetAllChildrenNumber
            | OpCode::WhoAmI
            | OpCode::MultiRead
    )
}

/// Whether a reply shows that the request was taken to the leader and judged there.
///
/// A refusal counts only if it is one that only the state of the tree can give, and if it has a
/// place in the order of transactions: others are made by the server that was asked.
fn is_judged(header: ReplyHeader) -> bool {
    use ErrorCode::{BadVersion, NoAuth, NoChildrenForEphemerals, NoNode, NodeExists, NotEmpty};
    let judged = [
        NoNode,
        NodeExists,
        BadVersion,
        NotEmpty,
        NoChildrenForEphemerals,
        NoAuth,
    ];
    header.err == 0
        || (header.zxid > Zxid::ZERO
            && ErrorCode::from_code(header.err).is_some_and(|code| judged.contains(&code)))
}
