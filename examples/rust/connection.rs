//! Where the examples find the broker: localhost:5672, or what AMQP_URI says.

use lapin::{Channel, Connection, ConnectionProperties};

/// What an example's `main` ends with.
pub(crate) type Outcome = Result<(), Box<dyn std::error::Error>>;

/// Connects and opens a channel. The connection ends when it is dropped, so it has to be kept.
pub(crate) async fn connect() -> lapin::Result<(Connection, Channel)> {
    let uri = std::env::var("AMQP_URI");
    let uri = uri.as_deref().unwrap_or("amqp://guest:guest@localhost:5672/%2F");
    let connection = Connection::connect(uri, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    Ok((connection, channel))
}
