//! What a cache holds, and what a read changes in it. Pure.
//!
//! Invariants: an entry is replaced only by what is newer, by `mzxid`; a znode that was deleted
//! and created again is another znode, by `czxid`; what does not fit is left out, and the store
//! says so until it has been read again without anything left out.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use quorate_proto::{Stat, Zxid};
use tokio::time::Instant;

/// What an entry costs beside its path and its data: the node, its place in the index, its `Stat`.
const ENTRY_BYTES: usize = 224;

pub(crate) type Nodes = BTreeMap<Arc<str>, Arc<CachedNode>>;

/// A znode in a cache.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct CachedNode {
    /// Its data; `None` in a cache of names only.
    pub data: Option<Bytes>,
    /// Its `Stat`, as it was when its data was read. The counts of children may be older than the
    /// children that the cache shows.
    pub stat: Stat,
}

/// What changed in a cache.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CacheEvent {
    /// A znode came in.
    Created {
        /// Its path.
        path: Arc<str>,
        /// As it is.
        node: Arc<CachedNode>,
    },
    /// Its data was set.
    Changed {
        /// Its path.
        path: Arc<str>,
        /// As it was last known.
        old: Arc<CachedNode>,
        /// As it is.
        new: Arc<CachedNode>,
    },
    /// A znode went, or has no room any more.
    Deleted {
        /// Its path.
        path: Arc<str>,
        /// As it was last known.
        old: Arc<CachedNode>,
    },
    /// The cache shows what the server has: for the first time, or again, or again without anything
    /// left out.
    Synced,
    /// The cache is out of contact; what it shows may be old.
    Stale,
    /// Something was left out for the first time since all fitted: because of the memory bound,
    /// or because it may not be read. [`CacheSnapshot::is_complete`] is false now.
    Incomplete {
        /// What was left out.
        path: Arc<str>,
    },
    /// This consumer was too slow: so many events before this one were dropped. Look at a snapshot.
    Missed(u64),
    /// The last event: the cache is kept up no longer.
    Ended(crate::Error),
}

/// A view of a cache that does not change. Cheap to take and to clone.
#[derive(Clone, Debug)]
pub struct CacheSnapshot {
    pub(super) nodes: Arc<Nodes>,
    pub(super) root: Arc<str>,
    pub(super) as_of: Zxid,
    pub(super) is_complete: bool,
    pub(super) stale_since: Option<Instant>,
}

impl CacheSnapshot {
    /// The znode at this path.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Arc<CachedNode>> {
        self.nodes.get(path)
    }

    /// The children of a znode, with their names, sorted.
    pub fn children(&self, path: &str) -> impl Iterator<Item = (&str, &Arc<CachedNode>)> {
        Children {
            nodes: &self.nodes,
            prefix: match path {
                "/" => "/".to_owned(),
                path => format!("{path}/"),
            },
            next: None,
        }
    }

    /// All znodes, by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Arc<CachedNode>)> {
        self.nodes.iter().map(|(path, node)| (&**path, node))
    }

    /// How many znodes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The path that the cache was made for.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The newest change that it shows. Of other znodes it may show less new states: they are read
    /// one by one.
    #[must_use]
    pub const fn as_of(&self) -> Zxid {
        self.as_of
    }

    /// Whether nothing was left out for want of room or of permission.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Since when it may have been old when it was taken; `None` if it was current.
    #[must_use]
    pub const fn stale_since(&self) -> Option<Instant> {
        self.stale_since
    }
}

struct Children<'s> {
    nodes: &'s Nodes,
    prefix: String,
    /// Where to look on; `None` at the first.
    next: Option<String>,
}

impl<'s> Iterator for Children<'s> {
    type Item = (&'s str, &'s Arc<CachedNode>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let from = self.next.as_deref().unwrap_or(&self.prefix);
            let (path, node) = self
                .nodes
                .range::<str, _>((Bound::Included(from), Bound::Unbounded))
                .next()?;
            let name = path.strip_prefix(&*self.prefix)?;
            match name.find('/') {
                None if name.is_empty() => self.next = Some(format!("{path}\0")),
                None => {
                    self.next = Some(format!("{path}\0"));
                    return Some((name, node));
                }
                // Over all that is below this child: `0` comes next behind `/`.
                Some(at) => {
                    let child = name.get(..at).unwrap_or_default();
                    self.next = Some(format!("{}{child}0", self.prefix));
                }
            }
        }
    }
}

/// What a read did.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Put {
    /// Nothing that anybody is told of.
    Same,
    Changed(CacheEvent),
    /// It was another znode of the same path.
    Replaced(CacheEvent, CacheEvent),
    /// The read is older than what is here: look again.
    Older,
    /// It does not fit. The event is of the state that was here.
    NoRoom(Option<CacheEvent>),
}

#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) nodes: Arc<Nodes>,
    bytes: usize,
    bytes_max: usize,
    as_of: i64,
}

