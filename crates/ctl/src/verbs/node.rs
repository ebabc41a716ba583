//! The node and the cluster it is: what it says of itself, whether it is there, and its limits of memory and disk.

mod limits;
mod report;

pub(super) use report::{alarms, cluster_status, listener_text, listeners, status};

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::policies::only_leveret;
use super::{Verb, flag, none, option, required};
use crate::api::path;
use crate::call::Call;
use crate::failure::{Exit, Failure};
use crate::output::{Format, Table};

/// COMPAT: how long await_startup waits unless told otherwise.
const STARTUP_MAX: Duration = Duration::from_secs(300);

/// What brokers say where RabbitMQ names the version of Erlang it runs on, and they run on none.
const NO_ERLANG: [&str; 2] = ["", "0"];

/// How often it looks.
const STARTUP_STEP: Duration = Duration::from_millis(250);

pub(super) const VERBS: &[Verb] = &[
    Verb { name: "status", about: "Shows the state of the node", arguments: none, run: report::status },
    Verb {
        name: "cluster_status",
        about: "Shows the nodes of the cluster",
        arguments: none,
        run: report::cluster_status,
    },
    Verb {
        name: "environment",
        about: "Shows the configuration that is in force, as JSON",
        arguments: none,
        run: environment,
    },
    Verb { name: "version", about: "Prints the version of this tool", arguments: none, run: version },
    Verb {
        name: "server_version",
        about: "Prints the version of RabbitMQ that the node claims to be",
        arguments: none,
        run: server_version,
    },
    Verb {
        name: "erlang_version",
        about: "Prints the version of Erlang that the node claims to run on",
        arguments: none,
        run: erlang_version,
    },
    Verb { name: "ping", about: "Checks that the node answers", arguments: none, run: ping },
    Verb {
        name: "await_startup",
        about: "Waits until the node answers, for 300 seconds unless --timeout says otherwise",
        arguments: none,
        run: await_startup,
    },
    Verb {
        name: "await_online_nodes",
        about: "Waits until the node answers, and fails for more nodes than one",
        arguments: |command| command.arg(required("count")),
        run: await_online_nodes,
    },
    Verb {
        name: "memory_breakdown",
        about: "Shows what the memory of the node is used for",
        arguments: |command| {
            let units = ["gb", "mb", "kb", "bytes"];
            command.arg(option("unit", "Unit of the figures").value_parser(units).default_value("gb"))
        },
        run: memory_breakdown,
    },
    Verb {
        name: "listeners",
        about: "Lists the ports the node listens on",
        arguments: none,
        run: list_listeners,
    },
    Verb {
        name: "log_location",
        about: "Prints where the node logs to",
        arguments: |command| command.arg(flag("all", "All places, as without").short('a')),
        run: log_location,
    },
    Verb {
        name: "list_node_auth_attempt_stats",
        about: "Counts logins and those that failed, by protocol",
        arguments: none,
        run: auth_attempts,
    },
    Verb {
        name: "set_vm_memory_high_watermark",
        about: "Sets the memory above which publishers are blocked: a share, or absolute and a size",
        arguments: limits::arguments,
        run: limits::set_memory,
    },
    Verb {
        name: "set_disk_free_limit",
        about: "Sets the free disk below which publishers are blocked: a size, or mem_relative and a factor",
        arguments: limits::arguments,
        run: limits::set_disk,
    },
];

/// What the node at the URL says of itself.
fn node_values(call: &mut Call<'_>) -> Result<Value, Failure> {
    let node = call.node()?;
    Ok(call.client()?.get(&path(&["nodes", &node]))?)
}

pub(super) fn environment(call: &mut Call<'_>) -> Result<(), Failure> {
    let node = call.node()?;
    call.announce(&format!("Application environment of node {node} ..."))?;
    let client = call.client()?;
    let values =
        client.get("config/effective").or_else(|_| client.get("leveret/status")).map_err(only_leveret)?;
    match call.output.format {
        Format::Json | Format::JsonStream => call.output.json(&values),
        _ => call.output.line(&format!("{values:#}")),
    }
}

