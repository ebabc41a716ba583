//! Policies survive a restart, and are in force for the queues and exchanges that come back with them.

use std::path::Path;
use std::sync::Arc;

use leveret_broker::policy::{ApplyTo, Policy, PolicyKind};
use leveret_broker::store::{JournalPosition, Store};
use leveret_broker::vhost::{ExchangeDeclaration, QueueDeclaration, Vhost};
use leveret_broker::{Broker, ConnectionId};
use leveret_codec::table::FieldTable;
use leveret_store::journal::SyncMode;
use leveret_store::{DurableStore, StoreOptions};

const CONNECTION: ConnectionId = ConnectionId(1);

/// A broker at work on a directory.
struct Running {
    store: Arc<DurableStore>,
    broker: Arc<Broker>,
}

impl Running {
    fn open(data_dir: &Path) -> Self {
        let options = StoreOptions {
            data_dir: data_dir.to_owned(),
            sync: SyncMode::Always,
            journal_bytes_max: 16 << 20,
            segment_bytes: 1 << 20,
            reserve_bytes: 0,
        };
        let (store, recovered) = DurableStore::open(options).expect("the store opens");
        let broker = Arc::new(Broker::new(Arc::clone(&store) as Arc<dyn Store>));
        assert!(broker.restore(recovered.definitions, recovered.queues).is_empty());
        broker.begin();
        broker.create_vhost("/");
        Self { store, broker }
    }

    fn vhost(&self) -> Arc<Vhost> {
        self.broker.vhost("/").expect("it was created")
    }

    fn wait_until_safe(&self, position: JournalPosition) {
        while self.store.safe() < position {
            std::thread::yield_now();
        }
    }

    /// An orderly end: everything leaves the journal.
    fn close(self) {
        self.store.run(Arc::clone(&self.broker)).expect("threads start");
        self.store.close().expect("the store ends");
    }
}

fn policy(name: &str, key: &str, value: i64) -> Policy {
    Policy {
        name: name.to_owned(),
        pattern: "^orders".to_owned(),
        apply_to: ApplyTo::Queues,
        priority: -3,
        definition: FieldTable::new().with(key, value),
    }
}

fn max_length(running: &Running) -> Option<u64> {
    running.vhost().queue("orders", CONNECTION).expect("it was declared").settings().max_length
}

#[test]
fn policies_come_back_from_the_journal_and_from_the_catalog() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let running = Running::open(folder.path());
    let vhost = running.vhost();
    let arguments = FieldTable::new();
    let declaration =
        QueueDeclaration { name: "orders", durable: true, exclusive: false, auto_delete: false, arguments };
    vhost.declare_queue(declaration, CONNECTION).expect("a queue");
    let exchange = ExchangeDeclaration {
        name: "orders",
        exchange_type: "direct",
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: FieldTable::new(),
    };
    vhost.declare_exchange(exchange).expect("an exchange");
    let set = |kind, policy| vhost.set_policy(kind, policy).expect("a policy");
    set(PolicyKind::Policy, policy("limit", "max-length", 50));
    set(PolicyKind::Policy, policy("gone", "max-length", 1));
    let alternate = FieldTable::new().with("alternate-exchange", "amq.fanout");
    let alternate =
        Policy { apply_to: ApplyTo::Exchanges, definition: alternate, ..policy("lost", "max-length", 1) };
    set(PolicyKind::Policy, alternate);
    set(PolicyKind::Operator, policy("cap", "max-length", 40));
    let position = vhost.clear_policy(PolicyKind::Policy, "gone").expect("it was set");
    running.wait_until_safe(position);
    // From the journal alone: the store ends without a word.
    drop((running, vhost));
    let running = Running::open(folder.path());
    assert_eq!(max_length(&running), Some(40));
    running.close();
    // From the catalog: the journal is empty.
    let running = Running::open(folder.path());
    assert_eq!(max_length(&running), Some(40));
    let vhost = running.vhost();
    let found =
        |kind| vhost.policies().of_kind(kind).iter().map(|one| one.policy.clone()).collect::<Vec<_>>();
    assert_eq!(found(PolicyKind::Operator), [policy("cap", "max-length", 40)]);
    assert_eq!(found(PolicyKind::Policy).len(), 2);
    let policies = vhost.exchange_policies("orders").expect("it was declared");
    assert_eq!(policies.policy_name(), Some("lost"));
    let position = vhost.clear_policy(PolicyKind::Operator, "cap").expect("it was set");
    running.wait_until_safe(position);
    drop((running, vhost));
    assert_eq!(max_length(&Running::open(folder.path())), Some(50));
}
