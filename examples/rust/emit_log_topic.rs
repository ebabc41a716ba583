//! Topics: sends a line under a key of words, such as kern.critical.
//!
//! Arguments: the key and the line, such as `kern.critical The disk is full`

mod connection;

use connection::{Outcome, connect};
use lapin::options::{BasicPublishOptions, ExchangeDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, ExchangeKind};

#[tokio::main]
async fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let key = arguments.next().unwrap_or_else(|| "anonymous.info".to_owned());
    let words: Vec<String> = arguments.collect();
    let line = if words.is_empty() { "Hello World!".to_owned() } else { words.join(" ") };
    let (connection, channel) = connect().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel
        .exchange_declare("example.topic_logs".into(), ExchangeKind::Topic, durable, FieldTable::default())
        .await?;
    let options = BasicPublishOptions::default();
    let properties = BasicProperties::default();
    channel
        .basic_publish("example.topic_logs".into(), key.as_str().into(), options, line.as_bytes(), properties)
        .await?;
    println!("Sent {key}: {line}");
    connection.close(200, "done".into()).await?;
    Ok(())
}
