//! What is published: publish frames encoded once, with the properties and routing keys of the command line, and
//! written again and again. `load` describes a message, `producer` and `sink` write batches of it.

use std::ops::Range;
use std::str::FromStr;

use leveret_codec::frame::{self, FRAME_HEADER_SIZE};
use leveret_codec::method::{Method, basic};
use leveret_codec::properties::{ContentHeader, PROPERTIES_OFFSET, Properties};
use leveret_codec::table::{FieldTable, FieldTableRef};

use crate::wire::STAMP_BYTES;

/// One write carries at least this much if the load has it.
const BATCH_BYTES: usize = 64 * 1024;
/// Hexadecimal digits of a number that no other message has.
const UNIQUE_DIGITS: usize = 16;
/// Octets of a header frame's payload before the entries of the first property, a field table: flags and size.
const TABLE_OFFSET: usize = PROPERTIES_OFFSET + 2 + 4;
/// More keys would be a batch of several MiB, written from memory and not from the cache.
pub(crate) const ROUTING_KEYS_MAX: usize = 65_536;

/// A routing key, or several that are taken in turn, all of the same length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RoutingKeys {
    pattern: String,
    count: usize,
}

impl RoutingKeys {
    /// This key and no other.
    pub(crate) fn one(key: &str) -> Self {
        Self { pattern: key.to_owned(), count: 1 }
    }

    /// The keys in which `%d` is a number below `count`, with zeros before it.
    pub(crate) fn numbered(pattern: &str, count: usize) -> Self {
        Self { pattern: pattern.to_owned(), count: count.max(1) }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The key of this number, which may go past the count.
    pub(crate) fn key(&self, number: usize) -> String {
        self.fill(&self.pattern, number)
    }

    /// The same number in another pattern.
    pub(crate) fn fill(&self, pattern: &str, number: usize) -> String {
        let width = (self.count - 1).to_string().len();
        pattern.replace("%d", &format!("{:0width$}", number % self.count))
    }
}

impl Default for RoutingKeys {
    fn default() -> Self {
        Self::one("")
    }
}

/// The priorities of messages, taken in turn; none is no such property.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Priorities(Vec<u8>);

impl<const COUNT: usize> From<[u8; COUNT]> for Priorities {
    fn from(priorities: [u8; COUNT]) -> Self {
        Self(priorities.to_vec())
    }
}

impl FromStr for Priorities {
    type Err = String;

    /// Numbers and ranges, as in `0-9` and `1,5,9`.
    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u8>().map_err(|_| format!("{text:?} is not a priority"));
        let mut priorities = Vec::new();
        for part in text.split(',') {
            match part.split_once('-') {
                Some((first, last)) => priorities.extend(number(first)?..=number(last)?),
                None => priorities.push(number(part)?),
            }
        }
        if priorities.is_empty() { Err(format!("{text:?} goes down")) } else { Ok(Self(priorities)) }
    }
}

/// Properties beside the delivery mode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MessageProperties {
    /// Priorities, taken in turn.
    pub(crate) priorities: Priorities,
    /// Time to live in milliseconds.
    pub(crate) expiration: Option<u64>,
    /// Headers, the same in every message.
    pub(crate) headers: FieldTable,
    /// A header whose value no other message has.
    pub(crate) unique_header: Option<String>,
}

/// What a publish frame is made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct MessageShape {
    /// Exchange to publish to, empty for the default one.
    pub(crate) exchange: String,
    /// Routing keys, taken in turn.
    pub(crate) routing_keys: RoutingKeys,
    /// Body size in octets.
    pub(crate) size: usize,
    /// Delivery mode 2.
    pub(crate) persistent: bool,
    /// Further properties.
    pub(crate) properties: MessageProperties,
    /// As negotiated.
    pub(crate) frame_max: u32,
}

impl MessageShape {
    /// How many different messages there are before the first comes again.
    fn variants(&self) -> usize {
        let (keys, priorities) = (self.routing_keys.count(), self.properties.priorities.0.len().max(1));
        keys / greatest_common_divisor(keys, priorities) * priorities
    }

