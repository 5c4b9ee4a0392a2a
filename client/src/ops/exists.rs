//! exists.

use std::time::Duration;

use quorate_proto::request::PathWatch;
use quorate_proto::{OpCode, Reply, Request, Stat};

use super::{WatchedRead, read_and_watch, sent_when_awaited};
use crate::call::{Call, Operation, Repeat, attempts};
use crate::client::Client;
use crate::error::Result;
use crate::path::PathArg;
use crate::session::Response;
use crate::watch::Watch;

impl Client {
    /// Reads a znode's `Stat`; `None` if there is no such znode.
    ///
    /// # Errors
    /// Those of the connection, and [`Error::BadArgument`](crate::Error::BadArgument) for a path
    /// that breaks the rules.
    ///
    /// # Cancel safety
    /// As for every [`Call`].
    ///
    /// Source: ZooKeeper `exists`; Curator `checkExists()`; kazoo `exists`.
    pub fn exists(&self, path: impl Into<PathArg>) -> Exists {
        Exists {
            operation: Operation::new(self, "exists", path, Repeat::Freely),
        }
    }
}

/// Reads a znode's `Stat`; see [`Client::exists`].
#[derive(Debug)]
#[must_use = "nothing is sent before `send` or `.await`"]
pub struct Exists {
    operation: Operation,
}

impl Exists {
    /// Limits this call's time, waiting and repetitions included.
    pub fn timeout(mut self, time: Duration) -> Exists {
        self.operation = self.operation.within(Some(time));
        self
    }

    /// Queues the request now; it leaves behind all that were queued before.
    pub fn send(self) -> Call<Option<Stat>> {
        let operation = self.operation;
        let path = match operation.full_path() {
            Ok(path) => path,
            Err(error) => return Call::refused(error),
        };
        let request = move |operation: &Operation| {
            let request = PathWatch {
                path: (&*path).into(),
                watch: false,
            };
            operation.submit(&Request::Exists(request), None, None)
        };
        let first = request(&operation);
        Call::new(async move {
            let (answered, _) = attempts(&operation, first, request).await;
            let stat = stat(&operation, answered);
            operation.ended(stat.as_ref().err());
            stat
        })
    }

    /// Reads, and watches for the next change: creation, change of data, or deletion. The watch is
    /// armed whether the znode exists or not.
    ///
    /// The request is queued by this call, as by [`send`](Exists::send).
    pub fn watch(self) -> Call<(Option<Stat>, Watch)> {
        read_and_watch(self.operation, WatchedRead::Exists, stat)
    }
}

sent_when_awaited!(Exists => Option<Stat>);

/// That it is missing is an answer.
fn stat(operation: &Operation, answered: Result<Response>) -> Result<Option<Stat>> {
    let response = match answered {
        Ok(response) => response,
        Err(error) if error.is_no_node() => return Ok(None),
        Err(error) => return Err(error),
    };
    match operation.read(OpCode::Exists, &response)? {
        Reply::Stat(stat) => Ok(Some(stat)),
        _ => Err(operation.misshapen(&response)),
    }
}
