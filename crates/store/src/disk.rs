//! The disk as the store sees it: few operations, so that tests can put a disk in their place that loses what was
//! not synced, tears the last write, fails at any call or is full.

pub mod simulated;
mod system;

use std::io::{self, IoSlice};
use std::path::Path;

pub use simulated::SimulatedDisk;
pub use system::SystemDisk;

/// A file system.
pub trait Disk: Send + Sync {
    /// Makes a directory and those above it, for their owner alone. One that exists is no error.
    ///
    /// # Errors
    /// The system refuses.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// Names of the files in a directory, sorted.
    ///
    /// # Errors
    /// The system refuses.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes a new, empty file for its owner alone.
    ///
    /// # Errors
    /// It exists, or the system refuses.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file to read and write it.
    ///
    /// # Errors
    /// It is missing, or the system refuses.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, in place of what has that name.
    ///
    /// # Errors
    /// The system refuses.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Deletes a file.
    ///
    /// # Errors
    /// The system refuses.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory safe: files made, renamed and deleted.
    ///
    /// # Errors
    /// The disk fails.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Octets that this process can still write to the file system of `dir`.
    ///
    /// # Errors
    /// The system refuses.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Reads at `offset`; how many octets, 0 at the end of the file.
    ///
    /// # Errors
    /// The disk fails.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes `parts` one after another at `offset`; how many octets, which may be fewer than there are.
    ///
    /// # Errors
    /// The disk fails or is full.
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Makes everything written so far safe, with what is needed to read it again (fdatasync).
    ///
    /// # Errors
    /// The disk fails: what was written since the last sync may or may not be there.
    fn sync(&self) -> io::Result<()>;

    /// Octets in the file.
    ///
    /// # Errors
    /// The system refuses.
    fn size(&self) -> io::Result<u64>;
}

/// Reads exactly as much as `buffer` holds.
///
/// # Errors
/// The disk fails, or the file ends before ([`io::ErrorKind::UnexpectedEof`]).
pub fn read_exact_at(file: &dyn DiskFile, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        let read = match file.read_at(buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        buffer = buffer.get_mut(read..).unwrap_or_default();
        offset += read as u64;
    }
    Ok(())
}

/// Slices given to one vectored write; the kernel takes 1024.
const WRITE_PARTS_MAX: usize = 512;

/// Writes all of `parts` one after another at `offset`.
///
/// # Errors
/// The disk fails or is full; then some of it may have been written.
pub fn write_all_at(file: &dyn DiskFile, parts: &mut [IoSlice<'_>], mut offset: u64) -> io::Result<()> {
    let mut rest = parts;
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        let few = rest.get(..WRITE_PARTS_MAX).unwrap_or(rest);
        let written = match file.write_at(few, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        IoSlice::advance_slices(&mut rest, written);
        offset += written as u64;
    }
    Ok(())
}