    /// The header frame's payload of the message with this number.
    fn header(&self, number: usize) -> Vec<u8> {
        let mut headers = self.properties.headers.clone();
        if let Some(name) = &self.properties.unique_header {
            // Last, where `MessageBatch` looks for it.
            headers.insert(name, "0".repeat(UNIQUE_DIGITS).as_str());
        }
        let entries = headers.encoded();
        let priorities = &self.properties.priorities.0;
        let expiration = self.properties.expiration.map(|milliseconds| milliseconds.to_string());
        let properties = Properties {
            // INVARIANT: the octets were encoded a line above.
            headers: (!headers.is_empty()).then(|| FieldTableRef::parse(&entries).expect("just encoded")),
            delivery_mode: self.persistent.then_some(2),
            priority: priorities.get(number % priorities.len().max(1)).copied(),
            expiration: expiration.as_ref().map(String::as_bytes),
            ..Properties::default()
        };
        let mut payload = Vec::new();
        ContentHeader { class_id: 60, body_size: self.size as u64, properties }.encode(&mut payload);
        payload
    }

    /// Where in a header frame's payload the digits of the unique header begin.
    fn unique_at(&self) -> Option<usize> {
        let name = self.properties.unique_header.as_ref()?;
        // Name and value have their sizes before them, one octet and four, and the value its type.
        Some(TABLE_OFFSET + self.properties.headers.encoded().len() + 1 + name.len() + 1 + 4)
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Many encoded messages of one length, written by the batch.
#[derive(Debug)]
pub(crate) struct MessageBatch {
    octets: Vec<u8>,
    message_bytes: usize,
    /// Messages in the batch.
    pub(crate) count: usize,
    /// Whether the messages differ, so that all parts of the batch have to be written in turn.
    varied: bool,
    /// The first message of the next write.
    cursor: usize,
    /// Where in a message its stamp lies; `None` if the body is too short for one.
    stamp_at: Option<usize>,
    /// Where in a deliver message its tag lies.
    tag_at: Option<usize>,
    /// Where in a message the digits lie that no other has.
    unique_at: Option<usize>,
}

impl MessageBatch {
    /// Publish frames: `count` of them, or as many as fill [`BATCH_BYTES`] and hold each variant equally often.
    pub(crate) fn publishing(shape: &MessageShape, count: Option<usize>) -> Self {
        let method = |out: &mut Vec<u8>, number: usize| {
            let publish = basic::Publish {
                exchange: &shape.exchange,
                routing_key: &shape.routing_keys.key(number),
                mandatory: false,
                immediate: false,
            };
            frame::encode_method(out, 1, &Method::BasicPublish(publish));
        };
        Self::new(method, shape, count)
    }

    /// Deliver frames as a broker sends them; the sink replays these.
    pub(crate) fn delivering(shape: &MessageShape, consumer_tag: &str) -> Self {
        let method = |out: &mut Vec<u8>, number: usize| {
            let deliver = basic::Deliver {
                consumer_tag,
                delivery_tag: 0,
                redelivered: false,
                exchange: &shape.exchange,
                routing_key: &shape.routing_keys.key(number),
            };
            frame::encode_method(out, 1, &Method::BasicDeliver(deliver));
        };
        let tag_at = FRAME_HEADER_SIZE + 4 + 1 + consumer_tag.len();
        Self { tag_at: Some(tag_at), ..Self::new(method, shape, None) }
    }

    fn new(method: impl Fn(&mut Vec<u8>, usize), shape: &MessageShape, count: Option<usize>) -> Self {
        let body = vec![b'.'; shape.size];
        let encode = |octets: &mut Vec<u8>, number: usize| {
            method(octets, number);
            let header_at = octets.len() + FRAME_HEADER_SIZE;
            frame::encode_frame(octets, frame::FrameType::Header, 1, &shape.header(number));
            let body_at = octets.len() + FRAME_HEADER_SIZE;
            frame::encode_body(octets, 1, &body, shape.frame_max);
            (header_at, body_at)
        };
        let mut message = Vec::new();
        let (header_at, body_at) = encode(&mut message, 0);
        let variants = shape.variants();
        let worthwhile = || BATCH_BYTES.div_ceil(message.len()).next_multiple_of(variants);
        let count = count.unwrap_or_else(worthwhile).max(1);
        let mut octets = Vec::with_capacity(count * message.len());
        for number in 0..count.min(variants) {
            encode(&mut octets, number);
        }
        while octets.len() < count * message.len() {
            let missing = count * message.len() - octets.len();
            octets.extend_from_within(..missing.min(variants * message.len()));
        }
        Self {
            message_bytes: message.len(),
            octets,
            count,
            varied: variants > 1,
            cursor: 0,
            stamp_at: (shape.size >= STAMP_BYTES).then_some(body_at),
            tag_at: None,
            unique_at: shape.unique_at().map(|at| header_at + at),
        }
    }

    /// Octets of one message with all its frames.
    pub(crate) fn message_bytes(&self) -> usize {
        self.message_bytes
    }

    /// The first message of the next write.
    #[inline]
    pub(crate) fn cursor(&self) -> usize {
        self.cursor
    }

    /// `count` messages from the cursor on were written: where messages differ, the next ones follow.
    #[inline]
    pub(crate) fn advance(&mut self, count: usize) {
        if self.varied {
            self.cursor = (self.cursor + count) % self.count;
        }
    }

    /// Writes a time and the mark of this run into the body of one message.
    #[inline]
    pub(crate) fn stamp(&mut self, index: usize, nanoseconds: u64, mark: u64) {
        let Some(offset) = self.stamp_at else { return };
        let at = index * self.message_bytes + offset;
        if let Some(stamp) = self.octets.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<STAMP_BYTES>) {
            *stamp = (u128::from(nanoseconds) << 64 | u128::from(mark)).to_be_bytes();
        }
    }

    /// Gives these messages the numbers from `first` on in the header that is to be unique, if there is one.
    #[inline]
    pub(crate) fn make_unique(&mut self, messages: Range<usize>, first: u64) {
        let Some(unique_at) = self.unique_at else { return };
        let octets = self.octets.get_mut(messages.start * self.message_bytes..).unwrap_or_default();
        let messages = octets.chunks_exact_mut(self.message_bytes).take(messages.len());
        for (index, message) in (0..).zip(messages) {
            if let Some(digits) =
                message.get_mut(unique_at..).and_then(<[u8]>::first_chunk_mut::<UNIQUE_DIGITS>)
            {
                *digits = hexadecimal(first.wrapping_add(index));
            }
        }
    }

    /// Numbers the deliveries of the batch from `first` on.
    pub(crate) fn number(&mut self, first: u64) {
        let Some(tag_at) = self.tag_at else { return };
        for (tag, message) in (first..).zip(self.octets.chunks_exact_mut(self.message_bytes)) {
            if let Some(field) = message.get_mut(tag_at..).and_then(<[u8]>::first_chunk_mut::<8>) {
                *field = tag.to_be_bytes();
            }
        }
    }

    /// Appends something that is to be written after the messages.
    pub(crate) fn append(&mut self, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
    }

    /// Where these messages lie.
    pub(crate) fn range(&self, messages: Range<usize>) -> Range<usize> {
        messages.start * self.message_bytes..messages.end * self.message_bytes
    }

    /// Where all messages and what was appended lie.
    pub(crate) fn range_with_appended(&self) -> Range<usize> {
        0..self.octets.len()
    }

    /// Where lies what was appended.
    pub(crate) fn range_of_appended(&self) -> Range<usize> {
        self.count * self.message_bytes..self.octets.len()
    }

    /// Octets ready to write.
    pub(crate) fn octets(&self, range: Range<usize>) -> &[u8] {
        self.octets.get(range).unwrap_or_default()
    }
}

/// A number in digits, with zeros before it.
#[inline]
fn hexadecimal(number: u64) -> [u8; UNIQUE_DIGITS] {
    let mut digits = [0; UNIQUE_DIGITS];
    for (shift, digit) in (0..).step_by(4).zip(digits.iter_mut().rev()) {
        #[expect(clippy::cast_possible_truncation, reason = "four bits at a time")]
        let value = (number >> shift) as u8 & 15;
        *digit = if value < 10 { b'0' + value } else { b'a' + value - 10 };
    }
    digits
}

#[cfg(test)]
mod tests {
    use leveret_codec::frame::{FrameType, decode_frame};
    use leveret_codec::table::FieldValueRef;

