//! Consumers that do not read, read slowly, or vanish: they cost nobody else anything, and lose nothing.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use leveret_codec::method::{Method, MethodId, basic};

use crate::target::{MIB, Target};
use crate::wire::{Wire, consumption, header_frame, method_frame, publish_frames, publish_method, raw_frame};

/// Publishes messages of `size` octets that begin with their number, and waits until they are there.
fn publish_numbered(wire: &mut Wire, queue: &str, numbers: Range<u32>, size: usize) {
    let mut body = vec![b'x'; size];
    for number in numbers {
        body[..4].copy_from_slice(&number.to_be_bytes());
        wire.publish(queue, &body);
    }
    wire.count(queue);
}

fn number(body: &[u8]) -> u32 {
    u32::from_be_bytes(*body.first_chunk().expect("the body begins with a number"))
}

#[test]
fn a_consumer_that_never_reads_costs_nobody_else_anything() {
    const MESSAGES: u32 = 3200;
    const SIZE: usize = 64 * 1024;
    let mut target = Target::start(&["--memory-high-watermark-bytes", "2GiB"]);
    let base = target.rss();
    let mut deaf = Wire::open(target.port);
    deaf.declare("deaf");
    deaf.consume("deaf", true);
    let mut publisher = Wire::open(target.port);
    let port = target.port;
    let filled = AtomicBool::new(false);
    let (peak, slowest) = target.peak_rss(|| {
        std::thread::scope(|scope| {
            let bystander = scope.spawn(|| slowest_round_trip(port, &filled));
            publish_numbered(&mut publisher, "deaf", 0..MESSAGES, SIZE);
            filled.store(true, Ordering::Relaxed);
            bystander.join().expect("the bystander is served")
        })
    });
    let ready = publisher.count("deaf");
    println!("{ready} messages stay, slowest round trip {slowest:?}, {} MiB", (peak - base) / MIB);
    // Some went to the sockets' and the connection's buffers; they hold some MiB at most.
    assert!(ready > MESSAGES - 400, "{ready} messages stay in the queue");
    assert!(slowest < Duration::from_secs(2), "a round trip beside it took {slowest:?}");
    let messages = u64::from(MESSAGES) * SIZE as u64;
    assert!(peak < base + messages + messages / 4 + 32 * MIB, "{} MiB of memory", (peak - base) / MIB);
    // Once it reads, it gets everything, in order.
    for expected in 0..MESSAGES {
        assert_eq!(number(&deaf.delivery().body), expected);
    }
    assert_eq!(publisher.count("deaf"), 0);
    deaf.close();
    target.await_rss(base + 48 * MIB);
}

/// Sends messages to itself until `done`: the longest time one took.
fn slowest_round_trip(port: u16, done: &AtomicBool) -> Duration {
    let mut wire = Wire::open(port);
    wire.declare("bystander");
    wire.consume("bystander", true);
    let mut slowest = Duration::ZERO;
    while !done.load(Ordering::Relaxed) {
        let start = Instant::now();
        wire.publish("bystander", b"ping");
        assert_eq!(wire.delivery().body, b"ping");
        slowest = slowest.max(start.elapsed());
    }
    wire.close();
    slowest
}

#[test]
fn a_consumer_that_reads_in_bursts_loses_nothing_and_keeps_the_order() {
    const MESSAGES: u32 = 40_000;
    const FIRST: u32 = 30_000;
    let mut target = Target::start(&["--outbound-bytes-max", "64KiB"]);
    let mut consumer = Wire::open(target.port);
    consumer.declare("bursts");
    consumer.consume("bursts", false);
    let mut publisher = Wire::open(target.port);
    publish_numbered(&mut publisher, "bursts", 0..FIRST, 600);
    // The consumer is parked by now: sockets and buffers hold far less than there is.
    assert!(publisher.count("bursts") > 0, "everything went out at once");
    for expected in 0..MESSAGES {
        let message = consumer.delivery();
        assert_eq!((number(&message.body), message.delivery_tag), (expected, u64::from(expected) + 1));
        if expected % 1000 == 999 {
            consumer.ack(message.delivery_tag, true);
            // Parked and resumed again and again while more is published.
            let next = FIRST + expected + 1 - 1000;
            if next < MESSAGES {
                publish_numbered(&mut publisher, "bursts", next..next + 1000, 600);
            }
        }
    }
    publisher.await_count("bursts", 0);
    consumer.close();
    target.assert_works();
}

#[test]
fn a_slow_consumer_leaves_the_messages_to_a_fast_one() {
    const MESSAGES: u32 = 40_000;
    let mut target = Target::start(&["--outbound-bytes-max", "64KiB"]);
    let base = target.rss();
    let mut slow = Wire::open(target.port);
    slow.declare("shared");
    slow.consume("shared", true);
    let mut fast = Wire::open(target.port);
    fast.consume("shared", true);
    let mut publisher = Wire::open(target.port);
    let taken = std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut taken = 0;
            let mut last = None;
            loop {
                let body = fast.delivery().body;
                if body == b"end" {
                    return (taken, fast);
                }
                assert!(last < Some(number(&body)), "out of order");
                last = Some(number(&body));
                taken += 1;
            }
        });
        publish_numbered(&mut publisher, "shared", 0..MESSAGES, 1000);
        publisher.await_count("shared", 0);
        // Two, so that the fast one gets one of them even if a last turn is the slow one's.
        publisher.publish("shared", b"end");
        publisher.publish("shared", b"end");
        reader.join().expect("the fast consumer is served").0
    });
    println!("the fast one took {taken} of {MESSAGES}");
    assert!(taken > MESSAGES / 2, "the fast consumer got {taken} of {MESSAGES} messages");
    // What the slow one was sent is still there for it: nothing is lost.
    let mut got = 0;
    while taken + got < MESSAGES {
        if slow.delivery().body != b"end" {
            got += 1;
        }
    }
    drop(slow);
    target.await_rss(base + 48 * MIB);
}

