//! Writes one snapshot file, section by section.
//!
//! Takes no more memory than a section or the largest znode, and no lock: it runs beside the
//! apply loop on a thread of its own. The file gets its name when it is complete and synced, so
//! what stands under a name was whole once.

use std::io;
use std::path::{Path, PathBuf};

use super::format::{
    self, HEAD_BYTES, Head, Kind, NodeEncoder, SECTION_BYTES, SECTION_BYTES_MAX, Trailer,
};
use super::record::{NodeView, SessionRecord, SnapshotMeta};
use super::store::SnapshotName;
use crate::disk::{DiskFile, SharedDisk};

/// Synced this often on the way: a sync of the log, which usually shares the device, waits for what
/// of ours is on its way there. 16 MiB are a tenth of a second on a disk of the cloud.
const SYNC_BYTES: u64 = 2 * 1024 * 1024;

/// A snapshot that is being written.
pub(crate) struct SnapshotWriter {
    disk: SharedDisk,
    dir: PathBuf,
    name: SnapshotName,
    temporary: PathBuf,
    file: Box<dyn DiskFile>,
    offset: u64,
    synced: u64,
    /// The section in the making, behind room for its head.
    section: Vec<u8>,
    kind: Kind,
    nodes: NodeEncoder,
    written: Trailer,
}

impl SnapshotWriter {
    /// Makes the file and writes what comes before sessions and znodes.
    ///
    /// # Errors
    /// If the disk fails. What was begun is removed by [`super::SnapshotStore::open`].
    pub(crate) fn create(
        disk: &SharedDisk,
        dir: &Path,
        meta: &SnapshotMeta,
    ) -> io::Result<SnapshotWriter> {
        let name = SnapshotName::of(meta);
        let temporary = dir.join(name.temporary());
        let file = disk.create(&temporary)?;
        let header = format::encode_header(meta.level);
        file.write_at(&header, 0)?;
        let mut writer = SnapshotWriter {
            disk: SharedDisk::clone(disk),
            dir: dir.to_owned(),
            name,
            temporary,
            file,
            offset: header.len() as u64,
            synced: 0,
            section: vec![0; HEAD_BYTES],
            kind: Kind::Meta,
            nodes: NodeEncoder::default(),
            written: Trailer::default(),
        };
        format::encode_meta(meta, &mut writer.section);
        writer.flush()?;
        Ok(writer)
    }

    /// Adds a session. All sessions come before all znodes.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn session(&mut self, session: &SessionRecord) -> io::Result<()> {
        self.start(Kind::Sessions)?;
        format::encode_session(session, &mut self.section);
        self.written.sessions += 1;
        self.flush_if_full()
    }

    /// Adds a znode. Any order; siblings next to each other load faster.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn node(&mut self, node: &NodeView<'_>) -> io::Result<()> {
        self.start(Kind::Nodes)?;
        self.nodes.encode(node, &mut self.section);
        self.written.nodes += 1;
        self.flush_if_full()
    }

    /// Completes the file: synced, named, and the name synced.
    ///
    /// # Errors
    /// If the disk fails; whether the file has its name is unknown then.
    pub(crate) fn finish(mut self) -> io::Result<SnapshotName> {
        self.start(Kind::Trailer)?;
        let written = self.written;
        written.encode(&mut self.section);
        self.flush()?;
        self.file.sync_data()?;
        self.disk
            .rename(&self.temporary, &self.dir.join(self.name.to_string()))?;
        self.disk.sync_dir(&self.dir)?;
        Ok(self.name)
    }

    /// Removes what was written so far.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) fn abandon(self) -> io::Result<()> {
        self.disk.remove(&self.temporary)
    }

    fn start(&mut self, kind: Kind) -> io::Result<()> {
        if self.kind != kind {
            if self.section.len() > HEAD_BYTES {
                self.flush()?;
            }
            self.kind = kind;
        }
        Ok(())
    }

    fn flush_if_full(&mut self) -> io::Result<()> {
        if self.section.len() < SECTION_BYTES {
            Ok(())
        } else {
            self.flush()
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let body = self.section.get(HEAD_BYTES..).unwrap_or_default();
        let len = u32::try_from(body.len())
            .ok()
            .filter(|&len| len <= SECTION_BYTES_MAX)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "section too large"))?;
        let head = Head {
            kind: self.kind,
            number: self.written.sections,
            len,
            body_crc: crc32fast::hash(body),
        };
        if let Some(room) = self.section.first_chunk_mut::<HEAD_BYTES>() {
            *room = head.encode();
        }
        self.file.write_at(&self.section, self.offset)?;
        self.offset += self.section.len() as u64;
        self.section.truncate(HEAD_BYTES);
        // One huge znode does not keep its memory for the rest of the tree.
        self.section.shrink_to(2 * SECTION_BYTES);
        self.nodes.reset();
        self.written.sections += 1;
        if self.offset - self.synced >= SYNC_BYTES {
            self.file.sync_data()?;
            self.synced = self.offset;
        }
        Ok(())
    }
}
