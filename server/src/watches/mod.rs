//! Who asked to be told about which path.
//!
//! Two tables as in ZooKeeper, *data* and *child*, kept in one map: the modes of a connection on
//! a path say which table each belongs to. The map is told of every change by apply, and of every
//! watch by reads, **both while they hold the tree's shard of that path**: no change can fall
//! between what a read saw and the watch that it armed. Recursive watches concern paths of other
//! shards; they are armed under the apply gate.
//!
//! Nothing here knows a socket, an identity or an event's bytes. Watches belong to a connection
//! and go with it; nothing is kept per session.
//!
//! Memory: a watch on a path of its own costs its text plus about 60 bytes, one on a path that is
//! watched already about 20 (`a_million_watches_fit` measures it).

mod slot;
#[cfg(test)]
mod tests;

use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::DefaultHashBuilder;
use parking_lot::{Mutex, MutexGuard};
use quorate_proto::EventType;

use self::slot::Shard;
use crate::lock_order::{Ordered, Rank};

/// A connection of this server, for as long as it is open.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct ConnId(pub(crate) u32);

/// Ways to watch a path; a connection may hold several on one path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Modes(u8);

impl Modes {
    /// One-shot, data table: `getData`, and `exists` on a present or missing znode.
    pub(crate) const DATA: Modes = Modes(1);
    /// One-shot, child table: `getChildren`.
    pub(crate) const CHILD: Modes = Modes(2);
    /// Stays, both tables: `addWatch` mode 0.
    pub(crate) const PERSISTENT: Modes = Modes(4);
    /// Stays, data table, for the path and everything below: `addWatch` mode 1.
    pub(crate) const RECURSIVE: Modes = Modes(8);
    /// All of them.
    pub(crate) const ANY: Modes = Modes(15);

    fn intersects(self, other: Modes) -> bool {
        self.0 & other.0 != 0
    }

    fn with(self, other: Modes) -> Modes {
        Modes(self.0 | other.0)
    }

    fn without(self, other: Modes) -> Modes {
        Modes(self.0 & !other.0)
    }

    fn only(self, other: Modes) -> Modes {
        Modes(self.0 & other.0)
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn count(self) -> usize {
        self.0.count_ones() as usize
    }
}

/// Shards of the table. Reads of several connections arm watches side by side.
const SHARDS: usize = 16;

/// All watches of one server.
#[derive(Debug)]
pub(crate) struct Watches {
    shards: Box<[Mutex<Shard>]>,
    hasher: DefaultHashBuilder,
    /// How many recursive watches there are: none, the common case, spares the walk over the
    /// ancestors of every change.
    recursive: AtomicUsize,
}

/// Totals for `wchs`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Totals {
    /// Connections that hold a watch.
    pub(crate) connections: usize,
    /// Paths that are watched.
    pub(crate) paths: usize,
    /// Watches: modes on paths by connections.
    pub(crate) watches: usize,
}

