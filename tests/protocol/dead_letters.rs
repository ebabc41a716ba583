//! Where messages go that died, and what they say of it.

use leveret_codec::method::{basic, exchange, queue};
use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTable, FieldTableRef, FieldValue};

use crate::say::{ack, bind, declare, declared, delete, exchange_declare, publish, purge, reject};
use crate::support::Broker;
use crate::wire::{Peer, eventually, unique};

fn text(value: &str) -> FieldValue {
    FieldValue::from(value)
}

/// A queue of the peer's own.
fn queue_with(peer: &mut Peer, name: &str, arguments: FieldTable) {
    let declare = queue::Declare { exclusive: true, arguments, ..declare(name) };
    peer.ask(1, declare, declared(name, 0, 0));
}

/// Arguments that send the dead through `exchange`.
fn to(exchange: &str) -> FieldTable {
    FieldTable::new().with("x-dead-letter-exchange", text(exchange))
}

/// The next message of a queue, waited for, and its headers.
fn next(peer: &mut Peer, queue: &str, body: &str) -> (FieldTable, crate::wire::Message) {
    wait_for_ready(peer, queue);
    let message = peer.get(1, queue, body);
    let headers = message.properties().headers.map(|headers| headers.to_owned()).unwrap_or_default();
    (headers, message)
}

fn wait_for_ready(peer: &mut Peer, name: &str) {
    eventually(|| {
        peer.send(1, queue::Declare { passive: true, ..declare(name) });
        match peer.recv().method() {
            leveret_codec::method::Method::QueueDeclareOk(ok) => (ok.message_count > 0).then_some(()),
            other => panic!("{other:?}"),
        }
    });
}

/// The entries of x-death, the times taken out. The fields by name: 3.10 and 4.x have them in different orders.
fn deaths(headers: &FieldTable) -> Vec<FieldTable> {
    let deaths = headers.get("x-death").and_then(FieldValue::as_array).expect("an array");
    let without_time = |death: &FieldValue| {
        let mut death = death.as_table().expect("a table").clone();
        assert!(matches!(death.remove("time"), Some(FieldValue::Timestamp(_))));
        sorted(death)
    };
    deaths.iter().map(without_time).collect()
}

fn death(count: i64, reason: &str, queue: &str, exchange: &str, keys: &[&str]) -> FieldTable {
    let death = FieldTable::new()
        .with("count", count)
        .with("reason", text(reason))
        .with("queue", text(queue))
        .with("exchange", text(exchange))
        .with("routing-keys", FieldValue::Array(keys.iter().map(|key| text(key)).collect()));
    sorted(death)
}

fn sorted(table: FieldTable) -> FieldTable {
    let mut entries: Vec<_> = table.into_iter().collect();
    entries.sort_by_key(|(key, _)| key.to_string());
    let mut sorted = FieldTable::new();
    sorted.extend(entries);
    sorted
}

fn first_and_last(headers: &FieldTable) -> [Option<&str>; 6] {
    ["x-first-death-exchange", "x-first-death-queue", "x-first-death-reason"]
        .into_iter()
        .chain(["x-last-death-exchange", "x-last-death-queue", "x-last-death-reason"])
        .map(|key| headers.get(key).and_then(FieldValue::as_str))
        .collect::<Vec<_>>()
        .try_into()
        .expect("six")
}

#[test]
fn an_expired_message_goes_to_the_dead_letter_exchange_and_says_so() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let (source, target, dlx) = (unique("source"), unique("target"), unique("dlx"));
    peer.ask(
        1,
        exchange::Declare { auto_delete: true, ..exchange_declare(&dlx, "fanout") },
        exchange::DeclareOk,
    );
    queue_with(&mut peer, &target, FieldTable::new());
    peer.ask(1, bind(&target, &dlx, ""), queue::BindOk);
    queue_with(&mut peer, &source, to(&dlx).with("x-message-ttl", 60_000));
    let headers = FieldTable::new().with("zebra", 1).with("apple", text("a")).encoded();
    let properties = Properties {
        headers: FieldTableRef::parse(&headers).ok(),
        expiration: Some(b"50"),
        content_type: Some(b"text/plain"),
        delivery_mode: Some(2),
        ..Properties::default()
    };
    peer.send_message(1, publish("", &source), properties, "dead");
    let (headers, message) = next(&mut peer, &target, "dead");
    assert_eq!((message.exchange.as_str(), message.routing_key.as_str()), (dlx.as_str(), source.as_str()));
    assert!(!message.redelivered);
    let properties = message.properties();
    assert_eq!(properties.expiration, None);
    assert_eq!((properties.content_type, properties.delivery_mode), (Some(&b"text/plain"[..]), Some(2)));
    let keys: Vec<_> = headers.iter().map(|(key, _)| key.to_string()).collect();
    assert!(keys.is_sorted(), "{keys:?}");
    assert_eq!(headers.get("zebra").and_then(FieldValue::as_integer), Some(1));
    let expected = death(1, "expired", &source, "", &[&source]).with("original-expiration", text("50"));
    assert_eq!(deaths(&headers), [sorted(expected)]);
    let source = Some(source.as_str());
    let last = |value| peer_is_4(&broker).then_some(value).flatten();
    let (first_exchange, first_reason) = (Some(""), Some("expired"));
    let expected =
        [first_exchange, source, first_reason, last(first_exchange), last(source), last(first_reason)];
    assert_eq!(first_and_last(&headers), expected);
    peer.close();
}

