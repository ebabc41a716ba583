//! Connections: as listed, and closing them.

use std::collections::HashMap;

use leveret_broker::ConnectionId;
use leveret_codec::table::{FieldTable, FieldValue};
use serde_json::{Value, json};

use super::answer::{Answer, Answered, Refusal};
use super::call::Call;
use super::channels;
use super::listing::{self, View};
use super::rates::Measured;
use crate::access::Tag;
use crate::json as fields;
use crate::node::ConnectionInfo;

/// COMPAT: what is said where nobody gives a reason.
const REASON: &str = "Closed via management plugin";

/// Octets of a reason: a reply text has to hold it.
const REASON_BYTES_MAX: usize = 200;

/// GET connections, GET vhosts/:vhost/connections.
pub(crate) fn list(call: &Call) -> Answered {
    let vhost = match call.param("vhost") {
        "" => None,
        _ => Some(call.visible_vhost()?.name.to_string()),
    };
    let visible =
        visible(call).into_iter().filter(|one| vhost.as_ref().is_none_or(|vhost| one.vhost == *vhost));
    listing::list(call, visible.collect(), |one| one.name.as_str(), |one, view| put(call, one, view))
}

/// GET connections/username/:user.
pub(crate) fn of_user(call: &Call) -> Answered {
    let of_user = user_connections(call)?;
    listing::list(call, of_user, |one| one.name.as_str(), |one, view| put(call, one, view))
}

/// DELETE connections/username/:user.
pub(crate) fn close_of_user(call: &Call) -> Answered {
    check_closing(call, call.param("user"))?;
    let reason = reason(call);
    for connection in user_connections(call)? {
        if call.api.node.close_connection(connection.id, &reason) {
            tell_closed(call, &connection, &reason);
        }
    }
    Ok(Answer::NoContent)
}

/// COMPAT: monitors see all connections and close their own, administrators close all.
fn check_closing(call: &Call, user: &str) -> Result<(), Refusal> {
    if call.user.name == user || call.user.has(Tag::Administrator) {
        return Ok(());
    }
    Err(Refusal::not_authorised("User not authorised to close the connection of another user"))
}

fn tell_closed(call: &Call, connection: &ConnectionInfo, reason: &str) {
    let closed = FieldTable::new()
        .with("name", connection.name.as_str())
        .with("user", connection.user.as_str())
        .with("reason", reason);
    call.actor().note("connection.closed", &closed);
}

fn user_connections(call: &Call) -> Result<Vec<ConnectionInfo>, Refusal> {
    let user = call.param("user");
    if !call.sees_connection(user) {
        return Err(Refusal::not_authorised("User not authorised to access the connections of another user"));
    }
    Ok(call.api.node.connections().into_iter().filter(|one| one.user == user).collect())
}

/// GET connections/:name.
pub(crate) fn show(call: &Call) -> Answered {
    let found = find(call)?;
    listing::one(call, |view| put(call, &found, view))
}

/// GET connections/:name/sessions: those of AMQP 1.0, which no connection here has.
pub(crate) fn sessions(call: &Call) -> Answered {
    find(call)?;
    Ok(Answer::Json(json!([])))
}

/// DELETE connections/:name.
pub(crate) fn close(call: &Call) -> Answered {
    let found = find(call)?;
    check_closing(call, &found.user)?;
    let reason = reason(call);
    if call.api.node.close_connection(found.id, &reason) {
        tell_closed(call, &found, &reason);
        Ok(Answer::NoContent)
    } else {
        Err(Refusal::no_object())
    }
}

fn reason(call: &Call) -> String {
    let mut reason = call.header("x-reason").filter(|reason| !reason.is_empty()).unwrap_or(REASON).to_owned();
    // A header is ASCII here: no character is cut.
    reason.truncate(REASON_BYTES_MAX);
    reason
}

/// The connections that the user may see.
pub(crate) fn visible(call: &Call) -> Vec<ConnectionInfo> {
    let all = call.api.node.connections().into_iter();
    all.filter(|one| call.sees_connection(&one.user)).collect()
}

