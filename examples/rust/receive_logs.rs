//! Publish/subscribe: every receiver has a queue of its own, which goes when it goes.

mod connection;

use connection::{Outcome, connect};
use futures_lite::StreamExt as _;
use lapin::ExchangeKind;
use lapin::options::{BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

#[tokio::main]
async fn main() -> Outcome {
    let (_connection, channel) = connect().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel
        .exchange_declare("example.logs".into(), ExchangeKind::Fanout, durable, FieldTable::default())
        .await?;
    let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), exclusive, FieldTable::default()).await?;
    let queue = queue.name();
    let options = QueueBindOptions::default();
    channel
        .queue_bind(queue.clone(), "example.logs".into(), "".into(), options, FieldTable::default())
        .await?;
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut lines = channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default()).await?;
    println!("Waiting for logs");
    while let Some(line) = lines.next().await {
        let line = line?;
        println!("Received {}", String::from_utf8_lossy(&line.data));
    }
    Ok(())
}
