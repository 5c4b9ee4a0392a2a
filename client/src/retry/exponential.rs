//! The pauses of exponential back-off, drawn by the crate `backoff`.
//!
//! The only file that touches that crate. It is no longer maintained; behind this file it can be
//! replaced, or left out with the feature `backoff`, and nobody notices: `builtin` obeys the same
//! bounds. Its limit in elapsed time, which reads a clock of its own, is not used.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

/// Draws pauses from 0 to a bound that doubles up to the cap.
#[derive(Debug)]
pub(super) struct Steps(ExponentialBackoff);

impl Steps {
    pub(super) fn new(base: Duration, cap: Duration) -> Steps {
        // It draws from `interval ± factor × interval`: with half the bound for the interval and
        // a factor of 1 that is 0 to the bound.
        let (half_base, half_cap) = (base.min(cap) / 2, cap / 2);
        Steps(ExponentialBackoff {
            current_interval: half_base,
            initial_interval: half_base,
            max_interval: half_cap,
            randomization_factor: 1.0,
            multiplier: 2.0,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        })
    }

    pub(super) fn next(&mut self) -> Duration {
        // The crate adds a nanosecond to the range and counts in floating point.
        let bound = self.0.current_interval.saturating_mul(2);
        let drawn = self.0.next_backoff();
        drawn.map_or(bound, |drawn| drawn.min(bound))
    }
}
