//! When the catalog is lost: finds the blocks of all queues again by reading the files they lie in, for the new catalog
//! that is made of the snapshot. What of them was settled is not known any more, so all that is there comes back, as
//! redelivered. What the journal still holds it decides: its octets are the newer ones and it knows what was settled.
//!
//! `store` hands the snapshot's entries in, `catalog` puts the result into the new database, all of it at once. Until
//! then blocks are only added: a crash in here leaves everything as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use leveret_broker::definition::Definition;
use leveret_broker::message::{StoredMessage, part_of_stored, verify_stored};
use leveret_broker::names::QueueId;
use leveret_broker::store::{Block, BlockError, BlockLocation};

use crate::catalog::CatalogError;
use crate::disk::Disk;
use crate::entries::{self, BlockEntry, Contents, Entries, EntryList, Meta};
use crate::marks::Marks;
use crate::segments::{self, Scanned, SegmentOptions, Segments};
use crate::store::Layout;
use crate::survey::{Survey, survey};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reindexed {
    /// What came back, by queue.
    pub queues: BTreeMap<QueueId, Found>,
    /// Blocks of queues that are defined nowhere. Their files stay for as long as a file with `.keep` behind the name
    /// lies beside them.
    pub unclaimed: BTreeMap<QueueId, Found>,
    /// What could not be read, in words.
    pub damage: Vec<String>,
}

/// Blocks of one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// How many.
    pub blocks: u64,
    /// Messages in them, settled or not; without those that the journal holds too.
    pub messages: u64,
}

impl Found {
    fn add(&mut self, messages: usize) {
        self.blocks += 1;
        self.messages += messages as u64;
    }
}

/// Adds to the entries of a snapshot those of the blocks that are there.
pub(crate) fn reindex(
    disk: &Arc<dyn Disk>,
    options: &SegmentOptions,
    data_dir: &Path,
    snapshot: EntryList,
) -> Result<(EntryList, Reindexed), CatalogError> {
    let mut entries: Entries = snapshot.into_iter().collect();
    let meta = Contents::of(&entries).meta;
    let (survey, _) =
        survey(&**disk, &Layout::journal(data_dir), meta.replay_from).map_err(io::Error::other)?;
    let mut reindexed = Reindexed::default();
    let (candidates, mut keep) = scan_all(&**disk, options, &mut reindexed.damage)?;
    let highest = candidates.iter().map(|candidate| candidate.queue.0).max().unwrap_or_default();
    let queues = Queues::of(&entries, &survey);
    let mut index = Index { disk, options, survey: &survey, segments: None, entries: Vec::new() };
    for candidate in chosen(candidates) {
        let queue = candidate.queue;
        if queues.defined.contains(&queue) {
            index.add(&candidate, &mut reindexed)?;
        } else if !queues.deleted.contains(&queue) {
            keep.insert(candidate.location.file);
            reindexed.unclaimed.entry(queue).or_default().add(candidate.count as usize);
        }
    }
    let found = index.finish()?;
    for &number in &keep {
        segments::keep(&**disk, &options.dir, number)?;
    }
    mark_delivered(disk, data_dir, &found)?;
    let next_queue_id = meta.next_queue_id.max(highest.saturating_add(1));
    let meta = Meta { next_queue_id, ..meta }.put();
    entries::apply(&mut entries, found.iter().map(BlockEntry::put).chain(meta));
    Ok((entries.into_iter().collect(), reindexed))
}

/// Queues by what the snapshot and the journal say of them.
struct Queues {
    defined: BTreeSet<QueueId>,
    deleted: BTreeSet<QueueId>,
}

impl Queues {
    fn of(entries: &Entries, survey: &Survey) -> Self {
        let ids = |entries: &Entries| -> BTreeSet<QueueId> {
            let definitions = Contents::of(entries).definitions;
            definitions.iter().flat_map(Definition::queue_ids).collect()
        };
        let mut ever = ids(entries);
        let mut now = entries.clone();
        for change in &survey.changes {
            // One that takes another's name may come and go between the two.
            ever.extend(ids(&change.value.iter().map(|value| (change.key.clone(), value.clone())).collect()));
        }
        entries::apply(&mut now, survey.changes.iter().cloned());
        let defined = ids(&now);
        Self { deleted: ever.difference(&defined).copied().collect(), defined }
    }
}

/// A block that was found.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) location: BlockLocation,
    pub(crate) queue: QueueId,
    pub(crate) first_position: u64,
    count: u32,
    is_whole: bool,
}

impl Candidate {
    fn positions(&self) -> Range<u64> {
        self.first_position..self.first_position.saturating_add(u64::from(self.count))
    }

