//! A chunk: messages of one queue with neighbouring positions, in memory, in a block on disk, or both. What is
//! settled of it is known without its contents, so that a chunk on disk takes no memory per message.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::quorum::Returns;
use crate::message::{Contents, MessageBatch, MessageView};
use crate::names::QueueId;
use crate::store::{BlockLocation, BlockState, JournalPosition};

/// Which messages of a chunk are settled, by number in the chunk. Most queues are settled from the front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settled {
    /// All below this number are.
    prefix: u32,
    /// A bit for each number, from the first on; empty while the prefix says all.
    bits: Vec<u64>,
}

impl Settled {
    pub(crate) fn from_bitmap(octets: &[u8]) -> Self {
        let word = |chunk: &[u8]| {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(octet, &set)| *octet = set);
            u64::from_le_bytes(word)
        };
        Self { prefix: 0, bits: octets.chunks(8).map(word).collect() }
    }

    /// One bit for each number, from the first on, lowest bit first.
    pub(crate) fn to_bitmap(&self) -> Vec<u8> {
        let mut all = self.clone();
        if self.prefix > 0 {
            all.bits.resize(all.bits.len().max(self.prefix.div_ceil(64) as usize), 0);
            (0..self.prefix).for_each(|number| all.set_bit(number));
        }
        all.bits.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Adds a number.
    #[inline]
    pub(crate) fn insert(&mut self, number: u32) {
        if number == self.prefix && self.bits.is_empty() {
            self.prefix += 1;
        } else {
            self.set_bit(number);
        }
    }

    fn set_bit(&mut self, number: u32) {
        let word = number as usize / 64;
        if word >= self.bits.len() {
            self.bits.resize(word + 1, 0);
        }
        self.bits[word] |= 1 << (number % 64);
    }

    #[inline]
    pub(crate) fn contains(&self, number: u32) -> bool {
        let word = self.bits.get(number as usize / 64).copied().unwrap_or_default();
        number < self.prefix || word >> (number % 64) & 1 == 1
    }

    /// How many of the numbers below `end`, from `start` on, are not settled.
    pub(crate) fn missing(&self, start: u32, end: u32) -> usize {
        if self.bits.is_empty() {
            return end.saturating_sub(start.max(self.prefix)) as usize;
        }
        (start..end).filter(|&number| !self.contains(number)).count()
    }
}

/// Where a chunk lies on disk.
#[derive(Debug)]
pub(crate) struct ChunkBlock {
    pub(crate) location: BlockLocation,
    /// Whether a restart finds it again.
    pub(crate) durable: bool,
    /// How many positions it covers: fewer than the chunk does if that grew since.
    pub(crate) covers: u32,
    /// The store does not know yet where it lies, or what of it is settled.
    pub(crate) changed: bool,
    /// Messages that a restart does not find again, if the block has such beside others.
    transient: Option<Settled>,
}

/// What a batch adds to the totals of its chunk.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BatchTotals {
    persistent: u32,
    body_bytes: u64,
    expires: bool,
}

impl From<&MessageBatch> for BatchTotals {
    fn from(batch: &MessageBatch) -> Self {
        let (persistent, body_bytes) = (batch.persistent() as u32, batch.body_bytes());
        Self { persistent, body_bytes, expires: batch.expires() }
    }
}

