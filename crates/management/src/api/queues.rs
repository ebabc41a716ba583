//! Queues: as listed, declaring, deleting and purging them.

use std::collections::HashMap;
use std::sync::Arc;

use leveret_broker::access::permissions::{Permission, Resource};
use leveret_broker::queue::settings::QueueSettings;
use leveret_broker::queue::{ConsumerActivity, QueueSnapshot};
use leveret_broker::vhost::QueueDeclaration;
use leveret_broker::{ConnectionId, Queue, QueueId, Vhost};
use leveret_codec::table::{FieldTable, FieldValue};
use serde_json::{Map, Value, json};

use super::answer::{Answer, Answered, Refusal};
use super::call::{Call, NO_CONNECTION, flag, text};
use super::listing::{self, View};
use super::rates::{Measured, QUEUE_COUNTS};
use super::{connections, consumers, exchanges};
use crate::json as fields;
use crate::node::ConnectionInfo;
use crate::statistics::{QUEUE, Rates, queue_values};

/// What a listing of queues looks up once.
struct Context {
    rates: HashMap<QueueId, Rates<QUEUE>>,
    /// Of those that own exclusive queues.
    connections: HashMap<ConnectionId, ConnectionInfo>,
}

impl Context {
    fn of(call: &Call, queues: &[Arc<Queue>]) -> Self {
        let ids: Vec<_> = queues.iter().map(|queue| queue.id).collect();
        let has_owners = queues.iter().any(|queue| queue.spec.owner.is_some());
        let connections = if has_owners { connections::by_id(call) } else { HashMap::new() };
        // What was not asked for is not looked up.
        let rates = if call.is_plain() { HashMap::new() } else { call.api.statistics.queues(&ids) };
        Self { rates, connections }
    }
}

/// GET queues, GET queues/:vhost.
pub(crate) fn list(call: &Call) -> Answered {
    let vhosts = call.vhosts()?;
    let queues: Vec<_> = vhosts.iter().flat_map(|vhost| vhost.queues_by_name()).collect();
    let context = Context::of(call, &queues);
    listing::list(
        call,
        queues,
        |queue| queue.spec.name.as_str(),
        |queue, view| put(call, &context, queue, view),
    )
}

/// GET queues/:vhost/:name.
pub(crate) fn show(call: &Call) -> Answered {
    let (_, queue) = call.queue()?;
    let context = Context::of(call, std::slice::from_ref(&queue));
    listing::one(call, |view| {
        put(call, &context, &queue, view);
        if call.is_plain() {
            return;
        }
        view.put_with("consumer_details", || consumers::of_queue(call, &queue));
        view.put("deliveries", json!([]));
        view.put("incoming", json!([]));
    })
}

fn put(call: &Call, context: &Context, queue: &Queue, view: &mut View<'_>) {
    let (spec, snapshot) = (&queue.spec, queue.snapshot());
    view.put("name", spec.name.as_str());
    view.put("vhost", spec.vhost.as_str());
    view.put("type", spec.arguments.queue_type().as_str());
    view.put("durable", spec.durable);
    view.put("auto_delete", spec.auto_delete);
    view.put("exclusive", spec.owner.is_some());
    view.put_with("arguments", || fields::object(spec.arguments.table()));
    view.put("node", call.api.node.name());
    view.put("state", if queue.is_stopped() { "crashed" } else { "running" });
    if view.wants("policy") || view.wants("operator_policy") || view.wants("effective_policy_definition") {
        put_policies(&queue.settings(), view);
    }
    if spec.is_quorum() {
        put_replicas(call.api.node.name(), view);
    }
    if call.is_plain() {
        put_totals(call, &snapshot, view);
        return;
    }
    put_consumers(context, queue, &snapshot, view);
    put_lengths(&snapshot, queue, view);
    put_rates(call, context, queue, &snapshot, view);
    if spec.is_quorum() {
        view.put("messages_dlx", 0);
        view.put("message_bytes_dlx", 0);
        view.put_with("delivery_limit", || {
            queue.settings().delivery_limit.map_or(json!("unlimited"), Value::from)
        });
    } else {
        view.put("storage_version", 2);
        view.put("recoverable_slaves", Value::Null);
    }
}

