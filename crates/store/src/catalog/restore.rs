//! Opens the catalog of a data directory, and makes it anew from its snapshot if the database is damaged. What
//! is damaged is set aside, never deleted.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::{Catalog, CatalogError, SledCatalog, read_snapshot, write_snapshot};
use crate::disk::Disk;
use crate::entries::{Change, EntryList};

/// Name of the database's folder.
pub const CATALOG_NAME: &str = "catalog";

/// A catalog that is open.
#[derive(Debug)]
pub struct Opened {
    /// The catalog.
    pub catalog: SledCatalog,
    /// Its entries, sorted by key.
    pub entries: EntryList,
    /// What had to be done for it.
    pub restored: Option<RestoredFrom>,
}

/// The database was damaged, and a new one was made from the snapshot: it is as old as that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredFrom {
    /// What was wrong.
    pub damage: String,
    /// Where the damaged database is now; `None` if there was nothing left of it.
    pub set_aside: Option<PathBuf>,
}

/// Makes of a snapshot's entries all that a new database is to hold.
pub type Complete<'a> = &'a mut dyn FnMut(EntryList) -> Result<EntryList, CatalogError>;

/// Opens the catalog in the data directory `dir`. A new one gets an empty snapshot: where there is a snapshot, there
/// was a catalog, and an empty database is a damaged one.
///
/// `complete` adds to a snapshot what it does not hold. It is asked before anything is changed, and the new database
/// gets all of it at once: a crash leaves the damaged one, or none, or the complete new one.
///
/// # Errors
/// Any [`CatalogError`]; [`CatalogError::Damaged`] if there is no good snapshot either, and then nothing is changed.
pub fn open_or_restore(disk: &dyn Disk, dir: &Path, complete: Complete<'_>) -> Result<Opened, CatalogError> {
    let path = dir.join(CATALOG_NAME);
    match SledCatalog::open(&path) {
        Ok((catalog, Some(entries))) if !entries.is_empty() => {
            Ok(Opened { catalog, entries, restored: None })
        }
        // Made just now, or by a start that got no further.
        Ok((catalog, _)) => match read_snapshot(disk, dir)? {
            None => {
                write_snapshot::<Vec<u8>, Vec<u8>>(disk, dir, &[])?;
                Ok(Opened { catalog, entries: Vec::new(), restored: None })
            }
            Some(entries) if entries.is_empty() => Ok(Opened { catalog, entries, restored: None }),
            Some(entries) => {
                fill(catalog, complete(entries)?, "the database is missing or empty".to_owned(), None)
            }
        },
        Err(CatalogError::Damaged(damage)) => {
            let snapshot = read_snapshot(disk, dir).and_then(|snapshot| {
                snapshot.ok_or_else(|| CatalogError::Damaged("there is no snapshot of it".to_owned()))
            });
            let entries =
                snapshot.map_err(|no_help| CatalogError::Damaged(format!("{damage}; {no_help}")))?;
            let entries = complete(entries)?;
            let set_aside = set_aside(dir, &path)?;
            let (catalog, _) = SledCatalog::open(&path)?;
            fill(catalog, entries, damage, Some(set_aside))
        }
        Err(error) => Err(error),
    }
}

/// Puts entries into an empty catalog, all at once: a crash before leaves it empty.
fn fill(
    mut catalog: SledCatalog,
    entries: EntryList,
    damage: String,
    set_aside: Option<PathBuf>,
) -> Result<Opened, CatalogError> {
    let changes: Vec<_> =
        entries.iter().map(|(key, value)| Change::put(key.clone(), value.clone())).collect();
    catalog.commit(&changes)?;
    Ok(Opened { catalog, entries, restored: Some(RestoredFrom { damage, set_aside }) })
}

/// Gives the damaged database a name that none has had before.
fn set_aside(dir: &Path, path: &Path) -> io::Result<PathBuf> {
    for number in 1_u32.. {
        let aside = dir.join(format!("{CATALOG_NAME}.damaged-{number}"));
        if !aside.try_exists()? {
            fs::rename(path, &aside)?;
            File::open(dir)?.sync_all()?;
            return Ok(aside);
        }
    }
    Err(io::Error::other("too many damaged catalogs"))
}
