//! Short strings with their own copy of the octets: the keys of [`FieldTable`](super::FieldTable).
//!
//! The wire gives them one octet of size and says UTF-8, but peers send what they like; so they are octets
//! that are text most of the time.

use std::borrow::Borrow;
use std::fmt;

use thiserror::Error;

use crate::wire::{SHORT_STRING_SIZE_MAX, cut_short};

/// At most 255 octets, usually UTF-8.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShortString(Box<[u8]>);

/// Text or octets that no short string can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{size} octets do not fit a short string")]
pub struct ShortStringTooLong {
    /// How many octets there were.
    pub size: usize,
}

impl ShortString {
    /// As much of `text` as fits, cut at a character boundary.
    pub fn cut(text: &str) -> Self {
        Self(cut_short(text).as_bytes().into())
    }

    /// The octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, if it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        str::from_utf8(&self.0).ok()
    }

    /// How many octets there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no octets.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes octets that came off the wire as a short string.
    pub(super) fn from_wire(octets: &[u8]) -> Self {
        debug_assert!(octets.len() <= SHORT_STRING_SIZE_MAX, "INVARIANT: their size was read from one octet");
        Self(octets.into())
    }
}

impl TryFrom<&[u8]> for ShortString {
    type Error = ShortStringTooLong;

    fn try_from(octets: &[u8]) -> Result<Self, Self::Error> {
        match octets.len() {
            ..=SHORT_STRING_SIZE_MAX => Ok(Self(octets.into())),
            size => Err(ShortStringTooLong { size }),
        }
    }
}

impl TryFrom<&str> for ShortString {
    type Error = ShortStringTooLong;

    fn try_from(text: &str) -> Result<Self, Self::Error> {
        Self::try_from(text.as_bytes())
    }
}

impl Borrow<[u8]> for ShortString {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for ShortString {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq<str> for ShortString {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other.as_bytes()
    }
}

impl PartialEq<&str> for ShortString {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

/// Octets that are not UTF-8 show as replacement characters.
impl fmt::Display for ShortString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

impl fmt::Debug for ShortString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}
