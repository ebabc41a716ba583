//! The keeper: one thread that does what has to wait for the disk and that nobody waits for. It moves messages out of
//! memory, makes old parts of the journal unnecessary (checkpoints), and writes blocks together that are left over in
//! files of which little is needed any more.
//!
//! It sleeps until somebody asks, or until changes have waited long enough for a checkpoint of their own.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use leveret_broker::names::QueueId;
use leveret_broker::store::{BlockLocation, BlockState, JournalPosition};
use leveret_broker::{Broker, Queue};
use parking_lot::{Condvar, Mutex};
use tracing::{debug, error, info};

use crate::catalog::{CatalogError, write_snapshot};
use crate::entries::{BlockEntry, Change, Meta, SNAPSHOT_FROM};
use crate::reserve::{Reserve, is_full};
use crate::store::DurableStore;

/// Changes that no full journal brings into the catalog get there after this long, so that files which are needed
/// no more are given back.
const SETTLING: Duration = Duration::from_secs(2);

/// How long after a failure the disk is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How long messages are left alone after a look at all of them that found too few that can leave memory.
const REST: Duration = Duration::from_millis(100);

/// How long changes of definitions may be missing in the snapshot. Those that the journal is about to lose are
/// put there before, whatever the time.
const SNAPSHOT_EACH: Duration = Duration::from_secs(10);

/// Changes committed to the catalog together: it keeps what a commit replaces in memory until that is done.
const CHANGES_AT_ONCE: usize = 1000;

/// Messages leave memory until this share of what they may take is used, so that it is not one chunk at a time.
const PAGE_OUT_SHARE: (usize, usize) = (7, 8);

/// What the keeper is asked for.
#[derive(Default)]
pub(crate) struct Requests {
    state: Mutex<Asked>,
    asked: Condvar,
}

#[derive(Default)]
struct Asked {
    page_out: bool,
    checkpoint: bool,
    /// Since when there are changes for the catalog.
    changed: Option<Instant>,
    stop: bool,
}

impl Requests {
    /// Messages take too much memory.
    pub(crate) fn page_out(&self) {
        let mut state = self.state.lock();
        if !state.page_out {
            state.page_out = true;
            self.asked.notify_one();
        }
    }

    /// The journal has grown enough.
    pub(crate) fn checkpoint(&self) {
        self.state.lock().checkpoint = true;
        self.asked.notify_one();
    }

    /// There are changes that a checkpoint is to bring into the catalog some time.
    pub(crate) fn changed(&self) {
        let mut state = self.state.lock();
        if state.changed.is_none() {
            state.changed = Some(Instant::now());
            self.asked.notify_one();
        }
    }

    /// The keeper is to do its last work and end.
    pub(crate) fn stop(&self) {
        self.state.lock().stop = true;
        self.asked.notify_one();
    }

    fn wait(&self) -> Task {
        let mut state = self.state.lock();
        loop {
            if state.stop {
                return Task::Stop;
            }
            if std::mem::take(&mut state.page_out) {
                return Task::PageOut;
            }
            if std::mem::take(&mut state.checkpoint) {
                return Task::Checkpoint;
            }
            match state.changed {
                None => self.asked.wait(&mut state),
                Some(changed) if changed.elapsed() >= SETTLING => {
                    state.changed = None;
                    return Task::Settle;
                }
                Some(changed) => _ = self.asked.wait_until(&mut state, changed + SETTLING),
            }
        }
    }

    /// Sleeps after a failure; `true` if the keeper is to stop.
    fn pause(&self) -> bool {
        self.sleep(RETRY)
    }

    /// Sleeps after work that had little effect.
    fn rest(&self) {
        self.sleep(REST);
    }

    fn sleep(&self, duration: Duration) -> bool {
        let mut state = self.state.lock();
        let until = Instant::now() + duration;
        while !state.stop && !self.asked.wait_until(&mut state, until).timed_out() {}
        state.stop
    }
}

enum Task {
    PageOut,
    Checkpoint,
    Settle,
    Stop,
}

/// Changes on their way to the catalog.
#[derive(Default)]
pub(crate) struct Pending {
    /// Definitions, in the order in which the journal has them.
    pub(crate) definitions: Vec<Change>,
    /// Blocks that are there no more, and queues that were stopped.
    pub(crate) forgotten: Vec<Change>,
    /// Queues that were deleted, whose delivery marks are kept until that is safe: until then they may come back.
    pub(crate) deleted: Vec<QueueId>,
    /// What a checkpoint gathered that failed.
    unfinished: Vec<Change>,
}

