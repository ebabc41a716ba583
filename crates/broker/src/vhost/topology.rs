//! Exchanges and bindings of a vhost, and the walk from an exchange to the queues. What changes among the
//! durable ones is noted in [`Changes`], in the order in which it happens.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use leveret_codec::table::FieldTable;

use super::changes::Changes;
use super::hidden::HiddenQueues;
use super::{PublishedBy, Route, Vhost};
use crate::counters::ExchangeCounters;
use crate::deduplication::{Deduplication, NewId, Rules, Seen};
use crate::delayed::DelayedMessages;
use crate::delayed::due::due_at;
use crate::error::BrokerError;
use crate::events::EVENT_EXCHANGE;
use crate::exchange::addressing::Addressing;
use crate::exchange::destination::{BindingArguments, BoundDestination, Destination, canonical};
use crate::exchange::distinct::Distinct;
use crate::exchange::{BindingTarget, Exchange, ExchangeSpec, ExchangeType};
use crate::limits::ROUTE_EXCHANGES_MAX;
use crate::names::{ExchangeName, QueueId, VhostName};
use crate::policy::{AppliedPolicies, PolicySet};
use crate::queue::Queue;
use crate::queue::memory::MemoryGauge;
use crate::reply_to::REPLY_TO_PREFIX;
use crate::store::JournalPosition;
use crate::time::Timestamp;

/// One binding, as listed.
#[derive(Clone, Debug)]
pub struct Binding {
    /// Exchange that messages come from.
    pub source: ExchangeName,
    /// Where they go.
    pub destination: Destination,
    /// Key they are bound with.
    pub routing_key: String,
    /// Canonical arguments.
    pub arguments: BindingArguments,
}

/// The receiving end of a binding, as a key.
#[derive(Clone, PartialEq, Eq, Hash)]
enum DestinationKey {
    Queue(QueueId),
    Exchange(ExchangeName),
}

impl From<&Destination> for DestinationKey {
    fn from(destination: &Destination) -> Self {
        match destination {
            Destination::Queue(queue) => Self::Queue(queue.id),
            Destination::Exchange(name) => Self::Exchange(name.clone()),
        }
    }
}

/// The receiving end of a binding, by name.
fn target_of(destination: &Destination) -> BindingTarget {
    match destination {
        Destination::Queue(queue) => BindingTarget::Queue(queue.spec.name.clone()),
        Destination::Exchange(name) => BindingTarget::Exchange(name.clone()),
    }
}

/// A binding as its destination knows it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Origin {
    source: ExchangeName,
    routing_key: Box<str>,
    arguments: BindingArguments,
}

/// Exchanges by name, and the bindings from both ends.
pub(crate) struct Topology {
    exchanges: HashMap<ExchangeName, Exchange>,
    /// Counts the messages that exchanges keep.
    gauge: Arc<MemoryGauge>,
    /// So that a queue or exchange that goes finds its bindings without looking through all exchanges.
    by_destination: HashMap<DestinationKey, HashSet<Origin>>,
    /// What clients published to the default exchange.
    default_counters: Arc<ExchangeCounters>,
    /// Where exchanges keep what must wait.
    hidden: Arc<HiddenQueues>,
    /// Changed with the topology locked, so that whoever declares something has it under those in force.
    policies: Arc<PolicySet>,
}

impl Topology {
    /// Exchanges that each vhost has, and that of the events where they are published.
    pub(crate) fn with_standard_exchanges(
        has_events: bool,
        hidden: Arc<HiddenQueues>,
        gauge: Arc<MemoryGauge>,
    ) -> Self {
        let standard = [
            ("amq.direct", ExchangeType::Direct, false),
            ("amq.fanout", ExchangeType::Fanout, false),
            ("amq.topic", ExchangeType::Topic, false),
            ("amq.headers", ExchangeType::Headers, false),
            ("amq.match", ExchangeType::Headers, false),
            ("amq.rabbitmq.trace", ExchangeType::Topic, true),
        ];
        let events = has_events.then_some((EVENT_EXCHANGE, ExchangeType::Topic, true));
        let exchanges = standard.into_iter().chain(events).filter_map(|(name, exchange_type, internal)| {
            let name = ExchangeName::from(name);
            let spec = ExchangeSpec {
                name: name.clone(),
                exchange_type,
                durable: true,
                auto_delete: false,
                internal,
                alternate: None,
                arguments: FieldTable::new(),
            };
            // Not refused: there are no arguments.
            Some((name, Exchange::new(spec, &gauge).ok()?))
        });
        Self {
            exchanges: exchanges.collect(),
            gauge,
            by_destination: HashMap::new(),
            default_counters: Arc::default(),
            hidden,
            policies: Arc::default(),
        }
    }

