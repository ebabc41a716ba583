//! The server as whoever watches it sees it: what connections, channels and the process say of themselves, put
//! together on demand. The message path knows nothing of it but the counters it keeps.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use leveret_broker::{Broker, ConnectionId, Vhost};
use leveret_management::node::{
    Certificates, ChannelCounters as ChannelCounts, ChannelInfo, ConnectionInfo, ListenerInfo, Node,
    Published, Resources, SingleMessage, TlsInfo, Totals,
};
use leveret_store::DurableStore;
use leveret_store::disk::{Disk, SystemDisk};
use tokio::net::TcpListener;

use crate::COMPATIBLE_VERSION;
use crate::alarms::{self, Reason};
use crate::channel::Deliveries;
use crate::config::memory;
use crate::connection::{self, Connection};
use crate::counters::{ChannelCounters, SIZE_CLASSES};
use crate::listeners::Purpose;
use crate::server::Server;
use crate::single;
use crate::tls::Tls;

/// Octets of a page of memory.
const PAGE_BYTES: u64 = 4096;

/// The server as it is shown to whoever asks on one of the listeners.
pub(crate) fn node(
    server: &Arc<Server>,
    store: &Arc<DurableStore>,
    listeners: &[(TcpListener, Purpose)],
) -> Arc<dyn Node> {
    let told = |(listener, purpose): &(TcpListener, Purpose)| {
        Some(ListenerInfo { protocol: purpose.protocol(), address: listener.local_addr().ok()? })
    };
    let told = listeners.iter().filter_map(told).collect();
    // All have the same.
    let tls = listeners.iter().find_map(|(_, purpose)| purpose.tls.clone());
    Arc::new(ObservedNode::new(Arc::clone(server), Arc::clone(store), told, tls))
}

/// A running server.
pub(crate) struct ObservedNode {
    server: Arc<Server>,
    store: Arc<DurableStore>,
    listeners: Vec<ListenerInfo>,
    tls: Option<Arc<Tls>>,
    started: Instant,
}

impl ObservedNode {
    /// One that has just been started.
    fn new(
        server: Arc<Server>,
        store: Arc<DurableStore>,
        listeners: Vec<ListenerInfo>,
        tls: Option<Arc<Tls>>,
    ) -> Self {
        Self { server, store, listeners, tls, started: Instant::now() }
    }
}

impl Node for ObservedNode {
    fn broker(&self) -> &Arc<Broker> {
        &self.server.broker
    }

    fn name(&self) -> &str {
        &self.server.node
    }

    fn compatible_version(&self) -> &'static str {
        COMPATIBLE_VERSION
    }

    fn connections(&self) -> Vec<ConnectionInfo> {
        self.server.connections().iter().map(|connection| connection_info(connection)).collect()
    }

    fn channels(&self) -> Vec<ChannelInfo> {
        let connections = self.server.connections();
        connections
            .iter()
            .flat_map(|connection| connection.channels())
            .map(|one| channel_info(&one))
            .collect()
    }

    fn close_connection(&self, id: ConnectionId, reason: &str) -> bool {
        let found = self.server.connection(id);
        found.as_ref().inspect(|found| found.fail(connection::forced(reason))).is_some()
    }

    fn listeners(&self) -> Vec<ListenerInfo> {
        self.listeners.clone()
    }

    fn certificates(&self) -> Certificates {
        self.tls.as_ref().map(|tls| tls.certificates()).unwrap_or_default()
    }

    fn resources(&self) -> Resources {
        let (config, raised) = (&self.server.config, self.server.alarms.raised());
        let limit = rlimit::Resource::NOFILE.get().map_or(0, |(soft, _)| soft);
        Resources {
            message_bytes: self.server.broker.memory().bytes() as u64,
            message_bytes_limit: self.server.alarms.memory_limit(),
            message_cache_limit: config.message_cache_bytes,
            memory_alarm: raised.has(Reason::Memory),
            memory_bytes: memory::total_bytes(),
            resident_bytes: resident_bytes(),
            disk_free_bytes: SystemDisk.free_bytes(&config.data_dir).ok(),
            disk_free_limit: self.server.alarms.disk_limit(),
            disk_alarm: raised.is_disk_low(),
            open_files: entries_in("/proc/self/fd"),
            open_files_limit: limit,
            threads: entries_in("/proc/self/task"),
            data_dir: config.data_dir.display().to_string(),
            connections_limit: config.connections_max.map(u64::from),
            consumer_timeout_ms: config.consumer_timeout_ms,
            message_bytes_max: config.message_bytes_max,
        }
    }

    fn limit_memory(&self, bytes: u64) {
        self.server.alarms.limit_memory(self.server.broker.memory(), bytes);
    }

    fn limit_disk_free(&self, bytes: u64) {
        let free = SystemDisk.free_bytes(&self.server.config.data_dir);
        alarms::disk::limit(&self.server.alarms, bytes, free);
    }

    fn totals(&self) -> Totals {
        let counters = &self.server.counters;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let (mut channels, mut traffic) = (counters.of_closed_channels(), counters.of_closed_connections());
        for connection in self.server.connections() {
            traffic += connection.traffic();
            connection.channels().iter().for_each(|channel| channels += counted(channel));
        }
        let journal = self.store.journal_stats();
        let bounds = SIZE_CLASSES.into_iter().map(Some).chain([None]);
        Totals {
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            connections_opened: count(&counters.connections_opened),
            connections_closed: count(&counters.connections_closed),
            channels_opened: count(&counters.channels_opened),
            channels_closed: count(&counters.channels_closed),
            logins_accepted: count(&counters.logins_accepted),
            logins_refused: count(&counters.logins_refused),
            traffic,
            channels: counts_of(&channels),
            queues: self.server.broker.queue_totals(),
            message_sizes: bounds.zip(channels.sizes.classes).collect(),
            message_size_sum: channels.sizes.bytes,
            duplicates_dropped: self.server.broker.counters().duplicates_dropped(),
            journal_syncs: journal.syncs,
            journal_sync_times: journal.sync_times,
            journal_bytes: journal.written_bytes,
            journal_waiting_bytes: self.store.journal_waiting_bytes() as u64,
        }
    }

    fn publish(&self, vhost: &Vhost, message: &SingleMessage<'_>) -> Result<Published, (u16, String)> {
        single::publish(&self.server, vhost, message).map_err(|error| (error.code as u16, error.reply_text()))
    }
}

