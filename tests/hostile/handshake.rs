//! Peers that are not let in: wrong words before connection.open-ok, or none at all.

use std::time::{Duration, Instant};

use leveret_codec::FieldTable;
use leveret_codec::frame::{self, FrameType};
use leveret_codec::method::{Method, connection};

use crate::target::{MIB, Target};
use crate::wire::{End, PATIENCE, Wire, declaration, method_frame, opening, raw_frame};

#[test]
fn wrong_words_before_the_login_get_no_answer() {
    let mut target = Target::start(&[]);
    let header = frame::PROTOCOL_HEADER.to_vec();
    let start_ok = |mechanism, response| {
        let client_properties = FieldTable::new();
        let start_ok = connection::StartOk { client_properties, mechanism, response, locale: "" };
        method_frame(0, &Method::ConnectionStartOk(start_ok))
    };
    let cases = [
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("a version not spoken", b"AMQP\0\x01\0\0".to_vec()),
        ("a frame too large for a stranger", [header.clone(), b"\x01\0\0\0\0\x20\x01".to_vec()].concat()),
        ("4 GiB announced", [header.clone(), b"\x01\0\0\xff\xff\xff\xff".to_vec()].concat()),
        (
            "a method of a channel",
            [header.clone(), method_frame(1, &Method::QueueDeclare(declaration("q")))].concat(),
        ),
        ("a body", [header.clone(), raw_frame(FrameType::Body, 0, b"x")].concat()),
        ("a wrong password", [header.clone(), start_ok("PLAIN", b"\0guest\0wrong")].concat()),
        ("an unknown mechanism", [header.clone(), start_ok("MAGIC", b"please")].concat()),
        (
            "a response of no form",
            [header.clone(), start_ok("AMQPLAIN", b"\x05LOGINS\xff\xff\xff\xff")].concat(),
        ),
        ("an empty response", [header, start_ok("PLAIN", b"")].concat()),
    ];
    for (name, octets) in cases {
        let mut wire = Wire::dial(target.port);
        let peer = wire.address();
        wire.write(&octets);
        wire.shut_down_writing();
        assert_eq!(wire.end(), End::Silent, "{name}");
        let warnings = target.warnings_about(peer);
        assert_eq!(warnings.len(), 1, "{name}: {warnings:?}");
    }
    target.assert_works();
}

#[test]
fn tuning_that_does_not_fit_is_refused() {
    let mut target = Target::start(&[]);
    for (frame_max, channel_max) in [(1, 1), (131_073, 1), (0, 1), (131_072, 2048), (131_072, 0)] {
        let login = opening(&FieldTable::new());
        let tune_ok = connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 60 };
        let right = method_frame(0, &Method::ConnectionTuneOk(tune_ok));
        let wrong = connection::TuneOk { channel_max, frame_max, heartbeat: 0 };
        let wrong = method_frame(0, &Method::ConnectionTuneOk(wrong));
        let at = login.windows(right.len()).position(|part| part == right).expect("the tune-ok is there");
        let mut wire = Wire::dial(target.port);
        wire.write(&[&login[..at], &wrong].concat());
        assert!(matches!(wire.end(), End::Close(530, _)), "frame_max {frame_max}, channel_max {channel_max}");
    }
    target.assert_works();
}

#[test]
fn half_open_handshakes_are_gone_after_their_time_and_cost_little() {
    let mut target = Target::start(&["--handshake-timeout-ms", "1000"]);
    let base = target.rss();
    let port = target.port;
    // A login that never ends, of most of what a stranger may send in one frame.
    let unfinished = [&frame::PROTOCOL_HEADER[..], b"\x01\0\0\0\0\x1f\xf0", &[0; 6000]].concat();
    let stages: [&[u8]; 4] = [b"", b"AMQ", &frame::PROTOCOL_HEADER, &unfinished];
    let (peak, took) = target.peak_rss(|| {
        let start = Instant::now();
        let mut wires: Vec<_> = (0..sockets_wanted(2000))
            .map(|number| {
                let mut wire = Wire::dial(port);
                wire.write(stages[number % stages.len()]);
                wire
            })
            .collect();
        let opened = start.elapsed();
        wires.iter_mut().for_each(|wire| assert_eq!(wire.end(), End::Silent));
        start.elapsed().saturating_sub(opened)
    });
    let each = peak.saturating_sub(base) / sockets_wanted(2000) as u64;
    println!("half-open handshakes: {each} octets of memory each, gone after {took:?}");
    assert!(took < Duration::from_secs(10), "gone after {took:?}");
    assert!(each < 24 * 1024, "{each} octets of memory for each stranger");
    target.await_rss(base + 24 * MIB);
}

/// How many sockets a test may hold: `wanted`, or what the limit of open files leaves.
pub(crate) fn sockets_wanted(wanted: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok()).unwrap_or(1024);
    wanted.min(soft.saturating_sub(200))
}

#[test]
fn a_handshake_that_trickles_in_does_not_outlive_its_time() {
    let mut target = Target::start(&["--handshake-timeout-ms", "1000"]);
    let mut wire = Wire::dial(target.port);
    let peer = wire.address();
    let start = Instant::now();
    let opening = opening(&FieldTable::new());
    // An octet at a time, and too slowly to be through in time: the last one is never sent.
    for octet in opening.iter().take(opening.len() - 1) {
        if wire.try_write(&[*octet]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
        assert!(start.elapsed() < PATIENCE);
    }
    assert_eq!(wire.end(), End::Silent);
    assert_eq!(target.warnings_about(peer).len(), 1);
    target.assert_works();
}

#[test]
fn one_connection_too_many_is_told_the_limit_and_gets_in_once_another_has_left() {
    let target = Target::start(&["--connections-max", "2"]);
    let (first, second) = (Wire::open(target.port), Wire::open(target.port));
    let mut third = Wire::dial(target.port);
    third.write(&opening(&FieldTable::new()));
    let text = "NOT_ALLOWED - connection refused: node connection limit (2) is reached";
    assert_eq!(third.end(), End::Close(530, text.to_owned()));
    first.close();
    let again = Wire::open(target.port);
    again.close();
    second.close();
}
