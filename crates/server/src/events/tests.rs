//! What a client does, as the event exchange tells it.

use std::time::Instant;

use leveret_broker::exchange::BindingTarget;
use leveret_broker::names::ConnectionId;
use leveret_broker::policy::{ApplyTo, Policy, PolicyKind};
use leveret_broker::queue::Got;
use leveret_broker::vhost::QueueDeclaration;
use leveret_broker::{Queue, Vhost};
use leveret_codec::method::{Method, MethodId, basic, channel, queue};
use leveret_codec::table::FieldValue;

use super::*;
use crate::held::{Client, PATIENCE};

/// A queue of another connection that gets every event.
fn gathering(vhost: &Vhost) -> Arc<Queue> {
    let declaration = QueueDeclaration {
        name: "events",
        durable: false,
        exclusive: false,
        auto_delete: false,
        arguments: FieldTable::new(),
    };
    let other = ConnectionId::next();
    let (queue, _) = vhost.declare_queue(declaration, other).unwrap();
    let target = BindingTarget::Queue("events".into());
    vhost.bind(EVENT_EXCHANGE, &target, "#", &FieldTable::new(), other).unwrap();
    queue
}

/// The next event of that name; others are passed over.
async fn next(events: &Queue, name: &str) -> FieldTable {
    let until = Instant::now() + PATIENCE;
    loop {
        let got = events.get(true, |delivery, _| {
            let message = &delivery.message;
            let properties = Properties::decode(message.properties).unwrap();
            assert!(message.persistent && message.body.is_empty() && properties.timestamp.is_some());
            let is_it = message.routing_key() == name.as_bytes();
            is_it.then(|| properties.headers.unwrap().to_owned())
        });
        match got.unwrap() {
            Got::Message(Some(fields)) => return fields,
            Got::Message(None) => {}
            _ => assert!(Instant::now() < until, "{name} comes in time"),
        }
        tokio::task::yield_now().await;
    }
}

/// The same with a field of that value: what the gathering queue itself led to may come first.
async fn next_with(events: &Queue, name: &str, (field, value): (&str, &str)) -> FieldTable {
    loop {
        let fields = next(events, name).await;
        if fields.get(field) == Some(&value.into()) {
            return fields;
        }
    }
}

fn assert_fields(fields: &FieldTable, expected: &[(&str, FieldValue)]) {
    for (key, value) in expected {
        assert_eq!(fields.get(key), Some(value), "{key} of {fields:?}");
    }
    assert!(matches!(fields.get("timestamp_in_ms"), Some(FieldValue::I64(at)) if *at > 0));
}

#[tokio::test]
async fn what_a_client_does_is_told_in_order_with_its_user() {
    let mut client = Client::open_with(&["--event-exchange", "true"]).await;
    client.store.release(u64::MAX);
    let vhost = client.server.broker.vhost("/").unwrap();
    let events = gathering(&vhost);
    client.declare("q").await;
    client.declared().await;
    let consume = |consumer_tag| {
        Method::BasicConsume(basic::Consume {
            queue: "q",
            consumer_tag,
            no_local: false,
            no_ack: false,
            exclusive: true,
            no_wait: false,
            arguments: FieldTable::new().with("x-priority", 2),
        })
    };
    client.send(1, &consume("c")).await;
    client.expect(MethodId::BASIC_CONSUME_OK).await;
    let delete = queue::Delete { queue: "q", if_unused: false, if_empty: false, no_wait: false };
    client.send(1, &Method::QueueDelete(delete)).await;
    client.expect(MethodId::QUEUE_DELETE_OK).await;
    let close = channel::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
    client.send(1, &Method::ChannelClose(close)).await;
    client.expect(MethodId::CHANNEL_CLOSE_OK).await;
    let user = || ("user_who_performed_action", "guest".into());
    let created = next_with(&events, "queue.created", ("name", "q")).await;
    let none = || FieldValue::Array(Vec::new());
    assert_fields(
        &created,
        &[
            ("name", "q".into()),
            ("vhost", "/".into()),
            ("durable", true.into()),
            ("auto_delete", false.into()),
            ("exclusive", false.into()),
            ("owner_pid", "".into()),
            ("arguments", none()),
            user(),
        ],
    );
    let consumer = next(&events, "consumer.created").await;
    assert_fields(
        &consumer,
        &[
            ("consumer_tag", "c".into()),
            ("queue", "q".into()),
            ("ack_required", true.into()),
            ("exclusive", true.into()),
            ("prefetch_count", FieldValue::I64(0)),
            ("arguments", FieldValue::Array(vec!["{<<\"x-priority\">>,signedint,2}".into()])),
            user(),
        ],
    );
    let deleted = next(&events, "queue.deleted").await;
    assert_fields(&deleted, &[("name", "q".into()), ("vhost", "/".into()), user()]);
    let gone = next(&events, "consumer.deleted").await;
    assert_eq!(gone.get("channel"), consumer.get("channel"));
    let closed = next(&events, "channel.closed").await;
    assert_eq!(closed.get("pid"), consumer.get("channel"));
}

