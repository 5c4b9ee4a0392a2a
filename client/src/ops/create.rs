//! create.

use std::time::Duration;

use bytes::Bytes;
use quorate_proto::{Acl, AclRef, OpCode, Reply, Request, Stat, request};

use super::sent_when_awaited;
use crate::call::{Call, Operation, Repeat, run};
use crate::client::Client;
use crate::error::Result;
use crate::session::Response;

impl Client {
    /// Creates a znode with this data: persistent, and with the client's ACL, if nothing else is
    /// asked for.
    ///
    /// # Errors
    /// [`Error::is_node_exists`](crate::Error::is_node_exists) if it exists,
    /// [`Error::is_no_node`](crate::Error::is_no_node) if its parent does not.
    ///
    /// Source: ZooKeeper `create2`; Curator `create()`; kazoo `create`.
    pub fn create(&self, path: &str, data: impl Into<Bytes>) -> Create {
        Create {
            operation: Operation::new(self, "create", path, Repeat::OnlyIfItDidNotHappen),
            data: data.into(),
            flags: 0,
            acl: None,
        }
    }
}

/// A znode that was created.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Created {
    /// Its path, with the number that a sequential one got.
    pub path: String,
    /// Its `Stat`. `czxid` orders it among all that was ever created.
    pub stat: Stat,
}

/// Creates a znode; see [`Client::create`].
#[derive(Debug)]
#[must_use = "nothing is sent before `send` or `.await`"]
pub struct Create {
    operation: Operation,
    data: Bytes,
    flags: i32,
    acl: Option<Vec<Acl>>,
}

impl Create {
    /// It goes when the session goes.
    pub fn ephemeral(mut self) -> Create {
        self.flags |= 1;
        self
    }

    /// Its name gets the parent's next number, ten digits.
    pub fn sequential(mut self) -> Create {
        self.flags |= 2;
        self
    }

    /// Limits this call's time, waiting and repetitions included.
    pub fn timeout(mut self, time: Duration) -> Create {
        self.operation = self.operation.within(Some(time));
        self
    }

    /// Queues the request now; it leaves behind all that were queued before.
    pub fn send(self) -> Call<Created> {
        let Create {
            operation,
            data,
            flags,
            acl,
        } = self;
        let path = match operation.full_path() {
            Ok(path) => path,
            Err(error) => return Call::refused(error),
        };
        let acl = acl.unwrap_or_else(|| operation.client.inner.acl.acl_for(&operation.path));
        let request = move |operation: &Operation| {
            let acl: Vec<AclRef<'_>> = acl.iter().map(AclRef::from).collect();
            let request = request::Create {
                path: (&*path).into(),
                data: Some(&data),
                acl: Some(acl),
                flags,
            };
            operation.submit(&Request::Create2(request), None, None)
        };
        let first = request(&operation);
        Call::new(run(operation, first, request, created))
    }
}

sent_when_awaited!(Create => Created);

fn created(operation: &Operation, response: Response) -> Result<Created> {
    match operation.read(OpCode::Create2, &response)? {
        Reply::PathStat(path, stat) => Ok(Created {
            path: operation.client.root.strip(&path).to_owned(),
            stat,
        }),
        _ => Err(operation.misshapen(&response)),
    }
}
