//! An async ZooKeeper client that tells the truth about sessions.
#![forbid(unsafe_code)]
#![warn(clippy::exhaustive_enums)]

mod auth;
mod codec;
mod compress;
#[cfg_attr(not(test), expect(dead_code, reason = "used once the session joins"))]
mod hosts;
mod retry;
#[cfg_attr(not(test), expect(dead_code, reason = "used once the session joins"))]
mod sasl;
#[cfg_attr(not(test), expect(dead_code, reason = "used once the session joins"))]
mod transport;

pub use auth::{
    AclByPrefix, AclProvider, AuthProvider, CreatorAllAcl, Credential, OpenAcl, StaticAuth,
};
#[cfg(feature = "json")]
pub use codec::Json;
pub use codec::{Codec, CodecError};
pub use compress::{Compression, CompressionError, Gzip};
pub use hosts::{ConnectStringError, EnsembleProvider, FixedEnsemble};
pub use retry::{
    Budgeted, ExponentialBackoff, NoRetry, RetryBudget, RetryForever, RetryNTimes, RetryOnce,
    RetryPolicy, RetryRun, RetryUntilElapsed, with_budget,
};
pub use sasl::SaslError;
#[cfg(feature = "tls")]
pub use transport::tls::{TlsError, TlsOptions};
