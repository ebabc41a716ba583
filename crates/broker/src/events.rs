//! What happens in a broker, told to whoever listens: queues, exchanges and bindings that come and go, and what the
//! server adds of its own. COMPAT: names, fields and their types are those of RabbitMQ's event exchange.
//!
//! Raised with the topology locked, so that events are in the order of what they tell; a sink only notes them.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use leveret_codec::table::{FieldTable, FieldValue};

use crate::exchange::destination::{BindingArguments, table_of};
use crate::exchange::{BindingTarget, ExchangeSpec};
use crate::names::{ConnectionId, VhostName};
use crate::policy::{Policy, PolicyKind};
use crate::queue::QueueSpec;
use crate::queue::arguments::type_name;

/// The exchange to which events are published.
pub const EVENT_EXCHANGE: &str = "amq.rabbitmq.event";

/// COMPAT: who did what nobody asked for.
const NOBODY: &str = "rmq-internal";

/// Events of what users do to what is not theirs alone; the others say themselves whose they are, if anybody's.
const OF_ACTOR: [&str; 6] = ["queue.", "exchange.", "binding.", "vhost.", "policy.", "parameter."];

thread_local! {
    /// On whose behalf this thread declares, deletes and sets.
    static ACTOR: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// While it lives, what the thread does is done by a user: see [`Events::act_for`].
#[derive(Debug)]
pub struct Acting(());

impl Drop for Acting {
    fn drop(&mut self) {
        ACTOR.replace(None);
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// What, as a routing key.
    pub name: &'static str,
    /// The fields that tell of it.
    pub fields: FieldTable,
}

/// Takes events. Called with locks held: it notes the event and returns.
pub trait EventSink: Send + Sync {
    /// Notes an event.
    fn raise(&self, event: Event);
}

/// Where a broker's events go, if anybody wants them.
#[derive(Default)]
pub struct Events {
    home: OnceLock<Home>,
    sink: OnceLock<Arc<dyn EventSink>>,
}

struct Home {
    vhost: VhostName,
    node: String,
}

impl Events {
    /// Declares [`EVENT_EXCHANGE`] in the vhost of that name when it is made. `node` is named in the events. Only the
    /// first call counts.
    pub fn publish_in(&self, vhost: VhostName, node: String) {
        // A second one has no effect, as documented.
        let _ = self.home.set(Home { vhost, node });
    }

    /// Whether a vhost has [`EVENT_EXCHANGE`].
    pub(crate) fn are_published_in(&self, vhost: &VhostName) -> bool {
        self.home.get().is_some_and(|home| home.vhost == *vhost)
    }

    /// Begins to raise events: what was recovered before is none. Only the first call counts.
    pub fn set_sink(&self, sink: Arc<dyn EventSink>) {
        // A second one has no effect, as documented.
        let _ = self.sink.set(sink);
    }

    /// Says on whose behalf this thread acts, for as long as what is given back lives, which is to be in synchronous
    /// code only. `None` if nobody listens.
    #[must_use]
    pub fn act_for(&self, user: &str) -> Option<Acting> {
        self.sink.get().map(|_| {
            ACTOR.replace(Some(user.to_owned()));
            Acting(())
        })
    }

    /// Tells of an event, which is not made if nobody listens.
    pub fn raise(&self, event: impl FnOnce() -> Event) {
        if let Some(sink) = self.sink.get() {
            let mut event = event();
            if OF_ACTOR.iter().any(|kind| event.name.starts_with(kind)) {
                let actor = ACTOR.with_borrow(|actor| actor.clone());
                event.fields.insert("user_who_performed_action", actor.as_deref().unwrap_or(NOBODY));
            }
            sink.raise(event);
        }
    }

    /// COMPAT: what stands for the process of a connection, or of one of its channels.
    #[must_use]
    pub fn pid(&self, connection: ConnectionId, channel: u16) -> String {
        let node = self.home.get().map_or("nonode", |home| home.node.as_str());
        format!("<{node}.0.{}.{channel}>", connection.0)
    }

    pub(crate) fn queue_created(&self, spec: &QueueSpec) {
        self.raise(|| {
            let owner = spec.owner.map(|owner| self.pid(owner, 0)).unwrap_or_default();
            let fields = FieldTable::new()
                .with("vhost", spec.vhost.as_str())
                .with("name", spec.name.as_str())
                .with("durable", spec.durable)
                .with("auto_delete", spec.auto_delete)
                .with("arguments", terms(spec.arguments.table()))
                .with("owner_pid", owner)
                .with("exclusive", spec.owner.is_some());
            Event { name: "queue.created", fields }
        });
    }

    pub(crate) fn queue_deleted(&self, spec: &QueueSpec) {
        self.raise(|| Event {
            name: "queue.deleted",
            fields: FieldTable::new().with("vhost", spec.vhost.as_str()).with("name", spec.name.as_str()),
        });
    }

    pub(crate) fn exchange_created(&self, vhost: &VhostName, spec: &ExchangeSpec) {
        self.raise(|| {
            let fields = FieldTable::new()
                .with("vhost", vhost.as_str())
                .with("name", spec.name.as_str())
                .with("type", spec.exchange_type.as_str())
                .with("durable", spec.durable)
                .with("auto_delete", spec.auto_delete)
                .with("internal", spec.internal)
                .with("arguments", terms(&spec.arguments))
                .with("policy", "");
            Event { name: "exchange.created", fields }
        });
    }

    pub(crate) fn exchange_deleted(&self, vhost: &VhostName, spec: &ExchangeSpec) {
        self.raise(|| Event {
            name: "exchange.deleted",
            fields: FieldTable::new().with("vhost", vhost.as_str()).with("name", spec.name.as_str()),
        });
    }

    pub(crate) fn binding(
        &self,
        name: &'static str,
        vhost: &VhostName,
        source: &str,
        target: &BindingTarget,
        routing_key: &str,
        arguments: &BindingArguments,
    ) {
        self.raise(|| {
            let (kind, destination) = match target {
                BindingTarget::Queue(name) => ("queue", name.as_str()),
                BindingTarget::Exchange(name) => ("exchange", name.as_str()),
            };
            let fields = FieldTable::new()
                .with("source_name", source)
                .with("source_kind", "exchange")
                .with("destination_name", destination)
                .with("destination_kind", kind)
                .with("routing_key", routing_key)
                .with("arguments", terms(&table_of(arguments)))
                .with("vhost", vhost.as_str());
            Event { name, fields }
        });
    }

    pub(crate) fn policy_set(&self, vhost: &VhostName, kind: PolicyKind, policy: &Policy) {
        let fields = || {
            FieldTable::new()
                .with("pattern", policy.pattern.as_str())
                .with("apply-to", policy.apply_to.as_str())
                .with("priority", policy.priority)
                .with("definition", policy.definition.clone())
        };
        if kind == PolicyKind::Operator {
            self.raise(|| Event {
                name: "parameter.set",
                fields: operator_policy(vhost, &policy.name).with("value", fields()),
            });
        }
        self.raise(|| Event {
            name: "policy.set",
            fields: fields().with("name", policy.name.as_str()).with("vhost", vhost.as_str()),
        });
    }

    /// COMPAT: that an operator policy is gone is told as that of a parameter alone.
    pub(crate) fn policy_cleared(&self, vhost: &VhostName, kind: PolicyKind, policy: &str) {
        self.raise(|| match kind {
            PolicyKind::Operator => {
                Event { name: "parameter.cleared", fields: operator_policy(vhost, policy) }
            }
            PolicyKind::Policy => Event {
                name: "policy.cleared",
                fields: FieldTable::new().with("name", policy).with("vhost", vhost.as_str()),
            },
        });
    }

    pub(crate) fn vhost_created(&self, vhost: &VhostName) {
        self.raise(|| Event {
            name: "vhost.created",
            fields: FieldTable::new()
                .with("name", vhost.as_str())
                .with("description", "")
                .with("tags", "")
                .with("tracing", false)
                .with("default_queue_type", "undefined"),
        });
    }
}

/// COMPAT: an operator policy is a parameter of this component.
fn operator_policy(vhost: &VhostName, name: &str) -> FieldTable {
    FieldTable::new().with("component", "operator_policy").with("name", name).with("vhost", vhost.as_str())
}

/// COMPAT: arguments are a list of Erlang terms, one for each, as text.
#[must_use]
pub fn terms(table: &FieldTable) -> FieldValue {
    let fields = table.iter().map(|(key, value)| FieldValue::from(field(key.as_bytes(), value)));
    FieldValue::Array(fields.collect())
}

fn field(key: &[u8], value: &FieldValue) -> String {
    format!("{{{},{},{}}}", binary(key), type_name(value), term(value))
}

fn binary(octets: &[u8]) -> String {
    match octets {
        [] => "<<>>".to_owned(),
        _ => format!("<<{:?}>>", String::from_utf8_lossy(octets)),
    }
}

fn term(value: &FieldValue) -> String {
    match value {
        FieldValue::LongString(octets) | FieldValue::Bytes(octets) => binary(octets),
        FieldValue::Table(table) => {
            let fields: Vec<_> = table.iter().map(|(key, value)| field(key.as_bytes(), value)).collect();
            format!("[{}]", fields.join(","))
        }
        FieldValue::Array(values) => {
            let typed = |value| format!("{{{},{}}}", type_name(value), term(value));
            format!("[{}]", values.iter().map(typed).collect::<Vec<_>>().join(","))
        }
        FieldValue::Decimal { scale, value } => format!("{{{scale},{value}}}"),
        FieldValue::Void => "undefined".to_owned(),
        other => crate::queue::arguments::value_text(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_written_as_erlang_terms() {
        let table = FieldTable::new()
            .with("alternate-exchange", "zz")
            .with("t", FieldTable::new().with("a", vec![FieldValue::from(1), "x".into()]))
            .with("b", true);
        let expected = [
            "{<<\"alternate-exchange\">>,longstr,<<\"zz\">>}",
            "{<<\"t\">>,table,[{<<\"a\">>,array,[{signedint,1},{longstr,<<\"x\">>}]}]}",
            "{<<\"b\">>,bool,true}",
        ];
        assert_eq!(terms(&table), FieldValue::Array(expected.map(FieldValue::from).to_vec()));
    }
}
