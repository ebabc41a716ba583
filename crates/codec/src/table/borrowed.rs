//! Tables and arrays that lie in somebody else's octets, checked once and then walked without errors.
//!
//! [`FieldTableRef::parse`] walks the whole tree and keeps nothing but the slice. The iterators walk one
//! level with the same parser; INVARIANT: it cannot fail on them, because every slice in here was checked.

use std::fmt;

use nom::{Err, Parser};

use super::{FIELD_NESTING_MAX, FieldTable, FieldValue, ShortString};
use crate::error::{DecodeError, DecodeErrorKind};
use crate::wire::{
    ParseResult, WireError, be_u8, be_u16, be_u32, be_u64, decode_all, long_octets, short_octets,
};

/// A table that was checked and lies in borrowed octets. Two are equal if their octets are.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct FieldTableRef<'a> {
    octets: &'a [u8],
}

/// An array that was checked and lies in borrowed octets. Two are equal if their octets are.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct FieldArrayRef<'a> {
    octets: &'a [u8],
}

/// A value of a [`FieldTableRef`] or [`FieldArrayRef`]. Floats are equal if their bits are.
#[derive(Debug, Clone, Copy)]
pub enum FieldValueRef<'a> {
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
    /// `l` or `L`
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
    LongString(&'a [u8]),
    /// `A`
    Array(FieldArrayRef<'a>),
    /// `T`: seconds since 1970
    Timestamp(u64),
    /// `F`
    Table(FieldTableRef<'a>),
    /// `V`
    Void,
    /// `x`
    Bytes(&'a [u8]),
}

impl<'a> FieldTableRef<'a> {
    /// Checks a table's octets, without the size before them, down to the last nested value.
    ///
    /// # Errors
    /// A value is cut short, has a type nobody defined, or lies deeper than [`FIELD_NESTING_MAX`].
    pub fn parse(octets: &'a [u8]) -> Result<Self, DecodeError> {
        decode_all(octets, |octets| check_entries(octets, 1))?;
        Ok(Self { octets })
    }

    /// The octets, without the size before them.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.octets
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// The entries in their order.
    pub fn iter(&self) -> FieldTableIter<'a> {
        FieldTableIter { rest: self.octets }
    }

    /// The value of the first entry with this key.
    pub fn get(&self, key: &str) -> Option<FieldValueRef<'a>> {
        self.iter().find(|(known, _)| *known == key.as_bytes()).map(|(_, value)| value)
    }

    /// A copy of the table that owns its values.
    pub fn to_owned(&self) -> FieldTable {
        // Counted first, so that what is held is what is needed and not the next power of two.
        let mut entries = Vec::with_capacity(self.iter().count());
        entries.extend(self.iter().map(|(key, value)| (ShortString::from_wire(key), value.to_owned())));
        FieldTable { entries }
    }
}

impl<'a> FieldArrayRef<'a> {
    /// The octets, without the size before them.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.octets
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// The values in their order.
    pub fn iter(&self) -> FieldArrayIter<'a> {
        FieldArrayIter { rest: self.octets }
    }

    /// A copy that owns its values.
    pub fn to_owned(&self) -> Vec<FieldValue> {
        let mut values = Vec::with_capacity(self.iter().count());
        values.extend(self.iter().map(|value| value.to_owned()));
        values
    }
}

impl<'a> FieldValueRef<'a> {
    /// A copy that owns everything in it.
    pub fn to_owned(&self) -> FieldValue {
        match *self {
            Self::Boolean(value) => FieldValue::Boolean(value),
            Self::I8(value) => FieldValue::I8(value),
            Self::U8(value) => FieldValue::U8(value),
            Self::I16(value) => FieldValue::I16(value),
            Self::U16(value) => FieldValue::U16(value),
            Self::I32(value) => FieldValue::I32(value),
            Self::U32(value) => FieldValue::U32(value),
            Self::I64(value) => FieldValue::I64(value),
            Self::F32(value) => FieldValue::F32(value),
            Self::F64(value) => FieldValue::F64(value),
            Self::Decimal { scale, value } => FieldValue::Decimal { scale, value },
            Self::LongString(octets) => FieldValue::LongString(octets.to_vec()),
            Self::Array(array) => FieldValue::Array(array.to_owned()),
            Self::Timestamp(seconds) => FieldValue::Timestamp(seconds),
            Self::Table(table) => FieldValue::Table(table.to_owned()),
            Self::Void => FieldValue::Void,
            Self::Bytes(octets) => FieldValue::Bytes(octets.to_vec()),
        }
    }

    /// The number, if this is an integer of whatever width.
    pub fn as_integer(&self) -> Option<i64> {
        match *self {
            Self::I8(value) => Some(i64::from(value)),
            Self::U8(value) => Some(i64::from(value)),
            Self::I16(value) => Some(i64::from(value)),
            Self::U16(value) => Some(i64::from(value)),
            Self::I32(value) => Some(i64::from(value)),
            Self::U32(value) => Some(i64::from(value)),
            Self::I64(value) => Some(value),
            _ => None,
        }
    }

    /// The text, if this is a long string that is UTF-8.
    pub fn as_str(&self) -> Option<&'a str> {
        match *self {
            Self::LongString(octets) => str::from_utf8(octets).ok(),
            _ => None,
        }
    }
}

