//! Dead letters: what a message looks like that died in a queue when it is published again, and where it does not go
//! because it would go in circles.

use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTable, FieldTableRef, FieldValue};

use crate::message::{Extras, MessageBatch, MessageView, names};
use crate::names::{ExchangeName, QueueName};
use crate::queue::settings::QueueSettings;
use crate::queue::{DeathReason, QueueSpec};
use crate::time::Timestamp;

/// Where the dead of a queue go.
#[derive(Clone, Debug)]
pub(crate) struct Grave {
    /// The queue they died in.
    pub(crate) queue: QueueName,
    pub(crate) exchange: ExchangeName,
    pub(crate) routing_key: Option<Box<str>>,
}

impl Grave {
    /// None if they go nowhere.
    pub(crate) fn of(spec: &QueueSpec, settings: &QueueSettings) -> Option<Self> {
        Some(Self {
            queue: spec.name.clone(),
            exchange: settings.dead_letter_exchange.clone()?,
            routing_key: settings.dead_letter_routing_key.clone(),
        })
    }
}

/// Writing dead letters.
pub(crate) trait DeadLetter {
    /// Appends `message` as it is published again.
    fn push_dead(&mut self, grave: &Grave, message: &MessageView<'_>, reason: DeathReason, now: Timestamp);
}

impl DeadLetter for MessageBatch {
    fn push_dead(&mut self, grave: &Grave, message: &MessageView<'_>, reason: DeathReason, now: Timestamp) {
        let key = grave.routing_key.as_ref().map_or(message.routing_key(), |key| key.as_bytes());
        let mut properties = Vec::with_capacity(message.properties.len() + 256);
        encode_properties(&mut properties, grave, message, reason, now);
        let extras = Extras { has_deaths: true, ..Extras::default() }.encode();
        self.push(&MessageView {
            names: &names(grave.exchange.as_str().as_bytes(), key),
            properties: &properties,
            extras: extras.as_slice(),
            ..*message
        });
    }
}

fn encode_properties(
    out: &mut Vec<u8>,
    grave: &Grave,
    message: &MessageView<'_>,
    reason: DeathReason,
    now: Timestamp,
) {
    // INVARIANT: they were decoded when the message was published.
    let mut properties = Properties::decode(message.properties).unwrap_or_default();
    let mut headers = properties.headers.map(|headers| headers.to_owned()).unwrap_or_default();
    note_death(&mut headers, grave, message, &properties, reason, now);
    // COMPAT: a key of the queue's own takes the place of all keys the message had.
    if grave.routing_key.is_some() {
        headers.remove("CC");
    }
    let octets = sorted(headers).encoded();
    properties.headers = FieldTableRef::parse(&octets).ok();
    properties.expiration = None;
    properties.encode(out);
}

/// COMPAT: the broker's own headers bring the table into the order of its keys.
fn sorted(headers: FieldTable) -> FieldTable {
    let mut entries: Vec<_> = headers.into_iter().collect();
    entries.sort_by(|(one, _), (other, _)| one.as_bytes().cmp(other.as_bytes()));
    let mut sorted = FieldTable::new();
    sorted.extend(entries);
    sorted
}

fn long_string(octets: &[u8]) -> FieldValue {
    FieldValue::LongString(octets.into())
}

/// Puts a death into the headers: one entry for each queue and reason, the newest first.
fn note_death(
    headers: &mut FieldTable,
    grave: &Grave,
    message: &MessageView<'_>,
    properties: &Properties<'_>,
    reason: DeathReason,
    now: Timestamp,
) {
    let (queue, reason) = (grave.queue.as_str(), reason.as_str());
    // COMPAT: what a publisher wrote there itself does not count.
    let is_own = Extras::decode(message.extras).has_deaths;
    let known = if is_own { headers.remove("x-death") } else { None };
    let mut deaths = match known {
        Some(FieldValue::Array(deaths)) => deaths,
        _ => Vec::new(),
    };
    let is_same = |death: &FieldValue| {
        let text = |key| death.as_table().and_then(|death| death.get(key)).and_then(FieldValue::as_str);
        text("queue") == Some(queue) && text("reason") == Some(reason)
    };
    let again = deaths.iter().position(is_same).map(|index| deaths.remove(index));
    let death = match again {
        Some(FieldValue::Table(mut death)) => {
            let count = death.get("count").and_then(FieldValue::as_integer).unwrap_or_default();
            death.set("count", FieldValue::I64(count.saturating_add(1)));
            death
        }
        _ => first_death(message, properties, headers, queue, reason, now),
    };
    deaths.insert(0, FieldValue::Table(death));
    let exchange = message.exchange();
    for (when, is_due) in [("first", !is_own), ("last", true)] {
        if is_due {
            headers.set(&format!("x-{when}-death-exchange"), long_string(exchange));
            headers.set(&format!("x-{when}-death-queue"), long_string(queue.as_bytes()));
            headers.set(&format!("x-{when}-death-reason"), long_string(reason.as_bytes()));
        }
    }
    headers.set("x-death", FieldValue::Array(deaths));
}

fn first_death(
    message: &MessageView<'_>,
    properties: &Properties<'_>,
    headers: &FieldTable,
    queue: &str,
    reason: &str,
    now: Timestamp,
) -> FieldTable {
    let mut keys = vec![long_string(message.routing_key())];
    keys.extend(copies(headers).map(long_string));
    let mut death = FieldTable::new();
    if let Some(expiration) = properties.expiration {
        death.insert("original-expiration", long_string(expiration));
    }
    death.insert("count", FieldValue::I64(1));
    death.insert("reason", long_string(reason.as_bytes()));
    death.insert("queue", long_string(queue.as_bytes()));
    death.insert("time", FieldValue::Timestamp(now.seconds()));
    death.insert("exchange", long_string(message.exchange()));
    death.insert("routing-keys", FieldValue::Array(keys));
    death
}

/// The further routing keys of a message.
fn copies(headers: &FieldTable) -> impl Iterator<Item = &[u8]> {
    let copies = headers.get("CC").and_then(FieldValue::as_array).unwrap_or_default();
    copies.iter().filter_map(|key| match key {
        FieldValue::LongString(key) => Some(key.as_ref()),
        _ => None,
    })
}

/// COMPAT: whether a message with these headers must not go to `queue` again: it has died there before, and since then
/// nobody has rejected it, so that nothing would ever stop it.
pub(crate) fn goes_in_circles(headers: &FieldTableRef<'_>, queue: &str) -> bool {
    use leveret_codec::table::FieldValueRef::{Array, Table};
    let Some(Array(deaths)) = headers.get("x-death") else { return false };
    for death in deaths.iter() {
        let Table(death) = death else { continue };
        let text = |key| death.get(key).and_then(|value| value.as_str());
        if text("reason") == Some(DeathReason::Rejected.as_str()) {
            return false;
        }
        if text("queue") == Some(queue) {
            return true;
        }
    }
    false
}