    use super::*;

    /// Routing key, priority, expiration and the value of header `id`.
    type Seen = (String, Option<u8>, Option<String>, Option<String>);

    fn published(batch: &MessageBatch) -> Vec<Seen> {
        let mut rest = batch.octets(batch.range(0..batch.count));
        let mut key = String::new();
        let mut messages = Vec::new();
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        while let Some((frame, used)) = decode_frame(rest, 131_072).unwrap() {
            if frame.frame_type == FrameType::Method {
                let Ok(Method::BasicPublish(publish)) = Method::decode(frame.payload) else {
                    panic!("a publish")
                };
                publish.routing_key.clone_into(&mut key);
            } else if frame.frame_type == FrameType::Header {
                let properties = ContentHeader::decode(frame.payload).unwrap().properties;
                let id = properties.headers.and_then(|headers| match headers.get("id") {
                    Some(FieldValueRef::LongString(octets)) => Some(text(octets)),
                    _ => None,
                });
                messages.push((key.clone(), properties.priority, properties.expiration.map(text), id));
            }
            rest = &rest[used..];
        }
        messages
    }

    fn shape() -> MessageShape {
        MessageShape { size: 16, frame_max: 131_072, ..MessageShape::default() }
    }

    #[test]
    fn keys_and_priorities_are_taken_in_turn() {
        let mut shape = shape();
        shape.routing_keys = RoutingKeys::numbered("key-%d", 12);
        shape.properties.priorities = "1-2".parse().unwrap();
        let batch = MessageBatch::publishing(&shape, None);
        assert_eq!(batch.count % 12, 0);
        let messages = published(&batch);
        assert_eq!(messages.len(), batch.count);
        assert_eq!((messages[0].0.as_str(), messages[0].1), ("key-00", Some(1)));
        assert_eq!((messages[11].0.as_str(), messages[11].1), ("key-11", Some(2)));
        assert_eq!(messages[12..24], messages[..12]);
    }

