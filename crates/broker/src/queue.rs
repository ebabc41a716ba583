//! A queue: messages in order, consumers in turn, and what was handed out. A plain state machine behind
//! a mutex that nobody holds across an await; publish, get, settle, purge go in, deliveries come out
//! through the consumers' sinks.

pub mod arguments;
mod chunk;
pub(crate) mod consumers;
pub(crate) mod dying;
mod levels;
mod limits;
pub mod memory;
pub(crate) mod messages;
mod paging;
mod probe;
mod queue_type;
pub mod quorum;
pub mod recovered;
mod retry;
pub mod settings;
pub(crate) mod taken;
mod unique;

use std::collections::VecDeque;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use leveret_codec::properties::priority;
use parking_lot::{Mutex, MutexGuard};

use crate::counters::QueueCounters;
use crate::delivery::{Deadline, Delivery, DeliverySink, DeliverySource, SettledRanges};
use crate::error::BrokerError;
use crate::message::{MessageBatch, MessageRef};
use crate::names::{ConnectionId, ConsumerId, QueueId, QueueName, VhostName};
use crate::services::Services;
use crate::store::{JournalPosition, Store};
use crate::time::Timestamp;
use crate::timers::TimerId;
use crate::vhost::Vhost;
use arguments::QueueArguments;
pub use consumers::{ConsumerActivity, ConsumerHolder, ConsumerSnapshot, ConsumerSpec};
use consumers::{Consumers, SingleActive};
pub use dying::DeathReason;
use dying::Dying;
use levels::Levels;
use messages::Messages;
use probe::Probe;
pub use queue_type::QueueType;
use recovered::RecoveredMessages;
use retry::Retries;
use settings::{QueueSettings, RequestedSettings};
use unique::QueueIds;

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

impl QueueSpec {
    /// The highest level of priority that its messages have, 0 if they have none.
    #[must_use]
    pub fn level_max(&self) -> u8 {
        if self.is_quorum() {
            quorum::PRIORITY_MAX
        } else {
            self.arguments.max_priority().unwrap_or_default()
        }
    }

    /// The level of a message with these properties. COMPAT: without a priority the lowest one, in a quorum queue 4;
    /// the highest one if its priority is above.
    #[must_use]
    pub fn level_of(&self, properties: &[u8]) -> u8 {
        match self.level_max() {
            0 => 0,
            max => {
                let usual = if self.is_quorum() { quorum::PRIORITY_USUAL } else { 0 };
                priority(properties).unwrap_or(usual).min(max)
            }
        }
    }

    /// What the store knows the queue's levels by, the lowest and the queue's own first.
    pub fn level_ids(&self, id: QueueId) -> impl Iterator<Item = QueueId> + use<> {
        self.levels(id).map(|(_, level)| level)
    }

    /// The same, each with its level.
    pub(crate) fn levels(&self, id: QueueId) -> impl Iterator<Item = (u8, QueueId)> + use<> {
        (0..=self.level_max()).map(move |level| (level, id.of_level(level)))
    }
}

/// How a channel settles deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Acknowledged: the message is gone.
    Settled,
    /// Rejected without requeue: gone too, to the dead-letter exchange if there is one.
    Rejected,
    /// Back to its place in the queue, marked redelivered. A quorum queue does not count that against the message.
    Requeued,
    /// The same, but a quorum queue counts it as one more attempt that failed.
    Failed,
    /// The same, but a quorum queue does not count it at all: the broker itself had only a look.
    Kept,
}

