//! Delayed messages: what a delayed exchange keeps until its time has come. They lie in hidden queues, one for each
//! stretch of time (`bucket`), and are as safe there as in any queue. Shortly before its time a bucket is opened: its
//! messages are taken out as a consumer would, and what is kept of each is when it is due and where it lies
//! (`waiting`). When one is due it is routed by what is bound then, and settled once the journal has the copies.
//!
//! Locks: the topology, the buckets, a queue, what waits.

mod bucket;
pub mod due;
mod waiting;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::delivery::{DeliverySink, DeliverySource, SinkState};
use crate::exchange::ExchangeSpec;
use crate::message::{Extras, MessageBatch, MessageRef};
use crate::names::{ConnectionId, ConsumerId, ExchangeName};
use crate::queue::taken::TakenRead;
use crate::queue::{ConsumerHolder, ConsumerSpec, Queue, Settlement};
use crate::services::Services;
use crate::store::JournalPosition;
use crate::time::Timestamp;
use crate::timers::{Timed, TimerId};
use crate::vhost::changes::Changes;
use crate::vhost::hidden::HiddenQueues;
pub(crate) use bucket::Bucket;
use due::push_due;
use waiting::{Entry, Waiting};

/// How long before its time a bucket is opened: reading a million messages from a disk takes a few seconds.
const OPENED_AHEAD_MS: u64 = 30_000;

/// Messages that are due within this time are brought into memory, and kept there.
const LOADED_AHEAD_MS: u64 = 1_000;

/// How often that is looked at.
const ADVANCED_EVERY_MS: u64 = 100;

/// Messages told to be needed soon, at a time and altogether.
const ADVANCED_AT_ONCE: usize = 16 * 1024;
const SOON_MAX: usize = 64 * 1024;

/// Messages taken out of a bucket that is being opened before others get the queue's lock.
const TAKEN_AT_ONCE: usize = 4096;

/// Messages, and octets, published together: their queue is locked while they are copied.
const PUBLISHED_AT_ONCE: usize = 256;
const PUBLISHED_BYTES: usize = 256 * 1024;

/// Messages published before other timers get their turn.
const ROUND: usize = 4096;

/// Octets that may be published and not be safe yet: a burst must not run away from the disk.
const UNSAFE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long after its time an empty bucket is kept, for what is on its way there.
const KEPT_AFTER_MS: u64 = 60_000;

/// What waits in a delayed exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelayedSnapshot {
    /// The exchange.
    pub exchange: ExchangeName,
    /// Messages that wait.
    pub messages: usize,
    /// Octets of their bodies.
    pub body_bytes: u64,
    /// None of them is due before; `None` if there are none.
    pub next_due: Option<Timestamp>,
}

/// The messages of one delayed exchange.
pub(crate) struct DelayedMessages {
    exchange: ExchangeName,
    durable: bool,
    hidden: Arc<HiddenQueues>,
    services: Services,
    this: Weak<Self>,
    timer: TimerId,
    buckets: Mutex<Buckets>,
    /// Locked by consumers of the buckets, with the queue locked.
    waiting: Mutex<State>,
}

#[derive(Default)]
struct Buckets {
    by_time: BTreeMap<Bucket, Open>,
    /// The exchange is gone.
    ended: bool,
}

/// A bucket's queue, and who takes its messages once it is open.
struct Open {
    queue: Arc<Queue>,
    taker: Option<Arc<Taker>>,
}

#[derive(Default)]
struct State {
    entries: Waiting,
    /// When the timer rings.
    armed: Option<Timestamp>,
    /// Before, nothing more is told to be needed soon.
    advance_at: Timestamp,
    /// Messages that are due are on their way from the disk.
    is_loading: bool,
    /// What was published has to become safe first.
    is_behind: bool,
    /// Octets published since all was safe, and where they are.
    unsafe_bytes: usize,
    unsafe_until: JournalPosition,
}

impl std::fmt::Debug for DelayedMessages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DelayedMessages").field(&self.exchange).finish()
    }
}

