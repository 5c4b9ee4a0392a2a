//! The digest of a tree, as ZooKeeper 3.9 computes it (version 2).
//!
//! A sum over the znodes, so that a change costs the znodes that it changes. The CRC of path and
//! data is kept in the znode: a create below a parent with a megabyte of data does not read it.
//!
//! Source: ZooKeeper, `DigestCalculator`.

use crc32fast::Hasher;
use quorate_proto::path::ROOT;

use super::node::PersistedStat;

/// The CRC of the part in front of the Stat.
pub(super) fn prefix(path: &str, data: Option<&[u8]>) -> u32 {
    let mut crc = Hasher::new();
    // The root counts with an empty path.
    if path != ROOT {
        crc.update(path.as_bytes());
    }
    crc.update(data.unwrap_or_default());
    crc.finalize()
}

/// A znode's share.
pub(super) fn node(path: &[u8], prefix: u32, stat: &PersistedStat) -> u64 {
    // ZooKeeper changes quota statistics without a transaction, so nothing below counts.
    if path.starts_with(b"/zookeeper/") {
        return 0;
    }
    let mut crc = Hasher::new_with_initial(prefix);
    crc.update(&encode(stat));
    u64::from(crc.finalize())
}

/// In the digest's own order of fields.
fn encode(stat: &PersistedStat) -> [u8; 60] {
    let longs = [stat.czxid, stat.mzxid, stat.pzxid, stat.ctime, stat.mtime];
    let ints = [stat.version, stat.cversion, stat.aversion];
    let mut out = [0; 60];
    let (head, owner) = out.split_at_mut(52);
    let (head, tail) = head.split_at_mut(40);
    for (field, long) in head.as_chunks_mut::<8>().0.iter_mut().zip(longs) {
        *field = long.to_be_bytes();
    }
    for (field, int) in tail.as_chunks_mut::<4>().0.iter_mut().zip(ints) {
        *field = int.to_be_bytes();
    }
    owner.copy_from_slice(&stat.ephemeral_owner.to_be_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from a real server.
    #[test]
    fn an_empty_tree_has_zookeepers_digest() {
        let zero = PersistedStat::default();
        let root = node(b"/", prefix("/", Some(b"")), &zero);
        let zookeeper = node(b"/zookeeper", prefix("/zookeeper", Some(b"")), &zero);
        let quota = node(
            b"/zookeeper/quota",
            prefix("/zookeeper/quota", Some(b"")),
            &zero,
        );
        assert_eq!(root + zookeeper + quota, 1_371_985_504);
    }
}
