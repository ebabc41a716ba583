//! How the journal's octets lie in its files. Everything is little endian; all checks are CRC32C.
//!
//! ```text
//! file    magic 8 "LVRTJRNL" | version 4 | zero 4 | start 8 | synced 8 | incarnation 8 | check 4 | zeros up to 512
//! group   magic 4 | check 4 | position 8 | length 8 | synced 8 | incarnation 8 | records 4 | zero 4
//!         records ... | zeros up to a multiple of 512
//! record  length 4 | kind 1 | zeros 3 | place 4 | payload check 4 | queue 8 | check 4 | payload
//! ```
//!
//! What the fields mean is said at [`FileHeader`], [`GroupHeader`] and [`RecordHeader`].

use crc32c::{crc32c, crc32c_append};

/// What survives a power loss whole or not at all; groups begin at multiples of it.
pub(crate) const SECTOR: u64 = 512;
/// Where the octets of a file's journal begin.
pub(crate) const FILE_HEADER_BYTES: u64 = SECTOR;
pub(crate) const GROUP_HEADER_BYTES: usize = 48;
pub(crate) const RECORD_HEADER_BYTES: usize = 28;
/// The version of this format. Magic, version and check of the file header keep their places in all versions.
pub const VERSION: u32 = 1;
/// The first position of all; that of a record is always above 0, which means "safe from the start".
pub(crate) const FIRST_POSITION: u64 = SECTOR;

const FILE_MAGIC: &[u8; 8] = b"LVRTJRNL";
const GROUP_MAGIC: u32 = 0x7072_474C;

const FILE_SUFFIX: &str = ".journal";
const SPARE_SUFFIX: &str = ".spare";

/// Name of the file whose journal octets begin at `start`.
pub(crate) fn file_name(start: u64) -> String {
    format!("{start:016x}{FILE_SUFFIX}")
}

/// The start that a file's name tells.
pub(crate) fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(FILE_SUFFIX)?;
    let start = u64::from_str_radix(digits, 16).ok()?;
    (file_name(start) == name && start >= FIRST_POSITION && start % SECTOR == 0).then_some(start)
}

/// Name of a file that is kept to be written again.
pub(crate) fn spare_name(number: u64) -> String {
    format!("{number}{SPARE_SUFFIX}")
}

/// The number that a spare file's name tells.
pub(crate) fn parse_spare_name(name: &str) -> Option<u64> {
    name.strip_suffix(SPARE_SUFFIX)?.parse().ok()
}

/// The next place where a group can begin.
pub(crate) fn round_up(position: u64) -> u64 {
    position.next_multiple_of(SECTOR)
}

/// Begins each file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    /// Journal position of the octet after this header.
    pub(crate) start: u64,
    /// Everything below was synced when this was written.
    pub(crate) synced: u64,
    /// Random number of the journal's run that began the file. Only groups with the same one belong to it: whatever
    /// an earlier use of the file left there never passes.
    pub(crate) incarnation: u64,
}

/// Why a file header says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileHeaderError {
    /// It is not one, or damaged.
    Unreadable,
    /// It is whole, and of another version than ours.
    Version(u32),
}

impl FileHeader {
    pub(crate) fn encode(&self) -> [u8; FILE_HEADER_BYTES as usize] {
        let mut octets = Writer::<{ FILE_HEADER_BYTES as usize }>::new();
        octets.put(FILE_MAGIC);
        octets.put(&VERSION.to_le_bytes());
        octets.put(&[0; 4]);
        octets.put(&self.start.to_le_bytes());
        octets.put(&self.synced.to_le_bytes());
        octets.put(&self.incarnation.to_le_bytes());
        let check = crc32c(octets.so_far());
        octets.put(&check.to_le_bytes());
        octets.octets
    }

    pub(crate) fn decode(octets: &[u8]) -> Result<Self, FileHeaderError> {
        let (version, header) = Self::parse(octets).ok_or(FileHeaderError::Unreadable)?;
        if version == VERSION { Ok(header) } else { Err(FileHeaderError::Version(version)) }
    }

