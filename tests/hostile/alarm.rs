//! Publishers that fill the memory with nobody consuming, or meet a disk without room: they are held up, told so
//! if they asked to be, and go on when there is room, without a message lost.

use std::io::Write as _;

use leveret_codec::FieldTable;
use leveret_codec::frame::FrameType;
use leveret_codec::method::{Method, MethodId, queue, tx};

use crate::memory::await_gone;
use crate::pending::Other;
use crate::support::Broker;
use crate::target::{MIB, Target};
use crate::wire::{End, PATIENCE, Wire, declaration, opening, opening_with, publish_frames, raw_frame};

const WATERMARK: u64 = 32 * MIB;
const FLAGS: [&str; 2] = ["--memory-high-watermark-bytes", "32MiB"];
const SIZE: usize = 64 * 1024;
/// Four times what the watermark lets in.
const MESSAGES: u32 = 2048;

/// Opens a connection that wants to be told of alarms, and declares the queue.
fn open_informed(port: u16) -> Wire {
    let capabilities = FieldTable::new().with("connection.blocked", true);
    let mut wire = Wire::open_with(port, &opening(&capabilities));
    wire.open_channel(1);
    wire.declare("full");
    wire
}

/// Publishes numbered messages from a thread of its own, as the socket takes them.
fn publish_all(wire: &Wire) -> std::thread::JoinHandle<()> {
    let mut stream = wire.stream.try_clone().expect("the socket can be shared");
    std::thread::spawn(move || {
        let mut body = vec![b'x'; SIZE];
        for number in 0..MESSAGES {
            body[..4].copy_from_slice(&number.to_be_bytes());
            stream.write_all(&publish_frames(1, "", "full", &body)).expect("the broker takes it in time");
        }
    })
}

#[test]
fn a_blocked_publisher_is_told_and_goes_on_with_nothing_lost() {
    let (mut target, filler) = full_broker();
    let base = target.rss();
    let mut publisher = open_informed(target.port);
    let writer = publish_all(&publisher);
    let blocked = publisher.expect(0, MethodId::CONNECTION_BLOCKED);
    assert!(
        matches!(blocked.method(), Method::ConnectionBlocked(blocked) if blocked.reason == "low on memory")
    );
    // Others are served, and nothing more is taken.
    let mut consumer = Wire::open(target.port);
    assert_eq!(consumer.count("full"), 0);
    target.assert_sane_log();
    let rss = target.rss();
    assert!(rss < base + WATERMARK, "{} MiB more memory", (rss - base) / MIB);
    drop(filler);
    publisher.expect(0, MethodId::CONNECTION_UNBLOCKED);
    consumer.consume("full", false);
    for expected in 0..MESSAGES {
        let message = consumer.delivery();
        assert_eq!(message.body[..4], expected.to_be_bytes(), "lost or out of order");
        consumer.ack(message.delivery_tag, false);
    }
    writer.join().expect("everything was taken");
    target.await_rss(base + WATERMARK);
    target.assert_works();
}

#[test]
fn messages_leave_memory_before_publishers_wait_for_ever() {
    let mut target = Target::start(&FLAGS);
    let base = target.rss();
    let publisher = open_informed(target.port);
    let writer = publish_all(&publisher);
    writer.join().expect("everything was taken");
    let mut consumer = Wire::open(target.port);
    while consumer.count("full") < MESSAGES {}
    target.await_rss(base + 2 * WATERMARK);
    target.assert_works();
}

#[test]
fn a_disk_with_too_little_room_blocks_publishers_alone() {
    // No disk has as much.
    let mut broker = Broker::start_with(&["--disk-free-limit-bytes", "1024TiB"]);
    let mut publisher = open_informed(broker.port);
    publisher.write(&publish_frames(1, "", "full", b"held up"));
    let blocked = publisher.expect(0, MethodId::CONNECTION_BLOCKED);
    assert!(
        matches!(blocked.method(), Method::ConnectionBlocked(blocked) if blocked.reason == "low on disk")
    );
    let mut consumer = Wire::open(broker.port);
    consumer.consume("full", false);
    assert_eq!(consumer.count("full"), 0);
    assert!(broker.process().stderr_so_far().contains("disk alarm"));
}

#[test]
fn a_blocked_publisher_goes_on_each_time_there_is_room() {
    let mut target = Target::start(&FLAGS);
    let mut publisher = open_informed(target.port);
    for _ in 0..3 {
        let filler = fill(&target);
        publisher.write(&publish_frames(1, "", "full", b"held up"));
        publisher.expect(0, MethodId::CONNECTION_BLOCKED);
        drop(filler);
        publisher.expect(0, MethodId::CONNECTION_UNBLOCKED);
    }
    assert_eq!(publisher.count("full"), 3);
    target.assert_works();
}

#[test]
fn a_blocked_publisher_that_was_not_asked_about_alarms_hears_nothing() {
    let (mut target, filler) = full_broker();
    let mut informed = open_informed(target.port);
    let mut silent = Wire::open(target.port);
    let message = publish_frames(1, "", "full", &[0; SIZE]);
    let taken = silent.write_until_stuck(&message, 256 << 20);
    assert!((taken as u64) < 2 * WATERMARK, "{taken} octets were taken");
    // One that does not publish is not blocked, and is served.
    assert_eq!(informed.count("full"), 0);
    drop((silent, filler));
    informed.delete("full");
    informed.close();
    target.assert_works();
}

