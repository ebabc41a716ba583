//! Class exchange (40): declaring, binding and deleting exchanges.
//!
//! One struct per method, its arguments named as in the specification; reserved ones are read, ignored and
//! written as zero or empty. [`Method`](super::Method) finds the struct by the ids before the arguments.

use nom::combinator::success;

use crate::error::DecodeError;
use crate::table::{FieldTable, table};
use crate::wire::{be_u16, bits, decode_all, put_bits, put_short_str, put_u16, short_str};

/// `exchange.declare`: Creates an exchange or checks that it is as described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declare<'a> {
    /// Its name.
    pub exchange: &'a str,
    /// Its type; `type` in the specification.
    pub exchange_type: &'a str,
    /// Only check that it exists.
    pub passive: bool,
    /// It survives a restart.
    pub durable: bool,
    /// It goes when its last binding goes.
    pub auto_delete: bool,
    /// Clients cannot publish to it.
    pub internal: bool,
    /// No answer is wanted.
    pub no_wait: bool,
    /// Further arguments, most of them extensions.
    pub arguments: FieldTable,
}

impl<'a> Declare<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let parser = (be_u16, short_str, short_str, bits::<5>, table);
        let (_, exchange, exchange_type, [passive, durable, auto_delete, internal, no_wait], arguments) =
            decode_all(args, parser)?;
        Ok(Self { exchange, exchange_type, passive, durable, auto_delete, internal, no_wait, arguments })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u16(out, 0);
        put_short_str(out, self.exchange);
        put_short_str(out, self.exchange_type);
        put_bits(out, [self.passive, self.durable, self.auto_delete, self.internal, self.no_wait]);
        self.arguments.encode(out);
    }
}

/// `exchange.declare-ok`: The exchange is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeclareOk;

impl DeclareOk {
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

/// `exchange.delete`: Deletes an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delete<'a> {
    /// Its name.
    pub exchange: &'a str,
    /// Only if nothing is bound to it.
    pub if_unused: bool,
    /// No answer is wanted.
    pub no_wait: bool,
}

impl<'a> Delete<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let parser = (be_u16, short_str, bits::<2>);
        let (_, exchange, [if_unused, no_wait]) = decode_all(args, parser)?;
        Ok(Self { exchange, if_unused, no_wait })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u16(out, 0);
        put_short_str(out, self.exchange);
        put_bits(out, [self.if_unused, self.no_wait]);
    }
}

/// `exchange.delete-ok`: The exchange is gone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeleteOk;

impl DeleteOk {
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

/// `exchange.bind`: Makes an exchange receive from another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The exchange that receives.
    pub destination: &'a str,
    /// The exchange it receives from.
    pub source: &'a str,
    /// What the source compares with.
    pub routing_key: &'a str,
    /// No answer is wanted.
    pub no_wait: bool,
    /// Further arguments, most of them extensions.
    pub arguments: FieldTable,
}

impl<'a> Bind<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let parser = (be_u16, short_str, short_str, short_str, bits::<1>, table);
        let (_, destination, source, routing_key, [no_wait], arguments) = decode_all(args, parser)?;
        Ok(Self { destination, source, routing_key, no_wait, arguments })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u16(out, 0);
        put_short_str(out, self.destination);
        put_short_str(out, self.source);
        put_short_str(out, self.routing_key);
        put_bits(out, [self.no_wait]);
        self.arguments.encode(out);
    }
}

/// `exchange.bind-ok`: The exchanges are bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BindOk;

impl BindOk {
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

/// `exchange.unbind`: Undoes a binding of two exchanges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unbind<'a> {
    /// The exchange that receives.
    pub destination: &'a str,
    /// The exchange it receives from.
    pub source: &'a str,
    /// The binding's routing key.
    pub routing_key: &'a str,
    /// No answer is wanted.
    pub no_wait: bool,
    /// The binding's arguments.
    pub arguments: FieldTable,
}

impl<'a> Unbind<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let parser = (be_u16, short_str, short_str, short_str, bits::<1>, table);
        let (_, destination, source, routing_key, [no_wait], arguments) = decode_all(args, parser)?;
        Ok(Self { destination, source, routing_key, no_wait, arguments })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u16(out, 0);
        put_short_str(out, self.destination);
        put_short_str(out, self.source);
        put_short_str(out, self.routing_key);
        put_bits(out, [self.no_wait]);
        self.arguments.encode(out);
    }
}

/// `exchange.unbind-ok`: The binding is undone. COMPAT: this method's id is 51, out of line with the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnbindOk;

impl UnbindOk {
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