fn connection_info(connection: &Connection) -> ConnectionInfo {
    let (sent_bytes, writes, waiting_bytes) = connection.outbound.sent();
    ConnectionInfo {
        id: connection.id,
        name: connection.name.clone(),
        user: connection.user.clone(),
        vhost: connection.vhost.name.to_string(),
        peer: connection.peer,
        local: connection.local,
        mechanism: connection.mechanism.clone(),
        client_properties: connection.client_properties.clone(),
        opened_at: connection.opened_at,
        heartbeat_s: connection.heartbeat.as_secs(),
        frame_max: connection.frame_max,
        channel_max: connection.channel_max,
        channels: connection.channels().len(),
        is_blocked: connection.is_blocked(),
        received: connection.received.totals(),
        sent: (sent_bytes, writes),
        waiting_bytes,
        tls: connection.tls.as_ref().map(|tls| TlsInfo {
            protocol: tls.version.to_owned(),
            key_exchange: tls.key_exchange.clone(),
            cipher: tls.cipher.clone(),
            peer_subject: tls.identity.as_ref().map(|identity| identity.subject.clone()),
            peer_issuer: tls.identity.as_ref().map(|identity| identity.issuer.clone()),
            peer_validity: tls.identity.as_ref().map(|identity| identity.validity.clone()),
        }),
    }
}

fn channel_info(channel: &Deliveries) -> ChannelInfo {
    let (shown, connection) = (*channel.shown.lock(), &channel.connection);
    let state = channel.state.lock();
    let counters =
        ChannelCounters { publishes: shown.publishes, sizes: shown.sizes, deliveries: state.counters };
    ChannelInfo {
        connection: connection.id,
        connection_name: connection.name.clone(),
        peer: connection.peer,
        user: connection.user.clone(),
        vhost: connection.vhost.name.to_string(),
        number: channel.channel,
        consumers: state.consumers.len(),
        unacked: state.unacked.len(),
        prefetch: shown.consumer_prefetch,
        global_prefetch: state.prefetch,
        is_confirming: shown.is_confirming,
        unconfirmed: shown.unconfirmed,
        is_transactional: shown.transaction.is_some(),
        uncommitted: shown.transaction.map_or(0, |waiting| waiting.messages),
        uncommitted_acks: shown.transaction.map_or(0, |waiting| waiting.settlements),
        counters: counts_of(&counters),
    }
}

fn counted(channel: &Deliveries) -> ChannelCounters {
    let shown = *channel.shown.lock();
    let deliveries = channel.state.lock().counters;
    ChannelCounters { publishes: shown.publishes, sizes: shown.sizes, deliveries }
}

fn counts_of(counters: &ChannelCounters) -> ChannelCounts {
    let ChannelCounters { publishes, deliveries, .. } = counters;
    ChannelCounts {
        published: publishes.published,
        to_confirm: publishes.to_confirm,
        routed: publishes.routed,
        confirmed: publishes.confirmed,
        returned: publishes.returned,
        dropped: publishes.dropped,
        delivered: deliveries.delivered,
        delivered_no_ack: deliveries.delivered_no_ack,
        got: deliveries.got,
        got_no_ack: deliveries.got_no_ack,
        got_empty: deliveries.got_empty,
        redelivered: deliveries.redelivered,
        acked: deliveries.acked,
    }
}

/// As the kernel counts it; 0 where it does not tell.
fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * PAGE_BYTES
}

fn entries_in(folder: &str) -> u64 {
    fs::read_dir(folder).map_or(0, |entries| entries.count() as u64)
}
