//! Takes in a snapshot that another server sends, piece by piece, into a file beside the others.
//!
//! The file gets its name when all of it was checked and a state was built from it: what cannot
//! be loaded never stands among the snapshots, so a torn or foreign one changes nothing. What is
//! wrong with its beginning is told at once, and not behind the last gigabyte.
//!
//! Memory is taken for the first section only, and bounded. Every call waits for the disk.

use std::path::PathBuf;
use std::sync::Arc;

use super::fault::{Fault, FileFault};
use super::format::{self, HEAD_BYTES, HEADER_BYTES, Head, Kind};
use super::record::SnapshotMeta;
use super::state::LoadedState;
use super::store::{SnapshotName, SnapshotStore};
use crate::disk::DiskFile;
use crate::tree::StateBuilder;

/// Synced this often on the way, as when one is written.
const SYNC_BYTES: u64 = 2 * 1024 * 1024;
/// The first section is smaller: ids, and a membership of a few hundred servers.
const META_BYTES_MAX: u32 = 1024 * 1024;

/// Whether a snapshot is the one that was announced.
pub(crate) type Announced = Box<dyn Fn(&SnapshotMeta) -> Result<(), Fault> + Send + Sync>;

/// A snapshot that is arriving. Dropped before it is finished, it leaves nothing behind.
pub(crate) struct SnapshotReceiver {
    store: Arc<SnapshotStore>,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    offset: u64,
    synced: u64,
    /// The beginning, until it was looked at.
    front: Option<Vec<u8>>,
    announced: Announced,
    named: bool,
}

impl SnapshotReceiver {
    pub(super) fn create(
        store: Arc<SnapshotStore>,
        path: PathBuf,
        announced: Announced,
    ) -> Result<SnapshotReceiver, FileFault> {
        let file = store.disk().create(&path);
        let file = file.map_err(|error| Fault::Io(error).at(&path, 0))?;
        Ok(SnapshotReceiver {
            store,
            path,
            file,
            offset: 0,
            synced: 0,
            front: Some(Vec::new()),
            announced,
            named: false,
        })
    }

    /// Adds the next piece.
    ///
    /// # Errors
    /// If the disk fails, or if this cannot become the snapshot that was announced. Give it up
    /// then.
    pub(crate) fn write(&mut self, piece: &[u8]) -> Result<(), FileFault> {
        let at = self.offset;
        self.add(piece).map_err(|fault| fault.at(&self.path, at))
    }

    fn add(&mut self, piece: &[u8]) -> Result<(), Fault> {
        self.look_at_front(piece)?;
        self.file.write_at(piece, self.offset)?;
        self.offset += piece.len() as u64;
        if self.offset - self.synced >= SYNC_BYTES {
            self.file.sync_data()?;
            self.synced = self.offset;
        }
        Ok(())
    }

    fn look_at_front(&mut self, piece: &[u8]) -> Result<(), Fault> {
        let Some(front) = &mut self.front else {
            return Ok(());
        };
        let most = HEADER_BYTES + HEAD_BYTES + META_BYTES_MAX as usize;
        let room = most.saturating_sub(front.len());
        front.extend_from_slice(piece.get(..room).unwrap_or(piece));
        if let Some(meta) = first_section(front, self.store.level_max())? {
            (self.announced)(&meta)?;
            self.front = None;
        }
        Ok(())
    }

    /// Checks the whole, builds its state in `builder`, and gives the file its name, durably.
    /// Takes as long as a start does.
    ///
    /// # Errors
    /// What is wrong with it. Nothing of it is left then, unless the disk failed at the very end;
    /// in that case the file is whole, and may or may not have its name.
    pub(crate) fn finish(
        mut self,
        builder: StateBuilder,
        check_digest: bool,
    ) -> Result<(SnapshotName, LoadedState), FileFault> {
        let end = self.offset;
        let sync = self.file.sync_data();
        sync.map_err(|error| Fault::Io(error).at(&self.path, end))?;
        let loaded = self.store.load_file(&self.path, builder, check_digest)?;
        (self.announced)(&loaded.meta).map_err(|fault| fault.at(&self.path, 0))?;
        let name = SnapshotName::of(&loaded.meta);
        let named = self.store.name_file(&self.path, name);
        named.map_err(|error| Fault::Io(error).at(&self.path, end))?;
        self.named = true;
        Ok((name, loaded))
    }
}

impl Drop for SnapshotReceiver {
    fn drop(&mut self) {
        if !self.named {
            // If the disk has failed, the next start clears it.
            let _ = self.store.disk().remove(&self.path);
        }
    }
}

/// What the first section says; `None` while there is not enough of it.
fn first_section(front: &[u8], level_max: u32) -> Result<Option<SnapshotMeta>, Fault> {
    let Some((header, rest)) = front.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let level = format::decode_header(header)?;
    if level > level_max {
        return Err(Fault::UnknownLevel {
            found: level,
            known: level_max,
        });
    }
    let Some((head, rest)) = rest.split_first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let head = Head::decode(head)?;
    if head.kind != Kind::Meta || head.number != 0 {
        return Err(Fault::Malformed("a section out of its turn"));
    }
    if head.len > META_BYTES_MAX {
        return Err(Fault::BadLength {
            field: "the first section",
            declared: head.len.into(),
            limit: META_BYTES_MAX.into(),
        });
    }
    let Some(body) = rest.get(..head.len as usize) else {
        return Ok(None);
    };
    head.check(body)?;
    format::decode_meta(body, level).map(Some)
}
