//! Whole paths and subtrees. None of these is atomic: each is many operations.

use quorate_proto::path;

use super::delete::{is_kept_by_the_system, was_not_empty};
use super::parents::{self, Parents};
use crate::call::{Call, Operation, Repeat, Retries, attempts};
use crate::client::Client;
use crate::error::{Error, Reason, Result};
use crate::path::PathArg;

/// Deletes that are on their way at once.
const DELETES_MAX: usize = 256;

impl Client {
    /// Makes this znode and whatever is missing above it: persistent and empty. That it exists is
    /// as good.
    ///
    /// Not atomic, and nothing is sent before the future is polled.
    ///
    /// # Errors
    /// [`Error::NotAllowed`](crate::Error::NotAllowed), or those of the connection.
    ///
    /// # Cancel safety
    /// What was made until then stays.
    ///
    /// Source: Curator `createContainers`, `EnsurePath`; kazoo `ensure_path`.
    pub async fn ensure_path(&self, path: impl Into<PathArg>) -> Result<()> {
        self.ensure(path, Parents::Persistent).await
    }

    /// As [`ensure_path`](Client::ensure_path), with containers, which go when they are empty.
    ///
    /// # Errors
    /// As [`ensure_path`](Client::ensure_path).
    ///
    /// # Cancel safety
    /// As [`ensure_path`](Client::ensure_path).
    ///
    /// Source: Curator `createContainers`.
    pub async fn ensure_containers(&self, path: impl Into<PathArg>) -> Result<()> {
        self.ensure(path, Parents::Container).await
    }

    async fn ensure(&self, path: impl Into<PathArg>, kind: Parents) -> Result<()> {
        let operation = Operation::new(self, "create", path, Repeat::Freely);
        let full = operation.full_path()?;
        if &*full == path::ROOT {
            return Ok(());
        }
        let mut retries = Retries::default();
        loop {
            match parents::make(&operation, &full, kind).await {
                // Somebody deletes what we make.
                Err(error) if error.is_no_node() => retries.pause(&operation, error).await?,
                made => return made,
            }
        }
    }

    /// Deletes a znode and all below it, leaves first. That there is nothing is as good.
    ///
    /// Not atomic: others see it go piece by piece, and an error leaves the rest. It goes on for
    /// as long as others create below; each step has the client's time limit for operations.
    /// Nothing is sent before the future is polled.
    ///
    /// # Errors
    /// [`Error::BadArgument`](crate::Error::BadArgument) for what the system keeps: the server's
    /// own root, and `/zookeeper`.
    ///
    /// # Cancel safety
    /// What was deleted until then stays deleted.
    ///
    /// Source: ZooKeeper `ZKUtil.deleteRecursive`; Curator `deletingChildrenIfNeeded`; kazoo
    /// `delete(recursive=True)`.
    pub async fn delete_recursive(&self, path: impl Into<PathArg>) -> Result<()> {
        let operation = Operation::new(self, "delete", path, Repeat::Freely);
        let full = operation.full_path()?;
        if is_kept_by_the_system(&full) {
            let reason = Reason::Option("the system keeps this znode".to_owned());
            return Err(Error::bad_argument(reason, operation.context("")));
        }
        let mut not_empty = vec![full.to_string()];
        while let Some(at) = not_empty.last() {
            if !was_not_empty(self.delete_freely(at).await)? {
                not_empty.pop();
                continue;
            }
            let at = at.clone();
            let names = match self.children(self.root.strip(&at)).await {
                Ok((names, _)) => names,
                Err(error) if error.is_no_node() => continue,
                Err(error) => return Err(error),
            };
            for names in names.chunks(DELETES_MAX) {
                let calls: Vec<_> = names
                    .iter()
                    .map(|name| {
                        let full = format!("{at}/{name}");
                        let call = self.delete_freely(&full);
                        (full, call)
                    })
                    .collect();
                for (full, call) in calls {
                    if was_not_empty(call.await)? {
                        not_empty.push(full);
                    }
                }
            }
        }
        Ok(())
    }

    fn delete_freely(&self, full: &str) -> Call<()> {
        let operation = Operation::new(self, "delete", self.root.strip(full), Repeat::Freely);
        let full = full.to_owned();
        let request = move |operation: &Operation| super::delete::submit(operation, &full);
        let first = request(&operation);
        Call::new(async move {
            let (answer, in_doubt) = attempts(&operation, first, request).await;
            let result = answer.map_err(|error| operation.still_in_doubt(error, in_doubt));
            operation.ended(result.as_ref().err());
            result.map(drop)
        })
    }
}
