//! The routing core of Leveret: what a message meets between the channel it was published on and the
//! channel it is delivered to. Synchronous and deterministic: storage comes in through the [`store`]
//! trait, deliveries go out through the [`delivery`] trait, nothing here knows a socket.
//!
//! In the order a message meets them: [`vhost`] (declarations), [`exchange`] (routing), [`message`]
//! (the record a queue keeps), [`queue`] (ready, delivered, settled), [`delivery`] (to a consumer),
//! [`unacked`] (what a channel has not settled yet). Who may do what is in [`access`].

pub mod access;
pub mod broker;
pub mod counters;
mod dead_letter;
pub mod deduplication;
pub mod definition;
pub mod delayed;
pub mod delivery;
pub mod error;
pub mod events;
pub mod exchange;
pub mod histogram;
pub mod limits;
pub mod message;
pub mod names;
pub mod parameters;
pub mod policy;
pub mod queue;
pub mod reply_to;
pub mod services;
pub mod store;
pub mod time;
pub mod timers;
pub mod unacked;
pub mod vhost;

pub use access::{Access, Actor};
pub use broker::Broker;
pub use delivery::{Delivery, DeliverySink, DeliverySource, SinkState};
pub use error::BrokerError;
pub use message::{LargeBody, MessageBatch, MessageRef, MessageView};
pub use names::{ConnectionId, ConsumerId, ExchangeName, QueueId, QueueName, UserName, VhostName};
pub use queue::Queue;
pub use services::Services;
pub use vhost::{Vhost, VhostSettings};
