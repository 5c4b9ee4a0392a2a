//! Asking a holder to let go.

use quorate_client::{Client, Result};

/// What a revocation writes into the holder's znode.
pub const REVOKE: &[u8] = b"__REVOKE__";

/// Asks whoever owns the contender at `path` to let go: [`LockGuard::revoke_requested`] resolves
/// there. Nothing forces it.
///
/// The paths are those of [`Mutex::contenders`]. One request; it overwrites what the holder's znode
/// said about itself.
///
/// [`LockGuard::revoke_requested`]: super::LockGuard::revoke_requested
/// [`Mutex::contenders`]: super::Mutex::contenders
///
/// # Errors
/// [`Error::is_no_node`](quorate_client::Error::is_no_node) if it has let go already.
///
/// # Cancel safety
/// May be dropped at any time: it is asked, or it is not.
///
/// Source: Curator `Revoker`; kazoo has none.
pub async fn revoke(client: &Client, path: &str) -> Result<()> {
    client.set(path, REVOKE).idempotent().await.map(drop)
}
