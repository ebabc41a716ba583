//! How long messages and queues live, how many there may be, and what becomes of the others.

use leveret_codec::frame;
use leveret_codec::method::{Method, MethodId, confirm, queue, tx};
use leveret_codec::properties::{ContentHeader, Properties};
use leveret_codec::table::{FieldTable, FieldValue};

use crate::say::{bind, cancel, cancelled, consume, consuming, declare, declared, nack, publish, purge};
use crate::support::Broker;
use crate::wire::{Peer, encoded, eventually, unique};

/// A queue of the peer's own with these arguments.
fn queue_with(peer: &mut Peer, arguments: FieldTable) -> String {
    let name = unique("limits");
    let declare = queue::Declare { exclusive: true, arguments, ..declare(&name) };
    peer.ask(1, declare, declared(&name, 0, 0));
    name
}

fn number(key: &str, value: i32) -> FieldTable {
    FieldTable::new().with(key, value)
}

fn text(value: &str) -> FieldValue {
    FieldValue::from(value)
}

/// Publishes a message that lives for so many milliseconds.
fn publish_expiring(peer: &mut Peer, queue: &str, body: &str, milliseconds: &str) {
    let properties = Properties { expiration: Some(milliseconds.as_bytes()), ..Properties::default() };
    peer.send_message(1, publish("", queue), properties, body);
}

/// Waits until a message that was published now has expired after so many milliseconds.
fn let_pass(peer: &mut Peer, milliseconds: i32) {
    let woken = queue_with(peer, FieldTable::new());
    let to_woken = FieldTable::new()
        .with("x-message-ttl", milliseconds)
        .with("x-dead-letter-exchange", text(""))
        .with("x-dead-letter-routing-key", text(&woken));
    let sleeping = queue_with(peer, to_woken);
    peer.publish(1, "", &sleeping, "time is over");
    wait_for_ready(peer, &woken, 1);
}

/// Ready messages, asked until there are so many.
fn wait_for_ready(peer: &mut Peer, name: &str, ready: u32) {
    eventually(|| {
        peer.send(1, queue::Declare { passive: true, ..declare(name) });
        match peer.recv().method() {
            Method::QueueDeclareOk(ok) => (ok.message_count == ready).then_some(()),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn messages_of_a_queue_with_a_time_to_live_go_when_it_is_over() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = queue_with(&mut peer, number("x-message-ttl", 300));
    peer.publish(1, "", &queue, "1");
    peer.publish(1, "", &queue, "2");
    peer.get(1, &queue, "1");
    // Nobody asks for it: it goes all the same.
    wait_for_ready(&mut peer, &queue, 0);
    let_pass(&mut peer, 400);
    peer.expect_empty(1, &queue);
    // What was handed out is not touched; brought back, its time is over.
    peer.send(1, nack(1, false, true));
    wait_for_ready(&mut peer, &queue, 0);
    peer.close();
}

#[test]
fn a_message_may_have_a_shorter_life_than_its_queue_gives_it() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = queue_with(&mut peer, number("x-message-ttl", 60_000));
    publish_expiring(&mut peer, &queue, "short", "100");
    let_pass(&mut peer, 300);
    publish_expiring(&mut peer, &queue, "long", "120000");
    peer.get(1, &queue, "long");
    peer.close();
}

#[test]
fn what_expires_behind_another_message_is_never_delivered() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = queue_with(&mut peer, FieldTable::new());
    publish_expiring(&mut peer, &queue, "long", "60000");
    publish_expiring(&mut peer, &queue, "short", "100");
    let_pass(&mut peer, 300);
    peer.get(1, &queue, "long");
    // 3.10 hands it out to whoever is faster than its timer.
    if peer.is_leveret() {
        peer.expect_empty(1, &queue);
    }
    peer.close();
}

#[test]
fn without_any_time_to_live_only_a_consumer_that_waits_gets_a_message() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = queue_with(&mut peer, number("x-message-ttl", 0));
    peer.publish(1, "", &queue, "nobody");
    wait_for_ready(&mut peer, &queue, 0);
    peer.ask(1, consume(&queue, "c"), consuming("c"));
    peer.publish(1, "", &queue, "taken");
    peer.expect_delivery(1, "c", "taken");
    publish_expiring(&mut peer, &queue, "taken too", "0");
    peer.expect_delivery(1, "c", "taken too");
    peer.close();
}

