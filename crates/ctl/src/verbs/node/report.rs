//! The reports in sections: `status` and `cluster_status`.

use serde_json::{Value, json};

use super::{NO_ERLANG, in_unit, memory_parts, node_values, text};
use crate::api::ApiError;
use crate::call::Call;
use crate::failure::Failure;
use crate::output::{Format, Output};

pub(in crate::verbs) fn status(call: &mut Call<'_>) -> Result<(), Failure> {
    let name = call.node()?;
    call.announce(&format!("Status of node {name} ..."))?;
    let (overview, node) = (call.overview()?, node_values(call)?);
    let parts = memory_parts(call, &name)?;
    let vhosts = call.client()?.list("vhosts")?.len();
    let own = match call.client()?.get("leveret/status") {
        Err(ApiError::NotFound { .. }) => None,
        own => Some(own?),
    };
    let alarms = alarms(std::slice::from_ref(&node));
    if matches!(call.output.format, Format::Json | Format::JsonStream) {
        let status = status_values(&overview, &node, &parts, vhosts, &own);
        return call.output.json(&status);
    }
    let out = &mut call.output;
    runtime(out, &overview, &node)?;
    section(out, "Plugins", &bullets("Enabled plugins:", &node, "enabled_plugins"))?;
    section(out, "Data directory", &[format!("Node data directory: {}", text(&node, "db_dir"))])?;
    section(out, "Config files", &bullets("", &node, "config_files"))?;
    section(out, "Log file(s)", &bullets("", &node, "log_files"))?;
    section(out, "Alarms", &or_none(&alarms))?;
    section(out, "Memory", &memory(&node, &parts))?;
    section(
        out,
        "File Descriptors",
        &[
            format!("Total: {}, limit: {}", text(&node, "fd_used"), text(&node, "fd_total")),
            format!("Sockets: {}, limit: {}", text(&node, "sockets_used"), text(&node, "sockets_total")),
        ],
    )?;
    let gigabytes = |key: &str| in_unit(node.get(key).and_then(Value::as_f64).unwrap_or(0.0), "gb");
    let disk = [
        format!("Low free disk space watermark: {} gb", gigabytes("disk_free_limit")),
        format!("Free disk space: {} gb", gigabytes("disk_free")),
    ];
    section(out, "Free Disk Space", &disk)?;
    let total = |key: &str| {
        overview.pointer(&format!("/object_totals/{key}")).map(Value::to_string).unwrap_or_default()
    };
    let totals = [
        format!("Connection count: {}", total("connections")),
        format!("Queue count: {}", total("queues")),
        format!("Virtual host count: {vhosts}"),
    ];
    section(out, "Totals", &totals)?;
    if let Some(Value::Object(own)) = &own {
        let lines: Vec<String> = own.iter().map(|(key, value)| format!("{key}: {}", shown(value))).collect();
        section(out, "Leveret", &lines)?;
    }
    last_section(out, "Listeners", &listeners(&overview).iter().map(listener_text).collect::<Vec<_>>())
}

/// The state of the node as one object.
fn status_values(
    overview: &Value,
    node: &Value,
    parts: &[(String, f64, f64)],
    vhosts: usize,
    own: &Option<Value>,
) -> Value {
    let memory: Value = parts.iter().map(|(part, bytes, _)| (part.clone(), json!(*bytes as u64))).collect();
    json!({
        "pid": text(node, "os_pid").parse::<u64>().ok(),
        "uptime": node.get("uptime").and_then(Value::as_u64).map(|uptime| uptime / 1000),
        "is_under_maintenance": node.get("being_drained"),
        "rabbitmq_version": overview.get("rabbitmq_version"),
        "product_name": overview.get("product_name"),
        "product_version": overview.get("product_version"),
        "erlang_version": overview.get("erlang_full_version"),
        "active_plugins": node.get("enabled_plugins"),
        "data_directory": node.get("db_dir"),
        "config_files": node.get("config_files"),
        "log_files": node.get("log_files"),
        "alarms": alarms(std::slice::from_ref(node)),
        "memory": memory,
        "vm_memory_high_watermark_limit": node.get("mem_limit"),
        "vm_memory_calculation_strategy": node.get("mem_calculation_strategy"),
        "disk_free": node.get("disk_free"),
        "disk_free_limit": node.get("disk_free_limit"),
        "file_descriptors": {"total_used": node.get("fd_used"), "total_limit": node.get("fd_total"),
            "sockets_used": node.get("sockets_used"), "sockets_limit": node.get("sockets_total")},
        "totals": {"connection_count": overview.pointer("/object_totals/connections"),
            "queue_count": overview.pointer("/object_totals/queues"), "virtual_host_count": vhosts},
        "listeners": listeners(overview),
        "leveret": own,
    })
}

