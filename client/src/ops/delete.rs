//! delete.

use std::time::Duration;

use quorate_proto::request::PathVersion;
use quorate_proto::{Request, Version};

use super::sent_when_awaited;
use crate::call::{Call, Operation, Repeat, run};
use crate::client::Client;

impl Client {
    /// Deletes a znode without children, whatever its version.
    ///
    /// # Errors
    /// [`Error::is_no_node`](crate::Error::is_no_node) if it does not exist,
    /// [`Error::is_not_empty`](crate::Error::is_not_empty) if it has children.
    ///
    /// Source: ZooKeeper `delete`; Curator `delete()`; kazoo `delete`.
    pub fn delete(&self, path: &str) -> Delete {
        Delete {
            operation: Operation::new(self, "delete", path, Repeat::OnlyIfItDidNotHappen),
            version: Version::ANY,
        }
    }
}

/// Deletes a znode; see [`Client::delete`].
#[derive(Debug)]
#[must_use = "nothing is sent before `send` or `.await`"]
pub struct Delete {
    operation: Operation,
    version: Version,
}

impl Delete {
    /// Only if the znode has this version.
    ///
    /// The call fails with [`Error::is_bad_version`](crate::Error::is_bad_version) otherwise.
    pub fn version(mut self, version: i32) -> Delete {
        self.version = Version(version);
        self
    }

    /// Limits this call's time, waiting and repetitions included.
    pub fn timeout(mut self, time: Duration) -> Delete {
        self.operation = self.operation.within(Some(time));
        self
    }

    /// Queues the request now; it leaves behind all that were queued before.
    pub fn send(self) -> Call<()> {
        let Delete { operation, version } = self;
        let path = match operation.full_path() {
            Ok(path) => path,
            Err(error) => return Call::refused(error),
        };
        let request = move |operation: &Operation| {
            let request = PathVersion {
                path: (&*path).into(),
                version,
            };
            operation.submit(&Request::Delete(request), None, None)
        };
        let first = request(&operation);
        Call::new(run(operation, first, request, |_, _| Ok(())))
    }
}

sent_when_awaited!(Delete => ());
