//! Writes the seed corpus of the fuzz targets: `cargo run -p leveret-codec --example fuzz_corpus`.
//!
//! The samples are valid, so that a fuzzer begins behind the first checks. The files are committed; run this
//! again after a change to what the samples should cover.

use std::fs;
use std::io;
use std::path::Path;

use leveret_codec::frame::{encode_body, encode_content_header, encode_heartbeat, encode_method};
use leveret_codec::method::{basic, connection, exchange, queue};
use leveret_codec::proxy::SIGNATURE;
use leveret_codec::{ContentHeader, FieldTable, FieldTableRef, FieldValue, Method, Properties};

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let tables = [("every_type", every_type()), ("arguments", arguments()), ("empty", FieldTable::new())];
    for (name, table) in &tables {
        let octets = table.encoded();
        save(&corpus, "table", name, &octets)?;
        save_headers(&corpus, name, &octets)?;
    }
    for method in methods() {
        let mut octets = Vec::new();
        method.encode(&mut octets);
        save(&corpus, "method", method.name(), &octets)?;
    }
    for (name, octets) in proxy_headers() {
        save(&corpus, "proxy", name, &octets)?;
    }
    save(&corpus, "frame", "publish", &publish())
}

fn save(corpus: &Path, target: &str, name: &str, octets: &[u8]) -> io::Result<()> {
    let folder = corpus.join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name).with_added_extension("bin"), octets)
}

fn save_headers(corpus: &Path, name: &str, table: &[u8]) -> io::Result<()> {
    let headers = FieldTableRef::parse(table).ok();
    let properties = Properties {
        content_type: Some(b"application/json"),
        content_encoding: Some(b"utf-8"),
        headers,
        delivery_mode: Some(2),
        priority: Some(5),
        correlation_id: Some(b"c-1"),
        reply_to: Some(b"amq.rabbitmq.reply-to"),
        expiration: Some(b"60000"),
        message_id: Some(b"m-1"),
        timestamp: Some(1_700_000_000),
        message_type: Some(b"order"),
        user_id: Some(b"guest"),
        app_id: Some(b"shop"),
        cluster_id: Some(b""),
    };
    let mut octets = Vec::new();
    ContentHeader { class_id: 60, body_size: 5, properties }.encode(&mut octets);
    save(corpus, "content_header", name, &octets)
}

fn every_type() -> FieldTable {
    let table = FieldTable::new()
        .with("t", true)
        .with("b", -1_i8)
        .with("B", 1_u8)
        .with("s", -1_i16)
        .with("u", 1_u16)
        .with("I", -1_i32)
        .with("i", 1_u32)
        .with("l", -1_i64)
        .with("f", 1.5_f32)
        .with("d", 1.5_f64)
        .with("D", FieldValue::Decimal { scale: 2, value: 314 })
        .with("S", "text")
        .with("T", FieldValue::Timestamp(1_700_000_000))
        .with("V", FieldValue::Void)
        .with("x", FieldValue::Bytes(vec![0, 255]));
    let nested = FieldTable::new().with("A", vec![FieldValue::from(1), FieldValue::from(table.clone())]);
    table.with("A", vec![FieldValue::Void, FieldValue::from("in")]).with("F", nested)
}

fn arguments() -> FieldTable {
    FieldTable::new().with("x-message-ttl", 60_000).with("x-queue-type", "classic")
}

fn proxy_headers() -> Vec<(&'static str, Vec<u8>)> {
    let line = b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 5672\r\n".to_vec();
    let unknown = b"PROXY UNKNOWN\r\n".to_vec();
    // PROXY, TCP over IPv4, the addresses and ports, and an extension of one octet.
    let rest = b"\x21\x11\0\x10\xc0\0\x02\x01\xc0\0\x02\x02\xdc\x04\x16\x28\x04\0\x01\0";
    vec![("line", line), ("unknown", unknown), ("binary", [&SIGNATURE[..], rest].concat())]
}

fn publish() -> Vec<u8> {
    let mut out = Vec::new();
    let publish = basic::Publish { exchange: "e", routing_key: "k", mandatory: true, immediate: false };
    encode_method(&mut out, 1, &Method::BasicPublish(publish));
    let header = ContentHeader { class_id: 60, body_size: 5, properties: Properties::default() };
    encode_content_header(&mut out, 1, &header);
    encode_body(&mut out, 1, b"hello", 11);
    encode_heartbeat(&mut out);
    out
}

fn methods() -> Vec<Method<'static>> {
    vec![
        Method::ConnectionStartOk(connection::StartOk {
            client_properties: every_type(),
            mechanism: "PLAIN",
            response: b"\0guest\0guest",
            locale: "en_US",
        }),
        Method::ConnectionTuneOk(connection::TuneOk { channel_max: 2047, frame_max: 131_072, heartbeat: 60 }),
        Method::ConnectionOpen(connection::Open { virtual_host: "/" }),
        Method::ExchangeDeclare(exchange::Declare {
            exchange: "logs",
            exchange_type: "topic",
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            no_wait: false,
            arguments: FieldTable::new(),
        }),
        Method::QueueDeclare(queue::Declare {
            queue: "orders",
            passive: false,
            durable: true,
            exclusive: false,
            auto_delete: false,
            no_wait: false,
            arguments: arguments(),
        }),
        Method::BasicPublish(basic::Publish {
            exchange: "logs",
            routing_key: "a.b.c",
            mandatory: true,
            immediate: false,
        }),
        Method::BasicNack(basic::Nack { delivery_tag: 1, multiple: true, requeue: true }),
    ]
}
