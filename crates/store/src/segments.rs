//! Segment files: blocks of all queues, one behind the other, so that thousands of queues make neither thousands
//! of files nor thousands of syncs. Durable and temporary blocks go to files of their own; the latter are gone
//! after a restart. A file is only ever appended to, by the process that made it, and deleted as a whole.
//!
//! The owner keeps the index (the catalog) and tells what it needs no more; which octets a block holds is not
//! known here.

mod files;
mod format;
mod handles;
mod scan;

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use leveret_broker::names::QueueId;
use leveret_broker::store::{Block, BlockError, BlockLocation};
use parking_lot::Mutex;

use crate::disk::{Disk, DiskFile, read_exact_at, write_all_at};
use files::{Files, Kind, SegmentFile};
use format::{BLOCK_HEADER_BYTES, BlockHeader, FILE_HEADER_BYTES};
use handles::Handles;

pub use format::FORMAT_VERSION;

/// Octets of a file without a block.
pub(crate) const EMPTY_FILE_BYTES: u64 = FILE_HEADER_BYTES as u64;

pub use scan::{Scanned, read_block, scan};

/// Written octets after which a file is synced without being asked to, so that no checkpoint waits for
/// one large sync.
const SYNC_EACH_BYTES: u64 = 8 << 20;

/// Files kept open for reading.
const OPEN_FILES_MAX: usize = 64;

/// Ends of the names of segment files.
const EXTENSION: &str = ".blocks";

/// What follows that in the name of a file that says that another is to stay.
const KEEP_EXTENSION: &str = ".keep";

/// Where segment files lie and how large they get.
#[derive(Clone, Debug)]
pub struct SegmentOptions {
    /// Folder of the folders `durable` and `temporary`.
    pub dir: PathBuf,
    /// Octets of a file; one that holds a larger block is as large as that.
    pub file_bytes: u64,
}

impl SegmentOptions {
    /// Files of 32 MiB below `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), file_bytes: 32 << 20 }
    }
}

/// A block and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoredBlock {
    /// Where it lies.
    pub location: BlockLocation,
    /// The queue.
    pub queue: QueueId,
    /// Position of its first message.
    pub first_position: u64,
}

/// A sync failed, now or earlier.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct SyncError {
    /// What the system said.
    pub source: io::Error,
    /// Blocks that may be lost at a power failure and that no later sync will save. Each is reported again until
    /// it is freed: read it, write it anew, free it here, sync again.
    pub suspects: Vec<StoredBlock>,
}

/// What the files take and how much of that matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Octets of all files.
    pub file_bytes: u64,
    /// Octets of live blocks, less what was settled of them.
    pub live_bytes: u64,
    /// How many files there are.
    pub files: usize,
}

/// What [`Segments::remove_unknown`] deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// How many files.
    pub files: usize,
    /// Octets in them.
    pub bytes: u64,
}

/// Writes, reads and deletes blocks. All methods can be called by many threads.
///
/// Locks: `syncing` or one of the two `writing`, then `files` or `handles`, never more of one step.
pub struct Segments {
    disk: Arc<dyn Disk>,
    options: SegmentOptions,
    /// Held while a block is written: blocks of a file lie in the order of their offsets, and a copy to the page
    /// cache is as fast as memory.
    durable: Mutex<Option<Writing>>,
    temporary: Mutex<Option<Writing>>,
    /// Short: taken with a queue locked.
    files: Mutex<Files>,
    handles: Mutex<Handles>,
    /// One sync at a time: the system reports a failure to one caller only, and that one must be the one who
    /// draws the conclusion. Holds the text of the last failure.
    syncing: Mutex<Option<String>>,
}

/// The file that is written now.
struct Writing {
    number: u64,
    length: u64,
    unsynced_bytes: u64,
    handle: Arc<dyn DiskFile>,
}

