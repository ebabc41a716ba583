//! The two halves of a connection's socket, with TLS or without. Whatever is the same for both is above; what is plain
//! costs a branch per read or write of the socket, and nothing per message.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::{BufMut, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::frames::{give_back, spare};
use super::outbound::{Outbound, Pending};
use super::writer::Cursor;
use crate::limits::{IDLE_WRITE_BYTES, READ_BYTES_MAX, TLS_RECORD_BYTES, TLS_WRITE_BYTES, WRITE_SLICES_MAX};
use crate::tls::{Outgoing, Session, Stage, TlsStream, plain_reason};

/// A socket on which AMQP is next.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(TlsStream),
}

impl Stream {
    /// One half to read from and one to write to. Reading may have something to write, for which it wakes the writer
    /// of `outbound`.
    pub(super) fn into_halves(self, outbound: &Arc<Outbound>) -> (ReadHalf, WriteHalf) {
        match self {
            Self::Plain(socket) => {
                let (read, write) = socket.into_split();
                (ReadHalf::Plain(read), WriteHalf::Plain(write))
            }
            Self::Tls(TlsStream { socket, session, rest }) => {
                let (read, write) = socket.into_split();
                let (session, outbound) = (Arc::new(Mutex::new(*session)), Arc::clone(outbound));
                let reader =
                    TlsReader { socket: read, session: Arc::clone(&session), rest, outbound, ended: false };
                let writer =
                    TlsWriter { socket: write, session, sending: Outgoing::default(), gathered: Vec::new() };
                (ReadHalf::Tls(Box::new(reader)), WriteHalf::Tls(Box::new(writer)))
            }
        }
    }
}

/// What frames are read from.
pub(super) enum ReadHalf {
    Plain(OwnedReadHalf),
    Tls(Box<TlsReader>),
}

impl ReadHalf {
    /// Waits until there may be something to read.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.readable().await,
            Self::Tls(reader) if reader.ended => Ok(()),
            Self::Tls(reader) => reader.socket.readable().await,
        }
    }

    /// Appends what is there now to `buffer`, which has room for a record: how many octets, 0 if it was a false alarm.
    pub(super) async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => read_now(socket, &mut buffer.limit(READ_BYTES_MAX)).await,
            Self::Tls(reader) => reader.read(buffer).await,
        }
    }
}

/// Reads once; the end is an error.
async fn read_now(socket: &mut OwnedReadHalf, buffer: &mut impl BufMut) -> io::Result<usize> {
    let mut read = pin!(socket.read_buf(buffer));
    poll_fn(|context| match read.as_mut().poll(context) {
        Poll::Pending => Poll::Ready(Ok(0)),
        Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
        Poll::Ready(result) => Poll::Ready(result),
    })
    .await
}

/// Records from a socket.
pub(super) struct TlsReader {
    socket: OwnedReadHalf,
    /// Locked by both halves, for the time of a decryption or encryption.
    session: Arc<Mutex<Session>>,
    /// The beginning of a record.
    rest: Vec<u8>,
    outbound: Arc<Outbound>,
    /// The peer has said that nothing more will come.
    ended: bool,
}

impl TlsReader {
    async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        if self.ended {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut incoming = spare();
        incoming.extend_from_slice(&self.rest);
        let room = (buffer.capacity() - buffer.len()).min(READ_BYTES_MAX).saturating_sub(self.rest.len());
        let read = read_now(&mut self.socket, &mut (&mut incoming).limit(room)).await;
        let decrypted = match read {
            Ok(0) | Err(_) => read,
            Ok(_) => self.decrypt(&mut incoming, buffer),
        };
        give_back(incoming);
        decrypted
    }

    fn decrypt(&mut self, incoming: &mut BytesMut, buffer: &mut BytesMut) -> io::Result<usize> {
        let before = buffer.len();
        let (taken, stage, has_outgoing) = {
            let mut session = self.session.lock();
            let (taken, stage) = session.receive(incoming, buffer);
            (taken, stage, session.has_outgoing())
        };
        self.rest.clear();
        self.rest.extend_from_slice(incoming.get(taken..).unwrap_or_default());
        if self.rest.is_empty() {
            self.rest = Vec::new();
        }
        if has_outgoing {
            // An answer of the session's own: a new key, or an alert.
            self.outbound.wake_writer();
        }
        let read = buffer.len() - before;
        match stage {
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidData, plain_reason(&error, &[0x16]))),
            Ok(Stage::PeerClosed) if read == 0 => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(stage) => {
                self.ended = stage == Stage::PeerClosed;
                Ok(read)
            }
        }
    }
}

