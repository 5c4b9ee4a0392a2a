//! The bytes of a snapshot file of ours.
//!
//! ```text
//! header   magic 8, format u32, level u32, crc u32 of what stands before
//! section  kind u8, number u32, length u32, crc u32 of these, crc u32 of the body, body
//! …        one Meta, then Sessions, then Nodes, then one Trailer, and nothing behind it
//! ```
//!
//! Integers are big-endian. Sections count from 0, so that a missing or repeated one is noticed.
//! A length is believed only after its checksum. A section of nodes stands for itself: the first
//! znode that has an access control list carries it, later ones refer to it by number.
//!
//! Decoding never panics, and takes no memory that the file does not have.

use std::collections::HashMap;

use bytes::{BufMut, Bytes};
use quorate_proto::{Acl, Id, Perms, SessionId};

use super::fault::Fault;
use super::load::SnapshotVisitor;
use super::record::{NodeView, SessionRecord, SnapshotMeta};
use crate::tree::txn::Ticket;
use crate::tree::{PersistedStat, SessionInfo};

/// First bytes of every snapshot.
pub(super) const MAGIC: [u8; 8] = *b"QUORSNAP";
/// The layout that this file describes.
pub(super) const FORMAT: u32 = 1;
/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 20;
/// Bytes in front of a section's body.
pub(super) const HEAD_BYTES: usize = 17;
/// A section is written when its body has reached this.
pub(super) const SECTION_BYTES: usize = 1024 * 1024;
/// No section is larger: [`SECTION_BYTES`], and one znode of the largest size there is.
pub(super) const SECTION_BYTES_MAX: u32 = 512 * 1024 * 1024;
/// Flags of a session.
const IMPORTED: u8 = 1;
const HAS_TICKET: u8 = 2;
/// In place of a length: null.
const NULL: u32 = u32::MAX;

/// What is in a section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    Meta = 1,
    Sessions = 2,
    Nodes = 3,
    Trailer = 4,
}

/// What was written, for the reader to count again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Trailer {
    pub(super) sections: u32,
    pub(super) sessions: u64,
    pub(super) nodes: u64,
}

/// The front of a section.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) number: u32,
    pub(super) len: u32,
    pub(super) body_crc: u32,
}

pub(super) fn encode_header(level: u32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let front = header_front(FORMAT, level);
    let mut out = header.as_mut_slice();
    out.put_slice(&front);
    out.put_u32(crc32fast::hash(&front));
    header
}

fn header_front(format: u32, level: u32) -> [u8; HEADER_BYTES - 4] {
    let mut bytes = [0; HEADER_BYTES - 4];
    let mut front = bytes.as_mut_slice();
    front.put_slice(&MAGIC);
    front.put_u32(format);
    front.put_u32(level);
    bytes
}

/// Checks a header and returns its level.
pub(super) fn decode_header(header: &[u8; HEADER_BYTES]) -> Result<u32, Fault> {
    let mut fields = Fields(header);
    if fields.array()? != MAGIC {
        return Err(Fault::WrongMagic {
            expected: "snapshot",
        });
    }
    let format = fields.u32()?;
    let level = fields.u32()?;
    check_crc(fields.u32()?, crc32fast::hash(&header_front(format, level)))?;
    // After the checksum: a flipped bit is damage, and not a newer server's work.
    if format != FORMAT {
        return Err(Fault::UnknownVersion {
            found: format.into(),
            known: FORMAT.into(),
        });
    }
    Ok(level)
}

impl Head {
    pub(super) fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        let mut out = bytes.as_mut_slice();
        out.put_slice(&self.front());
        out.put_u32(crc32fast::hash(&self.front()));
        out.put_u32(self.body_crc);
        bytes
    }

    fn front(&self) -> [u8; 9] {
        let mut bytes = [0; 9];
        let mut out = bytes.as_mut_slice();
        out.put_u8(self.kind as u8);
        out.put_u32(self.number);
        out.put_u32(self.len);
        bytes
    }

    pub(super) fn decode(bytes: &[u8; HEAD_BYTES]) -> Result<Head, Fault> {
        let mut fields = Fields(bytes);
        let front: [u8; 9] = fields.array()?;
        check_crc(fields.u32()?, crc32fast::hash(&front))?;
        let body_crc = fields.u32()?;
        let mut fields = Fields(&front);
        let [kind] = fields.array()?;
        let kind = match kind {
            1 => Kind::Meta,
            2 => Kind::Sessions,
            3 => Kind::Nodes,
            4 => Kind::Trailer,
            _ => return Err(Fault::Malformed("a section of an unknown kind")),
        };
        let number = fields.u32()?;
        let len = fields.u32()?;
        if len > SECTION_BYTES_MAX {
            return Err(Fault::BadLength {
                field: "a section",
                declared: len.into(),
                limit: SECTION_BYTES_MAX.into(),
            });
        }
        Ok(Head {
            kind,
            number,
            len,
            body_crc,
        })
    }

    /// Checks a body against its head.
    pub(super) fn check(&self, body: &[u8]) -> Result<(), Fault> {
        check_crc(self.body_crc, crc32fast::hash(body))
    }
}

