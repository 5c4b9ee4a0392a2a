//! One operation from call to result: sent when it is called, awaited when it is polled, repeated
//! when that is safe.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use quorate_proto::frame::FrameError;
use quorate_proto::jute::DecodeError;
use quorate_proto::{ErrorCode, OpCode, Reply, Request};
use tokio::time::{Instant, sleep, timeout_at};

use crate::client::Client;
use crate::error::{Context, Error, Outcome, Reason, Result};
use crate::metrics;
use crate::path::PathArg;
use crate::retry::RetryRun;
use crate::session::{Answer, Arm, Failure, Orphan, Response, Submission};

/// A call whose request has been queued. Await it for the result.
///
/// Requests leave in the order of the calls, whatever the order in which the futures are polled.
///
/// # Cancel safety
/// Dropped before its request has left, it never happens. Dropped later, a write may still take
/// effect; what a read or a watch would have left behind is taken back.
#[must_use = "a dropped call is withdrawn if its request has not left yet"]
pub struct Call<T>(Pin<Box<dyn Future<Output = Result<T>> + Send>>);

impl<T> Call<T> {
    pub(crate) fn new(future: impl Future<Output = Result<T>> + Send + 'static) -> Call<T> {
        Call(Box::pin(future))
    }

    /// A call that fails before anything is sent.
    pub(crate) fn refused(error: Error) -> Call<T>
    where
        T: Send + 'static,
    {
        Call::new(std::future::ready(Err(error)))
    }
}

impl<T> Future for Call<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Result<T>> {
        self.0.as_mut().poll(cx)
    }
}

impl<T> std::fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Call")
    }
}

/// What may be done when nobody knows whether a request took effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Repeat {
    /// It changes nothing: ask again.
    Freely,
    /// It must not happen twice: report the unknown outcome.
    OnlyIfItDidNotHappen,
}

/// What every attempt of an operation has in common.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) client: Client,
    pub(crate) op: &'static str,
    /// As the caller gave it.
    pub(crate) path: PathArg,
    pub(crate) repeat: Repeat,
    pub(crate) started: Instant,
    pub(crate) deadline: Option<Instant>,
    /// The session that it belongs to; a repetition never leaves it.
    pub(crate) generation: u64,
    /// Whether the caller wants that session and no later one.
    pub(crate) is_pinned: bool,
}

impl Operation {
    pub(crate) fn new(
        client: &Client,
        op: &'static str,
        path: impl Into<PathArg>,
        repeat: Repeat,
    ) -> Operation {
        let started = Instant::now();
        Operation {
            client: client.clone(),
            op,
            path: path.into(),
            repeat,
            started,
            // A time without end is no limit.
            deadline: (client.operation_timeout()).and_then(|time| started.checked_add(time)),
            generation: client.bound_generation(),
            is_pinned: client.is_pinned(),
        }
    }

    /// Overrides the client's time limit.
    pub(crate) fn within(mut self, time: Option<Duration>) -> Operation {
        if let Some(time) = time {
            self.deadline = self.started.checked_add(time);
        }
        self
    }