/// Messages with neighbouring positions.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) first_position: u64,
    /// Positions that the chunk covers.
    pub(crate) span: u32,
    /// Messages in it that are ready or unacked.
    pub(crate) live: u32,
    /// Messages in it that were published persistent, settled ones included.
    pub(crate) persistent: u32,
    /// Octets of the bodies of those in it that are ready or unacked.
    pub(crate) body_bytes: u64,
    /// That may be wrong, as after a restart that found more of it settled: right once its contents were seen.
    pub(crate) is_estimate: bool,
    /// Ready messages of it were purged while it was on disk alone: the octets of the others are not known.
    pub(crate) is_purged_unseen: bool,
    /// Some message in it expires.
    pub(crate) expires: bool,
    /// The messages, while they are in memory. Shared with whoever writes them to the disk; they grow only
    /// while nobody does.
    pub(crate) contents: Option<Arc<Contents>>,
    pub(crate) block: Option<ChunkBlock>,
    /// The oldest place of the journal that holds a message of it which no durable block holds.
    pub(crate) needs_journal: Option<JournalPosition>,
    /// Kept by durable queues alone.
    pub(crate) settled: Settled,
    /// How often messages came back, by number; kept by quorum queues alone, until the chunk goes.
    pub(crate) returns: BTreeMap<u32, Returns>,
    /// Messages that were not read yet may be settled, as after a restart.
    pub(crate) has_gaps: bool,
    /// Its records lie elsewhere in its contents than when they were handed out.
    pub(crate) has_moved: bool,
    /// Somebody writes it to the disk, or reads it.
    pub(crate) is_busy: bool,
    /// Messages in it that were taken and are needed soon: it stays in memory.
    pub(crate) expected: u32,
}

impl Chunk {
    pub(crate) fn new(first_position: u64, contents: Contents, batch: BatchTotals) -> Self {
        Self {
            first_position,
            span: contents.count,
            live: contents.count,
            persistent: batch.persistent,
            body_bytes: batch.body_bytes,
            is_estimate: false,
            is_purged_unseen: false,
            expires: batch.expires,
            contents: Some(Arc::new(contents)),
            block: None,
            needs_journal: None,
            settled: Settled::default(),
            returns: BTreeMap::new(),
            has_gaps: false,
            has_moved: false,
            is_busy: false,
            expected: 0,
        }
    }

    /// A chunk that a restart found on disk.
    pub(crate) fn on_disk(block: &BlockState, settled: Settled, changed: bool) -> Self {
        let live = settled.missing(0, block.count) as u32;
        let known = Settled::from_bitmap(&block.settled).missing(0, block.count) as u32;
        let body_bytes = block.body_bytes * u64::from(live) / u64::from(known.max(1));
        Self {
            first_position: block.first_position,
            span: block.count,
            live,
            persistent: live,
            body_bytes,
            is_estimate: block.is_estimate || live < known,
            is_purged_unseen: false,
            expires: block.expires,
            contents: None,
            block: Some(ChunkBlock {
                location: block.location,
                durable: true,
                covers: block.count,
                changed,
                transient: None,
            }),
            needs_journal: None,
            has_gaps: live < block.count,
            settled,
            returns: block.returns.iter().copied().collect(),
            has_moved: false,
            is_busy: false,
            expected: 0,
        }
    }

    /// A chunk that a restart put together from what the journal held; `missing` are the numbers that are not
    /// there.
    pub(crate) fn from_journal(
        first_position: u64,
        span: u32,
        contents: Contents,
        batch: BatchTotals,
        missing: Settled,
        begins_at: JournalPosition,
    ) -> Self {
        let has_gaps = contents.count < span;
        let needs_journal = Some(begins_at);
        Self { span, needs_journal, settled: missing, has_gaps, ..Self::new(first_position, contents, batch) }
    }

