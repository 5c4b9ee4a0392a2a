//! What a committed entry does to the state, without the engine that committed it.
//!
//! For each request: judge and change, tell [`Deliver`] each change while its shards are locked,
//! then the outcome. What is in the log is the truth: a request that cannot be decoded, or a
//! digest that differs from the recorded one, is a fault that must stop the server. A wrong
//! replica is worse than a missing one.
//!
//! Synchronous, and without a clock: the same entries make the same state on every server.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use quorate_proto::{Acl, EventType, Zxid};

use super::Deliver;
use super::entry::{EntryError, Header};
use super::machine::Progress;
use crate::metrics::Metrics;
use crate::tree::txn::{Proposal, Txn, Verdict};
use crate::tree::{ChangeSink, State};

/// Digests of this many entries are remembered, to compare with what later entries carry.
const DIGESTS_KEPT: usize = 4096;

/// See the module.
pub(super) struct Applier {
    state: Arc<State>,
    /// In a mutex for `Sync` only: it is never locked.
    deliver: Mutex<Box<dyn Deliver>>,
    progress: Arc<Progress>,
    metrics: Arc<Metrics>,
    /// That of the newest entry.
    term: u64,
    digests: VecDeque<(u64, u64)>,
}

impl Applier {
    /// Goes on from `state`, whose newest entry is of `term`.
    pub(super) fn new(
        state: Arc<State>,
        term: u64,
        deliver: Box<dyn Deliver>,
        progress: Arc<Progress>,
        metrics: Arc<Metrics>,
    ) -> Applier {
        Applier {
            state,
            deliver: Mutex::new(deliver),
            progress,
            metrics,
            term,
            digests: VecDeque::new(),
        }
    }

    pub(super) fn state(&self) -> &Arc<State> {
        &self.state
    }

    pub(super) fn deliver(&mut self) -> &mut dyn Deliver {
        self.deliver.get_mut().as_mut()
    }

    /// Applies the entry at `index`, with requests or without; how many they were.
    pub(super) fn apply(
        &mut self,
        index: u64,
        term: u64,
        requests: Option<&[u8]>,
    ) -> Result<u32, EntryError> {
        // The first entry of a new leader begins an epoch, on every server at the same place of
        // the log. Term 0 is the founding entry's: nobody leads it.
        if term > self.term {
            self.state.begin_epoch(term);
        }
        let count = match requests {
            Some(body) => self.apply_requests(index, term, body)?,
            None => 0,
        };
        self.term = term;
        self.remember_digest(index);
        Ok(count)
    }

    /// The state was replaced by what it is behind the entry at `index`.
    pub(super) fn replaced(&mut self, index: u64, term: u64) {
        self.term = term;
        self.digests.clear();
        self.remember_digest(index);
    }

    fn apply_requests(&mut self, index: u64, term: u64, body: &[u8]) -> Result<u32, EntryError> {
        let (header, mut rest) = Header::split(index, body)?;
        self.compare_digest(&header)?;
        let deliver = self.deliver.get_mut().as_mut();
        for position in 0..header.count {
            let proposal = Proposal::decode(&mut rest).map_err(|source| EntryError::Request {
                index,
                position,
                source,
            })?;
            let verdict = if is_outdated(term, &proposal) {
                Verdict::Void
            } else {
                let sink = &mut Sink(deliver);
                self.state.apply(header.wall_ms, &proposal, sink)
            };
            deliver.outcome(&proposal, &verdict);
        }
        if !rest.is_empty() {
            return Err(EntryError::BadLength { index });
        }
        deliver.turn_done();
        self.metrics.commits.add(u64::from(header.count));
        Ok(header.count)
    }

    fn compare_digest(&self, header: &Header) -> Result<(), EntryError> {
        let Some((index, theirs)) = header.applied else {
            return Ok(());
        };
        let Ok(at) = self.digests.binary_search_by_key(&index, |known| known.0) else {
            return Ok(());
        };
        match self.digests.get(at) {
            Some(&(_, ours)) if ours != theirs => {
                self.metrics.digest_mismatches.inc();
                Err(EntryError::Diverged {
                    index,
                    ours,
                    theirs,
                })
            }
            _ => Ok(()),
        }
    }

    fn remember_digest(&mut self, index: u64) {
        let digest = self.state.tree().digest();
        if self.digests.len() == DIGESTS_KEPT {
            self.digests.pop_front();
        }
        self.digests.push_back((index, digest));
        self.progress.reached(index, digest);
    }
}

/// Whether a leader of another term judged this session (R18).
fn is_outdated(term: u64, proposal: &Proposal<'_>) -> bool {
    match &proposal.txn {
        Txn::ExpireSession { judged, .. } => judged.is_outdated_in(term),
        _ => false,
    }
}

/// Hands the changes of one request on.
struct Sink<'a>(&'a mut dyn Deliver);

impl ChangeSink for Sink<'_> {
    fn change(&mut self, zxid: Zxid, event: EventType, path: &str, acl: &[Acl]) {
        self.0.change(zxid, event, path, acl);
    }
}
