//! The snapshots of this server: written beside the running server, kept, loaded, purged.
//!
//! A capture takes a moment between two applies; the file is written by a thread of its own.
//! A snapshot that cannot be written is no loss, the log still has everything: it is reported,
//! and tried again when the next one is due.
//!
//! The log is kept from the oldest snapshot on that a recovery might fall back to.

mod transfer;

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use openraft::RaftSnapshotBuilder;
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use parking_lot::Mutex;
use tokio::sync::watch;

use self::transfer::{Arrived, Arriving};
use super::entry;
use super::machine::Restored;
use super::start::{StartError, Surroundings, io_at};
use super::types::{LogId, StoredMembership, Types, log_id};
use crate::config::Config;
use crate::snapshot::{
    CapturedAt, Fault, FileFault, LogReach, SnapshotMeta, SnapshotName, SnapshotStore,
};
use crate::tree::{Capture, State};

#[cfg(test)]
pub(super) use self::transfer::ReceiveError;

/// Which rules of apply this version knows, at most (R25).
pub(super) const LEVEL_MAX: u32 = 0;

pub(super) type Meta = SnapshotMetaOf<Types>;
type Snapshot = SnapshotOf<Types, SnapshotFile>;

/// A snapshot file, as openraft hands it around.
#[derive(Clone, Debug)]
pub(super) struct SnapshotFile {
    /// `None` stands for no file at all.
    name: Option<SnapshotName>,
    arrived: Arrived,
}

impl SnapshotFile {
    fn named(name: Option<SnapshotName>) -> SnapshotFile {
        SnapshotFile {
            name,
            arrived: Arrived::default(),
        }
    }
}

/// One attempt to write a snapshot.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempt {
    /// The last entry in the newest snapshot on disk.
    pub(super) newest: Option<LogId>,
    /// How many attempts failed.
    pub(super) failures: u64,
    /// Why the last attempt failed, if it did.
    pub(super) error: Option<Arc<str>>,
    /// How long it took.
    pub(super) took: Duration,
}

/// A snapshot that this process loaded or wrote, hence a whole one.
#[derive(Clone)]
struct Known {
    meta: Meta,
    file: SnapshotFile,
}

/// See the module.
pub(super) struct Snapshots {
    around: Surroundings,
    store: Arc<SnapshotStore>,
    cluster_id: [u8; 16],
    check_digest: bool,
    retain: usize,
    /// What is served, from when the machine has it.
    state: OnceLock<Arc<State>>,
    arriving: Arriving,
    /// Oldest first.
    known: Mutex<Vec<Known>>,
    attempts: watch::Sender<Attempt>,
}

impl Snapshots {
    /// Finds the snapshots in `dir` and loads the newest that can be used with this log.
    pub(super) fn open(
        config: &Config,
        around: &Surroundings,
        dir: &Path,
        cluster_id: [u8; 16],
        log: Option<LogReach>,
    ) -> Result<(Arc<Snapshots>, Option<Restored>), StartError> {
        let store = SnapshotStore::open(around.disk.clone(), dir, LEVEL_MAX).map_err(io_at(dir))?;
        let check_digest = config.digest_enabled;
        let loaded = store.load_newest(log, |store, name| {
            let loaded = store.load_state(name, check_digest)?;
            let meta = engine_meta(&loaded.meta).map_err(|fault| fault.at(&store.path(name), 0))?;
            Ok::<_, FileFault>((loaded.state, meta, name))
        })?;
        let mut known = Vec::new();
        let mut restored = None;
        if let Some((state, meta, name)) = loaded {
            restored = Some(Restored {
                state: Arc::new(state),
                applied: meta.last_log_id,
                membership: meta.last_membership.clone(),
            });
            known.push(Known {
                meta,
                file: SnapshotFile::named(Some(name)),
            });
        }
        let newest = restored.as_ref().and_then(|restored| restored.applied);
        let snapshots = Snapshots {
            around: around.clone(),
            store: Arc::new(store),
            cluster_id,
            check_digest,
            state: OnceLock::new(),
            arriving: Arriving::default(),
            retain: config.snap_retain_count.max(1),
            known: Mutex::new(known),
            attempts: watch::Sender::new(Attempt {
                newest,
                ..Attempt::default()
            }),
        };
        Ok((Arc::new(snapshots), restored))
    }

    /// Hears which state is served: what arrives must be able to take its place.
    pub(super) fn serve(&self, state: &Arc<State>) {
        // Set once: a state is replaced in place.
        let _ = self.state.set(state.clone());
    }

    /// Writes the state that a new server begins with.
    pub(super) fn found(
        around: &Surroundings,
        dir: &Path,
        cluster_id: [u8; 16],
        state: &State,
    ) -> io::Result<()> {
        let store = SnapshotStore::open(around.disk.clone(), dir, LEVEL_MAX)?;
        let at = captured_at(cluster_id, &Meta::default());
        store.write(state.capture(), at).map(|_| ())
    }

    /// Hears of every attempt to write one.
    pub(super) fn attempts(&self) -> watch::Receiver<Attempt> {
        self.attempts.subscribe()
    }

