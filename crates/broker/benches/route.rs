//! What it costs to find a route that no channel has cached: a direct exchange with a thousand keys, a
//! fanout to a thousand queues, the default exchange, and a hundred queues behind a hash.

use std::hint::black_box;
use std::sync::Arc;

use criterion::Criterion;
use leveret_broker::exchange::BindingTarget;
use leveret_broker::exchange::addressing::Addressing;
use leveret_broker::store::MemoryStore;
use leveret_broker::vhost::{ExchangeDeclaration, QueueDeclaration};
use leveret_broker::{Broker, ConnectionId, Vhost};
use leveret_codec::table::FieldTable;

const KEYS: usize = 1000;

/// Queues of the consistent hash exchanges.
const HASHED_QUEUES: usize = 100;

fn vhost() -> Arc<Vhost> {
    let vhost = Broker::new(Arc::new(MemoryStore::default())).create_vhost("/");
    let connection = ConnectionId::next();
    for i in 0..KEYS {
        let name = format!("queue-{i}");
        let arguments = FieldTable::new();
        let declaration =
            QueueDeclaration { name: &name, durable: false, exclusive: false, auto_delete: false, arguments };
        assert!(vhost.declare_queue(declaration, connection).is_ok());
        let target = BindingTarget::Queue(name.as_str().into());
        for (exchange, key) in [("amq.direct", format!("key-{i}")), ("amq.fanout", String::new())] {
            assert!(vhost.bind(exchange, &target, &key, &FieldTable::new(), connection).is_ok());
        }
    }
    // Alike, and with as many weights as is bad for it.
    for (exchange, weights) in [("hash", 1), ("hash-weighted", 10)] {
        let declaration = ExchangeDeclaration {
            name: exchange,
            exchange_type: "x-consistent-hash",
            durable: false,
            auto_delete: false,
            internal: false,
            arguments: FieldTable::new(),
        };
        assert!(vhost.declare_exchange(declaration).is_ok());
        for i in 0..HASHED_QUEUES {
            let target = BindingTarget::Queue(format!("queue-{i}").as_str().into());
            let weight = (1 + i % weights).to_string();
            assert!(vhost.bind(exchange, &target, &weight, &FieldTable::new(), connection).is_ok());
        }
    }
    vhost
}

fn route(c: &mut Criterion) {
    let vhost = vhost();
    let mut group = c.benchmark_group("route");
    let mut bench = |name: &str, exchange: &str, prefix: &str| {
        let keys: Vec<_> = (0..KEYS).map(|i| format!("{prefix}{i}")).collect();
        let mut next = keys.iter().cycle();
        group.bench_function(name, |b| {
            b.iter(|| {
                let key = next.next().map_or("", String::as_str);
                black_box(
                    vhost.route(exchange, &Addressing::new(&[key], &[])).map(|route| route.queues.len()),
                )
            });
        });
    };
    bench("direct_1k_keys", "amq.direct", "key-");
    bench("direct_no_such_key", "amq.direct", "no-");
    bench("default_exchange", "", "queue-");
    bench("fanout_1k_queues", "amq.fanout", "key-");
    bench("consistent_hash_100_queues", "hash", "key-");
    bench("consistent_hash_100_queues_10_weights", "hash-weighted", "key-");
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    route(&mut criterion);
    criterion.final_summary();
}
