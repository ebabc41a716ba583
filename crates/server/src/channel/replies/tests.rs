//! The list of answers by itself, then the answers of a broker whose store makes nothing safe before it is told to.

use leveret_codec::method::{basic, channel, confirm, connection, queue, tx};
use leveret_codec::table::FieldTable;
use tokio::time::timeout;

use super::*;
use crate::alarms::Reason;
use crate::held::{Client, PATIENCE};

const NO_POSITION: Option<JournalPosition> = None;

fn push(replies: &mut Replies, position: u64, text: &str) {
    replies.push(JournalPosition(position), |out| out.extend_from_slice(text.as_bytes()));
}

fn released(replies: &mut Replies, safe: u64) -> String {
    let mut text = String::new();
    replies.release(JournalPosition(safe), |octets| text.push_str(std::str::from_utf8(octets).unwrap()));
    text
}

#[test]
fn answers_leave_in_order_as_they_become_safe() {
    let mut replies = Replies::default();
    push(&mut replies, 3, "a");
    push(&mut replies, 3, "b");
    push(&mut replies, 7, "c");
    push(&mut replies, 0, "d");
    push(&mut replies, 9, "e");
    assert_eq!(released(&mut replies, 2), "");
    assert_eq!(released(&mut replies, 3), "ab");
    assert_eq!(released(&mut replies, 8), "cd", "what is safe before its time waits for its turn");
    assert!(!replies.is_empty());
    assert_eq!(released(&mut replies, 9), "e");
    assert!(replies.is_empty());
}

#[test]
fn one_listener_waits_for_the_front() {
    let mut replies = Replies::default();
    assert_eq!(replies.wanted_position(), NO_POSITION);
    push(&mut replies, 3, "a");
    push(&mut replies, 7, "b");
    assert_eq!(replies.wanted_position(), Some(JournalPosition(3)));
    assert_eq!(replies.wanted_position(), NO_POSITION);
    released(&mut replies, 5);
    assert_eq!(replies.wanted_position(), Some(JournalPosition(7)));
    push(&mut replies, JournalPosition::NEVER.0, "c");
    released(&mut replies, 7);
    assert_eq!(replies.wanted_position(), NO_POSITION, "nobody waits for what never comes");
    assert!(!replies.is_empty());
}

#[test]
fn more_answers_than_there_is_room_for_are_not_asked_for() {
    let mut replies = Replies::default();
    push(&mut replies, 1, &"x".repeat(REPLIES_BYTES_MAX - 1));
    assert!(!replies.is_full());
    push(&mut replies, 2, "y");
    assert!(replies.is_full());
    released(&mut replies, 1);
    assert!(!replies.is_full());
}

fn get(queue: &str) -> Method<'_> {
    Method::BasicGet(basic::Get { queue, no_ack: true })
}

fn bind(queue: &str) -> Method<'_> {
    let arguments = FieldTable::new();
    Method::QueueBind(queue::Bind {
        queue,
        exchange: "amq.direct",
        routing_key: "k",
        no_wait: false,
        arguments,
    })
}

const CLOSE: Method<'_> =
    Method::ConnectionClose(connection::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 });

#[tokio::test]
async fn many_declarations_wait_for_one_sync_and_publishes_go_on_behind_them() {
    let mut client = Client::open().await;
    for number in 0..1000 {
        client.declare(&format!("q{number}")).await;
    }
    client.publish("q7", false).await;
    client.store.await_told(1001).await;
    assert!(client.is_silent());
    client.store.release(600);
    for number in 0..600 {
        assert_eq!(client.declared().await, format!("q{number}"));
    }
    assert!(client.is_silent());
    client.store.release(1001);
    for number in 600..1000 {
        assert_eq!(client.declared().await, format!("q{number}"));
    }
}

#[tokio::test]
async fn a_client_that_asks_for_more_than_may_wait_gets_all_of_it() {
    let mut client = Client::open().await;
    let name = |number: usize| format!("{number:0200}");
    let count = REPLIES_BYTES_MAX / 200 + 50;
    for number in 0..count {
        client.declare(&name(number)).await;
    }
    let mut expected = 0;
    while expected < count {
        client.store.await_told(expected as u64 + 1).await;
        client.store.release(client.store.told());
        assert_eq!(client.declared().await, name(expected));
        expected += 1;
    }
}

#[tokio::test]
async fn what_is_answered_otherwise_waits_for_the_answers_before_it() {
    let mut client = Client::open().await;
    client.declare("q").await;
    client.send(1, &bind("q")).await;
    client.send(1, &Method::QueuePurge(queue::Purge { queue: "q", no_wait: false })).await;
    client.send(1, &get("q")).await;
    client.declare("r").await;
    client.store.await_told(2).await;
    client.store.release(1);
    assert_eq!(client.declared().await, "q");
    client.store.release(2);
    client.expect(MethodId::QUEUE_BIND_OK).await;
    client.expect(MethodId::QUEUE_PURGE_OK).await;
    client.expect(MethodId::BASIC_GET_EMPTY).await;
    client.store.await_told(3).await;
    client.store.release(3);
    assert_eq!(client.declared().await, "r");
}

