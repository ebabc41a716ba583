//! The arguments of queue.declare that RabbitMQ knows: for which queue types, and which values. In the order in which
//! RabbitMQ looks at them, so that of several mistakes the same one is named.

use leveret_codec::table::{FieldTable, FieldValue};

use super::text::type_name;
use crate::limits::{NAME_BYTES_MAX, TIME_MS_MAX};
use crate::policy::is_age;
use crate::queue::queue_type::QueueType;

/// COMPAT: octets of a stream's segment.
const SEGMENT_BYTES_MAX: u64 = 3_000_000_000;

/// Why a value is refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// What stands behind the names of argument, queue and vhost.
    Reason(String),
    /// COMPAT: all of the text.
    Text(&'static str),
}

/// An argument.
pub(super) struct Known {
    pub(super) name: &'static str,
    types: &'static [QueueType],
    /// Whether RabbitMQ compares it when the queue is declared again.
    pub(super) is_compared: bool,
    /// Whether its value is what messages are published with later.
    is_name: bool,
    pub(super) check: fn(&FieldValue, &FieldTable) -> Result<(), Fault>,
}

impl Known {
    /// Why a value is refused that no message could be published with: it would be cut off or changed for that, so that
    /// it would be another one that was permitted.
    pub(super) fn refuse_name(&self, value: &FieldValue) -> Option<&'static str> {
        match value {
            FieldValue::LongString(octets) if self.is_name => name_fault(octets),
            _ => None,
        }
    }

    pub(super) fn is_for(&self, queue_type: QueueType) -> bool {
        self.types.contains(&queue_type)
    }
}

/// Why octets are no name of an exchange and no routing key.
pub(crate) fn name_fault(octets: &[u8]) -> Option<&'static str> {
    if octets.len() > NAME_BYTES_MAX {
        return Some("\"longer than 255 octets\"");
    }
    std::str::from_utf8(octets).is_err().then_some("\"not UTF-8\"")
}

const ANY: &[QueueType] = &[QueueType::Classic, QueueType::Quorum, QueueType::Stream];
const NO_STREAM: &[QueueType] = &[QueueType::Classic, QueueType::Quorum];
const CLASSIC: &[QueueType] = &[QueueType::Classic];
const QUORUM: &[QueueType] = &[QueueType::Quorum];
const STREAM: &[QueueType] = &[QueueType::Stream];

const fn known(
    name: &'static str,
    types: &'static [QueueType],
    check: fn(&FieldValue, &FieldTable) -> Result<(), Fault>,
) -> Known {
    Known { name, types, is_compared: true, is_name: false, check }
}

const fn name(
    name: &'static str,
    types: &'static [QueueType],
    check: fn(&FieldValue, &FieldTable) -> Result<(), Fault>,
) -> Known {
    Known { is_name: true, ..known(name, types, check) }
}

/// An argument of a plugin: as for any that RabbitMQ itself does not know, a redeclaration may say something else.
const fn of_plugin(name: &'static str, check: fn(&FieldValue, &FieldTable) -> Result<(), Fault>) -> Known {
    Known { name, types: NO_STREAM, is_compared: false, is_name: false, check }
}

pub(super) const KNOWN: &[Known] = &[
    known("x-expires", NO_STREAM, expires),
    known("x-message-ttl", NO_STREAM, message_ttl),
    name("x-dead-letter-exchange", NO_STREAM, text),
    name("x-dead-letter-routing-key", NO_STREAM, dead_letter_routing_key),
    known("x-dead-letter-strategy", QUORUM, dead_letter_strategy),
    known("x-max-length", NO_STREAM, count),
    known("x-max-length-bytes", ANY, count),
    // COMPAT: without effect since RabbitMQ 4.
    known("x-max-in-memory-length", QUORUM, count),
    known("x-max-in-memory-bytes", QUORUM, count),
    known("x-max-priority", CLASSIC, max_priority),
    known("x-overflow", NO_STREAM, overflow),
    // COMPAT: without effect since RabbitMQ 3.12.
    known("x-queue-mode", CLASSIC, queue_mode),
    known("x-queue-version", CLASSIC, queue_version),
    known("x-single-active-consumer", NO_STREAM, boolean),
    known("x-quorum-initial-group-size", QUORUM, group_size),
    // COMPAT: any value is taken.
    known("x-delivery-limit", QUORUM, anything),
    known("x-consumer-timeout", QUORUM, count),
    // Without effect on one node: a consumer whose node is gone.
    known("x-consumer-disconnected-timeout", QUORUM, count),
    known("x-delayed-retry-type", QUORUM, delayed_retry_type),
    known("x-delayed-retry-min", QUORUM, count),
    known("x-delayed-retry-max", QUORUM, count),
    // Without effect on one node: where members are.
    known("x-member-placement-tag", QUORUM, text),
    known("x-max-age", STREAM, max_age),
    known("x-stream-max-segment-size-bytes", STREAM, segment_bytes),
    known("x-stream-filter-size-bytes", STREAM, filter_size),
    known("x-initial-cluster-size", STREAM, group_size),
    // Without effect on one node: where the leader is.
    known("x-queue-leader-locator", ANY, leader_locator),
    known("x-queue-master-locator", CLASSIC, master_locator),
    of_plugin("x-message-deduplication", boolean),
    of_plugin("x-deduplication-header", text),
];

fn reason(reason: impl Into<String>) -> Fault {
    Fault::Reason(reason.into())
}

fn unacceptable(value: &FieldValue) -> Fault {
    reason(format!("{{unacceptable_type,{}}}", type_name(value)))
}

/// COMPAT: a decimal is no integer here.
pub(super) fn integer(value: &FieldValue) -> Result<i64, Fault> {
    let wrong = || reason(format!("\"expected integer, got {}\"", type_name(value)));
    value.as_integer().ok_or_else(wrong)
}

