//! The catalog in sled. What sled leaves open is added here: its flush does not reach the platter (it asks for
//! sync_file_range only), so every commit ends with a sync of its files; it takes the end of what it can read for
//! the end of what there was, so a checksum of all entries is kept among them and the number of the last commit
//! elsewhere; it panics on some damage, and stays unusable after an I/O error, so it is opened anew then.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::committed::Committed;
use super::panics::caught;
use super::{Catalog, CatalogError, FORMAT_VERSION};
use crate::entries::{Change, EntryList};
use crate::octets::{Reader, put_varint};

/// Memory for sled's pages.
const CACHE_BYTES: u64 = 32 << 20;

/// How long an open waits for the database to be let go of: threads of sled's own hold it for some milliseconds
/// after it was dropped.
const LOCK_WAIT: Duration = Duration::from_secs(1);
const LOCK_RETRY: Duration = Duration::from_millis(5);

/// Keys of the catalog's own; no other begins with a zero.
const OWN_PREFIX: u8 = 0;
const FORMAT_KEY: &[u8] = b"\0format";
const STATE_KEY: &[u8] = b"\0state";

/// Octets copied at once by [`write_again`].
const PIECE_BYTES: usize = 1 << 20;

/// A catalog in a folder of its own.
#[derive(Debug)]
pub struct SledCatalog {
    dir: PathBuf,
    /// `None` after a failed commit, until the next one has opened it again.
    database: Option<Database>,
}

#[derive(Debug)]
struct Database {
    db: sled::Db,
    /// The same file as sled's own handle, to sync it.
    file: File,
    folder: File,
    /// Where sled keeps what is too large for its file.
    blobs: PathBuf,
    synced_blobs: HashSet<OsString>,
    committed: Committed,
}

/// What the catalog keeps of itself among its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    /// Number of the last commit, the making of the catalog being the first.
    commit: u64,
    checksum: Checksum,
}

/// Number and sum of all entries, independent of their order, so that a change of one needs no look at the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Checksum {
    entries: u64,
    sum: u64,
}

impl SledCatalog {
    /// Opens the catalog in the folder `dir`, making it if it is missing, and checks all of it. Also returns its
    /// entries, sorted; `None` if it was made just now.
    ///
    /// # Errors
    /// Any [`CatalogError`].
    pub fn open(dir: &Path) -> Result<(Self, Option<EntryList>), CatalogError> {
        Self::open_knowing(dir, FORMAT_VERSION)
    }

    fn open_knowing(dir: &Path, known: u32) -> Result<(Self, Option<EntryList>), CatalogError> {
        let mut database = caught(|| Database::open(dir))?;
        let catalog = |database| Self { dir: dir.to_owned(), database: Some(database) };
        let Some(format) = caught(|| database.db.get(FORMAT_KEY).map_err(|error| of_sled(dir, error)))?
        else {
            caught(|| database.begin(known))?;
            return Ok((catalog(database), None));
        };
        let mut reader = Reader::new(&format);
        let found =
            reader.u32().ok_or_else(|| CatalogError::Damaged("its format is not a number".to_owned()))?;
        if found > known {
            return Err(CatalogError::NewerFormat { found, known });
        }
        let entries = caught(|| database.entries())?;
        Ok((catalog(database), Some(entries)))
    }

    /// Opens the database again after a failure. What a failed sync left unwritten would never be written again,
    /// since the system takes it for clean: so all of it is written once more.
    fn open_again(&self) -> Result<Database, CatalogError> {
        write_again(&self.dir.join("db"))?;
        let database = caught(|| Database::open(&self.dir))?;
        caught(|| database.entries())?;
        Ok(database)
    }
}

impl Catalog for SledCatalog {
    fn entries(&self) -> Result<EntryList, CatalogError> {
        match &self.database {
            Some(database) => caught(|| database.entries()),
            None => Err(failed_before()),
        }
    }

