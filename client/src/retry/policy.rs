//! Exponential back-off: pauses up to a bound that doubles.

use std::time::Duration;

use super::{RetryPolicy, RetryRun, within};

#[cfg(not(feature = "backoff"))]
use super::builtin::Steps;
#[cfg(feature = "backoff")]
use super::exponential::Steps;

/// What the bound of a pause grows to unless [`ExponentialBackoff::capped`] says otherwise.
const CAP_DEFAULT: Duration = Duration::from_secs(60);
/// Longer pauses are cut to this: nobody means them, and sums of them must not overflow.
const PAUSE_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Pauses drawn at random up to a bound that starts with `base`, doubles with every retry and
/// stops at a cap ("full jitter").
///
/// Pause `n`, counted from 0, lies between 0 and `min(cap, base × 2ⁿ)`. Drawing from the whole
/// range spreads clients that failed together better than adding a little to a fixed pause.
///
/// Without [`max_retries`](Self::max_retries) and [`max_elapsed`](Self::max_elapsed) it never
/// gives up. Compare Curator's `ExponentialBackoffRetry` and `BoundedExponentialBackoffRetry`,
/// and kazoo's `KazooRetry`.
///
/// ```
/// use std::time::Duration;
/// use quorate_client::{ExponentialBackoff, RetryPolicy};
///
/// let policy = ExponentialBackoff::new(Duration::from_millis(50))
///     .capped(Duration::from_secs(2))
///     .max_retries(8)
///     .max_elapsed(Duration::from_secs(15));
/// let pause = policy.start().next_delay(Duration::ZERO);
/// assert!(pause.is_some_and(|pause| pause <= Duration::from_millis(50)));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct ExponentialBackoff {
    base: Duration,
    cap: Duration,
    max_retries: Option<u32>,
    max_elapsed: Option<Duration>,
}

impl ExponentialBackoff {
    /// The first pause is at most `base`, the later ones at most a minute.
    pub fn new(base: Duration) -> ExponentialBackoff {
        ExponentialBackoff {
            base: base.min(PAUSE_MAX),
            cap: CAP_DEFAULT.max(base).min(PAUSE_MAX),
            max_retries: None,
            max_elapsed: None,
        }
    }

    /// No pause is longer than `cap`, not even the first.
    pub fn capped(mut self, cap: Duration) -> ExponentialBackoff {
        self.cap = cap.min(PAUSE_MAX);
        self
    }

    /// Gives up after `retries` retries, hence `retries + 1` attempts.
    pub fn max_retries(mut self, retries: u32) -> ExponentialBackoff {
        self.max_retries = Some(retries);
        self
    }

    /// Starts no attempt later than this after the first; the last pause is cut to fit.
    pub fn max_elapsed(mut self, max_elapsed: Duration) -> ExponentialBackoff {
        self.max_elapsed = Some(max_elapsed);
        self
    }
}

impl RetryPolicy for ExponentialBackoff {
    fn start(&self) -> Box<dyn RetryRun> {
        Box::new(ExponentialRun {
            steps: Steps::new(self.base, self.cap),
            retries_left: self.max_retries,
            max_elapsed: self.max_elapsed,
        })
    }
}

struct ExponentialRun {
    steps: Steps,
    retries_left: Option<u32>,
    max_elapsed: Option<Duration>,
}

impl RetryRun for ExponentialRun {
    fn next_delay(&mut self, elapsed: Duration) -> Option<Duration> {
        if let Some(left) = &mut self.retries_left {
            *left = left.checked_sub(1)?;
        }
        let delay = self.steps.next();
        match self.max_elapsed {
            Some(max_elapsed) => within(elapsed, max_elapsed, delay),
            None => Some(delay),
        }
    }
}
