//! Messages as the broker keeps them: records in one buffer, in the form in which they go out again. A channel writes
//! what it receives into a [`MessageBatch`]; a queue takes the whole batch over; a consumer's channel copies a view.
//!
//! ```text
//! record:  flags u8 | properties varint | body varint | extras | exchange | routing key | properties | body
//!          flags: 1 persistent, 2 large body, 4 no properties (size and octets left out), 8 extras
//!          extras: length u8, then what extras.rs says; all of it left out without the flag
//!          exchange, routing key: short strings, length first; properties: flag word and values, as on the wire
//!          body: the octets; of a large one nothing, its slices are beside the buffer, its varint their index
//! ```

mod extras;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::limits::NAME_BYTES_MAX;
use crate::queue::QueueSpec;
use crate::store::JournalPosition;
use crate::time::Timestamp;
pub use extras::{EncodedExtras, Extras};

/// A body of [`LARGE_BODY_BYTES`](crate::limits::LARGE_BODY_BYTES) or more: the slices it arrived in, shared
/// between queues.
#[derive(Clone, Debug)]
pub struct LargeBody(Arc<[Bytes]>);

impl LargeBody {
    /// A body made of `slices` in order.
    #[must_use]
    pub fn new(slices: Vec<Bytes>) -> Self {
        Self(slices.into())
    }

    /// The slices, in order.
    #[must_use]
    pub fn slices(&self) -> &[Bytes] {
        &self.0
    }

    /// Octets in all slices together.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// Whether there is no octet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A message's body, borrowed.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// All octets in one piece.
    Small(&'a [u8]),
    /// A large body, shared.
    Large(&'a LargeBody),
}

impl Body<'_> {
    /// Octets of the body.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Small(octets) => octets.len(),
            Self::Large(body) => body.len(),
        }
    }

    /// Whether the body has no octet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The whole body in one piece, copied.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        match self {
            Self::Small(octets) => octets.to_vec(),
            Self::Large(body) => body.slices().concat(),
        }
    }
}

/// Exchange and routing key as a message carries them: two short strings. What is longer than one can be is cut off.
#[must_use]
pub fn names(exchange: &[u8], routing_key: &[u8]) -> Vec<u8> {
    let mut names = Vec::with_capacity(2 + exchange.len() + routing_key.len());
    for name in [exchange, routing_key] {
        let name = name.get(..NAME_BYTES_MAX).unwrap_or(name);
        // INVARIANT: it has at most 255 octets.
        names.push(name.len() as u8);
        names.extend_from_slice(name);
    }
    names
}

/// One message, borrowed from a batch or a queue.
#[derive(Clone, Copy, Debug)]
pub struct MessageView<'a> {
    /// Exchange and routing key as two short strings, length octets included.
    pub names: &'a [u8],
    /// Property flags and values as on the wire.
    pub properties: &'a [u8],
    /// The body.
    pub body: Body<'a>,
    /// Whether the publisher asked for delivery mode 2.
    pub persistent: bool,
    /// What the broker notes of it, see [`Extras`]; empty for most messages.
    pub extras: &'a [u8],
}

impl<'a> MessageView<'a> {
    /// When it expires, if it does.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        extras::expires_at(self.extras)
    }

    /// Name of the exchange the message was published to.
    #[must_use]
    pub fn exchange(&self) -> &'a [u8] {
        short_string(self.names).0
    }

    /// Routing key the message was published with.
    #[must_use]
    pub fn routing_key(&self) -> &'a [u8] {
        names_in(self.names).1
    }
}

/// Exchange and routing key from what [`names`] gives.
#[must_use]
pub fn names_in(names: &[u8]) -> (&[u8], &[u8]) {
    let (exchange, rest) = short_string(names);
    (exchange, short_string(rest).0)
}

/// Splits off the short string that `octets` begin with; what is missing reads as empty.
fn short_string(octets: &[u8]) -> (&[u8], &[u8]) {
    let Some((&length, rest)) = octets.split_first() else { return (&[], &[]) };
    rest.split_at_checked(usize::from(length)).unwrap_or((rest, &[]))
}