impl DelayedMessages {
    pub(crate) fn new(spec: &ExchangeSpec, hidden: &Arc<HiddenQueues>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            exchange: spec.name.clone(),
            durable: spec.durable,
            hidden: Arc::clone(hidden),
            services: hidden.services().clone(),
            this: Weak::clone(this),
            timer: TimerId::next(),
            buckets: Mutex::default(),
            waiting: Mutex::default(),
        })
    }

    /// The queue of a message that is due at `due`; `None` if the exchange is gone. Called with the topology locked.
    pub(crate) fn queue_for(&self, due: Timestamp, now: Timestamp) -> Option<Arc<Queue>> {
        let bucket = Bucket::of(due, now);
        let mut buckets = self.buckets.lock();
        if buckets.ended {
            return None;
        }
        if let Some(open) = buckets.by_time.get(&bucket) {
            return Some(Arc::clone(&open.queue));
        }
        let queue = self.hidden.create(bucket.queue_name(self.exchange.as_str()), self.durable);
        buckets.by_time.insert(bucket, Open { queue: Arc::clone(&queue), taker: None });
        drop(buckets);
        self.wake_at(opened_at(bucket).max(now));
        Some(queue)
    }

    /// Takes over a queue that a restart found.
    pub(crate) fn restore(&self, bucket: Bucket, queue: Arc<Queue>) {
        self.buckets.lock().by_time.insert(bucket, Open { queue, taker: None });
        self.wake_at(opened_at(bucket));
    }

    /// The exchange is gone, and what waits with it. Called with the topology locked.
    pub(crate) fn end(&self, changes: &mut Changes) {
        let mut buckets = self.buckets.lock();
        buckets.ended = true;
        for open in std::mem::take(&mut buckets.by_time).into_values() {
            self.hidden.delete(&open.queue, changes);
        }
        drop(buckets);
        drop(self.waiting.lock().entries.take_all());
        self.services.timers.disarm(self.timer);
    }

    /// Drops all that waits; how many there were.
    pub(crate) fn purge(&self) -> usize {
        // Each message is either taken out of what waits by this, or by who delivers it.
        let mut taken: BTreeMap<Bucket, Vec<MessageRef>> = BTreeMap::new();
        let entries = self.waiting.lock().entries.take_all();
        entries.for_each(|entry| taken.entry(entry.bucket()).or_default().push(entry.message));
        let mut purged = 0;
        for (bucket, queue, taker) in self.open_buckets() {
            let messages = taken.remove(&bucket).unwrap_or_default();
            purged += messages.len();
            queue.settle(taker.map(|taker| taker.id), Settlement::Settled, &messages);
            // What is stopped keeps what it has.
            purged += queue.purge().map_or(0, |(purged, _)| purged);
        }
        self.wake_now();
        purged
    }

    /// What waits now.
    pub(crate) fn snapshot(&self) -> DelayedSnapshot {
        let mut next_due = self.waiting.lock().entries.next_due();
        let (mut messages, mut body_bytes) = (0, 0);
        for (bucket, queue, _) in self.open_buckets() {
            let snapshot = queue.snapshot();
            messages += snapshot.ready + snapshot.unacked;
            body_bytes += snapshot.ready_bytes + snapshot.unacked_bytes;
            if snapshot.ready > 0 {
                next_due =
                    Some(next_due.map_or(bucket.begins_at(), |due: Timestamp| due.min(bucket.begins_at())));
            }
        }
        DelayedSnapshot { exchange: self.exchange.clone(), messages, body_bytes, next_due }
    }

    fn open_buckets(&self) -> Vec<(Bucket, Arc<Queue>, Option<Arc<Taker>>)> {
        let buckets = self.buckets.lock();
        buckets
            .by_time
            .iter()
            .map(|(bucket, open)| (*bucket, Arc::clone(&open.queue), open.taker.clone()))
            .collect()
    }

    /// Sees to it that the timer rings at `at` or before.
    fn wake_at(&self, at: Timestamp) {
        let mut waiting = self.waiting.lock();
        if waiting.armed.is_none_or(|armed| at < armed) {
            waiting.armed = Some(at);
            self.services.timers.arm(self.timer, at, self.this.clone());
        }
    }

    fn wake_now(&self) {
        self.wake_at(self.services.clock.now());
    }
}

