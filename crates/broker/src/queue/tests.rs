//! The queue as a state machine, driven in process: by a property test against a model that knows only
//! what a queue promises, and by one test for each promise that deserves a name.

mod levels;
mod model;
mod probe;
mod quorum;
mod retry;
mod single_active;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use leveret_codec::table::{FieldTable, FieldValue};

use super::memory::MemoryGauge;
use super::messages::PageOut;
use super::quorum::Returns;
use super::recovered::RecoveredRun;
use super::*;
use crate::definition::Definition;
use crate::delivery::SinkState;
use crate::limits::{CHUNK_BYTES, FIRST_CHUNK_BYTES, LARGE_BODY_BYTES};
use crate::message::{Body, LargeBody, MessageView};
use crate::store::{Block, BlockError, BlockLocation, BlockState, Journaled, MemoryStore};
use crate::timers::Timed;

const NAMES: &[u8] = b"\x02ex\x03key";
const PROPERTIES: &[u8] = b"\x10\x00\x02";

/// A message: level by level, the highest first, since the store knows it by the highest id.
type Place = (Reverse<QueueId>, u64);

/// Keeps blocks in memory and remembers what it was told.
#[derive(Default)]
struct RecordingStore {
    memory: MemoryStore,
    position: AtomicU64,
    /// What was published, as a restart would find it.
    published: Mutex<Vec<(QueueId, RecoveredRun)>>,
    /// The persistent messages among it.
    persistent: Mutex<BTreeSet<Place>>,
    settled: Mutex<Vec<(QueueId, Range<u64>)>>,
    returned: Mutex<BTreeMap<(QueueId, u64), Returns>>,
    /// First messages of blocks that are there no more.
    forgotten: Mutex<Vec<Place>>,
    /// Blocks that are still there until the next checkpoint.
    freed: Mutex<Vec<BlockLocation>>,
    delivering_below: Mutex<BTreeMap<QueueId, u64>>,
    /// The system refuses to read.
    refuses: AtomicBool,
}

impl Store for RecordingStore {
    fn share(&self, _messages: &MessageBatch) -> JournalPosition {
        JournalPosition::SAFE
    }

    fn publish(&self, queue: QueueId, first_position: u64, batch: &MessageBatch) -> Journaled {
        let persistent = (first_position..).zip(batch.iter()).filter(|(_, message)| message.persistent);
        self.persistent.lock().extend(persistent.map(|(position, _)| (Reverse(queue), position)));
        let begins_at = JournalPosition(self.position.fetch_add(1, Ordering::Relaxed) + 1);
        let stored = batch.stored();
        let mut own = stored.small_parts().concat();
        stored.bodies().for_each(|body| own.extend_from_slice(body));
        let run = RecoveredRun {
            first_position,
            begins_at,
            own: own.into(),
            shared: Vec::new(),
            shared_batch: Bytes::new(),
        };
        self.published.lock().push((queue, run));
        Journaled { begins_at, safe_at: begins_at }
    }

    fn settle(&self, queue: QueueId, positions: &[Range<u64>]) -> JournalPosition {
        self.settled.lock().extend(positions.iter().map(|range| (queue, range.clone())));
        self.safe()
    }

    fn returned(&self, queue: QueueId, returns: &[(u64, Returns)]) {
        let mut returned = self.returned.lock();
        returned.extend(returns.iter().map(|&(position, returns)| ((queue, position), returns)));
    }

    fn define(&self, _changes: Vec<Definition>) -> JournalPosition {
        JournalPosition::SAFE
    }

    fn delivering(&self, queue: QueueId, position: u64) {
        let before = self.delivering_below.lock().insert(queue, position);
        assert!(before.is_none_or(|before| before < position));
    }

    fn safe(&self) -> JournalPosition {
        JournalPosition(self.position.load(Ordering::Relaxed))
    }

    fn when_safe(&self, _position: JournalPosition, listener: Box<dyn FnOnce() + Send>) {
        listener();
    }

    fn write_block(&self, block: &Block<'_>) -> io::Result<BlockLocation> {
        self.memory.write_block(block)
    }

    fn read_block(&self, location: BlockLocation, queue: QueueId, first: u64) -> Result<Bytes, BlockError> {
        match self.refuses.load(Ordering::Relaxed) {
            true => Err(io::Error::other("no file descriptor is free").into()),
            false => self.memory.read_block(location, queue, first),
        }
    }

