//! A vhost: its exchanges, bindings and queues, and the way from an exchange to the queues.
//!
//! Lock order: changes of policies, topology, queue directory, queue, then what a consumer's sink locks. Nothing
//! that holds a queue's lock asks for the topology.
//!
//! The store is told of every change of durable definitions before what protects it is let go of, so that
//! it learns of them in the order in which they happened.

pub(crate) mod changes;
mod declare;
pub(crate) mod hidden;
mod policies;
pub mod redrive;
pub(crate) mod republish;
mod restore;
mod settings;
mod topology;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use dashmap::DashMap;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use crate::counters::ExchangeCounters;
use crate::deduplication::{Deduplication, DeduplicationSnapshot, NewId};
use crate::definition::Definition;
use crate::delayed::DelayedSnapshot;
use crate::error::BrokerError;
use crate::exchange::addressing::Addressing;
use crate::message::MessageRef;
use crate::names::{ConnectionId, ConsumerId, QueueName, VhostName};
use crate::policy::PolicyKind;
use crate::queue::arguments::QueueArguments;
use crate::queue::{Queue, QueueSpec};
use crate::reply_to::{REPLY_TO_PREFIX, ReplyQueues, reply_name};
use crate::services::Services;
use crate::store::{JournalPosition, Store};
use crate::time::{Clock, Timestamp};
use changes::Changes;
pub use declare::{ExchangeDeclaration, QueueDeclaration, refuse_ends};
use hidden::HiddenQueues;
pub use settings::VhostSettings;
pub use topology::Binding;
use topology::{Topology, Walk};

/// A virtual host.
pub struct Vhost {
    /// Its name.
    pub name: VhostName,
    queues: DashMap<QueueName, Arc<Queue>>,
    replies: ReplyQueues,
    /// Queues that no client reaches.
    hidden: Arc<HiddenQueues>,
    /// Written by declarations and bindings, read when a route is looked up; routes are cached by
    /// channels, so it is not touched per message.
    topology: RwLock<Topology>,
    /// Moves whenever a cached route may have become wrong.
    generation: AtomicU64,
    /// Held while a policy changes, before the topology.
    policy_changes: Mutex<()>,
    /// Held while a queue is declared where their number is limited, before the topology.
    limited_declarations: Mutex<()>,
    services: Services,
    /// Whether copies of messages are published, see [`Self::set_tracing`].
    tracing: AtomicBool,
    /// What administrators say of it. Held while the store is told, and alone otherwise.
    settings: RwLock<Arc<VhostSettings>>,
    /// It was deleted: nothing in it is kept any more. Set with the topology locked.
    ended: AtomicBool,
    /// For queues, to publish by.
    this: Weak<Self>,
    /// Where the last change of durable definitions is safe.
    defined_at: AtomicU64,
}

/// Where a message goes.
#[derive(Default)]
pub struct Route {
    /// Queues, each once.
    pub queues: Vec<Arc<Queue>>,
    /// Whether it went somewhere in the eyes of mandatory: a requester that is gone counts as reached.
    pub routed: bool,
    /// Whether the same exchange and key lead there until the topology moves.
    pub cacheable: bool,
    /// The exchange it came to, where that is true of all messages that it has not had before.
    pub unique: Option<Arc<Deduplication>>,
    /// When it is due, where hidden queues among the queues keep it until then.
    pub deliver_at: Option<Timestamp>,
    /// Ids that exchanges on the way are to remember once the queues have it.
    pub new_ids: Vec<NewId>,
    /// Where it is safe that an exchange on the way has had it before, and dropped it.
    pub known_at: Option<JournalPosition>,
    /// Counts what is published to the exchange it came to.
    pub counters: Option<Arc<ExchangeCounters>>,
}

impl Route {
    /// Takes the ids that exchanges are to remember; over a restart too if the message is found again then.
    pub fn take_new_ids(&mut self, persistent: bool) -> Vec<NewId> {
        let mut ids = std::mem::take(&mut self.new_ids);
        if !ids.is_empty() {
            let is_kept = persistent && self.queues.iter().any(|queue| queue.is_durable());
            ids.iter_mut().for_each(|id| id.set_kept(is_kept));
        }
        ids
    }
}

/// Who publishes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PublishedBy {
    /// A client, who is told what is refused.
    Client,
    /// The broker, which nobody could tell.
    Broker,
    /// The broker, and it has been at this exchange before: it was delayed there, or is redriven.
    Again,
}

impl Vhost {
    /// A new vhost, which the store is told of.
    pub(crate) fn create(name: VhostName, services: Services) -> Arc<Self> {
        let vhost = Self::new(name, services);
        vhost.note(vec![Definition::PutVhost(vhost.name.clone(), VhostSettings::default())]);
        vhost.services.events.vhost_created(&vhost.name);
        vhost
    }

