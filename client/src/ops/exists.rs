//! exists.

use std::time::Duration;

use quorate_proto::request::PathWatch;
use quorate_proto::{OpCode, Reply, Request, Stat};

use super::{one_shot, sent_when_awaited};
use crate::call::{Call, Operation, Repeat, run};
use crate::client::Client;
use crate::error::Result;
use crate::path::PathArg;
use crate::session::{Response, Table};
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
        Call::new(async move { missing_is_none(run(operation, first, request, stat).await) })
    }

    /// Reads, and watches for the next change: creation, change of data, or deletion. The watch is
    /// armed whether the znode exists or not.
    ///
    /// The request is queued by this call, as by [`send`](Exists::send).
    #[expect(
        clippy::missing_panics_doc,
        reason = "the watch is made with the request"
    )]
    pub fn watch(self) -> Call<(Option<Stat>, Watch)> {
        let operation = self.operation;
        let path = match operation.full_path() {
            Ok(path) => path,
            Err(error) => return Call::refused(error),
        };
        let mut watch = None;
        let request = move |operation: &Operation, watch: &mut Option<Watch>| {
            let (arm, watcher) = one_shot(&operation.client, &path, Table::Data, true);
            *watch = Some(watcher);
            let request = PathWatch {
                path: (&*path).into(),
                watch: true,
            };
            operation.submit(&Request::Exists(request), Some(arm), None)
        };
        let first = request(&operation, &mut watch);
        Call::new(async move {
            let stat = run(operation, first, |op| request(op, &mut watch), stat).await;
            Ok((
                missing_is_none(stat)?,
                watch.expect("made with the request"),
            ))
        })
    }
}

sent_when_awaited!(Exists => Option<Stat>);

fn stat(operation: &Operation, response: Response) -> Result<Stat> {
    match operation.read(OpCode::Exists, &response)? {
        Reply::Stat(stat) => Ok(stat),
        _ => Err(operation.misshapen(&response)),
    }
}

fn missing_is_none(stat: Result<Stat>) -> Result<Option<Stat>> {
    match stat {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if error.is_no_node() => Ok(None),
        Err(error) => Err(error),
    }
}