    fn free_block(&self, location: BlockLocation) {
        self.freed.lock().push(location);
    }

    fn forget_block(&self, queue: QueueId, first_position: u64) {
        self.forgotten.lock().push((Reverse(queue), first_position));
    }

    fn forget_queue(&self, _queue: QueueId) {}

    fn request_load(&self, queue: Arc<Queue>) {
        self.memory.request_load(queue);
    }

    fn request_page_out(&self) {}
}

/// One delivery as a sink saw it.
#[derive(Clone, Debug)]
struct Seen {
    consumer: ConsumerId,
    reference: MessageRef,
    redelivered: bool,
    persistent: bool,
    returns: Returns,
    body: Vec<u8>,
}

/// Takes as many messages as it has room for, then parks.
struct RecordingSink {
    consumer: ConsumerId,
    room: Mutex<usize>,
    /// Shared by the sinks of one queue, so that the order among consumers is seen.
    log: Arc<Mutex<Vec<Seen>>>,
}

impl DeliverySink for RecordingSink {
    fn deliver(&self, source: &mut DeliverySource<'_>) -> SinkState {
        let mut room = self.room.lock();
        while *room > 0 {
            let Some(delivery) = source.next_delivery() else { return SinkState::Open };
            *room -= 1;
            assert_eq!((delivery.message.names, delivery.message.properties), (NAMES, PROPERTIES));
            self.log.lock().push(Seen {
                consumer: self.consumer,
                reference: delivery.reference,
                redelivered: delivery.redelivered,
                persistent: delivery.message.persistent,
                returns: delivery.returns,
                body: delivery.message.body.to_vec(),
            });
        }
        SinkState::Parked
    }

    fn cancel(&self) {
        *self.room.lock() = 0;
    }
}

fn spec(durable: bool) -> QueueSpec {
    QueueSpec {
        vhost: "/".into(),
        name: "q".into(),
        durable,
        owner: None,
        auto_delete: false,
        arguments: QueueArguments::default(),
    }
}

/// Arguments of a quorum queue.
fn quorum() -> FieldTable {
    FieldTable::new().with("x-queue-type", FieldValue::from("quorum"))
}

/// A consumer that does not acknowledge and asks for nothing.
fn consumer(id: ConsumerId, sink: Arc<dyn DeliverySink>) -> ConsumerSpec {
    ConsumerSpec {
        id,
        holder: ConsumerHolder { connection: ConnectionId(1), channel: 1, tag: "c".into() },
        sink,
        no_ack: true,
        exclusive: false,
        prefetch: 0,
        priority: 0,
        arguments: Box::default(),
    }
}

/// A queue with what is around it.
struct Bench {
    queue: Arc<Queue>,
    store: Arc<RecordingStore>,
    gauge: Arc<MemoryGauge>,
    services: Services,
    log: Arc<Mutex<Vec<Seen>>>,
    batch: MessageBatch,
}

impl Bench {
    fn new(durable: bool) -> Self {
        Self::of(spec(durable))
    }

    fn of(spec: QueueSpec) -> Self {
        let store = Arc::new(RecordingStore::default());
        let known: Arc<dyn Store> = Arc::<RecordingStore>::clone(&store);
        let services = Services::new(known);
        let gauge = Arc::clone(&services.gauge);
        let queue = Queue::new(spec, &services, Weak::new());
        Self { queue, store, gauge, services, log: Arc::default(), batch: MessageBatch::default() }
    }

    fn push(&mut self, body: &[u8], persistent: bool) {
        let large = LargeBody::new(body.chunks(10_000).map(Bytes::copy_from_slice).collect());
        let is_large = body.len() >= LARGE_BODY_BYTES;
        let body = if is_large { Body::Large(&large) } else { Body::Small(body) };
        self.batch.push(&MessageView { names: NAMES, properties: PROPERTIES, body, persistent, extras: b"" });
    }

    fn flush(&mut self) -> JournalPosition {
        let position = self.queue.publish(&mut self.batch);
        assert!(self.batch.is_empty());
        position
    }

    fn publish(&mut self, bodies: &[&[u8]]) {
        bodies.iter().for_each(|body| self.push(body, false));
        assert_eq!(self.flush(), JournalPosition::SAFE);
    }

