//! Deliveries and what becomes of them: acknowledgements, prefetch, get, cancel, consumer tags, recover.

use std::collections::VecDeque;

use futures_lite::StreamExt as _;
use lapin::Result;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions, BasicNackOptions,
    BasicQosOptions, BasicRecoverOptions, BasicRejectOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;

use super::{Story, assert_counts, assert_refused, consume, next, publish_texts, receive, take};

const REQUEUE: BasicNackOptions = BasicNackOptions { multiple: false, requeue: true };

pub(super) async fn acknowledgements(story: &Story) -> Result<()> {
    let channel = story.channel().await?;
    let queue = story.exclusive_queue(&channel, "acknowledged").await?;
    publish_texts(&channel, &queue, &["a", "b", "c", "d", "e"]).await?;

    // Requeued, a message returns to its place.
    let first = take(&channel, &queue, "a").await?;
    assert!(!first.redelivered);
    first.nack(REQUEUE).await?;
    let again = take(&channel, &queue, "a").await?;
    assert!(again.redelivered);
    again.ack(BasicAckOptions::default()).await?;

    take(&channel, &queue, "b").await?.reject(BasicRejectOptions { requeue: false }).await?;
    take(&channel, &queue, "c").await?;
    take(&channel, &queue, "d").await?;
    take(&channel, &queue, "e").await?.ack(BasicAckOptions { multiple: true }).await?;
    assert_counts(&channel, &queue, 0).await?;

    // What is not settled when its channel goes comes back.
    publish_texts(&channel, &queue, &["f"]).await?;
    let other = story.channel().await?;
    take(&other, &queue, "f").await?;
    other.close(200, "done".into()).await?;
    assert_counts(&channel, &queue, 1).await?;
    let mut consumer = consume(&channel, &queue, "").await?;
    let last = receive(&mut consumer, "f").await?;
    assert!(last.redelivered);
    channel.basic_ack(last.delivery_tag, BasicAckOptions::default()).await?;
    channel.basic_ack(last.delivery_tag, BasicAckOptions::default()).await?;
    let text = format!("PRECONDITION_FAILED - unknown delivery tag {}", last.delivery_tag);
    assert_refused(next(&mut consumer).await, 406, &text);
    Ok(())
}

pub(super) async fn prefetch(story: &Story) -> Result<()> {
    for limit in [1_u16, 3] {
        let channel = story.channel().await?;
        let queue = story.exclusive_queue(&channel, &format!("prefetch-{limit}")).await?;
        publish_texts(&channel, &queue, &["0", "1", "2", "3", "4", "5"]).await?;
        channel.basic_qos(limit, BasicQosOptions::default()).await?;
        let mut consumer = consume(&channel, &queue, "").await?;
        let mut held = VecDeque::new();
        for number in 0..6_u32 {
            if held.len() == usize::from(limit) {
                assert_counts(&channel, &queue, 6 - number).await?;
                let tag = held.pop_front().expect("the limit is not zero");
                channel.basic_ack(tag, BasicAckOptions::default()).await?;
            }
            held.push_back(receive(&mut consumer, &number.to_string()).await?.delivery_tag);
        }
        channel.close(200, "done".into()).await?;
    }
    Ok(())
}

pub(super) async fn get(story: &Story) -> Result<()> {
    let channel = story.channel().await?;
    let queue = story.exclusive_queue(&channel, "got").await?;
    publish_texts(&channel, &queue, &["a", "b", "c"]).await?;
    for (body, tag, left) in [("a", 1, 2), ("b", 2, 1), ("c", 3, 0)] {
        let message = take(&channel, &queue, body).await?;
        assert_eq!((message.delivery_tag, message.message_count), (tag, left));
        assert_eq!(message.routing_key, queue);
        message.ack(BasicAckOptions::default()).await?;
    }
    assert_eq!(channel.basic_get(queue, BasicGetOptions::default()).await?, None);
    channel.close(200, "done".into()).await
}

pub(super) async fn server_sent_cancel(story: &Story) -> Result<()> {
    let (channel, other) = (story.channel().await?, story.channel().await?);
    let queue = story.exclusive_queue(&channel, "doomed").await?;
    let mut consumer = consume(&channel, &queue, "").await?;
    other.queue_delete(queue, QueueDeleteOptions::default()).await?;
    // A cancelled consumer's stream ends, without an error.
    assert!(consumer.next().await.is_none());
    assert!(channel.status().connected());
    other.close(200, "done".into()).await?;
    channel.close(200, "done".into()).await
}

pub(super) async fn consumer_tags(story: &Story) -> Result<()> {
    let channel = story.channel().await?;
    let queue = story.exclusive_queue(&channel, "tagged").await?;
    let mut own = consume(&channel, &queue, "my-tag").await?;
    assert_eq!(own.tag().as_str(), "my-tag");
    publish_texts(&channel, &queue, &["a"]).await?;
    receive(&mut own, "a").await?.ack(BasicAckOptions::default()).await?;
    channel.basic_cancel(own.tag(), BasicCancelOptions::default()).await?;
    assert!(own.next().await.is_none());

    let mut made = consume(&channel, &queue, "").await?;
    assert!(made.tag().as_str().starts_with("amq.ctag-"), "{}", made.tag());
    publish_texts(&channel, &queue, &["b"]).await?;
    receive(&mut made, "b").await?.ack(BasicAckOptions::default()).await?;
    channel.close(200, "done".into()).await
}

pub(super) async fn exclusive_consumer(story: &Story) -> Result<()> {
    let (channel, other) = (story.channel().await?, story.channel().await?);
    let queue = story.exclusive_queue(&channel, "one-consumer").await?;
    let exclusive = BasicConsumeOptions { exclusive: true, ..Default::default() };
    let _only = channel.basic_consume(queue.clone(), "".into(), exclusive, FieldTable::default()).await?;
    let refused = consume(&other, &queue, "").await;
    assert_refused(refused, 403, &format!("ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"));
    channel.close(200, "done".into()).await
}

pub(super) async fn recover(story: &Story) -> Result<()> {
    let channel = story.channel().await?;
    let queue = story.exclusive_queue(&channel, "recovered").await?;
    publish_texts(&channel, &queue, &["a", "b"]).await?;
    let mut consumer = consume(&channel, &queue, "").await?;
    receive(&mut consumer, "a").await?;
    receive(&mut consumer, "b").await?;
    channel.basic_recover(BasicRecoverOptions { requeue: true }).await?;
    for body in ["a", "b"] {
        let delivery = receive(&mut consumer, body).await?;
        assert!(delivery.redelivered);
        delivery.ack(BasicAckOptions::default()).await?;
    }
    channel.close(200, "done".into()).await
}
