//! Where a channel's messages go: routes it has looked up before, and a batch for each queue, so that a
//! queue is locked once per run of frames and not once per message.

use std::sync::Arc;

use hashbrown::HashMap;
use leveret_broker::counters::ExchangeCounters;
use leveret_broker::deduplication::{Deduplication, NewId, NewIds, Seen, publish_once, remember};
use leveret_broker::delayed::due::with_blind_copies;
use leveret_broker::exchange::addressing::Addressing;
use leveret_broker::limits::CHUNK_BYTES;
use leveret_broker::store::{JournalPosition, Store};
use leveret_broker::time::{Clock, Timestamp};
use leveret_broker::vhost::Route;
use leveret_broker::{BrokerError, MessageBatch, MessageView, Queue, QueueId, Vhost};

use super::grants::ChannelAccess;
use crate::limits::{ROUTES_CACHED_MAX, TARGETS_MAX};

/// A queue, or a level of a priority queue, and what is on its way to it.
struct Target {
    queue: Arc<Queue>,
    /// What is in force there, as far as a publisher has to know.
    rules: TargetRules,
    batch: MessageBatch,
    /// Sequence numbers of the messages in the batch, where the queue may refuse some.
    sequences: Vec<u64>,
    /// Of a priority queue: the targets of its levels from 1 on, as far as they are known.
    levels: Vec<Option<u32>>,
}

/// What a queue does to messages that it gets.
#[derive(Clone, Copy, Debug, Default)]
struct TargetRules {
    /// Milliseconds after which they expire.
    ttl_ms: Option<u64>,
    /// It may refuse them.
    refuses: bool,
    /// It keeps them until they are due.
    delays: bool,
    /// The highest level they can have by their priority.
    level_max: u8,
}

impl TargetRules {
    fn of(queue: &Queue) -> Self {
        let (ttl_ms, refuses) = queue.publish_rules();
        let (delays, level_max) = (queue.is_hidden(), queue.spec.level_max());
        Self { ttl_ms, refuses, delays, level_max }
    }

    fn is_any(&self) -> bool {
        self.ttl_ms.is_some() || self.refuses || self.delays || self.level_max > 0
    }
}

/// A route looked up before.
struct CachedRoute {
    /// Indexes of targets.
    targets: Box<[u32]>,
    /// Several of them keep persistent messages: the journal gets these once.
    is_shared: bool,
    /// One of them at least does, so that a restart finds them again.
    is_durable: bool,
    /// Some of them have rules.
    has_rules: bool,
    /// The exchange, if it lets only messages through that it has not had before.
    unique: Option<Arc<Deduplication>>,
    /// When the message is due, where some of them keep it until then.
    deliver_at: Option<Timestamp>,
    /// Place of the exchange's counters.
    exchange: u32,
    routed: Routed,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Routed {
    /// It went somewhere in the eyes of mandatory.
    pub(crate) somewhere: bool,
    /// A queue it should have gone to is stopped: it cannot be confirmed.
    pub(crate) refused: bool,
    /// Queues that got it.
    pub(crate) copies: u32,
}

/// Routes and batches of a channel.
#[derive(Default)]
pub(crate) struct Routes {
    generation: u64,
    /// Copies of messages are published: each is looked up, and says where it went.
    is_tracing: bool,
    /// The queues that the last message went to, if it is traced.
    traced: Option<Vec<String>>,
    /// The route of the last message, if it can be used again: most channels publish to one place.
    last: Option<Arc<CachedRoute>>,
    cache: HashMap<Box<[u8]>, Arc<CachedRoute>>,
    targets: Vec<Target>,
    /// One of them drops duplicates.
    reach_unique: bool,
    /// By the ids of queues and their levels.
    by_queue: HashMap<QueueId, u32>,
    /// Targets with a message in their batch.
    dirty: Vec<u32>,
    /// Persistent messages that several durable queues get.
    shared: MessageBatch,
    bytes: usize,
    /// What time it is for the messages that wait to be handed over, once one has asked.
    now: Option<Timestamp>,
    /// Sequence numbers of messages that queues refused, not reported yet.
    refused: Vec<u64>,
    /// From when on what was handed over is safe, not reported yet.
    safe_at: JournalPosition,
    /// Ids that exchanges are to remember with the commit.
    new_ids: NewIds,
    exchanges: Vec<Arc<ExchangeCounters>>,
    tally: Tally,
}

/// What was published to one exchange since its counters were told.
#[derive(Default)]
struct Tally {
    exchange: u32,
    published: u64,
    routed: u64,
}

/// A message to be routed.
pub(crate) struct Publish<'a> {
    pub(crate) message: MessageView<'a>,
    /// Further routing keys.
    pub(crate) copies: &'a [String],
    /// The message before had the same exchange and routing key.
    pub(crate) same_names: bool,
    /// Milliseconds after which it expires.
    pub(crate) expiration_ms: Option<u64>,
    /// Its number among the publishes to be confirmed.
    pub(crate) sequence: u64,
    /// It waits for a commit.
    pub(crate) in_transaction: bool,
}

