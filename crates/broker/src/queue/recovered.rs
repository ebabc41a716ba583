//! What a restart finds of a queue's messages, and how the queue takes it over: blocks stay on disk, what the
//! journal alone held comes into memory. Either may hold what the other has; a position is one message.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;

use super::chunk::{BatchTotals, Chunk, Settled};
use super::messages::Messages;
use super::quorum::Returns;
use crate::limits::CHUNK_BYTES;
use crate::message::{Body, Contents, LargeBody, MessageBatch, MessageView, SharedRun};
use crate::names::QueueId;
use crate::services::Services;
use crate::store::{BlockState, JournalPosition};

/// A queue's messages after a restart.
#[derive(Clone, Debug, Default)]
pub struct RecoveredMessages {
    /// Its blocks, in any order.
    pub blocks: Vec<BlockState>,
    /// What was published to it according to the journal, in any order.
    pub runs: Vec<RecoveredRun>,
    /// What was settled according to the journal, in any order; may name what is nowhere.
    pub settled: Vec<Range<u64>>,
    /// How often messages came back according to the journal; may name what is nowhere.
    pub returns: BTreeMap<u64, Returns>,
    /// Messages below may have been handed out.
    pub delivered_below: u64,
    /// No message at or above this was ever published, as far as is known beside blocks and runs.
    pub next_position: u64,
    /// Why the queue must not be used, if it must not: something is lost for good.
    pub damage: Option<String>,
    /// Why it must not be used for as long as its blocks are not there.
    pub missing_blocks: Option<String>,
}

/// One batch as [`Store::publish`](crate::store::Store::publish) was given it.
#[derive(Clone, Debug)]
pub struct RecoveredRun {
    /// Position of its first message.
    pub first_position: u64,
    /// Where the journal holds it.
    pub begins_at: JournalPosition,
    /// Messages of its own, as [`MessageBatch::stored`] gave them.
    pub own: Bytes,
    /// Messages that were shared, in order.
    pub shared: Vec<SharedRun>,
    /// The batch that was given to [`Store::share`](crate::store::Store::share), if any were.
    pub shared_batch: Bytes,
}

impl Messages {
    /// The messages, and the position of the first one that should be there and is not.
    pub(crate) fn restored(
        queue: QueueId,
        level: u8,
        services: &Services,
        recovered: RecoveredMessages,
    ) -> (Self, Option<u64>) {
        let settled = merged(recovered.settled);
        let mut blocks = recovered.blocks;
        blocks.sort_by_key(|block| block.first_position);
        let mut runs = recovered.runs;
        runs.sort_by_key(|run| run.first_position);

        let mut builder =
            Builder { blocks: &blocks, settled: &settled, chunks: Vec::new(), open: None, missing: None };
        // A settlement that the journal holds must not meet another message at its position.
        let settled_end = settled.last().map_or(0, |range| range.end);
        let mut next_position = recovered.next_position.max(recovered.delivered_below).max(settled_end);
        for run in &runs {
            let count = builder.add_run(run);
            next_position = next_position.max(run.first_position + u64::from(count));
        }
        builder.close();
        let missing = builder.missing;
        let mut chunks = builder.chunks;
        for block in &blocks {
            next_position = next_position.max(block.first_position + u64::from(block.count));
            chunks.push(chunk_of(block, &settled));
        }
        chunks.sort_by_key(|chunk| chunk.first_position);
        let counted = restore_returns(&mut chunks, &recovered.returns);
        let mut messages = Self::new(queue, level, true, services);
        messages.restore(chunks, next_position, recovered.delivered_below.max(counted));
        (messages, missing)
    }
}

/// Gives chunks what the journal tells of messages that came back; the position behind the last one that did.
fn restore_returns(chunks: &mut [Chunk], returns: &BTreeMap<u64, Returns>) -> u64 {
    let mut counted = 0;
    for chunk in chunks {
        let end = chunk.first_position.saturating_add(u64::from(chunk.span));
        for (&position, &returns) in returns.range(chunk.first_position..end) {
            chunk.restore_returns(position, returns);
        }
        let last = chunk.returns.last_key_value();
        counted = last.map_or(counted, |(&number, _)| chunk.first_position + u64::from(number) + 1);
    }
    counted
}

/// Sorted ranges without overlap.
fn merged(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

/// The ranges from the first one on that reaches beyond `position`.
fn from(ranges: &[Range<u64>], position: u64) -> &[Range<u64>] {
    let first = ranges.partition_point(|range| range.end <= position);
    ranges.get(first..).unwrap_or_default()
}

/// The chunk of a block that stays on disk.
fn chunk_of(block: &BlockState, settled_ranges: &[Range<u64>]) -> Chunk {
    let mut settled = Settled::from_bitmap(&block.settled);
    let end = block.first_position + u64::from(block.count);
    let mut changed = false;
    for range in from(settled_ranges, block.first_position).iter().take_while(|range| range.start < end) {
        for position in range.start.max(block.first_position)..range.end.min(end) {
            settled.insert((position - block.first_position) as u32);
            changed = true;
        }
    }
    Chunk::on_disk(block, settled, changed)
}

/// Gathers messages in the order of their positions into chunks that do not reach over a block.
struct Builder<'a> {
    blocks: &'a [BlockState],
    settled: &'a [Range<u64>],
    chunks: Vec<Chunk>,
    open: Option<OpenChunk>,
    /// The first message of which the journal only knows that it was there.
    missing: Option<u64>,
}

