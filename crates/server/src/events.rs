//! The event exchange: what happens in the broker is published to amq.rabbitmq.event of the default vhost, if the
//! operator wants it. Events are noted where they happen, which may be under a lock, and published by one task.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use leveret_broker::events::{Acting, EVENT_EXCHANGE, Event, EventSink, terms};
use leveret_broker::message::{self, Body};
use leveret_broker::time::{Clock, Timestamp};
use leveret_broker::{MessageBatch, MessageView, VhostName};
use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTable, FieldTableRef};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::warn;

use crate::alarms::Reason;
use crate::connection::outbound::GatherWakes;
use crate::connection::{Connection, Ends};
use crate::limits::EVENTS_WAITING_BYTES_MAX;
use crate::server::Server;
use crate::tls::{PeerIdentity, TlsFacts};

/// Events on their way to the exchange.
pub(crate) struct EventLog {
    waiting: Mutex<Waiting>,
    came: Notify,
    clock: Arc<dyn Clock>,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<WaitingEvent>,
    /// Octets that they take.
    bytes: usize,
    /// How many found no place.
    lost: u64,
}

/// An event as it will be published: as a table its fields would take many times the memory.
struct WaitingEvent {
    name: &'static str,
    fields: Vec<u8>,
    at: Timestamp,
}

impl WaitingEvent {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.fields.len()
    }
}

impl EventSink for EventLog {
    fn raise(&self, event: Event) {
        let at = self.clock.now();
        let milliseconds = i64::try_from(at.0).unwrap_or(i64::MAX);
        let fields = event.fields.with("timestamp_in_ms", milliseconds).encoded();
        self.waiting.lock().add(WaitingEvent { name: event.name, fields, at });
        self.came.notify_one();
    }
}

impl Waiting {
    /// Adds an event, if there is room.
    fn add(&mut self, event: WaitingEvent) {
        let bytes = self.bytes.saturating_add(event.bytes());
        if bytes > EVENTS_WAITING_BYTES_MAX {
            self.lost += 1;
            return;
        }
        self.bytes = bytes;
        self.events.push_back(event);
    }
}

/// Declares the exchange; before the vhost is made.
pub(crate) fn prepare(server: &Server) {
    if server.config.event_exchange {
        let vhost = VhostName::from(server.config.default_vhost.as_str());
        server.broker.events().publish_in(vhost, server.node.clone());
    }
}

/// Begins to publish events; when everything was recovered.
pub(crate) fn start(server: &Arc<Server>) {
    if server.config.event_exchange {
        let clock = Arc::clone(server.broker.clock());
        let log = Arc::new(EventLog { waiting: Mutex::default(), came: Notify::new(), clock });
        server.broker.events().set_sink(Arc::<EventLog>::clone(&log));
        tokio::spawn(publish(Arc::clone(server), log));
    }
}

/// Publishes events as they come, for as long as it is polled.
async fn publish(server: Arc<Server>, log: Arc<EventLog>) {
    let mut raised = [false; 2];
    loop {
        let changed = server.alarms.changed();
        tell_alarms(&server, &log, &mut raised);
        {
            let _wakes = GatherWakes::begin();
            publish_waiting(&server, &log);
        }
        tokio::select! {
            () = changed => {}
            () = log.came.notified() => {}
        }
    }
}

fn publish_waiting(server: &Server, log: &EventLog) {
    let Waiting { events, lost, .. } = std::mem::take(&mut *log.waiting.lock());
    if lost > 0 {
        warn!(lost, "events came faster than they could be published");
    }
    let Ok(vhost) = server.broker.vhost(&server.config.default_vhost) else { return };
    let mut batch = MessageBatch::default();
    events.iter().for_each(|event| push(&mut batch, event));
    if !batch.is_empty() {
        vhost.publish_own(&batch);
    }
}

