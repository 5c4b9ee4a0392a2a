//! Who is connected here, which session each connection stands for, and when a silent session is
//! over.
//!
//! The replicated part of a session (that it exists, its timeout, attach and last write) is in
//! `tree`. Here is what one server adds: its connections and their outboxes, the handshakes that
//! wait for the log, and the leader's expiry queue. `deliver` is the way back from apply: outcomes
//! and events become frames in outboxes. `reports` is what a server of an ensemble tells its leader
//! of its sessions and what it may tell its clients in turn; `judge` is the leader's end of that.
//! Why the three rules together keep two clients from one lock: `docs/design/session-lease.md`.

mod confirm;
mod conn;
mod deliver;
mod expiry;
mod identities;
mod judge;
#[cfg(test)]
mod lease_tests;
mod live;
mod outbox;
mod reports;
mod wake;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hashbrown::DefaultHashBuilder;
use parking_lot::{Mutex, RwLock};
use quorate_proto::{SessionId, Zxid};

pub(crate) use self::confirm::{Bounds, Confirm, Unconfirmed};
pub(crate) use self::conn::{Conn, millis};
pub(crate) use self::deliver::Delivery;
pub(crate) use self::identities::Identities;
pub(crate) use self::live::{Live, Overdue};
pub(crate) use self::outbox::{Budget, CloseReason, Fate, InFlight, PAUSE_BYTES};
#[cfg(test)]
pub(crate) use self::reports::Report;
pub(crate) use self::reports::Reports;
use crate::clock::SharedClock;
use crate::metrics::Metrics;
use crate::tree::txn::Ticket;
use crate::watches::{ConnId, Watches};

/// Bytes that all outboxes of a server may hold before large ones are closed.
const OUTBOX_BUDGET: usize = 512 << 20;

/// Zxids between two recorded digests, as in ZooKeeper.
const DIGEST_EVERY: i64 = 128;
/// Recorded digests that are kept.
const DIGESTS_MOST: usize = 1024;

/// A handshake that waits for its entry in the log.
#[derive(Debug)]
pub(crate) struct Handshake {
    /// The connection.
    pub(crate) conn: Arc<Conn>,
    /// Whether, and how, the request carried the readOnly byte.
    pub(crate) read_only: Option<bool>,
    /// The largest zxid that the client has seen.
    pub(crate) last_zxid_seen: Zxid,
}

/// The connections of one server and the sessions of the ensemble.
pub(crate) struct Sessions {
    /// Armed by reads, fired by apply.
    pub(crate) watches: Watches,
    /// Sessions by the time at which they are over.
    pub(crate) live: Mutex<Live>,
    /// Digests of the tree, as `hash` shows them: one every [`DIGEST_EVERY`] zxids.
    pub(crate) digests: Mutex<VecDeque<(Zxid, u64)>>,
    /// Apply holds it around the table of watches, so nobody takes it under that.
    conns: RwLock<Conns>,
    by_session: RwLock<HashMap<SessionId, Arc<Conn>, DefaultHashBuilder>>,
    handshakes: Mutex<HashMap<u64, Handshake>>,
    next_ticket: AtomicU64,
    server: u8,
    boot: u64,
    budget: Arc<Budget>,
    /// In an ensemble: who confirms the sessions. A server that stands alone needs nobody.
    reports: OnceLock<Arc<Reports>>,
    /// This server judges an ensemble: it counts the writes that it applies.
    counts_writes: AtomicBool,
    clock: SharedClock,
    metrics: Arc<Metrics>,
}

/// Open connections by number.
///
/// A number is not used again before all others were: apply may still be about to tell a
/// connection of an event that has just gone, and a successor under the same number would hear it,
/// even before the answer to its handshake.
#[derive(Debug, Default)]
struct Conns {
    open: HashMap<ConnId, Arc<Conn>, DefaultHashBuilder>,
    next: u32,
}

impl Conns {
    fn get(&self, id: ConnId) -> Option<&Arc<Conn>> {
        self.open.get(&id)
    }

    fn free_number(&mut self) -> ConnId {
        loop {
            let id = ConnId(self.next);
            self.next = self.next.wrapping_add(1);
            // Sockets end long before 2^32.
            if !self.open.contains_key(&id) {
                return id;
            }
        }
    }
}

impl Sessions {
    /// For server number `server`; `boot` is drawn at random at every start (R11).
    pub(crate) fn new(
        server: u8,
        boot: u64,
        tick_ms: u64,
        clock: SharedClock,
        metrics: Arc<Metrics>,
    ) -> Arc<Sessions> {
        Arc::new(Sessions {
            watches: Watches::new(),
            live: Mutex::new(Live::new(tick_ms)),
            digests: Mutex::default(),
            conns: RwLock::default(),
            by_session: RwLock::default(),
            handshakes: Mutex::default(),
            next_ticket: AtomicU64::new(1),
            server,
            boot,
            budget: Budget::new(OUTBOX_BUDGET),
            reports: OnceLock::new(),
            counts_writes: AtomicBool::new(false),
            clock,
            metrics,
        })
    }

    /// A connection that was just accepted.
    pub(crate) fn accept(&self, peer: SocketAddr, identities: Arc<Identities>) -> Arc<Conn> {
        let mut conns = self.conns.write();
        let id = conns.free_number();
        let conn = Arc::new(Conn::new(id, peer, identities, self.budget.clone()));
        conn.stats
            .established_ms
            .store(self.clock.wall_ms(), Ordering::Relaxed);
        conns.open.insert(id, conn.clone());
        self.metrics.connections.add(1);
        conn
    }

