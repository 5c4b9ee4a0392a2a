//! One contender: its znode, its place, its turn.
//!
//! Invariants: all its requests go to the session that made it; whoever drops it, in any state,
//! leaves a deletion in the client's janitor; it claims its turn only while the session is proven.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate_client::{Client, Context, Error, Reason, Result, SessionId, Stat, Watch};
use tokio::time::{Instant, sleep};

use super::{Contention, Entry, Listing, Place};
use crate::fencing::FencingToken;
use crate::lost::Lost;

/// Between two looks when the server, or this client, is too busy to answer.
const PAUSE: Duration = Duration::from_millis(50);

/// Our znode in the directory. Dropping it deletes the znode in the background.
#[derive(Debug)]
#[must_use = "a dropped contender leaves the directory"]
pub struct Contender {
    /// With a client that works in our session and no other.
    contention: Contention,
    session: SessionId,
    token: FencingToken,
    path: String,
    /// Nobody has deleted it yet on our behalf.
    is_ours: AtomicBool,
}

impl Contender {
    /// `contention` has a client that is pinned to the session that owns the znode.
    pub(crate) fn new(contention: Contention, path: String, stat: Stat) -> Contender {
        Contender {
            contention,
            session: SessionId(stat.ephemeral_owner),
            token: FencingToken::from(stat.czxid),
            path,
            is_ours: AtomicBool::new(true),
        }
    }

    /// A contender of the same session under another name in the same directory, which is yet to
    /// be made. What the drop deletes must be there first, so this is made before its znode is.
    pub(crate) fn beside(&self, name: &str) -> Contender {
        let path = self.contention.path_of(name);
        self.beside_in(self.contention.clone(), path)
    }

    /// As [`beside`](Contender::beside), in another directory.
    pub(crate) const fn beside_in(&self, contention: Contention, path: String) -> Contender {
        Contender {
            contention,
            session: self.session,
            token: self.token,
            path,
            is_ours: AtomicBool::new(true),
        }
    }

    /// The znode was made: from now on its token is its own.
    pub(crate) fn created(mut self, stat: Stat) -> Contender {
        self.token = FencingToken::from(stat.czxid);
        self
    }

    /// Our znode's path.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Our znode's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// The number that orders us against all who hold before or after us.
    #[must_use]
    pub const fn token(&self) -> FencingToken {
        self.token
    }

