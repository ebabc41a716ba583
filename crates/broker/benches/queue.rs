//! What a queue costs per message: batches of 64 in, deliveries out, acks back.
//!
//! `cargo bench -p leveret-broker --bench queue` prints the time per batch and messages per second; divide by 64
//! for one message. Sinks do the least a channel does with a delivery: they copy its body.

use std::hint::black_box;
use std::sync::{Arc, Mutex, Weak};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use leveret_broker::message::Body;
use leveret_broker::queue::arguments::QueueArguments;
use leveret_broker::queue::{ConsumerHolder, ConsumerSpec, QueueSpec, Settlement};
use leveret_broker::store::MemoryStore;
use leveret_broker::unacked::{AckSelection, DeliveryOrigin, OriginIndex, UnackedList};
use leveret_broker::{
    ConnectionId, ConsumerId, DeliverySink, DeliverySource, MessageBatch, MessageRef, MessageView, Queue,
    Services, SinkState,
};

const BATCH: usize = 64;
const SIZES: [usize; 2] = [16, 1024];

/// Copies what it is given, as the way to a socket does.
#[derive(Default)]
struct CopyingSink(Mutex<Vec<u8>>);

impl DeliverySink for CopyingSink {
    fn deliver(&self, source: &mut DeliverySource<'_>) -> SinkState {
        let Ok(mut out) = self.0.lock() else { return SinkState::Parked };
        out.clear();
        while let Some(delivery) = source.next_delivery() {
            if let Body::Small(octets) = delivery.message.body {
                out.extend_from_slice(delivery.message.names);
                out.extend_from_slice(octets);
            }
        }
        black_box(&*out);
        SinkState::Open
    }

    fn cancel(&self) {}
}

/// Notes what it is given as unacked, as a channel does.
struct AckingSink {
    unacked: Mutex<UnackedList>,
    origin: OriginIndex,
}

impl DeliverySink for AckingSink {
    fn deliver(&self, source: &mut DeliverySource<'_>) -> SinkState {
        let Ok(mut unacked) = self.unacked.lock() else { return SinkState::Parked };
        while let Some(delivery) = source.next_delivery() {
            black_box(delivery.message.body.len());
            unacked.push(self.origin, delivery.reference);
        }
        SinkState::Open
    }

    fn cancel(&self) {}
}

fn queue() -> Arc<Queue> {
    let spec = QueueSpec {
        vhost: "/".into(),
        name: "q".into(),
        durable: false,
        owner: None,
        auto_delete: false,
        arguments: QueueArguments::default(),
    };
    Queue::new(spec, &Services::new(Arc::new(MemoryStore::default())), Weak::new())
}

fn consume(queue: &Queue, sink: Arc<dyn DeliverySink>, no_ack: bool, prefetch: u16) -> ConsumerId {
    let id = ConsumerId::next();
    let holder = ConsumerHolder { connection: ConnectionId(1), channel: 1, tag: "c".into() };
    let (exclusive, priority, arguments) = (false, 0, Box::default());
    let added =
        queue.consume(ConsumerSpec { id, holder, sink, no_ack, exclusive, prefetch, priority, arguments });
    assert!(added.is_ok());
    queue.resume(id);
    id
}

fn fill(batch: &mut MessageBatch, body: &[u8]) {
    let body = Body::Small(body);
    for _ in 0..BATCH {
        batch.push(&MessageView {
            names: b"\0\x09perf-test",
            properties: b"\0\0",
            body,
            persistent: false,
            extras: b"",
        });
    }
}

fn no_ack(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish_and_deliver_no_ack");
    group.throughput(Throughput::Elements(BATCH as u64));
    for consumers in [1, 8] {
        for size in SIZES {
            let (queue, body, mut batch) = (queue(), vec![b'x'; size], MessageBatch::default());
            for _ in 0..consumers {
                consume(&queue, Arc::new(CopyingSink::default()), true, 0);
            }
            let name = BenchmarkId::new(format!("{consumers}_consumers"), size);
            group.bench_function(name, |b| {
                b.iter(|| {
                    fill(&mut batch, &body);
                    queue.publish(&mut batch)
                });
            });
        }
    }
    group.finish();
}

fn fill_alone(c: &mut Criterion) {
    let mut group = c.benchmark_group("fill_a_batch");
    group.throughput(Throughput::Elements(BATCH as u64));
    for size in SIZES {
        let (body, mut batch) = (vec![b'x'; size], MessageBatch::default());
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                batch.clear();
                fill(&mut batch, &body);
                black_box(batch.len())
            });
        });
    }
    group.finish();
}

fn acks(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish_deliver_ack");
    group.throughput(Throughput::Elements(BATCH as u64));
    for prefetch in [10, 1000] {
        let (queue, body, mut batch) = (queue(), [b'x'; 16], MessageBatch::default());
        let mut unacked = UnackedList::default();
        let origin = unacked.add_origin(DeliveryOrigin {
            queue: Arc::clone(&queue),
            consumer: None,
            timeout_ms: None,
        });
        let sink = Arc::new(AckingSink { unacked: Mutex::new(unacked), origin });
        let shared: Arc<dyn DeliverySink> = Arc::<AckingSink>::clone(&sink);
        let id = consume(&queue, shared, false, prefetch);
        let (mut taken, mut references) = (Vec::new(), Vec::<MessageRef>::new());
        group.bench_function(BenchmarkId::new("prefetch", prefetch), |b| {
            b.iter(|| {
                fill(&mut batch, &body);
                queue.publish(&mut batch);
                loop {
                    taken.clear();
                    let known = sink
                        .unacked
                        .lock()
                        .is_ok_and(|mut list| list.take(AckSelection::AllOutstanding, &mut taken).is_ok());
                    assert!(known);
                    if taken.is_empty() {
                        break;
                    }
                    references.clear();
                    references.extend(taken.iter().map(|entry| entry.message));
                    queue.settle(Some(id), Settlement::Settled, &references);
                }
            });
        });
    }
    group.finish();
}

fn backlog(c: &mut Criterion) {
    let mut group = c.benchmark_group("publish_only");
    let batches = 1000;
    group.throughput(Throughput::Elements((BATCH * batches) as u64));
    group.sample_size(20);
    for size in SIZES {
        let (body, mut batch) = (vec![b'x'; size], MessageBatch::default());
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter_batched(
                queue,
                |queue| {
                    for _ in 0..batches {
                        fill(&mut batch, &body);
                        queue.publish(&mut batch);
                    }
                    queue
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    no_ack(&mut criterion);
    fill_alone(&mut criterion);
    acks(&mut criterion);
    backlog(&mut criterion);
    criterion.final_summary();
}