/// Numbers of a queue at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSnapshot {
    /// Messages that can be delivered.
    pub ready: usize,
    /// Octets of their bodies.
    pub ready_bytes: u64,
    /// Messages delivered and not settled.
    pub unacked: usize,
    /// Octets of their bodies.
    pub unacked_bytes: u64,
    /// Messages that came back and are not to be delivered yet.
    pub delayed: usize,
    /// Consumers.
    pub consumers: usize,
    /// Of these: passed over since their client does not read, or their channel has its fill.
    pub parked: usize,
    /// Messages that died and are not yet where the dead-letter exchange sends them; neither ready nor unacked.
    pub dying: usize,
    /// Octets of memory held for messages.
    pub memory_bytes: usize,
    /// What has happened to messages since the broker started or the queue was declared.
    pub counters: QueueCounters,
}

impl AddAssign for QueueSnapshot {
    fn add_assign(&mut self, other: Self) {
        self.ready += other.ready;
        self.ready_bytes += other.ready_bytes;
        self.unacked += other.unacked;
        self.unacked_bytes += other.unacked_bytes;
        self.delayed += other.delayed;
        self.consumers += other.consumers;
        self.parked += other.parked;
        self.dying += other.dying;
        self.memory_bytes += other.memory_bytes;
        self.counters += other.counters;
    }
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
    services: Services,
    /// For what is to call back.
    this: Weak<Self>,
    /// What dies here is published by it.
    vhost: Weak<Vhost>,
    /// Its deadline among the broker's.
    timer: TimerId,
    /// Says without the lock whether `stopped` is set.
    is_stopped: AtomicBool,
    /// Says without the lock what the settings say of it; all bits set: nothing.
    consumer_timeout_ms: AtomicU64,
    /// Not async: every operation is short and never waits. Locked before a channel's or an outbound
    /// buffer's lock, never after.
    state: Mutex<State>,
}

struct State {
    messages: Levels,
    /// The ids of its messages, if it drops duplicates.
    ids: Option<Arc<QueueIds>>,
    consumers: Consumers,
    unacked: usize,
    unacked_bytes: u64,
    counters: QueueCounters,
    /// Messages that came back and are not to be delivered yet.
    retries: Retries,
    probe: Probe,
    settings: QueueSettings,
    /// The settings limit what may lie in the queue, or how long the queue may lie unused, or messages wait before they
    /// are delivered again.
    is_limited: bool,
    /// Messages that are neither ready nor unacked any more, on their way to the dead-letter exchange, and why.
    dying: VecDeque<Dying>,
    /// Letters of messages that died before they came into the queue.
    refused: Option<MessageBatch>,
    /// Somebody publishes what died.
    is_burying: bool,
    /// When that is tried again which no queue took.
    buried_again_at: Option<Timestamp>,
    /// When the timer rings.
    armed: Option<Timestamp>,
    /// When it was declared, consumed from or asked for a message the last time; kept where the queue expires.
    last_used: Timestamp,
    deleted: bool,
    /// Why the queue takes and gives nothing any more, if it does not.
    stopped: Option<String>,
    /// The store was asked to bring messages back.
    is_loading: bool,
    /// They could not be read, which is tried again when the timer rings.
    loads_again: bool,
    /// Who waits for that.
    load_waiters: Vec<Box<dyn FnOnce() + Send>>,
}

impl State {
    /// Counts messages as unacked no more.
    fn end_unacked(&mut self, messages: &[MessageRef]) {
        self.unacked = self.unacked.saturating_sub(messages.len());
        let body_bytes = messages.iter().map(|message| u64::from(message.body_bytes)).sum();
        self.unacked_bytes = self.unacked_bytes.saturating_sub(body_bytes);
    }
}

/// Deliveries that one note of [`Store::delivering`] covers at most: the price of a note is a system call, and
/// after a crash that many messages at most are marked redelivered that were not handed out.
const DELIVERIES_NOTED: usize = 256;

impl Queue {
    /// A new, empty queue.
    #[must_use]
    pub fn new(spec: QueueSpec, services: &Services, vhost: Weak<Vhost>) -> Arc<Self> {
        let max = spec.level_max();
        let id = QueueId::next_with_levels(max);
        let messages = Levels::new(id, spec.durable, services, max, spec.is_quorum());
        Self::with_messages(id, spec, services, vhost, messages)
    }

