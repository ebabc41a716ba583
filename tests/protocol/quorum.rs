//! Quorum queues: what they refuse, and what they count.

use std::time::{Duration, Instant};

use leveret_codec::method::{Method, MethodId, basic, channel, queue};
use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTable, FieldValue};

use crate::say::{
    ack, ack_up_to, bind, channel_close, consume, consuming, declare, declared, delete, nack, publish, qos,
    reject,
};
use crate::support::Broker;
use crate::wire::{Peer, eventually, unique};

fn text(value: &str) -> FieldValue {
    FieldValue::from(value)
}

fn quorum() -> FieldTable {
    FieldTable::new().with("x-queue-type", text("quorum"))
}

/// A quorum queue with these arguments.
fn declare_quorum(peer: &mut Peer, arguments: FieldTable) -> String {
    let name = unique("quorum");
    let declare = queue::Declare { durable: true, arguments, ..declare(&name) };
    peer.ask(1, declare, declared(&name, 0, 0));
    name
}

/// A message that was got.
struct Next {
    tag: u64,
    redelivered: bool,
    /// How often it came back and that counted, and how often it was handed out before, as it says.
    counts: (Option<i64>, Option<i64>),
}

/// The next message of a queue, waited for.
fn next(peer: &mut Peer, name: &str, body: &str) -> Next {
    wait_for_ready(peer, name, 1);
    let message = peer.get(1, name, body);
    let headers = message.properties().headers.map(|headers| headers.to_owned()).unwrap_or_default();
    let count = |name: &str| headers.get(name).and_then(FieldValue::as_integer);
    let counts = (count("x-delivery-count"), count("x-acquired-count"));
    Next { tag: message.tag, redelivered: message.redelivered, counts }
}

fn wait_for_ready(peer: &mut Peer, name: &str, at_least: u32) {
    wait_until(peer, name, |ready| ready >= at_least);
}

/// Waits until so many messages are ready.
fn wait_until(peer: &mut Peer, name: &str, is_right: impl Fn(u32) -> bool) {
    eventually(|| {
        peer.send(1, queue::Declare { passive: true, ..declare(name) });
        match peer.recv().method() {
            Method::QueueDeclareOk(ok) => is_right(ok.message_count).then_some(()),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_quorum_queue_counts_how_often_a_message_came_back() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = declare_quorum(&mut peer, quorum());
    peer.publish(1, "", &queue, "m");
    let counts = |peer: &mut Peer, ours: (i64, i64), theirs: i64| {
        let next = next(peer, &queue, "m");
        let (failed, acquired) = ours;
        let all = peer.either((Some(failed), Some(acquired)), (Some(theirs), None), "4.3 counts twice");
        assert_eq!((next.redelivered, next.counts), (true, all));
        next.tag
    };
    let first = next(&mut peer, &queue, "m");
    let never = peer.either(None, Some(0), "4.x leaves it out of the first delivery");
    assert_eq!((first.redelivered, first.counts), (false, (never, None)));
    peer.send(1, nack(first.tag, false, true));
    let tag = counts(&mut peer, (0, 1), 1);
    peer.send(1, reject(tag, true));
    counts(&mut peer, (1, 2), 2);
    peer.ask(1, basic::Recover { requeue: true }, basic::RecoverOk);
    counts(&mut peer, (1, 3), 3);
    peer.ask(1, channel_close(), channel::CloseOk);
    peer.open_channel(1);
    let tag = counts(&mut peer, (2, 4), 4);
    peer.send(1, ack(tag));
    peer.ask(1, delete(&queue), queue::DeleteOk { message_count: 0 });
    peer.close();
}

#[test]
fn a_message_that_came_back_too_often_is_a_dead_letter() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let dead = peer.queue(1);
    peer.ask(1, bind(&dead, "amq.direct", &dead), queue::BindOk);
    let arguments = quorum()
        .with("x-delivery-limit", 1)
        .with("x-dead-letter-exchange", text("amq.direct"))
        .with("x-dead-letter-routing-key", text(&dead));
    let queue = declare_quorum(&mut peer, arguments);
    peer.publish(1, "", &queue, "poison");
    for _ in 0..2 {
        let tag = next(&mut peer, &queue, "poison").tag;
        peer.send(1, reject(tag, true));
    }
    wait_for_ready(&mut peer, &dead, 1);
    let message = peer.get(1, &dead, "poison");
    let headers = message.properties().headers.map(|headers| headers.to_owned()).unwrap_or_default();
    let death = headers.get("x-death").and_then(FieldValue::as_array).and_then(<[_]>::first);
    let death = death.and_then(FieldValue::as_table).expect("a death");
    assert_eq!(death.get("reason").and_then(FieldValue::as_str), Some("delivery_limit"));
    assert_eq!(death.get("queue").and_then(FieldValue::as_str), Some(queue.as_str()));
    peer.ask(1, delete(&queue), queue::DeleteOk { message_count: 0 });
    peer.close();
}

#[test]
fn a_message_may_be_returned_as_often_as_one_likes() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    if !peer.is_leveret() {
        // 3.10 counts a nack towards the limit.
        return peer.close();
    }
    let queue = declare_quorum(&mut peer, quorum().with("x-delivery-limit", 1));
    peer.publish(1, "", &queue, "m");
    for _ in 0..5 {
        let tag = next(&mut peer, &queue, "m").tag;
        peer.send(1, nack(tag, false, true));
    }
    let last = next(&mut peer, &queue, "m");
    assert_eq!(last.counts, (Some(0), Some(5)));
    peer.send(1, ack(last.tag));
    peer.ask(1, delete(&queue), queue::DeleteOk { message_count: 0 });
    peer.close();
}

#[test]
fn a_message_that_failed_waits_before_it_is_tried_again_and_the_next_one_does_not() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    if !peer.is_leveret() {
        // Since 4.3.
        return peer.close();
    }
    let arguments = quorum().with("x-delayed-retry-type", text("failed")).with("x-delayed-retry-min", 150);
    let queue = declare_quorum(&mut peer, arguments);
    peer.ask(1, qos(1), basic::QosOk);
    peer.ask(1, consume(&queue, "c"), consuming("c"));
    peer.publish(1, "", &queue, "bad");
    peer.publish(1, "", &queue, "good");
    let tag = peer.expect_delivery(1, "c", "bad").tag;
    let failed = Instant::now();
    peer.send(1, reject(tag, true));
    let tag = peer.expect_delivery(1, "c", "good").tag;
    peer.send(1, ack(tag));
    let tag = peer.expect_delivery(1, "c", "bad").tag;
    assert!(failed.elapsed() >= Duration::from_millis(150), "{:?}", failed.elapsed());
    let failed = Instant::now();
    peer.send(1, reject(tag, true));
    let tag = peer.expect_delivery(1, "c", "bad").tag;
    assert!(failed.elapsed() >= Duration::from_millis(300), "{:?}", failed.elapsed());
    // What was returned does not wait there.
    peer.send(1, nack(tag, false, true));
    let tag = peer.expect_delivery(1, "c", "bad").tag;
    peer.send(1, ack(tag));
    peer.close();
}