fn runtime(out: &mut Output<'_>, overview: &Value, node: &Value) -> Result<(), Failure> {
    let uptime = node.get("uptime").and_then(Value::as_u64).unwrap_or(0) / 1000;
    let mut lines = vec![
        format!("OS PID: {}", text(node, "os_pid")),
        format!("Uptime (seconds): {uptime}"),
        format!(
            "Is under maintenance?: {}",
            node.get("being_drained").is_some_and(|drained| drained == true)
        ),
        format!("RabbitMQ version: {}", text(overview, "rabbitmq_version")),
    ];
    let product = (text(overview, "product_name"), text(overview, "product_version"));
    if !product.0.is_empty() && product.0 != "RabbitMQ" {
        lines.push(format!("{} version: {}", product.0, product.1));
    }
    lines.push(format!("Node name: {}", text(overview, "node")));
    let told = [
        ("Erlang configuration", text(overview, "erlang_full_version")),
        ("Crypto library", text(overview, "crypto_lib_version")),
    ];
    let told = told.into_iter().filter(|(_, value)| !value.is_empty());
    lines.extend(told.map(|(name, value)| format!("{name}: {value}")));
    section(out, "Runtime", &lines)
}

fn memory(node: &Value, parts: &[(String, f64, f64)]) -> Vec<String> {
    let number = |key: &str| node.get(key).and_then(Value::as_f64).unwrap_or(0.0);
    let mut lines = vec![
        format!("Total memory used: {} gb", in_unit(number("mem_used"), "gb")),
        format!("Calculation strategy: {}", text(node, "mem_calculation_strategy")),
        format!("Memory high watermark: {} gb", in_unit(number("mem_limit"), "gb")),
        String::new(),
    ];
    lines.extend(
        parts
            .iter()
            .map(|(name, bytes, percent)| format!("{name}: {} gb ({percent:?} %)", in_unit(*bytes, "gb"))),
    );
    lines
}

pub(in crate::verbs) fn cluster_status(call: &mut Call<'_>) -> Result<(), Failure> {
    let name = call.node()?;
    call.announce(&format!("Cluster status of node {name} ..."))?;
    let (overview, client) = (call.overview()?, call.client()?);
    let (nodes, flags) = (client.list("nodes")?, client.list("feature-flags")?);
    let running: Vec<&Value> =
        nodes.iter().filter(|node| node.get("running").is_none_or(|is| is == true)).collect();
    let names = |nodes: &[&Value]| nodes.iter().map(|node| text(node, "name")).collect::<Vec<String>>();
    let all: Vec<&Value> = nodes.iter().collect();
    let (alarms, listeners) = (alarms(&nodes), listeners(&overview));
    let partitions: Vec<&Value> =
        nodes.iter().filter_map(|node| node.get("partitions")?.as_array()).flatten().collect();
    if matches!(call.output.format, Format::Json | Format::JsonStream) {
        let by_node = |value: fn(&Value) -> Value| -> Value {
            nodes.iter().map(|node| (text(node, "name"), value(node))).collect()
        };
        let status = json!({
            "cluster_name": overview.get("cluster_name"),
            "disk_nodes": names(&all),
            "ram_nodes": [],
            "running_nodes": names(&running),
            "versions": {name.as_str(): {"rabbitmq_name": overview.get("product_name"),
                "rabbitmq_version": overview.get("rabbitmq_version"),
                "erlang_version": overview.get("erlang_version")}},
            "maintenance_status": by_node(|node| json!(maintenance(node))),
            "alarms": alarms,
            "partitions": partitions_by_node(&nodes),
            "listeners": {name.as_str(): listeners},
            "feature_flags": flags,
        });
        return call.output.json(&status);
    }
    let out = &mut call.output;
    section(out, "Basics", &[format!("Cluster name: {}", text(&overview, "cluster_name"))])?;
    section(out, "Disk Nodes", &names(&all))?;
    section(out, "Running Nodes", &names(&running))?;
    let erlang = text(&overview, "erlang_version");
    let erlang =
        if NO_ERLANG.contains(&erlang.as_str()) { String::new() } else { format!(" on Erlang {erlang}") };
    let version = format!("{name}: RabbitMQ {}{erlang}", text(&overview, "rabbitmq_version"));
    section(out, "Versions", &[version])?;
    let status =
        nodes.iter().map(|node| format!("Node: {}, status: {}", text(node, "name"), maintenance(node)));
    section(out, "Maintenance status", &status.collect::<Vec<_>>())?;
    section(out, "Alarms", &or_none(&alarms))?;
    section(
        out,
        "Network Partitions",
        &or_none(&partitions.iter().map(|part| shown(part)).collect::<Vec<_>>()),
    )?;
    let of_node = |listener: &Value| {
        let line = listener_text(listener).replacen("Interface", "interface", 1);
        format!("Node: {}, {line}", text(listener, "node"))
    };
    section(out, "Listeners", &listeners.iter().map(of_node).collect::<Vec<_>>())?;
    let flag = |flag: &Value| format!("Flag: {}, state: {}", text(flag, "name"), text(flag, "state"));
    last_section(out, "Feature flags", &flags.iter().map(flag).collect::<Vec<_>>())
}

