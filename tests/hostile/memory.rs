//! Peers that make the broker hold something: answers they never read, messages they never finish, channels
//! by the ten thousand. Memory has a bound while they are there and comes back when they are gone.

use std::time::{Duration, Instant};

use leveret_codec::frame::FrameType;
use leveret_codec::method::{Method, MethodId, basic, channel, connection, exchange, queue, tx};
use leveret_codec::{FieldTable, FieldValue};

use crate::target::{MIB, Target};
use crate::wire::{
    End, PATIENCE, Wire, consumption, declaration, header_frame, method_frame, opening, opening_with,
    publish_frames, publish_method, raw_frame,
};

/// What a peer that only asks would like to send.
const REQUEST_BYTES: usize = 60 * 1024 * 1024;

/// Requests by channel 1, some 64 KiB of them.
fn requests(one: &[u8]) -> Vec<u8> {
    one.repeat(64 * 1024 / one.len() + 1)
}

/// A peer asks for something again and again, never reads the answers, and leaves without a goodbye. What was
/// its alone must be gone soon after.
fn ask_and_never_read(one_request: &[u8]) {
    let mut target = Target::start(&[]);
    let base = target.rss();
    let mut wire = Wire::open(target.port);
    let mine = queue::Declare { exclusive: true, ..declaration("mine") };
    wire.send(1, &Method::QueueDeclare(mine));
    wire.expect(1, MethodId::QUEUE_DECLARE_OK);
    let requests = requests(one_request);
    let (peak, taken) = target.peak_rss(|| wire.write_until_stuck(&requests, REQUEST_BYTES));
    println!("{} KiB taken, {} KiB more memory", taken / 1024, peak.saturating_sub(base) / 1024);
    assert!(taken < REQUEST_BYTES, "nothing held the peer back");
    assert!(peak < base + 24 * MIB, "{} MiB of memory for answers nobody reads", (peak - base) / MIB);
    target.assert_works();
    wire.reset();
    await_gone(target.port, "mine");
    target.await_rss(base + 12 * MIB);
}