    pub(crate) fn context(&self, server: &str) -> Context {
        Context {
            op: self.op,
            path: self.path.to_string(),
            server: server.to_owned(),
            elapsed: self.started.elapsed(),
            failed_op: None,
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Queues a request of this operation.
    pub(crate) fn submit(
        &self,
        request: &Request<'_>,
        arm: Option<Arm>,
        orphan: Option<Orphan>,
    ) -> Result<Answer> {
        let mut submission = Submission::new(request).map_err(|error| self.too_large(error))?;
        submission.arm = arm;
        submission.orphan = orphan;
        submission.generation = Some(self.generation);
        Ok(self.client.session().submit(submission))
    }

    fn too_large(&self, error: FrameError) -> Error {
        Error::bad_argument(Reason::Option(error.to_string()), self.context(""))
    }

    /// Tells the log and the metrics how it ended.
    pub(crate) fn ended(&self, error: Option<&Error>) {
        if let Some(error) = error {
            tracing::debug!(
                op = self.op,
                path = %self.path,
                server = error.server(),
                elapsed_ms = self.elapsed_ms(),
                %error,
                "failed"
            );
        }
        metrics::operation_ended(self.op, error, self.started);
    }

    /// Waits for an answer, until the deadline.
    pub(crate) async fn answer(&self, mut answer: Answer) -> Result<Response> {
        let result = match self.deadline {
            None => (&mut answer).await,
            Some(deadline) => match timeout_at(deadline, &mut answer).await {
                Ok(result) => result,
                Err(_) => {
                    let context = self.context(&self.client.status_now().server);
                    return Err(match answer.give_up() {
                        true => Error::unknown(Reason::TimedOut, context),
                        false => Error::did_not_happen(self.client.why_not_connected(), context),
                    });
                }
            },
        };
        let response = result.map_err(|failure| self.failed(failure))?;
        match response.err {
            0 => Ok(response),
            code => Err(self.refused(code, &response.server)),
        }
    }

    /// The server's refusal.
    pub(crate) fn refused(&self, code: i32, server: &Arc<str>) -> Error {
        let context = self.context(server);
        match ErrorCode::from_code(code) {
            Some(code) => Error::from_code(code, context),
            // Whatever it says: nobody here can read that nothing happened.
            None => Error::unknown(Reason::UnknownCode(code), context),
        }
    }

    pub(crate) fn failed(&self, failure: Failure) -> Error {
        let Failure {
            sent,
            session_gone,
            reason,
            server,
        } = failure;
        let context = self.context(&server);
        let outcome = match sent {
            true => Outcome::Unknown,
            false => Outcome::DidNotHappen,
        };
        match (session_gone, outcome) {
            (true, outcome) => Error::SessionGone {
                reason,
                outcome,
                context: Box::new(context),
            },
            (false, Outcome::Unknown) => Error::unknown(reason, context),
            (false, _) if matches!(reason, Reason::TooLarge { .. }) => {
                Error::bad_argument(reason, context)
            }
            (false, _) => Error::did_not_happen(reason, context),
        }
    }

    /// A good answer whose body cannot be read. What was asked for has happened.
    pub(crate) fn unreadable(&self, error: &DecodeError, response: &Response) -> Error {
        let reason = Reason::Protocol(format!("the reply cannot be read: {error}"));
        Error::happened(reason, self.context(&response.server))
    }

    /// Reads the body of a good answer.
    pub(crate) fn read<'r>(&self, op: OpCode, response: &'r Response) -> Result<Reply<'r>> {
        Reply::decode(op, &response.body).map_err(|error| self.unreadable(&error, response))
    }

    /// The answer of another shape than the operation has.
    pub(crate) fn misshapen(&self, response: &Response) -> Error {
        let reason = Reason::Protocol("the reply has another shape".to_owned());
        Error::happened(reason, self.context(&response.server))
    }

    /// The last attempt did not happen, and that says nothing about an earlier one.
    pub(crate) fn still_in_doubt(&self, error: Error, in_doubt: bool) -> Error {
        match error {
            error if !in_doubt => error,
            Error::DidNotHappen { reason, context }
            | Error::NotAllowed { reason, context }
            | Error::BadArgument { reason, context } => Error::Unknown { reason, context },
            Error::SessionGone {
                reason, context, ..
            } => Error::SessionGone {
                reason,
                outcome: Outcome::Unknown,
                context,
            },
            error => error,
        }
    }

    /// Asks something that changes nothing, until there is an answer.
    pub(crate) async fn ask_freely(&self, request: &Request<'_>) -> Result<Response> {
        self.repeat_freely(request).await.0
    }

    /// Writes something that may be written twice, until there is an answer.
    pub(crate) async fn write_freely(&self, request: &Request<'_>) -> Result<Response> {
        let (answer, in_doubt) = self.repeat_freely(request).await;
        answer.map_err(|error| self.still_in_doubt(error, in_doubt))
    }