/// COMPAT: an event is a persistent message without a body; its fields are the headers.
fn push(batch: &mut MessageBatch, event: &WaitingEvent) {
    let mut properties = Vec::new();
    Properties {
        headers: FieldTableRef::parse(&event.fields).ok(),
        delivery_mode: Some(2),
        timestamp: Some(event.at.seconds()),
        ..Properties::default()
    }
    .encode(&mut properties);
    let names = message::names(EVENT_EXCHANGE.as_bytes(), event.name.as_bytes());
    let body = Body::Small(&[]);
    batch.push(&MessageView { names: &names, properties: &properties, body, persistent: true, extras: &[] });
}

/// Raises events for alarms that came or went. COMPAT: those of memory and disk.
fn tell_alarms(server: &Server, log: &EventLog, raised: &mut [bool; 2]) {
    let now = server.alarms.raised();
    let sources = [("memory", now.has(Reason::Memory)), ("disk", now.is_disk_low())];
    for (before, (source, is_raised)) in raised.iter_mut().zip(sources) {
        if *before != is_raised {
            *before = is_raised;
            let name = if is_raised { "alarm.set" } else { "alarm.cleared" };
            let fields = FieldTable::new().with("source", source).with("node", server.node.as_str());
            log.raise(Event { name, fields });
        }
    }
}

/// What is known of a login when it is tried.
pub(crate) struct Login<'a> {
    pub(crate) user: &'a str,
    pub(crate) mechanism: &'a str,
    pub(crate) ends: &'a Ends,
    /// Why it was refused.
    pub(crate) error: Option<String>,
}

impl Login<'_> {
    /// Raises the event of its outcome.
    pub(crate) fn tell(self, server: &Server) {
        server.broker.events().raise(|| {
            let Ends { peer, local, tls } = self.ends;
            let host = local.map(host_of).unwrap_or_default();
            let fields = FieldTable::new()
                .with("connection_type", "network")
                .with("name", self.user)
                .with("host", host)
                .with("connection_name", crate::connection::name_of(*peer, *local))
                .with("peer_host", host_of(*peer))
                .with("peer_port", i64::from(peer.port()))
                .with("protocol", PROTOCOL)
                .with("auth_mechanism", self.mechanism)
                .with("ssl", tls.is_some());
            match self.error {
                None => Event { name: "user.authentication.success", fields },
                Some(error) => {
                    Event { name: "user.authentication.failure", fields: fields.with("error", error) }
                }
            }
        });
    }
}

/// COMPAT: as Erlang prints the version.
const PROTOCOL: &str = "{0,9,1}";

fn host_of(address: SocketAddr) -> String {
    host(address.ip())
}

/// COMPAT: an address as Erlang prints it.
fn host(address: IpAddr) -> String {
    let parts: Vec<_> = match address.to_canonical() {
        IpAddr::V4(address) => address.octets().map(|octet| octet.to_string()).to_vec(),
        IpAddr::V6(address) => address.segments().map(|segment| segment.to_string()).to_vec(),
    };
    format!("{{{}}}", parts.join(","))
}

impl Connection {
    /// Says that what the thread does is done by this connection's user.
    pub(crate) fn act(&self) -> Option<Acting> {
        self.server.broker.events().act_for(&self.user)
    }

