//! Frames: the envelope in which everything travels, found by a connection's reader, written by its writer.
//! Payloads go on to `Method` and `ContentHeader`; what a bad frame means is decided by the connection.
//!
//! ```text
//!  frame   │ type u8 │ channel u16 │ size u32 │ payload, size octets │ 0xCE │
//!  method  type 1:   │ class u16 │ method u16 │ arguments │
//!  header  type 2:   │ class u16 │ weight u16 = 0 │ body size u64 │ flags u16 │ values │
//!  body    type 3:   │ octets of the body │          heartbeat type 8: empty, channel 0
//!
//!  one publish       [method]─[header]─[body]─[body]…      as many bodies as the size asks for
//! ```

use nom::Parser;
use thiserror::Error;

use crate::method::Method;
use crate::properties::ContentHeader;
use crate::wire::{ParseResult, be_u8, be_u16, be_u32, put_u16, put_u32, put_u64};

/// The octet that ends every frame.
pub const FRAME_END: u8 = 0xCE;
/// Octets before the payload: type, channel, size.
pub const FRAME_HEADER_SIZE: usize = 7;
/// Octets of a frame that are not payload: its header and the end octet.
pub const FRAME_OVERHEAD: usize = 8;
/// The frame size both sides must accept before anything was negotiated.
pub const FRAME_MIN_SIZE: u32 = 4096;
/// What a client sends first; what the server answers if it does not like what came first.
pub const PROTOCOL_HEADER: [u8; 8] = *b"AMQP\0\0\x09\x01";

const FRAME_OVERHEAD_U32: u32 = 8;
const _: () = assert!(FRAME_OVERHEAD_U32 as usize == FRAME_OVERHEAD);
const _: () = assert!(FRAME_HEADER_SIZE + 1 == FRAME_OVERHEAD);

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameType {
    /// A method.
    Method = 1,
    /// A content header.
    Header = 2,
    /// A piece of a content body.
    Body = 3,
    /// Nothing: a sign of life.
    Heartbeat = 8,
}

impl FrameType {
    /// The type with this number on the wire.
    #[inline]
    pub fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            1 => Some(Self::Method),
            2 => Some(Self::Header),
            3 => Some(Self::Body),
            8 => Some(Self::Heartbeat),
            _ => None,
        }
    }
}

/// One frame, its payload still where it lies in the read buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What the payload is.
    pub frame_type: FrameType,
    /// The channel it belongs to; 0 is the connection itself.
    pub channel: u16,
    /// The octets between header and end octet.
    pub payload: &'a [u8],
}

/// Octets that are no frame. The connection is beyond repair: the next frame cannot be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The type octet is none of those defined.
    #[error("unknown frame type {frame_type} on channel {channel}")]
    UnknownType {
        /// The type octet.
        frame_type: u8,
        /// The channel the frame names.
        channel: u16,
        /// What of the payload had arrived.
        payload: PayloadHead,
    },
    /// The announced payload is larger than was agreed; found before it arrives.
    #[error("frame of type {frame_type} has {size} octets, at most {max} were agreed")]
    TooLarge {
        /// The type octet.
        frame_type: u8,
        /// The announced size of the payload.
        size: u32,
        /// The largest one allowed.
        max: u32,
    },
    /// The octet after the payload is not [`FRAME_END`].
    #[error("frame of type {frame_type} on channel {channel} ends in {octet:#04x}")]
    BadEnd {
        /// The type octet.
        frame_type: u8,
        /// The channel the frame names.
        channel: u16,
        /// What stands in place of the end octet.
        octet: u8,
        /// How the payload begins.
        payload: PayloadHead,
    },
}

/// How a faulty frame's payload begins, kept for the reply text and the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadHead {
    octets: [u8; Self::SIZE_MAX],
    size: usize,
}

impl PayloadHead {
    /// COMPAT: RabbitMQ quotes "all octets" of a payload up to this size and of a longer one the "first 16".
    pub const SIZE_MAX: usize = 16;

    fn of(payload: &[u8]) -> Self {
        let mut octets = [0; Self::SIZE_MAX];
        octets.iter_mut().zip(payload).for_each(|(kept, &octet)| *kept = octet);
        Self { octets, size: payload.len() }
    }

    /// The first octets, at most [`Self::SIZE_MAX`].
    pub fn octets(&self) -> &[u8] {
        self.octets.get(..self.size).unwrap_or(&self.octets)
    }

    /// Whether these are all the octets there were.
    pub fn is_complete(&self) -> bool {
        self.size <= Self::SIZE_MAX
    }
}

