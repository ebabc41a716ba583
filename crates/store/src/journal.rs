//! The journal: one log that all queues share, of everything that must survive, in the order in which it happened.
//! Whoever appends waits for nothing; the journal's thread writes what has gathered, syncs once for all of it,
//! and then says up to where everything is safe. It is read at recovery only, see [`replay()`].
//!
//! ```text
//! append ──▶ group being filled ──▶ full groups ──▶ journal thread: write, sync ──▶ safe position, listeners
//! (any thread, one lock)                             files: current, full ──retire_below──▶ spare
//! ```
//!
//! What a record means is its caller's business. Positions count octets since the journal's beginning.

mod files;
mod format;
mod group;
mod progress;
mod replay;
mod writer;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use leveret_broker::histogram::{Histogram, HistogramSnapshot};
use leveret_broker::store::{JournalPosition, Journaled};
use parking_lot::{Condvar, Mutex};

pub use format::VERSION;
pub use progress::{HealthListener, JournalFailure, SafeListener};
pub use replay::{Damage, DamagedRecord, Record, ReplayEnd, ReplayError, Replayed, replay};

use crate::disk::Disk;
use files::Files;
use format::RecordHeader;
use group::{Appender, NewRecord};
use progress::Progress;
use writer::Writer;

/// When what was appended counts as safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// When it is synced; and it is synced at once.
    Always,
    /// When the system has it; and it is synced at most this long after: so much a power loss may take.
    Interval(Duration),
    /// When the system has it: it survives the end of the process, not of the machine.
    Os,
}

/// How a journal is kept.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// Where its files are; made if it is missing.
    pub dir: PathBuf,
    /// Octets of a file, header included. A single record that is longer gets a file of its own.
    pub file_bytes: u64,
    /// When what was appended counts as safe.
    pub sync: SyncMode,
    /// Retired files that are kept to be written again, which is cheaper than to make new ones.
    pub spare_files: usize,
    /// How long after a failure the disk is tried again.
    pub retry: Duration,
}

impl JournalOptions {
    /// Files of 64 MiB, four spare ones, synced always, tried again after a second.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            file_bytes: 64 << 20,
            sync: SyncMode::Always,
            spare_files: 4,
            retry: Duration::from_secs(1),
        }
    }
}

/// What a journal has done since it was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalStats {
    /// Syncs of data that succeeded.
    pub syncs: u64,
    /// How long each of them took.
    pub sync_times: HistogramSnapshot,
    /// Octets written, headers and padding included, octets written once more after a failure too; not what only
    /// fills files.
    pub written_bytes: u64,
}

/// A journal that is open. All methods can be called from any thread.
pub struct Journal {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<io::Result<()>>>>,
    /// Does the thread's work where a test takes its steps.
    #[cfg(test)]
    stepped: Mutex<Option<Writer>>,
}

/// What the journal's thread and everybody else share.
struct Shared {
    incarnation: u64,
    appender: Mutex<Appender>,
    /// Wakes the journal's thread.
    appended: Condvar,
    /// End of the last record.
    appended_to: AtomicU64,
    /// Up to where it is written.
    written_to: AtomicU64,
    progress: Progress,
    files: Mutex<Files>,
    /// Whether files are filled with zeros before they are written.
    fills_ahead: AtomicBool,
    sync_times: Histogram,
    written_bytes: AtomicU64,
}

impl Shared {
    fn new(disk: Arc<dyn Disk>, options: &JournalOptions, replayed: &ReplayEnd) -> io::Result<Arc<Self>> {
        let files = Files::take_over(disk, options, replayed)?;
        let position = replayed.position.0;
        let incarnation = RandomState::new().hash_one(position);
        Ok(Arc::new(Self {
            incarnation,
            appender: Mutex::new(Appender::new(position, options.file_bytes, incarnation)),
            appended: Condvar::new(),
            appended_to: AtomicU64::new(position),
            written_to: AtomicU64::new(position),
            progress: Progress::new(position),
            files: Mutex::new(files),
            fills_ahead: AtomicBool::new(true),
            sync_times: Histogram::default(),
            written_bytes: AtomicU64::new(0),
        }))
    }

