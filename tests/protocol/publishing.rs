//! Publishing: returns, confirms, transactions, copies by CC and BCC.

use leveret_codec::method::{Method, MethodId, basic, channel, confirm, queue, tx};
use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTable, FieldTableRef, FieldValue};

use crate::say::{ack, bind, channel_close, consume, consuming, delete, publish};
use crate::support::Broker;
use crate::wire::{Peer, unique};

fn mandatory<'a>(exchange: &'a str, routing_key: &'a str) -> basic::Publish<'a> {
    basic::Publish { mandatory: true, ..publish(exchange, routing_key) }
}

fn with_confirms(broker: &Broker) -> Peer {
    let mut peer = Peer::with_channel(broker);
    peer.ask(1, confirm::Select { no_wait: false }, confirm::SelectOk);
    peer
}

/// Reads acks until everything up to `last` is confirmed; each tag may be confirmed once.
#[track_caller]
fn expect_confirms(peer: &mut Peer, mut from: u64, last: u64) {
    while from <= last {
        let received = peer.recv();
        let Method::BasicAck(ack) = received.method() else { panic!("{:?}", received.method()) };
        assert_eq!(received.channel, 1);
        assert!(ack.delivery_tag >= from && ack.delivery_tag <= last, "{ack:?} after {from}");
        assert!(ack.multiple || ack.delivery_tag == from, "{ack:?} leaves out {from}");
        from = ack.delivery_tag + 1;
    }
}

#[test]
fn mandatory_message_without_a_queue_comes_back() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let headers = FieldTable::new().with("k", 1).encoded();
    let properties = Properties {
        headers: FieldTableRef::parse(&headers).ok(),
        message_id: Some(b"m"),
        ..Properties::default()
    };
    let key = unique("nowhere");
    peer.send_message(1, mandatory("amq.direct", &key), properties, "come back");
    let returned = peer.expect_return(1, "come back");
    assert_eq!((returned.exchange.as_str(), returned.routing_key.as_str()), ("amq.direct", key.as_str()));
    assert_eq!(returned.properties(), properties);
    peer.send_message(1, mandatory("", &key), Properties::default(), "");
    assert_eq!(peer.expect_return(1, "").exchange, "");
    // Without the flag nobody hears of it.
    peer.publish(1, "amq.direct", &key, "gone");
    peer.expect_nothing(1);
    peer.close();
}

#[test]
fn mandatory_message_with_a_queue_does_not_come_back() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    peer.send_message(1, mandatory("", &queue), Properties::default(), "there");
    peer.expect_quiet(1, &queue, 1);
    peer.close();
}

#[test]
fn every_publish_is_confirmed_once() {
    let broker = Broker::start();
    let mut peer = with_confirms(&broker);
    let queue = peer.queue(1);
    let persistent = Properties { delivery_mode: Some(2), ..Properties::default() };
    for number in 0..200_u32 {
        let properties = if number % 2 == 0 { persistent } else { Properties::default() };
        peer.send_message(1, publish("", &queue), properties, "x");
    }
    expect_confirms(&mut peer, 1, 200);
    // Selected again: counting goes on.
    peer.ask(1, confirm::Select { no_wait: false }, confirm::SelectOk);
    peer.publish(1, "", &queue, "x");
    peer.expect(1, ack(201));
    peer.expect_quiet(1, &queue, 201);
    peer.close();
}

#[test]
fn confirms_count_from_their_own_select_on() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    peer.publish(1, "", &queue, "before");
    peer.send(1, confirm::Select { no_wait: true });
    peer.publish(1, "", &queue, "after");
    peer.expect(1, ack(1));
    peer.close();
}

#[test]
fn message_that_is_routed_nowhere_is_returned_and_then_confirmed() {
    let broker = Broker::start();
    let mut peer = with_confirms(&broker);
    let key = unique("nowhere");
    peer.send_message(1, mandatory("amq.direct", &key), Properties::default(), "back");
    peer.expect_return(1, "back");
    peer.expect(1, ack(1));
    peer.publish(1, "amq.direct", &key, "dropped");
    peer.expect(1, ack(2));
    peer.close();
}

