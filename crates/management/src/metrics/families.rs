//! The metrics that RabbitMQ has as well, family by family. COMPAT: families, names, types and labels are RabbitMQ's;
//! what only means something in its virtual machine is left out.

use leveret_broker::counters::{DeathCounters, QueueCounters};
use leveret_broker::queue::QueueSnapshot;

use super::metric::{Kind, Metric};
use super::view::{ChannelNumbers, ConnectionNumbers, MemoryNumbers, NodeNumbers, TotalNumbers};
use crate::node::ChannelCounters;

/// A group of metrics that `/metrics/detailed` can be asked for by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    ConnectionChurn,
    NodeCoarse,
    Node,
    NodePersister,
    AuthAttempt,
    QueueCoarse,
    QueueConsumerCount,
    Queue,
    QueueDelivery,
    Channel,
    ChannelExchange,
    ChannelQueue,
    ConnectionCoarse,
    Connection,
    Exchange,
    VhostStatus,
    ExchangeBindings,
    ExchangeNames,
}

/// All of them, by name.
pub(super) const FAMILIES: [(&str, Family); 18] = [
    ("connection_churn_metrics", Family::ConnectionChurn),
    ("node_coarse_metrics", Family::NodeCoarse),
    ("node_metrics", Family::Node),
    ("node_persister_metrics", Family::NodePersister),
    ("auth_attempt_metrics", Family::AuthAttempt),
    ("queue_coarse_metrics", Family::QueueCoarse),
    ("queue_consumer_count", Family::QueueConsumerCount),
    ("queue_metrics", Family::Queue),
    ("queue_delivery_metrics", Family::QueueDelivery),
    ("channel_metrics", Family::Channel),
    ("channel_exchange_metrics", Family::ChannelExchange),
    ("channel_queue_metrics", Family::ChannelQueue),
    ("connection_coarse_metrics", Family::ConnectionCoarse),
    ("connection_metrics", Family::Connection),
    ("exchange_metrics", Family::Exchange),
    ("vhost_status", Family::VhostStatus),
    ("exchange_bindings", Family::ExchangeBindings),
    ("exchange_names", Family::ExchangeNames),
];

pub(super) static CONNECTION_CHURN: [Metric<NodeNumbers>; 7] = [
    Metric::counter("connections_opened_total", "Connections opened.", |n| n.totals.connections_opened),
    Metric::counter("connections_closed_total", "Connections closed, by whoever.", |n| {
        n.totals.connections_closed
    }),
    Metric::counter("channels_opened_total", "Channels opened.", |n| n.totals.channels_opened),
    Metric::counter("channels_closed_total", "Channels closed, by whoever.", |n| n.totals.channels_closed),
    Metric::counter("queues_declared_total", "Declarations of queues, of those that were there too.", |n| {
        n.queues_declared
    }),
    Metric::counter("queues_created_total", "Queues made.", |n| n.queues_created),
    Metric::counter("queues_deleted_total", "Queues deleted, for whatever reason.", |n| n.queues_deleted),
];

pub(super) static NODE_COARSE: [Metric<NodeNumbers>; 3] = [
    Metric::gauge("process_open_fds", "Open files and sockets.", |n| n.resources.open_files),
    Metric::gauge("process_resident_memory_bytes", "Memory of the process, as the kernel counts it.", |n| {
        n.resources.resident_bytes
    }),
    Metric::gauge("disk_space_available_bytes", "Free on the disk of the data directory.", |n| {
        n.resources.disk_free_bytes.unwrap_or_default()
    }),
];

pub(super) static NODE: [Metric<NodeNumbers>; 4] = [
    Metric::gauge("process_max_fds", "Most files and sockets that may be open.", |n| {
        n.resources.open_files_limit
    }),
    Metric::gauge("resident_memory_limit_bytes", "Memory of messages above which publishers wait.", |n| {
        n.resources.message_bytes_limit
    }),
    Metric::gauge("disk_space_available_limit_bytes", "Free disk space below which publishers wait.", |n| {
        n.resources.disk_free_limit
    }),
    Metric::seconds("erlang_uptime_seconds", Kind::Gauge, "Time since the start.", |n| {
        n.totals.uptime_ms as f64 / 1e3
    }),
];

