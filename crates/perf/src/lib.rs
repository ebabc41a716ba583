//! Leveret: perf.