    async fn repeat_freely(&self, request: &Request<'_>) -> (Result<Response>, bool) {
        let mut operation = self.clone();
        operation.repeat = Repeat::Freely;
        let first = operation.submit(request, None, None);
        let again = |operation: &Operation| operation.submit(request, None, None);
        attempts(&operation, first, again).await
    }

    /// Whether this error allows for another attempt.
    pub(crate) fn may_repeat(&self, error: &Error) -> bool {
        error.is_retryable()
            || (self.repeat == Repeat::Freely
                && matches!(error, Error::Unknown { reason, .. } if !is_final(reason)))
    }
}

/// Whether asking again would end in the same way, or too late.
pub(crate) fn is_final(reason: &Reason) -> bool {
    use ErrorCode::{DataInconsistency, SystemError};
    matches!(
        reason,
        Reason::TimedOut | Reason::UnknownCode(_) | Reason::Code(SystemError | DataInconsistency)
    )
}

/// The pauses between the attempts of one operation, within its budget.
#[derive(Default)]
pub(crate) struct Retries(Option<Box<dyn RetryRun>>);

impl Retries {
    /// Waits before the next attempt, or gives the error back: the policy or the deadline allow
    /// for no other.
    pub(crate) async fn pause(&mut self, operation: &Operation, error: Error) -> Result<()> {
        let run = self
            .0
            .get_or_insert_with(|| operation.client.retry_policy().start());
        let Some(pause) = run.next_delay(operation.started.elapsed()) else {
            return Err(error);
        };
        // Policies are anybody's: a pause may be longer than there is time.
        let until = Instant::now().checked_add(pause);
        if operation
            .deadline
            .is_some_and(|deadline| until.is_none_or(|until| until >= deadline))
        {
            return Err(error);
        }
        tracing::debug!(op = operation.op, path = %operation.path, %error, ?pause, "trying again");
        sleep(pause).await;
        Ok(())
    }
}

/// Runs an operation to its end: `first` was queued by the call itself, `again` queues the next
/// attempt, `read` makes the result.
pub(crate) async fn run<T>(
    operation: Operation,
    first: Result<Answer>,
    again: impl FnMut(&Operation) -> Result<Answer>,
    read: impl FnOnce(&Operation, Response) -> Result<T>,
) -> Result<T> {
    let (answered, _) = attempts(&operation, first, again).await;
    let result = answered.and_then(|response| read(&operation, response));
    operation.ended(result.as_ref().err());
    result
}

/// Repeats a request for as long as that is safe. True if an earlier attempt may have taken
/// effect, so that the answer may be that attempt's doing.
pub(crate) async fn attempts(
    operation: &Operation,
    first: Result<Answer>,
    mut again: impl FnMut(&Operation) -> Result<Answer>,
) -> (Result<Response>, bool) {
    let mut attempt = first;
    let mut retries = Retries::default();
    let mut in_doubt = false;
    loop {
        let error = match attempt {
            Ok(answer) => match operation.answer(answer).await {
                Ok(response) => {
                    tracing::debug!(
                        op = operation.op,
                        path = %operation.path,
                        session = %response.session,
                        xid = response.xid.0,
                        zxid = %response.zxid,
                        server = %response.server,
                        elapsed_ms = operation.elapsed_ms(),
                        "answered"
                    );
                    return (Ok(response), in_doubt);
                }
                Err(error) => error,
            },
            Err(error) => return (Err(error), in_doubt),
        };
        if !operation.may_repeat(&error) {
            return (Err(error), in_doubt);
        }
        in_doubt |= error.outcome() == Outcome::Unknown;
        // Rare, and so in a box: room for it would be made for every call.
        if let Err(error) = Box::pin(retries.pause(operation, error)).await {
            return (Err(error), in_doubt);
        }
        attempt = again(operation);
    }
}
