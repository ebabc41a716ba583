//! The messages of one queue in memory: records in chunks, read in the order they came; those handed
//! out and brought back return to their old place. Costs nothing per message beyond its record.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::limits::{CHUNK_BYTES, FIRST_CHUNK_BYTES};
use crate::message::{Chunk, MessageBatch, MessageRef, MessageView};

/// A limit somebody waits for, and how to tell.
type Watcher = (usize, Box<dyn FnOnce() + Send>);

/// Octets of memory that messages take in the whole broker. Counted per chunk, not per message.
#[derive(Default)]
pub struct MemoryGauge {
    bytes: AtomicUsize,
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

    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn subtract(&self, bytes: usize) {
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

impl std::fmt::Debug for MemoryGauge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MemoryGauge").field(&self.bytes()).finish()
    }
}

/// Ready and unacked messages of a queue.
///
/// INVARIANT: the messages not yet read lie in the chunks of `unread`, front to back, with consecutive
/// positions that end at `next_position`; every returned message is older than all of these.
#[derive(Debug)]
pub(crate) struct Messages {
    chunks: Vec<Option<Chunk>>,
    free: Vec<u32>,
    /// Chunks that still have messages to read, and the one being written at the back.
    unread: VecDeque<u32>,
    /// Where reading goes on in the front chunk, and how many of its messages were read.
    read_offset: u32,
    read_count: u32,
    unread_count: usize,
    next_position: u64,
    /// Messages handed out and brought back, by position.
    returned: BTreeMap<u64, MessageRef>,
    gauge: Arc<MemoryGauge>,
    memory_bytes: usize,
}

