//! Content headers: class, body size and the fourteen properties of the basic class.
//!
//! The payload of a header frame comes in from the channel that awaits it; everything decoded borrows from
//! it. Deliveries hand a header back to be written. Octets that were checked once on the way in can go out
//! again as they are ([`ContentHeader::property_octets`]), so a broker need not decode twice.

use nom::Parser;
use nom::combinator::cond;

use crate::error::{DecodeError, DecodeErrorKind};
use crate::table::{FieldTableRef, table_ref};
use crate::wire::{
    ParseResult, WireError, be_u8, be_u16, be_u64, decode_all, put_long_octets, put_short_octets, put_u8,
    put_u16, put_u64, short_octets,
};

/// Octets of a header payload before the property flags: class, weight, body size.
pub const PROPERTIES_OFFSET: usize = 12;

const CONTENT_TYPE: u16 = 1 << 15;
const CONTENT_ENCODING: u16 = 1 << 14;
const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const PRIORITY: u16 = 1 << 11;
const CORRELATION_ID: u16 = 1 << 10;
const REPLY_TO: u16 = 1 << 9;
const EXPIRATION: u16 = 1 << 8;
const MESSAGE_ID: u16 = 1 << 7;
const TIMESTAMP: u16 = 1 << 6;
const MESSAGE_TYPE: u16 = 1 << 5;
const USER_ID: u16 = 1 << 4;
const APP_ID: u16 = 1 << 3;
const CLUSTER_ID: u16 = 1 << 2;
const UNASSIGNED: u16 = 1 << 1;
const CONTINUED: u16 = 1;

/// The payload of a header frame: what follows a method with content, before the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentHeader<'a> {
    /// The class of the method this content belongs to; only basic (60) carries content.
    pub class_id: u16,
    /// Octets of body that follow in body frames.
    pub body_size: u64,
    /// The message's properties.
    pub properties: Properties<'a>,
}

impl<'a> ContentHeader<'a> {
    /// Reads a header frame's payload, to its last octet. The weight is read and ignored.
    ///
    /// # Errors
    /// A value is cut short or malformed, a flag is not defined, or octets are left.
    #[inline]
    pub fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let parser = (be_u16, be_u16, be_u64, properties);
        decode_all(
            payload,
            parser.map(|(class_id, _, body_size, properties)| Self { class_id, body_size, properties }),
        )
    }

    /// Appends the header frame's payload; the weight is written as zero.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u16(out, self.class_id);
        put_u16(out, 0);
        put_u64(out, self.body_size);
        self.properties.encode(out);
    }

    /// The flags and values of a header frame's payload, as they lie on the wire.
    ///
    /// They are not checked here: decode the payload once before passing them on.
    #[inline]
    pub fn property_octets(payload: &'a [u8]) -> &'a [u8] {
        payload.get(PROPERTIES_OFFSET..).unwrap_or_default()
    }
}

/// The properties of a message, each where it lies in the header frame.
///
/// Short strings are octets: COMPAT: RabbitMQ passes them on without asking whether they are UTF-8.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    /// MIME type of the body.
    pub content_type: Option<&'a [u8]>,
    /// MIME encoding of the body.
    pub content_encoding: Option<&'a [u8]>,
    /// The application's headers, which a headers exchange routes by.
    pub headers: Option<FieldTableRef<'a>>,
    /// 1 is transient, 2 persistent.
    pub delivery_mode: Option<u8>,
    /// Priority in a priority queue.
    pub priority: Option<u8>,
    /// Names the request a reply belongs to.
    pub correlation_id: Option<&'a [u8]>,
    /// Where a reply is to go.
    pub reply_to: Option<&'a [u8]>,
    /// Time to live in milliseconds, in decimal digits.
    pub expiration: Option<&'a [u8]>,
    /// The application's name for the message.
    pub message_id: Option<&'a [u8]>,
    /// Seconds since 1970.
    pub timestamp: Option<u64>,
    /// The application's name for the kind of message; `type` in the specification.
    pub message_type: Option<&'a [u8]>,
    /// The publishing user.
    pub user_id: Option<&'a [u8]>,
    /// The publishing application.
    pub app_id: Option<&'a [u8]>,
    /// Obsolete, passed on as it is.
    pub cluster_id: Option<&'a [u8]>,
}

impl<'a> Properties<'a> {
    /// Reads flags and values, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, a flag is not defined, or octets are left.
    #[inline]
    pub fn decode(octets: &'a [u8]) -> Result<Self, DecodeError> {
        decode_all(octets, properties)
    }

