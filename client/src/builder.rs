//! How a client is described.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::auth::{AclProvider, AuthProvider, Credential, OpenAcl, StaticAuth};
use crate::client::{Client, Inner};
use crate::ensemble;
use crate::error::{Context, Error, Reason, Result};
use crate::hosts::{ConnectString, EnsembleProvider};
use crate::janitor::Janitor;
use crate::retry::{ExponentialBackoff, RetryPolicy};
use crate::root::Root;
use crate::session::{SaslLogin, Session, SessionInfo, Settings, spawn};
use crate::transport::Connector;
#[cfg(feature = "tls")]
use crate::transport::tls::TlsOptions;

/// The first pause before an operation is tried again, and the longest.
const RETRY_BASE: Duration = Duration::from_millis(20);
const RETRY_CAP: Duration = Duration::from_secs(2);

/// Nobody waits longer for a close, and no clock runs over.
const CLOSE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Describes a [`Client`]; every setting has a default that works.
#[derive(Debug)]
#[must_use = "nothing happens before `connect`"]
pub struct ClientBuilder {
    connect_string: String,
    session_timeout: Duration,
    connect_timeout: Duration,
    operation_timeout: Option<Duration>,
    close_timeout: Duration,
    credentials: Vec<Credential>,
    auth: Option<Arc<dyn AuthProvider>>,
    sasl: Option<SaslLogin>,
    acl: Option<Arc<dyn AclProvider>>,
    retry: Arc<dyn RetryPolicy>,
    read_only: bool,
    new_session_on_loss: bool,
    resume: Option<SessionInfo>,
    waiting_max: usize,
    waiting_bytes_max: usize,
    ensemble: Option<Arc<dyn EnsembleProvider>>,
    tracks_ensemble: bool,
    request_bytes_max: usize,
    reply_bytes_max: usize,
    #[cfg(feature = "tls")]
    tls: Option<TlsOptions>,
}

impl ClientBuilder {
    pub(crate) fn new(connect_string: String) -> ClientBuilder {
        ClientBuilder {
            connect_string,
            session_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(15),
            operation_timeout: Some(Duration::from_secs(30)),
            close_timeout: Duration::from_secs(5),
            credentials: Vec::new(),
            auth: None,
            sasl: None,
            acl: None,
            retry: Arc::new(ExponentialBackoff::new(RETRY_BASE).capped(RETRY_CAP)),
            read_only: false,
            new_session_on_loss: false,
            resume: None,
            waiting_max: 65_536,
            waiting_bytes_max: 64 * 1024 * 1024,
            ensemble: None,
            tracks_ensemble: false,
            request_bytes_max: 0xf_ffff,
            reply_bytes_max: 64 * 1024 * 1024,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// The session timeout to wish for; the server may give another. 10 s.
    pub fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = timeout;
        self
    }

    /// How long [`connect`](ClientBuilder::connect) tries. 15 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one call may take, waiting for a connection and repetitions included. 30 s;
    /// `None` for as long as the session lives.
    ///
    /// A server that answers pings and nothing else keeps the session, so that without a limit a
    /// call waits for it. A connection on which the next answer is one that nobody waits for any
    /// more, and has been due for a whole session timeout, is left for another.
    pub fn operation_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.operation_timeout = timeout.into();
        self
    }

    /// How long [`Client::close`] waits for the server's answer. 5 s.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// Authenticates every connection as this user, with scheme `digest`.
    pub fn digest(mut self, user: &str, password: &str) -> Self {
        self.credentials.push(Credential::digest(user, password));
        self
    }

    /// Authenticates every connection with these credentials.
    pub fn credential(mut self, credential: Credential) -> Self {
        self.credentials.push(credential);
        self
    }

