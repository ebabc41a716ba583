//! Watches how much disk space is left and raises the alarm below the limit. Space is asked for through a
//! function, so that nothing here knows a file system.

use std::io;
use std::sync::Arc;
use std::time::Duration;

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
    limit: u64,
    is_low: bool,
    /// That it cannot be read was logged.
    is_unreadable: bool,
}

/// Looks once, so that the first publish meets the alarm; the future looks again for as long as it is polled.
pub(crate) fn watch(alarms: Arc<Alarms>, limit: u64, free_bytes: FreeBytes) -> impl Future<Output = ()> {
    let mut watch = DiskWatch { alarms, limit, is_low: false, is_unreadable: false };
    let period = watch.look(free_bytes());
    watch.go_on(period, free_bytes)
}

impl DiskWatch {
    async fn go_on(mut self, mut period: Duration, free_bytes: FreeBytes) {
        loop {
            tokio::time::sleep(period).await;
            let free_bytes = Arc::clone(&free_bytes);
            // A file system that hangs must hang no thread that serves connections.
            let free = tokio::task::spawn_blocking(move || free_bytes()).await;
            period = self.look(free.unwrap_or_else(|failed| Err(io::Error::other(failed))));
        }
    }

    /// Takes what was found; when to look again.
    fn look(&mut self, free: io::Result<u64>) -> Duration {
        let free = match free {
            Ok(free) => free,
            Err(error) => return self.cannot_look(&error),
        };
        self.is_unreadable = false;
        let is_low = free < self.limit;
        if is_low && !self.is_low {
            warn!(free, limit = self.limit, "disk alarm: less space is free than the limit, publishers wait");
        } else if self.is_low && !is_low {
            info!(free, limit = self.limit, "disk alarm cleared");
        }
        self.set(is_low);
        if is_low {
            return PERIOD_ALARMED;
        }
        let fills_in_ms = (free - self.limit) / FILLED_PER_MS;
        Duration::from_millis(fills_in_ms / 2).clamp(PERIOD_MIN, PERIOD_MAX)
    }

    /// COMPAT: publishers go on, as RabbitMQ's do; an alarm that is on stays, since nothing says otherwise.
    fn cannot_look(&mut self, error: &io::Error) -> Duration {
        if !std::mem::replace(&mut self.is_unreadable, true) {
            error!(%error, "cannot find out how much disk space is free: publishers are not held up for it");
        }
        PERIOD_ALARMED
    }

    fn set(&mut self, is_low: bool) {
        self.is_low = is_low;
        self.alarms.set(Reason::Disk, is_low);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    const LIMIT: u64 = 50_000_000;

    fn watch() -> (DiskWatch, Arc<Alarms>) {
        let alarms = Arc::<Alarms>::default();
        let told = Arc::clone(&alarms);
        (DiskWatch { alarms: told, limit: LIMIT, is_low: false, is_unreadable: false }, alarms)
    }

    fn denied() -> io::Result<u64> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    #[test]
    fn the_alarm_is_on_while_less_is_free_than_the_limit() {
        let (mut watch, alarms) = watch();
        for (free, expected) in [(LIMIT, false), (LIMIT - 1, true), (0, true), (LIMIT, false)] {
            watch.look(Ok(free));
            assert_eq!(alarms.is_any_raised(), expected, "{free}");
        }
    }

    #[test]
    fn the_nearer_the_limit_the_sooner_it_looks_again() {
        let (mut watch, _alarms) = watch();
        let mut after = |more: u64| watch.look(Ok(LIMIT + more)).as_millis();
        assert_eq!(after(u64::MAX - LIMIT), 10_000);
        assert_eq!(after(10_000_000_000), 5_000);
        assert_eq!(after(1_000_000_000), 500);
        assert_eq!(after(0), 100);
        assert_eq!(watch.look(Ok(0)), PERIOD_ALARMED);
    }

    #[test]
    fn what_cannot_be_read_changes_nothing() {
        let (mut watch, alarms) = watch();
        watch.look(denied());
        assert!(!alarms.is_any_raised());
        watch.look(Ok(0));
        watch.look(denied());
        assert!(alarms.is_any_raised() && watch.is_unreadable);
        watch.look(Ok(LIMIT));
        assert!(!alarms.is_any_raised() && !watch.is_unreadable);
    }

    #[tokio::test]
    async fn the_watch_looks_at_once_and_goes_on_by_itself() {
        let alarms = Arc::<Alarms>::default();
        let free = Arc::new(AtomicU64::new(0));
        let asked = Arc::clone(&free);
        let free_bytes: FreeBytes = Arc::new(move || Ok(asked.load(Ordering::SeqCst)));
        let watching = super::watch(Arc::clone(&alarms), LIMIT, free_bytes);
        assert_eq!(alarms.raised().text(), Some("low on disk"));
        let changed = alarms.changed();
        free.store(LIMIT, Ordering::SeqCst);
        let watching = tokio::spawn(watching);
        changed.await;
        assert!(!alarms.is_any_raised());
        watching.abort();
    }
}
