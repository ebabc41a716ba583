//! Values after known traffic of a real client, and counters that never go down, whatever ends.

use futures_lite::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicGetOptions, BasicPublishOptions, BasicQosOptions,
    BasicRejectOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind};

use crate::scrape::Scraped;
use crate::text::Page;

const RECEIVED: &str = "rabbitmq_global_messages_received_total{protocol=\"amqp091\"}";
const CLASSIC: &str = "protocol=\"amqp091\",queue_type=\"rabbit_classic_queue\"";

/// The broker's own name of a series of classic queues.
fn classic(name: &str) -> String {
    format!("rabbitmq_global_messages_{name}_total{{{CLASSIC}}}")
}

fn published(name: &str) -> String {
    format!("rabbitmq_global_messages_{name}_total{{protocol=\"amqp091\"}}")
}

async fn connect(scraped: &Scraped) -> Connection {
    let uri = scraped.broker.uri();
    Connection::connect(&uri, ConnectionProperties::default()).await.expect("lapin connects")
}

async fn declare(channel: &Channel, queue: &str, arguments: FieldTable) {
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), options, arguments).await.expect("a queue is declared");
}

/// Publishes and waits for the confirm, if there are any.
async fn publish(channel: &Channel, key: &str, body: &[u8], mandatory: bool) {
    let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default().with_delivery_mode(2);
    let confirm = channel.basic_publish("".into(), key.into(), options, body, properties).await;
    confirm.expect("it can be published").await.expect("it is confirmed");
}

/// Who made traffic, still there: a handle that is dropped closes what it stands for.
struct Traffic {
    connection: Connection,
    _channel: Channel,
    _consumer: Consumer,
}

