//! Deduplication at an exchange: a message whose id was published to it before is dropped. The ids of a durable
//! exchange are kept as tiny messages of a hidden durable queue, so that a publisher whose confirm was lost can publish
//! again after a restart too.
//!
//! INVARIANT: an id is known only once the queues have its message, and the journal holds the message before the id: so
//! what is dropped is never the only copy. A duplicate is as safe as the message it repeats.

mod cache;
mod octets;

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use indexmap::IndexSet;
use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTable, FieldTableRef, FieldValue, FieldValueRef};
use parking_lot::{Mutex, MutexGuard};

use crate::error::BrokerError;
use crate::exchange::{ExchangeSpec, ExchangeType};
use crate::message::{Body, Extras, MessageBatch, MessageView};
use crate::names::{ExchangeName, QueueName};
use crate::queue::Queue;
use crate::queue::arguments::type_name;
use crate::queue::dying::defer_burials;
use crate::store::JournalPosition;
use crate::time::{Clock, Timestamp};
use crate::vhost::changes::Changes;
use crate::vhost::hidden::HiddenQueues;
use cache::Cache;
pub(crate) use octets::IdOctets;

pub(crate) const ENABLED: &str = "x-message-deduplication";
const CACHE_SIZE: &str = "x-cache-size";
const CACHE_TTL: &str = "x-cache-ttl";
pub(crate) const HEADER: &str = "x-deduplication-header";

/// COMPAT: ids that LavinMQ remembers where nobody says how many.
const CACHE_SIZE_DEFAULT: usize = 128;

/// Ids that one exchange remembers at most: some hundred octets of memory each.
const CACHE_SIZE_MAX: u64 = 10_000_000;

/// What the names of the queues begin with that hold ids.
const PREFIX: &str = "amq.leveret.ids.";

/// How an exchange knows what was published to it before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    size: usize,
    ttl_ms: Option<u64>,
    header: Box<str>,
}

impl Rules {
    /// What the arguments of an exchange ask for, if anything. COMPAT: an exchange of the plugin's own type has to say
    /// how many ids are remembered.
    ///
    /// # Errors
    /// A value that is not possible.
    pub(crate) fn of(spec: &ExchangeSpec, vhost: &str) -> Result<Option<Self>, BrokerError> {
        let arguments = &spec.arguments;
        let is_type = spec.exchange_type == ExchangeType::Deduplicating;
        let is_enabled = match arguments.get(ENABLED) {
            None => false,
            Some(FieldValue::Boolean(enabled)) => *enabled,
            Some(other) => return Err(wrong_type(spec, vhost, ENABLED, other)),
        };
        if !is_type && !is_enabled {
            return Ok(None);
        }
        let size = positive(arguments, CACHE_SIZE)?;
        if is_type && size.is_none() {
            return Err(BrokerError::CacheArgument { argument: CACHE_SIZE, missing: true });
        }
        if size.is_some_and(|size| size > CACHE_SIZE_MAX) {
            return Err(BrokerError::CacheTooLarge { max: CACHE_SIZE_MAX });
        }
        let header = match arguments.get(HEADER) {
            None => HEADER,
            Some(value) => value.as_str().ok_or_else(|| wrong_type(spec, vhost, HEADER, value))?,
        };
        Ok(Some(Self {
            size: size.and_then(|size| usize::try_from(size).ok()).unwrap_or(CACHE_SIZE_DEFAULT),
            ttl_ms: positive(arguments, CACHE_TTL)?,
            header: header.into(),
        }))
    }
}

fn wrong_type(spec: &ExchangeSpec, vhost: &str, argument: &str, value: &FieldValue) -> BrokerError {
    BrokerError::InvalidArgumentType {
        argument: argument.to_owned(),
        type_name: type_name(value),
        kind: "exchange",
        name: spec.name.to_string(),
        vhost: vhost.to_owned(),
    }
}

/// COMPAT: an integer greater than 0, or a string that is one.
fn positive(arguments: &FieldTable, argument: &'static str) -> Result<Option<u64>, BrokerError> {
    let Some(value) = arguments.get(argument) else { return Ok(None) };
    let number = value.as_integer().or_else(|| value.as_str()?.parse().ok());
    let number = number.and_then(|number| u64::try_from(number).ok()).filter(|&number| number > 0);
    number.map(Some).ok_or(BrokerError::CacheArgument { argument, missing: false })
}

