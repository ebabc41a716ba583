//! Publisher confirms: a message is safe once the broker has confirmed it. Publishes first, then waits for all.

mod connection;

use connection::{Outcome, connect};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Confirmation};

const COUNT: usize = 100;
const PERSISTENT: u8 = 2;

#[tokio::main]
async fn main() -> Outcome {
    let (connection, channel) = connect().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let queue = channel.queue_declare("".into(), exclusive, FieldTable::default()).await?;
    let mut pending = Vec::with_capacity(COUNT);
    for number in 0..COUNT {
        let (body, queue) = (number.to_string(), queue.name().clone());
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        pending.push(channel.basic_publish("".into(), queue, options, body.as_bytes(), properties).await?);
    }
    for (number, confirm) in pending.into_iter().enumerate() {
        match confirm.await? {
            Confirmation::Ack(None) => {}
            Confirmation::Ack(Some(_)) => return Err(format!("message {number} reached no queue").into()),
            other => return Err(format!("message {number} was refused: {other:?}").into()),
        }
    }
    println!("Confirmed {COUNT} messages");
    connection.close(200, "done".into()).await?;
    Ok(())
}
