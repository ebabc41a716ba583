//! Class basic (60): publishing, delivering and settling messages.
//!
//! One struct per method, its arguments named as in the specification; reserved ones are read, ignored and
//! written as zero or empty. [`Method`](super::Method) finds the struct by the ids before the arguments.

use nom::combinator::success;

use crate::error::DecodeError;
use crate::table::{FieldTable, table};
use crate::wire::{
    be_u16, be_u32, be_u64, bits, decode_all, put_bits, put_short_str, put_u16, put_u32, put_u64,
    short_octets, short_str,
};

/// `basic.qos`: Limits how much may be delivered and not yet acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Qos {
    /// Octets; 0 is no limit.
    pub prefetch_size: u32,
    /// Messages; 0 is no limit.
    pub prefetch_count: u16,
    /// The limit is for the whole channel.
    pub global: bool,
}

impl Qos {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        let parser = (be_u32, be_u16, bits::<1>);
        let (prefetch_size, prefetch_count, [global]) = decode_all(args, parser)?;
        Ok(Self { prefetch_size, prefetch_count, global })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u32(out, self.prefetch_size);
        put_u16(out, self.prefetch_count);
        put_bits(out, [self.global]);
    }
}

/// `basic.qos-ok`: The limit is in force.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QosOk;

impl QosOk {
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

/// `basic.consume`: Subscribes to a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consume<'a> {
    /// The queue; if empty, the one declared last on the channel.
    pub queue: &'a str,
    /// The name of the subscription; if empty, the server makes one up.
    pub consumer_tag: &'a str,
    /// Leave out what this connection published.
    pub no_local: bool,
    /// Deliveries are settled when they are sent.
    pub no_ack: bool,
    /// No other consumer may have the queue.
    pub exclusive: bool,
    /// No answer is wanted.
    pub no_wait: bool,
    /// Further arguments, most of them extensions.
    pub arguments: FieldTable,
}

impl<'a> Consume<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let parser = (be_u16, short_str, short_str, bits::<4>, table);
        let (_, queue, consumer_tag, [no_local, no_ack, exclusive, no_wait], arguments) =
            decode_all(args, parser)?;
        Ok(Self { queue, consumer_tag, no_local, no_ack, exclusive, no_wait, arguments })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u16(out, 0);
        put_short_str(out, self.queue);
        put_short_str(out, self.consumer_tag);
        put_bits(out, [self.no_local, self.no_ack, self.exclusive, self.no_wait]);
        self.arguments.encode(out);
    }
}

/// `basic.consume-ok`: The consumer is subscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumeOk<'a> {
    /// The name of the subscription.
    pub consumer_tag: &'a str,
}

impl<'a> ConsumeOk<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let consumer_tag = decode_all(args, short_str)?;
        Ok(Self { consumer_tag })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_short_str(out, self.consumer_tag);
    }
}

/// `basic.cancel`: Ends a subscription; the server says so too if the queue goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cancel<'a> {
    /// The name of the subscription.
    pub consumer_tag: &'a str,
    /// No answer is wanted.
    pub no_wait: bool,
}

impl<'a> Cancel<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let parser = (short_str, bits::<1>);
        let (consumer_tag, [no_wait]) = decode_all(args, parser)?;
        Ok(Self { consumer_tag, no_wait })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_short_str(out, self.consumer_tag);
        put_bits(out, [self.no_wait]);
    }
}

/// `basic.cancel-ok`: The subscription has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CancelOk<'a> {
    /// The name of the subscription.
    pub consumer_tag: &'a str,
}

impl<'a> CancelOk<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let consumer_tag = decode_all(args, short_str)?;
        Ok(Self { consumer_tag })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_short_str(out, self.consumer_tag);
    }
}

/// `basic.publish`: Hands in a message; its content follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Where to; empty is the default exchange.
    pub exchange: &'a str,
    /// What the exchange routes by.
    pub routing_key: &'a str,
    /// Return it if no queue takes it.
    pub mandatory: bool,
    /// Return it if no consumer takes it at once.
    pub immediate: bool,
}

impl<'a> Publish<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let parser = (be_u16, short_str, short_str, bits::<2>);
        let (_, exchange, routing_key, [mandatory, immediate]) = decode_all(args, parser)?;
        Ok(Self { exchange, routing_key, mandatory, immediate })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u16(out, 0);
        put_short_str(out, self.exchange);
        put_short_str(out, self.routing_key);
        put_bits(out, [self.mandatory, self.immediate]);
    }
}

/// `basic.return`: Gives back a message that could not be routed; its content follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Return<'a> {
    /// Why, as a number.
    pub reply_code: u16,
    /// Why, in words.
    pub reply_text: &'a str,
    /// Where it was published to.
    pub exchange: &'a str,
    /// What it was published with.
    pub routing_key: &'a str,
}

impl<'a> Return<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let parser = (be_u16, short_str, short_str, short_str);
        let (reply_code, reply_text, exchange, routing_key) = decode_all(args, parser)?;
        Ok(Self { reply_code, reply_text, exchange, routing_key })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u16(out, self.reply_code);
        put_short_str(out, self.reply_text);
        put_short_str(out, self.exchange);
        put_short_str(out, self.routing_key);
    }
}

