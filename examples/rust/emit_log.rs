//! Publish/subscribe: sends a line to every receiver that is there now.
//!
//! Arguments: the line, such as `A line for all`

mod connection;

use connection::{Outcome, connect};
use lapin::options::{BasicPublishOptions, ExchangeDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, ExchangeKind};

#[tokio::main]
async fn main() -> Outcome {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let line = if words.is_empty() { "info: Hello World!".to_owned() } else { words.join(" ") };
    let (connection, channel) = connect().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel
        .exchange_declare("example.logs".into(), ExchangeKind::Fanout, durable, FieldTable::default())
        .await?;
    let options = BasicPublishOptions::default();
    let properties = BasicProperties::default();
    channel.basic_publish("example.logs".into(), "".into(), options, line.as_bytes(), properties).await?;
    println!("Sent {line}");
    connection.close(200, "done".into()).await?;
    Ok(())
}
