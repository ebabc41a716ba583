//! Reads a segment file from end to end without the catalog: for the offline check, and to find blocks again
//! when the catalog is lost.

use std::io;
use std::path::Path;

use bytes::Bytes;
use leveret_broker::names::QueueId;
use leveret_broker::store::{BlockError, BlockLocation};

use super::file_name;
use super::files::Kind;
use super::format::{self, BLOCK_HEADER_BYTES, BLOCK_MAGIC, BlockHeader, FILE_HEADER_BYTES};
use crate::disk::{Disk, DiskFile, read_exact_at};

/// Octets read at once.
const PIECE_BYTES: u64 = 1 << 20;

/// Something found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scanned {
    /// A block whose header is whole.
    Block {
        /// Where it lies.
        location: BlockLocation,
        /// The queue.
        queue: QueueId,
        /// Position of its first message.
        first_position: u64,
        /// Positions it covers.
        count: u32,
        /// Whether its content is whole too.
        is_whole: bool,
    },
    /// No block begins here: the end of a write that was cut off, or damage.
    Unreadable {
        /// Where this begins.
        offset: u64,
        /// Up to the next block or the end of the file.
        length: u64,
    },
}

/// Calls `visit` with everything in the file at `path`, in the order in which it lies there. Returns the number
/// of the file.
///
/// # Errors
/// The disk fails ([`io::ErrorKind::InvalidData`]: the file's own header is damaged or newer than this version).
pub fn scan(disk: &dyn Disk, path: &Path, visit: &mut dyn FnMut(Scanned)) -> io::Result<u64> {
    let file = disk.open(path)?;
    let size = file.size()?;
    let header = read_piece(&*file, 0, u64::from(FILE_HEADER_BYTES).min(size))?;
    let number = format::read_file_header(&header)
        .map_err(|what| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {what}", path.display())))?;
    let mut offset = u64::from(FILE_HEADER_BYTES);
    while offset < size {
        if let Some(header) = header_at(&*file, offset, size, number)? {
            let content = offset + u64::from(BLOCK_HEADER_BYTES);
            let length = u64::from(header.payload_length);
            let is_whole =
                content + length <= size && checksum(&*file, content, length)? == header.payload_crc;
            visit(found(&header, is_whole));
            // The header is whole, so its length is right and the next block lies behind.
            offset = content + length;
        } else {
            let next = next_header(&*file, offset + 1, size, number)?;
            visit(Scanned::Unreadable { offset, length: next - offset });
            offset = next;
        }
    }
    Ok(number)
}

/// Reads the block at `location` below the folder `dir` of the options, as `queue`'s from
/// `first_position` on: how many positions it says it covers, and its payload.
///
/// # Errors
/// The disk fails, or something else lies there.
pub fn read_block(
    disk: &dyn Disk,
    dir: &Path,
    location: BlockLocation,
    queue: QueueId,
    first_position: u64,
) -> Result<(u32, Bytes), BlockError> {
    let name = file_name(location.file);
    let file =
        disk.open(&dir.join(Kind::Durable.folder()).join(&name)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => BlockError::Damaged(format!("file {name} is missing")),
            _ => BlockError::Io(error),
        })?;
    let end = u64::from(location.offset) + u64::from(location.length);
    if location.length < BLOCK_HEADER_BYTES || end > file.size()? {
        return Err(BlockError::Damaged(format!("no block can be at {} of file {name}", location.offset)));
    }
    let mut octets = vec![0; location.length as usize];
    read_exact_at(&*file, &mut octets, u64::from(location.offset))?;
    format::check_block(&octets, location, queue, first_position)?;
    let count = BlockHeader::decode(&octets).map_or(0, |header| header.count);
    let mut payload = Bytes::from(octets);
    Ok((count, payload.split_off(BLOCK_HEADER_BYTES as usize)))
}

fn found(header: &BlockHeader, is_whole: bool) -> Scanned {
    let length = header.payload_length.saturating_add(BLOCK_HEADER_BYTES);
    Scanned::Block {
        location: BlockLocation { file: header.file, offset: header.offset, length },
        queue: header.queue,
        first_position: header.first_position,
        count: header.count,
        is_whole,
    }
}

/// The header of a block that begins at `offset` and knows that it does.
fn header_at(file: &dyn DiskFile, offset: u64, size: u64, number: u64) -> io::Result<Option<BlockHeader>> {
    let octets = read_piece(file, offset, u64::from(BLOCK_HEADER_BYTES).min(size.saturating_sub(offset)))?;
    let header = BlockHeader::decode(&octets);
    Ok(header.filter(|header| {
        u64::from(header.offset) == offset && header.file == number && header.location().is_some()
    }))
}

/// Where the next whole header is, from `offset` on; the end of the file if there is none.
fn next_header(file: &dyn DiskFile, mut offset: u64, size: u64, number: u64) -> io::Result<u64> {
    while offset < size {
        let piece = read_piece(file, offset, PIECE_BYTES.min(size - offset))?;
        for (at, octets) in piece.windows(BLOCK_MAGIC.len()).enumerate() {
            let candidate = offset + at as u64;
            if octets == BLOCK_MAGIC && header_at(file, candidate, size, number)?.is_some() {
                return Ok(candidate);
            }
        }
        // The magic may lie across the border of two pieces.
        let step = (piece.len() as u64).saturating_sub(BLOCK_MAGIC.len() as u64 - 1);
        offset += step.max(1);
    }
    Ok(size)
}

fn checksum(file: &dyn DiskFile, offset: u64, length: u64) -> io::Result<u32> {
    let mut crc = 0;
    let mut done = 0;
    while done < length {
        let piece = read_piece(file, offset + done, PIECE_BYTES.min(length - done))?;
        crc = crc32c::crc32c_append(crc, &piece);
        done += piece.len() as u64;
    }
    Ok(crc)
}

/// Reads `length` octets, at most [`PIECE_BYTES`].
fn read_piece(file: &dyn DiskFile, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut piece = vec![0; length.min(PIECE_BYTES) as usize];
    read_exact_at(file, &mut piece, offset)?;
    Ok(piece)
}
