//! What a channel is refused, code by code: 403, 404, 405 and 406 with the exact texts, and the few mistakes
//! in methods that end the connection (530, 540). Each refusal uses channel 9, whose number is free again after it.

use leveret_codec::method::{MethodId, basic, channel, exchange, queue, tx};
use leveret_codec::properties::Properties;
use leveret_codec::table::{FieldTable, FieldTableRef, FieldValue};

use crate::say::{
    Say, ack, bind, consume, consuming, declare, declared, delete, exchange_bind, exchange_declare,
    exchange_delete, exchange_unbind, get, publish, purge, unbind,
};
use crate::support::Broker;
use crate::wire::{Peer, unique};

/// Opens channel 9, says this, and expects the channel to be closed with this code and text.
#[track_caller]
pub(crate) fn refused<'a>(peer: &mut Peer, method: impl Say<'a>, code: u16, text: &str) {
    let method = method.say();
    let id = method.id();
    peer.open_channel(9);
    peer.send(9, method);
    peer.expect_channel_close(9, code, text, id);
}

/// As `refused`, for a message.
#[track_caller]
fn message_refused(peer: &mut Peer, exchange: &str, properties: Properties<'_>, code: u16, text: &str) {
    peer.open_channel(9);
    peer.send_message(9, publish(exchange, "key"), properties, "body");
    peer.expect_channel_close(9, code, text, MethodId::BASIC_PUBLISH);
}

/// Says this on a new connection and expects the connection to be closed.
#[track_caller]
fn fatal<'a>(broker: &Broker, method: impl Say<'a>, code: u16, text: &str) {
    let mut peer = Peer::with_channel(broker);
    let method = method.say();
    let id = method.id();
    peer.send(1, method);
    peer.expect_close(code, text, id);
}

#[test]
fn access_to_the_default_exchange_and_reserved_names_is_refused_with_403() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    let p = &mut peer;
    let default = "ACCESS_REFUSED - operation not permitted on the default exchange";
    refused(p, exchange_declare("", "direct"), 403, default);
    refused(p, exchange::Declare { passive: true, ..exchange_declare("", "direct") }, 403, default);
    refused(p, exchange_delete(""), 403, default);
    refused(p, bind(&queue, "", "k"), 403, default);
    refused(p, unbind(&queue, "", "k"), 403, default);
    refused(p, exchange_bind("", "amq.fanout", "k"), 403, default);
    refused(p, exchange_bind("amq.fanout", "", "k"), 403, default);
    refused(p, exchange_unbind("amq.fanout", "", "k"), 403, default);
    let text = "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'";
    refused(p, declare("amq.mine"), 403, text);
    let text = format!("ACCESS_REFUSED - queue name '{queue}' contains reserved prefix 'amq.*'");
    refused(p, queue::Declare { exclusive: true, ..declare(&queue) }, 403, &text);
    let text = "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'";
    refused(p, exchange_declare("amq.mine", "direct"), 403, text);
    let text = "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed";
    refused(p, exchange_delete("amq.direct"), 403, text);
    let text = "ACCESS_REFUSED - deletion of system exchange 'amq.no-such' in vhost '/' not allowed";
    refused(p, exchange_delete("amq.no-such"), 403, text);
    peer.close();
}

#[test]
fn publish_to_an_internal_exchange_is_refused_with_403() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let name = unique("internal");
    let internal = exchange::Declare { internal: true, ..exchange_declare(&name, "fanout") };
    peer.ask(1, internal, exchange::DeclareOk);
    let text = format!("ACCESS_REFUSED - cannot publish to internal exchange '{name}' in vhost '/'");
    message_refused(&mut peer, &name, Properties::default(), 403, &text);
    peer.ask(1, exchange_delete(&name), exchange::DeleteOk);
    peer.close();
}

#[test]
fn exclusive_consumer_is_alone_or_refused_with_403() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    let text = format!("ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use");
    let exclusive = basic::Consume { exclusive: true, ..consume(&queue, "a") };
    peer.ask(1, exclusive.clone(), consuming("a"));
    refused(&mut peer, consume(&queue, "b"), 403, &text);
    refused(&mut peer, exclusive.clone(), 403, &text);
    peer.ask(1, crate::say::cancel("a"), crate::say::cancelled("a"));
    peer.ask(1, consume(&queue, "c"), consuming("c"));
    refused(&mut peer, exclusive, 403, &text);
    peer.close();
}

