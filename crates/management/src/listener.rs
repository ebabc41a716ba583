//! Sockets that HTTP is spoken on: accepted in a bounded number, secured where TLS comes first, and given up where a
//! peer does not read. TLS itself is the server's ([`Secure`]); what is asked for is the business of `http` and
//! `metrics`.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Sleep, sleep};
use tracing::warn;

/// How long to wait before accepting again when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Octets in both directions, encrypted or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection that HTTP may be spoken on.
pub type Socket = Box<dyn Stream>;

/// A handshake that goes on; nothing if it fails.
pub type Securing<'a> = Pin<Box<dyn Future<Output = Option<Socket>> + Send + 'a>>;

/// TLS, as a listener needs it.
pub trait Secure: Send + Sync {
    /// Shakes hands with a client, within a bounded time. Who fails is told of in the log, and gone.
    fn secure(&self, socket: TcpStream, peer: SocketAddr) -> Securing<'_>;
}

/// Where connections come in.
pub struct Listener {
    socket: TcpListener,
    tls: Option<Arc<dyn Secure>>,
}

impl Listener {
    /// One that takes HTTP as it is, or in TLS.
    #[must_use]
    pub fn new(socket: TcpListener, tls: Option<Arc<dyn Secure>>) -> Self {
        Self { socket, tls }
    }

    /// The same on the runtime of the caller.
    ///
    /// # Errors
    /// The socket cannot be watched there.
    pub(crate) fn moved_here(self) -> io::Result<Self> {
        let socket = TcpListener::from_std(self.socket.into_std()?)?;
        Ok(Self { socket, ..self })
    }

    /// Serves connections for ever, each in a task of its own, as many at a time as there are `places`; others wait to
    /// be accepted. A connection whose peer takes nothing of what is written to it for `write_timeout` fails.
    pub(crate) async fn accept<Served>(
        self,
        places: Arc<Semaphore>,
        write_timeout: Duration,
        serve: impl Fn(Socket, SocketAddr) -> Served + Clone + Send + 'static,
    ) where
        Served: Future<Output = ()> + Send + 'static,
    {
        loop {
            // Not closed as long as this task has it.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let (socket, peer) = match self.socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "cannot accept connections to HTTP");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (tls, serve) = (self.tls.clone(), serve.clone());
            tokio::spawn(async move {
                // Refused only by a socket that is closed, which the next read tells.
                let _ = socket.set_nodelay(true);
                let secured = match tls {
                    None => Some(Box::new(socket) as Socket),
                    Some(tls) => tls.secure(socket, peer).await,
                };
                if let Some(socket) = secured {
                    serve(Box::new(WriteTimeout::new(socket, write_timeout)), peer).await;
                }
                drop(place);
            });
        }
    }
}

/// A socket that fails when its peer takes nothing for too long. The time runs only while something waits to be
/// written.
struct WriteTimeout<S> {
    socket: S,
    limit: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> WriteTimeout<S> {
    fn new(socket: S, limit: Duration) -> Self {
        Self { socket, limit, waiting: None }
    }

    fn judge<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
    }
}

impl<S: Stream> AsyncRead for WriteTimeout<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<S: Stream> AsyncWrite for WriteTimeout<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, octets);
        self.judge(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.judge(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(context);
        self.judge(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.socket).poll_shutdown(context);
        self.judge(context, closed)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_nothing_is_given_up_and_one_that_reads_slowly_is_not() {
        let limit = Duration::from_secs(30);
        let (here, mut there) = tokio::io::duplex(1024);
        let mut socket = WriteTimeout::new(here, limit);
        let writing = tokio::spawn(async move { socket.write_all(&[7; 4096]).await });
        for _ in 0..4 {
            sleep(limit * 9 / 10).await;
            there.read_exact(&mut [0; 1024]).await.expect("octets come");
        }
        writing.await.expect("no panic").expect("all was read");

        let (here, _there) = tokio::io::duplex(1024);
        let mut socket = WriteTimeout::new(here, limit);
        let begun = tokio::time::Instant::now();
        let error = socket.write_all(&[7; 4096]).await.expect_err("nobody reads");
        assert_eq!((error.kind(), begun.elapsed()), (io::ErrorKind::TimedOut, limit));
    }
}