    /// Tells that it was opened.
    pub(crate) fn tell_created(&self, heartbeat_s: u64) {
        let events = self.server.broker.events();
        events.raise(|| {
            let (local, tls) = (self.local, self.tls.as_deref());
            let of_tls = |part: fn(&TlsFacts) -> &str| tls.map_or("", part);
            let identity = tls.and_then(|tls| tls.identity.as_ref());
            let of_identity = |part: fn(&PeerIdentity) -> &str| identity.map_or("", part);
            let mut fields = FieldTable::new();
            if let Some(name) = self.client_properties.get("connection_name") {
                fields.insert("user_provided_name", name.clone());
            }
            let fields = fields
                .with("type", "network")
                .with("pid", events.pid(self.id, 0))
                .with("name", self.name.as_str())
                .with("port", local.map_or(0, |local| i64::from(local.port())))
                .with("peer_port", i64::from(self.peer.port()))
                .with("host", local.map(host_of).unwrap_or_default())
                .with("peer_host", host_of(self.peer))
                .with("ssl", self.tls.is_some())
                .with("peer_cert_subject", of_identity(|identity| identity.subject.as_str()))
                .with("peer_cert_issuer", of_identity(|identity| identity.issuer.as_str()))
                .with("peer_cert_validity", of_identity(|identity| identity.validity.as_str()))
                .with("auth_mechanism", self.mechanism.as_str())
                .with("ssl_protocol", of_tls(|tls| tls.version))
                .with("ssl_key_exchange", of_tls(|tls| tls.key_exchange.as_str()))
                .with("ssl_cipher", of_tls(|tls| tls.cipher.as_str()))
                // All ciphers that are spoken authenticate by themselves.
                .with("ssl_hash", of_tls(|_| "aead"))
                .with("protocol", PROTOCOL)
                .with("user", self.user.as_str())
                .with("vhost", self.vhost.name.as_str())
                .with("timeout", i64::try_from(heartbeat_s).unwrap_or(i64::MAX))
                .with("frame_max", i64::from(self.frame_max))
                .with("channel_max", i64::from(self.channel_max))
                .with("client_properties", terms(&self.client_properties))
                .with("connected_at", i64::try_from(self.vhost.clock().now().0).unwrap_or(i64::MAX))
                .with("node", self.server.node.as_str())
                .with("user_who_performed_action", self.user.as_str());
            Event { name: "connection.created", fields }
        });
    }

    /// Tells that it has ended.
    pub(crate) fn tell_closed(&self) {
        let events = self.server.broker.events();
        events.raise(|| {
            let mut fields = FieldTable::new();
            if let Some(name) = self.client_properties.get("connection_name") {
                fields.insert("user_provided_name", name.clone());
            }
            let fields = fields
                .with("name", self.name.as_str())
                .with("pid", events.pid(self.id, 0))
                .with("node", self.server.node.as_str())
                .with("client_properties", terms(&self.client_properties));
            Event { name: "connection.closed", fields }
        });
    }

    /// Tells that a channel was opened.
    pub(crate) fn tell_channel_created(&self, number: u16) {
        let events = self.server.broker.events();
        events.raise(|| Event {
            name: "channel.created",
            fields: FieldTable::new()
                .with("pid", events.pid(self.id, number))
                .with("name", format!("{} ({number})", self.name))
                .with("connection", events.pid(self.id, 0))
                .with("number", i64::from(number))
                .with("user", self.user.as_str())
                .with("vhost", self.vhost.name.as_str())
                .with("user_who_performed_action", self.user.as_str()),
        });
    }

    /// Tells that a channel has ended.
    pub(crate) fn tell_channel_closed(&self, number: u16) {
        let events = self.server.broker.events();
        events.raise(|| Event {
            name: "channel.closed",
            fields: FieldTable::new()
                .with("pid", events.pid(self.id, number))
                .with("user_who_performed_action", self.user.as_str()),
        });
    }

    /// Tells that a consumer came or went: what it was made with, for one that came.
    pub(crate) fn tell_consumer(
        &self,
        channel: u16,
        tag: &str,
        queue: &str,
        made: Option<&ConsumerFields<'_>>,
    ) {
        let events = self.server.broker.events();
        events.raise(|| {
            let mut fields = FieldTable::new().with("consumer_tag", tag);
            if let Some(made) = made {
                fields.insert("exclusive", made.exclusive);
                fields.insert("ack_required", made.ack_required);
            }
            let mut fields = fields
                .with("channel", events.pid(self.id, channel))
                .with("vhost", self.vhost.name.as_str())
                .with("queue", queue);
            if let Some(made) = made {
                fields.insert("prefetch_count", i64::from(made.prefetch));
                fields.insert("arguments", terms(made.arguments));
            }
            fields.insert("user_who_performed_action", self.user.as_str());
            let name = if made.is_some() { "consumer.created" } else { "consumer.deleted" };
            Event { name, fields }
        });
    }
}

/// What a consumer was made with.
pub(crate) struct ConsumerFields<'a> {
    pub(crate) exclusive: bool,
    pub(crate) ack_required: bool,
    pub(crate) prefetch: u16,
    pub(crate) arguments: &'a FieldTable,
}

#[cfg(test)]
mod tests;