/// Why a checkpoint did not come about. What was there before still holds.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    #[error("cannot write messages: {0}")]
    Blocks(io::Error),
    #[error("cannot sync the journal: {0}")]
    Journal(io::Error),
    #[error("cannot write the catalog: {0}")]
    Catalog(#[from] CatalogError),
    #[error("cannot write the catalog's snapshot: {0}")]
    Snapshot(io::Error),
    #[error("cannot remove files: {0}")]
    Files(io::Error),
}

impl CheckpointError {
    fn is_for_want_of_room(&self) -> bool {
        match self {
            Self::Blocks(error) | Self::Journal(error) | Self::Snapshot(error) | Self::Files(error) => {
                is_full(error)
            }
            Self::Catalog(CatalogError::Io(error)) => is_full(error),
            Self::Catalog(_) => false,
        }
    }
}

/// The thread's own state.
pub(crate) struct Keeper {
    pub(crate) store: Arc<DurableStore>,
    pub(crate) broker: Arc<Broker>,
    /// Below, the journal is needed no more.
    pub(crate) replay_from: JournalPosition,
    pub(crate) reserve: Reserve,
    pub(crate) snapshot: SnapshotState,
    /// Whether the last work failed, so that it is said once.
    pub(crate) failing: bool,
}

/// How far the snapshot is behind the catalog.
pub(crate) struct SnapshotState {
    /// Definitions may have changed since it was written.
    is_behind: bool,
    written: Option<Instant>,
    /// From where on it needs the journal.
    replay_from: JournalPosition,
}

impl SnapshotState {
    /// One of an earlier process.
    pub(crate) fn found(replay_from: JournalPosition) -> Self {
        Self { is_behind: true, written: None, replay_from }
    }

    fn is_due(&self, replay_from: JournalPosition) -> bool {
        // In time as well: a position that a queue gave to a message may be given again after a restart that finds
        // no trace of it, and then must not be read from an older part of the journal.
        self.replay_from < replay_from
            || self.is_behind && self.written.is_none_or(|written| written.elapsed() >= SNAPSHOT_EACH)
    }
}

impl Keeper {
    pub(crate) fn run(mut self) {
        if !self.reserve.hold() {
            self.set_out_of_room(true);
            self.store.requests.changed();
        }
        loop {
            let task = self.store.requests.wait();
            let done = match task {
                Task::PageOut if self.store.room.is_on() => {
                    self.store.requests.rest();
                    continue;
                }
                Task::Checkpoint | Task::Settle if self.store.room.is_on() => self.give_back(),
                Task::PageOut => self.page_out(),
                Task::Checkpoint => self.checkpoint(self.due()).or_else(|error| {
                    // What is needed no more can be given back all the same, which may be what is wanted.
                    self.checkpoint(JournalPosition::SAFE)?;
                    Err(error)
                }),
                Task::Settle => self.checkpoint(JournalPosition::SAFE),
                Task::Stop => {
                    // Everything leaves the journal, so that the next start has nothing to replay.
                    let done = self
                        .checkpoint(JournalPosition::NEVER)
                        .and_then(|()| if self.snapshot.is_behind { self.write_snapshot() } else { Ok(()) });
                    self.report(&done);
                    return;
                }
            };
            self.report(&done);
            if done.is_err() {
                if !self.store.requests.pause() {
                    self.ask_again(&task);
                }
            } else if !matches!(task, Task::PageOut) {
                self.store.arm_checkpoint();
                self.compact();
                if self.snapshot.is_behind {
                    // So that it does not stay so for want of other work.
                    self.store.requests.changed();
                }
            }
        }
    }

    fn ask_again(&self, task: &Task) {
        match task {
            Task::PageOut => self.store.requests.page_out(),
            _ => self.store.requests.checkpoint(),
        }
    }

    fn report(&mut self, done: &Result<(), CheckpointError>) {
        match done {
            Err(error) if !self.failing => {
                error!(%error, "the disk does not take what it should; trying again")
            }
            Ok(()) if self.failing => info!("the disk takes what it should again"),
            _ => {}
        }
        self.failing = done.is_err();
        match done {
            Err(error) if error.is_for_want_of_room() => {
                // Until it is there again publishers wait: they would fill its room at once.
                self.set_out_of_room(true);
                self.reserve.give_up();
            }
            Ok(()) if self.store.journal.health().is_ok() => {
                if self.reserve.hold() {
                    self.set_out_of_room(false);
                } else if self.store.room.is_on() {
                    // Tried again when changes are due the next time.
                    self.store.requests.changed();
                }
            }
            _ => {}
        }
    }

