//! A client: what it asks, what it is told, and until when it may believe in its session.
//!
//! It obeys ZooKeeper's schedule: a packet every third of the timeout, another server when nothing
//! was heard for two thirds. What it may believe is `docs/design/session-lease.md`'s rule.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use quorate_proto::{
    Acl, ConnectResponse, OpCode, SessionId, Version as Expected, Xid, Zxid,
    multi::MultiResult,
    reply::{Reply, ServerFrame},
};
use rand::Rng as _;
use rand::rngs::StdRng;

use super::clock::Time;
use super::desk::Packet;
use super::history::{Call, PAIR, Told, Version, What};
use super::server::ConnId;
use super::{BELIEF, T_US};
use crate::tree::txn::{Create, CreateKind, Op, Txn};

/// What a client waits for an answer before it gives a connection up.
const READ_TIMEOUT: Time = T_US * 2 / 3;
const PING_AFTER: Time = T_US / 3;
/// Between two calls.
const THINK_MOST: Time = 30_000;
/// How long a lock is held.
const HOLD_MOST: Time = 150_000;

pub(super) const REGISTERS: [&str; 3] = ["/r0", "/r1", "/r2"];
pub(super) const COUNTERS: [&str; 2] = ["/c0", "/c1"];
pub(super) const PARENTS: [&str; 2] = ["/s0", "/s1"];
pub(super) const LOCK: &str = "/lock";
pub(super) const EPHEMERALS: &str = "/e";

/// What a client does.
pub(super) enum Act {
    /// Opens a connection under this number, to a server of the world's choice.
    Dial(ConnId),
    Send(ConnId, Packet),
    HangUp(ConnId),
    /// It took the lock.
    Locked,
}

/// What it waits for.
#[derive(Clone, Debug)]
enum Asked {
    Set { key: String, value: String },
    Raise { key: String, expected: i32 },
    Sequential { parent: String, mark: String },
    Pair { value: String },
    Read { key: String, synced: bool },
    Sync,
    Lock,
    Unlock,
    Mine,
    Close,
}

struct Pending {
    xid: Xid,
    op: OpCode,
    asked: Asked,
    began: u64,
    sent: Time,
}

enum Phase {
    Down { until: Time },
    Connecting { conn: ConnId, sent: Time },
    Up { conn: ConnId },
}

/// See the module.
pub(super) struct Client {
    pub(super) number: usize,
    rng: StdRng,
    phase: Phase,
    pub(super) session: Option<SessionId>,
    last_zxid: Zxid,
    last_heard: Time,
    last_sent: Time,
    pings: VecDeque<Time>,
    pending: VecDeque<Pending>,
    next_conn: u64,
    next_xid: i32,
    next_value: u32,
    next_at: Time,
    /// When the youngest packet was sent that an answer has proved.
    pub(super) proven: Option<Time>,
    /// It seldom writes.
    reads: bool,
    pub(super) locked: bool,
    unlock_at: Time,
    /// The next call ends the session: nobody knows whether it has the lock.
    gives_up: bool,
    counters: BTreeMap<String, i32>,
    pub(super) quiet_until: Time,
    pub(super) calls: Vec<Call>,
    pub(super) acts: Vec<Act>,
    /// Sessions of which it was told that they are over, and of which it went on believing.
    pub(super) answers: u64,
    /// It was told what makes no sense.
    pub(super) broken: Option<String>,
    buffer: Vec<u8>,
}

impl Client {
    pub(super) fn new(number: usize, rng: StdRng) -> Client {
        Client {
            number,
            rng,
            phase: Phase::Down { until: 0 },
            session: None,
            last_zxid: Zxid(0),
            last_heard: 0,
            last_sent: 0,
            pings: VecDeque::new(),
            pending: VecDeque::new(),
            next_conn: 1,
            next_xid: 1,
            next_value: 1,
            next_at: 0,
            proven: None,
            reads: number.is_multiple_of(2),
            locked: false,
            unlock_at: 0,
            gives_up: false,
            counters: BTreeMap::new(),
            quiet_until: 0,
            calls: Vec::new(),
            acts: Vec::new(),
            answers: 0,
            broken: None,
            buffer: Vec::new(),
        }
    }

