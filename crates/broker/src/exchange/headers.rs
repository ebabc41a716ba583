//! Bindings of a headers exchange: each is matched against the message's headers by one of four modes.
//! COMPAT: comparison drops the wire type: integers of all widths are alike and never equal a float,
//! strings and byte arrays compare by octets, a void asks for presence alone.

use leveret_codec::table::{FieldTable, FieldTableRef, FieldValue, FieldValueRef};

use super::destination::{BoundDestination, Destination};
use crate::error::BrokerError;
use crate::queue::arguments::{type_name, value_text};

/// The bindings of a headers exchange.
#[derive(Debug, Default)]
pub(crate) struct HeadersBindings(Vec<HeadersBinding>);

#[derive(Debug)]
struct HeadersBinding {
    routing_key: Box<str>,
    bound: BoundDestination,
    mode: Mode,
    /// Arguments that take part in matching.
    wanted: Vec<(Box<[u8]>, FieldValue)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    All,
    Any,
}

impl HeadersBindings {
    /// `false` if it was there.
    pub(crate) fn insert(
        &mut self,
        routing_key: &str,
        bound: BoundDestination,
        arguments: &FieldTable,
    ) -> Result<bool, BrokerError> {
        let (mode, with_x) = x_match(arguments)?;
        if self.0.iter().any(|binding| *binding.routing_key == *routing_key && binding.bound == bound) {
            return Ok(false);
        }
        let wanted = arguments
            .iter()
            .map(|(key, value)| (key.as_bytes(), value))
            .filter(|(key, _)| *key != b"x-match" && (with_x || !key.starts_with(b"x-")))
            .map(|(key, value)| (key.into(), value.clone()))
            .collect();
        self.0.push(HeadersBinding { routing_key: routing_key.into(), bound, mode, wanted });
        Ok(true)
    }

    /// `false` if it was not there.
    pub(crate) fn remove(&mut self, routing_key: &str, bound: &BoundDestination) -> bool {
        let is_it =
            |binding: &HeadersBinding| *binding.routing_key == *routing_key && binding.bound == *bound;
        let Some(index) = self.0.iter().position(is_it) else { return false };
        self.0.swap_remove(index);
        true
    }

    pub(crate) fn route(&self, headers: Option<FieldTableRef<'_>>, found: &mut dyn FnMut(&Destination)) {
        let mut fields: Vec<_> = headers.iter().flat_map(FieldTableRef::iter).collect();
        // Sorted once, so that a frame full of headers costs no square of them.
        fields.sort_by_key(|(name, _)| *name);
        for binding in self.0.iter().filter(|binding| binding.matches(&fields)) {
            found(&binding.bound.destination);
        }
    }

    pub(crate) fn for_each(&self, found: &mut dyn FnMut(&str, &BoundDestination)) {
        self.0.iter().for_each(|binding| found(&binding.routing_key, &binding.bound));
    }
}

