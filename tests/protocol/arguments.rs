//! Arguments of queue.declare and basic.consume: what is refused, in which words, and what counts as the same when a
//! queue is declared again.

use leveret_codec::method::{Method, basic, queue};
use leveret_codec::table::{FieldTable, FieldValue};

use crate::refusals::refused;
use crate::say::{cancel, cancelled, consume, consuming, declare, declared, delete, deleted};
use crate::support::Broker;
use crate::wire::{Peer, unique};

/// A durable queue of a type.
fn durable<'a>(name: &'a str, queue_type: &str) -> queue::Declare<'a> {
    let arguments = FieldTable::new().with("x-queue-type", queue_type);
    queue::Declare { durable: true, arguments, ..declare(name) }
}

fn with<'a>(
    declare: &queue::Declare<'a>,
    argument: &str,
    value: impl Into<FieldValue>,
) -> queue::Declare<'a> {
    queue::Declare { arguments: declare.arguments.clone().with(argument, value), ..declare.clone() }
}

/// Expects that a new queue with this argument is refused for this reason.
#[track_caller]
fn invalid(
    peer: &mut Peer,
    base: &queue::Declare<'_>,
    argument: &str,
    value: impl Into<FieldValue>,
    reason: &str,
) {
    let name = base.queue;
    let text =
        format!("PRECONDITION_FAILED - invalid arg '{argument}' for queue '{name}' in vhost '/'{reason}");
    refused(peer, with(base, argument, value), 406, &text);
}

#[test]
fn queue_arguments_nobody_knows_are_kept_and_not_compared() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let name = unique("arguments");
    let exclusive = queue::Declare { exclusive: true, ..declare(&name) };
    peer.ask(1, with(&exclusive, "x-nobody-knows", 1), declared(&name, 0, 0));
    peer.ask(1, with(&exclusive, "x-nobody-knows", 2), declared(&name, 0, 0));
    peer.ask(1, with(&exclusive, "x-queue-type", "classic"), declared(&name, 0, 0));
    // Nor are those that only other types of queues have.
    peer.ask(1, with(&exclusive, "x-delivery-limit", 2), declared(&name, 0, 0));
    peer.close();
}

#[test]
fn arguments_without_effect_on_one_node_are_taken() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let classic: &[(&str, FieldValue)] = &[
        ("x-queue-mode", "lazy".into()),
        ("x-queue-mode", "default".into()),
        ("x-queue-version", 2.into()),
        ("x-queue-master-locator", "min-masters".into()),
    ];
    let quorum: &[(&str, FieldValue)] = &[
        ("x-queue-leader-locator", "balanced".into()),
        ("x-quorum-initial-group-size", 1.into()),
        ("x-max-in-memory-length", 1.into()),
        ("x-max-in-memory-bytes", 1.into()),
    ];
    for (queue_type, arguments) in [("classic", classic), ("quorum", quorum)] {
        for (argument, value) in arguments {
            let name = unique("without-effect");
            peer.ask(1, with(&durable(&name, queue_type), argument, value.clone()), declared(&name, 0, 0));
            peer.publish(1, "", &name, argument);
            peer.ask(1, consume(&name, "c"), consuming("c"));
            peer.expect_delivery(1, "c", argument);
            peer.ask(1, cancel("c"), cancelled("c"));
            peer.ask(1, delete(&name), deleted(0));
        }
    }
    peer.close();
}

#[test]
fn a_name_made_by_the_broker_may_begin_as_the_client_wishes() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    if !peer.either(true, false, "x-name-prefix is of 4.3") {
        return;
    }
    let wish = |prefix: &str| {
        let arguments = FieldTable::new().with("x-name-prefix", prefix);
        queue::Declare { exclusive: true, arguments, ..declare("") }
    };
    peer.send(1, wish("mine"));
    match peer.recv().method() {
        Method::QueueDeclareOk(ok) => {
            assert!(ok.queue.starts_with("mine-") && ok.queue.len() == "mine-".len() + 22, "{}", ok.queue);
        }
        other => panic!("{other:?}"),
    }
    peer.close();
}