/// Where a message lies in its queue, kept by whoever has it unsettled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageRef {
    /// Place in the order of the queue: grows by one with each message published to it.
    pub position: u64,
    pub(crate) chunk: u32,
    /// Offset of the record in the chunk; the highest bit says that the message is persistent, so that
    /// a settlement knows it without reading the record again.
    pub(crate) place: u32,
    /// Octets of the body, for the same reason.
    pub(crate) body_bytes: u32,
    /// Level of a priority queue.
    pub(crate) level: u8,
    /// The broker took it for itself, and nobody had it before: put back, it is as it was.
    pub(crate) is_fresh: bool,
}

impl MessageRef {
    const PERSISTENT: u32 = 1 << 31;

    pub(crate) fn new(position: u64, chunk: u32, offset: u32, message: &MessageView<'_>) -> Self {
        // INVARIANT: a chunk is one batch or some CHUNK_BYTES, and a batch is what one read of a socket held.
        debug_assert!(offset < Self::PERSISTENT);
        let place = offset | if message.persistent { Self::PERSISTENT } else { 0 };
        // INVARIANT: a message is below 4 GiB by the broker's own limit.
        Self { position, chunk, place, body_bytes: message.body.len() as u32, level: 0, is_fresh: false }
    }

    pub(crate) fn offset(self) -> usize {
        (self.place & !Self::PERSISTENT) as usize
    }

    pub(crate) fn is_persistent(self) -> bool {
        self.place & Self::PERSISTENT != 0
    }
}

/// Flags and two varints of up to five octets.
const HEADER_BYTES_MAX: usize = 11;
const FLAG_PERSISTENT: u8 = 1;
const FLAG_LARGE: u8 = 2;
const FLAG_NO_PROPERTIES: u8 = 4;
const FLAG_EXTRAS: u8 = 8;

/// Properties of a message that has none: an empty flag word.
const NO_PROPERTIES: [u8; 2] = [0, 0];

/// Messages of one run of frames on their way to one queue, encoded as records.
#[derive(Debug, Default)]
pub struct MessageBatch {
    records: Vec<u8>,
    larges: Vec<Option<LargeBody>>,
    count: u32,
    body_bytes: u64,
    persistent: u32,
    /// The queue keeps transient messages as it does persistent ones.
    keeps_all: bool,
    /// Some message expires.
    expires: bool,
    /// Level of a priority queue that all of them go to.
    level: u8,
    /// Capacity of the buffer that was handed over last: the next one starts with it.
    expected_bytes: usize,
    /// Messages that the journal holds already, in order.
    shared: Vec<SharedRun>,
    /// Where it holds them.
    shared_at: JournalPosition,
}

/// Messages of a batch that other queues get as well, so that the journal holds them once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedRun {
    /// The first of them, counted in this batch.
    pub first: u32,
    /// The first of them, counted in the batch that was shared.
    pub shared_first: u32,
    /// How many there are.
    pub count: u32,
}

impl MessageBatch {
    /// An empty one for a level of a queue.
    #[must_use]
    pub fn for_level(queue: &QueueSpec, level: u8) -> Self {
        Self { level, keeps_all: queue.is_quorum(), ..Self::default() }
    }

    /// The level of a priority queue that its messages go to; 0 where there are no priorities.
    #[must_use]
    pub fn level(&self) -> u8 {
        self.level
    }

    /// Messages in the batch.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether the batch holds no message.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Appends a message that is also message `number` of a batch to be handed to
    /// [`Store::share`](crate::store::Store::share).
    pub fn push_shared(&mut self, message: &MessageView<'_>, number: u32) {
        let first = self.count;
        self.push(message);
        match self.shared.last_mut() {
            Some(run) if run.first + run.count == first && run.shared_first + run.count == number => {
                run.count += 1;
            }
            _ => self.shared.push(SharedRun { first, shared_first: number, count: 1 }),
        }
    }

    /// Notes where the journal holds what is shared.
    pub fn shared_at(&mut self, position: JournalPosition) {
        self.shared_at = position;
    }

    /// Messages that the journal holds already, and where; none in most batches.
    #[must_use]
    pub fn shared(&self) -> (JournalPosition, &[SharedRun]) {
        (self.shared_at, &self.shared)
    }

    /// How many of the messages are persistent.
    #[must_use]
    pub fn persistent(&self) -> usize {
        self.persistent as usize
    }

    /// Octets of all bodies together.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Whether any of the messages expires.
    #[must_use]
    pub fn expires(&self) -> bool {
        self.expires
    }

    /// Octets this batch keeps from going to its queue, large bodies left out.
    #[must_use]
    pub fn record_bytes(&self) -> usize {
        self.records.len()
    }

