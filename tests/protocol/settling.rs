//! basic.get and the settlement of deliveries: ack, nack, reject, recover, and the order messages come back in.

use leveret_codec::method::{MethodId, basic, channel};

use crate::say::{ack, ack_up_to, channel_close, consume, consuming, nack, qos, reject};
use crate::support::Broker;
use crate::wire::Peer;

/// A channel and a queue that holds `1`, `2` and so on.
fn filled(broker: &Broker, count: u32) -> (Peer, String) {
    let mut peer = Peer::with_channel(broker);
    let queue = peer.queue(1);
    for number in 1..=count {
        peer.publish(1, "", &queue, &number.to_string());
    }
    peer.expect_quiet(1, &queue, count);
    (peer, queue)
}

#[test]
fn get_takes_one_message_and_says_how_many_are_left() {
    let broker = Broker::start();
    let (mut peer, queue) = filled(&broker, 2);
    let first = peer.get(1, &queue, "1");
    assert_eq!((first.tag, first.redelivered, first.left), (1, false, 1));
    assert_eq!((first.exchange.as_str(), first.routing_key.as_str()), ("", queue.as_str()));
    let second = peer.get(1, &queue, "2");
    assert_eq!((second.tag, second.left), (2, 0));
    peer.expect_empty(1, &queue);
    peer.send(1, ack_up_to(2));
    peer.ask(1, channel_close(), channel::CloseOk);
    peer.open_channel(1);
    peer.expect_quiet(1, &queue, 0);
    peer.close();
}

#[test]
fn tags_count_deliveries_that_need_no_ack_too() {
    let broker = Broker::start();
    let (mut peer, queue) = filled(&broker, 2);
    peer.send(1, basic::Get { queue: &queue, no_ack: true });
    assert_eq!(peer.recv_message(1).1.tag, 1);
    assert_eq!(peer.get(1, &queue, "2").tag, 2);
    // The first one was settled when it was sent.
    peer.send(1, ack(1));
    peer.expect_channel_close(1, 406, "PRECONDITION_FAILED - unknown delivery tag 1", MethodId::BASIC_ACK);
    peer.open_channel(1);
    assert!(peer.get(1, &queue, "2").redelivered);
    peer.close();
}

#[test]
fn what_was_settled_cannot_be_settled_again() {
    let broker = Broker::start();
    let (mut peer, queue) = filled(&broker, 3);
    for body in ["1", "2", "3"] {
        peer.get(1, &queue, body);
    }
    peer.send(1, ack(2));
    peer.send(1, ack(2));
    peer.expect_channel_close(1, 406, "PRECONDITION_FAILED - unknown delivery tag 2", MethodId::BASIC_ACK);
    peer.open_channel(1);
    // 1 and 3 came back in their order.
    assert!(peer.get(1, &queue, "1").redelivered);
    assert!(peer.get(1, &queue, "3").redelivered);
    peer.expect_empty(1, &queue);
    peer.close();
}

#[test]
fn ack_of_several_names_one_that_is_outstanding() {
    let broker = Broker::start();
    let (mut peer, queue) = filled(&broker, 3);
    for body in ["1", "2", "3"] {
        peer.get(1, &queue, body);
    }
    peer.send(1, ack(2));
    peer.send(1, ack_up_to(2));
    let text = "PRECONDITION_FAILED - unknown delivery tag 2";
    peer.expect_channel_close(1, 406, text, MethodId::BASIC_ACK);
    peer.close();
}

#[test]
fn ack_of_several_settles_all_up_to_the_tag() {
    let broker = Broker::start();
    let (mut peer, queue) = filled(&broker, 4);
    for body in ["1", "2", "3", "4"] {
        peer.get(1, &queue, body);
    }
    peer.send(1, ack_up_to(3));
    peer.ask(1, basic::Recover { requeue: true }, basic::RecoverOk);
    peer.get(1, &queue, "4");
    peer.expect_empty(1, &queue);
    peer.close();
}

#[test]
fn tag_0_of_several_is_all_there_are() {
    let broker = Broker::start();
    let (mut peer, queue) = filled(&broker, 2);
    // None are outstanding: fine.
    peer.send(1, ack_up_to(0));
    peer.get(1, &queue, "1");
    peer.get(1, &queue, "2");
    peer.send(1, ack_up_to(0));
    peer.ask(1, basic::Recover { requeue: true }, basic::RecoverOk);
    peer.expect_quiet(1, &queue, 0);
    peer.send(1, nack(0, true, true));
    peer.expect_nothing(1);
    peer.close();
}

