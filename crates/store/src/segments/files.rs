//! What [`Segments`](super::Segments) knows of its files without asking the disk: which blocks of each are alive,
//! which are safe and which never will be. Does no I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use leveret_broker::names::QueueId;
use leveret_broker::store::{BlockError, BlockLocation};

use super::StoredBlock;
use crate::disk::DiskFile;

/// What becomes of a file at the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is kept, and its blocks are what the catalog says.
    Durable,
    /// It is deleted.
    Temporary,
}

impl Kind {
    pub(super) fn of(durable: bool) -> Self {
        if durable { Self::Durable } else { Self::Temporary }
    }

    /// The name of its folder.
    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Durable => "durable",
            Self::Temporary => "temporary",
        }
    }
}

/// All files, by number.
#[derive(Default)]
pub(super) struct Files {
    pub(super) next_number: u64,
    pub(super) by_number: BTreeMap<u64, SegmentFile>,
}

/// One file.
pub(super) struct SegmentFile {
    pub(super) kind: Kind,
    /// Octets of header and blocks; what a failed write left behind does not count.
    pub(super) length: u64,
    /// Nothing more is written to it.
    pub(super) sealed: bool,
    /// It was there when the store was opened.
    pub(super) found: bool,
    /// It stays, whatever is in it: see [`keep`](super::keep).
    pub(super) kept: bool,
    /// Blocks below are safe, if the file's name is.
    pub(super) synced_to: u64,
    /// The directory was synced since it was made.
    pub(super) named: bool,
    /// A sync of it failed: what is written to it from then on cannot be trusted either.
    pub(super) broken: bool,
    /// A block in it cannot be read: nothing is gained by moving the others.
    pub(super) damaged: bool,
    /// The handle it was written with, kept until all of it is synced: only this one is sure to be told when
    /// the system could not write it back.
    pub(super) handle: Option<Arc<dyn DiskFile>>,
    live: BTreeMap<u32, LiveBlock>,
    live_bytes: u64,
}

struct LiveBlock {
    queue: QueueId,
    first_position: u64,
    length: u32,
    live_bytes: u32,
    /// A sync failed after it was written.
    suspect: bool,
}

impl SegmentFile {
    /// A file that is being written.
    pub(super) fn made(kind: Kind, length: u64, handle: Arc<dyn DiskFile>) -> Self {
        Self { found: false, sealed: false, named: false, handle: Some(handle), ..Self::found(kind, length) }
    }

    /// A file of an earlier process.
    pub(super) fn found(kind: Kind, length: u64) -> Self {
        Self {
            kind,
            length,
            sealed: true,
            found: true,
            kept: false,
            synced_to: length,
            named: true,
            broken: false,
            damaged: false,
            handle: None,
            live: BTreeMap::new(),
            live_bytes: 0,
        }
    }

    /// Notes a block.
    pub(super) fn insert(&mut self, location: BlockLocation, queue: QueueId, first_position: u64) {
        let BlockLocation { offset, length, .. } = location;
        let block = LiveBlock { queue, first_position, length, live_bytes: length, suspect: false };
        self.live_bytes += u64::from(length);
        if let Some(old) = self.live.insert(offset, block) {
            self.live_bytes -= u64::from(old.live_bytes);
        }
    }

    /// Notes a block that the catalog knows, if it can be there.
    pub(super) fn adopt(
        &mut self,
        location: BlockLocation,
        queue: QueueId,
        first_position: u64,
    ) -> Result<(), BlockError> {
        let end = u64::from(location.offset) + u64::from(location.length);
        let damaged =
            |what: String| Err(BlockError::Damaged(format!("{what} in file {:016x}", location.file)));
        if end > self.length {
            return damaged(format!("the block ends at {end} and the file at {}", self.length));
        }
        let before = self.live.range(..=location.offset).next_back();
        let behind = self.live.range(location.offset..).next();
        let overlaps = before.is_some_and(|(offset, block)| {
            u64::from(*offset) + u64::from(block.length) > u64::from(location.offset)
        }) || behind.is_some_and(|(offset, _)| u64::from(*offset) < end);
        if overlaps {
            return damaged(format!("the block at {} is in another's place", location.offset));
        }
        self.insert(location, queue, first_position);
        Ok(())
    }

