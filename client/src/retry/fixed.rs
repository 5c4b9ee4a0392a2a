//! Policies whose pause is always the same.

use std::time::Duration;

use super::{RetryPolicy, RetryRun, within};

/// Never tries again.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct NoRetry;

/// Tries again up to `n` times with the same pause. Curator's `RetryNTimes`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryNTimes {
    n: u32,
    pause: Duration,
}

/// Tries again once. Curator's `RetryOneTime`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryOnce {
    pause: Duration,
}

/// Never gives up. Curator's `RetryForever`, kazoo's `max_tries=-1`.
///
/// The operation still ends with its own deadline, its session, or when it is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryForever {
    pause: Duration,
}

/// Tries again until a time has passed since the first attempt. Curator's `RetryUntilElapsed`,
/// kazoo's `deadline`; unlike Curator's, the last pause is cut so that no attempt starts later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryUntilElapsed {
    max_elapsed: Duration,
    pause: Duration,
}

impl RetryNTimes {
    /// `n` retries, hence `n + 1` attempts, each after `pause`.
    #[must_use]
    pub fn new(n: u32, pause: Duration) -> RetryNTimes {
        RetryNTimes { n, pause }
    }
}

impl RetryOnce {
    /// One retry after `pause`.
    #[must_use]
    pub fn new(pause: Duration) -> RetryOnce {
        RetryOnce { pause }
    }
}

impl RetryForever {
    /// Retries after `pause` each.
    #[must_use]
    pub fn new(pause: Duration) -> RetryForever {
        RetryForever { pause }
    }
}

impl RetryUntilElapsed {
    /// Retries after `pause` each; none starts later than `max_elapsed` after the first attempt.
    #[must_use]
    pub fn new(max_elapsed: Duration, pause: Duration) -> RetryUntilElapsed {
        RetryUntilElapsed { max_elapsed, pause }
    }
}

/// All of them: a pause, and two limits.
struct FixedRun {
    pause: Duration,
    retries_left: Option<u32>,
    max_elapsed: Option<Duration>,
}

impl FixedRun {
    fn times(n: u32, pause: Duration) -> Box<dyn RetryRun> {
        Box::new(FixedRun {
            pause,
            retries_left: Some(n),
            max_elapsed: None,
        })
    }
}

impl RetryRun for FixedRun {
    fn next_delay(&mut self, elapsed: Duration) -> Option<Duration> {
        if let Some(left) = &mut self.retries_left {
            *left = left.checked_sub(1)?;
        }
        match self.max_elapsed {
            Some(max_elapsed) => within(elapsed, max_elapsed, self.pause),
            None => Some(self.pause),
        }
    }
}

impl RetryPolicy for NoRetry {
    fn start(&self) -> Box<dyn RetryRun> {
        FixedRun::times(0, Duration::ZERO)
    }
}

impl RetryPolicy for RetryNTimes {
    fn start(&self) -> Box<dyn RetryRun> {
        FixedRun::times(self.n, self.pause)
    }
}

impl RetryPolicy for RetryOnce {
    fn start(&self) -> Box<dyn RetryRun> {
        FixedRun::times(1, self.pause)
    }
}

impl RetryPolicy for RetryForever {
    fn start(&self) -> Box<dyn RetryRun> {
        Box::new(FixedRun {
            pause: self.pause,
            retries_left: None,
            max_elapsed: None,
        })
    }
}

impl RetryPolicy for RetryUntilElapsed {
    fn start(&self) -> Box<dyn RetryRun> {
        Box::new(FixedRun {
            pause: self.pause,
            retries_left: None,
            max_elapsed: Some(self.max_elapsed),
        })
    }
}
