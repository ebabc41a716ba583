//! Ids in the order in which they came: so many at most, each for as long as it says.
//!
//! PERF: with more ids than the processor's caches hold, what counts is how many places are touched. A new id takes the
//! end of a ring and one head of a table of chains; the one that gives way takes the ring's other end, and no place
//! else: what points to it points to nothing from then on. Most chains have one id.

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
    hash: u32,
    /// It is over, or was inserted again since.
    is_dead: bool,
    /// The number of the next older one of its chain.
    next: u64,
    expires_at: Timestamp,
    position: JournalPosition,
}

/// A bounded set of ids; the oldest give way.
pub(super) struct Cache {
    size: usize,
    hasher: DefaultHashBuilder,
    /// Ids by insertion.
    known: VecDeque<Known>,
    /// The number of the first one.
    first: u64,
    /// The lowest bits of the numbers of the newest ids by their hashes: a power of two, at least twice as many as
    /// there are ids. The number of an id that has given way means no id; once there were as many as have other bits
    /// it may mean one of another chain, which is passed over then.
    chains: Vec<u32>,
    /// Ids that are not dead.
    count: usize,
}

impl Cache {
    pub(super) fn new(size: usize) -> Self {
        let hasher = DefaultHashBuilder::default();
        let chains = vec![0; CHAINS_MIN];
        Self { size, hasher, known: VecDeque::new(), first: 1, chains, count: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Grows with each id that is inserted.
    pub(super) fn next_number(&self) -> u64 {
        self.first + self.known.len() as u64
    }

    /// What an id is found by here. PERF: computed once per message, with the id it belongs to.
    pub(super) fn hash_of(&self, octets: &IdOctets) -> u32 {
        self.hasher.hash_one(octets.as_slice()) as u32
    }

    /// Where the message with this id is safe, if it came and is not over.
    pub(super) fn find(&mut self, octets: &IdOctets, hash: u32, now: Timestamp) -> Option<JournalPosition> {
        let number = self.number_of(octets, hash)?;
        let known = self.get(number)?;
        if known.expires_at > now {
            return Some(known.position);
        }
        self.kill(number);
        None
    }

    pub(super) fn insert(&mut self, id: &Id, position: JournalPosition) {
        if let Some(number) = self.number_of(&id.octets, id.hash) {
            self.kill(number);
        }
        let expires_at = id.expires_at.unwrap_or(Timestamp::NEVER);
        let (octets, hash) = (id.octets.clone(), id.hash);
        self.add(Known { octets, hash, is_dead: false, next: NONE, expires_at, position });
        while self.count > self.size {
            let oldest = self.known.pop_front();
            self.count -= usize::from(oldest.is_some_and(|oldest| !oldest.is_dead));
            self.first += 1;
        }
        // The dead must not pile up.
        if self.known.len() > 2 * self.size + 16 {
            self.rebuild(self.chains.len());
        }
    }

    pub(super) fn forget(&mut self, id: &Id) {
        self.number_of(&id.octets, id.hash).into_iter().for_each(|number| self.kill(number));
    }

    fn get(&self, number: u64) -> Option<&Known> {
        self.known.get(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    fn chain_of(&self, hash: u32) -> usize {
        // INVARIANT: a power of two.
        hash as usize & (self.chains.len() - 1)
    }

    /// The number of the newest id of a chain, or of another one.
    fn head(&self, chain: usize) -> u64 {
        let since_first = self.chains.get(chain).map_or(0, |head| head.wrapping_sub(self.first as u32));
        // INVARIANT: never a number to come, so that a chain leads to older ids alone and ends.
        let is_here = (since_first as usize) < self.known.len();
        if is_here { self.first + u64::from(since_first) } else { NONE }
    }

    fn number_of(&self, octets: &IdOctets, hash: u32) -> Option<u64> {
        let mut number = self.head(self.chain_of(hash));
        while let Some(known) = self.get(number) {
            if known.hash == hash && !known.is_dead && known.octets == *octets {
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
        new.next = self.head(chain);
        if let Some(head) = self.chains.get_mut(chain) {
            *head = number as u32;
        }
        self.known.push_back(new);
        self.count += 1;
    }

    /// Has an id count as unknown from now on. Its chain begins with a live one again, so that one id that comes and is
    /// over many times makes no long chain.
    fn kill(&mut self, number: u64) {
        let index = number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok());
        let Some(known) = index.and_then(|index| self.known.get_mut(index)) else { return };
        let (hash, was_dead) = (known.hash, std::mem::replace(&mut known.is_dead, true));
        if was_dead {
            return;
        }
        self.count -= 1;
        let chain = self.chain_of(hash);
        let mut head = self.head(chain);
        while let Some(dead) = self.get(head).filter(|known| known.is_dead) {
            head = dead.next;
        }
        // The number before the first one is nobody's.
        let head = if head == NONE { self.first - 1 } else { head };
        if let Some(place) = self.chains.get_mut(chain) {
            *place = head as u32;
        }
    }

    /// Begins anew with so many chains and those ids that are not dead. No number comes twice: whoever remembers one
    /// learns that something has changed.
    fn rebuild(&mut self, chains: usize) {
        self.first = self.next_number();
        self.chains = vec![(self.first - 1) as u32; chains];
        self.count = 0;
        for known in std::mem::take(&mut self.known).into_iter().filter(|known| !known.is_dead) {
            self.add(known);
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