/// All connections, by identity.
pub(crate) fn by_id(call: &Call) -> HashMap<ConnectionId, ConnectionInfo> {
    call.api.node.connections().into_iter().map(|one| (one.id, one)).collect()
}

pub(crate) fn find(call: &Call) -> Result<ConnectionInfo, Refusal> {
    let name = call.param("connection");
    let found = call.api.node.connections().into_iter().find(|one| one.name == name);
    let found = found.ok_or_else(Refusal::no_object)?;
    if call.sees_connection(&found.user) {
        Ok(found)
    } else {
        Err(Refusal::not_authorised("User not authorised to access the connection of another user"))
    }
}

/// The part of a connection that other things name.
pub(crate) fn details(connection: &ConnectionInfo) -> Value {
    json!({
        "name": connection.name,
        "peer_host": connection.peer.ip().to_canonical().to_string(),
        "peer_port": connection.peer.port(),
    })
}

fn put(call: &Call, one: &ConnectionInfo, view: &mut View<'_>) {
    let host = |address: std::net::SocketAddr| address.ip().to_canonical().to_string();
    view.put("name", one.name.as_str());
    view.put("node", call.api.node.name());
    view.put("vhost", one.vhost.as_str());
    view.put("user", one.user.as_str());
    view.put("user_who_performed_action", one.user.as_str());
    view.put("type", "network");
    view.put("protocol", "AMQP 0-9-1");
    view.put("auth_mechanism", one.mechanism.as_str());
    view.put("state", if one.is_blocked { "blocked" } else { "running" });
    view.put("channels", one.channels);
    view.put("channel_max", one.channel_max);
    view.put("frame_max", one.frame_max);
    view.put("timeout", one.heartbeat_s);
    view.put("connected_at", one.opened_at.0);
    view.put_with("client_properties", || fields::object(&one.client_properties));
    match one.client_properties.get("connection_name") {
        Some(FieldValue::LongString(name)) => view.put("user_provided_name", fields::lossy(name)),
        _ => view.put("user_provided_name", ""),
    }
    view.put_with("host", || one.local.map_or(Value::Null, |local| host(local).into()));
    view.put("port", one.local.map(|local| local.port()));
    view.put_with("peer_host", || host(one.peer).into());
    view.put("peer_port", one.peer.port());
    put_tls(one, view);
    if view.wants("recv_oct") || view.wants("recv_oct_details") || view.wants("send_oct_details") {
        let statistics = &call.api.statistics;
        let measured = Measured::new([one.received.0, one.sent.0], statistics.connection(one.id))
            .over_time(call, || statistics.connection_history(one.id));
        view.put_with("recv_oct_details", || measured.details("data_rates", &[0]));
        view.put_with("send_oct_details", || measured.details("data_rates", &[1]));
    }
    view.put("recv_oct", one.received.0);
    view.put("recv_cnt", one.received.1);
    view.put("send_oct", one.sent.0);
    view.put("send_cnt", one.sent.1);
    view.put("send_pend", one.waiting_bytes);
}

fn put_tls(one: &ConnectionInfo, view: &mut View<'_>) {
    let tls = one.tls.as_ref();
    view.put("ssl", tls.is_some());
    view.put("ssl_protocol", tls.map(|tls| tls.protocol.as_str()));
    view.put("ssl_cipher", tls.map(|tls| tls.cipher.as_str()));
    view.put("ssl_key_exchange", tls.map(|tls| tls.key_exchange.as_str()));
    view.put("ssl_hash", Value::Null);
    view.put("peer_cert_subject", tls.and_then(|tls| tls.peer_subject.as_deref()));
    view.put("peer_cert_issuer", tls.and_then(|tls| tls.peer_issuer.as_deref()));
    view.put("peer_cert_validity", tls.and_then(|tls| tls.peer_validity.as_deref()));
}

/// The channels of a connection.
pub(crate) fn channels_of(call: &Call, id: ConnectionId) -> Vec<channels::Shown> {
    channels::visible(call).into_iter().filter(|channel| channel.connection == id).collect()
}
