//! The apply loop: committed entries, in log order, one task, as openraft drives it.
//!
//! What an entry does to the state is `apply`'s; here are the snapshots that take the place of
//! entries, and what the rest of this module is told. A fault in an entry stops the server.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Deliver;
use super::apply::Applier;
use super::entry::{EntryError, invalid};
use super::queue::{ProposeQueue, Unavailable};
use super::snapshots::{Builder, Meta, SnapshotFile, Snapshots};
use super::types::{Body, Entry, LogId, StoredMembership, Types};
use crate::metrics::Metrics;
use crate::tree::State;

/// Requests after which other tasks of the runtime get a turn.
const TURN: u32 = 500;

/// What the apply loop tells the rest of this module.
#[derive(Default)]
pub(super) struct Progress {
    digest: Mutex<Option<(u64, u64)>>,
    /// One above the newest index that is applied.
    applied: AtomicU64,
    /// Who waits for an index, so that nobody is woken for nothing.
    waiting: AtomicUsize,
    applied_wake: Notify,
    fault: OnceLock<Arc<str>>,
    due: AtomicBool,
    due_wake: Notify,
}

impl Progress {
    /// The newest entry that was applied here, and the digest of the state then.
    pub(super) fn digest(&self) -> Option<(u64, u64)> {
        *self.digest.lock()
    }

    /// This entry was applied, and the state has this digest behind it.
    pub(super) fn reached(&self, index: u64, digest: u64) {
        *self.digest.lock() = Some((index, digest));
        self.advance(index);
    }

    /// Everything up to this index is applied, and can be read.
    pub(super) fn advance(&self, index: u64) {
        // Both sides write, then read what the other wrote: one of them sees it.
        self.applied
            .store(index.saturating_add(1), Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.applied_wake.notify_waiters();
        }
    }

    /// Whether everything up to this index is applied.
    pub(super) fn has_applied(&self, index: u64) -> bool {
        self.applied.load(Ordering::SeqCst) > index
    }

    /// Returns when everything up to this index is applied; never, if applying has stopped.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(super) async fn until_applied(&self, index: u64) {
        if self.has_applied(index) {
            return;
        }
        let _waiting = Waiting::begin(&self.waiting);
        loop {
            let woken = self.applied_wake.notified();
            tokio::pin!(woken);
            woken.as_mut().enable();
            if self.has_applied(index) {
                return;
            }
            woken.await;
        }
    }

    /// Why applying stopped for good, if it did.
    pub(super) fn fault(&self) -> Option<Arc<str>> {
        self.fault.get().cloned()
    }

    /// Whether enough was applied since the last capture to ask for a snapshot.
    pub(super) fn snapshot_due(&self) -> bool {
        self.due.load(Ordering::Acquire)
    }

    /// Returns when a snapshot becomes due.
    pub(super) async fn until_snapshot_due(&self) {
        self.due_wake.notified().await;
    }
}

/// Counts one more who waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Waiting<'_> {
    fn begin(waiting: &AtomicUsize) -> Waiting<'_> {
        waiting.fetch_add(1, Ordering::SeqCst);
        Waiting(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// When the next snapshot is due. Drawn anew each time, so that the servers of an ensemble do
/// not all write theirs at the same moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct SnapshotPace {
    /// `snapCount`.
    pub(super) requests: u64,
    /// `snapSizeLimitInKb`, in bytes; 0 = off.
    pub(super) bytes: u64,
}

/// Counts towards the next snapshot.
struct Due {
    pace: SnapshotPace,
    requests: u64,
    bytes: u64,
    at_requests: u64,
    at_bytes: u64,
}

impl Due {
    fn new(pace: SnapshotPace) -> Due {
        let mut due = Due {
            pace,
            requests: 0,
            bytes: 0,
            at_requests: 0,
            at_bytes: 0,
        };
        due.restart();
        due
    }

    /// Draws thresholds in (n/2, n].
    fn restart(&mut self) {
        let draw = |n: u64| n - rand::random_range(0..n.div_ceil(2).max(1));
        self.requests = 0;
        self.bytes = 0;
        self.at_requests = draw(self.pace.requests.max(1));
        self.at_bytes = match self.pace.bytes {
            0 => u64::MAX,
            bytes => draw(bytes),
        };
    }

    fn add(&mut self, requests: u32, bytes: usize) -> bool {
        self.requests += u64::from(requests);
        self.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
        self.requests >= self.at_requests || self.bytes >= self.at_bytes
    }
}

