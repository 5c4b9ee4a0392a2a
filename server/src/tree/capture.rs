//! The state at one point of the log, taken while the log goes on.
//!
//! Starting a capture copies nothing. Whoever comes first copies a shard: the capture's reader in
//! its turn, or apply just before its first write there. A copy is one pointer per znode; the
//! counters of its children are copied by value, because apply changes them in place (R29).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::HashMap;
use parking_lot::Mutex;
use quorate_proto::{Acl, SessionId, Zxid};

use super::core::Totals;
use super::node::{Family, Node, PersistedStat};
use super::sessions::{SESSION_SHARDS, SessionInfo};
use super::shard::Shard;
use super::store::{SHARDS, Shared};

/// A shard's place in a capture.
enum Slot<T> {
    /// Unchanged since the capture began, and not yet read.
    Waiting,
    /// Copied by apply.
    Copied(Vec<T>),
    /// Read.
    Done,
}

type Slots<T> = Box<[Mutex<Slot<T>>]>;

/// What apply and the capture's reader share.
pub(super) struct Progress {
    nodes: Slots<CapturedNode>,
    sessions: Slots<(SessionId, SessionInfo)>,
    over: AtomicBool,
}

fn slots<T>(count: usize) -> Slots<T> {
    (0..count).map(|_| Mutex::new(Slot::Waiting)).collect()
}

impl Progress {
    /// Called with the gate closed and under the shard's lock.
    pub(super) fn before_write(&self, at: usize, shard: &Shard, tree: &Shared) {
        if self.over.load(Ordering::Acquire) {
            return;
        }
        copy_before(&self.nodes, at, || copy_nodes(shard, tree));
    }

    /// Called with the gate closed.
    pub(super) fn before_session_write(&self, at: usize, shard: &HashMap<i64, SessionInfo>) {
        if self.over.load(Ordering::Acquire) {
            return;
        }
        copy_before(&self.sessions, at, || copy_sessions(shard));
    }
}

fn copy_before<T>(slots: &Slots<T>, at: usize, copy: impl FnOnce() -> Vec<T>) {
    if let Some(slot) = slots.get(at) {
        let mut slot = slot.lock();
        if matches!(*slot, Slot::Waiting) {
            *slot = Slot::Copied(copy());
        }
    }
}

fn read_slot<T>(slots: &Slots<T>, at: usize, copy: impl FnOnce() -> Vec<T>) -> Vec<T> {
    let Some(slot) = slots.get(at) else {
        return Vec::new();
    };
    match std::mem::replace(&mut *slot.lock(), Slot::Done) {
        Slot::Waiting => copy(),
        Slot::Copied(copied) => copied,
        Slot::Done => Vec::new(),
    }
}

fn copy_nodes(shard: &Shard, tree: &Shared) -> Vec<CapturedNode> {
    let mut nodes = Vec::with_capacity(shard.len());
    nodes.extend(shard.nodes().map(|node| CapturedNode {
        node: node.clone(),
        family: shard.family_of(node, tree),
    }));
    nodes
}

fn copy_sessions(shard: &HashMap<i64, SessionInfo>) -> Vec<(SessionId, SessionInfo)> {
    shard
        .iter()
        .map(|(&id, &session)| (SessionId(id), session))
        .collect()
}

/// The state at the point of the log where the capture began.
///
/// May be read on any thread while transactions are applied. Dropping it ends it.
pub(crate) struct Capture {
    tree: Arc<Shared>,
    progress: Arc<Progress>,
    next: usize,
    zxid: Zxid,
    level: u32,
    key: [u8; 32],
    totals: Totals,
}

impl Capture {
    pub(super) fn start(tree: Arc<Shared>) -> Capture {
        let progress = Arc::new(Progress {
            nodes: slots(SHARDS),
            sessions: slots(SESSION_SHARDS),
            over: AtomicBool::new(false),
        });
        let mut core = tree.write_gate();
        core.captures
            .retain(|other| !other.over.load(Ordering::Acquire));
        core.captures.push(progress.clone());
        let (zxid, level, totals) = (Zxid(core.zxid), core.level, core.totals);
        let key = core.key;
        drop(core);
        Capture {
            tree,
            progress,
            next: 0,
            zxid,
            level,
            key,
            totals,
        }
    }

    /// The znodes of the next shard, sorted by path; `None` behind the last one. Some are empty.
    pub(crate) fn next_section(&mut self) -> Option<Vec<CapturedNode>> {
        let at = self.next;
        if at == SHARDS {
            return None;
        }
        self.next += 1;
        let mut section = {
            // Held while it is marked as read, so that apply cannot write in between.
            let shard = self.tree.read_shard(at);
            read_slot(&self.progress.nodes, at, || copy_nodes(&shard, &self.tree))
        };
        section.sort_unstable_by(|a, b| a.path().cmp(b.path()));
        Some(section)
    }

    /// All sessions, in the order of their ids. Once: a second call finds none.
    pub(crate) fn sessions(&mut self) -> Vec<(SessionId, SessionInfo)> {
        let mut all = Vec::new();
        for at in 0..SESSION_SHARDS {
            let core = self.tree.read_gate();
            all.extend(read_slot(&self.progress.sessions, at, || {
                copy_sessions(core.sessions.shard(at))
            }));
        }
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }

    /// The last zxid in it.
    pub(crate) fn zxid(&self) -> Zxid {
        self.zxid
    }

    /// The rules of apply that were in force.
    pub(crate) fn level(&self) -> u32 {
        self.level
    }

    /// The key of session passwords.
    pub(crate) fn cluster_key(&self) -> [u8; 32] {
        self.key
    }

    /// The digest of its tree.
    pub(crate) fn digest(&self) -> u64 {
        self.totals.digest
    }

    /// How many znodes all sections hold.
    #[cfg(test)]
    pub(crate) fn node_count(&self) -> u64 {
        self.totals.nodes
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.progress.over.store(true, Ordering::Release);
        for slot in &self.progress.nodes {
            *slot.lock() = Slot::Done;
        }
        for slot in &self.progress.sessions {
            *slot.lock() = Slot::Done;
        }
    }
}

/// A znode as it was when the capture began.
pub(crate) struct CapturedNode {
    node: Node,
    family: Family,
}

impl CapturedNode {
    /// Its path; the root's is `/`.
    pub(crate) fn path(&self) -> &str {
        self.node.path()
    }

    /// Its data; `None` is null.
    pub(crate) fn data(&self) -> Option<&[u8]> {
        self.node.data()
    }

    /// Its access control list.
    pub(crate) fn acl(&self) -> &[Acl] {
        self.node.acl()
    }

    /// Its Stat, as a snapshot stores it.
    pub(crate) fn stat(&self) -> PersistedStat {
        self.node.persisted(self.family)
    }
}
