//! setData.

use bytes::Bytes;
use quorate_proto::{OpCode, Reply, Request, Stat, Version, request};

use super::{Packing, limited_in_time, sent_when_awaited};
use crate::call::{Call, Operation, Repeat, attempts};
use crate::client::Client;
use crate::compress::Compression;
use crate::error::{Error, Result};
use crate::path::PathArg;
use crate::session::Response;

impl Client {
    /// Replaces a znode's data, whatever its version.
    ///
    /// # Errors
    /// [`Error::is_no_node`](crate::Error::is_no_node) if it does not exist.
    ///
    /// # Cancel safety
    /// As for every [`Call`].
    ///
    /// Source: ZooKeeper `setData`; Curator `setData()`; kazoo `set`.
    pub fn set(&self, path: impl Into<PathArg>, data: impl Into<Bytes>) -> SetData {
        SetData {
            operation: Operation::new(self, "setData", path, Repeat::OnlyIfItDidNotHappen),
            data: data.into(),
            version: Version::ANY,
            is_idempotent: false,
            packing: Packing::default(),
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
    is_idempotent: bool,
    packing: Packing,
}

impl SetData {
    /// Only if the znode has this version.
    ///
    /// The call fails with [`Error::is_bad_version`](crate::Error::is_bad_version) otherwise.
    pub fn version(mut self, version: i32) -> SetData {
        self.version = Version(version);
        self
    }

    /// Assumes that it is ours if it is equal: when an answer was lost the write is repeated, and
    /// with a [`version`](SetData::version) a znode that has the next version and this data counts
    /// as written by us.
    ///
    /// A heuristic: an equal write by another cannot be told apart. Without a version the data may
    /// be written twice, and the second time over what another wrote in between.
    ///
    /// Source: Curator `idempotent`.
    pub fn idempotent(mut self) -> SetData {
        self.is_idempotent = true;
        self.operation.repeat = Repeat::Freely;
        self
    }

    /// Stores the data compressed. Nothing in the znode says so: readers must know.
    pub fn compressed(mut self, compression: impl Compression + 'static) -> SetData {
        self.packing = Packing::with(compression);
        self
    }

    /// Queues the request now; it leaves behind all that were queued before.
    pub fn send(self) -> Call<Stat> {
        let SetData {
            operation,
            data,
            version,
            is_idempotent,
            packing,
        } = self;
        let prepared = operation
            .full_path()
            .and_then(|path| Ok((path, packing.pack(&operation, data)?)));
        let (path, data) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Call::refused(error),
        };
        let request = {
            let (path, data) = (path.clone(), data.clone());
            move |operation: &Operation| {
                let request = request::SetData {
                    path: (&*path).into(),
                    data: Some(&data),
                    version,
                };
                operation.submit(&Request::SetData(request), None, None)
            }
        };
        let first = request(&operation);
        Call::new(async move {
            let (answer, in_doubt) = attempts(&operation, first, request).await;
            match answer {
                Ok(response) => stat(&operation, response),
                Err(error) if error.is_bad_version() && in_doubt && is_idempotent => {
                    assume_mine_if_equal(&operation, &path, &data, version, error).await
                }
                Err(error) => Err(operation.still_in_doubt(error, in_doubt)),
            }
        })
    }
}

limited_in_time!(SetData);
sent_when_awaited!(SetData => Stat);

async fn assume_mine_if_equal(
    operation: &Operation,
    path: &str,
    data: &Bytes,
    version: Version,
    refused: Error,
) -> Result<Stat> {
    let found = super::get::read_now(operation, path).await;
    // That nothing could be read says nothing about the write.
    match found.map_err(|error| operation.still_in_doubt(error, true))? {
        Some((node, _)) if node.stat.version == version.0.wrapping_add(1) && node.data == *data => {
            Ok(node.stat)
        }
        // Written over since, or deleted: whether ours came first nobody can tell.
        _ => Err(operation.still_in_doubt(refused, true)),
    }
}

fn stat(operation: &Operation, response: Response) -> Result<Stat> {
    match operation.read(OpCode::SetData, &response)? {
        Reply::Stat(stat) => Ok(stat),
        _ => Err(operation.misshapen(&response)),
    }
}