impl Messages {
    pub(crate) fn new(gauge: Arc<MemoryGauge>) -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
            unread: VecDeque::new(),
            read_offset: 0,
            read_count: 0,
            unread_count: 0,
            next_position: 0,
            returned: BTreeMap::new(),
            gauge,
            memory_bytes: 0,
        }
    }

    /// Messages that can be delivered.
    pub(crate) fn ready(&self) -> usize {
        self.unread_count + self.returned.len()
    }

    /// Position that the next published message will have.
    pub(crate) fn next_position(&self) -> u64 {
        self.next_position
    }

    /// Octets of memory held for messages, ready or unacked.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Takes all messages of `batch` over and leaves it empty.
    pub(crate) fn append(&mut self, batch: &mut MessageBatch) {
        self.unread_count += batch.len();
        self.next_position += batch.len() as u64;
        if let Some(tail) = self.tail().filter(|tail| tail.has_room_for(batch)) {
            tail.append(batch);
        } else {
            let chunk = self.chunk_for(batch);
            self.add_chunk(chunk);
        }
        batch.clear();
    }

    /// Takes the oldest ready message out of the ready ones; `true` if it was handed out before.
    pub(crate) fn take_next(&mut self) -> Option<(MessageRef, bool, MessageView<'_>)> {
        if let Some((_, reference)) = self.returned.pop_first() {
            return Some((reference, true, self.view(reference)?));
        }
        if self.unread_count == 0 {
            return None;
        }
        let &chunk_index = self.unread.front()?;
        let chunk = self.chunks.get(chunk_index as usize)?.as_ref()?;
        let (message, next) = chunk.read(self.read_offset as usize)?;
        let position = self.next_position - self.unread_count as u64;
        let reference = MessageRef::new(position, chunk_index, self.read_offset, message.persistent);
        self.unread_count -= 1;
        self.read_offset = next as u32;
        self.read_count += 1;
        if self.read_count == chunk.count && self.unread.len() > 1 {
            // Not given back yet: this message is alive in it.
            self.unread.pop_front();
            self.read_offset = 0;
            self.read_count = 0;
        }
        Some((reference, false, message))
    }

    /// The message at `reference`, which must not be settled yet.
    fn view(&self, reference: MessageRef) -> Option<MessageView<'_>> {
        let chunk = self.chunks.get(reference.chunk as usize)?.as_ref()?;
        Some(chunk.read(reference.offset())?.0)
    }

    /// Makes a message that was taken ready again, at its old place.
    pub(crate) fn put_back(&mut self, reference: MessageRef) {
        self.returned.insert(reference.position, reference);
    }

    /// Lets go of a message that was taken.
    pub(crate) fn settle(&mut self, reference: MessageRef) {
        let Some(Some(chunk)) = self.chunks.get_mut(reference.chunk as usize) else { return };
        let freed = chunk.release(reference.offset());
        chunk.live = chunk.live.saturating_sub(1);
        let dead = chunk.live == 0;
        self.count_freed(freed);
        if dead {
            self.reclaim(reference.chunk);
        }
    }

    /// Lets go of everything, of what is handed out as well.
    pub(crate) fn forget(&mut self) {
        *self = Self::new(Arc::clone(&self.gauge));
    }

    fn tail(&mut self) -> Option<&mut Chunk> {
        let &index = self.unread.back()?;
        self.chunks.get_mut(index as usize)?.as_mut()
    }

    /// A chunk with the batch in it: a small batch gets room behind it for the next ones.
    fn chunk_for(&mut self, batch: &mut MessageBatch) -> Chunk {
        if batch.has_large_bodies() || batch.record_bytes() >= CHUNK_BYTES / 4 {
            return Chunk::take(batch);
        }
        let doubled = self.tail().map_or(0, |tail| tail.memory_bytes() * 2);
        let capacity = doubled.clamp(FIRST_CHUNK_BYTES, CHUNK_BYTES).max(batch.record_bytes());
        let mut chunk = Chunk::with_capacity(capacity);
        chunk.append(batch);
        chunk
    }

    fn add_chunk(&mut self, chunk: Chunk) {
        let bytes = chunk.memory_bytes();
        self.memory_bytes += bytes;
        self.gauge.add(bytes);
        let index = if let Some(index) = self.free.pop() {
            self.chunks[index as usize] = Some(chunk);
            index
        } else {
            self.chunks.push(Some(chunk));
            (self.chunks.len() - 1) as u32
        };
        self.unread.push_back(index);
        // The tail may have been read to its end while it was the only chunk.
        if self.front_is_read() {
            self.next_chunk();
        }
    }

    fn front_is_read(&self) -> bool {
        let front = self.unread.front().and_then(|&index| self.chunks.get(index as usize)?.as_ref());
        self.unread.len() > 1 && front.is_some_and(|chunk| chunk.count == self.read_count)
    }

    /// Moves reading to the next chunk.
    fn next_chunk(&mut self) {
        let finished = self.unread.pop_front();
        self.read_offset = 0;
        self.read_count = 0;
        if let Some(index) = finished {
            self.reclaim(index);
        }
    }

    /// Gives a chunk back if nothing in it is alive and nothing more will be written to it. The chunk
    /// being written starts anew when all its messages are gone.
    fn reclaim(&mut self, index: u32) {
        let Some(slot) = self.chunks.get_mut(index as usize) else { return };
        if slot.as_ref().is_none_or(|chunk| chunk.live > 0) {
            return;
        }
        if self.unread.back() == Some(&index) {
            if self.unread.len() == 1 && self.unread_count == 0 {
                if slot.as_ref().is_some_and(|chunk| chunk.memory_bytes() <= FIRST_CHUNK_BYTES) {
                    slot.iter_mut().for_each(Chunk::clear);
                } else {
                    self.unread.clear();
                    self.free_chunk(index);
                }
                self.read_offset = 0;
                self.read_count = 0;
            }
        } else {
            // INVARIANT: it is not in `unread`, whose other chunks all hold messages not yet read.
            self.free_chunk(index);
        }
    }

    fn free_chunk(&mut self, index: u32) {
        if let Some(chunk) = self.chunks.get_mut(index as usize).and_then(Option::take) {
            self.count_freed(chunk.memory_bytes());
            self.free.push(index);
        }
        if self.free.len() == self.chunks.len() {
            self.free = Vec::new();
            self.chunks = Vec::new();
        }
    }

    fn count_freed(&mut self, bytes: usize) {
        if bytes > 0 {
            self.memory_bytes -= bytes;
            self.gauge.subtract(bytes);
        }
    }
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.gauge.subtract(self.memory_bytes);
    }
}
