//! The tree as readers see it: shards of znodes behind locks, and the apply gate.
//!
//! Lock order: the gate, then shards in ascending order. A reader of one znode holds one shard.
//! Whoever needs several to agree holds the gate, which is closed while a request is applied.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use hashbrown::DefaultHashBuilder;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use quorate_proto::path::ROOT;
use quorate_proto::{Acl, Stat, Zxid};

use super::core::Core;
use super::names::NamesIter;
use super::node::{Family, Node};
use super::shard::{Parent, Shard};
use crate::lock_order::{Ordered, Rank};

/// How many locks the znodes are spread over.
pub(super) const SHARDS: usize = 1024;

/// Walks below this many znodes do not look at the whole tree.
const WALK_MAX: usize = 1000;

/// All znodes.
pub(crate) struct Tree(pub(super) Arc<Shared>);

/// A lock of the tree, held for reading.
pub(super) type ReadHeld<'a, T> = Ordered<RwLockReadGuard<'a, T>>;

/// A lock of the tree, held for writing.
pub(super) type WriteHeld<'a, T> = Ordered<RwLockWriteGuard<'a, T>>;

/// What apply, readers and captures share.
pub(super) struct Shared {
    gate: RwLock<Core>,
    shards: Box<[RwLock<Shard>]>,
    hasher: DefaultHashBuilder,
    pub(super) applied: AtomicI64,
    pub(super) counts: Counts,
}

/// Totals, published when a request has been applied.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) nodes: AtomicU64,
    pub(super) ephemerals: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) digest: AtomicU64,
}

/// Where a path is: its hash, of which the shard follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place(u64);

impl Place {
    pub(super) fn shard(self) -> usize {
        // The table inside the shard uses the lowest and the highest bits.
        (self.0 >> 32) as usize % SHARDS
    }

    pub(super) fn hash(self) -> u64 {
        self.0
    }
}

impl Shared {
    pub(super) fn new(core: Core, hasher: DefaultHashBuilder) -> Shared {
        Shared {
            gate: RwLock::new(core),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            hasher,
            applied: AtomicI64::new(0),
            counts: Counts::default(),
        }
    }

    /// What places znodes: whoever is to take this one's place must place them alike.
    pub(super) fn hasher(&self) -> DefaultHashBuilder {
        self.hasher.clone()
    }

    pub(super) fn hash(&self, path: &[u8]) -> u64 {
        use std::hash::{BuildHasher, Hasher};
        let mut hasher = self.hasher.build_hasher();
        hasher.write(path);
        hasher.finish()
    }

    pub(super) fn place(&self, path: &str) -> Place {
        Place(self.hash(path.as_bytes()))
    }

    fn lock(&self, shard: usize) -> &RwLock<Shard> {
        self.shards
            .get(shard)
            .expect("shards are taken modulo their number")
    }

    pub(super) fn read_shard(&self, shard: usize) -> ReadHeld<'_, Shard> {
        Ordered::lock(Rank::Shard(shard), || self.lock(shard).read())
    }

    pub(super) fn write_shard(&self, shard: usize) -> WriteHeld<'_, Shard> {
        Ordered::lock(Rank::Shard(shard), || self.lock(shard).write())
    }

    /// Keeps the gate shut for apply; whoever holds it so already may do it again.
    pub(super) fn read_gate(&self) -> ReadHeld<'_, Core> {
        Ordered::lock(Rank::Gate, || self.gate.read_recursive())
    }

    /// Keeps the gate shut for apply, but lets an apply that waits go first: readers that hold it
    /// for long and overlap would keep apply out for ever. Not for who holds it already.
    fn queue_at_gate(&self) -> ReadHeld<'_, Core> {
        Ordered::lock(Rank::Gate, || self.gate.read())
    }

    /// Passes the gate alone.
    pub(super) fn write_gate(&self) -> WriteHeld<'_, Core> {
        Ordered::lock(Rank::Gate, || self.gate.write())
    }

    /// Before anybody else knows this tree.
    pub(super) fn core_mut(&mut self) -> &mut Core {
        self.gate.get_mut()
    }

    /// The same of a shard.
    pub(super) fn shard_mut(&mut self, shard: usize) -> &mut Shard {
        self.shards
            .get_mut(shard)
            .expect("shards are taken modulo their number")
            .get_mut()
    }

    /// The znode with its family, by value.
    pub(super) fn look(&self, place: Place, path: &str) -> Option<(Node, Family)> {
        let shard = self.read_shard(place.shard());
        let node = shard.node(place.hash(), path)?;
        Some((node.clone(), shard.family(place.hash(), node)))
    }
}

impl Tree {
    /// Opens one znode for reading; the empty path is the root.
    pub(crate) fn read<'a>(&'a self, path: &'a str) -> ReadGuard<'a> {
        let path = if path.is_empty() { ROOT } else { path };
        let place = self.0.place(path);
        ReadGuard {
            shard: self.0.read_shard(place.shard()),
            place,
            path,
        }
    }