/// What encoded frames are written to.
pub(super) enum WriteHalf {
    Plain(OwnedWriteHalf),
    Tls(Box<TlsWriter>),
}

impl WriteHalf {
    /// Writes all of `pending`, slices at their places.
    pub(super) async fn write_all(&mut self, pending: &Pending) -> io::Result<()> {
        match self {
            Self::Plain(socket) => write_plain(socket, pending).await,
            Self::Tls(writer) => writer.write_all(pending).await,
        }
    }

    /// Nothing is there to be written now: what the session has to say by itself goes out, and buffers are given back.
    pub(super) async fn rest(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(writer) => writer.rest().await,
        }
    }

    /// Closes the outgoing side.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.shutdown().await,
            Self::Tls(writer) => {
                writer.sending.clear();
                writer.session.lock().close(&mut writer.sending);
                writer.send().await?;
                writer.socket.shutdown().await
            }
        }
    }
}

async fn write_plain(socket: &OwnedWriteHalf, pending: &Pending) -> io::Result<()> {
    let mut cursor = Cursor::new(pending);
    while !cursor.is_at_end() {
        let written = if pending.slices.is_empty() {
            // PERF: one plain buffer is the case of all small messages.
            socket.try_write(cursor.octets())
        } else {
            let mut slices = [IoSlice::new(&[]); WRITE_SLICES_MAX];
            let count = cursor.fill(&mut slices);
            socket.try_write_vectored(slices.get(..count).unwrap_or_default())
        };
        match written {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => cursor.advance(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.writable().await?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Records to a socket. It alone writes, so that records leave in the order in which they were encrypted.
pub(super) struct TlsWriter {
    socket: OwnedWriteHalf,
    session: Arc<Mutex<Session>>,
    /// Records being written.
    sending: Outgoing,
    /// Plaintext of a record that is put together from several parts.
    gathered: Vec<u8>,
}

impl TlsWriter {
    async fn write_all(&mut self, pending: &Pending) -> io::Result<()> {
        let mut cursor = Cursor::new(pending);
        while !cursor.is_at_end() {
            self.sending.clear();
            self.encrypt_some(&mut cursor)?;
            self.send().await?;
        }
        Ok(())
    }

    async fn rest(&mut self) -> io::Result<()> {
        self.sending.clear();
        self.session.lock().take_outgoing(&mut self.sending);
        self.send().await?;
        if self.sending.capacity() + self.gathered.capacity() > IDLE_WRITE_BYTES {
            self.sending = Outgoing::default();
            self.gathered = Vec::new();
        }
        Ok(())
    }

    /// Writes the records that are ready.
    async fn send(&mut self) -> io::Result<()> {
        let mut rest = self.sending.as_slice();
        while !rest.is_empty() {
            match self.socket.try_write(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.socket.writable().await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Encrypts up to [`TLS_WRITE_BYTES`] in full records, as far as there is as much: parts that are large enough as
    /// they lie, others put together, so that a frame's header does not become a record of its own.
    fn encrypt_some(&mut self, cursor: &mut Cursor<'_>) -> io::Result<()> {
        let Self { session, sending, gathered, .. } = self;
        let mut session = session.lock();
        let mut room = TLS_WRITE_BYTES;
        while room > 0 && !cursor.is_at_end() {
            let part = cursor.part();
            let whole = part.len() - part.len() % TLS_RECORD_BYTES;
            let length = if cursor.is_last_part() { part.len() } else { whole }.min(room);
            let plaintext = if length > 0 {
                cursor.advance(length);
                room -= length;
                part.get(..length).unwrap_or_default()
            } else {
                gather(cursor, gathered);
                room -= TLS_RECORD_BYTES;
                gathered.as_slice()
            };
            let ended = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the TLS session has ended");
            session.encrypt(plaintext, sending).map_err(ended)?;
        }
        Ok(())
    }
}

/// Copies the next octets, up to a full record.
fn gather(cursor: &mut Cursor<'_>, gathered: &mut Vec<u8>) {
    gathered.clear();
    while gathered.len() < TLS_RECORD_BYTES && !cursor.is_at_end() {
        let part = cursor.part();
        let length = part.len().min(TLS_RECORD_BYTES - gathered.len());
        gathered.extend_from_slice(part.get(..length).unwrap_or_default());
        cursor.advance(length);
    }
}
