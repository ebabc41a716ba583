//! Settling deliveries: ack, nack, reject, recover. Gathered over a run of frames, then handed to the
//! queues, neighbours from one consumer together.

use leveret_broker::MessageRef;
use leveret_broker::queue::Settlement;
use leveret_broker::store::JournalPosition;
use leveret_broker::unacked::{AckSelection, Unacked};
use leveret_codec::method::{ARGUMENTS_OFFSET, Method, MethodId, basic};

use super::{Channel, Outcome};
use crate::error::{AmqpError, ReplyCode};

/// Settlements on their way to the queues. Buffers are reused from run to run.
#[derive(Default)]
pub(crate) struct Settlements {
    pub(crate) pending: Vec<(Unacked, Settlement)>,
    taken: Vec<Unacked>,
    messages: Vec<MessageRef>,
}

/// Entries of the reused buffers that an idle channel keeps.
const KEPT_ENTRIES: usize = 32;

impl Channel {
    pub(super) fn recv_ack(&mut self, payload: &[u8]) -> Outcome {
        let ack = basic::Ack::decode(payload.get(ARGUMENTS_OFFSET..).unwrap_or_default())
            .map_err(|error| AmqpError::undecodable(&error, MethodId::BASIC_ACK))?;
        let selection = AckSelection::new(ack.delivery_tag, ack.multiple);
        self.settle(selection, Settlement::Settled, MethodId::BASIC_ACK)
    }

    pub(super) fn recv_nack(&mut self, nack: basic::Nack) -> Outcome {
        let selection = AckSelection::new(nack.delivery_tag, nack.multiple);
        let how = if nack.requeue { Settlement::Requeued } else { Settlement::Rejected };
        self.settle(selection, how, MethodId::BASIC_NACK)
    }

    pub(super) fn recv_reject(&mut self, reject: basic::Reject) -> Outcome {
        let selection = AckSelection::One(reject.delivery_tag);
        // COMPAT: unlike a nack, it says that processing failed (4.3).
        let how = if reject.requeue { Settlement::Failed } else { Settlement::Rejected };
        self.settle(selection, how, MethodId::BASIC_REJECT)
    }

    /// basic.recover and recover-async.
    pub(super) fn recv_recover(&mut self, requeue: bool, answer: bool) -> Outcome {
        if !requeue {
            let method = if answer { MethodId::BASIC_RECOVER } else { MethodId::BASIC_RECOVER_ASYNC };
            return Err(AmqpError::new(ReplyCode::NotImplemented, "requeue=false", method));
        }
        self.requeue_unacked(Settlement::Requeued);
        // COMPAT: the answer comes before what is delivered again; some clients drop what they have buffered
        // when it arrives.
        if answer {
            self.send(&Method::BasicRecoverOk(basic::RecoverOk));
        }
        self.flush_settlements();
        Ok(())
    }

    fn settle(&mut self, selection: AckSelection, how: Settlement, method: MethodId) -> Outcome {
        let settlements = &mut self.settlements;
        let mut state = self.deliveries.state.lock();
        let taken = state.unacked.take(selection, &mut settlements.taken);
        // Those of a transaction count when they are committed.
        if how == Settlement::Settled && self.transaction.is_none() {
            state.counters.acked += settlements.taken.len() as u64;
        }
        drop(state);
        taken.map_err(|unknown| {
            let text = format!("unknown delivery tag {}", unknown.0);
            AmqpError::new(ReplyCode::PreconditionFailed, text, method)
        })?;
        let taken = settlements.taken.drain(..).map(|unacked| (unacked, how));
        match &mut self.transaction {
            Some(transaction) => transaction.settlements.extend(taken),
            None => settlements.pending.extend(taken),
        }
        Ok(())
    }

    /// Gives every delivery that is not settled back to its queue.
    pub(super) fn requeue_unacked(&mut self, how: Settlement) {
        let settlements = &mut self.settlements;
        let mut state = self.deliveries.state.lock();
        // Everything outstanding is never unknown.
        let _ = state.unacked.take(AckSelection::AllOutstanding, &mut settlements.taken);
        let taken = settlements.taken.drain(..).map(|unacked| (unacked, how));
        settlements.pending.extend(taken);
    }

    /// Hands settlements to their queues, and lets consumers go on that a channel's limit held back.
    pub(super) fn flush_settlements(&mut self) {
        let Settlements { pending, messages, .. } = &mut self.settlements;
        let mut safe_at = JournalPosition::SAFE;
        if pending.is_empty() {
            return;
        }
        for group in
            pending.chunk_by(|(one, how), (other, other_how)| one.origin == other.origin && how == other_how)
        {
            let Some(&(first, how)) = group.first() else { continue };
            messages.clear();
            messages.extend(group.iter().map(|(unacked, _)| unacked.message));
            let origin = self.deliveries.state.lock().unacked.settle_origin(first.origin, group.len());
            if let Some(origin) = origin {
                safe_at = safe_at.max(origin.queue.settle(origin.consumer, how, messages));
            }
        }
        // A commit promises them, and a confirm what came before its publish on the channel.
        self.safe_at = self.safe_at.max(safe_at);
        pending.clear();
        pending.shrink_to(KEPT_ENTRIES);
        messages.shrink_to(KEPT_ENTRIES);
        self.settlements.taken.shrink_to(KEPT_ENTRIES);
        self.resume_parked();
    }

    /// Resumes consumers that waited for the channel's prefetch limit, if it lets them.
    pub(super) fn resume_parked(&self) {
        let unparked = self.deliveries.state.lock().unparked();
        for consumer in unparked {
            consumer.resume();
        }
    }
}
