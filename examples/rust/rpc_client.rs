//! RPC: asks for a Fibonacci number and waits for the reply, without a reply queue (direct reply-to).
//!
//! Arguments: which number, such as `30`

mod connection;

use std::time::Duration;

use connection::{Outcome, connect};
use futures_lite::StreamExt as _;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Consumer};

const REPLY_TO: &str = "amq.rabbitmq.reply-to";
const TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Outcome {
    let n = std::env::args().nth(1).unwrap_or_else(|| "30".to_owned());
    let (connection, channel) = connect().await?;
    // Replies come to the channel that asks, so it consumes before it publishes.
    let no_ack = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let replies = channel.basic_consume(REPLY_TO.into(), "".into(), no_ack, FieldTable::default()).await?;
    let correlation_id = ShortString::from(format!("request-{}", std::process::id()));
    let properties =
        BasicProperties::default().with_reply_to(REPLY_TO.into()).with_correlation_id(correlation_id.clone());
    let options = BasicPublishOptions::default();
    channel.basic_publish("".into(), "example.rpc".into(), options, n.as_bytes(), properties).await?;
    let reply = tokio::time::timeout(TIMEOUT, reply_to(replies, &correlation_id)).await??;
    println!("fib({n}) = {reply}");
    connection.close(200, "done".into()).await?;
    Ok(())
}

async fn reply_to(
    mut replies: Consumer,
    correlation_id: &ShortString,
) -> Result<String, Box<dyn std::error::Error>> {
    while let Some(reply) = replies.next().await {
        let reply = reply?;
        if reply.properties.correlation_id().as_ref() == Some(correlation_id) {
            return Ok(String::from_utf8(reply.data)?);
        }
    }
    Err("the connection closed before the reply".into())
}
