//! An async ZooKeeper client that tells the truth about sessions.
#![forbid(unsafe_code)]
#![warn(clippy::exhaustive_enums)]

mod auth;
mod builder;
mod cache;
mod call;
mod client;
mod codec;
mod compress;
mod ensemble;
mod error;
mod find;
mod follow;
mod hosts;
mod janitor;
pub mod metrics;
mod ops;
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
pub use error::{Context, Error, Outcome, Reason, Result};
pub use follow::{Children, Follow, FollowChildren, FollowValue};
pub use hosts::{ConnectStringError, EnsembleProvider, FixedEnsemble};
pub use ops::{
    CountDescendants, Create, CreateOp, Created, Delete, EnsembleConfig, EnsembleMember,
    Ephemerals, Exists, Get, GetAcl, GetChildren, Identity, Multi, MultiRead, Node, OpResult,
    ReadResult, Reconfig, SetAcl, SetData, Sync, TypedNode, Versioned, WhoAmI,
};
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
