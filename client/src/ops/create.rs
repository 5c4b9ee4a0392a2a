//! create.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_proto::{Acl, ErrorCode, Reply, Stat, path};
use tokio::time::timeout_at;

use super::kind::{Kind, WireKind, full_path};
use super::parents::{self, Parents};
use super::{Packing, sent_when_awaited};
use crate::call::{Call, Operation, Repeat, Retries, is_final};
use crate::client::Client;
use crate::compress::Compression;
use crate::error::{Error, Outcome, Reason, Result};
use crate::find::{FindError, Found, Protected, Protection, new_prefix};
use crate::janitor::{Job, Owed};
use crate::path::PathArg;
use crate::session::{Answer, Response};

impl Client {
    /// Creates a znode with this data: persistent, and with the client's ACL, if nothing else is
    /// asked for.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> quorate_client::Result<()> {
    /// # let server = quorate_server::testing::TestServer::start().await;
    /// # let client = quorate_client::Client::connect(server.connect_string()).await?;
    /// let member = client
    ///     .create("/members/m-", "10.0.0.7")
    ///     .ephemeral()
    ///     .sequential()
    ///     .protected()
    ///     .container_parents()
    ///     .await?;
    /// println!("{} since {:#x}", member.path, member.stat.czxid);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::is_node_exists`](crate::Error::is_node_exists) if it exists,
    /// [`Error::is_no_node`](crate::Error::is_no_node) if its parent does not,
    /// [`Error::BadArgument`](crate::Error::BadArgument) for options that exclude each other.
    ///
    /// # Cancel safety
    /// As for every [`Call`]. What a create makes that was dropped or ran out of time is deleted in
    /// the background if nobody could know its name: if it is [`sequential`](Create::sequential)
    /// (as long as its answer arrives) or [`protected`](Create::protected) (always). Parents that
    /// were made stay.
    ///
    /// Source: ZooKeeper `create2`; Curator `create()`; kazoo `create`.
    pub fn create(&self, path: impl Into<PathArg>, data: impl Into<Bytes>) -> Create {
        Create {
            operation: Operation::new(self, "create", path, Repeat::OnlyIfItDidNotHappen),
            data: data.into(),
            kind: Kind::default(),
            acl: None,
            parents: None,
            protection: None,
            is_idempotent: false,
            packing: Packing::default(),
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
    kind: Kind,
    acl: Option<Vec<Acl>>,
    parents: Option<Parents>,
    protection: Option<Protection>,
    is_idempotent: bool,
    packing: Packing,
}

impl Create {
    /// It goes when the session goes.
    pub fn ephemeral(mut self) -> Create {
        self.kind.is_ephemeral = true;
        self
    }

    /// Its name gets the parent's next number, ten digits. The path may end with a slash: then
    /// the number is the whole name.
    pub fn sequential(mut self) -> Create {
        self.kind.is_sequential = true;
        self
    }

    /// It goes when its last child has gone. ZooKeeper 3.5 and later.
    pub fn container(mut self) -> Create {
        self.kind.is_container = true;
        self
    }

    /// It goes when it has no children and its data was not set for this long. Servers may have
    /// TTLs switched off: the error is then `Unimplemented`.
    pub fn ttl(mut self, ttl: Duration) -> Create {
        self.kind.ttl = Some(ttl);
        self
    }

    /// Its ACL, instead of what the client's [`AclProvider`](crate::AclProvider) says.
    pub fn acl(mut self, acl: impl Into<Vec<Acl>>) -> Create {
        self.acl = Some(acl.into());
        self
    }

    /// Makes what is missing above it: persistent, empty, with the ACL of the client's
    /// [`AclProvider`](crate::AclProvider) for each path.
    ///
    /// Not atomic: parents that were made stay, whatever becomes of the znode.
    ///
    /// Source: Curator `creatingParentsIfNeeded`; kazoo `makepath`.
    pub fn parents(mut self) -> Create {
        self.parents = Some(Parents::Persistent);
        self
    }

    /// As [`parents`](Create::parents), with containers, which go when they are empty. Servers
    /// without containers get persistent ones.
    ///
    /// Source: Curator `creatingParentContainersIfNeeded`.
    pub fn container_parents(mut self) -> Create {
        self.parents = Some(Parents::Container);
        self
    }

    /// Makes the name findable, so that a create whose answer was lost is found instead of
    /// repeated: there is one znode or none, never two.
    ///
    /// The name gets the prefix `_c_`, a random UUID and a dash. After a lost connection the
    /// client lists the parent and looks for it; an ephemeral must also belong to this session.
    /// If the call fails in the end, or its future is dropped, what it may have made is found and
    /// deleted in the background. What the caller is told has
    /// [happened](crate::Error::Happened) stays.
    ///
    /// Source: Curator `withProtection`.
    pub fn protected(mut self) -> Create {
        self.protection = Some(Protection::Curator);
        self
    }

    /// As [`protected`](Create::protected), with the 32 hexadecimal digits that kazoo puts directly
    /// in front of the name, for those who share a directory with its recipes.
    pub fn protected_as_kazoo(mut self) -> Create {
        self.protection = Some(Protection::Kazoo);
        self
    }

    /// Assumes that it is ours if it is equal: when an answer was lost the create is repeated, and
    /// a znode that then exists, was never changed and holds the same data counts as created.
    ///
    /// A heuristic: the same znode made by another cannot be told apart (an ephemeral can: its
    /// owner is compared, too). Not for sequential znodes.
    ///
    /// Source: Curator `idempotent`.
    pub fn idempotent(mut self) -> Create {
        self.is_idempotent = true;
        self
    }

    /// Stores the data compressed. Nothing in the znode says so: readers must know.
    pub fn compressed(mut self, compression: impl Compression + 'static) -> Create {
        self.packing = Packing::with(compression);
        self
    }

    /// Limits this call's time, waiting and repetitions included.
    pub fn timeout(mut self, time: Duration) -> Create {
        self.operation = self.operation.within(Some(time));
        self
    }

    /// Queues the request now; it leaves behind all that were queued before.
    pub fn send(self) -> Call<Created> {
        match self.start() {
            Ok(created) => Call::new(created),
            Err(error) => Call::refused(error),
        }
    }

    fn start(self) -> Result<impl Future<Output = Result<Created>> + Send + 'static> {
        let Create {
            operation,
            data,
            kind,
            acl,
            parents,
            protection,
            is_idempotent,
            packing,
        } = self;
        let bad = |text: &str| {
            Error::bad_argument(Reason::Option(text.to_owned()), operation.context(""))
        };
        let wire = kind.check().map_err(bad)?;
        if is_idempotent && kind.is_sequential {
            return Err(bad("a sequential create is never idempotent: protect it"));
        }
        let data = packing.pack(&operation, data)?;
        let mut full = full_path(&operation, &operation.path, kind)?;
        if full == path::ROOT {
            return Err(bad("the root always exists"));
        }
        let acl = match acl {
            Some(acl) => acl.into(),
            None => operation.client.inner.acl_for(operation.path.as_str()),
        };
        let generation = (kind.is_ephemeral || operation.is_pinned).then_some(operation.generation);
        let protected = protection.map(|protection| {
            let (parent, name) = path::split(&full).unwrap_or((path::ROOT, ""));
            let prefix = new_prefix(protection);
            let protected = Protected {
                parent: parent.into(),
                prefix: prefix.as_str().into(),
                is_ephemeral: kind.is_ephemeral,
            };
            full = match parent {
                path::ROOT => format!("/{prefix}{name}"),
                parent => format!("{parent}/{prefix}{name}"),
            };
            protected
        });
        let owed = protected.as_ref().map(|protected| {
            let job = Job::Undo {
                protected: protected.clone(),
                created_in: operation.generation,
                generation,
            };
            Owed::new(operation.client.janitor(), job)
        });
        let creation = Creation {
            operation,
            data,
            kind,
            wire,
            full,
            acl,
            parents,
            protected,
            is_idempotent,
        };
        let first = creation.submit();
        Ok(creation.run(first, owed))
    }
}

sent_when_awaited!(Create => Created);

/// A create on its way.
struct Creation {
    operation: Operation,
    data: Bytes,
    kind: Kind,
    wire: WireKind,
    /// The server's path, without the number.
    full: String,
    acl: Arc<[Acl]>,
    parents: Option<Parents>,
    protected: Option<Protected>,
    is_idempotent: bool,
}

impl Creation {
    fn submit(&self) -> Result<Answer> {
        let request = self.wire.request(&self.full, &self.data, &self.acl);
        // A protected one is found by its name.
        let is_unfindable = self.kind.is_sequential && self.protected.is_none();
        let orphan = is_unfindable.then(|| {
            let janitor = self.operation.client.janitor();
            janitor.undo_unheard(self.wire.op(), self.kind.is_ephemeral)
        });
        self.operation.submit(&request, None, orphan)
    }

