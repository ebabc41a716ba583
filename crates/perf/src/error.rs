//! Everything that ends a measurement early, with the sentence that is printed for it.
//! Made by every other module, printed by `main`; exit code 1 in all cases.

use std::io;
use std::time::Duration;

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
    /// True for an answer of the broker, which explains more than the socket error that follows it.
    pub(crate) fn is_from_broker(&self) -> bool {
        matches!(
            self,
            Self::ConnectionClosed { .. } | Self::ChannelClosed { .. } | Self::ConsumerCancelled { .. }
        )
    }
}