    /// Whether the journal has what was published at all of its positions: then it was never needed.
    pub(crate) fn is_journaled(&self, survey: &Survey) -> bool {
        let journaled = survey.queues.get(&self.queue);
        journaled.is_some_and(|queue| queue.published.outside(self.positions()).is_empty())
    }
}

/// All blocks of all durable files, and the files that people should look into.
pub(crate) fn scan_all(
    disk: &dyn Disk,
    options: &SegmentOptions,
    damage: &mut Vec<String>,
) -> io::Result<(Vec<Candidate>, BTreeSet<u64>)> {
    let (mut candidates, mut keep) = (Vec::new(), BTreeSet::new());
    let files = match segments::durable_files(disk, &options.dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        files => files?,
    };
    for (number, path) in files {
        // What is followed by nothing is the end of a write that was cut off: nothing of it was ever safe.
        let mut bad: Option<(u64, u64)> = None;
        let scanned = segments::scan(disk, &path, &mut |scanned| match scanned {
            Scanned::Unreadable { offset, length } => bad = Some((offset, length)),
            Scanned::Block { location, queue, first_position, count, is_whole } => {
                if let Some((offset, length)) = bad.take() {
                    let path = path.display();
                    damage.push(format!("{length} octets at {offset} of {path} are no block"));
                    keep.insert(number);
                }
                candidates.push(Candidate { location, queue, first_position, count, is_whole });
            }
        });
        match scanned {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                // The first block comes behind the header; a file without it was only just begun.
                if disk.open(&path)?.size()? > segments::EMPTY_FILE_BYTES {
                    damage.push(error.to_string());
                    keep.insert(number);
                }
            }
            scanned => _ = scanned?,
        }
    }
    Ok((candidates, keep))
}

/// Of blocks that overlap the one that was written last: the others were written anew, or nobody knew of them any more
/// when it was. One that is not whole counts where there is no other.
pub(crate) fn chosen(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.retain(|candidate| !candidate.positions().is_empty());
    let order = |candidate: &Candidate| {
        let BlockLocation { file, offset, .. } = candidate.location;
        (candidate.is_whole, file, offset)
    };
    candidates.sort_by_key(|candidate| std::cmp::Reverse(order(candidate)));
    let mut taken: BTreeMap<QueueId, BTreeMap<u64, u64>> = BTreeMap::new();
    candidates.retain(|candidate| {
        let positions = candidate.positions();
        let taken = taken.entry(candidate.queue).or_default();
        let before = taken.range(..positions.end).next_back();
        let is_free = before.is_none_or(|(_, &end)| end <= positions.start);
        if is_free {
            taken.insert(positions.start, positions.end);
        }
        is_free
    });
    candidates.sort_by_key(|candidate| candidate.location);
    candidates
}

/// The entries of the blocks, as they are found.
struct Index<'a> {
    disk: &'a Arc<dyn Disk>,
    options: &'a SegmentOptions,
    survey: &'a Survey,
    /// For blocks that are written anew.
    segments: Option<Segments>,
    entries: Vec<BlockEntry>,
}