    /// The messages that are not shared, where some are.
    #[must_use]
    pub fn own(&self) -> Option<Self> {
        if self.shared.is_empty() {
            return None;
        }
        let is_shared =
            |index| self.shared.iter().any(|run| run.first <= index && index - run.first < run.count);
        let mut own = Self::default();
        (0..).zip(self.iter()).filter(|(index, _)| !is_shared(*index)).for_each(|(_, view)| own.push(&view));
        Some(own)
    }

    /// The batch in the form in which it is kept on disk.
    #[must_use]
    pub fn stored(&self) -> StoredRun<'_> {
        StoredRun::new(self.count, &self.records, &self.larges, None)
    }

    /// Whether a body in the batch is kept beside the buffer.
    pub(crate) fn has_large_bodies(&self) -> bool {
        !self.larges.is_empty()
    }

    /// Appends a message.
    ///
    /// The names are two short strings as a publish has them: their length octets say where they end.
    pub fn push(&mut self, message: &MessageView<'_>) {
        let (mut flags, properties) = match message.properties {
            properties if properties == NO_PROPERTIES => (FLAG_NO_PROPERTIES, &[][..]),
            properties => (0, properties),
        };
        let persistent = message.persistent || self.keeps_all;
        flags |= if persistent { FLAG_PERSISTENT } else { 0 };
        if !message.extras.is_empty() {
            flags |= FLAG_EXTRAS;
            self.expires |= message.expires_at().is_some();
        }
        let (body_number, octets) = match message.body {
            Body::Small(octets) => (octets.len(), octets),
            Body::Large(body) => {
                flags |= FLAG_LARGE;
                self.larges.push(Some(body.clone()));
                (self.larges.len() - 1, &[][..])
            }
        };
        let mut header = [flags; HEADER_BYTES_MAX];
        let mut length = 1;
        if flags & FLAG_NO_PROPERTIES == 0 {
            put_varint(&mut header, &mut length, properties.len());
        }
        put_varint(&mut header, &mut length, body_number);
        if self.records.capacity() == 0 {
            self.records.reserve(self.expected_bytes);
        }
        let extras_length = message.extras.len();
        self.records
            .reserve(length + 1 + extras_length + message.names.len() + properties.len() + octets.len());
        self.records.extend_from_slice(header.get(..length).unwrap_or_default());
        if extras_length > 0 {
            self.records.push(extras_length as u8);
            self.records.extend_from_slice(message.extras);
        }
        self.records.extend_from_slice(message.names);
        self.records.extend_from_slice(properties);
        self.records.extend_from_slice(octets);
        self.count += 1;
        self.persistent += u32::from(persistent);
        self.body_bytes += message.body.len() as u64;
    }

    /// Appends a message that expires at `at` if that is before its own time.
    pub fn push_expiring(&mut self, message: &MessageView<'_>, at: Option<Timestamp>) {
        let Some(at) = at else { return self.push(message) };
        let mut extras = Extras::decode(message.extras);
        extras.expires_at = Some(extras.expires_at.map_or(at, |own| own.min(at)));
        self.push(&MessageView { extras: extras.encode().as_slice(), ..*message });
    }

    /// Has messages that expire do so this many milliseconds later.
    pub fn postpone_expiry(&mut self, milliseconds: u64) {
        if !self.expires || milliseconds == 0 {
            return;
        }
        // What others share of it is in the same places afterwards.
        let postponed = Self { level: self.level, keeps_all: self.keeps_all, ..Self::default() };
        let before = std::mem::replace(self, postponed);
        for view in before.iter() {
            let mut extras = Extras::decode(view.extras);
            extras.expires_at = extras.expires_at.map(|at| at.after_ms(milliseconds));
            self.push(&MessageView { extras: extras.encode().as_slice(), ..view });
        }
        (self.expected_bytes, self.shared) = (before.expected_bytes, before.shared);
        self.shared_at = before.shared_at;
    }

    /// Appends a message to be kept until `at`. It does not expire before: that time begins when it is due.
    pub fn push_delayed(&mut self, message: &MessageView<'_>, at: Timestamp) {
        let extras = Extras { deliver_at: Some(at), expires_at: None, ..Extras::decode(message.extras) };
        self.push(&MessageView { extras: extras.encode().as_slice(), ..*message });
    }

    /// The messages, in order.
    pub fn iter(&self) -> impl Iterator<Item = MessageView<'_>> {
        let mut offset = 0;
        std::iter::from_fn(move || {
            let (view, next) = read_record(&self.records, &self.larges, offset)?;
            offset = next;
            Some(view)
        })
    }

    /// Empties the batch, its buffer kept for the next messages.
    pub fn clear(&mut self) {
        self.records.clear();
        self.larges.clear();
        self.count = 0;
        self.persistent = 0;
        self.expires = false;
        self.body_bytes = 0;
        self.shared.clear();
    }

    /// Gives an empty batch's buffer back, for a channel that goes idle.
    pub fn release_memory(&mut self) {
        if self.is_empty() {
            self.records = Vec::new();
            self.larges = Vec::new();
            self.shared = Vec::new();
        }
    }
}

