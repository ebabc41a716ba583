//! What goes wrong and what survives it: refused operations, a refused login, an idle connection.

use std::time::Duration;

use lapin::options::{BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ConnectionProperties, Result};

use super::{Story, assert_counts, assert_refused, publish_texts, take};

/// A shorter one would fail on a machine that is merely busy.
const HEARTBEAT_SECONDS: u16 = 2;

pub(super) async fn channel_errors(story: &Story) -> Result<()> {
    let missing = story.name("missing");
    let refused = assert_counts(&story.channel().await?, &missing, 0).await;
    assert_refused(refused, 404, &format!("NOT_FOUND - no queue '{missing}' in vhost '/'"));

    let channel = story.channel().await?;
    let queue = story.name("durable");
    channel.queue_declare(queue.clone(), QueueDeclareOptions::durable(), FieldTable::default()).await?;
    let options = QueueDeclareOptions::default();
    let refused = channel.queue_declare(queue.clone(), options, FieldTable::default()).await;
    let text = format!(
        "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{queue}' in vhost '/': \
         received 'false' but current is 'true'"
    );
    assert_refused(refused, 406, &text);

    // An error of a publish comes later, in place of its confirm.
    let channel = story.channel().await?;
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let published =
        channel.basic_publish(missing.clone(), "".into(), options, b"nowhere", properties).await?;
    assert_refused(published.await, 404, &format!("NOT_FOUND - no exchange '{missing}' in vhost '/'"));

    assert!(story.connection.status().connected());
    let channel = story.channel().await?;
    channel.queue_delete(queue, QueueDeleteOptions::default()).await?;
    channel.close(200, "done".into()).await
}

pub(super) async fn wrong_password(story: &Story) -> Result<()> {
    let uri = story.uri.replace("guest:guest", "guest:wrong");
    let refused = Connection::connect(&uri, ConnectionProperties::default()).await;
    let text = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. \
                For details see the broker logfile.";
    assert_refused(refused, 403, text);
    Ok(())
}

pub(super) async fn heartbeats(story: &Story) -> Result<()> {
    let uri = format!("{}?heartbeat={HEARTBEAT_SECONDS}", story.uri);
    let connection = Connection::connect(&uri, ConnectionProperties::default()).await?;
    assert_eq!(connection.configuration().heartbeat(), HEARTBEAT_SECONDS);
    // The idle time is the step itself: either side would give up within it.
    tokio::time::sleep(Duration::from_secs(HEARTBEAT_SECONDS.into()) * 7 / 2).await;
    assert!(connection.status().connected());
    let channel = connection.create_channel().await?;
    let queue = story.exclusive_queue(&channel, "after-idle").await?;
    channel.confirm_select(Default::default()).await?;
    publish_texts(&channel, &queue, &["still here"]).await?;
    take(&channel, &queue, "still here").await?;
    connection.close(200, "done".into()).await
}
