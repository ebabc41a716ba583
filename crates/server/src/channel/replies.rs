//! Answers that wait: what a declaration or a commit is answered with leaves once it is safe, in order, while
//! the methods behind it are taken already. So a thousand declarations sent together share one sync.
//!
//! Handed in by `declare` and `transaction`. What kind of answer it is makes no difference here.

use std::collections::VecDeque;
use std::sync::Arc;

use leveret_broker::store::JournalPosition;
use leveret_codec::frame;
use leveret_codec::method::{Method, MethodId};

use super::inbox::Call;
use super::{Channel, method_id};
use crate::connection::outbound::GatherWakes;
use crate::limits::REPLIES_BYTES_MAX;

/// Answers of a channel that are not to be sent yet.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    /// Encoded frames, one behind the other.
    octets: Vec<u8>,
    /// Octets that may leave together, and when, front to back. INVARIANT: positions do not go down.
    waiting: VecDeque<(usize, JournalPosition)>,
    /// The store will poke the channel.
    is_awaited: bool,
}

impl Replies {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether no more should be added before some have left.
    fn is_full(&self) -> bool {
        self.octets.len() >= REPLIES_BYTES_MAX
    }

    /// Adds what `encode` appends, to leave when `position` is safe and all before it has left.
    fn push(&mut self, position: JournalPosition, encode: impl FnOnce(&mut Vec<u8>)) {
        let before = self.octets.len();
        encode(&mut self.octets);
        let length = self.octets.len() - before;
        match self.waiting.back_mut() {
            Some((waiting, last)) if *last >= position => *waiting += length,
            _ => self.waiting.push_back((length, position)),
        }
    }

    /// Moves what may leave to the end of `out`; whether that is anything.
    fn release(&mut self, safe: JournalPosition, out: impl FnOnce(&[u8])) -> bool {
        let mut released = 0;
        while let Some(&(length, position)) = self.waiting.front()
            && position <= safe
        {
            released += length;
            self.waiting.pop_front();
            self.is_awaited = false;
        }
        if released == 0 {
            return false;
        }
        out(self.octets.get(..released).unwrap_or_default());
        self.octets.drain(..released);
        if self.is_empty() {
            // A channel that has declared what it needs may not declare again for long.
            *self = Self::default();
        }
        true
    }

    /// The position to wait for, if nobody waits yet; it is taken to be waited for from now on.
    fn wanted_position(&mut self) -> Option<JournalPosition> {
        let &(_, position) = self.waiting.front()?;
        // What will never be safe is not worth a listener that would be kept for ever.
        let wanted = !self.is_awaited && position != JournalPosition::NEVER;
        self.is_awaited |= wanted;
        wanted.then_some(position)
    }
}

impl Channel {
    /// Sends a method as soon as `position` is safe, behind the answers that wait already.
    pub(super) fn send_when_safe(&mut self, position: JournalPosition, method: &Method<'_>) {
        if self.replies.is_empty() && position <= self.connection.server.broker.store().safe() {
            return self.send(method);
        }
        let number = self.number;
        self.replies.push(position, |out| frame::encode_method(out, number, method));
    }

    /// Whether a method can be taken while answers wait: it is answered behind them, or not at all.
    pub(super) fn goes_behind_replies(&self, payload: &[u8]) -> bool {
        let id = method_id(payload);
        match id {
            MethodId::BASIC_ACK | MethodId::BASIC_NACK | MethodId::BASIC_REJECT => true,
            // Returns leave before the answer to their commit, but not before that to the last one.
            MethodId::TX_COMMIT => !self.replies.is_full() && !self.has_returns(),
            _ => {
                let classes = [MethodId::EXCHANGE_DECLARE, MethodId::QUEUE_DECLARE, MethodId::TX_SELECT];
                !self.replies.is_full() && classes.iter().any(|method| method.class_id == id.class_id)
            }
        }
    }

    /// Sends the answers that are due, and sees to it that the others are sent when they are.
    pub(super) fn flush_replies(&mut self) {
        if self.replies.is_empty() {
            return;
        }
        let store = self.connection.server.broker.store();
        let outbound = &self.deliveries.outbound;
        self.has_sent |= self.replies.release(store.safe(), |octets| {
            outbound.lock().pending.octets.extend_from_slice(octets);
        });
        if let Some(position) = self.replies.wanted_position() {
            let inbox = Arc::clone(&self.inbox);
            store.when_safe(position, Box::new(move || inbox.poke()));
        }
    }

    /// Waits until every answer has left. A peer that is gone gets none: nothing holds its end up.
    pub(super) async fn wait_for_replies(&mut self) {
        while !self.replies.is_empty() {
            match self.inbox.called().await {
                Call::Poked => self.send_what_is_safe(),
                Call::Abandoned => self.replies = Replies::default(),
            }
        }
    }

    /// Sends answers and confirms that are due, and copies of what was delivered, while the channel takes no frames.
    pub(super) fn send_what_is_safe(&mut self) {
        let _wakes = GatherWakes::begin();
        self.flush_replies();
        self.flush_confirms();
        self.publish_traced();
    }
}

#[cfg(test)]
mod tests;
