//! A queue: messages in order, consumers in turn, and what was handed out. A plain state machine behind
//! a mutex that nobody holds across an await; publish, get, settle, purge go in, deliveries come out
//! through the consumers' sinks.

pub mod arguments;
mod chunk;
pub(crate) mod consumers;
pub mod memory;
pub(crate) mod messages;
mod paging;
mod queue_type;
pub mod recovered;
pub mod settings;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::delivery::{Delivery, DeliverySink, DeliverySource, SettledRanges};
use crate::error::BrokerError;
use crate::message::{MessageBatch, MessageRef};
use crate::names::{ConnectionId, ConsumerId, QueueId, QueueName, VhostName};
use crate::store::{JournalPosition, Store};
use arguments::QueueArguments;
pub use consumers::ConsumerSpec;
use consumers::Consumers;
use memory::MemoryGauge;
use messages::Messages;
pub use queue_type::QueueType;
use recovered::RecoveredMessages;
use settings::{QueueSettings, RequestedSettings};

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

/// What basic.get finds.
#[derive(Debug, PartialEq, Eq)]
pub enum Got<R> {
    /// A message.
    Message(R),
    /// There is none.
    Empty,
    /// There is one, but it is on disk: [`Queue::when_loaded`] says when to ask again.
    Absent,
}

/// A queue of a vhost.
pub struct Queue {
    /// Identity of this queue's life.
    pub id: QueueId,
    /// What it was declared with.
    pub spec: QueueSpec,
    store: Arc<dyn Store>,
    /// For what is to call back.
    this: Weak<Self>,
    /// Says without the lock whether `stopped` is set.
    is_stopped: AtomicBool,
    /// Not async: every operation is short and never waits. Locked before a channel's or an outbound
    /// buffer's lock, never after.
    state: Mutex<State>,
}

struct State {
    messages: Messages,
    consumers: Consumers,
    settings: QueueSettings,
    unacked: usize,
    deleted: bool,
    /// Why the queue takes and gives nothing any more, if it does not.
    stopped: Option<String>,
    /// Messages below this position are known to have been handed out, should the process end now.
    delivering_below: u64,
    /// The store was asked to bring messages back.
    is_loading: bool,
    /// Who waits for that.
    load_waiters: Vec<Box<dyn FnOnce() + Send>>,
}

/// Deliveries that one note of [`Store::delivering`] covers at most: the price of a note is a system call, and
/// after a crash that many messages at most are marked redelivered that were not handed out.
const DELIVERIES_NOTED: usize = 256;

impl Queue {
    /// A new, empty queue.
    #[must_use]
    pub fn new(spec: QueueSpec, store: Arc<dyn Store>, gauge: Arc<MemoryGauge>) -> Arc<Self> {
        let id = QueueId::next();
        let messages = Messages::new(id, spec.durable, Arc::clone(&store), gauge);
        Self::with_messages(id, spec, store, messages)
    }

    /// A durable queue as a restart found it.
    #[must_use]
    pub fn restored(
        id: QueueId,
        spec: QueueSpec,
        store: Arc<dyn Store>,
        gauge: Arc<MemoryGauge>,
        recovered: RecoveredMessages,
    ) -> Arc<Self> {
        let delivering_below = recovered.delivered_below;
        let damage = recovered.damage.clone().or_else(|| recovered.missing_blocks.clone());
        let (messages, missing) = Messages::restored(id, Arc::clone(&store), gauge, recovered);
        let missing =
            missing.map(|position| format!("its message at {position} is not in the journal any more"));
        let queue = Self::with_messages(id, spec, store, messages);
        queue.state.lock().delivering_below = delivering_below;
        if let Some(damage) = damage.or(missing) {
            queue.stop(damage);
        }
        queue
    }

    fn with_messages(id: QueueId, spec: QueueSpec, store: Arc<dyn Store>, messages: Messages) -> Arc<Self> {
        let settings = spec.arguments.settings(&RequestedSettings::NONE);
        let state = State {
            messages,
            consumers: Consumers::default(),
            settings,
            unacked: 0,
            deleted: false,
            stopped: None,
            delivering_below: 0,
            is_loading: false,
            load_waiters: Vec::new(),
        };
        let is_stopped = AtomicBool::new(false);
        let state = Mutex::new(state);
        Arc::new_cyclic(|this| Self { id, spec, store, this: Weak::clone(this), is_stopped, state })
    }

