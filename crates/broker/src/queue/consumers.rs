//! The consumers of one queue, and whose turn it is: round robin among those of the highest priority that
//! can take a message.
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
    /// COMPAT: `x-priority`; higher ones are served first, 0 is usual.
    pub priority: i64,
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

/// Messages a consumer takes in one turn beside others, at most.
const TURN_MAX: usize = 16;

/// Turns of more than one message are for backlogs that last each consumer for more turns than this.
const TURNS_AHEAD: usize = 64;

#[derive(Default)]
pub(crate) struct Consumers {
    by_id: HashMap<ConsumerId, Consumer>,
    ready: ReadyConsumers,
}

/// Those that can take a message, by priority, each priority in the order of turns.
///
/// PERF: nearly always there is one priority, so the list is looked through from its highest.
#[derive(Default)]
struct ReadyConsumers(Vec<(i64, VecDeque<ConsumerId>)>);

impl ReadyConsumers {
    fn push(&mut self, priority: i64, id: ConsumerId) {
        let place = self.0.binary_search_by(|(other, _)| priority.cmp(other));
        match place {
            Ok(index) => self.0[index].1.push_back(id),
            Err(index) => self.0.insert(index, (priority, VecDeque::from([id]))),
        }
    }

    /// The next one, and how many others of its priority wait.
    fn pop(&mut self) -> Option<(ConsumerId, usize)> {
        let (_, turns) = self.0.iter_mut().find(|(_, turns)| !turns.is_empty())?;
        let id = turns.pop_front()?;
        Some((id, turns.len()))
    }

    fn remove(&mut self, priority: i64, id: ConsumerId) {
        if let Ok(index) = self.0.binary_search_by(|(other, _)| priority.cmp(other)) {
            self.0[index].1.retain(|&ready| ready != id);
            // So that there are no more priorities than consumers, whatever they once asked for.
            if self.0[index].1.is_empty() {
                self.0.remove(index);
            }
        }
    }

    /// Forgets the order; a priority that nobody has any more goes with it.
    fn clear(&mut self) {
        self.0.clear();
    }
}

impl Consumers {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Whether any of them can take a message.
    pub(crate) fn has_ready(&self) -> bool {
        self.ready.0.iter().any(|(_, turns)| !turns.is_empty())
    }

    #[cfg(test)]
    pub(crate) fn ready_priorities(&self) -> usize {
        self.ready.0.len()
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
        self.ready.remove(consumer.spec.priority, id);
        if self.by_id.is_empty() {
            self.ready.clear();
        }
        true
    }

    pub(crate) fn drain(&mut self) -> Vec<Arc<dyn DeliverySink>> {
        self.ready.clear();
        self.by_id.drain().map(|(_, consumer)| consumer.spec.sink).collect()
    }

    /// Whose turn it is, and how many of the `ready` messages it may take.
    ///
    /// A consumer that is alone takes all it has credit for. Several take one each; where there are many
    /// times more messages than consumers, a few each, which none of them can tell from one each.
    ///
    /// PERF: a turn costs some 70 ns, so that turns of one message were a third of the cost of a message with
    /// eight consumers.
    pub(crate) fn next_turn(&mut self, ready: usize) -> Option<(&mut Consumer, usize)> {
        let (id, others) = self.ready.pop()?;
        let turn = match others {
            0 => usize::MAX,
            others => (ready / (TURNS_AHEAD * (others + 1))).clamp(1, TURN_MAX),
        };
        let consumer = self.by_id.get_mut(&id)?;
        let credit = consumer.credit();
        Some((consumer, credit.min(turn)))
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
            self.ready.push(consumer.spec.priority, id);
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
            self.ready.push(consumer.spec.priority, id);
        }
    }
}
