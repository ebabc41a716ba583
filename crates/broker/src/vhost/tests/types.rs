//! Exchange types beyond those of the specification: what each routes, refuses and lets be cached.

use std::collections::HashSet;

use leveret_codec::properties::Properties;
use leveret_codec::table::FieldTableRef;

use super::*;
use crate::message::{Body, MessageBatch, MessageView};
use crate::queue::Got;

fn declare(vhost: &Vhost, exchange_type: &str, arguments: FieldTable) -> Result<(), BrokerError> {
    vhost.declare_exchange(ExchangeDeclaration { arguments, ..exchange("x", exchange_type) })?;
    vhost.delete_exchange("x", false).map(|_| ())
}

/// The one queue that a message reaches.
fn only(vhost: &Vhost, keys: &[&str]) -> String {
    let (mut names, routed) = vhost.reached("x", keys);
    assert!(routed);
    assert_eq!(names.len(), 1, "{names:?}");
    names.remove(0)
}

fn bind_all(vhost: &Vhost, queues: &[&str], key: &str) {
    vhost.add_queues(queues);
    for queue in queues {
        vhost.add_binding("x", &to_queue(queue), key);
    }
}

fn is_cacheable(vhost: &Vhost) -> bool {
    vhost.route("x", &Addressing::new(&["k"], &[])).unwrap().cacheable
}

#[test]
fn arguments_of_exchanges_are_checked() {
    let vhost = vhost();
    let hash = |arguments: FieldTable| declare(&vhost, "x-consistent-hash", arguments);
    assert_eq!(
        text(hash(arguments("hash-header", "h").with("hash-property", "message_id"))),
        "hash-header and hash-property are mutually exclusive"
    );
    assert_eq!(text(hash(arguments("hash-property", "app_id"))), "Unsupported property: app_id");
    assert_eq!(text(hash(arguments("hash-header", 5))), "Invalid argument, 'hash-header' must be a string");
    for property in ["correlation_id", "message_id", "timestamp"] {
        assert_eq!(hash(arguments("hash-property", property)), Ok(()));
    }
    assert_eq!(declare(&vhost, "direct", arguments("hash-header", 5)), Ok(()), "it means nothing there");
    assert!(!vhost.has_exchange("x"));
    assert_eq!(
        text(declare(&vhost, "x-jms-topic", FieldTable::new())),
        "exchange type 'x-jms-topic' is not supported by this version of Leveret"
    );
}

#[test]
fn a_consistent_hash_exchange_gives_each_key_to_one_queue() {
    let vhost = vhost();
    vhost.add_exchange("x", "x-consistent-hash");
    assert_eq!(vhost.reached("x", &["k"]), (vec![], false));
    bind_all(&vhost, &["a", "b", "c"], "1");
    let keys: Vec<_> = (0..100).map(|key| key.to_string()).collect();
    let places: Vec<_> = keys.iter().map(|key| only(&vhost, &[key])).collect();
    assert_eq!(places.iter().collect::<HashSet<_>>().len(), 3);
    for (key, place) in keys.iter().zip(&places) {
        assert_eq!(&only(&vhost, &[key, "cc"]), place, "further keys have no say");
    }
    vhost.drop_queue("b").unwrap();
    for (key, place) in keys.iter().zip(&places).filter(|(_, place)| *place != "b") {
        assert_eq!(&only(&vhost, &[key]), place);
    }
    assert_eq!(
        text(vhost.bind("x", &to_queue("a"), "heavy", &FieldTable::new(), OWNER)),
        "The binding key must be an integer: <<\"heavy\">>"
    );
    assert!(is_cacheable(&vhost));
}

#[test]
fn a_hash_of_what_is_not_the_key_is_not_cacheable() {
    let vhost = vhost();
    let arguments = arguments("hash-property", "message_id");
    vhost.declare_exchange(ExchangeDeclaration { arguments, ..exchange("x", "x-consistent-hash") }).unwrap();
    assert!(!is_cacheable(&vhost));
}

