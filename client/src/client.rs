//! The handle: cheap to clone, shared by all who use one session.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use quorate_proto::{Acl, SessionId};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;

use crate::auth::AclProvider;
use crate::builder::ClientBuilder;
use crate::error::{Context, Error, Outcome, Reason, Result};
use crate::hosts::ConnectString;
use crate::janitor::Janitor;
use crate::path::PathArg;
use crate::retry::RetryPolicy;
use crate::root::Root;
use crate::session::{Session, SessionInfo, SessionState, Status};

/// A session with a ZooKeeper ensemble, and the root that paths hang below.
///
/// Clones share the session. When the last of them is dropped the session is closed, with
/// everything that it owned; [`close`](Client::close) does that and tells the outcome.
///
/// The session's task lives on the Tokio runtime that the client was made on. When that runtime is
/// shut down all calls fail with [`Reason::RuntimeGone`] and nothing is said to the server: the
/// session ends by its timeout. Close clients before their runtime.
///
/// ```
/// use std::time::Duration;
/// use quorate_client::Client;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> quorate_client::Result<()> {
/// # let server = quorate_server::testing::TestServer::start().await;
/// # quorate_client::Client::connect(server.connect_string()).await?.create("/app", "").await?;
/// let servers = "zk1:2181,zk2:2181,zk3:2181/app";
/// # let servers = server.connect_string() + "/app";
/// let client = Client::builder(servers)
///     .session_timeout(Duration::from_secs(10))
///     .connect()
///     .await?;
/// client.create("/greeting", "hello").await?;
/// let node = client.get("/greeting").await?;
/// assert_eq!(&node.data[..], b"hello");
/// client.close().await
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
    pub(crate) root: Root,
    /// The one session that this handle will do with.
    pinned: Option<u64>,
}

/// What all clones share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) session: Arc<Session>,
    pub(crate) tasks: TaskTracker,
    pub(crate) janitor: Arc<Janitor>,
    pub(crate) retry: Arc<dyn RetryPolicy>,
    /// `None`: open to all.
    pub(crate) acl: Option<Arc<dyn AclProvider>>,
    /// What that is, made once.
    pub(crate) open_acl: Arc<[Acl]>,
    pub(crate) operation_timeout: Option<Duration>,
    pub(crate) is_closed: AtomicBool,
}

impl Inner {
    /// The ACL of a znode that is created without one of its own.
    pub(crate) fn acl_for(&self, path: &str) -> Arc<[Acl]> {
        match &self.acl {
            Some(provider) => provider.acl_for(path).into(),
            None => Arc::clone(&self.open_acl),
        }
    }
}

/// The last handle is gone: the server is told, so that what the session owned is free at once.
impl Drop for Inner {
    fn drop(&mut self) {
        if !self.is_closed.load(Ordering::Relaxed) {
            // What is still to be cleaned up goes first; the tasks go on by themselves.
            self.janitor.close();
        }
        self.tasks.close();
    }
}

impl Client {
    pub(crate) fn new(inner: Inner, root: Root) -> Client {
        Client {
            inner: Arc::new(inner),
            root,
            pinned: None,
        }
    }

    /// A handle, if the client still lives.
    pub(crate) fn of_inner(inner: &Weak<Inner>, root: Root) -> Option<Client> {
        Some(Client {
            inner: inner.upgrade()?,
            root,
            pinned: None,
        })
    }

    /// Starts to describe a client of these servers: `host:port,host:port/chroot`.
    ///
    /// The port is 2181 where none is given. IPv6 addresses stand in brackets.
    pub fn builder(connect_string: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(connect_string.into())
    }