#[tokio::test]
async fn a_mistake_is_answered_behind_what_was_right() {
    let mut client = Client::open().await;
    client.declare("q").await;
    client.send(1, &bind("q")).await;
    client.send(1, &bind("missing")).await;
    client.declare("ignored").await;
    client.store.await_told(2).await;
    client.store.release(2);
    assert_eq!(client.declared().await, "q");
    client.expect(MethodId::QUEUE_BIND_OK).await;
    client.expect(MethodId::CHANNEL_CLOSE).await;
    client.send(1, &Method::ChannelCloseOk(channel::CloseOk)).await;
    client.send(1, &Method::ChannelOpen(channel::Open)).await;
    client.expect(MethodId::CHANNEL_OPEN_OK).await;
    client.declare("r").await;
    // A mistake for which the connection is closed.
    client.send(1, &Method::ChannelOpen(channel::Open)).await;
    client.store.await_told(3).await;
    assert_eq!(client.store.told(), 3, "what comes behind a mistake is ignored");
    client.store.release(3);
    assert_eq!(client.declared().await, "r");
    client.expect(MethodId::CONNECTION_CLOSE).await;
}

#[tokio::test]
async fn an_orderly_close_is_answered_behind_them_and_a_vanished_client_ends_at_once() {
    let mut client = Client::open().await;
    client.declare("q").await;
    client.send(0, &CLOSE).await;
    client.store.await_told(1).await;
    client.store.release(1);
    assert_eq!(client.declared().await, "q");
    client.expect(MethodId::CONNECTION_CLOSE_OK).await;

    let mut client = Client::open().await;
    client.declare("q").await;
    // Of a mistake, too, that waits for an answer.
    client.send(1, &bind("missing")).await;
    client.store.await_told(1).await;
    let (served, server) = (client.served, client.server);
    drop(client.stream);
    timeout(PATIENCE, served).await.expect("nothing holds its end up").expect("it does not fail");
    assert!(server.broker.vhost("/").unwrap().queue("q", leveret_broker::ConnectionId::next()).is_ok());
}

#[tokio::test]
async fn commits_are_answered_when_they_are_safe_and_returns_of_the_next_stay_behind() {
    let mut client = Client::open().await;
    client.declare("q").await;
    client.store.await_told(1).await;
    client.store.release(1);
    client.declared().await;
    client.send(1, &Method::TxSelect(tx::Select)).await;
    client.expect(MethodId::TX_SELECT_OK).await;
    for mandatory in [false, true] {
        client.publish("q", false).await;
        client.publish("nowhere", mandatory).await;
        client.send(1, &Method::TxCommit(tx::Commit)).await;
    }
    client.store.await_told(2).await;
    assert!(client.is_silent());
    client.store.release(2);
    client.expect(MethodId::TX_COMMIT_OK).await;
    client.expect(MethodId::BASIC_RETURN).await;
    client.store.await_told(3).await;
    client.store.release(3);
    client.expect(MethodId::TX_COMMIT_OK).await;
}

#[tokio::test]
async fn a_publisher_that_is_held_up_gets_its_confirms() {
    let mut client = Client::open().await;
    client.store.release(2);
    client.declare("q").await;
    client.declared().await;
    client.send(1, &Method::ConfirmSelect(confirm::Select { no_wait: false })).await;
    client.expect(MethodId::CONFIRM_SELECT_OK).await;
    client.store.release(1);
    client.publish("q", false).await;
    client.store.await_told(2).await;
    // A hold that passes is not told to clients, an alarm is.
    client.server.alarms.set(Reason::JournalBehind, true);
    client.publish("q", false).await;
    client.server.alarms.set(Reason::Disk, true);
    let blocked = client.expect(MethodId::CONNECTION_BLOCKED).await;
    assert!(matches!(
        Method::decode(&blocked),
        Ok(Method::ConnectionBlocked(connection::Blocked { reason: "low on disk" }))
    ));
    client.store.release(2);
    client.expect(MethodId::BASIC_ACK).await;
    client.server.alarms.set(Reason::Disk, false);
    client.expect(MethodId::CONNECTION_UNBLOCKED).await;
    assert_eq!(client.store.told(), 2, "the journal is still behind");
    client.server.alarms.set(Reason::JournalBehind, false);
    client.store.await_told(3).await;
    client.store.release(3);
    client.expect(MethodId::BASIC_ACK).await;
}
