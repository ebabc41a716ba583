//! What the store is told of declarations, and what a vhost made anew from that has.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use bytes::Bytes;
use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::definition::BindingSpec;
use crate::exchange::destination::canonical;
use crate::message::MessageBatch;
use crate::names::QueueId;
use crate::queue::quorum::Returns;
use crate::store::{Block, BlockError, BlockLocation, Journaled, Store};

/// Remembers definitions, one position for each time it is told.
#[derive(Default)]
pub(super) struct RecordingStore {
    pub(super) told: Mutex<Vec<Vec<Definition>>>,
}

impl Store for RecordingStore {
    fn define(&self, changes: Vec<Definition>) -> JournalPosition {
        assert!(!changes.is_empty(), "the store is not told of nothing");
        // Gives other threads a chance to be told of first, if anything lets them.
        std::thread::yield_now();
        let mut told = self.told.lock();
        told.push(changes);
        JournalPosition(told.len() as u64)
    }

    fn share(&self, _messages: &MessageBatch) -> JournalPosition {
        JournalPosition::SAFE
    }

    fn publish(&self, _queue: QueueId, _first_position: u64, _batch: &MessageBatch) -> Journaled {
        Journaled { begins_at: JournalPosition::SAFE, safe_at: JournalPosition::SAFE }
    }

    fn settle(&self, _queue: QueueId, _positions: &[Range<u64>]) -> JournalPosition {
        JournalPosition::SAFE
    }

    fn returned(&self, _queue: QueueId, _returns: &[(u64, Returns)]) {}

    fn delivering(&self, _queue: QueueId, _position: u64) {}

    fn safe(&self) -> JournalPosition {
        JournalPosition::SAFE
    }

    fn when_safe(&self, _position: JournalPosition, _listener: Box<dyn FnOnce() + Send>) {}

    fn write_block(&self, _block: &Block<'_>) -> io::Result<BlockLocation> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_block(
        &self,
        _location: BlockLocation,
        _queue: QueueId,
        _first_position: u64,
    ) -> Result<Bytes, BlockError> {
        Err(io::Error::from(io::ErrorKind::Unsupported).into())
    }

    fn free_block(&self, _location: BlockLocation) {}

    fn forget_block(&self, _queue: QueueId, _first_position: u64) {}

    fn forget_queue(&self, _queue: QueueId) {}

    fn request_load(&self, _queue: Arc<Queue>) {}

    fn request_page_out(&self) {}
}

/// A vhost and what its store is told.
pub(super) struct Recorded {
    pub(super) vhost: Arc<Vhost>,
    pub(super) store: Arc<RecordingStore>,
}

impl Recorded {
    fn new() -> Self {
        let store = Arc::new(RecordingStore::default());
        let told: Arc<dyn Store> = Arc::<RecordingStore>::clone(&store);
        Self { vhost: Vhost::create("/".into(), Services::new(told)), store }
    }

    /// A vhost that was made, with its store told of that alone.
    pub(super) fn begun() -> Self {
        let recorded = Self::new();
        assert_eq!(recorded.told(), ["vhost /"]);
        recorded
    }

    /// What the store was told since the last time, each time in one line.
    pub(super) fn told(&self) -> Vec<String> {
        let told = std::mem::take(&mut *self.store.told.lock());
        told.iter().map(|changes| changes.iter().map(line).collect::<Vec<_>>().join("; ")).collect()
    }

    fn declare_exchange(&self, declaration: ExchangeDeclaration<'_>) {
        self.vhost.declare_exchange(declaration).unwrap();
    }
}

fn line(change: &Definition) -> String {
    match change {
        Definition::PutVhost(name, _) => format!("vhost {name}"),
        Definition::PutExchange(_, spec) => format!("exchange {}", spec.name),
        Definition::DeleteExchange(_, name) => format!("no exchange {name}"),
        Definition::PutQueue(_, spec) => format!("queue {}", spec.name),
        Definition::DeleteQueue(_, name) => format!("no queue {name}"),
        Definition::Bind(_, binding) => format!("bind {}", binding_line(binding)),
        Definition::Unbind(_, binding) => format!("unbind {}", binding_line(binding)),
        Definition::DeleteVhost(name) => format!("no vhost {name}"),
        Definition::PutPolicy(_, kind, policy) => format!("{kind:?} {}", policy.name),
        Definition::DeletePolicy(_, kind, name) => format!("no {kind:?} {name}"),
        of_access => format!("{of_access:?}"),
    }
}

