//! The AMQP 0-9-1 codec: octets to frames, methods, content headers and field tables, and back.
//!
//! A connection's reader hands the octets of its buffer to [`frame::decode_frame`]; the channel that owns
//! the frame hands the payload to [`method::Method::decode`] or [`properties::ContentHeader::decode`].
//! Before all that, [`proxy::decode`] takes off what a proxy says of its client.
//! On the way out the `encode_*` functions of [`frame`] append whole frames to a buffer.
//! Nothing in here does I/O, keeps state or knows a rule of the broker: errors are facts with an offset,
//! and what they mean to the peer is decided above.

pub mod error;
pub mod frame;
pub mod method;
pub mod properties;
pub mod proxy;
pub mod table;
pub mod wire;

pub use error::{DecodeError, DecodeErrorKind};
pub use frame::{Frame, FrameError, FrameType};
pub use method::{Method, MethodId};
pub use properties::{ContentHeader, Properties};
pub use table::{FieldTable, FieldTableRef, FieldValue, FieldValueRef, ShortString};

/// The example of the README, which the documentation tests run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