#[test]
fn a_queue_that_nobody_uses_is_deleted() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = queue_with(&mut peer, number("x-expires", 400));
    peer.publish(1, "", &queue, "lost");
    // A consumer keeps it.
    peer.ask(1, consume(&queue, "c"), consuming("c"));
    peer.expect_delivery(1, "c", "lost");
    let_pass(&mut peer, 600);
    peer.ask(1, queue::Declare { passive: true, ..declare(&queue) }, declared(&queue, 0, 1));
    peer.ask(1, cancel("c"), cancelled("c"));
    // So does whoever looks for it.
    for _ in 0..3 {
        let_pass(&mut peer, 250);
        peer.ask(1, queue::Declare { passive: true, ..declare(&queue) }, declared(&queue, 0, 0));
    }
    let_pass(&mut peer, 600);
    peer.send(1, queue::Declare { passive: true, ..declare(&queue) });
    let text = format!("NOT_FOUND - no queue '{queue}' in vhost '/'");
    peer.expect_channel_close(1, 404, &text, MethodId::QUEUE_DECLARE);
    peer.close();
}

#[test]
fn the_oldest_messages_give_way_where_there_are_too_many() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = queue_with(&mut peer, number("x-max-length", 2));
    peer.publish(1, "", &queue, "1");
    peer.get(1, &queue, "1");
    for body in ["2", "3", "4"] {
        peer.publish(1, "", &queue, body);
    }
    // What is unacked does not count, and comes back as the oldest.
    peer.expect_quiet(1, &queue, 2);
    peer.send(1, nack(1, false, true));
    peer.expect_quiet(1, &queue, 2);
    peer.get(1, &queue, "3");
    peer.get(1, &queue, "4");
    peer.expect_empty(1, &queue);
    peer.close();
}

#[test]
fn the_oldest_messages_give_way_where_their_bodies_are_too_large() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = queue_with(&mut peer, number("x-max-length-bytes", 10));
    for body in ["1234", "5678", "90", "a"] {
        peer.publish(1, "", &queue, body);
    }
    peer.expect_quiet(1, &queue, 3);
    peer.get(1, &queue, "5678");
    peer.publish(1, "", &queue, "larger than all of it");
    peer.expect_quiet(1, &queue, 0);
    peer.close();
}

/// A channel in confirm mode and a queue that refuses more than `length` messages.
fn refusing(broker: &Broker, length: i32) -> (Peer, String) {
    let mut peer = Peer::with_channel(broker);
    peer.ask(1, confirm::Select { no_wait: false }, confirm::SelectOk);
    let arguments = number("x-max-length", length).with("x-overflow", text("reject-publish"));
    let queue = queue_with(&mut peer, arguments);
    (peer, queue)
}

/// The fate of publishes `from..=to`, in order: true if it was taken.
fn fates(peer: &mut Peer, from: u64, to: u64) -> Vec<bool> {
    let mut fates = vec![None; usize::try_from(to - from + 1).expect("a few")];
    while fates.contains(&None) {
        let received = peer.recv();
        let (tag, multiple, taken) = match received.method() {
            Method::BasicAck(ack) => (ack.delivery_tag, ack.multiple, true),
            Method::BasicNack(nack) => (nack.delivery_tag, nack.multiple, false),
            other => panic!("{other:?}"),
        };
        for (number, fate) in (from..).zip(&mut fates) {
            if number == tag || multiple && number < tag && fate.is_none() {
                *fate = Some(taken);
            }
        }
    }
    fates.into_iter().flatten().collect()
}

#[test]
fn a_full_queue_may_refuse_what_is_published() {
    let broker = Broker::start();
    let (mut peer, queue) = refusing(&broker, 2);
    let other = queue_with(&mut peer, FieldTable::new());
    for number in 1..=4 {
        peer.publish(1, "", &queue, &number.to_string());
    }
    assert_eq!(fates(&mut peer, 1, 4), [true, true, false, false]);
    peer.get(1, &queue, "1");
    peer.publish(1, "", &queue, "5");
    peer.publish(1, "", &queue, "6");
    peer.publish(1, "", &other, "7");
    assert_eq!(fates(&mut peer, 5, 7), [true, false, true]);
    peer.get(1, &queue, "2");
    peer.get(1, &queue, "5");
    peer.expect_empty(1, &queue);
    // Where several queues get a message, each has its own say, and one that refuses is enough.
    let exchange = "amq.fanout";
    for queue in [&queue, &other] {
        peer.ask(1, bind(queue, exchange, &queue.clone()), queue::BindOk);
    }
    for _ in 0..3 {
        peer.publish(1, exchange, "", "to both");
    }
    assert_eq!(fates(&mut peer, 8, 10), [true, true, false]);
    peer.ask(1, purge(&queue), queue::PurgeOk { message_count: 2 });
    peer.ask(1, purge(&other), queue::PurgeOk { message_count: 4 });
    peer.close();
}