    /// Whether a restart finds it again, with its persistent messages.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.spec.durable && self.spec.owner.is_none()
    }

    /// Whether it met damage and takes nothing any more.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Appends all messages of `batch`, which is empty afterwards, and delivers what consumers can take.
    /// Returns from when on the persistent ones are safe. A deleted queue takes nothing and needs no
    /// waiting: a confirm for it is positive, as RabbitMQ's is. A stopped one takes nothing and never is safe.
    pub fn publish(&self, batch: &mut MessageBatch) -> JournalPosition {
        let mut state = self.state.lock();
        if state.deleted || state.stopped.is_some() {
            batch.clear();
            return if state.deleted { JournalPosition::SAFE } else { JournalPosition::NEVER };
        }
        let journaled = (self.spec.durable && batch.persistent() > 0)
            .then(|| self.store.publish(self.id, state.messages.next_position(), batch));
        state.messages.append(batch, journaled);
        self.dispatch(&mut state);
        journaled.map_or(JournalPosition::SAFE, |journaled| journaled.safe_at)
    }

    /// Takes one message for basic.get; `hand_out` gets it and the number of messages left.
    ///
    /// # Errors
    /// The queue was deleted or is stopped.
    pub fn get<R>(
        &self,
        no_ack: bool,
        hand_out: impl FnOnce(Delivery<'_>, usize) -> R,
    ) -> Result<Got<R>, BrokerError> {
        let mut state = self.state.lock();
        self.check_usable(&state)?;
        if state.messages.is_next_absent() {
            return Ok(Got::Absent);
        }
        self.note_delivering(&mut state, 1, 1);
        let left = state.messages.ready().saturating_sub(1);
        let mut source = DeliverySource::new(&mut state.messages, no_ack, 1);
        let result = source.next_delivery().map(|delivery| hand_out(delivery, left));
        let (taken, settled) = source.finish();
        self.log_settled(&settled);
        if !no_ack {
            state.unacked += taken;
        }
        Ok(result.map_or(Got::Empty, Got::Message))
    }

    /// Settles deliveries that `consumer` (or basic.get, if none) had, and delivers what that frees. Returns where
    /// that is safe.
    pub fn settle(
        &self,
        consumer: Option<ConsumerId>,
        how: Settlement,
        messages: &[MessageRef],
    ) -> JournalPosition {
        let mut state = self.state.lock();
        if state.deleted {
            return JournalPosition::SAFE;
        }
        let mut safe_at = JournalPosition::SAFE;
        state.unacked = state.unacked.saturating_sub(messages.len());
        match how {
            Settlement::Settled => {
                if self.spec.durable {
                    let mut settled = SettledRanges::default();
                    messages.iter().for_each(|&message| settled.add(message));
                    safe_at = self.log_settled(&settled);
                }
                messages.iter().for_each(|&message| state.messages.settle(message));
            }
            Settlement::Requeued => messages.iter().for_each(|&message| state.messages.put_back(message)),
        }
        if let Some(consumer) = consumer {
            state.consumers.give_credit(consumer, messages.len());
        }
        self.dispatch(&mut state);
        safe_at
    }

    fn log_settled(&self, settled: &SettledRanges) -> JournalPosition {
        match settled.persistent() {
            Some(ranges) if self.spec.durable => self.store.settle(self.id, ranges),
            _ => JournalPosition::SAFE,
        }
    }

    /// How many of `count` messages may be handed out now, seen to it that a crash finds them noted. The note covers
    /// `ahead` messages if it can, so that there is not one for each turn.
    fn note_delivering(&self, state: &mut State, count: usize, ahead: usize) -> usize {
        if !self.spec.durable {
            return count;
        }
        let count = count.min(DELIVERIES_NOTED);
        let (count, needed) = state.messages.reach(count.min(state.messages.ready()));
        if needed > state.delivering_below {
            let (_, ahead) = state.messages.reach(ahead.min(DELIVERIES_NOTED));
            state.delivering_below = needed.max(ahead);
            self.store.delivering(self.id, state.delivering_below);
        }
        count
    }

    /// Adds a consumer. It gets nothing until [`Self::resume`], so that its consume-ok goes out first.
    ///
    /// # Errors
    /// The queue was deleted, or is in exclusive use, or is to be but has consumers.
    pub fn consume(&self, spec: ConsumerSpec) -> Result<(), BrokerError> {
        let mut state = self.state.lock();
        self.check_usable(&state)?;
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

    /// Drops all ready messages; how many there were, and where that is safe.
    ///
    /// # Errors
    /// The queue was deleted, or is stopped.
    pub fn purge(&self) -> Result<(usize, JournalPosition), BrokerError> {
        let mut state = self.state.lock();
        self.check_usable(&state)?;
        let (purged, positions) = state.messages.purge();
        let is_told = self.spec.durable && purged > 0;
        let safe_at = if is_told { self.store.settle(self.id, &positions) } else { JournalPosition::SAFE };
        Ok((purged, safe_at))
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
        state.load_waiters.drain(..).for_each(|waiter| waiter());
        let ready = state.messages.ready();
        state.messages.forget();
        if self.is_durable() {
            self.store.forget_queue(self.id);
        }
        state.unacked = 0;
        Ok(DeletedQueue { ready, consumers: state.consumers.drain() })
    }

    /// Puts other settings in force.
    pub fn apply(&self, settings: QueueSettings) {
        self.state.lock().settings = settings;
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> QueueSettings {
        self.state.lock().settings.clone()
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

    /// Octets of memory held for its messages.
    pub fn memory_bytes(&self) -> usize {
        self.state.lock().messages.memory_bytes()
    }

    fn check_usable(&self, state: &State) -> Result<(), BrokerError> {
        let (queue, vhost) = (self.spec.name.to_string(), self.spec.vhost.to_string());
        match &state.stopped {
            _ if state.deleted => Err(BrokerError::QueueNotFound { queue, vhost }),
            Some(reason) => Err(BrokerError::QueueStopped { queue, vhost, reason: reason.clone() }),
            None => Ok(()),
        }
    }

    /// Hands ready messages to consumers while there are both.
    fn dispatch(&self, state: &mut State) {
        loop {
            let ready = state.messages.ready();
            if ready == 0 || state.stopped.is_some() {
                return;
            }
            if state.messages.has_absent() && state.consumers.has_ready() {
                self.load_if_short(state);
                if state.messages.is_next_absent() {
                    return;
                }
            }
            let Some((consumer, limit)) = state.consumers.next_turn(ready) else { return };
            let (id, no_ack, credit) = (consumer.spec.id, consumer.spec.no_ack, consumer.credit());
            let sink = Arc::clone(&consumer.spec.sink);
            let limit = self.note_delivering(state, limit, credit);
            let mut source = DeliverySource::new(&mut state.messages, no_ack, limit);
            let sink_state = sink.deliver(&mut source);
            let (taken, settled) = source.finish();
            self.log_settled(&settled);
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
