//! Vhosts, as listed, and making them.

use std::sync::Arc;

use leveret_broker::Vhost;
use serde_json::{Map, Value, json};

use super::answer::{Answer, Answered, Refusal};
use super::call::{Call, flag};
use super::listing::{self, View};
use super::rates::{Measured, QUEUE_COUNTS};
use crate::access::Tag;
use crate::statistics::{QUEUE, Rates, queue_values};

/// GET vhosts.
pub(crate) fn list(call: &Call) -> Answered {
    let vhosts = call.visible_vhosts();
    listing::list(call, vhosts, |vhost| vhost.name.as_str(), |vhost, view| fields(call, vhost, view))
}

/// GET vhosts/:vhost.
pub(crate) fn show(call: &Call) -> Answered {
    let vhost = call.vhost()?;
    listing::one(call, |view| fields(call, &vhost, view))
}

fn fields(call: &Call, vhost: &Arc<Vhost>, view: &mut View<'_>) {
    view.put("name", vhost.name.as_str());
    view.put("description", "");
    view.put("tags", json!([]));
    view.put("default_queue_type", "classic");
    view.put("metadata", json!({ "description": "", "tags": [] }));
    view.put("protected_from_deletion", false);
    view.put("tracing", vhost.is_tracing());
    view.put_with("cluster_state", || json!({ call.api.node.name(): "running" }));
    let stats = ["messages", "messages_ready", "messages_unacknowledged", "message_stats"];
    if stats.iter().any(|name| view.wants(name) || view.wants(&format!("{name}_details"))) {
        put_messages(call, vhost, view);
    }
    let connections = call.api.node.connections();
    let of_vhost = connections.iter().filter(|one| one.vhost == vhost.name.as_str());
    let (received, sent) =
        of_vhost.fold((0, 0), |(received, sent), one| (received + one.received.0, sent + one.sent.0));
    // COMPAT: of connections that are open.
    view.put("recv_oct", received);
    view.put("recv_oct_details", json!({ "rate": 0.0 }));
    view.put("send_oct", sent);
    view.put("send_oct_details", json!({ "rate": 0.0 }));
}

/// Sums of the queues that are there.
fn put_messages(call: &Call, vhost: &Vhost, view: &mut View<'_>) {
    let (mut values, mut rates) = ([0; QUEUE], Rates::<QUEUE>::default());
    let mut ids = Vec::new();
    vhost.for_each_queue(|queue| {
        ids.push(queue.id);
        values.iter_mut().zip(queue_values(&queue.snapshot())).for_each(|(sum, one)| *sum += one);
    });
    for one in call.api.statistics.queues(&ids).values() {
        rates.per_second.iter_mut().zip(one.per_second).for_each(|(sum, one)| *sum += one);
    }
    let measured = Measured::new(values, rates);
    let mut object = Map::new();
    measured.put(&mut object, "lengths", "messages", &[0, 1]);
    measured.put(&mut object, "lengths", "messages_ready", &[0]);
    measured.put(&mut object, "lengths", "messages_unacknowledged", &[1]);
    object.into_iter().for_each(|(name, value)| view.put_with(&name, || value));
    if let Some(Value::Object(mut stats)) = measured.message_stats(&QUEUE_COUNTS) {
        // COMPAT: what only channels know; of those that are open.
        let mut counts = [("confirm", 0), ("return_unroutable", 0), ("drop_unroutable", 0)];
        for channel in call.api.node.channels().iter().filter(|one| one.vhost == vhost.name.as_str()) {
            let counted = [channel.counters.confirmed, channel.counters.returned, channel.counters.dropped];
            counts.iter_mut().zip(counted).for_each(|((_, sum), one)| *sum += one);
        }
        for (name, count) in counts {
            stats.insert(name.to_owned(), count.into());
            stats.insert(format!("{name}_details"), json!({ "rate": 0.0 }));
        }
        view.put_with("message_stats", || Value::Object(stats));
    }
}

/// PUT vhosts/:vhost: makes it, and turns the firehose on or off.
pub(crate) fn put(call: &Call) -> Answered {
    if !call.user.has(Tag::Administrator) {
        return Err(Refusal::not_authorised(Tag::Administrator.refusal()));
    }
    let (name, object) = (call.param("vhost"), call.object()?);
    let tracing = flag(&object, "tracing")?;
    for (key, value) in &object {
        let is_empty = matches!(value, Value::Null) || value == "" || *value == json!([]);
        if !matches!(key.as_str(), "tracing" | "name") && !is_empty {
            return Err(Refusal::bad_request(format!("{key} of virtual hosts is not supported yet")));
        }
    }
    let is_there = call.broker().vhost(name).is_ok();
    let vhost = call.broker().create_vhost(name);
    call.wait_until_safe(vhost.defined_at())?;
    if let Some(tracing) = tracing {
        vhost.set_tracing(tracing);
    }
    Ok(if is_there { Answer::NoContent } else { Answer::Created(None) })
}
