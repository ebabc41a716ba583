//! Queues of the broker's own: they keep what waits or must be remembered, as safely as any queue, in a directory that
//! no declare, bind, delete or list reaches. Their names say what they are for, so that a restart knows.

use std::sync::{Arc, Weak};

use dashmap::DashMap;
use leveret_codec::table::FieldTable;

use super::Vhost;
use super::changes::Changes;
use crate::names::{QueueName, VhostName};
use crate::queue::arguments::QueueArguments;
use crate::queue::{Queue, QueueSpec};
use crate::services::Services;

/// What the names of hidden queues begin with. COMPAT: clients cannot declare names that begin with `amq.`.
pub(crate) const HIDDEN_PREFIX: &str = "amq.leveret.";

/// The hidden queues of a vhost.
pub(crate) struct HiddenQueues {
    name: VhostName,
    vhost: Weak<Vhost>,
    services: Services,
    queues: DashMap<QueueName, Arc<Queue>>,
}

impl HiddenQueues {
    pub(crate) fn new(name: VhostName, vhost: Weak<Vhost>, services: Services) -> Arc<Self> {
        Arc::new(Self { name, vhost, services, queues: DashMap::with_shard_amount(2) })
    }

    /// Their vhost; `None` once it ends.
    pub(crate) fn vhost(&self) -> Option<Arc<Vhost>> {
        self.vhost.upgrade()
    }

    pub(crate) fn vhost_name(&self) -> &VhostName {
        &self.name
    }

    pub(crate) fn services(&self) -> &Services {
        &self.services
    }

    /// A new queue, which the store is told of. Called with the topology locked, or with what alone gives the queue
    /// out.
    pub(crate) fn create(&self, name: QueueName, durable: bool) -> Arc<Queue> {
        self.create_with(name, durable, FieldTable::new())
    }

    /// The same with arguments, which must be possible.
    pub(crate) fn create_with(&self, name: QueueName, durable: bool, arguments: FieldTable) -> Arc<Queue> {
        let arguments = QueueArguments::parse(arguments, name.as_str(), self.name.as_str());
        // INVARIANT: they are the broker's own.
        debug_assert!(arguments.is_ok());
        let spec = QueueSpec {
            vhost: self.name.clone(),
            name,
            durable,
            owner: None,
            auto_delete: false,
            arguments: arguments.unwrap_or_default(),
        };
        let queue = Queue::new(spec, &self.services, Weak::clone(&self.vhost));
        let mut changes = self.changes();
        changes.queue_added(queue.id, &queue.spec);
        self.define(changes);
        self.add(Arc::clone(&queue));
        queue
    }

    /// Adds a queue that the store knows.
    pub(crate) fn add(&self, queue: Arc<Queue>) {
        self.queues.insert(queue.spec.name.clone(), queue);
    }

    /// Deletes a queue and notes that. Called with the topology locked, or with what alone gives the queue out.
    pub(crate) fn delete(&self, queue: &Arc<Queue>, changes: &mut Changes<'_>) {
        // Not refused: no condition was asked. Whoever consumes from it is who deletes it.
        let _ = queue.delete(false, false);
        changes.queue_removed(queue);
    }

    /// Forgets a queue that was deleted.
    pub(super) fn remove(&self, queue: &Arc<Queue>) {
        self.queues.remove_if(&queue.spec.name, |_, found| found.id == queue.id);
    }

    /// Changes to be noted in.
    pub(crate) fn changes(&self) -> Changes<'_> {
        Changes::of(&self.name, &self.services)
    }

    /// Tells the store.
    pub(crate) fn define(&self, changes: Changes<'_>) {
        if let Some(vhost) = self.vhost() {
            vhost.define(changes);
        }
    }

    /// All of them, in no order.
    pub(crate) fn all(&self) -> Vec<Arc<Queue>> {
        self.queues.iter().map(|queue| Arc::clone(&queue)).collect()
    }
}
