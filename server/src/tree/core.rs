//! What the apply loop alone changes, behind the gate: zxid, sessions, indexes and totals.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use quorate_proto::Zxid;

use super::acls::Acls;
use super::capture::Progress;
use super::quota::Quotas;
use super::reap::ReapIndex;
use super::sessions::Sessions;

#[derive(Default)]
pub(super) struct Core {
    /// The last zxid that was given out.
    pub(super) zxid: i64,
    /// Which rules of apply are in force (R25).
    pub(super) level: u32,
    /// What makes session passwords.
    pub(super) key: [u8; 32],
    pub(super) sessions: Sessions,
    pub(super) ephemerals: Ephemerals,
    pub(super) acls: Acls,
    pub(super) quotas: Quotas,
    pub(super) reap: ReapIndex,
    pub(super) totals: Totals,
    /// Captures that are not through yet.
    pub(super) captures: Vec<Arc<Progress>>,
    pub(super) scratch: Vec<u8>,
}

/// Kept as plain numbers, published as atomics.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Totals {
    pub(super) nodes: u64,
    pub(super) bytes: u64,
    pub(super) digest: u64,
}

impl Core {
    /// Takes the next zxid. At the counter's end the epoch grows without an election.
    pub(super) fn next_zxid(&mut self) -> Zxid {
        if self.zxid & 0xFFFF_FFFF == 0xFFFF_FFFF {
            self.zxid += 1;
        }
        self.zxid += 1;
        Zxid(self.zxid)
    }
}

/// Which znodes go with which session.
///
/// Closing a session deletes what this index lists and looks no further: an entry missing here
/// is a lock that nobody can take again.
#[derive(Default, Debug)]
pub(super) struct Ephemerals {
    of: HashMap<i64, BTreeSet<Arc<str>>>,
    len: u64,
}

impl Ephemerals {
    pub(super) fn insert(&mut self, session: i64, path: &str) {
        self.len += u64::from(self.of.entry(session).or_default().insert(path.into()));
    }

    pub(super) fn remove(&mut self, session: i64, path: &str) {
        if let Some(paths) = self.of.get_mut(&session) {
            self.len -= u64::from(paths.remove(path));
            if paths.is_empty() {
                self.of.remove(&session);
            }
        }
    }

    /// In the order of their paths, which is the same on every server.
    pub(super) fn of(&self, session: i64) -> Vec<Arc<str>> {
        self.of
            .get(&session)
            .map(|paths| paths.iter().cloned().collect())
            .unwrap_or_default()
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }
}