/// Publishes 5 messages of 200 octets that are routed and 2 that are not; fetches one, gets 4 delivered, acknowledges 3
/// in all, and rejects one.
async fn known_traffic(scraped: &Scraped) -> Traffic {
    let connection = connect(scraped).await;
    let channel = connection.create_channel().await.expect("a channel is opened");
    channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms are on");
    let mut arguments = FieldTable::default();
    arguments.insert("x-dead-letter-exchange".into(), AMQPValue::LongString("".into()));
    arguments.insert("x-dead-letter-routing-key".into(), AMQPValue::LongString("dead".into()));
    declare(&channel, "dead", FieldTable::default()).await;
    declare(&channel, "a\"b\\c", arguments).await;
    for _ in 0..5 {
        publish(&channel, "a\"b\\c", &[7; 200], false).await;
    }
    publish(&channel, "nowhere", b"x", false).await;
    publish(&channel, "nowhere", b"x", true).await;
    let got = channel.basic_get("a\"b\\c".into(), BasicGetOptions::default()).await.expect("one can get");
    got.expect("there is a message").acker.ack(BasicAckOptions::default()).await.expect("it can be acked");
    let none = channel.basic_get("dead".into(), BasicGetOptions::default()).await.expect("one can get");
    assert!(none.is_none());
    channel.basic_qos(4, BasicQosOptions::default()).await.expect("a prefetch is set");
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer = channel.basic_consume("a\"b\\c".into(), "tag".into(), options, none).await;
    let mut consumer = consumer.expect("one can consume");
    for number in 0..4 {
        let delivery = consumer.next().await.expect("a delivery comes").expect("it is whole");
        match number {
            0 | 1 => _ = delivery.acker.ack(BasicAckOptions::default()).await.expect("it can be acked"),
            2 => {
                let options = BasicRejectOptions { requeue: false };
                delivery.acker.reject(options).await.expect("it can be rejected");
            }
            _ => {}
        }
    }
    Traffic { connection, _channel: channel, _consumer: consumer }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_are_those_of_the_traffic() {
    let scraped = Scraped::start();
    let Traffic { connection, .. } = &known_traffic(&scraped).await;
    let acknowledged = classic("acknowledged");
    let page = scraped.page_when("/metrics", |page| page.value(&acknowledged) == 3.0);
    for (series, value) in [
        (RECEIVED.to_owned(), 7.0),
        (published("received_confirm"), 7.0),
        (published("routed"), 5.0),
        (published("confirmed"), 7.0),
        (published("unroutable_dropped"), 1.0),
        (published("unroutable_returned"), 1.0),
        (classic("delivered"), 5.0),
        (classic("delivered_consume_manual_ack"), 4.0),
        (classic("delivered_consume_auto_ack"), 0.0),
        (classic("delivered_get_manual_ack"), 1.0),
        (classic("get_empty"), 1.0),
        (classic("redelivered"), 0.0),
        ("rabbitmq_message_size_bytes_count".to_owned(), 7.0),
        ("rabbitmq_message_size_bytes_sum".to_owned(), 1002.0),
        ("rabbitmq_message_size_bytes_bucket{le=\"100.0\"}".to_owned(), 2.0),
        ("rabbitmq_message_size_bytes_bucket{le=\"1000.0\"}".to_owned(), 7.0),
        ("rabbitmq_connections".to_owned(), 1.0),
        ("rabbitmq_channels".to_owned(), 1.0),
        ("rabbitmq_queues".to_owned(), 2.0),
        ("rabbitmq_consumers".to_owned(), 1.0),
        ("rabbitmq_global_publishers{protocol=\"amqp091\"}".to_owned(), 1.0),
        ("rabbitmq_global_consumers{protocol=\"amqp091\"}".to_owned(), 1.0),
        ("rabbitmq_queues_created_total".to_owned(), 2.0),
        ("rabbitmq_auth_attempts_succeeded_total".to_owned(), 1.0),
        ("rabbitmq_auth_attempts_failed_total".to_owned(), 0.0),
        ("rabbitmq_queue_messages_unacked".to_owned(), 1.0),
        ("rabbitmq_queue_messages_unacked_bytes".to_owned(), 200.0),
        ("rabbitmq_queue_messages_ready".to_owned(), 1.0),
        ("rabbitmq_channel_messages_published_total".to_owned(), 7.0),
        ("rabbitmq_exchange_messages_published_total".to_owned(), 7.0),
        (
            "rabbitmq_global_messages_dead_lettered_rejected_total{dead_letter_strategy=\"at_most_once\",\
             queue_type=\"rabbit_classic_queue\"}"
                .to_owned(),
            1.0,
        ),
    ] {
        assert_eq!(page.value(&series), value, "{series}");
    }
    assert!(page.value("leveret_journal_sync_seconds_count") >= 5.0);
    assert!(page.value("leveret_journal_sync_seconds_sum") > 0.0);
    assert_eq!(page.value("rabbitmq_io_sync_ops_total"), page.value("leveret_journal_sync_seconds_count"));
    assert!(page.value("leveret_journal_written_bytes_total") > 1000.0);
    assert!(page.value("leveret_message_memory_bytes") > 0.0);
    assert!(page.value("rabbitmq_connection_incoming_bytes_total") > 1400.0);
    connection.close(200, "done".into()).await.expect("the connection closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn per_object_pages_have_the_objects_and_detailed_ones_what_was_asked_for() {
    let scraped = Scraped::start();
    let Traffic { connection, .. } = &known_traffic(&scraped).await;
    let ready = "rabbitmq_queue_messages_ready{queue=\"dead\",vhost=\"/\"}";
    let page = scraped.page_when("/metrics/per-object", |page| page.value(ready) == 1.0);
    assert_eq!(page.value("rabbitmq_queue_messages_acked_total{queue=\"a\"b\\c\",vhost=\"/\"}"), 3.0);
    assert_eq!(page.value("rabbitmq_exchange_messages_published_total{exchange=\"\",vhost=\"/\"}"), 7.0);
    assert_eq!(
        page.value(
            "rabbitmq_queue_info{membership=\"leader\",queue=\"dead\",queue_type=\"rabbit_classic_queue\",\
             vhost=\"/\"}"
        ),
        1.0
    );
    let (channel, published) =
        page.series("rabbitmq_channel_messages_published_total").next().expect("a channel is there");
    assert!(channel.contains("127.0.0.1:") && channel.ends_with("(1)\"}"), "{channel}");
    assert_eq!(published, 7.0);
    assert_eq!(page.series("rabbitmq_connection_channels").map(|(_, count)| count).sum::<f64>(), 1.0);

    let coarse = "family=queue_coarse_metrics&family=queue_consumer_count";
    let page = scraped.page(&format!("/metrics/detailed?{coarse}&vhost=%2F&queue=%5Edea"));
    let names: Vec<_> = page.types.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "rabbitmq_build_info",
            "rabbitmq_detailed_queue_consumers",
            "rabbitmq_detailed_queue_info",
            "rabbitmq_detailed_queue_messages",
            "rabbitmq_detailed_queue_messages_ready",
            "rabbitmq_detailed_queue_messages_unacked",
            "rabbitmq_identity_info",
        ]
    );
    assert_eq!(page.series("rabbitmq_detailed_queue_messages").count(), 1);
    let elsewhere = scraped.page(&format!("/metrics/detailed?{coarse}&vhost=other"));
    assert_eq!(elsewhere.series("rabbitmq_detailed_queue_messages").count(), 0);
    let cluster =
        scraped.page("/metrics/detailed?family=vhost_status&family=exchange_bindings&family=exchange_names");
    assert_eq!(cluster.value("rabbitmq_cluster_vhost_status{vhost=\"/\"}"), 1.0);
    let direct = "{exchange=\"amq.direct\",type=\"direct\",vhost=\"/\"}";
    assert_eq!(cluster.value(&format!("rabbitmq_cluster_exchange_bindings{direct}")), 0.0);
    assert_eq!(cluster.value(&format!("rabbitmq_cluster_exchange_name{direct}")), 1.0);
    connection.close(200, "done".into()).await.expect("the connection closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_only_grow_while_channels_close_and_queues_are_deleted() {
    let scraped = Scraped::start();
    let mut before: Option<Page> = None;
    for round in 1..=3 {
        let Traffic { connection, .. } = &known_traffic(&scraped).await;
        let acknowledged = classic("acknowledged");
        let page = scraped.page_when("/metrics", |page| page.value(&acknowledged) == 3.0 * f64::from(round));
        grown(before.as_ref(), &page);
        let channel = connection.create_channel().await.expect("a channel is opened");
        for queue in ["a\"b\\c", "dead"] {
            let options = QueueDeleteOptions::default();
            channel.queue_delete(queue.into(), options).await.expect("a queue is deleted");
            grown(Some(&page), &scraped.page("/metrics"));
        }
        connection.close(200, "done".into()).await.expect("the connection closes");
        let closed = scraped.page_when("/metrics", |page| page.value("rabbitmq_connections") == 0.0);
        grown(Some(&page), &closed);
        assert_eq!(closed.value(RECEIVED), 7.0 * f64::from(round));
        assert_eq!(closed.value(&acknowledged), 3.0 * f64::from(round));
        assert_eq!(closed.value("rabbitmq_channels_closed_total"), 2.0 * f64::from(round));
        assert_eq!(closed.value("rabbitmq_queue_messages"), 0.0);
        before = Some(closed);
    }
}

/// No counter of the later page is lower, and none is missing.
fn grown(before: Option<&Page>, after: &Page) {
    let Some(before) = before else { return };
    for (name, _) in before.types.iter().filter(|(_, kind)| *kind == "counter") {
        for (series, value) in before.series(name) {
            assert!(after.value(series) >= value, "{series}: {value}, then {}", after.value(series));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_in_a_delayed_exchange_and_what_was_dropped_as_a_duplicate_is_shown() {
    let scraped = Scraped::start();
    let connection = connect(&scraped).await;
    let channel = connection.create_channel().await.expect("a channel is opened");
    let mut arguments = FieldTable::default();
    arguments.insert("x-delayed-type".into(), AMQPValue::LongString("fanout".into()));
    let kind = ExchangeKind::Custom("x-delayed-message".to_owned());
    let options = ExchangeDeclareOptions::default();
    channel.exchange_declare("later".into(), kind, options, arguments).await.expect("it can be declared");
    declare(&channel, "q", FieldTable::default()).await;
    channel
        .queue_bind("q".into(), "later".into(), "".into(), Default::default(), FieldTable::default())
        .await
        .expect("it can be bound");
    let mut headers = FieldTable::default();
    headers.insert("x-delay".into(), AMQPValue::LongInt(3_600_000));
    let properties = BasicProperties::default().with_headers(headers);
    let options = BasicPublishOptions::default();
    channel
        .basic_publish("later".into(), "".into(), options, &[0; 30], properties)
        .await
        .expect("it can be published");
    let page = scraped.page_when("/metrics", |page| page.value("leveret_delayed_messages") == 1.0);
    assert_eq!(page.value("leveret_delayed_message_bytes"), 30.0);
    assert_eq!(page.value("leveret_deduplication_dropped_total"), 0.0);
    let page = scraped.page("/metrics/per-object");
    assert_eq!(page.value("leveret_delayed_messages{exchange=\"later\",vhost=\"/\"}"), 1.0);
    connection.close(200, "done".into()).await.expect("the connection closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_times_are_sampled() {
    let scraped = Scraped::start();
    let Traffic { connection, .. } = &known_traffic(&scraped).await;
    // The first message was fetched by basic.get; that one is not a sample, and another batch is the next.
    let channel = connection.create_channel().await.expect("a channel is opened");
    declare(&channel, "timed", FieldTable::default()).await;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer = channel.basic_consume("timed".into(), "timed".into(), options, none).await;
    let mut consumer = consumer.expect("one can consume");
    publish(&channel, "timed", b"now", false).await;
    consumer.next().await.expect("a delivery comes").expect("it is whole");
    let page =
        scraped.page_when("/metrics", |page| page.value("leveret_publish_to_deliver_seconds_count") >= 1.0);
    assert!(page.value("leveret_publish_to_deliver_seconds_sum") > 0.0);
    connection.close(200, "done".into()).await.expect("the connection closes");
}