    fn entries_from(&self, first: &[u8]) -> Result<EntryList, CatalogError> {
        match &self.database {
            Some(database) => caught(|| database.entries_from(first)),
            None => Err(failed_before()),
        }
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), CatalogError> {
        let mut database = match self.database.take() {
            Some(database) => database,
            None => self.open_again()?,
        };
        // Moved in and out, so that one that failed is dropped where a panic of its end is caught too.
        let database = caught(move || {
            database.commit(changes)?;
            Ok(database)
        })?;
        self.database = Some(database);
        Ok(())
    }
}

/// A panic of sled's own end must not become ours.
impl Drop for SledCatalog {
    fn drop(&mut self) {
        if let Some(database) = self.database.take() {
            let _ = caught(move || {
                drop(database);
                Ok(())
            });
        }
    }
}

impl Database {
    fn open(dir: &Path) -> Result<Self, CatalogError> {
        let is_new = !dir.try_exists()?;
        let db = open_sled(dir)?;
        let database = Self {
            db,
            file: File::open(dir.join("db"))?,
            folder: File::open(dir)?,
            blobs: dir.join("blobs"),
            synced_blobs: HashSet::new(),
            committed: Committed::open(dir)?,
        };
        if is_new && let Some(above) = dir.parent().filter(|above| !above.as_os_str().is_empty()) {
            File::open(dir.join("conf"))?.sync_all()?;
            File::open(above)?.sync_all()?;
        }
        Ok(database)
    }

    /// Makes an empty database a catalog.
    fn begin(&mut self, format: u32) -> Result<(), CatalogError> {
        if self.committed.number()?.is_some() || self.db.iter().next().is_some() {
            return Err(CatalogError::Damaged("its beginning is missing".to_owned()));
        }
        let mut batch = sled::Batch::default();
        batch.insert(FORMAT_KEY, &format.to_le_bytes());
        self.write(batch, State { commit: 1, checksum: Checksum::default() })
    }

    /// All entries but the catalog's own, if they are what was committed last.
    fn entries(&self) -> Result<EntryList, CatalogError> {
        let mut entries = Vec::new();
        let mut checksum = Checksum::default();
        for entry in self.db.iter() {
            let (key, value) = entry.map_err(|error| self.of_sled(error))?;
            if key.first() != Some(&OWN_PREFIX) {
                checksum.add(&key, &value);
                entries.push((key.to_vec(), value.to_vec()));
            }
        }
        let state = self.state()?;
        if checksum != state.checksum {
            return Err(CatalogError::Damaged(format!(
                "it has {} entries that are not the {} that were committed",
                checksum.entries, state.checksum.entries
            )));
        }
        match self.committed.number()? {
            // A crash lies between a commit and noting its number, the first commit's included.
            Some(number) if state.commit < number => Err(CatalogError::Damaged(format!(
                "the last commit was number {number}, and the last that can be read is number {}",
                state.commit
            ))),
            None if state.commit > 1 => {
                Err(CatalogError::Damaged("the number of its last commit is missing".to_owned()))
            }
            _ => Ok(entries),
        }
    }

    fn entries_from(&self, first: &[u8]) -> Result<EntryList, CatalogError> {
        let entries = self.db.range(first..).map(|entry| {
            let (key, value) = entry.map_err(|error| self.of_sled(error))?;
            Ok((key.to_vec(), value.to_vec()))
        });
        entries.filter(|entry| !matches!(entry, Ok((key, _)) if key.first() == Some(&OWN_PREFIX))).collect()
    }

    fn state(&self) -> Result<State, CatalogError> {
        let octets = self.db.get(STATE_KEY).map_err(|error| self.of_sled(error))?;
        let state = octets.and_then(|octets| State::decode(&octets));
        state.ok_or_else(|| CatalogError::Damaged("its checksum is missing".to_owned()))
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), CatalogError> {
        let last: BTreeMap<_, _> = changes.iter().map(|change| (&change.key, &change.value)).collect();
        let State { commit, mut checksum } = self.state()?;
        let mut batch = sled::Batch::default();
        for (key, value) in last {
            debug_assert_ne!(key.first(), Some(&OWN_PREFIX), "INVARIANT: kinds of entries are letters");
            if let Some(old) = self.db.get(key).map_err(|error| self.of_sled(error))? {
                checksum.subtract(key, &old);
            }
            match value {
                Some(value) => {
                    checksum.add(key, value);
                    batch.insert(key.as_slice(), value.as_slice());
                }
                None => batch.remove(key.as_slice()),
            }
        }
        self.write(batch, State { commit: commit.wrapping_add(1), checksum })
    }

