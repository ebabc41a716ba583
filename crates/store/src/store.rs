//! The store as the broker sees it: hands what happens to the journal, and keeps what the keeper and the loaders need
//! to know. Opening it recovers what the data directory holds.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use leveret_broker::definition::Definition;
use leveret_broker::names::QueueId;
use leveret_broker::queue::quorum::Returns;
use leveret_broker::store::{Block, BlockError, BlockLocation, JournalPosition, Journaled, Store};
use leveret_broker::{Broker, MessageBatch, Queue};
use parking_lot::Mutex;
use tracing::{error, warn};

use crate::catalog::{
    CATALOG_NAME, Catalog, CatalogError, Opened, RestoredFrom, SNAPSHOT_NAME, open_or_restore, read_snapshot,
    write_snapshot,
};
use crate::definitions::change_of;
use crate::disk::{Disk, SystemDisk};
use crate::entries::{self, BlockEntry, Change, Contents, EntryList, SNAPSHOT_FROM, StoppedEntry};
use crate::journal::{Journal, JournalOptions, JournalStats, ReplayEnd, SyncMode};
use crate::keeper::{Keeper, Pending, Requests, SnapshotState};
use crate::loader::Loaders;
use crate::lock::{DataDirLock, LockError};
use crate::marks::Marks;
use crate::records::{self, DEFINE, PUBLISH, RETURN, SETTLE, SHARE};
use crate::recovery::{self, Recovered, RecoveryError};
use crate::reindex::{Found, Reindexed, reindex};
use crate::reserve::{Reserve, is_full};
use crate::segments::{self, SegmentOptions, Segments};

/// Octets that may wait to be written before publishers are to wait.
pub const WAITING_BYTES_MAX: usize = 8 << 20;

/// How a store is kept.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Where everything is.
    pub data_dir: PathBuf,
    /// When a confirm is due.
    pub sync: SyncMode,
    /// Octets of journal that are kept before the oldest of it moves to blocks.
    pub journal_bytes_max: u64,
    /// Octets of a file of blocks.
    pub segment_bytes: u64,
    /// Octets of disk kept for when there is no room: at least twice [`WAITING_BYTES_MAX`], so that what publishers
    /// have sent before they are stopped can be written.
    pub reserve_bytes: usize,
}

impl StoreOptions {
    pub(crate) fn segments(&self) -> SegmentOptions {
        let dir = Layout::segments(&self.data_dir);
        SegmentOptions { file_bytes: self.segment_bytes, ..SegmentOptions::new(dir) }
    }
}

/// Folders and files in the data directory.
pub(crate) struct Layout;

impl Layout {
    pub(crate) fn journal(data_dir: &Path) -> PathBuf {
        data_dir.join("journal")
    }

    pub(crate) fn segments(data_dir: &Path) -> PathBuf {
        data_dir.join("blocks")
    }

