//! Room that is kept for when there is none: a file that is given up on a full disk, so that the journal can write
//! what it was told before publishers were stopped, and the catalog be told what is needed no more; which gives
//! room back.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use crate::disk::{Disk, write_all_at};
use crate::store::StoreOptions;

/// Octets written at a time.
const PIECE_BYTES: usize = 1 << 20;

/// The file, made or given up.
pub(crate) struct Reserve {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    bytes: usize,
    is_held: bool,
}

impl Reserve {
    /// The reserve of a data directory. Whether there is room for it shows later.
    pub(crate) fn of(disk: Arc<dyn Disk>, options: &StoreOptions) -> Self {
        Self { disk, path: options.data_dir.join("reserve"), bytes: options.reserve_bytes, is_held: false }
    }

    /// Makes the file if it was given up, and there is room for it and half of it again, so that it is not given up
    /// at once; whether it is there.
    pub(crate) fn hold(&mut self) -> bool {
        if self.is_held {
            return true;
        }
        self.is_held = self.make().is_ok();
        if !self.is_held {
            // Half a reserve would take the room that others wait for.
            let _ = self.disk.remove(&self.path);
        }
        self.is_held
    }

    fn make(&self) -> io::Result<()> {
        let file = match self.disk.open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.disk.create(&self.path)?,
            Err(error) => return Err(error),
        };
        let bytes = self.bytes as u64;
        if file.size()? >= bytes {
            return Ok(());
        }
        if !self.leaves_half_beside(bytes) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let zeros = vec![0; PIECE_BYTES.min(self.bytes)];
        for offset in (0..self.bytes).step_by(PIECE_BYTES) {
            write_all_at(&*file, &mut [IoSlice::new(&zeros)], offset as u64)?;
        }
        // A file system that puts off finding room finds it now.
        file.sync()
    }

    /// Whether `bytes` can be written with room left for half a reserve. A system that does not say is tried.
    pub(crate) fn leaves_half_beside(&self, bytes: u64) -> bool {
        let dir = self.path.parent().unwrap_or(&self.path);
        self.disk.free_bytes(dir).map_or(true, |free| free >= bytes.saturating_add(self.bytes as u64 / 2))
    }

    /// Gives the room to whoever needs it; `false` if it had been given up before.
    pub(crate) fn give_up(&mut self) -> bool {
        self.is_held = false;
        self.disk.remove(&self.path).is_ok()
    }
}

/// Whether an operation failed for want of room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
