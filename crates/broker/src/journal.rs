//! What the broker asks of a durable store, owned here so that the routing core does not know how
//! octets lie on a disk. Queues hand over what was published and settled; channels hold their confirms
//! until the position they were given is safe.

use crate::message::MessageBatch;
use crate::names::QueueId;

/// A place in the journal. Everything up to it is safe once [`Journal::safe`] has reached it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct JournalPosition(pub u64);

impl JournalPosition {
    /// The position of what needs no disk: safe from the start.
    pub const SAFE: Self = Self(0);
}

/// A log that makes messages of durable queues survive a crash.
///
/// Called with the queue's lock held, so implementations only append to memory and return; a thread of
/// their own writes, syncs and then moves the safe position.
pub trait Journal: Send + Sync {
    /// Records that `batch` was appended to `queue`, its first message at `first_position`.
    /// Returns where it is safe.
    fn publish(&self, queue: QueueId, first_position: u64, batch: &MessageBatch) -> JournalPosition;

    /// Records that the message at `position` of `queue` is settled. Called once for each persistent message
    /// of a durable queue that is acked, rejected, delivered without acks or purged; not when the queue is deleted.
    fn settle(&self, queue: QueueId, position: u64);

    /// Up to where everything is safe.
    fn safe(&self) -> JournalPosition;

    /// Calls `listener` once when `position` is safe; at once if it is already.
    fn when_safe(&self, position: JournalPosition, listener: Box<dyn FnOnce() + Send>);
}

/// The journal of a broker that keeps messages in memory alone: everything is as safe as it will get
/// the moment it is in its queue.
#[derive(Debug, Default)]
pub struct MemoryJournal;

impl Journal for MemoryJournal {
    fn publish(&self, _queue: QueueId, _first_position: u64, _batch: &MessageBatch) -> JournalPosition {
        JournalPosition::SAFE
    }

    fn settle(&self, _queue: QueueId, _position: u64) {}

    fn safe(&self) -> JournalPosition {
        JournalPosition::SAFE
    }

    fn when_safe(&self, _position: JournalPosition, listener: Box<dyn FnOnce() + Send>) {
        listener();
    }
}