    /// A connection whose task is done: its watches go with it. The session
    /// stays until it is closed or silent for its timeout.
    pub(crate) fn remove(&self, conn: &Arc<Conn>) {
        // Closed before it is unbound: an attach that is being applied either sees this, or binds
        // first and is unbound here.
        conn.outbox().leave();
        if conn.attachment.get().is_none() {
            self.handshakes
                .lock()
                .retain(|_, handshake| !Arc::ptr_eq(&handshake.conn, conn));
        }
        if let Some(attachment) = conn.attachment.get() {
            self.live
                .lock()
                .spoke(attachment.session, conn.heard_ms.load(Ordering::SeqCst));
            let mut by_session = self.by_session.write();
            if by_session
                .get(&attachment.session)
                .is_some_and(|bound| Arc::ptr_eq(bound, conn))
            {
                by_session.remove(&attachment.session);
            }
        }
        self.watches.remove_connection(conn.id);
        let mut conns = self.conns.write();
        if conns.open.remove(&conn.id).is_some() {
            self.metrics.connections.add(-1);
        }
    }

    /// Registers a handshake that is about to be proposed, under a ticket of its own.
    pub(crate) fn handshake(&self, handshake: Handshake) -> Ticket {
        let count = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        // The entry is applied later than now on every server, the leader's among them.
        let now_ms = millis(self.clock.monotonic());
        handshake.conn.proven_ms.store(now_ms, Ordering::Release);
        self.handshakes.lock().insert(count, handshake);
        Ticket {
            server: self.server,
            boot: self.boot,
            count,
        }
    }

    /// Takes a handshake back: it was not proposed after all.
    pub(crate) fn forget_handshake(&self, ticket: Ticket) {
        self.handshakes.lock().remove(&ticket.count);
    }

    /// Closes the connection that stands for a session, if it is here. ZooKeeper does so at every
    /// re-attach, before it looks at the password.
    pub(crate) fn cut(&self, session: SessionId, reason: CloseReason) {
        if let Some(conn) = self.by_session(session) {
            conn.close(reason);
        }
    }

    /// The connection that stands for a session.
    pub(crate) fn by_session(&self, session: SessionId) -> Option<Arc<Conn>> {
        self.by_session.read().get(&session).cloned()
    }

    /// The session of every open connection, [`SessionId::NONE`] before its handshake.
    pub(crate) fn sessions_by_connection(&self) -> HashMap<ConnId, SessionId> {
        let conns = self.conns.read();
        conns
            .open
            .values()
            .map(|conn| (conn.id, conn.session()))
            .collect()
    }

    /// Every open connection, in the order of their numbers.
    pub(crate) fn connections(&self) -> Vec<Arc<Conn>> {
        let mut open: Vec<_> = self.conns.read().open.values().cloned().collect();
        open.sort_unstable_by_key(|conn| conn.id);
        open
    }

    /// Closes every connection.
    pub(crate) fn close_all(&self, reason: CloseReason) {
        for conn in self.connections() {
            conn.close(reason);
        }
    }

    /// This server is one of an ensemble: from now on its clients are answered on the strength of
    /// these reports. Called once, before clients are served.
    pub(crate) fn join_ensemble(&self, reports: Arc<Reports>) {
        // A second call would find the first one's reports in use: they stay.
        let _ = self.reports.set(reports);
    }

    /// Whether this server is one of an ensemble.
    ///
    /// It then answers requests of a session whose expiry is on its way: whichever comes first in
    /// the log makes the other void. Only confirmations are kept back, until one of them is.
    pub(crate) fn in_ensemble(&self) -> bool {
        self.reports.get().is_some()
    }

    /// Whether clients may be answered at `now`, and taken in (R17). Always so for a server that
    /// stands alone.
    pub(crate) fn is_fresh(&self, now: Duration) -> bool {
        self.reports
            .get()
            .is_none_or(|reports| reports.is_fresh(now))
    }

    /// Whether a request that was read at `now`, or a reply that is about to leave then, may be
    /// answered: a server that was cut off, or stood still, finds out here before its client does.
    pub(crate) fn may_answer(&self, conn: &Conn, now: Duration) -> bool {
        let in_time = |reports: &Arc<Reports>| reports.is_fresh(now) && conn.is_proven(now);
        self.reports.get().is_none_or(in_time)
    }

    /// Has a session confirmed that was touched before this call (R16). `None`: it is; else once
    /// [`Conn::confirmed`] has reached the number, for which the connection is woken.
    pub(crate) fn confirm(&self, conn: &Arc<Conn>) -> Option<u64> {
        let reports = self.reports.get()?;
        // In this order: the lease outlasts the touch, and the mark is looked at behind it.
        let confirmed = reports.confirms_alone() && !conn.expiring.load(Ordering::SeqCst);
        (!confirmed).then(|| reports.ask(conn))
    }

    /// Closes every connection that has a session or is about to have one.
    pub(crate) fn close_clients(&self, reason: CloseReason) {
        for conn in self.connections() {
            if conn.attachment.get().is_some() {
                conn.close(reason);
            }
        }
        let waiting = std::mem::take(&mut *self.handshakes.lock());
        for handshake in waiting.into_values() {
            handshake.conn.close(reason);
        }
    }

    /// The connections that stand for a session.
    fn attached(&self) -> Vec<Arc<Conn>> {
        self.by_session.read().values().cloned().collect()
    }

    /// The log takes no more writes: whoever waits for one is told so, by a closed connection.
    pub(crate) fn abandon_writes(&self) {
        for conn in self.connections() {
            let waits = conn.outbox().in_flight() > 0;
            if waits {
                conn.close(CloseReason::OutcomeUnknown);
            }
        }
        for (_, handshake) in self.handshakes.lock().drain() {
            handshake.conn.close(CloseReason::OutcomeUnknown);
        }
    }
}
