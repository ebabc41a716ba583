//! What can be wrong with a queue, in words.

use std::fmt;

use crate::message::{Content, Key};

/// A message as it was found in a queue, or why it is none.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) content: Result<Content, String>,
    pub(crate) redelivered: bool,
}

impl Found {
    pub(crate) fn key(&self) -> Option<Key> {
        self.content.as_ref().ok().map(|content| content.key)
    }
}

/// A fault of a queue.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    queue: String,
    pub(super) kind: Kind,
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It was confirmed and is not there.
    Lost(Key),
    /// It is there twice.
    Twice(Key),
    /// A later one of its publisher comes before it.
    OutOfOrder(Key),
    /// One of lower priority comes before it.
    BehindLower(Key),
    /// It is there though it should be gone, and why it should.
    Back(Key, &'static str),
    /// A client had seen it, and it is not marked as redelivered.
    NotMarked(Key),
    /// No client has seen it, and it is marked as redelivered.
    Marked(Key),
    /// Nobody published it to this queue.
    NeverPublished(Key),
    /// Its octets are not those that were published.
    Damaged(String),
}

impl Finding {
    pub(super) fn all(queue: &str, kinds: Vec<Kind>) -> Vec<Self> {
        kinds.into_iter().map(|kind| Self { queue: queue.to_owned(), kind }).collect()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "queue {}: ", self.queue)?;
        let name = |key: &Key| format!("message {} of publisher {}", key.sequence, key.publisher);
        match &self.kind {
            Kind::Lost(key) => write!(f, "{} was confirmed and is lost", name(key)),
            Kind::Twice(key) => write!(f, "{} is there twice", name(key)),
            Kind::OutOfOrder(key) => write!(f, "{} comes too late", name(key)),
            Kind::BehindLower(key) => write!(f, "{} comes behind one of lower priority", name(key)),
            Kind::Back(key, why) => write!(f, "{} is back, but {why}", name(key)),
            Kind::NotMarked(key) => write!(f, "{} was delivered before and is not marked so", name(key)),
            Kind::Marked(key) => write!(f, "{} was never delivered and is marked so", name(key)),
            Kind::NeverPublished(key) => write!(f, "{} was never published to it", name(key)),
            Kind::Damaged(text) => write!(f, "{text}"),
        }
    }
}

impl fmt::Debug for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