#[test]
fn nack_returns_messages_to_their_places() {
    let broker = Broker::start();
    let (mut peer, queue) = filled(&broker, 4);
    for body in ["1", "2", "3"] {
        assert!(!peer.get(1, &queue, body).redelivered);
    }
    peer.send(1, nack(2, false, true));
    peer.expect_quiet(1, &queue, 2);
    peer.send(1, nack(3, true, true));
    peer.expect_quiet(1, &queue, 4);
    for (body, redelivered) in [("1", true), ("2", true), ("3", true), ("4", false)] {
        assert_eq!(peer.get(1, &queue, body).redelivered, redelivered, "{body}");
    }
    peer.close();
}

#[test]
fn nack_and_reject_without_requeue_drop_messages() {
    let broker = Broker::start();
    let (mut peer, queue) = filled(&broker, 4);
    for body in ["1", "2", "3", "4"] {
        peer.get(1, &queue, body);
    }
    peer.send(1, nack(2, true, false));
    peer.send(1, reject(3, false));
    peer.send(1, reject(4, true));
    assert!(peer.get(1, &queue, "4").redelivered);
    peer.expect_empty(1, &queue);
    peer.close();
}

#[test]
fn closed_channel_returns_messages_in_order() {
    let broker = Broker::start();
    let (mut peer, queue) = filled(&broker, 5);
    peer.open_channel(2);
    for body in ["1", "2", "3"] {
        peer.get(2, &queue, body);
    }
    peer.send(2, ack(2));
    peer.ask(2, channel_close(), channel::CloseOk);
    for (body, redelivered) in [("1", true), ("3", true), ("4", false), ("5", false)] {
        assert_eq!(peer.get(1, &queue, body).redelivered, redelivered, "{body}");
    }
    peer.close();
}

#[test]
fn tags_belong_to_one_channel() {
    let broker = Broker::start();
    let (mut peer, queue) = filled(&broker, 1);
    peer.get(1, &queue, "1");
    peer.open_channel(2);
    peer.send(2, ack(1));
    peer.expect_channel_close(2, 406, "PRECONDITION_FAILED - unknown delivery tag 1", MethodId::BASIC_ACK);
    peer.send(1, ack(1));
    peer.expect_nothing(1);
    peer.close();
}

#[test]
fn recover_delivers_again_after_its_answer() {
    let broker = Broker::start();
    let (mut peer, queue) = filled(&broker, 2);
    peer.ask(1, consume(&queue, "c"), consuming("c"));
    assert_eq!(peer.expect_delivery(1, "c", "1").tag, 1);
    assert_eq!(peer.expect_delivery(1, "c", "2").tag, 2);
    peer.ask(1, basic::Recover { requeue: true }, basic::RecoverOk);
    for (tag, body) in [(3, "1"), (4, "2")] {
        let again = peer.expect_delivery(1, "c", body);
        assert_eq!((again.tag, again.redelivered), (tag, true));
    }
    // The same without an answer.
    peer.send(1, basic::RecoverAsync { requeue: true });
    assert_eq!(peer.expect_delivery(1, "c", "1").tag, 5);
    assert_eq!(peer.expect_delivery(1, "c", "2").tag, 6);
    peer.send(1, ack_up_to(6));
    peer.expect_quiet(1, &queue, 0);
    peer.close();
}

#[test]
fn requeued_message_goes_on_to_the_next_consumer_with_room() {
    let broker = Broker::start();
    let (mut peer, queue) = filled(&broker, 2);
    peer.ask(1, qos(1), basic::QosOk);
    peer.ask(1, consume(&queue, "a"), consuming("a"));
    assert_eq!(peer.expect_delivery(1, "a", "1").tag, 1);
    peer.ask(1, consume(&queue, "b"), consuming("b"));
    assert_eq!(peer.expect_delivery(1, "b", "2").tag, 2);
    peer.send(1, reject(1, true));
    assert!(peer.expect_delivery(1, "a", "1").redelivered);
    peer.close();
}
