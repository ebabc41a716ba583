//! The life of channels and connections: opening, closing from either side or both at once, and numbers
//! that are used again.

use leveret_codec::frame::FrameType;
use leveret_codec::method::{Method, MethodId, channel, connection, queue};

use crate::say::{channel_close, declare, publish};
use crate::support::Broker;
use crate::wire::{Peer, USUAL, Wishes, encoded};

#[test]
fn client_closes_the_connection_and_gets_its_answer() {
    let broker = Broker::start();
    Peer::with_channel(&broker).close();
}

#[test]
fn work_sent_before_the_close_is_done() {
    let broker = Broker::start();
    let mut other = Peer::with_channel(&broker);
    let queue = crate::wire::unique("before-close");
    other.ask(
        1,
        queue::Declare { auto_delete: false, ..declare(&queue) },
        crate::say::declared(&queue, 0, 0),
    );
    let mut peer = Peer::with_channel(&broker);
    for _ in 0..100 {
        peer.publish(1, "", &queue, "one");
    }
    peer.close();
    other.ask(1, crate::say::delete(&queue), crate::say::deleted(100));
}

#[test]
fn frames_after_the_close_of_the_connection_are_not_answered() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let close = connection::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
    let mut octets = encoded(0, close);
    octets.extend(encoded(1, declare("late")));
    peer.send_octets(&octets);
    peer.expect(0, connection::CloseOk);
    peer.hang_up();
}

#[test]
fn channel_opens_closes_and_its_number_is_free_again() {
    let broker = Broker::start();
    let mut peer = Peer::open(&broker);
    for _ in 0..3 {
        peer.open_channel(7);
        peer.queue(7);
        peer.ask(7, channel_close(), channel::CloseOk);
    }
    peer.close();
}

#[test]
fn close_and_open_of_one_number_may_be_sent_at_once() {
    let broker = Broker::start();
    let mut peer = Peer::open(&broker);
    if !peer.either(true, false, "RabbitMQ takes the second open for one of the channel that is closing") {
        return;
    }
    let mut octets = Vec::new();
    for _ in 0..50 {
        octets.extend(encoded(3, channel::Open));
        octets.extend(encoded(3, channel_close()));
    }
    peer.send_octets(&octets);
    for _ in 0..50 {
        peer.expect(3, channel::OpenOk);
        peer.expect(3, channel::CloseOk);
    }
    peer.close();
}

#[test]
fn methods_may_be_pipelined_and_are_answered_in_order() {
    let broker = Broker::start();
    let mut peer = Peer::open(&broker);
    let mut octets = encoded(1, channel::Open);
    for _ in 0..20 {
        octets.extend(encoded(1, queue::Declare { exclusive: true, ..declare("") }));
        octets.extend(encoded(1, channel::Flow { active: true }));
    }
    octets.extend(encoded(1, channel_close()));
    peer.send_octets(&octets);
    peer.expect(1, channel::OpenOk);
    for _ in 0..20 {
        let declared = peer.recv();
        assert!(matches!(declared.method(), Method::QueueDeclareOk(_)), "{declared:?}");
        peer.expect(1, channel::FlowOk { active: true });
    }
    peer.expect(1, channel::CloseOk);
    peer.close();
}

#[test]
fn second_open_of_a_channel_is_an_error() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    peer.send(1, channel::Open);
    let text = "CHANNEL_ERROR - second 'channel.open' seen";
    peer.expect_close(504, text, MethodId::CHANNEL_OPEN);
}

#[test]
fn method_on_a_channel_that_is_not_open_is_an_error() {
    let broker = Broker::start();
    let mut peer = Peer::open(&broker);
    peer.send(1, declare("q"));
    peer.expect_close(504, "CHANNEL_ERROR - expected 'channel.open'", MethodId::QUEUE_DECLARE);
}

#[test]
fn method_on_a_channel_that_was_closed_is_an_error() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    peer.ask(1, channel_close(), channel::CloseOk);
    peer.send(1, declare("q"));
    peer.expect_close(504, "CHANNEL_ERROR - expected 'channel.open'", MethodId::QUEUE_DECLARE);
}