    /// Connects with all defaults.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    pub async fn connect(connect_string: impl Into<String>) -> Result<Client> {
        Client::builder(connect_string).connect().await
    }

    /// A handle whose paths hang below `path`, in the same session. The znode need not exist.
    ///
    /// # Errors
    /// [`Error::BadArgument`] for a path that breaks the rules.
    pub fn chroot(&self, path: impl Into<PathArg>) -> Result<Client> {
        let path = path.into();
        let root = self.root.join(&path).map_err(|error| {
            let context = Context {
                op: "chroot",
                path: path.to_string(),
                ..Context::default()
            };
            Error::bad_argument(Reason::Path(error), context)
        })?;
        Ok(Client {
            root,
            ..self.clone()
        })
    }

    /// The path that this handle's paths hang below.
    #[must_use]
    pub fn root(&self) -> &str {
        self.root.as_path()
    }

    /// A handle that works in the session of now and in no other.
    ///
    /// Without it, and with [`new_session_on_loss`](ClientBuilder::new_session_on_loss), a call
    /// that is made after a session was lost goes to the next one.
    #[must_use]
    pub fn pinned(&self) -> Client {
        Client {
            pinned: Some(self.session().generation()),
            ..self.clone()
        }
    }

    /// Where the session stands, and every change of it. A receiver that looks rarely sees the
    /// latest value; [`Status::generation`] tells it of sessions that came and went in between.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.session().status()
    }

    /// Where the session stands now.
    #[must_use]
    pub fn state(&self) -> SessionState {
        self.session().status().borrow().state
    }

    /// The session's id; `None` before the first connection and after a loss.
    #[must_use]
    pub fn session_id(&self) -> Option<SessionId> {
        self.session().info().map(|info| info.id)
    }

    /// The session, to be taken up by another process or after a restart with
    /// [`ClientBuilder::resume`]. A session that is to live on must not be closed: use
    /// [`detach`](Client::detach).
    #[must_use]
    pub fn session_info(&self) -> Option<SessionInfo> {
        self.session().info()
    }

    /// Until when no other session can take what this one owns: its ephemerals and its locks.
    ///
    /// `None` as long as nothing proves the session. The instant moves forward with every reply
    /// that the leader stands behind (on Quorate: pings, writes and `sync`; on ZooKeeper:
    /// committed writes, sent in the background while a [`TrustLease`] is held). Work that needs a
    /// lock may go on while the connection is away, until this instant and no longer.
    #[must_use]
    pub fn trusted_until(&self) -> Option<Instant> {
        let until = self.session().trusted_until();
        // In this order: a later session is trusted only after the generation has grown.
        let generation = self.session().generation();
        until.filter(|_| self.pinned.is_none_or(|pinned| pinned == generation))
    }

    /// Ready when the session of now is no longer trusted: [`trusted_until`](Client::trusted_until)
    /// has passed, or the session is over. The session that may follow is another one.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn trust_lapsed(&self) {
        let generation = self.bound_generation();
        let mut status = self.status();
        loop {
            // First the status, then the instant: what changes in between wakes us again.
            if has_ended(&status.borrow_and_update(), generation) {
                return;
            }
            let until = match self.trusted_until() {
                None => return,
                Some(until) if until <= Instant::now() => return,
                Some(until) => until,
            };
            tokio::select! {
                () = sleep_until(until) => {}
                changed = status.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Keeps [`trusted_until`](Client::trusted_until) in the future for as long as the lease is
    /// held and a quorum can be reached. On Quorate pings do that; on ZooKeeper it costs one small
    /// write every quarter of the session timeout.
    pub fn hold_trust(&self) -> TrustLease {
        self.session().hold_trust();
        TrustLease(Arc::clone(&self.inner))
    }

    /// Waits until the session of now is over, and says why. Between two sessions, the next one.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn lost(&self) -> Reason {
        let mut status = self.status();
        let generation = self.bound_generation();
        loop {
            {
                let now = status.borrow_and_update();
                if now.generation > generation {
                    drop(now);
                    return self.session().lost_reason();
                }
                if has_ended(&now, generation) {
                    return now.reason.clone().unwrap_or(Reason::Closed);
                }
            }
            if status.changed().await.is_err() {
                return Reason::Closed;
            }
        }
    }

    /// Waits until a server is connected.
    ///
    /// # Errors
    /// [`Error::SessionGone`] when the client is closed or its session lost for good.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn connected(&self) -> Result<()> {
        let mut status = self.status();
        loop {
            let ended = {
                let now = status.borrow_and_update();
                match now.state {
                    SessionState::Connected | SessionState::ReadOnly => return Ok(()),
                    SessionState::Closed => true,
                    SessionState::Lost => !self.opens_new_sessions(),
                    _ => false,
                }
            };
            if ended || status.changed().await.is_err() {
                let reason = self.status_now().reason.unwrap_or(Reason::Closed);
                let context = Box::new(Context {
                    op: "connect",
                    ..Context::default()
                });
                return Err(Error::SessionGone {
                    reason,
                    outcome: Outcome::DidNotHappen,
                    context,
                });
            }
        }
    }

    /// Replaces the list of servers: `host:port,host:port`. A connected server that is not in the
    /// new list is left for one that is; the session goes on.
    ///
    /// # Errors
    /// [`Error::BadArgument`] for a list that cannot be read, or that has a chroot: paths keep
    /// their meaning while a client lives.
    ///
    /// Source: ZooKeeper `updateServerList`; kazoo `set_hosts`.
    pub fn set_servers(&self, servers: &str) -> Result<()> {
        let bad = |text: String| {
            let context = Context {
                op: "setServers",
                ..Context::default()
            };
            Error::bad_argument(Reason::Option(text), context)
        };
        let parsed = ConnectString::parse(servers).map_err(|error| bad(error.to_string()))?;
        if let Some(chroot) = parsed.chroot {
            return Err(bad(format!("the chroot {chroot} cannot be changed")));
        }
        self.session().set_servers(parsed.servers);
        Ok(())
    }

    /// How many requests have no answer yet, sent or not.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.session().waiting()
    }

    /// How many watches are armed.
    #[must_use]
    pub fn watches(&self) -> usize {
        self.session().watches_held()
    }

    /// Closes the session, for all clones: ephemerals are deleted, locks are free.
    ///
    /// What was called before is done first. Waits for the server's answer, for as long as
    /// [`ClientBuilder::close_timeout`].
    ///
    /// # Errors
    /// [`Error::Unknown`] if no answer came: the session then ends by its timeout.
    ///
    /// # Cancel safety
    /// Once polled, the close goes on when the future is dropped.
    pub async fn close(self) -> Result<()> {
        let started = Instant::now();
        self.inner.is_closed.store(true, Ordering::Release);
        let mut status = self.status();
        self.inner.janitor.close();
        let limit = self.session().close_timeout();
        let over = status
            .wait_for(|status| matches!(status.state, SessionState::Closed | SessionState::Lost));
        let reason = match tokio::time::timeout(limit, over).await {
            Ok(Ok(status)) => status.reason.clone().unwrap_or(Reason::Closed),
            Ok(Err(_)) => Reason::RuntimeGone,
            Err(_) => {
                self.session().abort();
                Reason::TimedOut
            }
        };
        match reason {
            Reason::Closed | Reason::SessionExpired(_) => Ok(()),
            reason => {
                let context = Context {
                    op: "closeSession",
                    elapsed: started.elapsed(),
                    ..Context::default()
                };
                Err(Error::unknown(reason, context))
            }
        }
    }

    /// Leaves the session alone and drops the connection: another process may
    /// [`resume`](ClientBuilder::resume) it within its timeout. Ends it for all clones.
    ///
    /// `None` if there is no session now.
    pub fn detach(self) -> Option<SessionInfo> {
        self.inner.is_closed.store(true, Ordering::Release);
        let info = self.session().info();
        self.session().abort();
        info
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.inner.session
    }

    pub(crate) fn retry_policy(&self) -> &dyn RetryPolicy {
        &*self.inner.retry
    }

    pub(crate) fn operation_timeout(&self) -> Option<Duration> {
        self.inner.operation_timeout
    }

    /// Whether this handle will do with one session only.
    pub(crate) const fn is_pinned(&self) -> bool {
        self.pinned.is_some()
    }

    pub(crate) fn janitor(&self) -> &Arc<Janitor> {
        &self.inner.janitor
    }

    /// The session that a call made now belongs to.
    pub(crate) fn bound_generation(&self) -> u64 {
        self.pinned.unwrap_or_else(|| self.session().generation())
    }

    /// Whether a call can be made in a session after the one that an earlier call failed with.
    pub(crate) fn outlives_sessions(&self) -> bool {
        self.pinned.is_none() && self.opens_new_sessions()
    }

    pub(crate) fn opens_new_sessions(&self) -> bool {
        self.session().opens_new_sessions()
    }

    pub(crate) fn status_now(&self) -> Status {
        self.session().status().borrow().clone()
    }

    /// Why a request did not leave in time.
    pub(crate) fn why_not_connected(&self) -> Reason {
        let status = self.status_now();
        match status.reason {
            Some(reason) if !status.state.is_connected() && status.state != SessionState::Lost => {
                reason
            }
            _ => Reason::TimedOut,
        }
    }
}

/// Whether the session of this generation is over.
fn has_ended(status: &Status, generation: u64) -> bool {
    match status.state {
        SessionState::Closed => true,
        SessionState::Lost => status.generation >= generation,
        _ => status.generation > generation,
    }
}

/// Keeps the session proven for as long as it is held; see [`Client::hold_trust`].
#[derive(Debug)]
#[must_use = "a dropped lease keeps nothing"]
pub struct TrustLease(Arc<Inner>);

impl Drop for TrustLease {
    fn drop(&mut self) {
        self.0.session.release_trust();
    }
}
