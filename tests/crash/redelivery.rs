//! What a client has seen comes back marked as redelivered, what none has seen does not, wherever a restart finds it:
//! in a block with gaps, in the journal, or half here and half there.

use crate::message::{Content, Key};
use crate::node::{DataDir, Node};
use crate::wire::{Delivery, Incoming, Wire, durable_queue};

const QUEUE: &str = "q";

fn publish(node: &Node, sequences: std::ops::Range<u32>) {
    let mut wire = Wire::open_confirming(node.port).expect("the broker takes connections");
    for sequence in sequences {
        let content = Content { key: Key { publisher: 1, sequence }, size: 100, persistent: true };
        wire.push_message("", QUEUE, &content);
    }
    wire.flush().expect("the broker takes it");
    let (all_taken, _) = wire.await_confirms(1..=wire.published()).expect("all are confirmed");
    assert!(all_taken);
    wire.close().expect("an orderly end");
}

/// A consumer, and the first `count` messages it gets.
fn consume(node: &Node, prefetch: u16, count: usize) -> (Wire, Vec<Delivery>) {
    let mut wire = Wire::open_confirming(node.port).expect("the broker takes connections");
    wire.consume(QUEUE, prefetch).expect("the queue is there");
    let mut deliveries = Vec::new();
    while deliveries.len() < count {
        match wire.next() {
            Ok(Incoming::Delivery(delivery)) => deliveries.push(delivery),
            other => panic!("after {} of {count} messages: {other:?}", deliveries.len()),
        }
    }
    (wire, deliveries)
}

fn sequence(delivery: &Delivery) -> u32 {
    Content::read(delivery).unwrap_or_else(|text| panic!("{text}")).key.sequence
}

/// Starts a broker whose queue has a block of 100 messages, of which three in the middle are settled, and three more
/// messages in the journal. Nobody has seen those after the sixtieth.
fn start_with_gaps(data_dir: &DataDir) -> Node {
    let node = Node::start(data_dir.path(), &[]);
    node.connect().declare(durable_queue(QUEUE)).expect("a queue");
    publish(&node, 0..100);
    // An orderly end writes what is in memory into a block.
    node.stop();
    let mut node = Node::start(data_dir.path(), &[]);
    let (mut wire, deliveries) = consume(&node, 60, 60);
    for delivery in &deliveries[50..53] {
        wire.push_ack(delivery.tag, false);
    }
    // The orderly end of the connection comes after the acks; what is confirmed after it makes them safe.
    wire.close().expect("an orderly end");
    publish(&node, 100..103);
    node.kill();
    Node::start(data_dir.path(), &[])
}

#[test]
fn what_was_seen_comes_back_marked_also_behind_a_block_with_gaps() {
    let data_dir = DataDir::new("redelivery");
    let mut node = start_with_gaps(&data_dir);
    // As many behind the block as are missing in it: counting those too would deliver all in one turn.
    let (_held, deliveries) = consume(&node, 0, 100);
    let expected: Vec<u32> = (0..103).filter(|sequence| !(50..53).contains(sequence)).collect();
    assert_eq!(deliveries.iter().map(sequence).collect::<Vec<_>>(), expected);
    node.kill();
    let mut node = Node::start(data_dir.path(), &[]);
    let (_held, deliveries) = consume(&node, 0, 100);
    let unmarked: Vec<u32> =
        deliveries.iter().filter(|delivery| !delivery.redelivered).map(sequence).collect();
    assert_eq!(unmarked, [0_u32; 0], "seen before the kill");
    node.kill();
}

#[test]
fn what_nobody_saw_comes_without_a_mark() {
    let data_dir = DataDir::new("unseen");
    let node = start_with_gaps(&data_dir);
    let (held, deliveries) = consume(&node, 0, 100);
    for delivery in &deliveries {
        let sequence = sequence(delivery);
        // With a prefetch of 60 and three acks up to 63 were on their way.
        if sequence < 60 {
            assert!(delivery.redelivered, "{sequence}");
        } else if sequence >= 100 {
            assert!(!delivery.redelivered, "{sequence}");
        }
    }
    held.close().expect("an orderly end");
    node.stop();
}
