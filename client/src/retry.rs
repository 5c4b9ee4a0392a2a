//! When to try again, and when to give up.
//!
//! Job: the traits that a client asks for its pauses, and the usual policies. Not here: what may
//! be tried again (the errors say that), sleeping, deadlines of a single attempt.
//!
//! Invariants: a pause never exceeds what the policy names; with a limit in elapsed time no
//! attempt starts behind it; policies are shared between operations and keep no state of one,
//! which lives in its [`RetryRun`]. No method is async, so no trait here needs `async-trait`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::budget::{Budgeted, RetryBudget, with_budget};
pub use self::fixed::{NoRetry, RetryForever, RetryNTimes, RetryOnce, RetryUntilElapsed};
pub use self::policy::ExponentialBackoff;

mod budget;
#[cfg(any(test, not(feature = "backoff")))]
mod builtin;
#[cfg(feature = "backoff")]
mod exponential;
mod fixed;
mod policy;

/// How an operation that failed in a retryable way is tried again.
///
/// ```
/// use std::time::Duration;
/// use quorate_client::{RetryPolicy, RetryRun};
///
/// /// Three times, at once.
/// #[derive(Debug)]
/// struct Eager;
///
/// struct EagerRun { left: u32 }
///
/// impl RetryPolicy for Eager {
///     fn start(&self) -> Box<dyn RetryRun> {
///         Box::new(EagerRun { left: 3 })
///     }
/// }
///
/// impl RetryRun for EagerRun {
///     fn next_delay(&mut self, _elapsed: Duration) -> Option<Duration> {
///         self.left = self.left.checked_sub(1)?;
///         Some(Duration::ZERO)
///     }
/// }
///
/// let mut run = Eager.start();
/// assert_eq!(run.next_delay(Duration::ZERO), Some(Duration::ZERO));
/// ```
pub trait RetryPolicy: Send + Sync + fmt::Debug {
    /// Starts the count for one operation.
    fn start(&self) -> Box<dyn RetryRun>;
}

/// The count for one operation.
pub trait RetryRun: Send {
    /// An attempt failed. How long to wait before the next, `None` to give up. `elapsed` is the
    /// time since the first attempt began.
    fn next_delay(&mut self, elapsed: Duration) -> Option<Duration>;
}

impl<P: RetryPolicy + ?Sized> RetryPolicy for Arc<P> {
    fn start(&self) -> Box<dyn RetryRun> {
        P::start(self)
    }
}

impl<P: RetryPolicy + ?Sized> RetryPolicy for Box<P> {
    fn start(&self) -> Box<dyn RetryRun> {
        P::start(self)
    }
}

/// Cuts a pause so that the next attempt starts within `max_elapsed`; `None` once that has
/// passed.
fn within(elapsed: Duration, max_elapsed: Duration, delay: Duration) -> Option<Duration> {
    let left = max_elapsed
        .checked_sub(elapsed)
        .filter(|left| !left.is_zero())?;
    Some(delay.min(left))
}

#[cfg(test)]
mod tests;
