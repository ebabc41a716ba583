//! Direct reply-to: requests and answers without a queue, and what it refuses.

use leveret_codec::method::{MethodId, basic, channel, queue};
use leveret_codec::properties::Properties;

use crate::say::{bind, cancel, cancelled, consume, consuming, declare, declared, publish};
use crate::support::Broker;
use crate::wire::Peer;

const REPLY_TO: &str = "amq.rabbitmq.reply-to";

fn consume_replies(tag: &str) -> basic::Consume<'_> {
    basic::Consume { no_ack: true, ..consume(REPLY_TO, tag) }
}

fn asking() -> Properties<'static> {
    Properties { reply_to: Some(REPLY_TO.as_bytes()), ..Properties::default() }
}

/// Sends a request and gives the name that its answer goes to.
#[track_caller]
fn request(requester: &mut Peer, responder: &mut Peer, queue: &str) -> String {
    requester.send_message(1, publish("", queue), asking(), "question");
    let request = responder.expect_delivery(1, "server", "question");
    responder.send(1, crate::say::ack(request.tag));
    let reply_to = request.properties().reply_to.expect("the request says where its answer goes");
    let reply_to = String::from_utf8(reply_to.to_vec()).expect("reply names are text");
    assert!(reply_to.starts_with("amq.rabbitmq.reply-to."), "{reply_to}");
    reply_to
}

/// A queue with a consumer, for requests.
fn responder(broker: &Broker) -> (Peer, String) {
    let mut peer = Peer::with_channel(broker);
    let queue = peer.queue(1);
    peer.ask(1, consume(&queue, "server"), consuming("server"));
    (peer, queue)
}

#[test]
fn answer_goes_to_the_channel_that_asked() {
    let broker = Broker::start();
    let (mut responder, queue) = responder(&broker);
    let mut requester = Peer::with_channel(&broker);
    requester.ask(1, consume_replies("client"), consuming("client"));
    for _ in 0..3 {
        let reply_to = request(&mut requester, &mut responder, &queue);
        responder.publish(1, "", &reply_to, "answer");
        let answer = requester.expect_delivery(1, "client", "answer");
        assert_eq!((answer.exchange.as_str(), answer.routing_key), ("", reply_to));
    }
    requester.close();
    responder.close();
}

#[test]
fn reply_name_is_there_as_long_as_the_one_who_asked() {
    let broker = Broker::start();
    let (mut responder, queue) = responder(&broker);
    let mut requester = Peer::with_channel(&broker);
    requester.ask(1, consume_replies("client"), consuming("client"));
    let reply_to = request(&mut requester, &mut responder, &queue);
    let passive = || queue::Declare { passive: true, ..declare(&reply_to) };
    responder.ask(1, passive(), declared(&reply_to, 0, 1));
    responder.ask(1, declare(&reply_to), declared(&reply_to, 0, 1));
    requester.close();
    responder.open_channel(2);
    responder.send(2, passive());
    let text = format!("NOT_FOUND - no queue '{reply_to}' in vhost '/'");
    responder.expect_channel_close(2, 404, &text, MethodId::QUEUE_DECLARE);
    let late = basic::Publish { mandatory: true, ..publish("", &reply_to) };
    responder.send_message(1, late, Properties::default(), "late");
    if !responder.either(true, false, "RabbitMQ 4 drops late answers, 3.10 returns mandatory ones") {
        responder.expect_return(1, "late");
    }
    responder.expect_nothing(1);
    responder.close();
}

#[test]
fn request_without_a_reply_consumer_is_refused() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    peer.send_message(1, publish("", "any"), asking(), "question");
    let text = "PRECONDITION_FAILED - fast reply consumer does not exist";
    peer.expect_channel_close(1, 406, text, MethodId::BASIC_PUBLISH);
    peer.close();
}

#[test]
fn reply_consumer_of_another_channel_does_not_count() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    peer.open_channel(2);
    peer.ask(2, consume_replies("client"), consuming("client"));
    peer.send_message(1, publish("", "any"), asking(), "question");
    let text = "PRECONDITION_FAILED - fast reply consumer does not exist";
    peer.expect_channel_close(1, 406, text, MethodId::BASIC_PUBLISH);
    peer.close();
}

#[test]
fn reply_consumer_cannot_acknowledge() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    peer.send(1, consume(REPLY_TO, "client"));
    let text = "PRECONDITION_FAILED - reply consumer cannot acknowledge";
    peer.expect_channel_close(1, 406, text, MethodId::BASIC_CONSUME);
    peer.close();
}

#[test]
fn channel_has_one_reply_consumer_at_a_time() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    peer.ask(1, consume_replies("a"), consuming("a"));
    peer.ask(1, cancel("a"), cancelled("a"));
    peer.ask(1, consume_replies("b"), consuming("b"));
    peer.send(1, consume_replies("c"));
    let text = "PRECONDITION_FAILED - reply consumer already set";
    peer.expect_channel_close(1, 406, text, MethodId::BASIC_CONSUME);
    peer.close();
}

#[test]
fn cancelled_reply_consumer_takes_no_more_requests() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    peer.ask(1, consume_replies("a"), consuming("a"));
    peer.ask(1, cancel("a"), cancelled("a"));
    peer.send_message(1, publish("", "any"), asking(), "question");
    let text = "PRECONDITION_FAILED - fast reply consumer does not exist";
    peer.expect_channel_close(1, 406, text, MethodId::BASIC_PUBLISH);
    peer.close();
}

#[test]
fn reply_name_cannot_be_bound() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    peer.send(1, bind(REPLY_TO, "amq.direct", "k"));
    if peer.either(true, false, "RabbitMQ has this error since 4.0; 3.10 finds no such queue") {
        let text = "ACCESS_REFUSED - cannot bind or unbind to a volatile (direct reply-to) queue";
        peer.expect_channel_close(1, 403, text, MethodId::QUEUE_BIND);
    } else {
        let text = "NOT_FOUND - no queue 'amq.rabbitmq.reply-to' in vhost '/'";
        peer.expect_channel_close(1, 404, text, MethodId::QUEUE_BIND);
    }
    peer.ask(1, channel::Open, channel::OpenOk);
    peer.close();
}
