//! What is cleaned up behind callers that went away: one task per client.
//!
//! Job: deletes that must be done in the end, and the search for znodes whose creator never heard
//! their names. Not here: who owes what (`ops` decides), waiting for a connection (the session's
//! queue does).
//!
//! Invariants: a job ends when it is done, when there is nothing to do (no such znode), when the
//! session that it belongs to is over, or with the client. Nothing is spawned when a future is
//! dropped: the drop only queues a job and wakes the task. The queue holds [`JOBS_MAX`] jobs and
//! says so in the log when it must refuse one. What a session was asked that was given up here may
//! take effect for as long as a server keeps that session: until then nothing that was not found is
//! taken for never made. A close waits for all jobs, and for the answers
//! that could still bring one, but no longer than half of the close timeout.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::{Either, pending};
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use quorate_proto::request::{PathVersion, PathWatch};
use quorate_proto::{ErrorCode, OpCode, Reply, Request, Stat, Version};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::TaskTracker;

use crate::error::Reason;
use crate::find::{FindError, Protected, ask};
use crate::retry::{ExponentialBackoff, RetryPolicy as _};
use crate::session::{Failure, Orphan, Session, SessionState};

/// Jobs that may wait.
const JOBS_MAX: usize = 65_536;
/// Jobs that are worked on at once.
const RUNNING_MAX: usize = 64;
/// The first pause after a failure, and the longest.
const PAUSE_BASE: Duration = Duration::from_millis(20);
const PAUSE_CAP: Duration = Duration::from_secs(2);

/// Something that has to be done in the end.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    /// Delete this znode.
    Delete {
        /// The server's path.
        path: Arc<str>,
        version: Version,
        /// The transaction that created it, where that is known: a name can come again.
        czxid: Option<i64>,
        /// The session that it belongs to, if only that one may do it.
        generation: Option<u64>,
    },
    /// Find what was created under this protection, and delete it.
    Undo {
        protected: Protected,
        /// The session in which it was created, or may be yet.
        created_in: u64,
        /// As above: an ephemeral goes with its session anyway.
        generation: Option<u64>,
    },
}

#[derive(Debug, Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    running: usize,
    /// Answers on their way that bring a job if nobody waits for them.
    expected: usize,
    is_closing: bool,
    is_over: bool,
}

impl Jobs {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running == 0 && self.expected == 0
    }
}

#[derive(Debug)]
pub(crate) struct Janitor {
    session: Arc<Session>,
    jobs: Mutex<Jobs>,
    wake: Notify,
}

impl Janitor {
    /// Starts the janitor of a session.
    pub(crate) fn spawn(session: &Arc<Session>, tracker: &TaskTracker) -> Arc<Janitor> {
        let janitor = Arc::new(Janitor {
            session: Arc::clone(session),
            jobs: Mutex::new(Jobs::default()),
            wake: Notify::new(),
        });
        tracker.spawn(Arc::clone(&janitor).run());
        janitor
    }

    pub(crate) fn push(&self, job: Job) {
        let mut jobs = self.jobs.lock();
        if jobs.is_over {
            return;
        }
        if jobs.waiting.len() >= JOBS_MAX {
            tracing::warn!(?job, "too much to clean up: given up");
            return;
        }
        jobs.waiting.push_back(job);
        drop(jobs);
        self.wake.notify_one();
    }

    /// Closes the session when all is done, or after a bounded time.
    pub(crate) fn close(&self) {
        let mut jobs = self.jobs.lock();
        jobs.is_closing = true;
        let is_idle = jobs.is_idle() || jobs.is_over;
        drop(jobs);
        match is_idle {
            true => self.close_session(),
            false => self.wake.notify_one(),
        }
    }

    fn close_session(&self) {
        // Nobody is left to hear the answer. Giving it up would withdraw the request, so it is
        // forgotten instead.
        self.session.close();
    }

