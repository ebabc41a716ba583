//! What it costs to match a key of three words against the bindings of a topic exchange: it should depend
//! on the key's words, not on how many bindings there are.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion};
use leveret_broker::exchange::BindingTarget;
use leveret_broker::exchange::addressing::Addressing;
use leveret_broker::store::MemoryStore;
use leveret_broker::vhost::QueueDeclaration;
use leveret_broker::{Broker, ConnectionId, Vhost};
use leveret_codec::table::FieldTable;

/// A vhost whose topic exchange has the given patterns, all bound to one queue.
fn vhost(patterns: impl Iterator<Item = String>) -> Arc<Vhost> {
    let vhost = Broker::new(Arc::new(MemoryStore::default())).create_vhost("/");
    let connection = ConnectionId::next();
    let arguments = FieldTable::new();
    let declaration =
        QueueDeclaration { name: "q", durable: false, exclusive: false, auto_delete: false, arguments };
    assert!(vhost.declare_queue(declaration, connection).is_ok());
    let target = BindingTarget::Queue("q".into());
    for pattern in patterns {
        assert!(vhost.bind("amq.topic", &target, &pattern, &FieldTable::new(), connection).is_ok());
    }
    vhost
}

/// Patterns of three words, none of which matches another's key.
fn literal(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|i| format!("region{}.host{}.metric{}", i % 10, i / 1000, i % 1000))
}

fn topic_match(c: &mut Criterion) {
    let mut group = c.benchmark_group("topic_match");
    let mut bench = |id: BenchmarkId, vhost: &Vhost, key: &str| {
        group.bench_function(id, |b| {
            b.iter(|| {
                black_box(
                    vhost
                        .route("amq.topic", &Addressing::new(&[black_box(key)], &[]))
                        .map(|route| route.routed),
                )
            });
        });
    };
    for count in [1, 1000, 100_000] {
        let vhost = vhost(literal(count));
        bench(BenchmarkId::new("literal", count), &vhost, "region0.host0.metric0");
    }
    for count in [1000, 100_000] {
        let wildcards = literal(count).chain(["region0.*.metric0", "region0.#", "*.*.*"].map(String::from));
        let vhost = vhost(wildcards);
        bench(BenchmarkId::new("literal_and_wildcards", count), &vhost, "region0.host0.metric0");
    }
    let hashes = vhost((1..=20).map(|count| vec!["#"; count].join(".")));
    bench(BenchmarkId::new("chains_of_hash", 20), &hashes, "region0.host0.metric0");
    let nested = vhost((0..6).map(|i| format!("#.word{i}.#.word{}.#.word{}.#", i / 2, i / 3)));
    let key: Vec<_> = (0..20).map(|i| format!("word{}", i % 6)).collect();
    bench(BenchmarkId::new("nested_hashes", 20), &nested, &key.join("."));
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    topic_match(&mut criterion);
    criterion.final_summary();
}
