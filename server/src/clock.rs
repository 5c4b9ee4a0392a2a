//! The only place that reads the time.

use std::sync::Arc;
#[cfg(any(test, feature = "testing"))]
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A clock, shared by the parts of one server.
pub(crate) type SharedClock = Arc<dyn Clock>;

/// Tells the time, twice: how much has passed, and what the calendar says.
pub(crate) trait Clock: Send + Sync + 'static {
    /// Time since some fixed moment before the server started. Never falls. Timers use it.
    fn monotonic(&self) -> Duration;
    /// Milliseconds since 1970. Jumps both ways; it is information, never an order (R21).
    fn wall_ms(&self) -> i64;
    /// Whether time stands still between commands. Then nothing is done because time has passed:
    /// whoever moves the time asks for it.
    fn is_manual(&self) -> bool {
        false
    }
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

/// A clock that moves when it is told to.
#[cfg(any(test, feature = "testing"))]
#[derive(Debug, Default)]
pub(crate) struct ManualClock {
    since_start_ns: AtomicU64,
    wall_ms: AtomicI64,
}

#[cfg(any(test, feature = "testing"))]
impl ManualClock {
    /// Sets the calendar, as an operator or NTP would.
    pub(crate) fn set_wall_ms(&self, wall_ms: i64) {
        self.wall_ms.store(wall_ms, Ordering::SeqCst);
    }

    /// Lets time pass, on the calendar too.
    #[cfg(feature = "testing")]
    pub(crate) fn advance(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let before = self.since_start_ns.fetch_add(ns, Ordering::SeqCst);
        let whole_ms = (before.saturating_add(ns) / 1_000_000) - before / 1_000_000;
        let ms = i64::try_from(whole_ms).unwrap_or(i64::MAX);
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

#[cfg(any(test, feature = "testing"))]
impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.since_start_ns.load(Ordering::SeqCst))
    }

    fn wall_ms(&self) -> i64 {
        self.wall_ms.load(Ordering::SeqCst)
    }

    fn is_manual(&self) -> bool {
        true
    }
}
