//! Writing what a broker has as a document. COMPAT: without what the broker makes by itself, and exclusive queues.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use leveret_broker::access::user::{User, VhostLimits};
use leveret_broker::exchange::destination::{Destination, table_of};
use leveret_broker::policy::{Policy, PolicyKind};
use leveret_broker::vhost::Binding;
use leveret_broker::{Broker, Vhost};
use serde_json::{Map, Value, json};

use crate::json as fields;

/// The whole broker. `version` is the version of RabbitMQ whose form this is, `cluster` the name of the broker.
#[must_use]
pub fn export(broker: &Broker, version: &str, cluster: &str) -> Value {
    let grants = broker.access().all_grants();
    let permissions = grants.iter().filter_map(|grants| grants.permissions()).map(|one| {
        json!({
            "user": one.user.as_str(), "vhost": one.vhost.as_str(),
            "configure": one.configure, "write": one.write, "read": one.read,
        })
    });
    let topics = grants.iter().flat_map(|grants| grants.topic_permissions()).map(|one| {
        json!({
            "user": one.user.as_str(), "vhost": one.vhost.as_str(), "exchange": one.exchange.as_str(),
            "write": one.write, "read": one.read,
        })
    });
    let vhosts = broker.vhosts();
    let mut document = header(version, "cluster");
    document.insert("original_cluster_name".to_owned(), cluster.into());
    document
        .insert("users".to_owned(), broker.access().users().iter().map(|user| user_entry(user)).collect());
    document.insert("vhosts".to_owned(), vhosts.iter().map(|vhost| vhost_entry(vhost)).collect());
    document.insert("permissions".to_owned(), permissions.collect());
    document.insert("topic_permissions".to_owned(), topics.collect());
    document.insert("global_parameters".to_owned(), global_parameters(broker));
    for (key, entries) in SECTIONS {
        let entries = vhosts.iter().flat_map(|vhost| {
            let in_vhost = |mut entry: Map<String, Value>| {
                entry.insert("vhost".to_owned(), vhost.name.as_str().into());
                Value::Object(entry)
            };
            entries(vhost).into_iter().map(in_vhost)
        });
        document.insert(key.to_owned(), entries.collect());
    }
    Value::Object(document)
}

/// One vhost, without its name: it can be imported into another one.
#[must_use]
pub fn export_vhost(vhost: &Vhost, version: &str) -> Value {
    let mut document = header(version, "single_virtual_host");
    if let Value::Object(entry) = vhost_entry(vhost) {
        document.extend(entry.into_iter().filter(|(key, _)| key != "name"));
    }
    document.insert("original_vhost_name".to_owned(), vhost.name.as_str().into());
    for (key, entries) in SECTIONS {
        document.insert(key.to_owned(), entries(vhost).into_iter().map(Value::Object).collect());
    }
    Value::Object(document)
}

pub(crate) type Entries = Vec<Map<String, Value>>;