/// Finds the frame at the beginning of `input`: the frame and how many octets it takes.
///
/// `Ok(None)` means that it is not there in full yet. A payload of more than `payload_size_max` octets and an
/// unknown type are found as soon as the header is there, so that nobody waits for, or stores, such a payload.
///
/// # Errors
/// The octets are no frame; see [`FrameError`].
#[inline]
pub fn decode_frame(input: &[u8], payload_size_max: u32) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Ok((rest, (type_octet, channel, size))) = frame_header(input) else { return Ok(None) };
    // COMPAT: the size is looked at before the type.
    if size > payload_size_max {
        return Err(FrameError::TooLarge { frame_type: type_octet, size, max: payload_size_max });
    }
    let Some(frame_type) = FrameType::from_octet(type_octet) else {
        let arrived = rest.get(..size as usize).unwrap_or(rest);
        return Err(FrameError::UnknownType {
            frame_type: type_octet,
            channel,
            payload: PayloadHead::of(arrived),
        });
    };
    let Some((payload, [end, ..])) = rest.split_at_checked(size as usize) else { return Ok(None) };
    if *end != FRAME_END {
        return Err(FrameError::BadEnd {
            frame_type: type_octet,
            channel,
            octet: *end,
            payload: PayloadHead::of(payload),
        });
    }
    Ok(Some((Frame { frame_type, channel, payload }, payload.len() + FRAME_OVERHEAD)))
}

#[inline]
fn frame_header(input: &[u8]) -> ParseResult<'_, (u8, u16, u32)> {
    (be_u8, be_u16, be_u32).parse(input)
}

/// Appends one frame around a payload.
///
/// A payload past `u32::MAX` octets, which no frame can carry, is not written at all.
#[inline]
pub fn encode_frame(out: &mut Vec<u8>, frame_type: FrameType, channel: u16, payload: &[u8]) {
    put_frame(out, frame_type, channel, |out| out.extend_from_slice(payload));
}

/// Appends one method frame.
///
/// Short strings past 255 octets are cut at a character boundary.
#[inline]
pub fn encode_method(out: &mut Vec<u8>, channel: u16, method: &Method<'_>) {
    put_frame(out, FrameType::Method, channel, |out| method.encode(out));
}

/// Appends one content header frame.
#[inline]
pub fn encode_content_header(out: &mut Vec<u8>, channel: u16, header: &ContentHeader<'_>) {
    put_frame(out, FrameType::Header, channel, |out| header.encode(out));
}

/// Appends one content header frame whose property flags and values were kept as octets, from
/// [`ContentHeader::property_octets`] of a header that was decoded before. None at all mean no properties.
#[inline]
pub fn encode_raw_content_header(
    out: &mut Vec<u8>,
    channel: u16,
    class_id: u16,
    body_size: u64,
    property_octets: &[u8],
) {
    put_frame(out, FrameType::Header, channel, |out| {
        put_u16(out, class_id);
        put_u16(out, 0);
        put_u64(out, body_size);
        out.extend_from_slice(if property_octets.is_empty() { &[0, 0] } else { property_octets });
    });
}

/// Appends a body in as many body frames as `frame_max` asks for; 0 is no limit. An empty body has no frame.
#[inline]
pub fn encode_body(out: &mut Vec<u8>, channel: u16, body: &[u8], frame_max: u32) {
    for piece in body.chunks(body_piece_size(frame_max)) {
        encode_frame(out, FrameType::Body, channel, piece);
    }
}

/// Octets of body that fit a frame of `frame_max` octets, at least one; 0 is no limit.
#[inline]
pub fn body_piece_size(frame_max: u32) -> usize {
    match frame_max {
        0 => u32::MAX as usize,
        _ => frame_max.saturating_sub(FRAME_OVERHEAD_U32).max(1) as usize,
    }
}

/// Appends one heartbeat frame.
#[inline]
pub fn encode_heartbeat(out: &mut Vec<u8>) {
    encode_frame(out, FrameType::Heartbeat, 0, &[]);
}

/// Writes a frame around what `put_payload` writes; the size is filled in afterwards.
#[inline]
fn put_frame(out: &mut Vec<u8>, frame_type: FrameType, channel: u16, put_payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(frame_type as u8);
    put_u16(out, channel);
    put_u32(out, 0);
    let payload_start = out.len();
    put_payload(out);
    let size = u32::try_from(out.len().saturating_sub(payload_start));
    let place = out.get_mut(..payload_start).and_then(<[u8]>::last_chunk_mut);
    let (Ok(size), Some(place)) = (size, place) else { return out.truncate(start) };
    *place = size.to_be_bytes();
    out.push(FRAME_END);
}

#[cfg(test)]
mod tests {
    use super::{
        Frame, FrameError, FrameType, PayloadHead, decode_frame, encode_body, encode_content_header,
        encode_frame, encode_heartbeat, encode_method, encode_raw_content_header,
    };
    use crate::method::{Method, basic};
    use crate::properties::{ContentHeader, Properties};

    const MAX: u32 = 131_072 - 8;

