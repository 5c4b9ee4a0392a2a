//! Who this server is: the small file that is written once, at founding, and never again.
//!
//! Its appearance under its name is the founding: before, there is no Quorate data here, and a
//! crash leaves a start that begins from nothing.

use std::io;
use std::path::{Path, PathBuf};

use bytes::{BufMut, BytesMut};

use super::files::{read_file, write_file};
use crate::disk::Disk;
use crate::snapshot::zookeeper::Fingerprint;

const MAGIC: &[u8; 8] = b"QUORATE\0";
const VERSION: u8 = 1;
/// No identity is larger.
const BYTES_MAX: u64 = 1024 * 1024;

/// What a server is and stays.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// Our id in the consensus group.
    pub(super) node_id: u64,
    /// Which ensemble this is. Logs and peers of another one are refused.
    pub(super) cluster_id: [u8; 16],
    /// Signs the passwords of sessions (R13).
    pub(super) cluster_key: [u8; 32],
    /// The ZooKeeper data that the founder began with.
    pub(super) imported: Option<Fingerprint>,
}

/// An identity that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    /// The file system said no.
    #[error("{} cannot be read or written", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// It is not what was written.
    #[error("{} is damaged: restore it from a backup, without it the data beside it has no owner", path.display())]
    Damaged { path: PathBuf },
    /// Written by a newer version.
    #[error("{} has version {version}, which this version does not know: upgrade this server", path.display())]
    UnknownVersion { path: PathBuf, version: u8 },
}

impl Identity {
    /// A new server, founding a new ensemble.
    pub(super) fn found(node_id: u64, imported: Option<Fingerprint>) -> Identity {
        Identity {
            node_id,
            cluster_id: rand::random(),
            cluster_key: rand::random(),
            imported,
        }
    }

    /// Reads the file; `None` if there is none.
    pub(super) fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Identity>, IdentityError> {
        let bytes = match read_file(disk, path, BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                let path = path.to_owned();
                return Err(IdentityError::Io { path, source });
            }
        };
        Identity::decode(&bytes)
            .map(Some)
            .map_err(|damage| match damage {
                Damage::Unreadable => IdentityError::Damaged {
                    path: path.to_owned(),
                },
                Damage::Version(version) => IdentityError::UnknownVersion {
                    path: path.to_owned(),
                    version,
                },
            })
    }

    /// Makes it durable. On return, and not before, this server is founded.
    pub(super) fn write(&self, disk: &dyn Disk, path: &Path) -> Result<(), IdentityError> {
        write_file(disk, path, &self.encode()).map_err(|source| IdentityError::Io {
            path: path.to_owned(),
            source,
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = BytesMut::new();
        out.put_slice(MAGIC);
        out.put_u8(VERSION);
        out.put_u64(self.node_id);
        out.put_slice(&self.cluster_id);
        out.put_slice(&self.cluster_key);
        match &self.imported {
            Some(imported) => {
                out.put_u8(1);
                let text = imported.to_text();
                out.put_u32(u32::try_from(text.len()).unwrap_or(u32::MAX));
                out.put_slice(text.as_bytes());
            }
            None => out.put_u8(0),
        }
        let crc = crc32fast::hash(&out);
        out.put_u32(crc);
        out.to_vec()
    }

    fn decode(bytes: &[u8]) -> Result<Identity, Damage> {
        let (content, crc) = bytes.split_last_chunk().ok_or(Damage::Unreadable)?;
        let mut rest = content.strip_prefix(MAGIC).ok_or(Damage::Unreadable)?;
        if crc32fast::hash(content) != u32::from_be_bytes(*crc) {
            return Err(Damage::Unreadable);
        }
        let [version] = take(&mut rest)?;
        if version != VERSION {
            return Err(Damage::Version(version));
        }
        Ok(Identity {
            node_id: u64::from_be_bytes(take(&mut rest)?),
            cluster_id: take(&mut rest)?,
            cluster_key: take(&mut rest)?,
            imported: match take(&mut rest)? {
                [0] => None,
                _ => Some(fingerprint(&mut rest)?),
            },
        })
    }
}

enum Damage {
    Unreadable,
    Version(u8),
}

fn fingerprint(rest: &mut &[u8]) -> Result<Fingerprint, Damage> {
    let len = u32::from_be_bytes(take(rest)?);
    let len = usize::try_from(len).map_err(|_| Damage::Unreadable)?;
    let (text, behind) = rest.split_at_checked(len).ok_or(Damage::Unreadable)?;
    *rest = behind;
    let text = std::str::from_utf8(text).map_err(|_| Damage::Unreadable)?;
    Fingerprint::from_text(text).ok_or(Damage::Unreadable)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Damage> {
    let (taken, behind) = rest.split_first_chunk().ok_or(Damage::Unreadable)?;
    *rest = behind;
    Ok(*taken)
}

/// Never the key.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity")
            .field("node_id", &format_args!("{:#x}", self.node_id))
            .field("imported", &self.imported)
            .finish_non_exhaustive()
    }
}
