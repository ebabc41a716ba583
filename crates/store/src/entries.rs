//! What the catalog holds, as keys and values: definitions (see [`definitions`]), one entry per
//! block, one per stopped queue, and the numbers a recovery begins with. The first octet of a key says what it is, the
//! first of a value which version of the encoding it has. Numbers in keys are big endian, so that entries of a
//! queue lie side by side in order.

use std::collections::BTreeMap;

use leveret_broker::definition::Definition;
use leveret_broker::names::QueueId;
use leveret_broker::queue::quorum::Returns;
use leveret_broker::store::{BlockLocation, JournalPosition};

use crate::definitions;
use crate::octets::{Reader, put_sized, put_varint};

/// First octets of keys. Those of definitions come first.
pub(crate) const KEY_PERMISSIONS: u8 = b'a';
pub(crate) const KEY_BINDING: u8 = b'b';
pub(crate) const KEY_EXCHANGE: u8 = b'e';
pub(crate) const KEY_GLOBAL_PARAMETER: u8 = b'g';
pub(crate) const KEY_ACCESS_BEGUN: u8 = b'i';
pub(crate) const KEY_OPERATOR_POLICY: u8 = b'o';
pub(crate) const KEY_POLICY: u8 = b'p';
pub(crate) const KEY_QUEUE: u8 = b'q';
pub(crate) const KEY_TOPIC_PERMISSIONS: u8 = b't';
pub(crate) const KEY_USER: u8 = b'u';
pub(crate) const KEY_VHOST: u8 = b'v';
const KEY_BLOCK: u8 = b'B';
const KEY_STOPPED: u8 = b'S';
const KEY_META: u8 = b'm';

/// What a snapshot holds: all entries from here on, which are stopped queues, definitions and numbers, and no block.
pub(crate) const SNAPSHOT_FROM: &[u8] = &[KEY_STOPPED];

const META_REPLAY_FROM: &[u8] = b"mreplay_from";
const META_NEXT_QUEUE_ID: &[u8] = b"mnext_queue_id";

/// Version of all values there are today.
pub(crate) const VALUE_VERSION: u8 = 1;

/// All entries of a catalog, sorted by key.
pub type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

/// The same as a list of keys and values.
pub type EntryList = Vec<(Vec<u8>, Vec<u8>)>;

/// A change of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which entry.
    pub key: Vec<u8>,
    /// What it becomes; `None` deletes it.
    pub value: Option<Vec<u8>>,
}

impl Change {
    /// The entry becomes `value`.
    #[must_use]
    pub fn put(key: Vec<u8>, value: Vec<u8>) -> Self {
        Self { key, value: Some(value) }
    }

    /// The entry goes.
    #[must_use]
    pub fn delete(key: Vec<u8>) -> Self {
        Self { key, value: None }
    }

    /// Whether it is of something that a snapshot holds; the numbers change all the time and do not count.
    pub(crate) fn is_of_snapshot(&self) -> bool {
        self.key.as_slice() >= SNAPSHOT_FROM && self.key.first() != Some(&KEY_META)
    }
}

/// Makes `changes` in `entries`, the last one of a key deciding. Making them again changes nothing more.
pub fn apply(entries: &mut Entries, changes: impl IntoIterator<Item = Change>) {
    for change in changes {
        match change.value {
            Some(value) => entries.insert(change.key, value),
            None => entries.remove(&change.key),
        };
    }
}

/// An entry that means nothing to this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct EntryError {
    /// The thing, by the names that its key tells.
    pub what: String,
    /// What is wrong with it.
    pub reason: String,
}

impl EntryError {
    pub(crate) fn new(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { what: what.into(), reason: reason.into() }
    }

    pub(crate) fn of_key(key: &[u8], reason: impl Into<String>) -> Self {
        Self::new(format!("catalog entry \"{}\"", key.escape_ascii()), reason)
    }
}

/// Changes as a journal record holds them.
#[must_use]
pub fn encode_changes(changes: &[Change]) -> Vec<u8> {
    let mut out = vec![VALUE_VERSION];
    put_varint(&mut out, changes.len() as u64);
    for change in changes {
        put_sized(&mut out, &change.key);
        match &change.value {
            None => out.push(0),
            Some(value) => {
                out.push(1);
                put_sized(&mut out, value);
            }
        }
    }
    out
}

/// Reads what [`encode_changes`] wrote.
///
/// # Errors
/// It is something else, or of a newer version.
pub fn decode_changes(octets: &[u8]) -> Result<Vec<Change>, EntryError> {
    let error = |reason: &str| EntryError::new("changes of definitions", reason);
    let mut reader = Reader::new(octets);
    let version = reader.u8().ok_or_else(|| error("empty"))?;
    if version != VALUE_VERSION {
        return Err(unknown_version("changes of definitions", version));
    }
    let mut read = || {
        let count = reader.varint()?;
        let mut changes = Vec::new();
        for _ in 0..count {
            let key = reader.sized()?.to_vec();
            let value = match reader.u8()? {
                0 => None,
                1 => Some(reader.sized()?.to_vec()),
                _ => return None,
            };
            changes.push(Change { key, value });
        }
        reader.is_empty().then_some(changes)
    };
    read().ok_or_else(|| error("cut off or damaged"))
}