fn binding_line(binding: &BindingSpec) -> String {
    let target = match &binding.target {
        BindingTarget::Queue(name) => format!("queue {name}"),
        BindingTarget::Exchange(name) => format!("exchange {name}"),
    };
    format!("{} {target} {}", binding.source, binding.routing_key)
}

fn durable<'a>(name: &'a str, exchange_type: &'a str) -> ExchangeDeclaration<'a> {
    ExchangeDeclaration { durable: true, ..exchange(name, exchange_type) }
}

#[test]
fn what_is_durable_is_told_once_when_it_is_declared() {
    let recorded = Recorded::begun();
    let vhost = &recorded.vhost;
    for _ in 0..2 {
        vhost.add_queues(&["q"]);
        recorded.declare_exchange(durable("x", "topic"));
        vhost.add_binding("x", &to_queue("q"), "k");
        vhost.add_binding("amq.direct", &to_exchange("x"), "l");
    }
    assert_eq!(
        recorded.told(),
        ["queue q", "exchange x", "bind x queue q k", "bind amq.direct exchange x l"],
        "standard exchanges are there anyway, bindings of theirs are not"
    );
    vhost.drop_binding("x", &to_queue("q"), "k");
    vhost.drop_binding("x", &to_queue("q"), "k");
    vhost.drop_queue("q").unwrap();
    vhost.drop_queue("q").unwrap();
    vhost.delete_exchange("x", false).unwrap();
    vhost.delete_exchange("x", false).unwrap();
    assert_eq!(
        recorded.told(),
        ["unbind x queue q k", "no queue q", "unbind amq.direct exchange x l; no exchange x"]
    );
}

#[test]
fn what_goes_with_the_broker_is_not_told() {
    let recorded = Recorded::begun();
    let vhost = &recorded.vhost;
    vhost.add_queue(QueueDeclaration { durable: false, ..queue("transient") }, OWNER);
    vhost.add_queue(QueueDeclaration { exclusive: true, ..queue("mine") }, OWNER);
    vhost.add_exchange("x", "direct");
    let _replies = vhost.open_reply_queue(OWNER);
    vhost.add_binding("amq.direct", &to_queue("transient"), "k");
    vhost.add_binding("amq.direct", &to_queue("mine"), "k");
    vhost.add_binding("amq.direct", &to_exchange("x"), "k");
    vhost.add_binding("x", &to_queue("mine"), "k");
    assert!(recorded.told().is_empty());
    vhost.add_queues(&["q"]);
    vhost.add_binding("x", &to_queue("q"), "k");
    assert_eq!(recorded.told(), ["queue q"], "a binding needs both ends");
    vhost.drop_queue("q").unwrap();
    assert_eq!(recorded.told(), ["no queue q"]);
    vhost.delete_exclusive_queues(&["mine".into()], OWNER);
    vhost.drop_queue("transient").unwrap();
    vhost.delete_exchange("x", false).unwrap();
    assert!(recorded.told().is_empty());
}

#[test]
fn what_goes_with_something_is_told_together_and_bindings_first() {
    let recorded = Recorded::begun();
    let vhost = &recorded.vhost;
    vhost.add_queues(&["q"]);
    for name in ["a", "b"] {
        recorded.declare_exchange(ExchangeDeclaration { auto_delete: true, ..durable(name, "fanout") });
    }
    vhost.add_binding("b", &to_queue("q"), "k");
    vhost.add_binding("a", &to_exchange("b"), "k");
    recorded.told();
    vhost.drop_queue("q").unwrap();
    assert_eq!(
        recorded.told(),
        ["unbind b queue q k; no queue q; unbind a exchange b k; no exchange b; no exchange a"]
    );
    recorded.declare_exchange(durable("self", "direct"));
    vhost.add_binding("self", &to_exchange("self"), "k");
    vhost.add_queues(&["q"]);
    vhost.add_binding("self", &to_queue("q"), "l");
    recorded.told();
    vhost.delete_exchange("self", false).unwrap();
    let told = recorded.told();
    let mut changes: Vec<_> = told[0].split("; ").collect();
    assert_eq!((told.len(), changes.pop()), (1, Some("no exchange self")));
    changes.sort_unstable();
    assert_eq!(changes, ["unbind self exchange self k", "unbind self queue q l"]);
}

