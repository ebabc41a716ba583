//! Work queue: adds a task that survives a restart of the broker. Each dot in it is a second of work.
//!
//! Arguments: the task, such as `First task...`

mod connection;

use connection::{Outcome, connect};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Confirmation};

const PERSISTENT: u8 = 2;

#[tokio::main]
async fn main() -> Outcome {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let task = if words.is_empty() { "Hello...".to_owned() } else { words.join(" ") };
    let (connection, channel) = connect().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    channel
        .queue_declare("example.tasks".into(), QueueDeclareOptions::durable(), FieldTable::default())
        .await?;
    let options = BasicPublishOptions::default();
    let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
    let confirmation = channel
        .basic_publish("".into(), "example.tasks".into(), options, task.as_bytes(), properties)
        .await?
        .await?;
    // The task is on disk once it is confirmed.
    if !matches!(confirmation, Confirmation::Ack(None)) {
        return Err(format!("not confirmed: {confirmation:?}").into());
    }
    println!("Sent {task}");
    connection.close(200, "done".into()).await?;
    Ok(())
}
