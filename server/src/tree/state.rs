//! The replicated state, and the one function that changes it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::DefaultHashBuilder;
use quorate_proto::{EventType, SessionId, Zxid};

use super::builder::StateBuilder;
use super::capture::Capture;
use super::commit::commit;
use super::core::Core;
use super::node::Owner;
use super::plan::{Overlay, Planner};
use super::sessions::{SessionInfo, shard_of};
use super::store::{Shared, Tree};
use super::txn::{Op, Origin, Outcome, Proposal, Ticket, Txn, Verdict};
use super::{Caller, password};

/// Is told of each change while the shards of the change are locked.
pub(crate) trait ChangeSink {
    /// Must not wait, and must not touch the state: its locks are held.
    ///
    /// For each change first the znode's own event, with its ACL (for a delete the one that it
    /// had), then `NodeChildrenChanged` with the parent's path and ACL.
    fn change(&mut self, zxid: Zxid, event: EventType, path: &str, acl: &[quorate_proto::Acl]);
}

/// Tree, sessions, zxid, cluster key and level: the same on every server at one log index.
pub(crate) struct State {
    pub(super) tree: Tree,
}

impl State {
    /// The state of a cluster that was just founded: the reserved znodes and nothing else.
    pub(crate) fn new(cluster_key: [u8; 32]) -> State {
        State::builder(cluster_key)
            .finish()
            .expect("reserved znodes fit together")
    }

    /// Starts to load a state.
    pub(crate) fn builder(cluster_key: [u8; 32]) -> StateBuilder {
        StateBuilder::new(cluster_key, DefaultHashBuilder::default())
    }

    /// Starts to load a state that may take the place of this one.
    pub(crate) fn successor(&self) -> StateBuilder {
        let key = self.shared().read_gate().key;
        StateBuilder::new(key, self.shared().hasher())
    }

    /// Puts a [`successor`](State::successor) in place of all that is here, in one step: every
    /// reader sees the old state or the new one, whole. Captures of the old state stay what they
    /// are. Returns the old one, which takes a while to drop.
    ///
    /// Only for the writer, between two transactions.
    pub(crate) fn replace(&self, mut by: State) -> State {
        let new = Arc::get_mut(&mut by.tree.0).expect("nobody else has it yet");
        self.shared().swap(new);
        by.publish();
        by
    }

    /// The znodes.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    fn shared(&self) -> &Shared {
        &self.tree.0
    }

    /// Zxid of the last transaction that was applied.
    pub(crate) fn applied_zxid(&self) -> Zxid {
        Zxid(self.shared().applied.load(Ordering::Acquire))
    }

    /// The zxid of the last request, when none is being applied: it waits for the one that is.
    ///
    /// A read may see a change, and its zxid, before [`applied_zxid`](State::applied_zxid) says
    /// that the request is applied. Whoever judges what a client claims to have seen asks here.
    pub(crate) fn settled_zxid(&self) -> Zxid {
        Zxid(self.shared().read_gate().zxid)
    }

    /// Which rules of apply are in force.
    #[cfg(test)]
    pub(crate) fn level(&self) -> u32 {
        self.shared().read_gate().level
    }

    /// What makes session passwords; part of a snapshot.
    #[cfg(test)]
    pub(crate) fn cluster_key(&self) -> [u8; 32] {
        self.shared().read_gate().key
    }

    /// A new leader's first entry: zxids start again in a higher epoch.
    pub(crate) fn begin_epoch(&self, term: u64) {
        let mut core = self.shared().write_gate();
        // Zxids are signed: an epoch has 31 bits. No cluster gets there.
        let term = i64::try_from(term)
            .unwrap_or(i64::MAX)
            .min(i64::from(i32::MAX));
        core.zxid = ((core.zxid >> 32) + 1).max(term) << 32;
        publish(self.shared(), &core);
    }

    /// Applies one transaction. The only writer: one caller, in log order.
    pub(crate) fn apply(
        &self,
        time_ms: i64,
        proposal: &Proposal<'_>,
        sink: &mut dyn ChangeSink,
    ) -> Verdict {
        let mut core = self.shared().write_gate();
        let mut apply = Apply {
            state: self,
            core: &mut core,
            time_ms,
            caller: proposal.caller,
            sink,
        };
        let verdict = apply.proposal(proposal.origin, &proposal.txn);
        publish(self.shared(), &core);
        verdict
    }

    /// A session, if it is alive.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn session(&self, id: SessionId) -> Option<SessionInfo> {
        self.shared().read_gate().sessions.get(id).copied()
    }

    /// All sessions, in the order of their ids.
    pub(crate) fn sessions(&self) -> Vec<(SessionId, SessionInfo)> {
        self.shared().read_gate().sessions.sorted()
    }

    /// The password that opens this session again.
    pub(crate) fn password(&self, id: SessionId) -> [u8; 16] {
        let core = self.shared().read_gate();
        let imported = core.sessions.get(id).is_some_and(|live| live.imported);
        password_of(&core.key, id, imported)
    }

    /// Whether a client that presents this may have the session. Never for
    /// [`SessionId::NONE`].
    pub(crate) fn password_matches(&self, id: SessionId, given: &[u8]) -> bool {
        id != SessionId::NONE && password::equal(&self.password(id), given)
    }

    /// The znodes that go with this session, in the order of their paths.
    pub(crate) fn ephemerals_of(&self, id: SessionId) -> Vec<Arc<str>> {
        self.shared().read_gate().ephemerals.of(id.0)
    }

    /// Starts to take the state as it is now, without stopping what comes after. Not to be
    /// called under the gate.
    pub(crate) fn capture(&self) -> Capture {
        Capture::start(self.tree.0.clone())
    }
}

