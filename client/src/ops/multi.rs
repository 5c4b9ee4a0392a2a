//! multi: several writes, all or none.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_proto::multi::{MultiOp, MultiRequest, MultiResult};
use quorate_proto::request::{CreateTtl, PathVersion, SetData};
use quorate_proto::{Acl, OpCode, Reply, Request, Stat, Version, path};

use super::kind::{Kind, WireKind, full_path};
use super::{Created, limited_in_time, sent_when_awaited};
use crate::call::{Call, Operation, Repeat, run};
use crate::client::Client;
use crate::error::{Error, Reason, Result};
use crate::path::PathArg;
use crate::session::Response;

impl Client {
    /// Starts a transaction: its operations take effect together, or none does.
    ///
    /// ```
    /// use quorate_client::{CreateOp, OpResult};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> quorate_client::Result<()> {
    /// # let server = quorate_server::testing::TestServer::start().await;
    /// # let client = quorate_client::Client::connect(server.connect_string()).await?;
    /// # for path in ["/leader", "/state", "/log"] { client.create(path, "").await?; }
    /// # for _ in 0..3 { client.set("/leader", "").await?; }
    /// let results = client
    ///     .multi()
    ///     .check("/leader", 3)
    ///     .set("/state", "moved")
    ///     .create_with(CreateOp::new("/log/entry-", "moved").sequential())
    ///     .await?;
    /// if let Some(OpResult::Created(entry)) = results.last() {
    ///     println!("logged as {}", entry.path);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// That of the first operation that was refused; [`Error::failed_op`] says which one it was,
    /// and [`Error::path`] where. Nothing has changed then.
    ///
    /// # Cancel safety
    /// As for every [`Call`]; a transaction that takes effect unheard is not undone, sequential
    /// znodes included.
    ///
    /// Source: ZooKeeper `multi`; Curator `transaction()`; kazoo `transaction`.
    pub fn multi(&self) -> Multi {
        Multi {
            operation: Operation::new(self, "multi", "", Repeat::OnlyIfItDidNotHappen),
            ops: Vec::new(),
        }
    }
}

/// What an operation of a [`Multi`] did.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum OpResult {
    /// Created, with its `Stat` as of this operation. Servers before 3.7.2, 3.8.2 and 3.9 give a
    /// wrong `Stat` here (ZOOKEEPER-4026), and 3.5 none: then only its zxids are filled in, with
    /// the transaction's. All else is 0, `ephemeral_owner` and `data_length` too, also of an
    /// ephemeral with data: read the znode if you need them.
    Created(Created),
    /// Deleted.
    Deleted,
    /// Written, with its `Stat` as of this operation.
    Set(Stat),
    /// The version was as expected.
    Checked,
}

/// A create in a [`Multi`].
#[derive(Clone, Debug)]
#[must_use = "nothing is created before it is added and sent"]
pub struct CreateOp {
    path: PathArg,
    data: Bytes,
    kind: Kind,
    acl: Option<Vec<Acl>>,
}

impl CreateOp {
    /// Persistent, and with the client's ACL, if nothing else is asked for.
    pub fn new(path: impl Into<PathArg>, data: impl Into<Bytes>) -> CreateOp {
        CreateOp {
            path: path.into(),
            data: data.into(),
            kind: Kind::default(),
            acl: None,
        }
    }

    /// As [`Create::ephemeral`](crate::Create::ephemeral).
    pub fn ephemeral(mut self) -> CreateOp {
        self.kind.is_ephemeral = true;
        self
    }

    /// As [`Create::sequential`](crate::Create::sequential).
    pub fn sequential(mut self) -> CreateOp {
        self.kind.is_sequential = true;
        self
    }

    /// As [`Create::container`](crate::Create::container).
    pub fn container(mut self) -> CreateOp {
        self.kind.is_container = true;
        self
    }

    /// As [`Create::ttl`](crate::Create::ttl).
    pub fn ttl(mut self, ttl: Duration) -> CreateOp {
        self.kind.ttl = Some(ttl);
        self
    }

