//! Consumers: subscribing, taking turns, prefetch, priorities, and the ways they end.

use leveret_codec::frame::FrameType;
use leveret_codec::method::{Method, basic, channel, queue, tx};
use leveret_codec::table::FieldTable;

use crate::say::{
    ack, ack_up_to, cancel, cancelled, channel_close, consume, consuming, declare, declared, delete, deleted,
    qos,
};
use crate::support::Broker;
use crate::wire::{Peer, USUAL, Wishes, unique};

#[test]
fn consume_ok_comes_before_the_first_delivery() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    peer.publish(1, "", &queue, "waiting");
    peer.ask(1, consume(&queue, "c"), consuming("c"));
    let message = peer.expect_delivery(1, "c", "waiting");
    assert_eq!((message.tag, message.redelivered), (1, false));
    assert_eq!((message.exchange.as_str(), message.routing_key.as_str()), ("", queue.as_str()));
    peer.close();
}

#[test]
fn consumer_without_a_tag_is_given_one() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    peer.send(1, consume(&queue, ""));
    let received = peer.recv();
    let Method::BasicConsumeOk(consuming) = received.method() else { panic!("{received:?}") };
    assert!(consuming.consumer_tag.starts_with("amq.ctag-"));
    assert_eq!(consuming.consumer_tag.len(), "amq.ctag-".len() + 22);
    peer.publish(1, "", &queue, "x");
    peer.expect_delivery(1, consuming.consumer_tag, "x");
    peer.close();
}

#[test]
fn cancelled_consumer_keeps_what_it_has_and_gets_nothing_more() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    peer.ask(1, consume(&queue, "c"), consuming("c"));
    peer.publish(1, "", &queue, "one");
    assert_eq!(peer.expect_delivery(1, "c", "one").tag, 1);
    peer.ask(1, cancel("c"), cancelled("c"));
    peer.publish(1, "", &queue, "two");
    peer.expect_quiet(1, &queue, 1);
    peer.send(1, ack(1));
    peer.get(1, &queue, "two");
    // The tag is free again; one that nobody has is cancelled as well.
    peer.ask(1, consume(&queue, "c"), consuming("c"));
    peer.ask(1, cancel("nobody"), cancelled("nobody"));
    peer.close();
}

#[test]
fn consumers_take_turns() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    for tag in ["a", "b", "c"] {
        peer.ask(1, basic::Consume { no_ack: true, ..consume(&queue, tag) }, consuming(tag));
    }
    let mut turns = Vec::new();
    for number in 0..9_u32 {
        peer.publish(1, "", &queue, &number.to_string());
        let (_, message) = peer.recv_message(1);
        assert_eq!(message.body, number.to_string());
        turns.push(message.consumer_tag);
    }
    for round in turns.chunks(3) {
        assert_eq!(round, ["a", "b", "c"], "{turns:?}");
    }
    peer.close();
}

#[test]
fn consumer_of_higher_priority_goes_first() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    peer.ask(1, qos(1), basic::QosOk);
    for (tag, priority) in [("low", -5), ("middle", 0), ("high", 10)] {
        let arguments = FieldTable::new().with("x-priority", priority);
        peer.ask(1, basic::Consume { arguments, ..consume(&queue, tag) }, consuming(tag));
    }
    for tag in ["high", "middle", "low"] {
        peer.publish(1, "", &queue, tag);
        peer.expect_delivery(1, tag, tag);
    }
    peer.publish(1, "", &queue, "more");
    peer.expect_quiet(1, &queue, 1);
    // Whoever has room is served, however low.
    peer.send(1, ack(3));
    peer.expect_delivery(1, "low", "more");
    peer.close();
}