    pub(crate) fn marks(data_dir: &Path) -> PathBuf {
        data_dir.join("delivered")
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be used.
    #[error("cannot use the data directory {path}: {error}")]
    DataDir {
        /// The directory.
        path: String,
        /// The system's reason.
        error: io::Error,
    },
    /// Another broker has it.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The catalog cannot be read.
    #[error("cannot read the catalog: {0}")]
    Catalog(#[from] CatalogError),
    /// What is there cannot be recovered.
    #[error("cannot recover: {0}")]
    Recovery(#[from] RecoveryError),
    /// A thread or file cannot be made.
    #[error("cannot start the store: {0}")]
    Start(io::Error),
}

/// Something that keeps publishers from being served.
pub type PressureListener = Box<dyn Fn(bool) + Send + Sync>;

/// Keeps a broker's messages and definitions in a data directory.
pub struct DurableStore {
    pub(crate) options: StoreOptions,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) journal: Journal,
    pub(crate) segments: Segments,
    pub(crate) catalog: Mutex<Box<dyn Catalog>>,
    pub(crate) requests: Requests,
    /// Locked alone, for a moment.
    pub(crate) pending: Mutex<Pending>,
    pub(crate) marks: Marks,
    loaders: Loaders,
    keeper: Mutex<Option<JoinHandle<()>>>,
    /// From where on recovery needed the journal. What the directory still has below, it may have in parts only: files
    /// are retired without a sync.
    replayed_from: JournalPosition,
    /// Queues that are stopped until their blocks are back, or deleted.
    lacking_blocks: HashSet<QueueId>,
    /// From where on the snapshot needed the journal then.
    snapshot_from: JournalPosition,
    /// A checkpoint is due when the journal reaches this.
    checkpoint_at: AtomicU64,
    /// Below, a checkpoint makes the journal unnecessary, or has done so. Set before it looks at queues: a publish
    /// that comes to its queue later sees it.
    pub(crate) retiring_below: AtomicU64,
    pressure: Arc<Pressure>,
    /// The reserve was given up.
    pub(crate) room: Pressure,
    _lock: Option<DataDirLock>,
}

/// A reason for publishers to wait, which holds or not, and who is told.
#[derive(Default)]
pub(crate) struct Pressure {
    is_on: AtomicBool,
    /// Locked over a change and the call that tells of it: else of two changes the first may be told last, and
    /// publishers wait for what is over.
    listener: Mutex<Option<PressureListener>>,
}

impl Pressure {
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, on: bool) {
        let listener = self.listener.lock();
        if self.is_on.swap(on, Ordering::AcqRel) != on
            && let Some(listener) = &*listener
        {
            listener(on);
        }
    }

    /// Tells `listener` of changes, and at once if the reason holds already.
    fn tell(&self, listener: PressureListener) {
        let mut place = self.listener.lock();
        if self.is_on() {
            listener(true);
        }
        *place = Some(listener);
    }
}

/// What is needed beside the options, for tests to put their own in place.
pub(crate) struct Parts {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) catalog: Box<dyn Catalog>,
    pub(crate) entries: EntryList,
    pub(crate) lock: Option<DataDirLock>,
    pub(crate) loaders: Loaders,
    pub(crate) start_journal: StartJournal,
}

/// How the journal is started: with its thread, or for a test that takes the thread's steps.
pub(crate) type StartJournal = fn(Arc<dyn Disk>, JournalOptions, &ReplayEnd) -> io::Result<Journal>;

impl DurableStore {
    /// Opens the store in a data directory, which is made if it is missing, and recovers what it holds.
    ///
    /// # Errors
    /// The directory cannot be used, another broker uses it, or what it holds cannot be recovered. Then nothing in
    /// it was changed.
    pub fn open(options: StoreOptions) -> Result<(Arc<Self>, Recovered), OpenError> {
        let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
        let data_dir = &options.data_dir;
        let in_dir = |error| OpenError::DataDir { path: data_dir.display().to_string(), error };
        disk.create_dir(data_dir).map_err(in_dir)?;
        let lock = DataDirLock::acquire(data_dir)?;
        refuse_without_catalog(&*disk, data_dir)?;
        let mut reindexed = None;
        let mut open = || {
            open_or_restore(&*disk, data_dir, &mut |snapshot| {
                let (entries, found) = reindex(&disk, &options.segments(), data_dir, snapshot)?;
                reindexed = Some(found);
                Ok(entries)
            })
        };
        let opened = open().or_else(|error| match error {
            // On a full disk: the catalog needs a little room to be opened.
            CatalogError::Io(no_room)
                if is_full(&no_room) && Reserve::of(Arc::clone(&disk), &options).give_up() =>
            {
                open()
            }
            error => Err(error),
        })?;
        let Opened { catalog, entries, restored } = opened;
        if let Some(restored) = &restored {
            log_restored(restored);
        }
        let parts = Parts {
            disk,
            catalog: Box::new(catalog),
            entries,
            lock: Some(lock),
            loaders: Loaders::start().map_err(OpenError::Start)?,
            start_journal: Journal::start,
        };
        let (store, recovered) = Self::open_parts(options, parts)?;
        if let Some(reindexed) = reindexed {
            log_reindexed(&reindexed, &recovered.definitions);
        }
        Ok((store, recovered))
    }