#[test]
fn integers_of_wrong_type_or_range_are_refused_with_406() {
    let broker = Broker::start();
    let mut peer = Peer::open(&broker);
    let p = &mut peer;
    let name = unique("integers");
    for base in [declare(&name), durable(&name, "quorum")] {
        for argument in ["x-message-ttl", "x-expires", "x-max-length", "x-max-length-bytes"] {
            invalid(p, &base, argument, -1, ": {value_negative,-1}");
            invalid(p, &base, argument, "x", ": \"expected integer, got longstr\"");
            invalid(p, &base, argument, true, ": \"expected integer, got bool\"");
            invalid(p, &base, argument, 1.5, ": \"expected integer, got double\"");
            let decimal = FieldValue::Decimal { scale: 0, value: 10 };
            invalid(p, &base, argument, decimal, ": \"expected integer, got decimal\"");
            invalid(p, &base, argument, FieldValue::Void, ": \"expected integer, got void\"");
        }
        for argument in ["x-message-ttl", "x-expires"] {
            let reason = ": {value_too_large,315360000001}";
            invalid(p, &base, argument, 315_360_000_001_i64, reason);
        }
        invalid(p, &base, "x-expires", 0, ": {value_zero,0}");
    }
    let classic = declare(&name);
    invalid(p, &classic, "x-max-priority", -1, ": {value_negative,-1}");
    invalid(p, &classic, "x-max-priority", 256, ": {max_value_exceeded,256}");
    invalid(p, &classic, "x-queue-version", 3, ": \"unsupported queue version '3'\"");
    if p.either(true, false, "RabbitMQ gave version 1 up in 4.3") {
        invalid(p, &classic, "x-queue-version", 1, ": \"unsupported queue version '1'\"");
    }
    let quorum = durable(&name, "quorum");
    invalid(p, &quorum, "x-quorum-initial-group-size", 0, ": {value_zero,0}");
    invalid(p, &quorum, "x-max-in-memory-length", -1, ": {value_negative,-1}");
    peer.close();
}

#[test]
fn names_and_flags_that_are_unknown_are_refused_with_406() {
    let broker = Broker::start();
    let mut peer = Peer::open(&broker);
    let p = &mut peer;
    let name = unique("names");
    for base in [declare(&name), durable(&name, "quorum")] {
        invalid(p, &base, "x-overflow", "drop-tail", ": invalid_overflow");
        invalid(p, &base, "x-overflow", 5, ": {unacceptable_type,signedint}");
        invalid(p, &base, "x-single-active-consumer", "true", ": {unacceptable_type,longstr}");
        let reason = ": routing_key_but_no_dlx_defined";
        invalid(p, &base, "x-dead-letter-routing-key", "k", reason);
        invalid(p, &base, "x-dead-letter-routing-key", 5, ": {unacceptable_type,signedint}");
        let text = format!(
            "PRECONDITION_FAILED - invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue \
             '{name}' in vhost '/'"
        );
        refused(p, with(&base, "x-dead-letter-exchange", 5), 406, &text);
    }
    let classic = declare(&name);
    invalid(p, &classic, "x-queue-mode", "eager", ": \"unsupported queue mode 'eager'\"");
    invalid(p, &classic, "x-queue-type", "novel", ": \"unsupported queue type 'novel'\"");
    invalid(p, &classic, "x-queue-type", 5, ": {unacceptable_type,signedint}");
    let quorum = durable(&name, "quorum");
    invalid(p, &quorum, "x-dead-letter-strategy", "always", ": invalid_dlx_strategy");
    invalid(p, &quorum, "x-queue-leader-locator", "there", ": invalid_queue_locator_arg");
    peer.close();
}

#[test]
fn arguments_of_other_types_of_queues_are_refused_with_406() {
    let broker = Broker::start();
    let mut peer = Peer::open(&broker);
    let p = &mut peer;
    let name = unique("types");
    let classic = [
        ("x-delivery-limit", 3.into()),
        ("x-dead-letter-strategy", FieldValue::from("at-least-once")),
        ("x-quorum-initial-group-size", 3.into()),
        ("x-max-in-memory-length", 3.into()),
        ("x-max-age", "1D".into()),
        ("x-stream-max-segment-size-bytes", 1000.into()),
        ("x-initial-cluster-size", 3.into()),
    ];
    for (argument, value) in classic {
        invalid(p, &declare(&name), argument, value, " of queue type rabbit_classic_queue");
    }
    let quorum = [
        ("x-max-priority", 3.into()),
        ("x-queue-mode", FieldValue::from("lazy")),
        ("x-queue-version", 2.into()),
        ("x-max-age", "1D".into()),
    ];
    for (argument, value) in quorum {
        invalid(p, &durable(&name, "quorum"), argument, value, " of queue type rabbit_quorum_queue");
    }
    // What is wrong with a value comes first, and with the type of the queue before that.
    let both = with(&declare(&name), "x-delivery-limit", 3);
    invalid(p, &both, "x-message-ttl", -1, ": {value_negative,-1}");
    invalid(p, &both, "x-queue-type", "novel", ": \"unsupported queue type 'novel'\"");
    let both = with(&declare(&name), "x-message-ttl", -1);
    invalid(p, &both, "x-expires", 0, ": {value_zero,0}");
    peer.close();
}

