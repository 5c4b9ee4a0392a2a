//! A znode that is kept in existence for as long as a handle lives.
//!
//! One task owns the znode: it creates it, watches it, and creates it again when it is gone.
//! Invariants: an ephemeral is ours only in the session that made it; of two who keep one ephemeral
//! name, the later takes it over and the earlier waits, so that they do not fight.

use std::time::Duration;

use bytes::Bytes;
use quorate_client::{Client, CreateOp, Error, Node, Result, SessionId, Watch};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::patience::over_sessions;

/// What kind of znode is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum NodeKind {
    /// It goes with the session, and comes back with the next.
    #[default]
    Ephemeral,
    /// As [`Ephemeral`](NodeKind::Ephemeral), numbered once: it comes back under the same name.
    EphemeralSequential,
    /// It stays when the process dies.
    Persistent,
    /// As [`Persistent`](NodeKind::Persistent), numbered once.
    PersistentSequential,
    /// It goes when its last child has gone.
    Container,
    /// It goes when it has no children and was not written to for this long.
    Ttl(Duration),
}

impl NodeKind {
    const fn is_ephemeral(self) -> bool {
        matches!(self, NodeKind::Ephemeral | NodeKind::EphemeralSequential)
    }

    const fn is_sequential(self) -> bool {
        matches!(
            self,
            NodeKind::EphemeralSequential | NodeKind::PersistentSequential
        )
    }
}

/// How a kept znode stands.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Presence {
    /// It is not there yet, or not any more; it will be.
    Absent,
    /// It is there.
    Present {
        /// Its path, with protection and number.
        path: String,
        /// The transaction that created it.
        czxid: i64,
        /// How often it had to be created again: 0 for the first time.
        rejoined: u64,
    },
    /// Another session took the name over. When that one goes, it is ours again.
    TakenOver {
        /// That session.
        by: SessionId,
    },
    /// It is not kept any more: closed, or this happened.
    Over(Option<Error>),
}

/// Keeps a znode in existence until it is closed or dropped.
///
/// | | |
/// | --- | --- |
/// | guarantee | created again when somebody deletes it, and in each new session of the client |
/// | what can go wrong | between a lost session and the next it is gone, or still there with the old owner: then it is replaced in one transaction, without a gap |
/// | znodes | `<path>`; protected, `_c_<uuid>-` stands before its name; parents are containers |
/// | cost | create, read with one watch; the same each time that it is gone |
/// | Curator, kazoo | `PersistentNode`; none |
///
/// A znode of the same name that another session made is replaced when ours is placed in a session
/// for the first time, for as a rule it is that of our own process before it died. Who is replaced
/// while its session lives waits, and reports [`Presence::TakenOver`].
///
/// ```no_run
/// use quorate_recipes::{Client, membership::PersistentNode};
///
/// # async fn example(client: Client) -> quorate_recipes::Result<()> {
/// let node = PersistentNode::builder(&client, "/workers/w1", "10.0.0.7").start();
/// let path = node.placed().await?;
/// println!("registered as {path}");
/// node.set_data("10.0.0.8");
/// node.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a dropped node is taken away"]
pub struct PersistentNode {
    wish: watch::Sender<Bytes>,
    presence: watch::Receiver<Presence>,
    tasks: TaskTracker,
    stop: DropGuard,
}

/// Describes a [`PersistentNode`].
#[derive(Debug)]
#[must_use = "nothing is kept before `start`"]
pub struct PersistentNodeBuilder {
    client: Client,
    path: String,
    data: Bytes,
    kind: NodeKind,
    is_protected: bool,
    restores_data: bool,
}

impl PersistentNodeBuilder {
    /// What kind of znode; ephemeral.
    pub fn kind(mut self, kind: NodeKind) -> Self {
        self.kind = kind;
        self
    }

    /// Makes the name findable after a lost answer. Sequential ones should be.
    pub fn protected(mut self) -> Self {
        self.is_protected = true;
        self
    }

    /// Writes our data again when somebody else writes other data. Off, as in Curator.
    pub fn restore_data(mut self) -> Self {
        self.restores_data = true;
        self
    }

