//! getChildren.

use std::borrow::Cow;
use std::time::Duration;

use quorate_proto::request::PathWatch;
use quorate_proto::{OpCode, Reply, Request, Stat};

use super::{WatchedRead, read_and_watch, sent_when_awaited};
use crate::call::{Call, Operation, Repeat, run};
use crate::client::Client;
use crate::error::Result;
use crate::path::PathArg;
use crate::session::Response;
use crate::watch::Watch;

impl Client {
    /// Lists the names of a znode's children, in no order, with the znode's `Stat`.
    ///
    /// # Errors
    /// [`Error::is_no_node`](crate::Error::is_no_node) if it does not exist.
    ///
    /// # Cancel safety
    /// As for every [`Call`].
    ///
    /// Source: ZooKeeper `getChildren2`; Curator `getChildren()`; kazoo `get_children`.
    pub fn children(&self, path: impl Into<PathArg>) -> GetChildren {
        GetChildren {
            operation: Operation::new(self, "getChildren", path, Repeat::Freely),
        }
    }
}

/// Lists a znode's children; see [`Client::children`].
#[derive(Debug)]
#[must_use = "nothing is sent before `send` or `.await`"]
pub struct GetChildren {
    operation: Operation,
}

impl GetChildren {
    /// Limits this call's time, waiting and repetitions included.
    pub fn timeout(mut self, time: Duration) -> GetChildren {
        self.operation = self.operation.within(Some(time));
        self
    }

    /// Queues the request now; it leaves behind all that were queued before.
    pub fn send(self) -> Call<(Vec<String>, Stat)> {
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
            operation.submit(&Request::GetChildren2(request), None, None)
        };
        let first = request(&operation);
        Call::new(run(operation, first, request, children))
    }

    /// Lists, and watches for the next child that comes or goes, or for the deletion.
    ///
    /// The request is queued by this call, as by [`send`](GetChildren::send).
    pub fn watch(self) -> Call<(Vec<String>, Stat, Watch)> {
        let found =
            |operation: &Operation, answered: Result<Response>| children(operation, answered?);
        let call = read_and_watch(self.operation, WatchedRead::Children, found);
        Call::new(async move {
            let ((names, stat), watch) = call.await?;
            Ok((names, stat, watch))
        })
    }
}

sent_when_awaited!(GetChildren => (Vec<String>, Stat));

fn children(operation: &Operation, response: Response) -> Result<(Vec<String>, Stat)> {
    match operation.read(OpCode::GetChildren2, &response)? {
        Reply::ChildrenStat(names, stat) => {
            Ok((names.into_iter().map(Cow::into_owned).collect(), stat))
        }
        _ => Err(operation.misshapen(&response)),
    }
}
