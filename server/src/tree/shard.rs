//! One shard: the znodes whose paths hash to it, and what their children bring to them.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::names::Names;
use super::node::{Family, Node};

/// A znode that has, or once had, children.
#[derive(Debug)]
pub(super) struct Parent {
    path: Box<str>,
    creations: i32,
    pzxid: i64,
    names: Names,
}

impl Parent {
    pub(super) fn family(&self) -> Family {
        Family {
            creations: self.creations,
            pzxid: self.pzxid,
            children: self.names.len(),
        }
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

#[derive(Default)]
pub(super) struct Shard {
    /// Zxid of the last change of a znode in here.
    pub(super) zxid: i64,
    nodes: HashTable<Node>,
    parents: HashTable<Box<Parent>>,
}

/// Hashes what the tables hold, when one grows.
pub(super) type Rehash<'a> = &'a dyn Fn(&[u8]) -> u64;

impl Shard {
    pub(super) fn node(&self, hash: u64, path: &str) -> Option<&Node> {
        self.nodes
            .find(hash, |node| node.path_bytes() == path.as_bytes())
    }

    pub(super) fn parent(&self, hash: u64, path: &[u8]) -> Option<&Parent> {
        if self.parents.is_empty() {
            return None;
        }
        self.parents
            .find(hash, |parent| parent.path.as_bytes() == path)
            .map(|parent| &**parent)
    }

    pub(super) fn family(&self, hash: u64, node: &Node) -> Family {
        self.parent(hash, node.path_bytes())
            .map_or_else(|| node.childless(), Parent::family)
    }

    /// The same, for a znode whose hash is not at hand.
    pub(super) fn family_of(&self, node: &Node, tree: &super::store::Shared) -> Family {
        if self.parents.is_empty() {
            return node.childless();
        }
        self.family(tree.hash(node.path_bytes()), node)
    }

    /// Puts a znode in, in place of the one with its path.
    pub(super) fn put(&mut self, hash: u64, node: Node, rehash: Rehash<'_>) -> Option<Node> {
        let entry = self.nodes.entry(
            hash,
            |other| other.path_bytes() == node.path_bytes(),
            |other| rehash(other.path_bytes()),
        );
        match entry {
            Entry::Occupied(mut entry) => Some(std::mem::replace(entry.get_mut(), node)),
            Entry::Vacant(entry) => {
                entry.insert(node);
                None
            }
        }
    }

    /// Takes a znode out, with its family.
    pub(super) fn remove(&mut self, hash: u64, path: &str) -> Option<Node> {
        if let Ok(entry) = self
            .parents
            .find_entry(hash, |parent| *parent.path == *path)
        {
            entry.remove();
        }
        let found = self
            .nodes
            .find_entry(hash, |node| node.path_bytes() == path.as_bytes());
        found.ok().map(|entry| entry.remove().0)
    }

    /// The changeable side of a znode's family; made when its first child comes.
    pub(super) fn parent_mut(&mut self, hash: u64, node: &Node, rehash: Rehash<'_>) -> &mut Parent {
        self.parents
            .entry(
                hash,
                |parent| parent.path.as_bytes() == node.path_bytes(),
                |parent| rehash(parent.path.as_bytes()),
            )
            .or_insert_with(|| {
                Box::new(Parent {
                    path: node.path().into(),
                    creations: 0,
                    pzxid: node.czxid(),
                    names: Names::default(),
                })
            })
            .into_mut()
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    pub(super) fn parents(&self) -> impl Iterator<Item = &Parent> {
        self.parents.iter().map(|parent| &**parent)
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }
}

impl Parent {
    pub(super) fn child_created(&mut self, name: &str, zxid: i64) {
        let added = self.names.insert(name);
        debug_assert!(added, "planned, so it was not there");
        self.creations = self.creations.wrapping_add(1);
        self.pzxid = zxid;
    }

    pub(super) fn child_deleted(&mut self, name: &str, zxid: i64) {
        let removed = self.names.remove(name);
        debug_assert!(removed, "planned, so it was there");
        self.pzxid = zxid;
    }

    /// For loading: the counters as they were stored.
    pub(super) fn restore(&mut self, creations: i32, pzxid: i64) {
        self.creations = creations;
        self.pzxid = pzxid;
    }

    /// For loading: a child that was counted already. `false` if it is known.
    pub(super) fn adopt(&mut self, name: &str) -> bool {
        self.names.insert(name)
    }
}