impl Segments {
    /// Opens the folders, making them if they are missing. Deletes what is in `temporary`. New files get numbers
    /// above all there are.
    ///
    /// # Errors
    /// The system refuses.
    pub fn open(disk: Arc<dyn Disk>, options: SegmentOptions) -> io::Result<Self> {
        for kind in [Kind::Durable, Kind::Temporary] {
            disk.create_dir(&options.dir.join(kind.folder()))?;
        }
        disk.sync_dir(&options.dir)?;
        if let Some(above) = options.dir.parent().filter(|above| !above.as_os_str().is_empty()) {
            disk.sync_dir(above)?;
        }
        let mut files = Files::default();
        for (number, path) in durable_files(&*disk, &options.dir)? {
            let length = disk.open(&path)?.size()?;
            files.by_number.insert(number, SegmentFile::found(Kind::Durable, length));
            files.next_number = files.next_number.max(number.saturating_add(1));
        }
        for number in kept_files(&*disk, &options.dir)? {
            if let Some(file) = files.by_number.get_mut(&number) {
                file.kept = true;
            }
        }
        let temporary = options.dir.join(Kind::Temporary.folder());
        for name in disk.list(&temporary)? {
            if let Some(number) = number_of(&name) {
                disk.remove(&temporary.join(&name))?;
                files.next_number = files.next_number.max(number.saturating_add(1));
            }
        }
        Ok(Self {
            disk,
            options,
            durable: Mutex::new(None),
            temporary: Mutex::new(None),
            files: Mutex::new(files),
            handles: Mutex::new(Handles::new(OPEN_FILES_MAX)),
            syncing: Mutex::new(None),
        })
    }

    /// Notes a block that the catalog knows. Asks the disk nothing: the file must be there and long enough.
    ///
    /// # Errors
    /// It cannot be there.
    pub fn adopt(
        &self,
        location: BlockLocation,
        queue: QueueId,
        first_position: u64,
    ) -> Result<(), BlockError> {
        if location.offset < FILE_HEADER_BYTES || location.length < BLOCK_HEADER_BYTES {
            return Err(BlockError::Damaged(format!("no block can be at {location:?}")));
        }
        let mut files = self.files.lock();
        match files.by_number.get_mut(&location.file).filter(|file| file.kind == Kind::Durable) {
            Some(file) => file.adopt(location, queue, first_position),
            None => Err(BlockError::Damaged(format!("file {} is missing", file_name(location.file)))),
        }
    }

    /// Deletes durable files of earlier processes in which no block was adopted. Only after a recovery that found
    /// the catalog whole.
    ///
    /// # Errors
    /// The system refuses; what could be deleted is.
    pub fn remove_unknown(&self) -> io::Result<Removed> {
        let (unknown, bytes) = {
            let files = self.files.lock();
            let unknown = files.numbers_where(|file| file.found && file.is_dead());
            let length = |number| files.by_number.get(number).map_or(0, |file| file.length);
            let bytes = unknown.iter().map(length).sum();
            (unknown, bytes)
        };
        self.remove(&unknown)?;
        Ok(Removed { files: unknown.len(), bytes })
    }

    /// Writes a block. It is safe after the next [`sync`](Self::sync).
    ///
    /// # Errors
    /// The disk fails or is full, or the block has 4 GiB or more. The next block goes to a new file.
    pub fn write(&self, block: &Block<'_>) -> io::Result<BlockLocation> {
        let kind = Kind::of(block.durable);
        let mut header = unplaced_header(block)?;
        let mut place = self.writing(kind).lock();
        let writing = self.file_with_room(kind, &mut place, header.payload_length)?;
        header.file = writing.number;
        header.offset = u32::try_from(writing.length).map_err(io::Error::other)?;
        let location = header.location().ok_or_else(too_large)?;
        let encoded = header.encode();
        let mut parts = Vec::with_capacity(block.payload.len() + 1);
        parts.push(IoSlice::new(&encoded));
        parts.extend(block.payload.iter().map(|part| IoSlice::new(part)));
        if let Err(error) = write_all_at(&*writing.handle, &mut parts, writing.length) {
            self.abandon(place.take());
            return Err(error);
        }
        writing.length += u64::from(location.length);
        writing.unsynced_bytes += u64::from(location.length);
        let number = writing.number;
        let is_sync_due = kind == Kind::Durable && writing.unsynced_bytes >= SYNC_EACH_BYTES;
        if is_sync_due {
            writing.unsynced_bytes = 0;
        }
        self.note(location, block)?;
        drop(place);
        if is_sync_due && let Some(mut last_failure) = self.syncing.try_lock() {
            // What fails here is known to the next `sync`.
            let _ = self.sync_file(number, &mut last_failure);
        }
        Ok(location)
    }

    fn writing(&self, kind: Kind) -> &Mutex<Option<Writing>> {
        match kind {
            Kind::Durable => &self.durable,
            Kind::Temporary => &self.temporary,
        }
    }

