//! How messages leave a queue: the queue turns to a consumer's [`DeliverySink`] and lets it pull from a
//! [`DeliverySource`], so that the sink takes its own locks once for as many messages as its turn has.

use crate::journal::Journal;
use crate::message::{MessageRef, MessageView};
use crate::names::QueueId;
use crate::queue::messages::Messages;

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
}

/// The messages one consumer may take in one turn.
pub struct DeliverySource<'a> {
    messages: &'a mut Messages,
    settled: Settled<'a>,
    remaining: usize,
    taken: usize,
    /// The delivery given out last, settled by now if the consumer does not acknowledge.
    last: Option<MessageRef>,
}

/// Who learns of messages that are settled by being delivered.
pub(crate) enum Settled<'a> {
    /// The consumer will say so.
    Later,
    /// Delivered is settled.
    AtOnce,
    /// The same, in a queue whose messages the journal knows.
    AtOnceLogged(&'a dyn Journal, QueueId),
}

impl<'a> DeliverySource<'a> {
    pub(crate) fn new(messages: &'a mut Messages, settled: Settled<'a>, limit: usize) -> Self {
        Self { messages, settled, remaining: limit, taken: 0, last: None }
    }

    /// The next message for this consumer; it counts as delivered once this returns.
    pub fn next_delivery(&mut self) -> Option<Delivery<'_>> {
        self.settle_last();
        if self.remaining == 0 {
            return None;
        }
        let (reference, redelivered, message) = self.messages.take_next()?;
        self.remaining -= 1;
        self.taken += 1;
        self.last = Some(reference);
        Some(Delivery { message, reference, redelivered })
    }

    /// Ends the turn: how many were delivered.
    pub(crate) fn finish(mut self) -> usize {
        self.settle_last();
        self.taken
    }

    fn settle_last(&mut self) {
        let Some(reference) = self.last.take() else { return };
        match self.settled {
            Settled::Later => {}
            Settled::AtOnce => self.messages.settle(reference),
            Settled::AtOnceLogged(journal, queue) => {
                if reference.is_persistent() {
                    journal.settle(queue, reference.position);
                }
                self.messages.settle(reference);
            }
        }
    }
}
