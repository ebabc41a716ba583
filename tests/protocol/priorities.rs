//! Priority queues: the highest priority first, and within one in the order of publishing.

use leveret_codec::method::{basic, queue};
use leveret_codec::properties::Properties;
use leveret_codec::table::FieldTable;

use crate::say::{ack, consume, consuming, declare, declared, nack, publish, purge, qos};
use crate::support::Broker;
use crate::wire::{Peer, unique};

/// An exclusive queue with these priorities and further arguments.
fn declare_queue(peer: &mut Peer, max: i32, more: &[(&str, &str)]) -> String {
    let queue = unique("priorities");
    let mut arguments = FieldTable::new().with("x-max-priority", max);
    more.iter().for_each(|(key, value)| match value.parse::<i32>() {
        Ok(number) => arguments.insert(key, number),
        Err(_) => arguments.insert(key, *value),
    });
    let declaration = queue::Declare { exclusive: true, arguments, ..declare(&queue) };
    peer.ask(1, declaration, declared(&queue, 0, 0));
    queue
}

/// Publishes on channel 1 what is named by its priority, `-` for none.
fn publish_all(peer: &mut Peer, queue: &str, priorities: &[&str]) {
    for body in priorities {
        let priority = body.parse().ok();
        peer.send_message(1, publish("", queue), Properties { priority, ..Properties::default() }, body);
    }
}

fn got(peer: &mut Peer, queue: &str, count: u32) -> Vec<String> {
    peer.expect_quiet(1, queue, count);
    let mut bodies = Vec::new();
    for left in (0..count).rev() {
        peer.send(1, basic::Get { queue, no_ack: true });
        let (_, message) = peer.recv_message(1);
        assert_eq!(message.left, left);
        bodies.push(message.body);
    }
    peer.expect_empty(1, queue);
    bodies
}

#[test]
fn the_highest_priority_comes_first_and_the_oldest_of_it() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = declare_queue(&mut peer, 5, &[]);
    publish_all(&mut peer, &queue, &["-", "0", "3", "9", "5", "255", "1", "-"]);
    // Above the highest is the highest, none is the lowest.
    assert_eq!(got(&mut peer, &queue, 8), ["9", "5", "255", "3", "1", "-", "0", "-"]);
    let plain = declare_queue(&mut peer, 0, &[]);
    publish_all(&mut peer, &plain, &["1", "9", "-"]);
    assert_eq!(got(&mut peer, &plain, 3), ["1", "9", "-"]);
    let all = declare_queue(&mut peer, 255, &[]);
    publish_all(&mut peer, &all, &["63", "64", "0", "254", "255", "128"]);
    assert_eq!(got(&mut peer, &all, 6), ["255", "254", "128", "64", "63", "0"]);
    peer.close();
}

#[test]
fn consumers_get_what_is_highest_when_they_have_room() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = declare_queue(&mut peer, 9, &[]);
    peer.ask(1, qos(1), basic::QosOk);
    publish_all(&mut peer, &queue, &["1", "2", "2", "-"]);
    peer.expect_quiet(1, &queue, 4);
    peer.ask(1, consume(&queue, "c"), consuming("c"));
    let mut tag = peer.expect_delivery(1, "c", "2").tag;
    publish_all(&mut peer, &queue, &["7"]);
    peer.expect_quiet(1, &queue, 4);
    for body in ["7", "2", "1", "-"] {
        peer.send(1, ack(tag));
        tag = peer.expect_delivery(1, "c", body).tag;
    }
    peer.close();
}

#[test]
fn what_comes_back_returns_to_its_place_in_its_priority() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = declare_queue(&mut peer, 5, &[]);
    publish_all(&mut peer, &queue, &["1", "3", "1", "3"]);
    peer.expect_quiet(1, &queue, 4);
    let tags: Vec<u64> = ["3", "3", "1", "1"].iter().map(|body| peer.get(1, &queue, body).tag).collect();
    for index in [2, 0, 3, 1] {
        peer.send(1, nack(tags[index], false, true));
    }
    publish_all(&mut peer, &queue, &["5", "3"]);
    assert_eq!(got(&mut peer, &queue, 6), ["5", "3", "3", "3", "1", "1"]);
    peer.close();
}

#[test]
fn a_limit_is_kept_at_the_cost_of_the_highest() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let drop_head = declare_queue(&mut peer, 5, &[("x-max-length", "3")]);
    for priorities in ["0", "1", "2", "3", "4", "5"] {
        publish_all(&mut peer, &drop_head, &[priorities]);
        peer.expect_nothing(1);
    }
    assert_eq!(got(&mut peer, &drop_head, 3), ["2", "1", "0"]);
    let reject = declare_queue(&mut peer, 5, &[("x-max-length", "3"), ("x-overflow", "reject-publish")]);
    for priorities in ["0", "1", "2", "3", "4", "5"] {
        publish_all(&mut peer, &reject, &[priorities]);
        peer.expect_nothing(1);
    }
    assert_eq!(got(&mut peer, &reject, 3), ["2", "1", "0"]);
    peer.close();
}

#[test]
fn an_expired_message_waits_behind_one_of_higher_priority() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = declare_queue(&mut peer, 5, &[]);
    let send = |peer: &mut Peer, body: &str, priority, expiration: Option<&[u8]>| {
        let properties = Properties { priority: Some(priority), expiration, ..Properties::default() };
        peer.send_message(1, publish("", &queue), properties, body);
    };
    send(&mut peer, "stuck", 1, Some(b"1"));
    send(&mut peer, "high", 4, None);
    // As a clock: it expires later than the one that is stuck.
    let clock = declare_queue(&mut peer, 5, &[]);
    let properties = Properties { expiration: Some(b"300"), ..Properties::default() };
    peer.send_message(1, publish("", &clock), properties, "tick");
    peer.expect_nothing(1);
    let deadline = std::time::Instant::now() + crate::wire::ANSWER_MAX;
    loop {
        peer.send(1, queue::Declare { passive: true, ..declare(&clock) });
        let received = peer.recv();
        if received.method() == leveret_codec::method::Method::QueueDeclareOk(declared(&clock, 0, 0)) {
            break;
        }
        assert!(std::time::Instant::now() < deadline);
    }
    peer.get(1, &queue, "high");
    peer.expect_empty(1, &queue);
    peer.close();
}

#[test]
fn a_purge_takes_all_priorities() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = declare_queue(&mut peer, 200, &[]);
    publish_all(&mut peer, &queue, &["5", "1", "199", "-"]);
    peer.expect_quiet(1, &queue, 4);
    peer.ask(1, purge(&queue), queue::PurgeOk { message_count: 4 });
    publish_all(&mut peer, &queue, &["1", "2"]);
    assert_eq!(got(&mut peer, &queue, 2), ["2", "1"]);
    peer.close();
}

#[test]
fn a_message_keeps_its_priority_on_its_way_through_the_dead_letter_exchange() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let grave = declare_queue(&mut peer, 5, &[]);
    let queue = declare_queue(
        &mut peer,
        5,
        &[("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", grave.as_str())],
    );
    publish_all(&mut peer, &queue, &["1", "4", "2", "-"]);
    peer.expect_quiet(1, &queue, 4);
    for body in ["4", "2", "1", "-"] {
        let tag = peer.get(1, &queue, body).tag;
        peer.send(1, nack(tag, false, false));
    }
    assert_eq!(got(&mut peer, &grave, 4), ["4", "2", "1", "-"]);
    peer.close();
}
