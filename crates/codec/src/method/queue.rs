//! Class queue (50): declaring, binding, purging and deleting queues.
//!
//! One struct per method, its arguments named as in the specification; reserved ones are read, ignored and
//! written as zero or empty. [`Method`](super::Method) finds the struct by the ids before the arguments.

use nom::combinator::success;

use crate::error::DecodeError;
use crate::table::{FieldTable, table};
use crate::wire::{be_u16, be_u32, bits, decode_all, put_bits, put_short_str, put_u16, put_u32, short_str};

/// `queue.declare`: Creates a queue or checks that it is as described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declare<'a> {
    /// Its name; if empty, the server makes one up.
    pub queue: &'a str,
    /// Only check that it exists.
    pub passive: bool,
    /// It survives a restart.
    pub durable: bool,
    /// It belongs to this connection and ends with it.
    pub exclusive: bool,
    /// It goes when its last consumer goes.
    pub auto_delete: bool,
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
        let parser = (be_u16, short_str, bits::<5>, table);
        let (_, queue, [passive, durable, exclusive, auto_delete, no_wait], arguments) =
            decode_all(args, parser)?;
        Ok(Self { queue, passive, durable, exclusive, auto_delete, no_wait, arguments })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u16(out, 0);
        put_short_str(out, self.queue);
        put_bits(out, [self.passive, self.durable, self.exclusive, self.auto_delete, self.no_wait]);
        self.arguments.encode(out);
    }
}

/// `queue.declare-ok`: The queue is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeclareOk<'a> {
    /// Its name.
    pub queue: &'a str,
    /// Messages ready in it.
    pub message_count: u32,
    /// Consumers it has.
    pub consumer_count: u32,
}

impl<'a> DeclareOk<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let parser = (short_str, be_u32, be_u32);
        let (queue, message_count, consumer_count) = decode_all(args, parser)?;
        Ok(Self { queue, message_count, consumer_count })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_short_str(out, self.queue);
        put_u32(out, self.message_count);
        put_u32(out, self.consumer_count);
    }
}

/// `queue.bind`: Makes a queue receive from an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The queue; if empty, the one declared last on the channel.
    pub queue: &'a str,
    /// The exchange.
    pub exchange: &'a str,
    /// What the exchange compares with.
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
        let (_, queue, exchange, routing_key, [no_wait], arguments) = decode_all(args, parser)?;
        Ok(Self { queue, exchange, routing_key, no_wait, arguments })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u16(out, 0);
        put_short_str(out, self.queue);
        put_short_str(out, self.exchange);
        put_short_str(out, self.routing_key);
        put_bits(out, [self.no_wait]);
        self.arguments.encode(out);
    }
}

/// `queue.bind-ok`: The queue is bound.
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

/// `queue.purge`: Drops all ready messages of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purge<'a> {
    /// The queue; if empty, the one declared last on the channel.
    pub queue: &'a str,
    /// No answer is wanted.
    pub no_wait: bool,
}

impl<'a> Purge<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let parser = (be_u16, short_str, bits::<1>);
        let (_, queue, [no_wait]) = decode_all(args, parser)?;
        Ok(Self { queue, no_wait })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u16(out, 0);
        put_short_str(out, self.queue);
        put_bits(out, [self.no_wait]);
    }
}

/// `queue.purge-ok`: The messages are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PurgeOk {
    /// How many there were.
    pub message_count: u32,
}

impl PurgeOk {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        let message_count = decode_all(args, be_u32)?;
        Ok(Self { message_count })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u32(out, self.message_count);
    }
}

/// `queue.delete`: Deletes a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delete<'a> {
    /// The queue; if empty, the one declared last on the channel.
    pub queue: &'a str,
    /// Only if it has no consumers.
    pub if_unused: bool,
    /// Only if it has no messages.
    pub if_empty: bool,
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
        let parser = (be_u16, short_str, bits::<3>);
        let (_, queue, [if_unused, if_empty, no_wait]) = decode_all(args, parser)?;
        Ok(Self { queue, if_unused, if_empty, no_wait })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u16(out, 0);
        put_short_str(out, self.queue);
        put_bits(out, [self.if_unused, self.if_empty, self.no_wait]);
    }
}

/// `queue.delete-ok`: The queue is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteOk {
    /// How many messages went with it.
    pub message_count: u32,
}

impl DeleteOk {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        let message_count = decode_all(args, be_u32)?;
        Ok(Self { message_count })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u32(out, self.message_count);
    }
}

/// `queue.unbind`: Undoes a binding of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unbind<'a> {
    /// The queue; if empty, the one declared last on the channel.
    pub queue: &'a str,
    /// The exchange.
    pub exchange: &'a str,
    /// The binding's routing key.
    pub routing_key: &'a str,
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
        let parser = (be_u16, short_str, short_str, short_str, table);
        let (_, queue, exchange, routing_key, arguments) = decode_all(args, parser)?;
        Ok(Self { queue, exchange, routing_key, arguments })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u16(out, 0);
        put_short_str(out, self.queue);
        put_short_str(out, self.exchange);
        put_short_str(out, self.routing_key);
        self.arguments.encode(out);
    }
}

/// `queue.unbind-ok`: The binding is undone.
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
