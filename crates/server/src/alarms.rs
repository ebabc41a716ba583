//! Why publishers have to wait: too little memory or disk, a disk that fails, a journal that is behind. Raised
//! and cleared by whoever watches these, asked before every publish; consumers are never held up.
//!
//! Knows neither connections nor what it takes to clear an alarm.

pub(crate) mod disk;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use leveret_broker::queue::memory::MemoryGauge;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tracing::{debug, info, warn};

/// A reason to hold publishers up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reason {
    /// Messages take more memory than the high watermark.
    Memory = 1,
    /// Less disk space is free than the limit.
    Disk = 2,
    /// The journal cannot be written: what is published would not become safe.
    Journal = 4,
    /// The journal cannot be written since there is no room.
    DiskFull = 16,
    /// There is no room but what was kept for when there is none.
    NoReserve = 32,
    /// More waits to be written than the disk will take soon. Passes by itself, so clients are not told.
    JournalBehind = 8,
}

/// Reasons that hold at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Raised(u8);

impl Raised {
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn is_disk_low(self) -> bool {
        [Reason::Disk, Reason::DiskFull, Reason::NoReserve].into_iter().any(|reason| self.has(reason))
    }

    pub(crate) fn has(self, reason: Reason) -> bool {
        self.0 & reason as u8 != 0
    }

    /// What connection.blocked says, if clients are told at all. COMPAT: RabbitMQ's texts, but for a disk that
    /// fails, with which RabbitMQ would stop.
    pub(crate) fn text(self) -> Option<&'static str> {
        match (self.has(Reason::Memory), self.is_disk_low(), self.has(Reason::Journal)) {
            (false, false, false) => None,
            (true, false, false) => Some("low on memory"),
            (false, true, false) => Some("low on disk"),
            (true, true, false) => Some("low on memory & disk"),
            (false, _, true) => Some("disk failure"),
            (true, _, true) => Some("low on memory & disk failure"),
        }
    }
}

/// The alarms of a broker.
#[derive(Debug)]
pub(crate) struct Alarms {
    /// Asked per publish.
    raised: AtomicU8,
    changed: Notify,
    /// Octets of messages in memory from which on publishers wait.
    memory_limit: AtomicUsize,
    /// Octets of free disk below which they do; 0 for never.
    disk_limit: AtomicU64,
    /// The limit of the disk was changed.
    disk_limit_changed: Notify,
}

impl Alarms {
    /// None raised, with the limits that the operator has set.
    pub(crate) fn new(memory_limit: u64, disk_limit: u64) -> Self {
        Self {
            raised: AtomicU8::new(0),
            changed: Notify::new(),
            memory_limit: AtomicUsize::new(usize::try_from(memory_limit).unwrap_or(usize::MAX)),
            disk_limit: AtomicU64::new(disk_limit),
            disk_limit_changed: Notify::new(),
        }
    }

    /// Octets of messages in memory from which on publishers wait.
    pub(crate) fn memory_limit(&self) -> u64 {
        self.memory_limit.load(Ordering::SeqCst) as u64
    }

    /// Octets of free disk below which publishers wait; 0 for never.
    pub(crate) fn disk_limit(&self) -> u64 {
        self.disk_limit.load(Ordering::SeqCst)
    }

    /// Raises or clears an alarm and wakes whoever waits; whether that changed anything.
    pub(crate) fn set(&self, reason: Reason, on: bool) -> bool {
        let bit = reason as u8;
        let before = Raised(match on {
            true => self.raised.fetch_or(bit, Ordering::SeqCst),
            false => self.raised.fetch_and(!bit, Ordering::SeqCst),
        });
        let is_change = before.has(reason) != on;
        if is_change {
            self.changed.notify_waiters();
        }
        is_change
    }

    /// Whether publishers have to wait.
    pub(crate) fn is_any_raised(&self) -> bool {
        self.raised.load(Ordering::Relaxed) != 0
    }

    /// All that hold now.
    pub(crate) fn raised(&self) -> Raised {
        Raised(self.raised.load(Ordering::SeqCst))
    }

    /// Ends when an alarm is raised or cleared after this call, be it waited for by then or not.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Raises the alarm if messages take as much memory as they may; it is cleared when they take less. Whether it was
    /// raised just now.
    pub(crate) fn watch_memory(self: &Arc<Self>, gauge: &MemoryGauge) -> bool {
        let limit = self.memory_limit.load(Ordering::Relaxed);
        let is_raised = gauge.bytes() >= limit && self.set(Reason::Memory, true);
        if is_raised {
            self.clear_below(gauge, limit);
            if self.memory_limit.load(Ordering::SeqCst) != limit {
                // Whoever changed it may have looked before the alarm was raised, by the limit from before.
                self.judge_memory(gauge);
            }
        }
        is_raised
    }

