//! Samples of what the broker counts, taken every few seconds, out of which rates come. A sampler's thread takes them;
//! the HTTP API reads them.
//!
//! For each thing that has ever done something the last values are kept, and how they had changed. What somebody looks
//! at with a history, and the broker as a whole, has ten minutes of values besides.

mod series;

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{io, thread};

use leveret_broker::counters::QueueCounters;
use leveret_broker::queue::QueueSnapshot;
use leveret_broker::{ConnectionId, QueueId};
use parking_lot::{Condvar, Mutex};

use crate::node::{ChannelCounters, Node, Totals};
pub(crate) use series::{History, Rates, Samples};

/// COMPAT: how often samples are taken.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);

/// Values of a queue: two that go up and down, then counters.
pub(crate) const QUEUE: usize = 10;
/// Values of a connection.
pub(crate) const CONNECTION: usize = 2;
/// Values of a channel.
pub(crate) const CHANNEL: usize = 12;
/// Values of an exchange.
pub(crate) const EXCHANGE: usize = 2;
/// Values of the broker as a whole: those of queues, of channels, what comes and goes, and of the process.
pub(crate) const OVERVIEW: usize = 2 + CHANNEL + 7 + 4;

/// What was sampled.
#[derive(Debug)]
pub struct Statistics {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the last sample was taken; before the first one, when this began.
    taken: Instant,
    queues: Samples<QueueId, QUEUE>,
    connections: Samples<ConnectionId, CONNECTION>,
    channels: Samples<(ConnectionId, u16), CHANNEL>,
    /// By the place of their counters, which is theirs as long as they live.
    exchanges: Samples<usize, EXCHANGE>,
    overview: Samples<(), OVERVIEW>,
}

impl Statistics {
    fn new() -> Self {
        let state = State {
            taken: Instant::now(),
            queues: Samples::default(),
            connections: Samples::default(),
            channels: Samples::default(),
            exchanges: Samples::default(),
            overview: Samples::default(),
        };
        Self { state: Mutex::new(state) }
    }

    /// Takes a sample.
    fn take(&self, node: &dyn Node) {
        let now_ms = node.broker().clock().now().0;
        let (connections, channels, totals) = (node.connections(), node.channels(), node.totals());
        let resources = node.resources();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let interval_s = state.taken.elapsed().as_secs_f64();
        state.taken = Instant::now();
        let (mut ready, mut unacked) = (0, 0);
        state.queues.begin(interval_s, now_ms);
        state.exchanges.begin(interval_s, now_ms);
        for vhost in node.broker().vhosts() {
            vhost.for_each_queue(|queue| {
                let snapshot = queue.snapshot();
                ready += snapshot.ready as u64;
                unacked += snapshot.unacked as u64;
                state.queues.add(queue.id, queue_values(&snapshot));
            });
            vhost.for_each_exchange(|_, _, counters| {
                let values = [counters.published(), counters.routed()];
                state.exchanges.add(Arc::as_ptr(counters) as usize, values);
            });
        }
        state.queues.end();
        state.exchanges.end();
        state.connections.begin(interval_s, now_ms);
        for connection in &connections {
            state.connections.add(connection.id, [connection.received.0, connection.sent.0]);
        }
        state.connections.end();
        state.channels.begin(interval_s, now_ms);
        for channel in &channels {
            let values = channel_values(&channel.counters);
            state.channels.add((channel.connection, channel.number), values);
        }
        state.channels.end();
        state.overview.begin(interval_s, now_ms);
        state.overview.watch(());
        let resources = [
            resources.resident_bytes,
            resources.disk_free_bytes.unwrap_or_default(),
            resources.open_files,
            resources.threads,
        ];
        state.overview.add((), overview_values(ready, unacked, &totals, node, resources));
        state.overview.end();
    }

    /// How fast values of a queue change, and since when they have not.
    pub(crate) fn queue(&self, id: QueueId) -> Rates<QUEUE> {
        self.state.lock().queues.rates(&id)
    }

    /// The same of several, by their ids: one lock for a listing.
    pub(crate) fn queues(&self, ids: &[QueueId]) -> HashMap<QueueId, Rates<QUEUE>> {
        let state = self.state.lock();
        let known = ids.iter().filter_map(|id| Some((*id, state.queues.known(id)?)));
        known.collect()
    }

    /// The same of a connection.
    pub(crate) fn connection(&self, id: ConnectionId) -> Rates<CONNECTION> {
        self.state.lock().connections.rates(&id)
    }