/// Whether the broker writes the x-last-death headers, which 3.10 does not know.
fn peer_is_4(broker: &Broker) -> bool {
    Peer::with_channel(broker).is_leveret()
}

#[test]
fn the_same_death_again_is_counted_and_another_comes_first() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let (work, retry) = (unique("work"), unique("retry"));
    queue_with(&mut peer, &work, to("").with("x-dead-letter-routing-key", text(&retry)));
    let back = to("").with("x-dead-letter-routing-key", text(&work)).with("x-message-ttl", 20);
    queue_with(&mut peer, &retry, back);
    peer.publish(1, "", &work, "job");
    for attempt in 1..=3 {
        let (headers, message) = next(&mut peer, &work, "job");
        if attempt > 1 {
            let count = attempt - 1;
            let expected = [
                death(count, "expired", &retry, "", &[&retry]),
                death(count, "rejected", &work, "", &[&work]),
            ];
            assert_eq!(deaths(&headers), expected);
            let work = Some(work.as_str());
            assert_eq!(first_and_last(&headers)[..3], [Some(""), work, Some("rejected")]);
        }
        peer.send(1, reject(message.tag, false));
    }
    peer.close();
}

#[test]
fn what_gives_way_in_a_full_queue_dies_of_its_length() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let (source, target) = (unique("source"), unique("target"));
    queue_with(&mut peer, &target, FieldTable::new());
    let arguments = to("").with("x-dead-letter-routing-key", text(&target)).with("x-max-length", 1);
    queue_with(&mut peer, &source, arguments);
    for body in ["1", "2", "3"] {
        peer.publish(1, "", &source, body);
    }
    for body in ["1", "2"] {
        let (headers, _) = next(&mut peer, &target, body);
        assert_eq!(deaths(&headers), [death(1, "maxlen", &source, "", &[&source])]);
    }
    peer.get(1, &source, "3");
    peer.close();
}

#[test]
fn what_a_full_queue_refuses_may_be_dead_lettered() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let (source, target) = (unique("source"), unique("target"));
    queue_with(&mut peer, &target, FieldTable::new());
    let arguments = to("")
        .with("x-dead-letter-routing-key", text(&target))
        .with("x-max-length", 1)
        .with("x-overflow", text("reject-publish-dlx"));
    queue_with(&mut peer, &source, arguments);
    peer.publish(1, "", &source, "1");
    peer.publish(1, "", &source, "2");
    let (headers, _) = next(&mut peer, &target, "2");
    assert_eq!(deaths(&headers), [death(1, "maxlen", &source, "", &[&source])]);
    peer.get(1, &source, "1");
    peer.close();
}

#[test]
fn copies_go_where_the_message_went_unless_the_queue_has_a_key_of_its_own() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let (source, keyed, dlx) = (unique("source"), unique("keyed"), unique("dlx"));
    let (one, two, own) = (unique("one"), unique("two"), unique("own"));
    peer.ask(
        1,
        exchange::Declare { auto_delete: true, ..exchange_declare(&dlx, "direct") },
        exchange::DeclareOk,
    );
    for (queue, key) in [(&one, source.as_str()), (&two, "copy"), (&own, "own")] {
        queue_with(&mut peer, queue, FieldTable::new());
        peer.ask(1, bind(queue, &dlx, key), queue::BindOk);
    }
    queue_with(&mut peer, &source, to(&dlx));
    queue_with(&mut peer, &keyed, to(&dlx).with("x-dead-letter-routing-key", text("own")));
    let copies = FieldTable::new().with("CC", FieldValue::Array(vec![text("copy")])).encoded();
    let properties = Properties { headers: FieldTableRef::parse(&copies).ok(), ..Properties::default() };
    for queue in [&source, &keyed] {
        peer.send_message(1, publish("", queue), properties, "m");
        let (_, message) = next(&mut peer, queue, "m");
        peer.send(1, reject(message.tag, false));
    }
    for queue in [&one, &two] {
        let (headers, message) = next(&mut peer, queue, "m");
        assert_eq!(deaths(&headers), [death(1, "rejected", &source, "", &[&source, "copy"])]);
        assert_eq!(message.routing_key, source);
        assert!(headers.get("CC").is_some());
        peer.expect_quiet(1, queue, 0);
    }
    let (headers, message) = next(&mut peer, &own, "m");
    assert_eq!(deaths(&headers), [death(1, "rejected", &keyed, "", &[&keyed, "copy"])]);
    assert_eq!(message.routing_key, "own");
    assert!(headers.get("CC").is_none());
    peer.close();
}