/// When a bucket is opened.
fn opened_at(bucket: Bucket) -> Timestamp {
    Timestamp(bucket.begins_at().0.saturating_sub(OPENED_AHEAD_MS))
}

/// What is done when the time has come.
impl DelayedMessages {
    /// Begins to take messages out of the buckets whose time is near.
    fn open(&self, now: Timestamp) {
        let mut opened = Vec::new();
        for (bucket, open) in &mut self.buckets.lock().by_time {
            if open.taker.is_none() && opened_at(*bucket) <= now {
                let taker = Arc::new(Taker::new(Weak::clone(&self.this), *bucket));
                open.taker = Some(Arc::clone(&taker));
                opened.push((Arc::clone(&open.queue), taker));
            }
        }
        for (queue, taker) in opened {
            let ready = queue.snapshot().ready;
            self.waiting.lock().entries.reserve(ready);
            let id = taker.id;
            let spec = ConsumerSpec {
                id,
                // Nobody's: hidden queues are not listed.
                holder: ConsumerHolder { connection: ConnectionId(0), channel: 0, tag: "".into() },
                sink: taker,
                no_ack: false,
                exclusive: false,
                prefetch: 0,
                priority: 0,
                arguments: Box::default(),
            };
            // Refused only if it was deleted or met damage: then there is nothing to take.
            if queue.consume(spec).is_ok() {
                queue.resume(id);
            }
        }
    }

    /// Lets those go on that gave others the lock. Returns the time from which on messages may still be missing among
    /// what waits: nothing that is due later is delivered yet.
    fn fill(&self) -> Timestamp {
        let mut complete_until = Timestamp::NEVER;
        for (bucket, queue, taker) in self.open_buckets() {
            let Some(taker) = taker else { continue };
            if taker.is_parked.swap(false, Ordering::SeqCst) {
                taker.taken.store(0, Ordering::SeqCst);
                queue.resume(taker.id);
            }
            if !taker.is_filling.load(Ordering::SeqCst) {
                continue;
            }
            if queue.snapshot().ready == 0 || queue.is_stopped() {
                taker.is_filling.store(false, Ordering::SeqCst);
            } else {
                complete_until = complete_until.min(bucket.begins_at());
            }
        }
        complete_until
    }

    /// Has those kept in memory, or brought back, that are due soon.
    fn advance(&self, now: Timestamp) {
        let mut waiting = self.waiting.lock();
        if now < waiting.advance_at {
            return;
        }
        waiting.advance_at = now.after_ms(ADVANCED_EVERY_MS);
        let horizon = now.after_ms(LOADED_AHEAD_MS);
        let advanced = waiting.entries.advance(horizon, ADVANCED_AT_ONCE, SOON_MAX);
        drop(waiting);
        for (bucket, messages) in in_buckets(&advanced) {
            if let Some((queue, _)) = self.queue_of(bucket) {
                queue.expect(&messages);
            }
        }
    }

    fn queue_of(&self, bucket: Bucket) -> Option<(Arc<Queue>, Option<ConsumerId>)> {
        let buckets = self.buckets.lock();
        let open = buckets.by_time.get(&bucket)?;
        Some((Arc::clone(&open.queue), open.taker.as_ref().map(|taker| taker.id)))
    }

    /// Publishes what is due, some of it at a time; whether there is more that need not be waited for.
    fn deliver(&self, complete_until: Timestamp) -> bool {
        let mut delivered = 0;
        while delivered < ROUND {
            let now = self.services.clock.now();
            let due = {
                let mut waiting = self.waiting.lock();
                if waiting.is_loading || waiting.is_behind {
                    return false;
                }
                waiting.entries.take_due(now, complete_until, PUBLISHED_AT_ONCE)
            };
            if due.is_empty() {
                return false;
            }
            delivered += due.len();
            self.deliver_together(&due, now);
        }
        true
    }

