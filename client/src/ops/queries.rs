//! Questions about a session, a subtree, or oneself.

use quorate_proto::{OpCode, Reply, Request, path};

use super::{limited_in_time, sent_when_awaited};
use crate::call::{Call, Operation, Repeat, run};
use crate::client::Client;
use crate::error::Result;
use crate::path::PathArg;
use crate::session::Response;

impl Client {
    /// Lists the ephemerals of this session whose paths start with `prefix`, in no order.
    ///
    /// `/` stands for all. Like the server this compares text: `/a` finds `/ab`. What is not below
    /// this handle's [`root`](Client::root) is left out.
    ///
    /// # Errors
    /// `Unimplemented` from servers before 3.6.
    ///
    /// # Cancel safety
    /// As for every [`Call`].
    ///
    /// Source: ZooKeeper `getEphemerals`; neither Curator nor kazoo has it.
    pub fn ephemerals(&self, prefix: &str) -> Ephemerals {
        Ephemerals {
            operation: Operation::new(self, "getEphemerals", prefix, Repeat::Freely),
        }
    }

    /// Counts all znodes below this one, itself not included.
    ///
    /// # Errors
    /// [`Error::is_no_node`](crate::Error::is_no_node) if it does not exist; `Unimplemented` from
    /// servers before 3.6.
    ///
    /// # Cancel safety
    /// As for every [`Call`].
    ///
    /// Source: ZooKeeper `getAllChildrenNumber`; neither Curator nor kazoo has it.
    pub fn count_descendants(&self, path: impl Into<PathArg>) -> CountDescendants {
        CountDescendants {
            operation: Operation::new(self, "getAllChildrenNumber", path, Repeat::Freely),
        }
    }

    /// Lists the identities that the server sees in this connection.
    ///
    /// # Errors
    /// `Unimplemented` from servers before 3.7.
    ///
    /// # Cancel safety
    /// As for every [`Call`].
    ///
    /// Source: ZooKeeper `whoAmI`; neither Curator nor kazoo has it.
    pub fn who_am_i(&self) -> WhoAmI {
        WhoAmI {
            operation: Operation::new(self, "whoAmI", "", Repeat::Freely),
        }
    }
}

/// Lists this session's ephemerals; see [`Client::ephemerals`].
#[derive(Debug)]
#[must_use = "nothing is sent before `send` or `.await`"]
pub struct Ephemerals {
    operation: Operation,
}

impl Ephemerals {
    /// Queues the request now; it leaves behind all that were queued before.
    pub fn send(self) -> Call<Vec<String>> {
        let operation = self.operation;
        let path = match operation.full_path() {
            Ok(path) => path,
            Err(error) => return Call::refused(error),
        };
        let request = move |operation: &Operation| {
            let request = Request::GetEphemerals {
                prefix: Some((&*path).into()),
            };
            operation.submit(&request, None, None)
        };
        let first = request(&operation);
        Call::new(run(operation, first, request, paths))
    }
}

limited_in_time!(Ephemerals);
sent_when_awaited!(Ephemerals => Vec<String>);

fn paths(operation: &Operation, response: Response) -> Result<Vec<String>> {
    let Reply::Children(paths) = operation.read(OpCode::GetEphemerals, &response)? else {
        return Err(operation.misshapen(&response));
    };
    let root = &operation.client.root;
    let strip = |full: &str| {
        let below = root.strip(full);
        let is_below = root.as_path() == path::ROOT || below.len() < full.len();
        is_below.then(|| below.to_owned())
    };
    Ok(paths.iter().filter_map(|full| strip(full)).collect())
}

/// Counts descendants; see [`Client::count_descendants`].
#[derive(Debug)]
#[must_use = "nothing is sent before `send` or `.await`"]
pub struct CountDescendants {
    operation: Operation,
}

impl CountDescendants {
    /// Queues the request now; it leaves behind all that were queued before.
    pub fn send(self) -> Call<u64> {
        let operation = self.operation;
        let path = match operation.full_path() {
            Ok(path) => path,
            Err(error) => return Call::refused(error),
        };
        let request = move |operation: &Operation| {
            let request = Request::GetAllChildrenNumber {
                path: (&*path).into(),
            };
            operation.submit(&request, None, None)
        };
        let first = request(&operation);
        Call::new(run(operation, first, request, count))
    }
}

limited_in_time!(CountDescendants);
sent_when_awaited!(CountDescendants => u64);

fn count(operation: &Operation, response: Response) -> Result<u64> {
    match operation.read(OpCode::GetAllChildrenNumber, &response)? {
        Reply::TotalNumber(count) => {
            u64::try_from(count).map_err(|_| operation.misshapen(&response))
        }
        _ => Err(operation.misshapen(&response)),
    }
}

/// One identity of a connection, as the server shows it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub struct Identity {
    /// `ip`, `digest`, `sasl`, `x509`…
    pub scheme: String,
    /// What may be shown of the id: of a digest the user.
    pub user: String,
}

/// Lists this connection's identities; see [`Client::who_am_i`].
#[derive(Debug)]
#[must_use = "nothing is sent before `send` or `.await`"]
pub struct WhoAmI {
    operation: Operation,
}

impl WhoAmI {
    /// Queues the request now; it leaves behind all that were queued before.
    pub fn send(self) -> Call<Vec<Identity>> {
        let request = |operation: &Operation| operation.submit(&Request::WhoAmI, None, None);
        let first = request(&self.operation);
        Call::new(run(self.operation, first, request, identities))
    }
}

limited_in_time!(WhoAmI);
sent_when_awaited!(WhoAmI => Vec<Identity>);

fn identities(operation: &Operation, response: Response) -> Result<Vec<Identity>> {
    let Reply::WhoAmI(infos) = operation.read(OpCode::WhoAmI, &response)? else {
        return Err(operation.misshapen(&response));
    };
    let identity = |info: quorate_proto::reply::ClientInfo<'_>| Identity {
        scheme: info.scheme.into_owned(),
        user: info.user.into_owned(),
    };
    Ok(infos.into_iter().map(identity).collect())
}
