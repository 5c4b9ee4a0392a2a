//! Our log, as openraft asks for it.
//!
//! Every write goes into the one stream of the log, in the order in which it is asked for;
//! openraft's safety rests on that order. Nothing here waits for the disk but votes and
//! truncations, which must be durable before they are spoken of.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use futures::Stream;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};

use super::entry::{self, invalid};
use super::types::{Entry, LogId, Types, Vote, log_id};
use crate::log::{Log, LogError};

/// Bytes of entries that are read at once when many are asked for.
const READ_CHUNK: usize = 1024 * 1024;

/// A handle of the log.
#[derive(Clone)]
pub(super) struct LogStore {
    log: Arc<Log>,
    /// No vote is older than this one.
    oldest_vote: Option<Vote>,
}

impl LogStore {
    /// The log of `node_id`, whose snapshot ends in term `applied_term`.
    ///
    /// A log whose end was lost (`forceSync=no` and a power failure) may have lost votes that the
    /// snapshot proves: such a term must not be led twice, or zxids would be given out twice.
    pub(super) fn new(log: Arc<Log>, node_id: u64, applied_term: Option<u64>) -> LogStore {
        LogStore {
            log,
            oldest_vote: applied_term.map(|term| Vote::new(term, node_id)),
        }
    }

    fn last(&self) -> Option<LogId> {
        let state = self.log.state();
        state
            .last
            .or(state.purged)
            .map(|(term, index)| log_id(term, index))
    }

    fn read(&self, from: u64, to: u64, bytes: usize) -> io::Result<Vec<Entry>> {
        self.log
            .read(from, to, bytes)
            .map_err(failed)?
            .into_iter()
            .map(entry::from_log)
            .collect()
    }

    fn bounds(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let from = match range.start_bound() {
            Bound::Included(&from) => from,
            Bound::Excluded(&before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(&last) => last.saturating_add(1),
            Bound::Excluded(&to) => to,
            Bound::Unbounded => u64::MAX,
        };
        let first = self.log.state().purged.map_or(0, |(_, index)| index + 1);
        let end = self.last().map_or(0, |last| last.index + 1);
        (from.max(first), to.min(end))
    }
}

fn failed(error: LogError) -> io::Error {
    io::Error::other(error)
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<Entry>, io::Error>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (mut from, to) = self.bounds(&range);
        let mut entries = Vec::new();
        while from < to {
            let read = self.read(from, to, usize::MAX)?;
            let Some(last) = read.last() else { break };
            from = last.log_id.index + 1;
            entries.extend(read);
        }
        Ok(entries)
    }

    /// The apply loop reads through this: piece by piece, so that a long replay needs no more
    /// memory than a short one.
    async fn entries_stream<R>(
        &mut self,
        range: R,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (from, to) = self.bounds(&range);
        let chunk = Vec::new().into_iter();
        futures::stream::unfold(
            (self.clone(), chunk, from, to),
            |(store, mut chunk, mut from, to)| async move {
                if chunk.len() == 0 && from < to {
                    match store.read(from, to, READ_CHUNK) {
                        Ok(read) => {
                            from = read.last().map_or(to, |last| last.log_id.index + 1);
                            chunk = read.into_iter();
                        }
                        Err(error) => return Some((Err(error), (store, chunk, to, to))),
                    }
                }
                let entry = chunk.next()?;
                Some((Ok(entry), (store, chunk, from, to)))
            },
        )
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read(start, end, READ_CHUNK)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        let vote = match self.log.state().vote {
            Some(bytes) => Some(entry::decode_vote(&bytes).map_err(invalid)?),
            None => None,
        };
        let term = |vote: &Option<Vote>| vote.map(|vote| vote.leader_id.term);
        Ok(if term(&vote) < term(&self.oldest_vote) {
            self.oldest_vote
        } else {
            vote
        })
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let purged = self.log.state().purged;
        Ok(LogState {
            last_purged_log_id: purged.map(|(term, index)| log_id(term, index)),
            last_log_id: self.last(),
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let (done, saved) = tokio::sync::oneshot::channel();
        self.log.save_vote(
            entry::encode_vote(vote),
            Box::new(move |result| {
                let _ = done.send(result);
            }),
        );
        durable(saved).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        if let Some(committed) = committed {
            self.log.save_committed(entry::encode_log_id(&committed));
        }
        Ok(())
    }

    /// The hint may be ahead of the log when a crash took the log's end: it is cut to what is
    /// there (R28).
    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        let committed = match self.log.state().committed {
            Some(bytes) => Some(entry::decode_log_id(&bytes).map_err(invalid)?),
            None => None,
        };
        Ok(committed.min(self.last()))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries.into_iter().map(entry::to_log).collect();
        self.log.append(
            entries,
            Box::new(move |result| callback.io_completed(result.map_err(failed))),
        );
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let (done, truncated) = tokio::sync::oneshot::channel();
        self.log.truncate_after(
            last.map(|last| last.index),
            Box::new(move |result| {
                let _ = done.send(result);
            }),
        );
        durable(truncated).await
    }

    /// Does not wait: should the marker be lost in a crash, the same entries are purged again.
    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.log
            .purge_to(upto.leader_id.term, upto.index, Box::new(|_| {}));
        Ok(())
    }
}

async fn durable(
    done: tokio::sync::oneshot::Receiver<Result<(), LogError>>,
) -> Result<(), io::Error> {
    match done.await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(io::Error::other("the log has been closed")),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use bytes::Bytes;

    use super::*;
    use crate::clock::ManualClock;
    use crate::disk::sim::SimDisk;
    use crate::log::{LogEntry, LogOptions};
    use crate::metrics::Metrics;

    /// openraft would wait for the entries that the hint promises, for ever.
    #[tokio::test]
    async fn a_hint_beyond_the_log_is_cut_to_its_end() {
        let log = Log::open(
            Arc::new(SimDisk::new()),
            Path::new("/log"),
            LogOptions::new([7; 16]),
            Arc::new(Metrics::default()),
            Arc::new(ManualClock::default()),
        );
        let log = Arc::new(log.unwrap());
        let mut store = LogStore::new(log.clone(), 1, None);
        assert_eq!(store.read_committed().await.unwrap(), None);
        let (done, synced) = tokio::sync::oneshot::channel();
        let entry = |index| LogEntry {
            index,
            term: 1,
            body: Bytes::from_static(b"x"),
        };
        store.save_committed(Some(log_id(1, 5))).await.unwrap();
        log.append(
            vec![entry(0), entry(1)],
            Box::new(move |result| drop(done.send(result))),
        );
        durable(synced).await.unwrap();
        assert_eq!(store.read_committed().await.unwrap(), Some(log_id(1, 1)));
    }
}