    fn publish_numbered(&mut self, count: u64) {
        (0..count).for_each(|number| self.push(&number.to_le_bytes(), true));
        self.flush();
    }

    fn consume(
        &self,
        no_ack: bool,
        prefetch: u16,
        room: usize,
        priority: i64,
    ) -> (ConsumerId, Arc<RecordingSink>) {
        let id = ConsumerId::next();
        let sink =
            Arc::new(RecordingSink { consumer: id, room: Mutex::new(room), log: Arc::clone(&self.log) });
        let shared: Arc<dyn DeliverySink> = Arc::<RecordingSink>::clone(&sink);
        self.queue.consume(ConsumerSpec { no_ack, prefetch, priority, ..consumer(id, shared) }).unwrap();
        (id, sink)
    }

    fn consume_plain(&self, no_ack: bool, prefetch: u16, room: usize) -> (ConsumerId, Arc<RecordingSink>) {
        self.consume(no_ack, prefetch, room, 0)
    }

    fn get(&self, no_ack: bool) -> Option<(MessageRef, bool, Vec<u8>, usize)> {
        let hand_out = |delivery: Delivery<'_>, left| {
            (delivery.reference, delivery.redelivered, delivery.message.body.to_vec(), left)
        };
        loop {
            match self.queue.get(no_ack, hand_out).unwrap() {
                Got::Message(message) => return Some(message),
                Got::Empty => return None,
                Got::Absent => self.queue.when_loaded(Box::new(|| {})),
            }
            self.store.memory.load_requested();
        }
    }

    fn purge(&self) -> Result<usize, BrokerError> {
        self.queue.purge().map(|(purged, _)| purged)
    }

    /// What was delivered since it was asked last.
    fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut *self.log.lock())
    }

    fn settled(&self) -> Vec<u64> {
        self.settled_ranges().flatten().collect()
    }

    fn settled_ranges(&self) -> impl Iterator<Item = Range<u64>> {
        std::mem::take(&mut *self.store.settled.lock()).into_iter().map(|(_, range)| range)
    }

    fn counts(&self) -> (usize, usize, usize) {
        let snapshot = self.queue.snapshot();
        assert_eq!(snapshot.memory_bytes, self.gauge.bytes());
        (snapshot.ready, snapshot.unacked, snapshot.consumers)
    }
}

fn positions(seen: &[Seen]) -> Vec<u64> {
    seen.iter().map(|seen| seen.reference.position).collect()
}

#[test]
fn a_new_consumer_gets_nothing_until_it_is_resumed() {
    let mut bench = Bench::new(false);
    bench.publish(&[b"a", b"b"]);
    let (id, _) = bench.consume_plain(true, 0, 10);
    bench.publish(&[b"c"]);
    assert!(bench.seen().is_empty());
    bench.queue.resume(id);
    let seen = bench.seen();
    assert_eq!(positions(&seen), [0, 1, 2]);
    assert_eq!(seen[2].body, b"c");
    assert_eq!(bench.counts(), (0, 0, 1));
}

#[test]
fn a_full_sink_is_passed_over_until_it_is_resumed() {
    let mut bench = Bench::new(false);
    let (slow, sink) = bench.consume_plain(true, 0, 1);
    let (fast, _) = bench.consume_plain(true, 0, usize::MAX);
    bench.queue.resume(slow);
    bench.queue.resume(fast);
    bench.publish(&[b"a", b"b", b"c", b"d"]);
    let takers: Vec<_> = bench.seen().iter().map(|seen| seen.consumer).collect();
    assert_eq!(takers, [slow, fast, fast, fast]);
    bench.publish(&[b"e"]);
    assert_eq!(bench.seen()[0].consumer, fast);
    *sink.room.lock() = 1;
    bench.queue.resume(slow);
    bench.publish(&[b"f", b"g"]);
    let takers: Vec<_> = bench.seen().iter().map(|seen| seen.consumer).collect();
    assert_eq!(takers, [fast, slow]);
}

