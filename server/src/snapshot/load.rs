//! Reads one snapshot file and checks all that can be checked.
//!
//! One thread reads and checks sums, the caller's builds: with the pages in memory, a million
//! znodes take about as long as building them does.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::fault::{Fault, FileFault};
use super::format::{self, HEAD_BYTES, HEADER_BYTES, Head, Kind, Trailer};
use super::record::{NodeView, SessionRecord, SnapshotMeta};
use crate::disk::DiskFile;

/// Sections read ahead.
const READ_AHEAD: usize = 4;

/// Takes what a snapshot holds, in the order of the file.
pub(crate) trait SnapshotVisitor {
    /// Comes first. An error ends the reading.
    fn meta(&mut self, meta: &SnapshotMeta) -> Result<(), Fault>;
    /// One session.
    fn session(&mut self, session: SessionRecord);
    /// One znode.
    fn node(&mut self, node: NodeView<'_>);
}

/// Reads a snapshot.
///
/// # Errors
/// The first thing that is wrong with it; what was visited until then is worth nothing.
pub(super) fn load(
    file: &dyn DiskFile,
    path: &Path,
    level_max: u32,
    visitor: &mut dyn SnapshotVisitor,
) -> Result<SnapshotMeta, FileFault> {
    let (sender, sections) = sync_channel(READ_AHEAD);
    thread::scope(|scope| {
        // Ends when the receiver is dropped, at the latest.
        scope.spawn(|| read_sections(file, level_max, sender));
        visit(sections, visitor).map_err(|(fault, offset)| fault.at(path, offset))
    })
}

/// Reads a snapshot and checks everything but the tree digest.
///
/// # Errors
/// The first thing that is wrong with it.
pub(super) fn verify(
    file: &dyn DiskFile,
    path: &Path,
    level_max: u32,
) -> Result<SnapshotMeta, FileFault> {
    struct Nobody;
    impl SnapshotVisitor for Nobody {
        fn meta(&mut self, _: &SnapshotMeta) -> Result<(), Fault> {
            Ok(())
        }
        fn session(&mut self, _: SessionRecord) {}
        fn node(&mut self, _: NodeView<'_>) {}
    }
    load(file, path, level_max, &mut Nobody)
}

/// A section whose checksums are right, or what is wrong with the next one.
type Section = Result<ReadSection, (Fault, u64)>;

struct ReadSection {
    level: u32,
    kind: Kind,
    offset: u64,
    body: Vec<u8>,
}

fn read_sections(file: &dyn DiskFile, level_max: u32, sender: SyncSender<Section>) {
    let mut offset = 0;
    if let Err(fault) = read_in_turn(file, level_max, &mut offset, &sender) {
        // The receiver may have given up already.
        let _ = sender.send(Err((fault, offset)));
    }
}

/// Sends every section up to the trailer; returns early when nobody listens.
fn read_in_turn(
    file: &dyn DiskFile,
    level_max: u32,
    offset: &mut u64,
    sender: &SyncSender<Section>,
) -> Result<(), Fault> {
    let len = file.len()?;
    let mut header = [0; HEADER_BYTES];
    read_exact(file, &mut header, 0)?;
    let level = format::decode_header(&header)?;
    if level > level_max {
        return Err(Fault::UnknownLevel {
            found: level,
            known: level_max,
        });
    }
    *offset = HEADER_BYTES as u64;
    for number in 0.. {
        let mut head = [0; HEAD_BYTES];
        read_exact(file, &mut head, *offset)?;
        let head = Head::decode(&head)?;
        if head.number != number {
            return Err(Fault::Malformed("a section out of its turn"));
        }
        let body_offset = *offset + HEAD_BYTES as u64;
        let next = body_offset + u64::from(head.len);
        if next > len {
            return Err(Fault::Truncated);
        }
        let mut body = vec![0; head.len as usize];
        read_exact(file, &mut body, body_offset)?;
        head.check(&body)?;
        if head.kind == Kind::Trailer && next != len {
            return Err(Fault::Malformed("bytes behind the end of the snapshot"));
        }
        let section = ReadSection {
            level,
            kind: head.kind,
            offset: *offset,
            body,
        };
        if sender.send(Ok(section)).is_err() || head.kind == Kind::Trailer {
            return Ok(());
        }
        *offset = next;
    }
    Ok(())
}

fn read_exact(file: &dyn DiskFile, mut buf: &mut [u8], mut offset: u64) -> Result<(), Fault> {
    while !buf.is_empty() {
        let read = file.read_at(buf, offset)?;
        if read == 0 {
            return Err(Fault::Truncated);
        }
        buf = buf.get_mut(read..).unwrap_or_default();
        offset += read as u64;
    }
    Ok(())
}

fn visit(
    sections: Receiver<Section>,
    visitor: &mut dyn SnapshotVisitor,
) -> Result<SnapshotMeta, (Fault, u64)> {
    let mut meta = None;
    let mut found = Trailer::default();
    for section in sections {
        let section = section?;
        let at = |fault| (fault, section.offset);
        match (section.kind, &meta) {
            (Kind::Meta, None) => {
                let read = format::decode_meta(&section.body, section.level).map_err(at)?;
                visitor.meta(&read).map_err(at)?;
                meta = Some(read);
            }
            (Kind::Meta, Some(_)) | (_, None) => {
                return Err(at(Fault::Malformed("a section out of its turn")));
            }
            (Kind::Sessions, Some(_)) => {
                found.sessions +=
                    format::decode_sessions(&section.body, |session| visitor.session(session))
                        .map_err(at)?;
            }
            (Kind::Nodes, Some(_)) => {
                found.nodes +=
                    format::decode_nodes(&section.body, |node| visitor.node(node)).map_err(at)?;
            }
            (Kind::Trailer, Some(meta)) => {
                let announced = Trailer::decode(&section.body).map_err(at)?;
                announced.check(&found).map_err(at)?;
                return Ok(meta.clone());
            }
        }
        found.sections += 1;
    }
    Err((Fault::Truncated, 0))
}
