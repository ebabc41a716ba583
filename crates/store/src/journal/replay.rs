//! Reads the journal after a start: hands out its records in order, finds its end, and tells a torn write, which
//! nobody was promised, from damage to what was safe. Changes nothing on the disk.
//!
//! Groups count as a whole. At the first group that is bad, the question is whether anything later says that it
//! had been synced: if so it is damage, else the journal ends there. Where a file begins below what was found
//! in the one before, it wins: its writer knew that the rest of that one was not safe.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use crc32c::crc32c;
use leveret_broker::store::JournalPosition;

use super::format::{
    self, FILE_HEADER_BYTES, FIRST_POSITION, FileHeader, FileHeaderError, GROUP_HEADER_BYTES, GroupHeader,
    RECORD_HEADER_BYTES, RecordHeader, SECTOR, VERSION,
};
use crate::disk::{Disk, DiskFile, read_exact_at};

/// Octets read at once; more if a group is longer.
const PIECE_BYTES: u64 = 8 << 20;

/// A record as it was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it begins.
    pub position: JournalPosition,
    /// What the caller said it is.
    pub kind: u8,
    /// Its queue, 0 if it has none.
    pub queue: u64,
    /// Its payload; a part of a larger piece of memory, so copy it if it is to be kept.
    pub payload: Bytes,
}

/// Something that had been safe and cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where it begins.
    pub begins_at: JournalPosition,
    /// Where records can be read again.
    pub ends_at: JournalPosition,
    /// What it is, if its header still says so. Otherwise nobody knows whom it belonged to.
    pub record: Option<DamagedRecord>,
    /// The file it is in, or the last one before it if its file is missing.
    pub file: PathBuf,
}

/// A record whose payload is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DamagedRecord {
    /// Its kind.
    pub kind: u8,
    /// Its queue, 0 if it had none.
    pub queue: u64,
}

/// Where a journal ends, and which of its files count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayEnd {
    /// Where it goes on.
    pub position: JournalPosition,
    /// Up to where it is known to have been synced.
    pub(super) synced: u64,
    /// Begin and end of the files with something in them, oldest first.
    pub(super) kept: Vec<(JournalPosition, JournalPosition)>,
    /// Names of files that do not count.
    pub(super) discarded: Vec<String>,
}

impl Default for ReplayEnd {
    fn default() -> Self {
        let position = JournalPosition(FIRST_POSITION);
        Self { position, synced: FIRST_POSITION, kept: Vec::new(), discarded: Vec::new() }
    }
}

/// What a replay found, beside the records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Where the journal goes on.
    pub end: ReplayEnd,
    /// What had been safe and is lost, in order.
    pub damage: Vec<Damage>,
    /// Files with something in them.
    pub files: usize,
    /// Octets of groups that were read.
    pub bytes: u64,
}

/// Why a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The disk fails.
    #[error("cannot read {path}: {error}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A later version of Leveret wrote it, or an earlier one that is not supported any more.
    #[error("{path} has journal format {found}; this version of Leveret reads format {supported}")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format that can be read.
        supported: u32,
    },
}

/// Hands all records at or above `from` to `visit`, in order.
///
/// `from` must have been safe from power loss when it was noted: everything below counts as synced, and damage there
/// does not matter. A journal that does not reach `from` is reported as damage from its end to there.
///
/// # Errors
/// The disk fails, or a file has another format than ours. Damage is no error, it is in the result.
pub fn replay(
    disk: &dyn Disk,
    dir: &Path,
    from: JournalPosition,
    visit: &mut dyn FnMut(Record),
) -> Result<Replayed, ReplayError> {
    let from = from.0.max(FIRST_POSITION);
    let (files, unreadable) = open_files(disk, dir)?;
    let replay =
        Replay { dir, files, unreadable, from, visit, found: Replayed::default(), end: FIRST_POSITION };
    replay.run()
}

