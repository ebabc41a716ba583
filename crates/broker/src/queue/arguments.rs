//! Arguments of queue.declare and basic.consume, parsed once. Those that Leveret does not implement yet
//! are refused, those that nobody knows are kept and ignored, as RabbitMQ does.

use leveret_codec::table::{FieldTable, FieldValue};

use super::settings::{Overflow, QueueSettings};
use crate::error::BrokerError;
use crate::names::ExchangeName;

/// Queue arguments of RabbitMQ whose effect is not implemented yet.
const UNSUPPORTED: &[&str] = &[
    "x-dead-letter-strategy",
    "x-max-priority",
    "x-single-active-consumer",
    "x-queue-mode",
    "x-queue-version",
    "x-queue-leader-locator",
    "x-queue-master-locator",
    "x-delivery-limit",
    "x-quorum-initial-group-size",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-consumer-timeout",
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
    "x-initial-cluster-size",
    "x-message-deduplication",
];

/// Consumer arguments of RabbitMQ whose effect is not implemented yet.
const UNSUPPORTED_OF_CONSUMER: &[&str] =
    &["x-consumer-timeout", "x-stream-offset", "x-stream-filter", "x-stream-match-unfiltered"];

/// What a queue was declared with, beyond its flags.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueueArguments {
    table: FieldTable,
}

impl QueueArguments {
    /// Checks the arguments of a new queue.
    ///
    /// # Errors
    /// An argument that is not supported, or whose value is of the wrong type or unknown.
    pub fn parse(table: FieldTable, queue: &str, vhost: &str) -> Result<Self, BrokerError> {
        let invalid = |argument: &str, reason: String| BrokerError::InvalidArgument {
            argument: argument.to_owned(),
            kind: "queue",
            name: queue.to_owned(),
            vhost: vhost.to_owned(),
            reason,
        };
        if let Some(argument) = UNSUPPORTED.iter().find(|argument| table.get(argument).is_some()) {
            return Err(invalid(argument, "not supported by this version of Leveret".to_owned()));
        }
        match table.get("x-queue-type") {
            None => {}
            Some(FieldValue::LongString(queue_type)) if queue_type == b"classic" => {}
            Some(FieldValue::LongString(queue_type))
                if queue_type == b"quorum" || queue_type == b"stream" =>
            {
                let reason = format!(
                    "queue type '{}' is not supported by this version of Leveret",
                    String::from_utf8_lossy(queue_type)
                );
                return Err(invalid("x-queue-type", reason));
            }
            Some(FieldValue::LongString(queue_type)) => {
                let reason = format!("\"unsupported queue type '{}'\"", String::from_utf8_lossy(queue_type));
                return Err(invalid("x-queue-type", reason));
            }
            Some(other) => {
                let reason = format!("\"expected longstr, got {}\"", type_name(other));
                return Err(invalid("x-queue-type", reason));
            }
        }
        Ok(Self { table })
    }

    /// What the arguments alone put in force.
    #[must_use]
    pub fn settings(&self) -> QueueSettings {
        let number =
            |key: &str| self.table.get(key)?.as_integer().and_then(|value| u64::try_from(value).ok());
        let text = |key: &str| self.table.get(key)?.as_str();
        QueueSettings {
            message_ttl_ms: number("x-message-ttl"),
            expires_ms: number("x-expires"),
            max_length: number("x-max-length"),
            max_length_bytes: number("x-max-length-bytes"),
            overflow: match text("x-overflow") {
                Some("reject-publish") => Overflow::RejectPublish,
                Some("reject-publish-dlx") => Overflow::RejectPublishDlx,
                _ => Overflow::DropHead,
            },
            dead_letter_exchange: text("x-dead-letter-exchange").map(ExchangeName::from),
            dead_letter_routing_key: text("x-dead-letter-routing-key").map(Box::from),
            ..QueueSettings::default()
        }
    }

    /// The table as it was declared.
    #[must_use]
    pub fn table(&self) -> &FieldTable {
        &self.table
    }

