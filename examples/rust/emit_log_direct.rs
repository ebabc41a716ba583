//! Routing: sends a line to the receivers of its severity.
//!
//! Arguments: the severity and the line, such as `warning The disk is nearly full`

mod connection;

use connection::{Outcome, connect};
use lapin::options::{BasicPublishOptions, ExchangeDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, ExchangeKind};

#[tokio::main]
async fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let severity = arguments.next().unwrap_or_else(|| "info".to_owned());
    let words: Vec<String> = arguments.collect();
    let line = if words.is_empty() { "Hello World!".to_owned() } else { words.join(" ") };
    let (connection, channel) = connect().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
    channel
        .exchange_declare("example.direct_logs".into(), ExchangeKind::Direct, durable, FieldTable::default())
        .await?;
    let options = BasicPublishOptions::default();
    let properties = BasicProperties::default();
    channel
        .basic_publish(
            "example.direct_logs".into(),
            severity.as_str().into(),
            options,
            line.as_bytes(),
            properties,
        )
        .await?;
    println!("Sent {severity}: {line}");
    connection.close(200, "done".into()).await?;
    Ok(())
}
