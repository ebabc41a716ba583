//! Checks that load balancers and monitors ask: 200 if all is well, 503 and a reason if not.

use leveret_broker::policy::ApplyTo;
use serde_json::{Value, json};

use super::answer::{Answer, Answered, Refusal};
use super::call::Call;
use crate::json::moment;
use crate::node::{CertificateFile, Certificates};

fn ok() -> Answered {
    Ok(Answer::Json(json!({ "status": "ok" })))
}

/// A check that fails, with what belongs to it.
fn failed(reason: &str, more: Value) -> Answered {
    let mut failed = json!({ "status": "failed", "reason": reason });
    if let (Some(failed), Value::Object(more)) = (failed.as_object_mut(), more) {
        failed.extend(more);
    }
    Ok(Answer::Failed(failed))
}

/// No publisher has to wait.
pub(crate) fn alarms(call: &Call) -> Answered {
    let (resources, node) = (call.api.node.resources(), call.api.node.name());
    let alarms: Vec<_> = [("memory", resources.memory_alarm), ("disk space", resources.disk_alarm)]
        .into_iter()
        .filter(|(_, is_raised)| *is_raised)
        .map(|(resource, _)| json!({ "resource": resource, "node": node }))
        .collect();
    if alarms.is_empty() {
        return ok();
    }
    failed("There are alarms in effect in the cluster", json!({ "alarms": alarms }))
}

/// A port is listened on.
pub(crate) fn port(call: &Call) -> Answered {
    // COMPAT: any number may be asked for.
    let Ok(port) = call.param("port").parse::<u64>() else {
        return Err(Refusal::bad_request("Invalid port"));
    };
    let ports: Vec<_> =
        call.api.node.listeners().iter().map(|listener| u64::from(listener.address.port())).collect();
    if ports.contains(&port) {
        return Ok(Answer::Json(json!({ "status": "ok", "port": port })));
    }
    failed("No active listener", json!({ "missing": port, "ports": ports }))
}

/// Protocols are spoken.
pub(crate) fn protocols(call: &Call) -> Answered {
    let spoken: Vec<_> = call.api.node.listeners().iter().map(|listener| listener.protocol).collect();
    let wanted: Vec<_> = call.param("protocols").split(',').map(normalised).collect();
    let missing: Vec<_> = wanted.iter().filter(|one| !spoken.contains(&one.as_str())).collect();
    if missing.is_empty() {
        return Ok(Answer::Json(json!({ "status": "ok", "protocols": wanted })));
    }
    failed("No active listener", json!({ "missing": missing, "protocols": spoken }))
}

/// COMPAT: the names that RabbitMQ takes for a protocol.
fn normalised(name: &str) -> String {
    let name = name.trim().to_ascii_lowercase();
    match name.as_str() {
        "amqp" | "amqp091" | "amqp0.9.1" | "amqp0-9-1" | "amqp-0-9-1" | "amqp10" | "amqp1.0" | "amqp1-0" => {
            "amqp".to_owned()
        }
        "amqps" | "amqp/ssl" => "amqp/ssl".to_owned(),
        "https" => "https".to_owned(),
        "http" => "http".to_owned(),
        "http/prometheus" | "prometheus" => "http/prometheus".to_owned(),
        "https/prometheus" => "https/prometheus".to_owned(),
        _ => name,
    }
}

/// Certificates are good for so long. COMPAT: a month is 30 days, a year 365; a negative number reaches into
/// the past.
pub(crate) fn certificates(call: &Call) -> Answered {
    let within = call.param("within");
    let Some(days_of_unit) =
        UNITS.iter().find_map(|(unit, days)| (*unit == call.param("unit")).then_some(*days))
    else {
        return Err(Refusal::bad_request(
            "Time unit not recognised. Supported units: days, weeks, months, years.",
        ));
    };
    let digits = within.strip_prefix(['-', '+']).unwrap_or(within);
    if digits.is_empty() || !digits.bytes().all(|octet| octet.is_ascii_digit()) {
        return Err(Refusal::bad_request("Invalid expiration value."));
    }
    // More than fits is for ever.
    let count: u64 = digits.parse().unwrap_or(u64::MAX);
    let seconds = count.saturating_mul(days_of_unit).saturating_mul(SECONDS_OF_DAY);
    let now_s = call.broker().clock().now().0 / 1000;
    let until_s =
        if within.starts_with('-') { now_s.saturating_sub(seconds) } else { now_s.saturating_add(seconds) };
    let expired = expired(call, until_s);
    if expired.is_empty() {
        return ok();
    }
    failed("Certificates expiring", json!({ "expired": expired }))
}

