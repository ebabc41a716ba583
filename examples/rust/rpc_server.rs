//! RPC: answers requests for Fibonacci numbers to wherever each request wants its reply.

mod connection;

use connection::{Outcome, connect};
use futures_lite::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, BasicRejectOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, message::Delivery};

#[tokio::main]
async fn main() -> Outcome {
    let (_connection, channel) = connect().await?;
    channel
        .queue_declare("example.rpc".into(), QueueDeclareOptions::durable(), FieldTable::default())
        .await?;
    channel.basic_qos(1, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    let mut requests =
        channel.basic_consume("example.rpc".into(), "".into(), options, FieldTable::default()).await?;
    println!("Waiting for requests");
    while let Some(request) = requests.next().await {
        answer(&channel, request?).await?;
    }
    Ok(())
}

async fn answer(channel: &Channel, request: Delivery) -> lapin::Result<()> {
    let n = std::str::from_utf8(&request.data).ok().and_then(|text| text.parse::<u32>().ok());
    let reply_to = request.properties.reply_to();
    let (Some(n), Some(reply_to)) = (n, reply_to) else {
        // Nobody can make anything of this request: it is not to come back.
        request.reject(BasicRejectOptions { requeue: false }).await?;
        return Ok(());
    };
    println!("Computing fib({n})");
    let mut properties = BasicProperties::default();
    if let Some(correlation_id) = request.properties.correlation_id() {
        properties = properties.with_correlation_id(correlation_id.clone());
    }
    let (reply, options) = (fibonacci(n).to_string(), BasicPublishOptions::default());
    channel.basic_publish("".into(), reply_to.clone(), options, reply.as_bytes(), properties).await?;
    request.ack(BasicAckOptions::default()).await?;
    Ok(())
}

fn fibonacci(n: u32) -> u64 {
    let (mut a, mut b) = (0_u64, 1_u64);
    for _ in 0..n {
        (a, b) = (b, a.saturating_add(b));
    }
    a
}
