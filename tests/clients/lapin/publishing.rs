//! What is published arrives as it was, and the publisher is told: properties, confirms, returns, transactions.

use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions};
use lapin::types::{AMQPValue, ByteArray, DecimalValue, FieldArray, FieldTable, LongString, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Result};

use super::{Story, assert_counts, consume, next, publish, publish_texts, receive, table, take};

const PERSISTENT: u8 = 2;
const CONFIRMS: u32 = 1000;
const LARGE_BODY_BYTES: usize = 5 * 1024 * 1024;

pub(super) async fn properties(story: &Story) -> Result<()> {
    let channel = story.channel().await?;
    let queue = story.exclusive_queue(&channel, "properties").await?;
    let sent = BasicProperties::default()
        .with_content_type("application/octet-stream".into())
        .with_content_encoding("gzip".into())
        .with_headers(headers_of_every_type())
        .with_delivery_mode(PERSISTENT)
        .with_priority(7)
        .with_correlation_id("correlation".into())
        .with_reply_to("reply.here".into())
        .with_expiration("60000".into())
        .with_message_id("message-1".into())
        .with_timestamp(1_700_000_000)
        .with_type("a.type".into())
        .with_user_id("guest".into())
        .with_app_id("story".into())
        .with_cluster_id("cluster".into());
    publish(&channel, &"".into(), queue.as_str(), &[0, 1, 2, 254, 255], sent.clone()).await?;

    let mut consumer = consume(&channel, &queue, "").await?;
    let delivery = next(&mut consumer).await?;
    assert_eq!(delivery.properties, sent);
    assert_eq!(delivery.data, [0, 1, 2, 254, 255]);

    // Properties that were not set do not appear.
    publish(&channel, &"".into(), queue.as_str(), b"", BasicProperties::default()).await?;
    let bare = next(&mut consumer).await?;
    assert_eq!(bare.properties, BasicProperties::default());
    assert!(bare.data.is_empty());
    channel.close(200, "done".into()).await
}

fn headers_of_every_type() -> FieldTable {
    let array = FieldArray::from(vec![
        AMQPValue::LongString(LongString::from("one")),
        AMQPValue::LongInt(2),
        AMQPValue::FieldTable(table([("three", AMQPValue::LongLongInt(3))])),
        AMQPValue::FieldArray(FieldArray::from(vec![AMQPValue::Boolean(false)])),
    ]);
    let inner = table([("innermost", AMQPValue::LongString(LongString::from("deep")))]);
    let nested = table([
        ("inner", AMQPValue::FieldTable(inner)),
        ("empty", AMQPValue::FieldTable(FieldTable::default())),
    ]);
    table([
        ("bool", AMQPValue::Boolean(true)),
        ("i8", AMQPValue::ShortShortInt(-8)),
        ("u8", AMQPValue::ShortShortUInt(200)),
        ("i16", AMQPValue::ShortInt(-1600)),
        ("u16", AMQPValue::ShortUInt(60_000)),
        ("i32", AMQPValue::LongInt(-320_000)),
        ("u32", AMQPValue::LongUInt(4_000_000_000)),
        ("i64", AMQPValue::LongLongInt(-6_400_000_000)),
        ("f32", AMQPValue::Float(1.5)),
        ("f64", AMQPValue::Double(2.25)),
        ("decimal", AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 31_415 })),
        ("string", AMQPValue::LongString(LongString::from("žluťoučký kůň"))),
        ("bytes", AMQPValue::ByteArray(ByteArray::from(vec![0, 255, 206]))),
        ("timestamp", AMQPValue::Timestamp(1_700_000_000)),
        ("void", AMQPValue::Void),
        ("array", AMQPValue::FieldArray(array)),
        ("table", AMQPValue::FieldTable(nested)),
    ])
}

pub(super) async fn large_body(story: &Story) -> Result<()> {
    let channel = story.channel().await?;
    let queue = story.exclusive_queue(&channel, "large").await?;
    let body: Vec<u8> = (0..LARGE_BODY_BYTES).map(|i| ((i * 31) >> 3).to_le_bytes()[0]).collect();
    publish(&channel, &"".into(), queue.as_str(), &body, BasicProperties::default()).await?;
    let delivery = next(&mut consume(&channel, &queue, "").await?).await?;
    assert_eq!(delivery.data.len(), body.len());
    assert!(delivery.data == body, "the large body came back changed");
    delivery.ack(BasicAckOptions::default()).await?;
    channel.close(200, "done".into()).await
}