    /// Begins to keep it, on a task of the Tokio runtime that this is called on.
    pub fn start(self) -> PersistentNode {
        let (wish, wished) = watch::channel(self.data.clone());
        let (tell, presence) = watch::channel(Presence::Absent);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let keeper = Keeper {
            place: None,
            made: 0,
            session: None,
            owes_data: false,
            spec: self,
            wished,
            tell,
        };
        tasks.spawn(keeper.run(stop.clone()));
        tasks.close();
        PersistentNode {
            wish,
            presence,
            tasks,
            stop: stop.drop_guard(),
        }
    }
}

impl PersistentNode {
    /// Starts to describe one.
    pub fn builder(client: &Client, path: &str, data: impl Into<Bytes>) -> PersistentNodeBuilder {
        PersistentNodeBuilder {
            client: client.clone(),
            path: path.to_owned(),
            data: data.into(),
            kind: NodeKind::default(),
            is_protected: false,
            restores_data: false,
        }
    }

    /// Waits until it is there, and gives its path.
    ///
    /// # Errors
    /// What keeps it from ever being there.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn placed(&self) -> Result<String> {
        let mut presence = self.presence.clone();
        loop {
            match &*presence.borrow_and_update() {
                Presence::Present { path, .. } => return Ok(path.clone()),
                Presence::Over(Some(error)) => return Err(error.clone()),
                _ => {}
            }
            if presence.changed().await.is_err() {
                let context = quorate_client::Context::of("keep", "");
                return Err(Error::did_not_happen(
                    quorate_client::Reason::Closed,
                    context,
                ));
            }
        }
    }

    /// How it stands, and every change of that.
    #[must_use]
    pub fn presence(&self) -> watch::Receiver<Presence> {
        self.presence.clone()
    }

    /// Wishes for other data: written as soon as that is possible, and whenever it is created.
    pub fn set_data(&self, data: impl Into<Bytes>) {
        self.wish.send_replace(data.into());
    }

    /// Stops to keep it, and waits until it is deleted.
    ///
    /// # Cancel safety
    /// It is deleted in the background when the future is dropped.
    pub async fn close(self) {
        drop(self.stop);
        self.tasks.wait().await;
    }
}

struct Keeper {
    spec: PersistentNodeBuilder,
    /// The path once it was created.
    place: Option<String>,
    /// How often it was created.
    made: u64,
    /// The session in which it was placed last.
    session: Option<i64>,
    /// Our data is to be written, whoever wrote what is there.
    owes_data: bool,
    wished: watch::Receiver<Bytes>,
    tell: watch::Sender<Presence>,
}

