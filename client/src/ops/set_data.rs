//! setData.

use std::time::Duration;

use bytes::Bytes;
use quorate_proto::{OpCode, Reply, Request, Stat, Version, request};

use super::sent_when_awaited;
use crate::call::{Call, Operation, Repeat, run};
use crate::client::Client;
use crate::error::Result;
use crate::session::Response;

impl Client {
    /// Replaces a znode's data, whatever its version.
    ///
    /// # Errors
    /// [`Error::is_no_node`](crate::Error::is_no_node) if it does not exist.
    ///
    /// Source: ZooKeeper `setData`; Curator `setData()`; kazoo `set`.
    pub fn set(&self, path: &str, data: impl Into<Bytes>) -> SetData {
        SetData {
            operation: Operation::new(self, "setData", path, Repeat::OnlyIfItDidNotHappen),
            data: data.into(),
            version: Version::ANY,
        }
    }
}

/// Replaces a znode's data; see [`Client::set`].
#[derive(Debug)]
#[must_use = "nothing is sent before `send` or `.await`"]
pub struct SetData {
    operation: Operation,
    data: Bytes,
    version: Version,
}

impl SetData {
    /// Only if the znode has this version.
    ///
    /// The call fails with [`Error::is_bad_version`](crate::Error::is_bad_version) otherwise.
    pub fn version(mut self, version: i32) -> SetData {
        self.version = Version(version);
        self
    }

    /// Limits this call's time, waiting and repetitions included.
    pub fn timeout(mut self, time: Duration) -> SetData {
        self.operation = self.operation.within(Some(time));
        self
    }

    /// Queues the request now; it leaves behind all that were queued before.
    pub fn send(self) -> Call<Stat> {
        let SetData {
            operation,
            data,
            version,
        } = self;
        let path = match operation.full_path() {
            Ok(path) => path,
            Err(error) => return Call::refused(error),
        };
        let request = move |operation: &Operation| {
            let request = request::SetData {
                path: (&*path).into(),
                data: Some(&data),
                version,
            };
            operation.submit(&Request::SetData(request), None, None)
        };
        let first = request(&operation);
        Call::new(run(operation, first, request, stat))
    }
}

sent_when_awaited!(SetData => Stat);

fn stat(operation: &Operation, response: Response) -> Result<Stat> {
    match operation.read(OpCode::SetData, &response)? {
        Reply::Stat(stat) => Ok(stat),
        _ => Err(operation.misshapen(&response)),
    }
}
