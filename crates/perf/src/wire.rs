//! The hot side of the wire: frame boundaries in a large read buffer, stamps and acks. `client`,
//! `producer`, `consumer` and `sink` read and write through this; nothing here knows what a connection is for.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use leveret_codec::frame::{FRAME_END, FRAME_HEADER_SIZE, FRAME_OVERHEAD};

use crate::error::Error;

/// Read buffer of a connection under load. Measured: smaller costs system calls, larger leaves the cache.
pub(crate) const READ_BUFFER_BYTES: usize = 256 * 1024;
/// Read buffer of a connection that only opens, declares and closes; `connection.start` must fit.
pub(crate) const COLD_BUFFER_BYTES: usize = 16 * 1024;
/// Octets of a body that carry the time stamp: eight of time, eight that say whose it is.
pub(crate) const STAMP_BYTES: usize = 16;

pub(crate) const METHOD: u8 = 1;
pub(crate) const HEADER: u8 = 2;
pub(crate) const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;

/// Class and method as one number, the way they lie in the first four octets of a method frame.
pub(crate) const BASIC_PUBLISH: u32 = 60 << 16 | 40;
pub(crate) const BASIC_DELIVER: u32 = 60 << 16 | 60;
pub(crate) const BASIC_ACK: u32 = 60 << 16 | 80;
pub(crate) const BASIC_NACK: u32 = 60 << 16 | 120;
pub(crate) const TX_COMMIT_OK: u32 = 90 << 16 | 21;
pub(crate) const CONNECTION_CLOSE_OK: u32 = 10 << 16 | 51;
pub(crate) const CONNECTION_BLOCKED: u32 = 10 << 16 | 60;

/// A frame as it lies in the read buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawFrame<'a> {
    /// Frame type octet.
    pub(crate) kind: u8,
    /// Channel number.
    pub(crate) channel: u16,
    /// The payload; of a body frame possibly only its beginning (see [`FrameReader::new`]).
    pub(crate) payload: &'a [u8],
}

impl RawFrame<'_> {
    /// Class and method of a method frame; zero for any other.
    pub(crate) fn method(&self) -> u32 {
        match (self.kind, self.payload.first_chunk::<4>()) {
            (METHOD, Some(id)) => u32::from_be_bytes(*id),
            _ => 0,
        }
    }

    /// Delivery tag and `multiple` of a basic.ack or basic.nack.
    pub(crate) fn settlement(&self) -> Option<(u64, bool)> {
        let arguments = self.payload.get(4..)?;
        let tag = u64::from_be_bytes(*arguments.first_chunk::<8>()?);
        Some((tag, arguments.get(8)? & 1 == 1))
    }

    /// Delivery tag of a basic.deliver: it follows the consumer tag.
    pub(crate) fn delivery_tag(&self) -> Option<u64> {
        let consumer_tag_size = usize::from(*self.payload.get(4)?);
        let tag = self.payload.get(5 + consumer_tag_size..)?.first_chunk::<8>()?;
        Some(u64::from_be_bytes(*tag))
    }
}

/// Finds frames in what a socket gives, without looking into them.
#[derive(Debug)]
pub(crate) struct FrameReader {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    /// Octets of a body frame that was handed out by its beginning and is still arriving.
    skip: usize,
    whole_bodies: bool,
}