/// Records of a queue one after another: what a chunk holds while it is in memory.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    records: Vec<u8>,
    larges: Vec<Option<LargeBody>>,
    large_bytes: usize,
    /// Records, settled ones included.
    pub(crate) count: u32,
    /// Which messages these are, counted from the chunk's first position, if some are missing between them.
    numbers: Option<Box<[u32]>>,
}

impl Contents {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { records: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// Octets of memory they hold.
    pub(crate) fn memory_bytes(&self) -> usize {
        let numbers = self.numbers.as_ref().map_or(0, |numbers| numbers.len() * size_of::<u32>());
        self.records.capacity() + self.large_bytes + numbers
    }

    /// Octets of records, large bodies left out.
    pub(crate) fn record_bytes(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn has_room_for(&self, batch: &MessageBatch) -> bool {
        !batch.has_large_bodies()
            && self.numbers.is_none()
            && self.records.len() + batch.records.len() <= self.records.capacity()
    }

    /// Copies a batch without large bodies behind what is there.
    pub(crate) fn append(&mut self, batch: &MessageBatch) {
        debug_assert!(!batch.has_large_bodies());
        self.records.extend_from_slice(&batch.records);
        self.count += batch.count;
    }

    /// Takes the batch itself over: by its buffer when that is well filled, else by an exact copy, so that
    /// neither octets are copied twice nor memory is kept for nothing.
    pub(crate) fn take(batch: &mut MessageBatch) -> Self {
        let larges = std::mem::take(&mut batch.larges);
        let large_bytes = larges.iter().flatten().map(LargeBody::len).sum();
        let records = if batch.records.len() * 2 >= batch.records.capacity() {
            batch.expected_bytes = batch.records.capacity();
            std::mem::take(&mut batch.records)
        } else {
            batch.records.as_slice().to_vec()
        };
        Self { records, larges, large_bytes, count: batch.count, numbers: None }
    }

    /// The messages of `batch` that are left, with their numbers.
    pub(crate) fn sparse(batch: MessageBatch, numbers: Vec<u32>) -> Self {
        let large_bytes = batch.larges.iter().flatten().map(LargeBody::len).sum();
        let is_dense = (0..).zip(&numbers).all(|(index, &number)| index == number);
        let numbers = if is_dense { None } else { Some(numbers.into()) };
        Self { records: batch.records, larges: batch.larges, large_bytes, count: batch.count, numbers }
    }

    /// What [`Self::stored`] wrote, read again; `None` if it cannot have been written so.
    pub(crate) fn from_stored(stored: &Bytes) -> Option<Self> {
        let (head, rest) = stored.split_first_chunk::<16>()?;
        let number =
            |at: usize| head.get(at..at + 4)?.first_chunk().map(|octets| u32::from_le_bytes(*octets));
        let (count, record_bytes) = (number(0)?, number(4)? as usize);
        let (number_count, large_count) = (number(8)? as usize, number(12)? as usize);
        let (numbers, rest) = rest.split_at_checked(number_count.checked_mul(4)?)?;
        let (lengths, rest) = rest.split_at_checked(large_count.checked_mul(4)?)?;
        let (records, _) = rest.split_at_checked(record_bytes)?;
        let mut larges = Vec::with_capacity(large_count);
        let mut large_bytes = 0;
        let mut at = stored.len() - rest.len() + record_bytes;
        for length in u32s(lengths) {
            if length == LARGE_MISSING {
                larges.push(None);
                continue;
            }
            let end = at.checked_add(length as usize).filter(|&end| end <= stored.len())?;
            larges.push(Some(LargeBody::new(vec![stored.slice(at..end)])));
            large_bytes += length as usize;
            at = end;
        }
        let numbers: Box<[u32]> = u32s(numbers).collect();
        let numbers = if numbers.is_empty() { None } else { Some(numbers) };
        if numbers.as_ref().is_some_and(|numbers| numbers.len() != count as usize) {
            return None;
        }
        Some(Self { records: records.to_vec(), larges, large_bytes, count, numbers })
    }

    /// The records in the form in which they are kept on disk.
    pub(crate) fn stored(&self) -> StoredRun<'_> {
        StoredRun::new(self.count, &self.records, &self.larges, self.numbers.as_deref())
    }