impl HeadersBinding {
    /// `fields` are sorted by name.
    fn matches(&self, fields: &[(&[u8], FieldValueRef<'_>)]) -> bool {
        let holds = |(key, wanted): &(Box<[u8]>, FieldValue)| {
            let first = fields.partition_point(|(name, _)| *name < &**key);
            let named = fields.iter().skip(first).take_while(|(name, _)| *name == &**key);
            named.into_iter().any(|(_, value)| *wanted == FieldValue::Void || is_equal(wanted, value))
        };
        match self.mode {
            Mode::All => self.wanted.iter().all(holds),
            Mode::Any => self.wanted.iter().any(holds),
        }
    }
}

/// The mode, and whether arguments whose name starts with `x-` take part.
fn x_match(arguments: &FieldTable) -> Result<(Mode, bool), BrokerError> {
    match arguments.get("x-match") {
        None => Ok((Mode::All, false)),
        Some(FieldValue::LongString(mode)) => match mode.as_slice() {
            b"all" => Ok((Mode::All, false)),
            b"any" => Ok((Mode::Any, false)),
            b"all-with-x" => Ok((Mode::All, true)),
            b"any-with-x" => Ok((Mode::Any, true)),
            other => Err(BrokerError::InvalidXMatch { value: String::from_utf8_lossy(other).into_owned() }),
        },
        Some(other) => {
            Err(BrokerError::InvalidXMatchType { type_name: type_name(other), value: value_text(other) })
        }
    }
}

fn is_equal(wanted: &FieldValue, value: &FieldValueRef<'_>) -> bool {
    match (wanted, value) {
        (FieldValue::LongString(one) | FieldValue::Bytes(one), FieldValueRef::LongString(other))
        | (FieldValue::LongString(one) | FieldValue::Bytes(one), FieldValueRef::Bytes(other)) => one == other,
        (FieldValue::F32(_) | FieldValue::F64(_), FieldValueRef::F32(_) | FieldValueRef::F64(_)) => {
            float(wanted) == float(&value.to_owned())
        }
        _ => {
            let value = value.to_owned();
            match (integer(wanted), integer(&value)) {
                (Some(one), Some(other)) => one == other,
                (None, None) => *wanted == value,
                _ => false,
            }
        }
    }
}

fn integer(value: &FieldValue) -> Option<i128> {
    Some(match *value {
        FieldValue::I8(number) => number.into(),
        FieldValue::U8(number) => number.into(),
        FieldValue::I16(number) => number.into(),
        FieldValue::U16(number) => number.into(),
        FieldValue::I32(number) => number.into(),
        FieldValue::U32(number) => number.into(),
        FieldValue::I64(number) => number.into(),
        FieldValue::Timestamp(number) => number.into(),
        _ => return None,
    })
}

/// NaN is no number and equals nothing, itself included.
fn float(value: &FieldValue) -> Option<f64> {
    match *value {
        FieldValue::F32(number) => Some(number.into()),
        FieldValue::F64(number) => Some(number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::ExchangeName;

    fn table(fields: &[(&str, FieldValue)]) -> FieldTable {
        fields.iter().fold(FieldTable::new(), |table, (key, value)| table.with(key, value.clone()))
    }

    fn routes(arguments: &[(&str, FieldValue)], headers: &[(&str, FieldValue)]) -> bool {
        let arguments = table(arguments);
        let mut bindings = HeadersBindings::default();
        let bound = BoundDestination {
            destination: Destination::Exchange(ExchangeName::from("x")),
            arguments: super::super::destination::canonical(&arguments),
        };
        assert!(bindings.insert("", bound, &arguments).unwrap());
        let encoded = table(headers).encoded();
        let mut found = false;
        bindings.route(Some(FieldTableRef::parse(&encoded).unwrap()), &mut |_| found = true);
        found
    }

    fn text(value: &str) -> FieldValue {
        FieldValue::LongString(value.as_bytes().to_vec())
    }

    #[test]
    fn all_needs_every_argument_and_any_needs_one() {
        let headers = [("a", text("1")), ("b", text("2"))];
        assert!(routes(&[("a", text("1")), ("b", text("2"))], &headers));
        assert!(!routes(&[("a", text("1")), ("c", text("3"))], &headers));
        assert!(routes(&[("x-match", text("any")), ("a", text("1")), ("c", text("3"))], &headers));
        assert!(!routes(&[("x-match", text("any")), ("c", text("3"))], &headers));
    }

    #[test]
    fn plain_modes_ignore_arguments_that_start_with_x() {
        let headers = [("x-a", text("1"))];
        assert!(routes(&[("x-a", text("other"))], &headers));
        assert!(!routes(&[("x-match", text("any")), ("x-a", text("1"))], &headers));
        assert!(routes(&[("x-match", text("any-with-x")), ("x-a", text("1"))], &headers));
        assert!(!routes(&[("x-match", text("all-with-x")), ("x-a", text("2"))], &headers));
    }

    #[test]
    fn no_arguments_match_everything_in_all_and_nothing_in_any() {
        assert!(routes(&[], &[]));
        assert!(!routes(&[("x-match", text("any"))], &[("a", text("1"))]));
    }

    #[test]
    fn integers_of_all_widths_are_alike_and_no_float() {
        assert!(routes(&[("n", FieldValue::I32(5))], &[("n", FieldValue::I64(5))]));
        assert!(routes(&[("n", FieldValue::I32(5))], &[("n", FieldValue::U8(5))]));
        assert!(!routes(&[("n", FieldValue::I32(5))], &[("n", FieldValue::F64(5.0))]));
        assert!(routes(&[("n", FieldValue::F32(0.5))], &[("n", FieldValue::F64(0.5))]));
        assert!(!routes(&[("n", FieldValue::F64(f64::NAN))], &[("n", FieldValue::F64(f64::NAN))]));
        assert!(routes(&[("n", FieldValue::Void)], &[("n", FieldValue::F64(f64::NAN))]));
    }

    #[test]
    fn an_unknown_mode_is_refused() {
        let arguments = table(&[("x-match", text("some"))]);
        assert!(matches!(x_match(&arguments), Err(BrokerError::InvalidXMatch { .. })));
        let arguments = table(&[("x-match", FieldValue::I32(1))]);
        assert!(matches!(x_match(&arguments), Err(BrokerError::InvalidXMatchType { .. })));
    }
}
