//! A lock that is held, and how its holder learns that it is not any more.

use std::future::Future;

use quorate_client::{Client, Error, Reason, Result, TrustLease};

use crate::contention::Contender;
use crate::fencing::FencingToken;

/// Why a lock is no longer held.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Lost {
    /// Nobody has confirmed our session for so long that its locks may go to another.
    #[error("nobody confirms the session any more, another may hold the lock from now on")]
    NotTrusted,
    /// The session is over.
    #[error("the session is over: {0}")]
    Session(Reason),
    /// Our znode was deleted by somebody else.
    #[error("the lock's znode was deleted by somebody else")]
    Deleted,
}

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
    pub(crate) fn new(contender: Contender) -> LockGuard {
        let token = contender.token();
        LockGuard::with_token(contender, token)
    }

    /// A guard that goes on with the token of the one before it.
    pub(crate) fn with_token(contender: Contender, token: FencingToken) -> LockGuard {
        LockGuard {
            _trust: contender.client().hold_trust(),
            token,
            contender,
        }
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

    /// Resolves when the lock is no longer held, before another can hold it.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn lost(&self) -> Lost {
        let client = self.contender.client();
        let session = async {
            let reason = client.lost().await;
            Lost::Session(reason)
        };
        let trust = async {
            client.trust_lapsed().await;
            Lost::NotTrusted
        };
        tokio::select! {
            biased;
            lost = session => lost,
            lost = trust => lost,
            lost = self.deleted() => lost,
        }
    }

    /// Resolves when our znode is gone.
    async fn deleted(&self) -> Lost {
        loop {
            let event = match self.contender.watch_own().await {
                Ok((_, watch)) => watch.await.map(drop),
                Err(error) => Err(error),
            };
            match event {
                // Written to, or deleted: the next look tells.
                Ok(()) => {}
                Err(error) if matches!(error.reason(), Reason::NotOurs(_)) => return Lost::Deleted,
                Err(error) if error.is_session_lost() => {
                    return Lost::Session(error.reason().clone());
                }
                // The connection is away: the session's own truth decides meanwhile.
                Err(_) => {
                    if let Err(error) = self.contender.client().connected().await {
                        return Lost::Session(error.reason().clone());
                    }
                }
            }
        }
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
                    quorate_client::Context::of("verify", self.path()),
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
}