    /// Until when it believes in its session.
    pub(super) fn believes_until(&self) -> Option<Time> {
        self.session?;
        Some(self.proven? + BELIEF)
    }

    /// Nothing of it is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// What it waits for, and since when.
    pub(super) fn waits_for(&self) -> String {
        let waits = self.pending.front();
        let waits = waits.map(|pending| format!("{:?} since {}", pending.asked, pending.sent));
        waits.unwrap_or_default()
    }

    pub(super) fn conn(&self) -> Option<ConnId> {
        match self.phase {
            Phase::Down { .. } => None,
            Phase::Connecting { conn, .. } | Phase::Up { conn } => Some(conn),
        }
    }

    /// Time has passed. `stamp` is unique and rises.
    pub(super) fn tick(&mut self, now: Time, works: bool, stamp: &mut impl FnMut() -> u64) {
        if now < self.quiet_until {
            return;
        }
        match self.phase {
            Phase::Down { until } if now >= until => self.dial(now),
            Phase::Down { .. } => {}
            Phase::Connecting { sent, .. } if now > sent + READ_TIMEOUT => {
                self.drop_conn(now, stamp)
            }
            Phase::Connecting { .. } => {}
            Phase::Up { .. } if now > self.last_heard + READ_TIMEOUT => self.drop_conn(now, stamp),
            Phase::Up { conn } => {
                if works && now >= self.next_at && self.pending.is_empty() {
                    self.next_at = now + self.rng.random_range(1_000..THINK_MOST);
                    self.call(now, conn, stamp);
                }
                if now >= self.last_sent + PING_AFTER {
                    self.pings.push_back(now);
                    self.send(now, conn, Packet::Ping);
                }
            }
        }
    }

    fn dial(&mut self, now: Time) {
        let conn = ((self.number as u64) << 32) | self.next_conn;
        self.next_conn += 1;
        self.acts.push(Act::Dial(conn));
        let hello = Packet::Connect {
            session: self.session,
            last_zxid_seen: self.last_zxid,
        };
        self.phase = Phase::Connecting { conn, sent: now };
        self.send(now, conn, hello);
    }

    fn send(&mut self, now: Time, conn: ConnId, packet: Packet) {
        self.last_sent = now;
        self.acts.push(Act::Send(conn, packet));
    }

    fn drop_conn(&mut self, now: Time, stamp: &mut impl FnMut() -> u64) {
        if let Some(conn) = self.conn() {
            self.acts.push(Act::HangUp(conn));
        }
        self.disconnected(now, stamp);
    }

    /// The connection is gone: nobody will tell what became of what was asked.
    pub(super) fn disconnected(&mut self, now: Time, stamp: &mut impl FnMut() -> u64) {
        let until = now + self.rng.random_range(1_000..20_000);
        self.phase = Phase::Down { until };
        self.pings.clear();
        self.buffer.clear();
        for pending in std::mem::take(&mut self.pending) {
            let what = match pending.asked {
                Asked::Set { key, value } => What::Set {
                    key,
                    value,
                    told: Told::Unknown,
                },
                Asked::Raise { key, expected } => What::Raise {
                    key,
                    expected,
                    told: Told::Unknown,
                },
                Asked::Sequential { parent, mark } => What::Sequential {
                    parent,
                    mark,
                    told: Told::Unknown,
                },
                Asked::Pair { value } => What::Pair {
                    value,
                    told: Told::Unknown,
                },
                Asked::Lock => {
                    self.gives_up = true;
                    continue;
                }
                Asked::Close => {
                    self.forget_session();
                    continue;
                }
                Asked::Read { .. } | Asked::Sync | Asked::Unlock | Asked::Mine => continue,
            };
            self.note(pending.began, stamp(), what);
        }
    }

