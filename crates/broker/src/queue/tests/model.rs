//! A queue beside a model of it: whatever is done to both in whatever order, deliveries come in the order
//! of priorities and positions, in a quorum queue what came back first and in that order, to consumers in turn, with
//! the octets that were published, and nothing is left waiting that somebody could take.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// Sizes and persistence of the messages of one batch, and their priority.
    Publish(Vec<(usize, bool)>, u8),
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

fn priority() -> impl Strategy<Value = u8> {
    prop_oneof![0..4_u8, Just(63), Just(64), Just(255)]
}

fn step() -> impl Strategy<Value = Step> {
    let picks = || prop::collection::vec(any::<Index>(), 1..8);
    let room = || prop_oneof![0..6_usize, Just(usize::MAX)];
    prop_oneof![
        8 => (prop::collection::vec((size(), any::<bool>()), 1..20), priority())
            .prop_map(|(messages, priority)| Step::Publish(messages, priority)),
        3 => (any::<bool>(), 0..4_u16, room(), -1..=1_i64)
            .prop_map(|(no_ack, prefetch, room, priority)| Step::Consume { no_ack, prefetch, room, priority }),
        1 => any::<Index>().prop_map(Step::Cancel),
        6 => (any::<Index>(), room()).prop_map(|(index, room)| Step::Resume(index, room)),
        6 => picks().prop_map(|picks| Step::Settle(Settlement::Settled, picks)),
        4 => (picks(), prop_oneof![Just(Settlement::Requeued), Just(Settlement::Failed), Just(Settlement::Kept)])
            .prop_map(|(picks, how)| Step::Settle(how, picks)),
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
    returns: Returns,
    body: Vec<u8>,
}

impl Known {
    /// How often it says that it came back.
    fn told(&self) -> Returns {
        Returns { acquired: self.returns.acquired.max(u32::from(self.redelivered)), ..self.returns }
    }
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

fn place(queue: QueueId, reference: MessageRef) -> Place {
    (Reverse(queue.of_level(reference.level)), reference.position)
}

impl KnownConsumer {
    fn can_take(&self) -> bool {
        let credit = self.no_ack || self.prefetch == 0 || self.unacked < self.prefetch;
        credit && self.room > 0 && !self.parked
    }
}

struct Model {
    bench: Bench,
    spec: QueueSpec,
    durable: bool,
    ready: BTreeMap<Place, Known>,
    /// What came back to a quorum queue, in that order.
    returned: VecDeque<(Place, Known)>,
    held: Vec<Held>,
    consumers: BTreeMap<ConsumerId, KnownConsumer>,
    /// Messages of each level.
    published: BTreeMap<QueueId, u64>,
    settled: BTreeSet<Place>,
    /// Blocks as the store knows them, by first message.
    catalog: BTreeMap<Place, BlockState>,
    restarted: bool,
}

impl Model {
    /// Of a queue with so many priorities, or of a quorum queue.
    fn new(durable: bool, max_priority: Option<u8>) -> Self {
        let durable = durable || max_priority.is_none();
        let arguments = match max_priority {
            Some(max) => FieldTable::new().with("x-max-priority", i32::from(max)),
            None => quorum().with("x-delivery-limit", -1),
        };
        let arguments = QueueArguments::parse(arguments, "q", "/").unwrap();
        let spec = QueueSpec { arguments, ..spec(durable) };
        Self {
            bench: Bench::of(spec.clone()),
            spec,
            durable,
            ready: BTreeMap::new(),
            returned: VecDeque::new(),
            held: Vec::new(),
            consumers: BTreeMap::new(),
            published: BTreeMap::new(),
            settled: BTreeSet::new(),
            catalog: BTreeMap::new(),
            restarted: false,
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Publish(messages, priority) => self.publish(messages, *priority),
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
                assert_eq!(self.bench.purge(), Ok(self.waiting()));
                while let Some((place, message)) = self.take_next() {
                    self.note_settled(place, &message);
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

    /// Messages that can be delivered.
    fn waiting(&self) -> usize {
        self.returned.len() + self.ready.len()
    }

    /// The message that comes next.
    fn take_next(&mut self) -> Option<(Place, Known)> {
        self.returned.pop_front().or_else(|| self.ready.pop_first())
    }

    /// What the store does to need nothing of its journal any more.
    fn checkpoint(&mut self) {
        let store = Arc::clone(&self.bench.store);
        let end = JournalPosition(store.safe().0 + 1);
        self.bench.queue.leave_journal(end).unwrap();
        for place in std::mem::take(&mut *store.forgotten.lock()) {
            self.catalog.remove(&place);
        }
        self.learn_of_blocks();
        std::mem::take(&mut *store.freed.lock()).into_iter().for_each(|block| store.memory.free_block(block));
        store.published.lock().retain(|(_, run)| run.begins_at >= end);
        if self.durable {
            self.check_settled();
            store.settled.lock().clear();
            store.returned.lock().clear();
            store.persistent.lock().clear();
            self.settled.clear();
        }
    }

    fn learn_of_blocks(&mut self) {
        let mut states = Vec::new();
        self.bench.queue.changed_blocks(&mut states);
        let place = |state: &BlockState| (Reverse(state.queue), state.first_position);
        self.catalog.extend(states.into_iter().map(|state| (place(&state), state)));
    }

    fn compact(&mut self, index: Index) {
        self.learn_of_blocks();
        if !self.catalog.is_empty() {
            let state = self.catalog.values().nth(index.index(self.catalog.len())).unwrap();
            self.bench.queue.rewrite_block(state.queue, state.first_position, state.location).unwrap();
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
        let below = store.delivering_below.lock().clone();
        let recovered = self.spec.levels(self.bench.queue.id).map(|(level, id)| {
            let blocks = self.catalog.values().filter(|block| block.queue == id).cloned();
            let runs = store.published.lock().clone().into_iter().filter(|(queue, _)| *queue == id);
            let settled = store.settled.lock().clone().into_iter().filter(|(queue, _)| *queue == id);
            let returned = store.returned.lock().clone().into_iter().filter(|((queue, _), _)| *queue == id);
            let recovered = RecoveredMessages {
                blocks: blocks.collect(),
                runs: runs.map(|(_, run)| run).collect(),
                settled: settled.map(|(_, range)| range).collect(),
                returns: returned.map(|((_, position), returns)| (position, returns)).collect(),
                delivered_below: below.get(&id).copied().unwrap_or_default(),
                next_position: self.published.get(&id).copied().unwrap_or_default(),
                damage: None,
                missing_blocks: None,
            };
            (level, recovered)
        });
        let recovered = recovered.filter(|(_, recovered)| recovered.next_position > 0).collect();
        self.restarted = true;
        self.bench.services.gauge = Arc::default();
        self.bench.gauge = Arc::clone(&self.bench.services.gauge);
        let (id, spec) = (self.bench.queue.id, self.spec.clone());
        self.bench.queue = Queue::restored(id, spec, &self.bench.services, Weak::new(), recovered);
        self.bench.queue.begin();
        for (&level, published) in &mut self.published {
            let level = u8::try_from(level.0 - id.0).unwrap();
            let next_position = self.bench.queue.state.lock().messages.for_append(level).next_position();
            assert!(next_position >= *published);
            *published = next_position;
        }
        self.consumers.clear();
        let below = |(Reverse(level), _): &Place| below.get(level).copied().unwrap_or_default();
        for held in self.held.drain(..) {
            let place = place(id, held.reference);
            assert!(place.1 < below(&place), "handed out unnoted");
            self.ready.insert(place, held.message);
        }
        self.ready.extend(self.returned.drain(..));
        self.ready.retain(|_, message| message.persistent);
        self.count_octets();
        for (place, message) in &mut self.ready {
            assert!(place.1 < below(place) || !message.redelivered);
            message.redelivered = place.1 < below(place);
            message.returns = message.told();
        }
    }

    /// A limit of just the octets that there are drops nothing, whatever was known of them.
    fn count_octets(&mut self) {
        let octets: usize = self.ready.values().map(|message| message.body.len()).sum();
        let settings = self.bench.queue.settings();
        let limited = QueueSettings { max_length_bytes: Some(octets as u64), ..settings.clone() };
        self.bench.queue.apply(limited);
        self.bench.store.memory.load_requested();
        let state = self.bench.queue.state.lock();
        assert!(!state.needs_octets() && state.messages.ready_bytes() <= octets as u64);
        drop(state);
        assert_eq!(self.bench.queue.snapshot().ready, self.ready.len());
        self.bench.queue.apply(settings);
    }

    fn pick_consumer(&self, index: Index) -> Option<ConsumerId> {
        if self.consumers.is_empty() {
            return None;
        }
        self.consumers.keys().nth(index.index(self.consumers.len())).copied()
    }

    fn publish(&mut self, messages: &[(usize, bool)], priority: u8) {
        let level = priority.min(self.spec.level_max());
        let id = self.bench.queue.id.of_level(level);
        let published = self.published.entry(id).or_default();
        self.bench.batch = MessageBatch::for_level(&self.bench.queue.spec, level);
        let keeps_all = self.spec.is_quorum();
        for &(size, persistent) in messages {
            let serial = (*published + 1000 * u64::from(level)).to_le_bytes();
            let body: Vec<_> = serial.iter().copied().cycle().take(size).collect();
            self.bench.push(&body, persistent);
            let persistent = persistent || keeps_all;
            self.ready.insert(
                (Reverse(id), *published),
                Known { redelivered: false, persistent, returns: Returns::default(), body },
            );
            *published += 1;
        }
        let waits = self.durable && messages.iter().any(|&(_, persistent)| persistent || keeps_all);
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
                        self.note_settled(place(self.bench.queue.id, held.reference), &held.message);
                    }
                    Settlement::Requeued | Settlement::Failed | Settlement::Kept => {
                        let mut message = Known { redelivered: true, ..held.message };
                        if self.spec.is_quorum() && how != Settlement::Kept {
                            message.returns.acquired += 1;
                            message.returns.failed += u32::from(how == Settlement::Failed);
                        }
                        let place = place(self.bench.queue.id, held.reference);
                        match self.spec.is_quorum() {
                            true => self.returned.push_back((place, message)),
                            false => _ = self.ready.insert(place, message),
                        }
                    }
                }
            }
            self.bench.queue.settle(consumer, how, &references);
            self.absorb();
        }
    }

    fn get(&mut self, no_ack: bool) {
        let got = self.bench.get(no_ack);
        let expected = self.take_next();
        assert_eq!(got.is_some(), expected.is_some());
        let (Some(got), Some((expected, message))) = (got, expected) else { return };
        let (reference, redelivered, body, left) = got;
        assert_eq!(
            (place(self.bench.queue.id, reference), redelivered, left),
            (expected, message.redelivered, self.waiting())
        );
        assert!(body == message.body);
        if no_ack {
            self.note_settled(expected, &message);
        } else {
            self.held.push(Held { consumer: None, reference, message });
        }
    }

    fn note_settled(&mut self, place: Place, message: &Known) {
        if self.durable && message.persistent {
            self.settled.insert(place);
        }
    }

    /// Checks what the last step delivered, and takes it into the model.
    fn absorb(&mut self) {
        let mut since = BTreeMap::<ConsumerId, BTreeSet<ConsumerId>>::new();
        for seen in self.bench.seen() {
            let (expected, message) = self.take_next().expect("nothing was ready");
            let seen_at = place(self.bench.queue.id, seen.reference);
            assert_eq!((seen_at, seen.redelivered), (expected, message.redelivered));
            assert_eq!(
                (seen.persistent, seen.reference.is_persistent()),
                (message.persistent, message.persistent)
            );
            assert!(seen.body == message.body);
            if self.spec.is_quorum() {
                assert_eq!(seen.returns, message.told());
            }
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
                self.note_settled(expected, &message);
            } else {
                consumer.unacked += 1;
                self.held.push(Held { consumer: Some(seen.consumer), reference: seen.reference, message });
            }
        }
    }

    fn check(&mut self) {
        self.absorb();
        let counts = self.bench.counts();
        assert_eq!(counts, (self.waiting(), self.held.len(), self.consumers.len()));
        let waiting = self.consumers.values().any(KnownConsumer::can_take);
        assert!(self.waiting() == 0 || !waiting, "a message and a consumer for it both wait");
        let messages = self.returned.iter().map(|(_, message)| message).chain(self.ready.values());
        let octets: u64 = messages.map(|message| message.body.len() as u64).sum();
        let state = self.bench.queue.state.lock();
        assert!(state.messages.has_estimates() || state.messages.ready_bytes() == octets, "octets");
        drop(state);
        if self.waiting() == 0 && self.held.is_empty() {
            assert!(self.bench.gauge.bytes() <= FIRST_CHUNK_BYTES * self.published.len());
        }
        self.check_settled();
    }

    fn check_settled(&self) {
        let ranges = self.bench.store.settled.lock().clone();
        let places = |(level, range): &(QueueId, Range<u64>)| {
            let level = Reverse(*level);
            range.clone().map(move |position| (level, position))
        };
        let told: BTreeSet<_> = ranges.iter().flat_map(places).collect();
        let count = ranges.iter().map(|(_, range)| range.end - range.start).sum::<u64>();
        // A purge after a restart covers what was settled before.
        assert!(self.restarted || told.len() as u64 == count, "settled twice");
        assert!(self.settled.is_subset(&told));
        let persistent = self.bench.store.persistent.lock();
        let mut others = told.difference(&self.settled);
        assert!(others.all(|place| !persistent.contains(place)), "settled, but it was not");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_queue_keeps_its_promises(
        durable in any::<bool>(),
        max_priority in prop_oneof![Just(Some(0)), Just(Some(2)), Just(Some(255)), Just(None)],
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut model = Model::new(durable, max_priority);
        steps.iter().for_each(|step| model.apply(step));
        let ready = model.waiting();
        prop_assert_eq!(model.bench.queue.delete(false, false).unwrap().ready, ready);
        model.bench.queue.let_go_of_all();
        prop_assert_eq!(model.bench.gauge.bytes(), 0);
    }
}