    /// The same of a channel.
    pub(crate) fn channel(&self, id: ConnectionId, number: u16) -> Rates<CHANNEL> {
        self.state.lock().channels.rates(&(id, number))
    }

    /// The same of an exchange.
    pub(crate) fn exchange(&self, counters: usize) -> Rates<EXCHANGE> {
        self.state.lock().exchanges.rates(&counters)
    }

    /// The same of everything.
    pub(crate) fn overview(&self) -> Rates<OVERVIEW> {
        self.state.lock().overview.rates(&())
    }

    /// Values of a queue over time; kept from when somebody first asks.
    pub(crate) fn queue_history(&self, id: QueueId) -> History<QUEUE> {
        self.state.lock().queues.watch(id)
    }

    /// The same of an exchange.
    pub(crate) fn exchange_history(&self, counters: usize) -> History<EXCHANGE> {
        self.state.lock().exchanges.watch(counters)
    }

    /// The same of a connection.
    pub(crate) fn connection_history(&self, id: ConnectionId) -> History<CONNECTION> {
        self.state.lock().connections.watch(id)
    }

    /// The same of a channel.
    pub(crate) fn channel_history(&self, id: ConnectionId, number: u16) -> History<CHANNEL> {
        self.state.lock().channels.watch((id, number))
    }

    /// The same of everything.
    pub(crate) fn overview_history(&self) -> History<OVERVIEW> {
        self.state.lock().overview.watch(())
    }

    /// Forgets all samples: rates begin anew.
    pub(crate) fn forget(&self) {
        *self.state.lock() = Self::new().state.into_inner();
    }
}

/// Ready, unacked, then what was counted.
pub(crate) fn queue_values(snapshot: &QueueSnapshot) -> [u64; QUEUE] {
    let QueueCounters {
        published,
        delivered,
        delivered_no_ack,
        got,
        got_no_ack,
        got_empty,
        redelivered,
        acked,
        ..
    } = snapshot.counters;
    let (ready, unacked) = (snapshot.ready as u64, snapshot.unacked as u64);
    [ready, unacked, published, delivered, delivered_no_ack, got, got_no_ack, got_empty, redelivered, acked]
}

/// What a channel counts.
pub(crate) fn channel_values(counters: &ChannelCounters) -> [u64; CHANNEL] {
    [
        counters.published,
        counters.confirmed,
        counters.returned,
        counters.dropped,
        counters.delivered,
        counters.delivered_no_ack,
        counters.got,
        counters.got_no_ack,
        counters.got_empty,
        counters.redelivered,
        counters.acked,
        counters.routed,
    ]
}

/// All of the broker: ready, unacked, channels, connections and channels and queues that come and go, the process.
pub(crate) fn overview_values(
    ready: u64,
    unacked: u64,
    totals: &Totals,
    node: &dyn Node,
    resources: [u64; 4],
) -> [u64; OVERVIEW] {
    let counters = node.broker().counters();
    let churn = [
        totals.connections_opened,
        totals.connections_closed,
        totals.channels_opened,
        totals.channels_closed,
        counters.queues_declared(),
        counters.queues_created(),
        counters.queues_deleted(),
    ];
    let mut values = [0; OVERVIEW];
    let all =
        [ready, unacked].into_iter().chain(channel_values(&totals.channels)).chain(churn).chain(resources);
    values.iter_mut().zip(all).for_each(|(value, one)| *value = one);
    values
}

/// The thread that takes samples; it ends when this is dropped.
pub(crate) struct Sampler {
    statistics: Arc<Statistics>,
    ending: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    /// Begins to take samples of a node.
    pub(crate) fn start(node: Arc<dyn Node>) -> io::Result<Self> {
        let statistics = Arc::new(Statistics::new());
        let ending = Arc::new((Mutex::new(false), Condvar::new()));
        let (taken, ended) = (Arc::clone(&statistics), Arc::clone(&ending));
        let thread = thread::Builder::new().name("sampler".to_owned()).spawn(move || {
            let mut is_ending = ended.0.lock();
            let mut next = Instant::now();
            while !*is_ending {
                if Instant::now() < next {
                    ended.1.wait_until(&mut is_ending, next);
                    continue;
                }
                next += INTERVAL;
                parking_lot::MutexGuard::unlocked(&mut is_ending, || taken.take(&*node));
            }
        })?;
        Ok(Self { statistics, ending, thread: Some(thread) })
    }

    pub(crate) fn statistics(&self) -> &Arc<Statistics> {
        &self.statistics
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        *self.ending.0.lock() = true;
        self.ending.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported where it happened.
            let _ = thread.join();
        }
    }
}
