//! One znode, immutable, in a single allocation.
//!
//! What most znodes never need is left out: one whose ACL was never set stores no `aversion`, one
//! without an owner no owner. Fields that `setData` changes are always there, so that the next
//! version of a znode mostly fits into the memory of the last one. What children bring (creation
//! counter, `pzxid`, names) is kept apart in a [`Family`], so that a create does not copy its
//! parent.

use quorate_proto::{Acl, Stat};
use triomphe::ThinArc;

use super::acls::AclList;
use super::digest;

/// `ephemeralOwner` of a container, as ZooKeeper stores it.
pub(crate) const OWNER_CONTAINER: i64 = i64::MIN;
/// The longest time to live, in milliseconds: 40 bits.
const TTL_MASK: i64 = 0xFF_FFFF_FFFF;
/// Top byte of the owner of a TTL znode; the next two bytes are zero.
const OWNER_TTL: i64 = 0xFF00_0000_0000_0000_u64.cast_signed();

/// Longest path that a znode can have. Frames are far shorter.
pub(super) const PATH_BYTES_MAX: usize = PATH_LEN as usize;

/// Flags share their word with the length of the path.
const PATH_LEN: u32 = (1 << 28) - 1;
/// `mtime` is too far behind `ctime` for the header.
const FAR_MTIME: u32 = 1 << 28;
const ACL_CHANGED: u32 = 1 << 29;
const OWNED: u32 = 1 << 30;
const NULL_DATA: u32 = 1 << 31;

/// 48 bytes: with the two words of the allocation, 64.
struct Header {
    czxid: i64,
    mzxid: i64,
    ctime: i64,
    acl: AclList,
    /// Milliseconds from `ctime` to `mtime`: seven weeks fit.
    mtime_after: u32,
    flags_and_path_len: u32,
    /// CRC of path and data: the part of the digest that can be long.
    prefix_crc: u32,
    version: i32,
}

/// A znode at one point of its life.
#[derive(Clone)]
pub(super) struct Node(ThinArc<Header, u8>);

/// What a znode is made of.
#[derive(Clone)]
pub(super) struct Parts<'a> {
    pub(super) path: &'a str,
    pub(super) data: Option<&'a [u8]>,
    pub(super) acl: AclList,
    pub(super) czxid: i64,
    pub(super) mzxid: i64,
    pub(super) ctime: i64,
    pub(super) mtime: i64,
    pub(super) version: i32,
    pub(super) aversion: i32,
    pub(super) owner: i64,
}

/// What its children bring to a znode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Family {
    /// How many children were ever created; numbers sequential znodes.
    pub(super) creations: i32,
    pub(super) pzxid: i64,
    pub(super) children: u32,
}

/// Who or what ends a znode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Owner {
    Nobody,
    Session(i64),
    Container,
    Ttl(i64),
}

impl Owner {
    pub(super) fn from_raw(raw: i64) -> Owner {
        match raw {
            0 => Owner::Nobody,
            OWNER_CONTAINER => Owner::Container,
            ttl if ttl & !TTL_MASK == OWNER_TTL => Owner::Ttl(ttl & TTL_MASK),
            session => Owner::Session(session),
        }
    }

    pub(super) fn raw(self) -> i64 {
        match self {
            Owner::Nobody => 0,
            Owner::Container => OWNER_CONTAINER,
            Owner::Ttl(ms) => OWNER_TTL | (ms & TTL_MASK),
            Owner::Session(session) => session,
        }
    }
}

/// The 60 bytes that a snapshot keeps of a znode's Stat.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct PersistedStat {
    /// Zxid of its creation.
    pub(crate) czxid: i64,
    /// Zxid of the last change of its data.
    pub(crate) mzxid: i64,
    /// Time of its creation.
    pub(crate) ctime: i64,
    /// Time of the last change of its data.
    pub(crate) mtime: i64,
    /// Changes of its data.
    pub(crate) version: i32,
    /// Creations of children: not what clients see as `cversion`.
    pub(crate) cversion: i32,
    /// Changes of its ACL.
    pub(crate) aversion: i32,
    /// The owner, or the marker of a container or TTL znode.
    pub(crate) ephemeral_owner: i64,
    /// Zxid of the last create or delete of a child.
    pub(crate) pzxid: i64,
}