pub(super) static NODE_PERSISTER: [Metric<NodeNumbers>; 3] = [
    Metric::counter("io_write_bytes_total", "Octets written to the journal.", |n| n.totals.journal_bytes),
    Metric::counter("io_sync_ops_total", "Syncs of the journal.", |n| n.totals.journal_syncs),
    Metric::seconds(
        "io_sync_time_seconds_total",
        Kind::Counter,
        "Time spent in syncs of the journal.",
        |n| n.totals.journal_sync_times.sum_ns as f64 / 1e9,
    ),
];

pub(super) static AUTH_ATTEMPT: [Metric<NodeNumbers>; 3] = [
    Metric::counter("auth_attempts_total", "Logins tried.", |n| {
        n.totals.logins_accepted + n.totals.logins_refused
    }),
    Metric::counter("auth_attempts_succeeded_total", "Logins accepted.", |n| n.totals.logins_accepted),
    Metric::counter("auth_attempts_failed_total", "Logins refused.", |n| n.totals.logins_refused),
];

pub(super) static QUEUE_COARSE: [Metric<QueueSnapshot>; 3] = [
    Metric::gauge("queue_messages_ready", "Messages that can be delivered.", |q| q.ready as u64),
    Metric::gauge("queue_messages_unacked", "Messages delivered and not settled.", |q| q.unacked as u64),
    Metric::gauge("queue_messages", "Messages, ready or unacked.", |q| (q.ready + q.unacked) as u64),
];

pub(super) static QUEUE_CONSUMER_COUNT: [Metric<QueueSnapshot>; 1] = [CONSUMERS];

const CONSUMERS: Metric<QueueSnapshot> =
    Metric::gauge("queue_consumers", "Consumers.", |q| q.consumers as u64);

pub(super) static QUEUE: [Metric<QueueSnapshot>; 5] = [
    CONSUMERS,
    Metric::gauge("queue_process_memory_bytes", "Memory held for messages.", |q| q.memory_bytes as u64),
    Metric::gauge("queue_messages_bytes", "Octets of the bodies of messages, ready or unacked.", |q| {
        q.ready_bytes + q.unacked_bytes
    }),
    Metric::gauge("queue_messages_ready_bytes", "Octets of the bodies of ready messages.", |q| q.ready_bytes),
    Metric::gauge("queue_messages_unacked_bytes", "Octets of the bodies of unacked messages.", |q| {
        q.unacked_bytes
    }),
];

pub(super) static QUEUE_DELIVERY: [Metric<QueueSnapshot>; 7] = [
    Metric::counter("queue_get_ack_total", "Messages fetched by basic.get, to be acknowledged.", |q| {
        q.counters.got
    }),
    Metric::counter("queue_get_total", "Messages fetched by basic.get without acknowledgement.", |q| {
        q.counters.got_no_ack
    }),
    Metric::counter("queue_messages_delivered_ack_total", "Messages delivered, to be acknowledged.", |q| {
        q.counters.delivered
    }),
    Metric::counter("queue_messages_delivered_total", "Messages delivered without acknowledgement.", |q| {
        q.counters.delivered_no_ack
    }),
    Metric::counter("queue_messages_redelivered_total", "Messages handed out that had been before.", |q| {
        q.counters.redelivered
    }),
    Metric::counter("queue_messages_acked_total", "Messages acknowledged.", |q| q.counters.acked),
    Metric::counter("queue_get_empty_total", "Calls of basic.get that found no message.", |q| {
        q.counters.got_empty
    }),
];

pub(super) static CHANNEL: [Metric<ChannelNumbers>; 7] = [
    Metric::gauge("channel_consumers", "Consumers.", |c| c.consumers),
    Metric::gauge("channel_messages_unacked", "Deliveries that are not settled.", |c| c.unacked),
    Metric::gauge("channel_messages_unconfirmed", "Publishes that are not confirmed yet.", |c| c.unconfirmed),
    Metric::gauge("channel_messages_uncommitted", "Messages that wait for a commit.", |c| c.uncommitted),
    Metric::gauge("channel_acks_uncommitted", "Settlements that wait for a commit.", |c| c.uncommitted_acks),
    Metric::gauge("consumer_prefetch", "Unsettled deliveries that each consumer may have.", |c| c.prefetch),
    Metric::gauge("channel_prefetch", "Unsettled deliveries that the channel may have.", |c| {
        c.global_prefetch
    }),
];

