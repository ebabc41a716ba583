//! A publisher whose confirm was lost publishes again, and its message is there once: through connections that break,
//! kills and orderly restarts.

use leveret_codec::method::{Method, MethodId, exchange, queue};
use leveret_codec::table::FieldTableRef;
use leveret_codec::{FieldTable, Properties};

use crate::node::{DataDir, Node};
use crate::random::{Random, seed};
use crate::wire::{Incoming, Wire, binding, durable_exchange, durable_queue};

const EXCHANGE: &str = "once";
const QUEUE: &str = "q";

/// A queue that drops duplicates itself.
const UNIQUE: &str = "unique";

/// Messages between two kills.
const MESSAGES: u32 = 300;

fn push(wire: &mut Wire, exchange: &str, key: &str, id: u32) {
    let headers = FieldTable::new().with("x-deduplication-header", format!("id-{id}")).encoded();
    let properties = Properties {
        headers: FieldTableRef::parse(&headers).ok(),
        delivery_mode: Some(2),
        ..Properties::default()
    };
    wire.push_octets(exchange, key, false, &properties, &id.to_be_bytes());
}

fn publish(node: &Node, (exchange, key): (&str, &str), ids: std::ops::Range<u32>) {
    let mut wire = Wire::open_confirming(node.port).expect("the broker takes connections");
    ids.for_each(|id| push(&mut wire, exchange, key, id));
    wire.flush().expect("the broker takes it");
    let (all_taken, _) = wire.await_confirms(1..=wire.published()).expect("duplicates are confirmed too");
    assert!(all_taken);
    wire.close().expect("an orderly end");
}

#[test]
fn what_is_published_again_after_a_lost_confirm_is_there_once() {
    let mut random = Random::new(seed("deduplication"));
    let data_dir = DataDir::new("deduplication");
    let flags = ["--journal-bytes-max", "16MiB", "--message-cache-bytes", "64KiB"];
    let mut expected = 0;
    for round in 0..5 {
        let mut node = Node::start(data_dir.path(), &flags);
        if round == 0 {
            let mut wire = node.connect();
            let arguments =
                FieldTable::new().with("x-message-deduplication", true).with("x-cache-size", 5_000);
            let declare = exchange::Declare { arguments, ..durable_exchange(EXCHANGE, "fanout") };
            wire.call(&Method::ExchangeDeclare(declare), MethodId::EXCHANGE_DECLARE_OK).expect("an exchange");
            wire.declare(durable_queue(QUEUE)).expect("a queue");
            wire.call(&binding(QUEUE, EXCHANGE, ""), MethodId::QUEUE_BIND_OK).expect("a binding");
        }
        let first = expected;
        // Sent, and the connection is gone before a confirm is read; how far it got is nobody's guess.
        let mut lost = Wire::open_confirming(node.port).expect("the broker takes connections");
        (first..first + MESSAGES).for_each(|id| push(&mut lost, EXCHANGE, "", id));
        lost.flush().expect("the broker takes it");
        drop(lost);
        if random.one_in(2) {
            publish(&node, (EXCHANGE, ""), first..first + MESSAGES / 2);
        }
        match round % 2 {
            0 => node.kill(),
            _ => node.end(),
        }
        let mut node = Node::start(data_dir.path(), &flags);
        publish(&node, (EXCHANGE, ""), 0..first + MESSAGES);
        expected += MESSAGES;
        assert_eq!(node.connect().count(QUEUE).expect("an answer"), Some(expected), "round {round}");
        node.assert_sane_log();
        node.kill();
    }
}

#[test]
fn what_lies_in_a_unique_queue_is_not_taken_again_after_a_restart() {
    let data_dir = DataDir::new("unique");
    let flags = ["--journal-bytes-max", "16MiB", "--message-cache-bytes", "64KiB"];
    let mut acked = 0;
    for round in 0..4_u32 {
        let mut node = Node::start(data_dir.path(), &flags);
        let mut wire = node.connect();
        if round == 0 {
            let arguments = FieldTable::new().with("x-message-deduplication", true).with("x-max-priority", 3);
            wire.declare(queue::Declare { arguments, ..durable_queue(UNIQUE) }).expect("a queue");
        }
        let all = 0..(round + 1) * MESSAGES;
        publish(&node, ("", UNIQUE), all.clone());
        // All of them once: those that were acked have come again.
        assert_eq!(wire.count(UNIQUE).expect("an answer"), Some(all.end), "round {round}, {acked} acked");
        wire.consume(UNIQUE, 7).expect("a consumer");
        for _ in 0..7 {
            let Incoming::Delivery(delivery) = wire.next().expect("a message") else { panic!("no delivery") };
            acked = delivery.tag;
        }
        wire.push_ack(acked, true);
        // Answered when the acks are safe.
        wire.close().expect("an orderly end");
        match round % 2 {
            0 => node.kill(),
            _ => node.end(),
        }
        node.assert_sane_log();
    }
}
