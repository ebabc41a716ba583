//! What may be declared, bound and deleted, in RabbitMQ's words where it is refused, and where messages
//! then go.

mod definitions;
mod letters;
mod mortality;
mod policies;
mod types;
mod unique;

use std::sync::atomic::{AtomicUsize, Ordering};

use leveret_codec::table::{FieldTable, FieldValue};

use super::*;
use crate::access::user::VhostLimits;
use crate::delivery::{DeliverySink, DeliverySource, SinkState};
use crate::exchange::BindingTarget;
use crate::limits::ROUTE_EXCHANGES_MAX;
use crate::names::ExchangeName;
use crate::queue::{ConsumerHolder, ConsumerSpec};
use crate::store::MemoryStore;

const OWNER: ConnectionId = ConnectionId(1_000_001);
const STRANGER: ConnectionId = ConnectionId(1_000_002);

fn vhost() -> Arc<Vhost> {
    Vhost::new("/".into(), Services::new(Arc::new(MemoryStore::default())))
}

fn queue(name: &str) -> QueueDeclaration<'_> {
    QueueDeclaration {
        name,
        durable: true,
        exclusive: false,
        auto_delete: false,
        arguments: FieldTable::new(),
    }
}

fn exchange<'a>(name: &'a str, exchange_type: &'a str) -> ExchangeDeclaration<'a> {
    ExchangeDeclaration {
        name,
        exchange_type,
        durable: false,
        auto_delete: false,
        internal: false,
        arguments: FieldTable::new(),
    }
}

fn arguments(key: &str, value: impl Into<FieldValue>) -> FieldTable {
    FieldTable::new().with(key, value)
}

fn to_queue(name: &str) -> BindingTarget {
    BindingTarget::Queue(name.into())
}

fn to_exchange(name: &str) -> BindingTarget {
    BindingTarget::Exchange(name.into())
}

fn text<T>(result: Result<T, BrokerError>) -> String {
    result.err().expect("refused").to_string()
}

#[test]
fn what_could_not_be_read_or_named_again_is_refused() {
    use crate::policy::{ApplyTo, Policy, PolicyKind};
    let vhost = vhost();
    let deep =
        (0..70).fold(FieldTable::new(), |inner, _| FieldTable::new().with("federation-upstream", inner));
    let long = "n".repeat(256);
    let policy = |name: &str, definition: FieldTable| {
        let policy = Policy {
            name: name.to_owned(),
            pattern: String::new(),
            apply_to: ApplyTo::All,
            priority: 0,
            definition,
        };
        text(vhost.set_policy(PolicyKind::Policy, policy))
    };
    let with =
        |declaration: QueueDeclaration<'static>| QueueDeclaration { arguments: deep.clone(), ..declaration };
    let refused = vhost.declare_queue(with(queue("q")), OWNER).map(|_| ());
    assert_eq!(text(refused), "arguments of a queue are nested deeper than 64 levels");
    let of_exchange = ExchangeDeclaration { arguments: deep.clone(), ..exchange("e", "topic") };
    let refused = vhost.declare_exchange(of_exchange);
    assert_eq!(text(refused), "arguments of an exchange are nested deeper than 64 levels");
    let refused = vhost.bind("amq.topic", &to_queue("q"), "", &deep, OWNER);
    assert_eq!(text(refused), "arguments of a binding are nested deeper than 64 levels");
    assert_eq!(policy("p", deep), "values of a policy are nested deeper than 64 levels");

    let refused = vhost.declare_queue(queue(&long), OWNER).map(|_| ());
    assert_eq!(text(refused), "queue should be less than 255 bytes, actually was 256");
    let refused = vhost.declare_exchange(exchange(&long, "topic"));
    assert_eq!(text(refused), "exchange should be less than 255 bytes, actually was 256");
    let refused = vhost.bind("amq.topic", &to_queue("q"), &long, &FieldTable::new(), OWNER);
    assert_eq!(text(refused), "routing key should be less than 255 bytes, actually was 256");
    let definition = arguments("max-length", 1_i64);
    assert_eq!(policy(&long, definition), "policy should be less than 255 bytes, actually was 256");
}

#[test]
fn arguments_that_would_take_much_memory_are_refused() {
    let vhost = vhost();
    let values = |count: usize| FieldTable::new().with("x-values", vec![FieldValue::Void; count - 1]);
    let octets = |count: usize| FieldTable::new().with("o", "x".repeat(count).as_str());
    let refusal = |what: &str| format!("{what} are more than 1024 values, or longer than 65536 octets");
    // Key, type and length take seven.
    for arguments in [values(1025), octets(65_536 - 7 + 1)] {
        let declaration = QueueDeclaration { arguments: arguments.clone(), ..queue("q") };
        assert_eq!(
            text(vhost.declare_queue(declaration, OWNER).map(|_| ())),
            refusal("arguments of a queue")
        );
        let declaration = ExchangeDeclaration { arguments: arguments.clone(), ..exchange("e", "topic") };
        assert_eq!(text(vhost.declare_exchange(declaration)), refusal("arguments of an exchange"));
        let refused = vhost.bind("amq.topic", &to_queue("q"), "", &arguments, OWNER);
        assert_eq!(text(refused), refusal("arguments of a binding"));
    }
    for (number, arguments) in [values(1024), octets(65_536 - 7)].into_iter().enumerate() {
        let name = format!("taken-{number}");
        vhost.add_queue(QueueDeclaration { arguments: arguments.clone(), ..queue(&name) }, OWNER);
        let declaration = ExchangeDeclaration { arguments: arguments.clone(), ..exchange(&name, "topic") };
        vhost.declare_exchange(declaration).unwrap();
        vhost.bind(&name, &to_queue(&name), "", &arguments, OWNER).unwrap();
    }
}

