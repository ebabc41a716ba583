//! The primitive values of the wire: integers, bit octets, short and long strings.
//!
//! The readers are nom parsers over complete slices; methods and headers are put together from them and run
//! by [`decode_all`]. The writers append to a buffer. Neither knows what a value is for.

use nom::error::{ErrorKind, ParseError};
use nom::{Err, IResult, Parser};

use crate::error::{DecodeError, DecodeErrorKind};

/// The most octets a short string can have: its length is one octet.
pub const SHORT_STRING_SIZE_MAX: usize = u8::MAX as usize;

/// What every parser of this crate returns: the octets left and the value.
pub type ParseResult<'a, O> = IResult<&'a [u8], O, WireError>;

/// A parser's failure: the fact, and how many octets were left from the faulty one on.
///
/// The offset is not known yet: [`decode_all`] finds it, because it has seen the whole slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireError {
    kind: DecodeErrorKind,
    left: usize,
}

impl WireError {
    /// Stops parsing: `kind` was met where `rest` begins.
    #[cold]
    pub fn failure(rest: &[u8], kind: DecodeErrorKind) -> Err<Self> {
        Err::Failure(Self { kind, left: rest.len() })
    }

    /// Stops parsing: the value that begins with `rest` goes on after its end.
    #[inline]
    fn truncated(rest: &[u8]) -> Err<Self> {
        Err::Error(Self { kind: DecodeErrorKind::Truncated, left: rest.len() })
    }

    /// The same failure, met in a value that `rest` follows.
    #[must_use]
    pub fn before(self, rest: &[u8]) -> Self {
        Self { left: self.left.saturating_add(rest.len()), ..self }
    }

    fn within(self, input: &[u8]) -> DecodeError {
        DecodeError { kind: self.kind, offset: input.len().saturating_sub(self.left) }
    }
}

impl ParseError<&[u8]> for WireError {
    /// Of nom's own parsers only those that can run out of octets are used.
    fn from_error_kind(rest: &[u8], _: ErrorKind) -> Self {
        Self { kind: DecodeErrorKind::Truncated, left: rest.len() }
    }

    fn append(_: &[u8], _: ErrorKind, other: Self) -> Self {
        other
    }
}

/// Runs `parser` over the whole of `input`.
///
/// # Errors
/// The parser's own error, or [`DecodeErrorKind::TrailingOctets`] if it leaves octets.
#[inline]
pub fn decode_all<'a, O>(
    input: &'a [u8],
    mut parser: impl Parser<&'a [u8], Output = O, Error = WireError>,
) -> Result<O, DecodeError> {
    match parser.parse(input) {
        Ok(([], value)) => Ok(value),
        Ok((rest, _)) => {
            Err(WireError { kind: DecodeErrorKind::TrailingOctets, left: rest.len() }.within(input))
        }
        Err(Err::Error(error) | Err::Failure(error)) => Err(error.within(input)),
        // Parsers over complete slices do not ask for more; if one did, the slice is too short.
        Err(Err::Incomplete(_)) => Err(DecodeError { kind: DecodeErrorKind::Truncated, offset: input.len() }),
    }
}

/// Reads an octet.
#[inline]
pub fn be_u8(input: &[u8]) -> ParseResult<'_, u8> {
    chunk.map(u8::from_be_bytes).parse(input)
}

/// Reads an integer of two octets.
#[inline]
pub fn be_u16(input: &[u8]) -> ParseResult<'_, u16> {
    chunk.map(u16::from_be_bytes).parse(input)
}

/// Reads an integer of four octets.
#[inline]
pub fn be_u32(input: &[u8]) -> ParseResult<'_, u32> {
    chunk.map(u32::from_be_bytes).parse(input)
}

/// Reads an integer of eight octets.
#[inline]
pub fn be_u64(input: &[u8]) -> ParseResult<'_, u64> {
    chunk.map(u64::from_be_bytes).parse(input)
}

#[inline]
fn chunk<const N: usize>(input: &[u8]) -> ParseResult<'_, [u8; N]> {
    match input.split_first_chunk() {
        Some((octets, rest)) => Ok((rest, *octets)),
        None => Err(WireError::truncated(input)),
    }
}

