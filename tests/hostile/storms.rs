//! Peers by the thousand that come and go at any stage.

use leveret_codec::FieldTable;
use leveret_codec::method::{Method, MethodId, channel, queue};

use crate::random::Random;
use crate::target::{MIB, Target};
use crate::wire::{
    Wire, consumption, declaration, header_frame, method_frame, opening, publish_frames, publish_method,
};

const CONNECTIONS: usize = 2000;

#[test]
fn connections_dropped_at_any_stage_leave_nothing() {
    let mut random = Random::new("storm");
    let mut target = Target::start(&[]);
    let mut watcher = Wire::open(target.port);
    watcher.declare("storm");
    let login = opening(&FieldTable::new());
    let open = method_frame(1, &Method::ChannelOpen(channel::Open));
    let mine = queue::Declare { exclusive: true, ..declaration("") };
    let auto_delete = queue::Declare { auto_delete: true, ..declaration("auto") };
    let stages: [Vec<u8>; 7] = [
        open,
        method_frame(1, &Method::QueueDeclare(mine)),
        method_frame(1, &Method::QueueDeclare(auto_delete)),
        method_frame(1, &Method::BasicConsume(consumption("auto", false))),
        method_frame(1, &Method::BasicConsume(consumption("storm", false))),
        publish_frames(1, "", "auto", b"x"),
        [publish_method(1, "", "storm"), header_frame(1, 100)].concat(),
    ];
    let whole = [login, stages.concat()].concat();
    // What the first hundred allocate for good is no growth.
    let mut base = 0;
    let mut kept = Vec::new();
    for number in 0..CONNECTIONS {
        if number == 100 {
            base = target.rss();
        }
        let mut wire = Wire::dial(target.port);
        let length = random.below(whole.len() + 1);
        // The broker may be gone from this socket already where what it got is nonsense: never here.
        wire.write(&whole[..length]);
        match random.below(4) {
            0 => wire.shut_down_writing(),
            1 if length >= 8 => wire.reset(),
            // Some stay for a while.
            2 => kept.push(wire),
            _ => {}
        }
        if kept.len() > 50 {
            kept.clear();
        }
    }
    drop(kept);
    // The consumers are gone, and with them the queue that lives as long as they.
    watcher.await_count("storm", 0);
    loop {
        let passive = queue::Declare { passive: true, ..declaration("storm") };
        watcher.send(1, &Method::QueueDeclare(passive));
        let declare_ok = watcher.expect(1, MethodId::QUEUE_DECLARE_OK);
        if matches!(declare_ok.method(), Method::QueueDeclareOk(ok) if ok.consumer_count == 0) {
            break;
        }
    }
    watcher.close();
    target.assert_works();
    target.await_rss(base + 24 * MIB);
}

#[test]
fn channels_opened_and_closed_again_and_again_leave_nothing() {
    let mut target = Target::start(&[]);
    let mut wire = Wire::open(target.port);
    let close = channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
    let round: Vec<u8> = (2..102)
        .flat_map(|number| {
            [
                method_frame(number, &Method::ChannelOpen(channel::Open)),
                method_frame(number, &Method::ChannelClose(close)),
            ]
            .concat()
        })
        .collect();
    let mut base = 0;
    for number in 0..100 {
        if number == 10 {
            base = target.rss();
        }
        wire.write(&round);
        for _ in 0..200 {
            let answer = wire.next().expect("an answer");
            assert!(matches!(answer.method(), Method::ChannelOpenOk(_) | Method::ChannelCloseOk(_)));
        }
    }
    wire.close();
    target.await_rss(base + 8 * MIB);
}

#[test]
fn queues_declared_and_deleted_again_and_again_leave_nothing() {
    let mut target = Target::start(&[]);
    let mut wire = Wire::open(target.port);
    let mut base = 0;
    for number in 0..5000 {
        if number == 500 {
            base = target.rss();
        }
        let name = format!("brief-{number}");
        wire.declare(&name);
        wire.publish(&name, b"x");
        wire.delete(&name);
    }
    wire.close();
    target.await_rss(base + 8 * MIB);
}