    /// A durable queue as a restart found it, each level that had something.
    #[must_use]
    pub fn restored(
        id: QueueId,
        spec: QueueSpec,
        services: &Services,
        vhost: Weak<Vhost>,
        recovered: Vec<(u8, RecoveredMessages)>,
    ) -> Arc<Self> {
        let max = spec.level_max();
        let mut levels = Levels::new(id, true, services, max, spec.is_quorum());
        let mut damages = Vec::new();
        for (level, recovered) in recovered {
            let damage = recovered.damage.clone().or_else(|| recovered.missing_blocks.clone());
            let (messages, missing) = Messages::restored(id, level, services, recovered);
            let missing =
                missing.map(|position| format!("its message at {position} is not in the journal any more"));
            damages.extend(damage.or(missing));
            levels.restore(messages);
        }
        let queue = Self::with_messages(id, spec, services, vhost, levels);
        if let Some(damage) = damages.into_iter().next() {
            queue.stop(damage);
        }
        queue
    }

    fn with_messages(
        id: QueueId,
        spec: QueueSpec,
        services: &Services,
        vhost: Weak<Vhost>,
        mut messages: Levels,
    ) -> Arc<Self> {
        let ids = spec.arguments.deduplication_header().map(|header| Arc::new(QueueIds::new(header)));
        ids.iter().for_each(|ids| messages.keep_ids(ids));
        let settings = spec.arguments.settings(&RequestedSettings::NONE);
        let consumer_timeout_ms = AtomicU64::new(settings.consumer_timeout_bits());
        let yields_to_priority = spec.arguments.queue_type() == QueueType::Quorum;
        let single = spec.arguments.single_active_consumer().then(|| SingleActive::new(yields_to_priority));
        let state = State {
            messages,
            ids,
            consumers: Consumers::new(single),
            unacked: 0,
            unacked_bytes: 0,
            counters: QueueCounters::default(),
            retries: Retries::default(),
            is_limited: settings.needs_enforcing(),
            probe: Probe::default(),
            settings,
            dying: VecDeque::new(),
            refused: None,
            is_burying: false,
            buried_again_at: None,
            armed: None,
            last_used: services.clock.now(),
            deleted: false,
            stopped: None,
            is_loading: false,
            loads_again: false,
            load_waiters: Vec::new(),
        };
        let is_stopped = AtomicBool::new(false);
        Arc::new_cyclic(|this| Self {
            id,
            spec,
            store: Arc::clone(&services.store),
            services: services.clone(),
            this: Weak::clone(this),
            vhost,
            timer: TimerId::next(),
            is_stopped,
            consumer_timeout_ms,
            state: Mutex::new(state),
        })
    }

    /// Everything around it is there: time begins to count.
    pub(crate) fn begin(&self) {
        self.settle_down(self.state.lock());
    }

