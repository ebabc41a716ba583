//! Each endpoint's answer compared with RabbitMQ 3.10's: every field that it gives is there, with the same JSON type,
//! but for those that mean nothing here.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::amqp::Client;
use crate::http::Api;
use crate::rabbitmq::RabbitMq;

/// Endpoints without names in them, and with those of what [`Client`] declares.
const ENDPOINTS: &[&str] = &[
    "overview",
    "overview?lengths_age=60&lengths_incr=5&msg_rates_age=60&msg_rates_incr=5",
    "cluster-name",
    "nodes",
    "nodes/{node}",
    "nodes/{node}/memory",
    "nodes/{node}/memory/relative",
    "extensions",
    "whoami",
    "feature-flags",
    "connections",
    "connections/{connection}",
    "connections/{connection}/channels",
    "connections/username/guest",
    "channels",
    "channels/{connection}%20%281%29",
    "consumers",
    "consumers/%2F",
    "exchanges",
    "exchanges/%2F",
    "exchanges/%2F/shapes.topic",
    "exchanges/%2F/amq.default",
    "exchanges/%2F/shapes.topic/bindings/source",
    "exchanges/%2F/shapes.topic/bindings/destination",
    "queues",
    "queues/%2F",
    "queues/%2F/shapes",
    "queues/%2F/quorum",
    "queues/%2F/mine",
    "queues/%2F/shapes/bindings",
    "queues?page=1&page_size=2",
    "bindings",
    "bindings/%2F",
    "bindings/%2F/e/shapes.topic/q/shapes",
    "bindings/%2F/e/shapes.topic/q/shapes/a.%2523",
    "vhosts",
    "vhosts/%2F",
    "vhosts/%2F/permissions",
    "vhosts/%2F/connections",
    "vhosts/%2F/channels",
    "users",
    "users/guest",
    "users/guest/permissions",
    "permissions",
    "permissions/%2F/guest",
    "topic-permissions",
    "policies",
    "policies/%2F/shape",
    "operator-policies",
    "parameters",
    "vhost-limits",
    "user-limits",
    "definitions",
    "auth/attempts/{node}",
    "aliveness-test/%2F",
    "healthchecks/node",
    "health/checks/alarms",
    "health/checks/local-alarms",
    "health/checks/port-listener/1",
    "health/checks/virtual-hosts",
    "health/checks/node-is-quorum-critical",
    "health/checks/node-is-mirror-sync-critical",
    "health/checks/certificate-expiration/1/days",
];

/// Fields that are not there, and why.
const ABSENT: &[(&str, &str)] = &[
    ("reductions", "steps of Erlang's machine"),
    ("reductions_details", "steps of Erlang's machine"),
    ("garbage_collection", "Erlang's"),
    ("backing_queue_status", "the insides of another queue"),
    ("head_message_timestamp", "would need a look at a message for each queue listed"),
    ("messages_persistent", "a queue does not count persistent messages apart"),
    ("message_bytes_persistent", "a queue does not count persistent messages apart"),
    ("messages_ram", "a queue does not count what it holds in memory by messages"),
    ("messages_ready_ram", "a queue does not count what it holds in memory by messages"),
    ("messages_unacknowledged_ram", "a queue does not count what it holds in memory by messages"),
    ("messages_paged_out", "a queue does not count what it holds in memory by messages"),
    ("message_bytes_ram", "a queue does not count what it holds in memory by messages"),
    ("message_bytes_paged_out", "a queue does not count what it holds in memory by messages"),
    ("socket_opts", "options of RabbitMQ's sockets"),
    ("metrics_gc_queue_length", "a queue of RabbitMQ's statistics"),
    ("internal_cluster_id", "there is no cluster"),
];

/// Null in RabbitMQ's lists and a text where it shows one connection, which has no TLS.
const NULL_OR_TEXT: [&str; 2] = [".ssl_", ".peer_cert_"];

/// What depends on how a server was started or on what the client says, not on the server.
const NOT_COMPARED: &[&str] =
    &["client_properties", "open_files", "cluster_state", "applications", "listeners"];

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