/// The files that are readable, by start, and the names of those that hold nothing of the journal.
fn open_files(disk: &dyn Disk, dir: &Path) -> Result<(Vec<ReplayFile>, Vec<String>), ReplayError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| ReplayError::Io { path, error }
    };
    let names = match disk.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        listed => listed.map_err(failed(dir))?,
    };
    let mut files = Vec::new();
    let mut unreadable = Vec::new();
    for name in names {
        let Some(start) = format::parse_file_name(&name) else { continue };
        let path = dir.join(&name);
        let handle = disk.open(&path).map_err(failed(&path))?;
        match ReplayFile::open(handle, start).map_err(failed(&path))? {
            Opened::Readable(file) => files.push(file),
            Opened::Unreadable => unreadable.push(name),
            Opened::Version(found) => {
                return Err(ReplayError::Version { path, found, supported: VERSION });
            }
        }
    }
    files.sort_by_key(|file| file.start);
    Ok((files, unreadable))
}

enum Opened {
    Readable(ReplayFile),
    Unreadable,
    Version(u32),
}

/// A file of the journal, read in pieces.
struct ReplayFile {
    handle: Box<dyn DiskFile>,
    start: u64,
    /// Journal position of the file's end on disk.
    size_end: u64,
    /// What its header says was synced.
    synced: u64,
    incarnation: u64,
    /// What was read last, and its journal position.
    piece: Bytes,
    piece_at: u64,
}

/// What a search of a file's rest found.
#[derive(Default)]
struct Scan {
    /// The highest claim of what was synced.
    synced: u64,
    /// Where the next group begins.
    next_group: Option<u64>,
}

impl ReplayFile {
    fn open(handle: Box<dyn DiskFile>, start: u64) -> io::Result<Opened> {
        let size = handle.size()?;
        let mut octets = vec![0; FILE_HEADER_BYTES.min(size) as usize];
        read_exact_at(&*handle, &mut octets, 0)?;
        let size_end = start.saturating_add(size.saturating_sub(FILE_HEADER_BYTES));
        let mut file =
            Self { handle, start, size_end, synced: 0, incarnation: 0, piece: Bytes::new(), piece_at: start };
        match FileHeader::decode(&octets) {
            Ok(header) if header.start == start => {
                file.synced = header.synced;
                file.incarnation = header.incarnation;
                Ok(Opened::Readable(file))
            }
            Err(FileHeaderError::Version(found)) => Ok(Opened::Version(found)),
            // The name tells the start and the groups tell their run: nothing is lost with the header.
            Ok(_) | Err(FileHeaderError::Unreadable) => match file.first_group()? {
                Some(group) => {
                    tracing::warn!(file = format::file_name(start), "a journal file's header is damaged");
                    file.incarnation = group.incarnation;
                    Ok(Opened::Readable(file))
                }
                None => Ok(Opened::Unreadable),
            },
        }
    }

    /// The first group of whatever run.
    fn first_group(&mut self) -> io::Result<Option<GroupHeader>> {
        let mut at = self.start;
        while let Some(octets) = self.octets(at, SECTOR)? {
            if let Some(group) = GroupHeader::decode(&octets, at) {
                return Ok(Some(group));
            }
            at += SECTOR;
        }
        Ok(None)
    }

    /// The octets at a journal position; `None` if the file does not reach so far.
    fn octets(&mut self, at: u64, length: u64) -> io::Result<Option<Bytes>> {
        let Some(end) = at.checked_add(length).filter(|end| *end <= self.size_end && at >= self.start) else {
            return Ok(None);
        };
        if at < self.piece_at || end > self.piece_at + self.piece.len() as u64 {
            // The old piece first: one is enough in memory.
            self.piece = Bytes::new();
            let length = PIECE_BYTES.max(length).min(self.size_end - at);
            let mut octets = vec![0; length as usize];
            read_exact_at(&*self.handle, &mut octets, FILE_HEADER_BYTES + (at - self.start))?;
            self.piece = Bytes::from(octets);
            self.piece_at = at;
        }
        let offset = (at - self.piece_at) as usize;
        Ok(Some(self.piece.slice(offset..offset + length as usize)))
    }

    /// The header of the group at `at`, if there is one that belongs to this file.
    fn group_header(&mut self, at: u64) -> io::Result<Option<GroupHeader>> {
        let octets = self.octets(at, GROUP_HEADER_BYTES as u64)?;
        let header = octets.and_then(|octets| GroupHeader::decode(&octets, at));
        Ok(header.filter(|header| header.incarnation == self.incarnation))
    }