/// A message with many routing keys, against patterns that take long.
#[test]
fn looking_for_many_keys_does_not_keep_others_from_the_topology() {
    let vhost = vhost();
    vhost.add_exchange("topics", "topic");
    vhost.add_queues(&["dense", "last"]);
    // Every way to put `#` or `*` in eight places.
    for number in 0..256_u32 {
        let words = (0..8).map(|place| if number >> place & 1 == 0 { "#" } else { "*" });
        vhost.add_binding("topics", &to_queue("dense"), &words.collect::<Vec<_>>().join("."));
    }
    vhost.add_binding("topics", &to_queue("last"), "last");
    let long: Vec<String> = (0..120).map(|number| format!("{}.{number}", ["w"; 120].join("."))).collect();
    let mut keys: Vec<&str> = long.iter().map(String::as_str).collect();
    keys.push("last");
    let (is_begun, has_ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            is_begun.store(1, Ordering::SeqCst);
            assert_eq!(vhost.reached("topics", &keys), (names(&["dense", "last"]), true));
            has_ended.store(1, Ordering::SeqCst);
        });
        while is_begun.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        for number in 0..4 {
            vhost.add_exchange(&format!("other-{number}"), "fanout");
        }
        assert_eq!(has_ended.load(Ordering::SeqCst), 0, "it was waited for");
    });
}

/// What messages are published with later must be what was permitted.
#[test]
fn names_in_arguments_that_are_none_are_refused() {
    let vhost = vhost();
    let value = |octets: &[u8]| FieldValue::LongString(octets.to_vec());
    let bad: [(&[u8], &str); 2] =
        [(b"a\xffb", "\"not UTF-8\""), (&[b'x'; 256], "\"longer than 255 octets\"")];
    for (octets, reason) in bad {
        let dead = FieldTable::new().with("x-dead-letter-exchange", value(octets));
        let key = FieldTable::new()
            .with("x-dead-letter-exchange", "")
            .with("x-dead-letter-routing-key", value(octets));
        for (argument, arguments) in [("x-dead-letter-exchange", dead), ("x-dead-letter-routing-key", key)] {
            let refused =
                vhost.declare_queue(QueueDeclaration { arguments, ..queue("q") }, OWNER).map(|_| ());
            assert_eq!(
                text(refused),
                format!("invalid arg '{argument}' for queue 'q' in vhost '/': {reason}")
            );
        }
        let arguments = FieldTable::new().with("alternate-exchange", value(octets));
        let refused = vhost.declare_exchange(ExchangeDeclaration { arguments, ..exchange("e", "topic") });
        let expected = format!("invalid arg 'alternate-exchange' for exchange 'e' in vhost '/': {reason}");
        assert_eq!(text(refused), expected);
    }
    assert!(vhost.queue("q", OWNER).is_err() && !vhost.has_exchange("e"));
    let longest = value(&[b'x'; 255]);
    let arguments = FieldTable::new()
        .with("x-dead-letter-exchange", longest.clone())
        .with("x-dead-letter-routing-key", longest.clone());
    vhost.add_queue(QueueDeclaration { arguments, ..queue("q") }, OWNER);
    let arguments = FieldTable::new().with("alternate-exchange", longest);
    vhost.declare_exchange(ExchangeDeclaration { arguments, ..exchange("e", "topic") }).unwrap();
}

#[test]
fn queues_declared_at_once_are_no_more_than_the_limit() {
    for limit in 1..20 {
        let vhost = vhost();
        let limits = VhostLimits { max_queues: Some(limit), ..VhostLimits::default() };
        vhost.restore_settings(VhostSettings { limits, ..VhostSettings::default() });
        let declare = |thread: i64| {
            let vhost = &vhost;
            move || {
                let names = (0..limit).map(|number| format!("{thread}-{number}"));
                names.filter(|name| vhost.declare_queue(queue(name), OWNER).is_ok()).count()
            }
        };
        let made: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|thread| scope.spawn(declare(thread))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((made, vhost.queues().len()), (limit as usize, limit as usize));
    }
}

impl Vhost {
    fn add_queue(&self, declaration: QueueDeclaration<'_>, connection: ConnectionId) -> Arc<Queue> {
        self.declare_queue(declaration, connection).unwrap().0
    }

    fn add_queues(&self, names: &[&str]) {
        for name in names {
            self.add_queue(queue(name), OWNER);
        }
    }

