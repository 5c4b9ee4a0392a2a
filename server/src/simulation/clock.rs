//! The one time of the simulation, and the clocks that servers read it on.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Clock;

/// Microseconds since the schedule began. What truly happens when; no server sees it.
pub(super) type Time = u64;

/// The true time, shared by all clocks.
#[derive(Clone, Default)]
pub(super) struct TrueTime(Arc<AtomicU64>);

impl TrueTime {
    pub(super) fn now(&self) -> Time {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self, now: Time) {
        self.0.store(now, Ordering::Relaxed);
    }
}

/// A server's clock: a zero of its own, a rate that is a little off, a calendar that jumps.
pub(super) struct ServerClock {
    time: TrueTime,
    zero: Duration,
    /// Parts of a million that it runs fast (or slow, if negative).
    drift_ppm: i64,
    /// What a planted fault adds.
    ahead_us: AtomicU64,
    calendar_ms: AtomicI64,
}

impl ServerClock {
    pub(super) fn new(time: TrueTime, zero: Duration, drift_ppm: i64) -> Arc<ServerClock> {
        Arc::new(ServerClock {
            time,
            zero,
            drift_ppm,
            ahead_us: AtomicU64::new(0),
            calendar_ms: AtomicI64::new(1_700_000_000_000),
        })
    }

    pub(super) fn set_ahead(&self, ahead: Duration) {
        let ahead = u64::try_from(ahead.as_micros()).unwrap();
        self.ahead_us.store(ahead, Ordering::Relaxed);
    }

    pub(super) fn jump(&self, ms: i64) {
        self.calendar_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for ServerClock {
    fn monotonic(&self) -> Duration {
        let now = i64::try_from(self.time.now()).unwrap();
        let drifted = now + now * self.drift_ppm / 1_000_000;
        let drifted = u64::try_from(drifted).unwrap() + self.ahead_us.load(Ordering::Relaxed);
        self.zero + Duration::from_micros(drifted)
    }

    fn wall_ms(&self) -> i64 {
        let now_ms = i64::try_from(self.time.now() / 1000).unwrap();
        self.calendar_ms.load(Ordering::Relaxed) + now_ms
    }
}