    /// Recovers what the parts hold and begins a new journal file.
    pub(crate) fn open_parts(
        options: StoreOptions,
        parts: Parts,
    ) -> Result<(Arc<Self>, Recovered), OpenError> {
        let Parts { disk, catalog, entries, lock, loaders, start_journal } = parts;
        let data_dir = options.data_dir.clone();
        let in_dir = |error| OpenError::DataDir { path: data_dir.display().to_string(), error };
        let entries = entries.into_iter().collect();
        let (marks, marked) = Marks::open(Arc::clone(&disk), &Layout::marks(&data_dir)).map_err(in_dir)?;
        let journal_dir = Layout::journal(&data_dir);
        disk.create_dir(&journal_dir).map_err(in_dir)?;
        let (mut recovered, replay) = recovery::recover(&*disk, &journal_dir, entries, &marked)?;
        QueueId(replay.next_queue_id).take_up_to();
        let segments = Segments::open(Arc::clone(&disk), options.segments()).map_err(in_dir)?;
        let forgotten = recovery::adopt_blocks(&mut recovered, &segments);
        replay.live_bytes.iter().for_each(|(location, live_bytes)| segments.shrink(*location, *live_bytes));
        let gone =
            marked.keys().map(|&queue| QueueId(queue)).filter(|queue| !recovered.queues.contains_key(queue));
        gone.for_each(|queue| marks.forget(queue));
        segments.remove_unknown().map_err(in_dir)?;
        let snapshot_from = renew_snapshot(&*disk, &data_dir, &*catalog, replay.from);
        let file_bytes = (options.journal_bytes_max / 4).clamp(1 << 20, 64 << 20);
        let journal_options =
            JournalOptions { file_bytes, sync: options.sync, ..JournalOptions::new(journal_dir) };
        let journal =
            start_journal(Arc::clone(&disk), journal_options, &replay.end).map_err(OpenError::Start)?;
        let mut pending = Pending::default();
        pending.definitions = replay.changes;
        pending.forgotten = forgotten;
        let store = Arc::new(Self {
            disk,
            journal,
            segments,
            catalog: Mutex::new(catalog),
            requests: Requests::default(),
            pending: Mutex::new(pending),
            marks,
            loaders,
            keeper: Mutex::new(None),
            replayed_from: replay.from,
            lacking_blocks: recovery::lacking_blocks(&recovered),
            snapshot_from,
            checkpoint_at: AtomicU64::new(u64::MAX),
            retiring_below: AtomicU64::new(0),
            pressure: Arc::default(),
            room: Pressure::default(),
            _lock: lock,
            options,
        });
        store.arm_checkpoint();
        Ok((store, recovered))
    }

    /// Begins to keep `broker` within its limits: messages leave memory, the journal is kept short.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn run(self: &Arc<Self>, broker: Arc<Broker>) -> io::Result<()> {
        let keeper = self.keeper(broker);
        let thread = thread::Builder::new().name("keeper".to_owned()).spawn(move || keeper.run())?;
        *self.keeper.lock() = Some(thread);
        Ok(())
    }

    pub(crate) fn keeper(self: &Arc<Self>, broker: Arc<Broker>) -> Keeper {
        self.note_stopped(&broker);
        let reserve = Reserve::of(Arc::clone(&self.disk), &self.options);
        let replay_from = self.replayed_from;
        let snapshot = SnapshotState::found(self.snapshot_from);
        Keeper { store: Arc::clone(self), broker, replay_from, reserve, snapshot, failing: BTreeSet::new() }
    }

    /// Has the catalog remember which queues recovery has stopped: what it did that for goes with the journal.
    fn note_stopped(&self, broker: &Broker) {
        let stopped = broker.queues().into_iter().filter_map(|queue| queue.stopped().zip(Some(queue)));
        let is_lacking =
            |queue: &Queue| queue.spec.level_ids(queue.id).any(|level| self.lacking_blocks.contains(&level));
        let for_good = stopped.filter(|(_, queue)| !is_lacking(queue));
        let entries = for_good.map(|(reason, queue)| StoppedEntry { queue: queue.id, reason }.put());
        self.pending.lock().forgotten.extend(entries);
    }

    /// Ends the store: everything is moved out of the journal and synced, so that the next start is quick. Waits
    /// for the disk.
    ///
    /// # Errors
    /// The disk failed: what was safe is safe, but not what came later.
    pub fn close(&self) -> io::Result<()> {
        self.loaders.stop();
        self.requests.stop();
        if let Some(keeper) = self.keeper.lock().take()
            && keeper.join().is_err()
        {
            error!("the keeper failed; what it leaves undone is in the journal");
        }
        self.marks.sync()?;
        self.journal.close()
    }

    /// Calls `listener` when publishers should wait since more was appended than the disk has taken, and when they
    /// may go on. It is called with locks held and must not wait.
    pub fn when_pressed(&self, listener: PressureListener) {
        self.pressure.tell(listener);
    }

    /// Calls `listener` when publishers should wait since there is no room but what was kept in reserve, and when there
    /// is a reserve again. It must not wait.
    pub fn when_out_of_room(&self, listener: PressureListener) {
        self.room.tell(listener);
    }

    /// Calls `listener` when the journal's disk fails, with why, and when it works again.
    pub fn when_health_changes(self: &Arc<Self>, listener: crate::journal::HealthListener) {
        let store = Arc::downgrade(self);
        self.journal.when_health_changes(Box::new(move |health| {
            // The keeper looks what room can be given back.
            store.upgrade().into_iter().for_each(|store| store.requests.changed());
            listener(health);
        }));
    }

    /// What the journal has done since the start.
    #[must_use]
    pub fn journal_stats(&self) -> JournalStats {
        self.journal.stats()
    }

    /// Octets that were appended to the journal and are not written yet.
    #[must_use]
    pub fn journal_waiting_bytes(&self) -> usize {
        self.journal.waiting_bytes()
    }

    /// Sets from when on the next checkpoint is due; whether the journal is there already.
    pub(crate) fn arm_checkpoint(&self) -> bool {
        let at = self.journal.begins_at().0.saturating_add(self.options.journal_bytes_max / 4 * 3);
        self.checkpoint_at.store(at, Ordering::Relaxed);
        self.journal.end().0 >= at
    }

    fn append(&self, kind: u8, queue: u64, head: &[&[u8]], bodies: &[Bytes]) -> Journaled {
        let journaled = self.journal.append(kind, queue, head, bodies);
        if journaled.safe_at.0 >= self.checkpoint_at.load(Ordering::Relaxed) {
            self.checkpoint_at.store(u64::MAX, Ordering::Relaxed);
            self.requests.checkpoint();
        }
        if self.journal.waiting_bytes() > WAITING_BYTES_MAX && !self.pressure.is_on.load(Ordering::Relaxed) {
            self.pressure.set(true);
            let pressure = Arc::clone(&self.pressure);
            self.journal.when_safe(journaled.safe_at, Box::new(move || pressure.set(false)));
        }
        journaled
    }

    fn forget(&self, change: Change) {
        self.pending.lock().forgotten.push(change);
        self.requests.changed();
    }
}

