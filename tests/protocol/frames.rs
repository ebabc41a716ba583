//! What is no frame, no method, or not the frame that must come next: 501, 503, 504 and 505.

use leveret_codec::frame::FrameType;
use leveret_codec::method::{Method, MethodId, basic, channel, connection};

use crate::say::{Say, declare, publish};
use crate::support::Broker;
use crate::wire::{Peer, USUAL, Wishes, encoded};

/// A frame with whatever type, size and end.
fn raw_frame(frame_type: u8, channel: u16, payload: &[u8], end: u8) -> Vec<u8> {
    let size = u32::try_from(payload.len()).expect("scripts send small payloads");
    [&[frame_type][..], &channel.to_be_bytes(), &size.to_be_bytes(), payload, &[end]].concat()
}

/// A method's frame with these octets as arguments.
fn raw_method(channel: u16, id: MethodId, arguments: &[u8]) -> Vec<u8> {
    let payload = [&id.class_id.to_be_bytes()[..], &id.method_id.to_be_bytes(), arguments].concat();
    raw_frame(1, channel, &payload, 0xCE)
}

#[test]
fn frame_larger_than_agreed_is_refused() {
    let broker = Broker::start();
    let mut peer = Peer::open_with(&broker, Wishes { frame_max: 8192, ..USUAL });
    peer.open_channel(1);
    peer.send(1, publish("", "q"));
    peer.send_header(1, 60, 10_000);
    peer.send_octets(b"\x03\0\x01\0\0\x20\x01");
    let text = "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,8193,8184}";
    peer.expect_close(501, text, MethodId::NONE);
}

#[test]
fn payload_of_just_the_agreed_size_is_taken() {
    let broker = Broker::start();
    let mut peer = Peer::open_with(&broker, Wishes { frame_max: 8192, ..USUAL });
    peer.open_channel(1);
    let queue = peer.queue(1);
    peer.send(1, publish("", &queue));
    peer.send_header(1, 60, 8192);
    peer.send_frame(FrameType::Body, 1, &[b'x'; 8192]);
    peer.get(1, &queue, &"x".repeat(8192));
    peer.close();
}

#[test]
fn frame_with_another_end_octet_is_refused() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    peer.send_octets(&raw_frame(1, 1, b"\0\x14\0\x14\x01", 0));
    let text = "FRAME_ERROR - type 1, all octets = <<0,20,0,20,1>>: {invalid_frame_end_marker,0}";
    peer.expect_close(501, text, MethodId::NONE);
    let mut peer = Peer::with_channel(&broker);
    peer.send_octets(&raw_frame(1, 1, &[7; 40], 0xCD));
    // RabbitMQ breaks lines at 80 columns here.
    let space = peer.either("", &format!("\n{}", " ".repeat(64)), "line breaks help nobody").to_owned();
    let text = format!(
        "FRAME_ERROR - type 1, first 16 octets = <<7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7>>: \
         {{invalid_frame_end_marker,{space}205}}"
    );
    peer.expect_close(501, &text, MethodId::NONE);
}

#[test]
fn frame_of_an_unknown_type_is_refused() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    peer.send_octets(&raw_frame(42, 1, b"ab", 0xCE));
    let text = "FRAME_ERROR - type 42, all octets = <<\"ab\">>: unknown_frame";
    peer.expect_close(501, text, MethodId::NONE);
}

#[test]
fn frames_may_come_one_octet_at_a_time() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    for octet in encoded(1, channel::Flow { active: true }) {
        peer.send_octets(&[octet]);
    }
    peer.expect(1, channel::FlowOk { active: true });
    peer.close();
}

#[test]
fn arguments_that_cannot_be_decoded_end_the_connection() {
    let broker = Broker::start();
    let cases: [&[u8]; 4] = [
        b"\0\0",
        // A name that is longer than the frame.
        b"\0\0\xffq",
        // An argument of an unknown type.
        b"\0\0\x01q\0\0\0\0\x04\x01k?x",
        // An octet too many.
        b"\0\0\x01q\x02\0\0\0\0!",
    ];
    for arguments in cases {
        let mut peer = Peer::with_channel(&broker);
        peer.send_octets(&raw_method(1, MethodId::QUEUE_DECLARE, arguments));
        if peer.either(true, false, "RabbitMQ drops the connection without a word") {
            let received = peer.recv();
            let Method::ConnectionClose(close) = received.method() else { panic!("{received:?}") };
            assert_eq!((close.reply_code, close.class_id, close.method_id), (501, 50, 10), "{close:?}");
            assert!(close.reply_text.starts_with("FRAME_ERROR - cannot decode"), "{close:?}");
            peer.send(0, connection::CloseOk);
            peer.expect_eof();
        }
    }
}

#[test]
fn name_that_is_no_utf_8_is_refused() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    peer.send_octets(&raw_method(1, MethodId::QUEUE_DECLARE, b"\0\0\x02\xc3\x28\0\0\0\0\0"));
    peer.expect_close(501, "FRAME_ERROR - Malformed UTF-8 in shortstr", MethodId::NONE);
}

#[test]
fn unknown_method_ends_the_connection() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    peer.send_octets(&raw_method(1, MethodId::new(77, 7), b""));
    if peer.either(true, false, "RabbitMQ drops the connection without a word") {
        peer.expect_close(540, "NOT_IMPLEMENTED - unknown method", MethodId::new(77, 7));
    } else {
        peer.expect_eof();
    }
}