impl FrameReader {
    /// Hands out body frames as soon as their first [`STAMP_BYTES`] are there and throws the rest
    /// away as it comes, so that a body may be larger than the buffer.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { buffer: vec![0; capacity].into(), start: 0, end: 0, skip: 0, whole_bodies: false }
    }

    /// Hands out only whole frames.
    pub(crate) fn with_whole_bodies(capacity: usize) -> Self {
        Self { whole_bodies: true, ..Self::new(capacity) }
    }

    /// Goes on with a larger buffer, keeping what has been read.
    pub(crate) fn grow(&mut self, capacity: usize) {
        let mut larger = vec![0; capacity.max(self.buffer.len())];
        if let (Some(target), Some(held)) =
            (larger.get_mut(..self.end - self.start), self.buffer.get(self.start..self.end))
        {
            target.copy_from_slice(held);
        }
        self.end -= self.start;
        self.start = 0;
        self.buffer = larger.into();
    }

    /// One read. The end of the stream is an error: nobody here expects it.
    pub(crate) fn fill(&mut self, source: &mut impl Read) -> io::Result<usize> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let free = self.buffer.get_mut(self.end..).unwrap_or_default();
        let count = source.read(free)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.end += count;
        if self.skip > 0 {
            let skipped = self.skip.min(count);
            self.skip -= skipped;
            self.start += skipped;
        }
        Ok(count)
    }

    /// The next frame, or `None` when more must be read first.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<RawFrame<'_>>, Error> {
        let held = self.buffer.get(self.start..self.end).unwrap_or_default();
        let Some(&[kind, c0, c1, s0, s1, s2, s3]) = held.first_chunk::<FRAME_HEADER_SIZE>() else {
            return Ok(None);
        };
        if !matches!(kind, METHOD | HEADER | BODY | HEARTBEAT) {
            return Err(not_a_frame(held));
        }
        let channel = u16::from_be_bytes([c0, c1]);
        let size = u32::from_be_bytes([s0, s1, s2, s3]) as usize;
        let whole = size + FRAME_OVERHEAD;
        let after_header = held.get(FRAME_HEADER_SIZE..).unwrap_or_default();
        if let Some((payload, [FRAME_END, ..])) = after_header.split_at_checked(size) {
            self.start += whole;
            return Ok(Some(RawFrame { kind, channel, payload }));
        }
        if after_header.len() > size {
            return Err(not_a_frame(held));
        }
        if kind == BODY && !self.whole_bodies && after_header.len() >= size.min(STAMP_BYTES) {
            self.skip = whole - held.len();
            self.start = self.end;
            return Ok(Some(RawFrame { kind, channel, payload: after_header }));
        }
        if whole > self.buffer.len() {
            return Err(Error::Protocol(format!("a frame of {size} octets, more than was negotiated")));
        }
        Ok(None)
    }
}

/// Kept apart so that the hot path above stays small.
#[cold]
fn not_a_frame(held: &[u8]) -> Error {
    let beginning = held.get(..held.len().min(16)).unwrap_or_default();
    Error::Protocol(format!(
        "octets that are no AMQP 0-9-1 frame: {:?}",
        beginning.escape_ascii().to_string()
    ))
}

/// The time in a stamped body, if this run wrote it.
#[inline]
pub(crate) fn read_stamp(body: &[u8], mark: u64) -> Option<u64> {
    let stamp = u128::from_be_bytes(*body.first_chunk::<STAMP_BYTES>()?);
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the stamp are taken apart")]
    let (nanoseconds, whose) = ((stamp >> 64) as u64, stamp as u64);
    (whose == mark && nanoseconds != 0).then_some(nanoseconds)
}

/// A basic.ack as one whole frame.
pub(crate) fn push_ack(out: &mut Vec<u8>, channel: u16, delivery_tag: u64, multiple: bool) {
    let mut octets = [0; 21];
    let [kind, c0, c1, _, _, _, size, _, class, _, method, tag @ .., flags, end] = &mut octets;
    [*c0, *c1] = channel.to_be_bytes();
    (*kind, *size, *class, *method) = (METHOD, 13, 60, 80);
    tag.copy_from_slice(&delivery_tag.to_be_bytes());
    (*flags, *end) = (u8::from(multiple), FRAME_END);
    out.extend_from_slice(&octets);
}

/// True for the errors by which a socket with a time limit says "not yet".
pub(crate) fn is_not_yet(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// Writes until everything is out or `stopped` says so each time the socket makes it wait; returns
/// how many octets went out.
pub(crate) fn write_while(
    stream: &mut TcpStream,
    octets: &[u8],
    mut stopped: impl FnMut() -> bool,
) -> io::Result<usize> {
    let mut written = 0;
    while let Some(rest) = octets.get(written..).filter(|rest| !rest.is_empty()) {
        match stream.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if is_not_yet(&error) => {
                if stopped() {
                    break;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
