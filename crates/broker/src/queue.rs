//! A queue: messages in order, consumers in turn, and what was handed out. A plain state machine behind
//! a mutex that nobody holds across an await; publish, get, settle, purge go in, deliveries come out
//! through the consumers' sinks.

pub mod arguments;
pub(crate) mod consumers;
pub mod messages;

use std::sync::Arc;

use parking_lot::Mutex;

use crate::delivery::{Delivery, DeliverySink, DeliverySource, Settled};
use crate::error::BrokerError;
use crate::journal::{Journal, JournalPosition};
use crate::message::{MessageBatch, MessageRef};
use crate::names::{ConnectionId, ConsumerId, QueueId, QueueName, VhostName};
use arguments::QueueArguments;
pub use consumers::ConsumerSpec;
use consumers::Consumers;
use messages::{MemoryGauge, Messages};

/// What a queue is declared with.
#[derive(Clone, Debug)]
pub struct QueueSpec {
    /// Vhost it lives in.
    pub vhost: VhostName,
    /// Name, never empty.
    pub name: QueueName,
    /// Survives a restart of the broker.
    pub durable: bool,
    /// The connection it belongs to, if it is exclusive.
    pub owner: Option<ConnectionId>,
    /// Goes when its last consumer goes.
    pub auto_delete: bool,
    /// Checked arguments.
    pub arguments: QueueArguments,
}

/// How a channel settles deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Acknowledged, or rejected without requeue: the message is gone.
    Settled,
    /// Back to its place in the queue, marked redelivered.
    Requeued,
}

/// Numbers of a queue at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSnapshot {
    /// Messages that can be delivered.
    pub ready: usize,
    /// Messages delivered and not settled.
    pub unacked: usize,
    /// Consumers.
    pub consumers: usize,
    /// Octets of memory held for messages.
    pub memory_bytes: usize,
}

/// A queue that was deleted: what went with it.
pub struct DeletedQueue {
    /// Ready messages that were lost.
    pub ready: usize,
    /// Consumers to be told, once no lock is held.
    pub consumers: Vec<Arc<dyn DeliverySink>>,
}

/// A queue of a vhost.
pub struct Queue {
    /// Identity of this queue's life.
    pub id: QueueId,
    /// What it was declared with.
    pub spec: QueueSpec,
    journal: Arc<dyn Journal>,
    /// Not async: every operation is short and never waits. Locked before a channel's or an outbound
    /// buffer's lock, never after.
    state: Mutex<State>,
}

struct State {
    messages: Messages,
    consumers: Consumers,
    unacked: usize,
    deleted: bool,
}

impl Queue {
    /// A new, empty queue.
    #[must_use]
    pub fn new(spec: QueueSpec, journal: Arc<dyn Journal>, gauge: Arc<MemoryGauge>) -> Self {
        let state = State {
            messages: Messages::new(gauge),
            consumers: Consumers::default(),
            unacked: 0,
            deleted: false,
        };
        Self { id: QueueId::next(), spec, journal, state: Mutex::new(state) }
    }

    /// Appends all messages of `batch`, which is empty afterwards, and delivers what consumers can take.
    /// Returns from when on the persistent ones are safe. A deleted queue takes nothing and needs no
    /// waiting: a confirm for it is positive, as RabbitMQ's is.
    pub fn publish(&self, batch: &mut MessageBatch) -> JournalPosition {
        let mut state = self.state.lock();
        if state.deleted {
            batch.clear();
            return JournalPosition::SAFE;
        }
        let position = if self.spec.durable && batch.persistent() > 0 {
            self.journal.publish(self.id, state.messages.next_position(), batch)
        } else {
            JournalPosition::SAFE
        };
        state.messages.append(batch);
        self.dispatch(&mut state);
        position
    }

