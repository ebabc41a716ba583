//! Handles of files that are read, the least lately used given back when there are too many.

use std::collections::HashMap;
use std::sync::Arc;

use crate::disk::DiskFile;

/// Open files by number.
pub(super) struct Handles {
    open_max: usize,
    /// Counts uses: the smallest number is the oldest use.
    clock: u64,
    open: HashMap<u64, (Arc<dyn DiskFile>, u64)>,
}

impl Handles {
    /// Keeps at most `open_max`.
    pub(super) fn new(open_max: usize) -> Self {
        Self { open_max, clock: 0, open: HashMap::new() }
    }

    pub(super) fn get(&mut self, number: u64) -> Option<Arc<dyn DiskFile>> {
        self.clock += 1;
        let (handle, used) = self.open.get_mut(&number)?;
        *used = self.clock;
        Some(Arc::clone(handle))
    }

    pub(super) fn insert(&mut self, number: u64, handle: Arc<dyn DiskFile>) {
        if self.open.len() >= self.open_max {
            let oldest = self.open.iter().min_by_key(|(_, (_, used))| *used).map(|(&number, _)| number);
            oldest.map(|number| self.open.remove(&number));
        }
        self.clock += 1;
        self.open.insert(number, (handle, self.clock));
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.open.remove(&number);
    }
}
