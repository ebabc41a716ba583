//! How much memory messages take in the whole broker, and who waits for it to become less.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

/// A limit somebody waits for, and how to tell.
type Watcher = (usize, Box<dyn FnOnce() + Send>);

/// Octets of memory that messages take in the whole broker. Counted per chunk, not per message.
#[derive(Default)]
pub struct MemoryGauge {
    bytes: AtomicUsize,
    /// Messages should leave memory above this; 0 for never.
    cache_limit: AtomicUsize,
    /// Whether somebody waits for memory to be given back.
    watched: AtomicBool,
    /// Limits waited for and whom to tell. Locked alone.
    watchers: Mutex<Vec<Watcher>>,
}

impl MemoryGauge {
    /// Octets held now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Calls `listener` once when less than `limit` octets are held; at once if that is so already.
    pub fn when_below(&self, limit: usize, listener: Box<dyn FnOnce() + Send>) {
        self.watchers.lock().push((limit, listener));
        self.watched.store(true, Ordering::SeqCst);
        self.tell_watchers();
    }

    /// Octets above which messages are to leave memory, if there is a limit.
    #[must_use]
    pub fn cache_limit(&self) -> Option<usize> {
        Some(self.cache_limit.load(Ordering::SeqCst)).filter(|&limit| limit > 0)
    }

    /// From now on, messages are to leave memory when they hold more than `bytes`.
    pub(crate) fn limit_cache(&self, bytes: usize) {
        self.cache_limit.store(bytes.max(1), Ordering::SeqCst);
    }

    /// Adds; `true` if messages should leave memory.
    pub(crate) fn add(&self, bytes: usize) -> bool {
        let limit = self.cache_limit.load(Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > limit && limit > 0
    }

    pub(crate) fn subtract(&self, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        if self.watched.load(Ordering::SeqCst) {
            self.tell_watchers();
        }
    }

    fn tell_watchers(&self) {
        let mut watchers = self.watchers.lock();
        let bytes = self.bytes.load(Ordering::SeqCst);
        let due: Vec<_> = watchers.extract_if(.., |(limit, _)| bytes < *limit).collect();
        self.watched.store(!watchers.is_empty(), Ordering::SeqCst);
        drop(watchers);
        due.into_iter().for_each(|(_, listener)| listener());
    }
}

/// Memory that somebody holds for messages outside of the queues. Counted until it is given back, or this is dropped.
#[derive(Debug)]
pub struct HeldMemory {
    gauge: Arc<MemoryGauge>,
    bytes: usize,
}

impl HeldMemory {
    /// Nothing yet.
    #[must_use]
    pub fn new(gauge: &Arc<MemoryGauge>) -> Self {
        Self { gauge: Arc::clone(gauge), bytes: 0 }
    }

    /// Octets that are held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// From now on it is so many octets. Messages of queues do not leave memory for it at once: they do with the next
    /// one that is published, or when an alarm is raised.
    pub fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.gauge.add(bytes - self.bytes);
        } else if bytes < self.bytes {
            self.gauge.subtract(self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

impl Drop for HeldMemory {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl std::fmt::Debug for MemoryGauge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MemoryGauge").field(&self.bytes()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_counts_until_it_is_given_back_or_dropped() {
        let gauge = Arc::<MemoryGauge>::default();
        let (mut one, mut other) = (HeldMemory::new(&gauge), HeldMemory::new(&gauge));
        one.set(100);
        other.set(1000);
        one.set(300);
        assert_eq!((gauge.bytes(), one.bytes()), (1300, 300));
        one.set(0);
        assert_eq!(gauge.bytes(), 1000);
        drop(other);
        assert_eq!(gauge.bytes(), 0);
    }
}
