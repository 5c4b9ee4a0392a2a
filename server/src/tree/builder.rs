//! Builds a state from what a snapshot or an import holds.
//!
//! Znodes come in any order and from several threads. Everything that follows from them (names
//! of children, ephemerals, reaping, quotas, digest) is made in the end, by several hands
//! for a large tree: a server that starts again is as late as this is slow.

use std::sync::atomic::{AtomicUsize, Ordering};

use hashbrown::DefaultHashBuilder;
use parking_lot::Mutex;
use quorate_proto::{Acl, SessionId, Zxid, path};

use super::acls::{AclList, OPEN};
use super::commit::size;
use super::core::{Core, Totals};
use super::node::{Family, Node, Owner, PATH_BYTES_MAX, Parts, PersistedStat};
use super::quota::QuotaNode;
use super::reap::Due;
use super::sessions::SessionInfo;
use super::state::State;
use super::store::{Place, SHARDS, Shared, Tree};

/// Znodes from which on one hand is too few.
const HANDS_FROM: usize = 20_000;

/// Runs a piece of work once or, on as many threads, several times at once, and returns when all
/// are through.
pub(crate) type Hands<'a> = &'a dyn Fn(&(dyn Fn() + Sync));

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
    loaded: AtomicUsize,
}

impl StateBuilder {
    pub(super) fn new(key: [u8; 32], hasher: DefaultHashBuilder) -> StateBuilder {
        let core = Core {
            key,
            ..Core::default()
        };
        StateBuilder {
            shared: Shared::new(core, hasher),
            loaded: AtomicUsize::new(0),
        }
    }

    /// The key of session passwords.
    pub(crate) fn cluster_key(&mut self, key: [u8; 32]) {
        self.shared.core_mut().key = key;
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
        self.loaded.fetch_add(1, Ordering::Relaxed);
        match shard.put(place.hash(), node, rehash) {
            None => Ok(()),
            Some(_) => Err(LoadError::Twice { path: path.into() }),
        }
    }

    /// Adds those reserved znodes that are missing, and makes the indexes.
    ///
    /// # Errors
    /// If a znode has no parent.
    pub(crate) fn finish(self) -> Result<State, LoadError> {
        self.finish_by(&|work| work())
    }

    /// The same, by several hands for a large tree.
    ///
    /// # Errors
    /// If a znode has no parent.
    pub(crate) fn finish_by(mut self, hands: Hands<'_>) -> Result<State, LoadError> {
        self.add_reserved()?;
        self.add_children(hands)?;
        self.add_indexes(hands);
        let state = State {
            tree: Tree(std::sync::Arc::new(self.shared)),
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
    fn add_children(&self, hands: Hands<'_>) -> Result<(), LoadError> {
        // Siblings come together and in order, so that each name goes behind the last one.
        let homes: Vec<Homes> = self.each_shard(hands, |homes: &mut Homes, at| {
            for node in self.shared.read_shard(at).nodes() {
                let Some((parent, _)) = path::split(node.path()) else {
                    continue;
                };
                let up = self.shared.place(parent);
                if let Some(home) = homes.0.get_mut(up.shard()) {
                    home.push((up, node.clone()));
                }
            }
        });
        let orphans = self.each_shard(hands, |orphan: &mut Option<String>, at| {
            let of_shard = homes.iter().filter_map(|homes| homes.0.get(at));
            let mut children: Vec<&(Place, Node)> = of_shard.flatten().collect();
            children.sort_unstable_by(|(_, a), (_, b)| a.path_bytes().cmp(b.path_bytes()));
            *orphan = self.adopt(at, &children).or(orphan.take());
        });
        match orphans.into_iter().flatten().next() {
            Some(path) => Err(LoadError::Orphan { path }),
            None => Ok(()),
        }
    }

    /// Gives children to their parents in one shard; returns one that has none.
    fn adopt(&self, at: usize, children: &[&(Place, Node)]) -> Option<String> {
        let rehash = &|path: &[u8]| self.shared.hash(path);
        let mut shard = self.shared.write_shard(at);
        for (up, child) in children {
            let path = child.path();
            let Some((parent, name)) = path::split(path).filter(|_| path != path::ROOT) else {
                continue;
            };
            let Some(parent) = shard.node(up.hash(), parent).cloned() else {
                return Some(path.to_owned());
            };
            shard.parent_mut(up.hash(), &parent, rehash).adopt(name);
        }
        None
    }

    fn add_indexes(&mut self, hands: Hands<'_>) {
        let found = self.each_shard(hands, |found: &mut Found, at| {
            let shard = self.shared.read_shard(at);
            for node in shard.nodes() {
                let family = shard.family_of(node, &self.shared);
                found.totals.nodes += 1;
                found.totals.bytes += size(node);
                found.totals.digest = found.totals.digest.wrapping_add(node.digest(family));
                if node.owner() != Owner::Nobody || QuotaNode::at(node.path()).is_some() {
                    found.indexed.push((node.clone(), family));
                }
            }
        });
        let core = self.shared.core_mut();
        for Found { totals, indexed } in found {
            core.totals.nodes += totals.nodes;
            core.totals.bytes += totals.bytes;
            core.totals.digest = core.totals.digest.wrapping_add(totals.digest);
            for (node, family) in indexed {
                match node.owner() {
                    Owner::Nobody => {}
                    Owner::Session(session) => core.ephemerals.insert(session, node.path()),
                    Owner::Container | Owner::Ttl(_) => {
                        core.reap.update(node.path(), None, Due::of(&node, family));
                    }
                }
                if let Some(QuotaNode::Limits(prefix)) = QuotaNode::at(node.path()) {
                    core.quotas.add(prefix);
                }
            }
        }
    }

    /// Does something for every shard. Each hand gathers what it makes.
    fn each_shard<T: Default + Send>(
        &self,
        hands: Hands<'_>,
        work: impl Fn(&mut T, usize) + Sync,
    ) -> Vec<T> {
        let next = AtomicUsize::new(0);
        let gathered = Mutex::new(Vec::new());
        let hand = || {
            let mut made = T::default();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                if at >= SHARDS {
                    break;
                }
                work(&mut made, at);
            }
            gathered.lock().push(made);
        };
        if self.loaded.load(Ordering::Relaxed) < HANDS_FROM {
            hand();
        } else {
            hands(&hand);
        }
        gathered.into_inner()
    }
}

/// Znodes by the shard of their parent.
struct Homes(Vec<Vec<(Place, Node)>>);

impl Default for Homes {
    fn default() -> Homes {
        Homes((0..SHARDS).map(|_| Vec::new()).collect())
    }
}

/// What some shards hold.
#[derive(Default)]
struct Found {
    totals: Totals,
    /// Znodes that stand in an index.
    indexed: Vec<(Node, Family)>,
}
