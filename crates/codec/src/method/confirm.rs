//! Class confirm (85): asking for publisher confirms.
//!
//! One struct per method, its arguments named as in the specification; reserved ones are read, ignored and
//! written as zero or empty. [`Method`](super::Method) finds the struct by the ids before the arguments.

use nom::combinator::success;

use crate::error::DecodeError;
use crate::wire::{bits, decode_all, put_bits};

/// `confirm.select`: Turns on confirms for the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Select {
    /// No answer is wanted.
    pub no_wait: bool,
}

impl Select {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        let [no_wait] = decode_all(args, bits::<1>)?;
        Ok(Self { no_wait })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_bits(out, [self.no_wait]);
    }
}

/// `confirm.select-ok`: Confirms are on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SelectOk;

impl SelectOk {
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
