//! Clients that do not wait for answers: these come in the order of what was asked, the last of them included.

use leveret_codec::method::{MethodId, channel, confirm, connection, exchange, queue, tx};

use crate::say::{
    bind, channel_close, consume, consuming, declare, declared, delete, deleted, exchange_declare,
    exchange_delete, unbind,
};
use crate::support::Broker;
use crate::wire::{Peer, unique};

fn durable(queue: &str) -> queue::Declare<'_> {
    queue::Declare { durable: true, ..declare(queue) }
}

fn close() -> connection::Close<'static> {
    connection::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 }
}

#[test]
fn declarations_that_wait_for_nothing_are_answered_in_order() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let exchange = unique("exchange");
    let queues: Vec<_> = (0..200).map(|number| unique(&format!("queue-{number}"))).collect();
    peer.send(1, exchange::Declare { durable: true, ..exchange_declare(&exchange, "direct") });
    for queue in &queues {
        peer.send(1, durable(queue));
        peer.send(1, bind(queue, &exchange, "k"));
    }
    peer.expect(1, exchange::DeclareOk);
    for queue in &queues {
        peer.expect(1, declared(queue, 0, 0));
        peer.expect(1, queue::BindOk);
    }
    peer.publish(1, &exchange, "k", "to all");
    for queue in &queues {
        peer.send(1, durable(queue));
        peer.send(1, unbind(queue, &exchange, "k"));
        peer.send(1, delete(queue));
    }
    peer.send(1, exchange_delete(&exchange));
    for queue in &queues {
        peer.expect(1, declared(queue, 1, 0));
        peer.expect(1, queue::UnbindOk);
        peer.expect(1, deleted(1));
    }
    peer.expect(1, exchange::DeleteOk);
    peer.close();
}

#[test]
fn answers_of_every_kind_keep_the_order_of_what_was_asked() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let (first, second) = (unique("first"), unique("second"));
    peer.send(1, durable(&first));
    peer.send(1, consume(&first, "tag"));
    peer.send(1, durable(&second));
    peer.send(1, confirm::Select { no_wait: false });
    peer.send(1, delete(&second));
    peer.send(1, channel_close());
    peer.expect(1, declared(&first, 0, 0));
    peer.expect(1, consuming("tag"));
    peer.expect(1, declared(&second, 0, 0));
    peer.expect(1, confirm::SelectOk);
    peer.expect(1, deleted(0));
    peer.expect(1, channel::CloseOk);
    peer.open_channel(2);
    peer.send(2, tx::Select);
    peer.publish(2, "", &first, "committed");
    peer.send(2, tx::Commit);
    peer.publish(2, "", &first, "rolled back");
    peer.send(2, tx::Rollback);
    peer.send(2, delete(&first));
    peer.expect(2, tx::SelectOk);
    peer.expect(2, tx::CommitOk);
    peer.expect(2, tx::RollbackOk);
    peer.expect(2, deleted(1));
    peer.close();
}

#[test]
fn what_was_right_is_answered_before_the_channel_is_closed_for_a_mistake() {
    let broker = Broker::start();
    let mut peer = Peer::with_channel(&broker);
    let (queue, missing) = (unique("queue"), unique("missing"));
    peer.send(1, durable(&queue));
    peer.send(1, bind(&queue, "amq.direct", "k"));
    peer.send(1, bind(&missing, "amq.direct", "k"));
    peer.send(1, durable(&missing));
    peer.expect(1, declared(&queue, 0, 0));
    peer.expect(1, queue::BindOk);
    let text = format!("NOT_FOUND - no queue '{missing}' in vhost '/'");
    peer.expect_channel_close(1, 404, &text, MethodId::QUEUE_BIND);
    peer.open_channel(2);
    peer.ask(2, delete(&queue), deleted(0));
    peer.close();
}

#[test]
fn what_was_right_is_answered_before_the_connection_is_closed() {
    let broker = Broker::start();
    let queue = unique("queue");
    let mut peer = Peer::with_channel(&broker);
    peer.send(1, durable(&queue));
    peer.send(1, channel::Open);
    peer.expect(1, declared(&queue, 0, 0));
    let text = "CHANNEL_ERROR - second 'channel.open' seen";
    peer.expect_close(504, text, MethodId::CHANNEL_OPEN);
    let mut peer = Peer::with_channel(&broker);
    peer.send(1, durable(&queue));
    peer.send(1, delete(&queue));
    peer.send(0, close());
    peer.expect(1, declared(&queue, 0, 0));
    peer.expect(1, deleted(0));
    peer.expect(0, connection::CloseOk);
    peer.expect_eof();
}
