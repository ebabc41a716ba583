//! What is in force for a queue: its arguments, narrowed or supplied by the policies that match it. Worked out when a
//! queue is declared and whenever a policy changes, so that nothing is looked up per message.

use leveret_codec::table::FieldValue;

use super::queue_type::QueueType;
use crate::names::ExchangeName;
use crate::policy::AppliedPolicies;

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

impl Overflow {
    /// The behaviour with this name in arguments and policies.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "drop-head" => Some(Self::DropHead),
            "reject-publish" => Some(Self::RejectPublish),
            "reject-publish-dlx" => Some(Self::RejectPublishDlx),
            _ => None,
        }
    }
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

impl DeadLetterStrategy {
    /// The strategy with this name in arguments and policies.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "at-most-once" => Some(Self::AtMostOnce),
            "at-least-once" => Some(Self::AtLeastOnce),
            _ => None,
        }
    }
}

/// Which returned messages of a quorum queue wait before they are delivered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelayedRetryType {
    /// None.
    Disabled,
    /// All of them.
    All,
    /// Those whose consumer failed or rejected them.
    Failed,
    /// Those that were given back otherwise.
    Returned,
}

impl DelayedRetryType {
    /// The type with this name in arguments and policies.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "disabled" => Some(Self::Disabled),
            "all" => Some(Self::All),
            "failed" => Some(Self::Failed),
            "returned" => Some(Self::Returned),
            _ => None,
        }
    }
}

/// How long returned messages of a quorum queue wait: `min_ms` times the delivery count, `max_ms` at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelayedRetry {
    /// Which ones; never [`DelayedRetryType::Disabled`].
    pub which: DelayedRetryType,
    /// Milliseconds per delivery that failed.
    pub min_ms: u64,
    /// Milliseconds, at most.
    pub max_ms: Option<u64>,
}

/// Redeliveries of a quorum queue's message unless somebody says otherwise.
pub const DELIVERY_LIMIT: u32 = 20;

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
    /// Whether returned messages wait before they are delivered again.
    pub delayed_retry: Option<DelayedRetry>,
    /// The policies that had a say in this.
    pub policies: AppliedPolicies,
}

/// What one side asks for: a queue's arguments, a policy or an operator policy. `None` where it says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestedSettings {
    /// As in [`QueueSettings`].
    pub message_ttl_ms: Option<u64>,
    /// As in [`QueueSettings`].
    pub expires_ms: Option<u64>,
    /// As in [`QueueSettings`].
    pub max_length: Option<u64>,
    /// As in [`QueueSettings`].
    pub max_length_bytes: Option<u64>,
    /// As in [`QueueSettings`].
    pub overflow: Option<Overflow>,
    /// As in [`QueueSettings`].
    pub dead_letter_exchange: Option<ExchangeName>,
    /// As in [`QueueSettings`].
    pub dead_letter_routing_key: Option<Box<str>>,
    /// As in [`QueueSettings`].
    pub dead_letter_strategy: Option<DeadLetterStrategy>,
    /// Deliveries after the first, at most; negative for any number.
    pub delivery_limit: Option<i64>,
    /// As in [`QueueSettings`].
    pub consumer_timeout_ms: Option<u64>,
    /// Which returned messages wait.
    pub delayed_retry_type: Option<DelayedRetryType>,
    /// As in [`DelayedRetry`].
    pub delayed_retry_min_ms: Option<u64>,
    /// As in [`DelayedRetry`].
    pub delayed_retry_max_ms: Option<u64>,
}

impl RequestedSettings {
    /// Nothing.
    pub const NONE: Self = Self {
        message_ttl_ms: None,
        expires_ms: None,
        max_length: None,
        max_length_bytes: None,
        overflow: None,
        dead_letter_exchange: None,
        dead_letter_routing_key: None,
        dead_letter_strategy: None,
        delivery_limit: None,
        consumer_timeout_ms: None,
        delayed_retry_type: None,
        delayed_retry_min_ms: None,
        delayed_retry_max_ms: None,
    };

