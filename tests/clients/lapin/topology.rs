//! Exchanges, queues and bindings: the steps of the story that declare, route and delete.

use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicNackOptions, ExchangeBindOptions, ExchangeDeclareOptions,
    ExchangeDeleteOptions, ExchangeUnbindOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
    QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldArray, FieldTable, LongString, ShortString};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind, Result};

use super::{Story, assert_counts, assert_refused, consume, publish, publish_texts, table, take};

pub(super) async fn declare_exchanges(story: &Story) -> Result<()> {
    let channel = story.channel().await?;
    for (name, kind) in [
        ("direct", ExchangeKind::Direct),
        ("fanout", ExchangeKind::Fanout),
        ("topic", ExchangeKind::Topic),
        ("headers", ExchangeKind::Headers),
    ] {
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
        let (own, predeclared) = (story.name(name), ShortString::from(format!("amq.{name}")));
        for (exchange, options) in
            [(&own, durable), (&own, durable), (&own, passive), (&predeclared, passive)]
        {
            channel.exchange_declare(exchange.clone(), kind.clone(), options, FieldTable::default()).await?;
        }
        delete_exchange(&channel, &own).await?;
    }

    // One that goes with its last binding, and one nobody may publish to.
    let (auto_delete, internal) = (story.name("auto-delete"), story.name("internal"));
    let options = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
    channel
        .exchange_declare(auto_delete.clone(), ExchangeKind::Fanout, options, FieldTable::default())
        .await?;
    let options = ExchangeDeclareOptions { internal: true, ..Default::default() };
    channel.exchange_declare(internal.clone(), ExchangeKind::Fanout, options, FieldTable::default()).await?;
    bind_exchange(&channel, &internal, &auto_delete, "").await?;
    let options = ExchangeUnbindOptions::default();
    channel
        .exchange_unbind(internal.clone(), auto_delete.clone(), "".into(), options, FieldTable::default())
        .await?;
    delete_exchange(&channel, &internal).await?;
    let passive = ExchangeDeclareOptions { passive: true, ..Default::default() };
    let gone = channel
        .exchange_declare(auto_delete.clone(), ExchangeKind::Fanout, passive, FieldTable::default())
        .await;
    assert_refused(gone, 404, &format!("NOT_FOUND - no exchange '{auto_delete}' in vhost '/'"));
    Ok(())
}

pub(super) async fn declare_queues(story: &Story) -> Result<()> {
    let channel = story.channel().await?;
    let durable = story.name("durable");
    for _ in 0..2 {
        let options = QueueDeclareOptions::durable();
        let queue = channel.queue_declare(durable.clone(), options, FieldTable::default()).await?;
        assert_eq!((queue.name(), queue.message_count(), queue.consumer_count()), (&durable, 0, 0));
    }
    assert_eq!(channel.queue_delete(durable, QueueDeleteOptions::default()).await?, 0);

    let options = QueueDeclareOptions::exclusive();
    let server_named = channel.queue_declare("".into(), options, FieldTable::default()).await?;
    assert!(server_named.name().as_str().starts_with("amq.gen-"), "{}", server_named.name());

    exclusive_queue_is_locked(story).await?;

    let auto_delete = story.name("auto-delete");
    let options = QueueDeclareOptions::durable().auto_delete();
    channel.queue_declare(auto_delete.clone(), options, FieldTable::default()).await?;
    let consumer = consume(&channel, &auto_delete, "last").await?;
    channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
    let gone = assert_counts(&channel, &auto_delete, 0).await;
    assert_refused(gone, 404, &format!("NOT_FOUND - no queue '{auto_delete}' in vhost '/'"));
    Ok(())
}

