//! A server's end of its clients' connections: what `connection` and `pipeline` do with sockets
//! and tasks, without either, for clients that wait for their writes before they read.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use quorate_proto::{ErrorCode, OpCode, SessionId, Xid, Zxid, reply};

use super::server::{ConnId, Life, Proof, Server};
use super::{Plant, SILENCE, T};
use crate::clock::Clock as _;
use crate::sessions::{CloseReason, Conn, Fate, Handshake, Identities, InFlight};
use crate::tree::txn::{Origin, Txn};

/// What a client sends.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    Connect {
        session: Option<SessionId>,
        last_zxid_seen: Zxid,
    },
    Ping,
    Write(Xid, OpCode, Txn<'static>),
    Read(Xid, String),
    Sync(Xid),
}

/// A connection, at its server.
pub(super) struct Held {
    pub(super) conn: Arc<Conn>,
    next_seq: u64,
    /// The reports that pings wait for.
    pings: VecDeque<u64>,
    sync: Option<Sync>,
}

struct Sync {
    xid: Xid,
    since: Duration,
    confirmed_by: Option<u64>,
    proof: Option<Proof>,
    index: Option<usize>,
}

impl Server {
    /// A client sent something.
    pub(super) fn read(&mut self, id: ConnId, packet: Packet) {
        let now = self.now();
        match packet {
            Packet::Connect {
                session,
                last_zxid_seen,
            } => self.connect(id, session, last_zxid_seen),
            packet => {
                let Some(held) = self.life.as_ref().and_then(|life| life.conns.get(&id)) else {
                    return;
                };
                let conn = held.conn.clone();
                if self.may_answer(&conn, now) && conn.attachment.get().is_some() {
                    conn.touch(now);
                    self.take(id, &conn, packet, now);
                } else {
                    self.hang_up(id);
                }
            }
        }
        self.pump();
    }

    fn may_answer(&self, conn: &Conn, now: Duration) -> bool {
        let may = |life: &Life| life.sessions.may_answer(conn, now);
        self.is_planted(Plant::CutOffAnswers) || self.life.as_ref().is_some_and(may)
    }

    fn connect(&mut self, id: ConnId, session: Option<SessionId>, last_zxid_seen: Zxid) {
        let fresh = self.is_fresh();
        let Some(life) = &mut self.life else { return };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let identities = Identities::of_address(address.ip(), true);
        let conn = life.sessions.accept(address, identities);
        let held = Held {
            conn: conn.clone(),
            next_seq: 1,
            pings: VecDeque::new(),
            sync: None,
        };
        life.conns.insert(id, held);
        if !fresh || last_zxid_seen > life.state.applied_zxid() {
            self.hang_up(id);
            return;
        }
        if let Some(session) = session {
            life.sessions.cut(session, CloseReason::Moved);
        }
        let ticket = life.sessions.handshake(Handshake {
            conn,
            read_only: None,
            last_zxid_seen,
        });
        let timeout_ms = i32::try_from(T.as_millis()).unwrap();
        let txn = match session {
            None => Txn::OpenSession { ticket, timeout_ms },
            Some(session) => Txn::Attach {
                ticket,
                session,
                timeout_ms,
            },
        };
        if !self.push(Origin::default(), txn) {
            self.hang_up(id);
        }
    }

    fn take(&mut self, id: ConnId, conn: &Arc<Conn>, packet: Packet, now: Duration) {
        let early = self.is_planted(Plant::CutOffAnswers);
        // A sync that is not confirmed either: its own rule keeps a deposed leader back as well.
        let deposed = self.is_planted(Plant::DeposedSyncs);
        let Some(life) = &mut self.life else { return };
        let Some(held) = life.conns.get_mut(&id) else {
            return;
        };
        match packet {
            Packet::Connect { .. } => {}
            Packet::Ping if early => answer(conn, Xid::PING, life.state.applied_zxid()),
            Packet::Ping => match life.sessions.confirm(conn) {
                None => answer(conn, Xid::PING, life.state.applied_zxid()),
                Some(round) => held.pings.push_back(round),
            },
            Packet::Read(xid, path) => {
                let applied = life.state.applied_zxid();
                let guard = life.state.tree().read(&path);
                let seen = applied.max(guard.shard_zxid());
                let mut outbox = conn.outbox();
                let zxid = outbox.tell(seen);
                outbox.queue(|out| match guard.node() {
                    Some(node) => reply::frame(out, xid, zxid, 0, |w| {
                        reply::data_stat(w, node.data(), &node.stat());
                    }),
                    None => reply::error(out, xid, zxid, ErrorCode::NoNode),
                });
            }
            Packet::Sync(xid) => {
                held.sync = Some(Sync {
                    xid,
                    since: now,
                    confirmed_by: life.sessions.confirm(conn).filter(|_| !early && !deposed),
                    proof: None,
                    index: None,
                });
            }
            Packet::Write(xid, op, txn) => {
                let Some(attachment) = conn.attachment.get() else {
                    return;
                };
                let seq = held.next_seq;
                held.next_seq += 1;
                conn.outbox().sent_on(InFlight {
                    seq,
                    xid,
                    op,
                    read_at: now,
                });
                let origin = Origin {
                    session: attachment.session,
                    attach: attachment.attach,
                    seq,
                };
                if !self.push(origin, txn) {
                    self.hang_up(id);
                }
            }
        }
    }

