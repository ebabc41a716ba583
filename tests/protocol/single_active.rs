//! Queues with a single active consumer: who gets messages, who takes over, and in which order the new one gets what
//! the former one had.

use leveret_codec::method::{MethodId, basic, channel, queue};
use leveret_codec::table::{FieldTable, FieldValue};

use crate::say::{
    ack, cancel, cancelled, channel_close, consume, consuming, declare, declared, delete, deleted, qos,
};
use crate::support::Broker;
use crate::wire::{Peer, unique};

fn single_active(queue: &str) -> queue::Declare<'_> {
    queue::Declare { arguments: FieldTable::new().with("x-single-active-consumer", true), ..declare(queue) }
}

#[test]
fn one_consumer_gets_all_and_the_next_goes_on_behind_what_the_cancelled_one_keeps() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let mut others = Peer::with_channel(&broker);
    let queue = unique("single");
    peer.ask(1, single_active(&queue), declared(&queue, 0, 0));
    peer.open_channel(2);
    peer.ask(2, consume(&queue, "a"), consuming("a"));
    for tag in ["b", "c"] {
        others.ask(1, consume(&queue, tag), consuming(tag));
    }
    for body in ["1", "2"] {
        peer.publish(1, "", &queue, body);
        peer.expect_delivery(2, "a", body);
    }
    peer.ask(2, cancel("a"), cancelled("a"));
    peer.publish(1, "", &queue, "3");
    assert_eq!(others.expect_delivery(1, "b", "3").tag, 1);
    // What the first one had comes back, to the one that is active by then.
    peer.send(2, ack(1));
    peer.ask(2, channel_close(), channel::CloseOk);
    assert!(others.expect_delivery(1, "b", "2").redelivered);
    peer.ask(1, queue::Declare { passive: true, ..declare(&queue) }, declared(&queue, 0, 2));
    others.close();
    peer.expect_quiet(1, &queue, 2);
    peer.ask(1, delete(&queue), deleted(2));
    peer.close();
}

#[test]
fn what_a_lost_consumer_had_comes_first_and_in_order() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let mut lost = Peer::with_channel(&broker);
    let queue = unique("single");
    peer.ask(1, single_active(&queue), declared(&queue, 0, 0));
    lost.ask(1, qos(2), basic::QosOk);
    lost.ask(1, consume(&queue, "lost"), consuming("lost"));
    peer.open_channel(2);
    peer.ask(2, consume(&queue, "next"), consuming("next"));
    for body in ["1", "2", "3", "4"] {
        peer.publish(1, "", &queue, body);
    }
    lost.expect_delivery(1, "lost", "1");
    lost.expect_delivery(1, "lost", "2");
    peer.expect_quiet(1, &queue, 2);
    drop(lost);
    for (body, redelivered) in [("1", true), ("2", true), ("3", false), ("4", false)] {
        assert_eq!(peer.expect_delivery(2, "next", body).redelivered, redelivered, "{body}");
    }
    peer.send(1, delete(&queue));
    peer.recv();
    peer.recv();
    peer.close();
}

#[test]
fn the_highest_priority_takes_over_but_does_not_push_the_active_one_out() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = unique("single");
    peer.ask(1, single_active(&queue), declared(&queue, 0, 0));
    for (tag, priority) in [("low", 0), ("other", 0), ("high", 10)] {
        let arguments = FieldTable::new().with("x-priority", priority);
        peer.ask(1, basic::Consume { arguments, ..consume(&queue, tag) }, consuming(tag));
    }
    for tag in ["low", "high", "other"] {
        peer.publish(1, "", &queue, "x");
        peer.expect_delivery(1, tag, "x");
        peer.ask(1, cancel(tag), cancelled(tag));
    }
    peer.publish(1, "", &queue, "nobody");
    peer.expect_quiet(1, &queue, 1);
    peer.ask(1, delete(&queue), deleted(1));
    peer.close();
}

#[test]
fn a_waiting_consumer_gets_nothing_while_the_active_one_has_no_credit() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = unique("single");
    peer.ask(1, single_active(&queue), declared(&queue, 0, 0));
    peer.ask(1, qos(1), basic::QosOk);
    for tag in ["active", "waiting"] {
        peer.ask(1, consume(&queue, tag), consuming(tag));
    }
    peer.publish(1, "", &queue, "1");
    peer.publish(1, "", &queue, "2");
    peer.expect_delivery(1, "active", "1");
    peer.expect_quiet(1, &queue, 1);
    peer.send(1, ack(1));
    peer.expect_delivery(1, "active", "2");
    // basic.get is for everybody.
    peer.publish(1, "", &queue, "3");
    peer.get(1, &queue, "3");
    peer.ask(1, cancel("waiting"), cancelled("waiting"));
    peer.ask(1, cancel("active"), cancelled("active"));
    peer.ask(1, delete(&queue), deleted(0));
    peer.close();
}

#[test]
fn exclusive_consumer_of_it_is_refused() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = unique("single");
    peer.ask(1, single_active(&queue), declared(&queue, 0, 0));
    peer.send(1, basic::Consume { exclusive: true, ..consume(&queue, "c") });
    let text = format!("ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use");
    peer.expect_channel_close(1, 403, &text, MethodId::BASIC_CONSUME);
    peer.open_channel(1);
    peer.ask(1, delete(&queue), deleted(0));
    peer.close();
}

#[test]
fn the_argument_is_a_boolean_and_compared() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = unique("single");
    let bad: [(FieldValue, &str); 2] = [("yes".into(), "longstr"), (1.into(), "signedint")];
    for (value, type_name) in bad {
        let arguments = FieldTable::new().with("x-single-active-consumer", value);
        peer.send(1, queue::Declare { arguments, ..declare(&queue) });
        let text = format!(
            "PRECONDITION_FAILED - invalid arg 'x-single-active-consumer' for queue '{queue}' in vhost '/': \
             {{unacceptable_type,{type_name}}}"
        );
        peer.expect_channel_close(1, 406, &text, MethodId::QUEUE_DECLARE);
        peer.open_channel(1);
    }
    peer.ask(1, single_active(&queue), declared(&queue, 0, 0));
    peer.ask(1, single_active(&queue), declared(&queue, 0, 0));
    peer.send(1, declare(&queue));
    let text = format!(
        "PRECONDITION_FAILED - inequivalent arg 'x-single-active-consumer' for queue '{queue}' in vhost '/': \
         received none but current is the value 'true' of type 'bool'"
    );
    peer.expect_channel_close(1, 406, &text, MethodId::QUEUE_DECLARE);
    peer.open_channel(1);
    peer.ask(1, delete(&queue), deleted(0));
    peer.close();
}
