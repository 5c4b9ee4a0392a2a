//! Znodes that a client wants to exist, and keeps in existence.
//!
//! Job: create what was declared, in every session anew and again when somebody deletes it; keep
//! its data as declared; take it away when the declaration ends. Not here: who may declare the
//! same path (two declarations of one persistent path overwrite each other), sequential names.
//!
//! Invariants: a declaration keeps no client alive; an ephemeral znode of another session is never
//! touched, but waited for; what a declaration takes away is the znode that it last saw standing,
//! and none that was made at that path since.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use quorate_proto::{ErrorCode, Zxid};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::client::{Client, Inner};
use crate::error::{Context, Error, Outcome, Reason, Result};
use crate::path::PathArg;
use crate::root::Root;
use crate::session::{SessionState, Status};
use crate::watch::Watch;

/// The pause after a failure, and the longest.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

impl Client {
    /// Declares that a znode is to exist, ephemeral if nothing else is asked for.
    ///
    /// It is created now and, with [`new_session_on_loss`], again in every session that follows;
    /// again, too, when somebody deletes it. It goes when the [`Declared`] handle is dropped.
    ///
    /// Source: Curator `PersistentNode`; kazoo has recipes only.
    ///
    /// [`new_session_on_loss`]: crate::ClientBuilder::new_session_on_loss
    pub fn declare(&self, path: impl Into<PathArg>, data: impl Into<Bytes>) -> Declare {
        Declare {
            client: self.clone(),
            path: path.into(),
            data: data.into(),
            is_ephemeral: true,
        }
    }
}

/// Describes a declaration; see [`Client::declare`].
#[derive(Debug)]
#[must_use = "nothing is declared before `start`"]
pub struct Declare {
    client: Client,
    path: PathArg,
    data: Bytes,
    is_ephemeral: bool,
}

/// How a declaration stands.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Declaration {
    /// The znode is not there yet, or not any more, for this reason if one is known.
    Pending(Option<Error>),
    /// The znode is there, with the data declared last.
    Standing {
        /// The transaction that created it.
        czxid: Zxid,
        /// The generation of the session in which that was seen.
        generation: u64,
    },
    /// It is withdrawn, or the client is closed.
    Over,
}

/// A declared znode; dropped, it is taken away.
#[derive(Debug)]
#[must_use = "a dropped declaration is withdrawn"]
pub struct Declared {
    /// The data that is wished for; closed, nothing is.
    wish: watch::Sender<Bytes>,
    state: watch::Receiver<Declaration>,
    path: PathArg,
}

impl Declare {
    /// A persistent znode instead: it stays when the session ends, and goes when the declaration
    /// is withdrawn. One that stands there already is taken over: it gets the data, and goes, too.
    pub fn persistent(mut self) -> Declare {
        self.is_ephemeral = false;
        self
    }

    /// An ephemeral znode, which is the default.
    pub fn ephemeral(mut self) -> Declare {
        self.is_ephemeral = true;
        self
    }

    /// Begins. The znode is there when [`Declared::established`] says so.
    ///
    /// # Errors
    /// [`Error::BadArgument`] for a path that breaks the rules.
    pub fn start(self) -> Result<Declared> {
        let Declare {
            client,
            path,
            data,
            is_ephemeral,
        } = self;
        path.check()
            .map_err(|error| Error::bad_argument(Reason::Path(error), context(path.as_str())))?;
        let (wish, wished) = watch::channel(data);
        let (tell, state) = watch::channel(Declaration::Pending(None));
        let keeper = Keeper {
            inner: Arc::downgrade(&client.inner),
            root: client.root.clone(),
            status: client.status(),
            path: path.clone(),
            is_ephemeral,
            wished,
            tell,
        };
        client.inner.tasks.spawn(keeper.run());
        Ok(Declared { wish, state, path })
    }
}

impl Declared {
    /// Its path.
    #[must_use]
    pub fn path(&self) -> &str {
        self.path.as_str()
    }

    /// Declares other data. It is written as soon as that is possible; of several updates in the
    /// meantime only the last.
    pub fn update(&self, data: impl Into<Bytes>) {
        self.wish.send_replace(data.into());
    }

    /// How it stands, and every change of that.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Declaration> {
        self.state.clone()
    }

    /// Waits until the znode is there, and gives the transaction that created it.
    ///
    /// # Errors
    /// [`Error::SessionGone`] if the client ends first.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn established(&self) -> Result<Zxid> {
        let mut state = self.state.clone();
        let reached = state.wait_for(|state| !matches!(state, Declaration::Pending(_)));
        match reached.await.as_deref() {
            Ok(Declaration::Standing { czxid, .. }) => Ok(*czxid),
            _ => Err(Error::SessionGone {
                reason: Reason::Closed,
                outcome: Outcome::Unknown,
                context: Box::new(context(self.path.as_str())),
            }),
        }
    }

    /// Takes the znode away and waits until it is gone, or until it cannot be told any more: then
    /// it goes with the session, if it is ephemeral.
    ///
    /// # Cancel safety
    /// The withdrawal goes on when the future is dropped.
    pub async fn withdraw(self) {
        let Declared {
            wish, mut state, ..
        } = self;
        drop(wish);
        // An error means that its task is gone: there is nothing to wait for.
        drop(state.wait_for(|state| *state == Declaration::Over).await);
    }
}

/// What goes on behind a declaration.
struct Keeper {
    inner: Weak<Inner>,
    root: Root,
    status: watch::Receiver<Status>,
    path: PathArg,
    is_ephemeral: bool,
    wished: watch::Receiver<Bytes>,
    tell: watch::Sender<Declaration>,
}

/// A znode that is as it was declared.
struct Standing {
    czxid: Zxid,
    generation: u64,
    changed: Watch,
}