#[test]
fn channel_number_beyond_the_limit_is_not_allowed() {
    let broker = Broker::start();
    let mut peer = Peer::open_with(&broker, Wishes { channel_max: 2, ..USUAL });
    peer.open_channel(1);
    peer.open_channel(2);
    peer.send(3, channel::Open);
    let text = "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)";
    peer.expect_close(530, text, MethodId::NONE);
    let mut peer = Peer::open_with(&broker, Wishes { channel_max: 2, ..USUAL });
    peer.send(3, channel::Open);
    if peer.either(true, false, "RabbitMQ 3.10 counts channels and does not look at the number") {
        let text = "NOT_ALLOWED - number of channels opened (0) has reached the negotiated channel_max (2)";
        peer.expect_close(530, text, MethodId::NONE);
    } else {
        peer.expect(3, channel::OpenOk);
    }
}

#[test]
fn all_channels_up_to_the_limit_may_be_open() {
    let broker = Broker::start();
    let mut peer = Peer::open_with(&broker, Wishes { channel_max: 3, ..USUAL });
    for number in 1..=3 {
        peer.open_channel(number);
    }
    peer.close();
}

#[test]
fn everything_is_ignored_between_an_error_and_its_close_ok() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    peer.open_channel(2);
    let mut octets = encoded(2, queue::Declare { passive: true, ..declare("no-such-queue") });
    octets.extend(encoded(2, queue::Declare { exclusive: true, ..declare("") }));
    octets.extend(encoded(2, publish("", &queue)));
    peer.send_octets(&octets);
    peer.send_header(2, 60, 3);
    peer.send_frame(FrameType::Body, 2, b"abc");
    let text = "NOT_FOUND - no queue 'no-such-queue' in vhost '/'";
    // Answers the close; nothing of the rest was answered or done.
    peer.expect_channel_close(2, 404, text, MethodId::QUEUE_DECLARE);
    peer.open_channel(2);
    peer.expect_quiet(2, &queue, 0);
    peer.close();
}

#[test]
fn closes_that_cross_are_both_answered() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let mut octets = encoded(1, queue::Declare { passive: true, ..declare("no-such-queue") });
    octets.extend(encoded(1, channel_close()));
    peer.send_octets(&octets);
    let received = peer.recv();
    assert!(matches!(received.method(), Method::ChannelClose(_)), "{received:?}");
    peer.expect(1, channel::CloseOk);
    peer.send(1, channel::CloseOk);
    peer.open_channel(1);
    peer.close();
}

#[test]
fn close_of_the_connection_crosses_a_close_of_a_channel() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let mut octets = encoded(1, queue::Declare { passive: true, ..declare("no-such-queue") });
    let close = connection::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
    octets.extend(encoded(0, close));
    peer.send_octets(&octets);
    // Whether the channel's close still leaves is a matter of timing.
    let mut received = peer.recv();
    if matches!(received.method(), Method::ChannelClose(_)) {
        received = peer.recv();
    }
    assert_eq!((received.channel, received.method()), (0, Method::ConnectionCloseOk(connection::CloseOk)));
    peer.hang_up();
}

#[test]
fn close_ok_of_a_channel_that_nobody_asked_for_is_tolerated() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    peer.send(1, channel::CloseOk);
    if peer.either(true, false, "a late answer harms nobody; RabbitMQ ends the connection") {
        peer.expect_nothing(1);
        peer.close();
    } else {
        peer.expect_close(503, "COMMAND_INVALID - unimplemented method", MethodId::CHANNEL_CLOSE_OK);
    }
}

#[test]
fn connection_that_is_dropped_gives_its_messages_back() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = crate::wire::unique("dropped");
    peer.ask(1, declare(&queue), crate::say::declared(&queue, 0, 0));
    peer.publish(1, "", &queue, "kept");
    let mut other = Peer::with_channel(&broker);
    assert!(!crate::wire::eventually(|| Some(other.get(1, &queue, "kept"))).redelivered);
    drop(other);
    let found = crate::wire::eventually(|| {
        peer.send(1, leveret_codec::method::basic::Get { queue: &queue, no_ack: true });
        let received = peer.recv();
        match received.method() {
            Method::BasicGetOk(get_ok) => Some(get_ok.redelivered),
            _ => None,
        }
    });
    assert!(found);
    peer.recv();
    peer.recv();
    peer.ask(1, crate::say::delete(&queue), crate::say::deleted(0));
}
