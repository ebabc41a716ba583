//! Publisher confirms: an ack for every publish once it is as safe as it was meant to be, as few frames
//! as possible: all that became safe together leave as one ack with `multiple`.

use std::collections::VecDeque;
use std::sync::Arc;

use leveret_broker::journal::{Journal, JournalPosition};
use leveret_codec::method::{Method, MethodId, basic, confirm};

use super::{Channel, Outcome};
use crate::error::{AmqpError, ReplyCode};

/// Publishes on a channel in confirm mode.
#[derive(Debug, Default)]
pub(crate) struct Confirms {
    /// Sequence number of the last publish; the first one has 1.
    published: u64,
    /// All up to this one are acked.
    acked: u64,
    /// Publishes up to a sequence number, and from when on they are safe.
    pending: VecDeque<(u64, JournalPosition)>,
    /// The journal will poke the channel.
    is_awaited: bool,
}

impl Confirms {
    /// Counts a publish.
    pub(crate) fn published(&mut self) {
        self.published += 1;
    }

    /// Notes that all publishes so far are safe at `position`.
    fn handed_over(&mut self, position: JournalPosition) {
        let noted = self.pending.back().map_or(self.acked, |&(sequence, _)| sequence);
        if self.published > noted {
            self.pending.push_back((self.published, position));
        }
    }

    /// The ack that is due, if one is.
    fn due(&mut self, safe: JournalPosition) -> Option<basic::Ack> {
        let mut last = None;
        while let Some(&(sequence, position)) = self.pending.front() {
            if position > safe {
                break;
            }
            last = Some(sequence);
            self.pending.pop_front();
        }
        let delivery_tag = last?;
        let multiple = delivery_tag - self.acked > 1;
        self.acked = delivery_tag;
        Some(basic::Ack { delivery_tag, multiple })
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

    /// Sends the acks that are due, and sees to it that the others are sent when they are.
    pub(super) fn flush_confirms(&mut self) {
        let Some(confirms) = &mut self.confirms else { return };
        let journal: &Arc<dyn Journal> = self.connection.server.broker.journal();
        confirms.handed_over(self.safe_at);
        let safe = journal.safe();
        if confirms.pending.front().is_none_or(|&(_, position)| position <= safe) {
            confirms.is_awaited = false;
        }
        let due = confirms.due(safe);
        if let (Some(&(_, position)), false) = (confirms.pending.front(), confirms.is_awaited) {
            confirms.is_awaited = true;
            let inbox = Arc::clone(&self.inbox);
            journal.when_safe(position, Box::new(move || inbox.poke()));
        }
        if let Some(ack) = due {
            self.send(&Method::BasicAck(ack));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(delivery_tag: u64, multiple: bool) -> Option<basic::Ack> {
        Some(basic::Ack { delivery_tag, multiple })
    }

    #[test]
    fn what_is_safe_together_is_acked_together() {
        let mut confirms = Confirms::default();
        confirms.published();
        confirms.handed_over(JournalPosition(5));
        confirms.published();
        confirms.published();
        confirms.handed_over(JournalPosition(9));
        assert_eq!(confirms.due(JournalPosition(4)), None);
        assert_eq!(confirms.due(JournalPosition(5)), ack(1, false));
        assert_eq!(confirms.due(JournalPosition(5)), None);
        assert_eq!(confirms.due(JournalPosition(20)), ack(3, true));
    }

    #[test]
    fn nothing_new_means_no_ack() {
        let mut confirms = Confirms::default();
        confirms.published();
        confirms.handed_over(JournalPosition::SAFE);
        assert_eq!(confirms.due(JournalPosition::SAFE), ack(1, false));
        confirms.handed_over(JournalPosition::SAFE);
        assert_eq!(confirms.due(JournalPosition::SAFE), None);
    }
}
