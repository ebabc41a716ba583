//! Everything that ends a measurement early, with the sentence that is printed for it.
//! Made by every other module, printed by `main`; exit code 1 in all cases.

use std::io;
use std::time::Duration;

/// Reply code for arguments that do not fit.
const PRECONDITION_FAILED: u16 = 406;
/// RabbitMQ's reply code for an unknown exchange type.
const COMMAND_INVALID: u16 = 503;
/// Reply code for what a broker does not have.
const NOT_IMPLEMENTED: u16 = 540;

/// Why a measurement could not be made or finished.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nothing listens at the address, or it does not resolve.
    #[error("cannot reach {address}: {source}")]
    Connect {
        /// `host:port` as given.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The socket failed in the middle of something.
    #[error("the connection failed while {doing}: {source}")]
    Io {
        /// What was going on, as a gerund.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The broker hung up during the login, which is how it refuses credentials without a method.
    #[error("the broker hung up during the login: wrong user, password or virtual host?")]
    LoginRefused,
    /// connection.close from the broker.
    #[error("the broker closed the connection: {code} {text}")]
    ConnectionClosed {
        /// Reply code.
        code: u16,
        /// Reply text.
        text: String,
    },
    /// channel.close from the broker.
    #[error("the broker closed channel {channel}: {code} {text}")]
    ChannelClosed {
        /// Channel number.
        channel: u16,
        /// Reply code.
        code: u16,
        /// Reply text.
        text: String,
    },
    /// The broker does not know or does not allow what was to be declared or used.
    #[error("not supported by the broker: {0}")]
    NotSupported(String),
    /// basic.cancel from the broker.
    #[error("the broker cancelled consumer {tag}: was its queue deleted?")]
    ConsumerCancelled {
        /// Consumer tag.
        tag: String,
    },
    /// A wait came to its end.
    #[error("no answer from the broker within {after:?} while {doing}")]
    Timeout {
        /// What was waited for, as a gerund.
        doing: &'static str,
        /// How long.
        after: Duration,
    },
    /// What came is not AMQP 0-9-1, or not the method expected here.
    #[error("unexpected answer from the broker: {0}")]
    Protocol(String),
    /// The request makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Something on this machine (a process that is gone, a file that cannot be written).
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// What this error means if it ended a declaration: a refusal of what the broker does not know or allow is no
    /// fault of the run.
    pub(crate) fn of_declaration(self) -> Self {
        match self {
            Self::ConnectionClosed { code, text } | Self::ChannelClosed { code, text, .. }
                if [PRECONDITION_FAILED, COMMAND_INVALID, NOT_IMPLEMENTED].contains(&code) =>
            {
                Self::NotSupported(format!("{code} {text}"))
            }
            other => other,
        }
    }

    /// True for an answer of the broker, which explains more than the socket error that follows it.
    pub(crate) fn is_from_broker(&self) -> bool {
        matches!(
            self,
            Self::ConnectionClosed { .. } | Self::ChannelClosed { .. } | Self::ConsumerCancelled { .. }
        )
    }
}
