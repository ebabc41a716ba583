//! From the protocol header to connection.open-ok: versions, mechanisms, limits, and how each mistake ends.

use leveret_codec::frame::PROTOCOL_HEADER;
use leveret_codec::method::{Method, MethodId, connection};
use leveret_codec::table::FieldTable;

use crate::support::Broker;
use crate::wire::{Peer, USUAL, Wishes, encoded};

#[test]
fn header_of_0_9_1_or_0_9_starts_a_connection() {
    let broker = Broker::start();
    for header in [PROTOCOL_HEADER, *b"AMQP\x01\x01\0\x09"] {
        let mut peer = Peer::connect(&broker);
        peer.send_octets(&header);
        peer.recv_start();
    }
}

#[test]
fn header_may_come_one_octet_at_a_time() {
    let broker = Broker::start();
    let mut peer = Peer::connect(&broker);
    for octet in PROTOCOL_HEADER {
        peer.send_octets(&[octet]);
    }
    peer.recv_start();
}

#[test]
fn any_other_header_is_answered_with_ours_and_the_end() {
    let broker = Broker::start();
    let others: [&[u8]; 5] = [
        b"AMQP\x03\x01\0\0",
        b"AMQP\0\x02\0\0",
        b"AMQP\0\0\x09\x09",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01",
    ];
    for header in others {
        let mut peer = Peer::connect(&broker);
        peer.send_octets(header);
        // RabbitMQ 4 answers with the header of AMQP 1.0 here, which neither 3.10 nor Leveret speaks.
        assert_eq!(peer.recv_octets(8), PROTOCOL_HEADER, "{header:?}");
        peer.expect_eof();
    }
}

#[test]
fn header_of_0_8_is_not_spoken_any_more() {
    let broker = Broker::start();
    let mut peer = Peer::start(&broker);
    let answered = peer.either(true, false, "RabbitMQ 4 does not speak 0-8 any more, 3.10 does");
    peer = Peer::connect(&broker);
    peer.send_octets(b"AMQP\x01\x01\x08\0");
    if answered {
        assert_eq!(peer.recv_octets(8), PROTOCOL_HEADER);
        peer.expect_eof();
    }
}

#[test]
fn header_that_is_cut_short_ends_without_an_answer() {
    let broker = Broker::start();
    let mut peer = Peer::connect(&broker);
    peer.send_octets(b"AMQP\0\0");
    peer.shut_down();
    peer.expect_eof();
}

#[test]
fn start_announces_what_clients_look_for() {
    let broker = Broker::start();
    let mut peer = Peer::connect(&broker);
    peer.send_octets(&PROTOCOL_HEADER);
    let properties = peer.recv_start();
    let text = |name: &str| properties.get(name).and_then(|value| value.as_str()).unwrap_or_default();
    assert_eq!(text("product"), "RabbitMQ");
    let version: Vec<u32> = text("version").split('.').map(|part| part.parse().unwrap()).collect();
    assert_eq!(version.len(), 3);
    let capabilities = properties.get("capabilities").and_then(|value| value.as_table()).unwrap();
    for name in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        assert_eq!(capabilities.get(name).and_then(|value| value.as_bool()), Some(true), "{name}");
    }
}

#[test]
fn plain_and_amqplain_log_in() {
    let broker = Broker::start();
    let table = FieldTable::new().with("LOGIN", "guest").with("PASSWORD", "guest").encoded();
    for (mechanism, response) in [("PLAIN", b"\0guest\0guest".as_slice()), ("AMQPLAIN", &table)] {
        let mut peer = Peer::start(&broker);
        peer.send_start_ok(mechanism, response, true);
        let tune = peer.recv_tune();
        assert_eq!((tune.channel_max, tune.frame_max, tune.heartbeat), (2047, 131_072, 60));
    }
}

#[test]
fn wrong_password_is_explained_to_who_announced_it_understands() {
    let broker = Broker::start();
    let table = FieldTable::new().with("LOGIN", "guest").with("PASSWORD", "wrong").encoded();
    for (mechanism, response) in [
        ("PLAIN", b"\0guest\0wrong".as_slice()),
        ("PLAIN", b"\0nobody\0guest"),
        ("PLAIN", b"\0guest\0"),
        ("AMQPLAIN", &table),
    ] {
        let mut peer = Peer::start(&broker);
        peer.send_start_ok(mechanism, response, true);
        let text = format!(
            "ACCESS_REFUSED - Login was refused using authentication mechanism {mechanism}. For details see \
             the broker logfile."
        );
        peer.expect_close(403, &text, MethodId::NONE);
    }
}

#[test]
fn wrong_password_of_others_ends_in_silence() {
    let broker = Broker::start();
    let mut peer = Peer::start(&broker);
    peer.send_start_ok("PLAIN", b"\0guest\0wrong", false);
    peer.expect_eof();
}

#[test]
fn unknown_mechanism_and_malformed_response_end_in_silence() {
    let broker = Broker::start();
    for (mechanism, response) in [("plain", b"\0guest\0guest".as_slice()), ("NTLM", b""), ("PLAIN", b"guest")]
    {
        let mut peer = Peer::start(&broker);
        peer.send_start_ok(mechanism, response, true);
        peer.expect_eof();
    }
}