struct OpenChunk {
    first_position: u64,
    /// How many blocks lie before it.
    blocks_before: usize,
    begins_at: JournalPosition,
    batch: MessageBatch,
    numbers: Vec<u32>,
}

/// Positions without a message that may lie in a chunk side by side.
const GAP_MAX: u64 = 4096;

impl OpenChunk {
    /// The position behind its last message.
    fn end(&self) -> u64 {
        self.numbers.last().map_or(self.first_position, |&last| self.first_position + u64::from(last) + 1)
    }
}

impl Builder<'_> {
    /// Adds what is left of a run; how many messages it had.
    fn add_run(&mut self, run: &RecoveredRun) -> u32 {
        let Some(own) = Contents::from_stored(&run.own) else {
            self.note_missing(run.first_position);
            return 0;
        };
        if run.shared.is_empty() {
            for (number, view) in own.iter() {
                self.add(run, number, &view);
            }
            return own.count;
        }
        let shared_batch = Contents::from_stored(&run.shared_batch).unwrap_or_default();
        let shared: Vec<_> = shared_batch.iter().map(|(_, view)| view).collect();
        let count = own.count + run.shared.iter().map(|shared| shared.count).sum::<u32>();
        let mut own = own.iter();
        let mut number = 0;
        for part in &run.shared {
            while number < part.first {
                own.next().into_iter().for_each(|(_, view)| self.add(run, number, &view));
                number += 1;
            }
            for index in part.shared_first..part.shared_first + part.count {
                match shared.get(index as usize) {
                    Some(view) => self.add(run, number, view),
                    None => self.note_missing(run.first_position + u64::from(number)),
                }
                number += 1;
            }
        }
        for (_, view) in own {
            self.add(run, number, &view);
            number += 1;
        }
        count
    }

    /// Nothing is missing if it lies in a block, or is settled.
    fn note_missing(&mut self, position: u64) {
        if !self.is_known(position) && self.missing.is_none_or(|missing| position < missing) {
            self.missing = Some(position);
        }
    }

    fn is_known(&self, position: u64) -> bool {
        let block = self.blocks_up_to(position).checked_sub(1).and_then(|index| self.blocks.get(index));
        let in_block = block.is_some_and(|block| position < block.first_position + u64::from(block.count));
        in_block || from(self.settled, position).first().is_some_and(|range| range.start <= position)
    }

    fn blocks_up_to(&self, position: u64) -> usize {
        self.blocks.partition_point(|block| block.first_position <= position)
    }

    fn add(&mut self, run: &RecoveredRun, number: u32, view: &MessageView<'_>) {
        let position = run.first_position + u64::from(number);
        if !view.persistent || self.is_known(position) {
            return;
        }
        let blocks_before = self.blocks_up_to(position);
        let fits = self.open.as_ref().is_some_and(|open| {
            open.blocks_before == blocks_before
                && open.batch.record_bytes() < CHUNK_BYTES / 8 * 7
                // What is missing in between costs a bit each, in memory and in the catalog.
                && position.saturating_sub(open.end()) <= GAP_MAX
                // The same message twice, or runs that overlap, can only be damage; the first one stands.
                && position - open.first_position < u64::from(u32::MAX)
        });
        if !fits {
            self.close();
        }
        let open = self.open.get_or_insert_with(|| OpenChunk {
            first_position: position,
            blocks_before,
            begins_at: run.begins_at,
            batch: MessageBatch::default(),
            numbers: Vec::new(),
        });
        let number = (position - open.first_position) as u32;
        if open.numbers.last().is_some_and(|&last| last >= number) {
            return;
        }
        open.numbers.push(number);
        open.begins_at = open.begins_at.min(run.begins_at);
        match view.body {
            Body::Small(_) => open.batch.push(view),
            Body::Large(body) => {
                // Copied, so that it does not keep the journal file in memory that it was read in.
                let body =
                    LargeBody::new(body.slices().iter().map(|slice| Bytes::copy_from_slice(slice)).collect());
                open.batch.push(&MessageView { body: Body::Large(&body), ..*view });
            }
        }
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            let span = open.numbers.last().map_or(0, |last| last + 1);
            let mut missing = Settled::default();
            let mut expected = 0;
            for &number in &open.numbers {
                (expected..number).for_each(|number| missing.insert(number));
                expected = number + 1;
            }
            let totals = BatchTotals::from(&open.batch);
            let contents = Contents::sparse(open.batch, open.numbers);
            self.chunks.push(Chunk::from_journal(
                open.first_position,
                span,
                contents,
                totals,
                missing,
                open.begins_at,
            ));
        }
    }
}
