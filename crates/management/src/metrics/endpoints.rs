//! The pages: what each of them consists of.

use leveret_broker::counters::DeathCounters;

use super::families::{self, Family};
use super::metric::{Row, labels};
use super::own;
use super::page::{Grown, Page};
use super::view::{Chosen, Scope, View};
use crate::node::Node;

/// COMPAT: what the names of RabbitMQ's metrics begin with.
pub(super) const PREFIX: &str = "rabbitmq_";
/// COMPAT: the same for what was asked for by family.
pub(super) const DETAILED_PREFIX: &str = "rabbitmq_detailed_";
/// COMPAT: the same for families that are the same on all nodes.
pub(super) const CLUSTER_PREFIX: &str = "rabbitmq_cluster_";

/// What clients speak, as labels have it.
const PROTOCOL: (&str, &str) = ("protocol", "amqp091");

/// COMPAT: bounds of message sizes as dashboards write them when they filter by one.
const SIZE_BOUNDS: [(u64, &str); 8] = [
    (100, "100.0"),
    (1_000, "1000.0"),
    (10_000, "10000.0"),
    (100_000, "100000.0"),
    (1_000_000, "1e+06"),
    (10_000_000, "1e+07"),
    (50_000_000, "5e+07"),
    (100_000_000, "1e+08"),
];

/// The families of the pages that show everything, in the order in which they are shown.
const SHOWN: [Family; 14] = [
    Family::ConnectionChurn,
    Family::NodeCoarse,
    Family::Node,
    Family::NodePersister,
    Family::AuthAttempt,
    Family::QueueCoarse,
    Family::Queue,
    Family::QueueDelivery,
    Family::Channel,
    Family::ChannelExchange,
    Family::ChannelQueue,
    Family::ConnectionCoarse,
    Family::Connection,
    Family::Exchange,
];

/// What `/metrics/detailed` was asked for.
pub(super) struct Wanted {
    pub(super) families: Vec<Family>,
    pub(super) chosen: Chosen,
}

/// `/metrics`: one series per metric, whatever there is of each kind.
pub(super) fn aggregated(node: &dyn Node, grown: &mut Grown) -> String {
    let view = View::new(node, Scope::Aggregated);
    let mut page = Page::new(PREFIX, Some(grown));
    everything(&mut page, &view);
    end(page, &view, "aggregated")
}

/// `/metrics/per-object`: a series for each queue, channel, connection and exchange.
pub(super) fn per_object(node: &dyn Node) -> String {
    let view = View::new(node, Scope::PerObject(Chosen::default()));
    let mut page = Page::new(PREFIX, None);
    everything(&mut page, &view);
    page.set_prefix(PREFIX);
    page.table(&families::QUEUE_INFO, &view.queue_infos());
    end(page, &view, "per-object")
}

/// `/metrics/detailed`: the families that were asked for.
pub(super) fn detailed(node: &dyn Node, wanted: Wanted) -> String {
    let has = |family| wanted.families.contains(&family);
    let has_queues = has(Family::Queue) || has(Family::QueueCoarse) || has(Family::QueueConsumerCount);
    let has_all_of_queues = has(Family::Queue);
    let view = View::new(node, Scope::PerObject(wanted.chosen));
    let mut page = Page::new(DETAILED_PREFIX, None);
    for family in wanted.families {
        // The same series twice is no page.
        if family != Family::QueueConsumerCount || !has_all_of_queues {
            write(&mut page, &view, family);
        }
    }
    if has_queues {
        page.set_prefix(DETAILED_PREFIX);
        page.table(&families::QUEUE_INFO, &view.queue_infos());
    }
    end(page, &view, "detailed")
}

/// `/metrics/memory-breakdown`: what memory is taken by.
pub(super) fn memory_breakdown(node: &dyn Node) -> String {
    let view = View::new(node, Scope::Aggregated);
    let mut page = Page::new(PREFIX, None);
    page.table(&families::MEMORY, &[Row::total(view.memory())]);
    end(page, &view, "memory-breakdown")
}

fn everything(page: &mut Page<'_>, view: &View<'_>) {
    SHOWN.into_iter().for_each(|family| write(page, view, family));
    let totals = view.total_numbers();
    page.table(&families::TOTALS, &[Row::total(totals)]);
    page.table(&families::GLOBAL, &[Row::of(labels(&[PROTOCOL]), totals)]);
    global(page, view);
    page.table(&families::ALARMS, std::slice::from_ref(&view.numbers));
    own::write(page, view);
}

/// Which node and version this is, without which dashboards show nothing.
fn end(mut page: Page<'_>, view: &View<'_>, endpoint: &str) -> String {
    let (node, version) = (view.node, view.node.compatible_version());
    let build = labels(&[
        ("rabbitmq_version", version),
        ("prometheus_plugin_version", version),
        ("prometheus_client_version", version),
        ("erlang_version", "none"),
        ("product_name", "Leveret"),
        ("product_version", env!("CARGO_PKG_VERSION")),
    ]);
    let cluster = view.node.cluster_name();
    let identity = labels(&[
        ("rabbitmq_node", node.name()),
        ("rabbitmq_cluster", &cluster),
        ("rabbitmq_cluster_permanent_id", node.name()),
        ("rabbitmq_endpoint", endpoint),
    ]);
    page.set_prefix(PREFIX);
    page.table(&families::BUILD, &[Row::of(build, 1)]);
    page.table(&families::IDENTITY, &[Row::of(identity, 1)]);
    page.into_text()
}