pub(crate) fn unknown_version(what: impl Into<String>, version: u8) -> EntryError {
    EntryError::new(what, format!("has version {version}, this version of Leveret knows {VALUE_VERSION}"))
}

/// Flags of a block's value.
const BLOCK_EXPIRES: u8 = 1;
const BLOCK_HAS_RETURNS: u8 = 2;
const BLOCK_IS_ESTIMATE: u8 = 4;

/// A block of a durable queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockEntry {
    /// The queue.
    pub queue: QueueId,
    /// Position of its first message.
    pub first_position: u64,
    /// Where it lies.
    pub location: BlockLocation,
    /// Positions it covers.
    pub count: u32,
    /// One bit for each message in it, set if the message is settled; empty if none is.
    pub settled: Vec<u8>,
    /// Octets of it that still matter.
    pub live_bytes: u32,
    /// Octets of the bodies of its messages that are not settled.
    pub body_bytes: u32,
    /// That is not known for sure.
    pub is_estimate: bool,
    /// Whether any of its messages expires.
    pub expires: bool,
    /// How often messages came back to a quorum queue, by number in it.
    pub returns: Vec<(u32, Returns)>,
}

impl BlockEntry {
    /// The change that makes the block known.
    #[must_use]
    pub fn put(&self) -> Change {
        let BlockLocation { file, offset, length } = self.location;
        let mut value = vec![VALUE_VERSION];
        value.extend_from_slice(&file.to_le_bytes());
        for number in [offset, length, self.count, self.live_bytes, self.body_bytes] {
            value.extend_from_slice(&number.to_le_bytes());
        }
        let has_returns = !self.returns.is_empty();
        let flags = [
            (self.expires, BLOCK_EXPIRES),
            (has_returns, BLOCK_HAS_RETURNS),
            (self.is_estimate, BLOCK_IS_ESTIMATE),
        ];
        value.push(flags.iter().filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum());
        if has_returns {
            put_varint(&mut value, self.returns.len() as u64);
            for (number, Returns { acquired, failed }) in &self.returns {
                [number, acquired, failed]
                    .into_iter()
                    .for_each(|&number| put_varint(&mut value, number.into()));
            }
        }
        value.extend_from_slice(&self.settled);
        Change::put(Self::key(self.queue, self.first_position), value)
    }

    /// The change that forgets a block.
    #[must_use]
    pub fn delete(queue: QueueId, first_position: u64) -> Change {
        Change::delete(Self::key(queue, first_position))
    }

    fn key(queue: QueueId, first_position: u64) -> Vec<u8> {
        let mut key = vec![KEY_BLOCK];
        key.extend_from_slice(&queue.0.to_be_bytes());
        key.extend_from_slice(&first_position.to_be_bytes());
        key
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<Self, EntryError> {
        let error = || EntryError::of_key(key, "not the entry of a block");
        let mut names = Reader::new(key.get(1..).unwrap_or_default());
        let queue = names.u64_sorted().map(QueueId).ok_or_else(error)?;
        let first_position = names.u64_sorted().filter(|_| names.is_empty()).ok_or_else(error)?;
        let mut reader = versioned(key, value)?;
        let mut read = || {
            let file = reader.u64()?;
            let location = BlockLocation { file, offset: reader.u32()?, length: reader.u32()? };
            let (count, live_bytes, body_bytes) = (reader.u32()?, reader.u32()?, reader.u32()?);
            let known = BLOCK_EXPIRES | BLOCK_HAS_RETURNS | BLOCK_IS_ESTIMATE;
            let flags = reader.u8().filter(|flags| flags & !known == 0)?;
            let (expires, is_estimate) = (flags & BLOCK_EXPIRES != 0, flags & BLOCK_IS_ESTIMATE != 0);
            let returns = match flags & BLOCK_HAS_RETURNS {
                0 => Vec::new(),
                _ => read_returns(&mut reader)?,
            };
            let settled = reader.rest().to_vec();
            Some(Self {
                queue,
                first_position,
                location,
                count,
                settled,
                live_bytes,
                body_bytes,
                is_estimate,
                expires,
                returns,
            })
        };
        read().ok_or_else(error)
    }
}

fn read_returns(reader: &mut Reader<'_>) -> Option<Vec<(u32, Returns)>> {
    let mut number = || u32::try_from(reader.varint()?).ok();
    let count = number()?;
    let read = |_| Some((number()?, Returns { acquired: number()?, failed: number()? }));
    (0..count).map(read).collect()
}

/// A queue that lost something which the journal alone held: it stays stopped though that part of the journal goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoppedEntry {
    /// The queue.
    pub queue: QueueId,
    /// What happened.
    pub reason: String,
}

