//! What the server tells of itself: connections, channels, listeners, limits, counts. All of it as of one moment,
//! in the broker's own terms; how it is shown is not known here.

use std::net::SocketAddr;
use std::ops::AddAssign;
use std::sync::Arc;

use leveret_broker::counters::QueueTotals;
use leveret_broker::histogram::HistogramSnapshot;
use leveret_broker::store::JournalPosition;
use leveret_broker::time::Timestamp;
use leveret_broker::{Broker, ConnectionId, Vhost};
use leveret_codec::table::FieldTable;

/// A node, as whoever watches it sees it, and what can be changed of it. Nothing of it waits for clients.
pub trait Node: Send + Sync {
    /// What it keeps.
    fn broker(&self) -> &Arc<Broker>;

    /// Its name, as `leveret@host`.
    fn name(&self) -> &str;

    /// The name that it was given for where several are told apart, else its own.
    fn cluster_name(&self) -> String {
        self.broker().cluster_name().unwrap_or_else(|| self.name().to_owned())
    }

    /// The version of RabbitMQ that clients may take it for.
    fn compatible_version(&self) -> &'static str;

    /// Open connections, the oldest first.
    fn connections(&self) -> Vec<ConnectionInfo>;

    /// Open channels, those of a connection together, by number.
    fn channels(&self) -> Vec<ChannelInfo>;

    /// Ends a connection with 320 and this reason; `false` if it is not there.
    fn close_connection(&self, id: ConnectionId, reason: &str) -> bool;

    /// Where it listens.
    fn listeners(&self) -> Vec<ListenerInfo>;

    /// The certificates of its TLS listeners; none without.
    fn certificates(&self) -> Certificates;

    /// What it has, and may use.
    fn resources(&self) -> Resources;

    /// From now on until its end, publishers wait while messages take this many octets of memory or more.
    fn limit_memory(&self, bytes: u64);

    /// From now on until its end, publishers wait while fewer octets of disk are free than this; 0 for never.
    fn limit_disk_free(&self, bytes: u64);

    /// What has happened since it was started.
    fn totals(&self) -> Totals;

    /// Publishes a message as a client would.
    ///
    /// # Errors
    /// It is refused: reply code and text, as a channel would be told.
    fn publish(&self, vhost: &Vhost, message: &SingleMessage<'_>) -> Result<Published, (u16, String)>;
}

/// A message that comes without a channel.
#[derive(Clone, Copy, Debug)]
pub struct SingleMessage<'a> {
    /// Who publishes it.
    pub user: &'a str,
    /// Where to; the empty name is the default exchange.
    pub exchange: &'a str,
    /// With which key.
    pub routing_key: &'a str,
    /// Property flags and values as on the wire.
    pub properties: &'a [u8],
    /// The body.
    pub body: &'a [u8],
}

/// What became of a message.
#[derive(Clone, Copy, Debug)]
pub struct Published {
    /// It went somewhere in the eyes of mandatory.
    pub is_routed: bool,
    /// A queue it should have gone to has no place for it, or is stopped.
    pub is_refused: bool,
    /// From when on it is safe.
    pub safe_at: JournalPosition,
}

/// An open connection.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// Identity.
    pub id: ConnectionId,
    /// Both ends, `1.2.3.4:5555 -> 5.6.7.8:5672`.
    pub name: String,
    /// The user.
    pub user: String,
    /// The vhost.
    pub vhost: String,
    /// The client's address.
    pub peer: SocketAddr,
    /// Ours, if the system tells.
    pub local: Option<SocketAddr>,
    /// SASL mechanism of the login.
    pub mechanism: String,
    /// What the client says of itself.
    pub client_properties: FieldTable,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// Negotiated seconds between heartbeats; 0 for none.
    pub heartbeat_s: u64,
    /// Negotiated largest frame, in octets.
    pub frame_max: u32,
    /// Negotiated most channels.
    pub channel_max: u16,
    /// Open channels.
    pub channels: usize,
    /// It was told that publishing has to wait.
    pub is_blocked: bool,
    /// Octets received, and in how many reads.
    pub received: (u64, u64),
    /// Octets sent, and in how many writes.
    pub sent: (u64, u64),
    /// Octets that wait to be sent.
    pub waiting_bytes: usize,
    /// What the handshake of TLS came to, if there was one.
    pub tls: Option<TlsInfo>,
}

/// A TLS session.
#[derive(Clone, Debug, Default)]
pub struct TlsInfo {
    /// As `tlsv1.3`.
    pub protocol: String,
    /// How keys were exchanged, `any` with version 1.3.
    pub key_exchange: String,
    /// The cipher suite.
    pub cipher: String,
    /// The client certificate's subject, if it sent one.
    pub peer_subject: Option<String>,
    /// Who signed it.
    pub peer_issuer: Option<String>,
    /// From when until when it holds.
    pub peer_validity: Option<String>,
}

