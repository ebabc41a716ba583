//! Hello: sends one message to a queue.

mod connection;

use connection::{Outcome, connect};
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

#[tokio::main]
async fn main() -> Outcome {
    let (connection, channel) = connect().await?;
    channel
        .queue_declare("example.hello".into(), QueueDeclareOptions::durable(), FieldTable::default())
        .await?;
    let options = BasicPublishOptions::default();
    let properties = BasicProperties::default();
    channel.basic_publish("".into(), "example.hello".into(), options, b"Hello World!", properties).await?;
    println!("Sent Hello World!");
    connection.close(200, "done".into()).await?;
    Ok(())
}
