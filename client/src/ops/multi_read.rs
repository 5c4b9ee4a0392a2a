//! multiRead: several reads in one request.

use std::borrow::Cow;

use quorate_proto::multi::{MultiRead as Record, MultiReadOp, MultiResult};
use quorate_proto::request::PathWatch;
use quorate_proto::{OpCode, Reply, Request};

use super::kind::{Kind, full_path};
use super::{Node, detach, limited_in_time, sent_when_awaited};
use crate::call::{Call, Operation, Repeat, run};
use crate::client::Client;
use crate::error::Result;
use crate::path::PathArg;
use crate::session::Response;

impl Client {
    /// Starts a bundle of reads in one request. They are not one snapshot: writes may fall
    /// between them.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> quorate_client::Result<()> {
    /// # let server = quorate_server::testing::TestServer::start().await;
    /// # let client = quorate_client::Client::connect(server.connect_string()).await?;
    /// # client.create("/a", "").await?;
    /// # client.create("/b", "").await?;
    /// for result in client.read_multi().get("/a").children("/b").await? {
    ///     println!("{:?}", result?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Each read has its own result; the whole fails only if there is no answer.
    ///
    /// # Cancel safety
    /// As for every [`Call`].
    ///
    /// Source: ZooKeeper `multi` with read operations (3.6); neither Curator nor kazoo has it.
    pub fn read_multi(&self) -> MultiRead {
        MultiRead {
            operation: Operation::new(self, "multiRead", "", Repeat::Freely),
            reads: Vec::new(),
        }
    }
}

/// What a read of a [`MultiRead`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ReadResult {
    /// Of `get`.
    Node(Node),
    /// Of `children`: names, in no order.
    Children(Vec<String>),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Read {
    Data,
    Children,
}

/// A bundle of reads; see [`Client::read_multi`].
#[derive(Debug)]
#[must_use = "nothing is sent before `send` or `.await`"]
pub struct MultiRead {
    operation: Operation,
    reads: Vec<(Read, PathArg)>,
}

impl MultiRead {
    /// Reads a znode's data and `Stat`.
    pub fn get(mut self, path: impl Into<PathArg>) -> MultiRead {
        self.reads.push((Read::Data, path.into()));
        self
    }

    /// Lists a znode's children.
    pub fn children(mut self, path: impl Into<PathArg>) -> MultiRead {
        self.reads.push((Read::Children, path.into()));
        self
    }

    /// Queues the request now; it leaves behind all that were queued before.
    pub fn send(self) -> Call<Vec<Result<ReadResult>>> {
        let MultiRead { operation, reads } = self;
        let mut full = Vec::with_capacity(reads.len());
        for (index, (kind, path)) in reads.iter().enumerate() {
            match full_path(&operation, path, Kind::default()) {
                Ok(path) => full.push((*kind, path)),
                Err(error) => return Call::refused(error.of_op(index, path.to_string())),
            }
        }
        let request = move |operation: &Operation| {
            let read = |(kind, path): &(Read, String)| {
                let record = PathWatch {
                    path: Cow::Owned(path.clone()),
                    watch: false,
                };
                match kind {
                    Read::Data => MultiReadOp::GetData(record),
                    Read::Children => MultiReadOp::GetChildren(record),
                }
            };
            let ops = full.iter().map(read).collect();
            operation.submit(&Request::MultiRead(Record { ops }), None, None)
        };
        let first = request(&operation);
        Call::new(run(
            operation,
            first,
            request,
            move |operation, response| results(operation, &reads, response),
        ))
    }
}

limited_in_time!(MultiRead);
sent_when_awaited!(MultiRead => Vec<Result<ReadResult>>);

fn results(
    operation: &Operation,
    reads: &[(Read, PathArg)],
    response: Response,
) -> Result<Vec<Result<ReadResult>>> {
    let Reply::Multi(results) = operation.read(OpCode::MultiRead, &response)? else {
        return Err(operation.misshapen(&response));
    };
    if results.len() != reads.len() {
        return Err(operation.misshapen(&response));
    }
    let typed =
        |(index, (result, (_, path))): (usize, (MultiResult<'_>, &(Read, PathArg)))| match result {
            MultiResult::GetData { data, stat } => Ok(ReadResult::Node(Node {
                data: detach(&response.body, data.unwrap_or_default()),
                stat,
            })),
            MultiResult::GetChildren(names) => Ok(ReadResult::Children(
                names.into_iter().map(Cow::into_owned).collect(),
            )),
            MultiResult::Error(code) => {
                let error = operation.refused(code, &response.server);
                Err(error.of_op(index, path.to_string()))
            }
            _ => Err(operation
                .misshapen(&response)
                .of_op(index, path.to_string())),
        };
    Ok(results
        .into_iter()
        .zip(reads)
        .enumerate()
        .map(typed)
        .collect())
}