#[test]
fn things_that_are_not_there_are_refused_with_404() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    let p = &mut peer;
    let no_queue = "NOT_FOUND - no queue 'nope' in vhost '/'";
    refused(p, queue::Declare { passive: true, ..declare("nope") }, 404, no_queue);
    refused(p, consume("nope", "c"), 404, no_queue);
    refused(p, get("nope"), 404, no_queue);
    refused(p, purge("nope"), 404, no_queue);
    refused(p, bind("nope", "amq.direct", "k"), 404, no_queue);
    let no_exchange = "NOT_FOUND - no exchange 'nope' in vhost '/'";
    refused(p, exchange::Declare { passive: true, ..exchange_declare("nope", "") }, 404, no_exchange);
    refused(p, bind(&queue, "nope", "k"), 404, no_exchange);
    refused(p, exchange_bind("nope", "amq.direct", "k"), 404, no_exchange);
    refused(p, exchange_bind("amq.direct", "nope", "k"), 404, no_exchange);
    message_refused(p, "nope", Properties::default(), 404, no_exchange);
    peer.close();
}

#[test]
fn last_declared_queue_has_to_be_there_or_404() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let p = &mut peer;
    let text = "NOT_FOUND - no previously declared queue";
    refused(p, bind("", "amq.direct", "k"), 404, text);
    refused(p, unbind("", "amq.direct", "k"), 404, text);
    refused(p, consume("", "c"), 404, text);
    refused(p, get(""), 404, text);
    refused(p, purge(""), 404, text);
    refused(p, delete(""), 404, text);
    peer.close();
}

#[test]
fn exclusive_queue_of_another_connection_is_refused_with_405() {
    let broker = Broker::start();
    let mut owner = Peer::with_channel(&broker);
    let name = unique("exclusive");
    owner.ask(1, queue::Declare { exclusive: true, ..declare(&name) }, declared(&name, 0, 0));
    owner.ask(1, bind(&name, "amq.direct", "bound"), queue::BindOk);
    let mut peer = Peer::open(&broker);
    let text = format!(
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in vhost '/'. It could be \
         originally declared on another connection or the exclusive property value does not match that of \
         the original declaration."
    );
    let text = text.as_str();
    let p = &mut peer;
    refused(p, declare(&name), 405, text);
    refused(p, queue::Declare { exclusive: true, ..declare(&name) }, 405, text);
    refused(p, queue::Declare { passive: true, ..declare(&name) }, 405, text);
    refused(p, consume(&name, "c"), 405, text);
    refused(p, get(&name), 405, text);
    refused(p, bind(&name, "amq.direct", "k"), 405, text);
    refused(p, unbind(&name, "amq.direct", "bound"), 405, text);
    refused(p, purge(&name), 405, text);
    refused(p, delete(&name), 405, text);
    // Publishing to it is nobody's privilege.
    p.open_channel(2);
    p.publish(2, "", &name, "for the owner");
    p.expect_nothing(2);
    crate::wire::eventually(|| {
        owner.send(1, queue::Declare { passive: true, ..declare(&name) });
        (owner.recv().method() == declared(&name, 1, 0).say()).then_some(())
    });
    // The owner too has to repeat the flag.
    refused(&mut owner, declare(&name), 405, text);
    owner.close();
    peer.open_channel(3);
    peer.ask(3, declare(&name), declared(&name, 0, 0));
    refused(&mut peer, queue::Declare { exclusive: true, ..declare(&name) }, 405, text);
    peer.ask(3, delete(&name), crate::say::deleted(0));
    peer.close();
}

#[test]
fn queue_declared_again_with_other_properties_is_refused_with_406() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let name = unique("again");
    peer.ask(1, declare(&name), declared(&name, 0, 0));
    peer.ask(1, declare(&name), declared(&name, 0, 0));
    let inequivalent = |arg: &str, detail: &str| {
        format!("PRECONDITION_FAILED - inequivalent arg '{arg}' for queue '{name}' in vhost '/': {detail}")
    };
    let text = inequivalent("durable", "received 'true' but current is 'false'");
    refused(&mut peer, queue::Declare { durable: true, ..declare(&name) }, 406, &text);
    let text = inequivalent("auto_delete", "received 'true' but current is 'false'");
    refused(&mut peer, queue::Declare { auto_delete: true, ..declare(&name) }, 406, &text);
    let arguments = FieldTable::new().with("x-message-ttl", 10);
    let text =
        inequivalent("x-message-ttl", "received the value '10' of type 'signedint' but current is none");
    refused(&mut peer, queue::Declare { arguments, ..declare(&name) }, 406, &text);
    // Passive asks whether it is there, and for nothing else.
    let passive = queue::Declare { passive: true, durable: true, auto_delete: true, ..declare(&name) };
    peer.ask(1, passive, declared(&name, 0, 0));
    peer.ask(1, delete(&name), crate::say::deleted(0));
    peer.close();
}

