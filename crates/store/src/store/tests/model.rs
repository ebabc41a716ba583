//! What a restart must find. Everything that the journal is told of is an event with the position at which it is safe;
//! after a crash the broker's state must be what the events up to some position make of the state before, and that
//! position must not be below what was safe. So what was confirmed is there, what was settled for good is gone,
//! and nothing is there that never was, nor twice, nor in another order.

use std::collections::{BTreeMap, BTreeSet};

/// A message by what can be told from its octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Identity; a message that several queues get has one.
    pub(super) number: u64,
    pub(super) bytes: usize,
    pub(super) persistent: bool,
}

/// Turn of a message: grows with each message that a queue is given, and is lower for those of higher priority.
pub(super) type Turn = u64;

/// Turns of one level have the same bits from this one on.
pub(super) const LEVEL_SHIFT: u32 = 48;

/// Something that survives a restart.
#[derive(Clone, Debug)]
pub(super) enum Event {
    PutQueue(String),
    DeleteQueue(String),
    PutExchange(String),
    DeleteExchange(String),
    Bind(String, String),
    Unbind(String, String),
    Publish(String, Vec<(Turn, Message)>),
    Settle(String, Vec<Turn>),
}

/// Which level of a priority queue a message with this turn is in; 0 is the highest.
fn level_of(turn: Turn) -> u64 {
    turn >> LEVEL_SHIFT
}

impl Event {
    /// What may be left of it when the machine goes off while it is written: what it settles in each level of a
    /// priority queue is a record of its own.
    fn partial(&self) -> Vec<Self> {
        let Self::Settle(queue, turns) = self else { return Vec::new() };
        let levels: BTreeSet<u64> = turns.iter().copied().map(level_of).collect();
        let some_of = |chosen: u32| {
            let is_chosen = |turn: &Turn| {
                let level = levels.range(..level_of(*turn)).count();
                chosen & (1 << level) != 0
            };
            Self::Settle(queue.clone(), turns.iter().copied().filter(is_chosen).collect())
        };
        (1..(1 << levels.len()) - 1).map(some_of).collect()
    }
}

/// What survives a restart, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) exchanges: BTreeSet<String>,
    pub(super) queues: BTreeMap<String, BTreeMap<Turn, Message>>,
    /// Exchange and queue.
    pub(super) bindings: BTreeSet<(String, String)>,
}

impl Kept {
    fn with(&self, event: &Event) -> Self {
        let mut state = self.clone();
        state.apply(event);
        state
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::PutQueue(queue) => _ = self.queues.insert(queue.clone(), BTreeMap::new()),
            Event::DeleteQueue(queue) => {
                self.queues.remove(queue);
                self.bindings.retain(|(_, target)| target != queue);
            }
            Event::PutExchange(exchange) => _ = self.exchanges.insert(exchange.clone()),
            Event::DeleteExchange(exchange) => {
                self.exchanges.remove(exchange);
                self.bindings.retain(|(source, _)| source != exchange);
            }
            Event::Bind(exchange, queue) => _ = self.bindings.insert((exchange.clone(), queue.clone())),
            Event::Unbind(exchange, queue) => _ = self.bindings.remove(&(exchange.clone(), queue.clone())),
            Event::Publish(queue, messages) => {
                self.queues.entry(queue.clone()).or_default().extend(messages.iter().copied());
            }
            Event::Settle(queue, turns) => {
                let messages = self.queues.entry(queue.clone()).or_default();
                turns.iter().for_each(|turn| _ = messages.remove(turn));
            }
        }
    }
}

/// What a restart has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) exchanges: BTreeSet<String>,
    pub(super) queues: BTreeMap<String, Vec<Message>>,
    pub(super) bindings: BTreeSet<(String, String)>,
    /// Queues that are stopped, and why.
    pub(super) stopped: BTreeMap<String, String>,
    /// Queue and number of messages that were marked redelivered.
    pub(super) redelivered: BTreeSet<(String, u64)>,
}

impl Found {
    fn is(&self, kept: &Kept) -> bool {
        let is_equal =
            |(found, kept): (&Vec<Message>, &BTreeMap<Turn, Message>)| found.iter().eq(kept.values());
        self.exchanges == kept.exchanges
            && self.bindings == kept.bindings
            && self.queues.keys().eq(kept.queues.keys())
            && self.queues.values().zip(kept.queues.values()).all(is_equal)
    }
}

/// The state at the last start, and what has happened since.
#[derive(Debug, Default)]
pub(super) struct History {
    base: Kept,
    /// With the position at which each is safe.
    events: Vec<(u64, Event)>,
}

impl History {
    pub(super) fn beginning_with(base: Kept) -> Self {
        Self { base, events: Vec::new() }
    }

    pub(super) fn note(&mut self, safe_at: u64, event: Event) {
        assert!(self.events.last().is_none_or(|(last, _)| *last <= safe_at), "positions grow");
        self.events.push((safe_at, event));
    }

    /// Whether everything that has happened is safe.
    pub(super) fn is_safe(&self, safe: u64) -> bool {
        self.events.iter().all(|(position, _)| *position <= safe)
    }

    /// The state that was found, if it may be found when everything below `safe` was safe.
    pub(super) fn state(&self, found: &Found, safe: u64) -> Option<Kept> {
        let mut state = self.base.clone();
        let first_unsafe = self.events.partition_point(|(position, _)| *position <= safe);
        let (certain, possible) = self.events.split_at(first_unsafe);
        certain.iter().for_each(|(_, event)| state.apply(event));
        for step in possible.chunk_by(|(one, _), (other, _)| one == other) {
            if found.is(&state) {
                return Some(state);
            }
            let mut partial = step.iter().flat_map(|(_, event)| event.partial());
            let in_part = partial.find_map(|event| Some(state.with(&event)).filter(|state| found.is(state)));
            if in_part.is_some() {
                return in_part;
            }
            step.iter().for_each(|(_, event)| state.apply(event));
        }
        found.is(&state).then_some(state)
    }

    /// What has to be there at the least, to be shown when something else is.
    pub(super) fn certain(&self, safe: u64) -> Kept {
        let mut state = self.base.clone();
        let certain = self.events.iter().take_while(|(position, _)| *position <= safe);
        certain.for_each(|(_, event)| state.apply(event));
        state
    }
}