    fn note(&mut self, began: u64, ended: u64, what: What) {
        let session = self.session.map_or(0, |session| session.0);
        self.calls.push(Call {
            session,
            began,
            ended,
            what,
        });
    }

    fn forget_session(&mut self) {
        self.session = None;
        self.proven = None;
        self.locked = false;
        self.gives_up = false;
    }

    fn ask(&mut self, now: Time, conn: ConnId, began: u64, asked: Asked, op: OpCode, txn: Ask) {
        let xid = Xid(self.next_xid);
        self.next_xid += 1;
        let packet = match txn {
            Ask::Write(txn) => Packet::Write(xid, op, txn),
            Ask::Read(path) => Packet::Read(xid, path),
            Ask::Sync => Packet::Sync(xid),
        };
        self.pending.push_back(Pending {
            xid,
            op,
            asked,
            began,
            sent: now,
        });
        self.send(now, conn, packet);
    }

    fn value(&mut self) -> String {
        let value = format!("{}-{}", self.number, self.next_value);
        self.next_value += 1;
        value
    }

    /// Makes a call, or a few behind one another.
    fn call(&mut self, now: Time, conn: ConnId, stamp: &mut impl FnMut() -> u64) {
        if self.gives_up {
            // It does not believe in what it is about to give away.
            self.locked = false;
            let close = Ask::Write(Txn::CloseSession);
            self.ask(
                now,
                conn,
                stamp(),
                Asked::Close,
                OpCode::CloseSession,
                close,
            );
            return;
        }
        if self.locked && now >= self.unlock_at {
            self.locked = false;
            let delete = Op::Delete {
                path: LOCK.into(),
                version: Expected(-1),
            };
            let delete = Ask::Write(Txn::Op(delete));
            self.ask(now, conn, stamp(), Asked::Unlock, OpCode::Delete, delete);
            return;
        }
        // Whoever writes soon waits for a server that is cut off, and asks it nothing more.
        let dice = match self.reads {
            true => self.rng.random_range(55..100),
            false => self.rng.random_range(0..100),
        };
        match dice {
            0..30 => {
                for _ in 0..self.rng.random_range(1..4) {
                    self.call_set(now, conn, stamp());
                }
            }
            30..42 => self.call_raise(now, conn, stamp()),
            42..54 => {
                for _ in 0..self.rng.random_range(1..3) {
                    self.call_sequential(now, conn, stamp());
                }
            }
            54..57 => self.call_pair(now, conn, stamp()),
            57..74 => {
                let key = self.any_node();
                self.call_read(now, conn, stamp(), key, false);
            }
            74..88 => {
                // The read goes out when the sync is through.
                let ask = Ask::Sync;
                self.ask(now, conn, stamp(), Asked::Sync, OpCode::Sync, ask);
            }
            88..97 if !self.locked && !self.reads => {
                let create = create(LOCK, "", CreateKind::Ephemeral, false);
                self.ask(now, conn, stamp(), Asked::Lock, OpCode::Create2, create);
            }
            97..99 => {
                let path = format!("{EPHEMERALS}/n-");
                let create = create(&path, "", CreateKind::Ephemeral, true);
                self.ask(now, conn, stamp(), Asked::Mine, OpCode::Create2, create);
            }
            99 => self.gives_up = true,
            _ => {}
        }
    }

    fn any_node(&mut self) -> String {
        REGISTERS[self.rng.random_range(0..REGISTERS.len())].to_owned()
    }

    fn call_set(&mut self, now: Time, conn: ConnId, began: u64) {
        let (key, value) = (self.any_node(), self.value());
        let set = set(&key, &value, -1);
        let asked = Asked::Set { key, value };
        self.ask(
            now,
            conn,
            began,
            asked,
            OpCode::SetData,
            Ask::Write(Txn::Op(set)),
        );
    }