    fn append(&self, kind: u8, queue: u64, head: &[&[u8]], bodies: &[Bytes]) -> Journaled {
        let mut length = 0;
        let mut payload_check = 0;
        for part in head.iter().copied().chain(bodies.iter().map(|body| &**body)) {
            length += part.len();
            payload_check = crc32c::crc32c_append(payload_check, part);
        }
        // INVARIANT: a message and a batch of them are far below this by the broker's own limits.
        let length = u32::try_from(length).expect("a record has less than 4 GiB");
        let record = NewRecord { header: RecordHeader { length, kind, payload_check, queue }, head, bodies };
        let mut appender = self.appender.lock();
        let (begins_at, safe_at) = appender.append(&record);
        self.appended_to.store(safe_at, Ordering::Relaxed);
        let wakes = std::mem::take(&mut appender.writer_sleeps);
        drop(appender);
        if wakes {
            self.appended.notify_one();
        }
        Journaled { begins_at: JournalPosition(begins_at), safe_at: JournalPosition(safe_at) }
    }

    /// Wakes the journal's thread for something that is no record.
    fn ask(&self, question: impl FnOnce(&mut Appender)) {
        let mut appender = self.appender.lock();
        question(&mut appender);
        appender.writer_sleeps = false;
        drop(appender);
        self.appended.notify_one();
    }
}

impl Journal {
    /// Goes on with the journal in `options.dir` where [`replay()`] found its end; [`ReplayEnd::default`] begins a
    /// new one. What recovery found is made safe, what did not count is removed, and a new file begun.
    ///
    /// # Errors
    /// The disk or the system refuses.
    pub fn start(disk: Arc<dyn Disk>, options: JournalOptions, replayed: &ReplayEnd) -> io::Result<Self> {
        let shared = Shared::new(disk, &options, replayed)?;
        let writer = Writer::start(Arc::clone(&shared), options, replayed.position.0)?;
        let thread = thread::Builder::new().name("journal".to_owned()).spawn(move || writer.run())?;
        let thread = Mutex::new(Some(thread));
        Ok(Self {
            shared,
            thread,
            #[cfg(test)]
            stepped: Mutex::default(),
        })
    }

    /// Appends a record: what it is, of which queue (0 if of none), and its payload in pieces. Pieces of `head` are
    /// copied, and of `bodies` those that are small. Never waits for the disk.
    ///
    /// # Panics
    /// The payload has 4 GiB or more.
    pub fn append(&self, kind: u8, queue: u64, head: &[&[u8]], bodies: &[Bytes]) -> Journaled {
        self.shared.append(kind, queue, head, bodies)
    }

    /// Up to where everything is safe.
    #[must_use]
    pub fn safe(&self) -> JournalPosition {
        JournalPosition(self.shared.progress.safe())
    }

    /// Calls `listener` once when `position` is safe: at once if it is, else on the journal's thread, which must not
    /// be kept long.
    pub fn when_safe(&self, position: JournalPosition, listener: SafeListener) {
        self.shared.progress.when_safe(position, listener);
    }

    /// End of what was appended. Later records begin here or above.
    #[must_use]
    pub fn end(&self) -> JournalPosition {
        JournalPosition(self.shared.appended_to.load(Ordering::Relaxed))
    }

    /// Begin of the oldest file that is kept.
    #[must_use]
    pub fn begins_at(&self) -> JournalPosition {
        let begins_at = self.shared.files.lock().begins_at();
        begins_at.map_or(self.end(), JournalPosition)
    }

    /// Whether files are filled with zeros ahead of what is written, which makes syncs cheaper and takes room.
    pub fn fill_ahead(&self, fills: bool) {
        self.shared.fills_ahead.store(fills, Ordering::Relaxed);
    }