#[test]
fn an_auto_delete_queue_is_told_when_its_last_consumer_goes() {
    let recorded = Recorded::begun();
    let vhost = &recorded.vhost;
    let queue = vhost.add_queue(QueueDeclaration { auto_delete: true, ..queue("q") }, OWNER);
    vhost.add_binding("amq.fanout", &to_queue("q"), "");
    let consumer = consume(&queue, &Arc::new(Idle::default()), false).unwrap();
    recorded.told();
    vhost.cancel_consumer(&queue, consumer);
    assert_eq!(recorded.told(), ["unbind amq.fanout queue q ; no queue q"]);
}

#[test]
fn an_answer_waits_for_what_it_says_whoever_asked_for_it() {
    let recorded = Recorded::new();
    let vhost = &recorded.vhost;
    assert_eq!(vhost.defined_at(), JournalPosition(1));
    let declare = |name| vhost.declare_queue(queue(name), OWNER).unwrap().1;
    assert_eq!(declare("q"), JournalPosition(2));
    assert_eq!(vhost.declare_exchange(durable("x", "direct")), Ok(JournalPosition(3)));
    let table = FieldTable::new();
    let bind = |source: &str| vhost.bind(source, &to_queue("q"), "k", &table, OWNER).unwrap();
    assert_eq!(bind("x"), JournalPosition(4));
    // What is so already is promised as well.
    assert_eq!((declare("q"), bind("x")), (JournalPosition(4), JournalPosition(4)));
    assert_eq!(vhost.declare_exchange(durable("x", "direct")), Ok(JournalPosition(4)));
    // What no disk is needed for waits for none.
    let transient = QueueDeclaration { durable: false, ..queue("t") };
    assert_eq!(vhost.declare_queue(transient, OWNER).unwrap().1, JournalPosition::SAFE);
    assert_eq!(vhost.declare_exchange(exchange("y", "direct")), Ok(JournalPosition::SAFE));
    assert_eq!(bind("y"), JournalPosition::SAFE);
    assert_eq!(vhost.unbind("y", &to_queue("q"), "k", &table, OWNER), Ok(JournalPosition::SAFE));
    assert_eq!(vhost.unbind("x", &to_queue("q"), "k", &table, OWNER), Ok(JournalPosition(5)));
    assert_eq!(vhost.delete_queue("q", OWNER, false, false), Ok((0, JournalPosition(6))));
    assert_eq!(vhost.delete_queue("q", OWNER, false, false), Ok((0, JournalPosition(6))));
    assert_eq!(vhost.delete_exchange("x", false), Ok(JournalPosition(7)));
    assert_eq!(vhost.delete_exchange("x", false), Ok(JournalPosition(7)));
}

#[test]
fn a_queue_that_was_deleted_and_declared_anew_is_not_deleted_again() {
    let recorded = Recorded::begun();
    let vhost = &recorded.vhost;
    vhost.add_queues(&["q"]);
    let old = vhost.queue("q", OWNER).unwrap();
    vhost.drop_queue("q").unwrap();
    vhost.add_queues(&["q"]);
    recorded.told();
    vhost.remove_queue(&old, false, false).unwrap();
    assert!(recorded.told().is_empty());
    assert!(vhost.queue("q", OWNER).is_ok());
}

#[test]
fn a_binding_that_cannot_be_restored_is_refused() {
    let Recorded { vhost, store } = Recorded::new();
    store.told.lock().clear();
    let binding = |source: &str, target, arguments| BindingSpec {
        source: source.into(),
        target,
        routing_key: "k".to_owned(),
        arguments,
    };
    let refused = |spec: &BindingSpec| text(vhost.restore_binding(spec));
    assert_eq!(refused(&binding("x", to_queue("q"), FieldTable::new())), "no exchange 'x' in vhost '/'");
    assert_eq!(refused(&binding("amq.topic", to_queue("q"), FieldTable::new())), "no queue 'q' in vhost '/'");
    assert_eq!(
        refused(&binding("amq.topic", to_exchange("x"), FieldTable::new())),
        "no exchange 'x' in vhost '/'"
    );
    let with = arguments("x-match", "some");
    assert!(refused(&binding("amq.headers", to_exchange("amq.topic"), with)).contains("x-match"));
    assert!(store.told.lock().is_empty());
}

#[test]
fn a_vhost_that_the_store_knows_is_not_told_again() {
    let store = Arc::new(RecordingStore::default());
    let told: Arc<dyn Store> = Arc::<RecordingStore>::clone(&store);
    let broker = crate::Broker::new(told);
    let restored = broker.restore_vhost("v");
    assert!(Arc::ptr_eq(&restored, &broker.create_vhost("v")));
    assert!(store.told.lock().is_empty());
    broker.create_vhost("w");
    broker.create_vhost("w");
    assert_eq!(store.told.lock().iter().flatten().map(line).collect::<Vec<_>>(), ["vhost w"]);
}

