//! Ids in the order in which they came: so many at most, each for as long as it says.
//!
//! PERF: with more ids than the processor's caches hold, what counts is how many places are touched. A new id takes the
//! end of a ring and one head of a table of chains, the one that gives way the ring's other end and its own head. Most
//! chains have one id, and nothing is ever moved but when the table grows.

use std::collections::VecDeque;
use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use super::{Id, IdOctets};
use crate::store::JournalPosition;
use crate::time::Timestamp;

/// No id.
const NONE: u64 = u64::MAX;

/// Chains of an empty table.
const CHAINS_MIN: usize = 16;

/// An id that came.
struct Known {
    octets: IdOctets,
    hash: u64,
    /// The number of the next older one of its chain.
    next: u64,
    expires_at: Timestamp,
    position: JournalPosition,
}

/// A bounded set of ids; the oldest give way.
pub(super) struct Cache {
    size: usize,
    hasher: DefaultHashBuilder,
    /// Ids by insertion. One that is over, or was inserted again since, is in no chain any more.
    known: VecDeque<Known>,
    /// The number of the first one.
    first: u64,
    /// The numbers of the newest ids by their hashes: a power of two, at least twice as many as there are ids.
    chains: Vec<u64>,
    /// Ids in chains.
    count: usize,
}

impl Cache {
    pub(super) fn new(size: usize) -> Self {
        let hasher = DefaultHashBuilder::default();
        let chains = vec![NONE; CHAINS_MIN];
        Self { size, hasher, known: VecDeque::new(), first: 0, chains, count: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Grows with each id that is inserted.
    pub(super) fn next_number(&self) -> u64 {
        self.first + self.known.len() as u64
    }

    /// What an id is found by here. PERF: computed once per message, with the id it belongs to.
    pub(super) fn hash_of(&self, octets: &IdOctets) -> u64 {
        self.hasher.hash_one(octets.as_slice())
    }

    /// Where the message with this id is safe, if it came and is not over.
    pub(super) fn find(&mut self, octets: &IdOctets, hash: u64, now: Timestamp) -> Option<JournalPosition> {
        let number = self.number_of(octets, hash)?;
        let known = self.get(number)?;
        if known.expires_at > now {
            return Some(known.position);
        }
        self.unchain(number);
        None
    }

    pub(super) fn insert(&mut self, id: &Id, position: JournalPosition) {
        if let Some(number) = self.number_of(&id.octets, id.hash) {
            self.unchain(number);
        }
        let expires_at = id.expires_at.unwrap_or(Timestamp::NEVER);
        self.add(Known { octets: id.octets.clone(), hash: id.hash, next: NONE, expires_at, position });
        while self.count > self.size {
            self.unchain(self.first);
            self.known.pop_front();
            self.first += 1;
        }
        // Those that are in no chain must not pile up.
        if self.known.len() > 2 * self.size + 16 {
            self.rebuild(self.chains.len());
        }
    }

    pub(super) fn forget(&mut self, id: &Id) {
        self.number_of(&id.octets, id.hash).into_iter().for_each(|number| self.unchain(number));
    }

    fn get(&self, number: u64) -> Option<&Known> {
        self.known.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn chain_of(&self, hash: u64) -> usize {
        // INVARIANT: a power of two.
        hash as usize & (self.chains.len() - 1)
    }

    fn number_of(&self, octets: &IdOctets, hash: u64) -> Option<u64> {
        let mut number = *self.chains.get(self.chain_of(hash))?;
        while let Some(known) = self.get(number) {
            if known.hash == hash && known.octets == *octets {
                return Some(number);
            }
            number = known.next;
        }
        None
    }

    fn add(&mut self, mut new: Known) {
        if self.count >= self.chains.len() / 2 {
            self.rebuild(self.chains.len() * 2);
        }
        let (chain, number) = (self.chain_of(new.hash), self.next_number());
        if let Some(head) = self.chains.get_mut(chain) {
            new.next = std::mem::replace(head, number);
        }
        self.known.push_back(new);
        self.count += 1;
    }

    /// Takes an id out of its chain, if it is in it.
    fn unchain(&mut self, number: u64) {
        let Some(known) = self.get(number) else { return };
        let (chain, next) = (self.chain_of(known.hash), known.next);
        let Some(head) = self.chains.get_mut(chain) else { return };
        if *head == number {
            *head = next;
            self.count -= 1;
            return;
        }
        let mut newer = *head;
        while let Some(known) = self.get(newer) {
            if known.next != number {
                newer = known.next;
                continue;
            }
            let index = (newer - self.first) as usize;
            if let Some(known) = self.known.get_mut(index) {
                known.next = next;
                self.count -= 1;
            }
            return;
        }
    }

    /// Begins anew with so many chains and those ids that are in one. No number comes twice: whoever remembers one
    /// learns that something has changed.
    fn rebuild(&mut self, chains: usize) {
        let live: Vec<bool> = (self.first..self.next_number())
            .map(|number| {
                let known = self.get(number);
                known.is_some_and(|known| self.number_of(&known.octets, known.hash) == Some(number))
            })
            .collect();
        self.first = self.next_number();
        self.chains = vec![NONE; chains];
        self.count = 0;
        for (known, is_live) in std::mem::take(&mut self.known).into_iter().zip(live) {
            if is_live {
                self.add(known);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn octets(number: u8) -> IdOctets {
        IdOctets::new(b'i', &[number])
    }

    fn id(cache: &Cache, number: u8, expires_at: Option<Timestamp>) -> Id {
        Id::new(cache, octets(number), expires_at)
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
                let hash = cache.hash_of(&octets(number));
                let expected = model.iter().any(|&(known, until)| known == number && until > now);
                prop_assert_eq!(cache.find(&octets(number), hash, Timestamp(now)).is_some(), expected);
                if !expected {
                    model.retain(|&(known, _)| known != number);
                    model.push((number, ttl.map_or(u64::MAX, |ttl| now + ttl)));
                    let id = id(&cache, number, ttl.map(|ttl| Timestamp(now + ttl)));
                    cache.insert(&id, JournalPosition::SAFE);
                    // Those that are over are not told from the others where they make room.
                    let excess = model.len().saturating_sub(size);
                    model.drain(..excess);
                }
                prop_assert!(cache.len() <= size && cache.known.len() <= 2 * size + 17);
            }
        }
    }
}