    fn encoded(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out);
        out
    }

    #[test]
    fn a_frame_is_found_once_its_last_octet_is_there() {
        let octets = b"\x01\0\x07\0\0\0\x04\0\x5a\0\x0a\xceNEXT";
        for arrived in 0..12 {
            assert_eq!(decode_frame(&octets[..arrived], MAX), Ok(None), "{arrived} octets");
        }
        let frame = Frame { frame_type: FrameType::Method, channel: 7, payload: b"\0\x5a\0\x0a" };
        assert_eq!(decode_frame(octets, MAX), Ok(Some((frame, 12))));
    }

    #[test]
    fn a_large_frame_is_refused_before_its_payload_arrives() {
        let header = b"\x03\0\x01\0\x02\0\x01";
        let error = FrameError::TooLarge { frame_type: 3, size: 131_073, max: 131_072 };
        assert_eq!(decode_frame(header, 131_072), Err(error));
        assert_eq!(decode_frame(&header[..6], 131_072), Ok(None));
        assert_eq!(decode_frame(header, 131_073), Ok(None));
        assert_eq!(decode_frame(b"\x03\0\x01\xff\xff\xff\xff", u32::MAX), Ok(None));
    }

    #[test]
    fn an_unknown_type_is_refused_with_what_arrived() {
        let error = FrameError::UnknownType { frame_type: 42, channel: 1, payload: PayloadHead::of(b"ab") };
        assert_eq!(decode_frame(b"\x2a\0\x01\0\0\0\x05ab", MAX), Err(error));
        assert_eq!(decode_frame(b"\x2a\0\x01\0\0\0", MAX), Ok(None));
        let http = FrameError::TooLarge { frame_type: b'G', size: 0x202f_2048, max: MAX };
        assert_eq!(decode_frame(b"GET / HTTP/1.1", MAX), Err(http));
    }

    #[test]
    fn a_wrong_end_octet_is_refused_with_the_first_16_octets() {
        let mut octets = encoded(|out| encode_frame(out, FrameType::Body, 1, b"0123456789abcdefgh"));
        *octets.last_mut().unwrap() = 0;
        let Err(FrameError::BadEnd { frame_type: 3, channel: 1, octet: 0, payload }) =
            decode_frame(&octets, MAX)
        else {
            panic!("the end octet is wrong");
        };
        assert_eq!(payload.octets(), b"0123456789abcdef");
        assert!(!payload.is_complete());
        assert!(PayloadHead::of(b"0123456789abcdef").is_complete());
    }

    #[test]
    fn methods_headers_and_heartbeats_are_framed() {
        let ack = Method::BasicAck(basic::Ack { delivery_tag: 1, multiple: false });
        let octets = encoded(|out| encode_method(out, 258, &ack));
        assert_eq!(octets, b"\x01\x01\x02\0\0\0\x0d\0\x3c\0\x50\0\0\0\0\0\0\0\x01\0\xce");
        let header = ContentHeader { class_id: 60, body_size: 5, properties: Properties::default() };
        let octets = encoded(|out| encode_content_header(out, 1, &header));
        assert_eq!(octets, b"\x02\0\x01\0\0\0\x0e\0\x3c\0\0\0\0\0\0\0\0\0\x05\0\0\xce");
        assert_eq!(encoded(|out| encode_raw_content_header(out, 1, 60, 5, b"\0\0")), octets);
        assert_eq!(encoded(|out| encode_raw_content_header(out, 1, 60, 5, b"")), octets);
        assert_eq!(encoded(encode_heartbeat), b"\x08\0\0\0\0\0\0\xce");
    }

    #[test]
    fn bodies_are_split_so_that_no_frame_is_larger_than_agreed() {
        let octets = encoded(|out| encode_body(out, 1, b"abcde", 10));
        assert_eq!(octets, b"\x03\0\x01\0\0\0\x02ab\xce\x03\0\x01\0\0\0\x02cd\xce\x03\0\x01\0\0\0\x01e\xce");
        assert_eq!(encoded(|out| encode_body(out, 1, b"ab", 10)), b"\x03\0\x01\0\0\0\x02ab\xce");
        assert_eq!(encoded(|out| encode_body(out, 1, b"abcde", 0)), b"\x03\0\x01\0\0\0\x05abcde\xce");
        assert_eq!(encoded(|out| encode_body(out, 1, b"", 10)), b"");
        assert_eq!(encoded(|out| encode_body(out, 1, b"ab", 1)).len(), 18);
    }

    #[test]
    fn encoding_appends() {
        let octets = encoded(|out| {
            encode_heartbeat(out);
            encode_frame(out, FrameType::Body, 1, b"x");
        });
        let (_, first) = decode_frame(&octets, MAX).unwrap().unwrap();
        let (frame, _) = decode_frame(&octets[first..], MAX).unwrap().unwrap();
        assert_eq!(frame, Frame { frame_type: FrameType::Body, channel: 1, payload: b"x" });
    }
}
