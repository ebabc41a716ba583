//! The consumers of one queue, and whose turn it is: round robin, one message each, among those that can
//! take one.
//!
//! ```text
//!            take up to the prefetch limit              sink cannot take more
//!   Ready ───────────────────────────────▶ NoCredit   Ready ─────────────────▶ Parked
//!     ▲                                       │          ▲                       │
//!     └──────────── settle ───────────────────┘          └────── resume ─────────┘
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use crate::delivery::{DeliverySink, SinkState};
use crate::names::ConsumerId;

/// What a consumer asks for.
pub struct ConsumerSpec {
    /// Identity, unique in the process.
    pub id: ConsumerId,
    /// Where its deliveries go.
    pub sink: Arc<dyn DeliverySink>,
    /// Delivered is settled.
    pub no_ack: bool,
    /// No other consumer beside it.
    pub exclusive: bool,
    /// Most unsettled deliveries at a time; 0 for no limit.
    pub prefetch: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Ready,
    NoCredit,
    Parked,
}

pub(crate) struct Consumer {
    pub(crate) spec: ConsumerSpec,
    unacked: usize,
    turn: Turn,
}

impl Consumer {
    /// How many more it may have unsettled.
    pub(crate) fn credit(&self) -> usize {
        match (self.spec.no_ack, self.spec.prefetch) {
            (true, _) | (_, 0) => usize::MAX,
            (false, prefetch) => usize::from(prefetch).saturating_sub(self.unacked),
        }
    }
}

#[derive(Default)]
pub(crate) struct Consumers {
    by_id: HashMap<ConsumerId, Consumer>,
    /// Those that can take a message, in the order of their turns.
    ready: VecDeque<ConsumerId>,
}

impl Consumers {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(crate) fn has_exclusive(&self) -> bool {
        self.by_id.values().any(|consumer| consumer.spec.exclusive)
    }

    /// Adds a consumer, parked until it is resumed: its consume-ok goes out first.
    pub(crate) fn add(&mut self, spec: ConsumerSpec) {
        self.by_id.insert(spec.id, Consumer { spec, unacked: 0, turn: Turn::Parked });
    }

    pub(crate) fn remove(&mut self, id: ConsumerId) -> bool {
        let Some(consumer) = self.by_id.remove(&id) else { return false };
        if consumer.turn == Turn::Ready {
            self.ready.retain(|&ready| ready != id);
        }
        true
    }

    pub(crate) fn drain(&mut self) -> Vec<Arc<dyn DeliverySink>> {
        self.ready.clear();
        self.by_id.drain().map(|(_, consumer)| consumer.spec.sink).collect()
    }

    /// Whose turn it is, and how many messages it may take: all it has credit for if nobody else waits.
    pub(crate) fn next_turn(&mut self) -> Option<(&mut Consumer, usize)> {
        let id = self.ready.pop_front()?;
        let alone = self.ready.is_empty();
        let consumer = self.by_id.get_mut(&id)?;
        let credit = consumer.credit();
        Some((consumer, if alone { credit } else { credit.min(1) }))
    }

    /// Ends the turn of `id`, which took `taken` messages.
    pub(crate) fn end_turn(&mut self, id: ConsumerId, taken: usize, state: SinkState) {
        let Some(consumer) = self.by_id.get_mut(&id) else { return };
        if !consumer.spec.no_ack {
            consumer.unacked += taken;
        }
        consumer.turn = match state {
            SinkState::Parked => Turn::Parked,
            SinkState::Open if consumer.credit() == 0 => Turn::NoCredit,
            SinkState::Open => Turn::Ready,
        };
        if consumer.turn == Turn::Ready {
            self.ready.push_back(id);
        }
    }

    /// The sink of `id` can take messages again.
    pub(crate) fn resume(&mut self, id: ConsumerId) {
        let Some(consumer) = self.by_id.get_mut(&id) else { return };
        if consumer.turn == Turn::Parked {
            self.wake(id);
        }
    }

    /// `count` deliveries of `id` were settled.
    pub(crate) fn give_credit(&mut self, id: ConsumerId, count: usize) {
        let Some(consumer) = self.by_id.get_mut(&id) else { return };
        consumer.unacked = consumer.unacked.saturating_sub(count);
        if consumer.turn == Turn::NoCredit {
            self.wake(id);
        }
    }

    fn wake(&mut self, id: ConsumerId) {
        let Some(consumer) = self.by_id.get_mut(&id) else { return };
        if consumer.credit() == 0 {
            consumer.turn = Turn::NoCredit;
        } else {
            consumer.turn = Turn::Ready;
            self.ready.push_back(id);
        }
    }
}
