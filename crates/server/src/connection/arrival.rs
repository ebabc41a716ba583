//! What comes before AMQP on a socket: the header of a proxy, and a TLS handshake. Both only where the configuration
//! asks for them, and within the time that the whole handshake has.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use leveret_codec::proxy::{self, ProxyError};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use super::socket::Stream;
use crate::auth::shown;
use crate::server::Server;
use crate::tls::{Tls, TlsFacts, TlsFailure};

/// A client that may begin to speak AMQP.
pub(super) struct Arrival {
    pub(super) stream: Stream,
    /// What it has said already.
    pub(super) received: BytesMut,
    pub(super) peer: SocketAddr,
    pub(super) local: Option<SocketAddr>,
    pub(super) tls: Option<Arc<TlsFacts>>,
}

/// Why nobody arrived.
enum Failure {
    /// The socket was closed or failed.
    Io(io::Error),
    /// What came is no header of a proxy.
    Proxy(ProxyError),
    /// There is no TLS session, for this reason.
    Tls(String),
}

impl From<TlsFailure> for Failure {
    fn from(failure: TlsFailure) -> Self {
        match failure {
            TlsFailure::Io(error) => Self::Io(error),
            TlsFailure::Refused(reason) => Self::Tls(reason),
        }
    }
}

impl Arrival {
    /// Waits for what has to come first, until the `deadline`. Who fails is told of in the log, and gone.
    pub(super) async fn receive(
        server: &Server,
        socket: TcpStream,
        peer: SocketAddr,
        tls: Option<Arc<Tls>>,
        deadline: Instant,
    ) -> Option<Self> {
        let local = socket.local_addr().ok();
        let mut ends = (peer, local);
        if tls.is_none() && !server.config.proxy_protocol {
            let stream = Stream::Plain(socket);
            return Some(Self { stream, received: BytesMut::new(), peer, local, tls: None });
        }
        let arriving = Box::pin(arrive(server.config.proxy_protocol, socket, &mut ends, tls));
        let arrived = tokio::select! {
            arrived = timeout_at(deadline, arriving) => arrived.ok(),
            () = server.shutting_down() => None,
        };
        let (peer, local) = ends;
        match arrived {
            Some(Ok((stream, received, tls))) => {
                Some(Self { stream, received, peer, local, tls: tls.map(Arc::new) })
            }
            Some(Err(failure)) => {
                failure.log(peer);
                None
            }
            None => {
                let limit = server.config.handshake_timeout_ms;
                warn!(%peer, "handshake not completed in {limit} ms, or the broker is shutting down");
                None
            }
        }
    }
}

impl Failure {
    fn log(&self, peer: SocketAddr) {
        match self {
            Self::Proxy(error) => warn!(%peer, "closing: {error}, and proxy_protocol is set"),
            Self::Tls(reason) => warn!(%peer, "TLS handshake failed: {}", shown(reason)),
            Self::Io(error) => debug!(%peer, "closed before it was open: {error}"),
        }
    }
}

async fn arrive(
    is_proxied: bool,
    mut socket: TcpStream,
    ends: &mut (SocketAddr, Option<SocketAddr>),
    tls: Option<Arc<Tls>>,
) -> Result<(Stream, BytesMut, Option<TlsFacts>), Failure> {
    let mut received = BytesMut::new();
    if is_proxied {
        let header = receive_header(&mut socket, &mut received).await?;
        if let Some(addresses) = header.addresses {
            *ends = (addresses.source, Some(addresses.destination));
        }
    }
    let Some(tls) = tls else { return Ok((Stream::Plain(socket), received, None)) };
    let (stream, plaintext, facts) = tls.accept(socket, received).await?;
    let identity = facts.identity.as_ref();
    debug!(
        peer = %ends.0,
        version = facts.version,
        cipher = facts.cipher,
        subject = identity.map(|identity| identity.subject.as_str()),
        common_name = identity.and_then(|identity| identity.common_name.as_deref()),
        "TLS handshake completed"
    );
    Ok((Stream::Tls(stream), plaintext, Some(facts)))
}

async fn receive_header(
    socket: &mut TcpStream,
    received: &mut BytesMut,
) -> Result<proxy::ProxyHeader, Failure> {
    loop {
        let read = socket.read_buf(received).await.map_err(Failure::Io)?;
        if read == 0 && !received.is_empty() {
            return Err(Failure::Proxy(ProxyError::Missing));
        }
        if read == 0 {
            // How some see whether the port is open.
            return Err(Failure::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        if let Some((header, size)) = proxy::decode(received).map_err(Failure::Proxy)? {
            received.advance(size);
            return Ok(header);
        }
    }
}
