//! Rows about messages: a fanout to many queues, and a backlog that comes and goes.

use std::time::Duration;

use leveret_codec::method::queue;
use leveret_codec::table::FieldTable;

use crate::cli::seconds;
use crate::client::Exchange;
use crate::error::Error;
use crate::grow::Grow;
use crate::load::Load;
use crate::probe::{Figure, given_back, mebibytes, moved, octets_each};
use crate::producer::Pace;

/// Consuming connections of the fanout; the queues are spread over them.
const FANOUT_CONNECTIONS: usize = 10;
/// Unconfirmed messages of the fanout: each stands for as many deliveries as there are queues.
const FANOUT_WINDOW: usize = 100;
/// Unconfirmed messages while the backlog is made.
const BACKLOG_WINDOW: usize = 1_000;
/// Time of the fanout that is not counted: the first messages meet consumers that are still starting.
const WARMUP: Duration = Duration::from_secs(1);

/// One message to each of many queues, each with a consumer.
pub(super) fn fanout(grow: &Grow) -> Result<Vec<Figure>, Error> {
    let count = grow.args.fanout.max(1);
    let consumers = FANOUT_CONNECTIONS.min(count);
    let name = grow.name("fan");
    let load = Load {
        producers: 1,
        consumers,
        size: 16,
        pace: Pace { confirm_window: FANOUT_WINDOW, ..Pace::default() },
        queues: (0..count).map(|index| format!("{name}-{index}")).collect(),
        queues_per_consumer: count.div_ceil(consumers),
        exchange: Some(Exchange { name, kind: "fanout".to_owned(), arguments: FieldTable::new() }),
        predeclared: false,
        persistent: false,
        ..plain(grow)?
    };
    let outcome = load.run()?;
    let mut figures =
        vec![Figure::new(&format!("deliveries to {count} queues"), outcome.rate(outcome.received), "/s")];
    let cpu = outcome.broker_us_per_message();
    figures.extend(cpu.map(|us| Figure::new("broker CPU of a delivery", us, "us each")));
    Ok(figures)
}

/// Publishes with nobody consuming, then consumes with nobody publishing.
pub(super) fn backlog(grow: &Grow) -> Result<Vec<Figure>, Error> {
    let (count, persistent) = (grow.args.backlog, grow.persistent());
    let queue = grow.name("backlog");
    let mut control = grow.connect_with_channel()?;
    control.declare_queue(queue::Declare {
        queue: &queue,
        passive: false,
        durable: persistent,
        exclusive: false,
        auto_delete: false,
        no_wait: false,
        arguments: FieldTable::new(),
    })?;
    let measured = in_and_out(grow, &queue, count);
    let deleted = control.delete_queue(&queue).and_then(|()| control.close());
    let figures = measured?;
    deleted?;
    Ok(figures)
}

fn in_and_out(grow: &Grow, queue: &str, count: u64) -> Result<Vec<Figure>, Error> {
    let before = grow.probe.settled()?;
    let load = Load { queues: vec![queue.to_owned()], ..plain(grow)? };
    let publish = Load {
        producers: 1,
        producer_messages: Some(count),
        pace: Pace { confirm_window: BACKLOG_WINDOW, ..Pace::default() },
        ..load.clone()
    };
    let published = publish.run()?;
    let full = grow.probe.settled()?;
    let consumed = Load { consumers: 1, consumer_messages: Some(count), ..load }.run()?;
    let drained = grow.probe.settled()?;
    let kind = if grow.persistent() { "persistent" } else { "transient" };
    let mut figures = moved(&format!("{count} {kind} messages of {} B in", grow.args.size), &published);
    figures.extend(moved("the same out", &consumed));
    figures.extend(octets_each("memory of a message", before, full, count));
    figures.extend(mebibytes("resident before", before));
    figures.extend(mebibytes("resident with the backlog", full));
    figures.extend(mebibytes("resident after", drained));
    figures.extend(given_back("given back after it is drained", [before, full, drained]));
    Ok(figures)
}

/// Nobody publishes or consumes yet, and the queues are there.
pub(super) fn plain(grow: &Grow) -> Result<Load, Error> {
    Ok(Load {
        size: grow.args.size,
        duration: seconds(grow.args.seconds, "-z")?,
        warmup: WARMUP,
        persistent: grow.persistent(),
        ..Load::idle(grow.args.uri.clone(), grow.probe.process())
    })
}