impl Watches {
    /// No watches.
    pub(crate) fn new() -> Watches {
        Watches {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::default())).collect(),
            hasher: DefaultHashBuilder::default(),
            recursive: AtomicUsize::new(0),
        }
    }

    /// Arms `modes` on `path` for a connection. Arming twice is arming once.
    ///
    /// The caller holds the tree's shard of `path`, or for [`Modes::RECURSIVE`] the apply gate.
    pub(crate) fn add(&self, conn: ConnId, path: &str, modes: Modes) {
        let hash = self.hasher.hash_one(path);
        let added = self.shard(hash).add(&self.hasher, hash, conn, path, modes);
        if added.intersects(Modes::RECURSIVE) {
            self.recursive.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Whether the connection holds one of `modes` on exactly `path`.
    pub(crate) fn holds(&self, conn: ConnId, path: &str, modes: Modes) -> bool {
        let hash = self.hasher.hash_one(path);
        self.shard(hash).modes(hash, conn, path).intersects(modes)
    }

    /// Takes `modes` on exactly `path` away. False if there was none of them.
    pub(crate) fn remove(&self, conn: ConnId, path: &str, modes: Modes) -> bool {
        let hash = self.hasher.hash_one(path);
        let removed = self
            .shard(hash)
            .remove(&self.hasher, hash, conn, path, modes);
        if removed.intersects(Modes::RECURSIVE) {
            self.recursive.fetch_sub(1, Ordering::SeqCst);
        }
        !removed.is_empty()
    }

    /// Takes everything away that a connection holds.
    pub(crate) fn remove_connection(&self, conn: ConnId) {
        for shard in &self.shards {
            let recursive = held(shard).remove_connection(&self.hasher, conn);
            self.recursive.fetch_sub(recursive, Ordering::SeqCst);
        }
    }

    /// Collects into `recipients` the connections to be told of a change, each once, and disarms
    /// the one-shot watches that it fires. `path` is the znode's for created, deleted and changed,
    /// the parent's for children changed.
    ///
    /// A deletion fires both tables of the path, and one connection hears it once. Recursive
    /// watches on the path or above it join every event but children changed.
    pub(crate) fn fire(&self, event: EventType, path: &str, recipients: &mut Vec<ConnId>) {
        recipients.clear();
        let (once, stay) = match event {
            EventType::NodeCreated | EventType::NodeDataChanged => {
                (Modes::DATA, Modes::PERSISTENT.with(Modes::RECURSIVE))
            }
            EventType::NodeDeleted => (
                Modes::DATA.with(Modes::CHILD),
                Modes::PERSISTENT.with(Modes::RECURSIVE),
            ),
            EventType::NodeChildrenChanged => (Modes::CHILD, Modes::PERSISTENT),
        };
        let hash = self.hasher.hash_one(path);
        self.shard(hash)
            .fire(&self.hasher, hash, path, once, stay, recipients);
        if event == EventType::NodeChildrenChanged || self.recursive.load(Ordering::SeqCst) == 0 {
            return;
        }
        let direct = recipients.len();
        for ancestor in ancestors(path) {
            let hash = self.hasher.hash_one(ancestor);
            self.shard(hash)
                .collect(hash, ancestor, Modes::RECURSIVE, recipients);
        }
        if recipients.len() > direct {
            recipients.sort_unstable();
            recipients.dedup();
        }
    }

    /// Totals over all shards. Shards are visited one after the other, so a table that changes
    /// meanwhile is counted as of several moments.
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        let mut connections = std::collections::HashSet::new();
        for shard in &self.shards {
            let shard = held(shard);
            totals.paths += shard.path_count();
            totals.watches += shard.watch_count();
            connections.extend(shard.connections());
        }
        totals.connections = connections.len();
        totals
    }

    /// Calls `visit` for watched paths and who watches them, until it returns false.
    pub(crate) fn visit(
        &self,
        mut visit: impl FnMut(&str, &mut dyn Iterator<Item = ConnId>) -> bool,
    ) {
        for shard in &self.shards {
            if !held(shard).visit(&mut visit) {
                return;
            }
        }
    }

    /// Calls `visit` for the paths that a connection watches, until it returns false; says whether
    /// it may go on.
    pub(crate) fn visit_connection(
        &self,
        conn: ConnId,
        mut visit: impl FnMut(&str) -> bool,
    ) -> bool {
        self.shards
            .iter()
            .all(|shard| held(shard).visit_connection(conn, &mut visit))
    }

    fn shard(&self, hash: u64) -> Held<'_> {
        // The low bits choose the bucket within a shard's table; these do not depend on them.
        let index = usize::try_from(hash >> 60).unwrap_or(0) % self.shards.len();
        held(self.shards.get(index).expect("an index modulo the length"))
    }
}

/// A shard of the table, locked.
type Held<'a> = Ordered<MutexGuard<'a, Shard>>;

fn held(shard: &Mutex<Shard>) -> Held<'_> {
    Ordered::lock(Rank::Watches, || shard.lock())
}

/// The paths above `path`, nearest first, down to "/". Nothing for "/" itself.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = (path.len() > 1).then_some(path);
    std::iter::from_fn(move || {
        let (parent, _) = rest?.rsplit_once('/')?;
        if parent.is_empty() {
            rest = None;
            return Some("/");
        }
        rest = Some(parent);
        Some(parent)
    })
}