impl Routes {
    /// Octets waiting in batches.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether they lead to a queue that drops duplicates.
    pub(crate) fn reach_unique(&self) -> bool {
        self.reach_unique
    }

    /// Forgets routes that may have become wrong. Called before the first publish after anything else.
    pub(crate) fn refresh(&mut self, vhost: &Vhost) {
        self.is_tracing = vhost.is_tracing();
        let generation = vhost.generation();
        if generation != self.generation {
            self.generation = generation;
            self.forget_routes();
        }
        if self.dirty.is_empty() && (self.cache.is_empty() || self.targets.len() > TARGETS_MAX) {
            self.forget_routes();
            self.targets.clear();
            self.reach_unique = false;
            self.by_queue.clear();
            self.count_published();
            self.exchanges.clear();
        }
    }

    /// Looks everything up again, since something may not be permitted any more, or lead elsewhere.
    pub(crate) fn forget_routes(&mut self) {
        self.last = None;
        self.cache.clear();
    }

    /// Adds a message to the batches of the queues it goes to. Without `access` nobody's permission is asked.
    ///
    /// # Errors
    /// The exchange is missing or not for clients, or the user may not publish there.
    pub(crate) fn add(
        &mut self,
        vhost: &Vhost,
        access: Option<&mut ChannelAccess>,
        publish: &Publish<'_>,
    ) -> Result<Routed, BrokerError> {
        if !publish.copies.is_empty() || self.is_tracing {
            self.last = None;
            return self.look_up(vhost, access, publish);
        }
        // Taken in any case: the route of another place must not outlive a message that is looked up.
        let last = self.last.take().filter(|_| publish.same_names);
        let route = last.or_else(|| self.cache.get(publish.message.names).cloned());
        // PERF: a route that is known was permitted when it was looked up; permissions that change forget it.
        let Some(route) = route else { return self.look_up(vhost, access, publish) };
        let Some(unique) = &route.unique else {
            let routed = self.push(&route, vhost, publish);
            self.last = Some(route);
            return Ok(routed);
        };
        if publish.in_transaction {
            // What it has published before is not known to the exchange yet.
            return self.look_up(vhost, access, publish);
        }
        // Noted first: it is forgotten if the queues do not take the message.
        self.last = Some(Arc::clone(&route));
        Ok(self.push_unique(unique, &route, vhost, publish))
    }

    /// Where the last message went, if a copy of it is to be published.
    pub(crate) fn take_traced(&mut self) -> Option<Vec<String>> {
        self.traced.take()
    }

    fn look_up(
        &mut self,
        vhost: &Vhost,
        access: Option<&mut ChannelAccess>,
        publish: &Publish<'_>,
    ) -> Result<Routed, BrokerError> {
        let text = |octets| std::str::from_utf8(octets).unwrap_or_default();
        let mut keys = vec![text(publish.message.routing_key())];
        keys.extend(publish.copies.iter().map(String::as_str));
        if let Some(access) = access {
            access.check_publish(vhost, text(publish.message.exchange()), &keys)?;
        }
        let addressing = Addressing::of(&keys, &publish.message);
        let mut found = vhost.route(text(publish.message.exchange()), &addressing)?;
        while !found.new_ids.is_empty() && !publish.in_transaction {
            let ids = found.take_new_ids(publish.message.persistent);
            let routed = self.add_once(vhost, &ids, |routes| routes.add_found(vhost, publish, &mut found));
            if let Some(routed) = routed {
                return Ok(routed);
            }
            // Somebody else published the same meanwhile.
            found = vhost.route(text(publish.message.exchange()), &addressing)?;
        }
        Ok(self.add_found(vhost, publish, &mut found))
    }

