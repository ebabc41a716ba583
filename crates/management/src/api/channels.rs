//! Channels, as listed.

use serde_json::{Value, json};

use super::answer::{Answered, Refusal};
use super::call::Call;
use super::connections;
use super::consumers;
use super::listing::{self, View};
use super::rates::{CHANNEL_COUNTS, Measured};
use crate::node::ChannelInfo;
use crate::statistics::channel_values;

pub(crate) type Shown = ChannelInfo;

/// GET channels, GET vhosts/:vhost/channels.
pub(crate) fn list(call: &Call) -> Answered {
    let vhost = match call.param("vhost") {
        "" => None,
        _ => Some(call.visible_vhost()?.name.to_string()),
    };
    let shown =
        visible(call).into_iter().filter(|one| vhost.as_ref().is_none_or(|vhost| one.vhost == *vhost));
    listed(call, shown.collect())
}

/// GET connections/:name/channels.
pub(crate) fn of_connection(call: &Call) -> Answered {
    let connection = connections::find(call)?;
    listed(call, connections::channels_of(call, connection.id))
}

fn listed(call: &Call, channels: Vec<ChannelInfo>) -> Answered {
    listing::list(call, channels, |one| one.connection_name.as_str(), |one, view| put(call, one, view))
}

/// GET channels/:name.
pub(crate) fn show(call: &Call) -> Answered {
    let wanted = call.param("channel");
    let found = visible(call).into_iter().find(|one| name(one) == wanted).ok_or_else(Refusal::no_object)?;
    listing::one(call, |view| {
        put(call, &found, view);
        view.put_with("consumer_details", || consumers::of_channel(call, found.connection, found.number));
        view.put("deliveries", json!([]));
        view.put("publishes", json!([]));
    })
}

pub(crate) fn visible(call: &Call) -> Vec<ChannelInfo> {
    let all = call.api.node.channels().into_iter();
    all.filter(|one| call.sees_connection(&one.user)).collect()
}

/// COMPAT: the connection's name and the number.
pub(crate) fn name(channel: &ChannelInfo) -> String {
    format!("{} ({})", channel.connection_name, channel.number)
}

fn put(call: &Call, one: &ChannelInfo, view: &mut View<'_>) {
    view.put_with("name", || name(one).into());
    view.put("number", one.number);
    view.put("node", call.api.node.name());
    view.put("vhost", one.vhost.as_str());
    view.put("user", one.user.as_str());
    view.put("user_who_performed_action", one.user.as_str());
    view.put("state", "running");
    view.put_with("connection_details", || {
        json!({
            "name": one.connection_name,
            "peer_host": one.peer.ip().to_canonical().to_string(),
            "peer_port": one.peer.port(),
        })
    });
    view.put("confirm", one.is_confirming);
    view.put("transactional", one.is_transactional);
    view.put("consumer_count", one.consumers);
    view.put("prefetch_count", one.prefetch);
    view.put("global_prefetch_count", one.global_prefetch);
    view.put("messages_unacknowledged", one.unacked);
    view.put("messages_unconfirmed", one.unconfirmed);
    view.put("messages_uncommitted", one.uncommitted);
    view.put("acks_uncommitted", one.uncommitted_acks);
    view.put("pending_raft_commands", 0);
    if view.wants("message_stats") {
        let statistics = &call.api.statistics;
        let rates = statistics.channel(one.connection, one.number);
        let measured = Measured::new(channel_values(&one.counters), rates)
            .over_time(call, || statistics.channel_history(one.connection, one.number));
        if let Some(stats) = measured.message_stats(&CHANNEL_COUNTS) {
            view.put_with("message_stats", || stats);
        }
        if measured.rates.changed_ms > 0 && measured.rates.per_second.iter().all(|&rate| rate == 0.0) {
            view.put("idle_since", Value::from(crate::json::moment(measured.rates.changed_ms)));
        }
    }
}
