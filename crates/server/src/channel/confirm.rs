//! Publisher confirms: an ack for every publish once it is as safe as it was meant to be, as few frames
//! as possible: all that became safe together leave as one ack with `multiple`. A nack for what a queue refused.

use std::collections::VecDeque;
use std::sync::Arc;

use leveret_broker::store::{JournalPosition, Store};
use leveret_codec::method::{Method, MethodId, basic, confirm};

use super::{Channel, Outcome};
use crate::error::{AmqpError, ReplyCode};

/// Publishes on a channel in confirm mode.
#[derive(Debug, Default)]
pub(crate) struct Confirms {
    /// Sequence number of the last publish; the first one has 1.
    published: u64,
    /// All up to this one are safe, or refused.
    settled: u64,
    /// All up to this one are acked or nacked.
    confirmed: u64,
    /// Publishes up to a sequence number, and from when on they are safe.
    pending: VecDeque<(u64, JournalPosition)>,
    /// First and last sequence number of publishes that a queue refused, not nacked yet, front to back.
    refused: VecDeque<(u64, u64)>,
    /// The journal will poke the channel.
    is_awaited: bool,
}

impl Confirms {
    /// Counts a publish.
    pub(crate) fn published(&mut self) {
        self.published += 1;
    }

    /// The publish counted last was refused by a queue: it is nacked when its turn comes, so that no ack with
    /// `multiple` covers it.
    pub(crate) fn refused(&mut self) {
        match self.refused.back_mut() {
            Some((_, last)) if *last == self.published => {}
            Some((_, last)) if *last + 1 == self.published => *last = self.published,
            _ => self.refused.push_back((self.published, self.published)),
        }
    }

    /// Number that the next publish will have.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.published + 1
    }

    /// Publishes that queues refused when they were handed over: `sequences` were not reported as handed over yet.
    pub(crate) fn refuse(&mut self, mut sequences: Vec<u64>) {
        let noted = self.noted();
        let at = self.refused.partition_point(|&(_, last)| last <= noted);
        // In order, each once: of those known before, some were refused by a queue that is stopped.
        let known = self.refused.split_off(at);
        sequences.extend(known.into_iter().flat_map(|(first, last)| first..=last));
        sequences.sort_unstable();
        sequences.dedup();
        for sequence in sequences {
            match self.refused.back_mut() {
                Some((_, last)) if *last + 1 == sequence => *last = sequence,
                _ => self.refused.push_back((sequence, sequence)),
            }
        }
    }

    /// The publishes that were handed over last went to a queue that was stopped meanwhile: which of them is not
    /// told, so all are nacked.
    pub(crate) fn refuse_handed_over(&mut self) {
        let noted = self.noted();
        while self.refused.back().is_some_and(|&(first, _)| first > noted) {
            self.refused.pop_back();
        }
        match self.refused.back_mut() {
            Some((_, last)) if *last >= noted => *last = self.published,
            _ if self.published > noted => self.refused.push_back((noted + 1, self.published)),
            _ => {}
        }
    }

    /// Up to which publish a position is known.
    fn noted(&self) -> u64 {
        self.pending.back().map_or(self.settled, |&(sequence, _)| sequence)
    }

    /// Publishes that are neither acked nor nacked.
    pub(crate) fn outstanding(&self) -> u64 {
        self.published - self.confirmed
    }

    /// Notes that all publishes so far are safe at `position`.
    fn handed_over(&mut self, position: JournalPosition) {
        if self.published > self.noted() {
            self.pending.push_back((self.published, position));
        }
    }

    /// The next ack or nack that is due, if one is.
    fn next_due(&mut self, safe: JournalPosition) -> Option<Method<'static>> {
        while let Some(&(sequence, position)) = self.pending.front()
            && position <= safe
        {
            self.settled = sequence;
            self.pending.pop_front();
            // What was waited for has come, or comes too late.
            self.is_awaited = false;
        }
        let before = self.confirmed;
        let refused = self.refused.front_mut().filter(|(first, _)| *first <= self.settled);
        let is_nack = refused.as_ref().is_some_and(|(first, _)| *first == before + 1);
        self.confirmed = match refused {
            None => self.settled,
            Some((first, _)) if !is_nack => *first - 1,
            Some((first, last)) => {
                // Of those refused, some may have come after what is due.
                let upto = self.settled.min(*last);
                *first = upto + 1;
                if *first > *last {
                    self.refused.pop_front();
                }
                upto
            }
        };
        let (delivery_tag, multiple) = (self.confirmed, self.confirmed - before > 1);
        match (delivery_tag > before, is_nack) {
            (false, _) => None,
            (true, false) => Some(Method::BasicAck(basic::Ack { delivery_tag, multiple })),
            (true, true) => Some(Method::BasicNack(basic::Nack { delivery_tag, multiple, requeue: false })),
        }
    }

    /// The position to wait for, if nobody waits yet; it is taken to be waited for from now on.
    fn wanted_position(&mut self) -> Option<JournalPosition> {
        let &(_, position) = self.pending.front()?;
        // What will never be safe is not worth a listener that would be kept for ever.
        let wanted = !self.is_awaited && position != JournalPosition::NEVER;
        self.is_awaited |= wanted;
        wanted.then_some(position)
    }
}