impl Node {
    /// Packs a znode. `scratch` is only there to save an allocation.
    pub(super) fn pack(parts: &Parts<'_>, scratch: &mut Vec<u8>) -> Node {
        debug_assert!(parts.path.len() <= PATH_BYTES_MAX);
        scratch.clear();
        scratch.extend_from_slice(parts.path.as_bytes());
        let mut flags = 0;
        let mtime_after = parts.mtime.checked_sub(parts.ctime);
        let mtime_after = mtime_after.and_then(|ms| u32::try_from(ms).ok());
        if mtime_after.is_none() {
            flags |= FAR_MTIME;
            scratch.extend_from_slice(&parts.mtime.to_ne_bytes());
        }
        if parts.aversion != 0 {
            flags |= ACL_CHANGED;
            scratch.extend_from_slice(&parts.aversion.to_ne_bytes());
        }
        if parts.owner != 0 {
            flags |= OWNED;
            scratch.extend_from_slice(&parts.owner.to_ne_bytes());
        }
        match parts.data {
            Some(data) => scratch.extend_from_slice(data),
            None => flags |= NULL_DATA,
        }
        let header = Header {
            czxid: parts.czxid,
            mzxid: parts.mzxid,
            ctime: parts.ctime,
            acl: parts.acl.clone(),
            mtime_after: mtime_after.unwrap_or(0),
            flags_and_path_len: flags | (u32::try_from(parts.path.len()).unwrap_or(0) & PATH_LEN),
            prefix_crc: digest::prefix(parts.path, parts.data),
            version: parts.version,
        };
        let node = Node(ThinArc::from_header_and_slice(header, scratch));
        if scratch.capacity() > 64 * 1024 {
            *scratch = Vec::new();
        }
        node
    }