impl PartialEq for FieldValueRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (*self, *other) {
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

impl Eq for FieldValueRef<'_> {}

impl fmt::Debug for FieldTableRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(key, value)| (String::from_utf8_lossy(key), value))).finish()
    }
}

impl fmt::Debug for FieldArrayRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for FieldTableRef<'a> {
    type Item = (&'a [u8], FieldValueRef<'a>);
    type IntoIter = FieldTableIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a> IntoIterator for FieldArrayRef<'a> {
    type Item = FieldValueRef<'a>;
    type IntoIter = FieldArrayIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Walks the entries of a [`FieldTableRef`].
#[derive(Debug, Clone)]
pub struct FieldTableIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for FieldTableIter<'a> {
    type Item = (&'a [u8], FieldValueRef<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (rest, entry) = (short_octets, field_value).parse(self.rest).ok()?;
        self.rest = rest;
        Some(entry)
    }
}

/// Walks the values of a [`FieldArrayRef`].
#[derive(Debug, Clone)]
pub struct FieldArrayIter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for FieldArrayIter<'a> {
    type Item = FieldValueRef<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (rest, value) = field_value(self.rest).ok()?;
        self.rest = rest;
        Some(value)
    }
}

/// Reads a table with its size before it and checks it.
pub(crate) fn table_ref(input: &[u8]) -> ParseResult<'_, FieldTableRef<'_>> {
    let (rest, octets) = long_octets(input)?;
    let table = FieldTableRef { octets };
    check_nested(FieldValueRef::Table(table), 0, rest)?;
    Ok((rest, table))
}

/// Checks the entries of a table on nesting level `level` and everything in them.
fn check_entries(mut input: &[u8], level: usize) -> ParseResult<'_, ()> {
    while !input.is_empty() {
        let (rest, (_, value)) = (short_octets, field_value).parse(input)?;
        check_nested(value, level, rest)?;
        input = rest;
    }
    Ok((input, ()))
}

/// Checks the values of an array on nesting level `level` and everything in them.
fn check_values(mut input: &[u8], level: usize) -> ParseResult<'_, ()> {
    while !input.is_empty() {
        let (rest, value) = field_value(input)?;
        check_nested(value, level, rest)?;
        input = rest;
    }
    Ok((input, ()))
}

/// Checks what is in a value, which lies on nesting level `level` and is followed by `rest`.
fn check_nested(value: FieldValueRef<'_>, level: usize, rest: &[u8]) -> Result<(), Err<WireError>> {
    let (octets, check): (_, fn(_, _) -> _) = match value {
        FieldValueRef::Table(table) => (table.octets, check_entries),
        FieldValueRef::Array(array) => (array.octets, check_values),
        _ => return Ok(()),
    };
    let checked = match level {
        ..FIELD_NESTING_MAX => check(octets, level + 1),
        _ => Err(WireError::failure(octets, DecodeErrorKind::NestingTooDeep)),
    };
    match checked {
        Ok(_) => Ok(()),
        Err(error) => Err(error.map(|error: WireError| error.before(rest))),
    }
}

/// Reads one value with its letter before it. What is in a table or array is not looked at.
fn field_value(input: &[u8]) -> ParseResult<'_, FieldValueRef<'_>> {
    let (rest, letter) = be_u8(input)?;
    match letter {
        b't' => be_u8.map(|octet| FieldValueRef::Boolean(octet != 0)).parse(rest),
        b'b' => be_u8.map(|octet| FieldValueRef::I8(octet.cast_signed())).parse(rest),
        b'B' => be_u8.map(FieldValueRef::U8).parse(rest),
        b's' => be_u16.map(|value| FieldValueRef::I16(value.cast_signed())).parse(rest),
        b'u' => be_u16.map(FieldValueRef::U16).parse(rest),
        b'I' => be_u32.map(|value| FieldValueRef::I32(value.cast_signed())).parse(rest),
        b'i' => be_u32.map(FieldValueRef::U32).parse(rest),
        b'l' | b'L' => be_u64.map(|value| FieldValueRef::I64(value.cast_signed())).parse(rest),
        b'f' => be_u32.map(|bits| FieldValueRef::F32(f32::from_bits(bits))).parse(rest),
        b'd' => be_u64.map(|bits| FieldValueRef::F64(f64::from_bits(bits))).parse(rest),
        b'D' => (be_u8, be_u32).map(|(scale, value)| FieldValueRef::Decimal { scale, value }).parse(rest),
        b'S' => long_octets.map(FieldValueRef::LongString).parse(rest),
        b'A' => long_octets.map(|octets| FieldValueRef::Array(FieldArrayRef { octets })).parse(rest),
        b'T' => be_u64.map(FieldValueRef::Timestamp).parse(rest),
        b'F' => long_octets.map(|octets| FieldValueRef::Table(FieldTableRef { octets })).parse(rest),
        b'V' => Ok((rest, FieldValueRef::Void)),
        b'x' => long_octets.map(FieldValueRef::Bytes).parse(rest),
        unknown => Err(WireError::failure(input, DecodeErrorKind::UnknownFieldType(unknown))),
    }
}
