//! TLS, of AMQP and of HTTP, and the PROXY protocol against the real broker: who is let in, who is not and what the
//! operator reads of it, what a reload changes, and that what travels is what was sent. Certificates are made here,
//! each fit for what its test is about. Stock clients over TLS are in `tests/clients/tls.rs`.

#[path = "../support/mod.rs"]
mod support;

mod amqp;
mod authority;

mod handshakes;
mod http;
mod proxied;
mod reload;
mod start;
mod traffic;