#[test]
fn a_sink_that_takes_nothing_is_not_asked_for_ever() {
    struct Deaf(AtomicU64);
    impl DeliverySink for Deaf {
        fn deliver(&self, _source: &mut DeliverySource<'_>) -> SinkState {
            self.0.fetch_add(1, Ordering::Relaxed);
            SinkState::Open
        }
        fn cancel(&self) {}
    }
    let mut bench = Bench::new(false);
    let (id, sink) = (ConsumerId::next(), Arc::new(Deaf(AtomicU64::new(0))));
    let shared: Arc<dyn DeliverySink> = Arc::<Deaf>::clone(&sink);
    bench.queue.consume(consumer(id, shared)).unwrap();
    bench.queue.resume(id);
    bench.publish(&[b"a", b"b"]);
    assert_eq!((sink.0.load(Ordering::Relaxed), bench.counts().0), (1, 2));
}

#[test]
fn equal_consumers_share_a_backlog_evenly() {
    for (no_ack, prefetch) in [(true, 0), (false, 0), (false, 40)] {
        let mut bench = Bench::new(false);
        let consumers: Vec<_> = (0..3).map(|_| bench.consume_plain(no_ack, prefetch, usize::MAX).0).collect();
        consumers.iter().for_each(|&id| bench.queue.resume(id));
        bench.publish(&[&b"x"[..]; 100]);
        let mut taken = BTreeMap::<_, usize>::new();
        bench.seen().iter().for_each(|seen| *taken.entry(seen.consumer).or_default() += 1);
        let mut counts: Vec<_> = taken.into_values().collect();
        counts.sort_unstable();
        assert_eq!(counts, [33, 33, 34]);
    }
}

#[test]
fn consumers_of_higher_priority_come_first_while_they_can_take() {
    let mut bench = Bench::new(false);
    let takers = [(-1, usize::MAX), (5, 1), (0, 2), (5, 2)];
    let ids = takers.map(|(priority, room)| bench.consume(true, 0, room, priority).0);
    ids.iter().for_each(|&id| bench.queue.resume(id));
    bench.publish(&[&b"x"[..]; 7]);
    let seen: Vec<_> = bench.seen().iter().map(|seen| seen.consumer).collect();
    assert_eq!(seen, [ids[1], ids[3], ids[3], ids[2], ids[2], ids[0], ids[0]]);
}

#[test]
fn priorities_of_consumers_that_are_gone_are_forgotten() {
    let mut bench = Bench::new(false);
    let (stays, _) = bench.consume(true, 0, usize::MAX, 0);
    bench.queue.resume(stays);
    for priority in 1..1_000 {
        let (id, _) = bench.consume(true, 0, usize::MAX, priority);
        bench.queue.resume(id);
        bench.queue.cancel(id);
    }
    assert_eq!(bench.queue.state.lock().consumers.ready_priorities(), 1);
    bench.publish(&[b"x"]);
    assert_eq!(bench.seen()[0].consumer, stays);
}

#[test]
fn prefetch_limits_what_a_consumer_has_unsettled() {
    let mut bench = Bench::new(false);
    let (id, _) = bench.consume_plain(false, 2, usize::MAX);
    bench.queue.resume(id);
    bench.publish(&[b"a", b"b", b"c", b"d", b"e"]);
    let seen = bench.seen();
    assert_eq!((positions(&seen), bench.counts()), (vec![0, 1], (3, 2, 1)));
    bench.queue.settle(Some(id), Settlement::Settled, &[seen[1].reference]);
    let next = bench.seen();
    assert_eq!(positions(&next), [2]);
    bench.queue.settle(Some(id), Settlement::Settled, &[next[0].reference, seen[0].reference]);
    assert_eq!((positions(&bench.seen()), bench.counts()), (vec![3, 4], (0, 2, 1)));
}

#[test]
fn requeued_messages_return_to_their_place_marked_redelivered() {
    let mut bench = Bench::new(false);
    bench.publish(&[b"a", b"b", b"c", b"d"]);
    let taken: Vec<_> = (0..3).map(|_| bench.get(false).unwrap().0).collect();
    bench.queue.settle(None, Settlement::Requeued, &[taken[2], taken[0]]);
    assert_eq!(bench.counts(), (3, 1, 0));
    let again = bench.get(false).unwrap();
    assert_eq!((again.1, again.2, again.3), (true, b"a".to_vec(), 2));
    bench.queue.settle(None, Settlement::Requeued, &[taken[1]]);
    let rest: Vec<_> = std::iter::from_fn(|| bench.get(true)).map(|got| (got.2, got.1, got.3)).collect();
    assert_eq!(rest, [(b"b".to_vec(), true, 2), (b"c".to_vec(), true, 1), (b"d".to_vec(), false, 0)]);
    assert_eq!(bench.counts(), (0, 1, 0));
}