    async fn run(self: Arc<Janitor>) {
        let mut running = FuturesUnordered::new();
        let mut status = self.session.status();
        let goes_on = self.session.opens_new_sessions();
        let over = async move {
            let is_over = |state| match state {
                SessionState::Closed => true,
                SessionState::Lost => !goes_on,
                _ => false,
            };
            // An error is the end of the session, too.
            drop(status.wait_for(|status| is_over(status.state)).await);
        };
        tokio::pin!(over);
        let mut flush_by = None;
        loop {
            let is_done = {
                let mut jobs = self.jobs.lock();
                while running.len() < RUNNING_MAX {
                    let Some(job) = jobs.waiting.pop_front() else {
                        break;
                    };
                    running.push(self.work(job));
                }
                jobs.running = running.len();
                if jobs.is_closing {
                    let flush_time = self.session.close_timeout() / 2;
                    flush_by.get_or_insert_with(|| Instant::now() + flush_time);
                }
                jobs.is_closing && jobs.is_idle()
            };
            if is_done {
                break;
            }
            let flushed = match flush_by {
                Some(at) => Either::Left(sleep_until(at)),
                None => Either::Right(pending()),
            };
            tokio::select! {
                Some(()) = running.next(), if !running.is_empty() => {}
                () = self.wake.notified() => {}
                () = flushed => break,
                () = &mut over => break,
            }
        }
        let mut jobs = self.jobs.lock();
        jobs.is_over = true;
        let left = jobs.waiting.len() + running.len();
        jobs.waiting.clear();
        let is_closing = jobs.is_closing;
        drop(jobs);
        if left > 0 {
            tracing::warn!(left, "the client ends before all is cleaned up");
        }
        if is_closing {
            self.close_session();
        }
    }

    async fn work(&self, job: Job) {
        let mut pauses = ExponentialBackoff::new(PAUSE_BASE)
            .capped(PAUSE_CAP)
            .start();
        loop {
            match self.attempt(&job).await {
                Progress::Done => return,
                Progress::Again => {
                    let pause = pauses.next_delay(Duration::ZERO).unwrap_or(PAUSE_CAP);
                    sleep(pause).await;
                }
                Progress::AgainAt(at) => sleep_until(at).await,
            }
        }
    }

    async fn attempt(&self, job: &Job) -> Progress {
        let started = Instant::now();
        let result = match job {
            Job::Delete {
                path,
                version,
                czxid,
                generation,
            } => match self.is_another(path, *czxid, *generation).await {
                Ok(true) => Ok(()),
                Ok(false) => self.delete(path, *version, *generation).await,
                Err(error) => Err(error),
            },
            Job::Undo {
                protected,
                created_in,
                generation,
            } => match protected.find(&self.session, *generation).await {
                Ok(Some(found)) => self.delete(&found.path, Version::ANY, *generation).await,
                Ok(None) => match self.session.may_live_until(*created_in) {
                    Some(until) if started < until => return Progress::AgainAt(until),
                    _ => Ok(()),
                },
                Err(error) => Err(error),
            },
        };
        let generation = match job {
            Job::Delete { generation, .. } | Job::Undo { generation, .. } => *generation,
        };
        match result {
            Ok(()) => Progress::Done,
            Err(FindError::Failed(failure)) => self.after(&failure, generation),
            Err(FindError::Refused { code, .. }) if may_pass(code) => Progress::Again,
            Err(FindError::Refused { code, .. }) => {
                tracing::warn!(?job, code, "the server refuses the clean-up: given up");
                Progress::Done
            }
            Err(FindError::Unreadable) => Progress::Done,
        }
    }

    /// Whether to go on when no answer came.
    fn after(&self, failure: &Failure, generation: Option<u64>) -> Progress {
        let is_over = match (&failure.reason, failure.session_gone) {
            (Reason::Closed | Reason::TooLarge { .. }, _) => true,
            (_, true) => generation.is_some() || !self.session.opens_new_sessions(),
            (_, false) => false,
        };
        match is_over {
            true => Progress::Done,
            false => Progress::Again,
        }
    }