#[test]
fn exchange_declared_again_with_other_properties_is_refused_with_406() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let name = unique("again");
    peer.ask(1, exchange_declare(&name, "topic"), exchange::DeclareOk);
    peer.ask(1, exchange_declare(&name, "topic"), exchange::DeclareOk);
    let inequivalent = |arg: &str, detail: &str| {
        format!("PRECONDITION_FAILED - inequivalent arg '{arg}' for exchange '{name}' in vhost '/': {detail}")
    };
    let base = || exchange_declare(&name, "topic");
    let text = inequivalent("type", "received 'direct' but current is 'topic'");
    refused(&mut peer, exchange_declare(&name, "direct"), 406, &text);
    let text = inequivalent("durable", "received 'true' but current is 'false'");
    refused(&mut peer, exchange::Declare { durable: true, ..base() }, 406, &text);
    let text = inequivalent("auto_delete", "received 'true' but current is 'false'");
    refused(&mut peer, exchange::Declare { auto_delete: true, ..base() }, 406, &text);
    let text = inequivalent("internal", "received 'true' but current is 'false'");
    refused(&mut peer, exchange::Declare { internal: true, ..base() }, 406, &text);
    let arguments = FieldTable::new().with("alternate-exchange", "amq.fanout");
    let text = inequivalent(
        "alternate-exchange",
        "received the value 'amq.fanout' of type 'longstr' but current is none",
    );
    refused(&mut peer, exchange::Declare { arguments, ..base() }, 406, &text);
    let arguments = FieldTable::new().with("x-nobody-knows", "this");
    peer.ask(1, exchange::Declare { arguments, ..base() }, exchange::DeclareOk);
    // The predeclared ones may be declared as they are.
    let direct = exchange::Declare { durable: true, ..exchange_declare("amq.direct", "direct") };
    peer.ask(1, direct, exchange::DeclareOk);
    peer.ask(1, exchange_delete(&name), exchange::DeleteOk);
    peer.close();
}

#[test]
fn unknown_exchange_type_is_refused_with_406() {
    let broker = Broker::start();
    let mut peer = Peer::open(&broker);
    let declare = exchange_declare("x", "no-such");
    if peer.either(true, false, "RabbitMQ made a channel error of this 503 in 3.13") {
        refused(&mut peer, declare, 406, "PRECONDITION_FAILED - unknown exchange type 'no-such'");
        peer.close();
    } else {
        let text = "COMMAND_INVALID - unknown exchange type 'no-such'";
        fatal(&broker, declare, 503, text);
    }
}

#[test]
fn conditions_of_a_delete_that_do_not_hold_are_refused_with_406() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    let name = unique("bound");
    peer.ask(1, exchange_declare(&name, "fanout"), exchange::DeclareOk);
    peer.ask(1, bind(&queue, &name, ""), queue::BindOk);
    let text = format!("PRECONDITION_FAILED - exchange '{name}' in vhost '/' in use");
    refused(&mut peer, exchange::Delete { if_unused: true, ..exchange_delete(&name) }, 406, &text);
    peer.publish(1, &name, "", "one");
    peer.expect_quiet(1, &queue, 1);
    let text = format!("PRECONDITION_FAILED - queue '{queue}' in vhost '/' not empty");
    refused(&mut peer, queue::Delete { if_empty: true, ..delete(&queue) }, 406, &text);
    peer.get(1, &queue, "one");
    peer.ask(1, consume(&queue, "c"), consuming("c"));
    let text = format!("PRECONDITION_FAILED - queue '{queue}' in vhost '/' in use");
    refused(&mut peer, queue::Delete { if_unused: true, ..delete(&queue) }, 406, &text);
    peer.ask(1, crate::say::cancel("c"), crate::say::cancelled("c"));
    let conditions = queue::Delete { if_unused: true, if_empty: true, ..delete(&queue) };
    peer.ask(1, conditions, crate::say::deleted(0));
    peer.ask(1, exchange::Delete { if_unused: true, ..exchange_delete(&name) }, exchange::DeleteOk);
}