    pub(crate) fn exchange(&self, name: &str, vhost: &VhostName) -> Result<&Exchange, BrokerError> {
        self.find(name).ok_or_else(|| BrokerError::ExchangeNotFound {
            exchange: name.to_owned(),
            vhost: vhost.to_string(),
        })
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Exchange> {
        self.exchanges.get(name)
    }

    /// The policies of the vhost.
    pub(crate) fn policies(&self) -> &Arc<PolicySet> {
        &self.policies
    }

    /// Puts other policies in force, for the exchanges at once. What is in force for most of them is known already: the
    /// others have been declared since.
    pub(crate) fn set_policies(
        &mut self,
        policies: Arc<PolicySet>,
        mut applied: HashMap<ExchangeName, AppliedPolicies>,
    ) {
        for (name, exchange) in &mut self.exchanges {
            let known = applied.remove(name);
            exchange.policies = known.unwrap_or_else(|| policies.of_exchange(name.as_str()));
        }
        self.policies = policies;
    }

    pub(crate) fn exchanges(&self) -> impl Iterator<Item = &Exchange> {
        self.exchanges.values()
    }

    /// # Errors
    /// An argument is not possible for the type.
    pub(crate) fn add_exchange(
        &mut self,
        spec: ExchangeSpec,
        changes: &mut Changes,
    ) -> Result<(), BrokerError> {
        let mut exchange = Exchange::new(spec, &self.gauge)?;
        if exchange.spec.exchange_type == ExchangeType::Delayed {
            exchange.delayed = Some(DelayedMessages::new(&exchange.spec, &self.hidden));
        }
        exchange.policies = self.policies.of_exchange(exchange.spec.name.as_str());
        exchange.deduplication = Rules::of(&exchange.spec, self.hidden.vhost_name().as_str())?
            .map(|rules| Deduplication::new(&exchange.spec, rules, &self.hidden));
        changes.exchange_added(&exchange.spec);
        self.exchanges.insert(exchange.spec.name.clone(), exchange);
        Ok(())
    }

    /// Whether a binding with this destination is kept, if its source is.
    fn is_durable(&self, destination: &Destination) -> bool {
        match destination {
            Destination::Queue(queue) => queue.spec.is_kept(),
            Destination::Exchange(name) => {
                self.exchanges.get(name).is_some_and(|exchange| exchange.spec.durable)
            }
        }
    }

    /// Adds a binding; `false` if it was there.
    pub(crate) fn bind(
        &mut self,
        source: &str,
        destination: Destination,
        routing_key: &str,
        arguments: &FieldTable,
        changes: &mut Changes,
    ) -> Result<bool, BrokerError> {
        let durable_end = self.is_durable(&destination);
        let target = target_of(&destination);
        let Some(exchange) = self.exchanges.get_mut(source) else { return Ok(false) };
        let key = DestinationKey::from(&destination);
        let canonical = canonical(arguments);
        let bound = BoundDestination { destination, arguments: canonical.clone() };
        let added = exchange.bind(routing_key, bound, arguments)?;
        if added {
            changes.bound(exchange.spec.durable && durable_end, source, target, routing_key, &canonical);
            let source = exchange.spec.name.clone();
            let origin = Origin { source, routing_key: routing_key.into(), arguments: canonical };
            self.by_destination.entry(key).or_default().insert(origin);
        }
        Ok(added)
    }

    pub(crate) fn is_bound(
        &self,
        source: &str,
        destination: &Destination,
        routing_key: &str,
        arguments: &FieldTable,
    ) -> bool {
        let origin = Origin {
            source: source.into(),
            routing_key: routing_key.into(),
            arguments: canonical(arguments),
        };
        let origins = self.by_destination.get(&DestinationKey::from(destination));
        origins.is_some_and(|origins| origins.contains(&origin))
    }

    /// Removes a binding and what goes with it; `false` if it was not there.
    pub(crate) fn unbind(
        &mut self,
        source: &str,
        destination: Destination,
        routing_key: &str,
        arguments: &FieldTable,
        changes: &mut Changes,
    ) -> bool {
        let durable_end = self.is_durable(&destination);
        let key = DestinationKey::from(&destination);
        let bound = BoundDestination { destination, arguments: canonical(arguments) };
        let Some(exchange) = self.exchanges.get_mut(source) else { return false };
        if !exchange.unbind(routing_key, &bound) {
            return false;
        }
        let is_kept = exchange.spec.durable && durable_end;
        changes.unbound(is_kept, source, target_of(&bound.destination), routing_key, &bound.arguments);
        let origin = Origin {
            source: exchange.spec.name.clone(),
            routing_key: routing_key.into(),
            arguments: bound.arguments,
        };
        self.forget_origin(&key, &origin);
        if self.is_left(&origin.source) {
            self.remove_exchange(&origin.source, changes);
        }
        true
    }

    /// Removes a queue that is deleted with its bindings.
    pub(crate) fn remove_queue(&mut self, queue: &Arc<Queue>, changes: &mut Changes) {
        let destination = Destination::Queue(Arc::clone(queue));
        let left = self.remove_destination(&destination, queue.spec.is_kept(), changes);
        changes.queue_removed(queue);
        left.iter().for_each(|exchange| self.remove_exchange(exchange, changes));
    }

    /// Removes an exchange and its bindings in both directions, then the auto-delete exchanges that were
    /// left without a binding, and so on; in a loop, since a chain of them is as long as clients make it.
    pub(crate) fn remove_exchange(&mut self, name: &ExchangeName, changes: &mut Changes) {
        let mut pending = vec![name.clone()];
        while let Some(name) = pending.pop() {
            pending.extend(self.remove_one_exchange(&name, changes));
        }
    }

    fn remove_one_exchange(&mut self, name: &ExchangeName, changes: &mut Changes) -> Vec<ExchangeName> {
        // Noted while it is still there: it may be bound to itself.
        if let Some(exchange) = self.exchanges.get(name) {
            exchange.for_each_binding(&mut |routing_key, bound| {
                let is_kept = exchange.spec.durable && self.is_durable(&bound.destination);
                let target = target_of(&bound.destination);
                changes.unbound(is_kept, name.as_str(), target, routing_key, &bound.arguments);
            });
        }
        let Some(exchange) = self.exchanges.remove(name) else { return Vec::new() };
        exchange.for_each_binding(&mut |routing_key, bound| {
            let key = DestinationKey::from(&bound.destination);
            let origin = Origin {
                source: name.clone(),
                routing_key: routing_key.into(),
                arguments: bound.arguments.clone(),
            };
            self.forget_origin(&key, &origin);
        });
        let destination = Destination::Exchange(name.clone());
        let left = self.remove_destination(&destination, exchange.spec.durable, changes);
        changes.exchange_removed(&exchange.spec);
        exchange.delayed.into_iter().for_each(|delayed| delayed.end(changes));
        exchange.deduplication.into_iter().for_each(|deduplication| deduplication.end(changes));
        left
    }

    fn forget_origin(&mut self, key: &DestinationKey, origin: &Origin) {
        if let Some(origins) = self.by_destination.get_mut(key) {
            origins.remove(origin);
            if origins.is_empty() {
                self.by_destination.remove(key);
            }
        }
    }

    /// Removes all bindings to a destination, which says whether it is durable since it may be gone from here;
    /// the auto-delete exchanges this leaves without any.
    fn remove_destination(
        &mut self,
        destination: &Destination,
        durable: bool,
        changes: &mut Changes,
    ) -> Vec<ExchangeName> {
        let mut left = Vec::new();
        let Some(origins) = self.by_destination.remove(&DestinationKey::from(destination)) else {
            return left;
        };
        for Origin { source, routing_key, arguments } in origins {
            let bound = BoundDestination { destination: destination.clone(), arguments };
            let Some(exchange) = self.exchanges.get_mut(&source) else { continue };
            if !exchange.unbind(&routing_key, &bound) {
                continue;
            }
            let (is_kept, target) = (exchange.spec.durable && durable, target_of(destination));
            changes.unbound(is_kept, source.as_str(), target, &routing_key, &bound.arguments);
            if self.is_left(&source) {
                left.push(source);
            }
        }
        left
    }

    /// COMPAT: an auto-delete exchange goes with its last binding as a source.
    fn is_left(&self, name: &ExchangeName) -> bool {
        let exchange = self.exchanges.get(name);
        exchange.is_some_and(|exchange| exchange.spec.auto_delete && exchange.binding_count() == 0)
    }

    pub(crate) fn bindings(&self) -> Vec<Binding> {
        let mut bindings = Vec::new();
        for exchange in self.exchanges.values() {
            exchange.for_each_binding(&mut |routing_key, bound| {
                bindings.push(Binding {
                    source: exchange.spec.name.clone(),
                    destination: bound.destination.clone(),
                    routing_key: routing_key.to_owned(),
                    arguments: bound.arguments.clone(),
                });
            });
        }
        bindings
    }

    /// What clients published to the default exchange.
    pub(crate) fn default_counters(&self) -> &Arc<ExchangeCounters> {
        &self.default_counters
    }

    /// Counts what clients publish to an exchange; the empty name is that of the default one.
    pub(crate) fn counters(&self, exchange: &str) -> Option<Arc<ExchangeCounters>> {
        let counters = match exchange {
            "" => &self.default_counters,
            name => &self.exchanges.get(name)?.counters,
        };
        Some(Arc::clone(counters))
    }

    /// Walks on along bindings and alternate exchanges, each exchange once, and gathers the queues, each once. Where a
    /// delayed exchange keeps the message, its walk ends. Returns whether the walk has ended: where much is to be
    /// looked for, it does not at once, so that others get at the topology meanwhile.
    ///
    /// # Errors
    /// It would be kept for too long, where that is refused.
    pub(crate) fn walk_on(
        &self,
        walk: &mut Walk,
        message: &Addressing<'_>,
        vhost: &Vhost,
        by: PublishedBy,
    ) -> Result<bool, BrokerError> {
        while let Some(name) = walk.exchanges.items().get(walk.at).cloned() {
            if name.as_str().is_empty() {
                for key in message.routing_keys() {
                    walk.reply_gone |= key.starts_with(REPLY_TO_PREFIX);
                    vhost.default_route(key).iter().for_each(|queue| walk.reach(queue));
                }
                walk.leave();
                continue;
            }
            let is_begun = walk.keys_done > 0;
            let Some(exchange) = self.exchanges.get(&name) else {
                walk.leave();
                continue;
            };
            if !is_begun && !walk.enter(exchange, message, vhost, by)? {
                walk.leave();
                continue;
            }
            let portion = message.portion(walk.keys_done, exchange.keys_at_once());
            exchange.route(&portion, &mut |destination| {
                walk.matched = true;
                match destination {
                    Destination::Queue(queue) => walk.reach(queue),
                    Destination::Exchange(name) => walk.visit(name),
                }
            });
            walk.keys_done += portion.routing_keys().len();
            if walk.keys_done < message.routing_keys().len() {
                return Ok(false);
            }
            if let (false, Some(alternate)) = (walk.matched, exchange.alternate()) {
                walk.visit(alternate);
            }
            walk.leave();
        }
        Ok(true)
    }

    /// Where a walk that began at `exchange` and has ended led to.
    pub(crate) fn ended(&self, walk: Walk, exchange: &str) -> Route {
        let depends_on_id = walk.unique.is_some() || walk.depends_on_ids;
        let unique =
            walk.unique.filter(|_| walk.cacheable && !walk.depends_on_ids && walk.known_at.is_none());
        Route {
            routed: !walk.queues.is_empty() || walk.reply_gone || walk.known_at.is_some(),
            queues: walk.queues,
            cacheable: walk.cacheable && !depends_on_id,
            unique,
            deliver_at: walk.deliver_at,
            new_ids: walk.new_ids,
            known_at: walk.known_at,
            counters: self.counters(exchange),
        }
    }
}

/// What a walk has met so far.
#[derive(Default)]
pub(crate) struct Walk {
    exchanges: Distinct<ExchangeName>,
    /// The exchange it is at, of those.
    at: usize,
    /// Routing keys that were looked for there.
    keys_done: usize,
    /// One of them led somewhere.
    matched: bool,
    queues: Vec<Arc<Queue>>,
    reached: Distinct<QueueId>,
    cacheable: bool,
    /// The exchange that the message came to drops duplicates.
    unique: Option<Arc<Deduplication>>,
    /// One further on does.
    depends_on_ids: bool,
    reply_gone: bool,
    deliver_at: Option<Timestamp>,
    new_ids: Vec<NewId>,
    known_at: Option<JournalPosition>,
}

impl Walk {
    /// The walk of a message that was published to `exchange`.
    pub(crate) fn from(exchange: &str, message: &Addressing<'_>) -> Self {
        let mut walk = Self { cacheable: message.routing_keys().len() == 1, ..Self::default() };
        walk.visit(&exchange.into());
        walk
    }