pub(super) static CHANNEL_EXCHANGE: [Metric<ChannelNumbers>; 4] = [
    Metric::counter("channel_messages_published_total", "Messages published.", |c| c.counters.published),
    Metric::counter("channel_messages_confirmed_total", "Publishes confirmed.", |c| c.counters.confirmed),
    Metric::counter(
        "channel_messages_unroutable_returned_total",
        "Mandatory messages that went nowhere and back.",
        |c| c.counters.returned,
    ),
    Metric::counter("channel_messages_unroutable_dropped_total", "Messages that went nowhere.", |c| {
        c.counters.dropped
    }),
];

pub(super) static CHANNEL_QUEUE: [Metric<ChannelNumbers>; 7] = [
    Metric::counter("channel_get_ack_total", "Messages fetched by basic.get, to be acknowledged.", |c| {
        c.counters.got
    }),
    Metric::counter("channel_get_total", "Messages fetched by basic.get without acknowledgement.", |c| {
        c.counters.got_no_ack
    }),
    Metric::counter("channel_messages_delivered_ack_total", "Messages delivered, to be acknowledged.", |c| {
        c.counters.delivered
    }),
    Metric::counter("channel_messages_delivered_total", "Messages delivered without acknowledgement.", |c| {
        c.counters.delivered_no_ack
    }),
    Metric::counter("channel_messages_redelivered_total", "Messages handed out that had been before.", |c| {
        c.counters.redelivered
    }),
    Metric::counter("channel_messages_acked_total", "Messages acknowledged.", |c| c.counters.acked),
    Metric::counter("channel_get_empty_total", "Calls of basic.get that found no message.", |c| {
        c.counters.got_empty
    }),
];

pub(super) static CONNECTION_COARSE: [Metric<ConnectionNumbers>; 2] = [
    Metric::counter("connection_incoming_bytes_total", "Octets received.", |c| c.received_bytes),
    Metric::counter("connection_outgoing_bytes_total", "Octets sent.", |c| c.sent_bytes),
];

pub(super) static CONNECTION: [Metric<ConnectionNumbers>; 4] = [
    Metric::counter("connection_incoming_packets_total", "Reads from sockets.", |c| c.reads),
    Metric::counter("connection_outgoing_packets_total", "Writes to sockets.", |c| c.writes),
    Metric::gauge("connection_pending_packets", "Connections that have something to send.", |c| c.pending),
    Metric::gauge("connection_channels", "Open channels.", |c| c.channels),
];

pub(super) static EXCHANGE: [Metric<u64>; 1] =
    [Metric::counter("exchange_messages_published_total", "Messages published.", |&published| published)];

pub(super) static VHOST_STATUS: [Metric<u64>; 1] =
    [Metric::gauge("vhost_status", "Whether the vhost works.", |&one| one)];

pub(super) static EXCHANGE_BINDINGS: [Metric<u64>; 1] =
    [Metric::gauge("exchange_bindings", "Bindings that lead from the exchange.", |&bindings| bindings)];

pub(super) static EXCHANGE_NAMES: [Metric<u64>; 1] =
    [Metric::gauge("exchange_name", "1 for each exchange there is.", |&one| one)];

pub(super) static QUEUE_INFO: [Metric<u64>; 1] =
    [Metric::gauge("queue_info", "1 for each queue; its labels say more of it.", |&one| one)];

pub(super) static TOTALS: [Metric<TotalNumbers>; 4] = [
    Metric::gauge("connections", "Open connections.", |t| t.connections),
    Metric::gauge("channels", "Open channels.", |t| t.channels),
    Metric::gauge("consumers", "Consumers.", |t| t.consumers),
    Metric::gauge("queues", "Queues.", |t| t.queues),
];

pub(super) static IDENTITY: [Metric<u64>; 1] =
    [Metric::untyped("identity_info", "1; its labels say which node this is.", |&one| one)];

pub(super) static BUILD: [Metric<u64>; 1] =
    [Metric::untyped("build_info", "1; its labels say what runs here.", |&one| one)];

pub(super) static ALARMS: [Metric<NodeNumbers>; 2] = [
    Metric::untyped("alarms_memory_used_watermark", "1 while publishers wait for memory.", |n| {
        u64::from(n.resources.memory_alarm)
    }),
    Metric::untyped("alarms_free_disk_space_watermark", "1 while publishers wait for the disk.", |n| {
        u64::from(n.resources.disk_alarm)
    }),
];

