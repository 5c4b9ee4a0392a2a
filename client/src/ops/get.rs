//! getData.

use std::time::Duration;

use quorate_proto::request::PathWatch;
use quorate_proto::{OpCode, Reply, Request, SessionId};

use super::{Node, Packing, WatchedRead, detach, read_and_watch, sent_when_awaited};
use crate::call::{Call, Operation, Repeat, run};
use crate::client::Client;
use crate::compress::Compression;
use crate::error::Result;
use crate::path::PathArg;
use crate::session::Response;
use crate::watch::Watch;

impl Client {
    /// Reads a znode's data.
    ///
    /// # Errors
    /// [`Error::is_no_node`](crate::Error::is_no_node) if it does not exist.
    ///
    /// # Cancel safety
    /// As for every [`Call`].
    ///
    /// Source: ZooKeeper `getData`; Curator `getData()`; kazoo `get`.
    pub fn get(&self, path: impl Into<PathArg>) -> Get {
        Get {
            operation: Operation::new(self, "getData", path, Repeat::Freely),
            packing: Packing::default(),
        }
    }
}

/// Reads a znode's data; see [`Client::get`].
#[derive(Debug)]
#[must_use = "nothing is sent before `send` or `.await`"]
pub struct Get {
    operation: Operation,
    packing: Packing,
}

impl Get {
    /// Reads data that was stored [`compressed`](crate::Create::compressed). Data that was not is
    /// an error.
    pub fn decompressed(mut self, compression: impl Compression + 'static) -> Get {
        self.packing = Packing::with(compression);
        self
    }

    /// Limits this call's time, waiting and repetitions included.
    pub fn timeout(mut self, time: Duration) -> Get {
        self.operation = self.operation.within(Some(time));
        self
    }

    /// Queues the request now; it leaves behind all that were queued before.
    pub fn send(self) -> Call<Node> {
        let Get { operation, packing } = self;
        let path = match operation.full_path() {
            Ok(path) => path,
            Err(error) => return Call::refused(error),
        };
        let request = move |operation: &Operation| {
            let request = PathWatch {
                path: (&*path).into(),
                watch: false,
            };
            operation.submit(&Request::GetData(request), None, None)
        };
        let first = request(&operation);
        Call::new(run(
            operation,
            first,
            request,
            move |operation, response| packing.unpack(operation, node(operation, response)?),
        ))
    }

    /// Reads, and watches for the next change of the data or for the deletion.
    ///
    /// The request is queued by this call, as by [`send`](Get::send).
    pub fn watch(self) -> Call<(Node, Watch)> {
        let Get { operation, packing } = self;
        let found = move |operation: &Operation, answered: Result<Response>| {
            packing.unpack(operation, node(operation, answered?)?)
        };
        read_and_watch(operation, WatchedRead::Data, found)
    }
}

sent_when_awaited!(Get => Node);

/// The znode as it is now, on the way to something else; `None` if it does not exist. Tells the
/// session in which it was read, too.
pub(crate) async fn read_now(
    operation: &Operation,
    full: &str,
) -> Result<Option<(Node, SessionId)>> {
    let request = Request::GetData(PathWatch {
        path: full.into(),
        watch: false,
    });
    match operation.ask_freely(&request).await {
        Ok(response) => {
            let session = response.session;
            Ok(Some((node(operation, response)?, session)))
        }
        Err(error) if error.is_no_node() => Ok(None),
        Err(error) => Err(error),
    }
}

fn node(operation: &Operation, response: Response) -> Result<Node> {
    match operation.read(OpCode::GetData, &response)? {
        Reply::DataStat(data, stat) => {
            let data = detach(&response.body, data.unwrap_or_default());
            Ok(Node { data, stat })
        }
        _ => Err(operation.misshapen(&response)),
    }
}