#[test]
fn publish_to_a_missing_exchange_is_not_confirmed_but_those_before_it_are() {
    let broker = Broker::start();
    let mut peer = with_confirms(&broker);
    let queue = peer.queue(1);
    peer.publish(1, "", &queue, "one");
    peer.expect(1, ack(1));
    peer.publish(1, "no-such", "k", "two");
    peer.publish(1, "", &queue, "three");
    let text = "NOT_FOUND - no exchange 'no-such' in vhost '/'";
    peer.expect_channel_close(1, 404, text, MethodId::BASIC_PUBLISH);
    peer.open_channel(1);
    peer.expect_quiet(1, &queue, 1);
    peer.close();
}

#[test]
fn commit_publishes_and_settles() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    peer.publish(1, "", &queue, "old");
    // Channels are not ordered among each other: the message is there before the other one asks.
    peer.expect_quiet(1, &queue, 1);
    peer.open_channel(2);
    peer.ask(2, tx::Select, tx::SelectOk);
    assert_eq!(peer.get(2, &queue, "old").tag, 1);
    peer.publish(2, "", &queue, "new");
    peer.send(2, ack(1));
    peer.expect_nothing(2);
    peer.expect_quiet(1, &queue, 0);
    peer.ask(2, tx::Commit, tx::CommitOk);
    peer.expect_quiet(1, &queue, 1);
    peer.ask(2, channel_close(), channel::CloseOk);
    peer.get(1, &queue, "new");
    peer.expect_empty(1, &queue);
    peer.close();
}

#[test]
fn rollback_forgets_publishes_and_makes_settled_messages_outstanding_again() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    peer.publish(1, "", &queue, "old");
    // Channels are not ordered among each other: the message is there before the other one asks.
    peer.expect_quiet(1, &queue, 1);
    peer.open_channel(2);
    peer.ask(2, tx::Select, tx::SelectOk);
    peer.get(2, &queue, "old");
    peer.publish(2, "", &queue, "new");
    peer.send(2, ack(1));
    peer.ask(2, tx::Rollback, tx::RollbackOk);
    peer.expect_quiet(1, &queue, 0);
    // Outstanding again: the same tag can be settled, and this time it counts.
    peer.send(2, crate::say::nack(1, false, true));
    peer.ask(2, tx::Commit, tx::CommitOk);
    assert!(peer.get(1, &queue, "old").redelivered);
    peer.expect_empty(1, &queue);
    peer.close();
}

#[test]
fn close_of_a_channel_rolls_back() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    peer.open_channel(2);
    peer.ask(2, tx::Select, tx::SelectOk);
    peer.publish(2, "", &queue, "never");
    peer.ask(2, channel_close(), channel::CloseOk);
    peer.expect_quiet(1, &queue, 0);
    peer.close();
}

/// What was settled in a transaction that does not come to its commit goes back like any other delivery.
#[test]
fn what_was_settled_and_not_committed_comes_back_when_the_channel_ends() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    for body in ["acked", "rejected", "nacked", "unsettled"] {
        peer.publish(1, "", &queue, body);
    }
    peer.expect_quiet(1, &queue, 4);
    let take_and_settle = |peer: &mut Peer| {
        peer.open_channel(2);
        peer.ask(2, tx::Select, tx::SelectOk);
        for body in ["acked", "rejected", "nacked", "unsettled"] {
            peer.get(2, &queue, body);
        }
        peer.send(2, ack(1));
        peer.send(2, crate::say::reject(2, false));
        peer.send(2, crate::say::nack(3, false, false));
    };
    take_and_settle(&mut peer);
    peer.ask(2, channel_close(), channel::CloseOk);
    peer.expect_quiet(1, &queue, 4);
    // By an error too.
    take_and_settle(&mut peer);
    peer.send(2, ack(99));
    let text = "PRECONDITION_FAILED - unknown delivery tag 99";
    peer.expect_channel_close(2, 406, text, MethodId::BASIC_ACK);
    peer.expect_quiet(1, &queue, 4);
    for body in ["acked", "rejected", "nacked", "unsettled"] {
        assert!(peer.get(1, &queue, body).redelivered, "{body}");
    }
    peer.close();
}

