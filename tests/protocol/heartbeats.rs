//! Heartbeats: what the server sends, what it takes, and what their absence does.

use std::time::{Duration, Instant};

use leveret_codec::frame::FrameType;
use leveret_codec::method::MethodId;

use crate::support::Broker;
use crate::wire::{Peer, USUAL, Wishes};

#[test]
fn server_sends_heartbeats_while_it_has_nothing_else_to_send() {
    let broker = Broker::start();
    let mut peer = Peer::open_with(&broker, Wishes { heartbeat: 2, ..USUAL });
    let begin = Instant::now();
    for _ in 0..4 {
        peer.expect_heartbeat();
        peer.send_frame(FrameType::Heartbeat, 0, &[]);
    }
    // One per second: half the interval.
    assert!(begin.elapsed() < Duration::from_secs(7), "{:?}", begin.elapsed());
    peer.close();
}

#[test]
fn missed_heartbeats_end_the_connection_without_a_word() {
    let broker = Broker::start();
    let mut peer = Peer::open_with(&broker, Wishes { heartbeat: 1, ..USUAL });
    let begin = Instant::now();
    peer.expect_eof();
    let elapsed = begin.elapsed();
    assert!(elapsed >= Duration::from_secs(1) && elapsed < Duration::from_secs(8), "{elapsed:?}");
    assert!(peer.heartbeats >= 1);
}

#[test]
fn any_frame_counts_as_a_sign_of_life() {
    let broker = Broker::start();
    let mut peer = Peer::open_with(&broker, Wishes { heartbeat: 1, ..USUAL });
    peer.open_channel(1);
    while peer.heartbeats < 8 {
        // The server sends one each half second: four seconds in which this side sends no heartbeat.
        peer.expect_heartbeat();
        peer.expect_nothing(1);
    }
    peer.close();
}

#[test]
fn without_heartbeats_an_idle_connection_stays() {
    let broker = Broker::start();
    let mut quiet = Peer::with_channel(&broker);
    let mut clock = Peer::open_with(&broker, Wishes { heartbeat: 2, ..USUAL });
    while clock.heartbeats < 4 {
        clock.expect_heartbeat();
        clock.send_frame(FrameType::Heartbeat, 0, &[]);
    }
    quiet.expect_nothing(1);
    assert_eq!(quiet.heartbeats, 0);
    quiet.close();
}

#[test]
fn heartbeat_on_a_channel_is_an_unexpected_frame() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    peer.send_frame(FrameType::Heartbeat, 1, &[]);
    peer.expect_close(505, "UNEXPECTED_FRAME - type 8, all octets = <<>>", MethodId::NONE);
}

#[test]
fn heartbeat_with_a_payload_is_no_frame() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    peer.send_frame(FrameType::Heartbeat, 0, b"x");
    let text = "FRAME_ERROR - type 8, all octets = <<\"x\">>: unknown_frame";
    peer.expect_close(501, text, MethodId::NONE);
}
