//! Time stamps of one process, and the distribution of the differences. `producer` stamps,
//! `consumer` records, `load` merges what the consumers recorded.

use std::time::Instant;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longer latencies are counted as this one.
const LATENCY_NS_MAX: u64 = 600_000_000_000;
/// Digits kept: a thousandth is far below what differs between two runs.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Nanoseconds since the load began; never zero, which in a stamp means "not stamped".
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that starts now.
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// The time.
    #[inline]
    pub(crate) fn now(self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }
}

/// A distribution of latencies.
#[derive(Debug, Clone)]
pub(crate) struct Latencies {
    histogram: Histogram<u64>,
    /// What came before it was due is in no distribution.
    early: u64,
    early_max_ns: u64,
}

impl Latencies {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, SIGNIFICANT_DIGITS)
            // INVARIANT: fails only for bounds and digits out of range, and both are constants.
            .expect("constant bounds");
        Self { histogram, early: 0, early_max_ns: 0 }
    }

    /// Takes one latency in nanoseconds.
    #[inline]
    pub(crate) fn record(&mut self, nanoseconds: u64) {
        self.histogram.saturating_record(nanoseconds);
    }

    /// Takes by how much a message was late that was to take a time of its own, in nanoseconds.
    #[inline]
    pub(crate) fn record_late(&mut self, nanoseconds: u64, expected: u64) {
        match nanoseconds.checked_sub(expected) {
            Some(late) => self.record(late),
            None => {
                self.early += 1;
                self.early_max_ns = self.early_max_ns.max(expected - nanoseconds);
            }
        }
    }

    /// Takes all of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        // INVARIANT: both have the same bounds, and a different range is the only error.
        self.histogram.add(&other.histogram).expect("same bounds");
        self.early += other.early;
        self.early_max_ns = self.early_max_ns.max(other.early_max_ns);
    }

    /// The figures that are reported; `None` if nothing was recorded.
    pub(crate) fn summary(&self) -> Option<LatencySummary> {
        let at = |quantile| microseconds(self.histogram.value_at_quantile(quantile));
        (!self.histogram.is_empty() || self.early > 0).then(|| LatencySummary {
            samples: self.histogram.len(),
            early: self.early,
            early_max_us: microseconds(self.early_max_ns),
            min_us: microseconds(self.histogram.min()),
            median_us: at(0.5),
            p95_us: at(0.95),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: microseconds(self.histogram.max()),
        })
    }
}

/// Latency figures, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct LatencySummary {
    /// How many messages were looked at.
    pub(crate) samples: u64,
    /// How many more came before they were due.
    pub(crate) early: u64,
    /// By how much the earliest of them.
    pub(crate) early_max_us: f64,
    /// Shortest.
    pub(crate) min_us: f64,
    /// Half were faster.
    pub(crate) median_us: f64,
    /// 95 of 100 were faster.
    pub(crate) p95_us: f64,
    /// 99 of 100 were faster.
    pub(crate) p99_us: f64,
    /// 999 of 1000 were faster.
    pub(crate) p999_us: f64,
    /// Longest.
    pub(crate) max_us: f64,
}

#[expect(clippy::cast_precision_loss, reason = "a latency of 100 days is not measured to the nanosecond")]
fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_distributions_keep_every_sample() {
        let (mut slow, mut fast) = (Latencies::new(), Latencies::new());
        for _ in 0..99 {
            fast.record(1_000);
        }
        slow.record(5_000_000);
        fast.merge(&slow);
        let summary = fast.summary().unwrap();
        assert_eq!(summary.samples, 100);
        assert!((summary.median_us - 1.0).abs() < 0.01, "{summary:?}");
        assert!((summary.max_us - 5_000.0).abs() < 5.0, "{summary:?}");
    }

    #[test]
    fn what_is_early_is_counted_and_not_averaged() {
        let mut delayed = Latencies::new();
        delayed.record_late(5_002_000, 5_000_000);
        delayed.record_late(4_999_999, 5_000_000);
        let summary = delayed.summary().unwrap();
        assert_eq!((summary.samples, summary.early), (1, 1));
        assert!((summary.early_max_us - 0.001).abs() < 1e-9, "{summary:?}");
        assert!((summary.max_us - 2.0).abs() < 0.01, "{summary:?}");
    }

    #[test]
    fn nothing_recorded_is_no_summary() {
        assert_eq!(Latencies::new().summary(), None);
    }
}
