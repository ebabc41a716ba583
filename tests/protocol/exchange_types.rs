//! The exchange types of RabbitMQ's plugins. Against RabbitMQ 3.10 these scripts want its plugins
//! rabbitmq_consistent_hash_exchange, rabbitmq_random_exchange, rabbitmq_recent_history_exchange and
//! rabbitmq_sharding enabled.

use leveret_codec::method::{exchange, queue};
use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTable, FieldTableRef, FieldValue};

use crate::refusals::refused;
use crate::say::{bind, exchange_bind, exchange_declare, exchange_delete, publish, purge};
use crate::support::Broker;
use crate::wire::{Peer, unique};

const MESSAGES: u32 = 300;

/// How many messages each queue got, which they have no more.
fn counts(peer: &mut Peer, queues: &[String]) -> Vec<u32> {
    let mut count = |queue: &String| {
        peer.send(1, purge(queue));
        let received = peer.recv();
        match received.method() {
            leveret_codec::method::Method::QueuePurgeOk(purged) => purged.message_count,
            other => panic!("{other:?}"),
        }
    };
    queues.iter().map(&mut count).collect()
}

/// An exchange of this type with three queues, each bound with this key.
fn three(peer: &mut Peer, exchange_type: &str, arguments: FieldTable, key: &str) -> (String, Vec<String>) {
    let name = unique(exchange_type);
    let declare = exchange::Declare { arguments, ..exchange_declare(&name, exchange_type) };
    peer.ask(1, declare, exchange::DeclareOk);
    let queues: Vec<_> = (0..3).map(|_| peer.queue(1)).collect();
    for queue in &queues {
        peer.ask(1, bind(queue, &name, key), queue::BindOk);
    }
    (name, queues)
}

fn is_spread(counts: &[u32]) -> bool {
    counts.iter().sum::<u32>() == MESSAGES && counts.iter().all(|count| *count > MESSAGES / 10)
}

fn is_in_one_place(counts: &[u32]) -> bool {
    counts.iter().filter(|count| **count == MESSAGES).count() == 1 && counts.iter().sum::<u32>() == MESSAGES
}

#[test]
fn a_consistent_hash_exchange_spreads_what_it_hashes_and_nothing_else() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let properties = |number: u32, message_id: &str, send: &mut dyn FnMut(Properties<'_>)| {
        let headers = FieldTable::new().with("h", number as i32).encoded();
        let headers = FieldTableRef::parse(&headers).ok();
        let octets = Some(message_id.as_bytes());
        send(Properties {
            headers,
            message_id: octets,
            correlation_id: octets,
            timestamp: Some(number.into()),
            ..Properties::default()
        });
    };
    let sources = [
        None,
        Some(("hash-header", "h")),
        Some(("hash-property", "message_id")),
        Some(("hash-property", "correlation_id")),
        Some(("hash-property", "timestamp")),
    ];
    for source in sources {
        let arguments =
            source.map_or_else(FieldTable::new, |(argument, value)| FieldTable::new().with(argument, value));
        let (name, queues) = three(&mut peer, "x-consistent-hash", arguments, "1");
        for number in 0..MESSAGES {
            let text = number.to_string();
            let key = if source.is_none() { text.as_str() } else { "same" };
            properties(number, &text, &mut |properties| {
                peer.send_message(1, publish(&name, key), properties, "m");
            });
        }
        let spread = counts(&mut peer, &queues);
        assert!(is_spread(&spread), "{source:?}: {spread:?}");
        for number in 0..MESSAGES {
            let text = number.to_string();
            let key = if source.is_none() { "same" } else { text.as_str() };
            peer.publish(1, &name, key, "m");
        }
        let gathered = counts(&mut peer, &queues);
        assert!(is_in_one_place(&gathered), "{source:?}: {gathered:?}");
        peer.ask(1, exchange_delete(&name), exchange::DeleteOk);
    }
    peer.close();
}

#[test]
fn one_binding_of_a_destination_counts_in_a_consistent_hash_exchange() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let (name, queues) = three(&mut peer, "x-consistent-hash", FieldTable::new(), "1");
    peer.ask(1, bind(&queues[0], &name, "1000"), queue::BindOk);
    for number in 0..MESSAGES {
        peer.publish(1, &name, &number.to_string(), "m");
    }
    let spread = counts(&mut peer, &queues);
    assert!(is_spread(&spread), "{spread:?}");
    peer.ask(1, exchange_delete(&name), exchange::DeleteOk);
    peer.close();
}