    /// The file that has room for a payload: the current one, or a new one.
    fn file_with_room<'a>(
        &self,
        kind: Kind,
        place: &'a mut Option<Writing>,
        payload_length: u32,
    ) -> io::Result<&'a mut Writing> {
        let length = u64::from(payload_length) + u64::from(BLOCK_HEADER_BYTES);
        let has_room = |writing: &Writing| {
            writing.length == u64::from(FILE_HEADER_BYTES)
                || writing.length + length <= self.options.file_bytes
        };
        let is_broken = |number| self.files.lock().by_number.get(&number).is_none_or(|file| file.broken);
        match place.take() {
            Some(writing) if has_room(&writing) && !is_broken(writing.number) => Ok(place.insert(writing)),
            full => {
                if let Some(full) = full {
                    self.seal(full.number);
                }
                if kind == Kind::Temporary {
                    // What cannot be deleted now is tried again with the next file.
                    let _ = self.remove_dead_temporary();
                }
                Ok(place.insert(self.make_file(kind)?))
            }
        }
    }

    /// Makes a file with nothing in it but its header.
    fn make_file(&self, kind: Kind) -> io::Result<Writing> {
        let number = {
            let mut files = self.files.lock();
            let number = files.next_number;
            files.next_number += 1;
            number
        };
        let path = self.path(kind, number);
        let handle: Arc<dyn DiskFile> = Arc::from(self.disk.create(&path)?);
        let header = format::file_header(number);
        if let Err(error) = write_all_at(&*handle, &mut [IoSlice::new(&header)], 0) {
            // If this fails too, the next start deletes it.
            let _ = self.disk.remove(&path);
            return Err(error);
        }
        let length = u64::from(FILE_HEADER_BYTES);
        let file = SegmentFile::made(kind, length, Arc::clone(&handle));
        self.files.lock().by_number.insert(number, file);
        Ok(Writing { number, length, unsynced_bytes: 0, handle })
    }

    /// Notes a block that was written.
    fn note(&self, location: BlockLocation, block: &Block<'_>) -> io::Result<()> {
        let mut files = self.files.lock();
        let file = files.by_number.get_mut(&location.file).filter(|file| !file.broken);
        let Some(file) = file else {
            return Err(io::Error::other("a sync of the file failed while the block was written"));
        };
        file.length = u64::from(location.offset) + u64::from(location.length);
        file.insert(location, block.queue, block.first_position);
        Ok(())
    }

    fn seal(&self, number: u64) {
        if let Some(file) = self.files.lock().by_number.get_mut(&number) {
            file.sealed = true;
            file.synced(0);
        }
    }

    /// A write failed: nothing more goes to this file. One that never had a block goes at once, so that a
    /// full disk is not filled with empty files.
    fn abandon(&self, writing: Option<Writing>) {
        let Some(writing) = writing else { return };
        self.seal(writing.number);
        if writing.length == u64::from(FILE_HEADER_BYTES) {
            // If this fails, `dead` and `remove_dead_temporary` name it again.
            let _ = self.remove(&[writing.number]);
        }
    }

    /// Reads a block's payload.
    ///
    /// # Errors
    /// The disk fails, or something else lies there than was written.
    pub fn read(
        &self,
        location: BlockLocation,
        queue: QueueId,
        first_position: u64,
    ) -> Result<Bytes, BlockError> {
        let handle = self.handle(location)?;
        let mut octets = vec![0; location.length as usize];
        match read_exact_at(&*handle, &mut octets, u64::from(location.offset)) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let what = format!("file {} ends within the block", file_name(location.file));
                return Err(BlockError::Damaged(what));
            }
            read => read?,
        }
        format::check_block(&octets, location, queue, first_position)?;
        let mut payload = Bytes::from(octets);
        Ok(payload.split_off(BLOCK_HEADER_BYTES as usize))
    }

    /// A handle to read `location` with, if it lies in what was written.
    fn handle(&self, location: BlockLocation) -> Result<Arc<dyn DiskFile>, BlockError> {
        let missing = || BlockError::Damaged(format!("file {} is missing", file_name(location.file)));
        let kind = {
            let files = self.files.lock();
            let file = files.by_number.get(&location.file).ok_or_else(missing)?;
            let end = u64::from(location.offset) + u64::from(location.length);
            if location.length < BLOCK_HEADER_BYTES || end > file.length {
                return Err(BlockError::Damaged(format!("no block can be at {location:?}")));
            }
            if let Some(handle) = &file.handle {
                return Ok(Arc::clone(handle));
            }
            file.kind
        };
        if let Some(handle) = self.handles.lock().get(location.file) {
            return Ok(handle);
        }
        let opened = self.disk.open(&self.path(kind, location.file));
        let opened = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => missing(),
            _ => BlockError::Io(error),
        })?;
        let handle: Arc<dyn DiskFile> = Arc::from(opened);
        self.handles.lock().insert(location.file, Arc::clone(&handle));
        // Should the file have been removed meanwhile, the handle must not keep its space.
        if !self.files.lock().by_number.contains_key(&location.file) {
            self.handles.lock().remove(location.file);
        }
        Ok(handle)
    }

    /// The block is needed no more. Memory only.
    pub fn free(&self, location: BlockLocation) {
        if let Some(file) = self.files.lock().by_number.get_mut(&location.file) {
            file.free(location);
        }
    }

    /// Of the block's octets only `live_bytes` still matter, the rest is settled. Memory only; never grows.
    pub fn shrink(&self, location: BlockLocation, live_bytes: u32) {
        if let Some(file) = self.files.lock().by_number.get_mut(&location.file) {
            file.shrink(location, live_bytes);
        }
    }

    /// The block cannot be read: its file is left as it is, and not named by [`sparse`](Self::sparse) any more.
    pub fn leave(&self, location: BlockLocation) {
        if let Some(file) = self.files.lock().by_number.get_mut(&location.file) {
            file.damaged = true;
        }
    }

    /// Makes all durable blocks safe that were written before the call.
    ///
    /// # Errors
    /// The disk fails now, or failed while blocks were written that are still alive: see [`SyncError`].
    pub fn sync(&self) -> Result<(), SyncError> {
        let mut last_failure = self.syncing.lock();
        let due = self.files.lock().numbers_where(SegmentFile::needs_sync);
        let mut outcome = Ok(());
        for number in due {
            outcome = self.sync_file(number, &mut last_failure).and(outcome);
        }
        outcome = self.sync_names(&mut last_failure).and(outcome);
        let files = self.files.lock();
        let suspects: Vec<_> =
            files.by_number.iter().flat_map(|(&number, file)| file.suspects(number)).collect();
        drop(files);
        let source = match outcome {
            Ok(()) if suspects.is_empty() => return Ok(()),
            Ok(()) => io::Error::other(last_failure.clone().unwrap_or_default()),
            Err(error) => error,
        };
        Err(SyncError { source, suspects })
    }

    /// Syncs what was written to one file so far.
    fn sync_file(&self, number: u64, last_failure: &mut Option<String>) -> io::Result<()> {
        let (handle, length) = {
            let files = self.files.lock();
            let Some(file) = files.by_number.get(&number).filter(|file| !file.broken) else { return Ok(()) };
            let Some(handle) = &file.handle else { return Ok(()) };
            (Arc::clone(handle), file.length)
        };
        let synced = handle.sync();
        let mut files = self.files.lock();
        if let Some(file) = files.by_number.get_mut(&number) {
            match &synced {
                Ok(()) => file.synced(length),
                Err(_) => file.fail(),
            }
        }
        drop(files);
        remember(synced, last_failure)
    }

    /// Makes the names of new files safe.
    fn sync_names(&self, last_failure: &mut Option<String>) -> io::Result<()> {
        let unnamed = self.files.lock().numbers_where(|file| {
            file.kind == Kind::Durable && !file.named && !file.broken && file.has_live()
        });
        if unnamed.is_empty() {
            return Ok(());
        }
        let synced = self.disk.sync_dir(&self.options.dir.join(Kind::Durable.folder()));
        let mut files = self.files.lock();
        for number in unnamed {
            match files.by_number.get_mut(&number) {
                Some(file) if synced.is_ok() => file.named = true,
                Some(file) => file.fail(),
                None => {}
            }
        }
        drop(files);
        remember(synced, last_failure)
    }

    /// Durable files without a live block. To be asked before a checkpoint gathers what it tells the catalog:
    /// once that is safe, no catalog knows a block of these files, and they can be removed.
    pub fn dead(&self) -> Vec<u64> {
        self.seal_if_dead(Kind::Durable);
        self.files.lock().numbers_where(|file| file.kind == Kind::Durable && file.is_dead())
    }

    /// Ends the current file if it has had blocks and none is alive: it can go.
    fn seal_if_dead(&self, kind: Kind) {
        let mut place = self.writing(kind).lock();
        let Some(writing) = &*place else { return };
        let number = writing.number;
        let has_live = self.files.lock().by_number.get(&number).is_some_and(SegmentFile::has_live);
        if writing.length > u64::from(FILE_HEADER_BYTES) && !has_live {
            *place = None;
            self.seal(number);
        }
    }

    /// Deletes files. Their blocks cannot be read any more.
    ///
    /// # Errors
    /// The system refuses; what could be deleted is, and the rest is named again by [`dead`](Self::dead).
    pub fn remove(&self, numbers: &[u64]) -> io::Result<()> {
        let mut outcome = Ok(());
        for &number in numbers {
            let Some(kind) = self.files.lock().by_number.get(&number).map(|file| file.kind) else { continue };
            match self.disk.remove(&self.path(kind, number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => outcome = Err(error),
                _ => {
                    // The space is free only when no handle is left.
                    self.files.lock().by_number.remove(&number);
                    self.handles.lock().remove(number);
                }
            }
        }
        outcome
    }

    /// Deletes temporary files without a live block, the current one as well. Done by [`write`](Self::write) too
    /// whenever a temporary file is full.
    ///
    /// # Errors
    /// As [`remove`](Self::remove).
    pub fn remove_dead_temporary(&self) -> io::Result<()> {
        if let Some(mut place) = self.temporary.try_lock() {
            let number = place.as_ref().map(|writing| writing.number);
            let files = self.files.lock();
            let is_dead = |number| {
                files
                    .by_number
                    .get(&number)
                    .is_some_and(|file| !file.has_live() && file.length > u64::from(FILE_HEADER_BYTES))
            };
            let dead = number.filter(|&number| is_dead(number));
            drop(files);
            if let Some(number) = dead {
                *place = None;
                self.seal(number);
            }
        }
        let dead = self.files.lock().numbers_where(|file| file.kind == Kind::Temporary && file.is_dead());
        self.remove(&dead)
    }

    /// Live blocks of the sealed durable file of which least is alive, if that is less than half: written anew
    /// elsewhere and freed here, they let the file go.
    pub fn sparse(&self) -> Option<Vec<StoredBlock>> {
        self.files.lock().sparsest(Kind::Durable)
    }

    /// The same among the temporary files.
    pub fn sparse_temporary(&self) -> Option<Vec<StoredBlock>> {
        self.files.lock().sparsest(Kind::Temporary)
    }

    /// What the files take, durable and temporary.
    pub fn usage(&self) -> Usage {
        let files = self.files.lock();
        files.by_number.values().fold(Usage::default(), |usage, file| Usage {
            file_bytes: usage.file_bytes + file.length,
            live_bytes: usage.live_bytes + file.live_bytes(),
            files: usage.files + 1,
        })
    }

    fn path(&self, kind: Kind, number: u64) -> PathBuf {
        self.options.dir.join(kind.folder()).join(file_name(number))
    }
}

