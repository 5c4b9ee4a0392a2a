//! A ZooKeeper tree in memory, as snapshot and log build it.
//!
//! Snapshots are fuzzy: one named Z may hold effects of later transactions. So every rule of
//! replay may be applied to a tree that has seen its effect already, and the tree comes out right
//! once the log is past the end of the fuzzy stretch.
//!
//! Source of the rules: ZooKeeper, `DataTree.processTxn` and `FileTxnSnapLog.processTransaction`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use quorate_proto::{Acl, Id, Perms};

use super::super::record::{CONTAINER_OWNER, NodeKind, NodeView, kind_of, node_digest, ttl_owner};
use super::txn::{LoggedCreate, LoggedKind, LoggedTxn, TxnHeader};
use crate::tree::PersistedStat;

/// The znode that holds the ensemble's configuration.
pub(super) const CONFIG_PATH: &str = "/zookeeper/config";

/// A znode.
#[derive(Debug)]
pub(super) struct ImageNode {
    pub(super) data: Option<Box<[u8]>>,
    pub(super) acl: Arc<[Acl]>,
    pub(super) stat: PersistedStat,
    children: Option<Box<HashSet<Arc<str>>>>,
}

/// The tree, the sessions and the last zxid.
#[derive(Debug, Default)]
pub(super) struct Image {
    nodes: HashMap<Arc<str>, ImageNode>,
    ephemerals: HashMap<i64, HashSet<Arc<str>>>,
    acls: HashSet<Arc<[Acl]>>,
    /// Timeouts, in milliseconds.
    pub(super) sessions: BTreeMap<i64, i32>,
    /// The last transaction.
    pub(super) zxid: i64,
    digest: u64,
}

/// The path without its last part; `None` for the root, which is `""` here.
pub(super) fn parent_of(path: &str) -> Option<&str> {
    path.rfind('/').and_then(|slash| path.get(..slash))
}

impl Image {
    /// The tree of a new server: for logs without any snapshot.
    pub(super) fn fresh() -> Image {
        let mut image = Image::default();
        for path in ["", "/zookeeper"] {
            image.put_system(path, &Acl::open_unsafe(), 0);
        }
        image.complete();
        image
    }

    /// Adds the system znodes that old versions did not have.
    pub(super) fn complete(&mut self) {
        for path in ["", "/zookeeper", "/zookeeper/quota"] {
            if !self.nodes.contains_key(path) {
                self.put_system(path, &Acl::open_unsafe(), 0);
            }
        }
        if !self.nodes.contains_key(CONFIG_PATH) {
            self.put_system(CONFIG_PATH, &Acl::read_unsafe(), -1);
        }
    }

    fn put_system(&mut self, path: &str, acl: &[Acl], aversion: i32) {
        let acl = self.intern(acl);
        let stat = PersistedStat {
            aversion,
            ..PersistedStat::default()
        };
        // The parent was put just before.
        let _ = self.put(path, Some(Box::default()), acl, stat);
    }

    /// One shared copy of every list.
    pub(super) fn intern(&mut self, acl: &[Acl]) -> Arc<[Acl]> {
        if let Some(known) = self.acls.get(acl) {
            return Arc::clone(known);
        }
        let acl: Arc<[Acl]> = acl.into();
        self.acls.insert(Arc::clone(&acl));
        acl
    }

    /// A list that lets nobody in, for a znode whose own is lost.
    pub(super) fn closed_acl(&mut self) -> Arc<[Acl]> {
        self.intern(&[Acl {
            perms: Perms(0),
            id: Id::anyone(),
        }])
    }

