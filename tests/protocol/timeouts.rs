//! Deliveries that nobody settles in time. The brokers are started here, since RabbitMQ's timeout is not of seconds.

use std::time::{Duration, Instant};

use leveret_codec::method::{MethodId, basic, channel, queue, tx};
use leveret_codec::table::FieldTable;

use crate::say::{
    ack, ack_up_to, cancel, cancelled, consume, consuming, declare, declared, delete, deleted, qos,
};
use crate::support::Broker;
use crate::wire::{Peer, USUAL, Wishes, unique};

const TIMEOUT_MS: &str = "700";

fn start() -> Broker {
    Broker::start_with(&["--consumer-timeout-ms", TIMEOUT_MS])
}

#[track_caller]
fn expect_timeout(peer: &mut Peer, channel: u16) {
    let text = format!(
        "PRECONDITION_FAILED - delivery acknowledgement on channel {channel} timed out. Timeout value used: \
         {TIMEOUT_MS} ms. This timeout value can be configured, see consumers doc guide to learn more"
    );
    peer.expect_channel_close(channel, 406, &text, MethodId::NONE);
}

#[test]
fn a_consumer_that_does_not_acknowledge_loses_its_channel_and_what_it_had() {
    let broker = start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    peer.open_channel(2);
    peer.ask(2, consume(&queue, "c"), consuming("c"));
    for body in ["1", "2", "3"] {
        peer.publish(1, "", &queue, body);
        peer.expect_delivery(2, "c", body);
    }
    peer.send(2, ack(2));
    // What a cancelled consumer keeps is no better off.
    peer.ask(2, cancel("c"), cancelled("c"));
    expect_timeout(&mut peer, 2);
    assert!(peer.get(1, &queue, "1").redelivered);
    assert!(peer.get(1, &queue, "3").redelivered);
    peer.open_channel(2);
    peer.expect_nothing(2);
    peer.close();
}

#[test]
fn what_was_got_is_to_be_settled_in_time_as_well() {
    let broker = start();
    let mut peer = Peer::with_channel(&broker);
    let queue = unique("overdue");
    peer.ask(1, declare(&queue), declared(&queue, 0, 0));
    peer.publish(1, "", &queue, "x");
    peer.get(1, &queue, "x");
    expect_timeout(&mut peer, 1);
    peer.open_channel(1);
    peer.ask(1, delete(&queue), deleted(1));
    peer.close();
}

#[test]
fn who_settles_in_time_or_not_at_all_by_agreement_is_left_alone() {
    let broker = Broker::start_with(&["--consumer-timeout-ms", "2000"]);
    let mut peer = Peer::with_channel(&broker);
    let queues = [peer.queue(1), peer.queue(1), peer.queue(1)];
    peer.open_channel(2);
    peer.open_channel(3);
    peer.ask(1, basic::Consume { no_ack: true, ..consume(&queues[0], "no_ack") }, consuming("no_ack"));
    peer.publish(1, "", &queues[0], "x");
    peer.expect_delivery(1, "no_ack", "x");
    // A settlement that waits for its commit is one.
    peer.ask(3, tx::Select, tx::SelectOk);
    peer.publish(1, "", &queues[1], "in transaction");
    peer.expect_quiet(1, &queues[1], 1);
    peer.get(3, &queues[1], "in transaction");
    peer.send(3, ack(1));
    // A steady consumer always has something unsettled, never for long.
    peer.ask(2, consume(&queues[2], "steady"), consuming("steady"));
    peer.publish(1, "", &queues[2], "next");
    let mut last = peer.expect_delivery(2, "steady", "next").tag;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(5) {
        peer.publish(1, "", &queues[2], "next");
        let next = peer.expect_delivery(2, "steady", "next").tag;
        peer.send(2, ack(last));
        last = next;
    }
    peer.expect_nothing(1);
    peer.expect_nothing(2);
    peer.ask(3, tx::Commit, tx::CommitOk);
    peer.close();
}

/// A quorum queue, by itself or with a timeout of its own.
fn quorum(queue: &str, timeout_ms: Option<u64>) -> queue::Declare<'_> {
    let mut arguments = FieldTable::new().with("x-queue-type", "quorum");
    if let Some(timeout_ms) = timeout_ms {
        arguments.insert("x-consumer-timeout", timeout_ms as i64);
    }
    queue::Declare { durable: true, arguments, ..declare(queue) }
}

