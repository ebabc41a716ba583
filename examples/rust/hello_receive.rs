//! Hello: prints the messages of a queue as they come.

mod connection;

use connection::{Outcome, connect};
use futures_lite::StreamExt as _;
use lapin::options::{BasicConsumeOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

#[tokio::main]
async fn main() -> Outcome {
    let (_connection, channel) = connect().await?;
    channel
        .queue_declare("example.hello".into(), QueueDeclareOptions::durable(), FieldTable::default())
        .await?;
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut messages =
        channel.basic_consume("example.hello".into(), "".into(), options, FieldTable::default()).await?;
    println!("Waiting for messages");
    while let Some(message) = messages.next().await {
        println!("Received {}", String::from_utf8_lossy(&message?.data));
    }
    Ok(())
}