/// The replicated state machine, as openraft drives it.
pub(super) struct Machine {
    applier: Applier,
    queue: Arc<ProposeQueue>,
    snapshots: Arc<Snapshots>,
    progress: Arc<Progress>,
    applied: Option<LogId>,
    membership: StoredMembership,
    due: Due,
}

/// Where a machine starts.
pub(super) struct Restored {
    pub(super) state: Arc<State>,
    pub(super) applied: Option<LogId>,
    pub(super) membership: StoredMembership,
}

impl Machine {
    pub(super) fn new(
        restored: Restored,
        deliver: Box<dyn Deliver>,
        queue: Arc<ProposeQueue>,
        snapshots: Arc<Snapshots>,
        pace: SnapshotPace,
        progress: Arc<Progress>,
        metrics: Arc<Metrics>,
    ) -> Machine {
        snapshots.serve(&restored.state);
        if let Some(applied) = restored.applied {
            progress.advance(applied.index);
        }
        let term = restored.applied.map_or(0, |applied| applied.leader_id.term);
        Machine {
            applier: Applier::new(restored.state, term, deliver, progress.clone(), metrics),
            queue,
            snapshots,
            progress,
            applied: restored.applied,
            membership: restored.membership,
            due: Due::new(pace),
        }
    }

    /// Applies one entry; the number of its requests.
    fn apply_entry(&mut self, entry: &Entry) -> Result<u32, EntryError> {
        let id = entry.log_id;
        let (requests, bytes) = match &entry.payload {
            EntryPayload::Normal(Body(body)) => (Some(&**body), body.len()),
            EntryPayload::Blank => (None, 0),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(id), membership.clone());
                (None, 0)
            }
        };
        let count = self.applier.apply(id.index, id.leader_id.term, requests)?;
        self.applied = Some(id);
        if self.due.add(count, bytes) && !self.progress.due.swap(true, Ordering::AcqRel) {
            self.progress.due_wake.notify_one();
        }
        Ok(count)
    }

    fn restart_due(&mut self) {
        self.due.restart();
        self.progress.due.store(false, Ordering::Release);
    }

    fn fault(&self, error: EntryError) -> io::Error {
        tracing::error!(%error, "applying stops here");
        // The first fault is the cause; later ones follow from it.
        let _ = self.progress.fault.set(error.to_string().into());
        invalid(error)
    }
}

/// No outcome comes after this: whoever still waits for one never gets it. The queue refuses first,
/// or a request could still be taken behind the word that those before it are lost, and its
/// connection would wait for ever.
impl Drop for Machine {
    fn drop(&mut self) {
        self.queue.fail(Unavailable::Stopping);
        self.applier.deliver().lost();
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut turn = 0;
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            turn += self
                .apply_entry(&entry)
                .map_err(|error| self.fault(error))?;
            if let Some(responder) = responder {
                responder.send(());
            }
            if turn >= TURN {
                turn = 0;
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Runs between applies: the capture is of one log id.
    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<Builder> {
        self.restart_due();
        Some(self.snapshots.builder(
            self.applier.state().capture(),
            self.applied,
            &self.membership,
        ))
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.snapshots.builder(
            self.applier.state().capture(),
            self.applied,
            &self.membership,
        )
    }

    /// Puts what a leader sent in place of the state that is served (R20).
    ///
    /// The connections go first: their watches miss the events in between, and a reply from the
    /// new state would tell a client of changes that it was to hear of before. None comes back
    /// meanwhile, because every handshake waits for an entry behind the snapshot.
    async fn install_snapshot(&mut self, meta: &Meta, file: SnapshotFile) -> Result<(), io::Error> {
        let index = meta.last_log_id.map_or(0, |last| last.index);
        let (snapshots, of) = (self.snapshots.clone(), file.clone());
        let state = tokio::task::spawn_blocking(move || snapshots.state_of(&of))
            .await
            .map_err(io::Error::other)?
            .map_err(|source| self.fault(EntryError::Snapshot { index, source }))?;
        self.applier.deliver().skipped();
        let serving = self.applier.state().clone();
        tokio::task::spawn_blocking(move || drop(serving.replace(state)))
            .await
            .map_err(io::Error::other)?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        let term = meta.last_log_id.map_or(0, |last| last.leader_id.term);
        self.applier.replaced(index, term);
        self.restart_due();
        self.snapshots.installed(meta.clone(), &file);
        self.applier.deliver().resumed();
        tracing::info!(
            index,
            zxid = %self.applier.state().applied_zxid(),
            znodes = self.applier.state().tree().node_count(),
            "a snapshot took the place of the state; all client connections were closed"
        );
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<openraft::alias::SmSnapshotOf<Types, Self>>, io::Error> {
        Ok(self.snapshots.current())
    }
}