/// A connection that fills the memory with what cannot leave it: messages of a transaction that is not committed.
fn fill(target: &Target) -> Filler {
    let mut filler = open_informed(target.port);
    filler.send(1, &Method::TxSelect(tx::Select));
    filler.expect(1, MethodId::TX_SELECT_OK);
    // The last one is too much, and none waits, so that the broker reads on.
    (0..2).for_each(|_| filler.write(&publish_frames(1, "", "full", &vec![0; WATERMARK as usize / 2])));
    let mut held_up = Other::open(target.port);
    held_up.publish_until_blocked();
    Filler { _filler: filler, _held_up: held_up }
}

/// Whoever fills the memory, as long as it is there, and who was held up by that first.
struct Filler {
    _filler: Wire,
    _held_up: Other,
}

/// A broker whose memory is full, and the connection that filled it.
fn full_broker() -> (Target, Filler) {
    let target = Target::start(&FLAGS);
    let filler = fill(&target);
    (target, filler)
}

/// A connection with channels 1 to 500 sends all this; its channels are held up with it.
fn hold_up(target: &mut Target, per_channel: impl Fn(u16) -> Vec<u8>) -> u64 {
    let mut wire = Wire::open(target.port);
    for number in 2..=500 {
        wire.open_channel(number);
    }
    let base = target.rss();
    let all = (1..=500).map(per_channel).collect::<Vec<_>>().concat();
    let taken = wire.write_until_stuck(&all, all.len());
    let more = target.rss().saturating_sub(base);
    println!("{} of {} MiB taken, {} MiB more memory", taken >> 20, all.len() >> 20, more / MIB);
    more
}

#[test]
fn many_blocked_channels_together_hold_little() {
    let (mut target, filler) = full_broker();
    let base = target.rss();
    let more = hold_up(&mut target, |number| publish_frames(number, "", "full", &[0; 1000]).repeat(400));
    assert!(more < 48 * MIB, "{} MiB for publishers that wait", more / MIB);
    drop(filler);
    Wire::open(target.port).delete("full");
    target.await_rss(base);
}

#[test]
fn frames_that_wait_do_not_pin_the_buffers_they_were_read_into() {
    let (mut target, filler) = full_broker();
    // Between two publishes that wait there is as much of nothing as a read takes.
    let noise = raw_frame(FrameType::Heartbeat, 0, b"").repeat(32 * 1024);
    for size in [10, 2000] {
        let publish = |number| publish_frames(number, "", "full", &vec![0; size]);
        let more = hold_up(&mut target, |number| [publish(number), noise.clone()].concat());
        assert!(more < 96 * MIB, "{} MiB for 500 messages of {size} octets", more / MIB);
        target.assert_sane_log();
    }
    drop(filler);
    Wire::open(target.port).delete("full");
    target.assert_works();
}

#[test]
fn a_blocked_publisher_that_vanishes_is_noticed() {
    let (mut target, filler) = full_broker();
    let mut wire = Wire::open_with(target.port, &opening_with(&FieldTable::new(), 0, 1));
    wire.open_channel(1);
    let mine = queue::Declare { exclusive: true, ..declaration("mine") };
    wire.send(1, &Method::QueueDeclare(mine));
    wire.expect(1, MethodId::QUEUE_DECLARE_OK);
    // More than one channel's inbox holds, so that the broker has stopped reading.
    wire.write_until_stuck(&publish_frames(1, "", "full", &[0; 1000]), 256 << 20);
    drop(wire);
    await_gone(target.port, "mine");
    drop(filler);
    Wire::open(target.port).delete("full");
    target.assert_works();
}

#[test]
fn blocked_publishers_do_not_hold_up_the_end() {
    let (mut target, _filler) = full_broker();
    let mut wire = Wire::open(target.port);
    wire.write(&publish_frames(1, "", "full", b"held up"));
    target.broker.process().signal("TERM");
    assert!(matches!(wire.end(), End::Close(320, _)));
    // The filler does not answer its close.
    target.broker.process().wait_for_line("shutting down", PATIENCE);
    target.broker.process().signal("TERM");
    assert_eq!(target.broker.process().wait_for_exit(PATIENCE).code(), Some(0));
    target.assert_sane_log();
}

#[test]
fn what_was_published_before_an_orderly_close_is_taken_when_there_is_room() {
    let (mut target, filler) = full_broker();
    let mut wire = Wire::open(target.port);
    wire.declare("last words");
    wire.write(&publish_frames(1, "", "last words", b"held up"));
    let closing = std::thread::spawn(move || wire.close());
    // Its close is answered once memory is there again: a client that is gone does not fill the queue on.
    drop(filler);
    let mut other = Wire::open(target.port);
    other.delete("full");
    closing.join().expect("the close is answered");
    assert_eq!(other.get("last words").expect("it was taken").body, b"held up");
    target.assert_works();
}
