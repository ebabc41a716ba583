//! Queue types: what `x-queue-type` chooses at a queue's declaration, for good.

use std::fmt;

/// A queue type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum QueueType {
    /// Lives on one node; the type of a queue that does not say.
    #[default]
    Classic,
    /// Kept by a majority of nodes.
    Quorum,
    /// A log that consuming does not empty.
    Stream,
}

impl QueueType {
    /// The type with this name in `x-queue-type`.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        match name {
            b"classic" => Some(Self::Classic),
            b"quorum" => Some(Self::Quorum),
            b"stream" => Some(Self::Stream),
            _ => None,
        }
    }

    /// Its name in `x-queue-type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
            Self::Stream => "stream",
        }
    }

    /// COMPAT: the name of RabbitMQ's module for it, which its texts are full of.
    #[must_use]
    pub fn module(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
            Self::Stream => "rabbit_stream_queue",
        }
    }
}

impl fmt::Display for QueueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