    /// As [`Create::acl`](crate::Create::acl).
    pub fn acl(mut self, acl: impl Into<Vec<Acl>>) -> CreateOp {
        self.acl = Some(acl.into());
        self
    }
}

#[derive(Clone, Debug)]
enum Op {
    Create(CreateOp),
    Delete(PathArg, Version),
    Set(PathArg, Bytes, Version),
    Check(PathArg, Version),
}

impl Op {
    fn path(&self) -> &PathArg {
        match self {
            Op::Create(create) => &create.path,
            Op::Delete(path, _) | Op::Set(path, ..) | Op::Check(path, _) => path,
        }
    }
}

/// A transaction in the making; see [`Client::multi`].
#[derive(Debug)]
#[must_use = "nothing is sent before `send` or `.await`"]
pub struct Multi {
    operation: Operation,
    ops: Vec<Op>,
}

impl Multi {
    /// Creates a persistent znode; [`create_with`](Multi::create_with) takes those of another kind.
    pub fn create(self, path: impl Into<PathArg>, data: impl Into<Bytes>) -> Multi {
        self.create_with(CreateOp::new(path, data))
    }

    /// Creates a znode of any kind.
    pub fn create_with(self, create: CreateOp) -> Multi {
        self.with(Op::Create(create))
    }

    /// Deletes a znode, whatever its version.
    pub fn delete(self, path: impl Into<PathArg>) -> Multi {
        self.with(Op::Delete(path.into(), Version::ANY))
    }

    /// Deletes a znode if it has this version.
    pub fn delete_version(self, path: impl Into<PathArg>, version: i32) -> Multi {
        self.with(Op::Delete(path.into(), Version(version)))
    }

    /// Replaces a znode's data, whatever its version.
    pub fn set(self, path: impl Into<PathArg>, data: impl Into<Bytes>) -> Multi {
        self.with(Op::Set(path.into(), data.into(), Version::ANY))
    }

    /// Replaces a znode's data if it has this version.
    pub fn set_version(
        self,
        path: impl Into<PathArg>,
        data: impl Into<Bytes>,
        version: i32,
    ) -> Multi {
        self.with(Op::Set(path.into(), data.into(), Version(version)))
    }

    /// Changes nothing, and lets the others take effect only if the znode has this version; -1 is
    /// any, so that it need only exist.
    pub fn check(self, path: impl Into<PathArg>, version: i32) -> Multi {
        self.with(Op::Check(path.into(), Version(version)))
    }

    fn with(mut self, op: Op) -> Multi {
        self.ops.push(op);
        self
    }

    /// How many operations it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether it has none. It may be sent then, too, and does nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Queues the request now; it leaves behind all that were queued before.
    pub fn send(self) -> Call<Vec<OpResult>> {
        let Multi { operation, ops } = self;
        let mut ready = Vec::with_capacity(ops.len());
        for (index, op) in ops.into_iter().enumerate() {
            match Ready::check(&operation, op) {
                Ok(op) => ready.push(op),
                Err((path, error)) => return Call::refused(error.of_op(index, path)),
            }
        }
        let paths: Vec<PathArg> = ready.iter().map(|op| op.op.path().clone()).collect();
        let request = move |operation: &Operation| {
            let ops = ready.iter().map(Ready::encode).collect();
            operation.submit(&Request::Multi(MultiRequest { ops }), None, None)
        };
        let first = request(&operation);
        Call::new(run(
            operation,
            first,
            request,
            move |operation, response| results(operation, &paths, response),
        ))
    }
}

limited_in_time!(Multi);
sent_when_awaited!(Multi => Vec<OpResult>);

/// An operation whose arguments were checked.
struct Ready {
    op: Op,
    /// The server's path.
    full: String,
    wire: WireKind,
    acl: Arc<[Acl]>,
}

