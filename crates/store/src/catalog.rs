//! The catalog: an ordered map of entries (see [`entries`](crate::entries)) that changes in batches, each of them
//! whole and safe when [`Catalog::commit`] returns. [`SledCatalog`] keeps it on disk, [`SimulatedCatalog`] in memory
//! for tests; a snapshot in one file is what is left if the database is damaged. Knows nothing of what entries mean.

mod committed;
mod database;
mod panics;
mod restore;
mod simulated;
mod snapshot;

use std::io;
use std::path::PathBuf;

use crate::entries::{Change, EntryList};

pub use database::SledCatalog;
pub use restore::{CATALOG_NAME, Complete, Opened, RestoredFrom, open_or_restore};
pub use simulated::{CommitFault, SimulatedCatalog};
pub use snapshot::{SNAPSHOT_NAME, read_snapshot, write_snapshot};

/// Version of what a catalog holds and how; a newer one is refused.
pub const FORMAT_VERSION: u32 = 1;

/// Why a catalog cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The system refuses.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Another process has it open.
    #[error("{} is in use by another process", dir.display())]
    InUse {
        /// Its folder.
        dir: PathBuf,
    },
    /// What lies on the disk is not what was committed.
    #[error("the catalog is damaged: {0}")]
    Damaged(String),
    /// A later version of Leveret has written it.
    #[error("the catalog has format {found}, this version of Leveret knows formats up to {known}")]
    NewerFormat {
        /// Its format.
        found: u32,
        /// The newest one known.
        known: u32,
    },
}

/// Entries that change in batches. Waits for the disk: not to be called from async code.
pub trait Catalog: Send {
    /// All entries, sorted by key.
    ///
    /// # Errors
    /// The catalog is damaged, or the disk fails.
    fn entries(&self) -> Result<EntryList, CatalogError>;

    /// The entries whose keys are not below `first`, sorted by key. What is read is not held against the checksum.
    ///
    /// # Errors
    /// As for [`entries`](Self::entries).
    fn entries_from(&self, first: &[u8]) -> Result<EntryList, CatalogError>;

    /// Makes all of `changes`, the last one of a key deciding. They are safe when this returns.
    ///
    /// # Errors
    /// They may or may not have been made, but all or none of them. They can be committed again.
    fn commit(&mut self, changes: &[Change]) -> Result<(), CatalogError>;
}

#[cfg(test)]
mod tests;
