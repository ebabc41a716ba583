//! What the broker asks of a durable store, owned here so that the routing core does not know how
//! octets lie on a disk. Queues hand over what was published and settled and move messages out of memory and
//! back; vhosts hand over their definitions; channels hold their answers until a position is safe.
//!
//! Two kinds of things are kept. The *journal* is one log of everything that happened, in order, and says from
//! when on it is safe. *Blocks* are runs of messages of one queue that have left the journal, or the memory.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::definition::Definition;
use crate::message::MessageBatch;
use crate::names::QueueId;
use crate::queue::Queue;
use crate::queue::quorum::Returns;

/// A place in the journal, in octets since its beginning. Everything up to it is safe once [`Store::safe`] has
/// reached it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct JournalPosition(pub u64);

impl JournalPosition {
    /// The position of what needs no disk: safe from the start.
    pub const SAFE: Self = Self(0);
    /// The position of what will never be safe.
    pub const NEVER: Self = Self(u64::MAX);
}

/// Where the journal holds something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Journaled {
    /// Where it begins: the journal must be kept from here on for as long as it is needed.
    pub begins_at: JournalPosition,
    /// Where it is safe.
    pub safe_at: JournalPosition,
}

/// Where a block lies; only the store knows what the numbers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockLocation {
    /// Number of the file.
    pub file: u64,
    /// Where in the file it begins, in octets.
    pub offset: u32,
    /// Octets of the whole block.
    pub length: u32,
}

/// What a block holds, for the store to write; the octets are the broker's own.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// The queue.
    pub queue: QueueId,
    /// Position of the first message.
    pub first_position: u64,
    /// Positions that the block covers.
    pub count: u32,
    /// Whether it is to be found again after a restart.
    pub durable: bool,
    /// The messages, see [`MessageBatch`].
    pub payload: &'a [&'a [u8]],
}

/// What a restart must know of a block, for the store to keep beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockState {
    /// The queue.
    pub queue: QueueId,
    /// Position of the first message.
    pub first_position: u64,
    /// Positions that the block covers.
    pub count: u32,
    /// Where it lies.
    pub location: BlockLocation,
    /// A bit for each position, lowest first, set if no message is there (any more); may be shorter than `count`.
    pub settled: Vec<u8>,
    /// Messages that are neither settled nor missing.
    pub live: u32,
    /// Octets of their bodies.
    pub body_bytes: u64,
    /// That is not known for sure.
    pub is_estimate: bool,
    /// Some message in it expires.
    pub expires: bool,
    /// Messages of it that came back to a quorum queue, by number in it, each once and in order.
    pub returns: Vec<(u32, Returns)>,
}

/// Why a block could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// The system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// What lies there is not what was written.
    #[error("{0}")]
    Damaged(String),
}

/// Keeps a broker's messages and definitions.
///
/// Methods that say so are called with a queue's or a vhost's lock held: they only append to memory and return;
/// threads of the store's own write, sync and then move the safe position.
pub trait Store: Send + Sync {
    /// Records messages that several queues are about to get, so that their octets are written once. The
    /// queues' batches refer to them by [`MessageBatch::push_shared`].
    fn share(&self, messages: &MessageBatch) -> JournalPosition;

    /// Records that `batch` was appended to a durable queue, its first message at `first_position`. Called
    /// with the queue locked.
    fn publish(&self, queue: QueueId, first_position: u64, batch: &MessageBatch) -> Journaled;

    /// Records that the messages at `positions` of a durable queue are settled; where that is safe. Called with
    /// the queue locked. Ranges may cover transient messages; not called when the queue is deleted.
    fn settle(&self, queue: QueueId, positions: &[Range<u64>]) -> JournalPosition;

    /// Records how often messages of a durable queue have come back by now. Called with the queue locked. Nobody waits
    /// for that to be safe.
    fn returned(&self, queue: QueueId, returns: &[(u64, Returns)]);

    /// Records changes of definitions, which take effect together. Called with the vhost's topology locked.
    fn define(&self, changes: Vec<Definition>) -> JournalPosition;

    /// Makes sure that after the end of this process, however it ends, messages of a durable queue below
    /// `position` are known to have been handed out. Called with the queue locked; the cost is a system call.
    fn delivering(&self, queue: QueueId, position: u64);

    /// Up to where everything is safe.
    fn safe(&self) -> JournalPosition;

    /// Calls `listener` once when `position` is safe; at once if it is already.
    fn when_safe(&self, position: JournalPosition, listener: Box<dyn FnOnce() + Send>);