#[test]
fn delivery_tags_that_are_not_outstanding_are_refused_with_406() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let text = |tag: u64| format!("PRECONDITION_FAILED - unknown delivery tag {tag}");
    let p = &mut peer;
    refused(p, ack(1), 406, &text(1));
    refused(p, ack(0), 406, &text(0));
    refused(p, ack(u64::MAX), 406, &text(u64::MAX));
    refused(p, basic::Ack { delivery_tag: 7, multiple: true }, 406, &text(7));
    refused(p, crate::say::nack(3, false, true), 406, &text(3));
    refused(p, crate::say::nack(3, true, false), 406, &text(3));
    refused(p, crate::say::reject(4, true), 406, &text(4));
    peer.close();
}

#[test]
fn transactions_and_confirms_do_not_mix_or_406() {
    let broker = Broker::start();
    let mut peer = Peer::open(&broker);
    let p = &mut peer;
    let text = "PRECONDITION_FAILED - channel is not transactional";
    refused(p, tx::Commit, 406, text);
    refused(p, tx::Rollback, 406, text);
    let select = leveret_codec::method::confirm::Select { no_wait: false };
    p.open_channel(1);
    p.ask(1, tx::Select, tx::SelectOk);
    p.send(1, select);
    let text = "PRECONDITION_FAILED - cannot switch from tx to confirm mode";
    p.expect_channel_close(1, 406, text, MethodId::CONFIRM_SELECT);
    p.open_channel(1);
    p.ask(1, select, leveret_codec::method::confirm::SelectOk);
    p.send(1, tx::Select);
    let text = "PRECONDITION_FAILED - cannot switch from confirm to tx mode";
    p.expect_channel_close(1, 406, text, MethodId::TX_SELECT);
    peer.close();
}

#[test]
fn user_id_of_somebody_else_is_refused_with_406() {
    let broker = Broker::start();
    let mut peer = Peer::open(&broker);
    let text = "PRECONDITION_FAILED - user_id property set to 'root' but authenticated user was 'guest'";
    let properties = Properties { user_id: Some(b"root"), ..Properties::default() };
    message_refused(&mut peer, "", properties, 406, text);
    peer.close();
}

#[test]
fn expiration_that_is_no_number_of_milliseconds_is_refused_with_406() {
    let broker = Broker::start();
    let mut peer = Peer::open(&broker);
    for (expiration, term) in [
        ("x", "no_integer"),
        ("", "no_integer"),
        ("10s", "{leftover_string,\"s\"}"),
        ("-1", "{value_negative,-1}"),
        ("315360000001", "{value_too_large,315360000001}"),
    ] {
        let text = format!("PRECONDITION_FAILED - invalid expiration '{expiration}': {term}");
        let properties = Properties { expiration: Some(expiration.as_bytes()), ..Properties::default() };
        message_refused(&mut peer, "", properties, 406, &text);
    }
    peer.close();
}

/// COMPAT: RabbitMQ takes any number of keys of any length.
#[test]
fn copies_to_more_or_longer_keys_than_make_sense_are_refused_with_406() {
    let broker = Broker::start();
    let mut peer = Peer::open(&broker);
    if !peer.is_leveret() {
        return peer.close();
    }
    let keys = |count: usize| FieldValue::Array(vec!["key".into(); count]);
    let long = |length: usize| FieldValue::Array(vec!["x".repeat(length).as_str().into()]);
    let copies =
        |cc: FieldValue, bcc: FieldValue| FieldTable::new().with("CC", cc).with("BCC", bcc).encoded();
    for (headers, text) in [
        (copies(long(256), keys(1)), "a routing key in the header 'CC' has 256 octets, more than 255"),
        (
            copies(keys(1), long(100_000)),
            "a routing key in the header 'BCC' has 100000 octets, more than 255",
        ),
        (copies(keys(1025), keys(0)), "the headers CC and BCC have more than 1024 routing keys"),
        (copies(keys(24), keys(1001)), "the headers CC and BCC have more than 1024 routing keys"),
    ] {
        let headers = FieldTableRef::parse(&headers).ok();
        let text = format!("PRECONDITION_FAILED - {text}");
        message_refused(&mut peer, "", Properties { headers, ..Properties::default() }, 406, &text);
    }
    peer.open_channel(1);
    let queue = peer.queue(1);
    let mut most = vec![FieldValue::from("x".repeat(255).as_str()); 23];
    most.push(queue.as_str().into());
    let headers = copies(keys(1000), FieldValue::Array(most));
    let headers = FieldTableRef::parse(&headers).ok();
    peer.send_message(1, publish("", "any"), Properties { headers, ..Properties::default() }, "copy");
    peer.get(1, &queue, "copy");
    peer.close();
}