pub(super) fn version(call: &mut Call<'_>) -> Result<(), Failure> {
    call.output.line(call.tool.version())
}

fn server_version(call: &mut Call<'_>) -> Result<(), Failure> {
    let node = call.node()?;
    call.announce(&format!("Asking node {node} for its RabbitMQ version..."))?;
    let version = text(&call.overview()?, "rabbitmq_version");
    call.output.say(&version)
}

fn erlang_version(call: &mut Call<'_>) -> Result<(), Failure> {
    let node = call.node()?;
    call.announce(&format!("Asking node {node} for its Erlang/OTP version..."))?;
    let version = text(&call.overview()?, "erlang_version");
    if NO_ERLANG.contains(&version.as_str()) {
        return Err(Failure::new(Exit::Unavailable, format!("node {node} does not run on Erlang")));
    }
    call.output.say(&format!("Erlang/OTP {version}"))
}

fn ping(call: &mut Call<'_>) -> Result<(), Failure> {
    let timeout = call.optional("timeout").and_then(|text| text.parse::<f64>().ok()).unwrap_or(60.0);
    let node = match call.node() {
        // Who is told that it may not log in has been answered. Containers ask so for their health, with the first
        // user, which may be gone or have another password by then.
        Err(Failure::Error { exit: Exit::Denied, .. }) if !call.client()?.is_login_named() => {
            call.client()?.url().to_owned()
        }
        node => node?,
    };
    call.announce(&format!(
        "Will ping {node}. This only checks if its HTTP API answers. Timeout: {} ms.",
        (timeout * 1000.0).round()
    ))?;
    call.output.say("Ping succeeded")
}

fn await_startup(call: &mut Call<'_>) -> Result<(), Failure> {
    await_node(call, "await_startup")
}

/// COMPAT: texts and codes of rabbitmqctl. There is no cluster that nodes could join yet: no use in waiting for them.
fn await_online_nodes(call: &mut Call<'_>) -> Result<(), Failure> {
    let text = call.text("count");
    let count = text.parse::<u64>().ok().filter(|&count| count > 0);
    let count = count.ok_or_else(|| {
        Failure::new(Exit::Data, format!("Bad argument: '{text}' is not a positive integer"))
    })?;
    call.announce(&format!("Will wait for at least {count} nodes to join the cluster ..."))?;
    await_node(call, "await_online_nodes")?;
    let (node, nodes) = (call.node()?, call.client()?.list("nodes")?.len());
    match u64::try_from(nodes) {
        Ok(nodes) if nodes < count => Err(Failure::new(
            Exit::Software,
            format!("Not enough nodes in {node}'s cluster: {nodes}, and a Leveret is always one"),
        )),
        _ => Ok(()),
    }
}

/// Waits until the node answers.
fn await_node(call: &mut Call<'_>, verb: &str) -> Result<(), Failure> {
    let timeout = match call.optional("timeout").as_deref() {
        Some("infinity") => None,
        Some(_) => {
            call.number::<f64>("timeout")?.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        }
        None => Some(STARTUP_MAX),
    };
    let begun = Instant::now();
    loop {
        let failure = match call.overview() {
            Ok(_) => return Ok(()),
            Err(Failure::Error { exit: Exit::Unavailable | Exit::TimedOut, text }) => text,
            Err(failure) => return Err(failure),
        };
        if timeout.is_some_and(|timeout| begun.elapsed() >= timeout) {
            let text = format!("operation {verb} timed out after {:?}: {failure}", begun.elapsed());
            return Err(Failure::new(Exit::TimedOut, text));
        }
        thread::sleep(STARTUP_STEP);
    }
}

fn memory_breakdown(call: &mut Call<'_>) -> Result<(), Failure> {
    let node = call.node()?;
    call.announce(&format!("Reporting memory breakdown on node {node}..."))?;
    let unit = call.text("unit");
    let parts = memory_parts(call, &node)?;
    if matches!(call.output.format, Format::Json | Format::JsonStream) {
        let part = |(name, bytes, percent): &(String, f64, f64)| {
            (name.clone(), json!({"bytes": *bytes as u64, "percentage": percent}))
        };
        let parts: Map<String, Value> = parts.iter().map(part).collect();
        return call.output.json(&Value::Object(parts));
    }
    for (name, bytes, percent) in parts {
        call.output.line(&format!("{name}: {} {unit} ({percent:?}%)", in_unit(bytes, &unit)))?;
    }
    Ok(())
}

