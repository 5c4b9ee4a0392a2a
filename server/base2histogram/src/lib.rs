//! The histograms that openraft keeps of itself, in half a kilobyte each.
//!
//! openraft counts batch sizes and latencies in histograms of the crate `base2histogram`, without
//! a switch to leave them out. That crate makes tables for all of its sixteen resolutions at first
//! use, 27 MB that stay resident, which is more than the rest of an idle server. We read none of
//! these figures, so this crate stands in for it (`[patch.crates-io]` in the workspace): the part
//! of its interface that openraft calls, with one bucket for each power of two.

use std::fmt;
use std::marker::PhantomData;

/// One bucket for 0, and one for each bit that can be a value's highest.
const BUCKETS: usize = 65;

/// Counts of values by their highest bit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    _slot: PhantomData<T>,
}

/// Percentiles of a [`Histogram`]: each is the upper end of the bucket that it falls into.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PercentileStats {
    /// How many values there are.
    pub samples: u64,
    /// One in a thousand is not above it.
    pub p0_1: u64,
    /// One in a hundred is not above it.
    pub p1: u64,
    /// One in twenty is not above it.
    pub p5: u64,
    /// One in ten is not above it.
    pub p10: u64,
    /// Half of them are not above it.
    pub p50: u64,
    /// Nine in ten are not above it.
    pub p90: u64,
    /// 99 in a hundred are not above it.
    pub p99: u64,
    /// 999 in a thousand are not above it.
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PercentileStats {
            samples, p50, p99, ..
        } = self;
        write!(f, "{samples} values, p50 {p50}, p99 {p99}")
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Histogram {
            counts: [0; BUCKETS],
            _slot: PhantomData,
        }
    }
}

impl<T> Histogram<T> {
    /// An empty histogram.
    #[must_use]
    pub fn new() -> Histogram<T> {
        Histogram::default()
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value `count` times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        let bucket = u64::BITS.saturating_sub(value.leading_zeros()) as usize;
        if let Some(held) = self.counts.get_mut(bucket) {
            *held = held.saturating_add(count);
        }
    }

    /// The usual percentiles; all zero for an empty histogram.
    #[must_use]
    pub fn percentile_stats(&self) -> PercentileStats {
        let samples = self
            .counts
            .iter()
            .fold(0u64, |sum, count| sum.saturating_add(*count));
        let at = |per_mille: u64| self.percentile(samples, per_mille);
        PercentileStats {
            samples,
            p0_1: at(1),
            p1: at(10),
            p5: at(50),
            p10: at(100),
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p99_9: at(999),
        }
    }

    fn percentile(&self, samples: u64, per_mille: u64) -> u64 {
        let rank = u128::from(samples) * u128::from(per_mille);
        let mut seen = 0u128;
        for (bits, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count) * 1000;
            if *count > 0 && seen >= rank {
                let bits = u32::try_from(bits).unwrap_or(u64::BITS);
                return 1u64.checked_shl(bits).map_or(u64::MAX, |end| end - 1);
            }
        }
        0
    }
}

/// Several histograms, one line each.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart(Vec<(String, Histogram)>);

impl AsciiChart {
    /// A chart of nothing.
    #[must_use]
    pub fn new() -> AsciiChart {
        AsciiChart::default()
    }

    /// With one more histogram.
    #[must_use]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> AsciiChart {
        self.0.push((name.into(), histogram));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, histogram) in &self.0 {
            let PercentileStats {
                samples, p50, p99, ..
            } = histogram.percentile_stats();
            writeln!(f, "{name}: {samples} values, p50 {p50}, p99 {p99}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_ends_of_their_buckets() {
        let mut histogram = Histogram::<()>::new();
        histogram.record_n(0, 500);
        histogram.record_n(5, 490);
        histogram.record_n(1000, 10);
        let stats = histogram.percentile_stats();
        assert_eq!(
            (stats.samples, stats.p50, stats.p90, stats.p99_9),
            (1000, 0, 7, 1023)
        );
    }

    #[test]
    fn the_extremes_have_their_buckets() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats(), PercentileStats::default());
        histogram.record(u64::MAX);
        assert_eq!(histogram.percentile_stats().p50, u64::MAX);
    }
}
