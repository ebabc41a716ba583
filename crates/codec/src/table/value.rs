//! The values of an owned [`FieldTable`], one variant per type RabbitMQ knows.
//!
//! COMPAT: the letters are RabbitMQ's, which differ from the specification's: `s` is an i16 and not a short
//! string, `l` and `L` are both an i64, `u` is a u16, `x` a byte array.

use super::{FieldTable, put_sized};
use crate::wire::{put_long_octets, put_u8, put_u16, put_u32, put_u64};

/// A typed value. Floats are equal if their bits are, so that what was read equals what is written again.
#[derive(Debug, Clone)]
pub enum FieldValue {
    /// `t`
    Boolean(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l`; read from `L` too
    I64(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: `value` divided by ten to the power of `scale`
    Decimal {
        /// Decimal places.
        scale: u8,
        /// The digits without the point.
        value: u32,
    },
    /// `S`
    LongString(Vec<u8>),
    /// `A`
    Array(Vec<Self>),
    /// `T`: seconds since 1970
    Timestamp(u64),
    /// `F`
    Table(FieldTable),
    /// `V`
    Void,
    /// `x`
    Bytes(Vec<u8>),
}

impl FieldValue {
    /// Whether it is a table or an array with more than so many levels.
    pub(super) fn reaches_below(&self, levels: usize) -> bool {
        match self {
            Self::Table(table) => table.reaches_below(levels),
            Self::Array(values) => levels == 0 || values.iter().any(|value| value.reaches_below(levels - 1)),
            _ => false,
        }
    }

    /// Itself and the values in it.
    pub(super) fn count_values(&self) -> usize {
        1 + match self {
            Self::Table(table) => table.count_values(),
            Self::Array(values) => values.iter().map(Self::count_values).sum(),
            _ => 0,
        }
    }

    /// The letter this value is written with.
    pub fn type_letter(&self) -> u8 {
        match self {
            Self::Boolean(_) => b't',
            Self::I8(_) => b'b',
            Self::U8(_) => b'B',
            Self::I16(_) => b's',
            Self::U16(_) => b'u',
            Self::I32(_) => b'I',
            Self::U32(_) => b'i',
            Self::I64(_) => b'l',
            Self::F32(_) => b'f',
            Self::F64(_) => b'd',
            Self::Decimal { .. } => b'D',
            Self::LongString(_) => b'S',
            Self::Array(_) => b'A',
            Self::Timestamp(_) => b'T',
            Self::Table(_) => b'F',
            Self::Void => b'V',
            Self::Bytes(_) => b'x',
        }
    }

    /// Appends the letter and the value.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_u8(out, self.type_letter());
        match self {
            Self::Boolean(value) => put_u8(out, u8::from(*value)),
            Self::I8(value) => put_u8(out, value.cast_unsigned()),
            Self::U8(value) => put_u8(out, *value),
            Self::I16(value) => put_u16(out, value.cast_unsigned()),
            Self::U16(value) => put_u16(out, *value),
            Self::I32(value) => put_u32(out, value.cast_unsigned()),
            Self::U32(value) => put_u32(out, *value),
            Self::I64(value) => put_u64(out, value.cast_unsigned()),
            Self::F32(value) => put_u32(out, value.to_bits()),
            Self::F64(value) => put_u64(out, value.to_bits()),
            Self::Decimal { scale, value } => {
                put_u8(out, *scale);
                put_u32(out, *value);
            }
            Self::LongString(octets) | Self::Bytes(octets) => put_long_octets(out, octets),
            Self::Array(values) => put_sized(out, |out| values.iter().for_each(|value| value.encode(out))),
            Self::Timestamp(seconds) => put_u64(out, *seconds),
            Self::Table(table) => table.encode(out),
            Self::Void => {}
        }
    }

    /// The number, if this is an integer of whatever width.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Self::I8(value) => Some(i64::from(*value)),
            Self::U8(value) => Some(i64::from(*value)),
            Self::I16(value) => Some(i64::from(*value)),
            Self::U16(value) => Some(i64::from(*value)),
            Self::I32(value) => Some(i64::from(*value)),
            Self::U32(value) => Some(i64::from(*value)),
            Self::I64(value) => Some(*value),
            _ => None,
        }
    }

    /// The truth value, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    /// The text, if this is a long string that is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::LongString(octets) => str::from_utf8(octets).ok(),
            _ => None,
        }
    }

    /// The nested table, if this is one.
    pub fn as_table(&self) -> Option<&FieldTable> {
        match self {
            Self::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The values, if this is an array.
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }
}

impl PartialEq for FieldValue {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Boolean(one), Self::Boolean(two)) => one == two,
            (Self::I8(one), Self::I8(two)) => one == two,
            (Self::U8(one), Self::U8(two)) => one == two,
            (Self::I16(one), Self::I16(two)) => one == two,
            (Self::U16(one), Self::U16(two)) => one == two,
            (Self::I32(one), Self::I32(two)) => one == two,
            (Self::U32(one), Self::U32(two)) => one == two,
            (Self::I64(one), Self::I64(two)) => one == two,
            (Self::F32(one), Self::F32(two)) => one.to_bits() == two.to_bits(),
            (Self::F64(one), Self::F64(two)) => one.to_bits() == two.to_bits(),
            (Self::Decimal { scale, value }, Self::Decimal { scale: scale_two, value: value_two }) => {
                scale == scale_two && value == value_two
            }
            (Self::LongString(one), Self::LongString(two)) | (Self::Bytes(one), Self::Bytes(two)) => {
                one == two
            }
            (Self::Array(one), Self::Array(two)) => one == two,
            (Self::Timestamp(one), Self::Timestamp(two)) => one == two,
            (Self::Table(one), Self::Table(two)) => one == two,
            (Self::Void, Self::Void) => true,
            _ => false,
        }
    }
}

impl Eq for FieldValue {}

impl From<bool> for FieldValue {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<i8> for FieldValue {
    fn from(value: i8) -> Self {
        Self::I8(value)
    }
}

impl From<u8> for FieldValue {
    fn from(value: u8) -> Self {
        Self::U8(value)
    }
}

impl From<i16> for FieldValue {
    fn from(value: i16) -> Self {
        Self::I16(value)
    }
}

impl From<u16> for FieldValue {
    fn from(value: u16) -> Self {
        Self::U16(value)
    }
}

impl From<i32> for FieldValue {
    fn from(value: i32) -> Self {
        Self::I32(value)
    }
}

impl From<u32> for FieldValue {
    fn from(value: u32) -> Self {
        Self::U32(value)
    }
}

impl From<i64> for FieldValue {
    fn from(value: i64) -> Self {
        Self::I64(value)
    }
}

impl From<f32> for FieldValue {
    fn from(value: f32) -> Self {
        Self::F32(value)
    }
}

impl From<f64> for FieldValue {
    fn from(value: f64) -> Self {
        Self::F64(value)
    }
}

impl From<&str> for FieldValue {
    fn from(text: &str) -> Self {
        Self::LongString(text.as_bytes().to_vec())
    }
}

impl From<String> for FieldValue {
    fn from(text: String) -> Self {
        Self::LongString(text.into_bytes())
    }
}

impl From<FieldTable> for FieldValue {
    fn from(table: FieldTable) -> Self {
        Self::Table(table)
    }
}

impl From<Vec<Self>> for FieldValue {
    fn from(values: Vec<Self>) -> Self {
        Self::Array(values)
    }
}