/// `basic.deliver`: Hands out a message to a consumer; its content follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deliver<'a> {
    /// The name of the subscription.
    pub consumer_tag: &'a str,
    /// What to settle it by.
    pub delivery_tag: u64,
    /// It was handed out before.
    pub redelivered: bool,
    /// Where it was published to.
    pub exchange: &'a str,
    /// What it was published with.
    pub routing_key: &'a str,
}

impl<'a> Deliver<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let parser = (short_str, be_u64, bits::<1>, short_str, short_str);
        let (consumer_tag, delivery_tag, [redelivered], exchange, routing_key) = decode_all(args, parser)?;
        Ok(Self { consumer_tag, delivery_tag, redelivered, exchange, routing_key })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_short_str(out, self.consumer_tag);
        put_u64(out, self.delivery_tag);
        put_bits(out, [self.redelivered]);
        put_short_str(out, self.exchange);
        put_short_str(out, self.routing_key);
    }
}

/// `basic.get`: Asks for one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Get<'a> {
    /// The queue; if empty, the one declared last on the channel.
    pub queue: &'a str,
    /// The message is settled when it is sent.
    pub no_ack: bool,
}

impl<'a> Get<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let parser = (be_u16, short_str, bits::<1>);
        let (_, queue, [no_ack]) = decode_all(args, parser)?;
        Ok(Self { queue, no_ack })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u16(out, 0);
        put_short_str(out, self.queue);
        put_bits(out, [self.no_ack]);
    }
}

/// `basic.get-ok`: Hands out the message asked for; its content follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetOk<'a> {
    /// What to settle it by.
    pub delivery_tag: u64,
    /// It was handed out before.
    pub redelivered: bool,
    /// Where it was published to.
    pub exchange: &'a str,
    /// What it was published with.
    pub routing_key: &'a str,
    /// Messages still ready in the queue.
    pub message_count: u32,
}

impl<'a> GetOk<'a> {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &'a [u8]) -> Result<Self, DecodeError> {
        let parser = (be_u64, bits::<1>, short_str, short_str, be_u32);
        let (delivery_tag, [redelivered], exchange, routing_key, message_count) = decode_all(args, parser)?;
        Ok(Self { delivery_tag, redelivered, exchange, routing_key, message_count })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.delivery_tag);
        put_bits(out, [self.redelivered]);
        put_short_str(out, self.exchange);
        put_short_str(out, self.routing_key);
        put_u32(out, self.message_count);
    }
}

/// `basic.get-empty`: There is no message to hand out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GetEmpty;

impl GetEmpty {
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

/// `basic.ack`: Settles deliveries, or confirms publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Which one; what 0 means is decided above.
    pub delivery_tag: u64,
    /// And all before it.
    pub multiple: bool,
}

impl Ack {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        let parser = (be_u64, bits::<1>);
        let (delivery_tag, [multiple]) = decode_all(args, parser)?;
        Ok(Self { delivery_tag, multiple })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.delivery_tag);
        put_bits(out, [self.multiple]);
    }
}

/// `basic.reject`: Refuses a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reject {
    /// Which one.
    pub delivery_tag: u64,
    /// Back to the queue with it.
    pub requeue: bool,
}

impl Reject {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        let parser = (be_u64, bits::<1>);
        let (delivery_tag, [requeue]) = decode_all(args, parser)?;
        Ok(Self { delivery_tag, requeue })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.delivery_tag);
        put_bits(out, [self.requeue]);
    }
}

/// `basic.recover-async`: Asks for everything unsettled again, without an answer. Obsolete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecoverAsync {
    /// To any consumer, not just to the one that had it.
    pub requeue: bool,
}

impl RecoverAsync {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        let [requeue] = decode_all(args, bits::<1>)?;
        Ok(Self { requeue })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_bits(out, [self.requeue]);
    }
}

/// `basic.recover`: Asks for everything unsettled again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recover {
    /// To any consumer, not just to the one that had it.
    pub requeue: bool,
}

impl Recover {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        let [requeue] = decode_all(args, bits::<1>)?;
        Ok(Self { requeue })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_bits(out, [self.requeue]);
    }
}

/// `basic.recover-ok`: What was unsettled is on its way again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecoverOk;

impl RecoverOk {
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

/// `basic.nack`: Refuses deliveries, or says that publishes were lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nack {
    /// Which one; what 0 means is decided above.
    pub delivery_tag: u64,
    /// And all before it.
    pub multiple: bool,
    /// Back to the queue with them.
    pub requeue: bool,
}

impl Nack {
    /// Reads the arguments, to the last octet.
    ///
    /// # Errors
    /// A value is cut short or malformed, or octets are left.
    #[inline]
    pub fn decode(args: &[u8]) -> Result<Self, DecodeError> {
        let parser = (be_u64, bits::<2>);
        let (delivery_tag, [multiple, requeue]) = decode_all(args, parser)?;
        Ok(Self { delivery_tag, multiple, requeue })
    }

    /// Appends the arguments.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.delivery_tag);
        put_bits(out, [self.multiple, self.requeue]);
    }
}
