//! Reads one snapshot file and checks all that can be checked.
//!
//! The caller's thread reads; sections of znodes are checked and decoded on several threads, for
//! a large tree takes longer to build than to read.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use parking_lot::Mutex;
use quorate_proto::Acl;

use super::fault::{Fault, FileFault};
use super::format::{self, HEAD_BYTES, HEADER_BYTES, Head, Kind, Trailer};
use super::record::{SessionRecord, SnapshotMeta};
use crate::disk::DiskFile;
use crate::tree::PersistedStat;

/// Threads that build, at most.
const BUILDERS_MAX: usize = 4;
/// Sections read ahead of them.
const READ_AHEAD: usize = 4;

/// Takes what a snapshot holds: first the meta record, then sessions, then znodes, these in any
/// order and on several threads. An error ends the reading.
pub(crate) trait SnapshotVisitor: Sync {
    /// An access control list, made ready once for many znodes.
    type Acl;
    /// Comes first, once.
    fn meta(&mut self, meta: &SnapshotMeta) -> Result<(), Fault>;
    /// One session.
    fn session(&mut self, session: SessionRecord) -> Result<(), Fault>;
    /// Makes a list ready.
    fn acl(&self, acl: Vec<Acl>) -> Self::Acl;
    /// One znode.
    fn node(
        &self,
        path: &str,
        data: Option<&[u8]>,
        acl: &Self::Acl,
        stat: &PersistedStat,
    ) -> Result<(), Fault>;
}

/// What is wrong, and where.
type Located = (Fault, u64);

/// Reads a snapshot.
///
/// # Errors
/// The first thing that is wrong with it; what was visited until then is worth nothing.
pub(super) fn load<V: SnapshotVisitor>(
    file: &dyn DiskFile,
    path: &Path,
    level_max: u32,
    visitor: &mut V,
) -> Result<SnapshotMeta, FileFault> {
    load_sections(file, level_max, visitor).map_err(|(fault, offset)| fault.at(path, offset))
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
        type Acl = ();
        fn meta(&mut self, _: &SnapshotMeta) -> Result<(), Fault> {
            Ok(())
        }
        fn session(&mut self, _: SessionRecord) -> Result<(), Fault> {
            Ok(())
        }
        fn acl(&self, _: Vec<Acl>) {}
        fn node(&self, _: &str, _: Option<&[u8]>, (): &(), _: &PersistedStat) -> Result<(), Fault> {
            Ok(())
        }
    }
    load(file, path, level_max, &mut Nobody)
}

fn builders() -> usize {
    thread::available_parallelism()
        .map_or(1, usize::from)
        .min(BUILDERS_MAX)
}

/// Runs a piece of work on as many threads as build, and returns when all are through.
pub(super) fn by_all(work: &(dyn Fn() + Sync)) {
    thread::scope(|scope| {
        for _ in 1..builders() {
            scope.spawn(work);
        }
        work();
    });
}

fn load_sections<V: SnapshotVisitor>(
    file: &dyn DiskFile,
    level_max: u32,
    visitor: &mut V,
) -> Result<SnapshotMeta, Located> {
    let mut sections = Sections::open(file, level_max).map_err(|fault| (fault, 0))?;
    let first = sections.next()?;
    if first.head.kind != Kind::Meta {
        return Err((Fault::Malformed("a section out of its turn"), first.offset));
    }
    let meta = format::decode_meta(first.checked()?, sections.level)
        .and_then(|meta| visitor.meta(&meta).map(|()| meta))
        .map_err(|fault| (fault, first.offset))?;
    let mut found = Trailer::default();
    let mut section = sections.next()?;
    while section.head.kind == Kind::Sessions {
        found.sessions +=
            format::decode_sessions(section.checked()?, |session| visitor.session(session))
                .map_err(|fault| (fault, section.offset))?;
        section = sections.next()?;
    }
    let trailer = if section.head.kind == Kind::Nodes {
        load_nodes(&mut sections, section, &*visitor, &mut found)?
    } else {
        section
    };
    if trailer.head.kind != Kind::Trailer {
        return Err((
            Fault::Malformed("a section out of its turn"),
            trailer.offset,
        ));
    }
    found.sections = trailer.head.number;
    Trailer::decode(trailer.checked()?)
        .and_then(|announced| announced.check(&found))
        .and_then(|()| sections.at_end())
        .map_err(|fault| (fault, trailer.offset))?;
    Ok(meta)
}

