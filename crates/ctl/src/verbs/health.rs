//! Health checks: each says in a sentence that all is well, or fails with what is not.

use std::net::{IpAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use serde_json::{Value, json};

use super::node;
use super::{Verb, flag, none, option, required};
use crate::api::{ApiError, path};
use crate::call::Call;
use crate::failure::{Exit, Failure};
use crate::output::Format;

/// How long a port may take to accept a connection.
const CONNECT_MAX: Duration = Duration::from_secs(10);

pub(super) const VERBS: &[Verb] = &[
    Verb {
        name: "check_running",
        about: "Fails unless the broker runs",
        arguments: none,
        run: |call| check_running(call, "Checking if RabbitMQ is running on node {node} ..."),
    },
    Verb {
        name: "is_running",
        about: "Fails unless the broker runs",
        arguments: none,
        run: |call| check_running(call, "Asking node {node} for its status ..."),
    },
    Verb { name: "is_booting", about: "Says whether the node is starting", arguments: none, run: is_booting },
    Verb {
        name: "check_local_alarms",
        about: "Fails if memory or disk run short on the node",
        arguments: none,
        run: |call| check_alarms(call, "local-alarms", "no local alarms"),
    },
    Verb {
        name: "check_alarms",
        about: "Fails if memory or disk run short on any node",
        arguments: none,
        run: |call| check_alarms(call, "alarms", "no alarms, local or clusterwide"),
    },
    Verb { name: "alarms", about: "Lists what runs short", arguments: none, run: alarms },
    Verb {
        name: "check_port_connectivity",
        about: "Fails unless every port the node listens on can be connected to from here",
        arguments: |command| {
            command.arg(option("address", "Host to connect to (else that of the listener, or of the URL)"))
        },
        run: check_ports,
    },
    Verb {
        name: "check_port_listener",
        about: "Fails unless the node listens on a port",
        arguments: |command| command.arg(required("port")),
        run: check_port_listener,
    },
    Verb {
        name: "check_protocol_listener",
        about: "Fails unless the node listens for a protocol",
        arguments: |command| command.arg(required("protocol")),
        run: check_protocol_listener,
    },
    Verb {
        name: "check_virtual_hosts",
        about: "Fails unless all vhosts can be used",
        arguments: none,
        run: check_virtual_hosts,
    },
    Verb {
        name: "check_certificate_expiration",
        about: "Fails if a certificate of a listener expires soon",
        arguments: |command| {
            let units = ["days", "weeks", "months", "years"];
            command
                .arg(option("within", "How soon is too soon").default_value("4"))
                .arg(option("unit", "Unit of that").value_parser(units).default_value("weeks"))
        },
        run: check_certificates,
    },
    Verb {
        name: "node_health_check",
        about: "Fails unless the broker runs, has no alarm, and all its vhosts can be used (deprecated)",
        arguments: none,
        run: check_health,
    },
    Verb {
        name: "check_if_node_is_mirror_sync_critical",
        about: "Succeeds: there are no mirrored queues, as in RabbitMQ 4 (deprecated)",
        arguments: none,
        run: check_mirrors,
    },
    Verb {
        name: "check_if_node_is_quorum_critical",
        about: "Fails if quorum queues would stop without the node",
        arguments: none,
        run: check_quorum_critical,
    },
    Verb {
        name: "check_for_quorum_queues_without_an_elected_leader",
        about: "Fails if a quorum queue has no leader",
        arguments: |command| {
            let pattern =
                super::optional("pattern").help("A pattern of names (else all)").default_value(".*");
            command.arg(pattern).arg(flag("across-all-vhosts", "In all vhosts"))
        },
        run: check_leaders,
    },
];

/// What a health check of the API found wrong: its whole answer; `None` if all is well.
fn failed(call: &mut Call<'_>, check: &str) -> Result<Option<Value>, Failure> {
    match call.client()?.get(&format!("health/checks/{check}")) {
        Ok(_) => Ok(None),
        Err(ApiError::Refused { status: 503, body, .. }) => Ok(Some(body)),
        Err(error) => Err(error.into()),
    }
}

fn unwell(text: String) -> Failure {
    Failure::new(Exit::Unavailable, text)
}

fn check_running(call: &mut Call<'_>, banner: &str) -> Result<(), Failure> {
    let name = call.node()?;
    call.announce(&banner.replace("{node}", &name))?;
    let values = call.client()?.get(&path(&["nodes", &name]))?;
    if values.get("running").is_some_and(|running| running == false) {
        return Err(unwell(format!("RabbitMQ on node {name} is not running or has not fully booted yet")));
    }
    call.output.say(&format!("RabbitMQ on node {name} is fully booted and running"))
}

fn is_booting(call: &mut Call<'_>) -> Result<(), Failure> {
    let name = call.node()?;
    call.announce(&format!("Asking node {name} for its boot status ..."))?;
    call.output.say(&format!(
        "RabbitMQ on node {name} is fully booted (check with is_running), stopped or has not started booting yet"
    ))
}

fn check_alarms(call: &mut Call<'_>, check: &str, none: &str) -> Result<(), Failure> {
    let name = call.node()?;
    call.announce(&format!("Asking node {name} to report any local resource alarms ..."))?;
    let Some(answer) = failed(call, check)? else {
        return call.output.say(&format!("Node {name} reported {none}"));
    };
    Err(unwell(alarms_of(&answer).join("\n")))
}

/// The alarms that a health check of the API found. COMPAT: in the words of rabbitmq-diagnostics.
fn alarms_of(answer: &Value) -> Vec<String> {
    let alarm = |alarm: &Value| {
        let word = |key| alarm.get(key).and_then(Value::as_str).unwrap_or("unknown");
        let resource = match word("resource") {
            "memory" => "Memory",
            "disk" => "Free disk space",
            other => other,
        };
        format!("{resource} alarm on node {}", word("node"))
    };
    answer.get("alarms").and_then(Value::as_array).into_iter().flatten().map(alarm).collect()
}

/// COMPAT: what was checked of old, for the scripts that still ask for it; RabbitMQ 4 checks nothing any more.
fn check_health(call: &mut Call<'_>) -> Result<(), Failure> {
    let name = call.node()?;
    call.announce(&format!("Checking health of node {name} ..."))?;
    let unwell =
        |text: String| Failure::new(Exit::Software, format!("Error: health check failed. Message: {text}"));
    let values = call.client()?.get(&path(&["nodes", &name]))?;
    if values.get("running").is_some_and(|running| running == false) {
        return Err(unwell(format!("node {name} is not running")));
    }
    if let Some(answer) = failed(call, "local-alarms")? {
        return Err(unwell(format!("resource alarm(s) in effect: {}", alarms_of(&answer).join(", "))));
    }
    if let Some(answer) = failed(call, "virtual-hosts")? {
        let down = answer.get("virtual-hosts").map(Value::to_string).unwrap_or_default();
        return Err(unwell(format!("virtual hosts are down: {down}")));
    }
    call.output.say("Health check passed")
}

fn check_mirrors(call: &mut Call<'_>) -> Result<(), Failure> {
    let name = call.node()?;
    call.announce(&format!(
        "Checking if node {name} is critical for data safety of any classic mirrored queues ..."
    ))?;
    call.output.say("ok")
}

fn alarms(call: &mut Call<'_>) -> Result<(), Failure> {
    let name = call.node()?;
    call.announce(&format!("Asking node {name} to report any known resource alarms ..."))?;
    let alarms = node::alarms(&call.client()?.list("nodes")?);
    if matches!(call.output.format, Format::Json | Format::JsonStream) {
        let own = format!(" on node {name}");
        let (local, global): (Vec<_>, Vec<_>) = alarms.iter().partition(|alarm| alarm.ends_with(&own));
        return call.output.json(&match alarms.is_empty() {
            true => json!({"alarms": [], "node": name, "result": "ok"}),
            false => json!({"global": global, "local": local,
                "message": format!("Node {name} reported alarms"), "result": "ok"}),
        });
    }
    if alarms.is_empty() {
        return call.output.say(&format!("Node {name} reported no alarms, local or clusterwide"));
    }
    alarms.iter().try_for_each(|alarm| call.output.line(alarm))
}

fn check_ports(call: &mut Call<'_>) -> Result<(), Failure> {
    let name = call.node()?;
    call.announce(&format!("Testing TCP connections to all active listeners on node {name} ..."))?;
    let (address, client) = (call.optional("address"), call.client()?);
    let listeners = node::listeners(&call.overview()?);
    let mut ports = Vec::new();
    let mut refused = Vec::new();
    for listener in &listeners {
        let port = listener.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
        let interface = listener.get("interface").and_then(Value::as_str).unwrap_or("");
        let host = address.clone().unwrap_or_else(|| host_of(interface, client.host()));
        match port {
            Some(port) if can_connect(&host, port) => ports.push(port),
            _ => refused.push(node::listener_text(listener)),
        }
    }
    if !refused.is_empty() {
        let refused = refused.join("\n");
        return Err(unwell(format!(
            "Connection to ports of the following listeners on node {name} failed:\n{refused}"
        )));
    }
    ports.sort_unstable();
    call.output.say(&format!("Successfully connected to ports {} on node {name}.", joined(&ports)))
}

/// Where a listener is reached from here: at its own address, if it has one that is reached from elsewhere or both are
/// this machine, else at the host of the URL.
fn host_of(interface: &str, url_host: &str) -> String {
    let is_here = |host: &str| host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    match interface.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) if !ip.is_unspecified() && (!ip.is_loopback() || is_here(url_host)) => ip.to_string(),
        _ => url_host.to_owned(),
    }
}

