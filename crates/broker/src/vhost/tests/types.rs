//! Exchange types beyond those of the specification: what each routes, refuses and lets be cached.

use std::collections::HashSet;

use super::*;

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
