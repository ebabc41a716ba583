//! Watches how much disk space is left and raises the alarm below the limit. Space is asked for through a
//! function, so that nothing here knows a file system.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::timeout;
use tracing::{error, info, warn};

use super::{Alarms, Reason};

/// COMPAT: RabbitMQ looks as often when far from the limit, and as seldom.
const PERIOD_MAX: Duration = Duration::from_secs(10);
const PERIOD_MIN: Duration = Duration::from_millis(100);

/// While the alarm is on, or space cannot be asked for: an operator who has made room should not have to wait.
const PERIOD_ALARMED: Duration = Duration::from_secs(1);

/// Octets that a fast disk takes in a millisecond. The next look comes before half of what is left above the limit
/// could be filled at that rate.
const FILLED_PER_MS: u64 = 1_000_000;

/// How to ask for the free octets.
pub(crate) type FreeBytes = Arc<dyn Fn() -> io::Result<u64> + Send + Sync>;

/// What is known of the disk.
struct DiskWatch {
    alarms: Arc<Alarms>,
    /// That it cannot be read was logged.
    is_unreadable: bool,
}

/// Looks once, so that the first publish meets the alarm; the future looks again for as long as it is polled.
pub(crate) fn watch(alarms: Arc<Alarms>, free_bytes: FreeBytes) -> impl Future<Output = ()> {
    let mut watch = DiskWatch { alarms, is_unreadable: false };
    let period = watch.look(&free_bytes);
    watch.go_on(period, free_bytes)
}

/// Changes the limit, by which the alarm is raised or cleared at once if the disk can be asked; the watch goes by it.
pub(crate) fn limit(alarms: &Alarms, limit: u64, free: io::Result<u64>) {
    alarms.disk_limit.store(limit, Ordering::SeqCst);
    if let Ok(free) = free {
        judge(alarms, free);
    }
    alarms.disk_limit_changed.notify_one();
}

/// Raises or clears the alarm; the limit, and whether less is free.
fn judge(alarms: &Alarms, free: u64) -> (u64, bool) {
    let limit = alarms.disk_limit();
    let is_low = free < limit;
    match (alarms.set(Reason::Disk, is_low), is_low) {
        (true, true) => warn!(free, limit, "disk alarm: less space is free than the limit, publishers wait"),
        (true, false) => info!(free, limit, "disk alarm cleared"),
        (false, _) => {}
    }
    (limit, is_low)
}

impl DiskWatch {
    async fn go_on(mut self, mut period: Option<Duration>, free_bytes: FreeBytes) {
        let alarms = Arc::clone(&self.alarms);
        loop {
            let changed = alarms.disk_limit_changed.notified();
            match period {
                Some(period) => _ = timeout(period, changed).await,
                None => changed.await,
            }
            let free_bytes = Arc::clone(&free_bytes);
            // A file system that hangs must hang no thread that serves connections.
            let looked = tokio::task::spawn_blocking(move || {
                let period = self.look(&free_bytes);
                (self, period)
            });
            // INVARIANT: it ends with the runtime, and does not panic.
            let Ok(looked) = looked.await else { return };
            (self, period) = looked;
        }
    }

    /// Asks how much is free, and when to ask again; never where there is no limit.
    fn look(&mut self, free_bytes: &FreeBytes) -> Option<Duration> {
        if self.alarms.disk_limit() == 0 {
            self.alarms.set(Reason::Disk, false);
            return None;
        }
        let free = match free_bytes() {
            Ok(free) => free,
            Err(error) => return Some(self.cannot_look(&error)),
        };
        self.is_unreadable = false;
        let (limit, is_low) = judge(&self.alarms, free);
        if is_low {
            return Some(PERIOD_ALARMED);
        }
        let fills_in_ms = free.saturating_sub(limit) / FILLED_PER_MS;
        Some(Duration::from_millis(fills_in_ms / 2).clamp(PERIOD_MIN, PERIOD_MAX))
    }