/// A quorum of one node.
fn put_replicas(node: &str, view: &mut View<'_>) {
    view.put("leader", node);
    view.put("members", json!([node]));
    view.put("online", json!([node]));
    view.put_with("open_files", || json!({ node: 0 }));
}

/// All that is counted for those who asked for no more than this.
fn put_totals(call: &Call, snapshot: &QueueSnapshot, view: &mut View<'_>) {
    if call.asks("enable_queue_totals") {
        view.put("messages", snapshot.ready + snapshot.unacked);
        view.put("messages_ready", snapshot.ready);
        view.put("messages_unacknowledged", snapshot.unacked);
    }
}

fn put_policies(settings: &QueueSettings, view: &mut View<'_>) {
    view.put("policy", settings.policies.policy_name());
    view.put("operator_policy", settings.policies.operator_policy_name());
    view.put_with("effective_policy_definition", || {
        fields::object(&settings.policies.effective_definition())
    });
}

fn put_consumers(context: &Context, queue: &Queue, snapshot: &QueueSnapshot, view: &mut View<'_>) {
    view.put("consumers", snapshot.consumers);
    // Consumers that can take no more are not told from the others: all that have something to do can do it.
    let capacity = if snapshot.consumers > 0 { 1.0 } else { 0.0 };
    view.put("consumer_capacity", fields::float(capacity));
    view.put("consumer_utilisation", fields::float(capacity));
    let (mut exclusive, mut active) = (Value::Null, Value::Null);
    if snapshot.consumers > 0
        && (view.wants("exclusive_consumer_tag") || view.wants("single_active_consumer_tag"))
    {
        for consumer in queue.consumers() {
            if consumer.exclusive {
                exclusive = Value::from(&*consumer.holder.tag);
            }
            if consumer.activity == ConsumerActivity::SingleActive {
                active = Value::from(&*consumer.holder.tag);
            }
        }
    }
    view.put("exclusive_consumer_tag", exclusive);
    view.put("single_active_consumer_tag", active.clone());
    if queue.spec.is_quorum() {
        view.put("single_active_consumer_ctag", active);
    }
    if let Some(owner) = queue.spec.owner.and_then(|owner| context.connections.get(&owner)) {
        view.put_with("owner_pid_details", || connections::details(owner));
    }
}

/// COMPAT: a queue keeps in memory what it counts as that; what was persistent of the rest is not known.
fn put_lengths(snapshot: &QueueSnapshot, queue: &Queue, view: &mut View<'_>) {
    let messages = snapshot.ready + snapshot.unacked;
    let bytes = snapshot.ready_bytes + snapshot.unacked_bytes;
    view.put("messages", messages);
    view.put("messages_ready", snapshot.ready);
    view.put("messages_unacknowledged", snapshot.unacked);
    view.put("message_bytes", bytes);
    view.put("message_bytes_ready", snapshot.ready_bytes);
    view.put("message_bytes_unacknowledged", snapshot.unacked_bytes);
    view.put("memory", snapshot.memory_bytes);
    if !queue.spec.durable {
        view.put("messages_persistent", 0);
        view.put("message_bytes_persistent", 0);
    }
}

fn put_rates(call: &Call, context: &Context, queue: &Queue, snapshot: &QueueSnapshot, view: &mut View<'_>) {
    let rates = context.rates.get(&queue.id).copied();
    let measured = Measured::new(queue_values(snapshot), rates.unwrap_or_default())
        .over_time(call, || call.api.statistics.queue_history(queue.id));
    view.put_with("messages_details", || measured.details("lengths", &[0, 1]));
    view.put_with("messages_ready_details", || measured.details("lengths", &[0]));
    view.put_with("messages_unacknowledged_details", || measured.details("lengths", &[1]));
    if view.wants("message_stats")
        && let Some(stats) = measured.message_stats(&QUEUE_COUNTS)
    {
        view.put_with("message_stats", || stats);
    }
    let is_idle = measured.rates.per_second.iter().all(|&rate| rate == 0.0);
    if is_idle && view.wants("idle_since") {
        let since = match measured.rates.changed_ms {
            0 => call.api.statistics.queue(queue.id).changed_ms,
            since => since,
        };
        view.put("idle_since", fields::moment(since));
    }
}