#[test]
fn returns_of_a_transaction_come_with_its_commit() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    peer.ask(1, tx::Select, tx::SelectOk);
    let key = unique("nowhere");
    peer.send_message(1, mandatory("amq.direct", &key), Properties::default(), "back");
    peer.expect_nothing(1);
    peer.send(1, tx::Commit);
    peer.expect_return(1, "back");
    peer.expect(1, tx::CommitOk);
    peer.close();
}

#[test]
fn cc_and_bcc_are_further_routing_keys_and_bcc_is_not_told() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let [to, cc, bcc] = [peer.queue(1), peer.queue(1), peer.queue(1)];
    let keys = |names: &[&String]| -> FieldValue {
        FieldValue::Array(names.iter().map(|name| name.as_str().into()).collect())
    };
    let headers = FieldTable::new()
        .with("before", 1)
        .with("CC", keys(&[&cc, &to]))
        .with("BCC", keys(&[&bcc]))
        .with("after", 2)
        .encoded();
    let properties = Properties { headers: FieldTableRef::parse(&headers).ok(), ..Properties::default() };
    peer.send_message(1, publish("", &to), properties, "copied");
    for queue in [&to, &cc, &bcc] {
        let message = peer.get(1, queue, "copied");
        // The key it was published with; each queue got it once.
        assert_eq!((message.routing_key.as_str(), message.left), (to.as_str(), 0));
        let headers = message.properties().headers.unwrap().to_owned();
        assert_eq!(headers.get("CC"), Some(&keys(&[&cc, &to])));
        assert!(headers.get("BCC").is_none());
        assert!(headers.get("before").is_some() && headers.get("after").is_some());
    }
    peer.close();
}

#[test]
fn own_user_id_is_passed_on() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    let properties = Properties { user_id: Some(b"guest"), ..Properties::default() };
    peer.send_message(1, publish("", &queue), properties, "mine");
    assert_eq!(peer.get(1, &queue, "mine").properties(), properties);
    peer.close();
}

#[test]
fn messages_of_one_channel_arrive_in_order() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    for exchange in ["amq.direct", "amq.topic"] {
        peer.ask(1, bind(&queue, exchange, &queue), queue::BindOk);
    }
    let mut consumer = basic::Consume { no_ack: true, ..consume(&queue, "c") };
    consumer.no_wait = false;
    for number in 0..150 {
        let exchange = ["", "amq.direct", "amq.topic"][number % 3];
        peer.publish(1, exchange, &queue, &number.to_string());
    }
    peer.ask(1, consumer, consuming("c"));
    for number in 150..300 {
        let exchange = ["", "amq.direct", "amq.topic"][number % 3];
        peer.publish(1, exchange, &queue, &number.to_string());
    }
    for number in 0..300 {
        let message = peer.expect_delivery(1, "c", &number.to_string());
        assert_eq!(message.tag, number + 1);
    }
    peer.close();
}

#[test]
fn each_message_goes_to_its_own_place_however_they_take_turns() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queues = [peer.queue(1), peer.queue(1), peer.queue(1)];
    let turns = [0, 0, 0, 1, 1, 1, 0, 1, 2, 2, 0, 0, 2, 1, 1, 2];
    let mut expected = vec![Vec::new(); queues.len()];
    for (number, turn) in turns.into_iter().enumerate() {
        peer.publish(1, "", &queues[turn], &number.to_string());
        expected[turn].push(number.to_string());
    }
    for (queue, expected) in queues.iter().zip(expected) {
        for body in expected {
            peer.get(1, queue, &body);
        }
        peer.expect_empty(1, queue);
    }
    peer.close();
}

#[test]
fn message_to_a_deleted_queue_is_confirmed() {
    let broker = Broker::start();
    let mut peer = with_confirms(&broker);
    let queue = peer.queue(1);
    peer.ask(1, delete(&queue), queue::DeleteOk { message_count: 0 });
    peer.publish(1, "", &queue, "late");
    peer.expect(1, ack(1));
    peer.close();
}
