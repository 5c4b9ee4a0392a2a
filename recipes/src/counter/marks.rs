//! How a lost answer is settled: a second znode, written together with the first, tells.
//!
//! Each write is a multi with a write to our own mark, on the mark's version. When its answer is
//! lost we write to the mark ourselves, on the same version. One of the two is first, and the other
//! will never take effect. What then stands in the mark says which it was.

use std::sync::Arc;

use bytes::Bytes;
use quorate_client::{Client, Error, Multi, OpResult, Outcome, Result};
use tokio::sync::Mutex;

const COUNTED: Bytes = Bytes::from_static(b"counted");
const NOT_COUNTED: Bytes = Bytes::from_static(b"not counted");

/// The marks of one handle and its clones. One write at a time goes through it.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    directory: Arc<str>,
    /// Taken out while it is used: a future that is dropped in between leaves none.
    mark: Arc<Mutex<Option<Mark>>>,
}

impl Marks {
    pub(crate) fn new(directory: &str) -> Marks {
        Marks {
            directory: directory.trim_end_matches('/').into(),
            mark: Arc::default(),
        }
    }

    /// Runs a multi to which `add` gives its operations, and finds out what became of it.
    pub(crate) async fn run(
        &self,
        client: &Client,
        add: impl FnOnce(Multi) -> Multi,
    ) -> Result<Vec<OpResult>> {
        let mut slot = self.mark.lock().await;
        let mut mark = match slot.take() {
            Some(mark) if mark.is_alive() => mark,
            _ => self.make(client).await?,
        };
        let multi = add(mark.client.multi());
        let sent = multi.set_version(&mark.path, COUNTED, mark.version).await;
        let result = match sent {
            Ok(results) => {
                mark.version += 1;
                Ok(Some(results))
            }
            Err(error) if error.outcome() == Outcome::Unknown => mark.settle(error).await,
            Err(error) => Err(error),
        };
        let is_gone = matches!(&result, Err(error) if error.is_session_lost());
        let is_odd = matches!(&result, Err(error) if error.outcome() == Outcome::Unknown);
        if !is_gone && !is_odd {
            *slot = Some(mark);
        }
        match result {
            Ok(Some(results)) => Ok(results),
            // It took effect, and what it answered is lost.
            Ok(None) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    async fn make(&self, client: &Client) -> Result<Mark> {
        let client = client.pinned();
        let created = client
            .create(format!("{}/", self.directory), NOT_COUNTED)
            .ephemeral()
            .sequential()
            .protected()
            .container_parents()
            .await?;
        Ok(Mark {
            client,
            path: created.path,
            version: created.stat.version,
        })
    }
}

#[derive(Debug)]
struct Mark {
    /// Works in the session that owns the mark and in no other.
    client: Client,
    path: String,
    version: i32,
}

impl Mark {
    fn is_alive(&self) -> bool {
        // The version must never become -1, which is any.
        self.client.session_id().is_some() && self.version >= 0
    }

    /// `None` if the multi took effect; an error that says so if it did not and never will.
    async fn settle(&mut self, lost: Error) -> Result<Option<Vec<OpResult>>> {
        if lost.is_session_lost() {
            return Err(lost);
        }
        loop {
            let ours = self.client.set(&self.path, NOT_COUNTED);
            match ours.version(self.version).await {
                Ok(stat) => {
                    self.version = stat.version;
                    return Err(never_happened(&lost));
                }
                Err(error) if error.is_bad_version() => break,
                Err(error) if error.is_session_lost() => return Err(lost),
                Err(error) if error.outcome() == Outcome::Unknown || error.is_retryable() => {
                    if self.client.connected().await.is_err() {
                        return Err(lost);
                    }
                }
                // Somebody has deleted our mark.
                Err(_) => return Err(lost),
            }
        }
        // One of the two was first: either the multi, or a settling write of ours.
        let read = async {
            self.client.sync(&self.path).await?;
            self.client.get(&self.path).await
        };
        match read.await {
            Ok(node) => {
                self.version = node.stat.version;
                match node.data == COUNTED {
                    true => Ok(None),
                    false => Err(never_happened(&lost)),
                }
            }
            Err(_) => Err(lost),
        }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.client.delete(&self.path).in_background();
    }
}

/// The same error, now that it is known that nothing happened.
fn never_happened(lost: &Error) -> Error {
    let mut context = quorate_client::Context::of("multi", lost.path());
    context.elapsed = lost.elapsed();
    Error::did_not_happen(lost.reason().clone(), context)
}