#[test]
fn a_limit_for_the_channel_is_one_for_each_consumer_of_a_quorum_queue() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    if !peer.is_leveret() {
        // Up to 4.2 consuming is refused with 540 then.
        return peer.close();
    }
    let queues = [(); 2].map(|()| declare_quorum(&mut peer, quorum()));
    let classic = peer.queue(1);
    peer.ask(1, basic::Qos { prefetch_size: 0, prefetch_count: 2, global: true }, basic::QosOk);
    for (queue, tag) in queues.iter().chain([&classic]).zip(["a", "b", "c"]) {
        peer.ask(1, consume(queue, tag), consuming(tag));
    }
    for (queue, tag) in queues.iter().chain([&classic]).zip(["a", "b", "c"]) {
        (0..3).for_each(|_| peer.publish(1, "", queue, tag));
        // What quorum queues hand out does not count towards the channel's limit.
        (0..2).for_each(|_| _ = peer.expect_delivery(1, tag, tag));
    }
    peer.expect_nothing(1);
    peer.send(1, ack_up_to(6));
    let mut tags: Vec<_> = (0..3).map(|_| peer.recv_message(1).1.consumer_tag).collect();
    tags.sort();
    assert_eq!(tags, ["a", "b", "c"]);
    peer.send(1, ack_up_to(0));
    peer.close();
}

#[test]
fn what_came_back_is_served_first_and_in_that_order() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    // Without a limit, which 4.x always has, 3.10 puts it behind all else.
    let queue = declare_quorum(&mut peer, quorum().with("x-delivery-limit", 20));
    ["0", "1", "2", "3"].into_iter().for_each(|body| peer.publish(1, "", &queue, body));
    wait_until(&mut peer, &queue, |ready| ready == 4);
    let taken = ["0", "1", "2"].map(|body| next(&mut peer, &queue, body).tag);
    // RabbitMQ counts late.
    wait_until(&mut peer, &queue, |ready| ready == 1);
    for index in [2, 0, 1] {
        peer.send(1, reject(taken[index], true));
    }
    wait_until(&mut peer, &queue, |ready| ready == 4);
    for body in ["2", "0", "1", "3"] {
        let tag = next(&mut peer, &queue, body).tag;
        peer.send(1, ack(tag));
    }
    peer.ask(1, delete(&queue), queue::DeleteOk { message_count: 0 });
    peer.close();
}

