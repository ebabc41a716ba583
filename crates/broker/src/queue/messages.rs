//! The messages of one queue: records in chunks, read in the order they came; those handed out and brought
//! back return to their old place, or, in quorum queues, are served in turn. Chunks are in memory, on disk or both;
//! what is next to be delivered has to be in memory first. Costs nothing per message beyond its record.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use super::chunk::{BatchTotals, Chunk, ChunkBlock, Settled};
use super::memory::MemoryGauge;
use super::quorum::Returns;
use super::unique::{LevelIds, QueueIds};
use crate::delivery::Deadline;
use crate::limits::{CHUNK_BYTES, FIRST_CHUNK_BYTES, READ_AHEAD_BYTES, RESEALED_BYTES_MAX};
use crate::message::{Contents, MessageBatch, MessageRef, MessageView};
use crate::names::QueueId;
use crate::services::Services;
use crate::store::{BlockLocation, BlockState, JournalPosition, Journaled, Store};

/// The next message to be delivered.
pub(crate) enum Next<'a> {
    /// Where it lies, how often it came back if it was handed out before, and what it is.
    Message(MessageRef, Option<Returns>, MessageView<'a>),
    /// It has to be brought into memory first.
    Absent,
    /// There is none.
    None,
}

/// A look at the next message.
pub(crate) enum Peeked<'a> {
    /// Its position, and what it is.
    Message(u64, MessageView<'a>),
    /// It has to be brought into memory first.
    Absent,
    /// There is none.
    None,
}

/// A chunk on its way to the disk.
pub(crate) struct Outgoing {
    slot: u32,
    pub(crate) queue: QueueId,
    pub(crate) level: u8,
    pub(crate) first_position: u64,
    pub(crate) span: u32,
    pub(crate) durable: bool,
    pub(crate) contents: Arc<Contents>,
}

/// A chunk on its way back into memory.
#[derive(Clone, Copy)]
pub(crate) struct Incoming {
    slot: u32,
    pub(crate) queue: QueueId,
    pub(crate) level: u8,
    pub(crate) first_position: u64,
    pub(crate) location: BlockLocation,
}

/// A chunk that holds messages not read yet.
pub(crate) struct UnreadChunk {
    pub(crate) level: u8,
    pub(crate) first_position: u64,
    /// Where it lies, if it is on disk alone.
    pub(crate) incoming: Option<Incoming>,
    /// What it holds, if it is in memory.
    pub(crate) contents: Option<Arc<Contents>>,
    pub(crate) settled: Settled,
}

impl UnreadChunk {
    /// Shows those of its messages that are not settled, with level and position.
    pub(crate) fn visit(&self, contents: &Contents, visit: &mut dyn FnMut(u8, u64, &MessageView<'_>)) {
        let left = contents.iter().filter(|(number, _)| !self.settled.contains(*number));
        left.for_each(|(number, view)| visit(self.level, self.first_position + u64::from(number), &view));
    }
}

/// A block being written again without what is settled of it.
pub(crate) struct Rewrite {
    slot: u32,
    pub(crate) queue: QueueId,
    pub(crate) level: u8,
    first_position: u64,
    pub(crate) covers: u32,
    pub(crate) durable: bool,
    /// The messages, if they are in memory.
    pub(crate) contents: Option<Arc<Contents>>,
    /// What is settled; not known of queues that a restart does not find again.
    settled: Option<Settled>,
}

impl Rewrite {
    /// What is left of the block, unless all of it is to be kept.
    pub(crate) fn left_of(&self, contents: &Contents) -> Option<Contents> {
        let settled = self.settled.as_ref()?;
        let mut batch = MessageBatch::default();
        let mut numbers = Vec::new();
        for (number, view) in contents.iter().filter(|(number, _)| !settled.contains(*number)) {
            batch.push(&view);
            numbers.push(number);
        }
        Some(Contents::sparse(batch, numbers))
    }
}

/// Which chunks may leave memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PageOut {
    /// Those that no consumer will get soon.
    Far,
    /// All but the one that consumers are reading.
    Near,
    /// All.
    All,
}

/// Messages brought back by consumers whose chunks are brought into memory together.
pub(crate) const RETURNED_AHEAD: usize = 64;

/// Ready and unacked messages of a queue, or of one level of a priority queue.
///
/// INVARIANT: the messages not yet read lie in the chunks of `unread`, front to back, with positions that grow and
/// end before `next_position`; every returned message is older than all of these. While the front chunk is in
/// memory and something is unread, the cursor stands before a message that is not settled.
pub(crate) struct Messages {
    /// What the store knows them by.
    queue: QueueId,
    level: u8,
    store: Arc<dyn Store>,
    /// Whether a restart finds messages again: then what is settled is noted.
    durable: bool,
    chunks: Vec<Option<Chunk>>,
    free: Vec<u32>,
    /// Chunks that are not in memory.
    absent: usize,
    /// Chunks of which it is not known for sure how many octets are left.
    estimates: usize,
    /// Chunks that still have messages to read, and the one being written at the back.
    unread: VecDeque<u32>,
    cursor: Cursor,
    unread_count: usize,
    /// Octets of the bodies of ready messages.
    ready_bytes: u64,
    next_position: u64,
    /// Messages that expire may be there; stays once it was so.
    may_expire: bool,
    /// Messages handed out and brought back, by position.
    returned: BTreeMap<u64, Returned>,
    /// Messages below may have been handed out before a restart.
    delivered_below: u64,
    /// Messages below are known to the store to have been handed out, should the process end now.
    noted_below: u64,
    /// Messages below were there when the process began: positions may be missing between them.
    restored_below: u64,
    gauge: Arc<MemoryGauge>,
    memory_bytes: usize,
    /// Chunks to be brought into memory for messages that were taken.
    awaited: Vec<u32>,
    /// Where the queue drops duplicates: the ids to be let go of with the messages.
    ids: Option<Box<LevelIds>>,
}