    fn call_raise(&mut self, now: Time, conn: ConnId, began: u64) {
        let key = COUNTERS[self.rng.random_range(0..COUNTERS.len())].to_owned();
        let Some(&expected) = self.counters.get(&key) else {
            self.call_read(now, conn, began, key, false);
            return;
        };
        let set = set(&key, &(expected + 1).to_string(), expected);
        self.counters.remove(&key);
        let asked = Asked::Raise { key, expected };
        self.ask(
            now,
            conn,
            began,
            asked,
            OpCode::SetData,
            Ask::Write(Txn::Op(set)),
        );
    }

    fn call_sequential(&mut self, now: Time, conn: ConnId, began: u64) {
        let parent = PARENTS[self.rng.random_range(0..PARENTS.len())].to_owned();
        let mark = self.value();
        let path = format!("{parent}/n-");
        let create = create(&path, &mark, CreateKind::Persistent, true);
        let asked = Asked::Sequential { parent, mark };
        self.ask(now, conn, began, asked, OpCode::Create2, create);
    }

    fn call_pair(&mut self, now: Time, conn: ConnId, began: u64) {
        let value = self.value();
        let ops = PAIR.map(|key| set(key, &value, -1)).to_vec();
        let asked = Asked::Pair { value };
        self.ask(
            now,
            conn,
            began,
            asked,
            OpCode::Multi,
            Ask::Write(Txn::Multi(ops)),
        );
    }

    fn call_read(&mut self, now: Time, conn: ConnId, began: u64, key: String, synced: bool) {
        let path = key.clone();
        let asked = Asked::Read { key, synced };
        self.ask(now, conn, began, asked, OpCode::GetData, Ask::Read(path));
    }

    /// Bytes came from the server. True if something in them proves the session.
    pub(super) fn receive(&mut self, now: Time, bytes: &Bytes, stamp: &mut impl FnMut() -> u64) {
        self.last_heard = now;
        self.buffer.extend_from_slice(bytes);
        while let Some(payload) = next_frame(&mut self.buffer) {
            match self.phase {
                Phase::Connecting { conn, sent } => self.connected(now, conn, sent, &payload),
                Phase::Up { conn } => self.answered(now, conn, &payload, stamp),
                Phase::Down { .. } => return,
            }
        }
    }

    fn connected(&mut self, now: Time, conn: ConnId, sent: Time, payload: &[u8]) {
        let response = ConnectResponse::decode(payload).expect("a connect response");
        if response.session == SessionId::NONE {
            self.acts.push(Act::HangUp(conn));
            self.phase = Phase::Down { until: now + 1_000 };
            self.forget_session();
            return;
        }
        self.session = Some(response.session);
        self.phase = Phase::Up { conn };
        self.proves(sent);
    }

    fn proves(&mut self, sent: Time) {
        self.answers += 1;
        self.proven = self.proven.max(Some(sent));
    }

    fn answered(
        &mut self,
        now: Time,
        conn: ConnId,
        payload: &[u8],
        stamp: &mut impl FnMut() -> u64,
    ) {
        let frame = ServerFrame::decode(payload).expect("a reply");
        let ServerFrame::Reply(header, body) = frame else {
            return;
        };
        self.last_zxid = self.last_zxid.max(header.zxid);
        if header.xid == Xid::PING {
            if let Some(sent) = self.pings.pop_front() {
                self.proves(sent);
            }
            return;
        }
        let pending = self.pending.pop_front();
        let Some(pending) = pending.filter(|pending| pending.xid == header.xid) else {
            self.broken = Some(format!("a reply out of its turn: {header:?}"));
            return;
        };
        let reply = (header.err == 0).then(|| Reply::decode(pending.op, body));
        match reply.transpose() {
            Ok(reply) => {
                if !matches!(pending.asked, Asked::Read { .. }) {
                    self.proves(pending.sent);
                }
                self.took(now, conn, pending, reply, stamp);
            }
            Err(error) => self.broken = Some(format!("a reply of another kind: {error}")),
        }
    }

