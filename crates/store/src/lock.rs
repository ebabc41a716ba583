//! The lock of a data directory: one broker at a time. Held by the system for as long as the process lives, so that
//! nothing is left to clean up after a kill.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Name of the file that is locked.
const LOCK_NAME: &str = "leveret.lock";

/// Octets read of what the holder wrote: a number and no more.
const HOLDER_BYTES_MAX: u64 = 32;

/// Why a data directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("the data directory {} is in use by another process{}", dir.display(), holder_text(holder))]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The other process, if it has said so.
        holder: Option<u32>,
    },
    /// The system refuses.
    #[error("the data directory {} cannot be locked: {source}", dir.display())]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn holder_text(holder: &Option<u32>) -> String {
    holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

/// A data directory that is this process's alone until this is dropped.
#[derive(Debug)]
pub struct DataDirLock {
    _file: File,
}

impl DataDirLock {
    /// Locks the directory `dir`, which exists.
    ///
    /// # Errors
    /// Another process has it, or the system refuses.
    pub fn acquire(dir: &Path) -> Result<Self, LockError> {
        let failed = |source| LockError::Io { dir: dir.to_owned(), source };
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(dir.join(LOCK_NAME)).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::InUse { dir: dir.to_owned(), holder: holder_of(&file) });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // Whose it is helps people only: a full disk is no reason to refuse.
        let written = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(format!("{}\n", std::process::id()).as_bytes()));
        if let Err(error) = written {
            tracing::warn!(%error, "cannot write the pid to {LOCK_NAME}");
        }
        Ok(Self { _file: file })
    }
}

/// What the holder of the lock has written.
fn holder_of(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(HOLDER_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_use_is_refused_and_its_holder_named() {
        let folder = tempfile::tempdir().unwrap();
        let lock = DataDirLock::acquire(folder.path()).unwrap();
        let error = DataDirLock::acquire(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&folder.path().display().to_string()), "{error}");
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        drop(lock);
        DataDirLock::acquire(folder.path()).unwrap();
    }

    #[test]
    fn what_an_earlier_holder_left_does_not_matter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LOCK_NAME);
        std::fs::write(&path, "99999999999 and more than anybody would write").unwrap();
        let _lock = DataDirLock::acquire(folder.path()).unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), format!("{}\n", std::process::id()));
    }

    #[test]
    fn a_missing_directory_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let error = DataDirLock::acquire(&missing).unwrap_err().to_string();
        assert!(error.contains(&missing.display().to_string()), "{error}");
    }
}