    /// Puts a znode; false if it has no parent.
    pub(super) fn put(
        &mut self,
        path: &str,
        data: Option<Box<[u8]>>,
        acl: Arc<[Acl]>,
        stat: PersistedStat,
    ) -> bool {
        let key: Arc<str> = path.into();
        if let Some(parent) = parent_of(path) {
            let Some(parent) = self.nodes.get_mut(parent) else {
                return false;
            };
            parent
                .children
                .get_or_insert_default()
                .insert(Arc::clone(&key));
        }
        if let NodeKind::Ephemeral(session) = kind_of(stat.ephemeral_owner) {
            self.ephemerals
                .entry(session.0)
                .or_default()
                .insert(Arc::clone(&key));
        }
        self.digest = self
            .digest
            .wrapping_add(node_digest(path, data.as_deref(), &stat));
        let node = ImageNode {
            data,
            acl,
            stat,
            children: None,
        };
        if let Some(mut old) = self.nodes.insert(Arc::clone(&key), node) {
            self.digest =
                self.digest
                    .wrapping_sub(node_digest(path, old.data.as_deref(), &old.stat));
            if let Some(node) = self.nodes.get_mut(&key) {
                node.children = old.children.take();
            }
        }
        true
    }

    /// Changes a znode and keeps the digest right; false if it is missing.
    pub(super) fn change(&mut self, path: &str, change: impl FnOnce(&mut ImageNode)) -> bool {
        let Some(node) = self.nodes.get_mut(path) else {
            return false;
        };
        let before = node_digest(path, node.data.as_deref(), &node.stat);
        change(node);
        let after = node_digest(path, node.data.as_deref(), &node.stat);
        self.digest = self.digest.wrapping_sub(before).wrapping_add(after);
        true
    }

    pub(super) fn node(&self, path: &str) -> Option<&ImageNode> {
        self.nodes.get(path)
    }

    pub(super) fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// ZooKeeper's tree digest.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// Owners of ephemerals.
    pub(super) fn owners(&self) -> Vec<i64> {
        self.ephemerals.keys().copied().collect()
    }

    /// Gives new owner markers to what the marks of ephemerals were wrongly taken for.
    pub(super) fn change_owners(&mut self, new: impl Fn(i64) -> Option<i64>) {
        for owner in self.owners() {
            let Some(new) = new(owner) else { continue };
            for path in self.ephemerals.remove(&owner).unwrap_or_default() {
                self.change(&path, |node| node.stat.ephemeral_owner = new);
            }
        }
    }

    pub(super) fn ephemeral_count(&self) -> usize {
        self.ephemerals.values().map(HashSet::len).sum()
    }

