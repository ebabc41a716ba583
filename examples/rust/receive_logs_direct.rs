//! Routing: prints the lines of the severities asked for.
//!
//! Arguments: severities, such as `warning error`

mod connection;

use connection::{Outcome, connect};
use futures_lite::StreamExt as _;
use lapin::ExchangeKind;
use lapin::options::{BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

#[tokio::main]
async fn main() -> Outcome {
    let severities: Vec<String> = std::env::args().skip(1).collect();
    if severities.is_empty() {
        return Err("give one or more severities, such as warning error".into());
    }
    let (_connection, channel) = connect().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel
        .exchange_declare("example.direct_logs".into(), ExchangeKind::Direct, durable, FieldTable::default())
        .await?;
    let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), exclusive, FieldTable::default()).await?;
    let queue = queue.name();
    for severity in &severities {
        let options = QueueBindOptions::default();
        let (exchange, key) = ("example.direct_logs".into(), severity.as_str().into());
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
