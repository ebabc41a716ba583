//! Peers that send much and finish nothing: bodies without their last octet, transactions without a commit. It counts
//! as messages do, so that the alarm knows of it, and has a limit for a connection as a whole.

use std::time::Instant;

use leveret_codec::frame::FrameType;
use leveret_codec::method::{Method, MethodId, queue, tx};
use leveret_codec::{FieldTable, FieldTableRef, Properties};

use crate::target::{MIB, Target};
use crate::wire::{
    End, PATIENCE, Wire, declaration, header_frame, header_frame_with, opening, publish_frames,
    publish_method, raw_frame,
};

const WATERMARK: [&str; 2] = ["--memory-high-watermark-bytes", "32MiB"];

/// Octets of the payload of a frame.
const FRAME_BYTES: usize = 131_072 - 8;

/// Messages of 16 MiB on these channels, but for their last octets.
fn unfinished(channels: std::ops::RangeInclusive<u16>) -> Vec<u8> {
    // First, since none is begun while the alarm is raised.
    let begun = |channel| [publish_method(channel, "", "nowhere"), header_frame(channel, 16 * MIB)].concat();
    let begun: Vec<_> = channels.clone().map(begun).collect();
    [begun, channels.map(all_but_the_last_octet).collect()].concat().concat()
}

fn all_but_the_last_octet(channel: u16) -> Vec<u8> {
    // As large as frames may be.
    let full = raw_frame(FrameType::Body, channel, &vec![b'x'; FRAME_BYTES]);
    let left = 16 * 1024 * 1024 - 1 - 128 * FRAME_BYTES;
    [full.repeat(128), raw_frame(FrameType::Body, channel, &vec![b'x'; left])].concat()
}

/// Another connection, that is told of alarms.
pub(crate) struct Other {
    wire: Wire,
    published: u32,
}

impl Other {
    pub(crate) fn open(port: u16) -> Self {
        let mut wire = Wire::open_with(port, &opening(&FieldTable::new().with("connection.blocked", true)));
        wire.open_channel(1);
        wire.declare("waiting");
        Self { wire, published: 0 }
    }

