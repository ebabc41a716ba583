//! Queues: names, counts, exclusive and auto-delete ones, and every method that can do without an answer.

use leveret_codec::method::{Method, access, channel, exchange, queue};

use crate::say::{
    bind, cancel, cancelled, channel_close, consume, consuming, declare, declared, delete, deleted,
    exchange_bind, exchange_declare, exchange_delete, exchange_unbind, purge, unbind,
};
use crate::support::Broker;
use crate::wire::{Peer, eventually, unique};

/// Whether the queue is there, asked on a channel of its own.
fn exists(peer: &mut Peer, queue: &str) -> bool {
    peer.open_channel(99);
    peer.send(99, queue::Declare { passive: true, ..declare(queue) });
    let received = peer.recv();
    match received.method() {
        Method::QueueDeclareOk(_) => {
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
fn queue_without_a_name_is_given_one() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let (first, second) = (peer.queue(1), peer.queue(1));
    assert_ne!(first, second);
    assert!(first.starts_with("amq.gen-") && first.len() == "amq.gen-".len() + 22, "{first}");
    peer.close();
}

#[test]
fn declare_counts_messages_that_are_ready_and_consumers() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    let passive = || queue::Declare { passive: true, ..declare(&queue) };
    for body in ["1", "2", "3"] {
        peer.publish(1, "", &queue, body);
    }
    peer.expect_quiet(1, &queue, 3);
    peer.get(1, &queue, "1");
    peer.ask(1, passive(), declared(&queue, 2, 0));
    // Purge leaves what is outstanding.
    peer.ask(1, purge(&queue), queue::PurgeOk { message_count: 2 });
    peer.ask(1, purge(&queue), queue::PurgeOk { message_count: 0 });
    peer.send(1, crate::say::nack(1, false, true));
    peer.expect_quiet(1, &queue, 1);
    peer.ask(1, delete(&queue), deleted(1));
    // What is not there is deleted as well.
    peer.ask(1, delete(&queue), deleted(0));
    peer.close();
}

#[test]
fn exclusive_queue_goes_with_its_connection_before_the_answer_to_the_close() {
    let broker = Broker::start();
    let mut other = Peer::open(&broker);
    let mut owner = Peer::with_channel(&broker);
    let name = unique("exclusive");
    owner.ask(1, queue::Declare { exclusive: true, ..declare(&name) }, declared(&name, 0, 0));
    // It belongs to the connection, not to the channel.
    owner.ask(1, channel_close(), channel::CloseOk);
    assert!(exists(&mut owner, &name));
    owner.close();
    assert!(!exists(&mut other, &name));
    other.close();
}

#[test]
fn exclusive_queue_goes_with_a_connection_that_is_dropped() {
    let broker = Broker::start();
    let mut other = Peer::open(&broker);
    let mut owner = Peer::with_channel(&broker);
    let name = unique("exclusive");
    owner.ask(1, queue::Declare { exclusive: true, ..declare(&name) }, declared(&name, 0, 0));
    drop(owner);
    eventually(|| {
        other.open_channel(5);
        other.send(5, queue::Declare { exclusive: true, ..declare(&name) });
        let received = other.recv();
        let is_declared = match received.method() {
            Method::QueueDeclareOk(_) => true,
            Method::ChannelClose(close) if close.reply_code == 405 => false,
            unexpected => panic!("{unexpected:?}"),
        };
        if is_declared {
            return Some(());
        }
        other.send(5, channel::CloseOk);
        None
    });
    other.close();
}

#[test]
fn auto_delete_queue_goes_with_its_last_consumer() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let name = unique("auto-delete");
    let declaration = || queue::Declare { auto_delete: true, ..declare(&name) };
    peer.ask(1, declaration(), declared(&name, 0, 0));
    // It never had one: neither time nor basic.get matter.
    peer.expect_empty(1, &name);
    assert!(exists(&mut peer, &name));
    peer.ask(1, consume(&name, "a"), consuming("a"));
    peer.ask(1, consume(&name, "b"), consuming("b"));
    peer.ask(1, cancel("a"), cancelled("a"));
    assert!(exists(&mut peer, &name));
    peer.ask(1, cancel("b"), cancelled("b"));
    eventually(|| (!exists(&mut peer, &name)).then_some(()));
    // The same by a channel's end.
    peer.ask(1, declaration(), declared(&name, 0, 0));
    peer.ask(1, consume(&name, "c"), consuming("c"));
    peer.ask(1, channel_close(), channel::CloseOk);
    eventually(|| (!exists(&mut peer, &name)).then_some(()));
    peer.close();
}

#[test]
fn line_breaks_in_names_are_dropped() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let name = unique("lines");
    let broken = format!("{name}\r\n");
    peer.ask(1, queue::Declare { exclusive: true, ..declare(&broken) }, declared(&name, 0, 0));
    let exchange = format!("{name}-x");
    let broken_exchange = format!("\n{name}-\rx");
    peer.ask(1, exchange_declare(&broken_exchange, "fanout"), exchange::DeclareOk);
    peer.ask(1, bind(&broken, &broken_exchange, ""), queue::BindOk);
    peer.publish(1, &exchange, "", "through");
    peer.get(1, &name, "through");
    peer.ask(1, exchange_delete(&broken_exchange), exchange::DeleteOk);
    peer.ask(1, delete(&name), deleted(0));
    assert!(!exists(&mut peer, &name));
    peer.close();
}

