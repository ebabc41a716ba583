//! Field tables as JSON and back, for answers, requests and definitions. Not every value has a form in JSON: octets
//! that are no text are shown with replacement characters, a timestamp is its seconds.

use leveret_codec::table::{FIELD_NESTING_MAX, FieldTable, FieldValue};
use serde_json::{Map, Number, Value};

/// A table as an object.
pub(crate) fn object(table: &FieldTable) -> Value {
    let fields = table.iter().map(|(key, value)| (lossy(key.as_bytes()), self::value(value)));
    Value::Object(fields.collect())
}

/// A value.
pub(crate) fn value(value: &FieldValue) -> Value {
    match value {
        FieldValue::Boolean(flag) => Value::Bool(*flag),
        FieldValue::F32(number) => float(f64::from(*number)),
        FieldValue::F64(number) => float(*number),
        FieldValue::Decimal { scale, value } => float(f64::from(*value) / 10_f64.powi(i32::from(*scale))),
        FieldValue::LongString(octets) | FieldValue::Bytes(octets) => Value::String(lossy(octets)),
        FieldValue::Array(values) => Value::Array(values.iter().map(self::value).collect()),
        FieldValue::Timestamp(seconds) => Value::from(*seconds),
        FieldValue::Table(table) => object(table),
        FieldValue::Void => Value::Null,
        FieldValue::I8(_)
        | FieldValue::U8(_)
        | FieldValue::I16(_)
        | FieldValue::U16(_)
        | FieldValue::I32(_)
        | FieldValue::U32(_)
        | FieldValue::I64(_) => value.as_integer().map_or(Value::Null, Value::from),
    }
}

/// A number; what JSON has no digits for is null.
pub(crate) fn float(number: f64) -> Value {
    Number::from_f64(number).map_or(Value::Null, Value::Number)
}

/// Text, of which what is not UTF-8 is lost.
pub(crate) fn lossy(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// An object as a table; nothing if it is nested deeper than tables may be. COMPAT: whole numbers become 64 bits wide;
/// those beyond become floats.
pub(crate) fn table(object: &Map<String, Value>) -> Option<FieldTable> {
    table_at(object, 1)
}

/// A value of a table; nothing if it is nested deeper than it may be there.
pub(crate) fn field(value: &Value) -> Option<FieldValue> {
    field_at(value, 1)
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

/// A value in a table of that depth.
fn field_at(value: &Value, depth: usize) -> Option<FieldValue> {
    Some(match value {
        Value::Null => FieldValue::Void,
        Value::Bool(flag) => FieldValue::Boolean(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => FieldValue::I64(integer),
            None => FieldValue::F64(number.as_f64()?),
        },
        Value::String(text) => FieldValue::LongString(text.as_bytes().to_vec()),
        Value::Array(_) if depth >= FIELD_NESTING_MAX => return None,
        Value::Array(values) => {
            FieldValue::Array(values.iter().map(|one| field_at(one, depth + 1)).collect::<Option<_>>()?)
        }
        Value::Object(object) => FieldValue::Table(table_at(object, depth + 1)?),
    })
}

/// A moment as RabbitMQ writes it, `2026-11-21T14:49:59.460+00:00`.
pub(crate) fn moment(milliseconds: u64) -> String {
    let (days, of_day) = (milliseconds / 86_400_000, milliseconds % 86_400_000);
    // Days are counted from 1 March of year 0, so that a leap day ends its year.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (seconds, thousandths) = (of_day / 1000, of_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{thousandths:03}+00:00")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_json_can_say_survives_the_way_there_and_back() {
        let value = json!({ "t": { "n": [1, -2, 3.5, "x", true, null] }, "big": u64::MAX });
        let there = table(value.as_object().expect("an object")).expect("not deep");
        assert_eq!(there.get("t").and_then(FieldValue::as_table).map(FieldTable::len), Some(1));
        let mut back = object(&there);
        assert_eq!(back["t"], value["t"]);
        assert_eq!(back["big"].take().as_f64(), Some(u64::MAX as f64));
    }

    #[test]
    fn what_could_not_be_read_again_is_no_table() {
        let nested =
            |depth: usize, wrap: fn(Value) -> Value| (1..depth).fold(json!({}), |inner, _| wrap(inner));
        for wrap in
            [|inner| json!({ "a": inner }), |inner| json!({ "a": [inner] })] as [fn(Value) -> Value; 2]
        {
            for depth in 1..=2 * FIELD_NESTING_MAX {
                let value = nested(depth, wrap);
                let table = table(value.as_object().expect("an object"));
                let is_read =
                    table.as_ref().is_some_and(|table| FieldTable::decode(&table.encoded()).is_ok());
                assert_eq!(is_read, table.is_some(), "{depth}");
            }
        }
        let deepest = nested(FIELD_NESTING_MAX, |inner| json!({ "a": inner }));
        assert!(table(deepest.as_object().expect("an object")).is_some());
        assert!(field(&json!([deepest])).is_none());
    }

    #[test]
    fn moments_are_dates() {
        assert_eq!(moment(0), "1970-01-01T00:00:00.000+00:00");
        assert_eq!(moment(951_782_399_999), "2000-02-28T23:59:59.999+00:00");
        assert_eq!(moment(951_782_400_000), "2000-02-29T00:00:00.000+00:00");
        assert_eq!(moment(1_795_272_599_460), "2026-11-21T14:49:59.460+00:00");
    }
}
