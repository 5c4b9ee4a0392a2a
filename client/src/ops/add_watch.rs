//! addWatch.

use std::sync::Arc;

use quorate_proto::{AddWatchMode, Request};

use crate::call::{Call, Operation, Repeat, run};
use crate::client::Client;
use crate::path::PathArg;
use crate::session::{Arm, Unwatch, table_of};
use crate::watch::{NoticeQueue, WatchStream};

impl Client {
    /// Watches a znode for every change until the stream is dropped: its creation, its data, its
    /// deletion, and the coming and going of its children. It need not exist.
    ///
    /// The request is queued by this call.
    ///
    /// ```
    /// use futures::StreamExt;
    /// use quorate_client::Notice;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> quorate_client::Result<()> {
    /// # let server = quorate_server::testing::TestServer::start().await;
    /// # let client = quorate_client::Client::connect(server.connect_string()).await?;
    /// let mut changes = client.watch("/app").await?;
    /// # client.create("/app", "").await?;
    /// while let Some(notice) = changes.next().await {
    ///     match notice {
    ///         Notice::Event(event) => println!("{:?} {}", event.kind, event.path),
    ///         Notice::Gap { .. } => println!("read again: something may have been missed"),
    ///         Notice::Lost(reason) => println!("no more: {reason}"),
    ///         _ => {}
    ///     }
    /// #     break;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorCode::Unimplemented`](crate::ErrorCode::Unimplemented) from servers before
    /// ZooKeeper 3.6, which know one-shot watches only:
    /// [`follow`](Client::follow) and the caches work there too. Such a server closes the
    /// connection behind its answer, and the client takes the session up again on another.
    ///
    /// # Cancel safety
    /// A dropped call leaves no watch behind.
    ///
    /// Source: ZooKeeper `addWatch` with `PERSISTENT`; Curator `watchers().add()`; kazoo
    /// `add_watch`.
    pub fn watch(&self, path: impl Into<PathArg>) -> Call<WatchStream> {
        add_watch(self, path, AddWatchMode::Persistent)
    }

    /// Watches a znode and all below it for every change until the stream is dropped. What comes
    /// and goes is told by the path of the child, and never as a change of its parent.
    ///
    /// The request is queued by this call.
    ///
    /// # Errors
    /// As [`watch`](Client::watch).
    ///
    /// # Cancel safety
    /// A dropped call leaves no watch behind.
    ///
    /// Source: ZooKeeper `addWatch` with `PERSISTENT_RECURSIVE`; Curator `PersistentWatcher`; kazoo
    /// `add_watch`.
    pub fn watch_recursive(&self, path: impl Into<PathArg>) -> Call<WatchStream> {
        add_watch(self, path, AddWatchMode::PersistentRecursive)
    }
}

fn add_watch(client: &Client, path: impl Into<PathArg>, mode: AddWatchMode) -> Call<WatchStream> {
    let operation = Operation::new(client, "addWatch", path, Repeat::Freely);
    let path = match operation.full_path() {
        Ok(path) => path,
        Err(error) => return Call::refused(error),
    };
    let mut stream = None;
    let request = move |operation: &Operation, stream: &mut Option<WatchStream>| {
        let (arm, armed) = lasting(&operation.client, &path, mode);
        *stream = Some(armed);
        let request = Request::AddWatch {
            path: (&*path).into(),
            mode,
        };
        operation.submit(&request, Some(arm), None)
    };
    let first = request(&operation, &mut stream);
    Call::new(async move {
        run(
            operation,
            first,
            |op| request(op, &mut stream),
            |_, _| Ok(()),
        )
        .await?;
        Ok(stream.expect("made with the request"))
    })
}

/// The two ends of a lasting watch: what the session arms, and what the caller gets.
fn lasting(client: &Client, path: &Arc<str>, mode: AddWatchMode) -> (Arm, WatchStream) {
    let queue = Arc::new(NoticeQueue::default());
    let session = client.session();
    let id = session.next_watch_id();
    let arm = Arm::Lasting {
        path: Arc::clone(path),
        id,
        mode,
        queue: Arc::clone(&queue),
    };
    let stream = WatchStream {
        queue,
        root: client.root.clone(),
        _off: Unwatch::new(Arc::clone(session), Arc::clone(path), table_of(mode), id),
    };
    (arm, stream)
}
