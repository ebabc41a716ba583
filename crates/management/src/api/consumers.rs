//! Consumers, as listed.

use std::collections::HashMap;

use leveret_broker::queue::ConsumerSnapshot;
use leveret_broker::{ConnectionId, Queue};
use serde_json::{Value, json};

use super::answer::Answered;
use super::call::Call;
use super::{connections, listing};
use crate::json as fields;
use crate::node::ConnectionInfo;

type Connections = HashMap<ConnectionId, ConnectionInfo>;

/// GET consumers, GET consumers/:vhost.
pub(crate) fn list(call: &Call) -> Answered {
    let known = connections::by_id(call);
    let mut shown = Vec::new();
    for vhost in call.vhosts_by_name()? {
        for queue in vhost.queues_by_name() {
            for consumer in queue.consumers() {
                let user = known.get(&consumer.holder.connection).map_or("", |one| one.user.as_str());
                if call.sees_connection(user) {
                    shown.push(self::shown(call, &queue, &consumer, &known));
                }
            }
        }
    }
    listing::list_values(call, shown)
}

/// The consumers of a queue.
pub(crate) fn of_queue(call: &Call, queue: &Queue) -> Value {
    let known = connections::by_id(call);
    queue.consumers().iter().map(|consumer| shown(call, queue, consumer, &known)).collect()
}

/// The consumers of a channel.
pub(crate) fn of_channel(call: &Call, connection: ConnectionId, number: u16) -> Value {
    let known = connections::by_id(call);
    let mut found = Vec::new();
    for vhost in call.visible_vhosts() {
        for queue in vhost.queues_by_name() {
            let of_channel = queue.consumers().into_iter().filter(|consumer| {
                consumer.holder.connection == connection && consumer.holder.channel == number
            });
            found.extend(of_channel.map(|consumer| shown(call, &queue, &consumer, &known)));
        }
    }
    Value::Array(found)
}

fn shown(call: &Call, queue: &Queue, consumer: &ConsumerSnapshot, known: &Connections) -> Value {
    let connection = known.get(&consumer.holder.connection);
    let name = connection.map_or("", |one| one.name.as_str());
    json!({
        "arguments": fields::object(&consumer.arguments),
        "ack_required": !consumer.no_ack,
        "active": consumer.activity.is_active(),
        "activity_status": consumer.activity.as_str(),
        "channel_details": {
            "connection_name": name,
            "name": format!("{name} ({})", consumer.holder.channel),
            "node": call.api.node.name(),
            "number": consumer.holder.channel,
            "peer_host": connection.map(|one| one.peer.ip().to_canonical().to_string()),
            "peer_port": connection.map(|one| one.peer.port()),
            "user": connection.map(|one| one.user.as_str()),
        },
        "consumer_tag": &*consumer.holder.tag,
        "consumer_timeout": queue.settings().consumer_timeout_ms.or(call.api.node.resources().consumer_timeout_ms),
        "exclusive": consumer.exclusive,
        "prefetch_count": consumer.prefetch,
        "queue": { "name": queue.spec.name.as_str(), "vhost": queue.spec.vhost.as_str() },
    })
}
