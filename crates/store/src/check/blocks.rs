//! The blocks: each that the catalog knows is there, is the one it should be, and all of its messages read. Where the
//! catalog is lost, the blocks that a start would find.

use std::collections::BTreeSet;
use std::io;

use leveret_broker::message::{StoredMessage, verify_stored};
use leveret_broker::names::QueueId;
use leveret_broker::store::BlockError;

use super::{Check, CheckError, Stage};
use crate::entries::{BlockEntry, Contents};
use crate::ranges::Ranges;
use crate::reindex::{self, Candidate};
use crate::segments::{self, SegmentOptions};
use crate::store::Layout;
use crate::survey::Survey;

impl Check<'_> {
    /// Verifies the blocks that the catalog knows, in the order in which they lie on the disk.
    pub(super) fn blocks(
        &mut self,
        contents: &Contents,
        survey: &Survey,
        defined: &BTreeSet<QueueId>,
    ) -> Result<(), CheckError> {
        for (queue, blocks) in &contents.blocks {
            if defined.contains(queue) {
                self.overlaps(*queue, blocks);
            } else {
                let (blocks, queue) = (blocks.len(), queue.0);
                self.note(format_args!(
                    "{blocks} blocks are of queue {queue}, which is deleted: the next start forgets them"
                ));
            }
        }
        let of_queues = contents.blocks.iter().filter(|(queue, _)| defined.contains(queue));
        let mut blocks: Vec<&BlockEntry> = of_queues.flat_map(|(_, blocks)| blocks).collect();
        blocks.sort_by_key(|block| block.location);
        let nothing = Ranges::default();
        for (done, block) in blocks.iter().enumerate() {
            self.reader.stage(Stage::Blocks { done, all: blocks.len() });
            let settled = survey.queues.get(&block.queue).map_or(&nothing, |queue| &queue.settled);
            self.block(block, settled)?;
        }
        let files: BTreeSet<u64> = blocks.iter().map(|block| block.location.file).collect();
        self.say(format_args!("blocks: {} in {} files", blocks.len(), files.len()));
        Ok(())
    }

    /// A position is in one block.
    fn overlaps(&mut self, queue: QueueId, blocks: &[BlockEntry]) {
        for (one, next) in blocks.iter().zip(blocks.iter().skip(1)) {
            let end = one.first_position.saturating_add(u64::from(one.count));
            if next.first_position < end {
                let text = format!("two blocks hold message {}", next.first_position);
                self.damage_of(queue, text);
            }
        }
    }

    fn block(&mut self, block: &BlockEntry, settled: &Ranges) -> Result<(), CheckError> {
        let &BlockEntry { queue, first_position, location, count, .. } = block;
        let dir = Layout::segments(self.data_dir);
        let last = first_position.saturating_add(u64::from(count)).saturating_sub(1);
        let whose = format!("messages {first_position} to {last}");
        let (covers, payload) = match segments::read_block(self.disk, &dir, location, queue, first_position) {
            Ok(read) => read,
            Err(BlockError::Damaged(what)) => {
                self.damage_of(queue, format!("{whose}: {what}"));
                return Ok(());
            }
            Err(BlockError::Io(error)) => return Err(CheckError::Io { path: dir, error }),
        };
        if covers != count {
            self.damage_of(queue, format!("{whose}: the block is of {covers} messages"));
        }
        let Some(messages) = verify_stored(&payload) else {
            self.damage_of(queue, format!("{whose}: the messages in the block do not read"));
            return Ok(());
        };
        let is_wanted = |number: u32| {
            let octet = block.settled.get(number as usize / 8).copied().unwrap_or_default();
            let is_settled = octet >> (number % 8) & 1 == 1;
            !is_settled && !settled.contains(first_position.saturating_add(u64::from(number)))
        };
        let is_there = |message: &&StoredMessage| message.persistent && message.has_body;
        let there: BTreeSet<u32> = messages.iter().filter(is_there).map(|message| message.number).collect();
        let (found, lost): (Vec<u32>, Vec<u32>) =
            (0..count).filter(|&number| is_wanted(number)).partition(|number| there.contains(number));
        self.tallies.entry(queue).or_default().in_blocks += found.len() as u64;
        if !lost.is_empty() {
            self.damage_of(queue, format!("{whose}: {} of them are not in the block", lost.len()));
        }
        Ok(())
    }

    /// Verifies the blocks that a start finds when there is no index of them.
    pub(super) fn blocks_without_index(&mut self, survey: &Survey) -> Result<(), CheckError> {
        let dir = Layout::segments(self.data_dir);
        let failed = |error: io::Error| CheckError::Io { path: dir.clone(), error };
        let mut damage = Vec::new();
        self.reader.stage(Stage::Search);
        let (candidates, _) =
            reindex::scan_all(self.disk, &SegmentOptions::new(dir.clone()), &mut damage).map_err(failed)?;
        for text in damage {
            self.damage(format_args!("{text}"));
        }
        let candidates = reindex::chosen(candidates);
        self.say(format_args!("blocks: {} are found without the catalog", candidates.len()));
        for (done, candidate) in candidates.iter().enumerate() {
            self.reader.stage(Stage::Blocks { done, all: candidates.len() });
            self.found_block(candidate, survey).map_err(failed)?;
        }
        Ok(())
    }

    fn found_block(&mut self, candidate: &Candidate, survey: &Survey) -> io::Result<()> {
        let dir = Layout::segments(self.data_dir);
        let &Candidate { location, queue, first_position, .. } = candidate;
        let read = match segments::read_block(self.disk, &dir, location, queue, first_position) {
            Ok((_, payload)) => verify_stored(&payload).ok_or_else(|| "its messages do not read".to_owned()),
            Err(BlockError::Damaged(what)) => Err(what),
            Err(BlockError::Io(error)) => return Err(error),
        };
        match read {
            Ok(messages) => {
                let journaled = survey.queues.get(&queue).map(|queue| &queue.messages);
                let comes_back = messages.iter().filter(|message| {
                    let position = first_position.saturating_add(u64::from(message.number));
                    message.persistent
                        && message.has_body
                        && journaled.is_none_or(|journaled| !journaled.contains(position))
                });
                self.tallies.entry(queue).or_default().in_blocks += comes_back.count() as u64;
            }
            Err(_) if candidate.is_journaled(survey) => {}
            Err(what) => self.damage_of(queue, format!("messages from {first_position} on: {what}")),
        }
        Ok(())
    }
}
