//! What a channel has been handed and has not settled, in the order of its delivery tags.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::message::MessageRef;
use crate::names::ConsumerId;
use crate::queue::Queue;
use crate::time::Timestamp;

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
    /// Milliseconds after which a delivery is overdue, if the consumer said so itself; 0: never.
    pub timeout_ms: Option<u64>,
}

impl DeliveryOrigin {
    /// Milliseconds that a delivery may stay unsettled: what the consumer says, or else its queue, or else
    /// `default_ms`. `None`: for ever.
    #[must_use]
    pub fn timeout_ms(&self, default_ms: Option<u64>) -> Option<u64> {
        self.timeout_ms.or_else(|| self.queue.consumer_timeout_ms()).or(default_ms).filter(|&limit| limit > 0)
    }
}

/// Index of a [`DeliveryOrigin`] in its list: entries name it instead of counting references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginIndex(u32);

impl OriginIndex {
    /// Of deliveries whose message the broker took back: settling them settles nothing.
    const NOBODY: Self = Self(u32::MAX);
}

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
    /// Places in there that are free.
    free: Vec<OriginIndex>,
    /// Deliveries that count towards the channel's prefetch and are not settled for good.
    counted: usize,
    /// Up to which tag deliveries were handed out at these times or before, both growing.
    ///
    /// PERF: noted now and then by who looks for overdue ones, so that a delivery costs no look at the clock.
    marks: VecDeque<(u64, Timestamp)>,
}

struct Origin {
    origin: DeliveryOrigin,
    is_counted: bool,
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

    /// Deliveries that count towards the channel's prefetch: those to consumers, of queues that are no quorum queues,
    /// until [`Self::settle_origin`]. COMPAT: those settled in a transaction count until its commit.
    #[must_use]
    pub fn counted(&self) -> usize {
        self.counted
    }

    /// Whether everything is settled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes an origin known before its first delivery.
    pub fn add_origin(&mut self, origin: DeliveryOrigin) -> OriginIndex {
        let is_counted = origin.consumer.is_some() && !origin.queue.spec.is_quorum();
        let entry = Some(Origin { origin, is_counted, outstanding: 0, released: false });
        match self.free.pop() {
            Some(index) => {
                self.origins[index.0 as usize] = entry;
                index
            }
            None => {
                self.origins.push(entry);
                OriginIndex((self.origins.len() - 1) as u32)
            }
        }
    }

    /// Says that nothing more will be delivered from an origin; it goes with its last unsettled delivery.
    pub fn release_origin(&mut self, index: OriginIndex) {
        if let Some(Some(origin)) = self.origins.get_mut(index.0 as usize) {
            origin.released = true;
            if origin.outstanding == 0 {
                self.origins[index.0 as usize] = None;
                self.free.push(index);
            }
        }
    }

    /// The tag given out last, which is how many were; 0 if there was none.
    #[must_use]
    pub fn last_tag(&self) -> u64 {
        self.last_tag
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
            self.counted += usize::from(origin.is_counted);
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
        if origin.is_counted {
            self.counted = self.counted.saturating_sub(count);
        }
        let result = origin.origin.clone();
        if origin.released && origin.outstanding == 0 {
            *slot = None;
            self.free.push(index);
        }
        Some(result)
    }

    /// Where deliveries of `index` come from, if it is still known.
    #[must_use]
    pub fn origin(&self, index: OriginIndex) -> Option<&DeliveryOrigin> {
        self.origins.get(index.0 as usize)?.as_ref().map(|origin| &origin.origin)
    }

    /// Notes that everything handed out so far was handed out by `now`. Returns the shortest time in milliseconds after
    /// which one of the deliveries can be overdue; `None` if none ever will.
    pub fn note_time(&mut self, now: Timestamp, default_ms: Option<u64>) -> Option<u64> {
        let limits =
            || self.origins.iter().flatten().filter_map(|origin| origin.origin.timeout_ms(default_ms));
        let (Some(shortest), Some(longest), false) = (limits().min(), limits().max(), self.is_empty()) else {
            self.marks = VecDeque::new();
            return None;
        };
        if self.marks.back().is_none_or(|&(tag, _)| tag < self.last_tag) {
            self.marks.push_back((self.last_tag, now));
        }
        // What is overdue by any limit is so by the next mark as well.
        let first = self.entries.front().map_or(u64::MAX, |&(tag, _)| tag);
        while let (Some(&(tag, _)), Some(&(_, next))) = (self.marks.front(), self.marks.get(1))
            && (tag < first || next.after_ms(longest) <= now)
        {
            self.marks.pop_front();
        }
        Some(shortest)
    }