impl Keeper {
    async fn run(mut self, stop: CancellationToken) {
        let over = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            error = self.keep() => Some(error),
        };
        if over.is_none() {
            self.take_away().await;
        }
        self.tell.send_replace(Presence::Over(over));
    }

    /// Keeps it until that makes no sense any more.
    async fn keep(&mut self) -> Error {
        loop {
            let error = match self.round().await {
                Ok(()) => continue,
                Err(error) => error,
            };
            tracing::debug!(path = %self.spec.path, %error, "the znode is placed again");
            self.tell.send_replace(Presence::Absent);
            if let Err(error) = over_sessions(&self.spec.client, error).await {
                return error;
            }
        }
    }

    /// Places it if it is not there, and waits for a change of it, or of what is wished for.
    async fn round(&mut self) -> Result<()> {
        // All that one round does belongs to one session.
        let client = self.spec.client.pinned();
        let Some(path) = self.place.clone() else {
            return self.create(&client).await;
        };
        self.owes_data |= self.wished.has_changed().unwrap_or(false);
        let data = self.wished.borrow_and_update().clone();
        let (node, watch) = match client.get(&path).watch().await {
            Ok(found) => found,
            Err(error) if error.is_no_node() => return self.create(&client).await,
            Err(error) => return Err(error),
        };
        let owner = node.stat.ephemeral_owner;
        let ours = client.session_id().map_or(0, |session| session.0);
        if self.spec.kind.is_ephemeral() && owner != ours {
            if self.session == Some(ours) {
                return self.wait_behind(owner, watch).await;
            }
            return self.replace(&client, &path, &node).await;
        }
        let is_first = self.session != Some(ours);
        let is_news = self.tell_present(&path, &node, ours);
        self.owes_data |= is_first || is_news;
        if node.data == data {
            self.owes_data = false;
        } else if self.owes_data || self.spec.restores_data {
            let version = node.stat.version;
            match client.set(&path, data).version(version).await {
                Ok(_) => self.owes_data = false,
                // It changed meanwhile: still owed after the next look.
                Err(error) if error.is_bad_version() || error.is_no_node() => {}
                Err(error) => return Err(error),
            }
            return Ok(());
        }
        tokio::select! {
            event = watch => event.map(drop),
            changed = self.wished.changed() => {
                self.owes_data |= changed.is_ok();
                Ok(())
            }
        }
    }

    /// Says that it is there. Whether that is news.
    fn tell_present(&mut self, path: &str, node: &Node, session: i64) -> bool {
        self.session = Some(session);
        let rejoined = self.made.saturating_sub(1);
        let present = Presence::Present {
            path: path.to_owned(),
            czxid: node.stat.czxid,
            rejoined,
        };
        self.tell.send_if_modified(|now| {
            let is_news = *now != present;
            *now = present;
            is_news
        })
    }

    async fn create(&mut self, client: &Client) -> Result<()> {
        let data = self.wished.borrow_and_update().clone();
        let path = self.place.as_ref().unwrap_or(&self.spec.path);
        let is_first = self.place.is_none();
        let mut create = client.create(path, data).container_parents();
        create = match self.spec.kind {
            NodeKind::Ephemeral | NodeKind::EphemeralSequential => create.ephemeral(),
            NodeKind::Persistent | NodeKind::PersistentSequential => create,
            NodeKind::Container => create.container(),
            NodeKind::Ttl(ttl) => create.ttl(ttl),
        };
        // Numbered and protected once: later it comes back under the name that it got.
        if self.spec.kind.is_sequential() && is_first {
            create = create.sequential();
        } else {
            create = create.idempotent();
        }
        if self.spec.is_protected && is_first {
            create = create.protected();
        }
        match create.await {
            Ok(created) => {
                self.made += 1;
                self.place = Some(created.path);
                Ok(())
            }
            Err(error) if error.is_node_exists() => {
                // Adopted, or replaced if it is another's ephemeral.
                self.place = Some(path.clone());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Puts ours in the place of another session's, in one transaction.
    async fn replace(&mut self, client: &Client, path: &str, node: &Node) -> Result<()> {
        let data = self.wished.borrow_and_update().clone();
        let replaced = client
            .multi()
            .delete_version(path, node.stat.version)
            .create_with(CreateOp::new(path, data).ephemeral())
            .await;
        match replaced {
            Ok(_) => {
                self.made += 1;
                Ok(())
            }
            // It went by itself, or changed: the next look tells.
            Err(error) if error.is_no_node() || error.is_bad_version() => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn wait_behind(&self, owner: i64, watch: Watch) -> Result<()> {
        let by = SessionId(owner);
        self.tell.send_replace(Presence::TakenOver { by });
        watch.await.map(drop)
    }

    /// Deletes it if it is still ours, whatever was on its way when we stopped.
    async fn take_away(&self) {
        let client = self.spec.client.pinned();
        let path = self.place.as_ref().unwrap_or(&self.spec.path);
        loop {
            let error = match client.get(path).await {
                Ok(node) => {
                    let ours = client.session_id().map_or(0, |session| session.0);
                    if !self.spec.kind.is_ephemeral() || node.stat.ephemeral_owner == ours {
                        // Whatever does not come through now is done in the background.
                        let _ = client.delete(path).guaranteed().await;
                    }
                    return;
                }
                Err(error) => error,
            };
            // Nothing is there, or the session took it along.
            if crate::patience::within_the_session(&client, error)
                .await
                .is_err()
            {
                return;
            }
        }
    }
}