    /// A client's connection ended.
    pub(super) fn left(&mut self, id: ConnId) {
        let Some(life) = &mut self.life else { return };
        if let Some(held) = life.conns.remove(&id) {
            life.sessions.remove(&held.conn);
        }
    }

    /// Answers what can be answered, and closes what has to be.
    pub(super) fn desk(&mut self) {
        let Some(life) = &self.life else { return };
        let ids: Vec<ConnId> = life.conns.keys().copied().collect();
        for id in ids {
            self.serve_sync(id);
            let now = self.clock.monotonic();
            let Some(life) = &mut self.life else { return };
            let Some(held) = life.conns.get_mut(&id) else {
                continue;
            };
            let confirmed = held.conn.confirmed.load(Ordering::Acquire);
            while held
                .pings
                .pop_front_if(|round| *round <= confirmed)
                .is_some()
            {
                answer(&held.conn, Xid::PING, life.state.applied_zxid());
            }
            let conn = held.conn.clone();
            self.flush(id, &conn, now);
        }
    }

    /// What is queued leaves, if it may.
    fn flush(&mut self, id: ConnId, conn: &Arc<Conn>, now: Duration) {
        let (fate, queued) = {
            let outbox = conn.outbox();
            (outbox.fate(), outbox.has_queued())
        };
        let cut_off =
            self.is_planted(Plant::CutOffAnswers) && fate == Fate::Close(CloseReason::CutOff);
        if matches!(fate, Fate::Close(_)) && !cut_off {
            self.hang_up(id);
            return;
        }
        if queued {
            if !self.may_answer(conn, now) {
                self.hang_up(id);
                return;
            }
            let mut bytes = BytesMut::new();
            {
                let mut outbox = conn.outbox();
                outbox.take(&mut bytes);
                outbox.written(bytes.len());
            }
            let bytes = bytes.freeze();
            self.effects
                .push(super::server::Effect::Reply { conn: id, bytes });
        }
        if fate == Fate::CloseAfterFlush {
            self.hang_up(id);
        }
    }

    fn serve_sync(&mut self, id: ConnId) {
        let now = self.now();
        let life = self.life.as_mut();
        let held = life.and_then(|life| life.conns.get_mut(&id));
        let Some(mut sync) = held.and_then(|held| held.sync.take()) else {
            return;
        };
        if sync.index.is_none() {
            if sync.proof.is_none() {
                sync.proof = self.ask_index();
            }
            let found = sync.proof.as_mut().and_then(|proof| self.look_at(proof));
            match found {
                Some(Some(index)) => sync.index = Some(index),
                Some(None) => sync.proof = None,
                None => {}
            }
        }
        let Some(life) = &mut self.life else { return };
        let Some(held) = life.conns.get_mut(&id) else {
            return;
        };
        let confirmed = held.conn.confirmed.load(Ordering::Acquire);
        let proven = sync.confirmed_by.is_none_or(|round| round <= confirmed);
        let applied = sync.index.is_some_and(|index| index < life.next);
        if applied && proven {
            answer_sync(&held.conn, sync.xid, life.state.applied_zxid());
        } else if now > sync.since + SILENCE {
            self.hang_up(id);
        } else {
            held.sync = Some(sync);
        }
    }
}

fn answer(conn: &Conn, xid: Xid, applied: Zxid) {
    let mut outbox = conn.outbox();
    let zxid = outbox.tell(applied);
    outbox.queue(|out| reply::empty(out, xid, zxid));
}

fn answer_sync(conn: &Conn, xid: Xid, applied: Zxid) {
    let mut outbox = conn.outbox();
    let zxid = outbox.tell(applied);
    outbox.queue(|out| reply::frame(out, xid, zxid, 0, |w| reply::sync(w, Some("/"))));
}