#[test]
fn a_modulus_hash_exchange_gives_each_key_to_one_queue() {
    let vhost = vhost();
    vhost.add_exchange("x", "x-modulus-hash");
    bind_all(&vhost, &["a", "b", "c"], "ignored");
    let place = |key: usize| only(&vhost, &[&key.to_string()]);
    let places: Vec<_> = (0..100).map(place).collect();
    assert_eq!(places.iter().collect::<HashSet<_>>().len(), 3);
    assert_eq!((0..100).map(place).collect::<Vec<_>>(), places);
    // Where they go does not depend on the order in which they were bound.
    vhost.drop_binding("x", &to_queue("a"), "ignored");
    vhost.add_binding("x", &to_queue("a"), "ignored");
    assert_eq!((0..100).map(place).collect::<Vec<_>>(), places);
    assert!(is_cacheable(&vhost));
}

#[test]
fn random_exchanges_give_messages_to_one_queue_at_a_time() {
    for exchange_type in ["x-random", "x-local-random"] {
        let vhost = vhost();
        vhost.add_exchange("x", exchange_type);
        bind_all(&vhost, &["a", "b", "c"], "");
        // The chance that one of three is never met: 3 * (2/3)^300.
        let met: HashSet<_> = (0..300).map(|_| only(&vhost, &["k", "cc"])).collect();
        assert_eq!(met.len(), 3);
        assert!(!is_cacheable(&vhost));
        for queue in ["a", "b"] {
            vhost.drop_binding("x", &to_queue(queue), "");
        }
        assert_eq!(only(&vhost, &["k"]), "c");
        vhost.drop_queue("c").unwrap();
        assert_eq!(vhost.reached("x", &["k"]), (vec![], false));
    }
}

#[test]
fn a_local_random_exchange_takes_queues_with_an_empty_key_alone() {
    let vhost = vhost();
    vhost.add_exchange("x", "x-local-random");
    vhost.add_queues(&["q"]);
    let bind = |target: &BindingTarget, key| vhost.bind("x", target, key, &FieldTable::new(), OWNER);
    assert_eq!(text(bind(&to_queue("q"), "k")), "Non empty binding 'k' key not permitted");
    assert_eq!(text(bind(&to_exchange("amq.fanout"), "")), "Destination not found");
    assert_eq!(vhost.bindings().len(), 0);
}

/// Publishes to `x`.
fn publish(vhost: &Vhost, key: &str, body: &str, properties: &Properties<'_>) {
    let mut names = vec![1, b'x', key.len() as u8];
    names.extend_from_slice(key.as_bytes());
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    let body = Body::Small(body.as_bytes());
    let mut batch = MessageBatch::default();
    batch.push(&MessageView { names: &names, properties: &encoded, body, persistent: false, extras: &[] });
    vhost.publish_own(&batch);
}

/// Routing keys and bodies of what a queue has, which it has no more.
fn drained(vhost: &Vhost, queue: &str) -> Vec<(String, String)> {
    let queue = vhost.queue(queue, OWNER).unwrap();
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let next = || match queue.get(true, |delivery, _| {
        (text(delivery.message.routing_key()), text(&delivery.message.body.to_vec()))
    }) {
        Ok(Got::Message(message)) => Some(message),
        _ => None,
    };
    std::iter::from_fn(next).collect()
}

fn declare_history(vhost: &Vhost, arguments: FieldTable) {
    vhost.declare_exchange(ExchangeDeclaration { arguments, ..exchange("x", "x-recent-history") }).unwrap();
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(key, body)| ((*key).to_owned(), (*body).to_owned())).collect()
}