fn password_of(key: &[u8; 32], id: SessionId, imported: bool) -> [u8; 16] {
    if imported {
        password::of_zookeeper(id)
    } else {
        password::own(key, id)
    }
}

pub(super) fn publish(shared: &Shared, core: &Core) {
    let counts = &shared.counts;
    counts.nodes.store(core.totals.nodes, Ordering::Relaxed);
    counts.bytes.store(core.totals.bytes, Ordering::Relaxed);
    counts
        .ephemerals
        .store(core.ephemerals.len(), Ordering::Relaxed);
    counts.digest.store(core.totals.digest, Ordering::Release);
    shared.applied.store(core.zxid, Ordering::Release);
}

impl State {
    /// For what is loaded, before anybody sees it.
    pub(super) fn publish(&self) {
        publish(self.shared(), &self.shared().read_gate());
    }
}

/// One transaction, while the gate is closed.
struct Apply<'a> {
    state: &'a State,
    core: &'a mut Core,
    time_ms: i64,
    caller: Caller<'a>,
    sink: &'a mut dyn ChangeSink,
}

impl Apply<'_> {
    fn proposal(&mut self, origin: Origin, txn: &Txn<'_>) -> Verdict {
        match txn {
            Txn::Op(op) => {
                if let Err(verdict) = self.take_turn(origin) {
                    return verdict;
                }
                self.single(origin.session, op)
            }
            Txn::Multi(ops) => {
                if let Err(verdict) = self.take_turn(origin) {
                    return verdict;
                }
                self.multi(origin.session, ops)
            }
            Txn::OpenSession { ticket, timeout_ms } => self.open_session(*ticket, *timeout_ms),
            Txn::Attach {
                ticket,
                session,
                timeout_ms,
            } => self.attach(*ticket, *session, *timeout_ms),
            Txn::CloseSession => self.close_session(origin),
            Txn::ExpireSession { session, judged } => {
                match self.core.sessions.get(*session) {
                    Some(live) if live.attach == judged.attach && live.last_seq <= judged.seq => {
                        self.end_session(*session)
                    }
                    // Attached again since, or it wrote, or it is closed: not silent after all.
                    Some(_) | None => Verdict::Void,
                }
            }
            Txn::Reap { path, czxid, mzxid } => self.reap(path, *czxid, *mzxid),
        }
    }

    /// Whether this is the next write of its session (R8). If so, it has had its turn.
    fn take_turn(&mut self, origin: Origin) -> Result<(), Verdict> {
        let session = self
            .core
            .sessions
            .get(origin.session)
            .ok_or(Verdict::Stale)?;
        if session.attach != origin.attach {
            return Err(Verdict::Stale);
        }
        if origin.seq <= session.last_seq {
            return Err(Verdict::Duplicate);
        }
        if origin.seq != session.last_seq + 1 {
            return Err(Verdict::Stale);
        }
        self.change_session(origin.session, |session| session.last_seq = origin.seq);
        Ok(())
    }

    /// Lets captures see a session record before it changes.
    fn before_session(&mut self, id: SessionId) {
        let shard = shard_of(id);
        for capture in &self.core.captures {
            capture.before_session_write(shard, self.core.sessions.shard(shard));
        }
    }

    fn change_session(&mut self, id: SessionId, change: impl FnOnce(&mut SessionInfo)) {
        self.before_session(id);
        if let Some(session) = self.core.sessions.get_mut(id) {
            change(session);
        }
    }

    fn planner(&mut self, session: SessionId, zxid: Zxid) -> Planner<'_> {
        Planner {
            tree: &self.state.tree.0,
            core: self.core,
            caller: self.caller,
            session: session.0,
            zxid: zxid.0,
            time_ms: self.time_ms,
            overlay: None,
            changes: Vec::with_capacity(1),
        }
    }

    fn single(&mut self, session: SessionId, op: &Op<'_>) -> Verdict {
        let zxid = self.core.next_zxid();
        let mut planner = self.planner(session, zxid);
        let outcome = match planner.judge(op) {
            Ok(result) => {
                let changes = planner.changes;
                commit(self.state.shared(), self.core, zxid, &changes, self.sink);
                Outcome::Done(result)
            }
            Err(code) => Outcome::Failed(code),
        };
        Verdict::Judged { zxid, outcome }
    }

    fn multi(&mut self, session: SessionId, ops: &[Op<'_>]) -> Verdict {
        let zxid = self.core.next_zxid();
        let mut planner = self.planner(session, zxid);
        if ops.len() > 1 {
            planner.overlay = Some(Overlay::with_capacity(ops.len()));
            planner.changes.reserve(ops.len());
        }
        let mut results = Vec::with_capacity(ops.len());
        for (index, op) in ops.iter().enumerate() {
            match planner.judge(op) {
                Ok(result) => results.push(result),
                Err(code) => {
                    let outcome = Outcome::MultiFailed { index, code };
                    return Verdict::Judged { zxid, outcome };
                }
            }
        }
        let changes = planner.changes;
        commit(self.state.shared(), self.core, zxid, &changes, self.sink);
        let outcome = Outcome::MultiDone(results);
        Verdict::Judged { zxid, outcome }
    }

    fn open_session(&mut self, ticket: Ticket, timeout_ms: i32) -> Verdict {
        let (zxid, session) = loop {
            let zxid = self.core.next_zxid();
            let session = session_id(ticket.server, zxid);
            // An import may have brought this id along.
            if self.core.sessions.get(session).is_none() {
                break (zxid, session);
            }
        };
        self.before_session(session);
        self.core.sessions.insert(
            session,
            SessionInfo {
                timeout_ms,
                attach: 1,
                last_seq: 0,
                ticket: Some(ticket),
                imported: false,
            },
        );
        Verdict::Opened {
            zxid,
            session,
            timeout_ms,
            password: password_of(&self.core.key, session, false),
        }
    }

    fn attach(&mut self, ticket: Ticket, session: SessionId, timeout_ms: i32) -> Verdict {
        let Some(&live) = self.core.sessions.get(session) else {
            return Verdict::AttachRefused;
        };
        if live.ticket == Some(ticket) {
            return Verdict::Duplicate;
        }
        let attach = live.attach.wrapping_add(1);
        self.change_session(session, |live| {
            live.attach = attach;
            live.last_seq = 0;
            live.timeout_ms = timeout_ms;
            live.ticket = Some(ticket);
        });
        Verdict::Attached {
            session,
            attach,
            timeout_ms,
            password: password_of(&self.core.key, session, live.imported),
        }
    }

    fn close_session(&mut self, origin: Origin) -> Verdict {
        match self.core.sessions.get(origin.session) {
            // From a connection whose session moved on: accepted without a number, as ZooKeeper
            // does.
            Some(live) if origin.attach < live.attach => {}
            Some(_) => {
                if let Err(verdict) = self.take_turn(origin) {
                    return verdict;
                }
            }
            None => return Verdict::Stale,
        }
        self.end_session(origin.session)
    }

    /// The session and all that goes with it, in one commit (R12).
    fn end_session(&mut self, session: SessionId) -> Verdict {
        let zxid = self.core.next_zxid();
        let paths = self.core.ephemerals.of(session.0);
        let mut planner = self.planner(session, zxid);
        // No overlay: ephemerals have no children, so no deletion depends on another.
        for path in &paths {
            let planned = planner.remove(path);
            debug_assert!(planned, "ephemeral in the index and not in the tree");
        }
        let changes = planner.changes;
        commit(self.state.shared(), self.core, zxid, &changes, self.sink);
        self.before_session(session);
        self.core.sessions.remove(session);
        Verdict::Closed { zxid, session }
    }

    /// Deletes a container or TTL znode that is still what the leader saw.
    fn reap(&mut self, path: &str, czxid: Zxid, mzxid: Zxid) -> Verdict {
        let tree = self.state.shared();
        let Some((node, family)) = tree.look(tree.place(path), path) else {
            return Verdict::Void;
        };
        let unchanged = node.czxid() == czxid.0 && node.mzxid() == mzxid.0;
        let reapable = matches!(node.owner(), Owner::Container | Owner::Ttl(_));
        if !unchanged || !reapable || family.children > 0 {
            return Verdict::Void;
        }
        let zxid = self.core.next_zxid();
        let mut planner = self.planner(SessionId::NONE, zxid);
        planner.remove(path);
        let changes = planner.changes;
        commit(self.state.shared(), self.core, zxid, &changes, self.sink);
        let outcome = Outcome::Done(super::txn::OpResult::Deleted);
        Verdict::Judged { zxid, outcome }
    }
}

/// The server's number, and the low 56 bits of the opening zxid: unique without a clock (R13).
fn session_id(server: u8, zxid: Zxid) -> SessionId {
    // A top byte of 0xFF would make an ephemeral of this session look like a TTL znode: server 255
    // shares that of 254, and the zxid keeps their ids apart. 0x80 is a container's mark only
    // with nothing behind it, and the zxid of an opening is never 0.
    let server = server.min(0xFE);
    let low = zxid.0 & ((1 << 56) - 1);
    SessionId((i64::from(server) << 56) | low)
}
