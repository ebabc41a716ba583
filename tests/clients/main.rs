//! The stock clients of seven languages, unchanged, against the real broker: each goes through the same story, and some
//! through one of what frameworks build on, be it the framework itself (Celery, kombu) or its way of using a client.
//!
//! One module and one folder per client. The programs are written as that language's users write them; the
//! modules here fetch the library, run the program and read its output. See `tests/support/mod.rs` for how
//! the broker is started and how to run the same against RabbitMQ.

#[path = "../support/mod.rs"]
mod support;

mod celery;
mod go;
mod java;
mod kombu;
mod lapin;
mod node;
mod php;
mod pika;
mod rabbitmq_c;
mod tls;