#[test]
fn what_is_bound_to_a_recent_history_exchange_gets_its_last_messages_in_order() {
    let vhost = vhost();
    declare_history(&vhost, arguments("x-recent-history-length", 3));
    vhost.add_queues(&["a", "b"]);
    for number in 0..5 {
        publish(&vhost, &format!("k{number}"), &number.to_string(), &Properties::default());
    }
    vhost.add_binding("x", &to_queue("a"), "");
    assert_eq!(drained(&vhost, "a"), pairs(&[("k2", "2"), ("k3", "3"), ("k4", "4")]));
    vhost.add_binding("x", &to_queue("a"), "");
    assert_eq!(drained(&vhost, "a"), [], "the binding was there");
    vhost.add_binding("x", &to_queue("a"), "other");
    assert_eq!(drained(&vhost, "a").len(), 3);
    publish(&vhost, "k5", "5", &Properties::default());
    assert_eq!(drained(&vhost, "a"), pairs(&[("k5", "5")]), "once, bound twice");
    vhost.add_exchange("f", "fanout");
    vhost.add_binding("f", &to_queue("b"), "");
    vhost.add_binding("x", &to_exchange("f"), "");
    assert_eq!(drained(&vhost, "b"), pairs(&[("k3", "3"), ("k4", "4"), ("k5", "5")]));
    assert!(!is_cacheable(&vhost));
}

#[test]
fn a_message_that_is_not_to_be_stored_is_routed_and_forgotten() {
    let vhost = vhost();
    declare_history(&vhost, FieldTable::new());
    vhost.add_queues(&["a", "b"]);
    vhost.add_binding("x", &to_queue("a"), "");
    for value in [FieldValue::Boolean(true), FieldValue::Boolean(false), "true".into()] {
        let headers = arguments("x-recent-history-no-store", value.clone()).encoded();
        let headers = FieldTableRef::parse(&headers).ok();
        publish(&vhost, "k", &format!("{value:?}"), &Properties { headers, ..Properties::default() });
    }
    assert_eq!(drained(&vhost, "a").len(), 3);
    vhost.add_binding("x", &to_queue("b"), "");
    let kept: Vec<_> = drained(&vhost, "b").into_iter().map(|(_, body)| body).collect();
    assert_eq!(kept.len(), 2);
    assert!(kept[0].contains("false"), "{kept:?}");
}

#[test]
fn a_history_has_twenty_messages_unless_it_is_told_otherwise_and_gives_their_memory_back() {
    let vhost = vhost();
    declare_history(&vhost, FieldTable::new());
    vhost.add_queues(&["a"]);
    let before = vhost.services.gauge.bytes();
    for number in 0..25 {
        publish(&vhost, "k", &number.to_string(), &Properties::default());
    }
    assert!(vhost.services.gauge.bytes() > before);
    vhost.add_binding("x", &to_queue("a"), "");
    assert_eq!(drained(&vhost, "a").first(), Some(&("k".to_owned(), "5".to_owned())));
    vhost.drop_queue("a").unwrap();
    vhost.delete_exchange("x", false).unwrap();
    assert_eq!(vhost.services.gauge.bytes(), before);
    let values = [FieldValue::from(0), (-1).into(), "5".into(), true.into()];
    for (value, text) in values.into_iter().zip(["0", "-1", "<<\"5\">>", "true"]) {
        let refused = declare(&vhost, "x-recent-history", arguments("x-recent-history-length", value));
        let expected =
            format!("Invalid argument {text}, 'x-recent-history-length' must be a positive integer");
        assert_eq!(refused.unwrap_err().to_string(), expected);
    }
}

#[test]
fn messages_of_a_history_expire_after_their_time_from_the_binding_on() {
    let vhost = vhost();
    declare_history(&vhost, FieldTable::new());
    vhost.add_queues(&["a"]);
    publish(&vhost, "k", "gone", &Properties { expiration: Some(b"0"), ..Properties::default() });
    publish(&vhost, "k", "kept", &Properties { expiration: Some(b"600000"), ..Properties::default() });
    vhost.add_binding("x", &to_queue("a"), "");
    assert_eq!(drained(&vhost, "a"), pairs(&[("k", "kept")]));
}
