//! The rows of a page: one for all of a kind, or one for each, gathered once and when they are first needed.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use leveret_broker::queue::QueueSnapshot;
use leveret_broker::{Queue, Vhost};

use super::metric::{Row, labels};
use crate::node::{ChannelCounters, ChannelInfo, ConnectionInfo, Node, Resources, Totals};
use crate::pattern::Pattern;

/// What a page is about.
pub(super) enum Scope {
    /// Everything together: one row for all objects of a kind, those that are gone counted on.
    Aggregated,
    /// A row for each object.
    PerObject(Chosen),
}

/// Which objects.
#[derive(Default)]
pub(super) struct Chosen {
    /// Those in these vhosts, or in any if there are none.
    vhosts: HashSet<String>,
    /// These queues, or all.
    queues: Option<Vec<(Arc<Vhost>, Arc<Queue>)>>,
}

impl Chosen {
    /// What is in these vhosts, or in any if there are none, and of queues those with such names, or all.
    ///
    /// # Errors
    /// The pattern takes too long.
    pub(super) fn new(
        node: &dyn Node,
        vhosts: HashSet<String>,
        queue: Option<&Pattern>,
    ) -> Result<Self, String> {
        let mut chosen = Self { vhosts, queues: None };
        if let Some(pattern) = queue {
            let mut queues = Vec::new();
            for vhost in node.broker().vhosts().into_iter().filter(|vhost| chosen.has_vhost(vhost)) {
                queues.extend(vhost.queues().into_iter().map(|queue| (Arc::clone(&vhost), queue)));
            }
            pattern.retain(&mut queues, |(_, queue)| queue.spec.name.as_str())?;
            chosen.queues = Some(queues);
        }
        Ok(chosen)
    }

    fn has_vhost(&self, vhost: &Vhost) -> bool {
        self.vhosts.is_empty() || self.vhosts.contains(vhost.name.as_str())
    }
}

/// Numbers of the node.
#[derive(Clone, Debug)]
pub(super) struct NodeNumbers {
    pub(super) totals: Totals,
    pub(super) resources: Resources,
    pub(super) queues_declared: u64,
    pub(super) queues_created: u64,
    pub(super) queues_deleted: u64,
    pub(super) deduplication_ids: u64,
}

/// How many there are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TotalNumbers {
    pub(super) connections: u64,
    pub(super) channels: u64,
    pub(super) consumers: u64,
    pub(super) queues: u64,
    pub(super) publishers: u64,
}

/// Numbers of a channel, or of all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ChannelNumbers {
    pub(super) consumers: u64,
    pub(super) unacked: u64,
    pub(super) unconfirmed: u64,
    pub(super) uncommitted: u64,
    pub(super) uncommitted_acks: u64,
    pub(super) prefetch: u64,
    pub(super) global_prefetch: u64,
    pub(super) counters: ChannelCounters,
}

impl From<&ChannelInfo> for ChannelNumbers {
    fn from(channel: &ChannelInfo) -> Self {
        Self {
            consumers: channel.consumers as u64,
            unacked: channel.unacked as u64,
            unconfirmed: channel.unconfirmed,
            uncommitted: channel.uncommitted as u64,
            uncommitted_acks: channel.uncommitted_acks as u64,
            prefetch: u64::from(channel.prefetch),
            global_prefetch: u64::from(channel.global_prefetch),
            counters: channel.counters,
        }
    }
}

/// Numbers of a connection, or of all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectionNumbers {
    pub(super) received_bytes: u64,
    pub(super) reads: u64,
    pub(super) sent_bytes: u64,
    pub(super) writes: u64,
    pub(super) pending: u64,
    pub(super) channels: u64,
}

impl From<&ConnectionInfo> for ConnectionNumbers {
    fn from(connection: &ConnectionInfo) -> Self {
        Self {
            received_bytes: connection.received.0,
            reads: connection.received.1,
            sent_bytes: connection.sent.0,
            writes: connection.sent.1,
            pending: u64::from(connection.waiting_bytes > 0),
            channels: connection.channels as u64,
        }
    }
}

/// What the memory of the process is taken by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MemoryNumbers {
    pub(super) classic: u64,
    pub(super) quorum: u64,
    pub(super) waiting: u64,
    pub(super) other: u64,
}

/// All queues together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct QueueSum {
    pub(super) numbers: QueueSnapshot,
    pub(super) count: u64,
    /// Octets of memory that those of type quorum hold.
    pub(super) quorum_memory_bytes: u64,
}

