//! Delayed messages through kills: each one that was confirmed comes at least once, and none before its time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use leveret_codec::method::{Method, MethodId, exchange};
use leveret_codec::table::FieldTableRef;
use leveret_codec::{FieldTable, Properties};

use crate::node::{DataDir, Node};
use crate::random::{Random, seed};
use crate::wire::{Delivery, Incoming, PATIENCE, Wire, binding, durable_exchange, durable_queue};

const EXCHANGE: &str = "delayed";
const QUEUE: &str = "due";

/// Kills.
const ROUNDS: u64 = 6;

/// How much earlier than by the clock of this process the broker's may say that a time has come.
const CLOCKS_APART_MS: u64 = 2;

fn now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970");
    u64::try_from(since_epoch.as_millis()).expect("and not long after")
}

fn declare(wire: &mut Wire) {
    let arguments = FieldTable::new().with("x-delayed-type", "fanout");
    let declare = exchange::Declare { arguments, ..durable_exchange(EXCHANGE, "x-delayed-message") };
    wire.call(&Method::ExchangeDeclare(declare), MethodId::EXCHANGE_DECLARE_OK).expect("an exchange");
    wire.declare(durable_queue(QUEUE)).expect("a queue");
    wire.call(&binding(QUEUE, EXCHANGE, ""), MethodId::QUEUE_BIND_OK).expect("a binding");
}

/// What was published: number and due time.
#[derive(Default)]
struct Published {
    next: u64,
    confirmed: BTreeMap<u64, u64>,
}

impl Published {
    /// Publishes until `until`; what is not confirmed by then may come or not.
    fn publish(&mut self, wire: &mut Wire, random: &mut Random, until: Instant) {
        while Instant::now() < until {
            let first = wire.published() + 1;
            let mut sent = Vec::new();
            for _ in 0..100 {
                // Now and then something that waits through several kills.
                let delay = if random.one_in(10) { random.millis(0, 9_000) } else { random.millis(0, 1_500) };
                let due = now_ms() + u64::try_from(delay.as_millis()).expect("a few seconds");
                sent.push((self.next, due));
                push(wire, self.next, due, random);
                self.next += 1;
            }
            wire.flush().expect("the broker takes it");
            let (all_taken, _) = wire.await_confirms(first..=wire.published()).expect("all are confirmed");
            assert!(all_taken);
            self.confirmed.extend(sent);
        }
    }
}

fn push(wire: &mut Wire, number: u64, due: u64, random: &mut Random) {
    let headers = FieldTable::new().with("x-deliver-at", i64::try_from(due).expect("a time")).encoded();
    let properties = Properties {
        headers: FieldTableRef::parse(&headers).ok(),
        delivery_mode: Some(2),
        ..Properties::default()
    };
    let mut body = [number.to_be_bytes(), due.to_be_bytes()].concat();
    // A few of them are large.
    body.resize(if random.one_in(50) { 20_000 } else { 200 }, 7);
    wire.push_octets(EXCHANGE, "", true, &properties, &body);
}

/// Number and due time of what came.
fn read(delivery: &Delivery) -> (u64, u64) {
    let word = |at: usize| delivery.body.get(at..at + 8).and_then(|octets| octets.first_chunk().copied());
    let word = |at| u64::from_be_bytes(word(at).expect("a body of ours"));
    (word(0), word(8))
}

/// Takes what comes until `is_enough`, and checks that none of it is early.
fn consume(wire: &mut Wire, seen: &mut BTreeSet<u64>, is_enough: impl Fn(&BTreeSet<u64>) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_enough(seen) {
        match wire.next_before(deadline) {
            Ok(Incoming::Delivery(delivery)) => {
                let (number, due) = read(&delivery);
                let now = now_ms();
                assert!(now + CLOCKS_APART_MS >= due, "{number} came {} ms too early", due - now);
                seen.insert(number);
                wire.push_ack(delivery.tag, false);
                wire.flush().expect("the broker takes it");
            }
            other => panic!("after {} messages: {other:?}", seen.len()),
        }
    }
}

#[test]
fn what_was_confirmed_comes_after_its_time_through_kills() {
    let mut random = Random::new(seed("delayed"));
    let data_dir = DataDir::new("delayed");
    // So that buckets leave the memory and the journal within a round.
    let flags = ["--journal-bytes-max", "16MiB", "--message-cache-bytes", "64KiB"];
    let (mut published, mut seen) = (Published::default(), BTreeSet::new());
    for round in 0..ROUNDS {
        let mut node = Node::start(data_dir.path(), &flags);
        let mut wire = Wire::open_confirming(node.port).expect("the broker takes connections");
        if round == 0 {
            declare(&mut wire);
        }
        let until = Instant::now() + random.millis(200, 1_200);
        published.publish(&mut wire, &mut random, until);
        if round % 2 == 1 {
            let mut wire = Wire::open(node.port).expect("the broker takes connections");
            wire.consume(QUEUE, 0).expect("the queue is there");
            let wanted = published.confirmed.len() / 2;
            consume(&mut wire, &mut seen, |seen| seen.len() >= wanted);
        }
        node.kill();
        node.assert_sane_log();
    }
    let node = Node::start(data_dir.path(), &flags);
    let mut wire = Wire::open(node.port).expect("the broker takes connections");
    wire.consume(QUEUE, 0).expect("the queue is there");
    consume(&mut wire, &mut seen, |seen| published.confirmed.keys().all(|number| seen.contains(number)));
    wire.close().expect("an orderly end");
    node.stop();
}
