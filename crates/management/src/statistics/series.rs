//! Samples of many things of one kind. What has never done anything has no entry; an entry costs the last values and
//! how each had changed, and no allocation as long as nothing new comes.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Values kept of what somebody looks at: ten minutes.
const HISTORY_MAX: usize = 121;

/// Things with a history, at most; of more, those asked for last.
const WATCHED_MAX: usize = 1024;

/// Samples for which a history is kept that nobody asks for: five minutes.
const UNWATCHED_MAX: u32 = 60;

/// Values over time, the oldest first, each with its milliseconds since 1970.
pub(crate) type History<const N: usize> = VecDeque<(u64, [u64; N])>;

/// How fast values change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates<const N: usize> {
    /// Per second, over the last interval.
    pub(crate) per_second: [f64; N],
    /// When the values changed last, as far as is known, in milliseconds since 1970.
    pub(crate) changed_ms: u64,
}

impl<const N: usize> Default for Rates<N> {
    fn default() -> Self {
        Self { per_second: [0.0; N], changed_ms: 0 }
    }
}

#[derive(Debug)]
struct Entry<const N: usize> {
    values: [u64; N],
    changes: [i32; N],
    changed_ms: u64,
    /// The round it was there last.
    round: u32,
}

#[derive(Debug)]
struct Watched<const N: usize> {
    history: History<N>,
    /// The round somebody asked last.
    round: u32,
}

/// Samples of things of one kind.
#[derive(Debug)]
pub(crate) struct Samples<K, const N: usize> {
    entries: HashMap<K, Entry<N>>,
    watched: HashMap<K, Watched<N>>,
    round: u32,
    interval_s: f64,
    now_ms: u64,
    began_ms: u64,
}

impl<K, const N: usize> Default for Samples<K, N> {
    fn default() -> Self {
        let (entries, watched) = (HashMap::new(), HashMap::new());
        Self { entries, watched, round: 0, interval_s: 0.0, now_ms: 0, began_ms: 0 }
    }
}

impl<K: Hash + Eq + Copy, const N: usize> Samples<K, N> {
    /// Begins a round of samples, so many seconds after the last one.
    pub(crate) fn begin(&mut self, interval_s: f64, now_ms: u64) {
        self.round = self.round.wrapping_add(1);
        (self.interval_s, self.now_ms) = (interval_s, now_ms);
        if self.began_ms == 0 {
            self.began_ms = now_ms;
        }
    }

    /// Notes values. COMPAT: of what is new, they count as if they had been so before: its rates begin with zero.
    pub(crate) fn add(&mut self, key: K, values: [u64; N]) {
        let round = self.round;
        if let Some(entry) = self.entries.get_mut(&key) {
            for ((change, value), before) in entry.changes.iter_mut().zip(values).zip(entry.values) {
                let difference =
                    i64::try_from(value).unwrap_or(i64::MAX) - i64::try_from(before).unwrap_or(i64::MAX);
                *change =
                    i32::try_from(difference).unwrap_or(if difference < 0 { i32::MIN } else { i32::MAX });
            }
            if entry.values != values {
                (entry.values, entry.changed_ms) = (values, self.now_ms);
            }
            entry.round = round;
        } else if values.iter().any(|&value| value != 0) {
            let entry = Entry { values, changes: [0; N], changed_ms: self.now_ms, round };
            self.entries.insert(key, entry);
        }
        if let Some(watched) = self.watched.get_mut(&key) {
            if watched.history.len() >= HISTORY_MAX {
                watched.history.pop_front();
            }
            watched.history.push_back((self.now_ms, values));
        }
    }

    /// Ends a round: what was not there any more is forgotten.
    pub(crate) fn end(&mut self) {
        let round = self.round;
        self.entries.retain(|_, entry| entry.round == round);
        self.watched.retain(|_, watched| round.wrapping_sub(watched.round) <= UNWATCHED_MAX);
    }

    /// What is known of how fast a thing changes.
    pub(crate) fn known(&self, key: &K) -> Option<Rates<N>> {
        let entry = self.entries.get(key)?;
        let mut rates = Rates { per_second: [0.0; N], changed_ms: entry.changed_ms };
        if self.interval_s > 0.0 {
            for (rate, change) in rates.per_second.iter_mut().zip(entry.changes) {
                *rate = f64::from(change) / self.interval_s;
            }
        }
        Some(rates)
    }

    /// How fast a thing changes; not at all, if nothing is known of it.
    pub(crate) fn rates(&self, key: &K) -> Rates<N> {
        self.known(key).unwrap_or(Rates { changed_ms: self.began_ms, ..Rates::default() })
    }

    /// The values of a thing over time, which are kept from now on for a while.
    pub(crate) fn watch(&mut self, key: K) -> History<N> {
        if let Some(watched) = self.watched.get_mut(&key) {
            watched.round = self.round;
            return watched.history.clone();
        }
        if self.watched.len() >= WATCHED_MAX
            && let Some(oldest) = self
                .watched
                .iter()
                .max_by_key(|(_, one)| self.round.wrapping_sub(one.round))
                .map(|(key, _)| *key)
        {
            self.watched.remove(&oldest);
        }
        let known = self.entries.get(&key).map(|entry| (self.now_ms, entry.values));
        let history: History<N> = known.into_iter().collect();
        self.watched.insert(key, Watched { history: history.clone(), round: self.round });
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(samples: &mut Samples<u8, 1>, now_ms: u64, values: &[(u8, u64)]) {
        samples.begin(5.0, now_ms);
        values.iter().for_each(|&(key, value)| samples.add(key, [value]));
        samples.end();
    }

    #[test]
    fn rates_are_changes_per_second_and_go_with_what_they_are_of() {
        let mut samples = Samples::default();
        round(&mut samples, 1000, &[(1, 10), (2, 0)]);
        assert_eq!(samples.rates(&1).per_second, [0.0]);
        round(&mut samples, 6000, &[(1, 20), (2, 0)]);
        assert_eq!((samples.rates(&1).per_second, samples.rates(&1).changed_ms), ([2.0], 6000));
        assert!(samples.known(&2).is_none(), "what never did anything takes no memory");
        round(&mut samples, 11_000, &[(1, 5)]);
        assert_eq!(samples.rates(&1).per_second, [-3.0]);
        round(&mut samples, 16_000, &[]);
        assert!(samples.known(&1).is_none());
    }

    #[test]
    fn a_history_begins_when_it_is_asked_for_and_stays_bounded() {
        let mut samples = Samples::default();
        round(&mut samples, 0, &[(1, 1)]);
        assert_eq!(samples.watch(1).len(), 1);
        for time in 0..500 {
            if time % 10 == 0 {
                samples.watch(1);
            }
            round(&mut samples, time, &[(1, time)]);
        }
        let history = samples.watch(1);
        assert_eq!((history.len(), history.back().copied()), (HISTORY_MAX, Some((499, [499]))));
        for time in 0..=u64::from(UNWATCHED_MAX) {
            round(&mut samples, time, &[(1, time)]);
        }
        assert!(samples.watched.is_empty());
    }
}