#[test]
fn prefetch_limits_each_consumer_that_comes_after_it() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queues = [peer.queue(1), peer.queue(1)];
    peer.ask(1, qos(2), basic::QosOk);
    peer.ask(1, consume(&queues[0], "two"), consuming("two"));
    peer.ask(1, qos(1), basic::QosOk);
    peer.ask(1, consume(&queues[1], "one"), consuming("one"));
    for queue in &queues {
        for body in ["x", "y", "z"] {
            peer.publish(1, "", queue, body);
        }
    }
    let mut bodies = Vec::new();
    for _ in 0..3 {
        let (_, message) = peer.recv_message(1);
        bodies.push(message.consumer_tag + &message.body);
    }
    bodies.sort();
    assert_eq!(bodies, ["onex", "twox", "twoy"]);
    peer.expect_quiet(1, &queues[0], 1);
    peer.expect_quiet(1, &queues[1], 2);
    peer.send(1, ack_up_to(0));
    let mut bodies = Vec::new();
    for _ in 0..2 {
        let (_, message) = peer.recv_message(1);
        bodies.push(message.consumer_tag + &message.body);
    }
    bodies.sort();
    assert_eq!(bodies, ["oney", "twoz"]);
    peer.close();
}

#[test]
fn global_prefetch_is_shared_by_the_channel() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queues = [peer.queue(1), peer.queue(1)];
    peer.ask(1, basic::Qos { prefetch_size: 0, prefetch_count: 3, global: true }, basic::QosOk);
    for (queue, tag) in queues.iter().zip(["a", "b"]) {
        peer.ask(1, consume(queue, tag), consuming(tag));
    }
    for queue in queues.iter().cycle().take(4) {
        peer.publish(1, "", queue, "x");
    }
    let tags: Vec<u64> = (0..3).map(|_| peer.recv_message(1).1.tag).collect();
    assert_eq!(tags, [1, 2, 3]);
    peer.expect_nothing(1);
    peer.send(1, ack(1));
    assert_eq!(peer.recv_message(1).1.tag, 4);
    peer.close();
}

#[test]
fn global_prefetch_is_of_deliveries_to_consumers_until_they_are_settled_for_good() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    peer.ask(1, tx::Select, tx::SelectOk);
    peer.ask(1, basic::Qos { prefetch_size: 0, prefetch_count: 1, global: true }, basic::QosOk);
    for body in ["1", "2", "3"] {
        peer.publish(1, "", &queue, body);
    }
    peer.ask(1, tx::Commit, tx::CommitOk);
    // What basic.get holds does not count.
    peer.get(1, &queue, "1");
    peer.ask(1, consume(&queue, "c"), consuming("c"));
    peer.expect_delivery(1, "c", "2");
    // Nothing is settled before the commit.
    peer.send(1, ack(2));
    peer.expect_nothing(1);
    peer.send(1, tx::Commit);
    // commit-ok, and the delivery in three frames, in either order.
    let frames: Vec<_> = (0..4).map(|_| peer.recv()).collect();
    let bodies = frames.iter().filter(|frame| frame.frame_type == FrameType::Body);
    assert_eq!(bodies.map(|frame| frame.payload.as_slice()).collect::<Vec<_>>(), [b"3"]);
    peer.close();
}

#[test]
fn prefetch_does_not_hold_back_those_who_do_not_acknowledge() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    peer.ask(1, qos(1), basic::QosOk);
    peer.ask(1, basic::Consume { no_ack: true, ..consume(&queue, "c") }, consuming("c"));
    for body in ["1", "2", "3"] {
        peer.publish(1, "", &queue, body);
    }
    for body in ["1", "2", "3"] {
        peer.expect_delivery(1, "c", body);
    }
    peer.expect_quiet(1, &queue, 0);
    peer.close();
}

#[test]
fn get_is_not_limited_by_prefetch() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    peer.ask(1, qos(1), basic::QosOk);
    for body in ["1", "2", "3"] {
        peer.publish(1, "", &queue, body);
    }
    for body in ["1", "2", "3"] {
        peer.get(1, &queue, body);
    }
    peer.close();
}

