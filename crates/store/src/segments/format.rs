//! How blocks lie in a file, little endian. A file is its header and blocks one right behind the other:
//!
//! ```text
//! file     0 "LVRTBLKS"  8 version u32  12 zero u32  16 file number u64  24 crc32c of 0..24  28 zeros ..512
//! block    0 "LVBK"      4 crc32c of 8..48           8 queue u64        16 first position u64
//!         24 count u32  28 payload length u32       32 payload crc32c   36 own offset u32
//!         40 file number u64                        48 payload
//! ```
//! A header says where it lies, so that neither a write gone astray nor a body that looks like a block passes.

use leveret_broker::names::QueueId;
use leveret_broker::store::{BlockError, BlockLocation};

use crate::octets::Reader;

/// Version of the layout above.
pub const FORMAT_VERSION: u32 = 1;

/// Octets before the first block of a file.
pub(super) const FILE_HEADER_BYTES: u32 = 512;

/// Octets before a block's payload.
pub(super) const BLOCK_HEADER_BYTES: u32 = 48;

const FILE_MAGIC: [u8; 8] = *b"LVRTBLKS";
pub(super) const BLOCK_MAGIC: [u8; 4] = *b"LVBK";

/// Octets of a file header that its checksum covers.
const FILE_HEADER_CHECKED: usize = 24;

/// A file's header.
pub(super) fn file_header(number: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(FILE_HEADER_BYTES as usize);
    header.extend_from_slice(&FILE_MAGIC);
    header.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    header.extend_from_slice(&[0; 4]);
    header.extend_from_slice(&number.to_le_bytes());
    header.extend_from_slice(&crc32c::crc32c(&header).to_le_bytes());
    header.resize(FILE_HEADER_BYTES as usize, 0);
    header
}

/// The file number of a file header; what is wrong with it otherwise.
pub(super) fn read_file_header(header: &[u8]) -> Result<u64, String> {
    let damaged = || "the file's header is damaged".to_owned();
    let mut reader = Reader::new(header);
    if reader.take(FILE_MAGIC.len()) != Some(&FILE_MAGIC) {
        return Err("this is not a file of blocks".to_owned());
    }
    let version = reader.u32().ok_or_else(damaged)?;
    let number = reader.u32().and_then(|_| reader.u64()).ok_or_else(damaged)?;
    let checked = header.get(..FILE_HEADER_CHECKED).ok_or_else(damaged)?;
    if reader.u32() != Some(crc32c::crc32c(checked)) {
        return Err(damaged());
    }
    if version > FORMAT_VERSION {
        return Err(format!("the file has format {version}, this version knows up to {FORMAT_VERSION}"));
    }
    Ok(number)
}

/// What stands before a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockHeader {
    pub(super) queue: QueueId,
    pub(super) first_position: u64,
    pub(super) count: u32,
    pub(super) payload_length: u32,
    pub(super) payload_crc: u32,
    pub(super) file: u64,
    pub(super) offset: u32,
}

impl BlockHeader {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut checked = Vec::with_capacity(BLOCK_HEADER_BYTES as usize);
        checked.extend_from_slice(&self.queue.0.to_le_bytes());
        checked.extend_from_slice(&self.first_position.to_le_bytes());
        checked.extend_from_slice(&self.count.to_le_bytes());
        checked.extend_from_slice(&self.payload_length.to_le_bytes());
        checked.extend_from_slice(&self.payload_crc.to_le_bytes());
        checked.extend_from_slice(&self.offset.to_le_bytes());
        checked.extend_from_slice(&self.file.to_le_bytes());
        let mut header = Vec::with_capacity(BLOCK_HEADER_BYTES as usize);
        header.extend_from_slice(&BLOCK_MAGIC);
        header.extend_from_slice(&crc32c::crc32c(&checked).to_le_bytes());
        header.extend_from_slice(&checked);
        header
    }

    /// The header at the front of `octets`, if one is there and whole.
    pub(super) fn decode(octets: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(octets.get(..BLOCK_HEADER_BYTES as usize)?);
        if reader.take(BLOCK_MAGIC.len())? != BLOCK_MAGIC {
            return None;
        }
        let crc = reader.u32()?;
        if crc != crc32c::crc32c(reader.rest()) {
            return None;
        }
        Some(Self {
            queue: QueueId(reader.u64()?),
            first_position: reader.u64()?,
            count: reader.u32()?,
            payload_length: reader.u32()?,
            payload_crc: reader.u32()?,
            offset: reader.u32()?,
            file: reader.u64()?,
        })
    }

    /// Where this block lies, if its length can be that of a block.
    pub(super) fn location(&self) -> Option<BlockLocation> {
        let length = self.payload_length.checked_add(BLOCK_HEADER_BYTES)?;
        Some(BlockLocation { file: self.file, offset: self.offset, length })
    }
}

/// Checks that `octets`, read at `location`, are the block asked for, whole.
pub(super) fn check_block(
    octets: &[u8],
    location: BlockLocation,
    queue: QueueId,
    first_position: u64,
) -> Result<(), BlockError> {
    let damaged = |what: &str| {
        BlockError::Damaged(format!("{what} at {} of file {:016x}", location.offset, location.file))
    };
    let header = BlockHeader::decode(octets).ok_or_else(|| damaged("the header of the block is damaged"))?;
    if header.location() != Some(location) {
        return Err(damaged("there is a block of another place"));
    }
    if (header.queue, header.first_position) != (queue, first_position) {
        return Err(damaged("there is a block of other messages"));
    }
    let payload = octets.get(BLOCK_HEADER_BYTES as usize..).unwrap_or_default();
    if crc32c::crc32c(payload) != header.payload_crc {
        return Err(damaged("the content of the block is damaged"));
    }
    Ok(())
}