fn can_connect(host: &str, port: u16) -> bool {
    let addresses = (host, port).to_socket_addrs();
    addresses.is_ok_and(|mut addresses| {
        addresses.any(|address| TcpStream::connect_timeout(&address, CONNECT_MAX).is_ok())
    })
}

fn check_port_listener(call: &mut Call<'_>) -> Result<(), Failure> {
    let (name, port) = (call.node()?, call.text("port"));
    if port.parse::<u16>().is_err() {
        return Err(Failure::new(Exit::Data, format!("Bad argument: '{port}' is no port")));
    }
    call.announce(&format!("Asking node {name} if there's an active listener on port {port} ..."))?;
    let mut ports: Vec<u64> = node::listeners(&call.overview()?)
        .iter()
        .filter_map(|listener| listener.get("port")?.as_u64())
        .collect();
    ports.sort_unstable();
    if ports.iter().any(|known| known.to_string() == port) {
        return call.output.say(&format!("A listener for port {port} is running on node {name}."));
    }
    Err(unwell(format!(
        "No listener for port {port} is active on node {name}. Found listeners that use the following ports: {}",
        joined(&ports)
    )))
}

fn check_protocol_listener(call: &mut Call<'_>) -> Result<(), Failure> {
    let (name, protocol) = (call.node()?, call.text("protocol"));
    call.announce(&format!("Asking node {name} if there's an active listener for protocol {protocol} ..."))?;
    match failed(call, &path(&["protocol-listener", &protocol]))? {
        None => call.output.say(&format!("A listener for protocol {protocol} is running on node {name}.")),
        Some(answer) => {
            let found = answer.get("protocols").and_then(Value::as_array).cloned().unwrap_or_default();
            let mut found: Vec<&str> = found.iter().filter_map(Value::as_str).collect();
            found.sort_unstable();
            Err(unwell(format!(
                "No listener for protocol {protocol} is active on node {name}. \
                 Found listeners for the following protocols: {}",
                found.join(", ")
            )))
        }
    }
}

