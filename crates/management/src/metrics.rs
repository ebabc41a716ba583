//! Metrics in Prometheus' text format, under the names that dashboards and alerts for RabbitMQ use, and Leveret's own.
//!
//! `listener` answers requests; `endpoints` says what each page consists of; `families` are tables that name each
//! metric once, with what it is and where its value comes from; `view` gathers the rows for them; `page` writes lines.
//! `reference` makes a document of the same tables.
//!
//! There is no registry: a page is made from the counters that broker and server keep, when it is asked for.

mod endpoints;
mod families;
mod listener;
mod metric;
mod own;
mod page;
mod reference;
#[cfg(test)]
mod tests;
mod view;

pub use listener::serve;
pub use reference::reference;
