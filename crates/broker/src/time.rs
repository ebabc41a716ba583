//! Time as the routing core sees it: handed in, never asked of the system, so that tests have a clock of their own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970-01-01 UTC. What must survive a restart is kept in these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// A time that does not come.
    pub const NEVER: Self = Self(u64::MAX);

    /// So many milliseconds later; [`NEVER`](Self::NEVER) beyond what can be counted.
    #[must_use]
    pub fn after_ms(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }

    /// Whole seconds since 1970, as AMQP's timestamps are.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }
}

/// Says what time it is. Cheap enough to be asked once per batch.
pub trait Clock: Send + Sync {
    /// Now. Never goes back.
    fn now(&self) -> Timestamp;

    /// Time since some moment, as exact as it can be had, to measure how long something takes.
    fn steady(&self) -> Duration;
}

/// The system's time at the start, and what a steady clock has counted since: setting the system's clock neither
/// expires messages nor keeps them.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    started_at: Timestamp,
}

impl Default for SystemClock {
    fn default() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { started: Instant::now(), started_at: Timestamp(milliseconds(since_epoch)) }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.started_at.after_ms(milliseconds(self.started.elapsed()))
    }

    fn steady(&self) -> Duration {
        self.started.elapsed()
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A clock that a test moves.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// Lets time pass.
    pub fn advance_ms(&self, milliseconds: u64) {
        self.0.fetch_add(milliseconds, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    fn steady(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}
