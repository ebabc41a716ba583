//! Counts of what happens on channels and connections, for whoever watches the broker. A channel counts where it has
//! its lock, or for itself and in steps of a run of frames; one that closes leaves its counts behind in the totals.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

use leveret_management::node::Traffic;
use parking_lot::Mutex;

/// What happened to messages that a channel published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PublishCounters {
    /// Came, routed or not.
    pub(crate) published: u64,
    /// Of these: on a channel with confirms.
    pub(crate) to_confirm: u64,
    /// Copies that went to queues.
    pub(crate) routed: u64,
    /// Confirmed, acks and nacks alike.
    pub(crate) confirmed: u64,
    /// Went nowhere and back, since they were mandatory.
    pub(crate) returned: u64,
    /// Went nowhere.
    pub(crate) dropped: u64,
}

impl AddAssign for PublishCounters {
    fn add_assign(&mut self, other: Self) {
        self.published += other.published;
        self.to_confirm += other.to_confirm;
        self.routed += other.routed;
        self.confirmed += other.confirmed;
        self.returned += other.returned;
        self.dropped += other.dropped;
    }
}

/// What happened to messages that a channel consumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeliveryCounters {
    /// Delivered, to be acknowledged.
    pub(crate) delivered: u64,
    /// Delivered, and gone by that.
    pub(crate) delivered_no_ack: u64,
    /// Fetched by basic.get, to be acknowledged.
    pub(crate) got: u64,
    /// Fetched by basic.get, and gone by that.
    pub(crate) got_no_ack: u64,
    /// basic.get found none.
    pub(crate) got_empty: u64,
    /// Of those delivered and fetched: had been before.
    pub(crate) redelivered: u64,
    /// Acknowledged.
    pub(crate) acked: u64,
}

impl AddAssign for DeliveryCounters {
    fn add_assign(&mut self, other: Self) {
        self.delivered += other.delivered;
        self.delivered_no_ack += other.delivered_no_ack;
        self.got += other.got;
        self.got_no_ack += other.got_no_ack;
        self.got_empty += other.got_empty;
        self.redelivered += other.redelivered;
        self.acked += other.acked;
    }
}

/// Upper bounds of the size classes of messages, in octets of their bodies; what is larger is in the last class.
/// COMPAT: those that dashboards for RabbitMQ filter by.
pub(crate) const SIZE_CLASSES: [u64; 8] =
    [100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 50_000_000, 100_000_000];

/// How large the published messages were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Messages in each class, not cumulated; the last one is of those beyond all bounds.
    pub(crate) classes: [u64; SIZE_CLASSES.len() + 1],
    /// Octets of all of them.
    pub(crate) bytes: u64,
}

impl Sizes {
    #[inline]
    pub(crate) fn add(&mut self, body_bytes: usize) {
        let bytes = body_bytes as u64;
        self.bytes += bytes;
        // PERF: nearly all messages are in one of the first classes.
        let class = SIZE_CLASSES.iter().position(|&bound| bytes <= bound).unwrap_or(SIZE_CLASSES.len());
        if let Some(count) = self.classes.get_mut(class) {
            *count += 1;
        }
    }
}

impl AddAssign for Sizes {
    fn add_assign(&mut self, other: Self) {
        self.classes.iter_mut().zip(other.classes).for_each(|(count, more)| *count += more);
        self.bytes += other.bytes;
    }
}

/// All that channels have counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ChannelCounters {
    pub(crate) publishes: PublishCounters,
    pub(crate) sizes: Sizes,
    pub(crate) deliveries: DeliveryCounters,
}

impl AddAssign for ChannelCounters {
    fn add_assign(&mut self, other: Self) {
        self.publishes += other.publishes;
        self.sizes += other.sizes;
        self.deliveries += other.deliveries;
    }
}

/// What a connection received.
#[derive(Debug, Default)]
pub(crate) struct ReceiveCounters {
    bytes: AtomicU64,
    reads: AtomicU64,
}

impl ReceiveCounters {
    /// That many octets were read at once. Called by one task.
    pub(crate) fn add(&self, bytes: usize) {
        // PERF: nobody else writes them, so that no locked instruction is needed.
        let step = |count: &AtomicU64, by| count.store(count.load(Ordering::Relaxed) + by, Ordering::Relaxed);
        step(&self.bytes, bytes as u64);
        step(&self.reads, 1);
    }

    /// Octets, and in how many reads they came.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.bytes.load(Ordering::Relaxed), self.reads.load(Ordering::Relaxed))
    }
}

/// What comes and goes, and what those that went have counted.
#[derive(Debug, Default)]
pub(crate) struct ServerCounters {
    pub(crate) connections_opened: AtomicU64,
    pub(crate) connections_closed: AtomicU64,
    pub(crate) channels_opened: AtomicU64,
    pub(crate) channels_closed: AtomicU64,
    pub(crate) logins_accepted: AtomicU64,
    pub(crate) logins_refused: AtomicU64,
    /// Of channels that are there no more.
    closed: Mutex<ChannelCounters>,
    /// Of connections that are there no more.
    closed_traffic: Mutex<Traffic>,
}

impl ServerCounters {
    /// A channel ends that counted this.
    pub(crate) fn channel_ends(&self, counted: ChannelCounters) {
        *self.closed.lock() += counted;
    }

    /// A connection ends that received and sent this.
    pub(crate) fn connection_ends(&self, traffic: Traffic) {
        *self.closed_traffic.lock() += traffic;
    }

    /// What connections received and sent that are there no more.
    pub(crate) fn of_closed_connections(&self) -> Traffic {
        *self.closed_traffic.lock()
    }

    /// A login was tried.
    pub(crate) fn login(&self, is_accepted: bool) {
        let counter = if is_accepted { &self.logins_accepted } else { &self.logins_refused };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// What channels counted that are there no more.
    pub(crate) fn of_closed_channels(&self) -> ChannelCounters {
        *self.closed.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_in_the_class_whose_bound_it_does_not_exceed() {
        let mut sizes = Sizes::default();
        [0, 100, 101, 100_000_000, 100_000_001].into_iter().for_each(|bytes| sizes.add(bytes));
        assert_eq!(sizes.classes, [2, 1, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(sizes.bytes, 200_000_202);
    }
}