fn check_virtual_hosts(call: &mut Call<'_>) -> Result<(), Failure> {
    let name = call.node()?;
    call.announce(&format!("Checking if all vhosts are running on node {name} ..."))?;
    match failed(call, "virtual-hosts")? {
        None => call.output.say(&format!("Node {name} reported all vhosts as running")),
        Some(answer) => {
            let down = answer.get("virtual-hosts").map(Value::to_string).unwrap_or_default();
            Err(unwell(format!("Some virtual hosts on node {name} are down: {down}")))
        }
    }
}

fn check_certificates(call: &mut Call<'_>) -> Result<(), Failure> {
    let name = call.node()?;
    let (within, unit) = (call.number::<u32>("within")?.unwrap_or_default(), call.text("unit"));
    call.announce(&format!("Checking certificate expiration on node {name} ..."))?;
    let period = format!("{within} {}", if within == 1 { unit.trim_end_matches('s') } else { &unit });
    match failed(call, &path(&["certificate-expiration", &within.to_string(), &unit]))? {
        None => call.output.say(&format!("No certificates are expiring within {period}.")),
        Some(answer) => {
            let expired = answer.get("expired").map(Value::to_string).unwrap_or_default();
            Err(unwell(format!("Certificates expire within {period}: {expired}")))
        }
    }
}

fn check_quorum_critical(call: &mut Call<'_>) -> Result<(), Failure> {
    let name = call.node()?;
    call.announce(&format!("Checking if node {name} is critical for quorum of any quorum queues ..."))?;
    let nodes = call.client()?.list("nodes")?.len();
    match failed(call, "node-is-quorum-critical")? {
        None if nodes <= 1 => call.output.say(&format!(
            "Node {name} seems to be the only one in a single node cluster, the check does not apply"
        )),
        None => call.output.say(&format!("Node {name} reported no quorum queues with minimum quorum")),
        Some(answer) => {
            let queues = answer.get("queues").map(Value::to_string).unwrap_or_default();
            Err(unwell(format!("Node {name} is critical for quorum of queues {queues}")))
        }
    }
}

fn check_leaders(call: &mut Call<'_>) -> Result<(), Failure> {
    let (name, vhost, pattern) = (call.node()?, call.vhost(), call.text("pattern"));
    let everywhere = call.flag("across-all-vhosts");
    let place = if everywhere { "all vhosts".to_owned() } else { format!("vhost {vhost}") };
    call.announce(&format!(
        "Checking for quorum queues without an elected leader matching pattern {pattern} in {place} on node {name} ..."
    ))?;
    let check = "quorum-queues-without-elected-leaders";
    let check = if everywhere {
        path(&[check, "all-vhosts", "pattern", &pattern])
    } else {
        path(&[check, "vhost", &vhost, "pattern", &pattern])
    };
    match failed(call, &check)? {
        None => call
            .output
            .say(&format!("Node {name} reported all quorum queues as having responsive leader replicas")),
        Some(answer) => {
            let queues = answer.get("queues").map(Value::to_string).unwrap_or_default();
            Err(unwell(format!("Quorum queues without an elected leader: {queues}")))
        }
    }
}

fn joined<T: ToString>(numbers: &[T]) -> String {
    numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[test]
fn listeners_are_reached_where_they_are() {
    for (interface, url_host, expected) in [
        ("[::]", "127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "broker", "broker"),
        ("10.0.0.5", "127.0.0.1", "10.0.0.5"),
        ("127.0.0.1", "broker", "broker"),
        ("[::1]", "localhost", "::1"),
        ("", "broker", "broker"),
    ] {
        assert_eq!(host_of(interface, url_host), expected, "{interface} at {url_host}");
    }
}