impl Store {
    pub(crate) fn new(bytes_max: usize) -> Store {
        Store {
            nodes: Arc::default(),
            bytes: 0,
            bytes_max,
            as_of: 0,
        }
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether something of this size could be added.
    pub(crate) const fn has_room(&self, bytes: usize) -> bool {
        self.bytes.saturating_add(bytes) <= self.bytes_max
    }

    pub(crate) const fn as_of(&self) -> Zxid {
        Zxid(self.as_of)
    }

    /// A znode was read.
    pub(crate) fn put(&mut self, path: &Arc<str>, node: CachedNode) -> Put {
        let old = self.nodes.get(path).cloned();
        if old
            .as_ref()
            .is_some_and(|old| old.stat.mzxid > node.stat.mzxid)
        {
            return Put::Older;
        }
        let freed = old.as_ref().map_or(0, |old| size(path, old));
        let added = size(path, &node);
        if self.bytes - freed + added > self.bytes_max {
            return Put::NoRoom(self.remove(path));
        }
        self.bytes = self.bytes - freed + added;
        self.saw(node.stat.mzxid);
        let new = Arc::new(node);
        Arc::make_mut(&mut self.nodes).insert(Arc::clone(path), Arc::clone(&new));
        let path = Arc::clone(path);
        match old {
            None => Put::Changed(CacheEvent::Created { path, node: new }),
            Some(old) if old.stat.czxid != new.stat.czxid => Put::Replaced(
                CacheEvent::Deleted {
                    path: Arc::clone(&path),
                    old,
                },
                CacheEvent::Created { path, node: new },
            ),
            Some(old) if old.stat.mzxid != new.stat.mzxid => {
                Put::Changed(CacheEvent::Changed { path, old, new })
            }
            Some(_) => Put::Same,
        }
    }

    /// A znode is not there.
    pub(crate) fn remove(&mut self, path: &Arc<str>) -> Option<CacheEvent> {
        if !self.nodes.contains_key(path) {
            return None;
        }
        let old = Arc::make_mut(&mut self.nodes).remove(path)?;
        self.bytes -= size(path, &old);
        let path = Arc::clone(path);
        Some(CacheEvent::Deleted { path, old })
    }

    /// A change was seen.
    pub(crate) fn saw(&mut self, zxid: i64) {
        self.as_of = self.as_of.max(zxid);
    }

    /// The paths at and below this one.
    pub(crate) fn below(&self, path: &str) -> Vec<Arc<str>> {
        let prefix = match path {
            "/" => "/".to_owned(),
            path => format!("{path}/"),
        };
        self.nodes
            .range::<str, _>((Bound::Included(&*prefix), Bound::Unbounded))
            .map(|(path, _)| path)
            .take_while(|path| path.starts_with(&*prefix))
            .cloned()
            .collect()
    }
}

/// What an entry counts for.
pub(crate) fn size(path: &str, node: &CachedNode) -> usize {
    room_for(path) + node.data.as_ref().map_or(0, Bytes::len)
}

/// What a path without data counts for.
pub(crate) const fn room_for(path: &str) -> usize {
    ENTRY_BYTES + path.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(czxid: i64, mzxid: i64, data: &'static str) -> CachedNode {
        CachedNode {
            data: Some(Bytes::from_static(data.as_bytes())),
            stat: Stat {
                czxid,
                mzxid,
                ..Stat::default()
            },
        }
    }

    fn path(path: &str) -> Arc<str> {
        path.into()
    }

    fn snapshot(store: &Store) -> CacheSnapshot {
        CacheSnapshot {
            nodes: Arc::clone(&store.nodes),
            root: path("/"),
            as_of: store.as_of(),
            is_complete: true,
            stale_since: None,
        }
    }

    #[test]
    fn children_are_those_one_level_below_also_beside_names_that_sort_before_the_slash() {
        let mut store = Store::new(usize::MAX);
        for text in [
            "/", "/p", "/p/a", "/p/a!x", "/p/a/b", "/p/a/c", "/p/a0", "/p!", "/pa",
        ] {
            store.put(&path(text), node(1, 1, ""));
        }
        let view = snapshot(&store);
        let names = |at| view.children(at).map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names("/p"), ["a", "a!x", "a0"]);
        assert_eq!(names("/"), ["p", "p!", "pa"]);
        assert_eq!(names("/p/a"), ["b", "c"]);
        assert!(names("/q").is_empty());
    }

    #[test]
    fn a_child_is_listed_also_when_its_parent_s_own_entry_is_left_out() {
        let mut store = Store::new(usize::MAX);
        store.put(&path("/p/a/b"), node(1, 1, ""));
        let view = snapshot(&store);
        assert_eq!(view.children("/p").count(), 0);
        assert_eq!(view.children("/p/a").count(), 1);
    }

    #[test]
    fn an_older_read_changes_nothing() {
        let mut store = Store::new(usize::MAX);
        store.put(&path("/a"), node(1, 5, "new"));
        assert_eq!(store.put(&path("/a"), node(1, 4, "old")), Put::Older);
        assert_eq!(store.nodes.get("/a").unwrap().stat.mzxid, 5);
        assert_eq!(store.as_of(), Zxid(5));
    }

    #[test]
    fn a_znode_that_was_created_again_is_another_one() {
        let mut store = Store::new(usize::MAX);
        store.put(&path("/a"), node(1, 1, ""));
        assert!(matches!(
            store.put(&path("/a"), node(3, 3, "")),
            Put::Replaced(CacheEvent::Deleted { .. }, CacheEvent::Created { .. })
        ));
        assert_eq!(store.put(&path("/a"), node(3, 3, "")), Put::Same);
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_what_it_replaced_goes() {
        let mut store = Store::new(room_for("/a") + 3);
        store.put(&path("/a"), node(1, 1, "abc"));
        assert_eq!(store.put(&path("/b"), node(2, 2, "")), Put::NoRoom(None));
        assert!(matches!(
            store.put(&path("/a"), node(1, 3, "abcd")),
            Put::NoRoom(Some(CacheEvent::Deleted { .. }))
        ));
        assert_eq!(store.bytes(), 0);
        assert!(store.nodes.is_empty());
    }

    #[test]
    fn a_snapshot_does_not_change() {
        let mut store = Store::new(usize::MAX);
        store.put(&path("/a"), node(1, 1, "one"));
        let view = snapshot(&store);
        store.put(&path("/a"), node(1, 2, "two"));
        store.remove(&path("/a"));
        assert_eq!(view.get("/a").unwrap().stat.mzxid, 1);
        assert!(snapshot(&store).is_empty());
    }
}