    /// The session that owns our znode.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// A client that works in our session and in no other.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.contention.client
    }

    /// Lists the directory and finds our place. One request.
    ///
    /// # Errors
    /// [`Error::SessionGone`] with [`Reason::NotOurs`] if our znode is gone: somebody deleted it.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn place(&self) -> Result<Place> {
        let listed = self.contention.entries().await?;
        self.place_in(listed).ok_or_else(|| self.gone())
    }

    /// As [`place`](Contender::place), by a listing that was sent behind the create.
    ///
    /// One that shows our znode shows all who are in front of it, whenever it was answered: their
    /// numbers were given before ours. One that does not says nothing: the create was repeated.
    pub(crate) async fn place_by(&self, listing: Listing) -> Result<Place> {
        if let Ok((names, _)) = listing.await
            && let Some(place) = self.place_in(self.contention.sort(names))
        {
            return Ok(place);
        }
        self.place().await
    }

    fn place_in(&self, (entries, foreign): (Vec<Entry>, Vec<String>)) -> Option<Place> {
        let own = entries.iter().position(|entry| entry.name == self.name())?;
        Some(Place {
            entries,
            own,
            foreign,
        })
    }

    /// Waits until it is our turn: until `blocker` finds none among the entries that we must wait
    /// for. It gets all entries and our index, and gives the index of the one whose deletion can
    /// let us proceed.
    ///
    /// A listing and one watch for each time that somebody in front of us leaves. A znode of ours
    /// that somebody deletes is missed when the one in front has left, not before.
    ///
    /// # Errors
    /// [`Error::SessionGone`] when the session ends, at once, or when our znode was deleted by
    /// somebody. Lost connections are no errors.
    ///
    /// # Cancel safety
    /// May be dropped and called again: our place is kept.
    pub async fn wait(&self, blocker: impl Fn(&[Entry], usize) -> Option<usize>) -> Result<Place> {
        self.wait_from(None, blocker).await
    }

    /// As [`wait`](Contender::wait), and looks first at a listing that was sent behind the create.
    pub(crate) async fn wait_from(
        &self,
        mut listing: Option<Listing>,
        blocker: impl Fn(&[Entry], usize) -> Option<usize>,
    ) -> Result<Place> {
        self.while_in_session(async {
            loop {
                let looked = match listing.take() {
                    Some(listing) => self.place_by(listing).await,
                    None => self.place().await,
                };
                let place = match looked {
                    Ok(place) => place,
                    Err(error) => {
                        self.go_on_after(error).await?;
                        continue;
                    }
                };
                let Some(ahead) = blocker(&place.entries, place.own) else {
                    return Ok(place);
                };
                let Some(ahead) = place.entries.get(ahead) else {
                    let text = format!("no contender {ahead} to wait for");
                    return Err(Error::bad_argument(Reason::Option(text), self.context()));
                };
                let path = self.contention.path_of(&ahead.name);
                // By getData: it arms no watch if the znode is already gone.
                match self.client().get(&path).watch().await {
                    Ok((_, watch)) => drop(watch.await?),
                    Err(error) if error.is_no_node() => {}
                    Err(error) => self.go_on_after(error).await?,
                }
            }
        })
        .await
    }

    /// Waits until the session is proven, so that whoever claims now does so before another can.
    ///
    /// No request where pings prove the session, as on Quorate; on ZooKeeper a transaction that
    /// only checks our znode, when the last write was long ago.
    ///
    /// # Errors
    /// [`Error::SessionGone`] when the session ends, or our znode was deleted by somebody.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn prove(&self) -> Result<()> {
        let is_trusted = || {
            let until = self.client().trusted_until();
            until.is_some_and(|until| until > Instant::now())
        };
        self.while_in_session(async {
            let _trust = self.client().hold_trust();
            while !is_trusted() {
                match self.client().multi().check(&self.path, -1).await {
                    Ok(_) if is_trusted() => break,
                    // What a write proves on ZooKeeper grows with the next answers.
                    Ok(_) => sleep(PAUSE).await,
                    Err(error) if error.is_no_node() => return Err(self.gone()),
                    Err(error) => self.go_on_after(error).await?,
                }
            }
            Ok(())
        })
        .await
    }

    /// Resolves when this contender has lost what it held.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn lost(&self) -> Lost {
        let client = self.client();
        tokio::select! {
            biased;
            reason = client.lost() => Lost::Session(reason),
            () = client.trust_lapsed() => Lost::NotTrusted,
            lost = self.deleted() => lost,
        }
    }

    /// Whether the session's word counts no more; says nothing about a deleted znode.
    pub(crate) fn is_doubtful(&self) -> bool {
        let until = self.client().trusted_until();
        until.is_none_or(|until| until <= Instant::now())
    }

    /// Resolves when our znode is gone.
    async fn deleted(&self) -> Lost {
        loop {
            let looked = match self.watch_own().await {
                Ok((_, watch)) => watch.await.map(drop),
                Err(error) => Err(error),
            };
            let Err(error) = looked else {
                // Written to, or deleted: the next look tells.
                continue;
            };
            match error.reason() {
                Reason::NotOurs(_) => return Lost::Deleted,
                reason if error.is_session_lost() => return Lost::Session(reason.clone()),
                // The session's own truth decides while nobody can look.
                _ => sleep(PAUSE).await,
            }
        }
    }

    /// Resolves when our znode's data is what `wanted` looks for.
    ///
    /// # Errors
    /// [`Error::SessionGone`] when the session ends, or our znode was deleted by somebody.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn written(&self, wanted: impl Fn(&[u8]) -> bool) -> Result<()> {
        self.while_in_session(async {
            loop {
                match self.watch_own().await {
                    Ok((node, _)) if wanted(&node.data) => return Ok(()),
                    Ok((_, watch)) => drop(watch.await?),
                    Err(error) => self.go_on_after(error).await?,
                }
            }
        })
        .await
    }

    /// A watch on our own znode: fires when somebody deletes it, or writes to it.
    ///
    /// # Errors
    /// [`Error::SessionGone`] with [`Reason::NotOurs`] if it is gone already, or another's.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn watch_own(&self) -> Result<(quorate_client::Node, Watch)> {
        match self.client().get(&self.path).watch().await {
            Ok((node, watch)) if node.stat.ephemeral_owner == self.session.0 => Ok((node, watch)),
            Ok(_) => Err(self.gone()),
            Err(error) if error.is_no_node() => Err(self.gone()),
            Err(error) => Err(error),
        }
    }

    /// Leaves the directory, and waits until it is done.
    ///
    /// # Errors
    /// If the outcome stays unknown; the deletion goes on in the background then.
    ///
    /// # Cancel safety
    /// May be dropped at any time: the deletion goes on in the background.
    pub async fn leave(self) -> Result<()> {
        self.resign().await
    }

    /// As [`leave`](Contender::leave), for those who share a contender.
    pub(crate) async fn resign(&self) -> Result<()> {
        let delete = self.client().delete(&self.path).guaranteed().send();
        // From here on the guaranteed delete answers for it.
        self.is_ours.store(false, Ordering::Release);
        match delete.await {
            Err(error) if error.is_no_node() => Ok(()),
            result => result,
        }
    }

    /// Leaves in the background, unless that was done already.
    pub(crate) fn abandon(&self) {
        if self.is_ours.swap(false, Ordering::AcqRel) {
            self.client().delete(&self.path).in_background();
        }
    }

    /// Our znode is gone by other means.
    pub(crate) fn forget(&self) {
        self.is_ours.store(false, Ordering::Release);
    }

    /// Runs `work` until the session ends: a reader that waits for a connection would not hear.
    pub(crate) async fn while_in_session<T>(
        &self,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        tokio::select! {
            biased;
            reason = self.client().lost() => Err(Error::session_gone(reason, self.context())),
            result = work => result,
        }
    }

    /// Waits for a connection if the error of a read only means that there was none.
    pub(crate) async fn go_on_after(&self, error: Error) -> Result<()> {
        if !error.is_retryable() && !matches!(error, Error::Unknown { .. }) {
            return Err(error);
        }
        // A pause, for there are other causes than the connection.
        sleep(PAUSE).await;
        self.client().connected().await
    }

    pub(crate) fn context(&self) -> Context {
        Context::of("contend", &self.contention.directory)
    }

    pub(crate) fn gone(&self) -> Error {
        let text = format!("{} is no longer there, or no longer ours", self.path);
        Error::session_gone(Reason::NotOurs(text), self.context())
    }
}

impl Drop for Contender {
    fn drop(&mut self) {
        self.abandon();
    }
}