/// What the memory of a node is used for: name, octets, and percent of the whole, the largest first.
fn memory_parts(call: &mut Call<'_>, node: &str) -> Result<Vec<(String, f64, f64)>, Failure> {
    let answer = call.client()?.get(&path(&["nodes", node, "memory"]))?;
    let memory = answer.get("memory").and_then(Value::as_object).cloned().unwrap_or_default();
    // `total` and `strategy` are no parts.
    let mut parts: Vec<(String, f64)> =
        memory.iter().filter_map(|(name, value)| Some((name.clone(), value.as_f64()?))).collect();
    parts.retain(|(name, _)| name != "total");
    parts.sort_by(|a, b| b.1.total_cmp(&a.1));
    // COMPAT: percent of what the node is charged with, which its own parts may exceed.
    let strategy = memory.get("strategy").and_then(Value::as_str).unwrap_or("");
    let charged = memory.get("total").and_then(|total| total.get(strategy)).and_then(Value::as_f64);
    let whole = charged.unwrap_or_else(|| parts.iter().map(|(_, bytes)| bytes).sum());
    let percent = |bytes: f64| if whole > 0.0 { rounded(100.0 * bytes / whole, 2) } else { 0.0 };
    Ok(parts.into_iter().map(|(name, bytes)| (name, bytes, percent(bytes))).collect())
}

/// COMPAT: four places, and no more than there are.
fn in_unit(bytes: f64, unit: &str) -> String {
    match unit {
        "bytes" => format!("{}", bytes.round()),
        "kb" => format!("{:?}", rounded(bytes / 1e3, 4)),
        "mb" => format!("{:?}", rounded(bytes / 1e6, 4)),
        _ => format!("{:?}", rounded(bytes / 1e9, 4)),
    }
}

fn rounded(value: f64, places: i32) -> f64 {
    let scale = 10_f64.powi(places);
    (value * scale).round() / scale
}

fn list_listeners(call: &mut Call<'_>) -> Result<(), Failure> {
    let node = call.node()?;
    call.announce(&format!("Asking node {node} to report its protocol listeners ..."))?;
    let listeners = listeners(&call.overview()?);
    match call.output.format {
        Format::Json | Format::JsonStream => {
            call.output.json(&json!({"listeners": listeners, "node": node, "result": "ok"}))
        }
        _ => listeners.iter().try_for_each(|listener| call.output.line(&listener_text(listener))),
    }
}

fn log_location(call: &mut Call<'_>) -> Result<(), Failure> {
    let node = call.node()?;
    call.announce(&format!("Log file location(s) on node {node} ..."))?;
    let values = node_values(call)?;
    let files = values.get("log_files").and_then(Value::as_array).cloned().unwrap_or_default();
    files.iter().filter_map(Value::as_str).try_for_each(|file| call.output.line(file))
}

fn auth_attempts(call: &mut Call<'_>) -> Result<(), Failure> {
    let node = call.node()?;
    call.announce(&format!("Listing authentication attempts for node {node} ..."))?;
    let columns = ["protocol", "auth_attempts", "auth_attempts_failed", "auth_attempts_succeeded"];
    let attempts = call.client()?.list(&path(&["auth", "attempts", &node]))?;
    if call.output.format == Format::Json {
        return call.output.json(&json!({"attempts": attempts, "node": node, "result": "ok"}));
    }
    let row = |entry: &Value| columns.map(|column| entry.get(column).cloned().unwrap_or_default()).to_vec();
    call.table(&Table::plain(&columns, attempts.iter().map(row).collect()))
}

/// A text or a number of an object as text; empty where there is none.
fn text(object: &Value, key: &str) -> String {
    match object.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(value) => value.to_string(),
    }
}
