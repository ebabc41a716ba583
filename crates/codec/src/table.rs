//! Field tables: the maps of names to typed values in method arguments and message headers.
//!
//! [`FieldTable`] owns its values (arguments of a declare, server properties); [`FieldTableRef`] borrows
//! octets that were checked once, down to the last nested value, and costs no allocation (headers of a
//! message). Both keep order, duplicates and the exact types the peer wrote, because RabbitMQ echoes them.

mod borrowed;
mod short_string;
mod value;

use std::fmt;

pub(crate) use borrowed::table_ref;
pub use borrowed::{FieldArrayIter, FieldArrayRef, FieldTableIter, FieldTableRef, FieldValueRef};
pub use short_string::{ShortString, ShortStringTooLong};
pub use value::FieldValue;

use crate::error::DecodeError;
use crate::wire::{ParseResult, put_short_octets, put_u32};

/// How deep tables and arrays may be nested, the outermost table being the first level.
///
/// Walking a table recurses, so a peer must not choose the depth; nobody nests anywhere near this.
pub const FIELD_NESTING_MAX: usize = 64;

/// A table with its own copy of everything in it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct FieldTable {
    entries: Vec<(ShortString, FieldValue)>,
}

impl FieldTable {
    /// A table without entries.
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Reads a table from its octets without the size before them.
    ///
    /// # Errors
    /// Any fault [`FieldTableRef::parse`] finds.
    pub fn decode(octets: &[u8]) -> Result<Self, DecodeError> {
        FieldTableRef::parse(octets).map(|table| table.to_owned())
    }

    /// The same table with one more entry; see [`FieldTable::insert`].
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<FieldValue>) -> Self {
        self.insert(key, value);
        self
    }

    /// Appends an entry, whether or not the key is there already. A key past 255 octets is cut.
    pub fn insert(&mut self, key: &str, value: impl Into<FieldValue>) {
        self.entries.push((ShortString::cut(key), value.into()));
    }

    /// Gives `key` this one value: in the place of its first entry, or at the end.
    pub fn set(&mut self, key: &str, value: impl Into<FieldValue>) {
        let key = ShortString::cut(key);
        let mut value = Some(value.into());
        self.entries.retain_mut(|(known, old)| {
            if *known != key {
                return true;
            }
            match value.take() {
                Some(new) => {
                    *old = new;
                    true
                }
                None => false,
            }
        });
        if let Some(value) = value {
            self.entries.push((key, value));
        }
    }

    /// Takes out every entry of `key` and returns the first one's value.
    pub fn remove(&mut self, key: &str) -> Option<FieldValue> {
        let mut removed = self.entries.extract_if(.., |(known, _)| *known == *key);
        let (_, first) = removed.next()?;
        removed.for_each(drop);
        Some(first)
    }

    /// The value of the first entry with this key.
    pub fn get(&self, key: &str) -> Option<&FieldValue> {
        self.entries.iter().find(|(known, _)| *known == *key).map(|(_, value)| value)
    }

    /// Whether an entry has this key.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The entries in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, (ShortString, FieldValue)> {
        self.entries.iter()
    }

    /// How many entries there are, duplicates counted.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many values there are, those in nested tables and arrays counted.
    pub fn count_values(&self) -> usize {
        self.entries.iter().map(|(_, value)| value.count_values()).sum()
    }

    /// Whether something in it lies deeper than [`FIELD_NESTING_MAX`]: its octets could not be read again.
    pub fn is_too_deep(&self) -> bool {
        self.reaches_below(FIELD_NESTING_MAX)
    }

    /// Whether there is more than so many levels of it.
    fn reaches_below(&self, levels: usize) -> bool {
        levels == 0 || self.entries.iter().any(|(_, value)| value.reaches_below(levels - 1))
    }

    /// Appends the table with its size before it, as in method arguments and in other tables.
    ///
    /// A table past `u32::MAX` octets, which its size cannot express, is written as an empty one.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_sized(out, |out| self.encode_entries(out));
    }

    /// The table's octets without the size before them: what [`FieldTableRef::parse`] takes.
    pub fn encoded(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_entries(&mut out);
        out
    }

    fn encode_entries(&self, out: &mut Vec<u8>) {
        for (key, value) in &self.entries {
            put_short_octets(out, key.as_bytes());
            value.encode(out);
        }
    }
}

impl fmt::Debug for FieldTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.entries.iter().map(|(key, value)| (key, value))).finish()
    }
}

/// Keys past 255 octets are cut.
impl<'k, V: Into<FieldValue>> FromIterator<(&'k str, V)> for FieldTable {
    fn from_iter<I: IntoIterator<Item = (&'k str, V)>>(entries: I) -> Self {
        entries.into_iter().map(|(key, value)| (ShortString::cut(key), value)).collect()
    }
}

impl<V: Into<FieldValue>> FromIterator<(ShortString, V)> for FieldTable {
    fn from_iter<I: IntoIterator<Item = (ShortString, V)>>(entries: I) -> Self {
        Self { entries: entries.into_iter().map(|(key, value)| (key, value.into())).collect() }
    }
}

impl Extend<(ShortString, FieldValue)> for FieldTable {
    fn extend<I: IntoIterator<Item = (ShortString, FieldValue)>>(&mut self, entries: I) {
        self.entries.extend(entries);
    }
}

impl IntoIterator for FieldTable {
    type Item = (ShortString, FieldValue);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<'a> IntoIterator for &'a FieldTable {
    type Item = &'a (ShortString, FieldValue);
    type IntoIter = std::slice::Iter<'a, (ShortString, FieldValue)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Reads a table of method arguments.
pub(crate) fn table(input: &[u8]) -> ParseResult<'_, FieldTable> {
    let (rest, table) = table_ref(input)?;
    Ok((rest, table.to_owned()))
}

/// Appends a `u32` size and what `put_content` writes; nothing but a zero if that has no size of 32 bits.
fn put_sized(out: &mut Vec<u8>, put_content: impl FnOnce(&mut Vec<u8>)) {
    put_u32(out, 0);
    let start = out.len();
    put_content(out);
    let size = u32::try_from(out.len().saturating_sub(start));
    let place = out.get_mut(..start).and_then(<[u8]>::last_chunk_mut);
    let (Ok(size), Some(place)) = (size, place) else { return out.truncate(start) };
    *place = size.to_be_bytes();
}

#[cfg(test)]
mod tests;