#[test]
fn messages_of_a_consumer_that_vanished_come_back_in_order() {
    const MESSAGES: u32 = 500;
    let mut target = Target::start(&[]);
    let mut publisher = Wire::open(target.port);
    publisher.declare("back");
    publish_numbered(&mut publisher, "back", 0..MESSAGES, 100);
    for how in ["dropped", "reset", "vanished with half a frame"] {
        let mut consumer = Wire::open(target.port);
        consumer.consume("back", false);
        for expected in 0..100 {
            assert_eq!(number(&consumer.delivery().body), expected, "{how}");
        }
        match how {
            "dropped" => drop(consumer),
            "reset" => consumer.reset(),
            _ => {
                consumer.write(
                    &method_frame(1, &Method::BasicAck(basic::Ack { delivery_tag: 1, multiple: true }))[..9],
                );
                drop(consumer);
            }
        }
        publisher.await_count("back", MESSAGES);
    }
    for expected in 0..MESSAGES {
        let message = publisher.get("back").expect("it came back");
        assert_eq!((number(&message.body), message.redelivered), (expected, true));
    }
    assert!(publisher.get("back").is_none());
    target.assert_works();
}

#[test]
fn a_publisher_that_vanishes_in_a_body_leaves_nothing() {
    let mut target = Target::start(&[]);
    let base = target.rss();
    let mut watcher = Wire::open(target.port);
    watcher.declare("half");
    for round in 0..40 {
        let mut publisher = Wire::open(target.port);
        publisher.publish("half", b"whole");
        let mut part = [publish_method(1, "", "half"), header_frame(1, 8 * MIB)].concat();
        for _ in 0..30 {
            part.extend(raw_frame(leveret_codec::FrameType::Body, 1, &[1; 100_000]));
        }
        // The last frame is cut as well.
        part.truncate(part.len() - 50_000);
        publisher.write(&part);
        if round % 2 == 0 {
            publisher.send(
                1,
                &Method::BasicQos(basic::Qos { prefetch_size: 0, prefetch_count: 1, global: false }),
            );
        }
        drop(publisher);
    }
    watcher.await_count("half", 40);
    target.await_rss(base + 32 * MIB);
}

#[test]
fn consumer_tags_can_be_used_again_and_again() {
    const ROUNDS: u32 = 5000;
    let mut target = Target::start(&[]);
    let mut wire = Wire::open(target.port);
    wire.declare("tags");
    let consume = basic::Consume { no_wait: true, ..consumption("tags", false) };
    let consume = method_frame(1, &Method::BasicConsume(consume));
    let cancel = basic::Cancel { consumer_tag: "tags", no_wait: true };
    let cancel = method_frame(1, &Method::BasicCancel(cancel));
    let round = [publish_frames(1, "", "tags", b"x"), consume, cancel].concat();
    let base = target.rss();
    for _ in 0..ROUNDS {
        wire.write(&round);
    }
    // Each consumer was handed what there was, and a cancel keeps it unacked.
    let last = (1..=ROUNDS).map(|_| wire.delivery().delivery_tag).max();
    assert_eq!(last, Some(u64::from(ROUNDS)));
    wire.ack(0, true);
    assert_eq!(wire.count("tags"), 0);
    // A tag in use is another matter.
    wire.consume("tags", true);
    wire.send(1, &Method::BasicConsume(consumption("tags", true)));
    assert!(matches!(wire.end(), crate::wire::End::Close(530, _)));
    target.await_rss(base + 16 * MIB);
}

#[test]
fn delivery_tags_that_were_never_given_close_the_channel() {
    let mut target = Target::start(&[]);
    let mut wire = Wire::open(target.port);
    wire.declare("tag");
    for (delivery_tag, multiple) in [(1, false), (1, true), (0, false), (u64::MAX, false), (u64::MAX, true)] {
        wire.ack(delivery_tag, multiple);
        assert_eq!(wire.channel_closed(), 406, "tag {delivery_tag}, multiple {multiple}");
        wire.open_channel(1);
    }
    wire.publish("tag", b"once");
    wire.send(1, &Method::BasicGet(basic::Get { queue: "tag", no_ack: false }));
    wire.expect(1, MethodId::BASIC_GET_OK);
    wire.next().expect("the header");
    wire.next().expect("the body");
    wire.ack(1, false);
    wire.ack(1, false);
    assert_eq!(wire.channel_closed(), 406, "acked twice");
    wire.close();
    target.assert_works();
}
