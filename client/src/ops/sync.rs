//! sync.

use quorate_proto::Request;

use super::{limited_in_time, sent_when_awaited};
use crate::call::{Call, Operation, Repeat, run};
use crate::client::Client;
use crate::path::PathArg;

impl Client {
    /// Waits until the server that is connected has all that was committed before: reads behind
    /// it see at least that. The znode need not exist.
    ///
    /// # Errors
    /// Those of the connection only.
    ///
    /// # Cancel safety
    /// As for every [`Call`].
    ///
    /// Source: ZooKeeper `sync`; Curator `sync()`; kazoo `sync`.
    pub fn sync(&self, path: impl Into<PathArg>) -> SyncPath {
        SyncPath {
            operation: Operation::new(self, "sync", path, Repeat::Freely),
        }
    }
}

/// Waits for the server to catch up; see [`Client::sync`].
#[derive(Debug)]
#[must_use = "nothing is sent before `send` or `.await`"]
pub struct SyncPath {
    operation: Operation,
}

impl SyncPath {
    /// Queues the request now; it leaves behind all that were queued before.
    pub fn send(self) -> Call<()> {
        let operation = self.operation;
        let path = match operation.full_path() {
            Ok(path) => path,
            Err(error) => return Call::refused(error),
        };
        let request = move |operation: &Operation| {
            let request = Request::Sync {
                path: Some((&*path).into()),
            };
            operation.submit(&request, None, None)
        };
        let first = request(&operation);
        Call::new(run(operation, first, request, |_, _| Ok(())))
    }
}

limited_in_time!(SyncPath);
sent_when_awaited!(SyncPath => ());
