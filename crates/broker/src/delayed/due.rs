//! When a message is due, by its headers: `x-delay`, milliseconds from now, or `x-deliver-at`, a time. And what it
//! looks like when its time has come.

use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTable, FieldTableRef, FieldValue, FieldValueRef};

use crate::error::BrokerError;
use crate::limits::TIME_MS_MAX;
use crate::message::{Extras, MessageBatch, MessageView};
use crate::time::Timestamp;
use crate::vhost::PublishedBy;

const DELAY: &str = "x-delay";
const DELIVER_AT: &str = "x-deliver-at";
const BLIND_COPIES: &str = "BCC";

/// When a message with these headers is due; `None`: at once.
///
/// COMPAT: x-delay is an integer of any width; a float is cut, a string that is an integer counts as one, anything
/// else, and what is not positive, means no delay. x-deliver-at is Leveret's own: milliseconds since 1970 as an
/// integer, or a timestamp of AMQP, which has seconds. With both, x-deliver-at says when.
///
/// # Errors
/// That is more than ten years away, and is to be refused.
pub(crate) fn due_at(
    headers: Option<FieldTableRef<'_>>,
    by: PublishedBy,
    now: impl FnOnce() -> Timestamp,
) -> Result<Option<Timestamp>, BrokerError> {
    let Some(headers) = headers else { return Ok(None) };
    let at = headers.get(DELIVER_AT).and_then(|value| time(&value));
    if at.is_none() && headers.get(DELAY).is_none() {
        return Ok(None);
    }
    let now = now();
    let delay_ms = match at {
        Some(at) => at.saturating_sub(i64::try_from(now.0).unwrap_or(i64::MAX)),
        None => headers.get(DELAY).and_then(|value| delay(&value)).unwrap_or_default(),
    };
    match u64::try_from(delay_ms) {
        Err(_) | Ok(0) => Ok(None),
        Ok(delay_ms) if delay_ms > TIME_MS_MAX && by == PublishedBy::Client => {
            Err(BrokerError::DelayTooLong { delay_ms })
        }
        Ok(delay_ms) => Ok(Some(now.after_ms(delay_ms.min(TIME_MS_MAX)))),
    }
}

fn delay(value: &FieldValueRef<'_>) -> Option<i64> {
    match value {
        // A cast of a float stops at the ends of the range.
        FieldValueRef::F32(value) => Some(*value as i64),
        FieldValueRef::F64(value) => Some(*value as i64),
        FieldValueRef::LongString(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        value => value.as_integer(),
    }
}

fn time(value: &FieldValueRef<'_>) -> Option<i64> {
    match value {
        FieldValueRef::Timestamp(seconds) => {
            Some(i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX))
        }
        value => value.as_integer(),
    }
}

/// The properties of a message to be kept until it is due: with the keys that only its publisher was to see, since it
/// is routed by them then. `None` if there are no such.
#[must_use]
pub fn with_blind_copies(properties: &[u8], copies: &[String]) -> Option<Vec<u8>> {
    let mut properties = Properties::decode(properties).unwrap_or_default();
    let headers = properties.headers?;
    let open = match headers.get("CC") {
        Some(FieldValueRef::Array(open)) => {
            open.iter().filter(|value| matches!(value, FieldValueRef::LongString(_))).count()
        }
        _ => 0,
    };
    let blind = copies.get(open..).filter(|blind| !blind.is_empty())?;
    let mut headers = headers.to_owned();
    let blind = blind.iter().map(|key| FieldValue::LongString(key.as_bytes().into()));
    headers.set(BLIND_COPIES, FieldValue::Array(blind.collect()));
    Some(encoded(&mut properties, &headers))
}

fn encoded(properties: &mut Properties<'_>, headers: &FieldTable) -> Vec<u8> {
    let octets = headers.encoded();
    let mut changed = Properties { headers: FieldTableRef::parse(&octets).ok(), ..*properties };
    if headers.is_empty() {
        changed.headers = None;
    }
    let mut out = Vec::with_capacity(octets.len() + 64);
    changed.encode(&mut out);
    out
}

/// Appends a message whose time has come, as it is published now. COMPAT: its x-delay is negated, so that it is told
/// from one that was not delayed, and is not delayed again; its time to live begins.
pub(crate) fn push_due(batch: &mut MessageBatch, message: &MessageView<'_>, now: Timestamp) {
    let mut properties = Properties::decode(message.properties).unwrap_or_default();
    let negated = properties.headers.and_then(|headers| negated(&headers));
    let expiration = properties.expiration.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    let extras = Extras {
        expires_at: expiration.map(|ttl| now.after_ms(ttl)),
        deliver_at: None,
        ..Extras::decode(message.extras)
    };
    let changed = negated.map(|headers| encoded(&mut properties, &headers));
    let properties = changed.as_deref().unwrap_or(message.properties);
    batch.push(&MessageView { properties, extras: extras.encode().as_slice(), ..*message });
}

