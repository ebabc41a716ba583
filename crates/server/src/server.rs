//! The broker process: what all connections share, the start, and an orderly end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dashmap::DashMap;
use leveret_broker::access::Gone;
use leveret_broker::store::{JournalPosition, Store};
use leveret_broker::{Broker, BrokerError, ConnectionId};
use leveret_store::disk::{Disk, SystemDisk};
use leveret_store::{DurableStore, OpenError};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::admission::Admission;
use crate::alarms::{self, Alarms};
use crate::auth::Authenticator;
use crate::channel::timeouts::Timeouts;
use crate::config::Config;
use crate::connection::{self, Connection};
use crate::counters::ServerCounters;
use crate::defaults::{self, DefinitionsError};
use crate::durable;
use crate::events;
use crate::listeners::{self, Bound};
use crate::management;
use crate::observed;
use crate::timers::TimerThread;
use crate::tls::{self, Tls, TlsError};

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
    /// What TLS needs cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// What the data directory holds cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The first user cannot be made.
    #[error("cannot make the default user: {0}")]
    DefaultUser(#[from] BrokerError),
    /// The definitions to be loaded are not possible.
    #[error("cannot load definitions: {0}")]
    Definitions(#[from] DefinitionsError),
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// Signals cannot be waited for.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
}

/// What all connections share.
pub(crate) struct Server {
    pub(crate) config: Config,
    pub(crate) broker: Arc<Broker>,
    /// Name of this node, as told in copies of messages and events.
    pub(crate) node: String,
    pub(crate) alarms: Arc<Alarms>,
    pub(crate) timeouts: Arc<Timeouts>,
    pub(crate) counters: ServerCounters,
    pub(crate) authenticator: Authenticator,
    pub(crate) admission: Arc<Admission>,
    connections: DashMap<ConnectionId, Arc<Connection>>,
    /// Locked while the limits of memory are changed, so that they fit each other.
    limiting_memory: Mutex<()>,
    shutdown: watch::Sender<bool>,
}

impl Server {
    pub(crate) fn new(config: Config, store: Arc<dyn Store>) -> Self {
        let broker = Arc::new(Broker::new(store));
        let alarms = Arc::new(Alarms::new(config.memory_high_watermark_bytes, config.disk_free_limit_bytes));
        let timeouts = Arc::new(Timeouts::new(config.consumer_timeout_ms, Arc::clone(broker.clock())));
        let (counters, connections) = (ServerCounters::default(), DashMap::new());
        Self {
            config,
            broker,
            node: node_name(),
            alarms,
            timeouts,
            counters,
            authenticator: Authenticator::new(),
            admission: Arc::default(),
            connections,
            limiting_memory: Mutex::default(),
            shutdown: watch::Sender::new(false),
        }
    }

    /// Ends connections whose user or vhost is deleted, from now on.
    pub(crate) fn follow_deletions(self: &Arc<Self>) {
        let server = Arc::downgrade(self);
        self.broker.access().when_gone(Box::new(move |gone| {
            for connection in server.upgrade().iter().flat_map(|server| server.connections()) {
                match gone {
                    Gone::User(user) if connection.user == user.as_str() => {
                        connection.fail(user_deleted(user.as_str()))
                    }
                    Gone::Vhost(vhost) if connection.vhost.name == *vhost => {
                        connection.fail(vhost_deleted(vhost.as_str()));
                    }
                    _ => {}
                }
            }
        }));
    }

    pub(crate) fn register(&self, connection: &Arc<Connection>) {
        self.connections.insert(connection.id, Arc::clone(connection));
        self.counters.connections_opened.fetch_add(1, Ordering::Relaxed);
        if *self.shutdown.borrow() {
            connection.fail(shutdown_error());
        }
        // What was deleted before it was among the connections did not end it.
        if self.broker.access().user(&connection.user).is_none() {
            connection.fail(user_deleted(&connection.user));
        }
        let vhost = self.broker.vhost(connection.vhost.name.as_str());
        if !vhost.is_ok_and(|vhost| Arc::ptr_eq(&vhost, &connection.vhost)) {
            connection.fail(vhost_deleted(connection.vhost.name.as_str()));
        }
    }

    pub(crate) fn unregister(&self, connection: &Connection) {
        self.connections.remove(&connection.id);
        connection.place.give_back();
        self.counters.connection_ends(connection.traffic());
        self.counters.connections_closed.fetch_add(1, Ordering::Relaxed);
    }

    /// All that are open, the oldest first.
    pub(crate) fn connections(&self) -> Vec<Arc<Connection>> {
        let mut connections: Vec<_> = self.connections.iter().map(|one| Arc::clone(&one)).collect();
        connections.sort_by_key(|connection| connection.id);
        connections
    }

    /// An open one.
    pub(crate) fn connection(&self, id: ConnectionId) -> Option<Arc<Connection>> {
        self.connections.get(&id).map(|found| Arc::clone(&found))
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

    /// Changes from when on publishers wait for memory, and with it how much of that messages may take before they
    /// leave it: without the one, the other could keep publishers waiting for what nobody does.
    pub(crate) fn limit_memory(&self, high_watermark_bytes: u64) {
        let _limiting = self.limiting_memory.lock();
        self.broker.limit_cache(durable::cache_bytes(&self.config, high_watermark_bytes));
        self.alarms.limit_memory(self.broker.memory(), high_watermark_bytes);
    }

    /// Raises the alarm if messages take more memory than publishers may fill.
    pub(crate) fn watch_memory(&self) {
        if self.alarms.watch_memory(self.broker.memory()) {
            // It may be full of what lies outside of queues, for which nobody has asked their messages to leave it.
            self.broker.store().request_page_out();
        }
    }
}

/// COMPAT: a name, and up to its first dot that of the machine.
fn node_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim().split('.').next().filter(|host| !host.is_empty());
    format!("leveret@{}", host.unwrap_or("localhost"))
}

fn user_deleted(user: &str) -> crate::error::AmqpError {
    connection::forced(&format!("user '{user}' is deleted"))
}

fn vhost_deleted(vhost: &str) -> crate::error::AmqpError {
    connection::forced(&format!("vhost '{vhost}' is deleted"))
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
    let hangup = signal(SignalKind::hangup()).map_err(StartError::Signals)?;
    let tls = Tls::load(&config)?;
    // Bound at once, so that a port in use is told before anything else is done; clients are let in when all is
    // recovered.
    let bound = Bound::all(&config, tls.as_ref())?;
    let closing = Duration::from_millis(config.closing_timeout_ms);
    let (store, recovered) = durable::open(&config)?;
    let server = Arc::new(Server::new(config, Arc::<DurableStore>::clone(&store)));
    events::prepare(&server);
    durable::restore(&server.broker, recovered);
    events::start(&server);
    server.limit_memory(server.config.memory_high_watermark_bytes);
    durable::watch(&store, &server.alarms);
    store.run(Arc::clone(&server.broker)).map_err(StartError::Thread)?;
    server.follow_deletions();
    let mut begun = JournalPosition::SAFE;
    if server.config.load_definitions.is_none() {
        begun = defaults::make(&server)?;
    }
    start_alarms(&server);
    // First, so that nothing that is due goes out before everything is known again.
    server.broker.begin();
    if let Some(path) = &server.config.load_definitions {
        begun = defaults::load(&server, path)?;
    }
    defaults::wait_until_safe(&server, begun).await;
    let timers = TimerThread::start(&server.broker).map_err(StartError::Thread)?;
    let timeouts = Arc::clone(&server.timeouts);
    tokio::spawn(async move { timeouts.run().await });
    let listeners = bound.into_iter().map(Bound::listen).collect::<Result<Vec<_>, _>>()?;
    let node = observed::node(&server, &store, &listeners);
    // Each connection holds a sender: the receiver ends when all are gone.
    let (alive, mut all_ended) = mpsc::channel::<Infallible>(1);
    let of_api = listeners::serve_on(listeners, &server, &node, &alive);
    drop(alive);
    let api = management::start(&server, node, of_api).map_err(StartError::Thread)?;
    tokio::spawn(tls::reload_on(hangup, tls));
    info!("Server startup complete");

    // Outside of the log line: a level that leaves it out would leave the waiting out with it.
    let signal = signals.next().await;
    info!("{signal} received: shutting down");
    drop(api);
    server.shutdown.send_replace(true);
    for connection in &server.connections {
        connection.fail(shutdown_error());
    }
    tokio::select! {
        _ = all_ended.recv() => info!("all connections closed"),
        () = tokio::time::sleep(closing) => warn!("connections left open after {closing:?}"),
        name = signals.next() => {
            // What was confirmed is in the journal; the next start replays it.
            warn!("{name} received again: exiting at once");
            return Ok(());
        }
    }
    let closed = tokio::task::spawn_blocking(move || {
        drop(timers);
        durable::close(&store);
    });
    tokio::select! {
        _ = closed => {}
        name = signals.next() => warn!("{name} received again: exiting at once"),
    }
    Ok(())
}

/// Watches what publishers have to wait for, until the runtime ends.
fn start_alarms(server: &Server) {
    tokio::spawn(alarms::log_memory_alarms(Arc::clone(&server.alarms)));
    let data_dir = server.config.data_dir.clone();
    let free_bytes = Arc::new(move || SystemDisk.free_bytes(&data_dir));
    tokio::spawn(alarms::disk::watch(Arc::clone(&server.alarms), free_bytes));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::held::HeldStore;

    #[tokio::test]
    async fn messages_leave_memory_before_publishers_wait_for_it() {
        let flags = ["leveret", "--message-cache-bytes", "64MiB"].map(Into::into);
        let config = config::load(flags, []).expect("a good one").config;
        let server = Server::new(config, Arc::<HeldStore>::default());
        for (watermark, cache) in
            [(u64::MAX, 64 << 20), (100 << 20, 50 << 20), (8 << 20, 4 << 20), (0, 64 << 20), (1, 1)]
        {
            server.limit_memory(watermark);
            let raised = server.alarms.raised().has(alarms::Reason::Memory);
            let in_force = (server.broker.memory().cache_limit(), server.alarms.memory_limit(), raised);
            assert_eq!(in_force, (Some(cache), watermark, watermark == 0));
        }
    }
}
