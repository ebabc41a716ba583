//! The firehose: while a vhost is traced, each message published to it and each delivery leaves a copy in the
//! exchange amq.rabbitmq.trace. COMPAT: keys, headers and their types are RabbitMQ's.
//!
//! Deliveries are made with a queue locked, where nothing can be published. So their copies are gathered and the
//! channel's task, which is poked, publishes them.

use std::sync::atomic::Ordering;

use leveret_broker::message::names;
use leveret_broker::reply_to::REPLY_TO_PREFIX;
use leveret_broker::{Delivery, MessageBatch, MessageView, Queue};
use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTable, FieldTableRef, FieldValue, FieldValueRef, ShortString};

use super::{Channel, Deliveries};
use crate::connection::Connection;

/// Where the copies go.
const TRACE_EXCHANGE: &str = "amq.rabbitmq.trace";

impl Channel {
    /// Publishes a copy of a message that was published to these keys and routed to these queues.
    pub(super) fn trace_publish(
        connection: &Connection,
        channel: u16,
        message: &MessageView<'_>,
        copies: &[String],
        queues: Vec<String>,
    ) {
        let routing_key = String::from_utf8_lossy(message.routing_key());
        let keys = [routing_key.into_owned()].into_iter().chain(copies.iter().cloned());
        let headers = headers(connection, channel, message, keys)
            .with("routed_queues", queues.into_iter().map(FieldValue::from).collect::<Vec<_>>());
        let mut batch = MessageBatch::default();
        let exchange = String::from_utf8_lossy(message.exchange());
        push_copy(&mut batch, &format!("publish.{exchange}"), &headers, message);
        connection.vhost.publish_own(&batch);
    }

    /// Publishes the copies of what was delivered.
    pub(super) fn publish_traced(&self) {
        // PERF: one load per run while nothing is traced.
        if self.deliveries.has_traced.load(Ordering::Relaxed) {
            let traced = {
                let mut traced = self.deliveries.traced.lock();
                self.deliveries.has_traced.store(false, Ordering::Relaxed);
                std::mem::take(&mut *traced)
            };
            self.connection.vhost.publish_own(&traced);
        }
    }
}

impl Deliveries {
    /// Notes a copy of a delivery, to be published when no queue is locked. Copies and direct replies leave none.
    pub(super) fn trace_delivery(&self, delivery: &Delivery<'_>, queue: &Queue) {
        let queue = queue.spec.name.as_str();
        let message = &delivery.message;
        if message.exchange() == TRACE_EXCHANGE.as_bytes() || queue.starts_with(REPLY_TO_PREFIX) {
            return;
        }
        let routing_key = String::from_utf8_lossy(message.routing_key()).into_owned();
        let properties = Properties::decode(message.properties).unwrap_or_default();
        let copies = properties.headers.map(|headers| copies(&headers)).unwrap_or_default();
        let keys = [routing_key].into_iter().chain(copies);
        let headers = headers(&self.connection, self.channel, message, keys)
            .with("redelivered", i32::from(delivery.redelivered));
        let is_first = {
            let mut traced = self.traced.lock();
            push_copy(&mut traced, &format!("deliver.{queue}"), &headers, message);
            !self.has_traced.swap(true, Ordering::Relaxed)
        };
        if is_first {
            self.inbox.poke();
        }
    }
}

/// What copies of both kinds say.
fn headers(
    connection: &Connection,
    channel: u16,
    message: &MessageView<'_>,
    routing_keys: impl Iterator<Item = String>,
) -> FieldTable {
    let routing_keys: Vec<_> = routing_keys.map(FieldValue::from).collect();
    FieldTable::new()
        .with("exchange_name", text(message.exchange()))
        .with("routing_keys", routing_keys)
        .with("properties", properties_table(message.properties))
        .with("node", connection.server.node.as_str())
        .with("vhost", connection.vhost.name.as_str())
        .with("connection", connection.name.as_str())
        .with("channel", i32::from(channel))
        .with("user", connection.user.as_str())
}

/// The properties that a message has, by the names of the specification.
fn properties_table(properties: &[u8]) -> FieldTable {
    let properties = Properties::decode(properties).unwrap_or_default();
    let mut table = FieldTable::new();
    let mut put = |name: &str, value: Option<FieldValue>| {
        if let Some(value) = value {
            table.insert(name, value);
        }
    };
    put("content_type", properties.content_type.map(text));
    put("content_encoding", properties.content_encoding.map(text));
    put("headers", properties.headers.map(|headers| headers.to_owned().into()));
    put("delivery_mode", properties.delivery_mode.map(|mode| i32::from(mode).into()));
    put("priority", properties.priority.map(|priority| i32::from(priority).into()));
    put("correlation_id", properties.correlation_id.map(text));
    put("reply_to", properties.reply_to.map(text));
    put("expiration", properties.expiration.map(text));
    put("message_id", properties.message_id.map(text));
    put("timestamp", properties.timestamp.map(integer));
    put("type", properties.message_type.map(text));
    put("user_id", properties.user_id.map(text));
    put("app_id", properties.app_id.map(text));
    put("cluster_id", properties.cluster_id.map(text));
    table
}

fn text(octets: &[u8]) -> FieldValue {
    FieldValue::LongString(octets.to_vec())
}

/// COMPAT: a signed int; RabbitMQ cuts off what does not fit, which here is a long.
fn integer(number: u64) -> FieldValue {
    i32::try_from(number).map_or_else(|_| i64::try_from(number).unwrap_or(i64::MAX).into(), FieldValue::from)
}

/// Further routing keys that the message still tells of: those in BCC were taken out when it was published.
fn copies(headers: &FieldTableRef<'_>) -> Vec<String> {
    let Some(FieldValueRef::Array(copies)) = headers.get("CC") else { return Vec::new() };
    let strings = copies.iter().filter_map(|key| match key {
        FieldValueRef::LongString(key) => Some(String::from_utf8_lossy(key).into_owned()),
        _ => None,
    });
    strings.collect()
}

/// Adds a copy with this key and these headers; a key longer than a short string is cut.
fn push_copy(batch: &mut MessageBatch, routing_key: &str, headers: &FieldTable, message: &MessageView<'_>) {
    let encoded = headers.encoded();
    let headers = FieldTableRef::parse(&encoded).ok();
    let mut properties = Vec::new();
    Properties { headers, ..Properties::default() }.encode(&mut properties);
    let routing_key = ShortString::cut(routing_key);
    let copy = MessageView {
        names: &names(TRACE_EXCHANGE.as_bytes(), routing_key.as_bytes()),
        properties: &properties,
        body: message.body,
        persistent: false,
        extras: &[],
    };
    batch.push(&copy);
}

#[cfg(test)]
mod tests;