    /// Hands a message over at once that exchanges must not get again; nothing if one has got it meanwhile.
    fn add_once(
        &mut self,
        vhost: &Vhost,
        ids: &[NewId],
        add: impl FnOnce(&mut Self) -> Routed,
    ) -> Option<Routed> {
        let store = &**vhost.store();
        // What was gathered before comes first, and what is refused from here on is this message.
        let before = self.flush(store);
        let refused = self.refused.len();
        let mut routed = Routed::default();
        let safe_at = publish_once(ids, || {
            routed = add(self);
            let position = self.flush(store);
            let is_taken =
                self.refused.len() == refused && !routed.refused && position < JournalPosition::NEVER;
            // What never is safe is told as that.
            self.safe_at = self.safe_at.max(position);
            is_taken.then_some(position)
        });
        self.safe_at = self.safe_at.max(before).max(safe_at.unwrap_or(JournalPosition::SAFE));
        safe_at.map(|_| routed)
    }

    /// Adds a message to the batches of the queues that were found for it.
    fn add_found(&mut self, vhost: &Vhost, publish: &Publish<'_>, found: &mut Route) -> Routed {
        // A duplicate is as safe as what it repeats.
        self.safe_at = self.safe_at.max(found.known_at.unwrap_or(JournalPosition::SAFE));
        if publish.in_transaction && self.new_ids.has_any(&found.new_ids) {
            return Routed { somewhere: true, ..Routed::default() };
        }
        self.new_ids.add(found.take_new_ids(publish.message.persistent));
        let refused = found.queues.iter().any(|queue| queue.is_stopped());
        let durable = found.queues.iter().filter(|queue| queue.is_durable()).count();
        let (is_durable, is_shared) = (durable > 0, durable > 1);
        if self.is_tracing {
            let shown = found.queues.iter().filter(|queue| !queue.is_hidden());
            self.traced = Some(shown.map(|queue| queue.spec.name.to_string()).collect());
        }
        let queues = std::mem::take(&mut found.queues);
        let usable = queues.into_iter().filter(|queue| !queue.is_stopped());
        let targets: Box<[u32]> = usable.map(|queue| self.target(queue)).collect();
        let has_rules = targets.iter().filter_map(|&index| self.targets.get(index as usize));
        let has_rules = has_rules.into_iter().any(|target| target.rules.is_any());
        let routed = Routed { somewhere: found.routed, refused, copies: targets.len() as u32 };
        let (exchange, deliver_at) = (self.exchange(found.counters.take()), found.deliver_at);
        let unique = found.unique.take();
        let cacheable = found.cacheable || (unique.is_some() && !publish.in_transaction);
        let route =
            CachedRoute { targets, is_shared, is_durable, has_rules, unique, deliver_at, exchange, routed };
        self.push(&route, vhost, publish);
        if cacheable {
            if self.cache.len() >= ROUTES_CACHED_MAX {
                self.forget_routes();
            }
            self.cache.insert(publish.message.names.into(), Arc::new(route));
        }
        routed
    }

    fn target(&mut self, queue: Arc<Queue>) -> u32 {
        // Looked at whenever a route is: when they change, routes are looked up again.
        let rules = TargetRules::of(&queue);
        self.reach_unique |= queue.is_unique();
        let index = self.target_of_level(queue, rules, 0);
        if let Some(target) = self.targets.get_mut(index as usize) {
            target.rules = rules;
        }
        index
    }

    fn target_of_level(&mut self, queue: Arc<Queue>, rules: TargetRules, level: u8) -> u32 {
        let targets = &mut self.targets;
        *self.by_queue.entry(queue.id.of_level(level)).or_insert_with(|| {
            let batch = MessageBatch::for_level(&queue.spec, level);
            targets.push(Target { queue, rules, batch, sequences: Vec::new(), levels: Vec::new() });
            (targets.len() - 1) as u32
        })
    }