    /// Keeps every request from being applied while it is held.
    ///
    /// Hold it shortly, never across a wait, and never twice on one thread: the second would
    /// stand behind an apply that waits for the first. All reads of the state may be made under
    /// it.
    pub(crate) fn gate(&self) -> GateGuard<'_> {
        GateGuard {
            _core: self.0.queue_at_gate(),
        }
    }

    /// How many znodes there are, the reserved ones included.
    pub(crate) fn node_count(&self) -> u64 {
        self.0.counts.nodes.load(Ordering::Relaxed)
    }

    /// Bytes of all paths and data.
    pub(crate) fn approximate_data_size(&self) -> u64 {
        self.0.counts.bytes.load(Ordering::Relaxed)
    }

    /// How many znodes go with a session.
    pub(crate) fn ephemeral_count(&self) -> u64 {
        self.0.counts.ephemerals.load(Ordering::Relaxed)
    }

    /// ZooKeeper's digest (version 2) of the tree as last applied.
    pub(crate) fn digest(&self) -> u64 {
        self.0.counts.digest.load(Ordering::Acquire)
    }

    /// How many znodes are below this one, at one point of the log.
    pub(crate) fn descendants(&self, path: &str) -> Option<u32> {
        let _gate = self.0.gate.read_recursive();
        let path = if path.is_empty() { ROOT } else { path };
        self.0.look(self.0.place(path), path)?;
        if path == ROOT {
            return u32::try_from(self.node_count()).ok()?.checked_sub(1);
        }
        Some(
            self.walk_below(path)
                .unwrap_or_else(|| self.scan_below(path)),
        )
    }

    /// Counts by going down; `None` when there is too much to go through.
    fn walk_below(&self, path: &str) -> Option<u32> {
        let mut open = vec![path.to_owned()];
        let mut seen = 0_usize;
        while let Some(path) = open.pop() {
            let guard = self.read(&path);
            let children = guard
                .node()
                .map_or_else(NamesIter::empty, |node| node.children());
            for name in children {
                seen += 1;
                if seen > WALK_MAX {
                    return None;
                }
                open.push(format!("{path}/{name}"));
            }
        }
        u32::try_from(seen).ok()
    }

    /// Counts by looking at every znode with children, of which there are fewer than znodes.
    fn scan_below(&self, path: &str) -> u32 {
        let below = format!("{path}/");
        (0..SHARDS)
            .map(|shard| {
                self.0
                    .read_shard(shard)
                    .parents()
                    .filter(|parent| parent.path() == path || parent.path().starts_with(&below))
                    .map(|parent| parent.family().children)
                    .sum::<u32>()
            })
            .sum()
    }

    /// Containers and TTL znodes that may go by now, with `czxid` and `mzxid`: the longest due
    /// first, `limit` at most. Without `never_used_ms`, containers that never had a child stay.
    pub(crate) fn reap_candidates(
        &self,
        now_ms: i64,
        never_used_ms: Option<i64>,
        limit: usize,
    ) -> Vec<(Arc<str>, Zxid, Zxid)> {
        let core = self.0.read_gate();
        core.reap
            .due(now_ms, never_used_ms)
            .filter_map(|path| {
                let (node, _) = self.0.look(self.0.place(path), path)?;
                Some((path.clone(), Zxid(node.czxid()), Zxid(node.mzxid())))
            })
            .take(limit)
            .collect()
    }
}

/// A shared hold of the apply gate.
#[must_use]
pub(crate) struct GateGuard<'a> {
    _core: ReadHeld<'a, Core>,
}

/// One shard, held for reading, opened at one path.
#[must_use]
pub(crate) struct ReadGuard<'a> {
    shard: ReadHeld<'a, Shard>,
    place: Place,
    path: &'a str,
}

impl ReadGuard<'_> {
    /// The znode, if it exists.
    pub(crate) fn node(&self) -> Option<NodeRef<'_>> {
        Some(NodeRef {
            node: self.shard.node(self.place.hash(), self.path)?,
            parent: self.shard.parent(self.place.hash(), self.path.as_bytes()),
        })
    }

    /// Zxid of the last change in this shard: no reply that is made of it may say less (R4).
    pub(crate) fn shard_zxid(&self) -> Zxid {
        Zxid(self.shard.zxid)
    }
}

/// A znode, for as long as its shard is held.
#[derive(Clone, Copy)]
pub(crate) struct NodeRef<'a> {
    node: &'a Node,
    parent: Option<&'a Parent>,
}

impl<'a> NodeRef<'a> {
    fn family(&self) -> Family {
        self.parent
            .map_or_else(|| self.node.childless(), Parent::family)
    }

    /// What clients see.
    pub(crate) fn stat(&self) -> Stat {
        self.node.stat(self.family())
    }

    /// Its data; `None` is null.
    pub(crate) fn data(&self) -> Option<&'a [u8]> {
        self.node.data()
    }

    /// Its access control list.
    pub(crate) fn acl(&self) -> &'a [Acl] {
        self.node.acl()
    }

    /// The names of its children, sorted by their bytes.
    pub(crate) fn children(&self) -> NamesIter<'a> {
        self.parent
            .map_or_else(NamesIter::empty, |parent| parent.names().iter())
    }

    /// What a snapshot keeps of its Stat.
    #[cfg(test)]
    pub(crate) fn persisted(&self) -> super::node::PersistedStat {
        self.node.persisted(self.family())
    }
}