impl Index<'_> {
    fn add(&mut self, candidate: &Candidate, reindexed: &mut Reindexed) -> io::Result<()> {
        let &Candidate { location, queue, first_position, .. } = candidate;
        let read = if candidate.is_whole {
            segments::read_block(&**self.disk, &self.options.dir, location, queue, first_position)
        } else {
            Err(BlockError::Damaged(format!("the block at {location:?} is damaged")))
        };
        let read = match read {
            Ok((_, payload)) => verify_stored(&payload).map(|messages| (payload, messages)),
            Err(BlockError::Damaged(_)) => None,
            Err(BlockError::Io(error)) => return Err(error),
        };
        match read {
            Some((payload, messages)) => {
                let there = self.add_whole(candidate, &payload, &messages)?;
                if there > 0 {
                    reindexed.queues.entry(queue).or_default().add(there);
                }
            }
            None => self.add_damaged(candidate, reindexed),
        }
        Ok(())
    }

    /// Adds what the journal does not hold of a block; how many messages that is.
    fn add_whole(
        &mut self,
        candidate: &Candidate,
        payload: &Bytes,
        messages: &[StoredMessage],
    ) -> io::Result<usize> {
        let positions = candidate.positions();
        let journaled = self.survey.queues.get(&candidate.queue);
        let parts = journaled.map_or_else(
            || vec![positions.clone()],
            |journaled| journaled.messages.outside(positions.clone()),
        );
        let number_of = |position: u64| (position - candidate.first_position) as u32;
        let mut there = 0;
        for part in parts {
            let numbers = number_of(part.start)..number_of(part.end);
            // Those that were transient must not come back.
            let is_kept = |message: &&StoredMessage| {
                message.persistent && message.has_body && numbers.contains(&message.number)
            };
            let kept: Vec<&StoredMessage> = messages.iter().filter(is_kept).collect();
            let (Some(first), Some(last)) = (kept.first(), kept.last()) else { continue };
            let (first, last) = (first.number, last.number);
            there += kept.len();
            let entry = if part == positions {
                entry_of(candidate.queue, part.start, candidate.count, candidate.location, &kept, 0)
            } else {
                // The journal's messages and those of a block must not lie between each other.
                let octets = part_of_stored(payload, first..last + 1).unwrap_or_default();
                let (first_position, count) = (candidate.first_position + u64::from(first), last - first + 1);
                let location = self.write(candidate.queue, first_position, count, &octets)?;
                entry_of(candidate.queue, first_position, count, location, &kept, first)
            };
            self.entries.push(entry);
        }
        Ok(there)
    }

    /// A block that had been safe stops its queue when it is reached. One whose messages the journal has was not.
    fn add_damaged(&mut self, candidate: &Candidate, reindexed: &mut Reindexed) {
        if candidate.is_journaled(self.survey) {
            return;
        }
        let BlockLocation { file, offset, .. } = candidate.location;
        let Range { start, end } = candidate.positions();
        reindexed.damage.push(format!(
            "the block at {offset} of file {file:016x} is damaged: messages {start} to {} of queue {}",
            end - 1,
            candidate.queue.0
        ));
        reindexed.queues.entry(candidate.queue).or_default().blocks += 1;
        self.entries.push(BlockEntry {
            queue: candidate.queue,
            first_position: start,
            location: candidate.location,
            count: candidate.count,
            settled: Vec::new(),
            live_bytes: candidate.location.length,
            body_bytes: 0,
            is_estimate: true,
            expires: false,
            returns: Vec::new(),
        });
    }

    fn write(
        &mut self,
        queue: QueueId,
        first_position: u64,
        count: u32,
        octets: &[u8],
    ) -> io::Result<BlockLocation> {
        let segments = match self.segments.take() {
            Some(segments) => segments,
            None => Segments::open(Arc::clone(self.disk), self.options.clone())?,
        };
        let segments = self.segments.insert(segments);
        segments.write(&Block { queue, first_position, count, durable: true, payload: &[octets] })
    }

    fn finish(self) -> io::Result<Vec<BlockEntry>> {
        if let Some(segments) = &self.segments {
            segments.sync().map_err(|error| error.source)?;
        }
        Ok(self.entries)
    }
}

/// The entry of a block of which the messages of these numbers are there.
fn entry_of(
    queue: QueueId,
    first_position: u64,
    count: u32,
    location: BlockLocation,
    kept: &[&StoredMessage],
    first: u32,
) -> BlockEntry {
    let live_bytes = u64::from(location.length) * kept.len() as u64 / u64::from(count.max(1));
    let live_bytes = u32::try_from(live_bytes).unwrap_or(u32::MAX);
    let mut settled = Vec::new();
    if kept.len() < count as usize {
        settled = vec![0xff; (count as usize).div_ceil(8)];
        for number in kept.iter().map(|message| message.number - first) {
            if let Some(octet) = settled.get_mut(number as usize / 8) {
                *octet &= !(1 << (number % 8));
            }
        }
    }
    let body_bytes: u64 = kept.iter().map(|message| message.body_bytes).sum();
    let body_bytes = u32::try_from(body_bytes).unwrap_or(u32::MAX);
    let expires = kept.iter().any(|message| message.expires);
    // How often they came back is lost with the catalog.
    let returns = Vec::new();
    BlockEntry {
        queue,
        first_position,
        location,
        count,
        settled,
        live_bytes,
        body_bytes,
        is_estimate: false,
        expires,
        returns,
    }
}

/// Notes that all of these may have been handed out before.
fn mark_delivered(disk: &Arc<dyn Disk>, data_dir: &Path, blocks: &[BlockEntry]) -> io::Result<()> {
    if blocks.is_empty() {
        return Ok(());
    }
    let (marks, _) = Marks::open(Arc::clone(disk), &Layout::marks(data_dir))?;
    for block in blocks {
        marks.set(block.queue, block.first_position.saturating_add(u64::from(block.count)));
    }
    marks.sync()?;
    disk.sync_dir(data_dir)
}

#[cfg(test)]
mod tests;
