//! Judges operations and changes nothing.
//!
//! What an operation would do becomes a list of [`Change`]s that cannot fail any more (R6). The
//! operations of a multi see what those in front of them would do, through an overlay.
//!
//! Source of the order of checks: ZooKeeper, `PrepRequestProcessor`.

use std::sync::Arc;

use hashbrown::HashMap;
use quorate_proto::{ErrorCode, Perms, Version, path};

use super::Caller;
use super::core::Core;
use super::node::{Family, Node, Owner, PATH_BYTES_MAX, Parts};
use super::quota::{self, Track};
use super::store::{Place, Shared};
use super::txn::{Create, CreateKind, Op, OpResult};

/// What commit will do. Each holds the znodes as they are when its turn comes.
pub(super) enum Change {
    Create {
        at: Place,
        node: Node,
        up: Place,
        parent: Node,
    },
    Delete {
        at: Place,
        node: Node,
        up: Place,
        parent: Node,
    },
    SetData {
        at: Place,
        before: Node,
        after: Node,
    },
    SetAcl {
        at: Place,
        before: Node,
        after: Node,
    },
}

/// What earlier operations of a multi would make of znodes; `None` is one that they would delete.
pub(super) type Overlay = HashMap<Box<str>, Option<(Node, Family)>>;

/// One transaction, while it is judged.
pub(super) struct Planner<'t> {
    pub(super) tree: &'t Shared,
    pub(super) core: &'t mut Core,
    pub(super) caller: Caller<'t>,
    pub(super) session: i64,
    pub(super) zxid: i64,
    pub(super) time_ms: i64,
    /// None where only one operation is judged.
    pub(super) overlay: Option<Overlay>,
    pub(super) changes: Vec<Change>,
}

type Judged = Result<OpResult, ErrorCode>;