    /// Every read shows all that anybody was acknowledged before it was sent, for a round trip
    /// from the server to its leader and on to a quorum. Off: a read shows what the server at hand
    /// has, and may miss what others have just written.
    ///
    /// For Quorate's ensembles: ZooKeeper refuses the wish and ends the session; send
    /// [`sync`](Client::sync) first there. An [`auth_provider`](Self::auth_provider) has to give
    /// [`Credential::linearizable_reads`] itself.
    pub fn linearizable_reads(mut self, enabled: bool) -> Self {
        let wish = Credential::linearizable_reads();
        self.credentials.retain(|credential| *credential != wish);
        if enabled {
            self.credentials.push(wish);
        }
        self
    }

    /// Asks for credentials at each new connection; those given by [`digest`](Self::digest) and
    /// [`credential`](Self::credential) are not sent then.
    pub fn auth_provider(mut self, provider: impl AuthProvider + 'static) -> Self {
        self.auth = Some(Arc::new(provider));
        self
    }

    /// Authenticates every connection with SASL DIGEST-MD5, before anything else is sent.
    pub fn sasl_digest_md5(mut self, user: &str, password: &str) -> Self {
        self.sasl = Some(SaslLogin {
            user: user.to_owned(),
            password: password.to_owned(),
        });
        self
    }

    /// Which ACL created znodes get where the call names none. Open to all.
    pub fn acl_provider(mut self, provider: impl AclProvider + 'static) -> Self {
        self.acl = Some(Arc::new(provider));
        self
    }

    /// When and how often an operation that did not happen is tried again. Exponential back-off
    /// with jitter, until the operation's time is over.
    pub fn retry(mut self, policy: impl RetryPolicy + 'static) -> Self {
        self.retry = Arc::new(policy);
        self
    }

    /// Lets a server without a quorum serve reads, while the search for one with a quorum goes on.
    pub fn read_only(mut self, allowed: bool) -> Self {
        self.read_only = allowed;
        self
    }

    /// Opens another session when one is lost, instead of ending. Off: whoever relies on what the
    /// session owned must notice that it is gone.
    pub fn new_session_on_loss(mut self, enabled: bool) -> Self {
        self.new_session_on_loss = enabled;
        self
    }

    /// Takes up a session that [`Client::session_info`] or [`Client::detach`] gave.
    pub fn resume(mut self, session: SessionInfo) -> Self {
        self.resume = Some(session);
        self
    }

    /// How many requests may wait for an answer, sent or not; more are refused at once. 65 536.
    pub fn max_waiting(mut self, requests: usize) -> Self {
        self.waiting_max = requests.max(1);
        self
    }

    /// How many bytes of requests may wait to be sent; more are refused at once. 64 MiB.
    pub fn max_waiting_bytes(mut self, bytes: usize) -> Self {
        self.waiting_bytes_max = bytes;
        self
    }

    /// Asks where the servers are, at the start and after every round in which none could be
    /// reached. The connect string names the chroot, and the servers to go on with if the
    /// provider cannot answer.
    pub fn ensemble_provider(mut self, provider: impl EnsembleProvider + 'static) -> Self {
        self.ensemble = Some(Arc::new(provider));
        self
    }

    /// Follows the ensemble's own list of its servers, `/zookeeper/config`, through
    /// reconfigurations. Off: behind address translation those addresses lead nowhere.
    ///
    /// A server that listens on all its addresses is dialled at the one that its peers use.
    ///
    /// Source: Curator `EnsembleTracker`.
    pub fn track_ensemble(mut self, enabled: bool) -> Self {
        self.tracks_ensemble = enabled;
        self
    }

    /// The largest request in bytes, as the servers' `jute.maxbuffer` has it: a server closes the
    /// connection of a larger one, so it is refused here. 1 MiB − 1.
    pub fn max_request_bytes(mut self, bytes: usize) -> Self {
        self.request_bytes_max = bytes;
        self
    }

    /// The largest reply in bytes that is read. 64 MiB.
    pub fn max_reply_bytes(mut self, bytes: usize) -> Self {
        self.reply_bytes_max = bytes;
        self
    }