    /// All znodes: parents first, in the order of their paths.
    pub(super) fn views(&self) -> impl Iterator<Item = NodeView<'_>> {
        self.sorted().into_iter()
    }

    /// The same, to go over more than once.
    pub(super) fn sorted(&self) -> Vec<NodeView<'_>> {
        let mut views: Vec<_> = self
            .nodes
            .iter()
            .map(|(path, node)| NodeView {
                path,
                data: node.data.as_deref(),
                acl: &node.acl,
                stat: node.stat,
            })
            .collect();
        views.sort_unstable_by_key(|view| view.path);
        views
    }

    /// The znodes at and under `path`: how many, and how many bytes of data.
    pub(super) fn usage(&self, path: &str) -> (u64, u64) {
        let (mut count, mut bytes) = (0, 0);
        let mut waiting = vec![path];
        while let Some(path) = waiting.pop() {
            let Some(node) = self.nodes.get(path) else {
                continue;
            };
            count += 1;
            bytes += node.data.as_ref().map_or(0, |data| data.len() as u64);
            waiting.extend(
                node.children
                    .iter()
                    .flat_map(|set| set.iter())
                    .map(|path| &**path),
            );
        }
        (count, bytes)
    }

    /// Removes a znode and what hangs under it (only a fuzzy snapshot can leave something there:
    /// znodes of a later life, which the log makes again).
    pub(super) fn remove(&mut self, path: &str, zxid: i64) {
        if let Some(parent) = parent_of(path) {
            // Also when the znode is missing: the snapshot may have been taken after the delete.
            self.change(parent, |node| {
                if let Some(children) = &mut node.children {
                    children.remove(path);
                }
                node.stat.pzxid = node.stat.pzxid.max(zxid);
            });
        }
        let mut waiting: Vec<Arc<str>> = vec![path.into()];
        while let Some(path) = waiting.pop() {
            let Some(node) = self.nodes.remove(&path) else {
                continue;
            };
            self.digest =
                self.digest
                    .wrapping_sub(node_digest(&path, node.data.as_deref(), &node.stat));
            if let NodeKind::Ephemeral(session) = kind_of(node.stat.ephemeral_owner) {
                self.disown(session.0, &path);
            }
            waiting.extend(node.children.into_iter().flat_map(|set| *set));
        }
    }

    fn disown(&mut self, session: i64, path: &str) {
        if let Some(owned) = self.ephemerals.get_mut(&session) {
            owned.remove(path);
            if owned.is_empty() {
                self.ephemerals.remove(&session);
            }
        }
    }

    /// Deletes what a session owns; returns how many.
    pub(super) fn remove_ephemerals(&mut self, session: i64, zxid: i64) -> usize {
        let owned = self.ephemerals.remove(&session).unwrap_or_default();
        for path in &owned {
            self.remove(path, zxid);
        }
        owned.len()
    }

    /// Applies one record of the log.
    pub(super) fn apply(&mut self, header: &TxnHeader, txn: &LoggedTxn<'_>) {
        self.zxid = self.zxid.max(header.zxid);
        match txn {
            LoggedTxn::CreateSession { timeout_ms } => {
                self.sessions.insert(header.session, *timeout_ms);
            }
            LoggedTxn::CloseSession { deleted } => {
                self.sessions.remove(&header.session);
                for path in deleted {
                    self.remove(path, header.zxid);
                }
                self.remove_ephemerals(header.session, header.zxid);
            }
            LoggedTxn::Multi(txns) => {
                // A multi with an error among its elements was refused as a whole.
                if !txns.iter().any(|(code, _)| *code == -1) {
                    for (_, txn) in txns {
                        self.apply(header, txn);
                    }
                }
            }
            LoggedTxn::Create(create) => self.create(header, create),
            LoggedTxn::Delete { path } => self.remove(path, header.zxid),
            LoggedTxn::SetData {
                path,
                data,
                version,
            } => {
                self.change(path, |node| {
                    node.data = data.map(Into::into);
                    node.stat.version = *version;
                    node.stat.mzxid = header.zxid;
                    node.stat.mtime = header.time_ms;
                });
            }
            LoggedTxn::SetAcl { path, acl, version } => {
                let acl = self.intern(acl);
                self.change(path, |node| {
                    node.acl = acl;
                    node.stat.aversion = *version;
                });
            }
            LoggedTxn::Error { .. } | LoggedTxn::Check { .. } => {}
        }
    }

    fn create(&mut self, header: &TxnHeader, create: &LoggedCreate<'_>) {
        let LoggedCreate {
            path,
            data,
            acl,
            parent_cversion,
            kind,
        } = create;
        let Some(parent) = parent_of(path) else {
            return;
        };
        let parent_exists = self.change(parent, |node| {
            // A delete and a second create may be in the snapshot already: never step back.
            let next = match *parent_cversion {
                -1 => node.stat.cversion.wrapping_add(1),
                next => next,
            };
            if next > node.stat.cversion {
                node.stat.cversion = next;
                node.stat.pzxid = header.zxid;
            }
        });
        if !parent_exists || self.nodes.contains_key(&**path) {
            return;
        }
        let owner = match kind {
            LoggedKind::Persistent => 0,
            LoggedKind::Ephemeral => header.session,
            LoggedKind::Container => CONTAINER_OWNER,
            LoggedKind::Ttl(ttl_ms) => ttl_owner(*ttl_ms),
        };
        let stat = PersistedStat {
            czxid: header.zxid,
            mzxid: header.zxid,
            pzxid: header.zxid,
            ctime: header.time_ms,
            mtime: header.time_ms,
            ephemeral_owner: owner,
            ..PersistedStat::default()
        };
        let acl = self.intern(acl);
        self.put(path, data.map(Into::into), acl, stat);
    }
}