const SECONDS_OF_DAY: u64 = 24 * 60 * 60;

const UNITS: [(&str, u64); 4] = [("days", 1), ("weeks", 7), ("months", 30), ("years", 365)];

/// What ends before then: of each listener with TLS, each file it serves.
fn expired(call: &Call, until_s: u64) -> Vec<Value> {
    let Certificates { served, authorities } = call.api.node.certificates();
    let ends = |file: &CertificateFile| file.expires_s.iter().any(|&end| end < until_s);
    let authorities_end = authorities.as_ref().is_some_and(ends);
    let files: Vec<_> = served.iter().filter(|file| authorities_end || ends(file)).collect();
    let listeners = call.api.node.listeners().into_iter().filter(super::overview::has_tls);
    listeners
        .flat_map(|listener| {
            let entry = |file: &&CertificateFile| {
                let mut entry = json!({
                    "node": call.api.node.name(),
                    "protocol": listener.protocol,
                    "interface": listener.address.ip().to_string(),
                    "port": listener.address.port(),
                    "certfile": file.path,
                    "certfile_expires_on": ends_of(file),
                });
                if let Some(authorities) = &authorities {
                    entry["cacertfile"] = authorities.path.as_str().into();
                    entry["cacertfile_expires_on"] = ends_of(authorities);
                }
                entry
            };
            files.iter().map(entry).collect::<Vec<_>>()
        })
        .collect()
}

/// When the certificates of a file end. COMPAT: without a zone.
fn ends_of(file: &CertificateFile) -> Value {
    let shown = |&end: &u64| moment(end.saturating_mul(1000)).get(..19).map(|text| text.replace('T', " "));
    file.expires_s.iter().filter_map(shown).collect()
}

/// All vhosts work: they are there, or the process is not.
pub(crate) fn vhosts(_: &Call) -> Answered {
    ok()
}

/// COMPAT: what only matters with several nodes.
pub(crate) fn single_node(_: &Call) -> Answered {
    Ok(Answer::Json(json!({ "status": "ok", "reason": "single node cluster" })))
}

/// Quorum queues work: those that met damage on disk do not.
pub(crate) fn leaders(call: &Call) -> Answered {
    let pattern = match call.param("pattern") {
        "" => None,
        pattern => {
            let pattern = crate::pattern::compiled(pattern, false);
            Some(pattern.map_err(|_| Refusal::bad_request("Invalid pattern"))?)
        }
    };
    let mut stopped = Vec::new();
    for vhost in call.vhosts_in_sight()? {
        vhost.for_each_queue(|queue| {
            let name = queue.spec.name.as_str();
            let is_meant = pattern.as_ref().is_none_or(|pattern| pattern.is_match(name).unwrap_or(false));
            if queue.spec.is_quorum() && queue.is_stopped() && is_meant {
                stopped.push(json!({
                    "name": name,
                    "readable_name": format!("queue '{name}' in vhost '{}'", vhost.name),
                    "virtual_host": vhost.name.as_str(),
                    "type": ApplyTo::QuorumQueues.as_str(),
                }));
            }
        });
    }
    if stopped.is_empty() {
        return ok();
    }
    failed("Quorum queues without elected leader", json!({ "queues": stopped }))
}

/// Whoever gets this answer is served.
pub(crate) fn serving(_: &Call) -> Answered {
    ok()
}

/// More connections can be opened.
pub(crate) fn below_connection_limit(call: &Call) -> Answered {
    let connections = call.api.node.connections().len();
    match call.api.node.resources().connections_limit {
        Some(limit) if connections as u64 >= limit => {
            failed("node connection limit is reached", json!({ "connections": connections }))
        }
        limit => {
            let limit = limit.map_or(json!("infinity"), Value::from);
            Ok(Answer::Json(json!({ "status": "ok", "limit": limit, "connections": connections })))
        }
    }
}

/// COMPAT: one node is all there is to be.
pub(crate) fn cluster_size(_: &Call) -> Answered {
    Ok(Answer::Json(json!({ "status": "ok", "online": 1, "target": 1 })))
}

/// COMPAT: publishes to a queue and gets it back, to see that a vhost works.
pub(crate) fn aliveness(call: &Call) -> Answered {
    call.vhost()?;
    super::messages::aliveness(call)?;
    ok()
}

/// COMPAT: an old check of the node.
pub(crate) fn node(call: &Call) -> Answered {
    if !call.param("node").is_empty() {
        super::overview::this_node(call)?;
    }
    alarms(call)
}