#[test]
fn a_quorum_queue_keeps_the_limits_that_it_is_declared_with() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let dead = peer.queue(1);
    let arguments = quorum()
        .with("x-max-length", 1)
        .with("x-dead-letter-exchange", text(""))
        .with("x-dead-letter-routing-key", text(&dead));
    let short = declare_quorum(&mut peer, arguments.clone());
    ["one", "two"].iter().for_each(|body| peer.publish(1, "", &short, body));
    next(&mut peer, &dead, "one");
    next(&mut peer, &short, "two");
    let small = declare_quorum(&mut peer, arguments.clone().with("x-max-length-bytes", 4));
    peer.publish(1, "", &small, "large");
    next(&mut peer, &dead, "large");
    let hasty = declare_quorum(&mut peer, arguments.clone().with("x-message-ttl", 100));
    peer.publish(1, "", &hasty, "expired");
    next(&mut peer, &dead, "expired");
    for name in [short, small, hasty] {
        peer.send(1, delete(&name));
        assert!(matches!(peer.recv().method(), Method::QueueDeleteOk(_)));
    }
    peer.close();
}

#[test]
fn declaring_a_quorum_queue_again_does_not_keep_it_from_expiring() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let arguments = quorum().with("x-expires", 300);
    let name = declare_quorum(&mut peer, arguments.clone());
    eventually(|| {
        let again = queue::Declare { durable: true, arguments: arguments.clone(), ..declare(&name) };
        peer.send(1, queue::Declare { passive: true, ..again });
        matches!(peer.recv().method(), Method::ChannelClose(_)).then_some(())
    });
}

#[test]
fn a_quorum_queue_is_not_deleted_under_a_condition() {
    let broker = Broker::start();
    for (flag, if_unused) in [("if-unused", true), ("if-empty", false)] {
        let mut peer = Peer::with_channel(&broker);
        let queue = declare_quorum(&mut peer, quorum());
        peer.send(1, queue::Delete { if_unused, if_empty: !if_unused, ..delete(&queue) });
        let text = format!(
            "NOT_IMPLEMENTED - cannot delete queue '{queue}' in vhost '/'. queue.delete operations with {flag} flag \
             set are not supported by quorum queues"
        );
        peer.expect_close(540, &text, MethodId::QUEUE_DELETE);
        let mut peer = Peer::with_channel(&broker);
        peer.ask(1, delete(&queue), queue::DeleteOk { message_count: 0 });
        peer.close();
    }
}

#[test]
fn messages_of_a_quorum_queue_come_by_priority() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    if !peer.is_leveret() {
        // 3.10 has no priorities there.
        return peer.close();
    }
    let queue = declare_quorum(&mut peer, quorum());
    for (body, priority) in [("none", None), ("three", Some(3)), ("five", Some(5)), ("most", Some(200))] {
        peer.send_message(1, publish("", &queue), Properties { priority, ..Properties::default() }, body);
    }
    wait_for_ready(&mut peer, &queue, 4);
    for body in ["most", "five", "none", "three"] {
        peer.get(1, &queue, body);
    }
    peer.ask(1, delete(&queue), queue::DeleteOk { message_count: 0 });
    peer.close();
}

#[test]
fn a_dead_message_stays_until_a_queue_takes_it_where_that_is_asked_for() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    if !peer.is_leveret() {
        // 3.10 needs a feature flag for it.
        return peer.close();
    }
    let late = unique("late");
    let arguments = quorum()
        .with("x-overflow", text("reject-publish"))
        .with("x-dead-letter-strategy", text("at-least-once"))
        .with("x-dead-letter-exchange", text(""))
        .with("x-dead-letter-routing-key", text(&late));
    let queue = declare_quorum(&mut peer, arguments);
    peer.publish(1, "", &queue, "kept");
    let tag = next(&mut peer, &queue, "kept").tag;
    peer.send(1, reject(tag, false));
    peer.expect_quiet(1, &queue, 0);
    let declare = queue::Declare { exclusive: true, ..declare(&late) };
    peer.ask(1, declare, declared(&late, 0, 0));
    wait_for_ready(&mut peer, &late, 1);
    peer.get(1, &late, "kept");
    peer.ask(1, delete(&queue), queue::DeleteOk { message_count: 0 });
    peer.close();
}

#[test]
fn basic_get_is_refused_beside_a_single_active_consumer() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = declare_quorum(&mut peer, quorum().with("x-single-active-consumer", true));
    peer.open_channel(2);
    peer.ask(2, consume(&queue, "c"), consuming("c"));
    peer.send(1, basic::Get { queue: &queue, no_ack: true });
    let text = format!(
        "RESOURCE_LOCKED - cannot obtain access to locked queue '{queue}' in vhost '/'. basic.get operations are not \
         supported by quorum queues with single active consumer"
    );
    peer.expect_channel_close(1, 405, &text, MethodId::BASIC_GET);
    peer.open_channel(1);
    peer.ask(2, channel_close(), channel::CloseOk);
    peer.ask(1, delete(&queue), queue::DeleteOk { message_count: 0 });
}
