//! Topics: prints the lines whose key matches a pattern; * stands for one word, # for any number of words.
//!
//! Arguments: patterns, such as `'kern.*' '#.critical'`

mod connection;

use connection::{Outcome, connect};
use futures_lite::StreamExt as _;
use lapin::ExchangeKind;
use lapin::options::{BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

#[tokio::main]
async fn main() -> Outcome {
    let patterns: Vec<String> = std::env::args().skip(1).collect();
    if patterns.is_empty() {
        return Err("give one or more patterns, such as kern.*".into());
    }
    let (_connection, channel) = connect().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel
        .exchange_declare("example.topic_logs".into(), ExchangeKind::Topic, durable, FieldTable::default())
        .await?;
    let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), exclusive, FieldTable::default()).await?;
    let queue = queue.name();
    for pattern in &patterns {
        let options = QueueBindOptions::default();
        let (exchange, key) = ("example.topic_logs".into(), pattern.as_str().into());
        channel.queue_bind(queue.clone(), exchange, key, options, FieldTable::default()).await?;
    }
    let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
    let mut lines = channel.basic_consume(queue.clone(), "".into(), options, FieldTable::default()).await?;
    println!("Waiting for logs");
    while let Some(line) = lines.next().await {
        let line = line?;
        println!("Received {}: {}", line.routing_key, String::from_utf8_lossy(&line.data));
    }
    Ok(())
}