    /// How many ready messages were lost with the queue.
    fn drop_queue(&self, name: &str) -> Result<usize, BrokerError> {
        self.delete_queue(name, OWNER, false, false).map(|(ready, _)| ready)
    }

    fn add_exchange(&self, name: &str, exchange_type: &str) {
        self.declare_exchange(exchange(name, exchange_type)).unwrap();
    }

    fn add_with_alternate(&self, name: &str, alternate: &str) {
        let arguments = arguments("alternate-exchange", alternate);
        self.declare_exchange(ExchangeDeclaration { arguments, ..exchange(name, "direct") }).unwrap();
    }

    fn add_binding(&self, source: &str, target: &BindingTarget, key: &str) {
        self.bind(source, target, key, &FieldTable::new(), OWNER).unwrap();
    }

    fn drop_binding(&self, source: &str, target: &BindingTarget, key: &str) {
        self.unbind(source, target, key, &FieldTable::new(), OWNER).unwrap();
    }

    /// Names of the queues a message reaches, sorted, and whether it counts as routed.
    fn reached(&self, exchange: &str, keys: &[&str]) -> (Vec<String>, bool) {
        let route = self.route(exchange, &Addressing::new(keys, &[])).unwrap();
        let mut names: Vec<_> = route.queues.iter().map(|queue| queue.spec.name.to_string()).collect();
        names.sort();
        (names, route.routed)
    }