#[test]
fn method_of_a_server_is_not_for_clients_to_send() {
    let broker = Broker::start();
    let cases: [Method<'_>; 3] = [
        basic::GetEmpty.say(),
        leveret_codec::method::queue::BindOk.say(),
        crate::say::declared("q", 0, 0).say(),
    ];
    for method in cases {
        let mut peer = Peer::with_channel(&broker);
        let id = method.id();
        peer.send(1, method);
        peer.expect_close(503, "COMMAND_INVALID - unimplemented method", id);
    }
}

#[test]
fn methods_of_a_channel_do_not_belong_on_channel_0() {
    let broker = Broker::start();
    let mut peer = Peer::open(&broker);
    peer.send(0, declare("q"));
    let text = "CHANNEL_ERROR - unexpected method in connection state running";
    peer.expect_close(504, text, MethodId::QUEUE_DECLARE);
}

#[test]
fn methods_of_the_connection_do_not_belong_on_a_channel() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    peer.send(1, connection::Open { virtual_host: "/" });
    peer.expect_close(503, "COMMAND_INVALID - unimplemented method", MethodId::CONNECTION_OPEN);
}

#[test]
fn content_without_a_method_is_unexpected() {
    let broker = Broker::start();
    let text = "UNEXPECTED_FRAME - expected method frame, got non method frame instead";
    let mut peer = Peer::with_channel(&broker);
    peer.send_header(1, 60, 3);
    peer.expect_close(505, text, MethodId::NONE);
    let mut peer = Peer::with_channel(&broker);
    peer.send_frame(FrameType::Body, 1, b"abc");
    peer.expect_close(505, text, MethodId::NONE);
    let mut peer = Peer::open(&broker);
    peer.send_header(0, 60, 3);
    let text = "UNEXPECTED_FRAME - type 2, all octets = <<0,60,0,0,0,0,0,0,0,0,0,3,0,0>>";
    peer.expect_close(505, text, MethodId::NONE);
}

#[test]
fn content_header_must_follow_a_publish() {
    let broker = Broker::start();
    let text =
        "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead";
    let mut peer = Peer::with_channel(&broker);
    peer.send(1, publish("", "q"));
    peer.send(1, channel::Flow { active: true });
    peer.expect_close(505, text, MethodId::BASIC_PUBLISH);
    let mut peer = Peer::with_channel(&broker);
    peer.send(1, publish("", "q"));
    peer.send_frame(FrameType::Body, 1, b"abc");
    peer.expect_close(505, text, MethodId::BASIC_PUBLISH);
    let mut peer = Peer::with_channel(&broker);
    peer.send(1, publish("", "q"));
    peer.send_header(1, 10, 3);
    let text = "UNEXPECTED_FRAME - expected content header for class 60, got one for class 10 instead";
    peer.expect_close(505, text, MethodId::BASIC_PUBLISH);
}

#[test]
fn body_must_follow_a_content_header() {
    let broker = Broker::start();
    let text = "UNEXPECTED_FRAME - expected content body, got non content body frame instead";
    let mut peer = Peer::with_channel(&broker);
    peer.send(1, publish("", "q"));
    peer.send_header(1, 60, 6);
    peer.send_frame(FrameType::Body, 1, b"abc");
    peer.send(1, channel::Flow { active: true });
    peer.expect_close(505, text, MethodId::BASIC_PUBLISH);
    let mut peer = Peer::with_channel(&broker);
    peer.send(1, publish("", "q"));
    peer.send_header(1, 60, 6);
    peer.send_header(1, 60, 6);
    peer.expect_close(505, text, MethodId::BASIC_PUBLISH);
}

#[test]
fn body_frame_beyond_the_announced_size_is_refused() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    peer.send(1, publish("", "q"));
    peer.send_header(1, 60, 2);
    peer.send_frame(FrameType::Body, 1, b"abc");
    if peer.either(true, false, "RabbitMQ 3.10 does not notice") {
        let text = "FRAME_ERROR - content body frame exceeds remaining content size";
        peer.expect_close(501, text, MethodId::BASIC_PUBLISH);
    }
}

#[test]
fn properties_that_cannot_be_decoded_end_the_connection() {
    let broker = Broker::start();
    let cases: [&[u8]; 4] = [
        // Cut short: a content type of five octets.
        b"\x80\0\x05abc",
        // A header of an unknown type.
        b"\x20\0\0\0\0\x03\x01k?",
        // More flags to come.
        b"\0\x01",
        // An octet too many.
        b"\x10\0\x02!",
    ];
    for properties in cases {
        let mut peer = Peer::with_channel(&broker);
        if !peer.either(true, false, "RabbitMQ 3.10 fails with 541, or not before it looks at the properties")
        {
            return;
        }
        let queue = peer.queue(1);
        peer.send(1, publish("", &queue));
        let header = [b"\0\x3c\0\0\0\0\0\0\0\0\0\0", properties].concat();
        peer.send_frame(FrameType::Header, 1, &header);
        let received = peer.recv();
        let Method::ConnectionClose(close) = received.method() else { panic!("{received:?}") };
        assert_eq!(close.reply_code, 501, "{close:?}");
        peer.send(0, connection::CloseOk);
        peer.expect_eof();
    }
}

#[test]
fn a_fault_behind_whole_frames_does_not_undo_them() {
    let broker = Broker::start();
    let mut other = Peer::with_channel(&broker);
    let queue = crate::wire::unique("fault");
    other.ask(1, declare(&queue), crate::say::declared(&queue, 0, 0));
    let mut peer = Peer::with_channel(&broker);
    peer.publish(1, "", &queue, "whole");
    peer.send_octets(&raw_frame(42, 1, b"", 0xCE));
    peer.expect_close(501, "FRAME_ERROR - type 42, all octets = <<>>: unknown_frame", MethodId::NONE);
    other.get(1, &queue, "whole");
    other.ask(1, crate::say::delete(&queue), crate::say::deleted(0));
}