    /// The target of the level that a message has in a priority queue, by that of the queue.
    fn leveled(&mut self, index: u32, properties: &[u8]) -> u32 {
        let Some(target) = self.targets.get(index as usize) else { return index };
        let level = target.queue.spec.level_of(properties);
        let Some(place) = usize::from(level).checked_sub(1) else { return index };
        if let Some(&Some(known)) = target.levels.get(place) {
            return known;
        }
        let (queue, rules) = (Arc::clone(&target.queue), target.rules);
        let found = self.target_of_level(queue, rules, level);
        if let Some(target) = self.targets.get_mut(index as usize) {
            target.levels.resize(target.levels.len().max(place + 1), None);
            if let Some(known) = target.levels.get_mut(place) {
                *known = Some(found);
            }
        }
        found
    }

    /// The place of an exchange's counters.
    fn exchange(&mut self, counters: Option<Arc<ExchangeCounters>>) -> u32 {
        let counters = counters.unwrap_or_default();
        let known = self.exchanges.iter().position(|known| Arc::ptr_eq(known, &counters));
        let place = known.unwrap_or_else(|| {
            self.exchanges.push(counters);
            self.exchanges.len() - 1
        });
        place as u32
    }

    /// Tells the exchange what was published to it.
    fn count_published(&mut self) {
        let Tally { exchange, published, routed } = std::mem::take(&mut self.tally);
        if published > 0
            && let Some(counters) = self.exchanges.get(exchange as usize)
        {
            counters.add(published, routed);
        }
    }

    /// Counts a message for the exchange it came to.
    fn count(&mut self, exchange: u32, copies: u32) {
        if self.tally.exchange != exchange {
            self.count_published();
            self.tally.exchange = exchange;
        }
        self.tally.published += 1;
        self.tally.routed += u64::from(copies);
    }

    /// Adds a message to the batches of a route, unless the exchange has had it before.
    fn push_unique(
        &mut self,
        unique: &Arc<Deduplication>,
        route: &CachedRoute,
        vhost: &Vhost,
        publish: &Publish<'_>,
    ) -> Routed {
        loop {
            match unique.look_for(publish.message.properties) {
                Seen::NoId => return self.push(route, vhost, publish),
                Seen::Before(position) => {
                    // A duplicate is as safe as what it repeats.
                    self.safe_at = self.safe_at.max(position);
                    self.count(route.exchange, 0);
                    return Routed { somewhere: true, ..Routed::default() };
                }
                Seen::New(mut id) => {
                    id.set_kept(publish.message.persistent && route.is_durable);
                    let push = |routes: &mut Self| routes.push(route, vhost, publish);
                    if let Some(routed) = self.add_once(vhost, &[id], push) {
                        return routed;
                    }
                    // Somebody else published the same meanwhile.
                }
            }
        }
    }

    fn push(&mut self, route: &CachedRoute, vhost: &Vhost, publish: &Publish<'_>) -> Routed {
        let message = &publish.message;
        self.count(route.exchange, route.routed.copies);
        if publish.expiration_ms.is_some() || route.has_rules {
            self.push_by_rules(route, vhost, publish);
            return route.routed;
        }
        let mut shared = None;
        if route.is_shared && message.persistent {
            shared = Some(self.shared.len() as u32);
            let before = self.shared.record_bytes();
            self.shared.push(message);
            self.bytes += self.shared.record_bytes() - before;
        }
        for &index in &*route.targets {
            let Some(target) = self.targets.get_mut(index as usize) else { continue };
            if target.batch.is_empty() {
                self.dirty.push(index);
            }
            let before = target.batch.record_bytes();
            match shared {
                Some(number) if target.queue.is_durable() => target.batch.push_shared(message, number),
                _ => target.batch.push(message),
            }
            self.bytes += target.batch.record_bytes() - before;
        }
        route.routed
    }

