//! What a snapshot holds, as plain values: the common ground of the tree, our files and
//! ZooKeeper's.

use bytes::Bytes;
use quorate_proto::{Acl, SessionId};

use crate::tree::{PersistedStat, SessionInfo};

/// A container's owner marker.
pub(crate) const CONTAINER_OWNER: i64 = i64::MIN;
/// The bits that mark an extended type; TTL is the only one.
const EXTENDED_MASK: u64 = 0xff00_0000_0000_0000;
/// The 16 bits behind the mask: which extended type. 0 is TTL.
const FEATURE_MASK: u64 = 0x00ff_ff00_0000_0000;
/// The largest time to live: 40 bits.
pub(crate) const TTL_MAX_MS: i64 = (1 << 40) - 1;

/// What the owner marker says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NodeKind {
    /// Nobody's.
    Persistent,
    /// Of a session.
    Ephemeral(SessionId),
    /// Goes when its last child has gone.
    Container,
    /// Goes when childless and unchanged for this many milliseconds.
    Ttl(i64),
    /// An extended type that nobody has defined yet.
    Unknown,
}

/// Decodes the owner marker of a znode.
///
/// Source: ZooKeeper, `EphemeralType.get` with extended types switched on.
pub(crate) fn kind_of(owner: i64) -> NodeKind {
    let bits = owner.cast_unsigned();
    match owner {
        0 => NodeKind::Persistent,
        CONTAINER_OWNER => NodeKind::Container,
        _ if bits & EXTENDED_MASK == EXTENDED_MASK => match bits & FEATURE_MASK {
            0 => NodeKind::Ttl((bits & !EXTENDED_MASK).cast_signed()),
            _ => NodeKind::Unknown,
        },
        session => NodeKind::Ephemeral(SessionId(session)),
    }
}

/// The marker of a time to live, which is cut to the 40 bits that it has.
pub(crate) fn ttl_owner(ttl_ms: i64) -> i64 {
    (EXTENDED_MASK | ttl_ms.clamp(0, TTL_MAX_MS).cast_unsigned()).cast_signed()
}

/// A znode that belongs to somebody else.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct NodeView<'a> {
    /// The path. The root's is `/`; only [`super::zookeeper`] knows it as empty.
    pub(crate) path: &'a str,
    /// `None` is null, which is not the same as empty.
    pub(crate) data: Option<&'a [u8]>,
    /// Its access control list.
    pub(crate) acl: &'a [Acl],
    /// Its persisted fields.
    pub(crate) stat: PersistedStat,
}

/// A session, with its id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SessionRecord {
    /// Its id.
    pub(crate) id: SessionId,
    /// What the state knows of it.
    pub(crate) session: SessionInfo,
}

/// What else a snapshot says of the state and of the log behind it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SnapshotMeta {
    /// The cluster that wrote it.
    pub(crate) cluster_id: [u8; 16],
    /// The key of session passwords.
    pub(crate) cluster_key: [u8; 32],
    /// The rules of apply in force (R25).
    pub(crate) level: u32,
    /// The last zxid given out.
    pub(crate) zxid: i64,
    /// Term and index of the last entry applied; `None` before the first.
    pub(crate) last_log: Option<(u64, u64)>,
    /// The membership in force, in the words of `replication`.
    pub(crate) membership: Bytes,
    /// The tree digest at `zxid`.
    pub(crate) digest: u64,
}

/// One znode's share of the tree digest, which is the sum of these modulo 2^64.
///
/// Znodes below `/zookeeper` have none: servers change them without a transaction.
/// Source: ZooKeeper, `DigestCalculator`.
pub(crate) fn node_digest(path: &str, data: Option<&[u8]>, stat: &PersistedStat) -> u64 {
    if path.starts_with("/zookeeper/") {
        return 0;
    }
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(path.as_bytes());
    if let Some(data) = data {
        hasher.update(data);
    }
    for field in [stat.czxid, stat.mzxid, stat.pzxid, stat.ctime, stat.mtime] {
        hasher.update(&field.to_be_bytes());
    }
    for field in [stat.version, stat.cversion, stat.aversion] {
        hasher.update(&field.to_be_bytes());
    }
    hasher.update(&stat.ephemeral_owner.to_be_bytes());
    u64::from(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(owner: u64) -> NodeKind {
        kind_of(owner.cast_signed())
    }

    #[test]
    fn the_owner_marker_tells_the_kind_of_a_znode() {
        assert_eq!(kind(0), NodeKind::Persistent);
        assert_eq!(kind(0x8000_0000_0000_0000), NodeKind::Container);
        assert_eq!(kind(0xff00_0000_0526_5c00), NodeKind::Ttl(86_400_000));
        assert_eq!(kind(0xff00_01ff_ffff_ffff), NodeKind::Unknown);
        assert_eq!(kind(0xff00_00ff_ffff_ffff), NodeKind::Ttl(TTL_MAX_MS));
        assert_eq!(kind(42), NodeKind::Ephemeral(SessionId(42)));
        let high = 0xfe00_0000_0000_0001_u64.cast_signed();
        assert_eq!(kind_of(high), NodeKind::Ephemeral(SessionId(high)));
        assert_eq!(kind_of(ttl_owner(7)), NodeKind::Ttl(7));
    }

    /// What an empty ZooKeeper 3.9.5 reports.
    #[test]
    fn the_digest_of_an_empty_tree_is_zookeepers() {
        let stat = PersistedStat::default();
        let sum = node_digest("", Some(b""), &stat) + node_digest("/zookeeper", Some(b""), &stat);
        assert_eq!(sum, 1_371_985_504);
        assert_eq!(node_digest("/zookeeper/quota", Some(b""), &stat), 0);
    }
}
