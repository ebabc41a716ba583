//! What the journal holds, without the messages: which positions of which queues were published and settled, and how
//! definitions changed. For the offline check and for making a lost catalog anew; a start needs the messages too and
//! reads by `recovery`. Changes nothing.

use std::collections::BTreeMap;
use std::path::Path;

use leveret_broker::message::verify_stored;
use leveret_broker::names::QueueId;
use leveret_broker::store::JournalPosition;

use crate::disk::Disk;
use crate::entries::{self, Change};
use crate::journal::{Record, ReplayError, Replayed, replay};
use crate::ranges::Ranges;
use crate::records::{self, DEFINE, PUBLISH, Published, RETURN, SETTLE, SHARE};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Changes of definitions, in order.
    pub(crate) changes: Vec<Change>,
    pub(crate) queues: BTreeMap<QueueId, Surveyed>,
    /// Records that do not read though they are as they were written.
    pub(crate) unreadable: Vec<Unreadable>,
    pub(crate) records: u64,
    /// Which of the messages that several queues got are persistent, by where the record is.
    shared: BTreeMap<JournalPosition, Vec<bool>>,
}

/// What concerns one queue.
#[derive(Debug, Default)]
pub(crate) struct Surveyed {
    /// Persistent messages that are there.
    pub(crate) messages: Ranges,
    /// Messages that were published and whose shared octets are not there.
    pub(crate) missing: Ranges,
    /// All positions of what was published together, transient messages included.
    pub(crate) published: Ranges,
    pub(crate) settled: Ranges,
}

/// A record that does not read.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) position: JournalPosition,
    /// 0 if it is of none.
    pub(crate) queue: QueueId,
    pub(crate) what: String,
}

/// Reads the journal from `from` on.
pub(crate) fn survey(
    disk: &dyn Disk,
    journal_dir: &Path,
    from: JournalPosition,
) -> Result<(Survey, Replayed), ReplayError> {
    let mut survey = Survey::default();
    let replayed = replay(disk, journal_dir, from, &mut |record| survey.record(&record))?;
    for surveyed in survey.queues.values_mut() {
        let Surveyed { messages, missing, published, settled } = surveyed;
        [messages, missing, published, settled].into_iter().for_each(Ranges::merge);
    }
    Ok((survey, replayed))
}

impl Survey {
    fn record(&mut self, record: &Record) {
        self.records += 1;
        let read = match record.kind {
            SHARE => self.shared(record),
            PUBLISH => self.published(record),
            SETTLE => self.settled(record),
            RETURN => records::decode_return(&record.payload).map(drop),
            DEFINE => match entries::decode_changes(&record.payload) {
                Ok(changes) => {
                    self.changes.extend(changes);
                    Some(())
                }
                Err(error) => return self.note(record, error.to_string()),
            },
            kind => return self.note(record, format!("kind {kind} is not known to this version of Leveret")),
        };
        if read.is_none() {
            self.note(record, "its content does not read".to_owned());
        }
    }

    fn note(&mut self, record: &Record, what: String) {
        let queue = QueueId(record.queue);
        self.unreadable.push(Unreadable { position: record.position, queue, what });
    }

    fn shared(&mut self, record: &Record) -> Option<()> {
        let messages = verify_stored(&record.payload)?;
        let persistent = messages.iter().map(|message| message.persistent && message.has_body).collect();
        self.shared.insert(record.position, persistent);
        Some(())
    }

    fn published(&mut self, record: &Record) -> Option<()> {
        let Published { first_position, shared_at, shared: parts, own } =
            records::decode_publish(&record.payload)?;
        let own = verify_stored(&own)?;
        let surveyed = self.queues.entry(QueueId(record.queue)).or_default();
        let mut own = own.iter().map(|message| message.persistent && message.has_body);
        let shared = self.shared.get(&shared_at).map(Vec::as_slice).unwrap_or_default();
        let mut position = first_position;
        for part in parts {
            let before = first_position.checked_add(u64::from(part.first))?.checked_sub(position)?;
            position = surveyed.add(position, own.by_ref().take(usize::try_from(before).ok()?));
            let there = shared.get(part.shared_first as usize..).unwrap_or_default();
            let end = position.checked_add(u64::from(part.count))?;
            position = surveyed.add(position, there.iter().copied().take(part.count as usize));
            surveyed.missing.add(position..end);
            position = end;
        }
        position = surveyed.add(position, own);
        surveyed.published.add(first_position..position);
        Some(())
    }

    fn settled(&mut self, record: &Record) -> Option<()> {
        let ranges = records::decode_settle(&record.payload)?;
        let surveyed = self.queues.entry(QueueId(record.queue)).or_default();
        ranges.for_each(|range| surveyed.settled.add(range));
        Some(())
    }
}

impl Surveyed {
    /// Adds messages from `position` on, each told by whether it is persistent; the position behind them.
    fn add(&mut self, mut position: u64, messages: impl Iterator<Item = bool>) -> u64 {
        for persistent in messages {
            let next = position.saturating_add(1);
            if persistent {
                self.messages.add(position..next);
            }
            position = next;
        }
        position
    }
}
