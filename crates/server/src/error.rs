//! From a fact to what the client is told: reply code, scope and text. The one place that decides it.
//! Handlers return these errors; only the loops of connection and channel send a Close.

use leveret_broker::BrokerError;
use leveret_codec::error::{DecodeError, DecodeErrorKind};
use leveret_codec::frame::{self, Frame, FrameError, PayloadHead};
use leveret_codec::method::MethodId;

/// Reply codes of AMQP 0-9-1 that Leveret sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum ReplyCode {
    /// A resource or credential is not for this user.
    AccessRefused = 403,
    /// It does not exist.
    NotFound = 404,
    /// It belongs to another connection.
    ResourceLocked = 405,
    /// Something does not fit.
    PreconditionFailed = 406,
    /// The operator or a shutdown closed the connection.
    ConnectionForced = 320,
    /// A frame is malformed.
    FrameError = 501,
    /// A method that is not possible here.
    CommandInvalid = 503,
    /// A channel that is not open, or is already.
    ChannelError = 504,
    /// A frame out of order.
    UnexpectedFrame = 505,
    /// More is asked for than there is for one connection.
    ResourceError = 506,
    /// Not permitted for the connection.
    NotAllowed = 530,
    /// Not implemented.
    NotImplemented = 540,
    /// A fault of ours.
    InternalError = 541,
}

/// What an error ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The channel alone.
    Channel,
    /// The connection.
    Connection,
}

impl ReplyCode {
    /// The name that reply texts begin with.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AccessRefused => "ACCESS_REFUSED",
            Self::NotFound => "NOT_FOUND",
            Self::ResourceLocked => "RESOURCE_LOCKED",
            Self::PreconditionFailed => "PRECONDITION_FAILED",
            Self::ConnectionForced => "CONNECTION_FORCED",
            Self::FrameError => "FRAME_ERROR",
            Self::CommandInvalid => "COMMAND_INVALID",
            Self::ChannelError => "CHANNEL_ERROR",
            Self::UnexpectedFrame => "UNEXPECTED_FRAME",
            Self::ResourceError => "RESOURCE_ERROR",
            Self::NotAllowed => "NOT_ALLOWED",
            Self::NotImplemented => "NOT_IMPLEMENTED",
            Self::InternalError => "INTERNAL_ERROR",
        }
    }

    /// SPEC: 403 to 406 are channel exceptions, the others connection exceptions.
    #[must_use]
    pub(crate) fn scope(self) -> Scope {
        match self {
            Self::AccessRefused | Self::NotFound | Self::ResourceLocked | Self::PreconditionFailed => {
                Scope::Channel
            }
            _ => Scope::Connection,
        }
    }
}

/// An error as the client is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AmqpError {
    /// Which kind.
    pub(crate) code: ReplyCode,
    /// What it ends; by default what its code says.
    pub(crate) scope: Scope,
    /// What is behind the name in the reply text.
    pub(crate) explanation: String,
    /// The method that failed.
    pub(crate) method: MethodId,
}

impl AmqpError {
    /// An error of the scope that its code has.
    pub(crate) fn new(code: ReplyCode, explanation: impl Into<String>, method: MethodId) -> Self {
        Self { code, scope: code.scope(), explanation: explanation.into(), method }
    }

    /// The same error, ending the connection.
    #[must_use]
    pub(crate) fn on_connection(self) -> Self {
        Self { scope: Scope::Connection, ..self }
    }

    /// The reply text: at most 255 octets, as a short string holds.
    #[must_use]
    pub(crate) fn reply_text(&self) -> String {
        let mut text = format!("{} - {}", self.code.name(), self.explanation);
        if text.len() > 255 {
            // COMPAT: long texts end in dots.
            let mut end = 252;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            text.push_str("...");
        }
        text
    }

    /// What the broker refused in `method`.
    #[must_use]
    pub(crate) fn refused(error: &BrokerError, method: MethodId) -> Self {
        Self::new(code_of(error), error.to_string(), method)
    }