/// The key of a section, and what a vhost has of it.
type Section = (&'static str, fn(&Vhost) -> Entries);

/// What each vhost has.
const SECTIONS: [Section; 5] = [
    ("parameters", parameters),
    ("policies", policies),
    ("queues", queues),
    ("exchanges", exchanges),
    ("bindings", bindings),
];

fn global_parameters(broker: &Broker) -> Value {
    let all = broker.global_parameters().into_iter();
    all.map(|(name, value)| json!({ "name": name, "value": fields::value(&value) })).collect()
}

fn header(version: &str, format: &str) -> Map<String, Value> {
    let header = json!({
        "rabbit_version": version,
        "rabbitmq_version": version,
        "product_name": "RabbitMQ",
        "product_version": version,
        "rabbitmq_definition_format": format,
    });
    object(header)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

fn user_entry(user: &User) -> Value {
    let mut limits = Map::new();
    let known =
        [("max-connections", user.limits.max_connections), ("max-channels", user.limits.max_channels)];
    put_limits(&mut limits, &known);
    let hash = user.password.as_ref();
    json!({
        "name": user.name.as_str(),
        "password_hash": hash.map(|hash| BASE64_STANDARD.encode(hash.octets())).unwrap_or_default(),
        "hashing_algorithm": hash.map_or("rabbit_password_hashing_sha256", |hash| hash.algorithm().as_str()),
        "tags": user.tags,
        "limits": limits,
    })
}

fn vhost_entry(vhost: &Vhost) -> Value {
    let settings = vhost.settings();
    let mut metadata = json!({ "description": settings.description, "tags": settings.tags });
    // COMPAT: RabbitMQ 3.10 refuses Erlang's word for nothing here, and only here.
    if let Some(queue_type) = settings.default_queue_type {
        metadata["default_queue_type"] = queue_type.as_str().into();
    }
    // COMPAT: RabbitMQ before 4.1 does not know the word.
    if settings.is_protected {
        metadata["protected_from_deletion"] = true.into();
    }
    json!({
        "name": vhost.name.as_str(),
        "description": settings.description,
        "tags": settings.tags,
        "default_queue_type": settings.default_queue_type.map_or("undefined", |queue_type| queue_type.as_str()),
        "metadata": metadata,
    })
}

fn put_limits(limits: &mut Map<String, Value>, known: &[(&str, Option<i64>)]) {
    for (key, limit) in known {
        limit.iter().for_each(|limit| _ = limits.insert((*key).to_owned(), Value::from(*limit)));
    }
}

/// Limits and policies of operators, which RabbitMQ keeps as parameters.
pub(crate) fn parameters(vhost: &Vhost) -> Entries {
    let VhostLimits { max_connections, max_queues } = vhost.settings().limits;
    let mut limits = Map::new();
    put_limits(&mut limits, &[("max-connections", max_connections), ("max-queues", max_queues)]);
    let limits = (!limits.is_empty())
        .then(|| object(json!({ "component": "vhost-limits", "name": "limits", "value": limits })));
    let policies = vhost.policies();
    let operator = policies.of_kind(PolicyKind::Operator).iter().map(|active| {
        let value = policy_value(&active.policy);
        object(json!({ "component": "operator_policy", "name": active.policy.name, "value": value }))
    });
    limits.into_iter().chain(operator).collect()
}

fn policies(vhost: &Vhost) -> Entries {
    let policies = vhost.policies();
    let entries = policies.of_kind(PolicyKind::Policy).iter().map(|active| {
        let mut entry = policy_value(&active.policy);
        entry.insert("name".to_owned(), active.policy.name.as_str().into());
        entry
    });
    entries.collect()
}

fn policy_value(policy: &Policy) -> Map<String, Value> {
    object(json!({
        "pattern": policy.pattern,
        "apply-to": policy.apply_to.as_str(),
        "priority": policy.priority,
        "definition": fields::object(&policy.definition),
    }))
}

fn queues(vhost: &Vhost) -> Entries {
    let mut queues = vhost.queues();
    queues.retain(|queue| queue.spec.owner.is_none());
    queues.sort_by(|one, other| one.spec.name.cmp(&other.spec.name));
    let entry = |spec: &leveret_broker::queue::QueueSpec| {
        object(json!({
            "name": spec.name.as_str(),
            "type": spec.arguments.queue_type().as_str(),
            "durable": spec.durable,
            "auto_delete": spec.auto_delete,
            "arguments": fields::object(spec.arguments.table()),
        }))
    };
    queues.iter().map(|queue| entry(&queue.spec)).collect()
}

fn exchanges(vhost: &Vhost) -> Entries {
    let mut exchanges = vhost.exchanges();
    exchanges.retain(|spec| !spec.name.as_str().starts_with("amq.") && !spec.internal);
    exchanges.sort_by(|one, other| one.name.cmp(&other.name));
    let entry = |spec: leveret_broker::exchange::ExchangeSpec| {
        object(json!({
            "name": spec.name.as_str(),
            "type": spec.exchange_type.as_str(),
            "durable": spec.durable,
            "auto_delete": spec.auto_delete,
            "internal": spec.internal,
            "arguments": fields::object(&spec.arguments),
        }))
    };
    exchanges.into_iter().map(entry).collect()
}

/// Bindings between what is exported, and system exchanges.
fn bindings(vhost: &Vhost) -> Entries {
    let internal: Vec<_> =
        vhost.exchanges().into_iter().filter(|spec| spec.internal).map(|spec| spec.name).collect();
    let is_exported = |binding: &Binding| match &binding.destination {
        Destination::Queue(queue) => {
            queue.spec.owner.is_none() && !queue.is_hidden() && !internal.contains(&binding.source)
        }
        Destination::Exchange(name) => !internal.contains(name) && !internal.contains(&binding.source),
    };
    let entry = |binding: Binding| {
        let (kind, destination) = match &binding.destination {
            Destination::Queue(queue) => ("queue", queue.spec.name.as_str()),
            Destination::Exchange(name) => ("exchange", name.as_str()),
        };
        object(json!({
            "source": binding.source.as_str(),
            "destination": destination,
            "destination_type": kind,
            "routing_key": binding.routing_key,
            "arguments": fields::object(&table_of(&binding.arguments)),
        }))
    };
    let mut entries: Entries = vhost.bindings().into_iter().filter(is_exported).map(entry).collect();
    entries.sort_by_cached_key(|entry| Value::Object(entry.clone()).to_string());
    entries
}
