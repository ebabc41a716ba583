//! What can be wrong with octets inside a frame: one fact and the offset it was met at.
//!
//! The parsers of [`wire`](crate::wire) and [`table`](crate::table) state these facts, the `decode`
//! functions of methods and headers return them. Which reply code they become is not known here.

use thiserror::Error;

use crate::method::MethodId;

/// A payload that is not what its frame says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{kind} at octet {offset}")]
pub struct DecodeError {
    /// What is wrong.
    pub kind: DecodeErrorKind,
    /// Where, counted from the first octet of the slice that was given to the decoder.
    pub offset: usize,
}

impl DecodeError {
    /// The same error seen from a slice that begins `octets` earlier.
    pub(crate) fn shifted(self, octets: usize) -> Self {
        Self { offset: self.offset.saturating_add(octets), ..self }
    }
}

/// The ways in which a payload can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// The value that begins at the offset needs more octets than are left.
    #[error("truncated value")]
    Truncated,
    /// All values were read and octets are left.
    #[error("trailing octets")]
    TrailingOctets,
    /// No method of this protocol has this class and method id.
    #[error("unknown method {0}")]
    UnknownMethod(MethodId),
    /// A short string that must be a name or key is not UTF-8.
    #[error("malformed UTF-8 in short string")]
    InvalidUtf8,
    /// A table or array holds a value with a type octet nobody defined.
    #[error("unknown field type {0:#04x}")]
    UnknownFieldType(u8),
    /// Tables and arrays are nested deeper than [`FIELD_NESTING_MAX`](crate::table::FIELD_NESTING_MAX).
    #[error("tables nested too deeply")]
    NestingTooDeep,
    /// The property flags announce a second flag word, which no class of this protocol has.
    #[error("property flags continued")]
    PropertyFlagsContinued,
    /// The property flags announce a property that the basic class does not have.
    #[error("unknown property flag")]
    UnknownPropertyFlag,
}
