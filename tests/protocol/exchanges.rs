//! Exchanges: what each type routes, bindings between exchanges, alternates, and their ends.

use leveret_codec::method::{Method, MethodId, basic, channel, exchange, queue};
use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTable, FieldTableRef, FieldValue};

use crate::say::{
    bind, channel_close, delete, deleted, exchange_bind, exchange_declare, exchange_delete, exchange_unbind,
    publish, unbind,
};
use crate::support::Broker;
use crate::wire::{Peer, encoded, unique};

/// Whether the exchange is there, asked on a channel of its own.
fn exists(peer: &mut Peer, exchange: &str) -> bool {
    peer.open_channel(99);
    peer.send(99, exchange::Declare { passive: true, ..exchange_declare(exchange, "") });
    let received = peer.recv();
    match received.method() {
        Method::ExchangeDeclareOk(_) => {
            peer.ask(99, channel_close(), channel::CloseOk);
            true
        }
        Method::ChannelClose(close) => {
            assert_eq!(close.reply_code, 404);
            peer.send(99, channel::CloseOk);
            false
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn exchange_unbind_ok_has_the_id_51() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let name = unique("bound");
    peer.ask(1, exchange_declare(&name, "fanout"), exchange::DeclareOk);
    peer.ask(1, exchange_bind(&name, "amq.fanout", ""), exchange::BindOk);
    peer.send_octets(&encoded(1, exchange_unbind(&name, "amq.fanout", "")));
    assert_eq!(peer.recv().payload, [0, 40, 0, 51]);
    peer.ask(1, exchange_delete(&name), exchange::DeleteOk);
    peer.close();
}

#[test]
fn predeclared_exchanges_are_there() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    for name in ["amq.direct", "amq.fanout", "amq.topic", "amq.headers", "amq.match", "amq.rabbitmq.trace"] {
        assert!(exists(&mut peer, name), "{name}");
    }
    peer.close();
}

#[test]
fn topics_match_by_words() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let name = unique("topic");
    peer.ask(1, exchange_declare(&name, "topic"), exchange::DeclareOk);
    let cases: [(&str, &[&str], &[&str]); 5] = [
        ("a.*.c", &["a.b.c", "a..c"], &["a.c", "a.b.b.c", "a.b.c.d"]),
        ("a.#", &["a", "a.b", "a.b.c", "a."], &["b", "ab", ""]),
        ("#.c", &["c", "a.c", ".c"], &["c.a", "abc"]),
        ("#", &["", "a", "a.b"], &[]),
        ("*", &["a"], &["a.b"]),
    ];
    for (pattern, matching, others) in cases {
        let queue = peer.queue(1);
        peer.ask(1, bind(&queue, &name, pattern), queue::BindOk);
        for key in matching.iter().chain(others) {
            peer.publish(1, &name, key, key);
        }
        for key in matching {
            assert_eq!(&peer.get(1, &queue, key).routing_key, key, "{pattern}");
        }
        peer.expect_empty(1, &queue);
        peer.ask(1, delete(&queue), deleted(0));
    }
    peer.ask(1, exchange_delete(&name), exchange::DeleteOk);
    peer.close();
}

#[test]
fn headers_match_all_or_any() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let name = unique("headers");
    peer.ask(1, exchange_declare(&name, "headers"), exchange::DeclareOk);
    let [all, any] = [peer.queue(1), peer.queue(1)];
    for (queue, mode) in [(&all, "all"), (&any, "any")] {
        // The empty value asks whether the header is there.
        let arguments = FieldTable::new()
            .with("x-match", mode)
            .with("colour", "red")
            .with("size", 7_i32)
            .with("seen", FieldValue::Void);
        peer.ask(1, queue::Bind { arguments, ..bind(queue, &name, "") }, queue::BindOk);
    }
    let mut send = |headers: FieldTable, body: &str| {
        let headers = headers.encoded();
        let headers = FieldTableRef::parse(&headers).ok();
        peer.send_message(1, publish(&name, ""), Properties { headers, ..Properties::default() }, body);
    };
    let red = || FieldTable::new().with("colour", "red");
    send(red().with("size", 7_i64).with("seen", "x").with("more", true), "all");
    send(red(), "red");
    send(FieldTable::new().with("size", 7_u8), "seven");
    send(FieldTable::new().with("seen", false), "seen");
    send(FieldTable::new().with("colour", "blue").with("size", 8), "none");
    send(FieldTable::new().with("size", 7.0), "a float");
    peer.get(1, &all, "all");
    peer.expect_empty(1, &all);
    for body in ["all", "red", "seven", "seen"] {
        peer.get(1, &any, body);
    }
    if peer.either(true, false, "an integer is no float; RabbitMQ 3.10 compares the numbers") {
        peer.expect_empty(1, &any);
    } else {
        peer.get(1, &any, "a float");
    }
    peer.ask(1, exchange_delete(&name), exchange::DeleteOk);
    peer.close();
}