    fn parse(octets: &[u8]) -> Option<(u32, Self)> {
        let intact = octets.starts_with(FILE_MAGIC) && u32_at(octets, 40)? == crc32c(octets.get(..40)?);
        let header = Self {
            start: u64_at(octets, 16)?,
            synced: u64_at(octets, 24)?,
            incarnation: u64_at(octets, 32)?,
        };
        intact.then_some((u32_at(octets, 8)?, header))
    }
}

/// Begins each group: records that one write took to the disk, all or none of which count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupHeader {
    /// Journal position of this header.
    pub(crate) position: u64,
    /// Octets of all its records.
    pub(crate) length: u64,
    /// Everything below was synced when this was written: what is bad there is damage and not a torn write.
    pub(crate) synced: u64,
    /// See [`FileHeader::incarnation`].
    pub(crate) incarnation: u64,
    /// How many records.
    pub(crate) records: u32,
}

impl GroupHeader {
    pub(crate) fn encode(&self) -> [u8; GROUP_HEADER_BYTES] {
        let mut octets = Writer::<GROUP_HEADER_BYTES>::new();
        octets.put(&GROUP_MAGIC.to_le_bytes());
        octets.put(&[0; 4]);
        octets.put(&self.position.to_le_bytes());
        octets.put(&self.length.to_le_bytes());
        octets.put(&self.synced.to_le_bytes());
        octets.put(&self.incarnation.to_le_bytes());
        octets.put(&self.records.to_le_bytes());
        octets.put(&[0; 4]);
        let check = crc32c(octets.octets.split_at(8).1);
        octets.put_at(4, &check.to_le_bytes());
        octets.octets
    }

    /// The header at the beginning of `octets`, which lie at `position`.
    pub(crate) fn decode(octets: &[u8], position: u64) -> Option<Self> {
        let octets = octets.get(..GROUP_HEADER_BYTES)?;
        let header = Self {
            position: u64_at(octets, 8)?,
            length: u64_at(octets, 16)?,
            synced: u64_at(octets, 24)?,
            incarnation: u64_at(octets, 32)?,
            records: u32_at(octets, 40)?,
        };
        let intact = u32_at(octets, 0)? == GROUP_MAGIC
            && header.position == position
            && u32_at(octets, 4)? == crc32c(octets.get(8..)?);
        (intact && header.end().is_some()).then_some(header)
    }

    /// Where the next group can begin.
    pub(crate) fn end(&self) -> Option<u64> {
        let end = self.position.checked_add(GROUP_HEADER_BYTES as u64)?.checked_add(self.length)?;
        end.checked_next_multiple_of(SECTOR)
    }
}

/// Begins each record. Header and payload are checked apart, so that damage of a payload still has a queue's name
/// to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    /// Octets of the payload.
    pub(crate) length: u32,
    /// The caller's.
    pub(crate) kind: u8,
    /// Check over the payload.
    pub(crate) payload_check: u32,
    /// 0 where there is none.
    pub(crate) queue: u64,
}

impl RecordHeader {
    /// The header of a record at `position`. The check covers the header before it, and the whole position and
    /// the incarnation, which are not written.
    pub(crate) fn encode(&self, position: u64, incarnation: u64) -> [u8; RECORD_HEADER_BYTES] {
        let mut octets = Writer::<RECORD_HEADER_BYTES>::new();
        octets.put(&self.length.to_le_bytes());
        octets.put(&[self.kind, 0, 0, 0]);
        octets.put(&(position as u32).to_le_bytes());
        octets.put(&self.payload_check.to_le_bytes());
        octets.put(&self.queue.to_le_bytes());
        let check = Self::check(octets.so_far(), position, incarnation);
        octets.put(&check.to_le_bytes());
        octets.octets
    }

    /// The header at the beginning of `octets`, which lie at `position`.
    pub(crate) fn decode(octets: &[u8], position: u64, incarnation: u64) -> Option<Self> {
        let octets = octets.get(..RECORD_HEADER_BYTES)?;
        let intact = u32_at(octets, 8)? == position as u32
            && u32_at(octets, 24)? == Self::check(octets.get(..24)?, position, incarnation);
        let header = Self {
            length: u32_at(octets, 0)?,
            kind: *octets.get(4)?,
            payload_check: u32_at(octets, 12)?,
            queue: u64_at(octets, 16)?,
        };
        intact.then_some(header)
    }