    fn set_out_of_room(&self, on: bool) {
        self.store.room.set(on);
        self.store.journal.fill_ahead(!on);
    }

    /// Makes room with little room: what the reserve had is for the journal and the catalog, so no block is written,
    /// and the journal is given back as far as no queue needs it.
    fn give_back(&mut self) -> Result<(), CheckpointError> {
        // Before the queues are asked: what is published meanwhile lies behind.
        let end = self.store.journal.end();
        self.checkpoint(self.broker.needs_journal_from().min(end))
    }

    pub(crate) fn page_out(&self) -> Result<(), CheckpointError> {
        if self.store.journal.health().is_err() {
            // What room there is belongs to the journal first: publishers wait for it.
            self.store.requests.rest();
            return Ok(());
        }
        let (share, of) = PAGE_OUT_SHARE;
        let limit = self.store.options.message_cache_bytes / of * share;
        self.broker.page_out(limit).map_err(CheckpointError::Blocks)?;
        if self.broker.memory().bytes() > self.store.options.message_cache_bytes {
            // All that is left is being delivered, or written by others: looking again at once would find no more.
            self.store.requests.rest();
        }
        Ok(())
    }

    /// Below where the journal is to end after a checkpoint: at least half of what it may hold is given back.
    pub(crate) fn due(&self) -> JournalPosition {
        let journal = &self.store.journal;
        let keep = self.store.options.journal_bytes_max / 4;
        let target = journal.end().0.saturating_sub(keep);
        let ends = journal.sealed().into_iter().map(|(_, end)| end).filter(|end| end.0 <= target);
        ends.max().unwrap_or_else(|| journal.begins_at())
    }

    /// Makes the journal below `below` unnecessary.
    pub(crate) fn checkpoint(&mut self, below: JournalPosition) -> Result<(), CheckpointError> {
        let store = Arc::clone(&self.store);
        let started = Instant::now();
        // Nothing that comes later can be needed below the journal's present end.
        let below = below.min(store.journal.end()).max(self.replay_from);
        if below > self.replay_from {
            store.retiring_below.fetch_max(below.0, Ordering::AcqRel);
            self.broker.leave_journal(below).map_err(CheckpointError::Blocks)?;
        }
        self.sync_blocks()?;
        let dead = store.segments.dead();
        let deleted = std::mem::take(&mut store.pending.lock().deleted);
        let blocks = self.broker.changed_blocks();
        let changes = self.gather(blocks, below);
        let count = changes.len();
        let has_definitions = changes.iter().any(Change::is_of_snapshot);
        if let Err(error) = self.commit(&changes) {
            let mut pending = store.pending.lock();
            pending.unfinished = changes;
            pending.deleted.extend(deleted);
            return Err(error);
        }
        deleted.into_iter().for_each(|queue| store.marks.forget(queue));
        self.replay_from = below;
        self.snapshot.is_behind |= has_definitions;
        store.segments.remove(&dead).map_err(CheckpointError::Files)?;
        store.segments.remove_dead_temporary().map_err(CheckpointError::Files)?;
        // The catalog can be made anew of what the snapshot says and the journal from there on: so the snapshot comes
        // before the journal loses anything.
        if self.snapshot.is_due(below) {
            self.write_snapshot()?;
        }
        store.journal.retire_below(below).map_err(CheckpointError::Files)?;
        debug!(below = below.0, changes = count, files = dead.len(), took = ?started.elapsed(), "checkpoint");
        Ok(())
    }

    /// Puts what the catalog says of definitions and of the journal into the snapshot.
    fn write_snapshot(&mut self) -> Result<(), CheckpointError> {
        let entries = self.store.catalog.lock().entries_from(SNAPSHOT_FROM)?;
        write_snapshot(&*self.store.disk, &self.store.options.data_dir, &entries)
            .map_err(CheckpointError::Snapshot)?;
        let replay_from = self.replay_from;
        self.snapshot = SnapshotState { is_behind: false, written: Some(Instant::now()), replay_from };
        Ok(())
    }

