//! The number of the last commit, in a file beside the database: sled takes damage in its log for the log's end and
//! silently goes back to what was before, which only somebody else can notice.
//!
//! Two slots of 512 octets take turns, so that a torn write leaves the number before: number u64, crc32c of it u32.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use crate::octets::Reader;

/// Name of the file in the database's folder.
const NAME: &str = "committed";

const SLOT_BYTES: u64 = 512;
const USED_BYTES: usize = 12;

/// The file.
#[derive(Debug)]
pub(super) struct Committed {
    file: File,
}

impl Committed {
    /// Opens the file, making it if it is missing.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        Ok(Self { file: options.open(dir.join(NAME))? })
    }

    /// The highest number that was written; `None` if none ever was, or both are damaged.
    pub(super) fn number(&self) -> io::Result<Option<u64>> {
        let slots = [self.slot(0)?, self.slot(SLOT_BYTES)?];
        Ok(slots.into_iter().flatten().max())
    }

    fn slot(&self, offset: u64) -> io::Result<Option<u64>> {
        let mut octets = [0; USED_BYTES];
        match self.file.read_exact_at(&mut octets, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let mut reader = Reader::new(&octets);
        let number = reader.u64();
        Ok(number.filter(|number| reader.u32() == Some(crc32c::crc32c(&number.to_le_bytes()))))
    }

    /// Notes that commit `number` is safe. This is safe as well when it returns.
    pub(super) fn note(&self, number: u64) -> io::Result<()> {
        let octets = number.to_le_bytes();
        let slot = [octets.as_slice(), &crc32c::crc32c(&octets).to_le_bytes()].concat();
        self.file.write_all_at(&slot, (number % 2) * SLOT_BYTES)?;
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_slot_leaves_the_number_before() {
        let folder = tempfile::tempdir().unwrap();
        let committed = Committed::open(folder.path()).unwrap();
        assert_eq!(committed.number().unwrap(), None);
        for number in 1..5 {
            committed.note(number).unwrap();
            assert_eq!(committed.number().unwrap(), Some(number));
        }
        committed.file.write_all_at(&[0xee], 3).unwrap();
        assert_eq!(Committed::open(folder.path()).unwrap().number().unwrap(), Some(3));
        committed.file.write_all_at(&[0xee], SLOT_BYTES + 9).unwrap();
        assert_eq!(committed.number().unwrap(), None);
    }
}
