//! Who is to be called when. One deadline for each that has one, however many messages stand behind it: a queue arms
//! the earliest of its own. Whoever drives the broker sleeps until [`Timers::next`] and calls [`Timers::run`].

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::time::Timestamp;

/// Something that has to be called at a time.
pub trait Timed: Send + Sync {
    /// The time has come. Called with no lock held; more time may have passed than was asked for.
    fn on_time(&self, now: Timestamp);
}

/// Identity of a deadline, unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimerId(u64);

impl TimerId {
    /// One that nobody has.
    #[must_use]
    pub fn next() -> Self {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        Self(COUNTER.fetch_add(1, Ordering::Relaxed))
    }
}

/// Told of a new earliest deadline.
type Listener = Box<dyn Fn() + Send + Sync>;

/// Deadlines of a broker, in order.
#[derive(Default)]
pub struct Timers {
    /// Locked innermost: queues arm with their own lock held.
    armed: Mutex<Armed>,
    listener: Mutex<Option<Arc<Listener>>>,
}

#[derive(Default)]
struct Armed {
    by_time: BTreeMap<(Timestamp, TimerId), Weak<dyn Timed>>,
    times: HashMap<TimerId, Timestamp>,
}

impl Armed {
    fn disarm(&mut self, id: TimerId) {
        if let Some(at) = self.times.remove(&id) {
            self.by_time.remove(&(at, id));
        }
    }

    fn first(&self) -> Option<Timestamp> {
        self.by_time.first_key_value().map(|(&(at, _), _)| at)
    }
}

impl Timers {
    /// Calls `who` at `at`, once, and not at the time that was armed before under `id`. It must not wait.
    pub fn arm(&self, id: TimerId, at: Timestamp, who: Weak<dyn Timed>) {
        let mut armed = self.armed.lock();
        let before = armed.first();
        armed.disarm(id);
        armed.times.insert(id, at);
        armed.by_time.insert((at, id), who);
        drop(armed);
        if before.is_none_or(|before| at < before) {
            let listener = self.listener.lock().clone();
            listener.into_iter().for_each(|listener| listener());
        }
    }

    /// Forgets what was armed under `id`.
    pub fn disarm(&self, id: TimerId) {
        self.armed.lock().disarm(id);
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        self.armed.lock().first()
    }

    /// Calls `listener` whenever the earliest deadline becomes earlier. It is called with locks held and must only wake
    /// somebody.
    pub fn when_earlier(&self, listener: Listener) {
        *self.listener.lock() = Some(Arc::new(listener));
    }

    /// Calls everybody whose time has come, earliest first.
    pub fn run(&self, now: Timestamp) {
        while let Some(who) = self.take_due(now) {
            if let Some(who) = who.upgrade() {
                who.on_time(now);
            }
        }
    }

    fn take_due(&self, now: Timestamp) -> Option<Weak<dyn Timed>> {
        let mut armed = self.armed.lock();
        let (&(at, id), _) = armed.by_time.first_key_value()?;
        if at > now {
            return None;
        }
        armed.times.remove(&id);
        armed.by_time.remove(&(at, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Log(Mutex<Vec<u64>>);

    impl Timed for Log {
        fn on_time(&self, now: Timestamp) {
            self.0.lock().push(now.0);
        }
    }

    #[test]
    fn who_is_armed_is_called_once_and_at_the_last_time_named() {
        let (timers, log) = (Timers::default(), Arc::new(Log::default()));
        let told = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&told);
        timers.when_earlier(Box::new(move || _ = counted.fetch_add(1, Ordering::SeqCst)));
        let (one, two, gone) = (TimerId::next(), TimerId::next(), TimerId::next());
        let who = || Arc::downgrade(&log) as Weak<dyn Timed>;
        timers.arm(one, Timestamp(10), who());
        timers.arm(two, Timestamp(20), who());
        timers.arm(one, Timestamp(30), who());
        timers.arm(gone, Timestamp(5), who());
        assert_eq!(told.load(Ordering::SeqCst), 2, "told of 10 and of 5 alone");
        timers.disarm(gone);
        assert_eq!(timers.next(), Some(Timestamp(20)));
        timers.run(Timestamp(19));
        assert!(log.0.lock().is_empty());
        timers.run(Timestamp(25));
        timers.run(Timestamp(40));
        timers.run(Timestamp(50));
        assert_eq!(*log.0.lock(), [25, 40]);
        assert_eq!(timers.next(), None);
    }
}