/// Adds what `theirs` has and `ours` has not.
fn compare(path: &str, theirs: &Value, ours: &Value, findings: &mut BTreeSet<String>) {
    match (theirs, ours) {
        // What is not known may be anything.
        (Value::Null, _) => {}
        (Value::Object(theirs), Value::Object(ours)) => {
            for (key, value) in theirs {
                let is_left_out = ABSENT.iter().any(|(absent, _)| absent == key);
                if is_left_out || NOT_COMPARED.contains(&key.as_str()) {
                    continue;
                }
                match ours.get(key) {
                    None => _ = findings.insert(format!("{path}.{key} is missing")),
                    Some(ours) => compare(&format!("{path}.{key}"), value, ours, findings),
                }
            }
        }
        (Value::Array(theirs), Value::Array(ours)) => {
            for one in theirs.iter().filter(|one| one.is_object()) {
                // The one of the same name, where things have names.
                let like =
                    |other: &&Value| ["name", "routing_key"].iter().all(|key| one[*key] == other[*key]);
                if let Some(other) = ours.iter().find(like).or(ours.first()) {
                    compare(&format!("{path}[]"), one, other, findings);
                }
            }
        }
        (Value::String(_), Value::Null) if NULL_OR_TEXT.iter().any(|part| path.contains(part)) => {}
        _ if kind(theirs) == kind(ours) => {}
        _ => _ = findings.insert(format!("{path} is {} and not {}", kind(ours), kind(theirs))),
    }
}

fn used(api: &Api) -> Client {
    api.request(
        "PUT",
        "policies/%2F/shape",
        Some(r#"{"pattern":"^shapes","definition":{"max-length":100}}"#),
    );
    let client = Client::connect(api.amqp_port);
    client.use_once();
    let is_counted = |list: &Value| {
        let counted = |one: &Value| one["message_stats"]["publish"].as_u64().is_some_and(|count| count > 0);
        list.as_array().is_some_and(|list| list.iter().filter(|one| counted(one)).count() == 2)
    };
    api.wait_for("queues", "statistics of two queues", is_counted);
    api.wait_for("connections", "the connection's statistics", |list| list[0]["recv_oct"].is_u64());
    api.wait_for("channels", "the channel's statistics", |list| list[0]["message_stats"].is_object());
    client
}

fn filled_in(api: &Api, endpoint: &str) -> String {
    let node = api.fetch("overview")["node"].as_str().expect("a name").to_owned();
    let connection = api.fetch("connections")[0]["name"].as_str().expect("a name").to_owned();
    let connection = connection.replace(' ', "%20").replace('>', "%3E");
    endpoint.replace("{node}", &node).replace("{connection}", &connection)
}

#[test]
fn every_answer_has_the_fields_that_rabbitmq_gives() {
    let Some(rabbitmq) = RabbitMq::start(&[]) else { return };
    let api = Api::start();
    let _clients = [used(&rabbitmq.api), used(&api)];
    let mut findings = BTreeSet::new();
    for endpoint in ENDPOINTS {
        let theirs = rabbitmq.api.get(&filled_in(&rabbitmq.api, endpoint));
        let ours = api.get(&filled_in(&api, endpoint));
        if theirs.status == ours.status {
            compare(endpoint, &theirs.json(), &ours.json(), &mut findings);
        } else {
            findings.insert(format!("{endpoint} is {} and not {}", ours.status, theirs.status));
        }
    }
    assert!(findings.is_empty(), "{}", findings.into_iter().collect::<Vec<_>>().join("\n"));
}

#[test]
fn every_endpoint_answers() {
    let api = Api::start();
    let _client = used(&api);
    for endpoint in ENDPOINTS {
        let path = filled_in(&api, endpoint);
        let answer = api.get(&path);
        assert!(matches!(answer.status, 200 | 503), "{path}: {}", answer.status);
        let length = answer.header("content-length").map(str::to_owned);
        assert_eq!(length, Some(answer.body.len().to_string()), "{path}");
        answer.json();
    }
}
