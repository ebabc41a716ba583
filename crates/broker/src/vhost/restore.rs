//! Making a vhost anew from the definitions that the store kept: what comes back was checked when it was
//! declared, and the store is not told of it again.

use std::sync::{Arc, Weak};

use super::Vhost;
use super::changes::Changes;
use super::topology::Topology;
use crate::deduplication::Deduplication;
use crate::definition::BindingSpec;
use crate::delayed::Bucket;
use crate::error::BrokerError;
use crate::exchange::destination::Destination;
use crate::exchange::{BindingTarget, ExchangeSpec};
use crate::names::QueueId;
use crate::queue::recovered::RecoveredMessages;
use crate::queue::{Queue, QueueSpec};

impl Vhost {
    /// Brings an exchange back, without its bindings. One that is there already stays as it is.
    ///
    /// # Errors
    /// An argument is not possible for the type: the store kept it wrongly.
    pub fn restore_exchange(&self, spec: ExchangeSpec) -> Result<(), BrokerError> {
        let mut topology = self.topology.write();
        if topology.find(spec.name.as_str()).is_none() {
            topology.add_exchange(spec, &mut Changes::of(&self.name, &self.services))?;
            self.topology_moved();
        }
        Ok(())
    }

    /// Brings a queue back, with what is in it, without its bindings.
    pub fn restore_queue(&self, id: QueueId, spec: QueueSpec, recovered: Vec<(u8, RecoveredMessages)>) {
        let queue = Queue::restored(id, spec, &self.services, Weak::clone(&self.this), recovered);
        let topology = self.topology.read();
        if queue.is_hidden() {
            return self.restore_hidden(&topology, queue);
        }
        queue.take_over(topology.policies());
        self.queues.insert(queue.spec.name.clone(), queue);
        self.topology_moved();
    }

    /// Gives a hidden queue back to what it belongs to. One that belongs to nothing stays where it is, unreached.
    fn restore_hidden(&self, topology: &Topology, queue: Arc<Queue>) {
        if let Some((bucket, exchange)) = Bucket::named(queue.spec.name.as_str())
            && let Some(delayed) = topology.find(exchange).and_then(|exchange| exchange.delayed.as_ref())
        {
            delayed.restore(bucket, Arc::clone(&queue));
        }
        if let Some(exchange) = Deduplication::exchange_of(queue.spec.name.as_str())
            && let Some(known) = topology.find(exchange).and_then(|exchange| exchange.deduplication.as_ref())
        {
            known.restore(Arc::clone(&queue));
        }
        self.hidden.add(queue);
    }

    /// Has exchanges know again what was published to them, and queues what is in them. Waits for the disk.
    pub(crate) fn begin(&self) {
        self.all_queues().iter().for_each(|queue| queue.begin_unique());
        let topology = self.topology.read();
        let known = topology.exchanges().filter_map(|exchange| exchange.deduplication.clone());
        let known: Vec<_> = known.collect();
        drop(topology);
        known.iter().for_each(|deduplication| deduplication.begin());
        let durable = self.all_queues().into_iter().filter(|queue| queue.is_durable() && !known.is_empty());
        durable.for_each(|queue| know_newest(&queue, &known));
    }

    /// Brings a binding back whose ends were brought back before. One that is there already stays.
    ///
    /// # Errors
    /// An end is missing, or the arguments are not possible for the source's type: the store gave up something
    /// or kept it wrongly.
    pub fn restore_binding(&self, binding: &BindingSpec) -> Result<(), BrokerError> {
        let mut topology = self.topology.write();
        let source = binding.source.as_str();
        topology.exchange(source, &self.name)?;
        let destination = match &binding.target {
            BindingTarget::Queue(name) => {
                let found = self.queues.get(name).map(|queue| Arc::clone(&queue));
                Destination::Queue(found.ok_or_else(|| BrokerError::QueueNotFound {
                    queue: name.to_string(),
                    vhost: self.name.to_string(),
                })?)
            }
            BindingTarget::Exchange(name) => {
                Destination::Exchange(topology.exchange(name.as_str(), &self.name)?.spec.name.clone())
            }
        };
        let mut changes = Changes::of(&self.name, &self.services);
        topology.bind(source, destination, &binding.routing_key, &binding.arguments, &mut changes)?;
        self.topology_moved();
        Ok(())
    }
}

/// Has exchanges know the newest message that each of them has brought into a queue. It is in memory: what is only in
/// the journal is.
fn know_newest(queue: &Queue, known: &[Arc<Deduplication>]) {
    let mut newest: Vec<Option<Vec<u8>>> = vec![None; known.len()];
    queue.visit_loaded(&mut |_, _, message| {
        let is_it = |one: &Arc<Deduplication>| one.exchange().as_str().as_bytes() == message.exchange();
        if let Some(place) = known.iter().position(is_it).and_then(|index| newest.get_mut(index)) {
            let properties = place.get_or_insert_default();
            properties.clear();
            properties.extend_from_slice(message.properties);
        }
    });
    for (deduplication, properties) in known.iter().zip(newest) {
        properties.into_iter().for_each(|properties| deduplication.know_newest(&properties));
    }
}