/// A node at one moment.
pub(super) struct View<'a> {
    pub(super) node: &'a dyn Node,
    pub(super) scope: Scope,
    /// One row.
    pub(super) numbers: Row<NodeNumbers>,
    sum: OnceCell<QueueSum>,
    queues: OnceCell<Vec<Row<QueueSnapshot>>>,
    channel_infos: OnceCell<Vec<ChannelInfo>>,
    channels: OnceCell<Vec<Row<ChannelNumbers>>>,
    connection_infos: OnceCell<Vec<ConnectionInfo>>,
    connections: OnceCell<Vec<Row<ConnectionNumbers>>>,
}

impl<'a> View<'a> {
    pub(super) fn new(node: &'a dyn Node, scope: Scope) -> Self {
        let broker = node.broker();
        let (counters, vhosts) = (broker.counters(), broker.vhosts());
        let ids = vhosts.iter().flat_map(|vhost| vhost.deduplication()).map(|one| one.ids as u64);
        let numbers = NodeNumbers {
            totals: node.totals(),
            resources: node.resources(),
            queues_declared: counters.queues_declared(),
            queues_created: counters.queues_created(),
            queues_deleted: counters.queues_deleted(),
            deduplication_ids: ids.sum(),
        };
        Self {
            node,
            scope,
            numbers: Row::total(numbers),
            sum: OnceCell::new(),
            queues: OnceCell::new(),
            channel_infos: OnceCell::new(),
            channels: OnceCell::new(),
            connection_infos: OnceCell::new(),
            connections: OnceCell::new(),
        }
    }

    fn totals(&self) -> &Totals {
        &self.numbers.numbers.totals
    }

    /// All queues together.
    pub(super) fn queue_sum(&self) -> &QueueSum {
        self.sum.get_or_init(|| {
            let mut sum = QueueSum::default();
            for vhost in self.node.broker().vhosts() {
                for queue in vhost.queues() {
                    let numbers = queue.snapshot();
                    sum.count += 1;
                    sum.numbers += numbers;
                    if queue.spec.is_quorum() {
                        sum.quorum_memory_bytes += numbers.memory_bytes as u64;
                    }
                }
            }
            sum
        })
    }

    /// A row for each queue, or one.
    pub(super) fn queues(&self) -> &[Row<QueueSnapshot>] {
        self.queues.get_or_init(|| match &self.scope {
            Scope::Aggregated => {
                let counters = self.totals().queues.sum();
                vec![Row::total(QueueSnapshot { counters, ..self.queue_sum().numbers })]
            }
            Scope::PerObject(chosen) => {
                let mut rows = Vec::new();
                self.for_each_queue(chosen, |vhost, queue| {
                    let labels = labels(&[("vhost", vhost), ("queue", queue.spec.name.as_str())]);
                    rows.push(Row::of(labels, queue.snapshot()));
                });
                rows
            }
        })
    }

    /// What is known of each queue beside numbers.
    pub(super) fn queue_infos(&self) -> Vec<Row<u64>> {
        let mut rows = Vec::new();
        if let Scope::PerObject(chosen) = &self.scope {
            self.for_each_queue(chosen, |vhost, queue| {
                let queue_type = queue.spec.arguments.queue_type().module();
                let queue = queue.spec.name.as_str();
                // COMPAT: what is on one node alone is led from there.
                let pairs = [
                    ("vhost", vhost),
                    ("queue", queue),
                    ("queue_type", queue_type),
                    ("membership", "leader"),
                ];
                rows.push(Row::of(labels(&pairs), 1));
            });
        }
        rows
    }

    fn for_each_queue(&self, chosen: &Chosen, mut visit: impl FnMut(&str, &Queue)) {
        if let Some(queues) = &chosen.queues {
            queues.iter().for_each(|(vhost, queue)| visit(vhost.name.as_str(), queue));
            return;
        }
        self.vhosts(|vhost| vhost.queues().iter().for_each(|queue| visit(vhost.name.as_str(), queue)));
    }

    /// The vhosts that the page is about.
    pub(super) fn vhosts(&self, mut visit: impl FnMut(&Vhost)) {
        for vhost in self.node.broker().vhosts() {
            match &self.scope {
                Scope::PerObject(chosen) if !chosen.has_vhost(&vhost) => {}
                _ => visit(&vhost),
            }
        }
    }

    fn channel_infos(&self) -> &[ChannelInfo] {
        self.channel_infos.get_or_init(|| self.node.channels())
    }

    fn connection_infos(&self) -> &[ConnectionInfo] {
        self.connection_infos.get_or_init(|| self.node.connections())
    }

