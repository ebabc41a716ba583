//! The journal thread: takes what was appended, writes it, syncs it, says how far it is safe. After a failure it
//! goes on in a new file from the first group that is not known to be safe; until then that group stays in memory.
//!
//! [`Writer::step`] is all of it but the waiting, so that tests can do without the thread.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::format::{FILE_HEADER_BYTES, FileHeader};
use super::group::Group;
use super::{JournalOptions, Shared, SyncMode};
use crate::disk::{DiskFile, write_all_at};

/// Files are filled with zeros ahead of what is written, so that a sync need not make a new size safe. In steps of
/// this many octets at the first ...
const ZERO_STEP_MIN: u64 = 1 << 20;
/// ... and, doubling, of this many later.
const ZERO_STEP_MAX: u64 = 8 << 20;
/// In mode `Interval` groups stay in memory until they are synced; more than this are synced early.
const UNSYNCED_BYTES_MAX: u64 = 32 << 20;
/// How often a journal that is closed tries to write to a disk that fails.
const CLOSING_ATTEMPTS: u32 = 3;

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Owned by the journal thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
    options: JournalOptions,
    file: Option<CurrentFile>,
    /// What is not safe yet, oldest first.
    groups: VecDeque<Group>,
    /// How many of these are written to `file`.
    written: usize,
    /// Octets of these on disk.
    written_bytes: u64,
    /// Up to where the journal is written.
    written_to: u64,
    /// Up to where it is synced.
    synced: u64,
    /// Up to where groups were taken from the appender.
    taken_to: u64,
    /// Up to where somebody waits for a sync.
    sync_wanted: u64,
    /// When the next sync is due in mode `Interval`.
    sync_due: Option<Instant>,
    /// Full files that are not synced; in mode `Os` only.
    unsynced: Vec<Box<dyn DiskFile>>,
    is_closing: bool,
    /// Failures since the last success.
    failures: u32,
}

struct CurrentFile {
    handle: Box<dyn DiskFile>,
    start: u64,
    /// Journal position up to which the file can be written; one group may go beyond.
    end_max: u64,
    /// Journal position up to which the file has its octets on the disk already.
    filled_to: u64,
    zero_step: u64,
}

impl Writer {
    /// Begins the first file.
    pub(super) fn start(shared: Arc<Shared>, options: JournalOptions, position: u64) -> io::Result<Self> {
        let mut writer = Self {
            shared,
            options,
            file: None,
            groups: VecDeque::new(),
            written: 0,
            written_bytes: 0,
            written_to: position,
            synced: position,
            taken_to: position,
            sync_wanted: 0,
            sync_due: None,
            unsynced: Vec::new(),
            is_closing: false,
            failures: 0,
        };
        writer.begin_file(position)?;
        Ok(writer)
    }

    /// Runs until the journal is closed.
    ///
    /// # Errors
    /// The last failure, if the journal was closed and could not be written.
    pub(super) fn run(mut self) -> io::Result<()> {
        let ended = loop {
            let stepped = self.step();
            match stepped {
                Ok(()) if self.is_closing => break Ok(()),
                Err(error) if self.is_closing && self.failures >= CLOSING_ATTEMPTS => break Err(error),
                Ok(()) => self.wait(),
                Err(_) => self.wait_to_retry(),
            }
        };
        if ended.is_ok() {
            self.say_that_all_is_synced();
        }
        ended
    }

    fn wait(&mut self) {
        let mut appender = self.shared.appender.lock();
        while appender.is_empty() && !appender.is_closing && appender.sync_wanted <= self.sync_wanted {
            if self.sync_due.is_none() {
                appender.shrink();
            }
            appender.writer_sleeps = true;
            match self.sync_due {
                None => self.shared.appended.wait(&mut appender),
                Some(due) => {
                    if self.shared.appended.wait_until(&mut appender, due).timed_out() {
                        break;
                    }
                }
            }
        }
        appender.writer_sleeps = false;
    }

    /// Appends do not end this: there is nothing to be done for them before the disk works.
    fn wait_to_retry(&mut self) {
        let mut appender = self.shared.appender.lock();
        let due = Instant::now() + self.options.retry;
        while Instant::now() < due && (self.is_closing || !appender.is_closing) {
            if self.shared.appended.wait_until(&mut appender, due).timed_out() {
                break;
            }
        }
    }

    /// Writes what there is, and syncs it if it is time.
    ///
    /// # Errors
    /// The disk fails. Nothing is lost: the next step tries again.
    pub(super) fn step(&mut self) -> io::Result<()> {
        self.take();
        let done = self.write_groups().and_then(|()| self.sync_if_due());
        match &done {
            Ok(()) => {
                self.failures = 0;
                self.shared.progress.note_success();
            }
            Err(error) => self.fail(error),
        }
        done
    }

    fn take(&mut self) {
        let mut appender = self.shared.appender.lock();
        appender.take(&mut self.groups);
        self.taken_to = appender.filling_position();
        self.sync_wanted = appender.sync_wanted;
        self.is_closing = appender.is_closing;
    }

