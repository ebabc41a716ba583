//! How messages leave a queue: the queue turns to a consumer's [`DeliverySink`] and lets it pull from a
//! [`DeliverySource`], so that the sink takes its own locks once for as many messages as its turn has.

use std::ops::Range;

use crate::message::{MessageRef, MessageView};
use crate::queue::messages::{Messages, Next};
use crate::queue::quorum::Returns;
use crate::time::Timestamp;

/// Whether a consumer can take more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkState {
    /// It took what its turn had to give, and more may come.
    Open,
    /// It cannot take more now. It calls [`Queue::resume`](crate::Queue::resume) when it can; until then
    /// the queue passes it over.
    Parked,
}

/// Where a consumer's deliveries go. Implemented by the channel that consumes.
///
/// Called with the queue's lock held: an implementation takes only its own locks (channel, then
/// outbound buffer), never a queue's.
pub trait DeliverySink: Send + Sync {
    /// Takes messages from `source` until it ends or the sink is full.
    fn deliver(&self, source: &mut DeliverySource<'_>) -> SinkState;

    /// The queue is gone: the consumer with it. Called without any lock held.
    fn cancel(&self);
}

/// One hand-out of a message to a consumer.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// What to send.
    pub message: MessageView<'a>,
    /// Where it lies in its queue, for the settlement.
    pub reference: MessageRef,
    /// Whether it was handed out before and came back.
    pub redelivered: bool,
    /// How often; counted by quorum queues alone.
    pub returns: Returns,
}

/// What a consumer took in one turn.
pub(crate) struct Taken {
    /// Messages.
    pub(crate) count: usize,
    /// Octets of their bodies.
    pub(crate) body_bytes: u64,
    /// How many of them had been handed out before.
    pub(crate) redelivered: u64,
    /// Which of them are settled by that.
    pub(crate) settled: SettledRanges,
}

/// Which messages of a queue have expired.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub(crate) now: Timestamp,
    /// Messages from this position on have come just now: they have not, even if their time is over at once.
    pub(crate) new_from: u64,
    /// In this level.
    pub(crate) new_level: u8,
}

impl Deadline {
    /// Whether the message at `position` of a level has expired.
    #[inline]
    pub(crate) fn is_over(&self, position: u64, level: u8, message: &MessageView<'_>) -> bool {
        let is_new = position >= self.new_from && level == self.new_level;
        !is_new && message.expires_at().is_some_and(|at| at <= self.now)
    }

    /// Where nothing has come just now.
    pub(crate) fn at(now: Timestamp) -> Self {
        Self { now, new_from: u64::MAX, new_level: 0 }
    }
}

/// The messages one consumer may take in one turn.
pub struct DeliverySource<'a> {
    messages: &'a mut Messages,
    /// Nothing before this position is taken.
    from: u64,
    /// Where messages expire: which of them are not to be delivered any more.
    deadline: Option<Deadline>,
    /// Delivered is settled.
    no_ack: bool,
    remaining: usize,
    taken: usize,
    redelivered: u64,
    /// Octets that were ready when the turn began.
    ready_bytes: u64,
    /// The delivery given out last, settled by now if the consumer does not acknowledge.
    last: Option<MessageRef>,
    settled: SettledRanges,
}

impl<'a> DeliverySource<'a> {
    pub(crate) fn new(
        messages: &'a mut Messages,
        from: u64,
        no_ack: bool,
        limit: usize,
        deadline: Option<Deadline>,
    ) -> Self {
        let (settled, ready_bytes) = (SettledRanges::default(), messages.ready_bytes());
        Self {
            messages,
            from,
            deadline,
            no_ack,
            remaining: limit,
            taken: 0,
            redelivered: 0,
            ready_bytes,
            last: None,
            settled,
        }
    }

    /// The next message for this consumer; it counts as delivered once this returns.
    pub fn next_delivery(&mut self) -> Option<Delivery<'_>> {
        if self.no_ack {
            self.settle_last();
        }
        if self.remaining == 0 {
            return None;
        }
        let next = self.messages.take_unexpired(self.from, self.deadline);
        let Next::Message(reference, returns, message) = next else { return None };
        let (redelivered, returns) = (returns.is_some(), returns.unwrap_or_default());
        self.remaining -= 1;
        self.taken += 1;
        self.redelivered += u64::from(redelivered);
        if self.no_ack {
            self.last = Some(reference);
        }
        Some(Delivery { message, reference, redelivered, returns })
    }

    /// How many of those taken in this turn had been handed out before.
    #[must_use]
    pub fn redelivered(&self) -> u64 {
        self.redelivered
    }

    /// Ends the turn.
    pub(crate) fn finish(mut self) -> Taken {
        self.settle_last();
        let body_bytes = self.ready_bytes - self.messages.ready_bytes();
        Taken { count: self.taken, body_bytes, redelivered: self.redelivered, settled: self.settled }
    }

    fn settle_last(&mut self) {
        if let Some(reference) = self.last.take() {
            // PERF: a list that nobody reads would be an allocation per turn.
            if self.messages.is_durable() {
                self.settled.add(reference);
            }
            self.messages.settle(reference);
        }
    }
}

/// Positions of messages that are settled, for the journal: neighbours as one range.
#[derive(Debug, Default)]
pub(crate) struct SettledRanges {
    ranges: Vec<Range<u64>>,
    /// Whether the journal knows any of the messages.
    persistent: bool,
}

impl SettledRanges {
    #[inline]
    pub(crate) fn add(&mut self, reference: MessageRef) {
        self.persistent |= reference.is_persistent();
        let position = reference.position;
        match self.ranges.last_mut() {
            Some(last) if last.end == position => last.end += 1,
            _ => self.ranges.push(position..position + 1),
        }
    }

    /// The ranges, if the journal knows any of the messages.
    pub(crate) fn persistent(&self) -> Option<&[Range<u64>]> {
        self.persistent.then_some(&*self.ranges)
    }
}