    /// A method or content header that cannot be decoded.
    #[must_use]
    pub(crate) fn undecodable(error: &DecodeError, method: MethodId) -> Self {
        match error.kind {
            // COMPAT: RabbitMQ drops the connection without a word on an unknown method.
            DecodeErrorKind::UnknownMethod(_) => {
                Self::new(ReplyCode::NotImplemented, "unknown method", method)
            }
            // COMPAT: RabbitMQ names no method here.
            DecodeErrorKind::InvalidUtf8 => {
                Self::new(ReplyCode::FrameError, "Malformed UTF-8 in shortstr", MethodId::NONE)
            }
            _ => Self::new(ReplyCode::FrameError, format!("cannot decode: {error}"), method),
        }
    }

    /// A frame that has no place where it came.
    #[must_use]
    pub(crate) fn out_of_place(frame: &Frame<'_>) -> Self {
        let quoted = quoted_payload(frame.frame_type as u8, frame.payload);
        Self::new(ReplyCode::UnexpectedFrame, quoted, MethodId::NONE)
    }

    /// A heartbeat with a payload. COMPAT: no frame that is known.
    #[must_use]
    pub(crate) fn unknown_frame(frame: &Frame<'_>) -> Self {
        let quoted = quoted_payload(frame.frame_type as u8, frame.payload);
        Self::new(ReplyCode::FrameError, format!("{quoted}: unknown_frame"), MethodId::NONE)
    }

    /// Octets that are no frame.
    #[must_use]
    pub(crate) fn malformed(error: &FrameError) -> Self {
        Self::new(ReplyCode::FrameError, frame_error_text(error), MethodId::NONE)
    }
}

/// SPEC: one code for each fact; COMPAT: the ones RabbitMQ uses.
fn code_of(error: &BrokerError) -> ReplyCode {
    match error {
        BrokerError::VhostNotFound { .. } => ReplyCode::NotAllowed,
        BrokerError::QueueNotFound { .. }
        | BrokerError::ExchangeNotFound { .. }
        | BrokerError::PolicyNotFound { .. }
        | BrokerError::UserNotFound { .. }
        // COMPAT: what RabbitMQ answers for a queue whose process has crashed for good.
        | BrokerError::QueueStopped { .. } => ReplyCode::NotFound,
        BrokerError::QueueLocked { .. } | BrokerError::GetFromSingleActive { .. } => ReplyCode::ResourceLocked,
        BrokerError::ConditionOfQuorumQueue { .. } => ReplyCode::NotImplemented,
        BrokerError::AccessRefused { .. }
        | BrokerError::TopicAccessRefused { .. }
        | BrokerError::QueueInExclusiveUse { .. }
        | BrokerError::ReservedName { .. }
        | BrokerError::DefaultExchange
        | BrokerError::SystemExchange { .. }
        | BrokerError::InternalExchange { .. }
        | BrokerError::BindReplyTo => ReplyCode::AccessRefused,
        BrokerError::QueueInUse { .. }
        | BrokerError::QueueNotEmpty { .. }
        | BrokerError::ExchangeInUse { .. }
        | BrokerError::Inequivalent { .. }
        | BrokerError::InvalidArgument { .. }
        | BrokerError::InvalidArgumentType { .. }
        | BrokerError::ImpossibleArgument { .. }
        | BrokerError::ArgumentOfOtherType { .. }
        | BrokerError::ImpossibleProperty { .. }
        | BrokerError::ServerNamedQueue { .. }
        | BrokerError::NamePrefixTooLong { .. }
        | BrokerError::NameTooLong { .. }
        | BrokerError::NestedTooDeeply { .. }
        | BrokerError::TooManyArguments { .. }
        | BrokerError::InvalidPolicy { .. }
        | BrokerError::UnknownExchangeType { .. }
        | BrokerError::UnsupportedExchangeType { .. }
        | BrokerError::InvalidXMatch { .. }
        | BrokerError::InvalidXMatchType { .. }
        | BrokerError::TwoHashSources
        | BrokerError::DelayedTypeMissing
        | BrokerError::DelayedTwice
        | BrokerError::DelayTooLong { .. }
        | BrokerError::CacheArgument { .. }
        | BrokerError::CacheTooLarge { .. }
        | BrokerError::UnsupportedHashProperty { .. }
        | BrokerError::HashArgumentType { .. }
        | BrokerError::InvalidHistoryLength { .. }
        | BrokerError::WeightNotInteger { .. }
        | BrokerError::WeightNotPositive
        | BrokerError::WeightTooLarge { .. }
        | BrokerError::BindingKeyNotEmpty { .. }
        | BrokerError::OnlyQueuesCanBeBound
        | BrokerError::QueueLimitReached { .. }
        | BrokerError::InvalidUser { .. }
        | BrokerError::InvalidPermission { .. }
        | BrokerError::BlankPassword
        | BrokerError::PasswordNotHashed { .. }
        | BrokerError::InvalidPasswordHash
        | BrokerError::VhostProtected { .. }
        | BrokerError::InvalidParameter { .. }
        | BrokerError::InvalidVhost { .. } => ReplyCode::PreconditionFailed,
    }
}