    /// A row for each channel, or one.
    pub(super) fn channels(&self) -> &[Row<ChannelNumbers>] {
        self.channels.get_or_init(|| match &self.scope {
            Scope::Aggregated => vec![Row::total(self.channel_sum())],
            Scope::PerObject(_) => {
                let row = |channel: &ChannelInfo| {
                    let name = format!("{} ({})", channel.connection_name, channel.number);
                    Row::of(labels(&[("channel", &name)]), ChannelNumbers::from(channel))
                };
                self.channel_infos().iter().map(row).collect()
            }
        })
    }

    fn channel_sum(&self) -> ChannelNumbers {
        let start = ChannelNumbers { counters: self.totals().channels, ..ChannelNumbers::default() };
        self.channel_infos().iter().map(ChannelNumbers::from).fold(start, |sum, one| ChannelNumbers {
            consumers: sum.consumers + one.consumers,
            unacked: sum.unacked + one.unacked,
            unconfirmed: sum.unconfirmed + one.unconfirmed,
            uncommitted: sum.uncommitted + one.uncommitted,
            uncommitted_acks: sum.uncommitted_acks + one.uncommitted_acks,
            prefetch: sum.prefetch + one.prefetch,
            global_prefetch: sum.global_prefetch + one.global_prefetch,
            counters: sum.counters,
        })
    }

    /// A row for each connection, or one.
    pub(super) fn connections(&self) -> &[Row<ConnectionNumbers>] {
        self.connections.get_or_init(|| match &self.scope {
            Scope::Aggregated => {
                let traffic = self.totals().traffic;
                let mut sum = ConnectionNumbers {
                    received_bytes: traffic.received_bytes,
                    reads: traffic.reads,
                    sent_bytes: traffic.sent_bytes,
                    writes: traffic.writes,
                    ..ConnectionNumbers::default()
                };
                for one in self.connection_infos().iter().map(ConnectionNumbers::from) {
                    sum.pending += one.pending;
                    sum.channels += one.channels;
                }
                vec![Row::total(sum)]
            }
            Scope::PerObject(_) => {
                // COMPAT: the label is called channel here as well.
                let row = |connection: &ConnectionInfo| {
                    Row::of(labels(&[("channel", &connection.name)]), ConnectionNumbers::from(connection))
                };
                self.connection_infos().iter().map(row).collect()
            }
        })
    }

    /// What was published to each exchange, or to all.
    pub(super) fn exchanges(&self) -> Vec<Row<u64>> {
        if let Scope::Aggregated = self.scope {
            return vec![Row::total(self.totals().channels.published)];
        }
        let mut rows = Vec::new();
        self.vhosts(|vhost| {
            let names = vhost.exchanges().into_iter().map(|spec| spec.name.to_string());
            for name in names.chain([String::new()]) {
                let labels = labels(&[("vhost", vhost.name.as_str()), ("exchange", &name)]);
                let published = vhost.exchange_counters(&name).map(|counters| counters.published());
                rows.extend(published.map(|published| Row::of(labels, published)));
            }
        });
        rows
    }

    /// How many bindings lead from each exchange. COMPAT: not of the default one, nor of internal ones.
    pub(super) fn exchange_bindings(&self) -> Vec<Row<u64>> {
        let mut rows = Vec::new();
        self.vhosts(|vhost| {
            let mut counts: HashMap<String, u64> = HashMap::new();
            vhost.bindings().iter().for_each(|one| *counts.entry(one.source.to_string()).or_default() += 1);
            for spec in vhost.exchanges().into_iter().filter(|spec| !spec.internal) {
                let name = spec.name.to_string();
                let labels = labels(&[
                    ("vhost", vhost.name.as_str()),
                    ("exchange", &name),
                    ("type", spec.exchange_type.as_str()),
                ]);
                rows.push(Row::of(labels, counts.get(&name).copied().unwrap_or_default()));
            }
        });
        rows
    }

    /// How many there are of everything.
    pub(super) fn total_numbers(&self) -> TotalNumbers {
        let channels = self.channel_infos();
        TotalNumbers {
            connections: self.connection_infos().len() as u64,
            channels: channels.len() as u64,
            consumers: self.queue_sum().numbers.consumers as u64,
            queues: self.queue_sum().count,
            publishers: channels.iter().filter(|channel| channel.counters.published > 0).count() as u64,
        }
    }

    /// What memory is taken by.
    pub(super) fn memory(&self) -> MemoryNumbers {
        let sum = self.queue_sum();
        let quorum = sum.quorum_memory_bytes;
        let classic = (sum.numbers.memory_bytes as u64).saturating_sub(quorum);
        let waiting = self.connection_infos().iter().map(|one| one.waiting_bytes as u64).sum();
        let resident = self.numbers.numbers.resources.resident_bytes;
        let other = resident.saturating_sub(classic).saturating_sub(quorum).saturating_sub(waiting);
        MemoryNumbers { classic, quorum, waiting, other }
    }
}
