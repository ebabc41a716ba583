//! Definitions as one JSON document, in RabbitMQ's form: users, vhosts, permissions, policies, exchanges, queues,
//! bindings.
//! [`export()`] writes what a broker has, [`import()`] adds what a document says to it.
//!
//! Importing merges: it replaces users, permissions, limits and policies of the same names, leaves exchanges and
//! queues that exist as they are, and deletes nothing. A document is read as a whole first and then added to a copy of
//! what is there, without messages: one that is malformed, or refused in part, changes nothing.

mod document;
mod entry;
mod export;
mod import;
#[cfg(test)]
mod tests;

use leveret_broker::BrokerError;
use leveret_broker::store::JournalPosition;

pub(crate) use export::parameters;
pub use export::{export, export_vhost};
pub use import::{import, import_into};

/// What an import has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Where all of it is safe.
    pub position: JournalPosition,
    /// What was passed over, each with the reason: things of RabbitMQ's that mean nothing here.
    pub skipped: Vec<String>,
}

/// Why an import ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// It is not a document of definitions: nothing was changed.
    #[error("{what}: {reason}")]
    Malformed {
        /// The object, or the place in the text.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The broker refuses an object: nothing was changed, unless what is there changed meanwhile.
    #[error("{what}: {error}")]
    Refused {
        /// The object.
        what: String,
        /// What the broker says.
        error: Box<BrokerError>,
    },
}