    fn check(octets: &[u8], position: u64, incarnation: u64) -> u32 {
        let mut place = [0; 16];
        let (left, right) = place.split_at_mut(8);
        left.copy_from_slice(&position.to_le_bytes());
        right.copy_from_slice(&incarnation.to_le_bytes());
        crc32c_append(crc32c(octets), &place)
    }
}

/// Fills an array from its beginning.
struct Writer<const N: usize> {
    octets: [u8; N],
    at: usize,
}

impl<const N: usize> Writer<N> {
    fn new() -> Self {
        Self { octets: [0; N], at: 0 }
    }

    fn put(&mut self, octets: &[u8]) {
        self.put_at(self.at, octets);
        self.at += octets.len();
    }

    fn put_at(&mut self, at: usize, octets: &[u8]) {
        // INVARIANT: only the encoders above write here, and the fields of each fit its array.
        self.octets[at..at + octets.len()].copy_from_slice(octets);
    }

    fn so_far(&self) -> &[u8] {
        self.octets.split_at(self.at).0
    }
}

fn u32_at(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(octets.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(octets: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(octets.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_headers_come_back_and_no_changed_octet_passes() {
        let header = FileHeader { start: 0x1200, synced: 0x1000, incarnation: 77 };
        let octets = header.encode();
        assert_eq!(FileHeader::decode(&octets), Ok(header));
        for at in 0..44 {
            let mut changed = octets;
            changed[at] ^= 0x10;
            assert_eq!(FileHeader::decode(&changed), Err(FileHeaderError::Unreadable), "octet {at}");
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut octets = FileHeader { start: 512, synced: 512, incarnation: 1 }.encode();
        octets[8] = 2;
        let check = crc32c(&octets[..40]);
        octets[40..44].copy_from_slice(&check.to_le_bytes());
        assert_eq!(FileHeader::decode(&octets), Err(FileHeaderError::Version(2)));
    }

    #[test]
    fn group_headers_come_back_at_their_own_place_only() {
        let header = GroupHeader { position: 1024, length: 600, synced: 512, incarnation: 9, records: 3 };
        let octets = header.encode();
        assert_eq!(GroupHeader::decode(&octets, 1024), Some(header));
        assert_eq!(header.end(), Some(2048));
        assert_eq!(GroupHeader::decode(&octets, 512), None);
        for at in 0..GROUP_HEADER_BYTES {
            let mut changed = octets;
            changed[at] ^= 1;
            assert_eq!(GroupHeader::decode(&changed, 1024), None, "octet {at}");
        }
    }

    #[test]
    fn a_group_that_would_end_beyond_all_positions_is_none() {
        let header =
            GroupHeader { position: 512, length: u64::MAX - 100, synced: 0, incarnation: 0, records: 1 };
        assert_eq!(GroupHeader::decode(&header.encode(), 512), None);
    }

    #[test]
    fn record_headers_pass_at_their_own_place_and_in_their_own_run_only() {
        let header = RecordHeader { length: 5, kind: 2, payload_check: 99, queue: 1 << 40 };
        let octets = header.encode(560, 9);
        assert_eq!(RecordHeader::decode(&octets, 560, 9), Some(header));
        assert_eq!(RecordHeader::decode(&octets, 560 + 512, 9), None);
        assert_eq!(RecordHeader::decode(&octets, 560 + (1 << 32), 9), None, "equal low 32 bits");
        assert_eq!(RecordHeader::decode(&octets, 560, 10), None);
        for at in 0..RECORD_HEADER_BYTES {
            let mut changed = octets;
            changed[at] ^= 1;
            assert_eq!(RecordHeader::decode(&changed, 560, 9), None, "octet {at}");
        }
    }

    #[test]
    fn only_names_that_we_give_are_ours() {
        assert_eq!(parse_file_name(&file_name(0xABC_DE00)), Some(0xABC_DE00));
        for other in [
            "200.journal",
            "0000000000000201.journal",
            "0000000000000000.journal",
            "+000000000000200.journal",
        ] {
            assert_eq!(parse_file_name(other), None, "{other}");
        }
        assert_eq!(parse_spare_name("12.spare"), Some(12));
        assert_eq!(parse_spare_name("x.spare"), None);
    }
}
