//! The reading half of a connection: octets from the socket into a buffer, frames out of it. An idle
//! connection holds no buffer; busy ones share a few big ones per thread.

use std::cell::RefCell;
use std::io;

use bytes::{Buf, Bytes, BytesMut};
use leveret_codec::frame::{self, Frame, FrameError};

use super::socket::ReadHalf;
use crate::limits::{COPIED_BYTES_MAX, FRAME_MAX_MIN, READ_BYTES_MAX};

thread_local! {
    /// Buffers that no connection uses now.
    static SPARE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// Spare buffers kept per thread: as many as a few connections that read in turns need.
const SPARE_MAX: usize = 4;

/// A rest of a frame up to this size moves to a buffer of its own while more is waited for. All that a
/// stranger can leave unfinished is, so that one costs no more than what it sent.
const KEPT_REST_MAX: usize = FRAME_MAX_MIN as usize;

/// Why reading ended.
#[derive(Debug)]
pub(crate) enum ReadEnd {
    /// The peer closed its side, or the socket failed.
    Io(io::Error),
    /// What came is no frame.
    Malformed(FrameError),
}

impl From<io::Error> for ReadEnd {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Octets received and not yet taken as frames.
pub(crate) struct FrameReader {
    socket: ReadHalf,
    buffer: BytesMut,
}

impl FrameReader {
    /// Reads from `socket` what comes behind `received`.
    pub(super) fn new(socket: ReadHalf, received: BytesMut) -> Self {
        Self { socket, buffer: received }
    }

    /// What is received and not taken.
    pub(crate) fn received(&self) -> &[u8] {
        &self.buffer
    }

    /// Takes the first `count` octets of what is received, and says how many octets they keep alive.
    pub(crate) fn take(&mut self, count: usize) -> (Bytes, usize) {
        if count <= COPIED_BYTES_MAX {
            let copy = Bytes::copy_from_slice(self.buffer.get(..count).unwrap_or_default());
            self.buffer.advance(count);
            return (copy, count);
        }
        let pinned = READ_BYTES_MAX.max(self.buffer.capacity());
        (self.buffer.split_to(count).freeze(), pinned)
    }

    /// Forgets the first `count` octets.
    pub(crate) fn skip(&mut self, count: usize) {
        self.buffer.advance(count);
    }

    /// Waits until there is something to read; holds no large buffer meanwhile. Can be cancelled.
    pub(crate) async fn readable(&mut self) -> io::Result<()> {
        self.release_buffer();
        self.socket.readable().await
    }

    /// Reads what is there now: how many octets, 0 if it was a false alarm.
    ///
    /// # Errors
    /// The peer closed the connection, or the socket failed.
    pub(crate) async fn read(&mut self) -> io::Result<usize> {
        self.prepare_buffer();
        self.socket.read(&mut self.buffer).await
    }

    /// Waits for the next whole frame, for the parts of a connection that speak in turns.
    pub(crate) async fn next_frame<R>(
        &mut self,
        payload_size_max: u32,
        use_frame: impl FnOnce(Frame<'_>) -> R,
    ) -> Result<R, ReadEnd> {
        loop {
            match frame::decode_frame(&self.buffer, payload_size_max) {
                Err(error) => return Err(ReadEnd::Malformed(error)),
                Ok(Some((found, size))) => {
                    let result = use_frame(found);
                    self.buffer.advance(size);
                    return Ok(result);
                }
                Ok(None) => self.receive().await?,
            }
        }
    }

    /// Waits for at least one more octet.
    pub(crate) async fn receive(&mut self) -> io::Result<()> {
        loop {
            self.readable().await?;
            if self.read().await? > 0 {
                return Ok(());
            }
        }
    }

    /// A buffer with room for a full read, the rest of a frame at its front.
    fn prepare_buffer(&mut self) {
        if self.buffer.capacity() < READ_BYTES_MAX {
            let mut buffer = spare();
            buffer.extend_from_slice(&self.buffer);
            self.buffer = buffer;
        }
        // Room for what a frame may still lack; the buffer starts anew if channels hold on to it.
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES_MAX / 4 {
            self.buffer.reserve(READ_BYTES_MAX);
        }
    }

    /// Gives the buffer back unless it holds most of a large frame.
    fn release_buffer(&mut self) {
        if self.buffer.len() > KEPT_REST_MAX || self.buffer.capacity() <= KEPT_REST_MAX {
            return;
        }
        let rest = BytesMut::from(self.received());
        give_back(std::mem::replace(&mut self.buffer, rest));
    }
}

/// A buffer with room for a full read.
pub(super) fn spare() -> BytesMut {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| BytesMut::with_capacity(READ_BYTES_MAX))
}

/// Keeps a buffer for the next read on this thread. Only whole buffers: what channels still hold is theirs.
pub(super) fn give_back(mut buffer: BytesMut) {
    buffer.clear();
    if buffer.try_reclaim(READ_BYTES_MAX) {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARE_MAX {
                spare.push(buffer);
            }
        });
    }
}
