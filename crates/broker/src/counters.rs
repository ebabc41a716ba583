//! Counts of what happens to messages. They only grow while what they count is there, and what is deleted leaves
//! its own behind in the totals. A queue counts under its lock, in steps of a batch; the others in steps of a run of
//! frames.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::queue::{DeathReason, QueueType};

/// What has happened to messages of a queue, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounters {
    /// Came into the queue.
    pub published: u64,
    /// Were delivered to consumers that acknowledge.
    pub delivered: u64,
    /// Were delivered to consumers that do not.
    pub delivered_no_ack: u64,
    /// Were fetched by basic.get, to be acknowledged.
    pub got: u64,
    /// Were fetched by basic.get, and gone by that.
    pub got_no_ack: u64,
    /// basic.get found none.
    pub got_empty: u64,
    /// Of those delivered and fetched: had been before.
    pub redelivered: u64,
    /// Were acknowledged.
    pub acked: u64,
    /// Were not taken, since another one in the queue had their id.
    pub duplicates: u64,
    /// Died.
    pub deaths: Deaths,
}

/// Messages that died, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deaths {
    /// There was no dead-letter exchange.
    pub disabled: DeathCounters,
    /// They were handed to its targets.
    pub at_most_once: DeathCounters,
    /// They are kept until every target has them safe.
    pub at_least_once: DeathCounters,
    /// Of the last: every target has them safe.
    pub confirmed: u64,
}

impl AddAssign for Deaths {
    fn add_assign(&mut self, other: Self) {
        self.disabled += other.disabled;
        self.at_most_once += other.at_most_once;
        self.at_least_once += other.at_least_once;
        self.confirmed += other.confirmed;
    }
}

/// Messages that died, by [`DeathReason`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeathCounters {
    /// Rejected without requeue.
    pub rejected: u64,
    /// Their time was over.
    pub expired: u64,
    /// The queue was too long.
    pub max_length: u64,
    /// They came back too often.
    pub delivery_limit: u64,
}

impl DeathCounters {
    pub(crate) fn add(&mut self, reason: DeathReason, count: usize) {
        let counter = match reason {
            DeathReason::Rejected => &mut self.rejected,
            DeathReason::Expired => &mut self.expired,
            DeathReason::MaxLength => &mut self.max_length,
            DeathReason::DeliveryLimit => &mut self.delivery_limit,
        };
        *counter += count as u64;
    }
}

impl AddAssign for DeathCounters {
    fn add_assign(&mut self, other: Self) {
        self.rejected += other.rejected;
        self.expired += other.expired;
        self.max_length += other.max_length;
        self.delivery_limit += other.delivery_limit;
    }
}

impl AddAssign for QueueCounters {
    fn add_assign(&mut self, other: Self) {
        self.published += other.published;
        self.delivered += other.delivered;
        self.delivered_no_ack += other.delivered_no_ack;
        self.got += other.got;
        self.got_no_ack += other.got_no_ack;
        self.got_empty += other.got_empty;
        self.redelivered += other.redelivered;
        self.acked += other.acked;
        self.duplicates += other.duplicates;
        self.deaths += other.deaths;
    }
}

/// The same of all queues, by their type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueTotals {
    /// Classic queues.
    pub classic: QueueCounters,
    /// Quorum queues.
    pub quorum: QueueCounters,
}

impl QueueTotals {
    pub(crate) fn add(&mut self, queue_type: QueueType, counters: QueueCounters) {
        match queue_type {
            QueueType::Quorum => self.quorum += counters,
            _ => self.classic += counters,
        }
    }

    /// Of both types.
    #[must_use]
    pub fn sum(&self) -> QueueCounters {
        let mut sum = self.classic;
        sum += self.quorum;
        sum
    }
}

/// What was published to an exchange by clients. Channels add what they have gathered.
#[derive(Debug, Default)]
pub struct ExchangeCounters {
    published: AtomicU64,
    routed: AtomicU64,
}

impl ExchangeCounters {
    /// `published` messages came, of which `routed` copies went to queues.
    pub fn add(&self, published: u64, routed: u64) {
        self.published.fetch_add(published, Ordering::Relaxed);
        self.routed.fetch_add(routed, Ordering::Relaxed);
    }

    /// Messages that came.
    #[must_use]
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }

    /// Copies of them that went to queues.
    #[must_use]
    pub fn routed(&self) -> u64 {
        self.routed.load(Ordering::Relaxed)
    }
}

/// What comes and goes in a broker.
#[derive(Debug, Default)]
pub struct Counters {
    /// Of queues that are there no more.
    deleted: Mutex<QueueTotals>,
    queues_declared: AtomicU64,
    queues_created: AtomicU64,
    queues_deleted: AtomicU64,
    duplicates_dropped: AtomicU64,
}

impl Counters {
    pub(crate) fn queue_declared(&self) {
        self.queues_declared.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn queue_created(&self) {
        self.queues_created.fetch_add(1, Ordering::Relaxed);
    }

    /// A queue is gone that clients knew.
    pub(crate) fn queue_deleted(&self, queue_type: QueueType, counters: QueueCounters) {
        self.queues_deleted.fetch_add(1, Ordering::Relaxed);
        self.deleted.lock().add(queue_type, counters);
    }

    pub(crate) fn duplicate_dropped(&self) {
        self.duplicates_dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// What happened to messages of queues that are there no more.
    #[must_use]
    pub fn of_deleted_queues(&self) -> QueueTotals {
        *self.deleted.lock()
    }

    /// Declarations of queues by clients, those that were there already and passive ones included.
    #[must_use]
    pub fn queues_declared(&self) -> u64 {
        self.queues_declared.load(Ordering::Relaxed)
    }

    /// Queues that were made.
    #[must_use]
    pub fn queues_created(&self) -> u64 {
        self.queues_created.load(Ordering::Relaxed)
    }

    /// Messages that exchanges dropped as duplicates.
    #[must_use]
    pub fn duplicates_dropped(&self) -> u64 {
        self.duplicates_dropped.load(Ordering::Relaxed)
    }

    /// Queues that were deleted, for whatever reason.
    #[must_use]
    pub fn queues_deleted(&self) -> u64 {
        self.queues_deleted.load(Ordering::Relaxed)
    }
}