    /// Changes the limit of memory, by which the alarm is raised or cleared at once.
    pub(crate) fn limit_memory(self: &Arc<Self>, gauge: &MemoryGauge, limit: u64) {
        self.memory_limit.store(usize::try_from(limit).unwrap_or(usize::MAX), Ordering::SeqCst);
        self.judge_memory(gauge);
    }

    fn judge_memory(self: &Arc<Self>, gauge: &MemoryGauge) {
        let limit = self.memory_limit.load(Ordering::SeqCst);
        let is_over = gauge.bytes() >= limit;
        self.set(Reason::Memory, is_over);
        if is_over {
            self.clear_below(gauge, limit);
        }
    }

    /// Clears the alarm of memory when messages take less than `limit`, if that is the limit then. Whoever changes it
    /// sees to the alarm.
    fn clear_below(self: &Arc<Self>, gauge: &MemoryGauge, limit: usize) {
        let alarms = Arc::clone(self);
        let clear = move || {
            if alarms.memory_limit.load(Ordering::SeqCst) == limit {
                alarms.set(Reason::Memory, false);
            }
        };
        gauge.when_below(limit, Box::new(clear));
    }
}

/// No limit of memory or disk.
impl Default for Alarms {
    fn default() -> Self {
        Self::new(u64::MAX, 0)
    }
}

/// Logs memory alarms as they come and go, for as long as it is polled. Not done where they are raised, which may
/// be under a queue's lock.
pub(crate) async fn log_memory_alarms(alarms: Arc<Alarms>) {
    let mut was_raised = false;
    loop {
        let changed = alarms.changed();
        let is_raised = alarms.raised().has(Reason::Memory);
        match (was_raised, is_raised) {
            (false, true) => {
                warn!("memory alarm: messages take more than the high watermark, publishers wait")
            }
            (true, false) => info!("memory alarm cleared"),
            _ => debug!(raised = ?alarms.raised(), "alarms"),
        }
        was_raised = is_raised;
        changed.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_in_the_words_of_rabbitmq() {
        let alarms = Alarms::default();
        assert_eq!(alarms.raised().text(), None);
        alarms.set(Reason::JournalBehind, true);
        assert!(alarms.is_any_raised());
        assert_eq!(alarms.raised().text(), None, "a passing hold is not told");
        alarms.set(Reason::Memory, true);
        assert_eq!(alarms.raised().text(), Some("low on memory"));
        alarms.set(Reason::Disk, true);
        assert_eq!(alarms.raised().text(), Some("low on memory & disk"));
        alarms.set(Reason::Memory, false);
        assert_eq!(alarms.raised().text(), Some("low on disk"));
        alarms.set(Reason::Journal, true);
        assert_eq!(alarms.raised().text(), Some("disk failure"));
    }

    #[test]
    fn an_alarm_is_raised_and_cleared_once() {
        let alarms = Alarms::default();
        assert!(alarms.set(Reason::Disk, true) && !alarms.set(Reason::Disk, true));
        assert!(alarms.set(Reason::Disk, false) && !alarms.set(Reason::Disk, false));
        assert!(alarms.raised().is_empty());
    }

    #[test]
    fn a_limit_that_changes_raises_and_clears_at_once_and_the_old_one_means_nothing() {
        let (alarms, gauge) = (Arc::new(Alarms::new(1000, 0)), Arc::<MemoryGauge>::default());
        let is_raised = || alarms.raised().has(Reason::Memory);
        alarms.watch_memory(&gauge);
        assert!(!is_raised());
        // Nothing is in memory: only no octet at all is as much as there is.
        alarms.limit_memory(&gauge, 0);
        assert!(is_raised());
        alarms.watch_memory(&gauge);
        alarms.limit_memory(&gauge, 500);
        assert!(!is_raised());
        alarms.limit_memory(&gauge, 0);
        alarms.limit_memory(&gauge, 1);
        assert!(!is_raised() && alarms.memory_limit() == 1);
    }

    #[tokio::test]
    async fn whoever_looks_first_and_then_waits_misses_no_change() {
        let alarms = Alarms::default();
        alarms.set(Reason::Memory, true);
        let changed = alarms.changed();
        assert!(!alarms.raised().is_empty());
        alarms.set(Reason::Memory, false);
        changed.await;
        assert!(alarms.raised().is_empty());
    }
}
