//! What this server is in its ensemble at the moment.

/// The role of this server, as `Replication::role` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// No leader is known here.
    Looking,
    /// It follows server `leader`, and forwards to it.
    Following {
        /// The number of the leader.
        leader: u8,
        /// The leader's term: another leadership of the same server is another role.
        term: u64,
    },
    /// It leads, and has applied the first entry of its term: it may confirm, expire and reap.
    Leading {
        /// Its term.
        term: u64,
    },
}
