//! Little memory for messages: they go to the disk, and publishers go on.

use leveret_codec::Properties;

use crate::node::{DataDir, Node};
use crate::wire::{Incoming, Wire, durable_queue};

/// Octets of a message.
const SIZE: usize = 100_000;

/// Publishes and waits for the confirm, however often publishers have to wait meanwhile.
fn publish(wire: &mut Wire, delivery_mode: u8) {
    let properties = Properties { delivery_mode: Some(delivery_mode), ..Properties::default() };
    wire.push_octets("", "q", false, &properties, &[b'x'; SIZE]);
    wire.flush().expect("the broker takes it");
    loop {
        match wire.next() {
            Ok(Incoming::Confirm { tag, taken: true, .. }) if tag == wire.published() => return,
            Ok(Incoming::Blocked(reason)) => assert_eq!(reason, "low on memory"),
            Ok(Incoming::Unblocked) => {}
            other => panic!("message {} is not confirmed: {other:?}", wire.published()),
        }
    }
}

#[test]
fn a_high_watermark_below_the_cache_does_not_hold_publishers_up_for_ever() {
    for delivery_mode in [1, 2] {
        let dir = DataDir::new("memory");
        let flags = ["--memory-high-watermark-bytes", "2MiB", "--message-cache-bytes", "1GiB"];
        let mut node = Node::start(dir.path(), &flags);
        let mut wire = Wire::open_confirming(node.port).expect("the broker takes connections");
        wire.declare(durable_queue("q")).expect("a queue");
        (0..100).for_each(|_| publish(&mut wire, delivery_mode));
        wire.close().expect("an orderly end");
        node.end();
    }
}