#[test]
fn a_full_queue_refuses_even_what_a_consumer_waits_for() {
    let broker = Broker::start();
    let (mut peer, queue) = refusing(&broker, 0);
    peer.ask(1, consume(&queue, "c"), consuming("c"));
    peer.publish(1, "", &queue, "1");
    assert_eq!(fates(&mut peer, 1, 1), [false]);
    peer.ask(1, cancel("c"), cancelled("c"));
    peer.close();
}

#[test]
fn what_a_consumer_has_taken_makes_room_for_the_next() {
    let broker = Broker::start();
    let (mut peer, queue) = refusing(&broker, 1);
    peer.open_channel(2);
    peer.ask(2, consume(&queue, "c"), consuming("c"));
    let mut octets = Vec::new();
    for number in 1..=20 {
        octets.extend(published(&queue, &number.to_string()));
    }
    peer.send_octets(&octets);
    let (mut delivered, mut confirmed) = (0, 0);
    while (delivered, confirmed) != (20, 20) {
        let received = peer.recv();
        match received.method() {
            Method::BasicAck(ack) => confirmed = ack.delivery_tag,
            Method::BasicDeliver(_) => {
                // Header and body.
                peer.recv();
                peer.recv();
                delivered += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    peer.close();
}

/// The frames of a publish on channel 1.
fn published(queue: &str, body: &str) -> Vec<u8> {
    let mut octets = encoded(1, publish("", queue));
    let properties = Properties::default();
    frame::encode_content_header(
        &mut octets,
        1,
        &ContentHeader { class_id: 60, body_size: body.len() as u64, properties },
    );
    frame::encode_body(&mut octets, 1, body.as_bytes(), 131_072);
    octets
}

/// More than its limit, once messages come back that were handed out.
#[test]
fn a_queue_that_refuses_does_not_drop_what_it_has_taken() {
    let broker = Broker::start();
    let (mut peer, queue) = refusing(&broker, 2);
    peer.publish(1, "", &queue, "1");
    peer.publish(1, "", &queue, "2");
    assert_eq!(fates(&mut peer, 1, 2), [true, true]);
    peer.get(1, &queue, "1");
    peer.get(1, &queue, "2");
    peer.publish(1, "", &queue, "3");
    peer.publish(1, "", &queue, "4");
    assert_eq!(fates(&mut peer, 3, 4), [true, true]);
    peer.send(1, nack(2, true, true));
    peer.expect_quiet(1, &queue, 4);
    peer.publish(1, "", &queue, "5");
    assert_eq!(fates(&mut peer, 5, 5), [false]);
    for body in ["1", "2", "3", "4"] {
        peer.get(1, &queue, body);
    }
    peer.expect_empty(1, &queue);
    peer.close();
}

#[test]
fn a_transaction_that_a_full_queue_refuses_fails() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let arguments = number("x-max-length", 1).with("x-overflow", text("reject-publish"));
    let queue = queue_with(&mut peer, arguments);
    peer.ask(1, tx::Select, tx::SelectOk);
    peer.publish(1, "", &queue, "1");
    peer.publish(1, "", &queue, "2");
    peer.send(1, tx::Commit);
    let text = "PRECONDITION_FAILED - partial tx completion";
    peer.expect_channel_close(1, 406, text, MethodId::TX_COMMIT);
    peer.open_channel(1);
    peer.get(1, &queue, "1");
    peer.close();
}

#[test]
fn times_to_live_in_a_transaction_begin_with_its_commit() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let own = queue_with(&mut peer, FieldTable::new());
    let queues = queue_with(&mut peer, number("x-message-ttl", 2000));
    peer.open_channel(2);
    peer.ask(2, tx::Select, tx::SelectOk);
    let properties = Properties { expiration: Some(b"2000"), ..Properties::default() };
    peer.send_message(2, publish("", &own), properties, "its own time");
    peer.publish(2, "", &queues, "the queue's time");
    let_pass(&mut peer, 2200);
    peer.ask(2, tx::Commit, tx::CommitOk);
    wait_for_ready(&mut peer, &own, 1);
    peer.get(1, &own, "its own time");
    peer.get(1, &queues, "the queue's time");
    peer.publish(2, "", &queues, "goes all the same");
    peer.ask(2, tx::Commit, tx::CommitOk);
    wait_for_ready(&mut peer, &queues, 0);
    peer.close();
}
