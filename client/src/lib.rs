//! An async ZooKeeper client that tells the truth about sessions.
//!
//! It talks to Quorate and to Apache ZooKeeper 3.5 to 3.9. What sets it apart is that it never
//! guesses: an operation ends as *done*, as *did not happen* or as *unknown*, a watch says where it
//! may have missed something, and a session says until when it can be relied upon.
//!
//! ```
//! use std::time::Duration;
//! use quorate_client::Client;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> quorate_client::Result<()> {
//! # let server = quorate_server::testing::TestServer::start().await;
//! # quorate_client::Client::connect(server.connect_string()).await?.create("/app", "").await?;
//! let servers = "zk1:2181,zk2:2181,zk3:2181/app";
//! # let servers = server.connect_string() + "/app";
//! let client = Client::builder(servers)
//!     .session_timeout(Duration::from_secs(10))
//!     .digest("svc", "s3cret")
//!     .connect()
//!     .await?;
//!
//! client.create("/config", "rate=5").parents().await?;
//! let node = client.get("/config").await?;
//! client.set("/config", "rate=8").version(node.stat.version).await?;
//!
//! // A transaction: all of it or nothing.
//! client
//!     .multi()
//!     .check("/config", 1)
//!     .create("/jobs", "")
//!     .create("/jobs/first", "resize")
//!     .await?;
//!
//! client.close().await
//! # }
//! ```
//!
//! # Calls
//!
//! Each operation is a builder: options first, then `.await`. `.send()` queues the request at once
//! and gives a [`Call`] to await later, so that many can be on their way. **Requests leave in the
//! order of the calls**, however the futures are polled, and the server answers in that order.
//!
//! Dropping a call whose request has not left withdraws it. Dropped later, a write may still take
//! effect; what a watch or a protected create would have left behind is taken back.
//!
//! Paths are text, checked when a call is sent, or a [`ZnodePath`], checked once and taken by every
//! call as it is.
//!
//! # Did it happen?
//!
//! [`Error`] has a variant for each answer, and [`Error::outcome`] names it:
//!
//! | variant | what is known |
//! | --- | --- |
//! | [`Error::DidNotHappen`] | refused, or never left; [`is_retryable`](Error::is_retryable) says if the cause may pass |
//! | [`Error::Unknown`] | it left and no answer came: read before you repeat it |
//! | [`Error::Happened`] | it is done, but its result did not get through |
//! | [`Error::SessionGone`] | the session that it belonged to is over |
//! | [`Error::NotAllowed`] | permission, credentials, quota: it had no effect |
//! | [`Error::BadArgument`] | no server would take such a call |
//!
//! What did not happen is tried again by itself, as the [`RetryPolicy`] says, until the call's time
//! is over. What may have happened is not: make it safe to repeat with
//! [`protected`](Create::protected) (creates that are found again by their name) or
//! [`idempotent`](SetData::idempotent), or look for yourself.
//!
//! # Watches
//!
//! ```
//! use futures::StreamExt;
//! # use quorate_client::Notice;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> quorate_client::Result<()> {
//! # let server = quorate_server::testing::TestServer::start().await;
//! # let client = quorate_client::Client::connect(server.connect_string()).await?;
//! # client.create("/config", "").await?;
//! # client.create("/jobs", "").await?;
//! // Once: the value, and a future of its next change.
//! let (node, changed) = client.get("/config").watch().await?;
//! # client.set("/config", "rate=9").await?;
//! let event = changed.await?;
//!
//! // For good: every change below /jobs.
//! let mut changes = client.watch_recursive("/jobs").await?;
//! # client.create("/jobs/first", "").await?;
//! while let Some(notice) = changes.next().await {
//!     match notice {
//!         Notice::Event(event) => println!("{:?} {}", event.kind, event.path),
//!         Notice::Gap { .. } => println!("the connection was away: read again"),
//!         Notice::Lost(reason) => println!("{reason}"),
//!         _ => {}
//!     }
//! #     break;
//! }
//!
//! // Or simply the latest value, whatever happens in between.
//! let mut latest = client.follow("/config");
//! while let Some(node) = latest.next().await {
//!     println!("{:?}", node?);
//! #     break;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Watches survive reconnects within the session and are taken off the server when they are
//! dropped. No callback is ever called: what nobody polls waits, in bounded memory.
//!
//! # The session
//!
//! [`Client::status`] is a `watch` channel with the [`SessionState`]:
//!
//! | state | means | what a holder of a lock does |
//! | --- | --- | --- |
//! | `Connecting` | no session yet | waits |
//! | `Connected` | all is well | works |
//! | `Suspended` | the connection is away, the session may live | works until [`Client::trusted_until`] |
//! | `ReadOnly` | a server without a quorum answers reads | as `Suspended` |
//! | `Lost` | the session is over, its ephemerals are free | has stopped |
//! | `Closed` | closed by us, or never to connect | has stopped |
//!
//! [`Client::trusted_until`] is reckoned from when a packet was *sent* that the leader heard of,
//! so it passes before a server can give this session's locks to another, also when a connection
//! swallows everything and says nothing. A session that cannot be confirmed by then is given up
//! here (`Lost`) rather than hoped for.
//!
//! A lost session ends the client, so that nobody works on without noticing.
//! [`new_session_on_loss`](ClientBuilder::new_session_on_loss) opens the next one instead;
//! [`Client::pinned`] gives a handle that works in the session of now and in no other.
//!
//! # Coming from Curator or kazoo
//!
//! | here | Curator | kazoo |
//! | --- | --- | --- |
//! | [`Client`] | `CuratorFramework` | `KazooClient` |
//! | [`Client::chroot`] | `usingNamespace` | chroot in the hosts |
//! | [`Client::status`] | `ConnectionStateListener` | `add_listener` |
//! | [`Create::protected`] | `withProtection` | built into its recipes |
//! | [`Create::parents`], [`Create::container_parents`] | `creatingParentsIfNeeded`, `creatingParentContainersIfNeeded` | `makepath=True` |
//! | [`Delete::guaranteed`] | `guaranteed` | none |
//! | [`Client::multi`] | `transaction` | `transaction` |
//! | [`Client::follow`] | `NodeCache` | `DataWatch` |
//! | [`Client::follow_children`] | `PathChildrenCache` | `ChildrenWatch` |
//! | [`RetryPolicy`] | `RetryPolicy` | `KazooRetry` |
//! | [`Client::node`], [`Json`] | `ModeledFramework` | none |
//!
//! # Features
//!
//! | feature | default | what it adds |
//! | --- | --- | --- |
//! | `tls` | on | [`TlsOptions`], through rustls |
//! | `json` | on | [`Json`] values |
//! | `backoff` | on | retry pauses from the crate `backoff`; a built-in with the same bounds without it |
//! | `metrics` | off | counters and histograms through the `metrics` facade, see [`metrics`] |
//!
//! # Limits
//!
//! - Time is the monotonic clock's, which stands still while a machine is suspended: after that,
//!   [`Client::trusted_until`] can lie in the future although the session is over. A fencing token
//!   protects where this matters.
//! - When the runtime is shut down without [`Client::close`], the session ends by its timeout.
#![forbid(unsafe_code)]
#![warn(clippy::exhaustive_enums)]

