//! A client that connects, so that there is something to list.

use std::thread;
use std::time::{Duration, Instant};

use lapin::options::{
    BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind};
use tokio::runtime::Runtime;

use crate::support::PROGRAM_MAX;

/// A connection with a channel, a consumer, and things it has declared.
pub(crate) struct Client {
    runtime: Runtime,
    connection: Connection,
    channel: Channel,
    _consumer: Consumer,
}

fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (key, value) in entries {
        table.insert((*key).into(), value.clone());
    }
    table
}

impl Client {
    /// Declares a classic queue `shapes` and a quorum queue `quorum`, binds and consumes from the first.
    pub(crate) fn connect(port: u16) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let (connection, channel, consumer) = runtime.block_on(async {
            let uri = format!("amqp://guest:guest@127.0.0.1:{port}/%2F?connection_timeout=30000");
            let name = "the shape of things".into();
            let properties = ConnectionProperties::default().with_connection_name(name);
            let connection = Connection::connect(&uri, properties).await.expect("the client connects");
            let channel = connection.create_channel().await.expect("a channel");
            let durable = QueueDeclareOptions { durable: true, ..Default::default() };
            let ttl = table(&[("x-message-ttl", AMQPValue::LongInt(600_000))]);
            channel.queue_declare("shapes".into(), durable, ttl).await.expect("a classic queue");
            let quorum = table(&[("x-queue-type", AMQPValue::LongString("quorum".into()))]);
            channel.queue_declare("quorum".into(), durable, quorum).await.expect("a quorum queue");
            let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
            channel.queue_declare("mine".into(), exclusive, FieldTable::default()).await.expect("a queue");
            let options = ExchangeDeclareOptions { durable: true, ..Default::default() };
            let (name, kind) = ("shapes.topic".into(), ExchangeKind::Topic);
            channel.exchange_declare(name, kind, options, FieldTable::default()).await.expect("an exchange");
            for (key, arguments) in [("a.#", table(&[])), ("b c/d", table(&[("n", AMQPValue::LongInt(1))]))] {
                let (queue, exchange) = ("shapes".into(), "shapes.topic".into());
                let options = QueueBindOptions::default();
                channel.queue_bind(queue, exchange, key.into(), options, arguments).await.expect("a binding");
            }
            channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
            channel.basic_qos(5, BasicQosOptions::default()).await.expect("a prefetch");
            let options = BasicConsumeOptions::default();
            let consumer =
                channel.basic_consume("shapes".into(), "tag".into(), options, FieldTable::default());
            (connection, channel.clone(), consumer.await.expect("a consumer"))
        });
        Self { runtime, connection, channel, _consumer: consumer }
    }

    /// Publishes to both queues and to none, and gets from the quorum queue.
    pub(crate) fn use_once(&self) {
        self.runtime.block_on(async {
            let properties =
                || BasicProperties::default().with_delivery_mode(2).with_timestamp(1_700_000_000);
            for (exchange, key) in [("shapes.topic", "a.b"), ("", "quorum"), ("", "nowhere")] {
                let options = BasicPublishOptions::default();
                let published = self.channel.basic_publish(
                    exchange.into(),
                    key.into(),
                    options,
                    b"0123456789",
                    properties(),
                );
                published.await.expect("published").await.expect("confirmed");
            }
            let got = self.channel.basic_get("quorum".into(), BasicGetOptions::default()).await;
            assert!(got.expect("basic.get works").is_some());
        });
    }

    /// Whether a message is published and confirmed within this time; it is confirmed later if not.
    pub(crate) fn publishes_within(&self, limit: Duration) -> bool {
        self.runtime.block_on(async {
            let (exchange, key) = ("".into(), "quorum".into());
            let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
            let published = self.channel.basic_publish(exchange, key, options, b"x", properties);
            let confirm = published.await.expect("published");
            tokio::time::timeout(limit, confirm).await.is_ok()
        })
    }

    /// Whether the connection is open.
    pub(crate) fn is_connected(&self) -> bool {
        self.connection.status().connected()
    }

    /// Waits until the client has learned that its connection was closed, which may be after others have.
    pub(crate) fn wait_until_closed(&self) {
        let deadline = Instant::now() + PROGRAM_MAX;
        while self.is_connected() {
            assert!(Instant::now() < deadline, "the connection is still open");
            thread::sleep(Duration::from_millis(10));
        }
    }
}