pub(super) static GLOBAL: [Metric<TotalNumbers>; 2] = [
    Metric::gauge("global_consumers", "Consumers.", |t| t.consumers),
    Metric::gauge("global_publishers", "Channels that have published.", |t| t.publishers),
];

pub(super) static GLOBAL_PUBLISHED: [Metric<ChannelCounters>; 6] = [
    Metric::counter("global_messages_received_total", "Messages published by clients.", |c| c.published),
    Metric::counter(
        "global_messages_received_confirm_total",
        "Messages published by clients that want confirms.",
        |c| c.to_confirm,
    ),
    Metric::counter("global_messages_routed_total", "Copies of messages that went to queues.", |c| c.routed),
    Metric::counter("global_messages_confirmed_total", "Publishes confirmed.", |c| c.confirmed),
    Metric::counter("global_messages_unroutable_dropped_total", "Messages that went nowhere.", |c| c.dropped),
    Metric::counter(
        "global_messages_unroutable_returned_total",
        "Mandatory messages that went nowhere and back.",
        |c| c.returned,
    ),
];

pub(super) static GLOBAL_DELIVERED: [Metric<QueueCounters>; 8] = [
    Metric::counter("global_messages_delivered_total", "Messages handed out in whatever way.", |q| {
        q.delivered + q.delivered_no_ack + q.got + q.got_no_ack
    }),
    Metric::counter(
        "global_messages_delivered_consume_manual_ack_total",
        "Messages delivered to consumers, to be acknowledged.",
        |q| q.delivered,
    ),
    Metric::counter(
        "global_messages_delivered_consume_auto_ack_total",
        "Messages delivered to consumers without acknowledgement.",
        |q| q.delivered_no_ack,
    ),
    Metric::counter(
        "global_messages_delivered_get_manual_ack_total",
        "Messages fetched by basic.get, to be acknowledged.",
        |q| q.got,
    ),
    Metric::counter(
        "global_messages_delivered_get_auto_ack_total",
        "Messages fetched by basic.get without acknowledgement.",
        |q| q.got_no_ack,
    ),
    Metric::counter("global_messages_get_empty_total", "Calls of basic.get that found no message.", |q| {
        q.got_empty
    }),
    Metric::counter("global_messages_redelivered_total", "Messages handed out that had been before.", |q| {
        q.redelivered
    }),
    Metric::counter("global_messages_acknowledged_total", "Messages acknowledged.", |q| q.acked),
];

pub(super) static DEAD_LETTERED: [Metric<DeathCounters>; 3] = [
    Metric::counter(
        "global_messages_dead_lettered_expired_total",
        "Messages whose time in the queue was over.",
        |d| d.expired,
    ),
    Metric::counter(
        "global_messages_dead_lettered_maxlen_total",
        "Messages for which the queue was too long.",
        |d| d.max_length,
    ),
    Metric::counter(
        "global_messages_dead_lettered_rejected_total",
        "Messages rejected without requeue.",
        |d| d.rejected,
    ),
];

pub(super) static DEAD_LETTERED_QUORUM: [Metric<DeathCounters>; 1] = [Metric::counter(
    "global_messages_dead_lettered_delivery_limit_total",
    "Messages that came back too often.",
    |d| d.delivery_limit,
)];

pub(super) static DEAD_LETTERED_SURELY: [Metric<u64>; 1] = [Metric::counter(
    "global_messages_dead_lettered_confirmed_total",
    "Dead letters that every target has safe.",
    |&confirmed| confirmed,
)];

/// Name and meaning of the histogram of sizes.
pub(super) const MESSAGE_SIZE: (&str, &str) =
    ("message_size_bytes", "Octets of the bodies of messages published by clients.");

pub(super) static MEMORY: [Metric<MemoryNumbers>; 4] = [
    Metric::gauge(
        "memory_classic_queue_erlang_process_bytes",
        "Memory held for messages of classic queues.",
        |m| m.classic,
    ),
    Metric::gauge(
        "memory_quorum_queue_erlang_process_bytes",
        "Memory held for messages of quorum queues.",
        |m| m.quorum,
    ),
    Metric::gauge("memory_client_connection_writer_bytes", "Octets that wait to be sent.", |m| m.waiting),
    Metric::gauge("memory_other_system_bytes", "Memory of the process beside that.", |m| m.other),
];
