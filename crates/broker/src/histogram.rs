//! How long something takes, as counts by duration, for whoever watches the broker. Recorded by many threads without a
//! lock; made for what happens often enough to matter and seldom enough to be timed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds in microseconds; what takes longer is counted beyond all of them.
pub const BOUNDS_US: [u64; 19] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// Counts by duration.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Not cumulated; the last one is of those beyond all bounds.
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_ns: AtomicU64,
}

/// A histogram at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// How many took not longer than the bound at the same place and longer than the one before; the last one is of
    /// those beyond all bounds.
    pub counts: [u64; BOUNDS_US.len() + 1],
    /// Nanoseconds that all of them took.
    pub sum_ns: u64,
}

impl Histogram {
    /// One more that took this long.
    pub fn record(&self, duration: Duration) {
        let place = BOUNDS_US.partition_point(|&bound| Duration::from_micros(bound) < duration);
        if let Some(count) = self.counts.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// What was recorded so far.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        let counts = std::array::from_fn(|place| {
            self.counts.get(place).map_or(0, |count| count.load(Ordering::Relaxed))
        });
        HistogramSnapshot { counts, sum_ns: self.sum_ns.load(Ordering::Relaxed) }
    }
}

impl HistogramSnapshot {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_at_the_first_bound_that_it_does_not_exceed() {
        let histogram = Histogram::default();
        for microseconds in [0, 10, 11, 10_000_000, 10_000_001] {
            histogram.record(Duration::from_micros(microseconds));
        }
        let snapshot = histogram.snapshot();
        assert_eq!(
            (snapshot.counts[0], snapshot.counts[1], snapshot.counts[18], snapshot.counts[19]),
            (2, 1, 1, 1)
        );
        assert_eq!(snapshot.count(), 5);
        assert_eq!(snapshot.sum_ns, 20_000_022_000);
    }
}