    #[test]
    fn the_cursor_wanders_only_if_messages_differ() {
        let mut same = MessageBatch::publishing(&shape(), Some(10));
        same.advance(4);
        assert_eq!(same.cursor(), 0);
        let routing_keys = RoutingKeys::numbered("%d", 10);
        let mut varied = MessageBatch::publishing(&MessageShape { routing_keys, ..shape() }, Some(10));
        varied.advance(4);
        assert_eq!(varied.cursor(), 4);
        varied.advance(6);
        assert_eq!(varied.cursor(), 0);
    }

    #[test]
    fn a_unique_header_is_numbered_in_its_place() {
        let mut shape = shape();
        shape.properties.headers.insert("x-delay", 5_i64);
        shape.properties.unique_header = Some("id".to_owned());
        shape.properties.expiration = Some(60_000);
        let mut batch = MessageBatch::publishing(&shape, Some(3));
        batch.make_unique(1..3, 0xff);
        let ids: Vec<_> = published(&batch).into_iter().map(|(_, _, _, id)| id.unwrap()).collect();
        assert_eq!(ids, ["0000000000000000", "00000000000000ff", "0000000000000100"]);
        assert_eq!(published(&batch)[0].2.as_deref(), Some("60000"));
    }

    #[test]
    fn the_stamp_lies_in_the_body_whatever_stands_before_it() {
        let mut shape = shape();
        shape.properties.headers.insert("a", "b");
        let mut batch = MessageBatch::publishing(&shape, Some(2));
        batch.stamp(1, 7, 9);
        let octets = batch.octets(batch.range(1..2));
        let body = &octets[octets.len() - 17..octets.len() - 1];
        assert_eq!(crate::wire::read_stamp(body, 9), Some(7));
    }

    #[test]
    fn priorities_are_numbers_and_ranges() {
        assert_eq!("0-2,9".parse(), Ok(Priorities(vec![0, 1, 2, 9])));
        for text in ["", "256", "9-1", "x", "1-"] {
            assert!(text.parse::<Priorities>().is_err(), "{text}");
        }
    }
}