/// A message that was handed out and brought back.
#[derive(Clone, Copy, Debug)]
struct Returned {
    reference: MessageRef,
    /// Its place among those that came back, where they are served in that order.
    turn: u64,
}

/// Chunks that are awaited at a time: what is brought back for the sake of order must not fill the memory.
const AWAITED_MAX: usize = 128;

/// Where reading goes on in the front chunk.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    offset: u32,
    /// Records before it.
    index: u32,
    /// Its number in the chunk, for when it comes back with its records elsewhere.
    number: u32,
}

impl Messages {
    /// Empty ones of a level of `queue`.
    pub(crate) fn new(queue: QueueId, level: u8, durable: bool, services: &Services) -> Self {
        Self {
            queue: queue.of_level(level),
            level,
            store: Arc::clone(&services.store),
            durable,
            chunks: Vec::new(),
            free: Vec::new(),
            absent: 0,
            estimates: 0,
            unread: VecDeque::new(),
            cursor: Cursor::default(),
            unread_count: 0,
            ready_bytes: 0,
            next_position: 0,
            may_expire: false,
            returned: BTreeMap::new(),
            delivered_below: 0,
            noted_below: 0,
            restored_below: 0,
            gauge: Arc::clone(&services.gauge),
            memory_bytes: 0,
            awaited: Vec::new(),
            ids: None,
        }
    }

    /// Has messages let go of their ids when they leave.
    pub(super) fn keep_ids(&mut self, ids: &Arc<QueueIds>) {
        self.ids = Some(Box::new(LevelIds::new(ids)));
    }

    /// The message at a position has this id.
    pub(super) fn add_id(&mut self, position: u64, id: Arc<[u8]>) {
        self.ids.iter_mut().for_each(|ids| ids.add(position, Arc::clone(&id)));
    }

    /// The id of the message at a position, if it has one, is free.
    pub(super) fn release_id(&mut self, position: u64) {
        self.ids.iter_mut().for_each(|ids| ids.release(position));
    }

    /// What the store knows them by.
    pub(crate) fn id(&self) -> QueueId {
        self.queue
    }

    /// Which level of a priority queue they are.
    pub(crate) fn level_number(&self) -> u8 {
        self.level
    }

    /// Messages below this position are known to the store to have been handed out.
    pub(crate) fn noted_below(&self) -> u64 {
        self.noted_below
    }

    /// The store was told that messages below this position are handed out.
    pub(crate) fn note_below(&mut self, position: u64) {
        self.noted_below = position;
    }

    /// Takes chunks over that a restart found, in order.
    pub(crate) fn restore(&mut self, chunks: Vec<Chunk>, next_position: u64, delivered_below: u64) {
        self.noted_below = delivered_below;
        self.next_position = next_position;
        self.delivered_below = delivered_below.min(next_position);
        self.restored_below = next_position;
        for chunk in chunks {
            let live = chunk.live;
            self.estimates += usize::from(chunk.is_estimate);
            if live > 0 {
                self.unread_count += live as usize;
                self.ready_bytes += chunk.body_bytes;
                self.may_expire |= chunk.expires;
            }
            let slot = self.add_chunk(chunk);
            if live == 0 {
                self.unread.pop_back();
                self.free_chunk(slot);
            }
        }
        self.cursor = start_of(self.unread.front().and_then(|&slot| self.chunk(slot)));
    }

    /// Messages that can be delivered.
    pub(crate) fn ready(&self) -> usize {
        self.unread_count + self.returned.len()
    }

    /// Octets of the bodies of messages that can be delivered.
    pub(crate) fn ready_bytes(&self) -> u64 {
        self.ready_bytes
    }

    /// Whether a message may be there that expires.
    pub(crate) fn may_expire(&self) -> bool {
        self.may_expire
    }

    /// Position that the next published message will have.
    pub(crate) fn next_position(&self) -> u64 {
        self.next_position
    }

    /// No message that was not read yet is before this position.
    pub(crate) fn read_position(&self) -> u64 {
        let front = self.unread.front().and_then(|&slot| self.chunk(slot));
        front.map_or(self.next_position, |chunk| chunk.first_position + u64::from(self.cursor.number))
    }

    /// Of the next `count` messages that were not read yet, how many can be told to lie before which position. After a
    /// restart positions may be missing in between: then it is what is left of one chunk.
    pub(crate) fn reach(&self, count: usize) -> (usize, u64) {
        let position = self.read_position();
        let front = self.unread.front().and_then(|&slot| self.chunk(slot));
        match front {
            Some(front) if position < self.restored_below => {
                let left = front.contents.as_ref().map_or(0, |contents| {
                    let unread = self.cursor.index..contents.count;
                    let is_there = |&index: &u32| !front.settled.contains(contents.number(index));
                    if front.has_gaps { unread.filter(is_there).take(count).count() } else { unread.len() }
                });
                (count.min(left).max(1), front.first_position + u64::from(front.span))
            }
            _ => (count, position + count as u64),
        }
    }