    fn has_exchange(&self, name: &str) -> bool {
        self.find_exchange(name).is_ok()
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Counts cancellations and takes no message.
#[derive(Default)]
struct Idle(AtomicUsize);

impl DeliverySink for Idle {
    fn deliver(&self, _source: &mut DeliverySource<'_>) -> SinkState {
        SinkState::Parked
    }

    fn cancel(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn consume(queue: &Queue, sink: &Arc<Idle>, exclusive: bool) -> Result<ConsumerId, BrokerError> {
    let id = ConsumerId::next();
    let sink: Arc<dyn DeliverySink> = Arc::<Idle>::clone(sink);
    let holder = ConsumerHolder { connection: OWNER, channel: 1, tag: "c".into() };
    let (no_ack, prefetch, priority, arguments) = (true, 0, 0, Box::default());
    queue
        .consume(ConsumerSpec { id, holder, sink, no_ack, exclusive, prefetch, priority, arguments })
        .map(|()| id)
}

const LOCKED: &str = "cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally \
                      declared on another connection or the exclusive property value does not match that of \
                      the original declaration.";

#[test]
fn a_queue_is_declared_again_with_equal_properties_alone() {
    let vhost = vhost();
    let first = vhost.add_queue(queue("q"), OWNER);
    let again = vhost.add_queue(queue("q"), STRANGER);
    assert_eq!(first.id, again.id);
    assert_eq!(
        text(vhost.declare_queue(QueueDeclaration { durable: false, ..queue("q") }, OWNER)),
        "inequivalent arg 'durable' for queue 'q' in vhost '/': received 'false' but current is 'true'"
    );
    assert_eq!(
        text(vhost.declare_queue(QueueDeclaration { auto_delete: true, ..queue("q") }, OWNER)),
        "inequivalent arg 'auto_delete' for queue 'q' in vhost '/': received 'true' but current is 'false'"
    );
    let both = QueueDeclaration { durable: false, auto_delete: true, ..queue("q") };
    assert!(text(vhost.declare_queue(both, OWNER)).starts_with("inequivalent arg 'durable'"));
    assert_eq!(text(vhost.declare_queue(QueueDeclaration { exclusive: true, ..queue("q") }, OWNER)), LOCKED);
}

#[test]
fn arguments_of_a_queue_are_compared_where_they_have_a_meaning() {
    let vhost = vhost();
    vhost.add_queues(&["q"]);
    let with = |arguments| QueueDeclaration { arguments, ..queue("q") };
    vhost.declare_queue(with(arguments("x-queue-type", "classic")), OWNER).unwrap();
    vhost.declare_queue(with(arguments("x-nobody-knows", 5_i32)), OWNER).unwrap();
    assert_eq!(
        text(vhost.declare_queue(with(arguments("x-max-priority", 10_i32)), OWNER)),
        "inequivalent arg 'x-max-priority' for queue 'q' in vhost '/': \
         received the value '10' of type 'signedint' but current is none"
    );
    assert_eq!(
        text(vhost.declare_queue(with(arguments("x-queue-type", "quorum")), OWNER)),
        "inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received 'quorum' but current is 'classic'"
    );
    let new = |arguments| QueueDeclaration { arguments, ..queue("new") };
    assert_eq!(
        text(vhost.declare_queue(new(arguments("x-queue-type", "foo")), OWNER)),
        "invalid arg 'x-queue-type' for queue 'new' in vhost '/': \"unsupported queue type 'foo'\""
    );
    assert!(vhost.queue("new", OWNER).is_err());
}

#[test]
fn reserved_names_are_refused_and_empty_ones_are_made() {
    let vhost = vhost();
    assert_eq!(
        text(vhost.declare_queue(queue("amq.foo"), OWNER)),
        "queue name 'amq.foo' contains reserved prefix 'amq.*'"
    );
    let made = vhost.add_queue(queue(""), OWNER);
    let name = made.spec.name.as_str();
    assert!(name.starts_with("amq.gen-") && name.len() == 30, "{name}");
    // COMPAT: even though it exists.
    assert!(text(vhost.declare_queue(queue(name), OWNER)).ends_with("contains reserved prefix 'amq.*'"));
    assert!(vhost.queue(name, STRANGER).is_ok());
    assert_eq!(
        text(vhost.declare_exchange(exchange("amq.foo", "direct"))),
        "exchange name 'amq.foo' contains reserved prefix 'amq.*'"
    );
    let standard = ExchangeDeclaration { durable: true, ..exchange("amq.topic", "topic") };
    vhost.declare_exchange(standard).unwrap();
}

#[test]
fn an_exclusive_queue_is_its_owners_alone() {
    let vhost = vhost();
    let exclusive = || QueueDeclaration { exclusive: true, ..queue("q") };
    let mine = vhost.add_queue(exclusive(), OWNER);
    assert!(!mine.spec.durable, "exclusive queues are not durable");
    vhost.declare_queue(QueueDeclaration { durable: false, ..exclusive() }, OWNER).unwrap();
    assert_eq!(text(vhost.declare_queue(queue("q"), OWNER)), LOCKED, "the flag is left out");
    assert_eq!(text(vhost.declare_queue(exclusive(), STRANGER)), LOCKED);
    assert_eq!(text(vhost.queue("q", STRANGER)), LOCKED);
    assert_eq!(text(vhost.delete_queue("q", STRANGER, false, false)), LOCKED);
    let table = FieldTable::new();
    assert_eq!(text(vhost.bind("amq.direct", &to_queue("q"), "k", &table, STRANGER)), LOCKED);
    vhost.unbind("amq.direct", &to_queue("q"), "k", &table, STRANGER).unwrap();
    vhost.add_binding("amq.direct", &to_queue("q"), "k");
    assert_eq!(text(vhost.unbind("amq.direct", &to_queue("q"), "k", &table, STRANGER)), LOCKED);
    assert_eq!(vhost.reached("amq.direct", &["k"]), (names(&["q"]), true), "anybody publishes to it");

    let name = QueueName::from("q");
    vhost.delete_exclusive_queues(std::slice::from_ref(&name), STRANGER);
    assert!(vhost.queue("q", OWNER).is_ok());
    vhost.delete_exclusive_queues(&[name], OWNER);
    assert_eq!(text(vhost.queue("q", OWNER)), "no queue 'q' in vhost '/'");
    assert!(vhost.bindings().is_empty());
}

#[test]
fn an_exclusive_queue_that_was_declared_anew_by_another_outlives_its_old_owner() {
    let vhost = vhost();
    let exclusive = || QueueDeclaration { exclusive: true, ..queue("q") };
    vhost.declare_queue(exclusive(), OWNER).unwrap();
    vhost.delete_queue("q", OWNER, false, false).unwrap();
    vhost.declare_queue(exclusive(), STRANGER).unwrap();
    vhost.delete_exclusive_queues(&["q".into()], OWNER);
    assert!(vhost.queue("q", STRANGER).is_ok());
}

#[test]
fn deleting_a_queue_heeds_its_conditions() {
    let vhost = vhost();
    assert_eq!(vhost.delete_queue("missing", OWNER, true, true), Ok((0, JournalPosition::SAFE)));
    let queue = vhost.add_queue(queue("q"), OWNER);
    let sink = Arc::new(Idle::default());
    consume(&queue, &sink, false).unwrap();
    assert_eq!(text(vhost.delete_queue("q", OWNER, true, true)), "queue 'q' in vhost '/' in use");
    let mut batch = crate::MessageBatch::default();
    let body = crate::message::Body::Small(b"x");
    batch.push(&crate::MessageView {
        names: b"\0\x01q",
        properties: b"\0\0",
        body,
        persistent: false,
        extras: b"",
    });
    queue.publish(&mut batch);
    assert_eq!(text(vhost.delete_queue("q", OWNER, true, true)), "queue 'q' in vhost '/' not empty");
    assert_eq!(vhost.drop_queue("q"), Ok(1));
    assert_eq!(sink.0.load(Ordering::Relaxed), 1, "the consumer is told once");
    assert_eq!(text(vhost.queue("q", OWNER)), "no queue 'q' in vhost '/'");
    assert_eq!(text(queue.purge()), "no queue 'q' in vhost '/'");
}

#[test]
fn an_exclusive_consumer_is_alone() {
    let vhost = vhost();
    let queue = vhost.add_queue(queue("q"), OWNER);
    let sink = Arc::new(Idle::default());
    let first = consume(&queue, &sink, false).unwrap();
    assert_eq!(text(consume(&queue, &sink, true)), "queue 'q' in vhost '/' in exclusive use");
    vhost.cancel_consumer(&queue, first);
    let exclusive = consume(&queue, &sink, true).unwrap();
    assert_eq!(text(consume(&queue, &sink, false)), "queue 'q' in vhost '/' in exclusive use");
    vhost.cancel_consumer(&queue, exclusive);
    consume(&queue, &sink, false).unwrap();
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer() {
    let vhost = vhost();
    let queue = vhost.add_queue(QueueDeclaration { auto_delete: true, ..queue("q") }, OWNER);
    vhost.cancel_consumer(&queue, ConsumerId::next());
    assert!(vhost.queue("q", OWNER).is_ok(), "it never had a consumer");
    let sink = Arc::new(Idle::default());
    let (one, two) = (consume(&queue, &sink, false).unwrap(), consume(&queue, &sink, false).unwrap());
    vhost.cancel_consumer(&queue, one);
    vhost.cancel_consumer(&queue, one);
    assert!(vhost.queue("q", OWNER).is_ok());
    vhost.cancel_consumer(&queue, two);
    assert!(vhost.queue("q", OWNER).is_err());
    assert_eq!(sink.0.load(Ordering::Relaxed), 0, "a client that cancels is not cancelled");
}

#[test]
fn an_exchange_is_declared_again_with_equal_properties_alone() {
    let vhost = vhost();
    vhost.add_exchange("x", "direct");
    vhost.add_exchange("x", "direct");
    let expect = |declaration, what: &str| {
        let expected = format!("inequivalent arg {what}");
        assert_eq!(text(vhost.declare_exchange(declaration)), expected);
    };
    expect(
        exchange("x", "topic"),
        "'type' for exchange 'x' in vhost '/': received 'topic' but current is 'direct'",
    );
    expect(
        ExchangeDeclaration { durable: true, auto_delete: true, ..exchange("x", "direct") },
        "'durable' for exchange 'x' in vhost '/': received 'true' but current is 'false'",
    );
    expect(
        ExchangeDeclaration { auto_delete: true, ..exchange("x", "direct") },
        "'auto_delete' for exchange 'x' in vhost '/': received 'true' but current is 'false'",
    );
    expect(
        ExchangeDeclaration { internal: true, ..exchange("x", "direct") },
        "'internal' for exchange 'x' in vhost '/': received 'true' but current is 'false'",
    );
    let with = |arguments| ExchangeDeclaration { arguments, ..exchange("x", "direct") };
    vhost.declare_exchange(with(arguments("unknown", 1_i32))).unwrap();
    expect(
        with(arguments("alternate-exchange", 5_i32)),
        "'alternate-exchange' for exchange 'x' in vhost '/': \
         received the value '5' of type 'signedint' but current is none",
    );
    vhost.add_with_alternate("y", "a");
    let with = |arguments| ExchangeDeclaration { arguments, ..exchange("y", "direct") };
    expect(
        with(arguments("alternate-exchange", "b")),
        "'alternate-exchange' for exchange 'y' in vhost '/': received 'b' but current is 'a'",
    );
    expect(
        with(FieldTable::new()),
        "'alternate-exchange' for exchange 'y' in vhost '/': \
         received none but current is the value 'a' of type 'longstr'",
    );
}

#[test]
fn reasons_to_refuse_an_exchange_are_looked_at_in_order() {
    let vhost = vhost();
    let denied = "operation not permitted on the default exchange";
    assert_eq!(text(vhost.declare_exchange(exchange("", "foo"))), "unknown exchange type 'foo'");
    assert_eq!(text(vhost.declare_exchange(exchange("", "direct"))), denied);
    assert_eq!(text(vhost.find_exchange("")), denied);
    assert_eq!(text(vhost.find_exchange("x")), "no exchange 'x' in vhost '/'");
    let bad = |name| ExchangeDeclaration {
        arguments: arguments("alternate-exchange", 5_i32),
        ..exchange(name, "direct")
    };
    assert_eq!(
        text(vhost.declare_exchange(bad("amq.x"))),
        "exchange name 'amq.x' contains reserved prefix 'amq.*'"
    );
    assert_eq!(
        text(vhost.declare_exchange(bad("x"))),
        "invalid type 'signedint' for arg 'alternate-exchange' in exchange 'x' in vhost '/'"
    );
}

#[test]
fn deleting_an_exchange_heeds_its_conditions() {
    let vhost = vhost();
    assert_eq!(text(vhost.delete_exchange("", false)), "operation not permitted on the default exchange");
    for name in ["amq.direct", "amq.missing"] {
        assert_eq!(
            text(vhost.delete_exchange(name, false)),
            format!("deletion of system exchange '{name}' in vhost '/' not allowed")
        );
    }
    vhost.delete_exchange("missing", true).unwrap();
    vhost.add_exchange("x", "direct");
    vhost.add_exchange("y", "direct");
    vhost.add_binding("x", &to_exchange("y"), "k");
    assert_eq!(text(vhost.delete_exchange("x", true)), "exchange 'x' in vhost '/' in use");
    vhost.delete_exchange("y", true).unwrap();
    assert!(vhost.bindings().is_empty(), "only bindings as a source are use");
    vhost.delete_exchange("x", true).unwrap();
}

#[test]
fn ends_of_a_binding_are_checked_in_order() {
    let vhost = vhost();
    vhost.add_queues(&["q"]);
    let table = FieldTable::new();
    let refused =
        |source: &str, target: BindingTarget| text(vhost.bind(source, &target, "k", &table, STRANGER));
    let denied = "operation not permitted on the default exchange";
    assert_eq!(refused("", to_queue("missing")), denied);
    assert_eq!(refused("missing", to_exchange("")), denied);
    assert_eq!(refused("x", to_queue("missing")), "no exchange 'x' in vhost '/'");
    assert_eq!(refused("amq.direct", to_queue("missing")), "no queue 'missing' in vhost '/'");
    assert_eq!(refused("amq.direct", to_exchange("y")), "no exchange 'y' in vhost '/'");
    assert_eq!(text(vhost.unbind("", &to_queue("missing"), "k", &table, OWNER)), denied);
    assert_eq!(text(vhost.unbind("missing", &to_exchange(""), "k", &table, OWNER)), denied);
    for name in ["amq.rabbitmq.reply-to", "amq.rabbitmq.reply-to.abc"] {
        assert_eq!(
            refused("amq.direct", to_queue(name)),
            "cannot bind or unbind to a volatile (direct reply-to) queue"
        );
    }
    let bad = arguments("x-match", "foo");
    assert_eq!(
        text(vhost.bind("amq.headers", &to_queue("q"), "", &bad, OWNER)),
        "Invalid x-match field value <<\"foo\">>; expected all, any, all-with-x, or any-with-x"
    );
    let bad = arguments("x-match", 5_i32);
    assert_eq!(
        text(vhost.bind("amq.headers", &to_queue("q"), "", &bad, OWNER)),
        "Invalid x-match field type signedint (value 5); expected longstr"
    );
    assert!(vhost.bindings().is_empty());
}

#[test]
fn binding_and_unbinding_twice_is_as_once() {
    let vhost = vhost();
    vhost.add_queues(&["q"]);
    for exchange in ["amq.direct", "amq.fanout", "amq.topic", "amq.headers"] {
        let (one, two) = (FieldTable::new().with("a", 1_i32).with("b", 2_i32), arguments("a", 1_i32));
        let reordered = FieldTable::new().with("b", 2_i32).with("a", 1_i32);
        for table in [&one, &one, &reordered, &two] {
            vhost.bind(exchange, &to_queue("q"), "k", table, OWNER).unwrap();
        }
        assert_eq!(vhost.bindings().len(), 2, "{exchange}: arguments in another order are the same");
        vhost.unbind(exchange, &to_queue("q"), "other", &one, OWNER).unwrap();
        vhost.unbind(exchange, &to_queue("q"), "k", &FieldTable::new(), OWNER).unwrap();
        assert_eq!(vhost.bindings().len(), 2, "{exchange}: neither was bound");
        for table in [&reordered, &one, &two, &two] {
            vhost.unbind(exchange, &to_queue("q"), "k", table, OWNER).unwrap();
        }
        assert!(vhost.bindings().is_empty());
    }
    vhost.drop_binding("missing", &to_queue("q"), "k");
    vhost.drop_binding("amq.direct", &to_queue("missing"), "k");
    vhost.drop_binding("amq.direct", &to_exchange("missing"), "k");
}

#[test]
fn an_auto_delete_exchange_goes_with_its_last_binding_as_a_source() {
    let vhost = vhost();
    vhost.add_queues(&["q", "r"]);
    let auto =
        |name| vhost.declare_exchange(ExchangeDeclaration { auto_delete: true, ..exchange(name, "direct") });
    auto("x").unwrap();
    vhost.add_binding("amq.direct", &to_exchange("x"), "k");
    vhost.drop_binding("amq.direct", &to_exchange("x"), "k");
    assert!(vhost.has_exchange("x"), "bindings as a destination do not count");
    vhost.add_binding("x", &to_queue("q"), "k");
    vhost.add_binding("x", &to_queue("r"), "k");
    vhost.drop_binding("x", &to_queue("q"), "k");
    assert!(vhost.has_exchange("x"));
    vhost.delete_queue("r", OWNER, false, false).unwrap();
    assert!(!vhost.has_exchange("x"), "a queue that goes takes its bindings");

    auto("x").unwrap();
    auto("y").unwrap();
    vhost.add_binding("x", &to_exchange("y"), "k");
    vhost.add_binding("y", &to_queue("q"), "k");
    vhost.drop_binding("y", &to_queue("q"), "k");
    assert!(!vhost.has_exchange("y") && !vhost.has_exchange("x"), "one draws the other along");
    assert!(vhost.bindings().is_empty());
}

#[test]
fn a_long_chain_of_auto_delete_exchanges_goes_at_once() {
    let vhost = vhost();
    let length = 50_000;
    for i in 0..=length {
        let (name, before) = (format!("x{i}"), format!("x{}", i - 1));
        let declaration = ExchangeDeclaration { auto_delete: true, ..exchange(&name, "fanout") };
        vhost.declare_exchange(declaration).unwrap();
        if i > 0 {
            vhost.add_binding(&before, &to_exchange(&name), "");
        }
    }
    vhost.delete_exchange(&format!("x{length}"), false).unwrap();
    assert_eq!(vhost.exchanges().len(), 6, "those that each vhost has");
    assert!(vhost.bindings().is_empty());
}

#[test]
fn exchanges_bound_in_a_circle_are_walked_once() {
    let vhost = vhost();
    vhost.add_queues(&["q", "r"]);
    for name in ["x", "y", "z"] {
        vhost.add_exchange(name, "fanout");
    }
    vhost.add_binding("x", &to_exchange("y"), "");
    vhost.add_binding("y", &to_exchange("z"), "");
    vhost.add_binding("z", &to_exchange("x"), "");
    vhost.add_binding("x", &to_exchange("x"), "");
    vhost.add_binding("z", &to_queue("q"), "");
    vhost.add_binding("x", &to_queue("q"), "");
    vhost.add_binding("y", &to_queue("r"), "");
    for name in ["x", "y", "z"] {
        assert_eq!(vhost.reached(name, &["k"]), (names(&["q", "r"]), true));
    }
    vhost.delete_exchange("z", false).unwrap();
    assert_eq!(vhost.bindings().len(), 4);
    vhost.delete_exchange("x", false).unwrap();
    assert_eq!(vhost.reached("y", &["k"]), (names(&["r"]), true));
    assert_eq!(vhost.bindings().len(), 1);
}

#[test]
fn a_walk_through_exchanges_has_an_end() {
    let vhost = vhost();
    vhost.add_queues(&["near", "far"]);
    let length = ROUTE_EXCHANGES_MAX + 10;
    for i in 0..length {
        vhost.add_exchange(&format!("x{i}"), "fanout");
        if i > 0 {
            vhost.add_binding(&format!("x{}", i - 1), &to_exchange(&format!("x{i}")), "");
        }
    }
    vhost.add_binding(&format!("x{}", ROUTE_EXCHANGES_MAX - 1), &to_queue("near"), "");
    vhost.add_binding(&format!("x{ROUTE_EXCHANGES_MAX}"), &to_queue("far"), "");
    assert_eq!(vhost.reached("x0", &["k"]), (names(&["near"]), true));
}

#[test]
fn an_alternate_exchange_takes_what_goes_nowhere() {
    let vhost = vhost();
    vhost.add_queues(&["q", "r", "lost"]);
    vhost.add_with_alternate("a", "b");
    vhost.add_with_alternate("b", "c");
    vhost.add_with_alternate("c", "a");
    vhost.add_with_alternate("d", "nobody");
    vhost.add_with_alternate("e", "");
    vhost.add_binding("a", &to_queue("q"), "k");
    vhost.add_binding("c", &to_queue("lost"), "l");
    assert_eq!(vhost.reached("a", &["k"]), (names(&["q"]), true));
    assert_eq!(vhost.reached("a", &["l"]), (names(&["lost"]), true), "by two steps");
    assert_eq!(vhost.reached("a", &["k", "l"]), (names(&["q"]), true), "any key routed is routed");
    assert_eq!(vhost.reached("a", &["none"]), (vec![], false), "in a circle");
    assert_eq!(vhost.reached("d", &["none"]), (vec![], false), "to an exchange that is missing");
    assert_eq!(vhost.reached("e", &["r"]), (names(&["r"]), true), "to the default exchange");
    vhost.add_exchange("nobody", "fanout");
    vhost.add_binding("nobody", &to_queue("r"), "");
    assert_eq!(vhost.reached("d", &["none"]), (names(&["r"]), true), "declared later");
}

#[test]
fn messages_reach_each_queue_once_whatever_leads_there() {
    let vhost = vhost();
    let many: Vec<_> = (0..40).map(|i| format!("q{i:02}")).collect();
    for name in &many {
        vhost.add_queues(&[name]);
        for key in ["a.b", "a.*", "#", "*.b"] {
            vhost.add_binding("amq.topic", &to_queue(name), key);
        }
    }
    assert_eq!(vhost.reached("amq.topic", &["a.b", "a.c", "a.b"]), (many.clone(), true));
    assert_eq!(vhost.reached("", &["q00", "q01", "q00", "missing"]), (names(&["q00", "q01"]), true));
    assert_eq!(vhost.reached("", &["missing"]), (vec![], false));
    assert_eq!(vhost.reached("amq.direct", &["missing"]), (vec![], false));
    assert_eq!(text(vhost.route("x", &Addressing::new(&["k"], &[]))), "no exchange 'x' in vhost '/'");
    assert_eq!(
        text(vhost.route("amq.rabbitmq.trace", &Addressing::new(&["k"], &[]))),
        "cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/'"
    );
}

#[test]
fn an_internal_exchange_takes_messages_from_exchanges() {
    let vhost = vhost();
    vhost.add_queues(&["q"]);
    vhost.declare_exchange(ExchangeDeclaration { internal: true, ..exchange("in", "fanout") }).unwrap();
    vhost.add_binding("amq.direct", &to_exchange("in"), "k");
    vhost.add_binding("in", &to_queue("q"), "");
    assert_eq!(vhost.reached("amq.direct", &["k"]), (names(&["q"]), true));
}

#[test]
fn routes_that_depend_on_more_than_one_key_are_not_cacheable() {
    let vhost = vhost();
    let cacheable =
        |exchange: &str, keys: &[&str]| vhost.route(exchange, &Addressing::new(keys, &[])).unwrap().cacheable;
    assert!(cacheable("amq.direct", &["k"]));
    assert!(cacheable("", &["k"]));
    assert!(!cacheable("amq.direct", &["k", "cc"]));
    assert!(!cacheable("amq.headers", &["k"]));
    vhost.add_binding("amq.direct", &to_exchange("amq.headers"), "h");
    assert!(cacheable("amq.direct", &["k"]));
    assert!(!cacheable("amq.direct", &["h"]));
}

#[test]
fn replies_reach_their_requester_and_count_as_routed_when_it_is_gone() {
    let vhost = vhost();
    let replies = vhost.open_reply_queue(OWNER);
    let name = replies.spec.name.to_string();
    assert!(name.starts_with("amq.rabbitmq.reply-to.") && vhost.has_reply_queue(&name));
    assert_eq!(vhost.reached("", &[&name]), (names(&[&name]), true));
    assert!(vhost.queues().is_empty(), "no list shows it");
    assert!(vhost.queue(&name, OWNER).is_err());
    assert_eq!(vhost.drop_queue(&name), Ok(0));
    assert_ne!(name, vhost.open_reply_queue(OWNER).spec.name.to_string());
    vhost.close_reply_queue(&name);
    assert!(!vhost.has_reply_queue(&name));
    assert_eq!(vhost.reached("", &[&name]), (vec![], true));
    assert_eq!(text(replies.purge()), format!("no queue '{name}' in vhost '/'"));
}

#[test]
fn the_generation_moves_when_a_cached_route_could_be_wrong_and_only_then() {
    let vhost = vhost();
    let table = FieldTable::new();
    let moved = |what: &str, expected: bool, action: &dyn Fn()| {
        let before = vhost.generation();
        action();
        assert_eq!(vhost.generation() != before, expected, "{what}");
    };
    moved("declare a queue", true, &|| vhost.add_queues(&["q"]));
    moved("declare it again", false, &|| vhost.add_queues(&["q"]));
    moved("refuse a queue", false, &|| drop(vhost.declare_queue(queue("amq.q"), OWNER)));
    moved("declare an exchange", true, &|| vhost.add_exchange("x", "direct"));
    moved("declare it again", false, &|| vhost.add_exchange("x", "direct"));
    moved("bind", true, &|| vhost.add_binding("x", &to_queue("q"), "k"));
    moved("bind again", false, &|| vhost.add_binding("x", &to_queue("q"), "k"));
    moved("refuse a binding", false, &|| drop(vhost.bind("y", &to_queue("q"), "k", &table, OWNER)));
    moved("unbind what is not bound", false, &|| vhost.drop_binding("x", &to_queue("q"), "l"));
    moved("route and list", false, &|| {
        vhost.reached("x", &["k"]);
        assert_eq!(vhost.bindings().len() + vhost.queues().len(), 2);
    });
    moved("unbind", true, &|| vhost.drop_binding("x", &to_queue("q"), "k"));
    moved("delete an exchange", true, &|| drop(vhost.delete_exchange("x", false)));
    moved("delete a missing exchange", false, &|| drop(vhost.delete_exchange("x", false)));
    moved("delete a queue", true, &|| drop(vhost.delete_queue("q", OWNER, false, false)));
    moved("delete a missing queue", false, &|| drop(vhost.delete_queue("q", OWNER, false, false)));
}

#[test]
fn a_queue_declared_anew_gets_nothing_by_the_bindings_of_the_old_one() {
    let vhost = vhost();
    vhost.add_queues(&["q"]);
    vhost.add_binding("amq.fanout", &to_queue("q"), "");
    let old = vhost.queue("q", OWNER).unwrap();
    vhost.delete_queue("q", OWNER, false, false).unwrap();
    vhost.add_queues(&["q"]);
    assert_ne!(old.id, vhost.queue("q", OWNER).unwrap().id);
    assert_eq!(vhost.reached("amq.fanout", &[""]), (vec![], false));
}

#[test]
fn bindings_are_listed_with_both_ends() {
    let vhost = vhost();
    vhost.add_queues(&["q"]);
    vhost.add_exchange("x", "headers");
    vhost.add_binding("amq.topic", &to_exchange("x"), "a.#");
    vhost.bind("x", &to_queue("q"), "k", &arguments("x-match", "any"), OWNER).unwrap();
    let mut listed: Vec<_> = vhost
        .bindings()
        .iter()
        .map(|binding| {
            let with = binding.arguments.is_some();
            format!("{} {:?} {} {with}", binding.source, binding.destination, binding.routing_key)
        })
        .collect();
    listed.sort();
    assert_eq!(listed, ["amq.topic exchange x a.# false", "x queue q k true"]);
    assert_eq!(ExchangeName::from("x"), vhost.find_exchange("x").unwrap().name);
}