    /// Origins with a delivery that is overdue, the one with the oldest first: one that was handed out before a
    /// [`Self::note_time`] that is as long ago as its limit.
    #[must_use]
    pub fn overdue(&self, now: Timestamp, default_ms: Option<u64>) -> Vec<OriginIndex> {
        let limit = |origin: &Option<Origin>| origin.as_ref()?.origin.timeout_ms(default_ms);
        // Emptied as they are found, so that each is found once.
        let mut limits: Vec<_> = self.origins.iter().map(limit).collect();
        let Some(shortest) = limits.iter().flatten().min().copied() else { return Vec::new() };
        let mut found = Vec::new();
        let mut marks = self.marks.iter().peekable();
        for (tag, entry) in &self.entries {
            while marks.next_if(|(marked, _)| marked < tag).is_some() {}
            let Some(&&(_, at)) = marks.peek() else { break };
            if at.after_ms(shortest) > now {
                break;
            }
            let Some((origin, _)) = entry else { continue };
            if let Some(limit) = limits.get_mut(origin.0 as usize)
                && limit.is_some_and(|limit| at.after_ms(limit) <= now)
            {
                *limit = None;
                found.push(*origin);
            }
        }
        found
    }

    /// Takes the deliveries of an origin to give their messages back to the queue, in the order of tags, into `taken`.
    /// Their tags stay outstanding: the peer does not know and may settle them, which means nothing then.
    pub fn take_back(&mut self, index: OriginIndex, taken: &mut Vec<Unacked>) {
        for (delivery_tag, entry) in &mut self.entries {
            if let Some((origin, message)) = entry
                && *origin == index
            {
                taken.push(Unacked { delivery_tag: *delivery_tag, origin: index, message: *message });
                *origin = OriginIndex::NOBODY;
            }
        }
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
    use std::sync::Weak;

    use proptest::prelude::*;

    use super::*;
    use crate::queue::QueueSpec;
    use crate::queue::arguments::QueueArguments;
    use crate::queue::settings::QueueSettings;
    use crate::services::Services;
    use crate::store::MemoryStore;

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

    /// A list with an origin for each of these limits, on a queue of its own.
    fn list_of(limits: &[Option<u64>]) -> (UnackedList, Vec<OriginIndex>) {
        let mut list = UnackedList::default();
        let origin = |&timeout_ms: &Option<u64>| {
            let spec = QueueSpec {
                vhost: "/".into(),
                name: "q".into(),
                durable: false,
                owner: None,
                auto_delete: false,
                arguments: QueueArguments::default(),
            };
            let queue = Queue::new(spec, &Services::new(Arc::new(MemoryStore::default())), Weak::new());
            list.add_origin(DeliveryOrigin { queue, consumer: None, timeout_ms })
        };
        let origins = limits.iter().map(origin).collect();
        (list, origins)
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

    #[test]
    fn a_delivery_is_overdue_when_its_own_limit_is_over() {
        let (mut list, origins) = list_of(&[Some(100), None, Some(0), Some(500)]);
        for &origin in &origins {
            list.push(origin, message(0));
        }
        let default = Some(300);
        assert_eq!(list.note_time(Timestamp(1000), default), Some(100));
        let overdue = |list: &UnackedList, now| list.overdue(Timestamp(now), default);
        assert_eq!(overdue(&list, 1099), []);
        assert_eq!(overdue(&list, 1100), [origins[0]]);
        assert_eq!(overdue(&list, 1300), [origins[0], origins[1]]);
        assert_eq!(overdue(&list, 1_000_000), [origins[0], origins[1], origins[3]], "0 is never");
        // The second one's queue has a limit of its own.
        let queue = Arc::clone(&list.origin(origins[1]).unwrap().queue);
        queue.apply(QueueSettings { consumer_timeout_ms: Some(150), ..QueueSettings::default() });
        assert_eq!(overdue(&list, 1150), [origins[0], origins[1]]);
        assert_eq!(take(&mut list, 1, false), Ok(vec![1]));
        assert_eq!(overdue(&list, 1150), [origins[1]]);
    }

    #[test]
    fn nothing_is_noted_of_a_channel_without_limits_or_deliveries() {
        let (mut list, origins) = list_of(&[None]);
        list.push(origins[0], message(0));
        assert_eq!(list.note_time(Timestamp(5), None), None);
        assert_eq!(list.note_time(Timestamp(5), Some(7)), Some(7));
        assert_eq!(list.marks.len(), 1);
        take(&mut list, 1, false).unwrap();
        assert_eq!(list.note_time(Timestamp(6), Some(7)), None);
        assert_eq!(list.marks.capacity(), 0);
    }

    #[test]
    fn what_was_taken_back_can_be_settled_and_means_nothing() {
        let (mut list, origins) = list_of(&[Some(1), Some(1)]);
        for number in 0..4 {
            list.push(origins[number % 2], message(number as u64));
        }
        let mut taken = Vec::new();
        list.take_back(origins[0], &mut taken);
        assert_eq!(taken.iter().map(|entry| entry.delivery_tag).collect::<Vec<_>>(), [1, 3]);
        assert!(list.settle_origin(origins[0], 2).is_some());
        list.note_time(Timestamp(0), None);
        assert_eq!(list.overdue(Timestamp(9), None), [origins[1]]);
        taken.clear();
        list.take(AckSelection::UpTo(3), &mut taken).unwrap();
        let owned: Vec<_> = taken
            .iter()
            .filter(|entry| list.origin(entry.origin).is_some())
            .map(|e| e.delivery_tag)
            .collect();
        assert_eq!(owned, [2]);
        assert!(list.settle_origin(OriginIndex::NOBODY, 2).is_none());
    }

    #[test]
    fn deliveries_to_consumers_count_until_they_are_settled_for_good() {
        let (mut list, origins) = list_of(&[None, None]);
        let queue = Arc::clone(&list.origin(origins[0]).unwrap().queue);
        let consumer = Some(ConsumerId::next());
        let of_consumer = list.add_origin(DeliveryOrigin { queue, consumer, timeout_ms: None });
        for origin in [origins[0], of_consumer, of_consumer] {
            list.push(origin, message(0));
        }
        assert_eq!((list.len(), list.counted()), (3, 2));
        assert_eq!(take(&mut list, 2, true), Ok(vec![1, 2]));
        assert_eq!((list.len(), list.counted()), (1, 2));
        list.settle_origin(origins[0], 1);
        list.settle_origin(of_consumer, 1);
        assert_eq!(list.counted(), 1);
        let mut taken = Vec::new();
        list.take_back(of_consumer, &mut taken);
        list.settle_origin(of_consumer, taken.len());
        assert_eq!((list.len(), list.counted()), (1, 0));
    }

    proptest! {
        /// Beside a model that knows when each delivery was made.
        #[test]
        fn overdue_deliveries_are_found_between_one_and_two_looks_too_late_and_never_too_early(
            limits in prop::collection::vec(prop_oneof![Just(None), (1..2000_u64).prop_map(Some)], 1..4),
            steps in prop::collection::vec((0..3_u8, 0..4_usize, 1..300_u64), 1..120),
        ) {
            let (mut list, origins) = list_of(&limits);
            let (mut now, mut looked_at) = (1000, 1000);
            let mut made = std::collections::BTreeMap::new();
            for (kind, number, wait) in steps {
                now += wait;
                match kind {
                    0 => {
                        let number = number % origins.len();
                        made.insert(list.push(origins[number], message(0)), (number, now));
                    }
                    1 => {
                        let tag = made.keys().nth(number % made.len().max(1)).copied();
                        if let Some(tag) = tag {
                            made.remove(&tag);
                            take(&mut list, tag, false).unwrap();
                        }
                    }
                    _ => {
                        list.note_time(Timestamp(now), None);
                        let found = list.overdue(Timestamp(now), None);
                        for (index, origin) in origins.iter().enumerate() {
                            let mut own = made.values().filter(|(number, _)| *number == index);
                            let Some(limit) = limits[index] else {
                                prop_assert!(!found.contains(origin));
                                continue;
                            };
                            // Made before the last look, and its limit was over since.
                            let is_due = own.clone().any(|(_, at)| *at <= looked_at && looked_at + limit <= now);
                            prop_assert!(!is_due || found.contains(origin));
                            let may_be = own.any(|(_, at)| at + limit <= now);
                            prop_assert!(may_be || !found.contains(origin));
                        }
                        looked_at = now;
                    }
                }
                prop_assert!(list.marks.len() <= 122);
            }
        }
    }
}
