//! Numbers that are the same for the same seed. The moment of a kill and what is published follow from them; which
//! thread was how far at that moment does not, so a seed repeats a round closely, not exactly.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// splitmix64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// At least `from`, less than `to`.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("less than a usize")
    }

    /// True once in so many times.
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.between(from, to))
    }

    /// Another generator, for a thread of its own.
    pub(crate) fn split(&mut self) -> Self {
        Self(self.next())
    }
}

/// The seed in `LEVERET_CRASH_SEED`, or one from the clock; printed.
pub(crate) fn seed(what: &str) -> u64 {
    let given = std::env::var("LEVERET_CRASH_SEED").ok();
    let from_clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
    let seed = given.map_or_else(from_clock, |seed| seed.parse().expect("LEVERET_CRASH_SEED is a number"));
    println!("{what}: LEVERET_CRASH_SEED={seed}");
    seed
}