fn write(page: &mut Page<'_>, view: &View<'_>, family: Family) {
    let node = std::slice::from_ref(&view.numbers);
    let cluster = |page: &mut Page<'_>, metrics, rows: &[Row<u64>]| {
        page.set_prefix(CLUSTER_PREFIX);
        page.table(metrics, rows);
        page.set_prefix(DETAILED_PREFIX);
    };
    match family {
        Family::ConnectionChurn => page.table(&families::CONNECTION_CHURN, node),
        Family::NodeCoarse => page.table(&families::NODE_COARSE, node),
        Family::Node => page.table(&families::NODE, node),
        Family::NodePersister => page.table(&families::NODE_PERSISTER, node),
        Family::AuthAttempt => page.table(&families::AUTH_ATTEMPT, node),
        Family::QueueCoarse => page.table(&families::QUEUE_COARSE, view.queues()),
        Family::QueueConsumerCount => page.table(&families::QUEUE_CONSUMER_COUNT, view.queues()),
        Family::Queue => page.table(&families::QUEUE, view.queues()),
        Family::QueueDelivery => page.table(&families::QUEUE_DELIVERY, view.queues()),
        Family::Channel => page.table(&families::CHANNEL, view.channels()),
        Family::ChannelExchange => page.table(&families::CHANNEL_EXCHANGE, view.channels()),
        Family::ChannelQueue => page.table(&families::CHANNEL_QUEUE, view.channels()),
        Family::ConnectionCoarse => page.table(&families::CONNECTION_COARSE, view.connections()),
        Family::Connection => page.table(&families::CONNECTION, view.connections()),
        Family::Exchange => page.table(&families::EXCHANGE, &view.exchanges()),
        Family::VhostStatus => {
            let mut rows = Vec::new();
            view.vhosts(|vhost| rows.push(Row::of(labels(&[("vhost", vhost.name.as_str())]), 1)));
            cluster(page, &families::VHOST_STATUS, &rows);
        }
        Family::ExchangeBindings => {
            cluster(page, &families::EXCHANGE_BINDINGS, &view.exchange_bindings());
        }
        Family::ExchangeNames => {
            let mut rows = view.exchange_bindings();
            rows.iter_mut().for_each(|row| row.numbers = 1);
            cluster(page, &families::EXCHANGE_NAMES, &rows);
        }
    }
}

/// What has happened to messages since the start, whatever has become of channels and queues.
fn global(page: &mut Page<'_>, view: &View<'_>) {
    let totals = &view.numbers.numbers.totals;
    page.table(&families::GLOBAL_PUBLISHED, &[Row::of(labels(&[PROTOCOL]), totals.channels)]);
    let queues = totals.queues;
    let types = [("rabbit_classic_queue", queues.classic), ("rabbit_quorum_queue", queues.quorum)];
    let rows = types.map(|(name, numbers)| Row::of(labels(&[PROTOCOL, ("queue_type", name)]), numbers));
    page.table(&families::GLOBAL_DELIVERED, &rows);
    let dead = |queue_type: &str, strategy: &str, numbers: DeathCounters| {
        Row::of(labels(&[("queue_type", queue_type), ("dead_letter_strategy", strategy)]), numbers)
    };
    let [(classic, of_classic), (quorum, of_quorum)] = types.map(|(name, numbers)| (name, numbers.deaths));
    let of_quorum_queues = [
        dead(quorum, "at_least_once", of_quorum.at_least_once),
        dead(quorum, "at_most_once", of_quorum.at_most_once),
        dead(quorum, "disabled", of_quorum.disabled),
    ];
    let of_all = [
        &[
            dead(classic, "at_most_once", of_classic.at_most_once),
            dead(classic, "disabled", of_classic.disabled),
        ][..],
        &of_quorum_queues,
    ];
    page.table(&families::DEAD_LETTERED, &of_all.concat());
    page.table(&families::DEAD_LETTERED_QUORUM, &of_quorum_queues);
    let surely = labels(&[("queue_type", quorum), ("dead_letter_strategy", "at_least_once")]);
    page.table(&families::DEAD_LETTERED_SURELY, &[Row::of(surely, of_quorum.confirmed)]);
    let in_class =
        |bound| totals.message_sizes.iter().find(|(of, _)| *of == bound).map_or(0, |(_, count)| *count);
    let buckets = SIZE_BOUNDS.into_iter().map(|(bound, text)| (text.to_owned(), in_class(Some(bound))));
    page.histogram(families::MESSAGE_SIZE, buckets, in_class(None), totals.message_size_sum as f64);
}