/// The ids that an exchange has seen.
pub struct Deduplication {
    exchange: ExchangeName,
    durable: bool,
    rules: Rules,
    hidden: Arc<HiddenQueues>,
    clock: Arc<dyn Clock>,
    /// What keeps the ids, once there is one to be kept.
    queue: OnceLock<Arc<Queue>>,
    /// Locked before any queue.
    cache: Mutex<Cache>,
    duplicates: AtomicU64,
    /// The exchange is gone. Set with the cache locked.
    is_ended: AtomicBool,
}

impl std::fmt::Debug for Deduplication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Deduplication").field(&self.exchange).finish()
    }
}

/// What an exchange knows of a message's id.
pub enum Seen {
    /// It was published before: where that is safe.
    Before(JournalPosition),
    /// It has not, and is to be remembered.
    New(NewId),
    /// It has none.
    NoId,
}

/// The id of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Id {
    octets: IdOctets,
    /// What the exchange finds it by.
    hash: u32,
    expires_at: Option<Timestamp>,
    /// How many ids the exchange had been given when it did not know this one.
    looked_at: u64,
}

impl Id {
    /// One that `cache` does not know.
    fn new(cache: &Cache, octets: IdOctets, expires_at: Option<Timestamp>) -> Self {
        let hash = cache.hash_of(&octets);
        Self { octets, hash, expires_at, looked_at: cache.next_number() }
    }
}

/// An id that an exchange is to remember once the message is where it goes.
#[derive(Clone, Debug)]
pub struct NewId {
    by: Arc<Deduplication>,
    id: Id,
    /// Whether a restart finds the message again. If not, its id must not be found either.
    is_kept: bool,
}

/// Numbers of an exchange that drops duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeduplicationSnapshot {
    /// The exchange.
    pub exchange: ExchangeName,
    /// Ids that it remembers, some of which may be over.
    pub ids: usize,
    /// Messages dropped since the start.
    pub duplicates: u64,
}

impl Deduplication {
    pub(crate) fn new(spec: &ExchangeSpec, rules: Rules, hidden: &Arc<HiddenQueues>) -> Arc<Self> {
        Arc::new(Self {
            exchange: spec.name.clone(),
            durable: spec.durable,
            cache: Mutex::new(Cache::new(rules.size)),
            rules,
            hidden: Arc::clone(hidden),
            clock: Arc::clone(&hidden.services().clock),
            queue: OnceLock::new(),
            duplicates: AtomicU64::new(0),
            is_ended: AtomicBool::new(false),
        })
    }

    /// Looks for the id of a message with these encoded properties.
    pub fn look_for(self: &Arc<Self>, properties: &[u8]) -> Seen {
        let headers = Properties::decode(properties).ok().and_then(|properties| properties.headers);
        let seen = self.find(headers);
        if matches!(seen, Seen::Before(_)) {
            self.duplicates.fetch_add(1, Ordering::Relaxed);
            self.hidden.services().counters.duplicate_dropped();
        }
        seen
    }

    fn find(self: &Arc<Self>, headers: Option<FieldTableRef<'_>>) -> Seen {
        let Some(headers) = headers else { return Seen::NoId };
        let Some(octets) = id_in(&headers, &self.rules.header) else { return Seen::NoId };
        // COMPAT: a message may say itself for how long its id is remembered.
        let own = headers.get(CACHE_TTL).and_then(|value| value.as_integer());
        let own = own.and_then(|ttl| u64::try_from(ttl).ok());
        let now = self.clock.now();
        let mut cache = self.cache.lock();
        let expires_at = own.or(self.rules.ttl_ms).map(|ttl| now.after_ms(ttl));
        let id = Id::new(&cache, octets, expires_at);
        match cache.find(&id.octets, id.hash, now) {
            Some(position) => Seen::Before(position),
            None => Seen::New(NewId { by: Arc::clone(self), id, is_kept: true }),
        }
    }

    /// The queue that keeps ids of `exchange` by its name.
    pub(crate) fn exchange_of(queue: &str) -> Option<&str> {
        queue.strip_prefix(PREFIX)
    }

    /// Takes over the queue that a restart found.
    pub(crate) fn restore(&self, queue: Arc<Queue>) {
        // Not taken: it is the first one.
        let _ = self.queue.set(queue);
    }