#[test]
fn arguments_and_keys_of_a_consistent_hash_exchange_are_checked() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let p = &mut peer;
    let name = unique("hash");
    let declare = |arguments| exchange::Declare { arguments, ..exchange_declare(&name, "x-consistent-hash") };
    let both = FieldTable::new().with("hash-header", "h").with("hash-property", "message_id");
    let text = "PRECONDITION_FAILED - hash-header and hash-property are mutually exclusive";
    refused(p, declare(both), 406, text);
    let other = FieldTable::new().with("hash-property", "app_id");
    refused(p, declare(other), 406, "PRECONDITION_FAILED - Unsupported property: app_id");
    p.ask(1, declare(FieldTable::new()), exchange::DeclareOk);
    let queue = p.queue(1);
    for (key, quoted) in [("heavy", "<<\"heavy\">>"), ("", "<<>>"), ("1.5", "<<\"1.5\">>")] {
        let text = format!("PRECONDITION_FAILED - The binding key must be an integer: {quoted}");
        refused(p, bind(&queue, &name, key), 406, &text);
    }
    for key in ["0", "-1"] {
        let text = "PRECONDITION_FAILED - The binding key must be greater than 0";
        refused(p, bind(&queue, &name, key), 406, text);
    }
    p.ask(1, bind(&queue, &name, "10000"), queue::BindOk);
    if p.either(true, false, "RabbitMQ 3.10 takes any number, and the memory for it") {
        let text = "PRECONDITION_FAILED - The binding key must not be greater than 10000";
        refused(p, bind(&queue, &name, "10001"), 406, text);
    }
    p.ask(1, exchange_delete(&name), exchange::DeleteOk);
    peer.close();
}

#[test]
fn modulus_hash_and_random_exchanges_choose_one_queue() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    for (exchange_type, by_key) in [("x-modulus-hash", true), ("x-random", false)] {
        let (name, queues) = three(&mut peer, exchange_type, FieldTable::new(), "ignored");
        for number in 0..MESSAGES {
            peer.publish(1, &name, &number.to_string(), "m");
        }
        let spread = counts(&mut peer, &queues);
        assert!(is_spread(&spread), "{exchange_type}: {spread:?}");
        for _ in 0..MESSAGES {
            peer.publish(1, &name, "same", "m");
        }
        let again = counts(&mut peer, &queues);
        assert!(
            if by_key { is_in_one_place(&again) } else { is_spread(&again) },
            "{exchange_type}: {again:?}"
        );
        peer.ask(1, exchange_delete(&name), exchange::DeleteOk);
    }
    peer.close();
}

#[test]
fn a_local_random_exchange_takes_queues_with_an_empty_key() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    if peer.either(true, false, "RabbitMQ has the type since 4.0") {
        let (name, queues) = three(&mut peer, "x-local-random", FieldTable::new(), "");
        for _ in 0..MESSAGES {
            peer.publish(1, &name, "any", "m");
        }
        let spread = counts(&mut peer, &queues);
        assert!(is_spread(&spread), "{spread:?}");
        let text = "PRECONDITION_FAILED - Non empty binding 'k' key not permitted";
        refused(&mut peer, bind(&queues[0], &name, "k"), 406, text);
        let text = "PRECONDITION_FAILED - Destination not found";
        refused(&mut peer, exchange_bind("amq.fanout", &name, ""), 406, text);
        peer.ask(1, exchange_delete(&name), exchange::DeleteOk);
    }
    peer.close();
}

#[test]
fn a_recent_history_exchange_gives_what_is_bound_its_last_messages() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let name = unique("history");
    let arguments = FieldTable::new().with("x-recent-history-length", 3);
    let declare = exchange::Declare { arguments, ..exchange_declare(&name, "x-recent-history") };
    peer.ask(1, declare, exchange::DeclareOk);
    for number in 0..5 {
        peer.publish(1, &name, &format!("key-{number}"), &number.to_string());
    }
    let headers = FieldTable::new().with("x-recent-history-no-store", true).encoded();
    let headers = FieldTableRef::parse(&headers).ok();
    peer.send_message(1, publish(&name, "k"), Properties { headers, ..Properties::default() }, "lost");
    let queue = peer.queue(1);
    peer.ask(1, bind(&queue, &name, ""), queue::BindOk);
    for body in ["2", "3", "4"] {
        let message = peer.get(1, &queue, body);
        assert_eq!((&message.routing_key, &message.exchange), (&format!("key-{body}"), &name));
    }
    peer.publish(1, &name, "k", "5");
    peer.get(1, &queue, "5");
    peer.ask(1, bind(&queue, &name, ""), queue::BindOk);
    peer.expect_empty(1, &queue);
    peer.ask(1, exchange_delete(&name), exchange::DeleteOk);
    for (value, text) in [(FieldValue::from(0), "0"), ((-1).into(), "-1"), ("5".into(), "<<\"5\">>")] {
        let arguments = FieldTable::new().with("x-recent-history-length", value);
        let declare = exchange::Declare { arguments, ..exchange_declare(&name, "x-recent-history") };
        let text = format!(
            "PRECONDITION_FAILED - Invalid argument {text}, 'x-recent-history-length' must be a positive integer"
        );
        refused(&mut peer, declare, 406, &text);
    }
    peer.close();
}
