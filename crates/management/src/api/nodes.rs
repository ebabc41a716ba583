//! The node: there is one.

use serde_json::{Map, Value, json};

use super::answer::{Answer, Answered};
use super::call::Call;
use super::listing::{self, View};
use super::overview::{CHURN, contexts, exchange_types, this_node};
use super::rates::Measured;
use crate::node::{Resources, Totals};
use crate::statistics::{OVERVIEW, overview_values};

/// What is built in, by the names of the plugins that RabbitMQ has for it.
const BUILT_IN: [&str; 10] = [
    "rabbitmq_auth_mechanism_ssl",
    "rabbitmq_consistent_hash_exchange",
    "rabbitmq_delayed_message_exchange",
    "rabbitmq_event_exchange",
    "rabbitmq_management",
    "rabbitmq_management_agent",
    "rabbitmq_message_deduplication",
    "rabbitmq_prometheus",
    "rabbitmq_random_exchange",
    "rabbitmq_recent_history_exchange",
];

/// GET nodes.
pub(crate) fn list(call: &Call) -> Answered {
    let shown = Shown::of(call);
    listing::list(call, vec![shown], |shown| shown.name.as_str(), |shown, view| shown.put(call, view))
}

/// GET nodes/:node.
pub(crate) fn show(call: &Call) -> Answered {
    this_node(call)?;
    let shown = Shown::of(call);
    listing::one(call, |view| shown.put(call, view))
}

/// GET nodes/:node/memory.
pub(crate) fn memory(call: &Call) -> Answered {
    this_node(call)?;
    Ok(Answer::Json(json!({ "memory": breakdown(&call.api.node.resources()) })))
}

/// GET nodes/:node/memory/relative: shares in per cent.
pub(crate) fn memory_shares(call: &Call) -> Answered {
    this_node(call)?;
    let resources = call.api.node.resources();
    let total = resources.resident_bytes.max(1) as f64;
    let Value::Object(bytes) = breakdown(&resources) else { return Ok(Answer::Json(Value::Null)) };
    let shares: Map<_, _> = bytes
        .into_iter()
        .filter_map(|(name, value)| Some((name, json!((value.as_f64()? * 100.0 / total).ceil() as u64))))
        .chain([("total".to_owned(), json!(100))])
        .collect();
    Ok(Answer::Json(json!({ "memory": shares })))
}

/// COMPAT: all of RabbitMQ's parts, which tools must have; what Leveret knows is how much messages take, and all.
fn breakdown(resources: &Resources) -> Value {
    const ABSENT: [&str; 27] = [
        "connection_readers",
        "connection_writers",
        "connection_channels",
        "connection_other",
        "queue_procs",
        "queue_slave_procs",
        "quorum_queue_procs",
        "quorum_queue_dlx_procs",
        "stream_queue_procs",
        "stream_queue_replica_reader_procs",
        "stream_queue_coordinator_procs",
        "plugins",
        "metadata_store",
        "metrics",
        "mgmt_db",
        "mnesia",
        "quorum_ets",
        "metadata_store_ets",
        "other_ets",
        "msg_index",
        "code",
        "atom",
        "other_system",
        "allocated_unused",
        "reserved_unallocated",
        "metadata_store_procs",
        "classic_queue_procs",
    ];
    let mut parts: Map<_, _> = ABSENT.iter().map(|&name| (name.to_owned(), json!(0))).collect();
    let others = resources.resident_bytes.saturating_sub(resources.message_bytes);
    parts.insert("binary".to_owned(), resources.message_bytes.into());
    parts.insert("other_proc".to_owned(), others.into());
    parts.insert("strategy".to_owned(), "rss".into());
    let total = resources.resident_bytes;
    parts.insert("total".to_owned(), json!({ "erlang": total, "rss": total, "allocated": total }));
    Value::Object(parts)
}

/// What is known of the node at one moment.
struct Shown {
    name: String,
    resources: Resources,
    totals: Totals,
    connections: usize,
    measured: Measured<OVERVIEW>,
}

impl Shown {
    fn of(call: &Call) -> Self {
        let node = &call.api.node;
        let (resources, totals) = (node.resources(), node.totals());
        let process = [
            resources.resident_bytes,
            resources.disk_free_bytes.unwrap_or_default(),
            resources.open_files,
            resources.threads,
        ];
        let values = overview_values(0, 0, &totals, &**node, process);
        let statistics = &call.api.statistics;
        let measured =
            Measured::new(values, statistics.overview()).over_time(call, || statistics.overview_history());
        let name = node.name().to_owned();
        Self { name, resources, totals, connections: node.connections().len(), measured }
    }

