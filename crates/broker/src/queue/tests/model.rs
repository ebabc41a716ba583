//! A queue beside a model of it: whatever is done to both in whatever order, deliveries come in the order
//! of positions, to consumers in turn, with the octets that were published, and nothing is left waiting
//! that somebody could take.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// Sizes and persistence of the messages of one batch.
    Publish(Vec<(usize, bool)>),
    Consume {
        no_ack: bool,
        prefetch: u16,
        room: usize,
        priority: i64,
    },
    Cancel(Index),
    /// A sink has room again.
    Resume(Index, usize),
    /// Settles some of what is held, in this order.
    Settle(Settlement, Vec<Index>),
    Get {
        no_ack: bool,
    },
    Purge,
    /// Messages leave memory.
    PageOut(PageOut, usize),
    /// Messages leave the journal.
    Checkpoint,
    /// A block is written again without what is settled.
    Compact(Index),
    /// The process is killed and started again.
    Restart,
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => Just(0_usize),
        20 => 1..40_usize,
        3 => 500..3_000_usize,
        1 => Just(LARGE_BODY_BYTES - 1),
        2 => LARGE_BODY_BYTES..LARGE_BODY_BYTES + 5_000,
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let picks = || prop::collection::vec(any::<Index>(), 1..8);
    let room = || prop_oneof![0..6_usize, Just(usize::MAX)];
    prop_oneof![
        8 => prop::collection::vec((size(), any::<bool>()), 1..20).prop_map(Step::Publish),
        3 => (any::<bool>(), 0..4_u16, room(), -1..=1_i64)
            .prop_map(|(no_ack, prefetch, room, priority)| Step::Consume { no_ack, prefetch, room, priority }),
        1 => any::<Index>().prop_map(Step::Cancel),
        6 => (any::<Index>(), room()).prop_map(|(index, room)| Step::Resume(index, room)),
        6 => picks().prop_map(|picks| Step::Settle(Settlement::Settled, picks)),
        4 => picks().prop_map(|picks| Step::Settle(Settlement::Requeued, picks)),
        3 => any::<bool>().prop_map(|no_ack| Step::Get { no_ack }),
        1 => Just(Step::Purge),
        3 => (prop_oneof![Just(PageOut::Far), Just(PageOut::Near), Just(PageOut::All)], 1..20_000_usize)
            .prop_map(|(which, bytes)| Step::PageOut(which, bytes)),
        2 => Just(Step::Checkpoint),
        3 => any::<Index>().prop_map(Step::Compact),
        1 => Just(Step::Restart),
    ]
}

#[derive(Clone, Debug)]
struct Known {
    redelivered: bool,
    persistent: bool,
    body: Vec<u8>,
}

struct Held {
    consumer: Option<ConsumerId>,
    reference: MessageRef,
    message: Known,
}

struct KnownConsumer {
    sink: Arc<RecordingSink>,
    no_ack: bool,
    prefetch: usize,
    unacked: usize,
    room: usize,
    parked: bool,
    priority: i64,
}

impl KnownConsumer {
    fn can_take(&self) -> bool {
        let credit = self.no_ack || self.prefetch == 0 || self.unacked < self.prefetch;
        credit && self.room > 0 && !self.parked
    }
}

struct Model {
    bench: Bench,
    durable: bool,
    ready: BTreeMap<u64, Known>,
    held: Vec<Held>,
    consumers: BTreeMap<ConsumerId, KnownConsumer>,
    published: u64,
    settled: BTreeSet<u64>,
    /// Blocks as the store knows them, by first position.
    catalog: BTreeMap<u64, BlockState>,
    restarted: bool,
}

impl Model {
    fn new(durable: bool) -> Self {
        Self {
            bench: Bench::new(durable),
            durable,
            ready: BTreeMap::new(),
            held: Vec::new(),
            consumers: BTreeMap::new(),
            published: 0,
            settled: BTreeSet::new(),
            catalog: BTreeMap::new(),
            restarted: false,
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Publish(messages) => self.publish(messages),
            &Step::Consume { no_ack, prefetch, room, priority } => {
                let (id, sink) = self.bench.consume(no_ack, prefetch, room, priority);
                let prefetch = usize::from(prefetch);
                let consumer =
                    KnownConsumer { sink, no_ack, prefetch, unacked: 0, room, parked: true, priority };
                self.consumers.insert(id, consumer);
            }
            Step::Cancel(index) => {
                let Some(id) = self.pick_consumer(*index) else { return };
                self.consumers.remove(&id);
                assert_eq!(self.bench.queue.cancel(id), self.consumers.is_empty());
            }
            Step::Resume(index, room) => {
                let Some(id) = self.pick_consumer(*index) else { return };
                let consumer = self.consumers.get_mut(&id).unwrap();
                *consumer.sink.room.lock() = *room;
                consumer.room = *room;
                // A sink without room parks again once it is asked; the model need not tell the two apart.
                consumer.parked = false;
                self.bench.queue.resume(id);
            }
            Step::Settle(how, picks) => self.settle(*how, picks),
            Step::Get { no_ack } => self.get(*no_ack),
            Step::Purge => {
                assert_eq!(self.bench.purge(), Ok(self.ready.len()));
                for (position, message) in std::mem::take(&mut self.ready) {
                    self.note_settled(position, &message);
                }
            }
            &Step::PageOut(which, bytes) => self.bench.queue.page_out(which, bytes).unwrap(),
            Step::Checkpoint => self.checkpoint(),
            Step::Compact(index) => self.compact(*index),
            Step::Restart => self.restart(),
        }
        self.bench.store.memory.load_requested();
        self.check();
    }