    fn took(
        &mut self,
        now: Time,
        conn: ConnId,
        pending: Pending,
        reply: Option<Reply<'_>>,
        stamp: &mut impl FnMut() -> u64,
    ) {
        let Pending { asked, began, .. } = pending;
        let what = match (asked, reply) {
            (Asked::Set { key, value }, Some(Reply::Stat(stat))) => {
                let told = Told::Done(Version {
                    version: stat.version,
                    mzxid: stat.mzxid,
                });
                What::Set { key, value, told }
            }
            (Asked::Raise { key, expected }, Some(Reply::Stat(stat))) => {
                self.counters.insert(key.clone(), stat.version);
                let told = Told::Done(Version {
                    version: stat.version,
                    mzxid: stat.mzxid,
                });
                What::Raise {
                    key,
                    expected,
                    told,
                }
            }
            (Asked::Sequential { parent, mark }, Some(Reply::PathStat(path, stat))) => {
                let name = path.rsplit('/').next().unwrap_or_default().to_owned();
                let told = Told::Done((name, stat.czxid));
                What::Sequential { parent, mark, told }
            }
            (Asked::Pair { value }, Some(Reply::Multi(results))) => {
                let Some(MultiResult::SetData(stat)) = results.first() else {
                    return;
                };
                let told = Told::Done(stat.mzxid);
                What::Pair { value, told }
            }
            (Asked::Read { key, synced }, Some(Reply::DataStat(data, stat))) => {
                let value = String::from_utf8_lossy(data.unwrap_or_default()).into_owned();
                if COUNTERS.contains(&key.as_str()) {
                    self.counters.insert(key.clone(), stat.version);
                }
                let saw = (
                    value,
                    Version {
                        version: stat.version,
                        mzxid: stat.mzxid,
                    },
                );
                What::Read { key, synced, saw }
            }
            (Asked::Sync, Some(_)) => {
                let key = self.any_node();
                // A sync and its read are one call.
                self.call_read(now, conn, began, key, true);
                return;
            }
            (Asked::Lock, Some(_)) => {
                self.locked = true;
                self.unlock_at = now + self.rng.random_range(0..HOLD_MOST);
                self.acts.push(Act::Locked);
                return;
            }
            (Asked::Close, _) => {
                self.acts.push(Act::HangUp(conn));
                self.phase = Phase::Down { until: now + 1_000 };
                self.forget_session();
                return;
            }
            // Refused: it had no effect.
            _ => return,
        };
        self.note(began, stamp(), what);
    }
}

enum Ask {
    Write(Txn<'static>),
    Read(String),
    Sync,
}

fn next_frame(buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let len = buffer
        .first_chunk::<4>()
        .map(|len| u32::from_be_bytes(*len))?;
    let end = 4 + usize::try_from(len).unwrap();
    if buffer.len() < end {
        return None;
    }
    let frame: Vec<u8> = buffer.drain(..end).collect();
    Some(frame[4..].to_vec())
}

fn set(key: &str, value: &str, version: i32) -> Op<'static> {
    Op::SetData {
        path: Cow::Owned(key.to_owned()),
        data: Some(Cow::Owned(value.as_bytes().to_vec())),
        version: Expected(version),
        enforce_quota: false,
    }
}

/// A create, as an operation.
pub(super) fn create_op(path: &str, data: &str, kind: CreateKind, sequential: bool) -> Op<'static> {
    Op::Create(Create {
        path: Cow::Owned(path.to_owned()),
        data: Some(Cow::Owned(data.as_bytes().to_vec())),
        acl: Cow::Owned(Acl::open_unsafe()),
        kind,
        sequential,
        enforce_quota: false,
        with_stat: true,
    })
}

fn create(path: &str, data: &str, kind: CreateKind, sequential: bool) -> Ask {
    Ask::Write(Txn::Op(create_op(path, data, kind, sequential)))
}