    /// The record at `offset`, and where the next one begins.
    pub(crate) fn read(&self, offset: usize) -> Option<(MessageView<'_>, usize)> {
        read_record(&self.records, &self.larges, offset)
    }

    /// Number of the `index`th record, counted from the chunk's first position.
    #[inline]
    pub(crate) fn number(&self, index: u32) -> u32 {
        match &self.numbers {
            None => index,
            Some(numbers) => numbers.get(index as usize).copied().unwrap_or(u32::MAX),
        }
    }

    /// Index and offset of the first record whose number is at least `number`.
    pub(crate) fn find(&self, number: u32) -> (u32, usize) {
        let (mut index, mut offset) = (0, 0);
        while index < self.count && self.number(index) < number {
            let Some(end) = record_end(&self.records, offset) else { break };
            offset = end;
            index += 1;
        }
        (index, offset)
    }

    /// The records, each with its number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, MessageView<'_>)> {
        let (mut index, mut offset) = (0, 0);
        std::iter::from_fn(move || {
            while index < self.count {
                let number = self.number(index);
                index += 1;
                let at = offset;
                offset = record_end(&self.records, at)?;
                // A large body that was let go of: its message is settled.
                let Some((view, _)) = self.read(at) else { continue };
                return Some((number, view));
            }
            None
        })
    }

    /// Lets go of a settled message's large body before its neighbours are settled too; the octets freed.
    pub(crate) fn release(&mut self, offset: usize) -> usize {
        if self.larges.is_empty() {
            return 0;
        }
        let freed = self.large_index(offset).and_then(|index| self.larges.get_mut(index)?.take());
        let freed = freed.map_or(0, |body| body.len());
        self.large_bytes -= freed;
        freed
    }

    /// Lets go of the large bodies from `offset` on; the octets freed.
    pub(crate) fn release_from(&mut self, mut offset: usize) -> usize {
        let mut freed = 0;
        while let Some(end) = self.end_of(offset) {
            freed += self.release(offset);
            offset = end;
        }
        freed
    }

    /// Where the record at `offset` ends.
    pub(crate) fn end_of(&self, offset: usize) -> Option<usize> {
        record_end(&self.records, offset)
    }

    /// Where the record at `offset` keeps its body, if that is a large one.
    fn large_index(&self, offset: usize) -> Option<usize> {
        let (&flags, mut rest) = self.records.get(offset..)?.split_first()?;
        if flags & FLAG_LARGE == 0 {
            return None;
        }
        if flags & FLAG_NO_PROPERTIES == 0 {
            varint(&mut rest)?;
        }
        varint(&mut rest)
    }

    /// Empties them for reuse, the memory kept.
    pub(crate) fn clear(&mut self) {
        self.records.clear();
        self.larges.clear();
        self.large_bytes = 0;
        self.count = 0;
        self.numbers = None;
    }
}

/// Messages in the form in which they are kept on disk, in pieces to be written one after another.
///
/// ```text
/// records u32 | octets of records u32 | numbers u32 | large bodies u32      little endian
/// numbers: u32 each, none if the messages follow one another without a gap
/// lengths of large bodies: u32 each, 2^32 - 1 for one whose message is settled
/// records | large bodies
/// ```
#[derive(Debug)]
pub struct StoredRun<'a> {
    head: Vec<u8>,
    records: &'a [u8],
    larges: &'a [Option<LargeBody>],
}

/// Length of a large body that was let go of.
const LARGE_MISSING: u32 = u32::MAX;

