//! Sets of message positions, as ranges: what of a queue lies where, without a word per message.

use std::ops::Range;

/// Positions. Gathered in any order with [`add`](Self::add), put in order once by [`merge`](Self::merge), then asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// Adds positions.
    pub(crate) fn add(&mut self, range: Range<u64>) {
        match self.0.last_mut() {
            _ if range.is_empty() => {}
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.0.push(range),
        }
    }

    /// Puts them in order and joins what overlaps.
    pub(crate) fn merge(&mut self) {
        let mut ranges = std::mem::take(&mut self.0);
        ranges.sort_by_key(|range| range.start);
        for range in ranges {
            match self.0.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => self.0.push(range),
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().cloned()
    }

    pub(crate) fn contains(&self, position: u64) -> bool {
        self.reaching_beyond(position).first().is_some_and(|range| range.start <= position)
    }

    /// The parts of `range` that are not in here.
    pub(crate) fn outside(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut parts = Vec::new();
        let mut from = range.start;
        for inside in self.reaching_beyond(range.start).iter().take_while(|inside| inside.start < range.end) {
            if from < inside.start {
                parts.push(from..inside.start);
            }
            from = inside.end;
        }
        if from < range.end {
            parts.push(from..range.end);
        }
        parts
    }

    /// The positions that are not in `others`.
    pub(crate) fn without(&self, others: &Self) -> Self {
        Self(self.iter().flat_map(|range| others.outside(range)).collect())
    }

    /// How many positions.
    pub(crate) fn count(&self) -> u64 {
        self.iter().fold(0, |sum: u64, range| sum.saturating_add(range.end - range.start))
    }

    fn reaching_beyond(&self, position: u64) -> &[Range<u64>] {
        let first = self.0.partition_point(|range| range.end <= position);
        self.0.get(first..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn ranges(of: &[(u64, u64)]) -> Ranges {
        let mut ranges = Ranges::default();
        of.iter().for_each(|&(start, length)| ranges.add(start..start + length));
        ranges.merge();
        ranges
    }

    fn set(of: &[(u64, u64)]) -> BTreeSet<u64> {
        of.iter().flat_map(|&(start, length)| start..start + length).collect()
    }

    proptest! {
        #[test]
        fn ranges_are_sets_of_positions(
            one in prop::collection::vec((0_u64..60, 0_u64..9), 0..12),
            other in prop::collection::vec((0_u64..60, 0_u64..9), 0..12),
        ) {
            let (left, right) = (ranges(&one), ranges(&other));
            let (left_set, right_set) = (set(&one), set(&other));
            prop_assert_eq!(left.count(), left_set.len() as u64);
            prop_assert!((0..70).all(|position| left.contains(position) == left_set.contains(&position)));
            let without: BTreeSet<u64> = left.without(&right).iter().flatten().collect();
            prop_assert_eq!(without, left_set.difference(&right_set).copied().collect::<BTreeSet<u64>>());
            let outside: BTreeSet<u64> = left.outside(10..40).into_iter().flatten().collect();
            let left_over = (10..40).filter(|position| !left_set.contains(position));
            prop_assert_eq!(outside, left_over.collect::<BTreeSet<u64>>());
        }
    }
}
