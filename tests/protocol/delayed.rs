//! Delayed exchanges: RabbitMQ's plugin, which its distribution does not have, so that these scripts are for Leveret.

use leveret_codec::method::{MethodId, basic, confirm, exchange, queue, tx};
use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTable, FieldTableRef, FieldValue};

use crate::say::{bind, consume, consuming, exchange_declare, publish};
use crate::support::Broker;
use crate::wire::{Peer, unique};

/// A delayed exchange with a queue bound to it by `key`; their names.
fn delayed(peer: &mut Peer, real_type: &str) -> (String, String) {
    let name = unique("delayed");
    let arguments = FieldTable::new().with("x-delayed-type", real_type);
    let declare = exchange::Declare { arguments, ..exchange_declare(&name, "x-delayed-message") };
    peer.ask(1, declare, exchange::DeclareOk);
    let queue = peer.queue(1);
    peer.ask(1, bind(&queue, &name, "key"), queue::BindOk);
    (name, queue)
}

fn send(peer: &mut Peer, publish: basic::Publish<'_>, headers: &FieldTable, body: &str) {
    let octets = headers.encoded();
    let headers = FieldTableRef::parse(&octets).ok();
    let properties = Properties { headers, delivery_mode: Some(2), ..Properties::default() };
    peer.send_message(1, publish, properties, body);
}

fn delay(milliseconds: i64) -> FieldTable {
    FieldTable::new().with("x-delay", milliseconds)
}

#[test]
fn the_type_behind_a_delayed_exchange_has_to_be_there() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    if !peer.is_leveret() {
        return peer.close();
    }
    let cases = [
        (None, "PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing exchange type"),
        (
            Some("x-delayed-message"),
            "PRECONDITION_FAILED - Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'",
        ),
        (Some("strange"), "PRECONDITION_FAILED - unknown exchange type 'strange'"),
    ];
    for (real_type, text) in cases {
        let mut arguments = FieldTable::new();
        real_type.into_iter().for_each(|real_type| arguments.set("x-delayed-type", real_type));
        let name = unique("delayed");
        peer.send(1, exchange::Declare { arguments, ..exchange_declare(&name, "x-delayed-message") });
        peer.expect_channel_close(1, 406, text, MethodId::EXCHANGE_DECLARE);
        peer.open_channel(1);
    }
    peer.close();
}

#[test]
fn a_delayed_message_is_confirmed_and_not_returned_and_comes_with_its_delay_negated() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    if !peer.is_leveret() {
        return peer.close();
    }
    let (name, queue) = delayed(&mut peer, "direct");
    peer.ask(1, confirm::Select { no_wait: false }, confirm::SelectOk);
    let to = |key| basic::Publish { mandatory: true, ..publish(&name, key) };
    send(&mut peer, to("key"), &delay(200), "later");
    peer.expect(1, basic::Ack { delivery_tag: 1, multiple: false });
    send(&mut peer, to("key"), &delay(-5), "at once");
    peer.expect(1, basic::Ack { delivery_tag: 2, multiple: false });
    peer.ask(1, consume(&queue, "c"), consuming("c"));
    let message = peer.expect_delivery(1, "c", "at once");
    assert_eq!(message.properties().headers.map(|headers| headers.to_owned()), Some(delay(-5)));
    let message = peer.expect_delivery(1, "c", "later");
    let headers = message.properties().headers.map(|headers| headers.to_owned());
    assert_eq!(headers, Some(FieldTable::new().with("x-delay", FieldValue::I32(-200))));
    assert_eq!((&*message.exchange, &*message.routing_key), (&*name, "key"));
    send(&mut peer, to("nowhere"), &FieldTable::new(), "unroutable");
    peer.expect_return(1, "unroutable");
    peer.expect(1, basic::Ack { delivery_tag: 3, multiple: false });
    peer.close();
}

#[test]
fn a_delay_counts_from_the_publish_and_comes_with_the_commit() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    if !peer.is_leveret() {
        return peer.close();
    }
    let (name, queue) = delayed(&mut peer, "topic");
    peer.ask(1, tx::Select, tx::SelectOk);
    send(&mut peer, publish(&name, "key"), &delay(1), "rolled back");
    peer.ask(1, tx::Rollback, tx::RollbackOk);
    send(&mut peer, publish(&name, "key"), &delay(1), "committed");
    peer.ask(1, tx::Commit, tx::CommitOk);
    peer.ask(1, consume(&queue, "c"), consuming("c"));
    peer.expect_delivery(1, "c", "committed");
    peer.expect_nothing(1);
    peer.close();
}

#[test]
fn a_delay_of_more_than_ten_years_is_refused() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    if !peer.is_leveret() {
        return peer.close();
    }
    let (name, _) = delayed(&mut peer, "fanout");
    send(&mut peer, publish(&name, ""), &delay(315_360_000_001), "far away");
    let text = "PRECONDITION_FAILED - invalid delay of 315360000001 ms: more than 315360000000";
    peer.expect_channel_close(1, 406, text, MethodId::BASIC_PUBLISH);
    peer.open_channel(1);
    peer.close();
}
