//! Command lines against a server that answers as RabbitMQ 3.10 did: what is printed, what is asked for, and the exit
//! codes. Banners, columns and codes are those of its rabbitmqctl, rabbitmq-diagnostics and rabbitmq-plugins for the
//! same calls.

mod changes;
mod failures;
mod listings;
mod node;
mod plugins;
mod shell;
mod stub;