fn check_crc(stored: u32, computed: u32) -> Result<(), Fault> {
    if stored == computed {
        Ok(())
    } else {
        Err(Fault::Checksum {
            stored: stored.into(),
            computed: computed.into(),
        })
    }
}

/// Encodes the znodes of one section.
#[derive(Default)]
pub(super) struct NodeEncoder {
    numbers: HashMap<Vec<Acl>, u32>,
    /// Most znodes have the list of the one before.
    last: Option<(Vec<Acl>, u32)>,
}

impl NodeEncoder {
    /// Forgets the lists: a new section begins.
    pub(super) fn reset(&mut self) {
        self.numbers.clear();
        self.last = None;
    }

    pub(super) fn encode(&mut self, node: &NodeView<'_>, out: &mut Vec<u8>) {
        put_bytes(out, Some(node.path.as_bytes()));
        put_bytes(out, node.data);
        match &self.last {
            Some((acl, number)) if acl == node.acl => out.put_u32(*number),
            Some(_) | None => self.encode_acl(node.acl, out),
        }
        let stat = &node.stat;
        for field in [
            stat.czxid,
            stat.mzxid,
            stat.ctime,
            stat.mtime,
            stat.pzxid,
            stat.ephemeral_owner,
        ] {
            out.put_i64(field);
        }
        for field in [stat.version, stat.cversion, stat.aversion] {
            out.put_i32(field);
        }
    }

    fn encode_acl(&mut self, acl: &[Acl], out: &mut Vec<u8>) {
        let number = if let Some(number) = self.numbers.get(acl) {
            out.put_u32(*number);
            *number
        } else {
            // A section has far fewer lists than a number can count.
            let number = len_u32(self.numbers.len());
            out.put_u32(number);
            out.put_u32(len_u32(acl.len()));
            for entry in acl {
                out.put_i32(entry.perms.0);
                put_bytes(out, Some(entry.id.scheme.as_bytes()));
                put_bytes(out, Some(entry.id.id.as_bytes()));
            }
            self.numbers.insert(acl.to_vec(), number);
            number
        };
        self.last = Some((acl.to_vec(), number));
    }
}

/// Decodes the body of a section of nodes.
pub(super) fn decode_nodes<V: SnapshotVisitor>(body: &[u8], visitor: &V) -> Result<u64, Fault> {
    let mut fields = Fields(body);
    let mut acls: Vec<V::Acl> = Vec::new();
    let mut count = 0;
    while !fields.0.is_empty() {
        let path = fields
            .bytes()?
            .ok_or(Fault::Malformed("a znode without a path"))?;
        let path = str::from_utf8(path).map_err(|_| Fault::Malformed("a path that is no text"))?;
        let data = fields.bytes()?;
        let number = fields.u32()? as usize;
        if number == acls.len() {
            acls.push(visitor.acl(fields.acl()?));
        }
        let acl = acls
            .get(number)
            .ok_or(Fault::Malformed("an unknown access control list"))?;
        let stat = PersistedStat {
            czxid: fields.i64()?,
            mzxid: fields.i64()?,
            ctime: fields.i64()?,
            mtime: fields.i64()?,
            pzxid: fields.i64()?,
            ephemeral_owner: fields.i64()?,
            version: fields.i32()?,
            cversion: fields.i32()?,
            aversion: fields.i32()?,
        };
        visitor.node(path, data, acl, &stat)?;
        count += 1;
    }
    Ok(count)
}

pub(super) fn encode_session(record: &SessionRecord, out: &mut Vec<u8>) {
    let SessionRecord { id, session } = record;
    out.put_i64(id.0);
    out.put_i32(session.timeout_ms);
    out.put_u32(session.attach);
    out.put_u64(session.last_seq);
    let ticket_flag = if session.ticket.is_some() {
        HAS_TICKET
    } else {
        0
    };
    let imported_flag = if session.imported { IMPORTED } else { 0 };
    out.put_u8(ticket_flag | imported_flag);
    if let Some(ticket) = session.ticket {
        out.put_u8(ticket.server);
        out.put_u64(ticket.boot);
        out.put_u64(ticket.count);
    }
}

