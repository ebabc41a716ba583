//! The consumers of one queue, and whose turn it is: round robin among those of the highest priority that
//! can take a message.
//!
//! ```text
//!            take up to the prefetch limit              sink cannot take more
//!   Ready ───────────────────────────────▶ NoCredit   Ready ─────────────────▶ Parked
//!     ▲                                       │          ▲                       │
//!     └──────────── settle ───────────────────┘          └────── resume ─────────┘
//! ```

mod single_active;

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use leveret_codec::table::FieldTable;

use crate::delivery::{DeliverySink, SinkState};
use crate::names::{ConnectionId, ConsumerId};
use single_active::Rank;
pub(crate) use single_active::SingleActive;

/// What a consumer asks for.
pub struct ConsumerSpec {
    /// Identity, unique in the process.
    pub id: ConsumerId,
    /// Whose it is.
    pub holder: ConsumerHolder,
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
    /// What it was asked for with, encoded: as a table it would take many times the memory.
    pub arguments: Box<[u8]>,
}

/// Who consumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerHolder {
    /// The connection.
    pub connection: ConnectionId,
    /// Number of the channel on it.
    pub channel: u16,
    /// The consumer's tag on the channel.
    pub tag: Arc<str>,
}

/// Whether a consumer gets messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerActivity {
    /// Like all others of its queue.
    Up,
    /// As the only one.
    SingleActive,
    /// Not as long as another one is the only one.
    Waiting,
}

impl ConsumerActivity {
    /// COMPAT: the name RabbitMQ lists it by.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::SingleActive => "single_active",
            Self::Waiting => "waiting",
        }
    }

    /// Whether it gets messages.
    #[must_use]
    pub fn is_active(self) -> bool {
        self != Self::Waiting
    }
}

/// A consumer at one moment.
#[derive(Clone, Debug)]
pub struct ConsumerSnapshot {
    /// Identity.
    pub id: ConsumerId,
    /// Whose it is.
    pub holder: ConsumerHolder,
    /// Delivered is settled.
    pub no_ack: bool,
    /// No other consumer beside it.
    pub exclusive: bool,
    /// Most unsettled deliveries at a time; 0 for no limit.
    pub prefetch: u16,
    /// Deliveries that are not settled.
    pub unacked: usize,
    /// Whether it gets messages.
    pub activity: ConsumerActivity,
    /// What it was asked for with.
    pub arguments: FieldTable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Ready,
    NoCredit,
    Parked,
}

pub(crate) struct Consumer {
    pub(crate) spec: ConsumerSpec,
    /// Of all that ever consumed from the queue, how many came before.
    number: u64,
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

    fn rank(&self) -> Rank {
        (Reverse(self.spec.priority), self.number)
    }
}

/// Messages a consumer takes in one turn beside others, at most.
const TURN_MAX: usize = 16;

/// Turns of more than one message are for backlogs that last each consumer for more turns than this.
const TURNS_AHEAD: usize = 64;

#[derive(Default)]
pub(crate) struct Consumers {
    by_id: HashMap<ConsumerId, Consumer>,
    /// INVARIANT: with `single`, the active one alone, if it can take a message and has not to make way.
    ready: ReadyConsumers,
    /// How many ever consumed from the queue.
    added: u64,
    /// Says who gets messages, if that is one alone.
    single: Option<Box<SingleActive>>,
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
    /// None yet. With `single`, one of those to come will get all messages.
    pub(crate) fn new(single: Option<SingleActive>) -> Self {
        Self { single: single.map(Box::new), ..Self::default() }
    }

    /// Whether one of them gets all messages.
    pub(crate) fn is_single_active(&self) -> bool {
        self.single.is_some()
    }

    /// What is known of them, in the order in which they came.
    pub(crate) fn snapshot(&self) -> Vec<ConsumerSnapshot> {
        let mut consumers: Vec<_> = self.by_id.values().collect();
        consumers.sort_unstable_by_key(|consumer| consumer.number);
        let activity = |id| match &self.single {
            None => ConsumerActivity::Up,
            Some(single) if single.active() == Some(id) => ConsumerActivity::SingleActive,
            Some(_) => ConsumerActivity::Waiting,
        };
        let snapshot = |Consumer { spec, unacked, .. }: &Consumer| ConsumerSnapshot {
            id: spec.id,
            holder: spec.holder.clone(),
            no_ack: spec.no_ack,
            exclusive: spec.exclusive,
            prefetch: spec.prefetch,
            unacked: *unacked,
            activity: activity(spec.id),
            // They were encoded from a table.
            arguments: FieldTable::decode(&spec.arguments).unwrap_or_default(),
        };
        consumers.into_iter().map(snapshot).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How many are passed over since their sink takes nothing.
    pub(crate) fn parked(&self) -> usize {
        self.by_id.values().filter(|consumer| consumer.turn == Turn::Parked).count()
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
        let id = spec.id;
        let consumer = Consumer { spec, number: self.added, unacked: 0, turn: Turn::Parked };
        self.added += 1;
        if let Some(single) = &mut self.single {
            single.add(consumer.rank(), id);
        }
        self.by_id.insert(id, consumer);
        self.choose_single();
    }

    pub(crate) fn remove(&mut self, id: ConsumerId) -> bool {
        let Some(consumer) = self.by_id.remove(&id) else { return false };
        if let Some(single) = &mut self.single {
            single.remove(consumer.rank());
        }
        self.ready.remove(consumer.spec.priority, id);
        if self.by_id.is_empty() {
            self.ready.clear();
        }
        self.choose_single();
        true
    }

    pub(crate) fn drain(&mut self) -> Vec<Arc<dyn DeliverySink>> {
        self.ready.clear();
        if let Some(single) = &mut self.single {
            single.clear();
        }
        self.by_id.drain().map(|(_, consumer)| consumer.spec.sink).collect()
    }

    /// Sees to it that the right one is active where one alone gets messages, and is in turn if it can take one.
    fn choose_single(&mut self) {
        let Some(single) = &mut self.single else { return };
        let active = |single: &SingleActive| single.active().and_then(|id| self.by_id.get(&id));
        single.choose(active(single).is_none_or(|active| active.unacked == 0));
        self.ready.clear();
        if let Some(active) = active(single)
            && active.turn == Turn::Ready
            && !single.is_making_way()
        {
            self.ready.push(active.spec.priority, active.spec.id);
        }
    }

    /// Puts a consumer that can take a message in turn.
    fn enlist(&mut self, id: ConsumerId, priority: i64) {
        if self.single.is_some() {
            self.choose_single();
        } else {
            self.ready.push(priority, id);
        }
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
            let priority = consumer.spec.priority;
            self.enlist(id, priority);
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
        let is_settled = consumer.unacked == 0;
        if consumer.turn == Turn::NoCredit {
            self.wake(id);
        }
        if is_settled && self.single.is_some() {
            self.choose_single();
        }
    }

    fn wake(&mut self, id: ConsumerId) {
        let Some(consumer) = self.by_id.get_mut(&id) else { return };
        if consumer.credit() == 0 {
            consumer.turn = Turn::NoCredit;
        } else {
            consumer.turn = Turn::Ready;
            let priority = consumer.spec.priority;
            self.enlist(id, priority);
        }
    }
}