/// Where neither database nor snapshot are and yet messages, a new catalog would be the end of these.
fn refuse_without_catalog(disk: &dyn Disk, data_dir: &Path) -> Result<(), CatalogError> {
    if [CATALOG_NAME, SNAPSHOT_NAME].iter().any(|name| data_dir.join(name).exists()) {
        return Ok(());
    }
    let blocks = segments::durable_files(disk, &Layout::segments(data_dir)).unwrap_or_default();
    let journal = disk.list(&Layout::journal(data_dir)).unwrap_or_default();
    if blocks.is_empty() && journal.is_empty() {
        return Ok(());
    }
    Err(CatalogError::Damaged(format!(
        "there are {} files of messages, but neither {CATALOG_NAME} nor {SNAPSHOT_NAME}, which say whose they are",
        blocks.len() + journal.len()
    )))
}

/// Sees to it that the snapshot needs the journal from nowhere else than the catalog, after an end between a checkpoint
/// and its snapshot. From where on it does.
fn renew_snapshot(
    disk: &dyn Disk,
    data_dir: &Path,
    catalog: &dyn Catalog,
    replay_from: JournalPosition,
) -> JournalPosition {
    let found = read_snapshot(disk, data_dir).map(|entries| {
        entries.map_or(JournalPosition::SAFE, |entries| Contents::of(entries).meta.replay_from)
    });
    let found = match found {
        Ok(found) if found == replay_from => return found,
        Ok(found) => found,
        Err(error) => {
            warn!(%error, "the catalog's snapshot is written anew");
            JournalPosition::SAFE
        }
    };
    let written =
        catalog.entries_from(SNAPSHOT_FROM).and_then(|entries| Ok(write_snapshot(disk, data_dir, &entries)?));
    match written {
        Ok(()) => replay_from,
        Err(error) => {
            warn!(%error, "the catalog's snapshot cannot be written; the next checkpoint tries again");
            found
        }
    }
}

fn log_restored(RestoredFrom { damage, set_aside }: &RestoredFrom) {
    let set_aside = set_aside.as_ref().map(|path| path.display().to_string());
    error!(%damage, ?set_aside, "the catalog was damaged and was made anew from its snapshot and the journal");
}

