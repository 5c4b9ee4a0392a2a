//! The operations, one file each: a builder that is sent when it is awaited, or earlier with
//! `send`.
//!
//! A path is checked here, before anything is sent: what breaks the rules is
//! [`Error::BadArgument`](crate::Error::BadArgument).

mod acl;
mod add_auth;
mod add_watch;
mod config;
mod create;
mod delete;
mod exists;
mod get;
mod get_children;
mod kind;
mod multi;
mod multi_read;
mod packing;
mod parents;
mod queries;
mod set_data;
mod sync;
mod tree;
mod typed;

use std::sync::Arc;

use bytes::Bytes;
use quorate_proto::request::PathWatch;
use quorate_proto::{Request, Stat};
use tokio::sync::oneshot;

use crate::call::{Call, Operation, attempts};
use crate::client::Client;
use crate::error::{Error, Reason, Result};
use crate::session::{Arm, Response, Table, Unwatch};
use crate::watch::Watch;

pub use acl::{GetAcl, SetAcl};
pub use config::{EnsembleConfig, EnsembleMember, Reconfig};
pub use create::{Create, Created};
pub use delete::Delete;
pub use exists::Exists;
pub use get::Get;
pub use get_children::GetChildren;
pub use multi::{CreateOp, Multi, OpResult};
pub use multi_read::{MultiRead, ReadResult};
pub(crate) use packing::Packing;
pub use queries::{CountDescendants, Ephemerals, Identity, WhoAmI};
pub use set_data::SetData;
pub use sync::SyncPath;
pub use typed::{TypedNode, Versioned};

/// A znode's data and its `Stat`.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Node {
    /// Its data; empty where the znode has none.
    pub data: Bytes,
    /// Its versions, times and owner.
    pub stat: Stat,
}

impl Node {
    /// The data as text.
    ///
    /// # Errors
    /// If it is not UTF-8.
    pub fn text(&self) -> std::result::Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(&self.data)
    }
}

/// Gives a builder what all of them have: `send`, and `.await`.
macro_rules! sent_when_awaited {
    ($builder:ident => $output:ty) => {
        impl std::future::IntoFuture for $builder {
            type Output = $crate::Result<$output>;
            type IntoFuture = $crate::Call<$output>;

            fn into_future(self) -> $crate::Call<$output> {
                self.send()
            }
        }
    };
}
pub(crate) use sent_when_awaited;

/// Gives a builder its `timeout`.
macro_rules! limited_in_time {
    ($builder:ident) => {
        impl $builder {
            /// Limits this call's time, waiting and repetitions included.
            pub fn timeout(mut self, time: std::time::Duration) -> $builder {
                self.operation = self.operation.within(Some(time));
                self
            }
        }
    };
}
pub(crate) use limited_in_time;

impl Operation {
    /// Checks the operation's own path and gives the server's.
    pub(crate) fn full_path(&self) -> Result<Arc<str>> {
        self.path
            .check()
            .map_err(|error| Error::bad_argument(Reason::Path(error), self.context("")))?;
        Ok(self.client.root.full_shared(self.path.text()))
    }
}

/// The two ends of a one-shot watch: what the session arms, and what the caller gets.
fn one_shot(client: &Client, path: &Arc<str>, read: WatchedRead) -> (Arm, Watch) {
    let table = read.table();
    let (fire, fired) = oneshot::channel();
    let id = client.session().next_watch_id();
    let arm = Arm::Once {
        path: Arc::clone(path),
        id,
        table,
        exists: read == WatchedRead::Exists,
        fire,
    };
    let off = Unwatch::new(Arc::clone(client.session()), Arc::clone(path), table, id);
    (
        arm,
        Watch {
            fired,
            root: client.root.clone(),
            off,
        },
    )
}

/// A read that leaves a one-shot watch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WatchedRead {
    Data,
    /// Its watch is armed also where there is nothing.
    Exists,
    Children,
}

impl WatchedRead {
    fn request(self, path: &str) -> Request<'_> {
        let read = PathWatch {
            path: path.into(),
            watch: true,
        };
        match self {
            WatchedRead::Data => Request::GetData(read),
            WatchedRead::Exists => Request::Exists(read),
            WatchedRead::Children => Request::GetChildren2(read),
        }
    }

    const fn table(self) -> Table {
        match self {
            WatchedRead::Data | WatchedRead::Exists => Table::Data,
            WatchedRead::Children => Table::Child,
        }
    }
}

/// Reads with a one-shot watch: sends the request now, and arms a new watch with each repetition.
pub(crate) fn read_and_watch<T: Send + 'static>(
    operation: Operation,
    read: WatchedRead,
    found: impl FnOnce(&Operation, Result<Response>) -> Result<T> + Send + 'static,
) -> Call<(T, Watch)> {
    let path = match operation.full_path() {
        Ok(path) => path,
        Err(error) => return Call::refused(error),
    };
    let mut watch = None;
    let request = move |operation: &Operation, watch: &mut Option<Watch>| {
        let (arm, watcher) = one_shot(&operation.client, &path, read);
        *watch = Some(watcher);
        operation.submit(&read.request(&path), Some(arm), None)
    };
    let first = request(&operation, &mut watch);
    Call::new(async move {
        let (answered, _) = attempts(&operation, first, |op| request(op, &mut watch)).await;
        let result = found(&operation, answered);
        operation.ended(result.as_ref().err());
        Ok((result?, watch.expect("made with the request")))
    })
}

/// Bytes of a reply that may be kept for long: small ones are copied, so that they do not hold the
/// whole of what was read with them.
pub(crate) fn detach(body: &Bytes, part: &[u8]) -> Bytes {
    match part.len() {
        0 => Bytes::new(),
        len if len < 16 * 1024 => Bytes::copy_from_slice(part),
        _ => body.slice_ref(part),
    }
}
