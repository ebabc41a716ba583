//! Ids in the order in which they came: so many at most, each for as long as it says.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;

use super::Id;
use crate::store::JournalPosition;
use crate::time::Timestamp;

/// What is known of an id.
struct Known {
    /// Which insertion it came by.
    number: u64,
    expires_at: Timestamp,
    position: JournalPosition,
}

/// A bounded set of ids; the oldest give way.
pub(super) struct Cache {
    size: usize,
    known: HashMap<Arc<[u8]>, Known>,
    /// Ids by insertion. One that was inserted again since is passed over.
    order: VecDeque<(u64, Arc<[u8]>)>,
    next_number: u64,
}

impl Cache {
    pub(super) fn new(size: usize) -> Self {
        Self { size, known: HashMap::new(), order: VecDeque::new(), next_number: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// Where the message with this id is safe, if it came and is not over.
    pub(super) fn find(&mut self, octets: &[u8], now: Timestamp) -> Option<JournalPosition> {
        let known = self.known.get(octets)?;
        if known.expires_at > now {
            return Some(known.position);
        }
        self.known.remove(octets);
        None
    }

    pub(super) fn insert(&mut self, id: &Id, position: JournalPosition) {
        let number = self.next_number;
        self.next_number += 1;
        let expires_at = id.expires_at.unwrap_or(Timestamp::NEVER);
        self.known.insert(Arc::clone(&id.octets), Known { number, expires_at, position });
        self.order.push_back((number, Arc::clone(&id.octets)));
        while self.known.len() > self.size {
            self.drop_oldest();
        }
        // Those passed over must not pile up.
        if self.order.len() > 2 * self.size + 16 {
            let known = &self.known;
            self.order
                .retain(|(number, octets)| known.get(octets).is_some_and(|known| known.number == *number));
        }
    }

    fn drop_oldest(&mut self) {
        let Some((number, octets)) = self.order.pop_front() else { return };
        if self.known.get(&octets).is_some_and(|known| known.number == number) {
            self.known.remove(&octets);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u8, expires_at: Option<Timestamp>) -> Id {
        Id { octets: Arc::from([number]), expires_at }
    }

    proptest! {
        #[test]
        fn it_knows_the_newest_that_are_not_over(
            size in 1_usize..6,
            steps in prop::collection::vec((0_u8..8, prop::option::of(1_u64..20), 0_u64..5), 1..200),
        ) {
            let mut cache = Cache::new(size);
            // Number, and when it is over, the newest last.
            let mut model: Vec<(u8, u64)> = Vec::new();
            let mut now = 0;
            for (number, ttl, passed) in steps {
                now += passed;
                let expected = model.iter().any(|&(known, until)| known == number && until > now);
                prop_assert_eq!(cache.find(&[number], Timestamp(now)).is_some(), expected);
                if !expected {
                    model.retain(|&(known, _)| known != number);
                    model.push((number, ttl.map_or(u64::MAX, |ttl| now + ttl)));
                    cache.insert(&id(number, ttl.map(|ttl| Timestamp(now + ttl))), JournalPosition::SAFE);
                    // Those that are over are not told from the others where they make room.
                    let excess = model.len().saturating_sub(size);
                    model.drain(..excess);
                }
                prop_assert!(cache.len() <= size && cache.order.len() <= 2 * size + 17);
            }
        }
    }
}
