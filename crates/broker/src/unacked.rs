//! What a channel has been handed and has not settled, in the order of its delivery tags.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::message::MessageRef;
use crate::names::ConsumerId;
use crate::queue::Queue;

/// Which deliveries an ack, nack or reject means; zero has its meaning decided here alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckSelection {
    /// The one with this tag.
    One(u64),
    /// This tag and all before it.
    UpTo(u64),
    /// Everything outstanding: tag 0 with multiple.
    AllOutstanding,
}

impl AckSelection {
    /// From the fields of basic.ack.
    #[must_use]
    pub fn new(delivery_tag: u64, multiple: bool) -> Self {
        match (delivery_tag, multiple) {
            (0, true) => Self::AllOutstanding,
            (tag, true) => Self::UpTo(tag),
            (tag, false) => Self::One(tag),
        }
    }
}

/// A tag that is not outstanding on the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownDeliveryTag(pub u64);

/// Where deliveries come from: a consumer's queue, or a queue that basic.get was used on.
#[derive(Clone)]
pub struct DeliveryOrigin {
    /// The queue.
    pub queue: Arc<Queue>,
    /// The consumer, or none for basic.get.
    pub consumer: Option<ConsumerId>,
}

/// Index of a [`DeliveryOrigin`] in its list: entries name it instead of counting references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginIndex(u32);

/// A delivery that is not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unacked {
    /// Its tag.
    pub delivery_tag: u64,
    /// Where it came from.
    pub origin: OriginIndex,
    /// Where the message lies.
    pub message: MessageRef,
}

/// Deliveries of one channel that are not settled, and the counter of its tags.
#[derive(Default)]
pub struct UnackedList {
    last_tag: u64,
    /// Sorted by tag. `None`: settled out of order, dropped when it reaches the front or when half of
    /// the list is such.
    entries: VecDeque<(u64, Option<(OriginIndex, MessageRef)>)>,
    settled: usize,
    origins: Vec<Option<Origin>>,
}

struct Origin {
    origin: DeliveryOrigin,
    outstanding: usize,
    /// Nothing more will be delivered from it.
    released: bool,
}

