//! Messages as the broker keeps them: records in one contiguous buffer, in the form in which they go
//! out again. A channel writes what it receives into a [`MessageBatch`]; a queue takes the whole batch
//! over; a consumer's channel reads a [`MessageView`] and copies it behind its frame headers.
//!
//! ```text
//! record:  names u16 | flags u8 | properties u32 | body u32 | exchange | routing key | properties | body
//!          exchange and routing key: short strings (length octet first), as basic.deliver wants them
//!          properties: flag word and values, as a content header ends
//!          body: the octets, or for a large body nothing: its slices are kept beside the buffer
//! ```

use std::sync::Arc;

use bytes::Bytes;

/// A body of [`LARGE_BODY_BYTES`](crate::limits::LARGE_BODY_BYTES) or more: the slices it arrived in, shared between queues.
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

const HEADER_BYTES: usize = 11;
const FLAG_PERSISTENT: u8 = 1;
const FLAG_LARGE: u8 = 2;

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
    /// Names longer than two short strings, or properties or small bodies of 4 GiB, cannot come out of a frame;
    /// they are cut rather than written wrong.
    pub fn push(&mut self, message: &MessageView<'_>) {
        let names = &message.names[..message.names.len().min(usize::from(u16::MAX))];
        let properties = message.properties;
        let mut flags = if message.persistent { FLAG_PERSISTENT } else { 0 };
        let body_length = match message.body {
            Body::Small(octets) => octets.len(),
            Body::Large(body) => {
                flags |= FLAG_LARGE;
                self.larges.push(Some(body.clone()));
                self.larges.len() - 1
            }
        };
        if self.records.capacity() == 0 {
            self.records.reserve(self.expected_bytes);
        }
        let mut header = [0; HEADER_BYTES];
        header[..2].copy_from_slice(&(names.len() as u16).to_le_bytes());
        header[2] = flags;
        header[3..7].copy_from_slice(&(properties.len() as u32).to_le_bytes());
        header[7..].copy_from_slice(&(body_length as u32).to_le_bytes());
        self.records.extend_from_slice(&header);
        self.records.extend_from_slice(names);
        self.records.extend_from_slice(properties);
        if let Body::Small(octets) = message.body {
            self.records.extend_from_slice(octets);
        }
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
            self.expected_bytes = 0;
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

    /// Lets go of a settled message's large body before its neighbours are settled too.
    pub(crate) fn release(&mut self, offset: usize) {
        if self.larges.is_empty() {
            return;
        }
        let Some(header) = self.records.get(offset..offset + HEADER_BYTES) else { return };
        if header[2] & FLAG_LARGE != 0 {
            let index = u32::from_le_bytes([header[7], header[8], header[9], header[10]]) as usize;
            if let Some(body) = self.larges.get_mut(index).and_then(Option::take) {
                self.large_bytes -= body.len();
            }
        }
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
fn read_record<'a>(
    records: &'a [u8],
    larges: &'a [Option<LargeBody>],
    offset: usize,
) -> Option<(MessageView<'a>, usize)> {
    let (header, rest) = records.get(offset..)?.split_first_chunk::<HEADER_BYTES>()?;
    let names_length = usize::from(u16::from_le_bytes([header[0], header[1]]));
    let flags = header[2];
    let properties_length = u32::from_le_bytes([header[3], header[4], header[5], header[6]]) as usize;
    let body_length = u32::from_le_bytes([header[7], header[8], header[9], header[10]]) as usize;
    let (names, rest) = rest.split_at_checked(names_length)?;
    let (properties, rest) = rest.split_at_checked(properties_length)?;
    let mut next = offset + HEADER_BYTES + names_length + properties_length;
    let body = if flags & FLAG_LARGE != 0 {
        Body::Large(larges.get(body_length)?.as_ref()?)
    } else {
        next += body_length;
        Body::Small(rest.get(..body_length)?)
    };
    Some((MessageView { names, properties, body, persistent: flags & FLAG_PERSISTENT != 0 }, next))
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