#[test]
fn method_before_start_ok_ends_in_silence() {
    let broker = Broker::start();
    let mut peer = Peer::start(&broker);
    peer.send(0, connection::Open { virtual_host: "/" });
    peer.expect_eof();
}

#[track_caller]
fn refuses_tune(broker: &Broker, channel_max: u16, frame_max: u32, text: &str) {
    let mut peer = Peer::log_in(broker);
    peer.send(0, connection::TuneOk { channel_max, frame_max, heartbeat: 0 });
    if peer.either(true, false, "RabbitMQ 4 says what does not fit, 3.10 drops the connection after 3 s") {
        peer.expect_close(530, text, MethodId::CONNECTION_TUNE);
    } else {
        peer.expect_eof();
    }
}

#[test]
fn limits_beyond_those_offered_are_refused() {
    let broker = Broker::start();
    let probe = Peer::start(&broker);
    let min = probe.either(8192, 4096, "RabbitMQ raised the smallest frame to 8192 octets in 4.1");
    let too_low = format!(
        "NOT_ALLOWED - negotiated frame_max = {} is lower than the minimum allowed value ({min})",
        min - 1
    );
    refuses_tune(&broker, 2047, min - 1, &too_low);
    let too_high = "NOT_ALLOWED - negotiated frame_max = 131073 is higher than the maximum allowed value \
                    (131072)";
    refuses_tune(&broker, 2047, 131_073, too_high);
    let no_limit = "NOT_ALLOWED - negotiated frame_max = 0 (no limit) is higher than the maximum allowed \
                    value (131072)";
    refuses_tune(&broker, 2047, 0, no_limit);
    let channels =
        "NOT_ALLOWED - negotiated channel_max = 2048 is higher than the maximum allowed value (2047)";
    refuses_tune(&broker, 2048, 131_072, channels);
    let no_limit = "NOT_ALLOWED - negotiated channel_max = 0 (no limit) is higher than the maximum allowed \
                    value (2047)";
    refuses_tune(&broker, 0, 131_072, no_limit);
    // The frame's size is looked at first.
    refuses_tune(&broker, 0, min - 1, &too_low);
}

#[test]
fn limits_below_those_offered_are_taken() {
    let broker = Broker::start();
    let mut peer =
        Peer::open_with(&broker, Wishes { channel_max: 1, frame_max: 8192, heartbeat: 600, ..USUAL });
    peer.open_channel(1);
    peer.close();
}

#[test]
fn unknown_vhost_is_refused() {
    let broker = Broker::start();
    let mut peer = Peer::log_in(&broker);
    peer.send(0, connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 0 });
    peer.send(0, connection::Open { virtual_host: "no-such" });
    peer.expect_close(530, "NOT_ALLOWED - vhost no-such not found", MethodId::CONNECTION_OPEN);
}

#[test]
fn tune_ok_and_open_and_more_may_be_sent_at_once() {
    let broker = Broker::start();
    let mut peer = Peer::log_in(&broker);
    let mut octets = encoded(0, connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 0 });
    octets.extend(encoded(0, connection::Open { virtual_host: "/" }));
    octets.extend(encoded(1, leveret_codec::method::channel::Open));
    octets.extend(encoded(2, leveret_codec::method::channel::Open));
    peer.send_octets(&octets);
    peer.expect(0, connection::OpenOk);
    let mut opened: Vec<_> = (0..2).map(|_| peer.recv()).collect();
    opened.sort_by_key(|received| received.channel);
    assert_eq!((opened[0].channel, opened[1].channel), (1, 2));
    assert!(opened.iter().all(|received| matches!(received.method(), Method::ChannelOpenOk(_))));
}

#[test]
fn client_may_close_before_it_opened() {
    let broker = Broker::start();
    let mut peer = Peer::log_in(&broker);
    let close =
        connection::Close { reply_code: 200, reply_text: "changed my mind", class_id: 0, method_id: 0 };
    peer.send(0, close);
    if peer.either(true, false, "RabbitMQ just drops the connection") {
        peer.expect(0, connection::CloseOk);
    }
    peer.hang_up();
}

#[test]
fn a_new_secret_is_taken_if_it_is_the_password() {
    let broker = Broker::start();
    let mut peer = Peer::open(&broker);
    let update = |new_secret| connection::UpdateSecret { new_secret, reason: "rotation" };
    peer.ask(0, update(b"guest"), connection::UpdateSecretOk);
    peer.open_channel(1);
    peer.send(0, update(b"wrong"));
    if !peer.either(true, false, "RabbitMQ 3.10 takes any secret of a user with a password") {
        return peer.expect(0, connection::UpdateSecretOk);
    }
    let text = "NOT_ALLOWED - New secret was refused by one of the backends";
    peer.expect_close(530, text, MethodId::CONNECTION_UPDATE_SECRET);
}

#[test]
fn a_mechanism_begins_no_line_of_the_log() {
    let mut broker = Broker::start();
    let mut peer = Peer::start(&broker);
    if !peer.is_leveret() {
        return;
    }
    peer.send_start_ok("PLAIN\n2026-11-21 INFO forged\u{1b}[2J", b"\0guest\0guest", true);
    peer.expect_eof();
    let line = broker.process().wait_for_line("forged", std::time::Duration::from_secs(10));
    assert!(line.contains(r#"login by "PLAIN\n2026-11-21 INFO forged\u{1b}[2J" refused"#), "{line}");
}
