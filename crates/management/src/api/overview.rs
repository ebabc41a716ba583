//! The broker as a whole, and small facts about it.

use leveret_broker::exchange::ExchangeType;
use leveret_broker::parameters::CLUSTER_NAME;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Answered, Refusal};
use super::call::{Call, text};
use super::listing::{self, View};
use super::rates::{CHANNEL_COUNTS, Measured};
use super::vhosts::{self, administrators_only};
use crate::node::ListenerInfo;
use crate::statistics::overview_values;

/// COMPAT: the version of RabbitMQ whose behaviour may be expected.
pub(crate) const COMPATIBLE_VERSION: &str = "4.2.5";

/// Places among the values of the broker as a whole.
pub(crate) const CHURN: [(&str, usize); 7] = [
    ("connection_created", 14),
    ("connection_closed", 15),
    ("channel_created", 16),
    ("channel_closed", 17),
    ("queue_declared", 18),
    ("queue_created", 19),
    ("queue_deleted", 20),
];

/// Places of what channels count, behind the two numbers of queues.
fn counts() -> [(&'static str, usize); CHANNEL_COUNTS.len()] {
    CHANNEL_COUNTS.map(|(name, index)| (name, index + 2))
}

/// GET overview. COMPAT: monitors see what the node has, others what is in the vhosts that they may enter, and how
/// often connections come and go. Its name is there for all, since tools ask for it.
pub(crate) fn show(call: &Call) -> Answered {
    let node = &call.api.node;
    listing::one(call, |view| {
        view.put("management_version", COMPATIBLE_VERSION);
        view.put("rates_mode", "basic");
        view.put("sample_retention_policies", json!({ "global": [600], "basic": [600], "detailed": [600] }));
        view.put("exchange_types", exchange_types());
        view.put("product_name", "Leveret");
        view.put("product_version", env!("CARGO_PKG_VERSION"));
        view.put("rabbitmq_version", COMPATIBLE_VERSION);
        view.put("cluster_name", node.cluster_name());
        view.put("cluster_tags", json!({}));
        view.put("node_tags", json!({}));
        // COMPAT: tools show them, some must have them; there is no Erlang here.
        view.put("erlang_version", "0");
        view.put("erlang_full_version", "none: Leveret is written in Rust");
        view.put("crypto_lib_version", "");
        view.put("release_series_support_status", "supported");
        view.put("disable_stats", call.is_plain());
        view.put("enable_queue_totals", call.asks("enable_queue_totals"));
        view.put("default_queue_type", "classic");
        view.put("is_op_policy_updating_enabled", true);
        put_counts(call, view);
        view.put("statistics_db_event_queue", 0);
        view.put("node", node.name());
        if call.user.sees_all() {
            view.put_with("listeners", || {
                node.listeners().iter().map(|listener| shown_listener(listener, node.name())).collect()
            });
            view.put_with("contexts", || contexts(call));
        }
    })
}

/// What there is, and what was counted.
fn put_counts(call: &Call, view: &mut View<'_>) {
    let (node, statistics, vhosts) = (&call.api.node, &call.api.statistics, call.visible_vhosts());
    let (mut queues, mut consumers, mut exchanges) = (0_u64, 0_u64, 0_u64);
    for vhost in &vhosts {
        vhost.for_each_queue(|queue| {
            consumers += queue.snapshot().consumers as u64;
            queues += 1;
        });
        vhost.for_each_exchange(|_, _, _| exchanges += 1);
    }
    let connections = node.connections().into_iter().filter(|one| call.sees_connection(&one.user)).count();
    let channels = node.channels().into_iter().filter(|one| call.sees_connection(&one.user)).count();
    view.put(
        "object_totals",
        json!({
            "connections": connections, "channels": channels, "consumers": consumers,
            "exchanges": exchanges, "queues": queues,
        }),
    );
    if call.is_plain() && !call.asks("enable_queue_totals") {
        return;
    }
    let of_queues = vhosts::measured(call, &vhosts);
    if call.is_plain() {
        view.put_with("queue_totals", || Value::Object(vhosts::queue_totals(&of_queues)));
        return;
    }
    let values = overview_values(of_queues.value(0), of_queues.value(1), &node.totals(), &**node, [0; 4]);
    let measured =
        Measured::new(values, statistics.overview()).over_time(call, || statistics.overview_history());
    view.put_with("churn_rates", || churn_rates(&measured));
    if call.user.sees_all() {
        view.put_with("queue_totals", || Value::Object(vhosts::queue_totals(&measured)));
        view.put_with("message_stats", || message_stats(&measured));
    } else {
        view.put_with("queue_totals", || Value::Object(vhosts::queue_totals(&of_queues)));
        let stats = vhosts::message_stats(call, &vhosts, &of_queues);
        view.put("message_stats", stats.unwrap_or_else(|| json!({})));
    }
}

fn message_stats<const N: usize>(measured: &Measured<N>) -> Value {
    let mut stats = measured.message_stats(&counts()).unwrap_or_else(|| json!({}));
    if let Some(stats) = stats.as_object_mut().filter(|stats| !stats.is_empty()) {
        // COMPAT: reads and writes of single messages; there are none, blocks are.
        for name in ["disk_reads", "disk_writes"] {
            stats.insert(name.to_owned(), 0.into());
            stats.insert(format!("{name}_details"), measured.details("msg_rates", &[]));
        }
    }
    stats
}

fn churn_rates<const N: usize>(measured: &Measured<N>) -> Value {
    let mut object = Map::new();
    CHURN.iter().for_each(|&(name, index)| measured.put(&mut object, "msg_rates", name, &[index]));
    Value::Object(object)
}

/// A listener, as listed.
pub(crate) fn shown_listener(listener: &ListenerInfo, node: &str) -> Value {
    json!({
        "node": node,
        "protocol": listener.protocol,
        "ip_address": listener.address.ip().to_string(),
        "port": listener.address.port(),
        "socket_opts": { "backlog": 4096, "nodelay": true },
        "tls": has_tls(listener),
    })
}

/// Whether TLS is spoken there.
pub(crate) fn has_tls(listener: &ListenerInfo) -> bool {
    listener.protocol.ends_with("/ssl") || listener.protocol.starts_with("https")
}

/// Where HTTP is spoken.
pub(crate) fn contexts(call: &Call) -> Value {
    let node = &call.api.node;
    let listeners = node.listeners().into_iter().filter(|listener| listener.protocol.starts_with("http"));
    let prefix = call.api.settings.path_prefix.as_str();
    let shown = listeners.map(|listener| {
        let is_metrics = listener.protocol.ends_with("/prometheus");
        json!({
            "node": node.name(),
            "description": if is_metrics { "Prometheus" } else { "Management" },
            "path": if is_metrics || prefix.is_empty() { "/" } else { prefix },
            "ip": listener.address.ip().to_string(),
            "port": listener.address.port().to_string(),
            "cowboy_opts": "[]",
            "ssl_opts": [],
        })
    });
    shown.collect()
}

/// The types of exchanges there are.
pub(crate) fn exchange_types() -> Value {
    let types = [
        (ExchangeType::Direct, "AMQP direct exchange, as per the AMQP specification"),
        (ExchangeType::Fanout, "AMQP fanout exchange, as per the AMQP specification"),
        (ExchangeType::Headers, "AMQP headers exchange, as per the AMQP specification"),
        (ExchangeType::Topic, "AMQP topic exchange, as per the AMQP specification"),
        (ExchangeType::ConsistentHash, "Consistent Hashing Exchange"),
        (ExchangeType::ModulusHash, "Modulus Hashing Exchange"),
        (ExchangeType::Random, "Random Exchange"),
        (ExchangeType::LocalRandom, "Picks one random local binding"),
        (ExchangeType::Delayed, "Delayed Message Exchange"),
        (ExchangeType::RecentHistory, "Recent History Exchange"),
        (ExchangeType::Deduplicating, "Message Deduplication Exchange"),
    ];
    let shown = types.into_iter().map(|(exchange_type, description)| {
        json!({ "name": exchange_type.as_str(), "description": description, "enabled": true })
    });
    shown.collect()
}

/// GET cluster-name.
pub(crate) fn cluster_name(call: &Call) -> Answered {
    Ok(Answer::Json(json!({ "name": call.api.node.cluster_name() })))
}

/// PUT cluster-name.
pub(crate) fn put_cluster_name(call: &Call) -> Answered {
    administrators_only(call)?;
    let object = call.object_with(&["name"])?;
    // COMPAT: RabbitMQ breaks over what is no text, and takes a blank one.
    let name = text(&object, "name")?.filter(|name| !name.is_empty());
    let name =
        name.ok_or_else(|| Refusal::bad_request("the name of a cluster is a text that is not empty"))?;
    let (position, _) = call.broker().set_global_parameter(call.actor(), CLUSTER_NAME, name.into())?;
    call.wait_until_safe(position)?;
    Ok(Answer::NoContent)
}

/// GET extensions: scripts for RabbitMQ's own pages, of which there are none.
pub(crate) fn extensions(_: &Call) -> Answered {
    Ok(Answer::Json(json!([])))
}

/// GET whoami.
pub(crate) fn who_am_i(call: &Call) -> Answered {
    Ok(Answer::Json(json!({ "name": call.user.name, "tags": call.user.tags })))
}

/// GET version.
pub(crate) fn version(_: &Call) -> Answered {
    Ok(Answer::Json(COMPATIBLE_VERSION.into()))
}

/// COMPAT: what clients may look for, and that cannot be turned off.
const FEATURE_FLAGS: [(&str, &str); 6] = [
    ("classic_queue_type_delivery_support", "Bug fix for classic queue deliveries"),
    ("direct_exchange_routing_v2", "Routes of direct exchanges are looked up by key"),
    ("drop_unroutable_metric", "Counts unroutable messages that are dropped"),
    ("empty_basic_get_metric", "Counts basic.get on empty queues"),
    ("quorum_queue", "Support of quorum queues"),
    ("user_limits", "Limits of connections and channels per user"),
];

/// GET feature-flags.
pub(crate) fn feature_flags(_: &Call) -> Answered {
    let flags = FEATURE_FLAGS.map(|(name, description)| {
        json!({
            "name": name, "desc": description, "doc_url": "", "state": "enabled",
            "stability": "required", "provided_by": "leveret",
        })
    });
    Ok(Answer::Json(Value::from(flags.to_vec())))
}

/// PUT feature-flags/:name/enable: each one that there is, is on.
pub(crate) fn enable_feature_flag(call: &Call) -> Answered {
    let name = call.param("name");
    if FEATURE_FLAGS.iter().any(|(known, _)| *known == name) {
        return Ok(Answer::NoContent);
    }
    Err(Refusal::bad_request("unsupported"))
}

/// GET deprecated-features: nothing here is on its way out.
pub(crate) fn deprecated_features(_: &Call) -> Answered {
    Ok(Answer::Json(json!([])))
}

/// GET auth/attempts/:node. COMPAT: of AMQP only when there were any.
pub(crate) fn attempts(call: &Call) -> Answered {
    this_node(call)?;
    let shown = |protocol: &str, (succeeded, failed): (u64, u64)| {
        json!({
            "protocol": protocol,
            "auth_attempts": succeeded + failed,
            "auth_attempts_succeeded": succeeded,
            "auth_attempts_failed": failed,
        })
    };
    let (attempts, totals) = (&call.api.attempts, call.api.node.totals());
    let of_amqp = attempts.of_amqp(totals.logins_accepted, totals.logins_refused);
    let http = shown("http", attempts.counts());
    let amqp = (of_amqp != (0, 0)).then(|| shown("amqp091", of_amqp));
    Ok(Answer::Json([http].into_iter().chain(amqp).collect()))
}

/// GET auth/attempts/:node/source. COMPAT: nothing, as where it is not asked for in the configuration.
pub(crate) fn attempts_by_source(call: &Call) -> Answered {
    this_node(call)?;
    Ok(Answer::Json(json!([])))
}

/// DELETE auth/attempts/:node and below.
pub(crate) fn forget_attempts(call: &Call) -> Answered {
    this_node(call)?;
    if !call.user.has(crate::access::Tag::Administrator) {
        return Err(Refusal::not_authorised(crate::access::Tag::Administrator.refusal()));
    }
    let totals = call.api.node.totals();
    call.api.attempts.forget(totals.logins_accepted, totals.logins_refused);
    Ok(Answer::NoContent)
}

/// POST rebalance/queues: leaders of queues are spread evenly over one node.
pub(crate) fn rebalance(_: &Call) -> Answered {
    Ok(Answer::NoContent)
}

/// DELETE reset: forgets what was sampled.
pub(crate) fn reset(call: &Call) -> Answered {
    if !call.param("node").is_empty() {
        this_node(call)?;
    }
    call.api.statistics.forget();
    Ok(Answer::NoContent)
}

/// Refuses what is about another node.
pub(crate) fn this_node(call: &Call) -> Result<(), Refusal> {
    if call.param("node") == call.api.node.name() { Ok(()) } else { Err(Refusal::no_object()) }
}
