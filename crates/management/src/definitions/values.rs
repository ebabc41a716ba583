//! Field values as JSON and back. Not every value has a form in JSON: octets that are no text are shown with
//! replacement characters, a timestamp is its seconds.

use leveret_codec::table::{FIELD_NESTING_MAX, FieldTable, FieldValue};
use serde_json::{Map, Number, Value};

/// A table as an object.
pub(super) fn object_of(table: &FieldTable) -> Value {
    Value::Object(table.iter().map(|(key, value)| (text_of(key.as_bytes()), json_of(value))).collect())
}

fn json_of(value: &FieldValue) -> Value {
    let float = |number: f64| Number::from_f64(number).map_or(Value::Null, Value::Number);
    match value {
        FieldValue::Boolean(value) => Value::from(*value),
        FieldValue::LongString(octets) | FieldValue::Bytes(octets) => Value::from(text_of(octets)),
        FieldValue::Timestamp(seconds) => Value::from(*seconds),
        FieldValue::F32(value) => float(f64::from(*value)),
        FieldValue::F64(value) => float(*value),
        FieldValue::Decimal { scale, value } => float(f64::from(*value) / 10_f64.powi(i32::from(*scale))),
        FieldValue::Table(table) => object_of(table),
        FieldValue::Array(values) => Value::Array(values.iter().map(json_of).collect()),
        FieldValue::Void => Value::Null,
        integer => integer.as_integer().map_or(Value::Null, Value::from),
    }
}

fn text_of(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// An object as a table; nothing if it is nested deeper than tables may be. COMPAT: whole numbers are of 64 bits.
pub(super) fn table_of(object: &Map<String, Value>) -> Option<FieldTable> {
    table_at(object, 1)
}

fn table_at(object: &Map<String, Value>, depth: usize) -> Option<FieldTable> {
    if depth > FIELD_NESTING_MAX {
        return None;
    }
    let mut table = FieldTable::new();
    for (key, value) in object {
        table.insert(key, field_at(value, depth)?);
    }
    Some(table)
}

fn field_at(value: &Value, depth: usize) -> Option<FieldValue> {
    Some(match value {
        Value::Null => FieldValue::Void,
        Value::Bool(value) => FieldValue::from(*value),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => FieldValue::from(integer),
            None => FieldValue::from(number.as_f64()?),
        },
        Value::String(text) => FieldValue::from(text.as_str()),
        Value::Array(_) if depth >= FIELD_NESTING_MAX => return None,
        Value::Array(values) => {
            FieldValue::Array(values.iter().map(|one| field_at(one, depth + 1)).collect::<Option<_>>()?)
        }
        Value::Object(object) => FieldValue::Table(table_at(object, depth + 1)?),
    })
}