/// PUT queues/:vhost/:name.
pub(crate) fn declare(call: &Call) -> Answered {
    let (vhost, name) = (call.vhost()?, call.param("queue"));
    let object = call.object()?;
    if let Some(node) = text(&object, "node")?
        && node != call.api.node.name()
    {
        return Err(Refusal::bad_request(format!("node '{node}' is not known")));
    }
    call.check_queue(&vhost, Permission::Configure, name)?;
    let arguments = exchanges::arguments(&object)?;
    check_references(call, &vhost, (Resource::Queue, name), &arguments, "x-dead-letter-exchange")?;
    let is_there = vhost.find_queue(name).is_some();
    // COMPAT: quorum queues are durable even if nobody says so; rabbitmqadmin of 4.x leaves it out.
    let is_quorum = arguments.get("x-queue-type").and_then(FieldValue::as_str) == Some("quorum");
    let declaration = QueueDeclaration {
        name,
        durable: flag(&object, "durable")?.unwrap_or(is_quorum),
        exclusive: flag(&object, "exclusive")?.unwrap_or(false),
        auto_delete: flag(&object, "auto_delete")?.unwrap_or(false),
        arguments,
    };
    if declaration.exclusive {
        return Err(Refusal::bad_request("an exclusive queue needs a connection that owns it"));
    }
    let (_, position) = vhost.declare_queue(declaration, NO_CONNECTION)?;
    call.wait_until_safe(position)?;
    Ok(if is_there { Answer::NoContent } else { Answer::Created(None) })
}

/// What a user needs who declares something that refers to an exchange. COMPAT: to read the thing and to write to it.
pub(crate) fn check_references(
    call: &Call,
    vhost: &Vhost,
    (resource, name): (Resource, &str),
    arguments: &FieldTable,
    key: &str,
) -> Result<(), Refusal> {
    if let Some(exchange) = arguments.get(key).and_then(FieldValue::as_str) {
        call.check(vhost, Permission::Read, resource, name)?;
        call.check_exchange(vhost, Permission::Write, exchange)?;
    }
    Ok(())
}

/// DELETE queues/:vhost/:name.
pub(crate) fn delete(call: &Call) -> Answered {
    let (vhost, queue) = call.queue()?;
    let name = queue.spec.name.as_str();
    call.check_queue(&vhost, Permission::Configure, name)?;
    let (_, position) =
        vhost.delete_queue(name, NO_CONNECTION, call.asks("if-unused"), call.asks("if-empty"))?;
    call.tell("queue.deleted", &vhost, name);
    call.wait_until_safe(position)?;
    Ok(Answer::NoContent)
}

/// DELETE queues/:vhost/:name/contents.
pub(crate) fn purge(call: &Call) -> Answered {
    let (vhost, queue) = call.queue()?;
    let name = queue.spec.name.as_str();
    call.check_queue(&vhost, Permission::Read, name)?;
    let (_, position) = vhost.queue(name, NO_CONNECTION)?.purge()?;
    call.tell("queue.purged", &vhost, name);
    call.wait_until_safe(position)?;
    Ok(Answer::NoContent)
}

/// POST queues/:vhost/:name/actions. COMPAT: what there was went with mirrored queues.
pub(crate) fn act(call: &Call) -> Answered {
    call.queue()?;
    let object: Map<_, _> = call.object_with(&["action"])?;
    let action = object.get("action").cloned().unwrap_or_default();
    Err(Refusal::bad_request(json!(["unknown", action])))
}
