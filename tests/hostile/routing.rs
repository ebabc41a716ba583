//! Routes made to be expensive: keys of a hundred words against bindings of wildcards, headers that no
//! comparison can order.

use std::time::{Duration, Instant};

use leveret_codec::method::{Method, MethodId, exchange, queue};
use leveret_codec::{FieldTable, FieldTableRef, FieldValue, Properties};

use crate::target::{MIB, Target};
use crate::wire::{Wire, header_frame_with, publish_frames, publish_method};

fn declare_exchange(wire: &mut Wire, exchange: &str, exchange_type: &str) {
    let declare = exchange::Declare {
        exchange,
        exchange_type,
        passive: false,
        durable: false,
        auto_delete: false,
        internal: false,
        no_wait: false,
        arguments: FieldTable::new(),
    };
    wire.send(1, &Method::ExchangeDeclare(declare));
    wire.expect(1, MethodId::EXCHANGE_DECLARE_OK);
}

fn bind(wire: &mut Wire, queue: &str, exchange: &str, routing_key: &str, arguments: FieldTable) {
    wire.send(1, &Method::QueueBind(queue::Bind { queue, exchange, routing_key, no_wait: false, arguments }));
    wire.expect(1, MethodId::QUEUE_BIND_OK);
}

#[test]
fn many_wildcards_do_not_make_a_route_slow() {
    let mut target = Target::start(&[]);
    let base = target.rss();
    let mut wire = Wire::open(target.port);
    declare_exchange(&mut wire, "wild", "topic");
    wire.declare("wild");
    let patterns = [
        ["#"; 60].join("."),
        ["*"; 60].join("."),
        ["#", "*"].repeat(60).join("."),
        ["*", "#"].repeat(60).join("."),
        ["#", "a"].repeat(60).join("."),
        ["a", "#"].repeat(60).join("."),
        ["#"; 128].join("."),
        format!("{}.never", ["#", "a", "*"].repeat(40).join(".")),
        ".".repeat(255),
        "#".to_owned(),
    ];
    for pattern in &patterns {
        bind(&mut wire, "wild", "wild", pattern, FieldTable::new());
    }
    // Each key is new, so that no cache of routes helps.
    let start = Instant::now();
    for number in 0..100 {
        let key = format!("{}.{}", ["a"; 119].join("."), number % 10);
        wire.write(&publish_frames(1, "wild", &key, b"x"));
    }
    for key in ["", ".", &".".repeat(255), &["a"; 120].join("."), &["#"; 120].join("."), "#.*.#"] {
        wire.write(&publish_frames(1, "wild", key, b"x"));
    }
    // `#` alone matches all of them; a queue gets each once.
    assert_eq!(wire.count("wild"), 106);
    let took = start.elapsed();
    println!("106 keys of up to 120 words against {} patterns: {took:?}", patterns.len());
    // A tenth of a second for each would be slow, and a build without optimizations on a busy machine.
    assert!(took < 106 * Duration::from_millis(100), "{took:?}");
    for pattern in &patterns {
        let unbind = queue::Unbind {
            queue: "wild",
            exchange: "wild",
            routing_key: pattern,
            arguments: FieldTable::new(),
        };
        wire.send(1, &Method::QueueUnbind(unbind));
        wire.expect(1, MethodId::QUEUE_UNBIND_OK);
    }
    wire.write(&publish_frames(1, "wild", &["a"; 120].join("."), b"x"));
    assert_eq!(wire.count("wild"), 106);
    wire.close();
    target.await_rss(base + 16 * MIB);
}