    /// Whether the bindings of an exchange decide where the message goes on from it.
    fn enter(
        &mut self,
        exchange: &Exchange,
        message: &Addressing<'_>,
        vhost: &Vhost,
        by: PublishedBy,
    ) -> Result<bool, BrokerError> {
        self.cacheable &= exchange.routes_by_key();
        let is_first = self.at == 0;
        let is_known_here = is_first && by == PublishedBy::Again;
        if let Some(deduplication) = exchange.deduplication.as_ref().filter(|_| !is_known_here)
            && self.is_duplicate(deduplication, message, is_first)
        {
            return Ok(false);
        }
        match &exchange.delayed {
            Some(delayed) => Ok(!self.delay(delayed, message, vhost, by)?),
            None => Ok(true),
        }
    }

    /// Goes on to the next exchange.
    fn leave(&mut self) {
        self.at += 1;
        (self.keys_done, self.matched) = (0, false);
    }

    /// Whether an exchange has had the message before.
    fn is_duplicate(
        &mut self,
        deduplication: &Arc<Deduplication>,
        message: &Addressing<'_>,
        is_first: bool,
    ) -> bool {
        if is_first {
            self.unique = Some(Arc::clone(deduplication));
        } else {
            self.depends_on_ids = true;
        }
        match deduplication.look_for(message.encoded_properties()) {
            Seen::NoId => false,
            Seen::New(id) => {
                self.new_ids.push(id);
                false
            }
            Seen::Before(position) => {
                self.known_at = self.known_at.max(Some(position));
                true
            }
        }
    }

    /// Leaves the message to a delayed exchange, if it is not due yet.
    fn delay(
        &mut self,
        delayed: &DelayedMessages,
        message: &Addressing<'_>,
        vhost: &Vhost,
        by: PublishedBy,
    ) -> Result<bool, BrokerError> {
        self.cacheable = false;
        if self.deliver_at.is_none() {
            self.deliver_at = due_at(message.headers(), by, || vhost.clock().now())?;
        }
        let Some(due) = self.deliver_at else { return Ok(false) };
        delayed.queue_for(due, vhost.clock().now()).iter().for_each(|queue| self.reach(queue));
        Ok(true)
    }

    fn visit(&mut self, exchange: &ExchangeName) {
        if self.exchanges.items().len() < ROUTE_EXCHANGES_MAX {
            self.exchanges.add(exchange.clone());
        }
    }

    fn reach(&mut self, queue: &Arc<Queue>) {
        if self.reached.add(queue.id) {
            self.queues.push(Arc::clone(queue));
        }
    }
}