pub(super) async fn confirms(story: &Story) -> Result<()> {
    let channel = story.channel().await?;
    let queue = story.exclusive_queue(&channel, "confirmed").await?;
    publish_texts(&channel, &queue, &["alone"]).await?;

    // The library spreads a `multiple` ack over all the confirmations it is about.
    let mut pending = Vec::new();
    for number in 0..CONFIRMS {
        let body = number.to_string();
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        let options = BasicPublishOptions::default();
        let published =
            channel.basic_publish("".into(), queue.clone(), options, body.as_bytes(), properties).await?;
        pending.push(published);
    }
    for confirm in pending {
        assert_eq!(confirm.await?, Confirmation::Ack(None));
    }
    assert_counts(&channel, &queue, 1 + CONFIRMS).await?;

    // A message nobody wants is confirmed as well.
    let nowhere = story.name("nowhere");
    publish(&channel, &"amq.direct".into(), nowhere.as_str(), b"nobody", BasicProperties::default()).await?;
    channel.close(200, "done".into()).await
}

pub(super) async fn mandatory_return(story: &Story) -> Result<()> {
    let channel = story.channel().await?;
    let nowhere = story.name("nowhere");
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let properties = BasicProperties::default().with_message_id("returned-1".into());
    let published = channel
        .basic_publish("amq.direct".into(), nowhere.clone(), options, b"come back", properties.clone())
        .await?;
    // The library hands over with the confirm what was returned before it.
    let returned = published.await?.take_message().expect("the message comes back before its confirm");
    assert_eq!((returned.reply_code, returned.reply_text.as_str()), (312, "NO_ROUTE"));
    assert_eq!((returned.exchange.as_str(), &returned.routing_key), ("amq.direct", &nowhere));
    assert_eq!(returned.properties, properties);
    assert_eq!(returned.data, b"come back");
    channel.close(200, "done".into()).await
}

pub(super) async fn transactions(story: &Story) -> Result<()> {
    let channel = story.connection.create_channel().await?;
    let witness = story.channel().await?;
    let queue = story.exclusive_queue(&channel, "transactional").await?;
    channel.tx_select().await?;
    put(&channel, &queue, "committed").await?;
    assert_counts(&witness, &queue, 0).await?;
    channel.tx_commit().await?;
    assert_counts(&witness, &queue, 1).await?;
    put(&channel, &queue, "rolled back").await?;
    channel.tx_rollback().await?;
    assert_counts(&witness, &queue, 1).await?;

    // An ack that is rolled back leaves the message with the channel.
    let held = take(&channel, &queue, "committed").await?.delivery_tag;
    channel.basic_ack(held, BasicAckOptions::default()).await?;
    channel.tx_rollback().await?;
    channel.basic_nack(held, BasicNackOptions { requeue: true, ..Default::default() }).await?;
    channel.tx_commit().await?;
    let message = take(&channel, &queue, "committed").await?;
    assert!(message.redelivered);
    message.ack(BasicAckOptions::default()).await?;
    channel.tx_commit().await?;
    assert_counts(&witness, &queue, 0).await?;
    witness.close(200, "done".into()).await?;
    channel.close(200, "done".into()).await
}

/// Publishes without waiting for a confirm, as a transaction has to.
async fn put(channel: &Channel, queue: &ShortString, body: &str) -> Result<()> {
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let published =
        channel.basic_publish("".into(), queue.clone(), options, body.as_bytes(), properties).await?;
    assert_eq!(published.await?, Confirmation::NotRequested);
    Ok(())
}

pub(super) async fn rpc_direct_reply_to(story: &Story) -> Result<()> {
    let (channel, server) = (story.channel().await?, story.channel().await?);
    let reply_to = ShortString::from("amq.rabbitmq.reply-to");
    let queue = story.exclusive_queue(&server, "rpc").await?;
    let mut requests = consume(&server, &queue, "").await?;
    let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut replies =
        channel.basic_consume(reply_to.clone(), "".into(), no_ack, FieldTable::default()).await?;
    for correlation_id in ["0", "1", "2"] {
        let properties = BasicProperties::default()
            .with_reply_to(reply_to.clone())
            .with_correlation_id(correlation_id.into());
        publish(&channel, &"".into(), queue.as_str(), b"question", properties).await?;

        let request = receive(&mut requests, "question").await?;
        let opaque = request.properties.reply_to().clone().expect("a reply-to");
        assert!(opaque.as_str().starts_with("amq.rabbitmq.reply-to."), "{opaque}");
        let asked = request.properties.correlation_id().clone().expect("a correlation-id");
        let properties = BasicProperties::default().with_correlation_id(asked);
        publish(&server, &"".into(), opaque.as_str(), b"answer", properties).await?;
        request.ack(BasicAckOptions::default()).await?;

        let reply = receive(&mut replies, "answer").await?;
        assert_eq!(reply.properties.correlation_id(), &Some(correlation_id.into()));
    }
    server.close(200, "done".into()).await?;
    channel.close(200, "done".into()).await
}