    /// Writes a block. Waits for the disk: called with no lock held. It is safe when the next checkpoint is.
    ///
    /// # Errors
    /// There is no room, or the disk fails.
    fn write_block(&self, block: &Block<'_>) -> io::Result<BlockLocation>;

    /// Reads a block's payload. Waits for the disk: called with no lock held.
    ///
    /// # Errors
    /// The disk fails, or something else lies there than was written.
    fn read_block(
        &self,
        location: BlockLocation,
        queue: QueueId,
        first_position: u64,
    ) -> Result<Bytes, BlockError>;

    /// What lies there is needed no more. Called with the queue locked.
    fn free_block(&self, location: BlockLocation);

    /// The queue has no durable block at `first_position` any more. Called with the queue locked.
    fn forget_block(&self, queue: QueueId, first_position: u64);

    /// The queue is gone: [`Self::define`] was told, and its blocks were freed. Called with the queue locked.
    fn forget_queue(&self, queue: QueueId);

    /// Asks for [`Queue::load`] to be called on a thread that may wait for the disk. Called with the queue locked.
    fn request_load(&self, queue: Arc<Queue>);

    /// Messages take more memory than they should: [`Broker::page_out`](crate::Broker::page_out) is due on a
    /// thread that may wait for the disk. Called with a queue locked, and often.
    fn request_page_out(&self);
}

/// The store of a broker that keeps everything in memory: all is as safe as it will get the moment it is in
/// its queue. For tests and benches.
#[derive(Default)]
pub struct MemoryStore {
    blocks: Mutex<HashMap<BlockLocation, Bytes>>,
    /// Blocks written, freed ones included.
    written: AtomicU32,
    /// Queues that asked for messages; whoever drives the queue lets them have these.
    wanting: Mutex<Vec<Arc<Queue>>>,
}

impl MemoryStore {
    /// Loads what queues have asked for, until none asks for more.
    pub fn load_requested(&self) {
        loop {
            let wanting = std::mem::take(&mut *self.wanting.lock());
            if wanting.is_empty() {
                return;
            }
            wanting.iter().for_each(|queue| queue.load());
        }
    }

    /// Whether some queue has asked for messages.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        !self.wanting.lock().is_empty()
    }

    /// Blocks written and not freed.
    #[must_use]
    pub fn blocks(&self) -> usize {
        self.blocks.lock().len()
    }
}

impl Store for MemoryStore {
    fn share(&self, _messages: &MessageBatch) -> JournalPosition {
        JournalPosition::SAFE
    }

    fn publish(&self, _queue: QueueId, _first_position: u64, _batch: &MessageBatch) -> Journaled {
        Journaled { begins_at: JournalPosition::SAFE, safe_at: JournalPosition::SAFE }
    }

    fn settle(&self, _queue: QueueId, _positions: &[Range<u64>]) -> JournalPosition {
        JournalPosition::SAFE
    }

    fn returned(&self, _queue: QueueId, _returns: &[(u64, Returns)]) {}

    fn define(&self, _changes: Vec<Definition>) -> JournalPosition {
        JournalPosition::SAFE
    }

    fn delivering(&self, _queue: QueueId, _position: u64) {}

    fn safe(&self) -> JournalPosition {
        JournalPosition::SAFE
    }

    fn when_safe(&self, _position: JournalPosition, listener: Box<dyn FnOnce() + Send>) {
        listener();
    }

    fn write_block(&self, block: &Block<'_>) -> io::Result<BlockLocation> {
        let payload = Bytes::from(block.payload.concat());
        let mut blocks = self.blocks.lock();
        let offset = self.written.fetch_add(1, Ordering::Relaxed);
        let location = BlockLocation { file: block.queue.0, offset, length: payload.len() as u32 };
        blocks.insert(location, payload);
        Ok(location)
    }

    fn read_block(
        &self,
        location: BlockLocation,
        _queue: QueueId,
        _first_position: u64,
    ) -> Result<Bytes, BlockError> {
        let found = self.blocks.lock().get(&location).cloned();
        found.ok_or_else(|| BlockError::Damaged("no such block".to_owned()))
    }

    fn free_block(&self, location: BlockLocation) {
        self.blocks.lock().remove(&location);
    }

    fn forget_block(&self, _queue: QueueId, _first_position: u64) {}

    fn forget_queue(&self, _queue: QueueId) {}

    fn request_load(&self, queue: Arc<Queue>) {
        self.wanting.lock().push(queue);
    }

    fn request_page_out(&self) {}
}
