//! Which publishes are still unconfirmed. `producer` tells it of each publish and each answer;
//! answers may come one by one, out of order, or many at once.

/// Unconfirmed publishes of one channel, numbered from 1.
#[derive(Debug)]
pub(crate) struct Unconfirmed {
    /// One flag per place in the window: confirmed ahead of an older one.
    early: Box<[bool]>,
    /// How many of the flags are set.
    early_count: usize,
    /// The oldest unconfirmed publish.
    oldest: u64,
    next: u64,
    outstanding: usize,
}

impl Unconfirmed {
    /// Room for `window` of them.
    pub(crate) fn new(window: usize) -> Self {
        Self { early: vec![false; window.max(1)].into(), early_count: 0, oldest: 1, next: 1, outstanding: 0 }
    }

    /// How many may be published before an answer must come. Counts from the oldest, so that the
    /// window never grows past its places.
    pub(crate) fn room(&self) -> usize {
        let spread = usize::try_from(self.next - self.oldest).unwrap_or(usize::MAX);
        self.early.len().saturating_sub(spread)
    }

    /// The oldest one: all before it are confirmed.
    pub(crate) fn oldest(&self) -> u64 {
        self.oldest
    }

    /// How many are unconfirmed.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// `count` more were published.
    pub(crate) fn published(&mut self, count: usize) {
        self.next += count as u64;
        self.outstanding += count;
    }

    /// An ack or nack came; returns how many publishes it settles that were not settled before.
    pub(crate) fn settled(&mut self, tag: u64, multiple: bool) -> usize {
        if tag < self.oldest || tag >= self.next {
            return 0;
        }
        let newly = if multiple {
            self.settle_up_to(tag)
        } else if tag == self.oldest {
            self.oldest += 1;
            1
        } else {
            let settled_before = std::mem::replace(self.place(tag), true);
            self.early_count += usize::from(!settled_before);
            usize::from(!settled_before)
        };
        while self.early_count > 0 && self.oldest < self.next && std::mem::take(self.place(self.oldest)) {
            self.early_count -= 1;
            self.oldest += 1;
        }
        self.outstanding -= newly;
        newly
    }

    fn settle_up_to(&mut self, tag: u64) -> usize {
        let covered = usize::try_from(tag - self.oldest + 1).unwrap_or(usize::MAX);
        let mut settled_before = 0;
        // PERF: brokers answer in order nearly always; then there is no flag to look at.
        if self.early_count > 0 {
            for sequence in self.oldest..=tag {
                settled_before += usize::from(std::mem::take(self.place(sequence)));
            }
            self.early_count -= settled_before;
        }
        self.oldest = tag + 1;
        covered - settled_before
    }

    fn place(&mut self, sequence: u64) -> &mut bool {
        let length = self.early.len() as u64;
        let index = usize::try_from(sequence % length).unwrap_or_default();
        // INVARIANT: a remainder is below the length, and the length is at least one.
        self.early.get_mut(index).expect("remainder of the length")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_settles_all_before_it() {
        let mut unconfirmed = Unconfirmed::new(10);
        unconfirmed.published(10);
        assert_eq!(unconfirmed.room(), 0);
        assert_eq!(unconfirmed.settled(7, true), 7);
        assert_eq!((unconfirmed.room(), unconfirmed.outstanding()), (7, 3));
        assert_eq!(unconfirmed.oldest(), 8);
    }

    #[test]
    fn answers_out_of_order_are_counted_once() {
        let mut unconfirmed = Unconfirmed::new(4);
        unconfirmed.published(4);
        assert_eq!(unconfirmed.settled(3, false), 1);
        assert_eq!(unconfirmed.settled(3, false), 0);
        assert_eq!(unconfirmed.room(), 0, "the oldest still holds its place");
        assert_eq!(unconfirmed.settled(1, false), 1);
        assert_eq!(unconfirmed.settled(2, false), 1);
        assert_eq!((unconfirmed.room(), unconfirmed.outstanding()), (3, 1));
        unconfirmed.published(3);
        assert_eq!(unconfirmed.settled(7, true), 4);
        assert_eq!(unconfirmed.outstanding(), 0);
    }

    #[test]
    fn answers_for_what_was_never_published_count_nothing() {
        let mut unconfirmed = Unconfirmed::new(4);
        unconfirmed.published(2);
        assert_eq!(unconfirmed.settled(3, true), 0);
        assert_eq!(unconfirmed.settled(0, true), 0);
        assert_eq!(unconfirmed.outstanding(), 2);
    }
}