    /// Takes one message for basic.get; `hand_out` gets it and the number of messages left.
    /// Returns `None` if there is none.
    ///
    /// # Errors
    /// The queue was deleted.
    pub fn get<R>(
        &self,
        no_ack: bool,
        hand_out: impl FnOnce(Delivery<'_>, usize) -> R,
    ) -> Result<Option<R>, BrokerError> {
        let mut state = self.state.lock();
        if state.deleted {
            return Err(self.not_found());
        }
        let left = state.messages.ready().saturating_sub(1);
        let mut source = DeliverySource::new(&mut state.messages, self.settled(no_ack), 1);
        let result = source.next_delivery().map(|delivery| hand_out(delivery, left));
        let taken = source.finish();
        if !no_ack {
            state.unacked += taken;
        }
        Ok(result)
    }

    /// Settles deliveries that `consumer` (or basic.get, if none) had, and delivers what that frees.
    pub fn settle(&self, consumer: Option<ConsumerId>, how: Settlement, messages: &[MessageRef]) {
        let mut state = self.state.lock();
        if state.deleted {
            return;
        }
        state.unacked = state.unacked.saturating_sub(messages.len());
        for &message in messages {
            match how {
                Settlement::Settled => {
                    if self.spec.durable && message.is_persistent() {
                        self.journal.settle(self.id, message.position);
                    }
                    state.messages.settle(message);
                }
                Settlement::Requeued => state.messages.put_back(message),
            }
        }
        if let Some(consumer) = consumer {
            state.consumers.give_credit(consumer, messages.len());
        }
        self.dispatch(&mut state);
    }

    /// Adds a consumer. It gets nothing until [`Self::resume`], so that its consume-ok goes out first.
    ///
    /// # Errors
    /// The queue was deleted, or is in exclusive use, or is to be but has consumers.
    pub fn consume(&self, spec: ConsumerSpec) -> Result<(), BrokerError> {
        let mut state = self.state.lock();
        if state.deleted {
            return Err(self.not_found());
        }
        if state.consumers.has_exclusive() || (spec.exclusive && !state.consumers.is_empty()) {
            return Err(BrokerError::QueueInExclusiveUse {
                queue: self.spec.name.to_string(),
                vhost: self.spec.vhost.to_string(),
            });
        }
        state.consumers.add(spec);
        Ok(())
    }

    /// The consumer can take messages (again).
    pub fn resume(&self, consumer: ConsumerId) {
        let mut state = self.state.lock();
        state.consumers.resume(consumer);
        self.dispatch(&mut state);
    }

    /// Removes a consumer; what it has unacked stays so. `true` if it was the last one.
    pub fn cancel(&self, consumer: ConsumerId) -> bool {
        let mut state = self.state.lock();
        state.consumers.remove(consumer) && state.consumers.is_empty()
    }

    /// Drops all ready messages; how many there were.
    ///
    /// # Errors
    /// The queue was deleted.
    pub fn purge(&self) -> Result<usize, BrokerError> {
        let mut state = self.state.lock();
        if state.deleted {
            return Err(self.not_found());
        }
        let ready = state.messages.ready();
        let mut source = DeliverySource::new(&mut state.messages, self.settled(true), ready);
        while source.next_delivery().is_some() {}
        Ok(source.finish())
    }

    /// Marks the queue deleted and lets go of everything in it.
    ///
    /// # Errors
    /// It has consumers and `if_unused` is set, or ready messages and `if_empty` is set.
    pub(crate) fn delete(&self, if_unused: bool, if_empty: bool) -> Result<DeletedQueue, BrokerError> {
        let mut state = self.state.lock();
        let names = || (self.spec.name.to_string(), self.spec.vhost.to_string());
        // COMPAT: where both conditions fail, the messages are what is named.
        if if_empty && state.messages.ready() > 0 {
            let (queue, vhost) = names();
            return Err(BrokerError::QueueNotEmpty { queue, vhost });
        }
        if if_unused && !state.consumers.is_empty() {
            let (queue, vhost) = names();
            return Err(BrokerError::QueueInUse { queue, vhost });
        }
        state.deleted = true;
        let ready = state.messages.ready();
        state.messages.forget();
        state.unacked = 0;
        Ok(DeletedQueue { ready, consumers: state.consumers.drain() })
    }

    /// Its numbers now.
    pub fn snapshot(&self) -> QueueSnapshot {
        let state = self.state.lock();
        QueueSnapshot {
            ready: state.messages.ready(),
            unacked: state.unacked,
            consumers: state.consumers.len(),
            memory_bytes: state.messages.memory_bytes(),
        }
    }

    fn not_found(&self) -> BrokerError {
        BrokerError::QueueNotFound { queue: self.spec.name.to_string(), vhost: self.spec.vhost.to_string() }
    }

    fn settled(&self, no_ack: bool) -> Settled<'_> {
        match (no_ack, self.spec.durable) {
            (false, _) => Settled::Later,
            (true, false) => Settled::AtOnce,
            (true, true) => Settled::AtOnceLogged(&*self.journal, self.id),
        }
    }

    /// Hands ready messages to consumers while there are both.
    fn dispatch(&self, state: &mut State) {
        loop {
            let ready = state.messages.ready();
            if ready == 0 {
                return;
            }
            let Some((consumer, limit)) = state.consumers.next_turn(ready) else { return };
            let (id, no_ack) = (consumer.spec.id, consumer.spec.no_ack);
            let mut source = DeliverySource::new(&mut state.messages, self.settled(no_ack), limit);
            let sink_state = consumer.spec.sink.deliver(&mut source);
            let taken = source.finish();
            if !no_ack {
                state.unacked += taken;
            }
            // A sink that takes nothing and does not say why would be asked for ever.
            let sink_state = if taken == 0 { crate::SinkState::Parked } else { sink_state };
            state.consumers.end_turn(id, taken, sink_state);
        }
    }
}

#[cfg(test)]
mod tests;
