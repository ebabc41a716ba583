//! How far the journal is safe, who waits for it, and whether the disk does its part. Written by the journal thread,
//! read by everybody.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use leveret_broker::store::JournalPosition;
use parking_lot::{Condvar, Mutex};

/// Called once when its position is safe.
pub type SafeListener = Box<dyn FnOnce() + Send>;

/// Called with each change of the journal's health.
pub type HealthListener = Box<dyn Fn(&Result<(), JournalFailure>) + Send + Sync>;

/// Why nothing becomes safe at the moment. What was appended is kept in memory, and written when the disk works again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the journal cannot be written: {text}")]
pub struct JournalFailure {
    /// What the system said last.
    pub text: String,
    /// Its kind; [`io::ErrorKind::StorageFull`] if there is no room.
    pub kind: io::ErrorKind,
    /// When it began.
    pub since: SystemTime,
}

/// The progress of one journal.
pub(super) struct Progress {
    safe: AtomicU64,
    /// By position, and by turn where positions are equal.
    listeners: Mutex<Listeners>,
    attempts: Mutex<Attempts>,
    /// Something about the attempts has changed.
    attempted: Condvar,
    health: Mutex<Result<(), JournalFailure>>,
    health_listener: Mutex<Option<Arc<HealthListener>>>,
}

#[derive(Default)]
struct Listeners {
    waiting: BTreeMap<(u64, u64), SafeListener>,
    turn: u64,
}

/// What became of syncs, for those who wait for one.
struct Attempts {
    synced: u64,
    failures: u64,
    has_ended: bool,
}

impl Progress {
    /// Everything below `position` is synced.
    pub(super) fn new(position: u64) -> Self {
        Self {
            safe: AtomicU64::new(position),
            listeners: Mutex::default(),
            attempts: Mutex::new(Attempts { synced: position, failures: 0, has_ended: false }),
            attempted: Condvar::new(),
            health: Mutex::new(Ok(())),
            health_listener: Mutex::default(),
        }
    }

    pub(super) fn safe(&self) -> u64 {
        self.safe.load(Ordering::Acquire)
    }

    pub(super) fn when_safe(&self, position: JournalPosition, listener: SafeListener) {
        if self.safe() < position.0 {
            let mut listeners = self.listeners.lock();
            // Asked again under the lock: whoever moves it looks for listeners afterwards.
            if self.safe() < position.0 {
                listeners.turn += 1;
                let key = (position.0, listeners.turn);
                listeners.waiting.insert(key, listener);
                return;
            }
        }
        listener();
    }

    /// Everything below `position` is safe: tells who waited for it.
    pub(super) fn advance(&self, position: u64) {
        // What is written once more after a failure counted before.
        self.safe.fetch_max(position, Ordering::AcqRel);
        let reached = {
            let mut listeners = self.listeners.lock();
            if listeners.waiting.first_key_value().is_none_or(|((wanted, _), _)| *wanted > position) {
                return;
            }
            let later = listeners.waiting.split_off(&(position.saturating_add(1), 0));
            std::mem::replace(&mut listeners.waiting, later)
        };
        for listener in reached.into_values() {
            // Whoever listens must not be able to stop the journal.
            if catch_unwind(AssertUnwindSafe(listener)).is_err() {
                tracing::error!("a listener of the journal panicked");
            }
        }
    }

    pub(super) fn synced(&self) -> u64 {
        self.attempts.lock().synced
    }

    /// Everything below `position` was synced.
    pub(super) fn note_sync(&self, position: u64) {
        self.attempts.lock().synced = position;
        self.attempted.notify_all();
    }

    /// The journal thread is gone; nobody may wait for it any more.
    pub(super) fn note_end(&self) {
        self.attempts.lock().has_ended = true;
        self.attempted.notify_all();
    }

    /// Waits until everything below `position` is synced.
    ///
    /// # Errors
    /// The disk fails, or the journal has been closed.
    pub(super) fn wait_for_sync(&self, position: u64) -> io::Result<()> {
        let mut attempts = self.attempts.lock();
        let failures = attempts.failures;
        while attempts.synced < position {
            if attempts.has_ended {
                return Err(io::Error::other("the journal is closed"));
            }
            if attempts.failures != failures {
                drop(attempts);
                let error = self.health().err().map(|failure| io::Error::new(failure.kind, failure.text));
                return Err(error.unwrap_or_else(|| io::Error::other("the journal could not be synced")));
            }
            self.attempted.wait(&mut attempts);
        }
        Ok(())
    }

    pub(super) fn health(&self) -> Result<(), JournalFailure> {
        self.health.lock().clone()
    }

    pub(super) fn on_health_change(&self, listener: HealthListener) {
        *self.health_listener.lock() = Some(Arc::new(listener));
    }

    /// Something failed.
    pub(super) fn note_failure(&self, error: &io::Error) {
        let (text, kind) = (error.to_string(), error.kind());
        let was_well = {
            let mut health = self.health.lock();
            let since = health.as_ref().err().map(|failure| failure.since);
            *health = Err(JournalFailure { text, kind, since: since.unwrap_or_else(SystemTime::now) });
            since.is_none()
        };
        self.attempts.lock().failures += 1;
        self.attempted.notify_all();
        if was_well {
            tracing::error!(%error, "the journal cannot be written; nothing becomes safe until it can");
            self.tell_health();
        }
    }

    /// What was tried succeeded.
    pub(super) fn note_success(&self) {
        let failure = {
            let mut health = self.health.lock();
            std::mem::replace(&mut *health, Ok(())).err()
        };
        if let Some(failure) = failure {
            let seconds = failure.since.elapsed().unwrap_or_default().as_secs();
            tracing::info!(seconds, "the journal can be written again");
            self.tell_health();
        }
    }

    fn tell_health(&self) {
        let listener = self.health_listener.lock().clone();
        if let Some(listener) = listener {
            let health = self.health();
            if catch_unwind(AssertUnwindSafe(|| listener(&health))).is_err() {
                tracing::error!("a listener of the journal's health panicked");
            }
        }
    }
}