impl Ready {
    fn check(operation: &Operation, op: Op) -> Result<Ready, (String, Error)> {
        let parts = Ready::parts(operation, &op);
        match parts {
            Ok((full, wire, acl)) => Ok(Ready {
                op,
                full,
                wire,
                acl,
            }),
            Err(error) => Err((op.path().to_string(), error)),
        }
    }

    fn parts(operation: &Operation, op: &Op) -> Result<(String, WireKind, Arc<[Acl]>)> {
        let Op::Create(create) = op else {
            let full = full_path(operation, op.path(), Kind::default())?;
            return Ok((full, WireKind::PERSISTENT, Vec::new().into()));
        };
        let bad = |text: &str| {
            Error::bad_argument(Reason::Option(text.to_owned()), operation.context(""))
        };
        let wire = create.kind.check().map_err(bad)?;
        let full = full_path(operation, &create.path, create.kind)?;
        if full == path::ROOT {
            return Err(bad("the root always exists"));
        }
        let acl = match &create.acl {
            Some(acl) => acl.as_slice().into(),
            None => operation.client.inner.acl_for(create.path.as_str()),
        };
        Ok((full, wire, acl))
    }

    fn encode(&self) -> MultiOp<'_> {
        let path = || self.full.as_str().into();
        let versioned = |version| PathVersion {
            path: path(),
            version,
        };
        match &self.op {
            Op::Create(create) => {
                let body = self.wire.body(&self.full, &create.data, &self.acl);
                match self.wire.op() {
                    OpCode::CreateContainer => MultiOp::CreateContainer(body),
                    OpCode::CreateTtl => MultiOp::CreateTtl(CreateTtl {
                        create: body,
                        ttl_ms: self.wire.ttl_ms,
                    }),
                    _ => MultiOp::Create2(body),
                }
            }
            Op::Delete(_, version) => MultiOp::Delete(versioned(*version)),
            Op::Set(_, data, version) => MultiOp::SetData(SetData {
                path: path(),
                data: Some(data),
                version: *version,
            }),
            Op::Check(_, version) => MultiOp::Check(versioned(*version)),
        }
    }
}

fn results(operation: &Operation, paths: &[PathArg], response: Response) -> Result<Vec<OpResult>> {
    let Reply::Multi(results) = operation.read(OpCode::Multi, &response)? else {
        return Err(operation.misshapen(&response));
    };
    // In front of the operation that was refused stand zeros, behind it `RuntimeInconsistency`.
    let refused = results.iter().enumerate().find_map(|(index, result)| {
        let code = match result {
            MultiResult::Error(code) if *code != 0 => *code,
            _ => return None,
        };
        Some((index, code))
    });
    if let Some((index, code)) = refused {
        let error = operation.refused(code, &response.server);
        let path = paths.get(index).map(PathArg::to_string).unwrap_or_default();
        return Err(error.of_op(index, path));
    }
    if results.len() != paths.len() {
        return Err(operation.misshapen(&response));
    }
    let strip = |path: &str| operation.client.root.strip(path).to_owned();
    let typed = |result: &MultiResult<'_>| match result {
        MultiResult::Create2 { path, stat } => Some(OpResult::Created(Created {
            path: strip(path),
            stat: *stat,
        })),
        // ZooKeeper 3.5 answers a create2 in a multi as a create.
        MultiResult::Create { path } => Some(OpResult::Created(Created {
            path: strip(path),
            stat: Stat {
                czxid: response.zxid.0,
                mzxid: response.zxid.0,
                pzxid: response.zxid.0,
                ..Stat::default()
            },
        })),
        MultiResult::Delete => Some(OpResult::Deleted),
        MultiResult::SetData(stat) => Some(OpResult::Set(*stat)),
        MultiResult::Check => Some(OpResult::Checked),
        _ => None,
    };
    let typed: Option<Vec<OpResult>> = results.iter().map(typed).collect();
    typed.ok_or_else(|| operation.misshapen(&response))
}