    /// Forgets a block.
    pub(super) fn free(&mut self, location: BlockLocation) {
        if let Some(block) = self.live.remove(&location.offset) {
            self.live_bytes -= u64::from(block.live_bytes);
        }
    }

    /// Less of a block matters than before.
    pub(super) fn shrink(&mut self, location: BlockLocation, live_bytes: u32) {
        if let Some(block) = self.live.get_mut(&location.offset) {
            let less = block.live_bytes.saturating_sub(live_bytes);
            block.live_bytes -= less;
            self.live_bytes -= u64::from(less);
        }
    }

    /// Whether a live block was written since the last sync.
    pub(super) fn needs_sync(&self) -> bool {
        let from = u32::try_from(self.synced_to).unwrap_or(u32::MAX);
        self.kind == Kind::Durable && !self.broken && self.live.range(from..).next().is_some()
    }

    /// A sync that began when the file had `length` octets succeeded.
    pub(super) fn synced(&mut self, length: u64) {
        self.synced_to = self.synced_to.max(length);
        if self.sealed && !self.needs_sync() {
            self.handle = None;
        }
    }

    /// A sync failed. Whether what was written before and is not known to be safe will ever be, the system does
    /// not say again.
    pub(super) fn fail(&mut self) {
        let from = if self.named { u32::try_from(self.synced_to).unwrap_or(u32::MAX) } else { 0 };
        self.live.range_mut(from..).for_each(|(_, block)| block.suspect = true);

        self.broken = true;
        self.sealed = true;
    }

    pub(super) fn is_dead(&self) -> bool {
        self.sealed && !self.kept && self.live.is_empty()
    }

    pub(super) fn has_live(&self) -> bool {
        !self.live.is_empty()
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Blocks that need writing anew.
    pub(super) fn suspects(&self, number: u64) -> impl Iterator<Item = StoredBlock> {
        self.blocks_where(number, |block| block.suspect)
    }

    /// All live blocks, in the order in which they lie.
    pub(super) fn blocks(&self, number: u64) -> impl Iterator<Item = StoredBlock> {
        self.blocks_where(number, |_| true)
    }

    fn blocks_where(&self, number: u64, wanted: fn(&LiveBlock) -> bool) -> impl Iterator<Item = StoredBlock> {
        self.live.iter().filter(move |(_, block)| wanted(block)).map(move |(&offset, block)| StoredBlock {
            location: BlockLocation { file: number, offset, length: block.length },
            queue: block.queue,
            first_position: block.first_position,
        })
    }
}

impl Files {
    /// Numbers of the files that `wanted` picks, lowest first.
    pub(super) fn numbers_where(&self, wanted: impl Fn(&SegmentFile) -> bool) -> Vec<u64> {
        self.by_number.iter().filter(|(_, file)| wanted(file)).map(|(&number, _)| number).collect()
    }

    /// The sealed file of `kind` with the smallest live share below one half.
    pub(super) fn sparsest(&self, kind: Kind) -> Option<Vec<StoredBlock>> {
        let candidates = self.by_number.iter().filter(|(_, file)| {
            let is_sparse = file.has_live() && file.live_bytes * 2 < file.length;
            file.kind == kind && file.sealed && !file.kept && !file.damaged && is_sparse
        });
        // Shares compared as fractions: live of one times all of the other.
        let (&number, file) = candidates.min_by(|(_, one), (_, other)| {
            let scaled = |live: u64, all: u64| u128::from(live) * u128::from(all);
            scaled(one.live_bytes, other.length).cmp(&scaled(other.live_bytes, one.length))
        })?;
        Some(file.blocks(number).collect())
    }
}
