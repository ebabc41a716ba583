//! Deduplication at exchanges and in queues: LavinMQ's and a community plugin's for RabbitMQ, so that these are for
//! Leveret.

use leveret_codec::method::{MethodId, basic, confirm, exchange, queue, tx};
use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTable, FieldTableRef};

use crate::say::{bind, consume, consuming, declare, declared, exchange_declare, publish};
use crate::support::Broker;
use crate::wire::{Peer, unique};

/// An exchange that drops duplicates, with a queue bound to it; their names.
fn once(peer: &mut Peer, exchange_type: &str, arguments: FieldTable) -> (String, String) {
    let name = unique("once");
    peer.ask(
        1,
        exchange::Declare { arguments, ..exchange_declare(&name, exchange_type) },
        exchange::DeclareOk,
    );
    let queue = peer.queue(1);
    peer.ask(1, bind(&queue, &name, "key"), queue::BindOk);
    (name, queue)
}

fn send(peer: &mut Peer, publish: basic::Publish<'_>, header: &str, id: &str, body: &str) {
    send_on(peer, 1, publish, header, id, body);
}

fn send_on(peer: &mut Peer, channel: u16, publish: basic::Publish<'_>, header: &str, id: &str, body: &str) {
    let octets = FieldTable::new().with(header, id).encoded();
    let headers = FieldTableRef::parse(&octets).ok();
    peer.send_message(channel, publish, Properties { headers, ..Properties::default() }, body);
}

#[test]
fn a_duplicate_is_confirmed_and_not_returned_and_not_there() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    if !peer.is_leveret() {
        return peer.close();
    }
    let arguments =
        FieldTable::new().with("x-message-deduplication", true).with("x-deduplication-header", "id");
    let (name, queue) = once(&mut peer, "direct", arguments);
    peer.ask(1, confirm::Select { no_wait: false }, confirm::SelectOk);
    let to_key = || basic::Publish { mandatory: true, ..publish(&name, "key") };
    for (tag, (id, body)) in (1..).zip([("a", "first"), ("a", "again"), ("b", "second"), ("a", "and again")])
    {
        send(&mut peer, to_key(), "id", id, body);
        peer.expect(1, basic::Ack { delivery_tag: tag, multiple: false });
    }
    peer.get(1, &queue, "first");
    peer.get(1, &queue, "second");
    peer.expect_empty(1, &queue);
    peer.close();
}

/// Where new messages go is remembered; that bindings have changed since, and that an exchange further on drops
/// duplicates of its own, counts all the same.
#[test]
fn new_messages_go_where_the_bindings_lead_now() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    if !peer.is_leveret() {
        return peer.close();
    }
    let arguments = || FieldTable::new().with("x-message-deduplication", true);
    let (name, queue) = once(&mut peer, "direct", arguments());
    let (behind, queue_behind) = once(&mut peer, "direct", arguments());
    let second = peer.queue(1);
    let send = |peer: &mut Peer, exchange: &str, id: &str| {
        send(peer, publish(exchange, "key"), "x-deduplication-header", id, id);
    };
    ["1", "2", "2", "1"].iter().for_each(|id| send(&mut peer, &name, id));
    peer.send_message(1, publish(&name, "key"), Properties::default(), "no id");
    send(&mut peer, &name, "3");
    peer.ask(1, bind(&second, &name, "key"), queue::BindOk);
    ["3", "4", "4"].iter().for_each(|id| send(&mut peer, &name, id));
    ["5", "6"].iter().for_each(|id| send(&mut peer, &behind, id));
    let to_behind = exchange::Bind {
        destination: &behind,
        source: &name,
        routing_key: "key",
        no_wait: false,
        arguments: FieldTable::new(),
    };
    peer.ask(1, to_behind, exchange::BindOk);
    ["5", "7", "7"].iter().for_each(|id| send(&mut peer, &name, id));
    ["1", "2", "no id", "3", "4", "5", "7"].iter().for_each(|body| _ = peer.get(1, &queue, body));
    ["4", "5", "7"].iter().for_each(|body| _ = peer.get(1, &second, body));
    ["5", "6", "7"].iter().for_each(|body| _ = peer.get(1, &queue_behind, body));
    [&queue, &second, &queue_behind].iter().for_each(|queue| peer.expect_empty(1, queue));
    peer.close();
}

