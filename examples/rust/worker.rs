//! Work queue: does one task at a time. A task whose worker dies before it is done goes to another one.

mod connection;

use std::time::Duration;

use connection::{Outcome, connect};
use futures_lite::StreamExt as _;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

#[tokio::main]
async fn main() -> Outcome {
    let (_connection, channel) = connect().await?;
    channel
        .queue_declare("example.tasks".into(), QueueDeclareOptions::durable(), FieldTable::default())
        .await?;
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut tasks =
        channel.basic_consume("example.tasks".into(), "".into(), options, FieldTable::default()).await?;
    println!("Waiting for tasks");
    while let Some(delivery) = tasks.next().await {
        let delivery = delivery?;
        let task = String::from_utf8_lossy(&delivery.data);
        println!("Received {task}");
        let seconds = task.bytes().filter(|byte| *byte == b'.').count();
        tokio::time::sleep(Duration::from_secs(seconds as u64)).await;
        delivery.ack(BasicAckOptions::default()).await?;
        println!("Done {task}");
    }
    Ok(())
}
