//! The Rust client lapin, a part of this test binary itself, run through the story.
//!
//! A step is an async function that asserts what it sees; what the library refuses ends it as an error. `Story`
//! here holds what the steps share, the modules below hold the steps.

mod consuming;
mod failures;
mod publishing;
mod topology;

use std::future::Future;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_lite::StreamExt as _;
use lapin::message::{BasicGetMessage, Delivery};
use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ErrorKind, Result};

use crate::support::{Broker, PROGRAM_MAX, STORY};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lapin_runs_the_story() {
    let broker = Broker::start();
    let story = Story::open(broker.uri()).await.expect("lapin connects");
    let s = &story;
    let told = [
        step("connect", connect(s)).await,
        step("declare_exchanges", topology::declare_exchanges(s)).await,
        step("declare_queues", topology::declare_queues(s)).await,
        step("bind_and_route", topology::bind_and_route(s)).await,
        step("properties", publishing::properties(s)).await,
        step("acknowledgements", consuming::acknowledgements(s)).await,
        step("prefetch", consuming::prefetch(s)).await,
        step("confirms", publishing::confirms(s)).await,
        step("mandatory_return", publishing::mandatory_return(s)).await,
        step("transactions", publishing::transactions(s)).await,
        step("get", consuming::get(s)).await,
        step("rpc_direct_reply_to", publishing::rpc_direct_reply_to(s)).await,
        step("large_body", publishing::large_body(s)).await,
        step("server_sent_cancel", consuming::server_sent_cancel(s)).await,
        step("channel_errors", failures::channel_errors(s)).await,
        step("wrong_password", failures::wrong_password(s)).await,
        step("heartbeats", failures::heartbeats(s)).await,
        step("alternate_exchange", topology::alternate_exchange(s)).await,
        step("cc_header", topology::cc_header(s)).await,
        step("consumer_tags", consuming::consumer_tags(s)).await,
        step("purge", topology::purge(s)).await,
        step("delete_conditions", topology::delete_conditions(s)).await,
        step("exclusive_consumer", consuming::exclusive_consumer(s)).await,
        step("recover", consuming::recover(s)).await,
    ];
    assert_eq!(told, STORY);
    story.connection.close(200, "done".into()).await.expect("the connection closes");
}

/// Runs one step to its end and gives its name back.
async fn step(name: &'static str, work: impl Future<Output = Result<()>>) -> &'static str {
    match tokio::time::timeout(PROGRAM_MAX, work).await {
        Ok(Ok(())) => println!("ok {name}"),
        Ok(Err(error)) => panic!("{name}: {error}"),
        Err(_) => panic!("{name}: not done in {PROGRAM_MAX:?}"),
    }
    name
}

/// What is looked at here is what was negotiated: the library shows nobody the server's properties.
async fn connect(story: &Story) -> Result<()> {
    let status = story.connection.status();
    assert!(status.connected());
    assert_eq!(status.vhost().as_str(), "/");
    assert_eq!(status.username(), "guest");
    let negotiated = story.connection.configuration();
    assert!(negotiated.frame_max() >= 8192, "frame_max is {}", negotiated.frame_max());
    assert!(negotiated.channel_max() > 0);
    story.channel().await?.close(200, "done".into()).await
}

/// What the steps share: one connection, and a prefix that no other run uses for its names.
struct Story {
    uri: String,
    run: String,
    connection: Connection,
}

impl Story {
    async fn open(uri: String) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Short, for the broker cuts a reply text after 255 characters.
        let run = format!("lapin-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let connection = Connection::connect(&uri, ConnectionProperties::default()).await?;
        Ok(Self { uri, run, connection })
    }

    /// A queue's or exchange's name of this run.
    fn name(&self, what: &str) -> ShortString {
        format!("{}.{what}", self.run).into()
    }

    /// Opens a channel that confirms what is published.
    async fn channel(&self) -> Result<Channel> {
        let channel = self.connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    }

    /// Declares an exclusive queue, which goes with the connection.
    async fn exclusive_queue(&self, channel: &Channel, what: &str) -> Result<ShortString> {
        let options = QueueDeclareOptions::exclusive();
        let queue = channel.queue_declare(self.name(what), options, FieldTable::default()).await?;
        Ok(queue.name().clone())
    }
}

/// Publishes a message and waits until the broker has confirmed it.
async fn publish(
    channel: &Channel,
    exchange: &ShortString,
    key: &str,
    body: &[u8],
    properties: BasicProperties,
) -> Result<()> {
    let options = BasicPublishOptions::default();
    let confirm = channel.basic_publish(exchange.clone(), key.into(), options, body, properties).await?;
    assert!(confirm.await?.is_ack());
    Ok(())
}

/// Publishes one message per text to a queue.
async fn publish_texts(channel: &Channel, queue: &ShortString, texts: &[&str]) -> Result<()> {
    for body in texts {
        publish(channel, &"".into(), queue.as_str(), body.as_bytes(), BasicProperties::default()).await?;
    }
    Ok(())
}

/// Starts a consumer that acknowledges by hand.
async fn consume(channel: &Channel, queue: &ShortString, tag: &str) -> Result<Consumer> {
    let options = BasicConsumeOptions::default();
    channel.basic_consume(queue.clone(), tag.into(), options, FieldTable::default()).await
}

/// Waits for the next delivery; `step` sets the deadline.
async fn next(consumer: &mut Consumer) -> Result<Delivery> {
    consumer.next().await.expect("the consumer goes on")
}

/// Waits for a delivery with this body.
async fn receive(consumer: &mut Consumer, body: &str) -> Result<Delivery> {
    let delivery = next(consumer).await?;
    assert_eq!(String::from_utf8_lossy(&delivery.data), body);
    Ok(delivery)
}

/// Takes a message with this body off the queue, unacknowledged.
async fn take(channel: &Channel, queue: &ShortString, body: &str) -> Result<BasicGetMessage> {
    let message = channel.basic_get(queue.clone(), BasicGetOptions::default()).await?;
    let message = message.unwrap_or_else(|| panic!("no message `{body}` in {queue}"));
    assert_eq!(String::from_utf8_lossy(&message.data), body);
    Ok(message)
}

/// Asks the broker for the ready messages of a queue.
async fn assert_counts(channel: &Channel, queue: &ShortString, messages: u32) -> Result<()> {
    let options = QueueDeclareOptions::default().passive();
    let declared = channel.queue_declare(queue.clone(), options, FieldTable::default()).await?;
    assert_eq!(declared.message_count(), messages, "messages in {queue}");
    Ok(())
}

/// Panics unless the broker refused with this reply code and text.
fn assert_refused<T>(result: Result<T>, code: u16, text: &str) {
    let Err(error) = result else { panic!("not refused: {text}") };
    let ErrorKind::ProtocolError(refusal) = error.kind() else { panic!("not a refusal: {error}") };
    assert_eq!((refusal.get_id(), refusal.get_message().as_str()), (code, text));
}

/// A table of these fields.
fn table<const N: usize>(fields: [(&str, lapin::types::AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in fields {
        table.insert(name.into(), value);
    }
    table
}