impl Channel {
    pub(super) fn recv_confirm_select(&mut self, select: confirm::Select) -> Outcome {
        if self.transaction.is_some() {
            let text = "cannot switch from tx to confirm mode";
            return Err(AmqpError::new(ReplyCode::PreconditionFailed, text, MethodId::CONFIRM_SELECT));
        }
        self.confirms.get_or_insert_default();
        if !select.no_wait {
            self.send(&Method::ConfirmSelectOk(confirm::SelectOk));
        }
        Ok(())
    }

    /// Sends the acks and nacks that are due, and sees to it that the others are sent when they are.
    pub(super) fn flush_confirms(&mut self) {
        let Some(confirms) = &mut self.confirms else { return };
        let journal: &Arc<dyn Store> = self.connection.server.broker.store();
        confirms.handed_over(self.safe_at);
        let (safe, before) = (journal.safe(), confirms.confirmed);
        while let Some(method) = confirms.next_due(safe) {
            self.has_sent = true;
            self.deliveries.send(&method);
        }
        self.counted.confirmed += confirms.confirmed - before;
        if let Some(position) = confirms.wanted_position() {
            let inbox = Arc::clone(&self.inbox);
            journal.when_safe(position, Box::new(move || inbox.poke()));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ack(delivery_tag: u64, multiple: bool) -> Method<'static> {
        Method::BasicAck(basic::Ack { delivery_tag, multiple })
    }

    fn nack(delivery_tag: u64, multiple: bool) -> Method<'static> {
        Method::BasicNack(basic::Nack { delivery_tag, multiple, requeue: false })
    }

