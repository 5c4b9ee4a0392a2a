//! Builds a state from what a snapshot or an import holds.
//!
//! Znodes come in any order and from several threads. Everything that follows from them (names
//! of children, ephemerals, reaping, quotas, digest) is made in the end.

use quorate_proto::{Acl, SessionId, Zxid, path};

use super::acls::{AclList, OPEN};
use super::commit::size;
use super::core::Core;
use super::node::{Node, Owner, PATH_BYTES_MAX, Parts, PersistedStat};
use super::quota::QuotaNode;
use super::reap::Due;
use super::sessions::SessionInfo;
use super::state::State;
use super::store::{Place, SHARDS, Shared, Tree};

/// Why what was loaded is no tree.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum LoadError {
    /// No znode can have this path.
    #[error("{path:?} is no path of a znode")]
    BadPath { path: String },
    /// Two znodes with one path.
    #[error("{path} appears twice")]
    Twice { path: String },
    /// Its parent is missing.
    #[error("{path} has no parent")]
    Orphan { path: String },
}

/// An access control list, ready to be shared by many znodes.
#[derive(Clone)]
pub(crate) struct AclHandle(AclList);

/// A state that is being loaded.
pub(crate) struct StateBuilder {
    shared: Shared,
    key: [u8; 32],
}

impl StateBuilder {
    pub(super) fn new(key: [u8; 32]) -> StateBuilder {
        StateBuilder {
            shared: Shared::new(Core::default()),
            key,
        }
    }

    /// The last zxid in the state.
    pub(crate) fn zxid(&mut self, zxid: Zxid) {
        self.shared.core_mut().zxid = zxid.0;
    }

    /// The rules of apply in force.
    pub(crate) fn level(&mut self, level: u32) {
        self.shared.core_mut().level = level;
    }

    /// A live session.
    pub(crate) fn session(&mut self, id: SessionId, session: SessionInfo) {
        self.shared.core_mut().sessions.insert(id, session);
    }

    /// Stores a list once, for [`StateBuilder::node`].
    pub(crate) fn acl(&self, acl: &[Acl]) -> AclHandle {
        AclHandle(self.shared.write_gate().acls.intern(acl))
    }

    /// Adds a znode. The root's path is `/`.
    ///
    /// # Errors
    /// If no znode can have this path, or if one has it already.
    pub(crate) fn node(
        &self,
        path: &str,
        data: Option<&[u8]>,
        acl: &AclHandle,
        stat: &PersistedStat,
    ) -> Result<(), LoadError> {
        if path::validate(path).is_err() || path.len() > PATH_BYTES_MAX {
            return Err(LoadError::BadPath { path: path.into() });
        }
        let parts = Parts {
            path,
            data,
            acl: acl.0.clone(),
            czxid: stat.czxid,
            mzxid: stat.mzxid,
            ctime: stat.ctime,
            mtime: stat.mtime,
            version: stat.version,
            aversion: stat.aversion,
            owner: stat.ephemeral_owner,
        };
        let len = path.len() + data.map_or(0, <[u8]>::len) + 32;
        let node = Node::pack(&parts, &mut Vec::with_capacity(len));
        let place = self.shared.place(path);
        let rehash = &|path: &[u8]| self.shared.hash(path);
        let mut shard = self.shared.write_shard(place.shard());
        if stat.cversion != 0 || stat.pzxid != stat.czxid {
            shard
                .parent_mut(place.hash(), &node, rehash)
                .restore(stat.cversion, stat.pzxid);
        }
        match shard.put(place.hash(), node, rehash) {
            None => Ok(()),
            Some(_) => Err(LoadError::Twice { path: path.into() }),
        }
    }

    /// Adds those reserved znodes that are missing, and makes the indexes.
    ///
    /// # Errors
    /// If a znode has no parent.
    pub(crate) fn finish(mut self) -> Result<State, LoadError> {
        self.add_reserved()?;
        self.add_children()?;
        self.add_indexes();
        let state = State {
            tree: Tree(std::sync::Arc::new(self.shared)),
            key: self.key,
        };
        state.publish();
        Ok(state)
    }

    /// As a fresh ZooKeeper has them. Their children were never counted as creations.
    fn add_reserved(&self) -> Result<(), LoadError> {
        let open = AclHandle(OPEN.clone());
        let read = self.acl(&Acl::read_unsafe());
        for (path, acl, aversion) in [
            (path::ROOT, &open, 0),
            ("/zookeeper", &open, 0),
            ("/zookeeper/quota", &open, 0),
            ("/zookeeper/config", &read, -1),
        ] {
            if self.shared.look(self.shared.place(path), path).is_none() {
                let stat = PersistedStat {
                    aversion,
                    ..PersistedStat::default()
                };
                self.node(path, Some(b""), acl, &stat)?;
            }
        }
        Ok(())
    }

    /// Tells every parent of its children.
    fn add_children(&self) -> Result<(), LoadError> {
        // Siblings come together and in order, so that each name goes behind the last one.
        let mut homes: Vec<Vec<(Place, Node)>> = Vec::new();
        homes.resize_with(SHARDS, Vec::new);
        for at in 0..SHARDS {
            for node in self.shared.read_shard(at).nodes() {
                let Some((parent, _)) = path::split(node.path()) else {
                    continue;
                };
                let up = self.shared.place(parent);
                if let Some(home) = homes.get_mut(up.shard()) {
                    home.push((up, node.clone()));
                }
            }
        }
        let rehash = &|path: &[u8]| self.shared.hash(path);
        for (at, mut children) in homes.into_iter().enumerate() {
            children.sort_unstable_by(|(_, a), (_, b)| a.path_bytes().cmp(b.path_bytes()));
            let mut shard = self.shared.write_shard(at);
            for (up, child) in children {
                let path = child.path();
                let Some((parent, name)) = path::split(path).filter(|_| path != path::ROOT) else {
                    continue;
                };
                let Some(parent) = shard.node(up.hash(), parent).cloned() else {
                    return Err(LoadError::Orphan { path: path.into() });
                };
                shard.parent_mut(up.hash(), &parent, rehash).adopt(name);
            }
        }
        Ok(())
    }

    fn add_indexes(&mut self) {
        let mut core = std::mem::take(self.shared.core_mut());
        for at in 0..SHARDS {
            let shard = self.shared.read_shard(at);
            for node in shard.nodes() {
                let family = shard.family_of(node, &self.shared);
                core.totals.nodes += 1;
                core.totals.bytes += size(node);
                core.totals.digest = core.totals.digest.wrapping_add(node.digest(family));
                match node.owner() {
                    Owner::Nobody => {}
                    Owner::Session(session) => core.ephemerals.insert(session, node.path()),
                    Owner::Container | Owner::Ttl(_) => {
                        core.reap.update(node.path(), None, Due::of(node, family));
                    }
                }
                if let Some(QuotaNode::Limits(prefix)) = QuotaNode::at(node.path()) {
                    core.quotas.add(prefix);
                }
            }
        }
        *self.shared.core_mut() = core;
    }
}
