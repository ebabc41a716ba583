//! Messages as the broker keeps them: records in one contiguous buffer, in the form in which they go
//! out again. A channel writes what it receives into a [`MessageBatch`]; a queue takes the whole batch
//! over; a consumer's channel reads a [`MessageView`] and copies it behind its frame headers.
//!
//! ```text
//! record:  flags u8 | properties varint | body varint | exchange | routing key | properties | body
//!          flags: 1 persistent, 2 large body, 4 no properties (their size and octets are left out)
//!          exchange and routing key: short strings (length octet first), as basic.deliver wants them
//!          properties: flag word and values, as a content header ends
//!          body: the octets, or for a large body nothing: its slices are kept beside the buffer, and
//!          its varint is their index
//! ```

use std::sync::Arc;

use bytes::Bytes;

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
}

impl<'a> MessageView<'a> {
    /// Name of the exchange the message was published to.
    #[must_use]
    pub fn exchange(&self) -> &'a [u8] {
        short_string(self.names).0
    }

    /// Routing key the message was published with.
    #[must_use]
    pub fn routing_key(&self) -> &'a [u8] {
        short_string(short_string(self.names).1).0
    }
}

/// Splits off the short string that `octets` begin with; what is missing reads as empty.
fn short_string(octets: &[u8]) -> (&[u8], &[u8]) {
    let Some((&length, rest)) = octets.split_first() else { return (&[], &[]) };
    rest.split_at_checked(usize::from(length)).unwrap_or((rest, &[]))
}

/// Where a message lies in its queue, kept by whoever has it unsettled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageRef {
    /// Place in the order of the queue: grows by one with each message published to it.
    pub position: u64,
    pub(crate) chunk: u32,
    /// Offset of the record in the chunk; the highest bit says that the message is persistent, so that
    /// a settlement knows it without reading the record again.
    place: u32,
}

impl MessageRef {
    const PERSISTENT: u32 = 1 << 31;

    pub(crate) fn new(position: u64, chunk: u32, offset: u32, persistent: bool) -> Self {
        // INVARIANT: a chunk is one batch or some CHUNK_BYTES, and a batch is what one read of a socket held.
        debug_assert!(offset < Self::PERSISTENT);
        Self { position, chunk, place: offset | if persistent { Self::PERSISTENT } else { 0 } }
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
    /// Capacity of the buffer that was handed over last: the next one starts with it.
    expected_bytes: usize,
}

impl MessageBatch {
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

    /// Octets this batch keeps from going to its queue, large bodies left out.
    #[must_use]
    pub fn record_bytes(&self) -> usize {
        self.records.len()
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
        flags |= if message.persistent { FLAG_PERSISTENT } else { 0 };
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
        self.records.reserve(length + message.names.len() + properties.len() + octets.len());
        self.records.extend_from_slice(header.get(..length).unwrap_or_default());
        self.records.extend_from_slice(message.names);
        self.records.extend_from_slice(properties);
        self.records.extend_from_slice(octets);
        self.count += 1;
        self.persistent += u32::from(message.persistent);
        self.body_bytes += message.body.len() as u64;
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
        self.body_bytes = 0;
    }

    /// Gives an empty batch's buffer back, for a channel that goes idle.
    pub fn release_memory(&mut self) {
        if self.is_empty() {
            self.records = Vec::new();
            self.larges = Vec::new();
        }
    }
}

/// A piece of a queue's memory: records one after another, given back when all are settled.
#[derive(Debug, Default)]
pub(crate) struct Chunk {
    records: Vec<u8>,
    larges: Vec<Option<LargeBody>>,
    large_bytes: usize,
    /// Messages in the chunk, settled ones included.
    pub(crate) count: u32,
    /// Messages in the chunk that are ready or unacked.
    pub(crate) live: u32,
}

impl Chunk {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { records: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// Octets of memory the chunk holds.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.records.capacity() + self.large_bytes
    }

    pub(crate) fn has_room_for(&self, batch: &MessageBatch) -> bool {
        !batch.has_large_bodies() && self.records.len() + batch.records.len() <= self.records.capacity()
    }

    /// Copies a batch without large bodies behind what is there.
    pub(crate) fn append(&mut self, batch: &MessageBatch) {
        debug_assert!(!batch.has_large_bodies());
        self.records.extend_from_slice(&batch.records);
        self.count += batch.count;
        self.live += batch.count;
    }

    /// Makes the batch itself a chunk: by handing over its buffer when that is well filled, else by an
    /// exact copy, so that neither octets are copied twice nor memory is kept for nothing.
    pub(crate) fn take(batch: &mut MessageBatch) -> Self {
        let larges = std::mem::take(&mut batch.larges);
        let large_bytes = larges.iter().flatten().map(LargeBody::len).sum();
        let records = if batch.records.len() * 2 >= batch.records.capacity() {
            batch.expected_bytes = batch.records.capacity();
            std::mem::take(&mut batch.records)
        } else {
            batch.records.as_slice().to_vec()
        };
        Self { records, larges, large_bytes, count: batch.count, live: batch.count }
    }

    /// The record at `offset`, and where the next one begins.
    pub(crate) fn read(&self, offset: usize) -> Option<(MessageView<'_>, usize)> {
        read_record(&self.records, &self.larges, offset)
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

    /// Empties the chunk for reuse, its memory kept.
    pub(crate) fn clear(&mut self) {
        self.records.clear();
        self.larges.clear();
        self.large_bytes = 0;
        self.count = 0;
        self.live = 0;
    }
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
    let message = MessageView { names, properties, body, persistent: flags & FLAG_PERSISTENT != 0 };
    Some((message, records.len() - rest.len()))
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
        MessageView { names: b"\x02ex\x03key", properties: b"\x10\x00\x02", body, persistent }
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
    fn a_settled_large_body_leaves_its_chunk_at_once() {
        let large = LargeBody::new(vec![Bytes::from(vec![7; 20_000])]);
        let mut batch = MessageBatch::default();
        batch.push(&message(Body::Large(&large), false));
        batch.push(&message(Body::Small(b"x"), false));
        let mut chunk = Chunk::take(&mut batch);
        assert!(chunk.memory_bytes() > 20_000);
        chunk.release(0);
        assert!(chunk.memory_bytes() < 1_000);
    }
}
