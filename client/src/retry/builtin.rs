//! The pauses of exponential back-off, drawn by ourselves.
//!
//! Takes the place of `exponential` when the feature `backoff` is off; a test holds both to the
//! same bounds.

use std::time::Duration;

use rand::Rng as _;

/// Draws pauses from 0 to a bound that doubles up to the cap.
#[derive(Debug)]
pub(super) struct Steps {
    bound: Duration,
    cap: Duration,
}

impl Steps {
    pub(super) fn new(base: Duration, cap: Duration) -> Steps {
        let bound = base.min(cap);
        Steps { bound, cap }
    }

    pub(super) fn next(&mut self) -> Duration {
        let bound = self.bound;
        self.bound = bound.saturating_mul(2).min(self.cap);
        rand::rng().random_range(Duration::ZERO..=bound)
    }
}