    /// What this znode is made of, to make the next one.
    pub(super) fn parts(&self) -> Parts<'_> {
        self.parts_at(self.path())
    }

    /// The same, for who has the path as text: finding out that bytes are text is not free.
    pub(super) fn parts_at<'a>(&'a self, path: &'a str) -> Parts<'a> {
        debug_assert_eq!(path.as_bytes(), self.path_bytes());
        Parts {
            path,
            data: self.data(),
            acl: self.acl_list().clone(),
            czxid: self.czxid(),
            mzxid: self.mzxid(),
            ctime: self.header().ctime,
            mtime: self.mtime(),
            version: self.version(),
            aversion: self.aversion(),
            owner: self.raw_owner(),
        }
    }

    fn header(&self) -> &Header {
        &self.0.header.header
    }

    fn has(&self, flag: u32) -> bool {
        self.header().flags_and_path_len & flag != 0
    }

    fn path_len(&self) -> usize {
        (self.header().flags_and_path_len & PATH_LEN) as usize
    }

    pub(super) fn path_bytes(&self) -> &[u8] {
        let len = self.path_len();
        self.0.slice.get(..len).unwrap_or_default()
    }

    pub(super) fn path(&self) -> &str {
        std::str::from_utf8(self.path_bytes()).expect("packed from a str")
    }

    /// The `N` bytes that start this far behind the path.
    fn field<const N: usize>(&self, offset: usize) -> [u8; N] {
        let start = self.path_len() + offset;
        self.0
            .slice
            .get(start..)
            .and_then(|rest| rest.first_chunk())
            .copied()
            .expect("its flag says that it is there")
    }

    fn aversion_offset(&self) -> usize {
        if self.has(FAR_MTIME) { 8 } else { 0 }
    }

    fn owner_offset(&self) -> usize {
        self.aversion_offset() + if self.has(ACL_CHANGED) { 4 } else { 0 }
    }

    fn data_range(&self) -> std::ops::Range<usize> {
        let start = self.path_len() + self.owner_offset() + if self.has(OWNED) { 8 } else { 0 };
        start..self.0.slice.len()
    }

    pub(super) fn data(&self) -> Option<&[u8]> {
        if self.has(NULL_DATA) {
            return None;
        }
        self.0.slice.get(self.data_range())
    }

    pub(super) fn data_len(&self) -> usize {
        self.data_range().len()
    }

    pub(super) fn acl(&self) -> &[Acl] {
        &self.header().acl
    }

    pub(super) fn acl_list(&self) -> &AclList {
        &self.header().acl
    }

    pub(super) fn czxid(&self) -> i64 {
        self.header().czxid
    }

    pub(super) fn mzxid(&self) -> i64 {
        self.header().mzxid
    }

    pub(super) fn mtime(&self) -> i64 {
        if self.has(FAR_MTIME) {
            i64::from_ne_bytes(self.field(0))
        } else {
            self.header().ctime + i64::from(self.header().mtime_after)
        }
    }

    pub(super) fn version(&self) -> i32 {
        self.header().version
    }

    pub(super) fn aversion(&self) -> i32 {
        if self.has(ACL_CHANGED) {
            i32::from_ne_bytes(self.field(self.aversion_offset()))
        } else {
            0
        }
    }

    fn raw_owner(&self) -> i64 {
        if self.has(OWNED) {
            i64::from_ne_bytes(self.field(self.owner_offset()))
        } else {
            0
        }
    }

    pub(super) fn owner(&self) -> Owner {
        Owner::from_raw(self.raw_owner())
    }

    pub(super) fn is_ephemeral(&self) -> bool {
        matches!(self.owner(), Owner::Session(_))
    }

    /// The family of a znode that never had a child.
    pub(super) fn childless(&self) -> Family {
        Family {
            creations: 0,
            pzxid: self.czxid(),
            children: 0,
        }
    }

    pub(super) fn persisted(&self, family: Family) -> PersistedStat {
        PersistedStat {
            czxid: self.czxid(),
            mzxid: self.mzxid(),
            ctime: self.header().ctime,
            mtime: self.mtime(),
            version: self.version(),
            cversion: family.creations,
            aversion: self.aversion(),
            ephemeral_owner: self.raw_owner(),
            pzxid: family.pzxid,
        }
    }

    /// What clients see.
    pub(super) fn stat(&self, family: Family) -> Stat {
        let children = family.children.cast_signed();
        Stat {
            czxid: self.czxid(),
            mzxid: self.mzxid(),
            ctime: self.header().ctime,
            mtime: self.mtime(),
            version: self.version(),
            // Clients see creates and deletes; only creates are stored, because they also
            // number sequential znodes. Deletes so far are `creations - children`.
            cversion: family.creations.wrapping_mul(2).wrapping_sub(children),
            aversion: self.aversion(),
            ephemeral_owner: match self.owner() {
                Owner::Session(session) => session,
                Owner::Nobody | Owner::Container | Owner::Ttl(_) => 0,
            },
            data_length: i32::try_from(self.data_len()).unwrap_or(i32::MAX),
            num_children: children,
            pzxid: family.pzxid,
        }
    }

    /// Its share of the tree's digest.
    pub(super) fn digest(&self, family: Family) -> u64 {
        digest::node(
            self.path_bytes(),
            self.header().prefix_crc,
            &self.persisted(family),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::acls::OPEN;

    #[test]
    fn a_znode_keeps_all_of_its_parts() {
        for bits in 0..16_i64 {
            let data = (bits & 8 == 0).then_some(&b"data"[..]);
            let parts = Parts {
                path: "/some/path",
                data,
                acl: OPEN.clone(),
                czxid: 5,
                mzxid: if bits & 1 == 0 { 5 } else { 7 },
                ctime: 50,
                mtime: [70, 50, 20, i64::MAX][usize::try_from(bits / 2 % 4).unwrap()],
                version: 3,
                aversion: i32::try_from(bits & 2).unwrap(),
                owner: bits & 4,
            };
            let node = Node::pack(&parts, &mut Vec::new());
            let back = node.parts();
            assert_eq!(back.path, parts.path);
            assert_eq!(back.data, parts.data);
            assert_eq!(
                (back.czxid, back.mzxid, back.ctime, back.mtime),
                (parts.czxid, parts.mzxid, parts.ctime, parts.mtime)
            );
            assert_eq!(
                (back.version, back.aversion, back.owner),
                (parts.version, parts.aversion, parts.owner)
            );
            assert_eq!(node.data(), data);
        }
    }

    #[test]
    fn owners_are_stored_as_zookeeper_stores_them() {
        for (owner, raw) in [
            (Owner::Nobody, 0),
            (Owner::Container, i64::MIN),
            (Owner::Ttl(5), 0xFF00_0000_0000_0005_u64.cast_signed()),
            (
                Owner::Ttl(TTL_MASK),
                0xFF00_00FF_FFFF_FFFF_u64.cast_signed(),
            ),
            (Owner::Session(0x0100_0001_3384_9002), 0x0100_0001_3384_9002),
            (Owner::Session(-1), -1),
        ] {
            assert_eq!(owner.raw(), raw);
            assert_eq!(Owner::from_raw(raw), owner);
        }
    }
}