    /// What the store does to need nothing of its journal any more.
    fn checkpoint(&mut self) {
        let store = Arc::clone(&self.bench.store);
        let end = JournalPosition(store.safe().0 + 1);
        self.bench.queue.leave_journal(end).unwrap();
        for position in std::mem::take(&mut *store.forgotten.lock()) {
            self.catalog.remove(&position);
        }
        let mut states = Vec::new();
        self.bench.queue.changed_blocks(&mut states);
        self.catalog.extend(states.into_iter().map(|state| (state.first_position, state)));
        std::mem::take(&mut *store.freed.lock()).into_iter().for_each(|block| store.memory.free_block(block));
        store.published.lock().retain(|run| run.begins_at >= end);
        if self.durable {
            self.check_settled();
            store.settled.lock().clear();
            store.persistent.lock().clear();
            self.settled.clear();
        }
    }

    fn compact(&mut self, index: Index) {
        let mut states = Vec::new();
        self.bench.queue.changed_blocks(&mut states);
        self.catalog.extend(states.into_iter().map(|state| (state.first_position, state)));
        if !self.catalog.is_empty() {
            let state = self.catalog.values().nth(index.index(self.catalog.len())).unwrap();
            self.bench.queue.rewrite_block(state.first_position, state.location).unwrap();
        }
        // Where it lies now is for a checkpoint to tell; what lay there before is gone.
        self.checkpoint();
    }

    fn restart(&mut self) {
        if !self.durable {
            return;
        }
        let store = Arc::clone(&self.bench.store);
        // What the next checkpoint would have been told is lost: the blocks of the last one are there.
        store.freed.lock().clear();
        store.forgotten.lock().clear();
        let below = store.delivering_below.load(Ordering::Relaxed);
        let recovered = RecoveredMessages {
            blocks: self.catalog.values().cloned().collect(),
            runs: store.published.lock().clone(),
            settled: store.settled.lock().clone(),
            delivered_below: below,
            next_position: self.published,
            damage: None,
            missing_blocks: None,
        };
        self.restarted = true;
        self.bench.services.gauge = Arc::default();
        self.bench.gauge = Arc::clone(&self.bench.services.gauge);
        let services = &self.bench.services;
        self.bench.queue = Queue::restored(self.bench.queue.id, spec(true), services, Weak::new(), recovered);
        self.bench.queue.begin();
        let next_position = self.bench.queue.state.lock().messages.next_position();
        assert!(next_position >= self.published);
        self.published = next_position;
        self.consumers.clear();
        for held in self.held.drain(..) {
            assert!(held.reference.position < below, "handed out unnoted");
            self.ready.insert(held.reference.position, held.message);
        }
        self.ready.retain(|_, message| message.persistent);
        for (position, message) in &mut self.ready {
            assert!(*position < below || !message.redelivered);
            message.redelivered = *position < below;
        }
    }

    fn pick_consumer(&self, index: Index) -> Option<ConsumerId> {
        if self.consumers.is_empty() {
            return None;
        }
        self.consumers.keys().nth(index.index(self.consumers.len())).copied()
    }

    fn publish(&mut self, messages: &[(usize, bool)]) {
        for &(size, persistent) in messages {
            let serial = self.published.to_le_bytes();
            let body: Vec<_> = serial.iter().copied().cycle().take(size).collect();
            self.bench.push(&body, persistent);
            self.ready.insert(self.published, Known { redelivered: false, persistent, body });
            self.published += 1;
        }
        let waits = self.durable && messages.iter().any(|&(_, persistent)| persistent);
        assert_eq!(self.bench.flush() > JournalPosition::SAFE, waits);
        self.absorb();
    }