#[test]
fn empty_queue_name_in_a_bind_is_the_last_one_and_an_empty_key_its_name() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    peer.ask(1, bind("", "amq.direct", ""), queue::BindOk);
    peer.publish(1, "amq.direct", &queue, "by its name");
    peer.get(1, &queue, "by its name");
    peer.ask(1, unbind("", "amq.direct", ""), queue::UnbindOk);
    peer.publish(1, "amq.direct", &queue, "lost");
    peer.expect_quiet(1, &queue, 0);
    let key = unique("key");
    peer.ask(1, bind("", "amq.direct", &key), queue::BindOk);
    peer.publish(1, "amq.direct", &key, "by the key");
    peer.get(1, &queue, "by the key");
    peer.ask(1, purge(""), queue::PurgeOk { message_count: 0 });
    peer.ask(1, delete(""), deleted(0));
    peer.close();
}

#[test]
fn passive_declare_wants_a_name() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    peer.queue(1);
    peer.send(1, queue::Declare { passive: true, ..declare("") });
    let text = "NOT_FOUND - no queue '' in vhost '/'";
    peer.expect_channel_close(1, 404, text, leveret_codec::MethodId::QUEUE_DECLARE);
    peer.close();
}

#[test]
fn unbind_of_what_is_not_bound_is_fine() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    peer.ask(1, unbind(&queue, "amq.direct", "never"), queue::UnbindOk);
    peer.ask(1, unbind(&queue, "no-such-exchange", "never"), queue::UnbindOk);
    peer.ask(1, unbind("no-such-queue", "amq.direct", "never"), queue::UnbindOk);
    peer.ask(1, exchange_unbind("no-such", "amq.direct", "never"), exchange::UnbindOk);
    peer.ask(1, exchange_delete("no-such"), exchange::DeleteOk);
    peer.close();
}

#[test]
fn methods_that_want_no_answer_get_none() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let (queue, one, two) = (unique("silent"), unique("one"), unique("two"));
    for exchange in [&one, &two] {
        peer.send(1, exchange::Declare { no_wait: true, ..exchange_declare(exchange, "fanout") });
    }
    peer.send(1, exchange::Declare { no_wait: true, passive: true, ..exchange_declare(&one, "fanout") });
    peer.send(1, queue::Declare { no_wait: true, exclusive: true, ..declare(&queue) });
    peer.send(1, queue::Declare { no_wait: true, passive: true, ..declare(&queue) });
    peer.send(1, exchange::Bind { no_wait: true, ..exchange_bind(&two, &one, "") });
    peer.send(1, queue::Bind { no_wait: true, ..bind(&queue, &two, "") });
    peer.publish(1, &one, "", "through both");
    peer.expect_quiet(1, &queue, 1);
    peer.send(1, queue::Purge { no_wait: true, ..purge(&queue) });
    peer.expect_quiet(1, &queue, 0);
    peer.send(1, exchange::Unbind { no_wait: true, ..exchange_unbind(&two, &one, "") });
    peer.publish(1, &one, "", "nowhere");
    peer.expect_quiet(1, &queue, 0);
    peer.send(1, queue::Delete { no_wait: true, ..delete(&queue) });
    for exchange in [&one, &two] {
        peer.send(1, exchange::Delete { no_wait: true, ..exchange_delete(exchange) });
    }
    peer.expect_nothing(1);
    assert!(!exists(&mut peer, &queue));
    peer.close();
}

#[test]
fn error_of_a_method_that_wants_no_answer_is_told() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    peer.send(1, queue::Declare { no_wait: true, passive: true, ..declare("nope") });
    let text = "NOT_FOUND - no queue 'nope' in vhost '/'";
    peer.expect_channel_close(1, 404, text, leveret_codec::MethodId::QUEUE_DECLARE);
    peer.close();
}

#[test]
fn access_is_granted_to_who_still_asks() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let request = access::Request {
        realm: "/data",
        exclusive: false,
        passive: true,
        active: true,
        write: true,
        read: true,
    };
    peer.ask(1, request, access::RequestOk { ticket: 1 });
    peer.close();
}

#[test]
fn names_and_keys_may_have_255_octets() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let prefix = unique("long");
    let name = format!("{prefix}{}", "é".repeat((255 - prefix.len()) / 2));
    peer.ask(1, queue::Declare { exclusive: true, ..declare(&name) }, declared(&name, 0, 0));
    let key = "k".repeat(255);
    peer.ask(1, bind(&name, "amq.topic", &key), queue::BindOk);
    peer.publish(1, "amq.topic", &key, "x");
    assert_eq!(peer.get(1, &name, "x").routing_key, key);
    peer.close();
}

#[test]
fn long_reply_text_is_cut() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let name = "n".repeat(255);
    peer.send(1, queue::Declare { passive: true, ..declare(&name) });
    let received = peer.recv();
    let Method::ChannelClose(close) = received.method() else { panic!("{received:?}") };
    assert_eq!(close.reply_code, 404);
    assert!(close.reply_text.starts_with("NOT_FOUND - no queue 'nnnnnnnn"), "{}", close.reply_text);
    peer.send(1, channel::CloseOk);
    peer.close();
}
