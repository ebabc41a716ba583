//! The order in which messages came back to a quorum queue, over all its levels. Where a message lies is known by its
//! level alone: what is taken there in another order, as by a purge, leaves its turn behind, and that is passed over.

use std::collections::VecDeque;

/// When a message came back, and where it lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// Grows by one with each message that comes back.
    pub(super) number: u64,
    pub(super) level: u8,
    pub(super) position: u64,
}

/// Turns, the next one first.
#[derive(Debug, Default)]
pub(super) struct Turns {
    waiting: VecDeque<Turn>,
    next: u64,
}

impl Turns {
    /// The last turn, for a message that comes back now. `is_due` says which of the others still wait.
    pub(super) fn push(&mut self, level: u8, position: u64, is_due: impl FnMut(&Turn) -> bool) -> u64 {
        let number = self.next;
        self.next += 1;
        // What was left behind goes before there is more room for it.
        if self.waiting.len() == self.waiting.capacity() {
            self.waiting.retain(is_due);
        }
        self.waiting.push_back(Turn { number, level, position });
        number
    }

    /// All of them, those left behind included.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Turn> + Clone {
        self.waiting.iter()
    }

    /// Forgets what was left behind before the next turn.
    pub(super) fn skip(&mut self, mut is_due: impl FnMut(&Turn) -> bool) {
        while self.waiting.front().is_some_and(|turn| !is_due(turn)) {
            self.waiting.pop_front();
        }
        if self.waiting.is_empty() && self.waiting.capacity() > KEPT_TURNS {
            self.waiting = VecDeque::new();
        }
    }

    /// Nothing waits any more.
    pub(super) fn clear(&mut self) {
        self.waiting = VecDeque::new();
    }
}

/// Turns for which an empty list keeps its room.
const KEPT_TURNS: usize = 64;
