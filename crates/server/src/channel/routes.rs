//! Where a channel's messages go: routes it has looked up before, and a batch for each queue, so that a
//! queue is locked once per run of frames and not once per message.

use std::sync::Arc;

use hashbrown::HashMap;
use leveret_broker::limits::CHUNK_BYTES;
use leveret_broker::store::{JournalPosition, Store};
use leveret_broker::{BrokerError, MessageBatch, MessageView, Queue, QueueId, Vhost};
use leveret_codec::table::FieldTableRef;

use crate::limits::{ROUTES_CACHED_MAX, TARGETS_MAX};

/// A queue and what is on its way to it.
struct Target {
    queue: Arc<Queue>,
    batch: MessageBatch,
}

/// A route looked up before.
#[derive(Clone, Default)]
struct CachedRoute {
    /// Indexes of targets.
    targets: Box<[u32]>,
    /// Several of them keep persistent messages: the journal gets these once.
    is_shared: bool,
    routed: Routed,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Routed {
    /// It went somewhere in the eyes of mandatory.
    pub(crate) somewhere: bool,
    /// A queue it should have gone to is stopped: it cannot be confirmed.
    pub(crate) refused: bool,
}

/// Routes and batches of a channel.
#[derive(Default)]
pub(crate) struct Routes {
    generation: u64,
    /// The route of the last message, if it can be used again: most channels publish to one place.
    last: Option<CachedRoute>,
    cache: HashMap<Box<[u8]>, CachedRoute>,
    targets: Vec<Target>,
    by_queue: HashMap<QueueId, u32>,
    /// Targets with a message in their batch.
    dirty: Vec<u32>,
    /// Persistent messages that several durable queues get.
    shared: MessageBatch,
    bytes: usize,
}

/// A message to be routed.
pub(crate) struct Publish<'a> {
    pub(crate) message: MessageView<'a>,
    pub(crate) headers: Option<FieldTableRef<'a>>,
    /// Further routing keys.
    pub(crate) copies: &'a [String],
    /// The message before had the same exchange and routing key.
    pub(crate) same_names: bool,
}

impl Routes {
    /// Octets waiting in batches.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets routes that may have become wrong. Called before the first publish after anything else.
    pub(crate) fn refresh(&mut self, vhost: &Vhost) {
        let generation = vhost.generation();
        if generation != self.generation {
            self.generation = generation;
            self.forget_routes();
        }
        if self.dirty.is_empty() && (self.cache.is_empty() || self.targets.len() > TARGETS_MAX) {
            self.forget_routes();
            self.targets.clear();
            self.by_queue.clear();
        }
    }

    fn forget_routes(&mut self) {
        self.last = None;
        self.cache.clear();
    }

    /// Adds a message to the batches of the queues it goes to.
    ///
    /// # Errors
    /// The exchange is missing or not for clients.
    pub(crate) fn add(&mut self, vhost: &Vhost, publish: &Publish<'_>) -> Result<Routed, BrokerError> {
        if !publish.copies.is_empty() {
            self.last = None;
            return self.look_up(vhost, publish);
        }
        // Taken in any case: the route of another place must not outlive a message that is looked up.
        let last = self.last.take().filter(|_| publish.same_names);
        let route = last.or_else(|| self.cache.get(publish.message.names).cloned());
        let Some(route) = route else { return self.look_up(vhost, publish) };
        self.push(&route, &publish.message);
        let routed = route.routed;
        self.last = Some(route);
        Ok(routed)
    }

    fn look_up(&mut self, vhost: &Vhost, publish: &Publish<'_>) -> Result<Routed, BrokerError> {
        let text = |octets| std::str::from_utf8(octets).unwrap_or_default();
        let mut keys = vec![text(publish.message.routing_key())];
        keys.extend(publish.copies.iter().map(String::as_str));
        let found = vhost.route(text(publish.message.exchange()), &keys, publish.headers)?;
        let routed =
            Routed { somewhere: found.routed, refused: found.queues.iter().any(|queue| queue.is_stopped()) };
        let is_shared = found.queues.iter().filter(|queue| queue.is_durable()).count() > 1;
        let usable = found.queues.into_iter().filter(|queue| !queue.is_stopped());
        let targets: Box<[u32]> = usable.map(|queue| self.target(queue)).collect();
        let route = CachedRoute { targets, is_shared, routed };
        self.push(&route, &publish.message);
        if found.cacheable {
            if self.cache.len() >= ROUTES_CACHED_MAX {
                self.forget_routes();
            }
            self.cache.insert(publish.message.names.into(), route);
        }
        Ok(routed)
    }

    fn target(&mut self, queue: Arc<Queue>) -> u32 {
        let targets = &mut self.targets;
        *self.by_queue.entry(queue.id).or_insert_with(|| {
            targets.push(Target { queue, batch: MessageBatch::default() });
            (targets.len() - 1) as u32
        })
    }

    fn push(&mut self, route: &CachedRoute, message: &MessageView<'_>) {
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
    }

    /// Hands batches that have grown to a chunk's size to their queues.
    pub(crate) fn flush_if_large(&mut self, store: &dyn Store) -> JournalPosition {
        // A batch's buffer grows by doubling: it is handed over before it would grow past a chunk.
        if self.bytes < CHUNK_BYTES / 8 * 7 { JournalPosition::SAFE } else { self.flush(store) }
    }

    /// Hands every batch to its queue. Returns from when on all of it is safe.
    pub(crate) fn flush(&mut self, store: &dyn Store) -> JournalPosition {
        let mut safe = JournalPosition::SAFE;
        let shared_at = (!self.shared.is_empty()).then(|| store.share(&self.shared));
        self.shared.clear();
        for index in self.dirty.drain(..) {
            let Some(target) = self.targets.get_mut(index as usize) else { continue };
            shared_at.into_iter().for_each(|position| target.batch.shared_at(position));
            safe = safe.max(target.queue.publish(&mut target.batch));
        }
        if safe == JournalPosition::NEVER {
            // A queue was stopped meanwhile: what follows is to be refused, not withheld.
            self.forget_routes();
        }
        self.bytes = 0;
        safe
    }

    /// Forgets all batches, as a rollback does.
    pub(crate) fn discard(&mut self) {
        for index in self.dirty.drain(..) {
            if let Some(target) = self.targets.get_mut(index as usize) {
                target.batch.clear();
            }
        }
        self.shared.clear();
        self.bytes = 0;
    }

    /// Gives the batches' buffers back, for a channel that goes idle.
    pub(crate) fn release_memory(&mut self) {
        self.shared.release_memory();
        for target in &mut self.targets {
            target.batch.release_memory();
        }
    }
}
