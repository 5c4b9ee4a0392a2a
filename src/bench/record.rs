//! Latencies, and which of them count.
//!
//! A request counts when it *started* inside the window, whenever its answer comes: otherwise a
//! server that stalls across the end of the window would be spared its worst answers. Its start
//! is the moment it was meant to leave. In a closed loop that is when the answer before it came;
//! in an open loop it is the schedule's, however late the generator got to send it, so that a
//! stall is paid for by every request that should have gone out meanwhile ("coordinated
//! omission").

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hdrhistogram::Histogram;

/// Shorter ones are counted as this, in nanoseconds.
const SHORTEST: u64 = 100;
/// Longer ones are counted as this.
const LONGEST: u64 = 600_000_000_000;

/// The time that counts, in nanoseconds of the run's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Window {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// The latencies of one kind of request.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) name: &'static str,
    /// Nanoseconds.
    pub(super) latencies: Histogram<u64>,
    pub(super) errors: u64,
}

impl Series {
    pub(super) fn new(name: &'static str) -> Series {
        Series {
            name,
            latencies: Histogram::new_with_bounds(SHORTEST, LONGEST, 3)
                .expect("the bounds are constants that fit"),
            errors: 0,
        }
    }
}

/// What the threads tell the one that shows progress.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) answers: AtomicU64,
    pub(super) errors: AtomicU64,
}

/// What one thread has measured.
#[derive(Debug)]
pub(super) struct Recorder {
    window: Window,
    pub(super) series: Vec<Series>,
    pub(super) error_codes: BTreeMap<i32, u64>,
    /// When the last answer that counts came.
    pub(super) last_answer: u64,
    counters: Arc<Counters>,
    answers_untold: u64,
    errors_untold: u64,
}

impl Recorder {
    pub(super) fn new(names: &[&'static str], window: Window, counters: Arc<Counters>) -> Recorder {
        Recorder {
            window,
            series: names.iter().map(|name| Series::new(name)).collect(),
            error_codes: BTreeMap::new(),
            last_answer: 0,
            counters,
            answers_untold: 0,
            errors_untold: 0,
        }
    }

    /// When no more requests shall start.
    pub(super) const fn end(&self) -> u64 {
        self.window.end
    }

    pub(super) const fn window(&self) -> Window {
        self.window
    }

    /// Notes an answer: `started` as the module says, `err` from its header.
    pub(super) fn record(&mut self, series: usize, started: u64, now: u64, err: i32) {
        self.answers_untold += 1;
        if err != 0 {
            self.errors_untold += 1;
        }
        if started < self.window.start || started >= self.window.end {
            return;
        }
        self.last_answer = self.last_answer.max(now);
        let Some(series) = self.series.get_mut(series) else {
            return;
        };
        if err == 0 {
            series
                .latencies
                .saturating_record(now.saturating_sub(started).max(SHORTEST));
        } else {
            series.errors += 1;
            *self.error_codes.entry(err).or_default() += 1;
        }
    }

    /// A request that was never answered.
    pub(super) fn lost(&mut self, series: usize, started: u64) {
        self.record(series, started, started, i32::MIN);
    }

    /// Tells the counters; once per turn of the loop, not per answer.
    pub(super) fn publish(&mut self) {
        if self.answers_untold > 0 {
            self.counters
                .answers
                .fetch_add(self.answers_untold, Ordering::Relaxed);
            self.counters
                .errors
                .fetch_add(self.errors_untold, Ordering::Relaxed);
            (self.answers_untold, self.errors_untold) = (0, 0);
        }
    }

    /// Adds what another thread measured of the same workload.
    pub(super) fn merge(&mut self, other: &Recorder) {
        for (mine, others) in self.series.iter_mut().zip(&other.series) {
            mine.latencies
                .add(&others.latencies)
                .expect("both have the same bounds");
            mine.errors += others.errors;
        }
        for (code, count) in &other.error_codes {
            *self.error_codes.entry(*code).or_default() += count;
        }
        self.last_answer = self.last_answer.max(other.last_answer);
    }
}

/// When requests of an open loop are meant to leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    start: u64,
    per_second: f64,
    taken: u64,
}

impl Schedule {
    pub(super) const fn new(start: u64, per_second: f64) -> Schedule {
        Schedule {
            start,
            per_second,
            taken: 0,
        }
    }

    /// When the next request is meant to leave.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "nanoseconds of a run fit"
    )]
    pub(super) fn next(&self) -> u64 {
        // From the count each time: adding up a rounded interval would drift.
        self.start + (self.taken as f64 * 1e9 / self.per_second) as u64
    }

    /// The next one that is due at `now`, taken.
    pub(super) fn take_due(&mut self, now: u64) -> Option<u64> {
        let at = self.next();
        (at <= now).then(|| {
            self.taken += 1;
            at
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn recorder() -> Recorder {
        let window = Window {
            start: 100 * MS,
            end: 200 * MS,
        };
        Recorder::new(&["op"], window, Arc::default())
    }

    #[test]
    fn what_started_in_the_window_counts_and_nothing_else() {
        let mut recorder = recorder();
        recorder.record(0, 99 * MS, 150 * MS, 0);
        recorder.record(0, 100 * MS, 101 * MS, 0);
        recorder.record(0, 199 * MS, 900 * MS, 0);
        recorder.record(0, 200 * MS, 201 * MS, 0);
        let latencies = &recorder.series[0].latencies;
        assert_eq!(latencies.len(), 2);
        assert!(latencies.max() >= 700 * MS, "the late answer is not spared");
    }

    #[test]
    fn refused_requests_are_counted_apart_from_latencies() {
        let mut recorder = recorder();
        recorder.record(0, 150 * MS, 151 * MS, -101);
        recorder.record(0, 150 * MS, 151 * MS, -101);
        recorder.lost(0, 150 * MS);
        assert_eq!(recorder.series[0].latencies.len(), 0);
        assert_eq!(recorder.series[0].errors, 3);
        assert_eq!(recorder.error_codes[&-101], 2);
    }

    #[test]
    fn percentiles_are_within_a_thousandth() {
        let mut recorder = recorder();
        for i in 1..=1000 {
            recorder.record(0, 150 * MS, 150 * MS + i * MS, 0);
        }
        let p99 = recorder.series[0].latencies.value_at_quantile(0.99);
        assert!(p99.abs_diff(990 * MS) <= MS, "{p99}");
    }

    #[test]
    fn a_schedule_does_not_drift() {
        let mut schedule = Schedule::new(5, 3_000.0);
        let taken = std::iter::from_fn(|| schedule.take_due(5 + 1_000 * MS)).count();
        assert_eq!(taken, 3_001, "both ends are due");
        assert_eq!(schedule.take_due(5 + 1_000 * MS), None);
    }

    /// One request per millisecond and a stall of 50 ms: the 50 that should have left meanwhile
    /// have all waited, the first the whole stall and the last almost nothing.
    #[test]
    fn a_stall_is_paid_for_by_every_request_that_was_due_in_it() {
        let mut recorder = recorder();
        let mut schedule = Schedule::new(100 * MS, 1_000.0);
        let stalled_until = 150 * MS;
        while let Some(started) = schedule.take_due(stalled_until - 1) {
            recorder.record(0, started, stalled_until, 0);
        }
        let latencies = &recorder.series[0].latencies;
        assert_eq!(latencies.len(), 50);
        assert!(latencies.value_at_quantile(0.5).abs_diff(25 * MS) <= MS);
        assert!(latencies.max().abs_diff(50 * MS) <= MS);
    }
}
