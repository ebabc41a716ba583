//! What the codec costs per message: the steps of a publish in, a delivery out, an ack in.
//!
//! `cargo bench -p leveret-codec` prints nanoseconds; names read `direction/step`. The messages are those of
//! a load test: short names, 16 octets of body, with and without properties.

#![expect(missing_docs, reason = "the macros of the harness write functions without")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use leveret_codec::frame::{decode_frame, encode_body, encode_content_header, encode_method};
use leveret_codec::method::{basic, queue};
use leveret_codec::{ContentHeader, FieldTable, FieldTableRef, Method, MethodId, Properties};

const PAYLOAD_SIZE_MAX: u32 = 131_072;
const FRAME_MAX: u32 = 131_072;
const VALID: &str = "was encoded above";
const BODY: &[u8] = b"sixteen octets..";

const PUBLISH: basic::Publish<'static> =
    basic::Publish { exchange: "", routing_key: "perf-test", mandatory: false, immediate: false };
const DELIVER: basic::Deliver<'static> = basic::Deliver {
    consumer_tag: "amq.ctag-qwertyuiop",
    delivery_tag: 123_456,
    redelivered: false,
    exchange: "",
    routing_key: "perf-test",
};

fn header(properties: Properties<'_>) -> ContentHeader<'_> {
    ContentHeader { class_id: 60, body_size: BODY.len() as u64, properties }
}

/// What most clients set: a content type and the delivery mode.
fn usual_properties() -> Properties<'static> {
    Properties { content_type: Some(b"text/plain"), delivery_mode: Some(2), ..Properties::default() }
}

fn payload(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    encode(&mut out);
    out
}

fn decode_methods(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    let publish = payload(|out| PUBLISH.encode(out));
    group.bench_function("publish arguments", |b| b.iter(|| basic::Publish::decode(black_box(&publish))));
    let publish = payload(|out| Method::BasicPublish(PUBLISH).encode(out));
    group.bench_function("publish method", |b| b.iter(|| Method::decode(black_box(&publish))));
    group.bench_function("publish by its number", |b| {
        b.iter(|| match MethodId::split(black_box(&publish)).expect(VALID) {
            (MethodId::BASIC_PUBLISH, args) => basic::Publish::decode(args),
            (id, _) => unreachable!("{id} was not encoded"),
        });
    });
    let ack = payload(|out| basic::Ack { delivery_tag: 123_456, multiple: false }.encode(out));
    group.bench_function("ack arguments", |b| b.iter(|| basic::Ack::decode(black_box(&ack))));
    let declare = payload(|out| {
        let arguments = FieldTable::new().with("x-message-ttl", 60_000).with("x-queue-type", "classic");
        queue::Declare {
            queue: "orders",
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            no_wait: false,
            arguments,
        }
        .encode(out);
    });
    group.bench_function("queue.declare arguments", |b| {
        b.iter(|| queue::Declare::decode(black_box(&declare)))
    });
    group.finish();
}

fn decode_headers(c: &mut Criterion) {
    let headers = FieldTable::new().with("x-retries", 3).with("trace", "00-4bf92f3577b34da6a3ce929d0e0e4736");
    let octets = headers.encoded();
    let headers = FieldTableRef::parse(&octets).expect(VALID);
    let cases = [
        ("none", Properties::default()),
        ("usual", usual_properties()),
        ("headers", Properties { headers: Some(headers), ..usual_properties() }),
    ];
    let mut group = c.benchmark_group("decode content header");
    for (name, properties) in cases {
        let octets = payload(|out| header(properties).encode(out));
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            // By reference: a header is 200 octets, and returning it would time a copy nobody makes.
            b.iter(|| {
                black_box(&ContentHeader::decode(black_box(&octets)).expect(VALID));
            });
        });
    }
    group.finish();
}

fn decode_whole_publish(c: &mut Criterion) {
    let octets = payload(|out| {
        encode_method(out, 1, &Method::BasicPublish(PUBLISH));
        encode_content_header(out, 1, &header(Properties::default()));
        encode_body(out, 1, BODY, FRAME_MAX);
    });
    let mut group = c.benchmark_group("decode frames");
    group.bench_function("one", |b| b.iter(|| decode_frame(black_box(&octets), PAYLOAD_SIZE_MAX)));
    group.bench_function("publish, header, body", |b| {
        b.iter(|| {
            let octets = black_box(octets.as_slice());
            let (method, size) = decode_frame(octets, PAYLOAD_SIZE_MAX).expect(VALID).expect(VALID);
            let octets = &octets[size..];
            let (header, size) = decode_frame(octets, PAYLOAD_SIZE_MAX).expect(VALID).expect(VALID);
            let octets = &octets[size..];
            let (body, _) = decode_frame(octets, PAYLOAD_SIZE_MAX).expect(VALID).expect(VALID);
            let publish = Method::decode(method.payload).expect(VALID);
            let header = ContentHeader::decode(header.payload).expect(VALID);
            black_box((&publish, &header, body.payload));
        });
    });
    group.finish();
}

fn encode_delivery(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    let mut out = Vec::with_capacity(4096);
    group.bench_function("deliver method", |b| {
        b.iter(|| {
            out.clear();
            encode_method(&mut out, 1, black_box(&Method::BasicDeliver(DELIVER)));
        });
    });
    group.bench_function("deliver, header, body", |b| {
        b.iter(|| {
            out.clear();
            encode_method(&mut out, 1, black_box(&Method::BasicDeliver(DELIVER)));
            encode_content_header(&mut out, 1, black_box(&header(Properties::default())));
            encode_body(&mut out, 1, black_box(BODY), FRAME_MAX);
        });
    });
    group.finish();
}

criterion_group!(benches, decode_methods, decode_headers, decode_whole_publish, encode_delivery);
criterion_main!(benches);
