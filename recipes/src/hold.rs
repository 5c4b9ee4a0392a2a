//! An ephemeral znode of a name that all know: whoever makes it, has it.
//!
//! Unlike a contender its name says nothing of its maker. So a create that nobody awaits any more
//! must not be left alone, and must not be undone by its name either: the znode may be another's.
//! A task sees every create to its end, and gives up what it finds to be ours.

use bytes::Bytes;
use quorate_client::{Client, Context, Error, Node, Outcome, Reason, Result, SessionId};
use tokio_util::task::TaskTracker;

use crate::fencing::FencingToken;

/// A znode that is ours until it is dropped or the session ends.
#[derive(Debug)]
pub(crate) struct Hold {
    /// Works in the session that owns the znode and in no other.
    client: Client,
    session: SessionId,
    token: FencingToken,
    path: String,
    is_ours: bool,
}

/// What came of an attempt: the znode, if nobody has it, and what was read together with it.
pub(crate) type Taken = (Option<Hold>, Option<Result<Node>>);

impl Hold {
    /// Makes the znode if there is none. Reads another one behind it, in the same round trip.
    ///
    /// Cancel safety: may be dropped; the znode is given up then.
    pub(crate) async fn take(
        client: &Client,
        path: &str,
        data: Bytes,
        read: Option<&str>,
    ) -> Result<Taken> {
        let client = client.pinned();
        let (path, read) = (path.to_owned(), read.map(str::to_owned));
        let context = Context::of("create", &path);
        // Dropping the handle leaves the task alone, and the task drops what nobody wants.
        let task = TaskTracker::new().spawn(take(client, path, data, read));
        match task.await {
            Ok(taken) => taken,
            Err(_) => Err(Error::unknown(Reason::RuntimeGone, context)),
        }
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) const fn token(&self) -> FencingToken {
        self.token
    }

    /// Whether the connected server knows it as ours.
    pub(crate) async fn verify(&self) -> Result<()> {
        let stat = self.client.exists(&self.path).await?;
        match stat.is_some_and(|stat| stat.ephemeral_owner == self.session.0) {
            true => Ok(()),
            false => Err(self.gone()),
        }
    }

    pub(crate) fn gone(&self) -> Error {
        let reason = Reason::NotOurs(format!("{} is no longer ours", self.path));
        Error::session_gone(reason, Context::of("hold", &self.path))
    }

    /// It was deleted on our behalf, or by another.
    pub(crate) fn forget(&mut self) {
        self.is_ours = false;
    }

    /// Gives it up, and waits until that is done.
    pub(crate) async fn release(mut self) -> Result<()> {
        let delete = self.client.delete(&self.path).guaranteed().send();
        self.forget();
        match delete.await {
            Err(error) if error.is_no_node() => Ok(()),
            result => result,
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.is_ours {
            self.client.delete(&self.path).in_background();
        }
    }
}

async fn take(client: Client, path: String, data: Bytes, read: Option<String>) -> Result<Taken> {
    let create = client.create(&path, data.clone());
    // After a lost answer an equal ephemeral of our session is ours: the data tells.
    let create = create.ephemeral().container_parents().idempotent().send();
    // Queued behind the create, so it shows nothing older.
    let read = read.map(|read| client.get(&read).send());
    let created = match create.await {
        Ok(created) => created,
        Err(error) if error.is_node_exists() => return Ok((None, None)),
        Err(error) => {
            if error.outcome() == Outcome::Unknown && !error.is_session_lost() {
                give_up(&client, &path, &data).await;
            }
            return Err(error);
        }
    };
    let hold = Hold {
        session: SessionId(created.stat.ephemeral_owner),
        token: FencingToken::from(created.stat.czxid),
        path: created.path,
        client,
        is_ours: true,
    };
    let read = match read {
        Some(read) => Some(read.await),
        None => None,
    };
    Ok((Some(hold), read))
}

/// Deletes what the lost create may have made, once a server can be asked.
async fn give_up(client: &Client, path: &str, data: &Bytes) {
    loop {
        match client.get(path).await {
            Ok(node) => {
                let owner = client.session_id().map(|session| session.0);
                if owner == Some(node.stat.ephemeral_owner) && node.data == *data {
                    client.delete(path).version(0).in_background();
                }
                return;
            }
            Err(error) if error.is_retryable() || matches!(error, Error::Unknown { .. }) => {
                if client.connected().await.is_err() {
                    return;
                }
            }
            // There is none, or the session is over and took it along.
            Err(_) => return,
        }
    }
}
