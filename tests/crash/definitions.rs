//! Definitions of every kind, after SIGKILL and after an orderly end: exchanges of all types with their arguments,
//! queues with theirs, bindings of queues and of exchanges. What is there says so by routing.

use std::io;

use leveret_codec::method::{Method, MethodId, exchange, queue};
use leveret_codec::{FieldTable, FieldTableRef, FieldValue, Properties};

use crate::node::{DataDir, Node};
use crate::wire::{Wire, binding, deletion, durable_exchange, durable_queue};

/// Exchanges of every type, with where a message without a way goes.
fn declare_exchanges(wire: &mut Wire) -> io::Result<()> {
    for exchange_type in ["direct", "fanout", "topic", "headers"] {
        declare_exchange(wire, durable_exchange(exchange_type, exchange_type))?;
    }
    let arguments = FieldTable::new().with("alternate-exchange", "fanout").with("note", "kept as it is");
    declare_exchange(wire, exchange::Declare { arguments, ..durable_exchange("with alternate", "direct") })?;
    declare_exchange(wire, exchange::Declare { internal: true, ..durable_exchange("internal", "fanout") })?;
    declare_exchange(wire, exchange::Declare { auto_delete: true, ..durable_exchange("leaving", "direct") })?;
    declare_exchange(wire, exchange::Declare { durable: false, ..durable_exchange("passing", "direct") })?;
    declare_exchange(wire, durable_exchange("deleted", "direct"))?;
    let delete = exchange::Delete { exchange: "deleted", if_unused: false, no_wait: false };
    wire.call(&Method::ExchangeDelete(delete), MethodId::EXCHANGE_DELETE_OK).map(|_| ())
}

fn declare_exchange(wire: &mut Wire, declare: exchange::Declare<'_>) -> io::Result<()> {
    wire.call(&Method::ExchangeDeclare(declare), MethodId::EXCHANGE_DECLARE_OK).map(|_| ())
}

/// What a queue is declared with, so that it can be declared again.
fn with_arguments(queue: &str) -> queue::Declare<'_> {
    let nested = FieldTable::new().with("deep", FieldValue::Void).with("number", -7_i64);
    let arguments = FieldTable::new().with("x-queue-type", "classic").with("x-note", nested);
    queue::Declare { arguments, ..durable_queue(queue) }
}

fn declare_queues(wire: &mut Wire) -> io::Result<()> {
    for queue in ["plain", "all", "any", "far", "unbound", "deleted", "lost and found"] {
        wire.declare(durable_queue(queue))?;
    }
    wire.declare(with_arguments("with arguments"))?;
    wire.declare(queue::Declare { auto_delete: true, ..durable_queue("unused") })?;
    wire.declare(queue::Declare { durable: false, ..durable_queue("passing") })?;
    wire.declare(queue::Declare { exclusive: true, ..durable_queue("own") })?;
    wire.call(&deletion("deleted"), MethodId::QUEUE_DELETE_OK).map(|_| ())
}

fn bind_everything(wire: &mut Wire) -> io::Result<()> {
    let headers =
        |mode: &str| FieldTable::new().with("x-match", mode).with("colour", "red").with("size", 7_i32);
    let bindings = [
        ("plain", "direct", "", FieldTable::new()),
        ("plain", "direct", "a key", FieldTable::new()),
        ("plain", "amq.direct", "of the house", FieldTable::new()),
        ("plain", "topic", "stock.*.#", FieldTable::new()),
        ("all", "headers", "", headers("all")),
        ("any", "headers", "", headers("any")),
        ("far", "internal", "", FieldTable::new()),
        ("lost and found", "fanout", "", FieldTable::new()),
        ("plain", "leaving", "leaving", FieldTable::new()),
        ("unbound", "direct", "unbound", FieldTable::new()),
        ("passing", "direct", "passing", FieldTable::new()),
        ("plain", "passing", "passing", FieldTable::new()),
    ];
    for (queue, exchange, routing_key, arguments) in bindings {
        let bind = queue::Bind { queue, exchange, routing_key, no_wait: false, arguments };
        wire.call(&Method::QueueBind(bind), MethodId::QUEUE_BIND_OK)?;
    }
    let (routing_key, arguments) = ("unbound", FieldTable::new());
    let unbind = queue::Unbind { queue: "unbound", exchange: "direct", routing_key, arguments };
    wire.call(&Method::QueueUnbind(unbind), MethodId::QUEUE_UNBIND_OK)?;
    let onward = exchange::Bind {
        destination: "internal",
        source: "topic",
        routing_key: "far.#",
        no_wait: false,
        arguments: FieldTable::new(),
    };
    wire.call(&Method::ExchangeBind(onward), MethodId::EXCHANGE_BIND_OK).map(|_| ())
}