#[test]
fn no_local_is_ignored() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    peer.ask(1, basic::Consume { no_local: true, ..consume(&queue, "c") }, consuming("c"));
    peer.publish(1, "", &queue, "mine");
    peer.expect_delivery(1, "c", "mine");
    peer.close();
}

#[test]
fn deleted_queue_cancels_its_consumers() {
    let broker = Broker::start();
    let mut owner = Peer::with_channel(&broker);
    let mut peer = Peer::with_channel(&broker);
    let queue = unique("cancelled");
    owner.ask(1, declare(&queue), declared(&queue, 0, 0));
    peer.ask(1, consume(&queue, "a"), consuming("a"));
    owner.ask(1, delete(&queue), deleted(0));
    peer.expect(1, basic::Cancel { consumer_tag: "a", no_wait: true });
    if peer.either(true, false, "the specification allows an answer; RabbitMQ 3.10 ends the connection") {
        peer.send(1, cancelled("a"));
    }
    // The tag is free.
    let other = peer.queue(1);
    peer.ask(1, consume(&other, "a"), consuming("a"));
    peer.close();
    owner.close();
}

#[test]
fn cancel_is_sent_to_those_who_announced_they_understand_it() {
    let broker = Broker::start();
    let mut owner = Peer::with_channel(&broker);
    let mut peer = Peer::open_with(&broker, Wishes { capable: false, ..USUAL });
    peer.open_channel(1);
    let queue = unique("cancelled");
    owner.ask(1, declare(&queue), declared(&queue, 0, 0));
    peer.ask(1, consume(&queue, "a"), consuming("a"));
    owner.ask(1, delete(&queue), deleted(0));
    peer.expect_nothing(1);
    peer.close();
    owner.close();
}

#[test]
fn messages_of_a_deleted_queue_can_still_be_settled() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    peer.publish(1, "", &queue, "orphan");
    peer.ask(1, consume(&queue, "a"), consuming("a"));
    assert_eq!(peer.expect_delivery(1, "a", "orphan").tag, 1);
    peer.send(1, delete(&queue));
    let mut names: Vec<_> = (0..2).map(|_| peer.recv().method().id()).collect();
    names.sort();
    let ids = [leveret_codec::MethodId::QUEUE_DELETE_OK, leveret_codec::MethodId::BASIC_CANCEL];
    assert_eq!(names, ids);
    peer.send(1, ack(1));
    peer.expect_nothing(1);
    peer.close();
}

#[test]
fn closed_channel_ends_its_consumers() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    peer.open_channel(2);
    peer.ask(2, consume(&queue, "c"), consuming("c"));
    peer.ask(1, queue::Declare { passive: true, ..declare(&queue) }, declared(&queue, 0, 1));
    peer.ask(2, channel_close(), channel::CloseOk);
    peer.ask(1, queue::Declare { passive: true, ..declare(&queue) }, declared(&queue, 0, 0));
    peer.publish(1, "", &queue, "kept");
    peer.expect_quiet(1, &queue, 1);
    peer.close();
}

#[test]
fn consume_without_an_answer_starts_with_the_first_delivery() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    peer.publish(1, "", &queue, "x");
    peer.send(1, basic::Consume { no_wait: true, ..consume(&queue, "c") });
    peer.expect_delivery(1, "c", "x");
    peer.send(1, basic::Cancel { consumer_tag: "c", no_wait: true });
    peer.publish(1, "", &queue, "y");
    peer.expect_quiet(1, &queue, 1);
    peer.close();
}

#[test]
fn empty_queue_name_means_the_last_one_declared() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    peer.queue(1);
    let queue = peer.queue(1);
    peer.publish(1, "", &queue, "one");
    peer.publish(1, "", &queue, "two");
    peer.expect_quiet(1, &queue, 2);
    assert_eq!(peer.get(1, "", "one").left, 1);
    peer.ask(1, consume("", "c"), consuming("c"));
    peer.expect_delivery(1, "c", "two");
    peer.close();
}
