//! The HTTP API of the real binary, over real HTTP: what it answers, what it does, what it refuses, and whether its
//! answers have the shape of RabbitMQ's, which is asked where it is installed.

mod access;
mod amqp;
mod bad_input;
mod bounds;
mod changes;
mod http;
mod listings;
mod messages;
mod rabbitmq;
mod rabbitmqadmin;
mod rabbitmqadmin_ng;
mod round_trip;
mod shape;
#[path = "../support/mod.rs"]
mod support;
