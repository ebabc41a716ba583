//! Bounds of connections and channels, each with its reason. What an operator may change is in the
//! configuration instead.

/// Smallest frame_max a client may ask for, and the largest frame before it was agreed. COMPAT: RabbitMQ
/// since 4.1; the specification's 4096 is too small for the tokens some clients log in with.
pub(crate) const FRAME_MAX_MIN: u32 = 8192;

/// A read takes at most this much; grown to from [`READ_BYTES_MIN`] while reads fill the buffer. With
/// 256 KiB the kernel's share of an octet is at its lowest.
pub(crate) const READ_BYTES_MAX: usize = 256 * 1024;

/// What a connection that was idle begins to read with.
pub(crate) const READ_BYTES_MIN: usize = 4 * 1024;

/// Octets of frames that may wait for one channel's task before its connection stops reading.
pub(crate) const INBOX_BYTES_MAX: usize = 1024 * 1024;

/// A channel gives its thread to others after this many octets of frames, so that one busy publisher
/// does not hold up every connection that shares the thread.
pub(crate) const CHANNEL_TURN_BYTES: usize = 512 * 1024;

/// Routes a channel remembers. At some 100 octets each, the cache stays below a few hundred KiB.
pub(crate) const ROUTES_CACHED_MAX: usize = 2048;

/// Queues a channel keeps batches for between two messages.
pub(crate) const TARGETS_MAX: usize = 4096;

/// Octets that one transaction may hold before its commit.
pub(crate) const TRANSACTION_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Slices given to one vectored write; the kernel takes 1024, beyond some dozens nothing is gained.
pub(crate) const WRITE_SLICES_MAX: usize = 64;

/// Write buffers up to this size stay with an idle connection.
pub(crate) const IDLE_WRITE_BYTES: usize = 1024;

/// An unauthenticated peer that misbehaves is dropped only after this long, to slow guessing.
/// COMPAT: RabbitMQ's silent close delay.
pub(crate) const SILENT_CLOSE_DELAY_MS: u64 = 3_000;

const _: () = assert!(READ_BYTES_MIN <= READ_BYTES_MAX);
