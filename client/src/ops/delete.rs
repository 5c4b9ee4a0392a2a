//! delete.

use quorate_proto::request::PathVersion;
use quorate_proto::{Request, Version, path};

use super::{limited_in_time, sent_when_awaited};
use crate::call::{Call, Operation, Repeat, attempts};
use crate::client::Client;
use crate::error::{Error, Outcome, Result};
use crate::janitor::{Job, Owed};
use crate::path::PathArg;
use crate::session::Answer;

impl Client {
    /// Deletes a znode without children, whatever its version.
    ///
    /// # Errors
    /// [`Error::is_no_node`](crate::Error::is_no_node) if it does not exist,
    /// [`Error::is_not_empty`](crate::Error::is_not_empty) if it has children.
    ///
    /// # Cancel safety
    /// As for every [`Call`]; a [`guaranteed`](Delete::guaranteed) one goes on in the background.
    ///
    /// Source: ZooKeeper `delete`; Curator `delete()`; kazoo `delete`.
    pub fn delete(&self, path: impl Into<PathArg>) -> Delete {
        Delete {
            operation: Operation::new(self, "delete", path, Repeat::OnlyIfItDidNotHappen),
            version: Version::ANY,
            is_idempotent: false,
            is_guaranteed: false,
        }
    }
}

/// Deletes a znode; see [`Client::delete`].
#[derive(Debug)]
#[must_use = "nothing is sent before `send` or `.await`"]
pub struct Delete {
    operation: Operation,
    version: Version,
    is_idempotent: bool,
    is_guaranteed: bool,
}

impl Delete {
    /// Only if the znode has this version.
    ///
    /// The call fails with [`Error::is_bad_version`](crate::Error::is_bad_version) otherwise.
    pub fn version(mut self, version: i32) -> Delete {
        self.version = Version(version);
        self
    }

    /// Assumes that it was us: when an answer was lost the delete is repeated, and a znode that is
    /// gone by then counts as deleted.
    ///
    /// A heuristic: a delete by another cannot be told apart, and a znode that another created
    /// again in between is deleted, unless a [`version`](Delete::version) protects it.
    ///
    /// Source: Curator `idempotent`.
    pub fn idempotent(mut self) -> Delete {
        self.is_idempotent = true;
        self.operation.repeat = Repeat::Freely;
        self
    }

    /// Goes on in the background when this call is dropped or fails for want of an answer, until
    /// the znode is gone, the server refuses it, or the client is closed. Implies
    /// [`idempotent`](Delete::idempotent).
    ///
    /// Through a [`pinned`](Client::pinned) handle it also ends with the session; use one for
    /// ephemerals, or a later session may delete what another has created at that path.
    ///
    /// The state is in memory: a process that ends before the delete is done forgets it.
    ///
    /// Source: Curator `guaranteed`.
    pub fn guaranteed(mut self) -> Delete {
        self.is_guaranteed = true;
        self.idempotent()
    }

    /// [`guaranteed`](Delete::guaranteed), and nobody waits for it. May be called from `Drop`: it
    /// neither waits nor needs a runtime.
    pub fn in_background(self) {
        drop(self.guaranteed().send());
    }

    /// Queues the request now; it leaves behind all that were queued before.
    pub fn send(self) -> Call<()> {
        let Delete {
            operation,
            version,
            is_idempotent,
            is_guaranteed,
        } = self;
        let path = match operation.full_path() {
            Ok(path) => path,
            Err(error) => return Call::refused(error),
        };
        let owed = is_guaranteed.then(|| {
            let job = Job::Delete {
                path: path.clone(),
                version,
                czxid: None,
                generation: operation.is_pinned.then_some(operation.generation),
            };
            Owed::new(operation.client.janitor(), job)
        });
        let request = move |operation: &Operation| {
            let request = PathVersion {
                path: (&*path).into(),
                version,
            };
            operation.submit(&Request::Delete(request), None, None)
        };
        let first = request(&operation);
        Call::new(async move {
            // Captured whole, so that a call that was never polled leaves its job, too.
            let mut owed = owed;
            let (answer, in_doubt) = attempts(&operation, first, request).await;
            let result = match answer {
                Ok(_) => Ok(()),
                Err(error) if error.is_no_node() && in_doubt && is_idempotent => Ok(()),
                Err(error) => Err(operation.still_in_doubt(error, in_doubt)),
            };
            if let Some(owed) = &mut owed
                && is_final(&result)
            {
                owed.settle();
            }
            result
        })
    }
}

limited_in_time!(Delete);
sent_when_awaited!(Delete => ());

/// Whether another attempt would end in the same way.
fn is_final(result: &Result<()>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) => {
            error.outcome() == Outcome::DidNotHappen
                && !error.is_retryable()
                && !error.is_session_lost()
        }
    }
}

/// Queues a delete of any version; the server's path.
pub(crate) fn submit(operation: &Operation, full: &str) -> Result<Answer> {
    let request = Request::Delete(PathVersion {
        path: full.into(),
        version: Version::ANY,
    });
    operation.submit(&request, None, None)
}

/// Whether a delete that need not find anything found children.
pub(crate) fn was_not_empty(deleted: Result<(), Error>) -> Result<bool> {
    match deleted {
        Ok(()) => Ok(false),
        Err(error) if error.is_no_node() => Ok(false),
        Err(error) if error.is_not_empty() => Ok(true),
        Err(error) => Err(error),
    }
}

/// Whether the system keeps this znode.
pub(crate) fn is_kept_by_the_system(full: &str) -> bool {
    path::is_reserved(full) || full.starts_with("/zookeeper/")
}