    /// Begin and end of files that are full and kept, oldest first. The end of each is the begin of the next. In mode
    /// [`SyncMode::Os`] these are not safe from power loss before the next [`Journal::sync`].
    #[must_use]
    pub fn sealed(&self) -> Vec<(JournalPosition, JournalPosition)> {
        let full = self.shared.files.lock().full();
        full.into_iter().map(|(start, end)| (JournalPosition(start), JournalPosition(end))).collect()
    }

    /// The journal below `position` is needed no more, and that is safe: files wholly below become spare ones, or go.
    ///
    /// # Errors
    /// The system refuses; what could not be retired will be with the next call.
    pub fn retire_below(&self, position: JournalPosition) -> io::Result<()> {
        self.shared.files.lock().retire_below(position.0)
    }

    /// Makes everything appended so far survive a power loss, in whatever mode, and waits for that. A checkpoint in
    /// mode [`SyncMode::Os`] needs it before it says from where on the journal is to be replayed.
    ///
    /// # Errors
    /// The disk fails, or the journal has been closed.
    pub fn sync(&self) -> io::Result<()> {
        let end = self.end().0;
        if self.shared.progress.synced() < end {
            self.shared.ask(|appender| appender.sync_wanted = appender.sync_wanted.max(end));
        }
        #[cfg(test)]
        if let Some(writer) = &mut *self.stepped.lock() {
            return writer.step();
        }
        self.shared.progress.wait_for_sync(end)
    }

    /// Up to where everything survives a power loss, whatever the mode.
    #[must_use]
    pub fn synced(&self) -> JournalPosition {
        JournalPosition(self.shared.progress.synced())
    }

    /// Octets appended and not yet written, which are held in memory.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        let written_to = self.shared.written_to.load(Ordering::Relaxed);
        self.end().0.saturating_sub(written_to) as usize
    }

    /// Whether the disk works.
    ///
    /// # Errors
    /// Why nothing becomes safe at the moment.
    pub fn health(&self) -> Result<(), JournalFailure> {
        self.shared.progress.health()
    }

    /// Calls `listener` whenever the journal fails or works again, on the journal's thread. There is one listener;
    /// another one takes its place.
    pub fn when_health_changes(&self, listener: HealthListener) {
        self.shared.progress.on_health_change(listener);
    }

    /// What it has done.
    #[must_use]
    pub fn stats(&self) -> JournalStats {
        let sync_times = self.shared.sync_times.snapshot();
        JournalStats {
            syncs: sync_times.count(),
            sync_times,
            written_bytes: self.shared.written_bytes.load(Ordering::Relaxed),
        }
    }

    /// Writes and syncs what was appended, in whatever mode, and ends the journal's thread. What is appended later
    /// is never safe. Called again it does nothing. Must not be called by a listener.
    ///
    /// # Errors
    /// The disk failed three times in a row: what is above [`Journal::safe`] may be lost.
    pub fn close(&self) -> io::Result<()> {
        #[cfg(test)]
        if let Some(writer) = self.stepped.lock().take() {
            self.shared.ask(|appender| appender.is_closing = true);
            return writer.run();
        }
        let Some(thread) = self.thread.lock().take() else { return Ok(()) };
        self.shared.ask(|appender| appender.is_closing = true);
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the journal's thread panicked")))
    }
}

#[cfg(test)]
impl Journal {
    /// As [`Journal::start`], but without a thread, so that what happens is the same each time: the test calls
    /// [`Journal::step`].
    pub(crate) fn start_stepped(
        disk: Arc<dyn Disk>,
        options: JournalOptions,
        replayed: &ReplayEnd,
    ) -> io::Result<Self> {
        let shared = Shared::new(disk, &options, replayed)?;
        let writer = Writer::start(Arc::clone(&shared), options, replayed.position.0)?;
        Ok(Self { shared, thread: Mutex::default(), stepped: Mutex::new(Some(writer)) })
    }

    /// Writes and syncs what was appended.
    pub(crate) fn step(&self) -> io::Result<()> {
        self.stepped.lock().as_mut().map_or(Ok(()), Writer::step)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "the end of the journal could not be written");
        }
    }
}

#[cfg(test)]
mod tests;