    /// The newest, if it covers any of the log. The one that an import began with does not.
    pub(super) fn current(&self) -> Option<Snapshot> {
        let known = self.known.lock();
        let newest = known.last()?;
        newest.meta.last_log_id?;
        Some(Snapshot {
            meta: newest.meta.clone(),
            snapshot: newest.file.clone(),
        })
    }

    /// The last entry of the log that no recovery needs: the oldest snapshot that is sure to be
    /// kept begins behind it. `None` while there is only one to fall back on: the log's
    /// beginning is the other.
    pub(super) fn log_needed_after(&self) -> Option<u64> {
        let known = self.known.lock();
        if known.len() < 2 {
            return None;
        }
        let oldest = known.get(known.len().saturating_sub(self.retain))?;
        oldest.meta.last_log_id.map(|last| last.index)
    }

    /// Removes all but the newest valid snapshots.
    pub(super) fn purge_files(&self) -> io::Result<()> {
        let kept = self.store.purge(self.retain)?;
        self.known
            .lock()
            .retain(|known| known.file.name.is_some_and(|name| kept.contains(&name)));
        Ok(())
    }

    /// What openraft's snapshot task works on.
    pub(super) fn builder(
        self: &Arc<Self>,
        capture: Capture,
        applied: Option<LogId>,
        membership: &StoredMembership,
    ) -> Builder {
        Builder {
            snapshots: self.clone(),
            work: Some(capture),
            meta: Meta {
                last_log_id: applied,
                last_membership: membership.clone(),
            },
        }
    }

    /// Writes one, takes note of it, and tells those who wait. The newest there is, after that.
    fn write(&self, capture: Capture, meta: &Meta) -> Option<Snapshot> {
        let began = self.around.clock.monotonic();
        let at = captured_at(self.cluster_id, meta);
        let written = self.store.write(capture, at);
        let took = self.around.clock.monotonic().saturating_sub(began);
        let error = match written {
            Ok(name) => {
                let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
                self.around.metrics.snapshots.inc();
                self.around.metrics.snapshot_ms.record(took_ms);
                tracing::info!(snapshot = %name, elapsed_ms = took_ms, "snapshot written");
                self.know(Known {
                    meta: meta.clone(),
                    file: SnapshotFile::named(Some(name)),
                });
                None
            }
            Err(error) => {
                tracing::error!(%error, "the snapshot cannot be written; the log is kept");
                Some(Arc::from(error.to_string()))
            }
        };
        self.attempted(error, took);
        self.current()
    }

    /// Keeps a snapshot in mind, in the order of the log: one that was begun before another one
    /// arrived is older than that.
    fn know(&self, new: Known) {
        let mut known = self.known.lock();
        known.retain(|other| other.file.name != new.file.name);
        let at = known.partition_point(|other| other.meta.last_log_id <= new.meta.last_log_id);
        known.insert(at, new);
    }

    /// Tells those who wait that an attempt is over.
    fn attempted(&self, error: Option<Arc<str>>, took: Duration) {
        let newest = self.current().and_then(|newest| newest.meta.last_log_id);
        self.attempts.send_modify(|attempt| {
            attempt.newest = newest;
            attempt.failures += u64::from(error.is_some());
            attempt.error = error;
            attempt.took = took;
        });
    }
}

/// Writes one snapshot.
pub(super) struct Builder {
    snapshots: Arc<Snapshots>,
    work: Option<Capture>,
    meta: Meta,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = SnapshotFile;

    /// Never an error: to openraft that would be the end of the server. It hears of the newest
    /// snapshot that there is, which may be the one that it knows.
    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let none = Snapshot {
            meta: Meta::default(),
            snapshot: SnapshotFile::named(None),
        };
        let Some(capture) = self.work.take() else {
            return Ok(self.snapshots.current().unwrap_or(none));
        };
        let (done, written) = tokio::sync::oneshot::channel();
        let (snapshots, meta) = (self.snapshots.clone(), self.meta.clone());
        // Its own thread: it computes and writes for long, and no runtime should wait for it.
        let spawned = std::thread::Builder::new()
            .name("quorate-snapshot".to_owned())
            .spawn(move || {
                let _ = done.send(snapshots.write(capture, &meta));
            });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread for a snapshot");
            let error = Arc::from(error.to_string());
            self.snapshots.attempted(Some(error), Duration::ZERO);
            return Ok(self.snapshots.current().unwrap_or(none));
        }
        Ok(written.await.ok().flatten().unwrap_or(none))
    }
}

/// What openraft knows of a snapshot, in the words of the file.
fn captured_at(cluster_id: [u8; 16], meta: &Meta) -> CapturedAt {
    CapturedAt {
        cluster_id,
        last_log: meta.last_log_id.map(|id| (id.leader_id.term, id.index)),
        membership: entry::encode_stored_membership(&meta.last_membership),
    }
}

/// And back.
fn engine_meta(file: &SnapshotMeta) -> Result<Meta, Fault> {
    let last_membership = entry::decode_stored_membership(&file.membership)
        .map_err(|_| Fault::Malformed("a membership that cannot be"))?;
    Ok(Meta {
        last_log_id: file.last_log.map(|(term, index)| log_id(term, index)),
        last_membership,
    })
}