/// An open channel.
#[derive(Clone, Debug)]
pub struct ChannelInfo {
    /// Its connection.
    pub connection: ConnectionId,
    /// The connection's name.
    pub connection_name: String,
    /// The client's address.
    pub peer: SocketAddr,
    /// The user.
    pub user: String,
    /// The vhost.
    pub vhost: String,
    /// Its number.
    pub number: u16,
    /// Consumers on it.
    pub consumers: usize,
    /// Deliveries that are not settled.
    pub unacked: usize,
    /// Prefetch of consumers to come; 0 for no limit.
    pub prefetch: u16,
    /// Most unsettled deliveries of the whole channel; 0 for no limit.
    pub global_prefetch: u16,
    /// Publishes are confirmed.
    pub is_confirming: bool,
    /// Publishes that are not confirmed yet.
    pub unconfirmed: u64,
    /// It has transactions.
    pub is_transactional: bool,
    /// Messages that wait for the commit.
    pub uncommitted: usize,
    /// Settlements that wait for the commit.
    pub uncommitted_acks: usize,
    /// What it has done.
    pub counters: ChannelCounters,
}

/// What happened on a channel, or on several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelCounters {
    /// Messages published.
    pub published: u64,
    /// Of these: on a channel with confirms.
    pub to_confirm: u64,
    /// Copies of them that went to queues.
    pub routed: u64,
    /// Publishes confirmed.
    pub confirmed: u64,
    /// Mandatory messages that came back unroutable.
    pub returned: u64,
    /// Messages dropped as unroutable.
    pub dropped: u64,
    /// Delivered to consumers that acknowledge.
    pub delivered: u64,
    /// Delivered to consumers that do not.
    pub delivered_no_ack: u64,
    /// Fetched by basic.get, to be acknowledged.
    pub got: u64,
    /// Fetched by basic.get, and gone by that.
    pub got_no_ack: u64,
    /// basic.get found none.
    pub got_empty: u64,
    /// Of those delivered and fetched: had been before.
    pub redelivered: u64,
    /// Acknowledged.
    pub acked: u64,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerInfo {
    /// What is spoken there: `amqp`, `amqp/ssl`, `http`, `https`, `http/prometheus`, `https/prometheus`.
    pub protocol: &'static str,
    /// Where.
    pub address: SocketAddr,
}

/// The certificates in force.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    /// What clients are shown, the one for all first.
    pub served: Vec<CertificateFile>,
    /// By what clients' certificates are judged, if they are asked for any.
    pub authorities: Option<CertificateFile>,
}

/// A file of certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFile {
    /// Where.
    pub path: String,
    /// When each of them ends, in seconds since 1970.
    pub expires_s: Vec<u64>,
}

/// What a node has, and may use.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// Octets of memory that messages take.
    pub message_bytes: u64,
    /// Above, publishers wait.
    pub message_bytes_limit: u64,
    /// They do.
    pub memory_alarm: bool,
    /// Octets of memory of messages above which those needed last are on the disk alone.
    pub message_cache_limit: u64,
    /// Octets of memory that the process may take: the machine's, or its container's.
    pub memory_bytes: u64,
    /// Octets of memory that the process takes.
    pub resident_bytes: u64,
    /// Octets free on the disk of the data directory, if the system tells.
    pub disk_free_bytes: Option<u64>,
    /// Below, publishers wait; 0 for never.
    pub disk_free_limit: u64,
    /// They do.
    pub disk_alarm: bool,
    /// Open files and sockets.
    pub open_files: u64,
    /// Most of these.
    pub open_files_limit: u64,
    /// Threads of the process.
    pub threads: u64,
    /// Where everything is kept.
    pub data_dir: String,
    /// Connections that may be open at a time, if there is a limit.
    pub connections_limit: Option<u64>,
    /// Milliseconds after which a delivery that is not settled ends its channel, unless its queue says otherwise.
    pub consumer_timeout_ms: Option<u64>,
    /// Octets of a message's body, at most.
    pub message_bytes_max: u64,
}

/// What went over sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Octets received.
    pub received_bytes: u64,
    /// In how many reads.
    pub reads: u64,
    /// Octets sent.
    pub sent_bytes: u64,
    /// In how many writes.
    pub writes: u64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.received_bytes += other.received_bytes;
        self.reads += other.reads;
        self.sent_bytes += other.sent_bytes;
        self.writes += other.writes;
    }
}

/// What has happened since the start of the process. Counts of what is open and of what is closed are read one after
/// the other: what closes in between may be missing for a moment, and is never counted twice.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Milliseconds since then.
    pub uptime_ms: u64,
    /// Connections opened.
    pub connections_opened: u64,
    /// Connections closed.
    pub connections_closed: u64,
    /// Channels opened.
    pub channels_opened: u64,
    /// Channels closed.
    pub channels_closed: u64,
    /// Logins accepted.
    pub logins_accepted: u64,
    /// Logins refused.
    pub logins_refused: u64,
    /// What all connections received and sent, closed ones as well.
    pub traffic: Traffic,
    /// On all channels, closed ones as well.
    pub channels: ChannelCounters,
    /// In all queues, deleted ones as well.
    pub queues: QueueTotals,
    /// Upper bounds, in octets, and how many published messages were not larger than each and larger than the one
    /// before; the last one has no bound.
    pub message_sizes: Vec<(Option<u64>, u64)>,
    /// Octets of all published messages' bodies.
    pub message_size_sum: u64,
    /// Messages that exchanges dropped as duplicates.
    pub duplicates_dropped: u64,
    /// Syncs of the journal.
    pub journal_syncs: u64,
    /// How long each of them took.
    pub journal_sync_times: HistogramSnapshot,
    /// Octets written to the journal.
    pub journal_bytes: u64,
    /// Octets of the journal that wait to be written.
    pub journal_waiting_bytes: u64,
}