/// Decodes the body of a section of sessions.
pub(super) fn decode_sessions(
    body: &[u8],
    mut session: impl FnMut(SessionRecord) -> Result<(), Fault>,
) -> Result<u64, Fault> {
    let mut fields = Fields(body);
    let mut count = 0;
    while !fields.0.is_empty() {
        let id = SessionId(fields.i64()?);
        let timeout_ms = fields.i32()?;
        let attach = fields.u32()?;
        let last_seq = fields.u64()?;
        let [flags] = fields.array()?;
        if flags & !(IMPORTED | HAS_TICKET) != 0 {
            return Err(Fault::Malformed("unknown flags of a session"));
        }
        let ticket = if flags & HAS_TICKET == 0 {
            None
        } else {
            let [server] = fields.array()?;
            Some(Ticket {
                server,
                boot: fields.u64()?,
                count: fields.u64()?,
            })
        };
        let imported = flags & IMPORTED != 0;
        let record = SessionInfo {
            timeout_ms,
            attach,
            last_seq,
            ticket,
            imported,
        };
        session(SessionRecord {
            id,
            session: record,
        })?;
        count += 1;
    }
    Ok(count)
}

pub(super) fn encode_meta(meta: &SnapshotMeta, out: &mut Vec<u8>) {
    out.put_slice(&meta.cluster_id);
    out.put_slice(&meta.cluster_key);
    out.put_i64(meta.zxid);
    out.put_u64(meta.digest);
    out.put_u8(u8::from(meta.last_log.is_some()));
    let (term, index) = meta.last_log.unwrap_or_default();
    out.put_u64(term);
    out.put_u64(index);
    put_bytes(out, Some(&meta.membership));
}

pub(super) fn decode_meta(body: &[u8], level: u32) -> Result<SnapshotMeta, Fault> {
    let mut fields = Fields(body);
    let cluster_id = fields.array()?;
    let cluster_key = fields.array()?;
    let zxid = fields.i64()?;
    let digest = fields.u64()?;
    let [has_log] = fields.array()?;
    let last_log = (fields.u64()?, fields.u64()?);
    let membership = Bytes::copy_from_slice(fields.bytes()?.unwrap_or_default());
    fields.end()?;
    Ok(SnapshotMeta {
        cluster_id,
        cluster_key,
        level,
        zxid,
        last_log: (has_log != 0).then_some(last_log),
        membership,
        digest,
    })
}

impl Trailer {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.sections);
        out.put_u64(self.sessions);
        out.put_u64(self.nodes);
    }

    pub(super) fn decode(body: &[u8]) -> Result<Trailer, Fault> {
        let mut fields = Fields(body);
        let trailer = Trailer {
            sections: fields.u32()?,
            sessions: fields.u64()?,
            nodes: fields.u64()?,
        };
        fields.end()?;
        Ok(trailer)
    }

    /// Holds what was announced against what was found.
    pub(super) fn check(&self, found: &Trailer) -> Result<(), Fault> {
        let counts = [
            (
                "sections",
                u64::from(found.sections),
                u64::from(self.sections),
            ),
            ("sessions", found.sessions, self.sessions),
            ("znodes", found.nodes, self.nodes),
        ];
        for (what, found, expected) in counts {
            if found != expected {
                return Err(Fault::Count {
                    what,
                    found,
                    expected,
                });
            }
        }
        Ok(())
    }
}

/// Lengths in a snapshot are below [`SECTION_BYTES_MAX`], which the writer checks per section.
fn len_u32(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(NULL - 1)
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            out.put_u32(len_u32(bytes.len()));
            out.put_slice(bytes);
        }
        None => out.put_u32(NULL),
    }
}

/// Reads fields from the front of a body.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Fault::Truncated)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u32(&mut self) -> Result<u32, Fault> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Fault> {
        self.array().map(u64::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, Fault> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, Fault> {
        self.array().map(i64::from_be_bytes)
    }

    fn bytes(&mut self) -> Result<Option<&'a [u8]>, Fault> {
        let len = self.u32()?;
        if len == NULL {
            return Ok(None);
        }
        let (head, rest) = self
            .0
            .split_at_checked(len as usize)
            .ok_or(Fault::Truncated)?;
        self.0 = rest;
        Ok(Some(head))
    }

    fn text(&mut self) -> Result<String, Fault> {
        let bytes = self.bytes()?.unwrap_or_default();
        String::from_utf8(bytes.to_vec()).map_err(|_| Fault::Malformed("an id that is no text"))
    }

    fn acl(&mut self) -> Result<Vec<Acl>, Fault> {
        let count = self.u32()?;
        // Every entry takes 12 bytes or more: more entries than that are not in the file.
        let limit = self.0.len() / 12;
        if count as usize > limit {
            return Err(Fault::BadLength {
                field: "an access control list",
                declared: count.into(),
                limit: limit as u64,
            });
        }
        (0..count)
            .map(|_| {
                let perms = Perms(self.i32()?);
                let scheme = self.text()?;
                let id = self.text()?;
                Ok(Acl {
                    perms,
                    id: Id { scheme, id },
                })
            })
            .collect()
    }

    fn end(&self) -> Result<(), Fault> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Fault::Malformed("a section that is too long"))
        }
    }
}