    /// Takes the values of checked arguments, asked for by their names in queue.declare.
    pub(crate) fn read<'a>(value: impl Fn(&str) -> Option<&'a FieldValue>) -> Self {
        let unsigned = |argument| {
            value(argument).and_then(FieldValue::as_integer).and_then(|number| u64::try_from(number).ok())
        };
        let text = |argument| match value(argument) {
            Some(FieldValue::LongString(octets)) => Some(String::from_utf8_lossy(octets)),
            _ => None,
        };
        Self {
            message_ttl_ms: unsigned("x-message-ttl"),
            expires_ms: unsigned("x-expires"),
            max_length: unsigned("x-max-length"),
            max_length_bytes: unsigned("x-max-length-bytes"),
            overflow: text("x-overflow").and_then(|name| Overflow::named(&name)),
            dead_letter_exchange: text("x-dead-letter-exchange").map(|name| ExchangeName::from(&*name)),
            dead_letter_routing_key: text("x-dead-letter-routing-key").map(|key| Box::from(&*key)),
            dead_letter_strategy: text("x-dead-letter-strategy")
                .and_then(|name| DeadLetterStrategy::named(&name)),
            // COMPAT: what is no integer is larger than any.
            delivery_limit: value("x-delivery-limit").map(|limit| limit.as_integer().unwrap_or(i64::MAX)),
            consumer_timeout_ms: unsigned("x-consumer-timeout"),
            delayed_retry_type: text("x-delayed-retry-type").and_then(|name| DelayedRetryType::named(&name)),
            delayed_retry_min_ms: unsigned("x-delayed-retry-min"),
            delayed_retry_max_ms: unsigned("x-delayed-retry-max"),
        }
    }
}

impl QueueSettings {
    /// What is in force where a queue's arguments and policies ask for these. COMPAT: of numbers the lower one, of
    /// anything else the argument; but a policy decides over the overflow of a quorum queue.
    #[must_use]
    pub fn merged(queue_type: QueueType, arguments: &RequestedSettings, policy: &RequestedSettings) -> Self {
        let is_quorum = queue_type == QueueType::Quorum;
        let overflow = match is_quorum {
            true => policy.overflow.or(arguments.overflow),
            false => arguments.overflow.or(policy.overflow),
        };
        let both = Self {
            message_ttl_ms: lower(arguments.message_ttl_ms, policy.message_ttl_ms),
            expires_ms: lower(arguments.expires_ms, policy.expires_ms),
            max_length: lower(arguments.max_length, policy.max_length),
            max_length_bytes: lower(arguments.max_length_bytes, policy.max_length_bytes),
            overflow: overflow.unwrap_or_default(),
            dead_letter_exchange: first(&arguments.dead_letter_exchange, &policy.dead_letter_exchange),
            dead_letter_routing_key: first(
                &arguments.dead_letter_routing_key,
                &policy.dead_letter_routing_key,
            ),
            consumer_timeout_ms: lower(arguments.consumer_timeout_ms, policy.consumer_timeout_ms),
            ..Self::default()
        };
        match queue_type {
            QueueType::Classic => both,
            QueueType::Quorum => both.of_quorum(arguments, policy),
            // COMPAT: of what there is here a stream knows the octets alone.
            QueueType::Stream => Self { max_length_bytes: both.max_length_bytes, ..Self::default() },
        }
    }

    /// Adds what only quorum queues have.
    fn of_quorum(self, arguments: &RequestedSettings, policy: &RequestedSettings) -> Self {
        let overflow = match self.overflow {
            // COMPAT: not for quorum queues, and taken as if it were not there.
            Overflow::RejectPublishDlx => Overflow::DropHead,
            other => other,
        };
        let strategy = arguments.dead_letter_strategy.or(policy.dead_letter_strategy).unwrap_or_default();
        let limit = delivery_limit(arguments.delivery_limit, policy.delivery_limit);
        let retry = (
            arguments.delayed_retry_type.or(policy.delayed_retry_type),
            arguments.delayed_retry_min_ms.or(policy.delayed_retry_min_ms),
        );
        let delayed_retry = match retry {
            (None | Some(DelayedRetryType::Disabled), _) | (_, None) => None,
            (Some(which), Some(min_ms)) => {
                let max_ms = arguments.delayed_retry_max_ms.or(policy.delayed_retry_max_ms);
                Some(DelayedRetry { which, min_ms, max_ms })
            }
        };
        Self {
            overflow,
            dead_letter_strategy: strategy,
            delivery_limit: match limit {
                None => Some(DELIVERY_LIMIT),
                // Negative, or more than can be counted: no limit.
                Some(limit) => u32::try_from(limit).ok(),
            },
            delayed_retry,
            ..self
        }
    }
}

fn lower(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn first<T: Clone>(one: &Option<T>, other: &Option<T>) -> Option<T> {
    one.as_ref().or(other.as_ref()).cloned()
}

/// COMPAT: the lower one, unless one of them is no limit; then the other.
fn delivery_limit(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    match (one, other) {
        (Some(one), Some(other)) if one < 0 || other < 0 => Some(one.max(other)),
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
