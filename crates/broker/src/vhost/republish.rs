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
    /// An exchange on the way had a message before, and dropped it.
    has_known: bool,
}

/// A letter that is to be published again.
pub(crate) struct Untaken {
    /// Its number among the letters.
    pub(crate) number: usize,
    /// Queues that have it already, if there are any.
    pub(crate) had_by: Option<Box<[QueueId]>>,
}

impl Outgoing {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { now, targets: Vec::new(), last: None, ids: OwnIds::default(), has_known: false }
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

    /// Hands everything over; from when on it is safe. What queues refuse is lost.
    pub(crate) fn hand_over(self) -> JournalPosition {
        let taken = self.targets.into_iter().map(|(queue, _, mut batch)| queue.publish(&mut batch));
        let safe_at = taken.fold(JournalPosition::SAFE, JournalPosition::max);
        safe_at.max(self.ids.keep())
    }

    /// Hands one message over that must not be lost: which queues took it, and whether all did. Exchanges remember its
    /// id only then, and not if it `leads_nowhere`.
    fn hand_over_surely(self, leads_nowhere: bool) -> (Vec<QueueId>, bool) {
        let (mut taken, mut is_whole) = (Vec::new(), !leads_nowhere);
        for (queue, _, mut batch) in self.targets {
            let mut refused = Vec::new();
            let position = queue.publish_or_refuse(&mut batch, &mut refused);
            // One that is stopped never is safe.
            let is_taken = refused.is_empty() && position < JournalPosition::NEVER;
            taken.extend(is_taken.then_some(queue.id));
            is_whole &= is_taken;
        }
        if is_whole {
            self.ids.keep();
        } else {
            self.ids.forget();
        }
        (taken, is_whole)
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

    /// The same where none may be lost: those that no queue took, or not all of them. `had_by` tells by a letter's
    /// number which queues have it already.
    pub(crate) fn publish_dead_surely<'a>(
        &self,
        letters: &MessageBatch,
        had_by: impl Fn(usize) -> &'a [QueueId],
    ) -> Vec<Untaken> {
        let mut untaken = Vec::new();
        for (number, letter) in letters.iter().enumerate() {
            let (headers, had_by) = (headers_of(&letter), had_by(number));
            let mut outgoing = Outgoing::new(self.services.clock.now());
            // COMPAT: what would go in circles is dropped all the same.
            let is_circle = Cell::new(false);
            self.route_internal(&mut outgoing, &letter, headers.as_ref(), |queue| {
                let name = queue.spec.name.as_str();
                let turns = headers.is_some_and(|headers| goes_in_circles(&headers, name));
                is_circle.set(is_circle.get() || turns);
                !turns && !had_by.contains(&queue.id)
            });
            let leads_nowhere =
                outgoing.targets.is_empty() && had_by.is_empty() && !is_circle.get() && !outgoing.has_known;
            let (taken, is_whole) = outgoing.hand_over_surely(leads_nowhere);
            if !is_whole {
                let had_by = [had_by, &taken].concat();
                let had_by = (!had_by.is_empty()).then(|| had_by.into());
                untaken.push(Untaken { number, had_by });
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
            let route = self.walk(&mut self.topology.read(), exchange, &addressing, PublishedBy::Again);
            let Ok(mut route) = route else { continue };
            outgoing.ids.add(route.take_new_ids(message.persistent));
            route.queues.iter().for_each(|queue| outgoing.add(queue, &message, route.deliver_at));
        }
        outgoing.hand_over()
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
                    let topology = &mut self.topology.read();
                    match self.walk(topology, name.as_str(), &addressing, PublishedBy::Broker) {
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
            let mut topology = self.topology.read();
            if !exchange.is_empty() && topology.find(exchange).is_none() {
                return None;
            }
            let addressing = Addressing::of(&keys, message);
            let mut route = self.walk(&mut topology, exchange, &addressing, PublishedBy::Broker).ok()?;
            outgoing.ids.add(route.take_new_ids(message.persistent));
            outgoing.has_known |= route.known_at.is_some();
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