    /// The same where the message expires, or a queue has rules.
    fn push_by_rules(&mut self, route: &CachedRoute, vhost: &Vhost, publish: &Publish<'_>) {
        let now = *self.now.get_or_insert_with(|| vhost.clock().now());
        for &index in &*route.targets {
            let rules = self.targets.get(index as usize).map(|target| target.rules).unwrap_or_default();
            let index =
                if rules.level_max > 0 { self.leveled(index, publish.message.properties) } else { index };
            let Some(target) = self.targets.get_mut(index as usize) else { continue };
            if target.batch.is_empty() {
                self.dirty.push(index);
            }
            let before = target.batch.record_bytes();
            if let Some(at) = route.deliver_at.filter(|_| rules.delays) {
                let kept = with_blind_copies(publish.message.properties, publish.copies);
                let properties = kept.as_deref().unwrap_or(publish.message.properties);
                target.batch.push_delayed(&MessageView { properties, ..publish.message }, at);
                self.bytes += target.batch.record_bytes() - before;
                continue;
            }
            let ttl_ms = [publish.expiration_ms, rules.ttl_ms].into_iter().flatten().min();
            target.batch.push_expiring(&publish.message, ttl_ms.map(|ttl| now.after_ms(ttl)));
            if rules.refuses {
                target.sequences.push(publish.sequence);
            }
            self.bytes += target.batch.record_bytes() - before;
        }
    }

    /// Whether the batches have grown to a chunk's size: a batch's buffer grows by doubling, and is to be handed over
    /// before it would grow past a chunk.
    pub(crate) fn is_large(&self) -> bool {
        self.bytes >= CHUNK_BYTES / 8 * 7
    }

    /// Hands every batch to its queue. Returns from when on all of it is safe.
    pub(crate) fn flush(&mut self, store: &dyn Store) -> JournalPosition {
        let mut safe = std::mem::take(&mut self.safe_at);
        let shared_at = (!self.shared.is_empty()).then(|| store.share(&self.shared));
        self.shared.clear();
        for index in self.dirty.drain(..) {
            let Some(target) = self.targets.get_mut(index as usize) else { continue };
            shared_at.into_iter().for_each(|position| target.batch.shared_at(position));
            let (mut refused, count) = (Vec::new(), target.batch.len());
            safe = safe.max(target.queue.publish_or_refuse(&mut target.batch, &mut refused));
            if refused.is_empty() || target.sequences.len() == count {
                let sequence = |number: u32| target.sequences.get(number as usize);
                self.refused.extend(refused.into_iter().filter_map(sequence));
            } else {
                // It refuses only since some of them were looked up: which ones they are is not known.
                safe = JournalPosition::NEVER;
            }
            target.sequences.clear();
        }
        self.now = None;
        if safe < JournalPosition::NEVER && !self.new_ids.is_empty() {
            safe = safe.max(remember(self.new_ids.iter(), safe));
        }
        self.new_ids.clear();
        self.count_published();
        if safe == JournalPosition::NEVER {
            // A queue was stopped meanwhile: what follows is to be refused, not withheld.
            self.forget_routes();
        }
        self.bytes = 0;
        safe
    }

    /// Has times to live begin now: what a transaction holds is published by its commit.
    pub(crate) fn begin_expiry(&mut self, clock: &dyn Clock) {
        let Some(published_at) = self.now else { return };
        let waited_ms = clock.now().0.saturating_sub(published_at.0);
        for &index in &self.dirty {
            if let Some(target) = self.targets.get_mut(index as usize) {
                target.batch.postpone_expiry(waited_ms);
            }
        }
    }

    /// Forgets all batches, as a rollback does.
    pub(crate) fn discard(&mut self) {
        for index in self.dirty.drain(..) {
            if let Some(target) = self.targets.get_mut(index as usize) {
                target.batch.clear();
                target.sequences.clear();
            }
        }
        self.shared.clear();
        self.new_ids.clear();
        self.now = None;
        self.bytes = 0;
    }

    /// Sequence numbers of messages that queues refused since the last time.
    pub(crate) fn take_refused(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.refused)
    }

    /// Gives the batches' buffers back, for a channel that goes idle.
    pub(crate) fn release_memory(&mut self) {
        self.shared.release_memory();
        for target in &mut self.targets {
            target.batch.release_memory();
        }
    }
}