    /// A vhost that the store knows.
    pub(crate) fn new(name: VhostName, services: Services) -> Arc<Self> {
        let has_events = services.events.are_published_in(&name);
        Arc::new_cyclic(|this| {
            let hidden = HiddenQueues::new(name.clone(), Weak::clone(this), services.clone());
            let gauge = Arc::clone(&services.gauge);
            let topology = Topology::with_standard_exchanges(has_events, Arc::clone(&hidden), gauge);
            Self {
                name,
                queues: DashMap::with_shard_amount(16),
                replies: ReplyQueues::default(),
                topology: RwLock::new(topology),
                hidden,
                generation: AtomicU64::new(0),
                policy_changes: Mutex::new(()),
                limited_declarations: Mutex::new(()),
                services,
                tracing: AtomicBool::new(false),
                settings: RwLock::default(),
                ended: AtomicBool::new(false),
                this: Weak::clone(this),
                defined_at: AtomicU64::new(JournalPosition::SAFE.0),
            }
        })
    }

    /// Tells the store, and ends the queues that are deleted by that. Called with the topology locked, or with the
    /// entry of the directory of a queue that is declared.
    pub(crate) fn define(&self, changes: Changes<'_>) -> JournalPosition {
        let (noted, removed) = changes.into_parts();
        let position = self.note(noted);
        for queue in removed {
            if queue.is_hidden() {
                self.hidden.remove(&queue);
            } else {
                self.queues.remove_if(&queue.spec.name, |_, found| found.id == queue.id);
            }
            queue.let_go_of_all();
        }
        position
    }

    /// Tells the store of changes that are no more than that.
    pub(crate) fn note(&self, changes: Vec<Definition>) -> JournalPosition {
        // What comes after its end must not bring it back.
        if changes.is_empty() || self.ended.load(Ordering::Acquire) {
            return JournalPosition::SAFE;
        }
        let position = self.services.store.define(changes);
        self.defined_at.fetch_max(position.0, Ordering::AcqRel);
        position
    }

    /// Deletes all that is in it, when nobody finds it any more; where that is safe, with what is `forgotten` besides.
    pub(crate) fn end(&self, forgotten: Vec<Definition>) -> JournalPosition {
        let _policies = self.policy_changes.lock();
        let mut topology = self.topology.write();
        let mut changes = Changes::of(&self.name, &self.services);
        let mut consumers = Vec::new();
        for queue in self.queues() {
            // Not refused: no condition was asked.
            if let Ok(deleted) = queue.delete(false, false) {
                consumers.extend(deleted.consumers);
                topology.remove_queue(&queue, &mut changes);
            }
        }
        let exchanges: Vec<_> = topology.exchanges().map(|exchange| exchange.spec.name.clone()).collect();
        exchanges.iter().for_each(|name| topology.remove_exchange(name, &mut changes));
        for queue in self.hidden.all() {
            self.hidden.delete(&queue, &mut changes);
        }
        changes.and(forgotten);
        for kind in [PolicyKind::Policy, PolicyKind::Operator] {
            let policies = topology.policies().of_kind(kind).iter();
            let delete = |name: &String| Definition::DeletePolicy(self.name.clone(), kind, name.clone());
            changes.and(policies.map(|active| delete(&active.policy.name)));
        }
        changes.and([Definition::DeleteVhost(self.name.clone())]);
        let position = self.define(changes);
        self.ended.store(true, Ordering::Release);
        self.topology_moved();
        drop(topology);
        consumers.iter().for_each(|sink| sink.cancel());
        position
    }

    /// Refuses what is to be declared in a vhost that was deleted. Called with the topology locked.
    pub(crate) fn check_exists(&self) -> Result<(), BrokerError> {
        if self.ended.load(Ordering::Acquire) {
            return Err(BrokerError::VhostNotFound { vhost: self.name.to_string() });
        }
        Ok(())
    }

    /// Where all durable definitions made so far are safe. Whoever is told that what it asked for is so
    /// already is promised as much as the one whose change made it so.
    #[must_use]
    pub fn defined_at(&self) -> JournalPosition {
        JournalPosition(self.defined_at.load(Ordering::Acquire))
    }