impl<'a> StoredRun<'a> {
    fn new(count: u32, records: &'a [u8], larges: &'a [Option<LargeBody>], numbers: Option<&[u32]>) -> Self {
        let numbers = numbers.unwrap_or_default();
        let mut head = Vec::with_capacity(16 + 4 * (numbers.len() + larges.len()));
        let counts = [count, records.len() as u32, numbers.len() as u32, larges.len() as u32];
        let length = |body: &Option<LargeBody>| body.as_ref().map_or(LARGE_MISSING, |body| body.len() as u32);
        for number in counts.into_iter().chain(numbers.iter().copied()).chain(larges.iter().map(length)) {
            head.extend_from_slice(&number.to_le_bytes());
        }
        Self { head, records, larges }
    }

    /// What comes first, to be copied: the numbers, then the records.
    #[must_use]
    pub fn small_parts(&self) -> [&[u8]; 2] {
        [&self.head, self.records]
    }

    /// What comes behind: the slices of the large bodies.
    pub fn bodies(&self) -> impl Iterator<Item = &'a Bytes> {
        self.larges.iter().flatten().flat_map(|body| body.slices())
    }

    /// Octets of all pieces.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.records.len() + self.bodies().map(Bytes::len).sum::<usize>()
    }

    /// Never: there is always a head.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// What a stored run says of one of its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Which message it is, counted from the position that the run begins at.
    pub number: u32,
    /// Whether it was published with delivery mode 2.
    pub persistent: bool,
    /// Whether its body is there: a large one is left out once its message is settled.
    pub has_body: bool,
    /// Octets of its body; 0 if that is not there.
    pub body_bytes: u64,
    /// Whether it expires.
    pub expires: bool,
}

/// The messages of a [`StoredRun`], in order; `None` if not every octet of it reads as it must have been written.
#[must_use]
pub fn verify_stored(stored: &Bytes) -> Option<Vec<StoredMessage>> {
    let contents = Contents::from_stored(stored)?;
    let mut messages: Vec<StoredMessage> = Vec::new();
    let mut offset = 0;
    for index in 0..contents.count {
        let end = contents.end_of(offset)?;
        let flags = *contents.records.get(offset)?;
        let number = contents.number(index);
        if messages.last().is_some_and(|last| last.number >= number) {
            return None;
        }
        let has_body = match contents.large_index(offset) {
            Some(large) => contents.larges.get(large)?.is_some(),
            None => true,
        };
        let view = contents.read(offset).map(|(view, _)| view);
        messages.push(StoredMessage {
            number,
            persistent: flags & FLAG_PERSISTENT != 0,
            has_body,
            body_bytes: view.map_or(0, |view| view.body.len() as u64),
            expires: view.is_some_and(|view| view.expires_at().is_some()),
        });
        offset = end;
    }
    let is_all = offset == contents.records.len() && contents.stored().len() == stored.len();
    is_all.then_some(messages)
}

/// The messages of a [`StoredRun`] whose numbers are in `numbers`, as a run of their own that begins at the position
/// of `numbers.start`; `None` if the run does not read.
#[must_use]
pub fn part_of_stored(stored: &Bytes, numbers: Range<u32>) -> Option<Vec<u8>> {
    let contents = Contents::from_stored(stored)?;
    let mut batch = MessageBatch::default();
    let mut kept = Vec::new();
    for (number, view) in contents.iter().filter(|(number, _)| numbers.contains(number)) {
        batch.push(&view);
        kept.push(number - numbers.start);
    }
    let part = Contents::sparse(batch, kept);
    let run = part.stored();
    let mut octets = run.small_parts().concat();
    run.bodies().for_each(|body| octets.extend_from_slice(body));
    Some(octets)
}

fn u32s(octets: &[u8]) -> impl Iterator<Item = u32> {
    octets.chunks_exact(4).filter_map(|octets| octets.first_chunk().map(|octets| u32::from_le_bytes(*octets)))
}