pub(super) fn not_negative(value: &FieldValue) -> Result<u64, Fault> {
    let number = integer(value)?;
    u64::try_from(number).map_err(|_| reason(format!("{{value_negative,{number}}}")))
}

fn count(value: &FieldValue, _: &FieldTable) -> Result<(), Fault> {
    not_negative(value).map(drop)
}

fn positive(value: &FieldValue, _: &FieldTable) -> Result<(), Fault> {
    match not_negative(value)? {
        0 => Err(reason("{value_zero,0}")),
        _ => Ok(()),
    }
}

fn group_size(value: &FieldValue, table: &FieldTable) -> Result<(), Fault> {
    positive(value, table)
}

fn message_ttl(value: &FieldValue, _: &FieldTable) -> Result<(), Fault> {
    match not_negative(value)? {
        number if number > TIME_MS_MAX => Err(reason(format!("{{value_too_large,{number}}}"))),
        _ => Ok(()),
    }
}

fn expires(value: &FieldValue, table: &FieldTable) -> Result<(), Fault> {
    positive(value, table)?;
    message_ttl(value, table)
}

fn max_priority(value: &FieldValue, _: &FieldTable) -> Result<(), Fault> {
    match not_negative(value)? {
        number if number > u64::from(u8::MAX) => Err(reason(format!("{{max_value_exceeded,{number}}}"))),
        _ => Ok(()),
    }
}

fn queue_version(value: &FieldValue, _: &FieldTable) -> Result<(), Fault> {
    match not_negative(value)? {
        2 => Ok(()),
        // COMPAT: version 1 is gone since RabbitMQ 4.3.
        number => Err(reason(format!("\"unsupported queue version '{number}'\""))),
    }
}

fn octets(value: &FieldValue) -> Result<&[u8], Fault> {
    match value {
        FieldValue::LongString(octets) => Ok(octets),
        other => Err(unacceptable(other)),
    }
}

fn text(value: &FieldValue, _: &FieldTable) -> Result<(), Fault> {
    octets(value).map(drop)
}

fn one_of(value: &FieldValue, names: &[&str], otherwise: impl FnOnce(&[u8]) -> Fault) -> Result<(), Fault> {
    let found = octets(value)?;
    if names.iter().any(|name| name.as_bytes() == found) { Ok(()) } else { Err(otherwise(found)) }
}

fn boolean(value: &FieldValue, _: &FieldTable) -> Result<(), Fault> {
    value.as_bool().map(drop).ok_or_else(|| unacceptable(value))
}

fn anything(_: &FieldValue, _: &FieldTable) -> Result<(), Fault> {
    Ok(())
}

fn dead_letter_routing_key(value: &FieldValue, table: &FieldTable) -> Result<(), Fault> {
    octets(value)?;
    match table.get("x-dead-letter-exchange") {
        None => Err(reason("routing_key_but_no_dlx_defined")),
        Some(_) => Ok(()),
    }
}

fn dead_letter_strategy(value: &FieldValue, _: &FieldTable) -> Result<(), Fault> {
    one_of(value, &["at-most-once", "at-least-once"], |_| reason("invalid_dlx_strategy"))
}

fn overflow(value: &FieldValue, _: &FieldTable) -> Result<(), Fault> {
    one_of(value, &["drop-head", "reject-publish", "reject-publish-dlx"], |_| reason("invalid_overflow"))
}

fn queue_mode(value: &FieldValue, _: &FieldTable) -> Result<(), Fault> {
    let other =
        |mode: &[u8]| reason(format!("\"unsupported queue mode '{}'\"", String::from_utf8_lossy(mode)));
    one_of(value, &["default", "lazy"], other)
}

/// The texts are not RabbitMQ's: nobody has asked a RabbitMQ 4.3 for them yet.
fn delayed_retry_type(value: &FieldValue, table: &FieldTable) -> Result<(), Fault> {
    one_of(value, &["disabled", "all", "failed", "returned"], |_| reason("invalid_delayed_retry_type"))?;
    let is_disabled = octets(value)? == b"disabled";
    match table.get("x-delayed-retry-min") {
        None if !is_disabled => Err(reason("delayed_retry_type_but_no_min_defined")),
        _ => Ok(()),
    }
}

fn leader_locator(value: &FieldValue, _: &FieldTable) -> Result<(), Fault> {
    let names = ["client-local", "balanced", "random", "least-leaders"];
    one_of(value, &names, |_| reason("invalid_queue_locator_arg"))
}

fn master_locator(value: &FieldValue, _: &FieldTable) -> Result<(), Fault> {
    one_of(value, &["min-masters", "client-local", "random"], |_| reason("invalid_queue_locator_arg"))
}

/// Digits, then a unit.
fn max_age(value: &FieldValue, _: &FieldTable) -> Result<(), Fault> {
    let found = octets(value)?;
    if is_age(found) { Ok(()) } else { Err(reason("invalid_max_age")) }
}

fn segment_bytes(value: &FieldValue, _: &FieldTable) -> Result<(), Fault> {
    match not_negative(value)? {
        number if number > SEGMENT_BYTES_MAX => {
            Err(Fault::Text("Exceeded max value for x-stream-max-segment-size-bytes"))
        }
        _ => Ok(()),
    }
}

fn filter_size(value: &FieldValue, _: &FieldTable) -> Result<(), Fault> {
    match value.as_integer() {
        None => Err(Fault::Text("Invalid type for x-stream-filter-size-bytes")),
        Some(16..=255) => Ok(()),
        Some(_) => Err(Fault::Text("Invalid value for x-stream-filter-size-bytes")),
    }
}