#[test]
fn a_cancelled_consumer_keeps_what_it_has_unsettled() {
    let mut bench = Bench::new(false);
    let (id, _) = bench.consume_plain(false, 0, usize::MAX);
    bench.queue.resume(id);
    bench.publish(&[b"a", b"b"]);
    let seen = bench.seen();
    assert!(bench.queue.cancel(id), "it was the last one");
    assert!(!bench.queue.cancel(id), "it is gone");
    assert_eq!(bench.counts(), (0, 2, 0));
    bench.queue.settle(Some(id), Settlement::Settled, &[seen[0].reference]);
    bench.queue.settle(Some(id), Settlement::Requeued, &[seen[1].reference]);
    assert_eq!(bench.counts(), (1, 0, 0));
}

#[test]
fn a_deleted_queue_takes_and_gives_nothing() {
    let mut bench = Bench::new(true);
    bench.publish_numbered(3);
    let held = bench.get(false).unwrap().0;
    assert_eq!(bench.queue.delete(false, false).unwrap().ready, 2);
    bench.queue.let_go_of_all();
    assert_eq!(bench.gauge.bytes(), 0);
    bench.push(b"late", true);
    assert_eq!(bench.flush(), JournalPosition::SAFE);
    bench.queue.settle(None, Settlement::Requeued, &[held]);
    bench.queue.settle(None, Settlement::Settled, &[held]);
    assert_eq!(bench.counts(), (0, 0, 0));
    let missing = "no queue 'q' in vhost '/'";
    assert_eq!(bench.queue.get(true, |_, _| ()).unwrap_err().to_string(), missing);
    assert_eq!(bench.queue.purge().unwrap_err().to_string(), missing);
    assert!(bench.settled().is_empty(), "a queue's end is one fact, not one for each message");
}

#[test]
fn only_persistent_messages_of_durable_queues_wait_for_the_journal() {
    for (durable, persistent, waits) in
        [(false, false, false), (false, true, false), (true, false, false), (true, true, true)]
    {
        let mut bench = Bench::new(durable);
        bench.push(b"first", false);
        bench.flush();
        bench.push(b"second", false);
        bench.push(b"third", persistent);
        let position = bench.flush();
        assert_eq!(position > JournalPosition::SAFE, waits);
        let place = (Reverse(bench.queue.id), 2);
        let persistent = if waits { BTreeSet::from([place]) } else { BTreeSet::new() };
        assert_eq!(*bench.store.persistent.lock(), persistent);
    }
}

#[test]
fn the_journal_learns_of_each_persistent_message_once() {
    let mut bench = Bench::new(true);
    bench.publish_numbered(4);
    bench.publish(&[b"transient"]);
    let held = bench.get(false).unwrap().0;
    bench.queue.settle(None, Settlement::Requeued, &[held]);
    assert_eq!(bench.settled(), [0; 0], "it is back");
    let held = bench.get(false).unwrap().0;
    bench.queue.settle(None, Settlement::Settled, &[held]);
    assert_eq!(bench.settled(), [0], "acked");
    bench.get(true);
    assert_eq!(bench.settled(), [1], "got without acks");
    let (id, _) = bench.consume_plain(true, 0, 1);
    bench.queue.resume(id);
    assert_eq!(bench.settled(), [2], "delivered without acks");
    assert_eq!(bench.purge(), Ok(2));
    assert!(bench.settled_ranges().eq(std::iter::once(3..5)), "purged, the transient one with it");

    let mut bench = Bench::new(false);
    bench.publish_numbered(2);
    bench.get(true);
    assert_eq!(bench.purge(), Ok(1));
    assert!(bench.settled().is_empty(), "the queue is not durable");
}