fn negated(headers: &FieldTableRef<'_>) -> Option<FieldTable> {
    let delay = headers.get(DELAY).and_then(|value| delay(&value)).filter(|delay| *delay > 0)?;
    let mut headers = headers.to_owned();
    let negated = match i32::try_from(-delay) {
        Ok(narrow) => FieldValue::I32(narrow),
        Err(_) => FieldValue::I64(-delay),
    };
    headers.set(DELAY, negated);
    Some(headers)
}

/// The properties without the keys that only the publisher was to see, and these; `None` if there are none.
pub(crate) fn without_blind_copies(properties: &[u8]) -> Option<(Vec<u8>, Vec<String>)> {
    let mut properties = Properties::decode(properties).ok()?;
    let mut headers = properties.headers.filter(|headers| headers.get(BLIND_COPIES).is_some())?.to_owned();
    let keys = match headers.remove(BLIND_COPIES) {
        Some(FieldValue::Array(keys)) => keys,
        _ => Vec::new(),
    };
    let keys = keys.iter().filter_map(FieldValue::as_str).map(str::to_owned).collect();
    Some((encoded(&mut properties, &headers), keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn due(headers: &FieldTable) -> Result<Option<u64>, BrokerError> {
        let octets = headers.encoded();
        due_at(FieldTableRef::parse(&octets).ok(), PublishedBy::Client, || NOW)
            .map(|due| due.map(|due| due.0))
    }

    fn delayed(value: impl Into<FieldValue>) -> Option<u64> {
        due(&FieldTable::new().with(DELAY, value)).unwrap()
    }

    #[test]
    fn a_delay_is_an_integer_of_any_width_or_what_reads_as_one() {
        let values = [
            FieldValue::I8(5),
            FieldValue::U8(5),
            FieldValue::I16(5),
            FieldValue::U16(5),
            FieldValue::I32(5),
            FieldValue::U32(5),
            FieldValue::I64(5),
            FieldValue::F32(5.9),
            FieldValue::F64(5.9),
            FieldValue::LongString(b"5".as_slice().into()),
        ];
        for value in values {
            assert_eq!(delayed(value.clone()), Some(1_000_005), "{value:?}");
        }
        assert_eq!(delayed(u32::MAX), Some(1_000_000 + u64::from(u32::MAX)));
        let none = [FieldValue::I32(0), FieldValue::I64(-5), FieldValue::Void, FieldValue::Boolean(true)];
        for value in none.into_iter().chain([FieldValue::Timestamp(5), FieldValue::from("five")]) {
            assert_eq!(delayed(value.clone()), None, "{value:?}");
        }
        assert_eq!(due(&FieldTable::new()), Ok(None));
    }

    #[test]
    fn a_time_is_in_milliseconds_or_a_timestamp_and_wins() {
        let at = |value: FieldValue| due(&FieldTable::new().with(DELAY, 5).with(DELIVER_AT, value)).unwrap();
        assert_eq!(at(FieldValue::I64(1_000_100)), Some(1_000_100));
        assert_eq!(at(FieldValue::Timestamp(1_001)), Some(1_001_000));
        assert_eq!(at(FieldValue::I64(999_999)), None, "in the past");
        assert_eq!(at(FieldValue::from("soon")), Some(1_000_005), "no time at all");
    }

    #[test]
    fn more_than_ten_years_is_refused() {
        let longest = i64::try_from(TIME_MS_MAX).unwrap();
        assert!(delayed(longest).is_some());
        let refused = |headers: FieldTable| due(&headers).unwrap_err();
        assert_eq!(
            refused(FieldTable::new().with(DELAY, longest + 1)),
            BrokerError::DelayTooLong { delay_ms: TIME_MS_MAX + 1 }
        );
        refused(FieldTable::new().with(DELAY, i64::MAX));
        refused(FieldTable::new().with(DELAY, 1e300));
        refused(FieldTable::new().with(DELIVER_AT, FieldValue::Timestamp(u64::MAX)));
    }

    #[test]
    fn blind_copies_are_kept_and_taken_off_again() {
        let headers = FieldTable::new()
            .with("CC", FieldValue::Array(vec!["open".into(), FieldValue::I32(1)]))
            .with("k", 1);
        let octets = headers.encoded();
        let mut properties = Vec::new();
        Properties { headers: FieldTableRef::parse(&octets).ok(), ..Properties::default() }
            .encode(&mut properties);
        assert_eq!(with_blind_copies(&properties, &["open".into()]), None);
        let copies = ["open".to_owned(), "blind".to_owned()];
        let kept = with_blind_copies(&properties, &copies).unwrap();
        assert_eq!(without_blind_copies(&kept), Some((properties.clone(), vec!["blind".to_owned()])));
        assert_eq!(without_blind_copies(&properties), None);
    }
}