#[test]
fn message_reaches_each_queue_once_however_many_ways_lead_there() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    let [source, other] = [unique("source"), unique("other")];
    for exchange in [&source, &other] {
        peer.ask(1, exchange_declare(exchange, "topic"), exchange::DeclareOk);
        peer.ask(1, bind(&queue, exchange, "#"), queue::BindOk);
        peer.ask(1, bind(&queue, exchange, "a.*"), queue::BindOk);
        peer.ask(1, bind(&queue, exchange, "a.*"), queue::BindOk);
    }
    // A circle.
    peer.ask(1, exchange_bind(&other, &source, "#"), exchange::BindOk);
    peer.ask(1, exchange_bind(&source, &other, "#"), exchange::BindOk);
    peer.publish(1, &source, "a.b", "once");
    assert_eq!(peer.get(1, &queue, "once").left, 0);
    for exchange in [&source, &other] {
        peer.ask(1, exchange_delete(exchange), exchange::DeleteOk);
    }
    peer.close();
}

#[test]
fn binding_is_made_by_key_and_arguments_together() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    let name = unique("direct");
    peer.ask(1, exchange_declare(&name, "direct"), exchange::DeclareOk);
    let arguments = FieldTable::new().with("a", 1);
    peer.ask(1, bind(&queue, &name, "k"), queue::BindOk);
    peer.ask(1, queue::Bind { arguments: arguments.clone(), ..bind(&queue, &name, "k") }, queue::BindOk);
    peer.ask(1, unbind(&queue, &name, "k"), queue::UnbindOk);
    peer.publish(1, &name, "k", "still bound");
    peer.get(1, &queue, "still bound");
    peer.ask(1, queue::Unbind { arguments, ..unbind(&queue, &name, "k") }, queue::UnbindOk);
    peer.publish(1, &name, "k", "gone");
    peer.expect_quiet(1, &queue, 0);
    peer.ask(1, exchange_delete(&name), exchange::DeleteOk);
    peer.close();
}

#[test]
fn alternate_exchange_takes_what_is_routed_nowhere() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    let [name, alternate] = [unique("direct"), unique("alternate")];
    peer.ask(1, exchange_declare(&alternate, "fanout"), exchange::DeclareOk);
    let arguments = FieldTable::new().with("alternate-exchange", alternate.as_str());
    peer.ask(1, exchange::Declare { arguments, ..exchange_declare(&name, "direct") }, exchange::DeclareOk);
    let mandatory = || basic::Publish { mandatory: true, ..publish(&name, "k") };
    peer.send_message(1, mandatory(), Properties::default(), "nowhere");
    peer.expect_return(1, "nowhere");
    peer.ask(1, bind(&queue, &alternate, ""), queue::BindOk);
    peer.send_message(1, mandatory(), Properties::default(), "alternate");
    let message = peer.get(1, &queue, "alternate");
    assert_eq!((message.exchange.as_str(), message.routing_key.as_str()), (name.as_str(), "k"));
    peer.ask(1, exchange_delete(&alternate), exchange::DeleteOk);
    peer.send_message(1, mandatory(), Properties::default(), "alternate is gone");
    peer.expect_return(1, "alternate is gone");
    peer.ask(1, exchange_delete(&name), exchange::DeleteOk);
    peer.close();
}

#[test]
fn auto_delete_exchange_goes_with_its_last_binding() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    let name = unique("auto-delete");
    let declaration = || exchange::Declare { auto_delete: true, ..exchange_declare(&name, "direct") };
    peer.ask(1, declaration(), exchange::DeclareOk);
    assert!(exists(&mut peer, &name));
    peer.ask(1, bind(&queue, &name, "a"), queue::BindOk);
    peer.ask(1, bind(&queue, &name, "b"), queue::BindOk);
    peer.ask(1, unbind(&queue, &name, "a"), queue::UnbindOk);
    assert!(exists(&mut peer, &name));
    peer.ask(1, unbind(&queue, &name, "b"), queue::UnbindOk);
    assert!(!exists(&mut peer, &name));
    // The same by the end of the queue.
    peer.ask(1, declaration(), exchange::DeclareOk);
    peer.ask(1, bind(&queue, &name, "a"), queue::BindOk);
    peer.ask(1, delete(&queue), deleted(0));
    assert!(!exists(&mut peer, &name));
    peer.close();
}

#[test]
fn deleted_exchange_takes_its_bindings_along() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    let name = unique("deleted");
    peer.ask(1, exchange_declare(&name, "fanout"), exchange::DeclareOk);
    peer.ask(1, bind(&queue, &name, ""), queue::BindOk);
    peer.ask(1, exchange_delete(&name), exchange::DeleteOk);
    peer.ask(1, exchange_declare(&name, "fanout"), exchange::DeclareOk);
    peer.publish(1, &name, "", "nowhere");
    peer.expect_quiet(1, &queue, 0);
    peer.ask(1, exchange_delete(&name), exchange::DeleteOk);
    peer.publish(1, &name, "", "to nothing");
    let text = format!("NOT_FOUND - no exchange '{name}' in vhost '/'");
    peer.expect_channel_close(1, 404, &text, MethodId::BASIC_PUBLISH);
    peer.close();
}