    fn write_groups(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            self.begin_file(self.groups.front().map_or(self.taken_to, |group| group.position))?;
        }
        while let Some(next) = self.groups.get(self.written) {
            let (start, end) = (next.position, next.end());
            let fits = |file: &CurrentFile| end <= file.end_max || start == file.start;
            if !self.file.as_ref().is_some_and(fits) {
                self.end_file()?;
                self.begin_file(start)?;
            }
            self.write_run()?;
        }
        Ok(())
    }

    /// Writes as many groups as fit the file with one call, at least one.
    fn write_run(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut end = self.written_to;
        let mut run = 0;
        for group in self.groups.range_mut(self.written..) {
            if run > 0 && group.end() > file.end_max {
                break;
            }
            group.stamp(self.synced, self.shared.incarnation);
            end = group.end();
            run += 1;
        }
        let mut parts = Vec::with_capacity(run + run + 2);
        let groups = self.groups.range(self.written..self.written + run);
        groups.for_each(|group| group.parts(&mut parts));
        let bytes = end - self.written_to;
        write_all_at(&*file.handle, &mut parts, FILE_HEADER_BYTES + (self.written_to - file.start))?;
        if self.shared.fills_ahead.load(Ordering::Relaxed) {
            file.fill_ahead(end)?;
        }
        self.written += run;
        self.written_bytes += bytes;
        self.written_to = end;
        self.shared.written_to.store(end, Ordering::Relaxed);
        self.shared.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        match self.options.sync {
            SyncMode::Os => self.release_written(),
            SyncMode::Interval(_) => self.shared.progress.advance(self.written_to),
            SyncMode::Always => {}
        }
        Ok(())
    }

    fn sync_if_due(&mut self) -> io::Result<()> {
        if self.synced == self.written_to {
            return Ok(());
        }
        let wanted = self.is_closing || self.sync_wanted > self.synced;
        let due = match self.options.sync {
            SyncMode::Always => true,
            SyncMode::Os => wanted,
            SyncMode::Interval(interval) => {
                let now = Instant::now();
                let due = *self.sync_due.get_or_insert_with(|| now + interval);
                wanted || now >= due || self.written_bytes >= UNSYNCED_BYTES_MAX
            }
        };
        if due { self.sync() } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        for file in std::mem::take(&mut self.unsynced) {
            file.sync()?;
        }
        if let Some(file) = &self.file {
            file.handle.sync()?;
        }
        self.shared.sync_times.record(begun.elapsed());
        self.sync_due = None;
        self.synced = self.written_to;
        self.release_written();
        self.shared.progress.note_sync(self.synced);
        Ok(())
    }

    /// What is written is safe, as the mode has it.
    fn release_written(&mut self) {
        self.shared.progress.advance(self.written_to);
        let mut buffers = self.groups.drain(..self.written).filter_map(Group::into_buffer).collect();
        self.shared.appender.lock().give_back(&mut buffers);
        self.written = 0;
        self.written_bytes = 0;
    }

    /// The file is full. It is synced before another one is begun, so that only one file can be torn. Mode `Os`
    /// does not wait for the disk here either.
    fn end_file(&mut self) -> io::Result<()> {
        if self.options.sync != SyncMode::Os && self.synced < self.written_to {
            self.sync()?;
        }
        if let Some(file) = self.file.take() {
            if self.synced < self.written_to {
                self.unsynced.push(file.handle);
            }
            self.shared.files.lock().end_current(self.written_to, true);
        }
        Ok(())
    }

    fn begin_file(&mut self, start: u64) -> io::Result<()> {
        let header = FileHeader { start, synced: self.synced, incarnation: self.shared.incarnation };
        let handle = self.shared.files.lock().begin(&header)?;
        let size = handle.size()?;
        self.file = Some(CurrentFile {
            handle,
            start,
            end_max: start + self.options.file_bytes.saturating_sub(FILE_HEADER_BYTES),
            filled_to: start + size.saturating_sub(FILE_HEADER_BYTES),
            zero_step: ZERO_STEP_MIN,
        });
        self.written_to = start;
        Ok(())
    }

    /// Never trusts the file again: after a failed sync the system may call clean what it did not write.
    fn fail(&mut self, error: &io::Error) {
        self.failures += 1;
        let goes_on_at = self.groups.front().map_or(self.written_to, |group| group.position);
        self.file = None;
        self.unsynced.clear();
        self.shared.files.lock().end_current(goes_on_at, false);
        self.written = 0;
        self.written_bytes = 0;
        self.written_to = goes_on_at;
        self.shared.written_to.store(goes_on_at, Ordering::Relaxed);
        self.sync_due = None;
        self.shared.progress.note_failure(error);
    }

    /// So that damage to the last group of a journal that was closed is not taken for a torn write. Should this
    /// fail, nothing is lost but that.
    fn say_that_all_is_synced(&mut self) {
        if self.file.as_ref().is_none_or(|file| file.start == self.written_to) {
            return;
        }
        self.groups.push_back(Group::empty(self.written_to));
        if let Err(error) = self.write_groups().and_then(|()| self.sync()) {
            tracing::warn!(%error, "the journal could not note that it was closed");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.progress.note_failure(&io::Error::other("the journal's thread panicked"));
        }
        self.shared.progress.note_end();
    }
}

impl CurrentFile {
    /// Fills the file with zeros for a while beyond `end`, where the journal is written to.
    fn fill_ahead(&mut self, end: u64) -> io::Result<()> {
        if end <= self.filled_to {
            return Ok(());
        }
        let fill_to = end.saturating_add(self.zero_step).min(self.end_max).max(end);
        let mut parts = Vec::new();
        let mut left = (fill_to - end) as usize;
        while left > 0 {
            let part = left.min(ZEROS.len());
            parts.push(IoSlice::new(ZEROS.split_at(part).0));
            left -= part;
        }
        match write_all_at(&*self.handle, &mut parts, FILE_HEADER_BYTES + (end - self.start)) {
            Ok(()) => {
                self.filled_to = fill_to;
                self.zero_step = (2 * self.zero_step).min(ZERO_STEP_MAX);
                Ok(())
            }
            // What has to be written fitted: no reason to stop yet.
            Err(error) if is_out_of_space(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