    /// Whether a declaration with `other` means the same queue. Only arguments with a meaning are
    /// compared; of those supported today that is the queue type, whose only value is the default.
    #[must_use]
    pub fn equivalent(&self, other: &FieldTable) -> Option<(&'static str, String)> {
        let unsupported = UNSUPPORTED.iter().find_map(|&argument| {
            let value = other.get(argument)?;
            Some((argument, format!("received {} but current is none", rendered(value))))
        });
        unsupported.or_else(|| match other.get("x-queue-type") {
            None => None,
            Some(FieldValue::LongString(queue_type)) if queue_type == b"classic" => None,
            Some(value) => {
                let received = rendered(value).replacen("the value ", "", 1);
                let received = received.split(" of type").next().unwrap_or_default().to_owned();
                Some(("x-queue-type", format!("received {received} but current is 'classic'")))
            }
        })
    }
}

/// Reads the arguments of basic.consume: the consumer's priority.
///
/// # Errors
/// An argument that is known to RabbitMQ and not supported here, or of the wrong type.
pub fn consumer_priority(table: &FieldTable, queue: &str, vhost: &str) -> Result<i64, BrokerError> {
    let invalid = |argument: &str, reason: String| BrokerError::InvalidArgument {
        argument: argument.to_owned(),
        kind: "queue",
        name: queue.to_owned(),
        vhost: vhost.to_owned(),
        reason,
    };
    if let Some(argument) = UNSUPPORTED_OF_CONSUMER.iter().find(|argument| table.get(argument).is_some()) {
        return Err(invalid(argument, "not supported by this version of Leveret".to_owned()));
    }
    match table.get("x-priority") {
        None => Ok(0),
        Some(value) => value
            .as_integer()
            .ok_or_else(|| invalid("x-priority", format!("\"expected integer, got {}\"", type_name(value)))),
    }
}

/// A value as RabbitMQ names it in the text of an inequivalent argument.
pub(crate) fn rendered(value: &FieldValue) -> String {
    format!("the value '{}' of type '{}'", value_text(value), type_name(value))
}

/// A value alone, as RabbitMQ prints it.
pub(crate) fn value_text(value: &FieldValue) -> String {
    match value {
        FieldValue::LongString(octets) | FieldValue::Bytes(octets) => {
            String::from_utf8_lossy(octets).into_owned()
        }
        FieldValue::Boolean(value) => value.to_string(),
        FieldValue::I8(value) => value.to_string(),
        FieldValue::U8(value) => value.to_string(),
        FieldValue::I16(value) => value.to_string(),
        FieldValue::U16(value) => value.to_string(),
        FieldValue::I32(value) => value.to_string(),
        FieldValue::U32(value) => value.to_string(),
        FieldValue::I64(value) => value.to_string(),
        FieldValue::Timestamp(value) => value.to_string(),
        FieldValue::F32(value) => value.to_string(),
        FieldValue::F64(value) => value.to_string(),
        other => format!("{other:?}"),
    }
}

/// RabbitMQ's name of a field value's type.
#[must_use]
pub fn type_name(value: &FieldValue) -> &'static str {
    match value {
        FieldValue::Boolean(_) => "bool",
        FieldValue::I8(_) => "byte",
        FieldValue::U8(_) => "unsignedbyte",
        FieldValue::I16(_) => "short",
        FieldValue::U16(_) => "unsignedshort",
        FieldValue::I32(_) => "signedint",
        FieldValue::U32(_) => "unsignedint",
        FieldValue::I64(_) => "long",
        FieldValue::F32(_) => "float",
        FieldValue::F64(_) => "double",
        FieldValue::Decimal { .. } => "decimal",
        FieldValue::LongString(_) => "longstr",
        FieldValue::Array(_) => "array",
        FieldValue::Timestamp(_) => "timestamp",
        FieldValue::Table(_) => "table",
        FieldValue::Void => "void",
        FieldValue::Bytes(_) => "binary",
    }
}
