//! Scripts on the wire: raw AMQP 0-9-1 over TCP, with the exact answers of RabbitMQ as the expectation.
//!
//! The same scripts run against a running RabbitMQ 3.10 with `LEVERET_TEST_AMQP=host:port`; where the two
//! differ on purpose a script says so with `Peer::either`, and docs/COMPATIBILITY.md says why.

#[path = "../support/mod.rs"]
mod support;

mod say;
mod wire;

mod access;
mod arguments;
mod closing;
mod consuming;
mod content;
mod dead_letters;
mod deduplication;
mod delayed;
mod exchange_types;
mod exchanges;
mod frames;
mod handshake;
mod heartbeats;
mod limits;
mod listeners;
mod pipelining;
mod priorities;
mod publishing;
mod queues;
mod quorum;
mod refusals;
mod replies;
mod settling;
mod single_active;
mod timeouts;
