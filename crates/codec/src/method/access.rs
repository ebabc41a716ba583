//! Class access (30): tickets, which older clients ask for and nobody checks any more.
//!
//! One struct per method, its arguments named as in the specification; reserved ones are read, ignored and
//! written as zero or empty. [`Method`](super::Method) finds the struct by the ids before the arguments.

use crate::error::DecodeError;
use crate::wire::{be_u16, bits, decode_all, put_bits, put_short_str, put_u16, short_str};

/// `access.request`: Asks for a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// What it is for.
    pub realm: &'a str,
    /// Exclusive access is wanted.
    pub exclusive: bool,
    /// Passive access is wanted.
    pub passive: bool,
    /// Active access is wanted.
    pub active: bool,
    /// Write access is wanted.
    pub write: bool,
    /// Read access is wanted.
    pub read: bool,
}

impl<'a> Request<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let parser = (short_str, bits::<5>);
        let (realm, [exclusive, passive, active, write, read]) = decode_all(args, parser)?;
        Ok(Self { realm, exclusive, passive, active, write, read })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_short_str(out, self.realm);
        put_bits(out, [self.exclusive, self.passive, self.active, self.write, self.read]);
    }
}

/// `access.request-ok`: Grants a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestOk {
    /// Its number.
    pub ticket: u16,
}

impl RequestOk {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        let ticket = decode_all(args, be_u16)?;
        Ok(Self { ticket })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u16(out, self.ticket);
    }
}