    /// Octets of memory its messages hold now.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.contents.as_ref().map_or(0, |contents| contents.memory_bytes())
    }

    /// Number in the chunk of the message at `position`.
    pub(crate) fn number_of(&self, position: u64) -> u32 {
        position.saturating_sub(self.first_position) as u32
    }

    /// The message at `position`, whose record lay at `offset` when it was handed out.
    pub(crate) fn view(&self, position: u64, offset: usize) -> Option<MessageView<'_>> {
        let contents = self.contents.as_ref()?;
        let offset = if self.has_moved { contents.find(self.number_of(position)).1 } else { offset };
        Some(contents.read(offset)?.0)
    }

    /// How often the message at `position` came back, which was handed out at least once.
    #[cold]
    pub(crate) fn returns_of(&self, position: u64) -> Returns {
        let known = self.returns.get(&self.number_of(position)).copied().unwrap_or_default();
        Returns { acquired: known.acquired.max(1), ..known }
    }

    /// Counts that the message at `position` comes back; how often it did by now.
    pub(crate) fn count_return(&mut self, position: u64, failed: bool) -> Returns {
        let returns = self.returns.entry(self.number_of(position)).or_default();
        returns.acquired = returns.acquired.saturating_add(1);
        returns.failed = returns.failed.saturating_add(u32::from(failed));
        if let Some(block) = &mut self.block {
            block.changed = true;
        }
        *returns
    }

    /// Takes over how often the message at `position` came back, as the journal has it.
    pub(crate) fn restore_returns(&mut self, position: u64, returns: Returns) {
        let number = self.number_of(position);
        if !self.settled.contains(number) && self.returns.get(&number) != Some(&returns) {
            self.returns.insert(number, returns);
            if let Some(block) = &mut self.block {
                block.changed = true;
            }
        }
    }

    /// Counts a batch that was appended to it.
    pub(crate) fn add_totals(&mut self, batch: BatchTotals) {
        self.persistent += batch.persistent;
        self.body_bytes += batch.body_bytes;
        self.expires |= batch.expires;
    }

    /// Octets of the bodies of its messages that are not settled, counted from its contents.
    pub(crate) fn counted_body_bytes(&self, contents: &Contents) -> u64 {
        let left = contents.iter().filter(|(number, _)| !self.settled.contains(*number));
        left.map(|(_, view)| view.body.len() as u64).sum()
    }

    /// Whether all of it lies on disk.
    pub(crate) fn is_written(&self) -> bool {
        self.block.as_ref().is_some_and(|block| block.covers == self.span)
    }

    /// Notes where all of it lies on disk; where it lay before, if it did.
    pub(crate) fn place(
        &mut self,
        location: BlockLocation,
        durable: bool,
        contents: &Contents,
    ) -> Option<BlockLocation> {
        let transient = (durable && self.persistent < contents.count).then(|| {
            let mut transient = Settled::default();
            let views = contents.iter().filter(|(_, view)| !view.persistent);
            views.for_each(|(number, _)| transient.insert(number));
            transient
        });
        let block = ChunkBlock { location, durable, covers: self.span, changed: durable, transient };
        if durable {
            self.needs_journal = None;
        }
        self.block.replace(block).map(|before| before.location)
    }

    /// What the store is to know of its block, if that has changed.
    pub(crate) fn changed_state(&mut self, queue: QueueId) -> Option<BlockState> {
        let block = self.block.as_mut().filter(|block| block.durable && block.changed)?;
        block.changed = false;
        let mut settled = self.settled.clone();
        let is_unsure = self.is_estimate || self.is_purged_unseen;
        let is_estimate = is_unsure || block.transient.is_some() || block.covers < self.span;
        if let Some(transient) = &block.transient {
            (0..block.covers)
                .filter(|&number| transient.contains(number))
                .for_each(|number| settled.set_bit(number));
        }
        let of_block = self.returns.range(..block.covers);
        let of_block = of_block.filter(|(number, _)| !self.settled.contains(**number));
        let returns = of_block.map(|(&number, &returns)| (number, returns)).collect();
        Some(BlockState {
            queue,
            first_position: self.first_position,
            count: block.covers,
            location: block.location,
            settled: settled.to_bitmap(),
            live: self.live,
            body_bytes: self.body_bytes,
            is_estimate,
            expires: self.expires,
            returns,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_settled_in_any_order_is_known() {
        for order in [[0_u32, 1, 2, 70], [70, 2, 1, 0], [1, 0, 70, 2]] {
            let mut settled = Settled::default();
            order.iter().for_each(|&number| settled.insert(number));
            let known: Vec<_> = (0..130).filter(|&number| settled.contains(number)).collect();
            assert_eq!(known, [0, 1, 2, 70]);
            assert_eq!(settled.missing(0, 71), 67);
            assert_eq!(settled.missing(2, 4), 1);
            let again = Settled::from_bitmap(&settled.to_bitmap());
            assert!((0..200).all(|number| again.contains(number) == settled.contains(number)));
        }
    }
}