/// Publishes a transient message: whether it went anywhere.
fn is_routed(wire: &mut Wire, tag: &mut u64, exchange: &str, key: &str, headers: FieldTable) -> bool {
    let headers = headers.encoded();
    let headers = FieldTableRef::parse(&headers).ok();
    let properties = Properties { headers, ..Properties::default() };
    wire.push_octets(exchange, key, true, &properties, b"where to?");
    wire.flush().expect("the broker takes it");
    *tag += 1;
    let (_, returned) = wire.await_confirms(*tag..=*tag).expect("it is confirmed");
    !returned
}

/// How many messages have come to a queue; they are taken out.
fn arrived(wire: &mut Wire, queue: &str) -> u32 {
    let count = wire.count(queue).expect("an answer").unwrap_or_else(|| panic!("{queue} is missing"));
    let purge = Method::QueuePurge(queue::Purge { queue, no_wait: false });
    wire.call(&purge, MethodId::QUEUE_PURGE_OK).expect("it can be purged");
    count
}

/// All that lasts is there, and routes as it was told to.
fn assert_everything_routes(node: &Node) {
    let mut wire = Wire::open_confirming(node.port).expect("the broker takes connections");
    let mut tag = 0;
    let none = FieldTable::new;
    let routes = [
        ("direct", "", none(), "plain"),
        ("direct", "a key", none(), "plain"),
        ("amq.direct", "of the house", none(), "plain"),
        ("topic", "stock.usd.nyse.ibm", none(), "plain"),
        ("topic", "far.away", none(), "far"),
        ("headers", "", none().with("colour", "red"), "any"),
        ("with alternate", "nowhere", none(), "lost and found"),
        ("fanout", "whatever", none(), "lost and found"),
        ("leaving", "leaving", none(), "plain"),
        ("", "unused", none(), "unused"),
        ("", "with arguments", none(), "with arguments"),
    ];
    for (exchange, key, headers, queue) in routes {
        assert!(is_routed(&mut wire, &mut tag, exchange, key, headers), "{exchange:?} with {key:?}");
        assert_eq!(arrived(&mut wire, queue), 1, "{exchange:?} with {key:?} in {queue}");
    }
    let both = FieldTable::new().with("colour", "red").with("size", 7_i32);
    assert!(is_routed(&mut wire, &mut tag, "headers", "", both));
    assert_eq!((arrived(&mut wire, "all"), arrived(&mut wire, "any")), (1, 1));
    for (exchange, key) in [("direct", "unbound"), ("topic", "stock"), ("headers", "")] {
        assert!(!is_routed(&mut wire, &mut tag, exchange, key, none()), "{exchange:?} with {key:?}");
    }
    wire.close().expect("an orderly end");
}

