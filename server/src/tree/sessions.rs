//! The replicated session records: what a session may still write, and who attached it last.
//!
//! Deadlines are not in here: they are the leader's own, and never in the log.

use hashbrown::HashMap;
use quorate_proto::SessionId;

use super::txn::Ticket;

/// Shards of the table, so that a capture copies a small piece at a time.
pub(super) const SESSION_SHARDS: usize = 256;

/// What is known of a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SessionInfo {
    /// As negotiated at the last attach.
    pub(crate) timeout_ms: i32,
    /// How often it was attached: 1 when it is new.
    pub(crate) attach: u32,
    /// The last write of this attach that was applied.
    pub(crate) last_seq: u64,
    /// Names the open or attach that gave it its connection. It makes a repeated attach known,
    /// so it is part of the state and of snapshots. `None` for imported sessions.
    pub(crate) ticket: Option<Ticket>,
    /// It came from ZooKeeper, and so did its password.
    pub(crate) imported: bool,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Sessions {
    shards: Vec<HashMap<i64, SessionInfo>>,
}

impl Default for Sessions {
    fn default() -> Sessions {
        Sessions {
            shards: (0..SESSION_SHARDS).map(|_| HashMap::new()).collect(),
        }
    }
}

/// Where a session is.
pub(super) fn shard_of(id: SessionId) -> usize {
    // Ids of one server are consecutive or nearly so: the low byte spreads them.
    usize::from(id.0.to_le_bytes()[0])
}

impl Sessions {
    pub(super) fn get(&self, id: SessionId) -> Option<&SessionInfo> {
        self.shard(shard_of(id)).get(&id.0)
    }

    pub(super) fn get_mut(&mut self, id: SessionId) -> Option<&mut SessionInfo> {
        self.shards.get_mut(shard_of(id))?.get_mut(&id.0)
    }

    pub(super) fn insert(&mut self, id: SessionId, session: SessionInfo) -> Option<SessionInfo> {
        self.shards.get_mut(shard_of(id))?.insert(id.0, session)
    }

    pub(super) fn remove(&mut self, id: SessionId) -> Option<SessionInfo> {
        self.shards.get_mut(shard_of(id))?.remove(&id.0)
    }

    pub(super) fn shard(&self, at: usize) -> &HashMap<i64, SessionInfo> {
        self.shards.get(at).expect("a byte is below 256")
    }

    /// All of them, in the order of their ids.
    pub(super) fn sorted(&self) -> Vec<(SessionId, SessionInfo)> {
        let mut all: Vec<_> = self
            .shards
            .iter()
            .flatten()
            .map(|(&id, &session)| (SessionId(id), session))
            .collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }
}
