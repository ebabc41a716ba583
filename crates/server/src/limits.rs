//! Bounds of connections and channels, each with its reason. What an operator may change is in the
//! configuration instead.

/// Smallest frame_max a client may ask for, and the largest frame before it was agreed. COMPAT: RabbitMQ
/// since 4.1; the specification's 4096 is too small for the tokens some clients log in with.
pub(crate) const FRAME_MAX_MIN: u32 = 8192;

/// A read takes at most this much. With 256 KiB the kernel's share of an octet is at its lowest.
pub(crate) const READ_BYTES_MAX: usize = 256 * 1024;

/// Frames up to this many octets are copied out of the read buffer, which costs no more than sharing it and
/// does not keep all of it alive for them.
pub(crate) const COPIED_BYTES_MAX: usize = 1024;

/// Octets of frames that may wait for one channel's task before its connection stops reading.
pub(crate) const INBOX_BYTES_MAX: usize = 1024 * 1024;

/// Octets of frames that may wait for all of a connection's channels together: some that are held up must
/// not keep the others waiting, but 65 535 of them must not take a megabyte each either.
pub(crate) const BACKLOG_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Frames in a shared read buffer count as at least this share of it, so that the buffers kept alive by all
/// that waits are bounded as well.
pub(crate) const PINNED_SHARE: usize = 8;

/// A channel gives its thread to others after this many octets of frames, so that one busy publisher
/// does not hold up every connection that shares the thread.
pub(crate) const CHANNEL_TURN_BYTES: usize = 512 * 1024;

/// Routes a channel remembers. At some 100 octets each, the cache stays below a few hundred KiB.
pub(crate) const ROUTES_CACHED_MAX: usize = 2048;

/// Routing keys that a message may name in its headers CC and BCC: each is looked up, and goes into the journal.
pub(crate) const COPIES_MAX: usize = 1024;

/// Queues a channel keeps batches for between two messages.
pub(crate) const TARGETS_MAX: usize = 4096;

/// Octets that the transactions of a connection may hold together before their commits.
pub(crate) const UNCOMMITTED_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Octets of messages of which a part is still to come that the channels of a connection may hold together; twice the
/// largest message, where that is more. No client interleaves more than a few large messages.
pub(crate) const UNFINISHED_BYTES_MAX: usize = 128 * 1024 * 1024;

/// What a transaction holds is counted in steps of this many octets; less on all channels of a connection is little.
pub(crate) const COUNTED_STEP_BYTES: usize = 4 * 1024;

/// A content header of more octets than this is counted while its body is still to come; less on all channels of a
/// connection is little.
pub(crate) const COUNTED_HEADER_BYTES: usize = 4 * 1024;

/// Octets of answers that may wait on a channel until what they say is safe: more than a thousand, so that few
/// syncs make many declarations safe; no more, since a disk that fails lets them wait on all channels.
pub(crate) const REPLIES_BYTES_MAX: usize = 64 * 1024;

/// Octets of events that may wait to be published: some 64 000 of them. What comes on top is counted and lost, since
/// whoever declares must not wait for it.
pub(crate) const EVENTS_WAITING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Slices given to one vectored write; the kernel takes 1024, beyond some dozens nothing is gained.
pub(crate) const WRITE_SLICES_MAX: usize = 64;

/// Octets that a TLS record carries at most. SPEC: RFC 8446, 5.1.
pub(crate) const TLS_RECORD_BYTES: usize = 16 * 1024;

/// Octets that are encrypted for one write: while they are, the same session cannot be read, which takes some 20 us.
pub(crate) const TLS_WRITE_BYTES: usize = 4 * TLS_RECORD_BYTES;

/// Octets that a TLS handshake may leave unfinished: a message of 64 KiB, which holds a long chain of certificates, and
/// the records around it.
pub(crate) const TLS_HANDSHAKE_BYTES_MAX: usize = 96 * 1024;

/// TLS 1.2 sessions remembered for clients that know no tickets: some 200 octets each, and the certificates that the
/// client has shown.
pub(crate) const TLS_SESSIONS_MAX: usize = 2048;

/// Write buffers up to this size stay with an idle connection.
pub(crate) const IDLE_WRITE_BYTES: usize = 1024;

/// An unauthenticated peer that misbehaves is dropped only after this long, to slow guessing.
/// COMPAT: RabbitMQ's silent close delay.
pub(crate) const SILENT_CLOSE_DELAY_MS: u64 = 3_000;

const _: () = assert!(TLS_WRITE_BYTES.is_multiple_of(TLS_RECORD_BYTES));
const _: () = assert!(COPIED_BYTES_MAX <= READ_BYTES_MAX);
const _: () = assert!(INBOX_BYTES_MAX <= BACKLOG_BYTES_MAX);