/// COMPAT: RabbitMQ prints the Erlang terms of its frame parser.
fn frame_error_text(error: &FrameError) -> String {
    match error {
        FrameError::UnknownType { frame_type, payload, .. } => {
            format!("type {frame_type}, all octets = {}: unknown_frame", binary(payload.octets()))
        }
        FrameError::TooLarge { frame_type, size, max } => {
            // COMPAT: a payload of all of frame_max is taken, but what is named is the room for one.
            let max = max.saturating_sub(frame::FRAME_OVERHEAD as u32);
            format!("type {frame_type}, all octets = <<>>: {{frame_too_large,{size},{max}}}")
        }
        FrameError::BadEnd { frame_type, octet, payload, .. } => {
            let which = if payload.is_complete() { "all" } else { "first 16" };
            let quoted = binary(payload.octets());
            format!("type {frame_type}, {which} octets = {quoted}: {{invalid_frame_end_marker,{octet}}}")
        }
    }
}

/// A frame's type and the beginning of its payload.
fn quoted_payload(frame_type: u8, payload: &[u8]) -> String {
    let which = if payload.len() <= PayloadHead::SIZE_MAX { "all" } else { "first 16" };
    let head = payload.get(..PayloadHead::SIZE_MAX).unwrap_or(payload);
    format!("type {frame_type}, {which} octets = {}", binary(head))
}

/// Octets as Erlang prints them: as text if they can be.
fn binary(octets: &[u8]) -> String {
    match str::from_utf8(octets) {
        Ok(text) if !text.is_empty() && text.bytes().all(|octet| matches!(octet, 0x20..=0x7E)) => {
            format!("<<{text:?}>>")
        }
        _ => {
            let listed: Vec<_> = octets.iter().map(u8::to_string).collect();
            format!("<<{}>>", listed.join(","))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_to_a_short_string_on_a_character() {
        let error = AmqpError::new(ReplyCode::NotFound, "é".repeat(300), MethodId::NONE);
        let text = error.reply_text();
        assert!(text.len() <= 255 && text.ends_with("..."));
    }

    #[test]
    fn codes_have_the_scope_the_specification_gives_them() {
        assert_eq!(ReplyCode::PreconditionFailed.scope(), Scope::Channel);
        assert_eq!(ReplyCode::NotAllowed.scope(), Scope::Connection);
        let raised = AmqpError::new(ReplyCode::AccessRefused, "", MethodId::NONE).on_connection();
        assert_eq!(raised.scope, Scope::Connection);
    }
}
