//! Sockets that HTTP is spoken on: accepted in a bounded number, secured where TLS comes first, and given up where a
//! peer does not read. TLS itself is the server's ([`Secure`]); what is asked for is the business of `http` and
//! `metrics`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tracing::{debug, warn};

/// How long to wait before accepting again when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Octets that a peer takes in time, unless fewer wait for it: it does not come to much to read now and then.
const TAKEN_BYTES_MIN: usize = 16 * 1024;

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

    /// Serves connections for ever, each in a task of its own, as many at a time as there are `places`; others wait
    /// to be accepted, or are closed if their address has as many as it may.
    /// A connection whose peer takes next to nothing of what is written to it for `write_timeout` fails.
    pub(crate) async fn accept<Served>(
        self,
        places: Arc<Places>,
        write_timeout: Duration,
        serve: impl Fn(Socket, SocketAddr) -> Served + Clone + Send + 'static,
    ) where
        Served: Future<Output = ()> + Send + 'static,
    {
        loop {
            // Not closed as long as this task has it.
            let Ok(free) = Arc::clone(&places.free).acquire_owned().await else { return };
            let (socket, peer) = match self.socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "cannot accept connections to HTTP");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = places.of(peer.ip(), free) else {
                debug!(%peer, "closing: its address has as many connections to HTTP as it may");
                continue;
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

/// Room for connections. A quarter of it is not for an address that has the rest.
pub(crate) struct Places {
    free: Arc<Semaphore>,
    of_address_max: usize,
    /// Taken ones. Locked alone.
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// Room for one connection, until it is dropped.
struct Place {
    places: Arc<Places>,
    address: IpAddr,
    _free: OwnedSemaphorePermit,
}

impl Places {
    /// Room for so many.
    pub(crate) fn new(count: usize) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(count));
        Arc::new(Self { free, of_address_max: count - count / 4, taken: Mutex::default() })
    }

    /// A place for an address, unless it has as many as it may. A network of 64 bits counts as one.
    fn of(self: &Arc<Self>, peer: IpAddr, free: OwnedSemaphorePermit) -> Option<Place> {
        let address = match peer.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
            address @ IpAddr::V4(_) => address,
        };
        let mut taken = self.taken.lock();
        let of_address = taken.entry(address).or_insert(0);
        if *of_address >= self.of_address_max {
            return None;
        }
        *of_address += 1;
        Some(Place { places: Arc::clone(self), address, _free: free })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut of_address) = self.places.taken.lock().entry(self.address) {
            *of_address.get_mut() -= 1;
            if *of_address.get() == 0 {
                of_address.remove();
            }
        }
    }
}

/// A socket that fails when its peer takes next to nothing for too long. The time runs only while something waits to
/// be written.
struct WriteTimeout<S> {
    socket: S,
    limit: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    /// Octets since then.
    taken: usize,
}

impl<S> WriteTimeout<S> {
    fn new(socket: S, limit: Duration) -> Self {
        Self { socket, limit, waiting: None, taken: 0 }
    }

    fn judge<T>(&mut self, context: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            return done;
        }
        let limit = self.limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read")))
    }

    fn judge_write(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(octets)) = written {
            self.taken = self.taken.saturating_add(octets);
            if self.taken >= TAKEN_BYTES_MIN {
                self.begin_anew();
            }
        }
        self.judge(context, written)
    }

    fn begin_anew(&mut self) {
        (self.waiting, self.taken) = (None, 0);
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
        self.judge_write(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.judge_write(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(context);
        if flushed.is_ready() {
            // Nothing waits any more.
            self.begin_anew();
        }
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

    #[test]
    fn an_address_leaves_places_for_others() {
        let places = Places::new(8);
        let place = |address: &str| {
            let free = Arc::clone(&places.free).try_acquire_owned().ok()?;
            places.of(address.parse().expect("an address"), free)
        };
        let mut held: Vec<_> = (0..9).filter_map(|_| place("192.0.2.1")).collect();
        assert_eq!((held.len(), places.free.available_permits()), (6, 2));
        held.extend(place("2001:db8::1"));
        held.extend(place("2001:db8::2:1"));
        assert_eq!(places.taken.lock().len(), 2, "one network");
        assert!(place("192.0.2.2").is_none(), "all are taken");
        held.clear();
        assert_eq!((places.free.available_permits(), places.taken.lock().len()), (8, 0));
        assert_eq!(Places::new(3).of_address_max, 3, "too few to keep any");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_reads_next_to_nothing_is_given_up_and_one_that_reads_slowly_is_not() {
        let limit = Duration::from_secs(30);
        let (here, mut there) = tokio::io::duplex(TAKEN_BYTES_MIN);
        let mut socket = WriteTimeout::new(here, limit);
        let writing = tokio::spawn(async move {
            socket.write_all(&[7; 4 * TAKEN_BYTES_MIN]).await?;
            // What waits is little, and then nothing.
            socket.flush().await?;
            sleep(limit * 2).await;
            socket.write_all(&[7; 100]).await
        });
        for _ in 0..4 {
            sleep(limit * 9 / 10).await;
            there.read_exact(&mut [0; TAKEN_BYTES_MIN]).await.expect("octets come");
        }
        there.read_exact(&mut [0; 100]).await.expect("octets come");
        writing.await.expect("no panic").expect("all was read");

        for portion in [0, 100] {
            let (here, mut there) = tokio::io::duplex(1024);
            let mut socket = WriteTimeout::new(here, limit);
            let reading = tokio::spawn(async move {
                while there.read_exact(&mut vec![0; portion]).await.is_ok() {
                    sleep(limit / 10).await;
                }
            });
            let begun = tokio::time::Instant::now();
            let error = socket.write_all(&[7; 4096]).await.expect_err("nobody reads");
            assert_eq!((error.kind(), begun.elapsed()), (io::ErrorKind::TimedOut, limit), "{portion}");
            reading.abort();
        }
    }
}