    fn deliver_together(&self, due: &[Entry], now: Timestamp) {
        let mut batch = MessageBatch::default();
        let mut published = Vec::new();
        let mut done = 0;
        for (bucket, messages) in in_buckets(due) {
            let Some((queue, consumer)) = self.queue_of(bucket) else {
                done += messages.len();
                continue;
            };
            let this = Weak::clone(&self.this);
            let when_loaded = Box::new(move || {
                let Some(this) = this.upgrade() else { return };
                this.waiting.lock().is_loading = false;
                this.wake_now();
            });
            // Before the question: the answer may come at once.
            self.waiting.lock().is_loading = true;
            let read = queue.read_taken(&messages, when_loaded, |message| {
                push_due(&mut batch, message, now);
                batch.record_bytes() < PUBLISHED_BYTES
            });
            let is_loading = matches!(read, TakenRead::Loading(_));
            if !is_loading {
                self.waiting.lock().is_loading = false;
            }
            let count = match read {
                // What met damage stays where it is.
                TakenRead::Gone => messages.len(),
                TakenRead::Read(count) | TakenRead::Loading(count) => {
                    let read = messages.get(..count).unwrap_or_default().to_vec();
                    published.push((queue, consumer, read));
                    count
                }
            };
            done += count;
            if count < messages.len() {
                break;
            }
        }
        self.waiting.lock().entries.put_back(due.get(done..).unwrap_or_default());
        self.publish(&batch);
        // The journal has the copies before it hears that these are done with.
        for (queue, consumer, messages) in published {
            queue.settle(consumer, Settlement::Settled, &messages);
        }
    }

    fn publish(&self, batch: &MessageBatch) {
        let Some(vhost) = self.hidden.vhost() else { return };
        let safe_at = vhost.publish_due(self.exchange.as_str(), batch);
        if safe_at == JournalPosition::NEVER {
            return;
        }
        let mut waiting = self.waiting.lock();
        if self.services.store.safe() >= waiting.unsafe_until {
            waiting.unsafe_bytes = 0;
        }
        waiting.unsafe_until = waiting.unsafe_until.max(safe_at);
        waiting.unsafe_bytes += batch.record_bytes();
        if waiting.unsafe_bytes < UNSAFE_BYTES_MAX || self.services.store.safe() >= waiting.unsafe_until {
            return;
        }
        waiting.is_behind = true;
        let position = waiting.unsafe_until;
        drop(waiting);
        let this = Weak::clone(&self.this);
        let when_safe = move || {
            let Some(this) = this.upgrade() else { return };
            this.waiting.lock().is_behind = false;
            this.wake_now();
        };
        self.services.store.when_safe(position, Box::new(when_safe));
    }

    /// Deletes buckets whose time is over and that nobody can publish to any more.
    fn sweep(&self, now: Timestamp) {
        let mut buckets = self.buckets.lock();
        let is_over = |bucket: &Bucket| bucket.ends_at().after_ms(KEPT_AFTER_MS) <= now;
        if !buckets.by_time.keys().any(is_over) {
            return;
        }
        let mut is_held = false;
        let mut changes = self.hidden.changes();
        buckets.by_time.retain(|bucket, open| {
            if !is_over(bucket) {
                return true;
            }
            let snapshot = open.queue.snapshot();
            // Held by this map and the directory. Whoever else holds it may publish to it, and nobody new gets it while
            // the buckets are locked.
            let is_free = Arc::strong_count(&open.queue) <= 2;
            is_held |= !is_free;
            let is_done = is_free && snapshot.ready + snapshot.unacked == 0 && !open.queue.is_stopped();
            if is_done {
                self.hidden.delete(&open.queue, &mut changes);
            }
            !is_done
        });
        self.hidden.define(changes);
        drop(buckets);
        if is_held && let Some(vhost) = self.hidden.vhost() {
            // Channels that go on let go of queues they have a route to.
            vhost.topology_moved();
        }
    }