/// Reads the record at `offset`; `None` at the end. Records come from [`MessageBatch::push`] alone, so a
/// record that does not fit can only be a fault of ours: it reads as the end instead of a panic.
#[inline]
fn read_record<'a>(
    records: &'a [u8],
    larges: &'a [Option<LargeBody>],
    offset: usize,
) -> Option<(MessageView<'a>, usize)> {
    let (&flags, mut rest) = records.get(offset..)?.split_first()?;
    let no_properties = flags & FLAG_NO_PROPERTIES != 0;
    let properties_length = if no_properties { 0 } else { varint(&mut rest)? };
    let body_number = varint(&mut rest)?;
    let mut extras = &[][..];
    if flags & FLAG_EXTRAS != 0 {
        let (&length, behind) = rest.split_first()?;
        (extras, rest) = behind.split_at_checked(usize::from(length))?;
    }
    let exchange_length = 1 + usize::from(*rest.first()?);
    let names_length = exchange_length + 1 + usize::from(*rest.get(exchange_length)?);
    let (names, rest) = rest.split_at_checked(names_length)?;
    let (properties, mut rest) = rest.split_at_checked(properties_length)?;
    let body = if flags & FLAG_LARGE == 0 {
        let (octets, behind) = rest.split_at_checked(body_number)?;
        rest = behind;
        Body::Small(octets)
    } else {
        Body::Large(larges.get(body_number)?.as_ref()?)
    };
    let properties = if no_properties { &NO_PROPERTIES } else { properties };
    let message = MessageView { names, properties, body, persistent: flags & FLAG_PERSISTENT != 0, extras };
    Some((message, records.len() - rest.len()))
}

/// Where the record at `offset` ends, be its body there or not.
fn record_end(records: &[u8], offset: usize) -> Option<usize> {
    let (&flags, mut rest) = records.get(offset..)?.split_first()?;
    let properties_length = if flags & FLAG_NO_PROPERTIES != 0 { 0 } else { varint(&mut rest)? };
    let body_number = varint(&mut rest)?;
    if flags & FLAG_EXTRAS != 0 {
        let (&length, behind) = rest.split_first()?;
        rest = behind.get(usize::from(length)..)?;
    }
    let exchange_length = 1 + usize::from(*rest.first()?);
    let names_length = exchange_length + 1 + usize::from(*rest.get(exchange_length)?);
    let body_length = if flags & FLAG_LARGE == 0 { body_number } else { 0 };
    let rest = rest.get(names_length..)?.get(properties_length..)?.get(body_length..)?;
    Some(records.len() - rest.len())
}

/// Appends seven bits an octet, lowest first; the highest bit says that more follow. Five octets hold any
/// number that a frame can carry.
fn put_varint(header: &mut [u8; HEADER_BYTES_MAX], length: &mut usize, mut number: usize) {
    loop {
        let more = number > 0x7f;
        if let Some(octet) = header.get_mut(*length) {
            *octet = (number & 0x7f) as u8 | if more { 0x80 } else { 0 };
        }
        *length += 1;
        number >>= 7;
        if !more {
            return;
        }
    }
}