    fn settle(&mut self, how: Settlement, picks: &[Index]) {
        let mut by_consumer = BTreeMap::<Option<ConsumerId>, Vec<Held>>::new();
        for pick in picks {
            if !self.held.is_empty() {
                let held = self.held.swap_remove(pick.index(self.held.len()));
                by_consumer.entry(held.consumer).or_default().push(held);
            }
        }
        for (consumer, group) in by_consumer {
            let references: Vec<_> = group.iter().map(|held| held.reference).collect();
            if let Some(known) = consumer.and_then(|id| self.consumers.get_mut(&id)) {
                known.unacked -= group.len();
            }
            for held in group {
                match how {
                    Settlement::Settled | Settlement::Rejected => {
                        self.note_settled(held.reference.position, &held.message);
                    }
                    Settlement::Requeued => {
                        let message = Known { redelivered: true, ..held.message };
                        self.ready.insert(held.reference.position, message);
                    }
                }
            }
            self.bench.queue.settle(consumer, how, &references);
            self.absorb();
        }
    }

    fn get(&mut self, no_ack: bool) {
        let got = self.bench.get(no_ack);
        let expected = self.ready.pop_first();
        assert_eq!(got.is_some(), expected.is_some());
        let (Some(got), Some((position, message))) = (got, expected) else { return };
        let (reference, redelivered, body, left) = got;
        assert_eq!(
            (reference.position, redelivered, left),
            (position, message.redelivered, self.ready.len())
        );
        assert!(body == message.body);
        if no_ack {
            self.note_settled(position, &message);
        } else {
            self.held.push(Held { consumer: None, reference, message });
        }
    }

    fn note_settled(&mut self, position: u64, message: &Known) {
        if self.durable && message.persistent {
            self.settled.insert(position);
        }
    }

    /// Checks what the last step delivered, and takes it into the model.
    fn absorb(&mut self) {
        let mut since = BTreeMap::<ConsumerId, BTreeSet<ConsumerId>>::new();
        for seen in self.bench.seen() {
            let (position, message) = self.ready.pop_first().expect("nothing was ready");
            assert_eq!((seen.reference.position, seen.redelivered), (position, message.redelivered));
            assert_eq!(
                (seen.persistent, seen.reference.is_persistent()),
                (message.persistent, message.persistent)
            );
            assert!(seen.body == message.body);
            let priority = self.consumers.get(&seen.consumer).expect("cancelled").priority;
            let able = || self.consumers.iter().filter(|(_, consumer)| consumer.can_take());
            assert!(able().all(|(_, other)| other.priority <= priority), "one of higher priority waits");
            if let Some(others) = since.get(&seen.consumer) {
                let mut waiting = able().filter(|(_, other)| other.priority == priority);
                assert!(
                    waiting.all(|(id, _)| *id == seen.consumer || others.contains(id)),
                    "a second turn while another waited for its first"
                );
            }
            for others in since.values_mut() {
                others.insert(seen.consumer);
            }
            since.insert(seen.consumer, BTreeSet::new());

            let consumer = self.consumers.get_mut(&seen.consumer).expect("cancelled");
            assert!(consumer.can_take());
            consumer.room -= 1;
            // A sink whose room is gone has parked.
            consumer.parked = consumer.room == 0;
            if consumer.no_ack {
                self.note_settled(position, &message);
            } else {
                consumer.unacked += 1;
                self.held.push(Held { consumer: Some(seen.consumer), reference: seen.reference, message });
            }
        }
    }

    fn check(&mut self) {
        self.absorb();
        let counts = self.bench.counts();
        assert_eq!(counts, (self.ready.len(), self.held.len(), self.consumers.len()));
        let waiting = self.consumers.values().any(KnownConsumer::can_take);
        assert!(self.ready.is_empty() || !waiting, "a message and a consumer for it both wait");
        if self.ready.is_empty() && self.held.is_empty() {
            assert!(self.bench.gauge.bytes() <= FIRST_CHUNK_BYTES);
        }
        self.check_settled();
    }

    fn check_settled(&self) {
        let ranges = self.bench.store.settled.lock().clone();
        let told: BTreeSet<_> = ranges.iter().cloned().flatten().collect();
        let count = ranges.iter().map(|range| range.end - range.start).sum::<u64>();
        // A purge after a restart covers what was settled before.
        assert!(self.restarted || told.len() as u64 == count, "settled twice");
        assert!(self.settled.is_subset(&told));
        let persistent = self.bench.store.persistent.lock();
        let mut others = told.difference(&self.settled);
        assert!(others.all(|position| !persistent.contains(position)), "settled, but it was not");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_queue_keeps_its_promises(durable in any::<bool>(), steps in prop::collection::vec(step(), 1..60)) {
        let mut model = Model::new(durable);
        steps.iter().for_each(|step| model.apply(step));
        let ready = model.ready.len();
        prop_assert_eq!(model.bench.queue.delete(false, false).unwrap().ready, ready);
        prop_assert_eq!(model.bench.gauge.bytes(), 0);
    }
}
