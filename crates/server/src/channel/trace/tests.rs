//! What the firehose says of a message on its way through a queue.

use std::time::Instant;

use leveret_broker::Vhost;
use leveret_broker::exchange::BindingTarget;
use leveret_broker::names::ConnectionId;
use leveret_broker::queue::Got;
use leveret_codec::method::{Method, MethodId, basic};

use super::*;
use crate::held::{Client, PATIENCE};

/// A traced vhost whose copies gather in the queue `copies`.
async fn traced() -> Client {
    let mut client = Client::open().await;
    client.store.release(u64::MAX);
    for queue in ["copies", "q"] {
        client.declare(queue).await;
        assert_eq!(client.declared().await, queue);
    }
    let vhost = client.server.broker.vhost("/").unwrap();
    let target = BindingTarget::Queue("copies".into());
    vhost.bind(TRACE_EXCHANGE, &target, "#", &FieldTable::new(), ConnectionId::next()).unwrap();
    vhost.set_tracing(true);
    client
}

/// Key and headers of the next copy.
async fn next_copy(vhost: &Vhost) -> (String, FieldTable) {
    let queue = vhost.queue("copies", ConnectionId::next()).unwrap();
    let until = Instant::now() + PATIENCE;
    loop {
        let got = queue.get(true, |delivery, _| {
            let properties = Properties::decode(delivery.message.properties).unwrap();
            assert!(!delivery.message.persistent && properties.delivery_mode.is_none());
            let key = String::from_utf8_lossy(delivery.message.routing_key()).into_owned();
            (key, properties.headers.unwrap().to_owned())
        });
        match got.unwrap() {
            Got::Message(copy) => return copy,
            _ => assert!(Instant::now() < until, "a copy comes in time"),
        }
        tokio::task::yield_now().await;
    }
}

fn strings(of: &[&str]) -> FieldValue {
    FieldValue::Array(of.iter().map(|text| FieldValue::from(*text)).collect())
}

#[tokio::test]
async fn a_message_leaves_a_copy_when_it_is_published_and_at_each_delivery() {
    let mut client = traced().await;
    let vhost = client.server.broker.vhost("/").unwrap();
    client.publish("q", false).await;
    client.send(1, &Method::BasicGet(basic::Get { queue: "q", no_ack: false })).await;
    client.expect(MethodId::BASIC_GET_OK).await;
    client.send(1, &Method::BasicNack(basic::Nack { delivery_tag: 1, multiple: false, requeue: true })).await;
    client
        .send(
            1,
            &Method::BasicConsume(basic::Consume {
                queue: "q",
                consumer_tag: "c",
                no_local: false,
                no_ack: true,
                exclusive: false,
                no_wait: false,
                arguments: FieldTable::new(),
            }),
        )
        .await;
    client.expect(MethodId::BASIC_CONSUME_OK).await;
    client.expect(MethodId::BASIC_DELIVER).await;
    let (key, headers) = next_copy(&vhost).await;
    assert_eq!(key, "publish.");
    assert_eq!(headers.get("exchange_name"), Some(&"".into()));
    assert_eq!(headers.get("routing_keys"), Some(&strings(&["q"])));
    assert_eq!(headers.get("routed_queues"), Some(&strings(&["q"])));
    assert_eq!(headers.get("properties"), Some(&FieldTable::new().with("delivery_mode", 2).into()));
    assert_eq!(headers.get("vhost"), Some(&"/".into()));
    assert_eq!(headers.get("channel"), Some(&1.into()));
    assert_eq!(headers.get("user"), Some(&"guest".into()));
    assert_eq!(headers.get("node"), Some(&client.server.node.as_str().into()));
    let own = client.stream.local_addr().unwrap();
    let name = format!("{own} -> {}", client.stream.peer_addr().unwrap());
    assert_eq!(headers.get("connection"), Some(&name.into()));
    for redelivered in [0, 1] {
        let (key, headers) = next_copy(&vhost).await;
        assert_eq!(key, "deliver.q");
        assert_eq!(headers.get("redelivered"), Some(&redelivered.into()));
        assert_eq!(headers.get("routing_keys"), Some(&strings(&["q"])));
        assert_eq!(headers.get("routed_queues"), None);
    }
}

#[tokio::test]
async fn copies_are_not_traced_and_nothing_is_when_it_is_off() {
    let mut client = traced().await;
    let vhost = client.server.broker.vhost("/").unwrap();
    client.publish("nowhere", false).await;
    let (key, headers) = next_copy(&vhost).await;
    assert_eq!((key.as_str(), headers.get("routed_queues")), ("publish.", Some(&strings(&[]))));
    client.publish("q", false).await;
    let get = Method::BasicGet(basic::Get { queue: "copies", no_ack: true });
    client.send(1, &get).await;
    client.expect(MethodId::BASIC_GET_OK).await;
    vhost.set_tracing(false);
    client.publish("q", false).await;
    client.send(1, &get).await;
    client.expect(MethodId::BASIC_GET_EMPTY).await;
}

#[test]
fn properties_have_the_names_and_types_of_rabbitmq() {
    let headers = FieldTable::new().with("h", 1).encoded();
    let mut encoded = Vec::new();
    Properties {
        headers: FieldTableRef::parse(&headers).ok(),
        priority: Some(3),
        timestamp: Some(12_345),
        message_type: Some(b"ty"),
        ..Properties::default()
    }
    .encode(&mut encoded);
    let expected = FieldTable::new()
        .with("headers", FieldTable::new().with("h", 1))
        .with("priority", 3)
        .with("timestamp", 12_345)
        .with("type", "ty");
    assert_eq!(properties_table(&encoded), expected);
    assert_eq!(integer(1 << 40), FieldValue::I64(1 << 40));
}