    /// Tells the catalog. What it is told is safe in the journal first: else it could know of an ack, and the message
    /// that was published before it be lost. What ends the journal's part of it comes last: recovery takes what
    /// was committed before as it is.
    fn commit(&self, changes: &[Change]) -> Result<(), CheckpointError> {
        self.store.journal.sync().map_err(CheckpointError::Journal)?;
        let mut catalog = self.store.catalog.lock();
        Ok(changes.chunks(CHANGES_AT_ONCE).try_for_each(|some| catalog.commit(some))?)
    }

    /// Syncs the blocks written so far. Those of which a failed sync left it open whether they are there are written
    /// again elsewhere.
    fn sync_blocks(&self) -> Result<(), CheckpointError> {
        let Err(failed) = self.store.segments.sync() else { return Ok(()) };
        let blocks = failed.suspects.iter().map(|block| (block.queue, block.first_position, block.location));
        self.rewrite(blocks)?;
        self.store.segments.sync().map_err(|failed| CheckpointError::Blocks(failed.source))
    }

    /// Changes for the catalog, in an order in which the last one of a key is right. `blocks` are asked for before:
    /// what became of a block since then, which can only be its end, is found among what is pending. The other way
    /// round a block that ends in between would be told neither as it was last nor as gone, and come back.
    pub(crate) fn gather(&self, blocks: Vec<BlockState>, below: JournalPosition) -> Vec<Change> {
        let blocks: Vec<Change> = blocks.into_iter().map(|state| self.entry(state).put()).collect();
        let mut pending = self.store.pending.lock();
        let mut changes = std::mem::take(&mut pending.unfinished);
        changes.append(&mut pending.definitions);
        changes.extend(blocks);
        changes.append(&mut pending.forgotten);
        drop(pending);
        changes.extend(Meta { replay_from: below, next_queue_id: QueueId::unused().0 }.put());
        changes
    }

    fn entry(&self, state: BlockState) -> BlockEntry {
        let live_bytes =
            u64::from(state.location.length) * u64::from(state.live) / u64::from(state.count.max(1));
        let live_bytes = u32::try_from(live_bytes).unwrap_or(u32::MAX);
        self.store.segments.shrink(state.location, live_bytes);
        BlockEntry {
            queue: state.queue,
            first_position: state.first_position,
            location: state.location,
            count: state.count,
            settled: state.settled,
            live_bytes,
            body_bytes: u32::try_from(state.body_bytes).unwrap_or(u32::MAX),
            is_estimate: state.is_estimate,
            expires: state.expires,
            returns: state.returns,
        }
    }

    /// Writes what is left of the emptiest files elsewhere, so that the next checkpoint can delete them.
    pub(crate) fn compact(&mut self) {
        let segments = &self.store.segments;
        for blocks in [segments.sparse(), segments.sparse_temporary()].into_iter().flatten() {
            let bytes = blocks.iter().map(|block| u64::from(block.location.length)).sum();
            if self.store.room.is_on() && !self.reserve.leaves_half_beside(bytes) {
                continue;
            }
            debug!(blocks = blocks.len(), "compacting a file");
            let blocks = blocks.iter().map(|block| (block.queue, block.first_position, block.location));
            let done = self.rewrite(blocks);
            let compacted = done.is_ok();
            self.report(&done);
            if compacted {
                self.store.requests.changed();
            }
        }
    }

    fn rewrite(
        &self,
        blocks: impl Iterator<Item = (QueueId, u64, BlockLocation)>,
    ) -> Result<(), CheckpointError> {
        let queues: HashMap<QueueId, Arc<Queue>> =
            self.broker.queues().into_iter().flat_map(each_level).collect();
        for (id, first_position, location) in blocks {
            let Some(queue) = queues.get(&id) else {
                self.store.segments.free(location);
                continue;
            };
            match queue.rewrite_block(id, first_position, location) {
                Ok(()) => {}
                Err(leveret_broker::store::BlockError::Io(error)) => {
                    return Err(CheckpointError::Blocks(error));
                }
                Err(error) => {
                    let (name, vhost) = (&queue.spec.name, &queue.spec.vhost);
                    let what = format!("messages from {first_position} on cannot be read: {error}");
                    error!(queue = %name, %vhost, "queue stopped: {what}");
                    self.store.segments.leave(location);
                    queue.stop(what);
                }
            }
        }
        Ok(())
    }
}

/// A queue by all ids that its blocks may have.
fn each_level(queue: Arc<Queue>) -> impl Iterator<Item = (QueueId, Arc<Queue>)> {
    queue.spec.level_ids(queue.id).map(move |level| (level, Arc::clone(&queue)))
}