impl StoppedEntry {
    /// The change that makes it known.
    #[must_use]
    pub fn put(&self) -> Change {
        let mut value = vec![VALUE_VERSION];
        value.extend_from_slice(self.reason.as_bytes());
        Change::put(Self::key(self.queue), value)
    }

    /// The change that forgets it: the queue is deleted.
    #[must_use]
    pub fn delete(queue: QueueId) -> Change {
        Change::delete(Self::key(queue))
    }

    fn key(queue: QueueId) -> Vec<u8> {
        let mut key = vec![KEY_STOPPED];
        key.extend_from_slice(&queue.0.to_be_bytes());
        key
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<Self, EntryError> {
        let mut names = Reader::new(key.get(1..).unwrap_or_default());
        let queue = names.u64_sorted().filter(|_| names.is_empty()).map(QueueId);
        let queue = queue.ok_or_else(|| EntryError::of_key(key, "not the entry of a queue"))?;
        let reader = versioned(key, value)?;
        Ok(Self { queue, reason: String::from_utf8_lossy(reader.rest()).into_owned() })
    }
}

/// The numbers a recovery begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// From where on the journal is needed.
    pub replay_from: JournalPosition,
    /// A queue id that no queue had when this was written.
    pub next_queue_id: u64,
}

impl Meta {
    /// The changes that make it known.
    #[must_use]
    pub fn put(&self) -> [Change; 2] {
        let number = |key: &[u8], number: u64| {
            let mut value = vec![VALUE_VERSION];
            value.extend_from_slice(&number.to_le_bytes());
            Change::put(key.to_vec(), value)
        };
        [number(META_REPLAY_FROM, self.replay_from.0), number(META_NEXT_QUEUE_ID, self.next_queue_id)]
    }

    fn read(&mut self, key: &[u8], value: &[u8]) -> Result<(), EntryError> {
        let mut reader = versioned(key, value)?;
        let number = reader.u64().filter(|_| reader.is_empty());
        let number = number.ok_or_else(|| EntryError::of_key(key, "not a number"))?;
        match key {
            META_REPLAY_FROM => self.replay_from = JournalPosition(number),
            META_NEXT_QUEUE_ID => self.next_queue_id = number,
            _ => return Err(EntryError::of_key(key, "not known to this version of Leveret")),
        }
        Ok(())
    }
}

/// What follows a value's version.
pub(crate) fn versioned<'a>(key: &[u8], value: &'a [u8]) -> Result<Reader<'a>, EntryError> {
    let mut reader = Reader::new(value);
    match reader.u8() {
        Some(VALUE_VERSION) => Ok(reader),
        Some(version) => Err(unknown_version(EntryError::of_key(key, "").what, version)),
        None => Err(EntryError::of_key(key, "empty")),
    }
}

/// A catalog's entries, understood.
#[derive(Debug, Default)]
pub struct Contents {
    /// What exists, in an order in which it can be made: users, vhosts, permissions, policies, exchanges,
    /// queues, bindings.
    pub definitions: Vec<Definition>,
    /// Blocks by queue, sorted by position. A queue here need not be among the definitions: it was deleted, and
    /// its blocks not forgotten yet.
    pub blocks: BTreeMap<QueueId, Vec<BlockEntry>>,
    /// Queues that are stopped, and why; the same holds.
    pub stopped: BTreeMap<QueueId, String>,
    /// Where to begin.
    pub meta: Meta,
    /// Entries that could not be read. A catalog is not used with any of these but to report on it.
    pub errors: Vec<EntryError>,
}

impl Contents {
    /// Reads all entries, in whatever order they come.
    pub fn of<K: AsRef<[u8]>, V: AsRef<[u8]>>(entries: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut contents = Self::default();
        let mut entries: Vec<_> = entries.into_iter().collect();
        entries.sort_by(|(one, _), (other, _)| one.as_ref().cmp(other.as_ref()));
        for (key, value) in entries {
            if let Err(error) = contents.add(key.as_ref(), value.as_ref()) {
                contents.errors.push(error);
            }
        }
        contents.definitions.sort_by_key(|definition| match definition {
            Definition::BeginAccess | Definition::PutUser(_) => 0,
            Definition::PutVhost(..) => 1,
            Definition::PutPermissions(_) | Definition::PutTopicPermissions(_) => 2,
            Definition::PutPolicy(..) => 3,
            Definition::PutExchange(..) => 4,
            Definition::PutQueue(..) => 5,
            _ => 6,
        });
        contents
    }

    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), EntryError> {
        match key.first() {
            Some(&KEY_BLOCK) => {
                let block = BlockEntry::decode(key, value)?;
                self.blocks.entry(block.queue).or_default().push(block);
            }
            Some(&KEY_STOPPED) => {
                let entry = StoppedEntry::decode(key, value)?;
                self.stopped.insert(entry.queue, entry.reason);
            }
            Some(&KEY_META) => self.meta.read(key, value)?,
            _ => self.definitions.push(definitions::definition_of(key, value)?),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
