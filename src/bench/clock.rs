//! The only place of the bench that reads the time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds since the start of the run, the same for all threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the place that reads the time"
    )]
    pub(super) fn new() -> Clock {
        Clock {
            start: Instant::now(),
        }
    }

    /// A clock that has been running for so long.
    #[cfg(test)]
    pub(super) fn started_before(age: Duration) -> Clock {
        let start = Clock::new().start;
        Clock {
            start: start.checked_sub(age).expect("the machine runs for longer"),
        }
    }

    pub(super) fn now(self) -> u64 {
        nanos(self.start.elapsed())
    }

    /// How long it is until `at`; nothing if that has passed.
    pub(super) fn until(self, at: u64) -> Duration {
        Duration::from_nanos(at.saturating_sub(self.now()))
    }
}

/// A duration in nanoseconds; 584 years and more are all the same.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Seconds since 1970: names runs, orders nothing.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that reads the time"
)]
pub(super) fn wall_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