    /// Makes a batch safe.
    fn write(&mut self, mut batch: sled::Batch, state: State) -> Result<(), CatalogError> {
        batch.insert(STATE_KEY, state.encode());
        self.db.apply_batch(batch).map_err(|error| self.of_sled(error))?;
        self.db.flush().map_err(|error| self.of_sled(error))?;
        self.file.sync_data()?;
        self.sync_blobs()?;
        self.folder.sync_all()?;
        self.committed.note(state.commit)?;
        Ok(())
    }

    /// sled writes a blob once and never syncs it.
    fn sync_blobs(&mut self) -> io::Result<()> {
        let mut found = HashSet::new();
        for entry in fs::read_dir(&self.blobs)? {
            found.insert(entry?.file_name());
        }
        if found == self.synced_blobs {
            return Ok(());
        }
        for name in found.difference(&self.synced_blobs) {
            match File::open(self.blobs.join(name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                blob => blob?.sync_all()?,
            }
        }
        File::open(&self.blobs)?.sync_all()?;
        self.synced_blobs = found;
        Ok(())
    }

    fn of_sled(&self, error: sled::Error) -> CatalogError {
        of_sled(self.blobs.parent().unwrap_or(&self.blobs), error)
    }
}

fn failed_before() -> CatalogError {
    io::Error::other("the last commit failed, the next one opens the catalog again").into()
}

/// Opens the database, waiting a little for one that is just being closed.
fn open_sled(dir: &Path) -> Result<sled::Db, CatalogError> {
    let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match config.open().map_err(|error| of_sled(dir, error)) {
            Err(CatalogError::InUse { .. }) if Instant::now() < deadline => thread::sleep(LOCK_RETRY),
            opened => return opened,
        }
    }
}

fn of_sled(dir: &Path, error: sled::Error) -> CatalogError {
    match error {
        // sled has no kind of error for this, only a text.
        sled::Error::Io(error) if error.to_string().starts_with("could not acquire lock") => {
            CatalogError::InUse { dir: dir.to_owned() }
        }
        sled::Error::Io(error) => CatalogError::Io(error),
        other => CatalogError::Damaged(other.to_string()),
    }
}

/// Writes every octet of a file in its place again, and syncs it.
fn write_again(path: &Path) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut offset = 0;
    loop {
        let read = file.read_at(&mut piece, offset)?;
        let Some(octets) = piece.get(..read).filter(|octets| !octets.is_empty()) else { break };
        file.write_all_at(octets, offset)?;
        offset += read as u64;
    }
    file.sync_all()
}

impl Checksum {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        self.entries = self.entries.wrapping_add(1);
        self.sum = self.sum.wrapping_add(Self::of_entry(key, value));
    }

    fn subtract(&mut self, key: &[u8], value: &[u8]) {
        self.entries = self.entries.wrapping_sub(1);
        self.sum = self.sum.wrapping_sub(Self::of_entry(key, value));
    }

    fn of_entry(key: &[u8], value: &[u8]) -> u64 {
        let mut length = Vec::new();
        put_varint(&mut length, key.len() as u64);
        let crc =
            [key, value].iter().fold(crc32c::crc32c(&length), |crc, part| crc32c::crc32c_append(crc, part));
        u64::from(crc)
    }
}

impl State {
    fn encode(self) -> Vec<u8> {
        let Self { commit, checksum: Checksum { entries, sum } } = self;
        [commit, entries, sum].map(u64::to_le_bytes).concat()
    }

    fn decode(octets: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(octets);
        let commit = reader.u64()?;
        Some(Self { commit, checksum: Checksum { entries: reader.u64()?, sum: reader.u64()? } })
    }
}

#[cfg(test)]
mod tests;