    /// Whether what stands at a path is not what was to be deleted.
    async fn is_another(
        &self,
        path: &str,
        czxid: Option<i64>,
        generation: Option<u64>,
    ) -> Result<bool, FindError> {
        let Some(czxid) = czxid else { return Ok(false) };
        let request = PathWatch {
            path: path.into(),
            watch: false,
        };
        match ask(&self.session, generation, &Request::Exists(request)).await {
            Ok(response) => match Reply::decode(OpCode::Exists, &response.body) {
                Ok(Reply::Stat(stat)) => Ok(stat.czxid != czxid),
                _ => Err(FindError::Unreadable),
            },
            // A server that lags may not know it yet: the delete itself is judged by the leader.
            Err(FindError::Refused { code, .. }) if code == ErrorCode::NoNode.code() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn delete(
        &self,
        path: &str,
        version: Version,
        generation: Option<u64>,
    ) -> Result<(), FindError> {
        let request = PathVersion {
            path: path.into(),
            version,
        };
        match ask(&self.session, generation, &Request::Delete(request)).await {
            Ok(_) => Ok(()),
            Err(FindError::Refused { code, .. }) if code == ErrorCode::NoNode.code() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes what a create made when nobody waits for its answer any more.
    pub(crate) fn undo_unheard(self: &Arc<Janitor>, op: OpCode, is_ephemeral: bool) -> Orphan {
        self.jobs.lock().expected += 1;
        let expected = Expected(Arc::clone(self));
        Orphan(Box::new(move |result| {
            // Without an answer nobody knows the name: what it made cannot be told from what
            // others made. `Create::protected` is for those who mind.
            let Ok(response) = result else { return };
            if response.err != 0 {
                return;
            }
            if let Ok(Reply::PathStat(path, Stat { czxid, .. })) = Reply::decode(op, &response.body)
            {
                expected.0.push(Job::Delete {
                    path: (&*path).into(),
                    version: Version::ANY,
                    czxid: Some(czxid),
                    generation: is_ephemeral.then_some(response.generation),
                });
            }
        }))
    }
}

/// A close waits for it: an answer that may yet bring a job.
struct Expected(Arc<Janitor>);

impl Drop for Expected {
    fn drop(&mut self) {
        let mut jobs = self.0.jobs.lock();
        jobs.expected -= 1;
        let is_awaited = jobs.is_closing;
        drop(jobs);
        if is_awaited {
            self.0.wake.notify_one();
        }
    }
}

enum Progress {
    Done,
    /// After a pause.
    Again,
    /// Not before then.
    AgainAt(Instant),
}

/// Codes that say nothing about the request, or that pass.
fn may_pass(code: i32) -> bool {
    matches!(
        ErrorCode::from_code(code),
        Some(
            ErrorCode::ThrottledOp
                | ErrorCode::NotReadOnly
                | ErrorCode::ConnectionLoss
                | ErrorCode::OperationTimeout
                | ErrorCode::RequestTimeout
                | ErrorCode::SessionMoved
                | ErrorCode::SessionExpired
        )
    )
}

/// Leaves a job to the janitor when it is dropped, unless the caller came to know better.
#[derive(Debug)]
#[must_use = "dropped, the job is done"]
pub(crate) struct Owed {
    janitor: Arc<Janitor>,
    job: Option<Job>,
}

impl Owed {
    pub(crate) fn new(janitor: &Arc<Janitor>, job: Job) -> Owed {
        Owed {
            janitor: Arc::clone(janitor),
            job: Some(job),
        }
    }

    /// Nothing is to be done.
    pub(crate) fn settle(&mut self) {
        self.job = None;
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        if let Some(job) = self.job.take() {
            self.janitor.push(job);
        }
    }
}
