//! What the channels of a connection have taken from its client and no queue has: messages of which a part is still to
//! come, and those that wait for a commit. It counts as memory of messages, so that it raises the alarm as they do, and
//! each kind is bounded for the connection as a whole.
//!
//! A channel that has begun goes on while the alarm is raised, since what it holds would never get free otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use leveret_broker::queue::memory::{HeldMemory, MemoryGauge};

/// Octets that one connection holds of one kind.
#[derive(Debug)]
pub(crate) struct PendingTotal {
    bytes: AtomicUsize,
    max: usize,
}

impl PendingTotal {
    /// Nothing yet, and at most so many octets.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), max })
    }
}

/// The part of a connection's octets that one channel holds. Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Pending {
    held: HeldMemory,
    total: Arc<PendingTotal>,
}

/// A connection holds more than it may: what it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMuchPending(pub(crate) usize);

impl Pending {
    /// Nothing yet.
    pub(crate) fn new(gauge: &Arc<MemoryGauge>, total: &Arc<PendingTotal>) -> Self {
        Self { held: HeldMemory::new(gauge), total: Arc::clone(total) }
    }

    /// Holds so many octets more.
    ///
    /// # Errors
    /// The connection holds too much by that; it counts all the same, until it is given back.
    pub(crate) fn add(&mut self, bytes: usize) -> Result<(), TooMuchPending> {
        self.set(self.held.bytes().saturating_add(bytes))
    }

    /// Holds so many octets.
    ///
    /// # Errors
    /// As for [`add`](Self::add).
    pub(crate) fn set(&mut self, bytes: usize) -> Result<(), TooMuchPending> {
        let before = self.held.bytes();
        let all = if bytes >= before {
            self.total.bytes.fetch_add(bytes - before, Ordering::Relaxed).saturating_add(bytes - before)
        } else {
            self.total.bytes.fetch_sub(before - bytes, Ordering::Relaxed).saturating_sub(before - bytes)
        };
        self.held.set(bytes);
        if bytes > before && all > self.total.max { Err(TooMuchPending(self.total.max)) } else { Ok(()) }
    }

    /// Octets that it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.held.bytes()
    }

    /// Gives back what it holds. PERF: asked for each message, of which nearly none holds anything.
    pub(crate) fn clear(&mut self) {
        if self.held.bytes() > 0 {
            // Less is never too much.
            let _ = self.set(0);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_channels_of_a_connection_share_its_limit_and_give_back_what_they_held() {
        let (gauge, total) = (Arc::<MemoryGauge>::default(), PendingTotal::new(1000));
        let mut one = Pending::new(&gauge, &total);
        let mut other = Pending::new(&gauge, &total);
        assert_eq!(one.add(600), Ok(()));
        assert_eq!(other.set(400), Ok(()));
        assert_eq!(other.add(1), Err(TooMuchPending(1000)));
        assert_eq!(gauge.bytes(), 1001);
        // To hold less is never too much, be it more than there may be.
        assert_eq!(one.set(599), Ok(()));
        drop(other);
        assert_eq!((gauge.bytes(), one.set(1000)), (599, Ok(())));
        one.clear();
        assert_eq!((gauge.bytes(), total.bytes.load(Ordering::Relaxed)), (0, 0));
    }
}