#[tokio::test]
async fn alarms_and_exchanges_and_bindings_are_told() {
    let client = Client::open_with(&["--event-exchange", "true"]).await;
    client.store.release(u64::MAX);
    let vhost = client.server.broker.vhost("/").unwrap();
    let events = gathering(&vhost);
    let source = [("source_name", "amq.fanout".into()), ("destination_name", "events".into())];
    let target = BindingTarget::Queue("events".into());
    let arguments = FieldTable::new().with("a", 1);
    vhost.bind("amq.fanout", &target, "k", &arguments, ConnectionId::next()).unwrap();
    vhost.unbind("amq.fanout", &target, "k", &arguments, ConnectionId::next()).unwrap();
    for name in ["binding.created", "binding.deleted"] {
        let fields = next_with(&events, name, ("source_name", "amq.fanout")).await;
        assert_fields(&fields, &source);
        assert_fields(
            &fields,
            &[
                ("destination_kind", "queue".into()),
                ("routing_key", "k".into()),
                ("arguments", FieldValue::Array(vec!["{<<\"a\">>,signedint,1}".into()])),
                ("user_who_performed_action", "rmq-internal".into()),
            ],
        );
    }
    client.server.alarms.set(Reason::Disk, true);
    assert_fields(&next(&events, "alarm.set").await, &[("source", "disk".into())]);
    client.server.alarms.set(Reason::Disk, false);
    assert_fields(&next(&events, "alarm.cleared").await, &[("source", "disk".into())]);
}

#[tokio::test]
async fn policies_are_told_and_those_of_operators_as_parameters_too() {
    let client = Client::open_with(&["--event-exchange", "true"]).await;
    client.store.release(u64::MAX);
    let vhost = client.server.broker.vhost("/").unwrap();
    let events = gathering(&vhost);
    let definition = || FieldTable::new().with("max-length", 5_i64);
    for kind in [PolicyKind::Policy, PolicyKind::Operator] {
        let policy = Policy {
            name: "short".to_owned(),
            pattern: "^x".to_owned(),
            apply_to: ApplyTo::Queues,
            priority: 3,
            definition: definition(),
        };
        vhost.set_policy(kind, policy).unwrap();
        vhost.clear_policy(kind, "short").unwrap();
    }
    let names = [("name", "short".into()), ("vhost", "/".into())];
    let what = [
        ("pattern", "^x".into()),
        ("apply-to", "queues".into()),
        ("priority", FieldValue::I64(3)),
        ("definition", definition().into()),
    ];
    let set = next(&events, "policy.set").await;
    assert_fields(&set, &[&names[..], &what].concat());
    assert_fields(&next(&events, "policy.cleared").await, &names);
    let component = [("component", "operator_policy".into())];
    let value = what.iter().fold(FieldTable::new(), |table, (key, value)| table.with(key, value.clone()));
    let parameter = next(&events, "parameter.set").await;
    assert_fields(&parameter, &[&names[..], &component, &[("value", value.into())]].concat());
    assert_fields(&next(&events, "policy.set").await, &[&names[..], &what].concat());
    assert_fields(&next(&events, "parameter.cleared").await, &[&names[..], &component].concat());
}

#[tokio::test]
async fn logins_and_connections_are_told() {
    let client = Client::open_with(&["--event-exchange", "true"]).await;
    client.store.release(u64::MAX);
    let vhost = client.server.broker.vhost("/").unwrap();
    let events = gathering(&vhost);
    let second = client.open_another().await;
    let login = next(&events, "user.authentication.success").await;
    assert_fields(
        &login,
        &[("name", "guest".into()), ("auth_mechanism", "PLAIN".into()), ("ssl", false.into())],
    );
    let opened = next(&events, "connection.created").await;
    assert_fields(
        &opened,
        &[
            ("user", "guest".into()),
            ("vhost", "/".into()),
            ("frame_max", FieldValue::I64(131_072)),
            ("peer_host", "{127,0,0,1}".into()),
            ("protocol", "{0,9,1}".into()),
        ],
    );
    let channel = next(&events, "channel.created").await;
    assert_fields(&channel, &[("number", FieldValue::I64(1)), ("user", "guest".into())]);
    assert_eq!(channel.get("connection"), opened.get("pid"));
    drop(second);
    let closed = next(&events, "connection.closed").await;
    assert_eq!(closed.get("pid"), opened.get("pid"));
    assert_eq!(closed.get("name"), opened.get("name"));
}

#[test]
fn events_that_wait_are_bounded_by_their_octets_and_the_rest_is_counted() {
    let mut waiting = Waiting::default();
    let of = |octets: usize| WaitingEvent { name: "e", fields: vec![0; octets], at: Timestamp(0) };
    let small = of(0).bytes();
    (0..3).for_each(|_| waiting.add(of(10 << 20)));
    waiting.add(of(10 << 20));
    assert_eq!((waiting.events.len(), waiting.lost), (3, 1));
    waiting.add(of((2 << 20) - 4 * small));
    assert_eq!((waiting.bytes, waiting.lost), (EVENTS_WAITING_BYTES_MAX, 1));
    waiting.add(of(0));
    assert_eq!((waiting.events.len(), waiting.lost), (4, 2));
}

#[tokio::test]
async fn without_the_option_there_is_no_exchange() {
    let client = Client::open().await;
    assert!(client.server.broker.vhost("/").unwrap().find_exchange(EVENT_EXCHANGE).is_err());
}