/// What a store has after the changes it was told.
#[derive(Default)]
struct Kept {
    exchanges: BTreeMap<ExchangeName, crate::exchange::ExchangeSpec>,
    queues: BTreeMap<QueueName, QueueSpec>,
    bindings: BTreeMap<String, BindingSpec>,
}

impl Kept {
    /// Each change changes something: what is put is not there, what is deleted is.
    fn apply(&mut self, change: &Definition) {
        let key =
            |binding: &BindingSpec| format!("{} {:?}", binding_line(binding), canonical(&binding.arguments));
        let is_change = match change.clone() {
            Definition::PutVhost(..) => true,
            Definition::PutExchange(_, spec) => self.exchanges.insert(spec.name.clone(), spec).is_none(),
            Definition::DeleteExchange(_, name) => self.exchanges.remove(&name).is_some(),
            Definition::PutQueue(_, spec) => self.queues.insert(spec.name.clone(), spec).is_none(),
            Definition::DeleteQueue(_, name) => self.queues.remove(&name).is_some(),
            Definition::Bind(_, binding) => self.bindings.insert(key(&binding), binding).is_none(),
            Definition::Unbind(_, binding) => self.bindings.remove(&key(&binding)).is_some(),
            _ => false,
        };
        assert!(is_change, "out of order: {change:?}");
    }

    /// A vhost made of what is kept, and the store that must not hear of it.
    fn restored(self) -> Recorded {
        let store = Arc::new(RecordingStore::default());
        let told: Arc<dyn Store> = Arc::<RecordingStore>::clone(&store);
        let vhost = Vhost::new("/".into(), Services::new(told));
        for spec in self.exchanges.into_values() {
            vhost.restore_exchange(spec).expect("it was declared");
        }
        for spec in self.queues.into_values() {
            vhost.restore_queue(QueueId::next(), spec, Vec::new());
        }
        for binding in self.bindings.values() {
            vhost.restore_binding(binding).expect("its ends are there");
        }
        Recorded { vhost, store }
    }
}

/// The part of a vhost that is durable, as lines.
fn durable_part(vhost: &Vhost) -> BTreeSet<String> {
    let exchanges = vhost.exchanges().into_iter().filter(|spec| spec.durable);
    let exchanges: Vec<_> = exchanges.map(|spec| (spec.name.clone(), format!("{spec:?}"))).collect();
    let is_durable = |destination: &crate::exchange::destination::Destination| match destination {
        crate::exchange::destination::Destination::Queue(queue) => queue.spec.is_kept(),
        crate::exchange::destination::Destination::Exchange(name) => {
            exchanges.iter().any(|(exchange, _)| exchange == name)
        }
    };
    let bindings = vhost.bindings().into_iter().filter(|binding| {
        is_durable(&binding.destination) && exchanges.iter().any(|(exchange, _)| *exchange == binding.source)
    });
    let bindings: Vec<_> = bindings.map(|binding| format!("{binding:?}")).collect();
    let queues = vhost.queues().into_iter().filter(|queue| queue.spec.is_kept());
    let queues: Vec<_> = queues.map(|queue| format!("{:?}", queue.spec)).collect();
    exchanges.into_iter().map(|(_, line)| line).chain(bindings).chain(queues).collect()
}

#[derive(Clone, Debug)]
enum Operation {
    DeclareQueue { name: usize, durable: bool, exclusive: bool },
    DeclareExchange { name: usize, durable: bool, auto_delete: bool, headers: bool },
    DeleteQueue(usize),
    DeleteExchange(usize),
    Bind { source: usize, target: usize, key: usize, with: usize },
    Unbind { source: usize, target: usize, key: usize, with: usize },
}

const QUEUES: [&str; 3] = ["q0", "q1", "q2"];
const EXCHANGES: [&str; 5] = ["x0", "x1", "x2", "amq.topic", "amq.headers"];
const KEYS: [&str; 2] = ["a.b", "#"];

