//! The broker process: listeners, the connections they accept, and an orderly end.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use leveret_broker::journal::MemoryJournal;
use leveret_broker::{Broker, ConnectionId};
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, info, warn};

use crate::config::Config;
use crate::connection::{self, Connection};

/// Connections that the kernel completes before they are accepted.
const LISTEN_BACKLOG: u32 = 4096;

/// How long to wait before accepting again when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the broker did not start.
#[derive(Debug, Error)]
pub(crate) enum StartError {
    /// An address to listen on is taken, not ours, or not permitted.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's reason.
        error: io::Error,
    },
    /// The data directory cannot be made.
    #[error("cannot create the data directory {path}: {error}")]
    DataDir {
        /// The directory.
        path: String,
        /// The system's reason.
        error: io::Error,
    },
    /// Signals cannot be waited for.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
}

/// What all connections share.
pub(crate) struct Server {
    pub(crate) config: Config,
    pub(crate) broker: Broker,
    connections: DashMap<ConnectionId, Arc<Connection>>,
    shutdown: watch::Sender<bool>,
}

impl Server {
    fn new(config: Config) -> Self {
        let broker = Broker::new(Arc::new(MemoryJournal));
        broker.create_vhost(&config.default_vhost);
        Self { config, broker, connections: DashMap::new(), shutdown: watch::Sender::new(false) }
    }

    pub(crate) fn register(&self, connection: &Arc<Connection>) {
        self.connections.insert(connection.id, Arc::clone(connection));
        if *self.shutdown.borrow() {
            connection.fail(shutdown_error());
        }
    }

    pub(crate) fn unregister(&self, connection: &Connection) {
        self.connections.remove(&connection.id);
    }

    /// The limit of open connections, if there are that many.
    pub(crate) fn connection_limit_reached(&self) -> Option<u32> {
        self.config.connections_max.filter(|&limit| self.connections.len() >= limit as usize)
    }

    /// Ends when the broker is told to stop.
    pub(crate) async fn shutting_down(&self) {
        // The sender lives as long as the server: there is no error to wait through.
        let _ = self.shutdown.subscribe().wait_for(|&down| down).await;
    }

    fn memory_limit(&self) -> usize {
        usize::try_from(self.config.memory_high_watermark_bytes).unwrap_or(usize::MAX)
    }

    /// Whether messages take more memory than publishers may fill.
    pub(crate) fn is_memory_alarmed(&self) -> bool {
        self.broker.memory().bytes() >= self.memory_limit()
    }

    /// Waits until publishers may go on.
    pub(crate) async fn memory_cleared(&self) {
        let (cleared, is_cleared) = oneshot::channel();
        let listener = Box::new(move || _ = cleared.send(()));
        self.broker.memory().when_below(self.memory_limit(), listener);
        // Not dropped unsent while the broker lives.
        let _ = is_cleared.await;
    }
}

fn shutdown_error() -> crate::error::AmqpError {
    connection::forced("broker forced connection closure with reason 'shutdown'")
}

/// Runs the broker until it is told to stop.
///
/// # Errors
/// It cannot start as configured.
pub(crate) async fn run(config: Config) -> Result<(), StartError> {
    let mut signals = Signals::new().map_err(StartError::Signals)?;
    create_data_dir(&config)?;
    let listeners = config.amqp_listen.iter().map(|&address| listen(address));
    let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
    let closing = Duration::from_millis(config.closing_timeout_ms);
    let server = Arc::new(Server::new(config));
    // Each connection holds a sender: the receiver ends when all are gone.
    let (alive, mut all_ended) = mpsc::channel::<Infallible>(1);
    for listener in listeners {
        if let Ok(address) = listener.local_addr() {
            info!(%address, "listening for AMQP connections");
        }
        tokio::spawn(accept(Arc::clone(&server), listener, alive.clone()));
    }
    drop(alive);
    info!("Server startup complete");

    info!("{} received: shutting down", signals.next().await);
    server.shutdown.send_replace(true);
    for connection in &server.connections {
        connection.fail(shutdown_error());
    }
    tokio::select! {
        _ = all_ended.recv() => info!("all connections closed"),
        () = tokio::time::sleep(closing) => warn!("connections left open after {closing:?}"),
        name = signals.next() => warn!("{name} received again: exiting at once"),
    }
    Ok(())
}

fn create_data_dir(config: &Config) -> Result<(), StartError> {
    let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.data_dir);
    created.map_err(|error| StartError::DataDir { path: config.data_dir.display().to_string(), error })
}

fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let bind = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restart must not wait for the kernel to forget old connections.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(LISTEN_BACKLOG)
    };
    bind().map_err(|error| StartError::Listen { address, error })
}

async fn accept(server: Arc<Server>, listener: TcpListener, alive: mpsc::Sender<Infallible>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = server.shutting_down() => return,
        };
        match accepted {
            Ok((socket, peer)) => {
                let (server, alive) = (Arc::clone(&server), alive.clone());
                tokio::spawn(async move {
                    connection::serve(server, socket, peer).await;
                    drop(alive);
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

/// The signals that stop the broker.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one and names it.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