#[test]
fn a_thousand_patterns_that_all_match_are_looked_at_once() {
    let mut target = Target::start(&[]);
    let mut wire = Wire::open(target.port);
    declare_exchange(&mut wire, "dense", "topic");
    wire.declare("dense");
    // Every way to put `*` or `#` or the word in ten places.
    for number in 0..1024_u32 {
        let words = (0..10).map(|place| if number >> place & 1 == 0 { "#" } else { "*" });
        let pattern = words.collect::<Vec<_>>().join(".");
        bind(&mut wire, "dense", "dense", &pattern, FieldTable::new());
    }
    let start = Instant::now();
    for number in 0..8 {
        let key = format!("{}.{number}", ["w"; 100].join("."));
        wire.write(&publish_frames(1, "dense", &key, b"x"));
    }
    assert_eq!(wire.count("dense"), 8);
    let took = start.elapsed();
    println!("8 keys of 101 words against 1024 patterns: {took:?}");
    assert!(took < 8 * Duration::from_secs(1), "{took:?}");
    wire.close();
    target.assert_works();
}

/// A message with these headers.
fn with_headers(exchange: &str, headers: &FieldTable) -> Vec<u8> {
    let encoded = headers.encoded();
    let properties = Properties { headers: FieldTableRef::parse(&encoded).ok(), ..Properties::default() };
    [publish_method(1, exchange, ""), header_frame_with(1, 0, &properties)].concat()
}

#[test]
fn a_number_that_is_none_matches_nothing_and_can_be_unbound() {
    let mut target = Target::start(&[]);
    let mut wire = Wire::open(target.port);
    declare_exchange(&mut wire, "nan", "headers");
    wire.declare("nan");
    let nan = |value: FieldValue| FieldTable::new().with("n", value);
    for value in [FieldValue::F64(f64::NAN), FieldValue::F32(f32::NAN), FieldValue::F64(-f64::NAN)] {
        bind(&mut wire, "nan", "nan", "", nan(value.clone()));
        bind(&mut wire, "nan", "nan", "", nan(value));
    }
    wire.write(&with_headers("nan", &nan(FieldValue::F64(f64::NAN))));
    wire.write(&with_headers("nan", &nan(FieldValue::F32(f32::NAN))));
    wire.write(&with_headers("nan", &nan(FieldValue::F64(1.0))));
    wire.write(&with_headers("nan", &FieldTable::new()));
    assert_eq!(wire.count("nan"), 0);
    // Presence alone is asked for.
    bind(&mut wire, "nan", "nan", "", nan(FieldValue::Void));
    wire.write(&with_headers("nan", &nan(FieldValue::F64(f64::NAN))));
    assert_eq!(wire.count("nan"), 1);
    // What was bound with the same octets is found again: a queue declared twice, bindings taken back.
    let unbind = queue::Unbind {
        queue: "nan",
        exchange: "nan",
        routing_key: "",
        arguments: nan(FieldValue::F64(f64::NAN)),
    };
    wire.send(1, &Method::QueueUnbind(unbind));
    wire.expect(1, MethodId::QUEUE_UNBIND_OK);
    wire.close();
    target.assert_works();
}

#[test]
fn as_many_headers_as_a_frame_holds_do_not_hold_up_others() {
    let mut target = Target::start(&[]);
    let mut wire = Wire::open(target.port);
    declare_exchange(&mut wire, "many", "headers");
    wire.declare("many");
    // Some 10 octets each: nearly all of a frame in the message, and as many as there may be in the binding.
    let fields = |from: u32, count: u32| -> FieldTable {
        (from..from + count)
            .fold(FieldTable::new(), |table, number| table.with(&format!("{number:06}"), FieldValue::I8(1)))
    };
    let any = fields(500_000, 1023).with("x-match", "any");
    bind(&mut wire, "many", "many", "", any);
    // None of the names in the message is one of the binding.
    let message = with_headers("many", &fields(0, 10_000));
    let start = Instant::now();
    wire.write(&message);
    let mut other = Wire::open(target.port);
    other.declare("other");
    let others = start.elapsed();
    assert_eq!(wire.count("many"), 0);
    let took = start.elapsed();
    println!("10000 headers against a binding of 1023: {took:?}; another connection waited {others:?}");
    assert!(others < Duration::from_secs(2), "another connection waited {others:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    target.assert_works();
}