    /// Appends flags and values. Short strings past 255 octets are cut.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u16(out, self.flags());
        put_short(out, self.content_type);
        put_short(out, self.content_encoding);
        if let Some(headers) = self.headers {
            put_long_octets(out, headers.as_bytes());
        }
        if let Some(delivery_mode) = self.delivery_mode {
            put_u8(out, delivery_mode);
        }
        if let Some(priority) = self.priority {
            put_u8(out, priority);
        }
        put_short(out, self.correlation_id);
        put_short(out, self.reply_to);
        put_short(out, self.expiration);
        put_short(out, self.message_id);
        if let Some(timestamp) = self.timestamp {
            put_u64(out, timestamp);
        }
        put_short(out, self.message_type);
        put_short(out, self.user_id);
        put_short(out, self.app_id);
        put_short(out, self.cluster_id);
    }

    /// The flag word: one bit per property that is present, content-type highest.
    pub fn flags(&self) -> u16 {
        let flag = |present: bool, mask: u16| if present { mask } else { 0 };
        flag(self.content_type.is_some(), CONTENT_TYPE)
            | flag(self.content_encoding.is_some(), CONTENT_ENCODING)
            | flag(self.headers.is_some(), HEADERS)
            | flag(self.delivery_mode.is_some(), DELIVERY_MODE)
            | flag(self.priority.is_some(), PRIORITY)
            | flag(self.correlation_id.is_some(), CORRELATION_ID)
            | flag(self.reply_to.is_some(), REPLY_TO)
            | flag(self.expiration.is_some(), EXPIRATION)
            | flag(self.message_id.is_some(), MESSAGE_ID)
            | flag(self.timestamp.is_some(), TIMESTAMP)
            | flag(self.message_type.is_some(), MESSAGE_TYPE)
            | flag(self.user_id.is_some(), USER_ID)
            | flag(self.app_id.is_some(), APP_ID)
            | flag(self.cluster_id.is_some(), CLUSTER_ID)
    }
}

#[inline]
fn put_short(out: &mut Vec<u8>, value: Option<&[u8]>) {
    if let Some(octets) = value {
        put_short_octets(out, octets);
    }
}

#[inline]
fn properties(input: &[u8]) -> ParseResult<'_, Properties<'_>> {
    let (rest, flags) = be_u16(input)?;
    if flags == 0 {
        return Ok((rest, Properties::default()));
    }
    if flags & CONTINUED != 0 {
        return Err(WireError::failure(input, DecodeErrorKind::PropertyFlagsContinued));
    }
    if flags & UNASSIGNED != 0 {
        return Err(WireError::failure(input, DecodeErrorKind::UnknownPropertyFlag));
    }
    property_values(flags, rest)
}

fn property_values(flags: u16, input: &[u8]) -> ParseResult<'_, Properties<'_>> {
    let (input, content_type) = short_if(flags & CONTENT_TYPE, input)?;
    let (input, content_encoding) = short_if(flags & CONTENT_ENCODING, input)?;
    let (input, headers) = cond(flags & HEADERS != 0, table_ref).parse(input)?;
    let (input, delivery_mode) = cond(flags & DELIVERY_MODE != 0, be_u8).parse(input)?;
    let (input, priority) = cond(flags & PRIORITY != 0, be_u8).parse(input)?;
    let (input, correlation_id) = short_if(flags & CORRELATION_ID, input)?;
    let (input, reply_to) = short_if(flags & REPLY_TO, input)?;
    let (input, expiration) = short_if(flags & EXPIRATION, input)?;
    let (input, message_id) = short_if(flags & MESSAGE_ID, input)?;
    let (input, timestamp) = cond(flags & TIMESTAMP != 0, be_u64).parse(input)?;
    let (input, message_type) = short_if(flags & MESSAGE_TYPE, input)?;
    let (input, user_id) = short_if(flags & USER_ID, input)?;
    let (input, app_id) = short_if(flags & APP_ID, input)?;
    let (input, cluster_id) = short_if(flags & CLUSTER_ID, input)?;
    let properties = Properties {
        content_type,
        content_encoding,
        headers,
        delivery_mode,
        priority,
        correlation_id,
        reply_to,
        expiration,
        message_id,
        timestamp,
        message_type,
        user_id,
        app_id,
        cluster_id,
    };
    Ok((input, properties))
}

#[inline]
fn short_if(flag: u16, input: &[u8]) -> ParseResult<'_, Option<&[u8]>> {
    cond(flag != 0, short_octets).parse(input)
}