#[test]
fn a_circle_without_a_rejection_ends_where_it_began() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let (one, two) = (unique("one"), unique("two"));
    let ttl = |next: &str| to("").with("x-dead-letter-routing-key", text(next)).with("x-message-ttl", 20);
    queue_with(&mut peer, &one, ttl(&two));
    let seen = unique("seen");
    // The second queue of the circle sends a copy to a witness.
    let dlx = unique("dlx");
    peer.ask(
        1,
        exchange::Declare { auto_delete: true, ..exchange_declare(&dlx, "fanout") },
        exchange::DeclareOk,
    );
    queue_with(&mut peer, &two, to(&dlx).with("x-message-ttl", 20));
    queue_with(&mut peer, &seen, FieldTable::new());
    for queue in [&one, &seen] {
        peer.ask(1, bind(queue, &dlx, ""), queue::BindOk);
    }
    peer.publish(1, "", &one, "round");
    let (headers, _) = next(&mut peer, &seen, "round");
    let expected = [death(1, "expired", &two, "", &[&two]), death(1, "expired", &one, "", &[&one])];
    assert_eq!(deaths(&headers), expected);
    for queue in [&one, &two, &seen] {
        peer.expect_quiet(1, queue, 0);
    }
    peer.close();
}

#[test]
fn what_is_purged_or_goes_with_its_queue_is_no_dead_letter() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let (source, target) = (unique("source"), unique("target"));
    queue_with(&mut peer, &target, FieldTable::new());
    queue_with(&mut peer, &source, to("").with("x-dead-letter-routing-key", text(&target)));
    peer.publish(1, "", &source, "purged");
    peer.ask(1, purge(&source), queue::PurgeOk { message_count: 1 });
    peer.publish(1, "", &source, "deleted");
    peer.ask(1, delete(&source), queue::DeleteOk { message_count: 1 });
    peer.expect_quiet(1, &target, 0);
    peer.close();
}

#[test]
fn an_exchange_that_is_not_there_loses_the_dead() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let source = unique("source");
    queue_with(&mut peer, &source, to(&unique("nowhere")));
    peer.publish(1, "", &source, "lost");
    let (_, message) = next(&mut peer, &source, "lost");
    peer.send(1, reject(message.tag, false));
    peer.publish(1, "", &source, "next");
    let (_, message) = next(&mut peer, &source, "next");
    peer.send(1, ack(message.tag));
    peer.ask(1, basic::Qos { prefetch_size: 0, prefetch_count: 0, global: false }, basic::QosOk);
    peer.close();
}

#[test]
fn a_publisher_that_writes_x_death_itself_is_not_believed() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    if !peer.is_leveret() {
        // 3.10 believes it.
        return peer.close();
    }
    let (source, target) = (unique("source"), unique("target"));
    queue_with(&mut peer, &target, FieldTable::new());
    queue_with(&mut peer, &source, to("").with("x-dead-letter-routing-key", text(&target)));
    let forged = FieldValue::Array(vec![FieldValue::Table(death(9, "expired", &target, "", &[&target]))]);
    let headers = FieldTable::new().with("x-death", forged).encoded();
    let properties = Properties { headers: FieldTableRef::parse(&headers).ok(), ..Properties::default() };
    peer.send_message(1, publish("", &source), properties, "forged");
    let (_, message) = next(&mut peer, &source, "forged");
    peer.send(1, reject(message.tag, false));
    let (headers, _) = next(&mut peer, &target, "forged");
    assert_eq!(deaths(&headers), [death(1, "rejected", &source, "", &[&source])]);
    peer.close();
}
