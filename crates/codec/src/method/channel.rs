//! Class channel (20): opening, pausing and closing a channel.
//!
//! One struct per method, its arguments named as in the specification; reserved ones are read, ignored and
//! written as zero or empty. [`Method`](super::Method) finds the struct by the ids before the arguments.

use nom::combinator::success;

use crate::error::DecodeError;
use crate::wire::{
    be_u16, bits, decode_all, long_octets, put_bits, put_long_octets, put_short_str, put_u16, short_octets,
    short_str,
};

/// `channel.open`: Opens the channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Open;

impl Open {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        decode_all(args, short_octets)?;
        Ok(Self)
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_short_str(out, "");
    }
}

/// `channel.open-ok`: The channel is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenOk;

impl OpenOk {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        decode_all(args, long_octets)?;
        Ok(Self)
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_long_octets(out, &[]);
    }
}

/// `channel.flow`: Asks the peer to pause or resume content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Whether content may flow.
    pub active: bool,
}

impl Flow {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        let [active] = decode_all(args, bits::<1>)?;
        Ok(Self { active })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_bits(out, [self.active]);
    }
}

/// `channel.flow-ok`: Content is paused or flows again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowOk {
    /// Whether content flows.
    pub active: bool,
}

impl FlowOk {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        let [active] = decode_all(args, bits::<1>)?;
        Ok(Self { active })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_bits(out, [self.active]);
    }
}

/// `channel.close`: Ends the channel, with the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close<'a> {
    /// Why, as a number.
    pub reply_code: u16,
    /// Why, in words.
    pub reply_text: &'a str,
    /// Class of the method that failed, or 0.
    pub class_id: u16,
    /// Id of the method that failed, or 0.
    pub method_id: u16,
}

impl<'a> Close<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let parser = (be_u16, short_str, be_u16, be_u16);
        let (reply_code, reply_text, class_id, method_id) = decode_all(args, parser)?;
        Ok(Self { reply_code, reply_text, class_id, method_id })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u16(out, self.reply_code);
        put_short_str(out, self.reply_text);
        put_u16(out, self.class_id);
        put_u16(out, self.method_id);
    }
}

/// `channel.close-ok`: The channel is ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CloseOk;

impl CloseOk {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        decode_all(args, success(Self))
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, _out: &mut Vec<u8>) {}
}
