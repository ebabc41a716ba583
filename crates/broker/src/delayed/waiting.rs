//! The messages of open buckets in the order in which they are due: those of the next second apart, so that what is
//! on disk can be brought into memory for them in time.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeSet, BinaryHeap};

use super::bucket::{Bucket, Span};
use crate::message::MessageRef;
use crate::time::Timestamp;

/// A message of an open bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) due: Timestamp,
    pub(crate) span: Span,
    pub(crate) message: MessageRef,
}

/// PERF: what each waiting message of an open bucket costs beside its record.
const _: () = assert!(size_of::<Entry>() <= 48);

impl Entry {
    pub(crate) fn bucket(&self) -> Bucket {
        Bucket::containing(self.due, self.span)
    }

    fn key(&self) -> (Timestamp, Span, u64) {
        (self.due, self.span, self.message.position)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By due time; what is due at the same time in the order in which it was published.
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// Messages of open buckets.
#[derive(Default)]
pub(crate) struct Waiting {
    far: BinaryHeap<Reverse<Entry>>,
    /// Those that were told to be needed soon.
    soon: BTreeSet<Entry>,
}

impl Waiting {
    /// Makes room for many.
    pub(crate) fn reserve(&mut self, count: usize) {
        self.far.reserve_exact(count.saturating_sub(self.far.capacity() - self.far.len()));
    }

    pub(crate) fn add(&mut self, entry: Entry) {
        self.far.push(Reverse(entry));
    }

    /// Puts back what could not be delivered yet.
    pub(crate) fn put_back(&mut self, entries: &[Entry]) {
        self.soon.extend(entries.iter().copied());
    }

    /// When the next one is due.
    pub(crate) fn next_due(&self) -> Option<Timestamp> {
        let far = self.far.peek().map(|Reverse(entry)| entry.due);
        let soon = self.soon.first().map(|entry| entry.due);
        [far, soon].into_iter().flatten().min()
    }

    /// When the next one is due that was not told to be needed soon.
    pub(crate) fn next_far(&self) -> Option<Timestamp> {
        self.far.peek().map(|Reverse(entry)| entry.due)
    }

    /// Tells of those that are due until `horizon`, some at a time.
    pub(crate) fn advance(&mut self, horizon: Timestamp, at_once: usize, soon_max: usize) -> Vec<Entry> {
        let mut advanced = Vec::new();
        while advanced.len() < at_once && self.soon.len() < soon_max {
            let Some(next) = self.far.peek_mut().filter(|next| next.0.due <= horizon) else { break };
            let Reverse(entry) = std::collections::binary_heap::PeekMut::pop(next);
            self.soon.insert(entry);
            advanced.push(entry);
        }
        self.shrink();
        advanced
    }

    /// Takes those that are due at `now` and before `limit`, in order.
    pub(crate) fn take_due(&mut self, now: Timestamp, limit: Timestamp, at_once: usize) -> Vec<Entry> {
        let mut due = Vec::new();
        while due.len() < at_once && self.next_due().is_some_and(|at| at <= now && at < limit) {
            due.extend(self.pop());
        }
        self.shrink();
        due
    }

    /// Takes the next one.
    fn pop(&mut self) -> Option<Entry> {
        let is_far = match (self.far.peek(), self.soon.first()) {
            (Some(Reverse(far)), Some(soon)) => far < soon,
            (far, _) => far.is_some(),
        };
        if is_far { self.far.pop().map(|Reverse(entry)| entry) } else { self.soon.pop_first() }
    }

    /// Takes all, in no order.
    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Entry> + use<> {
        let (far, soon) = (std::mem::take(&mut self.far), std::mem::take(&mut self.soon));
        far.into_iter().map(|Reverse(entry)| entry).chain(soon)
    }

    /// Gives memory back when little of it is needed.
    fn shrink(&mut self) {
        if self.far.capacity() > 4096 && self.far.len() < self.far.capacity() / 4 {
            self.far.shrink_to(self.far.len() * 2);
        }
    }
}