    /// COMPAT: publishers go on, as RabbitMQ's do; an alarm that is on stays, since nothing says otherwise.
    fn cannot_look(&mut self, error: &io::Error) -> Duration {
        if !std::mem::replace(&mut self.is_unreadable, true) {
            error!(%error, "cannot find out how much disk space is free: publishers are not held up for it");
        }
        PERIOD_ALARMED
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    const LIMIT: u64 = 50_000_000;

    fn watch() -> (DiskWatch, Arc<Alarms>) {
        let alarms = Arc::new(Alarms::new(u64::MAX, LIMIT));
        (DiskWatch { alarms: Arc::clone(&alarms), is_unreadable: false }, alarms)
    }

    fn free(octets: u64) -> FreeBytes {
        Arc::new(move || Ok(octets))
    }

    fn denied() -> FreeBytes {
        Arc::new(|| Err(io::ErrorKind::PermissionDenied.into()))
    }

    #[test]
    fn the_alarm_is_on_while_less_is_free_than_the_limit() {
        let (mut watch, alarms) = watch();
        for (octets, expected) in [(LIMIT, false), (LIMIT - 1, true), (0, true), (LIMIT, false)] {
            watch.look(&free(octets));
            assert_eq!(alarms.is_any_raised(), expected, "{octets}");
        }
    }

    #[test]
    fn the_nearer_the_limit_the_sooner_it_looks_again() {
        let (mut watch, _alarms) = watch();
        let mut after = |more: u64| watch.look(&free(LIMIT + more)).map(|period| period.as_millis());
        assert_eq!(after(u64::MAX - LIMIT), Some(10_000));
        assert_eq!(after(10_000_000_000), Some(5_000));
        assert_eq!(after(1_000_000_000), Some(500));
        assert_eq!(after(0), Some(100));
        assert_eq!(watch.look(&free(0)), Some(PERIOD_ALARMED));
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let (mut watch, alarms) = watch();
        watch.look(&denied());
        assert!(!alarms.is_any_raised());
        watch.look(&free(0));
        watch.look(&denied());
        assert!(alarms.is_any_raised() && watch.is_unreadable);
        watch.look(&free(LIMIT));
        assert!(!alarms.is_any_raised() && !watch.is_unreadable);
    }

    #[tokio::test]
    async fn the_watch_looks_at_once_and_goes_on_by_itself() {
        let alarms = Arc::new(Alarms::new(u64::MAX, LIMIT));
        let free = Arc::new(AtomicU64::new(0));
        let asked = Arc::clone(&free);
        let free_bytes: FreeBytes = Arc::new(move || Ok(asked.load(Ordering::SeqCst)));
        let watching = super::watch(Arc::clone(&alarms), free_bytes);
        assert_eq!(alarms.raised().text(), Some("low on disk"));
        let changed = alarms.changed();
        free.store(LIMIT, Ordering::SeqCst);
        let watching = tokio::spawn(watching);
        changed.await;
        assert!(!alarms.is_any_raised());
        watching.abort();
    }

    #[tokio::test]
    async fn a_limit_that_changes_is_in_force_at_once_and_watched_from_then_on() {
        let alarms = Arc::new(Alarms::new(u64::MAX, 0));
        let free = Arc::new(AtomicU64::new(10));
        let asked = Arc::clone(&free);
        let free_bytes: FreeBytes = Arc::new(move || Ok(asked.load(Ordering::SeqCst)));
        let watching = super::watch(Arc::clone(&alarms), Arc::clone(&free_bytes));
        assert!(!alarms.is_any_raised(), "there is no limit");
        limit(&alarms, 20, free_bytes());
        assert!(alarms.is_any_raised());
        let changed = alarms.changed();
        free.store(20, Ordering::SeqCst);
        let watching = tokio::spawn(watching);
        changed.await;
        assert!(!alarms.is_any_raised());
        limit(&alarms, 0, Err(io::ErrorKind::Other.into()));
        assert_eq!(alarms.disk_limit(), 0);
        watching.abort();
    }
}