    /// Knows again what the queue holds that a restart found. Waits for the disk.
    pub(crate) fn begin(&self) {
        let Some(queue) = self.queue.get() else { return };
        let mut cache = self.cache.lock();
        queue.visit_ready(&mut |_, _, message| {
            let octets = IdOctets::from_slice(&message.body.to_vec());
            let id = Id::new(&cache, octets, message.expires_at());
            cache.insert(&id, JournalPosition::SAFE);
        });
    }

    /// Knows the id of the newest message that a restart found in a queue: the process may have ended between keeping
    /// the message and keeping its id, and with the ids locked there is no more than one such message.
    pub(crate) fn know_newest(self: &Arc<Self>, properties: &[u8]) {
        let headers = Properties::decode(properties).ok().and_then(|properties| properties.headers);
        if let Seen::New(new) = self.find(headers) {
            let mut cache = self.cache.lock();
            new.insert(&mut cache, JournalPosition::SAFE);
        }
    }

    /// The exchange it is for.
    pub(crate) fn exchange(&self) -> &ExchangeName {
        &self.exchange
    }

    /// The exchange is gone. Called with the topology locked.
    pub(crate) fn end(&self, changes: &mut Changes) {
        // Under the lock under which ids are kept: a channel that remembers the exchange must not make its queue anew.
        let _cache = self.cache.lock();
        self.is_ended.store(true, Ordering::Relaxed);
        self.queue.get().into_iter().for_each(|queue| self.hidden.delete(queue, changes));
    }

    pub(crate) fn snapshot(&self) -> DeduplicationSnapshot {
        let duplicates = self.duplicates.load(Ordering::Relaxed);
        DeduplicationSnapshot { exchange: self.exchange.clone(), ids: self.cache.lock().len(), duplicates }
    }

    /// Keeps an id for a restart; where that is safe. Called with the cache locked.
    fn keep(&self, id: &Id) -> JournalPosition {
        if !self.durable || self.is_ended.load(Ordering::Relaxed) {
            return JournalPosition::SAFE;
        }
        let queue = self.queue.get_or_init(|| {
            let arguments = FieldTable::new().with("x-max-length", self.rules.size as i64);
            self.hidden.create_with(QueueName::from(format!("{PREFIX}{}", self.exchange)), true, arguments)
        });
        let mut batch = MessageBatch::default();
        let extras = Extras { expires_at: id.expires_at, ..Extras::default() }.encode();
        batch.push(&MessageView {
            names: &[0, 0],
            properties: &[0, 0],
            body: Body::Small(id.octets.as_slice()),
            persistent: true,
            extras: extras.as_slice(),
        });
        queue.publish(&mut batch)
    }
}

/// The id of a message in one of its headers.
pub(crate) fn id_in(headers: &FieldTableRef<'_>, header: &str) -> Option<IdOctets> {
    id_octets(&headers.get(header)?)
}

/// COMPAT: integers of all widths are alike; what is no scalar is no id.
fn id_octets(value: &FieldValueRef<'_>) -> Option<IdOctets> {
    let with = |kind: u8, octets: &[u8]| Some(IdOctets::new(kind, octets));
    match value {
        FieldValueRef::LongString(octets) | FieldValueRef::Bytes(octets) => with(b's', octets),
        FieldValueRef::Boolean(value) => with(b'b', &[u8::from(*value)]),
        FieldValueRef::F32(value) => with(b'f', &f64::from(*value).to_be_bytes()),
        FieldValueRef::F64(value) => with(b'f', &value.to_be_bytes()),
        FieldValueRef::Timestamp(value) => with(b't', &value.to_be_bytes()),
        value => with(b'i', &value.as_integer()?.to_be_bytes()),
    }
}

/// Ids that exchanges are to remember with one commit, each once, in the order in which they came.
#[derive(Debug, Default)]
pub struct NewIds(IndexSet<NewId>);