/// Says what came back of which nobody knows whether it was settled.
fn log_reindexed(reindexed: &Reindexed, definitions: &[Definition]) {
    for text in &reindexed.damage {
        error!("while blocks were looked for: {text}");
    }
    let mut queues = 0;
    let mut all = 0;
    for definition in definitions {
        let Definition::PutQueue(id, spec) = definition else { continue };
        let Some(found) = reindexed.queues.get(id) else { continue };
        let (queue, vhost, messages, blocks) = (&spec.name, &spec.vhost, found.messages, found.blocks);
        error!(%queue, %vhost, messages, blocks, "these messages came back, be they settled or not");
        queues += 1;
        all += messages;
    }
    for (id, Found { blocks, messages }) in &reindexed.unclaimed {
        error!(
            queue_id = id.0,
            messages, blocks, "messages of a queue that is defined nowhere: their files are kept"
        );
    }
    error!(
        queues,
        messages = all,
        "what was settled is not known for blocks; all in them is marked redelivered"
    );
}

impl Store for DurableStore {
    fn share(&self, messages: &MessageBatch) -> JournalPosition {
        let stored = messages.stored();
        let bodies: Vec<Bytes> = stored.bodies().cloned().collect();
        self.append(SHARE, 0, &stored.small_parts(), &bodies).begins_at
    }

    fn publish(&self, queue: QueueId, first_position: u64, batch: &MessageBatch) -> Journaled {
        let (shared_at, shared) = batch.shared();
        // Shared before a checkpoint that could not know of this queue, it is not kept: then it is written once more.
        let is_kept = shared_at.0 >= self.retiring_below.load(Ordering::Acquire);
        let (own, shared) = if is_kept { (batch.own(), shared) } else { (None, Default::default()) };
        let stored = own.as_ref().unwrap_or(batch).stored();
        let head = records::publish_head(first_position, shared_at, shared);
        let [counts, messages] = stored.small_parts();
        let bodies: Vec<Bytes> = stored.bodies().cloned().collect();
        let journaled = self.append(PUBLISH, queue.0, &[&head, counts, messages], &bodies);
        let begins_at =
            if shared.is_empty() { journaled.begins_at } else { journaled.begins_at.min(shared_at) };
        Journaled { begins_at, ..journaled }
    }

    fn settle(&self, queue: QueueId, positions: &[Range<u64>]) -> JournalPosition {
        self.append(SETTLE, queue.0, &[&records::settle_payload(positions)], &[]).safe_at
    }

    fn returned(&self, queue: QueueId, returns: &[(u64, Returns)]) {
        self.append(RETURN, queue.0, &[&records::return_payload(returns)], &[]);
    }

    fn define(&self, changes: Vec<Definition>) -> JournalPosition {
        let changes: Vec<Change> = changes.iter().map(change_of).collect();
        let payload = entries::encode_changes(&changes);
        // Locked over both, so that the catalog learns of changes in the journal's order.
        let mut pending = self.pending.lock();
        let safe_at = self.append(DEFINE, 0, &[&payload], &[]).safe_at;
        pending.definitions.extend(changes);
        drop(pending);
        self.requests.changed();
        safe_at
    }

    fn delivering(&self, queue: QueueId, position: u64) {
        self.marks.set(queue, position);
    }

    fn safe(&self) -> JournalPosition {
        self.journal.safe()
    }

    fn when_safe(&self, position: JournalPosition, listener: Box<dyn FnOnce() + Send>) {
        self.journal.when_safe(position, listener);
    }

    fn write_block(&self, block: &Block<'_>) -> io::Result<BlockLocation> {
        self.segments.write(block)
    }

    fn read_block(
        &self,
        location: BlockLocation,
        queue: QueueId,
        first_position: u64,
    ) -> Result<Bytes, BlockError> {
        self.segments.read(location, queue, first_position)
    }

    fn free_block(&self, location: BlockLocation) {
        self.segments.free(location);
        // Of a temporary block nobody else says that its file may have to go.
        self.requests.changed();
    }

    fn forget_block(&self, queue: QueueId, first_position: u64) {
        self.forget(BlockEntry::delete(queue, first_position));
    }

    fn forget_queue(&self, queue: QueueId) {
        self.pending.lock().deleted.push(queue);
        self.forget(StoppedEntry::delete(queue));
    }

    fn request_load(&self, queue: Arc<Queue>) {
        self.loaders.load(queue);
    }

    fn request_page_out(&self) {
        self.requests.page_out();
    }
}

#[cfg(test)]
mod tests;