    /// Arms the timer for what comes next.
    fn arm(&self, has_more: bool, complete_until: Timestamp, now: Timestamp) {
        // What could not be swept is looked at again after a while.
        let later = now.after_ms(KEPT_AFTER_MS);
        let buckets = self.buckets.lock();
        let next_bucket = buckets.by_time.iter().map(|(bucket, open)| match open.taker {
            None => opened_at(*bucket).max(now),
            Some(_) => Some(bucket.ends_at().after_ms(KEPT_AFTER_MS)).filter(|&at| at > now).unwrap_or(later),
        });
        let next_bucket = next_bucket.min();
        drop(buckets);
        let waiting = self.waiting.lock();
        let is_held_up = waiting.is_loading || waiting.is_behind;
        let next_due = waiting.entries.next_due().filter(|&due| !is_held_up && due < complete_until);
        let advance_at = waiting.advance_at;
        let next_far = waiting
            .entries
            .next_far()
            .map(|due| Timestamp(due.0.saturating_sub(LOADED_AHEAD_MS)).max(advance_at).max(now.after_ms(1)));
        drop(waiting);
        let next = [has_more.then_some(now), next_bucket, next_due, next_far].into_iter().flatten().min();
        next.into_iter().for_each(|at| self.wake_at(at));
    }
}

impl Timed for DelayedMessages {
    fn on_time(&self, _now: Timestamp) {
        self.waiting.lock().armed = None;
        let now = self.services.clock.now();
        self.open(now);
        let complete_until = self.fill();
        self.advance(now);
        let has_more = self.deliver(complete_until);
        self.sweep(now);
        self.arm(has_more, complete_until, now);
    }
}

/// Entries by bucket, in order, each bucket's as often as another's come in between.
fn in_buckets(entries: &[Entry]) -> impl Iterator<Item = (Bucket, Vec<MessageRef>)> {
    let runs = entries.chunk_by(|one, other| one.bucket() == other.bucket());
    runs.filter_map(|run| Some((run.first()?.bucket(), run.iter().map(|entry| entry.message).collect())))
}

/// Takes the messages out of a bucket's queue.
struct Taker {
    id: ConsumerId,
    delayed: Weak<DelayedMessages>,
    bucket: Bucket,
    /// Messages that were there when the bucket was opened are still coming.
    is_filling: AtomicBool,
    /// It takes nothing until it is resumed, so that others get the lock.
    is_parked: AtomicBool,
    /// Messages since then.
    taken: AtomicUsize,
}

impl Taker {
    fn new(delayed: Weak<DelayedMessages>, bucket: Bucket) -> Self {
        Self {
            id: ConsumerId::next(),
            delayed,
            bucket,
            is_filling: AtomicBool::new(true),
            is_parked: AtomicBool::new(false),
            taken: AtomicUsize::new(0),
        }
    }
}

impl DeliverySink for Taker {
    fn deliver(&self, source: &mut DeliverySource<'_>) -> SinkState {
        let Some(delayed) = self.delayed.upgrade() else { return SinkState::Parked };
        let mut count = 0;
        let mut waiting = delayed.waiting.lock();
        let mut wake_at = self.bucket.ends_at();
        while let Some(delivery) = source.next_delivery() {
            // INVARIANT: it lies in the bucket of its time. What would say otherwise must find its bucket all the same.
            let due = Extras::decode(delivery.message.extras).deliver_at.unwrap_or_default();
            let due = due.clamp(self.bucket.begins_at(), self.bucket.last());
            waiting.entries.add(Entry { due, span: self.bucket.span, message: delivery.reference });
            wake_at = wake_at.min(due);
            count += 1;
        }
        drop(waiting);
        let mut state = SinkState::Open;
        if self.is_filling.load(Ordering::SeqCst) {
            if self.taken.fetch_add(count, Ordering::SeqCst) + count >= TAKEN_AT_ONCE {
                self.is_parked.store(true, Ordering::SeqCst);
                state = SinkState::Parked;
            }
            wake_at = delayed.services.clock.now();
        }
        delayed.wake_at(wake_at);
        state
    }

    fn cancel(&self) {
        // The queue met damage: what it has is not waited for.
        self.delayed.upgrade().into_iter().for_each(|delayed| delayed.wake_now());
    }
}

#[cfg(test)]
mod tests;
