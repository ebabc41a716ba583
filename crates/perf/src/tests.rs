//! Short loads against the built-in sink: what was asked for is what is counted.

use clap::Parser;

use crate::cli::Cli;
use crate::error::Error;
use crate::load::{Load, Outcome};
use crate::sink::{self, SinkOptions};

/// The load of these flags, against a sink of its own.
fn run(flags: &str) -> Outcome {
    let load = parse(flags);
    let options = SinkOptions { size: load.size, relay: load.pace.rate.is_some() };
    against(load, options).unwrap()
}

fn parse(flags: &str) -> Load {
    Cli::parse_from(format!("leveret-perf {flags}").split_whitespace()).run.to_load().unwrap()
}

fn against(mut load: Load, options: SinkOptions) -> Result<Outcome, Error> {
    let address = sink::start(options).unwrap();
    load.uri.host = address.ip().to_string();
    load.uri.port = address.port();
    load.run()
}

#[test]
fn every_published_message_is_counted_and_confirmed() {
    let outcome = run("-x 2 -y 0 -C 12345 -c 100");
    assert_eq!((outcome.sent, outcome.confirmed, outcome.received), (24_690, 24_690, 0));
}

#[test]
fn the_time_to_a_confirm_is_measured_one_by_one() {
    let outcome = run("-x 2 -y 0 -C 5000 -c 1");
    let confirms = outcome.confirm_latency.unwrap();
    // The first ones may come before the measurement has begun.
    assert!((1_000..=10_000).contains(&confirms.samples), "{confirms:?}");
    assert!(confirms.min_us > 0.0, "{confirms:?}");
    assert_eq!(run("-x 1 -y 0 -C 50").confirm_latency, None);
}

#[test]
fn publishing_without_confirms_ends_when_the_broker_has_read_everything() {
    let outcome = run("-x 1 -y 0 -C 100001 -s 100");
    assert_eq!((outcome.sent, outcome.confirmed), (100_001, 0));
}

#[test]
fn transactions_count_as_confirmed_when_committed() {
    let outcome = run("-x 1 -y 0 -C 1050 --tx 100");
    assert_eq!((outcome.sent, outcome.confirmed), (1_050, 1_050));
}

#[test]
fn a_consumer_ends_at_its_count_within_its_prefetch() {
    let outcome = run("-x 0 -y 1 -D 5000 -q 100 -A 10");
    // What arrived with the last read is counted too, and that is at most a prefetch more.
    assert!((5_000..=5_100).contains(&outcome.received), "{}", outcome.received);
}

#[test]
fn bodies_larger_than_the_read_buffer_are_counted_once() {
    let outcome = run("-x 0 -y 1 -D 20 -q 4 -A 1 -s 1000000");
    assert!((20..=24).contains(&outcome.received), "{}", outcome.received);
}

#[test]
fn a_rate_is_held_and_every_message_has_a_latency() {
    let outcome = run("-r 1000 -z 0.5 --warmup 0.1 -s 32");
    let rate = outcome.rate(outcome.sent);
    assert!((800.0..=1_200.0).contains(&rate), "{rate}");
    let latency = outcome.latency.unwrap();
    assert!(latency.samples >= 300, "{latency:?}");
    assert!(latency.min_us > 0.0 && latency.min_us <= latency.median_us, "{latency:?}");
}

#[test]
fn a_refused_connection_is_an_error_with_the_address() {
    // Bound and dropped at once, so nothing listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut load = parse("-z 1");
    load.uri = format!("amqp://127.0.0.1:{port}").parse().unwrap();
    let error = load.run().unwrap_err();
    assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
}