#[inline]
fn take(size: usize, input: &[u8]) -> ParseResult<'_, &[u8]> {
    match input.split_at_checked(size) {
        Some((octets, rest)) => Ok((rest, octets)),
        None => Err(WireError::truncated(input)),
    }
}

/// Reads a short string as it is.
#[inline]
pub fn short_octets(input: &[u8]) -> ParseResult<'_, &[u8]> {
    let (rest, size) = be_u8(input)?;
    take(usize::from(size), rest)
}

/// Reads a short string that is a name or a key.
///
/// COMPAT: RabbitMQ refuses method arguments that are not UTF-8; in properties it does not look.
#[inline]
pub fn short_str(input: &[u8]) -> ParseResult<'_, &str> {
    let (rest, octets) = short_octets(input)?;
    // PERF: the default exchange and fanout keys are empty. Asking first spares the check of UTF-8 a call:
    // 22 ns to 17 ns for the bench `decode/publish arguments`.
    if octets.is_empty() {
        return Ok((rest, ""));
    }
    match str::from_utf8(octets) {
        Ok(text) => Ok((rest, text)),
        Err(_) => Err(WireError::failure(input, DecodeErrorKind::InvalidUtf8)),
    }
}

/// Reads a long string: a `u32` size and as many octets. Tables, arrays and byte arrays have the same shape.
#[inline]
pub fn long_octets(input: &[u8]) -> ParseResult<'_, &[u8]> {
    let (rest, size) = be_u32(input)?;
    take(size as usize, rest)
}

/// Reads `N` consecutive bits, which share one octet, the first one lowest.
#[inline]
pub fn bits<const N: usize>(input: &[u8]) -> ParseResult<'_, [bool; N]> {
    const { assert!(N <= 8, "bits share one octet") }
    let (rest, octet) = be_u8(input)?;
    Ok((rest, std::array::from_fn(|bit| octet & (1 << bit) != 0)))
}

/// Appends an integer of one octet.
#[inline]
pub fn put_u8(out: &mut Vec<u8>, value: u8) {
    out.push(value);
}

/// Appends an integer of two octets.
#[inline]
pub fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends an integer of four octets.
#[inline]
pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends an integer of eight octets.
#[inline]
pub fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a short string; past [`SHORT_STRING_SIZE_MAX`] octets it is cut.
#[inline]
pub fn put_short_octets(out: &mut Vec<u8>, octets: &[u8]) {
    let size = u8::try_from(octets.len()).unwrap_or(u8::MAX);
    out.push(size);
    out.extend_from_slice(octets.get(..usize::from(size)).unwrap_or(octets));
}

/// Appends a short string; past [`SHORT_STRING_SIZE_MAX`] octets it is cut before the character that no
/// longer fits, so that what arrives is UTF-8 still.
#[inline]
pub fn put_short_str(out: &mut Vec<u8>, text: &str) {
    put_short_octets(out, cut_short(text).as_bytes());
}

/// The longest beginning of `text` that fits a short string and ends with a whole character.
#[inline]
pub fn cut_short(text: &str) -> &str {
    text.get(..text.floor_char_boundary(SHORT_STRING_SIZE_MAX)).unwrap_or(text)
}

/// Appends a long string; past `u32::MAX` octets, which its size cannot express, it is cut.
#[inline]
pub fn put_long_octets(out: &mut Vec<u8>, octets: &[u8]) {
    let size = u32::try_from(octets.len()).unwrap_or(u32::MAX);
    put_u32(out, size);
    out.extend_from_slice(octets.get(..size as usize).unwrap_or(octets));
}

/// Appends up to eight bits in one octet, the first one lowest.
#[inline]
pub fn put_bits<const N: usize>(out: &mut Vec<u8>, bits: [bool; N]) {
    const { assert!(N <= 8, "bits share one octet") }
    out.push(bits.iter().rev().fold(0, |octet, &bit| octet << 1 | u8::from(bit)));
}
