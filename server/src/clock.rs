//! The only place that reads the time.

use std::sync::Arc;
#[cfg(test)]
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A clock, shared by the parts of one server.
pub(crate) type SharedClock = Arc<dyn Clock>;

/// Tells the time, twice: how much has passed, and what the calendar says.
pub(crate) trait Clock: Send + Sync + 'static {
    /// Time since some fixed moment before the server started. Never falls. Timers use it.
    fn monotonic(&self) -> Duration;
    /// Milliseconds since 1970. Jumps both ways; it is information, never an order (R21).
    fn wall_ms(&self) -> i64;
}

/// The operating system's clocks.
#[derive(Debug)]
pub(crate) struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock that starts now.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the place that reads the time"
    )]
    pub(crate) fn shared() -> SharedClock {
        Arc::new(SystemClock {
            start: Instant::now(),
        })
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the place that reads the time"
    )]
    fn wall_ms(&self) -> i64 {
        // Before 1970 or after the year 292 million the calendar is wrong, and we say 0.
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| i64::try_from(since.as_millis()).ok())
            .unwrap_or(0)
    }
}

/// A clock that stands still; its calendar shows what it is told.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct ManualClock {
    wall_ms: AtomicI64,
}

#[cfg(test)]
impl ManualClock {
    /// Sets the calendar, as an operator or NTP would.
    pub(crate) fn set_wall_ms(&self, wall_ms: i64) {
        self.wall_ms.store(wall_ms, Ordering::SeqCst);
    }
}

#[cfg(test)]
impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }

    fn wall_ms(&self) -> i64 {
        self.wall_ms.load(Ordering::SeqCst)
    }
}
