//! Reads one ZooKeeper snapshot.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use quorate_proto::{Acl, Id, Perms};
use simd_adler32::Adler32;

use super::super::fault::{Fault, FileFault};
use super::compression::{self, Compression};
use super::image::Image;
use super::jute::Fields;
use super::source::Source;
use super::txn::DIGEST_VERSION;
use crate::tree::PersistedStat;

/// `ZKSN`.
pub(super) const MAGIC: i32 = 0x5a4b_534e;
/// The only version there has been.
pub(super) const VERSION: i32 = 2;
/// The path that ends the tree, and every seal.
pub(super) const END: &str = "/";
/// [`END`] as it stands in the file: what an uncompressed snapshot must end with.
const TAIL: [u8; 5] = [0, 0, 0, 1, b'/'];
/// The id of the open list, which is in no table.
pub(super) const OPEN_ACL: i64 = -1;
/// Bytes of a persisted Stat.
const STAT_BYTES: usize = 60;
/// More than both blocks behind the tree take.
const BLOCKS_BYTES_MAX: u64 = 1024;

/// What stands in a snapshot.
#[derive(Debug)]
pub(super) struct ReadSnapshot {
    pub(super) image: Image,
    pub(super) recorded: Recorded,
    /// Znodes whose access control list is not in the table.
    pub(super) lost_acls: u64,
}

/// What the writer recorded behind the tree. Every part is optional.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Recorded {
    /// The zxid at which the digest holds: the end of the fuzzy stretch.
    pub(super) digest: Option<(i64, u64)>,
    /// The last transaction in the tree.
    pub(super) last_zxid: Option<i64>,
}

/// Reads a snapshot; `zxid` is the one that its name tells.
pub(super) fn read(path: &Path, zxid: i64) -> Result<ReadSnapshot, FileFault> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let compression = Compression::of(name);
    if compression == Compression::Plain {
        check_tail(path).map_err(|fault| fault.at(path, 0))?;
    }
    let stream =
        compression::open(path, compression).map_err(|error| Fault::Io(error).at(path, 0))?;
    let mut source = Source::new(stream);
    let mut snapshot = read_from(&mut source).map_err(|fault| fault.at(path, source.offset()))?;
    snapshot.image.zxid = zxid;
    Ok(snapshot)
}

/// Cheap, and tells most half-written files before anything is built.
fn check_tail(path: &Path) -> Result<(), Fault> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let start = len.checked_sub(TAIL.len() as u64).ok_or(Fault::Truncated)?;
    file.seek(SeekFrom::Start(start))?;
    let mut tail = [0; TAIL.len()];
    file.read_exact(&mut tail)?;
    if tail == TAIL {
        Ok(())
    } else {
        Err(Fault::Truncated)
    }
}

pub(super) fn read_from<R: Read>(source: &mut Source<R>) -> Result<ReadSnapshot, Fault> {
    if source.int()? != MAGIC {
        return Err(Fault::WrongMagic {
            expected: "ZooKeeper snapshot",
        });
    }
    match source.int()? {
        VERSION => {}
        found => {
            return Err(Fault::UnknownVersion {
                found: found.into(),
                known: VERSION.into(),
            });
        }
    }
    source.long()?; // dbid: -1 from real servers, without use
    let mut image = Image::default();
    for _ in 0..source.count("sessions")? {
        let id = source.long()?;
        let timeout_ms = source.int()?;
        image.sessions.insert(id, timeout_ms);
    }
    let acls = read_acls(source, &mut image)?;
    let lost_acls = read_nodes(source, &mut image, &acls)?;
    let recorded = read_seals(source)?;
    Ok(ReadSnapshot {
        image,
        recorded,
        lost_acls,
    })
}

fn read_acls<R: Read>(
    source: &mut Source<R>,
    image: &mut Image,
) -> Result<HashMap<i64, Arc<[Acl]>>, Fault> {
    let mut acls = HashMap::new();
    acls.insert(OPEN_ACL, image.intern(&Acl::open_unsafe()));
    let mut text = Vec::new();
    let mut string = |source: &mut Source<R>, field| {
        source.buffer(field, &mut text)?;
        Ok::<_, Fault>(String::from_utf8_lossy(&text).into_owned())
    };
    for _ in 0..source.count("access control lists")? {
        let id = source.long()?;
        let mut list = Vec::new();
        let entries = source.int()?;
        for _ in 0..entries.max(0) {
            let perms = Perms(source.int()?);
            let scheme = string(source, "a scheme")?;
            let name = string(source, "an id")?;
            list.push(Acl {
                perms,
                id: Id { scheme, id: name },
            });
        }
        let list = image.intern(&list);
        acls.insert(id, list);
    }
    Ok(acls)
}

