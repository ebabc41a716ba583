//! Metrics of the real binary: scraped over HTTP, read strictly, with values after known traffic of a real client.

#[path = "../support/mod.rs"]
mod support;

mod pages;
mod prometheus;
mod scrape;
mod text;
mod traffic;