    /// Whether a restart finds it again, with its persistent messages.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.spec.durable && self.spec.owner.is_none()
    }

    /// Whether it is one of the broker's own, that no client reaches.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.spec.is_hidden()
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
        self.publish_or_refuse(batch, &mut Vec::new())
    }

    /// The same; numbers in the batch of messages that the queue has no place for and refuses are put into `refused`.
    pub fn publish_or_refuse(&self, batch: &mut MessageBatch, refused: &mut Vec<u32>) -> JournalPosition {
        let mut state = self.state.lock();
        if state.deleted || state.stopped.is_some() {
            batch.clear();
            return if state.deleted { JournalPosition::SAFE } else { JournalPosition::NEVER };
        }
        let new_level = batch.level();
        let new_from = state.messages.for_append(new_level).next_position();
        let safe_at = match state.ids.clone() {
            None => self.append_within_limits(&mut state, batch, refused),
            Some(ids) => self.append_unique(&mut state, &ids, batch, refused),
        };
        self.dispatch_new(&mut state, new_from, new_level);
        self.settle_down(state);
        safe_at
    }

    fn append_within_limits(
        &self,
        state: &mut State,
        batch: &mut MessageBatch,
        refused: &mut Vec<u32>,
    ) -> JournalPosition {
        if state.is_limited && state.settings.refuses() {
            return self.append_or_refuse(state, batch, refused);
        }
        self.append(state, batch)
    }

    fn append(&self, state: &mut State, batch: &mut MessageBatch) -> JournalPosition {
        state.counters.published += batch.len() as u64;
        let messages = state.messages.for_append(batch.level());
        state.probe.batch_comes(messages, &self.services);
        let journaled = (self.spec.durable && batch.persistent() > 0)
            .then(|| self.store.publish(messages.id(), messages.next_position(), batch));
        messages.append(batch, journaled);
        journaled.map_or(JournalPosition::SAFE, |journaled| journaled.safe_at)
    }

    /// Ends what may have changed the queue: what has expired, or is too much, goes; what died is buried.
    fn settle_down(&self, mut state: MutexGuard<'_, State>) {
        if state.is_limited || state.messages.may_expire() {
            self.enforce(&mut state);
        }
        let has_dying = !state.dying.is_empty() || state.refused.is_some();
        drop(state);
        if has_dying {
            self.bury();
        }
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
        if self.spec.is_quorum() && state.consumers.is_single_active() {
            return Err(BrokerError::GetFromSingleActive {
                queue: self.spec.name.to_string(),
                vhost: self.spec.vhost.to_string(),
            });
        }
        self.touch(&mut state);
        if state.messages.may_expire() {
            let now = self.services.clock.now();
            self.expire(&mut state, Deadline::at(now));
        }
        if state.messages.is_next_absent() {
            self.settle_down(state);
            return Ok(Got::Absent);
        }
        self.note_delivering(&mut state, 1, 1);
        let left = state.messages.ready().saturating_sub(1);
        let (messages, returned) = state.messages.next_mut();
        let id = messages.id();
        let mut source = DeliverySource::new(messages, returned.unwrap_or(0), no_ack, 1, None);
        let result = source.next_delivery().map(|delivery| hand_out(delivery, left));
        let taken = source.finish();
        self.log_settled(id, &taken.settled);
        let counters = &mut state.counters;
        let got = match result {
            None => &mut counters.got_empty,
            Some(_) if no_ack => &mut counters.got_no_ack,
            Some(_) => &mut counters.got,
        };
        *got += 1;
        counters.redelivered += taken.redelivered;
        if !no_ack {
            state.unacked += taken.count;
            state.unacked_bytes += taken.body_bytes;
        }
        self.settle_down(state);
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
        state.end_unacked(messages);
        match how {
            Settlement::Settled => {
                state.counters.acked += messages.len() as u64;
                safe_at = self.let_go(&mut state, messages);
            }
            Settlement::Rejected => safe_at = self.kill(&mut state, messages, DeathReason::Rejected),
            Settlement::Requeued => self.give_back(&mut state, messages, false),
            Settlement::Failed => self.give_back(&mut state, messages, true),
            Settlement::Kept => messages.iter().for_each(|&message| state.messages.put_back(message)),
        }
        if let Some(consumer) = consumer {
            state.consumers.give_credit(consumer, messages.len());
        }
        self.dispatch(&mut state);
        self.settle_down(state);
        safe_at
    }

    /// Makes messages ready again that a consumer had.
    fn give_back(&self, state: &mut State, messages: &[MessageRef], failed: bool) {
        match self.spec.is_quorum() {
            true => self.take_back(state, messages, failed),
            false => messages.iter().for_each(|&message| state.messages.put_back(message)),
        }
    }

    /// Lets go of messages that are neither ready nor unacked any more; where that is safe.
    fn let_go(&self, state: &mut State, messages: &[MessageRef]) -> JournalPosition {
        let mut safe_at = JournalPosition::SAFE;
        if self.spec.durable {
            for of_level in messages.chunk_by(|one, other| one.level == other.level) {
                let mut settled = SettledRanges::default();
                of_level.iter().for_each(|&message| settled.add(message));
                let level = of_level.first().map_or(0, |message| message.level);
                safe_at = safe_at.max(self.log_settled(self.id.of_level(level), &settled));
            }
        }
        messages.iter().for_each(|&message| state.messages.settle(message));
        safe_at
    }

    fn log_settled(&self, level: QueueId, settled: &SettledRanges) -> JournalPosition {
        match settled.persistent() {
            Some(ranges) if self.spec.durable => self.store.settle(level, ranges),
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
        let (messages, _) = state.messages.next_mut();
        let (count, needed) = messages.reach(count.min(messages.ready()));
        if needed > messages.noted_below() {
            let (_, ahead) = messages.reach(ahead.min(DELIVERIES_NOTED));
            messages.note_below(needed.max(ahead));
            self.store.delivering(messages.id(), messages.noted_below());
        }
        count
    }

    /// Adds a consumer. It gets nothing until [`Self::resume`], so that its consume-ok goes out first.
    ///
    /// # Errors
    /// The queue was deleted, or is in exclusive use, or is to be but has consumers or a single active one.
    pub fn consume(&self, spec: ConsumerSpec) -> Result<(), BrokerError> {
        let mut state = self.state.lock();
        self.check_usable(&state)?;
        // COMPAT: one that is to be alone has no place among those that wait to be.
        let cannot_be_alone = !state.consumers.is_empty() || state.consumers.is_single_active();
        if state.consumers.has_exclusive() || (spec.exclusive && cannot_be_alone) {
            return Err(BrokerError::QueueInExclusiveUse {
                queue: self.spec.name.to_string(),
                vhost: self.spec.vhost.to_string(),
            });
        }
        state.consumers.add(spec);
        self.touch(&mut state);
        Ok(())
    }

    /// The consumer can take messages (again).
    pub fn resume(&self, consumer: ConsumerId) {
        let mut state = self.state.lock();
        state.consumers.resume(consumer);
        self.dispatch(&mut state);
        self.settle_down(state);
    }

    /// Removes a consumer; what it has unacked stays so. `true` if it was the last one.
    pub fn cancel(&self, consumer: ConsumerId) -> bool {
        self.cancel_returning(consumer, Vec::new)
    }

    /// Removes a consumer; what `take_back` names of its deliveries returns to its place before another consumer gets
    /// anything. `take_back` is called with the queue locked, when nothing more will be delivered to the consumer.
    /// `true` if it was the last one.
    pub fn cancel_returning(
        &self,
        consumer: ConsumerId,
        take_back: impl FnOnce() -> Vec<MessageRef>,
    ) -> bool {
        let mut state = self.state.lock();
        let is_removed = state.consumers.remove(consumer);
        let messages = take_back();
        if !state.deleted {
            state.end_unacked(&messages);
            // COMPAT: 4.3 does not count it as failed.
            self.give_back(&mut state, &messages, false);
        }
        if !messages.is_empty() || state.consumers.is_single_active() {
            // Another one may have become active.
            self.dispatch(&mut state);
        }
        let was_last = is_removed && state.consumers.is_empty();
        self.touch(&mut state);
        self.settle_down(state);
        was_last
    }

    /// Its consumers, in the order in which they came.
    pub fn consumers(&self) -> Vec<ConsumerSnapshot> {
        self.state.lock().consumers.snapshot()
    }

    /// Drops all ready messages; how many there were, and where that is safe.
    ///
    /// # Errors
    /// The queue was deleted, or is stopped.
    pub fn purge(&self) -> Result<(usize, JournalPosition), BrokerError> {
        let mut state = self.state.lock();
        self.check_usable(&state)?;
        let mut safe_at = JournalPosition::SAFE;
        let purged = state.messages.purge(|level, positions| {
            if self.spec.durable {
                safe_at = safe_at.max(self.store.settle(level, positions));
            }
        });
        Ok((purged, safe_at))
    }

    /// Marks the queue deleted: nothing comes in or goes out any more. What it holds goes with [`Self::let_go_of_all`].
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
        Ok(self.end(&mut state))
    }

    fn end(&self, state: &mut State) -> DeletedQueue {
        state.deleted = true;
        self.services.timers.disarm(self.timer);
        state.dying.clear();
        state.retries.clear();
        state.refused = None;
        state.load_waiters.drain(..).for_each(|waiter| waiter());
        (state.unacked, state.unacked_bytes) = (0, 0);
        DeletedQueue { ready: state.messages.ready(), consumers: state.consumers.drain() }
    }

    /// Lets go of everything in a deleted queue. Called when the store was told that it is: what it is told here must
    /// not outlive a crash that the deletion does not.
    pub(crate) fn let_go_of_all(&self) {
        let mut state = self.state.lock();
        if !self.is_hidden() {
            let queue_type = self.spec.arguments.queue_type();
            // Moved, so that nobody who looks at both counts them twice.
            let counters = std::mem::take(&mut state.counters);
            self.services.counters.queue_deleted(queue_type, counters);
        }
        state.messages.forget();
        if self.is_durable() {
            state.messages.ids().for_each(|level| self.store.forget_queue(level));
        }
    }

    /// Its numbers now.
    pub fn snapshot(&self) -> QueueSnapshot {
        let state = self.state.lock();
        QueueSnapshot {
            ready: state.messages.ready(),
            ready_bytes: state.messages.ready_bytes(),
            unacked: state.unacked,
            unacked_bytes: state.unacked_bytes,
            delayed: state.retries.len(),
            consumers: state.consumers.len(),
            parked: state.consumers.parked(),
            dying: state.dying.len(),
            memory_bytes: state.messages.memory_bytes(),
            counters: state.counters,
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
        self.dispatch_new(state, u64::MAX, 0);
    }

    /// The same where messages from `new_from` on have come just now to a level: these are delivered even if they
    /// expire at once.
    fn dispatch_new(&self, state: &mut State, new_from: u64, new_level: u8) {
        let may_expire = state.messages.may_expire();
        let deadline = may_expire.then(|| Deadline { now: self.services.clock.now(), new_from, new_level });
        loop {
            if let Some(deadline) = deadline {
                self.expire(state, deadline);
            }
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
            // A turn ends with its level, and with each message that is served in the order in which it came back.
            let (messages, returned) = state.messages.next_mut();
            let limit = if returned.is_some() { 1 } else { limit };
            let level = messages.id();
            let from = returned.unwrap_or(0);
            let reads_from = state.probe.begin_turn(messages);
            let mut source = DeliverySource::new(messages, from, no_ack, limit, deadline);
            let sink_state = sink.deliver(&mut source);
            let taken = source.finish();
            if let Some(reads_from) = reads_from {
                state.probe.end_turn(&(reads_from..messages.read_position()), &self.services);
            }
            self.log_settled(level, &taken.settled);
            state.counters.redelivered += taken.redelivered;
            if no_ack {
                state.counters.delivered_no_ack += taken.count as u64;
            } else {
                state.counters.delivered += taken.count as u64;
                state.unacked += taken.count;
                state.unacked_bytes += taken.body_bytes;
            }
            // A sink that takes nothing and does not say why would be asked for ever.
            let sink_state = if taken.count == 0 { crate::SinkState::Parked } else { sink_state };
            state.consumers.end_turn(id, taken.count, sink_state);
        }
    }
}

#[cfg(test)]
mod tests;
