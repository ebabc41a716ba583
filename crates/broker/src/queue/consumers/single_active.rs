//! Which consumer gets the messages of a queue with a single active one, and who takes over from it.
//!
//! ```text
//!             nobody is active, or (quorum queues) the active one has a lower priority and nothing in flight
//!   waiting ──────────────────────────────────────────────────────────────────────────────▶ active
//!      ▲                                                                                       │
//!      └────────────── (quorum queues) another one of higher priority takes over ──────────────┘
//! ```

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::names::ConsumerId;

/// Where a consumer stands among those that wait: the higher priority first, then who came first.
pub(super) type Rank = (Reverse<i64>, u64);

/// The choice of one consumer among a queue's.
#[derive(Debug, Default)]
pub(crate) struct SingleActive {
    active: Option<(Rank, ConsumerId)>,
    waiting: BTreeMap<Rank, ConsumerId>,
    /// COMPAT: a newcomer of higher priority takes over on quorum queues alone.
    yields_to_priority: bool,
}

impl SingleActive {
    /// Nobody is there yet.
    pub(crate) fn new(yields_to_priority: bool) -> Self {
        Self { yields_to_priority, ..Self::default() }
    }

    pub(super) fn active(&self) -> Option<ConsumerId> {
        self.active.map(|(_, id)| id)
    }

    pub(super) fn add(&mut self, rank: Rank, id: ConsumerId) {
        self.waiting.insert(rank, id);
    }

    pub(super) fn remove(&mut self, rank: Rank) {
        self.waiting.remove(&rank);
        self.active = self.active.filter(|(active, _)| *active != rank);
    }

    pub(super) fn clear(&mut self) {
        self.active = None;
        self.waiting.clear();
    }

    /// Whether the active one gets nothing more, since it is to make way.
    pub(super) fn is_making_way(&self) -> bool {
        let first = self.waiting.first_key_value();
        self.yields_to_priority
            && self
                .active
                .is_some_and(|((active, _), _)| first.is_some_and(|((first, _), _)| *first < active))
    }

    /// Makes the next one active, if the active one is gone, or has to make way and has nothing in flight.
    pub(super) fn choose(&mut self, is_settled: bool) {
        if self.active.is_some() && !(is_settled && self.is_making_way()) {
            return;
        }
        let before = self.active.take();
        self.active = self.waiting.pop_first();
        self.waiting.extend(before);
    }
}