#[test]
fn one_stuck_message_does_not_hold_a_million_settled_ones() {
    let mut bench = Bench::new(false);
    bench.publish(&[b"stuck"]);
    let stuck = bench.get(false).unwrap().0;
    let (id, sink) = bench.consume_plain(false, 0, usize::MAX);
    bench.queue.resume(id);
    let (mut most, mut delivered) = (0, Vec::new());
    for _ in 0..1_000_000 / 100 {
        (0..100).for_each(|_| bench.push(b"sixteen octets..", false));
        bench.flush();
        delivered.clear();
        delivered.extend(bench.log.lock().drain(..).map(|seen| seen.reference));
        assert_eq!(delivered.len(), 100);
        bench.queue.settle(Some(id), Settlement::Settled, &delivered);
        most = most.max(bench.gauge.bytes());
    }
    assert!(most <= 3 * CHUNK_BYTES, "{most} octets at most");
    bench.queue.settle(None, Settlement::Settled, &[stuck]);
    assert!(bench.gauge.bytes() <= FIRST_CHUNK_BYTES, "{} octets left", bench.gauge.bytes());
    *sink.room.lock() = 0;
    assert_eq!(bench.counts(), (0, 0, 1));
}

#[test]
fn memory_comes_back_when_a_backlog_goes() {
    let body = vec![b'x'; 1000];
    for drain in
        [|bench: &Bench| drop(bench.queue.purge()), |bench: &Bench| while bench.get(true).is_some() {}]
    {
        let mut bench = Bench::new(false);
        (0..100).for_each(|_| bench.publish(&[&body[..]; 10]));
        assert!((1_000_000..1_300_000).contains(&bench.gauge.bytes()), "{}", bench.gauge.bytes());
        drain(&bench);
        assert!(bench.gauge.bytes() <= FIRST_CHUNK_BYTES);
        drop(bench.queue);
        assert_eq!(bench.gauge.bytes(), 0);
    }
}

#[test]
fn a_settled_large_body_frees_its_memory_beside_a_stuck_one() {
    let mut bench = Bench::new(false);
    let body = vec![b'x'; 100_000];
    bench.publish(&[b"stuck", &body, &body]);
    bench.get(false).unwrap();
    assert!(bench.gauge.bytes() > 200_000);
    bench.get(true).unwrap();
    let bytes = bench.gauge.bytes();
    assert!((100_000..110_000).contains(&bytes), "{bytes} octets");
    let held = bench.get(false).unwrap();
    assert_eq!(held.2, body);
    bench.queue.settle(None, Settlement::Settled, &[held.0]);
    assert!(bench.gauge.bytes() < 10_000);
}

#[test]
fn messages_that_cannot_be_read_are_read_later() {
    let mut bench = Bench::new(true);
    bench.publish_numbered(20);
    bench.queue.page_out(PageOut::All, usize::MAX).unwrap();
    bench.store.refuses.store(true, Ordering::Relaxed);
    let (consumer, _) = bench.consume_plain(true, 0, usize::MAX);
    bench.queue.resume(consumer);
    for _ in 0..2 {
        bench.store.memory.load_requested();
        assert!(bench.seen().is_empty() && bench.queue.stopped().is_none());
        bench.queue.on_time(bench.services.clock.now());
    }
    bench.store.refuses.store(false, Ordering::Relaxed);
    bench.store.memory.load_requested();
    assert_eq!(bench.seen().len(), 20);
}

#[test]
fn messages_that_are_far_apart_do_not_share_a_chunk() {
    let bench = Bench::new(true);
    let mut batch = MessageBatch::default();
    let body = Body::Small(b"m");
    batch.push(&MessageView { names: NAMES, properties: PROPERTIES, body, persistent: true, extras: b"" });
    let own: Bytes = batch.stored().small_parts().concat().into();
    let positions = [0, 4000, 200_000_000];
    let run = |first_position| RecoveredRun {
        first_position,
        begins_at: JournalPosition(1),
        own: own.clone(),
        shared: Vec::new(),
        shared_batch: Bytes::new(),
    };
    let recovered = RecoveredMessages { runs: positions.map(run).to_vec(), ..RecoveredMessages::default() };
    let id = QueueId::next_with_levels(0);
    let queue = Queue::restored(id, spec(true), &bench.services, Weak::new(), vec![(0, recovered)]);
    queue.leave_journal(JournalPosition(2)).unwrap();
    let mut blocks = Vec::new();
    queue.changed_blocks(&mut blocks);
    blocks.sort_by_key(|block| block.first_position);
    let covered: Vec<_> = blocks.iter().map(|block| (block.first_position, block.count)).collect();
    assert_eq!(covered, [(0, 4001), (200_000_000, 1)]);
}
