//! What a restart finds: the catalog as of the last checkpoint, and on top of it the journal. Puts together the
//! definitions and, per queue, what is left of its messages; either source may hold what the other has. Changes
//! nothing on disk.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use leveret_broker::definition::Definition;
use leveret_broker::names::QueueId;
use leveret_broker::queue::recovered::{RecoveredMessages, RecoveredRun};
use leveret_broker::store::{BlockLocation, BlockState, JournalPosition};

use crate::disk::Disk;
use crate::entries::{self, BlockEntry, Change, Contents, Entries, EntryError, StoppedEntry};
use crate::journal::{Damage, Record, ReplayEnd, ReplayError, replay};
use crate::records::{self, DEFINE, PUBLISH, RETURN, SETTLE, SHARE};
use crate::segments::Segments;

/// A broker's state as the disk holds it.
#[derive(Debug)]
pub struct Recovered {
    /// Vhosts, then exchanges, queues and bindings.
    pub definitions: Vec<Definition>,
    /// The messages of durable queues that have any, or had.
    pub queues: HashMap<QueueId, RecoveredMessages>,
    /// How much was read.
    pub extent: RecoveryExtent,
}

/// How much a recovery read, and how long it took.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecoveryExtent {
    /// Octets of the journal.
    pub journal_bytes: u64,
    /// Records of the journal.
    pub journal_records: u64,
    /// Blocks that the catalog knows.
    pub blocks: usize,
    /// All of it.
    pub duration: Duration,
}

/// Damage that cannot be told to concern one queue alone.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The journal cannot be read.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// Something that had been safe is gone, and it is not known whose it was.
    #[error(
        "{file} is damaged from position {begins_at} to {ends_at}, and what was there cannot be told any more; nothing \
         was changed. `leveret check` lists all damage"
    )]
    Unattributable {
        /// The journal file.
        file: String,
        /// Where the damage begins.
        begins_at: u64,
        /// Where records can be read again.
        ends_at: u64,
    },
    /// A record that this version does not know.
    #[error(
        "the journal has a record of kind {kind} at position {position}, which this version of Leveret does not know"
    )]
    UnknownRecord {
        /// Its kind.
        kind: u8,
        /// Where it is.
        position: u64,
    },
    /// An entry of the catalog that does not read. Going on without it would give up what it stands for: the messages
    /// of a queue that is not among the definitions are deleted.
    #[error("the catalog does not read, nothing was changed: {0}")]
    Entry(EntryError),
    /// A change of definitions in the journal that does not read.
    #[error("the journal's changes of definitions at position {position} do not read: {error}")]
    Definitions {
        /// Where they are.
        position: u64,
        /// What is wrong.
        error: EntryError,
    },
}

/// What the journal told, beside [`Recovered`].
pub(crate) struct Replay {
    /// From where on the journal was needed.
    pub(crate) from: JournalPosition,
    pub(crate) end: ReplayEnd,
    /// Changes of definitions in it, for the next checkpoint.
    pub(crate) changes: Vec<Change>,
    pub(crate) next_queue_id: u64,
    /// Blocks of which not all matters, and how many octets do.
    pub(crate) live_bytes: Vec<(BlockLocation, u32)>,
}

/// Reads catalog entries and journal.
pub(crate) fn recover(
    disk: &dyn Disk,
    journal_dir: &Path,
    mut entries: Entries,
    marks: &HashMap<u64, u64>,
) -> Result<(Recovered, Replay), RecoveryError> {
    let started = Instant::now();
    let from = Contents::of(&entries).meta.replay_from;
    let mut reading = Reading::default();
    let replayed = replay(disk, journal_dir, from, &mut |record| reading.record(record))?;
    if let Some(error) = reading.error {
        return Err(error);
    }
    let Reading { changes, mut queues, records, .. } = reading;
    for damage in &replayed.damage {
        note_damage(damage, &mut queues)?;
    }
    entries::apply(&mut entries, changes.clone());
    let contents = Contents::of(&entries);
    if let Some(error) = contents.errors.into_iter().next() {
        return Err(RecoveryError::Entry(error));
    }
    let extent_blocks = contents.blocks.values().map(Vec::len).sum();
    let partly = contents.blocks.values().flatten().filter(|block| block.live_bytes < block.location.length);
    let live_bytes = partly.map(|block| (block.location, block.live_bytes)).collect();
    for (queue, blocks) in contents.blocks {
        queues.entry(queue).or_default().blocks = blocks.iter().map(block_state).collect();
    }
    for (queue, reason) in contents.stopped {
        queues.entry(queue).or_default().damage.get_or_insert(reason);
    }
    for (&queue, &position) in marks {
        queues.entry(QueueId(queue)).or_default().delivered_below = position;
    }
    let highest = queues.keys().map(|queue| queue.0).max().unwrap_or_default();
    let defined = contents.definitions.iter().map(|definition| match definition {
        Definition::PutQueue(id, spec) => id.of_level(spec.level_max()).0,
        _ => 0,
    });
    let next_queue_id = defined.max().unwrap_or_default().max(highest).max(contents.meta.next_queue_id) + 1;
    let extent = RecoveryExtent {
        journal_bytes: replayed.bytes,
        journal_records: records,
        blocks: extent_blocks,
        duration: started.elapsed(),
    };
    let recovered = Recovered { definitions: contents.definitions, queues, extent };
    Ok((recovered, Replay { from, end: replayed.end, changes, next_queue_id, live_bytes }))
}

