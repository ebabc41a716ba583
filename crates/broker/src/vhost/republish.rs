//! Messages that the broker itself publishes: routed like others, gathered per queue, and handed over together.

use std::sync::Arc;

use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTableRef, FieldValueRef};

use super::{Route, Vhost};
use crate::dead_letter::{Grave, goes_in_circles};
use crate::exchange::addressing::Addressing;
use crate::message::{MessageBatch, MessageView};
use crate::names::QueueId;
use crate::queue::Queue;
use crate::store::JournalPosition;
use crate::time::Timestamp;

/// Messages on their way to queues.
pub(crate) struct Outgoing {
    now: Timestamp,
    targets: Vec<(Arc<Queue>, Option<u64>, MessageBatch)>,
    /// The last route, and names and generation that it holds for.
    last: Option<(Vec<u8>, u64, Route)>,
}

impl Outgoing {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { now, targets: Vec::new(), last: None }
    }

    /// Adds a message for a queue.
    pub(crate) fn add(&mut self, queue: &Arc<Queue>, message: &MessageView<'_>) {
        let level = queue.spec.level_of(message.properties);
        let is_same = |(target, _, batch): &(Arc<Queue>, _, MessageBatch)| {
            target.id == queue.id && batch.level() == level
        };
        let index = match self.targets.iter().position(is_same) {
            Some(index) => index,
            None => {
                let ttl = queue.settings().message_ttl_ms;
                self.targets.push((Arc::clone(queue), ttl, MessageBatch::for_level(level)));
                self.targets.len() - 1
            }
        };
        if let Some((_, ttl, batch)) = self.targets.get_mut(index) {
            batch.push_expiring(message, ttl.map(|ttl| self.now.after_ms(ttl)));
        }
    }

    /// Hands everything over; from when on it is safe, and which queues refused some of it.
    pub(crate) fn hand_over(self) -> (JournalPosition, Vec<QueueId>) {
        let mut safe_at = JournalPosition::SAFE;
        let mut refusing = Vec::new();
        for (queue, _, mut batch) in self.targets {
            let mut refused = Vec::new();
            safe_at = safe_at.max(queue.publish_or_refuse(&mut batch, &mut refused));
            if !refused.is_empty() {
                refusing.push(queue.id);
            }
        }
        (safe_at, refusing)
    }
}

impl Vhost {
    /// Publishes letters of the dead. COMPAT: to an exchange that is not there they are lost.
    pub(crate) fn publish_dead(&self, grave: &Grave, letters: &MessageBatch) {
        let mut outgoing = Outgoing::new(self.services.clock.now());
        for letter in letters.iter() {
            let headers = headers_of(&letter);
            self.route_internal(&mut outgoing, &letter, headers.as_ref(), |queue| {
                !headers.is_some_and(|headers| goes_in_circles(&headers, queue.spec.name.as_str()))
            });
        }
        let _ = grave;
        outgoing.hand_over();
    }

    /// Publishes messages of the broker's own, to internal exchanges as well. What its exchange leads nowhere is
    /// dropped. Called with no queue locked.
    pub fn publish_own(&self, messages: &MessageBatch) {
        let mut outgoing = Outgoing::new(self.services.clock.now());
        for message in messages.iter() {
            self.route_internal(&mut outgoing, &message, None, |_| true);
        }
        outgoing.hand_over();
    }

    /// Adds a message for every queue that its exchange leads to and that `is_wanted`. Nothing if the exchange is
    /// missing.
    pub(crate) fn route_internal(
        &self,
        outgoing: &mut Outgoing,
        message: &MessageView<'_>,
        headers: Option<&FieldTableRef<'_>>,
        is_wanted: impl Fn(&Queue) -> bool,
    ) {
        let copies = headers.map(copies_of).unwrap_or_default();
        let generation = self.generation();
        let known = outgoing.last.take().filter(|(names, found_in, _)| {
            names == message.names && *found_in == generation && copies.is_empty()
        });
        let known = known.or_else(|| {
            let text = |octets| std::str::from_utf8(octets).unwrap_or_default();
            let mut keys = vec![text(message.routing_key())];
            keys.extend(copies.iter().map(String::as_str));
            let exchange = text(message.exchange());
            let topology = self.topology.read();
            if !exchange.is_empty() && topology.find(exchange).is_none() {
                return None;
            }
            let addressing = Addressing::new(&keys, message.properties);
            let route = topology.route(exchange, &addressing, &|name| self.default_route(name));
            Some((message.names.to_vec(), generation, route))
        });
        let Some((names, generation, route)) = known else { return };
        route.queues.iter().filter(|queue| is_wanted(queue)).for_each(|queue| outgoing.add(queue, message));
        if route.cacheable {
            outgoing.last = Some((names, generation, route));
        }
    }
}

fn headers_of<'a>(message: &MessageView<'a>) -> Option<FieldTableRef<'a>> {
    Properties::decode(message.properties).ok()?.headers
}

/// The further routing keys of a message.
fn copies_of(headers: &FieldTableRef<'_>) -> Vec<String> {
    let Some(FieldValueRef::Array(copies)) = headers.get("CC") else { return Vec::new() };
    let text = |value| match value {
        FieldValueRef::LongString(key) => Some(String::from_utf8_lossy(key).into_owned()),
        _ => None,
    };
    copies.iter().filter_map(text).collect()
}