fn operations() -> impl Strategy<Value = Operation> {
    let any_bool = any::<bool>;
    let ends = || (0..5_usize, 0..8_usize, 0..2_usize, 0..3_usize);
    prop_oneof![
        (0..3_usize, any_bool(), any_bool())
            .prop_map(|(name, durable, exclusive)| { Operation::DeclareQueue { name, durable, exclusive } }),
        (0..3_usize, any_bool(), any_bool(), any_bool()).prop_map(|(name, durable, auto_delete, headers)| {
            Operation::DeclareExchange { name, durable, auto_delete, headers }
        }),
        (0..3_usize).prop_map(Operation::DeleteQueue),
        (0..3_usize).prop_map(Operation::DeleteExchange),
        ends().prop_map(|(source, target, key, with)| Operation::Bind { source, target, key, with }),
        ends().prop_map(|(source, target, key, with)| Operation::Bind { source, target, key, with }),
        ends().prop_map(|(source, target, key, with)| Operation::Unbind { source, target, key, with }),
    ]
}

fn target(index: usize) -> BindingTarget {
    match QUEUES.get(index) {
        Some(queue) => to_queue(queue),
        None => to_exchange(EXCHANGES[index - QUEUES.len()]),
    }
}

fn table(index: usize) -> FieldTable {
    [FieldTable::new(), arguments("z", 1_i32).with("a", "text"), arguments("x-match", "any")][index].clone()
}

/// Does it, or is refused: both leave the store knowing what there is.
fn perform(vhost: &Vhost, operation: &Operation) {
    match *operation {
        Operation::DeclareQueue { name, durable, exclusive } => {
            let declaration = QueueDeclaration { durable, exclusive, ..queue(QUEUES[name]) };
            drop(vhost.declare_queue(declaration, OWNER));
        }
        Operation::DeclareExchange { name, durable, auto_delete, headers } => {
            let exchange = exchange(EXCHANGES[name], if headers { "headers" } else { "topic" });
            drop(vhost.declare_exchange(ExchangeDeclaration { durable, auto_delete, ..exchange }));
        }
        Operation::DeleteQueue(name) => drop(vhost.drop_queue(QUEUES[name])),
        Operation::DeleteExchange(name) => drop(vhost.delete_exchange(EXCHANGES[name], false)),
        Operation::Bind { source, target: to, key, with } => {
            drop(vhost.bind(EXCHANGES[source], &target(to), KEYS[key], &table(with), OWNER));
        }
        Operation::Unbind { source, target: to, key, with } => {
            drop(vhost.unbind(EXCHANGES[source], &target(to), KEYS[key], &table(with), OWNER));
        }
    }
}

impl Operation {
    fn random(random: &mut fastrand::Rng) -> Self {
        let ends = [random.usize(..5), random.usize(..8), random.usize(..2), random.usize(..3)];
        let [source, target, key, with] = ends;
        let name = random.usize(..3);
        let (durable, auto_delete, headers) = (random.u8(..4) > 0, random.bool(), random.bool());
        match random.u8(..8) {
            0 => Self::DeclareQueue { name, durable, exclusive: false },
            1 => Self::DeclareExchange { name, durable, auto_delete, headers },
            2 => Self::DeleteQueue(name),
            3 => Self::DeleteExchange(name),
            4 => Self::Unbind { source, target, key, with },
            _ => Self::Bind { source, target, key, with },
        }
    }
}

#[test]
fn the_store_is_told_in_the_order_in_which_it_happens_whoever_does_it() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    for round in 0..30 {
        let recorded = Recorded::new();
        let begin = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (vhost, begin) = (&recorded.vhost, &begin);
                let mut random = fastrand::Rng::with_seed(seed.wrapping_add(round * 4 + thread));
                scope.spawn(move || {
                    begin.wait();
                    (0..500).for_each(|_| perform(vhost, &Operation::random(&mut random)));
                });
            }
        });
        let mut kept = Kept::default();
        recorded.store.told.lock().iter().flatten().for_each(|change| kept.apply(change));
        assert_eq!(durable_part(&kept.restored().vhost), durable_part(&recorded.vhost), "seed {seed}");
    }
}

proptest! {
    #[test]
    fn a_vhost_made_of_what_the_store_was_told_has_what_was_durable(
        operations in prop::collection::vec(operations(), 1..60),
    ) {
        let recorded = Recorded::new();
        operations.iter().for_each(|operation| perform(&recorded.vhost, operation));
        let mut kept = Kept::default();
        recorded.store.told.lock().iter().flatten().for_each(|change| kept.apply(change));
        let restored = kept.restored();
        prop_assert_eq!(durable_part(&restored.vhost), durable_part(&recorded.vhost));
        prop_assert!(restored.store.told.lock().is_empty());
    }
}