mod auth;
mod builder;
mod cache;
mod call;
mod client;
mod codec;
mod compress;
mod declared;
mod ensemble;
mod error;
mod find;
mod follow;
mod hosts;
mod janitor;
pub mod metrics;
mod ops;
mod path;
mod retry;
mod root;
mod sasl;
mod session;
mod transport;
mod watch;

pub use auth::{
    AclByPrefix, AclProvider, AuthProvider, CreatorAllAcl, Credential, OpenAcl, StaticAuth,
};
pub use builder::ClientBuilder;
pub use cache::{
    Cache, CacheBuilder, CacheEvent, CacheEvents, CacheSnapshot, CachedNode, ChildrenCache,
    NodeCache, TreeCache,
};
pub use call::Call;
pub use client::{Client, TrustLease};
#[cfg(feature = "json")]
pub use codec::Json;
pub use codec::{Codec, CodecError};
pub use compress::{Compression, CompressionError, Gzip};
pub use declared::{Declaration, Declare, Declared};
pub use error::{Context, Error, Outcome, Reason, Result};
pub use follow::{Children, Follow, FollowChildren, FollowValue};
pub use hosts::{ConnectStringError, EnsembleProvider, FixedEnsemble};
pub use ops::{
    CountDescendants, Create, CreateOp, Created, Delete, EnsembleConfig, EnsembleMember,
    Ephemerals, Exists, Get, GetAcl, GetChildren, Identity, Multi, MultiRead, Node, OpResult,
    ReadResult, Reconfig, SetAcl, SetData, SyncPath, TypedNode, Versioned, WhoAmI,
};
pub use path::{PathArg, ZnodePath};
pub use quorate_proto::path::PathError;
pub use quorate_proto::{
    Acl, AddWatchMode, ErrorCode, EventType, Id, Perms, SessionId, Stat, WatcherType, Zxid,
};
pub use retry::{
    Budgeted, ExponentialBackoff, NoRetry, RetryBudget, RetryForever, RetryNTimes, RetryOnce,
    RetryPolicy, RetryRun, RetryUntilElapsed, with_budget,
};
pub use sasl::SaslError;
pub use session::{SessionInfo, SessionState, Status};
#[cfg(feature = "tls")]
pub use transport::tls::{TlsError, TlsOptions};
pub use watch::{Notice, Watch, WatchStream, WatchedEvent};
