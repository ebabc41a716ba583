//! Messages that the broker itself publishes: routed like others, gathered per queue, and handed over together.

use std::cell::Cell;
use std::sync::Arc;

use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTableRef, FieldValueRef};

use super::{PublishedBy, Route, Vhost};
use crate::dead_letter::goes_in_circles;
use crate::deduplication::OwnIds;
use crate::delayed::due::without_blind_copies;
use crate::exchange::addressing::Addressing;
use crate::exchange::destination::Destination;
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
    /// What exchanges on the way are to remember.
    ids: OwnIds,
}

impl Outgoing {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { now, targets: Vec::new(), last: None, ids: OwnIds::default() }
    }

    /// Adds a message for a queue; a hidden one keeps it until `deliver_at`.
    pub(crate) fn add(
        &mut self,
        queue: &Arc<Queue>,
        message: &MessageView<'_>,
        deliver_at: Option<Timestamp>,
    ) {
        let level = queue.spec.level_of(message.properties);
        let is_same = |(target, _, batch): &(Arc<Queue>, _, MessageBatch)| {
            target.id == queue.id && batch.level() == level
        };
        let index = match self.targets.iter().position(is_same) {
            Some(index) => index,
            None => {
                let (ttl, _) = queue.publish_rules();
                self.targets.push((Arc::clone(queue), ttl, MessageBatch::for_level(&queue.spec, level)));
                self.targets.len() - 1
            }
        };
        if let Some((queue, ttl, batch)) = self.targets.get_mut(index) {
            if let Some(at) = deliver_at.filter(|_| queue.is_hidden()) {
                return batch.push_delayed(message, at);
            }
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
        (safe_at.max(self.ids.keep()), refusing)
    }
}

impl Vhost {
    /// Publishes letters of the dead. COMPAT: to an exchange that is not there they are lost.
    pub(crate) fn publish_dead(&self, letters: &MessageBatch) {
        let mut outgoing = Outgoing::new(self.services.clock.now());
        for letter in letters.iter() {
            let headers = headers_of(&letter);
            self.route_internal(&mut outgoing, &letter, headers.as_ref(), |queue| {
                !headers.is_some_and(|headers| goes_in_circles(&headers, queue.spec.name.as_str()))
            });
        }
        outgoing.hand_over();
    }

    /// The same where none may be lost: numbers of those that no queue took, or that one refused.
    pub(crate) fn publish_dead_surely(&self, letters: &MessageBatch) -> Vec<usize> {
        let mut untaken = Vec::new();
        for (number, letter) in letters.iter().enumerate() {
            let headers = headers_of(&letter);
            let mut outgoing = Outgoing::new(self.services.clock.now());
            // COMPAT: what would go in circles is dropped all the same.
            let is_circle = Cell::new(false);
            self.route_internal(&mut outgoing, &letter, headers.as_ref(), |queue| {
                let name = queue.spec.name.as_str();
                let turns = headers.is_some_and(|headers| goes_in_circles(&headers, name));
                is_circle.set(is_circle.get() || turns);
                !turns
            });
            if outgoing.targets.is_empty() && !is_circle.get() {
                untaken.push(number);
                continue;
            }
            if !outgoing.hand_over().1.is_empty() {
                untaken.push(number);
            }
        }
        untaken
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

    /// Publishes messages that a delayed exchange kept until now; from when on that is safe. COMPAT: by what is bound
    /// to it now, with the keys they came with.
    pub(crate) fn publish_due(&self, exchange: &str, messages: &MessageBatch) -> JournalPosition {
        let mut outgoing = Outgoing::new(self.services.clock.now());
        for message in messages.iter() {
            let text = |octets| std::str::from_utf8(octets).unwrap_or_default();
            let open = headers_of(&message).map(|headers| copies_of(&headers)).unwrap_or_default();
            let blind = without_blind_copies(message.properties);
            let (properties, blind) = match &blind {
                Some((properties, keys)) => (properties.as_slice(), keys.as_slice()),
                None => (message.properties, &[][..]),
            };
            let message = MessageView { properties, ..message };
            let mut keys = vec![text(message.routing_key())];
            keys.extend(open.iter().chain(blind).map(String::as_str));
            let addressing = Addressing::of(&keys, &message);
            let route = self.topology.read().route(exchange, &addressing, self, PublishedBy::Again);
            let Ok(mut route) = route else { continue };
            outgoing.ids.add(route.take_new_ids(message.persistent));
            route.queues.iter().for_each(|queue| outgoing.add(queue, &message, route.deliver_at));
        }
        outgoing.hand_over().0
    }

    /// Gives a destination that was bound what the exchange had before, oldest first. COMPAT: names and properties are
    /// those of the messages; the time until they expire begins anew. RabbitMQ 3.10 gives exchanges the newest first.
    pub(crate) fn publish_history(&self, destination: &Destination, history: &MessageBatch) {
        let now = self.services.clock.now();
        let mut outgoing = Outgoing::new(now);
        for message in history.iter() {
            let properties = Properties::decode(message.properties).unwrap_or_default();
            let expiration =
                properties.expiration.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
            let mut expiring = MessageBatch::default();
            expiring.push_expiring(&message, expiration.map(|ttl| now.after_ms(ttl)));
            let route = match destination {
                Destination::Queue(queue) => {
                    Route { queues: vec![Arc::clone(queue)], routed: true, ..Route::default() }
                }
                Destination::Exchange(name) => {
                    let copies = properties.headers.as_ref().map(copies_of).unwrap_or_default();
                    let mut keys = vec![std::str::from_utf8(message.routing_key()).unwrap_or_default()];
                    keys.extend(copies.iter().map(String::as_str));
                    let addressing = Addressing::of(&keys, &message);
                    let topology = self.topology.read();
                    match topology.route(name.as_str(), &addressing, self, PublishedBy::Broker) {
                        Ok(mut route) => {
                            outgoing.ids.add(route.take_new_ids(message.persistent));
                            route
                        }
                        Err(_) => continue,
                    }
                }
            };
            for view in expiring.iter() {
                route.queues.iter().for_each(|queue| outgoing.add(queue, &view, route.deliver_at));
            }
        }
        // What refuses has no publisher to tell.
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
            let addressing = Addressing::of(&keys, message);
            let mut route = topology.route(exchange, &addressing, self, PublishedBy::Broker).ok()?;
            outgoing.ids.add(route.take_new_ids(message.persistent));
            Some((message.names.to_vec(), generation, route))
        });
        let Some((names, generation, route)) = known else { return };
        let wanted = route.queues.iter().filter(|queue| is_wanted(queue));
        wanted.for_each(|queue| outgoing.add(queue, message, route.deliver_at));
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