    /// Looks at every place above `at` where a group can begin.
    fn scan(&mut self, at: u64) -> io::Result<Scan> {
        let mut scan = Scan::default();
        let mut at = at.saturating_add(SECTOR);
        while at < self.size_end {
            if let Some(group) = self.group_header(at)? {
                scan.synced = scan.synced.max(group.synced);
                scan.next_group.get_or_insert(at);
            }
            at += SECTOR;
        }
        Ok(scan)
    }
}

/// A record of a group, or a place in it where none can be read.
enum Item {
    Record(Record),
    Bad { begins_at: u64, ends_at: u64, record: Option<DamagedRecord> },
}

struct Replay<'a> {
    dir: &'a Path,
    files: Vec<ReplayFile>,
    unreadable: Vec<String>,
    from: u64,
    visit: &'a mut dyn FnMut(Record),
    found: Replayed,
    /// Up to where the journal is read.
    end: u64,
}

impl Replay<'_> {
    fn run(mut self) -> Result<Replayed, ReplayError> {
        self.found.end.synced = self.from;
        // Files wholly below are not read; there may be gaps between them, for retiring is not synced.
        let first = self.files.iter().rposition(|file| file.start <= self.from).unwrap_or(0);
        self.end = self.files.get(first).map_or(FIRST_POSITION, |file| file.start);
        if self.end > self.from {
            self.report(self.from, self.end, None, self.end);
        }
        for index in first..self.files.len() {
            let start = self.start_of(index).unwrap_or(self.end);
            let path = self.dir.join(format::file_name(start));
            if !self.walk(index).map_err(|error| ReplayError::Io { path, error })? {
                break;
            }
        }
        if self.end < self.from {
            // All of it is below `from`, and still the journal should reach so far: so what is missing may be more.
            let file = self.dir.join(format::file_name(self.end));
            let (begins_at, ends_at) = (JournalPosition(self.end), JournalPosition(self.from));
            self.found.damage.push(Damage { begins_at, ends_at, record: None, file });
            self.end = format::round_up(self.from);
        }
        Ok(self.finish())
    }

    /// Hands out the records of a file from `end` on. False if the journal ends in it.
    fn walk(&mut self, index: usize) -> io::Result<bool> {
        let limit = self.start_of(index + 1).unwrap_or(u64::MAX);
        let file_start = self.start_of(index).unwrap_or(self.end);
        while self.end < limit {
            let group = self.read_group(index)?.filter(|group| group.end <= limit);
            if group.as_ref().is_none_or(|group| group.is_damaged) {
                let Some(next) = self.next_after_damage(index)? else { return Ok(false) };
                if group.is_none() {
                    self.report(self.end, next, None, file_start);
                    self.end = next;
                }
            }
            if let Some(group) = group {
                self.found.bytes += group.end - self.end;
                self.end = group.end;
                self.hand_out(group.items, file_start);
            }
        }
        Ok(true)
    }

    /// The group at `end`, `None` if there is none with a good header. One that is wholly below `from` is not looked
    /// into.
    fn read_group(&mut self, index: usize) -> io::Result<Option<ReadGroup>> {
        let Some(file) = self.files.get_mut(index) else { return Ok(None) };
        let Some(header) = file.group_header(self.end)? else { return Ok(None) };
        let Some(end) = header.end().filter(|end| *end <= file.size_end) else { return Ok(None) };
        self.found.end.synced = self.found.end.synced.max(header.synced).max(file.synced);
        let records_at = header.position + GROUP_HEADER_BYTES as u64;
        let Some(octets) = file.octets(records_at, header.length)? else { return Ok(None) };
        let mut group = ReadGroup { end, items: Vec::new(), is_damaged: false };
        if end > self.from {
            group.read_items(&header, &octets);
        }
        Ok(Some(group))
    }

    /// The group at `end` is bad. If it had been synced, this is where records can be read again; `None` if it was
    /// torn, or never written, and nothing that follows counts.
    fn next_after_damage(&mut self, index: usize) -> io::Result<Option<u64>> {
        let limit = self.start_of(index + 1);
        let Some(file) = self.files.get_mut(index) else { return Ok(None) };
        let scan = file.scan(self.end)?;
        let next_group = scan.next_group.filter(|next| limit.is_none_or(|limit| *next < limit));
        let Some(next) = next_group.or(limit) else { return Ok(None) };
        let headers = self.files.iter().skip(index + 1).map(|file| file.synced);
        if headers.chain([scan.synced, self.from]).any(|synced| synced > self.end) {
            return Ok(Some(next));
        }
        for file in self.files.iter_mut().skip(index + 1) {
            let below = file.start.saturating_sub(SECTOR);
            if file.scan(below)?.synced > self.end {
                return Ok(Some(next));
            }
        }
        Ok(None)
    }

    fn hand_out(&mut self, items: Vec<Item>, file_start: u64) {
        for item in items {
            match item {
                Item::Record(record) if record.position.0 >= self.from => (self.visit)(record),
                Item::Record(_) => {}
                Item::Bad { begins_at, ends_at, record } => {
                    self.report(begins_at, ends_at, record, file_start);
                }
            }
        }
    }

    fn report(&mut self, begins_at: u64, ends_at: u64, record: Option<DamagedRecord>, file_start: u64) {
        if ends_at > self.from {
            let file = self.dir.join(format::file_name(file_start));
            let (begins_at, ends_at) = (JournalPosition(begins_at), JournalPosition(ends_at));
            self.found.damage.push(Damage { begins_at, ends_at, record, file });
        }
    }

    fn start_of(&self, index: usize) -> Option<u64> {
        self.files.get(index).map(|file| file.start)
    }

    fn finish(self) -> Replayed {
        let Self { files, unreadable, mut found, end, .. } = self;
        let next_starts = files.iter().skip(1).map(|file| file.start).chain([u64::MAX]);
        let kept = files.iter().zip(next_starts).filter(|(file, _)| file.start < end);
        found.end.kept =
            kept.map(|(file, next)| (JournalPosition(file.start), JournalPosition(next.min(end)))).collect();
        found.files = found.end.kept.len();
        let behind = files.iter().filter(|file| file.start >= end).map(|file| format::file_name(file.start));
        // A file at the very end stays until the one that goes on there takes its place: there is always a file
        // that says how far the journal reaches.
        let goes_on = format::file_name(end);
        found.end.discarded = behind.chain(unreadable).filter(|name| *name != goes_on).collect();
        found.end.position = JournalPosition(end);
        found
    }
}

