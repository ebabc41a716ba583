//! A TLS session as a stream of octets, for HTTP, whose library brings its own buffers. AMQP has both halves of a
//! socket in two tasks, and `connection/socket.rs` for it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::{Outgoing, Session, Stage, TlsStream, plain_reason};
use crate::limits::{IDLE_WRITE_BYTES, TLS_HANDSHAKE_BYTES_MAX, TLS_RECORD_BYTES, TLS_WRITE_BYTES};

/// Octets in both directions over one session.
pub(crate) struct TlsOctets {
    socket: TcpStream,
    session: Box<Session>,
    /// Received, and no whole record yet.
    incoming: BytesMut,
    /// Decrypted, and not read yet.
    plaintext: BytesMut,
    /// Records, and how much of them the socket has taken.
    outgoing: Outgoing,
    sent: usize,
    /// The peer has said that nothing more will come, or just stopped.
    is_at_end: bool,
    /// The peer was told that nothing more will come.
    is_closed: bool,
}

impl TlsOctets {
    /// A session whose handshake is completed, and what came right behind it.
    pub(crate) fn new(stream: TlsStream, plaintext: BytesMut) -> Self {
        let TlsStream { socket, session, rest } = stream;
        Self {
            socket,
            session,
            incoming: BytesMut::from(rest.as_slice()),
            plaintext,
            outgoing: Outgoing::default(),
            sent: 0,
            is_at_end: false,
            is_closed: false,
        }
    }

    /// Reads what is there and decrypts it, until there is plaintext or the end.
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.plaintext.is_empty() && !self.is_at_end {
            ready!(self.socket.poll_read_ready(context))?;
            self.incoming.reserve(TLS_RECORD_BYTES);
            match self.socket.try_read_buf(&mut self.incoming) {
                Ok(0) => self.is_at_end = true,
                Ok(_) => self.decrypt(context)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if self.incoming.is_empty() {
            // A connection that idles between requests holds no buffer.
            self.incoming = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    fn decrypt(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let (taken, stage) = self.session.receive(&mut self.incoming, &mut self.plaintext);
        self.incoming.advance(taken);
        if self.session.has_outgoing() {
            // An answer of the session's own: a new key, or an alert. What does not go now goes with the next write.
            self.session.take_outgoing(&mut self.outgoing);
            if let Poll::Ready(Err(error)) = self.poll_send(context) {
                return Err(error);
            }
        }
        let invalid = |reason: String| Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        match stage {
            Err(error) => invalid(plain_reason(&error, &[0x16])),
            Ok(Stage::PeerClosed) => {
                self.is_at_end = true;
                Ok(())
            }
            Ok(_) if self.incoming.len() >= TLS_HANDSHAKE_BYTES_MAX => {
                invalid("a message of TLS does not come to an end".to_owned())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Writes the records that are ready.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let rest = self.outgoing.as_slice().get(self.sent..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            match ready!(Pin::new(&mut self.socket).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        self.sent = 0;
        if self.outgoing.capacity() > IDLE_WRITE_BYTES {
            self.outgoing = Outgoing::default();
        } else {
            self.outgoing.clear();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for TlsOctets {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_receive(context))?;
        let count = self.plaintext.len().min(buffer.remaining());
        buffer.put_slice(&self.plaintext.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TlsOctets {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(context))?;
        let Self { session, outgoing, .. } = &mut *self;
        let count = octets.len().min(TLS_WRITE_BYTES);
        let ended = |_| io::Error::new(io::ErrorKind::BrokenPipe, "the TLS session has ended");
        session.encrypt(octets.get(..count).unwrap_or_default(), outgoing).map_err(ended)?;
        // What the socket does not take now goes before the next octets, or with a flush.
        match self.poll_send(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(count)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.is_closed, true) {
            let Self { session, outgoing, .. } = &mut *self;
            session.close(outgoing);
        }
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