#[inline]
fn varint(octets: &mut &[u8]) -> Option<usize> {
    let mut number = 0;
    for shift in (0..35).step_by(7) {
        let (&octet, rest) = octets.split_first()?;
        *octets = rest;
        number |= usize::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<'a>(body: Body<'a>, persistent: bool) -> MessageView<'a> {
        MessageView { names: b"\x02ex\x03key", properties: b"\x10\x00\x02", body, persistent, extras: b"" }
    }

    #[test]
    fn a_batch_gives_back_what_was_pushed() {
        let large = LargeBody::new(vec![Bytes::from(vec![7; 20_000]), Bytes::from(vec![8; 5])]);
        let mut batch = MessageBatch::default();
        batch.push(&message(Body::Small(b"one"), false));
        batch.push(&message(Body::Large(&large), true));
        batch.push(&message(Body::Small(b""), true));
        let seen: Vec<_> = batch.iter().map(|view| (view.persistent, view.body.to_vec())).collect();
        assert_eq!(seen[0], (false, b"one".to_vec()));
        assert_eq!((seen[1].0, seen[1].1.len(), seen[1].1[20_004]), (true, 20_005, 8));
        assert_eq!(seen[2], (true, vec![]));
        assert_eq!((batch.len(), batch.persistent(), batch.body_bytes()), (3, 2, 20_008));
        let first = batch.iter().next().unwrap();
        assert_eq!((first.exchange(), first.routing_key()), (&b"ex"[..], &b"key"[..]));
    }

    #[test]
    fn what_expires_can_do_so_later_and_all_else_stays() {
        let large = LargeBody::new(vec![Bytes::from(vec![7; 20_000])]);
        let mut batch = MessageBatch { level: 3, ..MessageBatch::default() };
        batch.push_shared(&message(Body::Small(b"shared"), true), 5);
        batch.push_expiring(&message(Body::Large(&large), true), Some(Timestamp(100)));
        batch.push_expiring(&message(Body::Small(b"never"), false), Some(Timestamp(u64::MAX)));
        let (shared, octets) = (batch.shared().1.to_vec(), batch.body_bytes());
        batch.postpone_expiry(50);
        let expire: Vec<_> = batch.iter().map(|view| view.expires_at()).collect();
        assert_eq!(expire, [None, Some(Timestamp(150)), Some(Timestamp(u64::MAX))]);
        assert_eq!((batch.shared().1, batch.body_bytes(), batch.level()), (&*shared, octets, 3));
        assert!(batch.expires() && batch.persistent() == 2 && batch.has_large_bodies());
    }

    #[test]
    fn a_settled_large_body_leaves_its_chunk_at_once() {
        let large = LargeBody::new(vec![Bytes::from(vec![7; 20_000])]);
        let mut batch = MessageBatch::default();
        batch.push(&message(Body::Large(&large), false));
        batch.push(&message(Body::Small(b"x"), false));
        let mut contents = Contents::take(&mut batch);
        assert!(contents.memory_bytes() > 20_000);
        contents.release(0);
        assert!(contents.memory_bytes() < 1_000);
        let bodies: Vec<_> = contents.iter().map(|(number, view)| (number, view.body.to_vec())).collect();
        assert_eq!(bodies, [(1, b"x".to_vec())]);
    }

    fn bytes_of(stored: &StoredRun<'_>) -> Bytes {
        let mut octets = stored.small_parts().concat();
        stored.bodies().for_each(|body| octets.extend_from_slice(body));
        assert_eq!(octets.len(), stored.len());
        octets.into()
    }

    #[test]
    fn what_was_stored_reads_the_same() {
        let large = LargeBody::new(vec![Bytes::from(vec![7; 20_000]), Bytes::from(vec![8; 5])]);
        let mut batch = MessageBatch::default();
        batch.push(&message(Body::Small(b"one"), false));
        batch.push(&message(Body::Large(&large), true));
        batch.push(&message(Body::Large(&large), true));
        batch.push(&message(Body::Small(b""), true));
        let mut contents = Contents::take(&mut batch);
        let (_, second) = contents.find(1);
        contents.release(second);
        contents.numbers = Some([3, 4, 9, 10].into());
        let seen = |contents: &Contents| -> Vec<_> {
            contents.iter().map(|(number, view)| (number, view.persistent, view.body.to_vec())).collect()
        };
        let stored = bytes_of(&contents.stored());
        let again = Contents::from_stored(&stored).unwrap();
        assert_eq!(seen(&again), seen(&contents));
        assert_eq!(seen(&again).iter().map(|(number, ..)| *number).collect::<Vec<_>>(), [3, 9, 10]);
        for length in 0..stored.len() {
            assert!(Contents::from_stored(&stored.slice(..length)).is_none());
        }
    }

    #[test]
    fn what_was_stored_is_told_message_by_message_and_in_parts() {
        let large = LargeBody::new(vec![Bytes::from(vec![7; 20_000])]);
        let mut batch = MessageBatch::default();
        batch.push(&message(Body::Small(b"one"), false));
        batch.push(&message(Body::Large(&large), true));
        batch.push(&message(Body::Small(b""), true));
        let mut contents = Contents::take(&mut batch);
        contents.numbers = Some([3, 4, 9].into());
        let (_, large_at) = contents.find(4);
        let of = |number, persistent, has_body, body_bytes| {
            let expires = false;
            StoredMessage { number, persistent, has_body, body_bytes, expires }
        };
        let stored = bytes_of(&contents.stored());
        let told = verify_stored(&stored).unwrap();
        assert_eq!(told, [of(3, false, true, 3), of(4, true, true, 20_000), of(9, true, true, 0)]);
        let part = Bytes::from(part_of_stored(&stored, 4..10).unwrap());
        assert_eq!(verify_stored(&part).unwrap(), [of(0, true, true, 20_000), of(5, true, true, 0)]);
        let bodies: Vec<_> =
            Contents::from_stored(&part).unwrap().iter().map(|(_, view)| view.body.len()).collect();
        assert_eq!(bodies, [20_000, 0]);
        contents.release(large_at);
        let stored = bytes_of(&contents.stored());
        assert_eq!(verify_stored(&stored).unwrap()[1], of(4, true, false, 0));
        for length in 0..stored.len() {
            assert!(verify_stored(&stored.slice(..length)).is_none());
        }
        let longer = Bytes::from([&stored[..], b"x"].concat());
        assert!(verify_stored(&longer).is_none());
    }
}
