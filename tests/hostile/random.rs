//! Octets nobody wrote on purpose: noise at every stage of a connection, and sessions with flipped bits.

use std::time::{SystemTime, UNIX_EPOCH};

use leveret_codec::frame::{self, FrameType};
use leveret_codec::method::{Method, basic, channel, confirm, exchange, queue, tx};
use leveret_codec::{FieldTable, FieldTableRef, FieldValue, Properties};

use crate::target::Target;
use crate::wire::{
    Wire, consumption, declaration, header_frame_with, method_frame, opening, publish_frames, publish_method,
    raw_frame,
};

const NOISE_ROUNDS: usize = 300;
const FLIP_ROUNDS: usize = 400;

/// A small generator that gives the same numbers for the same seed (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    /// Seeded by `LEVERET_TEST_SEED`, or by the clock; the seed is printed.
    pub(crate) fn new(what: &str) -> Self {
        let given = std::env::var("LEVERET_TEST_SEED").ok();
        let seed = given.map_or_else(clock_seed, |seed| seed.parse().expect("LEVERET_TEST_SEED is a number"));
        println!("{what}: seed {seed}");
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn octets(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

fn clock_seed() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_micros() as u64)
}

/// Sends octets on a new socket and waits until the broker has closed it.
fn throw(port: u16, octets: &[u8]) {
    let mut wire = Wire::dial(port);
    // The broker may have closed the socket before it has read all.
    let _ = wire.try_write(octets);
    wire.shut_down_writing();
    wire.end();
}

#[test]
fn noise_ends_in_a_closed_socket() {
    let mut random = Random::new("noise");
    let mut target = Target::start(&["--closing-timeout-ms", "2000"]);
    for round in 0..NOISE_ROUNDS {
        let mut octets = match round % 4 {
            0 => Vec::new(),
            1 => frame::PROTOCOL_HEADER.to_vec(),
            _ => [opening(&FieldTable::new()), method_frame(1, &Method::ChannelOpen(channel::Open))].concat(),
        };
        let size = 1 + random.below(2000);
        if round % 4 == 3 {
            // Whole frames of noise reach the decoders of methods and headers.
            for _ in 0..1 + random.below(4) {
                octets.extend(noisy_frame(&mut random));
            }
        } else {
            octets.extend(random.octets(size));
        }
        throw(target.port, &octets);
    }
    target.assert_works();
}

/// A frame whose envelope is right; more often than not its payload begins with the numbers of a method.
fn noisy_frame(random: &mut Random) -> Vec<u8> {
    let frame_type =
        [FrameType::Method, FrameType::Method, FrameType::Header, FrameType::Body][random.below(4)];
    let channel = random.below(3) as u16;
    let size = random.below(300);
    let mut payload = random.octets(size);
    if random.below(4) > 0 {
        let class = [10_u16, 20, 30, 40, 50, 60, 85, 90][random.below(8)];
        let method = (random.below(12) * 10 + random.below(2)) as u16;
        payload.splice(0..0, [class.to_be_bytes(), method.to_be_bytes()].concat());
    }
    raw_frame(frame_type, channel, &payload)
}

#[test]
fn sessions_with_flipped_bits_end_in_a_closed_socket() {
    let mut random = Random::new("flipped bits");
    let mut target = Target::start(&["--closing-timeout-ms", "2000"]);
    let session = session();
    throw(target.port, &session);
    for _ in 0..FLIP_ROUNDS {
        let mut flipped = session.clone();
        for _ in 0..1 + random.below(6) {
            let at = random.below(flipped.len());
            flipped[at] ^= 1 << random.below(8);
        }
        throw(target.port, &flipped);
    }
    target.assert_works();
}

/// All a client says in a session that uses most of the protocol, in one piece.
fn session() -> Vec<u8> {
    let headers = FieldTable::new()
        .with("text", "value")
        .with("number", FieldValue::I64(-5))
        .with("list", vec![FieldValue::Boolean(true), FieldValue::Void])
        .with("table", FieldTable::new().with("inner", "x"));
    let encoded = headers.encoded();
    let properties = Properties {
        content_type: Some(b"text/plain"),
        headers: FieldTableRef::parse(&encoded).ok(),
        delivery_mode: Some(2),
        expiration: Some(b"60000"),
        message_id: Some(b"id"),
        ..Properties::default()
    };
    let arguments = FieldTable::new().with("x-match", "any").with("text", "value");
    let mut octets = opening(&FieldTable::new().with("connection.blocked", true));
    let methods = |octets: &mut Vec<u8>, methods: &[Method<'_>]| {
        methods.iter().for_each(|method| octets.extend(method_frame(1, method)));
    };
    let declare = exchange::Declare {
        exchange: "flipped",
        exchange_type: "headers",
        passive: false,
        durable: false,
        auto_delete: true,
        internal: false,
        no_wait: false,
        arguments: FieldTable::new(),
    };
    let (queue, exchange) = ("flipped", "flipped");
    let bind = queue::Bind { queue, exchange, routing_key: "key", no_wait: false, arguments };
    methods(
        &mut octets,
        &[
            Method::ChannelOpen(channel::Open),
            Method::ExchangeDeclare(declare),
            Method::QueueDeclare(declaration(queue)),
            Method::QueueBind(bind),
            Method::ConfirmSelect(confirm::Select { no_wait: false }),
            Method::BasicQos(basic::Qos { prefetch_size: 0, prefetch_count: 3, global: false }),
            Method::BasicConsume(consumption(queue, false)),
        ],
    );
    for _ in 0..3 {
        octets.extend(publish_method(1, exchange, "key"));
        octets.extend(header_frame_with(1, 5, &properties));
        octets.extend(raw_frame(FrameType::Body, 1, b"hello"));
        octets.extend(publish_frames(1, "", queue, &[7; 300]));
    }
    octets.extend(method_frame(2, &Method::ChannelOpen(channel::Open)));
    octets.extend(method_frame(2, &Method::TxSelect(tx::Select)));
    octets.extend(publish_frames(2, "", queue, b"in a transaction"));
    octets.extend(method_frame(2, &Method::TxCommit(tx::Commit)));
    methods(
        &mut octets,
        &[
            Method::BasicAck(basic::Ack { delivery_tag: 1, multiple: false }),
            Method::BasicCancel(basic::Cancel { consumer_tag: queue, no_wait: false }),
            Method::BasicGet(basic::Get { queue, no_ack: true }),
            Method::BasicRecover(basic::Recover { requeue: true }),
            Method::QueuePurge(queue::Purge { queue, no_wait: false }),
            Method::ChannelClose(channel::Close {
                reply_code: 200,
                reply_text: "",
                class_id: 0,
                method_id: 0,
            }),
        ],
    );
    octets
}