#[test]
fn quorum_queues_are_durable_shared_and_named_by_clients_or_406() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let p = &mut peer;
    let name = unique("quorum");
    let quorum = || durable(&name, "quorum");
    let property =
        |found| format!("PRECONDITION_FAILED - invalid property '{found}' for queue '{name}' in vhost '/'");
    refused(p, queue::Declare { durable: false, ..quorum() }, 406, &property("non-durable"));
    refused(p, queue::Declare { auto_delete: true, ..quorum() }, 406, &property("auto-delete"));
    refused(p, queue::Declare { exclusive: true, ..quorum() }, 406, &property("exclusive-owner"));
    let all = queue::Declare { durable: false, auto_delete: true, exclusive: true, ..quorum() };
    refused(p, all, 406, &property("auto-delete"));
    let text = "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue";
    refused(p, durable("", "quorum"), 406, text);
    refused(p, with(&durable("", "quorum"), "x-message-ttl", -1), 406, text);
    p.ask(1, quorum(), declared(&name, 0, 0));
    p.ask(1, quorum(), declared(&name, 0, 0));
    let inequivalent = |received: &str, current: &str| {
        format!(
            "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue '{name}' in vhost '/': received \
             {received} but current is {current}"
        )
    };
    refused(p, durable(&name, "classic"), 406, &inequivalent("'classic'", "'quorum'"));
    let text = p.either(
        inequivalent("'classic'", "'quorum'"),
        inequivalent("none", "the value 'quorum' of type 'longstr'"),
        "a queue that does not say its type is classic from 4.0 on",
    );
    refused(p, queue::Declare { durable: true, ..declare(&name) }, 406, &text);
    p.ask(1, delete(&name), deleted(0));
    peer.close();
}

#[test]
fn what_is_not_there_yet_is_refused_with_406() {
    let broker = Broker::start();
    let mut peer = Peer::open(&broker);
    if !peer.either(true, false, "RabbitMQ has streams") {
        return;
    }
    let p = &mut peer;
    let name = unique("refused");
    let not_yet = "not supported by this version of Leveret";
    let reason = format!(": queue type 'stream' is {not_yet}");
    let stream = queue::Declare { durable: true, ..declare(&name) };
    invalid(p, &stream, "x-queue-type", "stream", &reason);
    peer.close();
}

#[test]
fn arguments_are_compared_by_value_when_a_queue_is_declared_again() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let p = &mut peer;
    let name = unique("again");
    let base = declare(&name);
    let current = || with(&with(&base, "x-message-ttl", 60_000), "x-overflow", "drop-head");
    p.ask(1, current(), declared(&name, 0, 0));
    let wide = with(&with(&base, "x-message-ttl", 60_000_i64), "x-overflow", "drop-head");
    p.ask(1, wide, declared(&name, 0, 0));
    let inequivalent = |argument: &str, detail: &str| {
        format!(
            "PRECONDITION_FAILED - inequivalent arg '{argument}' for queue '{name}' in vhost '/': {detail}"
        )
    };
    let ttl = "x-message-ttl";
    let other = |value: FieldValue| with(&with(&base, ttl, value), "x-overflow", "drop-head");
    let text = inequivalent(ttl, "received '60001' but current is '60000'");
    refused(p, other(60_001_i64.into()), 406, &text);
    let text = inequivalent(ttl, "received '60000' but current is '60000'");
    refused(p, other("60000".into()), 406, &text);
    let text = inequivalent(ttl, "received 'true' but current is '60000'");
    refused(p, other(true.into()), 406, &text);
    let text = inequivalent(ttl, "received none but current is '60000'");
    refused(p, other(FieldValue::Void), 406, &text);
    let text = inequivalent(ttl, "received none but current is the value '60000' of type 'signedint'");
    refused(p, base.clone(), 406, &text);
    let text = inequivalent("x-overflow", "received 'reject-publish' but current is 'drop-head'");
    refused(p, with(&with(&base, ttl, 60_000), "x-overflow", "reject-publish"), 406, &text);
    // A value that no new queue could have is only another one here.
    let text =
        inequivalent("x-max-length", "received the value '-1' of type 'signedint' but current is none");
    refused(p, with(&current(), "x-max-length", -1), 406, &text);
    let text = inequivalent(
        "x-single-active-consumer",
        "received the value 'false' of type 'bool' but current is none",
    );
    refused(p, with(&current(), "x-single-active-consumer", false), 406, &text);
    p.ask(1, delete(&name), deleted(0));
    peer.close();
}

#[test]
fn consumer_arguments_are_those_of_the_queues_type_or_406() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let p = &mut peer;
    let name = p.queue(1);
    let asking = |argument: &str, value: FieldValue| {
        let arguments = FieldTable::new().with(argument, value);
        basic::Consume { arguments, ..consume(&name, "c") }
    };
    let invalid = |argument: &str, reason: &str| {
        format!("PRECONDITION_FAILED - invalid arg '{argument}' for queue '{name}' in vhost '/'{reason}")
    };
    let integer = invalid("x-priority", ": \"expected integer, got longstr\"");
    refused(p, asking("x-priority", "5".into()), 406, &integer);
    let integer = invalid("x-priority", ": \"expected integer, got bool\"");
    refused(p, asking("x-priority", true.into()), 406, &integer);
    let others = " of queue type rabbit_classic_queue";
    refused(p, asking("x-stream-offset", "first".into()), 406, &invalid("x-stream-offset", others));
    if p.either(true, false, "RabbitMQ 3.10 does not know these") {
        for argument in ["x-stream-filter", "x-stream-match-unfiltered", "x-consumer-timeout"] {
            refused(p, asking(argument, 5.into()), 406, &invalid(argument, others));
        }
    }
    p.ask(1, asking("x-nobody-knows", 5.into()), consuming("c"));
    peer.close();
}
