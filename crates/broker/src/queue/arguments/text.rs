//! Values of arguments as RabbitMQ's texts print them, and when two of them mean the same.

use leveret_codec::table::FieldValue;

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
        FieldValue::Void => "undefined".to_owned(),
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

/// How an argument differs, as the text of the refusal says it; `None` if both sides mean the same.
pub(crate) fn difference(received: Option<&FieldValue>, current: Option<&FieldValue>) -> Option<String> {
    // COMPAT: types are named only where one side is missing; void is nothing where both are there.
    let text = |value| match value {
        &FieldValue::Void => "none".to_owned(),
        value => format!("'{}'", value_text(value)),
    };
    let (received, current) = match (received, current) {
        (None, None) => return None,
        (Some(received), Some(current)) if is_same(received, current) => return None,
        (Some(received), Some(current)) => (text(received), text(current)),
        (None, Some(current)) => ("none".to_owned(), rendered(current)),
        (Some(received), None) => (rendered(received), "none".to_owned()),
    };
    Some(format!("received {received} but current is {current}"))
}

/// COMPAT: integers are equal by value whatever their width, and so are floats; an integer never equals a float.
fn is_same(one: &FieldValue, other: &FieldValue) -> bool {
    let of_class = match (whole(one), whole(other), float(one), float(other)) {
        (Some(one), Some(other), ..) => one == other,
        (.., Some(one), Some(other)) => one == other,
        _ => false,
    };
    of_class || one == other
}

/// An integer of any width, or a decimal without a fraction.
fn whole(value: &FieldValue) -> Option<i64> {
    let &FieldValue::Decimal { scale, value } = value else { return value.as_integer() };
    match 10_u32.checked_pow(u32::from(scale)) {
        Some(divisor) if value % divisor == 0 => Some(i64::from(value / divisor)),
        // The divisor is larger than any value.
        None if value == 0 => Some(0),
        _ => None,
    }
}

fn float(value: &FieldValue) -> Option<f64> {
    match value {
        FieldValue::F32(value) => Some(f64::from(*value)),
        FieldValue::F64(value) => Some(*value),
        _ => None,
    }
}
