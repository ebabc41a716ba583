//! All entries in one file, replaced as a whole: what a damaged database is made anew from. Little endian:
//!
//! ```text
//! 0 "LVRTSNAP"  8 version u32  12 zero u32  16 entries u64  24 (key length, key, value length, value)*  end-4 crc32c
//! ```
//! Lengths are in groups of seven bits; the checksum covers everything before it.

use std::io::{self, IoSlice};
use std::path::Path;

use super::{CatalogError, FORMAT_VERSION};
use crate::disk::{Disk, read_exact_at, write_all_at};
use crate::entries::EntryList;
use crate::octets::{Reader, put_sized};

/// Name of the snapshot in its folder.
pub const SNAPSHOT_NAME: &str = "catalog.snapshot";

/// Name of one that is being written.
const UNFINISHED_NAME: &str = "catalog.snapshot.new";

const MAGIC: &[u8; 8] = b"LVRTSNAP";
const CHECKSUM_BYTES: usize = 4;

/// Writes all of `entries` to the snapshot in `dir`, in place of the one there. It is safe when this returns.
///
/// # Errors
/// The disk fails or is full: the old one stays.
pub fn write_snapshot<K: AsRef<[u8]>, V: AsRef<[u8]>>(
    disk: &dyn Disk,
    dir: &Path,
    entries: &[(K, V)],
) -> io::Result<()> {
    let mut octets = Vec::new();
    octets.extend_from_slice(MAGIC);
    octets.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    octets.extend_from_slice(&[0; 4]);
    octets.extend_from_slice(&(entries.len() as u64).to_le_bytes());
    for (key, value) in entries {
        put_sized(&mut octets, key.as_ref());
        put_sized(&mut octets, value.as_ref());
    }
    octets.extend_from_slice(&crc32c::crc32c(&octets).to_le_bytes());
    let unfinished = dir.join(UNFINISHED_NAME);
    match disk.remove(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.create(&unfinished)?;
    write_all_at(&*file, &mut [IoSlice::new(&octets)], 0)?;
    file.sync()?;
    disk.rename(&unfinished, &dir.join(SNAPSHOT_NAME))?;
    disk.sync_dir(dir)
}

/// Entries of the snapshot in `dir`; `None` if there is none.
///
/// # Errors
/// It is damaged or newer than this version, or the disk fails.
pub fn read_snapshot(disk: &dyn Disk, dir: &Path) -> Result<Option<EntryList>, CatalogError> {
    let file = match disk.open(&dir.join(SNAPSHOT_NAME)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let damaged = || CatalogError::Damaged("its snapshot is damaged".to_owned());
    let mut octets = vec![0; usize::try_from(file.size()?).map_err(io::Error::other)?];
    read_exact_at(&*file, &mut octets, 0)?;
    let (checked, checksum) = octets.split_last_chunk::<CHECKSUM_BYTES>().ok_or_else(damaged)?;
    if crc32c::crc32c(checked) != u32::from_le_bytes(*checksum) {
        return Err(damaged());
    }
    let mut reader = Reader::new(checked);
    if reader.take(MAGIC.len()) != Some(MAGIC) {
        return Err(damaged());
    }
    let found = reader.u32().ok_or_else(damaged)?;
    if found > FORMAT_VERSION {
        return Err(CatalogError::NewerFormat { found, known: FORMAT_VERSION });
    }
    let mut read = || {
        let _reserved = reader.u32()?;
        let count = reader.u64()?;
        let mut entries = Vec::new();
        for _ in 0..count {
            entries.push((reader.sized()?.to_vec(), reader.sized()?.to_vec()));
        }
        reader.is_empty().then_some(entries)
    };
    read().map(Some).ok_or_else(damaged)
}