    fn due(confirms: &mut Confirms, safe: u64) -> Vec<Method<'static>> {
        std::iter::from_fn(|| confirms.next_due(JournalPosition(safe))).collect()
    }

    /// Publishes one message for each letter, `r` for one that is refused.
    fn publish(confirms: &mut Confirms, messages: &str, position: u64) {
        for message in messages.chars() {
            confirms.published();
            if message == 'r' {
                confirms.refused();
            }
        }
        confirms.handed_over(JournalPosition(position));
    }

    #[test]
    fn what_is_safe_together_is_acked_together() {
        let mut confirms = Confirms::default();
        publish(&mut confirms, ".", 5);
        publish(&mut confirms, "..", 9);
        assert_eq!(due(&mut confirms, 4), []);
        assert_eq!(due(&mut confirms, 5), [ack(1, false)]);
        assert_eq!(due(&mut confirms, 5), []);
        assert_eq!(due(&mut confirms, 20), [ack(3, true)]);
    }

    #[test]
    fn nothing_new_means_no_ack() {
        let mut confirms = Confirms::default();
        publish(&mut confirms, ".", 0);
        assert_eq!(due(&mut confirms, 0), [ack(1, false)]);
        publish(&mut confirms, "", 0);
        assert_eq!(due(&mut confirms, 0), []);
    }

    #[test]
    fn what_was_refused_is_nacked_and_covered_by_no_ack() {
        let mut confirms = Confirms::default();
        publish(&mut confirms, "..r.rr..", 3);
        assert_eq!(due(&mut confirms, 2), []);
        let expected = [ack(2, true), nack(3, false), ack(4, false), nack(6, true), ack(8, true)];
        assert_eq!(due(&mut confirms, 3), expected);
        publish(&mut confirms, "r", 3);
        assert_eq!(due(&mut confirms, 3), [nack(9, false)]);
    }

    #[test]
    fn a_message_that_two_queues_refuse_is_nacked_once() {
        let mut confirms = Confirms::default();
        confirms.published();
        confirms.refused();
        confirms.refused();
        confirms.handed_over(JournalPosition::SAFE);
        assert_eq!(due(&mut confirms, 0), [nack(1, false)]);
    }

    #[test]
    fn what_is_never_safe_is_never_acked_nor_waited_for() {
        let mut confirms = Confirms::default();
        publish(&mut confirms, ".", 1);
        publish(&mut confirms, ".", JournalPosition::NEVER.0);
        assert_eq!(confirms.wanted_position(), Some(JournalPosition(1)));
        assert_eq!(confirms.wanted_position(), None, "once is enough");
        assert_eq!(due(&mut confirms, u64::MAX - 1), [ack(1, false)]);
        assert_eq!(confirms.wanted_position(), None);
    }

    #[test]
    fn what_a_queue_that_stopped_was_handed_is_nacked_and_nothing_else() {
        let mut confirms = Confirms::default();
        publish(&mut confirms, ".", 1);
        confirms.published();
        confirms.published();
        confirms.refused();
        confirms.refuse_handed_over();
        confirms.handed_over(JournalPosition(1));
        publish(&mut confirms, ".", 2);
        assert_eq!(due(&mut confirms, 2), [ack(1, false), nack(3, true), ack(4, false)]);
    }

    #[test]
    fn what_is_behind_is_waited_for_as_soon_as_what_was_before_is_acked() {
        let mut confirms = Confirms::default();
        publish(&mut confirms, ".", 1);
        assert_eq!(confirms.wanted_position(), Some(JournalPosition(1)));
        publish(&mut confirms, ".", 2);
        assert_eq!(due(&mut confirms, 1), [ack(1, false)]);
        assert_eq!(confirms.wanted_position(), Some(JournalPosition(2)));
    }

    proptest! {
        #[test]
        fn every_publish_is_confirmed_once_as_it_ended(
            runs in prop::collection::vec((prop::collection::vec(any::<bool>(), 0..6), 0_u64..4), 1..20),
        ) {
            let mut confirms = Confirms::default();
            let (mut position, mut expected, mut confirmed) = (0, Vec::<bool>::new(), Vec::new());
            for (messages, behind) in &runs {
                position += 1;
                let letters: String = messages.iter().map(|is_refused| if *is_refused { 'r' } else { '.' }).collect();
                expected.extend(messages);
                publish(&mut confirms, &letters, position);
                let safe = JournalPosition(position.saturating_sub(*behind));
                while let Some(method) = confirms.next_due(safe) {
                    let (tag, multiple, nacked) = match method {
                        Method::BasicAck(ack) => (ack.delivery_tag, ack.multiple, false),
                        Method::BasicNack(nack) => (nack.delivery_tag, nack.multiple, true),
                        other => panic!("{other:?}"),
                    };
                    let tag = usize::try_from(tag).unwrap();
                    prop_assert_eq!(multiple, tag - confirmed.len() > 1);
                    confirmed.resize(tag, nacked);
                }
                prop_assert_eq!(&confirmed, &expected[..confirmed.len()]);
            }
            while confirms.next_due(JournalPosition(position)).is_some() {}
            prop_assert_eq!(confirms.confirmed, expected.len() as u64);
            prop_assert!(confirms.refused.is_empty() && confirms.pending.is_empty());
        }
    }
}