    /// What keeps messages and definitions.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.services.store
    }

    /// What time it is.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        &*self.services.clock
    }

    /// Moves when cached routes have to be looked up again.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn topology_moved(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Where a message published to `exchange` goes.
    ///
    /// # Errors
    /// The exchange is missing or internal, or the message is to wait for too long.
    pub fn route(&self, exchange: &str, message: &Addressing<'_>) -> Result<Route, BrokerError> {
        let mut topology = self.topology.read();
        if !exchange.is_empty() && topology.exchange(exchange, &self.name)?.spec.internal {
            return Err(BrokerError::InternalExchange {
                exchange: exchange.to_owned(),
                vhost: self.name.to_string(),
            });
        }
        self.walk(&mut topology, exchange, message, PublishedBy::Client)
    }

    /// Walks from `exchange` to the queues. The topology may be another one after it.
    ///
    /// # Errors
    /// The message is to wait for too long, where that is refused.
    fn walk(
        &self,
        topology: &mut RwLockReadGuard<'_, Topology>,
        exchange: &str,
        message: &Addressing<'_>,
        by: PublishedBy,
    ) -> Result<Route, BrokerError> {
        let mut walk = Walk::from(exchange, message);
        while !topology.walk_on(&mut walk, message, self, by)? {
            RwLockReadGuard::bump(topology);
        }
        Ok(topology.ended(walk, exchange))
    }

    /// What waits in each delayed exchange, in no order.
    #[must_use]
    pub fn delayed(&self) -> Vec<DelayedSnapshot> {
        let topology = self.topology.read();
        let delayed = topology.exchanges().filter_map(|exchange| exchange.delayed.clone());
        let delayed: Vec<_> = delayed.collect();
        drop(topology);
        delayed.iter().map(|delayed| delayed.snapshot()).collect()
    }

    /// What each exchange that drops duplicates has seen, in no order.
    #[must_use]
    pub fn deduplication(&self) -> Vec<DeduplicationSnapshot> {
        let topology = self.topology.read();
        let known = topology.exchanges().filter_map(|exchange| exchange.deduplication.as_ref());
        known.map(|deduplication| deduplication.snapshot()).collect()
    }

    /// Drops what waits in a delayed exchange; how many messages there were. None if it is of another type.
    ///
    /// # Errors
    /// The exchange is missing.
    pub fn purge_delayed(&self, exchange: &str) -> Result<usize, BrokerError> {
        let delayed = self.topology.read().exchange(exchange, &self.name)?.delayed.clone();
        Ok(delayed.map_or(0, |delayed| delayed.purge()))
    }

    /// Whether the firehose is on.
    #[must_use]
    pub fn is_tracing(&self) -> bool {
        self.tracing.load(Ordering::Relaxed)
    }

    /// Turns the firehose on or off: copies of what is published and delivered in this vhost, which channels
    /// publish to amq.rabbitmq.trace. It begins with the next run of frames of each channel.
    pub fn set_tracing(&self, on: bool) {
        self.tracing.store(on, Ordering::Relaxed);
    }

    /// The default exchange: each queue is bound to it with its name.
    pub(crate) fn default_route(&self, key: &str) -> Option<Arc<Queue>> {
        if key.starts_with(REPLY_TO_PREFIX) {
            return self.replies.find(key);
        }
        self.queues.get(key).map(|queue| Arc::clone(&queue))
    }

    /// The queue `name`, for use by `connection`.
    ///
    /// # Errors
    /// It is missing, or exclusive to another connection.
    pub fn queue(&self, name: &str, connection: ConnectionId) -> Result<Arc<Queue>, BrokerError> {
        let found = self.queues.get(name).map(|queue| Arc::clone(&queue));
        let queue = found.ok_or_else(|| BrokerError::QueueNotFound {
            queue: name.to_owned(),
            vhost: self.name.to_string(),
        })?;
        self.check_owner(&queue, connection)?;
        Ok(queue)
    }

    fn check_owner(&self, queue: &Queue, connection: ConnectionId) -> Result<(), BrokerError> {
        if queue.spec.owner.is_none_or(|owner| owner == connection) {
            return Ok(());
        }
        Err(BrokerError::QueueLocked { queue: queue.spec.name.to_string(), vhost: self.name.to_string() })
    }

    /// Deletes a queue with its bindings; how many ready messages were lost, and where that is safe. A missing
    /// queue is no error.
    ///
    /// # Errors
    /// It is exclusive to another connection, or in use, or not empty, where that was asked.
    pub fn delete_queue(
        &self,
        name: &str,
        connection: ConnectionId,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<(usize, JournalPosition), BrokerError> {
        match self.queue(name, connection) {
            Ok(queue) => {
                queue.check_conditions(if_unused, if_empty)?;
                self.remove_queue(&queue, if_unused, if_empty)
            }
            Err(BrokerError::QueueNotFound { .. }) => Ok((0, self.defined_at())),
            Err(error) => Err(error),
        }
    }

    fn remove_queue(
        &self,
        queue: &Arc<Queue>,
        if_unused: bool,
        if_empty: bool,
    ) -> Result<(usize, JournalPosition), BrokerError> {
        let mut topology = self.topology.write();
        let deleted = queue.delete(if_unused, if_empty)?;
        let position = self.remove_deleted(&mut topology, queue);
        drop(topology);
        deleted.consumers.iter().for_each(|sink| sink.cancel());
        Ok((deleted.ready, position))
    }

    /// Deletes a queue whose time without use is over. COMPAT: what is in it is lost, not dead-lettered.
    pub(crate) fn delete_unused_queue(&self, queue: &Arc<Queue>, now: Timestamp) {
        let mut topology = self.topology.write();
        if let Some(deleted) = queue.delete_if_unused(now) {
            self.remove_deleted(&mut topology, queue);
            drop(topology);
            deleted.consumers.iter().for_each(|sink| sink.cancel());
        }
    }

    /// Takes a queue that was deleted out of the topology and the directory, with its bindings; where that is safe.
    fn remove_deleted(&self, topology: &mut Topology, queue: &Arc<Queue>) -> JournalPosition {
        let is_there = self.queues.get(&queue.spec.name).is_some_and(|found| found.id == queue.id);
        if !is_there {
            // Somebody else was faster, and its name may be another queue's by now.
            return self.defined_at();
        }
        let mut changes = Changes::of(&self.name, &self.services);
        topology.remove_queue(queue, &mut changes);
        self.topology_moved();
        self.define(changes)
    }

    /// Removes a consumer, and the queue with it if it was the last one of an auto-delete queue.
    pub fn cancel_consumer(&self, queue: &Arc<Queue>, consumer: ConsumerId) {
        self.cancel_consumer_returning(queue, consumer, Vec::new);
    }

    /// The same, giving deliveries back as [`Queue::cancel_returning`] does.
    pub fn cancel_consumer_returning(
        &self,
        queue: &Arc<Queue>,
        consumer: ConsumerId,
        take_back: impl FnOnce() -> Vec<MessageRef>,
    ) {
        let was_last = queue.cancel_returning(consumer, take_back);
        if was_last && queue.spec.auto_delete {
            // Refused if a consumer came in between: then it is in use again.
            let _ = self.remove_queue(queue, true, false);
        }
    }

    /// Deletes the exclusive queues of a connection that ends.
    pub fn delete_exclusive_queues(&self, names: &[QueueName], connection: ConnectionId) {
        for name in names {
            if let Ok(queue) = self.queue(name.as_str(), connection)
                && queue.spec.owner == Some(connection)
            {
                // Not refused: no condition was asked.
                let _ = self.remove_queue(&queue, false, false);
            }
        }
    }

    /// Opens a queue for direct replies that goes by [`Self::close_reply_queue`].
    #[must_use]
    pub fn open_reply_queue(&self, connection: ConnectionId) -> Arc<Queue> {
        let spec = QueueSpec {
            vhost: self.name.clone(),
            name: reply_name(),
            durable: false,
            owner: Some(connection),
            auto_delete: false,
            arguments: QueueArguments::default(),
        };
        let queue = Queue::new(spec, &self.services, Weak::clone(&self.this));
        self.replies.add(Arc::clone(&queue));
        queue
    }

    /// Ends a queue for direct replies. Replies on their way to it are dropped.
    pub fn close_reply_queue(&self, name: &str) {
        if let Some(queue) = self.replies.remove(name) {
            // Not refused: no condition was asked.
            let _ = queue.delete(false, false);
            queue.let_go_of_all();
        }
    }

    /// Whether a requester waits for replies under `name`.
    #[must_use]
    pub fn has_reply_queue(&self, name: &str) -> bool {
        self.replies.find(name).is_some()
    }

    /// All queues, those of the broker's own as well, in no order.
    #[must_use]
    pub(crate) fn all_queues(&self) -> Vec<Arc<Queue>> {
        let mut queues = self.queues();
        queues.extend(self.hidden.all());
        queues
    }

    /// Whether there is a queue of that name, whoever may use it.
    #[must_use]
    pub fn find_queue(&self, name: &str) -> Option<Arc<Queue>> {
        self.queues.get(name).map(|queue| Arc::clone(&queue))
    }

    /// Looks at all queues that clients reach, in no order and without a copy of the directory, of which a part is
    /// locked meanwhile: `look` may lock the queue and nothing else of the vhost.
    pub fn for_each_queue(&self, mut look: impl FnMut(&Arc<Queue>)) {
        self.queues.iter().for_each(|queue| look(&queue));
    }

    /// All queues that clients reach, by name.
    #[must_use]
    pub fn queues_by_name(&self) -> Vec<Arc<Queue>> {
        let mut queues = self.queues();
        queues.sort_unstable_by(|one, other| one.spec.name.cmp(&other.spec.name));
        queues
    }

    /// All queues that clients reach, in no order.
    #[must_use]
    pub fn queues(&self) -> Vec<Arc<Queue>> {
        self.queues.iter().map(|queue| Arc::clone(&queue)).collect()
    }
}

#[cfg(test)]
mod tests;
