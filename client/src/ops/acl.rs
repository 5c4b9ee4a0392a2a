//! getACL and setACL.

use quorate_proto::{Acl, AclRef, OpCode, Reply, Request, Stat, Version};

use super::{limited_in_time, sent_when_awaited};
use crate::call::{Call, Operation, Repeat, run};
use crate::client::Client;
use crate::error::Result;
use crate::path::PathArg;
use crate::session::Response;

impl Client {
    /// Reads who may do what with a znode, with its `Stat`.
    ///
    /// Hashes of `digest` ids are masked by the server unless the caller may set the ACL.
    ///
    /// # Errors
    /// [`Error::is_no_node`](crate::Error::is_no_node) if it does not exist.
    ///
    /// # Cancel safety
    /// As for every [`Call`].
    ///
    /// Source: ZooKeeper `getACL`; Curator `getACL()`; kazoo `get_acls`.
    pub fn get_acl(&self, path: impl Into<PathArg>) -> GetAcl {
        GetAcl {
            operation: Operation::new(self, "getACL", path, Repeat::Freely),
        }
    }

    /// Replaces who may do what with a znode, whatever the version of its ACL.
    ///
    /// # Errors
    /// [`Error::is_no_node`](crate::Error::is_no_node) if it does not exist;
    /// [`Error::BadArgument`](crate::Error::BadArgument) for an empty list or an entry that the
    /// server does not know.
    ///
    /// # Cancel safety
    /// As for every [`Call`].
    ///
    /// Source: ZooKeeper `setACL`; Curator `setACL()`; kazoo `set_acls`.
    pub fn set_acl(&self, path: impl Into<PathArg>, acl: impl Into<Vec<Acl>>) -> SetAcl {
        SetAcl {
            operation: Operation::new(self, "setACL", path, Repeat::OnlyIfItDidNotHappen),
            acl: acl.into(),
            version: Version::ANY,
        }
    }
}

/// Reads an ACL; see [`Client::get_acl`].
#[derive(Debug)]
#[must_use = "nothing is sent before `send` or `.await`"]
pub struct GetAcl {
    operation: Operation,
}

impl GetAcl {
    /// Queues the request now; it leaves behind all that were queued before.
    pub fn send(self) -> Call<(Vec<Acl>, Stat)> {
        let operation = self.operation;
        let path = match operation.full_path() {
            Ok(path) => path,
            Err(error) => return Call::refused(error),
        };
        let request = move |operation: &Operation| {
            let request = Request::GetAcl {
                path: (&*path).into(),
            };
            operation.submit(&request, None, None)
        };
        let first = request(&operation);
        Call::new(run(operation, first, request, acl))
    }
}

limited_in_time!(GetAcl);
sent_when_awaited!(GetAcl => (Vec<Acl>, Stat));

fn acl(operation: &Operation, response: Response) -> Result<(Vec<Acl>, Stat)> {
    match operation.read(OpCode::GetAcl, &response)? {
        Reply::AclStat(acl, stat) => {
            let acl: Option<Vec<Acl>> = acl.iter().map(AclRef::to_acl).collect();
            let acl = acl.ok_or_else(|| operation.misshapen(&response))?;
            Ok((acl, stat))
        }
        _ => Err(operation.misshapen(&response)),
    }
}

/// Replaces an ACL; see [`Client::set_acl`].
#[derive(Debug)]
#[must_use = "nothing is sent before `send` or `.await`"]
pub struct SetAcl {
    operation: Operation,
    acl: Vec<Acl>,
    version: Version,
}

impl SetAcl {
    /// Only if the ACL has this version: [`Stat::aversion`], not the version of the data.
    ///
    /// The call fails with [`Error::is_bad_version`](crate::Error::is_bad_version) otherwise.
    pub fn version(mut self, version: i32) -> SetAcl {
        self.version = Version(version);
        self
    }

    /// Queues the request now; it leaves behind all that were queued before.
    pub fn send(self) -> Call<Stat> {
        let SetAcl {
            operation,
            acl,
            version,
        } = self;
        let path = match operation.full_path() {
            Ok(path) => path,
            Err(error) => return Call::refused(error),
        };
        let request = move |operation: &Operation| {
            let request = Request::SetAcl {
                path: (&*path).into(),
                acl: Some(acl.iter().map(AclRef::from).collect()),
                version,
            };
            operation.submit(&request, None, None)
        };
        let first = request(&operation);
        Call::new(run(operation, first, request, stat))
    }
}

limited_in_time!(SetAcl);
sent_when_awaited!(SetAcl => Stat);

fn stat(operation: &Operation, response: Response) -> Result<Stat> {
    match operation.read(OpCode::SetAcl, &response)? {
        Reply::Stat(stat) => Ok(stat),
        _ => Err(operation.misshapen(&response)),
    }
}
