//! A lock that is held, and how its holder learns that it is not any more.

use std::future::Future;

use quorate_client::{Client, Context, Error, Reason, Result, SessionId, TrustLease};

use crate::contention::Contender;
use crate::fencing::FencingToken;
use crate::lost::Lost;

/// Holds a lock until it is released or dropped, or until the session ends.
///
/// Whoever holds a guard may believe in it as long as [`lost`](LockGuard::lost) has not resolved:
/// it resolves before another can hold the lock. A process that stands still cannot look, so
/// whatever the lock protects should compare [`token`](LockGuard::token)s, or be written through
/// [`multi`](LockGuard::multi).
#[derive(Debug)]
#[must_use = "a dropped guard releases the lock"]
pub struct LockGuard {
    contender: Contender,
    token: FencingToken,
    /// Keeps the session proven while the lock is held.
    _trust: TrustLease,
}

impl LockGuard {
    /// For a contender whose turn it is.
    pub(crate) async fn claim(contender: Contender) -> Result<LockGuard> {
        let token = contender.token();
        LockGuard::claim_with(contender, token).await
    }

    /// A guard that goes on with the token of the one before it.
    pub(crate) async fn claim_with(contender: Contender, token: FencingToken) -> Result<LockGuard> {
        let trust = contender.client().hold_trust();
        contender.prove().await?;
        Ok(LockGuard {
            contender,
            token,
            _trust: trust,
        })
    }

    /// The fencing token: larger than that of every holder before.
    #[must_use]
    pub const fn token(&self) -> FencingToken {
        self.token
    }

    /// The znode that stands for this holder.
    #[must_use]
    pub fn path(&self) -> &str {
        self.contender.path()
    }

    /// A client that works in the session that holds the lock, and in no other.
    #[must_use]
    pub fn client(&self) -> &Client {
        self.contender.client()
    }

    /// The session that holds the lock.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.contender.session()
    }

    /// Resolves when the lock is no longer held, before another can hold it. Only where somebody
    /// deletes our znode by hand it is after that.
    ///
    /// One read and one watch on our own znode for as long as it is awaited.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn lost(&self) -> Lost {
        self.contender.lost().await
    }

    /// Whether the session is proven at this moment. No request: a znode that somebody deleted by
    /// hand goes unseen, as does all that happens behind this call.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        !self.contender.is_doubtful()
    }

    /// Resolves when somebody asks for the lock with [`revoke`](super::revoke). It is a request:
    /// the lock is held until it is released.
    ///
    /// # Errors
    /// [`Error::SessionGone`] when the lock is lost.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    ///
    /// Source: Curator `Revocable`.
    pub async fn revoke_requested(&self) -> Result<()> {
        self.contender.written(|data| data == super::REVOKE).await
    }

    /// Runs `work` for as long as the lock is held, and stops it at its next `.await` when the lock
    /// is lost. What it does between two awaits is not stopped.
    ///
    /// # Errors
    /// [`Lost`] if the lock was lost first.
    ///
    /// # Cancel safety
    /// As `work`; the lock stays held.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Result<T, Lost> {
        tokio::select! {
            biased;
            lost = self.lost() => Err(lost),
            done = work => Ok(done),
        }
    }

    /// Asks a quorum whether the lock is held now.
    ///
    /// # Errors
    /// [`Error::SessionGone`] if it is not; others if nobody could tell.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn verify(&self) -> Result<()> {
        match self.multi().send().await {
            Ok(_) => Ok(()),
            Err(error) if error.is_no_node() => {
                let text = format!("{} is no longer there", self.path());
                let reason = Reason::NotOurs(text);
                Err(Error::session_gone(
                    reason,
                    Context::of("verify", self.path()),
                ))
            }
            Err(error) => Err(error),
        }
    }

    /// Operations that happen all together, and only if the lock is still held: the first of them
    /// checks our znode.
    ///
    /// If the lock is gone nothing happens, and the call fails with
    /// [`Error::is_no_node`] for operation 0.
    pub fn multi(&self) -> quorate_client::Multi {
        self.contender.client().multi().check(self.path(), -1)
    }

    /// Releases the lock, and waits until the next in line has it to take.
    ///
    /// # Errors
    /// If the outcome stays unknown; the release goes on in the background then.
    ///
    /// # Cancel safety
    /// May be dropped at any time: the release goes on in the background.
    pub async fn release(self) -> Result<()> {
        self.contender.leave().await
    }

    /// As [`release`](LockGuard::release), for those who share a guard.
    pub(crate) async fn resign(&self) -> Result<()> {
        self.contender.resign().await
    }

    /// Releases the lock in the background, for those who share a guard.
    pub(crate) fn abandon(&self) {
        self.contender.abandon();
    }

    pub(crate) const fn contender(&self) -> &Contender {
        &self.contender
    }

    pub(crate) fn into_contender(self) -> Contender {
        self.contender
    }
}
