//! Deliveries that nobody settles in time. The brokers are started here, since RabbitMQ's timeout is not of seconds.

use std::time::{Duration, Instant};

use leveret_codec::method::{MethodId, basic, tx};

use crate::say::{ack, cancel, cancelled, consume, consuming, declare, declared, delete, deleted};
use crate::support::Broker;
use crate::wire::{Peer, unique};

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