fn note_damage(
    damage: &Damage,
    queues: &mut HashMap<QueueId, RecoveredMessages>,
) -> Result<(), RecoveryError> {
    match damage.record {
        // Those that need it find it missing.
        Some(record) if record.kind == SHARE => Ok(()),
        Some(record) if record.queue != 0 => {
            let text = format!(
                "{} is damaged from position {} to {}",
                damage.file.display(),
                damage.begins_at.0,
                damage.ends_at.0
            );
            queues.entry(QueueId(record.queue)).or_default().damage.get_or_insert(text);
            Ok(())
        }
        _ => Err(RecoveryError::Unattributable {
            file: damage.file.display().to_string(),
            begins_at: damage.begins_at.0,
            ends_at: damage.ends_at.0,
        }),
    }
}

/// Drops queues that no definition has, makes blocks known to the files they lie in, and stops queues whose blocks
/// are not there. Returns the changes by which the catalog forgets the queues that were dropped.
pub(crate) fn adopt_blocks(recovered: &mut Recovered, segments: &Segments) -> Vec<Change> {
    let defined: HashSet<_> = recovered.definitions.iter().flat_map(Definition::queue_ids).collect();
    let dropped = recovered.queues.extract_if(|queue, _| !defined.contains(queue));
    let forgotten = dropped.flat_map(|(queue, messages)| {
        let stopped = messages.damage.map(|_| StoppedEntry::delete(queue));
        let blocks = messages.blocks.into_iter();
        blocks.map(|block| BlockEntry::delete(block.queue, block.first_position)).chain(stopped)
    });
    let forgotten = forgotten.collect();
    for (&queue, messages) in &mut recovered.queues {
        for block in &messages.blocks {
            if let Err(error) = segments.adopt(block.location, queue, block.first_position) {
                let text = format!("messages from {} on are not there: {error}", block.first_position);
                messages.missing_blocks.get_or_insert(text);
            }
        }
    }
    forgotten
}

/// Queues that lack blocks and nothing else.
pub(crate) fn lacking_blocks(recovered: &Recovered) -> HashSet<QueueId> {
    let lacking = recovered.queues.iter().filter(|(_, messages)| messages.missing_blocks.is_some());
    lacking.filter(|(_, messages)| messages.damage.is_none()).map(|(queue, _)| *queue).collect()
}

fn block_state(entry: &BlockEntry) -> BlockState {
    BlockState {
        queue: entry.queue,
        first_position: entry.first_position,
        count: entry.count,
        location: entry.location,
        settled: entry.settled.clone(),
        live: 0,
        body_bytes: u64::from(entry.body_bytes),
        is_estimate: entry.is_estimate,
        expires: entry.expires,
        returns: entry.returns.clone(),
    }
}

/// What was read of the journal so far.
#[derive(Default)]
struct Reading {
    changes: Vec<Change>,
    queues: HashMap<QueueId, RecoveredMessages>,
    /// Messages that several queues got, by where they are.
    shared: BTreeMap<JournalPosition, Bytes>,
    records: u64,
    error: Option<RecoveryError>,
}

impl Reading {
    fn record(&mut self, record: Record) {
        if self.error.is_some() {
            return;
        }
        self.records += 1;
        let queue = QueueId(record.queue);
        match record.kind {
            SHARE => _ = self.shared.insert(record.position, record.payload),
            PUBLISH => self.published(queue, &record),
            SETTLE => self.settled(queue, &record),
            RETURN => self.returned(queue, &record),
            DEFINE => match entries::decode_changes(&record.payload) {
                Ok(changes) => self.changes.extend(changes),
                Err(error) => {
                    self.error = Some(RecoveryError::Definitions { position: record.position.0, error });
                }
            },
            kind => self.error = Some(RecoveryError::UnknownRecord { kind, position: record.position.0 }),
        }
    }

    fn published(&mut self, queue: QueueId, record: &Record) {
        let messages = self.queues.entry(queue).or_default();
        let Some(published) = records::decode_publish(&record.payload) else {
            return note_unreadable(messages, record);
        };
        let shared_batch = self.shared.get(&published.shared_at).cloned().unwrap_or_default();
        let begins_at = if published.shared.is_empty() {
            record.position
        } else {
            published.shared_at.min(record.position)
        };
        messages.runs.push(RecoveredRun {
            first_position: published.first_position,
            begins_at,
            own: published.own,
            shared: published.shared,
            shared_batch,
        });
    }

    fn settled(&mut self, queue: QueueId, record: &Record) {
        let messages = self.queues.entry(queue).or_default();
        let Some(ranges) = records::decode_settle(&record.payload) else {
            return note_unreadable(messages, record);
        };
        for range in ranges.filter(|range| range.start < range.end) {
            match messages.settled.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => messages.settled.push(range),
            }
        }
    }

    fn returned(&mut self, queue: QueueId, record: &Record) {
        let messages = self.queues.entry(queue).or_default();
        let Some(returns) = records::decode_return(&record.payload) else {
            return note_unreadable(messages, record);
        };
        messages.returns.extend(returns);
    }
}

fn note_unreadable(messages: &mut RecoveredMessages, record: &Record) {
    let text = format!("its journal record at position {} does not read", record.position.0);
    messages.damage.get_or_insert(text);
}