#[test]
fn cc_that_is_no_array_is_refused_with_406() {
    let broker = Broker::start();
    let mut peer = Peer::open(&broker);
    let cases = [
        (FieldTable::new().with("CC", "key"), "\"CC\",longstr"),
        (FieldTable::new().with("BCC", 7), "\"BCC\",signedint"),
    ];
    for (headers, term) in cases {
        let headers = headers.encoded();
        let headers = FieldTableRef::parse(&headers).ok();
        let text = format!("PRECONDITION_FAILED - invalid message: {{unacceptable_type_in_header,{term}}}");
        message_refused(&mut peer, "", Properties { headers, ..Properties::default() }, 406, &text);
    }
    // In an array, whatever is no string is passed over.
    peer.open_channel(1);
    let queue = peer.queue(1);
    let headers = FieldTable::new().with("CC", FieldValue::Array(vec![7.into(), queue.as_str().into()]));
    let headers = headers.encoded();
    let headers = FieldTableRef::parse(&headers).ok();
    peer.send_message(1, publish("", "any"), Properties { headers, ..Properties::default() }, "copy");
    peer.get(1, &queue, "copy");
    peer.close();
}

#[test]
fn x_match_that_is_unknown_is_refused_with_406() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    let x_match = |value: FieldValue| FieldTable::new().with("x-match", value);
    let text = "PRECONDITION_FAILED - Invalid x-match field value <<\"most\">>; expected all, any, all-with-x, \
                or any-with-x";
    let arguments = x_match("most".into());
    refused(&mut peer, queue::Bind { arguments, ..bind(&queue, "amq.headers", "") }, 406, text);
    let text = "PRECONDITION_FAILED - Invalid x-match field type signedint (value 1); expected longstr";
    let arguments = x_match(1.into());
    refused(&mut peer, queue::Bind { arguments, ..bind(&queue, "amq.headers", "") }, 406, text);
    peer.close();
}

#[test]
fn alternate_exchange_that_is_no_string_is_refused_with_406() {
    let broker = Broker::start();
    let mut peer = Peer::open(&broker);
    let name = unique("alternate");
    let arguments = FieldTable::new().with("alternate-exchange", 7);
    let text = format!(
        "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in exchange '{name}' in \
         vhost '/'"
    );
    refused(&mut peer, exchange::Declare { arguments, ..exchange_declare(&name, "direct") }, 406, &text);
    peer.close();
}

#[test]
fn consumer_tag_in_use_is_not_allowed() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let queue = peer.queue(1);
    peer.ask(1, consume(&queue, "c"), consuming("c"));
    peer.open_channel(2);
    // Another channel has its own tags.
    peer.ask(2, consume(&queue, "c"), consuming("c"));
    peer.send(1, consume(&queue, "c"));
    peer.expect_close(530, "NOT_ALLOWED - attempt to reuse consumer tag 'c'", MethodId::BASIC_CONSUME);
}

#[test]
fn what_rabbitmq_does_not_implement_is_540_here_too() {
    let broker = Broker::start();
    let text = "NOT_IMPLEMENTED - prefetch_size!=0 (1000)";
    fatal(&broker, basic::Qos { prefetch_size: 1000, prefetch_count: 1, global: false }, 540, text);
    fatal(&broker, basic::Recover { requeue: false }, 540, "NOT_IMPLEMENTED - requeue=false");
    fatal(&broker, basic::RecoverAsync { requeue: false }, 540, "NOT_IMPLEMENTED - requeue=false");
    fatal(&broker, channel::Flow { active: false }, 540, "NOT_IMPLEMENTED - active=false");
    let mut peer = Peer::with_channel(&broker);
    let immediate = basic::Publish { immediate: true, ..publish("", "q") };
    peer.send_message(1, immediate, Properties::default(), "now");
    peer.expect_close(540, "NOT_IMPLEMENTED - immediate=true", MethodId::BASIC_PUBLISH);
}