/// A group whose header is good.
struct ReadGroup {
    end: u64,
    items: Vec<Item>,
    is_damaged: bool,
}

impl ReadGroup {
    fn read_items(&mut self, header: &GroupHeader, octets: &Bytes) {
        let mut position = header.position + GROUP_HEADER_BYTES as u64;
        let records_end = position + header.length;
        let mut rest = octets.clone();
        for _ in 0..header.records {
            let Some((record, payload)) = split_record(&mut rest, position, header.incarnation) else {
                break;
            };
            let begins_at = position;
            position += RECORD_HEADER_BYTES as u64 + u64::from(record.length);
            let RecordHeader { kind, queue, .. } = record;
            self.items.push(if crc32c(&payload) == record.payload_check {
                Item::Record(Record { position: JournalPosition(begins_at), kind, queue, payload })
            } else {
                self.is_damaged = true;
                Item::Bad { begins_at, ends_at: position, record: Some(DamagedRecord { kind, queue }) }
            });
        }
        if position != records_end {
            self.is_damaged = true;
            self.items.push(Item::Bad { begins_at: position, ends_at: records_end, record: None });
        }
    }
}

/// Takes the record at `position` off the beginning of `rest`; `None` if there is no good header, or too little
/// behind it.
fn split_record(rest: &mut Bytes, position: u64, incarnation: u64) -> Option<(RecordHeader, Bytes)> {
    let header = RecordHeader::decode(rest, position, incarnation)?;
    let end = RECORD_HEADER_BYTES.checked_add(header.length as usize)?;
    if end > rest.len() {
        return None;
    }
    let mut record = rest.split_to(end);
    let payload = record.split_off(RECORD_HEADER_BYTES);
    Some((header, payload))
}
