//! Snapshots on their way between servers: an open file to send, a sink to receive.
//!
//! Both wait for the disk at every call: use them on a thread that may block.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::{Known, Meta, SnapshotFile, Snapshots, engine_meta};
use crate::disk::DiskFile;
use crate::snapshot::{Fault, FileFault, SnapshotMeta, SnapshotReceiver};
use crate::tree::{State, StateBuilder};

/// Snapshots that arrive at the same time: that of the leader, and one that its predecessor has
/// not given up yet.
const ARRIVING_MAX: usize = 2;

/// A snapshot from another server cannot be taken. Nothing here has changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// Others are arriving.
    #[error("{ARRIVING_MAX} other snapshots are arriving")]
    Busy,
    /// What is announced would bring nothing.
    #[error("the announced snapshot covers no entry of the log")]
    Empty,
    /// It is damaged, of another ensemble, or of a newer version; or the disk failed.
    #[error("the snapshot is refused")]
    Refused(#[from] FileFault),
}

/// A state that came with a file, until it is installed. Copies of the file share it.
#[derive(Clone, Default)]
pub(super) struct Arrived(Option<Arc<Mutex<Option<State>>>>);

impl Arrived {
    fn with(state: State) -> Arrived {
        Arrived(Some(Arc::new(Mutex::new(Some(state)))))
    }

    pub(super) fn take(&self) -> Option<State> {
        self.0.as_ref()?.lock().take()
    }
}

/// Never the content: it is the users' data.
impl fmt::Debug for Arrived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "arrived" } else { "here" })
    }
}

/// How many are arriving.
pub(super) type Arriving = Arc<AtomicUsize>;

/// One of the [`ARRIVING_MAX`].
struct Turn(Arriving);

impl Turn {
    fn take(arriving: &Arriving) -> Option<Turn> {
        let more = |now| (now < ARRIVING_MAX).then_some(now + 1);
        arriving
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, more)
            .ok()?;
        Some(Turn(arriving.clone()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Takes a snapshot that another server sends. Dropped, it leaves nothing behind.
pub(in crate::replication) struct SnapshotSink {
    snapshots: Arc<Snapshots>,
    receiver: SnapshotReceiver,
    _turn: Turn,
}

impl SnapshotSink {
    /// Adds the next bytes of the file.
    ///
    /// # Errors
    /// If this cannot become the announced snapshot, or if the disk fails. Give it up then.
    pub(in crate::replication) fn write(&mut self, piece: &[u8]) -> Result<(), ReceiveError> {
        Ok(self.receiver.write(piece)?)
    }

    /// Checks the whole file, loads it, and puts it among the snapshots, durably. It is not
    /// installed: that is the engine's decision.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(in crate::replication) fn finish(self) -> Result<SnapshotFile, ReceiveError> {
        let builder = self.snapshots.builder_of_state();
        let check_digest = self.snapshots.check_digest;
        let (name, loaded) = self.receiver.finish(builder, check_digest)?;
        tracing::info!(snapshot = %name, "snapshot received");
        Ok(SnapshotFile {
            name: Some(name),
            arrived: Arrived::with(loaded.state),
        })
    }
}

/// A snapshot file that is being sent. It can be read to its end, purged meanwhile or not.
pub(in crate::replication) struct SnapshotReader {
    file: Box<dyn DiskFile>,
    offset: u64,
    len: u64,
}

impl SnapshotReader {
    /// Bytes of the whole file.
    pub(in crate::replication) fn len(&self) -> u64 {
        self.len
    }

    /// The next bytes, as many as fit; 0 behind the last.
    ///
    /// # Errors
    /// If the disk fails.
    pub(in crate::replication) fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buf, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

impl Snapshots {
    /// Starts to take in the snapshot that `meta` describes.
    ///
    /// # Errors
    /// If there is no room for it, or if the disk fails.
    pub(in crate::replication) fn receive(
        self: &Arc<Self>,
        meta: &Meta,
    ) -> Result<SnapshotSink, ReceiveError> {
        if meta.last_log_id.is_none() {
            return Err(ReceiveError::Empty);
        }
        let turn = Turn::take(&self.arriving).ok_or(ReceiveError::Busy)?;
        let (cluster_id, announced) = (self.cluster_id, meta.clone());
        let same = move |found: &SnapshotMeta| {
            let what = if found.cluster_id != cluster_id {
                "the ensemble"
            } else if engine_meta(found)? != announced {
                "the point of the log"
            } else {
                return Ok(());
            };
            Err(Fault::NotAnnounced { what })
        };
        Ok(SnapshotSink {
            receiver: self.store.receive(Box::new(same))?,
            snapshots: self.clone(),
            _turn: turn,
        })
    }

    /// Opens a snapshot to send it.
    ///
    /// # Errors
    /// If the disk fails, or if it has been purged: the engine then asks for a newer one.
    pub(in crate::replication) fn open_for_sending(
        &self,
        file: &SnapshotFile,
    ) -> io::Result<SnapshotReader> {
        let name = file.name.ok_or(io::ErrorKind::NotFound)?;
        let file = self.store.open_file(name)?;
        let len = file.len()?;
        Ok(SnapshotReader {
            file,
            offset: 0,
            len,
        })
    }

    /// The state in a snapshot file, fit to take the place of the one that is served. Blocks.
    pub(in crate::replication) fn state_of(&self, file: &SnapshotFile) -> Result<State, FileFault> {
        if let Some(state) = file.arrived.take() {
            return Ok(state);
        }
        let no_file = |path| Fault::Io(io::ErrorKind::NotFound.into()).at(path, 0);
        let name = file.name.ok_or_else(|| no_file("no snapshot".as_ref()))?;
        let builder = self.builder_of_state();
        let loaded = self.store.load_into(name, builder, self.check_digest)?;
        Ok(loaded.state)
    }

    /// Takes note of a snapshot that is installed: it is in force, and on disk.
    pub(in crate::replication) fn installed(&self, meta: Meta, file: &SnapshotFile) {
        self.know(Known {
            meta,
            file: SnapshotFile::named(file.name),
        });
        self.attempted(None, std::time::Duration::ZERO);
    }

    fn builder_of_state(&self) -> StateBuilder {
        match self.state.get() {
            Some(state) => state.successor(),
            // Before a state is served there is nothing to take the place of.
            None => State::builder([0; 32]),
        }
    }
}