    fn put(&self, call: &Call, view: &mut View<'_>) {
        let (node, resources) = (&call.api.node, &self.resources);
        view.put("name", node.name());
        view.put("type", "disc");
        view.put("running", true);
        view.put("being_drained", false);
        view.put("os_pid", std::process::id().to_string());
        // COMPAT: a client reads it into 32 bits.
        view.put("uptime", self.totals.uptime_ms.min(u64::from(u32::MAX)));
        view.put("run_queue", 0);
        view.put("processors", std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
        view.put("rates_mode", "basic");
        view.put("net_ticktime", 60);
        view.put("partitions", json!([]));
        view.put("cluster_links", json!([]));
        view.put("mem_calculation_strategy", "rss");
        view.put("mem_limit", resources.message_bytes_limit);
        view.put("mem_alarm", resources.memory_alarm);
        view.put("disk_free_limit", resources.disk_free_limit);
        view.put("disk_free_alarm", resources.disk_alarm);
        view.put("fd_total", resources.open_files_limit);
        view.put("sockets_total", resources.open_files_limit);
        view.put("sockets_used", self.connections);
        view.put("sockets_used_details", json!({ "rate": 0.0 }));
        // COMPAT: a client must have a bound; threads have none but the system's.
        view.put("proc_total", 1_048_576);
        view.put_with("exchange_types", exchange_types);
        view.put("auth_mechanisms", mechanisms());
        view.put("applications", applications());
        view.put_with("contexts", || contexts(call));
        view.put("log_files", json!(["<stderr>"]));
        view.put("db_dir", resources.data_dir.as_str());
        view.put("config_files", json!([]));
        view.put("enabled_plugins", json!(BUILT_IN));
        view.put("ra_open_file_metrics", json!({ "ra_log_wal": 0, "ra_log_segment_writer": 0 }));
        view.put("metrics_gc_queue_length", json!({}));
        for (name, index) in [("mem_used", 21), ("disk_free", 22), ("fd_used", 23), ("proc_used", 24)] {
            self.put_measured(view, name, index);
        }
        CHURN.iter().for_each(|&(name, index)| self.put_measured(view, name, index));
        self.put_input_and_output(view);
    }

    fn put_measured(&self, view: &mut View<'_>, name: &str, index: usize) {
        view.put(name, self.measured.value(index));
        view.put_with(&format!("{name}_details"), || self.measured.details("node_stats", &[index]));
    }

    /// COMPAT: what RabbitMQ counts of its files and of Erlang. Syncs are the journal's, and what it has written.
    fn put_input_and_output(&self, view: &mut View<'_>) {
        const ABSENT: [&str; 19] = [
            "gc_num",
            "gc_bytes_reclaimed",
            "context_switches",
            "io_read_count",
            "io_read_bytes",
            "io_read_avg_time",
            "io_write_count",
            "io_write_avg_time",
            "io_sync_avg_time",
            "io_seek_count",
            "io_seek_avg_time",
            "io_reopen_count",
            "mnesia_ram_tx_count",
            "mnesia_disk_tx_count",
            "msg_store_read_count",
            "msg_store_write_count",
            "queue_index_write_count",
            "queue_index_read_count",
            "connection_refused",
        ];
        for name in ABSENT {
            view.put(name, 0);
            view.put_with(&format!("{name}_details"), || json!({ "rate": 0.0 }));
        }
        view.put("io_sync_count", self.totals.journal_syncs);
        view.put("io_sync_count_details", json!({ "rate": 0.0 }));
        view.put("io_write_bytes", self.totals.journal_bytes);
        view.put("io_write_bytes_details", json!({ "rate": 0.0 }));
    }
}

fn mechanisms() -> Value {
    json!([
        { "name": "PLAIN", "description": "SASL PLAIN authentication mechanism", "enabled": true },
        { "name": "AMQPLAIN", "description": "QPid AMQPLAIN mechanism", "enabled": true },
    ])
}

fn applications() -> Value {
    json!([{ "name": "leveret", "description": "Leveret", "version": env!("CARGO_PKG_VERSION") }])
}
