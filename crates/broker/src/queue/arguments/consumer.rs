//! Arguments of basic.consume, with RabbitMQ's checks and texts.

use leveret_codec::table::FieldTable;

use super::Names;
use super::known::{Fault, integer, not_negative};
use crate::error::BrokerError;
use crate::queue::queue_type::QueueType;

/// Consumer arguments and the types of queues that have them.
const KNOWN: &[(&str, &[QueueType])] = &[
    ("x-priority", &[QueueType::Classic, QueueType::Quorum]),
    ("x-consumer-timeout", &[QueueType::Quorum]),
    ("x-stream-offset", &[QueueType::Stream]),
    ("x-stream-filter", &[QueueType::Stream]),
    ("x-stream-match-unfiltered", &[QueueType::Stream]),
];

/// What a consumer asks for beyond its flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConsumerArguments {
    /// Consumers of a higher one are served first.
    pub priority: i64,
    /// Milliseconds a delivery may stay unsettled, if not what the queue says.
    pub timeout_ms: Option<u64>,
}

impl ConsumerArguments {
    /// Reads the arguments of a consumer of `queue`. Those that nobody knows are ignored.
    ///
    /// # Errors
    /// An argument that is not for this type of queue, or whose value is of the wrong type or not possible.
    pub fn parse(
        table: &FieldTable,
        queue_type: QueueType,
        queue: &str,
        vhost: &str,
    ) -> Result<Self, BrokerError> {
        let names = Names { queue, vhost };
        let refused = |argument: &str, fault| match fault {
            Fault::Reason(reason) => names.invalid(argument, reason),
            Fault::Text(text) => BrokerError::ImpossibleArgument { text },
        };
        let own = |argument: &str| {
            let is_own = KNOWN.iter().any(|(name, types)| *name == argument && types.contains(&queue_type));
            table.get(argument).filter(|_| is_own)
        };
        let mut arguments = Self::default();
        if let Some(value) = own("x-priority") {
            arguments.priority = integer(value).map_err(|fault| refused("x-priority", fault))?;
        }
        if let Some(value) = own("x-consumer-timeout") {
            let timeout = not_negative(value).map_err(|fault| refused("x-consumer-timeout", fault))?;
            arguments.timeout_ms = Some(timeout);
        }
        let of_other =
            KNOWN.iter().find(|(name, types)| !types.contains(&queue_type) && table.contains_key(name));
        match of_other {
            None => Ok(arguments),
            Some((name, _)) => Err(names.not_for(name, queue_type)),
        }
    }
}
