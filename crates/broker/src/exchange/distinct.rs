//! A list in which each item is once: looked through while it is short, hashed once it is not.

use std::hash::Hash;

use hashbrown::HashSet;

/// Items in the order they were first added.
#[derive(Debug)]
pub(crate) struct Distinct<T> {
    items: Vec<T>,
    /// Empty while there are few items.
    seen: HashSet<T>,
}

impl<T> Default for Distinct<T> {
    fn default() -> Self {
        Self { items: Vec::new(), seen: HashSet::new() }
    }
}

impl<T: Clone + Eq + Hash> Distinct<T> {
    /// PERF: comparing sixteen small items costs less than hashing one.
    const LINEAR_MAX: usize = 16;

    /// `false` if it was there.
    pub(crate) fn add(&mut self, item: T) -> bool {
        if self.items.len() < Self::LINEAR_MAX {
            if self.items.contains(&item) {
                return false;
            }
        } else {
            if self.seen.is_empty() {
                self.seen.extend(self.items.iter().cloned());
            }
            if !self.seen.insert(item.clone()) {
                return false;
            }
        }
        self.items.push(item);
        true
    }

    pub(crate) fn items(&self) -> &[T] {
        &self.items
    }

    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.seen.clear();
    }
}