/// What became of one attempt.
enum Attempt {
    Standing(Standing),
    /// The ephemeral znode of another session, or of our last one, is in the way.
    InTheWay(Watch),
    /// Something changed meanwhile: look again.
    Again,
}

impl Keeper {
    async fn run(mut self) {
        let mut pause = PAUSE;
        let mut standing = None;
        while !self.is_withdrawn() {
            let Some(generation) = self.connected().await else {
                break;
            };
            let Some(client) = self.client() else { break };
            let attempt = self.establish(&client, generation).await;
            drop(client);
            match attempt {
                Ok(Attempt::Standing(now)) => {
                    pause = PAUSE;
                    self.tell.send_replace(Declaration::Standing {
                        czxid: now.czxid,
                        generation: now.generation,
                    });
                    standing = Some(now.czxid);
                    self.change(now.changed, generation).await;
                    // An update leaves the znode standing.
                    self.tell.send_if_modified(|state| {
                        let is_gone = self.status.borrow().generation != generation;
                        if is_gone {
                            *state = Declaration::Pending(None);
                        }
                        is_gone
                    });
                }
                Ok(Attempt::InTheWay(changed)) => {
                    self.tell.send_replace(Declaration::Pending(None));
                    self.change(changed, generation).await;
                }
                Ok(Attempt::Again) => {}
                Err(error) => {
                    tracing::debug!(path = %self.path, %error, "a declared znode is not there yet");
                    self.tell.send_replace(Declaration::Pending(Some(error)));
                    let withdrawn = self.wished.changed();
                    tokio::select! {
                        () = sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)) => {}
                        _ = withdrawn => {}
                    }
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
        if let (Some(czxid), Some(client)) = (standing, self.client()) {
            self.take_away(&client, czxid).await;
        }
        self.tell.send_replace(Declaration::Over);
    }

    fn is_withdrawn(&self) -> bool {
        self.wished.has_changed().is_err()
    }

    fn client(&self) -> Option<Client> {
        Client::of_inner(&self.inner, self.root.clone())
    }

    /// Waits for a server that takes writes; `None` when there will be none or nothing is wished.
    async fn connected(&mut self) -> Option<u64> {
        let renews = self.inner.upgrade()?.session.opens_new_sessions();
        let connected = self.status.wait_for(|status| match status.state {
            SessionState::Connected | SessionState::Closed => true,
            SessionState::Lost => !renews,
            _ => false,
        });
        let mut wished = self.wished.clone();
        let withdrawn = async move { while wished.changed().await.is_ok() {} };
        tokio::select! {
            connected = connected => {
                let status = connected.ok()?;
                (status.state == SessionState::Connected).then_some(status.generation)
            }
            () = withdrawn => None,
        }
    }

    /// Makes the znode as it is wished for, in the session of this generation.
    async fn establish(&mut self, client: &Client, generation: u64) -> Result<Attempt> {
        let client = client.pinned();
        let data = self.wished.borrow_and_update().clone();
        let create = client.create(&self.path, data.clone());
        let create = match self.is_ephemeral {
            true => create.ephemeral(),
            false => create,
        };
        match create.await {
            Ok(_) => {}
            // An unknown outcome shows in what is there.
            Err(error) if error.is_node_exists() || error.outcome() == Outcome::Unknown => {}
            Err(error) => return Err(error),
        }
        let (node, changed) = match client.get(&self.path).watch().await {
            Ok(found) => found,
            Err(error) if error.is_no_node() => return Ok(Attempt::Again),
            Err(error) => return Err(error),
        };
        let owner = node.stat.ephemeral_owner;
        let is_ours = match (self.is_ephemeral, client.session_id()) {
            (true, Some(session)) => owner == session.0,
            (true, None) => false,
            (false, _) => owner == 0,
        };
        if !is_ours {
            return Ok(Attempt::InTheWay(changed));
        }
        if node.data != data {
            client.set(&self.path, data).await?;
            // The watch has fired for our own write: look once more.
            return Ok(Attempt::Again);
        }
        Ok(Attempt::Standing(Standing {
            czxid: Zxid(node.stat.czxid),
            generation,
            changed,
        }))
    }

    /// Waits until there is something to do: the znode changed, something else is wished for, or
    /// the session is another.
    async fn change(&mut self, changed: Watch, generation: u64) {
        let other_session = self
            .status
            .wait_for(|status| status.generation != generation || status.session.is_none());
        tokio::select! {
            // A watch that ends with its session is a change like any other.
            _ = changed => {}
            _ = self.wished.changed() => {}
            _ = other_session => {}
        }
    }

    /// Takes away what was put there, unless somebody else has put another there since.
    async fn take_away(&self, client: &Client, czxid: Zxid) {
        let mut pause = PAUSE;
        for _ in 0..8 {
            let stat = match client.exists(&self.path).await {
                Ok(Some(stat)) if stat.czxid == czxid.0 => stat,
                Ok(_) => return,
                Err(error) if is_over(&error) => return,
                Err(_) => {
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                    continue;
                }
            };
            match client.delete(&self.path).version(stat.version).await {
                Ok(()) => return,
                Err(error) if is_over(&error) || error.is_no_node() => return,
                Err(error) if error.code() == Some(ErrorCode::NoAuth) => return,
                Err(_) => {
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
        tracing::warn!(path = %self.path, "a withdrawn znode could not be deleted");
    }
}

/// Whether nothing can be done in this session any more.
fn is_over(error: &Error) -> bool {
    error.is_session_lost() || matches!(error.reason(), Reason::Closed | Reason::RuntimeGone)
}

fn context(path: &str) -> Context {
    Context {
        op: "declare",
        path: path.to_owned(),
        ..Context::default()
    }
}
