//! Frames that are whole but wrong, lengths that lie, nesting without end: each has its reply code.

use leveret_codec::frame::FrameType;
use leveret_codec::method::{Method, MethodId, basic, channel, connection, queue};
use leveret_codec::{FieldTable, FieldTableRef, FieldValue, Properties};

use crate::target::{MIB, Target};
use crate::wire::{
    End, Wire, declaration, header_frame, header_frame_with, method_frame, opening, publish_frames,
    publish_method, raw_frame,
};

/// A name, what is sent on a connection with channel 1 open, and the reply code that ends the connection.
type Case = (&'static str, Vec<u8>, u16);

/// Runs each case on a connection of its own; there must be one warning about it, with the code.
fn run_cases(target: &mut Target, cases: Vec<Case>) {
    for (name, octets, code) in cases {
        let mut wire = Wire::open(target.port);
        let peer = wire.address();
        wire.write(&octets);
        match wire.end() {
            End::Close(found, _) if found == code => {}
            other => panic!("{name}: {other:?} instead of {code}"),
        }
        let warnings = target.warnings_about(peer);
        assert_eq!(warnings.len(), 1, "{name}: {warnings:?}");
        assert!(warnings[0].contains(&code.to_string()), "{name}: {warnings:?}");
        target.assert_works();
    }
}

/// A method frame whose arguments are these octets.
fn arguments(id: MethodId, octets: &[u8]) -> Vec<u8> {
    let ids = [id.class_id.to_be_bytes(), id.method_id.to_be_bytes()].concat();
    raw_frame(FrameType::Method, 1, &[&ids, octets].concat())
}

#[test]
fn frames_out_of_order_close_the_connection() {
    let publish = || publish_method(1, "", "nowhere");
    let header = |size| header_frame(1, size);
    let body = |octets: &[u8]| raw_frame(FrameType::Body, 1, octets);
    let declare = |channel| method_frame(channel, &Method::QueueDeclare(declaration("q")));
    let tune_ok = connection::TuneOk { channel_max: 1, frame_max: 131_072, heartbeat: 0 };
    let mut other_class = header(5);
    other_class[8] = 50;
    let mut target = Target::start(&[]);
    run_cases(
        &mut target,
        vec![
            ("a method on a channel never opened", declare(5), 504),
            ("a header on a channel never opened", header_frame(9, 5), 504),
            ("a body on a channel never opened", raw_frame(FrameType::Body, 9, b"x"), 504),
            ("a channel past channel_max", declare(2048), 530),
            ("a channel opened twice", method_frame(1, &Method::ChannelOpen(channel::Open)), 504),
            ("a header first", header(5), 505),
            ("a body first", body(b"hello"), 505),
            ("a body after a publish", [publish(), body(b"hello")].concat(), 505),
            ("two publishes in a row", [publish(), publish()].concat(), 505),
            ("two headers in a row", [publish(), header(5), header(5)].concat(), 505),
            ("a method instead of a body", [publish(), header(5), declare(1)].concat(), 505),
            ("a method in a body", [publish(), header(5), body(b"he"), declare(1)].concat(), 505),
            ("a body past its size", [publish(), header(5), body(b"longer")].concat(), 501),
            ("a header of another class", [publish(), other_class].concat(), 505),
            ("a method of a channel on channel 0", declare(0), 504),
            ("a header on channel 0", header_frame(0, 5), 505),
            ("a body on channel 0", raw_frame(FrameType::Body, 0, b"x"), 505),
            ("tuning again", method_frame(0, &Method::ConnectionTuneOk(tune_ok)), 504),
            ("a server's method", method_frame(1, &Method::BasicGetEmpty(basic::GetEmpty)), 503),
            ("a heartbeat on a channel", raw_frame(FrameType::Heartbeat, 1, b""), 505),
            ("a heartbeat with a payload", raw_frame(FrameType::Heartbeat, 0, b"x"), 501),
        ],
    );
}

#[test]
fn malformed_frames_close_the_connection() {
    let mut bad_end = method_frame(1, &Method::QueueDeclare(declaration("q")));
    *bad_end.last_mut().expect("a frame has an end") = 0;
    let mut target = Target::start(&[]);
    let base = target.rss();
    run_cases(
        &mut target,
        vec![
            ("another end octet", bad_end, 501),
            ("an unknown frame type", b"\x2a\0\x01\0\0\0\x01x\xce".to_vec(), 501),
            ("4 GiB announced", b"\x03\0\x01\xff\xff\xff\xff".to_vec(), 501),
            ("one octet over frame_max", b"\x03\0\x01\0\x02\0\x01".to_vec(), 501),
            ("4 GiB announced on channel 0", b"\x01\0\0\xff\xff\xff\xff".to_vec(), 501),
            ("an empty method", raw_frame(FrameType::Method, 1, b""), 501),
            ("half a method's number", raw_frame(FrameType::Method, 1, b"\0\x3c"), 501),
            ("an unknown method", arguments(MethodId::new(60, 250), b""), 540),
            ("an unknown class", arguments(MethodId::new(61, 10), b""), 540),
            ("a method cut short", arguments(MethodId::QUEUE_DECLARE, b"\0\0"), 501),
            ("octets behind a method", arguments(MethodId::CHANNEL_FLOW, b"\x01more"), 501),
            ("a short string past the frame", arguments(MethodId::QUEUE_DECLARE, b"\0\0\xffq"), 501),
            (
                "a table past the frame",
                arguments(MethodId::QUEUE_DECLARE, b"\0\0\x01q\0\xff\xff\xff\xff"),
                501,
            ),
            (
                "a long string past its table",
                arguments(MethodId::QUEUE_DECLARE, b"\0\0\x01q\0\0\0\0\x08\x01kS\xff\xff\xff\xff!"),
                501,
            ),
            (
                "an array past its table",
                arguments(MethodId::QUEUE_DECLARE, b"\0\0\x01q\0\0\0\0\x08\x01kA\x7f\xff\xff\xff!"),
                501,
            ),
            ("a value of no type", arguments(MethodId::QUEUE_DECLARE, b"\0\0\x01q\0\0\0\0\x04\x01k?!"), 501),
            (
                "a name that is not UTF-8",
                arguments(MethodId::QUEUE_DECLARE, b"\0\0\x02\xff\xfe\0\0\0\0\0"),
                501,
            ),
            ("a header cut short", content(b"\0\x3c\0\0\0\0"), 501),
            ("flags without values", content(b"\0\x3c\0\0\0\0\0\0\0\0\0\x01\xff\xfc"), 501),
            (
                "flags without end",
                content(&[b"\0\x3c\0\0\0\0\0\0\0\0\0\x01".as_slice(), &[0xff; 999]].concat()),
                501,
            ),
        ],
    );
    target.await_rss(base + 16 * MIB);
}

/// A publish whose content header has this payload.
fn content(header: &[u8]) -> Vec<u8> {
    [publish_method(1, "", "q"), raw_frame(FrameType::Header, 1, header)].concat()
}

/// The octets of a table in which tables and arrays alternate to this depth.
fn nested(depth: usize) -> Vec<u8> {
    let mut octets: Vec<u8> = Vec::new();
    for level in 0..depth {
        // Built from the inside; each level is the only value of the one around it.
        let (letter, key): (u8, &[u8]) = if level % 2 == 0 { (b'F', b"") } else { (b'A', b"\x01k") };
        let size = (octets.len() as u32).to_be_bytes();
        octets = [key, &[letter], &size, &octets].concat();
    }
    octets
}

#[test]
fn nesting_bombs_close_the_connection() {
    let table = nested(9_999);
    // The outermost level is that of the method or the header itself.
    let table = [(table.len() as u32).to_be_bytes().as_slice(), &table].concat();
    let declare = [b"\0\0\x01q\0".as_slice(), &table].concat();
    let headers = [b"\0\x3c\0\0\0\0\0\0\0\0\0\x01\x20\0".as_slice(), &table].concat();
    let arrays = [b"\x01kA\0\0\0\x05".as_slice(); 10_000].concat();
    let arrays = [b"\0\0\x01q\0".as_slice(), &(arrays.len() as u32).to_be_bytes(), &arrays].concat();
    let mut target = Target::start(&[]);
    run_cases(
        &mut target,
        vec![
            ("in the arguments of a method", arguments(MethodId::QUEUE_DECLARE, &declare), 501),
            ("in the headers of a message", content(&headers), 501),
            ("with sizes that do not fit", arguments(MethodId::QUEUE_DECLARE, &arrays), 501),
        ],
    );
    // Deep, but not absurdly so: it is taken.
    let deep = (0..20)
        .fold(FieldTable::new(), |inner, _| FieldTable::new().with("k", vec![FieldValue::Table(inner)]));
    let encoded = deep.encoded();
    let properties = Properties { headers: FieldTableRef::parse(&encoded).ok(), ..Properties::default() };
    let mut wire = Wire::open(target.port);
    wire.send(1, &Method::QueueDeclare(queue::Declare { arguments: deep, ..declaration("deep") }));
    wire.expect(1, MethodId::QUEUE_DECLARE_OK);
    wire.write(&[publish_method(1, "", "deep"), header_frame_with(1, 0, &properties)].concat());
    assert_eq!(wire.get("deep").expect("it is there").body, b"");
    wire.close();
    target.assert_works();
}

#[test]
fn a_body_size_past_the_limit_closes_the_channel_alone() {
    let mut target = Target::start(&[]);
    let base = target.rss();
    let mut wire = Wire::open(target.port);
    let peer = wire.address();
    for body_size in [u64::MAX, u64::MAX / 2 + 1, 16 * MIB + 1] {
        wire.write(&[publish_method(1, "", "q"), header_frame(1, body_size)].concat());
        assert_eq!(wire.channel_closed(), 406, "a body of {body_size} octets");
        wire.open_channel(1);
    }
    // What was on its way when the channel was closed is ignored.
    wire.write(&[publish_method(1, "", "q"), header_frame(1, u64::MAX)].concat());
    wire.write(&raw_frame(FrameType::Body, 1, &[1; 1000]));
    wire.write(&method_frame(1, &Method::QueueDeclare(declaration("q"))));
    assert_eq!(wire.channel_closed(), 406);
    wire.open_channel(1);
    assert_eq!(wire.declare("q"), 0);
    wire.close();
    assert_eq!(target.warnings_about(peer).len(), 4);
    target.await_rss(base + 8 * MIB);
}

#[test]
fn contents_of_two_channels_may_be_interleaved() {
    let mut target = Target::start(&[]);
    let mut wire = Wire::open(target.port);
    wire.open_channel(2);
    wire.declare("woven");
    let body = |channel, octets: &[u8]| raw_frame(FrameType::Body, channel, octets);
    let woven = [
        publish_method(1, "", "woven"),
        publish_method(2, "", "woven"),
        header_frame(2, 4),
        header_frame(1, 4),
        body(1, b"on"),
        body(2, b"tw"),
        body(2, b"o!"),
        body(1, b"e!"),
    ];
    wire.write(&woven.concat());
    wire.await_count("woven", 2);
    let mut bodies: Vec<_> = (0..2).map(|_| wire.get("woven").expect("two came").body).collect();
    bodies.sort();
    assert_eq!(bodies, [b"one!", b"two!"]);
    wire.close();
    target.assert_works();
}

#[test]
fn a_mistake_on_one_channel_leaves_the_others_alone() {
    let mut target = Target::start(&[]);
    let mut wire = Wire::open(target.port);
    wire.open_channel(2);
    wire.declare("kept");
    // Half a message is on its way on channel 1 while channel 2 is closed for a mistake.
    wire.write(
        &[publish_method(1, "", "kept"), header_frame(1, 4), raw_frame(FrameType::Body, 1, b"ha")].concat(),
    );
    wire.write(&publish_frames(2, "no-such-exchange", "", b"x"));
    wire.expect(2, MethodId::CHANNEL_CLOSE);
    wire.write(&raw_frame(FrameType::Body, 1, b"lf"));
    wire.await_count("kept", 1);
    wire.close();
    target.assert_works();
}

#[test]
fn a_session_sent_octet_by_octet_is_understood() {
    let mut target = Target::start(&[]);
    let mut wire = Wire::dial(target.port);
    let session = [
        opening(&FieldTable::new()),
        method_frame(1, &Method::ChannelOpen(channel::Open)),
        method_frame(1, &Method::QueueDeclare(declaration("slow"))),
        publish_frames(1, "", "slow", b"octet by octet"),
    ];
    for octet in session.concat() {
        wire.write(&[octet]);
    }
    wire.expect(0, MethodId::CONNECTION_START);
    wire.expect(0, MethodId::CONNECTION_TUNE);
    wire.expect(0, MethodId::CONNECTION_OPEN_OK);
    wire.expect(1, MethodId::CHANNEL_OPEN_OK);
    wire.expect(1, MethodId::QUEUE_DECLARE_OK);
    assert_eq!(wire.get("slow").expect("it came").body, b"octet by octet");
    wire.close();
    target.assert_works();
}