/// Whether a node is being emptied.
fn maintenance(node: &Value) -> &'static str {
    let is_drained = node.get("being_drained").is_some_and(|is| is == true);
    if is_drained { "marked for maintenance" } else { "not under maintenance" }
}

/// The nodes that nodes have lost. COMPAT: an object, which is empty where all is well.
fn partitions_by_node(nodes: &[Value]) -> Value {
    let lost = |node: &Value| {
        let lost = node.get("partitions")?.as_array().filter(|lost| !lost.is_empty())?;
        Some((text(node, "name"), json!(lost)))
    };
    nodes.iter().filter_map(lost).collect()
}

/// What nodes suffer from.
pub(in crate::verbs) fn alarms(nodes: &[Value]) -> Vec<String> {
    let mut alarms = Vec::new();
    for node in nodes {
        for (key, what) in [("mem_alarm", "Memory alarm"), ("disk_free_alarm", "Free disk space alarm")] {
            if node.get(key).is_some_and(|is| is == true) {
                alarms.push(format!("{what} on node {}", text(node, "name")));
            }
        }
    }
    alarms
}

/// The listeners of the overview, with what each is for.
pub(in crate::verbs) fn listeners(overview: &Value) -> Vec<Value> {
    let listeners = overview.get("listeners").and_then(Value::as_array).cloned().unwrap_or_default();
    let listener = |listener: Value| {
        let (address, protocol) = (text(&listener, "ip_address"), text(&listener, "protocol"));
        let interface = if address.contains(':') { format!("[{address}]") } else { address };
        json!({"node": listener.get("node"), "interface": interface, "port": listener.get("port"),
            "protocol": protocol, "purpose": purpose(&protocol)})
    };
    listeners.into_iter().map(listener).collect()
}

/// One of them as a line.
pub(in crate::verbs) fn listener_text(listener: &Value) -> String {
    let [interface, port, protocol, purpose] =
        ["interface", "port", "protocol", "purpose"].map(|key| text(listener, key));
    format!("Interface: {interface}, port: {port}, protocol: {protocol}, purpose: {purpose}")
}

fn purpose(protocol: &str) -> &str {
    match protocol {
        "amqp" => "AMQP 0-9-1",
        "amqp/ssl" => "AMQP 0-9-1 over TLS",
        "clustering" => "inter-node and CLI tool communication",
        "http" => "HTTP API",
        "https" => "HTTP API over TLS (HTTPS)",
        "http/prometheus" => "Prometheus exporter API over HTTP",
        "https/prometheus" => "Prometheus exporter API over TLS (HTTPS)",
        "mqtt" => "MQTT",
        "mqtt/ssl" => "MQTT over TLS",
        "stomp" => "STOMP",
        "stomp/ssl" => "STOMP over TLS",
        "stream" => "stream",
        "stream/ssl" => "stream over TLS",
        other => other,
    }
}

fn section(out: &mut Output<'_>, title: &str, lines: &[String]) -> Result<(), Failure> {
    last_section(out, title, lines)?;
    out.line("")
}

fn last_section(out: &mut Output<'_>, title: &str, lines: &[String]) -> Result<(), Failure> {
    out.heading(title)?;
    lines.iter().try_for_each(|line| out.line(line))
}

fn or_none(lines: &[String]) -> Vec<String> {
    if lines.is_empty() { vec!["(none)".to_owned()] } else { lines.to_vec() }
}

/// A list of texts, each behind a star.
fn bullets(title: &str, object: &Value, key: &str) -> Vec<String> {
    let items = object.get(key).and_then(Value::as_array);
    let items = items.into_iter().flatten().map(|item| format!(" * {}", shown(item)));
    let title = (!title.is_empty()).then(|| [title.to_owned(), String::new()]);
    title.into_iter().flatten().chain(items).collect()
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