/// The durable segment files below the folder `dir` of [`SegmentOptions`], by number, for [`scan()`]. Changes nothing.
///
/// # Errors
/// The system refuses.
pub fn durable_files(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let folder = dir.join(Kind::Durable.folder());
    let names = disk.list(&folder)?;
    Ok(names.iter().filter_map(|name| Some((number_of(name)?, folder.join(name)))).collect())
}

/// Sees to it that a durable segment file stays where it is, whatever is in it: by an empty file beside it,
/// with `.keep` behind the name. That is deleted by people, who may want to look into the other before.
///
/// # Errors
/// The system refuses.
pub fn keep(disk: &dyn Disk, dir: &Path, number: u64) -> io::Result<()> {
    let folder = dir.join(Kind::Durable.folder());
    match disk.create(&folder.join(file_name(number) + KEEP_EXTENSION)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    disk.sync_dir(&folder)
}

/// Numbers of the segment files that [`keep`] was asked for.
///
/// # Errors
/// The system refuses.
pub fn kept_files(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<u64>> {
    let names = disk.list(&dir.join(Kind::Durable.folder()))?;
    Ok(names.iter().filter_map(|name| number_of(name.strip_suffix(KEEP_EXTENSION)?)).collect())
}

/// The header of a block whose place is not known yet.
fn unplaced_header(block: &Block<'_>) -> io::Result<BlockHeader> {
    let payload_length =
        block.payload.iter().try_fold(0_u32, |sum, part| sum.checked_add(u32::try_from(part.len()).ok()?));
    Ok(BlockHeader {
        queue: block.queue,
        first_position: block.first_position,
        count: block.count,
        payload_length: payload_length
            .filter(|length| length.checked_add(BLOCK_HEADER_BYTES).is_some())
            .ok_or_else(too_large)?,
        payload_crc: block.payload.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part)),
        file: 0,
        offset: 0,
    })
}

fn too_large() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "a block must be smaller than 4 GiB")
}

fn remember(outcome: io::Result<()>, last_failure: &mut Option<String>) -> io::Result<()> {
    if let Err(error) = &outcome {
        *last_failure = Some(error.to_string());
    }
    outcome
}

/// The name of file `number`.
fn file_name(number: u64) -> String {
    format!("{number:016x}{EXTENSION}")
}

/// The number in the name of a segment file; `None` for other files.
fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(EXTENSION).filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests;