    /// Speaks TLS.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, options: TlsOptions) -> Self {
        self.tls = Some(options);
        self
    }

    /// Connects, and opens a session or takes one up.
    ///
    /// The session's task runs on the Tokio runtime that this is called on.
    ///
    /// # Errors
    /// [`Error::BadArgument`] for a connect string, a chroot or TLS files that cannot be used;
    /// [`Error::DidNotHappen`] if no server answered in time, saying what the last one did, and at
    /// once if every server was tried and none passes for trusted ([`Reason::Tls`]);
    /// [`Error::SessionGone`] if a resumed session is over, or the credentials were refused.
    ///
    /// # Cancel safety
    /// Dropping it closes whatever was opened.
    pub async fn connect(self) -> Result<Client> {
        let limit = self.connect_timeout;
        let client = self.start()?;
        let started = Instant::now();
        let mut status = client.status();
        let untrusted = status.wait_for(|status| matches!(status.reason, Some(Reason::Tls(_))));
        let connected = async {
            tokio::select! {
                connected = client.connected() => Some(connected),
                _ = untrusted => None,
            }
        };
        match timeout(limit, connected).await {
            Ok(Some(Ok(()))) => Ok(client),
            Ok(Some(Err(error))) => Err(error),
            Ok(None) | Err(_) => {
                let reason = client.why_not_connected();
                let context = Context {
                    op: "connect",
                    elapsed: started.elapsed(),
                    ..Context::default()
                };
                Err(Error::did_not_happen(reason, context))
            }
        }
    }

    /// Starts without waiting for a connection: calls wait for it.
    ///
    /// # Errors
    /// [`Error::BadArgument`], as [`connect`](ClientBuilder::connect).
    pub fn start(self) -> Result<Client> {
        let bad = |reason| {
            Error::bad_argument(
                reason,
                Context {
                    op: "connect",
                    ..Context::default()
                },
            )
        };
        let parsed = ConnectString::parse(&self.connect_string)
            .map_err(|error| bad(Reason::Option(error.to_string())))?;
        let root = match &parsed.chroot {
            Some(chroot) => Root::default()
                .join(&chroot.into())
                .map_err(|error| bad(Reason::Path(error)))?,
            None => Root::default(),
        };
        #[cfg(feature = "tls")]
        let connector = match self.tls {
            Some(options) => {
                let config = options
                    .build()
                    .map_err(|e| bad(Reason::Option(e.to_string())))?;
                Connector::with_tls(config)
            }
            None => Connector::plain(),
        };
        #[cfg(not(feature = "tls"))]
        let connector = Connector::plain();
        let auth = match self.auth {
            Some(auth) => Some(auth),
            None if self.credentials.is_empty() => None,
            None => Some(Arc::new(StaticAuth::new(self.credentials)) as Arc<dyn AuthProvider>),
        };
        let session = Session::new(Settings {
            session_timeout: self.session_timeout,
            connector,
            servers: parsed.servers,
            ensemble: self.ensemble,
            auth,
            sasl: self.sasl,
            may_be_read_only: self.read_only,
            new_session_on_loss: self.new_session_on_loss,
            resume: self.resume,
            waiting_max: self.waiting_max,
            waiting_bytes_max: self.waiting_bytes_max,
            request_bytes_max: self.request_bytes_max,
            reply_bytes_max: self.reply_bytes_max,
            close_timeout: self.close_timeout.min(CLOSE_MAX),
        });
        let tasks = TaskTracker::new();
        spawn(&session, &tasks);
        let janitor = Janitor::spawn(&session, &tasks);
        let inner = Inner {
            session,
            tasks,
            janitor,
            retry: self.retry,
            acl: self.acl,
            open_acl: OpenAcl.acl_for("").into(),
            operation_timeout: self.operation_timeout,
            is_closed: AtomicBool::new(false),
        };
        let client = Client::new(inner, root);
        if self.tracks_ensemble {
            ensemble::track(&client);
        }
        Ok(client)
    }
}
