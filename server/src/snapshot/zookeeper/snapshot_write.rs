//! Writes one ZooKeeper snapshot, in the layout that `snapshot_file` reads.

use std::collections::HashMap;
use std::io::{self, Write};

use quorate_proto::{Acl, SessionId};
use simd_adler32::Adler32;

use super::super::record::{NodeView, node_digest};
use super::snapshot_file::{END, MAGIC, OPEN_ACL, VERSION};
use super::txn::DIGEST_VERSION;
use crate::tree::PersistedStat;

/// Real servers write this.
const DBID: i64 = -1;
/// The znodes that every server makes; only these refer to the open list by its reserved id.
const SYSTEM: [&str; 3] = ["", "/zookeeper", "/zookeeper/quota"];

/// Writes a snapshot and returns the digest of its tree. `nodes` come parents first, and the
/// root's path is empty.
pub(super) fn write<'a>(
    out: impl Write,
    zxid: i64,
    sessions: &[(SessionId, i32)],
    nodes: impl Iterator<Item = NodeView<'a>> + Clone,
) -> io::Result<u64> {
    let mut sealed = Sealed {
        out,
        adler: Adler32::new(),
    };
    sealed.int(MAGIC)?;
    sealed.int(VERSION)?;
    sealed.long(DBID)?;
    sealed.count(sessions.len())?;
    for (id, timeout_ms) in sessions {
        sealed.long(id.0)?;
        sealed.int(*timeout_ms)?;
    }
    let acls = AclTable::of(nodes.clone());
    acls.write(&mut sealed)?;
    let mut digest = 0_u64;
    for node in nodes {
        let acl = acls
            .id(&node)
            .ok_or_else(|| io::Error::other("a list that was not there"))?;
        sealed.buffer(Some(node.path.as_bytes()))?;
        sealed.buffer(node.data)?;
        sealed.long(acl)?;
        sealed.stat(&node.stat)?;
        digest = digest.wrapping_add(node_digest(node.path, node.data, &node.stat));
    }
    sealed.buffer(Some(END.as_bytes()))?;
    sealed.seal()?;
    sealed.long(zxid)?;
    sealed.int(DIGEST_VERSION)?;
    sealed.long(digest.cast_signed())?;
    sealed.seal()?;
    sealed.long(zxid)?;
    sealed.seal()?;
    sealed.out.flush()?;
    Ok(digest)
}

/// Every list that a znode has, by its id.
struct AclTable<'a> {
    ids: HashMap<&'a [Acl], i64>,
    lists: Vec<&'a [Acl]>,
    open: Vec<Acl>,
}

impl<'a> AclTable<'a> {
    fn of(nodes: impl Iterator<Item = NodeView<'a>>) -> AclTable<'a> {
        let mut table = AclTable {
            ids: HashMap::new(),
            lists: Vec::new(),
            open: Acl::open_unsafe(),
        };
        let mut last: Option<&[Acl]> = None;
        for node in nodes {
            // Most znodes have the list of the one before.
            if last == Some(node.acl) || table.is_reserved(&node) {
                continue;
            }
            last = Some(node.acl);
            if !table.ids.contains_key(node.acl) {
                table.lists.push(node.acl);
                table.ids.insert(node.acl, table.lists.len() as i64);
            }
        }
        table
    }

    fn is_reserved(&self, node: &NodeView<'_>) -> bool {
        SYSTEM.contains(&node.path) && node.acl == self.open
    }

    fn id(&self, node: &NodeView<'_>) -> Option<i64> {
        if self.is_reserved(node) {
            Some(OPEN_ACL)
        } else {
            self.ids.get(node.acl).copied()
        }
    }

    fn write(&self, sealed: &mut Sealed<impl Write>) -> io::Result<()> {
        sealed.count(self.lists.len())?;
        for (id, list) in (1_i64..).zip(&self.lists) {
            sealed.long(id)?;
            sealed.count(list.len())?;
            for entry in *list {
                sealed.int(entry.perms.0)?;
                sealed.buffer(Some(entry.id.scheme.as_bytes()))?;
                sealed.buffer(Some(entry.id.id.as_bytes()))?;
            }
        }
        Ok(())
    }
}

/// Output under a running checksum.
struct Sealed<W> {
    out: W,
    adler: Adler32,
}

impl<W: Write> Sealed<W> {
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.adler.write(bytes);
        self.out.write_all(bytes)
    }

    fn int(&mut self, value: i32) -> io::Result<()> {
        self.bytes(&value.to_be_bytes())
    }

    fn long(&mut self, value: i64) -> io::Result<()> {
        self.bytes(&value.to_be_bytes())
    }

    fn count(&mut self, count: usize) -> io::Result<()> {
        let count = i32::try_from(count)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "too many for the format"))?;
        self.int(count)
    }

    fn buffer(&mut self, bytes: Option<&[u8]>) -> io::Result<()> {
        match bytes {
            Some(bytes) => {
                self.count(bytes.len())?;
                self.bytes(bytes)
            }
            None => self.int(-1),
        }
    }

    fn stat(&mut self, stat: &PersistedStat) -> io::Result<()> {
        for field in [stat.czxid, stat.mzxid, stat.ctime, stat.mtime] {
            self.long(field)?;
        }
        for field in [stat.version, stat.cversion, stat.aversion] {
            self.int(field)?;
        }
        self.long(stat.ephemeral_owner)?;
        self.long(stat.pzxid)
    }

    /// Covers everything in front of it, earlier seals included.
    fn seal(&mut self) -> io::Result<()> {
        self.long(i64::from(self.adler.finish()))?;
        self.buffer(Some(END.as_bytes()))
    }
}
