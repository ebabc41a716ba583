//! Where the broker listens: addresses are bound first of all, and clients let in when everything is recovered.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use leveret_management::listener::Listener;
use leveret_management::metrics;
use leveret_management::node::Node;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::{debug, info, warn};

use crate::config::Config;
use crate::connection;
use crate::management;
use crate::server::{Server, StartError};
use crate::tls::Tls;

/// Connections that the kernel completes before they are accepted.
const LISTEN_BACKLOG: u32 = 4096;

/// How long to wait before accepting again when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Open files that are no clients of AMQP or of the HTTP API: those of the store, scrapers, listeners, the runtime's.
const FILES_RESERVED: usize = 256;

/// What somebody listens for.
pub(crate) struct Purpose {
    spoken: Spoken,
    /// What comes first.
    pub(crate) tls: Option<Arc<Tls>>,
}

/// What is spoken where somebody listens.
#[derive(Clone, Copy)]
enum Spoken {
    /// AMQP.
    Amqp,
    /// HTTP, by scrapers of metrics.
    Metrics,
    /// HTTP, by users of the API.
    Management,
}

impl Purpose {
    /// COMPAT: what RabbitMQ calls it.
    pub(crate) fn protocol(&self) -> &'static str {
        match (self.spoken, self.tls.is_some()) {
            (Spoken::Amqp, false) => "amqp",
            (Spoken::Amqp, true) => "amqp/ssl",
            (Spoken::Metrics, false) => "http/prometheus",
            (Spoken::Metrics, true) => "https/prometheus",
            (Spoken::Management, false) => "http",
            (Spoken::Management, true) => "https",
        }
    }

    fn described(&self) -> &'static str {
        match (self.spoken, self.tls.is_some()) {
            (Spoken::Amqp, false) => "AMQP connections",
            (Spoken::Amqp, true) => "AMQP connections with TLS",
            (Spoken::Metrics, false) => "scrapers of metrics",
            (Spoken::Metrics, true) => "scrapers of metrics with TLS",
            (Spoken::Management, false) => "the HTTP API",
            (Spoken::Management, true) => "the HTTP API with TLS",
        }
    }
}

/// An address that is ours, and nobody is let in yet.
pub(crate) struct Bound {
    address: SocketAddr,
    socket: TcpSocket,
    purpose: Purpose,
}

impl Bound {
    /// All addresses to listen on.
    pub(crate) fn all(config: &Config, tls: Option<&Arc<Tls>>) -> Result<Vec<Self>, StartError> {
        let secured = config.amqps_addresses();
        let all = [
            (Spoken::Amqp, None, &config.amqp_listen),
            (Spoken::Amqp, tls, &secured),
            (Spoken::Metrics, None, &config.metrics_listen),
            (Spoken::Metrics, tls, &config.metrics_tls_listen),
            (Spoken::Management, None, &config.management_listen),
            (Spoken::Management, tls, &config.management_tls_listen),
        ];
        let all = all.into_iter().flat_map(|(spoken, tls, addresses)| {
            addresses.iter().map(move |&address| (address, Purpose { spoken, tls: tls.cloned() }))
        });
        let all: Vec<_> = all.collect();
        let of_ipv4 = all.iter().filter(|(address, _)| address.is_ipv4());
        let ports_of_ipv4: HashSet<u16> = of_ipv4.map(|(address, _)| address.port()).collect();
        let bind = |(address, purpose): (SocketAddr, Purpose)| {
            let is_ipv6_only = address.is_ipv6() && ports_of_ipv4.contains(&address.port());
            Self::bind(address, is_ipv6_only, purpose)
        };
        all.into_iter().map(bind).collect()
    }

    /// Unless it is told to be for IPv6 only, `[::]` takes clients of IPv4 as well.
    fn bind(address: SocketAddr, is_ipv6_only: bool, purpose: Purpose) -> Result<Self, StartError> {
        let bind = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            if is_ipv6_only {
                rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
            }
            // A restart must not wait for the kernel to forget old connections.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            Ok(socket)
        };
        let socket = bind().map_err(|error| StartError::Listen { address, error })?;
        Ok(Self { address, socket, purpose })
    }

    pub(crate) fn listen(self) -> Result<(TcpListener, Purpose), StartError> {
        let Self { address, socket, purpose } = self;
        let listener =
            socket.listen(LISTEN_BACKLOG).map_err(|error| StartError::Listen { address, error })?;
        if let Ok(address) = listener.local_addr() {
            info!(%address, "listening for {}", purpose.described());
        }
        Ok((listener, purpose))
    }
}

/// Lets clients in, but those of the HTTP API, whose listeners are given back: it has threads of its own.
pub(crate) fn serve_on(
    listeners: Vec<(TcpListener, Purpose)>,
    server: &Arc<Server>,
    node: &Arc<dyn Node>,
    alive: &mpsc::Sender<Infallible>,
) -> Vec<Listener> {
    let mut of_api = Vec::new();
    let places = Arc::new(Semaphore::new(places_for_clients(server.config.management_connections_max)));
    for (listener, Purpose { spoken, tls }) in listeners {
        match spoken {
            Spoken::Amqp => {
                _ = tokio::spawn(accept(
                    Arc::clone(server),
                    listener,
                    tls,
                    Arc::clone(&places),
                    alive.clone(),
                ))
            }
            Spoken::Metrics => {
                let listener = management::listener(server, listener, tls);
                tokio::spawn(metrics::serve(Arc::clone(node), listener));
            }
            Spoken::Management => of_api.push(management::listener(server, listener, tls)),
        }
    }
    of_api
}

/// How many clients of AMQP may be connected, so that there are files left for everything else. Half of them may be in
/// any case, where the limit of open files is very low.
fn places_for_clients(management_connections_max: usize) -> usize {
    let limit = rlimit::Resource::NOFILE.get().map_or(u64::MAX, |(soft, _)| soft);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
    let reserved = FILES_RESERVED.saturating_add(management_connections_max);
    limit.saturating_sub(reserved).max(limit / 2)
}

async fn accept(
    server: Arc<Server>,
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    places: Arc<Semaphore>,
    alive: mpsc::Sender<Infallible>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = next_client(&listener, &places) => accepted,
            () = server.shutting_down() => return,
        };
        match accepted {
            Ok((place, socket, peer)) => {
                let (server, tls, alive) = (Arc::clone(&server), tls.clone(), alive.clone());
                tokio::spawn(async move {
                    connection::serve(server, socket, peer, tls).await;
                    drop((place, alive));
                });
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {
                debug!(%error, "a client left before it was accepted");
            }
            Err(error) => {
                warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Waits for a place, and for a client to take it.
async fn next_client(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let place = match Arc::clone(places).try_acquire_owned() {
        Ok(place) => place,
        Err(_) => {
            warn!("as many clients are connected as the limit of open files leaves room for; others wait");
            Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?
        }
    };
    let (socket, peer) = listener.accept().await?;
    Ok((place, socket, peer))
}