#[test]
fn the_plugins_exchange_type_is_a_fanout() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    if !peer.is_leveret() {
        return peer.close();
    }
    let name = unique("once");
    peer.send(1, exchange_declare(&name, "x-message-deduplication"));
    let text =
        "PRECONDITION_FAILED - Missing or invalid argument, 'x-cache-size' must be an integer greater than 0";
    peer.expect_channel_close(1, 406, text, MethodId::EXCHANGE_DECLARE);
    peer.open_channel(1);
    let arguments = FieldTable::new().with("x-cache-size", 10);
    let (name, queue) = once(&mut peer, "x-message-deduplication", arguments);
    for body in ["first", "again"] {
        send(&mut peer, publish(&name, "any"), "x-deduplication-header", "a", body);
    }
    peer.get(1, &queue, "first");
    peer.expect_empty(1, &queue);
    peer.close();
}

#[test]
fn an_id_in_a_transaction_counts_from_its_commit() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    if !peer.is_leveret() {
        return peer.close();
    }
    let (name, queue) = once(&mut peer, "fanout", FieldTable::new().with("x-message-deduplication", true));
    let send = |peer: &mut Peer, body: &str| {
        send(peer, publish(&name, "key"), "x-deduplication-header", "a", body);
    };
    peer.ask(1, tx::Select, tx::SelectOk);
    send(&mut peer, "rolled back");
    peer.ask(1, tx::Rollback, tx::RollbackOk);
    send(&mut peer, "committed");
    send(&mut peer, "twice in one");
    peer.ask(1, tx::Commit, tx::CommitOk);
    send(&mut peer, "after it");
    peer.ask(1, tx::Commit, tx::CommitOk);
    peer.get(1, &queue, "committed");
    peer.expect_empty(1, &queue);
    peer.close();
}

/// Ids that are long, of which the beginnings are alike; in a transaction as well, where many are no slower than few.
#[test]
fn ids_of_any_length_are_told_apart() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    if !peer.is_leveret() {
        return peer.close();
    }
    let (name, queue) = once(&mut peer, "fanout", FieldTable::new().with("x-message-deduplication", true));
    let long = |end: &str| format!("{}{end}", "x".repeat(100_000));
    for (id, body) in [(long("1"), "1"), (long("2"), "2"), (long("1"), "1 again")] {
        send(&mut peer, publish(&name, "key"), "x-deduplication-header", &id, body);
    }
    peer.ask(1, tx::Select, tx::SelectOk);
    for (id, body) in [(long("3"), "3"), (long("2"), "2 again"), (long("3"), "3 again"), (long("4"), "4")] {
        send(&mut peer, publish(&name, "key"), "x-deduplication-header", &id, body);
    }
    peer.ask(1, tx::Commit, tx::CommitOk);
    ["1", "2", "3", "4"].iter().for_each(|body| _ = peer.get(1, &queue, body));
    peer.expect_empty(1, &queue);
    // To look through all that came before, for each of them, takes long.
    let (begun, ids) = (std::time::Instant::now(), 30_000);
    for id in 0..ids {
        send(&mut peer, publish(&name, "key"), "x-deduplication-header", &format!("many-{id}"), "");
    }
    peer.ask(1, tx::Commit, tx::CommitOk);
    let took = begun.elapsed();
    println!("{ids} ids in one transaction: {took:?}");
    assert!(took < std::time::Duration::from_secs(10), "{took:?}");
    peer.close();
}

#[test]
fn a_queue_takes_no_message_whose_id_one_in_it_has() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    if !peer.is_leveret() {
        return peer.close();
    }
    let queue = unique("unique");
    let arguments =
        FieldTable::new().with("x-message-deduplication", true).with("x-deduplication-header", "id");
    peer.ask(1, queue::Declare { arguments, ..declare(&queue) }, declared(&queue, 0, 0));
    peer.ask(1, confirm::Select { no_wait: false }, confirm::SelectOk);
    let to_queue = || basic::Publish { mandatory: true, ..publish("", &queue) };
    for (tag, (id, body)) in (1..).zip([("a", "first"), ("a", "again"), ("b", "second")]) {
        send(&mut peer, to_queue(), "id", id, body);
        peer.expect(1, basic::Ack { delivery_tag: tag, multiple: false });
    }
    peer.open_channel(2);
    peer.ask(2, consume(&queue, "c"), consuming("c"));
    assert_eq!(peer.expect_delivery(2, "c", "first").tag, 1);
    assert_eq!(peer.expect_delivery(2, "c", "second").tag, 2);
    send_on(&mut peer, 2, to_queue(), "id", "a", "while it is unacked");
    peer.send(2, basic::Ack { delivery_tag: 1, multiple: false });
    send_on(&mut peer, 2, to_queue(), "id", "a", "after that");
    assert_eq!(peer.expect_delivery(2, "c", "after that").tag, 3);
    peer.close();
}