impl UnackedList {
    /// Deliveries not settled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len() - self.settled
    }

    /// Whether everything is settled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes an origin known before its first delivery.
    pub fn add_origin(&mut self, origin: DeliveryOrigin) -> OriginIndex {
        let entry = Some(Origin { origin, outstanding: 0, released: false });
        if let Some(index) = self.origins.iter().position(Option::is_none) {
            self.origins[index] = entry;
            OriginIndex(index as u32)
        } else {
            self.origins.push(entry);
            OriginIndex((self.origins.len() - 1) as u32)
        }
    }

    /// Says that nothing more will be delivered from an origin; it goes with its last unsettled delivery.
    pub fn release_origin(&mut self, index: OriginIndex) {
        if let Some(Some(origin)) = self.origins.get_mut(index.0 as usize) {
            origin.released = true;
            if origin.outstanding == 0 {
                self.origins[index.0 as usize] = None;
            }
        }
    }

    /// The tag for a delivery that needs no settlement.
    pub fn next_tag(&mut self) -> u64 {
        self.last_tag += 1;
        self.last_tag
    }

    /// Notes a delivery and gives its tag.
    pub fn push(&mut self, origin: OriginIndex, message: MessageRef) -> u64 {
        let tag = self.next_tag();
        if let Some(Some(origin)) = self.origins.get_mut(origin.0 as usize) {
            origin.outstanding += 1;
        }
        self.entries.push_back((tag, Some((origin, message))));
        tag
    }

    /// Takes what `selection` names, in the order of tags, into `taken`.
    ///
    /// # Errors
    /// The named tag is not outstanding. COMPAT: that holds for multiple as well, even if lower tags are.
    pub fn take(
        &mut self,
        selection: AckSelection,
        taken: &mut Vec<Unacked>,
    ) -> Result<(), UnknownDeliveryTag> {
        let (first, last) = match selection {
            AckSelection::AllOutstanding => (0, self.entries.len()),
            AckSelection::One(tag) => {
                let index = self.index_of(tag)?;
                (index, index + 1)
            }
            AckSelection::UpTo(tag) => (0, self.index_of(tag)? + 1),
        };
        for index in first..last {
            let (delivery_tag, entry) = &mut self.entries[index];
            if let Some((origin, message)) = entry.take() {
                self.settled += 1;
                taken.push(Unacked { delivery_tag: *delivery_tag, origin, message });
            }
        }
        self.drop_settled();
        Ok(())
    }

    /// Puts back what was taken, as a rollback does.
    pub fn restore(&mut self, unacked: &[Unacked]) {
        // Sorted as a whole, in linear time for what is two sorted runs: an insertion each would cost the
        // square of what a client acked in its transaction.
        self.entries.retain(|(_, entry)| entry.is_some());
        self.settled = 0;
        self.entries
            .extend(unacked.iter().map(|entry| (entry.delivery_tag, Some((entry.origin, entry.message)))));
        self.entries.make_contiguous().sort_by_key(|&(tag, _)| tag);
    }

    /// Where deliveries of `index` came from; called once they are settled for good, which `count` of
    /// them are.
    pub fn settle_origin(&mut self, index: OriginIndex, count: usize) -> Option<DeliveryOrigin> {
        let slot = self.origins.get_mut(index.0 as usize)?;
        let origin = slot.as_mut()?;
        origin.outstanding = origin.outstanding.saturating_sub(count);
        let result = origin.origin.clone();
        if origin.released && origin.outstanding == 0 {
            *slot = None;
        }
        Some(result)
    }

    fn index_of(&self, tag: u64) -> Result<usize, UnknownDeliveryTag> {
        let unknown = UnknownDeliveryTag(tag);
        // PERF: consumers mostly settle in order, so the front is tried before the search.
        let index = match self.entries.front() {
            Some(&(front, _)) if front == tag => 0,
            _ => self.entries.binary_search_by_key(&tag, |&(tag, _)| tag).map_err(|_| unknown)?,
        };
        if self.entries[index].1.is_some() { Ok(index) } else { Err(unknown) }
    }

    fn drop_settled(&mut self) {
        while let Some((_, None)) = self.entries.front() {
            self.entries.pop_front();
            self.settled -= 1;
        }
        if self.settled > 32 && self.settled * 2 > self.entries.len() {
            self.entries.retain(|(_, entry)| entry.is_some());
            self.settled = 0;
        }
        if self.entries.is_empty() && self.entries.capacity() > 1024 {
            self.entries = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(position: u64) -> MessageRef {
        MessageRef { position, ..MessageRef::default() }
    }

    fn list(count: u64) -> UnackedList {
        let mut list = UnackedList::default();
        for position in 0..count {
            list.push(OriginIndex(0), message(position));
        }
        list
    }

    fn take(list: &mut UnackedList, tag: u64, multiple: bool) -> Result<Vec<u64>, UnknownDeliveryTag> {
        let mut taken = Vec::new();
        list.take(AckSelection::new(tag, multiple), &mut taken)?;
        Ok(taken.iter().map(|entry| entry.delivery_tag).collect())
    }

    #[test]
    fn each_selection_takes_what_it_names() {
        let mut list = list(5);
        assert_eq!(take(&mut list, 3, false), Ok(vec![3]));
        assert_eq!(take(&mut list, 4, true), Ok(vec![1, 2, 4]));
        assert_eq!(take(&mut list, 0, true), Ok(vec![5]));
        assert_eq!(take(&mut list, 0, true), Ok(vec![]));
        assert!(list.is_empty());
    }

    #[test]
    fn a_tag_that_is_not_outstanding_is_unknown() {
        let mut list = list(3);
        assert_eq!(take(&mut list, 0, false), Err(UnknownDeliveryTag(0)));
        assert_eq!(take(&mut list, 4, true), Err(UnknownDeliveryTag(4)));
        assert_eq!(take(&mut list, 2, false), Ok(vec![2]));
        assert_eq!(take(&mut list, 2, true), Err(UnknownDeliveryTag(2)));
        assert_eq!(take(&mut list, 1, false), Ok(vec![1]));
        assert_eq!(take(&mut list, 1, false), Err(UnknownDeliveryTag(1)));
    }

    #[test]
    fn restored_deliveries_are_outstanding_again_in_order() {
        let mut list = list(6);
        let mut taken = Vec::new();
        list.take(AckSelection::UpTo(2), &mut taken).unwrap();
        list.take(AckSelection::One(4), &mut taken).unwrap();
        list.restore(&taken);
        assert_eq!(list.len(), 6);
        assert_eq!(take(&mut list, 0, true), Ok(vec![1, 2, 3, 4, 5, 6]));
    }

    #[test]
    fn one_stuck_delivery_does_not_make_the_list_grow() {
        let mut list = list(1);
        for _ in 0..100_000 {
            let tag = list.push(OriginIndex(0), message(0));
            take(&mut list, tag, false).unwrap();
        }
        assert!(list.entries.len() < 100);
        assert_eq!(list.len(), 1);
    }
}