    async fn run(self, first: Result<Answer>, mut owed: Option<Owed>) -> Result<Created> {
        let result = self.attempts(first).await;
        let is_settled = match &result {
            Ok(_) => true,
            // It stands, and the caller is told so: it is theirs.
            Err(error) if error.outcome() == Outcome::Happened => true,
            Err(error) => error.outcome() == Outcome::DidNotHappen && !error.is_session_lost(),
        };
        if is_settled && let Some(owed) = &mut owed {
            owed.settle();
        }
        result
    }

    // What is rare lies in boxes of its own: room for all of it would be made for every create.
    async fn attempts(&self, first: Result<Answer>) -> Result<Created> {
        let mut attempt = first;
        let mut retries = Retries::default();
        let mut in_doubt = false;
        let mut parents_made = false;
        loop {
            let error = match attempt {
                Ok(answer) => match self.operation.answer(answer).await {
                    Ok(response) => {
                        return match (self.created(response), &self.protected) {
                            // Its name tells what the answer did not.
                            (Err(unreadable), Some(protected)) => {
                                match Box::pin(self.find(protected, &mut retries)).await {
                                    Ok(Some(found)) => Ok(self.found(found)),
                                    Ok(None) | Err(_) => Err(unreadable),
                                }
                            }
                            (created, _) => created,
                        };
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            match (error.code(), self.parents) {
                (Some(ErrorCode::NoNode), Some(parents)) => {
                    // The first time is the usual way; later somebody deletes what we make.
                    if parents_made {
                        let still = |error| self.operation.still_in_doubt(error, in_doubt);
                        Box::pin(retries.pause(&self.operation, error))
                            .await
                            .map_err(still)?;
                    }
                    parents_made = true;
                    attempt = match Box::pin(self.make_parents(parents)).await {
                        // The same, and judged by the create again.
                        Err(error) if error.is_no_node() => Err(error),
                        Err(error) => return Err(self.operation.still_in_doubt(error, in_doubt)),
                        Ok(()) => self.submit(),
                    };
                    continue;
                }
                (Some(ErrorCode::NodeExists), _) if in_doubt && self.is_idempotent => {
                    return Box::pin(self.assume_mine_if_equal(error)).await;
                }
                _ => {}
            }
            let is_unknown = is_unknown_but_not_late(&error);
            let may_go_on = error.is_retryable()
                || (is_unknown && (self.is_idempotent || self.protected.is_some()));
            if !may_go_on {
                return Err(self.operation.still_in_doubt(error, in_doubt));
            }
            in_doubt |= is_unknown;
            let still = |error| self.operation.still_in_doubt(error, in_doubt);
            Box::pin(retries.pause(&self.operation, error))
                .await
                .map_err(still)?;
            if in_doubt && let Some(protected) = &self.protected {
                match Box::pin(self.find(protected, &mut retries)).await? {
                    Some(found) => return Ok(self.found(found)),
                    None => in_doubt = false,
                }
            }
            attempt = self.submit();
        }
    }

    async fn make_parents(&self, parents: Parents) -> Result<()> {
        match path::split(&self.full) {
            Some((parent, _)) if parent != path::ROOT => {
                parents::make(&self.operation, parent, parents).await
            }
            _ => Ok(()),
        }
    }

    /// What an earlier attempt has made, if it has.
    async fn find(&self, protected: &Protected, retries: &mut Retries) -> Result<Option<Found>> {
        let operation = &self.operation;
        let session = operation.client.session();
        loop {
            let search = protected.find(session, Some(operation.generation));
            let found = match operation.deadline {
                None => search.await,
                Some(deadline) => match timeout_at(deadline, search).await {
                    Ok(found) => found,
                    Err(_) => {
                        return Err(Error::unknown(Reason::TimedOut, operation.context("")));
                    }
                },
            };
            let error = match found {
                Ok(found) => return Ok(found),
                Err(FindError::Failed(failure)) => operation.failed(failure),
                Err(FindError::Refused { code, server }) => operation.refused(code, &server),
                Err(FindError::Unreadable) => {
                    let reason = Reason::Protocol("a reply cannot be read".to_owned());
                    Error::unknown(reason, operation.context(""))
                }
            };
            // The search changes nothing: what is in doubt is the create.
            let may_go_on = error.is_retryable() || is_unknown_but_not_late(&error);
            let error = operation.still_in_doubt(error, true);
            if !may_go_on {
                return Err(error);
            }
            retries.pause(operation, error).await?;
        }
    }

    fn found(&self, found: Found) -> Created {
        Created {
            path: self.operation.client.root.strip(&found.path).to_owned(),
            stat: found.stat,
        }
    }

    fn created(&self, response: Response) -> Result<Created> {
        match self.operation.read(self.wire.op(), &response)? {
            Reply::PathStat(path, stat) => Ok(Created {
                path: self.operation.client.root.strip(&path).to_owned(),
                stat,
            }),
            _ => Err(self.operation.misshapen(&response)),
        }
    }

    async fn assume_mine_if_equal(&self, exists: Error) -> Result<Created> {
        let path: Arc<str> = self.full.as_str().into();
        let still = |error| self.operation.still_in_doubt(error, true);
        let found = super::get::read_now(&self.operation, &path).await;
        let Some((node, session)) = found.map_err(still)? else {
            // Deleted meanwhile: whether it was ours nobody can tell.
            return Err(still(exists));
        };
        let owner = if self.kind.is_ephemeral { session.0 } else { 0 };
        let is_equal =
            node.stat.version == 0 && node.data == self.data && node.stat.ephemeral_owner == owner;
        match is_equal {
            true => Ok(Created {
                path: self.operation.client.root.strip(&path).to_owned(),
                stat: node.stat,
            }),
            // Another's, or ours with what others wrote since: nobody can tell.
            false => Err(still(exists)),
        }
    }
}

/// No answer came, and there is time to look.
fn is_unknown_but_not_late(error: &Error) -> bool {
    matches!(error, Error::Unknown { reason, .. } if !is_final(reason))
}