/// Other connections get 405, and the queue goes with its connection.
async fn exclusive_queue_is_locked(story: &Story) -> Result<()> {
    let owner = Connection::connect(&story.uri, ConnectionProperties::default()).await?;
    let queue = story.exclusive_queue(&owner.create_channel().await?, "exclusive").await?;
    let locked = assert_counts(&story.channel().await?, &queue, 0).await;
    let text = format!(
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'. It could be \
         originally declared on another connection or the exclusive property value does not match that of the \
         original declaration."
    );
    assert_refused(locked, 405, &text);
    owner.close(200, "done".into()).await?;
    let gone = assert_counts(&story.channel().await?, &queue, 0).await;
    assert_refused(gone, 404, &format!("NOT_FOUND - no queue '{queue}' in vhost '/'"));
    Ok(())
}

/// A binding, and what goes through it and what does not.
struct Route {
    kind: ExchangeKind,
    key: &'static str,
    arguments: FieldTable,
    routed: Vec<Sent>,
    unrouted: Vec<Sent>,
}

/// The routing key, which is the body as well, and the headers.
type Sent = (&'static str, FieldTable);

fn keys<const N: usize>(keys: [&'static str; N]) -> Vec<Sent> {
    keys.map(|key| (key, FieldTable::default())).to_vec()
}

fn headers<const N: usize>(tables: [FieldTable; N]) -> Vec<Sent> {
    tables.map(|headers| ("", headers)).to_vec()
}

fn by_key(
    kind: ExchangeKind,
    key: &'static str,
    routed: impl Into<Vec<Sent>>,
    unrouted: impl Into<Vec<Sent>>,
) -> Route {
    let (routed, unrouted) = (routed.into(), unrouted.into());
    Route { kind, key, arguments: FieldTable::default(), routed, unrouted }
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

/// Binds by colour and legs, with this x-match.
fn by_headers(x_match: &str, routed: Vec<Sent>, unrouted: Vec<Sent>) -> Route {
    let arguments =
        table([("x-match", text(x_match)), ("colour", text("orange")), ("legs", AMQPValue::LongInt(4))]);
    Route { kind: ExchangeKind::Headers, key: "", arguments, routed, unrouted }
}

fn routes() -> Vec<Route> {
    let (orange, white) = (|| ("colour", text("orange")), || ("colour", text("white")));
    let legs = |number| ("legs", AMQPValue::LongInt(number));
    vec![
        by_key(ExchangeKind::Direct, "black", keys(["black"]), keys(["white", ""])),
        by_key(ExchangeKind::Fanout, "any", keys(["any", "other", ""]), []),
        by_key(
            ExchangeKind::Topic,
            "*.orange.*",
            keys(["quick.orange.rabbit"]),
            keys(["orange", "quick.orange", "quick.orange.male.rabbit"]),
        ),
        by_key(
            ExchangeKind::Topic,
            "lazy.#",
            keys(["lazy", "lazy.brown.fox", "lazy.orange.male.rabbit"]),
            keys(["quick.lazy", "lazier"]),
        ),
        by_key(
            ExchangeKind::Topic,
            "#.rabbit",
            keys(["rabbit", "quick.orange.rabbit"]),
            keys(["rabbit.hole"]),
        ),
        by_headers(
            "all",
            headers([
                table([orange(), legs(4), ("more", AMQPValue::Boolean(true))]),
                table([orange(), ("legs", AMQPValue::LongLongInt(4))]),
            ]),
            headers([table([orange()]), table([orange(), legs(3)])]),
        ),
        by_headers(
            "any",
            headers([table([orange()]), table([white(), legs(4)])]),
            headers([table([white()]), FieldTable::default()]),
        ),
    ]
}

pub(super) async fn bind_and_route(story: &Story) -> Result<()> {
    let channel = story.channel().await?;
    let queue = story.exclusive_queue(&channel, "bound").await?;
    for route in routes() {
        let exchange = declare(story, &channel, "routing", &route.kind, FieldTable::default()).await?;
        let options = QueueBindOptions::default();
        let key = ShortString::from(route.key);
        channel
            .queue_bind(queue.clone(), exchange.clone(), key.clone(), options, route.arguments.clone())
            .await?;
        for message in route.routed.iter().chain(&route.unrouted) {
            send(&channel, &exchange, message).await?;
        }
        let expected = u32::try_from(route.routed.len()).expect("a few messages");
        assert_counts(&channel, &queue, expected).await?;
        for (key, _) in &route.routed {
            let message = take(&channel, &queue, key).await?;
            assert_eq!((message.exchange.as_str(), message.routing_key.as_str()), (exchange.as_str(), *key));
            message.ack(BasicAckOptions::default()).await?;
        }
        channel.queue_unbind(queue.clone(), exchange.clone(), key, route.arguments).await?;
        send(&channel, &exchange, &route.routed[0]).await?;
        assert_counts(&channel, &queue, 0).await?;
        delete_exchange(&channel, &exchange).await?;
    }
    exchange_to_exchange(story, &channel, &queue).await?;
    channel.close(200, "done".into()).await
}

async fn send(channel: &Channel, exchange: &ShortString, (key, headers): &Sent) -> Result<()> {
    let properties = BasicProperties::default().with_headers(headers.clone());
    publish(channel, exchange, key, key.as_bytes(), properties).await
}

async fn exchange_to_exchange(story: &Story, channel: &Channel, queue: &ShortString) -> Result<()> {
    let source = declare(story, channel, "source", &ExchangeKind::Topic, FieldTable::default()).await?;
    let destination =
        declare(story, channel, "destination", &ExchangeKind::Fanout, FieldTable::default()).await?;
    bind_exchange(channel, &destination, &source, "a.*").await?;
    bind(channel, queue, &destination, "").await?;
    publish(channel, &source, "b.c", b"no", BasicProperties::default()).await?;
    publish(channel, &source, "a.b", b"yes", BasicProperties::default()).await?;
    let message = take(channel, queue, "yes").await?;
    assert_eq!(message.exchange, source);
    assert_counts(channel, queue, 0).await?;
    delete_exchange(channel, &destination).await?;
    delete_exchange(channel, &source).await
}

pub(super) async fn alternate_exchange(story: &Story) -> Result<()> {
    let channel = story.channel().await?;
    let alternate =
        declare(story, &channel, "alternate", &ExchangeKind::Fanout, FieldTable::default()).await?;
    let arguments = table([("alternate-exchange", text(alternate.as_str()))]);
    let main = declare(story, &channel, "main", &ExchangeKind::Direct, arguments).await?;
    let unrouted = story.exclusive_queue(&channel, "unrouted").await?;
    bind(&channel, &unrouted, &alternate, "").await?;
    publish(&channel, &main, "nobody", b"lost and found", BasicProperties::default()).await?;
    let message = take(&channel, &unrouted, "lost and found").await?;
    assert_eq!((&message.exchange, message.routing_key.as_str()), (&main, "nobody"));
    delete_exchange(&channel, &main).await?;
    delete_exchange(&channel, &alternate).await?;
    channel.close(200, "done".into()).await
}

pub(super) async fn cc_header(story: &Story) -> Result<()> {
    let channel = story.channel().await?;
    let to = story.exclusive_queue(&channel, "to").await?;
    let cc = story.exclusive_queue(&channel, "cc").await?;
    let bcc = story.exclusive_queue(&channel, "bcc").await?;
    let only = |queue: &ShortString| AMQPValue::FieldArray(FieldArray::from(vec![text(queue.as_str())]));
    let headers = table([("CC", only(&cc)), ("BCC", only(&bcc))]);
    let properties = BasicProperties::default().with_headers(headers);
    publish(&channel, &"".into(), to.as_str(), b"to all", properties).await?;
    for queue in [&to, &cc, &bcc] {
        let message = take(&channel, queue, "to all").await?;
        assert_eq!(message.routing_key, to);
        assert_eq!(message.properties.headers(), &Some(table([("CC", only(&cc))])));
    }
    channel.close(200, "done".into()).await
}

pub(super) async fn purge(story: &Story) -> Result<()> {
    let channel = story.channel().await?;
    let queue = story.exclusive_queue(&channel, "purged").await?;
    publish_texts(&channel, &queue, &["a", "b", "c"]).await?;
    let held = take(&channel, &queue, "a").await?;
    assert_eq!(channel.queue_purge(queue.clone(), QueuePurgeOptions::default()).await?, 2);
    assert_counts(&channel, &queue, 0).await?;
    // What was handed out is not purged.
    held.nack(BasicNackOptions { requeue: true, ..Default::default() }).await?;
    take(&channel, &queue, "a").await?;
    channel.close(200, "done".into()).await
}

pub(super) async fn delete_conditions(story: &Story) -> Result<()> {
    let channel = story.channel().await?;
    let queue = story.name("kept");
    let options = QueueDeclareOptions::durable();
    channel.queue_declare(queue.clone(), options, FieldTable::default()).await?;
    publish_texts(&channel, &queue, &["a"]).await?;
    // Channels are not ordered among each other: the message is there before another one asks.
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    channel.queue_declare(queue.clone(), passive, FieldTable::default()).await?;
    let if_empty = QueueDeleteOptions { if_empty: true, ..Default::default() };
    let refused = story.channel().await?.queue_delete(queue.clone(), if_empty).await;
    assert_refused(refused, 406, &format!("PRECONDITION_FAILED - queue '{queue}' in vhost '/' not empty"));

    let consumers_channel = story.channel().await?;
    let consumer = consume(&consumers_channel, &queue, "").await?;
    let if_unused = QueueDeleteOptions { if_unused: true, ..Default::default() };
    let refused = story.channel().await?.queue_delete(queue.clone(), if_unused).await;
    assert_refused(refused, 406, &format!("PRECONDITION_FAILED - queue '{queue}' in vhost '/' in use"));
    drop(consumer);
    consumers_channel.close(200, "done".into()).await?;

    let exchange = declare(story, &channel, "used", &ExchangeKind::Fanout, FieldTable::default()).await?;
    bind(&channel, &queue, &exchange, "").await?;
    let if_unused = ExchangeDeleteOptions { if_unused: true, ..Default::default() };
    let refused = story.channel().await?.exchange_delete(exchange.clone(), if_unused).await;
    assert_refused(refused, 406, &format!("PRECONDITION_FAILED - exchange '{exchange}' in vhost '/' in use"));
    delete_exchange(&channel, &exchange).await?;
    assert_eq!(channel.queue_delete(queue, QueueDeleteOptions::default()).await?, 1);
    channel.close(200, "done".into()).await
}

async fn declare(
    story: &Story,
    channel: &Channel,
    what: &str,
    kind: &ExchangeKind,
    arguments: FieldTable,
) -> Result<ShortString> {
    let name = story.name(what);
    let options = ExchangeDeclareOptions::default();
    channel.exchange_declare(name.clone(), kind.clone(), options, arguments).await?;
    Ok(name)
}

async fn delete_exchange(channel: &Channel, exchange: &ShortString) -> Result<()> {
    channel.exchange_delete(exchange.clone(), ExchangeDeleteOptions::default()).await
}

async fn bind(channel: &Channel, queue: &ShortString, exchange: &ShortString, key: &str) -> Result<()> {
    let options = QueueBindOptions::default();
    channel.queue_bind(queue.clone(), exchange.clone(), key.into(), options, FieldTable::default()).await
}

async fn bind_exchange(
    channel: &Channel,
    destination: &ShortString,
    source: &ShortString,
    key: &str,
) -> Result<()> {
    let options = ExchangeBindOptions::default();
    channel
        .exchange_bind(destination.clone(), source.clone(), key.into(), options, FieldTable::default())
        .await
}
