//! What is in force for a queue: its arguments, narrowed or supplied by the policies that match it. Worked out when a
//! queue is declared and whenever a policy changes, so that nothing is looked up per message.

use crate::names::ExchangeName;

/// What happens to a message for which a queue with a length limit has no place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The oldest ready messages go.
    #[default]
    DropHead,
    /// The new one is refused: nacked where the publisher wants confirms.
    RejectPublish,
    /// The same, and it goes to the dead-letter exchange.
    RejectPublishDlx,
}

/// When a queue lets go of a message that it dead-letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeadLetterStrategy {
    /// Once it was handed to the targets.
    #[default]
    AtMostOnce,
    /// Once every target has it safe.
    AtLeastOnce,
}

/// Settings of a queue that policies can change while it lives. Those fixed at its declaration are in
/// [`QueueArguments`](super::arguments::QueueArguments).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueSettings {
    /// Milliseconds a message may wait; 0: it expires unless a consumer takes it at once.
    pub message_ttl_ms: Option<u64>,
    /// Milliseconds without use after which the queue is deleted, at least 1.
    pub expires_ms: Option<u64>,
    /// Ready messages, at most.
    pub max_length: Option<u64>,
    /// Octets of bodies of ready messages, at most.
    pub max_length_bytes: Option<u64>,
    /// What gives way when a limit is reached.
    pub overflow: Overflow,
    /// Where dead messages go; the empty name is the default exchange.
    pub dead_letter_exchange: Option<ExchangeName>,
    /// With which key, if not with their own.
    pub dead_letter_routing_key: Option<Box<str>>,
    /// When they are let go of.
    pub dead_letter_strategy: DeadLetterStrategy,
    /// How often a message may be delivered again; `None`: any number of times.
    pub delivery_limit: Option<u32>,
    /// Milliseconds a delivery may stay unsettled, if not the broker's own default.
    pub consumer_timeout_ms: Option<u64>,
}