#[test]
fn a_quorum_queue_cancels_the_consumer_and_takes_its_messages_back() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = unique("overdue");
    peer.ask(1, quorum(&queue, Some(700)), declared(&queue, 0, 0));
    peer.open_channel(2);
    peer.ask(2, consume(&queue, "c"), consuming("c"));
    for body in ["1", "2", "3"] {
        peer.publish(1, "", &queue, body);
        peer.expect_delivery(2, "c", body);
    }
    peer.send(2, ack(2));
    peer.expect(2, basic::Cancel { consumer_tag: "c", no_wait: true });
    peer.ask(1, queue::Declare { passive: true, ..declare(&queue) }, declared(&queue, 2, 0));
    // Too late, but no mistake.
    peer.send(2, ack(1));
    peer.expect_nothing(2);
    peer.ask(2, consume(&queue, "c"), consuming("c"));
    for (body, tag) in [("1", 4), ("3", 5)] {
        let message = peer.expect_delivery(2, "c", body);
        assert_eq!((message.tag, message.redelivered), (tag, true));
    }
    peer.send(2, ack_up_to(0));
    peer.ask(2, cancel("c"), cancelled("c"));
    peer.ask(1, delete(&queue), deleted(0));
    peer.close();
}

#[test]
fn a_consumer_of_a_quorum_queue_can_have_a_timeout_of_its_own() {
    let broker = start();
    let mut peer = Peer::with_channel(&broker);
    let queue = unique("overdue");
    peer.ask(1, quorum(&queue, Some(600_000)), declared(&queue, 0, 0));
    let own = |timeout_ms: i64| FieldTable::new().with("x-consumer-timeout", timeout_ms);
    for (channel, tag, timeout_ms) in [(2, "patient", 0), (3, "hasty", 500)] {
        peer.open_channel(channel);
        peer.ask(channel, qos(1), basic::QosOk);
        let arguments = own(timeout_ms);
        peer.ask(channel, basic::Consume { arguments, ..consume(&queue, tag) }, consuming(tag));
        peer.publish(1, "", &queue, tag);
        peer.expect_delivery(channel, tag, tag);
    }
    peer.expect(3, basic::Cancel { consumer_tag: "hasty", no_wait: true });
    peer.ask(1, queue::Declare { passive: true, ..declare(&queue) }, declared(&queue, 1, 1));
    peer.send(2, ack(1));
    peer.expect_delivery(2, "patient", "hasty");
    peer.send(1, delete(&queue));
    peer.recv();
    peer.recv();
    peer.close();
}

#[test]
fn who_would_not_learn_of_a_cancelled_consumer_loses_its_channel() {
    let broker = start();
    let mut peer = Peer::open_with(&broker, Wishes { capable: false, ..USUAL });
    peer.open_channel(1);
    let queue = unique("overdue");
    peer.ask(1, quorum(&queue, None), declared(&queue, 0, 0));
    peer.ask(1, consume(&queue, "c"), consuming("c"));
    peer.publish(1, "", &queue, "x");
    peer.expect_delivery(1, "c", "x");
    expect_timeout(&mut peer, 1);
    peer.open_channel(1);
    peer.ask(1, delete(&queue), deleted(1));
    peer.close();
}

#[test]
fn classic_queues_and_their_consumers_have_no_timeout_of_their_own() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    let arguments = FieldTable::new().with("x-consumer-timeout", 1000_i64);
    peer.send(1, basic::Consume { arguments, ..consume(&queue, "c") });
    let text = format!(
        "PRECONDITION_FAILED - invalid arg 'x-consumer-timeout' for queue '{queue}' in vhost '/' of queue type \
         rabbit_classic_queue"
    );
    let close = channel::Close { reply_code: 406, reply_text: &text, class_id: 60, method_id: 20 };
    if peer.either(true, false, "RabbitMQ 3.10 does not know the argument") {
        peer.expect(1, close);
        peer.send(1, channel::CloseOk);
    } else {
        peer.expect(1, consuming("c"));
    }
    peer.close();
}