/// Reads the sections of znodes, starting with one in hand; returns the one behind the last.
fn load_nodes<V: SnapshotVisitor>(
    sections: &mut Sections<'_>,
    first: Section,
    visitor: &V,
    found: &mut Trailer,
) -> Result<Section, Located> {
    let (sender, receiver) = sync_channel::<Section>(READ_AHEAD);
    let work = Work {
        waiting: Mutex::new(Some(receiver)),
        nodes: AtomicU64::new(0),
        fault: Mutex::new(None),
    };
    let behind = thread::scope(|scope| {
        for _ in 0..builders() {
            scope.spawn(|| work.build(visitor));
        }
        read_nodes(sections, first, sender)
    });
    // What the builders found is earlier in the file than what stopped the reading.
    if let Some(located) = work.fault.into_inner() {
        return Err(located);
    }
    found.nodes = work.nodes.into_inner();
    behind
}

fn read_nodes(
    sections: &mut Sections<'_>,
    first: Section,
    sender: SyncSender<Section>,
) -> Result<Section, Located> {
    let mut section = first;
    while section.head.kind == Kind::Nodes {
        let offset = section.offset;
        if sender.send(section).is_err() {
            // The builders stopped, and have said why.
            return Err((Fault::Truncated, offset));
        }
        section = sections.next()?;
    }
    Ok(section)
}

/// What the builders share.
struct Work {
    /// Taken away when one of them has found a fault: the reader's next send fails then.
    waiting: Mutex<Option<Receiver<Section>>>,
    nodes: AtomicU64,
    fault: Mutex<Option<Located>>,
}

impl Work {
    fn build<V: SnapshotVisitor>(&self, visitor: &V) {
        loop {
            // Held while waiting: the others have nothing to do then either.
            let section = self
                .waiting
                .lock()
                .as_ref()
                .and_then(|waiting| waiting.recv().ok());
            let Some(section) = section else { return };
            let built = section.checked().and_then(|body| {
                format::decode_nodes(body, visitor).map_err(|fault| (fault, section.offset))
            });
            match built {
                Ok(nodes) => {
                    self.nodes.fetch_add(nodes, Ordering::Relaxed);
                }
                Err(located) => {
                    let mut fault = self.fault.lock();
                    if fault.as_ref().is_none_or(|(_, offset)| located.1 < *offset) {
                        *fault = Some(located);
                    }
                    drop(fault);
                    *self.waiting.lock() = None;
                    return;
                }
            }
        }
    }
}

/// A section as it was read; its body is not checked yet.
struct Section {
    head: Head,
    offset: u64,
    body: Vec<u8>,
}

impl Section {
    fn checked(&self) -> Result<&[u8], Located> {
        self.head
            .check(&self.body)
            .map_err(|fault| (fault, self.offset))?;
        Ok(&self.body)
    }
}

/// The sections of a file, in order.
struct Sections<'a> {
    file: &'a dyn DiskFile,
    len: u64,
    offset: u64,
    next: u32,
    level: u32,
}

impl<'a> Sections<'a> {
    fn open(file: &'a dyn DiskFile, level_max: u32) -> Result<Sections<'a>, Fault> {
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
        Ok(Sections {
            file,
            len,
            offset: HEADER_BYTES as u64,
            next: 0,
            level,
        })
    }

    fn next(&mut self) -> Result<Section, Located> {
        self.read().map_err(|fault| (fault, self.offset))
    }

    fn read(&mut self) -> Result<Section, Fault> {
        let mut head = [0; HEAD_BYTES];
        read_exact(self.file, &mut head, self.offset)?;
        let head = Head::decode(&head)?;
        if head.number != self.next {
            return Err(Fault::Malformed("a section out of its turn"));
        }
        let start = self.offset + HEAD_BYTES as u64;
        let end = start + u64::from(head.len);
        // Before memory is taken for it.
        if end > self.len {
            return Err(Fault::Truncated);
        }
        let mut body = vec![0; head.len as usize];
        read_exact(self.file, &mut body, start)?;
        let offset = std::mem::replace(&mut self.offset, end);
        self.next = self.next.wrapping_add(1);
        Ok(Section { head, offset, body })
    }

    fn at_end(&self) -> Result<(), Fault> {
        if self.offset == self.len {
            Ok(())
        } else {
            Err(Fault::Malformed("bytes behind the end of the snapshot"))
        }
    }
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