impl Planner<'_> {
    pub(super) fn judge(&mut self, op: &Op<'_>) -> Judged {
        match op {
            Op::Refused { code } => Err(*code),
            Op::Create(create) => self.create(create),
            Op::Delete { path, version } => self.delete(path, *version),
            Op::SetData {
                path,
                data,
                version,
                enforce_quota,
            } => self.set_data(path, data.as_deref(), *version, *enforce_quota),
            Op::SetAcl { path, acl, version } => self.set_acl(path, acl, *version),
            Op::Check { path, version } => self.check(path, *version),
        }
    }

    fn look(&self, path: &str) -> (Place, Option<(Node, Family)>) {
        let place = self.tree.place(path);
        let found = match self.overlay.as_ref().and_then(|overlay| overlay.get(path)) {
            Some(known) => known.clone(),
            None => self.tree.look(place, path),
        };
        (place, found)
    }

    fn remember(&mut self, path: &str, now: Option<(Node, Family)>) {
        if let Some(overlay) = &mut self.overlay {
            overlay.insert(path.into(), now);
        }
    }

    fn allow(&self, node: &Node, perms: Perms) -> Result<(), ErrorCode> {
        if self.caller.allows(node.acl(), perms) {
            Ok(())
        } else {
            Err(ErrorCode::NoAuth)
        }
    }

    fn create(&mut self, create: &Create<'_>) -> Judged {
        let asked = &*create.path;
        if asked.contains('\0') {
            return Err(ErrorCode::BadArguments);
        }
        let (parent_path, _) = path::split(asked).ok_or(ErrorCode::BadArguments)?;
        let (up, parent) = self.look(parent_path);
        let (parent, mut family) = parent.ok_or(ErrorCode::NoNode)?;
        self.allow(&parent, Perms::CREATE)?;
        let path: Arc<str> = if create.sequential {
            format!("{asked}{:010}", family.creations).into()
        } else {
            asked.into()
        };
        if path::validate(&path).is_err() || path.len() > PATH_BYTES_MAX {
            return Err(ErrorCode::BadArguments);
        }
        let (at, existing) = self.look(&path);
        if existing.is_some() {
            return Err(ErrorCode::NodeExists);
        }
        if parent.is_ephemeral() {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let data = create.data.as_deref();
        self.check_quota(&path, 1, length(data), create.enforce_quota)?;

        let owner = match create.kind {
            CreateKind::Persistent => Owner::Nobody,
            CreateKind::Ephemeral => Owner::Session(self.session),
            CreateKind::Container => Owner::Container,
            CreateKind::Ttl(ms) => Owner::Ttl(ms),
        };
        let parts = Parts {
            path: &path,
            data,
            acl: self.core.acls.intern(&create.acl),
            czxid: self.zxid,
            mzxid: self.zxid,
            ctime: self.time_ms,
            mtime: self.time_ms,
            version: 0,
            aversion: 0,
            owner: owner.raw(),
        };
        let node = Node::pack(&parts, &mut self.core.scratch);
        let childless = node.childless();
        let stat = node.stat(childless);
        family.creations = family.creations.wrapping_add(1);
        family.children += 1;
        family.pzxid = self.zxid;
        if self.overlay.is_some() {
            self.remember(parent_path, Some((parent.clone(), family)));
            self.remember(&path, Some((node.clone(), childless)));
        }
        self.changes.push(Change::Create {
            at,
            node,
            up,
            parent,
        });
        Ok(OpResult::Created { path, stat })
    }

    fn delete(&mut self, path: &str, version: Version) -> Judged {
        if path.contains('\0') || path::is_reserved(path) {
            return Err(ErrorCode::BadArguments);
        }
        let (parent_path, _) = path::split(path).ok_or(ErrorCode::BadArguments)?;
        let (_, parent) = self.look(parent_path);
        let (parent, _) = parent.ok_or(ErrorCode::NoNode)?;
        self.allow(&parent, Perms::DELETE)?;
        let (_, found) = self.look(path);
        let (node, family) = found.ok_or(ErrorCode::NoNode)?;
        expect(version, node.version())?;
        if family.children > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        self.remove(path);
        Ok(OpResult::Deleted)
    }

    /// Plans the deletion of a znode, whoever asks. `false` if it does not exist.
    pub(super) fn remove(&mut self, path: &str) -> bool {
        let Some((parent_path, _)) = path::split(path) else {
            return false;
        };
        let (up, parent) = self.look(parent_path);
        let (at, found) = self.look(path);
        let (Some((parent, mut family)), Some((node, _))) = (parent, found) else {
            return false;
        };
        family.children = family.children.saturating_sub(1);
        family.pzxid = self.zxid;
        if self.overlay.is_some() {
            self.remember(parent_path, Some((parent.clone(), family)));
            self.remember(path, None);
        }
        self.changes.push(Change::Delete {
            at,
            node,
            up,
            parent,
        });
        true
    }

    fn set_data(
        &mut self,
        path: &str,
        data: Option<&[u8]>,
        version: Version,
        enforce_quota: bool,
    ) -> Judged {
        let (at, before, family) = self.find_valid(path)?;
        self.allow(&before, Perms::WRITE)?;
        let growth = length(data).wrapping_sub(length(before.data()));
        self.check_quota(path, 0, growth, enforce_quota)?;
        expect(version, before.version())?;
        let parts = Parts {
            data,
            mzxid: self.zxid,
            mtime: self.time_ms,
            version: before.version().wrapping_add(1),
            ..before.parts_at(path)
        };
        let after = Node::pack(&parts, &mut self.core.scratch);
        let stat = after.stat(family);
        self.remember(path, Some((after.clone(), family)));
        self.changes.push(Change::SetData { at, before, after });
        Ok(OpResult::Changed { stat })
    }

    fn set_acl(&mut self, path: &str, acl: &[quorate_proto::Acl], version: Version) -> Judged {
        let (at, before, family) = self.find_valid(path)?;
        self.allow(&before, Perms::ADMIN)?;
        expect(version, before.aversion())?;
        let parts = Parts {
            acl: self.core.acls.intern(acl),
            aversion: before.aversion().wrapping_add(1),
            ..before.parts_at(path)
        };
        let after = Node::pack(&parts, &mut self.core.scratch);
        let stat = after.stat(family);
        self.remember(path, Some((after.clone(), family)));
        self.changes.push(Change::SetAcl { at, before, after });
        Ok(OpResult::Changed { stat })
    }

    fn check(&mut self, path: &str, version: Version) -> Judged {
        let (_, node, _) = self.find_valid(path)?;
        self.allow(&node, Perms::READ)?;
        expect(version, node.version())?;
        Ok(OpResult::Checked)
    }

    fn find_valid(&self, path: &str) -> Result<(Place, Node, Family), ErrorCode> {
        if path::validate(path).is_err() {
            return Err(ErrorCode::BadArguments);
        }
        let (place, found) = self.look(path);
        let (node, family) = found.ok_or(ErrorCode::NoNode)?;
        Ok((place, node, family))
    }

    /// Holds a change against the quota above it, as far as it is committed: what stands in
    /// front of this operation in its multi does not count, as in ZooKeeper.
    fn check_quota(
        &mut self,
        path: &str,
        count: i64,
        bytes: i64,
        enforce: bool,
    ) -> Result<(), ErrorCode> {
        let Some(prefix) = self.core.quotas.of(path) else {
            return Ok(());
        };
        let read = |path: String| {
            let (node, _) = self.tree.look(self.tree.place(&path), &path)?;
            Some(Track::parse(node.data()))
        };
        let Some(limits) = read(quota::limits_path(prefix)) else {
            return Ok(());
        };
        let excess = match (limits, read(quota::stats_path(prefix))) {
            (Ok(limits), Some(Ok(usage))) => limits.exceeded_by(&usage, count, bytes),
            (Ok(_), None) => None,
            (Err(_), _) | (_, Some(Err(_))) if enforce => return Err(ErrorCode::MarshallingError),
            (Err(_), _) | (_, Some(Err(_))) => None,
        };
        let Some(excess) = excess else {
            return Ok(());
        };
        if self.core.quotas.may_warn(prefix, self.time_ms) {
            tracing::warn!(
                path = prefix,
                what = excess.what,
                hard = excess.is_hard,
                total = excess.total,
                limit = excess.limit,
                "quota exceeded"
            );
        }
        if excess.is_hard && enforce {
            return Err(ErrorCode::QuotaExceeded);
        }
        Ok(())
    }
}

fn expect(version: Version, actual: i32) -> Result<(), ErrorCode> {
    if version.matches(actual) {
        Ok(())
    } else {
        Err(ErrorCode::BadVersion)
    }
}

fn length(data: Option<&[u8]>) -> i64 {
    i64::try_from(data.map_or(0, <[u8]>::len)).unwrap_or(i64::MAX)
}
