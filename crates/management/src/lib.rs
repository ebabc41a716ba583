//! The management side of Leveret. It shows and changes what the broker has; what it must know of sockets, limits and
//! the process around it comes in through [`node::Node`], and who logs in through [`access::Authenticate`].
//!
//! - [`listener`]: sockets that HTTP is spoken on
//! - [`http`]: the HTTP API on them, its limits and its threads
//! - `api`: the endpoints, one file for each kind of thing
//! - `answers`, `budget`: octets that those who ask may hold together; `gzip`: answers in it
//! - `audit`: what of that the audit log is told of here
//! - [`definitions`]: all that was declared as one document, out and in
//! - [`metrics`]: what Prometheus scrapes
//! - `pattern`: regular expressions of those who ask
//! - [`statistics`]: samples of counters, for rates

pub mod access;
mod answers;
mod api;
mod audit;
mod budget;
pub mod definitions;
mod gzip;
pub mod http;
mod json;
pub mod listener;
pub mod metrics;
pub mod node;
mod pattern;
pub mod statistics;