/// Waits until nobody has this queue any more.
pub(crate) fn await_gone(port: u16, queue: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut wire = Wire::open(port);
        wire.send(1, &Method::QueueDeclare(queue::Declare { passive: true, ..declaration(queue) }));
        // 405 while it is another connection's own.
        match wire.channel_closed() {
            404 => return,
            405 => assert!(Instant::now() < deadline, "{queue} is still there"),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn answers_to_queue_declare_that_nobody_reads_are_bounded() {
    let passive = queue::Declare { passive: true, ..declaration("mine") };
    ask_and_never_read(&method_frame(1, &Method::QueueDeclare(passive)));
}

#[test]
fn answers_to_exchange_declare_that_nobody_reads_are_bounded() {
    let declare = exchange::Declare {
        exchange: "amq.topic",
        exchange_type: "topic",
        passive: true,
        durable: true,
        auto_delete: false,
        internal: false,
        no_wait: false,
        arguments: FieldTable::new(),
    };
    ask_and_never_read(&method_frame(1, &Method::ExchangeDeclare(declare)));
}

#[test]
fn answers_on_channel_0_that_nobody_reads_are_bounded() {
    let update = connection::UpdateSecret { new_secret: b"guest", reason: "" };
    ask_and_never_read(&method_frame(0, &Method::ConnectionUpdateSecret(update)));
}

#[test]
fn returned_messages_that_nobody_reads_are_bounded() {
    let publish = basic::Publish { exchange: "", routing_key: "nowhere", mandatory: true, immediate: false };
    let publish = method_frame(1, &Method::BasicPublish(publish));
    let body = raw_frame(FrameType::Body, 1, &[b'x'; 500]);
    ask_and_never_read(&[publish, header_frame(1, 500), body].concat());
}

#[test]
fn channels_opened_and_closed_without_reading_are_bounded() {
    let close = channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
    let open = method_frame(2, &Method::ChannelOpen(channel::Open));
    ask_and_never_read(&[open, method_frame(2, &Method::ChannelClose(close))].concat());
}

#[test]
fn requests_on_a_thousand_channels_are_bounded_together() {
    let mut target = Target::start(&[]);
    let base = target.rss();
    let mut wire = Wire::open(target.port);
    for number in 2..=1000 {
        wire.open_channel(number);
    }
    let flow = |number: u16| {
        method_frame(number, &Method::ChannelFlow(channel::Flow { active: true })).repeat(15_000)
    };
    let all = (1..=1000).map(flow).collect::<Vec<_>>().concat();
    let size = all.len();
    let (peak, taken) = target.peak_rss(|| wire.write_until_stuck(&all, size));
    println!("{} of {} MiB taken", taken as u64 / MIB, size as u64 / MIB);
    println!("{} MiB more memory", peak.saturating_sub(base) / MIB);
    assert!(taken < size, "nothing held the peer back");
    assert!(peak < base + 48 * MIB, "{} MiB of memory for requests that wait", (peak - base) / MIB);
    target.assert_works();
    wire.reset();
    target.await_rss(base + 24 * MIB);
}

#[test]
fn announced_bodies_cost_nothing_until_they_come() {
    let mut target = Target::start(&[]);
    let mut wire = Wire::open(target.port);
    for number in 2..=1000 {
        wire.open_channel(number);
    }
    let base = target.rss();
    for number in 1..=1000 {
        wire.write(&[publish_method(number, "", "q"), header_frame(number, 16 * MIB)].concat());
    }
    // Answered after all of these were read.
    wire.open_channel(1001);
    let rss = target.rss();
    println!("1000 announced bodies: {} KiB", rss.saturating_sub(base) / 1024);
    assert!(rss < base + 8 * MIB, "{} MiB of memory for bodies not sent", (rss - base) / MIB);
    // One octet each costs little more.
    for number in 1..=1000 {
        wire.write(&raw_frame(FrameType::Body, number, b"x"));
    }
    wire.open_channel(1002);
    let rss = target.rss();
    println!("1000 bodies begun: {} KiB", rss.saturating_sub(base) / 1024);
    assert!(rss < base + 96 * MIB, "{} MiB of memory for bodies begun", (rss - base) / MIB);
    drop(wire);
    target.await_rss(base + 16 * MIB);
}

#[test]
fn all_channels_there_are_can_be_opened_and_cost_little() {
    let mut target = Target::start(&["--channel-max", "0"]);
    let base = target.rss();
    let mut wire = Wire::open_with(target.port, &opening_with(&FieldTable::new(), u16::MAX, 60));
    for batch in (1..=u16::MAX).collect::<Vec<_>>().chunks(1000) {
        let opens: Vec<u8> = batch
            .iter()
            .flat_map(|&number| method_frame(number, &Method::ChannelOpen(channel::Open)))
            .collect();
        wire.write(&opens);
        batch.iter().for_each(|_| {
            assert!(matches!(wire.next().expect("an answer").method(), Method::ChannelOpenOk(_)))
        });
    }
    let each = target.rss().saturating_sub(base) / u64::from(u16::MAX);
    println!("65535 channels: {each} octets of memory each");
    assert!(each < 4096, "{each} octets of memory for a channel");
    // The last one works like the first.
    wire.send(u16::MAX, &Method::QueueDeclare(declaration("last")));
    wire.expect(u16::MAX, MethodId::QUEUE_DECLARE_OK);
    wire.close();
    target.assert_works();
    target.await_rss(base + 48 * MIB);
}

#[test]
fn a_transaction_has_a_limit_whatever_its_messages_are_made_of() {
    let mut target = Target::start(&["--memory-high-watermark-bytes", "8GiB"]);
    let base = target.rss();
    let mut wire = Wire::open(target.port);
    wire.declare("tx");
    wire.send(1, &Method::TxSelect(tx::Select));
    wire.expect(1, MethodId::TX_SELECT_OK);
    let message = publish_frames(1, "", "tx", &vec![b'x'; 16 << 20]);
    let (peak, closed) = target.peak_rss(|| {
        // 512 MiB are the limit.
        for _ in 0..40 {
            wire.write(&message);
        }
        wire.send(1, &Method::TxRollback(tx::Rollback));
        wire.next().is_ok_and(
            |frame| matches!(frame.method(), Method::ChannelClose(close) if close.reply_code == 406),
        )
    });
    assert!(closed, "640 MiB were taken in one transaction");
    assert!(peak < base + 600 * MIB, "{} MiB of memory", (peak - base) / MIB);
    drop(wire);
    target.await_rss(base + 32 * MIB);
}

#[test]
fn arguments_of_consumers_take_no_more_than_what_was_sent() {
    let mut target = Target::start(&[]);
    let mut wire = Wire::open(target.port);
    wire.declare("q");
    let base = target.rss();
    // The shortest values there are.
    let arguments = FieldTable::new().with("x", vec![FieldValue::Void; 130_000]);
    for number in 0..300 {
        let tag = format!("c{number}");
        let consume =
            basic::Consume { consumer_tag: &tag, arguments: arguments.clone(), ..consumption("q", true) };
        wire.send(1, &Method::BasicConsume(consume));
        wire.expect(1, MethodId::BASIC_CONSUME_OK);
    }
    let more = target.rss().saturating_sub(base);
    println!("300 consumers with 130 KB of arguments each: {} MiB", more / MIB);
    assert!(more < 96 * MIB, "{} MiB of memory", more / MIB);
    wire.close();
    target.assert_works();
}

#[test]
fn a_peer_that_does_not_read_its_close_is_dropped() {
    let mut target = Target::start(&["--closing-timeout-ms", "500"]);
    let base = target.rss();
    let mut wire = Wire::open(target.port);
    let mine = queue::Declare { exclusive: true, ..declaration("mine") };
    wire.send(1, &Method::QueueDeclare(mine));
    wire.expect(1, MethodId::QUEUE_DECLARE_OK);
    for number in 0..64 {
        wire.publish("mine", &vec![number; 1 << 20]);
    }
    wire.send(1, &Method::BasicConsume(consumption("mine", true)));
    wire.expect(1, MethodId::BASIC_CONSUME_OK);
    // The channel waits for its consumer to read; the connection hears what is wrong with this.
    wire.write(b"\x2a\0\x01\0\0\0\x01x\xce");
    await_gone(target.port, "mine");
    target.await_rss(base + 24 * MIB);
    // What had left before is still read; then the socket ends, with or without the close.
    let start = Instant::now();
    assert!(matches!(wire.end(), End::Close(501, _) | End::Silent));
    assert!(start.elapsed() < Duration::from_secs(20));
    target.assert_works();
}

#[test]
fn a_login_of_many_properties_is_taken_or_refused_within_a_frame() {
    let mut target = Target::start(&[]);
    let base = target.rss();
    // As many empty values as a frame of the handshake holds.
    let many =
        (0..600).fold(FieldTable::new(), |table, number| table.with(&format!("k{number}"), FieldValue::Void));
    let mut wire = Wire::open_with(target.port, &opening(&many));
    wire.open_channel(1);
    wire.close();
    target.await_rss(base + 8 * MIB);
}
