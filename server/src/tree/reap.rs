//! Which containers and TTL znodes may be removed, in the order in which they come due.
//!
//! Only childless ones are listed: a TTL znode with children would come up at every look.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::node::{Family, Node, Owner};

/// Why a childless znode may go, and when.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Due {
    /// A container that had children: at once.
    Used,
    /// A container that never had one: some time after its last change.
    NeverUsed { mtime: i64 },
    /// A TTL znode: behind this time.
    Behind { time_ms: i64 },
}

impl Due {
    pub(super) fn of(node: &Node, family: Family) -> Option<Due> {
        if family.children > 0 {
            return None;
        }
        match node.owner() {
            Owner::Container if family.creations != 0 => Some(Due::Used),
            Owner::Container => Some(Due::NeverUsed {
                mtime: node.mtime(),
            }),
            Owner::Ttl(ttl) => Some(Due::Behind {
                time_ms: node.mtime().saturating_add(ttl),
            }),
            Owner::Nobody | Owner::Session(_) => None,
        }
    }
}

#[derive(Default, Debug)]
pub(super) struct ReapIndex(BTreeSet<(Due, Arc<str>)>);

impl ReapIndex {
    pub(super) fn update(&mut self, path: &str, before: Option<Due>, after: Option<Due>) {
        if before == after {
            return;
        }
        if let Some(due) = before {
            self.0.remove(&(due, path.into()));
        }
        if let Some(due) = after {
            self.0.insert((due, path.into()));
        }
    }

    /// Strictly later than its time, as ZooKeeper compares.
    pub(super) fn due(
        &self,
        now_ms: i64,
        never_used_ms: Option<i64>,
    ) -> impl Iterator<Item = &Arc<str>> {
        let first: Arc<str> = "".into();
        let used = self
            .0
            .range(..(Due::NeverUsed { mtime: i64::MIN }, first.clone()));
        let mtime = never_used_ms.map_or(i64::MIN, |ms| now_ms.saturating_sub(ms));
        let never_used = self.0.range(
            (Due::NeverUsed { mtime: i64::MIN }, first.clone())
                ..(Due::NeverUsed { mtime }, first.clone()),
        );
        let behind = self.0.range(
            (Due::Behind { time_ms: i64::MIN }, first.clone())
                ..(Due::Behind { time_ms: now_ms }, first),
        );
        used.chain(never_used).chain(behind).map(|(_, path)| path)
    }
}