impl NewIds {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of these is among them.
    #[must_use]
    pub fn has_any(&self, ids: &[NewId]) -> bool {
        ids.iter().any(|id| self.0.contains(id))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &NewId> {
        self.0.iter()
    }

    /// Adds ids.
    pub fn add(&mut self, ids: Vec<NewId>) {
        self.0.extend(ids);
    }

    /// Forgets them all.
    pub fn clear(&mut self) {
        self.0 = IndexSet::new();
    }
}

/// Remembers ids of messages that the queues have, known to be safe at `position`, and keeps them; where that is safe.
pub fn remember<'a>(ids: impl IntoIterator<Item = &'a NewId>, position: JournalPosition) -> JournalPosition {
    let mut safe_at = JournalPosition::SAFE;
    for new in ids {
        let mut cache = new.by.cache.lock();
        let kept = new.keep();
        cache.insert(&new.id, position.max(kept));
        safe_at = safe_at.max(kept);
    }
    safe_at
}

/// Hands a message over to its queues, unless one of its ids has become known since it was looked for: then nothing is
/// done, and it has to be routed again. `hand_over` returns from when on it is safe, or nothing if it was refused: then
/// its ids are not remembered. Called with no queue and not the topology locked.
pub fn publish_once(
    ids: &[NewId],
    hand_over: impl FnOnce() -> Option<JournalPosition>,
) -> Option<JournalPosition> {
    // What dies of it may be published to the same exchange.
    defer_burials(|| {
        // PERF: nearly always there is one.
        if let [new] = ids {
            let mut cache = new.lock()?;
            let Some(position) = hand_over() else { return Some(JournalPosition::SAFE) };
            return Some(new.insert(&mut cache, position));
        }
        let mut in_order: Vec<&NewId> = ids.iter().collect();
        // Everybody locks them in the same order.
        in_order.sort_by_key(|new| Arc::as_ptr(&new.by));
        let mut locked: Vec<(&NewId, MutexGuard<'_, Cache>)> = Vec::with_capacity(in_order.len());
        for new in in_order {
            locked.push((new, new.lock()?));
        }
        let Some(position) = hand_over() else { return Some(JournalPosition::SAFE) };
        let inserted = locked.iter_mut().map(|(new, cache)| new.insert(cache, position));
        Some(inserted.fold(position, JournalPosition::max))
    })
}

/// Ids of messages that the broker publishes itself: known at once, kept when the queues have the messages.
#[derive(Default)]
pub(crate) struct OwnIds(Vec<NewId>);

impl OwnIds {
    /// Knows ids from now on. Where the message comes from lets go of it later than that, so it is safe.
    pub(crate) fn add(&mut self, ids: Vec<NewId>) {
        for new in &ids {
            new.by.cache.lock().insert(&new.id, JournalPosition::SAFE);
        }
        self.0.extend(ids);
    }

    /// The queues have the messages.
    pub(crate) fn keep(self) -> JournalPosition {
        let keep = |new: &NewId| {
            let _cache = new.by.cache.lock();
            new.keep()
        };
        self.0.iter().map(keep).max().unwrap_or(JournalPosition::SAFE)
    }

    /// They have not, and the messages will be published again.
    pub(crate) fn forget(self) {
        self.0.iter().for_each(|new| new.by.cache.lock().forget(&new.id));
    }
}

impl NewId {
    /// Says whether a restart finds the message again.
    pub fn set_kept(&mut self, is_kept: bool) {
        self.is_kept = is_kept;
    }

    /// Locks the ids of the exchange, unless it has learnt of this one since it was looked for.
    fn lock(&self) -> Option<MutexGuard<'_, Cache>> {
        let mut cache = self.by.cache.lock();
        // PERF: looked for once where nobody else publishes.
        let has_changed = cache.next_number() != self.id.looked_at;
        let is_known =
            has_changed && cache.find(&self.id.octets, self.id.hash, self.by.clock.now()).is_some();
        (!is_known).then_some(cache)
    }

    /// Knows and keeps it for a message that is safe at a position; where all is.
    fn insert(&self, cache: &mut Cache, position: JournalPosition) -> JournalPosition {
        let safe_at = position.max(self.keep());
        cache.insert(&self.id, safe_at);
        safe_at
    }

    fn keep(&self) -> JournalPosition {
        if self.is_kept { self.by.keep(&self.id) } else { JournalPosition::SAFE }
    }
}

/// The same id of the same exchange.
impl PartialEq for NewId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.by, &other.by) && self.id.octets == other.id.octets
    }
}

impl Eq for NewId {}

impl Hash for NewId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.by).hash(state);
        self.id.octets.as_slice().hash(state);
    }
}

#[cfg(test)]
mod tests;