/// Nothing is there that was deleted or was not to last.
fn assert_nothing_else(node: &Node) {
    let mut wire = Wire::open_confirming(node.port).expect("the broker takes connections");
    assert!(!is_routed(&mut wire, &mut 0, "direct", "passing", FieldTable::new()));
    for queue in ["passing", "own", "deleted"] {
        assert_eq!(wire.count(queue).expect("an answer"), None, "{queue}");
    }
    for exchange in ["passing", "deleted"] {
        assert!(!wire.has_exchange(exchange).expect("an answer"), "{exchange}");
    }
    wire.close().expect("an orderly end");
}

/// Declaring the same again is fine, declaring it otherwise is refused: type, flags and arguments were kept.
fn assert_declared_as_before(node: &Node) {
    let mut wire = node.connect();
    declare_exchanges(&mut wire).expect("the same exchanges");
    wire.declare(with_arguments("with arguments")).expect("the same queue");
    wire.close().expect("an orderly end");
    let refused = |declared: io::Result<()>| {
        let error = declared.expect_err("it is declared otherwise").to_string();
        assert!(error.contains("406"), "{error}");
    };
    refused(declare_exchange(&mut node.connect(), durable_exchange("topic", "direct")));
    refused(declare_exchange(&mut node.connect(), durable_exchange("internal", "fanout")));
    refused(declare_exchange(&mut node.connect(), durable_exchange("leaving", "direct")));
    refused(node.connect().declare(durable_queue("unused")).map(|_| ()));
    let transient = queue::Declare { durable: false, ..durable_queue("plain") };
    refused(node.connect().declare(transient).map(|_| ()));
}

#[test]
fn definitions_of_every_kind_outlive_the_broker() {
    let data_dir = DataDir::new("definitions");
    let mut node = Node::start(data_dir.path(), &[]);
    let mut wire = node.connect();
    declare_exchanges(&mut wire).expect("exchanges");
    declare_queues(&mut wire).expect("queues");
    bind_everything(&mut wire).expect("bindings");
    assert_everything_routes(&node);
    node.kill();
    // The second start reads what the first has made of it, the third what an orderly end has.
    for _ in 0..2 {
        let mut node = Node::start(data_dir.path(), &[]);
        assert_everything_routes(&node);
        assert_nothing_else(&node);
        node.kill();
    }
    let node = Node::start(data_dir.path(), &[]);
    assert_everything_routes(&node);
    node.stop();
    let node = Node::start(data_dir.path(), &[]);
    assert_everything_routes(&node);
    assert_nothing_else(&node);
    assert_declared_as_before(&node);
    node.stop();
}

#[test]
fn what_deletes_itself_still_does_after_a_restart() {
    let data_dir = DataDir::new("auto-delete");
    let mut node = Node::start(data_dir.path(), &[]);
    let mut wire = node.connect();
    declare_exchange(&mut wire, exchange::Declare { auto_delete: true, ..durable_exchange("x", "direct") })
        .expect("an exchange");
    wire.declare(queue::Declare { auto_delete: true, ..durable_queue("q") }).expect("a queue");
    wire.call(&binding("q", "x", "k"), MethodId::QUEUE_BIND_OK).expect("a binding");
    node.kill();
    let mut node = Node::start(data_dir.path(), &[]);
    let mut wire = node.connect();
    wire.consume("q", 1).expect("the queue is there");
    wire.close().expect("an orderly end");
    // Its last consumer went, with it the queue, its binding, and the exchange that has no other.
    let mut wire = node.connect();
    assert_eq!(wire.count("q").expect("an answer"), None);
    assert!(!wire.has_exchange("x").expect("an answer"));
    // A declaration that is answered is safe, and so is all before it.
    wire.declare(durable_queue("later")).expect("another queue");
    node.kill();
    let node = Node::start(data_dir.path(), &[]);
    let mut wire = node.connect();
    assert_eq!(wire.count("q").expect("an answer"), None);
    assert!(!wire.has_exchange("x").expect("an answer"));
    assert_eq!(wire.count("later").expect("an answer"), Some(0));
    wire.close().expect("an orderly end");
    node.stop();
}