    /// Octets of memory held for messages, ready or unacked.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    fn chunk(&self, slot: u32) -> Option<&Chunk> {
        self.chunks.get(slot as usize)?.as_ref()
    }

    fn chunk_mut(&mut self, slot: u32) -> Option<&mut Chunk> {
        self.chunks.get_mut(slot as usize)?.as_mut()
    }

    /// Whether a restart finds messages again.
    pub(crate) fn is_durable(&self) -> bool {
        self.durable
    }

    /// Whether messages are on disk alone.
    pub(crate) fn has_absent(&self) -> bool {
        self.absent > 0
    }

    /// The oldest of the messages at or behind `from` that were brought back.
    fn first_returned(&self, from: u64) -> Option<MessageRef> {
        self.returned.range(from..).next().map(|(_, returned)| returned.reference)
    }

    /// The chunk of the oldest ready message at or behind `from`, before which all were read.
    fn next_chunk_from(&self, from: u64) -> Option<&Chunk> {
        let returned = self.first_returned(from).map(|reference| reference.chunk);
        self.chunk(returned.or_else(|| self.unread.front().copied())?)
    }

    /// Whether the oldest ready message at or behind `from` has to be brought into memory before it can be taken.
    pub(crate) fn is_next_absent(&self, from: u64) -> bool {
        let is_absent = |chunk: &Chunk| chunk.contents.is_none();
        self.absent > 0 && self.ready() > 0 && self.next_chunk_from(from).is_some_and(is_absent)
    }

    /// Takes all messages of `batch` over and leaves it empty. `journaled` says where the journal holds the
    /// persistent ones.
    pub(crate) fn append(&mut self, batch: &mut MessageBatch, journaled: Option<Journaled>) {
        let (count, totals) = (batch.len() as u32, BatchTotals::from(&*batch));
        if !self.append_to_tail(batch) {
            let contents = self.contents_for(batch);
            self.add_chunk(Chunk::new(self.next_position, contents, BatchTotals::default()));
        }
        self.unread_count += count as usize;
        self.ready_bytes += batch.body_bytes();
        self.may_expire |= batch.expires();
        self.next_position += u64::from(count);
        if let Some(tail) = self.unread.back().copied().and_then(|slot| self.chunk_mut(slot)) {
            tail.add_totals(totals);
            if let Some(Journaled { begins_at, .. }) = journaled {
                // What several queues got may lie before what this one got alone meanwhile.
                let needs = tail.needs_journal.map_or(begins_at, |needs| needs.min(begins_at));
                tail.needs_journal = Some(needs);
            }
        }
        batch.clear();
    }

    /// Copies the batch into the chunk at the tail, if it has room and nobody reads it.
    fn append_to_tail(&mut self, batch: &MessageBatch) -> bool {
        let next_position = self.next_position;
        let Some(tail) = self.unread.back().copied().and_then(|slot| self.chunk_mut(slot)) else {
            return false;
        };
        let is_small =
            tail.contents.as_ref().is_some_and(|contents| contents.record_bytes() < RESEALED_BYTES_MAX);
        let is_next = tail.first_position + u64::from(tail.span) == next_position;
        if tail.is_busy || !is_next || (tail.block.is_some() && !is_small) {
            return false;
        }
        let Some(contents) = tail.contents.as_mut().and_then(Arc::get_mut) else { return false };
        if !contents.has_room_for(batch) || contents.count != tail.span {
            return false;
        }
        contents.append(batch);
        tail.span += batch.len() as u32;
        tail.live += batch.len() as u32;
        true
    }

    /// Takes the oldest ready message at or behind `from`, before which all were read, out of the ready ones.
    pub(crate) fn take_from(&mut self, from: u64) -> Next<'_> {
        self.take_unexpired(from, None)
    }

    /// The same, unless it has expired: then there is none.
    // PERF: its record is read once for both questions, which is a third of what a time to live costs.
    #[inline]
    pub(crate) fn take_unexpired(&mut self, from: u64, deadline: Option<Deadline>) -> Next<'_> {
        // PERF: nearly always nothing was brought back.
        if !self.returned.is_empty()
            && let Some(reference) = self.first_returned(from)
        {
            let is_over = deadline.is_some_and(|deadline| self.is_next_expired(from, deadline));
            return if is_over { Next::None } else { self.take_returned(reference) };
        }
        self.take_unread(deadline)
    }

    /// Takes one of the messages that were brought back.
    #[cold]
    fn take_returned(&mut self, reference: MessageRef) -> Next<'_> {
        if self.chunk(reference.chunk).is_some_and(|chunk| chunk.contents.is_none()) {
            return Next::Absent;
        }
        self.returned.remove(&reference.position);
        self.ready_bytes -= u64::from(reference.body_bytes);
        let Some(chunk) = self.chunk(reference.chunk) else { return Next::None };
        match chunk.view(reference.position, reference.offset()) {
            Some(view) => {
                let returns = (!reference.is_fresh).then(|| chunk.returns_of(reference.position));
                Next::Message(MessageRef { is_fresh: false, ..reference }, returns, view)
            }
            None => Next::None,
        }
    }

    /// Takes the first of the messages that were not read yet, unless it has expired.
    #[inline]
    fn take_unread(&mut self, deadline: Option<Deadline>) -> Next<'_> {
        if self.unread_count == 0 {
            return Next::None;
        }
        let Some(&slot) = self.unread.front() else { return Next::None };
        let Some(chunk) = self.chunks.get(slot as usize).and_then(Option::as_ref) else { return Next::None };
        let Some(contents) = &chunk.contents else { return Next::Absent };
        let Some((message, next)) = contents.read(self.cursor.offset as usize) else { return Next::None };
        let position = chunk.first_position + u64::from(contents.number(self.cursor.index));
        if let Some(deadline) = deadline
            && deadline.is_over(position, self.level, &message)
        {
            return Next::None;
        }
        let mut reference = MessageRef::new(position, slot, self.cursor.offset, &message);
        reference.level = self.level;
        self.unread_count -= 1;
        self.ready_bytes -= u64::from(reference.body_bytes);
        self.cursor.offset = next as u32;
        self.cursor.index += 1;
        self.cursor.number = chunk.number_of(position) + 1;
        if chunk.has_gaps {
            skip_settled(&mut self.cursor, chunk, contents);
        }
        if self.cursor.index == contents.count && self.unread.len() > 1 {
            // Not given back yet: this message is alive in it.
            self.unread.pop_front();
            self.cursor =
                start_of(self.unread.front().and_then(|&slot| self.chunks.get(slot as usize)?.as_ref()));
        }
        let returns = (position < self.delivered_below).then(|| chunk.returns_of(position));
        Next::Message(reference, returns, message)
    }

    /// The message that [`take_from`](Self::take_from) would take.
    pub(crate) fn peek(&self, from: u64) -> Peeked<'_> {
        let (position, view) = if let Some(reference) = self.first_returned(from) {
            (reference.position, self.view(reference))
        } else if self.unread_count > 0 {
            let front = self.unread.front().and_then(|&slot| self.chunk(slot));
            let view = front.and_then(|chunk| chunk.contents.as_ref()?.read(self.cursor.offset as usize));
            (self.read_position(), view.map(|(view, _)| view))
        } else {
            return Peeked::None;
        };
        view.map_or(Peeked::Absent, |view| Peeked::Message(position, view))
    }

    /// Whether the message that would be taken has expired. One that is on disk alone does not say.
    pub(crate) fn is_next_expired(&self, from: u64, deadline: Deadline) -> bool {
        match self.peek(from) {
            Peeked::Message(position, view) => deadline.is_over(position, self.level, &view),
            Peeked::Absent | Peeked::None => false,
        }
    }

    /// Whether the message that would be taken, which is on disk, may be one that expires.
    pub(crate) fn may_next_expire(&self, from: u64) -> bool {
        self.next_chunk_from(from).is_some_and(|chunk| chunk.expires)
    }

    /// The message at `reference`, which must not be settled yet.
    pub(crate) fn view(&self, reference: MessageRef) -> Option<MessageView<'_>> {
        self.chunk(reference.chunk)?.view(reference.position, reference.offset())
    }

    /// Makes a message that was taken ready again, at its old place; `turn` is noted for whoever serves in turn.
    pub(crate) fn put_back(&mut self, reference: MessageRef, turn: u64) {
        self.ready_bytes += u64::from(reference.body_bytes);
        self.returned.insert(reference.position, Returned { reference, turn });
    }

    /// Counts that a message that was taken comes back; how often it did by now.
    pub(crate) fn count_return(&mut self, reference: MessageRef, failed: bool) -> Returns {
        let position = reference.position;
        let was_delivered = position < self.delivered_below;
        let Some(chunk) = self.chunk_mut(reference.chunk) else { return Returns::default() };
        if was_delivered {
            // It may have been handed out before the restart as well.
            chunk.restore_returns(position, chunk.returns_of(position));
        }
        chunk.count_return(position, failed)
    }

    /// The message at `position`, if it was brought back with this turn and still waits.
    pub(crate) fn returned_at(&self, position: u64, turn: u64) -> Option<MessageRef> {
        let returned = self.returned.get(&position).filter(|returned| returned.turn == turn)?;
        Some(returned.reference)
    }

    /// Lets go of a message that was taken.
    pub(crate) fn settle(&mut self, reference: MessageRef) {
        let durable = self.durable;
        if self.ids.is_some() {
            self.release_id(reference.position);
        }
        let Some(Some(chunk)) = self.chunks.get_mut(reference.chunk as usize) else { return };
        chunk.live = chunk.live.saturating_sub(1);
        chunk.expected = chunk.expected.saturating_sub(1);
        chunk.body_bytes = chunk.body_bytes.saturating_sub(u64::from(reference.body_bytes));
        let number = chunk.number_of(reference.position);
        if durable {
            chunk.settled.insert(number);
            if let Some(block) = &mut chunk.block {
                block.changed = true;
            }
        }
        let has_moved = chunk.has_moved;
        let contents = chunk.contents.as_mut().and_then(Arc::get_mut);
        let freed = contents.map_or(0, |contents| {
            let offset = if has_moved { contents.find(number).1 } else { reference.offset() };
            contents.release(offset)
        });
        let dead = chunk.live == 0;
        self.count_freed(freed);
        if dead {
            self.reclaim(reference.chunk);
        }
    }

    /// Lets go of all ready messages; how many there were, and where they were.
    pub(crate) fn purge(&mut self) -> (usize, Vec<Range<u64>>) {
        let ready = self.ready();
        let mut positions: Vec<_> = self.returned.keys().map(|&position| position..position + 1).collect();
        for returned in std::mem::take(&mut self.returned).into_values() {
            self.settle(returned.reference);
        }
        if self.unread_count > 0 {
            let unread = self.read_position()..self.next_position;
            self.ids.iter_mut().for_each(|ids| ids.release_all(unread.clone()));
            positions.push(unread);
        }
        self.unread_count = 0;
        self.ready_bytes = 0;
        let mut from = self.cursor;
        for slot in std::mem::take(&mut self.unread) {
            self.purge_chunk(slot, std::mem::take(&mut from));
        }
        self.cursor = Cursor::default();
        (ready, positions)
    }

    /// Settles what lies in a chunk behind `from`. The chunk is not in `unread` any more.
    fn purge_chunk(&mut self, slot: u32, from: Cursor) {
        let durable = self.durable;
        let Some(chunk) = self.chunk_mut(slot) else { return };
        let purged = chunk.settled.missing(from.number, chunk.span);
        let purged = if durable { purged } else { chunk.span.saturating_sub(from.number) as usize };
        chunk.live = chunk.live.saturating_sub(purged as u32);
        if chunk.live > 0 && durable {
            (from.number..chunk.span)
                .filter(|&number| !chunk.settled.contains(number))
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|number| chunk.settled.insert(number));
            if let Some(block) = &mut chunk.block {
                block.changed = true;
            }
            match chunk.contents.clone() {
                Some(contents) => chunk.body_bytes = chunk.counted_body_bytes(&contents),
                None => chunk.is_purged_unseen = true,
            }
        }
        let contents = chunk.contents.as_mut().filter(|_| chunk.live > 0).and_then(Arc::get_mut);
        let freed = contents.map_or(0, |contents| contents.release_from(from.offset as usize));
        let dead = chunk.live == 0;
        self.count_freed(freed);
        if dead {
            self.free_chunk(slot);
        }
    }

    /// Lets go of everything, of what is handed out as well.
    pub(crate) fn forget(&mut self) {
        self.ids.iter_mut().for_each(|ids| ids.release_all(0..u64::MAX));
        self.unread.clear();
        self.returned.clear();
        self.unread_count = 0;
        self.ready_bytes = 0;
        for slot in 0..self.chunks.len() {
            self.free_chunk(slot as u32);
        }
        self.cursor = Cursor::default();
    }

    /// Contents with the batch in them: a small batch gets room behind it for the next ones.
    fn contents_for(&self, batch: &mut MessageBatch) -> Contents {
        if batch.has_large_bodies() || batch.record_bytes() >= CHUNK_BYTES / 4 {
            return Contents::take(batch);
        }
        let tail = self.unread.back().and_then(|&slot| self.chunk(slot));
        let doubled = tail.map_or(0, |tail| tail.memory_bytes() * 2);
        let capacity = doubled.clamp(FIRST_CHUNK_BYTES, CHUNK_BYTES).max(batch.record_bytes());
        let mut contents = Contents::with_capacity(capacity);
        contents.append(batch);
        contents
    }

    fn add_chunk(&mut self, chunk: Chunk) -> u32 {
        let bytes = chunk.memory_bytes();
        self.memory_bytes += bytes;
        if self.gauge.add(bytes) {
            self.store.request_page_out();
        }
        self.absent += usize::from(chunk.contents.is_none());
        let slot = if let Some(slot) = self.free.pop() {
            self.chunks[slot as usize] = Some(chunk);
            slot
        } else {
            self.chunks.push(Some(chunk));
            (self.chunks.len() - 1) as u32
        };
        self.unread.push_back(slot);
        // The tail may have been read to its end while it was the only chunk.
        if self.front_is_read() {
            self.next_chunk();
        }
        if self.unread.len() == 1 {
            self.cursor = start_of(self.chunk(slot));
        }
        slot
    }

    fn front_is_read(&self) -> bool {
        let front = self.unread.front().and_then(|&slot| self.chunk(slot));
        self.unread.len() > 1 && front.is_some_and(|chunk| self.cursor.number >= chunk.span)
    }

    /// Moves reading to the next chunk.
    fn next_chunk(&mut self) {
        let finished = self.unread.pop_front();
        self.cursor = start_of(self.unread.front().and_then(|&slot| self.chunk(slot)));
        if let Some(slot) = finished {
            self.reclaim(slot);
        }
    }

    /// Gives a chunk back if nothing in it is alive and nothing more will be written to it. The chunk
    /// being written starts anew when all its messages are gone.
    fn reclaim(&mut self, slot: u32) {
        let Some(chunk) = self.chunk_mut(slot) else { return };
        if chunk.live > 0 {
            return;
        }
        if self.unread.back() != Some(&slot) {
            // INVARIANT: it is not in `unread`, whose other chunks all hold messages not yet read.
            return self.free_chunk(slot);
        }
        if self.unread.len() > 1 || self.unread_count > 0 {
            return;
        }
        let next_position = self.next_position;
        let Some(chunk) = self.chunk_mut(slot) else { return };
        let is_plain = chunk.block.is_none() && !chunk.is_busy && !chunk.has_gaps;
        let is_kept = is_plain && chunk.memory_bytes() <= FIRST_CHUNK_BYTES;
        match chunk.contents.as_mut().and_then(Arc::get_mut) {
            Some(contents) if is_kept => {
                contents.clear();
                chunk.first_position = next_position;
                (chunk.span, chunk.persistent, chunk.body_bytes) = (0, 0, 0);
                chunk.expires = false;
                chunk.needs_journal = None;
                chunk.settled = Settled::default();
                chunk.returns.clear();
                chunk.has_moved = false;
            }
            _ => {
                self.unread.clear();
                self.free_chunk(slot);
            }
        }
        self.cursor = Cursor::default();
    }

    fn free_chunk(&mut self, slot: u32) {
        if let Some(chunk) = self.chunks.get_mut(slot as usize).and_then(Option::take) {
            self.count_freed(chunk.memory_bytes());
            self.absent -= usize::from(chunk.contents.is_none());
            self.estimates -= usize::from(chunk.is_estimate);
            self.free.push(slot);
            if let Some(ChunkBlock { location, durable, .. }) = chunk.block {
                if durable {
                    self.store.forget_block(self.queue, chunk.first_position);
                }
                self.store.free_block(location);
            }
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

/// What leaves memory, and what comes back.
impl Messages {
    /// Chunks that should be brought into memory: those of `dying` messages, what is delivered next, some behind it.
    pub(crate) fn wanted(&self, dying: impl Iterator<Item = MessageRef>) -> Vec<Incoming> {
        if self.absent == 0 {
            return Vec::new();
        }
        let returned = self.returned.values().map(|returned| returned.reference);
        let returned = dying.chain(returned).map(|reference| reference.chunk).take(RETURNED_AHEAD);
        let mut wanted: Vec<Incoming> = Vec::new();
        let mut bytes = 0;
        for slot in returned.chain(self.unread.iter().copied()) {
            if bytes >= READ_AHEAD_BYTES {
                break;
            }
            let Some(chunk) = self.chunk(slot) else { continue };
            if wanted.iter().any(|incoming| incoming.slot == slot) {
                continue;
            }
            bytes += chunk.memory_bytes();
            if let (None, Some(block)) = (&chunk.contents, &chunk.block) {
                bytes += block.location.length as usize;
                wanted.push(Incoming {
                    slot,
                    queue: self.queue,
                    level: self.level,
                    first_position: chunk.first_position,
                    location: block.location,
                });
            }
        }
        wanted
    }

    /// A message that was taken is needed soon: its chunk is kept in memory, and awaited if it is not there.
    pub(crate) fn expect(&mut self, reference: MessageRef) {
        let Some(chunk) = self.chunk_mut(reference.chunk) else { return };
        chunk.expected = chunk.expected.saturating_add(1);
        if chunk.contents.is_none() && self.awaited.len() < AWAITED_MAX {
            self.await_chunk(reference);
        }
    }

    /// Whether the chunk of a message that was taken is not in memory.
    pub(crate) fn is_absent(&self, reference: MessageRef) -> bool {
        self.chunk(reference.chunk).is_some_and(|chunk| chunk.contents.is_none())
    }

    /// Has the chunk of a message brought into memory.
    pub(crate) fn await_chunk(&mut self, reference: MessageRef) {
        if !self.awaited.contains(&reference.chunk) {
            self.awaited.push(reference.chunk);
        }
    }

    /// Where the oldest ready message at or behind `from` lies, before which all were read; its chunk is awaited if
    /// that is not in memory.
    pub(crate) fn next_from(&mut self, from: u64) -> Option<u64> {
        let returned = self.first_returned(from).map(|reference| (reference.position, reference.chunk));
        let unread = || {
            let slot = self.unread.front().filter(|_| self.unread_count > 0)?;
            Some((self.read_position(), *slot))
        };
        let (position, slot) = returned.or_else(unread)?;
        let is_absent = self.chunk(slot).is_some_and(|chunk| chunk.contents.is_none());
        if is_absent && !self.awaited.contains(&slot) {
            self.awaited.push(slot);
        }
        Some(position)
    }

    /// Whether a chunk is awaited that nobody brings yet.
    pub(crate) fn has_awaited(&self) -> bool {
        !self.awaited.is_empty()
    }

    /// The chunks that are awaited, for whoever brings them.
    pub(crate) fn take_awaited(&mut self) -> Vec<Incoming> {
        let awaited = std::mem::take(&mut self.awaited);
        awaited.into_iter().filter_map(|slot| self.incoming(slot)).collect()
    }

    /// The chunks that hold messages not read yet.
    pub(crate) fn unread_chunks(&self) -> Vec<UnreadChunk> {
        let chunks = self.unread.iter().filter_map(|&slot| Some((slot, self.chunk(slot)?)));
        let unread = chunks.map(|(slot, chunk)| UnreadChunk {
            level: self.level,
            first_position: chunk.first_position,
            incoming: self.incoming(slot),
            contents: chunk.contents.clone(),
            settled: chunk.settled.clone(),
        });
        unread.collect()
    }

    fn incoming(&self, slot: u32) -> Option<Incoming> {
        let chunk = self.chunk(slot).filter(|chunk| chunk.contents.is_none())?;
        let location = chunk.block.as_ref()?.location;
        let (queue, level) = (self.queue, self.level);
        Some(Incoming { slot, queue, level, first_position: chunk.first_position, location })
    }

    /// Whether chunks should be asked for now: the next one is missing, or what is ahead of it runs short.
    pub(crate) fn is_short(&self) -> bool {
        if self.absent == 0 || self.ready() == 0 {
            return false;
        }
        let returned = self.first_returned(0).and_then(|reference| self.chunk(reference.chunk));
        if returned.is_some_and(|chunk| chunk.contents.is_none()) {
            return true;
        }
        let mut bytes = 0;
        for &slot in &self.unread {
            let Some(chunk) = self.chunk(slot) else { continue };
            if chunk.contents.is_none() {
                return true;
            }
            bytes += chunk.memory_bytes();
            if bytes >= READ_AHEAD_BYTES / 2 {
                return false;
            }
        }
        false
    }

    /// Brings a chunk back, unless it has gone elsewhere meanwhile.
    pub(crate) fn install(&mut self, incoming: Incoming, contents: Contents) {
        let is_front = self.unread.front() == Some(&incoming.slot);
        let cursor = &mut self.cursor;
        let Some(Some(chunk)) = self.chunks.get_mut(incoming.slot as usize) else { return };
        let is_same = chunk.first_position == incoming.first_position
            && chunk.block.as_ref().is_some_and(|block| block.location == incoming.location);
        if !is_same || chunk.contents.is_some() {
            return;
        }
        if is_front {
            let (index, offset) = contents.find(cursor.number);
            *cursor = Cursor { offset: offset as u32, index, number: cursor.number };
            if chunk.has_gaps {
                skip_settled(cursor, chunk, &contents);
            }
        }
        if chunk.is_estimate {
            let counted = chunk.counted_body_bytes(&contents);
            self.ready_bytes = self.ready_bytes.saturating_add(counted).saturating_sub(chunk.body_bytes);
            (chunk.body_bytes, chunk.is_estimate) = (counted, false);
            self.estimates -= 1;
        }
        let bytes = contents.memory_bytes();
        chunk.contents = Some(Arc::new(contents));
        self.absent -= 1;
        self.memory_bytes += bytes;
        if self.gauge.add(bytes) {
            self.store.request_page_out();
        }
    }

    /// Whether it is not known for sure how many octets are ready.
    pub(crate) fn has_estimates(&self) -> bool {
        self.estimates > 0
    }

    /// A chunk whose octets are to be counted.
    pub(crate) fn next_estimate(&self) -> Option<Incoming> {
        let is_estimate = |slot: &u32| self.chunk(*slot).is_some_and(|chunk| chunk.is_estimate);
        let slot = (0..self.chunks.len() as u32).filter(|_| self.estimates > 0).find(is_estimate)?;
        self.incoming(slot)
    }

    /// Counts the octets of a chunk that stays where it is.
    pub(crate) fn count_octets(&mut self, counted: Incoming, contents: &Contents) {
        if !self.is_wanted(counted) {
            return;
        }
        let Some(chunk) = self.chunk_mut(counted.slot).filter(|chunk| chunk.is_estimate) else { return };
        let (known, body_bytes) = (chunk.body_bytes, chunk.counted_body_bytes(contents));
        (chunk.body_bytes, chunk.is_estimate) = (body_bytes, false);
        self.estimates -= 1;
        self.ready_bytes = self.ready_bytes.saturating_add(body_bytes).saturating_sub(known);
    }

    /// Whether a chunk is still to be brought back.
    pub(crate) fn is_wanted(&self, incoming: Incoming) -> bool {
        let chunk = self.chunk(incoming.slot).filter(|chunk| chunk.first_position == incoming.first_position);
        let block = chunk.filter(|chunk| chunk.contents.is_none()).and_then(|chunk| chunk.block.as_ref());
        block.is_some_and(|block| block.location == incoming.location)
    }

    /// Lets chunks leave memory that lie on disk already, and names those to be written first, up to `left` octets,
    /// of which it takes them off.
    pub(crate) fn page_out(&mut self, which: PageOut, left: &mut usize) -> Vec<Outgoing> {
        let mut outgoing = Vec::new();
        if *left == 0 {
            return outgoing;
        }
        let (queue, level) = (self.queue, self.level);
        for slot in self.leavable(which) {
            if *left == 0 {
                break;
            }
            let durable_queue = self.durable;
            let Some(chunk) = self.chunk_mut(slot) else { continue };
            let size = chunk.memory_bytes();
            *left = left.saturating_sub(size.max(1));
            if chunk.is_written() {
                self.drop_contents(slot);
            } else {
                outgoing.extend(outgoing_of((queue, level), slot, chunk, durable_queue));
            }
        }
        outgoing
    }

    /// Slots whose chunks may leave memory, those that are needed last first.
    fn leavable(&self, which: PageOut) -> Vec<u32> {
        let mut keep = Vec::new();
        let mut bytes = 0;
        for &slot in &self.unread {
            let kept = match which {
                PageOut::Far => keep.is_empty() || bytes < READ_AHEAD_BYTES,
                PageOut::Near => keep.is_empty(),
                PageOut::All => false,
            };
            if !kept {
                break;
            }
            keep.push(slot);
            bytes += self.chunk(slot).map_or(0, Chunk::memory_bytes);
        }
        if which == PageOut::Far {
            keep.extend(self.unread.back());
        }
        let is_unread =
            |slot: &u32| self.chunk(*slot).is_some_and(|chunk| chunk.first_position >= self.read_position());
        let read = (0..self.chunks.len() as u32).filter(|slot| !is_unread(slot) && !keep.contains(slot));
        let unread = self.unread.iter().rev().copied();
        let may_leave = |slot: &u32| {
            let chunk = self.chunk(*slot);
            chunk.is_some_and(|chunk| {
                chunk.contents.is_some() && !chunk.is_busy && chunk.live > 0 && chunk.expected == 0
            })
        };
        let mut slots: Vec<_> =
            read.chain(unread.filter(|slot| !keep.contains(slot))).filter(may_leave).collect();
        slots.dedup();
        slots
    }

    /// Chunks that still need the journal below `position`, to be written as blocks.
    pub(crate) fn leave_journal(&mut self, position: JournalPosition) -> Vec<Outgoing> {
        let (durable, id) = (self.durable, (self.queue, self.level));
        let is_due =
            |chunk: &Chunk| !chunk.is_busy && chunk.needs_journal.is_some_and(|needs| needs < position);
        let chunks =
            (0_u32..).zip(&mut self.chunks).filter_map(|(slot, chunk)| Some((slot, chunk.as_mut()?)));
        chunks
            .filter(|(_, chunk)| is_due(chunk))
            .filter_map(|(slot, chunk)| outgoing_of(id, slot, chunk, durable))
            .collect()
    }

    /// The oldest position of the journal that a chunk still needs.
    pub(crate) fn needs_journal_from(&self) -> Option<JournalPosition> {
        self.chunks.iter().flatten().filter_map(|chunk| chunk.needs_journal).min()
    }

    /// Notes where an outgoing chunk was written, or that it could not be. With `leave` it leaves memory.
    pub(crate) fn written(&mut self, outgoing: Outgoing, location: Option<BlockLocation>, leave: bool) {
        let slot = outgoing.slot;
        let found = self.chunks.get_mut(slot as usize).and_then(Option::as_mut);
        let same = found.filter(|chunk| chunk.is_busy && chunk.first_position == outgoing.first_position);
        let Some(chunk) = same else {
            // All of it was settled meanwhile.
            return location.into_iter().for_each(|location| self.store.free_block(location));
        };
        chunk.is_busy = false;
        let Some(location) = location else { return };
        let before = chunk.place(location, outgoing.durable, &outgoing.contents);
        before.into_iter().for_each(|before| self.store.free_block(before));
        drop(outgoing);
        if leave {
            self.drop_contents(slot);
        }
    }

    /// Begins to write the block at `location` again, if a chunk still has it.
    pub(crate) fn begin_rewrite(&mut self, first_position: u64, location: BlockLocation) -> Option<Rewrite> {
        let mut chunks =
            (0_u32..).zip(&mut self.chunks).filter_map(|(slot, chunk)| Some((slot, chunk.as_mut()?)));
        let (slot, chunk) = chunks.find(|(_, chunk)| {
            let is_there = chunk.block.as_ref().is_some_and(|block| block.location == location);
            is_there && chunk.first_position == first_position && !chunk.is_busy
        })?;
        let block = chunk.block.as_ref()?;
        let (covers, durable) = (block.covers, block.durable);
        // What has grown since it was written is written again from memory as a whole, by itself.
        let contents = if covers == chunk.span { chunk.contents.clone() } else { None };
        chunk.is_busy = true;
        let settled = self.durable.then(|| chunk.settled.clone());
        let (queue, level) = (self.queue, self.level);
        Some(Rewrite { slot, queue, level, first_position, covers, durable, contents, settled })
    }

    /// Notes where the block lies now, or that it could not be written.
    pub(crate) fn end_rewrite(&mut self, rewrite: &Rewrite, location: Option<BlockLocation>) {
        let found = self.chunks.get_mut(rewrite.slot as usize).and_then(Option::as_mut);
        let same = found.filter(|chunk| chunk.is_busy && chunk.first_position == rewrite.first_position);
        let Some(chunk) = same else {
            return location.into_iter().for_each(|location| self.store.free_block(location));
        };
        chunk.is_busy = false;
        if let (Some(location), Some(block)) = (location, chunk.block.as_mut()) {
            let before = std::mem::replace(&mut block.location, location);
            block.changed = true;
            chunk.has_moved = true;
            self.store.free_block(before);
        }
    }

    fn drop_contents(&mut self, slot: u32) {
        let Some(chunk) = self.chunk_mut(slot) else { return };
        let bytes = chunk.memory_bytes();
        if chunk.contents.take().is_some() {
            self.absent += 1;
            self.count_freed(bytes);
        }
    }

    /// What the store does not know yet of durable blocks.
    pub(crate) fn changed_blocks(&mut self, states: &mut Vec<BlockState>) {
        let queue = self.queue;
        states.extend(self.chunks.iter_mut().flatten().filter_map(|chunk| chunk.changed_state(queue)));
    }
}

/// Marks a chunk as being written.
fn outgoing_of(
    (queue, level): (QueueId, u8),
    slot: u32,
    chunk: &mut Chunk,
    durable_queue: bool,
) -> Option<Outgoing> {
    let contents = Arc::clone(chunk.contents.as_ref()?);
    chunk.is_busy = true;
    let durable = durable_queue && chunk.persistent > 0;
    Some(Outgoing {
        slot,
        queue,
        level,
        first_position: chunk.first_position,
        span: chunk.span,
        durable,
        contents,
    })
}

/// The cursor before the first message of a chunk that is not settled.
fn start_of(chunk: Option<&Chunk>) -> Cursor {
    let mut cursor = Cursor::default();
    if let Some(chunk) = chunk
        && let (true, Some(contents)) = (chunk.has_gaps, &chunk.contents)
    {
        skip_settled(&mut cursor, chunk, contents);
    }
    cursor
}

/// Moves the cursor on to the next message that is not settled, or to the end.
fn skip_settled(cursor: &mut Cursor, chunk: &Chunk, contents: &Contents) {
    while cursor.index < contents.count {
        let number = contents.number(cursor.index);
        cursor.number = number;
        if !chunk.settled.contains(number) {
            return;
        }
        let Some(end) = contents.end_of(cursor.offset as usize) else { break };
        cursor.offset = end as u32;
        cursor.index += 1;
    }
    cursor.index = contents.count;
    cursor.number = chunk.span;
}

impl Drop for Messages {
    fn drop(&mut self) {
        self.gauge.subtract(self.memory_bytes);
    }
}
