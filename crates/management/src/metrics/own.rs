//! Metrics of Leveret's own, which RabbitMQ does not have.

use leveret_broker::histogram::{BOUNDS_US, HistogramSnapshot};
use leveret_broker::queue::QueueSnapshot;

use super::metric::{Metric, Row, labels};
use super::page::Page;
use super::view::{NodeNumbers, Scope, View};

/// What their names begin with.
pub(super) const PREFIX: &str = "leveret_";

/// What waits in a delayed exchange.
pub(super) struct DelayedNumbers {
    messages: u64,
    body_bytes: u64,
}

pub(super) static NODE: [Metric<NodeNumbers>; 8] = [
    Metric::gauge("message_memory_bytes", "Memory held for messages, in all queues.", |n| {
        n.resources.message_bytes
    }),
    Metric::gauge("message_memory_limit_bytes", "Memory of messages above which publishers wait.", |n| {
        n.resources.message_bytes_limit
    }),
    Metric::gauge(
        "message_cache_limit_bytes",
        "Memory of messages above which those needed last are on the disk alone.",
        |n| n.resources.message_cache_limit,
    ),
    Metric::gauge("threads", "Threads of the process.", |n| n.resources.threads),
    Metric::gauge("journal_waiting_bytes", "Octets of the journal that wait to be written.", |n| {
        n.totals.journal_waiting_bytes
    }),
    Metric::counter("journal_written_bytes_total", "Octets written to the journal.", |n| {
        n.totals.journal_bytes
    }),
    Metric::counter("deduplication_dropped_total", "Messages dropped as duplicates.", |n| {
        n.totals.duplicates_dropped
    }),
    Metric::gauge("deduplication_ids", "Ids that exchanges remember, to know duplicates by.", |n| {
        n.deduplication_ids
    }),
];

pub(super) static QUEUE: [Metric<QueueSnapshot>; 2] = [
    Metric::gauge(
        "queue_consumers_parked",
        "Consumers passed over since their client does not read, or their channel has its fill.",
        |q| q.parked as u64,
    ),
    Metric::gauge(
        "queue_messages_dying",
        "Dead messages that are not yet where the dead-letter exchange sends them.",
        |q| q.dying as u64,
    ),
];

pub(super) static DELAYED: [Metric<DelayedNumbers>; 2] = [
    Metric::gauge("delayed_messages", "Messages that wait in delayed exchanges.", |d| d.messages),
    Metric::gauge("delayed_message_bytes", "Octets of their bodies.", |d| d.body_bytes),
];

/// Name and meaning of the histogram of journal syncs.
pub(super) const JOURNAL_SYNC: (&str, &str) = ("journal_sync_seconds", "How long syncs of the journal took.");

/// Name and meaning of the histogram of waiting times.
pub(super) const PUBLISH_TO_DELIVER: (&str, &str) = (
    "publish_to_deliver_seconds",
    "How long messages were in their queue until they were handed out; a sample of one batch in 64, one at a time in \
     each queue.",
);

/// Writes what belongs to a page of this view.
pub(super) fn write(page: &mut Page<'_>, view: &View<'_>) {
    page.set_prefix(PREFIX);
    page.table(&NODE, std::slice::from_ref(&view.numbers));
    page.table(&QUEUE, view.queues());
    page.table(&DELAYED, &delayed(view));
    durations(page, JOURNAL_SYNC, &view.numbers.numbers.totals.journal_sync_times);
    durations(page, PUBLISH_TO_DELIVER, &view.node.broker().waiting_times());
}

fn delayed(view: &View<'_>) -> Vec<Row<DelayedNumbers>> {
    let mut rows = Vec::new();
    view.vhosts(|vhost| {
        for one in vhost.delayed() {
            let labels = labels(&[("vhost", vhost.name.as_str()), ("exchange", one.exchange.as_str())]);
            let numbers = DelayedNumbers { messages: one.messages as u64, body_bytes: one.body_bytes };
            rows.push(Row::of(labels, numbers));
        }
    });
    match view.scope {
        Scope::PerObject(_) => rows,
        Scope::Aggregated => {
            let none = DelayedNumbers { messages: 0, body_bytes: 0 };
            let sum = rows.iter().fold(none, |sum, row| DelayedNumbers {
                messages: sum.messages + row.numbers.messages,
                body_bytes: sum.body_bytes + row.numbers.body_bytes,
            });
            vec![Row::total(sum)]
        }
    }
}

fn durations(page: &mut Page<'_>, named: (&str, &str), durations: &HistogramSnapshot) {
    let bounds = BOUNDS_US.iter().map(|&microseconds| (microseconds as f64 / 1e6).to_string());
    let beyond = durations.counts.last().copied().unwrap_or_default();
    page.histogram(named, bounds.zip(durations.counts), beyond, durations.sum_ns as f64 / 1e9);
}
