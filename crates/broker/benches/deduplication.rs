//! What it costs an exchange to look for a message's id: the route of a message that no exchange asks for its id, of
//! one that came before, and of one that is new and remembered from then on.

use std::hint::black_box;
use std::sync::Arc;

use criterion::Criterion;
use leveret_broker::deduplication::publish_once;
use leveret_broker::exchange::addressing::Addressing;
use leveret_broker::store::{JournalPosition, MemoryStore};
use leveret_broker::vhost::ExchangeDeclaration;
use leveret_broker::{Broker, Vhost};
use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTable, FieldTableRef};

/// Ids that the exchange remembers: the cache is full.
const IDS: u64 = 100_000;

fn vhost() -> Arc<Vhost> {
    let vhost = Broker::new(Arc::new(MemoryStore::default())).create_vhost("/");
    for (name, arguments) in [
        ("plain", FieldTable::new()),
        ("once", FieldTable::new().with("x-message-deduplication", true).with("x-cache-size", IDS as i64)),
    ] {
        let declaration = ExchangeDeclaration {
            name,
            exchange_type: "direct",
            durable: false,
            auto_delete: false,
            internal: false,
            arguments,
        };
        assert!(vhost.declare_exchange(declaration).is_ok());
    }
    vhost
}

fn properties(id: u64) -> Vec<u8> {
    let headers = FieldTable::new().with("x-deduplication-header", format!("order-{id:012}")).encoded();
    let mut properties = Vec::new();
    Properties { headers: FieldTableRef::parse(&headers).ok(), ..Properties::default() }
        .encode(&mut properties);
    properties
}

/// Publishes a message to `once`; whether it was new.
fn publish(vhost: &Vhost, properties: &[u8]) -> bool {
    let route = vhost.route("once", &Addressing::new(&["key"], properties));
    let Ok(mut route) = route else { return false };
    let ids = route.take_new_ids(false);
    !ids.is_empty() && publish_once(&ids, || Some(JournalPosition::SAFE)).is_some()
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let vhost = vhost();
    let messages: Vec<_> = (0..2 * IDS).map(properties).collect();
    messages.iter().for_each(|properties| assert!(publish(&vhost, properties)));
    let newest = messages.last().expect("there are some").clone();
    criterion.bench_function("route/plain exchange", |bencher| {
        bencher.iter(|| black_box(vhost.route("plain", &Addressing::new(&["key"], &newest)).is_ok()));
    });
    criterion.bench_function("route/duplicate", |bencher| {
        bencher.iter(|| assert!(!publish(&vhost, black_box(&newest))));
    });
    // Twice as many as are remembered: each is new when its turn comes again.
    let mut turns = messages.iter().cycle();
    criterion.bench_function("route/new id", |bencher| {
        bencher.iter(|| assert!(turns.next().is_some_and(|properties| publish(&vhost, properties))));
    });
    criterion.final_summary();
}
