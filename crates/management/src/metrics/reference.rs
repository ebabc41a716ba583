//! The document that lists all metrics, made of the tables that pages are made of.

use std::fmt::Write as _;

use super::metric::{Kind, Metric};
use super::{endpoints, families, own};

/// A list of all metrics in Markdown: what `docs/METRICS.md` has between its marks.
#[must_use]
pub fn reference() -> String {
    let mut lists = Lists(String::new());
    lists.rabbitmq_families();
    lists.section("Global (in `/metrics` and `/metrics/per-object`)");
    lists.table(endpoints::PREFIX, &families::TOTALS);
    lists.table(endpoints::PREFIX, &families::GLOBAL);
    lists.table(endpoints::PREFIX, &families::GLOBAL_PUBLISHED);
    lists.table(endpoints::PREFIX, &families::GLOBAL_DELIVERED);
    lists.table(endpoints::PREFIX, &families::DEAD_LETTERED);
    lists.table(endpoints::PREFIX, &families::DEAD_LETTERED_QUORUM);
    lists.table(endpoints::PREFIX, &families::DEAD_LETTERED_SURELY);
    lists.line(endpoints::PREFIX, families::MESSAGE_SIZE.0, Kind::Histogram, families::MESSAGE_SIZE.1);
    lists.table(endpoints::PREFIX, &families::ALARMS);
    lists.section("Which node (on all pages)");
    lists.table(endpoints::PREFIX, &families::IDENTITY);
    lists.table(endpoints::PREFIX, &families::BUILD);
    lists.section("Memory (`/metrics/memory-breakdown`)");
    lists.table(endpoints::PREFIX, &families::MEMORY);
    lists.section("Leveret's own (in `/metrics` and `/metrics/per-object`)");
    lists.table(own::PREFIX, &own::NODE);
    lists.table(own::PREFIX, &own::QUEUE);
    lists.table(own::PREFIX, &own::DELAYED);
    for (name, help) in [own::JOURNAL_SYNC, own::PUBLISH_TO_DELIVER] {
        lists.line(own::PREFIX, name, Kind::Histogram, help);
    }
    lists.0
}

struct Lists(String);

impl Lists {
    fn rabbitmq_families(&mut self) {
        let prefix = endpoints::PREFIX;
        self.section("`connection_churn_metrics`");
        self.table(prefix, &families::CONNECTION_CHURN);
        self.section("`node_coarse_metrics`");
        self.table(prefix, &families::NODE_COARSE);
        self.section("`node_metrics`");
        self.table(prefix, &families::NODE);
        self.section("`node_persister_metrics`");
        self.table(prefix, &families::NODE_PERSISTER);
        self.section("`auth_attempt_metrics`");
        self.table(prefix, &families::AUTH_ATTEMPT);
        self.section("`queue_coarse_metrics` (labels `vhost`, `queue`)");
        self.table(prefix, &families::QUEUE_COARSE);
        self.section("`queue_metrics` (labels `vhost`, `queue`); `queue_consumer_count` has the first alone");
        self.table(prefix, &families::QUEUE);
        self.section("`queue_delivery_metrics` (labels `vhost`, `queue`)");
        self.table(prefix, &families::QUEUE_DELIVERY);
        self.section("With any family of queues (labels `vhost`, `queue`, `queue_type`, `membership`)");
        self.table(prefix, &families::QUEUE_INFO);
        self.section("`channel_metrics` (label `channel`)");
        self.table(prefix, &families::CHANNEL);
        self.section("`channel_exchange_metrics` (label `channel`)");
        self.table(prefix, &families::CHANNEL_EXCHANGE);
        self.section("`channel_queue_metrics` (label `channel`)");
        self.table(prefix, &families::CHANNEL_QUEUE);
        self.section("`connection_coarse_metrics` (label `channel`, which is the connection's name)");
        self.table(prefix, &families::CONNECTION_COARSE);
        self.section("`connection_metrics` (label `channel`, which is the connection's name)");
        self.table(prefix, &families::CONNECTION);
        self.section("`exchange_metrics` (labels `vhost`, `exchange`)");
        self.table(prefix, &families::EXCHANGE);
        self.section("`vhost_status`, `exchange_bindings`, `exchange_names` (`/metrics/detailed` alone)");
        self.table(endpoints::CLUSTER_PREFIX, &families::VHOST_STATUS);
        self.table(endpoints::CLUSTER_PREFIX, &families::EXCHANGE_BINDINGS);
        self.table(endpoints::CLUSTER_PREFIX, &families::EXCHANGE_NAMES);
    }

    fn section(&mut self, title: &str) {
        // INVARIANT: writing to a String does not fail.
        let _ = writeln!(self.0, "\n### {title}\n\n| name | type | |\n|---|---|---|");
    }

    fn table<T>(&mut self, prefix: &str, metrics: &[Metric<T>]) {
        metrics.iter().for_each(|metric| self.line(prefix, metric.name, metric.kind, metric.help));
    }

    fn line(&mut self, prefix: &str, name: &str, kind: Kind, help: &str) {
        // INVARIANT: writing to a String does not fail.
        let _ = writeln!(self.0, "| `{prefix}{name}` | {} | {help} |", kind.as_str());
    }
}