fn read_nodes<R: Read>(
    source: &mut Source<R>,
    image: &mut Image,
    acls: &HashMap<i64, Arc<[Acl]>>,
) -> Result<u64, Fault> {
    let mut lost_acls = 0;
    let (mut path_bytes, mut data) = (Vec::new(), Vec::new());
    loop {
        source.buffer("a path", &mut path_bytes)?;
        let path = String::from_utf8_lossy(&path_bytes);
        if path == END {
            break;
        }
        let has_data = source.buffer("data", &mut data)?;
        let acl = if let Some(acl) = acls.get(&source.long()?) {
            Arc::clone(acl)
        } else {
            // ZooKeeper loads it, and then nobody can read it.
            lost_acls += 1;
            image.closed_acl()
        };
        let stat = read_stat(&source.array::<STAT_BYTES>()?)?;
        if path.is_empty() || path.starts_with('/') {
            if !image.put(&path, has_data.then(|| data.as_slice().into()), acl, stat) {
                return Err(Fault::Orphan {
                    path: path.into_owned(),
                });
            }
        } else {
            return Err(Fault::Malformed("a path that does not start with a slash"));
        }
    }
    if image.node("").is_none() {
        return Err(Fault::Malformed("no root"));
    }
    Ok(lost_acls)
}

fn read_stat(bytes: &[u8; STAT_BYTES]) -> Result<PersistedStat, Fault> {
    let mut fields = Fields::new(bytes);
    Ok(PersistedStat {
        czxid: fields.long()?,
        mzxid: fields.long()?,
        ctime: fields.long()?,
        mtime: fields.long()?,
        version: fields.int()?,
        cversion: fields.int()?,
        aversion: fields.int()?,
        ephemeral_owner: fields.long()?,
        pzxid: fields.long()?,
    })
}

/// The seal behind the tree, then what may follow, each under a seal of its own.
fn read_seals<R: Read>(source: &mut Source<R>) -> Result<Recorded, Fault> {
    let adler = source.adler();
    let stored = source.long()?;
    check_seal(&adler, stored)?;
    let mut end = Vec::new();
    source.buffer("a seal", &mut end)?;
    if end != END.as_bytes() {
        return Err(Fault::Malformed("a seal without its end mark"));
    }
    let adler = source.adler();
    let rest = source.rest(BLOCKS_BYTES_MAX)?;
    // No mark tells the two blocks apart, and a writer may leave out either. Their seals do.
    let with_digest = read_blocks(&rest, &adler, Leading::Digest);
    match with_digest {
        Ok(recorded) => Ok(recorded),
        Err(fault) => read_blocks(&rest, &adler, Leading::LastZxid).map_err(|_| fault),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Leading {
    Digest,
    LastZxid,
}

fn read_blocks(rest: &[u8], adler: &Adler32, leading: Leading) -> Result<Recorded, Fault> {
    let mut recorded = Recorded::default();
    let mut fields = Fields::new(rest);
    if fields.remaining() > 0 && leading == Leading::Digest {
        let zxid = fields.long()?;
        let version = fields.int()?;
        let digest = if version < DIGEST_VERSION {
            fields.string("a digest")?;
            0
        } else {
            fields.long()?
        };
        read_seal(rest, adler, &mut fields)?;
        // All zero: the writer had nothing to record.
        if version == DIGEST_VERSION && (zxid, digest) != (0, 0) {
            recorded.digest = Some((zxid, digest.cast_unsigned()));
        }
    }
    if fields.remaining() > 0 {
        recorded.last_zxid = Some(fields.long()?);
        read_seal(rest, adler, &mut fields)?;
    }
    if fields.remaining() > 0 {
        return Err(Fault::Malformed("bytes behind the end of the snapshot"));
    }
    Ok(recorded)
}

/// A seal covers everything in front of it, earlier seals included.
fn read_seal(rest: &[u8], adler: &Adler32, fields: &mut Fields<'_>) -> Result<(), Fault> {
    let covered = rest.len() - fields.remaining();
    let mut adler = adler.clone();
    adler.write(rest.get(..covered).unwrap_or_default());
    let stored = fields.long()?;
    check_seal(&adler, stored)?;
    if fields.string("a seal")? == END {
        Ok(())
    } else {
        Err(Fault::Malformed("a seal without its end mark"))
    }
}

fn check_seal(adler: &Adler32, stored: i64) -> Result<(), Fault> {
    let computed = u64::from(adler.finish());
    let stored = stored.cast_unsigned();
    if stored == computed {
        Ok(())
    } else {
        Err(Fault::Checksum { stored, computed })
    }
}