    /// Publishes until an alarm is raised, for which it may have to wait: what was sent has to be taken first.
    pub(crate) fn publish_until_blocked(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.wire.write(&publish_frames(1, "", "waiting", b"held up"));
            self.published += 1;
            let passive = queue::Declare { passive: true, ..declaration("waiting") };
            self.wire.send(1, &Method::QueueDeclare(passive));
            match self.wire.next().expect("an answer").method() {
                Method::ConnectionBlocked(blocked) => return assert_eq!(blocked.reason, "low on memory"),
                Method::QueueDeclareOk(_) => assert!(Instant::now() < deadline, "nothing raised the alarm"),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Waits until the alarm is cleared, and all is there that was held up.
    fn expect_unblocked(&mut self) {
        self.wire.expect(0, MethodId::CONNECTION_UNBLOCKED);
        self.wire.expect(1, MethodId::QUEUE_DECLARE_OK);
        assert_eq!(self.wire.count("waiting"), self.published);
    }
}

#[test]
fn bodies_that_are_never_finished_have_a_limit_for_the_connection() {
    let mut target = Target::start(&["--memory-high-watermark-bytes", "8GiB"]);
    let base = target.rss();
    let mut wire = Wire::open(target.port);
    for number in 2..=9 {
        wire.open_channel(number);
    }
    let (peak, ()) = target.peak_rss(|| {
        // 128 MiB are the limit.
        // The broker may close the socket when it has said what is wrong.
        let _ = wire.try_write(&unfinished(1..=9));
    });
    let End::Close(code, text) = wire.end() else { panic!("no word about 144 MiB of unfinished bodies") };
    assert_eq!(code, 506, "{text}");
    assert!(
        text.starts_with("RESOURCE_ERROR - messages that are still being received take more than 134217728")
    );
    assert!(peak < base + 200 * MIB, "{} MiB of memory", (peak - base) / MIB);
    drop(wire);
    target.await_rss(base + 32 * MIB);
    target.assert_works();
}

#[test]
fn bodies_that_are_being_received_raise_the_alarm_and_are_finished_all_the_same() {
    let mut target = Target::start(&WATERMARK);
    let mut slow = Wire::open(target.port);
    for number in 2..=3 {
        slow.open_channel(number);
    }
    slow.write(&unfinished(1..=3));
    let mut other = Other::open(target.port);
    other.publish_until_blocked();
    for number in 1..=3 {
        slow.write(&raw_frame(FrameType::Body, number, b"x"));
    }
    other.expect_unblocked();
    // What ends without an end gives it back as well.
    slow.write(&unfinished(1..=3));
    other.publish_until_blocked();
    drop(slow);
    other.expect_unblocked();
    target.assert_works();
}

#[test]
fn headers_without_their_body_count_too() {
    let target = Target::start(&["--memory-high-watermark-bytes", "16MiB"]);
    let mut wire = Wire::open(target.port);
    let headers = FieldTable::new().with("h", "x".repeat(100_000).as_str()).encoded();
    let properties = Properties { headers: FieldTableRef::parse(&headers).ok(), ..Properties::default() };
    for number in 2..=200 {
        wire.open_channel(number);
        let header = header_frame_with(number, 1, &properties);
        wire.write(&[publish_method(number, "", "nowhere"), header].concat());
    }
    let mut other = Other::open(target.port);
    other.publish_until_blocked();
    drop(wire);
    other.expect_unblocked();
}

#[test]
fn transactions_raise_the_alarm_until_they_are_committed_or_rolled_back() {
    let mut target = Target::start(&WATERMARK);
    let mut wire = Wire::open(target.port);
    wire.declare("tx");
    let mut other = Other::open(target.port);
    // Of a few that are large, and of many that are small. None waits itself: the last one is too much.
    let mut small = vec![vec![b'x'; 10_000]; 3300];
    small.push(vec![b'x'; 1 << 20]);
    for bodies in [vec![vec![b'x'; 16 << 20]; 2], small] {
        wire.send(1, &Method::TxSelect(tx::Select));
        wire.expect(1, MethodId::TX_SELECT_OK);
        let all: Vec<u8> = bodies.iter().flat_map(|body| publish_frames(1, "", "tx", body)).collect();
        wire.write(&all);
        other.publish_until_blocked();
        drop(wire);
        other.expect_unblocked();
        wire = Wire::open(target.port);
    }
    wire.send(1, &Method::TxSelect(tx::Select));
    wire.expect(1, MethodId::TX_SELECT_OK);
    (0..2).for_each(|_| wire.write(&publish_frames(1, "", "tx", &vec![b'x'; 16 << 20])));
    other.publish_until_blocked();
    wire.send(1, &Method::TxRollback(tx::Rollback));
    wire.expect(1, MethodId::TX_ROLLBACK_OK);
    other.expect_unblocked();
    // Committed they are in the queue, and may leave memory.
    (0..2).for_each(|_| wire.write(&publish_frames(1, "", "tx", &vec![b'x'; 16 << 20])));
    wire.send(1, &Method::TxCommit(tx::Commit));
    wire.expect(1, MethodId::TX_COMMIT_OK);
    assert_eq!(wire.count("tx"), 2);
    wire.delete("tx");
    target.assert_works();
}

#[test]
fn messages_of_queues_leave_memory_for_a_transaction() {
    let mut target = Target::start(&WATERMARK);
    let mut wire = Wire::open(target.port);
    wire.declare("q");
    // Not so many that they leave by themselves.
    (0..14).for_each(|_| wire.write(&publish_frames(1, "", "q", &vec![b'x'; 1 << 20])));
    assert_eq!(wire.count("q"), 14);
    let mut holder = Wire::open(target.port);
    holder.send(1, &Method::TxSelect(tx::Select));
    holder.expect(1, MethodId::TX_SELECT_OK);
    (0..19).for_each(|_| holder.write(&publish_frames(1, "", "q", &vec![b'x'; 1 << 20])));
    target.broker.process().wait_for_line("memory alarm: messages take more", PATIENCE);
    wire.declare("goes on");
    wire.write(&publish_frames(1, "", "goes on", b"m"));
    assert_eq!(wire.count("goes on"), 1);
    target.assert_works();
}

#[test]
fn the_transactions_of_a_connection_share_a_limit() {
    let mut target = Target::start(&["--memory-high-watermark-bytes", "8GiB"]);
    let base = target.rss();
    let mut wire = Wire::open(target.port);
    wire.declare("tx");
    let message = |channel| publish_frames(channel, "", "tx", &vec![b'x'; 16 << 20]);
    let (peak, ()) = target.peak_rss(|| {
        for number in 1..=3 {
            if number > 1 {
                wire.open_channel(number);
            }
            wire.send(number, &Method::TxSelect(tx::Select));
            wire.expect(number, MethodId::TX_SELECT_OK);
        }
        // 512 MiB are the limit.
        for number in [1, 2] {
            (0..15).for_each(|_| wire.write(&message(number)));
        }
        (0..3).for_each(|_| wire.write(&message(3)));
    });
    let closed = wire.expect(3, MethodId::CHANNEL_CLOSE);
    assert!(matches!(closed.method(), Method::ChannelClose(close) if close.reply_code == 406));
    assert!(peak < base + 640 * MIB, "{} MiB of memory", (peak - base) / MIB);
    // The others may still be committed.
    wire.send(1, &Method::TxRollback(tx::Rollback));
    wire.expect(1, MethodId::TX_ROLLBACK_OK);
    wire.send(2, &Method::TxCommit(tx::Commit));
    wire.expect(2, MethodId::TX_COMMIT_OK);
    assert_eq!(wire.count("tx"), 15);
    wire.delete("tx");
    drop(wire);
    target.await_rss(base + 48 * MIB);
}
